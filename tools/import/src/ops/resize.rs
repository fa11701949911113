//! Resize, Upsample. Nearest and linear over height and width (or width alone) are an operator of the device; other
//! modes and axes become matrix products.

use offshoot_ir::{Op, ResizeRule};

use super::resample::{self, Axis, Mode, Rule};
use crate::context::{Context, Importing, Onnx};

pub(crate) fn resize(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let upsample = onnx.node.op_type == "Upsample";
    let mode = match onnx.text("mode", "nearest").as_str() {
        "nearest" => Mode::Nearest,
        "linear" => Mode::Linear,
        "cubic" => Mode::Cubic,
        other => return Err(format!("mode `{other}`")),
    };
    let policy = onnx.text("keep_aspect_ratio_policy", "stretch");
    let old = upsample || c.opset < 11;
    let coordinate =
        onnx.text("coordinate_transformation_mode", if old { "asymmetric" } else { "half_pixel" });
    let nearest = onnx.text("nearest_mode", if old { "floor" } else { "round_prefer_floor" });
    let x = c.value(onnx, 0)?;
    let shape = c.shape(x).to_vec();
    let rank = shape.len();
    let (scales_at, sizes_at) = if old { (1, usize::MAX) } else { (2, 3) };
    let filled = |given: Vec<f32>, none: &dyn Fn(usize) -> f32| -> Importing<Vec<f32>> {
        // `axes` (opset 18) names the axes that scales and sizes refer to.
        let Some(axes) = onnx.ints("axes") else {
            return Ok(given);
        };
        let mut all: Vec<f32> = (0..rank).map(none).collect();
        for (a, v) in axes.iter().zip(given) {
            all[crate::context::axis(*a, rank)?] = v;
        }
        Ok(all)
    };
    let scales: Option<Vec<f32>> = match onnx.floats("scales") {
        Some(s) => Some(s),
        None => c.constant(onnx, scales_at)?.map(|s| s.to_reals()).filter(|s| !s.is_empty()),
    };
    let sizes = if sizes_at == usize::MAX { None } else { c.ints(onnx, sizes_at)?.filter(|s| !s.is_empty()) };
    let (out, scale): (Vec<usize>, Vec<f64>) = match (sizes, scales) {
        (Some(s), _) => {
            let s = filled(s.iter().map(|v| *v as f32).collect(), &|a| shape[a] as f32)?;
            // In float64: the place of an output that falls on an input would be rounded to one side.
            let ratios: Vec<f64> = s.iter().zip(&shape).map(|(o, i)| f64::from(*o) / *i as f64).collect();
            match policy.as_str() {
                "stretch" => (s.iter().map(|v| *v as usize).collect(), ratios),
                _ => keeping_aspect(onnx, &policy, &shape, &ratios)?,
            }
        }
        (None, Some(s)) => {
            let s = filled(s, &|_| 1.0)?;
            let out = s.iter().zip(&shape).map(|(s, i)| (s * *i as f32).floor() as usize).collect();
            (out, s.into_iter().map(f64::from).collect())
        }
        (None, None) => return Err("neither scales nor sizes are given".into()),
    };
    if out.len() != rank || scale.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
        return Err(format!("scales {scale:?} for an input of {rank} axes"));
    }
    if out.iter().any(|d| *d == 0 || *d > 1 << 15) {
        return Err(format!("output {out:?}"));
    }
    let known = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric"];
    let antialias = onnx.int("antialias", 0) != 0 && mode != Mode::Nearest;
    let image = (rank == 3 || rank == 4) && out[0] == shape[0] && out[1] == shape[1];
    if !image || mode == Mode::Cubic || antialias || !known.contains(&coordinate.as_str()) {
        let crop = match coordinate.as_str() {
            "tf_crop_and_resize" => {
                let roi = c.wanted(onnx, 1)?.to_reals();
                let (from, to) = roi.split_at(roi.len() / 2);
                Some((filled(from.to_vec(), &|_| 0.0)?, filled(to.to_vec(), &|_| 1.0)?))
            }
            _ => None,
        };
        if crop.as_ref().is_some_and(|(from, to)| from.len() != rank || to.len() != rank) {
            return Err("roi does not have two numbers for each axis".into());
        }
        let rule = Rule {
            mode,
            coordinate,
            nearest,
            antialias,
            exclude_outside: onnx.int("exclude_outside", 0) != 0,
            a: onnx.float("cubic_coeff_a", -0.75).into(),
            extrapolation: onnx.float("extrapolation_value", 0.0),
        };
        let axis = |axis: usize| Axis {
            axis,
            input: shape[axis],
            output: out[axis],
            scale: scale[axis],
            crop: crop.as_ref().map_or([0.0, 1.0], |(from, to)| [from[axis].into(), to[axis].into()]),
        };
        let changes = |a: &Axis| a.output != a.input || (a.scale - 1.0).abs() > 0.0 || a.crop != [0.0, 1.0];
        let axes: Vec<Axis> = (0..rank).map(axis).filter(changes).collect();
        return resample::along(c, onnx, x, &rule, &axes);
    }
    let bilinear = mode == Mode::Linear;
    let last = c.nhwc(onnx, x)?;
    let (h, w) = if rank == 4 { (2, Some(3)) } else { (2, None) };
    let (out_h, out_w, scale) = match w {
        Some(w) => (out[h], out[w], [scale[h], scale[w]]),
        None => (1, out[h], [1.0, scale[h]]),
    };
    let scale = scale.map(|s| s as f32);
    let op = Op::Resize(ResizeRule { bilinear, coordinate, nearest, scale, rounded_steps: false });
    let name = format!("{}/nhwc", onnx.output(0).unwrap_or_default());
    let declared = vec![shape[0], out_h, out_w, shape[1]];
    let y = c.emit(onnx, op, vec![last], Some(declared), &name)?;
    c.finish_nchw(onnx, y, rank)
}

/// Extents and scales of `keep_aspect_ratio_policy`: one scale for all axes that are resized.
fn keeping_aspect(
    onnx: &Onnx<'_>,
    policy: &str,
    shape: &[usize],
    ratios: &[f64],
) -> Importing<(Vec<usize>, Vec<f64>)> {
    let rank = shape.len();
    let axes: Vec<usize> = match onnx.ints("axes") {
        Some(axes) => {
            axes.iter().map(|a| crate::context::axis(*a, rank)).collect::<Importing<Vec<usize>>>()?
        }
        None => (0..rank).collect(),
    };
    let resized = axes.iter().map(|a| ratios[*a]);
    let scale = match policy {
        "not_larger" => resized.fold(f64::INFINITY, f64::min),
        "not_smaller" => resized.fold(0.0, f64::max),
        other => return Err(format!("keep_aspect_ratio_policy `{other}`")),
    };
    let (mut out, mut scales) = (shape.to_vec(), vec![1.0; rank]);
    for &axis in &axes {
        out[axis] = (scale * shape[axis] as f64 + 0.5).floor() as usize;
        scales[axis] = scale;
    }
    Ok((out, scales))
}
