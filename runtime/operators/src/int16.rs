//! Operators on int16 activations with int8 weights: [`ConvInt16`], [`BinaryInt16`], [`PoolInt16`], [`SoftmaxInt16`],
//! [`SigmoidInt16`], [`LutInt16`], [`RequantizeInt16`], [`QuantizeInt16`], [`DequantizeInt16`], [`ReduceInt16`].
//!
//! Rules: extents are at least 1; bounds are ordered; scales are positive and finite; multipliers are not negative, and
//! shifts are in -31 … 30. A convolution's source and destination share no byte, and so for pools, reductions, and
//! conversions that change the element's size; with int64 sums its multipliers have 15 bits, and its shifts are at most 7.
//! Everything else works in place: source and destination are the same or disjoint. [`BinaryInt16`]: there is no Div; `b` is
//! disjoint from the destination, or is it while `a` is disjoint and nothing is broadcast. Rows of a softmax have fewer than
//! 65,536 elements. Windows of a pool touch the input, and have at most 2^15 positions. Conversions from and to float32 are built
//! without the feature `f32` too.

use super::conv::group_channels;
use super::shape::windows_touch;
use super::weights::{check_clamp, check_multiplier};
use crate::operator::{InPlace, Operator, area, outputs};
use easy_ext::ext;
use offshoot_base::{BLOB_ALIGNMENT, Limits, Memory, Rule, Span, blob, product, require};
use offshoot_format::int16::ENTRIES;
use offshoot_format::record::{
    BinaryInt16, BinaryKind, ConvInt16, DType, DequantizeInt16, Int16Change, LutInt16, Operand, PoolInt16,
    QuantizeInt16, ReduceInt16, RequantizeInt16, SigmoidInt16, SoftmaxInt16, Window,
};
use offshoot_kernels::geometry::window_output;
use offshoot_kernels::portable::{self as kernels, RequantInt16};

/// Bytes of an element.
const SIZE: usize = 2;

/// Methods of an operator without weights whose output must be apart from its input, or lie where it lies.
macro_rules! plain_methods {
    ($dtype:expr) => {
        plain_methods!();

        fn output_dtype(&self) -> DType {
            $dtype
        }
    };
    () => {
        fn output(&self) -> Result<Span, Rule> {
            Ok(self.spans()?[1])
        }

        fn macs(&self) -> u64 {
            0
        }

        fn weights(&self) -> u64 {
            0
        }

        fn scratch(&self, _: &[u8]) -> Result<u32, Rule> {
            Ok(0)
        }

        fn in_place(&self, _: &[u8]) -> InPlace {
            InPlace::Apart
        }
    };
}

#[ext(ConvInt16Places)]
impl ConvInt16 {
    /// Places of source and destination, and the number of weights of an output channel.
    fn places(&self) -> Result<(Span, Span, u64), Rule> {
        let (out_h, out_w) = window_output(&self.window, self.h, self.w)?;
        let [k_h, k_w] = Window::from(self.window).kernel;
        let in_c = group_channels(self.c, self.out_c, self.groups)?;
        let output = product([self.n.into(), out_h, out_w, self.out_c.into()])?;
        let taps = product([k_h, k_w, in_c])?;
        let src = Span::new(self.src, product([self.n, self.h, self.w, self.c])?, SIZE)?;
        Ok((src, Span::new(self.dst, output, SIZE)?, taps))
    }

    /// The blob.
    fn parameters<'m>(&self, blobs: &'m [u8], taps: u64) -> Result<(RequantInt16<'m>, &'m [i8]), Rule> {
        let channels = u64::from(self.out_c);
        let scales = if self.per_channel { channels } else { 1 };
        let words = if self.wide { 2 * channels } else { channels };
        let after = |at: u32, bytes: u64| {
            let end = u64::from(at).checked_add(bytes);
            let end = end.and_then(|e| e.checked_next_multiple_of(BLOB_ALIGNMENT as u64));
            end.and_then(|e| u32::try_from(e).ok()).ok_or(Rule::BlobBounds)
        };
        let multiplier_at = after(self.blob, 4 * words)?;
        let shift_at = after(multiplier_at, 4 * scales)?;
        let weights_at = after(shift_at, scales)?;
        let requant = RequantInt16 {
            bias: blob(blobs, self.blob, words)?,
            multiplier: blob(blobs, multiplier_at, scales)?,
            shift: blob(blobs, shift_at, scales)?,
            wide: self.wide,
            bounds: self.clamp.unwrap_or((i16::MIN, i16::MAX)),
        };
        Ok((requant, blob(blobs, weights_at, product([taps, channels])?)?))
    }
}

impl Operator for ConvInt16 {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let (src, dst, taps) = self.places()?;
        limits.disjoint(src, dst)?;
        check_clamp(self.clamp)?;
        let (requant, _) = self.parameters(limits.blobs, taps)?;
        for (&multiplier, &shift) in requant.multiplier.iter().zip(requant.shift) {
            if self.wide {
                let fits = (0..=0x7fff).contains(&multiplier) && (-31..=7).contains(&shift);
                require(fits, Rule::Quantisation)?;
            } else {
                check_multiplier(multiplier, shift)?;
            }
        }
        product([(dst.len / SIZE) as u64, taps])
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.places()?.1)
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let (src, dst, taps) = self.places()?;
        let (requant, weights) = self.parameters(memory.blobs(), taps)?;
        let (src, dst) = memory.split(src, dst)?;
        offshoot_kernels::conv_int16(self, &requant, weights, src, dst);
        Ok(())
    }

    fn output_dtype(&self) -> DType {
        DType::I16
    }

    fn macs(&self) -> u64 {
        outputs(self) * area(self.window) * u64::from(self.c / self.groups.max(1))
    }

    fn weights(&self) -> u64 {
        u64::from(self.out_c) * area(self.window) * u64::from(self.c / self.groups.max(1))
    }

    fn scratch(&self, _: &[u8]) -> Result<u32, Rule> {
        Ok(0)
    }

    fn in_place(&self, _: &[u8]) -> InPlace {
        InPlace::Apart
    }
}

#[ext(BinaryInt16Places)]
impl BinaryInt16 {
    /// Places of `a` and the destination.
    fn spans(&self) -> Result<[Span; 2], Rule> {
        pair(self.a, self.dst, product(self.dims)?)
    }

    /// Number of elements of `b`.
    fn b_elements(&self) -> Result<u64, Rule> {
        require(self.broadcast < 16, Rule::Shape)?;
        let kept = |axis: usize| self.broadcast >> axis & 1 == 0;
        product(self.dims.into_iter().enumerate().filter(|&(axis, _)| kept(axis)).map(|(_, d)| d))
    }

    /// The record, with its operands swapped if it overwrites `b`, so that `a` is always the one overwritten.
    fn settled(&self) -> BinaryInt16 {
        if self.b != Operand::Arena(self.dst) || self.a == self.dst || self.broadcast != 0 {
            return *self;
        }
        let [a, b, out] = self.scales;
        let operands = Self { a: self.dst, b: Operand::Arena(self.a), swapped: !self.swapped, ..*self };
        Self { scales: [b, a, out], ..operands }
    }
}

impl Operator for BinaryInt16 {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let settled = self.settled();
        let [a, dst] = settled.spans()?;
        limits.disjoint_or_same(a, dst)?;
        match settled.b {
            Operand::Arena(at) => limits.disjoint(Span::new(at, self.b_elements()?, SIZE)?, dst)?,
            Operand::Blob(at) => {
                blob::<i16>(limits.blobs, at, self.b_elements()?)?;
            }
        }
        require(self.kind != BinaryKind::Div, Rule::Format)?;
        check_clamp(self.clamp)?;
        self.scales.into_iter().try_for_each(|(m, s)| check_multiplier(m, s))?;
        Ok((dst.len / SIZE) as u64)
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let settled = self.settled();
        let [a, dst] = settled.spans()?;
        memory.bring(a, dst)?;
        let (b, dst) = match settled.b {
            Operand::Arena(at) => memory.split(Span::new(at, self.b_elements()?, SIZE)?, dst)?,
            Operand::Blob(at) => (blob(memory.blobs(), at, self.b_elements()?)?, memory.write(dst)?),
        };
        kernels::binary_int16(&settled, b, dst);
        Ok(())
    }

    plain_methods!(DType::I16);
}

/// Source and destination of `elements` int16.
fn pair(src: u32, dst: u32, elements: u64) -> Result<[Span; 2], Rule> {
    Ok([Span::new(src, elements, SIZE)?, Span::new(dst, elements, SIZE)?])
}

#[ext(PoolInt16Places)]
impl PoolInt16 {
    fn spans(&self) -> Result<[Span; 2], Rule> {
        let (out_h, out_w) = window_output(&self.window, self.h, self.w)?;
        Ok([
            Span::new(self.src, product([self.n, self.h, self.w, self.c])?, SIZE)?,
            Span::new(self.dst, product([self.n.into(), out_h, out_w, self.c.into()])?, SIZE)?,
        ])
    }
}

impl Operator for PoolInt16 {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let [src, dst] = self.spans()?;
        limits.disjoint(src, dst)?;
        windows_touch(&self.window, self.h, self.w)?;
        check_clamp(self.clamp)?;
        let positions = product(Window::from(self.window).kernel)?;
        // A sum of so many int16 fits int32.
        require(positions <= 1 << 15, Rule::Window)?;
        product([(dst.len / SIZE) as u64, positions])
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let [src, dst] = self.spans()?;
        let (src, dst) = memory.split(src, dst)?;
        kernels::pool_int16(self, src, dst);
        Ok(())
    }

    plain_methods!(DType::I16);
}

/// A table of a blob.
fn table(blobs: &[u8], at: u32) -> Result<&[i16; ENTRIES], Rule> {
    blob(blobs, at, ENTRIES as u64)?.try_into().map_err(|_| Rule::BlobBounds)
}

#[ext(SoftmaxInt16Places)]
impl SoftmaxInt16 {
    fn spans(&self) -> Result<[Span; 2], Rule> {
        pair(self.src, self.dst, product([self.rows, self.depth])?)
    }

    /// The tables of e^x and 1 / (1 + x).
    fn tables<'m>(&self, blobs: &'m [u8]) -> Result<[&'m [i16; ENTRIES]; 2], Rule> {
        let both: &[i16] = blob(blobs, self.blob, 2 * ENTRIES as u64)?;
        let (exp, inverse) = both.split_at_checked(ENTRIES).ok_or(Rule::BlobBounds)?;
        let whole = |half: &'m [i16]| half.try_into().map_err(|_| Rule::BlobBounds);
        Ok([whole(exp)?, whole(inverse)?])
    }
}

impl Operator for SoftmaxInt16 {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let [src, dst] = self.spans()?;
        limits.disjoint_or_same(src, dst)?;
        check_multiplier(self.multiplier, self.shift)?;
        require(self.depth < 1 << 16, Rule::Shape)?;
        self.tables(limits.blobs)?;
        product([dst.len as u64, 3])
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let [src, dst] = self.spans()?;
        let [exp, inverse] = self.tables(memory.blobs())?;
        kernels::softmax_int16(self, exp, inverse, memory.in_place(src, dst)?);
        Ok(())
    }

    plain_methods!(DType::I16);
}

#[ext(SigmoidInt16Places)]
impl SigmoidInt16 {
    fn spans(&self) -> Result<[Span; 2], Rule> {
        pair(self.src, self.dst, self.len.into())
    }

    fn table<'m>(&self, blobs: &'m [u8]) -> Result<&'m [u16; 256], Rule> {
        blob(blobs, self.blob, 256)?.try_into().map_err(|_| Rule::BlobBounds)
    }
}

impl Operator for SigmoidInt16 {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let [src, dst] = self.spans()?;
        limits.disjoint_or_same(src, dst)?;
        require(self.multiplier <= i16::MAX as u16 && self.shift <= 31, Rule::Quantisation)?;
        self.table(limits.blobs)?;
        Ok(dst.len as u64)
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let [src, dst] = self.spans()?;
        let table = self.table(memory.blobs())?;
        kernels::sigmoid_int16(self, table, memory.in_place(src, dst)?);
        Ok(())
    }

    plain_methods!(DType::I16);
}

#[ext(LutInt16Places)]
impl LutInt16 {
    fn spans(&self) -> Result<[Span; 2], Rule> {
        pair(self.src, self.dst, self.len.into())
    }
}

impl Operator for LutInt16 {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let [src, dst] = self.spans()?;
        limits.disjoint_or_same(src, dst)?;
        table(limits.blobs, self.blob)?;
        Ok(dst.len as u64)
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let [src, dst] = self.spans()?;
        let table = table(memory.blobs(), self.blob)?;
        kernels::lut_int16(table, memory.in_place(src, dst)?);
        Ok(())
    }

    plain_methods!(DType::I16);
}

#[ext(RequantizeInt16Places)]
impl RequantizeInt16 {
    fn spans(&self) -> Result<[Span; 2], Rule> {
        let (from, to) = match self.change {
            Int16Change::Scale => (SIZE, SIZE),
            Int16Change::FromI8 => (1, SIZE),
            Int16Change::ToI8 => (SIZE, 1),
        };
        Ok([Span::new(self.src, self.len.into(), from)?, Span::new(self.dst, self.len.into(), to)?])
    }
}

impl Operator for RequantizeInt16 {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let [src, dst] = self.spans()?;
        match self.change {
            Int16Change::Scale => limits.disjoint_or_same(src, dst)?,
            Int16Change::FromI8 | Int16Change::ToI8 => limits.disjoint(src, dst)?,
        }
        check_multiplier(self.multiplier, self.shift)?;
        check_clamp(self.clamp)?;
        Ok(self.len.into())
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let [src, dst] = self.spans()?;
        match self.change {
            Int16Change::Scale => kernels::requantize_int16(self, memory.in_place(src, dst)?),
            Int16Change::FromI8 => {
                let (src, dst) = memory.split(src, dst)?;
                kernels::int8_to_int16(self, src, dst);
            }
            Int16Change::ToI8 => {
                let (src, dst) = memory.split(src, dst)?;
                kernels::int16_to_int8(self, src, dst);
            }
        }
        Ok(())
    }

    fn output_dtype(&self) -> DType {
        if self.change == Int16Change::ToI8 { DType::I8 } else { DType::I16 }
    }

    plain_methods!();
}

/// Whether a scale can be divided by.
fn check_scale(scale: f32) -> Result<(), Rule> {
    require(scale.is_finite() && scale > 0.0, Rule::Quantisation)
}

#[ext(QuantizeInt16Places)]
impl QuantizeInt16 {
    fn spans(&self) -> Result<[Span; 2], Rule> {
        Ok([Span::new(self.src, self.len.into(), 4)?, Span::new(self.dst, self.len.into(), SIZE)?])
    }
}

impl Operator for QuantizeInt16 {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let [src, dst] = self.spans()?;
        limits.disjoint(src, dst)?;
        check_scale(self.scale)?;
        Ok(self.len.into())
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let [src, dst] = self.spans()?;
        let (src, dst) = memory.split(src, dst)?;
        kernels::quantize_int16(self, src, dst);
        Ok(())
    }

    plain_methods!(DType::I16);
}

#[ext(DequantizeInt16Places)]
impl DequantizeInt16 {
    fn spans(&self) -> Result<[Span; 2], Rule> {
        Ok([Span::new(self.src, self.len.into(), SIZE)?, Span::new(self.dst, self.len.into(), 4)?])
    }
}

impl Operator for DequantizeInt16 {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let [src, dst] = self.spans()?;
        limits.disjoint(src, dst)?;
        check_scale(self.scale)?;
        Ok(self.len.into())
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let [src, dst] = self.spans()?;
        let (src, dst) = memory.split(src, dst)?;
        kernels::dequantize_int16(self, src, dst);
        Ok(())
    }

    plain_methods!(DType::F32);
}

#[ext(ReduceInt16Places)]
impl ReduceInt16 {
    fn spans(&self) -> Result<[Span; 2], Rule> {
        Ok([
            Span::new(self.src, product([self.outer, self.extent, self.inner])?, SIZE)?,
            Span::new(self.dst, product([self.outer, self.inner])?, SIZE)?,
        ])
    }
}

impl Operator for ReduceInt16 {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let [src, dst] = self.spans()?;
        limits.disjoint(src, dst)?;
        check_multiplier(self.multiplier, self.shift)?;
        Ok(src.len as u64)
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let [src, dst] = self.spans()?;
        let (src, dst) = memory.split(src, dst)?;
        kernels::reduce_int16(self, src, dst);
        Ok(())
    }

    plain_methods!(DType::I16);
}
