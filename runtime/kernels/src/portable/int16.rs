//! Operators on int16 activations with int8 weights, as in TensorFlow Lite Micro's reference kernels.

use super::conv::taps;
use super::elementwise::each_of;
use super::fixed_point::multiply_by_quantized_multiplier as mbqm;
use crate::geometry::extent;
use offshoot_format::int16::ENTRIES;
use offshoot_format::record::{
    BinaryInt16, BinaryKind, ConvInt16, DequantizeInt16, Int16Change, PoolInt16, PoolKind, QuantizeInt16,
    ReduceInt16, ReduceKind, RequantizeInt16, SigmoidInt16, SoftmaxInt16, Window,
};

/// Products of int16 and int8 whose sum fits int32: each is at most 2^22 in magnitude.
const EXACT: usize = 256;

/// Parameters that turn sums into int16, read from a record and its blob.
#[derive(Clone, Copy, Debug)]
pub struct RequantInt16<'a> {
    /// One int32 per output channel; with `wide` two, low word first.
    pub bias: &'a [i32],
    /// One per output channel, or one for all; with `wide` of 15 bits.
    pub multiplier: &'a [i32],
    /// One per multiplier; > 0 shifts left, < 0 right.
    pub shift: &'a [i8],
    /// int64 biases and sums.
    pub wide: bool,
    /// Bounds of the output.
    pub bounds: (i16, i16),
}

impl RequantInt16<'_> {
    /// What turns sums of a channel into outputs.
    #[inline]
    pub fn channel(&self, channel: usize) -> ChannelInt16 {
        let at = if self.multiplier.len() == 1 { 0 } else { channel };
        // Checked records have them all; written so that no panic is linked.
        let multiplier = self.multiplier.get(at).copied().unwrap_or(0);
        let shift = self.shift.get(at).copied().unwrap_or(0);
        let word = |at: usize| self.bias.get(at).copied().unwrap_or(0);
        let bias = if self.wide {
            i64::from(word(2 * channel + 1)) << 32 | i64::from(word(2 * channel) as u32)
        } else {
            word(channel).into()
        };
        ChannelInt16 { bias, multiplier, shift, wide: self.wide, bounds: self.bounds }
    }

    /// The output of a channel whose products have this sum.
    #[inline]
    pub fn output(&self, channel: usize, sum: i64) -> i16 {
        self.channel(channel).output(sum)
    }
}

/// What turns sums of a channel into outputs; see [`RequantInt16`].
#[derive(Clone, Copy, Debug)]
pub struct ChannelInt16 {
    bias: i64,
    multiplier: i32,
    shift: i8,
    wide: bool,
    bounds: (i16, i16),
}

impl ChannelInt16 {
    /// The output for products with this sum.
    #[inline]
    pub fn output(&self, sum: i64) -> i16 {
        let value = if self.wide {
            wide_multiply(sum.wrapping_add(self.bias), self.multiplier, self.shift)
        } else {
            mbqm((sum as i32).wrapping_add(self.bias as i32), self.multiplier, self.shift)
        };
        bounded(value, self.bounds)
    }
}

/// The output of a channel with int64 biases, for products with this sum; see [`RequantInt16`].
#[inline(always)]
#[cfg_attr(not(arm_dsp), allow(dead_code))]
pub(crate) fn wide_output(
    sum: i32,
    [low, high]: [i32; 2],
    multiplier: i32,
    shift: i8,
    bounds: (i16, i16),
) -> i16 {
    let bias = i64::from(high) << 32 | i64::from(low as u32);
    bounded(wide_multiply(bias.wrapping_add(sum.into()), multiplier, shift), bounds)
}

/// TFLite's `MultiplyByQuantizedMultiplier` for int64, whose multiplier has been reduced to 15 bits and is not negative. `shift` is
/// in -31..=7. Written in words: cores of 32 bits multiply and shift longer numbers in many steps.
#[inline(always)]
fn wide_multiply(x: i64, multiplier: i32, shift: i8) -> i32 {
    let right = (15 - i32::from(shift)) as u32 & 63;
    let multiplier = multiplier as u32;
    let low = u64::from(x as u32) * u64::from(multiplier);
    let high = ((x >> 32) as u32).wrapping_mul(multiplier);
    let product = low.wrapping_add(u64::from(high) << 32);
    let half = 1u32.wrapping_shl(right.wrapping_sub(1));
    if right <= 32 {
        let sum = product.wrapping_add(half.into());
        let (low, high) = (sum as u32, (sum >> 32) as u32);
        let above = if right < 32 { high.wrapping_shl(32 - right) | low.wrapping_shr(right) } else { high };
        above as i32
    } else {
        ((product >> 32) as u32).wrapping_add(half) as i32 >> (right - 32)
    }
}

#[inline(always)]
fn bounded(v: i32, (min, max): (i16, i16)) -> i16 {
    v.max(min.into()).min(max.into()) as i16
}

fn bounds(clamp: Option<(i16, i16)>) -> (i16, i16) {
    clamp.unwrap_or((i16::MIN, i16::MAX))
}

/// Sum of products. It is exact.
#[inline]
pub fn products_int16(x: &[i16], w: &[i8]) -> i64 {
    x.chunks(EXACT).zip(w.chunks(EXACT)).fold(0, |sum, (x, w)| {
        let part = x.iter().zip(w).fold(0i32, |s, (&x, &w)| s.wrapping_add(i32::from(x) * i32::from(w)));
        sum + i64::from(part)
    })
}

/// Convolution. `weights` OHWI, I = c / groups.
pub fn conv_int16(r: &ConvInt16, q: &RequantInt16<'_>, weights: &[i8], src: &[i16], dst: &mut [i16]) {
    let window = Window::from(r.window);
    let (h, w, c) = (usize::from(r.h), usize::from(r.w), usize::from(r.c));
    let (out_h, out_w, out_c) = (extent(h, &window, 0), extent(w, &window, 1), usize::from(r.out_c));
    let groups = usize::from(r.groups).max(1);
    let (in_g, out_g) = (c / groups, (out_c / groups).max(1));
    let [k_h, k_w] = window.kernel.map(usize::from);
    let [d_h, d_w] = window.dilation.map(usize::from);
    // Kernel columns are contiguous in input and weights: one run.
    let whole = groups == 1 && d_w == 1;
    let mut pixels = dst.chunks_exact_mut(out_c.max(1));
    for image in src.chunks_exact((h * w * c).max(1)) {
        for y in 0..out_h {
            let (ky0, ky1, iy0) = taps(y, h, &window, 0);
            for x in 0..out_w {
                let (kx0, kx1, ix0) = taps(x, w, &window, 1);
                let Some(pixel) = pixels.next() else { return };
                if in_g == 1 && out_g == 1 && k_h * k_w <= EXACT {
                    let origin = (iy0 * w + ix0) * c;
                    let strides = [d_h * w * c, d_w * c];
                    let ends = [ky0, ky1, kx0, kx1];
                    depthwise(
                        q,
                        weights,
                        [k_h, k_w],
                        image.get(origin..).unwrap_or_default(),
                        ends,
                        strides,
                        pixel,
                    );
                    continue;
                }
                let filters = weights.chunks_exact((k_h * k_w * in_g).max(1));
                for ((o, out), filter) in pixel.iter_mut().enumerate().zip(filters) {
                    let channel = o / out_g * in_g;
                    let mut sum = 0i64;
                    let mut add = |from: usize, weight: usize, len: usize| {
                        let x = image.get(from..).and_then(|x| x.get(..len));
                        let w = filter.get(weight..).and_then(|w| w.get(..len));
                        sum += products_int16(x.unwrap_or_default(), w.unwrap_or_default());
                    };
                    for ky in ky0..ky1 {
                        let row = (iy0 + (ky - ky0) * d_h) * w;
                        if whole {
                            add((row + ix0) * c, (ky * k_w + kx0) * c, (kx1 - kx0) * c);
                            continue;
                        }
                        for kx in kx0..kx1 {
                            let column = ix0 + (kx - kx0) * d_w;
                            add((row + column) * c + channel, (ky * k_w + kx) * in_g, in_g);
                        }
                    }
                    *out = q.output(o, sum);
                }
            }
        }
    }
}

/// A pixel of a depthwise convolution. `ends` are the first and the end of the kernel's rows and columns inside the image, which
/// begins at the first of them; its rows and columns are `strides` apart.
fn depthwise(
    q: &RequantInt16<'_>,
    weights: &[i8],
    [k_h, k_w]: [usize; 2],
    image: &[i16],
    [ky0, ky1, kx0, kx1]: [usize; 4],
    strides: [usize; 2],
    pixel: &mut [i16],
) {
    for (channel, (out, filter)) in pixel.iter_mut().zip(weights.chunks_exact((k_h * k_w).max(1))).enumerate()
    {
        let (mut sum, mut row) = (0i32, channel);
        for ky in ky0..ky1 {
            let mut at = row;
            for weight in filter.get(ky * k_w + kx0..ky * k_w + kx1).unwrap_or_default() {
                sum = sum.wrapping_add(i32::from(image.get(at).copied().unwrap_or(0)) * i32::from(*weight));
                at += strides[1];
            }
            row += strides[0];
        }
        *out = q.output(channel, sum.into());
    }
}

/// Two operands, element by element. `dst` holds `a` on entry and the result on return.
pub fn binary_int16(r: &BinaryInt16, b: &[i16], dst: &mut [i16]) {
    let bounds = bounds(r.clamp);
    let [first, second, out] = r.scales;
    let scaled = |v: i32, (multiplier, shift): (i32, i8)| mbqm(v, multiplier, shift);
    let sum = |sign: i32| {
        move |x: i16, y: i16| {
            let x = scaled(i32::from(x) << 15, first);
            let y = scaled(i32::from(y) << 15, second);
            let v = if r.swapped {
                y.wrapping_add(sign.wrapping_mul(x))
            } else {
                x.wrapping_add(sign.wrapping_mul(y))
            };
            bounded(scaled(v, out), bounds)
        }
    };
    let (dims, broadcast) = (r.dims, r.broadcast);
    match r.kind {
        BinaryKind::Add => each_of(dims, broadcast, b, dst, sum(1)),
        BinaryKind::Sub => each_of(dims, broadcast, b, dst, sum(-1)),
        BinaryKind::Mul => {
            each_of(dims, broadcast, b, dst, |x, y| bounded(scaled(i32::from(x) * i32::from(y), out), bounds))
        }
        BinaryKind::Min => each_of(dims, broadcast, b, dst, |x, y| bounded(x.min(y).into(), bounds)),
        BinaryKind::Max => each_of(dims, broadcast, b, dst, |x, y| bounded(x.max(y).into(), bounds)),
        BinaryKind::Div => {}
    }
}

/// Pool. Averages are over the pixels inside, and round half away from zero.
pub fn pool_int16(r: &PoolInt16, src: &[i16], dst: &mut [i16]) {
    let window = Window::from(r.window);
    let (h, w, c) = (usize::from(r.h), usize::from(r.w), usize::from(r.c));
    let (out_h, out_w) = (extent(h, &window, 0), extent(w, &window, 1));
    let [d_h, d_w] = window.dilation.map(usize::from);
    let area = usize::from(window.kernel[0]) * usize::from(window.kernel[1]);
    let bounds = bounds(r.clamp);
    let mut out = dst.iter_mut();
    for image in src.chunks_exact((h * w * c).max(1)) {
        for y in 0..out_h {
            let (ky0, ky1, iy0) = taps(y, h, &window, 0);
            for x in 0..out_w {
                let (kx0, kx1, ix0) = taps(x, w, &window, 1);
                for channel in 0..c {
                    let Some(o) = out.next() else { return };
                    let pixels = (0..ky1 - ky0).flat_map(|ky| {
                        (0..kx1 - kx0).filter_map(move |kx| {
                            image.get(((iy0 + ky * d_h) * w + ix0 + kx * d_w) * c + channel).copied()
                        })
                    });
                    let value = if r.kind == PoolKind::Max {
                        pixels.fold(i16::MIN, i16::max).into()
                    } else {
                        let valid = (ky1 - ky0) * (kx1 - kx0);
                        let all = if r.kind == PoolKind::Average { valid } else { area } as i32;
                        let sum = pixels.fold(0i32, |s, v| s.wrapping_add(v.into()));
                        let half = if sum > 0 { all / 2 } else { -(all / 2) };
                        sum.wrapping_add(half).wrapping_div(all.max(1))
                    };
                    *o = bounded(value, bounds);
                }
            }
        }
    }
}

/// The function of a table between the entries around `x`, which are 128 steps apart.
#[inline]
fn look_up(table: &[i16; ENTRIES], x: i16) -> i16 {
    let at = (256 + (i32::from(x) >> 7)) as usize;
    let entry = |at: usize| table.get(at).copied().unwrap_or(0);
    let base = entry(at);
    let slope = i32::from(entry(at + 1).wrapping_sub(base));
    base.wrapping_add(((slope * i32::from(x & 0x7f) + 64) >> 7) as i16)
}

/// Function of one element, in place.
pub fn lut_int16(table: &[i16; ENTRIES], x: &mut [i16]) {
    x.iter_mut().for_each(|x| *x = look_up(table, *x));
}

/// Softmax of each row, in place, by tables of e^x and 1 / (1 + x).
pub fn softmax_int16(r: &SoftmaxInt16, exp: &[i16; ENTRIES], inverse: &[i16; ENTRIES], x: &mut [i16]) {
    for row in x.chunks_exact_mut((r.depth as usize).max(1)) {
        let most = row.iter().fold(i16::MIN, |m, &v| m.max(v));
        let mut sum = 0i32;
        for v in row.iter_mut() {
            let below = mbqm(i32::from(*v) - i32::from(most), r.multiplier, r.shift);
            *v = look_up(exp, bounded(below.wrapping_add(32767), (i16::MIN, i16::MAX)));
            sum = sum.wrapping_add((*v).into());
        }
        // Between 1 and 17 for TFLite's table; no other table may shift out of range.
        let zeros = (sum as u32).leading_zeros().clamp(1, 30);
        let shifted = ((i64::from(sum) << (zeros - 1)) + (1 << 13)) >> 14;
        let above_one = (shifted as i32).wrapping_sub((1 << 15) + (1 << 16));
        let scale = i64::from(look_up(inverse, bounded(above_one, (i16::MIN, i16::MAX))));
        let right = 31 - zeros;
        for v in row {
            let product = (i64::from(*v) * scale + (1 << (right - 1))) >> right;
            *v = bounded(product as i32, (0, i16::MAX));
        }
    }
}

/// Sigmoid or tanh, in place, between the entries of TFLite's table of sigmoid.
pub fn sigmoid_int16(r: &SigmoidInt16, table: &[u16; 256], x: &mut [i16]) {
    let shift = u32::from(r.shift).min(31);
    let round = if shift > 0 { 1i32 << (shift - 1) } else { 0 };
    for x in x {
        let scaled = i32::from(*x).wrapping_mul(i32::from(r.multiplier)).wrapping_add(round) >> shift;
        let magnitude = scaled.unsigned_abs();
        // Tanh is 2 · sigmoid(2 · x) - 1: half the steps of the table, and one bit more of the result.
        let bits = if r.tanh { 8 } else { 9 };
        let at = (magnitude >> bits) as usize;
        let between = |last: u32| match table.get(at..at + 2) {
            Some(&[a, b]) => {
                let (a, b, t) = (u32::from(a), u32::from(b), magnitude & ((1 << bits) - 1));
                (a << bits).wrapping_add(t.wrapping_mul(b.wrapping_sub(a)))
            }
            _ => last,
        };
        *x = if r.tanh {
            let result = between(0xffff << 8) as i32;
            let centred = if scaled >= 0 {
                result.wrapping_sub(1 << 23).wrapping_add(1 << 7)
            } else {
                (1i32 << 23).wrapping_sub(result).wrapping_add((1 << 7) - 1)
            };
            (centred >> 8) as i16
        } else {
            let result = between(0x7fff << 10);
            let rounded = if scaled >= 0 {
                result.wrapping_add(1 << 9)
            } else {
                (1u32 << 25).wrapping_sub(result).wrapping_add((1 << 9) - 1)
            };
            (rounded >> 10) as i16
        };
    }
}

/// Another scale, for `q` minus its zero point.
#[inline]
fn rescaled(r: &RequantizeInt16, q: i32) -> i32 {
    mbqm(q, r.multiplier, r.shift)
}

/// int16 to int16 of another scale, in place.
pub fn requantize_int16(r: &RequantizeInt16, x: &mut [i16]) {
    let bounds = bounds(r.clamp);
    x.iter_mut().for_each(|x| *x = bounded(rescaled(r, (*x).into()), bounds));
}

/// int8 to int16.
pub fn int8_to_int16(r: &RequantizeInt16, src: &[i8], dst: &mut [i16]) {
    let bounds = bounds(r.clamp);
    for (q, x) in dst.iter_mut().zip(src) {
        *q = bounded(rescaled(r, i32::from(*x) - i32::from(r.zp)), bounds);
    }
}

/// int16 to int8.
pub fn int16_to_int8(r: &RequantizeInt16, src: &[i16], dst: &mut [i8]) {
    debug_assert!(r.change == Int16Change::ToI8);
    let (min, max) = bounds(r.clamp);
    let bounds = (min.max(i8::MIN.into()), max.min(i8::MAX.into()));
    for (q, x) in dst.iter_mut().zip(src) {
        *q = bounded(rescaled(r, (*x).into()).wrapping_add(r.zp.into()), bounds) as i8;
    }
}

/// float32 to int16.
pub fn quantize_int16(r: &QuantizeInt16, src: &[f32], dst: &mut [i16]) {
    for (q, x) in dst.iter_mut().zip(src) {
        // The cast saturates, and turns NaN into 0.
        *q = libm::roundf(*x / r.scale) as i16;
    }
}

/// int16 to float32.
pub fn dequantize_int16(r: &DequantizeInt16, src: &[i16], dst: &mut [f32]) {
    for (x, q) in dst.iter_mut().zip(src) {
        *x = f32::from(*q) * r.scale;
    }
}

/// Over `[outer, extent, inner]`.
pub fn reduce_int16(r: &ReduceInt16, src: &[i16], dst: &mut [i16]) {
    let (extent, inner) = ((r.extent as usize).max(1), (r.inner as usize).max(1));
    for (block, out) in src.chunks_exact(extent.saturating_mul(inner)).zip(dst.chunks_exact_mut(inner)) {
        for (i, o) in out.iter_mut().enumerate() {
            let column = block.get(i..).unwrap_or_default().iter().step_by(inner).copied();
            *o = match r.kind {
                ReduceKind::Max => column.fold(i16::MIN, i16::max),
                ReduceKind::Min => column.fold(i16::MAX, i16::min),
                ReduceKind::Mean | ReduceKind::Sum => {
                    let sum = column.fold(0i32, |s, v| s.wrapping_add(v.into()));
                    bounded(mbqm(sum, r.multiplier, r.shift), (i16::MIN, i16::MAX))
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wide_multiplier_rounds_half_up() {
        // 0.5 is 2^14 of 15 bits.
        assert_eq!([3, -3, 1, -1].map(|x| wide_multiply(x, 1 << 14, 0)), [2, -1, 1, 0]);
        assert_eq!(wide_multiply(1 << 40, 1 << 14, -31), 256);
        assert_eq!(wide_multiply(5, 0x7fff, 7), 640);
    }

    proptest::proptest! {
        #[test]
        fn the_wide_multiplier_is_that_of_int64(x in -1i64 << 47..1i64 << 47, m in 0i32..=0x7fff, shift in -31i8..=7) {
            let right = u32::from(15i8.saturating_sub(shift).unsigned_abs());
            let whole = (x * i64::from(m) + (1 << (right - 1))) >> right;
            proptest::prop_assert_eq!(wide_multiply(x, m, shift), whole as i32);
        }
    }

    #[test]
    fn long_sums_are_exact() {
        let (x, w) = ([i16::MIN; 1000], [i8::MIN; 1000]);
        assert_eq!(products_int16(&x, &w), 1000 << 22);
    }

    #[test]
    fn wide_biases_have_two_words() {
        let q = RequantInt16 {
            bias: &[-1, -1, 1 << 30, 1],
            multiplier: &[1 << 14],
            shift: &[1],
            wide: true,
            bounds: (i16::MIN, i16::MAX),
        };
        assert_eq!(q.output(0, 11), 10);
        assert_eq!(q.output(1, -(1 << 32) - (1 << 30) + 7), 7);
        assert_eq!(q.output(1, 0), i16::MAX);
    }

    #[test]
    fn tables_are_read_between_their_entries() {
        let table: [i16; ENTRIES] = core::array::from_fn(|i| (i as i16 - 256) * 64);
        let mut x = [-32768, -129, -1, 0, 1, 2, 127, 128, 32767];
        lut_int16(&table, &mut x);
        assert_eq!(x, [-16384, -64, 0, 0, 1, 1, 64, 64, 16384]);
    }
}
