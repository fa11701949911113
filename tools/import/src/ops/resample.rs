//! Resize in the modes that the device's own operator lacks: cubic, antialias, `tf_crop_and_resize`, any axes.
//!
//! Along one axis a resize is a product with a constant matrix, or a choice of elements if it takes the nearest. The
//! definitions are those of the ONNX reference implementation, where it follows the standard.

use offshoot_ir::{Activation, Op, ValueId};

use super::shape::picked;
use crate::constant::{Constant, Elements};
use crate::context::{Context, Entry, Importing, Onnx};

/// Most entries of the matrix of an axis.
const MAX_MATRIX: usize = 1 << 22;

/// Attributes that all axes share.
pub(crate) struct Rule {
    pub(crate) mode: Mode,
    pub(crate) coordinate: String,
    pub(crate) nearest: String,
    pub(crate) antialias: bool,
    pub(crate) exclude_outside: bool,
    /// The cubic's parameter.
    pub(crate) a: f64,
    /// For `tf_crop_and_resize`: the number outside.
    pub(crate) extrapolation: f32,
}

/// Interpolation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Nearest,
    Linear,
    Cubic,
}

/// One axis to be resized.
pub(crate) struct Axis {
    pub(crate) axis: usize,
    pub(crate) input: usize,
    pub(crate) output: usize,
    pub(crate) scale: f64,
    /// For `tf_crop_and_resize`: from and to, 0 to 1.
    pub(crate) crop: [f64; 2],
}

/// Where an output element reads.
enum Source {
    Weighted(Vec<(usize, f64)>),
    Outside,
}

impl Rule {
    /// The place along the input of element `i` of the output.
    fn place(&self, axis: &Axis, i: usize) -> Importing<f64> {
        let (i, input, output) = (i as f64, axis.input as f64, axis.scale * axis.input as f64);
        let half = (i + 0.5) / axis.scale - 0.5;
        Ok(match self.coordinate.as_str() {
            "half_pixel" => half,
            // As the standard and ONNX Runtime have it; the reference implementation takes -0.5.
            "pytorch_half_pixel" if axis.output == 1 => 0.0,
            "pytorch_half_pixel" => half,
            "half_pixel_symmetric" => {
                let adjustment = axis.output as f64 / output;
                input / 2.0 * (1.0 - adjustment) + half
            }
            "asymmetric" => i / axis.scale,
            "align_corners" if output == 1.0 => 0.0,
            "align_corners" => i * (input - 1.0) / (output - 1.0),
            "tf_crop_and_resize" => {
                let [from, to] = axis.crop;
                if axis.output == 1 {
                    (from + to) * (input - 1.0) / 2.0
                } else {
                    from * (input - 1.0) + i * (to - from) * (input - 1.0) / (axis.output as f64 - 1.0)
                }
            }
            other => return Err(format!("coordinate_transformation_mode `{other}`")),
        })
    }

    fn source(&self, axis: &Axis, i: usize) -> Importing<Source> {
        let place = self.place(axis, i)?;
        let last = axis.input as f64 - 1.0;
        if self.coordinate == "tf_crop_and_resize" && !(0.0..=last).contains(&place) {
            return Ok(Source::Outside);
        }
        let inside = |at: f64| at.clamp(0.0, last) as usize;
        if self.mode == Mode::Nearest {
            let at = match self.nearest.as_str() {
                "round_prefer_floor" => (place - 0.5).ceil(),
                "round_prefer_ceil" => (place + 0.5).floor(),
                "floor" => place.floor(),
                "ceil" => place.ceil(),
                other => return Err(format!("nearest_mode `{other}`")),
            };
            return Ok(Source::Weighted(vec![(inside(at), 1.0)]));
        }
        let base = place.floor();
        let weights = self.weights(place - base, axis.scale);
        let before = weights.len() as f64 / 2.0 - 1.0;
        let mut taps: Vec<(f64, f64)> =
            weights.into_iter().enumerate().map(|(j, w)| (base - before + j as f64, w)).collect();
        if self.exclude_outside {
            taps.iter_mut().filter(|(at, _)| !(0.0..=last).contains(at)).for_each(|(_, w)| *w = 0.0);
            let total: f64 = taps.iter().map(|(_, w)| w).sum();
            taps.iter_mut().for_each(|(_, w)| *w /= total);
        }
        Ok(Source::Weighted(taps.into_iter().map(|(at, w)| (inside(at), w)).collect()))
    }

    /// Weights of the neighbours of a place at fraction `t`; as many before it as behind.
    fn weights(&self, t: f64, scale: f64) -> Vec<f64> {
        let reach = if self.mode == Mode::Cubic { 2.0 } else { 1.0 };
        // Shrinking with antialias stretches the kernel over more elements.
        let stretch = if self.antialias { scale.min(1.0) } else { 1.0 };
        let n = (reach / stretch).ceil() as i64;
        let weights: Vec<f64> = (1 - n..=n).map(|j| self.kernel((j as f64 - t) * stretch)).collect();
        let total: f64 = weights.iter().sum();
        weights.into_iter().map(|w| w / total).collect()
    }

    fn kernel(&self, x: f64) -> f64 {
        let (x, a) = (x.abs(), self.a);
        match self.mode {
            Mode::Cubic if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
            Mode::Cubic if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
            Mode::Cubic => 0.0,
            _ => (1.0 - x).max(0.0),
        }
    }
}

/// Resizes `x` along the axes, one after the other.
pub(crate) fn along(
    c: &mut Context<'_>,
    onnx: &Onnx<'_>,
    x: ValueId,
    rule: &Rule,
    axes: &[Axis],
) -> Importing {
    let mut y = x;
    for axis in axes {
        let sources = (0..axis.output).map(|i| rule.source(axis, i)).collect::<Importing<Vec<Source>>>()?;
        y = match nearest(&sources).filter(|_| rule.mode == Mode::Nearest) {
            Some(at) => picked(c, onnx, y, axis.axis, &at)?,
            None => product(c, onnx, y, rule, axis, &sources)?,
        };
    }
    c.bind(onnx, 0, Entry::Value(y))
}

/// The element that each output element copies, if none lies outside.
fn nearest(sources: &[Source]) -> Option<Vec<usize>> {
    let one = |source: &Source| match source {
        Source::Weighted(taps) => taps.first().map(|(at, _)| *at),
        Source::Outside => None,
    };
    sources.iter().map(one).collect()
}

/// Multiplies by the matrix of an axis, which is moved to the end for it.
fn product(
    c: &mut Context<'_>,
    onnx: &Onnx<'_>,
    x: ValueId,
    rule: &Rule,
    axis: &Axis,
    sources: &[Source],
) -> Importing<ValueId> {
    if axis.input.saturating_mul(axis.output) > MAX_MATRIX {
        return Err(format!("resize of {} elements to {} in this mode", axis.input, axis.output));
    }
    let mut matrix = vec![0.0f64; axis.input * axis.output];
    let mut bias = vec![0.0f32; axis.output];
    for ((row, source), bias) in matrix.chunks_exact_mut(axis.input).zip(sources).zip(&mut bias) {
        match source {
            Source::Weighted(taps) => taps.iter().for_each(|(at, w)| row[*at] += w),
            Source::Outside => *bias = rule.extrapolation,
        }
    }
    let name = onnx.output(0).unwrap_or_default().to_owned();
    let part = |p: &str| format!("{name}/{p}{}", axis.axis);
    let rank = c.shape(x).len();
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(axis.axis, rank - 1);
    let turn = Op::Transpose { perm };
    let matrix = Elements::F32(matrix.into_iter().map(|w| w as f32).collect());
    let matrix = Constant::new(vec![axis.output, axis.input], matrix);
    let mut inputs = vec![c.emit(onnx, turn.clone(), vec![x], None, &part("last"))?];
    inputs.push(c.add_constant(&part("weights"), &matrix));
    if bias.iter().any(|b| *b != 0.0) {
        inputs.push(c.add_reals(&part("outside"), vec![axis.output], bias));
    }
    let linear = Op::FullyConnected { activation: Activation::None };
    let y = c.emit(onnx, linear, inputs, None, &part("resized"))?;
    c.emit(onnx, turn, vec![y], None, &part("back"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(mode: Mode, antialias: bool) -> Rule {
        Rule {
            mode,
            coordinate: "half_pixel".into(),
            nearest: "floor".into(),
            antialias,
            exclude_outside: false,
            a: -0.75,
            extrapolation: 0.0,
        }
    }

    #[test]
    fn weights_of_the_kernels() {
        assert_eq!(rule(Mode::Linear, false).weights(0.25, 2.0), [0.75, 0.25]);
        assert_eq!(rule(Mode::Cubic, false).weights(0.0, 2.0), [0.0, 1.0, 0.0, 0.0]);
        // ONNX's example of a linear antialias filter by 0.6.
        let wide = rule(Mode::Linear, true).weights(0.5, 0.5);
        assert_eq!(wide, [0.125, 0.375, 0.375, 0.125]);
    }
}
