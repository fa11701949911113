//! Target projection: a matrix `P` of `classes × features` that carries a label to the features of a layer.
//!
//! Random projections take no memory: each entry is computed from a seed, the class and the feature when it is needed.
//! Exported and learned projections (probes, local heads) are tables.

use offshoot_kernels::GOLDEN;
use offshoot_kernels::mix;

/// Source of a target projection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TargetProjection<'a> {
    /// +1 or -1 by a hash of seed, class and feature.
    Signs {
        /// Differs between layers.
        seed: u32,
    },
    /// Rows of Sylvester's Hadamard matrix: +1 or -1 by the parity of `(class + 1) & feature`. If the number of
    /// features is a power of two and larger than the number of classes, the rows of two classes are orthogonal.
    Hadamard,
    /// Uniform in [-1, 1) by a hash of seed, class and feature.
    Uniform {
        /// Differs between layers.
        seed: u32,
    },
    /// float32, `[classes, features]`.
    Table(&'a [f32]),
    /// int8 integers, `[classes, features]`; the rule's scale includes their unit.
    Small(&'a [i8]),
    /// The identity matrix: the features are the class scores.
    Unit,
}

impl TargetProjection<'_> {
    /// Calls `each(class, entry)` for all classes of one feature. `features` is the width of the matrix.
    #[inline]
    pub fn column(&self, classes: usize, features: usize, feature: usize, mut each: impl FnMut(usize, f32)) {
        let j = feature as u32;
        match *self {
            Self::Signs { seed } => {
                for first in (0..classes).step_by(32) {
                    let word = sign_word(seed, j, first);
                    for k in first..classes.min(first + 32) {
                        each(k, if word >> (k - first) & 1 == 0 { 1.0 } else { -1.0 });
                    }
                }
            }
            Self::Hadamard => {
                for k in 0..classes {
                    each(k, if hadamard_negative(k, j) { -1.0 } else { 1.0 });
                }
            }
            Self::Uniform { seed } => {
                for k in 0..classes {
                    let bits = mix(seed ^ mix(j.wrapping_mul(GOLDEN) ^ (k as u32).rotate_left(24)));
                    each(k, (bits >> 8) as f32 * (2.0 / 16_777_216.0) - 1.0);
                }
            }
            Self::Table(table) => {
                for (k, row) in table.chunks_exact(features.max(1)).take(classes).enumerate() {
                    each(k, row.get(feature).copied().unwrap_or(0.0));
                }
            }
            Self::Small(table) => {
                for (k, row) in table.chunks_exact(features.max(1)).take(classes).enumerate() {
                    each(k, row.get(feature).copied().unwrap_or(0).into());
                }
            }
            Self::Unit => {
                if feature < classes {
                    each(feature, 1.0);
                }
            }
        }
    }

    /// The entry of one class.
    #[inline]
    pub fn at(&self, classes: usize, features: usize, class: usize, feature: usize) -> f32 {
        let j = feature as u32;
        match *self {
            Self::Signs { seed } => {
                let word = sign_word(seed, j, class / 32 * 32);
                if word >> (class % 32) & 1 == 0 { 1.0 } else { -1.0 }
            }
            Self::Hadamard => {
                if hadamard_negative(class, j) {
                    -1.0
                } else {
                    1.0
                }
            }
            Self::Table(table) => table.get(class * features + feature).copied().unwrap_or(0.0),
            Self::Small(table) => table.get(class * features + feature).copied().unwrap_or(0).into(),
            Self::Unit => f32::from(class == feature),
            Self::Uniform { .. } => {
                let mut entry = 0.0;
                self.column(classes, features, feature, |k, p| {
                    if k == class {
                        entry = p;
                    }
                });
                entry
            }
        }
    }
}

impl TargetProjection<'_> {
    /// [`Self::column`] in integers. Does nothing for uniform and float32 projections, which are not integers.
    #[inline]
    pub fn whole_column(
        &self,
        classes: usize,
        features: usize,
        feature: usize,
        mut each: impl FnMut(usize, i32),
    ) {
        let j = feature as u32;
        match *self {
            Self::Signs { seed } => {
                for first in (0..classes).step_by(32) {
                    let word = sign_word(seed, j, first);
                    for k in first..classes.min(first + 32) {
                        each(k, 1 - 2 * (word >> (k - first) & 1) as i32);
                    }
                }
            }
            Self::Hadamard => {
                (0..classes).for_each(|k| each(k, 1 - 2 * i32::from(hadamard_negative(k, j))));
            }
            Self::Small(table) => {
                for (k, row) in table.chunks_exact(features.max(1)).take(classes).enumerate() {
                    each(k, row.get(feature).copied().unwrap_or(0).into());
                }
            }
            Self::Unit if feature < classes => each(feature, 1),
            Self::Unit | Self::Uniform { .. } | Self::Table(_) => {}
        }
    }
}

/// Signs of 32 classes, from `first` (a multiple of 32) on, at a feature. A set bit means negative.
#[inline]
pub fn sign_word(seed: u32, feature: u32, first: usize) -> u32 {
    mix(seed ^ feature.wrapping_mul(GOLDEN).wrapping_add(first as u32))
}

/// Whether the Hadamard row of a class is negative at a feature.
#[inline]
pub fn hadamard_negative(class: usize, feature: u32) -> bool {
    ((class as u32).wrapping_add(1) & feature).count_ones() & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn matrix(projection: TargetProjection<'_>, classes: usize, features: usize) -> Vec<f32> {
        let mut all = vec![f32::NAN; classes * features];
        for j in 0..features {
            projection.column(classes, features, j, |k, p| all[k * features + j] = p);
        }
        all
    }

    #[test]
    fn columns_and_entries_agree() {
        let table: Vec<f32> = (0..40 * 50).map(|i| i as f32).collect();
        let kinds = [
            TargetProjection::Signs { seed: 3 },
            TargetProjection::Hadamard,
            TargetProjection::Uniform { seed: 3 },
            TargetProjection::Table(&table),
        ];
        for projection in kinds {
            let all = matrix(projection, 40, 50);
            for k in 0..40 {
                for j in 0..50 {
                    assert_eq!(projection.at(40, 50, k, j), all[k * 50 + j], "{projection:?} {k} {j}");
                }
            }
        }
    }

    #[test]
    fn hadamard_codes_are_orthogonal_and_drawn_ones_nearly_so() {
        for (projection, limit) in [
            (TargetProjection::Hadamard, 0.0),
            (TargetProjection::Signs { seed: 1 }, 0.2),
            (TargetProjection::Uniform { seed: 1 }, 0.2),
        ] {
            let all = matrix(projection, 10, 512);
            for a in 0..10 {
                for b in 0..a {
                    let dot: f32 = (0..512).map(|j| all[a * 512 + j] * all[b * 512 + j]).sum();
                    assert!((dot / 512.0).abs() <= limit, "{projection:?} {a} {b}: {dot}");
                }
            }
        }
    }
}
