//! Gradients of the loss, batch by batch, without training: the basis of channel scores.

use std::collections::BTreeMap;

use offshoot_ir::{Graph, ValueId};

use crate::batch::Shards;
use crate::dataset::{Dataset, Target};
use crate::error::{Error, Result};
use crate::loss::{Loss, Wanted, loss};
use crate::tape::{Mode, Tape, constants};
use crate::weights::trainable;

/// Gradients of the mean loss of each batch of `batch` samples, by constant, row-major. Batch normalisation uses the
/// stored statistics. The samples need labels or values.
///
/// # Errors
/// [`Error::Data`] if the samples do not fit or have no targets, [`Error::Unsupported`] for operators without a
/// gradient.
pub fn gradients(
    graph: &Graph,
    data: &Dataset,
    batch: usize,
    visit: &mut dyn FnMut(&BTreeMap<ValueId, Vec<f32>>),
) -> Result<()> {
    graph.validate()?;
    data.check(graph)?;
    if data.target == Target::Unlabelled {
        return Err(Error::Data("gradients need labels or values".into()));
    }
    let (ids, constants) = (trainable(graph), constants(graph));
    let all: Vec<usize> = (0..data.len()).collect();
    for chosen in all.chunks(batch.max(1)) {
        let shards = Shards::new(graph, chosen.len());
        let inputs =
            data.inputs.iter().zip(&graph.inputs).map(|(x, id)| shards.cut(x, chosen, *id)).collect();
        let tape = Tape::record(graph, &shards, &constants, inputs, Mode::Infer, None)?;
        let Loss { gradients, .. } = loss(graph, &tape, &Wanted::of(&data.target, chosen), None)?;
        let seeds = gradients.iter().map(|(id, rows)| (*id, tape.shards_of(*id, rows))).collect();
        let found = tape.backward(seeds, &ids)?;
        visit(&found.into_iter().map(|(id, g)| (id, g.iter().copied().collect())).collect());
    }
    Ok(())
}
