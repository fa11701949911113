//! Gathers the inputs of output pixels.

use crate::geometry::Tiled;
use core::arch::naked_asm;
use offshoot_format::record::ConvTiled;

/// Copies bytes.
///
/// # Safety
/// `src` is valid for reads and `dst` for writes of `len` bytes, which is not 0; they share none.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn copy(src: *const i8, dst: *mut i8, len: usize) {
    naked_asm!(
        extension!(),
        "push {{r7, lr}}",
        "dlstp.8 lr, r2",
        "2:",
        "vldrb.u8 q0, [r0], #16",
        "vstrb.8 q0, [r1], #16",
        "letp lr, 2b",
        "pop {{r7, pc}}",
    )
}

/// Writes `len` times `value`.
///
/// # Safety
/// `dst` is valid for writes of `len` bytes, which is not 0.
#[unsafe(naked)]
unsafe extern "C" fn fill(dst: *mut i8, value: i32, len: usize) {
    naked_asm!(
        extension!(),
        "push {{r7, lr}}",
        "vdup.8 q0, r1",
        "dlstp.8 lr, r2",
        "2:",
        "vstrb.8 q0, [r0], #16",
        "letp lr, 2b",
        "pop {{r7, pc}}",
    )
}

/// Runs of bytes to copy.
#[repr(C)]
struct Runs {
    src: *const i8,
    dst: *mut i8,
    /// Bytes of a run, at least one.
    len: usize,
    /// Runs, at least one.
    rows: usize,
    /// Bytes from a run to the next, where they come from and where they go.
    steps: [usize; 2],
}

/// Copies runs.
///
/// # Safety
/// The runs are valid for reads and writes; they share no byte.
#[unsafe(naked)]
unsafe extern "C" fn copy_runs(runs: &Runs) {
    naked_asm!(
        extension!(),
        "push {{r4-r7, lr}}",
        "ldm r0, {{r1-r6}}",
        "rsb r7, r3, #0",
        "and r7, r7, #15",
        "add r7, r3",
        "sub r5, r7",
        "sub r6, r7",
        "2:",
        "dlstp.8 lr, r3",
        "3:",
        "vldrb.u8 q0, [r1], #16",
        "vstrb.8 q0, [r2], #16",
        "letp lr, 3b",
        "add r1, r5",
        "add r2, r6",
        "subs r4, #1",
        "bne 2b",
        "pop {{r4-r7, pc}}",
    )
}

/// The windows of three pixels.
#[repr(C)]
struct Three {
    src: *const i8,
    dst: *mut i8,
    /// Bytes of a kernel row, at least one.
    len: usize,
    /// Kernel rows, at least one.
    rows: usize,
    /// Bytes from a kernel row to the next, and from a pixel to the next, where they come from.
    steps: [usize; 2],
    /// Bytes of a window.
    k: usize,
}

/// Copies three windows with kernel rows of at most sixteen bytes.
///
/// # Safety
/// All kernel rows are valid for reads and the three windows for writes; they share no byte.
#[unsafe(naked)]
unsafe extern "C" fn copy_short(three: &Three) {
    naked_asm!(
        extension!(),
        "push {{r4-r8, lr}}",
        "ldm r0, {{r1-r7}}",
        "vctp.8 r3",
        "add r8, r1, r6",
        "add r12, r8, r6",
        "add r0, r2, r7",
        "add r6, r0, r7",
        "dls lr, r4",
        "2:",
        "vpsttt",
        "vldrbt.u8 q0, [r1]",
        "vldrbt.u8 q1, [r8]",
        "vldrbt.u8 q2, [r12]",
        "vpsttt",
        "vstrbt.8 q0, [r2]",
        "vstrbt.8 q1, [r0]",
        "vstrbt.8 q2, [r6]",
        "add r1, r5",
        "add r8, r5",
        "add r12, r5",
        "add r2, r3",
        "add r0, r3",
        "add r6, r3",
        "le lr, 2b",
        "pop {{r4-r8, pc}}",
    )
}

/// Copies three windows.
///
/// # Safety
/// As for [`copy_short`].
#[unsafe(naked)]
unsafe extern "C" fn copy_long(three: &Three) {
    naked_asm!(
        extension!(),
        "push {{r4-r10, lr}}",
        "ldm r0, {{r1-r7}}",
        // From the end of the last vector of a row to the next pixel's row.
        "rsb r8, r3, #0",
        "and r8, r8, #15",
        "add r8, r3",
        "sub r6, r8",
        "sub r7, r8",
        "2:",
        "mov r0, r1",
        "mov r12, r2",
        "mov r9, #3",
        "3:",
        "dlstp.8 lr, r3",
        "4:",
        "vldrb.u8 q0, [r0], #16",
        "vstrb.8 q0, [r12], #16",
        "letp lr, 4b",
        "add r0, r6",
        "add r12, r7",
        "subs r9, #1",
        "bne 3b",
        "add r1, r5",
        "add r2, r3",
        "subs r4, #1",
        "bne 2b",
        "pop {{r4-r10, pc}}",
    )
}

/// How the inputs of an output pixel lie in an image.
pub(super) struct Gather<'g> {
    r: &'g ConvTiled,
    g: &'g Tiled,
    /// Height and width.
    h: isize,
    w: isize,
    /// Bytes of a pixel and of a row.
    pixel: usize,
    row: usize,
    /// Rows that a kernel covers, and its columns.
    reach: [isize; 2],
    stride: [isize; 2],
    pad: [isize; 2],
    /// Image, row and column of an output pixel, and its number.
    place: (usize, usize, usize),
    number: usize,
    /// Three windows inside the image; the source is missing.
    three: Three,
    copy: unsafe extern "C" fn(&Three),
}

impl<'g> Gather<'g> {
    /// `lanes` is where the inputs of three pixels go.
    pub(super) fn new(r: &'g ConvTiled, g: &'g Tiled, lanes: *mut i8) -> Self {
        let (pixel, row) = (usize::from(r.c), usize::from(r.w) * usize::from(r.c));
        let dilation = usize::from(g.window.dilation[0]);
        let [rows, columns] = g.window.kernel.map(usize::from);
        let [top, left, ..] = g.window.pad.map(|p| usize::from(p) as isize);
        let stride = g.window.stride.map(usize::from);
        Self {
            r,
            g,
            h: usize::from(r.h) as isize,
            w: usize::from(r.w) as isize,
            pixel,
            row,
            reach: [((rows.max(1) - 1) * dilation + 1) as isize, columns as isize],
            stride: stride.map(|s| s as isize),
            pad: [top, left],
            place: (0, 0, 0),
            number: 0,
            three: Three {
                src: core::ptr::null(),
                dst: lanes,
                len: g.segment,
                rows,
                steps: [row * dilation, stride[1] * pixel],
                k: g.k,
            },
            copy: if g.segment <= 16 { copy_short } else { copy_long },
        }
    }

    /// The place of the pixel after one.
    #[inline(always)]
    fn next(&self, (n, y, x): (usize, usize, usize)) -> (usize, usize, usize) {
        match (x + 1 == self.g.out_w, y + 1 == self.g.out_h) {
            (false, _) => (n, y, x + 1),
            (true, false) => (n, y + 1, 0),
            (true, true) => (n + 1, 0, 0),
        }
    }

    /// Gathers the inputs of `count` pixels, one to three.
    ///
    /// # Safety
    /// `src` is the input of the record, the lanes are valid for writes of `k` bytes for each pixel, and the two share
    /// none. The pixels exist.
    #[inline(always)]
    pub(super) unsafe fn pixels(&mut self, first: usize, count: usize, src: *const i8) {
        let g = self.g;
        if first != self.number {
            (self.number, self.place) = (first, g.position(first));
        }
        let (n, y, x) = self.place;
        let top = y as isize * self.stride[0] - self.pad[0];
        let left = x as isize * self.stride[1] - self.pad[1];
        let inside = count == 3
            && x + 3 <= g.out_w
            && top >= 0
            && left >= 0
            && top + self.reach[0] <= self.h
            && left + 2 * self.stride[1] + self.reach[1] <= self.w;
        if inside {
            let at = (n * self.h as usize + top as usize) * self.row + left as usize * self.pixel;
            // SAFETY: the windows lie in the image.
            self.three.src = unsafe { src.add(at) };
            // SAFETY: as the caller says.
            unsafe { (self.copy)(&self.three) };
            self.place.2 += 2;
            self.place = self.next(self.place);
        } else {
            for i in 0..count {
                // SAFETY: as the caller says.
                unsafe { self.one(self.place, src, self.three.dst.add(i * g.k)) };
                self.place = self.next(self.place);
            }
        }
        self.number = first + count;
    }

    /// Gathers the inputs of a pixel, whose window may reach into the padding.
    ///
    /// # Safety
    /// As for [`Self::pixels`]; `lane` is the pixel's.
    #[inline(never)]
    unsafe fn one(&self, (n, y, x): (usize, usize, usize), src: *const i8, lane: *mut i8) {
        let (g, window) = (self.g, &self.g.window);
        let top = y as isize * self.stride[0] - self.pad[0];
        let left = x as isize * self.stride[1] - self.pad[1];
        let dilation = usize::from(window.dilation[0]) as isize;
        // Kernel rows and columns inside the image.
        let first = if top < 0 { (-top + dilation - 1) / dilation } else { 0 };
        let room = self.h - top;
        let end = if room <= 0 { 0 } else { (room + dilation - 1) / dilation };
        let (end, k_w) = (end.min(usize::from(window.kernel[0]) as isize), self.reach[1]);
        let (from, to) = ((-left).clamp(0, k_w), (self.w - left).clamp(0, k_w));
        // SAFETY: the lane, and the parts of input rows that lie in the image.
        unsafe {
            if first > 0 || from > 0 || to < k_w || end < usize::from(window.kernel[0]) as isize {
                fill(lane, self.r.in_zp.into(), g.k);
            }
            if first < end && from < to {
                let row = n * self.h as usize + (top + first * dilation) as usize;
                copy_runs(&Runs {
                    src: src.add(row * self.row + (left + from) as usize * self.pixel),
                    dst: lane.add(first as usize * g.segment + from as usize * self.pixel),
                    len: (to - from) as usize * self.pixel,
                    rows: (end - first) as usize,
                    steps: [self.three.steps[0], g.segment],
                });
            }
        }
    }
}
