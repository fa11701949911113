//! Weights, biases and requantisation parameters of operators with an [`Arith`]: checked and read from a blob.

use super::shape::require_f32;
use offshoot_base::{Limits, Memory, Rule, Span, blob, cast, require};
use offshoot_format::BLOB_ALIGNMENT;
use offshoot_format::record::Arith;
use offshoot_format::tiled::{MOST_BIAS, SHIFTS};
use offshoot_kernels::Requant;

/// Places and sizes of such an operator, derived from its record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) src: Span,
    pub(crate) dst: Span,
    /// Output channels.
    pub(super) channels: u64,
    /// Elements of the weights.
    pub(super) weights: u64,
    /// Multiply-accumulates.
    pub(super) work: u64,
}

/// Checks a multiplier (not negative) and a shift (TFLite's: left up to 30 bits, right up to 31).
pub(super) fn check_multiplier(multiplier: i32, shift: i8) -> Result<(), Rule> {
    require(multiplier >= 0 && (-31..=30).contains(&shift), Rule::Quantisation)
}

/// Checks that the bounds of a fused activation are ordered, which excludes NaN.
pub(super) fn check_clamp<T: PartialOrd>(clamp: Option<(T, T)>) -> Result<(), Rule> {
    require(clamp.is_none_or(|(min, max)| min <= max), Rule::Quantisation)
}

/// Bounds of an int8 output in the kernels' types.
pub(super) fn bounds_i8(clamp: Option<(i8, i8)>) -> (i32, i32) {
    let (min, max) = clamp.unwrap_or((i8::MIN, i8::MAX));
    (i32::from(min), i32::from(max))
}

/// Bounds of a float output in the kernels' types.
pub(super) fn bounds_f32(clamp: Option<(f32, f32)>) -> (f32, f32) {
    clamp.unwrap_or((f32::NEG_INFINITY, f32::INFINITY))
}

/// The blob of [`Arith::I8`].
pub(super) fn weights_i8<'m>(
    blobs: &'m [u8],
    at: u32,
    arith: &Arith,
    layout: &Layout,
) -> Result<(Requant<'m>, &'m [i8]), Rule> {
    let Arith::I8 { in_zp, out_zp, per_channel, clamp } = *arith else {
        return Err(Rule::Format);
    };
    let (min, max) = bounds_i8(clamp);
    requant_blob(blobs, at, layout, per_channel, (in_zp.into(), out_zp.into(), min, max))
}

/// Reads a blob of biases, multipliers, shifts and int8 weights. `numbers` are the zero points of input and output,
/// then the bounds of the output.
pub(super) fn requant_blob<'m>(
    blobs: &'m [u8],
    at: u32,
    layout: &Layout,
    per_channel: bool,
    numbers: (i32, i32, i32, i32),
) -> Result<(Requant<'m>, &'m [i8]), Rule> {
    let scales = if per_channel { layout.channels } else { 1 };
    let after = |at: u32, bytes: u64| {
        let end =
            u64::from(at).checked_add(bytes).and_then(|e| e.checked_next_multiple_of(BLOB_ALIGNMENT as u64));
        end.and_then(|e| u32::try_from(e).ok()).ok_or(Rule::BlobBounds)
    };
    // Channels fit in 32 bits, so four bytes for each fit in 64 bits.
    let multiplier_at = after(at, 4 * layout.channels)?;
    let shift_at = after(multiplier_at, 4 * scales)?;
    let weights_at = after(shift_at, scales)?;
    let (in_zp, out_zp, min, max) = numbers;
    let requant = Requant {
        bias: blob(blobs, at, layout.channels)?,
        multiplier: blob(blobs, multiplier_at, scales)?,
        shift: blob(blobs, shift_at, scales)?,
        in_zp,
        out_zp,
        min,
        max,
    };
    Ok((requant, blob(blobs, weights_at, layout.weights)?))
}

/// The blob of [`Arith::F32`]: bias, weights.
pub(super) fn weights_f32<'m>(
    blobs: &'m [u8],
    at: u32,
    layout: &Layout,
) -> Result<(&'m [f32], &'m [f32]), Rule> {
    let all: &[f32] = blob(blobs, at, layout.channels.checked_add(layout.weights).ok_or(Rule::BlobBounds)?)?;
    let channels = usize::try_from(layout.channels).map_err(|_| Rule::BlobBounds)?;
    all.split_at_checked(channels).ok_or(Rule::BlobBounds)
}

/// The checks that all these operators share.
pub(super) fn check(limits: &Limits<'_>, arith: &Arith, at: u32, layout: &Layout) -> Result<u64, Rule> {
    limits.disjoint(layout.src, layout.dst)?;
    match *arith {
        Arith::I8 { clamp, .. } => {
            check_clamp(clamp)?;
            let (requant, _) = weights_i8(limits.blobs, at, arith, layout)?;
            requant.multiplier.iter().zip(requant.shift).try_for_each(|(&m, &s)| check_multiplier(m, s))?;
        }
        Arith::F32 { clamp } => {
            require_f32()?;
            check_clamp(clamp)?;
            weights_f32(limits.blobs, at, layout)?;
        }
    }
    Ok(layout.work)
}

/// Replaces biases by learned ones, and multipliers and shifts too if the override is long enough. The override has the
/// layout of the start of the operator's blob.
pub(super) fn override_requant<'a>(memory: &Memory<'a>, own: &mut Requant<'a>) -> Result<(), Rule> {
    let parameters = memory.parameter_override();
    if parameters.is_empty() {
        return Ok(());
    }
    let (channels, scales) = (own.bias.len(), own.multiplier.len());
    let (bias, rest) = parameters.split_at_checked(4 * channels).ok_or(Rule::BlobBounds)?;
    own.bias = cast(bias)?;
    if rest.is_empty() {
        return Ok(());
    }
    let (multiplier, shift) = rest.split_at_checked(4 * scales).ok_or(Rule::BlobBounds)?;
    own.multiplier = cast(multiplier)?;
    own.shift = cast(shift.get(..scales).ok_or(Rule::BlobBounds)?)?;
    Ok(())
}

/// Checks learned biases, and the multipliers and shifts behind them if there are any. `parameter_bytes` are the
/// lengths of the three; `arranged` says that the operator is one of [`offshoot_format::tiled`], whose ranges are
/// narrower.
///
/// # Errors
/// The rule that is broken.
pub fn check_parameters(bytes: &[u8], parameter_bytes: &[usize; 3], arranged: bool) -> Result<(), Rule> {
    let (bias, rest) = bytes.split_at_checked(parameter_bytes[0]).ok_or(Rule::BlobBounds)?;
    let bias: &[i32] = bytemuck::try_cast_slice(bias).map_err(|_| Rule::Alignment)?;
    require(!arranged || bias.iter().all(|b| b.unsigned_abs() <= MOST_BIAS), Rule::Quantisation)?;
    if rest.is_empty() {
        return Ok(());
    }
    let (multiplier, shift) = rest.split_at_checked(parameter_bytes[1]).ok_or(Rule::BlobBounds)?;
    let multiplier: &[i32] = bytemuck::try_cast_slice(multiplier).map_err(|_| Rule::Alignment)?;
    for (&m, &s) in multiplier.iter().zip(shift) {
        check_multiplier(m, s as i8)?;
        require(!arranged || SHIFTS.contains(&(s as i8)), Rule::Quantisation)?;
    }
    Ok(())
}

/// The part of `run` that all these operators share: reads the blob, splits the arena, and calls the kernel for the
/// number format.
pub(super) fn run<R>(
    memory: &mut Memory<'_>,
    record: &R,
    arith: &Arith,
    at: u32,
    layout: &Layout,
    kernel_i8: fn(&R, &Requant<'_>, &[i8], &[i8], &mut [i8]),
    kernel_f32: fn(&R, (f32, f32), &[f32], &[f32], &[f32], &mut [f32]),
) -> Result<(), Rule> {
    match *arith {
        Arith::I8 { .. } => {
            let (mut requant, weights) = weights_i8(memory.blobs(), at, arith, layout)?;
            override_requant(memory, &mut requant)?;
            let (src, dst) = memory.split(layout.src, layout.dst)?;
            kernel_i8(record, &requant, weights, src, dst);
        }
        Arith::F32 { clamp } if cfg!(feature = "f32") => {
            let (bias, weights) = weights_f32(memory.blobs(), at, layout)?;
            let bias = memory.bias(bias)?;
            let (src, dst) = memory.split(layout.src, layout.dst)?;
            kernel_f32(record, bounds_f32(clamp), bias, weights, src, dst);
        }
        Arith::F32 { .. } => return Err(Rule::Format),
    }
    Ok(())
}
