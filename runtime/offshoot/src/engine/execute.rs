//! Runs operators in order, with learned parameters where there are any, and collects the features of a classifier
//! head.

use super::classifier;
use super::pieces::Pieces;
use crate::model::learn::{Learning, Tapped, Taps, TrainedLayer, class_bytes};
use crate::trace::{Observer, OpInfo};
use offshoot_base::{Error, Memory, Rule, Span, cast, cast_mut};
use offshoot_format::learn::TrainablePart;
use offshoot_format::record::{Arith, Record};
use offshoot_learn::integer::Magnitude;
use offshoot_learn::layers::adaptor;
use offshoot_operators as ops;

/// The learning records, and how many taps of the classifier head are in use.
#[derive(Clone, Copy)]
pub(super) struct Active<'l, 'm> {
    pub(super) learning: &'l Learning<'m>,
    pub(super) kept: u8,
}

/// The taps of the classifier head, and what was collected of their features.
#[derive(Debug)]
pub(super) struct Taken<'m> {
    taps: Taps<'m>,
    next: Option<Tapped>,
    features: usize,
    seen: u8,
}

impl<'m> Taken<'m> {
    pub(super) fn new(learning: &Learning<'m>) -> Self {
        let mut taps = learning.taps();
        let next = taps.next();
        Self { taps, next, features: 0, seen: 0 }
    }

    /// Collects the features that lie in the arena before operator `op` runs. Returns whether those were the last of the
    /// taps in use, although the network has more.
    #[inline(always)]
    pub(super) fn before(&mut self, op: u16, active: Active<'_, 'm>, arena: &mut [u8]) -> Result<bool, Rule> {
        let Some(own) = self.next.filter(|tap| tap.repr.op == op) else { return Ok(false) };
        classifier::collect(active.learning, arena, &own, self.features)?;
        self.features += own.width();
        self.seen += 1;
        self.next = self.taps.next();
        Ok(self.next.is_some() && self.seen == active.kept)
    }
}

/// Runs every operator and calls `learn` after each that learns; those run with their learned parameters. If only some
/// taps are in use, stops before the operator of the last of them.
pub(super) fn execute(
    model: &crate::model::Model<'_>,
    arena: &mut [u8],
    active: Option<Active<'_, '_>>,
    observer: &mut impl Observer,
    mut learn: impl FnMut(&mut [u8], &TrainedLayer) -> Result<(), Rule>,
) -> Result<(), Error> {
    // Without the feature no learning code is linked.
    let active = active.filter(|_| cfg!(feature = "learn"));
    let mut layers = active.map(|a| a.learning.layers());
    let mut next = layers.as_mut().and_then(Iterator::next);
    let mut taken = active.map(|a| Taken::new(a.learning));
    let mut ops = model.ops();
    // By reference: moving the record would give it a second slot in the stack frame.
    while let Some(Ok((info, _, record))) = &ops.step() {
        let info = *info;
        let fault = |rule| Error::Invalid { op: info.index, rule };
        if let (Some(active), Some(taken)) = (active, &mut taken)
            && taken.before(info.index, active, arena).map_err(fault)?
        {
            return Ok(());
        }
        observer.before(info);
        match (active, next.filter(|layer| layer.repr.op == info.index)) {
            (Some(active), Some(layer)) => {
                let memory = run_learned(model, active.learning, arena, &layer).map_err(fault)?;
                watch(observer, info, &memory, || Ok(layer.shape.dst)).map_err(fault)?;
                learn(arena, &layer).map_err(fault)?;
                next = layers.as_mut().and_then(Iterator::next);
            }
            _ => {
                let mut memory = Memory::new(arena, model.blobs());
                ops::run(record, &mut memory).map_err(fault)?;
                watch(observer, info, &memory, || ops::output(record)).map_err(fault)?;
                #[cfg(feature = "op-branch")]
                ops.pass_over(record, arena).map_err(fault)?;
            }
        }
    }
    Ok(())
}

/// Passes an operator's output to the observer, if it watches.
fn watch<O: Observer>(
    observer: &mut O,
    info: OpInfo,
    memory: &Memory<'_>,
    output: impl FnOnce() -> Result<Span, Rule>,
) -> Result<(), Rule> {
    if O::WATCHES {
        observer.after(info, memory.bytes(output()?)?);
    }
    Ok(())
}

/// Runs a layer with its learned parameters; returns the memory that holds its output.
pub(super) fn run_learned<'r>(
    model: &crate::model::Model<'r>,
    learning: &Learning<'_>,
    arena: &'r mut [u8],
    layer: &TrainedLayer,
) -> Result<Memory<'r>, Rule> {
    let arena_bytes = model.arena_bytes() as usize;
    let (work, behind) = arena.split_at_mut_checked(arena_bytes).ok_or(Rule::ArenaBounds)?;
    let mut pieces = Pieces { rest: behind, at: arena_bytes };
    let classes = class_bytes(learning.head.classes);
    let workspace = pieces
        .take(learning.head.workspace as usize, classes + 4 * layer.shape.workspace_words(layer.repr.part))?;
    let trainable = &*pieces.take(layer.trainable.start, layer.trainable.len)?;
    let blobs = model.blobs();
    let whole = layer.shape.is_whole();
    let mut memory = match layer.repr.part {
        TrainablePart::All => Memory::new(work, trainable),
        TrainablePart::Bias => Memory::new(work, blobs).with_parameters(trainable),
        TrainablePart::Scale if whole => Memory::new(work, blobs).with_parameters(trainable),
        TrainablePart::Scale => {
            let (bias, scale) =
                trainable.split_at_checked(layer.shape.parameter_bytes[0]).ok_or(Rule::ArenaBounds)?;
            let mut memory = Memory::new(work, blobs).with_parameters(bias);
            ops::run(&unclamped(&layer.record), &mut memory)?;
            let scale: &[f32] = cast(scale)?;
            finish(layer, &mut memory, |z, channel, _| z * scale[channel])?;
            return Ok(memory);
        }
        TrainablePart::LowRank { rank } => {
            let workspace = workspace.get_mut(classes..).ok_or(Rule::ArenaBounds)?;
            let memory = Memory::new(work, blobs);
            return run_adapted(layer, usize::from(rank), memory, cast(trainable)?, cast_mut(workspace)?);
        }
    };
    ops::run(&layer.record, &mut memory)?;
    Ok(memory)
}

/// The float32 operator without its activation.
fn unclamped(record: &Record) -> Record {
    let mut record = *record;
    match &mut record {
        Record::Conv2d(r) => r.arith = Arith::F32 { clamp: None },
        Record::Depthwise(r) => r.arith = Arith::F32 { clamp: None },
        Record::FullyConnected(r) => r.arith = Arith::F32 { clamp: None },
        _ => {}
    }
    record
}

/// Replaces every output of a float32 layer by `next(output, channel, pixel)`, clamped to the activation's bounds.
fn finish(
    layer: &TrainedLayer,
    memory: &mut Memory<'_>,
    next: impl Fn(f32, usize, usize) -> f32,
) -> Result<(), Rule> {
    let Arith::F32 { clamp } = layer.shape.arith else { return Err(Rule::Format) };
    let (min, max) = clamp.unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
    let channels = layer.shape.geometry.out_c;
    let outputs: &mut [f32] = memory.write(layer.shape.dst)?;
    for (pixel, outputs) in outputs.chunks_exact_mut(channels).enumerate() {
        for (channel, z) in outputs.iter_mut().enumerate() {
            let value = next(*z, channel, pixel);
            // As in the kernels, NaN becomes the lower bound.
            *z = if value > min { if value < max { value } else { max } } else { min };
        }
    }
    Ok(())
}

/// Runs a layer with a low-rank adaptor; `workspace` has [`crate::model::learn::Shape::workspace_words`] words.
fn run_adapted<'r>(
    layer: &TrainedLayer,
    rank: usize,
    mut memory: Memory<'r>,
    factors: &[f32],
    workspace: &'r mut [f32],
) -> Result<Memory<'r>, Rule> {
    let shape = &layer.shape;
    let (g, down) = (&shape.geometry, shape.down(rank));
    let (up, lower) = factors.split_at_checked(g.out_c * rank).ok_or(Rule::ArenaBounds)?;
    let (channels, pixels) = (g.out_c, g.pixels());
    if !shape.is_whole() {
        let inner = workspace.get_mut(..rank * pixels).ok_or(Rule::ArenaBounds)?;
        let (x, _) = memory.split::<f32, f32>(shape.src, shape.dst)?;
        adaptor::lower(&down, lower, x, |x| x, inner);
        ops::run(&unclamped(&layer.record), &mut memory)?;
        finish(layer, &mut memory, |z, channel, pixel| {
            z + adaptor::upper(up, inner, pixels, channel, pixel)
        })?;
        return Ok(memory);
    }
    let Arith::I8 { in_zp, .. } = shape.arith else { return Err(Rule::Format) };
    let (s_in, s_out) = (layer.repr.scales[0], Magnitude::from_f32(layer.repr.scales[1]));
    let real = move |q: i8| s_in * (i32::from(q) - i32::from(in_zp)) as f32;
    let blobs = memory.blobs();
    let own = blobs.get(shape.blob as usize..).ok_or(Rule::BlobBounds)?;
    let (bias, rest) = own.split_at_checked(shape.parameter_bytes[0]).ok_or(Rule::BlobBounds)?;
    let (multiplier, rest) = rest.split_at_checked(shape.parameter_bytes[1]).ok_or(Rule::BlobBounds)?;
    let (bias, multiplier): (&[i32], &[i32]) = (cast(bias)?, cast(multiplier)?);
    let shift: &[i8] = cast(rest.get(..multiplier.len()).ok_or(Rule::BlobBounds)?)?;
    // The accumulator is in units of `s_in s_w[o]`.
    let unit = |channel: usize| {
        let at = if multiplier.len() == 1 { 0 } else { channel };
        let scale = Magnitude::new(multiplier[at].unsigned_abs().into(), -31).scaled(shift[at].into());
        scale.times(s_out).to_f32()
    };
    let added = |channel: usize, inner: &[f32], pixels: usize, pixel: usize| {
        let unit = unit(channel);
        let sum = adaptor::upper(up, inner, pixels, channel, pixel);
        // Casts saturate, and turn NaN into zero.
        if unit > 0.0 { libm::roundf(sum / unit) as i32 } else { 0 }
    };
    match layer.record {
        Record::Conv2d(r) => {
            let inner = workspace.get_mut(..rank * pixels).ok_or(Rule::ArenaBounds)?;
            let (x, _) = memory.split::<i8, i8>(shape.src, shape.dst)?;
            adaptor::lower(&down, lower, x, real, inner);
            ops::run_conv2d_with(&r, &mut memory, |channel, pixel| added(channel, inner, pixels, pixel))?;
            Ok(memory)
        }
        Record::FullyConnected(r) => {
            // Row by row, with the adaptor's output added to the biases, so that kernels need no change.
            let (inner, biases) = workspace.split_at_mut_checked(rank).ok_or(Rule::ArenaBounds)?;
            let biases = biases.get_mut(..channels).ok_or(Rule::ArenaBounds)?;
            let biases: &mut [i32] = bytemuck::try_cast_slice_mut(biases).map_err(|_| Rule::Alignment)?;
            let row = offshoot_kernels::layer::Geometry::dense(1, g.c, rank);
            let (work, blobs) = memory.parts();
            for at in 0..r.rows {
                let record = offshoot_format::record::FullyConnected {
                    rows: 1,
                    src: r.src + at * r.in_c,
                    dst: r.dst + at * r.out_c,
                    ..r
                };
                let x = work.get(record.src as usize..).and_then(|x| x.get(..g.c));
                adaptor::lower(&row, lower, cast::<i8>(x.ok_or(Rule::ArenaBounds)?)?, real, inner);
                for (channel, (to, bias)) in biases.iter_mut().zip(bias).enumerate() {
                    *to = bias.wrapping_add(added(channel, inner, 1, 0));
                }
                let parameter_bytes = bytemuck::cast_slice(biases);
                ops::run(
                    &Record::FullyConnected(record),
                    &mut Memory::new(work, blobs).with_parameters(parameter_bytes),
                )?;
            }
            Ok(Memory::new(work, blobs))
        }
        _ => Err(Rule::Format),
    }
}

/// The class with the largest score; ties go to the first.
pub(super) fn largest(arena: &[u8], layer: &TrainedLayer) -> Option<u16> {
    let scores = arena.get(layer.shape.dst.range())?;
    let best = match layer.shape.arith {
        Arith::I8 { .. } => first_largest(bytemuck::try_cast_slice::<_, i8>(scores).ok()?),
        Arith::F32 { .. } => first_largest(bytemuck::try_cast_slice::<_, f32>(scores).ok()?),
    };
    u16::try_from(best).ok()
}

fn first_largest<T: PartialOrd>(scores: &[T]) -> usize {
    (0..scores.len()).fold(0, |best, k| if scores[k] > scores[best] { k } else { best })
}
