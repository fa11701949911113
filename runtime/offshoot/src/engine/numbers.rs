//! float32 numbers that learning leaves behind: a NaN among them has one form, as in the outputs of operators, so that
//! what was learned has the same bytes on every target.

use crate::model::Model;
use crate::model::io_span;
use crate::model::learn::Learning;
use offshoot_base::cast_mut;
use offshoot_format::learn::TrainablePart;
use offshoot_kernels::portable::float::make_canonical;
use offshoot_learn::heads::head_bytes;

/// Gives every NaN in the learned memory of float32 its one form.
pub(super) fn settle(model: &Model<'_>, learning: &Learning<'_>, arena: &mut [u8]) {
    if !cfg!(feature = "f32") {
        return;
    }
    let mut settle = |at: u32, bytes: usize| {
        let piece = arena.get_mut(at as usize..).and_then(|piece| piece.get_mut(..bytes));
        // `open` has checked place and alignment.
        make_canonical(piece.and_then(|piece| cast_mut(piece).ok()).unwrap_or(&mut []));
    };
    for layer in learning.layers() {
        let shape = &layer.shape;
        let float = !shape.is_whole() || matches!(layer.repr.part, TrainablePart::LowRank { .. });
        for (piece, (at, bytes)) in layer.memory(&learning.head).into_iter().flatten().enumerate() {
            // The biases of recurrent layers with int8 weights are float32 too.
            let biases = if piece == 0 && shape.sequence.is_some() { shape.parameter_bytes[0] } else { 0 };
            settle(at, if float { bytes as usize } else { biases });
        }
    }
    if let Some((classifier, features)) = learning.classifier() {
        let (bytes, _) = head_bytes(classifier.kind, features, classifier.classes.into());
        settle(classifier.at, bytes);
    }
    if let (Some(normalizer), Some(input)) = (learning.normalizer(), model.input(0)) {
        let numbers = io_span(&input).map_or(0, |span| span.len / input.dtype.size());
        settle(normalizer.at, 4 * (numbers + 2));
    }
}
