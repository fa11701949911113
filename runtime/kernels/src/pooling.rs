//! Where the windows of an int8 pool lie, for kernels that visit neighbouring windows together.

use offshoot_format::record::{Pool, PoolKind, Window};

use crate::geometry::extent;
use crate::portable::taps;

/// Neighbouring output pixels of a row whose windows have the same extents.
pub(crate) struct Run {
    /// First element of the first window in the input, and of the first pixel in the output.
    pub(crate) src: usize,
    pub(crate) dst: usize,
    /// Rows and columns of a window that lie in the input, at least one each.
    pub(crate) taps: [usize; 2],
    /// Elements from a row of a window to the next, and from a column to the next.
    pub(crate) steps: [usize; 2],
    /// Elements from a window to the next.
    pub(crate) stride: usize,
    /// Output pixels, at least one.
    pub(crate) count: usize,
    /// Positions that an average divides by.
    pub(crate) divisor: usize,
    /// How many of them lie in the padding and count as zero points.
    pub(crate) padded: usize,
}

/// Calls `visit` for all windows, in the order of the output. Returns `false` if the sums of a window may not fit in 16
/// bits, a window lies in the padding, or `elements` (of the input, then of the output) are too few; then some windows may
/// have been visited.
pub(crate) fn visit(r: &Pool, elements: [usize; 2], mut visit: impl FnMut(&Run)) -> bool {
    let window = Window::from(r.window);
    let (h, w, c) = (usize::from(r.h), usize::from(r.w), usize::from(r.c));
    let (out_h, out_w) = (extent(h, &window, 0), extent(w, &window, 1));
    let [d_h, d_w] = window.dilation.map(usize::from);
    let area = window.kernel.map(usize::from).iter().product::<usize>();
    let n = usize::from(r.n);
    if !(1..256).contains(&area)
        || c == 0
        || elements[0] < n * h * w * c
        || elements[1] < n * out_h * out_w * c
    {
        return false;
    }
    // The windows of these output columns lie inside.
    let stride = usize::from(window.stride[1]).max(1);
    let left = usize::from(window.pad[1]).div_ceil(stride).min(out_w);
    let reach = d_w * (usize::from(window.kernel[1]) - 1) + 1;
    let right = (w + usize::from(window.pad[1]))
        .checked_sub(reach)
        .map_or(left, |room| (room / stride + 1).min(out_w));
    for image in 0..n {
        for y in 0..out_h {
            let (ky0, ky1, row) = taps(y, h, &window, 0);
            let mut x = 0;
            while x < out_w {
                let count = if (left..right).contains(&x) { right - x } else { 1 };
                let (kx0, kx1, column) = taps(x, w, &window, 1);
                let (rows, columns) = (ky1 - ky0, kx1 - kx0);
                let valid = rows * columns;
                if valid == 0 {
                    return false;
                }
                let divisor = if r.kind == PoolKind::AverageIncludePad { area } else { valid };
                visit(&Run {
                    src: ((image * h + row) * w + column) * c,
                    dst: ((image * out_h + y) * out_w + x) * c,
                    taps: [rows, columns],
                    steps: [d_h * w * c, d_w * c],
                    stride: stride * c,
                    count,
                    divisor,
                    padded: divisor - valid,
                });
                x += count;
            }
        }
    }
    true
}
