//! Pooling, reductions and ArgMax.

use offshoot::format::codec::Record;
use offshoot::format::record::{self, PoolArith, PoolKind, ReduceArith, ReduceKind, Window};
use offshoot_ir::Activation;
use offshoot_ir::quant_math::mean_multiplier;

use super::{Context, layout};
use crate::forms::parameters::{Lowering, Reason, clamp_f32, clamp_i8, nhwc, to_u32};
use crate::forms::requant::{self, Fixed, OVERFLOW};
use crate::lowered::Tensor;

/// Average or maximum over windows. int8 pooling keeps scale and zero point; if they change, a Requantize follows.
pub(super) fn pool(
    c: &mut Context<'_>,
    x: &Tensor,
    y: &Tensor,
    kind: PoolKind,
    window: Window,
    activation: Activation,
) -> Lowering {
    let [n, h, w, channels] = nhwc(x)?;
    let changes = x.is_i8() && !x.same_numbers(y);
    let pooled = if changes { c.temp(&y.shape, x.dtype, x.scale, x.zp)? } else { y.clone() };
    let arith = match (x.is_i8(), changes) {
        (true, true) => PoolArith::I8 { zp: x.zp, clamp: None },
        (true, false) => PoolArith::I8 { zp: x.zp, clamp: clamp_i8(activation, y) },
        (false, _) => PoolArith::F32 { clamp: clamp_f32(activation) },
    };
    let r = record::Pool { src: 0, dst: 0, n, h, w, c: channels, window: window.into(), kind, arith };
    c.emit(Record::Pool(r), [Some(x), None], &pooled, &[]);
    if changes { c.requantize(&pooled, y, clamp_i8(activation, y)) } else { Ok(()) }
}

/// Sum, mean, maximum or minimum over axes. Axes that are not neighbours are moved to the end first.
pub(super) fn reduce(
    c: &mut Context<'_>,
    x: &Tensor,
    y: &Tensor,
    kind: ReduceKind,
    axes: &[usize],
) -> Lowering {
    let selecting = matches!(kind, ReduceKind::Max | ReduceKind::Min);
    let changes = x.is_i8() && selecting && !x.same_numbers(y);
    let out = if changes { c.temp(&y.shape, x.dtype, x.scale, x.zp)? } else { y.clone() };
    let (x, [outer, extent, inner]) = grouped(c, x, axes)?;
    let arith = match (x.is_i8(), selecting) {
        (false, _) => ReduceArith::F32,
        (true, true) => ReduceArith::I8 { in_zp: x.zp, out_zp: x.zp, multiplier: 1 << 30, shift: 1 },
        (true, false) => {
            let (multiplier, shift) = sum_multiplier(&x, y.scale, kind, extent).ok_or(OVERFLOW)?;
            ReduceArith::I8 { in_zp: x.zp, out_zp: y.zp, multiplier, shift }
        }
    };
    let size = |v| to_u32(v, "an extent");
    let (outer, extent, inner) = (size(outer)?, size(extent)?, size(inner)?);
    let r = record::Reduce { src: 0, dst: 0, outer, extent, inner, kind, arith };
    c.emit(Record::Reduce(r), [Some(&x), None], &out, &[]);
    if changes { c.requantize(&out, y, None) } else { Ok(()) }
}

/// Index of the largest element along an axis.
pub(super) fn argmax(
    c: &mut Context<'_>,
    x: &Tensor,
    y: &Tensor,
    axis: usize,
    select_last: bool,
) -> Lowering {
    if y.dtype != record::DType::I32 {
        return Err(format!("its output is {:?}, but the device's ArgMax writes I32", y.dtype));
    }
    let (x, [outer, extent, inner]) = grouped(c, x, &[axis])?;
    let size = |v| to_u32(v, "an extent");
    let (outer, extent, inner) = (size(outer)?, size(extent)?, size(inner)?);
    let r = record::ArgMax { src: 0, dst: 0, outer, extent, inner, dtype: x.dtype, select_last };
    c.emit(Record::ArgMax(r), [Some(&x), None], y, &[]);
    Ok(())
}

/// `x` as [outer, extent, inner], where extent covers `axes`.
pub(super) fn grouped(c: &mut Context<'_>, x: &Tensor, axes: &[usize]) -> Lowering<(Tensor, [usize; 3])> {
    // Axes of extent 1 do not matter.
    let axes: Vec<usize> = axes.iter().copied().filter(|&a| x.shape[a] != 1).collect();
    let extent: usize = axes.iter().map(|&a| x.shape[a]).product();
    let (Some(&first), Some(&last)) = (axes.first(), axes.last()) else {
        return Ok((x.clone(), [x.len(), 1, 1]));
    };
    if (first..=last).all(|a| axes.contains(&a) || x.shape[a] == 1) {
        let outer = x.shape[..first].iter().product();
        return Ok((x.clone(), [outer, extent, x.shape[last + 1..].iter().product()]));
    }
    let mut perm: Vec<usize> = (0..x.shape.len()).filter(|a| !axes.contains(a)).collect();
    perm.extend(&axes);
    let moved = layout::transposed(c, x, &perm)?;
    Ok((moved, [x.len() / extent, extent, 1]))
}

/// Why the int8 kernel cannot compute a reduction; `None` if it can.
pub(super) fn int8_obstacle(x: &Tensor, y: &Tensor, kind: ReduceKind, axes: &[usize]) -> Option<Reason> {
    let selecting = matches!(kind, ReduceKind::Max | ReduceKind::Min);
    let extent = axes.iter().filter_map(|&a| x.shape.get(a)).product();
    (!selecting && sum_multiplier(x, y.scale, kind, extent).is_none()).then(|| OVERFLOW.into())
}

/// Multiplier and shift of a sum or mean of `extent` elements of `x`; `None` if sums would overflow.
fn sum_multiplier(x: &Tensor, y: f32, kind: ReduceKind, extent: usize) -> Option<Fixed> {
    let count = if kind == ReduceKind::Mean { extent.max(1) } else { 1 };
    let real = f64::from(x.scale) / f64::from(y) / count as f64;
    let largest = (extent as u64).saturating_mul(requant::farthest(x.zp));
    requant::limited(mean_multiplier(x.scale, y, count), real, largest)
}
