//! The interface of every device.

use crate::TargetError;
use offshoot::format::record::Tag;
use offshoot::wire::TrainStepReport;

/// Runs models. Tensors are bytes as in the arena: channels-last, little endian.
pub trait Device {
    /// Name and memory of the device.
    ///
    /// # Errors
    /// The device does not answer.
    fn info(&mut self) -> Result<DeviceInfo, TargetError>;

    /// Loads a `.off` file, signed or not, which the device validates.
    ///
    /// # Errors
    /// The file is not valid or does not fit, or the device does not answer.
    fn load(&mut self, off: &[u8]) -> Result<(), TargetError>;

    /// Selects network `index` of the file for all further calls. A loaded model starts with network 0. Returns the
    /// cost of switching, if the device counts.
    ///
    /// # Errors
    /// [`TargetError::NoModel`]; an error of the device if there is no such network, or the model learns.
    fn select(&mut self, index: usize) -> Result<Option<u64>, TargetError>;

    /// Runs the model once on `inputs`, one slice per input, in order; returns its outputs.
    ///
    /// # Errors
    /// [`TargetError::NoModel`]; [`TargetError::Input`] if the number or a length of the inputs is wrong; an error of
    /// the device.
    fn run(&mut self, inputs: &[&[u8]]) -> Result<Vec<Vec<u8>>, TargetError>;

    /// Runs the model on `inputs` and measures it.
    ///
    /// # Errors
    /// As [`Self::run`].
    fn profile(&mut self, inputs: &[&[u8]]) -> Result<Profile, TargetError>;

    /// Adds modelled cycles ([`crate::cycles`]) to a profile of the same inputs.
    ///
    /// # Errors
    /// [`TargetError::NoCycles`] if there is no timing model, or what it needs is missing; any error of the device.
    fn model_cycles(&mut self, inputs: &[&[u8]], profile: &mut Profile) -> Result<(), TargetError> {
        let _ = (inputs, profile);
        Err(TargetError::NoCycles("there is no timing model of this target's core".into()))
    }

    /// Runs the model on `inputs`; returns the CRC-32 (zlib's) of every operator's output, in the order of the file.
    ///
    /// # Errors
    /// As [`Self::run`].
    fn digests(&mut self, inputs: &[&[u8]]) -> Result<Vec<u32>, TargetError>;

    /// Starts learning from the weights of the file. Runs then use the learned weights.
    ///
    /// # Errors
    /// [`TargetError::NoModel`]; an error of the device if the model has no learning plan, or the arena is too small.
    fn begin_learning(&mut self) -> Result<(), TargetError>;

    /// Takes one train step on `inputs` with class `label`.
    ///
    /// # Errors
    /// As [`Self::run`]; also if there is no such class, or learning has not started.
    fn learn(&mut self, inputs: &[&[u8]], label: u16) -> Result<TrainStepReport, TargetError>;

    /// Takes one train step on `inputs` towards real `targets`, one for each element of the first output. [`Self::scores`] then
    /// gives the predictions from before the step.
    ///
    /// # Errors
    /// As [`Self::run`]; also if the model has no head that learns real targets, or learning has not started.
    fn fit(&mut self, inputs: &[&[u8]], targets: &[f32]) -> Result<TrainStepReport, TargetError>;

    /// All bytes that learning has changed. They are equal on all devices that learned the same samples.
    ///
    /// # Errors
    /// As [`Self::learn`].
    fn learned(&mut self) -> Result<Vec<u8>, TargetError>;

    /// Scores of the classes by the model's classifier head, after a run.
    ///
    /// # Errors
    /// As [`Self::learn`]; also if the model has no classifier head.
    fn scores(&mut self) -> Result<Vec<f32>, TargetError>;

    /// Sets the number of active blocks of a boosted head, for runs and train steps.
    ///
    /// # Errors
    /// As [`Self::learn`]; also if the head has fewer blocks, or is not boosted.
    fn set_active_blocks(&mut self, blocks: u8) -> Result<(), TargetError>;

    /// Replaces what was learned by what [`Self::learned`] returned for the same model; learning must have begun.
    ///
    /// # Errors
    /// As [`Self::learn`]; also if the bytes do not belong to the model. The device is then as before its first step.
    fn write_learned(&mut self, learned: &[u8]) -> Result<(), TargetError>;

    /// Stretches or shortens the plan's course of learning to `steps` steps; 0 goes back to the plan's.
    ///
    /// # Errors
    /// As [`Self::learn`].
    fn set_course(&mut self, steps: u32) -> Result<(), TargetError>;

    /// Saves what was learned in the device's flash; returns the number of the save. A model that is loaded again
    /// starts with it.
    ///
    /// # Errors
    /// As [`Self::learn`]; also if there is no flash, or what was learned does not fit.
    fn save(&mut self) -> Result<u32, TargetError>;

    /// Restores what was saved with this model, whether learning has started or not; returns the number of the save.
    ///
    /// # Errors
    /// As [`Self::save`]; also if nothing was saved with this model.
    fn restore(&mut self) -> Result<u32, TargetError>;

    /// Goes back to the weights of the file; with `flash`, also discards what is saved.
    ///
    /// # Errors
    /// As [`Self::learn`]; also if there is no flash.
    fn forget(&mut self, flash: bool) -> Result<(), TargetError>;

    /// Opens the model again, as the device does when it boots, and restores what was saved. Returns the number of the
    /// save, or 0 if there is none.
    ///
    /// # Errors
    /// As [`Self::load`].
    fn reopen(&mut self) -> Result<u32, TargetError>;

    /// Cost of the last run, if the device counts.
    fn run_count(&self) -> Option<u64>;

    /// High-water mark of the arena in bytes, in the last run of a model that learns, without what was learned.
    fn arena_used(&self) -> u32;
}

/// Name and memory of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its name.
    pub board: String,
    /// Bytes for a model (the larger of RAM and flash); `None` for the host, which has no limit.
    pub model_bytes: Option<u64>,
    /// Bytes for the arena; `None` for the host, which has no limit.
    pub arena_bytes: Option<u64>,
}

/// Cost of a run. A device counts in one unit; the others are `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Name of the device.
    pub target: String,
    /// Instructions of the whole run, without an observer.
    pub instructions: Option<u64>,
    /// Cycles of the whole run.
    pub cycles: Option<u64>,
    /// The fewest and the most cycles of the whole run by the timing model, where the manual leaves them open.
    pub cycles_range: Option<(u64, u64)>,
    /// Modelled cycles spent waiting for flash.
    pub flash_waits: Option<u64>,
    /// Wall-clock nanoseconds of the whole run.
    pub nanoseconds: Option<u64>,
    /// Cost of every operator, in the order of the file.
    pub operators: Vec<OperatorProfile>,
    /// Bytes of the arena that the model uses.
    pub arena_bytes: u64,
    /// Deepest stack of the run in bytes; `None` if the device cannot tell.
    pub stack_bytes: Option<u64>,
    /// Bytes of the firmware in flash, code and constants; `None` if unknown.
    pub code_bytes: Option<u64>,
    /// Bytes of the `.off` file.
    pub model_bytes: u64,
}

/// Cost of an operator.
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
    /// Deepest stack in bytes.
    pub stack_bytes: Option<u64>,
}
