//! Errors of files, calls and messages, small enough for a device. The host adds details, such as operator names.

/// Version of the `.off` format that this release writes and reads.
pub const FORMAT_VERSION: u16 = 2;

/// Error of the runtime. Its text says how to fix it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Error {
    /// The bytes do not start with the `.off` magic.
    NotOff,
    /// This runtime does not read the file's format version.
    Version(u16),
    /// The file is shorter or longer than its header says.
    Length,
    /// The checksum does not match: the file is damaged.
    Checksum,
    /// The file or the arena does not start at a multiple of 16 bytes. Data embedded by `offshoot::include_model!`, an
    /// `offshoot::Arena`, and a struct with `#[repr(align(16))]` do.
    Alignment,
    /// The file needs features that this runtime was built without: a bit mask of `offshoot_format::requires`.
    Requires(u16),
    /// The description of an input or output is invalid.
    Io(u8),
    /// The runtime does not know the tag of operator `op`, or was built without that operator.
    UnknownOperator {
        /// Index of the operator.
        op: u16,
    },
    /// The record of operator `op` cannot be decoded.
    Record {
        /// Index of the operator.
        op: u16,
    },
    /// Operator `op` breaks a rule of its kind.
    Invalid {
        /// Index of the operator.
        op: u16,
        /// Which rule.
        rule: Rule,
    },
    /// The given arena is too small.
    ArenaTooSmall {
        /// Bytes the model needs.
        needed: u32,
        /// Bytes of the given arena.
        given: u32,
    },
    /// The model has no such input or output.
    NoSuchTensor,
    /// A boosted head has no such number of blocks.
    NoSuchBlocks {
        /// Number of blocks; 0 without a boosted head.
        blocks: u8,
    },
    /// The input or output has another element type.
    TensorType,
    /// The input or output has another number of elements.
    TensorLength {
        /// Elements of the input or output.
        needed: u32,
        /// Elements given.
        given: u32,
    },
    /// The file has no such network.
    NoSuchNetwork {
        /// Number of networks in the file.
        networks: u16,
    },
    /// Learning record `layer` breaks a rule. `u8::MAX` stands for the part that all layers share.
    Learn {
        /// Index of the record.
        layer: u8,
        /// Which rule.
        rule: Rule,
    },
    /// The learned bytes have another length: another model learned them.
    LearnedLength {
        /// Bytes that the model learns.
        needed: u32,
        /// Bytes given.
        given: u32,
    },
    /// The model has no learning records, or was opened for inference only.
    NotLearning,
    /// The call is not possible while the model learns.
    Learning,
    /// The model has no such class.
    Label {
        /// Number of classes.
        classes: u16,
    },
}

/// The rule that a record breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Rule {
    /// A tensor extends beyond the arena.
    ArenaBounds,
    /// A constant extends beyond the blob section.
    BlobBounds,
    /// An offset is not a multiple of the element size.
    Alignment,
    /// Two tensors overlap that must be disjoint.
    Overlap,
    /// A dimension is zero, too large, or inconsistent with the others.
    Shape,
    /// A kernel size, stride, dilation, padding or group count is invalid.
    Window,
    /// The operator has no kernel for this number format.
    Format,
    /// A scale, shift or bound is out of range.
    Quantisation,
    /// An index in a table points outside its tensor.
    Table,
    /// Weights that only pad an arrangement are not zero.
    Padding,
}

/// Bits of `offshoot_format::requires`, and the cargo features that they stand for.
const FEATURES: [(u16, &str); 3] = [(1, "f32"), (2, "learn"), (4, "nested")];

/// The way out for a file whose checksum holds and whose contents do not.
const MADE_WRONG: &str = ": the program that wrote the file is at fault; compile it again with this release";

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotOff => f.write_str(
                "not an .off file: `offshoot compile` makes one (a signed file needs the feature `signed`)",
            ),
            Self::Version(v) => {
                write!(f, "format version {v}, but this release reads only version {FORMAT_VERSION}: ")?;
                let older = "compile the model again with this release";
                f.write_str(if *v < FORMAT_VERSION { older } else { "use a newer release" })
            }
            Self::Length => f.write_str("file is truncated or has trailing bytes: copy it again, whole"),
            Self::Checksum => f.write_str("checksum mismatch: the file is damaged; copy or compile it again"),
            Self::Alignment => f.write_str(
                "the model or the arena does not start at a multiple of 16 bytes: embed the model with \
                 `offshoot::include_model!` and use an `offshoot::Arena` (both are aligned), or wrap the bytes in a \
                 struct with `#[repr(align(16))]`",
            ),
            Self::Requires(mask) => {
                f.write_str("the file needs cargo features that this runtime was built without:")?;
                for (bit, name) in FEATURES {
                    if mask & bit != 0 {
                        write!(f, " `{name}`")?;
                    }
                }
                let known = FEATURES.iter().fold(0, |all, (bit, _)| all | bit);
                if mask & !known != 0 { write!(f, " {:#06x} (a newer release has them)", mask & !known) } else { Ok(()) }
            }
            Self::Io(i) => write!(f, "the description of input or output {i} is invalid{MADE_WRONG}"),
            Self::UnknownOperator { op } => write!(
                f,
                "operator {op}: this runtime was built without its kind, or is older than the file; \
                 `runtime_features` of `offshoot inspect FILE --json` are the features to build with"
            ),
            Self::Record { op } => write!(f, "operator {op}: record cannot be decoded{MADE_WRONG}"),
            Self::Invalid { op, rule } => write!(f, "operator {op}: breaks rule {rule:?}{MADE_WRONG}"),
            Self::ArenaTooSmall { needed, given } => {
                write!(
                    f,
                    "arena of {given} bytes is too small: the model needs {needed} (a run: `ARENA_BYTES` of \
                     `include_model!`, `Model::arena_bytes`; learning: `Model::train_arena_bytes`)"
                )
            }
            Self::NoSuchTensor => f.write_str(
                "no such input or output: `Model::input_count` and `Model::output_count` say how many there are",
            ),
            Self::NoSuchBlocks { blocks } => {
                write!(f, "the number of active blocks is 1 to {blocks} (`Engine::blocks`); only boosted heads have any")
            }
            Self::TensorType => f.write_str(
                "wrong element type: `Model::input` and `Model::output` say which type the tensor has",
            ),
            Self::TensorLength { needed, given } => {
                write!(f, "the input or output has {needed} elements, but {given} were given")
            }
            Self::Learn { layer: u8::MAX, rule } => write!(f, "learning records break rule {rule:?}{MADE_WRONG}"),
            Self::Learn { layer, rule } => {
                write!(
                    f,
                    "learning record {layer}: breaks rule {rule:?}: compile the model again, or forget what was learned"
                )
            }
            Self::NoSuchNetwork { networks } => write!(f, "no such network: the file has {networks}, numbered from 0"),
            Self::LearnedLength { needed, given } => write!(
                f,
                "{given} learned bytes were given, but this model learns {needed}: another model learned them, or they \
                 are not whole"
            ),
            Self::Learning => f.write_str("not possible while the model learns: use an engine of `Engine::new`"),
            Self::NotLearning => f.write_str(
                "the model does not learn: compile it with `--learn PLAN` and open it with `Engine::learning`",
            ),
            Self::Label { classes } => write!(f, "no such class: the model has {classes}, numbered from 0"),
        }
    }
}

impl core::error::Error for Error {}
