//! Reductions over the middle axis.

use super::fixed_point::multiply_by_quantized_multiplier as mbqm;
use super::float::{canonical, larger, smaller};
use offshoot_format::record::{ArgMax, Reduce, ReduceArith, ReduceKind};

/// int8, over `[outer, extent, inner]`.
pub fn reduce_i8(r: &Reduce, src: &[i8], dst: &mut [i8]) {
    let ReduceArith::I8 { in_zp, out_zp, multiplier, shift } = r.arith else {
        return;
    };
    let (extent, inner) = (r.extent as usize, r.inner.max(1) as usize);
    for (block, out) in src.chunks_exact(extent.max(1) * inner).zip(dst.chunks_exact_mut(inner)) {
        for (i, o) in out.iter_mut().enumerate() {
            let column = block[i..].iter().step_by(inner);
            *o = match r.kind {
                ReduceKind::Max => column.copied().max().unwrap_or(i8::MIN),
                ReduceKind::Min => column.copied().min().unwrap_or(i8::MAX),
                ReduceKind::Mean | ReduceKind::Sum => {
                    let sum = column.fold(0i32, |s, v| s.wrapping_add(i32::from(*v) - i32::from(in_zp)));
                    mbqm(sum, multiplier, shift).wrapping_add(i32::from(out_zp)).clamp(-128, 127) as i8
                }
            };
        }
    }
}

/// float32, over `[outer, extent, inner]`; sums in order.
pub fn reduce_f32(r: &Reduce, src: &[f32], dst: &mut [f32]) {
    let (extent, inner) = (r.extent as usize, r.inner.max(1) as usize);
    for (block, out) in src.chunks_exact(extent.max(1) * inner).zip(dst.chunks_exact_mut(inner)) {
        for (i, o) in out.iter_mut().enumerate() {
            let column = block[i..].iter().step_by(inner).copied();
            *o = match r.kind {
                ReduceKind::Max => column.fold(f32::NEG_INFINITY, |s, v| larger(v, s)),
                ReduceKind::Min => column.fold(f32::INFINITY, |s, v| smaller(v, s)),
                ReduceKind::Sum => canonical(column.fold(0.0, |s, v| s + v)),
                ReduceKind::Mean => canonical(column.fold(0.0, |s, v| s + v) / extent as f32),
            };
        }
    }
}

fn argmax<T: Copy + PartialOrd>(r: &ArgMax, src: &[T], dst: &mut [i32]) {
    let (extent, inner) = (r.extent as usize, r.inner.max(1) as usize);
    for (block, out) in src.chunks_exact((extent * inner).max(1)).zip(dst.chunks_exact_mut(inner)) {
        for (i, o) in out.iter_mut().enumerate() {
            let mut row = block.get(i..).unwrap_or_default().iter().step_by(inner).enumerate();
            let Some((_, &first)) = row.next() else { continue };
            let (mut best, mut at) = (first, 0);
            for (k, v) in row {
                if *v > best || (r.select_last && *v == best) {
                    best = *v;
                    at = k as i32;
                }
            }
            *o = at;
        }
    }
}
/// int8 ArgMax.
pub fn argmax_i8(r: &ArgMax, src: &[i8], dst: &mut [i32]) {
    argmax(r, src, dst)
}
/// float32 ArgMax.
pub fn argmax_f32(r: &ArgMax, src: &[f32], dst: &mut [i32]) {
    argmax(r, src, dst)
}
