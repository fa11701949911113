//! Resize, Upsample: nearest and linear over height and width (or width alone).

use offshoot_ir::{Op, ResizeRule};

use crate::context::{Context, Importing, Onnx};

pub(crate) fn resize(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let upsample = onnx.node.op_type == "Upsample";
    let bilinear = match onnx.text("mode", "nearest").as_str() {
        "nearest" => false,
        "linear" => true,
        other => return Err(format!("mode `{other}`; nearest and linear are supported")),
    };
    if onnx.int("antialias", 0) != 0 {
        return Err("antialias".into());
    }
    if onnx.has("keep_aspect_ratio_policy") && onnx.text("keep_aspect_ratio_policy", "stretch") != "stretch" {
        return Err("keep_aspect_ratio_policy other than stretch".into());
    }
    let old = upsample || c.opset < 11;
    let coordinate =
        onnx.text("coordinate_transformation_mode", if old { "asymmetric" } else { "half_pixel" });
    let known = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric"];
    if !known.contains(&coordinate.as_str()) {
        return Err(format!("coordinate_transformation_mode `{coordinate}`"));
    }
    let nearest = onnx.text("nearest_mode", if old { "floor" } else { "round_prefer_floor" });
    let x = c.value(onnx, 0)?;
    let shape = c.shape(x).to_vec();
    let rank = shape.len();
    if rank != 3 && rank != 4 {
        return Err(format!("input has {rank} axes; (N, C, W) and (N, C, H, W) are supported"));
    }
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
    let (out, scale): (Vec<usize>, Vec<f32>) = match (sizes, scales) {
        (Some(s), _) => {
            let s = filled(s.iter().map(|v| *v as f32).collect(), &|a| shape[a] as f32)?;
            let out: Vec<usize> = s.iter().map(|v| *v as usize).collect();
            let scale = out.iter().zip(&shape).map(|(o, i)| *o as f32 / *i as f32).collect();
            (out, scale)
        }
        (None, Some(s)) => {
            let s = filled(s, &|_| 1.0)?;
            let out = s.iter().zip(&shape).map(|(s, i)| (s * *i as f32).floor() as usize).collect();
            (out, s)
        }
        (None, None) => return Err("neither scales nor sizes are given".into()),
    };
    if out.len() != rank || scale.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
        return Err(format!("scales {scale:?} for an input of {rank} axes"));
    }
    if out.iter().any(|d| *d == 0 || *d > 1 << 15) {
        return Err(format!("output {out:?}"));
    }
    if out[0] != shape[0] || out[1] != shape[1] {
        return Err("only height and width can be resized".into());
    }
    let last = c.nhwc(onnx, x)?;
    let (h, w) = if rank == 4 { (2, Some(3)) } else { (2, None) };
    let (out_h, out_w, scale) = match w {
        Some(w) => (out[h], out[w], [scale[h], scale[w]]),
        None => (1, out[h], [1.0, scale[h]]),
    };
    let op = Op::Resize(ResizeRule { bilinear, coordinate, nearest, scale, rounded_steps: false });
    let name = format!("{}/nhwc", onnx.output(0).unwrap_or_default());
    let declared = vec![shape[0], out_h, out_w, shape[1]];
    let y = c.emit(onnx, op, vec![last], Some(declared), &name)?;
    c.finish_nchw(onnx, y, rank)
}
