//! Unit matching (weight matching; Ainsworth, Hayase and Srinivasa 2023): reorders the units of one network so that
//! its weights come as close as possible to another's. Solves one assignment per family with the others fixed, until
//! nothing changes; starts from several orders, because this is a local search.

use std::collections::BTreeMap;
use std::sync::Arc;

use offshoot_ir::{Data, Graph, ValueId};
use serde::Serialize;

use super::assignment::assign;
use super::units::{Layout, gather, identity};
use crate::{Error, Result};

/// Number of starting orders: when all families are wrong at first, sweeps may stop short of the optimum.
const STARTS: u64 = 12;

/// Most sweeps over all families; every sweep gains, so the search ends by itself.
const SWEEPS: usize = 50;

/// Report of [`match_units`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MatchReport {
    /// Units of each family that may change places.
    pub families: Vec<usize>,
    /// Units that changed places.
    pub moved: usize,
    /// Sum of squared differences of all constants before and after.
    pub distance: [f64; 2],
}

/// Returns `other` with its units reordered to match those of `graph`: the same function with permuted weights.
///
/// # Errors
/// The two networks do not have the same form.
pub fn match_units(graph: &Graph, other: &Graph) -> Result<(Graph, MatchReport)> {
    let alike = graph.nodes.len() == other.nodes.len()
        && graph.nodes.iter().zip(&other.nodes).all(|(a, b)| a.op == b.op && a.inputs == b.inputs)
        && graph.values.len() == other.values.len()
        && graph.values.iter().zip(&other.values).all(|(a, b)| a.shape == b.shape);
    if !alike {
        let reason = "the two networks differ in operators or shapes".into();
        return Err(Error::Option { option: "match", reason });
    }
    let layout = Layout::of(graph, false)?;
    let mut best: Option<(f64, Vec<Vec<usize>>)> = None;
    for start in 0..STARTS {
        let orders = settled(graph, other, &layout, start);
        let left = distance(graph, &permuted(other, &layout, &orders));
        if best.as_ref().is_none_or(|(least, _)| left < *least) {
            best = Some((left, orders));
        }
    }
    let orders = best.map_or_else(Vec::new, |(_, orders)| orders);
    let matched = permuted(other, &layout, &orders);
    let moved = orders.iter().flat_map(|o| o.iter().enumerate()).filter(|(i, j)| i != *j).count();
    let distance = [distance(graph, other), distance(graph, &matched)];
    Ok((matched, MatchReport { families: layout.sizes, moved, distance }))
}

/// Orders that no sweep improves, starting from the units as they are (`start` 0 and 1) or shuffled, and sweeping
/// families forwards (even `start`) or backwards.
fn settled(graph: &Graph, other: &Graph, layout: &Layout, start: u64) -> Vec<Vec<usize>> {
    let begin = |(family, &n): (usize, &usize)| match start {
        0 | 1 => (0..n).collect(),
        _ => offshoot_train::shuffled(n, start, family),
    };
    let mut orders: Vec<Vec<usize>> = layout.sizes.iter().enumerate().map(begin).collect();
    for _ in 0..SWEEPS {
        let mut changed = false;
        for step in 0..orders.len() {
            let family = if start.is_multiple_of(2) { step } else { orders.len() - 1 - step };
            let gain = gains(graph, other, layout, &orders, family);
            let order = assign(&gain, orders[family].len());
            let sum = |order: &[usize]| -> f64 {
                order.iter().enumerate().map(|(i, j)| gain[i * order.len() + j]).sum()
            };
            if sum(&order) > sum(&orders[family]) + 1e-9 * sum(&order).abs() {
                (orders[family], changed) = (order, true);
            }
        }
        if !changed {
            break;
        }
    }
    orders
}

/// Sum of squared differences of all float constants of two graphs of the same form.
pub fn distance(a: &Graph, b: &Graph) -> f64 {
    let pairs = a.values.iter().zip(&b.values);
    pairs
        .filter_map(|(a, b)| match (a.data.as_deref(), b.data.as_deref()) {
            (Some(Data::F32(a)), Some(Data::F32(b))) => {
                Some(a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>())
            }
            _ => None,
        })
        .sum()
}

/// For each unit of `graph` and each unit of `other`: the inner product of all their weights, with the other families
/// in their current orders.
fn gains(graph: &Graph, other: &Graph, layout: &Layout, orders: &[Vec<usize>], family: usize) -> Vec<f64> {
    let n = orders[family].len();
    let mut gain = vec![0.0; n * n];
    for index in 0..graph.values.len() {
        let id = ValueId(index as u32);
        let (Some(Data::F32(a)), Some(Data::F32(b))) =
            (graph.value(id).data.as_deref(), other.value(id).data.as_deref())
        else {
            continue;
        };
        let shape = &graph.value(id).shape;
        for axis in 0..shape.len() {
            let Some(along) = layout.along(id, axis) else { continue };
            if !along.iter().flatten().any(|(f, ..)| *f == family) {
                continue;
            }
            // All axes except this one are permuted by their current matching.
            let axes: Vec<_> = (0..shape.len())
                .map(|k| if k == axis { identity(shape[k]) } else { picks(layout, id, k, shape[k], orders) })
                .collect();
            let b = gather(b, shape, &axes);
            let (inner, extent) = (shape[axis + 1..].iter().product::<usize>(), shape[axis]);
            let outer: usize = shape[..axis].iter().product();
            // Index of (unit, occurrence).
            let mut at: BTreeMap<(usize, usize), usize> = BTreeMap::new();
            for (i, place) in along.iter().enumerate() {
                if let Some((_, unit, times)) = place.filter(|(f, ..)| *f == family) {
                    at.insert((unit, times), i);
                }
            }
            for (&(unit, times), &i) in &at {
                for j in 0..n {
                    let Some(&k) = at.get(&(j, times)) else { continue };
                    let dot: f64 = (0..outer)
                        .map(|o| {
                            let (p, q) = (&a[(o * extent + i) * inner..], &b[(o * extent + k) * inner..]);
                            let both = p[..inner].iter().zip(&q[..inner]);
                            both.map(|(p, q)| f64::from(*p) * f64::from(*q)).sum::<f64>()
                        })
                        .sum();
                    gain[unit * n + j] += dot;
                }
            }
        }
    }
    gain
}

/// Source of each element along an axis: unit i of the result is unit `orders[i]`.
fn picks(
    layout: &Layout,
    id: ValueId,
    axis: usize,
    extent: usize,
    orders: &[Vec<usize>],
) -> Vec<Vec<(usize, f32)>> {
    let Some(along) = layout.along(id, axis) else { return identity(extent) };
    let at: BTreeMap<(usize, usize, usize), usize> =
        along.iter().enumerate().filter_map(|(i, place)| Some(((*place)?, i))).collect();
    let pick = |(i, place): (usize, &Option<(usize, usize, usize)>)| {
        let from = place.and_then(|(f, unit, times)| at.get(&(f, orders[f][unit], times)).copied());
        vec![(from.unwrap_or(i), 1.0)]
    };
    along.iter().enumerate().map(pick).collect()
}

/// `graph` with its units permuted.
fn permuted(graph: &Graph, layout: &Layout, orders: &[Vec<usize>]) -> Graph {
    let mut out = graph.clone();
    for index in 0..graph.values.len() {
        let id = ValueId(index as u32);
        let value = graph.value(id);
        let Some(Data::F32(data)) = value.data.as_deref() else { continue };
        let axes: Vec<_> =
            (0..value.shape.len()).map(|k| picks(layout, id, k, value.shape[k], orders)).collect();
        out.value_mut(id).data = Some(Arc::new(Data::F32(gather(data, &value.shape, &axes))));
    }
    out
}
