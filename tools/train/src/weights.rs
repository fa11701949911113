//! The constants that training changes: masks, rounding, optimiser state.

use std::collections::BTreeMap;
use std::sync::Arc;

use ndarray::ArrayD;
use offshoot_ir::{Data, Graph, Node, Op, ValueId};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::fake_quant::Rounding;
use crate::grad::{Tensor, array, refusal};
use crate::optimiser::State;
use crate::options::FitOptions;

/// Constants that are trained: weights, biases, gamma and beta, slopes, and operands of arithmetic with more than one
/// element. By value, ascending.
pub fn trainable(graph: &Graph) -> Vec<ValueId> {
    let mut ids: Vec<ValueId> = graph
        .nodes
        .iter()
        .flat_map(|node| match node.op {
            Op::BatchNorm { .. } => node.inputs.get(1..3).unwrap_or(&[]),
            Op::Conv2d { .. }
            | Op::ConvTranspose2d { .. }
            | Op::FullyConnected { .. }
            | Op::MatMul { .. }
            | Op::LayerNorm { .. }
            | Op::Recurrent { .. }
            | Op::PRelu
            | Op::Binary { .. } => &node.inputs[..],
            _ => &[],
        })
        .copied()
        .filter(|id| {
            let value = graph.value(*id);
            matches!(value.data.as_deref(), Some(Data::F32(_))) && value.len() > 1
                || feeds_weights(graph, *id)
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Whether a constant is a layer's parameter, which is trained even with a single element.
fn feeds_weights(graph: &Graph, id: ValueId) -> bool {
    matches!(graph.value(id).data.as_deref(), Some(Data::F32(_)))
        && graph.nodes.iter().any(|n| !matches!(n.op, Op::Binary { .. }) && n.inputs.contains(&id))
}

/// One trained constant.
#[derive(Debug)]
struct Weight {
    id: ValueId,
    name: String,
    shape: Vec<usize>,
    mask: Option<Vec<bool>>,
    fade: Option<Vec<bool>>,
    rounding: Option<Rounding>,
}

/// State that changes from step to step apart from the graph; it is saved in checkpoints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Moving {
    states: Vec<State>,
    /// Learned step sizes, empty for constants without any.
    pub(crate) steps: Vec<Vec<f32>>,
    step_states: Vec<State>,
}

/// All trained constants of a graph.
#[derive(Debug)]
pub(crate) struct Weights {
    items: Vec<Weight>,
    pub(crate) ids: Vec<ValueId>,
}

impl Weights {
    /// Checks the options against the graph, and applies the masks to it.
    pub(crate) fn new(graph: &mut Graph, options: &FitOptions) -> Result<(Self, Moving)> {
        for node in &graph.nodes {
            if let Some(reason) = refusal(&node.op) {
                let (node, op) = (node.name.clone(), node.op.name());
                return Err(Error::Unsupported { node, op, reason: reason.into() });
            }
        }
        let known = trainable(graph);
        let named = |name: &String| known.iter().any(|id| graph.value(*id).name == *name);
        let over = options.weight_quant.iter().flat_map(|q| q.overrides.keys());
        if let Some(name) = options
            .frozen
            .iter()
            .chain(options.masks.keys())
            .chain(options.fade.keys())
            .chain(over)
            .find(|n| !named(n))
        {
            return Err(Error::Data(format!("`{name}` is not a trainable constant")));
        }
        let mut items = Vec::new();
        for id in known {
            let value = graph.value(id);
            let mask = options.masks.get(&value.name).cloned();
            let fade = options.fade.get(&value.name).cloned();
            if mask.iter().chain(&fade).any(|m| m.len() != value.len()) {
                return Err(Error::Data(format!(
                    "the mask of `{}` does not have its {} elements",
                    value.name,
                    value.len()
                )));
            }
            if options.frozen.contains(&value.name) {
                continue;
            }
            let rounding = options.weight_quant.as_ref().and_then(|q| {
                let second = |n: &Node| matches!(n.op, Op::Recurrent { .. }) && n.inputs.get(2) == Some(&id);
                let reader = graph.nodes.iter().find(|n| n.inputs.get(1) == Some(&id) || second(n))?;
                let per_channel = match reader.op {
                    Op::Conv2d { .. }
                    | Op::ConvTranspose2d { .. }
                    | Op::FullyConnected { .. }
                    | Op::Recurrent { .. } => true,
                    Op::MatMul { .. } => false,
                    _ => return None,
                };
                Some(Rounding::new(q.bits_of(&value.name)?, value, per_channel))
            });
            let (name, shape) = (value.name.clone(), value.shape.clone());
            items.push(Weight { id, name, shape, mask, fade, rounding });
        }
        let mut moving = Moving {
            states: vec![State::default(); items.len()],
            steps: vec![Vec::new(); items.len()],
            step_states: vec![State::default(); items.len()],
        };
        let learned = options.weight_quant.as_ref().is_some_and(|q| q.learned_steps);
        for (weight, steps) in items.iter().zip(&mut moving.steps) {
            let data = elements(graph, weight.id);
            weight.keep_zeros(data);
            if let Some(rounding) = weight.rounding.filter(|_| learned) {
                let given = options.weight_quant.as_ref().and_then(|q| q.steps.get(&weight.name));
                *steps = match given {
                    Some(given) if given.len() == rounding.channels => given.clone(),
                    Some(given) => {
                        let (found, wanted) = (given.len(), rounding.channels);
                        let name = &weight.name;
                        return Err(Error::Data(format!("{found} steps for {wanted} channels of `{name}`")));
                    }
                    None => {
                        let stored = array(&weight.shape, data.to_vec());
                        rounding.learned(weight.changed(&stored, options).as_deref().unwrap_or(data))
                    }
                };
            }
        }
        let ids = items.iter().map(|w| w.id).collect();
        Ok((Self { items, ids }, moving))
    }

    /// The unrounded network, as it would be quantised, and the step sizes of all rounded weights.
    pub(crate) fn unrounded(
        &self,
        graph: &Graph,
        moving: &Moving,
        options: &FitOptions,
    ) -> (Graph, BTreeMap<String, Vec<f32>>) {
        let mut graph = graph.clone();
        let mut all = BTreeMap::new();
        for (weight, steps) in self.items.iter().zip(&moving.steps) {
            let data = elements(&mut graph, weight.id);
            if let Some(changed) = weight.changed(&array(&weight.shape, data.to_vec()), options) {
                data.copy_from_slice(&changed);
            }
            if let Some(rounding) = weight.rounding {
                let steps = if steps.is_empty() { rounding.largest(data) } else { steps.clone() };
                all.insert(weight.name.clone(), steps);
            }
        }
        (graph, all)
    }

    /// Names and learned step sizes.
    pub(crate) fn steps<'a>(&'a self, moving: &'a Moving) -> impl Iterator<Item = (&'a str, &'a Vec<f32>)> {
        let steps = self.items.iter().zip(&moving.steps);
        steps.filter(|(_, s)| !s.is_empty()).map(|(w, s)| (w.name.as_str(), s))
    }

    /// Replaces the trained entries of `constants` by the weights that the network computes with.
    pub(crate) fn place(&self, constants: &mut [Option<Tensor>], moving: &Moving, options: &FitOptions) {
        for (weight, steps) in self.items.iter().zip(&moving.steps) {
            let Some(tensor) = &mut constants[weight.id.0 as usize] else { continue };
            if let Some(changed) = weight.changed(tensor, options) {
                *tensor = Arc::new(array(&weight.shape, changed));
            }
            if let Some(rounding) = weight.rounding {
                let data = crate::grad::flat(tensor);
                let rounded = match steps.is_empty() {
                    true => rounding.round(&data, &rounding.largest(&data)),
                    false => rounding.round(&data, steps),
                };
                *tensor = Arc::new(array(&weight.shape, rounded));
            }
        }
    }

    /// One update from the gradients of the weights placed by [`Self::place`]. `step` counts from 1 to `of`.
    pub(crate) fn update(
        &self,
        graph: &mut Graph,
        moving: &mut Moving,
        mut gradients: std::collections::HashMap<ValueId, ArrayD<f32>>,
        options: &FitOptions,
        rate: f32,
        (step, of): (usize, usize),
    ) {
        let mut all: Vec<Option<(Vec<f32>, Vec<f32>)>> = Vec::with_capacity(self.items.len());
        for (weight, steps) in self.items.iter().zip(&moving.steps) {
            all.push(gradients.remove(&weight.id).map(|gradient| {
                let mut gradient = crate::grad::flat(&gradient).into_owned();
                let data = elements(graph, weight.id);
                let mut step_gradient = Vec::new();
                if let Some(rounding) = weight.rounding.filter(|_| !steps.is_empty()) {
                    let stored = array(&weight.shape, data.to_vec());
                    let changed = weight.changed(&stored, options);
                    step_gradient = rounding.pass(changed.as_deref().unwrap_or(data), steps, &mut gradient);
                }
                if let Some(transform) = &options.transform {
                    transform.backward(&weight.name, &weight.shape, data, &mut gradient);
                }
                if let Some(noise) = options.noise.filter(|n| *n > 0.0) {
                    let deviation = (noise / (step as f32).powf(0.55)).sqrt();
                    let mut random = crate::augment::random_of(options.seed, step, weight.id.0 as usize);
                    gradient.iter_mut().for_each(|g| *g += deviation * random.normal() as f32);
                }
                weight.keep_zeros(&mut gradient);
                (gradient, step_gradient)
            }));
        }
        let square: f64 = all.iter().flatten().flat_map(|(g, _)| g).map(|g| f64::from(*g).powi(2)).sum();
        let factor = options.clip.map_or(1.0, |clip| (clip / square.sqrt().max(1e-12) as f32).min(1.0));
        for (index, (weight, gradient)) in self.items.iter().zip(all).enumerate() {
            let Some((mut gradient, step_gradient)) = gradient else { continue };
            gradient.iter_mut().for_each(|g| *g *= factor);
            let decay = if weight.shape.len() > 1 { options.decay } else { 0.0 };
            let data = elements(graph, weight.id);
            // Saturates only after two billion steps, when Adam's bias correction has long been 1.
            let count = i32::try_from(step).unwrap_or(i32::MAX);
            options.rule.update(&mut moving.states[index], data, &gradient, rate, decay, count);
            weight.keep_zeros(data);
            if let Some(fade) = &weight.fade {
                let factor = of.saturating_sub(step) as f32 / (of + 1).saturating_sub(step).max(1) as f32;
                data.iter_mut().zip(fade).filter(|(_, fade)| **fade).for_each(|(d, _)| *d *= factor);
            }
            if !step_gradient.is_empty() {
                let steps = &mut moving.steps[index];
                // Step sizes are small numbers: their rate is relative to their size.
                let scale: f32 = steps.iter().sum::<f32>() / steps.len() as f32;
                let state = &mut moving.step_states[index];
                options.rule.update(state, steps, &step_gradient, rate * scale.min(1.0), 0.0, count);
                steps.iter_mut().for_each(|s| *s = s.max(1e-8));
            }
        }
    }
}

impl Weight {
    fn keep_zeros(&self, data: &mut [f32]) {
        let mask = self.mask.iter().flatten();
        data.iter_mut().zip(mask).filter(|(_, keep)| !**keep).for_each(|(d, _)| *d = 0.0);
    }

    /// The transform's weights, masked.
    fn changed(&self, stored: &ArrayD<f32>, options: &FitOptions) -> Option<Vec<f32>> {
        let transform = options.transform.as_ref()?;
        let mut changed = transform.forward(&self.name, &self.shape, &crate::grad::flat(stored))?;
        self.keep_zeros(&mut changed);
        Some(changed)
    }
}

/// Mutable elements of a float constant; empty for other values.
pub(crate) fn elements(graph: &mut Graph, id: ValueId) -> &mut [f32] {
    match graph.value_mut(id).data.as_mut().map(Arc::make_mut) {
        Some(Data::F32(data)) => data,
        _ => &mut [],
    }
}
