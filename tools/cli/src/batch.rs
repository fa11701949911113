//! Runs a model on many samples: on all cores of this machine, or one after another on a device.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};

use offshoot::format::record::{DType, IoRepr};
use offshoot::{AlignedBytes, Engine, Model};
use offshoot_data::npy::Array;
use offshoot_target::{Device, Target, TargetError};
use rayon::prelude::*;

use crate::encode::{Column, Encoded};
use crate::failure::{Context, Failure, Kind, Result};
use crate::files::OffFile;
use crate::port::Port;
use crate::saturation::Saturated;
use crate::signing;
use crate::ui::Ui;
use crate::watch;

/// Samples for a model, encoded as the bytes that go into the arena.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// One per graph input, all with the same number of samples, or with one that all samples share.
    columns: Vec<Encoded>,
}

impl Inputs {
    /// Encodes one array per input of the model. `names` are the files, for messages.
    ///
    /// # Errors
    /// Too few or too many arrays, a wrong shape or type, or unequal numbers of samples.
    pub fn encode(model: &Model<'_>, arrays: &[Array], names: &[String]) -> Result<Self> {
        check_inputs(model.input_count(), arrays.len())?;
        let mut columns = Vec::new();
        for (i, (array, name)) in arrays.iter().zip(names).enumerate() {
            columns.push(input_port(model, i)?.encode(array, name)?);
        }
        Self::of_columns(columns)
    }

    /// Samples for a model with one input, already encoded.
    ///
    /// # Errors
    /// There are none, or they differ in length.
    pub fn single(samples: Vec<Vec<u8>>) -> Result<Self> {
        Self::of_columns(vec![Encoded::of_bytes(&samples)?])
    }

    /// Samples for each input, already encoded. All samples share the one of an input that has no more.
    ///
    /// # Errors
    /// There are none, or the inputs have different numbers of samples.
    pub fn of_columns(columns: Vec<Encoded>) -> Result<Self> {
        check_counts(columns.iter().map(Encoded::count))?;
        Ok(Self { columns })
    }

    /// Number of samples.
    pub fn count(&self) -> usize {
        shared_count(self.columns.iter().map(Encoded::count))
    }

    /// The first `count` samples.
    #[must_use]
    pub fn head(&self, count: usize) -> Self {
        Self { columns: self.columns.iter().map(|c| c.head(count)).collect() }
    }

    /// The inputs of one sample; empty if `index` is past the end.
    pub fn sample(&self, index: usize) -> Vec<&[u8]> {
        let within = index < self.count();
        let columns = self.columns.iter().filter(|_| within);
        columns.map(|c| c.sample(if c.count() == 1 { 0 } else { index })).collect()
    }
}

/// Samples that [`run_each`] takes.
pub trait Samples: Sync {
    /// Number of samples.
    fn count(&self) -> usize;

    /// The inputs of one sample, encoded; empty if `index` is past the end.
    ///
    /// # Errors
    /// None for samples that were checked before.
    fn inputs(&self, index: usize) -> Result<Vec<Cow<'_, [u8]>>>;

    /// Leaves only the first `count` samples.
    fn truncate(&mut self, count: usize);

    /// Saturated values of each input; `None` if there are none.
    fn saturation(&self) -> Vec<Option<Saturated>>;
}

impl Samples for Inputs {
    fn count(&self) -> usize {
        self.count()
    }

    fn inputs(&self, index: usize) -> Result<Vec<Cow<'_, [u8]>>> {
        Ok(self.sample(index).into_iter().map(Cow::Borrowed).collect())
    }

    fn truncate(&mut self, count: usize) {
        *self = self.head(count);
    }

    fn saturation(&self) -> Vec<Option<Saturated>> {
        self.columns.iter().map(|c| c.saturation.clone()).collect()
    }
}

/// Samples for a model as the user's arrays; each is encoded when it is run.
#[derive(Clone, Debug)]
pub struct Arrays {
    /// One per graph input, all with the same number of samples, or with one that all samples share.
    columns: Vec<Column>,
}

impl Arrays {
    /// Takes and checks one array per input of the model. `names` are the files, for messages.
    ///
    /// # Errors
    /// As [`Inputs::encode`].
    pub fn new(model: &Model<'_>, arrays: Vec<Array>, names: &[String]) -> Result<Self> {
        check_inputs(model.input_count(), arrays.len())?;
        let mut columns = Vec::new();
        for (i, (array, name)) in arrays.into_iter().zip(names).enumerate() {
            columns.push(Column::new(input_port(model, i)?, array, name)?);
        }
        check_counts(columns.iter().map(Column::count))?;
        Ok(Self { columns })
    }
}

impl Samples for Arrays {
    fn count(&self) -> usize {
        shared_count(self.columns.iter().map(Column::count))
    }

    fn inputs(&self, index: usize) -> Result<Vec<Cow<'_, [u8]>>> {
        let within = index < self.count();
        let columns = self.columns.iter().filter(|_| within);
        columns.map(|c| c.sample(if c.count() == 1 { 0 } else { index })).collect()
    }

    fn truncate(&mut self, count: usize) {
        self.columns.iter_mut().for_each(|c| c.truncate(count));
    }

    fn saturation(&self) -> Vec<Option<Saturated>> {
        self.columns.iter().map(|c| c.saturation.clone()).collect()
    }
}

/// Checks that there is one array per input of a model.
///
/// # Errors
/// There are too few or too many.
pub fn check_inputs(wanted: usize, given: usize) -> Result<()> {
    if given == wanted {
        return Ok(());
    }
    let message = format!("the model has {wanted} input(s), but {given} were given");
    let help = "give --input once per input, in the model's order; `offshoot inspect` lists them";
    Err(Failure::new(Kind::Usage, message, help))
}

/// Checks the inputs' numbers of samples.
fn check_counts(counts: impl Iterator<Item = usize> + Clone) -> Result<()> {
    let count = shared_count(counts.clone());
    if count == 0 || counts.clone().any(|c| c == 0) {
        return Err(Failure::new(Kind::Shape, "no samples given", "give at least one sample"));
    }
    if counts.clone().any(|c| c != count && c != 1) {
        let message = "the inputs have different numbers of samples";
        return Err(Failure::new(
            Kind::Shape,
            message,
            "give the same number of samples for every input, or one that all share",
        ));
    }
    Ok(())
}

/// Number of samples of inputs with these numbers of samples, where one is shared.
pub(crate) fn shared_count(counts: impl Iterator<Item = usize>) -> usize {
    counts.max().unwrap_or(0)
}

/// Input `i` as users see it.
///
/// # Errors
/// The model has no such input.
pub fn input_port(model: &Model<'_>, i: usize) -> Result<Port> {
    port(model.input(i), "input", i)
}

/// Output `i` as users see it.
///
/// # Errors
/// The model has no such output.
pub fn output_port(model: &Model<'_>, i: usize) -> Result<Port> {
    port(model.output(i), "output", i)
}

/// Whether the file holds what was learned, so that devices go on from there.
pub fn has_begun(model: &Model<'_>) -> bool {
    model.network_index() == 0 && model.learning().is_some_and(|learning| learning.head.begun.is_some())
}

/// Number of classes of the classifier head that answers in place of the first output, in a file that has learned.
fn answering(model: &Model<'_>) -> Option<u16> {
    model.learning().filter(|_| has_begun(model))?.head.classifier.map(|classifier| classifier.classes)
}

/// What [`run`] returns for output `i`: scores of the classes in place of the first output if the file has learned and
/// has a classifier head, else the output.
///
/// # Errors
/// The model has no such output.
pub fn answer_port(model: &Model<'_>, i: usize) -> Result<Port> {
    let (io, classes) = (model.output(i), answering(model).filter(|_| i == 0));
    let (Some(io), Some(classes)) = (io, classes) else { return output_port(model, i) };
    let mut shape = [1; 6];
    shape[1] = classes;
    port(Some(IoRepr { dtype: DType::F32, scale: 0.0, zero_point: 0, rank: 2, shape, ..io }), "output", i)
}

/// Replaces the first output by the scores of the head; a head that knows no class yet leaves it to the network.
fn answer(model: &Model<'_>, outputs: &mut [Vec<u8>], scores: &[f32]) -> Result<()> {
    let Some(first) = outputs.first_mut() else { return Ok(()) };
    let mut all = scores.to_vec();
    if all.iter().all(|s| *s == f32::NEG_INFINITY) {
        let own = output_port(model, 0)?.decode(first);
        all.iter_mut().zip(own).for_each(|(s, own)| *s = own);
    }
    *first = all.iter().flat_map(|s| s.to_le_bytes()).collect();
    Ok(())
}

fn port(io: Option<IoRepr>, what: &str, i: usize) -> Result<Port> {
    let missing = || {
        Failure::new(
            Kind::Usage,
            format!("the model has no {what} {i}"),
            "`offshoot inspect` lists the model's inputs and outputs",
        )
    };
    io.map(Port::from).ok_or_else(missing)
}

/// Runs `body` with an engine whose arena is on the heap.
///
/// # Errors
/// What `body` returns; also if the engine refuses the arena, which is a bug.
pub fn with_engine<R>(file: &OffFile, body: impl FnOnce(&mut Engine<'_, '_>) -> Result<R>) -> Result<R> {
    let model = file.model()?;
    let mut arena = arena(&model);
    body(&mut engine(model, &mut arena)?)
}

/// An arena for [`engine`].
pub fn arena(model: &Model<'_>) -> AlignedBytes {
    let bytes = model.train_arena_bytes().filter(|_| has_begun(model)).unwrap_or(model.arena_bytes());
    AlignedBytes::zeroed(bytes as usize)
}

/// An engine that runs the model as [`run`] does: with what it has learned.
///
/// # Errors
/// The arena is not one of [`arena`], which is a bug of the caller.
pub fn engine<'m, 'a>(model: Model<'m>, arena: &'a mut [u8]) -> Result<Engine<'m, 'a>> {
    let begin = if has_begun(&model) { Engine::learning } else { Engine::new };
    begin(model, arena).or_fail(Kind::Internal, "this is a bug in Offshoot: report it with the model")
}

/// Copies a sample into the engine's inputs.
///
/// # Errors
/// Lengths differ, which is a bug of the caller.
pub fn set_inputs(engine: &mut Engine<'_, '_>, sample: &[impl AsRef<[u8]>]) -> Result<()> {
    for (i, bytes) in sample.iter().map(AsRef::as_ref).enumerate() {
        let memory = engine
            .input_mut(i)
            .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with the model")?;
        if memory.len() != bytes.len() {
            return Err(Failure::new(
                Kind::Internal,
                "the sample's length differs from the model's input",
                "this is a bug in Offshoot: report it with the model",
            ));
        }
        memory.copy_from_slice(bytes);
    }
    Ok(())
}

/// Which samples belong to one sequence, for models that keep state between runs.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Sequences {
    /// Reset the state after every N samples. Only for a model compiled with --stateful; without this option, all
    /// samples form one sequence.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub reset_every: Option<u32>,
}

impl Sequences {
    /// Number of samples between resets, for a model that keeps state.
    pub fn samples(self) -> usize {
        self.reset_every.map_or(usize::MAX, |n| n as usize)
    }

    /// Number of samples between resets of the state; `None` for a model without state.
    ///
    /// # Errors
    /// `--reset-every` was given, but the model keeps no state.
    pub(crate) fn length(self, model: &Model<'_>) -> Result<Option<usize>> {
        match (self.reset_every, model.keeps_state()) {
            (None, false) => Ok(None),
            (Some(_), false) => Err(Failure::new(
                Kind::Usage,
                "--reset-every: the model keeps no state between runs",
                "leave out --reset-every: every sample is independent",
            )),
            (_, true) => Ok(Some(self.samples())),
        }
    }
}

/// Runs every sample and returns the output bytes: `[sample][output]`. If the model keeps state, the samples form one
/// sequence, unless `sequences` resets it.
///
/// # Errors
/// The device fails or does not answer, or `sequences` does not fit the model.
pub fn run(
    ui: &Ui,
    file: &OffFile,
    inputs: &impl Samples,
    target: &Target,
    sequences: Sequences,
) -> Result<Vec<Vec<Vec<u8>>>> {
    let mut outputs = Vec::with_capacity(inputs.count());
    run_each(ui, file, inputs, target, sequences, &mut |out| {
        outputs.push(out);
        Ok(())
    })?;
    Ok(outputs)
}

/// As [`run`], but passes each sample's outputs to `sink`, in order, so that they need not all be in memory.
///
/// # Errors
/// As [`run`], and those of `sink`.
pub fn run_each(
    ui: &Ui,
    file: &OffFile,
    inputs: &impl Samples,
    target: &Target,
    sequences: Sequences,
    sink: &mut dyn FnMut(Vec<Vec<u8>>) -> Result<()>,
) -> Result<()> {
    let length = sequences.length(&file.model()?)?;
    let bar = ui.progress("running", inputs.count() as u64);
    let result = match target {
        Target::Host => on_host(file, inputs, length, &bar, sink),
        _ => on_device(file, inputs, target, length, &bar, sink),
    };
    bar.finish_and_clear();
    result
}

fn on_device(
    file: &OffFile,
    inputs: &impl Samples,
    target: &Target,
    length: Option<usize>,
    bar: &indicatif::ProgressBar,
    sink: &mut dyn FnMut(Vec<Vec<u8>>) -> Result<()>,
) -> Result<()> {
    let mut device = connect(target)?;
    load(device.as_mut(), file)?;
    let model = file.model()?;
    let answers = answering(&model).is_some();
    for i in 0..inputs.count() {
        watch::stop_if_cancelled();
        if i > 0 && length.is_some_and(|n| i % n == 0) {
            // Opening the model again clears its state.
            device.reopen().map_err(|e| device_failure(&e, DEVICE_HELP))?;
            select(device.as_mut(), file)?;
        }
        let sample = inputs.inputs(i)?;
        let sample: Vec<&[u8]> = sample.iter().map(|bytes| &**bytes).collect();
        let mut outputs = device.run(&sample).or_fail(Kind::Device, DEVICE_HELP)?;
        if answers {
            let scores = device.scores().or_fail(Kind::Device, DEVICE_HELP)?;
            answer(&model, &mut outputs, &scores)?;
        }
        sink(outputs)?;
        bar.inc(1);
    }
    Ok(())
}

/// Help for a device that fails.
pub const DEVICE_HELP: &str =
    "`offshoot target list` names the targets, `offshoot target probe` tells which answer";

/// Connects to a target, with the host's key that the environment names ([`signing::host_key`]).
///
/// # Errors
/// The target is missing or does not answer; the key cannot be read.
pub fn connect(target: &Target) -> Result<Box<dyn Device>> {
    let key = if matches!(target, Target::Serial(_)) { signing::host_key()? } else { None };
    offshoot_target::open_with(target, key).or_fail(Kind::Device, DEVICE_HELP)
}

/// Loads a model into a device and selects its network.
///
/// # Errors
/// The model does not fit, or the device fails.
pub fn load(device: &mut dyn Device, file: &OffFile) -> Result<()> {
    device.load(file.whole()).map_err(|e| device_failure(&e, DEVICE_HELP))?;
    select(device, file)
}

/// Switches the device to the file's selected network.
fn select(device: &mut dyn Device, file: &OffFile) -> Result<()> {
    if file.network() > 0 {
        device.select(file.network()).map_err(|e| device_failure(&e, DEVICE_HELP))?;
    }
    Ok(())
}

/// Turns a device's error into a failure with `help`; a model that does not fit has its own help.
pub fn device_failure(error: &TargetError, help: &str) -> Failure {
    let (kind, help) = match error {
        TargetError::DoesNotFit { .. } => (Kind::Budget, ROOM_HELP),
        TargetError::MissingFeatures { features, .. } => (
            Kind::Unsupported,
            if features.iter().any(|f| f == "f32") {
                "the board computes in int8 only: give --calib and keep no operator in float, or choose another board"
            } else {
                "choose another board (`offshoot target list`), or build its firmware with these runtime features"
            },
        ),
        _ => (Kind::Device, help),
    };
    Failure::new(kind, error.to_string(), help)
}

/// Help for a model that does not fit.
const ROOM_HELP: &str = "choose a larger board (`offshoot target list`), or make the model smaller: `compile \
    --prefer ram`, \
    `compile --prefer flash`, `compress`";

/// Most samples in a chunk; a thread runs a whole chunk before its outputs are passed on.
const WAVE: usize = 64;

/// `length`: number of samples between resets of the state. One thread runs a sequence, in order.
fn on_host(
    file: &OffFile,
    inputs: &impl Samples,
    length: Option<usize>,
    bar: &indicatif::ProgressBar,
    sink: &mut dyn FnMut(Vec<Vec<u8>>) -> Result<()>,
) -> Result<()> {
    let (count, threads, watch) = (inputs.count(), rayon::current_num_threads(), watch::current());
    if length.is_some_and(|n| n >= count) {
        return with_engine(file, |engine| {
            for i in 0..count {
                watch.stop_if_cancelled();
                sink(run_sample(engine, &inputs.inputs(i)?)?)?;
                bar.inc(1);
            }
            Ok(())
        });
    }
    // One task per chunk, so that many samples share an engine and its arena. A chunk holds whole sequences.
    let chunk = match length {
        Some(n) => n,
        None => count.div_ceil(threads * 8).clamp(1, WAVE),
    };
    let failed = AtomicBool::new(false);
    let starts: Vec<usize> = (0..count).step_by(chunk).collect();
    for wave in starts.chunks(threads * 8) {
        let parts: Vec<Result<Vec<Vec<Vec<u8>>>>> = wave
            .par_iter()
            .map(|&start| {
                with_engine(file, |engine| {
                    let mut outputs = Vec::with_capacity(chunk);
                    for i in start..(start + chunk).min(count) {
                        if failed.load(Ordering::Relaxed) {
                            break;
                        }
                        watch.stop_if_cancelled();
                        let out = inputs.inputs(i).and_then(|sample| run_sample(engine, &sample));
                        failed.fetch_or(out.is_err(), Ordering::Relaxed);
                        outputs.push(out?);
                        bar.inc(1);
                    }
                    Ok(outputs)
                })
            })
            .collect();
        for part in parts {
            part?.into_iter().try_for_each(&mut *sink)?;
        }
    }
    Ok(())
}

/// Runs one sample in an engine of [`engine`] and returns the bytes of each output.
///
/// # Errors
/// The sample's lengths differ from the inputs', which is a bug of the caller.
pub fn run_sample(engine: &mut Engine<'_, '_>, sample: &[impl AsRef<[u8]>]) -> Result<Vec<Vec<u8>>> {
    set_inputs(engine, sample)?;
    engine.run().or_fail(Kind::Internal, "this is a bug in Offshoot: report it with the model")?;
    let mut outputs = read_outputs(engine)?;
    if let Some(scores) = engine.scores().filter(|_| answering(engine.model()).is_some()) {
        let scores = scores.to_vec();
        answer(engine.model(), &mut outputs, &scores)?;
    }
    Ok(outputs)
}

fn read_outputs(engine: &Engine<'_, '_>) -> Result<Vec<Vec<u8>>> {
    (0..engine.model().output_count())
        .map(|o| {
            engine
                .output(o)
                .map(<[u8]>::to_vec)
                .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with the model")
        })
        .collect()
}
