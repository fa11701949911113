//! Rows of a tensor that indices choose: the common form of ONNX's Gather, GatherElements, GatherND, ScatterElements
//! and ScatterND. Device records and the reference executor both follow it.

use serde::{Deserialize, Serialize};

/// Which elements an index tensor refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Indexing {
    /// Slices along an axis (Gather).
    Slices {
        /// The axis.
        axis: usize,
    },
    /// One element for each index: its other coordinates are those of the index (GatherElements, ScatterElements).
    Elements {
        /// The axis that indices run along.
        axis: usize,
    },
    /// The last axis of the index tensor holds coordinates along the first axes after the batch (GatherND, ScatterND).
    Tuples {
        /// Leading axes that both tensors share.
        batch: usize,
    },
}

/// The branch of `count` that an index chooses ([`crate::Op::Switch`]).
pub fn chosen_branch(index: f32, count: usize) -> usize {
    // A cast of a number outside saturates.
    let index = index as i64;
    let from_start = if index < 0 { index + count as i64 } else { index };
    from_start.clamp(0, count.saturating_sub(1) as i64) as usize
}

/// Rows of `run` neighbouring elements, counted over `axes`.
///
/// The row at coordinates `i` has one index for each pick, from element `Σ i·index_stride` of the index tensor on. Its
/// elements begin at `Σ i·stride + Σ index·stride` of the tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Extent, stride in the tensor and stride in the index tensor; outermost first.
    pub axes: Vec<[usize; 3]>,
    /// Extent and stride of the axis that each index runs along.
    pub picks: Vec<[usize; 2]>,
    /// Elements of a row.
    pub run: usize,
}

impl Rows {
    /// The rows that an index tensor chooses in a tensor of shape `x`.
    ///
    /// # Errors
    /// Why the shapes do not fit.
    pub fn new(indexing: Indexing, x: &[usize], index: &[usize]) -> Result<Self, String> {
        let size = |shape: &[usize]| shape.iter().product::<usize>();
        let stride = |shape: &[usize], axis: usize| size(&shape[axis + 1..]);
        match indexing {
            Indexing::Slices { axis } => {
                let extent = *x.get(axis).ok_or_else(|| format!("axis {axis} of {x:?}"))?;
                let run = stride(x, axis);
                let axes = vec![[size(&x[..axis]), extent * run, 0], [size(index), 0, 1]];
                Ok(Self { axes, picks: vec![[extent, run]], run })
            }
            Indexing::Elements { axis } => {
                if x.len() != index.len() || axis >= x.len() {
                    return Err(format!("indices {index:?} along axis {axis} of {x:?}"));
                }
                let mut axes = Vec::new();
                for (a, (&own, &extent)) in x.iter().zip(index).enumerate() {
                    // Slices of extent 1 serve all indices.
                    let moves = a != axis && own != 1;
                    if moves && extent > own {
                        return Err(format!("indices {index:?} exceed axis {a} of {x:?}"));
                    }
                    axes.push([extent, if moves { stride(x, a) } else { 0 }, stride(index, a)]);
                }
                Ok(Self { axes, picks: vec![[x[axis], stride(x, axis)]], run: 1 })
            }
            Indexing::Tuples { batch } => {
                let refused = || format!("tuples of indices {index:?} for {x:?} with {batch} batch axes");
                let (&depth, rows) = index.split_last().ok_or_else(refused)?;
                let fits = depth > 0 && batch <= rows.len() && batch + depth <= x.len();
                if !fits || rows[..batch] != x[..batch] {
                    return Err(refused());
                }
                let axes = vec![
                    [size(&x[..batch]), size(&x[batch..]), size(&index[batch..])],
                    [size(&rows[batch..]), 0, depth],
                ];
                let picks = (batch..batch + depth).map(|a| [x[a], stride(x, a)]).collect();
                Ok(Self { axes, picks, run: size(&x[batch + depth..]) })
            }
        }
    }

    /// The same rows with the fewest axes.
    #[must_use]
    pub fn merged(mut self) -> Self {
        let mut merged: Vec<[usize; 3]> = Vec::new();
        for [extent, stride, index] in self.axes.into_iter().filter(|a| a[0] != 1) {
            match merged.last_mut() {
                Some(outer) if outer[1] == stride * extent && outer[2] == index * extent => {
                    *outer = [outer[0] * extent, stride, index];
                }
                _ => merged.push([extent, stride, index]),
            }
        }
        self.axes = merged;
        self
    }

    /// Number of rows.
    pub fn count(&self) -> usize {
        self.axes.iter().map(|a| a[0]).product()
    }

    /// Place of the first element of a row. `index` gives element i of the index tensor. An index outside its extent
    /// is clamped if `clamps`, and otherwise there is no place.
    pub fn place(&self, row: usize, index: impl Fn(usize) -> i64, clamps: bool) -> Option<usize> {
        let (mut rest, mut at, mut first) = (row, 0, 0);
        for &[extent, stride, index_stride] in self.axes.iter().rev() {
            let i = rest % extent;
            rest /= extent;
            at += i * stride;
            first += i * index_stride;
        }
        for (k, &[extent, stride]) in self.picks.iter().enumerate() {
            let (given, extent) = (index(first + k), extent as i64);
            let wanted = if given < 0 { given + extent } else { given };
            if !clamps && !(0..extent).contains(&wanted) {
                return None;
            }
            at += wanted.clamp(0, extent - 1) as usize * stride;
        }
        Some(at)
    }
}

/// Shape of what a gather reads.
///
/// # Errors
/// Why the shapes do not fit.
pub fn gathered(indexing: Indexing, x: &[usize], index: &[usize]) -> Result<Vec<usize>, String> {
    Rows::new(indexing, x, index)?;
    Ok(match indexing {
        Indexing::Slices { axis } => [&x[..axis], index, &x[axis + 1..]].concat(),
        Indexing::Elements { .. } => index.to_vec(),
        Indexing::Tuples { batch } => {
            let (depth, rows) = index.split_last().map_or((0, index), |(d, rows)| (*d, rows));
            [rows, &x[batch + depth..]].concat()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(indexing: Indexing, x: &[usize], index: &[usize], values: &[i64]) -> Vec<usize> {
        let rows = Rows::new(indexing, x, index).unwrap();
        let merged = rows.clone().merged();
        let of =
            |r: &Rows| (0..r.count()).map(|i| r.place(i, |k| values[k], true).unwrap()).collect::<Vec<_>>();
        assert_eq!(of(&rows), of(&merged));
        of(&merged)
    }

    #[test]
    fn slices_elements_and_tuples() {
        // [2, 3, 4] along axis 1, at 2 and at the last but one.
        let all = places(Indexing::Slices { axis: 1 }, &[2, 3, 4], &[2], &[2, -2]);
        assert_eq!(all, [8, 4, 20, 16]);
        assert_eq!(places(Indexing::Elements { axis: 0 }, &[3, 2], &[1, 2], &[2, 1]), [4, 3]);
        assert_eq!(places(Indexing::Elements { axis: 1 }, &[1, 3], &[2, 1], &[2, 1]), [2, 1]);
        assert_eq!(places(Indexing::Tuples { batch: 0 }, &[2, 3, 4], &[2, 2], &[1, 2, 0, -9]), [20, 0]);
        assert_eq!(places(Indexing::Tuples { batch: 1 }, &[2, 3, 4], &[2, 1], &[1, 2]), [4, 20]);
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        assert!(Rows::new(Indexing::Slices { axis: 2 }, &[2, 3], &[1]).is_err());
        assert!(Rows::new(Indexing::Elements { axis: 0 }, &[2, 3], &[1, 4]).is_err());
        assert!(Rows::new(Indexing::Tuples { batch: 0 }, &[2, 3], &[1, 3]).is_err());
        assert!(Rows::new(Indexing::Tuples { batch: 1 }, &[2, 3], &[3, 1]).is_err());
        assert!(Rows::new(Indexing::Tuples { batch: 0 }, &[2, 3], &[]).is_err());
        assert_eq!(gathered(Indexing::Tuples { batch: 1 }, &[2, 3, 4], &[2, 5, 1]).unwrap(), [2, 5, 4]);
        assert_eq!(gathered(Indexing::Slices { axis: 0 }, &[9, 4], &[]).unwrap(), [4]);
    }
}
