//! [`ConvBlocked`]: gathers the inputs of a pair of pixels, then computes its outputs.

use super::{gather, pair, saturates, vector, zero_and_half};
use crate::engine::Memory;
use crate::error::Rule;
use crate::format::record::{ConvBlocked, Walk};
use crate::kernels::Requant;
use crate::kernels::geometry::{Blocked, Segment};
use crate::ops::Layout;

/// See [`crate::kernels::passes::conv_blocked`].
pub(crate) fn conv_blocked(
    r: &ConvBlocked,
    g: &Blocked,
    q: &Requant<'_>,
    weights: &[i16],
    memory: &mut Memory<'_>,
    layout: &Layout,
) -> Result<(), Rule> {
    let Some(lanes) = r.lanes(g)? else {
        let (src, dst) = memory.split(layout.src, layout.dst)?;
        conv_vector(r, g, q, weights, src, dst);
        return Ok(());
    };
    let arena = memory.region(&[layout.src, layout.dst, lanes])?;
    let readable = arena.len() - layout.src.start;
    let arena = arena.as_mut_ptr();
    // SAFETY: `region` has checked that all three lie in the arena.
    let (src, dst, lanes) = unsafe {
        (arena.add(layout.src.start), arena.add(layout.dst.start), arena.add(lanes.start).cast::<i16>())
    };
    let gatherer = Gatherer { r, g, src: src.cast(), readable, lanes };
    let pairs = g.pairs();
    let out_c = usize::from(r.out_c);
    let backwards = r.walk == Walk::Backwards;
    let mut site = Site::of(g, if backwards { 2 * (pairs - 1) } else { 0 });
    for i in 0..pairs {
        let first = 2 * if backwards { pairs - 1 - i } else { i };
        let alone = first + 1 == g.pixels;
        let second = if alone { site } else { site.next(g) };
        gatherer.pair(&site, &second);
        // SAFETY: both pixels lie in the output, whose length `layout` gives.
        let out =
            unsafe { [dst.add(first * out_c).cast(), dst.add((first + usize::from(!alone)) * out_c).cast()] };
        compute(g, q, weights, lanes, out, out_c);
        if i + 1 < pairs {
            site = if backwards { site.back(g).back(g) } else { second.next(g) };
        }
    }
    Ok(())
}

/// Where an output pixel lies.
#[derive(Clone, Copy)]
struct Site {
    index: usize,
    n: usize,
    y: usize,
    x: usize,
}

impl Site {
    fn of(g: &Blocked, index: usize) -> Self {
        let (n, y, x) = g.position(index);
        Self { index, n, y, x }
    }

    fn next(mut self, g: &Blocked) -> Self {
        (self.index, self.x) = (self.index + 1, self.x + 1);
        if self.x == g.out_w {
            (self.x, self.y) = (0, self.y + 1);
            if self.y == g.out_h {
                (self.y, self.n) = (0, self.n + 1);
            }
        }
        self
    }

    fn back(mut self, g: &Blocked) -> Self {
        self.index -= 1;
        if self.x > 0 {
            self.x -= 1;
            return self;
        }
        self.x = g.out_w - 1;
        if self.y > 0 {
            self.y -= 1;
        } else {
            (self.y, self.n) = (g.out_h - 1, self.n.wrapping_sub(1));
        }
        self
    }
}

/// Brings inputs into the lanes.
struct Gatherer<'r> {
    r: &'r ConvBlocked,
    g: &'r Blocked,
    src: *const i8,
    /// Bytes that may be read from `src` on.
    readable: usize,
    lanes: *mut i16,
}

impl Gatherer<'_> {
    /// Index of the first input of a window that lies in the input as a whole.
    #[inline(always)]
    fn inside(&self, site: &Site) -> Option<usize> {
        let (r, g) = (self.r, self.g);
        let [stride_h, stride_w] = g.window.stride.map(usize::from);
        let [top, left, ..] = g.window.pad.map(usize::from);
        let (row, column) = ((site.y * stride_h).wrapping_sub(top), (site.x * stride_w).wrapping_sub(left));
        let reach = (usize::from(g.window.kernel[0]) - 1) * usize::from(g.window.dilation[0]);
        let (h, w) = (usize::from(r.h), usize::from(r.w));
        // A begin before the input has wrapped: it is beyond any extent.
        let fits = row < h && row + reach < h && column < w && column + usize::from(g.window.kernel[1]) <= w;
        fits.then(|| ((site.n * h + row) * w + column) * usize::from(r.c))
    }

    fn pair(&self, first: &Site, second: &Site) {
        let g = self.g;
        let k_h = usize::from(g.window.kernel[0]);
        let row_step = usize::from(g.window.dilation[0]) * usize::from(self.r.w) * usize::from(self.r.c);
        let groups = g.padded / 4;
        if let (Some(p), Some(q)) = (self.inside(first), self.inside(second)) {
            let last = p.max(q) + (k_h - 1) * row_step + g.padded;
            if last <= self.readable {
                for ky in 0..k_h {
                    // SAFETY: the windows lie in the input; what is read behind their last row, to a multiple of
                    // four, is readable. The lanes hold `k_h` rows.
                    unsafe {
                        let at = |start: usize| self.src.add(start + ky * row_step);
                        gather::both(at(p), at(q), self.lanes.add(2 * ky * g.padded), groups);
                    }
                }
                return;
            }
        }
        for (lane, site) in [first, second].into_iter().enumerate() {
            for ky in 0..k_h {
                let s = g.segment(self.r, (site.n, site.y, site.x), ky);
                // SAFETY: the lanes hold `k_h` rows of `padded` inputs, two lanes wide.
                unsafe { self.row(&s, self.lanes.add(2 * ky * g.padded + 2 * lane)) };
            }
        }
    }

    /// One kernel row of one pixel, parts of which may lie in the padding.
    ///
    /// # Safety
    /// `lane` is valid for a row.
    unsafe fn row(&self, s: &Segment, lane: *mut i16) {
        let (g, zero) = (self.g, self.r.in_zp);
        // SAFETY: segments lie in the input.
        let bytes = unsafe { core::slice::from_raw_parts(self.src.add(s.at), s.inside) };
        if s.before.is_multiple_of(4) && s.inside.is_multiple_of(4) {
            let filling = u32::from_ne_bytes([zero as u8; 4]);
            let (first, end) = (s.before / 4, (s.before + s.inside) / 4);
            // SAFETY: groups of the row.
            unsafe {
                let group = |i: usize| lane.add(8 * i).cast::<u32>();
                (0..first).chain(end..g.padded / 4).for_each(|i| gather::put(group(i), filling));
                gather::lane(bytes.as_ptr(), lane.add(8 * first), end - first);
            }
            return;
        }
        for i in 0..g.padded / 4 {
            let value = |j: usize| {
                (4 * i + j).checked_sub(s.before).and_then(|k| bytes.get(k)).copied().unwrap_or(zero)
            };
            let group = u32::from_ne_bytes([0, 1, 2, 3].map(|j| value(j) as u8));
            // SAFETY: a group of the row.
            unsafe { gather::put(lane.add(8 * i).cast(), group) };
        }
    }
}

/// Outputs of a pair from its lanes.
fn compute(
    g: &Blocked,
    q: &Requant<'_>,
    weights: &[i16],
    lanes: *const i16,
    out: [*mut i8; 2],
    out_c: usize,
) {
    let mut args = pair::Pair {
        lanes,
        weights: weights.as_ptr(),
        bias: q.bias.as_ptr(),
        multiplier: q.multiplier.as_ptr(),
        shift: q.shift.as_ptr(),
        out,
        blocks: (out_c / 4) as u32,
        // SAFETY: two lanes of `k` inputs.
        end: unsafe { lanes.add(2 * g.k) },
        entry: pair::entry(g.k / 4),
        zero_and_half: zero_and_half(q),
    };
    let tail = out_c % 4;
    // SAFETY: weights, lanes and outputs are as long as the record says (`ops` has checked). The last block may read
    // up to three biases, multipliers and shifts too many: those are followed by a block of weights, 16 bytes or more.
    unsafe {
        if args.blocks > 0 {
            pair::run(&mut args);
        }
        if tail > 0 {
            let mut block = [[0i8; 4]; 2];
            args.out = [block[0].as_mut_ptr(), block[1].as_mut_ptr()];
            args.blocks = 1;
            pair::run(&mut args);
            for (out, block) in out.iter().zip(&block) {
                core::ptr::copy_nonoverlapping(block.as_ptr(), out.add(out_c - tail), tail);
            }
        }
        if !saturates(q) {
            for out in out {
                clamp(q, core::slice::from_raw_parts_mut(out, out_c));
            }
        }
    }
}

fn clamp(q: &Requant<'_>, out: &mut [i8]) {
    for v in out {
        *v = i32::from(*v).clamp(q.min, q.max) as i8;
    }
}

fn conv_vector(r: &ConvBlocked, g: &Blocked, q: &Requant<'_>, weights: &[i16], src: &[i8], dst: &mut [i8]) {
    let out_c = usize::from(r.out_c);
    let mut args = vector::Vector {
        src: src.as_ptr(),
        weights: weights.as_ptr(),
        bias: q.bias.as_ptr(),
        multiplier: q.multiplier.as_ptr(),
        shift: q.shift.as_ptr(),
        out: dst.as_mut_ptr(),
        blocks: (out_c / 4) as u32,
        end: src[..g.k].as_ptr_range().end,
        entry: vector::entry(g.k / 4),
        zero_and_half: zero_and_half(q),
        scale_step: if r.walk == Walk::VectorOneScale { 0 } else { 4 },
    };
    let tail = out_c % 4;
    // SAFETY: as in `compute`.
    unsafe {
        if args.blocks > 0 {
            vector::run(&mut args);
        }
        if tail > 0 {
            let mut block = [0i8; 4];
            args.out = block.as_mut_ptr();
            args.blocks = 1;
            vector::run(&mut args);
            dst[out_c - tail..].copy_from_slice(&block[..tail]);
        }
    }
    if !saturates(q) {
        clamp(q, dst);
    }
}
