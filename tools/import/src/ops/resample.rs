//! Resize in the forms that the IR's operator lacks: antialiased, cropped, with the aspect ratio kept, and over any axes.
//! Each axis is a product with a constant matrix of weights, made as in ONNX's reference evaluator.

use crate::context::{Context, Importing, Onnx, axis};
use crate::parts::Parts;

/// Most elements of a matrix of weights.
const MAX_MATRIX: usize = 1 << 22;

/// Whether the node needs this form.
pub(crate) fn is_needed(c: &Context<'_>, onnx: &Onnx<'_>) -> bool {
    let mode = onnx.text("mode", "nearest");
    if onnx.node.op_type != "Resize" || c.opset < 11 || !["nearest", "linear"].contains(&mode.as_str()) {
        return false;
    }
    onnx.text("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
        || onnx.int("antialias", 0) != 0
        || onnx.text("keep_aspect_ratio_policy", "stretch") != "stretch"
}

/// How the elements of one axis are interpolated.
struct Rule {
    linear: bool,
    antialias: bool,
    exclude_outside: bool,
    coordinate: String,
    nearest: String,
    /// Share of the axis where the crop begins and ends.
    crop: [f64; 2],
}

pub(crate) fn resize(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let rule = Rule {
        linear: onnx.text("mode", "nearest") == "linear",
        antialias: onnx.int("antialias", 0) != 0,
        exclude_outside: onnx.int("exclude_outside", 0) != 0,
        coordinate: onnx.text("coordinate_transformation_mode", "half_pixel"),
        nearest: onnx.text("nearest_mode", "round_prefer_floor"),
        crop: [0.0, 1.0],
    };
    let extrapolation = onnx.float("extrapolation_value", 0.0);
    let read = |c: &Context<'_>, i: usize| -> Importing<Option<Vec<f32>>> {
        Ok(c.constant(onnx, i)?.map(|v| v.to_reals()).filter(|v| !v.is_empty()))
    };
    let (roi, scales, sizes) = (read(c, 1)?, read(c, 2)?, read(c, 3)?);
    let mut p = Parts::of(c, onnx);
    let mut y = p.input(0)?;
    let shape = p.shape(y);
    let rank = shape.len();
    let axes: Vec<usize> = match onnx.ints("axes") {
        Some(axes) => axes.iter().map(|a| axis(*a, rank)).collect::<Importing<_>>()?,
        None => (0..rank).collect(),
    };
    let count = |v: &Option<Vec<f32>>, n: usize| v.as_ref().is_none_or(|v| v.len() == n);
    if !count(&roi, 2 * axes.len()) || !count(&scales, axes.len()) || !count(&sizes, axes.len()) {
        return Err(format!("sizes, scales or crops for {} axes", axes.len()));
    }
    let mut ratios: Vec<f64> = match (&sizes, &scales) {
        (Some(sizes), _) => axes.iter().zip(sizes).map(|(a, s)| f64::from(*s) / shape[*a] as f64).collect(),
        (None, Some(scales)) => scales.iter().map(|s| f64::from(*s)).collect(),
        (None, None) => return Err("neither scales nor sizes are given".into()),
    };
    let mut outputs: Vec<f64> = match &sizes {
        Some(sizes) => sizes.iter().map(|s| f64::from(*s)).collect(),
        None => axes.iter().zip(&ratios).map(|(a, r)| (shape[*a] as f64 * r).floor()).collect(),
    };
    let policy = onnx.text("keep_aspect_ratio_policy", "stretch");
    if sizes.is_some() && policy != "stretch" {
        let ratio = match policy.as_str() {
            "not_larger" => ratios.iter().copied().fold(f64::INFINITY, f64::min),
            "not_smaller" => ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            other => return Err(format!("keep_aspect_ratio_policy `{other}`")),
        };
        ratios.fill(ratio);
        // Halves go up.
        outputs = axes.iter().map(|a| (ratio * shape[*a] as f64 + 0.5).floor()).collect();
    }
    for (i, &a) in axes.iter().enumerate() {
        let (input, ratio) = (shape[a], ratios[i]);
        if !(1.0..=32768.0).contains(&outputs[i]) || !(ratio.is_finite() && ratio > 0.0) {
            return Err(format!("axis {a} of {input} elements by {ratio}"));
        }
        let output = outputs[i] as usize;
        let mut own = Rule {
            crop: [0.0, 1.0],
            coordinate: rule.coordinate.clone(),
            nearest: rule.nearest.clone(),
            ..rule
        };
        if let Some(roi) = &roi {
            own.crop = [roi[i], roi[i + axes.len()]].map(f64::from);
        }
        let whole = own.coordinate != "tf_crop_and_resize" || own.crop == [0.0, 1.0];
        if output == input && ratio == 1.0 && whole {
            continue;
        }
        if output.checked_mul(input).is_none_or(|n| n > MAX_MATRIX) {
            return Err(format!("axis {a} of {input} to {output} elements"));
        }
        let (mut matrix, mut outside) = (vec![0.0; output * input], vec![0.0; output]);
        for (o, row) in matrix.chunks_mut(input).enumerate() {
            match weights(&own, o, ratio, input, output)? {
                Some(taps) => taps.into_iter().for_each(|(at, weight)| row[at] += weight as f32),
                None => outside[o] = extrapolation,
            }
        }
        y = p.along(y, a, matrix, output)?;
        if outside.iter().any(|v| *v != 0.0) {
            let mut wide = vec![1; rank];
            wide[a] = output;
            let outside = p.reals(&wide, outside);
            y = p.add(y, outside)?;
        }
    }
    p.output(0, y)
}

/// Sources and weights of output `o`; `None` if it lies outside the input and is extrapolated.
fn weights(
    rule: &Rule,
    o: usize,
    scale: f64,
    input: usize,
    output: usize,
) -> Importing<Option<Vec<(usize, f64)>>> {
    let (x, width) = (o as f64, input as f64);
    let resized = scale * width;
    let at = match rule.coordinate.as_str() {
        "align_corners" if resized == 1.0 => 0.0,
        "align_corners" => x * (width - 1.0) / (resized - 1.0),
        "asymmetric" => x / scale,
        "tf_crop_and_resize" => {
            let [begin, end] = rule.crop;
            let span = (end - begin) * (width - 1.0);
            let at = if resized == 1.0 { span / 2.0 } else { x * span / (resized - 1.0) };
            let at = at + begin * (width - 1.0);
            if at < 0.0 || at > width - 1.0 {
                return Ok(None);
            }
            at
        }
        "pytorch_half_pixel" if resized == 1.0 => -0.5,
        "half_pixel" | "pytorch_half_pixel" => (x + 0.5) / scale - 0.5,
        "half_pixel_symmetric" => {
            let offset = width / 2.0 * (1.0 - output as f64 / resized);
            offset + (x + 0.5) / scale - 0.5
        }
        other => return Err(format!("coordinate_transformation_mode `{other}`")),
    };
    // From above 0 to 1: the pixel to the left is preferred.
    let ratio = if at == at.floor() { 1.0 } else { at - at.floor() };
    let coefficients: Vec<f64> = match (rule.linear, rule.antialias) {
        (true, true) => {
            let scale = scale.min(1.0);
            let start = (-1.0 / scale).floor() + 1.0;
            let taps = (2.0 - 2.0 * start) as usize;
            let raw = (0..taps).map(|i| (1.0 - ((start + i as f64 - ratio) * scale).abs()).clamp(0.0, 1.0));
            let raw: Vec<f64> = raw.collect();
            let sum: f64 = raw.iter().sum();
            raw.into_iter().map(|v| v / sum).collect()
        }
        (true, false) => vec![1.0 - ratio, ratio],
        (false, _) => {
            let right = match rule.nearest.as_str() {
                _ if ratio == 1.0 => true,
                "round_prefer_floor" => ratio > 0.5,
                "round_prefer_ceil" => ratio >= 0.5,
                "floor" => false,
                "ceil" => true,
                other => return Err(format!("nearest_mode `{other}`")),
            };
            if right { vec![0.0, 1.0] } else { vec![1.0, 0.0] }
        }
    };
    let first = at.ceil() as i64 - coefficients.len() as i64 / 2;
    let last = input as i64 - 1;
    let placed = coefficients.iter().enumerate().map(|(i, w)| (first + i as i64, *w));
    if !rule.exclude_outside {
        return Ok(Some(placed.map(|(at, w)| (at.clamp(0, last) as usize, w)).collect()));
    }
    let inside: Vec<(i64, f64)> = placed.filter(|(at, _)| (0..=last).contains(at)).collect();
    let sum: f64 = inside.iter().map(|(_, w)| w).sum();
    Ok(Some(inside.into_iter().map(|(at, w)| (at as usize, w / sum)).collect()))
}
