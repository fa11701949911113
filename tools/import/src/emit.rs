//! IR to ONNX: writes float graphs, such as trained or compressed networks, at opset 17.
//!
//! Spatial operators are channels-last in the IR and channels-first in ONNX. Each is wrapped in Transposes; a
//! Transpose that would undo the one before is left out, and so are unread nodes. Graph inputs and outputs keep their
//! names and their external layout, channels-first included.

mod nodes;
mod recurrent;
mod spectral;

use std::collections::{HashMap, HashSet};

use offshoot_ir::{Activation, DType, Data, Graph, ValueId};
use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, attribute_proto::AttributeType, type_proto,
};

use crate::context::{to_first, to_last};
use crate::error::{ImportError, Result, Unsupported};

/// Writes a float graph as an ONNX file that [`crate::import_bytes`] reads back with the same numbers.
///
/// # Errors
/// The graph is quantised, or contains operators that have no ONNX form; all of them are listed.
pub fn emit(graph: &Graph) -> Result<Vec<u8>> {
    graph.validate()?;
    let mut out = Emitter::new(graph);
    let mut unsupported = Vec::new();
    for (id, value) in graph.values.iter().enumerate() {
        if value.quant.is_some() || matches!(value.dtype, DType::I8 | DType::I16) {
            let reason = "quantised tensors cannot be written".to_owned();
            unsupported.push(Unsupported { node: value.name.clone(), operator: "tensor".into(), reason });
        }
        if let Some(data) = &value.data {
            let tensor = tensor(&out.name(ValueId(id as u32)), &value.shape, data);
            out.proto.initializer.push(tensor);
        }
    }
    out.begin();
    for node in &graph.nodes {
        if let Err(reason) = nodes::emit(&mut out, node) {
            let operator = node.op.name().to_owned();
            unsupported.push(Unsupported { node: node.name.clone(), operator, reason });
        }
    }
    if !unsupported.is_empty() {
        return Err(ImportError::Unsupported(unsupported));
    }
    out.end();
    let mut proto = out.proto;
    proto.name = if graph.name.is_empty() { "graph".into() } else { graph.name.clone() };
    proto.input = graph.inputs.iter().map(|id| described(graph, *id)).collect();
    proto.output = graph.outputs.iter().map(|id| described(graph, *id)).collect();
    drop_unread(&mut proto);
    let mut opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 17 }];
    if proto.node.iter().any(|n| n.domain == OWN_DOMAIN) {
        opset_import.push(OperatorSetIdProto { domain: OWN_DOMAIN.into(), version: 1 });
    }
    let model = ModelProto {
        ir_version: 8,
        producer_name: "offshoot".into(),
        opset_import,
        graph: Some(proto),
        ..ModelProto::default()
    };
    Ok(model.encode_to_vec())
}

/// Domain of the operators that ONNX does not have: `History` and `MicroFrontend`.
pub(crate) const OWN_DOMAIN: &str = "offshoot";

/// The ONNX graph under construction.
struct Emitter<'g> {
    graph: &'g Graph,
    proto: GraphProto,
    /// ONNX name of each value, with its axes in the IR's order.
    names: Vec<String>,
    /// Every name in use.
    taken: HashSet<String>,
    /// Channels-first forms of values made so far.
    first: HashMap<ValueId, String>,
    count: usize,
}

impl<'g> Emitter<'g> {
    fn new(graph: &'g Graph) -> Self {
        let taken = graph.values.iter().map(|v| v.name.clone()).collect();
        let names = graph.values.iter().map(|v| v.name.clone()).collect();
        Self { graph, proto: GraphProto::default(), names, taken, first: HashMap::new(), count: 0 }
    }

    /// Gives channels-first inputs and outputs their external names.
    fn begin(&mut self) {
        let ends = self.graph.inputs.iter().chain(&self.graph.outputs);
        for id in ends.copied().filter(|id| first_outside(self.graph, *id)) {
            let outside = self.graph.value(id).name.clone();
            if self.names[id.0 as usize] == outside {
                self.names[id.0 as usize] = self.fresh(&outside);
            }
            if self.graph.inputs.contains(&id) && !self.first.contains_key(&id) {
                let rank = self.graph.value(id).shape.len();
                let inside = self.name(id);
                self.node("Transpose", vec![outside.clone()], &inside, vec![ints("perm", to_last(rank))]);
                self.first.insert(id, outside);
            }
        }
    }

    /// Gives channels-first outputs their names.
    fn end(&mut self) {
        let outputs = self.graph.outputs.iter().copied();
        for id in outputs.filter(|id| first_outside(self.graph, *id)) {
            let (made, wanted) = (self.channels_first(id), self.graph.value(id).name.clone());
            let nodes = self.proto.node.iter_mut();
            for name in nodes.flat_map(|n| n.input.iter_mut().chain(&mut n.output)).filter(|n| **n == made) {
                name.clone_from(&wanted);
            }
            self.first.insert(id, wanted);
        }
    }

    fn name(&self, id: ValueId) -> String {
        self.names[id.0 as usize].clone()
    }

    /// A new unique name.
    fn fresh(&mut self, hint: &str) -> String {
        loop {
            self.count += 1;
            let name = format!("{hint}/onnx{}", self.count);
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }

    /// Appends a node with one output.
    fn node(&mut self, kind: &str, inputs: Vec<String>, output: &str, attribute: Vec<AttributeProto>) {
        self.proto.node.push(NodeProto {
            op_type: kind.to_owned(),
            name: format!("{kind}:{output}"),
            input: inputs,
            output: vec![output.to_owned()],
            attribute,
            ..NodeProto::default()
        });
    }

    /// Appends a node of [`OWN_DOMAIN`].
    fn own_node(&mut self, kind: &str, inputs: Vec<String>, output: &str, attribute: Vec<AttributeProto>) {
        self.node(kind, inputs, output, attribute);
        if let Some(node) = self.proto.node.last_mut() {
            node.domain = OWN_DOMAIN.into();
        }
    }

    fn constant(&mut self, hint: &str, shape: &[usize], data: &Data) -> String {
        let name = self.fresh(hint);
        self.proto.initializer.push(tensor(&name, shape, data));
        name
    }

    /// The name of the value's channels-first form.
    fn channels_first(&mut self, id: ValueId) -> String {
        if let Some(name) = self.first.get(&id) {
            return name.clone();
        }
        let (from, to) = (self.name(id), self.fresh("nchw"));
        let rank = self.graph.value(id).shape.len();
        self.node("Transpose", vec![from], &to, vec![ints("perm", to_first(rank))]);
        self.first.insert(id, to.clone());
        to
    }

    /// Name for the node's raw result, from which `activate` computes the value.
    fn raw(&mut self, id: ValueId, activation: Activation) -> String {
        match activation {
            Activation::None => self.name(id),
            _ => self.fresh(&self.name(id)),
        }
    }

    /// Emits the fused activation, from `raw` to `output`.
    fn activate(&mut self, activation: Activation, raw: &str, output: &str) {
        match activation {
            Activation::None => {}
            Activation::Relu => self.node("Relu", vec![raw.to_owned()], output, vec![]),
            Activation::Clip { min, max } => {
                let (min, max) = (self.scalar(min), self.scalar(max));
                self.node("Clip", vec![raw.to_owned(), min, max], output, vec![]);
            }
        }
    }

    fn scalar(&mut self, value: f32) -> String {
        self.constant("scalar", &[], &Data::F32(vec![value]))
    }

    /// Finishes a channels-first result: activation, then back to channels-last under the value's name.
    fn finish_first(&mut self, id: ValueId, activation: Activation, raw: String) {
        let mut at = raw;
        if activation != Activation::None {
            let activated = self.fresh(&self.name(id));
            self.activate(activation, &at, &activated);
            at = activated;
        }
        let rank = self.graph.value(id).shape.len();
        let name = self.name(id);
        self.node("Transpose", vec![at.clone()], &name, vec![ints("perm", to_last(rank))]);
        self.first.insert(id, at);
    }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: kind as i32, ..AttributeProto::default() }
}

fn ints(name: &str, values: impl IntoIterator<Item = usize>) -> AttributeProto {
    let ints = values.into_iter().map(|v| v as i64).collect();
    AttributeProto { ints, ..attribute(name, AttributeType::Ints) }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: value, ..attribute(name, AttributeType::Int) }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: value, ..attribute(name, AttributeType::Float) }
}

fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: value.as_bytes().to_vec(), ..attribute(name, AttributeType::String) }
}

fn texts(name: &str, values: &[&str]) -> AttributeProto {
    let strings = values.iter().map(|v| v.as_bytes().to_vec()).collect();
    AttributeProto { strings, ..attribute(name, AttributeType::Strings) }
}

fn tensor(name: &str, shape: &[usize], data: &Data) -> TensorProto {
    let (kind, raw): (DataType, Vec<u8>) = match data {
        Data::F32(v) => (DataType::Float, v.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Data::I8(v) => (DataType::Int8, v.iter().map(|v| *v as u8).collect()),
        Data::I16(v) => (DataType::Int16, v.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Data::I32(v) => (DataType::Int32, v.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Data::I64(v) => (DataType::Int64, v.iter().flat_map(|v| v.to_le_bytes()).collect()),
    };
    TensorProto {
        name: name.to_owned(),
        dims: shape.iter().map(|d| *d as i64).collect(),
        data_type: kind as i32,
        raw_data: raw,
        ..TensorProto::default()
    }
}

/// Removes nodes and constants that nothing reads.
fn drop_unread(proto: &mut GraphProto) {
    let mut read: HashSet<String> = proto.output.iter().map(|o| o.name.clone()).collect();
    let mut kept: Vec<NodeProto> = Vec::new();
    for node in std::mem::take(&mut proto.node).into_iter().rev() {
        if node.output.iter().any(|o| read.contains(o)) {
            read.extend(node.input.iter().cloned());
            kept.push(node);
        }
    }
    kept.reverse();
    proto.node = kept;
    proto.initializer.retain(|t| read.contains(&t.name));
}

/// Whether the ONNX tensor is channels-first while the value is channels-last.
fn first_outside(graph: &Graph, id: ValueId) -> bool {
    let value = graph.value(id);
    value.channels_first_outside && value.shape.len() > 2
}

fn described(graph: &Graph, id: ValueId) -> ValueInfoProto {
    let value = graph.value(id);
    let dim =
        |d: &usize| Dimension { value: Some(dimension::Value::DimValue(*d as i64)), ..Dimension::default() };
    let kind = if value.dtype == DType::I32 { DataType::Int64 } else { DataType::Float };
    let shape: Vec<usize> = match first_outside(graph, id) {
        true => to_first(value.shape.len()).into_iter().map(|axis| value.shape[axis]).collect(),
        false => value.shape.clone(),
    };
    let tensor = type_proto::Tensor {
        elem_type: kind as i32,
        shape: Some(TensorShapeProto { dim: shape.iter().map(dim).collect() }),
    };
    ValueInfoProto {
        name: value.name.clone(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}
