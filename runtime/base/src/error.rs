//! What can be wrong with a file, a call or a message. Small enough for a device; the host adds the words.

/// Version of the `.off` format that this release writes and reads.
pub const FORMAT_VERSION: u16 = 2;

/// Error of the runtime. Its text says what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Error {
    /// The bytes do not begin with the `.off` magic.
    NotOff,
    /// The format version is not one this runtime reads.
    Version(u16),
    /// The file is shorter or longer than it says.
    Length,
    /// The checksum does not match: the file was damaged.
    Checksum,
    /// The file or the arena does not begin at a multiple of 16. [`crate::include_model!`] and [`crate::Arena`] do; so does
    /// a struct with `#[repr(align(16))]`.
    Alignment,
    /// The header asks for something this runtime was built without (bit mask of `format::requires`).
    Requires(u16),
    /// An input or output description is not possible.
    Io(u8),
    /// Operator `op` has a tag this runtime does not know or was built without.
    UnknownOperator {
        /// Index of the operator.
        op: u16,
    },
    /// Operator `op` cannot be decoded.
    Record {
        /// Index of the operator.
        op: u16,
    },
    /// Operator `op` breaks one of the rules of its kind.
    Invalid {
        /// Index of the operator.
        op: u16,
        /// Which rule.
        rule: Rule,
    },
    /// The arena handed over is too small.
    ArenaTooSmall {
        /// Bytes the model needs.
        needed: u32,
        /// Bytes there are.
        given: u32,
    },
    /// There is no such input or output.
    NoSuchTensor,
    /// The input or output has another element type.
    TensorType,
    /// The input or output has another number of elements.
    TensorLength {
        /// Elements it has.
        needed: u32,
        /// Elements there are.
        given: u32,
    },
    /// There is no such network in the file.
    NoSuchNetwork {
        /// Number of networks.
        networks: u16,
    },
    /// Learning record `layer` (or what all share: `u8::MAX`) breaks a rule.
    Learn {
        /// Index of the record.
        layer: u8,
        /// Which rule.
        rule: Rule,
    },
    /// The model does not learn, or was not opened to.
    NotLearning,
    /// Not while the model learns.
    Learning,
    /// There is no such class.
    Label {
        /// Number of classes.
        classes: u16,
    },
}

/// Rule that a record broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Rule {
    /// A tensor reaches beyond the arena.
    ArenaBounds,
    /// A constant reaches beyond the blob section.
    BlobBounds,
    /// An offset is not a multiple of the element size.
    Alignment,
    /// Two tensors overlap that must not.
    Overlap,
    /// A dimension is zero, too large, or does not fit the others.
    Shape,
    /// A kernel, stride, dilation, padding or group count is not possible.
    Window,
    /// A number format that this operator has no kernel for.
    Format,
    /// A scale, shift or bound outside its range.
    Quantisation,
    /// An index in a table points outside its tensor.
    Table,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotOff => f.write_str("not an .off file"),
            Self::Version(v) => {
                write!(f, "format version {v}, and this release reads version {FORMAT_VERSION} only: ")?;
                let older = "compile the model again with this release";
                f.write_str(if *v < FORMAT_VERSION { older } else { "use a newer release" })
            }
            Self::Length => f.write_str("file is truncated or has trailing bytes"),
            Self::Checksum => f.write_str("checksum mismatch: the file is damaged"),
            Self::Alignment => f.write_str(
                "the model or the arena does not begin at a multiple of 16 bytes: embed the model with \
                 `offshoot::include_model!` and use an `offshoot::Arena` (both are aligned), or wrap the bytes in a struct with \
                 `#[repr(align(16))]`",
            ),
            Self::Requires(m) => write!(f, "runtime lacks required features {m:#06x}"),
            Self::Io(i) => write!(f, "input/output description {i} is invalid"),
            Self::UnknownOperator { op } => write!(f, "operator {op}: unknown kind"),
            Self::Record { op } => write!(f, "operator {op}: record cannot be decoded"),
            Self::Invalid { op, rule } => write!(f, "operator {op}: breaks rule {rule:?}"),
            Self::ArenaTooSmall { needed, given } => {
                write!(f, "arena of {given} bytes is too small: the model needs {needed} (`ARENA_BYTES` of `include_model!`)")
            }
            Self::NoSuchTensor => f.write_str("no such input or output"),
            Self::TensorType => f.write_str(
                "the input or output has another element type: `Model::input` and `Model::output` say which",
            ),
            Self::TensorLength { needed, given } => {
                write!(f, "the input or output has {needed} elements, {given} were given")
            }
            Self::Learn { layer: u8::MAX, rule } => write!(f, "learning records: break rule {rule:?}"),
            Self::Learn { layer, rule } => write!(f, "learning record {layer}: breaks rule {rule:?}"),
            Self::NoSuchNetwork { networks } => write!(f, "no such network: there are {networks}"),
            Self::Learning => f.write_str("not while the model learns"),
            Self::NotLearning => f.write_str("the model does not learn"),
            Self::Label { classes } => write!(f, "no such class: there are {classes}"),
        }
    }
}

impl core::error::Error for Error {}
