//! Resampling, NHWC, with the same tables as the device.

use ndarray::{ArrayD, IxDyn};
use offshoot_ir::ResizeRule;
use offshoot_ir::resize::{Tap, resize_tables};

pub(crate) fn resize(x: &ArrayD<f32>, rule: &ResizeRule, shape: &[usize]) -> Result<ArrayD<f32>, String> {
    let (input, output) = ([x.shape()[1], x.shape()[2]], [shape[1], shape[2]]);
    let (rows, columns): (Vec<Tap>, Vec<Tap>) =
        resize_tables(rule, input, output).map_err(|e| e.to_string())?;
    Ok(ArrayD::from_shape_fn(IxDyn(shape), |at| {
        let (r, c) = (&rows[at[1]], &columns[at[2]]);
        let pixel = |y: usize, xx: usize| x[[at[0], y, xx, at[3]]];
        if !rule.bilinear {
            return pixel(r.low, c.low);
        }
        let mix = |a: f32, b: f32, w: f32| a * (1.0 - w) + b * w;
        let top = mix(pixel(r.low, c.low), pixel(r.low, c.high), c.weight);
        let bottom = mix(pixel(r.high, c.low), pixel(r.high, c.high), c.weight);
        mix(top, bottom, r.weight)
    }))
}
