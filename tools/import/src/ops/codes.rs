//! Operators on the integers between a QuantizeLinear and a DequantizeLinear. They are computed on the real numbers that the
//! integers stand for, between two conversions, which `lift` makes one operator on int8: order, padding and interpolation
//! are the same for both.

use offshoot_ir::{DType, Op, Quant, ValueId};
use tract_onnx::pb::{GraphProto, NodeProto};

use super::quant;
use crate::constant::{Constant, Elements};
use crate::context::{Context, Entry, Importing, Onnx};

/// The inputs that hold integers of the output's type; none for operators that move integers as they are, or take none.
fn data(node: &NodeProto) -> &'static [usize] {
    const ALL: &[usize] = &[0, 1, 2, 3, 4, 5, 6, 7];
    match node.op_type.as_str() {
        "Concat" | "Max" | "Min" => ALL,
        "Pad" => &[0, 2],
        "ReduceMax" | "ReduceMin" | "Resize" | "Upsample" => &[0],
        "ScatterElements" | "ScatterND" => &[0, 2],
        "Where" => &[1, 2],
        _ => &[],
    }
}

/// Operators behind which integers are the same ones.
const KEEPERS: &[&str] = &[
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "GlobalMaxPool",
    "Identity",
    "MaxPool",
    "Reshape",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
];

/// Imports an operator on quantised integers. Returns `false` for any other.
pub(super) fn import(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing<bool> {
    let data = data(onnx.node);
    if !matches!(onnx.node.domain.as_str(), "" | "ai.onnx") {
        return Ok(false);
    }
    let names: Vec<(usize, &str)> = data.iter().filter_map(|&i| Some((i, onnx.input(i)?))).collect();
    let integers = |c: &Context<'_>, name: &str| match c.entries.get(name) {
        Some(Entry::Value(id)) if c.graph.value(*id).dtype == DType::I8 => Some(*id),
        _ => None,
    };
    let found: Vec<ValueId> = names.iter().filter_map(|(_, name)| integers(c, name)).collect();
    let Some(&first) = found.first() else { return Ok(false) };
    // Integers move as they are, unless there are constants among them.
    let moves = matches!(onnx.node.op_type.as_str(), "Concat" | "ScatterElements" | "ScatterND");
    if moves && found.len() == names.len() {
        return Ok(false);
    }
    let unsigned = c.is_unsigned(first);
    let given = found.iter().find_map(|id| c.graph.value(*id).quant.clone());
    let grid = given.unwrap_or_else(|| Quant::per_tensor(1.0, if unsigned { -128 } else { 0 }));
    for &id in &found {
        c.set_quant(id, &grid);
        if c.graph.value(id).quant.as_ref() != Some(&grid) || c.is_unsigned(id) != unsigned {
            return Err("integers of different scales".into());
        }
    }
    let ([scale], [zero]) = (&grid.scale[..], &grid.zero_point[..]) else {
        return Err("integers with scales per channel".into());
    };
    let origin = (zero + if unsigned { 128 } else { 0 }) as f32;
    let real = |v: f32| (v - origin) * scale;

    let mut node = onnx.node.clone();
    let mut temporary = Vec::new();
    let bind = |c: &mut Context<'_>, temporary: &mut Vec<String>, name: &str, entry: Entry| {
        let mut own = format!("{name}/real");
        while c.entries.contains_key(&own) {
            own.push('#');
        }
        c.entries.insert(own.clone(), entry);
        temporary.push(own.clone());
        own
    };
    for (i, name) in names {
        let entry = match c.entry(name)?.clone() {
            Entry::Value(id) if found.contains(&id) => {
                let y = c.emit(onnx, Op::Dequantize, vec![id], None, &format!("{}/real_{i}", onnx.name))?;
                Entry::Value(y)
            }
            Entry::Constant(constant) if constant.quant.is_none() => {
                let elements = match constant.elements {
                    // A number of its own.
                    ref given if onnx.node.op_type == "Pad" => {
                        let all = Constant::new(constant.shape.clone(), given.clone());
                        Elements::F32(all.to_reals().into_iter().map(real).collect())
                    }
                    Elements::U8(v) => Elements::I8(v.iter().map(|v| (i16::from(*v) - 128) as i8).collect()),
                    Elements::I8(v) => Elements::I8(v),
                    _ => return Err(format!("`{name}` is no integer of 8 bits")),
                };
                let quant = matches!(elements, Elements::I8(_)).then(|| grid.clone());
                Entry::Constant(Constant { shape: constant.shape, elements, quant })
            }
            Entry::Unknown => return Err(String::new()),
            _ => return Err(format!("`{name}` is real, the other operands are integers")),
        };
        node.input[i] = bind(c, &mut temporary, name, entry);
    }
    if node.op_type == "Pad" && onnx.input(2).is_none() && onnx.input(1).is_some() {
        let entry = Entry::Constant(Constant::new(vec![], Elements::F32(vec![real(0.0)])));
        node.input.resize(node.input.len().max(3), String::new());
        node.input[2] = bind(c, &mut temporary, &format!("{}/value", onnx.name), entry);
    }
    let output = onnx.output(0).ok_or("has no output")?;
    node.output = vec![bind(c, &mut temporary, output, Entry::Unknown)];
    let done = super::node(c, &Onnx { node: &node, name: onnx.name.clone() });
    let result = c.entries.get(&node.output[0]).cloned();
    for name in temporary {
        c.entries.remove(&name);
    }
    done?;
    let Some(Entry::Value(result)) = result else { return Err("gives no tensor".into()) };
    c.finish(onnx, Op::Quantize, vec![result], None, 0)?;
    if let Ok(&Entry::Value(id)) = c.entry(output) {
        c.graph.value_mut(id).quant = Some(grid);
        if unsigned {
            c.unsigned.insert(id);
        }
    }
    Ok(true)
}

/// Gives integer inputs of the graph that operators on integers read the scale of the DequantizeLinear behind them.
pub(crate) fn scale_inputs(c: &mut Context<'_>, proto: &GraphProto) {
    for input in &proto.input {
        let Some(&Entry::Value(id)) = c.entries.get(&input.name) else { continue };
        if c.graph.value(id).dtype != DType::I8 {
            continue;
        }
        let mut same = vec![input.name.as_str()];
        let mut computed = false;
        for node in &proto.node {
            let reads = |at: &[usize]| {
                at.iter().filter_map(|&i| node.input.get(i)).any(|name| same.contains(&name.as_str()))
            };
            if node.op_type == "DequantizeLinear" && reads(&[0]) {
                if computed && let Some(grid) = quant::grid(c, &Onnx::new(node), id) {
                    c.set_quant(id, &grid);
                }
                break;
            }
            let computes =
                reads(data(node)) || matches!(node.op_type.as_str(), "Clip" | "Relu") && reads(&[0]);
            if computes || KEEPERS.contains(&node.op_type.as_str()) && reads(&[0]) {
                computed |= computes;
                same.extend(node.output.iter().map(String::as_str));
            }
        }
    }
}
