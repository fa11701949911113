//! One file per family of operators: from options and variants of the file to the IR.

mod arithmetic;
mod blocks;
mod linear;
mod movement;
mod recurrent;
mod reduce;
pub(super) mod state;

use offshoot_ir::{BinaryKind, ReduceKind, UnaryKind};

use super::builder::Builder;
use super::file::Operator;
use crate::context::{Importing, axis};

type Import = fn(&mut Builder<'_>, &Operator<'_>) -> Importing;

/// Imports one operator, or returns why it cannot be imported.
pub(super) fn import(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing {
    match importer(op) {
        Some(import) => import(b, op),
        None => Err(unknown(op)),
    }
}

/// Whether operators of this kind can be imported.
pub(super) fn is_known(op: &Operator<'_>) -> bool {
    importer(op).is_some()
}

/// Why an operator of an unknown kind cannot be imported.
pub(super) fn unknown(op: &Operator<'_>) -> String {
    let what = if op.custom { "custom operators are" } else { "the operator is" };
    format!("{what} not supported")
}

/// The subgraph that a CALL_ONCE runs.
pub(super) fn initialiser(op: &Operator<'_>) -> Option<usize> {
    let options = op.options.builtin_options_as_call_once_options()?;
    usize::try_from(options.init_subgraph_index()).ok()
}

fn importer(op: &Operator<'_>) -> Option<Import> {
    if op.custom {
        return None;
    }
    let unary = |kind: UnaryKind| -> Option<Import> {
        Some(match kind {
            UnaryKind::Sigmoid => |b, op| arithmetic::unary(b, op, UnaryKind::Sigmoid),
            UnaryKind::Tanh => |b, op| arithmetic::unary(b, op, UnaryKind::Tanh),
            UnaryKind::HardSwish => |b, op| arithmetic::unary(b, op, UnaryKind::HardSwish),
            UnaryKind::Abs => |b, op| arithmetic::unary(b, op, UnaryKind::Abs),
            UnaryKind::Exp => |b, op| arithmetic::unary(b, op, UnaryKind::Exp),
            UnaryKind::Log => |b, op| arithmetic::unary(b, op, UnaryKind::Log),
            UnaryKind::Neg => |b, op| arithmetic::unary(b, op, UnaryKind::Neg),
            UnaryKind::Sqrt => |b, op| arithmetic::unary(b, op, UnaryKind::Sqrt),
            _ => |b, op| arithmetic::unary(b, op, UnaryKind::Elu { alpha: 1.0 }),
        })
    };
    Some(match op.kind.as_str() {
        "CONV_2D" => linear::conv,
        "DEPTHWISE_CONV_2D" => linear::depthwise,
        "TRANSPOSE_CONV" => linear::transpose_conv,
        "FULLY_CONNECTED" => linear::fully_connected,
        "BATCH_MATMUL" => linear::batch_matmul,
        "AVERAGE_POOL_2D" => |b, op| linear::pool(b, op, offshoot_ir::PoolKind::Average),
        "MAX_POOL_2D" => |b, op| linear::pool(b, op, offshoot_ir::PoolKind::Max),
        "ADD" => |b, op| arithmetic::binary(b, op, BinaryKind::Add),
        "SUB" => |b, op| arithmetic::binary(b, op, BinaryKind::Sub),
        "MUL" => |b, op| arithmetic::binary(b, op, BinaryKind::Mul),
        "DIV" => |b, op| arithmetic::binary(b, op, BinaryKind::Div),
        "MAXIMUM" => |b, op| arithmetic::binary(b, op, BinaryKind::Max),
        "MINIMUM" => |b, op| arithmetic::binary(b, op, BinaryKind::Min),
        "ADD_N" => arithmetic::add_n,
        "SQUARED_DIFFERENCE" => arithmetic::squared_difference,
        "RELU" => |b, op| arithmetic::clip(b, op, 0.0, f32::INFINITY),
        "RELU6" => |b, op| arithmetic::clip(b, op, 0.0, 6.0),
        "RELU_N1_TO_1" => |b, op| arithmetic::clip(b, op, -1.0, 1.0),
        "RELU_0_TO_1" => |b, op| arithmetic::clip(b, op, 0.0, 1.0),
        "LEAKY_RELU" => arithmetic::leaky_relu,
        "PRELU" => arithmetic::prelu,
        "GELU" => arithmetic::gelu,
        "LOGISTIC" => return unary(UnaryKind::Sigmoid),
        "TANH" => return unary(UnaryKind::Tanh),
        "HARD_SWISH" => return unary(UnaryKind::HardSwish),
        "ELU" => return unary(UnaryKind::Elu { alpha: 1.0 }),
        "ABS" => return unary(UnaryKind::Abs),
        "EXP" => return unary(UnaryKind::Exp),
        "LOG" => return unary(UnaryKind::Log),
        "NEG" => return unary(UnaryKind::Neg),
        "SQRT" => return unary(UnaryKind::Sqrt),
        "RSQRT" => arithmetic::rsqrt,
        "SQUARE" => arithmetic::square,
        "POW" => arithmetic::pow,
        "CAST" => arithmetic::cast,
        "QUANTIZE" => arithmetic::quantize,
        "DEQUANTIZE" => arithmetic::dequantize,
        "SOFTMAX" => reduce::softmax,
        "LOG_SOFTMAX" => reduce::log_softmax,
        "L2_NORMALIZATION" => reduce::l2_normalization,
        "MEAN" => |b, op| reduce::reduce(b, op, ReduceKind::Mean),
        "SUM" => |b, op| reduce::reduce(b, op, ReduceKind::Sum),
        "REDUCE_MAX" => |b, op| reduce::reduce(b, op, ReduceKind::Max),
        "REDUCE_MIN" => |b, op| reduce::reduce(b, op, ReduceKind::Min),
        "ARG_MAX" => |b, op| reduce::arg_max(b, op, false),
        "ARG_MIN" => |b, op| reduce::arg_max(b, op, true),
        "RESHAPE" | "SQUEEZE" | "EXPAND_DIMS" => movement::reshape,
        "TRANSPOSE" => movement::transpose,
        "CONCATENATION" => movement::concatenation,
        "PACK" => movement::pack,
        "UNPACK" => movement::unpack,
        "SPLIT" => movement::split,
        "SPLIT_V" => movement::split_v,
        "SLICE" => movement::slice,
        "STRIDED_SLICE" => movement::strided_slice,
        "REVERSE_V2" => movement::reverse,
        "GATHER" => movement::gather,
        "PAD" | "PADV2" => movement::pad,
        "MIRROR_PAD" => movement::mirror_pad,
        "BROADCAST_TO" => movement::broadcast_to,
        "TILE" => blocks::tile,
        "SPACE_TO_DEPTH" => |b, op| blocks::depth(b, op, false),
        "DEPTH_TO_SPACE" => |b, op| blocks::depth(b, op, true),
        "SPACE_TO_BATCH_ND" => blocks::space_to_batch,
        "BATCH_TO_SPACE_ND" => blocks::batch_to_space,
        "RESIZE_BILINEAR" => |b, op| blocks::resize(b, op, true),
        "RESIZE_NEAREST_NEIGHBOR" => |b, op| blocks::resize(b, op, false),
        "SHAPE" | "RANK" => movement::shape,
        "UNIDIRECTIONAL_SEQUENCE_LSTM" => recurrent::lstm,
        "SVDF" => state::svdf,
        // What it runs has been read before the network's operators.
        "CALL_ONCE" => |_, _| Ok(()),
        "VAR_HANDLE" => state::handle,
        "READ_VARIABLE" => state::read,
        "ASSIGN_VARIABLE" => state::assign,
        _ => return None,
    })
}

/// The single axis at input `i`, counted from the front.
fn axis_at(b: &Builder<'_>, op: &Operator<'_>, i: usize, rank: usize) -> Importing<usize> {
    match b.ints(op, i)?.as_slice() {
        [a] => axis(*a, rank),
        other => Err(format!("{} axes, not one", other.len())),
    }
}

/// The axes at input `i`, counted from the front, ascending, each once.
fn axes_at(b: &Builder<'_>, op: &Operator<'_>, i: usize, rank: usize) -> Importing<Vec<usize>> {
    let mut axes = b.ints(op, i)?.iter().map(|a| axis(*a, rank)).collect::<Importing<Vec<_>>>()?;
    axes.sort_unstable();
    axes.dedup();
    Ok(axes)
}
