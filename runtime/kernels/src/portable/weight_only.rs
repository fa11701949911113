//! float32 convolution with integer weights: see [`offshoot_format::weight_only`].

use super::conv::taps;
use super::float::within;
use crate::geometry::extent;
use offshoot_format::record::{ConvWeightOnly, Window};

/// The weights of one channel as stored.
#[derive(Clone, Copy, Debug)]
pub struct Codes<'a> {
    /// 8, 4 or 2.
    pub bits: u8,
    /// Weights of a block, at least 1.
    pub block: usize,
    /// One for each block.
    pub scales: &'a [f32],
    /// One for each block, or none: all 0.
    pub offsets: &'a [i8],
    /// Signed numbers of `bits`, the first in the lowest bits.
    pub codes: &'a [u8],
}

/// Writes the weights of a channel in float32.
pub fn unpack_weights(from: Codes<'_>, row: &mut [f32]) {
    let bits = usize::from(from.bits.clamp(1, 8));
    let mut at = 0;
    for (b, (block, &scale)) in row.chunks_mut(from.block.max(1)).zip(from.scales).enumerate() {
        let offset = i32::from(from.offsets.get(b).copied().unwrap_or(0));
        for weight in block {
            let byte = from.codes.get(at / 8).copied().unwrap_or(0);
            // Moves the code to the top of the byte, so that the shift back extends its sign.
            let top = (byte << (8 - bits - at % 8)) as i8;
            *weight = (i32::from(top >> (8 - bits)) + offset) as f32 * scale;
            at += bits;
        }
    }
}

/// One output channel. It starts at the bias and adds products in the order kernel row, kernel column, input channel, as
/// [`conv2d_f32`](super::conv2d_f32).
pub fn conv_channel_f32(
    r: &ConvWeightOnly,
    channel: usize,
    clamp: (f32, f32),
    bias: f32,
    weights: &[f32],
    src: &[f32],
    dst: &mut [f32],
) {
    let window = Window::from(r.window);
    let (h, w, c) = (usize::from(r.h), usize::from(r.w), usize::from(r.c));
    let (out_h, out_w, out_c) = (extent(h, &window, 0), extent(w, &window, 1), usize::from(r.out_c));
    let groups = usize::from(r.groups).max(1);
    let (in_g, out_g) = (c / groups, out_c / groups);
    let k_w = usize::from(window.kernel[1]);
    let [d_h, d_w] = window.dilation.map(usize::from);
    let first = channel / out_g.max(1) * in_g;
    let mut outputs = dst.iter_mut().skip(channel).step_by(out_c.max(1));
    for image in src.chunks_exact((h * w * c).max(1)) {
        for y in 0..out_h {
            let (ky0, ky1, iy0) = taps(y, h, &window, 0);
            for x in 0..out_w {
                let (kx0, kx1, ix0) = taps(x, w, &window, 1);
                let Some(out) = outputs.next() else { return };
                let mut acc = bias;
                for ky in ky0..ky1 {
                    let row = (iy0 + (ky - ky0) * d_h) * w;
                    for kx in kx0..kx1 {
                        let a = &image[(row + ix0 + (kx - kx0) * d_w) * c + first..][..in_g];
                        let b = &weights[(ky * k_w + kx) * in_g..][..in_g];
                        acc = a.iter().zip(b).fold(acc, |s, (x, w)| s + x * w);
                    }
                }
                *out = within(acc, clamp);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portable::{conv2d_f32, depthwise_f32};
    use offshoot_format::record::{Arith, Conv2d, Depthwise};

    #[test]
    fn codes_by_hand() {
        let mut row = [0.0; 5];
        let from = |bits, codes| Codes { bits, block: 3, scales: &[0.5, 2.0], offsets: &[], codes };
        unpack_weights(from(4, &[0x7f, 0x18, 0x09]), &mut row);
        assert_eq!(row, [-0.5, 3.5, -4.0, 2.0, -14.0]);
        unpack_weights(from(2, &[0b11_10_01_00, 0b01]), &mut row);
        assert_eq!(row, [0.0, 0.5, -1.0, -2.0, 2.0]);
        let bytes = [127, 0x80, 255, 1, 2];
        unpack_weights(Codes { offsets: &[-1, 3], ..from(8, &bytes) }, &mut row);
        assert_eq!(row, [63.0, -64.5, -1.0, 8.0, 10.0]);
    }

    #[test]
    fn it_gives_the_bits_of_float_convolutions() {
        let window = Window { kernel: [2, 3], stride: [2, 1], dilation: [1, 2], pad: [1, 2, 0, 1] };
        let (n, h, w, c) = (2, 5, 7, 4);
        let x: Vec<f32> = (0..n * h * w * c).map(|i| (i as f32 * 0.37).sin()).collect();
        let clamp = (-0.4, f32::INFINITY);
        let bias = [0.1, -0.2, 0.3, 0.4];
        for groups in [1usize, 2, 4] {
            let row = 6 * c / groups;
            let weights: Vec<f32> = (0..4 * row).map(|i| ((i * 7 % 15) as f32 - 7.0) * 0.013).collect();
            let arith = Arith::F32 { clamp: Some(clamp) };
            let (n, h, w, channels) = (n as u16, h as u16, w as u16, c as u16);
            let sizes = offshoot_format::record::WindowRepr::from(window);
            let r = ConvWeightOnly {
                src: 0,
                dst: 0,
                scratch: 0,
                n,
                h,
                w,
                c: channels,
                out_c: 4,
                groups: groups as u16,
                window: sizes,
                clamp: Some(clamp),
                bits: 4,
                block: 8,
                offsets: false,
                blob: 0,
            };
            let outputs = 2 * extent(5, &window, 0) * extent(7, &window, 1) * 4;
            let (mut want, mut got) = (vec![0.0; outputs], vec![0.0; outputs]);
            if groups == 4 {
                let r = Depthwise {
                    src: 0,
                    dst: 0,
                    n,
                    h,
                    w,
                    c: channels,
                    multiplier: 1,
                    window: sizes,
                    arith,
                    blob: 0,
                };
                let planar: Vec<f32> = (0..24).map(|i| weights[i % 4 * 6 + i / 4]).collect();
                depthwise_f32(&r, clamp, &bias, &planar, &x, &mut want);
            } else {
                let r = Conv2d {
                    src: 0,
                    dst: 0,
                    n,
                    h,
                    w,
                    c: channels,
                    out_c: 4,
                    groups: groups as u16,
                    window: sizes,
                    arith,
                    blob: 0,
                };
                conv2d_f32(&r, clamp, &bias, &weights, &x, &mut want);
            }
            for (o, own) in weights.chunks(row).enumerate() {
                conv_channel_f32(&r, o, clamp, bias[o], own, &x, &mut got);
            }
            let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&got), bits(&want), "{groups} groups");
        }
    }
}
