//! Swaps graph inputs and outputs that are channels-first outside and channels-last inside with the Transpose next to
//! them: callers pass channels-last data.

use super::edit::{self, Index};
use super::transpose::transposed;
use crate::{Graph, Op, Result, ValueId};

/// Runs the pass; see the module documentation.
///
/// # Errors
/// None; all passes share this signature.
pub(super) fn run(graph: Graph) -> Result<Graph> {
    Ok(edit::repeat(graph, |g| {
        let index = Index::new(g);
        g.inputs.clone().into_iter().any(|id| input(g, &index, id))
            || (0..g.outputs.len()).any(|i| output(g, &index, i))
    }))
}

fn to_last(perm: &[usize]) -> bool {
    matches!(perm, [0, 2, 3, 1] | [0, 2, 1])
}

fn to_first(perm: &[usize]) -> bool {
    matches!(perm, [0, 3, 1, 2] | [0, 2, 1])
}

fn input(g: &mut Graph, index: &Index, id: ValueId) -> bool {
    let readers = g.consumers(id);
    let fits = !readers.is_empty()
        && !index.is_output(id)
        && !g.value(id).channels_first_outside
        && readers.iter().all(|&i| {
            let out = g.nodes[i].output;
            let transposes = matches!(&g.nodes[i].op, Op::Transpose { perm } if to_last(perm));
            transposes && !index.is_output(out)
        });
    if !fits {
        return false;
    }
    let outs: Vec<ValueId> = readers.iter().map(|&i| g.nodes[i].output).collect();
    let shape = g.value(outs[0]).shape.clone();
    g.nodes.retain(|n| !outs.contains(&n.output));
    for out in outs {
        edit::redirect(g, out, id);
    }
    let value = g.value_mut(id);
    value.shape = shape;
    value.channels_first_outside = true;
    true
}

fn output(g: &mut Graph, index: &Index, i: usize) -> bool {
    let out = g.outputs[i];
    let Some((perm, x)) = transposed(g, index, out).filter(|(p, _)| to_first(p)) else {
        return false;
    };
    let listed_once = g.outputs.iter().filter(|&&o| o == out).count() == 1;
    let free = g.consumers(out).is_empty() && listed_once && !g.value(out).channels_first_outside;
    if !free || index.is_output(x) || index.producer(x).is_none() {
        return false;
    }
    debug_assert_eq!(perm.len(), g.value(x).shape.len());
    g.outputs[i] = x;
    // The output keeps its name, which moves to the tensor inside.
    let name = std::mem::take(&mut g.value_mut(out).name);
    g.value_mut(out).name = edit::fresh_name(g, &format!("{name}/channels_first"));
    let value = g.value_mut(x);
    value.name = name;
    value.channels_first_outside = true;
    true
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, names};
    use super::*;
    use crate::UnaryKind;

    #[test]
    fn both_ends_become_channels_last() {
        let mut b = Build::default();
        let x = b.input(&[1, 4, 2, 3]);
        let t = b.transpose(x, &[0, 2, 3, 1]);
        let y = b.node(Op::Unary(UnaryKind::Abs), &[t], &[1, 2, 3, 4]);
        let z = b.transpose(y, &[0, 3, 1, 2]);
        let mut g = b.finish(&[z]);
        g.value_mut(z).name = "out".into();
        let g = run(g).expect("runs");
        assert_eq!(names(&g), ["unary"]);
        for (id, name) in [(g.inputs[0], "in"), (g.outputs[0], "out")] {
            let value = g.value(id);
            assert_eq!((&value.shape[..], value.name.as_str()), (&[1, 2, 3, 4][..], name));
            assert!(value.channels_first_outside);
        }
    }

    #[test]
    fn an_input_read_in_both_orders_stays() {
        let mut b = Build::default();
        let x = b.input(&[1, 4, 2, 3]);
        let t = b.transpose(x, &[0, 2, 3, 1]);
        let y = b.node(Op::Unary(UnaryKind::Abs), &[x], &[1, 4, 2, 3]);
        let g = b.finish(&[t, y]);
        assert_eq!(run(g.clone()).expect("runs"), g);
    }
}
