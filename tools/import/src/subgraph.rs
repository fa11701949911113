//! Functions of the file, and If, Loop and Scan whose course is known while importing: the body, the chosen branch, or
//! every iteration becomes part of the graph.

use tract_onnx::pb::{AttributeProto, FunctionProto, GraphProto, NodeProto, ValueInfoProto};

use offshoot_ir::{Op, ValueId};

use crate::constant::{Constant, Elements};
use crate::context::{Context, Entry, Importing, Onnx, axis};
use crate::model::import_nodes;
use crate::ops::is_integer;
use crate::parts::Parts;

/// Most iterations that are unrolled.
const MAX_ITERATIONS: usize = 1 << 12;

fn graph<'n>(onnx: &Onnx<'n>, name: &str) -> Importing<&'n GraphProto> {
    let found = onnx.node.attribute.iter().find(|a| a.name == name).and_then(|a| a.g.as_ref());
    found.ok_or_else(|| format!("`{name}` is missing"))
}

/// Imports a subgraph once and returns the entries of its outputs. Its names are seen nowhere else.
fn inlined(c: &mut Context<'_>, graph: &GraphProto, inputs: &[Entry]) -> Importing<Vec<Entry>> {
    if graph.input.len() != inputs.len() {
        return Err(format!("a subgraph with {} inputs for {} values", graph.input.len(), inputs.len()));
    }
    c.enter()?;
    let written = graph.initializer.iter().map(|t| &t.name);
    let written = written.chain(graph.input.iter().map(|i| &i.name));
    let written: Vec<String> = written.chain(graph.node.iter().flat_map(|n| &n.output)).cloned().collect();
    let hidden: Vec<(String, Option<Entry>)> =
        written.into_iter().map(|name| (name.clone(), c.entries.remove(&name))).collect();
    let done = body(c, graph, inputs);
    // Names that the subgraph does not write are those of the graph around it.
    for (name, before) in hidden.into_iter().rev() {
        match before {
            Some(entry) => c.entries.insert(name, entry),
            None => c.entries.remove(&name),
        };
    }
    c.leave();
    done
}

fn body(c: &mut Context<'_>, graph: &GraphProto, inputs: &[Entry]) -> Importing<Vec<Entry>> {
    for t in &graph.initializer {
        let constant = Constant::read(t, c.folder).map_err(|reason| format!("`{}`: {reason}", t.name))?;
        c.entries.insert(t.name.clone(), Entry::Constant(constant));
    }
    for (input, entry) in graph.input.iter().zip(inputs) {
        c.entries.insert(input.name.clone(), entry.clone());
    }
    let mut unsupported = Vec::new();
    import_nodes(c, &graph.node, &mut unsupported);
    if let Some(first) = unsupported.first() {
        return Err(format!("{} `{}` in its subgraph: {}", first.operator, first.node, first.reason));
    }
    graph.output.iter().map(|o| c.entry(&o.name).cloned()).collect()
}

/// The node with the attributes that its function was given.
fn given(node: &NodeProto, attributes: &[AttributeProto]) -> NodeProto {
    let mut node = node.clone();
    node.attribute = (node.attribute.into_iter())
        .filter_map(|mut own| {
            if !own.ref_attr_name.is_empty() {
                let found = attributes.iter().find(|a| a.name == own.ref_attr_name)?;
                return Some(AttributeProto { name: own.name, ..found.clone() });
            }
            for graph in own.g.iter_mut().chain(&mut own.graphs) {
                graph.node = graph.node.iter().map(|n| given(n, attributes)).collect();
            }
            Some(own)
        })
        .collect();
    node
}

/// A node that calls a function of the file.
pub(crate) fn call(c: &mut Context<'_>, onnx: &Onnx<'_>, function: &FunctionProto) -> Importing {
    let named = |name: &String| ValueInfoProto { name: name.clone(), ..ValueInfoProto::default() };
    let mut inputs = Vec::new();
    let mut graph = GraphProto::default();
    for (i, name) in function.input.iter().enumerate() {
        if onnx.input(i).is_some() {
            inputs.push(entry(c, onnx, i)?);
            graph.input.push(named(name));
        }
    }
    // An input that is not given is not given to the nodes inside either.
    let absent = |name: &String| {
        let at = function.input.iter().position(|input| input == name);
        at.is_some_and(|i| onnx.input(i).is_none())
    };
    for node in &function.node {
        let mut node = given(node, &onnx.node.attribute);
        node.input.iter_mut().filter(|name| absent(name)).for_each(String::clear);
        graph.node.push(node);
    }
    graph.output = function.output.iter().map(named).collect();
    let opset = function.opset_import.iter().find(|o| matches!(o.domain.as_str(), "" | "ai.onnx"));
    let around = c.opset;
    c.opset = opset.map_or(around, |o| o.version);
    let outputs = inlined(c, &graph, &inputs);
    c.opset = around;
    bind_all(c, onnx, outputs?, 0)
}

/// If: the branch that a constant condition takes, otherwise a switch between the results of both.
pub(crate) fn branch(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    if !c.is_constant(onnx, 0) {
        return switch(c, onnx);
    }
    let taken = c.wanted(onnx, 0)?.to_reals().first().is_some_and(|v| *v != 0.0);
    let graph = graph(onnx, if taken { "then_branch" } else { "else_branch" })?;
    let outputs = inlined(c, graph, &[])?;
    bind_all(c, onnx, outputs, 0)
}

/// If with a condition that is computed at run time.
fn switch(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let condition = c.value(onnx, 0)?;
    if c.shape(condition).iter().product::<usize>() != 1 {
        return Err(format!("the condition has the shape {:?}", c.shape(condition)));
    }
    let (no, yes) = (graph(onnx, "else_branch")?, graph(onnx, "then_branch")?);
    if no.output.len() != yes.output.len() {
        return Err(format!("its branches have {} and {} results", yes.output.len(), no.output.len()));
    }
    let mut p = Parts::of(c, onnx);
    let index = index_of_truth(&mut p, condition)?;
    let results = [inlined(p.c, no, &[])?, inlined(p.c, yes, &[])?];
    for i in 0..results[0].len() {
        if onnx.output(i).is_none() {
            continue;
        }
        let (no, yes) = (value(&mut p, &results[0][i])?, value(&mut p, &results[1][i])?);
        let y = choose(&mut p, &[no, yes], index)?;
        p.output(i, y)?;
    }
    Ok(())
}

/// The index of a truth value: int32, 0 for false and 1 for true.
pub(crate) fn index_of_truth(p: &mut Parts<'_, '_, '_>, condition: ValueId) -> Importing<ValueId> {
    if is_integer(p.c, condition) {
        return Ok(condition);
    }
    // A conversion cuts off the fraction, and in int8 the number for true may be a little less than 1.
    let above = p.times(condition, 1.5)?;
    p.op(Op::Cast, &[above], None)
}

/// The switch between branches of one shape.
pub(crate) fn choose(p: &mut Parts<'_, '_, '_>, branches: &[ValueId], index: ValueId) -> Importing<ValueId> {
    let shape = p.shape(branches[0]);
    if let Some(other) = branches.iter().map(|id| p.shape(*id)).find(|other| *other != shape) {
        return Err(format!("its branches give results of the shapes {shape:?} and {other:?}"));
    }
    let inputs: Vec<ValueId> = branches.iter().copied().chain([index]).collect();
    p.op(Op::Switch, &inputs, None)
}

fn bind_all(c: &mut Context<'_>, onnx: &Onnx<'_>, entries: Vec<Entry>, first: usize) -> Importing {
    for (i, entry) in entries.into_iter().enumerate() {
        if onnx.output(first + i).is_some() {
            if matches!(entry, Entry::Unknown) {
                return Err("a result of its subgraph is not known".into());
            }
            c.bind(onnx, first + i, entry)?;
        }
    }
    Ok(())
}

fn entry(c: &Context<'_>, onnx: &Onnx<'_>, i: usize) -> Importing<Entry> {
    c.entry(onnx.input(i).ok_or_else(|| format!("input {i} is missing"))?).cloned()
}

fn value(p: &mut Parts<'_, '_, '_>, entry: &Entry) -> Importing<ValueId> {
    match entry {
        Entry::Value(id) => Ok(*id),
        Entry::Constant(constant) => {
            let name = format!("{}/constant", p.onnx.name);
            Ok(p.c.add_constant(&name, constant))
        }
        Entry::Unknown => Err(String::new()),
    }
}

/// Joins one result of every iteration along a new axis.
fn stacked(p: &mut Parts<'_, '_, '_>, parts: &[Entry], at: usize) -> Importing<ValueId> {
    let mut rows = Vec::new();
    for part in parts {
        let row = value(p, part)?;
        let mut shape = p.shape(row);
        if at > shape.len() {
            return Err(format!("axis {at} of results with {} axes", shape.len()));
        }
        shape.insert(at, 1);
        rows.push(p.reshape(row, &shape)?);
    }
    if rows.is_empty() {
        return Err("no iterations".into());
    }
    p.concat(&rows, at)
}

/// Loop with a constant trip count or a condition that is known in every iteration.
pub(crate) fn iterate(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let body = graph(onnx, "body")?;
    let trips = match onnx.input(0) {
        Some(_) => c.ints(onnx, 0)?.and_then(|v| v.first().copied()).ok_or("the trip count is missing")?,
        None => i64::MAX,
    };
    let mut runs = match onnx.input(1) {
        Some(_) => c.wanted(onnx, 1)?.to_reals().first().is_some_and(|v| *v != 0.0),
        None => true,
    };
    let states = onnx.node.input.len().saturating_sub(2);
    let mut carried = (0..states).map(|i| entry(c, onnx, i + 2)).collect::<Importing<Vec<Entry>>>()?;
    let scans = body.output.len().checked_sub(states + 1).ok_or("the body lacks outputs")?;
    let mut collected = vec![Vec::new(); scans];
    let mut at = 0;
    while runs && at < trips {
        if at as usize >= MAX_ITERATIONS {
            return Err(format!("more than {MAX_ITERATIONS} iterations"));
        }
        let number = Entry::Constant(Constant::new(vec![], Elements::I64(vec![at])));
        let truth = Entry::Constant(Constant::new(vec![], Elements::Bool(vec![true])));
        let inputs = [vec![number, truth], carried].concat();
        let mut outputs = inlined(c, body, &inputs)?.into_iter();
        runs = match outputs.next() {
            Some(Entry::Constant(condition)) => condition.to_reals().first().is_some_and(|v| *v != 0.0),
            _ => return Err("its condition is computed at run time".into()),
        };
        carried = outputs.by_ref().take(states).collect();
        collected.iter_mut().zip(outputs).for_each(|(all, one)| all.push(one));
        at += 1;
    }
    bind_all(c, onnx, carried, 0)?;
    for (i, parts) in collected.iter().enumerate() {
        if onnx.output(states + i).is_some() {
            let mut p = Parts::of(c, onnx);
            let y = stacked(&mut p, parts, 0)?;
            p.output(states + i, y)?;
        }
    }
    Ok(())
}

/// The slice of a scanned input at one iteration, without the axis.
fn scanned(p: &mut Parts<'_, '_, '_>, from: &Entry, along: usize, at: usize) -> Importing<Entry> {
    if let Entry::Constant(constant) = from {
        let shape = &constant.shape;
        let inner: usize = shape[along + 1..].iter().product();
        let outer: usize = shape[..along].iter().product();
        let places: Vec<usize> =
            (0..outer * inner).map(|i| (i / inner * shape[along] + at) * inner + i % inner).collect();
        let mut rest = shape.clone();
        rest.remove(along);
        return Ok(Entry::Constant(constant.gathered(&places).reshaped(rest)?));
    }
    let x = value(p, from)?;
    let slice = p.slice(x, along, at, 1, 1)?;
    let mut shape = p.shape(slice);
    shape.remove(along);
    Ok(Entry::Value(p.reshape(slice, &shape)?))
}

/// Scan (from opset 9 on).
pub(crate) fn scan(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    if c.opset < 9 {
        return Err("its form before opset 9".into());
    }
    let body = graph(onnx, "body")?;
    let count = usize::try_from(onnx.int("num_scan_inputs", 0)).ok().filter(|n| *n > 0);
    let count = count.ok_or("num_scan_inputs must be positive")?;
    let states = onnx.node.input.len().checked_sub(count).ok_or("inputs are missing")?;
    let scans = body.output.len().checked_sub(states).ok_or("the body lacks outputs")?;
    let list = |name: &str, n: usize| -> Importing<Vec<i64>> {
        let given = onnx.ints(name).unwrap_or_else(|| vec![0; n]);
        if given.len() == n { Ok(given) } else { Err(format!("{name} for {n} tensors")) }
    };
    let (from, backwards) = (list("scan_input_axes", count)?, list("scan_input_directions", count)?);
    let (to, reversed) = (list("scan_output_axes", scans)?, list("scan_output_directions", scans)?);
    let mut sources = Vec::new();
    let mut iterations = None;
    for (i, along) in from.iter().enumerate() {
        let source = entry(c, onnx, states + i)?;
        let shape = match &source {
            Entry::Constant(constant) => constant.shape.clone(),
            Entry::Value(id) => c.shape(*id).to_vec(),
            Entry::Unknown => return Err(String::new()),
        };
        let along = axis(*along, shape.len())?;
        if *iterations.get_or_insert(shape[along]) != shape[along] {
            return Err("scanned inputs of different lengths".into());
        }
        sources.push((source, along));
    }
    let iterations = iterations.unwrap_or(0);
    if iterations > MAX_ITERATIONS {
        return Err(format!("{iterations} iterations; up to {MAX_ITERATIONS} are supported"));
    }
    let mut carried = (0..states).map(|i| entry(c, onnx, i)).collect::<Importing<Vec<Entry>>>()?;
    let mut collected = vec![Vec::new(); scans];
    for at in 0..iterations {
        let mut inputs = carried;
        let mut p = Parts::of(c, onnx);
        for ((source, along), backwards) in sources.iter().zip(&backwards) {
            let at = if *backwards != 0 { iterations - 1 - at } else { at };
            inputs.push(scanned(&mut p, source, *along, at)?);
        }
        let mut outputs = inlined(c, body, &inputs)?.into_iter();
        carried = outputs.by_ref().take(states).collect();
        collected.iter_mut().zip(outputs).for_each(|(all, one)| all.push(one));
    }
    bind_all(c, onnx, carried, 0)?;
    for (i, mut parts) in collected.into_iter().enumerate() {
        if onnx.output(states + i).is_none() {
            continue;
        }
        if reversed[i] != 0 {
            parts.reverse();
        }
        let rank = match parts.first() {
            Some(Entry::Value(id)) => c.shape(*id).len() + 1,
            Some(Entry::Constant(constant)) => constant.shape.len() + 1,
            _ => return Err("no iterations".into()),
        };
        let along = axis(to[i], rank)?;
        let mut p = Parts::of(c, onnx);
        let y = stacked(&mut p, &parts, along)?;
        p.output(states + i, y)?;
    }
    Ok(())
}
