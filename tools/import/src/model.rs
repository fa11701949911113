//! From bytes to a graph.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use offshoot_ir::{DType, Data, Declared, Graph, Quant, Value, ValueId};
use prost::Message;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as Dim;
use tract_onnx::pb::{FunctionProto, GraphProto, ModelProto, NodeProto, ValueInfoProto, type_proto};

use crate::constant::{Constant, count};
use crate::context::{Context, Entry, MAX_VALUE, Onnx};
use crate::error::{ImportError, Result, Unsupported};
use crate::fold::{self, Folded};
use crate::{lift, ops, qoperator, tflite};

/// Supported opsets.
pub const OPSETS: std::ops::RangeInclusive<i64> = 7..=28;

/// Operators of quantised files. Dynamic ones are not among them: they leave the scales to calibration.
const QUANTISERS: [&str; 3] = ["DequantizeLinear", "QuantizeLinear", "MatMulNBits"];

/// Budget for constant folding, as a multiple of the elements of the file's constants.
const FOLDS: usize = 32;

/// Imports a file; external data is read from the same folder.
///
/// # Errors
/// The file cannot be read, is not an ONNX model, or contains nodes that cannot be imported (all of them are listed).
pub fn import(path: &Path) -> Result<Graph> {
    import_with(path, &Dims::new())
}

/// Extents of symbolic axes, by the name of the axis.
pub type Dims = BTreeMap<String, usize>;

/// As [`import`], with extents for symbolic axes.
///
/// # Errors
/// As [`import`]; an input has no axis of a name that is given.
pub fn import_with(path: &Path, dims: &Dims) -> Result<Graph> {
    let io = |source| ImportError::Io { path: path.to_path_buf(), source };
    let bytes = std::fs::read(path).map_err(io)?;
    let name = path.file_stem().map_or_else(|| "model".to_owned(), |s| s.to_string_lossy().into_owned());
    build(bytes.into(), &name, path.parent(), dims)
}

/// Imports the bytes of a file. Symbolic batch extents become 1.
///
/// # Errors
/// As [`import`].
pub fn import_bytes(bytes: &[u8], name: &str) -> Result<Graph> {
    import_bytes_with(bytes, name, &Dims::new())
}

/// As [`import_bytes`], with extents for symbolic axes.
///
/// # Errors
/// As [`import_with`].
pub fn import_bytes_with(bytes: &[u8], name: &str, dims: &Dims) -> Result<Graph> {
    build(bytes.into(), name, None, dims)
}

/// Nothing is held twice for long: the bytes are dropped when they are decoded, an initialiser's when its constant is made.
fn build(bytes: Cow<'_, [u8]>, name: &str, folder: Option<&Path>, dims: &Dims) -> Result<Graph> {
    if tflite::is_tflite(&bytes) {
        return match dims.keys().next() {
            None => tflite::import(&bytes, name),
            Some(axis) => {
                Err(ImportError::Format(format!("a TensorFlow Lite file names no axes, so none is `{axis}`")))
            }
        };
    }
    if let Some(kind) = other_format(&bytes) {
        return Err(ImportError::Format(kind.into()));
    }
    let mut model = ModelProto::decode(&*bytes).map_err(|e| ImportError::Format(e.to_string()))?;
    drop(bytes);
    let mut proto = model.graph.take().ok_or_else(|| ImportError::Format("it holds no graph".into()))?;
    check_names(&proto)?;
    let opset = model
        .opset_import
        .iter()
        .find(|o| o.domain.is_empty() || o.domain == "ai.onnx")
        .map(|o| o.version)
        .ok_or_else(|| ImportError::Format("it names no operator set".into()))?;
    if !OPSETS.contains(&opset) {
        let known = format!("opset {opset}; export with one from {} to {}", OPSETS.start(), OPSETS.end());
        return Err(ImportError::Format(known));
    }
    check_dims(&proto, dims)?;
    let mut c = Context::new(name, opset, folder);
    c.functions = model.functions.clone().into();
    let mut unsupported = Vec::new();
    for t in std::mem::take(&mut proto.initializer) {
        match Constant::read(&t, folder) {
            Ok(v) => {
                c.foldable = c.foldable.saturating_add(v.len().saturating_mul(FOLDS));
                c.entries.insert(t.name.clone(), Entry::Constant(v));
            }
            Err(reason) => {
                c.entries.insert(t.name.clone(), Entry::Unknown);
                unsupported.push(problem(&t.name, "initializer", reason));
            }
        }
    }
    for sparse in &proto.sparse_initializer {
        let name = sparse.values.as_ref().map_or("", |v| v.name.as_str());
        unsupported.push(problem(name, "sparse_initializer", "store it dense".into()));
    }
    for input in &proto.input {
        // Old files list initialisers among the inputs as well.
        if c.entries.contains_key(&input.name) {
            continue;
        }
        match described(input, dims) {
            Ok((shape, dtype)) => {
                let id = c.add_input(&input.name, shape, dtype);
                if let Some(declared) = declared(input) {
                    c.graph.declared.insert(input.name.clone(), declared);
                }
                match element_type(input) {
                    2 => _ = c.unsigned.insert(id),
                    9 => _ = c.truths.insert(id),
                    _ => {}
                }
            }
            Err(reason) => {
                c.entries.insert(input.name.clone(), Entry::Unknown);
                unsupported.push(problem(&input.name, "input", reason));
            }
        }
    }
    if !has_bodies(&model.functions, &proto.node) {
        c.lasting = Some(proto.output.iter().map(|o| o.name.clone()).collect());
    }
    ops::scale_inputs(&mut c, &proto);
    import_nodes(&mut c, &proto.node, &mut unsupported);
    for node in proto.node.iter().filter(|n| n.op_type == "DynamicQuantizeLinear") {
        // Its integers are float32 here.
        if let Some(output) = proto.output.iter().find(|o| node.output.contains(&o.name)) {
            let reason = "an output of the network: its integers depend on the data's range".to_owned();
            unsupported.push(problem(&output.name, &node.op_type, reason));
        }
    }
    c.graph.quantised = proto.node.iter().any(|n| QUANTISERS.contains(&n.op_type.as_str()));
    finish(c, &proto.output, unsupported)
}

/// Imports nodes, in order. Those that cannot be imported are added to `unsupported`.
pub(crate) fn import_nodes(c: &mut Context<'_>, nodes: &[NodeProto], unsupported: &mut Vec<Unsupported>) {
    let nodes = qoperator::rewrite(nodes, c.opset);
    let last = last_uses(c, &nodes);
    for (i, node) in nodes.iter().enumerate() {
        let onnx = Onnx::new(node);
        let fed_by_unknown = node.input.iter().any(|i| matches!(c.entries.get(i), Some(Entry::Unknown)));
        let done = match missing_input(c, &nodes, node) {
            Some(reason) => Err(reason),
            None if fed_by_unknown => unreachable_node(c, &onnx),
            None => one_node(c, &onnx),
        };
        if done.is_ok() && ops::gives_truth(&onnx) {
            c.mark_truths(&onnx);
        }
        if let Err(reason) = done {
            for output in &node.output {
                c.entries.insert(output.clone(), Entry::Unknown);
            }
            if !reason.is_empty() {
                let operator = match node.domain.as_str() {
                    "" | "ai.onnx" => node.op_type.clone(),
                    domain => format!("{domain}.{}", node.op_type),
                };
                unsupported.push(problem(&onnx.name, &operator, reason));
            }
        }
        // The graph has its own form of what a node reads, so a constant need not stay beside it.
        for name in node.input.iter().filter(|name| last.get(name.as_str()) == Some(&i)) {
            if matches!(c.entries.get(name), Some(Entry::Constant(_))) {
                c.entries.remove(name);
            }
        }
    }
}

/// Whether the file has nodes that read tensors by other ways than their inputs: functions, or subgraphs.
fn has_bodies(functions: &[FunctionProto], nodes: &[NodeProto]) -> bool {
    let mut attributes = nodes.iter().flat_map(|n| &n.attribute);
    !functions.is_empty() || attributes.any(|a| a.g.is_some() || !a.graphs.is_empty())
}

/// Index of the last node that reads each tensor, except for tensors that are needed later. Empty if not known.
fn last_uses<'n>(c: &Context<'_>, nodes: &'n [NodeProto]) -> HashMap<&'n str, usize> {
    let Some(lasting) = &c.lasting else { return HashMap::new() };
    let mut last = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        last.extend(node.input.iter().filter(|name| !lasting.contains(*name)).map(|name| (name.as_str(), i)));
    }
    last
}

/// What the bytes are instead of an ONNX model, if their beginning tells.
fn other_format(bytes: &[u8]) -> Option<&'static str> {
    let starts = |prefix: &[u8]| bytes.starts_with(prefix);
    if bytes.is_empty() {
        return Some("the file is empty");
    }
    if starts(b"version https://git-lfs") {
        return Some("it is a Git LFS pointer to the model; fetch the model with `git lfs pull`");
    }
    if starts(b"PK\x03\x04") {
        return Some(
            "it is a ZIP archive, as PyTorch (.pt) and Keras (.keras) write; export the model to ONNX",
        );
    }
    if starts(b"\x89HDF") {
        return Some("it is an HDF5 file, as Keras (.h5) writes; export the model to ONNX");
    }
    if starts(b"\x93NUMPY") {
        return Some("it is a NumPy array (.npy)");
    }
    if starts(b"GGUF") {
        return Some("it is a GGUF file; export the model to ONNX");
    }
    if starts(b"\x1f\x8b") || starts(b"BZh") || starts(b"\xfd7zXZ") || starts(b"\x28\xb5\x2f\xfd") {
        return Some("it is compressed; unpack it first");
    }
    if starts(b"<!DOCTYPE") || starts(b"<html") || starts(b"<!doctype") {
        return Some("it is a web page, as a download that failed leaves behind");
    }
    None
}

/// ONNX requires a single writer for every tensor, and a unique name for every output.
fn check_names(proto: &GraphProto) -> Result<()> {
    let initializers = proto.initializer.iter().map(|t| t.name.as_str());
    let mut written: HashSet<&str> = initializers.collect();
    let inputs: Vec<&str> =
        proto.input.iter().map(|i| i.name.as_str()).filter(|n| !written.contains(n)).collect();
    for name in inputs {
        if !written.insert(name) {
            return Err(ImportError::Format(format!("two inputs are named `{name}`")));
        }
    }
    for output in proto.node.iter().flat_map(|n| &n.output).filter(|name| !name.is_empty()) {
        if !written.insert(output) {
            return Err(ImportError::Format(format!("the tensor `{output}` is written twice")));
        }
    }
    let mut outputs = HashSet::new();
    match proto.output.iter().find(|o| !outputs.insert(o.name.as_str())) {
        Some(twice) => Err(ImportError::Format(format!("two outputs are named `{}`", twice.name))),
        None => Ok(()),
    }
}

/// Constants that operators read and that contain NaN: everything computed from them is NaN.
fn not_numbers(graph: &Graph) -> Vec<Unsupported> {
    let holds_nan =
        |v: &Value| matches!(v.data.as_deref(), Some(Data::F32(d)) if d.iter().any(|v| v.is_nan()));
    let mut found = Vec::new();
    for node in &graph.nodes {
        for constant in node.inputs.iter().map(|id| graph.value(*id)).filter(|v| holds_nan(v)) {
            found.push(problem(
                &node.name,
                node.op.name(),
                format!("constant `{}` holds NaN", constant.name),
            ));
        }
    }
    found
}

/// Computes the node if it reads only constants, and imports it otherwise.
fn one_node(c: &mut Context<'_>, onnx: &Onnx<'_>) -> std::result::Result<(), String> {
    match fold::fold(c, onnx) {
        Folded::Done => Ok(()),
        Folded::No => ops::import(c, onnx),
        Folded::Failed(reason) => ops::import(c, onnx)
            .map_err(|_| format!("it reads only constants, but cannot be computed from them: {reason}")),
    }
}

/// What is wrong with an input of `node` that no node before gives; `None` if there is no such input.
fn missing_input(c: &Context<'_>, nodes: &[NodeProto], node: &NodeProto) -> Option<String> {
    let missing = node.input.iter().find(|name| !name.is_empty() && !c.entries.contains_key(*name))?;
    let later = nodes.iter().find(|n| n.output.contains(missing));
    Some(match later {
        Some(later) => {
            let name = Onnx::new(later).name;
            format!(
                "it reads `{missing}`, which the later node `{name}` writes: ONNX requires every node behind those that it reads; sort the graph"
            )
        }
        None => format!("its input `{missing}` is given by no node, input or initializer"),
    })
}

/// A node behind one that cannot be imported: its operator can still be checked, its attributes cannot.
fn unreachable_node(c: &mut Context<'_>, onnx: &Onnx<'_>) -> std::result::Result<(), String> {
    let mut alone = Context::new("", c.opset, None);
    match ops::import(&mut alone, onnx) {
        Err(reason) if reason.starts_with("operator") => Err(reason),
        _ => Err(String::new()),
    }
}

fn finish(
    mut c: Context<'_>,
    outputs: &[ValueInfoProto],
    mut unsupported: Vec<Unsupported>,
) -> Result<Graph> {
    let mut constants = Vec::new();
    for output in outputs {
        match c.entries.get(&output.name).cloned() {
            Some(Entry::Value(id)) if c.rescaled.contains(&id) => {
                let reason = "moved codes of 16 bits with a zero point off the middle: put a DequantizeLinear behind them";
                unsupported.push(problem(&output.name, "output", reason.to_owned()));
            }
            Some(Entry::Value(id)) => c.graph.outputs.push(id),
            Some(Entry::Constant(constant)) => {
                constants.push((&output.name, c.graph.outputs.len(), constant))
            }
            Some(Entry::Unknown) => {}
            None => {
                let reason = "no node produces it".to_owned();
                unsupported.push(problem(&output.name, "output", reason));
            }
        }
    }
    // A constant may stand beside outputs that are computed.
    let computed = !c.graph.outputs.is_empty();
    for (added, (name, at, constant)) in constants.into_iter().enumerate() {
        let done = match computed && constant.len() > 0 {
            true => c.constant_output(name, &constant),
            false => Err("it does not depend on any input".into()),
        };
        match done {
            Ok(id) => c.graph.outputs.insert(at + added, id),
            Err(reason) => unsupported.push(problem(name, "output", reason)),
        }
    }
    unsupported.extend(not_numbers(&c.graph));
    if !unsupported.is_empty() {
        return Err(ImportError::Unsupported(unsupported));
    }
    if c.graph.outputs.is_empty() {
        return Err(ImportError::Format("the graph has no output".into()));
    }
    // Integers of 8 bits that nothing dequantises stand for themselves.
    for id in (0u32..).map(ValueId).take(c.graph.values.len()) {
        let zero_point = if c.is_unsigned(id) { -128 } else { 0 };
        let value = c.graph.value_mut(id);
        if value.dtype == DType::I8 && value.quant.is_none() {
            value.quant = Some(Quant::per_tensor(1.0, zero_point));
        }
    }
    let graph = std::mem::take(&mut c.graph);
    drop(c);
    let graph = lift::lift(graph)?.prune_unreachable();
    graph.validate()?;
    Ok(graph)
}

fn problem(node: &str, operator: &str, reason: String) -> Unsupported {
    Unsupported { node: node.to_owned(), operator: operator.to_owned(), reason }
}

/// Number of a graph input's element type; 0 if it is no tensor.
fn element_type(input: &ValueInfoProto) -> i32 {
    match input.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(type_proto::Value::TensorType(t)) => t.elem_type,
        _ => 0,
    }
}

/// The type of a graph input, where its value has another.
fn declared(input: &ValueInfoProto) -> Option<Declared> {
    Some(match element_type(input) {
        2 => Declared::U8,
        7 => Declared::I64,
        9 => Declared::Bool,
        10 => Declared::F16,
        11 => Declared::F64,
        _ => return None,
    })
}

/// Names of the symbolic axes of an input.
fn symbols(input: &ValueInfoProto) -> impl Iterator<Item = &str> {
    let shape = match input.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(type_proto::Value::TensorType(t)) => t.shape.as_ref(),
        _ => None,
    };
    shape.into_iter().flat_map(|s| &s.dim).filter_map(|d| match &d.value {
        Some(Dim::DimParam(name)) => Some(name.as_str()),
        _ => None,
    })
}

/// Every name that is given an extent is that of a symbolic axis.
fn check_dims(proto: &GraphProto, dims: &Dims) -> Result<()> {
    let known: BTreeMap<&str, ()> = proto.input.iter().flat_map(symbols).map(|s| (s, ())).collect();
    match dims.keys().find(|name| !known.contains_key(name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let known: Vec<&str> = known.into_keys().collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Err(ImportError::Format(format!("no input has an axis named `{name}`; symbolic axes: {known}")))
        }
    }
}

/// Shape and element type of a graph input.
fn described(input: &ValueInfoProto, dims: &Dims) -> std::result::Result<(Vec<usize>, DType), String> {
    let Some(type_proto::Value::TensorType(tensor)) = input.r#type.as_ref().and_then(|t| t.value.as_ref())
    else {
        return Err("it is not a tensor".into());
    };
    let dtype = match tensor.elem_type {
        1 => DType::F32,
        // uint8 becomes int8 by subtracting 128.
        2 | 3 => DType::I8,
        // uint16, int16, int32, int64, uint32, uint64
        4..=7 | 12 | 13 => DType::I32,
        // bool (0 or 1), float16, float64, bfloat16
        9 | 10 | 11 | 16 => DType::F32,
        other => {
            return Err(format!("element type {other}; numbers and bool are supported"));
        }
    };
    let shape = tensor.shape.as_ref().ok_or("its shape is not given: export with fixed extents")?;
    let mut extents = Vec::new();
    for (i, d) in shape.dim.iter().enumerate() {
        match &d.value {
            Some(Dim::DimValue(v)) if *v > 0 => {
                extents.push(usize::try_from(*v).map_err(|_| format!("extent {v}"))?);
            }
            Some(Dim::DimParam(name)) if dims.contains_key(name) => extents.push(dims[name]),
            // A symbolic batch is one sample; so are 0 and -1, which some exporters write for it.
            _ if i == 0 => extents.push(1),
            // Sequences have the batch on axis 1.
            Some(Dim::DimParam(name)) if i == 1 && name.to_lowercase().contains("batch") => extents.push(1),
            other => {
                let what = match other {
                    Some(Dim::DimParam(name)) => format!("`{name}`"),
                    _ => "not given".into(),
                };
                let way = match other {
                    Some(Dim::DimParam(name)) => {
                        format!("fix it with `--dim {name}=N`, or export with fixed extents")
                    }
                    _ => "export with fixed extents".into(),
                };
                return Err(format!("extent of axis {i} is {what}: {way}"));
            }
        }
    }
    if extents.contains(&0) || count(&extents).is_none_or(|n| n > MAX_VALUE) {
        return Err(format!("shape {extents:?} is too large"));
    }
    Ok((extents, dtype))
}
