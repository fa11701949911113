//! What the forms of a layer cost on the cores that the kernels are made for: instructions of a run.
//!
//! The numbers for cores with the DSP extension were measured on the emulated Cortex-M4 (`tests/tests/sparse.rs` holds
//! those of sparse and dense layers against the emulator). The others are ratios to it of each kernel, measured on the emulated
//! boards over the networks of `cargo xtask bench`.

use offshoot::format::sparse::{Form, SparseRepr};

use crate::forms::Layer;

/// What of a core matters to the choice between forms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Core {
    /// Arm cores with the DSP extension (Cortex-M4, M7, M33, M55), and hosts and phones: the choice without a target.
    #[default]
    Dsp,
    /// Arm cores without it that multiply to 64 bits (Cortex-M3).
    ArmV7M,
    /// Arm cores without either (Cortex-M0, M0+).
    ArmV6M,
    /// RISC-V, 32 bits, with multiplication.
    RiscV32,
}

/// Instructions a weight of plain kernels.
const PLAIN: f64 = 8.0;

impl Core {
    /// Plain kernels.
    pub(crate) fn plain(self, macs: u64) -> u64 {
        (PLAIN * macs as f64) as u64
    }

    /// [`offshoot::format::record::ConvBlocked`].
    pub(crate) fn tiled(self, layer: &Layer) -> u64 {
        dense(layer, 0.81, 2.0)
    }

    /// [`offshoot::format::record::ConvLinear`]; `pays` if strips are long enough for it.
    pub(crate) fn single_multiply(self, layer: &Layer, wide: bool, pays: bool) -> u64 {
        let narrow = self.tiled(layer);
        match (wide, pays) {
            (_, false) => narrow + 1,
            (false, true) => narrow - 1,
            (true, true) => dense(layer, 0.75, 2.0),
        }
    }

    /// [`offshoot::format::record::ConvWinograd`].
    pub(crate) fn winograd(self, layer: &Layer) -> u64 {
        dense(layer, 0.47, 4.0)
    }

    /// [`offshoot::format::record::ConvPacked`].
    pub(crate) fn packed(self, layer: &Layer) -> u64 {
        self.tiled(layer)
    }

    /// [`offshoot::format::record::FullyConnectedCoded`].
    pub(crate) fn huffman(self, layer: &Layer) -> u64 {
        13 * layer.macs()
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
        ((entries * of_entry + 37.0 * layer.channels() as f64 + gather) * layer.pixels() as f64) as u64 + 450
    }

    /// [`offshoot::format::record::DepthwisePlanar`] and [`offshoot::format::record::DepthwiseLinear`].
    pub(crate) fn channel_planar(self, layer: &Layer, single_multiply: bool) -> u64 {
        let of_output = if single_multiply { 8.0 } else { 14.0 };
        ((layer.taps() as f64 + of_output) * layer.y.len() as f64) as u64
    }
}

impl Core {
    /// A copy of so many bytes that lie apart.
    pub(crate) fn copy(self, bytes: u64) -> u64 {
        12 * bytes + 200
    }
}

/// Instructions of tiles on a core with the DSP extension: `of_weight` for each weight of a pixel, `of_input` for each input.
fn dense(layer: &Layer, of_weight: f64, of_input: f64) -> u64 {
    let (taps, channels) = (layer.taps(), layer.channels());
    let (padded, blocks) = (taps.next_multiple_of(4) as f64, channels.next_multiple_of(4) as f64);
    let pixels = layer.pixels() as f64;
    let vector = layer.pixels() == 1 && layer.pointwise() && taps.is_multiple_of(4);
    let of_pixel = if vector {
        1.03 * padded * blocks + 26.0 * blocks
    } else {
        of_weight * padded * blocks + 12.5 * blocks + of_input * padded
    };
    (of_pixel * pixels) as u64 + 700
}
