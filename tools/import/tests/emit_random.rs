//! Random graphs written as ONNX and read back: the same numbers in the same shapes outside.

use ndarray::{ArrayD, IxDyn};
use offshoot_import::{emit, import_bytes};
use offshoot_ir::passes::lossless;
use offshoot_ir::{
    Activation, BinaryKind, DType, Data, Graph, Node, Op, PadMode, PoolKind, ReduceKind, ResizeRule,
    UnaryKind, Value, ValueId, Window,
};
use offshoot_reference::Executor;
use proptest::prelude::*;

/// A graph that grows operator by operator; all of it has the rank 4.
struct Growing {
    graph: Graph,
    last: ValueId,
}

impl Growing {
    fn new(shape: [usize; 4], names_collide: bool) -> Self {
        let mut graph = Graph::default();
        // Names as `emit` would make them.
        let name = if names_collide { "nchw/onnx1" } else { "in" };
        let last = graph.add_value(tensor(name, shape.to_vec()));
        graph.inputs.push(last);
        Self { graph, last }
    }

    fn shape(&self) -> [usize; 4] {
        self.graph.value(self.last).shape[..].try_into().unwrap()
    }

    fn numbers(&mut self, shape: &[usize], offset: f32) -> ValueId {
        let count = self.graph.values.len();
        let wave = |i: usize| ((i * 37 + 11 * count) % 101) as f32 / 101.0 - 0.5 + offset;
        let data = (0..shape.iter().product()).map(wave).collect();
        self.graph.add_constant(format!("weights/onnx{count}"), shape.to_vec(), Data::F32(data))
    }

    fn push(&mut self, op: Op, more: Vec<ValueId>, shape: [usize; 4]) {
        let count = self.graph.nodes.len();
        let output = self.graph.add_value(tensor(&format!("v{count}"), shape.to_vec()));
        let inputs = [vec![self.last], more].concat();
        self.graph.nodes.push(Node { name: format!("n{count}"), op, inputs, output });
        self.last = output;
    }

    fn grow(&mut self, kind: u8, detail: u8) {
        let [n, h, w, c] = self.shape();
        let d = usize::from(detail);
        let activation =
            [Activation::None, Activation::Relu, Activation::Clip { min: -0.2, max: 0.4 }][d % 3];
        let window = Window { kernel: [2, 3], stride: [1, 1], dilation: [1, 1], pad: [1, 0, 0, 2] };
        match kind % 16 {
            0 => {
                let (weights, bias) = (self.numbers(&[3, 2, 3, c], 0.0), self.numbers(&[3], 0.0));
                self.push(Op::Conv2d { window, groups: 1, activation }, vec![weights, bias], [n, h, w, 3]);
            }
            1 => {
                let weights = self.numbers(&[c, 2, 3, 1], 0.0);
                self.push(Op::Conv2d { window, groups: c, activation }, vec![weights], [n, h, w, c]);
            }
            2 if h * w < 60 => {
                let window = Window { kernel: [2, 2], stride: [2, 1], dilation: [1, 1], pad: [0, 1, 0, 0] };
                let weights = self.numbers(&[2, 2, 2, c], 0.0);
                // One row more than the windows reach: output padding.
                let shape = [n, 2 * h + d % 2, w, 2];
                self.push(Op::ConvTranspose2d { window, groups: 1, activation }, vec![weights], shape);
            }
            3 => {
                let slopes = self.numbers(&[c], 0.0);
                self.push(Op::PRelu, vec![slopes], [n, h, w, c]);
            }
            4 => {
                let kinds = [
                    UnaryKind::HardSwish,
                    UnaryKind::Gelu,
                    UnaryKind::GeluTanh,
                    UnaryKind::Elu { alpha: 0.7 },
                ];
                self.push(Op::Unary(kinds[d % 4]), vec![], [n, h, w, c]);
            }
            5 => {
                let kind = [PoolKind::Average, PoolKind::AverageIncludePad, PoolKind::Max][d % 3];
                let window = Window { kernel: [2, 2], stride: [1, 1], dilation: [1, 1], pad: [0, 1, 1, 0] };
                self.push(Op::Pool { kind, window, activation }, vec![], [n, h, w, c]);
            }
            6 => {
                let rest = [0.0, 0.0, 0.0, 1.5].map(|offset| self.numbers(&[c], offset));
                self.push(Op::BatchNorm { epsilon: 1e-3 }, rest.to_vec(), [n, h, w, c]);
            }
            7 => {
                let rest = [1.0, 0.0].map(|offset| self.numbers(&[c], offset));
                self.push(Op::LayerNorm { epsilon: 1e-2 }, rest.to_vec(), [n, h, w, c]);
            }
            8 => {
                let kind = [BinaryKind::Add, BinaryKind::Sub, BinaryKind::Mul, BinaryKind::Max][d % 4];
                let other = if d % 5 == 0 { self.last } else { self.numbers(&[w, 1], 0.0) };
                self.push(Op::Binary { kind, activation }, vec![other], [n, h, w, c]);
            }
            9 if h > 1 && w > 1 => {
                let mode = [None, Some(PadMode::Reflect), Some(PadMode::Edge)][d % 3];
                let op = Op::Pad { before: vec![0, 1, 0, 0], after: vec![0, 0, 1, 0], mode, value: 0.5 };
                self.push(op, vec![], [n, h + 1, w + 1, c]);
            }
            10 if w > 2 => {
                let op = Op::Slice { start: vec![0, h - 1, 1, 0], step: vec![1, -1, 1, 1] };
                self.push(op, vec![], [n, h, w - 1, c]);
            }
            11 => self.push(Op::Transpose { perm: vec![0, 2, 1, 3] }, vec![], [n, w, h, c]),
            12 if c < 8 => self.push(Op::Concat { axis: 3 }, vec![self.last], [n, h, w, 2 * c]),
            13 if h * w < 40 => {
                let (coordinate, nearest) = ("half_pixel".into(), "round_prefer_floor".into());
                let rule = ResizeRule {
                    bilinear: d % 2 == 0,
                    coordinate,
                    nearest,
                    scale: [2.0, 1.0],
                    rounded_steps: false,
                };
                self.push(Op::Resize(rule), vec![], [n, 2 * h, w, c]);
            }
            14 => {
                let weights = self.numbers(&[3, c], 0.0);
                self.push(Op::FullyConnected { activation }, vec![weights], [n, h, w, 3]);
            }
            15 => {
                let kind = [ReduceKind::Mean, ReduceKind::Max][d % 2];
                self.push(Op::Reduce { kind, axes: vec![3] }, vec![], [n, h, w, 1]);
            }
            _ => self.push(Op::Softmax { axis: 3 }, vec![], [n, h, w, c]),
        }
    }
}

fn tensor(name: &str, shape: Vec<usize>) -> Value {
    Value {
        name: name.into(),
        shape,
        dtype: DType::F32,
        quant: None,
        data: None,
        channels_first_outside: false,
    }
}

/// To the order outside.
fn outside(value: &Value, x: ArrayD<f32>) -> ArrayD<f32> {
    match value.channels_first_outside {
        true => x.permuted_axes(IxDyn(&[0, 3, 1, 2])).as_standard_layout().into_owned(),
        false => x,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_numbers_come_back(
        operators in prop::collection::vec((any::<u8>(), any::<u8>()), 1..7),
        extents in (2usize..5, 2usize..5, 1usize..4),
        first in any::<[bool; 2]>(),
        collide in any::<bool>(),
    ) {
        let mut growing = Growing::new([1, extents.0, extents.1, extents.2], collide);
        operators.iter().for_each(|(kind, detail)| growing.grow(*kind, *detail));
        let Growing { mut graph, last } = growing;
        graph.outputs.push(last);
        let input = graph.inputs[0];
        graph.value_mut(input).channels_first_outside = first[0];
        graph.value_mut(last).channels_first_outside = first[1];
        graph.validate().unwrap();
        let value = graph.value(input);
        let wave = (0..value.len()).map(|i| ((i * 29 + 5) % 47) as f32 / 20.0 - 1.1).collect();
        let x = ArrayD::from_shape_vec(value.shape.clone(), wave).unwrap();
        let wanted = Executor::new(&graph).unwrap().run(std::slice::from_ref(&x)).unwrap();
        let wanted = outside(graph.value(last), wanted.into_iter().next().unwrap());

        let back = import_bytes(&emit(&graph).unwrap(), "back").unwrap();
        prop_assert_eq!(&back.value(back.inputs[0]).name, &graph.value(input).name);
        prop_assert_eq!(&back.value(back.outputs[0]).name, &graph.value(last).name);
        let found = Executor::new(&back).unwrap().run(&[outside(graph.value(input), x)]).unwrap();
        prop_assert_eq!(found[0].shape(), wanted.shape());
        for (a, b) in wanted.iter().zip(&found[0]) {
            prop_assert!((a - b).abs() <= 1e-4 * (1.0 + a.abs()), "{} instead of {}", b, a);
        }
        // Once more after the passes, which move the order of axes to the ends.
        let (clean, _) = lossless(back).unwrap();
        let again = import_bytes(&emit(&clean).unwrap(), "again").unwrap();
        prop_assert_eq!(&again.value(again.outputs[0]).shape[..], wanted.shape());
    }
}
