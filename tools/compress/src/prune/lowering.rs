//! What fewer bits for each layer lose.

use std::sync::Arc;

use offshoot_ir::{Data, Graph, ValueId};
use offshoot_train::{Dataset, evaluate};

use super::allocate::Lowering;
use super::run::Progress;
use crate::quantize::{WeightBits, packs};
use crate::{Error, Result};

/// Every step down that the layers of `graph` can still take from `now`, to 4 bits and, if `fewest` is 2, to 2 bits: the
/// loss on `data` with the weights of that layer alone rounded, less the loss without.
///
/// # Errors
/// The data have no targets, or do not fit the graph.
pub(crate) fn lowerings(
    graph: &Graph,
    data: &Dataset,
    fewest: u8,
    now: &WeightBits,
    progress: &mut dyn Progress,
) -> Result<Vec<Lowering>> {
    let loss = |g: &Graph| evaluate(g, data).map(|j| f64::from(j.loss)).map_err(Error::Training);
    let whole = loss(graph)?;
    let layers = layers(graph);
    let mut found = Vec::new();
    for (index, (layer, weights)) in layers.iter().enumerate() {
        progress.tick("rounding layers", index, layers.len());
        let has = now.layers.get(layer).copied().unwrap_or(now.weights);
        let mut dearest = 0.0_f64;
        for bits in [4u8, 2].into_iter().filter(|&b| b >= fewest && b < has) {
            // A loss that falls is chance, and a layer does not lose less with fewer bits.
            dearest = dearest.max(loss(&rounded(graph, *weights, bits))? - whole);
            found.push(Lowering { layer: layer.clone(), weights: *weights, bits, lost: dearest });
        }
    }
    Ok(found)
}

/// Names and weights of the layers that the device can pack.
pub(crate) fn layers(graph: &Graph) -> Vec<(String, ValueId)> {
    let packed = graph.nodes.iter().filter(|n| packs(graph, n));
    packed.map(|n| (n.name.clone(), n.inputs[1])).collect()
}

/// `graph` with the weights `id` on a grid of `bits`, one step per output channel.
fn rounded(graph: &Graph, id: ValueId, bits: u8) -> Graph {
    let mut out = graph.clone();
    let channels = graph.value(id).shape.first().copied().unwrap_or(1).max(1);
    if let Some(Data::F32(data)) = out.value_mut(id).data.as_mut().map(Arc::make_mut) {
        let width = (data.len() / channels).max(1);
        for row in data.chunks_mut(width) {
            let limit = f32::from((1u8 << (bits - 1)) - 1);
            let step = row.iter().fold(0.0f32, |m, w| m.max(w.abs())) / limit;
            if step > 0.0 {
                row.iter_mut().for_each(|w| *w = (*w / step).round() * step);
            }
        }
    }
    out
}
