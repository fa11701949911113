//! Small convolutional networks in minibatches: 3 × 3 convolutions, each with an activation and a 2 × 2 maximum, and
//! a fully connected layer. Errors may propagate between all layers (backpropagation), between none (every layer
//! learns from its own head), or within blocks. Errors at heads follow the runtime's rules.

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2};
use offshoot::kernels::gradient::grid::PoolingGrid;
use offshoot::learn::layers::Slope;
use offshoot::learn::rules::cross_entropy;
use offshoot::learn::{LocalError, LocalRule, Random, TargetProjection};

use crate::adam::Adam;
use crate::batch::table;
use crate::dense::{activate, argmax};

const TAPS: usize = 9;

/// Source of a convolution's own error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Teacher {
    /// No error of its own.
    None,
    /// A rule with a random target projection, on features of a pooling grid with this number of cells along each
    /// axis.
    Local(LocalRule, TargetProjection<'static>, usize),
    /// A trained head on features of such a pooling grid.
    Head(usize),
}

/// A convolution with its teacher and its optimiser.
#[derive(Clone, Debug)]
struct Layer {
    side: usize,
    c: usize,
    out_c: usize,
    weights: Vec<f32>,
    bias: Vec<f32>,
    teacher: Teacher,
    grid: PoolingGrid,
    codes: Vec<f32>,
    /// Whether the layer before it learns from this one's error.
    teaches_front: bool,
    adam: [Adam; 3],
}

/// Results of a layer for a batch.
struct Trace {
    columns: Vec<f32>,
    h: Vec<f32>,
    pooled: Vec<f32>,
    largest: Vec<usize>,
}

/// A convolutional network.
#[derive(Clone, Debug)]
pub struct ConvNet {
    layers: Vec<Layer>,
    slope: Slope,
    classes: usize,
    weights: Vec<f32>,
    bias: Vec<f32>,
    /// Whether the last convolution learns from the fully connected layer's error.
    last_teaches: bool,
    adam: [Adam; 2],
}

fn normal(count: usize, deviation: f32, random: &mut Random) -> Vec<f32> {
    (0..count).map(|_| deviation * random.normal()).collect()
}

fn product(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>, out: &mut [f32]) {
    let shape = (a.nrows(), b.ncols());
    let mut out = ArrayViewMut2::from_shape(shape, out).expect("rows of a, columns of b");
    general_mat_mul(1.0, &a, &b, 0.0, &mut out);
}

fn matrix(values: &[f32], columns: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((values.len() / columns, columns), values).expect("whole rows")
}

fn column_sums(rows: &[f32], columns: usize) -> Vec<f32> {
    let mut sums = vec![0.0; columns];
    for row in rows.chunks_exact(columns) {
        sums.iter_mut().zip(row).for_each(|(s, v)| *s += v);
    }
    sums
}

impl ConvNet {
    /// A network on images `[side, side, channels[0]]`, with one convolution for each further number of channels.
    /// `teachers`: the source of each convolution's own error; `joined[l]`: whether it also receives the error of the
    /// layer behind it.
    pub fn new(
        side: usize,
        channels: &[usize],
        classes: usize,
        slope: Slope,
        teachers: &[Teacher],
        joined: &[bool],
        seed: u32,
    ) -> Self {
        let mut random = Random::new(seed);
        let gain = if slope == Slope::Tanh { 1.0f32 } else { 2.0 };
        let mut layers = Vec::new();
        for (l, pair) in channels.windows(2).enumerate() {
            let (c, out_c, side) = (pair[0], pair[1], side >> l);
            let teacher = teachers[l];
            let cells = match teacher {
                Teacher::None => 1,
                Teacher::Local(.., cells) | Teacher::Head(cells) => cells,
            };
            let grid = PoolingGrid::new(cells, [side; 2], out_c);
            let features = grid.features();
            let codes = match teacher {
                Teacher::None => Vec::new(),
                Teacher::Local(_, codes, _) => table(codes, classes, features),
                Teacher::Head(_) => normal(classes * features, 1.0 / (features as f32).sqrt(), &mut random),
            };
            layers.push(Layer {
                side,
                c,
                out_c,
                weights: normal(out_c * TAPS * c, (gain / (TAPS * c) as f32).sqrt(), &mut random),
                bias: vec![0.0; out_c],
                teacher,
                grid,
                codes,
                teaches_front: l > 0 && joined[l - 1],
                adam: Default::default(),
            });
        }
        let side = side >> layers.len();
        let features = side * side * channels[channels.len() - 1];
        let weights = normal(classes * features, 1.0 / (features as f32).sqrt(), &mut random);
        let last_teaches = joined[layers.len() - 1];
        let (bias, adam) = (vec![0.0; classes], Default::default());
        Self { layers, slope, classes, weights, bias, last_teaches, adam }
    }

    /// Scores `[samples, classes]` and the results of the layers.
    fn forward(&self, x: &[f32]) -> (Vec<f32>, Vec<Trace>) {
        let mut traces: Vec<Trace> = Vec::new();
        for layer in &self.layers {
            let input = traces.last().map_or(x, |t| &t.pooled);
            traces.push(layer.forward(input, self.slope));
        }
        let features = traces.last().map_or(x, |t| &t.pooled);
        let width = self.weights.len() / self.classes;
        let rows = features.len() / width;
        let mut scores = vec![0.0; rows * self.classes];
        product(matrix(features, width), matrix(&self.weights, width).t(), &mut scores);
        for row in scores.chunks_mut(self.classes) {
            row.iter_mut().zip(&self.bias).for_each(|(s, b)| *s += b);
        }
        (scores, traces)
    }

    /// One step of Adam on a batch.
    pub fn learn(&mut self, x: &[f32], labels: &[usize], rate: f32) {
        let (mut delta, traces) = self.forward(x);
        let share = 1.0 / labels.len() as f32;
        for (row, label) in delta.chunks_mut(self.classes).zip(labels) {
            cross_entropy::residual(row, *label);
            row.iter_mut().for_each(|r| *r *= share);
        }
        let features = traces.last().map_or(x, |t| &t.pooled);
        let width = self.weights.len() / self.classes;
        let mut gradient = vec![0.0; self.weights.len()];
        product(matrix(&delta, self.classes).t(), matrix(features, width), &mut gradient);
        let mut behind = None;
        if self.last_teaches {
            let mut back = vec![0.0; features.len()];
            product(matrix(&delta, self.classes), matrix(&self.weights, width), &mut back);
            behind = Some(back);
        }
        self.adam[0].descend(&mut self.weights, &gradient, rate);
        self.adam[1].descend(&mut self.bias, &column_sums(&delta, self.classes), rate);
        for (layer, trace) in self.layers.iter_mut().zip(&traces).rev() {
            behind = layer.learn(trace, behind.as_deref(), labels, self.classes, self.slope, rate);
        }
    }

    /// Number of samples classified as their label.
    pub fn hits(&self, x: &[f32], labels: &[usize]) -> usize {
        let (scores, _) = self.forward(x);
        scores.chunks(self.classes).zip(labels).filter(|(s, y)| argmax(s) == **y).count()
    }
}

impl Layer {
    fn forward(&self, x: &[f32], slope: Slope) -> Trace {
        let columns = self.gather(x);
        let pixels = columns.len() / (TAPS * self.c);
        let mut h = vec![0.0; pixels * self.out_c];
        product(matrix(&columns, TAPS * self.c), matrix(&self.weights, TAPS * self.c).t(), &mut h);
        for pixel in h.chunks_mut(self.out_c) {
            pixel.iter_mut().zip(&self.bias).for_each(|(h, b)| *h += b);
        }
        activate(slope, &mut h);
        let (pooled, largest) = self.pool(&h);
        Trace { columns, h, pooled, largest }
    }

    /// Calls `each(row, tap, pixel)` for every tap of the kernel inside an image, over all images.
    fn windows(&self, images: usize, mut each: impl FnMut(usize, usize, usize)) {
        let side = self.side;
        for image in 0..images {
            for y in 0..side {
                for x in 0..side {
                    let row = (image * side + y) * side + x;
                    for tap in 0..TAPS {
                        let (iy, ix) = (y + tap / 3, x + tap % 3);
                        if (1..=side).contains(&iy) && (1..=side).contains(&ix) {
                            each(row, tap, (image * side + iy - 1) * side + ix - 1);
                        }
                    }
                }
            }
        }
    }

    fn gather(&self, x: &[f32]) -> Vec<f32> {
        let c = self.c;
        let mut columns = vec![0.0; x.len() * TAPS];
        self.windows(x.len() / (self.side * self.side * c), |row, tap, pixel| {
            columns[(row * TAPS + tap) * c..][..c].copy_from_slice(&x[pixel * c..][..c]);
        });
        columns
    }

    /// Maxima of 2 × 2 pixels and their positions.
    fn pool(&self, h: &[f32]) -> (Vec<f32>, Vec<usize>) {
        let (side, c, half) = (self.side, self.out_c, self.side / 2);
        let images = h.len() / (side * side * c);
        let mut largest = Vec::with_capacity(h.len() / 4);
        for image in 0..images {
            for y in 0..half {
                for x in 0..half {
                    let first = ((image * side + 2 * y) * side + 2 * x) * c;
                    for channel in first..first + c {
                        let candidates = [channel, channel + c, channel + side * c, channel + (side + 1) * c];
                        let best =
                            candidates.into_iter().fold(channel, |b, i| if h[i] > h[b] { i } else { b });
                        largest.push(best);
                    }
                }
            }
        }
        (largest.iter().map(|&i| h[i]).collect(), largest)
    }

    /// One step from the layer's own error and the error from behind (of its pooled output); returns the error of its
    /// input, if that is needed.
    fn learn(
        &mut self,
        trace: &Trace,
        behind: Option<&[f32]>,
        labels: &[usize],
        classes: usize,
        slope: Slope,
        rate: f32,
    ) -> Option<Vec<f32>> {
        if behind.is_none() && self.teacher == Teacher::None {
            return None;
        }
        let mut errors = vec![0.0; trace.h.len()];
        if let Some(behind) = behind {
            trace.largest.iter().zip(behind).for_each(|(&at, e)| errors[at] += e);
        }
        self.add_own(trace, labels, classes, rate, &mut errors);
        errors.iter_mut().zip(&trace.h).for_each(|(e, h)| *e *= slope.at(*h));
        let depth = TAPS * self.c;
        let mut gradient = vec![0.0; self.weights.len()];
        product(matrix(&errors, self.out_c).t(), matrix(&trace.columns, depth), &mut gradient);
        let front = self.teaches_front.then(|| {
            let mut columns = vec![0.0; trace.columns.len()];
            product(matrix(&errors, self.out_c), matrix(&self.weights, depth), &mut columns);
            let c = self.c;
            let mut back = vec![0.0; trace.columns.len() / TAPS];
            self.windows(labels.len(), |row, tap, pixel| {
                let from = &columns[(row * TAPS + tap) * c..][..c];
                back[pixel * c..][..c].iter_mut().zip(from).for_each(|(b, e)| *b += e);
            });
            back
        });
        self.adam[0].descend(&mut self.weights, &gradient, rate);
        self.adam[1].descend(&mut self.bias, &column_sums(&errors, self.out_c), rate);
        front
    }

    /// Adds the error of the layer's own teacher, by the runtime's rule on the features of the pooling grid, and
    /// trains its head.
    fn add_own(&mut self, trace: &Trace, labels: &[usize], classes: usize, rate: f32, errors: &mut [f32]) {
        let rule = match self.teacher {
            Teacher::None => return,
            Teacher::Local(rule, ..) => rule,
            Teacher::Head(_) => LocalRule::CrossEntropy { scale: 1.0 },
        };
        let features = self.grid.features();
        let (pixels, cells) = self.grid.cell_pixels();
        let mean = cells as f32 / pixels as f32;
        let share = 1.0 / labels.len() as f32;
        let learns = matches!(self.teacher, Teacher::Head(_));
        let mut gradient = vec![0.0; if learns { classes * features } else { 0 }];
        let (mut pooled, mut residual) = (vec![0.0; features], vec![0.0; classes]);
        let image = self.side * self.side * self.out_c;
        for ((h, errors), label) in trace.h.chunks(image).zip(errors.chunks_mut(image)).zip(labels) {
            for (j, pooled) in pooled.iter_mut().enumerate() {
                *pooled = 0.0;
                self.grid.pixels(j, |at| *pooled += h[at]);
                *pooled *= mean;
            }
            let own = pooled.iter().copied();
            let error = LocalError::new(
                rule,
                TargetProjection::Table(&self.codes),
                features,
                own,
                *label,
                &mut residual,
            );
            for (j, pooled) in pooled.iter().enumerate() {
                let e = share * mean * error.at(j, *pooled);
                self.grid.pixels(j, |at| errors[at] += e);
            }
            if learns {
                for (row, r) in gradient.chunks_mut(features).zip(&residual) {
                    row.iter_mut().zip(&pooled).for_each(|(g, h)| *g += share * r * h);
                }
            }
        }
        if learns {
            self.adam[2].descend(&mut self.codes, &gradient, rate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loss of the scores, or of the head if the network has one: finite differences against the step of a layer's
    /// weights.
    #[test]
    fn errors_are_gradients() {
        let relu = Slope::Clamp { min: 0.0, max: f32::INFINITY };
        let mut random = Random::new(5);
        let x = normal(2 * 4 * 4 * 2, 1.0, &mut random);
        let labels = [1, 2];
        let net = ConvNet::new(4, &[2, 3, 4], 3, relu, &[Teacher::None; 2], &[true; 2], 9);
        let loss = |net: &ConvNet| -> f32 {
            let (mut scores, _) = net.forward(&x);
            let of = scores.chunks_mut(3).zip(labels).map(|(s, y)| {
                cross_entropy::residual(s, y);
                -(1.0 + s[y]).ln()
            });
            of.sum::<f32>() / 2.0
        };
        let mut learned = net.clone();
        learned.learn(&x, &labels, 1e-3);
        for i in [0, 7, 20, 53] {
            let (mut up, mut down) = (net.clone(), net.clone());
            up.layers[0].weights[i] += 5e-3;
            down.layers[0].weights[i] -= 5e-3;
            let slope = (loss(&up) - loss(&down)) / 1e-2;
            // Adam's first step has the sign of the gradient and the size of the rate.
            let step = net.layers[0].weights[i] - learned.layers[0].weights[i];
            assert!(slope.abs() < 1e-3 || (step - 1e-3 * slope.signum()).abs() < 1e-4, "{i}: {slope} {step}");
        }
    }

    #[test]
    fn layers_apart_learn_from_their_own_heads_only() {
        let relu = Slope::Clamp { min: 0.0, max: f32::INFINITY };
        let teachers = [Teacher::Head(2), Teacher::None];
        let net = ConvNet::new(4, &[1, 2, 3], 3, relu, &teachers, &[false; 2], 9);
        let mut learned = net.clone();
        learned.learn(&normal(16, 1.0, &mut Random::new(3)), &[1], 1e-3);
        assert_ne!(net.layers[0].weights, learned.layers[0].weights);
        assert_ne!(net.layers[0].codes, learned.layers[0].codes);
        assert_eq!(net.layers[1].weights, learned.layers[1].weights);
        assert_ne!(net.weights, learned.weights);
    }
}
