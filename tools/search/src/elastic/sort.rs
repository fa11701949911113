//! Sorts channels by importance, so that prefixes hold the important ones.

use std::sync::Arc;

use offshoot_compress::prune::Groups;
use offshoot_ir::{Data, Graph, ValueId};

use super::classes;

/// `graph` with the channels of every class of interchangeable groups in descending order of `scores` (one per
/// group): the same function with permuted weights.
#[must_use]
pub fn sort(graph: &Graph, groups: &Groups, scores: &[f64]) -> Graph {
    // For each group, the group whose weights it gets.
    let mut from: Vec<usize> = (0..groups.len()).collect();
    for class in classes(graph, groups) {
        let mut ranked = class.groups.clone();
        ranked.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        class.groups.iter().zip(ranked).for_each(|(&g, source)| from[g] = source);
    }
    let mut out = graph.clone();
    for index in 0..graph.values.len() {
        let id = ValueId(index as u32);
        let value = graph.value(id);
        let Some(Data::F32(data)) = value.data.as_deref() else { continue };
        let mut offsets = vec![0_usize];
        let mut moved = false;
        for (axis, &extent) in value.shape.iter().enumerate() {
            let indices = order(groups.along(id, axis), extent, &from);
            moved |= indices.iter().enumerate().any(|(i, &s)| i != s);
            offsets = offsets.iter().flat_map(|o| indices.iter().map(move |i| o * extent + i)).collect();
        }
        if moved {
            let data = offsets.iter().map(|&o| data[o]).collect();
            out.value_mut(id).data = Some(Arc::new(Data::F32(data)));
        }
    }
    out
}

/// Old index of each new index along an axis: the n-th occurrence of a group takes the n-th occurrence of its source.
fn order(along: Option<&[usize]>, extent: usize, from: &[usize]) -> Vec<usize> {
    let Some(along) = along else { return (0..extent).collect() };
    let mut places: std::collections::HashMap<usize, Vec<usize>> = std::collections::HashMap::new();
    along.iter().enumerate().for_each(|(i, &g)| places.entry(g).or_default().push(i));
    let mut seen: std::collections::HashMap<usize, usize> = std::collections::HashMap::new();
    let index = |g: usize, n: usize| places.get(&from[g]).and_then(|p| p.get(n)).copied();
    along
        .iter()
        .enumerate()
        .map(|(i, &g)| {
            let n = seen.entry(g).or_insert(0);
            *n += 1;
            // Interchangeable groups have equally many indices on every axis.
            index(g, *n - 1).unwrap_or(i)
        })
        .collect()
}
