//! int8 convolutions and fully connected layers in the arrangements of [`record::ConvBlocked`] and
//! [`record::DepthwisePlanar`], where those take them: the records say which numbers they hold.

use offshoot::format::blocked::{MOST_BIAS, MOST_WEIGHT, SHIFTS};
use offshoot::format::codec::Record;
use offshoot::format::record::{self, Walk, Window};
use offshoot::graph::cost::{self, Lag};
use offshoot_ir::{Activation, ValueId};

use super::linear::{Quantised, quantised, requant_blob};
use super::nested::{self, Kind, Role};
use super::straight::{self, Line};
use super::{Context, Lowering, Tensor, clamp_i8, coded, nhwc, packed, sparse, to_u16, winograd};
use crate::{Prefer, blobs};

/// Most inputs of an output whose weights take 16 bits where speed counts.
const MOST_WIDE: usize = 128;
/// Fewest output channels for strips of one pair.
const LEAST_CHANNELS: usize = 48;
/// Most pairs of a strip.
const MOST_PAIRS: usize = 32;
/// Bytes of a block that stays in a small cache for data (256 bytes) from one pair to the next.
const CACHED: usize = 192;

/// Extents of an NHWC tensor.
pub(super) type Extents = [u16; 4];

/// Lowers a convolution of one group; `false` if it does not suit.
pub(super) fn conv(
    c: &mut Context<'_>,
    x: &Tensor,
    y: &Tensor,
    parameters: &[ValueId],
    window: &Window,
    activation: Activation,
    float_product: bool,
) -> Lowering<bool> {
    let input = nhwc(x)?;
    emit_conv(c, x, y, input, parameters, window, activation, float_product)
}

/// Lowers a fully connected layer (or a 1×1 convolution) over the last axis; `false` if it does not suit.
pub(super) fn rows(
    c: &mut Context<'_>,
    x: &Tensor,
    y: &Tensor,
    parameters: &[ValueId],
    activation: Activation,
    float_product: bool,
) -> Lowering<bool> {
    let in_c = *x.shape.last().unwrap_or(&1);
    let (Ok(rows), Ok(in_c)) = (u16::try_from(x.len() / in_c.max(1)), u16::try_from(in_c)) else {
        return Ok(false);
    };
    let window = Window { kernel: [1; 2], stride: [1; 2], dilation: [1; 2], pad: [0; 4] };
    emit_conv(c, x, y, [1, 1, rows, in_c], parameters, &window, activation, float_product)
}

fn emit_conv(
    c: &mut Context<'_>,
    x: &Tensor,
    y: &Tensor,
    [n, h, w, in_c]: Extents,
    parameters: &[ValueId],
    window: &Window,
    activation: Activation,
    float_product: bool,
) -> Lowering<bool> {
    let channels = *y.shape.last().unwrap_or(&0);
    let suits = c.arrange && x.is_i8() && y.is_i8() && (window.dilation[1] == 1 || window.kernel[1] == 1);
    let Some(out_c) = u16::try_from(channels).ok().filter(|_| suits) else {
        return Ok(false);
    };
    let mut q = quantised(c, x, y, parameters, channels, float_product)?;
    let taps = usize::from(window.kernel[0]) * usize::from(window.kernel[1]) * usize::from(in_c);
    if q.weights.len() != taps * channels || !fold(&mut q, channels, i32::from(x.zp), &|o, k| o * taps + k) {
        return Ok(false);
    }
    let one_row = x.len() == taps && y.len() == channels;
    // Steps follow weights that lie one by one, and so do parts of them: none that are coded, transformed or packed. Steps also
    // follow a sparse matrix on its input as it lies.
    let alone = c.role == Role::Alone;
    let fixed = !c.learns && alone;
    let segment = usize::from(window.kernel[1]) * usize::from(in_c);
    let weights = arrange(q.weights, channels, segment, usize::from(window.kernel[0]));
    // A single pixel meets each weight once: expanding them takes longer than the rest.
    let packed = packed::pack(&weights).filter(|_| fixed && (c.prefer != Prefer::Speed || !one_row));
    let by_winograd = c.prefer == Prefer::Speed && winograd::suits(window, [n, h, w, in_c], out_c);
    let flash = c.prefer == Prefer::Flash;
    let dense_bytes = || match packed.as_ref() {
        Some(packed) => packed.bytes.len(),
        None if flash && one_row => coded::bytes(q.weights).map_or(weights.len(), |n| n.min(weights.len())),
        None => weights.len(),
    };
    let layer = sparse::Layer {
        input: [n, h, w, in_c],
        window,
        channels,
        activation,
        dense_bytes: &dense_bytes,
        by_winograd,
    };
    if alone && (fixed || layer.plain()) && sparse::emit(c, x, y, &q, &layer)? {
        return Ok(true);
    }
    if fixed && c.prefer == Prefer::Flash && one_row && coded::row(c, x, y, &q, activation)? {
        return Ok(true);
    }
    if fixed && by_winograd {
        return winograd::emit(c, x, y, [n, h, w, in_c], out_c, &q, window, activation).map(|()| true);
    }
    if c.prefer == Prefer::Flash
        && alone
        && packed.is_none()
        && weights.len() > q.weights.len() + q.weights.len() / 16 + 16
    {
        return Ok(false);
    }
    // Beyond, loading them takes longer than it saves.
    let wide = c.prefer == Prefer::Speed && weights.len() <= 4 * channels.div_ceil(4) * MOST_WIDE;
    let lines = if fixed && packed.is_none() && !one_row {
        lines(&q, y, activation, channels, wide, &|o, k| o * taps + k)
    } else {
        None
    };
    let mut r = record::ConvBlocked {
        src: 0,
        dst: 0,
        scratch: 0,
        n,
        h,
        w,
        c: in_c,
        out_c,
        window: (*window).into(),
        in_zp: x.zp,
        out_zp: y.zp,
        walk: Walk::Forwards,
        clamp: clamp_i8(activation, y),
        blob: 0,
    };
    let macs = ((y.len() * taps) as u64, (taps * channels) as u64);
    let scratch = cost::scratch(&Record::ConvBlocked(r)).ok_or("the window does not fit")?;
    // With one pair a strip, what a strip takes is made up for by many channels only.
    let pays = c.room.strip >= 2 * scratch as usize || channels >= LEAST_CHANNELS;
    if let Some(lines) = lines.filter(|_| scratch > 0 && pays) {
        return emit_linear(c, r, x, y, &lines, (&weights, wide), macs).map(|()| true);
    }
    if scratch == 0 {
        r.walk = if q.fixed.len() > 1 { Walk::Vector } else { Walk::VectorOneScale };
    } else if q.fixed.len() == 1 {
        q.fixed = vec![q.fixed[0]; channels];
    }
    let kind = nested::conv(window, r.walk);
    if let Some(record) = c.share_conv(kind, parameters, r, &q)? {
        let scratch = cost::scratch(&record).ok_or("the window does not fit")?;
        emit(c, record, x, y, scratch, (y.len() * taps) as u64, (taps * channels) as u64)?;
        return Ok(true);
    }
    let mut blob = requant_blob(&q.bias, &q.fixed);
    let stored = packed.as_ref().map_or(&weights, |p| &p.bytes);
    blob.extend(stored);
    r.blob = c.blob(blob, (stored.len(), 4 * channels))?;
    c.keep(kind, parameters, (in_c, out_c), &q, r.blob);
    let record = match &packed {
        Some(p) => {
            packed::record(r, p, weights.len() / (4 * channels.div_ceil(4)).max(1), c.room.panel).into()
        }
        None => Record::ConvBlocked(r),
    };
    let scratch = cost::scratch(&record).ok_or("the window does not fit")?;
    emit(c, record, x, y, scratch, macs.0, macs.1)?;
    Ok(true)
}

/// Lines for all channels of an operator, if each has one.
fn lines(
    q: &Quantised<'_>,
    y: &Tensor,
    activation: Activation,
    channels: usize,
    wide: bool,
    at: &dyn Fn(usize, usize) -> usize,
) -> Option<Vec<Line>> {
    let whole = matches!(clamp_i8(activation, y), None | Some((i8::MIN, i8::MAX)));
    if !whole || y.zp != i8::MIN {
        return None;
    }
    let taps = q.weights.len() / channels.max(1);
    let line = |o: usize| {
        let (multiplier, shift) = q.fixed[if q.fixed.len() == 1 { 0 } else { o }];
        let reach = straight::reach((0..taps).map(|k| q.weights[at(o, k)]));
        let scale = straight::Scale { multiplier, shift, bias: q.bias[o] };
        // Wide weights may be multiplied by something else as well.
        let others = if wide { 240..256 } else { 0..0 };
        core::iter::once(256).chain(others.rev()).find_map(|factor| scale.line(&reach, factor))
    };
    (0..channels).map(line).collect()
}

/// Emits a convolution with `lines` and weights in the order of [`record::ConvBlocked`].
fn emit_linear(
    c: &mut Context<'_>,
    mut r: record::ConvBlocked,
    x: &Tensor,
    y: &Tensor,
    lines: &[Line],
    (weights, wide): (&[u8], bool),
    (macs, count): (u64, u64),
) -> Lowering {
    let bytes = weights.len() / lines.len().div_ceil(4).max(1);
    let mut blob = Vec::new();
    for (lines, weights) in lines.chunks(4).zip(weights.chunks(bytes.max(1))) {
        let mut all = [Line { bias: 0, multiplier: 0, factor: 256 }; 4];
        all[..lines.len()].copy_from_slice(lines);
        let [a, b, c, d] = all;
        if wide {
            blob.extend(blobs::words(&[b.bias, a.bias, d.bias, c.bias]));
            blob.extend(widened(weights, all.map(|line| line.factor)));
            blob.extend(blobs::words(&all.map(|line| line.multiplier)));
            continue;
        }
        blob.extend(blobs::words(&[b.bias, d.bias]));
        blob.extend(weights);
        blob.extend(blobs::words(&[a.bias, c.bias, a.multiplier, b.multiplier, c.multiplier, d.multiplier]));
    }
    let stored = weights.len() * if wide { 2 } else { 1 };
    r.blob = c.blob(blob, (stored, 4 * lines.len()))?;
    // Bytes of the lanes of a pair, and of a block with its words.
    let (lanes, block) = (bytes, bytes * if wide { 2 } else { 1 } + 32);
    let pairs = y.len() / lines.len().max(1) / 2;
    let of = |room: usize, most: usize| (room / lanes.max(1)).clamp(1, most);
    let beside = of(c.strip_room(x, y), c.room.pairs.clamp(1, MOST_PAIRS));
    let strip = of(c.room.strip, MOST_PAIRS).max(beside).min(pairs.max(1));
    // Strips end where rows do, if that is near.
    let row = y.shape[y.shape.len().saturating_sub(2)].div_ceil(2).max(1);
    let strip = if r.h > 1 && strip < row { row.div_ceil(row.div_ceil(strip)) } else { strip };
    // A small block stays in the cache for data as it is.
    let panel = c.prefer == Prefer::Speed && strip >= 4 && block > CACHED;
    let r = record::ConvLinear::new(r, strip as u8, panel, wide);
    let scratch = cost::scratch(&r.into()).ok_or("the window does not fit")?;
    emit(c, r.into(), x, y, scratch, macs, count)
}

/// Weights in the order of [`record::ConvBlocked`] as those of a wide [`record::ConvLinear`].
fn widened(arranged: &[u8], factors: [i16; 4]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 * arranged.len());
    for pair in arranged.chunks_exact(8) {
        // Two inputs of channels (A, B), then of (C, D).
        for (both, factors) in pair.chunks_exact(4).zip(factors.chunks_exact(2)) {
            let halves = [0, 2].map(|i| i16::from_le_bytes([both[i], both[i + 1]]));
            let low = |half: i16| i16::from(half as i8);
            // No weight is -128, no factor more than 256.
            let lower = halves.map(|half| low(half) * factors[0]);
            let upper = halves.map(|half| (half.wrapping_sub(low(half)) >> 8) * factors[1]);
            bytes.extend([lower, upper].into_iter().flatten().flat_map(i16::to_le_bytes));
        }
    }
    bytes
}

/// Lowers a depthwise convolution of multiplier 1; `false` if it does not suit.
pub(super) fn depthwise(
    c: &mut Context<'_>,
    x: &Tensor,
    y: &Tensor,
    parameters: &[ValueId],
    window: &Window,
    activation: Activation,
) -> Lowering<bool> {
    let [n, h, w, channels] = nhwc(x)?;
    if !c.arrange || !x.is_i8() || !y.is_i8() || window.dilation != [1, 1] {
        return Ok(false);
    }
    let count = usize::from(channels);
    let mut q = quantised(c, x, y, parameters, count, false)?;
    let taps = usize::from(window.kernel[0]) * usize::from(window.kernel[1]);
    if q.weights.len() != taps * count || !fold(&mut q, count, i32::from(x.zp), &|o, k| o * taps + k) {
        return Ok(false);
    }
    if q.fixed.len() == 1 {
        q.fixed = vec![q.fixed[0]; count];
    }
    let fixed = !c.learns && c.role == Role::Alone;
    let lines = if !fixed || window.kernel != [3, 3] || window.stride.iter().any(|s| *s > 2) {
        None
    } else {
        lines(&q, y, activation, count, false, &|o, k| o * taps + k)
    };
    let [top, left, bottom, right] = window.pad.map(u64::from);
    let padded_h = u64::from(h) + top + bottom;
    let row = 2 * (u64::from(w) + left + right).next_multiple_of(2);
    let budget = match c.prefer {
        Prefer::Speed => 4096,
        Prefer::Balanced => 1024,
        Prefer::Ram | Prefer::Flash => 256,
    };
    let rows = (budget / row).max(u64::from(window.kernel[0])).min(padded_h);
    let mut r = record::DepthwisePlanar {
        src: 0,
        dst: 0,
        scratch: 0,
        n,
        h,
        w,
        c: channels,
        rows: to_u16(rows as usize, "the rows of a band")?,
        window: (*window).into(),
        in_zp: x.zp,
        out_zp: y.zp,
        clamp: clamp_i8(activation, y),
        blob: 0,
    };
    // OHWI with I = 1 to HWO.
    let weights = || (0..q.weights.len()).map(|i| q.weights[i % count * taps + i / count] as u8);
    let account = (taps * count, 4 * count);
    let kind = Kind::Depthwise { kernel: window.kernel };
    let record: Record = if let Some(lines) = &lines {
        let mut blob = blobs::words(&lines.iter().map(|l| l.bias).collect::<Vec<_>>());
        blob.extend(blobs::words(&lines.iter().map(|l| l.multiplier).collect::<Vec<_>>()));
        blob.extend(weights());
        r.blob = c.blob(blob, account)?;
        record::DepthwiseLinear::new(r).into()
    } else if let Some(shared) = c.share_depthwise(kind, parameters, r, &q)? {
        shared
    } else {
        let mut blob = requant_blob(&q.bias, &q.fixed);
        blob.extend(weights());
        r.blob = c.blob(blob, account)?;
        c.keep(kind, parameters, (1, channels), &q, r.blob);
        r.into()
    };
    let scratch = cost::scratch(&record).ok_or("the window does not fit")?;
    emit(c, record, x, y, scratch, (y.len() * taps) as u64, (taps * count) as u64)?;
    Ok(true)
}

pub(super) fn emit(
    c: &mut Context<'_>,
    record: Record,
    x: &Tensor,
    y: &Tensor,
    scratch: u32,
    macs: u64,
    weights: u64,
) -> Lowering {
    let scratch = if scratch > 0 { Some(c.allocate(scratch as usize)?) } else { None };
    let overlap = if c.learns { Lag::Apart } else { cost::lag(&record) };
    let op = c.emit(record, [Some(x), None], y, &[]);
    (op.macs, op.weights, op.scratch, op.overlap) = (macs, weights, scratch, overlap);
    let found = c.sparse.take();
    if let Some(op) = c.out.operators.last_mut() {
        op.sparse = found;
    }
    Ok(())
}

/// Folds the input's zero point into the biases; `false` if the numbers leave what the fast kernels hold.
fn fold(q: &mut Quantised<'_>, channels: usize, zp: i32, at: &dyn Fn(usize, usize) -> usize) -> bool {
    let taps = q.weights.len() / channels.max(1);
    for (o, bias) in q.bias.iter_mut().enumerate() {
        let weights = || (0..taps).map(|k| q.weights[at(o, k)]);
        let sum: i64 = weights().map(i64::from).sum();
        let magnitude: u64 = weights().map(|w| u64::from(w.unsigned_abs())).sum();
        let folded = i64::from(*bias) - i64::from(zp) * sum;
        if folded.unsigned_abs() > u64::from(MOST_BIAS) || magnitude > MOST_WEIGHT {
            return false;
        }
        *bias = folded as i32;
    }
    q.fixed.iter().all(|&(m, s)| m >= 0 && SHIFTS.contains(&s)) && !q.weights.contains(&i8::MIN)
}

/// Weights in the order of [`record::ConvBlocked`]. `weights` is OHWI, `segment` the inputs of a kernel row.
fn arrange(weights: &[i8], channels: usize, segment: usize, rows: usize) -> Vec<u8> {
    let at = |o: usize, row: usize, i: usize| {
        if o < channels && i < segment { weights[(o * rows + row) * segment + i] } else { 0 }
    };
    let mut bytes = Vec::new();
    for block in (0..channels).step_by(4) {
        for row in 0..rows {
            for group in (0..segment).step_by(4) {
                for first in [group, group + 1] {
                    for lower in [block, block + 2] {
                        for i in [first, first + 2] {
                            let (a, b) = (i16::from(at(lower, row, i)), i16::from(at(lower + 1, row, i)));
                            bytes.extend((256 * b + a).to_le_bytes());
                        }
                    }
                }
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot::kernels::geometry::blocked_weight;

    #[test]
    fn arranged_weights_are_found_again() {
        let (channels, segment, rows) = (6, 9, 3);
        let weights: Vec<i8> = (0..channels * segment * rows).map(|i| (i * 37 % 255) as i8).collect();
        let weights: Vec<i8> = weights.iter().map(|&w| w.max(-127)).collect();
        let bytes = arrange(&weights, channels, segment, rows);
        let halves: Vec<i16> = bytes.chunks(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
        for o in 0..channels {
            for row in 0..rows {
                for i in 0..segment {
                    let k = row * 12 + i;
                    let found = blocked_weight(&halves, rows * 12, o, k);
                    assert_eq!(found, i32::from(weights[(o * rows + row) * segment + i]), "{o} {row} {i}");
                }
            }
        }
    }
}
