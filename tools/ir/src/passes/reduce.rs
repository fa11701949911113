//! Replaces the float mean over height and width by an average pool with a window of the whole image.

use super::edit;
use crate::{Activation, Graph, Op, PoolKind, ReduceKind, Result, Window};

/// Runs the pass; see the module documentation.
///
/// # Errors
/// None; all passes share this signature.
pub(super) fn run(graph: Graph) -> Result<Graph> {
    Ok(edit::repeat(graph, |g| (0..g.nodes.len()).any(|at| step(g, at))))
}

fn step(g: &mut Graph, at: usize) -> bool {
    let node = &g.nodes[at];
    let Op::Reduce { kind: ReduceKind::Mean, axes } = &node.op else {
        return false;
    };
    let (x, out) = (g.value(node.inputs[0]), g.value(node.output));
    // In int8 a pool rounds the sum of the codes, a mean the sum of what they stand for: ties differ.
    if axes[..] != [1, 2] || x.quant.is_some() || out.quant.is_some() {
        return false;
    }
    let &[n, h, w, c] = x.shape.as_slice() else {
        return false;
    };
    let (Ok(height), Ok(width)) = (u16::try_from(h), u16::try_from(w)) else {
        return false;
    };
    if x.is_empty() {
        return false;
    }
    let pool = Op::Pool {
        kind: PoolKind::Average,
        window: Window { kernel: [height, width], stride: [1; 2], dilation: [1; 2], pad: [0; 4] },
        activation: Activation::None,
    };
    let (x, keeps) = (node.inputs[0], out.shape.len() == 4);
    if keeps {
        g.nodes[at].op = pool;
    } else {
        let (name, out) = (g.nodes[at].name.clone(), g.nodes[at].output);
        let pooled = edit::insert(g, at, pool, vec![x], vec![n, 1, 1, c], out);
        g.nodes[at].name = name;
        g.nodes[at + 1].op = Op::Reshape;
        g.nodes[at + 1].inputs = vec![pooled];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, names};
    use super::*;
    use crate::Quant;

    fn mean() -> Op {
        Op::Reduce { kind: ReduceKind::Mean, axes: vec![1, 2] }
    }

    #[test]
    fn the_mean_of_an_image_is_a_pool() {
        let mut b = Build::default();
        let x = b.input(&[1, 3, 5, 2]);
        let y = b.node(mean(), &[x], &[1, 1, 1, 2]);
        let z = b.node(mean(), &[x], &[1, 2]);
        let g = run(b.finish(&[y, z])).expect("runs");
        assert_eq!(names(&g), ["pool", "pool", "reshape"]);
    }

    #[test]
    fn the_mean_in_int8_stays() {
        let mut b = Build::default();
        let x = b.input_i8(&[1, 3, 5, 2], Quant::per_tensor(0.5, 3));
        let y = b.node(mean(), &[x], &[1, 2]);
        b.0.value_mut(y).quant = Some(Quant::per_tensor(0.5, 3));
        let g = run(b.finish(&[y])).expect("runs");
        assert_eq!(names(&g), ["reduce"]);
    }
}
