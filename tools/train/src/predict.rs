//! Outputs of a graph for many samples, and folding of an input map into the weights.

use ndarray::{Array2, ArrayD};
use offshoot_ir::{Graph, Op};

use crate::batch::Shards;
use crate::dataset::{Dataset, Target};
use crate::error::{Error, Result};
use crate::tape::{Mode, Tape, constants};
use crate::weights::elements;

/// First output `[samples, elements]` of a graph with one input, for samples along the first axis of `x`.
///
/// # Errors
/// The samples do not fit the graph.
pub fn predict(graph: &Graph, x: &ArrayD<f32>) -> Result<Array2<f32>> {
    graph.validate()?;
    let data = Dataset::new(x.clone(), Target::Unlabelled);
    data.check(graph)?;
    let output = *graph.outputs.first().ok_or_else(|| Error::Data("the graph has no output".into()))?;
    let (constants, all) = (constants(graph), (0..data.len()).collect::<Vec<_>>());
    let mut rows = Array2::zeros((0, graph.value(output).len()));
    for chosen in all.chunks(64) {
        let shards = Shards::new(graph, chosen.len());
        let inputs = vec![shards.cut(x, chosen, graph.inputs[0])];
        let part = Tape::record(graph, &shards, &constants, inputs, Mode::Infer, None)?.rows(output);
        rows.append(ndarray::Axis(0), part.view()).map_err(|e| Error::Data(e.to_string()))?;
    }
    Ok(rows)
}

/// Share of samples whose largest output is that of their label.
///
/// # Errors
/// As [`predict`].
pub fn accuracy(graph: &Graph, x: &ArrayD<f32>, labels: &[i64]) -> Result<f64> {
    let data = Dataset::new(x.clone(), Target::Labels(labels.to_vec()));
    Ok(crate::fit::evaluate(graph, &data)?.accuracy.unwrap_or(0.0))
}

/// Index of the largest number, the first among equals.
pub fn argmax<'a>(values: impl Iterator<Item = &'a f32>) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (i, &v) in values.enumerate() {
        if v > best.1 {
            best = (i, v);
        }
    }
    best.0
}

/// Folds the map `x ↦ (x - offset) · scale` on the graph's only input into the first convolution, so that the network
/// takes raw sensor readings.
///
/// # Errors
/// [`Error::Unsupported`] if the first operator is not a convolution with bias, or has padding (padding is zero
/// before the map, but not after it).
pub fn fold_input(graph: &mut Graph, offset: f32, scale: f32) -> Result<()> {
    let node = graph.nodes.first().ok_or_else(|| Error::Data("the graph has no operator".into()))?;
    let refuse = |reason: &str| Error::Unsupported {
        node: node.name.clone(),
        op: node.op.name(),
        reason: reason.into(),
    };
    match &node.op {
        Op::Conv2d { window, .. } if window.pad == [0; 4] && node.inputs.len() == 3 => {}
        _ => {
            return Err(refuse("an input map folds only into a convolution with bias and without padding"));
        }
    }
    let (weights, bias) = (node.inputs[1], node.inputs[2]);
    let filters = graph.value(bias).len();
    let sums: Vec<f32> = {
        let weights = elements(graph, weights);
        let taps = weights.len() / filters.max(1);
        weights.iter_mut().for_each(|w| *w *= scale);
        weights.chunks_exact(taps.max(1)).map(|filter| filter.iter().sum()).collect()
    };
    for (b, sum) in elements(graph, bias).iter_mut().zip(sums) {
        *b -= offset * sum;
    }
    Ok(())
}
