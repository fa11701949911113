//! Smaller kernels: the centre of the full kernel, with correspondingly less padding.

use std::sync::Arc;

use offshoot_ir::{Data, Graph, Op};

/// Crops the kernels of the named convolutions to `size` along each larger axis. Output extents stay the same.
pub(super) fn crop(graph: &mut Graph, operators: &[String], size: usize) -> Result<(), String> {
    for at in 0..graph.nodes.len() {
        if !operators.contains(&graph.nodes[at].name) {
            continue;
        }
        let node = &mut graph.nodes[at];
        let weights = node.inputs.get(1).copied();
        let Op::Conv2d { window, .. } = &mut node.op else {
            return Err(format!("`{}` is not a convolution", node.name));
        };
        let old = window.kernel.map(usize::from);
        let new = old.map(|k| k.min(size));
        if old == new {
            continue;
        }
        let mut first = [0; 2];
        for axis in 0..2 {
            let less = old[axis] - new[axis];
            let dilation = usize::from(window.dilation[axis]);
            first[axis] = less / 2;
            let (before, after) = (less / 2 * dilation, (less - less / 2) * dilation);
            let pads = (usize::from(window.pad[axis]), usize::from(window.pad[axis + 2]));
            let (Some(low), Some(high)) = (pads.0.checked_sub(before), pads.1.checked_sub(after)) else {
                return Err(format!(
                    "`{}` pads {} and {}, too little for its kernel of {} to shrink to {}",
                    node.name, pads.0, pads.1, old[axis], new[axis]
                ));
            };
            window.pad[axis] = low as u16;
            window.pad[axis + 2] = high as u16;
            window.kernel[axis] = new[axis] as u16;
        }
        let name = node.name.clone();
        let id = weights.ok_or_else(|| format!("`{name}` has no weights"))?;
        let value = graph.value_mut(id);
        let Some(Data::F32(data)) = value.data.as_deref() else {
            return Err(format!("the weights of `{name}` are not constant"));
        };
        let [o, kh, kw, i] = value.shape[..] else {
            return Err(format!("`{name}` has weights that are not [O, H, W, I]"));
        };
        let mut kept = Vec::with_capacity(o * new[0] * new[1] * i);
        for filter in 0..o {
            for y in first[0]..first[0] + new[0] {
                for x in first[1]..first[1] + new[1] {
                    let from = ((filter * kh + y) * kw + x) * i;
                    kept.extend_from_slice(&data[from..from + i]);
                }
            }
        }
        value.shape = vec![o, new[0], new[1], i];
        value.data = Some(Arc::new(Data::F32(kept)));
    }
    Ok(())
}
