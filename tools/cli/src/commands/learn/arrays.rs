//! What was learned as named NumPy arrays, for notebooks and for merging.

use ndarray::{ArrayD, IxDyn};
use offshoot::format::learn::HeadKind;
use offshoot_data::npy::Array;
use offshoot_export::relearn::{Element, Piece};

use crate::failure::{Failure, Kind, Result};
use crate::files::OffFile;

const HELP: &str =
    "give the arrays that `learn --export` wrote for this model, with the same names, types and shapes";

/// The arrays of the pieces of `learned`.
///
/// # Errors
/// The bytes do not belong to the model.
pub fn of_pieces(pieces: &[Piece], learned: &[u8]) -> Result<Vec<(String, Array)>> {
    pieces
        .iter()
        .map(|piece| {
            let bytes = learned.get(piece.range()).ok_or_else(|| wrong(&piece.name, "is not there"))?;
            Ok((
                piece.name.clone(),
                array(piece, bytes).ok_or_else(|| wrong(&piece.name, "has another shape"))?,
            ))
        })
        .collect()
}

/// What the arrays rest on, for `merge` and for `--import`: the model, and numbers of it.
///
/// # Errors
/// The file is not valid.
pub fn of_model(file: &OffFile) -> Result<Vec<(String, Array)>> {
    let model = file.model()?;
    let Some(learning) = model.learning() else { return Ok(Vec::new()) };
    let mut arrays = vec![(DIGEST.to_owned(), Array::U32(ArrayD::from_elem(IxDyn(&[1]), digest(file))))];
    let floats = |numbers: Vec<f32>| {
        let shape = [numbers.len()];
        ArrayD::from_shape_vec(IxDyn(&shape), numbers).map(Array::F32).ok()
    };
    let mut put = |name: &str, numbers| arrays.extend(floats(numbers).map(|array| (name.to_owned(), array)));
    if let Some(normalizer) = learning.normalizer() {
        let numbers: usize =
            model.input(0).map_or(0, |io| io.shape.iter().map(|&d| usize::from(d)).product());
        let bytes = model.blobs().get(normalizer.blob as usize..).and_then(|b| b.get(..4 * numbers));
        let bytes = bytes.unwrap_or(&[]).chunks_exact(4);
        put("model.normalizer_mean", bytes.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect());
        put("model.normalizer", vec![normalizer.energy, normalizer.trust]);
    }
    if let Some(HeadKind::LeastSquares { ridge, .. }) = learning.head.classifier.map(|c| c.kind) {
        put("model.ridge", vec![ridge]);
    }
    Ok(arrays)
}

const DIGEST: &str = "model.digest";

/// Digest of the model that learns, which `--save` uses too.
pub fn digest(file: &OffFile) -> u32 {
    offshoot::wire::crc32(file.bytes())
}

/// Refuses arrays of another model.
///
/// # Errors
/// They say that they belong to another one.
pub fn check_model(file: &OffFile, arrays: &[(String, Array)]) -> Result<()> {
    let said = arrays.iter().find(|(name, _)| name == DIGEST);
    match said {
        Some((_, Array::U32(own))) if own.iter().any(|own| *own != digest(file)) => {
            Err(Failure::new(Kind::Mismatch, "the arrays were learned by another model", HELP))
        }
        _ => Ok(()),
    }
}

/// The `len` learned bytes whose pieces the arrays are. Arrays may come in any order.
///
/// # Errors
/// An array is missing or has another type or shape, or there is one too many.
pub fn to_learned(pieces: &[Piece], arrays: &[(String, Array)], len: usize) -> Result<Vec<u8>> {
    let mut learned = vec![0; len];
    for piece in pieces {
        let (_, array) = arrays
            .iter()
            .find(|(name, _)| *name == piece.name)
            .ok_or_else(|| wrong(&piece.name, "is missing"))?;
        if array.shape() != piece.shape {
            return Err(wrong(
                &piece.name,
                &format!("has the shape {:?}, but the model has {:?}", array.shape(), piece.shape),
            ));
        }
        let bytes: Option<Vec<u8>> = match (piece.element, array) {
            (Element::F32, Array::F32(a)) => Some(a.iter().flat_map(|x| x.to_le_bytes()).collect()),
            (Element::I32, Array::I32(a)) => Some(a.iter().flat_map(|x| x.to_le_bytes()).collect()),
            (Element::U32, Array::U32(a)) => Some(a.iter().flat_map(|x| x.to_le_bytes()).collect()),
            (Element::I16, Array::I16(a)) => Some(a.iter().flat_map(|x| x.to_le_bytes()).collect()),
            (Element::U16, Array::U16(a)) => Some(a.iter().flat_map(|x| x.to_le_bytes()).collect()),
            (Element::I8, Array::I8(a)) => Some(a.iter().map(|x| *x as u8).collect()),
            (Element::U8, Array::U8(a)) => Some(a.iter().copied().collect()),
            _ => None,
        };
        let bytes =
            bytes.ok_or_else(|| wrong(&piece.name, &format!("has elements of type {}", array.dtype())))?;
        let own = learned.get_mut(piece.range()).filter(|own| own.len() == bytes.len());
        own.ok_or_else(|| wrong(&piece.name, "has another length"))?.copy_from_slice(&bytes);
    }
    if let Some((name, _)) =
        arrays.iter().find(|(name, _)| !name.starts_with("model.") && !pieces.iter().any(|p| p.name == *name))
    {
        return Err(wrong(name, "is not learned by this model"));
    }
    Ok(learned)
}

fn wrong(name: &str, what: &str) -> Failure {
    Failure::new(Kind::Mismatch, format!("the array `{name}` {what}"), HELP)
}

/// One piece as an array; `None` if its shape does not fit the bytes.
fn array(piece: &Piece, bytes: &[u8]) -> Option<Array> {
    let words = || bytes.chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]);
    let shape = IxDyn(&piece.shape);
    let halves = || bytes.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]]));
    Some(match piece.element {
        Element::F32 => {
            Array::F32(ArrayD::from_shape_vec(shape, words().map(f32::from_le_bytes).collect()).ok()?)
        }
        Element::I32 => {
            Array::I32(ArrayD::from_shape_vec(shape, words().map(i32::from_le_bytes).collect()).ok()?)
        }
        Element::U32 => {
            Array::U32(ArrayD::from_shape_vec(shape, words().map(u32::from_le_bytes).collect()).ok()?)
        }
        Element::I16 => Array::I16(ArrayD::from_shape_vec(shape, halves().collect()).ok()?),
        Element::U16 => {
            let values = halves().map(|x| x as u16).collect();
            Array::U16(ArrayD::from_shape_vec(shape, values).ok()?)
        }
        Element::I8 => {
            Array::I8(ArrayD::from_shape_vec(shape, bytes.iter().map(|b| *b as i8).collect()).ok()?)
        }
        Element::U8 => Array::U8(ArrayD::from_shape_vec(shape, bytes.to_vec()).ok()?),
    })
}
