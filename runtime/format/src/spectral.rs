//! Records of front ends, which turn samples into features: the spectrum of frames, and weights in bands.

use serde::{Deserialize, Serialize};

/// The discrete Fourier transform of overlapping frames of real signals, float32.
///
/// Frame `f` of a signal begins at its element `f · hop` and has `frame` elements. They are multiplied by the window, followed
/// by zeros up to `size` elements, and transformed: `X[k] = Σ x[n] · exp(-2πi·k·n / size)` for `k` up to `size / 2`.
///
/// **Blob.** The window, `[f32; frame]`, if there is one.
///
/// **Scratch.** One frame: `size` values in float32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Spectrum {
    pub src: u32,
    pub dst: u32,
    /// In words of 4 bytes.
    pub scratch: u32,
    pub signals: u16,
    /// Elements of a signal.
    pub samples: u32,
    pub frames: u16,
    pub hop: u32,
    pub frame: u16,
    /// A power of two, 32 to 4096.
    pub size: u16,
    pub part: SpectrumPart,
    pub window: Option<u32>,
}

/// What [`Spectrum`] keeps of each value of a transform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SpectrumPart {
    /// The real and the imaginary part.
    Complex,
    /// The sum of their squares, the real one first.
    Power,
    /// The square root of that.
    Magnitude,
}

/// Sizes of transforms, and the cargo feature of each.
pub const SIZES: [(u16, &str); 8] = [
    (32, "fft-32"),
    (64, "fft-64"),
    (128, "fft-128"),
    (256, "fft-256"),
    (512, "fft-512"),
    (1024, "fft-1024"),
    (2048, "fft-2048"),
    (4096, "fft-4096"),
];

impl Spectrum {
    /// Numbers that each frame gives.
    pub fn width(&self) -> u32 {
        let bins = u32::from(self.size) / 2 + 1;
        if self.part == SpectrumPart::Complex { 2 * bins } else { bins }
    }

    /// The cargo feature with the transform of this size; `None` if there is no such size.
    pub fn feature(&self) -> Option<&'static str> {
        SIZES.iter().find(|(size, _)| *size == self.size).map(|(_, feature)| *feature)
    }
}

/// A fully connected layer, float32, each of whose outputs reads neighbouring inputs only: its band.
/// `dst[r, o] = Σ src[r, first[o] + i] · weights[o, i] + bias[o]`, summed from the bias on in the order of `i`.
///
/// **Blob.** `bias: [f32; out_c]`, then the bands `[u16; 2]` of each output (its first input, and how many), then the weights
/// of all bands, float32, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct FullyConnectedBanded {
    pub src: u32,
    pub dst: u32,
    pub rows: u32,
    pub in_c: u16,
    pub out_c: u16,
    /// Weights of all bands.
    pub entries: u32,
    pub clamp: Option<(f32, f32)>,
    pub blob: u32,
}
