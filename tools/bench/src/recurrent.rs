//! Spoken digits as sequences: 49 frames of ten coefficients through a recurrent layer, known speakers, new takes.
//! Compares the local rule without unrolling with backpropagation through time.
//!
//! The network reads the state at every frame: the head's scores are averaged over the frames so far, and their error
//! is used directly as the error of this frame's state. The previous state counts as constant, so nothing of earlier
//! frames is stored.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use offshoot::learn::layers::dense;
use offshoot::learn::layers::recurrent::{self, Cell};
use offshoot::learn::rules::cross_entropy;
use offshoot::learn::weights::Float;
use offshoot::learn::{Random, Schedule, Weights as _};

use crate::adam::Adam;
use crate::data::shuffled;
use crate::dense::argmax;
use crate::protocol::{Goal, Measured, Protocol, Row};
use crate::speakers::Digits;

/// Coefficients per frame.
const INPUTS: usize = 10;
const UNITS: usize = 64;
const CLASSES: usize = 10;
const EPOCHS: usize = 9;
/// Utterances per step of backpropagation through time. The local rule learns from one at a time.
const BATCH: usize = 10;
const TEST: &str = "test";

/// Kind of the layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Simple,
    Gru,
}

impl Kind {
    fn gates(self) -> usize {
        if self == Self::Simple { 1 } else { 3 }
    }
}

/// Learning rule of the recurrent layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// None; only the head learns.
    Frozen,
    /// The error of each frame, with the previous state as a constant.
    Local,
    /// Backpropagation through time of the loss at the end.
    Through,
    /// Backpropagation through time of the losses of all frames: the local rule is this without the past.
    ThroughAll,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
struct Recipe {
    name: &'static str,
    kind: Kind,
    how: How,
    /// Rate of the recurrent layer at the start.
    rate: f32,
    /// Initial rate of the head; for backpropagation through time, Adam's rate above applies to both.
    head_rate: f32,
    /// Share of the layer's weights that remain in the last third of the epochs: the largest of each of its two
    /// matrices, pruned at once (Darji's protocol); the others stay zero.
    left: f32,
}

fn recipes() -> [Recipe; 10] {
    let row = |name, kind, how, rate, head_rate| Recipe { name, kind, how, rate, head_rate, left: 1.0 };
    let sparse = |name, left| Recipe { left, ..row(name, Kind::Gru, How::Through, 0.002, 0.0) };
    [
        row("rnn, through time", Kind::Simple, How::Through, 0.02, 0.0),
        row("rnn, through time, loss of every frame", Kind::Simple, How::ThroughAll, 0.006, 0.0),
        row("rnn, local", Kind::Simple, How::Local, 0.3, 0.3),
        row("rnn, frozen", Kind::Simple, How::Frozen, 0.0, 0.6),
        row("gru, through time", Kind::Gru, How::Through, 0.002, 0.0),
        row("gru, through time, loss of every frame", Kind::Gru, How::ThroughAll, 0.002, 0.0),
        row("gru, local", Kind::Gru, How::Local, 0.2, 0.6),
        row("gru, frozen", Kind::Gru, How::Frozen, 0.0, 0.6),
        sparse("gru, through time, 80 % sparse", 0.2),
        sparse("gru, through time, 90 % sparse", 0.1),
    ]
}

/// A recurrent layer and a head on its state.
#[derive(Clone, Debug)]
struct Network {
    kind: Kind,
    input: Vec<f32>,
    state: Vec<f32>,
    bias: Vec<f32>,
    head: Vec<f32>,
    head_bias: Vec<f32>,
}

/// Gradients of the weights of input, state, bias and head, and of the head's bias.
type Gradients = [Vec<f32>; 5];

/// Results of one frame.
#[derive(Clone, Debug)]
struct Moment {
    before: Vec<f32>,
    gates: Vec<f32>,
    reset: Vec<f32>,
    next: Vec<f32>,
    /// Error of the mean scores so far.
    residual: Vec<f32>,
}

impl Network {
    fn new(kind: Kind, seed: u32) -> Self {
        let mut random = Random::new(seed);
        let mut draw = |count: usize, inputs: usize| -> Vec<f32> {
            (0..count).map(|_| random.normal() / (inputs as f32).sqrt()).collect()
        };
        let rows = kind.gates() * UNITS;
        let (input, mut state) = (draw(rows * INPUTS, INPUTS), draw(rows * UNITS, UNITS));
        // A spectral radius below 1, so that states forget their start.
        state.iter_mut().for_each(|w| *w *= 0.9);
        let mut bias = vec![0.0; rows];
        if kind == Kind::Gru {
            // Update gates that keep more than they take: initial memory over several frames.
            bias[..UNITS].fill(1.0);
        }
        Self { kind, input, state, bias, head: vec![0.0; CLASSES * UNITS], head_bias: vec![0.0; CLASSES] }
    }

    /// Runs through the frames of one utterance. `each` may change the weights after every frame. Returns the mean
    /// scores.
    fn run(&mut self, x: &[f32], label: usize, mut each: impl FnMut(&mut Self, &[f32], Moment)) -> Vec<f32> {
        let mut h = vec![0.0; UNITS];
        let (mut sums, mut scores) = (vec![0.0; CLASSES], vec![0.0; CLASSES]);
        for (t, x) in x.chunks_exact(INPUTS).enumerate() {
            let (mut gates, mut reset) = (vec![0.0; self.kind.gates() * UNITS], vec![0.0; UNITS]);
            let mut next = vec![0.0; UNITS];
            {
                let mut input = Float::new(&mut self.input, INPUTS);
                let mut state = Float::new(&mut self.state, UNITS);
                let cell = Cell { input: &mut input, state: &mut state, bias: &mut self.bias };
                match self.kind {
                    Kind::Simple => recurrent::simple(&cell, x, &h, &mut next),
                    Kind::Gru => recurrent::gru(&cell, x, &h, &mut gates, &mut reset, &mut next),
                }
            }
            Float::new(&mut self.head, UNITS).product(&next, &self.head_bias, &mut scores);
            sums.iter_mut().zip(&scores).for_each(|(sum, s)| *sum += s);
            let mut residual: Vec<f32> = sums.iter().map(|s| s / (t + 1) as f32).collect();
            cross_entropy::residual(&mut residual, label);
            let before = std::mem::replace(&mut h, next.clone());
            each(self, x, Moment { before, gates, reset, next, residual });
        }
        sums.iter().map(|s| s / (x.len() / INPUTS) as f32).collect()
    }

    /// Learns from one utterance, frame by frame, with the device's functions. Rates are for a whole utterance.
    fn learn_local(&mut self, x: &[f32], label: usize, rate: f32, head_rate: f32) {
        let share = INPUTS as f32 / x.len() as f32;
        let mut pulled = vec![0.0; UNITS];
        self.run(x, label, |own, x, m| {
            let error: Vec<f32> = (0..UNITS)
                .map(|j| m.residual.iter().enumerate().map(|(k, r)| own.head[k * UNITS + j] * r).sum())
                .collect();
            let mut head = Float::new(&mut own.head, UNITS);
            dense::learn(&mut head, &mut own.head_bias, &m.next, share * head_rate, |k| m.residual[k]);
            if rate > 0.0 {
                let mut input = Float::new(&mut own.input, INPUTS);
                let mut state = Float::new(&mut own.state, UNITS);
                let mut cell = Cell { input: &mut input, state: &mut state, bias: &mut own.bias };
                let (h, rate, error) = (&m.before, share * rate, |j: usize| error[j]);
                match own.kind {
                    Kind::Simple => recurrent::learn_simple(&mut cell, x, h, &m.next, rate, error),
                    Kind::Gru => {
                        recurrent::learn_gru(&mut cell, x, h, &m.gates, &m.reset, &mut pulled, rate, error);
                    }
                }
            }
        });
    }

    /// Adds the gradients of one utterance by backpropagation through time: of the loss of the final mean scores, or
    /// of the mean, over all frames, of the loss of the mean scores so far.
    fn add_through(&mut self, x: &[f32], label: usize, every_frame: bool, gradients: &mut Gradients) {
        let mut moments = Vec::new();
        self.run(x, label, |_, _, m| moments.push(m));
        let frames = moments.len() as f32;
        // Error of a frame's scores: from all means that include it.
        let mut of_scores = [0.0; CLASSES];
        let mut delta = vec![0.0; UNITS];
        for (t, (x, m)) in x.chunks_exact(INPUTS).zip(&moments).enumerate().rev() {
            if every_frame || t + 1 == moments.len() {
                let part = 1.0 / ((t + 1) as f32 * if every_frame { frames } else { 1.0 });
                of_scores.iter_mut().zip(&m.residual).for_each(|(s, r)| *s += part * r);
            }
            for (k, e) in of_scores.iter().enumerate() {
                let head = &self.head[k * UNITS..][..UNITS];
                delta.iter_mut().zip(head).for_each(|(d, w)| *d += w * e);
                let row = gradients[3][k * UNITS..][..UNITS].iter_mut();
                row.zip(&m.next).for_each(|(g, h)| *g += e * h);
                gradients[4][k] += e;
            }
            delta = self.through(x, m, &delta, gradients);
        }
    }

    /// Masks of the layer's matrices that keep the largest weights.
    fn masks(&self, left: f32) -> [Vec<bool>; 2] {
        [&self.input, &self.state].map(|w| {
            let mut sizes: Vec<f32> = w.iter().map(|w| w.abs()).collect();
            sizes.sort_by(|a, b| b.total_cmp(a));
            let least = sizes[((left * w.len() as f32) as usize).clamp(1, w.len()) - 1];
            w.iter().map(|w| w.abs() >= least).collect()
        })
    }

    fn apply(&mut self, masks: &[Vec<bool>; 2]) {
        for (weights, mask) in [&mut self.input, &mut self.state].into_iter().zip(masks) {
            weights.iter_mut().zip(mask).filter(|(_, left)| !**left).for_each(|(w, _)| *w = 0.0);
        }
    }

    /// Zero gradients.
    fn gradients(&self) -> Gradients {
        [&self.input, &self.state, &self.bias, &self.head, &self.head_bias].map(|w| vec![0.0; w.len()])
    }

    /// A step of Adam on a batch, by backpropagation through time.
    fn learn_through(
        &mut self,
        batch: &[(&[f32], usize)],
        every_frame: bool,
        adam: &mut [Adam; 5],
        rate: f32,
    ) {
        let mut gradients = self.gradients();
        for (x, label) in batch {
            self.add_through(x, *label, every_frame, &mut gradients);
        }
        // Gradients through 49 frames can be huge: their norm is clipped to 1 (Pascanu et al., 2013).
        let norm = gradients.iter().flatten().map(|g| g * g).sum::<f32>().sqrt();
        let share = 1.0 / norm.max(batch.len() as f32);
        let parts = [&mut self.input, &mut self.state, &mut self.bias, &mut self.head, &mut self.head_bias];
        for ((weights, gradient), adam) in parts.into_iter().zip(&mut gradients).zip(adam) {
            gradient.iter_mut().for_each(|g| *g *= share);
            adam.descend(weights, gradient, rate);
        }
    }

    /// Adds a frame's gradients, given the error `delta` of its state; returns the error of the previous state.
    fn through(&self, x: &[f32], m: &Moment, delta: &[f32], gradients: &mut Gradients) -> Vec<f32> {
        let h = &m.before;
        let mut before = vec![0.0; UNITS];
        let mut add = |row: usize, e: f32, state: &[f32]| {
            gradients[0][row * INPUTS..][..INPUTS].iter_mut().zip(x).for_each(|(g, x)| *g += e * x);
            gradients[1][row * UNITS..][..UNITS].iter_mut().zip(state).for_each(|(g, h)| *g += e * h);
            gradients[2][row] += e;
        };
        let pull = |row: usize, e: f32, to: &mut [f32]| {
            to.iter_mut().zip(&self.state[row * UNITS..][..UNITS]).for_each(|(b, w)| *b += e * w);
        };
        if self.kind == Kind::Simple {
            for (j, n) in m.next.iter().enumerate() {
                let e = delta[j] * (1.0 - n * n);
                add(j, e, h);
                pull(j, e, &mut before);
            }
            return before;
        }
        let mut of_reset = vec![0.0; UNITS];
        for j in 0..UNITS {
            let (u, c) = (m.gates[j], m.gates[2 * UNITS + j]);
            let of_candidate = delta[j] * (1.0 - u) * (1.0 - c * c);
            add(2 * UNITS + j, of_candidate, &m.reset);
            pull(2 * UNITS + j, of_candidate, &mut of_reset);
            let of_update = delta[j] * (h[j] - c) * u * (1.0 - u);
            add(j, of_update, h);
            pull(j, of_update, &mut before);
            before[j] += delta[j] * u;
        }
        for j in 0..UNITS {
            let r = m.gates[UNITS + j];
            let e = of_reset[j] * h[j] * r * (1.0 - r);
            add(UNITS + j, e, h);
            pull(UNITS + j, e, &mut before);
            before[j] += of_reset[j] * r;
        }
        before
    }

    fn classify(&mut self, x: &[f32]) -> usize {
        argmax(&self.run(x, 0, |_, _, _| ()))
    }
}

/// Trains on the utterances of `chosen`, and returns the accuracy on those of `test`.
fn train(
    recipe: &Recipe,
    digits: &Digits,
    [chosen, test]: [&[usize]; 2],
    epochs: usize,
    seed: u32,
    tick: &dyn Fn(u64),
) -> f64 {
    let mut network = Network::new(recipe.kind, seed);
    let mut random = Random::new(seed ^ 0xda7a);
    let schedule = Schedule::Linear { steps: (epochs * chosen.len()) as u32 };
    let mut t = 0;
    let mut adam: [Adam; 5] = Default::default();
    let mut masks = None;
    for epoch in 0..epochs {
        if recipe.left < 1.0 && epoch == epochs - epochs / 3 {
            network.apply(masks.insert(network.masks(recipe.left)));
        }
        for order in shuffled(chosen.len(), &mut random).chunks(BATCH) {
            let batch: Vec<_> = order.iter().map(|&i| digits.samples.at(chosen[i])).collect();
            if matches!(recipe.how, How::Through | How::ThroughAll) {
                let every_frame = recipe.how == How::ThroughAll;
                network.learn_through(
                    &batch,
                    every_frame,
                    &mut adam,
                    offshoot::learn::schedule::rate(schedule, recipe.rate, t),
                );
            } else {
                for (x, y) in &batch {
                    let [rate, head_rate] = [recipe.rate, recipe.head_rate]
                        .map(|r| offshoot::learn::schedule::rate(schedule, r, t));
                    network.learn_local(x, *y, rate, head_rate);
                }
            }
            if let Some(masks) = &masks {
                network.apply(masks);
            }
            t += batch.len() as u32;
        }
        tick(chosen.len() as u64);
    }
    let mut hits = 0;
    for &i in test {
        let (x, y) = digits.samples.at(i);
        hits += usize::from(network.classify(x) == y);
    }
    hits as f64 / test.len() as f64
}

/// The protocol.
#[derive(Debug)]
pub struct Recurrent {
    folder: PathBuf,
    digits: Option<Digits>,
}

impl Recurrent {
    /// Uses the data sets of a folder.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.into(), digits: None }
    }

    /// Loads the utterances, with coefficients standardised on the training takes.
    fn load(&mut self) -> Result<&Digits> {
        if self.digits.is_none() {
            let digits = Digits::read(&self.folder)?;
            let learned = digits.takes(5..50);
            self.digits = Some(digits.standardised(&learned));
        }
        self.digits.as_ref().context("loaded")
    }
}

impl Protocol for Recurrent {
    fn name(&self) -> &'static str {
        "recurrent"
    }

    fn title(&self) -> &'static str {
        "Spoken digits, 49 frames through 64 recurrent units, six speakers, takes 0 to 4 to test on"
    }

    fn columns(&self) -> Vec<&'static str> {
        vec![TEST]
    }

    fn rows(&self) -> Vec<Row> {
        recipes().iter().map(|r| Row::new(r.name)).collect()
    }

    fn goals(&self) -> Vec<Goal> {
        let within = |row, of| Goal::Within { row, of, column: TEST, points: 5.0 };
        vec![
            within("rnn, local", "rnn, through time"),
            within("rnn, local", "rnn, through time, loss of every frame"),
            within("gru, local", "gru, through time"),
            within("gru, local", "gru, through time, loss of every frame"),
            Goal::Within {
                row: "gru, through time, 80 % sparse",
                of: "gru, through time",
                column: TEST,
                points: 1.0,
            },
        ]
    }

    fn work(&self, _row: &str) -> u64 {
        (EPOCHS * 2700) as u64
    }

    fn measure(&mut self, row: &str, seed: u32, tick: &dyn Fn(u64)) -> Result<Measured> {
        let digits = self.load()?;
        let recipe = recipes().into_iter().find(|r| r.name == row).context("no such row")?;
        let parts = [digits.takes(5..50), digits.takes(0..5)];
        let accuracy = train(&recipe, digits, [&parts[0], &parts[1]], EPOCHS, seed, tick);
        Ok(Measured::from([(TEST.into(), accuracy)]))
    }

    /// A third of the epochs on takes 10 to 49, tested on takes 5 to 9, seed 0.
    fn tune(&mut self, only: Option<&str>, say: &dyn Fn(&str, f64)) -> Result<()> {
        let digits = self.load()?;
        let parts = [digits.takes(10..50), digits.takes(5..10)];
        for recipe in recipes().into_iter().filter(|r| only.is_none_or(|o| o == r.name)) {
            for factor in [1.0, 0.33, 3.0] {
                for head in [1.0, 0.5, 2.0] {
                    // Frozen layers have one rate, and so has Adam.
                    let twice = recipe.how == How::Frozen && factor != 1.0;
                    if twice || matches!(recipe.how, How::Through | How::ThroughAll) && head != 1.0 {
                        continue;
                    }
                    let (rate, head_rate) = (factor * recipe.rate, head * recipe.head_rate);
                    let trial = Recipe { rate, head_rate, ..recipe };
                    let accuracy = train(&trial, digits, [&parts[0], &parts[1]], EPOCHS / 3, 0, &|_| ());
                    say(&format!("{} {rate} {head_rate}", recipe.name), accuracy);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps of backpropagation through time follow the loss's gradient, checked by finite differences.
    #[test]
    fn through_time_is_the_gradient() {
        for kind in [Kind::Simple, Kind::Gru] {
            let mut random = Random::new(3);
            let x: Vec<f32> = (0..6 * INPUTS).map(|_| random.normal()).collect();
            let mut net = Network::new(kind, 1);
            net.head.iter_mut().for_each(|w| *w = 0.3 * random.normal());
            for every_frame in [false, true] {
                let loss = |net: &mut Network| -> f32 {
                    let mut losses = Vec::new();
                    net.run(&x, 2, |_, _, m| losses.push(-(1.0 + m.residual[2]).ln()));
                    if every_frame { losses.iter().sum::<f32>() / 6.0 } else { losses[5] }
                };
                let mut gradients = net.gradients();
                net.add_through(&x, 2, every_frame, &mut gradients);
                for i in (0..net.state.len()).step_by(net.state.len() / 7) {
                    let (mut up, mut down) = (net.clone(), net.clone());
                    up.state[i] += 1e-2;
                    down.state[i] -= 1e-2;
                    let slope = (loss(&mut up) - loss(&mut down)) / 2e-2;
                    let found = gradients[1][i];
                    assert!(
                        (slope - found).abs() < 2e-3 + 0.05 * slope.abs(),
                        "{kind:?} {i}: {slope} {found}"
                    );
                }
            }
        }
    }

    /// Whether a tone rises or falls: a task that needs state.
    #[test]
    fn both_ways_learn_direction() {
        let mut random = Random::new(8);
        let mut digits = Digits::default();
        for i in 0..200 {
            let y = i % 2;
            let phase = random.unit();
            let frame = |t: usize, c: usize| {
                let t = if y == 0 { t } else { 9 - t };
                let place = (t as f32 + phase) % 10.0;
                (1.0 - (place - c as f32).abs()).max(0.0) * 3.0
            };
            digits.samples.x.extend((0..10 * INPUTS).map(|i| frame(i / INPUTS, i % INPUTS)));
            digits.samples.y.push(y);
        }
        digits.samples.width = 10 * INPUTS;
        let all: Vec<usize> = (0..200).collect();
        for recipe in recipes().iter().filter(|r| r.how != How::Frozen) {
            let accuracy = train(recipe, &digits, [&all, &all], 4, 0, &|_| ());
            assert!(accuracy > 0.9, "{}: {accuracy}", recipe.name);
        }
    }
}
