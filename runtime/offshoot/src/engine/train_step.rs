//! One train step of a layer or of a block of two: finds the slices of the arena and calls the arithmetic.

use super::pieces::Pieces;
use crate::model::learn::{Learning, TrainedLayer, class_bytes};
use offshoot_base::{Rule, cast, cast_mut};
use offshoot_format::learn::{ErrorSource, TargetProjectionRepr, TrainablePart};
use offshoot_format::record::{Arith, Record, Recurrent};
use offshoot_learn::descent::Descent;
use offshoot_learn::integer::{self, Magnitude, Motion};
use offshoot_learn::layers::Slope;
use offshoot_learn::schedule::ONE;
use offshoot_learn::{LocalRule, Random, TargetProjection, float, sequence, step};

/// What all layers share in one train step.
pub(super) struct StepContext<'l, 'm> {
    pub(super) learning: &'l Learning<'m>,
    pub(super) blobs: &'m [u8],
    pub(super) label: usize,
    pub(super) step: u32,
    pub(super) rates: Rates,
}

/// Rate factors, as multiples of 1 / [`ONE`].
#[derive(Clone, Copy)]
pub(super) struct Rates {
    /// For the layer that gives the scores, and for heads.
    pub(super) last: u32,
    /// For the other layers.
    pub(super) hidden: u32,
}

impl Rates {
    fn of(self, layer: &TrainedLayer) -> u32 {
        if layer.repr.error_source == ErrorSource::Output { self.last } else { self.hidden }
    }
}

/// A layer's own learning memory.
struct Own<'a> {
    trainable: &'a mut [u8],
    /// Lower bytes of int16 weights, or the table of a local head.
    extra: &'a mut [u8],
    velocity: &'a mut [u8],
}

impl<'a> Own<'a> {
    fn take(pieces: &mut Pieces<'a>, layer: &TrainedLayer, learning: &Learning<'_>) -> Result<Self, Rule> {
        let mut next = |piece: Option<(u32, u64)>| match piece {
            Some((at, bytes)) => pieces.take(at as usize, bytes as usize),
            None => Ok(Default::default()),
        };
        let [trainable, extra, velocity] = layer.memory(&learning.head);
        Ok(Self { trainable: next(trainable)?, extra: next(extra)?, velocity: next(velocity)? })
    }
}

/// Workspace words after those of the classes, taken one piece after another.
struct Words<'a>(&'a mut [u8]);

impl<'a> Words<'a> {
    fn take<T: offshoot_base::Element>(&mut self, count: usize) -> Result<&'a mut [T], Rule> {
        let (piece, rest) =
            core::mem::take(&mut self.0).split_at_mut_checked(4 * count).ok_or(Rule::ArenaBounds)?;
        self.0 = rest;
        cast_mut(piece)
    }
}

/// The local rule and target projection of a layer; `table` is that of a local head.
fn assignment<'a>(
    layer: &TrainedLayer,
    classes: usize,
    blobs: &'a [u8],
    table: &'a [f32],
) -> Result<(LocalRule, TargetProjection<'a>), Rule> {
    Ok(match layer.repr.error_source {
        ErrorSource::Local { rule, projection, .. } => {
            let projection = match projection {
                TargetProjectionRepr::Signs { seed } => TargetProjection::Signs { seed },
                TargetProjectionRepr::Hadamard => TargetProjection::Hadamard,
                TargetProjectionRepr::Uniform { seed } => TargetProjection::Uniform { seed },
                TargetProjectionRepr::Probe { blob } => TargetProjection::Small(offshoot_base::blob(
                    blobs,
                    blob,
                    (classes * layer.grid().features()) as u64,
                )?),
                TargetProjectionRepr::Head { .. } => TargetProjection::Table(table),
            };
            (rule, projection)
        }
        ErrorSource::Output | ErrorSource::Next => {
            (LocalRule::CrossEntropy { scale: 1.0 }, TargetProjection::Unit)
        }
    })
}

impl StepContext<'_, '_> {
    /// Splits the arena into inference memory, words of the classes, other workspace, and learning memory.
    fn split<'a>(
        &self,
        arena: &'a mut [u8],
        words: usize,
    ) -> Result<(&'a [u8], &'a mut [u8], Words<'a>, Pieces<'a>), Rule> {
        let head = &self.learning.head;
        let workspace = head.workspace as usize;
        let (work, behind) = arena.split_at_mut_checked(workspace).ok_or(Rule::ArenaBounds)?;
        let mut pieces = Pieces { rest: behind, at: workspace };
        let classes = class_bytes(head.classes);
        let all = pieces.take(workspace, classes + 4 * words)?;
        let (of_classes, words) = all.split_at_mut_checked(classes).ok_or(Rule::ArenaBounds)?;
        Ok((work, of_classes, Words(words), pieces))
    }

    /// Workspace words that a step may use besides those of the classes: at least as many as any layer needs.
    fn all_words(&self) -> usize {
        let head = &self.learning.head;
        let end = head.classifier.map_or(head.learned, |classifier| classifier.features);
        (end.saturating_sub(head.workspace) as usize).saturating_sub(class_bytes(head.classes)) / 4
    }

    fn float_rate(&self, layer: &TrainedLayer) -> f32 {
        let factor = self.rates.of(layer) as f32 * (1.0 / ONE as f32);
        self.learning.head.rate * layer.repr.rate * factor
    }

    fn whole_rate(&self, layer: &TrainedLayer) -> Magnitude {
        let of = Magnitude::from_f32;
        let factor = Magnitude::new(self.rates.of(layer).into(), -15);
        of(self.learning.head.rate).times(of(layer.repr.rate)).times(factor)
    }

    fn descent<'a>(
        &self,
        layer: &TrainedLayer,
        velocity: &'a mut [u8],
        random: &'a mut Random,
    ) -> Result<Descent<'a>, Rule> {
        let head = &self.learning.head;
        Ok(Descent {
            rate: self.float_rate(layer),
            momentum: f32::from(head.momentum) * (1.0 / 32768.0),
            velocity: cast_mut(velocity)?,
            noise: if head.noise > 0.0 { step::annealed(head.noise, self.step) } else { 0.0 },
            random,
        })
    }

    fn motion<'a>(&self, layer: &TrainedLayer, velocity: &'a mut [u8]) -> Result<Motion<'a>, Rule> {
        let head = &self.learning.head;
        // Velocities of biases, scales and adaptors are words. Those of weights follow and have 16 bits.
        let words = match layer.repr.part {
            TrainablePart::All => (4 * layer.shape.geometry.out_c).min(velocity.len()),
            _ => velocity.len(),
        };
        let (biases, weights) = velocity.split_at_mut_checked(words).ok_or(Rule::ArenaBounds)?;
        let noise = Magnitude::from_f32(head.noise).over(Magnitude::root(self.step.saturating_add(1)));
        Ok(Motion { momentum: head.momentum, biases: cast_mut(biases)?, weights: cast_mut(weights)?, noise })
    }

    /// One step of a recurrent layer.
    fn recurrent(
        &mut self,
        r: &Recurrent,
        layer: &TrainedLayer,
        arena: &mut [u8],
        random: &mut Random,
    ) -> Result<(), Rule> {
        let head = &self.learning.head;
        let classes = usize::from(head.classes);
        let needed = layer.shape.workspace_words(layer.repr.part);
        let (work, of_classes, mut words, mut pieces) = self.split(arena, needed)?;
        let own = Own::take(&mut pieces, layer, self.learning)?;
        let table = match layer.repr.error_source {
            ErrorSource::Local { projection: TargetProjectionRepr::Head { rate, .. }, .. } => {
                Some((cast_mut::<f32>(own.extra)?, rate))
            }
            _ => None,
        };
        // A local head's projection is its table, which is set where it can be borrowed.
        let (rule, projection) = match &table {
            Some(_) => {
                let ErrorSource::Local { rule, .. } = layer.repr.error_source else {
                    return Err(Rule::Format);
                };
                (rule, TargetProjection::Unit)
            }
            None => assignment(layer, classes, self.blobs, &[])?,
        };
        let residual = cast_mut::<f32>(of_classes)?.get_mut(..classes).ok_or(Rule::ArenaBounds)?;
        let workspace = words.take(needed)?;
        let pieces =
            super::recurrent::Pieces { work, trainable: own.trainable, residual, workspace, head: table };
        let (rate, normalised) = (self.float_rate(layer), head.normalised);
        let target = sequence::StepTarget {
            rule,
            projection,
            grid: layer.grid(),
            label: self.label,
            rate,
            normalised,
        };
        let matrices = match &layer.record {
            Record::RecurrentSparse(r) => r.matrices(),
            _ => [None; 2],
        };
        super::recurrent::train_step(r, matrices, layer, &target, pieces, random)
    }

    /// One step of one layer.
    pub(super) fn layer(
        &mut self,
        layer: &TrainedLayer,
        arena: &mut [u8],
        random: &mut Random,
    ) -> Result<(), Rule> {
        if let Some(r) = layer.record.recurrent() {
            return self.recurrent(r, layer, arena, random);
        }
        let shape = &layer.shape;
        let head = &self.learning.head;
        let classes = usize::from(head.classes);
        let (work, of_classes, mut words, mut pieces) = self.split(arena, self.all_words())?;
        let own = Own::take(&mut pieces, layer, self.learning)?;
        let bytes = |span: offshoot_base::Span| work.get(span.range()).ok_or(Rule::ArenaBounds);
        let (x, h) = (bytes(shape.src)?, bytes(shape.dst)?);
        let grid = layer.grid();
        match shape.arith {
            Arith::F32 { .. } if cfg!(feature = "f32") => {
                let residual = cast_mut::<f32>(of_classes)?.get_mut(..classes).ok_or(Rule::ArenaBounds)?;
                let table: &mut [f32] = cast_mut(own.extra)?;
                let (rule, projection) = assignment(layer, classes, self.blobs, table)?;
                let errors = words.take(shape.geometry.pixels())?;
                let mut learner = float::FloatLayer {
                    geometry: shape.geometry,
                    slope: slope(&shape.arith),
                    x: cast(x)?,
                    h: cast(h)?,
                    part: float_part(layer, own.trainable, &mut words)?,
                };
                let target = float::StepTarget { rule, projection, grid, label: self.label };
                let descent = self.descent(layer, own.velocity, random)?;
                let way = float::Way { descent, normalised: head.normalised };
                float::learn(&mut learner, &target, way, residual, errors);
                let h = learner.h;
                if let ErrorSource::Local { projection: TargetProjectionRepr::Head { rate, .. }, .. } =
                    layer.repr.error_source
                {
                    // The head learns at full rate during the layer's warm-up.
                    let factor = self.rates.last as f32 * (1.0 / ONE as f32);
                    let rate = head.rate * rate * factor;
                    float::learn_head(h, &grid, table, residual, rate, head.normalised);
                }
                Ok(())
            }
            Arith::F32 { .. } => Err(Rule::Format),
            Arith::I8 { .. } => {
                let (sums, residual) =
                    of_classes.split_at_mut_checked(8 * classes).ok_or(Rule::ArenaBounds)?;
                let (rule, projection) = assignment(layer, classes, self.blobs, &[])?;
                let mut learner = integer::IntegerLayer {
                    geometry: shape.geometry,
                    x: cast(x)?,
                    h: cast(h)?,
                    folded: shape.folded,
                    quant: quant(layer)?,
                    part: whole_part(layer, self.blobs, own.trainable, own.extra, &mut words)?,
                };
                let target = integer::StepTarget {
                    rule,
                    projection,
                    grid,
                    label: self.label,
                    rate: self.whole_rate(layer),
                    normalised: head.normalised,
                };
                let mut workspace = integer::Workspace {
                    residual: cast_mut(residual)?,
                    sums: cast_mut(sums)?,
                    gradients: cast_mut(words.0)?,
                };
                integer::learn(
                    &mut learner,
                    &target,
                    self.motion(layer, own.velocity)?,
                    &mut workspace,
                    random,
                );
                Ok(())
            }
        }
    }

    /// One step of the first layer of a block, by the error of the second, which learns afterwards.
    pub(super) fn block(
        &mut self,
        first: &TrainedLayer,
        second: &TrainedLayer,
        arena: &mut [u8],
        random: &mut Random,
    ) -> Result<(), Rule> {
        let (shape, above) = (&first.shape, &second.shape);
        let head = &self.learning.head;
        let classes = usize::from(head.classes);
        let grid = second.grid();
        let needed = shape.block_words(first.repr.part, above, grid.features());
        let (work, of_classes, mut words, mut pieces) = self.split(arena, needed)?;
        let own = Own::take(&mut pieces, first, self.learning)?;
        let of_second = Own::take(&mut pieces, second, self.learning)?;
        let bytes = |span: offshoot_base::Span| work.get(span.range()).ok_or(Rule::ArenaBounds);
        let (x, h, z) = (bytes(shape.src)?, bytes(shape.dst)?, bytes(above.dst)?);
        let blob = |len: usize| {
            let bytes = self.blobs.get(above.blob as usize..).and_then(|b| b.get(..len));
            bytes.ok_or(Rule::BlobBounds)
        };
        let whole = second.repr.part == TrainablePart::All;
        let blob: &[u8] = if whole { &*of_second.trainable } else { blob(above.blob_bytes())? };
        let (_, rest) = blob.split_at_checked(above.parameter_bytes[0]).ok_or(Rule::BlobBounds)?;
        match shape.arith {
            Arith::F32 { .. } if cfg!(feature = "f32") => {
                let residual = cast_mut::<f32>(of_classes)?.get_mut(..classes).ok_or(Rule::ArenaBounds)?;
                let table: &[f32] = cast(of_second.extra)?;
                let (rule, projection) = assignment(second, classes, self.blobs, table)?;
                let mut workspace = float::Workspace {
                    residual,
                    features: words.take(grid.features())?,
                    second: words.take(above.geometry.pixels())?,
                    plane: words.take(shape.geometry.pixels())?,
                };
                let mut learner = float::FloatLayer {
                    geometry: shape.geometry,
                    slope: slope(&shape.arith),
                    x: cast(x)?,
                    h: cast(h)?,
                    part: float_part(first, own.trainable, &mut words)?,
                };
                let upper = float::Second {
                    geometry: above.geometry,
                    slope: slope(&above.arith),
                    h: cast(z)?,
                    weights: cast(rest)?,
                };
                let target = float::StepTarget { rule, projection, grid, label: self.label };
                let descent = self.descent(first, own.velocity, random)?;
                let way = float::Way { descent, normalised: head.normalised };
                float::learn_first(&mut learner, &upper, &target, way, &mut workspace);
                Ok(())
            }
            Arith::F32 { .. } => Err(Rule::Format),
            Arith::I8 { .. } => {
                let (sums, residual) =
                    of_classes.split_at_mut_checked(8 * classes).ok_or(Rule::ArenaBounds)?;
                let (rule, projection) = assignment(second, classes, self.blobs, &[])?;
                let mut back = integer::BlockWorkspace {
                    features: words.take(grid.features())?,
                    second: words.take(above.geometry.pixels().max(above.geometry.out_c))?,
                    plane: words.take(shape.geometry.pixels())?,
                };
                let mut learner = integer::IntegerLayer {
                    geometry: shape.geometry,
                    x: cast(x)?,
                    h: cast(h)?,
                    folded: shape.folded,
                    quant: quant(first)?,
                    part: whole_part(first, self.blobs, own.trainable, own.extra, &mut words)?,
                };
                let (multiplier, rest) =
                    rest.split_at_checked(above.parameter_bytes[1]).ok_or(Rule::BlobBounds)?;
                let (shift, weights) =
                    rest.split_at_checked(above.parameter_bytes[2]).ok_or(Rule::BlobBounds)?;
                let upper = integer::Second {
                    geometry: above.geometry,
                    h: cast(z)?,
                    quant: quant(second)?,
                    weights: cast(weights)?,
                    scales: integer::Scales { multiplier: cast(multiplier)?, shift: cast(shift)? },
                };
                let target = integer::StepTarget {
                    rule,
                    projection,
                    grid,
                    label: self.label,
                    rate: self.whole_rate(first),
                    normalised: head.normalised,
                };
                let mut workspace = integer::Workspace {
                    residual: cast_mut(residual)?,
                    sums: cast_mut(sums)?,
                    gradients: cast_mut(words.0)?,
                };
                let motion = self.motion(first, own.velocity)?;
                integer::learn_first(
                    &mut learner,
                    &upper,
                    &target,
                    motion,
                    &mut workspace,
                    &mut back,
                    random,
                );
                Ok(())
            }
        }
    }
}

fn slope(arith: &Arith) -> Slope {
    match arith {
        Arith::F32 { clamp: Some((min, max)) } => Slope::Clamp { min: *min, max: *max },
        _ => Slope::Linear,
    }
}

fn quant(layer: &TrainedLayer) -> Result<integer::Quant, Rule> {
    let Arith::I8 { in_zp, out_zp, clamp, .. } = layer.shape.arith else { return Err(Rule::Format) };
    Ok(integer::Quant {
        in_zp: in_zp.into(),
        out_zp: out_zp.into(),
        bounds: clamp.unwrap_or((i8::MIN, i8::MAX)),
        s_in: Magnitude::from_f32(layer.repr.scales[0]),
        s_out: Magnitude::from_f32(layer.repr.scales[1]),
    })
}

/// An adaptor's factors in the trainable copy, and its workspace.
fn low_rank<'a>(
    layer: &TrainedLayer,
    rank: u8,
    trainable: &'a mut [u8],
    words: &mut Words<'a>,
) -> Result<float::LowRank<'a>, Rule> {
    let (rank, pixels) = (usize::from(rank), layer.shape.geometry.pixels());
    let factors: &mut [f32] = cast_mut(trainable)?;
    let at = layer.shape.geometry.out_c * rank;
    let (up, down) = factors.split_at_mut_checked(at).ok_or(Rule::ArenaBounds)?;
    Ok(float::LowRank {
        up,
        down,
        geometry: layer.shape.down(rank),
        inner: words.take(rank * pixels)?,
        pulled: words.take(rank * pixels)?,
    })
}

/// The part of a float32 layer that learns.
fn float_part<'a>(
    layer: &TrainedLayer,
    trainable: &'a mut [u8],
    words: &mut Words<'a>,
) -> Result<float::FloatParameters<'a>, Rule> {
    if let TrainablePart::LowRank { rank } = layer.repr.part {
        return low_rank(layer, rank, trainable, words).map(float::FloatParameters::LowRank);
    }
    let numbers: &mut [f32] = cast_mut(trainable)?;
    let (parameter_bytes, rest) =
        numbers.split_at_mut_checked(layer.shape.geometry.out_c).ok_or(Rule::ArenaBounds)?;
    Ok(match layer.repr.part {
        TrainablePart::All if layer.shape.norm => {
            float::FloatParameters::Norm { scale: parameter_bytes, bias: rest }
        }
        TrainablePart::All => float::FloatParameters::All { bias: parameter_bytes, weights: rest },
        TrainablePart::Scale => float::FloatParameters::Scale { bias: parameter_bytes, scale: rest },
        TrainablePart::Bias | TrainablePart::LowRank { .. } => float::FloatParameters::Bias(parameter_bytes),
    })
}

/// The part of an int8 layer that learns.
fn whole_part<'a>(
    layer: &TrainedLayer,
    blobs: &'a [u8],
    trainable: &'a mut [u8],
    fine: &'a mut [u8],
    words: &mut Words<'a>,
) -> Result<integer::IntegerParameters<'a>, Rule> {
    let shape = &layer.shape;
    if let TrainablePart::LowRank { rank } = layer.repr.part {
        let plane = words.take(shape.geometry.pixels())?;
        return Ok(integer::IntegerParameters::LowRank(low_rank(layer, rank, trainable, words)?, plane));
    }
    let (bias, rest) = trainable.split_at_mut_checked(shape.parameter_bytes[0]).ok_or(Rule::BlobBounds)?;
    let bias = cast_mut(bias)?;
    if layer.repr.part == TrainablePart::Bias {
        let factory = blobs.get(shape.blob as usize..).ok_or(Rule::BlobBounds)?;
        let (_, rest) = factory.split_at_checked(shape.parameter_bytes[0]).ok_or(Rule::BlobBounds)?;
        let (multiplier, rest) = rest.split_at_checked(shape.parameter_bytes[1]).ok_or(Rule::BlobBounds)?;
        let multiplier: &[i32] = cast(multiplier)?;
        let shift = cast(rest.get(..multiplier.len()).ok_or(Rule::BlobBounds)?)?;
        return Ok(integer::IntegerParameters::Bias { bias, scales: integer::Scales { multiplier, shift } });
    }
    let (multiplier, rest) = rest.split_at_mut_checked(shape.parameter_bytes[1]).ok_or(Rule::BlobBounds)?;
    let multiplier: &mut [i32] = cast_mut(multiplier)?;
    let (shift, weights) = rest.split_at_mut_checked(shape.parameter_bytes[2]).ok_or(Rule::BlobBounds)?;
    if layer.repr.part == TrainablePart::Scale {
        return Ok(integer::IntegerParameters::Scale { bias, multiplier, shift: cast_mut(shift)? });
    }
    Ok(integer::IntegerParameters::All {
        weights: cast_mut(weights)?,
        fine: cast_mut(fine)?,
        bias,
        scales: integer::Scales { multiplier, shift: cast(shift)? },
    })
}
