//! Gather from a constant table by the index of the largest element: a product of the table with a one-hot vector.

use offshoot_ir::{Activation, BinaryKind, DType, Op, ReduceKind, UnaryKind, ValueId};

use crate::constant::{Constant, Elements};
use crate::context::{Context, Importing, Onnx};

/// Most rows of such a table.
const MAX_ROWS: usize = 1 << 10;

/// Gather along axis 0 of constant input 0, where input 1 is the output of an ArgMax or ArgMin.
pub(crate) fn by_largest(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let table = c.wanted(onnx, 0)?;
    let index = c.value(onnx, 1)?;
    let rank = table.shape.len();
    if rank == 0 || onnx.axis("axis", 0, rank)? != 0 {
        return Err(
            "a table along an axis other than the first, with indices that are computed at run time".into()
        );
    }
    let refused = "indices are computed at run time; only those of ArgMax and ArgMin are supported";
    let (scores, axis, last) =
        c.argmax_of(index).filter(|_| c.graph.value(index).dtype == DType::I32).ok_or(refused)?;
    let (shape, rows) = (c.shape(scores).to_vec(), table.shape[0]);
    if shape[axis] != rows || rows > MAX_ROWS {
        return Err(format!("an index of {} for a table of {rows} rows (at most {MAX_ROWS})", shape[axis]));
    }
    let name = onnx.output(0).unwrap_or_default().to_owned();
    let mut kept = shape.clone();
    kept[axis] = 1;
    let emit = |c: &mut Context<'_>, op: Op, inputs: Vec<ValueId>, shape: Option<Vec<usize>>, part: &str| {
        c.emit(onnx, op, inputs, shape, &format!("{name}/{part}"))
    };
    let not_positive = || Op::Unary(UnaryKind::HardSigmoid { alpha: f32::MIN, beta: 1.0 });
    let binary = |kind| Op::Binary { kind, activation: Activation::None };
    let linear = || Op::FullyConnected { activation: Activation::None };
    let largest =
        emit(c, Op::Reduce { kind: ReduceKind::Max, axes: vec![axis] }, vec![scores], Some(kept), "largest")?;
    let short = emit(c, binary(BinaryKind::Sub), vec![largest, scores], None, "short")?;
    let mut equal = emit(c, not_positive(), vec![short], None, "equal")?;
    if axis + 1 != shape.len() {
        let mut perm: Vec<usize> = (0..shape.len()).filter(|a| *a != axis).collect();
        perm.push(axis);
        equal = emit(c, Op::Transpose { perm }, vec![equal], None, "last")?;
    }
    // Of equal elements, the first (or the last): the one without another before (or behind) it.
    let beside = (0..rows * rows).map(|i| {
        let (to, from) = (i / rows, i % rows);
        f32::from(u8::from(if last { from > to } else { from < to }))
    });
    let beside = Constant::new(vec![rows, rows], Elements::F32(beside.collect()));
    let beside = c.add_constant(&format!("{name}/beside"), &beside);
    let others = emit(c, linear(), vec![equal, beside], None, "others")?;
    let alone = emit(c, not_positive(), vec![others], None, "alone")?;
    let one = emit(c, binary(BinaryKind::Mul), vec![equal, alone], None, "one")?;
    let width: usize = table.shape[1..].iter().product();
    let columns = Constant::new(table.shape.clone(), Elements::F32(table.to_reals()));
    let columns = columns.reshaped(vec![rows, width])?.transposed(&[1, 0]);
    let columns = c.add_constant(onnx.input(0).unwrap_or_default(), &columns);
    let y = emit(c, linear(), vec![one, columns], None, "rows")?;
    let out = [c.shape(index), &table.shape[1..]].concat();
    c.finish(onnx, Op::Reshape, vec![y], Some(out), 0)
}
