//! The classifier head, whose scores replace the network's output, on features collected while operators run; and the
//! input normaliser.

use super::pieces::Pieces;
use crate::model::io_span;
use crate::model::learn::{Learning, MAX_TAPS, Tapped};
use offshoot_base::{Rule, blob, cast, cast_mut};
use offshoot_format::learn::{ClassifierHead, HeadKind};
use offshoot_format::record::{Arith, DType};
use offshoot_learn::InputNormalizer;
use offshoot_learn::heads::{
    Boosted, BoostedOptions, Head, Lda, LdaOptions, LeastSquares, LeastSquaresOptions, NearestMean,
    NearestMeanOptions, Shrinkage, Simplex, SimplexOptions, Softmax, SoftmaxOptions, fold, head_bytes,
};

/// Writes the channel means of a tapped operator's input to the features from index `at` on, or adds them to the sums
/// that features are folded into.
pub(super) fn collect(
    learning: &Learning<'_>,
    arena: &mut [u8],
    tap: &Tapped,
    at: usize,
) -> Result<(), Rule> {
    let classifier = learning.head.classifier.ok_or(Rule::Table)?;
    let (work, behind) = arena.split_at_mut_checked(classifier.features as usize).ok_or(Rule::ArenaBounds)?;
    if classifier.folded > 0 {
        return collect_folded(work, behind, tap, at, classifier.folded.into());
    }
    let features = behind.get_mut(4 * at..).and_then(|f| f.get_mut(..4 * tap.width()));
    let features: &mut [f32] = cast_mut(features.ok_or(Rule::ArenaBounds)?)?;
    let bytes = work.get(tap.shape.src.range()).ok_or(Rule::ArenaBounds)?;
    let channels = tap.width();
    let pixels = bytes.len() / (channels * tap.shape.arith.dtype().size()).max(1);
    match tap.shape.arith {
        Arith::F32 { .. } => {
            let x: &[f32] = cast(bytes)?;
            features.fill(0.0);
            for pixel in x.chunks_exact(channels) {
                features.iter_mut().zip(pixel).for_each(|(sum, x)| *sum += x);
            }
            features.iter_mut().for_each(|f| *f /= pixels as f32);
        }
        Arith::I8 { in_zp, .. } => {
            let x: &[i8] = cast(bytes)?;
            let zero = i64::from(in_zp) * pixels as i64;
            for (channel, feature) in features.iter_mut().enumerate() {
                let of_channel = x.get(channel..).unwrap_or(&[]).iter().step_by(channels);
                let sum = of_channel.fold(0i64, |sum, &x| sum + i64::from(x)) - zero;
                *feature = sum as f32 * tap.repr.scale / pixels as f32;
            }
        }
    }
    Ok(())
}

/// Adds the channel means of a tapped operator's input, which are features from index `at` on, to `folded` sums.
fn collect_folded(
    work: &[u8],
    behind: &mut [u8],
    tap: &Tapped,
    at: usize,
    folded: usize,
) -> Result<(), Rule> {
    let sums: &mut [f32] = cast_mut(behind.get_mut(..4 * folded).ok_or(Rule::ArenaBounds)?)?;
    if at == 0 {
        sums.fill(0.0);
    }
    let bytes = work.get(tap.shape.src.range()).ok_or(Rule::ArenaBounds)?;
    let channels = tap.width();
    let pixels = bytes.len() / (channels * tap.shape.arith.dtype().size()).max(1);
    let mut add = |channel: usize, mean: f32| {
        let (place, sign) = fold(at + channel, folded);
        if let Some(sum) = sums.get_mut(place) {
            *sum += sign * mean;
        }
    };
    match tap.shape.arith {
        Arith::F32 { .. } => {
            let x: &[f32] = cast(bytes)?;
            for channel in 0..channels {
                let of_channel = x.get(channel..).unwrap_or(&[]).iter().step_by(channels);
                add(channel, of_channel.fold(0.0, |sum, x| sum + x) / pixels as f32);
            }
        }
        Arith::I8 { in_zp, .. } => {
            let x: &[i8] = cast(bytes)?;
            let zero = i64::from(in_zp) * pixels as i64;
            for channel in 0..channels {
                let of_channel = x.get(channel..).unwrap_or(&[]).iter().step_by(channels);
                let sum = of_channel.fold(0i64, |sum, &x| sum + i64::from(x)) - zero;
                add(channel, sum as f32 * tap.repr.scale / pixels as f32);
            }
        }
    }
    Ok(())
}

/// Features, scores, and the memory of the head.
struct Places<'a> {
    features: &'a [f32],
    scores: &'a mut [f32],
    memory: &'a mut [f32],
}

fn places<'a>(classifier: &ClassifierHead, width: usize, arena: &'a mut [u8]) -> Result<Places<'a>, Rule> {
    let mut pieces = Pieces { rest: arena, at: 0 };
    let classes = usize::from(classifier.classes);
    let features = pieces.take(classifier.features as usize, 4 * width)?;
    let scores = pieces.take(classifier.features as usize + 4 * width, 4 * classes)?;
    let memory = pieces.take(classifier.at as usize, head_bytes(classifier.kind, width, classes).0)?;
    Ok(Places { features: cast(features)?, scores: cast_mut(scores)?, memory: cast_mut(memory)? })
}

/// Evaluates `$body` with the head of a kind. Attaching cannot fail: the options have been checked.
macro_rules! with_head {
    ($kind:expr, $width:expr, $classes:expr, $memory:expr, $blocks:expr, $head:ident => $body:expr) => {{
        let fault = |_| Rule::Shape;
        match $kind {
            HeadKind::Softmax { step } => {
                #[allow(unused_mut)]
                let mut $head =
                    Softmax::attach($width, $classes, SoftmaxOptions { step }, $memory).map_err(fault)?;
                $body
            }
            HeadKind::NearestMean { window } => {
                #[allow(unused_mut)]
                let mut $head = NearestMean::attach($width, $classes, NearestMeanOptions { window }, $memory)
                    .map_err(fault)?;
                $body
            }
            HeadKind::Lda { shrinkage, window } => {
                let shrinkage = if shrinkage < 0.0 { Shrinkage::Prior } else { Shrinkage::Part(shrinkage) };
                #[allow(unused_mut)]
                let mut $head = Lda::attach($width, $classes, LdaOptions { shrinkage, window }, $memory)
                    .map_err(fault)?;
                $body
            }
            HeadKind::LeastSquares { ridge, forgetting, balance } => {
                let options = LeastSquaresOptions { ridge, forgetting, balance };
                #[allow(unused_mut)]
                let mut $head = LeastSquares::attach($width, $classes, options, $memory).map_err(fault)?;
                $body
            }
            HeadKind::Simplex { step } => {
                #[allow(unused_mut)]
                let mut $head =
                    Simplex::attach($width, $classes, SimplexOptions { step }, $memory).map_err(fault)?;
                $body
            }
            HeadKind::Boosted { step } => {
                let (widths, kept): (&[usize], u8) = $blocks;
                let options = BoostedOptions { widths, step };
                #[allow(unused_mut)]
                let mut $head = Boosted::attach($width, $classes, options, $memory).map_err(fault)?;
                $head.set_active_blocks(widths.len().min(kept.into())).map_err(fault)?;
                $body
            }
            #[cfg(all(feature = "head-regression", not(feature = "head-anomaly")))]
            HeadKind::Absent => return Err(Rule::Format),
            #[cfg(feature = "head-regression")]
            HeadKind::Regression { ridge, forgetting } => {
                let options = offshoot_learn::heads::RegressionOptions { ridge, forgetting };
                #[allow(unused_mut)]
                let mut $head = offshoot_learn::heads::Regression::attach($width, $classes, options, $memory)
                    .map_err(fault)?;
                $body
            }
            #[cfg(feature = "head-anomaly")]
            HeadKind::Anomaly { .. } => {
                let options = offshoot_learn::heads::anomaly_options($kind);
                #[allow(unused_mut)]
                let mut $head =
                    offshoot_learn::heads::Anomaly::attach($width, options, $memory).map_err(fault)?;
                $body
            }
        }
    }};
}

/// Writes the number of features of each tap to `workspace`; returns the number of taps.
fn widths(learning: &Learning<'_>, workspace: &mut [usize; MAX_TAPS]) -> usize {
    let mut count = 0;
    for (to, tap) in workspace.iter_mut().zip(learning.taps()) {
        *to = tap.width();
        count += 1;
    }
    count
}

/// Initialises the classifier head and the input statistics.
pub(super) fn begin(
    model: &crate::model::Model<'_>,
    learning: &Learning<'_>,
    arena: &mut [u8],
) -> Result<(), Rule> {
    if let Some(normalizer) = learning.normalizer() {
        let (host, own) = statistics(model, learning, arena)?;
        let (means, rest) = own.split_at_mut_checked(host.len()).ok_or(Rule::ArenaBounds)?;
        means.copy_from_slice(host);
        rest.copy_from_slice(&[normalizer.energy, normalizer.trust]);
    }
    reset(learning, arena)
}

/// Initialises the classifier head.
pub(super) fn reset(learning: &Learning<'_>, arena: &mut [u8]) -> Result<(), Rule> {
    let Some((classifier, width)) = learning.classifier() else { return Ok(()) };
    let mut workspace = [0; MAX_TAPS];
    let count = widths(learning, &mut workspace);
    let Places { scores, memory, .. } = places(&classifier, width, arena)?;
    scores.fill(f32::NEG_INFINITY);
    with_head!(classifier.kind, width, classifier.classes.into(), memory, (&workspace[..count], u8::MAX), head => head.reset());
    Ok(())
}

/// Computes scores from the collected features.
pub(super) fn predict(
    model: &crate::model::Model<'_>,
    learning: &Learning<'_>,
    arena: &mut [u8],
    kept: u8,
) -> Result<(), Rule> {
    let Some((classifier, width)) = learning.classifier() else { return Ok(()) };
    if is_regression(&classifier) {
        outputs(model, &classifier, width, arena)?;
    }
    let mut workspace = [0; MAX_TAPS];
    let count = widths(learning, &mut workspace);
    let Places { features, scores, memory } = places(&classifier, width, arena)?;
    with_head!(classifier.kind, width, classifier.classes.into(), memory, (&workspace[..count], kept), head => {
        let used = used(classifier.kind, &workspace[..count], kept, features);
        // Features that are not finite give no scores; a regression leaves the network's outputs.
        if head.predict(used, scores).is_err() && !is_regression(&classifier) {
            scores.fill(f32::NEG_INFINITY);
        }
        offshoot_kernels::portable::float::make_canonical(scores);
    });
    Ok(())
}

/// Whether the head learns real targets.
pub(super) fn is_regression(classifier: &ClassifierHead) -> bool {
    #[cfg(feature = "head-regression")]
    return matches!(classifier.kind, HeadKind::Regression { .. });
    #[cfg(not(feature = "head-regression"))]
    {
        let _ = classifier;
        false
    }
}

/// Writes the network's first output as real numbers to the scores.
fn outputs(
    model: &crate::model::Model<'_>,
    classifier: &ClassifierHead,
    width: usize,
    arena: &mut [u8],
) -> Result<(), Rule> {
    let output = model.output(0).ok_or(Rule::Shape)?;
    let span = io_span(&output).ok_or(Rule::Shape)?;
    // `open` has checked that scores come after all tensors.
    let at = classifier.features as usize + 4 * width;
    let (work, behind) = arena.split_at_mut_checked(at).ok_or(Rule::ArenaBounds)?;
    let scores = behind.get_mut(..4 * usize::from(classifier.classes)).ok_or(Rule::ArenaBounds)?;
    let scores: &mut [f32] = cast_mut(scores)?;
    let bytes = work.get(span.range()).ok_or(Rule::ArenaBounds)?;
    match output.dtype {
        DType::F32 => {
            let own: &[f32] = cast(bytes)?;
            scores.iter_mut().zip(own).for_each(|(score, own)| *score = *own);
        }
        DType::I8 => {
            let (own, zero): (&[i8], i32) = (cast(bytes)?, output.zero_point.into());
            let real = |q: i8| (i32::from(q) - zero) as f32 * output.scale;
            scores.iter_mut().zip(own).for_each(|(score, own)| *score = real(*own));
        }
        _ => return Err(Rule::Format),
    }
    Ok(())
}

/// One step of a regression head on the collected features, after [`predict`]. Skips features and targets that are not finite;
/// returns whether it did.
#[cfg(feature = "head-regression")]
pub(super) fn fit(learning: &Learning<'_>, arena: &mut [u8], targets: &[f32]) -> Result<bool, Rule> {
    let (classifier, width) = learning.classifier().ok_or(Rule::Table)?;
    let HeadKind::Regression { ridge, forgetting } = classifier.kind else { return Err(Rule::Format) };
    let options = offshoot_learn::heads::RegressionOptions { ridge, forgetting };
    let Places { features, scores, memory } = places(&classifier, width, arena)?;
    let mut head =
        offshoot_learn::heads::Regression::attach(width, classifier.classes.into(), options, memory)
            .map_err(|_| Rule::Shape)?;
    Ok(head.fit(features, targets, scores).is_err())
}

/// Features of the blocks in use.
fn used<'f>(kind: HeadKind, widths: &[usize], kept: u8, features: &'f [f32]) -> &'f [f32] {
    if !matches!(kind, HeadKind::Boosted { .. }) {
        return features;
    }
    let count = widths.iter().take(kept.into()).sum::<usize>();
    features.get(..count).unwrap_or(features)
}

/// Brings predictions up to date with everything learned.
pub(super) fn refresh(learning: &Learning<'_>, arena: &mut [u8]) -> Result<(), Rule> {
    let Some((classifier, width)) = learning.classifier() else { return Ok(()) };
    let mut workspace = [0; MAX_TAPS];
    let count = widths(learning, &mut workspace);
    let Places { memory, .. } = places(&classifier, width, arena)?;
    with_head!(classifier.kind, width, classifier.classes.into(), memory, (&workspace[..count], u8::MAX), head => head.refresh());
    Ok(())
}

/// One step of the head on the collected features; returns whether predictions need a refresh. Skips features that are
/// not finite.
pub(super) fn learn(learning: &Learning<'_>, arena: &mut [u8], kept: u8, label: usize) -> Result<bool, Rule> {
    let Some((classifier, width)) = learning.classifier() else { return Ok(false) };
    let mut workspace = [0; MAX_TAPS];
    let count = widths(learning, &mut workspace);
    let Places { features, memory, .. } = places(&classifier, width, arena)?;
    with_head!(classifier.kind, width, classifier.classes.into(), memory, (&workspace[..count], kept), head => {
        let _ = head.learn(used(classifier.kind, &workspace[..count], kept, features), label);
    });
    Ok(rests_on_scratch(learning))
}

/// Whether predictions use memory that is computed from what was learned.
pub(super) fn rests_on_scratch(learning: &Learning<'_>) -> bool {
    learning.head.classifier.is_some_and(|a| matches!(a.kind, HeadKind::Lda { .. }))
}

/// The head as a linear classifier, one class at a time.
pub(super) fn readout(
    learning: &Learning<'_>,
    arena: &mut [u8],
    kept: u8,
    class: usize,
    weights: &mut [f32],
) -> Option<f32> {
    let (classifier, width) = learning.classifier()?;
    let mut workspace = [0; MAX_TAPS];
    let count = widths(learning, &mut workspace);
    let Places { memory, .. } = places(&classifier, width, arena).ok()?;
    let mut read = || -> Result<Option<f32>, Rule> {
        Ok(
            with_head!(classifier.kind, width, classifier.classes.into(), memory, (&workspace[..count], kept), head => head.readout(class, weights)),
        )
    };
    read().ok().flatten()
}

/// Number of blocks of a boosted head; 0 for other heads.
pub(super) fn blocks(learning: &Learning<'_>) -> u8 {
    match learning.head.classifier {
        Some(ClassifierHead { kind: HeadKind::Boosted { .. }, taps, .. }) => taps,
        _ => 0,
    }
}

/// Scores of the last prediction.
pub(super) fn scores<'a>(learning: &Learning<'_>, arena: &'a [u8]) -> Option<&'a [f32]> {
    let (classifier, width) = learning.classifier()?;
    let bytes = arena.get(classifier.features as usize + 4 * width..)?;
    cast(bytes.get(..4 * usize::from(classifier.classes))?).ok()
}

/// The class with the highest score, if the head has learned any class.
pub(super) fn best(learning: &Learning<'_>, arena: &[u8]) -> Option<u16> {
    let scores = scores(learning, arena)?;
    let best = offshoot_learn::heads::best(scores).filter(|&k| scores[k] > f32::NEG_INFINITY)?;
    u16::try_from(best).ok()
}

/// The host's means, and the device's statistics.
fn statistics<'m, 'a>(
    model: &crate::model::Model<'m>,
    learning: &Learning<'_>,
    arena: &'a mut [u8],
) -> Result<(&'m [f32], &'a mut [f32]), Rule> {
    let normalizer = learning.normalizer().ok_or(Rule::Table)?;
    let input = model.input(0).ok_or(Rule::Shape)?;
    let numbers = io_span(&input).ok_or(Rule::Shape)?.len / input.dtype.size();
    let host = blob(model.blobs(), normalizer.blob, numbers as u64)?;
    let own = arena.get_mut(normalizer.at as usize..).and_then(|a| a.get_mut(..4 * (numbers + 2)));
    Ok((host, cast_mut(own.ok_or(Rule::ArenaBounds)?)?))
}

/// The device's means and energy.
pub(super) fn device_statistics<'a>(
    model: &crate::model::Model<'_>,
    learning: &Learning<'_>,
    arena: &'a [u8],
) -> Option<(&'a [f32], f32)> {
    let normalizer = learning.normalizer()?;
    let input = model.input(0)?;
    let numbers = io_span(&input)?.len / input.dtype.size();
    let own: &[f32] = cast(arena.get(normalizer.at as usize..)?.get(..4 * (numbers + 2))?).ok()?;
    Some((own.get(..numbers)?, *own.get(numbers)?))
}

/// Maps the input from the device's statistics to the host's. If `follows`, updates the device's statistics with the
/// input first.
pub(super) fn normalize_input(
    model: &crate::model::Model<'_>,
    learning: &Learning<'_>,
    arena: &mut [u8],
    follows: bool,
) -> Result<(), Rule> {
    let Some(normalizer) = learning.normalizer() else { return Ok(()) };
    let input = model.input(0).ok_or(Rule::Shape)?;
    let span = io_span(&input).ok_or(Rule::Shape)?;
    let split = arena.split_at_mut_checked(span.end()).ok_or(Rule::ArenaBounds)?;
    let x = split.0.get_mut(span.start..).ok_or(Rule::ArenaBounds)?;
    let numbers = span.len / input.dtype.size();
    let host: &[f32] = blob(model.blobs(), normalizer.blob, numbers as u64)?;
    let at = (normalizer.at as usize).checked_sub(span.end()).ok_or(Rule::Overlap)?;
    let own = split.1.get_mut(at..).and_then(|a| a.get_mut(..4 * (numbers + 2))).ok_or(Rule::ArenaBounds)?;
    let own: &mut [f32] = cast_mut(own)?;
    let (means, rest) = own.split_at_mut_checked(numbers).ok_or(Rule::ArenaBounds)?;
    let [energy, weight] = rest else { return Err(Rule::ArenaBounds) };
    let mut own = InputNormalizer::new(means, *energy, normalizer.energy, *weight);
    match input.dtype {
        DType::F32 => {
            let x: &mut [f32] = cast_mut(x)?;
            if follows {
                own.see_each(|i| x[i]);
            }
            let gain = own.gain();
            for (i, (x, host)) in x.iter_mut().zip(host).enumerate() {
                *x = own.brought(i, *x, *host, gain);
            }
        }
        DType::I8 => {
            let x: &mut [i8] = cast_mut(x)?;
            let (scale, zero) = (input.scale, i32::from(input.zero_point));
            let real = |q: i8| (i32::from(q) - zero) as f32 * scale;
            if follows {
                own.see_each(|i| real(x[i]));
            }
            let gain = own.gain();
            for (i, (x, host)) in x.iter_mut().zip(host).enumerate() {
                let number = libm::roundf(own.brought(i, real(*x), *host, gain) / scale);
                // NaN becomes zero.
                let q = (number.max(-512.0).min(512.0) as i32).saturating_add(zero);
                *x = q.clamp(-128, 127) as i8;
            }
        }
        _ => return Err(Rule::Format),
    }
    let (after, count) = (own.energy(), own.weight());
    (*energy, *weight) = (after, count);
    Ok(())
}
