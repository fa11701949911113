//! A thousand steps of every head on numbers that need no library, and a checksum of what they end in. Builds without
//! `std`, so that a board can run it.

use offshoot::base::crc::Crc32;
use offshoot::learn::heads::{
    Boosted, BoostedOptions, Head, Lda, LdaOptions, LeastSquares, LeastSquaresOptions, NearestMean,
    NearestMeanI8, NearestMeanOptions, Shrinkage, Simplex, SimplexOptions, Softmax, SoftmaxOptions,
};

const FEATURES: usize = 20;
const CLASSES: usize = 5;
const STEPS: u32 = 1000;

/// Words that the largest head takes.
const WORDS: usize = 1024;

/// Features in −128..=127 that depend on the class, and the class.
fn sample(step: u32) -> ([i8; FEATURES], usize) {
    let mut random = step.wrapping_mul(0x9e37_79b9) ^ 0x5bd1_e995;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        random >> 9
    };
    let class = next() as usize % CLASSES;
    let features = core::array::from_fn(|i| {
        let centre = (class * 37 + i * 53) % 61;
        (centre as i32 - 30 + (next() % 120) as i32 - 60) as i8
    });
    (features, class)
}

fn floats(features: [i8; FEATURES]) -> [f32; FEATURES] {
    features.map(|f| f32::from(f) / 30.0)
}

fn digest<'a, H: Head<'a, Feature = f32, Word = f32, Score = f32>>(
    options: H::Options,
    memory: &'a mut [f32],
) -> u32 {
    let Ok(mut head) = H::init(FEATURES, CLASSES, options, memory) else { return 0 };
    for step in 0..STEPS {
        let (features, class) = sample(step);
        let _ = head.learn(&floats(features), class);
    }
    head.refresh();
    let mut scores = [0.0; CLASSES];
    let _ = head.predict(&floats(sample(STEPS).0), &mut scores);
    let words = head.state().iter().chain(&scores);
    words.fold(Crc32::new(), |sum, word| sum.update(&word.to_le_bytes())).finish()
}

fn integer_digest(memory: &mut [i32]) -> u32 {
    let Ok(mut head) = NearestMeanI8::init(FEATURES, CLASSES, (), memory) else { return 0 };
    for step in 0..STEPS {
        let (features, class) = sample(step);
        let _ = head.learn(&features, class);
    }
    let mut scores = [0; CLASSES];
    let _ = head.predict(&sample(STEPS).0, &mut scores);
    let sum = head.state().iter().fold(Crc32::new(), |sum, word| sum.update(&word.to_le_bytes()));
    scores.iter().fold(sum, |sum, score| sum.update(&score.to_le_bytes())).finish()
}

/// Shows the digest of each head.
pub(crate) fn all(mut show: impl FnMut(&'static str, u32)) {
    let mut memory = [0.0; WORDS];
    let memory = &mut memory[..];
    show("softmax", digest::<Softmax<'_>>(SoftmaxOptions::default(), memory));
    show("nearest mean", digest::<NearestMean<'_>>(NearestMeanOptions::default(), memory));
    show("nearest mean, int8", integer_digest(&mut [0; FEATURES * CLASSES + CLASSES]));
    let part = LdaOptions { shrinkage: Shrinkage::Part(0.02), ..LdaOptions::default() };
    show("lda", digest::<Lda<'_>>(part, memory));
    show("lda, usual shrinkage", digest::<Lda<'_>>(LdaOptions::default(), memory));
    show("least squares", digest::<LeastSquares<'_>>(LeastSquaresOptions::default(), memory));
    show("simplex", digest::<Simplex<'_>>(SimplexOptions::default(), memory));
    show("boosted", digest::<Boosted<'_>>(BoostedOptions { widths: &[5, 7, 8], step: 1.0 }, memory));
}
