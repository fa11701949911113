//! Kernel, stride, dilation and padding attributes of convolutions and pools.

use offshoot_ir::Window;

use crate::context::{Importing, Onnx};

/// Attributes of a node with a window over `spatial` axes (1 or 2), expanded to two axes.
pub(crate) struct Attributes {
    pub(crate) window: Window,
    /// The value of `auto_pad`, unless it has no effect.
    pub(crate) auto_pad: Option<String>,
}

/// Moves one-dimensional attributes to the second of two axes.
fn pair(values: Option<Vec<i64>>, spatial: usize, default: i64, what: &str) -> Importing<[u16; 2]> {
    let values = values.unwrap_or_else(|| vec![default; spatial]);
    if values.len() != spatial {
        return Err(format!("{what} has {} entries for {spatial} spatial axes", values.len()));
    }
    let mut out = [default.max(1) as u16; 2];
    for (slot, v) in out[2 - spatial..].iter_mut().zip(&values) {
        *slot = u16::try_from(*v)
            .ok()
            .filter(|v| *v > 0)
            .ok_or_else(|| format!("{what} {v} is not supported"))?;
    }
    Ok(out)
}

/// Reads the attributes; `kernel` overrides `kernel_shape`.
pub(crate) fn attributes(onnx: &Onnx<'_>, spatial: usize, kernel: Option<&[usize]>) -> Importing<Attributes> {
    let kernel = match kernel {
        Some(k) => {
            let k: Vec<i64> = k.iter().map(|v| *v as i64).collect();
            if onnx.ints("kernel_shape").is_some_and(|given| given != k) {
                return Err("kernel_shape differs from the weights' shape".into());
            }
            pair(Some(k), spatial, 1, "kernel")?
        }
        None => pair(
            Some(onnx.ints("kernel_shape").ok_or("kernel_shape is missing")?),
            spatial,
            1,
            "kernel_shape",
        )?,
    };
    let pads = onnx.ints("pads").unwrap_or_else(|| vec![0; 2 * spatial]);
    if pads.len() != 2 * spatial {
        return Err(format!("pads has {} entries for {spatial} spatial axes", pads.len()));
    }
    let mut pad = [0u16; 4];
    for (i, v) in pads.iter().enumerate() {
        let v = u16::try_from(*v).map_err(|_| format!("padding {v} is not supported"))?;
        let (end, axis) = (i / spatial, i % spatial + 2 - spatial);
        pad[end * 2 + axis] = v;
    }
    let window = Window {
        kernel,
        stride: pair(onnx.ints("strides"), spatial, 1, "strides")?,
        dilation: pair(onnx.ints("dilations"), spatial, 1, "dilations")?,
        pad,
    };
    let auto_pad = match onnx.text("auto_pad", "NOTSET").as_str() {
        "NOTSET" => None,
        mode @ ("SAME_UPPER" | "SAME_LOWER" | "VALID") => Some(mode.to_owned()),
        other => return Err(format!("auto_pad `{other}`")),
    };
    Ok(Attributes { window, auto_pad })
}

/// Number of spatial axes of a channels-first tensor of `rank` axes: 1 or 2.
pub(crate) fn spatial(rank: usize) -> Importing<usize> {
    match rank {
        3 | 4 => Ok(rank - 2),
        _ => Err(format!("input has {rank} axes; (N, C, W) and (N, C, H, W) are supported")),
    }
}

/// Extent that a window covers along an axis.
pub(crate) fn reach(window: &Window, axis: usize) -> usize {
    usize::from(window.dilation[axis]) * (usize::from(window.kernel[axis]) - 1) + 1
}

impl Attributes {
    /// The window with `auto_pad` resolved for an input of `extent` (height, width).
    pub(crate) fn resolve(self, extent: [usize; 2]) -> Importing<Window> {
        let mut window = self.window;
        match self.auto_pad.as_deref() {
            None => {}
            Some("VALID") => window.pad = [0; 4],
            Some(mode) => {
                for (axis, extent) in extent.into_iter().enumerate() {
                    let stride = usize::from(window.stride[axis]);
                    let out = extent.div_ceil(stride);
                    let total =
                        ((out.saturating_sub(1)) * stride + reach(&window, axis)).saturating_sub(extent);
                    let less = u16::try_from(total / 2).map_err(|_| "padding too large")?;
                    let more = u16::try_from(total - total / 2).map_err(|_| "padding too large")?;
                    let upper = mode == "SAME_UPPER";
                    window.pad[axis] = if upper { less } else { more };
                    window.pad[axis + 2] = if upper { more } else { less };
                }
            }
        }
        Ok(window)
    }
}
