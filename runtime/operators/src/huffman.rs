//! [`FullyConnectedHuffman`]: int8 fully connected layer of one row with Huffman-coded weights.
//!
//! Rules: both extents are at least 1; the code is complete, as the record demands; input, output and scratch are
//! disjoint.

use super::tiled::scratch;
use super::weights::{Layout, bounds_i8, check_clamp, check_multiplier, requant_blob};
use crate::operator::{InPlace, Operator, bytes};
use easy_ext::ext;
use offshoot_base::{Limits, Memory, Rule, Span, product, require};
use offshoot_format::huffman::{FullyConnectedHuffman, LONGEST, TABLE_BYTES};
use offshoot_format::record::DType;
use offshoot_kernels::{self as kernels, Requant, portable};

/// The part of the blob after multipliers and shifts.
pub(crate) struct Code<'m> {
    lengths: &'m [u8; LONGEST],
    symbols: &'m [i8],
    stream: &'m [u16],
}

#[ext(FullyConnectedHuffmanPlaces)]
impl FullyConnectedHuffman {
    pub(crate) fn layout(&self) -> Result<Layout, Rule> {
        let symbols = u64::from(self.symbols.next_multiple_of(2));
        Ok(Layout {
            src: Span::new(self.src, product([self.in_c])?, 1)?,
            dst: Span::new(self.dst, product([self.out_c])?, 1)?,
            channels: self.out_c.into(),
            weights: LONGEST as u64 + symbols + 2 * u64::from(self.stream),
            work: product([self.in_c, self.out_c])?,
        })
    }

    /// Scratch for the decoding table.
    pub(crate) fn table(&self) -> Result<Span, Rule> {
        scratch(self.scratch, TABLE_BYTES / 2)
    }

    pub(crate) fn code<'m>(&self, blobs: &'m [u8], layout: &Layout) -> Result<(Requant<'m>, Code<'m>), Rule> {
        let (min, max) = bounds_i8(self.clamp);
        let numbers = (self.in_zp.into(), self.out_zp.into(), min, max);
        let (requant, rest) = requant_blob(blobs, self.blob, layout, self.per_channel, numbers)?;
        let rest: &[u8] = bytemuck::cast_slice(rest);
        let (lengths, rest) = rest.split_first_chunk().ok_or(Rule::BlobBounds)?;
        let symbols = usize::from(self.symbols);
        let (symbols, stream) = rest.split_at_checked(symbols.next_multiple_of(2)).ok_or(Rule::BlobBounds)?;
        let symbols = symbols.get(..usize::from(self.symbols)).ok_or(Rule::BlobBounds)?;
        let stream = bytemuck::try_cast_slice(stream).map_err(|_| Rule::Alignment)?;
        Ok((requant, Code { lengths, symbols: bytemuck::cast_slice(symbols), stream }))
    }
}

impl Operator for FullyConnectedHuffman {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        require(self.symbols <= 1 << LONGEST, Rule::Format)?;
        let layout = self.layout()?;
        let table = self.table()?;
        limits.disjoint(layout.src, layout.dst)?;
        limits.disjoint(layout.src, table)?;
        limits.disjoint(layout.dst, table)?;
        check_clamp(self.clamp)?;
        let (requant, code) = self.code(limits.blobs, &layout)?;
        requant.multiplier.iter().zip(requant.shift).try_for_each(|(&m, &s)| check_multiplier(m, s))?;
        require(portable::is_complete(code.lengths, code.symbols), Rule::Format)?;
        Ok(layout.work)
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.layout()?.dst)
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let layout = self.layout()?;
        let (requant, code) = self.code(memory.blobs(), &layout)?;
        let place = self.table()?;
        let table = memory.write::<u16>(place)?.try_into().map_err(|_| Rule::Shape)?;
        portable::fill_table(code.lengths, code.symbols, table);
        let (src, table, dst) = memory.split2::<u8, i8>(layout.src, place, layout.dst)?;
        let table: &[u16] = bytemuck::try_cast_slice(table).map_err(|_| Rule::Alignment)?;
        let table = table.try_into().map_err(|_| Rule::Shape)?;
        kernels::fully_connected_huffman(&requant, table, code.stream, bytemuck::cast_slice(src), dst);
        Ok(())
    }

    fn output_dtype(&self) -> DType {
        DType::I8
    }

    fn macs(&self) -> u64 {
        Operator::weights(self)
    }

    fn weights(&self) -> u64 {
        u64::from(self.in_c) * u64::from(self.out_c)
    }

    fn scratch(&self, _: &[u8]) -> Result<u32, Rule> {
        Ok(bytes(self.table()?))
    }

    fn in_place(&self, _: &[u8]) -> InPlace {
        InPlace::Apart
    }
}
