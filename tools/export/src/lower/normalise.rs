//! Softmax and layer normalisation over the last axis. Any other axis is moved there and back.

use offshoot::format::codec::Record;
use offshoot::format::record::{self, SoftmaxArith};
use offshoot_ir::ValueId;
use offshoot_ir::quant_math::softmax_scaling;

use super::{Context, int16, layout};
use crate::blobs;
use crate::forms::parameters::{Lowering, to_u32};
use crate::lowered::Tensor;

/// Scale and zero point of an int8 softmax's output, by TFLite's specification.
const SOFTMAX_OUTPUT: (f32, i8) = (1.0 / 256.0, -128);

/// Softmax over an axis.
pub(super) fn softmax(c: &mut Context<'_>, x: &Tensor, y: &Tensor, axis: usize) -> Lowering {
    let rank = x.shape.len();
    let inner: usize = x.shape[axis + 1..].iter().product();
    if inner != 1 {
        let mut perm: Vec<usize> = (0..rank).filter(|&a| a != axis).collect();
        perm.push(axis);
        let mut back = vec![0; rank];
        perm.iter().enumerate().for_each(|(i, &p)| back[p] = i);
        let x = layout::transposed(c, x, &perm)?;
        let out = c.temp(&x.shape, y.dtype, y.scale, y.zp)?;
        rows(c, &x, &out, rank - 1)?;
        return layout::transpose_into(c, &out, y, &back);
    }
    rows(c, x, y, axis)
}

fn rows(c: &mut Context<'_>, x: &Tensor, y: &Tensor, axis: usize) -> Lowering {
    let depth = x.shape[axis];
    if x.is_i16() {
        return int16::softmax_rows(c, x, y, depth);
    }
    let (scale, zp) = SOFTMAX_OUTPUT;
    let other = y.is_i8() && (y.scale, y.zp) != (scale, zp);
    let out = if other { c.temp(&y.shape, y.dtype, scale, zp)? } else { y.clone() };
    let arith = if x.is_i8() {
        let (multiplier, shift, diff_min) = softmax_scaling(x.scale);
        SoftmaxArith::I8 { multiplier, shift, diff_min }
    } else {
        SoftmaxArith::F32
    };
    let rows = to_u32(x.len() / depth.max(1), "the row count")?;
    let r = record::Softmax { src: 0, dst: 0, rows, depth: to_u32(depth, "the depth")?, arith };
    c.emit(Record::Softmax(r), [Some(x), None], &out, &[x]);
    if other { c.requantize(&out, y, None) } else { Ok(()) }
}

/// Layer normalisation over the last axis (float32).
pub(super) fn layer_norm(
    c: &mut Context<'_>,
    x: &Tensor,
    y: &Tensor,
    gamma: ValueId,
    beta: ValueId,
    epsilon: f32,
) -> Lowering {
    let depth = *x.shape.last().ok_or("normalises a scalar")?;
    let (gamma, beta) = (c.constant_f32(gamma)?, c.constant_f32(beta)?);
    if gamma.len() != depth || beta.len() != depth {
        return Err(format!(
            "gamma and beta have {} and {} elements, but need {depth}",
            gamma.len(),
            beta.len()
        ));
    }
    let mut blob = blobs::floats(&gamma);
    blob.extend(blobs::floats(&beta));
    let blob = c.blob(blob, [4 * depth, 4 * depth])?;
    let rows = to_u32(x.len() / depth.max(1), "the row count")?;
    let r = record::LayerNorm { src: 0, dst: 0, rows, depth: to_u32(depth, "the depth")?, epsilon, blob };
    c.emit(Record::LayerNorm(r), [Some(x), None], y, &[x]);
    Ok(())
}
