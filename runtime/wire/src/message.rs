//! What host and device say. The order of variants and fields is the format: append, and raise
//! [`super::PROTOCOL_VERSION`].

use offshoot_base::{Error, Rule};
use serde::{Deserialize, Serialize};

/// Asked by the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request<'a> {
    /// Who are you? Answer: [`Response::Info`].
    Hello,
    /// A model of `len` bytes comes into RAM. Forgets the current one. Answer: [`Response::Ok`].
    LoadBegin {
        /// Length of the `.off` file.
        len: u32,
    },
    /// Bytes of the model. Chunks may come in any order; each is written where it says. Answer: [`Response::Ok`].
    LoadChunk {
        /// Where in the file.
        offset: u32,
        /// At most [`super::CHUNK_MAX`] bytes.
        #[serde(borrow)]
        data: &'a [u8],
    },
    /// The model is complete: check and open it. Answer: [`Response::Model`].
    LoadEnd,
    /// Open the model in the device's flash. Forgets the current one. Answer: [`Response::Model`].
    UseFlash,
    /// Bytes of an input tensor, as it lies in the arena. Answer: [`Response::Ok`].
    WriteInput {
        /// Which input.
        index: u8,
        /// Where in the tensor, bytes.
        offset: u32,
        /// At most [`super::CHUNK_MAX`] bytes.
        #[serde(borrow)]
        data: &'a [u8],
    },
    /// Run the model once. A run consumes the inputs: write them again before the next.
    /// Answer: [`Response::Operator`]s if asked for, then [`Response::Done`].
    Run {
        /// What to observe.
        mode: Mode,
    },
    /// Bytes of an output tensor, as it lies in the arena. Answer: [`Response::Data`].
    ReadOutput {
        /// Which output.
        index: u8,
        /// Where in the tensor, bytes.
        offset: u32,
        /// At most [`super::CHUNK_MAX`].
        len: u16,
    },
    /// Forget the model. Answer: [`Response::Ok`].
    Reset,
    /// Open the model again, to learn, with the weights of its file. Answer: [`Response::Ok`].
    LearnBegin,
    /// One step of learning on the inputs, which it consumes. Answer: [`Response::TrainStep`].
    Learn {
        /// Class of the sample.
        label: u16,
    },
    /// Bytes of what was learned. Answer: [`Response::Data`].
    ReadLearned {
        /// Where in it, bytes.
        offset: u32,
        /// At most [`super::CHUNK_MAX`].
        len: u16,
    },
    /// Go over to another network of the file. Answer: [`Response::Done`] with the cost of it.
    Select {
        /// Its number.
        network: u8,
    },
    /// Save what was learned in flash: it is there when the model is opened again. Answer: [`Response::Stored`].
    Save,
    /// Bring back what was saved in flash for this model, in the place of what was learned since; learning has begun then.
    /// Answer: [`Response::Stored`].
    Restore,
    /// Go back to the weights of the file. Answer: [`Response::Ok`].
    Forget {
        /// Also in flash.
        flash: bool,
    },
    /// Use so many blocks of an answer that is boosted. Answer: [`Response::Ok`].
    Keep {
        /// At least 1.
        blocks: u8,
    },
    /// Bytes of the answer's scores after a run. Answer: [`Response::Data`].
    ReadScores {
        /// Where in them, bytes.
        offset: u32,
        /// At most [`super::CHUNK_MAX`].
        len: u16,
    },
}

/// What to observe during a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Mode {
    /// Nothing: the count of [`Response::Done`] is that of undisturbed inference.
    Plain,
    /// Count and stack of every operator.
    Profile,
    /// CRC-32 of every operator's output.
    Digest,
}

/// Answered by the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response<'a> {
    /// Done as asked.
    Ok,
    /// What this device is.
    #[serde(borrow)]
    Info(Info<'a>),
    /// The model that was opened.
    Model(ModelInfo),
    /// Bytes of an output.
    Data(#[serde(borrow)] &'a [u8]),
    /// An operator has run.
    Operator(OperatorReport),
    /// The run is complete.
    Done(RunReport),
    /// Not done, and why.
    Error(Failure),
    /// A step of learning is done.
    TrainStep(TrainStepReport),
    /// What is in flash now.
    Stored(StoreReport),
}

/// What a device is and has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info<'a> {
    /// Board, as in `target list`.
    pub board: &'a str,
    /// Version of the `.off` format that it reads.
    pub format: u16,
    /// Bytes of RAM for a model that is sent.
    pub model_ram: u32,
    /// Bytes of flash for a model of its own; 0 if it has none.
    pub model_flash: u32,
    /// Address of that flash, for programmers; the emulator is one.
    pub model_flash_address: u32,
    /// Bytes of RAM for the arena.
    pub arena: u32,
    /// What its counts count.
    pub unit: CountUnit,
}

/// What the counts of a device count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CountUnit {
    /// Instructions, exact.
    Instructions,
    /// Cycles of the core.
    Cycles,
    /// Nanoseconds.
    Nanoseconds,
    /// It cannot count: all counts are 0.
    None,
}

/// A model that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Bytes of the file.
    pub len: u32,
    /// CRC-32 of the whole file, as it lies in the device: is it the file that the host has?
    pub crc: u32,
    /// Number of operators.
    pub operators: u16,
    /// Bytes of the arena that it uses.
    pub arena: u32,
    /// Generation of the learned weights that it was opened with, from the device's flash; 0: those of the file.
    pub restored: u32,
}

/// Learned weights in a device's flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreReport {
    /// Which save it was; 0: none.
    pub generation: u32,
    /// Bytes that fit.
    pub capacity: u32,
}

/// What was observed of an operator. Counts exclude the observation itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorReport {
    /// Position in the file.
    pub index: u16,
    /// Number of its kind ([`offshoot_format::record::Tag`]).
    pub tag: u8,
    /// IR value that it completes.
    pub origin: u16,
    /// [`Mode::Profile`]: its cost, in the device's [`CountUnit`]; else 0.
    pub count: u32,
    /// [`Mode::Profile`]: bytes of stack that it used at most; else 0.
    pub stack: u32,
    /// [`Mode::Digest`]: CRC-32 of its output; else 0.
    pub digest: u32,
}

/// What was observed of a whole run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunReport {
    /// [`Mode::Plain`]: cost of the run, in the device's [`CountUnit`]; else 0.
    pub count: u32,
    /// [`Mode::Plain`]: bytes of stack that the run used at most, the engine's own included; else 0.
    pub stack: u32,
    /// [`Mode::Plain`] of a model that learns: high-water mark of the arena, as [`TrainStepReport::arena`]; else 0.
    pub arena: u32,
}

/// What was observed of a step of learning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainStepReport {
    /// The class that the sample was taken for before it was learned; `u16::MAX` if none is known.
    pub guess: u16,
    /// Steps so far.
    pub steps: u32,
    /// Cost of the step, in the device's [`CountUnit`].
    pub count: u32,
    /// Bytes of stack that the step used at most.
    pub stack: u32,
    /// High-water mark of the arena, what is learned left out: bytes up to the last that the step wrote, or that an
    /// input has.
    pub arena: u32,
}

/// Why something was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Failure {
    /// What is wrong.
    pub code: ErrorCode,
    /// The operator concerned, or `u16::MAX`.
    pub operator: u16,
    /// A number that the code explains.
    pub detail: u32,
}

/// What is wrong. The first block mirrors [`Error`], the second is the protocol's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ErrorCode {
    /// Not an `.off` file.
    NotOff,
    /// The format version `detail` is not supported.
    Version,
    /// The file is truncated or has trailing bytes.
    Length,
    /// The file is damaged.
    Checksum,
    /// A buffer is not aligned.
    Alignment,
    /// The device lacks the features `detail`.
    Requires,
    /// Input or output description `detail` is invalid.
    Io,
    /// The operator's kind is unknown.
    UnknownOperator,
    /// The operator's record cannot be decoded.
    Record,
    /// The operator breaks rule number `detail`.
    Invalid,
    /// The model needs an arena of `detail` bytes, which the device does not have.
    ArenaTooSmall,
    /// There is no such input or output.
    NoSuchTensor,
    /// An error of the runtime that this protocol version has no name for.
    Other,

    /// The frame was damaged on the way; nothing was done. Sending it again helps.
    Frame,
    /// The device speaks protocol version `detail`.
    Protocol,
    /// This request needs a model, and none is open.
    NoModel,
    /// The model does not fit into the `detail` bytes of RAM for models.
    ModelTooLarge,
    /// The bytes lie outside the tensor or the model, whose length is `detail`.
    Range,
    /// A chunk came without [`Request::LoadBegin`].
    NotLoading,

    /// Learning record `detail` breaks a rule.
    Learn,
    /// The model does not learn, or learning has not begun.
    NotLearning,
    /// There is no such class: there are `detail`.
    Label,
    /// There is no such network in the file: there are `detail`.
    NoSuchNetwork,
    /// Not while the model learns.
    Learning,
    /// The stack of `detail` bytes was too small: what lies below it was overwritten, and the device has to start anew.
    Stack,
    /// The device has no flash for what is learned.
    NoStore,
    /// Flash holds nothing that was learned with this model.
    NothingStored,
    /// What was learned does not fit the `detail` bytes of flash that a save may take.
    StoreTooSmall,
    /// Flash cannot be read or written, or is worn.
    StoreFault,
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
            Error::NoSuchTensor => Self::new(ErrorCode::NoSuchTensor, 0),
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

const RULES: [Rule; 9] = [
    Rule::ArenaBounds,
    Rule::BlobBounds,
    Rule::Alignment,
    Rule::Overlap,
    Rule::Shape,
    Rule::Window,
    Rule::Format,
    Rule::Quantisation,
    Rule::Table,
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
            ErrorCode::Requires => write!(f, "the device lacks required features {detail:#06x}"),
            ErrorCode::Io => write!(f, "input/output description {detail} is invalid"),
            ErrorCode::UnknownOperator => write!(f, "operator {op}: the device does not know its kind"),
            ErrorCode::Record => Error::Record { op }.fmt(f),
            ErrorCode::Invalid => match RULES.get(detail as usize) {
                Some(&rule) => Error::Invalid { op, rule }.fmt(f),
                None => write!(f, "operator {op}: breaks rule number {detail}"),
            },
            ErrorCode::ArenaTooSmall => {
                write!(f, "the device's arena is too small: the model needs {detail} bytes")
            }
            ErrorCode::NoSuchTensor => Error::NoSuchTensor.fmt(f),
            ErrorCode::Other => f.write_str("the device's runtime reports an error without a name"),
            ErrorCode::Frame => f.write_str("the request was damaged on the way"),
            ErrorCode::Protocol => write!(f, "the device speaks protocol version {detail}"),
            ErrorCode::NoModel => f.write_str("no model is open"),
            ErrorCode::ModelTooLarge => write!(f, "the device has {detail} bytes for a model: too few"),
            ErrorCode::Range => write!(f, "bytes outside of the {detail} there are"),
            ErrorCode::NotLoading => f.write_str("a chunk of a model came before the model's length"),
            ErrorCode::Learn => write!(f, "learning record {detail} breaks a rule"),
            ErrorCode::NotLearning => Error::NotLearning.fmt(f),
            ErrorCode::Label => write!(f, "no such class: there are {detail}"),
            ErrorCode::NoSuchNetwork => write!(f, "no such network: there are {detail}"),
            ErrorCode::Learning => Error::Learning.fmt(f),
            ErrorCode::Stack => {
                write!(
                    f,
                    "its stack of {detail} bytes is too small for this model, and memory was overwritten"
                )
            }
            ErrorCode::NoStore => f.write_str("the device has no flash for what is learned"),
            ErrorCode::NothingStored => {
                f.write_str("its flash holds nothing that was learned with this model")
            }
            ErrorCode::StoreTooSmall => {
                write!(f, "what was learned does not fit the {detail} bytes of flash that a save may take")
            }
            ErrorCode::StoreFault => f.write_str("its flash cannot be read or written, or is worn"),
        }
    }
}

impl core::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PROTOCOL_VERSION;
    use std::{format, vec::Vec};

    /// The bytes of every message. A difference here is another protocol: raise `PROTOCOL_VERSION`.
    #[test]
    fn golden_bytes() {
        assert_eq!(PROTOCOL_VERSION, 4);
        let requests: [(Request<'_>, &[u8]); 18] = [
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
            (Request::Keep { blocks: 3 }, &[16, 3]),
            (Request::ReadScores { offset: 1, len: 2 }, &[17, 1, 2]),
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
        let operator = OperatorReport { index: 1, tag: 2, origin: 3, count: 4, stack: 5, digest: 6 };
        let failure = Failure { code: ErrorCode::NotLoading, operator: 1, detail: 2 };
        let lesson = TrainStepReport { guess: 1, steps: 2, count: 3, stack: 4, arena: 5 };
        let responses: [(Response<'_>, &[u8]); 10] = [
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
            (Response::TrainStep(lesson), &[7, 1, 2, 3, 4, 5]),
            (Response::Stored(StoreReport { generation: 1, capacity: 2 }), &[8, 1, 2]),
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
        // The device may be of another release: what this one reads is nothing to it.
        let version = format!("{}", Failure::from(Error::Version(9)));
        assert!(version.contains("firmware does not read format version 9"), "{version}");
    }
}
