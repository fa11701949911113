//! How well the heads adapt to a new speaker, and take a class that the network never saw.
//!
//! ```text
//! cargo run --release -p offshoot --example heads_on_digits [FOLDER]
//! ```
//! `FOLDER` holds `x.npy` (N, 49, 10, float32 MFCC), `y.npy` and `speaker.npy` (Free Spoken Digit Dataset); without it,
//! `../shared/data/spoken_digits`. For each of six speakers and three seeds, a network of one hidden layer is trained on
//! the other five by plain gradient descent; its hidden layer then stays as it is, and heads learn on it:
//!
//! - *before*: the head has seen the five speakers, once, and predicts the sixth;
//! - *after*: then 100 utterances of the sixth, once, in random order; tested on the sixth's other 400;
//! - *only*: those 100 utterances and nothing before;
//! - *digit added*: network and head trained on the digits 0 to 8 of five speakers; then 30 nines of those speakers,
//!   alone. Tested on the five speakers' held-out utterances: *old* digits, and *new*.

use std::path::{Path, PathBuf};

use offshoot::learn::heads::{
    Boosted, BoostedOptions, Head, Lda, LdaOptions, LeastSquares, LeastSquaresOptions, NearestMean,
    NearestMeanOptions, Simplex, SimplexOptions, Softmax, SoftmaxOptions, best,
};

const INPUTS: usize = 490;
const HIDDEN: usize = 64;
const CLASSES: usize = 10;
const SPEAKERS: usize = 6;
const EPOCHS: usize = 12;
const SEEDS: u64 = 3;

fn main() {
    let folder =
        std::env::args().nth(1).map_or_else(|| PathBuf::from("../shared/data/spoken_digits"), PathBuf::from);
    let Some(digits) = Digits::read(&folder) else {
        eprintln!("no spoken digits in {}: give their folder as an argument", folder.display());
        std::process::exit(1);
    };
    println!("{HIDDEN} features, {SPEAKERS} speakers x {SEEDS} seeds; % correct, mean (standard deviation)");
    println!(
        "{:<14} {:>14} {:>14} {:>14} {:>14} {:>14} {:>8}",
        "head", "before", "after", "only", "old", "new", "bytes"
    );
    let folds: Vec<(Fold, Fold)> = (0..SEEDS)
        .flat_map(|seed| (0..SPEAKERS).map(move |speaker| (speaker, seed)))
        .map(|(speaker, seed)| {
            (Fold::new(&digits, speaker, seed, CLASSES), Fold::new(&digits, speaker, seed, 9))
        })
        .collect();
    let network = folds.iter().map(|(fold, _)| 100.0 * fold.network_accuracy).collect::<Vec<_>>();
    println!("{:<14} {}", "none (network)", shown(&network));
    row::<Softmax<'_>>("softmax", &folds, SoftmaxOptions::default);
    row::<NearestMean<'_>>("nearest mean", &folds, NearestMeanOptions::default);
    row::<NearestMean<'_>>("  window 10", &folds, || NearestMeanOptions { window: 10.0 });
    row::<Lda<'_>>("lda", &folds, LdaOptions::default);
    row::<Lda<'_>>("  window 10", &folds, || LdaOptions { window: 10.0, ..LdaOptions::default() });
    row::<LeastSquares<'_>>("least squares", &folds, LeastSquaresOptions::default);
    row::<LeastSquares<'_>>("  forget 0.99", &folds, || LeastSquaresOptions {
        forgetting: 0.99,
        ..LeastSquaresOptions::default()
    });
    row::<Simplex<'_>>("simplex", &folds, SimplexOptions::default);
    row::<Boosted<'_>>("boosted 2x32", &folds, || BoostedOptions { widths: &[32, 32], step: 1.0 });
}

/// Measures one head on all folds and prints its row.
fn row<H: Head<'static, Feature = f32, Word = f32, Score = f32>>(
    name: &str,
    folds: &[(Fold, Fold)],
    options: fn() -> H::Options,
) {
    let make = || {
        let memory = vec![0.0; H::memory(HIDDEN, CLASSES) / 4].leak();
        H::init(HIDDEN, CLASSES, options(), memory).expect("memory as asked for")
    };
    let mut columns = [const { Vec::new() }; 5];
    for (fold, nine) in folds {
        let mut head = make();
        learn(&mut head, &fold.train);
        columns[0].push(accuracy(&head, &fold.test));
        learn(&mut head, &fold.adapt);
        columns[1].push(accuracy(&head, &fold.test));
        let mut head = make();
        learn(&mut head, &fold.adapt);
        columns[2].push(accuracy(&head, &fold.test));
        let mut head = make();
        learn(&mut head, &nine.train);
        learn(&mut head, &nine.added);
        columns[3].push(accuracy(&head, &nine.held_out_old));
        columns[4].push(accuracy(&head, &nine.held_out_new));
    }
    let cells: Vec<String> = columns.iter().map(|c| shown(c)).collect();
    println!("{name:<14} {} {:>8}", cells.join(" "), H::memory(HIDDEN, CLASSES));
}

fn learn<H: Head<'static, Feature = f32>>(head: &mut H, samples: &[Sample]) {
    for (x, y) in samples {
        head.learn(x, *y).expect("finite features");
    }
    head.refresh();
}

fn accuracy<H: Head<'static, Feature = f32, Score = f32>>(head: &H, samples: &[Sample]) -> f64 {
    let mut scores = [0.0; CLASSES];
    let hits = samples.iter().filter(|(x, y)| {
        head.predict(x, &mut scores).expect("finite features");
        best(&scores) == Some(*y)
    });
    100.0 * hits.count() as f64 / samples.len() as f64
}

fn shown(values: &[f64]) -> String {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (values.len() - 1) as f64;
    format!("{:>14}", format!("{mean:.1} ({:.1})", variance.sqrt()))
}

type Sample = (Vec<f32>, usize);

/// The data of one speaker left out, as features of a network trained on the others.
struct Fold {
    network_accuracy: f64,
    train: Vec<Sample>,
    adapt: Vec<Sample>,
    test: Vec<Sample>,
    added: Vec<Sample>,
    held_out_old: Vec<Sample>,
    held_out_new: Vec<Sample>,
}

impl Fold {
    /// With the network and `train` knowing the first `known` digits only.
    fn new(digits: &Digits, speaker: usize, seed: u64, known: usize) -> Self {
        let mut random = Random(seed * 100 + speaker as u64 + 1);
        let (mut others, mut own): (Vec<usize>, Vec<usize>) =
            (0..digits.labels.len()).partition(|&i| digits.speakers[i] != speaker);
        random.shuffle(&mut others);
        random.shuffle(&mut own);
        let (held_out, others) = others.split_at(500);
        let train: Vec<usize> = others.iter().copied().filter(|&i| digits.labels[i] < known).collect();
        let network = Network::train(digits, &train, &mut random);
        let features = |indices: &[usize]| -> Vec<Sample> {
            indices.iter().map(|&i| (network.hidden(digits.input(i)), digits.labels[i])).collect()
        };
        let of = |from: &[usize], keep: fn(usize, usize) -> bool| -> Vec<usize> {
            from.iter().copied().filter(|&i| keep(digits.labels[i], known)).collect()
        };
        let added = of(others, |label, known| label >= known);
        let hits =
            own[100..].iter().filter(|&&i| network.predict(digits.input(i)) == digits.labels[i]).count();
        Self {
            network_accuracy: hits as f64 / (own.len() - 100) as f64,
            train: features(&train),
            adapt: features(&own[..100]),
            test: features(&own[100..]),
            added: features(&added[..added.len().min(30)]),
            held_out_old: features(&of(held_out, |label, known| label < known)),
            held_out_new: features(&of(held_out, |label, known| label >= known)),
        }
    }
}

/// One hidden layer, tanh, softmax; trained by backpropagation, one sample at a time, the rate going down to nothing.
struct Network {
    hidden: Vec<f32>,
    output: Vec<f32>,
}

impl Network {
    fn train(digits: &Digits, indices: &[usize], random: &mut Random) -> Self {
        let mut network = Self {
            hidden: (0..HIDDEN * (INPUTS + 1)).map(|_| random.normal() / (INPUTS as f32).sqrt()).collect(),
            output: vec![0.0; CLASSES * (HIDDEN + 1)],
        };
        let mut order = indices.to_vec();
        let steps = (EPOCHS * order.len()) as f32;
        for epoch in 0..EPOCHS {
            random.shuffle(&mut order);
            for (step, &i) in order.iter().enumerate() {
                let rate = 0.01 * (1.0 - (epoch * order.len() + step) as f32 / steps);
                network.step(digits.input(i), digits.labels[i], rate);
            }
        }
        network
    }

    fn hidden(&self, x: &[f32]) -> Vec<f32> {
        self.hidden.chunks(INPUTS + 1).map(|row| (dot(row, x) + row[INPUTS]).tanh()).collect()
    }

    fn scores(&self, h: &[f32]) -> Vec<f32> {
        self.output.chunks(HIDDEN + 1).map(|row| dot(row, h) + row[HIDDEN]).collect()
    }

    fn predict(&self, x: &[f32]) -> usize {
        best(&self.scores(&self.hidden(x))).unwrap_or(0)
    }

    fn step(&mut self, x: &[f32], label: usize, rate: f32) {
        let h = self.hidden(x);
        let scores = self.scores(&h);
        let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let powers: Vec<f32> = scores.iter().map(|s| (s - highest).exp()).collect();
        let sum: f32 = powers.iter().sum();
        let mut back = vec![0.0; HIDDEN];
        for (class, row) in self.output.chunks_mut(HIDDEN + 1).enumerate() {
            let error = powers[class] / sum - f32::from(u8::from(class == label));
            for ((w, b), h) in row.iter_mut().zip(&mut back).zip(&h) {
                *b += error * *w;
                *w -= rate * error * h;
            }
            row[HIDDEN] -= rate * error;
        }
        for ((row, b), h) in self.hidden.chunks_mut(INPUTS + 1).zip(back).zip(&h) {
            let error = rate * b * (1.0 - h * h);
            row.iter_mut().zip(x).for_each(|(w, x)| *w -= error * x);
            row[INPUTS] -= error;
        }
    }
}

/// In eight partial sums, which a compiler makes vectors of; a fixed order all the same.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 8];
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn normal(&mut self) -> f32 {
        (0..12).map(|_| (self.next() % 65_536) as f32 / 65_536.0).sum::<f32>() - 6.0
    }

    fn shuffle(&mut self, items: &mut [usize]) {
        for i in (1..items.len()).rev() {
            items.swap(i, (self.next() % (i as u64 + 1)) as usize);
        }
    }
}

/// The data set, each coefficient brought to mean 0 and variance 1.
struct Digits {
    inputs: Vec<f32>,
    labels: Vec<usize>,
    speakers: Vec<usize>,
}

impl Digits {
    fn read(folder: &Path) -> Option<Self> {
        let array = |name: &str| npy(&std::fs::read(folder.join(name)).ok()?);
        let whole = |name: &str| Some(array(name)?.into_iter().map(|v| v as usize).collect::<Vec<_>>());
        let mut inputs: Vec<f32> = array("x.npy")?.into_iter().map(|v| v as f32).collect();
        let (labels, speakers) = (whole("y.npy")?, whole("speaker.npy")?);
        if inputs.len() != labels.len() * INPUTS || labels.len() != speakers.len() {
            return None;
        }
        for coefficient in 0..10 {
            let each = || (coefficient..inputs.len()).step_by(10);
            let count = each().count() as f32;
            let mean = each().map(|i| inputs[i]).sum::<f32>() / count;
            let deviation = (each().map(|i| (inputs[i] - mean).powi(2)).sum::<f32>() / count).sqrt();
            for i in each().collect::<Vec<_>>() {
                inputs[i] = (inputs[i] - mean) / deviation;
            }
        }
        Some(Self { inputs, labels, speakers })
    }

    fn input(&self, i: usize) -> &[f32] {
        &self.inputs[i * INPUTS..][..INPUTS]
    }
}

/// The numbers of a `.npy` file of little-endian float32, int64, int32 or uint8.
fn npy(file: &[u8]) -> Option<Vec<f64>> {
    let length = usize::from(u16::from_le_bytes(file.get(8..10)?.try_into().ok()?));
    let (header, data) = file.get(10..)?.split_at_checked(length)?;
    let header = std::str::from_utf8(header).ok()?;
    Some(if header.contains("<f4") {
        data.chunks_exact(4)
            .filter_map(|b| b.try_into().ok())
            .map(|b| f64::from(f32::from_le_bytes(b)))
            .collect()
    } else if header.contains("<i8") {
        data.chunks_exact(8).filter_map(|b| b.try_into().ok()).map(|b| i64::from_le_bytes(b) as f64).collect()
    } else if header.contains("<i4") {
        data.chunks_exact(4)
            .filter_map(|b| b.try_into().ok())
            .map(|b| f64::from(i32::from_le_bytes(b)))
            .collect()
    } else if header.contains("u1") || header.contains("i1") {
        data.iter().map(|&b| f64::from(b)).collect()
    } else {
        return None;
    })
}
