//! Switch: each branch becomes a range of operators behind a [`record::Branch`]. The last ones write the switch's output.

use offshoot::format::codec::Record;
use offshoot::format::record;
use offshoot_ir::{Node, Op, ValueId};
use offshoot_plan::Branch;

use super::{Context, layout};
use crate::branches::Event;
use crate::draft::Step;
use crate::forms::parameters::{Lowering, Reason, to_u16, to_u32};
use crate::lowered::Tensor;

/// Lowers the beginning or end of a branch.
///
/// # Errors
/// The switch, and why the device cannot run it.
pub(super) fn lower<'g>(c: &mut Context<'g>, event: &Event) -> Result<(), (&'g Node, Reason)> {
    let graph = c.graph;
    let failed = |at: usize| move |reason| (&graph.nodes[at], reason);
    match event {
        Event::Node(_) => {}
        Event::Begin { group, switches, index, number, count } => {
            let first = switches.first().copied().unwrap_or_default();
            begin(c, first, *index, [*group, *number, *count]).map_err(failed(first))?;
            for &at in switches {
                direct(c, &graph.nodes[at], *number).map_err(failed(at))?;
            }
        }
        Event::End { switches, number } => {
            for &at in switches {
                c.node = Some(&graph.nodes[at]);
                finish(c, &graph.nodes[at], *number).map_err(failed(at))?;
            }
            c.branches.pop();
        }
    }
    Ok(())
}

fn begin(c: &mut Context<'_>, at: usize, index: ValueId, [group, number, count]: [usize; 3]) -> Lowering {
    c.node = c.graph.nodes.get(at);
    let index = c.tensor(index)?;
    if index.dtype != record::DType::I32 {
        return Err(format!("its index is {:?}, not int32", index.dtype));
    }
    let branch = record::Branch {
        src: 0,
        number: to_u16(number, "the number of a branch")?,
        count: to_u16(count, "the number of branches")?,
        ops: 0,
        bytes: 0,
    };
    let begins = Branch { switch: group, number };
    c.branches.push(begins);
    c.emit(Record::Branch(branch), [Some(&index), None], &index, &[]).begins = true;
    Ok(())
}

/// Lets the operator that computes the branch's value write the output, if nothing else reads the value and both have the same
/// numbers.
fn direct(c: &mut Context<'_>, node: &Node, number: usize) -> Lowering {
    let y = c.place(node.output)?;
    let graph = c.graph;
    let mut value = node.inputs[number];
    loop {
        let (from, to) = (graph.value(value), graph.value(node.output));
        let same = from.dtype == to.dtype && from.quant == to.quant && from.data.is_none();
        let uses = graph.nodes.iter().flat_map(|n| &n.inputs).filter(|&&id| id == value).count();
        if !same
            || uses != 1
            || graph.outputs.contains(&value)
            || graph.inputs.contains(&value)
            || c.places.contains_key(&value)
        {
            return Ok(());
        }
        c.places.insert(value, y);
        // The buffer of a reshaped tensor is that of the tensor before.
        match graph.producer(value).map(|at| &graph.nodes[at]) {
            Some(Node { op: Op::Reshape, inputs, .. }) => value = inputs[0],
            _ => return Ok(()),
        }
    }
}

/// Brings the branch's value to the output, unless it was computed there.
fn finish(c: &mut Context<'_>, node: &Node, number: usize) -> Lowering {
    let (value, y) = (node.inputs[number], c.output(node.output)?);
    if c.graph.value(value).data.is_some() {
        return constant(c, value, &y);
    }
    let x = c.tensor(value)?;
    if x.buffer == y.buffer {
        return Ok(());
    }
    if x.same_numbers(&y) {
        layout::copy_all(c, &x, &y)?;
    } else {
        c.convert(&x, &y)?;
    }
    if let Some(Step::Operator(op)) = c.out.steps.last_mut() {
        op.origin = Some(node.output);
    }
    Ok(())
}

/// Writes a constant to `y`.
fn constant(c: &mut Context<'_>, value: ValueId, y: &Tensor) -> Lowering {
    let own = c.describe(value, y.buffer)?;
    if !own.same_numbers(y) {
        let x = c.tensor(value)?;
        return c.convert(&x, y);
    }
    let Some(data) = &c.graph.value(value).data else { return Ok(()) };
    let blob = c.elements(value, data)?;
    let len = to_u32(blob.len(), "bytes of a constant")?;
    let blob = c.blob(blob, [0, 0])?;
    c.emit(Record::Constant(record::Constant { dst: 0, len, blob }), [None, None], y, &[]);
    Ok(())
}
