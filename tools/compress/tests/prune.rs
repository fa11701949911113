//! Deleting groups of channels against masking them: the small graph and the big one with zeros give equal outputs.

use ndarray::{ArrayD, IxDyn};
use offshoot_compress::prune::{Groups, Split, masked, slice};
use offshoot_ir::passes::lossless;
use offshoot_ir::{
    Activation, BinaryKind, DType, Data, Graph, Node, Op, PoolKind, ReduceKind, UnaryKind, Value, ValueId,
    Window,
};
use offshoot_reference::Executor;
use proptest::prelude::*;

/// A graph that grows operator by operator.
struct Build {
    graph: Graph,
    state: u64,
}

impl Build {
    fn new(shape: &[usize], seed: u64) -> (Self, ValueId) {
        let mut graph = Graph::default();
        let input = graph.add_value(tensor("in", shape));
        graph.inputs.push(input);
        (Self { graph, state: seed }, input)
    }

    fn random(&mut self) -> f32 {
        // SplitMix64.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32 - 0.5
    }

    fn below(&mut self, n: usize) -> usize {
        ((self.random() + 0.5) * n as f32) as usize % n
    }

    fn weights(&mut self, shape: &[usize], offset: f32) -> ValueId {
        let data = (0..shape.iter().product()).map(|_| self.random() + offset).collect();
        let name = format!("w{}", self.graph.values.len());
        self.graph.add_constant(name, shape.to_vec(), Data::F32(data))
    }

    fn push(&mut self, op: Op, inputs: &[ValueId], shape: &[usize]) -> ValueId {
        let n = self.graph.nodes.len();
        let output = self.graph.add_value(tensor(&format!("v{n}"), shape));
        self.graph.nodes.push(Node { name: format!("n{n}"), op, inputs: inputs.to_vec(), output });
        output
    }

    fn shape(&self, x: ValueId) -> Vec<usize> {
        self.graph.value(x).shape.clone()
    }

    fn conv(&mut self, x: ValueId, filters: usize, kernel: u16, groups: usize) -> ValueId {
        let [n, h, w, c] = self.shape(x)[..].try_into().expect("an image");
        let k = usize::from(kernel);
        let pad = kernel / 2;
        let window = Window { kernel: [kernel; 2], stride: [1; 2], dilation: [1; 2], pad: [pad; 4] };
        let inputs = [x, self.weights(&[filters, k, k, c / groups], 0.0), self.weights(&[filters], 0.0)];
        let activation = [Activation::None, Activation::Relu][self.below(2)];
        self.push(Op::Conv2d { window, groups, activation }, &inputs, &[n, h, w, filters])
    }

    fn dense(&mut self, x: ValueId, outputs: usize) -> ValueId {
        let mut shape = self.shape(x);
        let columns = shape.pop().expect("an axis");
        let inputs = [x, self.weights(&[outputs, columns], 0.0), self.weights(&[outputs], 0.0)];
        shape.push(outputs);
        self.push(Op::FullyConnected { activation: Activation::None }, &inputs, &shape)
    }

    fn binary(&mut self, kind: BinaryKind, a: ValueId, b: ValueId) -> ValueId {
        let shape = self.shape(a);
        self.push(Op::Binary { kind, activation: Activation::None }, &[a, b], &shape)
    }

    /// Self-attention over rows `[1, t, c]`.
    fn attention(&mut self, x: ValueId, heads: usize) -> ValueId {
        let [n, t, c] = self.shape(x)[..].try_into().expect("rows");
        let d = c / heads;
        let apart = Op::Transpose { perm: vec![0, 2, 1, 3] };
        let [q, k, v] = [0; 3].map(|_| {
            let y = self.dense(x, c);
            let y = self.push(Op::Reshape, &[y], &[n, t, heads, d]);
            self.push(apart.clone(), &[y], &[n, heads, t, d])
        });
        let y = self.push(Op::MatMul { transpose_b: true }, &[q, k], &[n, heads, t, t]);
        let y = self.push(Op::Softmax { axis: 3 }, &[y], &[n, heads, t, t]);
        let y = self.push(Op::MatMul { transpose_b: false }, &[y, v], &[n, heads, t, d]);
        let y = self.push(apart, &[y], &[n, t, heads, d]);
        let y = self.push(Op::Reshape, &[y], &[n, t, c]);
        let y = self.dense(y, c);
        self.binary(BinaryKind::Add, x, y)
    }

    fn finish(mut self, y: ValueId) -> Graph {
        self.graph.outputs.push(y);
        self.graph.validate().expect("well formed");
        self.graph
    }
}

fn tensor(name: &str, shape: &[usize]) -> Value {
    Value {
        name: name.into(),
        shape: shape.to_vec(),
        dtype: DType::F32,
        quant: None,
        data: None,
        channels_first_outside: false,
    }
}

/// Deletes about `share` of what can go, and holds the small graph against the masked one. How many groups went.
fn check(graph: &Graph, split: Split, share: f32, seed: u64) -> usize {
    let groups = Groups::of(graph, split).expect("analysed");
    let (mut dice, _) = Build::new(&[1], seed);
    let mut removed = vec![false; groups.len()];
    for group in 0..groups.len() {
        removed[group] = dice.random() + 0.5 < share && groups.removable(&removed, group);
    }
    let inputs: Vec<ArrayD<f32>> = (graph.inputs.iter())
        .map(|&id| ArrayD::from_shape_simple_fn(IxDyn(&graph.value(id).shape), || dice.random() * 2.0))
        .collect();
    let run = |g: &Graph| Executor::new(g).expect("well formed").run(&inputs).expect("runs");
    let (big, small) = (masked(graph, &groups, &removed), slice(graph, &groups, &removed).expect("slices"));
    for (a, b) in run(&big).iter().zip(&run(&small)) {
        assert_eq!(a.shape(), b.shape());
        let largest = a.iter().fold(1.0_f32, |m, v| m.max(v.abs()));
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() <= 1e-4 * largest, "{a} and {b} in {removed:?} of {groups:?}");
        }
    }
    removed.iter().filter(|r| **r).count()
}

/// Random blocks over an image, then attention over its pixels or a head.
fn random_graph(seed: u64) -> Graph {
    let (mut b, x) = Build::new(&[1, 4, 4, 3], seed);
    let width = 4 * (1 + b.below(2));
    let mut x = b.conv(x, width, 3, 1);
    for _ in 0..1 + b.below(5) {
        let [n, h, w, c] = b.shape(x)[..].try_into().expect("an image");
        x = match b.below(12) {
            0 => {
                let inner = b.conv(x, 6, 1, 1);
                let y = b.conv(inner, c, 3, 1);
                b.binary(BinaryKind::Add, x, y)
            }
            1 => {
                let parts = [b.conv(x, 3, 1, 1), b.conv(x, 5, 3, 1), x];
                b.push(Op::Concat { axis: 3 }, &parts, &[n, h, w, c + 8])
            }
            2 => b.conv(x, c, 3, c),
            3 => b.conv(x, 2 * c, 3, c),
            4 if c.is_multiple_of(2) => b.conv(x, 6, 3, 2),
            5 => {
                // Squeeze and excitation (Hu et al. 2018).
                let y = b.push(Op::Reduce { kind: ReduceKind::Mean, axes: vec![1, 2] }, &[x], &[n, c]);
                let y = b.dense(y, 4);
                let y = b.push(Op::Unary(UnaryKind::HardSwish), &[y], &[n, 4]);
                let y = b.dense(y, c);
                let y = b.push(Op::Unary(UnaryKind::Sigmoid), &[y], &[n, c]);
                let y = b.push(Op::Reshape, &[y], &[n, 1, 1, c]);
                b.binary(BinaryKind::Mul, x, y)
            }
            6 => b.push(Op::Unary(UnaryKind::Sigmoid), &[x], &[n, h, w, c]),
            7 => {
                let rest = [0.0, 0.0, 0.0, 1.5].map(|offset| b.weights(&[c], offset));
                b.push(Op::BatchNorm { epsilon: 1e-3 }, &[&[x][..], &rest[..]].concat(), &[n, h, w, c])
            }
            8 => {
                let (before, after) = (vec![0, 0, 0, 1], vec![0, 0, 0, 2]);
                let y = b.push(Op::Pad { before, after, mode: None, value: 0.0 }, &[x], &[n, h, w, c + 3]);
                let z = b.conv(x, c + 3, 1, 1);
                b.binary(BinaryKind::Add, y, z)
            }
            9 => {
                let half = c / 2;
                let part = |from| Op::Slice { start: vec![0, 0, 0, from], step: vec![1; 4] };
                let p = b.push(part(0), &[x], &[n, h, w, half]);
                let q = b.push(part(half), &[x], &[n, h, w, c - half]);
                let p = b.conv(p, 4, 1, 1);
                b.push(Op::Concat { axis: 3 }, &[q, p], &[n, h, w, c - half + 4])
            }
            10 => {
                let (p, q) = (b.weights(&[c], 0.0), b.weights(&[c], 2.0));
                let y = b.binary(BinaryKind::Sub, x, p);
                let y = b.binary(BinaryKind::Div, y, q);
                let slope = b.weights(&[c], 0.0);
                b.push(Op::PRelu, &[y, slope], &[n, h, w, c])
            }
            _ => {
                let window = Window { kernel: [2; 2], stride: [1; 2], dilation: [1; 2], pad: [0, 0, 1, 1] };
                let op = Op::Pool { kind: PoolKind::Max, window, activation: Activation::None };
                b.push(op, &[x], &[n, h, w, c])
            }
        };
    }
    let [_, h, w, c] = b.shape(x)[..].try_into().expect("an image");
    if b.below(2) == 0 && c.is_multiple_of(2) {
        let y = b.push(Op::Reshape, &[x], &[1, h * w, c]);
        let y = b.attention(y, 2);
        let kernel = b.weights(&[1, c, 5], 0.0);
        let y = b.push(Op::MatMul { transpose_b: false }, &[y, kernel], &[1, h * w, 5]);
        x = b.push(Op::Reshape, &[y], &[1, h * w * 5]);
    } else {
        x = b.push(Op::Reshape, &[x], &[1, h * w * c]);
    }
    let y = b.dense(x, 7);
    let y = b.dense(y, 3);
    let y = b.push(Op::Softmax { axis: 1 }, &[y], &[1, 3]);
    b.finish(y)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn a_sliced_graph_computes_what_the_masked_one_does(seed in any::<u64>(), share in 0.1_f32..0.9, heads in any::<bool>()) {
        let split = if heads { Split::Heads } else { Split::Dimensions };
        let graph = random_graph(seed);
        prop_assert!(check(&graph, split, share, seed ^ 1) > 0 || share < 0.3);
    }
}

/// A transformer block: dimensions of heads and whole heads both go; the residual stream that is normalised does not.
#[test]
fn attention_loses_dimensions_or_heads() {
    let (mut b, x) = Build::new(&[1, 5, 6], 3);
    let x = b.dense(x, 8);
    let (gamma, beta) = (b.weights(&[8], 1.0), b.weights(&[8], 0.0));
    let y = b.push(Op::LayerNorm { epsilon: 1e-5 }, &[x, gamma, beta], &[1, 5, 8]);
    let y = b.attention(y, 4);
    let y = b.dense(y, 3);
    let graph = b.finish(y);
    for (split, free) in [(Split::Dimensions, [2, 2]), (Split::Heads, [4, 4])] {
        let groups = Groups::of(&graph, split).expect("analysed");
        let sizes: Vec<usize> = (groups.families.iter())
            .filter(|f| groups.refusal(f).is_none())
            .map(|f| f.groups.len())
            .collect();
        match split {
            // Queries with keys; values.
            Split::Dimensions => assert_eq!(sizes, free),
            // Queries, keys and values together.
            Split::Heads => assert_eq!(sizes, free[..1]),
        }
        let normalised = groups.refusal(&groups.families[0]).expect("fixed");
        assert!(normalised.contains("normalised"), "{normalised}");
        assert!(check(&graph, split, 0.5, 1) > 0);
    }
}

/// Units of a recurrent layer go with their rows of every gate and their column of the state's weights; given states stay.
#[test]
fn recurrent_layers_lose_units() {
    use offshoot_ir::{RecurrentKind, Returns};
    for kind in [
        RecurrentKind::Tanh,
        RecurrentKind::Relu,
        RecurrentKind::Gru,
        RecurrentKind::GruResetAfter,
        RecurrentKind::Lstm,
    ] {
        let (mut b, x) = Build::new(&[1, 5, 3], 11);
        let layer = |b: &mut Build, x: ValueId, units: usize, returns| {
            let inputs = b.shape(x)[2];
            let (rows, biases) = (kind.gates() * units, kind.biases() * units);
            let own = [
                x,
                b.weights(&[rows, inputs], 0.0),
                b.weights(&[rows, units], 0.0),
                b.weights(&[biases], 0.0),
            ];
            let shape = match returns {
                Returns::Sequence => vec![1, 5, units],
                Returns::Last => vec![1, units],
                Returns::State => vec![1, 2 * units],
            };
            b.push(Op::Recurrent { kind, returns, reverse: false }, &own, &shape)
        };
        let y = layer(&mut b, x, 6, Returns::Sequence);
        let last = if kind == RecurrentKind::Lstm { Returns::State } else { Returns::Last };
        let y = layer(&mut b, y, 5, last);
        let y = b.dense(y, 2);
        let graph = b.finish(y);
        let groups = Groups::of(&graph, Split::default()).expect("analysed");
        let free = groups.families.iter().filter(|f| groups.refusal(f).is_none());
        assert_eq!(free.map(|f| f.groups.len()).collect::<Vec<_>>(), [6, 5], "{kind:?}");
        assert!(check(&graph, Split::default(), 0.4, 3) > 0);

        let mut given = graph.clone();
        let state = given.add_value(tensor("state", &[1, 6 * kind.states()]));
        given.inputs.push(state);
        given.nodes[0].inputs.push(state);
        let groups = Groups::of(&given, Split::default()).expect("analysed");
        let reason = groups.refusal(&groups.families[0]).expect("fixed");
        assert!(reason.contains("given state"), "{reason}");
    }
}

#[test]
fn groups_that_must_stay_say_why_and_are_refused() {
    let (mut b, x) = Build::new(&[1, 2, 2, 3], 5);
    let y = b.conv(x, 3, 1, 1);
    let y = b.binary(BinaryKind::Add, y, x);
    let y = b.conv(y, 4, 1, 1);
    let graph = b.finish(y);
    let groups = Groups::of(&graph, Split::default()).expect("analysed");
    let reasons: Vec<&str> = groups.families.iter().filter_map(|f| groups.refusal(f)).collect();
    assert_eq!(reasons, ["meets at `n1` what stays whole", "reaches the network's output `v2`"]);
    let mut removed = vec![false; groups.len()];
    removed[groups.families[0].groups[0]] = true;
    assert!(slice(&graph, &groups, &removed).is_err());
}

#[test]
fn published_networks_lose_channels() {
    let Some(folder) = offshoot_skip::data("mlperf_tiny") else { return };
    for name in ["ic", "kws", "vww", "ad"] {
        let graph = offshoot_import::import(&folder.join(format!("{name}_f32.onnx"))).expect("imports");
        let (graph, _) = lossless(graph).expect("passes");
        let gone = check(&graph, Split::default(), 0.5, 7);
        assert!(gone > 20, "{name}: {gone}");
    }
}
