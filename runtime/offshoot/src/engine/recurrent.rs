//! Splits the memory of a recurrent layer for its train step.

use crate::model::learn::TrainedLayer;
use offshoot_base::{Rule, cast, cast_mut};
use offshoot_format::record::{Recurrent, RecurrentArith};
use offshoot_format::sparse::SparseRepr;
use offshoot_kernels::sparse::sparse_bytes;
use offshoot_learn::sequence::{Parts, Real, StepTarget, Stored, learn_codes, learn_float};
use offshoot_learn::{Random, TargetProjection, float};

/// Memory of a train step.
pub(super) struct Pieces<'a> {
    /// The inference arena.
    pub(super) work: &'a [u8],
    /// A copy of the layer's blob.
    pub(super) trainable: &'a mut [u8],
    /// One number per class.
    pub(super) residual: &'a mut [f32],
    /// [`offshoot_learn::sequence::workspace_words`] words.
    pub(super) workspace: &'a mut [f32],
    /// The table of a local head, and its rate.
    pub(super) head: Option<(&'a mut [f32], f32)>,
}

/// Runs one train step. `matrices` are the sparse matrices of input and state, if any. The table of a local head serves
/// as its target projection.
pub(super) fn train_step(
    r: &Recurrent,
    matrices: [Option<SparseRepr>; 2],
    layer: &TrainedLayer,
    target: &StepTarget<'_>,
    pieces: Pieces<'_>,
    random: &mut Random,
) -> Result<(), Rule> {
    let bytes = |span: offshoot_base::Span| pieces.work.get(span.range()).ok_or(Rule::ArenaBounds);
    let (x, h) = (bytes(layer.shape.src)?, bytes(layer.shape.dst)?);
    let initial = offshoot_operators::initial_state(r)?.map(bytes).transpose()?;
    let rows = r.kind.gates() * usize::from(r.units);
    let inputs = rows * usize::from(r.inputs);
    let states = rows * usize::from(r.units);
    let mut rest = pieces.trainable;
    let mut next = |len: usize| {
        let (piece, after) = core::mem::take(&mut rest)
            .split_at_mut_checked(len.next_multiple_of(4))
            .ok_or(Rule::BlobBounds)?;
        rest = after;
        piece.get_mut(..len).ok_or(Rule::BlobBounds)
    };
    let bias = cast_mut(next(layer.shape.parameter_bytes[0])?)?;
    match r.arith {
        RecurrentArith::F32 if cfg!(feature = "f32") => {
            let parts = Parts::Float {
                bias,
                input: cast_mut(next(4 * inputs)?)?,
                state: cast_mut(next(4 * states)?)?,
            };
            let seen = (cast(x)?, cast(h)?, initial.map(cast).transpose()?);
            let Some((table, head_rate)) = pieces.head else {
                return learn_float(r, parts, target, seen, pieces.residual, pieces.workspace)
                    .ok_or(Rule::Shape);
            };
            let of_head = StepTarget { projection: TargetProjection::Table(table), ..*target };
            learn_float(r, parts, &of_head, seen, pieces.residual, pieces.workspace).ok_or(Rule::Shape)?;
            let rate = target.rate * head_rate;
            float::learn_head(seen.1, &target.grid, table, pieces.residual, rate, target.normalised);
            Ok(())
        }
        RecurrentArith::F32 => Err(Rule::Format),
        RecurrentArith::I8 { in_zp, out_zp, out_scale } => {
            let real = Real { zeros: [in_zp, out_zp], scales: [layer.repr.scales[0], out_scale] };
            let scale_input = cast(next(layer.shape.parameter_bytes[1])?)?;
            let scale_state = cast(next(layer.shape.parameter_bytes[2])?)?;
            let mut stored = |sparse: Option<SparseRepr>, codes: usize, zero: i8| {
                let Some(repr) = sparse.filter(|_| cfg!(feature = "op-recurrent-sparse")) else {
                    return Ok(Stored::Dense(cast_mut(next(codes)?)?));
                };
                let start = cast_mut(next(if zero == 0 { 0 } else { 4 * rows })?)?;
                let bytes = sparse_bytes(&repr, rows as u64).and_then(|n| usize::try_from(n).ok());
                Ok(Stored::Sparse { repr, start, blob: cast_mut(next(bytes.ok_or(Rule::BlobBounds)?)?)? })
            };
            let parts = Parts::Codes {
                bias,
                scale_input,
                scale_state,
                input: stored(matrices[0], inputs, in_zp)?,
                state: stored(matrices[1], states, out_zp)?,
                real,
            };
            let seen = (cast(x)?, cast(h)?, initial.map(cast).transpose()?);
            learn_codes(r, parts, target, seen, pieces.residual, pieces.workspace, random).ok_or(Rule::Shape)
        }
    }
}
