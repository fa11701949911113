//! The importance of each group: magnitude, Taylor, HESSO (five scores in one), and HESSO-CRIC.

use std::collections::BTreeMap;

use offshoot_ir::{Data, Graph, Node, Op, ValueId};
use offshoot_train::{Dataset, gradients};
use serde::Serialize;

use super::groups::Groups;
use crate::{Error, Result};

/// The score of a group. x are the weights that write its channels, ∇ the loss's gradient with respect to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Score {
    /// Root mean square of x. Needs no data.
    Magnitude,
    /// First-order Taylor term of the loss, mean over batches of |x·∇| (Molchanov et al. 2017).
    #[default]
    Taylor,
    /// HESSO (Chen et al. 2024): ‖x‖, ‖x‖ / |x|, cosine of x and ∇ plus one, |x·∇| and ½(x·∇)². Each is divided by
    /// its Euclidean norm over all groups and counts one fifth.
    Hesso,
    /// HESSO-CRIC: the mean of the HESSO scores while the lowest fade, plus the growth of the loss when they are
    /// removed.
    Cric,
}

/// Sums over the elements of one group.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    count: f64,
    square: f64,
    inner: f64,
    gradient: f64,
}

/// Score of each group; larger matters more. All but [`Score::Magnitude`] need `data` with targets; `batch` is the
/// number of samples per gradient.
///
/// # Errors
/// The data do not fit the graph, or an operator has no gradient.
pub fn scores(
    graph: &Graph,
    groups: &Groups,
    score: Score,
    data: &Dataset,
    batch: usize,
) -> Result<Vec<f64>> {
    if score == Score::Cric {
        return super::cric::cric(graph, groups, data, batch);
    }
    let owners = owners(graph, groups);
    let rest = sums(graph, groups, &owners, &BTreeMap::new());
    let mean_square = |s: &Sums| (s.square / s.count.max(1.0)).sqrt();
    if score == Score::Magnitude {
        return Ok(rest.iter().map(mean_square).collect());
    }
    let (mut cosine, mut first, mut second) =
        (vec![0.0; groups.len()], vec![0.0; groups.len()], vec![0.0; groups.len()]);
    let mut visit = |found: &BTreeMap<ValueId, Vec<f32>>| {
        for (g, s) in sums(graph, groups, &owners, found).iter().enumerate() {
            let lengths = (s.square * s.gradient).sqrt();
            cosine[g] += if lengths > 0.0 { s.inner / lengths + 1.0 } else { 1.0 };
            first[g] += s.inner.abs();
            second[g] += 0.5 * s.inner * s.inner;
        }
    };
    gradients(graph, data, batch, &mut visit).map_err(Error::Training)?;
    if score == Score::Taylor {
        return Ok(first);
    }
    let magnitude: Vec<f64> = rest.iter().map(|s| s.square.sqrt()).collect();
    let average: Vec<f64> = rest.iter().map(|s| s.square.sqrt() / s.count.max(1.0)).collect();
    let mut total = vec![0.0; groups.len()];
    for part in [magnitude, average, cosine, first, second] {
        let norm = part.iter().map(|v| v * v).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        total.iter_mut().zip(part).for_each(|(t, v)| *t += 0.2 * v / norm);
    }
    Ok(total)
}

/// Constants whose elements write channels, with the axis of those channels; columns that read channels are left out.
pub(super) fn owners(graph: &Graph, groups: &Groups) -> Vec<(ValueId, usize)> {
    let mut owners = Vec::new();
    for (index, value) in graph.values.iter().enumerate() {
        let id = ValueId(index as u32);
        let Some(Data::F32(_)) = value.data.as_deref() else { continue };
        // A recurrent layer has a second matrix, for its state.
        let recurrent = |n: &Node| matches!(n.op, Op::Recurrent { .. }) && n.inputs.get(2) == Some(&id);
        let reader = graph.nodes.iter().find(|n| n.inputs.get(1) == Some(&id) || recurrent(n));
        let reads = match reader.map(|n| &n.op) {
            Some(Op::Conv2d { .. } | Op::ConvTranspose2d { .. }) => Some(3),
            Some(Op::FullyConnected { .. } | Op::Recurrent { .. }) => Some(1),
            Some(Op::MatMul { transpose_b }) => Some(value.shape.len() - if *transpose_b { 1 } else { 2 }),
            _ => None,
        };
        let axes = (0..value.shape.len()).filter(|&a| Some(a) != reads && groups.along(id, a).is_some());
        owners.extend(axes.map(|axis| (id, axis)));
    }
    owners
}

fn sums(
    graph: &Graph,
    groups: &Groups,
    owners: &[(ValueId, usize)],
    found: &BTreeMap<ValueId, Vec<f32>>,
) -> Vec<Sums> {
    let mut sums = vec![Sums::default(); groups.len()];
    for &(id, axis) in owners {
        let value = graph.value(id);
        let (Some(Data::F32(data)), Some(along)) = (value.data.as_deref(), groups.along(id, axis)) else {
            continue;
        };
        let inner: usize = value.shape[axis + 1..].iter().product();
        let gradient = found.get(&id);
        for (i, &x) in data.iter().enumerate() {
            let sum = &mut sums[along[i / inner % along.len()]];
            let (x, g) = (f64::from(x), gradient.map_or(0.0, |g| f64::from(g[i])));
            sum.count += 1.0;
            sum.square += x * x;
            sum.inner += x * g;
            sum.gradient += g * g;
        }
    }
    sums
}
