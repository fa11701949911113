//! Products with sparse matrices: see [`offshoot_format::sparse`] for the order of entries.

use super::tiled::requantise;
use crate::geometry::Tiled;
use crate::requant::Requant;
use crate::sparse::Sparse;
use offshoot_format::record::ConvTiled;
use offshoot_format::sparse::Form;

/// `sums[r] += Σ weights[r, i] · src[i]` for the next `sums.len()` rows, which are removed from `matrix`.
pub fn add_sparse(matrix: &mut Sparse<'_>, src: &[i8], sums: &mut [i32]) {
    let form = matrix.form;
    for sum in sums {
        let (weights, steps) = matrix.next_row();
        let mut position = 0usize;
        let mut add = |step: u8, weights: &[i8]| {
            position += usize::from(step);
            let at = position * weights.len();
            for (&x, &w) in src.get(at..at + weights.len()).unwrap_or_default().iter().zip(weights) {
                *sum = sum.wrapping_add(i32::from(x) * i32::from(w));
            }
        };
        match form {
            Form::Bytes => weights.chunks(1).zip(steps).for_each(|(w, &step)| add(step, w)),
            Form::Blocks => weights.chunks_exact(4).zip(steps).for_each(|(w, &step)| add(step, w)),
            Form::Nibbles => {
                let (eights, rest) = weights.split_at(weights.len() / 8 * 8);
                let (of_eights, of_rest) = steps.split_at((eights.len() / 2).min(steps.len()));
                for (weights, steps) in eights.chunks_exact(8).zip(of_eights.chunks_exact(4)) {
                    let (low, high) = weights.split_at(4);
                    low.chunks(1).zip(steps).for_each(|(w, &step)| add(step & 15, w));
                    high.chunks(1).zip(steps).for_each(|(w, &step)| add(step >> 4, w));
                }
                for (weights, &steps) in rest.chunks(2).zip(of_rest) {
                    weights.chunks(1).zip([steps & 15, steps >> 4]).for_each(|(w, step)| add(step, w));
                }
            }
        }
    }
}

/// Requantises the sums of the channels from `first` on.
pub fn requantise_sums(q: &Requant<'_>, first: usize, sums: &[i32], dst: &mut [i8]) {
    for (i, (out, &sum)) in dst.iter_mut().zip(sums).enumerate() {
        *out = requantise(sum, q, first + i);
    }
}

/// Gathers the inputs of an output pixel, kernel row by kernel row; fills the rest of `column` with 0.
pub fn gather_column(r: &ConvTiled, g: &Tiled, pixel: usize, src: &[i8], column: &mut [i8]) {
    let position = g.position(pixel);
    let rows = usize::from(g.window.kernel[0]);
    let (inside, beyond) = column.split_at_mut((rows * g.segment).min(column.len()));
    for (ky, part) in inside.chunks_exact_mut(g.segment.max(1)).enumerate() {
        let s = g.segment(r, position, ky);
        if s.inside < part.len() {
            part.fill(r.in_zp);
        }
        let from = src.get(s.at..s.at + s.inside);
        if let (Some(to), Some(from)) = (part.get_mut(s.before..s.before + s.inside), from) {
            to.copy_from_slice(from);
        }
    }
    beyond.fill(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_format::sparse::SparseRepr;

    fn sums(form: Form, counts: &[u16], weights: &[i8], steps: &[u8], columns: u64, src: &[i8]) -> Vec<i32> {
        let mut matrix = Sparse { form, counts, weights, steps };
        assert!(matrix.check(columns));
        let mut sums = vec![0; counts.len()];
        add_sparse(&mut matrix, src, &mut sums);
        assert!(matrix.counts.is_empty() && matrix.weights.is_empty() && matrix.steps.is_empty());
        sums
    }

    #[test]
    fn entries_meet_the_inputs_that_their_steps_lead_to() {
        let src: Vec<i8> = (1..=12).collect();
        assert_eq!(sums(Form::Bytes, &[2, 0, 1], &[10, -1, 3], &[0, 11, 5], 12, &src), [10 - 12, 0, 18]);
        let block = [1, 0, 0, 2, 0, -1, 0, 0];
        assert_eq!(sums(Form::Blocks, &[1, 1], &block, &[2, 1], 12, &src), [9 + 24, -6]);
        // Nine entries: eight in two halves, the last in the lower half of its own byte.
        let (low, high) = ([0, 1, 1, 1], [1, 1, 1, 1]);
        let steps: Vec<u8> = low.iter().zip(high).map(|(l, h)| l | h << 4).chain([4]).collect();
        let nine = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        let expected: i32 = (1..=8).map(|i| i * i).sum::<i32>() + 9 * 12;
        assert_eq!(
            sums(Form::Nibbles, &[9, 1], &[&nine[..], &[1]].concat(), &[&steps[..], &[2]].concat(), 12, &src),
            [expected, 3]
        );
    }

    #[test]
    fn what_does_not_add_up_is_refused() {
        let check = |form, counts: &[u16], weights: &[i8], steps: &[u8], columns| {
            Sparse { form, counts, weights, steps }.check(columns)
        };
        assert!(check(Form::Bytes, &[2], &[1, 1], &[0, 3], 4));
        assert!(!check(Form::Bytes, &[2], &[1, 1], &[1, 3], 4), "beyond the last column");
        assert!(!check(Form::Bytes, &[1], &[1, 1], &[0, 1], 4), "weights of no row");
        assert!(!check(Form::Bytes, &[3], &[1, 1], &[0, 1], 4), "entries without weights");
        assert!(!check(Form::Bytes, &[2], &[1, 1], &[0], 4), "entries without steps");
        assert!(check(Form::Nibbles, &[1], &[1], &[0xf3], 4), "the half behind the last entry is none");
        assert!(!check(Form::Nibbles, &[2], &[1, 1], &[0x13], 4));
        assert!(check(Form::Blocks, &[1], &[1; 4], &[1], 8));
        assert!(!check(Form::Blocks, &[1], &[1; 4], &[1], 7));
        let many = vec![0; 1 << 15];
        assert!(
            !check(Form::Bytes, &[1 << 15], &bytemuck::cast_slice(&many)[..1 << 15], &many, 4),
            "sums too large"
        );
        assert!(check(Form::Bytes, &[0, 0], &[], &[], 1));
    }

    #[test]
    fn parts_lie_one_behind_the_other() {
        let repr = SparseRepr { form: Form::Bytes, entries: 2, steps: 2 };
        let blob = bytemuck::cast_slice(&[1u16, 1, 0, 0, 0x0605, 0x0201]);
        let m = Sparse::of(&repr, 3, blob).unwrap();
        assert_eq!((m.counts, m.weights, m.steps), (&[1, 1, 0][..], &[5, 6][..], &[1, 2][..]));
        assert!(Sparse::of(&repr, 3, &blob[..11]).is_none());
    }
}
