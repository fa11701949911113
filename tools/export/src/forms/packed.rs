//! int8 convolutions and fully connected layers with packed weights ([`record::ConvPacked`]): at most 16 or 4 levels,
//! from quantisation to four or two bits or from a codebook.

use std::collections::BTreeSet;

use offshoot::format::codec::Record;
use offshoot::format::record::{self, ConvTiled};

use super::parameters::{Lowering, requant_blob};
use super::{Build, ConvForm, Offer, Shared, Workspace, scratch_of, tiled};
use crate::choose::FLASH_RATE;
use crate::cores::Core;
use crate::lowered::Tensor;

/// A layer with packed weights, unpacked a weight tile at a time.
pub(crate) struct PackedTiles {
    layer: Shared,
    conv: ConvTiled,
    fixed: Vec<(i32, i8)>,
    packed: Packed,
}

impl PackedTiles {
    /// `None` if its weights have too many levels, or are so few that a byte saved costs more than [`FLASH_RATE`] instructions.
    pub(crate) fn new(layer: &Shared, core: Core) -> Lowering<Option<Self>> {
        let weights = tiled::weights(layer);
        let Some(packed) = pack(&weights) else { return Ok(None) };
        let saved = weights.len().saturating_sub(packed.bytes.len()) as f64;
        if (core.packed(layer, packed.bits) - core.tiled(layer)) as f64 > FLASH_RATE * saved {
            return Ok(None);
        }
        let (conv, fixed) = tiled::settled(layer)?;
        Ok(Some(Self { layer: Shared::clone(layer), conv, fixed, packed }))
    }

    pub(crate) fn bytes(&self) -> usize {
        self.packed.bytes.len()
    }

    fn record(&self, workspace: &Workspace, blob: u32) -> Record {
        let inputs = tiled::padded_taps(&self.layer);
        let tiles = tiles(self.conv.out_c.into(), inputs, workspace.tiles);
        record::ConvPacked::new(ConvTiled { blob, ..self.conv }, self.packed.bits, tiles).into()
    }
}

impl ConvForm for PackedTiles {
    fn offer(&self, core: Core, workspace: &Workspace) -> Lowering<Offer> {
        let record = self.record(workspace, 0);
        Ok(Offer {
            bytes: self.bytes() as u64,
            instructions: core.packed(&self.layer, self.packed.bits),
            saved_by_strips: 0,
            scratch: scratch_of(&record)?.into(),
            in_place: self.layer.overlaps(&record),
        })
    }

    fn emit(&self, workspace: &Workspace, out: &mut Build<'_>, x: &Tensor, y: &Tensor) -> Lowering {
        let layer = &self.layer;
        let blob = || [requant_blob(&layer.q.bias, &self.fixed), self.packed.bytes.clone()].concat();
        let blob = out.blob(blob, [self.bytes(), 4 * layer.channels()]);
        let record = self.record(workspace, blob);
        out.layer(layer, record, [x, y], layer.macs(), layer.q.weights.len() as u64)
    }
}

/// Packed weights, and the bits of an index.
struct Packed {
    bits: u8,
    /// Levels, then indices, as in the blob.
    bytes: Vec<u8>,
}

/// Packs weights in the order of [`ConvTiled`] if they have at most 16 levels.
fn pack(arranged: &[u8]) -> Option<Packed> {
    let halves: Vec<[i8; 2]> = arranged
        .chunks_exact(2)
        .map(|b| {
            let half = i16::from_le_bytes([b[0], b[1]]);
            let low = half as i8;
            [low, ((half - i16::from(low)) >> 8) as i8]
        })
        .collect();
    let mut kinds = BTreeSet::new();
    for weight in halves.iter().flatten() {
        kinds.insert(*weight);
        // The record cannot hold -128.
        if kinds.len() > 16 || *weight == i8::MIN {
            return None;
        }
    }
    let bits: u8 = if kinds.len() <= 4 { 2 } else { 4 };
    let mut levels: Vec<i8> = kinds.into_iter().collect();
    levels.resize(1 << bits, 0);
    let index = |w: i8| levels.iter().position(|&l| l == w).map_or(0, |i| i as u8);
    let codes: Vec<u8> = halves.iter().map(|&[a, b]| index(a) | index(b) << bits).collect();
    let mut bytes: Vec<u8> = levels.iter().map(|&l| l as u8).collect();
    match bits {
        4 => bytes.extend(codes),
        // A block has a multiple of eight halves.
        _ => bytes.extend(codes.chunks(2).map(|pair| pair[0] | pair[1] << 4)),
    }
    Some(Packed { bits, bytes })
}

/// Blocks of four channels in an unpacked weight tile, for at most `budget` bytes of weights.
pub(crate) fn tiles(channels: usize, inputs: usize, budget: usize) -> u16 {
    let blocks = channels.div_ceil(4);
    let weight_tile = (budget / (4 * inputs).max(1)).clamp(1, blocks.max(1));
    // The same number of weight tiles, but of even size.
    let weight_tile = blocks.div_ceil(blocks.div_ceil(weight_tile).max(1)).max(1);
    weight_tile.min(usize::from(u16::MAX)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arranged(weights: &[[i8; 2]]) -> Vec<u8> {
        weights.iter().flat_map(|&[a, b]| (256 * i16::from(b) + i16::from(a)).to_le_bytes()).collect()
    }

    #[test]
    fn few_kinds_are_packed_and_found_again() {
        for (kinds, bits) in [(3, 2), (4, 2), (5, 4), (16, 4)] {
            let weights: Vec<[i8; 2]> = (0..16)
                .map(|i| [(i % kinds) as i8 * 8 - 56, (kinds - 1 - i % kinds) as i8 * 8 - 56])
                .collect();
            let packed = pack(&arranged(&weights)).unwrap();
            assert_eq!(packed.bits, bits, "{kinds} kinds");
            let (levels, codes) = packed.bytes.split_at(1 << bits);
            let levels: Vec<i8> = levels.iter().map(|&l| l as i8).collect();
            let mut table = vec![0; 1 << (2 * bits)];
            offshoot::kernels::portable::fill_halves(&levels, &mut table);
            let mut halves = vec![0; 16];
            offshoot::kernels::portable::expand(codes, &table, &mut halves);
            let bytes: Vec<u8> = halves.iter().flat_map(|h: &i16| h.to_le_bytes()).collect();
            assert_eq!(bytes, arranged(&weights));
        }
        let many: Vec<[i8; 2]> = (0..16).map(|i| [i + 1, 0]).collect();
        assert!(pack(&arranged(&many)).is_none());
    }
}
