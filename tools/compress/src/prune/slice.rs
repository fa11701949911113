//! Deletes groups: as zeros in the same graph, or as a smaller dense graph of the same function.

use std::sync::Arc;

use offshoot_ir::{Data, Graph, Op, Value, ValueId};

use super::groups::Groups;
use crate::{Error, Result};

/// `graph` with all weights of the groups marked in `removed` set to zero. Divisors and variances stay.
pub fn masked(graph: &Graph, groups: &Groups, removed: &[bool]) -> Graph {
    faded(graph, groups, removed, 0.0)
}

/// As [`masked`], but multiplies the weights by `left` instead of zero.
pub(super) fn faded(graph: &Graph, groups: &Groups, removed: &[bool], left: f32) -> Graph {
    let mut out = graph.clone();
    for index in 0..graph.values.len() {
        let id = ValueId(index as u32);
        if groups.keeps(id) {
            continue;
        }
        let Some(hit) = groups.elements(graph, id, removed) else { continue };
        if let Some(Data::F32(data)) = out.value_mut(id).data.as_mut().map(Arc::make_mut) {
            data.iter_mut().zip(hit).filter(|(_, hit)| *hit).for_each(|(d, _)| *d *= left);
        }
    }
    out
}

/// `graph` without the groups marked in `removed`: a dense graph that computes the same function as [`masked`].
///
/// # Errors
/// [`Error::Group`] if a marked group is fixed, or if an axis would become empty.
pub fn slice(graph: &Graph, groups: &Groups, removed: &[bool]) -> Result<Graph> {
    if let Some((group, reason)) =
        (0..groups.len()).filter(|&g| removed[g]).find_map(|g| Some((g, groups.fixed[g].clone()?)))
    {
        return Err(Error::Group { group, reason });
    }
    for floor in groups.floors() {
        if let Some(&group) = floor.first().filter(|_| floor.iter().all(|&g| removed[g])) {
            return Err(Error::Group { group, reason: "is the last one on an axis".into() });
        }
    }
    let kept = |id: ValueId, axis: usize| -> Vec<usize> {
        let extent = graph.value(id).shape[axis];
        let along = groups.along(id, axis);
        (0..extent).filter(|&i| along.is_none_or(|g| !removed[g[i]])).collect()
    };
    let mut out = graph.clone();
    for index in 0..graph.values.len() {
        let id = ValueId(index as u32);
        let old = graph.value(id);
        let keep: Vec<Vec<usize>> = (0..old.shape.len()).map(|axis| kept(id, axis)).collect();
        let shape: Vec<usize> = keep.iter().map(Vec::len).collect();
        if shape != old.shape {
            let data = old.data.as_deref().map(|_| Arc::new(gathered(old, &keep)));
            let new = out.value_mut(id);
            (new.shape, new.data) = (shape, data);
        }
    }
    for (node, old) in out.nodes.iter_mut().zip(&graph.nodes) {
        let x = old.inputs[0];
        match &mut node.op {
            Op::Conv2d { groups, .. } | Op::ConvTranspose2d { groups, .. } => {
                let per_group = kept(old.inputs[1], 3).len().max(1);
                *groups = kept(x, 3).len() / per_group;
            }
            Op::Pad { before, after, .. } => {
                for axis in 0..before.len() {
                    // Padding is the part of the output that the input does not fill.
                    let (first, extent) = (before[axis], graph.value(x).shape[axis]);
                    let left = kept(old.output, axis);
                    before[axis] = left.iter().filter(|&&i| i < first).count();
                    after[axis] = left.iter().filter(|&&i| i >= first + extent).count();
                }
            }
            Op::Slice { start, step } => {
                for axis in 0..start.len() {
                    let first = kept(old.output, axis).first().copied().unwrap_or(0);
                    let from = start[axis].wrapping_add_signed(first as isize * step[axis]);
                    start[axis] = kept(x, axis).iter().filter(|&&i| i < from).count();
                }
            }
            _ => {}
        }
    }
    out.validate().map_err(|e| Error::Execution { node: graph.name.clone(), source: Box::new(e) })?;
    Ok(out)
}

/// Elements of a constant at the kept indices of every axis.
fn gathered(value: &Value, keep: &[Vec<usize>]) -> Data {
    let mut offsets = vec![0_usize];
    for (axis, keep) in keep.iter().enumerate() {
        let extent = value.shape[axis];
        offsets = offsets.iter().flat_map(|o| keep.iter().map(move |k| o * extent + k)).collect();
    }
    fn pick<T: Copy>(data: &[T], offsets: &[usize]) -> Vec<T> {
        offsets.iter().map(|&o| data[o]).collect()
    }
    match value.data.as_deref() {
        Some(Data::F32(d)) => Data::F32(pick(d, &offsets)),
        Some(Data::I8(d)) => Data::I8(pick(d, &offsets)),
        Some(Data::I16(d)) => Data::I16(pick(d, &offsets)),
        Some(Data::I32(d)) => Data::I32(pick(d, &offsets)),
        Some(Data::I64(d)) => Data::I64(pick(d, &offsets)),
        None => Data::F32(Vec::new()),
    }
}
