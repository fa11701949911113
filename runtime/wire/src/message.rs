//! Messages of host and device. The order of variants and fields defines the encoding: append only, and raise
//! [`super::PROTOCOL_VERSION`].

use offshoot_base::{Error, Rule};
use serde::{Deserialize, Serialize};

/// Request of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request<'a> {
    /// Asks for a description of the device. Answer: [`Response::Info`].
    Hello,
    /// Announces a model of `len` bytes for RAM. Closes the current model. Answer: [`Response::Ok`].
    LoadBegin {
        /// Length of the `.off` file.
        len: u32,
    },
    /// Bytes of the model. Chunks may come in any order. Answer: [`Response::Ok`].
    LoadChunk {
        /// Offset in the file.
        offset: u32,
        /// At most [`super::CHUNK_MAX`] bytes.
        #[serde(borrow)]
        data: &'a [u8],
    },
    /// The model is complete: check and open it. Answer: [`Response::Model`].
    LoadEnd,
    /// Opens the model in the device's flash. Closes the current model. Answer: [`Response::Model`].
    UseFlash,
    /// Bytes of an input tensor, in the arena's layout. Answer: [`Response::Ok`].
    WriteInput {
        /// Which input.
        index: u8,
        /// Offset in the tensor, bytes.
        offset: u32,
        /// At most [`super::CHUNK_MAX`] bytes.
        #[serde(borrow)]
        data: &'a [u8],
    },
    /// Runs the model once. A run consumes the inputs: write them again before the next.
    /// Answer: [`Response::Operator`]s if the mode asks for them, then [`Response::Done`].
    Run {
        /// What to observe.
        mode: Mode,
    },
    /// Reads bytes of an output tensor, in the arena's layout. Answer: [`Response::Data`].
    ReadOutput {
        /// Which output.
        index: u8,
        /// Offset in the tensor, bytes.
        offset: u32,
        /// At most [`super::CHUNK_MAX`].
        len: u16,
    },
    /// Closes the model. Answer: [`Response::Ok`].
    Reset,
    /// Opens the model again for learning, with the weights of its file. Answer: [`Response::Ok`].
    LearnBegin,
    /// Takes one train step on the inputs, which it consumes. Answer: [`Response::TrainStep`].
    Learn {
        /// Class of the sample.
        label: u16,
    },
    /// Reads bytes of the learned state. Answer: [`Response::Data`].
    ReadLearned {
        /// Offset in the state, bytes.
        offset: u32,
        /// At most [`super::CHUNK_MAX`].
        len: u16,
    },
    /// Switches to another network of the file. Answer: [`Response::Done`] with the cost of the switch.
    Select {
        /// Number of the network.
        network: u8,
    },
    /// Saves the learned state in flash, from which it is restored when the model is opened again. Answer:
    /// [`Response::Stored`].
    Save,
    /// Replaces the learned state by the one saved in flash for this model, and begins learning. Answer:
    /// [`Response::Stored`].
    Restore,
    /// Returns to the weights of the file. Answer: [`Response::Ok`].
    Forget {
        /// Erases the state saved in flash too.
        flash: bool,
    },
    /// Sets the number of active blocks of a boosted classifier head. Answer: [`Response::Ok`].
    ActiveBlocks {
        /// At least 1.
        blocks: u8,
    },
    /// Reads bytes of the classifier head's scores after a run. Answer: [`Response::Data`].
    ReadScores {
        /// Offset in the scores, bytes.
        offset: u32,
        /// At most [`super::CHUNK_MAX`].
        len: u16,
    },
    /// Stretches or shortens the course of learning to so many steps; 0 goes back to the plan's. Answer:
    /// [`Response::Ok`].
    Course {
        /// Steps of the course.
        steps: u32,
    },
    /// Announces a learned state, which replaces the device's: [`Self::LoadChunk`]s at offsets of the state follow, then
    /// [`Self::LoadEnd`], at which the device checks it. If it is refused, or another request comes before its end, the
    /// device goes back to the weights of the file. Answer to each: [`Response::Ok`].
    WriteLearned,
    /// Begins a session of authorised requests ([`crate::authority`]). Answer: [`Response::Challenge`].
    Challenge,
    /// Takes one train step towards real targets on the inputs, which it consumes. Answer: [`Response::TrainStep`].
    Fit {
        /// One float32 for each element of the first output, little-endian.
        #[serde(borrow)]
        targets: &'a [u8],
    },
}

/// What a run measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Mode {
    /// The whole run, whose count in [`Response::Done`] is that of undisturbed inference.
    Plain,
    /// Count and stack of every operator.
    Profile,
    /// CRC-32 of every operator's output.
    Digest,
}

/// Response of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response<'a> {
    /// The request is done.
    Ok,
    /// Description of the device.
    #[serde(borrow)]
    Info(Info<'a>),
    /// The model that was opened.
    Model(ModelInfo),
    /// Bytes of an output, of the learned state, or of scores.
    Data(#[serde(borrow)] &'a [u8]),
    /// An operator has run.
    Operator(OperatorMeasurement),
    /// The run is complete.
    Done(RunReport),
    /// The request failed.
    Error(Failure),
    /// A train step is done.
    TrainStep(TrainStepReport),
    /// State of the flash after the request.
    Stored(StoreReport),
    /// A session has begun; the one before has ended.
    Challenge {
        /// Number that the device has never sent before.
        nonce: [u8; 32],
    },
}

/// Description of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info<'a> {
    /// Name of the board, as in `target list`.
    pub board: &'a str,
    /// Version of the `.off` format that the device reads.
    pub format: u16,
    /// Bytes of RAM for a model sent by the host.
    pub model_ram: u32,
    /// Bytes of flash for a model; 0 if the device has none.
    pub model_flash: u32,
    /// Address of that flash, for programmers and the emulator.
    pub model_flash_address: u32,
    /// Bytes of RAM for the arena.
    pub arena: u32,
    /// Unit of the device's counts.
    pub unit: CountUnit,
}

/// Unit of a device's counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CountUnit {
    /// Exact number of instructions.
    Instructions,
    /// Cycles of the core.
    Cycles,
    /// Nanoseconds.
    Nanoseconds,
    /// The device cannot count: all counts are 0.
    None,
}

/// A model that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Bytes of the file.
    pub len: u32,
    /// CRC-32 of the whole file in the device, for the host to compare with its own.
    pub crc: u32,
    /// Number of operators.
    pub operators: u16,
    /// Bytes of arena that the model uses.
    pub arena: u32,
    /// Generation of the learned weights restored from the device's flash; 0: the file's weights.
    pub restored: u32,
}

/// Learned weights in a device's flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreReport {
    /// Generation of the save; 0: none.
    pub generation: u32,
    /// Bytes that fit.
    pub capacity: u32,
}

/// Measurements of one operator. Counts exclude the measurement itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorMeasurement {
    /// Position in the file.
    pub index: u16,
    /// Number of its kind (`offshoot_format::record::Tag`).
    pub tag: u8,
    /// The IR value that it completes.
    pub origin: u16,
    /// [`Mode::Profile`]: its cost, in the device's [`CountUnit`]; else 0.
    pub count: u32,
    /// [`Mode::Profile`]: most bytes of stack that it used; else 0.
    pub stack: u32,
    /// [`Mode::Digest`]: CRC-32 of its output; else 0.
    pub digest: u32,
}

/// Measurements of a whole run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunReport {
    /// [`Mode::Plain`]: cost of the run, in the device's [`CountUnit`]; else 0.
    pub count: u32,
    /// [`Mode::Plain`]: most bytes of stack that the run used, including the engine's own; else 0.
    pub stack: u32,
    /// [`Mode::Plain`] of a model that learns: high-water mark of the arena as in [`TrainStepReport::arena`]; else 0.
    pub arena: u32,
}

/// Measurements of a train step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainStepReport {
    /// The class predicted before the sample was learned; `u16::MAX` if unknown.
    pub guess: u16,
    /// Steps so far.
    pub steps: u32,
    /// Cost of the step, in the device's [`CountUnit`].
    pub count: u32,
    /// Most bytes of stack that the step used.
    pub stack: u32,
    /// High-water mark of the arena without the learned state: bytes up to the last one that the step wrote or that
    /// belongs to an input.
    pub arena: u32,
    /// The sample was left out, because it is not finite or much farther from the others than is usual.
    pub left_out: bool,
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Failure {
    /// The error.
    pub code: ErrorCode,
    /// The operator concerned, or `u16::MAX`.
    pub operator: u16,
    /// A number whose meaning depends on the code.
    pub detail: u32,
}

/// Kind of a failure. The first block mirrors [`Error`]; the second belongs to the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ErrorCode {
    /// Not an `.off` file.
    NotOff,
    /// The device does not read format version `detail`.
    Version,
    /// The file is truncated or has trailing bytes.
    Length,
    /// The file is damaged.
    Checksum,
    /// A buffer is not aligned.
    Alignment,
    /// The device lacks the features in the bit mask `detail`.
    Requires,
    /// The description of input or output `detail` is invalid.
    Io,
    /// The device does not know the operator's kind.
    UnknownOperator,
    /// The operator's record cannot be decoded.
    Record,
    /// The operator breaks rule number `detail`.
    Invalid,
    /// The model needs an arena of `detail` bytes, more than the device has.
    ArenaTooSmall,
    /// The model has no such input or output.
    NoSuchTensor,
    /// An error of the runtime that this protocol version has no name for.
    Other,

    /// The frame was damaged in transit and nothing was done. Send it again.
    Frame,
    /// The device speaks protocol version `detail`.
    Protocol,
    /// The request needs a model, and none is open.
    NoModel,
    /// The model does not fit into the device's `detail` bytes of RAM for models.
    ModelTooLarge,
    /// The bytes lie outside the tensor or model, whose length is `detail`.
    Range,
    /// A chunk came without [`Request::LoadBegin`].
    NotLoading,

    /// Learning record `detail` breaks a rule.
    Learn,
    /// The model has no learning records, or learning has not begun.
    NotLearning,
    /// The class does not exist: the model has `detail` classes.
    Label,
    /// The network does not exist: the file has `detail` networks.
    NoSuchNetwork,
    /// The request is not possible while the model learns.
    Learning,
    /// The stack of `detail` bytes overflowed and overwrote the memory below it. The device must be restarted.
    Stack,
    /// The device has no flash for learned weights.
    NoStore,
    /// The flash holds no weights learned with this model.
    NothingStored,
    /// The learned weights do not fit the `detail` bytes of flash that a save may take.
    StoreTooSmall,
    /// The flash cannot be read or written, or is worn.
    StoreFault,
    /// The device does not trust the model: reason number `detail` (`offshoot_sign::Refusal::ALL`).
    Untrusted,
    /// The request needs a session with the host's key. `detail` is the counter that the device waits for; 0: there is no session.
    Unauthorised,
    /// The device has no host keys, so there are no sessions.
    NoAuthority,
    /// The learned weights in flash were saved by another device or for another model, or were changed.
    Seal,
}

impl Failure {
    /// A failure without an operator.
    pub const fn new(code: ErrorCode, detail: u32) -> Self {
        Self { code, operator: u16::MAX, detail }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let of = |code, operator, detail| Self { code, operator, detail };
        match error {
            Error::NotOff => Self::new(ErrorCode::NotOff, 0),
            Error::Version(v) => Self::new(ErrorCode::Version, v.into()),
            Error::Length => Self::new(ErrorCode::Length, 0),
            Error::Checksum => Self::new(ErrorCode::Checksum, 0),
            Error::Alignment => Self::new(ErrorCode::Alignment, 0),
            Error::Requires(mask) => Self::new(ErrorCode::Requires, mask.into()),
            Error::Io(index) => Self::new(ErrorCode::Io, index.into()),
            Error::UnknownOperator { op } => of(ErrorCode::UnknownOperator, op, 0),
            Error::Record { op } => of(ErrorCode::Record, op, 0),
            Error::Invalid { op, rule } => of(ErrorCode::Invalid, op, rule_number(rule)),
            Error::ArenaTooSmall { needed, .. } => Self::new(ErrorCode::ArenaTooSmall, needed),
            Error::LearnedLength { .. } => Self::new(ErrorCode::Length, 0),
            Error::NoSuchBlocks { .. } | Error::NoSuchTensor => Self::new(ErrorCode::NoSuchTensor, 0),
            Error::Learn { layer, .. } => Self::new(ErrorCode::Learn, layer.into()),
            Error::NotLearning => Self::new(ErrorCode::NotLearning, 0),
            Error::Label { classes } => Self::new(ErrorCode::Label, classes.into()),
            Error::NoSuchNetwork { networks } => Self::new(ErrorCode::NoSuchNetwork, networks.into()),
            Error::Learning => Self::new(ErrorCode::Learning, 0),
            #[allow(unreachable_patterns)]
            _ => Self::new(ErrorCode::Other, 0),
        }
    }
}

const RULES: [Rule; 10] = [
    Rule::ArenaBounds,
    Rule::BlobBounds,
    Rule::Alignment,
    Rule::Overlap,
    Rule::Shape,
    Rule::Window,
    Rule::Format,
    Rule::Quantisation,
    Rule::Table,
    Rule::Padding,
];

fn rule_number(rule: Rule) -> u32 {
    RULES.iter().position(|r| *r == rule).map_or(u32::MAX, |i| i as u32)
}

impl core::fmt::Display for Failure {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (op, detail) = (self.operator, self.detail);
        match self.code {
            ErrorCode::NotOff => Error::NotOff.fmt(f),
            ErrorCode::Version => write!(
                f,
                "the firmware does not read format version {detail}: compile the model with the firmware's release"
            ),
            ErrorCode::Length => Error::Length.fmt(f),
            ErrorCode::Checksum => Error::Checksum.fmt(f),
            ErrorCode::Alignment => Error::Alignment.fmt(f),
            ErrorCode::Requires => {
                f.write_str("on the device: ")?;
                Error::Requires(detail as u16).fmt(f)
            }
            ErrorCode::Io => Error::Io(u8::try_from(detail).unwrap_or(u8::MAX)).fmt(f),
            ErrorCode::UnknownOperator => write!(f, "operator {op}: the device does not know this kind"),
            ErrorCode::Record => Error::Record { op }.fmt(f),
            ErrorCode::Invalid => match RULES.get(detail as usize) {
                Some(&rule) => Error::Invalid { op, rule }.fmt(f),
                None => write!(f, "operator {op}: breaks rule number {detail}"),
            },
            ErrorCode::ArenaTooSmall => {
                write!(f, "the device's arena is too small: the model needs {detail} bytes")
            }
            ErrorCode::NoSuchTensor => Error::NoSuchTensor.fmt(f),
            ErrorCode::Other => {
                f.write_str("the device's runtime reports an error unknown to this protocol version")
            }
            ErrorCode::Frame => f.write_str("the request was damaged in transit"),
            ErrorCode::Protocol => write!(f, "the device speaks protocol version {detail}"),
            ErrorCode::NoModel => f.write_str("no model is open"),
            ErrorCode::ModelTooLarge => {
                write!(f, "the model does not fit: the device has {detail} bytes for models")
            }
            ErrorCode::Range => write!(f, "the bytes lie outside the tensor or model, which has {detail}"),
            ErrorCode::NotLoading => {
                f.write_str("a chunk of a model came before the request that announces it")
            }
            ErrorCode::Learn => write!(f, "learning record {detail} breaks a rule"),
            ErrorCode::NotLearning => Error::NotLearning.fmt(f),
            ErrorCode::Label => write!(f, "no such class: the model has {detail}"),
            ErrorCode::NoSuchNetwork => write!(f, "no such network: the file has {detail}"),
            ErrorCode::Learning => Error::Learning.fmt(f),
            ErrorCode::Stack => {
                write!(
                    f,
                    "the device's stack of {detail} bytes is too small for this model and overwrote other memory"
                )
            }
            ErrorCode::NoStore => f.write_str("the device has no flash for learned weights"),
            ErrorCode::NothingStored => {
                f.write_str("the device's flash holds no weights learned with this model")
            }
            ErrorCode::StoreTooSmall => {
                write!(f, "the learned weights do not fit the {detail} bytes of flash that a save may take")
            }
            ErrorCode::Untrusted => match detail {
                0 => f.write_str("the device takes only signed models"),
                2 => f.write_str("the device does not trust the key that signed the model"),
                5 => f.write_str("the device takes only models of another name"),
                6 => f.write_str("the model is signed for another target"),
                7 => f.write_str("the model needs a later release of the runtime than the firmware's"),
                8 => {
                    f.write_str("the device has accepted a later release of the model and takes no older one")
                }
                _ => write!(f, "the model's signature does not hold on the device (reason {detail})"),
            },
            ErrorCode::Unauthorised => {
                f.write_str("the device takes this request only with the signature of its host key")
            }
            ErrorCode::NoAuthority => f.write_str("the device has no host keys, so it needs no signatures"),
            ErrorCode::Seal => f.write_str(
                "the learned weights in the device's flash are not those of this device and model",
            ),
            ErrorCode::StoreFault => f.write_str("the device's flash cannot be read or written, or is worn"),
        }
    }
}

impl core::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PROTOCOL_VERSION;
    use std::{format, vec::Vec};

    /// The bytes of every message. If they change, the protocol has changed: raise `PROTOCOL_VERSION`.
    #[test]
    fn golden_bytes() {
        assert_eq!(PROTOCOL_VERSION, 8);
        let requests: [(Request<'_>, &[u8]); 22] = [
            (Request::Hello, &[0]),
            (Request::LoadBegin { len: 300 }, &[1, 0xac, 2]),
            (Request::LoadChunk { offset: 1, data: &[7, 8] }, &[2, 1, 2, 7, 8]),
            (Request::LoadEnd, &[3]),
            (Request::UseFlash, &[4]),
            (Request::WriteInput { index: 1, offset: 2, data: &[3] }, &[5, 1, 2, 1, 3]),
            (Request::Run { mode: Mode::Digest }, &[6, 2]),
            (Request::ReadOutput { index: 1, offset: 2, len: 3 }, &[7, 1, 2, 3]),
            (Request::Reset, &[8]),
            (Request::LearnBegin, &[9]),
            (Request::Learn { label: 300 }, &[10, 0xac, 2]),
            (Request::ReadLearned { offset: 1, len: 2 }, &[11, 1, 2]),
            (Request::Select { network: 3 }, &[12, 3]),
            (Request::Save, &[13]),
            (Request::Restore, &[14]),
            (Request::Forget { flash: true }, &[15, 1]),
            (Request::ActiveBlocks { blocks: 3 }, &[16, 3]),
            (Request::ReadScores { offset: 1, len: 2 }, &[17, 1, 2]),
            (Request::Course { steps: 300 }, &[18, 0xac, 2]),
            (Request::WriteLearned, &[19]),
            (Request::Challenge, &[20]),
            (Request::Fit { targets: &[7, 8, 9, 10] }, &[21, 4, 7, 8, 9, 10]),
        ];
        for (message, bytes) in requests {
            let mut buffer = [0; 64];
            assert_eq!(postcard::to_slice(&message, &mut buffer).unwrap(), bytes, "{message:?}");
            assert_eq!(postcard::from_bytes::<Request<'_>>(bytes).unwrap(), message);
        }
        let info = Info {
            board: "b",
            format: 1,
            model_ram: 2,
            model_flash: 3,
            model_flash_address: 4,
            arena: 5,
            unit: CountUnit::Cycles,
        };
        let operator = OperatorMeasurement { index: 1, tag: 2, origin: 3, count: 4, stack: 5, digest: 6 };
        let failure = Failure { code: ErrorCode::NotLoading, operator: 1, detail: 2 };
        let report = TrainStepReport { guess: 1, steps: 2, count: 3, stack: 4, arena: 5, left_out: true };
        let challenge: Vec<u8> = [9].into_iter().chain([7; 32]).collect();
        let responses: [(Response<'_>, &[u8]); 12] = [
            (Response::Ok, &[0]),
            (Response::Info(info), &[1, 1, b'b', 1, 2, 3, 4, 5, 1]),
            (
                Response::Model(ModelInfo { len: 1, crc: 2, operators: 3, arena: 4, restored: 5 }),
                &[2, 1, 2, 3, 4, 5],
            ),
            (Response::Data(&[9]), &[3, 1, 9]),
            (Response::Operator(operator), &[4, 1, 2, 3, 4, 5, 6]),
            (Response::Done(RunReport { count: 1, stack: 2, arena: 3 }), &[5, 1, 2, 3]),
            (Response::Error(failure), &[6, 18, 1, 2]),
            (Response::Error(Failure::new(ErrorCode::Stack, 3)), &[6, 24, 0xff, 0xff, 3, 3]),
            (Response::TrainStep(report), &[7, 1, 2, 3, 4, 5, 1]),
            (Response::Stored(StoreReport { generation: 1, capacity: 2 }), &[8, 1, 2]),
            (Response::Challenge { nonce: [7; 32] }, &challenge),
            (Response::Error(Failure::new(ErrorCode::Seal, 3)), &[6, 32, 0xff, 0xff, 3, 3]),
        ];
        for (message, bytes) in responses {
            let mut buffer = [0; 64];
            assert_eq!(postcard::to_slice(&message, &mut buffer).unwrap(), bytes, "{message:?}");
            assert_eq!(postcard::from_bytes::<Response<'_>>(bytes).unwrap(), message);
        }
    }

    #[test]
    fn a_failure_says_what_the_error_said() {
        let errors = [
            Error::NotOff,
            Error::Length,
            Error::Checksum,
            Error::Io(3),
            Error::Record { op: 4 },
            Error::NoSuchTensor,
        ];
        let words: Vec<_> =
            errors.into_iter().map(|e| (format!("{e}"), format!("{}", Failure::from(e)))).collect();
        for (error, failure) in words {
            assert_eq!(error, failure);
        }
        for rule in RULES {
            let error = Error::Invalid { op: 12, rule };
            assert_eq!(format!("{error}"), format!("{}", Failure::from(error)));
        }
        // The device may run another release, so the versions that this one reads do not matter.
        let version = format!("{}", Failure::from(Error::Version(9)));
        assert!(version.contains("firmware does not read format version 9"), "{version}");
    }
}
