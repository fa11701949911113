//! Estimates the instructions of each form of a layer on each kind of core.
//!
//! The numbers for cores with the DSP extension were measured on the emulated Cortex-M4 (`tests/tests/sparse.rs`
//! checks those of sparse and dense layers against the emulator). Cores without it have kernels of their own for tiles
//! and run the portable kernels for the rest. There the ratio of each form to tiles comes from `cargo xtask bench` on
//! the emulated boards (`tools/xtask/figures.json`: the same networks compiled for `balanced` and for `speed`). Ratios
//! of plain, sparse and Huffman-coded weights are estimated from their loops.

mod float32;
mod planar;

use offshoot::format::codec::Record;
use offshoot::format::record::DepthwisePlanar;
use offshoot::format::sparse::{Form, SparseRepr};
use offshoot::kernels::geometry::Planar;

use crate::layer::Layer;

/// The kind of core, as far as it matters to the choice between forms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Core {
    /// Arm cores with the DSP extension (Cortex-M4, M7, M33); also hosts and phones. The default without a target.
    #[default]
    Dsp,
    /// Arm cores with the vector extension for integers (Helium: Cortex-M55, M85). What has no kernel there runs on those of
    /// the DSP extension, which they have too.
    Mve,
    /// Arm cores without the DSP extension, with a 64-bit multiply (Cortex-M3).
    ArmV7M,
    /// Arm cores without either (Cortex-M0, M0+).
    ArmV6M,
    /// 32-bit RISC-V with multiplication.
    RiscV32,
}

/// Instructions of an operator outside its loops.
const CALL: u64 = 700;

/// Instructions that unpack a weight of a float32 layer.
const UNPACK: f64 = 16.0;

/// Instruction ratios of cores without the DSP extension. `tiled`, `vector` and `scattered` are relative to a core with the DSP
/// extension; `single_multiply`, `wide` and `winograd` are relative to tiles on the same core.
struct Portable {
    tiled: f64,
    /// As `tiled`, for a single pixel with contiguous inputs.
    vector: f64,
    single_multiply: f64,
    wide: f64,
    winograd: f64,
    /// Sparse and Huffman-coded weights.
    scattered: f64,
    /// Instructions per weight of the plain kernels.
    plain: f64,
}

const ARM_V7M: Portable = Portable {
    tiled: 2.5,
    vector: 2.2,
    single_multiply: 0.87,
    wide: 0.86,
    winograd: 0.79,
    scattered: 2.2,
    plain: 9.0,
};
const ARM_V6M: Portable = Portable {
    tiled: 5.5,
    vector: 4.3,
    single_multiply: 0.85,
    wide: 1.06,
    winograd: 0.85,
    scattered: 2.8,
    plain: 14.0,
};
const RISCV32: Portable = Portable {
    tiled: 3.6,
    vector: 3.1,
    single_multiply: 0.93,
    wide: 0.92,
    winograd: 0.74,
    scattered: 2.2,
    plain: 8.0,
};

impl Core {
    fn portable(self) -> Option<&'static Portable> {
        match self {
            Self::Dsp | Self::Mve => None,
            Self::ArmV7M => Some(&ARM_V7M),
            Self::ArmV6M => Some(&ARM_V6M),
            Self::RiscV32 => Some(&RISCV32),
        }
    }

    /// Whether weights in flash are slow enough that a copy in RAM pays.
    pub(crate) fn copies_weights(self) -> bool {
        self == Self::Dsp
    }

    /// A plain kernel.
    pub(crate) fn plain(self, macs: u64, outputs: u64) -> u64 {
        scaled(macs, self.portable().map_or(8.0, |p| p.plain)) + 26 * outputs + CALL
    }

    /// The plain kernel of depthwise layers: windows of 3 to 15 taps of the wake word's network on the emulated Cortex-M4, of 5
    /// taps on the Cortex-M0 and RV32; estimated for the Cortex-M3.
    pub(crate) fn plain_depthwise(self, macs: u64, outputs: u64) -> u64 {
        let factor = match self {
            Self::Dsp | Self::Mve => 1.0,
            Self::ArmV7M => 1.3,
            Self::ArmV6M => 1.7,
            Self::RiscV32 => 1.2,
        };
        scaled(macs, 13.5 * factor) + scaled(outputs, 95.0 * factor) + CALL
    }

    /// [`offshoot::format::record::ConvWeightOnly`]: each weight is unpacked once.
    pub(crate) fn weight_only(self, macs: u64, outputs: u64, weights: u64) -> u64 {
        self.plain(macs, outputs) + scaled(weights, UNPACK * self.portable().map_or(1.0, |p| p.plain / 8.0))
    }

    /// [`offshoot::format::record::ConvTiled`].
    pub(crate) fn tiled(self, layer: &Layer) -> u64 {
        let factor = self.portable().map_or(1.0, |p| if is_vector(layer) { p.vector } else { p.tiled });
        scaled(dense(layer, 0.81, 2.0), factor) + CALL
    }

    /// Whether vectors multiply bytes, so that weights in row-major order are the fastest.
    pub(crate) fn multiplies_bytes(self) -> bool {
        self == Self::Mve
    }

    /// [`offshoot::format::record::ConvRowMajor`] on a core with kernels for it.
    pub(crate) fn row_major(self, layer: &Layer) -> u64 {
        let blocks = layer.channels().div_ceil(4) as u64;
        let vectors = layer.taps().div_ceil(16) as u64;
        if layer.one_row() {
            return blocks * (28 + 10 * vectors) + CALL;
        }
        let gather = 60 + 3 * vectors + 8 * u64::from(layer.window.kernel[0]);
        let pixels = layer.pixels() as u64;
        pixels.div_ceil(3) * (blocks * (52 + 24 * vectors) + 80) + pixels * gather + CALL
    }

    /// [`offshoot::format::record::ConvSingleMultiply`]; `pays` if strips are long enough for it.
    pub(crate) fn single_multiply(self, layer: &Layer, wide: bool, pays: bool) -> u64 {
        let tiled = self.tiled(layer);
        match (self.portable(), wide) {
            (Some(p), true) => scaled(tiled, p.wide),
            (Some(p), false) => scaled(tiled, p.single_multiply),
            (None, _) if !pays => tiled + 1,
            (None, true) => dense(layer, 0.75, 2.0) + CALL,
            (None, false) => tiled - 1,
        }
    }

    /// What exact single-multiply requantisation in strips saves beside [`Self::single_multiply`]'s estimate: with `long`
    /// strips of several pairs, 6.4 instructions an output; with one pair, half of that (MobileNetV1's 1×1 layers on the
    /// Cortex-M4). Less than 2 % elsewhere.
    pub(crate) fn strips_save(self, layer: &Layer, long: bool) -> u64 {
        let of_output = if long { 6.4 } else { 3.2 };
        if self == Self::Dsp { scaled(layer.y.len() as u64, of_output) } else { 0 }
    }

    /// [`offshoot::format::record::ConvWinograd`].
    pub(crate) fn winograd(self, layer: &Layer) -> u64 {
        match self.portable() {
            Some(p) => scaled(self.tiled(layer), p.winograd),
            None => dense(layer, 0.47, 4.0) + CALL,
        }
    }

    /// [`offshoot::format::record::ConvPacked`] with `bits` of an index: tiles, the table of pairs of levels, and the weights that
    /// are unpacked (fully connected layers of 8 × 4 to 64 × 32 on the emulated Cortex-M4).
    pub(crate) fn packed(self, layer: &Layer, bits: u8) -> u64 {
        let weights = layer.taps().next_multiple_of(4) * layer.channels().next_multiple_of(4);
        let unpacking = 3200.0 + 5.2 * f64::from(1u32 << (2 * bits)) + 2.85 * weights as f64;
        self.tiled(layer) + (unpacking * self.portable().map_or(1.0, |p| p.plain / 8.0)) as u64
    }

    /// [`offshoot::format::record::FullyConnectedHuffman`].
    pub(crate) fn huffman(self, layer: &Layer) -> u64 {
        scaled(13 * layer.macs(), self.portable().map_or(1.0, |p| p.scattered))
    }

    /// Sparse records.
    pub(crate) fn sparse(self, layer: &Layer, matrix: &SparseRepr) -> u64 {
        let entries = u64::from(matrix.entries) as f64;
        let of_entry = match matrix.form {
            Form::Bytes => 4.25,
            Form::Nibbles => 4.55,
            Form::Blocks => 9.3,
        };
        let gather = if layer.pointwise() { 60.0 } else { 600.0 + 0.5 * layer.taps() as f64 };
        let of_pixel = entries * of_entry + 37.0 * layer.channels() as f64 + gather;
        let dsp = (of_pixel * layer.pixels() as f64) as u64 + 450;
        scaled(dsp, self.portable().map_or(1.0, |p| p.scattered))
    }

    /// [`offshoot::format::record::DepthwisePlanar`], or with `single_multiply`
    /// [`offshoot::format::record::DepthwiseSingleMultiply`].
    pub(crate) fn channel_planar(self, record: &DepthwisePlanar, single_multiply: bool) -> u64 {
        let geometry = Planar::of(record);
        let taps: usize = geometry.window.kernel.map(usize::from).iter().product();
        // Windows along one axis have a kernel of their own, whatever their length.
        if self == Self::Mve && (taps <= 9 || geometry.window.kernel.contains(&1)) {
            let channels = u64::from(record.n) * u64::from(record.c);
            return (7 * (geometry.out_h * geometry.out_w) as u64 + 80) * channels + CALL;
        }
        planar::instructions(self, record, single_multiply)
    }

    /// What running a chain as fused row tiles adds to its instructions: `pieces` are the records that run in place of
    /// its `members`.
    pub(crate) fn fusing(self, members: &[Record], pieces: &[Record]) -> u64 {
        let all = |records: &[Record]| -> u64 {
            let depthwise = |record: &Record| match record {
                Record::DepthwisePlanar(r) => self.channel_planar(r, false),
                Record::DepthwiseSingleMultiply(r) => self.channel_planar(&r.planar(), true),
                // The time of the others is that of their pixels, however many these are at a time.
                _ => CALL,
            };
            records.iter().map(depthwise).sum()
        };
        (all(pieces) + self.piece() * pieces.len() as u64).saturating_sub(all(members))
    }

    /// Finding and checking a piece of fused row tiles: what is left of MobileNetV1's first chain on the emulated boards when
    /// its layers are subtracted. Estimated for cores without a 64-bit multiply.
    fn piece(self) -> u64 {
        match self {
            Self::Dsp | Self::Mve => 1800,
            Self::ArmV7M => 2400,
            Self::ArmV6M => 5000,
            Self::RiscV32 => 2800,
        }
    }

    /// A copy of bytes that are not contiguous.
    pub(crate) fn copy(self, bytes: u64) -> u64 {
        12 * bytes + 200
    }
}

fn scaled(instructions: u64, factor: f64) -> u64 {
    (instructions as f64 * factor) as u64
}

/// Instructions of tiles on a core with the DSP extension: per pixel, `of_weight` for each weight and `of_input` for
/// each input.
fn dense(layer: &Layer, of_weight: f64, of_input: f64) -> u64 {
    let (taps, channels) = (layer.taps(), layer.channels());
    let (padded, blocks) = (taps.next_multiple_of(4) as f64, channels.next_multiple_of(4) as f64);
    let pixels = layer.pixels() as f64;
    let of_pixel = if is_vector(layer) {
        1.03 * padded * blocks + 26.0 * blocks
    } else {
        of_weight * padded * blocks + 12.5 * blocks + of_input * padded
    };
    (of_pixel * pixels) as u64
}

/// Whether there is a single pixel, whose inputs need not be gathered.
fn is_vector(layer: &Layer) -> bool {
    layer.pixels() == 1 && layer.pointwise() && layer.taps().is_multiple_of(4)
}
