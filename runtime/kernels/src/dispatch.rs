//! Selects the fastest kernel of this build and processor for each job, with the portable kernel as fallback.

#[cfg(arm_dsp)]
use crate::arm_dsp;
#[cfg(arm_mve)]
use crate::arm_mve;
use crate::geometry::{Planar, Tiled};
#[cfg(wide)]
use crate::host;
use crate::portable;
#[cfg(not(arm_dsp))]
use crate::random::Random;
use crate::requant::Requant;
#[cfg(scalar)]
use crate::scalar;
#[cfg(wide)]
use crate::tiles::Halves;
use crate::tiles::{Blocks, Operands};
#[cfg(not(scalar))]
use offshoot_base::Memory;
use offshoot_base::{Rule, Span};
use offshoot_format::record;

/// Whether this build uses the kernels of the Arm DSP extension. They run whole convolutions, in their own step order
/// only.
pub const ARM_DSP: bool = cfg!(arm_dsp);

/// Whether this build uses the kernels of the M-profile vector extension.
pub const ARM_MVE: bool = cfg!(arm_mve);

/// Whether [`depthwise_planar`] takes every operator that this build has. On cores with the DSP extension, TFLite's
/// rounding is the only reason not to.
pub const DEPTHWISE_COMPLETE: bool = cfg!(scalar)
    || ARM_DSP && !cfg!(any(feature = "op-depthwise-planar", feature = "op-depthwise-weight-shared"));

/// Calls the kernel of an instruction set if it takes the record, otherwise the one in `portable`.
macro_rules! kernel {
    ($name:ident($($argument:ident: $type:ty),*)) => {
        #[doc = concat!("See [`portable::", stringify!($name), "`].")]
        pub fn $name($($argument: $type),*) {
            #[cfg(wide)]
            if host::$name($($argument),*) {
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
pub fn products_i8(weights: &[i8], x: &[i8], zero: i8, sums: &mut [i32]) {
    #[cfg(arm_dsp)]
    if arm_dsp::products_i8(weights, x, zero, sums) {
        return;
    }
    #[cfg(wide)]
    if host::products_i8(weights, x, zero, sums) {
        return;
    }
    portable::products_i8(weights, x, zero, sums);
}

/// Convolution with int16 activations; see [`portable::conv_int16`].
pub fn conv_int16(
    r: &record::ConvInt16,
    q: &portable::RequantInt16<'_>,
    weights: &[i8],
    src: &[i16],
    dst: &mut [i16],
) {
    #[cfg(arm_dsp)]
    if arm_dsp::conv_int16(r, q, weights, src, dst) {
        return;
    }
    portable::conv_int16(r, q, weights, src, dst);
}

/// Two int8 operands, element by element; see [`portable::binary_i8`].
pub fn binary_i8(r: &record::Binary, multiplier: [i32; 3], shift: [i8; 3], b: &[i8], dst: &mut [i8]) {
    #[cfg(arm_mve)]
    if arm_mve::add_i8(r, multiplier, shift, b, dst) {
        return;
    }
    #[cfg(arm_dsp)]
    if arm_dsp::add_i8(r, multiplier, shift, b, dst) {
        return;
    }
    #[cfg(scalar)]
    if scalar::add_i8(r, multiplier, shift, b, dst) {
        return;
    }
    #[cfg(wide)]
    if host::binary_i8(r, multiplier, shift, b, dst) {
        return;
    }
    portable::binary_i8(r, multiplier, shift, b, dst);
}

/// A function of one int8 element; see [`portable::lut_i8`].
#[inline(always)]
pub fn lut_i8(table: &[i8], data: &mut [i8]) {
    #[cfg(arm_mve)]
    if arm_mve::lut_i8(table, data) {
        return;
    }
    portable::lut_i8(table, data);
}

/// int8 pool; see [`portable::pool_i8`].
pub fn pool_i8(r: &record::Pool, src: &[i8], dst: &mut [i8]) {
    #[cfg(arm_mve)]
    if arm_mve::pool_i8(r, src, dst) {
        return;
    }
    #[cfg(arm_dsp)]
    if arm_dsp::average_i8(r, src, dst) || cfg!(not(feature = "pool-any")) || arm_dsp::pool_i8(r, src, dst) {
        return;
    }
    #[cfg(scalar)]
    if scalar::average_i8(r, src, dst) || cfg!(feature = "pool-any") && scalar::pool_i8(r, src, dst) {
        return;
    }
    #[cfg(wide)]
    if host::pool_i8(r, src, dst) {
        return;
    }
    portable::pool_i8(r, src, dst);
}

#[cfg(not(arm_dsp))]
pub use crate::portable::{add_errors, add_windows, energy, select, select_errors};

/// Adds the gradients of four neighbouring output channels to `sums`, `[4, k_h, k_w, depth]`, and the errors of their
/// active pixels to `totals`. Builds planes in the workspace, which nothing else may write between the first and the
/// last call for a layer. `error` gives the error of a feature. Returns `false` and adds nothing if this is not faster.
#[cfg(not(arm_dsp))]
pub fn add_planes(
    tensors: &crate::gradient::Tensors<'_>,
    plan: &crate::gradient::planes::PlaneExtents,
    _channel: usize,
    grid: &crate::gradient::grid::PoolingGrid,
    _error: impl Fn(usize) -> i32,
    _sums: &mut [i32],
    _totals: &mut [i32; 4],
    (room, is_first): (&mut [i32], bool),
) -> bool {
    // Touches the memory that a device would use, so that a step's memory use measured on the host is the device's.
    let words = plan.words(tensors.geometry, grid.cells[0] * grid.cells[1]);
    if let Some(room) = room.get_mut(..words).filter(|_| is_first) {
        room.fill(0);
    }
    false
}

/// Steps a line of tiled weights at once. Returns `None` and changes nothing if there is no faster kernel.
#[cfg(not(arm_dsp))]
pub fn step_line(
    _halves: &mut [i16],
    _upper: bool,
    _fine: &mut [i8],
    _gradients: &[i32],
    _factor: (i32, u32),
    _random: &mut Random,
) -> Option<i32> {
    None
}

#[cfg(arm_dsp)]
pub use crate::arm_dsp::{add_errors, add_planes, add_windows, energy, select, select_errors, step_line};

#[cfg(arm_dsp)]
pub use crate::arm_dsp::fully_connected_huffman;
#[cfg(not(arm_dsp))]
pub use crate::portable::fully_connected_huffman;

/// Computes pairs of output pixels of a tiled convolution in the record's order. `lanes` is the scratch for gathered
/// inputs, if any. Returns `false` and computes nothing if no kernel of the instruction set takes it.
///
/// # Errors
/// [`Rule::ArenaBounds`] for spans beyond the arena; [`Rule::Format`] for a form that is not built in.
#[inline(always)]
pub fn conv_blocks(
    r: &record::ConvTiled,
    g: &Tiled,
    q: &Requant<'_>,
    blocks: Blocks<'_>,
    operands: &mut Operands<'_>,
    lanes: Option<Span>,
) -> Result<bool, Rule> {
    #[cfg(arm_dsp)]
    return arm_dsp::conv_blocks(r, g, q, blocks, operands, lanes).map(|()| true);
    #[cfg(wide)]
    if let (Halves::Stored(weights), Some(_)) = (blocks.weights, lanes) {
        return host::conv_blocks(r, g, q, weights, operands);
    }
    #[cfg(not(arm_dsp))]
    {
        let _ = (r, g, q, blocks, operands, lanes);
        Ok(false)
    }
}

/// Computes strips of pairs of output pixels with exact single-multiply requantisation. `lanes` holds gathered inputs;
/// `tile` holds a block's unpacked weights, if any. Returns `false` and computes nothing if no kernel of the
/// instruction set takes it.
///
/// # Errors
/// [`Rule::ArenaBounds`] for spans beyond the arena.
#[inline(always)]
pub fn conv_single_multiply(
    r: &record::ConvSingleMultiply,
    g: &Tiled,
    words: &[i32],
    operands: &mut Operands<'_>,
    (lanes, tile): (Span, Option<Span>),
) -> Result<bool, Rule> {
    let _ = (lanes, tile);
    #[cfg(arm_dsp)]
    return arm_dsp::conv_single_multiply(r, g, words, operands, (lanes, tile)).map(|()| true);
    #[cfg(wide)]
    return host::conv_single_multiply(r, g, words, operands);
    #[cfg(not(any(arm_dsp, wide)))]
    {
        let _ = (r, g, words, operands);
        Ok(false)
    }
}

/// Computes a convolution with row-major weights ([`record::ConvRowMajor`], of which `r` has the fields) in the record's
/// order. `lanes` is the scratch for gathered inputs, if any. Returns `false` and computes nothing if this build has no
/// kernel for it.
///
/// # Errors
/// [`Rule::ArenaBounds`] for spans beyond the arena; [`Rule::BlobBounds`] for slices that are too short.
#[inline(always)]
pub fn conv_row_major(
    r: &record::ConvTiled,
    g: &Tiled,
    q: &Requant<'_>,
    weights: &[i8],
    operands: &mut Operands<'_>,
    lanes: Option<Span>,
) -> Result<bool, Rule> {
    #[cfg(arm_mve)]
    return arm_mve::conv_row_major(r, g, q, weights, operands, lanes).map(|()| true);
    #[cfg(not(arm_mve))]
    {
        let _ = (r, g, q, weights, operands, lanes);
        Ok(false)
    }
}

/// Convolution by Winograd F(2, 3); `lanes` is the scratch for the transformed tiles.
///
/// # Errors
/// [`Rule::ArenaBounds`] for spans beyond the arena; [`Rule::Overlap`] if input and output overlap.
pub fn conv_winograd(
    r: &record::ConvWinograd,
    q: &Requant<'_>,
    weights: &[i16],
    operands: &mut Operands<'_>,
    lanes: Span,
) -> Result<(), Rule> {
    #[cfg(arm_dsp)]
    if arm_dsp::conv_winograd(r, q, weights, operands, lanes)? {
        return Ok(());
    }
    let _ = lanes;
    #[cfg(scalar)]
    return scalar::conv_winograd(r, q, weights, operands, lanes);
    #[cfg(not(scalar))]
    {
        let (src, dst) = (operands.src, operands.dst);
        let mut memory = Memory::new(operands.arena, &[]);
        let (src, dst) = memory.split(src, dst)?;
        #[cfg(wide)]
        if host::conv_winograd(r, q, weights, src, dst) {
            return Ok(());
        }
        portable::conv_winograd(r, q, weights, src, dst);
        Ok(())
    }
}

/// Depthwise convolution, channel by channel; `planes` is the scratch for gathered rows. Returns `false` and computes
/// nothing if no kernel of the instruction set takes it.
///
/// # Errors
/// [`Rule::ArenaBounds`] for spans beyond the arena; [`Rule::Format`] for a form that is not built in.
#[inline(always)]
pub fn depthwise_planar(
    r: &record::DepthwisePlanar,
    g: &Planar,
    q: &Requant<'_>,
    weights: &[i8],
    operands: &mut Operands<'_>,
    planes: Span,
) -> Result<bool, Rule> {
    let _ = planes;
    #[cfg(arm_mve)]
    if arm_mve::depthwise_planar(r, g, q, weights, operands, planes)? {
        return Ok(true);
    }
    #[cfg(arm_dsp)]
    return arm_dsp::depthwise_planar(r, g, q, weights, operands, planes);
    #[cfg(wide)]
    return host::depthwise_planar(r, g, q, weights, operands);
    #[cfg(scalar)]
    return scalar::depthwise_planar(r, g, q, weights, operands, planes).map(|()| true);
    #[cfg(not(any(arm_dsp, wide, scalar)))]
    {
        let _ = (r, g, q, weights, operands);
        Ok(false)
    }
}

/// Computes some output channels of a single pixel; see [`portable::conv_vector`].
pub fn conv_vector(
    g: &Tiled,
    q: &Requant<'_>,
    (first, weights): (usize, &[i16]),
    src: &[i8],
    dst: &mut [i8],
) {
    #[cfg(wide)]
    if first == 0 && host::conv_vector(g, q, weights, src, dst) {
        return;
    }
    #[cfg(scalar)]
    scalar::conv_vector(g, q, (first, weights), src, dst);
    #[cfg(not(scalar))]
    portable::conv_vector(g, q, (first, weights), src, dst);
}

#[cfg(not(scalar))]
pub use crate::portable::{conv_pair, conv_pair_single_multiply, gather_pair};
#[cfg(scalar)]
pub use crate::scalar::{conv_pair, conv_pair_single_multiply, gather_pair};

#[cfg(arm_dsp)]
pub use crate::arm_dsp::{add_sparse, requantise_sums};
#[cfg(not(arm_dsp))]
pub use crate::portable::{add_sparse, requantise_sums};
