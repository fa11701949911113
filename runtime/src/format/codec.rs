//! Encoding of records: [`Record`] is any of them, postcard its form in the file.
//!
//! Decoding takes any bytes and gives a record or `None`; it does not panic, allocate or loop. A decoded record
//! says nothing about whether its numbers make sense.

use super::learn::{LearnHead, LearnLayer};
use super::record::{self, IoRepr, OpHeader, Tag};
use serde::{Deserialize, Serialize};

/// Number of inputs, outputs and operators: what the graph section begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct GraphHead {
    pub inputs: u8,
    pub outputs: u8,
    pub ops: u16,
}

/// Defines [`Record`] and its encoding from the list of kinds, each with the cargo feature it is behind.
macro_rules! records {
    ($($kind:ident $feature:literal),* $(,)?) => {
        /// Any operator's record.
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub enum Record {
            $($kind(record::$kind)),*
        }

        impl Record {
            /// Kind of the operator.
            pub const fn tag(&self) -> Tag {
                match self {
                    $(Self::$kind(_) => Tag::$kind),*
                }
            }

            /// Reads the record of a kind; gives it and the bytes after it. `None` if the bytes are no such
            /// record or the kind is not [`built`].
            pub fn decode(tag: Tag, bytes: &[u8]) -> Option<(Self, &[u8])> {
                match tag {
                    $(Tag::$kind if cfg!(feature = $feature) => {
                        let (r, rest) = postcard::take_from_bytes(bytes).ok()?;
                        Some((Self::$kind(r), rest))
                    })*
                    _ => None,
                }
            }

            /// Writes the record (without its tag) to the front of `out`; gives the bytes written, or `None`
            /// if there is not enough room.
            pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
                match self {
                    $(Self::$kind(r) => postcard::to_slice(r, out).ok().map(|b| b.len())),*
                }
            }
        }

        $(impl From<record::$kind> for Record {
            fn from(r: record::$kind) -> Self {
                Self::$kind(r)
            }
        })*

        /// Whether this build of the runtime has the operator.
        pub const fn built(tag: Tag) -> bool {
            match tag {
                $(Tag::$kind => cfg!(feature = $feature)),*
            }
        }
    };
}

records! {
    Conv2d "op-conv",
    Depthwise "op-conv",
    ConvTranspose "op-conv",
    FullyConnected "op-matmul",
    MatMul "op-matmul",
    Pool "op-pool",
    Binary "op-elementwise",
    Unary "op-elementwise",
    Lut "op-elementwise",
    PRelu "op-elementwise",
    Requantize "op-elementwise",
    Softmax "op-norm",
    LayerNorm "op-norm",
    Copy "op-movement",
    Fill "op-movement",
    Pad "op-movement",
    Constant "op-movement",
    Resize "op-resize",
    Reduce "op-reduce",
    ArgMax "op-reduce",
    Quantize "op-quantize",
    Dequantize "op-quantize",
    ConvBlocked "op-blocked",
    DepthwisePlanar "op-blocked",
    ConvWinograd "op-winograd",
    FullyConnectedCoded "op-coded",
    ConvPacked "op-packed",
}

/// Most bytes that a tag, an [`OpHeader`] and any record take.
pub const OP_MAX: usize = 128;

/// Reads what the graph section begins with.
pub fn decode_head(bytes: &[u8]) -> Option<(GraphHead, &[u8])> {
    postcard::take_from_bytes(bytes).ok()
}

/// Reads an input or output description.
pub fn decode_io(bytes: &[u8]) -> Option<(IoRepr, &[u8])> {
    postcard::take_from_bytes(bytes).ok()
}

/// Reads what stands before a record: its tag as a number, and its header.
pub fn decode_op_header(bytes: &[u8]) -> Option<(u8, OpHeader, &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (header, rest) = postcard::take_from_bytes(rest).ok()?;
    Some((tag, header, rest))
}

/// Reads what the learning records begin with.
pub fn decode_learn_head(bytes: &[u8]) -> Option<(LearnHead, &[u8])> {
    postcard::take_from_bytes(bytes).ok()
}

/// Reads the learning record of a layer.
pub fn decode_learn_layer(bytes: &[u8]) -> Option<(LearnLayer, &[u8])> {
    postcard::take_from_bytes(bytes).ok()
}

/// Writes tag, header and record to the front of `out`; gives the bytes written, or `None` if there is not
/// enough room ([`OP_MAX`] always is).
pub fn encode_op(header: &OpHeader, record: &Record, out: &mut [u8]) -> Option<usize> {
    let (tag, rest) = out.split_first_mut()?;
    *tag = record.tag() as u8;
    let head = postcard::to_slice(header, rest).ok()?.len();
    let body = record.encode(rest.get_mut(head..)?)?;
    Some(1 + head + body)
}

/// Writes a value of the graph section that is not an operator; gives the bytes written.
pub fn encode<T: Serialize>(value: &T, out: &mut [u8]) -> Option<usize> {
    postcard::to_slice(value, out).ok().map(|b| b.len())
}
