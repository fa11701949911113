//! Recognises activations that exporters write as arithmetic, and replaces them by one operator: GELU (exact and by
//! tanh), HardSwish.
//!
//! All are products of `x`, a function of `x` and a number, in some order. The product is flattened and its factors
//! are compared, so the order does not matter.

use super::edit::{self, Index};
use crate::{Activation, BinaryKind, DType, Graph, Op, Result, UnaryKind, ValueId};

/// Runs the pass; see the module documentation.
///
/// # Errors
/// None; all passes share this signature.
pub(super) fn run(graph: Graph) -> Result<Graph> {
    Ok(edit::repeat(graph, |g| {
        let index = Index::new(g);
        let found = (0..g.nodes.len()).find_map(|at| written_out(g, &index, at).map(|f| (at, f)));
        let Some((at, (kind, x))) = found else {
            return false;
        };
        g.nodes[at].op = Op::Unary(kind);
        g.nodes[at].inputs = vec![x];
        true
    }))
}

/// Largest relative deviation from a formula's constants: exporters round to float32.
const TOLERANCE: f32 = 1e-5;

fn is(value: f32, wanted: f32) -> bool {
    (value - wanted).abs() <= TOLERANCE * wanted.abs()
}

/// A product: the numbers in it, multiplied, and its tensors.
struct Product {
    number: f32,
    factors: Vec<ValueId>,
}

/// Deepest nesting of products that is followed.
const MAX_DEPTH: usize = 4;

/// `id` as a product; at least of itself.
fn product(g: &Graph, index: &Index, id: ValueId) -> Product {
    let mut product = Product { number: 1.0, factors: Vec::new() };
    flatten(g, index, id, MAX_DEPTH, &mut product);
    product
}

fn flatten(g: &Graph, index: &Index, id: ValueId, depth: usize, into: &mut Product) {
    let sides = plain(g, index, id).filter(|_| depth > 0);
    match sides {
        Some((BinaryKind::Mul, a, b)) => {
            for side in [a, b] {
                // A tensor with other readers is a factor as it is: it may be the `x` sought.
                match edit::scalar(g, side) {
                    Some(v) => into.number *= v,
                    None if index.used_once(side) => flatten(g, index, side, depth - 1, into),
                    None => into.factors.push(side),
                }
            }
        }
        Some((BinaryKind::Div, a, b)) if edit::scalar(g, b).is_some_and(|v| v != 0.0) => {
            into.number /= edit::scalar(g, b).unwrap_or(1.0);
            if index.used_once(a) {
                flatten(g, index, a, depth - 1, into);
            } else {
                into.factors.push(a);
            }
        }
        _ => into.factors.push(id),
    }
}

/// Kind and operands of the float arithmetic (without an activation) that writes `id`.
fn plain(g: &Graph, index: &Index, id: ValueId) -> Option<(BinaryKind, ValueId, ValueId)> {
    let node = &g.nodes[index.producer(id)?];
    match node.op {
        Op::Binary { kind, activation: Activation::None } => Some((kind, node.inputs[0], node.inputs[1])),
        _ => None,
    }
}

/// Kind and input of the function that writes `id`.
fn unary(g: &Graph, index: &Index, id: ValueId) -> Option<(UnaryKind, ValueId)> {
    let node = &g.nodes[index.producer(id)?];
    match node.op {
        Op::Unary(kind) => Some((kind, node.inputs[0])),
        _ => None,
    }
}

/// The other operand of a sum of a tensor and the number `wanted`.
fn plus(g: &Graph, sides: [ValueId; 2], wanted: f32) -> Option<ValueId> {
    let number = |id| edit::scalar(g, id).is_some_and(|v| is(v, wanted));
    match sides {
        [a, b] if number(b) => Some(a),
        [a, b] if number(a) => Some(b),
        _ => None,
    }
}

/// The activation whose last operator is node `at`, and its input.
fn written_out(g: &Graph, index: &Index, at: usize) -> Option<(UnaryKind, ValueId)> {
    let out = g.nodes[at].output;
    plain(g, index, out)?;
    let Product { number, factors } = product(g, index, out);
    let [a, b] = factors[..] else {
        return None;
    };
    [(a, b), (b, a)].into_iter().find_map(|(x, f)| {
        let (value, result) = (g.value(x), g.value(out));
        if value.dtype != DType::F32 || value.shape != result.shape {
            return None;
        }
        gate(g, index, number, x, f).map(|kind| (kind, x))
    })
}

/// The activation `number · x · f`, if `f` is one of the known functions of `x`.
fn gate(g: &Graph, index: &Index, number: f32, x: ValueId, f: ValueId) -> Option<UnaryKind> {
    if let Some((UnaryKind::HardSigmoid { alpha, beta }, y)) = unary(g, index, f) {
        let found = y == x && is(alpha, 1.0 / 6.0) && is(beta, 0.5) && is(number, 1.0);
        return found.then_some(UnaryKind::HardSwish);
    }
    if is(number, 1.0 / 6.0) {
        return (relu6_of_plus_3(g, index, f) == Some(x)).then_some(UnaryKind::HardSwish);
    }
    if !is(number, 0.5) {
        return None;
    }
    let (BinaryKind::Add, a, b) = plain(g, index, f)? else {
        return None;
    };
    match unary(g, index, plus(g, [a, b], 1.0)?)? {
        (UnaryKind::Erf, y) => {
            let Product { number, factors } = product(g, index, y);
            (is(number, std::f32::consts::FRAC_1_SQRT_2) && factors == [x]).then_some(UnaryKind::Gelu)
        }
        (UnaryKind::Tanh, y) => cubic(g, index, x, y).then_some(UnaryKind::GeluTanh),
        _ => None,
    }
}

/// `x` of `clip(x + 3, 0, 6)`, whether the clip is fused or not.
fn relu6_of_plus_3(g: &Graph, index: &Index, f: ValueId) -> Option<ValueId> {
    let node = &g.nodes[index.producer(f)?];
    let (sum, bounds) = match node.op {
        Op::Unary(UnaryKind::Clip { min, max }) => (&g.nodes[index.producer(node.inputs[0])?], (min, max)),
        Op::Binary { activation, .. } => (node, activation.bounds()),
        _ => return None,
    };
    let adds = match sum.op {
        Op::Binary { kind: BinaryKind::Add, activation } => {
            std::ptr::eq(sum, node) || activation == Activation::None
        }
        _ => false,
    };
    if !adds || bounds != (0.0, 6.0) {
        return None;
    }
    plus(g, [sum.inputs[0], sum.inputs[1]], 3.0)
}

/// Whether `y` is `√(2/π) · (x + 0.044715 x³)`.
fn cubic(g: &Graph, index: &Index, x: ValueId, y: ValueId) -> bool {
    let Product { number, factors } = product(g, index, y);
    let [sum] = factors[..] else {
        return false;
    };
    let Some((BinaryKind::Add, a, b)) = plain(g, index, sum) else {
        return false;
    };
    let Some(cube) = [(a, b), (b, a)].into_iter().find(|s| s.0 == x).map(|s| s.1) else {
        return false;
    };
    let third = product(g, index, cube);
    let power = |id: ValueId| match unary(g, index, id) {
        _ if id == x => 1.0,
        Some((UnaryKind::Pow { exponent }, base)) if base == x && exponent.fract() == 0.0 => exponent,
        _ => f32::NAN,
    };
    is(number, (2.0 / std::f32::consts::PI).sqrt())
        && is(third.number, 0.044_715)
        && third.factors.into_iter().map(power).sum::<f32>() == 3.0
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, names};
    use super::*;

    const SHAPE: [usize; 2] = [3, 4];

    fn binary(b: &mut Build, kind: BinaryKind, inputs: [ValueId; 2]) -> ValueId {
        let op = Op::Binary { kind, activation: Activation::None };
        let first = usize::from(b.0.value(inputs[0]).data.is_some());
        let y = b.node(op, &inputs, &SHAPE);
        assert!(b.0.value(inputs[first]).data.is_none());
        y
    }

    fn only(b: Build, y: ValueId) -> UnaryKind {
        let g = run(b.finish(&[y])).expect("runs");
        assert_eq!(names(&g), ["unary"]);
        match g.nodes[0].op {
            Op::Unary(kind) => kind,
            _ => unreachable!("the name says so"),
        }
    }

    #[test]
    fn gelu_in_every_order() {
        for order in 0..3 {
            let mut b = Build::default();
            let x = b.input(&SHAPE);
            let root = b.constant(&[], vec![std::f32::consts::SQRT_2]);
            let (one, half) = (b.constant(&[1], vec![1.0]), b.constant(&[], vec![0.5]));
            let e = binary(&mut b, BinaryKind::Div, [x, root]);
            let e = b.node(Op::Unary(UnaryKind::Erf), &[e], &SHAPE);
            let e = binary(&mut b, BinaryKind::Add, [e, one]);
            let pairs = [[(x, e), (x, half)], [(x, half), (e, half)], [(e, half), (x, half)]];
            let y = match order {
                0 => {
                    let y = binary(&mut b, BinaryKind::Mul, [pairs[0][0].0, pairs[0][0].1]);
                    binary(&mut b, BinaryKind::Mul, [y, half])
                }
                1 => {
                    let y = binary(&mut b, BinaryKind::Mul, [x, half]);
                    binary(&mut b, BinaryKind::Mul, [y, e])
                }
                _ => {
                    let y = binary(&mut b, BinaryKind::Mul, [e, half]);
                    binary(&mut b, BinaryKind::Mul, [x, y])
                }
            };
            assert_eq!(only(b, y), UnaryKind::Gelu);
        }
    }

    #[test]
    fn gelu_by_tanh() {
        let mut b = Build::default();
        let x = b.input(&SHAPE);
        let [third, root, one, half] = [0.044_715, 0.797_884_6, 1.0, 0.5].map(|v| b.constant(&[], vec![v]));
        let c = b.node(Op::Unary(UnaryKind::Pow { exponent: 3.0 }), &[x], &SHAPE);
        let c = binary(&mut b, BinaryKind::Mul, [c, third]);
        let c = binary(&mut b, BinaryKind::Add, [x, c]);
        let c = binary(&mut b, BinaryKind::Mul, [c, root]);
        let c = b.node(Op::Unary(UnaryKind::Tanh), &[c], &SHAPE);
        let c = binary(&mut b, BinaryKind::Add, [c, one]);
        let h = binary(&mut b, BinaryKind::Mul, [x, half]);
        let y = binary(&mut b, BinaryKind::Mul, [h, c]);
        assert_eq!(only(b, y), UnaryKind::GeluTanh);
    }

    #[test]
    fn hard_swish() {
        let mut b = Build::default();
        let x = b.input(&SHAPE);
        let (three, six) = (b.constant(&[], vec![3.0]), b.constant(&[], vec![6.0]));
        let c = binary(&mut b, BinaryKind::Add, [x, three]);
        let c = b.node(Op::Unary(UnaryKind::Clip { min: 0.0, max: 6.0 }), &[c], &SHAPE);
        let y = binary(&mut b, BinaryKind::Mul, [x, c]);
        let y = binary(&mut b, BinaryKind::Div, [y, six]);
        assert_eq!(only(b, y), UnaryKind::HardSwish);
    }

    #[test]
    fn a_sigmoid_gate_and_other_numbers_stay() {
        let mut b = Build::default();
        let x = b.input(&SHAPE);
        let s = b.node(Op::Unary(UnaryKind::Sigmoid), &[x], &SHAPE);
        let y = binary(&mut b, BinaryKind::Mul, [x, s]);
        let h = UnaryKind::HardSigmoid { alpha: 0.2, beta: 0.5 };
        let h = b.node(Op::Unary(h), &[x], &SHAPE);
        let z = binary(&mut b, BinaryKind::Mul, [x, h]);
        let g = b.finish(&[y, z]);
        assert_eq!(run(g.clone()).expect("runs"), g);
    }
}
