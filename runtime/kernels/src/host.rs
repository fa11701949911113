//! Turns records into jobs for the host's kernels. Each function returns `false` and computes nothing if the job is
//! left to `portable`.

use crate::geometry::extent;
use crate::geometry::{Planar, Tiled};
#[cfg(target_arch = "aarch64")]
use crate::neon::{dispatch, dispatch_dot};
use crate::requant::Requant;
use crate::tiles::Operands;
#[cfg(target_arch = "wasm32")]
use crate::wasm::{dispatch, dispatch_dot};
use crate::wide::elementwise::Order;
use crate::wide::{
    Apart, Arena, Average, Conv, ConvBytes, ConvPairs, ConvVector, DepthwiseRing, FullyConnectedRows, Params,
    Products, Requantise, Sum, Tiles,
};
#[cfg(target_arch = "x86_64")]
use crate::x86::{dispatch, dispatch_dot};
use offshoot_base::Rule;
use offshoot_format::record::{
    Binary, BinaryArith, BinaryKind, Conv2d, ConvSingleMultiply, ConvTiled, ConvWinograd, Depthwise,
    DepthwisePlanar, FullyConnected, Pool, PoolArith, PoolKind, Requantize, Window,
};

/// See [`crate::portable::conv2d_i8`].
pub fn conv2d_i8(r: &Conv2d, q: &Requant<'_>, weights: &[i8], src: &[i8], dst: &mut [i8]) -> bool {
    let job = Conv { r, q, weights, src, dst };
    job.fits() && dispatch(job)
}

/// See [`crate::portable::fully_connected_i8`].
pub fn fully_connected_i8(
    r: &FullyConnected,
    q: &Requant<'_>,
    weights: &[i8],
    src: &[i8],
    dst: &mut [i8],
) -> bool {
    let (in_c, out_c) = (r.in_c as usize, r.out_c as usize);
    in_c > 0 && out_c > 0 && dispatch(FullyConnectedRows { in_c, out_c, q, weights, src, dst })
}

/// See [`crate::portable::products_i8`].
pub fn products_i8(weights: &[i8], x: &[i8], zero: i8, sums: &mut [i32]) -> bool {
    let fits = !x.is_empty() && weights.len() == x.len() * sums.len();
    fits && dispatch(Products { weights, x, zero, sums })
}

/// See [`crate::portable::depthwise_i8`].
pub fn depthwise_i8(r: &Depthwise, q: &Requant<'_>, weights: &[i8], src: &[i8], dst: &mut [i8]) -> bool {
    let window = Window::from(r.window);
    let extents = [r.n, r.h, r.w, r.c].map(usize::from);
    let out = [extent(extents[1], &window, 0), extent(extents[2], &window, 1)];
    let (padding, zero) = (q.in_zp as i8, q.in_zp);
    let tensors = Apart { src, dst };
    let job =
        DepthwiseRing { extents, out, window, padding, zero, q, weights, weight_pitch: extents[3], tensors };
    r.multiplier == 1 && job.fits() && dispatch(job)
}

/// See [`crate::portable::binary_i8`].
pub fn binary_i8(r: &Binary, multiplier: [i32; 3], shift: [i8; 3], b: &[i8], dst: &mut [i8]) -> bool {
    let BinaryArith::I8 { a_zp, b_zp, out_zp, clamp, .. } = r.arith else {
        return false;
    };
    let order = match (r.kind, r.swapped) {
        (BinaryKind::Add, _) => Order::Plus,
        (BinaryKind::Sub, false) => Order::Minus,
        (BinaryKind::Sub, true) => Order::From,
        _ => return false,
    };
    let scales = core::array::from_fn(|i| (multiplier[i], shift[i]));
    let clamp = clamp.unwrap_or((i8::MIN, i8::MAX));
    r.broadcast == 0 && dispatch(Sum { zeros: [a_zp, b_zp], scales, order, out_zp, clamp, b, dst })
}

/// See [`crate::portable::requantize`].
pub fn requantize(r: &Requantize, dst: &mut [i8]) -> bool {
    let clamp = r.clamp.unwrap_or((i8::MIN, i8::MAX));
    let scale = (r.multiplier, r.shift);
    dispatch(Requantise { in_zp: r.in_zp, scale, out_zp: r.out_zp, clamp, dst })
}

/// See [`crate::portable::pool_i8`].
pub fn pool_i8(r: &Pool, src: &[i8], dst: &mut [i8]) -> bool {
    let PoolArith::I8 { clamp, .. } = r.arith else {
        return false;
    };
    let clamp = clamp.unwrap_or((i8::MIN, i8::MAX));
    r.kind == PoolKind::Average && r.c > 0 && dispatch(Average { r, clamp, src, dst })
}

/// Pairs of output pixels for all blocks, with the weights as stored in the file.
pub fn conv_blocks(
    r: &ConvTiled,
    g: &Tiled,
    q: &Requant<'_>,
    weights: &[i16],
    operands: &mut Operands<'_>,
) -> Result<bool, Rule> {
    let channels = Params::Rounded(q);
    let bytes = ConvBytes { r, g, channels, weights, tensors: arena(operands)? };
    if bytes.fits() && dispatch_dot(bytes) {
        return Ok(true);
    }
    let job = ConvPairs { r, g, channels, weights, tensors: arena(operands)? };
    Ok(job.fits() && dispatch(job))
}

/// See [`crate::portable::conv_vector`].
pub fn conv_vector(g: &Tiled, q: &Requant<'_>, weights: &[i16], src: &[i8], dst: &mut [i8]) -> bool {
    // A weight tile holds only some of the channels.
    let whole = weights.len() >= dst.len().div_ceil(4) * 2 * g.k;
    // With a stride, the input may be longer than the single window.
    whole && src.get(..g.k).is_some_and(|src| dispatch(ConvVector { g, q, weights, src, dst }))
}

/// Strips of pairs with exact single-multiply requantisation.
pub fn conv_single_multiply(
    r: &ConvSingleMultiply,
    g: &Tiled,
    words: &[i32],
    operands: &mut Operands<'_>,
) -> Result<bool, Rule> {
    let conv = r.conv();
    let (channels, weights) =
        (if r.wide { Params::Wide } else { Params::SingleMultiply }, bytemuck::cast_slice(words));
    let bytes = ConvBytes { r: &conv, g, channels, weights, tensors: arena(operands)? };
    if bytes.fits() && dispatch_dot(bytes) {
        return Ok(true);
    }
    let job = ConvPairs { r: &conv, g, channels, weights, tensors: arena(operands)? };
    Ok(job.fits() && dispatch(job))
}

/// See [`crate::portable::conv_winograd`].
pub fn conv_winograd(r: &ConvWinograd, q: &Requant<'_>, weights: &[i16], src: &[i8], dst: &mut [i8]) -> bool {
    let job = Tiles { r, q, weights, src, dst };
    job.fits() && dispatch(job)
}

/// See [`crate::portable::depthwise_band`].
pub fn depthwise_planar(
    r: &DepthwisePlanar,
    g: &Planar,
    q: &Requant<'_>,
    weights: &[i8],
    operands: &mut Operands<'_>,
) -> Result<bool, Rule> {
    let extents = [r.n, r.h, r.w, r.c].map(usize::from);
    let job = DepthwiseRing {
        extents,
        out: [g.out_h, g.out_w],
        window: g.window,
        padding: r.in_zp,
        zero: 0,
        q,
        weights,
        weight_pitch: g.weight_pitch,
        tensors: arena(operands)?,
    };
    Ok(job.fits() && dispatch(job))
}

fn arena<'r>(operands: &'r mut Operands<'_>) -> Result<Arena<'r>, Rule> {
    let (src, dst) = (operands.src.range(), operands.dst.range());
    Ok(Arena { bytes: bytemuck::cast_slice_mut(operands.region(&[])?), src, dst })
}
