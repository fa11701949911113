//! Fine-tuning of what is left: on the data, and on what the uncompressed network says.
//!
//! Adam's steps are the same for every weight, while the layers of a trained network differ in size by orders of
//! magnitude (one that reads raw pixels has tiny weights). So every tensor is trained in units of its own size, which
//! makes steps relative to it, as LAMB's trust ratio does (You et al. 2020).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use offshoot_ir::{Data, Graph, Op};
use offshoot_train::{Control, Dataset, FitOptions, Observer, Step, Target, Teacher, WeightTransform, fit};

use super::run::{Progress, PruneOptions};
use crate::{Error, Result};

/// Trains `small` to do what `graph` does, and what the data say.
///
/// # Errors
/// As [`fit`].
pub(crate) fn tune(
    graph: &Graph,
    small: &Graph,
    data: &Dataset,
    options: &PruneOptions,
    progress: &mut dyn Progress,
) -> Result<Graph> {
    let units = Units::of(small);
    let mut scaled = small.clone();
    units.apply(&mut scaled, |w, unit| w / unit);
    let weight = if data.target == Target::Unlabelled { 1.0 } else { 0.7 };
    let settings = FitOptions {
        epochs: options.epochs,
        batch: 64,
        rate: options.rate,
        decay: 1e-4,
        clip: Some(5.0),
        seed: options.seed,
        teacher: Some(Teacher { graph: graph.clone(), temperature: 4.0, weight, features: vec![] }),
        checkpoint: options.checkpoint.clone(),
        transform: Some(Arc::new(units.clone())),
        ..FitOptions::default()
    };
    let (mut tuned, _) = fit(&scaled, data, &settings, &mut Watch(progress)).map_err(Error::Training)?;
    units.apply(&mut tuned, |v, unit| v * unit);
    Ok(tuned)
}

/// By name of the constant, the number that its trained weights are multiplied by.
#[derive(Clone, Debug)]
pub(crate) struct Units(BTreeMap<String, f32>);

impl Units {
    /// Units in which weights have the size of freshly made ones (He et al. 2015), and biases the size 1.
    pub(crate) fn of(graph: &Graph) -> Self {
        let mut units = BTreeMap::new();
        for value in &graph.values {
            let Some(Data::F32(data)) = value.data.as_deref() else { continue };
            let square: f32 = data.iter().map(|w| w * w).sum::<f32>() / data.len().max(1) as f32;
            let fan_in: usize = value.shape.iter().skip(1).product();
            let usual = if value.shape.len() > 1 { (2.0 / fan_in.max(1) as f32).sqrt() } else { 1.0 };
            let unit = square.sqrt() / usual;
            if unit.is_normal() && value.shape.iter().product::<usize>() > 1 {
                units.insert(value.name.clone(), unit);
            }
        }
        // Only weights and biases are sure to be trained; the transform reaches nothing else.
        let parameters: BTreeSet<&str> = (graph.nodes.iter())
            .filter(|n| {
                matches!(n.op, Op::Conv2d { .. } | Op::ConvTranspose2d { .. } | Op::FullyConnected { .. })
            })
            .flat_map(|n| &n.inputs[1..])
            .map(|id| graph.value(*id).name.as_str())
            .collect();
        units.retain(|name, _| parameters.contains(name.as_str()));
        Self(units)
    }

    pub(crate) fn apply(&self, graph: &mut Graph, change: impl Fn(f32, f32) -> f32) {
        for value in &mut graph.values {
            let Some(&unit) = self.0.get(&value.name) else { continue };
            if let Some(Data::F32(data)) = value.data.as_mut().map(Arc::make_mut) {
                data.iter_mut().for_each(|w| *w = change(*w, unit));
            }
        }
    }
}

impl WeightTransform for Units {
    fn forward(&self, name: &str, _: &[usize], weights: &[f32]) -> Option<Vec<f32>> {
        let unit = self.0.get(name)?;
        Some(weights.iter().map(|w| w * unit).collect())
    }

    fn backward(&self, name: &str, _: &[usize], _: &[f32], gradient: &mut [f32]) {
        if let Some(unit) = self.0.get(name) {
            gradient.iter_mut().for_each(|g| *g *= unit);
        }
    }
}

/// Shows steps of training.
pub(crate) struct Watch<'p>(pub(crate) &'p mut dyn Progress);

impl Observer for Watch<'_> {
    fn step(&mut self, step: &Step) -> Control {
        self.0.tick("fine-tuning", step.number, step.of);
        Control::Continue
    }
}
