//! Validation of graphs: order, producers, shapes, element types, constants.

use crate::graph::{DType, Data, Graph, Op, Value};
use crate::infer::infer_shape;
use crate::{Error, Result};

impl Graph {
    /// Checks topological order, single producers, inputs, shapes, element types, quantisation and constants.
    ///
    /// # Errors
    /// The first problem found, with the operator's or tensor's name.
    pub fn validate(&self) -> Result<()> {
        let mut known = vec![false; self.values.len()];
        for (slot, value) in known.iter_mut().zip(&self.values) {
            check_value(value)?;
            *slot = value.data.is_some();
        }
        let exists = |id: crate::ValueId| {
            self.values.get(id.0 as usize).ok_or_else(|| Error::Graph(format!("no tensor {}", id.0)))
        };
        for &id in &self.inputs {
            let name = &exists(id)?.name;
            if std::mem::replace(&mut known[id.0 as usize], true) {
                return Err(Error::Graph(format!("input `{name}` is a constant or listed twice")));
            }
        }
        for node in &self.nodes {
            let fail = |reason: String| Error::Node { node: node.name.clone(), op: node.op.name(), reason };
            let mut inputs = Vec::with_capacity(node.inputs.len());
            for &id in &node.inputs {
                let value = exists(id)?;
                if !known[id.0 as usize] {
                    return Err(fail(format!("reads `{}` before it is written", value.name)));
                }
                inputs.push(value);
            }
            let out = exists(node.output)?;
            if std::mem::replace(&mut known[node.output.0 as usize], true) {
                return Err(fail(format!("`{}` is written twice", out.name)));
            }
            let shape = infer_shape(&node.op, &inputs, &out.shape).map_err(|e| match e {
                Error::Node { reason, .. } => fail(reason),
                other => other,
            })?;
            if shape != out.shape {
                return Err(fail(format!("output is {:?}, should be {shape:?}", out.shape)));
            }
            check_types(&node.op, &inputs, out).map_err(fail)?;
        }
        for &id in &self.outputs {
            let name = &exists(id)?.name;
            if !known[id.0 as usize] {
                return Err(Error::Graph(format!("output `{name}` is never written")));
            }
        }
        Ok(())
    }
}

fn check_value(v: &Value) -> Result<()> {
    let fail = |reason: String| Err(Error::Graph(format!("tensor `{}`: {reason}", v.name)));
    let Some(len) = v.shape.iter().try_fold(1usize, |a, &d| a.checked_mul(d)) else {
        return fail(format!("{:?} has too many elements", v.shape));
    };
    if let Some(data) = &v.data {
        let (dtype, n) = match data.as_ref() {
            Data::F32(d) => (DType::F32, d.len()),
            Data::I8(d) => (DType::I8, d.len()),
            Data::I16(d) => (DType::I16, d.len()),
            Data::I32(d) => (DType::I32, d.len()),
            Data::I64(d) => (DType::I64, d.len()),
        };
        if dtype != v.dtype || n != len {
            return fail(format!("{n} elements of {dtype:?} for {:?} of {:?}", v.shape, v.dtype));
        }
    }
    match &v.quant {
        None if matches!(v.dtype, DType::I8 | DType::I16) => {
            fail(format!("{:?} without quantisation", v.dtype))
        }
        Some(q) if v.dtype == DType::I16 && (q.axis.is_some() || q.zero_point.iter().any(|z| *z != 0)) => {
            fail("int16 has one scale, and zero point 0".into())
        }
        Some(_) if v.dtype == DType::F32 => fail(format!("quantisation on {:?}", v.dtype)),
        Some(q) => {
            let n = match q.axis {
                None => 1,
                Some(a) => match v.shape.get(a) {
                    Some(&d) => d,
                    None => return fail(format!("quantised along axis {a} of {:?}", v.shape)),
                },
            };
            if q.scale.len() != n || q.zero_point.len() != n {
                return fail(format!(
                    "{} scales, {} zero points, needs {n}",
                    q.scale.len(),
                    q.zero_point.len()
                ));
            }
            match q.scale.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
                Some(s) => fail(format!("scale {s} is not positive and finite")),
                None => Ok(()),
            }
        }
        None => Ok(()),
    }
}

/// `dtype` if activations are quantised to it, else I8.
fn integer(dtype: DType) -> DType {
    if dtype == DType::I16 { dtype } else { DType::I8 }
}

fn check_types(op: &Op, inputs: &[&Value], out: &Value) -> std::result::Result<(), String> {
    let x = inputs[0].dtype;
    let of = |i: usize| inputs.get(i).map(|v| v.dtype);
    match op {
        Op::Gather(_) | Op::Scatter { .. } if of(1) != Some(DType::I32) => {
            return Err(format!("indices are {:?}, should be I32", of(1)));
        }
        Op::Switch => {
            let (index, branches) = inputs.split_last().ok_or("has no branches")?;
            if index.dtype != DType::I32 {
                return Err(format!("the index is {:?}, should be I32", index.dtype));
            }
            if let Some(other) = branches.iter().find(|branch| branch.dtype != x) {
                return Err(format!("branches are {x:?} and {:?}", other.dtype));
            }
        }
        Op::Scatter { .. } if of(2) != Some(x) => {
            return Err(format!("updates are {:?}, should be {x:?}", of(2)));
        }
        // Simulations hold int8 tensors as the real numbers that they stand for.
        Op::Lookup(lookup) => {
            let grids =
                [Some(&lookup.from), Some(&lookup.to)] == [inputs[0].quant.as_ref(), out.quant.as_ref()];
            let whole = lookup.table.len() == 256 && lookup.from.axis.is_none() && lookup.to.axis.is_none();
            if !whole || x == DType::I8 && !grids {
                return Err("its table is not one of 256 codes between the grids of its tensors".into());
            }
        }
        _ => {}
    }
    let (from, to) = match op {
        Op::Quantize => (DType::F32, integer(out.dtype)),
        Op::Dequantize => (integer(x), DType::F32),
        Op::Requantize => (integer(x), integer(out.dtype)),
        Op::ArgMax { .. } | Op::TopK { .. } => (x, DType::I32),
        Op::Cast if x == DType::I32 => (x, DType::F32),
        Op::Cast => (DType::F32, DType::I32),
        _ => (x, x),
    };
    if (x, out.dtype) == (from, to) {
        Ok(())
    } else {
        Err(format!("takes {from:?} to {to:?}, has {x:?} to {:?}", out.dtype))
    }
}
