//! [`Operator`]: what every operator says of itself.

use offshoot_base::{Limits, Memory};
use offshoot_base::{Rule, Span};
use offshoot_format::record::{DType, Window, WindowRepr};

/// Most work that the operators of a file may do together in one run. Enough for a network four times ResNet-50, and an end to
/// what a hostile file can ask for.
pub const MAX_WORK: u64 = 1 << 34;

/// Everything there is to know of an operator's record.
pub trait Operator {
    /// Holds the record against every rule; gives an upper bound of the steps that a run takes (multiply-accumulates, padding
    /// included, or elements touched).
    ///
    /// # Errors
    /// The rule that the record breaks.
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule>;

    /// The arena bytes that a run writes, from the first to the last.
    ///
    /// # Errors
    /// The rule that the record breaks.
    fn output(&self) -> Result<Span, Rule>;

    /// Computes.
    ///
    /// # Errors
    /// None for a record that [`Self::check`] takes.
    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule>;

    /// Element type of the output. Movements of one-byte elements count as int8, of four-byte ones as float32.
    fn output_dtype(&self) -> DType;

    /// Multiply-accumulates of one run, by the usual definition: only convolutions, fully connected layers, matrix products and
    /// recurrent layers have any. Windows count in full, padding included; sparse weights count as they are stored.
    fn macs(&self) -> u64;

    /// Number of weights, without biases; of sparse ones those that are stored.
    fn weights(&self) -> u64;

    /// Bytes of arena that a run needs beside its input and output. `blobs` is the file's blob section, which only fused row
    /// tiles look at.
    ///
    /// # Errors
    /// The rule that the record breaks.
    fn scratch(&self, blobs: &[u8]) -> Result<u32, Rule>;

    /// How the output may lie over the input. `blobs` as for [`Self::scratch`].
    fn in_place(&self, blobs: &[u8]) -> InPlace;
}

/// How the output of an operator may lie over its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InPlace {
    /// Not at all.
    Apart,
    /// In the same place.
    Same,
    /// At least `below` bytes before the input if the operator computes forwards, `above` bytes after it if backwards.
    Shifted {
        /// Bytes.
        below: u64,
        /// Bytes.
        above: u64,
    },
}

impl InPlace {
    /// From offsets that may not be known.
    pub(crate) fn shifted(offsets: Option<(u64, u64)>) -> Self {
        offsets.map_or(Self::Apart, |(below, above)| Self::Shifted { below, above })
    }
}

/// Elements of the output.
pub(crate) fn outputs(operator: &impl Operator) -> u64 {
    operator.output().map_or(0, |span| (span.len / operator.output_dtype().size()) as u64)
}

/// Positions of a kernel.
pub(crate) fn area(window: WindowRepr) -> u64 {
    let [h, w] = Window::from(window).kernel;
    u64::from(h) * u64::from(w)
}

/// Bytes of a place; its end fits in 32 bits.
pub(crate) fn bytes(span: Span) -> u32 {
    span.len as u32
}

/// The sum of bytes.
pub(crate) fn total<const N: usize>(bytes: [u32; N]) -> Result<u32, Rule> {
    bytes.into_iter().try_fold(0u32, u32::checked_add).ok_or(Rule::ArenaBounds)
}
