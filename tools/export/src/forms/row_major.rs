//! Weights in row-major order ([`record::ConvRowMajor`]), for cores whose vectors multiply bytes. Other cores run it
//! with the portable kernel, so it is offered only for those.

use offshoot::format::codec::Record;
use offshoot::format::record::{self, Traversal};

use super::parameters::{Lowering, requant_blob};
use super::{Build, ConvForm, Offer, Shared, Workspace, scratch_of};
use crate::cores::Core;
use crate::lowered::Tensor;

/// A layer with row-major weights.
pub(crate) struct RowMajor {
    layer: Shared,
    record: record::ConvRowMajor,
    /// Multiplier and shift, per channel or one for all.
    fixed: Vec<(i32, i8)>,
}

impl RowMajor {
    pub(crate) fn new(layer: &Shared) -> Lowering<Self> {
        let mut record = record::ConvRowMajor::new(layer.tiled_record()?);
        let mut fixed = layer.q.fixed.clone();
        if scratch_of(&record.into())? == 0 {
            record.traversal = if fixed.len() > 1 { Traversal::Vector } else { Traversal::VectorOneScale };
        } else if fixed.len() == 1 {
            fixed = layer.q.fixed_each(layer.channels());
        }
        Ok(Self { layer: Shared::clone(layer), record, fixed })
    }

    /// Bytes of the weights, with the rows that fill the last block.
    fn bytes(&self) -> usize {
        self.layer.channels().next_multiple_of(4) * self.layer.taps()
    }
}

impl ConvForm for RowMajor {
    fn offer(&self, core: Core, _: &Workspace) -> Lowering<Offer> {
        let record: Record = self.record.into();
        Ok(Offer {
            bytes: self.bytes() as u64,
            instructions: core.row_major(&self.layer),
            saved_by_strips: 0,
            scratch: scratch_of(&record)?.into(),
            in_place: self.layer.overlaps(&record),
        })
    }

    fn emit(&self, _: &Workspace, out: &mut Build<'_>, x: &Tensor, y: &Tensor) -> Lowering {
        let (layer, mut r) = (&self.layer, self.record);
        let blob = || {
            let mut blob = requant_blob(&layer.q.bias, &self.fixed);
            let end = blob.len() + self.bytes();
            blob.extend(layer.q.weights.iter().map(|&w| w as u8));
            blob.resize(end, 0);
            blob
        };
        r.blob = out.blob(blob, [self.bytes(), 4 * layer.channels()]);
        out.layer(layer, r.into(), [x, y], layer.macs(), layer.q.weights.len() as u64)
    }
}
