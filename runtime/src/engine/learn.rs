//! A step of learning: the forward run, and after each operator that learns its own update, while its input and
//! output are still in the arena. Nothing is kept for later.

use super::{Engine, Memory};
use crate::error::{Error, Rule};
use crate::format::learn::{CodesRepr, Format, Part, Teacher};
use crate::format::record::{Arith, Record};
use crate::graph::learn::{Learning, TrainedLayer};
use crate::learn::layers::Slope;
use crate::learn::{Codes, Random, Rule as LearnRule, float, integer, integer::Magnitude, sequence};
use crate::ops::{self, Span};
use crate::trace::{Observer, OpInfo};

/// What learning keeps between steps.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    steps: u32,
    random: Random,
}

/// What a step of learning tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lesson {
    /// The class that the network took the sample for, before it learned from it; `None` if no layer gives the
    /// scores of the classes.
    pub guess: Option<u16>,
    /// Steps so far, this one included.
    pub steps: u32,
}

impl<'m, 'a> Engine<'m, 'a> {
    /// Binds a model to an arena in which it can learn: of [`crate::Model::train_arena_bytes`]. Runs use the weights that
    /// were learned; at first they are those of the file.
    ///
    /// # Errors
    /// [`Error::NotLearning`] if nothing of the model learns; as [`Engine::new`].
    pub fn learning(model: crate::Model<'m>, arena: &'a mut [u8]) -> Result<Self, Error> {
        let learning = model.learning().ok_or(Error::NotLearning)?;
        let mut engine = Self::bound(model, arena, learning.head.arena_bytes)?;
        engine.course = Some(Course { steps: 0, random: Random::new(learning.head.seed) });
        engine.forget()?;
        Ok(engine)
    }

    /// Forgets all that was learned: the weights are those of the file again, and steps begin anew.
    ///
    /// # Errors
    /// [`Error::NotLearning`].
    pub fn forget(&mut self) -> Result<(), Error> {
        let learning = self.course.and_then(|_| self.model.learning()).ok_or(Error::NotLearning)?;
        let start = learning.learned_start().ok_or(Error::NotLearning)?;
        self.arena.get_mut(start..).ok_or(Error::NotLearning)?.fill(0);
        for layer in learning.layers() {
            let factory = factory(&self.model, &layer).ok_or(Error::NotLearning)?;
            let overlay = self.arena.get_mut(layer.overlay.range()).ok_or(Error::NotLearning)?;
            overlay.copy_from_slice(factory);
        }
        self.course = Some(Course { steps: 0, random: Random::new(learning.head.seed) });
        Ok(())
    }

    /// One step: runs on the inputs, and every layer that learns learns that their class is `label`. A step consumes the
    /// inputs, and outputs are as of a run.
    ///
    /// # Errors
    /// [`Error::NotLearning`]; [`Error::Label`].
    pub fn learn(&mut self, label: u16) -> Result<Lesson, Error> {
        let learning = self.model.learning().ok_or(Error::NotLearning)?;
        let course = self.course.as_mut().ok_or(Error::NotLearning)?;
        if label >= learning.head.classes {
            return Err(Error::Label { classes: learning.head.classes });
        }
        let factor = learning.head.schedule.factor(course.steps);
        let mut guess = None;
        walk(&self.model, self.arena, Some(&learning), &mut crate::trace::NoObserver, |arena, layer| {
            if layer.repr.teacher == Teacher::Output {
                guess = largest(arena, layer);
            }
            teach(&learning, layer, arena, self.model.blobs(), label, factor, &mut course.random)
        })?;
        course.steps = course.steps.saturating_add(1);
        Ok(Lesson { guess, steps: course.steps })
    }

    /// Where learning stands, if it has begun: with the arena as it is now, [`Self::resumed`] goes on from there.
    pub fn course(&self) -> Option<Course> {
        self.course
    }

    /// Goes on learning in an arena that [`Self::learning`] has prepared and in which nothing but runs and steps
    /// has written since.
    ///
    /// # Errors
    /// As [`Self::learning`].
    pub fn resumed(model: crate::Model<'m>, arena: &'a mut [u8], course: Course) -> Result<Self, Error> {
        let needed = model.train_arena_bytes().ok_or(Error::NotLearning)?;
        let arena = super::fitting(arena, needed)?;
        Ok(Self { model, arena, course: Some(course) })
    }

    /// All that learning has changed: the bytes to keep. [`Learning::learned_bytes`]
    /// says how many they are.
    pub fn learned(&self) -> Option<&[u8]> {
        let learning = self.course.and_then(|_| self.model.learning())?;
        self.arena.get(learning.learned_start()?..)
    }

    /// Fills the memory that a step may use beside inputs and what is learned with a pattern, to measure how much of it
    /// one does use: [`Self::used`].
    pub fn paint(&mut self, pattern: u8) {
        let end = self.work_bytes();
        let mut start = 0;
        // Stretches between inputs, by ascending place.
        while start < end {
            let inputs = (0..self.model.input_count()).filter_map(|i| super::io_span(&self.model.input(i)?));
            let next = inputs.filter(|s| s.end() > start).min_by_key(|s| s.start);
            let (stop, after) = next.map_or((end, end), |s| (s.start.clamp(start, end), s.end()));
            if let Some(stretch) = self.arena.get_mut(start..stop) {
                stretch.fill(pattern);
            }
            start = after.max(stop);
        }
    }

    /// High-water mark since [`Self::paint`]: bytes up to the last that was written, or that an input has.
    pub fn used(&self, pattern: u8) -> usize {
        let work = self.arena.get(..self.work_bytes()).unwrap_or(&[]);
        work.iter().rposition(|&b| b != pattern).map_or(0, |last| last + 1)
    }

    /// Bytes of the arena in front of what is learned.
    fn work_bytes(&self) -> usize {
        let learning = self.course.and_then(|_| self.model.learning());
        learning.and_then(|l| l.learned_start()).unwrap_or(self.arena.len())
    }

    /// Puts back what [`Self::learned`] gave for the same model, wherever it has been since: what no steps of this model
    /// can have made is refused, and leaves the weights of the file.
    ///
    /// # Errors
    /// [`Error::NotLearning`]; [`Error::Length`] if it is of another length; [`Error::Learn`] with the first layer whose
    /// numbers the kernels do not take.
    pub fn restore(&mut self, learned: &[u8]) -> Result<(), Error> {
        let learning = self.course.and_then(|_| self.model.learning()).ok_or(Error::NotLearning)?;
        let start = learning.learned_start().ok_or(Error::NotLearning)?;
        let own = self.arena.get_mut(start..).ok_or(Error::NotLearning)?;
        if own.len() != learned.len() {
            return Err(Error::Length);
        }
        own.copy_from_slice(learned);
        for (index, layer) in learning.layers().enumerate() {
            if let Err(rule) = self.check_learned(&layer) {
                self.forget()?;
                return Err(Error::Learn { layer: index as u8, rule });
            }
        }
        Ok(())
    }

    /// Whether the overlay of a layer is one that its operator takes, with the multipliers and shifts of the file.
    fn check_learned(&self, layer: &TrainedLayer) -> Result<(), Rule> {
        let overlay = self.arena.get(layer.overlay.range()).ok_or(Rule::ArenaBounds)?;
        let factory = factory(&self.model, layer).ok_or(Rule::BlobBounds)?;
        let fixed = layer.front[0]..layer.front.iter().sum();
        if overlay.get(fixed.clone()) != factory.get(fixed) {
            return Err(Rule::Quantisation);
        }
        let limits = ops::Limits { arena_bytes: self.model.arena_bytes(), blobs: overlay };
        ops::check(&layer.record, &limits).map(|_| ())
    }
}

/// The weights that a layer has in the file.
fn factory<'m>(model: &crate::Model<'m>, layer: &TrainedLayer) -> Option<&'m [u8]> {
    model.blobs().get(layer.blob as usize..)?.get(..layer.overlay.len)
}

/// Runs every operator, those that learn with their overlays, and calls `learn` behind these.
pub(super) fn walk(
    model: &crate::Model<'_>,
    arena: &mut [u8],
    learning: Option<&Learning<'_>>,
    observer: &mut impl Observer,
    mut learn: impl FnMut(&mut [u8], &TrainedLayer) -> Result<(), Rule>,
) -> Result<(), Error> {
    // Without the feature nothing of learning is linked.
    let mut layers = learning.filter(|_| cfg!(feature = "learn")).map(Learning::layers);
    let mut next = layers.as_mut().and_then(Iterator::next);
    for (info, _, record) in model.ops() {
        let fault = |rule| Error::Invalid { op: info.index, rule };
        observer.before(info);
        match next.filter(|layer| layer.repr.op == info.index) {
            None => {
                let mut memory = Memory::new(arena, model.blobs());
                ops::run(&record, &mut memory).map_err(fault)?;
                watch(observer, info, &memory, || ops::output(&record)).map_err(fault)?;
            }
            Some(layer) => {
                let split = arena.split_at_mut_checked(model.arena_bytes() as usize);
                let (work, learned) = split.ok_or(fault(Rule::ArenaBounds))?;
                let at = layer.overlay.start.checked_sub(work.len());
                let overlay = at.and_then(|at| learned.get(at..)?.get(..layer.overlay.len));
                let mut memory = Memory::new(work, overlay.ok_or(fault(Rule::ArenaBounds))?);
                ops::run(&layer.record, &mut memory).map_err(fault)?;
                watch(observer, info, &memory, || Ok(layer.dst)).map_err(fault)?;
                learn(arena, &layer).map_err(fault)?;
                next = layers.as_mut().and_then(Iterator::next);
            }
        }
    }
    Ok(())
}

/// Shows an operator's output to whoever watches.
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

/// The class with the largest score; of equal ones the first.
fn largest(arena: &[u8], layer: &TrainedLayer) -> Option<u16> {
    let scores = arena.get(layer.dst.range())?;
    let best = match layer.arith {
        Arith::I8 { .. } => first_largest(bytemuck::try_cast_slice::<_, i8>(scores).ok()?),
        Arith::F32 { .. } => first_largest(bytemuck::try_cast_slice::<_, f32>(scores).ok()?),
    };
    u16::try_from(best).ok()
}

fn first_largest<T: PartialOrd>(scores: &[T]) -> usize {
    (0..scores.len()).fold(0, |best, k| if scores[k] > scores[best] { k } else { best })
}

/// One step of one layer.
fn teach(
    learning: &Learning<'_>,
    layer: &TrainedLayer,
    arena: &mut [u8],
    blobs: &[u8],
    label: u16,
    factor: u32,
    random: &mut Random,
) -> Result<(), Rule> {
    let head = &learning.head;
    let classes = usize::from(head.classes);
    let grid = layer.grid();
    // In the order in which they lie: the arena of inference, then room, overlay, lower bytes or head.
    let (work, learned) = arena.split_at_mut_checked(head.room as usize).ok_or(Rule::ArenaBounds)?;
    let table_len = 4 * classes * grid.features();
    let (extra_at, extra_len) = match (layer.repr.format, layer.repr.teacher) {
        (Format::I16 { fine }, _) => (fine, layer.geometry.weights()),
        (_, Teacher::Local { codes: CodesRepr::Head { at, .. }, .. }) => (at, table_len),
        _ => (layer.repr.overlay + layer.overlay.len as u32, 0),
    };
    let base = head.room as usize;
    let pieces = [
        (0, 12 * classes + 4 * layer.room_words()),
        (layer.overlay.start - base, layer.overlay.len),
        (extra_at as usize - base, extra_len),
    ];
    let [room, overlay, extra] = pieces_of(learned, pieces)?;
    let bytes = |span: Span| work.get(span.range()).ok_or(Rule::ArenaBounds);
    let (x, h) = (bytes(layer.src)?, bytes(layer.dst)?);
    if let Record::Recurrent(r) = &layer.record {
        let rate = head.rate * layer.repr.rate * (factor as f32 * (1.0 / 32768.0));
        return teach_recurrent(
            r,
            learning,
            layer,
            (work, blobs),
            (room, overlay, extra),
            (label, rate),
            random,
        );
    }
    let (bias, rest) = overlay.split_at_mut_checked(layer.front[0]).ok_or(Rule::BlobBounds)?;
    let (rule, codes) = match layer.repr.teacher {
        Teacher::Output => (LearnRule::CrossEntropy { scale: 1.0 }, None),
        Teacher::Local { rule, codes, .. } => (rule, Some(codes)),
    };
    let drawn = match codes {
        None => Codes::Unit,
        Some(CodesRepr::Signs { seed }) => Codes::Signs { seed },
        Some(CodesRepr::Hadamard) => Codes::Hadamard,
        Some(CodesRepr::Uniform { seed }) => Codes::Uniform { seed },
        Some(CodesRepr::Probe { blob }) => {
            Codes::Small(ops::blob(blobs, blob, (classes * grid.features()) as u64)?)
        }
        Some(CodesRepr::Head { .. }) => Codes::Unit,
    };
    let (label, bias_only) = (usize::from(label), layer.repr.part == Part::Bias);
    let (words, long) = room.split_at_mut_checked(12 * classes).ok_or(Rule::ArenaBounds)?;
    match layer.arith {
        Arith::F32 { clamp } if cfg!(feature = "f32") => {
            let slope = clamp.map_or(Slope::Linear, |(min, max)| Slope::Clamp { min, max });
            let rate = head.rate * layer.repr.rate * (factor as f32 * (1.0 / 32768.0));
            let table: &mut [f32] = cast_mut(extra)?;
            let head_rate = match codes {
                Some(CodesRepr::Head { rate, .. }) => Some(rate),
                _ => None,
            };
            let codes = if head_rate.is_some() { Codes::Table(table) } else { drawn };
            let lesson =
                float::Lesson { rule, codes, grid, label, rate, normalised: head.normalised, bias_only };
            let mut own = float::Layer {
                geometry: layer.geometry,
                slope,
                x: cast(x)?,
                h: cast(h)?,
                weights: cast_mut(rest)?,
                bias: cast_mut(bias)?,
            };
            let residual = cast_mut::<f32>(words)?.get_mut(..classes).ok_or(Rule::ArenaBounds)?;
            float::learn(&mut own, &lesson, residual, cast_mut(long)?);
            if let Some(head_rate) = head_rate {
                float::learn_head(own.h, &lesson.grid, table, residual, rate * head_rate, head.normalised);
            }
            Ok(())
        }
        Arith::F32 { .. } => Err(Rule::Format),
        Arith::I8 { in_zp, out_zp, clamp, .. } => {
            let (multiplier, rest) = rest.split_at_mut_checked(layer.front[1]).ok_or(Rule::BlobBounds)?;
            let (shift, weights) = rest.split_at_mut_checked(layer.front[2]).ok_or(Rule::BlobBounds)?;
            let scale = Magnitude::from_f32;
            let quant = integer::Quant {
                in_zp: in_zp.into(),
                out_zp: out_zp.into(),
                bounds: clamp.unwrap_or((i8::MIN, i8::MAX)),
                s_in: scale(layer.repr.scales[0]),
                s_out: scale(layer.repr.scales[1]),
            };
            let rate = scale(head.rate).times(scale(layer.repr.rate));
            let lesson = integer::Lesson {
                rule,
                codes: drawn,
                grid,
                label,
                rate: rate.times(Magnitude::new(factor.into(), -15)),
                normalised: head.normalised,
                bias_only,
            };
            let mut own = integer::Layer {
                geometry: layer.geometry,
                x: cast(x)?,
                h: cast(h)?,
                weights: cast_mut(weights)?,
                fine: cast_mut(extra)?,
                bias: cast_mut(bias)?,
                folded: layer.folded,
                multiplier: cast(multiplier)?,
                shift: cast(shift)?,
                quant,
            };
            let (sums, residual) = words.split_at_mut_checked(8 * classes).ok_or(Rule::ArenaBounds)?;
            let mut room = integer::Room {
                residual: cast_mut(residual)?,
                sums: cast_mut(sums)?,
                gradients: cast_mut(long)?,
            };
            integer::learn(&mut own, &lesson, &mut room, random);
            Ok(())
        }
    }
}

/// One step of a recurrent layer: `memory` is the arena of inference and the blobs, then room, overlay and head.
fn teach_recurrent(
    r: &crate::format::record::Recurrent,
    learning: &Learning<'_>,
    layer: &TrainedLayer,
    (work, blobs): (&[u8], &[u8]),
    (room, overlay, extra): (&mut [u8], &mut [u8], &mut [u8]),
    (label, rate): (u16, f32),
    random: &mut Random,
) -> Result<(), Rule> {
    let classes = usize::from(learning.head.classes);
    let grid = layer.grid();
    let Teacher::Local { rule, codes, .. } = layer.repr.teacher else { return Err(Rule::Format) };
    let drawn = match codes {
        CodesRepr::Signs { seed } => Codes::Signs { seed },
        CodesRepr::Hadamard => Codes::Hadamard,
        CodesRepr::Uniform { seed } => Codes::Uniform { seed },
        CodesRepr::Probe { blob } => {
            Codes::Small(ops::blob(blobs, blob, (classes * grid.features()) as u64)?)
        }
        CodesRepr::Head { .. } => Codes::Unit,
    };
    let head = match codes {
        CodesRepr::Head { rate, .. } => Some((cast_mut::<f32>(extra)?, rate)),
        _ => None,
    };
    let (words, long) = room.split_at_mut_checked(12 * classes).ok_or(Rule::ArenaBounds)?;
    let residual = cast_mut::<f32>(words)?.get_mut(..classes).ok_or(Rule::ArenaBounds)?;
    let pieces = super::recurrent::Pieces { work, overlay, residual, room: cast_mut(long)?, head };
    let (label, normalised) = (usize::from(label), learning.head.normalised);
    let lesson = sequence::Lesson { rule, codes: drawn, grid, label, rate, normalised };
    super::recurrent::teach(r, layer, &lesson, pieces, random)
}

/// Three pieces of memory, each behind the one before.
fn pieces_of(bytes: &mut [u8], at: [(usize, usize); 3]) -> Result<[&mut [u8]; 3], Rule> {
    let mut rest = bytes;
    let mut taken = 0;
    let mut next = |(start, len): (usize, usize)| {
        let skipped = start.checked_sub(taken).ok_or(Rule::Overlap)?;
        let (_, from) = core::mem::take(&mut rest).split_at_mut_checked(skipped).ok_or(Rule::ArenaBounds)?;
        let (piece, after) = from.split_at_mut_checked(len).ok_or(Rule::ArenaBounds)?;
        rest = after;
        taken = start + len;
        Ok(piece)
    };
    Ok([next(at[0])?, next(at[1])?, next(at[2])?])
}

pub(super) fn cast<T: super::Element>(bytes: &[u8]) -> Result<&[T], Rule> {
    bytemuck::try_cast_slice(bytes).map_err(|_| Rule::Alignment)
}

pub(super) fn cast_mut<T: super::Element>(bytes: &mut [u8]) -> Result<&mut [T], Rule> {
    bytemuck::try_cast_slice_mut(bytes).map_err(|_| Rule::Alignment)
}
