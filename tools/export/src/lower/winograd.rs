//! int8 3×3 convolutions as [`record::ConvWinograd`]: fewer multiplications for more flash.

use offshoot::format::blocked::MOST_TILE_PAIRS;
use offshoot::format::codec::Record;
use offshoot::format::record::{self, Window};
use offshoot::graph::cost;
use offshoot_ir::Activation;

use super::blocked::{Extents, emit as emit_record};
use super::linear::{Quantised, requant_blob};
use super::{Context, Lowering, Tensor, clamp_i8};

/// Fewest input channels for which the transformation of the inputs pays.
const LEAST_CHANNELS: u16 = 8;

/// Whether a convolution is of this form and gains by it.
pub(super) fn suits(window: &Window, [.., w, c]: Extents, out_c: u16) -> bool {
    let form = window.kernel == [3, 3] && window.stride == [1, 1] && window.dilation == [1, 1];
    form && c.is_multiple_of(4) && c >= LEAST_CHANNELS && out_c.is_multiple_of(4) && out_c >= 8 && w > 3
}

/// Lowers it. The zero point is folded into the biases of `q`.
pub(super) fn emit(
    c: &mut Context<'_>,
    x: &Tensor,
    y: &Tensor,
    [n, h, w, in_c]: Extents,
    out_c: u16,
    q: &Quantised<'_>,
    window: &Window,
    activation: Activation,
) -> Lowering {
    let channels = usize::from(out_c);
    let fixed = if q.fixed.len() == 1 { vec![q.fixed[0]; channels] } else { q.fixed.clone() };
    let mut blob = requant_blob(&q.bias, &fixed);
    let weights = transform(q.weights, channels, usize::from(in_c));
    let stored = weights.len();
    blob.extend(weights);
    let blob = c.blob(blob, (stored, 4 * channels))?;
    let r = record::ConvWinograd {
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
        clamp: clamp_i8(activation, y),
        strip: strip(c, x, y, in_c),
        blob,
    };
    let scratch = cost::scratch(&Record::ConvWinograd(r)).ok_or("the window does not fit")?;
    let taps = 9 * usize::from(in_c);
    emit_record(c, Record::ConvWinograd(r), x, y, scratch, (y.len() * taps) as u64, (taps * channels) as u64)
}

/// Pairs of tiles of a strip.
fn strip(c: &Context<'_>, x: &Tensor, y: &Tensor, in_c: u16) -> u8 {
    // Beside the pairs, a block of weights.
    let pairs = (c.strip_room(x, y) / usize::from(in_c).max(1)).saturating_sub(96) / 48;
    pairs.clamp(1, c.room.pairs.clamp(1, MOST_TILE_PAIRS.into())) as u8
}

/// Weights (OHWI, 3×3) in the components and order of [`record::ConvWinograd`].
fn transform(weights: &[i8], channels: usize, in_c: usize) -> Vec<u8> {
    let component = |o: usize, row: usize, i: usize, component: usize| -> i16 {
        if o >= channels {
            return 0;
        }
        let g = [0, 1, 2].map(|column| i16::from(weights[((o * 3 + row) * 3 + column) * in_c + i]));
        match component {
            0 => 2 * g[0],
            1 => -2 * g[2],
            2 => g[0] + g[1] + g[2],
            _ => g[0] - g[1] + g[2],
        }
    };
    let mut bytes = Vec::new();
    for block in (0..channels).step_by(4) {
        for index in 0..4 {
            for row in 0..3 {
                for group in (0..in_c).step_by(4) {
                    for first in [group, group + 1] {
                        for o in block..block + 4 {
                            for i in [first, first + 2] {
                                bytes.extend(component(o, row, i, index).to_le_bytes());
                            }
                        }
                    }
                }
            }
        }
    }
    bytes
}
