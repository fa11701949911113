//! [`DepthwisePlanar`]: 3×3 windows in assembly, others as the portable kernels have them.

use super::{gather, plane, saturates, zero_and_half};
use crate::engine::Memory;
use crate::error::Rule;
use crate::format::record::DepthwisePlanar;
use crate::kernels::geometry::Planar;
use crate::kernels::{Requant, passes};
use crate::ops::Layout;

/// See [`crate::kernels::passes::depthwise_planar`].
pub(crate) fn depthwise_planar(
    r: &DepthwisePlanar,
    g: &Planar,
    q: &Requant<'_>,
    weights: &[i8],
    memory: &mut Memory<'_>,
    layout: &Layout,
) -> Result<(), Rule> {
    if g.window.kernel != [3, 3] || !matches!(g.window.stride[1], 1 | 2) || !saturates(q) {
        return passes::depthwise_planar(r, g, q, weights, memory, layout);
    }
    let planes = r.planes(g)?;
    memory.write::<i16>(planes)?.fill(i16::from(r.in_zp));
    let arena = memory.region(&[layout.src, layout.dst, planes])?.as_mut_ptr();
    // SAFETY: `region` has checked that all three lie in the arena.
    let (src, dst, scratch) = unsafe {
        (arena.add(layout.src.start), arena.add(layout.dst.start), arena.add(planes.start).cast::<i16>())
    };
    let walk = Walk { r, g, q, weights, src: src.cast(), dst: dst.cast(), scratch };
    for n in 0..usize::from(r.n) {
        for channel in 0..usize::from(r.c) {
            walk.channel(n, channel);
        }
    }
    Ok(())
}

struct Walk<'r> {
    r: &'r DepthwisePlanar,
    g: &'r Planar,
    q: &'r Requant<'r>,
    weights: &'r [i8],
    src: *const i8,
    dst: *mut i8,
    scratch: *mut i16,
}

impl Walk<'_> {
    fn channel(&self, n: usize, channel: usize) {
        let (g, c) = (self.g, usize::from(self.r.c));
        let stride = usize::from(g.window.stride[0]);
        let single = g.window.stride[1] == 2;
        let (multiplier, shift) = self.q.scale(channel);
        let shift = u32::from(shift.unsigned_abs()) - 1;
        let w = |i: usize| 2 * i16::from(self.weights[i * c + channel]);
        let row = |ky: usize| {
            let [a, b, c] = [w(3 * ky), w(3 * ky + 1), w(3 * ky + 2)];
            [[a, b], [b, c]]
        };
        let [[w0, w1], [w2, w3], [w4, w5]] = [row(0), row(1), row(2)];
        let mut windows = plane::Windows {
            weights: [w0, w1, w2, w3, w4, w5],
            src: self.scratch,
            pitch: 2 * g.pitch,
            advance: 2 * stride * g.pitch,
            // SAFETY: the plane of the image in the output.
            out: unsafe { self.dst.add(n * g.out_h * g.out_w * c + channel) },
            step: c,
            pairs: if single { 0 } else { g.out_w / 2 },
            singles: if single { g.out_w } else { g.out_w % 2 },
            rows: 0,
            bias: 2 * self.q.bias[channel],
            multiplier,
            offset: zero_and_half(self.q) << shift,
            shift,
        };
        let mut gathered = 0;
        let mut from = 0;
        while from < g.out_h {
            let to = (from + g.band).min(g.out_h);
            let (origin, end) = (from * stride, (to - 1) * stride + 3);
            let kept = usize::max(gathered, origin) - origin;
            if kept > 0 && from > 0 {
                let first = g.band * stride * g.pitch;
                // SAFETY: rows of the scratch.
                unsafe { core::ptr::copy(self.scratch.add(first), self.scratch, kept * g.pitch) };
            }
            self.gather(n, channel, origin, origin + kept..end);
            gathered = end;
            (windows.src, windows.rows) = (self.scratch, to - from);
            // SAFETY: the scratch holds the rows of the band, and two values more than its rows; the outputs lie in
            // the plane of the channel.
            unsafe { plane::run(&mut windows) };
            from = to;
        }
    }

    /// Rows of the padded plane; columns in the padding hold the zero point already.
    fn gather(&self, n: usize, channel: usize, origin: usize, rows: core::ops::Range<usize>) {
        let (r, g) = (self.r, self.g);
        let (h, w, c) = (usize::from(r.h), usize::from(r.w), usize::from(r.c));
        let [top, left, ..] = g.window.pad.map(usize::from);
        let inside = rows.start.clamp(top, top + h)..rows.end.clamp(top, top + h);
        if g.band < g.out_h {
            // The rows have held others: those in the padding are to be filled again.
            for row in rows.filter(|row| !inside.contains(row)) {
                // SAFETY: a row of the scratch.
                let line = unsafe {
                    core::slice::from_raw_parts_mut(self.scratch.add((row - origin) * g.pitch), g.pitch)
                };
                line.fill(i16::from(r.in_zp));
            }
        }
        if inside.is_empty() || w == 0 {
            return;
        }
        // SAFETY: rows of the image and of the scratch.
        unsafe {
            gather::plane(&gather::Plane {
                src: self.src.add((n * h + inside.start - top) * w * c + channel),
                step: c,
                dst: self.scratch.add((inside.start - origin) * g.pitch + left),
                width: w,
                rows: inside.len(),
                gap: 2 * (g.pitch - w),
            });
        }
    }
}
