//! Layers with channels that the fast kernels do not hold: the bits of the plain form, on the fast kernels all the same.

use offshoot::{Engine, Model};
use offshoot_export::{Aligned, CompileOptions, Compiled, Core, Prefer, compile};
use offshoot_ir::{Activation, DType, Data, Graph, Node, Op, Quant, Value, ValueId, Window};
use proptest::prelude::*;

const PREFERENCES: [Prefer; 4] = [Prefer::Balanced, Prefer::Speed, Prefer::Flash, Prefer::Ram];

/// A generator of numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn byte(&mut self) -> i8 {
        self.below(256) as u8 as i8
    }
}

/// What is odd about a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Oddity {
    /// Weights of -128.
    Least,
    /// A weight scale so small that the output is one value.
    Dead,
    /// A bias beyond 2^29.
    Bias,
    /// A multiplier of more than a half.
    Multiplier,
}

const ODDITIES: [Oddity; 4] = [Oddity::Least, Oddity::Dead, Oddity::Bias, Oddity::Multiplier];

fn value(graph: &mut Graph, name: &str, shape: &[usize], zero: i32) -> ValueId {
    let quant = Some(Quant::per_tensor(0.05, zero));
    let (name, shape) = (name.to_owned(), shape.to_vec());
    graph.add_value(Value { name, shape, dtype: DType::I8, quant, data: None, channels_first_outside: false })
}

/// One layer with `odd` in one channel of `every`.
fn layer(kind: usize, odd: &[Oddity], every: usize, relu: bool, n: &mut Numbers) -> Graph {
    let mut graph = Graph::default();
    let (channels, inputs) = (1 + n.below(24), 1 + n.below(12));
    let [h, w] = [1 + n.below(6), 1 + n.below(6)];
    let activation = if relu { Activation::Relu } else { Activation::None };
    let window = Window { kernel: [3; 2], stride: [1; 2], dilation: [1; 2], pad: [1; 4] };
    let channels = if kind == 3 { channels.max(2) } else { channels };
    let (x, weights, y, op) = match kind {
        0 => (vec![1, inputs], vec![channels, inputs], vec![1, channels], Op::FullyConnected { activation }),
        1 => {
            let window = Window { kernel: [1; 2], pad: [0; 4], ..window };
            let op = Op::Conv2d { window, groups: 1, activation };
            (vec![1, h, w, inputs], vec![channels, 1, 1, inputs], vec![1, h, w, channels], op)
        }
        2 => {
            let op = Op::Conv2d { window, groups: 1, activation };
            (vec![1, h, w, inputs], vec![channels, 3, 3, inputs], vec![1, h, w, channels], op)
        }
        _ => {
            let op = Op::Conv2d { window, groups: channels, activation };
            (vec![1, h, w, channels], vec![channels, 3, 3, 1], vec![1, h, w, channels], op)
        }
    };
    let zero = i32::from(n.byte());
    let input = value(&mut graph, "x", &x, zero);
    graph.inputs.push(input);
    let taps: usize = weights[1..].iter().product();
    let mut codes: Vec<i8> = (0..channels * taps).map(|_| n.byte().max(-127)).collect();
    let mut scale: Vec<f32> = (0..channels).map(|o| 0.004 + 0.0003 * (o % 7) as f32).collect();
    let mut bias: Vec<i32> = (0..channels).map(|_| n.below(4001) as i32 - 2000).collect();
    for o in 0..channels {
        if odd.is_empty() || n.below(every) > 0 {
            continue;
        }
        match odd[n.below(odd.len())] {
            Oddity::Least => (0..1 + n.below(3)).for_each(|_| codes[o * taps + n.below(taps)] = -128),
            Oddity::Dead => scale[o] = 1e-12,
            Oddity::Bias => bias[o] = (1 << 29) + n.below(1 << 30) as i32,
            Oddity::Multiplier => scale[o] = 0.6 + n.below(8) as f32,
        }
    }
    let w = graph.add_constant("w", weights, Data::I8(codes));
    graph.value_mut(w).quant = Some(Quant { scale, zero_point: vec![0; channels], axis: Some(0) });
    let bias = graph.add_constant("b", vec![channels], Data::I32(bias));
    let output = value(&mut graph, "y", &y, if relu { -128 } else { 7 });
    graph.nodes.push(Node { name: "layer".into(), op, inputs: vec![input, w, bias], output });
    graph.outputs = vec![output];
    graph
}

fn run(compiled: &Compiled, x: &[i8]) -> Vec<u8> {
    let file = Aligned::new(&compiled.bytes);
    let model = Model::open(file.bytes()).unwrap();
    let mut arena = Aligned::zeros(model.arena_bytes() as usize);
    let mut engine = Engine::new(model, arena.bytes_mut()).unwrap();
    let bytes: Vec<u8> = x.iter().map(|&v| v as u8).collect();
    engine.input_mut(0).unwrap().copy_from_slice(&bytes);
    engine.run().unwrap();
    engine.output(0).unwrap().to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn odd_channels_give_the_bits_of_the_plain_form(seed in any::<u64>(), kind in 0usize..4, relu in any::<bool>()) {
        let mut n = Numbers(seed);
        let every = 1 + n.below(6);
        let graph = layer(kind, &ODDITIES, every, relu, &mut n);
        let x: Vec<i8> = (0..graph.value(graph.inputs[0]).len()).map(|_| n.byte()).collect();
        let plain = compile(&graph, &CompileOptions { arrange: false, ..CompileOptions::default() }).unwrap();
        let expected = run(&plain, &x);
        for prefer in PREFERENCES {
            for core in [Core::Dsp, Core::ArmV6M] {
                let options = CompileOptions { prefer, core, ..CompileOptions::default() };
                let made = compile(&graph, &options).unwrap();
                prop_assert_eq!(&run(&made, &x), &expected, "{:?} {:?}", prefer, made.report.operators);
            }
        }
    }
}

/// A large fully connected layer with such channels, 3 of its 120.
fn large(oddity: Oddity, depthwise: bool) -> Graph {
    let mut graph = Graph::default();
    let (channels, inputs) = (120, if depthwise { 9 } else { 256 });
    let mut n = Numbers(11);
    let activation = Activation::Relu;
    let (x, y, weights, op) = if depthwise {
        let window = Window { kernel: [3; 2], stride: [1; 2], dilation: [1; 2], pad: [1; 4] };
        let shape = vec![1, 6, 6, channels];
        (shape.clone(), shape, vec![channels, 3, 3, 1], Op::Conv2d { window, groups: channels, activation })
    } else {
        (vec![1, inputs], vec![1, channels], vec![channels, inputs], Op::FullyConnected { activation })
    };
    let input = value(&mut graph, "x", &x, -128);
    let mut codes: Vec<i8> = (0..channels * inputs).map(|_| n.below(101) as i8 - 50).collect();
    let mut scale = vec![0.003f32; channels];
    let mut bias = vec![10; channels];
    for o in [1, 40, 77] {
        match oddity {
            Oddity::Least => (0..inputs).for_each(|i| codes[o * inputs + i] = -128),
            Oddity::Dead => scale[o] = 1e-12,
            Oddity::Bias => bias[o] = 1 << 30,
            Oddity::Multiplier => scale[o] = 0.8,
        }
    }
    let w = graph.add_constant("w", weights, Data::I8(codes));
    graph.value_mut(w).quant = Some(Quant { scale, zero_point: vec![0; channels], axis: Some(0) });
    let b = graph.add_constant("b", vec![channels], Data::I32(bias));
    let output = value(&mut graph, "y", &y, -128);
    graph.nodes.push(Node { name: "layer".into(), op, inputs: vec![input, w, b], output });
    (graph.inputs, graph.outputs) = (vec![input], vec![output]);
    graph
}

#[test]
fn a_few_odd_channels_leave_the_others_on_the_fast_kernels() {
    for depthwise in [false, true] {
        for oddity in ODDITIES {
            let graph = large(oddity, depthwise);
            let made = compile(&graph, &CompileOptions::default()).unwrap();
            let kinds: Vec<&str> = made.report.operators.iter().map(|o| o.kind).collect();
            let of = |kind: &str| kinds.iter().filter(|k| **k == kind).count();
            let fast = ["conv_blocked", "depthwise_planar", "depthwise_linear"].map(of).iter().sum::<usize>();
            let plain: Vec<[usize; 2]> = made.report.plain_kernels.iter().map(|p| p.channels).collect();
            assert!(fast > 0, "{oddity:?}: {kinds:?}");
            match oddity {
                Oddity::Multiplier => {
                    assert_eq!(plain, [[3, 120]]);
                    assert!(
                        made.report.plain_kernels[0].reason.contains("1/2"),
                        "{:?}",
                        made.report.plain_kernels
                    );
                }
                _ => assert!(plain.is_empty(), "{oddity:?}: {kinds:?} {plain:?}"),
            }
            // The plain part meets three channels' weights.
            let weights =
                made.report.operators.iter().filter(|o| ["fully_connected", "depthwise"].contains(&o.kind));
            assert!(weights.map(|o| o.weights).sum::<u64>() <= 3 * if depthwise { 9 } else { 256 });
        }
    }
}

#[test]
fn what_stays_on_a_plain_kernel_is_named() {
    let mut graph = large(Oddity::Least, true);
    let Op::Conv2d { window, .. } = &mut graph.nodes[0].op else { unreachable!("a convolution") };
    (window.dilation, window.pad) = ([2, 2], [2; 4]);
    let made = compile(&graph, &CompileOptions::default()).unwrap();
    let [plain] = &made.report.plain_kernels[..] else { panic!("{:?}", made.report.plain_kernels) };
    assert_eq!((plain.node.as_str(), plain.channels), ("layer", [120, 120]));
    assert!(plain.reason.contains("dilated"));
}
