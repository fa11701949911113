//! Where each output row and column of a Resize reads its input: ONNX Resize's coordinate rules as tables.

use crate::{Error, ResizeRule, Result};

/// What one output index reads: `in[low] · (1 - weight) + in[high] · weight`. Nearest has `low == high` and weight 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tap {
    /// Lower source index.
    pub low: usize,
    /// Higher source index.
    pub high: usize,
    /// Weight of `high`, from 0 to 1.
    pub weight: f32,
}

/// Taps of each output row and of each output column. Extents are height, width.
pub fn resize_tables(
    rule: &ResizeRule,
    input: [usize; 2],
    output: [usize; 2],
) -> Result<(Vec<Tap>, Vec<Tap>)> {
    let axis = |i: usize| taps(rule, rule.scale[i], input[i], output[i]);
    Ok((axis(0)?, axis(1)?))
}

fn taps(rule: &ResizeRule, scale: f32, input: usize, output: usize) -> Result<Vec<Tap>> {
    if input == 0 || !(scale.is_finite() && scale > 0.0) {
        return Err(Error::Graph(format!("resize of {input} elements by {scale} is not possible")));
    }
    (0..output).map(|i| tap(rule, source(rule, i, scale, input, output)?, input)).collect()
}

/// The output index in input coordinates.
fn source(rule: &ResizeRule, i: usize, scale: f32, input: usize, output: usize) -> Result<f64> {
    let (x, scale) = (i as f64, f64::from(scale));
    let half_pixel = (x + 0.5) / scale - 0.5;
    Ok(match rule.coordinate.as_str() {
        "half_pixel" => half_pixel,
        "pytorch_half_pixel" if output > 1 => half_pixel,
        "pytorch_half_pixel" => 0.0,
        "asymmetric" => x / scale,
        "align_corners" if output > 1 => x * (input - 1) as f64 / (output - 1) as f64,
        "align_corners" => 0.0,
        "half_pixel_symmetric" => {
            let adjustment = output as f64 / (scale * input as f64);
            input as f64 / 2.0 * (1.0 - adjustment) + half_pixel
        }
        other => {
            return Err(Error::Graph(format!("resize coordinate rule `{other}` is not known")));
        }
    })
}

fn tap(rule: &ResizeRule, x: f64, input: usize) -> Result<Tap> {
    let last = (input - 1) as f64;
    if rule.bilinear {
        let x = x.clamp(0.0, last);
        let low = x.floor();
        return Ok(Tap { low: low as usize, high: (low + 1.0).min(last) as usize, weight: (x - low) as f32 });
    }
    let nearest = match rule.nearest.as_str() {
        "round_prefer_floor" => (x - 0.5).ceil(),
        "round_prefer_ceil" => (x + 0.5).floor(),
        "floor" => x.floor(),
        "ceil" => x.ceil(),
        other => return Err(Error::Graph(format!("resize rounding `{other}` is not known"))),
    };
    let index = nearest.clamp(0.0, last) as usize;
    Ok(Tap { low: index, high: index, weight: 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(bilinear: bool, coordinate: &str, nearest: &str, scale: f32) -> ResizeRule {
        ResizeRule { bilinear, coordinate: coordinate.into(), nearest: nearest.into(), scale: [scale; 2] }
    }

    fn lows(rule: &ResizeRule, input: usize, output: usize) -> Vec<usize> {
        let (rows, _) = resize_tables(rule, [input; 2], [output; 2]).unwrap();
        rows.iter().map(|t| t.low).collect()
    }

    #[test]
    fn nearest_rules() {
        assert_eq!(lows(&rule(false, "asymmetric", "floor", 2.0), 2, 4), [0, 0, 1, 1]);
        assert_eq!(lows(&rule(false, "half_pixel", "round_prefer_floor", 2.0), 2, 4), [0, 0, 1, 1]);
        assert_eq!(lows(&rule(false, "align_corners", "round_prefer_ceil", 2.0), 2, 4), [0, 0, 1, 1]);
        assert_eq!(lows(&rule(false, "asymmetric", "ceil", 2.0), 2, 4), [0, 1, 1, 1]);
    }

    #[test]
    fn bilinear_weights() {
        let (rows, _) = resize_tables(&rule(true, "half_pixel", "", 2.0), [2; 2], [4; 2]).unwrap();
        let weights: Vec<f32> = rows.iter().map(|t| t.low as f32 + t.weight).collect();
        assert_eq!(weights, [0.0, 0.25, 0.75, 1.0]);
    }

    #[test]
    fn unknown_rules_are_errors() {
        assert!(resize_tables(&rule(true, "tf_crop_and_resize", "", 2.0), [2; 2], [4; 2]).is_err());
    }
}
