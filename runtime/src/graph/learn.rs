//! Learning records, checked: which operators learn, and where in the arena.
//!
//! Demands: 1 to 255 layers, by strictly ascending operator; 2 to 1024 classes; rates finite and ≥ 0; operators are
//! Conv2d, Depthwise or FullyConnected of one image, their arranged forms ConvBlocked, DepthwisePlanar and FullyConnectedSparse, or Recurrent
//! (float32 or int8, all of it, from codes, no kept state), whose
//! output shares no byte with its input; formats fit the operator's; an int8 layer has scales > 0 and whole
//! codes (no uniform ones, no head) under cross-entropy or DRTP; [`Teacher::Output`] has the classes as channels and is
//! one pixel; exactly the last layer is such a one or none is; a raster of 1 to 16 cells along an axis; probes inside
//! the blob section; learning memory behind the inference arena, without overlaps, in the order of the format.

use super::{Model, Ops};
use crate::error::{Error, Rule};
use crate::format::codec;
use crate::format::learn::{CodesRepr, Format, LearnHead, LearnLayer, Part, Teacher};
use crate::format::record::{Arith, Record, Recurrent, RecurrentArith, Returns, Walk};
use crate::learn::Rule as LearnRule;
use crate::learn::grid::Grid;
use crate::learn::layers::geometry::Geometry;
use crate::learn::sequence;
use crate::ops::{Span, blob, product, require};

/// Most classes.
pub const MAX_CLASSES: u16 = 1024;

/// Most cells of a raster along an axis.
pub const MAX_GRID: u8 = 16;

/// Operators that learn, and what they share.
#[derive(Clone, Copy, Debug)]
pub struct Learning<'m> {
    /// What all layers share.
    pub head: LearnHead,
    rest: &'m [u8],
    ops: &'m [u8],
    op_count: u16,
}

/// An operator that learns, with what follows from its record.
#[derive(Clone, Copy, Debug)]
pub struct TrainedLayer {
    /// As in the file.
    pub repr: LearnLayer,
    /// The operator, its blob at the start of the overlay.
    pub record: Record,
    /// Where its blob lies in the blob section, bytes: what the overlay begins as.
    pub blob: u32,
    /// Extents.
    pub geometry: Geometry,
    /// Number format.
    pub arith: Arith,
    /// Biases hold `-in_zp · Σ weights`.
    pub folded: bool,
    pub(crate) src: Span,
    pub(crate) dst: Span,
    /// Bytes of bias, multipliers and shifts.
    pub(crate) front: [usize; 3],
    /// Place of the overlay in the arena.
    pub(crate) overlay: Span,
}

impl TrainedLayer {
    /// Features of the output that codes speak of.
    pub fn grid(&self) -> Grid {
        let cells = match self.repr.teacher {
            Teacher::Output => 1,
            Teacher::Local { grid, .. } => grid.into(),
        };
        Grid::new(cells, self.geometry.output, self.geometry.out_c)
    }

    /// Where the overlay lies among the bytes that learning changes, which begin at `learned_start`.
    pub fn overlay_within(&self, learned_start: usize) -> core::ops::Range<usize> {
        let start = self.overlay.start.saturating_sub(learned_start);
        start..start + self.overlay.len
    }

    /// Words of room that a step needs.
    pub fn room_words(&self) -> usize {
        record_room_words(&self.record, &self.geometry, &self.arith)
    }

    /// Bytes of learning memory that belong to the layer alone: overlay, lower bytes, head.
    fn memory(&self, classes: u16) -> [Option<(u32, u64)>; 3] {
        let fine = match self.repr.format {
            Format::I16 { fine } => Some((fine, self.geometry.weights() as u64)),
            _ => None,
        };
        let head = match self.repr.teacher {
            Teacher::Local { codes: CodesRepr::Head { at, .. }, .. } => {
                Some((at, 4 * self.grid().features() as u64 * u64::from(classes)))
            }
            _ => None,
        };
        [Some((self.repr.overlay, self.overlay.len as u64)), fine, head]
    }
}

/// What follows from the record of a recurrent layer. Its "image" is a column of the steps that it gives.
fn resolve_recurrent(repr: LearnLayer, mut r: Recurrent) -> Result<TrainedLayer, Rule> {
    // A step runs through the sequence again, from the state before it: a kept one is gone by then.
    require(r.kept.is_none() && r.returns != Returns::State, Rule::Format)?;
    let blob = core::mem::take(&mut r.blob);
    let [steps, inputs, units] = [r.steps, r.inputs, r.units].map(usize::from);
    let outputs = if r.returns == Returns::Sequence { steps } else { 1 };
    let geometry = Geometry::column([steps, outputs], inputs, units);
    // All of it lies in the blob section, whose length fits.
    let rows = r.kind.gates() * units;
    let (bias, weights) = (4 * r.kind.biases() * units, [rows * inputs, rows * units]);
    let (arith, front, bytes) = match r.arith {
        RecurrentArith::F32 => {
            (Arith::F32 { clamp: None }, [bias, 0, 0], bias + 4 * (weights[0] + weights[1]))
        }
        RecurrentArith::I8 { in_zp, out_zp, .. } => {
            let arith = Arith::I8 { in_zp, out_zp, per_channel: true, clamp: None };
            let codes = weights.map(|n| n.next_multiple_of(4));
            (arith, [bias, 4 * rows, 4 * rows], bias + 8 * rows + codes[0] + codes[1])
        }
    };
    let [src, dst] = r.tensors()?;
    let overlay = Span::new(repr.overlay, bytes as u64, 1)?;
    let record = Record::Recurrent(r);
    Ok(TrainedLayer { src, dst, overlay, repr, record, blob, geometry, arith, folded: false, front })
}

/// Words of room that a step of an operator needs, which has this geometry and number format.
pub fn record_room_words(record: &Record, geometry: &Geometry, arith: &Arith) -> usize {
    match record {
        Record::Recurrent(r) => sequence::room_words(r),
        _ => room_words(geometry, arith),
    }
}

/// Words of room that a step of a layer needs: float32 a word a pixel, int8 as [`Geometry::gradients`].
pub fn room_words(geometry: &Geometry, arith: &Arith) -> usize {
    match arith {
        Arith::F32 { .. } => geometry.pixels(),
        Arith::I8 { .. } => geometry.gradients(),
    }
}

/// Bytes of room that steps of layers with at most so many [`room_words`] need: three words a class besides.
pub fn room_bytes(classes: u16, words: usize) -> u64 {
    12 * u64::from(classes) + 4 * words as u64
}

impl<'m> Learning<'m> {
    pub(super) fn new(model: &Model<'m>, head: LearnHead, rest: &'m [u8]) -> Self {
        Self { head, rest, ops: model.ops, op_count: model.head.ops }
    }

    /// Where what learning changes begins in the arena; it goes on to the end.
    pub fn learned_start(&self) -> Option<usize> {
        self.layers().next().map(|layer| layer.overlay.start)
    }

    /// Number of bytes that learning changes: what has to be kept.
    pub fn learned_bytes(&self) -> usize {
        (self.head.arena_bytes as usize).saturating_sub(self.learned_start().unwrap_or(usize::MAX))
    }

    /// The layers, by ascending operator.
    pub fn layers(&self) -> Layers<'m> {
        let ops = Ops { rest: self.ops, next: 0, count: self.op_count };
        Layers { rest: self.rest, left: self.head.layers, ops }
    }
}

/// Walks the layers that learn.
#[derive(Clone, Debug)]
pub struct Layers<'m> {
    rest: &'m [u8],
    left: u8,
    ops: Ops<'m>,
}

impl Layers<'_> {
    fn step(&mut self) -> Option<Result<TrainedLayer, Rule>> {
        self.left = self.left.checked_sub(1)?;
        let mut read = || {
            let (repr, rest) = codec::decode_learn_layer(self.rest).ok_or(Rule::Table)?;
            self.rest = rest;
            // Operators are walked once: a layer that is not behind the one before finds none.
            let (_, _, record) = self.ops.find(|(info, ..)| info.index == repr.op).ok_or(Rule::Table)?;
            resolve(repr, record)
        };
        Some(read())
    }
}

impl Iterator for Layers<'_> {
    type Item = TrainedLayer;

    fn next(&mut self) -> Option<TrainedLayer> {
        // Every layer has been resolved once by `check`.
        self.step()?.ok()
    }
}

/// What follows from the record of an operator that was checked.
fn resolve(repr: LearnLayer, mut record: Record) -> Result<TrainedLayer, Rule> {
    if let Record::Recurrent(r) = record {
        return resolve_recurrent(repr, r);
    }
    let mut folded = false;
    let take = core::mem::take;
    let (geometry, arith, src, dst, blob, images) = match &mut record {
        Record::Conv2d(r) => {
            let geometry = Geometry::conv(r).ok_or(Rule::Window)?;
            (geometry, r.arith, r.src, r.dst, take(&mut r.blob), r.n)
        }
        Record::Depthwise(r) => {
            let geometry = Geometry::depthwise(r).ok_or(Rule::Window)?;
            (geometry, r.arith, r.src, r.dst, take(&mut r.blob), r.n)
        }
        Record::FullyConnected(r) => {
            (Geometry::fully_connected(r), r.arith, r.src, r.dst, take(&mut r.blob), 1)
        }
        Record::ConvBlocked(r) => {
            folded = true;
            let per_channel = r.walk != Walk::VectorOneScale;
            let arith = Arith::I8 { in_zp: r.in_zp, out_zp: r.out_zp, per_channel, clamp: r.clamp };
            (Geometry::blocked(r).ok_or(Rule::Window)?, arith, r.src, r.dst, take(&mut r.blob), r.n)
        }
        Record::DepthwisePlanar(r) => {
            folded = true;
            let arith = Arith::I8 { in_zp: r.in_zp, out_zp: r.out_zp, per_channel: true, clamp: r.clamp };
            (Geometry::planar(r).ok_or(Rule::Window)?, arith, r.src, r.dst, take(&mut r.blob), r.n)
        }
        Record::FullyConnectedSparse(r) => {
            folded = true;
            let (in_zp, out_zp, per_channel, clamp) = (r.in_zp, r.out_zp, r.per_channel, r.clamp);
            let arith = Arith::I8 { in_zp, out_zp, per_channel, clamp };
            (Geometry::sparse(r), arith, r.src, r.dst, take(&mut r.blob), 1)
        }
        _ => return Err(Rule::Format),
    };
    require(images == 1, Rule::Shape)?;
    let g = &geometry;
    let size = arith.dtype().size();
    let extent = |[h, w]: [usize; 2], c: usize| product([h as u64, w as u64, c as u64]);
    let channels = g.out_c;
    let front = match arith {
        Arith::F32 { .. } => [4 * channels, 0, 0],
        Arith::I8 { per_channel, .. } => {
            let scales = if per_channel { channels } else { 1 };
            [4 * channels, 4 * scales, scales.next_multiple_of(4)]
        }
    };
    // All of it lies in the blob section, whose length fits.
    let bytes = front.iter().sum::<usize>() + g.places() * size;
    let src = Span::new(src, extent(g.input, g.c)?, size)?;
    let dst = Span::new(dst, extent(g.output, g.out_c)?, size)?;
    // What learns still has its input when its output is there.
    require(!src.overlaps(dst), Rule::Overlap)?;
    let overlay = Span::new(repr.overlay, bytes as u64, 1)?;
    Ok(TrainedLayer { src, dst, overlay, repr, record, blob, geometry, arith, folded, front })
}

/// Checks what stands behind the operators.
pub(super) fn check<'m>(model: &Model<'m>, rest: &'m [u8]) -> Result<(LearnHead, &'m [u8]), Error> {
    let shared = |rule| Error::Learn { layer: u8::MAX, rule };
    let (head, rest) = codec::decode_learn_head(rest).ok_or(shared(Rule::Table))?;
    require(head.layers > 0, Rule::Shape).map_err(shared)?;
    require((2..=MAX_CLASSES).contains(&head.classes), Rule::Shape).map_err(shared)?;
    check_rate(head.rate).map_err(shared)?;
    let walk = || Learning::new(model, head, rest).layers();
    let mut words = 0;
    let mut layers = walk();
    let mut index = 0;
    while let Some(layer) = layers.step() {
        let invalid = |rule| Error::Learn { layer: index, rule };
        let layer = layer.map_err(invalid)?;
        check_layer(model, &head, &layer, layers.left == 0).map_err(invalid)?;
        words = words.max(layer.room_words());
        index += 1;
    }
    require(layers.rest.is_empty(), Rule::Table).map_err(shared)?;
    // Memory: one piece behind the other.
    let mut end = u64::from(model.arena_bytes());
    let mut place = |at: u32, bytes: u64, align: u32| {
        require(at.is_multiple_of(align), Rule::Alignment)?;
        require(u64::from(at) >= end, Rule::Overlap)?;
        end = u64::from(at).checked_add(bytes).ok_or(Rule::ArenaBounds)?;
        require(end <= u64::from(head.arena_bytes), Rule::ArenaBounds)
    };
    place(head.room, room_bytes(head.classes, words), 8).map_err(shared)?;
    for (index, layer) in walk().enumerate() {
        let invalid = |rule| Error::Learn { layer: index as u8, rule };
        for (at, bytes) in layer.memory(head.classes).into_iter().flatten() {
            place(at, bytes, 4).map_err(invalid)?;
        }
    }
    Ok((head, rest))
}

fn check_rate(rate: f32) -> Result<(), Rule> {
    require(rate.is_finite() && rate >= 0.0, Rule::Quantisation)
}

fn check_layer(model: &Model<'_>, head: &LearnHead, layer: &TrainedLayer, last: bool) -> Result<(), Rule> {
    let repr = &layer.repr;
    check_rate(repr.rate)?;
    let whole = match (layer.arith, repr.format) {
        (Arith::F32 { .. }, Format::F32) => false,
        (Arith::I8 { .. }, Format::I8 | Format::I16 { .. }) => true,
        _ => return Err(Rule::Format),
    };
    if whole {
        let positive = |s: &f32| s.is_finite() && *s > 0.0;
        require(repr.scales.iter().all(positive), Rule::Quantisation)?;
    }
    if let Record::Recurrent(_) = layer.record {
        // Its weights have no lower bytes, and its state is no score.
        let local = matches!(repr.teacher, Teacher::Local { .. }) && repr.part == Part::All;
        require(local && !matches!(repr.format, Format::I16 { .. }), Rule::Format)?;
    }
    match repr.teacher {
        Teacher::Output => {
            let classes = layer.geometry.out_c == usize::from(head.classes) && layer.geometry.pixels() == 1;
            require(last && classes, Rule::Shape)
        }
        Teacher::Local { rule, codes, grid } => {
            require((1..=MAX_GRID).contains(&grid), Rule::Shape)?;
            let cross_entropy = matches!(rule, LearnRule::CrossEntropy { .. });
            if let LearnRule::CrossEntropy { scale }
            | LearnRule::Squared { scale }
            | LearnRule::Absolute { scale } = rule
            {
                check_rate(scale)?;
            }
            require(!whole || cross_entropy || rule == LearnRule::Drtp, Rule::Format)?;
            match codes {
                CodesRepr::Signs { .. } | CodesRepr::Hadamard => Ok(()),
                CodesRepr::Uniform { .. } => require(!whole, Rule::Format),
                CodesRepr::Probe { blob: at } => {
                    let entries = product([u64::from(head.classes), layer.grid().features() as u64])?;
                    blob::<i8>(model.blobs, at, entries).map(|_| ())
                }
                CodesRepr::Head { rate, .. } => {
                    require(!whole && cross_entropy, Rule::Format)?;
                    check_rate(rate)
                }
            }
        }
    }
}
