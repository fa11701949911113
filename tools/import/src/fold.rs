//! Constant folding: nodes that read only constants are computed during import, by tract's typed model.
//!
//! This module does no arithmetic but that of `Range`; it only bounds the work given to tract. The file is untrusted, and
//! tract neither limits its tensors nor returns an error for everything that it cannot do. A node that tract does not compute
//! is imported as if its inputs were computed at run time.

mod quiet;

use offshoot_ir::elementary;
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto,
    tensor_proto::DataType,
};
use tract_onnx::tract_hir::internal::TDim;
use tract_onnx::{onnx, prelude::*};

use crate::constant::{Constant, Elements, count};
use crate::context::{Context, Entry, Importing, MAX_VALUE, Onnx, Reason};

/// Most multiplications per node.
const MAX_WORK: usize = 1 << 31;

/// Nodes that the importer computes itself, because they keep quantisation parameters or need no arithmetic.
const OWN: &[&str] = &[
    "Constant",
    "ConstantOfShape",
    "DequantizeLinear",
    "Dropout",
    "Flatten",
    "Identity",
    "QuantizeLinear",
    "Reshape",
    "Shape",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

/// Data movements: integers with one scale keep it.
const MOVEMENTS: &[&str] =
    &["Concat", "DepthToSpace", "Expand", "Gather", "Slice", "SpaceToDepth", "Split", "Tile"];

/// What became of a node.
pub(crate) enum Folded {
    /// Its outputs are bound.
    Done,
    /// It is not to be computed during import.
    No,
    /// It reads only constants, but this keeps it from being computed.
    Failed(Reason),
}

/// Computes the node if all its inputs are constants, and binds its outputs.
pub(crate) fn fold(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Folded {
    let node = onnx.node;
    let operator = node.op_type.as_str();
    let given = node.input.iter().filter(|name| !name.is_empty());
    let constants: Option<Vec<Constant>> = given
        .map(|name| match c.entries.get(name) {
            Some(Entry::Constant(constant)) => Some(constant.clone()),
            _ => None,
        })
        .collect();
    let Some(constants) = constants.filter(|all| !all.is_empty()) else { return Folded::No };
    // tract's maximum begins with the least finite number, and its minimum with the largest.
    let extreme = matches!(operator, "ReduceMax" | "ReduceMin" | "MaxPool" | "GlobalMaxPool" | "Softmax");
    let endless = |c: &Constant| matches!(&c.elements, Elements::F32(v) if v.iter().any(|v| v.is_infinite()));
    if extreme && constants.iter().any(endless) {
        return Folded::No;
    }
    let subgraph = node.attribute.iter().any(|a| a.g.is_some() || !a.graphs.is_empty());
    if OWN.contains(&operator) || operator.starts_with("Random") || subgraph {
        return Folded::No;
    }
    if let Err(reason) = check_axis(onnx, &constants) {
        return Folded::Failed(reason);
    }
    let Some(elements) = bound(node, &constants).filter(|n| *n <= MAX_VALUE.min(c.foldable)) else {
        return Folded::No;
    };
    c.foldable -= elements;
    let kept = constants[0].quant.clone().filter(|q| {
        let same = |c: &Constant| c.quant.as_ref() == Some(q);
        q.axis.is_none()
            && MOVEMENTS.contains(&operator)
            && if operator == "Concat" { constants.iter().all(same) } else { true }
    });
    let read: Vec<Constant> = constants
        .into_iter()
        .map(|c| match (&c.quant, &kept) {
            (None, _) => c,
            (Some(_), Some(_)) => Constant { quant: None, ..c },
            (Some(_), None) => Constant::new(c.shape.clone(), Elements::F32(c.to_reals())),
        })
        .collect();
    let outputs = match computed(node, read, c.opset) {
        Ok(outputs) => outputs,
        Err(reason) => return Folded::Failed(reason),
    };
    for (i, mut output) in outputs {
        output.quant.clone_from(&kept);
        if let Err(reason) = c.bind(onnx, i, Entry::Constant(output)) {
            return Folded::Failed(reason);
        }
    }
    Folded::Done
}

/// Checks the axis of a node and the indices along it, which tract does not.
fn check_axis(onnx: &Onnx<'_>, inputs: &[Constant]) -> Importing {
    let rank = inputs[0].shape.len();
    let indexed = matches!(onnx.node.op_type.as_str(), "Gather" | "GatherElements" | "ScatterElements");
    let joined = matches!(onnx.node.op_type.as_str(), "Concat" | "Split" | "Softmax" | "LogSoftmax" | "TopK");
    if !(indexed || joined && onnx.has("axis")) {
        return Ok(());
    }
    let along = onnx.axis("axis", 0, rank)?;
    let indices = inputs.get(1).filter(|_| indexed).and_then(Constant::to_ints).unwrap_or_default();
    let extent = inputs[0].shape[along];
    let outside = |i: &&i64| {
        usize::try_from(if **i < 0 { **i + extent as i64 } else { **i }).is_ok_and(|i| i >= extent)
            || **i < -(extent as i64)
    };
    match indices.iter().find(outside) {
        Some(index) => Err(format!("index {index} along axis {along}, which has {extent} elements")),
        None => Ok(()),
    }
}

/// The node's named outputs, with their positions.
fn computed(node: &NodeProto, mut inputs: Vec<Constant>, opset: i64) -> Importing<Vec<(usize, Constant)>> {
    if node.op_type == "Range" {
        return range(&inputs).map(|values| vec![(0, values)]);
    }
    if node.op_type == "Slice" {
        limit_slice(&mut inputs);
    }
    let attempt = |inputs: &[Constant]| {
        let evaluated = quiet::catch(|| evaluate(node, inputs, opset));
        evaluated.unwrap_or_else(|| Err("its inputs or attributes do not fit together".into()))
    };
    let doubles = inputs.iter().any(|c| matches!(c.elements, Elements::F64(_)));
    let made = attempt(&inputs);
    if made.is_ok() || !doubles {
        return made;
    }
    // tract has no float64 form of some operators.
    for c in inputs.iter_mut().filter(|c| matches!(c.elements, Elements::F64(_))) {
        c.elements = Elements::F32(c.to_reals());
    }
    attempt(&inputs)
}

/// Moves starts, ends and steps of a Slice that lie beyond the tensor to just beyond it: tract cuts them to 32 bits.
fn limit_slice(inputs: &mut [Constant]) {
    let beyond = inputs[0].shape.iter().copied().max().unwrap_or(0) as i64 + 1;
    for c in inputs.iter_mut().skip(1) {
        if let Some(values) = c.to_ints() {
            c.elements = Elements::I64(values.into_iter().map(|v| v.clamp(-beyond, beyond)).collect());
        }
    }
}

/// `start + i · delta`, as ONNX defines Range.
fn range(inputs: &[Constant]) -> Importing<Constant> {
    const WRONG: &str = "start, limit and delta must be three numbers of one type";
    let [start, limit, delta] = inputs else { return Err(WRONG.into()) };
    if inputs.iter().any(|c| c.len() != 1) {
        return Err(WRONG.into());
    }
    // `bound` has limited the count.
    let reals = |start: f64, limit: f64, delta: f64| {
        let n = ((limit - start) / delta).ceil().max(0.0) as usize;
        (0..n).map(move |i| start + i as f64 * delta)
    };
    let elements = match (&start.elements, &limit.elements, &delta.elements) {
        (Elements::F32(a), Elements::F32(b), Elements::F32(d)) => {
            let all = reals(a[0].into(), b[0].into(), d[0].into());
            Elements::F32(all.map(|v| v as f32).collect())
        }
        (Elements::F64(a), Elements::F64(b), Elements::F64(d)) => {
            Elements::F64(reals(a[0], b[0], d[0]).collect())
        }
        _ => {
            let whole = |c: &Constant| c.to_ints().and_then(|v| v.first().copied()).ok_or(WRONG);
            let (a, b, d) = (i128::from(whole(start)?), i128::from(whole(limit)?), i128::from(whole(delta)?));
            if d == 0 {
                return Err("delta is 0".into());
            }
            let n = (b - a).signum() * d.signum() * ((b - a).abs() + d.abs() - 1) / d.abs();
            let all: Vec<i64> = (0..n.max(0)).map(|i| (a + i * d) as i64).collect();
            match start.elements {
                Elements::I32(_) => Elements::I32(all.iter().map(|v| *v as i32).collect()),
                _ => Elements::I64(all),
            }
        }
    };
    Ok(Constant::new(vec![elements.len()], elements))
}

/// An upper bound on the elements of the node's outputs; `None` if no bound is known or the work is too large.
fn bound(node: &NodeProto, inputs: &[Constant]) -> Option<usize> {
    let sum = inputs.iter().map(Constant::len).sum::<usize>();
    let broadcast = || -> Option<usize> {
        let rank = inputs.iter().map(|c| c.shape.len()).max()?;
        let extents: Vec<usize> = (0..rank)
            .map(|a| inputs.iter().filter_map(|c| c.shape.iter().rev().nth(a)).copied().max().unwrap_or(1))
            .collect();
        count(&extents)
    };
    match node.op_type.as_str() {
        // tract panics if nothing is reduced.
        "ReduceL1" | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceMax" | "ReduceMean"
        | "ReduceMin" | "ReduceProd" | "ReduceSum" | "ReduceSumSquare" | "ArgMax" | "ArgMin" => {
            (inputs[0].len() > 0).then_some(sum)
        }
        "Concat"
        | "Slice"
        | "Split"
        | "ScatterND"
        | "ScatterElements"
        | "TopK"
        | "CumSum"
        | "Trilu"
        | "Softmax"
        | "LogSoftmax"
        | "Size"
        | "NonZero"
        | "GatherElements"
        | "LayerNormalization"
        | "BatchNormalization"
        | "InstanceNormalization"
        | "DepthToSpace"
        | "SpaceToDepth" => sum.checked_mul(inputs[0].shape.len().max(1)),
        "MatMul" | "Gemm" => {
            let transposed = node.attribute.iter().any(|a| a.name == "transA" && a.i != 0);
            let [a, b] = inputs.get(..2)? else { return None };
            let inner = if transposed { a.shape.first() } else { a.shape.last() };
            let inner = inner.copied().unwrap_or(1).max(1);
            let outer = (a.len() / inner).checked_mul(b.len() / inner)?;
            outer.checked_mul(inner).filter(|n| *n <= MAX_WORK).map(|_| outer.max(sum))
        }
        "Gather" => inputs.get(1).and_then(|at| {
            let smallest = inputs[0].shape.iter().copied().max()?.max(1);
            let axis = node.attribute.iter().find(|a| a.name == "axis").map_or(0, |a| a.i);
            let rank = inputs[0].shape.len() as i64;
            let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).ok()?;
            let extent = inputs[0].shape.get(axis).copied().unwrap_or(smallest).max(1);
            (inputs[0].len() / extent).checked_mul(at.len())
        }),
        "Abs" | "Add" | "And" | "Cast" | "CastLike" | "Celu" | "Clip" | "Div" | "Elu" | "Equal" | "Erf"
        | "Exp" | "Gelu" | "Greater" | "GreaterOrEqual" | "HardSigmoid" | "HardSwish" | "LeakyRelu"
        | "Less" | "LessOrEqual" | "Log" | "Max" | "Mean" | "Min" | "Mish" | "Mod" | "Mul" | "Neg"
        | "Not" | "Or" | "PRelu" | "Pow" | "Reciprocal" | "Relu" | "Selu" | "Sigmoid" | "Sign"
        | "Softplus" | "Softsign" | "Sqrt" | "Sub" | "Sum" | "Tanh" | "ThresholdedRelu" | "Where" | "Xor" => {
            broadcast()
        }
        rare if elementary::of_onnx(rare).is_some() => broadcast(),
        "Expand" => {
            let wanted = extents(inputs.get(1)?)?;
            count(&inputs[0].shape)?.checked_mul(count(&wanted)?)
        }
        "Range" => {
            let [start, limit, delta] = inputs else { return None };
            let (start, limit, delta) = (number(start)?, number(limit)?, number(delta)?);
            let n = ((limit - start) / delta).ceil();
            (n.is_finite() && delta != 0.0 && n < MAX_VALUE as f64).then(|| n.max(0.0) as usize)
        }
        "Pad" => {
            let pads = match node.attribute.iter().find(|a| a.name == "pads") {
                Some(a) => a.ints.clone(),
                None => inputs.get(1)?.to_ints()?,
            };
            let most = pads.iter().map(|p| p.unsigned_abs()).max().unwrap_or(0);
            let most = usize::try_from(most).ok()?.checked_mul(2)?;
            let padded: Option<Vec<usize>> = inputs[0].shape.iter().map(|d| d.checked_add(most)).collect();
            count(&padded?)
        }
        // Everything else, pessimistically: the product of all extents and of all numbers that could be an extent.
        _ => {
            let mut all = inputs.iter().try_fold(1usize, |n, c| n.checked_mul(c.len().max(1)))?;
            let values = inputs.iter().filter(|c| c.len() <= 8).flat_map(Constant::to_reals);
            let attributes =
                node.attribute.iter().flat_map(|a| a.ints.iter().chain([&a.i])).map(|v| *v as f32);
            for v in values.chain(attributes).filter(|v| v.abs() > 1.0) {
                all = all.checked_mul(v.abs().ceil() as usize).filter(|n| *n <= MAX_VALUE)?;
            }
            Some(all)
        }
    }
}

fn extents(c: &Constant) -> Option<Vec<usize>> {
    c.to_ints()?.into_iter().map(|v| usize::try_from(v.max(1)).ok()).collect()
}

fn number(c: &Constant) -> Option<f64> {
    match c.to_ints() {
        Some(v) => v.first().map(|v| *v as f64),
        None => match &c.elements {
            Elements::F64(v) => v.first().copied(),
            _ => c.to_reals().first().map(|v| f64::from(*v)),
        },
    }
}

/// The node's named outputs, with their positions.
fn evaluate(node: &NodeProto, inputs: &[Constant], opset: i64) -> Result<Vec<(usize, Constant)>, String> {
    let mut alone = node.clone();
    alone.name = "folded".into();
    let mut initializer = Vec::new();
    for (name, constant) in alone.input.iter_mut().filter(|name| !name.is_empty()).zip(inputs) {
        *name = format!("input_{}", initializer.len());
        initializer.push(tensor(name, constant));
    }
    let mut places = Vec::new();
    for (i, name) in alone.output.iter_mut().enumerate().filter(|(_, name)| !name.is_empty()) {
        *name = format!("output_{i}");
        places.push(i);
    }
    let output = |i: &usize| ValueInfoProto { name: format!("output_{i}"), ..Default::default() };
    let graph = GraphProto {
        output: places.iter().map(output).collect(),
        node: vec![alone],
        initializer,
        ..Default::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: opset }];
    let model = ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..Default::default() };
    let message = |e: TractError| e.to_string();
    let plan = onnx()
        .model_for_proto_model(&model)
        .and_then(|m| m.into_typed()?.into_runnable())
        .map_err(message)?;
    let results = plan.run(tvec!()).map_err(message)?;
    places.into_iter().zip(results.iter()).map(|(i, t)| Ok((i, constant(t)?))).collect()
}

/// Converts a constant to a tensor of an ONNX file.
fn tensor(name: &str, c: &Constant) -> TensorProto {
    let (data_type, raw_data) = match &c.elements {
        Elements::F32(v) => (DataType::Float, v.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Elements::F64(v) => (DataType::Double, v.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Elements::I8(v) => (DataType::Int8, v.iter().map(|v| *v as u8).collect()),
        Elements::U8(v) => (DataType::Uint8, v.clone()),
        Elements::I32(v) => (DataType::Int32, v.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Elements::I64(v) => (DataType::Int64, v.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Elements::Bool(v) => (DataType::Bool, v.iter().map(|v| u8::from(*v)).collect()),
    };
    let dims = c.shape.iter().map(|d| *d as i64).collect();
    TensorProto { name: name.into(), dims, data_type: data_type as i32, raw_data, ..Default::default() }
}

/// Converts a tensor of tract to a constant. float16 becomes float32, other integers int64.
fn constant(t: &Tensor) -> Result<Constant, String> {
    let message = |e: TractError| e.to_string();
    fn read<T: Datum + Copy>(t: &Tensor) -> Result<Vec<T>, String> {
        let t = t.cast_to::<T>().map_err(|e| e.to_string())?;
        Ok(t.to_plain_array_view::<T>().map_err(|e| e.to_string())?.iter().copied().collect())
    }
    let shape = t.shape().to_vec();
    let elements = match t.datum_type() {
        DatumType::Bool => Elements::Bool(read(t)?),
        DatumType::I8 => Elements::I8(read(t)?),
        DatumType::U8 => Elements::U8(read(t)?),
        DatumType::I32 => Elements::I32(read(t)?),
        DatumType::F32 | DatumType::F16 => Elements::F32(read(t)?),
        DatumType::F64 => Elements::F64(read(t)?),
        DatumType::TDim => {
            let whole = t.to_plain_array_view::<TDim>().map_err(message)?;
            Elements::I64(
                whole.iter().map(|d| d.to_i64().map_err(|e| e.to_string())).collect::<Result<_, _>>()?,
            )
        }
        DatumType::I64 | DatumType::I16 | DatumType::U16 | DatumType::U32 => Elements::I64(read(t)?),
        other => return Err(format!("element type {other:?}")),
    };
    count(&shape).ok_or("too many elements or axes")?;
    Ok(Constant::new(shape, elements))
}
