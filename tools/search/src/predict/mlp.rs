//! A small network with one output and dropout, for uncertainty and for gradients with respect to its input (BOSHNAS,
//! Tuli et al. 2022).

use offshoot_data::Random;

const HIDDEN: [usize; 2] = [64, 32];

/// `d → 64 → 32 → 1`, with softplus in between.
#[derive(Clone, Debug)]
pub struct Mlp {
    layers: Vec<Layer>,
    dropout: f64,
}

#[derive(Clone, Debug)]
struct Layer {
    inputs: usize,
    outputs: usize,
    /// Weights and biases, and Adam's moments.
    parameters: Vec<f64>,
    first: Vec<f64>,
    second: Vec<f64>,
}

/// Intermediate results that the backward pass needs.
struct Pass {
    /// Inputs of each layer (after the mask).
    inputs: Vec<Vec<f64>>,
    /// Sums of each layer.
    sums: Vec<Vec<f64>>,
    masks: Vec<Vec<f64>>,
    output: f64,
}

impl Mlp {
    /// Random weights for rows of `width` elements, with the given dropout rate in training.
    pub fn new(width: usize, dropout: f64, random: &mut Random) -> Self {
        let sizes = [width, HIDDEN[0], HIDDEN[1], 1];
        let layer = |w: &[usize]| {
            let deviation = (1.0 / w[0].max(1) as f64).sqrt();
            let count = w[0] * w[1];
            let mut parameters: Vec<f64> = (0..count).map(|_| random.normal() * deviation).collect();
            parameters.resize(count + w[1], 0.0);
            let zeros = vec![0.0; parameters.len()];
            Layer { inputs: w[0], outputs: w[1], parameters, first: zeros.clone(), second: zeros }
        };
        Self { layers: sizes.windows(2).map(layer).collect(), dropout }
    }

    /// Trains with Adam on squared errors, one row per step, for `epochs` passes.
    pub fn fit(&mut self, rows: &[Vec<f64>], y: &[f64], epochs: usize, rate: f64, random: &mut Random) {
        let mut step = 0;
        for _ in 0..epochs {
            for _ in 0..rows.len() {
                let i = random.below(rows.len());
                let pass = self.pass(&rows[i], Some(random));
                step += 1;
                self.back(&pass, 2.0 * (pass.output - y[i]), Some((rate, step)));
            }
        }
    }

    /// Without dropout.
    pub fn predict(&self, row: &[f64]) -> f64 {
        self.pass(row, None).output
    }

    /// Mean and deviation over `passes` with dropout: the deviation is the predictor's uncertainty.
    pub fn uncertain(&self, row: &[f64], passes: usize, random: &mut Random) -> (f64, f64) {
        let all: Vec<f64> = (0..passes.max(2)).map(|_| self.pass(row, Some(random)).output).collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let variance = all.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (all.len() - 1) as f64;
        (mean, variance.sqrt())
    }

    /// Gradient of the output with respect to the row.
    pub fn slope(&self, row: &[f64]) -> Vec<f64> {
        let pass = self.pass(row, None);
        self.clone().back(&pass, 1.0, None)
    }

    fn pass(&self, row: &[f64], mut random: Option<&mut Random>) -> Pass {
        let mut pass = Pass { inputs: vec![], sums: vec![], masks: vec![], output: 0.0 };
        let mut x = row.to_vec();
        for (index, layer) in self.layers.iter().enumerate() {
            let mask: Vec<f64> = match &mut random {
                Some(random) if index > 0 && self.dropout > 0.0 => {
                    let kept = 1.0 / (1.0 - self.dropout);
                    x.iter().map(|_| if random.chance(self.dropout) { 0.0 } else { kept }).collect()
                }
                _ => vec![1.0; x.len()],
            };
            x.iter_mut().zip(&mask).for_each(|(v, m)| *v *= m);
            let biases = layer.inputs * layer.outputs;
            let sums: Vec<f64> = (0..layer.outputs)
                .map(|o| {
                    let weights = &layer.parameters[o * layer.inputs..(o + 1) * layer.inputs];
                    layer.parameters[biases + o] + weights.iter().zip(&x).map(|(w, v)| w * v).sum::<f64>()
                })
                .collect();
            pass.inputs.push(x);
            pass.masks.push(mask);
            let last = index + 1 == self.layers.len();
            x = if last { sums.clone() } else { sums.iter().map(|&s| softplus(s)).collect() };
            pass.sums.push(sums);
        }
        pass.output = x[0];
        pass
    }

    /// Gradient with respect to the row; given a rate and a step number, also performs one step of Adam.
    fn back(&mut self, pass: &Pass, gradient: f64, train: Option<(f64, i32)>) -> Vec<f64> {
        let mut d = vec![gradient];
        for (index, layer) in self.layers.iter_mut().enumerate().rev() {
            if index + 1 < pass.sums.len() {
                // The derivative of softplus is the logistic function.
                d.iter_mut().zip(&pass.sums[index]).for_each(|(d, s)| *d *= 1.0 / (1.0 + (-s).exp()));
            }
            let mut dx = vec![0.0; layer.inputs];
            let biases = layer.inputs * layer.outputs;
            for (o, d) in d.iter().enumerate() {
                for i in 0..layer.inputs {
                    dx[i] += d * layer.parameters[o * layer.inputs + i];
                }
            }
            if let Some((rate, step)) = train {
                for (o, d) in d.iter().enumerate() {
                    for i in 0..layer.inputs {
                        layer.update(o * layer.inputs + i, d * pass.inputs[index][i], rate, step);
                    }
                    layer.update(biases + o, *d, rate, step);
                }
            }
            dx.iter_mut().zip(&pass.masks[index]).for_each(|(d, m)| *d *= m);
            d = dx;
        }
        d
    }
}

impl Layer {
    fn update(&mut self, at: usize, gradient: f64, rate: f64, step: i32) {
        let (m, v) = (&mut self.first[at], &mut self.second[at]);
        *m = 0.9 * *m + 0.1 * gradient;
        *v = 0.999 * *v + 0.001 * gradient * gradient;
        let (m, v) = (*m / (1.0 - 0.9f64.powi(step)), *v / (1.0 - 0.999f64.powi(step)));
        self.parameters[at] -= rate * m / (v.sqrt() + 1e-8);
    }
}

fn softplus(x: f64) -> f64 {
    if x > 30.0 { x } else { x.exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_learns_and_its_slope_is_that_of_its_output() {
        let mut random = Random::new(1, 0);
        let rows: Vec<Vec<f64>> = (0..60).map(|_| (0..3).map(|_| random.unit()).collect()).collect();
        let y: Vec<f64> = rows.iter().map(|r| r[0] - 0.5 * r[1] * r[2]).collect();
        let mut net = Mlp::new(3, 0.0, &mut random);
        net.fit(&rows, &y, 60, 3e-3, &mut random);
        let error: f64 = rows.iter().zip(&y).map(|(r, y)| (net.predict(r) - y).abs()).sum::<f64>() / 60.0;
        assert!(error < 0.08, "{error}");
        let row = [0.4, 0.2, 0.7];
        let slope = net.slope(&row);
        for i in 0..3 {
            let moved = |by: f64| {
                let mut row = row;
                row[i] += by;
                net.predict(&row)
            };
            assert!((slope[i] - (moved(1e-4) - moved(-1e-4)) / 2e-4).abs() < 1e-5);
        }
        let sure = Mlp::new(3, 0.3, &mut random).uncertain(&row, 10, &mut random).1;
        assert!(sure > 0.0);
    }
}
