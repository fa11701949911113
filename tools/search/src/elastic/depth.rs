//! Blocks that can be skipped.

use offshoot_ir::{Activation, BinaryKind, DType, Graph, Node, Op, UnaryKind, Value, ValueId};

use offshoot_compress::suggest::near;

use crate::space::Block;

/// Makes readers of the block's output read its input instead. The activation of the sum at the block's end is kept.
pub(super) fn skip(graph: &mut Graph, block: &Block) -> Result<(), String> {
    let find = |name: &str| graph.values.iter().position(|v| v.name == name).map(|i| ValueId(i as u32));
    let missing = |name: &str| {
        let near = near(name, graph.values.iter().filter(|v| v.data.is_none()).map(|v| v.name.as_str()));
        format!("the network has no tensor `{name}`{near}")
    };
    let from = find(&block.from).ok_or_else(|| missing(&block.from))?;
    let to = find(&block.to).ok_or_else(|| missing(&block.to))?;
    if graph.value(from).shape != graph.value(to).shape {
        return Err(format!(
            "`{}` and `{}` have the shapes {:?} and {:?}: what lies between cannot be skipped",
            block.from,
            block.to,
            graph.value(from).shape,
            graph.value(to).shape
        ));
    }
    let applied = |id: ValueId| {
        let node = graph.producer(id).map(|i| &graph.nodes[i])?;
        match node.op {
            Op::Unary(UnaryKind::Clip { min, max }) => Some((min, max)),
            _ => node.op.activation().map(Activation::bounds),
        }
    };
    let free = (f32::NEG_INFINITY, f32::INFINITY);
    let bounds = applied(to).unwrap_or(free);
    let held = applied(from).unwrap_or(free);
    let mut reads = from;
    // If the input's own bounds are wider, the activation's bounds are applied to it.
    if bounds.0 > held.0 || bounds.1 < held.1 {
        let shape = graph.value(from).shape.clone();
        let name = format!("{}.bounded", block.to);
        let value = Value {
            name: name.clone(),
            shape,
            dtype: DType::F32,
            quant: None,
            data: None,
            channels_first_outside: false,
        };
        reads = graph.add_value(value);
        let at = graph.producer(from).map_or(0, |i| i + 1);
        let op = Op::Unary(UnaryKind::Clip { min: bounds.0, max: bounds.1 });
        graph.nodes.insert(at, Node { name, op, inputs: vec![from], output: reads });
    }
    for id in graph.nodes.iter_mut().flat_map(|n| &mut n.inputs).chain(&mut graph.outputs) {
        if *id == to {
            *id = reads;
        }
    }
    Ok(())
}

/// Residual blocks: sums of a tensor with a value computed from it, in the graph's order. The activation after a sum
/// belongs to its block.
pub fn residual_blocks(graph: &Graph) -> Vec<Block> {
    let mut blocks = Vec::new();
    for node in &graph.nodes {
        let Op::Binary { kind: BinaryKind::Add, .. } = node.op else { continue };
        let [a, b] = node.inputs[..] else { continue };
        if graph.value(a).shape != graph.value(b).shape || a == b {
            continue;
        }
        let from = match (depends(graph, b, a), depends(graph, a, b)) {
            (true, _) => a,
            (_, true) => b,
            _ => continue,
        };
        let mut to = node.output;
        if let [only] = graph.consumers(to)[..]
            && matches!(graph.nodes[only].op, Op::Unary(UnaryKind::Clip { .. }))
        {
            to = graph.nodes[only].output;
        }
        let name = |id: ValueId| graph.value(id).name.clone();
        blocks.push(Block { from: name(from), to: name(to) });
    }
    blocks
}

/// Whether `id` is computed from `root` through at least one operator with weights.
fn depends(graph: &Graph, id: ValueId, root: ValueId) -> bool {
    let (mut open, mut seen) = (vec![(id, false)], vec![[false; 2]; graph.values.len()]);
    while let Some((id, weighted)) = open.pop() {
        if id == root {
            if weighted {
                return true;
            }
            continue;
        }
        if std::mem::replace(&mut seen[id.0 as usize][usize::from(weighted)], true) {
            continue;
        }
        if let Some(at) = graph.producer(id) {
            let node = &graph.nodes[at];
            let own =
                matches!(node.op, Op::Conv2d { .. } | Op::FullyConnected { .. } | Op::ConvTranspose2d { .. });
            open.extend(node.inputs.iter().map(|&input| (input, weighted || own)));
        }
    }
    false
}
