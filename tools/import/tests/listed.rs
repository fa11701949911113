//! The lists of operators in the README are those of the importer: it takes what they name, and they name what it takes.

mod common;

use common::*;
use offshoot_import::import_bytes;
use prost::Message;
use tract_onnx::pb::{GraphProto, ModelProto, OperatorSetIdProto};

/// The standard's operators, up to opset 24.
const STANDARD: &str = "Abs Acos Acosh Add AffineGrid And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool \
    BatchNormalization Bernoulli BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow Cast CastLike Ceil Celu \
    CenterCropPad Clip Col2Im Compress Concat ConcatFromSequence Constant ConstantOfShape Conv ConvInteger ConvTranspose Cos \
    Cosh CumSum DFT DeformConv DepthToSpace DequantizeLinear Det Div Dropout DynamicQuantizeLinear Einsum Elu Equal Erf Exp \
    Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool \
    Greater GreaterOrEqual GridSample GroupNormalization HammingWindow HannWindow HardSigmoid HardSwish Hardmax Identity If \
    ImageDecoder InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax \
    Loop LpNormalization LpPool MatMul MatMulInteger Max MaxPool MaxRoiPool MaxUnpool Mean MeanVarianceNormalization \
    MelWeightMatrix Min Mish Mod Mul Multinomial Neg NegativeLogLikelihoodLoss NonMaxSuppression NonZero Not OneHot Optional \
    OptionalGetElement OptionalHasElement Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear RMSNormalization RNN \
    RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum \
    ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare RegexFullMatch Relu Reshape Resize \
    ReverseSequence RoiAlign RotaryEmbedding Round STFT Scan Scatter ScatterElements ScatterND Selu SequenceAt \
    SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength SequenceMap Shape Shrink Sigmoid Sign Sin \
    Sinh Size Slice Softmax SoftmaxCrossEntropyLoss Softplus Softsign SpaceToDepth Split SplitToSequence Sqrt Squeeze \
    StringConcat StringNormalizer StringSplit Sub Sum Swish Tan Tanh TensorScatter TfIdfVectorizer ThresholdedRelu Tile \
    TopK Transpose Trilu Unique Unsqueeze Upsample Where Xor";

/// Names of the first column of a table of the README, which follows a heading or sentence that contains `behind`.
fn listed(behind: &str) -> Vec<String> {
    let text = include_str!("../README.md");
    let table = text.split(behind).nth(1).expect("the part of the README");
    let rows =
        table.lines().skip_while(|l| !l.starts_with("|---")).skip(1).take_while(|l| l.starts_with('|'));
    let names = rows.flat_map(|row| row.split('|').nth(1).unwrap_or_default().split(',').map(str::trim));
    names.map(str::to_owned).collect()
}

/// Whether the importer knows the operator: it refuses a node without attributes for another reason, or takes it.
fn known(operator: &str) -> bool {
    let inputs = ["x", "y", "z"];
    let graph = GraphProto {
        node: vec![node(operator, &inputs, &["out"], vec![])],
        input: inputs.iter().map(|name| described(name, 1, &[1, 2, 4, 4])).collect(),
        output: vec![described("out", 1, &[])],
        ..Default::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 18 }];
    let model = ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..Default::default() };
    let refused = import_bytes(&model.encode_to_vec(), "test").err().map(|e| e.to_string());
    refused.is_none_or(|reason| !reason.contains("operator is not supported"))
}

#[test]
fn the_readme_lists_what_is_imported() {
    let listed = listed("computed at run time.");
    assert!(listed.len() > 150, "{listed:?}");
    // QLinear operators need constant scales; `quantised.rs` has them.
    let bare = |name: &str| STANDARD.split_whitespace().any(|s| s == name) && !name.starts_with("QLinear");
    let unknown: Vec<&String> = listed.iter().filter(|name| bare(name) && !known(name)).collect();
    assert!(unknown.is_empty(), "listed, but not imported: {unknown:?}");
    let silent: Vec<&str> = (STANDARD.split_whitespace())
        .filter(|name| known(name) && !listed.iter().any(|l| l == name))
        .collect();
    // An optional that is there is its element.
    assert_eq!(silent, ["OptionalGetElement"], "imported, but not listed");
}

#[test]
fn numbers_of_elements_and_identities_are_constants() {
    let nodes = vec![
        node("Size", &["x"], &["n"], vec![]),
        node("Cast", &["n"], &["real"], vec![int("to", 1)]),
        node("EyeLike", &["x"], &["eye"], vec![int("k", 1)]),
        node("Mul", &["x", "eye"], &["m"], vec![]),
        node("Mul", &["m", "real"], &["y"], vec![]),
    ];
    let graph = GraphProto {
        node: nodes,
        input: vec![described("x", 1, &[2, 3])],
        output: vec![described("y", 1, &[])],
        ..Default::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 18 }];
    let model = ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..Default::default() };
    let graph = import_bytes(&model.encode_to_vec(), "test").unwrap();
    let x = ndarray::arr2(&[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).into_dyn();
    let y = offshoot_reference::Executor::new(&graph).unwrap().run(&[x]).unwrap();
    assert_eq!(y[0].iter().copied().collect::<Vec<f32>>(), [0.0, 12.0, 0.0, 0.0, 0.0, 36.0]);
}

#[test]
fn a_pool_over_all_places_is_a_norm() {
    let graph = GraphProto {
        node: vec![node("GlobalLpPool", &["x"], &["y"], vec![int("p", 2)])],
        input: vec![described("x", 1, &[1, 2, 2, 1])],
        output: vec![described("y", 1, &[])],
        ..Default::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 18 }];
    let model = ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..Default::default() };
    let graph = import_bytes(&model.encode_to_vec(), "test").unwrap();
    let x = ndarray::ArrayD::from_shape_vec(vec![1, 2, 2, 1], vec![3.0, -4.0, 6.0, 8.0]).unwrap();
    let y = offshoot_reference::Executor::new(&graph).unwrap().run(&[x]).unwrap();
    let y: Vec<f32> = y[0].iter().copied().collect();
    assert!((y[0] - 5.0).abs() < 1e-5 && (y[1] - 10.0).abs() < 1e-5, "{y:?}");
}
