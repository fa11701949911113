//! Two ONNX files as one: a front end whose output the network behind it reads.

use std::collections::{HashMap, HashSet};

use prost::Message;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, type_proto};

use crate::error::{ImportError, Result};

/// The first opset in which all operators of a network mean the same as in that of a front end.
const FIRST_OPSET: i64 = 13;

/// Puts `front`, which has one input and one output, in front of `network`, which has one float32 input of as many elements.
/// The network's nodes stay as they are, quantised ones included; one in an older opset is written anew, if it is float.
///
/// # Errors
/// One of the files is no ONNX model, or they do not fit together.
pub fn join(front: &[u8], network: &[u8]) -> Result<Vec<u8>> {
    let mut front = decode(front)?;
    let mut model = decode(network)?;
    if opset(&model) < FIRST_OPSET {
        model = decode(&crate::emit(&crate::import_bytes(network, "network")?)?)?;
    }
    let mut proto = model.graph.take().ok_or_else(|| refused("the network holds no graph"))?;
    if proto.initializer.iter().any(|t| t.data_location == Some(DataLocation::External as i32)) {
        return Err(refused("the network keeps its weights in other files; save it as one file"));
    }
    let mut own = front.graph.take().ok_or_else(|| refused("the front end holds no graph"))?;
    rename(&mut own, &names(&proto));
    let constants: HashSet<&str> = proto.initializer.iter().map(|t| t.name.as_str()).collect();
    let inputs: Vec<&ValueInfoProto> =
        proto.input.iter().filter(|i| !constants.contains(i.name.as_str())).collect();
    let (&[input], [features]) = (&inputs[..], &own.output[..]) else {
        return Err(refused(&format!("the network has {} inputs; a front end serves one", inputs.len())));
    };
    let (kind, shape) = described(input).ok_or_else(|| refused("the network's input has no shape"))?;
    if kind != DataType::Float as i32 {
        return Err(refused(&format!("the network's input `{}` is not float32", input.name)));
    }
    let (_, given) = described(features).ok_or_else(|| refused("the features have no shape"))?;
    let count = |shape: &[i64]| shape.iter().try_fold(1i64, |n, d| n.checked_mul(*d));
    if count(&shape) != count(&given) {
        return Err(refused(&format!(
            "the network's input `{}` is {shape:?}, but the features are {given:?}",
            input.name
        )));
    }
    let (name, features) = (input.name.clone(), features.name.clone());
    let extents = format!("{features}/shape");
    own.initializer.push(TensorProto {
        name: extents.clone(),
        dims: vec![shape.len() as i64],
        data_type: DataType::Int64 as i32,
        raw_data: shape.iter().flat_map(|d| d.to_le_bytes()).collect(),
        ..TensorProto::default()
    });
    own.node.push(NodeProto {
        op_type: "Reshape".into(),
        name: format!("{features}/reshape"),
        input: vec![features, extents],
        output: vec![name.clone()],
        ..NodeProto::default()
    });
    proto.input.retain(|i| i.name != name);
    proto.input.splice(0..0, own.input);
    own.node.append(&mut proto.node);
    own.initializer.append(&mut proto.initializer);
    (proto.node, proto.initializer) = (own.node, own.initializer);
    let version = opset(&front).max(opset(&model));
    for set in model.opset_import.iter_mut().filter(|o| o.domain.is_empty() || o.domain == "ai.onnx") {
        set.version = version;
    }
    let others = front.opset_import.into_iter().filter(|o| !o.domain.is_empty());
    let known: HashSet<String> = model.opset_import.iter().map(|o| o.domain.clone()).collect();
    model.opset_import.extend(others.filter(|o| !known.contains(&o.domain)));
    model.ir_version = model.ir_version.max(front.ir_version);
    model.graph = Some(proto);
    Ok(model.encode_to_vec())
}

fn refused(what: &str) -> ImportError {
    ImportError::Format(what.to_owned())
}

fn decode(bytes: &[u8]) -> Result<ModelProto> {
    ModelProto::decode(bytes).map_err(|e| ImportError::Format(e.to_string()))
}

fn opset(model: &ModelProto) -> i64 {
    let sets = model.opset_import.iter().filter(|o| o.domain.is_empty() || o.domain == "ai.onnx");
    sets.map(|o| o.version).max().unwrap_or(0)
}

/// Element type and extents of a tensor; symbolic ones are 1.
fn described(info: &ValueInfoProto) -> Option<(i32, Vec<i64>)> {
    let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_ref()?.value.as_ref() else {
        return None;
    };
    let extent = |value: &Option<dimension::Value>| match value {
        Some(dimension::Value::DimValue(d)) if *d > 0 => *d,
        _ => 1,
    };
    Some((tensor.elem_type, tensor.shape.as_ref()?.dim.iter().map(|d| extent(&d.value)).collect()))
}

/// All names of tensors of a graph.
fn names(proto: &GraphProto) -> HashSet<String> {
    let nodes = proto.node.iter().flat_map(|n| n.input.iter().chain(&n.output));
    let ends = proto.input.iter().chain(&proto.output).map(|i| &i.name);
    nodes.chain(ends).chain(proto.initializer.iter().map(|t| &t.name)).cloned().collect()
}

/// Gives the tensors of `own` other names where `taken` has them.
fn rename(own: &mut GraphProto, taken: &HashSet<String>) {
    let all = names(own);
    let mut to: HashMap<String, String> = HashMap::new();
    for name in all.iter().filter(|name| taken.contains(*name) && !name.is_empty()) {
        let mut other = format!("{name}'");
        while taken.contains(&other) || all.contains(&other) {
            other.push('\'');
        }
        to.insert(name.clone(), other);
    }
    let ends = own.input.iter_mut().chain(&mut own.output).map(|i| &mut i.name);
    let nodes = own.node.iter_mut().flat_map(|n| n.input.iter_mut().chain(&mut n.output));
    for name in ends.chain(nodes).chain(own.initializer.iter_mut().map(|t| &mut t.name)) {
        if let Some(other) = to.get(name) {
            name.clone_from(other);
        }
    }
}
