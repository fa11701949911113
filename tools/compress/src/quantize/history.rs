//! Operators that keep something from sample to sample: the last steps of a tensor, and a front end's estimate of the noise.

use ndarray::{ArrayD, Axis, Slice, concatenate};
use offshoot_ir::{Graph, Node, Op};

use super::tensors::Batch;

/// Runs `node`, for which [`Op::keeps_state`] holds, on samples one after the other, `length` to a sequence.
pub(super) fn run(
    graph: &Graph,
    node: &Node,
    batch: &Batch,
    length: usize,
) -> Result<Batch, Box<dyn std::error::Error + Send + Sync>> {
    let shape = &graph.value(node.output).shape;
    match &node.op {
        Op::History { axis, state, fill } => {
            let mut before = shape.clone();
            *before.get_mut(*axis).ok_or("an axis that its input does not have")? = *state;
            let fresh = ArrayD::from_elem(before, *fill);
            let mut kept = fresh.clone();
            let step = |(i, x): (usize, &ArrayD<f32>)| {
                if i % length.max(1) == 0 {
                    kept.assign(&fresh);
                }
                let y = concatenate(Axis(*axis), &[kept.view(), x.view()])?;
                let steps = y.shape()[*axis];
                kept = y.slice_axis(Axis(*axis), Slice::from(steps - state..)).to_owned();
                Ok(y)
            };
            batch.iter().enumerate().map(step).collect()
        }
        Op::MicroFrontend(settings) => {
            let mut noise = vec![0; settings.channels];
            let step = |(i, x): (usize, &ArrayD<f32>)| {
                if i % length.max(1) == 0 {
                    noise.fill(0);
                }
                Ok(offshoot_reference::micro_frontend_from(x, settings, shape, &mut noise)?)
            };
            batch.iter().enumerate().map(step).collect()
        }
        _ => Err("keeps nothing".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_ir::{DType, Value};

    #[test]
    fn the_last_steps_go_on_within_a_sequence() {
        let mut graph = Graph::default();
        let mut value = |name: &str, steps: usize| {
            graph.add_value(Value {
                name: name.into(),
                shape: vec![1, steps],
                dtype: DType::F32,
                quant: None,
                data: None,
                channels_first_outside: false,
            })
        };
        let (x, y) = (value("x", 2), value("y", 5));
        let op = Op::History { axis: 1, state: 3, fill: -1.0 };
        let node = Node { name: "h".into(), op, inputs: vec![x], output: y };
        let sample = |i: i32| ArrayD::from_shape_vec(vec![1, 2], vec![i as f32, i as f32 + 0.5]).unwrap();
        let batch: Batch = (0..3).map(sample).collect();
        let got = run(&graph, &node, &batch, 2).unwrap();
        let got: Vec<Vec<f32>> = got.into_iter().map(|a| a.into_iter().collect()).collect();
        assert_eq!(got[0], [-1.0, -1.0, -1.0, 0.0, 0.5]);
        assert_eq!(got[1], [-1.0, 0.0, 0.5, 1.0, 1.5]);
        assert_eq!(got[2], [-1.0, -1.0, -1.0, 2.0, 2.5]);
    }
}
