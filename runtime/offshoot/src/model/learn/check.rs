//! Checks learning records against the rules listed in the parent module.

use super::{
    Learning, MAX_CLASSES, MAX_FEATURES, MAX_GRID, MAX_TAPS, TrainedLayer, answer_work, normalizer_bytes,
    workspace_bytes,
};
use crate::model::io_span;
use crate::model::{MAX_WORK, Model};
use offshoot_base::{Error, Rule};
use offshoot_base::{blob, product, require};
use offshoot_format::codec;
use offshoot_format::learn::{
    ClassifierHead, ErrorSource, Format, HeadKind, InputNormalizerRepr, LearnHead, PROGRESS_BYTES,
    TargetProjectionRepr, TrainablePart,
};
use offshoot_format::record::DType;
use offshoot_kernels::layer::Order;
use offshoot_learn::LocalRule;
use offshoot_learn::heads::{head_bytes, head_is_possible};
use offshoot_operators as ops;

/// Checks the bytes after the operators.
pub(in crate::model) fn check<'m>(model: &Model<'m>, rest: &'m [u8]) -> Result<(), Error> {
    let shared = |rule| Error::Learn { layer: u8::MAX, rule };
    let (head, rest) = codec::decode_learn_head(rest).ok_or(shared(Rule::Table))?;
    let learning = Learning::new(model, head, rest);
    check_head(&head).map_err(shared)?;
    let mut words = 0;
    let mut layers = learning.layers();
    let mut index = 0;
    let mut before: Option<TrainedLayer> = None;
    while let Some(layer) = layers.step() {
        let invalid = |rule| Error::Learn { layer: index, rule };
        let layer = layer.map_err(invalid)?;
        let last = layers.left == 0;
        check_layer(model, &head, &layer, last).map_err(invalid)?;
        words = words.max(layer.shape.workspace_words(layer.repr.part));
        if let Some(first) = before.filter(|first| first.repr.error_source == ErrorSource::Next) {
            check_block(model, &first, &layer).map_err(invalid)?;
            let features = layer.grid().features();
            words = words.max(first.shape.block_words(first.repr.part, &layer.shape, features));
        }
        require(!last || layer.repr.error_source != ErrorSource::Next, Rule::Shape).map_err(invalid)?;
        before = Some(layer);
        index += 1;
    }
    let mut taps = learning.taps();
    let mut features = 0;
    while let Some(tap) = taps.step() {
        let tap = tap.map_err(shared)?;
        let scale = tap.repr.scale;
        require(!tap.shape.is_whole() || is_positive(scale), Rule::Quantisation).map_err(shared)?;
        features += tap.width();
        require(features <= MAX_FEATURES, Rule::Shape).map_err(shared)?;
    }
    require(taps.rest.is_empty(), Rule::Table).map_err(shared)?;
    #[cfg(feature = "op-branch")]
    outside_branches(model, &learning).map_err(shared)?;
    if let Some(folded) = head.classifier.map(|c| usize::from(c.folded)).filter(|&folded| folded > 0) {
        require(folded <= features, Rule::Shape).map_err(shared)?;
        features = folded;
    }
    let memory = Memory { model, head: &head, features, words };
    memory.check(&learning, shared)
}

/// Layers and taps run for every sample: none lies in a branch of a switch.
#[cfg(feature = "op-branch")]
fn outside_branches(model: &Model<'_>, learning: &Learning<'_>) -> Result<(), Rule> {
    use offshoot_format::record::Record;
    for (info, _, record) in model.ops() {
        if let Record::Branch(branch) = record {
            let inside = |op: u16| op > info.index && op - info.index <= branch.ops;
            let learns = learning.layers().any(|layer| inside(layer.repr.op));
            require(!learns && !learning.taps().any(|tap| inside(tap.repr.op)), Rule::Table)?;
        }
    }
    Ok(())
}

fn is_positive(number: f32) -> bool {
    number.is_finite() && number > 0.0
}

fn check_rate(rate: f32) -> Result<(), Rule> {
    require(rate.is_finite() && rate >= 0.0, Rule::Quantisation)
}

fn check_head(head: &LearnHead) -> Result<(), Rule> {
    require(head.layers > 0 || head.classifier.is_some(), Rule::Shape)?;
    require((2..=MAX_CLASSES).contains(&head.classes), Rule::Shape)?;
    check_rate(head.rate)?;
    check_rate(head.noise)?;
    require(head.momentum < 1 << 15, Rule::Quantisation)?;
    if let Some(ClassifierHead { kind, classes, taps, folded, .. }) = head.classifier {
        // A boosted head has a block for each tap.
        require(folded == 0 || !matches!(kind, HeadKind::Boosted { .. }), Rule::Shape)?;
        // Heads compute in float32, whatever the network's number format.
        require(cfg!(feature = "f32"), Rule::Format)?;
        require((1..=MAX_TAPS).contains(&usize::from(taps)), Rule::Shape)?;
        #[cfg(feature = "head-regression")]
        let least = if let HeadKind::Regression { .. } = kind {
            // Layers cannot learn from real targets, and statistics that follow would move the features.
            let few = usize::from(classes) <= offshoot_learn::heads::MAX_OUTPUTS;
            require(few && head.layers == 0 && head.normalizer.is_none(), Rule::Shape)?;
            1
        } else {
            head.classes
        };
        #[cfg(not(feature = "head-regression"))]
        let least = head.classes;
        require((least..=MAX_CLASSES).contains(&classes), Rule::Shape)?;
        #[cfg(feature = "head-anomaly")]
        if let HeadKind::Anomaly { .. } = kind {
            // Normal and anomalous; layers cannot learn from that, and statistics that follow would move what is normal.
            let two = usize::from(classes) == offshoot_learn::heads::ANOMALY_CLASSES;
            require(two && head.layers == 0 && head.normalizer.is_none(), Rule::Shape)?;
        }
        require(head_is_possible(kind), Rule::Quantisation)?;
    }
    if let Some(InputNormalizerRepr { energy, trust, .. }) = head.normalizer {
        require(cfg!(feature = "f32"), Rule::Format)?;
        require(is_positive(energy), Rule::Quantisation)?;
        check_rate(trust)?;
    }
    Ok(())
}

fn check_layer(model: &Model<'_>, head: &LearnHead, layer: &TrainedLayer, last: bool) -> Result<(), Rule> {
    let (repr, shape) = (&layer.repr, &layer.shape);
    check_rate(repr.rate)?;
    shape.allows(repr.part)?;
    let whole = shape.is_whole();
    match repr.format {
        Format::F32 => require(!whole, Rule::Format)?,
        Format::I8 => require(whole, Rule::Format)?,
        Format::I16 { .. } => require(whole && repr.part == TrainablePart::All, Rule::Format)?,
    }
    if whole {
        require(repr.scales.iter().all(|&s| is_positive(s)), Rule::Quantisation)?;
        require(!matches!(repr.part, TrainablePart::LowRank { .. }) || cfg!(feature = "f32"), Rule::Format)?;
    }
    if shape.sequence.is_some() {
        // Recurrent weights have no lower bytes, and a state is not a score.
        let local = matches!(repr.error_source, ErrorSource::Local { .. });
        require(local && !matches!(repr.format, Format::I16 { .. }), Rule::Format)?;
    }
    let sparse = matches!(shape.geometry.order, Order::Sparse(_));
    require(!sparse || head.momentum == 0, Rule::Format)?;
    match repr.error_source {
        ErrorSource::Output => {
            let g = &shape.geometry;
            require(last && g.out_c == usize::from(head.classes) && g.pixels() == 1, Rule::Shape)
        }
        ErrorSource::Next => require(!shape.norm, Rule::Format),
        ErrorSource::Local { rule, projection, grid } => {
            require((1..=MAX_GRID).contains(&grid), Rule::Shape)?;
            let cross_entropy = matches!(rule, LocalRule::CrossEntropy { .. });
            if let Some(scale) = rule.scale() {
                check_rate(scale)?;
            }
            require(!whole || rule.is_for_int8(), Rule::Format)?;
            let entries = product([u64::from(head.classes), layer.grid().features() as u64])?;
            let probe = |at: u32| blob::<i8>(model.blobs, at, entries).map(|_| ());
            match projection {
                TargetProjectionRepr::Signs { .. } | TargetProjectionRepr::Hadamard => Ok(()),
                TargetProjectionRepr::Uniform { .. } => require(!whole, Rule::Format),
                TargetProjectionRepr::Probe { blob } => probe(blob),
                TargetProjectionRepr::Head { rate, from, .. } => {
                    require(!whole && cross_entropy, Rule::Format)?;
                    if let Some((blob, unit)) = from {
                        probe(blob)?;
                        check_rate(unit)?;
                    }
                    check_rate(rate)
                }
            }
        }
    }
}

/// Checks two layers that learn together (a block of two).
fn check_block(model: &Model<'_>, first: &TrainedLayer, second: &TrainedLayer) -> Result<(), Rule> {
    require(first.shape.feeds(&second.shape) && !second.shape.norm, Rule::Shape)?;
    require(matches!(second.repr.part, TrainablePart::All | TrainablePart::Bias), Rule::Format)?;
    require(second.repr.error_source != ErrorSource::Next, Rule::Shape)?;
    let between = model.ops().skip_while(|(info, ..)| info.index <= first.repr.op);
    for (info, _, record) in between.take_while(|(info, ..)| info.index <= second.repr.op) {
        let written = ops::output(&record)?;
        let shared = written.overlaps(first.shape.src) || written.overlaps(first.shape.dst);
        require(!shared && info.index <= second.repr.op, Rule::Overlap)?;
    }
    Ok(())
}

/// Checks that the pieces of learning memory follow one another without overlap.
struct Memory<'c, 'm> {
    model: &'c Model<'m>,
    head: &'c LearnHead,
    features: usize,
    words: usize,
}

impl Memory<'_, '_> {
    fn check(&self, learning: &Learning<'_>, shared: impl Fn(Rule) -> Error) -> Result<(), Error> {
        let head = self.head;
        let mut end = u64::from(self.model.arena_bytes());
        let mut place = |at: u32, bytes: u64, align: u32| {
            require(at.is_multiple_of(align), Rule::Alignment)?;
            require(u64::from(at) >= end, Rule::Overlap)?;
            end = u64::from(at).checked_add(bytes).ok_or(Rule::ArenaBounds)?;
            require(end <= u64::from(head.arena_bytes), Rule::ArenaBounds)
        };
        place(head.workspace, workspace_bytes(head.classes, self.words), 8).map_err(&shared)?;
        if let Some(classifier) = head.classifier {
            let words = self.features as u64 + u64::from(classifier.classes);
            place(classifier.features, 4 * words, 4).map_err(&shared)?;
            require(answer_work(self.features, classifier.classes.into()) <= MAX_WORK, Rule::Shape)
                .map_err(&shared)?;
        }
        place(head.learned, PROGRESS_BYTES as u64, 4).map_err(&shared)?;
        for (index, layer) in learning.layers().enumerate() {
            let invalid = |rule| Error::Learn { layer: index as u8, rule };
            for (at, bytes) in layer.memory(head).into_iter().flatten() {
                place(at, bytes, 4).map_err(invalid)?;
            }
        }
        if let Some(normalizer) = head.normalizer {
            let numbers = self.inputs(&normalizer).map_err(&shared)?;
            place(normalizer.at, normalizer_bytes(numbers), 4).map_err(&shared)?;
        }
        if let Some(classifier) = head.classifier {
            #[cfg(feature = "head-regression")]
            if let HeadKind::Regression { .. } = classifier.kind {
                let output = self.model.output(0).ok_or(shared(Rule::Shape))?;
                require(matches!(output.dtype, DType::I8 | DType::F32), Rule::Format).map_err(&shared)?;
                let elements = io_span(&output).map_or(0, |span| span.len / output.dtype.size());
                require(elements == usize::from(classifier.classes), Rule::Shape).map_err(&shared)?;
            }
            let (bytes, _) = head_bytes(classifier.kind, self.features, classifier.classes.into());
            place(classifier.at, bytes as u64, 4).map_err(&shared)?;
        }
        if let Some(at) = head.begun {
            let bytes = learning.beside_blobs(self.model).map(|(_, bytes)| bytes).sum();
            blob::<u8>(self.model.blobs, at, bytes).map_err(&shared)?;
        }
        Ok(())
    }

    /// Number of elements of the input that has statistics.
    fn inputs(&self, normalizer: &InputNormalizerRepr) -> Result<usize, Rule> {
        let only = self.model.input(0).filter(|_| self.model.input_count() == 1).ok_or(Rule::Shape)?;
        require(matches!(only.dtype, DType::I8 | DType::F32), Rule::Format)?;
        require(only.dtype == DType::F32 || is_positive(only.scale), Rule::Quantisation)?;
        let bytes = io_span(&only).ok_or(Rule::Shape)?.len;
        let numbers = bytes / only.dtype.size();
        blob::<f32>(self.model.blobs, normalizer.blob, numbers as u64)?;
        Ok(numbers)
    }
}
