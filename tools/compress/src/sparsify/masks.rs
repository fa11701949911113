//! Masks by magnitude.

use std::collections::BTreeMap;

use offshoot_ir::{Data, Graph};
use serde::{Deserialize, Serialize};

use super::matrices::{Matrix, matrices};
use super::pattern::Pattern;

/// By constant name, which of its weights remain.
pub type Masks = BTreeMap<String, Vec<bool>>;

/// The set in which the smallest weights are sought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The same share of each matrix is removed.
    #[default]
    Layer,
    /// Over all matrices except the last: layers with many small weights lose more.
    Global,
}

/// The weights of a matrix.
pub(super) fn weights<'g>(graph: &'g Graph, matrix: &Matrix) -> &'g [f32] {
    match graph.value(matrix.id).data.as_deref() {
        Some(Data::F32(data)) => data,
        _ => &[],
    }
}

/// Masks that keep the share `keep` of the largest weights of `all`, and `keep_last` of the last matrix. Weights
/// removed by `before` stay removed. Among equal magnitudes the first stay. [`Pattern::NOfM`] keeps its own share
/// where it is less.
pub fn magnitudes(
    graph: &Graph,
    all: &[Matrix],
    pattern: Pattern,
    scope: Scope,
    [keep, keep_last]: [f64; 2],
    before: &Masks,
) -> Masks {
    let mut masks = Masks::new();
    let score = |m: &Matrix| {
        let masked: Vec<f32> = match before.get(&m.name) {
            Some(mask) => {
                weights(graph, m).iter().zip(mask).map(|(w, k)| if *k { *w } else { 0.0 }).collect()
            }
            None => weights(graph, m).to_vec(),
        };
        pattern.scores(&masked, m.columns)
    };
    let together: Vec<&Matrix> = all.iter().filter(|m| scope == Scope::Global && !m.last).collect();
    if !together.is_empty() {
        let scores: Vec<Vec<(f32, usize)>> = together.iter().map(|m| score(m)).collect();
        let kept = largest(&scores.concat(), keep);
        let mut rest = &kept[..];
        for (m, scores) in together.iter().zip(&scores) {
            let (own, after) = rest.split_at(scores.len());
            masks.insert(m.name.clone(), pattern.spread(own, m.columns));
            rest = after;
        }
    }
    for m in all.iter().filter(|m| scope == Scope::Layer || m.last) {
        let share = if m.last { keep_last } else { keep };
        let scores = score(m);
        let kept = match pattern {
            Pattern::NOfM { m: group, .. } => {
                // The same number from every group, so that the share is met to the nearest whole number.
                let count = ((share * group as f64).round() as usize).clamp(1, group);
                let rows = scores.chunks(m.columns.max(1));
                rows.flat_map(|row| row.chunks(group))
                    .flat_map(|g| largest(g, count as f64 / group as f64))
                    .collect()
            }
            _ => largest(&scores, share),
        };
        masks.insert(m.name.clone(), pattern.spread(&kept, m.columns));
    }
    masks
}

/// Marks the units with the largest scores that hold the share `keep` of all weights, and at least one.
fn largest(scores: &[(f32, usize)], keep: f64) -> Vec<bool> {
    let total: usize = scores.iter().map(|s| s.1).sum();
    let wanted = (keep.clamp(0.0, 1.0) * total as f64).round() as usize;
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].0.total_cmp(&scores[a].0).then(a.cmp(&b)));
    let mut kept = vec![false; scores.len()];
    let mut held = 0;
    for unit in order {
        if held >= wanted.max(1) || (scores[unit].0 == 0.0 && held > 0) {
            break;
        }
        kept[unit] = true;
        held += scores[unit].1;
    }
    kept
}

/// The masks of a sparse graph, read from its zeros: for matrices in which at least a sixteenth of the weights are
/// exactly zero. Used to keep them in further training.
pub fn masks_of(graph: &Graph) -> Masks {
    let sparse = matrices(graph).into_iter().filter_map(|m| {
        let mask: Vec<bool> = weights(graph, &m).iter().map(|w| *w != 0.0).collect();
        let left = mask.iter().filter(|k| **k).count();
        (16 * left <= 15 * mask.len()).then_some((m.name, mask))
    });
    sparse.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_train::network::Network;
    use proptest::prelude::*;

    fn graph(seed: u64) -> Graph {
        Network::new("g", [2, 3, 4], seed).flatten("flat").dense("a", 10).dense("b", 7).finish()
    }

    fn share(mask: &[bool]) -> f64 {
        mask.iter().filter(|k| **k).count() as f64 / mask.len() as f64
    }

    proptest! {
        #[test]
        fn the_largest_stay_and_none_comes_back(seed in any::<u64>(), keep in 0.05f64..0.9) {
            let graph = graph(seed);
            let all = matrices(&graph);
            prop_assert_eq!(all.iter().map(|m| m.last).collect::<Vec<_>>(), [false, true]);
            for pattern in [Pattern::Unstructured, Pattern::Block(4)] {
                for scope in [Scope::Layer, Scope::Global] {
                    let first = magnitudes(&graph, &all, pattern, scope, [keep, 0.8], &Masks::new());
                    let second = magnitudes(&graph, &all, pattern, scope, [keep / 2.0, 0.6], &first);
                    for m in &all {
                        let (one, two) = (&first[&m.name], &second[&m.name]);
                        let wanted = if m.last { 0.8 } else { keep };
                        let unit = pattern.unit() as f64 / m.len() as f64;
                        prop_assert!((share(one) - wanted).abs() <= unit, "{} {wanted}", share(one));
                        prop_assert!(one.iter().zip(two).all(|(one, two)| *one || !*two));
                        if pattern == Pattern::Unstructured {
                            let w = weights(&graph, m);
                            let kept = w.iter().zip(one).filter(|p| *p.1).map(|p| p.0.abs()).fold(9.0, f32::min);
                            let gone = w.iter().zip(one).filter(|p| !*p.1).map(|p| p.0.abs()).fold(0.0, f32::max);
                            prop_assert!(gone <= kept);
                        }
                    }
                }
            }
        }

        #[test]
        fn n_of_m_stay(seed in any::<u64>()) {
            let graph = graph(seed);
            let all = matrices(&graph);
            let pattern = Pattern::NOfM { n: 2, m: 8 };
            let masks = magnitudes(&graph, &all, pattern, Scope::Layer, [0.25, 0.625], &Masks::new());
            for m in &all {
                for row in masks[&m.name].chunks(m.columns) {
                    for group in row.chunks(8).filter(|g| g.len() == 8) {
                        prop_assert_eq!(group.iter().filter(|k| **k).count(), if m.last { 5 } else { 2 });
                    }
                }
            }
        }
    }
}
