//! Recurrent layers: [`Recurrent`], [`RecurrentSparse`].
//!
//! Rules: extents are at least 1; input, output, initial state, kept state and scratch are disjoint; int8 scales are
//! finite, the state's > 0 and those of the rows ≥ 0; an int8 LSTM starts with zeros; [`Returns::State`] is for float32
//! LSTMs only. Sparse: int8, at least one sparse matrix, whose rows add up to the stored entries and read no input (or
//! state) beyond the last.

use super::shape::require_f32;
use crate::operator::{InPlace, Operator};
use easy_ext::ext;
use offshoot_base::{Element, Limits, Memory, Rule, Span, blob, product, require};
use offshoot_format::record::{DType, Recurrent, RecurrentArith, RecurrentKind, RecurrentSparse, Returns};
use offshoot_format::sparse::SparseRepr;
use offshoot_kernels::recurrent::{CodeSums, FloatSums, RecurrentMatrix, State, recurrent_step};
use offshoot_kernels::sparse::{Sparse, sparse_bytes};
use offshoot_kernels::sparse_products::SparseBlocks;

/// Places of the tensors in the arena.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    src: Span,
    dst: Span,
    scratch: Span,
    initial: Option<Span>,
    kept: Option<Span>,
}

impl Places {
    fn all(&self) -> impl Iterator<Item = Span> + use<> {
        [self.src, self.dst, self.scratch].into_iter().chain(self.initial).chain(self.kept)
    }
}

/// Parameters of the int8 form in the blob.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored<'m> {
    bias: &'m [f32],
    scale_input: &'m [f32],
    scale_state: &'m [f32],
    input: RecurrentMatrix<'m>,
    state: RecurrentMatrix<'m>,
}

/// Parameters of a layer in its number format.
// One lives on the stack during a run; without an allocator the larger variant cannot be boxed.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Copy, Debug)]
pub(crate) enum Parameters<'m> {
    Codes(Stored<'m>),
    Float(FloatSums<'m>),
}

/// A span of words from an offset in words.
fn words(at: u32, count: usize) -> Result<Span, Rule> {
    Span::new(at.checked_mul(4).ok_or(Rule::ArenaBounds)?, count as u64, 4)
}

/// Reader of the consecutive arrays of a blob.
struct Blob<'m> {
    blobs: &'m [u8],
    at: u32,
}

impl<'m> Blob<'m> {
    fn next<T: Element>(&mut self, elements: u64) -> Result<&'m [T], Rule> {
        let taken = blob(self.blobs, self.at, elements)?;
        let bytes = u32::try_from(size_of_val(taken)).ok().and_then(|n| n.checked_next_multiple_of(4));
        self.at = bytes.and_then(|n| self.at.checked_add(n)).ok_or(Rule::BlobBounds)?;
        Ok(taken)
    }

    /// Reads int8 weights whose inputs have a zero point.
    fn matrix(
        &mut self,
        sparse: Option<SparseRepr>,
        [rows, columns]: [u64; 2],
        zero: i8,
    ) -> Result<RecurrentMatrix<'m>, Rule> {
        let Some(repr) = sparse.filter(|_| cfg!(feature = "op-recurrent-sparse")) else {
            return Ok(RecurrentMatrix::Dense(self.next(product([rows, columns])?)?));
        };
        let starts = self.next(if zero == 0 { 0 } else { rows })?;
        let bytes = self.next::<i8>(sparse_bytes(&repr, rows).ok_or(Rule::BlobBounds)?)?;
        let rows = usize::try_from(rows).map_err(|_| Rule::BlobBounds)?;
        let matrix = Sparse::of(&repr, rows, bytemuck::cast_slice(bytes)).ok_or(Rule::BlobBounds)?;
        Ok(RecurrentMatrix::Sparse(SparseBlocks::new(starts, matrix)))
    }
}

/// The sparse forms of the matrices of input and state; `None` for a dense one.
type Matrices = [Option<SparseRepr>; 2];

const DENSE: Matrices = [None; 2];

/// Pieces of the scratch.
pub(crate) struct Pieces<'a> {
    carried: &'a mut [f32],
    held: &'a mut [u32],
    reset: &'a mut [u32],
    gates: &'a mut [f32],
    sums: &'a mut [i32],
}

/// Place of the initial state of a recurrent layer, if it has one.
///
/// # Errors
/// The rule that the record breaks.
pub fn initial_state(r: &Recurrent) -> Result<Option<Span>, Rule> {
    let state = product([r.kind.states() as u64, r.units.into()])?;
    r.initial.map(|at| Span::new(at, state, r.arith.dtype().size())).transpose()
}

/// Places of the input and output of a recurrent layer.
///
/// # Errors
/// The rule that the record breaks.
pub fn recurrent_tensors(r: &Recurrent) -> Result<[Span; 2], Rule> {
    r.places().map(|p| [p.src, p.dst])
}

#[ext(RecurrentPlaces)]
impl Recurrent {
    /// Rows of the weights.
    pub(crate) fn rows(&self) -> u64 {
        self.kind.gates() as u64 * u64::from(self.units)
    }

    pub(crate) fn places(&self) -> Result<Places, Rule> {
        let size = self.arith.dtype().size();
        let units = u64::from(self.units);
        let states = self.kind.states() as u64;
        let output = match self.returns {
            Returns::Sequence => product([self.steps, self.units])?,
            Returns::Last => units,
            Returns::State => states * units,
        };
        let workspace = self.workspace();
        Ok(Places {
            src: Span::new(self.src, product([self.steps, self.inputs])?, size)?,
            dst: Span::new(self.dst, output, size)?,
            scratch: words(self.scratch, workspace.words())?,
            initial: initial_state(self)?,
            kept: self.kept.map(|at| words(at, workspace.kept_words())).transpose()?,
        })
    }

    pub(crate) fn float<'m>(&self, blobs: &'m [u8]) -> Result<FloatSums<'m>, Rule> {
        let mut rest = Blob { blobs, at: self.blob };
        let units = u64::from(self.units);
        let bias = rest.next(self.kind.biases() as u64 * units)?;
        let input = rest.next(product([self.rows(), self.inputs.into()])?)?;
        let state = rest.next(product([self.rows(), units])?)?;
        Ok(FloatSums { units: self.units.into(), bias, input, state })
    }

    /// The int8 form's parameters in the blob.
    pub(crate) fn stored<'m>(
        &self,
        matrices: &Matrices,
        blobs: &'m [u8],
        zeros: [i8; 2],
    ) -> Result<Stored<'m>, Rule> {
        let mut rest = Blob { blobs, at: self.blob };
        let units = u64::from(self.units);
        let bias = rest.next(self.kind.biases() as u64 * units)?;
        let (scale_input, scale_state) = (rest.next(self.rows())?, rest.next(self.rows())?);
        let input = rest.matrix(matrices[0], [self.rows(), self.inputs.into()], zeros[0])?;
        let state = rest.matrix(matrices[1], [self.rows(), units], zeros[1])?;
        Ok(Stored { bias, scale_input, scale_state, input, state })
    }

    /// The parameters in the number format of the record, read once a run.
    pub(crate) fn parameters<'m>(
        &self,
        matrices: &Matrices,
        blobs: &'m [u8],
    ) -> Result<Parameters<'m>, Rule> {
        match self.arith {
            RecurrentArith::I8 { in_zp, out_zp, .. } => {
                self.stored(matrices, blobs, [in_zp, out_zp]).map(Parameters::Codes)
            }
            RecurrentArith::F32 if cfg!(feature = "f32") => self.float(blobs).map(Parameters::Float),
            RecurrentArith::F32 => Err(Rule::Format),
        }
    }

    pub(crate) fn pieces<'a>(&self, all: &'a mut [u32]) -> Result<Pieces<'a>, Rule> {
        let workspace = self.workspace();
        let mut rest = all;
        let mut next = |len: usize| {
            let (piece, after) = core::mem::take(&mut rest).split_at_mut_checked(len).ok_or(Rule::Shape)?;
            rest = after;
            Ok(piece)
        };
        let cast = |piece: &'a mut [u32]| bytemuck::cast_slice_mut(piece);
        let carried = cast(next(workspace.carried)?);
        let (held, reset) = (next(workspace.held)?, next(workspace.reset)?);
        Ok(Pieces {
            carried,
            held,
            reset,
            gates: bytemuck::cast_slice_mut(next(workspace.gates)?),
            sums: bytemuck::cast_slice_mut(next(workspace.sums)?),
        })
    }

    /// Sets the state before the first step: the kept state, the initial state, or zeros.
    pub(crate) fn begin(&self, memory: &mut Memory<'_>, places: &Places) -> Result<(), Rule> {
        let workspace = self.workspace();
        let state = workspace.carried + workspace.held;
        if let Some(kept) = places.kept {
            let (kept, scratch) = memory.split::<u32, u32>(kept, places.scratch)?;
            let (flag, kept) = kept.split_first().ok_or(Rule::Shape)?;
            if *flag != 0 {
                scratch.get_mut(..state).ok_or(Rule::Shape)?.copy_from_slice(kept);
                return Ok(());
            }
        }
        let units = usize::from(self.units);
        match (places.initial, self.arith) {
            (None, arith) => {
                let pieces = self.pieces(memory.write(places.scratch)?)?;
                pieces.carried.fill(0.0);
                let zero = match arith {
                    RecurrentArith::I8 { out_zp, .. } => u32::from_ne_bytes([out_zp as u8; 4]),
                    RecurrentArith::F32 => 0,
                };
                pieces.held.fill(zero);
            }
            (Some(initial), RecurrentArith::F32) => {
                let (given, scratch) = memory.split::<f32, u32>(initial, places.scratch)?;
                let pieces = self.pieces(scratch)?;
                let (h, memory) = given.split_at_checked(units).ok_or(Rule::Shape)?;
                let carried = if self.kind == RecurrentKind::Lstm { memory } else { h };
                pieces.carried.iter_mut().zip(carried).for_each(|(to, from)| *to = *from);
                bytemuck::cast_slice_mut::<_, f32>(pieces.held).copy_from_slice(h);
            }
            (Some(initial), RecurrentArith::I8 { out_zp, out_scale, .. }) => {
                let (h, scratch) = memory.split::<i8, u32>(initial, places.scratch)?;
                let pieces = self.pieces(scratch)?;
                let real = |code: &i8| (i32::from(*code) - i32::from(out_zp)) as f32 * out_scale;
                pieces.carried.iter_mut().zip(h).for_each(|(to, code)| *to = real(code));
                let held = bytemuck::cast_slice_mut::<_, i8>(pieces.held);
                held.iter_mut().zip(h).for_each(|(to, from)| *to = *from);
            }
        }
        Ok(())
    }

    /// Computes one step.
    pub(crate) fn step(
        &self,
        parameters: &Parameters<'_>,
        memory: &mut Memory<'_>,
        x: Span,
        scratch: Span,
    ) -> Result<(), Rule> {
        let units = usize::from(self.units);
        match (parameters, self.arith) {
            (Parameters::Codes(stored), RecurrentArith::I8 { in_zp, out_zp, out_scale }) => {
                let (x, all) = memory.split::<i8, u32>(x, scratch)?;
                let pieces = self.pieces(all)?;
                let Stored { bias, scale_input, scale_state, input, state } = *stored;
                let (zeros, scale, sums) = ([in_zp, out_zp], out_scale, pieces.sums);
                let mut own =
                    CodeSums { units, bias, scale_input, scale_state, input, state, zeros, scale, sums };
                let [held, reset] = [pieces.held, pieces.reset].map(bytemuck::cast_slice_mut::<_, i8>);
                let held = held.get_mut(..units).ok_or(Rule::Shape)?;
                let reset_len = reset.len().min(units);
                let reset = reset.get_mut(..reset_len).ok_or(Rule::Shape)?;
                let state = State { carried: pieces.carried, held, reset, gates: pieces.gates };
                recurrent_step(self.kind, &mut own, x, state);
            }
            (Parameters::Float(own), RecurrentArith::F32) if cfg!(feature = "f32") => {
                let (x, all) = memory.split::<f32, u32>(x, scratch)?;
                let pieces = self.pieces(all)?;
                let [held, reset] = [pieces.held, pieces.reset].map(bytemuck::cast_slice_mut::<_, f32>);
                let state = State { carried: pieces.carried, held, reset, gates: pieces.gates };
                recurrent_step(self.kind, &mut { *own }, x, state);
            }
            _ => return Err(Rule::Format),
        }
        Ok(())
    }

    /// Copies bytes of the state from the scratch to the output.
    pub(crate) fn put(
        &self,
        memory: &mut Memory<'_>,
        scratch: Span,
        word: usize,
        dst: Span,
    ) -> Result<(), Rule> {
        let from = Span { start: scratch.start + 4 * word, len: dst.len };
        let (from, to) = memory.split::<u8, u8>(from, dst)?;
        if from.len() != to.len() {
            return Err(Rule::Shape);
        }
        to.copy_from_slice(from);
        Ok(())
    }

    /// See [`Operator::check`].
    pub(crate) fn check_with(&self, matrices: &Matrices, limits: &Limits<'_>) -> Result<u64, Rule> {
        let places = self.places()?;
        for (i, a) in places.all().enumerate() {
            for b in places.all().skip(i + 1) {
                limits.disjoint(a, b)?;
            }
        }
        let lstm = self.kind == RecurrentKind::Lstm;
        match self.arith {
            RecurrentArith::I8 { in_zp, out_zp, out_scale } => {
                require(self.returns != Returns::State, Rule::Format)?;
                require(!(lstm && self.initial.is_some()), Rule::Format)?;
                require(out_scale.is_finite() && out_scale > 0.0, Rule::Quantisation)?;
                let own = self.stored(matrices, limits.blobs, [in_zp, out_zp])?;
                let scales = own.scale_input.iter().chain(own.scale_state);
                require(scales.into_iter().all(|s| s.is_finite() && *s >= 0.0), Rule::Quantisation)?;
                for (matrix, columns) in [(own.input, self.inputs), (own.state, self.units)] {
                    let fits = match matrix {
                        RecurrentMatrix::Dense(_) => true,
                        RecurrentMatrix::Sparse(blocks) => blocks.check(columns.into()),
                    };
                    require(fits, Rule::Table)?;
                }
            }
            RecurrentArith::F32 => {
                require_f32()?;
                require(self.returns != Returns::State || lstm, Rule::Format)?;
                self.float(limits.blobs)?;
            }
        }
        // Per matrix: the sums, and the products or stored weights.
        let rows = self.rows();
        let of = |matrix: Option<SparseRepr>, columns: u16| match matrix {
            None => product([rows, columns.into()]),
            Some(matrix) => matrix.weights().checked_add(rows).ok_or(Rule::Shape),
        };
        let both = of(matrices[0], self.inputs)?.checked_add(of(matrices[1], self.units)?);
        product([u64::from(self.steps), both.ok_or(Rule::Shape)?])
    }

    /// See [`Operator::run`].
    pub(crate) fn run_with(&self, matrices: &Matrices, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let places = self.places()?;
        let workspace = self.workspace();
        let size = self.arith.dtype().size();
        let [x_len, h_len] = [self.inputs, self.units].map(|n| usize::from(n) * size);
        self.begin(memory, &places)?;
        let parameters = self.parameters(matrices, memory.blobs())?;
        for step in 0..usize::from(self.steps) {
            let at = if self.reverse { usize::from(self.steps) - 1 - step } else { step };
            let x = Span { start: places.src.start + at * x_len, len: x_len };
            self.step(&parameters, memory, x, places.scratch)?;
            if self.returns == Returns::Sequence {
                let to = Span { start: places.dst.start + at * h_len, len: h_len };
                self.put(memory, places.scratch, workspace.carried, to)?;
            }
        }
        if self.returns != Returns::Sequence {
            let (h, memory_at) = (Span { len: h_len, ..places.dst }, places.dst.start + h_len);
            self.put(memory, places.scratch, workspace.carried, h)?;
            if self.returns == Returns::State {
                self.put(memory, places.scratch, 0, Span { start: memory_at, len: h_len })?;
            }
        }
        if let Some(kept) = places.kept {
            let from = Span { len: 4 * (workspace.carried + workspace.held), ..places.scratch };
            let (state, kept) = memory.split::<u32, u32>(from, kept)?;
            let (flag, kept) = kept.split_first_mut().ok_or(Rule::Shape)?;
            *flag = 1;
            kept.copy_from_slice(state);
        }
        memory.clear(places.scratch)
    }
}

impl Operator for Recurrent {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        self.check_with(&DENSE, limits)
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.places()?.dst)
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        self.run_with(&DENSE, memory)
    }

    fn output_dtype(&self) -> DType {
        self.arith.dtype()
    }

    fn macs(&self) -> u64 {
        u64::from(self.steps) * Operator::weights(self)
    }

    fn weights(&self) -> u64 {
        self.rows() * (u64::from(self.inputs) + u64::from(self.units))
    }

    fn scratch(&self, _: &[u8]) -> Result<u32, Rule> {
        u32::try_from(4 * self.workspace().words()).map_err(|_| Rule::ArenaBounds)
    }

    fn in_place(&self, _: &[u8]) -> InPlace {
        InPlace::Apart
    }
}

impl Operator for RecurrentSparse {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let matrices = self.matrices();
        require(matches!(self.layer.arith, RecurrentArith::I8 { .. }), Rule::Format)?;
        require(matrices != DENSE, Rule::Format)?;
        require(matrices.iter().flatten().all(SparseRepr::is_built), Rule::Format)?;
        self.layer.check_with(&matrices, limits)
    }

    fn output(&self) -> Result<Span, Rule> {
        self.layer.output()
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        self.layer.run_with(&self.matrices(), memory)
    }

    fn output_dtype(&self) -> DType {
        DType::I8
    }

    fn macs(&self) -> u64 {
        u64::from(self.layer.steps) * Operator::weights(self)
    }

    fn weights(&self) -> u64 {
        let rows = self.layer.rows();
        let stored = |matrix: Option<SparseRepr>, columns: u16| {
            matrix.map_or(rows * u64::from(columns), |matrix| matrix.weights())
        };
        stored(self.input, self.layer.inputs) + stored(self.state, self.layer.units)
    }

    fn scratch(&self, _: &[u8]) -> Result<u32, Rule> {
        self.layer.scratch(&[])
    }

    fn in_place(&self, _: &[u8]) -> InPlace {
        InPlace::Apart
    }
}
