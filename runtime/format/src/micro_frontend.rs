//! The record of a front end in integers.

use serde::{Deserialize, Serialize};

/// TensorFlow Lite Micro's microfrontend: features of frames of a sound, in integers from the samples to the logarithm.
///
/// Samples are float32, -1 to 1 (an ADC's code divided by 32768); features are whole numbers, 0 to 65535, in float32. Frame `f`
/// begins at sample `f · hop`. Noise is estimated from frame to frame; without `kept` a run begins with none.
///
/// **Blob.** Each part padded to 4 bytes: window `[i16; frame]`, 4096 is 1; twiddle factors `exp(-2πi·k / n)` for k below
/// `n = size / 2`, and `exp(-πi·((k + 1) / n + 1/2))` for k below `n / 2`, as `[i16; 2]` (real, imaginary; 32767 is 1); bins of each
/// channel `[u16; channels + 1]`; weights of each bin `[i16; 2]` in its channel and the one before, 4096 is 1; if `gain`, the
/// gain's table `[i16; 125]`; if `log`, the logarithm's `[u16; 129]`.
///
/// **Scratch.** `[i16; 2 · size]`, `[u32; channels]`, and without `kept` `[u32; channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct MicroFrontend {
    pub src: u32,
    pub dst: u32,
    /// In words of 4 bytes.
    pub scratch: u32,
    /// Where the estimates of the noise are kept between runs, in words of 4 bytes: a word that is not 0 if there are any, then
    /// one word a channel.
    pub kept: Option<u32>,
    pub samples: u32,
    pub frames: u16,
    pub hop: u16,
    pub frame: u16,
    /// Elements of a transform, a power of two from 32 to 4096.
    pub size: u16,
    pub channels: u16,
    /// First bin that a channel reads.
    pub start: u16,
    /// Bins that channels read.
    pub entries: u16,
    /// Bits that signals are enlarged by before they enter the estimate of the noise.
    pub smoothing_bits: u8,
    /// How much of the estimate's way a frame goes, of even and odd channels; 16384 is all.
    pub smoothing: [u16; 2],
    /// What remains of a signal at least; 16384 is all.
    pub remaining: u16,
    /// With gain control: the bits that its product is shifted by.
    pub gain: Option<u8>,
    /// With a logarithm: `2^log` times the natural one.
    pub log: Option<u8>,
    pub blob: u32,
}

/// Entries of the gain's table, and of the logarithm's.
pub const TABLES: [usize; 2] = [125, 129];

impl MicroFrontend {
    /// Words of scratch.
    pub fn scratch_words(&self) -> u32 {
        let channels = u32::from(self.channels);
        u32::from(self.size) + if self.kept.is_none() { 2 * channels } else { channels }
    }

    /// Words of memory kept between runs, if any is.
    pub fn kept_words(&self) -> u32 {
        1 + u32::from(self.channels)
    }

    /// Bytes of the parts of the blob, each padded to 4 bytes.
    pub fn blob_parts(&self) -> [u32; 7] {
        let [gain, log] = TABLES.map(|n| 2 * n as u32);
        let size = u32::from(self.size);
        let parts = [
            2 * u32::from(self.frame),
            2 * size,
            size,
            2 * (u32::from(self.channels) + 1),
            4 * u32::from(self.entries),
            if self.gain.is_some() { gain } else { 0 },
            if self.log.is_some() { log } else { 0 },
        ];
        parts.map(|bytes| bytes.next_multiple_of(4))
    }
}
