//! One file per family of ONNX operators: attributes and forms → IR.

mod conv;
mod elementwise;
mod linear;
mod movement;
mod norm;
mod pool;
mod quant;
mod recurrent;
mod reduce;
mod resize;
mod shape;

use offshoot_ir::{BinaryKind, ReduceKind};

use crate::context::{Context, Importing, Onnx};

/// Imports one node; the reason if it cannot be.
pub(crate) fn import(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let domain = onnx.node.domain.as_str();
    if !matches!(domain, "" | "ai.onnx") {
        return Err(format!("operators of domain `{domain}` are not supported"));
    }
    if let Some(kind) = elementwise::unary_kind(c, onnx)? {
        return elementwise::unary(c, onnx, kind);
    }
    match onnx.node.op_type.as_str() {
        "Conv" => conv::conv(c, onnx),
        "ConvTranspose" => conv::conv_transpose(c, onnx),
        "Gemm" => linear::gemm(c, onnx),
        "MatMul" => linear::matmul(c, onnx),
        "AveragePool" => pool::pool(c, onnx, false),
        "MaxPool" => pool::pool(c, onnx, true),
        "GlobalAveragePool" => pool::global(c, onnx, false),
        "GlobalMaxPool" => pool::global(c, onnx, true),
        "Add" | "Sum" => elementwise::binary(c, onnx, BinaryKind::Add),
        "Sub" => elementwise::binary(c, onnx, BinaryKind::Sub),
        "Mul" => elementwise::binary(c, onnx, BinaryKind::Mul),
        "Div" => elementwise::binary(c, onnx, BinaryKind::Div),
        "Min" => elementwise::binary(c, onnx, BinaryKind::Min),
        "Max" => elementwise::binary(c, onnx, BinaryKind::Max),
        "PRelu" => elementwise::prelu(c, onnx),
        "Selu" => elementwise::selu(c, onnx),
        "Celu" => elementwise::celu(c, onnx),
        "Swish" => elementwise::swish(c, onnx),
        "RNN" | "GRU" | "LSTM" => recurrent::recurrent(c, onnx),
        "Softmax" => norm::softmax(c, onnx, false),
        "LogSoftmax" => norm::softmax(c, onnx, true),
        "BatchNormalization" => norm::batch_norm(c, onnx),
        "LayerNormalization" => norm::layer_norm(c, onnx),
        "Reshape" => movement::reshape(c, onnx),
        "Flatten" => movement::flatten(c, onnx),
        "Squeeze" => movement::squeeze(c, onnx),
        "Unsqueeze" => movement::unsqueeze(c, onnx),
        "Transpose" => movement::transpose(c, onnx),
        "Identity" => movement::identity(c, onnx),
        "Dropout" => movement::dropout(c, onnx),
        "Cast" => movement::cast(c, onnx),
        "Concat" => movement::concat(c, onnx),
        "Split" => movement::split(c, onnx),
        "Slice" => movement::slice(c, onnx),
        "Pad" => movement::pad(c, onnx),
        "Expand" => movement::expand(c, onnx),
        "Resize" | "Upsample" => resize::resize(c, onnx),
        "ReduceMean" => reduce::reduce(c, onnx, ReduceKind::Mean),
        "ReduceSum" => reduce::reduce(c, onnx, ReduceKind::Sum),
        "ReduceMax" => reduce::reduce(c, onnx, ReduceKind::Max),
        "ReduceMin" => reduce::reduce(c, onnx, ReduceKind::Min),
        "ArgMax" => reduce::argmax(c, onnx),
        "QuantizeLinear" => quant::quantize(c, onnx),
        "DequantizeLinear" => quant::dequantize(c, onnx),
        "Constant" => shape::constant(c, onnx),
        "ConstantOfShape" => shape::constant_of_shape(c, onnx),
        "Shape" => shape::shape(c, onnx),
        "Gather" => shape::gather(c, onnx),
        _ => Err(format!("operator is not supported (opset {})", c.opset)),
    }
}
