//! The project's own data: seeded generators of small, noisy, labelled sensor data.
//!
//! Nothing is copied from public data sets. Sample `i` of a seed depends only on the seed and `i` (ChaCha8 with `i`
//! as the stream), so a longer set begins with a shorter one; its label is `i` modulo the number of classes. All
//! samples are `uint8`, as from a sensor's converter. Sines and logarithms come from `libm`, so that every machine
//! gives the same bytes.

pub mod glyphs;
pub mod tones;
pub mod vibration;

use ndarray::ArrayD;

use crate::dataset::Dataset;
use crate::npy::Array;
use crate::random::Random;

/// Uniform integer below `n`, which is far below 2^53. The committed data were drawn in this way.
fn index(random: &mut Random, n: usize) -> usize {
    random.within(0.0..n as f64) as usize
}

/// The conditions under which the samples were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The conditions for which the shipped models are trained.
    Usual,
    /// Other conditions, which a model meets in the field and has to adapt to; each generator defines them.
    Shifted,
}

/// A generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Task {
    Vibration,
    Glyphs,
    Tones,
}

impl Task {
    /// All generators.
    pub const ALL: [Self; 3] = [Self::Vibration, Self::Glyphs, Self::Tones];

    /// Lower-case name, also the name of the model's folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vibration => "vibration",
            Self::Glyphs => "glyphs",
            Self::Tones => "tones",
        }
    }

    /// Names of the labels from 0.
    pub fn classes(self) -> &'static [&'static str] {
        match self {
            Self::Vibration => &vibration::CLASSES,
            Self::Glyphs => &glyphs::CLASSES,
            Self::Tones => &tones::CLASSES,
        }
    }

    /// Shape of a sample: height, width, channels.
    pub fn shape(self) -> [usize; 3] {
        match self {
            Self::Vibration => [1, vibration::LENGTH, 3],
            Self::Glyphs => [glyphs::SIDE, glyphs::SIDE, 1],
            Self::Tones => [tones::FRAMES, tones::BANDS, 1],
        }
    }

    /// The first `count` samples of a seed: `x` is `[count, height, width, channels]`.
    pub fn generate(self, condition: Condition, seed: u64, count: usize) -> Dataset {
        let classes = self.classes();
        let mut x = Vec::with_capacity(count * self.shape().iter().product::<usize>());
        let mut y = Vec::with_capacity(count);
        for index in 0..count {
            let label = index % classes.len();
            let mut random = Random::new(seed, index as u64);
            match self {
                Self::Vibration => vibration::sample(label, condition, &mut random, &mut x),
                Self::Glyphs => glyphs::sample(label, condition, &mut random, &mut x),
                Self::Tones => tones::sample(label, condition, &mut random, &mut x),
            }
            y.push(label as i64);
        }
        let [h, w, c] = self.shape();
        // Every generator appends exactly the elements of its shape.
        let x = ArrayD::from_shape_vec(vec![count, h, w, c], x).expect("one sample's elements a sample");
        Dataset { x: Array::U8(x), y, classes: classes.iter().map(ToString::to_string).collect() }
    }
}

/// A converter's output: `value` with full scale -1..1 as offset binary.
fn offset_binary(value: f64) -> u8 {
    libm::round(128.0 + 128.0 * value).clamp(0.0, 255.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(data: &Dataset) -> &[u8] {
        match &data.x {
            Array::U8(a) => a.as_slice().unwrap(),
            other => panic!("{} instead of uint8", other.dtype()),
        }
    }

    /// A change of a generator requires regenerating the models; these checksums detect it.
    #[test]
    fn samples_are_the_same_bytes_everywhere() {
        let wanted = [
            (Task::Vibration, 490_336_592u32, 872_728_205u32),
            (Task::Glyphs, 424_072_336, 2_793_700_758),
            (Task::Tones, 2_811_753_246, 1_901_187_563),
        ];
        let found = wanted.map(|(task, ..)| {
            let of = |condition| crc32fast::hash(bytes(&task.generate(condition, 7, 20)));
            (task, of(Condition::Usual), of(Condition::Shifted))
        });
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_longer_set_begins_with_a_shorter_one_and_seeds_differ() {
        for task in Task::ALL {
            let (short, long) =
                (task.generate(Condition::Usual, 1, 12), task.generate(Condition::Usual, 1, 30));
            assert_eq!(bytes(&short), &bytes(&long)[..bytes(&short).len()]);
            assert_ne!(bytes(&short), bytes(&task.generate(Condition::Usual, 2, 12)));
            assert_eq!(long.y[..], (0..30).map(|i| i % task.classes().len() as i64).collect::<Vec<_>>());
        }
    }

    #[test]
    fn samples_use_the_converter_s_range_without_sticking_to_its_ends() {
        for task in Task::ALL {
            for condition in [Condition::Usual, Condition::Shifted] {
                let data = task.generate(condition, 3, 100);
                let stuck = bytes(&data).iter().filter(|&&v| v == 0 || v == 255).count();
                assert!(stuck * 20 < bytes(&data).len(), "{}: {stuck} at the ends", task.name());
                let mean =
                    bytes(&data).iter().map(|&v| f64::from(v)).sum::<f64>() / bytes(&data).len() as f64;
                let spread = bytes(&data).iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>()
                    / bytes(&data).len() as f64;
                assert!(spread.sqrt() > 12.0, "{}: {}", task.name(), spread.sqrt());
            }
        }
    }
}
