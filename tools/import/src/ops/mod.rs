//! One file per family of ONNX operators: from attributes and variants to the IR.

mod attention;
mod blocks;
mod codes;
mod composed;
mod conv;
mod einsum;
mod elementwise;
mod fourier;
mod indexed;
mod integers;
mod linear;
mod logic;
mod movement;
mod norm;
mod norm_composed;
mod own;
mod pool;
mod quant;
mod rearrange;
mod recurrent;
mod reduce;
mod resample;
mod resize;
mod shape;
mod unpool;
mod unrolled;
mod volume;

pub(crate) use codes::scale_inputs;
pub(crate) use integers::is_integer;
use offshoot_ir::{BinaryKind, BinaryMathKind, ReduceKind};

use crate::context::{Context, Importing, Onnx};
use crate::subgraph;

/// Whether the node's outputs are bool.
pub(crate) fn gives_truth(onnx: &Onnx<'_>) -> bool {
    match onnx.node.op_type.as_str() {
        "And" | "Or" | "Xor" | "Not" | "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual"
        | "IsNaN" | "IsInf" => true,
        "Cast" => onnx.int("to", 1) == 9,
        _ => false,
    }
}

/// Imports one node, or returns why it cannot be imported.
pub(crate) fn import(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    if codes::import(c, onnx)? {
        return Ok(());
    }
    node(c, onnx)?;
    integers::settle(c, onnx)
}

fn node(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let domain = onnx.node.domain.as_str();
    let functions = c.functions.clone();
    if let Some(own) = functions.iter().find(|f| f.domain() == domain && f.name() == onnx.node.op_type) {
        return subgraph::call(c, onnx, own);
    }
    if domain == "com.microsoft" && onnx.node.op_type == "MatMulNBits" {
        return blocks::matmul_n_bits(c, onnx);
    }
    if domain == crate::emit::OWN_DOMAIN {
        return own::import(c, onnx);
    }
    if !matches!(domain, "" | "ai.onnx") {
        return Err(format!("operators of domain `{domain}` are not supported"));
    }
    if let Some(kind) = elementwise::unary_kind(c, onnx)? {
        return elementwise::unary(c, onnx, kind);
    }
    match onnx.node.op_type.as_str() {
        "Conv" => conv::conv(c, onnx),
        "ConvTranspose" => conv::conv_transpose(c, onnx),
        "Gemm" if c.is_constant(onnx, 1) && (onnx.input(2).is_none() || c.is_constant(onnx, 2)) => {
            linear::gemm(c, onnx)
        }
        "Gemm" => composed::gemm(c, onnx),
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
        "Pow" => elementwise::binary(c, onnx, BinaryKind::Math(BinaryMathKind::Pow)),
        "Mod" => elementwise::modulo(c, onnx),
        "PRelu" if elementwise::is_channelwise_prelu(c, onnx) => elementwise::prelu(c, onnx),
        "PRelu" => composed::prelu(c, onnx),
        "Selu" => elementwise::selu(c, onnx),
        "Celu" => elementwise::celu(c, onnx),
        "Swish" => elementwise::swish(c, onnx),
        "RNN" | "GRU" | "LSTM" => recurrent::recurrent(c, onnx),
        "Softmax" => norm::softmax(c, onnx, false),
        "LogSoftmax" => norm::softmax(c, onnx, true),
        "BatchNormalization" => norm::batch_norm(c, onnx),
        "LayerNormalization" => norm::layer_norm(c, onnx),
        "Attention" => attention::attention(c, onnx),
        "RotaryEmbedding" => attention::rotary(c, onnx),
        "LinearAttention" => attention::linear_attention(c, onnx),
        "CausalConvWithState" => attention::causal_conv(c, onnx),
        "If" => subgraph::branch(c, onnx),
        "Loop" => subgraph::iterate(c, onnx),
        "Scan" => subgraph::scan(c, onnx),
        "CastLike" => composed::cast_like(c, onnx),
        "Hardmax" => composed::hardmax(c, onnx),
        "Shrink" => composed::shrink(c, onnx),
        "ReduceProd" => composed::reduce_product(c, onnx),
        "LRN" => norm_composed::lrn(c, onnx),
        "MeanVarianceNormalization" => norm_composed::mean_variance(c, onnx),
        "SwiGLU" => composed::swiglu(c, onnx),
        "CenterCropPad" => composed::center_crop_pad(c, onnx),
        "Det" => composed::determinant(c, onnx),
        "AffineGrid" => composed::affine_grid(c, onnx),
        "Col2Im" => composed::col2im(c, onnx),
        "TensorScatter" => composed::tensor_scatter(c, onnx),
        "OptionalGetElement" => movement::identity(c, onnx),
        "STFT" => fourier::stft(c, onnx),
        "ReverseSequence" => composed::reverse_sequence(c, onnx),
        "LpPool" => pool::lp(c, onnx),
        "GlobalLpPool" => pool::global_lp(c, onnx),
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
        "ReduceL1" | "ReduceL2" | "ReduceSumSquare" | "ReduceLogSum" | "ReduceLogSumExp" => {
            reduce::norm(c, onnx)
        }
        "ArgMax" => reduce::argmax(c, onnx, false),
        "ArgMin" => reduce::argmax(c, onnx, true),
        "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "Equal" => logic::compare(c, onnx),
        "And" | "Or" | "Xor" => logic::connect(c, onnx),
        "Not" => logic::not(c, onnx),
        "Sign" => logic::sign(c, onnx),
        "Where" => logic::choose(c, onnx),
        "ThresholdedRelu" => logic::thresholded_relu(c, onnx),
        "DepthToSpace" => rearrange::depth_to_space(c, onnx),
        "SpaceToDepth" => rearrange::space_to_depth(c, onnx),
        "Tile" => rearrange::tile(c, onnx),
        "Trilu" => rearrange::trilu(c, onnx),
        "CumSum" => rearrange::cum_sum(c, onnx),
        "DFT" => fourier::dft(c, onnx),
        "Einsum" => einsum::einsum(c, onnx),
        "Clip" => elementwise::clip_by_tensors(c, onnx),
        "Mean" => elementwise::mean(c, onnx),
        "Mish" => elementwise::mish(c, onnx),
        "Softsign" => elementwise::softsign(c, onnx),
        "InstanceNormalization" => norm::instance_norm(c, onnx),
        "GroupNormalization" => norm::group_norm(c, onnx),
        "RMSNormalization" => norm::rms_norm(c, onnx),
        "LpNormalization" => norm::lp_norm(c, onnx),
        "QuantizeLinear" => quant::quantize(c, onnx),
        "DequantizeLinear" => quant::dequantize(c, onnx),
        "Constant" => shape::constant(c, onnx),
        "ConstantOfShape" => shape::constant_of_shape(c, onnx),
        "Shape" => shape::shape(c, onnx),
        "Size" => shape::size(c, onnx),
        "EyeLike" => shape::eye_like(c, onnx),
        "Gather" => shape::gather(c, onnx),
        "GatherElements" | "GatherND" => indexed::gather(c, onnx),
        "ScatterElements" | "Scatter" | "ScatterND" => indexed::scatter(c, onnx),
        "TopK" => indexed::top_k(c, onnx),
        "OneHot" => indexed::one_hot(c, onnx),
        "GridSample" => indexed::grid_sample(c, onnx),
        "MaxUnpool" => unpool::max_unpool(c, onnx),
        "Compress" if c.is_constant(onnx, 1) => shape::compress(c, onnx),
        "Compress" | "NonZero" | "Unique" => {
            Err("the number of its outputs depends on the data; only constants are supported".into())
        }
        _ => Err(format!("operator is not supported (opset {})", c.opset)),
    }
}
