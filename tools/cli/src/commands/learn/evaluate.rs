//! Classifies samples on the host with the weights that a target learned.

use offshoot::{AlignedBytes, Engine, Model};
use rayon::prelude::*;

use crate::batch::{self, Inputs};
use crate::failure::{Context, Kind, Result};
use crate::files::OffFile;

/// Predicted class of every sample: by the classifier head, or the largest element of the first output without one.
/// `learned` are the bytes that a device learned; without them the file's weights are used, and what the file has learned. `blocks` limits the active
/// blocks of a boosted head.
///
/// # Errors
/// The learned bytes do not belong to the model.
pub fn classify(
    file: &OffFile,
    learned: Option<&[u8]>,
    blocks: Option<u8>,
    inputs: &Inputs,
) -> Result<Vec<usize>> {
    let best = |scores: &[f32]| (0..scores.len()).fold(0, |b, k| if scores[k] > scores[b] { k } else { b });
    each(file, learned, blocks, inputs, best)
}

/// What `of` makes of the scores of every sample: those of the classifier head, or the first output without one.
///
/// # Errors
/// As [`classify`].
pub fn each<T: Send>(
    file: &OffFile,
    learned: Option<&[u8]>,
    blocks: Option<u8>,
    inputs: &Inputs,
    of: impl Fn(&[f32]) -> T + Sync,
) -> Result<Vec<T>> {
    let model = file.model()?;
    let chunk = inputs.count().div_ceil(rayon::current_num_threads() * 2).max(1);
    let starts: Vec<usize> = (0..inputs.count()).step_by(chunk).collect();
    let parts: Vec<Result<Vec<T>>> = starts
        .par_iter()
        .map(|&start| part(model, learned, blocks, inputs, start..(start + chunk).min(inputs.count()), &of))
        .collect();
    let mut all = Vec::with_capacity(inputs.count());
    for part in parts {
        all.extend(part?);
    }
    Ok(all)
}

fn part<T>(
    model: Model<'_>,
    learned: Option<&[u8]>,
    blocks: Option<u8>,
    inputs: &Inputs,
    range: std::ops::Range<usize>,
    of: &impl Fn(&[f32]) -> T,
) -> Result<Vec<T>> {
    const HELP: &str = "this is a bug in Offshoot: report it with the model";
    let begun = batch::has_begun(&model);
    let bytes = if learned.is_some() || begun { model.train_arena_bytes() } else { None };
    let mut arena = AlignedBytes::zeroed(bytes.unwrap_or(model.arena_bytes()) as usize);
    let mut engine = match learned {
        Some(learned) => {
            let mut engine = Engine::learning(model, &mut arena).or_fail(Kind::Internal, HELP)?;
            engine.restore(learned).or_fail(
                Kind::Device,
                "these weights were learned by another model: learn again with this one",
            )?;
            engine
        }
        None if begun => Engine::learning(model, &mut arena).or_fail(Kind::Internal, HELP)?,
        None => Engine::new(model, &mut arena).or_fail(Kind::Internal, HELP)?,
    };
    if let Some(blocks) = blocks {
        engine
            .set_active_blocks(blocks)
            .or_fail(Kind::Usage, "the head has fewer blocks: give a smaller --active-blocks")?;
    }
    let port = batch::output_port(&model, 0)?;
    range
        .map(|i| {
            batch::set_inputs(&mut engine, &inputs.sample(i))?;
            engine.run().or_fail(Kind::Internal, HELP)?;
            // A classifier head that has learned nothing yet leaves the decision to the network.
            let scores = engine.scores().filter(|s| s.iter().any(|s| *s > f32::NEG_INFINITY));
            let scores = match scores {
                Some(scores) => scores.to_vec(),
                None => port.decode(engine.output(0).or_fail(Kind::Internal, HELP)?),
            };
            Ok(of(&scores))
        })
        .collect()
}

/// Fraction of correctly classified samples among those whose label satisfies `of`; `None` if there are none.
pub fn accuracy(classes: &[usize], labels: &[u16], of: impl Fn(u16) -> bool) -> Option<f64> {
    let all = || classes.iter().zip(labels).filter(|(_, l)| of(**l));
    let hits = all().filter(|(c, l)| **c == usize::from(**l)).count();
    let count = all().count();
    (count > 0).then(|| hits as f64 / count as f64)
}
