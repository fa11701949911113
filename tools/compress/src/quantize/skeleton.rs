//! The quantised graph before its weights are fitted: number formats of all tensors, and conversions between them.
//!
//! Values of the float graph keep their ids (the mapping from device operators to tensors relies on it); conversions
//! and private copies of constants are appended.

use std::collections::HashMap;

use offshoot_ir::grid::{self, code};
use offshoot_ir::{BinaryKind, DType, Data, Graph, Node, Op, Quant, Value, ValueId};

use super::classes::{Sharing, is_activation, shared};
use super::form::is_weighted;
use super::front_end;
use super::margin;
use super::options::IoType;
use super::tensors::real_values;

/// Quantised graph that still has float weights, and the origin of each node.
#[derive(Clone, Debug)]
pub(crate) struct Skeleton {
    /// The graph.
    pub(crate) graph: Graph,
    /// Index of the node in the float graph; `None` for an inserted conversion.
    pub(crate) origin: Vec<Option<usize>>,
}

/// Builds the skeleton. `float[i]`: node i stays float32. `quants[v]`: scale and zero point of value v if it becomes
/// int8.
pub(crate) fn build(source: &Graph, float: &[bool], quants: &[Quant], io: IoType) -> Skeleton {
    let mut b = Builder {
        graph: Graph { nodes: Vec::new(), ..source.clone() },
        origin: Vec::new(),
        quants,
        converted: HashMap::new(),
    };
    // Samples of a signal need more than 8 bits.
    let signals = front_end::signals(source);
    for &id in &source.inputs {
        if io == IoType::Int8 && is_activation(source, id) && !signals[id.0 as usize] {
            b.set_i8(id, quants[id.0 as usize].clone());
        }
    }
    for (i, node) in source.nodes.iter().enumerate() {
        let mut node = node.clone();
        if float[i] {
            node.inputs = node.inputs.iter().map(|&id| b.as_f32(id)).collect();
        } else {
            b.int8_inputs(source, &mut node);
            if is_activation(source, node.output) {
                b.set_i8(node.output, quants[node.output.0 as usize].clone());
            }
        }
        b.push(node, Some(i));
    }
    for at in 0..source.outputs.len() {
        let id = source.outputs[at];
        let new = match io {
            IoType::Int8 if is_activation(source, id) => b.as_i8(id, &quants[id.0 as usize]),
            IoType::Int8 => id,
            IoType::Float32 => b.as_f32(id),
        };
        if new != id {
            // The layout outside concerns the outermost value only.
            b.graph.value_mut(new).channels_first_outside = source.value(id).channels_first_outside;
            if !source.inputs.contains(&id) {
                b.graph.value_mut(id).channels_first_outside = false;
            }
        }
        b.graph.outputs[at] = new;
    }
    Skeleton { graph: b.graph, origin: b.origin }
}

struct Builder<'a> {
    graph: Graph,
    origin: Vec<Option<usize>>,
    quants: &'a [Quant],
    /// Conversions made so far: (value, scale's bits and zero point of the int8 form, or None for float).
    converted: HashMap<(ValueId, Option<(u32, i32)>), ValueId>,
}

impl Builder<'_> {
    fn push(&mut self, node: Node, origin: Option<usize>) {
        self.graph.nodes.push(node);
        self.origin.push(origin);
    }

    fn set_i8(&mut self, id: ValueId, quant: Quant) {
        let value = self.graph.value_mut(id);
        value.dtype = DType::I8;
        value.quant = Some(quant);
    }

    fn int8_inputs(&mut self, source: &Graph, node: &mut Node) {
        let rows = matches!(node.op, Op::Gather(_));
        let joined =
            (rows || shared(node) == Sharing::Many).then(|| self.quants[node.output.0 as usize].clone());
        let given = node.inputs.clone();
        for (at, &id) in given.iter().enumerate() {
            let value = source.value(id);
            node.inputs[at] = if value.data.is_none() {
                // A recurrent layer's initial state has the scale of its states.
                let own = match &node.op {
                    Op::Recurrent { .. } if at == 4 => self.quants[node.output.0 as usize].clone(),
                    _ => joined.clone().unwrap_or_else(|| self.quants[id.0 as usize].clone()),
                };
                self.as_i8(id, &own)
            } else if is_weighted(&node.op) || matches!(node.op, Op::Recurrent { .. }) && at < 4 {
                // A private copy: scales depend on the input, and other readers may have other inputs.
                self.graph.add_value(Value { name: format!("{}.{}", node.name, value.name), ..value.clone() })
            } else if matches!(node.op, Op::LayerNorm { .. } | Op::BatchNorm { .. })
                || value.dtype != DType::F32
            {
                id
            } else {
                let state = matches!(node.op, Op::Recurrent { .. });
                let quant =
                    if state { Some(self.quants[node.output.0 as usize].clone()) } else { joined.clone() };
                let ends = self.constant_ends(source, node, &given, at);
                self.constant(id, quant, ends, &node.name)
            };
        }
        if is_weighted(&node.op) && node.inputs.len() == 2 {
            let channels = self.graph.value(node.inputs[1]).shape.first().copied().unwrap_or(0);
            let name = format!("{}.bias", node.name);
            node.inputs.push(self.graph.add_constant(name, vec![channels], Data::F32(vec![0.0; channels])));
        }
    }

    /// Useful range of the constant operand `at` of arithmetic: beyond it the output saturates, or stays at zero,
    /// whatever the other operand is. A mask of -1e9 is equivalent to one of -20, and must not stretch the constant's
    /// scale.
    fn constant_ends(&self, source: &Graph, node: &Node, given: &[ValueId], at: usize) -> (f32, f32) {
        const ALL: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);
        let (Op::Binary { kind, .. }, Some(&other)) = (&node.op, given.get(1 - at.min(1))) else {
            return ALL;
        };
        if !is_activation(source, node.output) || !is_activation(source, other) {
            return ALL;
        }
        let of_other = &self.quants[other.0 as usize];
        let out = grid::bounds(&self.quants[node.output.0 as usize]);
        let (other, step) = (grid::bounds(of_other), of_other.scale[0]);
        match (kind, at) {
            (BinaryKind::Add, _) => (out.0 - other.1, out.1 - other.0),
            (BinaryKind::Sub, 0) => (out.0 + other.0, out.1 + other.1),
            (BinaryKind::Sub, _) => (other.0 - out.1, other.1 - out.0),
            // The least magnitude of the other operand, except zero, is one step.
            (BinaryKind::Mul, _) => {
                let most = (out.1 - out.0) / step;
                (-most, most)
            }
            _ => ALL,
        }
    }

    /// An int8 copy of a float constant; values beyond `ends` saturate.
    fn constant(&mut self, id: ValueId, quant: Option<Quant>, ends: (f32, f32), node: &str) -> ValueId {
        let value = self.graph.value(id).clone();
        let mut values = real_values(&value);
        let range = |values: &[f32]| values.iter().fold((0.0f32, 0.0f32), |(l, h), &v| (l.min(v), h.max(v)));
        let limited: Vec<f32> = values.iter().map(|v| v.max(ends.0).min(ends.1)).collect();
        let (full, narrow) = (range(&values), range(&limited));
        // Only where the range becomes much narrower: elsewhere every value counts.
        if full.1 - full.0 >= 2.0 * (narrow.1 - narrow.0) {
            values = limited;
        }
        let quant = quant.unwrap_or_else(|| margin::quant(range(&values), margin::are_whole(&values)));
        let codes = values.iter().map(|&v| code(v, &quant)).collect();
        let new = self.graph.add_constant(format!("{node}.{}.i8", value.name), value.shape, Data::I8(codes));
        self.graph.value_mut(new).quant = Some(quant);
        new
    }

    fn as_f32(&mut self, id: ValueId) -> ValueId {
        if self.graph.value(id).dtype != DType::I8 || self.graph.value(id).data.is_some() {
            return id;
        }
        self.convert(id, Op::Dequantize, None)
    }

    fn as_i8(&mut self, id: ValueId, quant: &Quant) -> ValueId {
        let value = self.graph.value(id);
        match (value.dtype, &value.quant) {
            (DType::I8, Some(own)) if own == quant => id,
            (DType::I8, _) => self.convert(id, Op::Requantize, Some(quant)),
            (DType::F32, _) => self.convert(id, Op::Quantize, Some(quant)),
            _ => id,
        }
    }

    fn convert(&mut self, id: ValueId, op: Op, quant: Option<&Quant>) -> ValueId {
        let key = (id, quant.map(|q| (q.scale[0].to_bits(), q.zero_point[0])));
        if let Some(&done) = self.converted.get(&key) {
            return done;
        }
        let value = self.graph.value(id);
        let name = format!("{}.{}{}", value.name, op.name(), self.converted.len());
        let new = self.graph.add_value(Value {
            name: name.clone(),
            shape: value.shape.clone(),
            dtype: if quant.is_some() { DType::I8 } else { DType::F32 },
            quant: quant.cloned(),
            data: None,
            channels_first_outside: false,
        });
        self.push(Node { name, op, inputs: vec![id], output: new }, None);
        self.converted.insert(key, new);
        new
    }
}
