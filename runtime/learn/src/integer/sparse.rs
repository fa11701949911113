//! Steps of sparse weights. Only stored weights learn, so pruned weights stay zero.

use offshoot_format::sparse::{Form, SparseRepr};
use offshoot_kernels::Random;

/// Start of a row's weights and steps. Rows are visited in ascending order: each search continues from the last row.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor {
    row: usize,
    weights: usize,
    steps: usize,
}

impl Cursor {
    /// Finds the entries of a row in the blob of a matrix with `rows` rows; `None` if it has no such row.
    pub(crate) fn row(
        &mut self,
        (matrix, rows): (&SparseRepr, usize),
        blob: &[i8],
        row: usize,
    ) -> Option<Row> {
        let width = matrix.width() as usize;
        let counts = blob.get(..2 * rows)?;
        let count = |row: usize| {
            let own = counts.get(2 * row..2 * row + 2).unwrap_or(&[0, 0]);
            usize::from(u16::from_le_bytes([own[0] as u8, own[1] as u8]))
        };
        if row < self.row {
            *self = Self::default();
        }
        while self.row < row {
            let entries = count(self.row);
            self.weights += entries * width;
            self.steps += matrix.form.packed(entries);
            self.row += 1;
        }
        let weights = counts.len().next_multiple_of(4);
        let steps = weights + matrix.weights() as usize + self.steps;
        let (form, entries, first) = (matrix.form, count(row), self.weights);
        Some(Row { form, width, entries, first, weights: weights + first, steps })
    }

    /// Replaces each stored weight of a row by `next(weight, lower byte, gradient, random)`; returns the sum of the
    /// decreases. `blob` is that of the matrix with `rows` rows; lower bytes are in the order of the stored weights.
    pub(super) fn replace_each(
        &mut self,
        matrix: (&SparseRepr, usize),
        blob: &mut [i8],
        fine: &mut [i8],
        (row, gradients): (usize, &[i32]),
        random: &mut Random,
        mut next: impl FnMut(i32, &mut i8, i32, &mut Random) -> i32,
    ) -> i32 {
        let Some(own) = self.row(matrix, blob, row) else { return 0 };
        let mut fine = fine.get_mut(own.first..).unwrap_or(&mut []).iter_mut();
        let (mut moved, mut none) = (0, 0);
        own.each_mut(blob, |column, weight| {
            let gradient = gradients.get(column).copied().unwrap_or(0);
            let old = i32::from(*weight);
            let new = next(old, fine.next().unwrap_or(&mut none), gradient, random);
            *weight = new as i8;
            moved += old - new;
        });
        moved
    }
}

/// The entries of a row, in the blob of their matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    form: Form,
    width: usize,
    entries: usize,
    /// Number of weights in earlier rows.
    first: usize,
    /// Offsets of weights and steps in the blob.
    weights: usize,
    steps: usize,
}

impl Row {
    /// Calls `f(column, weight)` for every stored weight.
    #[inline]
    pub(crate) fn each(&self, blob: &[i8], mut f: impl FnMut(usize, i8)) {
        let (weights, steps) = blob.split_at(self.steps.min(blob.len()));
        let weights = weights.get(self.weights..).unwrap_or(&[]);
        let mut position = 0;
        for (entry, weights) in weights.chunks_exact(self.width).take(self.entries).enumerate() {
            position += step(self.form, steps, self.entries, entry);
            weights.iter().enumerate().for_each(|(lane, w)| f(position * self.width + lane, *w));
        }
    }

    /// Calls `f(column, weight)` for every stored weight, mutably.
    #[inline]
    pub(crate) fn each_mut(&self, blob: &mut [i8], mut f: impl FnMut(usize, &mut i8)) {
        let (weights, steps) = blob.split_at_mut(self.steps.min(blob.len()));
        let weights = weights.get_mut(self.weights..).unwrap_or(&mut []);
        let mut position = 0;
        for (entry, weights) in weights.chunks_exact_mut(self.width).take(self.entries).enumerate() {
            position += step(self.form, steps, self.entries, entry);
            weights.iter_mut().enumerate().for_each(|(lane, w)| f(position * self.width + lane, w));
        }
    }
}

/// The step of an entry in a row of `entries`.
fn step(form: Form, steps: &[i8], entries: usize, entry: usize) -> usize {
    let byte = |at: usize| usize::from(steps.get(at).copied().unwrap_or(0) as u8);
    let eights = entries / 8 * 8;
    match form {
        Form::Bytes | Form::Blocks => byte(entry),
        Form::Nibbles if entry < eights => byte(entry / 8 * 4 + entry % 4) >> (entry & 4) & 15,
        Form::Nibbles => byte(entry / 2) >> (4 * (entry & 1)) & 15,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// A matrix of three rows and 24 columns. The middle row is empty; the others store blocks 1, 2 and 5.
    fn matrix(form: Form) -> (SparseRepr, Vec<i8>) {
        let columns: Vec<u8> = vec![4, 5, 6, 7, 8, 9, 10, 11, 20, 21, 22, 23];
        let gaps: Vec<u8> = columns.iter().scan(0, |at, &c| Some(c - core::mem::replace(at, c))).collect();
        let steps: Vec<u8> = match form {
            Form::Bytes => gaps,
            Form::Blocks => vec![1, 1, 3],
            Form::Nibbles => {
                let eight = (0..4).map(|i| gaps[i] | gaps[i + 4] << 4);
                eight.chain(gaps[8..].chunks(2).map(|p| p[0] | p[1] << 4)).collect()
            }
        };
        let entries = if form == Form::Blocks { 3u16 } else { 12 };
        let mut blob: Vec<u8> = [entries, 0, entries, 0].iter().flat_map(|c| c.to_le_bytes()).collect();
        blob.extend([0; 24]);
        let twice = [&steps[..], &steps].concat();
        blob.extend(&twice);
        let repr = SparseRepr { form, entries: 2 * u32::from(entries), steps: twice.len() as u32 };
        (repr, blob.iter().map(|&b| b as i8).collect())
    }

    #[test]
    fn all_forms_step_the_same_weights_and_leave_the_rest_alone() {
        let gradients: Vec<i32> = (0..24).collect();
        let mut seen: Vec<Vec<i8>> = Vec::new();
        for form in [Form::Bytes, Form::Nibbles, Form::Blocks] {
            let (repr, mut blob) = matrix(form);
            let before = blob.clone();
            let (mut cursor, mut random) = (Cursor::default(), Random::new(1));
            for row in [0, 1, 2] {
                let next = |old: i32, _: &mut i8, gradient: i32, _: &mut Random| old + gradient + row as i32;
                cursor.replace_each((&repr, 3), &mut blob, &mut [], (row, &gradients), &mut random, next);
            }
            assert_eq!(blob[..8], before[..8]);
            assert_eq!(blob[32..], before[32..]);
            assert_eq!(blob[8..20], [4, 5, 6, 7, 8, 9, 10, 11, 20, 21, 22, 23]);
            assert_eq!(blob[20..32], [6, 7, 8, 9, 10, 11, 12, 13, 22, 23, 24, 25]);
            seen.push(blob[8..32].to_vec());
        }
        assert!(seen.iter().all(|s| *s == seen[0]));
    }
}
