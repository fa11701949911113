//! Movement of elements: strided copies and padding.

use offshoot_format::record::{Axis, Pad, PadMode};

/// Strided copy; bases in elements.
pub fn copy_strided<T: Copy>(axes: &[Axis], src: &[T], src_base: usize, dst: &mut [T], dst_base: usize) {
    let Some((axis, rest)) = axes.split_first() else {
        if let (Some(s), Some(d)) = (src.get(src_base), dst.get_mut(dst_base)) {
            *d = *s;
        }
        return;
    };
    let (mut s, mut d) = (src_base as isize, dst_base as isize);
    for _ in 0..axis.extent {
        copy_strided(rest, src, s as usize, dst, d as usize);
        s += axis.src_stride as isize;
        d += axis.dst_stride as isize;
    }
}

/// Reflect or edge padding of the last four axes.
pub fn pad<T: Copy>(r: &Pad, src: &[T], dst: &mut [T]) {
    let dims = r.dims.map(usize::from);
    let full: [usize; 4] =
        core::array::from_fn(|a| dims[a] + usize::from(r.pad[a][0]) + usize::from(r.pad[a][1]));
    let at = |a: usize, i: usize| -> usize {
        let (i, n) = (i as isize - isize::from(r.pad[a][0] as i16), dims[a] as isize);
        let j = match r.mode {
            PadMode::Edge => i.clamp(0, n - 1),
            PadMode::Reflect => {
                let i = i.abs();
                if i >= n { 2 * (n - 1) - i } else { i }
            }
        };
        j.clamp(0, n - 1) as usize
    };
    let mut out = dst.iter_mut();
    for i in 0..full[0] {
        for j in 0..full[1] {
            for k in 0..full[2] {
                let base = ((at(0, i) * dims[1] + at(1, j)) * dims[2] + at(2, k)) * dims[3];
                for l in 0..full[3] {
                    let (Some(d), Some(s)) = (out.next(), src.get(base + at(3, l))) else {
                        return;
                    };
                    *d = *s;
                }
            }
        }
    }
}
