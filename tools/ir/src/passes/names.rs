//! Makes names of nodes unique: an import adds layout operators with the name of the node they belong to.

use std::collections::{HashMap, HashSet};

use crate::{Graph, Op};

/// Of several nodes with the same name one keeps it: the first with weights, otherwise the last, which writes the
/// node's result. The others get the names of their kinds appended.
pub(super) fn make_unique(mut graph: Graph) -> Graph {
    let mut owner: HashMap<String, usize> = HashMap::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        let weighted = |op: &Op| {
            matches!(op, Op::Conv2d { .. } | Op::ConvTranspose2d { .. } | Op::FullyConnected { .. })
        };
        let keeps = owner.get(&node.name).is_some_and(|&before| weighted(&graph.nodes[before].op));
        if !keeps {
            owner.insert(node.name.clone(), at);
        }
    }
    let mut taken: HashSet<String> = owner.keys().cloned().collect();
    // Last number given to each name: thousands of nodes may share one.
    let mut last: HashMap<String, usize> = HashMap::new();
    for (at, node) in graph.nodes.iter_mut().enumerate() {
        if owner.get(&node.name) == Some(&at) {
            continue;
        }
        let base = format!("{}/{}", node.name, node.op.name());
        let number = last.entry(base.clone()).or_insert(0);
        node.name = loop {
            *number += 1;
            let name = if *number == 1 { base.clone() } else { format!("{base}_{number}") };
            if !taken.contains(&name) {
                break name;
            }
        };
        taken.insert(node.name.clone());
    }
    graph
}

#[cfg(test)]
mod tests {
    use super::super::testing::Build;
    use super::*;
    use crate::Activation;

    #[test]
    fn the_layer_with_weights_keeps_its_name() {
        let mut b = Build::default();
        let x = b.input(&[1, 4]);
        let r = b.node(Op::Reshape, &[x], &[4]);
        let r = b.node(Op::Reshape, &[r], &[1, 4]);
        let w = b.constant(&[2, 4], vec![1.0; 8]);
        let y = b.node(Op::FullyConnected { activation: Activation::None }, &[r, w], &[1, 2]);
        let z = b.node(Op::Reshape, &[y], &[2]);
        let mut g = b.finish(&[z]);
        g.nodes.iter_mut().for_each(|n| n.name = "layer".into());
        let g = make_unique(g);
        let names: Vec<&str> = g.nodes.iter().map(|n| n.name.as_str()).collect();
        assert_eq!(names, ["layer/reshape", "layer/reshape_2", "layer", "layer/reshape_3"]);
        assert_eq!(make_unique(g.clone()), g);
    }
}
