//! Adaptation of a host-trained network to other data: at most 1,000 labelled samples and at most two passes.
//!
//! In the first pass the input statistics follow the data. In both passes, layers learn with normalised steps whose
//! rate falls linearly (the rate of hidden layers rises first). In the second pass, an LDA head is also accumulated
//! on the features as they are at that moment.

use ndarray::ArrayView2;
use offshoot::learn::heads::{Head as _, Lda, LdaOptions, Shrinkage, best};
use offshoot::learn::layers::Slope;
use offshoot::learn::{InputNormalizer, LocalRule, Schedule, TargetProjection};

use crate::batch::{self, BatchTraining};
use crate::data::Samples;
use crate::dense::{Format, Network, Step, Teacher};
use crate::mnist::default_rule;

/// A network trained on the host, and the statistics of its training data.
#[derive(Clone, Debug)]
pub struct Host {
    /// The network, with probes as teachers of hidden layers.
    pub network: Network,
    mean: Vec<f32>,
    energy: f32,
}

/// Number of samples that the host's statistics count as on the device.
const TRUST: f32 = 10.0;

/// Variance of standardised inputs: small enough that units start in the linear part of their tanh and preserve more
/// of the input than the host's classes need.
const VARIANCE: f32 = 0.1;

impl Host {
    /// Trains by backpropagation. Meanwhile each hidden layer's probe learns to predict the classes from it, without
    /// affecting the layer.
    pub fn train(
        widths: &[usize],
        samples: &Samples,
        epochs: usize,
        rate: f32,
        seed: u32,
        tick: &dyn Fn(u64),
    ) -> Self {
        let mut mean = vec![0.0; samples.width];
        let mut standard = InputNormalizer::new(&mut mean, 0.0, VARIANCE * samples.width as f32, 0.0);
        samples.x.chunks(samples.width).for_each(|x| standard.see(x));
        let seen = standardised(&standard, samples);
        let energy = standard.energy();
        let classes = widths[widths.len() - 1];
        let probe = |_, outputs: usize| Teacher::Head { table: vec![0.0; classes * outputs], rate: 1.0 };
        let mut network = Network::new(widths, Slope::Tanh, Format::F32, seed, probe);
        let step = Step { rate, head_rate: rate, last_rate: rate, normalised: false, backprop: true };
        batch::train(
            &mut network,
            &BatchTraining { epochs, batch: 50, step, probes: rate },
            &seen,
            seed,
            tick,
        );
        Self { network, mean, energy }
    }
}

fn standardised(standard: &InputNormalizer<'_>, samples: &Samples) -> Samples {
    let mut seen = samples.clone();
    seen.x.chunks_mut(samples.width.max(1)).for_each(|x| standard.apply(x));
    seen
}

/// The final classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Classifier {
    /// The network's last layer.
    Last,
    /// An LDA head on the last hidden layer.
    Lda,
    /// An LDA head on all hidden layers.
    LdaOfAll,
}

impl Classifier {
    /// Layers whose outputs it reads.
    fn layers(self, count: usize) -> std::ops::Range<usize> {
        match self {
            Self::Last => count - 1..count,
            Self::Lda => count - 2..count - 1,
            Self::LdaOfAll => 0..count - 1,
        }
    }
}

/// An adaptation recipe.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// Name of the row.
    pub name: &'static str,
    /// Rate of hidden layers.
    pub rate: f32,
    /// Rate of the last layer.
    pub last_rate: f32,
    /// Backpropagation through all layers.
    pub backprop: bool,
    /// Replacement for the probes.
    pub teacher: fn(usize, usize) -> Option<Teacher>,
    /// Passes in which layers learn.
    pub passes: usize,
    /// The final classifier.
    pub classifier: Classifier,
    /// Whether the input statistics follow the data.
    pub follows: bool,
    /// Whether the LDA head is accumulated in the last pass, while layers learn, instead of in a pass of its own.
    pub streamed: bool,
    /// Whether the rate of hidden layers rises from 0 over the first of two passes, so that heads learn first.
    pub warms: bool,
    /// Shrinkage of the LDA head.
    pub shrinkage: Shrinkage,
}

impl Recipe {
    /// The recipe with its rates multiplied.
    #[must_use]
    pub fn faster(self, factor: f32) -> Self {
        Self { rate: factor * self.rate, last_rate: factor * self.last_rate, ..self }
    }
}

/// Name of the default recipe. [`SMALL`] takes less memory.
pub const DEFAULT: &str = "probes, lda of all layers";
/// The recipe with an LDA head on the last hidden layer only.
pub const SMALL: &str = "probes, lda head";

/// Recipes in the adaptation tables.
pub fn recipes() -> Vec<Recipe> {
    let base = Recipe {
        name: "none",
        rate: 0.0,
        last_rate: 0.0,
        backprop: false,
        teacher: |_, _| None,
        passes: 1,
        classifier: Classifier::Last,
        follows: false,
        streamed: false,
        warms: false,
        shrinkage: Shrinkage::Prior,
    };
    let follows = Recipe { name: "input statistics only", follows: true, ..base };
    let frozen = |_, _| Some(Teacher::Frozen);
    let backprop = Recipe { rate: 2.0, last_rate: 2.0, backprop: true, ..follows };
    let probes = Recipe { name: "probes", rate: 2.0, last_rate: 2.0, ..follows };
    let small = Recipe {
        name: SMALL,
        rate: 2.0,
        last_rate: 2.0,
        passes: 2,
        classifier: Classifier::Lda,
        streamed: true,
        warms: true,
        ..probes
    };
    vec![
        base,
        follows,
        Recipe { name: "head only", last_rate: 4.0, teacher: frozen, ..follows },
        Recipe { name: "lda head", teacher: frozen, classifier: Classifier::Lda, ..follows },
        Recipe { name: "backprop", ..backprop },
        Recipe { name: "backprop, two passes", passes: 2, ..backprop },
        Recipe {
            name: "random codes",
            rate: 4.0,
            last_rate: 4.0,
            teacher: |l, n| {
                Some(Teacher::Local(default_rule(n), TargetProjection::Signs { seed: 5 + l as u32 }))
            },
            ..follows
        },
        Recipe {
            name: "drtp",
            rate: 0.04,
            last_rate: 4.0,
            teacher: |l, _| {
                Some(Teacher::Local(LocalRule::Drtp, TargetProjection::Signs { seed: 5 + l as u32 }))
            },
            ..follows
        },
        probes,
        small,
        Recipe { name: DEFAULT, classifier: Classifier::LdaOfAll, ..small },
    ]
}

/// A network after adaptation.
#[derive(Debug)]
pub struct Adapted {
    network: Network,
    mean: Vec<f32>,
    energy: f32,
    wanted: f32,
    classifier: Classifier,
    lda: Vec<f32>,
    shrinkage: Shrinkage,
}

/// Adapts a copy of the network.
pub fn adapt(host: &Host, recipe: &Recipe, train: &Samples) -> Adapted {
    let mut network = host.network.clone();
    for (l, layer) in network.layers.iter_mut().enumerate() {
        if let Some(teacher) = (recipe.teacher)(l, layer.bias.len()) {
            layer.teacher = teacher;
        }
    }
    let (mut mean, wanted) = (host.mean.clone(), VARIANCE * train.width as f32);
    let mut standard = InputNormalizer::new(&mut mean, host.energy, wanted, TRUST);
    let steps = (recipe.passes * train.len()) as u32;
    let schedule = Schedule::Linear { steps };
    // A head accumulated while layers learn sees their features as they are at that moment.
    let chosen = recipe.classifier.layers(network.layers.len());
    let width = network.layers[chosen.clone()].iter().map(|l| l.bias.len()).sum();
    let classes = network.layers.last().map_or(0, |l| l.bias.len());
    let mut memory = vec![0.0; Lda::memory(width, classes) / 4];
    let mut head = lda(width, classes, recipe.shrinkage, &mut memory);
    for t in 0..recipe.passes * train.len() {
        let (x, y) = train.at(t % train.len());
        if recipe.follows && t < train.len() {
            standard.see(x);
        }
        let last_pass = t >= (recipe.passes - 1) * train.len();
        if recipe.last_rate > 0.0 {
            let mut x = x.to_vec();
            standard.apply(&mut x);
            if recipe.streamed && last_pass {
                let h = network.forward(&x).drain(chosen.clone()).flatten().collect::<Vec<f32>>();
                // Cannot fail: features are finite, and labels are below the number of classes.
                let _ = head.learn(&h, y);
            }
            let rate = |base| offshoot::learn::schedule::rate(schedule, base, t as u32);
            // Wrong heads must not pull at earlier layers before they have learned (Kumar et al., "Fine-tuning can
            // distort pretrained features", ICLR 2022).
            let warm = if recipe.warms && !last_pass { t as f32 / train.len() as f32 } else { 1.0 };
            let step = Step {
                rate: warm * rate(recipe.rate),
                head_rate: rate(recipe.last_rate),
                last_rate: rate(recipe.last_rate),
                normalised: true,
                backprop: recipe.backprop,
            };
            network.learn(&x, y, step);
        }
    }
    let energy = standard.energy();
    let (classifier, shrinkage) = (recipe.classifier, recipe.shrinkage);
    let mut adapted = Adapted { network, mean, energy, wanted, classifier, lda: memory, shrinkage };
    if recipe.classifier != Classifier::Last && !recipe.streamed {
        let features = adapted.forward(train);
        let mut head = lda(width, classes, recipe.shrinkage, &mut adapted.lda);
        for (h, y) in features.iter().zip(&train.y) {
            // Cannot fail: features are finite, and labels are below the number of classes.
            let _ = head.learn(h, *y);
        }
    }
    adapted
}

fn lda(features: usize, classes: usize, shrinkage: Shrinkage, memory: &mut [f32]) -> Lda<'_> {
    let options = LdaOptions { shrinkage, ..LdaOptions::default() };
    Lda::resume(features, classes, options, memory).expect("memory of its size")
}

impl Adapted {
    fn classes(&self) -> usize {
        self.network.layers.last().map_or(0, |l| l.bias.len())
    }

    fn features(&self) -> usize {
        let chosen = self.classifier.layers(self.network.layers.len());
        self.network.layers[chosen].iter().map(|l| l.bias.len()).sum()
    }

    /// Features or scores of samples.
    fn forward(&self, samples: &Samples) -> Vec<Vec<f32>> {
        let mut mean = self.mean.clone();
        let standard = InputNormalizer::new(&mut mean, self.energy, self.wanted, 1.0);
        let count = self.network.layers.len();
        let chosen = self.classifier.layers(count);
        let mut all = Vec::with_capacity(samples.len());
        for x in samples.x.chunks(500 * samples.width) {
            let mut x = x.to_vec();
            x.chunks_mut(samples.width).for_each(|x| standard.apply(x));
            let rows = x.len() / samples.width;
            let view = ArrayView2::from_shape((rows, samples.width), &x).expect("rows of samples");
            let h = batch::forward(&self.network, view);
            all.extend(
                (0..rows)
                    .map(|r| h[chosen.clone()].iter().flat_map(|h| h.row(r).to_vec()).collect::<Vec<f32>>()),
            );
        }
        all
    }

    /// Predicted class of each sample.
    pub fn classify(&mut self, samples: &Samples) -> Vec<usize> {
        let features = self.forward(samples);
        let (width, classes) = (self.features(), self.classes());
        if self.classifier == Classifier::Last {
            return features.iter().map(|h| best(h).unwrap_or(0)).collect();
        }
        let head = lda(width, classes, self.shrinkage, &mut self.lda);
        let mut scores = vec![0.0; classes];
        let mut class = |h: &Vec<f32>| {
            let _ = head.predict(h, &mut scores);
            best(&scores).unwrap_or(0)
        };
        features.iter().map(&mut class).collect()
    }

    /// Fraction of samples classified as their label.
    pub fn accuracy(&mut self, test: &Samples) -> f64 {
        let hits = self.classify(test).iter().zip(&test.y).filter(|(a, b)| a == b).count();
        hits as f64 / test.len() as f64
    }
}
