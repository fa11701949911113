//! From records to jobs: `false`, and nothing is done, for what these kernels leave to `portable`.

use super::elementwise::Order;
use super::{
    Apart, Arena, Average, Conv, ConvBytes, ConvPairs, ConvVector, DepthwiseRing, FullyConnectedRows, Params,
    Products, Requantise, Sum, Tiles,
};
use crate::engine::Memory;
use crate::error::Rule;
use crate::format::record::{
    Binary, BinaryArith, BinaryKind, Conv2d, ConvBlocked, ConvLinear, ConvWinograd, Depthwise,
    DepthwisePlanar, FullyConnected, Pool, PoolArith, PoolKind, Requantize, Window,
};
use crate::kernels::geometry::{Blocked, Planar};
use crate::kernels::panels::{Blocks, Halves};
use crate::kernels::portable::extent;
use crate::kernels::{Requant, dispatch, dispatch_dot, passes};
use crate::ops::{Layout, Span};

/// See [`crate::kernels::portable::conv2d_i8`].
pub(crate) fn conv2d_i8(r: &Conv2d, q: &Requant<'_>, weights: &[i8], src: &[i8], dst: &mut [i8]) -> bool {
    let job = Conv { r, q, weights, src, dst };
    job.fits() && dispatch(job)
}

/// See [`crate::kernels::portable::fully_connected_i8`].
pub(crate) fn fully_connected_i8(
    r: &FullyConnected,
    q: &Requant<'_>,
    weights: &[i8],
    src: &[i8],
    dst: &mut [i8],
) -> bool {
    let (in_c, out_c) = (r.in_c as usize, r.out_c as usize);
    in_c > 0 && out_c > 0 && dispatch(FullyConnectedRows { in_c, out_c, q, weights, src, dst })
}

/// See [`crate::kernels::portable::products_i8`].
pub(crate) fn products_i8(weights: &[i8], x: &[i8], zero: i8, sums: &mut [i32]) -> bool {
    let fits = !x.is_empty() && weights.len() == x.len() * sums.len();
    fits && dispatch(Products { weights, x, zero, sums })
}

/// See [`crate::kernels::portable::depthwise_i8`].
pub(crate) fn depthwise_i8(
    r: &Depthwise,
    q: &Requant<'_>,
    weights: &[i8],
    src: &[i8],
    dst: &mut [i8],
) -> bool {
    let window = Window::from(r.window);
    let extents = [r.n, r.h, r.w, r.c].map(usize::from);
    let out = [extent(extents[1], &window, 0), extent(extents[2], &window, 1)];
    let (padding, zero) = (q.in_zp as i8, q.in_zp);
    let tensors = Apart { src, dst };
    let job =
        DepthwiseRing { extents, out, window, padding, zero, q, weights, weight_pitch: extents[3], tensors };
    r.multiplier == 1 && job.fits() && dispatch(job)
}

/// See [`crate::kernels::portable::binary_i8`].
pub(crate) fn binary_i8(r: &Binary, multiplier: [i32; 3], shift: [i8; 3], b: &[i8], dst: &mut [i8]) -> bool {
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

/// See [`crate::kernels::portable::requantize`].
pub(crate) fn requantize(r: &Requantize, dst: &mut [i8]) -> bool {
    let clamp = r.clamp.unwrap_or((i8::MIN, i8::MAX));
    let scale = (r.multiplier, r.shift);
    dispatch(Requantise { in_zp: r.in_zp, scale, out_zp: r.out_zp, clamp, dst })
}

/// See [`crate::kernels::portable::pool_i8`].
pub(crate) fn pool_i8(r: &Pool, src: &[i8], dst: &mut [i8]) -> bool {
    let PoolArith::I8 { clamp, .. } = r.arith else {
        return false;
    };
    let clamp = clamp.unwrap_or((i8::MIN, i8::MAX));
    r.kind == PoolKind::Average && r.c > 0 && dispatch(Average { r, clamp, src, dst })
}

/// See [`passes::conv_blocks`]. Weights that were expanded into the arena are left to it.
pub(crate) fn conv_blocks(
    r: &ConvBlocked,
    g: &Blocked,
    q: &Requant<'_>,
    blocks: Blocks<'_>,
    memory: &mut Memory<'_>,
    layout: &Layout,
) -> Result<(), Rule> {
    let done = match blocks.weights {
        Halves::Expanded(_) => false,
        Halves::Stored(weights) if r.lanes(g)?.is_none() => {
            let (src, dst) = memory.split::<i8, _>(layout.src, layout.dst)?;
            // A stride may leave more of the input than the one window meets.
            let src = src.get(..g.k).ok_or(Rule::Shape)?;
            dispatch(ConvVector { g, q, weights, src, dst })
        }
        Halves::Stored(weights) => {
            let (channels, tensors) = (Params::Rounded(q), arena(memory, layout.src, layout.dst)?);
            let bytes = ConvBytes { r, g, channels, weights, tensors };
            if bytes.fits() && dispatch_dot(bytes) {
                return Ok(());
            }
            let tensors = arena(memory, layout.src, layout.dst)?;
            let job = ConvPairs { r, g, channels, weights, tensors };
            job.fits() && dispatch(job)
        }
    };
    if done { Ok(()) } else { passes::conv_blocks(r, g, q, blocks, memory, layout) }
}

/// See [`passes::conv_linear`].
pub(crate) fn conv_linear(
    r: &ConvLinear,
    g: &Blocked,
    words: &[i32],
    memory: &mut Memory<'_>,
    layout: &Layout,
) -> Result<(), Rule> {
    let conv = r.conv();
    let (channels, weights) =
        (if r.wide { Params::Wide } else { Params::Linear }, bytemuck::cast_slice(words));
    let tensors = arena(memory, layout.src, layout.dst)?;
    let bytes = ConvBytes { r: &conv, g, channels, weights, tensors };
    if bytes.fits() && dispatch_dot(bytes) {
        return Ok(());
    }
    let tensors = arena(memory, layout.src, layout.dst)?;
    let job = ConvPairs { r: &conv, g, channels, weights, tensors };
    if job.fits() && dispatch(job) {
        return Ok(());
    }
    passes::conv_linear(r, g, words, memory, layout)
}

/// See [`crate::kernels::portable::conv_winograd`].
pub(crate) fn conv_winograd(
    r: &ConvWinograd,
    q: &Requant<'_>,
    weights: &[i16],
    memory: &mut Memory<'_>,
    layout: &Layout,
) -> Result<(), Rule> {
    let (src, dst) = memory.split(layout.src, layout.dst)?;
    let job = Tiles { r, q, weights, src, dst };
    if job.fits() && dispatch(job) {
        return Ok(());
    }
    passes::conv_winograd(r, q, weights, memory, layout)
}

/// See [`crate::kernels::portable::depthwise_band`].
pub(crate) fn depthwise_planar(
    r: &DepthwisePlanar,
    g: &Planar,
    q: &Requant<'_>,
    weights: &[i8],
    memory: &mut Memory<'_>,
    layout: &Layout,
) -> Result<(), Rule> {
    let tensors = arena(memory, layout.src, layout.dst)?;
    let extents = [r.n, r.h, r.w, r.c].map(usize::from);
    let (out, window) = ([g.out_h, g.out_w], g.window);
    let job = DepthwiseRing {
        extents,
        out,
        window,
        padding: r.in_zp,
        zero: 0,
        q,
        weights,
        weight_pitch: g.weight_pitch,
        tensors,
    };
    if job.fits() && dispatch(job) {
        return Ok(());
    }
    passes::depthwise_planar(r, g, q, weights, memory, layout)
}

fn arena<'r>(memory: &'r mut Memory<'_>, src: Span, dst: Span) -> Result<Arena<'r>, Rule> {
    let bytes = bytemuck::cast_slice_mut(memory.region(&[src, dst])?);
    Ok(Arena { bytes, src: src.range(), dst: dst.range() })
}
