//! TensorFlow Lite to IR, operator by operator.
//!
//! [`file`] turns the verified flatbuffer into plain structures, [`builder`] holds the graph under construction, and
//! `ops` has a file for each family of operators. Both formats are channels-last and keep scales on tensors, so most
//! operators have one counterpart. uint8 becomes int8 by subtracting 128; float16 becomes float32. The arithmetic of
//! int8 operators is that of TensorFlow Lite for Microcontrollers, because the device computes by its rules.

mod builder;
mod file;
mod ops;

use offshoot_ir::{Graph, Value};

use crate::error::{ImportError, Result, Unsupported};
use builder::{Builder, Entry};
use file::{File, Operator, Subgraph};

/// Whether the bytes are a TensorFlow Lite file.
pub(crate) fn is_tflite(bytes: &[u8]) -> bool {
    bytes.get(4..8) == Some(b"TFL3")
}

/// Imports the bytes of a file.
///
/// # Errors
/// The file is damaged, or contains operators that cannot be imported (all of them are listed).
pub(crate) fn import(bytes: &[u8], name: &str) -> Result<Graph> {
    let file = File::open(bytes)?;
    let Subgraph { tensors, operators, inputs, outputs } = file.subgraph(0)?;
    let mut b = Builder::new(name, tensors);
    let mut unsupported = other_subgraphs(&file, &operators);
    for op in &operators {
        if let Some(index) = ops::initialiser(op)
            && let Err(reason) = ops::state::initialise(&mut b, file.subgraph(index)?)
        {
            unsupported.push(problem(&b, op, reason));
        }
    }
    for &at in &inputs {
        if let Err(reason) = graph_input(&mut b, at) {
            let name = b.tensors[at].name.clone();
            unsupported.push(Unsupported { node: name, operator: "input".into(), reason });
            b.entries[at] = Entry::Unknown;
        }
    }
    for op in &operators {
        let fed_by_unknown = op.inputs.iter().flatten().any(|t| matches!(b.entries[*t], Entry::Unknown));
        let done = match fed_by_unknown {
            // Its operator can still be checked, its inputs cannot.
            true if ops::is_known(op) => Err(String::new()),
            true => Err(ops::unknown(op)),
            false => ops::import(&mut b, op),
        };
        if let Err(reason) = done {
            for &output in &op.outputs {
                b.entries[output] = Entry::Unknown;
            }
            if !reason.is_empty() {
                unsupported.push(problem(&b, op, reason));
            }
        }
    }
    finish(b, &outputs, unsupported)
}

fn problem(b: &Builder<'_>, op: &Operator<'_>, reason: String) -> Unsupported {
    let name = op.outputs.first().map_or("", |t| b.tensors[*t].name.as_str());
    let kind = if op.custom { format!("custom operator {}", op.kind) } else { op.kind.clone() };
    Unsupported { node: format!("{}: {name}", op.index), operator: kind, reason }
}

/// Subgraphs other than the first are only used to give variables their first values.
fn other_subgraphs(file: &File<'_>, operators: &[Operator<'_>]) -> Vec<Unsupported> {
    let called: Vec<usize> = operators.iter().filter_map(ops::initialiser).collect();
    let names = file.subgraph_names();
    let unused = names.iter().enumerate().skip(1).filter(|(i, _)| !called.contains(i));
    let reason = "a second subgraph; only one network, and subgraphs that CALL_ONCE runs, are supported";
    let fault = |(i, name): (usize, &String)| Unsupported {
        node: format!("{i}: {name}"),
        operator: "subgraph".into(),
        reason: reason.into(),
    };
    unused.map(fault).collect()
}

fn graph_input(b: &mut Builder<'_>, at: usize) -> std::result::Result<(), String> {
    let form = b.form(at)?;
    let t = &b.tensors[at];
    if let Some(axis) = t.open_axis {
        return Err(format!("extent of axis {axis} is not given: convert the model with fixed extents"));
    }
    if form.dtype == offshoot_ir::DType::I32 {
        return Err(format!("element type {}; float32, int8 and uint8 are supported", t.kind_name));
    }
    if !matches!(b.entries[at], Entry::Missing) {
        return Err("it is a constant, or listed twice".into());
    }
    let shape = t.shape.iter().map(|d| (*d).max(1)).collect();
    b.add_input(at, shape, form);
    Ok(())
}

fn finish(mut b: Builder<'_>, outputs: &[usize], mut unsupported: Vec<Unsupported>) -> Result<Graph> {
    for &at in outputs {
        let fault = |reason: &str| Unsupported {
            node: b.tensors[at].name.clone(),
            operator: "output".into(),
            reason: reason.into(),
        };
        match &b.entries[at] {
            Entry::Value(id) => b.graph.outputs.push(*id),
            Entry::Unknown => {}
            Entry::Missing => unsupported.push(fault("no operator produces it")),
            Entry::Handle(_) | Entry::State(_) => unsupported.push(fault("it is a variable")),
            Entry::Constant | Entry::Computed(_) | Entry::Derived => {
                unsupported.push(fault("it does not depend on any input"));
            }
        }
    }
    unsupported.extend(not_numbers(&b.graph));
    for (name, variable) in &b.variables {
        if variable.history.is_some() && !variable.assigned {
            let reason = "it is read, but no ASSIGN_VARIABLE follows".into();
            unsupported.push(Unsupported { node: name.clone(), operator: "variable".into(), reason });
        }
    }
    if !unsupported.is_empty() {
        return Err(ImportError::Unsupported(unsupported));
    }
    if b.graph.outputs.is_empty() {
        return Err(ImportError::Damaged("it has no output".into()));
    }
    let graph = crate::lift::for_kernels(b.graph).prune_unreachable();
    graph.validate()?;
    Ok(graph)
}

/// Constants that operators read and that contain NaN.
fn not_numbers(graph: &Graph) -> Vec<Unsupported> {
    let nan = |v: &Value| matches!(v.data.as_deref(), Some(offshoot_ir::Data::F32(d)) if d.iter().any(|v| v.is_nan()));
    let reads = graph.nodes.iter().flat_map(|n| n.inputs.iter().map(move |id| (n, graph.value(*id))));
    reads
        .filter(|(_, v)| nan(v))
        .map(|(n, v)| Unsupported {
            node: n.name.clone(),
            operator: n.op.name().into(),
            reason: format!("constant `{}` holds NaN", v.name),
        })
        .collect()
}
