//! Tiles with exact single-multiply requantisation ([`record::ConvSingleMultiply`]), for layers in which every channel
//! has an exact line ([`super::exact_line`]).

use offshoot::format::codec::Record;
use offshoot::format::record;

use super::exact_line::{self, Line};
use super::parameters::{Lowering, Quantised};
use super::{Build, ConvForm, Layer, Offer, Shared, Workspace, scratch_of, tiled};
use crate::blobs;
use crate::cores::Core;
use crate::lowered::Tensor;

/// Most weights per channel for 16-bit weights. With more, loading them takes longer than it saves.
const MOST_WIDE: usize = 128;
/// Fewest output channels for strips of one pair. With fewer, the overhead of a strip is more than it saves.
const LEAST_CHANNELS: usize = 48;
/// Most pairs of a strip.
const MOST_PAIRS: usize = 32;
/// Bytes of a block that stays in a small data cache (256 bytes) from one pair to the next.
const CACHED: usize = 192;

/// A layer with a line for each channel.
pub(crate) struct SingleMultiply {
    layer: Shared,
    lines: Vec<Line>,
    /// Whether weights are stored in 16 bits, times their line's factor.
    wide: bool,
}

impl SingleMultiply {
    /// `None` if a channel has no line, or the layer gathers no inputs.
    pub(crate) fn new(layer: &Shared, wide: bool) -> Lowering<Option<Self>> {
        let gathers = scratch_of(&Record::ConvTiled(layer.tiled_record()?))? > 0;
        if !gathers || layer.one_row() || wide && tiled::padded_taps(layer) > MOST_WIDE {
            return Ok(None);
        }
        let lines = lines(layer, wide);
        Ok(lines.map(|lines| Self { layer: Shared::clone(layer), lines, wide }))
    }

    fn record(&self, workspace: &Workspace) -> Lowering<record::ConvSingleMultiply> {
        let layer = &self.layer;
        let r = layer.tiled_record()?;
        let (x, y) = (&layer.x, &layer.y);
        // Bytes of a pair's lanes, and of a block with its biases and multipliers.
        let bytes = 4 * tiled::padded_taps(layer);
        let (lanes, block) = (bytes, bytes * if self.wide { 2 } else { 1 } + 32);
        let pairs = layer.pixels() / 2;
        let of = |room: usize, most: usize| (room / lanes.max(1)).clamp(1, most);
        let beside = of(workspace.strip_beside(x, y), workspace.pairs.clamp(1, MOST_PAIRS));
        let strip = of(workspace.own_strip(x, y), MOST_PAIRS).max(beside).min(pairs.max(1));
        // Split rows into strips of even length.
        let row = y.shape[y.shape.len().saturating_sub(2)].div_ceil(2).max(1);
        let strip = if r.h > 1 && strip < row { row.div_ceil(row.div_ceil(strip)) } else { strip };
        // A small block stays in the data cache without a copy.
        let copies = workspace.copies_weights && strip >= 4 && block > CACHED;
        Ok(record::ConvSingleMultiply::new(r, strip as u8, copies, self.wide))
    }

    fn blob(&self) -> Vec<u8> {
        let narrow = if self.wide { Vec::new() } else { tiled::weights(&self.layer) };
        let bytes = 4 * tiled::padded_taps(&self.layer);
        let mut blob = Vec::new();
        for (block, lines) in self.lines.chunks(4).enumerate() {
            let mut all = [Line { bias: 0, multiplier: 0, factor: 256 }; 4];
            all[..lines.len()].copy_from_slice(lines);
            let [a, b, c, d] = all;
            let multipliers = [a.multiplier, b.multiplier, c.multiplier, d.multiplier];
            if self.wide {
                blob.extend(blobs::words(&[b.bias, a.bias, d.bias, c.bias]));
                blob.extend(widened(&self.layer, 4 * block, lines));
            } else {
                blob.extend(blobs::words(&[b.bias, d.bias]));
                blob.extend(&narrow[block * bytes..][..bytes]);
                blob.extend(blobs::words(&[a.bias, c.bias]));
            }
            blob.extend(blobs::words(&multipliers));
        }
        blob
    }

    fn bytes(&self) -> usize {
        tiled::bytes(&self.layer) * if self.wide { 2 } else { 1 }
    }
}

impl ConvForm for SingleMultiply {
    fn offer(&self, core: Core, workspace: &Workspace) -> Lowering<Offer> {
        let record: Record = self.record(workspace)?.into();
        let one_pair = scratch_of(&Record::ConvTiled(self.layer.tiled_record()?))? as usize;
        let long = workspace.own_strip(&self.layer.x, &self.layer.y) >= 2 * one_pair;
        let pays = long || self.layer.channels() >= LEAST_CHANNELS;
        Ok(Offer {
            bytes: self.bytes() as u64,
            instructions: core.single_multiply(&self.layer, self.wide, pays),
            saved_by_strips: core.strips_save(&self.layer, long),
            scratch: scratch_of(&record)?.into(),
            in_place: self.layer.overlaps(&record),
        })
    }

    fn emit(&self, workspace: &Workspace, out: &mut Build<'_>, x: &Tensor, y: &Tensor) -> Lowering {
        let (layer, mut r) = (&self.layer, self.record(workspace)?);
        r.blob = out.blob(|| self.blob(), [self.bytes(), 4 * layer.channels()]);
        out.layer(layer, r.into(), [x, y], layer.macs(), layer.q.weights.len() as u64)
    }
}

/// Lines of all channels of a layer, if every channel has one.
pub(crate) fn lines(layer: &Layer, wide: bool) -> Option<Vec<Line>> {
    let whole = matches!(layer.clamp(), None | Some((i8::MIN, i8::MAX)));
    if !whole || layer.y.zp != i8::MIN {
        return None;
    }
    (0..layer.channels()).map(|o| line(&layer.q, o, wide)).collect()
}

fn line(q: &Quantised, o: usize, wide: bool) -> Option<Line> {
    let (multiplier, shift) = q.fixed_of(o);
    let reach = exact_line::reach(q.row(o).iter().copied());
    let scale = exact_line::Scale { multiplier, shift, bias: q.bias[o] };
    // Wide weights allow other factors than 256.
    let others = if wide { 240..256 } else { 0..0 };
    core::iter::once(256).chain(others.rev()).find_map(|factor| scale.line(&reach, factor))
}

/// Weights of a block of four channels from `first` on, times the factors of their lines, in the order of a wide
/// [`record::ConvSingleMultiply`].
fn widened(layer: &Layer, first: usize, lines: &[Line]) -> Vec<u8> {
    let [rows, columns] = layer.window.kernel.map(usize::from);
    let segment = columns * usize::from(layer.input[3]);
    let at = |lane: usize, row: usize, i: usize| -> i16 {
        let Some(line) = lines.get(lane).filter(|_| i < segment) else { return 0 };
        // It fits 16 bits: int8 times at most 256.
        i16::from(layer.q.weights[((first + lane) * rows + row) * segment + i]) * line.factor
    };
    let mut bytes = Vec::new();
    for row in 0..rows {
        for group in (0..segment).step_by(4) {
            for start in [group, group + 1] {
                for lane in 0..4 {
                    for i in [start, start + 2] {
                        bytes.extend(at(lane, row, i).to_le_bytes());
                    }
                }
            }
        }
    }
    bytes
}
