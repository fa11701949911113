//! Operators on indices that a run computes: [`Gather`], [`Scatter`], [`TopK`], [`Cast`].
//!
//! Rules: extents are at least 1; extents, strides and runs are at most 2^27; 1 to 4 indices a row; unused picks are
//! zero. Every place that indices inside their extents can give lies in the tensor, and kernels bring others inside or
//! leave them out, so no value of an index reads or writes elsewhere. The output is disjoint from every operand.

use super::shape::require_f32;
use crate::operator::{InPlace, Operator};
use easy_ext::ext;
use offshoot_base::{Element, Limits, Memory, Rule, Span, blob, cast, cast_mut, product, require};
use offshoot_format::record::{Cast, DType, Gather, Operand, Pick, Rows, Scatter, ScatterKind, TopK};
use offshoot_kernels::portable as kernels;

/// Largest extent, stride and run. Records of this size still encode in a bounded number of bytes.
const MAX: u32 = 1 << 27;

/// Most elements that [`TopK`] compares.
const MAX_EXTENT: u32 = 1 << 23;

#[ext(RowsPlaces)]
impl Rows {
    /// Checks extents and strides.
    pub(crate) fn check(&self) -> Result<(), Rule> {
        let used = usize::from(self.indices);
        require((1..=self.picks.len()).contains(&used), Rule::Shape)?;
        let axes = self
            .axes
            .iter()
            .all(|a| (1..=MAX).contains(&a.extent) && a.stride <= MAX && a.index_stride <= MAX);
        let (picks, unused) = self.picks.split_at(used);
        let picks = picks.iter().all(|p| (1..=MAX).contains(&p.extent) && p.stride <= MAX);
        let unused = unused.iter().all(|p| *p == Pick::default());
        require(axes && picks && unused && (1..=MAX).contains(&self.run), Rule::Shape)
    }

    /// Number of rows.
    pub(crate) fn count(&self) -> Result<u64, Rule> {
        product(self.axes.map(|a| a.extent))
    }

    /// Elements of the tensor that holds the rows, up to the last that indices can reach.
    pub(crate) fn reach(&self) -> u64 {
        // Each product is less than 2^54, so the sum of nine does not overflow.
        let last = |extent: u32, stride: u32| u64::from(extent.saturating_sub(1)) * u64::from(stride);
        let axes: u64 = self.axes.iter().map(|a| last(a.extent, a.stride)).sum();
        let picks: u64 = self.picks.iter().map(|p| last(p.extent, p.stride)).sum();
        axes + picks + u64::from(self.run)
    }

    /// Number of indices.
    pub(crate) fn index_elements(&self) -> u64 {
        let last = |extent: u32, stride: u32| u64::from(extent.saturating_sub(1)) * u64::from(stride);
        self.axes.iter().map(|a| last(a.extent, a.index_stride)).sum::<u64>() + u64::from(self.indices)
    }
}

/// Where an operand lies: a span of the arena, or an offset of the blob section, with its length in bytes.
struct Place {
    operand: Operand,
    span: Span,
}

impl Place {
    fn new(operand: Operand, elements: u64, size: usize) -> Result<Self, Rule> {
        let at = match operand {
            Operand::Arena(at) => at,
            Operand::Blob(_) => 0,
        };
        Ok(Self { operand, span: Span::new(at, elements, size)? })
    }

    /// Checks that the operand lies in the arena apart from `dst`, or in the blob section.
    fn check(&self, dst: Span, limits: &Limits<'_>) -> Result<(), Rule> {
        match self.operand {
            Operand::Arena(_) => limits.disjoint(self.span, dst),
            Operand::Blob(at) => blob::<u8>(limits.blobs, at, self.span.len as u64).map(|_| ()),
        }
    }

    /// The span to read in the arena: none for a constant.
    fn arena(&self) -> Span {
        match self.operand {
            Operand::Arena(_) => self.span,
            Operand::Blob(_) => Span { start: 0, len: 0 },
        }
    }

    /// The operand's bytes, where `read` are those of [`Self::arena`].
    fn bytes<'b>(&self, read: &'b [u8], blobs: &'b [u8]) -> Result<&'b [u8], Rule> {
        match self.operand {
            Operand::Arena(_) => Ok(read),
            Operand::Blob(at) => blob(blobs, at, self.span.len as u64),
        }
    }
}

#[ext(GatherPlaces)]
impl Gather {
    /// Bytes of an element.
    pub(crate) fn element(&self) -> Result<usize, Rule> {
        require(self.size == 1 || self.size == 4, Rule::Format)?;
        Ok(usize::from(self.size))
    }

    pub(crate) fn run_as<T: Element>(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let blobs = memory.blobs();
        let src = Place::new(self.src, self.rows.reach(), self.element()?)?;
        let index = Place::new(self.rows.index, self.rows.index_elements(), 4)?;
        let (a, b, dst) = memory.split2::<u8, u8>(src.arena(), index.arena(), self.output()?)?;
        let (a, b) = (src.bytes(a, blobs)?, index.bytes(b, blobs)?);
        kernels::gather::<T>(self, cast(a)?, cast(b)?, cast_mut(dst)?);
        Ok(())
    }
}

impl Operator for Gather {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        self.rows.check()?;
        let dst = self.output()?;
        limits.arena(&[dst])?;
        Place::new(self.src, self.rows.reach(), self.element()?)?.check(dst, limits)?;
        Place::new(self.rows.index, self.rows.index_elements(), 4)?.check(dst, limits)?;
        product([self.rows.count()?, u64::from(self.rows.run) + 4])
    }

    fn output(&self) -> Result<Span, Rule> {
        Span::new(self.dst, product([self.rows.count()?, self.rows.run.into()])?, self.element()?)
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        if self.size == 1 { self.run_as::<u8>(memory) } else { self.run_as::<u32>(memory) }
    }

    fn output_dtype(&self) -> DType {
        if self.size == 1 { DType::I8 } else { DType::F32 }
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
}

#[ext(ScatterPlaces)]
impl Scatter {
    /// Place of the rows to write.
    pub(crate) fn source(&self) -> Result<Span, Rule> {
        Span::new(self.src, product([self.rows.count()?, self.rows.run.into()])?, self.dtype.size())
    }

    pub(crate) fn run_as<T: Element>(
        &self,
        memory: &mut Memory<'_>,
        kernel: fn(&Self, &[T], &[i32], &mut [T]),
    ) -> Result<(), Rule> {
        let blobs = memory.blobs();
        let index = Place::new(self.rows.index, self.rows.index_elements(), 4)?;
        let (a, b, dst) = memory.split2::<u8, u8>(self.source()?, index.arena(), self.output()?)?;
        kernel(self, cast(a)?, cast(index.bytes(b, blobs)?)?, cast_mut(dst)?);
        Ok(())
    }
}

impl Operator for Scatter {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        self.rows.check()?;
        let (src, dst) = (self.source()?, self.output()?);
        limits.disjoint(src, dst)?;
        Place::new(self.rows.index, self.rows.index_elements(), 4)?.check(dst, limits)?;
        match (self.dtype, self.kind) {
            (_, ScatterKind::Set) | (DType::I8, ScatterKind::Max | ScatterKind::Min) => {}
            (DType::F32, _) => require_f32()?,
            _ => return Err(Rule::Format),
        }
        product([self.rows.count()?, u64::from(self.rows.run) + 4])
    }

    fn output(&self) -> Result<Span, Rule> {
        Span::new(self.dst, self.rows.reach(), self.dtype.size())
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        match (self.dtype, self.kind) {
            (DType::I8, ScatterKind::Set) => self.run_as::<u8>(memory, kernels::scatter_set),
            (DType::I8, _) => self.run_as(memory, kernels::scatter_i8),
            (_, ScatterKind::Set) => self.run_as::<u32>(memory, kernels::scatter_set),
            (DType::F32, _) if cfg!(feature = "f32") => self.run_as(memory, kernels::scatter_f32),
            _ => Err(Rule::Format),
        }
    }

    fn output_dtype(&self) -> DType {
        self.dtype
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
}

#[ext(TopKPlaces)]
impl TopK {
    /// Places of source and destination.
    pub(crate) fn spans(&self) -> Result<[Span; 2], Rule> {
        let elements = product([self.outer, self.extent, self.inner])?;
        Ok([
            Span::new(self.src, elements, self.dtype.size())?,
            Span::new(self.dst, product([self.outer, self.k, self.inner])?, DType::I32.size())?,
        ])
    }
}

impl Operator for TopK {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let [src, dst] = self.spans()?;
        limits.disjoint(src, dst)?;
        require(self.extent <= MAX_EXTENT && self.k <= self.extent, Rule::Shape)?;
        match self.dtype {
            DType::I8 => {}
            DType::F32 => require_f32()?,
            _ => return Err(Rule::Format),
        }
        product([self.outer, self.extent, self.inner].map(u64::from).into_iter().chain([self.k.into()]))
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.spans()?[1])
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let [src, dst] = self.spans()?;
        match self.dtype {
            DType::I8 => {
                let (src, dst) = memory.split(src, dst)?;
                kernels::top_k_i8(self, src, dst);
            }
            DType::F32 if cfg!(feature = "f32") => {
                let (src, dst) = memory.split(src, dst)?;
                kernels::top_k_f32(self, src, dst);
            }
            _ => return Err(Rule::Format),
        }
        Ok(())
    }

    fn output_dtype(&self) -> DType {
        DType::I32
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
}

#[ext(CastPlaces)]
impl Cast {
    /// Places of source and destination.
    pub(crate) fn spans(&self) -> Result<[Span; 2], Rule> {
        let len = self.len.into();
        Ok([Span::new(self.src, len, 4)?, Span::new(self.dst, len, 4)?])
    }
}

impl Operator for Cast {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let [src, dst] = self.spans()?;
        limits.disjoint(src, dst)?;
        require(self.to != DType::I8, Rule::Format)?;
        require_f32()?;
        Ok(self.len.into())
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.spans()?[1])
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let [src, dst] = self.spans()?;
        match self.to {
            DType::F32 if cfg!(feature = "f32") => {
                let (src, dst) = memory.split(src, dst)?;
                kernels::to_float(src, dst);
            }
            DType::I32 if cfg!(feature = "f32") => {
                let (src, dst) = memory.split(src, dst)?;
                kernels::to_int(src, dst);
            }
            _ => return Err(Rule::Format),
        }
        Ok(())
    }

    fn output_dtype(&self) -> DType {
        self.to
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
}
