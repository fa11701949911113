//! Normalisations that decompose into a few of the IR's operators: LRN, MeanVarianceNormalization, and those whose
//! parameters are computed at run time.

use offshoot_ir::{BinaryKind, ReduceKind, UnaryKind};

use super::composed::MAX_SQUARE;
use crate::context::{Context, Importing, Onnx, axis};
use crate::parts::Parts;

/// LRN: x / (bias + alpha / size · sum of squares of the channels around)^beta.
pub(crate) fn lrn(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let mut p = Parts::of(c, onnx);
    let x = p.input(0)?;
    let [_, channels, ..] = p.shape(x)[..] else { return Err("an input without channels".into()) };
    let size = usize::try_from(onnx.int("size", 0)).ok().filter(|s| *s > 0).ok_or("size must be positive")?;
    if channels > MAX_SQUARE {
        return Err(format!("{channels} channels; up to {MAX_SQUARE} are supported"));
    }
    let (alpha, beta, bias) = (onnx.float("alpha", 1e-4), onnx.float("beta", 0.75), onnx.float("bias", 1.0));
    let (before, after) = ((size - 1) / 2, size / 2);
    let near = |i: usize| {
        let (to, from) = (i / channels, i % channels);
        from + before >= to && from <= to + after
    };
    let band = (0..channels * channels).map(|i| f32::from(u8::from(near(i)))).collect();
    let square = p.mul(x, x)?;
    let sum = p.along(square, 1, band, channels)?;
    let sum = p.times(sum, alpha / size as f32)?;
    let bias = p.number(bias);
    let sum = p.add(sum, bias)?;
    let divisor = p.unary(UnaryKind::Pow { exponent: beta }, sum)?;
    let y = p.binary(BinaryKind::Div, x, divisor)?;
    p.output(0, y)
}

/// MeanVarianceNormalization.
pub(crate) fn mean_variance(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let mut p = Parts::of(c, onnx);
    let x = p.input(0)?;
    let rank = p.shape(x).len();
    let axes = onnx.ints("axes").unwrap_or_else(|| vec![0, 2, 3]);
    let mut axes = axes.iter().map(|a| axis(*a, rank)).collect::<Importing<Vec<usize>>>()?;
    axes.sort_unstable();
    axes.dedup();
    let mean = p.reduce(ReduceKind::Mean, x, &axes)?;
    let centred = p.sub(x, mean)?;
    let square = p.mul(centred, centred)?;
    let variance = p.reduce(ReduceKind::Mean, square, &axes)?;
    let deviation = p.unary(UnaryKind::Sqrt, variance)?;
    let small = p.number(1e-9);
    let deviation = p.add(deviation, small)?;
    let y = p.binary(BinaryKind::Div, centred, deviation)?;
    p.output(0, y)
}

/// LayerNormalization whose mean and inverse deviation are outputs, or whose parameters are computed at run time.
pub(crate) fn layer_norm(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let mut p = Parts::of(c, onnx);
    let x = p.input(0)?;
    let rank = p.shape(x).len();
    let first = onnx.axis("axis", -1, rank)?;
    let axes: Vec<usize> = (first..rank).collect();
    let mean = p.reduce(ReduceKind::Mean, x, &axes)?;
    let centred = p.sub(x, mean)?;
    let square = p.mul(centred, centred)?;
    let variance = p.reduce(ReduceKind::Mean, square, &axes)?;
    let epsilon = p.number(onnx.float("epsilon", 1e-5));
    let sum = p.add(variance, epsilon)?;
    let deviation = p.unary(UnaryKind::Sqrt, sum)?;
    let inverse = p.unary(UnaryKind::Reciprocal, deviation)?;
    let mut y = p.mul(centred, inverse)?;
    let scale = p.input(1)?;
    y = p.mul(y, scale)?;
    if let Some(bias) = p.optional(2)? {
        y = p.add(y, bias)?;
    }
    p.output(0, y)?;
    p.output(1, mean)?;
    p.output(2, inverse)
}

/// BatchNormalization whose parameters are computed at run time.
pub(crate) fn batch_norm(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let mut p = Parts::of(c, onnx);
    let x = p.input(0)?;
    let shape = p.shape(x);
    let channels = *shape.get(1).ok_or("an input without channels")?;
    let mut wide = vec![1; shape.len() - 1];
    wide[0] = channels;
    let mut parameters = Vec::new();
    for i in 1..5 {
        let own = p.input(i)?;
        parameters.push(p.reshape(own, &wide)?);
    }
    let [scale, shift, mean, variance] = parameters[..] else { return Err("parameters".into()) };
    let epsilon = p.number(onnx.float("epsilon", 1e-5));
    let sum = p.add(variance, epsilon)?;
    let deviation = p.unary(UnaryKind::Sqrt, sum)?;
    let centred = p.sub(x, mean)?;
    let y = p.binary(BinaryKind::Div, centred, deviation)?;
    let y = p.mul(y, scale)?;
    let y = p.add(y, shift)?;
    p.output(0, y)
}
