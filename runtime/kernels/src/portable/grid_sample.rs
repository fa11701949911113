//! Sampling of an image at computed places: ONNX GridSample (and PyTorch's `grid_sample`).

use offshoot_format::record::{GridKind, GridOutside, GridSample};

use super::float::make_canonical;

/// The cubic convolution's parameter.
const A: f32 = -0.75;

/// Samples every output pixel.
pub fn grid_sample(r: &GridSample, src: &[f32], grid: &[f32], dst: &mut [f32]) {
    let (h, w, c) = (usize::from(r.h), usize::from(r.w), usize::from(r.c).max(1));
    let pixels = (usize::from(r.out_h) * usize::from(r.out_w)).max(1);
    for (i, (out, at)) in dst.chunks_exact_mut(c).zip(grid.chunks_exact(2)).enumerate() {
        let image = src.get(i / pixels * h * w * c..).unwrap_or_default();
        let (x, y) = (placed(r, at[0], w), placed(r, at[1], h));
        out.fill(0.0);
        match r.kind {
            GridKind::Nearest => {
                add(r, image, [libm::rintf(x), libm::rintf(y)], 1.0, out);
            }
            GridKind::Bilinear => {
                let (left, top) = (libm::floorf(x), libm::floorf(y));
                let (wx, wy) = (x - left, y - top);
                add(r, image, [left, top], (1.0 - wx) * (1.0 - wy), out);
                add(r, image, [left + 1.0, top], wx * (1.0 - wy), out);
                add(r, image, [left, top + 1.0], (1.0 - wx) * wy, out);
                add(r, image, [left + 1.0, top + 1.0], wx * wy, out);
            }
            GridKind::Bicubic => {
                let (left, top) = (libm::floorf(x), libm::floorf(y));
                let (columns, rows) = (cubic(x - left), cubic(y - top));
                for (j, wy) in rows.into_iter().enumerate() {
                    for (i, wx) in columns.into_iter().enumerate() {
                        add(r, image, [left + (i as f32 - 1.0), top + (j as f32 - 1.0)], wx * wy, out);
                    }
                }
            }
        }
        make_canonical(out);
    }
}

/// A coordinate from -1 to 1 as a place along an axis of `extent` pixels. Padding that moves places inside does so
/// before interpolation, except for the cubic, whose neighbours it moves.
fn placed(r: &GridSample, at: f32, extent: usize) -> f32 {
    let n = extent as f32;
    let place = if r.align_corners { (at + 1.0) / 2.0 * (n - 1.0) } else { ((at + 1.0) * n - 1.0) / 2.0 };
    // A place that is no number, or far outside, is one outside.
    let place = if place.is_nan() { -1.0 } else { place.clamp(-1e6, 1e6) };
    if r.kind == GridKind::Bicubic { place } else { moved(r, place, extent) }
}

/// The place after padding: unchanged for zeros.
fn moved(r: &GridSample, place: f32, extent: usize) -> f32 {
    let last = extent as f32 - 1.0;
    match r.outside {
        GridOutside::Zeros => place,
        GridOutside::Border => place.clamp(0.0, last),
        GridOutside::Reflection => {
            let (low, high) = if r.align_corners { (0.0, last) } else { (-0.5, last + 0.5) };
            let range = high - low;
            if range <= 0.0 {
                return 0.0;
            }
            let away = (place - low).abs();
            let turns = libm::floorf(away / range);
            let rest = away - turns * range;
            let inside = if turns as i32 % 2 == 0 { low + rest } else { high - rest };
            inside.clamp(0.0, last)
        }
    }
}

/// Adds the pixel at a whole place, times its weight.
fn add(r: &GridSample, image: &[f32], [x, y]: [f32; 2], weight: f32, out: &mut [f32]) {
    let (h, w) = (usize::from(r.h), usize::from(r.w));
    let (x, y) = match r.kind {
        // Whole places stay whole: reflection at half a pixel maps them onto whole ones.
        GridKind::Bicubic => (moved(r, x, w), moved(r, y, h)),
        _ => (x, y),
    };
    if x < 0.0 || y < 0.0 || x >= w as f32 || y >= h as f32 {
        return;
    }
    let at = (y as usize * w + x as usize) * out.len();
    let pixel = image.get(at..at + out.len()).unwrap_or_default();
    out.iter_mut().zip(pixel).for_each(|(o, v)| *o += v * weight);
}

/// Weights of the four neighbours of a place at fraction `t` behind the second.
fn cubic(t: f32) -> [f32; 4] {
    let near = |x: f32| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f32| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(kind: GridKind, outside: GridOutside, align_corners: bool, grid: &[f32]) -> Vec<f32> {
        let out_w = (grid.len() / 2) as u16;
        let (n, h, w, c, out_h) = (1, 2, 3, 1, 1);
        let r =
            GridSample { src: 0, grid: 0, dst: 0, n, h, w, c, out_h, out_w, kind, outside, align_corners };
        let mut out = vec![9.0; usize::from(out_w)];
        grid_sample(&r, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], grid, &mut out);
        out
    }

    #[test]
    fn corners_and_outside() {
        use GridKind::{Bilinear, Nearest};
        use GridOutside::{Border, Reflection, Zeros};
        assert_eq!(sample(Bilinear, Zeros, true, &[-1.0, -1.0, 0.0, 0.0, 1.0, 1.0]), [0.0, 2.5, 5.0]);
        assert_eq!(sample(Bilinear, Zeros, false, &[1.0, 1.0]), [1.25]);
        assert_eq!(sample(Bilinear, Border, false, &[1.0, 1.0, 9.0, -9.0]), [5.0, 2.0]);
        // 2 past the last column of three, reflected at it.
        assert_eq!(sample(Nearest, Reflection, true, &[3.0, -1.0]), [0.0]);
        assert_eq!(sample(Nearest, Zeros, true, &[f32::NAN, -1.0, f32::INFINITY, 1.0]), [0.0, 0.0]);
    }

    #[test]
    fn cubic_weights_sum_to_one() {
        for t in [0.0f32, 0.25, 0.5, 0.9] {
            assert!((cubic(t).iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
        assert_eq!(cubic(0.0), [0.0, 1.0, 0.0, 0.0]);
    }
}
