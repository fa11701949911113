//! Arithmetic. [`portable`] is the specification in plain Rust; folders for instruction sets hold faster
//! kernels that give the same bits. Kernels see slices and the operator's record, nothing else.

#[cfg(arm_dsp)]
pub mod arm_dsp;
pub mod geometry;
#[cfg(all(wide, target_arch = "aarch64"))]
mod neon;
mod panels;
mod passes;
pub mod portable;
pub mod sparse;
#[cfg(wide)]
mod wide;
#[cfg(all(wide, target_arch = "x86_64"))]
mod x86;

#[cfg(all(wide, target_arch = "aarch64"))]
use neon::{dispatch, dispatch_dot};
#[cfg(all(wide, target_arch = "x86_64"))]
use x86::{dispatch, dispatch_dot};

use crate::format::record;

/// A kernel of an instruction set, if it takes the record, else `portable`'s.
macro_rules! kernel {
    ($name:ident($($argument:ident: $type:ty),*)) => {
        #[doc = concat!("See [`portable::", stringify!($name), "`].")]
        pub(crate) fn $name($($argument: $type),*) {
            #[cfg(wide)]
            if wide::entry::$name($($argument),*) {
                return;
            }
            portable::$name($($argument),*);
        }
    };
}

kernel!(conv2d_i8(r: &record::Conv2d, q: &Requant<'_>, weights: &[i8], src: &[i8], dst: &mut [i8]));
kernel!(depthwise_i8(r: &record::Depthwise, q: &Requant<'_>, weights: &[i8], src: &[i8], dst: &mut [i8]));
kernel!(fully_connected_i8(
    r: &record::FullyConnected,
    q: &Requant<'_>,
    weights: &[i8],
    src: &[i8],
    dst: &mut [i8]
));
kernel!(requantize(r: &record::Requantize, data: &mut [i8]));

/// Products of int8 rows with a vector; see [`portable::products_i8`].
pub(crate) fn products_i8(weights: &[i8], x: &[i8], zero: i8, sums: &mut [i32]) {
    #[cfg(arm_dsp)]
    if arm_dsp::products_i8(weights, x, zero, sums) {
        return;
    }
    #[cfg(wide)]
    if wide::entry::products_i8(weights, x, zero, sums) {
        return;
    }
    portable::products_i8(weights, x, zero, sums);
}

/// Two int8 operands, element by element; see [`portable::binary_i8`].
pub(crate) fn binary_i8(r: &record::Binary, multiplier: [i32; 3], shift: [i8; 3], b: &[i8], dst: &mut [i8]) {
    #[cfg(arm_dsp)]
    if arm_dsp::add_i8(r, multiplier, shift, b, dst) {
        return;
    }
    #[cfg(wide)]
    if wide::entry::binary_i8(r, multiplier, shift, b, dst) {
        return;
    }
    portable::binary_i8(r, multiplier, shift, b, dst);
}

/// int8 pool; see [`portable::pool_i8`].
pub(crate) fn pool_i8(r: &record::Pool, src: &[i8], dst: &mut [i8]) {
    #[cfg(arm_dsp)]
    if arm_dsp::average_i8(r, src, dst) || cfg!(not(feature = "pool-any")) {
        return;
    }
    #[cfg(wide)]
    if wide::entry::pool_i8(r, src, dst) {
        return;
    }
    portable::pool_i8(r, src, dst);
}

#[cfg(not(arm_dsp))]
pub(crate) use portable::{add_errors, add_windows, energy, select, select_errors};

/// Adds to `sums`, `[4, k_h, k_w, depth]`, the gradients of four neighbouring output channels, and to `totals` the errors of
/// their pixels that count, by way of planes in `room`, which between the first call for a layer and the last nobody else
/// writes to; `error` gives that of a feature. `false`, and nothing is added, where
/// that is not faster. See [`crate::learn::integer`].
#[cfg(not(arm_dsp))]
#[allow(clippy::too_many_arguments)]
pub(crate) fn add_planes(
    tensors: &crate::learn::integer::gradient::Tensors<'_>,
    plan: &crate::learn::integer::planes::Plan,
    _channel: usize,
    grid: &crate::learn::grid::Grid,
    _error: impl Fn(usize) -> i32,
    _sums: &mut [i32],
    _totals: &mut [i32; 4],
    (room, is_first): (&mut [i32], bool),
) -> bool {
    // The memory that a step is seen to use is the same everywhere: the host tells what a device takes.
    let words = plan.words(tensors.geometry, grid.cells[0] * grid.cells[1]);
    if let Some(room) = room.get_mut(..words).filter(|_| is_first) {
        room.fill(0);
    }
    false
}

/// Steps of a line of blocked weights at once; `None`, and nothing is done, where there is no faster way. See
/// [`crate::learn::integer`].
#[cfg(not(arm_dsp))]
pub(crate) fn step_line(
    _halves: &mut [i16],
    _upper: bool,
    _fine: &mut [i8],
    _gradients: &[i32],
    _factor: (i32, u32),
    _random: &mut crate::learn::Random,
) -> Option<i32> {
    None
}

#[cfg(arm_dsp)]
pub(crate) use arm_dsp::{add_errors, add_planes, add_windows, energy, select, select_errors, step_line};

#[cfg(arm_dsp)]
pub(crate) use arm_dsp::{conv_blocks, conv_linear, conv_winograd, depthwise_planar, fully_connected_coded};
pub(crate) use panels::{Codes, Part, conv_blocked, conv_nested, conv_packed};
#[cfg(not(any(arm_dsp, wide)))]
pub(crate) use passes::{conv_blocks, conv_linear, conv_winograd, depthwise_planar};
#[cfg(not(arm_dsp))]
pub(crate) use portable::fully_connected_coded;
#[cfg(wide)]
pub(crate) use wide::entry::{conv_blocks, conv_linear, conv_winograd, depthwise_planar};

/// Requantisation of int32 accumulators, read from an operator's record and blob.
#[derive(Clone, Copy, Debug)]
pub struct Requant<'a> {
    /// One an output channel.
    pub bias: &'a [i32],
    /// One an output channel, or one for all.
    pub multiplier: &'a [i32],
    /// As many as multipliers; > 0 left, < 0 right. None: bias and multiplier are those of [`crate::format::linear`].
    pub shift: &'a [i8],
    /// Zero point of the input.
    pub in_zp: i32,
    /// Zero point of the output.
    pub out_zp: i32,
    /// Lower bound of the output.
    pub min: i32,
    /// Upper bound of the output.
    pub max: i32,
}

impl Requant<'_> {
    /// Multiplier and shift of an output channel.
    #[inline]
    pub fn scale(&self, channel: usize) -> (i32, i8) {
        if self.multiplier.len() == 1 {
            (self.multiplier[0], self.shift[0])
        } else {
            (self.multiplier[channel], self.shift[channel])
        }
    }
}
