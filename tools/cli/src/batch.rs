//! Runs a model over many samples: on all cores of this machine, or one after another on a device.

use std::sync::atomic::{AtomicBool, Ordering};

use offshoot::{Engine, Model};
use offshoot_data::npy::Array;
use offshoot_target::{Device, Target, TargetError};
use rayon::prelude::*;

use crate::failure::{Context, Failure, Kind, Result};
use crate::files::{AlignedBytes, OffFile};
use crate::port::Port;
use crate::ui::Ui;

/// Inputs of a model, sample by sample, as the bytes that go into the arena.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// One a graph input; each as many samples as the others.
    columns: Vec<Vec<Vec<u8>>>,
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
        Self::checked(columns)
    }

    /// Samples of a model with one input, as bytes.
    ///
    /// # Errors
    /// There is none.
    pub fn single(samples: Vec<Vec<u8>>) -> Result<Self> {
        Self::checked(vec![samples])
    }

    fn checked(columns: Vec<Vec<Vec<u8>>>) -> Result<Self> {
        let count = columns.first().map_or(0, Vec::len);
        if count == 0 {
            return Err(Failure::new(Kind::Shape, "no samples given", "give at least one sample"));
        }
        if columns.iter().any(|c| c.len() != count) {
            let message = "the inputs have different numbers of samples";
            return Err(Failure::new(Kind::Shape, message, "give as many samples of each input"));
        }
        Ok(Self { columns })
    }

    /// Number of samples.
    pub fn count(&self) -> usize {
        self.columns.first().map_or(0, Vec::len)
    }

    /// The first `count` samples.
    #[must_use]
    pub fn head(&self, count: usize) -> Self {
        Self { columns: self.columns.iter().map(|c| c.iter().take(count).cloned().collect()).collect() }
    }

    /// The inputs of one sample.
    pub fn sample(&self, index: usize) -> Vec<&[u8]> {
        self.columns.iter().filter_map(|c| c.get(index)).map(Vec::as_slice).collect()
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

/// Output bytes of every sample: `[sample][output]`.
///
/// # Errors
/// The device fails or does not answer.
pub fn run(ui: &Ui, file: &OffFile, inputs: &Inputs, target: &Target) -> Result<Vec<Vec<Vec<u8>>>> {
    let bar = ui.progress("running", inputs.count() as u64);
    let outputs = match target {
        Target::Host => on_host(file, inputs, &bar),
        _ => {
            let mut device = connect(target)?;
            load(device.as_mut(), file)?;
            (0..inputs.count())
                .map(|i| {
                    let out = device.run(&inputs.sample(i)).or_fail(Kind::Device, DEVICE_HELP);
                    bar.inc(1);
                    out
                })
                .collect()
        }
    };
    bar.finish_and_clear();
    outputs
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
    let failure = |e| device_failure(&e, DEVICE_HELP);
    device.load(file.bytes()).map_err(failure)?;
    if file.network() > 0 {
        device.select(file.network()).map_err(failure)?;
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

fn on_host(file: &OffFile, inputs: &Inputs, bar: &indicatif::ProgressBar) -> Result<Vec<Vec<Vec<u8>>>> {
    let failed = AtomicBool::new(false);
    // A chunk a task: an engine and its arena are made once for many samples.
    let chunk = inputs.count().div_ceil(rayon::current_num_threads() * 8).max(1);
    let starts: Vec<usize> = (0..inputs.count()).step_by(chunk).collect();
    let parts: Vec<Result<Vec<Vec<Vec<u8>>>>> = starts
        .par_iter()
        .map(|&start| {
            with_engine(file, |engine| {
                let end = (start + chunk).min(inputs.count());
                let mut outputs = Vec::with_capacity(end - start);
                for i in start..end {
                    if failed.load(Ordering::Relaxed) {
                        break;
                    }
                    set_inputs(engine, &inputs.sample(i))?;
                    let run = engine.run();
                    if run.is_err() {
                        failed.store(true, Ordering::Relaxed);
                    }
                    run.or_fail(Kind::Internal, "report this model")?;
                    outputs.push(read_outputs(engine)?);
                    bar.inc(1);
                }
                Ok(outputs)
            })
        })
        .collect();
    let mut all = Vec::with_capacity(inputs.count());
    for part in parts {
        all.extend(part?);
    }
    Ok(all)
}

fn read_outputs(engine: &Engine<'_, '_>) -> Result<Vec<Vec<u8>>> {
    (0..engine.model().output_count())
        .map(|o| engine.output(o).map(<[u8]>::to_vec).or_fail(Kind::Internal, "report this model"))
        .collect()
}
