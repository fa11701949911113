//! Windows of an image as the rows of a matrix, and the reverse.

use offshoot_ir::Window;

/// Windows over images `[n, h, w, c]`: one for each of `rows × columns` positions.
pub(super) struct Windows<'a> {
    pub(super) image: [usize; 4],
    pub(super) places: [usize; 2],
    pub(super) window: &'a Window,
}

impl Windows<'_> {
    /// Number of windows in all images.
    pub(super) fn count(&self) -> usize {
        self.image[0] * self.places[0] * self.places[1]
    }

    /// Taps of a window.
    pub(super) fn taps(&self) -> usize {
        self.window.kernel.iter().map(|k| usize::from(*k)).product()
    }

    /// Calls `visit(window, tap, pixel)` for each tap that lies inside the image, row-major.
    pub(super) fn each(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let [n, h, w, _] = self.image;
        let [rows, columns] = self.places;
        let [kh, kw] = self.window.kernel.map(usize::from);
        let at = |o: usize, k: usize, axis: usize, extent: usize| {
            let i = o * usize::from(self.window.stride[axis]) + k * usize::from(self.window.dilation[axis]);
            i.checked_sub(usize::from(self.window.pad[axis])).filter(|i| *i < extent)
        };
        for image in 0..n {
            for row in 0..rows {
                for column in 0..columns {
                    let place = (image * rows + row) * columns + column;
                    for ky in 0..kh {
                        let Some(y) = at(row, ky, 0, h) else { continue };
                        for kx in 0..kw {
                            let Some(x) = at(column, kx, 1, w) else { continue };
                            visit(place, ky * kw + kx, (image * h + y) * w + x);
                        }
                    }
                }
            }
        }
    }

    /// Matrix `[windows, taps · count]` of `count` channels from `start`; padding is zero.
    pub(super) fn gather(&self, image: &[f32], start: usize, count: usize) -> Vec<f32> {
        let (channels, taps) = (self.image[3], self.taps());
        let mut out = vec![0.0; self.count() * taps * count];
        self.each(|place, tap, pixel| {
            out[(place * taps + tap) * count..][..count]
                .copy_from_slice(&image[pixel * channels + start..][..count]);
        });
        out
    }

    /// The transpose of [`Self::gather`]: adds the matrix's elements to the pixels they came from.
    pub(super) fn scatter(&self, matrix: &[f32], start: usize, count: usize, image: &mut [f32]) {
        let (channels, taps) = (self.image[3], self.taps());
        self.each(|place, tap, pixel| {
            let from = &matrix[(place * taps + tap) * count..][..count];
            for (to, v) in image[pixel * channels + start..][..count].iter_mut().zip(from) {
                *to += v;
            }
        });
    }
}
