//! Splits the samples, and measures the int8 form of each network on the held-out ones.

use std::cell::RefCell;
use std::time::Instant;

use offshoot_compress::prune::{self, Progress, Size};
use offshoot_compress::quantize::aware::{AwareOptions, aware};
use offshoot_compress::quantize::{Learned, Policy, WeightBits};
use offshoot_data::npy::Array;
use offshoot_export::Core;
use offshoot_ir::{Graph, Op};
use offshoot_target::Target;
use offshoot_train::Dataset;

use super::{Args, Made, Point, Tested};
use crate::batch::{self, Inputs};
use crate::commands::compile::Precision;
use crate::commands::{compile, eval};
use crate::failure::{Context, Failure, Kind, Result};
use crate::files::OffFile;
use crate::port::Port;
use crate::ui::Ui;
use crate::watch;

/// Training samples and held-out samples.
pub(super) struct Split {
    pub(super) train: Dataset,
    pub(super) calibration: Vec<Vec<ndarray::ArrayD<f32>>>,
    pub(super) held: Vec<Vec<f32>>,
    pub(super) labels: Array,
    pub(super) count: usize,
}

/// Shuffles by the seed and holds out the first fifth.
pub(super) fn split(graph: &Graph, x: &Array, y: &Array, args: &Args) -> Result<Split> {
    if graph.inputs.len() != 1 {
        let message = format!("the network has {} inputs; compress needs one", graph.inputs.len());
        return Err(Failure::new(Kind::Unsupported, message, "give a network with one input"));
    }
    let port = Port::of_value(graph, graph.inputs[0]);
    let name = |i: usize| args.data[i].display().to_string();
    let samples = port.real(x, &name(0))?;
    let labels: Vec<i64> = y
        .to_i64()
        .or_fail_in(Kind::Dtype, name(1), "give whole class numbers, counted from 0")?
        .into_iter()
        .collect();
    if labels.len() != samples.len() || samples.len() < 10 {
        let message = format!("{} labels for {} samples", labels.len(), samples.len());
        return Err(Failure::new(
            Kind::Shape,
            message,
            "give one class number per sample, and ten samples or more",
        ));
    }
    let order = offshoot_train::shuffled(samples.len(), args.seed, 0);
    let order = &order[..args.limit.unwrap_or(order.len()).clamp(10, order.len())];
    let count = (order.len() / 5).clamp(1, args.held_out.max(1));
    let (held, train) = order.split_at(count);
    let flat: Vec<f32> = train.iter().flat_map(|&i| samples[i].iter().copied()).collect();
    let batchless = port.shape.first() == Some(&1);
    let shape = [&[train.len()], &port.shape[usize::from(batchless)..]].concat();
    let x = ndarray::ArrayD::from_shape_vec(shape, flat)
        .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?;
    let target = offshoot_train::Target::Labels(train.iter().map(|&i| labels[i]).collect());
    let train = Dataset::new(x, target);
    train.check(graph).or_fail(Kind::Mismatch, "give data of the kind that the network was trained on")?;
    let kept: Vec<i64> = held.iter().map(|&i| labels[i]).collect();
    let kept = ndarray::ArrayD::from_shape_vec(vec![count], kept)
        .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?;
    Ok(Split {
        calibration: prune::samples(graph, &train, args.calibration.max(1)),
        train,
        held: held.iter().map(|&i| samples[i].clone()).collect(),
        labels: kept.into(),
        count,
    })
}

/// Quantises, compiles and measures networks.
pub(super) struct Judge<'a> {
    pub(super) ui: &'a Ui,
    pub(super) split: &'a Split,
    pub(super) target: Option<&'a Target>,
    /// The target's core.
    pub(super) core: Option<Core>,
}

impl Judge<'_> {
    pub(super) fn point(
        &self,
        graph: &Graph,
        stage: &str,
        policy: Option<&Policy>,
    ) -> Result<(Point, Vec<u8>)> {
        let args = compile::Args {
            precision: policy.map(|p| Precision::Given(Box::new(p.clone()))),
            strict_int8: true,
            core: self.core,
            ..compile::Args::default()
        };
        // Pruning meets the limits step by step; only the result is checked against the target.
        let target = self.target.filter(|_| stage == "result");
        let made = compile::make(self.ui, graph.clone(), &self.split.calibration, &args, target)?;
        let accuracy = accuracy(self.ui, &made.compiled.bytes, &self.split.held, &self.split.labels)?;
        let r = &made.compiled.report;
        let size = Size { flash: r.model_bytes, ram: r.arena_bytes, macs: r.macs, instructions: None };
        Ok((Point { stage: stage.into(), size, accuracy }, made.compiled.bytes))
    }
}

impl Judge<'_> {
    /// What is written of a result: its ONNX file, the policy with which that compiles to the numbers judged here, and the
    /// network as it is read from that file.
    ///
    /// Step sizes and ranges go into the policy, and weights that quantisation rounds away from the nearest step move
    /// until they are rounded to it: another calibration would give other numbers than those that were judged.
    ///
    /// # Errors
    /// An operator has no ONNX form; the network cannot be quantised.
    pub(super) fn settled(
        &self,
        graph: &Graph,
        bits: &WeightBits,
        args: &Args,
    ) -> Result<(Vec<u8>, Policy, Graph)> {
        let options = AwareOptions {
            weight_bits: bits.clone(),
            calibration: args.calibration.max(1),
            epochs: 0,
            ..AwareOptions::default()
        };
        let bug = "this is a bug in Offshoot: report it with the model";
        let bar = self.ui.progress("calibrating", 0);
        // The numbers of recurrent layers are always calibrated.
        let recurrent = graph.nodes.iter().any(|n| matches!(n.op, Op::Recurrent { .. }));
        let (graph, policy) = match recurrent {
            true => (graph.clone(), Policy::new(bits.clone(), Learned::default())),
            false => {
                let settled = aware(graph, &self.split.train, &options, &mut ());
                settled.map(|(graph, report)| (graph, report.policy)).or_fail(Kind::Internal, bug)?
            }
        };
        bar.finish_and_clear();
        let onnx = offshoot_import::emit(&graph).or_fail(
            Kind::Unsupported,
            "the compressed network has no ONNX form: leave out the operator named above",
        )?;
        let again = crate::policy::read_back(&onnx)?;
        let policy = crate::policy::renamed(&policy, &graph, &again)?;
        Ok((onnx, policy, again))
    }
}

/// Share of samples, from 0 to 1, that an `.off` file gives the class of their label.
fn accuracy(ui: &Ui, off: &[u8], samples: &[Vec<f32>], labels: &Array) -> Result<f64> {
    let file = OffFile::from_bytes(off);
    let model = file.model()?;
    let port = batch::input_port(&model, 0)?;
    let inputs = samples.iter().map(|x| port.encode_real(x.iter().copied())).collect();
    let results =
        batch::run(ui, &file, &Inputs::single(inputs)?, &Target::Host, batch::Sequences::default())?;
    let port = batch::output_port(&model, 0)?;
    let outputs: Vec<Vec<f32>> =
        results.iter().filter_map(|r| r.first()).map(|bytes| port.decode(bytes)).collect();
    eval::top1(&outputs, labels)
}

/// Judges the uncompressed network and the result on the samples of --test.
///
/// # Errors
/// The samples do not fit the network, or their number is not that of the labels.
pub(super) fn test(ui: &Ui, graph: &Graph, made: &Made, x: &Array, y: &Array, args: &Args) -> Result<Tested> {
    let name = |i: usize| args.test[i].display().to_string();
    let samples = Port::of_value(graph, graph.inputs[0]).real(x, &name(0))?;
    let help = "give whole class numbers, counted from 0";
    let labels: Array = y.to_i64().or_fail_in(Kind::Dtype, name(1), help)?.into();
    if labels.shape().iter().product::<usize>() != samples.len() || samples.is_empty() {
        let message = format!("{}: not one label for each of {} samples", name(1), samples.len());
        return Err(Failure::new(Kind::Shape, message, "give one class number per sample"));
    }
    Ok(Tested {
        samples: samples.len(),
        before: accuracy(ui, &made.whole, &samples, &labels)?,
        after: accuracy(ui, &made.off, &samples, &labels)?,
    })
}

/// Shows progress, and measures the network after each period.
pub(super) struct Watch<'a> {
    pub(super) bar: indicatif::ProgressBar,
    pub(super) judge: &'a Judge<'a>,
    pub(super) points: Vec<Point>,
    /// When the time of --hours is over.
    pub(super) end: Option<Instant>,
    /// What is being done, how far it is, and how far it goes.
    pub(super) part: (String, usize, usize),
    /// The part of the work that the end of the time has cut short.
    pub(super) cut: RefCell<Option<(String, usize, usize)>>,
}

impl Progress for Watch<'_> {
    fn tick(&mut self, what: &str, done: usize, total: usize) {
        watch::stop_if_cancelled();
        self.part = (what.to_owned(), done, total);
        self.bar.set_message(what.to_owned());
        self.bar.set_length(total as u64);
        self.bar.set_position(done as u64);
    }

    fn is_over(&self) -> bool {
        let over = self.end.is_some_and(|end| Instant::now() >= end);
        // What was at its last step is done.
        if over && self.part.1 < self.part.2 {
            self.cut.borrow_mut().get_or_insert_with(|| self.part.clone());
        }
        over
    }

    fn period(&mut self, graph: &Graph, _: Size) -> offshoot_compress::Result<()> {
        let stage = format!("period {}", self.points.len());
        let point = self.judge.point(graph, &stage, None);
        let (point, _) = point.map_err(|f| offshoot_compress::Error::Watcher(Box::new(f)))?;
        self.points.push(point);
        Ok(())
    }
}
