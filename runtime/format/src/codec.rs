//! Encoding of records with postcard. [`Record`] is any one of them.
//!
//! Decoding accepts any bytes and returns a record or `None`. It does not panic, allocate or loop forever. It does not
//! check that a record's values are valid.

use super::decode;
use super::kinds as record;
use super::learn::{LearnHead, LearnLayer, Tap};
use super::nested::NestedHead;
use super::recurrent::Recurrent;
use super::sparse::SparseRepr;
use super::tag::Tag;
use super::types::{IoRepr, OpHeader};
use serde::{Deserialize, Serialize};

/// Number of inputs, outputs and operators: the start of the graph section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct GraphHead {
    pub inputs: u8,
    pub outputs: u8,
    pub ops: u16,
}

/// Defines [`Record`] and its encoding from the list of kinds, each with the cargo feature that enables it. A kind with an attribute
/// is not even part of the enum without its feature: every variant takes a place in the tables of jumps of all images.
macro_rules! records {
    ($($(#[$only:meta])* $kind:ident $feature:literal),* $(,)?) => {
        /// Any operator's record.
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub enum Record {
            $($(#[$only])* $kind(record::$kind)),*
        }

        impl Record {
            /// Kind of the operator.
            pub const fn tag(&self) -> Tag {
                match self {
                    $($(#[$only])* Self::$kind(_) => Tag::$kind),*
                }
            }

            /// Reads a record of this kind. Returns it and the bytes after it, or `None` if the bytes are not such a
            /// record or the kind is not [`built`].
            pub fn decode(tag: Tag, bytes: &[u8]) -> Option<(Self, &[u8])> {
                match tag {
                    $($(#[$only])* Tag::$kind if cfg!(feature = $feature) => {
                        let (r, rest) = decode::take(bytes)?;
                        Some((Self::$kind(r), rest))
                    })*
                    _ => None,
                }
            }

            /// Writes the record without its tag to the front of `out`. Returns the number of bytes written, or `None`
            /// if `out` is too short.
            pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
                match self {
                    $($(#[$only])* Self::$kind(r) => postcard::to_slice(r, out).ok().map(|b| b.len())),*
                }
            }
        }

        /// The cargo feature of this crate that the operator needs.
        const fn feature(tag: Tag) -> &'static str {
            match tag {
                $(Tag::$kind => $feature),*
            }
        }

        $($(#[$only])* impl From<record::$kind> for Record {
            fn from(r: record::$kind) -> Self {
                Self::$kind(r)
            }
        })*

        /// The tag with this number, if this build of the runtime includes its operator. The others cost no flash.
        pub const fn built_tag(number: u8) -> Option<Tag> {
            match number {
                $(n if cfg!(feature = $feature) && n == Tag::$kind as u8 => Some(Tag::$kind),)*
                _ => None,
            }
        }

        /// Whether this build of the runtime includes the operator.
        pub const fn built(tag: Tag) -> bool {
            match tag {
                $(Tag::$kind => cfg!(feature = $feature)),*
            }
        }
    };
}

records! {
    Conv2d "op-conv2d",
    Depthwise "op-depthwise",
    ConvTranspose "op-conv-transpose",
    FullyConnected "op-fully-connected",
    MatMul "op-matmul",
    Pool "op-pool",
    Binary "op-binary",
    Unary "op-unary",
    Lut "op-lut",
    PRelu "op-prelu",
    Requantize "op-requantize",
    Softmax "op-softmax",
    LayerNorm "op-layer-norm",
    Copy "op-copy",
    Fill "op-fill",
    Pad "op-pad",
    Constant "op-constant",
    Resize "op-resize",
    Reduce "op-reduce",
    ArgMax "op-argmax",
    Quantize "op-quantize",
    Dequantize "op-dequantize",
    ConvTiled "op-conv-tiled",
    DepthwisePlanar "op-depthwise-planar",
    ConvWinograd "op-conv-winograd",
    FullyConnectedHuffman "op-fully-connected-huffman",
    ConvPacked "op-conv-packed",
    ConvSingleMultiply "op-conv-single-multiply",
    DepthwiseSingleMultiply "op-depthwise-single-multiply",
    FusedRows "op-fused-rows",
    Recurrent "op-recurrent",
    ConvWeightShared "op-conv-weight-shared",
    DepthwiseWeightShared "op-depthwise-weight-shared",
    FullyConnectedSparse "op-fully-connected-sparse",
    ConvSparse "op-conv-sparse",
    RecurrentSparse "op-recurrent-sparse",
    ConvRowMajor "op-conv-row-major",
    History "op-history",
    Gather "op-gather",
    Scatter "op-scatter",
    TopK "op-top-k",
    Cast "op-cast",
    GridSample "op-grid-sample",
    ConvWeightOnly "op-conv-weight-only",
    Elementary "op-elementary",
    BinaryMath "op-binary-math",
    #[cfg(feature = "op-branch")]
    Branch "op-branch",
    #[cfg(feature = "int16")]
    ConvInt16 "op-conv-int16",
    #[cfg(feature = "int16")]
    BinaryInt16 "op-binary-int16",
    #[cfg(feature = "int16")]
    PoolInt16 "op-pool-int16",
    #[cfg(feature = "int16")]
    SoftmaxInt16 "op-softmax-int16",
    #[cfg(feature = "int16")]
    SigmoidInt16 "op-sigmoid-int16",
    #[cfg(feature = "int16")]
    LutInt16 "op-lut-int16",
    #[cfg(feature = "int16")]
    RequantizeInt16 "op-requantize-int16",
    #[cfg(feature = "int16")]
    QuantizeInt16 "op-quantize-int16",
    #[cfg(feature = "int16")]
    DequantizeInt16 "op-dequantize-int16",
    #[cfg(feature = "int16")]
    ReduceInt16 "op-reduce-int16",
    #[cfg(feature = "op-spectrum")]
    Spectrum "op-spectrum",
    #[cfg(feature = "op-fully-connected-banded")]
    FullyConnectedBanded "op-fully-connected-banded",
    #[cfg(feature = "op-micro-frontend")]
    MicroFrontend "op-micro-frontend",
}

impl Record {
    /// The cargo features of this crate that the record needs, besides `f32`.
    pub fn features(&self) -> impl Iterator<Item = &'static str> + use<> {
        let kernel = match self {
            Self::ConvTiled(r) => Some(r.feature()),
            Self::ConvPacked(r) => Some(r.conv().feature()),
            Self::ConvWeightShared(r) => Some(r.conv().feature()),
            Self::DepthwisePlanar(r) => Some(r.feature()),
            Self::DepthwiseWeightShared(r) => Some(r.planar().feature()),
            Self::FullyConnectedSparse(r) => Some(r.matrix.feature()),
            Self::ConvSparse(r) => Some(r.matrix.feature()),
            Self::ConvSingleMultiply(r) if r.wide => Some("single-multiply-wide"),
            Self::Pool(r) if !r.is_global() => Some("pool-any"),
            Self::RecurrentSparse(r) => r.input.as_ref().map(SparseRepr::feature),
            #[cfg(feature = "op-spectrum")]
            Self::Spectrum(r) => r.feature(),
            _ => None,
        };
        let other = match self {
            Self::RecurrentSparse(r) => {
                r.state.as_ref().map(SparseRepr::feature).filter(|f| kernel != Some(*f))
            }
            _ => None,
        };
        core::iter::once(feature(self.tag())).chain(kernel).chain(other)
    }

    /// The recurrent layer of a dense or sparse recurrent record.
    pub const fn recurrent(&self) -> Option<&Recurrent> {
        match self {
            Self::Recurrent(r) => Some(r),
            Self::RecurrentSparse(r) => Some(&r.layer),
            _ => None,
        }
    }

    /// Where the operator keeps its state between runs, in words of 4 bytes; `None` if it keeps none. The first word is not
    /// 0 if a state is stored.
    pub const fn kept(&self) -> Option<u32> {
        match self {
            Self::History(r) if cfg!(feature = "op-history") => Some(r.kept),
            #[cfg(feature = "op-micro-frontend")]
            Self::MicroFrontend(r) => r.kept,
            Self::Recurrent(r) if cfg!(feature = "op-recurrent") => r.kept,
            Self::RecurrentSparse(r) if cfg!(feature = "op-recurrent-sparse") => r.layer.kept,
            _ => None,
        }
    }

    /// The recurrent layer of a dense or sparse recurrent record, mutable.
    pub const fn recurrent_mut(&mut self) -> Option<&mut Recurrent> {
        match self {
            Self::Recurrent(r) => Some(r),
            Self::RecurrentSparse(r) => Some(&mut r.layer),
            _ => None,
        }
    }
}

/// Upper bound in bytes for a tag, an [`OpHeader`] and any record together.
pub const OP_MAX: usize = 128;

/// Reads the start of the graph section.
pub fn decode_head(bytes: &[u8]) -> Option<(GraphHead, &[u8])> {
    decode::take(bytes)
}

/// Reads an input or output description.
pub fn decode_io(bytes: &[u8]) -> Option<(IoRepr, &[u8])> {
    decode::take(bytes)
}

/// Reads the bytes before a record: its tag as a number, and its header.
pub fn decode_op_header(bytes: &[u8]) -> Option<(u8, OpHeader, &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (header, rest) = decode::take(rest)?;
    Some((tag, header, rest))
}

/// Reads the start of the learning records.
pub fn decode_learn_head(bytes: &[u8]) -> Option<(LearnHead, &[u8])> {
    decode::take(bytes)
}

/// Reads the learning record of a layer.
pub fn decode_learn_layer(bytes: &[u8]) -> Option<(LearnLayer, &[u8])> {
    decode::take(bytes)
}

/// Reads the header of a further network.
pub fn decode_nested_head(bytes: &[u8]) -> Option<(NestedHead, &[u8])> {
    decode::take(bytes)
}

/// Reads a tap.
pub fn decode_tap(bytes: &[u8]) -> Option<(Tap, &[u8])> {
    decode::take(bytes)
}

/// Writes tag, header and record to the front of `out`. Returns the number of bytes written, or `None` if `out` is too
/// short; [`OP_MAX`] bytes always suffice.
pub fn encode_op(header: &OpHeader, record: &Record, out: &mut [u8]) -> Option<usize> {
    let (tag, rest) = out.split_first_mut()?;
    *tag = record.tag() as u8;
    let head = postcard::to_slice(header, rest).ok()?.len();
    let body = record.encode(rest.get_mut(head..)?)?;
    Some(1 + head + body)
}

/// Writes a value of the graph section that is not an operator. Returns the number of bytes written.
pub fn encode<T: Serialize>(value: &T, out: &mut [u8]) -> Option<usize> {
    postcard::to_slice(value, out).ok().map(|b| b.len())
}
