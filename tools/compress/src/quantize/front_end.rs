//! Front ends, which stay float32: samples of a signal and the values of a spectrum need more than 8 bits until their logarithm.

use offshoot_ir::{Activation, Graph, Op, UnaryKind};

/// How the names of the tensors of a front end begin that `offshoot frontend` has made.
pub const FRONT_END: &str = "frontend/";

/// For each node, whether it belongs to a front end: it computes what a Fourier transform reads; or it transforms; or it computes
/// from the transform without weights of the network, up to the logarithm; or the tensor that it completes has a name that
/// begins with [`FRONT_END`].
pub(crate) fn nodes(graph: &Graph) -> Vec<bool> {
    let read = signals(graph);
    let mut spectral = vec![false; graph.values.len()];
    let mut found = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let out = node.output.0 as usize;
        let of_spectrum = node.inputs.iter().any(|id| spectral[id.0 as usize]) && carries(&node.op);
        let spectrum = matches!(node.op, Op::Spectrum { .. });
        spectral[out] = spectrum || of_spectrum && !is_logarithm(&node.op);
        let named = graph.value(node.output).name.starts_with(FRONT_END);
        found.push(transforms(&node.op) || of_spectrum || read[out] || named);
    }
    found
}

/// For each value, whether a Fourier transform depends on it. Inputs of the network among them stay float32 in int8 networks too.
pub(crate) fn signals(graph: &Graph) -> Vec<bool> {
    let mut read = vec![false; graph.values.len()];
    for node in graph.nodes.iter().rev() {
        if transforms(&node.op) || read[node.output.0 as usize] {
            node.inputs.iter().for_each(|id| read[id.0 as usize] = true);
        }
    }
    read
}

fn transforms(op: &Op) -> bool {
    matches!(op, Op::Spectrum { .. } | Op::MicroFrontend(_))
}

/// Operators between a transform and the logarithm.
fn carries(op: &Op) -> bool {
    match op {
        Op::FullyConnected { activation } => *activation == Activation::None,
        Op::Reshape
        | Op::Transpose { .. }
        | Op::Slice { .. }
        | Op::Concat { .. }
        | Op::Pad { .. }
        | Op::Binary { .. }
        | Op::Unary(_)
        | Op::Reduce { .. } => true,
        _ => false,
    }
}

fn is_logarithm(op: &Op) -> bool {
    matches!(op, Op::Unary(UnaryKind::Log))
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_ir::{BinaryKind, DType, Data, Node, SpectrumPart, Value, ValueId};

    fn value(graph: &mut Graph, name: &str, shape: &[usize]) -> ValueId {
        let (name, shape) = (name.to_owned(), shape.to_vec());
        graph.add_value(Value {
            name,
            shape,
            dtype: DType::F32,
            quant: None,
            data: None,
            channels_first_outside: false,
        })
    }

    #[test]
    fn from_the_samples_to_the_logarithm_and_by_name() {
        let mut graph = Graph::default();
        let x = value(&mut graph, "x", &[1, 64]);
        graph.inputs.push(x);
        let w = graph.add_constant("w", vec![4, 17], Data::F32(vec![1.0; 68]));
        let v = graph.add_constant("v", vec![4, 4], Data::F32(vec![1.0; 16]));
        let linear = Op::FullyConnected { activation: Activation::None };
        let twice = Op::Binary { kind: BinaryKind::Add, activation: Activation::None };
        let spectrum = Op::Spectrum { frame: 32, hop: 16, size: 32, part: SpectrumPart::Power };
        let mut last = x;
        for (name, op, second, shape) in [
            ("scaled", twice, Some(x), &[1, 64][..]),
            ("spectrum", spectrum, None, &[1, 3, 17]),
            ("mel", linear.clone(), Some(w), &[1, 3, 4]),
            ("log", Op::Unary(UnaryKind::Log), None, &[1, 3, 4]),
            ("frontend/cepstrum", linear.clone(), Some(v), &[1, 3, 4]),
            ("first", linear, Some(v), &[1, 3, 4]),
        ] {
            let output = value(&mut graph, name, shape);
            let inputs = [last].into_iter().chain(second).collect();
            graph.nodes.push(Node { name: name.into(), op, inputs, output });
            last = output;
        }
        graph.outputs.push(last);
        graph.validate().unwrap();
        assert_eq!(nodes(&graph), [true, true, true, true, true, false]);
        assert!(signals(&graph)[x.0 as usize]);
    }
}
