//! The training loop.

use std::collections::HashMap;

use ndarray::{Array2, ArrayD, Axis};
use offshoot_ir::{Graph, Op, ValueId};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::augment::{Mixture, augmented};
use crate::batch::Shards;
use crate::checkpoint::{Progress, fingerprint};
use crate::dataset::{Dataset, Target};
use crate::device::{DeviceRun, DeviceTensor, Numbers};
use crate::error::{Error, Result};
use crate::fake_quant::ActivationRanges;
use crate::loss::{Loss, Taught, Wanted, loss};
use crate::options::{Control, Ended, Epoch, FitOptions, FitReport, Judgement, Observer, Step, Teacher};
use crate::predict::argmax;
use crate::shared::Shared;
use crate::tape::{Mode, Tape, constants};
use crate::weights::{Weights, elements};

/// Weight of a batch's statistics in the running statistics of a batch normalisation.
const MOMENTUM: f32 = 0.1;

/// Trains the float constants of `graph` on `data`. Equal calls give equal weights on equal machines, however many
/// cores they have and however often training was stopped and resumed from its checkpoint.
///
/// # Errors
/// [`Error::Unsupported`] for operators without a gradient, [`Error::Data`] if samples, targets, options and graph do
/// not fit, [`Error::Diverged`], [`Error::Checkpoint`].
pub fn fit(
    graph: &Graph,
    data: &Dataset,
    options: &FitOptions,
    observer: &mut dyn Observer,
) -> Result<(Graph, FitReport)> {
    checked(graph, data, options)?;
    Loop::new(graph, data, options, None)?.run(observer)
}

/// [`fit`] for a super-network: every step sums the gradients of the sub-networks given by `shared`.
/// [`FitOptions::validation`] judges the whole network.
///
/// # Errors
/// As [`fit`]; options that round or change weights in the forward pass are refused.
pub fn fit_shared(
    graph: &Graph,
    data: &Dataset,
    shared: &Shared<'_>,
    options: &FitOptions,
    observer: &mut dyn Observer,
) -> Result<(Graph, FitReport)> {
    checked(graph, data, options)?;
    if options.weight_quant.is_some() || options.activation_quant || options.transform.is_some() {
        return Err(Error::Data("a super-network is trained in float: no rounding, no transform".into()));
    }
    if options.mix || options.augment.is_some() {
        return Err(Error::Data("samples of a super-network cannot be augmented or mixed".into()));
    }
    Loop::new(graph, data, options, Some(shared))?.run(observer)
}

fn checked(graph: &Graph, data: &Dataset, options: &FitOptions) -> Result<()> {
    graph.validate()?;
    data.check(graph)?;
    if let Some(teacher) = &options.teacher {
        teacher.graph.validate()?;
        Dataset { inputs: data.inputs.clone(), target: Target::Unlabelled }.check(&teacher.graph)?;
    } else if data.target == Target::Unlabelled {
        return Err(Error::Data("samples without targets need a teacher".into()));
    }
    if let Some(validation) = &options.validation {
        validation.check(graph)?;
    }
    Ok(())
}

/// Judges `graph` on `data`; the loss is computed against the targets only.
///
/// # Errors
/// As [`fit`].
pub fn evaluate(graph: &Graph, data: &Dataset) -> Result<Judgement> {
    data.check(graph)?;
    judge(graph, data, &constants(graph), None, None)
}

pub(crate) struct Loop<'a> {
    pub(crate) data: &'a Dataset,
    pub(crate) options: &'a FitOptions,
    /// Sub-networks that are trained instead of the graph.
    shared: Option<&'a Shared<'a>>,
    pub(crate) weights: Weights,
    pub(crate) at: Progress,
    /// Samples per step, steps per epoch.
    batch: usize,
    pub(crate) per_epoch: usize,
    /// The teacher's logits by sample, as far as it has seen them and they do not change.
    logits: Vec<Option<Vec<f32>>>,
}

impl<'a> Loop<'a> {
    fn new(
        graph: &Graph,
        data: &'a Dataset,
        options: &'a FitOptions,
        shared: Option<&'a Shared<'a>>,
    ) -> Result<Self> {
        let label = shared.map_or(0, Shared::fingerprint);
        let fingerprint =
            options.checkpoint.as_ref().map_or(0, |_| fingerprint(graph, data, options) ^ label);
        let mut graph = graph.clone();
        let (weights, moving) = Weights::new(&mut graph, options)?;
        let ranges =
            options.activation_quant.then(|| ActivationRanges::of(&graph, &options.activation_ranges));
        let saved = match &options.checkpoint {
            Some(c) => Progress::load(&c.path, fingerprint)?,
            None => None,
        };
        let at = match saved {
            Some(mut saved) => {
                // The graph determines which values are rounded; only their ranges were saved.
                if let (Some(saved), Some(fresh)) = (&mut saved.ranges, ranges) {
                    *saved = fresh.resume(saved);
                }
                saved
            }
            None => Progress {
                fingerprint,
                step: 0,
                graph,
                moving,
                ranges,
                epochs: vec![],
                total: 0.0,
                best: None,
            },
        };
        let batch = options.batch.clamp(1, data.len());
        Ok(Self {
            data,
            options,
            shared,
            weights,
            at,
            batch,
            per_epoch: data.len() / batch,
            logits: Vec::new(),
        })
    }

    fn run(mut self, observer: &mut dyn Observer) -> Result<(Graph, FitReport)> {
        let steps = self.options.epochs * self.per_epoch;
        let shards = Shards::new(&self.at.graph, self.batch);
        let teacher_shards = self.options.teacher.as_ref().map(|t| Shards::new(&t.graph, self.batch));
        let mut order = Vec::new();
        let mut ended = Ended::Completed;
        while self.at.step < steps {
            let (epoch, index) = (self.at.step / self.per_epoch, self.at.step % self.per_epoch);
            if order.is_empty() || index == 0 {
                order = shuffled(self.data.len(), self.options.seed, epoch);
            }
            let rate = self.options.schedule.rate(self.options.rate, self.at.step, steps);
            let chosen = &order[index * self.batch..(index + 1) * self.batch];
            let loss = match self.shared {
                Some(shared) => self.shared_step(shared, chosen, rate)?,
                None => self.step(&shards, teacher_shards.as_ref(), chosen, epoch, rate, steps)?,
            };
            if !loss.is_finite() {
                return Err(Error::Diverged { epoch: epoch + 1, loss });
            }
            self.at.step += 1;
            self.at.total += f64::from(loss);
            let mut control = observer.step(&Step { number: self.at.step, of: steps, loss, rate });
            let mut stale = false;
            if index + 1 == self.per_epoch {
                let epoch = self.close_epoch()?;
                stale = self.is_stale();
                if observer.epoch(&epoch) == Control::Stop {
                    control = Control::Stop;
                }
            }
            let last = control == Control::Stop || stale || self.at.step == steps;
            if let Some(checkpoint) = &self.options.checkpoint
                && (last || self.at.step.is_multiple_of(checkpoint.every.max(1)))
            {
                self.at.save(&checkpoint.path)?;
            }
            if control == Control::Stop && self.at.step < steps {
                ended = Ended::Stopped;
                break;
            }
            if stale {
                ended = Ended::Patience;
                break;
            }
        }
        Ok(self.finish(ended))
    }

    /// One step: forward, loss, backward, update. Returns the loss.
    fn step(
        &mut self,
        shards: &Shards,
        teacher_shards: Option<&Shards>,
        chosen: &[usize],
        epoch: usize,
        rate: f32,
        steps: usize,
    ) -> Result<f32> {
        let options = self.options;
        let mixture = options.mix.then(|| Mixture::new(chosen, options.seed, epoch));
        let changed = self.changed(chosen, mixture.as_ref(), epoch);
        let known = options.teacher.as_ref().and_then(|t| Some((t, self.known_logits(t, chosen)?)));
        let recorded = match (&options.teacher, teacher_shards) {
            (Some(teacher), Some(shards)) if known.is_none() => {
                let inputs = self.inputs(&teacher.graph, shards, chosen, changed.as_deref());
                let constants = constants(&teacher.graph);
                let tape = Tape::record(&teacher.graph, shards, &constants, inputs, Mode::Infer, None)?;
                self.remember(teacher, &tape, chosen)?;
                Some((teacher, tape))
            }
            _ => None,
        };
        let taught = match (known, &recorded) {
            (Some((teacher, logits)), _) => Some(Taught::known(teacher, logits)),
            (None, Some((teacher, tape))) => Some(Taught::of(teacher, tape)?),
            (None, None) => None,
        };
        let inputs = self.inputs(&self.at.graph, shards, chosen, changed.as_deref());
        let mut placed = constants(&self.at.graph);
        options.transform.iter().for_each(|t| t.begin(Some(self.at.step)));
        self.weights.place(&mut placed, &self.at.moving, options);
        let device = self.on_device()?;
        let mode = if options.batch_statistics { Mode::Train } else { Mode::Infer };
        // Ranges are observed in training, independent of batch normalisation's mode.
        let mut ranges = self.at.ranges.take();
        if let Some(ranges) = &mut ranges {
            ranges.observing = true;
            ranges.set_device(device_tensors(device.as_deref(), self.data, chosen)?);
        }
        let tape = Tape::record(&self.at.graph, shards, &placed, inputs, mode, ranges.as_mut())?;
        let (target, smoothing, mixture) = (&self.data.target, options.smoothing, mixture.as_ref());
        let wanted = Wanted { target, chosen, smoothing, mixture };
        let Loss { value, gradients } = loss(&self.at.graph, &tape, &wanted, taught.as_ref())?;
        let seeds = gradients.iter().map(|(id, rows)| (*id, tape.shards_of(*id, rows))).collect();
        let gradients = tape.backward(seeds, &self.weights.ids)?;
        let running = running(&self.at.graph, &tape);
        drop((tape, taught));
        self.at.ranges = ranges;
        self.at.ranges.iter_mut().for_each(|r| r.observing = false);
        let step = self.at.step + 1;
        self.weights.update(&mut self.at.graph, &mut self.at.moving, gradients, options, rate, (step, steps));
        for (id, values) in running {
            elements(&mut self.at.graph, id).copy_from_slice(&values);
        }
        Ok(value)
    }

    /// Whether the teacher says the same of a sample in every epoch, and only its logits count.
    fn is_repeated(&self, teacher: &Teacher) -> bool {
        self.options.augment.is_none()
            && !self.options.mix
            && teacher.features.is_empty()
            && teacher.weight > 0.0
    }

    /// The teacher's logits of the samples `chosen`, if it has seen all of them.
    fn known_logits(&self, teacher: &Teacher, chosen: &[usize]) -> Option<Array2<f32>> {
        let rows: Option<Vec<&Vec<f32>>> = chosen.iter().map(|&i| self.logits.get(i)?.as_ref()).collect();
        let rows = rows.filter(|_| self.is_repeated(teacher))?;
        Array2::from_shape_vec(
            (rows.len(), rows.first()?.len()),
            rows.into_iter().flatten().copied().collect(),
        )
        .ok()
    }

    /// Keeps the teacher's logits of the samples `chosen`.
    fn remember(&mut self, teacher: &Teacher, tape: &Tape<'_>, chosen: &[usize]) -> Result<()> {
        /// Most numbers to keep: 64 MiB.
        const MOST: usize = 1 << 24;
        let rows = tape.rows(Tape::logits(&teacher.graph)?);
        if !self.is_repeated(teacher) || self.data.len().saturating_mul(rows.ncols()) > MOST {
            return Ok(());
        }
        self.logits.resize(self.data.len(), None);
        for (&i, row) in chosen.iter().zip(rows.outer_iter()) {
            self.logits[i] = Some(row.to_vec());
        }
        Ok(())
    }

    /// The samples `chosen` after augmentation and mixing; `None` without either.
    fn changed(&self, chosen: &[usize], mixture: Option<&Mixture>, epoch: usize) -> Option<Vec<ArrayD<f32>>> {
        let augment = self.options.augment.as_deref();
        if augment.is_none() && mixture.is_none() {
            return None;
        }
        let change = |x| {
            let mut batch = augmented(x, chosen, augment, self.options.seed, epoch);
            if let (Some(mixture), Some(batch)) = (mixture, batch.as_slice_mut()) {
                mixture.apply(batch);
            }
            batch
        };
        Some(self.data.inputs.iter().map(change).collect())
    }

    /// The samples `chosen`, or their `changed` form, by graph input and shard.
    fn inputs(
        &self,
        graph: &Graph,
        shards: &Shards,
        chosen: &[usize],
        changed: Option<&[ArrayD<f32>]>,
    ) -> Vec<Vec<ArrayD<f32>>> {
        let all: Vec<usize> = (0..chosen.len()).collect();
        let (inputs, chosen) = changed.map_or((&self.data.inputs[..], chosen), |c| (c, &all));
        inputs.iter().zip(&graph.inputs).map(|(x, id)| shards.cut(x, chosen, *id)).collect()
    }

    fn close_epoch(&mut self) -> Result<Epoch> {
        let number = self.at.step / self.per_epoch;
        let loss = (self.at.total / self.per_epoch as f64) as f32;
        self.at.total = 0.0;
        let mut validation = None;
        if let Some(data) = &self.options.validation {
            let mut placed = constants(&self.at.graph);
            self.options.transform.iter().for_each(|t| t.begin(None));
            self.weights.place(&mut placed, &self.at.moving, self.options);
            let device = self.on_device()?;
            let judgement = judge(&self.at.graph, data, &placed, self.at.ranges.as_mut(), device.as_deref())?;
            if self.at.best.as_ref().is_none_or(|(_, best, ..)| judgement.better_than(best)) {
                let (moving, ranges) = (self.at.moving.clone(), self.at.ranges.clone());
                self.at.best = Some((number, judgement, self.at.graph.clone(), moving, ranges));
            }
            validation = Some(judgement);
        }
        let epoch = Epoch { number, loss, validation };
        self.at.epochs.push(epoch);
        Ok(epoch)
    }

    /// The device form of the current network; `None` before all ranges are known.
    fn on_device(&self) -> Result<Option<Box<dyn DeviceRun>>> {
        let ranges = self.at.ranges.as_ref().and_then(ActivationRanges::complete);
        let (Some(device), Some(ranges)) = (&self.options.device, ranges) else { return Ok(None) };
        let (graph, steps) = self.weights.unrounded(&self.at.graph, &self.at.moving, self.options);
        device.prepare(&graph, &Numbers { steps, ranges }).map(Some).map_err(Error::Device)
    }

    fn is_stale(&self) -> bool {
        match (self.options.patience, &self.at.best) {
            (Some(patience), Some((best, ..))) => self.at.epochs.len() - best >= patience.max(1),
            _ => false,
        }
    }

    fn finish(self, ended: Ended) -> (Graph, FitReport) {
        // Step sizes and ranges belong to the weights with which they were judged.
        let (graph, moving, ranges, best) = match self.at.best {
            Some((epoch, _, graph, moving, ranges)) => (graph, moving, ranges, Some(epoch)),
            None => (self.at.graph, self.at.moving, self.at.ranges, None),
        };
        let weight_steps = self.weights.steps(&moving).map(|(n, s)| (n.to_owned(), s.clone())).collect();
        let ranges = ranges.iter().flat_map(|r| &r.ranges);
        let activation_ranges = ranges.filter_map(|(n, r)| Some((n.clone(), (*r)?))).collect();
        let (epochs, steps) = (self.at.epochs, self.at.step);
        (graph, FitReport { epochs, steps, ended, best, weight_steps, activation_ranges })
    }
}

/// New running statistics of the batch normalisations, with unbiased variance.
pub(crate) fn running(graph: &Graph, tape: &Tape<'_>) -> Vec<(ValueId, Vec<f32>)> {
    let mut out = HashMap::new();
    for (index, now) in &tape.statistics {
        let node = &graph.nodes[*index];
        debug_assert!(matches!(node.op, Op::BatchNorm { .. }));
        let unbiased = now.count as f32 / (now.count as f32 - 1.0).max(1.0);
        for (input, values, scale) in [(3, &now.mean, 1.0), (4, &now.variance, unbiased)] {
            let old = tape.value(node.inputs[input]).first();
            let mixed = old.into_iter().flat_map(|old| old.iter()).zip(values);
            let mixed = mixed.map(|(old, now)| (1.0 - MOMENTUM) * old + MOMENTUM * scale * now);
            out.insert(node.inputs[input], mixed.collect());
        }
    }
    out.into_iter().collect()
}

fn judge(
    graph: &Graph,
    data: &Dataset,
    constants: &[Option<crate::grad::Tensor>],
    mut ranges: Option<&mut ActivationRanges>,
    device: Option<&dyn DeviceRun>,
) -> Result<Judgement> {
    const BATCH: usize = 64;
    let all: Vec<usize> = (0..data.len()).collect();
    let (mut total, mut right) = (0.0f64, 0usize);
    let full = Shards::new(graph, BATCH.min(all.len()));
    for chosen in all.chunks(BATCH) {
        let rest;
        let shards = if chosen.len() == BATCH.min(all.len()) {
            &full
        } else {
            rest = Shards::new(graph, chosen.len());
            &rest
        };
        let inputs =
            data.inputs.iter().zip(&graph.inputs).map(|(x, id)| shards.cut(x, chosen, *id)).collect();
        if let Some(ranges) = ranges.as_deref_mut() {
            ranges.set_device(device_tensors(device, data, chosen)?);
        }
        let tape = Tape::record(graph, shards, constants, inputs, Mode::Infer, ranges.as_deref_mut())?;
        let value = loss(graph, &tape, &Wanted::of(&data.target, chosen), None)?.value;
        total += f64::from(value) * chosen.len() as f64;
        if let Target::Labels(labels) = &data.target {
            let rows = tape.rows(graph.outputs[0]);
            let hits =
                rows.outer_iter().zip(chosen).filter(|(row, i)| argmax(row.iter()) as i64 == labels[**i]);
            right += hits.count();
        }
    }
    let n = data.len().max(1) as f64;
    let accuracy = matches!(data.target, Target::Labels(_)).then_some(right as f64 / n);
    Ok(Judgement { loss: (total / n) as f32, accuracy })
}

/// The device's tensors of the samples `chosen`; empty without a device.
fn device_tensors(
    device: Option<&dyn DeviceRun>,
    data: &Dataset,
    chosen: &[usize],
) -> Result<HashMap<ValueId, DeviceTensor>> {
    let Some(device) = device else { return Ok(HashMap::new()) };
    let inputs: Vec<ArrayD<f32>> = data.inputs.iter().map(|x| x.select(Axis(0), chosen)).collect();
    device.run(&inputs).map_err(Error::Device)
}

/// Permutation of the numbers below `count` for epoch `epoch` (from 0), by Fisher and Yates; depends only on seed and
/// epoch.
pub fn shuffled(count: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch as u64);
    let mut order: Vec<usize> = (0..count).collect();
    for i in (1..count).rev() {
        let j = (rng.next_u64() % (i as u64 + 1)) as usize;
        order.swap(i, j);
    }
    order
}
