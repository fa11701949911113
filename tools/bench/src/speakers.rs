//! Spoken digits: a network trained on five speakers adapts to the sixth, for each of the six in turn, and learns a
//! digit that it has never seen from the sixth's utterances. Recipes and rates are those of [`crate::adapt`], chosen
//! on shifted images; nothing is tuned here.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use offshoot_data::npy;

use crate::adapt::{DEFAULT, Host, adapt, recipes};
use crate::data::Samples;
use crate::protocol::{Goal, Measured, Protocol, Row};

/// From 49 frames of 10 coefficients to ten digits.
const WIDTHS: [usize; 4] = [490, 128, 64, 10];
const COEFFICIENTS: usize = 10;
const SPEAKERS: i64 = 6;
const EPOCHS: usize = 20;
const HOST_RATE: f32 = 0.4;
/// The first take of a speaker that is used for learning; 10 of each digit, or 5.
const FIRST: i64 = 5;

/// The data set.
#[derive(Clone, Debug, Default)]
pub struct Digits {
    /// Utterances: 49 frames of 10 coefficients, and the digit.
    pub samples: Samples,
    speaker: Vec<i64>,
    take: Vec<i64>,
}

impl Digits {
    /// Reads the data set.
    ///
    /// # Errors
    /// A file is missing or does not have the expected contents.
    pub fn read(folder: &Path) -> Result<Self> {
        let folder = folder.join("spoken_digits");
        let whole = |name: &str| -> Result<Vec<i64>> {
            let path = folder.join(name);
            let array = npy::read(&path).with_context(|| path.display().to_string())?;
            Ok(array.to_i64()?.iter().copied().collect())
        };
        let samples = Samples::read(&folder.join("x.npy"), &folder.join("y.npy"), 1.0)?;
        Ok(Self { samples, speaker: whole("speaker.npy")?, take: whole("take.npy")? })
    }

    /// Indices of the utterances of these takes, for all speakers.
    pub fn takes(&self, takes: Range<i64>) -> Vec<usize> {
        (0..self.samples.len()).filter(|&i| takes.contains(&self.take[i])).collect()
    }

    /// Coefficients standardised by their means and deviations in the utterances of `known`.
    #[must_use]
    pub fn standardised(&self, known: &[usize]) -> Self {
        let mut moments = [(0.0f64, 0.0f64); COEFFICIENTS];
        for &i in known {
            for (c, x) in self.samples.at(i).0.iter().enumerate() {
                let (sum, squares) = &mut moments[c % COEFFICIENTS];
                *sum += f64::from(*x);
                *squares += f64::from(x * x);
            }
        }
        let count = (known.len() * self.samples.width / COEFFICIENTS).max(1) as f64;
        let mut out = self.clone();
        for (c, x) in out.samples.x.iter_mut().enumerate() {
            let (sum, squares) = moments[c % COEFFICIENTS];
            let mean = sum / count;
            *x = ((f64::from(*x) - mean) / (squares / count - mean * mean).max(1e-9).sqrt()) as f32;
        }
        out
    }

    /// Utterances of a speaker in these takes, with digits mixed.
    fn of(&self, speaker: i64, keep: impl Fn(i64) -> bool) -> Samples {
        let of_speaker = |i: &usize| self.speaker[*i] == speaker && keep(self.take[*i]);
        let mut chosen: Vec<usize> = (0..self.samples.len()).filter(of_speaker).collect();
        chosen.sort_by_key(|&i| (self.take[i], self.samples.y[i]));
        self.samples.select(chosen)
    }
}

/// Networks and data of one speaker.
struct Speaker {
    /// A host that knows all digits, and one that has never seen [`Self::digit`].
    hosts: [Host; 2],
    digit: usize,
    /// 50 and 100 utterances.
    few: [Samples; 2],
    test: Samples,
}

const COLUMNS: [&str; 4] = ["50 utterances", "100 utterances", "old digits", "new digit"];

/// The protocol.
#[derive(Debug)]
pub struct Speakers {
    folder: PathBuf,
    digits: Option<Digits>,
    /// The speakers of a seed.
    speakers: Option<(u32, Vec<Speaker>)>,
}

impl std::fmt::Debug for Speaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Speaker").field("digit", &self.digit).finish_non_exhaustive()
    }
}

impl Speakers {
    /// Uses the data sets of a folder.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.into(), digits: None, speakers: None }
    }
}

fn prepare(digits: &Digits, speaker: i64, seed: u32) -> Speaker {
    let others: Vec<usize> = (0..digits.samples.len()).filter(|&i| digits.speaker[i] != speaker).collect();
    let scaled = digits.standardised(&others);
    // A different digit for every speaker and seed.
    let digit = (speaker as usize + SPEAKERS as usize * seed as usize) % 10;
    let known: Vec<usize> = others.iter().copied().filter(|&i| scaled.samples.y[i] != digit).collect();
    let host =
        |of: Vec<usize>| Host::train(&WIDTHS, &scaled.samples.select(of), EPOCHS, HOST_RATE, seed, &|_| ());
    let few = |takes: i64| scaled.of(speaker, |t| (FIRST..FIRST + takes).contains(&t));
    Speaker {
        hosts: [host(others), host(known)],
        digit,
        few: [few(5), few(10)],
        test: scaled.of(speaker, |t| !(FIRST..FIRST + 10).contains(&t)),
    }
}

impl Protocol for Speakers {
    fn name(&self) -> &'static str {
        "speakers"
    }

    fn title(&self) -> &'static str {
        "Spoken digits 490-128-64-10, five speakers to the sixth, mean of the six; a tenth digit added with 100 utterances"
    }

    fn columns(&self) -> Vec<&'static str> {
        COLUMNS.to_vec()
    }

    fn rows(&self) -> Vec<Row> {
        recipes().iter().map(|r| Row::new(r.name)).collect()
    }

    fn goals(&self) -> Vec<Goal> {
        let within = |of, column, points| Goal::Within { row: DEFAULT, of, column, points };
        let mut goals = Vec::new();
        for column in COLUMNS {
            goals.push(within("head only", column, 0.0));
            goals.push(within("backprop", column, 1.0));
            goals.push(within("backprop, two passes", column, 1.0));
        }
        goals
    }

    fn work(&self, _row: &str) -> u64 {
        SPEAKERS as u64
    }

    fn measure(&mut self, row: &str, seed: u32, tick: &dyn Fn(u64)) -> Result<Measured> {
        if self.digits.is_none() {
            self.digits = Some(Digits::read(&self.folder)?);
        }
        let digits = self.digits.as_ref().context("loaded")?;
        if self.speakers.as_ref().is_none_or(|(s, _)| *s != seed) {
            self.speakers = Some((seed, (0..SPEAKERS).map(|s| prepare(digits, s, seed)).collect()));
        }
        let speakers = &self.speakers.as_ref().context("trained")?.1;
        let recipe = recipes().into_iter().find(|r| r.name == row).context("no such row")?;
        let mut measured = Measured::new();
        for (number, speaker) in speakers.iter().enumerate() {
            let test = &speaker.test;
            let is_new = |i: &usize| test.y[*i] == speaker.digit;
            let old = test.select((0..test.len()).filter(|i| !is_new(i)));
            let new = test.select((0..test.len()).filter(is_new));
            let mut known = adapt(&speaker.hosts[0], &recipe, &speaker.few[1]);
            let mut added = adapt(&speaker.hosts[1], &recipe, &speaker.few[1]);
            let values = [
                adapt(&speaker.hosts[0], &recipe, &speaker.few[0]).accuracy(test),
                known.accuracy(test),
                added.accuracy(&old),
                added.accuracy(&new),
            ];
            measured.insert(format!("100 utterances, speaker {number}"), values[1]);
            for (column, value) in COLUMNS.iter().zip(values) {
                *measured.entry((*column).into()).or_default() += value / speakers.len() as f64;
            }
            tick(1);
        }
        Ok(measured)
    }

    fn tune(&mut self, _only: Option<&str>, _say: &dyn Fn(&str, f64)) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot::learn::Random;

    /// Speakers whose voices are the digit's pattern plus an individual offset.
    #[test]
    fn a_sixth_speaker_and_a_tenth_digit_are_learned() {
        let mut random = Random::new(2);
        let width = 490;
        let patterns: Vec<f32> = (0..10 * width).map(|_| random.normal()).collect();
        let mut digits = Digits::default();
        digits.samples.width = width;
        for speaker in 0..3 {
            let offset: Vec<f32> = (0..width).map(|_| 2.0 * random.normal()).collect();
            for take in 3..16 {
                for y in 0..10 {
                    let pattern = &patterns[y * width..][..width];
                    let x = pattern.iter().zip(&offset).map(|(p, o)| p + o + 0.5 * random.normal());
                    digits.samples.x.extend(x);
                    digits.samples.y.push(y);
                    digits.speaker.push(speaker);
                    digits.take.push(take);
                }
            }
        }
        let speaker = prepare(&digits, 2, 0);
        assert_eq!(speaker.digit, 2);
        let default = recipes().into_iter().find(|r| r.name == DEFAULT).unwrap();
        let before = adapt(&speaker.hosts[1], &recipes()[0], &speaker.few[1]).accuracy(&speaker.test);
        let after = adapt(&speaker.hosts[1], &default, &speaker.few[1]).accuracy(&speaker.test);
        assert!(after > 0.95 && after > before, "{before} {after}");
    }
}
