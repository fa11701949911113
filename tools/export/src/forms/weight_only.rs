//! float32 layers whose weights are integers times scales ([`record::ConvWeightOnly`]).

use offshoot::format::codec::Record;
use offshoot::format::record;
use offshoot_ir::Integers;

use super::parameters::Lowering;
use super::{Build, ConvForm, Offer, Workspace, scratch_of};
use crate::blobs;
use crate::cores::Core;
use crate::lowered::Tensor;

/// Bytes that a layer must save to be worth a record of its own.
const WORTH: usize = 64;

/// A float32 layer with integer weights.
pub(crate) struct WeightOnly {
    record: record::ConvWeightOnly,
    blob: Vec<u8>,
    /// Bytes of weights, scales included.
    bytes: usize,
    channels: usize,
    weights: usize,
    macs: u64,
    outputs: u64,
}

impl WeightOnly {
    /// A layer with `weights` (OHWI) and `bias`; `record` without number format and blob. `None` if the weights are no integers,
    /// or if these save too little.
    pub(crate) fn new(
        record: record::ConvWeightOnly,
        weights: &[f32],
        bias: &[f32],
        [macs, outputs]: [u64; 2],
    ) -> Option<Self> {
        let taps = weights.len() / bias.len().max(1);
        let found = Integers::find(weights, taps)?;
        let codes = found.packed(taps);
        let bytes = 4 * found.scales.len() + found.offsets.len().next_multiple_of(4) + codes.len();
        let plain = 4 * weights.len();
        if 2 * bytes > plain || bytes + WORTH > plain {
            return None;
        }
        let mut blob = blobs::floats(bias);
        blob.extend(blobs::floats(&found.scales));
        blob.extend(found.offsets.iter().map(|offset| *offset as u8));
        blob.resize(blob.len().next_multiple_of(4), 0);
        blob.extend(codes);
        let (block, offsets) = (u32::try_from(found.block).ok()?, !found.offsets.is_empty());
        let record = record::ConvWeightOnly { bits: found.bits, block, offsets, ..record };
        Some(Self { record, blob, bytes, channels: bias.len(), weights: weights.len(), macs, outputs })
    }
}

impl ConvForm for WeightOnly {
    fn offer(&self, core: Core, _: &Workspace) -> Lowering<Offer> {
        Ok(Offer {
            bytes: self.bytes as u64,
            instructions: core.weight_only(self.macs, self.outputs, self.weights as u64),
            saved_by_strips: 0,
            scratch: scratch_of(&self.record.into())?.into(),
            in_place: false,
        })
    }

    fn emit(&self, _: &Workspace, out: &mut Build<'_>, x: &Tensor, y: &Tensor) -> Lowering {
        let blob = out.blob(|| self.blob.clone(), [self.bytes, 4 * self.channels]);
        let record = Record::ConvWeightOnly(record::ConvWeightOnly { blob, ..self.record });
        let scratch = out.allocate(scratch_of(&record)?);
        let op = out.emit(record, [Some(x), None], y);
        (op.macs, op.weights, op.scratch) = (self.macs, self.weights as u64, Some(scratch));
        Ok(())
    }
}
