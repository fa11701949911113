//! Resampling by tables.

use super::float::canonical;
use offshoot_format::record::Resize;

/// Nearest neighbour. `table` has a source index for each row, then for each column.
pub fn resize_nearest<T: Copy>(r: &Resize, table: &[u16], src: &[T], dst: &mut [T]) {
    let (h, w, c) = (usize::from(r.h), usize::from(r.w), usize::from(r.c));
    let (rows, columns) = table.split_at(usize::from(r.out_h).min(table.len()));
    let mut pixels = dst.chunks_exact_mut(c.max(1));
    for n in 0..usize::from(r.n) {
        for y in rows {
            for x in columns.iter().take(usize::from(r.out_w)) {
                let from = ((n * h + usize::from(*y)) * w + usize::from(*x)) * c;
                if let (Some(p), Some(s)) = (pixels.next(), src.get(from..from + c)) {
                    p.copy_from_slice(s);
                }
            }
        }
    }
}

/// Bilinear, int8. Weights are in units of 2^-10; rounds ties away from zero. `table` holds two words for each row,
/// then for each column: `low | high << 16`, and the weight of `high`.
pub fn resize_bilinear_i8(r: &Resize, table: &[u32], src: &[i8], dst: &mut [i8]) {
    bilinear(r, table, src, dst, |[a, b, c, d], wy, wx| {
        let (wy, wx) = (i64::from(wy as i32), i64::from(wx as i32));
        let (a, b, c, d) = (i64::from(a), i64::from(b), i64::from(c), i64::from(d));
        let v = (a * (1024 - wx) + b * wx) * (1024 - wy) + (c * (1024 - wx) + d * wx) * wy;
        let half = 1 << 19;
        ((if v >= 0 { v + half } else { v - half }) / (1 << 20)).clamp(-128, 127) as i8
    });
}

/// Bilinear, float32. Weights are float32 bits; interpolates along columns first, then between rows.
pub fn resize_bilinear_f32(r: &Resize, table: &[u32], src: &[f32], dst: &mut [f32]) {
    bilinear(r, table, src, dst, |[a, b, c, d], wy, wx| {
        let (wy, wx) = (f32::from_bits(wy), f32::from_bits(wx));
        let top = a * (1.0 - wx) + b * wx;
        let bottom = c * (1.0 - wx) + d * wx;
        canonical(top * (1.0 - wy) + bottom * wy)
    });
}

#[inline(always)]
fn bilinear<T: Copy>(
    r: &Resize,
    table: &[u32],
    src: &[T],
    dst: &mut [T],
    mix: impl Fn([T; 4], u32, u32) -> T,
) {
    let (h, w, c) = (usize::from(r.h), usize::from(r.w), usize::from(r.c));
    let (rows, columns) = table.split_at((usize::from(r.out_h) * 2).min(table.len()));
    let at = |entry: &[u32]| ((entry[0] & 0xffff) as usize, (entry[0] >> 16) as usize, entry[1]);
    let mut pixels = dst.chunks_exact_mut(c.max(1));
    for n in 0..usize::from(r.n) {
        for row in rows.chunks_exact(2) {
            let (y0, y1, wy) = at(row);
            for column in columns.chunks_exact(2).take(usize::from(r.out_w)) {
                let (x0, x1, wx) = at(column);
                let pixel =
                    |y: usize, x: usize| src.get(((n * h + y) * w + x) * c..).and_then(|s| s.get(..c));
                let (Some(p), Some(a), Some(b), Some(cc), Some(d)) =
                    (pixels.next(), pixel(y0, x0), pixel(y0, x1), pixel(y1, x0), pixel(y1, x1))
                else {
                    return;
                };
                for (i, v) in p.iter_mut().enumerate() {
                    *v = mix([a[i], b[i], cc[i], d[i]], wy, wx);
                }
            }
        }
    }
}
