//! ReduceMean, ReduceSum, ReduceMax, ReduceMin, ArgMax.

use offshoot_ir::{Op, ReduceKind};

use crate::context::{Context, Entry, Importing, Onnx, axis};

pub(crate) fn reduce(c: &mut Context<'_>, onnx: &Onnx<'_>, kind: ReduceKind) -> Importing {
    let x = c.value(onnx, 0)?;
    let shape = c.shape(x).to_vec();
    let given = match onnx.ints("axes") {
        Some(a) => Some(a),
        None => c.ints(onnx, 1)?,
    };
    let mut axes = match given {
        Some(a) if !a.is_empty() => {
            a.iter().map(|a| axis(*a, shape.len())).collect::<Importing<Vec<usize>>>()?
        }
        _ if onnx.int("noop_with_empty_axes", 0) != 0 => return c.bind(onnx, 0, Entry::Value(x)),
        _ => (0..shape.len()).collect(),
    };
    axes.sort_unstable();
    axes.dedup();
    let keep = onnx.int("keepdims", 1) != 0;
    c.finish(onnx, Op::Reduce { kind, axes: axes.clone() }, vec![x], Some(reduced(&shape, &axes, keep)), 0)
}

fn reduced(shape: &[usize], axes: &[usize], keep: bool) -> Vec<usize> {
    let mut out = Vec::new();
    for (a, d) in shape.iter().enumerate() {
        match (axes.contains(&a), keep) {
            (false, _) => out.push(*d),
            (true, true) => out.push(1),
            (true, false) => {}
        }
    }
    out
}

pub(crate) fn argmax(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = c.value(onnx, 0)?;
    let shape = c.shape(x).to_vec();
    let axis = onnx.axis("axis", 0, shape.len())?;
    let select_last = onnx.int("select_last_index", 0) != 0;
    let keep = onnx.int("keepdims", 1) != 0;
    c.finish(onnx, Op::ArgMax { axis, select_last }, vec![x], Some(reduced(&shape, &[axis], keep)), 0)
}
