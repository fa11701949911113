//! Checked learning records: which operators learn, where their memory is, and which classifier head the model has.
//!
//! Rules for layers:
//! - at most 255, in strictly ascending operator order; at least one if there is no classifier head;
//! - 2 to 1024 classes; rates finite and ≥ 0;
//! - the operator is a Conv2d, Depthwise or FullyConnected with a batch of one; or ConvTiled, DepthwisePlanar or
//!   FullyConnectedSparse (the last without momentum); or a Recurrent or RecurrentSparse (all parameters; local rules
//!   only; float32 or int8; no state kept between runs); its output shares no byte with its input. A LayerNorm (all
//!   parameters) is allowed too, also in place;
//! - its number format fits the operator's; low-rank adaptors (rank 1 to 64) need a Conv2d without groups or a
//!   FullyConnected;
//! - an int8 layer has scales > 0, learns by cross-entropy or DRTP, and has an integer target projection (not uniform,
//!   no head);
//! - [`ErrorSource::Output`]: only on the last layer, whose output is one pixel with the classes as channels;
//! - a pooling grid has 1 to 16 cells along an axis; probes lie inside the blob section.
//!
//! Rules for blocks of two: the layer after one with [`ErrorSource::Next`] reads that layer's output, has the same
//! number format, learns all parameters or biases, and has an error source of its own. No operator up to the second
//! layer overwrites the first one's input or output.
//!
//! Rules for a classifier head: 1 to 32 taps in strictly ascending operator order, each at an operator that could
//! learn, with scale > 0 if int8; at most 4096 features; at least the layers' number of classes, at most 1024; options
//! in their ranges. Rules for input statistics: the model has a single input, int8 or float32.
//!
//! Learning memory follows the inference arena, without overlaps, in the order that the format defines.

mod check;
mod shape;

pub(super) use check::check;
pub use shape::Shape;

use super::{Model, Ops};
use offshoot_base::Rule;
use offshoot_base::Span;
use offshoot_format::codec;
use offshoot_format::learn::{
    ClassifierHead, ErrorSource, Format, InputNormalizerRepr, LearnHead, LearnLayer, PROGRESS_BYTES, Tap,
    TargetProjectionRepr, TrainablePart,
};
use offshoot_format::record::Record;
pub use offshoot_kernels::gradient::grid::MAX_GRID;
use offshoot_kernels::gradient::grid::PoolingGrid;
use offshoot_learn::heads::head_bytes;

/// Maximum number of classes.
pub const MAX_CLASSES: u16 = 1024;

/// Maximum number of taps of a classifier head.
pub const MAX_TAPS: usize = 32;

/// Maximum number of features of a classifier head.
pub const MAX_FEATURES: usize = 4096;

/// The operators that learn, and the settings they share.
#[derive(Clone, Copy, Debug)]
pub struct Learning<'m> {
    /// Settings shared by all layers.
    pub head: LearnHead,
    rest: &'m [u8],
    ops: &'m [u8],
    op_count: u16,
}

/// An operator that learns, with the values derived from its record.
#[derive(Clone, Copy, Debug)]
pub struct TrainedLayer {
    /// As in the file.
    pub repr: LearnLayer,
    /// The operator. If all of its parameters learn, its blob is at offset 0 of the trainable copy, otherwise where the
    /// file has it.
    pub record: Record,
    /// Extents and number format.
    pub shape: Shape,
    /// Span of the trainable copy in the arena.
    pub(crate) trainable: Span,
}

impl TrainedLayer {
    fn new(repr: LearnLayer, mut record: Record) -> Result<Self, Rule> {
        let shape = Shape::of(&record)?;
        if repr.part == TrainablePart::All {
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

    /// Pooling grid over the layer's output; its cells are the features of the target projection.
    pub fn grid(&self) -> PoolingGrid {
        let cells = match self.repr.error_source {
            ErrorSource::Output | ErrorSource::Next => 1,
            ErrorSource::Local { grid, .. } => grid.into(),
        };
        PoolingGrid::new(cells, self.shape.geometry.output, self.shape.geometry.out_c)
    }

    /// Range of the trainable copy within the learned bytes, which begin at `learned_start` in the arena.
    pub fn trainable_within(&self, learned_start: usize) -> core::ops::Range<usize> {
        let start = self.trainable.start.saturating_sub(learned_start);
        start..start + self.trainable.len
    }

    /// Arena offset and bytes of the lower bytes of int16 weights, or of the table of a local head.
    pub(crate) fn extra(&self, classes: u16) -> Option<(u32, u64)> {
        match (self.repr.format, self.repr.error_source) {
            (Format::I16 { fine }, _) => Some((fine, self.shape.geometry.weights() as u64)),
            (_, ErrorSource::Local { projection: TargetProjectionRepr::Head { at, .. }, .. }) => {
                Some((at, 4 * self.grid().features() as u64 * u64::from(classes)))
            }
            _ => None,
        }
    }

    /// Whether the trainable copy has the form of the operator's blob, or of its start.
    pub fn is_in_blob(&self) -> bool {
        match self.repr.part {
            TrainablePart::All | TrainablePart::Bias => true,
            TrainablePart::Scale => self.shape.is_whole(),
            TrainablePart::LowRank { .. } => false,
        }
    }

    /// Arena offsets and bytes of the layer's own learning memory: trainable copy; lower bytes or table; velocities.
    pub(crate) fn memory(&self, head: &LearnHead) -> [Option<(u32, u64)>; 3] {
        let moves = head.momentum > 0;
        let velocity = moves.then(|| (self.repr.velocity, self.shape.velocity_bytes(self.repr.part)));
        [Some((self.repr.trainable, self.trainable.len as u64)), self.extra(head.classes), velocity]
    }
}

/// Bytes of the part of the workspace that depends on the classes alone: three words per class.
pub fn class_bytes(classes: u16) -> usize {
    12 * usize::from(classes)
}

/// Bytes of workspace for layers that need at most `words` words ([`Shape::workspace_words`], [`Shape::block_words`]).
pub fn workspace_bytes(classes: u16, words: usize) -> u64 {
    class_bytes(classes) as u64 + 4 * words as u64
}

/// Bytes of the statistics of an input with `numbers` elements.
pub fn normalizer_bytes(numbers: usize) -> u64 {
    4 * (numbers as u64 + 2)
}

/// Approximate operations of one refresh and one prediction.
pub(crate) fn answer_work(features: usize, classes: usize) -> u64 {
    let (n, c) = (features as u64, classes as u64);
    (n * n).saturating_mul(n / 6 + c + 1)
}

impl<'m> Learning<'m> {
    pub(super) fn new(model: &Model<'m>, head: LearnHead, rest: &'m [u8]) -> Self {
        Self { head, rest, ops: model.ops, op_count: model.head.ops }
    }

    /// Arena offset of the learned bytes, of which there are [`Self::learned_bytes`].
    pub fn learned_start(&self) -> usize {
        self.head.learned as usize
    }

    /// Number of bytes that learning changes, which must be saved to keep it. A classifier head recomputes the memory
    /// after them.
    pub fn learned_bytes(&self) -> usize {
        let end = match self.classifier() {
            Some((classifier, features)) => {
                classifier.at as usize + head_bytes(classifier.kind, features, classifier.classes.into()).1
            }
            None => self.head.arena_bytes as usize,
        };
        end.saturating_sub(self.learned_start())
    }

    /// Pieces of the learned bytes that no operator's blob holds, as arena offset and length: progress; for each layer
    /// its trainable copy if it has another form than the blob, lower bytes or table, velocities; input statistics; what
    /// the classifier head learned. A file that has learned holds them in this order ([`LearnHead::begun`]).
    pub fn beside_blobs(&self, model: &Model<'_>) -> impl Iterator<Item = (u32, u64)> + use<'m> {
        let head = self.head;
        let layers = self.layers().flat_map(move |layer| {
            let [trainable, extra, velocity] = layer.memory(&head);
            [trainable.filter(|_| !layer.is_in_blob()), extra, velocity]
        });
        let input = model.input(0).and_then(|io| Some(super::io_span(&io)?.len / io.dtype.size()));
        let normalizer = head.normalizer.map(|n| (n.at, normalizer_bytes(input.unwrap_or(0))));
        let classifier = self.classifier().map(|(classifier, features)| {
            let (_, learned) = head_bytes(classifier.kind, features, classifier.classes.into());
            (classifier.at, learned as u64)
        });
        let progress = Some((head.learned, PROGRESS_BYTES as u64));
        core::iter::once(progress).chain(layers).chain([normalizer, classifier]).flatten()
    }

    /// Number of classes that a label can name: the classifier head's if there is one, else the layers'.
    pub fn classes(&self) -> u16 {
        self.head.classifier.map_or(self.head.classes, |a| a.classes)
    }

    /// The layers in ascending operator order.
    pub fn layers(&self) -> Layers<'m> {
        let ops = Ops { rest: self.ops, next: 0, count: self.op_count };
        Layers { rest: self.rest, left: self.head.layers, ops }
    }

    /// The classifier head and its number of features, folded if they are, if the model has one.
    pub fn classifier(&self) -> Option<(ClassifierHead, usize)> {
        // No file with a head opens without float32: nothing of a head is linked then.
        let classifier = self.head.classifier.filter(|_| cfg!(feature = "f32"))?;
        let features = match classifier.folded {
            0 => self.taps().map(|tap| tap.width()).sum(),
            folded => folded.into(),
        };
        Some((classifier, features))
    }

    /// The input normaliser, if the model has one.
    pub fn normalizer(&self) -> Option<InputNormalizerRepr> {
        self.head.normalizer.filter(|_| cfg!(feature = "f32"))
    }

    /// The taps in ascending operator order.
    pub fn taps(&self) -> Taps<'m> {
        let mut layers = self.layers();
        while layers.decoded().is_some() {}
        let ops = Ops { rest: self.ops, next: 0, count: self.op_count };
        Taps { rest: layers.rest, left: self.head.classifier.map_or(0, |a| a.taps), ops }
    }
}

/// Iterates over the layers that learn.
#[derive(Clone, Debug)]
pub struct Layers<'m> {
    rest: &'m [u8],
    left: u8,
    ops: Ops<'m>,
}

impl Layers<'_> {
    /// Decodes the next record without resolving its operator.
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
        // Operators are visited once, so a layer out of ascending order finds none.
        let found = self.ops.find(|(info, ..)| info.index == repr.op).ok_or(Rule::Table);
        Some(found.and_then(|(_, _, record)| TrainedLayer::new(repr, record)))
    }
}

impl Iterator for Layers<'_> {
    type Item = TrainedLayer;

    fn next(&mut self) -> Option<TrainedLayer> {
        // `check` has resolved every layer once.
        self.step()?.ok()
    }
}

/// A [`Tap`] and the shape of its operator.
#[derive(Clone, Copy, Debug)]
pub struct Tapped {
    /// As in the file.
    pub repr: Tap,
    /// Shape of the tapped operator.
    pub shape: Shape,
}

impl Tapped {
    /// Number of features.
    pub fn width(&self) -> usize {
        self.shape.geometry.c
    }

    /// Arena offset of the tapped tensor in bytes.
    pub fn source(&self) -> u32 {
        self.shape.src.start as u32
    }
}

/// Iterates over the taps of a classifier head.
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
        // `check` has resolved every tap once.
        self.step()?.ok()
    }
}
