//! The search space: elastic variables, and encodings of candidates.
//!
//! A candidate is a vector of integers, one per variable, each the index of an option (the encoding of DyNAS-T,
//! Cummings et al. 2022). Options ascend; the last is the super-network's own. Variables that a candidate does not
//! use (the width of a skipped block) are set to the last option, so that encodings are equal exactly if the
//! candidates are.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};
use offshoot_data::Random;

/// Index of the chosen option of each variable.
pub type Encoding = Vec<u16>;

/// The meaning of a variable's options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The number of channels (or heads) that remain, counted from the first: the class of channel `first` of the
    /// output of the operator whose weights are the constant `weights`.
    Channels {
        /// Name of a constant with output channels along its first axis.
        weights: String,
        /// A channel among them.
        first: usize,
    },
    /// The number of these blocks that remain, counted from the first; the others are skipped.
    Depth {
        /// Blocks.
        blocks: Vec<Block>,
    },
    /// Height and width of these operators' kernels, cropped to the centre; smaller axes stay.
    Kernel {
        /// Names of convolutions.
        operators: Vec<String>,
    },
    /// Height of the input in pixels; the width is scaled in proportion.
    Resolution,
    /// Bits of these operators' weights: 8, 4 or 2.
    Bits {
        /// Names of operators.
        operators: Vec<String>,
    },
}

/// A part of the network that can be skipped: readers of tensor `to` then read `from`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Its input.
    pub from: String,
    /// Its output, of the same shape.
    pub to: String,
}

/// One elastic variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// Readable name, unique in the space.
    pub name: String,
    /// The meaning of its options.
    #[serde(flatten)]
    pub kind: Kind,
    /// Ascending; the last is the super-network's own.
    pub options: Vec<usize>,
}

impl Variable {
    /// Whether it changes the architecture, not only number formats.
    pub fn is_architecture(&self) -> bool {
        !matches!(self.kind, Kind::Bits { .. })
    }
}

/// A search space.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Its variables.
    pub variables: Vec<Variable>,
    /// For each variable: the variables that a candidate does not use if the option index chosen for it is below
    /// `.0`. Filled by [`crate::elastic::Elastic::new`].
    #[serde(skip)]
    pub(crate) idle: Vec<Vec<(u16, usize)>>,
}

impl Space {
    /// A space of these variables.
    ///
    /// # Errors
    /// [`Error::Space`] if names are not unique, or options are missing, unordered, or invalid numbers of bits.
    pub fn new(variables: Vec<Variable>) -> Result<Self> {
        for (i, v) in variables.iter().enumerate() {
            let fail = |what: String| Err(Error::Space(format!("variable `{}`: {what}", v.name)));
            if variables[..i].iter().any(|other| other.name == v.name) {
                return fail("the name is used twice".into());
            }
            if v.options.is_empty() || v.options.len() > usize::from(u16::MAX) {
                return fail("it has no options".into());
            }
            if v.options.windows(2).any(|w| w[0] >= w[1]) {
                return fail(format!("options {:?} do not ascend", v.options));
            }
            let least = usize::from(!matches!(v.kind, Kind::Depth { .. }));
            if v.options[0] < least {
                return fail("an option is 0".into());
            }
            match &v.kind {
                Kind::Bits { .. } if v.options.iter().any(|b| !matches!(b, 2 | 4 | 8)) => {
                    return fail(format!("{:?} bits; expected 8, 4 or 2", v.options));
                }
                Kind::Depth { blocks } if v.options.last() != Some(&blocks.len()) => {
                    return fail(format!("the last option must be all {} blocks", blocks.len()));
                }
                _ => {}
            }
        }
        let idle = vec![Vec::new(); variables.len()];
        Ok(Self { variables, idle })
    }

    /// Number of variables.
    pub fn len(&self) -> usize {
        self.variables.len()
    }

    /// Whether nothing is elastic.
    pub fn is_empty(&self) -> bool {
        self.variables.is_empty()
    }

    /// Number of encodings, including several for the same candidate.
    pub fn size(&self) -> f64 {
        self.variables.iter().map(|v| v.options.len() as f64).product()
    }

    /// The encoding of the super-network itself.
    pub fn largest(&self) -> Encoding {
        self.variables.iter().map(|v| v.options.len() as u16 - 1).collect()
    }

    /// The first option of every variable.
    pub fn smallest(&self) -> Encoding {
        self.canonical(vec![0; self.len()])
    }

    /// Checks that it has one index in range for each variable.
    ///
    /// # Errors
    /// [`Error::Encoding`] with what is wrong.
    pub fn check(&self, encoding: &[u16]) -> Result<()> {
        if encoding.len() != self.len() {
            return Err(Error::Encoding(format!(
                "{} numbers, the space has {} variables",
                encoding.len(),
                self.len()
            )));
        }
        for (v, &i) in self.variables.iter().zip(encoding) {
            if usize::from(i) >= v.options.len() {
                return Err(Error::Encoding(format!(
                    "option {i} for `{}`, which has {} options",
                    v.name,
                    v.options.len()
                )));
            }
        }
        Ok(())
    }

    /// The canonical encoding: unused variables are set to their last option.
    #[must_use]
    pub fn canonical(&self, mut encoding: Encoding) -> Encoding {
        for (at, idle) in self.idle.iter().enumerate() {
            for &(below, variable) in idle {
                if encoding[at] < below {
                    encoding[variable] = self.variables[variable].options.len() as u16 - 1;
                }
            }
        }
        encoding
    }

    /// The chosen options.
    pub fn values(&self, encoding: &[u16]) -> Vec<usize> {
        self.variables.iter().zip(encoding).map(|(v, &i)| v.options[usize::from(i)]).collect()
    }

    /// Readable form: `name=value` of each variable.
    pub fn describe(&self, encoding: &[u16]) -> String {
        let values = self.values(encoding);
        let parts: Vec<String> =
            self.variables.iter().zip(values).map(|(v, value)| format!("{}={value}", v.name)).collect();
        parts.join(" ")
    }

    /// Draws uniformly over encodings.
    pub fn sample(&self, random: &mut Random) -> Encoding {
        let encoding = self.variables.iter().map(|v| random.below(v.options.len()) as u16).collect();
        self.canonical(encoding)
    }

    /// Encodings of candidates that differ by one step of one variable.
    pub fn neighbours(&self, encoding: &[u16]) -> Vec<Encoding> {
        let mut all = Vec::new();
        for (at, v) in self.variables.iter().enumerate() {
            for to in [encoding[at].checked_sub(1), Some(encoding[at] + 1)].into_iter().flatten() {
                if usize::from(to) < v.options.len() {
                    let mut other = encoding.to_vec();
                    other[at] = to;
                    let other = self.canonical(other);
                    if other != encoding && !all.contains(&other) {
                        all.push(other);
                    }
                }
            }
        }
        all
    }

    /// Simulated binary crossover (Deb and Agrawal 1995), rounded, with `probability` per pair and distribution index
    /// `eta`.
    pub fn crossover(
        &self,
        a: &[u16],
        b: &[u16],
        probability: f64,
        eta: f64,
        random: &mut Random,
    ) -> [Encoding; 2] {
        let (mut p, mut q) = (a.to_vec(), b.to_vec());
        if random.chance(probability) {
            for (at, v) in self.variables.iter().enumerate() {
                if a[at] == b[at] || !random.chance(0.5) {
                    continue;
                }
                let u = random.unit();
                let beta = if u <= 0.5 {
                    (2.0 * u).powf(1.0 / (eta + 1.0))
                } else {
                    (0.5 / (1.0 - u)).powf(1.0 / (eta + 1.0))
                };
                let (x, y) = (f64::from(a[at]), f64::from(b[at]));
                let round = |value: f64| value.round().clamp(0.0, v.options.len() as f64 - 1.0) as u16;
                p[at] = round(0.5 * ((1.0 + beta) * x + (1.0 - beta) * y));
                q[at] = round(0.5 * ((1.0 - beta) * x + (1.0 + beta) * y));
                if random.chance(0.5) {
                    (p[at], q[at]) = (q[at], p[at]);
                }
            }
        }
        [self.canonical(p), self.canonical(q)]
    }

    /// Polynomial mutation (Deb and Goyal 1996), rounded, with `probability` per variable and distribution index
    /// `eta`. A drawn variable that would round to itself moves one step.
    #[must_use]
    pub fn mutate(&self, encoding: &[u16], probability: f64, eta: f64, random: &mut Random) -> Encoding {
        let mut out = encoding.to_vec();
        for (at, v) in self.variables.iter().enumerate() {
            let most = v.options.len() as f64 - 1.0;
            if most < 1.0 || !random.chance(probability) {
                continue;
            }
            let u = random.unit();
            let delta = if u < 0.5 {
                (2.0 * u).powf(1.0 / (eta + 1.0)) - 1.0
            } else {
                1.0 - (2.0 * (1.0 - u)).powf(1.0 / (eta + 1.0))
            };
            let x = f64::from(out[at]);
            let mut moved = (x + delta * most).round().clamp(0.0, most);
            if moved == x {
                moved = if x + delta.signum() < 0.0 || x + delta.signum() > most {
                    x - delta.signum()
                } else {
                    x + delta.signum()
                };
            }
            out[at] = moved as u16;
        }
        self.canonical(out)
    }

    /// One-hot encoding of the options, for predictors.
    pub fn one_hot(&self, encoding: &[u16]) -> Vec<f64> {
        let mut row = Vec::new();
        for (v, &i) in self.variables.iter().zip(encoding) {
            row.extend((0..v.options.len()).map(|o| f64::from(u8::from(o == usize::from(i)))));
        }
        row
    }

    /// Positions of the options in 0..1, one per variable.
    pub fn places(&self, encoding: &[u16]) -> Vec<f64> {
        let place = |(v, &i): (&Variable, &u16)| f64::from(i) / (v.options.len() as f64 - 1.0).max(1.0);
        self.variables.iter().zip(encoding).map(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn space() -> Space {
        let channels = |name: &str| Kind::Channels { weights: name.into(), first: 0 };
        let block = Block { from: "a".into(), to: "b".into() };
        let mut space = Space::new(vec![
            Variable { name: "w".into(), kind: channels("w"), options: vec![4, 8, 16] },
            Variable { name: "d".into(), kind: Kind::Depth { blocks: vec![block] }, options: vec![0, 1] },
            Variable { name: "b".into(), kind: Kind::Bits { operators: vec![] }, options: vec![2, 4, 8] },
        ])
        .unwrap();
        // Without the block, its width is unused.
        space.idle[1] = vec![(1, 0)];
        space
    }

    proptest! {
        #[test]
        fn whatever_is_made_is_valid_and_canonical(seed in 0u64..1000) {
            let (space, mut random) = (space(), Random::new(seed, 0));
            let (a, b) = (space.sample(&mut random), space.sample(&mut random));
            let [c, d] = space.crossover(&a, &b, 0.9, 15.0, &mut random);
            let e = space.mutate(&a, 1.0, 20.0, &mut random);
            for x in space.neighbours(&a).into_iter().chain([a, b, c, d, e]) {
                prop_assert!(space.check(&x).is_ok());
                prop_assert_eq!(&space.canonical(x.clone()), &x);
            }
        }
    }

    #[test]
    fn what_is_idle_is_at_its_last_option() {
        let space = space();
        assert_eq!(space.canonical(vec![0, 0, 1]), [2, 0, 1]);
        assert_eq!(space.canonical(vec![0, 1, 1]), [0, 1, 1]);
        assert_eq!(space.size(), 18.0);
        assert_eq!(space.one_hot(&[0, 1, 2]), [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
        assert!(space.check(&[0, 2, 0]).is_err() && space.check(&[0]).is_err());
    }

    #[test]
    fn spaces_that_cannot_be_are_refused() {
        let variable = |options: Vec<usize>| Variable { name: "v".into(), kind: Kind::Resolution, options };
        for options in [vec![], vec![2, 1], vec![0, 1]] {
            assert!(Space::new(vec![variable(options)]).is_err());
        }
        assert!(Space::new(vec![variable(vec![1]), variable(vec![1])]).is_err());
        let bits = Variable { name: "b".into(), kind: Kind::Bits { operators: vec![] }, options: vec![3, 8] };
        assert!(Space::new(vec![bits]).is_err());
    }
}
