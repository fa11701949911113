//! Patterns: which weights of a row are removed together.

use serde::{Deserialize, Serialize};

/// The pattern of zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pattern {
    /// Each weight by itself.
    #[default]
    Unstructured,
    /// Blocks of this many neighbouring inputs of a row, which a kernel reads at once. The last block of a row may be
    /// shorter.
    Block(usize),
    /// Of every `m` neighbouring inputs of a row, the `n` largest stay (Mishra et al. 2021).
    NOfM {
        /// How many stay.
        n: usize,
        /// Size of the group.
        m: usize,
    },
}

impl Pattern {
    /// Inputs that are kept or removed as one.
    pub(super) fn unit(self) -> usize {
        match self {
            Self::Block(length) => length.max(1),
            Self::Unstructured | Self::NOfM { .. } => 1,
        }
    }

    /// Scores (root mean square; larger matters more) and numbers of weights of the units of a tensor with `columns`
    /// inputs per row.
    pub(super) fn scores(self, weights: &[f32], columns: usize) -> Vec<(f32, usize)> {
        let units = weights.chunks(columns.max(1)).flat_map(|row| row.chunks(self.unit()));
        units.map(|u| ((u.iter().map(|w| w * w).sum::<f32>() / u.len() as f32).sqrt(), u.len())).collect()
    }

    /// Expands units, kept or not, to weights.
    pub(super) fn spread(self, units: &[bool], columns: usize) -> Vec<bool> {
        let a_row = columns.max(1).div_ceil(self.unit());
        let row = |units: &[bool]| {
            let weights = units.iter().flat_map(|&keep| std::iter::repeat_n(keep, self.unit()));
            weights.take(columns).collect::<Vec<_>>()
        };
        units.chunks(a_row).flat_map(row).collect()
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unstructured => f.write_str("unstructured"),
            Self::Block(length) => write!(f, "1x{length}"),
            Self::NOfM { n, m } => write!(f, "{n}:{m}"),
        }
    }
}

impl std::str::FromStr for Pattern {
    type Err = String;

    /// `unstructured`, `1x4`, `2:4`.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|&n| n > 0);
        let pair = |mark| text.split_once(mark).and_then(|(a, b)| Some((number(a)?, number(b)?)));
        match (text, pair('x'), pair(':')) {
            ("unstructured", ..) => Ok(Self::Unstructured),
            (_, Some((1, length)), _) if length <= 64 => Ok(Self::Block(length)),
            (_, _, Some((n, m))) if n <= m && m <= 64 => Ok(Self::NOfM { n, m }),
            _ => Err(format!(
                "`{text}` is no pattern: unstructured, 1x4 (blocks of four inputs), 2:4 (two of four)"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for pattern in [Pattern::Unstructured, Pattern::Block(4), Pattern::NOfM { n: 1, m: 8 }] {
            assert_eq!(pattern.to_string().parse(), Ok(pattern));
        }
        for bad in ["", "2x4", "1x0", "5:4", "0:4", "1:4096", "dense"] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_last_block_of_a_row_may_be_shorter() {
        let pattern = Pattern::Block(4);
        let scores = pattern.scores(&[1.0, 1.0, 1.0, 1.0, 3.0, 3.0, 2.0, 2.0, 2.0, 2.0, 0.0, 4.0], 6);
        assert_eq!(scores.iter().map(|s| s.1).collect::<Vec<_>>(), [4, 2, 4, 2]);
        assert_eq!(scores[1].0, 3.0);
        assert_eq!(
            pattern.spread(&[true, false, false, true], 6),
            [true, true, true, true, false, false, false, false, false, false, true, true]
        );
    }
}
