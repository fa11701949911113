//! Recursive least squares on real targets: after every sample, the ridge regression of all samples so far on what the network says
//! wrong (Haykin, *Adaptive Filter Theory*, chapter on square-root filters: QR-RLS).
//!
//! With `x` the features and a one, `L Lᵀ = Σ λᵃ x xᵀ + ridge I` is kept as a square root ([`super::square_root`]), where `a` is the age
//! of a sample, and `L s = Σ λᵃ x e` for the targets less the network's outputs, `e`. The rotations that take in `x` take in `e` too.
//! The weights solve `Lᵀ w = s`. Unlike the recursion on the inverse, it cannot lose positive definiteness to rounding. With λ < 1 the
//! ridge would fade with the samples; it is renewed one feature a sample, so that features that stay silent do no harm.
//!
//! Memory for d outputs: two numbers, root (n + 1)(n + 2)/2, sides d(n + 1), weights d(n + 1), derived 2(n + 1). A step takes
//! 2n² + dn²/2 multiply-accumulates (λ < 1: some n² more), a prediction dn.

use super::{HeadError, check, square_root, symmetric};

/// Most outputs.
pub const MAX_OUTPUTS: usize = 64;

/// Recursive least squares on real targets.
#[derive(Debug)]
pub struct Regression<'a> {
    memory: &'a mut [f32],
    features: usize,
    outputs: usize,
    options: RegressionOptions,
}

/// Options of [`Regression`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RegressionOptions {
    /// Weight of the squared weights relative to the squared errors, in units of squared features.
    pub ridge: f32,
    /// Weight of a sample relative to the next one, λ: 1 forgets nothing, 0.999 forgets half in 700 samples.
    pub forgetting: f32,
}

impl Default for RegressionOptions {
    fn default() -> Self {
        Self { ridge: 1.0, forgetting: 1.0 }
    }
}

impl RegressionOptions {
    /// Whether they are in their ranges.
    pub fn are_possible(&self) -> bool {
        self.ridge.is_finite() && self.ridge > 0.0 && self.forgetting > 0.0 && self.forgetting <= 1.0
    }
}

/// Numbers at the start of the memory, and their places: samples; the feature whose ridge is renewed next.
const HEADER: usize = 2;
const COUNT: usize = 0;
const TURN: usize = 1;

/// The arrays in the memory.
struct Parts<'p> {
    header: &'p mut [f32],
    root: &'p mut [f32],
    sides: &'p mut [f32],
    weights: &'p mut [f32],
    rotations: &'p mut [f32],
}

impl<'a> Regression<'a> {
    /// Words of memory; `None` if there are more than an address can count.
    pub fn words(features: usize, outputs: usize) -> Option<usize> {
        let inputs = features.checked_add(1)?;
        let rows = outputs.checked_add(1)?.checked_mul(2)?.checked_mul(inputs)?;
        symmetric::words(inputs)?.checked_add(rows)?.checked_add(HEADER)
    }

    /// Bytes of memory, saturating.
    pub fn memory(features: usize, outputs: usize) -> usize {
        Self::words(features, outputs).map_or(usize::MAX, |words| words.saturating_mul(4))
    }

    /// Attaches to memory that was used before, without changing it.
    ///
    /// # Errors
    /// [`HeadError::Memory`] if the memory is too small; [`HeadError::Shape`] if options are invalid, or there are no features or
    /// outputs, or more than [`MAX_OUTPUTS`].
    pub fn attach(
        features: usize,
        outputs: usize,
        options: RegressionOptions,
        memory: &'a mut [f32],
    ) -> Result<Self, HeadError> {
        let words = Self::words(features, outputs).ok_or(HeadError::Shape)?;
        if features == 0 || !(1..=MAX_OUTPUTS).contains(&outputs) || !options.are_possible() {
            return Err(HeadError::Shape);
        }
        let given = memory.len().saturating_mul(4);
        let error = HeadError::Memory { needed: words.saturating_mul(4), given };
        Ok(Self { memory: memory.get_mut(..words).ok_or(error)?, features, outputs, options })
    }

    /// Attaches to memory, and forgets what it holds.
    ///
    /// # Errors
    /// As [`Self::attach`].
    pub fn init(
        features: usize,
        outputs: usize,
        options: RegressionOptions,
        memory: &'a mut [f32],
    ) -> Result<Self, HeadError> {
        let mut head = Self::attach(features, outputs, options, memory)?;
        head.reset();
        Ok(head)
    }

    fn parts(&mut self) -> Parts<'_> {
        let inputs = self.features + 1;
        let (header, rest) = self.memory.split_at_mut(HEADER);
        let (root, rest) = rest.split_at_mut(inputs * (inputs + 1) / 2);
        let (sides, rest) = rest.split_at_mut(self.outputs * inputs);
        let (weights, rotations) = rest.split_at_mut(self.outputs * inputs);
        Parts { header, root, sides, weights, rotations }
    }

    /// Forgets everything: predictions are the network's outputs again.
    pub fn reset(&mut self) {
        self.memory.fill(0.0);
        let (inputs, ridge) = (self.features + 1, libm::sqrtf(self.options.ridge));
        symmetric::set_identity(self.parts().root, inputs, ridge);
    }

    /// No class is learned.
    ///
    /// # Errors
    /// [`HeadError::Label`], always.
    pub fn learn(&mut self, _features: &[f32], _label: usize) -> Result<(), HeadError> {
        Err(HeadError::Label)
    }

    /// Takes a sample: its targets, and what [`Self::predict`] says of its features.
    ///
    /// # Errors
    /// [`HeadError::Features`]; [`HeadError::Scores`] if targets or predictions are of the wrong number or not finite. Nothing has
    /// changed then.
    pub fn fit(&mut self, features: &[f32], targets: &[f32], predictions: &[f32]) -> Result<(), HeadError> {
        check(features, self.features, 0, 1)?;
        let finite = targets.iter().chain(predictions).all(|t| t.is_finite());
        if targets.len() != self.outputs || predictions.len() != self.outputs || !finite {
            return Err(HeadError::Scores);
        }
        let energy = super::vector::dot(features, features);
        if !energy.is_finite() {
            return Err(HeadError::Features);
        }
        let (n, inputs, options) = (self.features, self.features + 1, self.options);
        let Parts { header, root, sides, weights, rotations } = self.parts();
        header[COUNT] = (header[COUNT] + 1.0).min(16_777_216.0);
        if options.forgetting < 1.0 {
            let keep = libm::sqrtf(options.forgetting);
            root.iter_mut().for_each(|l| *l *= keep);
            sides.iter_mut().for_each(|s| *s *= keep);
            let at = (header[TURN] as usize).min(n);
            // Once in n + 1 samples, and so for n + 1 samples.
            let amount = libm::sqrtf(inputs as f32 * options.ridge * (1.0 - options.forgetting));
            square_root::add(root, inputs, at, rotations, |i| if i == at { amount } else { 0.0 });
            for side in sides.chunks_exact_mut(inputs) {
                square_root::rotate(side, at, rotations, 0.0);
            }
            header[TURN] = ((at + 1) % inputs) as f32;
        }
        let input = |i: usize| if i < n { features[i] } else { 1.0 };
        square_root::add(root, inputs, 0, rotations, input);
        let rows = sides.chunks_exact_mut(inputs).zip(weights.chunks_exact_mut(inputs));
        for ((side, weights), (target, prediction)) in rows.zip(targets.iter().zip(predictions)) {
            // What the network's own output leaves to explain.
            let error = target - prediction + symmetric::with_one(weights, features);
            square_root::rotate(side, 0, rotations, error);
            weights.copy_from_slice(side);
            square_root::solve_upper(root, weights);
        }
        Ok(())
    }

    /// Nothing is deferred.
    pub fn refresh(&mut self) {}

    /// Adds what was learned to the network's outputs, which `scores` holds.
    ///
    /// # Errors
    /// [`HeadError::Features`] or [`HeadError::Scores`]; nothing is then added.
    pub fn predict(&mut self, features: &[f32], scores: &mut [f32]) -> Result<(), HeadError> {
        check(features, self.features, 0, 1)?;
        if scores.len() != self.outputs {
            return Err(HeadError::Scores);
        }
        let inputs = self.features + 1;
        let weights = self.parts().weights;
        for (score, row) in scores.iter_mut().zip(weights.chunks_exact(inputs)) {
            *score += symmetric::with_one(row, features);
        }
        Ok(())
    }

    /// The correction of an output as a linear function: fills `weights` (one per feature) and returns the bias.
    pub fn readout(&self, output: usize, weights: &mut [f32]) -> Option<f32> {
        let inputs = self.features + 1;
        let start = HEADER + inputs * (inputs + 1) / 2 + self.outputs * inputs;
        let rows = self.memory.get(start..)?.chunks_exact(inputs).take(self.outputs);
        let (bias, row) = rows.into_iter().nth(output)?.split_last()?;
        (weights.len() == row.len()).then(|| {
            weights.copy_from_slice(row);
            *bias
        })
    }

    /// The learned words, to save and to attach to.
    pub fn state(&self) -> &[f32] {
        &self.memory[..self.memory.len() - 2 * (self.features + 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::super::problems;
    use super::*;

    const N: usize = 6;
    const D: usize = 2;

    fn fresh(options: RegressionOptions) -> Regression<'static> {
        Regression::init(N, D, options, vec![f32::NAN; Regression::memory(N, D) / 4].leak()).unwrap()
    }

    /// Features, and two linear functions of them with a little noise; `turn` changes the functions.
    fn samples(count: usize, turn: f32) -> Vec<(Vec<f32>, [f32; D])> {
        let of = |(i, (x, _)): (usize, (Vec<f32>, usize))| {
            let noise = ((i * 37) % 11) as f32 / 11.0 - 0.5;
            let a = 2.0 * x[0] - x[1] + 0.5 * x[4] + 3.0 + turn + 0.1 * noise;
            let b = (1.0 + turn) * x[2] + x[3] * 0.25 - 1.0 - 0.1 * noise;
            (x, [a, b])
        };
        problems::samples(2, N, count, 5).into_iter().enumerate().map(of).collect()
    }

    /// What the "network" says of a sample.
    fn network(x: &[f32]) -> [f32; D] {
        [x[0], 0.5]
    }

    fn predicted(head: &mut Regression<'_>, x: &[f32]) -> [f32; D] {
        let mut scores = network(x);
        head.predict(x, &mut scores).unwrap();
        scores
    }

    fn fit(head: &mut Regression<'_>, x: &[f32], targets: &[f32; D]) {
        let predictions = predicted(head, x);
        head.fit(x, targets, &predictions).unwrap();
    }

    /// Mean squared error.
    fn error(head: &mut Regression<'_>, samples: &[(Vec<f32>, [f32; D])]) -> f32 {
        let sum: f32 = samples
            .iter()
            .map(|(x, y)| predicted(head, x).iter().zip(y).map(|(p, y)| (p - y) * (p - y)).sum::<f32>())
            .sum();
        sum / (D * samples.len()) as f32
    }

    #[test]
    fn is_the_ridge_regression_of_all_samples() {
        let samples = samples(200, 0.0);
        let mut head = fresh(RegressionOptions { ridge: 2.0, forgetting: 1.0 });
        let mut normal = vec![0.0; (N + 1) * (N + 2) / 2];
        symmetric::set_identity(&mut normal, N + 1, 2.0);
        let mut sides = vec![vec![0.0; N + 1]; D];
        for (x, y) in &samples {
            let before = network(x);
            fit(&mut head, x, y);
            let x: Vec<f32> = x.iter().copied().chain([1.0]).collect();
            symmetric::add_outer(&mut normal, 1.0, &x);
            for ((side, y), own) in sides.iter_mut().zip(y).zip(before) {
                super::super::vector::add(side, y - own, &x);
            }
        }
        symmetric::factorise(&mut normal, N + 1, 1e-9);
        for (output, side) in sides.iter_mut().enumerate() {
            symmetric::solve(&normal, side);
            let mut row = [0.0; N];
            let bias = head.readout(output, &mut row).unwrap();
            for (a, b) in row.iter().chain([&bias]).zip(side) {
                assert!((a - *b).abs() < 2e-3, "{a} {b}");
            }
        }
        assert!(error(&mut head, &samples) < 0.02);
        assert_eq!(head.readout(D, &mut [0.0; N]), None);
        assert_eq!(head.readout(0, &mut [0.0; N + 1]), None);
    }

    /// Half a million samples, one feature that never speaks, and a change in the end.
    #[test]
    fn stays_stable_and_follows_changes() {
        let (before, after) = (samples(500, 0.0), samples(500, 1.5));
        for forgetting in [1.0, 0.99] {
            let mut head = fresh(RegressionOptions { ridge: 0.1, forgetting });
            let silent = |x: &[f32]| -> Vec<f32> {
                x.iter().enumerate().map(|(i, x)| if i == 5 { 0.0 } else { *x }).collect()
            };
            for i in 0..500_000 {
                let (x, y) = &before[i % 500];
                fit(&mut head, &silent(x), y);
            }
            let own: Vec<_> = before.iter().map(|(x, y)| (silent(x), *y)).collect();
            assert!(error(&mut head, &own) < 0.01, "{forgetting}: {}", error(&mut head, &own));
            for (x, y) in after.iter().chain(&after) {
                fit(&mut head, &silent(x), y);
            }
            let own: Vec<_> = after.iter().map(|(x, y)| (silent(x), *y)).collect();
            let left = error(&mut head, &own);
            assert_eq!(left < 0.02, forgetting < 1.0, "{forgetting}: {left}");
        }
    }

    #[test]
    fn refuses_and_resumes() {
        let samples = samples(100, 0.0);
        let needed = Regression::memory(N, D);
        let options = RegressionOptions { ridge: 1.0, forgetting: 0.98 };
        let mut memory = vec![0.0; needed / 4];
        let short = Regression::init(N, D, options, &mut memory[1..]).err();
        assert_eq!(short, Some(HeadError::Memory { needed, given: needed - 4 }));
        for (features, outputs, ridge, forgetting) in [
            (0, D, 1.0, 1.0),
            (N, 0, 1.0, 1.0),
            (N, 65, 1.0, 1.0),
            (N, D, 0.0, 1.0),
            (N, D, f32::NAN, 1.0),
            (N, D, 1.0, 1.1),
            (N, D, 1.0, 0.0),
            (usize::MAX, D, 1.0, 1.0),
        ] {
            let mut memory = vec![0.0; 8000];
            let options = RegressionOptions { ridge, forgetting };
            assert_eq!(
                Regression::init(features, outputs, options, &mut memory).err(),
                Some(HeadError::Shape)
            );
        }
        let mut head = Regression::init(N, D, options, &mut memory).unwrap();
        samples[..50].iter().for_each(|(x, y)| fit(&mut head, x, y));
        let before = head.state().to_vec();
        let (x, y) = &samples[50];
        assert_eq!(head.fit(&x[1..], y, y), Err(HeadError::Features));
        assert_eq!(head.fit(x, &y[1..], y), Err(HeadError::Scores));
        assert_eq!(head.fit(x, &[f32::NAN, 0.0], y), Err(HeadError::Scores));
        assert_eq!(head.fit(&[1e30; N], y, y), Err(HeadError::Features));
        assert_eq!(head.learn(x, 0), Err(HeadError::Label));
        assert_eq!(head.predict(x, &mut [0.0; D + 1]), Err(HeadError::Scores));
        assert_eq!(head.state(), before);
        let mut taken_up = vec![f32::NAN; needed / 4];
        taken_up[..before.len()].copy_from_slice(&before);
        let mut second = Regression::attach(N, D, options, &mut taken_up).unwrap();
        for (x, y) in &samples[50..] {
            fit(&mut head, x, y);
            fit(&mut second, x, y);
        }
        assert_eq!(head.state(), second.state());
    }

    #[test]
    fn no_state_can_make_it_panic() {
        for fill in [f32::NAN, f32::INFINITY, -1.0, f32::MAX, 0.0] {
            let options = RegressionOptions { ridge: 1.0, forgetting: 0.9 };
            let mut memory = vec![fill; Regression::memory(N, D) / 4];
            let mut head = Regression::attach(N, D, options, &mut memory).unwrap();
            for (x, y) in samples(30, 0.0) {
                let mut scores = network(&x);
                let _ = head.predict(&x, &mut scores);
                let _ = head.fit(&x, &y, &scores);
            }
        }
    }
}
