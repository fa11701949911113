//! Recognises the power and the magnitude of a Fourier transform, and lets the transform give them: a device then never holds
//! real and imaginary parts of all frames.
//!
//! The power is the sum of squares over the last axis, or `re² + im²` of slices of it; the magnitude is its square root.

use super::edit::{self, Index};
use crate::{Activation, BinaryKind, Graph, Op, ReduceKind, Result, SpectrumPart, UnaryKind, ValueId};

/// Runs the pass; see the module documentation.
///
/// # Errors
/// None; all passes share this signature.
pub(super) fn run(graph: Graph) -> Result<Graph> {
    Ok(edit::repeat(graph, |g| {
        let index = Index::new(g);
        (0..g.nodes.len()).any(|at| power(g, &index, at) || magnitude(g, &index, at))
    }))
}

/// What is squared in `id`: by a product with itself or as a power.
fn squared(g: &Graph, index: &Index, id: ValueId) -> Option<ValueId> {
    let node = &g.nodes[index.producer(id).filter(|_| index.used_once(id))?];
    match (&node.op, &node.inputs[..]) {
        (Op::Binary { kind: BinaryKind::Mul, activation: Activation::None }, [a, b]) if a == b => Some(*a),
        (Op::Unary(UnaryKind::Pow { exponent: 2.0 }), [x]) => Some(*x),
        _ => None,
    }
}

/// The node that transforms, if it writes `id` with both parts.
fn complex(g: &Graph, index: &Index, id: ValueId) -> Option<usize> {
    let at = index.producer(id).filter(|_| !index.is_output(id))?;
    matches!(g.nodes[at].op, Op::Spectrum { part: SpectrumPart::Complex, .. }).then_some(at)
}

/// The transform of which `id` is the real part (0) or the imaginary part (1), perhaps in another shape, and the slice.
fn part(g: &Graph, index: &Index, mut id: ValueId) -> Option<(usize, usize, usize)> {
    let mut at = index.producer(id)?;
    if matches!(g.nodes[at].op, Op::Reshape) {
        id = g.nodes[at].inputs[0];
        at = index.producer(id)?;
    }
    let Op::Slice { start, .. } = &g.nodes[at].op else { return None };
    let from = complex(g, index, g.nodes[at].inputs[0])?;
    let whole = &g.value(g.nodes[from].output).shape;
    let (last, before) = whole.split_last()?;
    let shape = &g.value(id).shape;
    let all = *last == 2
        && shape.len() == whole.len()
        && shape[..before.len()] == *before
        && shape.last() == Some(&1);
    let begins = start[..before.len()].iter().all(|s| *s == 0);
    (all && begins).then_some((from, start[before.len()], at))
}

/// The transform whose power node `at` computes.
fn summed(g: &Graph, index: &Index, at: usize) -> Option<usize> {
    let node = &g.nodes[at];
    match (&node.op, &node.inputs[..]) {
        (Op::Reduce { kind: ReduceKind::Sum, axes }, [x]) => {
            let from = squared(g, index, *x)?;
            let rank = g.value(from).shape.len();
            let found = complex(g, index, from).filter(|_| axes[..] == [rank - 1])?;
            let readers = g.consumers(from);
            (readers.len() == 1).then_some(found)
        }
        (Op::Binary { kind: BinaryKind::Add, activation: Activation::None }, [a, b]) => {
            let sides = [squared(g, index, *a)?, squared(g, index, *b)?];
            let [(x, i, p), (y, j, q)] = [part(g, index, sides[0])?, part(g, index, sides[1])?];
            let readers = g.consumers(g.nodes[x].output);
            (x == y && i + j == 1 && readers.iter().all(|r| *r == p || *r == q)).then_some(x)
        }
        _ => None,
    }
}

fn power(g: &mut Graph, index: &Index, at: usize) -> bool {
    let Some(from) = summed(g, index, at) else { return false };
    let Op::Spectrum { frame, hop, size, .. } = g.nodes[from].op else { return false };
    let op = Op::Spectrum { frame, hop, size, part: SpectrumPart::Power };
    let mut shape = g.value(g.nodes[from].output).shape.clone();
    shape.pop();
    let (inputs, out) = (g.nodes[from].inputs.clone(), g.nodes[at].output);
    if g.value(out).shape == shape {
        (g.nodes[at].op, g.nodes[at].inputs) = (op, inputs);
    } else {
        let y = edit::insert(g, at, op, inputs, shape, out);
        (g.nodes[at + 1].op, g.nodes[at + 1].inputs) = (Op::Reshape, vec![y]);
    }
    true
}

fn magnitude(g: &mut Graph, index: &Index, at: usize) -> bool {
    let root = matches!(g.nodes[at].op, Op::Unary(UnaryKind::Sqrt | UnaryKind::Pow { exponent: 0.5 }));
    let Some(from) = index.producer(g.nodes[at].inputs[0]).filter(|_| root) else { return false };
    let Op::Spectrum { frame, hop, size, part: SpectrumPart::Power } = g.nodes[from].op else { return false };
    if !index.used_once(g.nodes[from].output) {
        return false;
    }
    g.nodes[at].inputs = g.nodes[from].inputs.clone();
    g.nodes[at].op = Op::Spectrum { frame, hop, size, part: SpectrumPart::Magnitude };
    true
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, names};
    use super::*;

    const SPECTRUM: Op = Op::Spectrum { frame: 32, hop: 16, size: 32, part: SpectrumPart::Complex };
    const ADD: Op = Op::Binary { kind: BinaryKind::Add, activation: Activation::None };
    const MUL: Op = Op::Binary { kind: BinaryKind::Mul, activation: Activation::None };

    fn last_part(g: &Graph) -> SpectrumPart {
        match g.nodes[0].op {
            Op::Spectrum { part, .. } => part,
            _ => panic!("not a spectrum"),
        }
    }

    #[test]
    fn the_sum_of_squares_is_the_power() {
        let mut b = Build::default();
        let x = b.input(&[1, 64]);
        let y = b.node(SPECTRUM, &[x], &[1, 3, 17, 2]);
        let y = b.node(MUL, &[y, y], &[1, 3, 17, 2]);
        let y = b.node(Op::Reduce { kind: ReduceKind::Sum, axes: vec![3] }, &[y], &[1, 3, 17]);
        let g = run(b.finish(&[y])).expect("runs");
        assert_eq!((names(&g), last_part(&g)), (vec!["spectrum"], SpectrumPart::Power));
    }

    #[test]
    fn its_root_is_the_magnitude() {
        let mut b = Build::default();
        let x = b.input(&[1, 64]);
        let y = b.node(SPECTRUM, &[x], &[1, 3, 17, 2]);
        let y = b.node(Op::Unary(UnaryKind::Pow { exponent: 2.0 }), &[y], &[1, 3, 17, 2]);
        let y = b.node(Op::Reduce { kind: ReduceKind::Sum, axes: vec![3] }, &[y], &[1, 3, 17, 1]);
        let y = b.node(Op::Unary(UnaryKind::Sqrt), &[y], &[1, 3, 17, 1]);
        let g = run(b.finish(&[y])).expect("runs");
        // The reshape between them is moved behind the root by another pass.
        assert_eq!(names(&g), ["spectrum", "reshape", "unary"]);
        let mut b = Build::default();
        let x = b.input(&[1, 64]);
        let y = b.node(
            Op::Spectrum { frame: 32, hop: 16, size: 32, part: SpectrumPart::Power },
            &[x],
            &[1, 3, 17],
        );
        let y = b.node(Op::Unary(UnaryKind::Sqrt), &[y], &[1, 3, 17]);
        let g = run(b.finish(&[y])).expect("runs");
        assert_eq!((names(&g), last_part(&g)), (vec!["spectrum"], SpectrumPart::Magnitude));
    }

    #[test]
    fn parts_that_are_sliced_and_squared_are_the_power() {
        let parts = |b: &mut Build, y: ValueId, at: usize| {
            let slice = Op::Slice { start: vec![0, 0, 0, at], step: vec![1; 4] };
            let part = b.node(slice, &[y], &[1, 3, 17, 1]);
            b.node(Op::Reshape, &[part], &[1, 3, 17])
        };
        for (second, kept) in [(1, false), (0, true)] {
            let mut b = Build::default();
            let x = b.input(&[1, 64]);
            let y = b.node(SPECTRUM, &[x], &[1, 3, 17, 2]);
            let (re, im) = (parts(&mut b, y, 0), parts(&mut b, y, second));
            let re = b.node(MUL, &[re, re], &[1, 3, 17]);
            let im = b.node(MUL, &[im, im], &[1, 3, 17]);
            let y = b.node(ADD, &[re, im], &[1, 3, 17]);
            let g = run(b.finish(&[y])).expect("runs");
            assert_eq!(names(&g) != ["spectrum"], kept);
        }
    }

    #[test]
    fn a_transform_that_others_read_stays() {
        let mut b = Build::default();
        let x = b.input(&[1, 64]);
        let spectrum = b.node(SPECTRUM, &[x], &[1, 3, 17, 2]);
        let y = b.node(MUL, &[spectrum, spectrum], &[1, 3, 17, 2]);
        let y = b.node(Op::Reduce { kind: ReduceKind::Sum, axes: vec![3] }, &[y], &[1, 3, 17]);
        let g = run(b.finish(&[y, spectrum])).expect("runs");
        assert_eq!(names(&g), ["spectrum", "mul", "reduce"]);
    }
}
