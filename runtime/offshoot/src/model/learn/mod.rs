//! Learning records, checked: which operators learn, where in the arena, and what answers.
//!
//! Demands of layers: at most 255, by strictly ascending operator, at least one if nothing answers; 2 to 1024 classes; rates
//! finite and ≥ 0; operators are Conv2d, Depthwise or FullyConnected of one image, or their arranged forms ConvTiled,
//! DepthwisePlanar and FullyConnectedSparse (without momentum), or Recurrent or RecurrentSparse (all of it, from codes, float32 or int8, no kept state), whose output shares no byte with its input, or LayerNorm, all of it; formats fit the operator's; adaptors of low
//! rank (1 to 64) are for Conv2d without groups and FullyConnected; an int8 layer has scales > 0 and whole codes (no uniform ones, no
//! head) under cross-entropy or DRTP; [`ErrorSource::Output`] has the classes as channels and is one pixel; exactly the last layer
//! is such a one or none is; a pooling grid of 1 to 16 cells along an axis; probes inside the blob section.
//!
//! Of blocks: behind a layer that learns from the next stands one whose input is its output, of the same number format, which learns
//! weights or biases and has a teacher of its own; no operator up to that one writes where the first one's input or output lies.
//!
//! Of an answer: 1 to 32 taps by strictly ascending operator, one that could learn, scales > 0 if int8; at most 4096 features;
//! as many classes as layers have, or more, to 1024; options in their ranges. Of statistics: the model has one input, int8 or float32.
//!
//! Learning memory lies behind the inference arena, without overlaps, in the order of the format.

mod check;
mod shape;

pub(super) use check::check;
pub use shape::Shape;

use super::{Model, Ops};
use offshoot_base::Rule;
use offshoot_base::Span;
use offshoot_format::codec;
use offshoot_format::learn::{
    ClassifierHead, ErrorSource, Format, InputNormalizerRepr, LearnHead, LearnLayer, Part, Tap,
    TargetProjectionRepr,
};
use offshoot_format::record::Record;
pub use offshoot_kernels::gradient::grid::MAX_GRID;
use offshoot_kernels::gradient::grid::PoolingGrid;
use offshoot_learn::heads::head_bytes;

/// Most classes.
pub const MAX_CLASSES: u16 = 1024;

/// Most taps of an answer.
pub const MAX_TAPS: usize = 32;

/// Most features of an answer.
pub const MAX_FEATURES: usize = 4096;

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
    /// The operator; its blob at the start of the trainable copy if all of it learns, else where it lies in the file.
    pub record: Record,
    /// Extents, number format.
    pub shape: Shape,
    /// Place of the trainable copy in the arena.
    pub(crate) trainable: Span,
}

impl TrainedLayer {
    fn new(repr: LearnLayer, mut record: Record) -> Result<Self, Rule> {
        let shape = Shape::of(&record)?;
        if repr.part == Part::All {
            match &mut record {
                Record::Conv2d(r) => r.blob = 0,
                Record::Depthwise(r) => r.blob = 0,
                Record::FullyConnected(r) => r.blob = 0,
                Record::ConvTiled(r) => r.blob = 0,
                Record::DepthwisePlanar(r) => r.blob = 0,
                Record::LayerNorm(r) => r.blob = 0,
                Record::FullyConnectedSparse(r) => r.blob = 0,
                Record::Recurrent(r) => r.blob = 0,
                Record::RecurrentSparse(r) => r.layer.blob = 0,
                _ => return Err(Rule::Format),
            }
        }
        let trainable = Span::new(repr.trainable, shape.trainable_bytes(repr.part), 1)?;
        Ok(Self { repr, record, shape, trainable })
    }

    /// Features of the output that codes speak of.
    pub fn grid(&self) -> PoolingGrid {
        let cells = match self.repr.error_source {
            ErrorSource::Output | ErrorSource::Next => 1,
            ErrorSource::Local { grid, .. } => grid.into(),
        };
        PoolingGrid::new(cells, self.shape.geometry.output, self.shape.geometry.out_c)
    }

    /// Where the trainable copy lies among the bytes that learning changes, which begin at `learned_start`.
    pub fn trainable_within(&self, learned_start: usize) -> core::ops::Range<usize> {
        let start = self.trainable.start.saturating_sub(learned_start);
        start..start + self.trainable.len
    }

    /// Lower bytes of int16 weights, or the table of a head that learns: where, and bytes.
    pub(crate) fn extra(&self, classes: u16) -> Option<(u32, u64)> {
        match (self.repr.format, self.repr.error_source) {
            (Format::I16 { fine }, _) => Some((fine, self.shape.geometry.weights() as u64)),
            (_, ErrorSource::Local { codes: TargetProjectionRepr::Head { at, .. }, .. }) => {
                Some((at, 4 * self.grid().features() as u64 * u64::from(classes)))
            }
            _ => None,
        }
    }

    /// Bytes of learning memory that belong to the layer alone: trainable copy, lower bytes or table, velocities.
    pub(crate) fn memory(&self, head: &LearnHead) -> [Option<(u32, u64)>; 3] {
        let moves = head.momentum > 0;
        let velocity = moves.then(|| (self.repr.velocity, self.shape.velocity_bytes(self.repr.part)));
        [Some((self.repr.trainable, self.trainable.len as u64)), self.extra(head.classes), velocity]
    }
}

/// Bytes of room that steps need beside the words of a layer: three words a class.
pub fn class_bytes(classes: u16) -> usize {
    12 * usize::from(classes)
}

/// Bytes of room for layers that need at most so many words ([`Shape::workspace_words`], [`Shape::block_words`]).
pub fn workspace_bytes(classes: u16, words: usize) -> u64 {
    class_bytes(classes) as u64 + 4 * words as u64
}

/// Bytes of the statistics of an input of so many numbers.
pub fn normalizer_bytes(numbers: usize) -> u64 {
    4 * (numbers as u64 + 2)
}

/// Operations of a refresh and a prediction, about.
pub(crate) fn answer_work(features: usize, classes: usize) -> u64 {
    let (n, c) = (features as u64, classes as u64);
    (n * n).saturating_mul(n / 6 + c + 1)
}

impl<'m> Learning<'m> {
    pub(super) fn new(model: &Model<'m>, head: LearnHead, rest: &'m [u8]) -> Self {
        Self { head, rest, ops: model.ops, op_count: model.head.ops }
    }

    /// Where what learning changes begins in the arena; it goes on for [`Self::learned_bytes`].
    pub fn learned_start(&self) -> usize {
        self.head.learned as usize
    }

    /// Number of bytes that learning changes: what has to be kept. What an answer has behind them is made anew from them.
    pub fn learned_bytes(&self) -> usize {
        let end = match self.classifier() {
            Some((classifier, features)) => {
                classifier.at as usize + head_bytes(classifier.kind, features, classifier.classes.into()).1
            }
            None => self.head.arena_bytes as usize,
        };
        end.saturating_sub(self.learned_start())
    }

    /// Most classes that a label can name: those of the layers, or of the answer.
    pub fn classes(&self) -> u16 {
        self.head.classifier.map_or(self.head.classes, |a| a.classes)
    }

    /// The layers, by ascending operator.
    pub fn layers(&self) -> Layers<'m> {
        let ops = Ops { rest: self.ops, next: 0, count: self.op_count };
        Layers { rest: self.rest, left: self.head.layers, ops }
    }

    /// What answers, and the number of its features.
    pub fn classifier(&self) -> Option<(ClassifierHead, usize)> {
        let classifier = self.head.classifier?;
        Some((classifier, self.taps().map(|tap| tap.width()).sum()))
    }

    /// Statistics of the input.
    pub fn standard(&self) -> Option<InputNormalizerRepr> {
        self.head.standard
    }

    /// The taps, by ascending operator.
    pub fn taps(&self) -> Taps<'m> {
        let mut layers = self.layers();
        while layers.decoded().is_some() {}
        let ops = Ops { rest: self.ops, next: 0, count: self.op_count };
        Taps { rest: layers.rest, left: self.head.classifier.map_or(0, |a| a.taps), ops }
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
    /// The next record, decoded and no more.
    fn decoded(&mut self) -> Option<Result<LearnLayer, Rule>> {
        self.left = self.left.checked_sub(1)?;
        let mut read = || {
            let (repr, rest) = codec::decode_learn_layer(self.rest).ok_or(Rule::Table)?;
            self.rest = rest;
            Ok(repr)
        };
        Some(read())
    }

    fn step(&mut self) -> Option<Result<TrainedLayer, Rule>> {
        let repr = match self.decoded()? {
            Ok(repr) => repr,
            Err(rule) => return Some(Err(rule)),
        };
        // Operators are walked once: a layer that is not behind the one before finds none.
        let found = self.ops.find(|(info, ..)| info.index == repr.op).ok_or(Rule::Table);
        Some(found.and_then(|(_, _, record)| TrainedLayer::new(repr, record)))
    }
}

impl Iterator for Layers<'_> {
    type Item = TrainedLayer;

    fn next(&mut self) -> Option<TrainedLayer> {
        // Every layer has been resolved once by `check`.
        self.step()?.ok()
    }
}

/// A [`Tap`] and the operator that it is at.
#[derive(Clone, Copy, Debug)]
pub struct Tapped {
    /// As in the file.
    pub repr: Tap,
    /// Of the operator.
    pub shape: Shape,
}

impl Tapped {
    /// Number of features.
    pub fn width(&self) -> usize {
        self.shape.geometry.c
    }

    /// Where the tensor lies in the arena, bytes.
    pub fn source(&self) -> u32 {
        self.shape.src.start as u32
    }
}

/// Walks the taps of an answer.
#[derive(Clone, Debug)]
pub struct Taps<'m> {
    rest: &'m [u8],
    left: u8,
    ops: Ops<'m>,
}

impl Taps<'_> {
    fn step(&mut self) -> Option<Result<Tapped, Rule>> {
        self.left = self.left.checked_sub(1)?;
        let mut read = || {
            let (repr, rest) = codec::decode_tap(self.rest).ok_or(Rule::Table)?;
            self.rest = rest;
            let (_, _, record) = self.ops.find(|(info, ..)| info.index == repr.op).ok_or(Rule::Table)?;
            Ok(Tapped { repr, shape: Shape::of(&record)? })
        };
        Some(read())
    }
}

impl Iterator for Taps<'_> {
    type Item = Tapped;

    fn next(&mut self) -> Option<Tapped> {
        // Every tap has been resolved once by `check`.
        self.step()?.ok()
    }
}
