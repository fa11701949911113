//! Average pools whose output scale differs from their input's: the sum is rounded once, to the output's scale.
//!
//! The device's pools keep the input's scale, as in TFLite, and would first round the mean to it.

use offshoot_ir::{Activation, DType, Data, Node, Op, PoolKind, Quant, ReduceKind};

use super::constants::constant;
use super::pool_counts;
use super::table::Table;

/// Replaces such a pool by a reduction (windows of the whole image) or a convolution with a kernel of ones. One whose windows
/// count a varying number of elements stays for [`pool_counts`]. Returns `false` if nothing computes the mean.
pub(super) fn one_rounding(t: &mut Table, node: &mut Node) -> bool {
    let Op::Pool { kind, window, activation } = node.op else { return true };
    let (x, y) = (t.value(node.inputs[0]), t.value(node.output));
    if kind == PoolKind::Max || x.quant == y.quant {
        return true;
    }
    let &[_, h, w, c] = x.shape.as_slice() else { return false };
    let kernel = window.kernel.map(usize::from);
    let padded = window.pad != [0; 4];
    if padded && kind != PoolKind::AverageIncludePad {
        return pool_counts::fits(&window, &x.shape, &y.shape);
    }
    if kernel == [h, w] && !padded && activation == Activation::None {
        node.op = Op::Reduce { kind: ReduceKind::Mean, axes: vec![1, 2] };
        return true;
    }
    let area = kernel[0] * kernel[1];
    let shape = vec![c, kernel[0], kernel[1], 1];
    let ones = Data::I8(vec![1; c * area]);
    let quant = Quant::per_tensor(1.0 / area as f32, 0);
    let name = format!("{}/ones", node.name);
    let weights = t.add(constant(name, shape, DType::I8, ones, quant));
    node.op = Op::Conv2d { window, groups: c, activation };
    node.inputs.push(weights);
    true
}
