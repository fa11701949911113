//! Protocol 6.3: a network trained on MNIST adapts to shifted images: 1,000 labelled samples, one pass, batch 1; heads
//! that are solved take a second pass. Hyper-parameters are the same for all shifts, and were chosen on another
//! (`rotate 20, brighter`), never on the four of the table.

use offshoot::learn::layers::Slope;
use offshoot::learn::{Codes, Random, Rule, Schedule};

use crate::data::{Samples, shuffled};
use crate::dense::{Format, Network, Step, Teacher};
use crate::lda::Lda;
use crate::mnist::default_rule;

/// Side of an image.
const SIDE: usize = 28;

/// A change of the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shift {
    /// The one that hyper-parameters were chosen on.
    Held,
    /// Turned by 45 degrees.
    Rotate,
    /// 1 - x
    Invert,
    /// Half the contrast, and noise.
    Noise,
    /// Pixels exchanged.
    Permute,
}

/// Those of the table.
pub const SHIFTS: [(&str, Shift); 4] = [
    ("rot45", Shift::Rotate),
    ("invert", Shift::Invert),
    ("noise", Shift::Noise),
    ("permute", Shift::Permute),
];

impl Shift {
    /// The samples, changed.
    #[must_use]
    pub fn apply(self, samples: &Samples, seed: u32) -> Samples {
        let mut random = Random::new(seed);
        let order = shuffled(SIDE * SIDE, &mut Random::new(77));
        let mut out = samples.clone();
        for image in out.x.chunks_mut(SIDE * SIDE) {
            let old = image.to_vec();
            for (i, x) in image.iter_mut().enumerate() {
                *x = match self {
                    Self::Held => (rotated(&old, i, 20.0) * 0.8 + 0.2).min(1.0),
                    Self::Rotate => rotated(&old, i, 45.0),
                    Self::Invert => 1.0 - old[i],
                    Self::Noise => (0.5 * old[i] + 0.25 * random.normal()).max(0.0).min(1.0),
                    Self::Permute => old[order[i]],
                };
            }
        }
        out
    }
}

/// Pixel `i` of the image turned by `degrees`, bilinear.
fn rotated(image: &[f32], i: usize, degrees: f32) -> f32 {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let centre = (SIDE as f32 - 1.0) / 2.0;
    let (y, x) = ((i / SIDE) as f32 - centre, (i % SIDE) as f32 - centre);
    let (sy, sx) = (cos * y - sin * x + centre, sin * y + cos * x + centre);
    let (y0, x0) = (sy.floor(), sx.floor());
    let at = |y: f32, x: f32| {
        let inside = (0.0..SIDE as f32).contains(&y) && (0.0..SIDE as f32).contains(&x);
        if inside { image[y as usize * SIDE + x as usize] } else { 0.0 }
    };
    let (fy, fx) = (sy - y0, sx - x0);
    (1.0 - fy) * ((1.0 - fx) * at(y0, x0) + fx * at(y0, x0 + 1.0))
        + fy * ((1.0 - fx) * at(y0 + 1.0, x0) + fx * at(y0 + 1.0, x0 + 1.0))
}

/// Trains a network by backpropagation; each hidden layer's probe learns to read the classes from it meanwhile,
/// without changing it.
pub fn host_network(widths: &[usize], base: f32, train: &Samples, epochs: usize, seed: u32) -> Network {
    let slope = Slope::Tanh;
    let probe = |_, outputs: usize| Teacher::Head { table: vec![0.0; 10 * outputs], rate: 1.0 };
    let mut network = Network::new(widths, slope, Format::F32, seed, probe);
    let mut random = Random::new(seed ^ 0x4057);
    let schedule = Schedule::Linear { steps: (epochs * train.len()) as u32 };
    let mut t = 0;
    for _ in 0..epochs {
        for i in shuffled(train.len(), &mut random) {
            let (x, y) = train.at(i);
            let rate = schedule.rate(base, t);
            let step = Step { rate, last_rate: rate, normalised: false, backprop: true };
            network.learn(x, y, step);
            network.learn_probes(x, y, rate);
            t += 1;
        }
    }
    network
}

/// A way to adapt.
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
    /// What replaces the probes.
    pub teacher: fn(usize, usize) -> Option<Teacher>,
    /// Solve a head in a second pass.
    pub lda: bool,
}

impl Recipe {
    /// With rates multiplied.
    #[must_use]
    pub fn faster(self, factor: f32) -> Self {
        Self { rate: factor * self.rate, last_rate: factor * self.last_rate, ..self }
    }
}

/// Rows of the table. The last is the default.
pub fn recipes() -> Vec<Recipe> {
    let base =
        Recipe { name: "none", rate: 0.0, last_rate: 0.0, backprop: false, teacher: |_, _| None, lda: false };
    let frozen = |_, _| Some(Teacher::Frozen);
    vec![
        base,
        Recipe { name: "head only", last_rate: 0.3, teacher: frozen, ..base },
        Recipe { name: "lda head", teacher: frozen, lda: true, ..base },
        Recipe { name: "backprop", rate: 0.3, last_rate: 0.3, backprop: true, ..base },
        Recipe {
            name: "random codes",
            rate: 0.3,
            last_rate: 0.3,
            teacher: |l, n| Some(Teacher::Local(default_rule(n), Codes::Signs { seed: 5 + l as u32 })),
            ..base
        },
        Recipe {
            name: "drtp",
            rate: 0.003,
            last_rate: 0.3,
            teacher: |l, _| Some(Teacher::Local(Rule::Drtp, Codes::Signs { seed: 5 + l as u32 })),
            ..base
        },
        Recipe { name: "probes", rate: 0.3, last_rate: 0.3, ..base },
        Recipe { name: "probes, lda head", rate: 0.3, last_rate: 0.3, lda: true, ..base },
    ]
}

/// Adapts a copy of the network to `train` and gives its accuracy on `test`.
pub fn adapt(host: &Network, recipe: &Recipe, train: &Samples, test: &Samples) -> f64 {
    let mut network = host.clone();
    for (l, layer) in network.layers.iter_mut().enumerate() {
        if let Some(teacher) = (recipe.teacher)(l, layer.bias.len()) {
            layer.teacher = teacher;
        }
    }
    let step =
        Step { rate: recipe.rate, last_rate: recipe.last_rate, normalised: true, backprop: recipe.backprop };
    if recipe.last_rate > 0.0 {
        for i in 0..train.len() {
            let (x, y) = train.at(i);
            network.learn(x, y, step);
        }
    }
    if !recipe.lda {
        return crate::mnist::accuracy(&mut network, test);
    }
    let features = |network: &mut Network, x: &[f32]| {
        let mut all = network.forward(x);
        all.truncate(all.len() - 1);
        all.pop().unwrap_or_default()
    };
    let width = network.layers[network.layers.len() - 1].inputs;
    let mut lda = Lda::new(10, width);
    for i in 0..train.len() {
        let (x, y) = train.at(i);
        lda.see(&features(&mut network, x), y);
    }
    let head = lda.solve(0.05);
    let hits = (0..test.len())
        .filter(|&i| {
            let (x, y) = test.at(i);
            head.classify(&features(&mut network, x)) == y
        })
        .count();
    hits as f64 / test.len() as f64
}
