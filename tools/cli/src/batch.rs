//! Runs a model over many samples: on all cores of this machine, or one after another on a device.

use std::sync::atomic::{AtomicBool, Ordering};

use offshoot::{Engine, Model};
use offshoot_data::npy::Array;
use offshoot_target::{Device, Target, TargetError};
use rayon::prelude::*;

use crate::failure::{Context, Failure, Kind, Result};
use crate::files::{AlignedBytes, OffFile};
use crate::port::{Encoded, Port};
use crate::saturation::Saturated;
use crate::ui::Ui;

/// Inputs of a model, sample by sample, as the bytes that go into the arena.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// One a graph input; each as many samples as the others.
    columns: Vec<Encoded>,
}

impl Inputs {
    /// Encodes one array for each of the model's inputs. `names` are the files, for messages.
    ///
    /// # Errors
    /// Too few or too many arrays, wrong shapes or types, unequal numbers of samples.
    pub fn encode(model: &Model<'_>, arrays: &[Array], names: &[String]) -> Result<Self> {
        let wanted = model.input_count();
        if arrays.len() != wanted {
            let message = format!("the model has {wanted} input(s), {} given", arrays.len());
            return Err(Failure::new(
                Kind::Usage,
                message,
                "give --input once for each input, in the model's order",
            ));
        }
        let mut columns = Vec::new();
        for (i, (array, name)) in arrays.iter().zip(names).enumerate() {
            columns.push(input_port(model, i)?.encode(array, name)?);
        }
        Self::of_columns(columns)
    }

    /// Samples of a model with one input, as bytes.
    ///
    /// # Errors
    /// There is none, or they differ in length.
    pub fn single(samples: Vec<Vec<u8>>) -> Result<Self> {
        Self::of_columns(vec![Encoded::of_bytes(&samples)?])
    }

    /// Samples of each input.
    ///
    /// # Errors
    /// There are none, or unequal numbers of them.
    pub fn of_columns(columns: Vec<Encoded>) -> Result<Self> {
        let count = columns.first().map_or(0, Encoded::count);
        if count == 0 {
            return Err(Failure::new(Kind::Shape, "no samples given", "give at least one sample"));
        }
        if columns.iter().any(|c| c.count() != count) {
            let message = "the inputs have different numbers of samples";
            return Err(Failure::new(Kind::Shape, message, "give as many samples of each input"));
        }
        Ok(Self { columns })
    }

    /// Number of samples.
    pub fn count(&self) -> usize {
        self.columns.first().map_or(0, Encoded::count)
    }

    /// The first `count` samples.
    #[must_use]
    pub fn head(&self, count: usize) -> Self {
        Self { columns: self.columns.iter().map(|c| c.head(count)).collect() }
    }

    /// The inputs of one sample; none behind the last one.
    pub fn sample(&self, index: usize) -> Vec<&[u8]> {
        let columns = self.columns.iter().filter(|c| index < c.count());
        columns.map(|c| c.sample(index)).collect()
    }

    /// Of each input, what saturates; `None` where nothing does.
    pub fn saturation(&self) -> Vec<Option<Saturated>> {
        self.columns.iter().map(|c| c.saturation.clone()).collect()
    }
}

/// Input `i` as users see it.
///
/// # Errors
/// There is none.
pub fn input_port(model: &Model<'_>, i: usize) -> Result<Port> {
    port(model.input(i), "input", i)
}

/// Output `i` as users see it.
///
/// # Errors
/// There is none.
pub fn output_port(model: &Model<'_>, i: usize) -> Result<Port> {
    port(model.output(i), "output", i)
}

fn port(io: Option<offshoot::format::record::IoRepr>, what: &str, i: usize) -> Result<Port> {
    let missing =
        || Failure::new(Kind::Usage, format!("the model has no {what} {i}"), "see `offshoot inspect`");
    io.map(Port::from).ok_or_else(missing)
}

/// An engine with an arena of its own on the heap.
///
/// # Errors
/// What `body` returns, or the engine refusing the arena (a fault).
pub fn with_engine<R>(file: &OffFile, body: impl FnOnce(&mut Engine<'_, '_>) -> Result<R>) -> Result<R> {
    let model = file.model()?;
    let mut arena = AlignedBytes::zeroed(model.arena_bytes() as usize);
    let mut engine = Engine::new(model, arena.as_mut_slice()).or_fail(Kind::Internal, "report this model")?;
    body(&mut engine)
}

/// Copies a sample into the engine's inputs.
///
/// # Errors
/// Lengths differ (a fault of the caller).
pub fn set_inputs(engine: &mut Engine<'_, '_>, sample: &[&[u8]]) -> Result<()> {
    for (i, bytes) in sample.iter().enumerate() {
        let memory = engine.input_mut(i).or_fail(Kind::Internal, "report this model")?;
        if memory.len() != bytes.len() {
            return Err(Failure::new(
                Kind::Internal,
                "input length differs from the model's",
                "report this model",
            ));
        }
        memory.copy_from_slice(bytes);
    }
    Ok(())
}

/// Which samples belong to one sequence, for models that keep their state from one run to the next.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Sequences {
    /// Begin a new sequence after every N samples. Only for a model compiled with --stateful, whose samples are
    /// otherwise the pieces of one sequence.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub reset_every: Option<u32>,
}

impl Sequences {
    /// Samples from one reset of the state to the next; `None` for a model whose samples are independent.
    ///
    /// # Errors
    /// `--reset-every` is given for a model that keeps no state.
    fn length(self, model: &Model<'_>) -> Result<Option<usize>> {
        match (self.reset_every, model.keeps_state()) {
            (None, false) => Ok(None),
            (Some(_), false) => Err(Failure::new(
                Kind::Usage,
                "--reset-every: the model keeps no state from one run to the next",
                "leave --reset-every out: the samples are independent already",
            )),
            (every, true) => Ok(Some(every.map_or(usize::MAX, |n| n as usize))),
        }
    }
}

/// Output bytes of every sample: `[sample][output]`. Samples of a model that keeps its state are the pieces of one
/// sequence on every target, but for what `sequences` says.
///
/// # Errors
/// The device fails or does not answer; `sequences` does not fit the model.
pub fn run(
    ui: &Ui,
    file: &OffFile,
    inputs: &Inputs,
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

/// As [`run`]; each sample's outputs go to `sink` in the samples' order, so that not all of them are in memory at once.
///
/// # Errors
/// As [`run`], and what `sink` returns.
pub fn run_each(
    ui: &Ui,
    file: &OffFile,
    inputs: &Inputs,
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
    inputs: &Inputs,
    target: &Target,
    length: Option<usize>,
    bar: &indicatif::ProgressBar,
    sink: &mut dyn FnMut(Vec<Vec<u8>>) -> Result<()>,
) -> Result<()> {
    let mut device = connect(target)?;
    load(device.as_mut(), file)?;
    for i in 0..inputs.count() {
        if i > 0 && length.is_some_and(|n| i % n == 0) {
            // A model that was just opened has no state.
            device.reopen().map_err(|e| device_failure(&e, DEVICE_HELP))?;
            select(device.as_mut(), file)?;
        }
        sink(device.run(&inputs.sample(i)).or_fail(Kind::Device, DEVICE_HELP)?)?;
        bar.inc(1);
    }
    Ok(())
}

/// What to do when a device fails.
pub const DEVICE_HELP: &str = "see `offshoot target list`; `offshoot target probe` tells what answers";

/// Reaches a target.
///
/// # Errors
/// It is missing or does not answer.
pub fn connect(target: &Target) -> Result<Box<dyn Device>> {
    offshoot_target::open(target).or_fail(Kind::Device, DEVICE_HELP)
}

/// Loads a model into a device, ready to run the network that was asked for.
///
/// # Errors
/// It does not fit, or the device fails.
pub fn load(device: &mut dyn Device, file: &OffFile) -> Result<()> {
    device.load(file.bytes()).map_err(|e| device_failure(&e, DEVICE_HELP))?;
    select(device, file)
}

/// Goes over to the network that was asked for.
fn select(device: &mut dyn Device, file: &OffFile) -> Result<()> {
    if file.network() > 0 {
        device.select(file.network()).map_err(|e| device_failure(&e, DEVICE_HELP))?;
    }
    Ok(())
}

/// What a device's error means; `help` if it is not that the model does not fit.
pub fn device_failure(error: &TargetError, help: &str) -> Failure {
    let (kind, help) = match error {
        TargetError::DoesNotFit { .. } => (Kind::Budget, ROOM_HELP),
        _ => (Kind::Device, help),
    };
    Failure::new(kind, error.to_string(), help)
}

/// What to do when a board has no room.
const ROOM_HELP: &str = "choose a larger board (`offshoot target list`), or make the model smaller: `compile --prefer ram` or `flash`, \
    `compress`";

/// Samples that are run before their outputs are handed on, for each thread.
const WAVE: usize = 64;

/// `length`: samples from one reset of the state to the next. A sequence is run by one thread, in order.
fn on_host(
    file: &OffFile,
    inputs: &Inputs,
    length: Option<usize>,
    bar: &indicatif::ProgressBar,
    sink: &mut dyn FnMut(Vec<Vec<u8>>) -> Result<()>,
) -> Result<()> {
    let (count, threads) = (inputs.count(), rayon::current_num_threads());
    if length.is_some_and(|n| n >= count) {
        return with_engine(file, |engine| {
            for i in 0..count {
                sink(run_sample(engine, inputs, i)?)?;
                bar.inc(1);
            }
            Ok(())
        });
    }
    // A chunk a task: an engine and its arena are made once for many samples. A chunk holds whole sequences.
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
                        let out = run_sample(engine, inputs, i);
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

fn run_sample(engine: &mut Engine<'_, '_>, inputs: &Inputs, index: usize) -> Result<Vec<Vec<u8>>> {
    set_inputs(engine, &inputs.sample(index))?;
    engine.run().or_fail(Kind::Internal, "report this model")?;
    read_outputs(engine)
}

fn read_outputs(engine: &Engine<'_, '_>) -> Result<Vec<Vec<u8>>> {
    (0..engine.model().output_count())
        .map(|o| engine.output(o).map(<[u8]>::to_vec).or_fail(Kind::Internal, "report this model"))
        .collect()
}
