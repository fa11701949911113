//! Protocol 6.3: a network trained on MNIST adapts to shifted images with 1,000 labelled samples and at most two
//! passes. Hyper-parameters are the same for all shifts. They were chosen on other shifts ([`OTHERS`]) of training
//! samples that the network was not trained on, never on the shifts of the table.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use offshoot::learn::Random;
use offshoot::learn::heads::Shrinkage;

use crate::adapt::{DEFAULT, Host, Recipe, SMALL, adapt, recipes};
use crate::data::{Samples, shuffled};
use crate::protocol::{Goal, Measured, Protocol, Row};

/// Height and width of an image.
const SIDE: usize = 28;

/// A change of the images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shift {
    /// Rotated by this many degrees, counter-clockwise.
    Rotate(f32),
    /// 1 - x
    Invert,
    /// A gain, and normal noise with a deviation.
    Noise(f32, f32),
    /// All pixels permuted.
    Permute,
    /// Moved by this many pixels down and to the right.
    Translate(isize, isize),
    /// Mean of 3 × 3 pixels, twice.
    Blur,
    /// A gain and an offset.
    Contrast(f32, f32),
    /// This share of the pixels set to black or white.
    Salt(f32),
    /// Rows and columns swapped.
    Transpose,
    /// Rows permuted.
    Rows,
    /// The same images with permuted class numbers: everything that the network's last layer says is wrong.
    Relabel,
}

/// The shifts of the table.
pub const SHIFTS: [(&str, Shift); 5] = [
    ("rot45", Shift::Rotate(45.0)),
    ("invert", Shift::Invert),
    ("noise", Shift::Noise(0.5, 0.33)),
    ("permute", Shift::Permute),
    // Not on the research page: it does not say in which direction it rotated.
    ("rot-45", Shift::Rotate(-45.0)),
];

/// The shifts on which hyper-parameters are chosen.
pub const OTHERS: [(&str, Shift); 8] = [
    ("rot-30", Shift::Rotate(-30.0)),
    ("translate", Shift::Translate(3, -3)),
    ("blur", Shift::Blur),
    ("contrast", Shift::Contrast(0.4, 0.5)),
    ("salt", Shift::Salt(0.3)),
    ("transpose", Shift::Transpose),
    ("rows", Shift::Rows),
    ("relabel", Shift::Relabel),
];

impl Shift {
    /// The samples after this shift.
    #[must_use]
    pub fn apply(self, samples: &Samples, seed: u32) -> Samples {
        let mut random = Random::new(seed);
        let pixels = shuffled(SIDE * SIDE, &mut Random::new(77));
        let rows = shuffled(SIDE, &mut Random::new(78));
        let mut out = samples.clone();
        if self == Self::Relabel {
            out.y.iter_mut().for_each(|y| *y = (*y + 3) % 10);
        }
        for image in out.x.chunks_mut(SIDE * SIDE) {
            let old = match self {
                Self::Blur => blurred(&blurred(image)),
                _ => image.to_vec(),
            };
            for (i, x) in image.iter_mut().enumerate() {
                let (row, column) = (i / SIDE, i % SIDE);
                *x = match self {
                    Self::Rotate(degrees) => rotated(&old, i, degrees),
                    Self::Invert => 1.0 - old[i],
                    Self::Noise(gain, deviation) => gain * old[i] + deviation * random.normal(),
                    Self::Permute => old[pixels[i]],
                    Self::Translate(down, right) => pixel(&old, row as isize - down, column as isize - right),
                    Self::Blur | Self::Relabel => old[i],
                    Self::Contrast(gain, offset) => gain * old[i] + offset,
                    Self::Salt(part) => match random.unit() / part {
                        u if u < 0.5 => 0.0,
                        u if u < 1.0 => 1.0,
                        _ => old[i],
                    },
                    Self::Transpose => old[column * SIDE + row],
                    Self::Rows => old[rows[row] * SIDE + column],
                };
            }
        }
        out
    }
}

/// A pixel, or 0 outside the image.
fn pixel(image: &[f32], row: isize, column: isize) -> f32 {
    let inside = 0..SIDE as isize;
    let is_inside = inside.contains(&row) && inside.contains(&column);
    if is_inside { image[row as usize * SIDE + column as usize] } else { 0.0 }
}

fn blurred(image: &[f32]) -> Vec<f32> {
    let mean = |i: usize| {
        let (row, column) = ((i / SIDE) as isize, (i % SIDE) as isize);
        let around = (-1..=1).flat_map(|y| (-1..=1).map(move |x| (y, x)));
        around.map(|(y, x)| pixel(image, row + y, column + x)).sum::<f32>() / 9.0
    };
    (0..image.len()).map(mean).collect()
}

/// Pixel `i` of the image rotated by `degrees`, bilinear.
fn rotated(image: &[f32], i: usize, degrees: f32) -> f32 {
    let (sin, cos) = (-degrees).to_radians().sin_cos();
    let centre = (SIDE as f32 - 1.0) / 2.0;
    let (y, x) = ((i / SIDE) as f32 - centre, (i % SIDE) as f32 - centre);
    let (sy, sx) = (cos * y - sin * x + centre, sin * y + cos * x + centre);
    let (y0, x0) = (sy.floor(), sx.floor());
    let at = |down: isize, right: isize| pixel(image, y0 as isize + down, x0 as isize + right);
    let (fy, fx) = (sy - y0, sx - x0);
    (1.0 - fy) * ((1.0 - fx) * at(0, 0) + fx * at(0, 1)) + fy * ((1.0 - fx) * at(1, 0) + fx * at(1, 1))
}

const WIDTHS: [usize; 4] = [784, 256, 128, 10];
/// Labelled samples available on the device.
const FEW: usize = 1000;
const EPOCHS: usize = 8;
const HOST_RATE: f32 = 0.4;

/// The protocol.
#[derive(Debug)]
pub struct Shifts {
    folder: PathBuf,
    data: Option<(Samples, Samples)>,
    /// The host of a seed.
    host: Option<(u32, Host)>,
}

impl Shifts {
    /// Uses the data sets of a folder.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.into(), data: None, host: None }
    }

    fn load(&mut self) -> Result<()> {
        if self.data.is_none() {
            self.data = Some((Samples::mnist(&self.folder, "train")?, Samples::mnist(&self.folder, "test")?));
        }
        Ok(())
    }
}

impl Protocol for Shifts {
    fn name(&self) -> &'static str {
        "shift"
    }

    fn title(&self) -> &'static str {
        "MNIST 784-256-128-10 adapts to shifted images: 1,000 labelled samples, at most two passes, batch 1"
    }

    fn columns(&self) -> Vec<&'static str> {
        SHIFTS.iter().map(|s| s.0).collect()
    }

    fn rows(&self) -> Vec<Row> {
        let research: [(&str, [f64; 4]); 8] = [
            ("none", [46.4, 0.1, 70.5, 12.7]),
            ("head only", [85.2, 86.5, 77.4, 75.4]),
            ("lda head", [89.3, 91.9, 78.3, 82.5]),
            ("backprop", [87.7, 72.8, 79.1, 83.4]),
            ("random codes", [84.9, 24.0, 76.0, 77.7]),
            ("drtp", [81.5, 47.2, 75.2, 80.8]),
            ("probes", [88.2, 84.7, 78.9, 83.4]),
            (SMALL, [90.6, 92.6, 79.5, 86.6]),
        ];
        let columns = self.columns();
        recipes()
            .iter()
            .map(|recipe| match research.iter().find(|r| r.0 == recipe.name) {
                Some((name, percent)) => {
                    Row { name: (*name).into(), research: columns.iter().copied().zip(*percent).collect() }
                }
                None => Row::new(recipe.name),
            })
            .collect()
    }

    fn goals(&self) -> Vec<Goal> {
        let at_least = [("rot45", 90.0), ("invert", 91.0), ("noise", 79.0), ("permute", 86.0)];
        let mut goals: Vec<Goal> = at_least
            .map(|(column, percent)| Goal::AtLeast { row: DEFAULT, column, percent })
            .into_iter()
            .collect();
        for of in ["backprop", "backprop, two passes"] {
            goals.push(Goal::Ahead { row: DEFAULT, of, columns: 4 });
        }
        goals
    }

    fn work(&self, _row: &str) -> u64 {
        SHIFTS.len() as u64 * FEW as u64
    }

    fn measure(&mut self, row: &str, seed: u32, tick: &dyn Fn(u64)) -> Result<Measured> {
        self.load()?;
        let (train, test) = self.data.as_ref().context("loaded")?;
        let recipe = recipes().into_iter().find(|r| r.name == row).context("no such row")?;
        // The device's samples are not among the host's.
        let order = shuffled(train.len(), &mut Random::new(seed ^ 0x51));
        let (few, others) = order.split_at(FEW);
        if self.host.as_ref().is_none_or(|(s, _)| *s != seed) {
            let samples = train.select(others.iter().copied());
            self.host = Some((seed, Host::train(&WIDTHS, &samples, EPOCHS, HOST_RATE, seed, &|_| ())));
        }
        let host = &self.host.as_ref().context("trained")?.1;
        let few = train.select(few.iter().copied());
        let mut measured = Measured::new();
        for (name, shift) in SHIFTS {
            let mut adapted = adapt(host, &recipe, &shift.apply(&few, seed ^ 1));
            measured.insert(name.into(), adapted.accuracy(&shift.apply(test, seed ^ 2)));
            tick(FEW as u64);
        }
        Ok(measured)
    }

    /// The host learns from 50,000 training samples; of the other 10,000, shifted in ways that are not in the table,
    /// 1,000 are used to adapt and 4,000 to test. Seed 0.
    fn tune(&mut self, only: Option<&str>, say: &dyn Fn(&str, f64)) -> Result<()> {
        self.load()?;
        let (train, _) = self.data.as_ref().context("loaded")?;
        let host = Host::train(&WIDTHS, &train.select(10_000..train.len()), EPOCHS, HOST_RATE, 0, &|_| ());
        let (few, test) = (train.select(0..FEW), train.select(FEW..FEW + 4000));
        say("host", adapt(&host, &recipes()[0], &few).accuracy(&test));
        // Chooses the strength of the table's noise such that a new head on frozen features performs as on the
        // research page.
        if only == Some("lda head") {
            for deviation in [0.25, 0.3, 0.35] {
                let noisy = |samples: &Samples, seed| Shift::Noise(0.5, deviation).apply(samples, seed);
                let accuracy =
                    [0, 3].map(|r| adapt(&host, &recipes()[r], &noisy(&few, 1)).accuracy(&noisy(&test, 2)));
                say(
                    &format!("half the gain, noise of {deviation}: none {:.3}, lda head", accuracy[0]),
                    accuracy[1],
                );
            }
        }
        // Chooses the shrinkage of the LDA head's covariance, for several numbers of samples.
        if only == Some("shrinkage") {
            let recipe = recipes().into_iter().find(|r| r.name == DEFAULT).context("the default")?;
            let parts = [0.05, 0.1, 0.2, 0.3, 0.5, 0.7].map(Shrinkage::Part);
            for (count, shrinkage) in [100, 300, FEW].into_iter().flat_map(|n| {
                parts.into_iter().chain([Shrinkage::Prior]).map(move |shrinkage| (n, shrinkage))
            }) {
                let (recipe, few) = (Recipe { shrinkage, ..recipe }, train.select(0..count));
                let accuracy = |shift: Shift| {
                    adapt(&host, &recipe, &shift.apply(&few, 1)).accuracy(&shift.apply(&test, 2))
                };
                let sum: f64 = OTHERS.into_iter().map(|(_, shift)| accuracy(shift)).sum();
                say(&format!("{count} samples, {shrinkage:?}: mean"), sum / OTHERS.len() as f64);
            }
        }
        for recipe in recipes().iter().filter(|r| only.is_none_or(|o| o == r.name)) {
            let factors: &[f32] = if recipe.last_rate > 0.0 { &[0.5, 1.0] } else { &[1.0] };
            for factor in factors {
                let mut sum = 0.0;
                let mut each = String::new();
                for (name, shift) in OTHERS {
                    let mut adapted = adapt(&host, &recipe.faster(*factor), &shift.apply(&few, 1));
                    let accuracy = adapted.accuracy(&shift.apply(&test, 2));
                    each += &format!(" {name} {:.1}", 100.0 * accuracy);
                    sum += accuracy;
                }
                say(&format!("{} x{factor}:{each}; mean", recipe.name), sum / OTHERS.len() as f64);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifts_are_what_they_say() {
        let image: Vec<f32> = (0..SIDE * SIDE).map(|i| (i % 29) as f32 / 28.0).collect();
        let samples = Samples { x: image.clone(), y: vec![0], width: SIDE * SIDE };
        let after = |shift: Shift| shift.apply(&samples, 1).x;
        assert_eq!(after(Shift::Rotate(0.0)), image);
        // Counter-clockwise: the upper right corner moves to the upper left.
        assert!((after(Shift::Rotate(90.0))[0] - image[SIDE - 1]).abs() < 1e-3);
        assert_eq!(after(Shift::Invert)[30], 1.0 - image[30]);
        assert_eq!(after(Shift::Translate(1, 2))[SIDE + 2], image[0]);
        assert_eq!(after(Shift::Transpose)[1], image[SIDE]);
        for shift in [Shift::Permute, Shift::Rows] {
            let (mut a, mut b) = (after(shift), image.clone());
            assert_ne!(a, b);
            a.sort_by(f32::total_cmp);
            b.sort_by(f32::total_cmp);
            assert_eq!(a, b);
        }
    }
}
