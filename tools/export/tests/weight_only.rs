//! float32 layers with integer weights: fewer bytes, the same bits.

use offshoot::format::record::Tag;
use offshoot::{AlignedBytes, Engine, Model};
use offshoot_export::{CompileOptions, Compiled, Prefer, compile};
use offshoot_ir::{Activation, DType, Data, Graph, Node, Op, Value, ValueId, Window};
use proptest::prelude::*;

fn run(compiled: &Compiled, x: &[f32]) -> Vec<u8> {
    let file = AlignedBytes::copy_of(&compiled.bytes);
    let model = Model::open(file.bytes()).unwrap();
    let mut arena = AlignedBytes::zeroed(model.arena_bytes() as usize);
    let mut engine = Engine::new(model, arena.bytes_mut()).unwrap();
    let bytes: Vec<u8> = x.iter().flat_map(|v| v.to_le_bytes()).collect();
    engine.input_mut(0).unwrap().copy_from_slice(&bytes);
    engine.run().unwrap();
    engine.output(0).unwrap().to_vec()
}

fn tags(compiled: &Compiled) -> Vec<Tag> {
    let file = AlignedBytes::copy_of(&compiled.bytes);
    let model = Model::open(file.bytes()).unwrap();
    model.ops().map(|op| op.2.tag()).collect()
}

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

/// One layer with these weights.
fn layer(op: Op, x: &[usize], w: &[usize], y: &[usize], weights: Vec<f32>) -> Graph {
    let mut graph = Graph::default();
    let x = value(&mut graph, "x", x);
    let bias: Vec<f32> = (0..w[0]).map(|i| i as f32 * 0.11 - 0.2).collect();
    let w = graph.add_constant("w", w.to_vec(), Data::F32(weights));
    let b = graph.add_constant("b", vec![bias.len()], Data::F32(bias));
    let y = value(&mut graph, "y", y);
    graph.nodes.push(Node { name: "layer".into(), op, inputs: vec![x, w, b], output: y });
    (graph.inputs, graph.outputs) = (vec![x], vec![y]);
    graph
}

fn options(prefer: Prefer, arrange: bool) -> CompileOptions {
    CompileOptions { prefer, arrange, ..CompileOptions::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn integers_with_scales_give_the_bits_of_floats(
        seed in any::<u32>(), kind in 0usize..4, bits in prop::sample::select(vec![2u32, 4, 8]),
        block in prop::sample::select(vec![8usize, 16, 32, 1 << 20]), zero in -3i32..4, inputs in 16usize..80,
    ) {
        let mut state = seed;
        let mut next = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        let activation = Activation::Clip { min: -1.0, max: 3.0 };
        let kernel = Window { kernel: [3, 3], stride: [1, 2], dilation: [1, 1], pad: [1, 0, 1, 1] };
        let channels = 12;
        let (op, x, w, y) = match kind {
            0 => (
                Op::FullyConnected { activation },
                vec![3, inputs], vec![channels, inputs], vec![3, channels],
            ),
            1 => (
                Op::Conv2d { window: kernel, groups: 1, activation },
                vec![1, 4, 7, 5], vec![channels, 3, 3, 5], vec![1, 4, 3, channels],
            ),
            2 => (
                Op::Conv2d { window: kernel, groups: 4, activation },
                vec![2, 4, 7, 16], vec![channels, 3, 3, 4], vec![2, 4, 3, channels],
            ),
            _ => (
                Op::Conv2d { window: kernel, groups: channels, activation },
                vec![1, 4, 7, 12], vec![channels, 3, 3, 1], vec![1, 4, 3, channels],
            ),
        };
        let taps: usize = w[1..].iter().product();
        let mut scale = 0.0;
        let weights: Vec<f32> = (0..w.iter().product()).map(|i| {
            if (i % taps).is_multiple_of(block) {
                scale = 0.003 + next() as f32 * 1e-9;
            }
            let code = (next() % (1 << bits)) as i32 - (1 << (bits - 1));
            (code - zero) as f32 * scale
        }).collect();
        let x_values: Vec<f32> = (0..x.iter().product()).map(|_| next() as f32 * 1e-7 - 0.8).collect();
        let count = weights.len();
        let graph = layer(op, &x, &w, &y, weights);
        let plain = compile(&graph, &options(Prefer::Balanced, false)).unwrap();
        prop_assert!(!tags(&plain).contains(&Tag::ConvWeightOnly));
        for prefer in [Prefer::Balanced, Prefer::Speed, Prefer::Flash, Prefer::Ram] {
            let made = compile(&graph, &options(prefer, true)).unwrap();
            prop_assert_eq!(run(&made, &x_values), run(&plain, &x_values));
            if tags(&made).contains(&Tag::ConvWeightOnly) {
                prop_assert!(made.bytes.len() < plain.bytes.len());
            } else {
                // Three rows are few; a depthwise channel has too few weights for scales per block.
                prop_assert!(prefer == Prefer::Speed && kind == 0 || kind == 3 || block == 8, "{:?}", prefer);
            }
        }
        let flash = compile(&graph, &options(Prefer::Flash, true)).unwrap();
        if block > 16 && kind < 3 {
            // Codes, a scale and an offset for each block, and what the record and the alignment of blobs take.
            let blocks = taps.div_ceil(block) * channels;
            let most = (count * bits as usize).div_ceil(8) + channels + 5 * blocks + 64;
            prop_assert!(flash.bytes.len() + 4 * count <= plain.bytes.len() + most);
        }
    }
}
