//! Values that are a function of each element of one other value: chains and small nets of element-wise operators with scalar
//! constants, such as `x · sigmoid(x)` or `log(|x| + 0.3)`. In int8 a single table computes any of them, with a single rounding.

use crate::{DType, Data, Graph, Node, Op, ValueId};

/// Most operators behind one another in a function.
const DEEPEST: usize = 64;

/// For each value of a graph, the values of which it is a function, element by element.
pub struct Pointwise<'g> {
    graph: &'g Graph,
    producers: Vec<Option<usize>>,
    /// By value: those of which it is a function, by the depth of their producer; itself last.
    roots: Vec<Vec<ValueId>>,
}

impl<'g> Pointwise<'g> {
    /// Looks at the nodes of `graph` for which `counts` holds.
    pub fn new(graph: &'g Graph, counts: impl Fn(usize) -> bool) -> Self {
        let mut producers = vec![None; graph.values.len()];
        let mut depths = vec![0usize; graph.values.len()];
        let mut roots: Vec<Vec<ValueId>> = (0..graph.values.len() as u32).map(|i| vec![ValueId(i)]).collect();
        for (at, node) in graph.nodes.iter().enumerate() {
            producers[node.output.0 as usize] = Some(at);
            if !counts(at) || !is_pointwise(graph, node) {
                continue;
            }
            let mut operands = node.inputs.iter().filter(|id| graph.value(**id).data.is_none());
            let depth = 1 + operands.clone().map(|id| depths[id.0 as usize]).max().unwrap_or(0);
            if depth > DEEPEST {
                continue;
            }
            depths[node.output.0 as usize] = depth;
            let Some(first) = operands.next() else { continue };
            let mut common = roots[first.0 as usize].clone();
            for id in operands {
                common.retain(|root| roots[id.0 as usize].contains(root));
            }
            common.push(node.output);
            roots[node.output.0 as usize] = common;
        }
        Self { graph, producers, roots }
    }

    /// The value furthest upstream of which `id` is a function; `None` if there is none but itself.
    pub fn root(&self, id: ValueId) -> Option<ValueId> {
        let first = *self.roots.get(id.0 as usize)?.first()?;
        (first != id).then_some(first)
    }

    /// Indices, ascending, of the nodes that compute `id` from its [`root`](Self::root).
    pub fn nodes(&self, id: ValueId) -> Vec<usize> {
        let Some(root) = self.root(id) else { return Vec::new() };
        let mut found = Vec::new();
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            let Some(at) = self.producers[id.0 as usize].filter(|at| id != root && !found.contains(at))
            else {
                continue;
            };
            found.push(at);
            open.extend(self.graph.nodes[at].inputs.iter().filter(|i| self.graph.value(**i).data.is_none()));
        }
        found.sort_unstable();
        found
    }

    /// The function's results in float32 for elements `x` of the root, as the operators of the device compute them; `None` if
    /// `id` has no root.
    pub fn evaluate(&self, id: ValueId, x: &[f32]) -> Option<Vec<f32>> {
        let root = self.root(id)?;
        let mut known: Vec<(ValueId, Vec<f32>)> = vec![(root, x.to_vec())];
        for at in self.nodes(id) {
            let node = &self.graph.nodes[at];
            let operand = |k: usize| -> Option<Vec<f32>> {
                let id = *node.inputs.get(k)?;
                match scalar(self.graph, id) {
                    Some(v) => Some(vec![v; x.len()]),
                    None => known.iter().find(|(i, _)| *i == id).map(|(_, v)| v.clone()),
                }
            };
            let mut out = operand(0)?;
            match &node.op {
                Op::Unary(kind) => out.iter_mut().for_each(|v| *v = kind.apply(*v)),
                Op::Binary { kind, .. } => {
                    out.iter_mut().zip(operand(1)?).for_each(|(v, b)| *v = kind.apply(*v, b));
                }
                _ => {}
            }
            if let Some(activation) = node.op.activation() {
                let (low, high) = activation.bounds();
                out.iter_mut().for_each(|v| *v = v.max(low).min(high));
            }
            known.push((node.output, out));
        }
        known.pop().filter(|(last, _)| *last == id).map(|(_, v)| v)
    }
}

/// Whether each element of the output depends on the elements at the same place of the operands that are no constants.
fn is_pointwise(graph: &Graph, node: &Node) -> bool {
    let output = graph.value(node.output);
    let same = |id: ValueId| {
        let value = graph.value(id);
        match value.data {
            Some(_) => scalar(graph, id).is_some(),
            None => value.dtype == DType::F32 && value.quant.is_none() && value.shape == output.shape,
        }
    };
    let float = output.dtype == DType::F32 && output.quant.is_none();
    match node.op {
        Op::Unary(_) | Op::Binary { .. } => float && node.inputs.iter().all(|&id| same(id)),
        // Elements keep their order.
        Op::Reshape => float && node.inputs.first().is_some_and(|&id| graph.value(id).data.is_none()),
        _ => false,
    }
}

/// The number of a constant of one element.
fn scalar(graph: &Graph, id: ValueId) -> Option<f32> {
    let value = graph.value(id);
    match value.data.as_deref() {
        Some(Data::F32(v)) if v.len() == 1 && value.quant.is_none() => Some(v[0]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Activation, BinaryKind, UnaryKind, Value};

    fn value(g: &mut Graph, name: &str, shape: &[usize]) -> ValueId {
        g.add_value(Value {
            name: name.into(),
            shape: shape.to_vec(),
            dtype: DType::F32,
            quant: None,
            data: None,
            channels_first_outside: false,
        })
    }

    #[test]
    fn a_net_of_functions_of_one_value_is_one_function() {
        let mut g = Graph::default();
        let [x, w, s, m, a] = ["x", "w", "s", "m", "a"].map(|n| value(&mut g, n, &[1, 4]));
        let [r, z] = ["r", "z"].map(|n| value(&mut g, n, &[2, 2]));
        let half = g.add_constant("half", vec![1], Data::F32(vec![0.5]));
        let row = g.add_constant("row", vec![4], Data::F32(vec![1.0, 2.0, 3.0, 4.0]));
        let binary = |kind| Op::Binary { kind, activation: Activation::None };
        let mut node = |op, inputs: &[ValueId], output| {
            g.nodes.push(Node { name: String::new(), op, inputs: inputs.to_vec(), output });
        };
        node(binary(BinaryKind::Add), &[w, row], x);
        node(Op::Unary(UnaryKind::Sigmoid), &[x], s);
        node(binary(BinaryKind::Mul), &[x, s], m);
        node(Op::Reshape, &[m], r);
        node(binary(BinaryKind::Sub), &[half, r], z);
        node(binary(BinaryKind::Add), &[m, w], a);
        let all = Pointwise::new(&g, |_| true);
        // A constant of several elements is no part of a function; neither is a sum with another value.
        assert_eq!((all.root(x), all.root(a)), (None, None));
        assert_eq!((all.root(z), all.nodes(z)), (Some(x), vec![1, 2, 3, 4]));
        let found = all.evaluate(z, &[0.0, 2.0]).unwrap();
        let silu = 2.0 * UnaryKind::Sigmoid.apply(2.0);
        assert_eq!(found, [0.5, 0.5 - silu]);
        let without = Pointwise::new(&g, |at| at != 2);
        assert_eq!((without.root(s), without.root(z)), (Some(x), Some(m)));
    }
}
