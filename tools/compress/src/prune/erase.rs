//! Operator erasing (after OTOv3, Chen et al. 2023): removes whole branches of residual sums and whole operators
//! where the network stays connected and shapes allow it.
//!
//! Two things can be removed without touching anything else: a summand, if the other one has the sum's shape, and an
//! operator with weights whose output has its input's shape. Whatever only they read is removed with them. The loss
//! is measured, not estimated: a candidate costs one pass over a few samples.

use offshoot_ir::cost::{macs, weights};
use offshoot_ir::{Activation, BinaryKind, Graph, Op, UnaryKind, ValueId};
use offshoot_train::{Dataset, evaluate};
use serde::Serialize;

use crate::{Error, Result};

/// A candidate for removal.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Erasure {
    /// Operators with weights that are removed.
    pub operators: Vec<String>,
    /// Removed share of all weights and multiply-accumulates, half each.
    pub saved: f64,
    /// Position of the operator whose output is replaced.
    #[serde(skip)]
    node: usize,
    /// The value that its readers get instead, before its activation.
    #[serde(skip)]
    instead: ValueId,
}

/// All candidates of a float graph, in the graph's order.
pub fn erasures(graph: &Graph) -> Vec<Erasure> {
    let total = |f: fn(&Graph, &offshoot_ir::Node) -> u64, g: &Graph| -> f64 {
        g.nodes.iter().map(|n| f(g, n)).sum::<u64>() as f64
    };
    let (all_weights, all_macs) = (total(weights, graph).max(1.0), total(macs, graph).max(1.0));
    let mut found = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        if graph.outputs.contains(&node.output) {
            continue;
        }
        let shape = &graph.value(node.output).shape;
        let same = |id: &ValueId| graph.value(*id).data.is_none() && graph.value(*id).shape == *shape;
        let instead: Vec<ValueId> = match &node.op {
            Op::Binary { kind: BinaryKind::Add, .. } => node.inputs.iter().copied().filter(same).collect(),
            Op::Conv2d { .. } | Op::FullyConnected { .. } => {
                node.inputs[..1].iter().copied().filter(same).collect()
            }
            _ => continue,
        };
        for instead in instead {
            let mut candidate = Erasure { operators: vec![], saved: 0.0, node: index, instead };
            let Ok(left) = erase(graph, &candidate) else { continue };
            let names = |g: &Graph| -> Vec<String> {
                g.nodes.iter().filter(|n| weights(g, n) > 0).map(|n| n.name.clone()).collect()
            };
            let kept = names(&left);
            candidate.operators = names(graph).into_iter().filter(|n| !kept.contains(n)).collect();
            candidate.saved = 0.5 * (1.0 - total(weights, &left) / all_weights)
                + 0.5 * (1.0 - total(macs, &left) / all_macs);
            if !candidate.operators.is_empty() {
                found.push(candidate);
            }
        }
    }
    found
}

/// `graph` without the candidate. Values keep their names, but not their ids.
///
/// # Errors
/// [`Error::Option`] if the output would no longer depend on an input.
pub fn erase(graph: &Graph, erasure: &Erasure) -> Result<Graph> {
    let mut out = graph.clone();
    let node = &mut out.nodes[erasure.node];
    match node.op.activation().unwrap_or(Activation::None) {
        Activation::None => {
            let gone = node.output;
            out.nodes.iter_mut().flat_map(|n| &mut n.inputs).for_each(|id| {
                if *id == gone {
                    *id = erasure.instead;
                }
            });
        }
        activation => {
            let (min, max) = activation.bounds();
            node.op = Op::Unary(UnaryKind::Clip { min, max });
            node.inputs = vec![erasure.instead];
        }
    }
    let out = out.prune_unreachable();
    let read = |id: &ValueId| out.nodes.iter().any(|n| n.inputs.contains(id));
    if !out.inputs.iter().all(read) {
        let reason = "the output would no longer depend on an input".into();
        return Err(Error::Option { option: "erase", reason });
    }
    out.validate().map_err(|e| Error::Execution { node: graph.name.clone(), source: Box::new(e) })?;
    Ok(out)
}

/// Removes up to `most` candidates, one at a time, each time the one that raises the loss on `data` least per saving.
/// Returns the graph and the removed candidates.
///
/// # Errors
/// The data do not fit the graph.
pub fn erase_operators(graph: &Graph, data: &Dataset, most: usize) -> Result<(Graph, Vec<Erasure>)> {
    let (mut graph, mut gone) = (graph.clone(), Vec::new());
    for _ in 0..most {
        let loss = |g: &Graph| evaluate(g, data).map(|j| f64::from(j.loss)).map_err(Error::Training);
        let whole = loss(&graph)?;
        let mut best: Option<(f64, Graph, Erasure)> = None;
        for candidate in erasures(&graph) {
            let left = erase(&graph, &candidate)?;
            let price = (loss(&left)? - whole) / candidate.saved.max(f64::MIN_POSITIVE);
            if best.as_ref().is_none_or(|(least, ..)| price < *least) {
                best = Some((price, left, candidate));
            }
        }
        let Some((_, left, candidate)) = best else { break };
        // A separate operator may now be part of its neighbour.
        (graph, _) = offshoot_ir::passes::lossless(left)
            .map_err(|e| Error::Execution { node: graph.name.clone(), source: Box::new(e) })?;
        gone.push(candidate);
    }
    Ok((graph, gone))
}

#[cfg(test)]
mod tests {
    use offshoot_train::Target;
    use offshoot_train::network::{Edge, Network};

    use super::*;

    /// A stem, a residual block whose branch does little, a layer with equal input and output shapes, a head.
    fn network() -> Graph {
        let net =
            Network::new("residual", [6, 6, 2], 5).conv("stem", 4, [3, 3], [1, 1], Edge::Same).relu("r0");
        let shortcut = net.last();
        let net = net
            .conv("a", 8, [3, 3], [1, 1], Edge::Same)
            .relu("r1")
            .conv("b", 4, [3, 3], [1, 1], Edge::Same)
            .add("sum", shortcut)
            .relu("r2")
            .conv("same", 4, [3, 3], [1, 1], Edge::Same)
            .relu("r3");
        let mut graph = net.global_average("average").dense("head", 3).softmax("softmax");
        for value in &mut graph.values {
            if let ("b.weight", Some(offshoot_ir::Data::F32(data))) =
                (value.name.as_str(), value.data.as_mut().map(std::sync::Arc::make_mut))
            {
                data.iter_mut().for_each(|w| *w *= 1e-4);
            }
        }
        offshoot_ir::passes::lossless(graph).unwrap().0
    }

    #[test]
    fn branches_and_layers_can_be_left_out_where_shapes_allow() {
        let graph = network();
        let found = erasures(&graph);
        let names: Vec<Vec<&str>> =
            found.iter().map(|e| e.operators.iter().map(String::as_str).collect()).collect();
        // Candidates: the branch; everything before the sum except the source of the other branch (refused, since
        // nothing would remain); the layer behind.
        assert!(names.contains(&vec!["a", "b"]) && names.contains(&vec!["same"]), "{names:?}");
        assert!(names.iter().all(|n| !n.contains(&"head") && !n.contains(&"stem")), "{names:?}");
        for e in &found {
            let left = erase(&graph, e).unwrap();
            assert!(left.nodes.len() < graph.nodes.len() + 1 && e.saved > 0.0);
        }
    }

    #[test]
    fn what_matters_least_goes_first_and_the_rest_computes_the_same() {
        let graph = network();
        let x = ndarray::ArrayD::from_shape_fn(vec![16, 6, 6, 2], |i| {
            ((i[0] * 72 + i[1] * 12 + i[2] * 2 + i[3]) * 7919 % 101) as f32 / 50.0 - 1.0
        });
        let data = Dataset::new(x.clone(), Target::Labels((0..16).map(|i| i % 3).collect()));
        let (small, gone) = erase_operators(&graph, &data, 1).unwrap();
        assert_eq!(gone[0].operators, ["a", "b"]);
        let (a, b) =
            (offshoot_train::predict(&graph, &x).unwrap(), offshoot_train::predict(&small, &x).unwrap());
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-2));
        let (none, gone) = erase_operators(&graph, &data, 9).unwrap();
        assert!(gone.len() == 2 && erasures(&none).is_empty(), "{gone:?}");
    }
}
