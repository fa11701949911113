//! Fuses Relu, Relu6 and Clip into the operator that writes their input.

use super::edit::{self, Index};
use crate::{Activation, Graph, Op, Result, UnaryKind};

/// Runs the pass; see the module documentation.
///
/// # Errors
/// None; all passes share this signature.
pub(super) fn run(graph: Graph) -> Result<Graph> {
    Ok(edit::repeat(graph, |g| {
        let index = Index::new(g);
        (0..g.nodes.len()).any(|at| step(g, &index, at))
    }))
}

fn step(g: &mut Graph, index: &Index, at: usize) -> bool {
    let Op::Unary(UnaryKind::Clip { min, max }) = g.nodes[at].op else {
        return false;
    };
    let (x, out) = (g.nodes[at].inputs[0], g.nodes[at].output);
    let Some(producer) = index.producer(x).filter(|_| index.used_once(x)) else {
        return false;
    };
    // Fusing would skip the rounding of a quantised tensor with a scale of its own.
    let (from, to) = (g.value(x), g.value(out));
    if from.dtype != to.dtype || from.quant.is_some() && from.quant != to.quant {
        return false;
    }
    let op = &mut g.nodes[producer].op;
    let old = match op {
        Op::Unary(UnaryKind::Clip { min, max }) => (*min, *max),
        _ => match op.activation() {
            Some(a) => a.bounds(),
            None => return false,
        },
    };
    // Clips to `old` and then to (min, max).
    let (min, max) = (old.0.clamp_to(min, max), old.1.clamp_to(min, max));
    if let Op::Unary(kind) = op {
        *kind = UnaryKind::Clip { min, max };
    } else if let Some(a) = op.activation_mut() {
        *a =
            if (min, max) == (0.0, f32::INFINITY) { Activation::Relu } else { Activation::Clip { min, max } };
    }
    g.nodes[producer].output = out;
    g.nodes.remove(at);
    true
}

trait ClampTo {
    /// ONNX Clip: `min(max(x, low), high)`, which unlike `clamp` accepts low > high.
    fn clamp_to(self, low: f32, high: f32) -> f32;
}

impl ClampTo for f32 {
    fn clamp_to(self, low: f32, high: f32) -> f32 {
        self.max(low).min(high)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, names};
    use super::*;
    use crate::BinaryKind;

    fn clip(min: f32, max: f32) -> Op {
        Op::Unary(UnaryKind::Clip { min, max })
    }

    #[test]
    fn clips_fuse_and_intersect() {
        let mut b = Build::default();
        let x = b.input(&[2]);
        let add = Op::Binary { kind: BinaryKind::Add, activation: Activation::None };
        let y = b.node(add, &[x, x], &[2]);
        let y = b.node(clip(0.0, f32::INFINITY), &[y], &[2]);
        let y = b.node(clip(-1.0, 6.0), &[y], &[2]);
        let g = run(b.finish(&[y])).expect("runs");
        assert_eq!(names(&g), ["add"]);
        assert_eq!(g.nodes[0].op.activation(), Some(Activation::Clip { min: 0.0, max: 6.0 }));
    }

    #[test]
    fn an_output_before_the_clip_stays() {
        let mut b = Build::default();
        let x = b.input(&[2]);
        let y = b.node(clip(-1.0, 1.0), &[x], &[2]);
        let z = b.node(clip(0.0, 1.0), &[y], &[2]);
        let g = run(b.finish(&[y, z])).expect("runs");
        assert_eq!(names(&g), ["unary", "unary"]);
    }
}
