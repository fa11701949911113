//! Changes a finished file with learning records: another rule or rate, more classes, or learned weights as its own.

mod classifier;
mod pieces;
mod weights;

pub use pieces::{Element, Piece, pieces};

use offshoot::format::ALIGNMENT;
use offshoot::format::header::{HEADER_LEN, HeaderView, seal};
use offshoot::format::learn::{HeadKind, LearnHead, LearnLayer, Tap};
use offshoot::graph::learn::{Learning, TrainedLayer};
use offshoot::learn::heads::head_bytes;
use offshoot::{AlignedBytes, Engine, Model};

use crate::error::{Error, Result};
use crate::learning::encode;

/// The file with its learning records changed.
///
/// # Errors
/// The file is not valid or has no learning records, or the changed file is not valid.
pub fn changed(off: &[u8], change: impl FnOnce(&mut LearnHead, &mut [LearnLayer])) -> Result<Vec<u8>> {
    let aligned = AlignedBytes::copy_of(off);
    let model = Model::open(aligned.bytes()).map_err(Error::Refused)?;
    let learning = learning(&model)?;
    let (mut head, mut layers, taps) = records(&learning);
    let old = encode(&head, &layers, &taps)?;
    change(&mut head, &mut layers);
    let new = encode(&head, &layers, &taps)?;
    let header = HeaderView::new_checked(off).and_then(|v| v.parse()).map_err(Error::Refused)?;
    with_records(off, &old, &new, &off[header.blob_start() as usize..])
}

/// The file with `new` learning records instead of the `old` ones, and with these blobs.
fn with_records(off: &[u8], old: &[u8], new: &[u8], blobs: &[u8]) -> Result<Vec<u8>> {
    let mut header = HeaderView::new_checked(off).and_then(|v| v.parse()).map_err(Error::Refused)?;
    let graph = &off[HEADER_LEN..HEADER_LEN + header.graph_len as usize];
    let kept = graph.strip_suffix(old).ok_or(Error::Refused(offshoot::Error::Length))?;
    let section: Vec<u8> = kept.iter().chain(new).copied().collect();
    let start = (HEADER_LEN + section.len()).next_multiple_of(ALIGNMENT);
    header.graph_len = section.len() as u32;
    header.file_len = (start + blobs.len()) as u32;
    let mut file = header.emit().to_vec();
    file.extend(section);
    file.resize(start, 0);
    file.extend(blobs);
    finish(file)
}

/// The file with `new` more classes, which its classifier head learns.
///
/// # Errors
/// As [`changed`]; also if there is no classifier head, or there are too many classes.
pub fn with_new_classes(off: &[u8], new: u16) -> Result<Vec<u8>> {
    let aligned = AlignedBytes::copy_of(off);
    let model = Model::open(aligned.bytes()).map_err(Error::Refused)?;
    let learning = learning(&model)?;
    let Some((classifier, features)) = learning.classifier() else {
        return Err(Error::Learning(
            "only a classifier head learns new classes: add one to the plan (head = \"lda\")".into(),
        ));
    };
    if let HeadKind::Anomaly { .. } | HeadKind::Regression { .. } = classifier.kind {
        return Err(Error::Learning(
            "a head that learns what is normal or real targets learns no classes".into(),
        ));
    }
    let most = offshoot::graph::learn::MAX_CLASSES;
    let Some(classes) = classifier.classes.checked_add(new).filter(|&c| c <= most) else {
        return Err(Error::Learning(format!(
            "{new} new classes and {} known ones are more than {most} together",
            classifier.classes
        )));
    };
    // Scores come before what is learned, and the head's memory at the end: everything between them moves.
    let moved = 4 * u32::from(new);
    let bytes = head_bytes(classifier.kind, features, classes.into()).0;
    let too_large = || Error::Learning("the training arena would be larger than 4 GiB".into());
    let at = classifier.at.checked_add(moved).ok_or_else(too_large)?;
    let end = u32::try_from(u64::from(at) + bytes as u64).map_err(|_| too_large())?;
    changed(off, |head, layers| {
        head.learned += moved;
        head.arena_bytes = end;
        if let Some(normalizer) = &mut head.normalizer {
            normalizer.at += moved;
        }
        if let Some(classifier) = &mut head.classifier {
            (classifier.classes, classifier.at) = (classes, at);
        }
        layers.iter_mut().for_each(|layer| layer.move_by(moved));
    })
}

/// The file with everything that was learned ([`offshoot::Engine::learned`]) as its start: an engine that learns goes
/// on from there with the same bits. Learned weights replace those of the file; the rest is a blob that the learning
/// records name ([`LearnHead::begun`]).
///
/// # Errors
/// As [`with_learned`].
pub fn going_on(off: &[u8], learned: &[u8]) -> Result<Vec<u8>> {
    let aligned = AlignedBytes::copy_of(off);
    let model = Model::open(aligned.bytes()).map_err(Error::Refused)?;
    let learning = learning(&model)?;
    let mut arena = AlignedBytes::zeroed(learning.head.arena_bytes as usize);
    let mut engine = Engine::learning(model, arena.bytes_mut()).map_err(Error::Refused)?;
    engine.restore(learned).map_err(|_| foreign())?;
    let mut blobs = model.blobs().to_vec();
    for layer in apart(&learning)?.into_iter().filter(TrainedLayer::is_in_blob) {
        let own = learned.get(layer.trainable_within(learning.learned_start())).ok_or_else(foreign)?;
        let blob = blobs.get_mut(layer.shape.blob as usize..).and_then(|b| b.get_mut(..own.len()));
        blob.ok_or_else(foreign)?.copy_from_slice(own);
    }
    let mut kept = Vec::new();
    for (at, bytes) in learning.beside_blobs(&model) {
        let start = at as usize - learning.learned_start();
        kept.extend(learned.get(start..start + bytes as usize).ok_or_else(foreign)?);
    }
    // A file that has learned before has a place for it, as long as before.
    let at = learning.head.begun.map_or(blobs.len(), |at| at as usize);
    blobs.resize(blobs.len().max(at + kept.len()), 0);
    blobs[at..at + kept.len()].copy_from_slice(&kept);
    let (mut head, layers, taps) = records(&learning);
    let old = encode(&head, &layers, &taps)?;
    head.begun = Some(at as u32);
    with_records(off, &old, &encode(&head, &layers, &taps)?, &blobs)
}

fn foreign() -> Error {
    Error::Learning("the learned weights belong to another model, or are damaged".into())
}

/// The layers that learn, if each has weights of its own in the file.
fn apart(learning: &Learning<'_>) -> Result<Vec<TrainedLayer>> {
    let layers: Vec<TrainedLayer> = learning.layers().collect();
    let shared =
        |(i, layer): (usize, &TrainedLayer)| layers[..i].iter().any(|l| l.shape.blob == layer.shape.blob);
    if layers.iter().enumerate().any(shared) {
        return Err(Error::Learning(
            "two layers that learn share their weights in the file, so they cannot differ: let one of them learn \
             (`layers`)"
                .into(),
        ));
    }
    Ok(layers)
}

/// The file for inference alone with the learned weights ([`offshoot::Engine::learned`]) as its own: an input normaliser
/// and a classifier head become operators, and there are no learning records.
///
/// # Errors
/// As [`with_learned`].
pub fn inference_only(off: &[u8], learned: &[u8]) -> Result<Vec<u8>> {
    export(off, learned, true)
}

/// The file with the learned weights ([`offshoot::Engine::learned`]) as its own. It can continue to learn, unless it
/// has an input normaliser or a classifier head: these become operators, and the file is then for inference only.
///
/// # Errors
/// The file is not valid or has no learning records, or the learned bytes do not belong to it.
pub fn with_learned(off: &[u8], learned: &[u8]) -> Result<Vec<u8>> {
    export(off, learned, false)
}

fn export(off: &[u8], learned: &[u8], alone: bool) -> Result<Vec<u8>> {
    let aligned = AlignedBytes::copy_of(off);
    let model = Model::open(aligned.bytes()).map_err(Error::Refused)?;
    let learning = learning(&model)?;
    if let Some(HeadKind::Anomaly { .. } | HeadKind::Regression { .. }) =
        learning.head.classifier.map(|c| c.kind)
    {
        return Err(Error::Learning(
            "a head that learns what is normal or real targets has no operators: its file keeps the learning records"
                .into(),
        ));
    }
    let mut arena = AlignedBytes::zeroed(learning.head.arena_bytes as usize);
    let mut engine = Engine::learning(model, arena.bytes_mut()).map_err(Error::Refused)?;
    engine.restore(learned).map_err(|_| foreign())?;
    let blob_start = off.len() - model.blobs().len();
    let mut file = off.to_vec();
    for layer in apart(&learning)? {
        let own = learned.get(layer.trainable_within(learning.learned_start())).ok_or_else(foreign)?;
        let at = blob_start + layer.shape.blob as usize;
        let blob = file.get_mut(at..at + layer.shape.blob_bytes()).ok_or_else(foreign)?;
        weights::fold(&layer, own, blob)?;
    }
    if alone || learning.normalizer().is_some() || learning.classifier().is_some() {
        file = classifier::as_operators(&file, &model, &learning, &mut engine)?;
    }
    finish(file)
}

fn learning<'m>(model: &Model<'m>) -> Result<Learning<'m>> {
    model.learning().ok_or(Error::NotLearning)
}

/// All records of a file.
fn records(learning: &Learning<'_>) -> (LearnHead, Vec<LearnLayer>, Vec<Tap>) {
    let layers = learning.layers().map(|l| l.repr).collect();
    (learning.head, layers, learning.taps().map(|t| t.repr).collect())
}

fn finish(mut file: Vec<u8>) -> Result<Vec<u8>> {
    seal(&mut file).ok_or(Error::Refused(offshoot::Error::Length))?;
    Model::open(AlignedBytes::copy_of(&file).bytes()).map_err(Error::Refused)?;
    Ok(file)
}
