//! [`FullyConnectedBanded`]: a fully connected layer whose outputs read neighbouring inputs only.
//!
//! Rules: all extents are at least 1; each band lies within the inputs; the bands have `entries` weights together; the output is
//! disjoint from the input.

use super::shape::require_f32;
use super::weights::{bounds_f32, check_clamp};
use crate::operator::{InPlace, Operator};
use easy_ext::ext;
use offshoot_base::{Limits, Memory, Rule, Span, blob, product, require};
use offshoot_format::record::{DType, FullyConnectedBanded};
use offshoot_kernels::portable as kernels;

/// Biases, bands and weights.
pub(crate) type Stored<'m> = (&'m [f32], &'m [[u16; 2]], &'m [f32]);

#[ext(FullyConnectedBandedPlaces)]
impl FullyConnectedBanded {
    /// Places of input and output.
    pub(crate) fn spans(&self) -> Result<[Span; 2], Rule> {
        Ok([
            Span::new(self.src, product([self.rows, self.in_c.into()])?, 4)?,
            Span::new(self.dst, product([self.rows, self.out_c.into()])?, 4)?,
        ])
    }

    pub(crate) fn stored<'m>(&self, blobs: &'m [u8]) -> Result<Stored<'m>, Rule> {
        let outputs = u32::from(self.out_c);
        let after = |at: u32, words: u32| {
            words.checked_mul(4).and_then(|bytes| at.checked_add(bytes)).ok_or(Rule::BlobBounds)
        };
        let bands_at = after(self.blob, outputs)?;
        let weights_at = after(bands_at, outputs)?;
        Ok((
            blob(blobs, self.blob, outputs.into())?,
            blob(blobs, bands_at, outputs.into())?,
            blob(blobs, weights_at, self.entries.into())?,
        ))
    }
}

impl Operator for FullyConnectedBanded {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        require_f32()?;
        check_clamp(self.clamp)?;
        let [src, dst] = self.spans()?;
        limits.disjoint(src, dst)?;
        let (_, bands, _) = self.stored(limits.blobs)?;
        let inside = |[first, count]: &[u16; 2]| u32::from(*first) + u32::from(*count) <= self.in_c.into();
        require(bands.iter().all(inside), Rule::Shape)?;
        let entries: u64 = bands.iter().map(|[_, count]| u64::from(*count)).sum();
        require(entries == u64::from(self.entries), Rule::Table)?;
        product([self.rows, self.entries.max(self.out_c.into())])
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.spans()?[1])
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        if !cfg!(feature = "f32") {
            return Err(Rule::Format);
        }
        let [src, dst] = self.spans()?;
        let (bias, bands, weights) = self.stored(memory.blobs())?;
        let bias = memory.bias(bias)?;
        let (src, dst) = memory.split(src, dst)?;
        let size = (self.in_c.into(), bounds_f32(self.clamp));
        kernels::fully_connected_banded(size, (bias, bands, weights), src, dst);
        Ok(())
    }

    fn output_dtype(&self) -> DType {
        DType::F32
    }

    fn macs(&self) -> u64 {
        u64::from(self.rows) * u64::from(self.entries)
    }

    fn weights(&self) -> u64 {
        self.entries.into()
    }

    fn scratch(&self, _: &[u8]) -> Result<u32, Rule> {
        Ok(0)
    }

    fn in_place(&self, _: &[u8]) -> InPlace {
        InPlace::Apart
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: FullyConnectedBanded = FullyConnectedBanded {
        src: 0,
        dst: 32,
        rows: 2,
        in_c: 4,
        out_c: 2,
        entries: 3,
        clamp: None,
        blob: 0,
    };

    fn blob_of(bands: [[u16; 2]; 2]) -> [u32; 7] {
        let words = bands.map(|[first, count]| u32::from(first) | u32::from(count) << 16);
        let [bias, weights] = [[0.5f32, 0.0].map(f32::to_bits), [2.0f32, 3.0].map(f32::to_bits)];
        [bias[0], bias[1], words[0], words[1], weights[0], weights[1], 4.0f32.to_bits()]
    }

    #[test]
    fn bands_are_multiplied() {
        let blob = blob_of([[2, 2], [0, 1]]);
        let mut arena = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 0.0, 0.0, 0.0, 0.0];
        let blobs = bytemuck::cast_slice(&blob);
        assert_eq!(RECORD.check(&Limits { arena_bytes: 48, blobs }), Ok(6));
        RECORD.run(&mut Memory::new(bytemuck::cast_slice_mut(&mut arena), blobs)).unwrap();
        assert_eq!(arena[8..], [18.5, 4.0, 38.5, 20.0]);
    }

    #[test]
    fn records_that_break_a_rule_are_refused() {
        let refused = |r: FullyConnectedBanded, bands| {
            let blob = blob_of(bands);
            r.check(&Limits { arena_bytes: 48, blobs: bytemuck::cast_slice(&blob) }).is_err()
        };
        assert!(!refused(RECORD, [[2, 2], [3, 1]]));
        assert!(refused(RECORD, [[3, 2], [3, 1]]));
        assert!(refused(RECORD, [[2, 2], [4, 1]]));
        assert!(refused(RECORD, [[2, 2], [0, 2]]));
        assert!(refused(RECORD, [[u16::MAX, u16::MAX], [0, 1]]));
        let good = [[2, 2], [3, 1]];
        assert!(refused(FullyConnectedBanded { entries: 2, ..RECORD }, good));
        assert!(refused(FullyConnectedBanded { entries: u32::MAX, ..RECORD }, good));
        assert!(refused(FullyConnectedBanded { dst: 28, ..RECORD }, good));
        assert!(refused(FullyConnectedBanded { rows: 0, ..RECORD }, good));
        assert!(refused(FullyConnectedBanded { blob: u32::MAX - 3, ..RECORD }, good));
        assert!(refused(FullyConnectedBanded { clamp: Some((1.0, f32::NAN)), ..RECORD }, good));
    }
}
