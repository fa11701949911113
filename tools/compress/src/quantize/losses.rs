//! What the rounding of each tensor costs the outputs of a quantised network.

use ndarray::ArrayD;
use offshoot_ir::{Graph, ValueId};

use super::execute::execute;
use super::reach::Reach;
use super::remedy::lowest;
use super::simulate::capture;
use super::tensors::{Batch, round};
use crate::Result;

/// Signal-to-noise ratio in dB of the output with the lowest one: of `quantized`, and, for each of its int8 activations, with that
/// tensor alone not rounded. `float` is the network that it was made of.
///
/// # Errors
/// The samples do not fit the graphs.
pub fn rounding_losses(
    float: &Graph,
    quantized: &Graph,
    samples: &[Vec<ArrayD<f32>>],
) -> Result<(f32, Vec<(ValueId, f32)>)> {
    let all: Vec<&Vec<ArrayD<f32>>> = samples.iter().collect();
    let exact = capture(float, &all, &float.outputs, &Reach::whole(float), None)?;
    let without = |exempt: Option<ValueId>| -> Result<f32> {
        let mut outputs: Vec<Batch> = vec![Vec::new(); quantized.outputs.len()];
        execute(quantized, &all, None, &mut |id, batch| {
            if exempt != Some(id) {
                round(quantized, id, batch);
            }
            for (output, wanted) in outputs.iter_mut().zip(&quantized.outputs) {
                if *wanted == id {
                    output.clone_from(batch);
                }
            }
            Ok(())
        })?;
        Ok(lowest(float, &exact, &outputs))
    };
    let ids = quantized.inputs.iter().copied().chain(quantized.nodes.iter().map(|n| n.output));
    let int8 = ids.filter(|&id| quantized.value(id).quant.is_some());
    let each = int8.map(|id| Ok((id, without(Some(id))?))).collect::<Result<Vec<_>>>()?;
    Ok((without(None)?, each))
}
