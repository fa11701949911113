//! The graph under construction: the value of each ONNX tensor, and the operations by which importers extend the
//! graph.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;

use offshoot_ir::{
    DType, Data, Graph, Node, Op, PoolKind, Quant, ScatterKind, UnaryKind, Value, ValueId, infer,
};
use tract_onnx::pb::{AttributeProto, FunctionProto, NodeProto};

use crate::constant::{Constant, Elements, MAX_ELEMENTS, count};
use crate::names::Names;

/// Most elements of a computed tensor, and of all constants computed during import.
pub(crate) const MAX_VALUE: usize = 1 << 26;
/// Most operators of a graph.
const MAX_NODES: usize = 20_000;

/// The value of an ONNX tensor.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    /// Known during import.
    Constant(Constant),
    /// Computed at run time.
    Value(ValueId),
    /// Output of a node that cannot be imported.
    Unknown,
}

/// A quantised form of a value.
#[derive(Clone, Debug)]
pub(crate) struct Twin {
    pub(crate) id: ValueId,
    /// Within which the value was clipped before.
    pub(crate) bounds: Option<UnaryKind>,
}

/// Most subgraphs within each other.
const MAX_DEPTH: usize = 8;
/// Most subgraphs that are imported in all, each iteration counted.
const MAX_ENTERED: usize = 1 << 14;

/// Why a node cannot be imported.
pub(crate) type Reason = String;
pub(crate) type Importing<T = ()> = Result<T, Reason>;

/// Graph under construction.
pub(crate) struct Context<'a> {
    pub(crate) graph: Graph,
    pub(crate) entries: HashMap<String, Entry>,
    pub(crate) opset: i64,
    pub(crate) folder: Option<&'a Path>,
    /// int8 values that hold uint8 values minus 128.
    pub(crate) unsigned: HashSet<ValueId>,
    /// int16 values whose codes are not those of the file.
    pub(crate) rescaled: HashSet<ValueId>,
    /// Quantised forms of each value so far.
    pub(crate) quantised: HashMap<ValueId, Vec<Twin>>,
    /// Constants with an element that is infinite or NaN.
    infinite: HashSet<ValueId>,
    /// Tensors that are needed after all nodes; `None` if a node may read any tensor.
    pub(crate) lasting: Option<HashSet<String>>,
    /// Functions of the file.
    pub(crate) functions: Rc<[FunctionProto]>,
    /// Number of subgraphs around the node, and of all that were entered so far.
    depth: usize,
    entered: usize,
    /// Values that ONNX has as bool: 1 for true, 0 for false.
    pub(crate) truths: HashSet<ValueId>,
    /// The float32 form of integers that arithmetic computed.
    pub(crate) wholes: HashMap<ValueId, ValueId>,
    names: Names,
    /// Index of the node that writes each value.
    producers: HashMap<ValueId, usize>,
    /// Elements of constants that were computed or copied into the graph.
    held: usize,
    /// Elements of constants that folding may still compute, in proportion to the size of the file's constants.
    pub(crate) foldable: usize,
}

/// One ONNX node being imported: its attributes and inputs.
pub(crate) struct Onnx<'a> {
    pub(crate) node: &'a NodeProto,
    pub(crate) name: String,
}

impl<'a> Onnx<'a> {
    pub(crate) fn new(node: &'a NodeProto) -> Self {
        let first = node.output.first().cloned().unwrap_or_default();
        let name = if node.name.is_empty() { first } else { node.name.clone() };
        Self { node, name }
    }

    fn attribute(&self, name: &str) -> Option<&'a AttributeProto> {
        self.node.attribute.iter().find(|a| a.name == name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    pub(crate) fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |a| a.i)
    }

    pub(crate) fn float(&self, name: &str, default: f32) -> f32 {
        self.attribute(name).map_or(default, |a| a.f)
    }

    pub(crate) fn text(&self, name: &str, default: &str) -> String {
        self.attribute(name).map_or(default.to_owned(), |a| String::from_utf8_lossy(&a.s).into_owned())
    }

    pub(crate) fn texts(&self, name: &str) -> Option<Vec<String>> {
        let text = |s: &Vec<u8>| String::from_utf8_lossy(s).into_owned();
        self.attribute(name).map(|a| a.strings.iter().map(text).collect())
    }

    pub(crate) fn ints(&self, name: &str) -> Option<Vec<i64>> {
        self.attribute(name).map(|a| a.ints.clone())
    }

    pub(crate) fn floats(&self, name: &str) -> Option<Vec<f32>> {
        self.attribute(name).map(|a| a.floats.clone())
    }

    pub(crate) fn tensor(&self, name: &str) -> Option<&'a tract_onnx::pb::TensorProto> {
        self.attribute(name).and_then(|a| a.t.as_ref())
    }

    /// Name of input `i`; `None` if it is omitted.
    pub(crate) fn input(&self, i: usize) -> Option<&'a str> {
        self.node.input.get(i).map(String::as_str).filter(|n| !n.is_empty())
    }

    /// Name of output `i`; `None` if it is not used.
    pub(crate) fn output(&self, i: usize) -> Option<&'a str> {
        self.node.output.get(i).map(String::as_str).filter(|n| !n.is_empty())
    }

    /// An axis attribute, normalised to count from the front.
    pub(crate) fn axis(&self, name: &str, default: i64, rank: usize) -> Importing<usize> {
        axis(self.int(name, default), rank)
    }
}

/// Whether the operator passes on elements of its first input unchanged, whatever their type.
fn keeps_integers(op: &Op) -> bool {
    match op {
        Op::Transpose { .. } | Op::Reshape | Op::Slice { .. } | Op::Expand | Op::Concat { .. } => true,
        Op::Switch => true,
        Op::Gather(_) | Op::Scatter { .. } => true,
        Op::Pool { kind, .. } => *kind == PoolKind::Max,
        Op::Resize(rule) => !rule.bilinear,
        _ => false,
    }
}

/// An axis, normalised to count from the front.
pub(crate) fn axis(axis: i64, rank: usize) -> Importing<usize> {
    let n = rank as i64;
    let a = if axis < 0 { axis + n } else { axis };
    usize::try_from(a)
        .ok()
        .filter(|a| *a < rank)
        .ok_or_else(|| format!("axis {axis} of a tensor with {rank} axes"))
}

/// The permutation from NCHW to NHWC, for any number of spatial axes.
pub(crate) fn to_last(rank: usize) -> Vec<usize> {
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.remove(1);
    perm.push(1);
    perm
}

/// The permutation from NHWC to NCHW.
pub(crate) fn to_first(rank: usize) -> Vec<usize> {
    let mut perm: Vec<usize> = (0..rank - 1).collect();
    perm.insert(1, rank - 1);
    perm
}

impl<'a> Context<'a> {
    pub(crate) fn new(name: &str, opset: i64, folder: Option<&'a Path>) -> Self {
        let graph = Graph { name: name.to_owned(), ..Graph::default() };
        Self {
            graph,
            entries: HashMap::new(),
            opset,
            folder,
            unsigned: HashSet::new(),
            rescaled: HashSet::new(),
            quantised: HashMap::new(),
            infinite: HashSet::new(),
            lasting: None,
            functions: Rc::default(),
            depth: 0,
            entered: 0,
            truths: HashSet::new(),
            wholes: HashMap::new(),
            names: Names::default(),
            producers: HashMap::new(),
            held: 0,
            foldable: 1 << 22,
        }
    }

    /// The entry of a tensor; `Unknown` if an unsupported node produced it.
    pub(crate) fn entry(&self, name: &str) -> Importing<&Entry> {
        self.entries.get(name).ok_or_else(|| format!("input `{name}` is not produced by any node before"))
    }

    /// Input `i` as a constant, if it is present and constant.
    pub(crate) fn constant(&self, onnx: &Onnx<'_>, i: usize) -> Importing<Option<Constant>> {
        let Some(name) = onnx.input(i) else {
            return Ok(None);
        };
        match self.entry(name)? {
            Entry::Constant(c) => Ok(Some(c.clone())),
            _ => Err(format!("input {i} (`{name}`) is computed at run time; a constant is expected")),
        }
    }

    /// Input `i` as a constant that must be present.
    pub(crate) fn wanted(&self, onnx: &Onnx<'_>, i: usize) -> Importing<Constant> {
        self.constant(onnx, i)?.ok_or_else(|| format!("input {i} is missing"))
    }

    /// Input `i` as constant integers, if it is present.
    pub(crate) fn ints(&self, onnx: &Onnx<'_>, i: usize) -> Importing<Option<Vec<i64>>> {
        self.constant(onnx, i)?
            .map(|c| c.to_ints().ok_or_else(|| format!("input {i} is not an integer tensor")))
            .transpose()
    }

    pub(crate) fn is_constant(&self, onnx: &Onnx<'_>, i: usize) -> bool {
        onnx.input(i).is_some_and(|n| matches!(self.entries.get(n), Some(Entry::Constant(_))))
    }

    /// Input `i` as a value of the graph; constants are added to it.
    pub(crate) fn value(&mut self, onnx: &Onnx<'_>, i: usize) -> Importing<ValueId> {
        let name = onnx.input(i).ok_or_else(|| format!("input {i} is missing"))?;
        match self.entry(name)?.clone() {
            Entry::Value(id) => Ok(id),
            Entry::Constant(c) if c.len() == 0 => Err(format!("input {i} (`{name}`) is empty")),
            Entry::Constant(c) => Ok(self.take_constant(name, c)),
            Entry::Unknown => Err(String::new()),
        }
    }

    pub(crate) fn shape(&self, id: ValueId) -> &[usize] {
        &self.graph.value(id).shape
    }

    /// Adds a constant to the graph. Integers without a scale become float32, the only such type that the device
    /// computes in.
    pub(crate) fn add_constant(&mut self, name: &str, c: &Constant) -> ValueId {
        self.take_constant(name, c.clone())
    }

    /// As [`Self::add_constant`], without a copy.
    pub(crate) fn take_constant(&mut self, name: &str, c: Constant) -> ValueId {
        let name = self.names.unique(name);
        self.held = self.held.saturating_add(c.len());
        let infinite = matches!(&c.elements, Elements::F32(v) if v.iter().any(|v| !v.is_finite()));
        let (shape, quant) = (c.shape.clone(), c.quant.clone());
        let data = match (&c.elements, &c.quant) {
            (Elements::I8(_) | Elements::I32(_), Some(_)) | (Elements::F32(_) | Elements::F64(_), _) => {
                c.into_data()
            }
            _ => Data::F32(c.to_reals()),
        };
        let id = self.graph.add_constant(name, shape, data);
        self.graph.value_mut(id).quant = quant;
        if infinite {
            self.infinite.insert(id);
        }
        id
    }

    /// Adds a constant as it is.
    pub(crate) fn add_data(&mut self, name: &str, shape: Vec<usize>, data: Data) -> ValueId {
        let name = self.names.unique(name);
        self.held = self.held.saturating_add(shape.iter().product());
        self.graph.add_constant(name, shape, data)
    }

    pub(crate) fn add_reals(&mut self, name: &str, shape: Vec<usize>, values: Vec<f32>) -> ValueId {
        self.add_constant(name, &Constant::new(shape, Elements::F32(values)))
    }

    pub(crate) fn add_input(&mut self, name: &str, shape: Vec<usize>, dtype: DType) -> ValueId {
        let unique = self.names.unique(name);
        let value =
            Value { name: unique, shape, dtype, quant: None, data: None, channels_first_outside: false };
        let id = self.graph.add_value(value);
        self.graph.inputs.push(id);
        self.entries.insert(name.to_owned(), Entry::Value(id));
        id
    }

    /// Appends a node whose output has the inferred shape, or `declared` for operators whose shape inference needs
    /// it. Data movements keep the element type of their input.
    pub(crate) fn emit(
        &mut self,
        onnx: &Onnx<'_>,
        op: Op,
        inputs: Vec<ValueId>,
        declared: Option<Vec<usize>>,
        name: &str,
    ) -> Importing<ValueId> {
        let inputs = self.operands(onnx, &op, inputs)?;
        let values: Vec<&Value> = inputs.iter().map(|id| self.graph.value(*id)).collect();
        let declared = declared.unwrap_or_default();
        let shape = infer::infer_shape(&op, &values, &declared).map_err(|e| match e {
            offshoot_ir::Error::Node { reason, .. } => reason,
            other => other.to_string(),
        })?;
        if shape.contains(&0) || count(&shape).is_none_or(|n| n > MAX_VALUE) {
            return Err(format!("output {shape:?} is empty or too large"));
        }
        if self.graph.nodes.len() >= MAX_NODES || self.held > MAX_ELEMENTS {
            return Err("the graph is too large for a device".into());
        }
        // A constant among others, such as a class token, has the type of what is computed.
        let first = match op {
            Op::Concat { .. } => inputs.iter().find(|id| self.graph.value(**id).data.is_none()),
            _ => None,
        };
        let first = first.or(inputs.first()).map(|id| self.graph.value(*id));
        let (dtype, quant) = match (&op, first) {
            (Op::ArgMax { .. } | Op::TopK { .. }, _) => (DType::I32, None),
            (Op::Cast, Some(x)) if x.dtype == DType::I32 => (DType::F32, None),
            (Op::Cast, _) => (DType::I32, None),
            (Op::Quantize, _) => (DType::I8, None),
            (Op::Dequantize, _) => (DType::F32, None),
            (op, Some(x)) if keeps_integers(op) => (x.dtype, x.quant.clone()),
            _ => (DType::F32, None),
        };
        let quantised = matches!(dtype, DType::I8 | DType::I16);
        let joins = matches!(op, Op::Concat { .. } | Op::Switch) && quantised;
        let joined = &inputs[..inputs.len() - usize::from(op == Op::Switch)];
        if joins && joined.iter().any(|id| self.graph.value(*id).dtype != dtype) {
            return Err("joins integers with float32".into());
        }
        if joins && joined.iter().any(|id| self.graph.value(*id).quant != quant) {
            return Err("joins integers of different scales; use QLinearConcat".into());
        }
        let short = |id: &ValueId| self.graph.value(*id).dtype == DType::I16;
        if !keeps_integers(&op) && !matches!(op, Op::Dequantize) && inputs.iter().any(short) {
            return Err("computes with the codes of a tensor of 16 bits".into());
        }
        let name = self.names.unique(name);
        let value = Value { name, shape, dtype, quant, data: None, channels_first_outside: false };
        let output = self.graph.add_value(value);
        // Operators that keep int8 or int16 have one data input, the first.
        if quantised && inputs.first().is_some_and(|x| self.unsigned.contains(x)) {
            self.unsigned.insert(output);
        }
        if quantised && inputs.iter().any(|x| self.rescaled.contains(x)) {
            self.rescaled.insert(output);
        }
        if keeps_integers(&op) && inputs.first().is_some_and(|x| self.truths.contains(x)) {
            self.truths.insert(output);
        }
        self.producers.insert(output, self.graph.nodes.len());
        self.graph.nodes.push(Node { name: onnx.name.clone(), op, inputs, output });
        Ok(output)
    }

    /// The operands with integers as float32, unless the operator takes integers.
    fn operands(&mut self, onnx: &Onnx<'_>, op: &Op, mut inputs: Vec<ValueId>) -> Importing<Vec<ValueId>> {
        let integer = |c: &Self, id: &ValueId| {
            c.graph.value(*id).dtype == DType::I32 && c.graph.value(*id).quant.is_none()
        };
        let takes = match op {
            Op::Transpose { .. } | Op::Reshape | Op::Slice { .. } | Op::Expand | Op::Gather(_) | Op::Cast => {
                true
            }
            Op::Concat { .. } | Op::Switch => inputs.iter().all(|id| integer(self, id)),
            Op::Scatter { kind: ScatterKind::Set, .. } => [0, 2].iter().all(|i| integer(self, &inputs[*i])),
            _ => false,
        };
        // Indices stay integers.
        let index = match op {
            Op::Scatter { .. } => Some(1),
            Op::Switch => inputs.len().checked_sub(1),
            _ => None,
        };
        for (i, id) in inputs.iter_mut().enumerate() {
            if takes || index == Some(i) || !integer(self, id) {
                continue;
            }
            *id = match self.wholes.get(id) {
                Some(real) => *real,
                None => {
                    let name = format!("{}/real", self.graph.value(*id).name);
                    self.emit(onnx, Op::Cast, vec![*id], None, &name)?
                }
            };
        }
        Ok(inputs)
    }

    /// [`Self::emit`] for output `i` of the ONNX node.
    pub(crate) fn finish(
        &mut self,
        onnx: &Onnx<'_>,
        op: Op,
        inputs: Vec<ValueId>,
        declared: Option<Vec<usize>>,
        i: usize,
    ) -> Importing {
        let name = onnx.output(i).ok_or("has no output")?;
        let id = self.emit(onnx, op, inputs, declared, name)?;
        self.entries.insert(name.to_owned(), Entry::Value(id));
        Ok(())
    }

    /// Binds output `i` of the ONNX node to `entry`.
    pub(crate) fn bind(&mut self, onnx: &Onnx<'_>, i: usize, entry: Entry) -> Importing {
        let name = onnx.output(i).ok_or("has no output")?;
        if let Entry::Constant(c) = &entry {
            self.held = self.held.saturating_add(c.len());
            if self.held > MAX_ELEMENTS {
                return Err("the graph's constants are too large for a device".into());
            }
        }
        self.entries.insert(name.to_owned(), entry);
        Ok(())
    }

    /// A channels-first input of rank 3 or 4 as NHWC (rank 3 gets H = 1).
    pub(crate) fn nhwc(&mut self, onnx: &Onnx<'_>, x: ValueId) -> Importing<ValueId> {
        let rank = self.shape(x).len();
        if rank != 3 && rank != 4 {
            return Err(format!("input has {rank} axes; (N, C, W) and (N, C, H, W) are supported"));
        }
        let op = Op::Transpose { perm: to_last(rank) };
        let name = format!("{}/nhwc", self.graph.value(x).name);
        let y = self.emit(onnx, op, vec![x], None, &name)?;
        if rank == 4 {
            return Ok(y);
        }
        let shape = self.shape(y).to_vec();
        self.emit(
            onnx,
            Op::Reshape,
            vec![y],
            Some(vec![shape[0], 1, shape[1], shape[2]]),
            &format!("{name}/2d"),
        )
    }

    /// Binds an NHWC result to the ONNX node's output: channels first, and rank 3 again if the input had rank 3.
    pub(crate) fn finish_nchw(&mut self, onnx: &Onnx<'_>, y: ValueId, rank: usize) -> Importing {
        let mut y = y;
        if rank == 3 {
            let s = self.shape(y).to_vec();
            let name = format!("{}/1d", self.graph.value(y).name);
            y = self.emit(onnx, Op::Reshape, vec![y], Some(vec![s[0], s[2], s[3]]), &name)?;
        }
        self.finish(onnx, Op::Transpose { perm: to_first(rank) }, vec![y], None, 0)
    }

    /// Whether an operator for which `is` holds computes the value or any of its ancestors.
    pub(crate) fn any_ancestor(&self, id: ValueId, is: impl Fn(&Op) -> bool) -> bool {
        let (mut seen, mut open) = (HashSet::new(), vec![id]);
        while let Some(id) = open.pop() {
            let Some(&n) = self.producers.get(&id) else { continue };
            if !seen.insert(n) {
                continue;
            }
            if is(&self.graph.nodes[n].op) {
                return true;
            }
            open.extend(&self.graph.nodes[n].inputs);
        }
        false
    }

    /// Enters a subgraph.
    ///
    /// # Errors
    /// Subgraphs are nested too deeply, or are too many.
    pub(crate) fn enter(&mut self) -> Importing {
        if self.depth >= MAX_DEPTH {
            return Err(format!("subgraphs are nested more than {MAX_DEPTH} deep"));
        }
        self.entered += 1;
        if self.entered > MAX_ENTERED {
            return Err(format!("more than {MAX_ENTERED} iterations and branches"));
        }
        self.depth += 1;
        Ok(())
    }

    /// Leaves a subgraph.
    pub(crate) fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// A value for an output of the network that is constant.
    pub(crate) fn constant_output(&mut self, name: &str, constant: &Constant) -> Importing<ValueId> {
        let x = self.add_constant(&format!("{name}/constant"), constant);
        let node = NodeProto { name: name.to_owned(), ..NodeProto::default() };
        self.emit(&Onnx::new(&node), Op::Reshape, vec![x], Some(constant.shape.clone()), name)
    }

    /// Whether the value or any of its ancestors is a constant with an element that is infinite or NaN.
    pub(crate) fn reads_infinity(&self, id: ValueId) -> bool {
        let (mut seen, mut open) = (HashSet::new(), vec![id]);
        while let Some(id) = open.pop() {
            if self.infinite.contains(&id) {
                return true;
            }
            if let Some(&n) = self.producers.get(&id)
                && !self.infinite.is_empty()
                && seen.insert(n)
            {
                open.extend(&self.graph.nodes[n].inputs);
            }
        }
        false
    }

    /// Whether ONNX has the value as bool.
    pub(crate) fn is_truth(&self, id: ValueId) -> bool {
        self.truths.contains(&id)
    }

    /// Notes that ONNX has the outputs of the node as bool.
    pub(crate) fn mark_truths(&mut self, onnx: &Onnx<'_>) {
        for name in &onnx.node.output {
            if let Some(Entry::Value(id)) = self.entries.get(name) {
                self.truths.insert(*id);
            }
        }
    }

    /// Whether any node reads the value yet.
    pub(crate) fn is_read(&self, id: ValueId) -> bool {
        self.graph.nodes.iter().any(|n| n.inputs.contains(&id))
    }

    /// Whether the operator behind whose movements `id` lies has a fused activation.
    pub(crate) fn clips(&self, id: ValueId) -> bool {
        let mut id = id;
        while let Some(&n) = self.producers.get(&id) {
            let node = &self.graph.nodes[n];
            match node.op {
                Op::Transpose { .. } | Op::Reshape | Op::Slice { .. } | Op::Expand => id = node.inputs[0],
                _ => return node.op.activation().is_some(),
            }
        }
        false
    }

    /// Whether the int8 value holds a uint8 value minus 128.
    pub(crate) fn is_unsigned(&self, id: ValueId) -> bool {
        self.unsigned.contains(&id)
    }

    /// Sets the quantisation found at a DequantizeLinear on an I8 value and on all values connected to it by data
    /// movements.
    pub(crate) fn set_quant(&mut self, id: ValueId, quant: &Quant) {
        let mut at = id;
        loop {
            let value = self.graph.value_mut(at);
            if value.dtype != DType::I8 || value.quant.is_some() {
                return;
            }
            value.quant = Some(quant.clone());
            let Some(&n) = self.producers.get(&at) else { return };
            match (&self.graph.nodes[n].op, self.graph.nodes[n].inputs.first()) {
                (op, Some(&x)) if keeps_integers(op) && self.graph.nodes[n].inputs.len() == 1 => at = x,
                _ => return,
            }
        }
    }
}
