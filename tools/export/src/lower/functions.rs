//! Functions of one int8 tensor that are written as several float operators between a Dequantize and a Quantize. One table of
//! 256 entries holds the results of all of them.

use std::collections::HashMap;

use offshoot::format::codec::Record;
use offshoot::format::record;
use offshoot_ir::pointwise::Pointwise;
use offshoot_ir::{DType, Graph, Op, Quant, ValueId, grid};

use super::Context;
use crate::blobs;
use crate::forms::parameters::{Lowering, to_u32};

/// The functions of a graph.
#[derive(Default)]
pub(super) struct Functions {
    /// By the output of a Quantize: the int8 tensor that the table reads, and the table.
    tables: HashMap<ValueId, (ValueId, Vec<i8>)>,
    /// Nodes, by index, whose outputs nothing reads because of the tables.
    unread: Vec<bool>,
}

impl Functions {
    /// Finds the functions of `graph`.
    pub(super) fn of(graph: &Graph) -> Self {
        if !graph.nodes.iter().any(|n| matches!(n.op, Op::Quantize)) {
            return Self::default();
        }
        let pointwise = Pointwise::new(graph, |_| true);
        let mut tables = HashMap::new();
        for node in graph.nodes.iter().filter(|n| matches!(n.op, Op::Quantize)) {
            if let Some(found) = table(graph, &pointwise, node.inputs[0], node.output) {
                tables.insert(node.output, found);
            }
        }
        let unread = unread(graph, &tables);
        Self { tables, unread }
    }

    /// Whether nothing reads the output of node `at` any more.
    pub(super) fn is_unread(&self, at: usize) -> bool {
        self.unread.get(at).copied().unwrap_or(false)
    }

    /// The tensor and the table that give `output`, if it is a function.
    pub(super) fn get(&self, output: ValueId) -> Option<(ValueId, Vec<i8>)> {
        self.tables.get(&output).cloned()
    }
}

/// Writes `output` by a table of `x`.
pub(super) fn look_up(c: &mut Context<'_>, x: ValueId, output: ValueId, table: &[i8]) -> Lowering {
    let (x, y) = (c.tensor(x)?, c.output(output)?);
    let len = to_u32(x.len(), "elements")?;
    let blob = c.blob(blobs::bytes(table), [0, 0])?;
    c.emit(Record::Lut(record::Lut { src: 0, dst: 0, len, blob }), [Some(&x), None], &y, &[&x]);
    Ok(())
}

fn per_tensor(graph: &Graph, id: ValueId) -> Option<&Quant> {
    let value = graph.value(id);
    let quant = value.quant.as_ref().filter(|q| q.scale.len() == 1 && q.axis.is_none())?;
    (value.dtype == DType::I8 && value.data.is_none()).then_some(quant)
}

/// The int8 tensor of which `real` is a function, and the function's table with the numbers of `output`.
fn table(
    graph: &Graph,
    pointwise: &Pointwise<'_>,
    real: ValueId,
    output: ValueId,
) -> Option<(ValueId, Vec<i8>)> {
    let producer = &graph.nodes[graph.producer(pointwise.root(real)?)?];
    if !matches!(producer.op, Op::Dequantize) {
        return None;
    }
    let x = producer.inputs[0];
    let (from, to) = (per_tensor(graph, x)?, per_tensor(graph, output)?);
    let zero = from.zero_point[0];
    let codes: Vec<f32> = (-128..128).map(|q| (q - zero) as f32 * from.scale[0]).collect();
    let results = pointwise.evaluate(real, &codes)?;
    // The device quantises NaN to the zero point.
    let code = |v: f32| if v.is_nan() { to.zero_point[0] as i8 } else { grid::code(v, to) };
    Some((x, results.into_iter().map(code).collect()))
}

/// Nodes whose outputs only tables would have read.
fn unread(graph: &Graph, tables: &HashMap<ValueId, (ValueId, Vec<i8>)>) -> Vec<bool> {
    if tables.is_empty() {
        return Vec::new();
    }
    let mut read = vec![false; graph.values.len()];
    graph.outputs.iter().for_each(|id| read[id.0 as usize] = true);
    let mut unread = vec![false; graph.nodes.len()];
    for (at, node) in graph.nodes.iter().enumerate().rev() {
        unread[at] = !read[node.output.0 as usize];
        match tables.get(&node.output) {
            _ if unread[at] => {}
            Some((x, _)) => read[x.0 as usize] = true,
            None => node.inputs.iter().for_each(|id| read[id.0 as usize] = true),
        }
    }
    unread
}
