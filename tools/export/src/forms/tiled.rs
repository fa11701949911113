//! Weights in tiles of four output channels by four inputs ([`record::ConvTiled`]). Most other forms are variants of
//! it.

use offshoot::format::codec::Record;
use offshoot::format::record::{self, Traversal};

use super::parameters::{Lowering, Quantised, requant_blob};
use super::wholes::{self, Role};
use super::{Build, ConvForm, Offer, Shared, Workspace, scratch_of};
use crate::cores::Core;
use crate::lowered::Tensor;

/// A layer with tiled weights.
pub(crate) struct Tiled {
    layer: Shared,
    record: record::ConvTiled,
    /// Multiplier and shift, per channel or one for all.
    fixed: Vec<(i32, i8)>,
    weight: String,
}

impl Tiled {
    /// `weight` is the name of the weights' constant.
    pub(crate) fn new(layer: &Shared, weight: &str) -> Lowering<Self> {
        let (record, fixed) = settled(layer)?;
        Ok(Self { layer: Shared::clone(layer), record, fixed, weight: weight.to_owned() })
    }
}

/// The record, and the multipliers as in its blob.
pub(crate) fn settled(layer: &Shared) -> Lowering<(record::ConvTiled, Vec<(i32, i8)>)> {
    let mut record = layer.tiled_record()?;
    let mut fixed = layer.q.fixed.clone();
    if scratch_of(&Record::ConvTiled(record))? == 0 {
        record.traversal = if fixed.len() > 1 { Traversal::Vector } else { Traversal::VectorOneScale };
    } else if fixed.len() == 1 {
        fixed = layer.q.fixed_each(layer.channels());
    }
    Ok((record, fixed))
}

/// Bytes of a layer's tiled weights.
pub(crate) fn bytes(layer: &Shared) -> usize {
    layer.channels().div_ceil(4) * 4 * padded_taps(layer)
}

/// Number of weights per channel, including padding.
pub(crate) fn padded_taps(layer: &Shared) -> usize {
    let [rows, columns] = layer.window.kernel.map(usize::from);
    rows * (columns * usize::from(layer.input[3])).next_multiple_of(4)
}

/// A layer's weights as tiles.
pub(crate) fn weights(layer: &Shared) -> Vec<u8> {
    let [rows, columns] = layer.window.kernel.map(usize::from);
    arrange(&layer.q.weights, layer.channels(), columns * usize::from(layer.input[3]), rows)
}

impl ConvForm for Tiled {
    fn offer(&self, core: Core, _: &Workspace) -> Lowering<Offer> {
        let record = Record::ConvTiled(self.record);
        Ok(Offer {
            bytes: bytes(&self.layer) as u64,
            instructions: core.tiled(&self.layer),
            saved_by_strips: 0,
            scratch: scratch_of(&record)?.into(),
            in_place: self.layer.overlaps(&record),
        })
    }

    fn emit(&self, _: &Workspace, out: &mut Build<'_>, x: &Tensor, y: &Tensor) -> Lowering {
        let (layer, mut r) = (&self.layer, self.record);
        let blob = || [requant_blob(&layer.q.bias, &self.fixed), weights(layer)].concat();
        r.blob = out.blob(blob, [bytes(layer), 4 * layer.channels()]);
        let kind = wholes::conv(&layer.window, r.traversal);
        let q = Quantised { fixed: self.fixed.clone(), ..layer.q.clone() };
        if out.role == Role::First {
            out.wholes.keep(kind, &self.weight, (r.c, r.out_c), q, r.blob);
        }
        let count = layer.q.weights.len() as u64;
        out.layer(layer, Record::ConvTiled(r), [x, y], layer.macs(), count)
    }
}

/// Weights in the order of [`record::ConvTiled`]. `weights` is OHWI; `segment` is the number of inputs of a kernel row.
pub(crate) fn arrange(weights: &[i8], channels: usize, segment: usize, rows: usize) -> Vec<u8> {
    let at = |o: usize, row: usize, i: usize| {
        if o < channels && i < segment { weights[(o * rows + row) * segment + i] } else { 0 }
    };
    let mut bytes = Vec::new();
    for block in (0..channels).step_by(4) {
        for row in 0..rows {
            for group in (0..segment).step_by(4) {
                for first in [group, group + 1] {
                    for lower in [block, block + 2] {
                        for i in [first, first + 2] {
                            let (a, b) = (i16::from(at(lower, row, i)), i16::from(at(lower + 1, row, i)));
                            bytes.extend((256 * b + a).to_le_bytes());
                        }
                    }
                }
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot::kernels::geometry::tiled_weight;

    #[test]
    fn arranged_weights_are_found_again() {
        let (channels, segment, rows) = (6, 9, 3);
        let weights: Vec<i8> = (0..channels * segment * rows).map(|i| (i * 37 % 255) as i8).collect();
        let weights: Vec<i8> = weights.iter().map(|&w| w.max(-127)).collect();
        let bytes = arrange(&weights, channels, segment, rows);
        let halves: Vec<i16> = bytes.chunks(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
        for o in 0..channels {
            for row in 0..rows {
                for i in 0..segment {
                    let k = row * 12 + i;
                    let found = tiled_weight(&halves, rows * 12, o, k);
                    assert_eq!(found, i32::from(weights[(o * rows + row) * segment + i]), "{o} {row} {i}");
                }
            }
        }
    }
}
