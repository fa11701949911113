//! What every device does.

use crate::TargetError;
use offshoot::format::record::Tag;
use offshoot::wire::TrainStepReport;

/// Runs models. Tensors are bytes as they lie in the arena: channels last, little endian.
pub trait Device {
    /// What it is and has.
    ///
    /// # Errors
    /// If it cannot be reached.
    fn info(&mut self) -> Result<DeviceInfo, TargetError>;

    /// Loads a `.off` file; the device checks all of it.
    ///
    /// # Errors
    /// If the file is not valid, does not fit, or the device cannot be reached.
    fn load(&mut self, off: &[u8]) -> Result<(), TargetError>;

    /// Goes over to network `index` of the file: what comes is for it. A model that is loaded begins with the first. Gives the
    /// count of that, where the device counts.
    ///
    /// # Errors
    /// [`TargetError::NoModel`], or whatever the device says: there is no such network, or the model learns.
    fn select(&mut self, index: usize) -> Result<Option<u64>, TargetError>;

    /// Runs the model once on `inputs` (one slice an input, in order); gives its outputs.
    ///
    /// # Errors
    /// [`TargetError::NoModel`], [`TargetError::Input`] if number or lengths of inputs do not fit, or whatever the
    /// device says.
    fn run(&mut self, inputs: &[&[u8]]) -> Result<Vec<Vec<u8>>, TargetError>;

    /// Runs the model on `inputs` and measures it.
    ///
    /// # Errors
    /// As [`Self::run`].
    fn profile(&mut self, inputs: &[&[u8]]) -> Result<Profile, TargetError>;

    /// Adds modelled cycles ([`crate::cycles`]) to a profile of the same inputs.
    ///
    /// # Errors
    /// [`TargetError::NoCycles`] where there is no model, or what it needs is missing; whatever goes wrong on the way.
    fn model_cycles(&mut self, inputs: &[&[u8]], profile: &mut Profile) -> Result<(), TargetError> {
        let _ = (inputs, profile);
        Err(TargetError::NoCycles("this target has no model of its core".into()))
    }

    /// Runs the model on `inputs`; gives the CRC-32 (zlib's) of every operator's output, in their order in the file.
    ///
    /// # Errors
    /// As [`Self::run`].
    fn digests(&mut self, inputs: &[&[u8]]) -> Result<Vec<u32>, TargetError>;

    /// Lets the model learn, from the weights of its file. Runs then use the weights that were learned.
    ///
    /// # Errors
    /// [`TargetError::NoModel`], or whatever the device says: nothing of the model learns, or the arena is too small.
    fn begin_learning(&mut self) -> Result<(), TargetError>;

    /// One step of learning: the class of `inputs` is `label`.
    ///
    /// # Errors
    /// As [`Self::run`]; there is no such class; learning has not begun.
    fn learn(&mut self, inputs: &[&[u8]], label: u16) -> Result<TrainStepReport, TargetError>;

    /// All bytes that learning has changed: equal on all devices that learned the same.
    ///
    /// # Errors
    /// As [`Self::learn`].
    fn learned(&mut self) -> Result<Vec<u8>, TargetError>;

    /// Scores of the classes as the model's answer gives them, after a run.
    ///
    /// # Errors
    /// As [`Self::learn`]; the model has no answer.
    fn scores(&mut self) -> Result<Vec<f32>, TargetError>;

    /// Uses so many blocks of an answer that is boosted, in runs and steps.
    ///
    /// # Errors
    /// As [`Self::learn`]; there are not so many.
    fn keep(&mut self, blocks: u8) -> Result<(), TargetError>;

    /// Saves what was learned in the device's flash; gives the save's number. It is there when the model is loaded again.
    ///
    /// # Errors
    /// As [`Self::learn`]; there is no flash, or what was learned does not fit.
    fn save(&mut self) -> Result<u32, TargetError>;

    /// Brings back what was saved with this model, learning begun or not; gives the save's number.
    ///
    /// # Errors
    /// As [`Self::save`]; there is nothing of this model.
    fn restore(&mut self) -> Result<u32, TargetError>;

    /// Goes back to the weights of the file; with `flash` also what is saved.
    ///
    /// # Errors
    /// As [`Self::learn`]; there is no flash.
    fn forget(&mut self, flash: bool) -> Result<(), TargetError>;

    /// Opens the model again, as the device does when it boots: with what was saved, if anything was; gives the save's number, or 0.
    ///
    /// # Errors
    /// As [`Self::load`].
    fn reopen(&mut self) -> Result<u32, TargetError>;

    /// Cost of the last run, if the device counts.
    fn run_count(&self) -> Option<u64>;

    /// High-water mark of the arena in the last run of a model that learns: bytes, what was learned left out.
    fn arena_used(&self) -> u32;
}

/// What a device is and has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its name.
    pub board: String,
    /// Bytes there are for a model (the larger of RAM and flash); `None`: as many as the host has.
    pub model_bytes: Option<u64>,
    /// Bytes there are for the arena; `None`: as many as the host has.
    pub arena_bytes: Option<u64>,
}

/// What a run cost. A device counts in one unit; the others are `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Name of the device.
    pub target: String,
    /// Instructions of the whole run, undisturbed by measuring.
    pub instructions: Option<u64>,
    /// Cycles of the whole run.
    pub cycles: Option<u64>,
    /// Of modelled cycles, those that wait for flash.
    pub flash_waits: Option<u64>,
    /// Wall-clock nanoseconds of the whole run.
    pub nanoseconds: Option<u64>,
    /// Every operator, in the order of the file.
    pub operators: Vec<OperatorProfile>,
    /// Bytes of the arena that the model uses.
    pub arena_bytes: u64,
    /// Most bytes of stack that the run used; `None` if the device cannot tell.
    pub stack_bytes: Option<u64>,
    /// Bytes of flash that the firmware takes, code and constants; `None` if unknown.
    pub code_bytes: Option<u64>,
    /// Bytes of the `.off` file.
    pub model_bytes: u64,
}

/// What an operator cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorProfile {
    /// Position in the file.
    pub index: u16,
    /// Kind.
    pub tag: Tag,
    /// IR value that it completes, or `u16::MAX`.
    pub origin: u16,
    /// Instructions.
    pub instructions: Option<u64>,
    /// Cycles.
    pub cycles: Option<u64>,
    /// Wall-clock nanoseconds.
    pub nanoseconds: Option<u64>,
    /// Most bytes of stack that it used.
    pub stack_bytes: Option<u64>,
}
