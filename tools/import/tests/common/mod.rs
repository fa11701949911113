//! ONNX models written in a few lines.
#![allow(dead_code, reason = "each test takes what it needs")]

use prost::Message;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as Dim};
use tract_onnx::pb::type_proto::{Tensor, Value as Type};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto,
};

/// A node from `inputs` (an empty name is one left out) to `outputs`.
pub(crate) fn node(
    operator: &str,
    inputs: &[&str],
    outputs: &[&str],
    attributes: Vec<AttributeProto>,
) -> NodeProto {
    NodeProto {
        op_type: operator.into(),
        name: format!("{operator}_{}", outputs.first().unwrap_or(&"")),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: outputs.iter().map(|s| s.to_string()).collect(),
        attribute: attributes,
        ..Default::default()
    }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: kind as i32, ..Default::default() }
}

pub(crate) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i, ..attribute(name, AttributeType::Int) }
}

pub(crate) fn ints(name: &str, v: &[i64]) -> AttributeProto {
    AttributeProto { ints: v.to_vec(), ..attribute(name, AttributeType::Ints) }
}

pub(crate) fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { f, ..attribute(name, AttributeType::Float) }
}

pub(crate) fn text(name: &str, s: &str) -> AttributeProto {
    AttributeProto { s: s.as_bytes().to_vec(), ..attribute(name, AttributeType::String) }
}

/// A tensor of float32.
pub(crate) fn reals(name: &str, dims: &[i64], v: Vec<f32>) -> TensorProto {
    TensorProto { name: name.into(), dims: dims.to_vec(), data_type: 1, float_data: v, ..Default::default() }
}

/// A tensor of float32 with numbers that look random and do not change.
pub(crate) fn noise(name: &str, dims: &[i64]) -> TensorProto {
    let n = dims.iter().product::<i64>() as usize;
    reals(name, dims, wave(n, name.len() as f32))
}

/// `n` numbers in -1 to 1.
pub(crate) fn wave(n: usize, phase: f32) -> Vec<f32> {
    (0..n).map(|i| ((i * i) as f32 * 0.731 + i as f32 * 1.37 + phase).sin()).collect()
}

/// A tensor of int64.
pub(crate) fn whole(name: &str, v: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: vec![v.len() as i64],
        data_type: 7,
        int64_data: v.to_vec(),
        ..Default::default()
    }
}

/// A tensor of int8 (`data_type` 3) or uint8 (2).
pub(crate) fn bytes(name: &str, dims: &[i64], data_type: i32, v: &[i32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type,
        int32_data: v.to_vec(),
        ..Default::default()
    }
}

pub(crate) fn described(name: &str, elem_type: i32, dims: &[i64]) -> ValueInfoProto {
    let dim =
        dims.iter().map(|d| Dimension { value: Some(Dim::DimValue(*d)), ..Default::default() }).collect();
    let tensor = Tensor { elem_type, shape: Some(TensorShapeProto { dim }) };
    let r#type = TypeProto { value: Some(Type::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.into(), r#type: Some(r#type), ..Default::default() }
}

/// The bytes of a model with one input `x` and one output `y`.
pub(crate) fn model(
    opset: i64,
    elem_type: i32,
    input: &[i64],
    nodes: Vec<NodeProto>,
    initializer: Vec<TensorProto>,
) -> Vec<u8> {
    let output = ValueInfoProto { name: "y".into(), ..Default::default() };
    let graph = GraphProto {
        name: "test".into(),
        node: nodes,
        initializer,
        input: vec![described("x", elem_type, input)],
        output: vec![output],
        ..Default::default()
    };
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: opset }],
        graph: Some(graph),
        ..Default::default()
    }
    .encode_to_vec()
}
