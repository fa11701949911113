//! Rows chosen by indices, the largest elements, and the conversions that indices need.

use offshoot_format::record::{Gather, Rows, Scatter, ScatterKind, TopK};

use super::float::canonical;

/// Visits every row in order with its number and the place of its first element. The place is `None` if an index lies
/// outside its extent, unless `clamps`.
#[inline]
fn each_row(r: &Rows, index: &[i32], clamps: bool, mut visit: impl FnMut(usize, Option<usize>)) {
    let picks = r.picks.get(..usize::from(r.indices)).unwrap_or_default();
    let total: usize = r.axes.iter().map(|a| a.extent as usize).product();
    for row in 0..total {
        let (mut rest, mut at, mut first) = (row, 0usize, 0usize);
        for axis in r.axes.iter().rev() {
            let extent = (axis.extent as usize).max(1);
            let i = rest % extent;
            rest /= extent;
            at += i * axis.stride as usize;
            first += i * axis.index_stride as usize;
        }
        let mut inside = true;
        for (k, pick) in picks.iter().enumerate() {
            let given = index.get(first + k).copied().unwrap_or(0);
            let last = pick.extent as i32 - 1;
            // `given` is at least -2^31 and the extent positive, so the sum does not overflow.
            let wanted = if given < 0 { given + pick.extent as i32 } else { given };
            inside &= (0..=last).contains(&wanted);
            at += wanted.clamp(0, last.max(0)) as usize * pick.stride as usize;
        }
        visit(row, (inside || clamps).then_some(at));
    }
}

/// Reads rows.
pub fn gather<T: Copy>(r: &Gather, src: &[T], index: &[i32], dst: &mut [T]) {
    let run = r.rows.run as usize;
    each_row(&r.rows, index, true, |row, at| {
        let at = at.unwrap_or(0);
        if let (Some(to), Some(from)) = (dst.get_mut(row * run..(row + 1) * run), src.get(at..at + run)) {
            to.copy_from_slice(from);
        }
    });
}

#[inline]
fn scatter<T: Copy>(r: &Rows, src: &[T], index: &[i32], dst: &mut [T], join: impl Fn(T, T) -> T) {
    let run = r.run as usize;
    each_row(r, index, false, |row, at| {
        let Some(at) = at else { return };
        if let (Some(from), Some(to)) = (src.get(row * run..(row + 1) * run), dst.get_mut(at..at + run)) {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = join(*to, *from));
        }
    });
}

/// Writes rows over what is there.
pub fn scatter_set<T: Copy>(r: &Scatter, src: &[T], index: &[i32], dst: &mut [T]) {
    scatter(&r.rows, src, index, dst, |_, new| new);
}

/// Joins rows with what is there, int8: the larger or the smaller code.
pub fn scatter_i8(r: &Scatter, src: &[i8], index: &[i32], dst: &mut [i8]) {
    let largest = r.kind == ScatterKind::Max;
    scatter(&r.rows, src, index, dst, |a, b| if largest { a.max(b) } else { a.min(b) });
}

/// Joins rows with what is there, float32.
pub fn scatter_f32(r: &Scatter, src: &[f32], index: &[i32], dst: &mut [f32]) {
    scatter(&r.rows, src, index, dst, |a, b| match r.kind {
        ScatterKind::Set => b,
        ScatterKind::Add => canonical(a + b),
        ScatterKind::Mul => canonical(a * b),
        // Comparisons instead of `max` and `min`, whose choice between -0.0 and 0.0 depends on the target.
        ScatterKind::Max => {
            if b > a || a.is_nan() {
                b
            } else {
                a
            }
        }
        ScatterKind::Min => {
            if b < a || a.is_nan() {
                b
            } else {
                a
            }
        }
    });
}

/// The `k` best by rank: each is the best of those behind the one before, in the order of (key, index).
#[inline]
fn top_k<T: Copy>(r: &TopK, src: &[T], dst: &mut [i32], key: impl Fn(T) -> i32) {
    let (extent, inner, k) = (r.extent as usize, r.inner.max(1) as usize, r.k as usize);
    // Of two keys the larger is better; `!` reverses the order of all int32.
    let key = |v: T| if r.largest { key(v) } else { !key(v) };
    for (block, out) in src.chunks_exact(extent.max(1) * inner).zip(dst.chunks_exact_mut(k.max(1) * inner)) {
        for i in 0..inner {
            let mut before: Option<(i32, usize)> = None;
            for rank in 0..k {
                let mut best: Option<(i32, usize)> = None;
                for at in 0..extent {
                    let own = key(block[at * inner + i]);
                    let behind = before.is_none_or(|(key, taken)| own < key || (own == key && at > taken));
                    if behind && best.is_none_or(|(key, _)| own > key) {
                        best = Some((own, at));
                    }
                }
                before = best.or(before);
                out[rank * inner + i] = before.map_or(0, |(_, at)| at as i32);
            }
        }
    }
}

/// int8 [`TopK`].
pub fn top_k_i8(r: &TopK, src: &[i8], dst: &mut [i32]) {
    top_k(r, src, dst, i32::from);
}

/// float32 [`TopK`]. -0.0 equals 0.0; every NaN is the same and the largest.
pub fn top_k_f32(r: &TopK, src: &[f32], dst: &mut [i32]) {
    top_k(r, src, dst, |v| {
        if v.is_nan() {
            return i32::MAX;
        }
        let bits = (v + 0.0).to_bits() as i32;
        if bits < 0 { bits ^ i32::MAX } else { bits }
    });
}

/// int32 to float32, to nearest, ties to even.
pub fn to_float(src: &[i32], dst: &mut [f32]) {
    dst.iter_mut().zip(src).for_each(|(d, s)| *d = *s as f32);
}

/// float32 to int32 without the fraction; saturates, and NaN becomes 0.
pub fn to_int(src: &[f32], dst: &mut [i32]) {
    dst.iter_mut().zip(src).for_each(|(d, s)| *d = *s as i32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_format::record::{DType, Operand, Pick, RowAxis};

    const ONE: RowAxis = RowAxis { extent: 1, stride: 0, index_stride: 0 };

    /// Rows of a matrix `[extent, run]` by a vector of indices.
    fn rows(indices: u32, extent: u32, run: u32) -> Rows {
        let along = RowAxis { extent: indices, stride: 0, index_stride: 1 };
        let picks = [Pick { extent, stride: run }, Pick::default(), Pick::default(), Pick::default()];
        Rows { index: Operand::Arena(0), axes: [ONE, ONE, ONE, along], indices: 1, picks, run }
    }

    #[test]
    fn gather_counts_from_the_end_and_clamps() {
        let r = Gather { src: Operand::Arena(0), dst: 0, size: 4, rows: rows(5, 3, 2) };
        let mut out = [0; 10];
        gather(&r, &[10, 11, 20, 21, 30, 31], &[2, -1, -3, 99, i32::MIN], &mut out);
        assert_eq!(out, [30, 31, 30, 31, 10, 11, 30, 31, 10, 11]);
    }

    #[test]
    fn scatter_leaves_out_rows_outside() {
        let r = |kind| Scatter { src: 0, dst: 0, dtype: DType::F32, kind, rows: rows(4, 3, 1) };
        let mut out = [1.0, 2.0, 3.0];
        scatter_f32(&r(ScatterKind::Add), &[0.5, 7.0, 0.25, 9.0], &[0, 3, -3, -4], &mut out);
        assert_eq!(out, [1.75, 2.0, 3.0]);
        let mut out = [1i8, 2, 3];
        scatter_i8(&r(ScatterKind::Max), &[5, 5, 5, 5], &[1, 1, -1, 9], &mut out);
        assert_eq!(out, [1, 5, 5]);
    }

    #[test]
    fn the_best_come_first_and_ties_by_index() {
        let r = |k, largest| TopK {
            src: 0,
            dst: 0,
            outer: 1,
            extent: 6,
            inner: 1,
            k,
            largest,
            dtype: DType::F32,
        };
        let x = [2.0, -0.0, f32::NAN, 0.0, 2.0, f32::NEG_INFINITY];
        let mut out = [0; 6];
        top_k_f32(&r(6, true), &x, &mut out);
        assert_eq!(out, [2, 0, 4, 1, 3, 5]);
        let mut out = [0; 4];
        top_k_f32(&r(4, false), &x, &mut out);
        assert_eq!(out, [5, 1, 3, 0]);
        let mut out = [0; 6];
        top_k_i8(&r(6, false), &[-128, 127, 0, 127, -128, 0], &mut out);
        assert_eq!(out, [0, 4, 2, 5, 1, 3]);
    }

    #[test]
    fn conversions_saturate() {
        let mut ints = [0; 5];
        to_int(&[1.9, -1.9, f32::NAN, 3e10, f32::NEG_INFINITY], &mut ints);
        assert_eq!(ints, [1, -1, 0, i32::MAX, i32::MIN]);
        let mut floats = [0.0; 2];
        to_float(&[(1 << 24) + 1, -7], &mut floats);
        assert_eq!(floats, [16_777_216.0, -7.0]);
    }
}
