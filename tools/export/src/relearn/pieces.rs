//! The learned bytes as named pieces, so that they can go out and in as arrays.

use std::ops::Range;

use offshoot::Model;
use offshoot::format::learn::{
    ErrorSource, Format, HeadKind, PROGRESS_BYTES, TargetProjectionRepr, TrainablePart,
};
use offshoot::format::record::Arith;
use offshoot::graph::learn::{Learning, TrainedLayer};

use crate::error::{Error, Result};
use offshoot::AlignedBytes;

/// Type of a piece's elements, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Element {
    F32,
    I32,
    U32,
    I16,
    U16,
    I8,
    U8,
}

impl Element {
    /// Bytes of an element.
    pub fn size(self) -> usize {
        match self {
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 => 1,
        }
    }
}

/// A named part of the learned bytes ([`offshoot::Engine::learned`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// `steps`, `random`, `course`, and other progress; `opN.weights` and others of operator N; `normalizer.mean`, `head.counts`
    /// and others.
    pub name: String,
    /// Type of its elements.
    pub element: Element,
    /// Extents.
    pub shape: Vec<usize>,
    /// First byte within the learned bytes.
    pub start: usize,
}

impl Piece {
    /// Its range within the learned bytes.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.shape.iter().product::<usize>() * self.element.size()
    }
}

/// Names pieces one behind the other.
struct List {
    pieces: Vec<Piece>,
    at: usize,
}

impl List {
    fn add(&mut self, name: impl Into<String>, element: Element, shape: &[usize]) {
        let piece = Piece { name: name.into(), element, shape: shape.to_vec(), start: self.at };
        self.at = piece.range().end;
        if shape.iter().all(|&d| d > 0) {
            self.pieces.push(piece);
        }
    }
}

/// All pieces of what a file learns. Bytes between them are zero.
///
/// # Errors
/// The file is not valid or has no learning records.
pub fn pieces(off: &[u8]) -> Result<Vec<Piece>> {
    let aligned = AlignedBytes::copy_of(off);
    let model = Model::open(aligned.bytes()).map_err(Error::Refused)?;
    let learning = super::learning(&model)?;
    let start = learning.learned_start();
    let mut list = List { pieces: Vec::new(), at: 0 };
    list.add("steps", Element::U32, &[1]);
    list.add("random", Element::U32, &[1]);
    list.add("course", Element::U32, &[1]);
    list.add("active_blocks", Element::U8, &[1]);
    list.add("outliers_in_row", Element::U8, &[1]);
    list.add("usual_distance", Element::U16, &[1]);
    list.add("last_classes", Element::U8, &[2]);
    list.add("repeats", Element::U16, &[1]);
    debug_assert_eq!(list.at, PROGRESS_BYTES);
    for layer in learning.layers() {
        of_layer(&mut list, &learning, &layer, start);
    }
    if let Some(normalizer) = learning.normalizer() {
        list.at = normalizer.at as usize - start;
        let input = model.input(0).ok_or(Error::NotLearning)?;
        let numbers: usize = input.shape.iter().map(|&d| usize::from(d)).product();
        list.add("normalizer.mean", Element::F32, &[numbers]);
        list.add("normalizer.energy", Element::F32, &[1]);
        list.add("normalizer.weight", Element::F32, &[1]);
    }
    if let Some((classifier, n)) = learning.classifier() {
        list.at = classifier.at as usize - start;
        of_head(&mut list, classifier.kind, n, classifier.classes.into());
    }
    Ok(list.pieces)
}

fn of_head(list: &mut List, kind: HeadKind, n: usize, c: usize) {
    let triangle = |n: usize| n * (n + 1) / 2;
    let mut add = |name: &str, shape: &[usize]| list.add(format!("head.{name}"), Element::F32, shape);
    if let HeadKind::Anomaly { diagonal, scores, .. } = kind {
        add("progress", &[5]);
        add("mean", &[n]);
        add("root", &[if diagonal { n } else { triangle(n) }]);
        add("scores", &[scores.into()]);
        return;
    }
    if let HeadKind::Regression { .. } = kind {
        add("progress", &[2]);
        add("root", &[triangle(n + 1)]);
        add("sides", &[c, n + 1]);
        add("weights", &[c, n + 1]);
        return;
    }
    add("counts", &[c]);
    match kind {
        // Above.
        HeadKind::Anomaly { .. } | HeadKind::Regression { .. } => {}
        HeadKind::Softmax { .. } | HeadKind::Boosted { .. } => {
            add("bias", &[c]);
            add("weights", &[c, n]);
        }
        HeadKind::NearestMean { .. } => add("means", &[c, n]),
        HeadKind::Lda { .. } => {
            add("means", &[c, n]);
            add("scatter", &[triangle(n)]);
        }
        HeadKind::LeastSquares { .. } => {
            add("weights", &[c, n + 1]);
            add("inverse", &[triangle(n + 1)]);
        }
        HeadKind::Simplex { .. } => {
            add("norm", &[1]);
            add("means", &[c, n]);
            add("projection", &[c.max(4).next_power_of_two() - 1, n + 1]);
        }
    }
}

fn of_layer(list: &mut List, learning: &Learning<'_>, layer: &TrainedLayer, start: usize) {
    let (shape, op) = (&layer.shape, layer.repr.op);
    let (channels, inputs) = (shape.geometry.out_c, shape.inputs());
    let name = |part: &str| format!("op{op}.{part}");
    let range = layer.trainable_within(start);
    list.at = range.start;
    let rest = |list: &List, size: usize| (range.end - list.at) / size;
    let number = if shape.is_whole() { Element::I32 } else { Element::F32 };
    match layer.repr.part {
        // Blobs of recurrent layers hold several tables.
        TrainablePart::All if shape.sequence.is_some() && shape.is_whole() => {
            list.add(name("parameters"), Element::U8, &[range.len()]);
        }
        TrainablePart::LowRank { rank } => {
            list.add(name("up"), Element::F32, &[channels, rank.into()]);
            list.add(name("down"), Element::F32, &[rank.into(), inputs]);
        }
        TrainablePart::Scale if !shape.is_whole() => {
            list.add(name("bias"), Element::F32, &[channels]);
            list.add(name("scale"), Element::F32, &[channels]);
        }
        TrainablePart::All if shape.sequence.is_some() => {
            list.add(name("parameters"), Element::F32, &[rest(list, 4)]);
        }
        part => {
            list.add(name("bias"), number, &[channels]);
            if let Arith::I8 { per_channel, .. } = shape.arith
                && part != TrainablePart::Bias
            {
                let scales = if per_channel { channels } else { 1 };
                list.add(name("multiplier"), Element::I32, &[scales]);
                list.add(name("shift"), Element::I8, &[scales.next_multiple_of(4)]);
            }
            if part == TrainablePart::All {
                let element = if shape.is_whole() { Element::I8 } else { Element::F32 };
                list.add(name("weights"), element, &[rest(list, element.size())]);
            }
        }
    }
    if let Format::I16 { fine } = layer.repr.format {
        list.at = fine as usize - start;
        list.add(name("weights_lower"), Element::I8, &[shape.geometry.weights()]);
    }
    if let ErrorSource::Local { projection: TargetProjectionRepr::Head { at, .. }, .. } =
        layer.repr.error_source
    {
        list.at = at as usize - start;
        list.add(name("projection"), Element::F32, &[learning.head.classes.into(), layer.grid().features()]);
    }
    if learning.head.momentum > 0 {
        let bytes = shape.velocity_bytes(layer.repr.part) as usize;
        list.at = layer.repr.velocity as usize - start;
        if shape.is_whole() && layer.repr.part == TrainablePart::All && bytes > 0 {
            list.add(name("bias_velocity"), Element::I32, &[channels]);
            list.add(name("weights_velocity"), Element::I16, &[(bytes - 4 * channels) / 2]);
        } else {
            let adaptor = matches!(layer.repr.part, TrainablePart::LowRank { .. });
            let element = if adaptor { Element::F32 } else { number };
            list.add(name("velocity"), element, &[bytes / 4]);
        }
    }
}
