//! The same network on smaller images.

use std::collections::HashMap;

use offshoot_ir::infer::infer_shape;
use offshoot_ir::{Graph, Op};

/// Resizes the first input to height `height` and a proportional width; all shapes follow. Pools over a whole image
/// still cover it; sequences of all pixels change their length.
pub(super) fn resize(graph: &mut Graph, height: usize) -> Result<(), String> {
    let input = *graph.inputs.first().ok_or("the network has no input")?;
    let [n, h, w, c] = graph.value(input).shape[..] else {
        return Err(format!("the input {:?} is not an image", graph.value(input).shape));
    };
    if height == h {
        return Ok(());
    }
    if height == 0 || height > h {
        return Err(format!("height {height} for an input of height {h}"));
    }
    let width = ((w * height) as f64 / h as f64).round().max(1.0) as usize;
    let old: Vec<Vec<usize>> = graph.values.iter().map(|v| v.shape.clone()).collect();
    graph.value_mut(input).shape = vec![n, height, width, c];
    // For sequences of pixels, the image that they represent, before and after.
    let mut grids: HashMap<usize, [[usize; 2]; 2]> = HashMap::new();
    for at in 0..graph.nodes.len() {
        let node = &graph.nodes[at];
        let (x, y) = (node.inputs[0].0 as usize, node.output.0 as usize);
        let now = graph.values[x].shape.clone();
        let mut declared = old[y].clone();
        let mut op = node.op.clone();
        match &mut op {
            Op::Pool { window, .. } if old[x].len() == 4 => {
                let whole = window.kernel.map(usize::from) == [old[x][1], old[x][2]] && window.pad == [0; 4];
                if whole {
                    window.kernel = [now[1] as u16, now[2] as u16];
                }
            }
            Op::Reshape => {
                if let (&[_, oh, ow, _], &[_, nh, nw, _]) = (&old[x][..], &now[..])
                    && declared.contains(&(oh * ow))
                    && oh * ow > 1
                {
                    grids.insert(oh * ow, [[oh, ow], [nh, nw]]);
                }
                for (&pixels, &[[oh, ow], [nh, nw]]) in &grids {
                    if let Some(i) =
                        declared.windows(2).position(|d| d == [oh, ow]).filter(|_| old[x].contains(&pixels))
                    {
                        declared[i] = nh;
                        declared[i + 1] = nw;
                    } else if let Some(i) = declared.iter().position(|&d| d == pixels) {
                        declared[i] = nh * nw;
                    }
                }
            }
            _ => {}
        }
        let inputs: Vec<_> = node.inputs.iter().map(|&id| graph.value(id)).collect();
        let shape = infer_shape(&op, &inputs, &declared)
            .map_err(|e| format!("height {height} at operator `{}`: {e}", node.name))?;
        graph.values[y].shape = shape;
        graph.nodes[at].op = op;
    }
    Ok(())
}
