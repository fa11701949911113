//! Merges zero padding along height and width into the windows that read it: convolutions, and averages that count
//! the padding.

use super::edit::{self, Index};
use crate::{Graph, Op, PoolKind, Result, Window};

/// Runs the pass; see the module documentation.
///
/// # Errors
/// None; all passes share this signature.
pub(super) fn run(graph: Graph) -> Result<Graph> {
    Ok(edit::repeat(graph, |g| {
        let index = Index::new(g);
        (0..g.nodes.len()).any(|at| step(g, &index, at))
    }))
}

fn step(g: &mut Graph, index: &Index, at: usize) -> bool {
    let node = &g.nodes[at];
    let Op::Pad { before, after, mode: None, value } = &node.op else {
        return false;
    };
    let (x, out) = (node.inputs[0], node.output);
    let spatial = before.len() == 4 && [0, 3].iter().all(|&a| before[a] == 0 && after[a] == 0);
    let same_numbers = g.value(x).quant == g.value(out).quant;
    if *value != 0.0 || !spatial || !same_numbers || index.is_output(out) {
        return false;
    }
    let extra = [before[1], before[2], after[1], after[2]];
    let readers = g.consumers(out);
    let mut widened = Vec::with_capacity(readers.len());
    for &reader in &readers {
        let node = &g.nodes[reader];
        if node.inputs[0] != out || node.inputs[1..].contains(&out) {
            return false;
        }
        match window(&node.op).and_then(|w| wider(w, extra)) {
            Some(w) => widened.push(w),
            None => return false,
        }
    }
    for (&reader, w) in readers.iter().zip(&widened) {
        let node = &mut g.nodes[reader];
        node.inputs[0] = x;
        match &mut node.op {
            Op::Conv2d { window, .. } => *window = *w,
            Op::Pool { window, kind, .. } => {
                *window = *w;
                *kind = PoolKind::AverageIncludePad;
            }
            _ => {}
        }
    }
    !readers.is_empty()
}

/// The window of an operator whose padding counts as zeros. An average without padding may become one that counts it.
fn window(op: &Op) -> Option<&Window> {
    match op {
        Op::Conv2d { window, .. } | Op::Pool { kind: PoolKind::AverageIncludePad, window, .. } => {
            Some(window)
        }
        Op::Pool { kind: PoolKind::Average, window, .. } if window.pad == [0; 4] => Some(window),
        _ => None,
    }
}

/// `window` with `extra` padding; `None` if a window would no longer touch the input.
fn wider(window: &Window, extra: [usize; 4]) -> Option<Window> {
    let mut wide = *window;
    for (i, &e) in extra.iter().enumerate() {
        wide.pad[i] = u16::try_from(e).ok().and_then(|e| wide.pad[i].checked_add(e))?;
        let axis = i % 2;
        let span = (u32::from(window.kernel[axis]) - 1) * u32::from(window.dilation[axis]) + 1;
        if u32::from(wide.pad[i]) >= span {
            return None;
        }
    }
    Some(wide)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, names};
    use super::*;
    use crate::Activation;

    fn graph(value: f32) -> Graph {
        let mut b = Build::default();
        let x = b.input(&[1, 4, 4, 2]);
        let pad = Op::Pad { before: vec![0, 1, 0, 0], after: vec![0, 1, 2, 0], mode: None, value };
        let y = b.node(pad, &[x], &[1, 6, 6, 2]);
        let w = b.ramp(&[1, 3, 3, 2]);
        let op = Op::Conv2d {
            window: Window { kernel: [3; 2], stride: [1; 2], dilation: [1; 2], pad: [0; 4] },
            groups: 1,
            activation: Activation::None,
        };
        let y = b.node(op, &[y, w], &[1, 4, 4, 1]);
        b.finish(&[y])
    }

    #[test]
    fn zeros_go_into_the_window() {
        let g = run(graph(0.0)).expect("runs");
        assert_eq!(names(&g), ["conv2d"]);
        assert!(matches!(&g.nodes[0].op, Op::Conv2d { window, .. } if window.pad == [1, 0, 1, 2]));
    }

    #[test]
    fn other_values_stay() {
        assert_eq!(names(&run(graph(1.0)).expect("runs")), ["pad", "conv2d"]);
    }
}
