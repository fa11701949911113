//! Networks of fully connected layers that learn sample by sample with the runtime's functions, and backpropagation
//! for comparison.

use offshoot::learn::layers::{Slope, dense};
use offshoot::learn::weights::{Fixed, Float};
use offshoot::learn::{LocalError, LocalRule, Random, TargetProjection, Weights, rules::cross_entropy, step};

/// Number format of trained weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// float32
    F32,
    /// int16, stochastic rounding
    I16,
    /// int8, stochastic rounding
    I8,
}

/// Weights in one of the formats.
#[derive(Clone, Debug)]
pub enum Store {
    /// float32
    F32(Vec<f32>),
    /// int16 with one scale per row
    I16(Vec<i16>, Vec<f32>),
    /// int8 with one scale per row
    I8(Vec<i8>, Vec<f32>),
}

impl Store {
    /// Stores `rows × length` weights in a format. `headroom` is the ratio of the range to the largest initial
    /// weight.
    pub fn new(weights: Vec<f32>, length: usize, format: Format, headroom: f32) -> Self {
        let scales = |largest: f32| -> Vec<f32> {
            let all = weights.iter().fold(0.0f32, |m, w| m.max(w.abs()));
            weights.chunks(length).map(|_| headroom * all.max(1e-6) / largest).collect()
        };
        let whole = |s: &[f32]| -> Vec<f32> {
            weights.iter().enumerate().map(|(i, w)| (w / s[i / length]).round()).collect()
        };
        match format {
            Format::F32 => Self::F32(weights),
            Format::I16 => {
                let s = scales(32767.0);
                Self::I16(whole(&s).iter().map(|&v| v as i16).collect(), s)
            }
            Format::I8 => {
                let s = scales(127.0);
                Self::I8(whole(&s).iter().map(|&v| v as i8).collect(), s)
            }
        }
    }

    /// The weights.
    ///
    /// # Panics
    /// They are not float32.
    pub fn floats(&self) -> &[f32] {
        let Self::F32(w) = self else { panic!("expected float32 weights") };
        w
    }

    /// The weights, mutably.
    ///
    /// # Panics
    /// They are not float32.
    pub fn floats_mut(&mut self) -> &mut [f32] {
        let Self::F32(w) = self else { panic!("expected float32 weights") };
        w
    }

    /// Calls `body` with the weights as the runtime's type.
    pub fn with<R>(
        &mut self,
        length: usize,
        random: &mut Random,
        body: impl FnOnce(&mut dyn Weights) -> R,
    ) -> R {
        match self {
            Self::F32(w) => body(&mut Float::new(w, length)),
            Self::I16(w, s) => body(&mut Fixed::new(w, s, length, random)),
            Self::I8(w, s) => body(&mut Fixed::new(w, s, length, random)),
        }
    }
}

/// The teacher of a hidden layer.
#[derive(Clone, Debug)]
pub enum Teacher {
    /// Nothing.
    Frozen,
    /// A rule with a random target projection.
    Local(LocalRule, TargetProjection<'static>),
    /// A head of its own, `[classes, outputs]`, which learns too unless its rate is 0.
    Head {
        /// Its weights.
        table: Vec<f32>,
        /// Factor on the step's head rate.
        rate: f32,
    },
}

/// A layer `h = f(W x + b)`.
#[derive(Clone, Debug)]
pub struct Layer {
    /// `[outputs, inputs]`
    pub weights: Store,
    /// `[outputs]`
    pub bias: Vec<f32>,
    /// Number of inputs.
    pub inputs: usize,
    /// `f`, identified by its slope.
    pub slope: Slope,
    /// Its teacher; unused in the last layer.
    pub teacher: Teacher,
}

/// Learning settings of a step.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Rate of hidden layers.
    pub rate: f32,
    /// Rate of heads of hidden layers, before each head's factor.
    pub head_rate: f32,
    /// Rate of the last layer.
    pub last_rate: f32,
    /// Whether to divide by one plus the input's energy.
    pub normalised: bool,
    /// Whether to use backpropagation instead of the layers' teachers.
    pub backprop: bool,
}

/// A classifier network.
#[derive(Clone, Debug)]
pub struct Network {
    /// First to last; the outputs of the last are the classes.
    pub layers: Vec<Layer>,
    /// Generator for stochastic rounding.
    pub random: Random,
}

impl Network {
    /// A network with layers of these widths; initial weights are normal with variance `1 / inputs`.
    pub fn new(
        widths: &[usize],
        slope: Slope,
        format: Format,
        seed: u32,
        teacher: impl Fn(usize, usize) -> Teacher,
    ) -> Self {
        let mut random = Random::new(seed);
        let count = widths.len() - 1;
        let layers = (0..count)
            .map(|l| {
                let (inputs, outputs) = (widths[l], widths[l + 1]);
                let last = l + 1 == count;
                let deviation = 1.0 / (inputs as f32).sqrt();
                let weights = (0..inputs * outputs).map(|_| deviation * random.normal()).collect();
                // The last layer's weights grow most.
                let headroom = if last { 8.0 } else { 1.5 };
                Layer {
                    weights: Store::new(weights, inputs, format, headroom),
                    bias: vec![0.0; outputs],
                    inputs,
                    slope: if last { Slope::Linear } else { slope },
                    teacher: if last { Teacher::Frozen } else { teacher(l, outputs) },
                }
            })
            .collect();
        Self { layers, random }
    }

    /// Activations of every layer.
    pub fn forward(&mut self, x: &[f32]) -> Vec<Vec<f32>> {
        let mut all: Vec<Vec<f32>> = Vec::with_capacity(self.layers.len());
        for layer in &mut self.layers {
            let input = all.last().map_or(x, Vec::as_slice);
            let mut h = vec![0.0; layer.bias.len()];
            layer.weights.with(layer.inputs, &mut self.random, |w| w.product(input, &layer.bias, &mut h));
            activate(layer.slope, &mut h);
            all.push(h);
        }
        all
    }

    /// The class with the largest score.
    pub fn classify(&mut self, x: &[f32]) -> usize {
        argmax(&self.forward(x)[self.layers.len() - 1])
    }

    /// One step on one sample.
    pub fn learn(&mut self, x: &[f32], label: usize, step: Step) {
        let h = self.forward(x);
        if step.backprop {
            return self.learn_backprop(x, &h, label, step);
        }
        let count = self.layers.len();
        for (l, layer) in self.layers.iter_mut().enumerate() {
            let input = if l == 0 { x } else { &h[l - 1] };
            let own = &h[l];
            let base = if l + 1 == count { step.last_rate } else { step.rate };
            let rate = if step.normalised { step::normalised(base, step::energy(input)) } else { base };
            let (inputs, slope) = (layer.inputs, layer.slope);
            let classes = h[count - 1].len();
            let mut residual = vec![0.0; classes];
            let (weights, bias) = (&mut layer.weights, &mut layer.bias);
            if l + 1 == count {
                residual.copy_from_slice(own);
                cross_entropy::residual(&mut residual, label);
                weights
                    .with(inputs, &mut self.random, |w| dense::learn(w, bias, input, rate, |o| residual[o]));
                continue;
            }
            let activities = own.iter().copied();
            match &mut layer.teacher {
                Teacher::Frozen => {}
                Teacher::Local(rule, codes) => {
                    let error = LocalError::new(*rule, *codes, own.len(), activities, label, &mut residual);
                    weights.with(inputs, &mut self.random, |w| {
                        dense::learn(w, bias, input, rate, |o| error.at(o, own[o]) * slope.at(own[o]));
                    });
                }
                Teacher::Head { table, rate: head_rate } => {
                    let rule = LocalRule::CrossEntropy { scale: 1.0 };
                    let error = LocalError::new(
                        rule,
                        TargetProjection::Table(table),
                        own.len(),
                        activities,
                        label,
                        &mut residual,
                    );
                    weights.with(inputs, &mut self.random, |w| {
                        dense::learn(w, bias, input, rate, |o| error.at(o, own[o]) * slope.at(own[o]));
                    });
                    if *head_rate > 0.0 {
                        let base = step.head_rate * *head_rate;
                        let rate =
                            if step.normalised { step::normalised(base, step::energy(own)) } else { base };
                        dense::learn_head(&mut Float::new(table, own.len()), &residual, own, rate);
                    }
                }
            }
        }
    }

    fn learn_backprop(&mut self, x: &[f32], h: &[Vec<f32>], label: usize, step: Step) {
        let count = self.layers.len();
        let mut delta = h[count - 1].clone();
        cross_entropy::residual(&mut delta, label);
        for l in (0..count).rev() {
            let input = if l == 0 { x } else { &h[l - 1] };
            let layer = &mut self.layers[l];
            let base = if l + 1 == count { step.last_rate } else { step.rate };
            let rate = if step.normalised { step::normalised(base, step::energy(input)) } else { base };
            let mut back = vec![0.0; layer.inputs];
            let (inputs, bias) = (layer.inputs, &mut layer.bias);
            layer.weights.with(inputs, &mut self.random, |w| {
                if l > 0 {
                    for (o, d) in delta.iter().enumerate() {
                        for (i, b) in back.iter_mut().enumerate() {
                            *b += d * w.at(o, i);
                        }
                    }
                }
                dense::learn(w, bias, input, rate, |o| delta[o]);
            });
            if l > 0 {
                let slope = self.layers[l - 1].slope;
                delta = back.iter().zip(input).map(|(b, h)| b * slope.at(*h)).collect();
            }
        }
    }
}

/// Applies an activation, identified by its slope.
pub fn activate(slope: Slope, h: &mut [f32]) {
    for h in h {
        *h = match slope {
            Slope::Linear => *h,
            Slope::Clamp { min, max } => h.max(min).min(max),
            Slope::Tanh => h.tanh(),
            Slope::Sigmoid => 1.0 / (1.0 + (-*h).exp()),
        };
    }
}

/// Index of the largest score.
pub fn argmax(scores: &[f32]) -> usize {
    (0..scores.len()).fold(0, |best, k| if scores[k] > scores[best] { k } else { best })
}
