//! Weight-shared layers ([`record::ConvWeightShared`], [`record::DepthwiseWeightShared`]): layers of a further network
//! whose input and output channels are prefixes of those of a layer of the first network, and which use its weights.

use offshoot::format::codec::Record;
use offshoot::format::nested::Whole;
use offshoot::format::record;

use super::parameters::{Lowering, Quantised};
use super::wholes::{self, Kind, Wholes};
use super::{Build, ConvForm, Offer, Shared, Workspace, channel_planar, packed, scratch_of, tiled};
use crate::blobs::Blobs;
use crate::cores::Core;
use crate::lowered::Tensor;

/// A layer that uses weights of the first network.
pub(crate) struct WeightShared {
    layer: Shared,
    whole: Whole,
    /// Its own biases; also its own multipliers and shifts if `own`.
    numbers: Vec<u8>,
    own: bool,
    /// The tiled or the channel-planar record.
    record: Record,
}

impl WeightShared {
    /// A layer whose weights equal, or are a prefix of, weights of the first network, preferably those with the same
    /// `name`. `None` if there are none, or if the whole layer is equal: its tiled form then shares the blob anyway.
    /// `blobs` is the file's blob section so far.
    pub(crate) fn conv(layer: &Shared, name: &str, wholes: &Wholes, blobs: &Blobs) -> Lowering<Option<Self>> {
        let (record, fixed) = tiled::settled(layer)?;
        let kind = wholes::conv(&layer.window, record.traversal);
        let shape = [record.c, record.out_c];
        let q = Quantised { fixed, ..layer.q.clone() };
        let channels = layer.channels().next_multiple_of(4);
        Ok(Self::of(layer, name, kind, wholes, blobs, &q, (shape, channels), Record::ConvTiled(record)))
    }

    /// As [`Self::conv`], for a depthwise layer.
    pub(crate) fn depthwise(
        layer: &Shared,
        name: &str,
        wholes: &Wholes,
        blobs: &Blobs,
    ) -> Lowering<Option<Self>> {
        let record = channel_planar::record(layer, &Workspace::default())?;
        let kind = Kind::Depthwise { kernel: layer.window.kernel };
        let channels = layer.channels();
        let q = Quantised { fixed: layer.q.fixed_each(channels), ..layer.q.clone() };
        let shape = [1, record.c];
        Ok(Self::of(layer, name, kind, wholes, blobs, &q, (shape, channels), Record::DepthwisePlanar(record)))
    }

    fn of(
        layer: &Shared,
        name: &str,
        kind: Kind,
        wholes: &Wholes,
        blobs: &Blobs,
        q: &Quantised,
        (shape, channels): ([u16; 2], usize),
        record: Record,
    ) -> Option<Self> {
        let stored = wholes.find(kind, name, shape.map(usize::from), &q.weights)?;
        let same = [stored.whole.c, stored.whole.out_c] == shape;
        if same && stored.fixed == q.fixed && stored.same_bias(blobs, &q.bias) {
            return None;
        }
        let (numbers, own) = stored.own_numbers(q, channels);
        Some(Self { layer: Shared::clone(layer), whole: stored.whole, numbers, own, record })
    }

    fn record(&self, workspace: &Workspace, blob: u32) -> Lowering<Record> {
        Ok(match self.record {
            Record::DepthwisePlanar(_) => {
                let r = channel_planar::record(&self.layer, workspace)?;
                let planar = record::DepthwisePlanar { blob, ..r };
                record::DepthwiseWeightShared::new(planar, self.whole, self.own).into()
            }
            Record::ConvTiled(r) => {
                // Only the real weights are unpacked, not padding.
                let tiles = packed::tiles(self.layer.channels(), self.layer.taps(), workspace.tiles);
                record::ConvWeightShared::new(record::ConvTiled { blob, ..r }, self.whole, self.own, tiles)
                    .into()
            }
            other => other,
        })
    }
}

impl ConvForm for WeightShared {
    fn offer(&self, core: Core, workspace: &Workspace) -> Lowering<Offer> {
        let record = self.record(workspace, 0)?;
        Ok(Offer {
            bytes: 0,
            instructions: core.tiled(&self.layer),
            scratch: scratch_of(&record)?.into(),
            in_place: self.layer.overlaps(&record),
        })
    }

    fn emit(&self, workspace: &Workspace, out: &mut Build<'_>, x: &Tensor, y: &Tensor) -> Lowering {
        let layer = &self.layer;
        let blob = out.blob(|| self.numbers.clone(), [0, 4 * layer.channels()]);
        let record = self.record(workspace, blob)?;
        out.layer(layer, record, [x, y], layer.macs(), layer.q.weights.len() as u64)
    }
}
