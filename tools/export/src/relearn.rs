//! Changes of a finished file that concern learning: another rule or rate, and weights that were learned put in place
//! of those it was made with.

use offshoot::Model;
use offshoot::format::ALIGNMENT;
use offshoot::format::codec;
use offshoot::format::header::{HEADER_LEN, HeaderView, seal};
use offshoot::format::learn::{LearnHead, LearnLayer};

use crate::error::{Error, Result};
use crate::write::{Aligned, append};

/// The file with its learning records changed.
///
/// # Errors
/// The file is not valid, has no learning records, or is not valid with those that `change` gives.
pub fn changed(off: &[u8], change: impl FnOnce(&mut LearnHead, &mut [LearnLayer])) -> Result<Vec<u8>> {
    let aligned = Aligned::new(off);
    let model = Model::open(aligned.bytes()).map_err(Error::Refused)?;
    let learning = model.learning().ok_or(Error::Refused(offshoot::Error::NotLearning))?;
    let mut head = learning.head;
    let mut layers: Vec<LearnLayer> = learning.layers().map(|l| l.repr).collect();
    let old = encoded(&head, &layers)?;
    change(&mut head, &mut layers);
    let new = encoded(&head, &layers)?;
    let mut header = HeaderView::new_checked(off).and_then(|v| v.parse()).map_err(Error::Refused)?;
    let graph = &off[HEADER_LEN..HEADER_LEN + header.graph_len as usize];
    let kept = graph.strip_suffix(old.as_slice()).ok_or(Error::Refused(offshoot::Error::Length))?;
    let blobs = &off[header.blob_start() as usize..];
    let section: Vec<u8> = kept.iter().chain(&new).copied().collect();
    let start = (HEADER_LEN + section.len()).next_multiple_of(ALIGNMENT);
    header.graph_len = section.len() as u32;
    header.file_len = (start + blobs.len()) as u32;
    let mut file = header.emit().to_vec();
    file.extend(section);
    file.resize(start, 0);
    file.extend(blobs);
    finish(file)
}

/// The file with what was learned ([`offshoot::Engine::learned`]) in place of the weights that it had.
///
/// # Errors
/// The file is not valid, has no learning records, or does not belong to these bytes.
pub fn with_learned(off: &[u8], learned: &[u8]) -> Result<Vec<u8>> {
    let aligned = Aligned::new(off);
    let model = Model::open(aligned.bytes()).map_err(Error::Refused)?;
    let learning = model.learning().ok_or(Error::Refused(offshoot::Error::NotLearning))?;
    let start = learning.learned_start().ok_or(Error::Refused(offshoot::Error::NotLearning))?;
    let blob_start = off.len() - model.blobs().len();
    let mut file = off.to_vec();
    let mut seen = Vec::new();
    for layer in learning.layers() {
        if seen.contains(&layer.blob) {
            return Err(Error::Learning("two layers share their weights in the file".into()));
        }
        seen.push(layer.blob);
        let wrong = || Error::Learning("what was learned belongs to another model".into());
        let weights = learned.get(layer.overlay_within(start)).ok_or_else(wrong)?;
        let at = blob_start + layer.blob as usize;
        file.get_mut(at..at + weights.len()).ok_or_else(wrong)?.copy_from_slice(weights);
    }
    finish(file)
}

fn encoded(head: &LearnHead, layers: &[LearnLayer]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    append(&mut out, |b| codec::encode(head, b))?;
    for layer in layers {
        append(&mut out, |b| codec::encode(layer, b))?;
    }
    Ok(out)
}

fn finish(mut file: Vec<u8>) -> Result<Vec<u8>> {
    seal(&mut file).ok_or(Error::Refused(offshoot::Error::Length))?;
    Model::open(Aligned::new(&file).bytes()).map_err(Error::Refused)?;
    Ok(file)
}
