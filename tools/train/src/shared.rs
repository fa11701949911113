//! Sub-networks that share the constants of a super-network, and their joint training.
//!
//! A [`Member`] is a separate graph whose constants are selected elements of the super-network's: nested prefixes
//! (SortedNet, Valipour et al. 2023), the centres of kernels, or any other selection. In a step, several members see
//! samples of the batch, their gradients are added up at the corresponding elements of the super-network, and the
//! optimiser updates those.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use ndarray::{Array4, ArrayD, Axis, IxDyn};
use offshoot_ir::{Data, Graph, ValueId};

use crate::batch::Shards;
use crate::dataset::{Dataset, Target};
use crate::error::{Error, Result};
use crate::fit::{Loop, running};
use crate::grad::flat;
use crate::loss::{Loss, Taught, Wanted, loss};
use crate::options::Teacher;
use crate::tape::{Mode, Tape, constants};
use crate::weights::elements;

/// Source of a member's constant.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Constant of the member.
    pub part: ValueId,
    /// Constant of the super-network.
    pub whole: ValueId,
    /// Row-major index in `whole` of each element of `part`; each occurs once.
    pub elements: Vec<u32>,
}

/// A sub-network.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its structure. The values of float constants with a source do not matter.
    pub graph: Graph,
    /// Sources of its constants.
    pub sources: Vec<Source>,
}

impl Member {
    /// The sub-network with the current weights of `whole`.
    pub fn cut(&self, whole: &Graph) -> Graph {
        let mut graph = self.graph.clone();
        for source in &self.sources {
            let Some(Data::F32(data)) = whole.value(source.whole).data.as_deref() else { continue };
            let chosen = source.elements.iter().map(|&e| data[e as usize]).collect();
            graph.value_mut(source.part).data = Some(Arc::new(Data::F32(chosen)));
        }
        graph
    }
}

/// A member and the samples of a batch that it trains on.
#[derive(Clone, Debug)]
pub struct Lot {
    /// The sub-network.
    pub member: Arc<Member>,
    /// Range of positions in the batch.
    pub samples: Range<usize>,
    /// Weight of its loss.
    pub weight: f32,
}

/// Distillation from the first lot of a step, which covers the whole batch, to the others (in-place distillation, Yu
/// and Huang 2019).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distil {
    /// Divides both logits.
    pub temperature: f32,
    /// Weight of the teacher's logits in the loss.
    pub weight: f32,
}

/// Selects the sub-networks trained at each step.
pub struct Shared<'a> {
    /// Lots of step `.0` (from 0) with a batch of `.1` samples. It must depend on nothing else, so that training can
    /// be resumed from a checkpoint.
    pub lots: &'a (dyn Fn(usize, usize) -> Result<Vec<Lot>> + Sync),
    /// Describes everything that determines `lots`: a checkpoint only continues the training that made it.
    pub label: String,
    /// Whether the first lot teaches the others.
    pub distil: Option<Distil>,
}

impl std::fmt::Debug for Shared<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("label", &self.label)
            .field("distil", &self.distil)
            .finish_non_exhaustive()
    }
}

impl Shared<'_> {
    pub(crate) fn fingerprint(&self) -> u32 {
        crc32fast::hash(format!("{} {:?}", self.label, self.distil).as_bytes())
    }
}

impl Loop<'_> {
    /// One step over all lots; returns the weighted mean of their losses.
    pub(crate) fn shared_step(&mut self, shared: &Shared<'_>, chosen: &[usize], rate: f32) -> Result<f32> {
        let options = self.options;
        let lots = (shared.lots)(self.at.step, chosen.len())?;
        let known: HashSet<ValueId> = self.weights.ids.iter().copied().collect();
        let mut totals: HashMap<ValueId, ArrayD<f32>> = HashMap::new();
        let (mut value, mut all) = (0.0, 0.0);
        let cut: Vec<Graph> = lots.iter().map(|lot| lot.member.cut(&self.at.graph)).collect();
        let mut statistics = Vec::new();
        // The first lot's tape, while it serves as teacher.
        let mut first: Option<(Teacher, Tape<'_>)> = None;
        let shards: Vec<Shards> =
            lots.iter().zip(&cut).map(|(lot, graph)| Shards::new(graph, lot.samples.len())).collect();
        for (index, (lot, graph)) in lots.iter().zip(&cut).enumerate() {
            let samples = chosen.get(lot.samples.clone()).filter(|s| !s.is_empty());
            let samples = samples
                .ok_or_else(|| Error::Data(format!("a lot of samples {:?} of a batch", lot.samples)))?;
            let outer = match &options.teacher {
                Some(teacher) => {
                    let shards = Shards::new(&teacher.graph, samples.len());
                    Some((teacher, shards))
                }
                None => None,
            };
            let taught = match &outer {
                Some((teacher, shards)) => {
                    let inputs = inputs(self.data, &teacher.graph, shards, samples)?;
                    let constants = constants(&teacher.graph);
                    let tape = Tape::record(&teacher.graph, shards, &constants, inputs, Mode::Infer, None)?;
                    Some((*teacher, tape))
                }
                None => None,
            };
            let fed = inputs(self.data, graph, &shards[index], samples)?;
            let mode = if options.batch_statistics { Mode::Train } else { Mode::Infer };
            let tape = Tape::record(graph, &shards[index], &constants(graph), fed, mode, None)?;
            let same = first.as_ref().filter(|_| lot.samples == lots[0].samples);
            let teacher = taught.as_ref().map(|(t, tape)| (*t, tape)).or(same.map(|(t, tape)| (t, tape)));
            let teacher = teacher.map(|(teacher, tape)| Taught::of(teacher, tape)).transpose()?;
            let wanted = Wanted { smoothing: options.smoothing, ..Wanted::of(&self.data.target, samples) };
            let Loss { value: found, gradients } = loss(graph, &tape, &wanted, teacher.as_ref())?;
            value += lot.weight * found;
            all += lot.weight;
            let seeds = gradients.iter().map(|(id, rows)| (*id, tape.shards_of(*id, rows))).collect();
            let wanted: Vec<&Source> =
                lot.member.sources.iter().filter(|s| known.contains(&s.whole)).collect();
            let ids: Vec<ValueId> = wanted.iter().map(|s| s.part).collect();
            let gradients = tape.backward(seeds, &ids)?;
            for source in wanted {
                let Some(gradient) = gradients.get(&source.part) else { continue };
                let whole = self.at.graph.value(source.whole);
                let total = totals.entry(source.whole).or_insert_with(|| ArrayD::zeros(IxDyn(&whole.shape)));
                let Some(total) = total.as_slice_mut() else { continue };
                for (&e, g) in source.elements.iter().zip(flat(gradient).iter()) {
                    total[e as usize] += lot.weight * g;
                }
            }
            for (part, values) in running(graph, &tape) {
                let source = lot.member.sources.iter().find(|s| s.part == part);
                if let Some(s) = source.filter(|s| s.elements.len() == self.at.graph.value(s.whole).len()) {
                    statistics.push((s.clone(), values));
                }
            }
            if let (0, Some(distil)) = (index, shared.distil) {
                let Distil { temperature, weight } = distil;
                first = Some((Teacher { graph: graph.clone(), temperature, weight, features: vec![] }, tape));
            }
        }
        drop(first);
        let step = (self.at.step + 1, options.epochs * self.per_epoch);
        self.weights.update(&mut self.at.graph, &mut self.at.moving, totals, options, rate, step);
        for (source, values) in statistics {
            let data = elements(&mut self.at.graph, source.whole);
            source.elements.iter().zip(values).for_each(|(&e, v)| data[e as usize] = v);
        }
        Ok(value / f32::max(all, f32::MIN_POSITIVE))
    }
}

/// Samples in the shapes that the graph takes, which may have a lower resolution.
fn inputs(data: &Dataset, graph: &Graph, shards: &Shards, chosen: &[usize]) -> Result<Vec<Vec<ArrayD<f32>>>> {
    let each = |(x, id): (&ArrayD<f32>, &ValueId)| {
        let wanted = &graph.value(*id).shape;
        if x.ndim() == 4 && wanted.len() == 4 && x.shape()[1..3] != wanted[1..3] {
            let part = resample(&x.select(Axis(0), chosen), [wanted[1], wanted[2]])?;
            let all: Vec<usize> = (0..chosen.len()).collect();
            return Ok(shards.cut(&part, &all, *id));
        }
        Ok(shards.cut(x, chosen, *id))
    };
    data.inputs.iter().zip(&graph.inputs).map(each).collect()
}

/// Images `[n, h, w, c]` at a lower resolution: every new pixel is the mean over the area that it covers.
///
/// # Errors
/// [`Error::Data`] if `x` does not hold images, or the resolution is zero or higher.
pub fn resample(x: &ArrayD<f32>, [height, width]: [usize; 2]) -> Result<ArrayD<f32>> {
    let &[n, h, w, c] = x.shape() else {
        return Err(Error::Data(format!("samples of shape {:?} are not images", x.shape())));
    };
    if height == 0 || width == 0 || height > h || width > w {
        return Err(Error::Data(format!("images of {h} × {w} cannot be reduced to {height} × {width}")));
    }
    let (rows, columns) = (shares(h, height), shares(w, width));
    let mut out = Array4::<f32>::zeros((n, height, width, c));
    for i in 0..n {
        for (y, row) in rows.iter().enumerate() {
            for (z, column) in columns.iter().enumerate() {
                for &(a, share) in row {
                    for &(b, other) in column {
                        for channel in 0..c {
                            out[[i, y, z, channel]] += share * other * x[[i, a, b, channel]];
                        }
                    }
                }
            }
        }
    }
    Ok(out.into_dyn())
}

/// For each new pixel along an axis, the old pixels that it covers and their shares, which sum to 1.
fn shares(old: usize, new: usize) -> Vec<Vec<(usize, f32)>> {
    let scale = old as f32 / new as f32;
    let one = |i: usize| {
        let (from, to) = (i as f32 * scale, (i + 1) as f32 * scale);
        let covered = from as usize..(to.ceil() as usize).min(old);
        let share = |p: usize| (to.min(p as f32 + 1.0) - from.max(p as f32)).max(0.0) / scale;
        covered.map(|p| (p, share(p))).filter(|(_, s)| *s > 0.0).collect()
    };
    (0..new).map(one).collect()
}

/// `graph` with the batch-normalisation statistics of `x`, batch by batch (samples along the first axis; at the
/// graph's resolution or a higher one). Needed by sub-networks whose weights were trained together with others.
///
/// # Errors
/// The samples do not fit the graph.
pub fn recalibrate(graph: &Graph, x: &[ArrayD<f32>], batch: usize) -> Result<Graph> {
    let count = x.first().map_or(0, |x| x.shape().first().copied().unwrap_or(0));
    if !graph.nodes.iter().any(|n| matches!(n.op, offshoot_ir::Op::BatchNorm { .. })) {
        return Ok(graph.clone());
    }
    if count == 0 {
        return Err(Error::Data("no samples to recalibrate on".into()));
    }
    let data = Dataset { inputs: x.to_vec(), target: Target::Unlabelled };
    let mut sums: HashMap<ValueId, (Vec<f64>, f64)> = HashMap::new();
    let all: Vec<usize> = (0..count).collect();
    for chosen in all.chunks(batch.max(2)) {
        let shards = Shards::new(graph, chosen.len());
        let fed = inputs(&data, graph, &shards, chosen)?;
        let tape = Tape::record(graph, &shards, &constants(graph), fed, Mode::Train, None)?;
        for (index, now) in &tape.statistics {
            let unbiased = now.count as f64 / (now.count as f64 - 1.0).max(1.0);
            let share = chosen.len() as f64;
            for (input, values, scale) in [(3, &now.mean, 1.0), (4, &now.variance, unbiased)] {
                let id = graph.nodes[*index].inputs[input];
                let (sum, total) = sums.entry(id).or_insert_with(|| (vec![0.0; values.len()], 0.0));
                sum.iter_mut().zip(values).for_each(|(s, v)| *s += share * scale * f64::from(*v));
                *total += share;
            }
        }
    }
    let mut out = graph.clone();
    for (id, (sum, total)) in sums {
        let mean = sum.iter().map(|s| (s / total) as f32);
        elements(&mut out, id).iter_mut().zip(mean).for_each(|(d, m)| *d = m);
    }
    Ok(out)
}

/// The whole network as a member of itself.
pub fn whole(graph: &Graph) -> Member {
    let float = |v: &offshoot_ir::Value| matches!(v.data.as_deref(), Some(Data::F32(_)));
    let ids = (0..graph.values.len()).map(|i| ValueId(i as u32)).filter(|id| float(graph.value(*id)));
    let source =
        |id: ValueId| Source { part: id, whole: id, elements: (0..graph.value(id).len() as u32).collect() };
    Member { graph: graph.clone(), sources: ids.map(source).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Edge, Network};
    use crate::options::{Control, FitOptions, Observer, Step};
    use crate::{fit, fit_shared};

    fn material() -> (Graph, Dataset) {
        let graph = Network::new("n", [6, 6, 1], 5)
            .conv("a", 4, [3, 3], [1, 1], Edge::Same)
            .normalise_relu("a")
            .global_average("mean")
            .dense("head", 3)
            .finish();
        let x = ndarray::Array::from_shape_fn((24, 6, 6, 1), |(i, h, w, _)| {
            ((i * 31 + h * 7 + w * 13) % 17) as f32 / 8.0 - 1.0 + (i % 3) as f32
        });
        let labels = (0..24).map(|i| i % 3).collect();
        (graph, Dataset::new(x.into_dyn(), Target::Labels(labels)))
    }

    /// The whole network as the only member gives the result of `fit`; so does using it twice with half the weight.
    #[test]
    fn the_whole_network_as_member_is_trained_as_ever() {
        let (graph, data) = material();
        let options = FitOptions { epochs: 2, batch: 8, ..FitOptions::default() };
        let (plain, _) = fit(&graph, &data, &options, &mut ()).unwrap();
        let member = Arc::new(whole(&graph));
        for parts in [1, 2] {
            let lots = |_: usize, batch: usize| {
                let lot = Lot { member: member.clone(), samples: 0..batch, weight: 1.0 / parts as f32 };
                Ok(vec![lot; parts])
            };
            let shared = Shared { lots: &lots, label: String::new(), distil: None };
            let (same, report) = fit_shared(&graph, &data, &shared, &options, &mut ()).unwrap();
            assert_eq!(report.steps, 6);
            for (a, b) in plain.values.iter().zip(&same.values) {
                if let (Some(Data::F32(a)), Some(Data::F32(b))) = (a.data.as_deref(), b.data.as_deref()) {
                    let far = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(far < 1e-4, "{parts}: {far}");
                }
            }
        }
    }

    #[test]
    fn shared_training_goes_on_from_its_checkpoint_to_the_same_weights() {
        struct Halt(usize);
        impl Observer for Halt {
            fn step(&mut self, step: &Step) -> Control {
                if step.number == self.0 { Control::Stop } else { Control::Continue }
            }
        }
        let (graph, data) = material();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("super.checkpoint");
        let member = Arc::new(whole(&graph));
        let lots = |_: usize, batch: usize| {
            let lot = |samples: Range<usize>| Lot { member: member.clone(), samples, weight: 0.5 };
            Ok(vec![lot(0..batch), lot(0..batch / 2)])
        };
        let distil = Some(Distil { temperature: 2.0, weight: 0.5 });
        let shared = Shared { lots: &lots, label: "halves".into(), distil };
        let plain = FitOptions { epochs: 2, batch: 8, ..FitOptions::default() };
        let (straight, _) = fit_shared(&graph, &data, &shared, &plain, &mut ()).unwrap();
        let checkpoint = Some(crate::Checkpoint { path, every: 1 });
        let saved = FitOptions { checkpoint, ..plain };
        fit_shared(&graph, &data, &shared, &saved, &mut Halt(3)).unwrap();
        let (resumed, _) = fit_shared(&graph, &data, &shared, &saved, &mut ()).unwrap();
        assert_eq!(straight, resumed);
    }

    #[test]
    fn resampling_keeps_means() {
        let x = ndarray::Array::from_shape_fn((1, 5, 6, 2), |(_, h, w, c)| (h * 6 + w + c) as f32).into_dyn();
        let y = resample(&x, [2, 3]).unwrap();
        assert_eq!(y.shape(), [1, 2, 3, 2]);
        assert!((x.mean().unwrap() - y.mean().unwrap()).abs() < 1e-4);
        assert!(resample(&x, [6, 6]).is_err() && resample(&x, [0, 6]).is_err());
        assert_eq!(resample(&x, [5, 6]).unwrap(), x);
    }

    #[test]
    fn recalibration_finds_the_statistics_of_the_samples() {
        let (graph, data) = material();
        let found = recalibrate(&graph, &data.inputs, 24).unwrap();
        let node = found.nodes.iter().find(|n| matches!(n.op, offshoot_ir::Op::BatchNorm { .. })).unwrap();
        let Some(Data::F32(mean)) = found.value(node.inputs[3]).data.as_deref() else { panic!() };
        assert!(mean.iter().any(|m| m.abs() > 1e-3));
        let again = recalibrate(&found, &data.inputs, 24).unwrap();
        assert_eq!(found, again);
    }
}
