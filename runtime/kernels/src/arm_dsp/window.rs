//! Windows of a tiled convolution: their positions in the input, and how their inputs are gathered into the lanes.

use super::gather;
use crate::geometry::Tiled;
use offshoot_format::record::ConvTiled;

/// Position of an output pixel and its window.
#[derive(Clone, Copy)]
pub(super) struct Site {
    n: usize,
    y: usize,
    x: usize,
    /// Index of the first input of its window, if the whole window lies in the input.
    at: usize,
    /// Whether all rows of its window lie in the input.
    rows_inside: bool,
}

/// Gathers the inputs of windows into the lanes.
pub(super) struct Windows<'r> {
    r: &'r ConvTiled,
    g: &'r Tiled,
    src: *const i8,
    /// Bytes that may be read from `src` on.
    readable: usize,
    pub(super) lanes: *mut i16,
    /// Elements from one window to the next.
    step: usize,
    /// Elements from one kernel row to the next.
    row_step: usize,
    /// Elements from the first of a window to the end of its last row, padded to groups of four.
    reach: usize,
    /// Columns whose windows lie in the input.
    inside: core::ops::Range<usize>,
    /// Whether each window is one pixel, and windows are contiguous across rows.
    pub(super) plain: bool,
}

impl<'r> Windows<'r> {
    pub(super) fn new(
        r: &'r ConvTiled,
        g: &'r Tiled,
        src: *const i8,
        readable: usize,
        lanes: *mut i16,
    ) -> Self {
        let (w, c) = (usize::from(r.w), usize::from(r.c));
        let [k_h, k_w] = g.window.kernel.map(usize::from);
        // A checked record has a stride of at least one.
        let (stride, left) = (usize::from(g.window.stride[1]).max(1), usize::from(g.window.pad[1]));
        // These wrap only if no window lies in the input; then they are not used.
        let row_step = usize::from(g.window.dilation[0]).wrapping_mul(w * c);
        let end = (w + left).checked_sub(k_w).map_or(0, |last| last / stride + 1);
        Self {
            r,
            g,
            src,
            readable,
            lanes,
            step: stride * c,
            row_step,
            reach: (k_h - 1).wrapping_mul(row_step).wrapping_add(g.padded),
            inside: left.div_ceil(stride)..end,
            plain: g.window.kernel == [1, 1] && g.window.stride == [1, 1] && g.window.pad == [0; 4],
        }
    }

    pub(super) fn site(&self, pixel: usize) -> Site {
        let (n, y, x) = self.g.position(pixel);
        let (h, w, c) = (usize::from(self.r.h), usize::from(self.r.w), usize::from(self.r.c));
        let window = &self.g.window;
        let first = (y * usize::from(window.stride[0])).wrapping_sub(usize::from(window.pad[0]));
        let reach = (usize::from(window.kernel[0]) - 1) * usize::from(window.dilation[0]);
        // A start before the input wraps to beyond any extent.
        let rows_inside = first < h && first + reach < h;
        let row = (n * h).wrapping_add(first).wrapping_mul(w * c);
        let at = row.wrapping_add(x * self.step).wrapping_sub(usize::from(window.pad[1]) * c);
        Site { n, y, x, at, rows_inside }
    }

    /// Elements from the window of a pair's first pixel to that of the next pair.
    pub(super) fn pair_step(&self) -> usize {
        2 * self.step
    }

    /// Number of pairs, beginning at that of `site`, whose windows lie in the input at equal distances.
    pub(super) fn run(&self, site: &Site, backwards: bool) -> usize {
        let pixels = if self.plain {
            let index = (site.n * self.g.out_h + site.y) * self.g.out_w + site.x;
            if backwards { index + 2 } else { self.g.pixels - index }
        } else if !site.rows_inside || site.x < self.inside.start || site.x + 1 >= self.inside.end {
            0
        } else if backwards {
            site.x + 2 - self.inside.start
        } else {
            self.inside.end - site.x
        };
        // Rows are read to a multiple of four inputs, which must not exceed the arena.
        let last = |pairs: usize| site.at + (2 * pairs - 1) * self.step + self.reach;
        let mut pairs = pixels / 2;
        if backwards {
            return if pairs > 0 && last(1) <= self.readable { pairs } else { 0 };
        }
        while pairs > 0 && last(pairs) > self.readable {
            pairs -= 1;
        }
        pairs
    }

    /// The windows of a pair inside the input, the first at `site`.
    pub(super) fn rows(&self, site: &Site) -> gather::Rows {
        let first = self.src.wrapping_add(site.at);
        gather::Rows {
            src: [first, first.wrapping_add(self.step)],
            lanes: self.lanes,
            groups: self.g.padded / 4,
            rows: usize::from(self.g.window.kernel[0]),
            gap: self.row_step.wrapping_sub(self.g.padded),
        }
    }

    /// Pairs of pixels, beginning at that of `pixel`, whose windows are contiguous pixels; at most `most`.
    pub(super) fn plain_run(&self, pixel: usize, most: usize) -> (usize, gather::Rows) {
        let at = pixel * self.step;
        let mut pairs = ((self.g.pixels - pixel) / 2).min(most);
        while pairs > 0 && at + (2 * pairs - 1) * self.step + self.reach > self.readable {
            pairs -= 1;
        }
        let site = Site { n: 0, y: 0, x: 0, at, rows_inside: true };
        (pairs, self.rows(&site))
    }

    /// Gathers the inputs of a pair with windows anywhere.
    #[inline(never)]
    pub(super) fn gather(&self, sites: [Site; 2]) {
        for (lane, site) in sites.iter().enumerate() {
            // SAFETY: the second lane begins one word after the first.
            self.border(site, unsafe { self.lanes.add(2 * lane) });
        }
    }

    /// Gathers a window that lies partly in the padding.
    fn border(&self, site: &Site, mut lane: *mut i16) {
        let (r, g) = (self.r, self.g);
        let (h, w, c) = (usize::from(r.h), usize::from(r.w), usize::from(r.c));
        let [stride_h, stride_w] = g.window.stride.map(usize::from);
        let [top, left, ..] = g.window.pad.map(usize::from);
        let [k_h, k_w] = g.window.kernel.map(usize::from);
        let first = left.saturating_sub(site.x * stride_w).min(k_w);
        let start = (site.x * stride_w + first).saturating_sub(left);
        let s = Columns { before: first * c, inside: (k_w - first).min(w.saturating_sub(start)) * c };
        let mut row = (site.y * stride_h).wrapping_sub(top);
        if g.padded == 4 {
            self.border_of_one_group(site, &s, start, lane);
            return;
        }
        for _ in 0..k_h {
            // SAFETY: the lanes hold all rows of the kernel.
            unsafe {
                if row < h && s.inside > 0 {
                    self.row(&s, ((site.n * h + row) * w + start) * c, lane);
                } else {
                    self.fill(lane, 0..g.padded / 4);
                }
                lane = lane.add(2 * g.padded);
            }
            row = row.wrapping_add(usize::from(g.window.dilation[0]));
        }
    }

    /// Like [`Self::border`], for kernel rows of a single group.
    fn border_of_one_group(&self, site: &Site, s: &Columns, start: usize, mut lane: *mut i16) {
        let (r, g) = (self.r, self.g);
        let (h, w, c) = (usize::from(r.h), usize::from(r.w), usize::from(r.c));
        let filling = u32::from_ne_bytes([r.in_zp as u8; 4]);
        let end = s.before + s.inside;
        let mask =
            if s.inside == 0 { 0 } else { (u32::MAX << (8 * s.before)) & (u32::MAX >> (32 - 8 * end)) };
        let mut row = (site.y * usize::from(g.window.stride[0])).wrapping_sub(usize::from(g.window.pad[0]));
        let dilation = usize::from(g.window.dilation[0]);
        for _ in 0..g.window.kernel[0] {
            let begin = ((site.n * h).wrapping_add(row).wrapping_mul(w) + start)
                .wrapping_mul(c)
                .wrapping_sub(s.before);
            // SAFETY: four bytes of the arena; the lanes hold all rows of the kernel.
            unsafe {
                if row >= h || mask == 0 {
                    gather::put(lane.cast(), filling);
                } else if begin.checked_add(4).is_some_and(|end| end <= self.readable) {
                    let word = self.src.add(begin).cast::<u32>().read_unaligned();
                    gather::put(lane.cast(), word & mask | filling & !mask);
                } else {
                    self.row(s, begin.wrapping_add(s.before), lane);
                }
                lane = lane.add(8);
            }
            row = row.wrapping_add(dilation);
        }
    }

    /// Fills groups of a lane with the zero point.
    ///
    /// # Safety
    /// The groups lie in the lane.
    unsafe fn fill(&self, lane: *mut i16, groups: core::ops::Range<usize>) {
        let filling = u32::from_ne_bytes([self.r.in_zp as u8; 4]);
        // SAFETY: as above.
        groups.for_each(|i| unsafe { gather::put(lane.add(8 * i).cast(), filling) });
    }

    /// Gathers one kernel row, whose inputs in the tensor begin at `at`.
    ///
    /// # Safety
    /// `lane` is valid for a row.
    unsafe fn row(&self, s: &Columns, at: usize, lane: *mut i16) {
        let filling = u32::from_ne_bytes([self.r.in_zp as u8; 4]);
        let (first, whole, rest) = (s.before / 4, s.inside / 4, s.inside % 4);
        let part = at + 4 * whole;
        if s.before.is_multiple_of(4) && (rest == 0 || part + 4 <= self.readable) {
            // Groups before the input, groups inside, one that begins inside, and those after it.
            let mut next = first + whole;
            // SAFETY: groups of the row; the inputs lie in the tensor, and the four of the one that begins there in the
            // arena.
            unsafe {
                self.fill(lane, 0..first);
                gather::lane(self.src.add(at), lane.add(8 * first), whole);
                if rest > 0 {
                    let word = self.src.add(part).cast::<u32>().read_unaligned();
                    let mask = u32::MAX >> (32 - 8 * rest);
                    gather::put(lane.add(8 * next).cast(), word & mask | filling & !mask);
                    next += 1;
                }
                self.fill(lane, next..self.g.padded / 4);
            }
            return;
        }
        for i in 0..self.g.padded / 4 {
            // Bytes of the group that lie in the input: first and end.
            let from = s.before.saturating_sub(4 * i).min(4);
            let to = (s.before + s.inside).saturating_sub(4 * i).min(4);
            let begin = (at + 4 * i).wrapping_sub(s.before);
            let group = if from < to && begin.checked_add(4).is_some_and(|end| end <= self.readable) {
                // SAFETY: four bytes of the arena.
                let word = unsafe { self.src.add(begin).cast::<u32>().read_unaligned() };
                let mask = (u32::MAX << (8 * from)) & (u32::MAX >> (32 - 8 * to));
                word & mask | filling & !mask
            } else {
                // SAFETY: inputs of the tensor.
                let byte = |j: usize| unsafe { self.src.add(begin.wrapping_add(j)).read() };
                let value = |j: usize| if (from..to).contains(&j) { byte(j) } else { self.r.in_zp };
                u32::from_ne_bytes([0, 1, 2, 3].map(|j| value(j) as u8))
            };
            // SAFETY: a group of the row.
            unsafe { gather::put(lane.add(8 * i).cast(), group) };
        }
    }
}

/// Inputs that a kernel row covers: elements before the tensor, elements in it.
struct Columns {
    before: usize,
    inside: usize,
}
