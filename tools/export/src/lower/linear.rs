//! Operators with a single form: transposed convolutions, and the product of two activations.

use offshoot::format::codec::Record;
use offshoot::format::record::{self, Window};
use offshoot_ir::{Activation, Graph, Node, ValueId};

use super::Context;
use crate::forms::parameters::{Lowering, Order, Plain, Reason, nhwc, to_u16, to_u32};
use crate::forms::requant::{self, Fixed, OVERFLOW};
use crate::lowered::Tensor;

/// Transposed convolution.
pub(super) fn conv_transpose(
    c: &mut Context<'_>,
    x: &Tensor,
    y: &Tensor,
    parameters: &[ValueId],
    window: Window,
    groups: usize,
    activation: Activation,
) -> Lowering {
    let [n, h, w, in_c] = nhwc(x)?;
    let [_, out_h, out_w, out_c] = nhwc(y)?;
    let plain = Plain::read(c.graph, [x, y], parameters, out_c.into(), activation, Order::Same)?;
    let (arith, weights) = (plain.arith, plain.weights as u64);
    let blob = c.blob(plain.blob(), plain.account)?;
    let r = record::ConvTranspose {
        src: 0,
        dst: 0,
        n,
        h,
        w,
        c: in_c,
        out_h,
        out_w,
        out_c,
        groups: to_u16(groups, "the group count")?,
        window: window.into(),
        arith,
        blob,
    };
    let op = c.emit(Record::ConvTranspose(r), [Some(x), None], y, &[]);
    let pixels = u64::from(n) * u64::from(h) * u64::from(w);
    // Every weight of an input channel's group is used once per input pixel.
    (op.macs, op.weights) = (pixels * weights, weights);
    Ok(())
}

/// Product of two activations.
pub(super) fn matmul(c: &mut Context<'_>, x: &Tensor, b: ValueId, y: &Tensor, transposed: bool) -> Lowering {
    let b = c.tensor(b)?;
    let b = if x.dtype == b.dtype { b } else { c.as_f32(&b)? };
    let [.., m, k] = x.shape[..] else {
        return Err(format!("needs two axes or more, but the shape is {:?}", x.shape));
    };
    let n = *y.shape.last().unwrap_or(&1);
    let batch = x.len() / (m * k).max(1);
    if b.len() != batch * k * n || y.len() != batch * m * n {
        return Err(format!("operands {:?} and {:?} do not match output {:?}", x.shape, b.shape, y.shape));
    }
    let arith = if x.is_i8() {
        let (multiplier, shift) = matmul_multiplier(x, [b.scale, y.scale], b.zp).ok_or(OVERFLOW)?;
        record::MatMulArith::I8 { a_zp: x.zp, b_zp: b.zp, out_zp: y.zp, multiplier, shift }
    } else {
        record::MatMulArith::F32
    };
    let size = |v| to_u32(v, "an extent");
    let (batch, m, k, n) = (size(batch)?, size(m)?, size(k)?, size(n)?);
    let r = record::MatMul { a: 0, b: 0, dst: 0, batch, m, k, n, transposed, arith };
    let op = c.emit(Record::MatMul(r), [Some(x), Some(&b)], y, &[]);
    op.macs = [batch, m, k, n].iter().map(|&v| u64::from(v)).product();
    Ok(())
}

/// Why the int8 kernel cannot compute a product of two activations; `None` if it can.
pub(super) fn matmul_obstacle(graph: &Graph, node: &Node, x: &Tensor, y: &Tensor) -> Option<Reason> {
    let quant = graph.value(*node.inputs.get(1)?).quant.as_ref()?;
    let zp = i8::try_from(*quant.zero_point.first()?).ok()?;
    let fixed = matmul_multiplier(x, [*quant.scale.first()?, y.scale], zp);
    fixed.is_none().then(|| OVERFLOW.into())
}

/// Multiplier and shift of the product of `x` and an operand with scale `b` and zero point `zp`, for outputs with scale `y`;
/// `None` if sums would overflow.
fn matmul_multiplier(x: &Tensor, [b, y]: [f32; 2], zp: i8) -> Option<Fixed> {
    // TFLite multiplies the input scales in float32.
    let real = f64::from(x.scale * b) / f64::from(y);
    let terms = x.shape.last().copied().unwrap_or(1) as u64;
    requant::fitting(real, terms.saturating_mul(requant::farthest(x.zp) * requant::farthest(zp)))
}
