//! Recurrent layers against the same layer unrolled into matrix products, sums and functions.

use ndarray::{ArrayD, IxDyn};
use offshoot_ir::{
    Activation, BinaryKind, DType, Data, Graph, Node, Op, RecurrentKind, Returns, UnaryKind, Value, ValueId,
};
use offshoot_reference::Executor;
use proptest::prelude::*;

/// Numbers in -1 to 1 that look random.
fn wave(n: usize, phase: f32) -> Vec<f32> {
    (0..n).map(|i| ((i * i) as f32 * 0.731 + i as f32 * 1.37 + phase).sin()).collect()
}

struct Build(Graph);

impl Build {
    fn value(&mut self, shape: &[usize]) -> ValueId {
        let name = format!("v{}", self.0.values.len());
        let shape = shape.to_vec();
        let value =
            Value { name, shape, dtype: DType::F32, quant: None, data: None, channels_first_outside: false };
        self.0.add_value(value)
    }

    fn constant(&mut self, shape: &[usize], data: Vec<f32>) -> ValueId {
        let name = format!("v{}", self.0.values.len());
        self.0.add_constant(name, shape.to_vec(), Data::F32(data))
    }

    fn node(&mut self, op: Op, inputs: &[ValueId], shape: &[usize]) -> ValueId {
        let output = self.value(shape);
        let name = format!("n{}", self.0.nodes.len());
        self.0.nodes.push(Node { name, op, inputs: inputs.to_vec(), output });
        output
    }

    fn binary(&mut self, kind: BinaryKind, a: ValueId, b: ValueId) -> ValueId {
        let shape = self.0.value(a).shape.clone();
        self.node(Op::Binary { kind, activation: Activation::None }, &[a, b], &shape)
    }

    fn unary(&mut self, kind: UnaryKind, a: ValueId) -> ValueId {
        let shape = self.0.value(a).shape.clone();
        self.node(Op::Unary(kind), &[a], &shape)
    }
}

/// Extents and weights of a layer.
struct Layer {
    kind: RecurrentKind,
    samples: usize,
    steps: usize,
    inputs: usize,
    units: usize,
    phase: f32,
}

impl Layer {
    fn parts(&self) -> [Vec<f32>; 3] {
        let (rows, biases) = (self.kind.gates() * self.units, self.kind.biases() * self.units);
        [
            wave(rows * self.inputs, self.phase),
            wave(rows * self.units, self.phase + 1.0),
            wave(biases, self.phase + 2.0),
        ]
    }

    fn start(&self) -> (Build, ValueId) {
        let mut b = Build(Graph::default());
        let x = b.value(&[self.samples, self.steps, self.inputs]);
        b.0.inputs.push(x);
        (b, x)
    }

    fn whole(&self, returns: Returns, reverse: bool) -> Graph {
        let (mut b, x) = self.start();
        let (rows, biases) = (self.kind.gates() * self.units, self.kind.biases() * self.units);
        let [w, r, bias] = self.parts();
        let w = b.constant(&[rows, self.inputs], w);
        let r = b.constant(&[rows, self.units], r);
        let bias = b.constant(&[biases], bias);
        let shape = match returns {
            Returns::Sequence => vec![self.samples, self.steps, self.units],
            Returns::Last => vec![self.samples, self.units],
            Returns::State => vec![self.samples, 2 * self.units],
        };
        let y = b.node(Op::Recurrent { kind: self.kind, returns, reverse }, &[x, w, r, bias], &shape);
        b.0.outputs.push(y);
        b.0
    }

    /// `block · v + bias block`, of rows of a gate.
    fn gate(&self, b: &mut Build, weights: &[f32], gate: usize, v: ValueId, bias: Option<usize>) -> ValueId {
        let width = *b.0.value(v).shape.last().unwrap();
        let rows = self.units;
        let part = weights[gate * rows * width..][..rows * width].to_vec();
        let mut inputs = vec![v, b.constant(&[rows, width], part)];
        if let Some(at) = bias {
            let all = &self.parts()[2];
            inputs.push(b.constant(&[rows], all[at * rows..][..rows].to_vec()));
        }
        b.node(Op::FullyConnected { activation: Activation::None }, &inputs, &[self.samples, rows])
    }

    /// The states of every step, joined: `[samples, steps, units]`, and the memory last.
    fn unrolled(&self, reverse: bool) -> Graph {
        use BinaryKind::{Add, Mul, Sub};
        let (mut b, x) = self.start();
        let [w, r, _] = self.parts();
        let zeros = vec![0.0; self.samples * self.units];
        let mut h = b.constant(&[self.samples, self.units], zeros.clone());
        let mut memory = b.constant(&[self.samples, self.units], zeros.clone());
        let one = b.constant(&[self.samples, self.units], vec![1.0; zeros.len()]);
        let mut states = vec![None; self.steps];
        for step in 0..self.steps {
            let t = if reverse { self.steps - 1 - step } else { step };
            let slice = Op::Slice { start: vec![0, t, 0], step: vec![1; 3] };
            let x = b.node(slice, &[x], &[self.samples, 1, self.inputs]);
            let x = b.node(Op::Reshape, &[x], &[self.samples, self.inputs]);
            let sum = |b: &mut Build, gate: usize, h: ValueId| {
                let of_input = self.gate(b, &w, gate, x, Some(gate));
                let of_state = self.gate(b, &r, gate, h, None);
                b.binary(Add, of_input, of_state)
            };
            match self.kind {
                RecurrentKind::Tanh => {
                    let z = sum(&mut b, 0, h);
                    h = b.unary(UnaryKind::Tanh, z);
                }
                RecurrentKind::Relu => {
                    let z = sum(&mut b, 0, h);
                    h = b.unary(UnaryKind::Clip { min: 0.0, max: f32::INFINITY }, z);
                }
                RecurrentKind::Gru | RecurrentKind::GruResetAfter => {
                    let [u, reset] = [0, 1].map(|gate| {
                        let z = sum(&mut b, gate, h);
                        b.unary(UnaryKind::Sigmoid, z)
                    });
                    let z = if self.kind == RecurrentKind::Gru {
                        let pulled = b.binary(Mul, reset, h);
                        sum(&mut b, 2, pulled)
                    } else {
                        let of_input = self.gate(&mut b, &w, 2, x, Some(2));
                        let of_state = self.gate(&mut b, &r, 2, h, Some(3));
                        let pulled = b.binary(Mul, reset, of_state);
                        b.binary(Add, of_input, pulled)
                    };
                    let c = b.unary(UnaryKind::Tanh, z);
                    let kept = b.binary(Mul, u, h);
                    let rest = b.binary(Sub, one, u);
                    let new = b.binary(Mul, rest, c);
                    h = b.binary(Add, kept, new);
                }
                RecurrentKind::Lstm => {
                    let [i, f, o] = [0, 1, 2].map(|gate| {
                        let z = sum(&mut b, gate, h);
                        b.unary(UnaryKind::Sigmoid, z)
                    });
                    let z = sum(&mut b, 3, h);
                    let g = b.unary(UnaryKind::Tanh, z);
                    let (kept, new) = (b.binary(Mul, f, memory), b.binary(Mul, i, g));
                    memory = b.binary(Add, kept, new);
                    let out = b.unary(UnaryKind::Tanh, memory);
                    h = b.binary(Mul, o, out);
                }
            }
            states[t] = Some(b.node(Op::Reshape, &[h], &[self.samples, 1, self.units]));
        }
        let states: Vec<ValueId> = states.into_iter().flatten().collect();
        let all = b.node(Op::Concat { axis: 1 }, &states, &[self.samples, self.steps, self.units]);
        b.0.outputs = vec![all, h];
        if self.kind == RecurrentKind::Lstm {
            b.0.outputs.push(memory);
        }
        b.0
    }
}

fn close(a: &[f32], b: &[f32]) -> Result<(), TestCaseError> {
    prop_assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        prop_assert!((a - b).abs() < 1e-5 * b.abs().max(1.0), "{} {}", a, b);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_layer_is_its_steps(
        kind in prop::sample::select(vec![
            RecurrentKind::Tanh,
            RecurrentKind::Relu,
            RecurrentKind::Gru,
            RecurrentKind::GruResetAfter,
            RecurrentKind::Lstm,
        ]),
        samples in 1usize..3,
        steps in 1usize..6,
        inputs in 1usize..5,
        units in 1usize..6,
        phase in 0.0f32..9.0,
        reverse in any::<bool>(),
    ) {
        let layer = Layer { kind, samples, steps, inputs, units, phase };
        let shape = IxDyn(&[samples, steps, inputs]);
        let x = ArrayD::from_shape_vec(shape, wave(samples * steps * inputs, phase + 3.0)).unwrap();
        let run = |g: &Graph| Executor::new(g).unwrap().run(std::slice::from_ref(&x)).unwrap();
        let flat = |a: &ArrayD<f32>| a.iter().copied().collect::<Vec<f32>>();
        let steps = run(&layer.unrolled(reverse));
        close(&flat(&run(&layer.whole(Returns::Sequence, reverse))[0]), &flat(&steps[0]))?;
        close(&flat(&run(&layer.whole(Returns::Last, reverse))[0]), &flat(&steps[1]))?;
        if kind == RecurrentKind::Lstm {
            let both = run(&layer.whole(Returns::State, reverse)).remove(0);
            for (s, row) in both.outer_iter().enumerate() {
                let row: Vec<f32> = row.iter().copied().collect();
                close(&row[..units], &flat(&steps[1])[s * units..][..units])?;
                close(&row[units..], &flat(&steps[2])[s * units..][..units])?;
            }
        }
    }
}
