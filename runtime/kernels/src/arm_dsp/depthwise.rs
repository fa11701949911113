//! [`DepthwisePlanar`]: one channel plane after another, with 3×3 windows in assembly.
//!
//! A plane that is gathered as a whole may be transposed, so that the inner loop runs along the longer side of the
//! plane and of the window.

use super::{drops_negatives, gather, plane, saturates, straight, taps, zero_and_half};
use crate::geometry::Planar;
use crate::plane::View;
use crate::requant::Requant;
use crate::tiles::Operands;
use offshoot_base::Rule;
use offshoot_base::{Memory, Span};
use offshoot_format::record::DepthwisePlanar;

/// Whether this build has operators with TFLite's rounding, and operators with exact single-multiply requantisation.
const ROUNDED: bool = cfg!(any(feature = "op-depthwise-planar", feature = "op-depthwise-weight-shared"));
const LINEAR: bool = cfg!(feature = "op-depthwise-single-multiply");

/// See [`crate::depthwise_planar`].
// Not inlined, to keep its frame apart from those of the operators that call it.
#[inline(never)]
pub(crate) fn depthwise_planar(
    r: &DepthwisePlanar,
    g: &Planar,
    q: &Requant<'_>,
    weights: &[i8],
    operands: &mut Operands<'_>,
    planes: Span,
) -> Result<bool, Rule> {
    let mut walk = Walk {
        r,
        g,
        q,
        weights,
        view: View::of(r, g, planes.len / 2),
        small: false,
        scratch: core::ptr::null_mut(),
    };
    let view = &walk.view;
    let small = view.kernel == [3, 3] && matches!(view.stride[1], 1 | 2);
    let linear = LINEAR && (!ROUNDED || q.shift.is_empty());
    if !linear && !cfg!(feature = "planar-any") && !(small && saturates(q)) {
        return Err(Rule::Format);
    }
    if ROUNDED
        && (!saturates(q) || !small && view.kernel[0] * view.kernel[1].next_multiple_of(2) > taps::MOST)
    {
        return Ok(false);
    }
    Memory::new(operands.arena, &[]).write::<i16>(planes)?.fill(i16::from(r.in_zp));
    let (input, output) = (operands.src.start, operands.dst.start);
    let arena = operands.region(&[planes])?.as_mut_ptr();
    // SAFETY: `region` has checked that all three lie in the arena.
    let (src, dst, scratch) =
        unsafe { (arena.add(input), arena.add(output), arena.add(planes.start).cast::<i16>()) };
    (walk.small, walk.scratch) = (small, scratch);
    let (input, output) = (usize::from(r.h) * usize::from(r.w), g.out_h * g.out_w);
    let c = usize::from(r.c);
    for n in 0..usize::from(r.n) {
        for channel in 0..c {
            // SAFETY: the planes of a channel of an image.
            unsafe {
                let src = src.add(n * input * c + channel).cast();
                let dst = dst.add(n * output * c + channel).cast();
                if linear { walk.straight(channel, src, dst) } else { walk.channel(channel, src, dst) }
            }
        }
    }
    Ok(true)
}

struct Walk<'r> {
    r: &'r DepthwisePlanar,
    g: &'r Planar,
    q: &'r Requant<'r>,
    weights: &'r [i8],
    view: View,
    /// 3×3, computed by [`plane`].
    small: bool,
    scratch: *mut i16,
}

impl Walk<'_> {
    /// Whether a channel has all its weights and a bias, as it has in a checked record.
    #[inline(always)]
    fn holds(&self, kernel: [usize; 2], channel: usize) -> bool {
        let step = self.view.weight_step;
        let last = kernel[0].saturating_sub(1) * step[0] + kernel[1].saturating_sub(1) * step[1] + channel;
        last < self.weights.len() && channel < self.q.bias.len()
    }

    /// A weight of a channel.
    ///
    /// # Safety
    /// [`Self::holds`] for a kernel with this position.
    #[inline(always)]
    unsafe fn weight(&self, row: usize, column: usize, channel: usize) -> i8 {
        let v = &self.view;
        // SAFETY: as above.
        unsafe { *self.weights.get_unchecked(row * v.weight_step[0] + column * v.weight_step[1] + channel) }
    }

    /// # Safety
    /// `src` and `dst` are the channel's first elements in an image and in its output.
    #[inline(never)]
    unsafe fn channel(&self, channel: usize, src: *const i8, dst: *mut i8) {
        if !cfg!(any(feature = "planar-signed", feature = "planar-positive")) {
            return;
        }
        let v = &self.view;
        let Some((multiplier, shift)) =
            self.q.scale_or_none(channel).filter(|_| self.holds(v.kernel, channel))
        else {
            return;
        };
        let shift = u32::from(shift.unsigned_abs()) - 1;
        // SAFETY: within the kernel, which is 3×3 if it is small.
        let w = |row: usize, column: usize| 2 * i16::from(unsafe { self.weight(row, column, channel) });
        let row = |i: usize| if self.small { [[w(i, 0), w(i, 1)], [w(i, 1), w(i, 2)]] } else { [[0; 2]; 2] };
        let [[w0, w1], [w2, w3], [w4, w5]] = [row(0), row(1), row(2)];
        let single = v.stride[1] == 2;
        let mut windows = plane::Windows {
            weights: [w0, w1, w2, w3, w4, w5],
            src: self.scratch,
            pitch: 2 * v.pitch,
            advance: 2 * v.stride[0] * v.pitch,
            out: dst,
            step: v.output_step[1],
            pairs: if single { 0 } else { v.output[1] / 2 },
            singles: if single { v.output[1] } else { v.output[1] % 2 },
            rows: 0,
            bias: 2 * self.q.bias(channel),
            multiplier,
            offset: zero_and_half(self.q) << shift,
            shift,
            gap: v.output_step[0].wrapping_sub(v.output[1] * v.output_step[1]),
        };
        self.bands(src, |rows| {
            (windows.src, windows.rows) = (self.scratch, rows);
            // SAFETY: the scratch holds the rows of the band, and two values more than its rows; the outputs lie in the
            // plane of the channel.
            unsafe {
                let signed = cfg!(feature = "planar-signed");
                let positive = cfg!(feature = "planar-positive") && (drops_negatives(self.q) || !signed);
                if self.small && positive {
                    plane::run_positive(&mut windows);
                } else if self.small && signed {
                    plane::run(&mut windows);
                } else if cfg!(feature = "planar-any") {
                    taps::run(&mut windows, v.kernel, v.stride[1], v.output[1], w);
                }
            }
        });
    }

    /// Like [`Self::channel`], for the records of [`offshoot_format::single_multiply`].
    ///
    /// # Safety
    /// As for [`Self::channel`].
    #[inline(never)]
    unsafe fn straight(&self, channel: usize, src: *const i8, dst: *mut i8) {
        let v = &self.view;
        let Some(&multiplier) = self.q.multiplier.get(channel).filter(|_| self.holds([3, 3], channel)) else {
            return;
        };
        // SAFETY: within 3×3.
        let w = |row: usize, column: usize| i16::from(unsafe { self.weight(row, column, channel) }) << 8;
        let row = |i: usize| [[w(i, 0), w(i, 1)], [w(i, 1), w(i, 2)]];
        let [[w0, w1], [w2, w3], [w4, w5]] = [row(0), row(1), row(2)];
        let (pairs, singles) =
            if v.stride[1] == 2 { (0, v.output[1]) } else { (v.output[1] / 2, v.output[1] % 2) };
        let mut windows = straight::Windows {
            weights: [w0, w1, w2, w3, w4, w5],
            src: self.scratch,
            pitch: 2 * v.pitch,
            advance: 2 * v.stride[0] * v.pitch,
            out: dst,
            pairs: 4 * pairs,
            singles: 4 * singles,
            rows: 0,
            gap: v.output_step[0].wrapping_sub(v.output[1] * v.output_step[1]),
            bias: self.q.bias(channel),
            multiplier,
            step: v.output_step[1],
        };
        self.bands(src, |rows| {
            (windows.src, windows.rows) = (self.scratch, rows);
            // SAFETY: as in `channel`.
            unsafe { straight::run(&mut windows) };
        });
    }

    /// Gathers the channel's rows band by band; calls `compute` with the number of output rows of each band. `src` is
    /// the channel's first element.
    #[inline(always)]
    fn bands(&self, src: *const i8, mut compute: impl FnMut(usize)) {
        let v = &self.view;
        let mut gathered = 0;
        let mut from = 0;
        while from < v.output[0] {
            let to = (from + v.band).min(v.output[0]);
            let (origin, end) = (from * v.stride[0], (to - 1) * v.stride[0] + v.kernel[0]);
            let kept = usize::max(gathered, origin) - origin;
            if kept > 0 && from > 0 {
                let first = v.band * v.stride[0] * v.pitch;
                // SAFETY: rows of the scratch.
                unsafe { core::ptr::copy(self.scratch.add(first), self.scratch, kept * v.pitch) };
            }
            self.gather(src, origin, origin + kept..end);
            gathered = end;
            compute(to - from);
            from = to;
        }
    }

    /// Gathers rows of the padded plane; columns in the padding already hold the zero point.
    fn gather(&self, src: *const i8, origin: usize, rows: core::ops::Range<usize>) {
        let v = &self.view;
        let [height, width] = v.input;
        let inside =
            rows.start.max(v.pad[0]).min(v.pad[0] + height)..rows.end.max(v.pad[0]).min(v.pad[0] + height);
        if v.band < v.output[0] {
            // The rows have held others: fill those in the padding again.
            for row in rows.filter(|row| !inside.contains(row)) {
                // SAFETY: a row of the scratch.
                let line = unsafe {
                    core::slice::from_raw_parts_mut(self.scratch.add((row - origin) * v.pitch), v.pitch)
                };
                line.fill(i16::from(self.r.in_zp));
            }
        }
        if inside.is_empty() || width == 0 || self.g.out_w == 0 {
            return;
        }
        // SAFETY: rows of the image and of the scratch.
        unsafe {
            gather::plane(&gather::Plane {
                src: src.add((inside.start - v.pad[0]) * v.input_step[0]),
                step: v.input_step[1],
                dst: self.scratch.add((inside.start - origin) * v.pitch + v.pad[1]),
                width,
                rows: inside.len(),
                gap: 2 * (v.pitch - width),
                src_gap: v.input_step[0].wrapping_sub(width * v.input_step[1]),
            });
        }
    }
}
