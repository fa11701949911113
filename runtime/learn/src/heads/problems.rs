//! Small problems to test every head on.

use super::{Head, HeadError, best};

type Sample = (Vec<f32>, usize);

/// Uniform numbers in [0, 1).
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / 16_777_216.0
    }

    /// Nearly normal, with variance one.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }
}

/// Classes around their own centres, with the same correlated noise for all: a covariance far from spherical.
pub(super) fn samples(classes: usize, features: usize, count: usize, seed: u64) -> Vec<Sample> {
    let mut random = Random(seed);
    let centres: Vec<f32> = (0..classes * features).map(|_| random.normal() * 1.1).collect();
    let mixture: Vec<f32> = (0..features * 2).map(|_| random.normal() * 0.9).collect();
    (0..count)
        .map(|_| {
            let class = (random.uniform() * classes as f32) as usize;
            let common = [random.normal(), random.normal()];
            let x = (0..features).map(|i| {
                let shared = mixture[i] * common[0] + mixture[features + i] * common[1];
                centres[class * features + i] + shared + random.normal() * 0.6 + 0.5
            });
            (x.collect(), class)
        })
        .collect()
}

/// Fraction of samples that are predicted right.
pub(super) fn accuracy<'a, H: Head<'a, Feature = f32, Score = f32>>(
    head: &H,
    classes: usize,
    samples: &[Sample],
) -> f32 {
    let mut scores = vec![0.0; classes];
    let hits = samples.iter().filter(|(x, y)| {
        head.predict(x, &mut scores).unwrap();
        best(&scores) == Some(*y)
    });
    hits.count() as f32 / samples.len() as f32
}

/// A head on float32 features, in memory that lives as long as the tests.
pub(super) trait FloatHead: Head<'static, Feature = f32, Word = f32, Score = f32> {}

impl<H: Head<'static, Feature = f32, Word = f32, Score = f32>> FloatHead for H {}

const FEATURES: usize = 12;
const CLASSES: usize = 4;

fn memory<H: FloatHead>() -> &'static mut [f32] {
    // The previous content of the memory does not matter.
    vec![f32::NAN; H::memory(FEATURES, CLASSES) / 4].leak()
}

fn learn<'s, H: FloatHead>(head: &mut H, samples: impl IntoIterator<Item = &'s Sample>) {
    for (x, y) in samples {
        head.learn(x, *y).unwrap();
    }
    head.refresh();
}

/// Four classes from one pass over 1,000 samples.
pub(super) fn learns<H: FloatHead>(options: fn() -> H::Options, expected: f32) {
    let samples = samples(CLASSES, FEATURES, 2000, 11);
    let mut head = H::init(FEATURES, CLASSES, options(), memory::<H>()).unwrap();
    learn(&mut head, &samples[..1000]);
    let accuracy = accuracy(&head, CLASSES, &samples[1000..]);
    assert!(accuracy >= expected, "{accuracy}");
    // The linear classifier it exports predicts the same classes.
    let mut rows = vec![(0.0, [0.0; FEATURES]); CLASSES];
    for (class, (bias, row)) in rows.iter_mut().enumerate() {
        *bias = head.readout(class, row).unwrap();
    }
    assert_eq!(head.readout(CLASSES, &mut [0.0; FEATURES]), None);
    assert_eq!(head.readout(0, &mut [0.0; FEATURES + 1]), None);
    let same = samples[1000..].iter().filter(|(x, _)| {
        let mut scores = [0.0; CLASSES];
        head.predict(x, &mut scores).unwrap();
        let linear: Vec<f32> =
            rows.iter().map(|(b, w)| w.iter().zip(x).fold(*b, |s, (w, x)| s + w * x)).collect();
        best(&scores) == best(&linear)
    });
    assert!(same.count() >= 998);
}

/// How samples of the added class arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// Only the new class.
    Alone,
    /// All classes mixed.
    Mixed,
}

/// Learns three classes, then a fourth. Afterwards all four are known; before, the fourth is never predicted.
pub(super) fn takes_a_class_later<H: FloatHead>(options: fn() -> H::Options, added: Added, expected: f32) {
    let samples = samples(CLASSES, FEATURES, 2000, 11);
    let (train, test) = samples.split_at(1000);
    let new = CLASSES - 1;
    let mut head = H::init(FEATURES, CLASSES, options(), memory::<H>()).unwrap();
    learn(&mut head, train[..600].iter().filter(|(_, y)| *y != new));
    let mut scores = [0.0; CLASSES];
    for (x, _) in test {
        head.predict(x, &mut scores).unwrap();
        assert_eq!(scores[new], f32::NEG_INFINITY);
    }
    learn(&mut head, train[600..].iter().filter(|(_, y)| added == Added::Mixed || *y == new));
    let accuracy = accuracy(&head, CLASSES, test);
    assert!(accuracy >= expected, "{accuracy}");
    let of_new: Vec<Sample> = test.iter().filter(|(_, y)| *y == new).cloned().collect();
    assert!(self::accuracy(&head, CLASSES, &of_new) >= expected);
}

/// Invalid input is refused and leaves the head unchanged; a saved state continues where it stopped.
pub(super) fn refuses_and_resumes<H: FloatHead>(options: fn() -> H::Options) {
    let samples = samples(CLASSES, FEATURES, 300, 11);
    let needed = H::memory(FEATURES, CLASSES);
    let short = &mut memory::<H>()[1..];
    let error = HeadError::Memory { needed, given: needed - 4 };
    assert_eq!(H::init(FEATURES, CLASSES, options(), short).err(), Some(error));
    assert_eq!(H::init(0, CLASSES, options(), memory::<H>()).err(), Some(HeadError::Shape));
    assert_eq!(H::init(FEATURES, 0, options(), memory::<H>()).err(), Some(HeadError::Shape));
    assert!(H::init(usize::MAX, CLASSES, options(), memory::<H>()).is_err());
    assert!(H::init(FEATURES, usize::MAX, options(), memory::<H>()).is_err());

    let mut head = H::init(FEATURES, CLASSES, options(), memory::<H>()).unwrap();
    learn(&mut head, &samples[..150]);
    let before = head.state().to_vec();
    let x = &samples[150].0;
    assert_eq!(head.learn(&[&x[..], &[0.0]].concat(), 0), Err(HeadError::Features));
    assert_eq!(head.learn(&[], 0), Err(HeadError::Features));
    assert_eq!(head.learn(x, CLASSES), Err(HeadError::Label));
    for bad in [f32::NAN, f32::INFINITY] {
        let mut x = x.clone();
        x[FEATURES - 1] = bad;
        assert_eq!(head.learn(&x, 0), Err(HeadError::Features));
        assert_eq!(head.predict(&x, &mut [0.0; CLASSES]), Err(HeadError::Features));
    }
    assert_eq!(head.predict(x, &mut [0.0; CLASSES - 1]), Err(HeadError::Scores));
    assert_eq!(head.state(), before);

    let taken_up = memory::<H>();
    taken_up[..before.len()].copy_from_slice(&before);
    let mut second = H::resume(FEATURES, CLASSES, options(), taken_up).unwrap();
    learn(&mut head, &samples[150..]);
    learn(&mut second, &samples[150..]);
    assert_eq!(head.state(), second.state());
    let (mut a, mut b) = ([0.0; CLASSES], [0.0; CLASSES]);
    head.predict(x, &mut a).unwrap();
    second.predict(x, &mut b).unwrap();
    assert_eq!(a, b);
}
