//! Merges operators that compute the same from the same inputs, and equal constants.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::edit::{self, Index};
use crate::{Data, Graph, Result, Value, ValueId};

/// Runs the pass; see the module documentation.
///
/// # Errors
/// None; all passes share this signature.
pub(super) fn run(mut graph: Graph) -> Result<Graph> {
    constants(&mut graph);
    Ok(edit::repeat(graph, step))
}

fn constants(g: &mut Graph) {
    // By hash first, then in full: the hash keeps large graphs fast.
    let mut seen: HashMap<u64, Vec<ValueId>> = HashMap::new();
    let mut merged: Vec<ValueId> = (0..g.values.len() as u32).map(ValueId).collect();
    for (i, value) in g.values.iter().enumerate() {
        let Some(data) = value.data.as_deref() else {
            continue;
        };
        let mut hasher = DefaultHasher::new();
        value.shape.hash(&mut hasher);
        hash(data, &mut hasher);
        let group = seen.entry(hasher.finish()).or_default();
        match group.iter().find(|&&id| equal(g.value(id), value)) {
            Some(&first) => merged[i] = first,
            None => group.push(ValueId(i as u32)),
        }
    }
    for id in g.nodes.iter_mut().flat_map(|n| &mut n.inputs) {
        *id = merged[id.0 as usize];
    }
}

fn hash(data: &Data, hasher: &mut DefaultHasher) {
    match data {
        Data::F32(d) => d.iter().for_each(|v| v.to_bits().hash(hasher)),
        Data::I8(d) => d.hash(hasher),
        Data::I16(d) => d.hash(hasher),
        Data::I32(d) => d.hash(hasher),
        Data::I64(d) => d.hash(hasher),
    }
}

/// Bitwise equality: 0 and -0 differ.
fn equal(a: &Value, b: &Value) -> bool {
    let data = match (a.data.as_deref(), b.data.as_deref()) {
        (Some(Data::F32(x)), Some(Data::F32(y))) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| x.to_bits() == y.to_bits())
        }
        (x, y) => x == y,
    };
    data && (&a.shape, a.dtype, &a.quant) == (&b.shape, b.dtype, &b.quant)
}

fn step(g: &mut Graph) -> bool {
    let index = Index::new(g);
    let mut by_input: HashMap<&[ValueId], Vec<usize>> = HashMap::new();
    let mut found = None;
    for (i, node) in g.nodes.iter().enumerate() {
        let out = g.value(node.output);
        let group = by_input.entry(&node.inputs).or_default();
        let twin = group.iter().copied().find(|&first| {
            let (other, value) = (&g.nodes[first], g.value(g.nodes[first].output));
            other.op == node.op
                && (&value.shape, value.dtype, &value.quant) == (&out.shape, out.dtype, &out.quant)
        });
        match twin {
            // A graph output must keep its own tensor.
            Some(first) if !index.is_output(node.output) => {
                found = Some((node.output, g.nodes[first].output));
                break;
            }
            Some(_) => {}
            None => group.push(i),
        }
    }
    let Some((old, new)) = found else {
        return false;
    };
    edit::redirect(g, old, new);
    true
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, names};
    use super::*;
    use crate::{Activation, BinaryKind, Op, UnaryKind};

    #[test]
    fn equal_operators_and_constants_become_one() {
        let mut b = Build::default();
        let x = b.input(&[2]);
        let add = |kind| Op::Binary { kind, activation: Activation::None };
        let (c, d) = (b.ramp(&[2]), b.ramp(&[2]));
        let p = b.node(add(BinaryKind::Add), &[x, c], &[2]);
        let q = b.node(add(BinaryKind::Add), &[x, d], &[2]);
        let (p, q) =
            (b.node(Op::Unary(UnaryKind::Abs), &[p], &[2]), b.node(Op::Unary(UnaryKind::Abs), &[q], &[2]));
        let y = b.node(add(BinaryKind::Mul), &[p, q], &[2]);
        let g = run(b.finish(&[y])).expect("runs");
        assert_eq!(names(&g), ["add", "unary", "mul"]);
        assert_eq!(g.values.iter().filter(|v| v.data.is_some()).count(), 1);
    }
}
