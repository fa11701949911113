//! What is normal: mean and covariance of the features of normal samples, and a threshold with a stated rate of false alarms.
//!
//! The score of a sample is its squared Mahalanobis distance from the mean, divided by the number of features: about 1 for normal
//! ones. The covariance is kept as a square root ([`super::square_root`]), which a normal sample updates by Welford's rule,
//! `A += (k − 1)/k · (x − μ)(x − μ)ᵀ`, so a score needs no refresh; `Diagonal` keeps variances alone. After [`WARM`] samples, a
//! multiple of the identity joins that counts as half as many samples as there are features and has the variance seen until then:
//! the mean of the covariance under an inverse Wishart prior (Haff, Ann. Statist. 8(3), 1980). With a window, older samples fade,
//! and the prior is renewed one feature a sample.
//!
//! The threshold is conformal (Laxhammar and Falkman, "Conformal anomaly detection", 2010; Vovk et al. 2005): each normal sample is
//! scored before it is learned, the last scores are kept, and the threshold is the largest of them that at most a fraction α of
//! `m + 1` reach. If a new sample and the `m` kept ones are exchangeable, it exceeds the threshold with a probability of at most α.
//! There is no threshold before `1/α − 1` scores.
//!
//! Memory: five numbers, mean n, root n(n + 1)/2 (`Diagonal`: n), scores, derived 2n. A step takes 5n²/2 multiply-accumulates, a
//! score n²/2 (`Diagonal`: a few n).

use super::{HeadError, check, square_root, vector};

/// Normal samples before there are scores.
pub const WARM: f32 = 16.0;

/// Number of classes: normal and anomalous.
pub const ANOMALY_CLASSES: usize = 2;

/// Class of normal samples.
const NORMAL: usize = 0;

/// Learns what is normal.
#[derive(Debug)]
pub struct Anomaly<'a> {
    memory: &'a mut [f32],
    features: usize,
    options: AnomalyOptions,
}

/// Options of [`Anomaly`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AnomalyOptions {
    /// Whether only variances are kept, and no covariances.
    pub diagonal: bool,
    /// Number of normal samples after which older ones begin to fade; may be infinite.
    pub window: f32,
    /// Greatest rate of false alarms, in units of 1/10000: 1 to 5000.
    pub false_alarms: u16,
    /// Number of scores that the threshold rests on: at least `10000 / false_alarms - 1`.
    pub scores: u16,
}

impl Default for AnomalyOptions {
    fn default() -> Self {
        Self { diagonal: false, window: f32::INFINITY, false_alarms: 100, scores: 256 }
    }
}

impl AnomalyOptions {
    /// Whether they are in their ranges.
    pub fn are_possible(&self) -> bool {
        let alarms = (u32::from(self.scores) + 1) * u32::from(self.false_alarms);
        self.window >= 2.0 && (1..=5000).contains(&self.false_alarms) && alarms >= 10_000
    }
}

/// Numbers at the start of the memory, and their places: normal samples; 1 once the prior is there, else 0; scores so far, less
/// whole rounds; the threshold; the feature whose prior is renewed next.
const HEADER: usize = 5;
const COUNT: usize = 0;
const READY: usize = 1;
const SCORED: usize = 2;
const THRESHOLD: usize = 3;
const TURN: usize = 4;

/// The arrays in the memory.
struct Parts<'p> {
    header: &'p mut [f32],
    mean: &'p mut [f32],
    root: &'p mut [f32],
    scores: &'p mut [f32],
    scratch: &'p mut [f32],
}

impl<'a> Anomaly<'a> {
    /// Words of memory; `None` if there are more than an address can count.
    pub fn words(features: usize, options: &AnomalyOptions) -> Option<usize> {
        let three = features.checked_mul(3)?;
        let root = root_words(features, options.diagonal)?;
        root.checked_add(three)?.checked_add(HEADER + usize::from(options.scores))
    }

    /// Bytes of memory, saturating.
    pub fn memory(features: usize, options: &AnomalyOptions) -> usize {
        Self::words(features, options).map_or(usize::MAX, |words| words.saturating_mul(4))
    }

    /// Attaches to memory that was used before, without changing it.
    ///
    /// # Errors
    /// [`HeadError::Memory`] if the memory is too small; [`HeadError::Shape`] if options are invalid or there are no features.
    pub fn attach(
        features: usize,
        options: AnomalyOptions,
        memory: &'a mut [f32],
    ) -> Result<Self, HeadError> {
        let words = Self::words(features, &options).ok_or(HeadError::Shape)?;
        if features == 0 || !options.are_possible() {
            return Err(HeadError::Shape);
        }
        let given = memory.len().saturating_mul(4);
        let error = HeadError::Memory { needed: words.saturating_mul(4), given };
        Ok(Self { memory: memory.get_mut(..words).ok_or(error)?, features, options })
    }

    /// Attaches to memory, and forgets what it holds.
    ///
    /// # Errors
    /// As [`Self::attach`].
    pub fn init(features: usize, options: AnomalyOptions, memory: &'a mut [f32]) -> Result<Self, HeadError> {
        let mut head = Self::attach(features, options, memory)?;
        head.reset();
        Ok(head)
    }

    fn parts(&mut self) -> Parts<'_> {
        let n = self.features;
        let (header, rest) = self.memory.split_at_mut(HEADER);
        let (mean, rest) = rest.split_at_mut(n);
        let (rest, scratch) = rest.split_at_mut(rest.len() - 2 * n);
        let (root, scores) = rest.split_at_mut(rest.len() - usize::from(self.options.scores));
        Parts { header, mean, root, scores, scratch }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.memory.fill(0.0);
        self.memory[THRESHOLD] = f32::MAX;
    }

    /// Takes a sample: `label` 0 is normal and is learned; 1 is an anomaly, from which nothing is learned.
    ///
    /// # Errors
    /// [`HeadError::Features`] or [`HeadError::Label`]; nothing has changed then.
    pub fn learn(&mut self, features: &[f32], label: usize) -> Result<(), HeadError> {
        check(features, self.features, label, ANOMALY_CLASSES)?;
        let mean = self.parts().mean;
        let energy = mean.iter().zip(features).fold(0.0, |sum, (m, x)| sum + (x - m) * (x - m));
        if !energy.is_finite() {
            return Err(HeadError::Features);
        }
        if label != NORMAL {
            return Ok(());
        }
        if self.memory[READY] > 0.0 {
            let score = self.distance(features);
            self.note(score);
        }
        self.take(features);
        Ok(())
    }

    /// Keeps the score of a normal sample that has not been learned yet, and sets the threshold.
    fn note(&mut self, score: f32) {
        let per_10000 = usize::from(self.options.false_alarms);
        let Parts { header, scores, .. } = self.parts();
        let kept = scores.len();
        let at = (header[SCORED] as usize).min(2 * kept);
        if let Some(place) = scores.get_mut(at % kept) {
            *place = score;
        }
        // The rounds are not counted, so that the number stays exact.
        let next = if at + 1 >= 2 * kept { kept } else { at + 1 };
        header[SCORED] = next as f32;
        let known = &scores[..next.min(kept)];
        let alarms = (known.len() + 1) * per_10000 / 10_000;
        header[THRESHOLD] = if alarms == 0 { f32::MAX } else { smallest(known, known.len() + 1 - alarms) };
    }

    /// Adds a normal sample to mean and covariance.
    fn take(&mut self, features: &[f32]) {
        let (n, options) = (self.features, self.options);
        let prior = n as f32 / 2.0;
        let Parts { header, mean, root, scratch, .. } = self.parts();
        let fades = header[COUNT] >= options.window;
        let count = (header[COUNT] + 1.0).min(16_777_216.0);
        header[COUNT] = count;
        let seen = count.min(options.window);
        let (part, keep) = ((seen - 1.0) / seen, (options.window - 1.0) / options.window);
        if options.diagonal {
            let spread = root.iter().fold(0.0, |sum, &v| sum + v) / (n as f32 * (seen + prior));
            for ((variance, &x), mean) in root.iter_mut().zip(features).zip(mean.iter_mut()) {
                let d = x - *mean;
                if fades {
                    *variance = keep * *variance + spread * prior / options.window;
                }
                *variance += part * d * d;
                *mean += d / seen;
            }
        } else {
            if fades {
                let keep = libm::sqrtf(keep);
                root.iter_mut().for_each(|l| *l *= keep);
                let spread = square_root::trace(root) / (n as f32 * (seen + prior));
                let at = (header[TURN] as usize).min(n - 1);
                // Once in n samples, and so for n samples.
                let amount = libm::sqrtf(n as f32 * spread * prior / options.window);
                square_root::add(root, n, at, scratch, |i| if i == at { amount } else { 0.0 });
                header[TURN] = ((at + 1) % n) as f32;
            }
            let part = libm::sqrtf(part);
            square_root::add(root, n, 0, scratch, |i| {
                let d = features[i] - mean[i];
                mean[i] += d / seen;
                part * d
            });
        }
        if header[READY] > 0.0 || count < WARM {
            return;
        }
        let energy = if options.diagonal {
            root.iter().fold(0.0, |sum, &v| sum + v)
        } else {
            square_root::trace(root)
        };
        let amount = prior * energy / (n as f32 * seen);
        // Without any spread yet, there is nothing to measure distances by.
        if !(amount > 0.0 && amount.is_finite()) {
            return;
        }
        header[READY] = 1.0;
        if options.diagonal {
            root.iter_mut().for_each(|variance| *variance += amount);
        } else {
            let amount = libm::sqrtf(amount);
            for at in 0..n {
                square_root::add(root, n, at, scratch, |i| if i == at { amount } else { 0.0 });
            }
        }
    }

    /// Squared Mahalanobis distance of features from the mean, divided by their number.
    fn distance(&mut self, features: &[f32]) -> f32 {
        let (n, options) = (self.features, self.options);
        let Parts { header, mean, root, scratch, .. } = self.parts();
        let difference = &mut scratch[..n];
        for ((d, &x), &m) in difference.iter_mut().zip(features).zip(mean.iter()) {
            *d = x - m;
        }
        let sum = if options.diagonal {
            difference.iter().zip(root.iter()).fold(0.0, |sum, (d, v)| sum + d * d / v)
        } else {
            square_root::solve_lower(root, difference);
            vector::dot(difference, difference)
        };
        let weight = header[COUNT].min(options.window) + n as f32 / 2.0;
        let distance = sum * weight / n as f32;
        if distance.is_nan() { f32::MAX } else { distance }
    }

    /// Nothing is deferred.
    pub fn refresh(&mut self) {}

    /// Writes the threshold as the score of class 0, and how far the sample is from normal as that of class 1: the sample is an
    /// anomaly if it has the larger one. Without enough samples these are 0 and minus infinity; without enough scores, the
    /// threshold is [`f32::MAX`].
    ///
    /// # Errors
    /// [`HeadError::Features`] or [`HeadError::Scores`]; no score is then written.
    pub fn predict(&mut self, features: &[f32], scores: &mut [f32]) -> Result<(), HeadError> {
        check(features, self.features, NORMAL, ANOMALY_CLASSES)?;
        let [normal, anomalous] = scores else { return Err(HeadError::Scores) };
        if self.memory[READY] > 0.0 {
            *normal = self.memory[THRESHOLD];
            *anomalous = self.distance(features);
        } else {
            [*normal, *anomalous] = [0.0, f32::NEG_INFINITY];
        }
        Ok(())
    }

    /// Distances are no linear classifier.
    pub fn readout(&self, _class: usize, _weights: &mut [f32]) -> Option<f32> {
        None
    }

    /// The learned words, to save and to attach to.
    pub fn state(&self) -> &[f32] {
        &self.memory[..self.memory.len() - 2 * self.features]
    }
}

/// Words of the covariance.
fn root_words(features: usize, diagonal: bool) -> Option<usize> {
    if diagonal { Some(features) } else { super::symmetric::words(features) }
}

/// The number that is smallest but for `rank - 1` others, of numbers that are not negative: their bits have their order.
fn smallest(numbers: &[f32], rank: usize) -> f32 {
    let (mut low, mut high) = (0, u32::MAX);
    while low < high {
        let middle = low + (high - low) / 2;
        let up_to = numbers.iter().filter(|number| number.to_bits() <= middle).count();
        if up_to >= rank {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    f32::from_bits(low)
}

#[cfg(test)]
mod tests {
    use super::super::problems;
    use super::*;

    const N: usize = 8;

    fn fresh(options: AnomalyOptions) -> Anomaly<'static> {
        Anomaly::init(N, options, vec![f32::NAN; Anomaly::memory(N, &options) / 4].leak()).unwrap()
    }

    /// Samples of one cloud, far from spherical.
    fn normal(count: usize, seed: u64) -> Vec<Vec<f32>> {
        problems::samples(1, N, count, seed).into_iter().map(|(x, _)| x).collect()
    }

    fn scored(head: &mut Anomaly<'_>, x: &[f32]) -> [f32; 2] {
        let mut scores = [0.0; 2];
        head.predict(x, &mut scores).unwrap();
        scores
    }

    #[test]
    fn distances_are_those_of_all_samples_at_once() {
        let samples = normal(400, 3);
        for diagonal in [false, true] {
            let mut head = fresh(AnomalyOptions { diagonal, ..AnomalyOptions::default() });
            samples.iter().for_each(|x| head.learn(x, 0).unwrap());
            let count = samples.len() as f64;
            let mean: Vec<f64> =
                (0..N).map(|i| samples.iter().map(|x| f64::from(x[i])).sum::<f64>() / count).collect();
            // The prior: the spread of the first samples, as that of four more.
            let early: Vec<&Vec<f32>> = samples.iter().take(WARM as usize).collect();
            let spread: f64 = (0..N)
                .map(|i| {
                    let m = early.iter().map(|x| f64::from(x[i])).sum::<f64>() / f64::from(WARM);
                    early.iter().map(|x| (f64::from(x[i]) - m).powi(2)).sum::<f64>() / f64::from(WARM)
                })
                .sum::<f64>()
                / N as f64;
            let mut covariance = vec![0.0_f32; N * (N + 1) / 2];
            for i in 0..N {
                for j in 0..=i {
                    let sum: f64 = samples
                        .iter()
                        .map(|x| (f64::from(x[i]) - mean[i]) * (f64::from(x[j]) - mean[j]))
                        .sum();
                    let own = if i == j { sum + 4.0 * spread } else { sum };
                    let kept = i == j || !diagonal;
                    covariance[i * (i + 1) / 2 + j] = if kept { (own / (count + 4.0)) as f32 } else { 0.0 };
                }
            }
            super::super::symmetric::factorise(&mut covariance, N, 1e-9);
            for x in normal(20, 9) {
                let d: Vec<f32> = x.iter().zip(&mean).map(|(x, m)| x - *m as f32).collect();
                let mut solved = d.clone();
                super::super::symmetric::solve(&covariance, &mut solved);
                let expected = vector::dot(&d, &solved) / N as f32;
                let [_, distance] = scored(&mut head, &x);
                assert!((distance - expected).abs() < 2e-3 * expected.max(1.0), "{distance} {expected}");
            }
        }
    }

    #[test]
    fn false_alarms_are_as_rare_as_said() {
        for (false_alarms, scores) in [(100, 256), (500, 64), (1000, 19)] {
            for diagonal in [false, true] {
                let mut head =
                    fresh(AnomalyOptions { diagonal, false_alarms, scores, window: f32::INFINITY });
                // One cloud: the samples of a seed have their own centre.
                let all = normal(7000, 5);
                all[..3000].iter().for_each(|x| head.learn(x, 0).unwrap());
                let alarms = all[3000..].iter().filter(|x| {
                    let [threshold, distance] = scored(&mut head, x);
                    distance > threshold
                });
                let rate = alarms.count() as f64 / 4000.0;
                let said = f64::from(false_alarms) / 10_000.0;
                // Few scores make a threshold that varies.
                assert!(rate < 2.5 * said && rate > said / 20.0, "{rate} {said}");
                let far: Vec<f32> = all[0].iter().enumerate().map(|(i, x)| x + [6.0, -6.0][i % 2]).collect();
                let [threshold, distance] = scored(&mut head, &far);
                assert!(distance > threshold);
            }
        }
    }

    #[test]
    fn there_is_no_threshold_before_there_are_scores_for_it() {
        let mut head = fresh(AnomalyOptions::default());
        for (i, x) in normal(130, 4).iter().enumerate() {
            let scores = scored(&mut head, x);
            match i {
                0..16 => assert_eq!(scores, [0.0, f32::NEG_INFINITY], "{i}"),
                16..115 => assert_eq!(scores[0], f32::MAX, "{i}"),
                _ => assert!(scores[0] < 100.0, "{i} {scores:?}"),
            }
            head.learn(x, 0).unwrap();
        }
    }

    #[test]
    fn a_window_follows_what_shifts_and_does_not_wear_out() {
        for diagonal in [false, true] {
            let options = AnomalyOptions { diagonal, window: 50.0, ..AnomalyOptions::default() };
            let (mut head, mut still) =
                (fresh(options), fresh(AnomalyOptions { window: f32::INFINITY, ..options }));
            let samples = normal(20_000, 7);
            // One feature never varies.
            let moved = |i: usize| -> Vec<f32> {
                let shift = if i < 1000 { 0.0 } else { 5.0 };
                let mut x: Vec<f32> = samples[i].iter().map(|x| x + shift).collect();
                x[3] = 1.0;
                x
            };
            for i in 0..20_000 {
                head.learn(&moved(i), 0).unwrap();
                if i < 1300 {
                    still.learn(&moved(i), 0).unwrap();
                }
            }
            let [threshold, distance] = scored(&mut head, &moved(19_000));
            assert!(distance < threshold && threshold < 50.0, "{distance} {threshold}");
            let [_, old] = scored(&mut head, &moved(3));
            let [_, kept] = scored(&mut still, &moved(3));
            assert!(old > 3.0 * kept, "{old} {kept}");
            // A feature that never varied and now does is an anomaly, and a finite one.
            let mut x = moved(19_001);
            x[3] = 30.0;
            let [threshold, distance] = scored(&mut head, &x);
            assert!(distance > threshold && distance.is_finite(), "{distance} {threshold}");
        }
    }

    #[test]
    fn refuses_and_resumes() {
        let samples = normal(300, 11);
        let options = AnomalyOptions::default();
        let needed = Anomaly::memory(N, &options);
        let mut memory = vec![0.0; needed / 4];
        let short = Anomaly::init(N, options, &mut memory[1..]).err();
        assert_eq!(short, Some(HeadError::Memory { needed, given: needed - 4 }));
        for wrong in [
            AnomalyOptions { window: f32::NAN, ..options },
            AnomalyOptions { window: 1.0, ..options },
            AnomalyOptions { false_alarms: 0, ..options },
            AnomalyOptions { false_alarms: 5001, ..options },
            AnomalyOptions { scores: 98, ..options },
        ] {
            assert_eq!(Anomaly::init(N, wrong, &mut memory).err(), Some(HeadError::Shape), "{wrong:?}");
        }
        assert_eq!(Anomaly::init(0, options, &mut memory).err(), Some(HeadError::Shape));
        assert!(Anomaly::init(usize::MAX, options, &mut memory).is_err());

        let mut head = Anomaly::init(N, options, &mut memory).unwrap();
        samples[..150].iter().for_each(|x| head.learn(x, 0).unwrap());
        let before = head.state().to_vec();
        let x = &samples[150];
        assert_eq!(head.learn(&x[1..], 0), Err(HeadError::Features));
        assert_eq!(head.learn(x, 2), Err(HeadError::Label));
        for bad in [f32::NAN, f32::INFINITY, 1e30] {
            let mut x = x.clone();
            x[2] = bad;
            assert_eq!(head.learn(&x, 0), Err(HeadError::Features));
        }
        assert_eq!(head.predict(x, &mut [0.0; 3]), Err(HeadError::Scores));
        // An anomaly teaches nothing.
        head.learn(x, 1).unwrap();
        assert_eq!(head.state(), before);
        let mut taken_up = vec![f32::NAN; needed / 4];
        taken_up[..before.len()].copy_from_slice(&before);
        let mut second = Anomaly::attach(N, options, &mut taken_up).unwrap();
        for x in &samples[150..] {
            head.learn(x, 0).unwrap();
            second.learn(x, 0).unwrap();
        }
        assert_eq!(head.state(), second.state());
        assert_eq!(scored(&mut head, x), scored(&mut second, x));
    }

    #[test]
    fn no_state_can_make_it_panic() {
        for fill in [f32::NAN, f32::INFINITY, -1.0, f32::MAX, 1e-45] {
            for diagonal in [false, true] {
                let options = AnomalyOptions { diagonal, window: 4.0, ..AnomalyOptions::default() };
                let mut memory = vec![fill; Anomaly::memory(N, &options) / 4];
                let mut head = Anomaly::attach(N, options, &mut memory).unwrap();
                for x in normal(40, 2) {
                    let _ = head.learn(&x, 0);
                    scored(&mut head, &x);
                }
                // Or one number that is wrong.
                for at in 0..HEADER {
                    let mut head = fresh(options);
                    normal(30, 2).iter().for_each(|x| head.learn(x, 0).unwrap());
                    head.memory[at] = fill;
                    for x in normal(40, 2) {
                        let _ = head.learn(&x, 0);
                        scored(&mut head, &x);
                    }
                }
            }
        }
    }
}
