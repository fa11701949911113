//! The trait [`Operator`]: all that the runtime knows about an operator.

use offshoot_base::{Limits, Memory, Rule, Span};
use offshoot_format::record::{DType, Window, WindowRepr};

/// Limit on the total work of a file's operators in one run. It allows four times ResNet-50 and bounds the time that a
/// hostile file can take.
pub const MAX_WORK: u64 = 1 << 34;

/// An operator's record: its rules, its output, how it runs, and its cost.
pub trait Operator {
    /// Checks the record against every rule. Returns an upper bound on the steps of a run: multiply-accumulates,
    /// including those on padding, or elements touched.
    ///
    /// # Errors
    /// The rule that the record breaks.
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule>;

    /// The arena bytes that a run writes, from the first to the last.
    ///
    /// # Errors
    /// The rule that the record breaks.
    fn output(&self) -> Result<Span, Rule>;

    /// Computes the output.
    ///
    /// # Errors
    /// None for a record that [`Self::check`] accepts.
    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule>;

    /// Element type of the output. Moved elements of one byte count as int8, of four bytes as float32.
    fn output_dtype(&self) -> DType;

    /// Multiply-accumulates of one run, by the usual definition: only convolutions, fully connected layers, matrix
    /// products and recurrent layers have any. Windows count in full, padding included. Sparse weights count as stored.
    fn macs(&self) -> u64;

    /// Number of weights, without biases. Sparse weights count as stored.
    fn weights(&self) -> u64;

    /// Bytes of arena that a run needs besides its input and output. `blobs` is the file's blob section; only fused row
    /// tiles read it.
    ///
    /// # Errors
    /// The rule that the record breaks.
    fn scratch(&self, blobs: &[u8]) -> Result<u32, Rule>;

    /// How the output may overlap the input. `blobs` as for [`Self::scratch`].
    fn in_place(&self, blobs: &[u8]) -> InPlace;
}

/// How the output of an operator may overlap its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InPlace {
    /// They must be disjoint.
    Apart,
    /// They may be the same.
    Same,
    /// In-place offsets: the output may start at least `below` bytes before the input if the operator computes
    /// forwards, or at least `above` bytes after it if backwards.
    Shifted {
        /// Bytes before the input.
        below: u64,
        /// Bytes after the input.
        above: u64,
    },
}

impl InPlace {
    /// [`Self::Shifted`] by these offsets, or [`Self::Apart`] if there are none.
    pub(crate) fn shifted(offsets: Option<(u64, u64)>) -> Self {
        offsets.map_or(Self::Apart, |(below, above)| Self::Shifted { below, above })
    }
}

/// Elements of the output.
pub(crate) fn outputs(operator: &impl Operator) -> u64 {
    operator.output().map_or(0, |span| (span.len / operator.output_dtype().size()) as u64)
}

/// Number of kernel positions.
pub(crate) fn area(window: WindowRepr) -> u64 {
    let [h, w] = Window::from(window).kernel;
    u64::from(h) * u64::from(w)
}

/// Length in bytes, which fits in 32 bits.
pub(crate) fn bytes(span: Span) -> u32 {
    span.len as u32
}

/// Sum of byte counts.
pub(crate) fn total<const N: usize>(bytes: [u32; N]) -> Result<u32, Rule> {
    bytes.into_iter().try_fold(0u32, u32::checked_add).ok_or(Rule::ArenaBounds)
}
