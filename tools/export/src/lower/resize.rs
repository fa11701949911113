//! Resampling. Coordinate rules become tables, so that the device needs only one loop for all of them.

use offshoot::format::codec::Record;
use offshoot::format::record;
use offshoot_ir::ResizeRule;
use offshoot_ir::resize::{Tap, resize_tables};

use super::Context;
use crate::forms::parameters::{Lowering, Reason, nhwc, to_u16};
use crate::lowered::Tensor;

/// Fraction bits of the weights of an int8 bilinear resize.
const WEIGHT_ONE: f64 = 1024.0;

/// Nearest or bilinear resize, NHWC. int8 keeps scale and zero point; if they change, a Requantize follows.
pub(super) fn resize(c: &mut Context<'_>, x: &Tensor, y: &Tensor, rule: &ResizeRule) -> Lowering {
    let [n, h, w, channels] = nhwc(x)?;
    let [_, out_h, out_w, _] = nhwc(y)?;
    let (rows, columns) =
        resize_tables(rule, [x.shape[1], x.shape[2]], [y.shape[1], y.shape[2]]).map_err(|e| e.to_string())?;
    let (rows, columns) = match rule.rounded_steps && rule.bilinear && x.is_i8() {
        true => {
            (stepped(&rule.coordinate, x.shape[1], &rows), stepped(&rule.coordinate, x.shape[2], &columns))
        }
        false => (rows, columns),
    };
    let mut blob = Vec::new();
    for tap in rows.iter().chain(&columns) {
        entry(&mut blob, tap, rule.bilinear, x.is_i8())?;
    }
    blob.resize(blob.len().next_multiple_of(4), 0);
    let blob = c.blob(blob, [0, 0])?;
    let changes = x.is_i8() && !x.same_numbers(y);
    let out = if changes { c.temp(&y.shape, x.dtype, x.scale, x.zp)? } else { y.clone() };
    let (bilinear, dtype) = (rule.bilinear, x.dtype);
    let r = record::Resize { src: 0, dst: 0, n, h, w, c: channels, out_h, out_w, bilinear, dtype, blob };
    c.emit(Record::Resize(r), [Some(x), None], &out, &[]);
    if changes { c.requantize(&out, y, None) } else { Ok(()) }
}

/// Taps at source positions in steps of 1/1024, from a scale that is rounded to such a step: `ResizeBilinearInteger` of
/// TFLite's reference kernels.
fn stepped(coordinate: &str, extent: usize, taps: &[Tap]) -> Vec<Tap> {
    const ONE: i64 = WEIGHT_ONE as i64;
    let (from, to) = (extent as i64, taps.len() as i64);
    let scale = match coordinate == "align_corners" && to > 1 {
        true => (ONE * (from - 1) + (to - 1) / 2) / (to - 1),
        false => (ONE * from + to / 2) / to,
    };
    let offset = if coordinate == "half_pixel" { scale / 2 - ONE / 2 } else { 0 };
    let tap = |i: i64| {
        let place = i * scale + offset;
        let low = (place / ONE).max(0);
        let high = ((place + ONE - 1) / ONE).min(from - 1);
        // Where both sources are the same, their weights do not matter.
        let weight = if low < high { (place - ONE * low) as f32 / ONE as f32 } else { 0.0 };
        Tap { low: low.min(from - 1) as usize, high: high.max(0) as usize, weight }
    };
    (0..to).map(tap).collect()
}

fn entry(blob: &mut Vec<u8>, tap: &Tap, bilinear: bool, int8: bool) -> Lowering {
    blob.extend(to_u16(tap.low, "a source index")?.to_le_bytes());
    if bilinear {
        blob.extend(to_u16(tap.high, "a source index")?.to_le_bytes());
        let weight = f64::from(tap.weight);
        let bits = if int8 { (weight * WEIGHT_ONE).round() as i32 } else { tap.weight.to_bits() as i32 };
        blob.extend(bits.to_le_bytes());
    }
    Ok(())
}

/// Why the int8 kernel cannot compute an interpolation; `None` if it can. It rounds to the input's scale.
pub(super) fn int8_obstacle(x: &Tensor, y: &Tensor, rule: &ResizeRule) -> Option<Reason> {
    const FINER: f32 = 1.5;
    let finer = rule.bilinear && x.scale > FINER * y.scale;
    finer.then(|| "it interpolates, and its output scale is finer than its input's".into())
}
