//! Types shared by several families of records: element types, arithmetic, windows, inputs and outputs.

use serde::{Deserialize, Serialize};

/// The header before every record.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpHeader {
    /// Index of the IR value (after the lossless passes) that this operator completes. A host that has the ONNX
    /// file uses it to name the operator and to compare it with float. `u16::MAX` if the operator completes no
    /// value, because several operators together compute it.
    pub origin: u16,
    /// Scale of the output if it is int8 or int16, else 0. Only the host uses it, to compare with float.
    pub scale: f32,
    /// Zero point of the output if it is int8, else 0. Used as `scale` is.
    pub zero_point: i8,
}

/// Element type of a tensor in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum DType {
    I8,
    F32,
    I32,
    /// Part of the enum only if an operator on int16 is built: it costs flash.
    #[cfg(feature = "int16")]
    I16,
}

impl DType {
    /// Bytes per element, which is also its alignment.
    pub const fn size(self) -> usize {
        match self {
            Self::I8 => 1,
            #[cfg(feature = "int16")]
            Self::I16 => 2,
            Self::F32 | Self::I32 => 4,
        }
    }
}

/// Number format of a matrix-like operator, and how its accumulators become outputs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Arith {
    /// int8 activations and weights, int32 accumulation, fixed-point requantisation as in TFLite Micro.
    ///
    /// Blob: `bias: [i32; N]`, `multiplier: [i32; Q]`, `shift: [i8; Q]`, zero padding to 4 bytes,
    /// `weights: [i8]`. N is the number of output channels; Q is N if `per_channel`, else 1.
    /// `shift` > 0 shifts left, < 0 right (TFLite's sign). The bias is TFLite's: zero points are **not**
    /// folded into it.
    I8 {
        /// Zero point of the input.
        in_zp: i8,
        /// Zero point of the output.
        out_zp: i8,
        /// One multiplier and shift per output channel, instead of one for all.
        per_channel: bool,
        /// Fused activation: bounds of the output; `None` is (-128, 127).
        clamp: Option<(i8, i8)>,
    },
    /// float32. Blob: `bias: [f32; N]`, `weights: [f32]`.
    F32 {
        /// Fused activation: bounds of the output.
        clamp: Option<(f32, f32)>,
    },
}

impl Arith {
    /// Element type of input and output.
    pub const fn dtype(&self) -> DType {
        match self {
            Self::I8 { .. } => DType::I8,
            Self::F32 { .. } => DType::F32,
        }
    }
}

/// Sliding window of a convolution or a pool: kernel, stride, dilation, padding (top, left, bottom, right).
///
/// The output height is `(h + top + bottom - (dilation_h * (k_h - 1) + 1)) / stride_h + 1`; the width likewise.
/// There are two encodings because nearly all windows fit in nibbles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum WindowRepr {
    /// `kernel` takes whole bytes, the others nibbles: `stride` = h << 4 | w, `dilation` likewise,
    /// `pad` = [top << 4 | left, bottom << 4 | right].
    Small {
        /// Height, width.
        kernel: [u8; 2],
        /// Height << 4 | width.
        stride: u8,
        /// Height << 4 | width.
        dilation: u8,
        /// top << 4 | left, bottom << 4 | right.
        pad: [u8; 2],
    },
    /// The general case.
    Wide(Window),
}

/// Sliding window, unpacked. See [`WindowRepr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Window {
    /// Height, width.
    pub kernel: [u16; 2],
    /// Height, width; at least 1.
    pub stride: [u16; 2],
    /// Height, width; at least 1.
    pub dilation: [u16; 2],
    /// Top, left, bottom, right.
    pub pad: [u16; 4],
}

impl From<Window> for WindowRepr {
    fn from(w: Window) -> Self {
        let nibble = |v: u16| v < 16;
        let small = w.kernel.iter().all(|&k| k < 256)
            && w.stride.iter().chain(&w.dilation).chain(&w.pad).all(|&v| nibble(v));
        if !small {
            return Self::Wide(w);
        }
        let pack = |a: u16, b: u16| (a << 4 | b) as u8;
        Self::Small {
            kernel: [w.kernel[0] as u8, w.kernel[1] as u8],
            stride: pack(w.stride[0], w.stride[1]),
            dilation: pack(w.dilation[0], w.dilation[1]),
            pad: [pack(w.pad[0], w.pad[1]), pack(w.pad[2], w.pad[3])],
        }
    }
}

impl From<WindowRepr> for Window {
    fn from(r: WindowRepr) -> Self {
        match r {
            WindowRepr::Wide(w) => w,
            WindowRepr::Small { kernel, stride, dilation, pad } => {
                let (hi, lo) = (|v: u8| u16::from(v >> 4), |v: u8| u16::from(v & 15));
                Self {
                    kernel: [u16::from(kernel[0]), u16::from(kernel[1])],
                    stride: [hi(stride), lo(stride)],
                    dilation: [hi(dilation), lo(dilation)],
                    pad: [hi(pad[0]), lo(pad[0]), hi(pad[1]), lo(pad[1])],
                }
            }
        }
    }
}

/// An input or output of the graph: its place and how to interpret it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct IoRepr {
    /// Arena offset, bytes.
    pub offset: u32,
    /// Element type.
    pub dtype: DType,
    /// Scale of an int8 or int16 tensor, else 0.
    pub scale: f32,
    /// Zero point of an int8 tensor, else 0.
    pub zero_point: i8,
    /// Number of axes, at most 6.
    pub rank: u8,
    /// Shape in the arena's layout. Axes from `rank` on are 1.
    pub shape: [u16; 6],
    /// How the ONNX tensor differs from the one in the arena; only hosts read it. Bit 0: see
    /// [`Self::channels_first_outside`]. Bits 1 to 7: number of [`Self::declared`].
    pub outside: u8,
}

/// Element type of a graph input or output in the ONNX file, where the arena holds another type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Declared {
    /// Number v is int8 v - 128 in the arena.
    U8 = 1,
    /// int32 in the arena.
    I64 = 2,
    /// 0 and 1 in the arena.
    Bool = 3,
    /// float32 in the arena.
    F16 = 4,
    /// float32 in the arena.
    F64 = 5,
    /// int8 or uint8 in the file; float32 in the arena, the real numbers that these codes stand for.
    Codes = 6,
}

impl Declared {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::U8, Self::I64, Self::Bool, Self::F16, Self::F64, Self::Codes];

    /// Its name in NumPy.
    pub const fn name(self) -> &'static str {
        match self {
            Self::U8 => "uint8",
            Self::I64 => "int64",
            Self::Bool => "bool",
            Self::F16 => "float16",
            Self::F64 => "float64",
            Self::Codes => "int8",
        }
    }
}

impl IoRepr {
    /// The value of `outside`.
    pub const fn outside_of(channels_first: bool, declared: Option<Declared>) -> u8 {
        let number = match declared {
            Some(declared) => declared as u8,
            None => 0,
        };
        number << 1 | channels_first as u8
    }

    /// Whether the ONNX tensor has its channels first: axis `rank - 1` of the arena's layout is axis 1 there. The arena
    /// holds the tensor channels-last; hosts transpose it.
    pub const fn channels_first_outside(&self) -> bool {
        self.outside & 1 != 0
    }

    /// The type in the ONNX file; `None` if the arena holds the same, or if this version does not know the number.
    pub fn declared(&self) -> Option<Declared> {
        Declared::ALL.into_iter().find(|d| *d as u8 == self.outside >> 1)
    }

    /// Extents of the axes, channels last. The first is usually a batch of 1.
    pub const fn shape(&self) -> &[u16] {
        let rank = if self.rank as usize <= self.shape.len() { self.rank as usize } else { self.shape.len() };
        self.shape.split_at(rank).0
    }

    /// Number of elements.
    pub const fn elements(&self) -> usize {
        let (mut product, mut axis) = (1usize, 0);
        while axis < self.shape().len() {
            product = product.saturating_mul(self.shape()[axis] as usize);
            axis += 1;
        }
        product
    }
}
