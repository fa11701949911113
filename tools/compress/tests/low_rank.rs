//! Low rank: at full rank a network does what it did, below it loses what the spectrum says, and it fits its budget.

use ndarray::{ArrayD, IxDyn};
use offshoot_compress::low_rank::lama::{self, Context, DistilOptions};
use offshoot_compress::low_rank::{
    Cut, Goal, LowRankOptions, MaestroOptions, analyse, choices, join, low_rank, maestro, ranks_of, split,
};
use offshoot_compress::prune::samples;
use offshoot_compress::quantize::{QuantizeOptions, device_outputs, quantize};
use offshoot_ir::passes::lossless;
use offshoot_ir::{Activation, BinaryKind, DType, Data, Graph, Node, Op, ReduceKind, Value, ValueId, Window};
use offshoot_reference::Executor;
use offshoot_train::network::{Edge, Network};
use offshoot_train::{Dataset, FitOptions, Target, accuracy, fit};
use proptest::prelude::*;

/// Deterministic numbers between -1 and 1.
fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let hash = |i: usize| (i as u32 + 1).wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(40_503));
    (0..len).map(|i| ((hash(i) ^ hash(i) >> 13) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
}

fn array(shape: &[usize], seed: u32) -> ArrayD<f32> {
    ArrayD::from_shape_vec(IxDyn(shape), numbers(shape.iter().product(), seed)).unwrap()
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

fn run(graph: &Graph, x: &ArrayD<f32>) -> ArrayD<f32> {
    Executor::new(graph).unwrap().run(std::slice::from_ref(x)).unwrap().remove(0)
}

fn assert_near(a: &ArrayD<f32>, b: &ArrayD<f32>, what: &str) {
    assert_eq!(a.shape(), b.shape());
    let largest = a.iter().fold(1.0f32, |m, v| m.max(v.abs()));
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= 1e-4 * largest, "{what}: {a} and {b}");
    }
}

/// Two convolutions of any window and a fully connected layer.
fn network(
    kernel: [u16; 2],
    stride: [u16; 2],
    dilation: [u16; 2],
    pad: [u16; 4],
    bias: bool,
    seed: u32,
) -> Graph {
    let mut g = Graph::default();
    let mut x = g.add_value(tensor("x", &[1, 9, 8, 3]));
    g.inputs.push(x);
    let mut seed = seed;
    let mut weights = |g: &mut Graph, name: String, shape: Vec<usize>| {
        seed = seed.wrapping_add(1);
        let data = numbers(shape.iter().product(), seed);
        g.add_constant(name, shape, Data::F32(data))
    };
    let shape = |g: &Graph, id: ValueId| g.value(id).shape.clone();
    for (i, filters) in [5, 6].into_iter().enumerate() {
        let s = shape(&g, x);
        let [h, w] = [0, 1].map(|a| {
            let reach = usize::from(dilation[a]) * usize::from(kernel[a] - 1) + 1;
            (s[a + 1] + usize::from(pad[a] + pad[a + 2]))
                .checked_sub(reach)
                .map_or(0, |n| n / usize::from(stride[a]) + 1)
        });
        if h == 0 || w == 0 {
            break;
        }
        let (kh, kw) = (usize::from(kernel[0]), usize::from(kernel[1]));
        let mut inputs = vec![x, weights(&mut g, format!("w{i}"), vec![filters, kh, kw, s[3]])];
        if bias {
            inputs.push(weights(&mut g, format!("b{i}"), vec![filters]));
        }
        let window = Window { kernel, stride, dilation, pad };
        let op = Op::Conv2d { window, groups: 1, activation: Activation::Relu };
        x = g.add_value(tensor(&format!("y{i}"), &[1, h, w, filters]));
        g.nodes.push(Node { name: format!("conv{i}"), op, inputs, output: x });
    }
    let s = shape(&g, x);
    let flat = g.add_value(tensor("flat", &[1, s.iter().product()]));
    g.nodes.push(Node { name: "flatten".into(), op: Op::Reshape, inputs: vec![x], output: flat });
    let width = s.iter().product();
    let inputs =
        vec![flat, weights(&mut g, "w".into(), vec![4, width]), weights(&mut g, "b".into(), vec![4])];
    let y = g.add_value(tensor("y", &[1, 4]));
    let op = Op::FullyConnected { activation: Activation::None };
    g.nodes.push(Node { name: "dense".into(), op, inputs, output: y });
    g.outputs.push(y);
    g.validate().unwrap();
    g
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_full_rank_is_the_network(
        kernel in (1u16..=3, 1u16..=3),
        stride in (1u16..=2, 1u16..=2),
        dilation in (1u16..=2, 1u16..=2),
        pad in (0u16..=2, 0u16..=2, 0u16..=1, 0u16..=1),
        bias in any::<bool>(),
        spatial in any::<bool>(),
        data in any::<bool>(),
        seed in 0u32..1000,
    ) {
        let graph = network(
            [kernel.0, kernel.1], [stride.0, stride.1], [dilation.0, dilation.1],
            [pad.0, pad.1, pad.2, pad.3], bias, seed,
        );
        let cut = if spatial { Cut::Spatial } else { Cut::Channels };
        let samples: Vec<_> = (0..3).filter(|_| data).map(|i| vec![array(&[1, 9, 8, 3], 77 + i)]).collect();
        let layers = analyse(&graph, &samples, cut).unwrap();
        prop_assert!(!layers.is_empty());
        let x = array(&[1, 9, 8, 3], seed + 5);
        let wanted = run(&graph, &x);
        let whole: Vec<_> = layers.iter().map(|l| (l, l.full())).collect();
        let full = split(&graph, &whole).unwrap();
        prop_assert_eq!(full.nodes.len(), graph.nodes.len() + layers.len());
        assert_near(&wanted, &run(&full, &x), "full rank");
        if !spatial {
            let back = join(&full, true).unwrap();
            prop_assert_eq!(back.nodes.len(), graph.nodes.len());
            assert_near(&wanted, &run(&back, &x), "joined");
        }
        for layer in &layers {
            prop_assert!(layer.lost.windows(2).all(|p| p[1] <= p[0] + 1e-12), "{:?}", layer.lost);
            prop_assert!((layer.lost[0] - 1.0).abs() < 1e-6 && layer.lost[layer.full()] == 0.0);
        }
        // Any ranks make a network that runs, and that joins into the same.
        let some: Vec<_> = layers.iter().map(|l| (l, l.full().div_ceil(2))).collect();
        let small = split(&graph, &some).unwrap();
        let joined = join(&small, true).unwrap();
        assert_near(&run(&small, &x), &run(&joined, &x), "half rank");
    }
}

/// Inputs of which only a few directions vary: what data know and weights do not.
fn directed(count: usize, seed: u32) -> ArrayD<f32> {
    let (basis, noise) = (numbers(4 * 40, 9), numbers(count * 44, seed));
    let value = |s: usize, i: usize| {
        let along: f32 = (0..4).map(|k| noise[s * 44 + k] * basis[k * 40 + i]).sum();
        2.0 * along + 0.05 * noise[s * 44 + 4 + i] + 0.5
    };
    ArrayD::from_shape_fn(IxDyn(&[count, 1, 1, 40]), |at| value(at[0], at[3]))
}

#[test]
fn data_choose_better_directions_than_weights() {
    let graph = Network::new("g", [1, 1, 40], 4).global_average("a").dense("b", 32).finish();
    let x = directed(64, 1);
    let samples: Vec<_> = x.outer_iter().map(|s| vec![s.to_owned().insert_axis(ndarray::Axis(0))]).collect();
    let test = directed(32, 2);
    let error = |samples: &[Vec<ArrayD<f32>>], rank: usize| -> (f64, f64) {
        let layers = analyse(&graph, samples, Cut::Channels).unwrap();
        let small = split(&graph, &[(&layers[0], rank)]).unwrap();
        let (mut error, mut all) = (0.0, 0.0);
        for s in test.outer_iter() {
            let s = s.to_owned().insert_axis(ndarray::Axis(0));
            let (a, b) = (run(&graph, &s), run(&small, &s));
            error += a.iter().zip(&b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
            all += a.iter().map(|a| f64::from(*a).powi(2)).sum::<f64>();
        }
        (error / all, layers[0].lost[rank])
    };
    let ((plain, _), (aware, said)) = (error(&[], 4), error(&samples, 4));
    println!("rank 4: {plain} by weights, {aware} by data ({said} expected)");
    assert!(aware < 0.01 && aware < 0.1 * plain);
}

/// Which of six directions a vector lies along, and a network to tell.
fn task(count: usize, seed: u32) -> Dataset {
    let x = directed(count, seed);
    let probe = numbers(6 * 40, 31);
    let label = |s: ndarray::ArrayViewD<'_, f32>| {
        let score = |c: usize| -> f32 { s.iter().zip(&probe[c * 40..]).map(|(a, b)| (a - 0.5) * b).sum() };
        (0..6).max_by(|&a, &b| score(a).total_cmp(&score(b))).unwrap() as i64
    };
    let labels = x.outer_iter().map(label).collect();
    Dataset::new(x, Target::Labels(labels))
}

fn trained() -> Graph {
    let net = Network::new("task", [1, 1, 40], 2).conv("a", 48, [1, 1], [1, 1], Edge::Valid).relu("a.relu");
    let net = net.conv("b", 32, [1, 1], [1, 1], Edge::Valid).relu("b.relu");
    let graph = net.global_average("c").dense("d", 6).softmax("e");
    let options = FitOptions { epochs: 15, batch: 32, ..FitOptions::default() };
    lossless(fit(&graph, &task(400, 1), &options, &mut ()).unwrap().0).unwrap().0
}

fn judged(graph: &Graph, data: &Dataset) -> f64 {
    let Target::Labels(labels) = &data.target else { panic!("labels") };
    accuracy(graph, &data.inputs[0], labels).unwrap()
}

#[test]
fn ranks_meet_a_budget_of_flash() {
    let (graph, data) = (trained(), task(400, 1));
    let options = |goal| LowRankOptions { goal, ..LowRankOptions::default() };
    let (_, whole) = low_rank(&graph, &data, &options(Goal::Share(1.0)), &mut ()).unwrap();
    assert_eq!(whole.before, whole.after);
    let limit = whole.before.flash * 7 / 10;
    let (small, report) = low_rank(&graph, &data, &options(Goal::Flash(limit)), &mut ()).unwrap();
    println!("{:?}: {} of {}", report.after, judged(&small, &task(300, 2)), judged(&graph, &task(300, 2)));
    assert!(report.after.flash <= limit && report.after.macs < report.before.macs);
    assert!(judged(&small, &task(300, 2)) > judged(&graph, &task(300, 2)) - 0.05);
    let error = low_rank(&graph, &data, &options(Goal::Flash(100)), &mut ()).unwrap_err();
    let offshoot_compress::Error::Budget { flash, .. } = error else { panic!("{error}") };
    let (_, least) = low_rank(&graph, &data, &options(Goal::Flash(flash)), &mut ()).unwrap();
    assert_eq!(least.after.flash, flash);
}

#[test]
fn a_nested_network_is_cut_without_training() {
    let (graph, data, test) = (trained(), task(400, 1), task(300, 2));
    let options =
        MaestroOptions { epochs: 12, shrink_every: 4, batch: 32, rate: 2e-3, ..MaestroOptions::default() };
    let (nested, report) = maestro(&graph, &data, &options, &mut ()).unwrap();
    println!("{report:?}");
    assert!(report.ranks.iter().zip(&report.full).all(|(r, f)| (1..=*f).contains(r)));
    let (whole, layers) = nested.layers(&samples(&graph, &data, 32)).unwrap();
    assert_eq!(layers.len(), report.layers.len());
    let x = test.inputs[0].slice_axis(ndarray::Axis(0), (0..1).into()).to_owned();
    assert_near(&run(&nested.graph, &x), &run(&whole, &x), "whole layers");
    let choices = choices(&layers);
    let count = choices.iter().position(|c| c.left < 0.35).unwrap();
    let ranks = ranks_of(&layers, &choices, count + 1);
    let chosen: Vec<_> = layers.iter().zip(&ranks).filter_map(|(l, r)| Some((l, (*r)?))).collect();
    let small = split(&whole, &chosen).unwrap();
    let (a, b) = (judged(&nested.graph, &test), judged(&small, &test));
    println!("nested {a}, cut to a third {b}, {ranks:?}");
    assert!(b > a - 0.08);
}

/// Attention over eight tokens with a residual sum, the tokens' mean, and a classifier.
fn attentive() -> Graph {
    let (t, d, heads) = (8, 12, 2);
    let mut g = Graph::default();
    let input = g.add_value(tensor("x", &[1, t, d]));
    g.inputs.push(input);
    let mut seed = 50;
    let mut dense = |g: &mut Graph, name: &str, x: ValueId, outputs: usize| {
        seed += 1;
        let mut shape = g.value(x).shape.clone();
        let width = shape.pop().unwrap();
        let data = numbers(outputs * width, seed).iter().map(|v| v / (width as f32).sqrt()).collect();
        let w = g.add_constant(format!("{name}.w"), vec![outputs, width], Data::F32(data));
        let b = g.add_constant(format!("{name}.b"), vec![outputs], Data::F32(vec![0.01; outputs]));
        shape.push(outputs);
        push(g, name, Op::FullyConnected { activation: Activation::None }, &[x, w, b], &shape)
    };
    fn push(g: &mut Graph, name: &str, op: Op, inputs: &[ValueId], shape: &[usize]) -> ValueId {
        let output = g.add_value(tensor(&format!("{name}.y"), shape));
        g.nodes.push(Node { name: name.into(), op, inputs: inputs.to_vec(), output });
        output
    }
    let x = dense(&mut g, "embed", input, d);
    let apart = Op::Transpose { perm: vec![0, 2, 1, 3] };
    let [q, k, v] = ["q", "k", "v"].map(|name| {
        let y = dense(&mut g, name, x, d);
        let y = push(&mut g, &format!("{name}.heads"), Op::Reshape, &[y], &[1, t, heads, d / heads]);
        push(&mut g, &format!("{name}.apart"), apart.clone(), &[y], &[1, heads, t, d / heads])
    });
    let s = push(&mut g, "scores", Op::MatMul { transpose_b: true }, &[q, k], &[1, heads, t, t]);
    let a = push(&mut g, "softmax", Op::Softmax { axis: 3 }, &[s], &[1, heads, t, t]);
    let y = push(&mut g, "mix", Op::MatMul { transpose_b: false }, &[a, v], &[1, heads, t, d / heads]);
    let y = push(&mut g, "back", apart, &[y], &[1, t, heads, d / heads]);
    let y = push(&mut g, "join", Op::Reshape, &[y], &[1, t, d]);
    let y = dense(&mut g, "out", y, d);
    let add = Op::Binary { kind: BinaryKind::Add, activation: Activation::None };
    let y = push(&mut g, "residual", add, &[x, y], &[1, t, d]);
    let y = push(&mut g, "pool", Op::Reduce { kind: ReduceKind::Mean, axes: vec![1] }, &[y], &[1, d]);
    let y = dense(&mut g, "head", y, 3);
    g.outputs.push(y);
    g.validate().unwrap();
    g
}

#[test]
fn low_rank_attention_takes_the_place_of_attention_and_pooling() {
    let graph = attentive();
    let blocks = lama::blocks(&graph);
    assert_eq!(blocks.len(), 1, "{blocks:?}");
    assert_eq!((blocks[0].tokens.as_str(), blocks[0].pooled.as_str()), ("embed.y", "pool.y"));
    for context in [Context::Mean, Context::Learned] {
        let small = lama::replace(&graph, "embed.y", "pool.y", 4, context, 7).unwrap();
        let x = array(&[1, 8, 12], 3);
        assert_eq!(run(&small, &x).shape(), [1, 3]);
        let data = Dataset::new(array(&[96, 8, 12], 5), Target::Unlabelled);
        let before = difference(&graph, &small, &data);
        let options = DistilOptions { epochs: 12, ..DistilOptions::default() };
        let after = lama::distil(&graph, &small, "pool.y", &data, &options, &mut ()).unwrap();
        let now = difference(&graph, &after, &data);
        println!("{context:?}: outputs differ by {before} before, {now} after distillation");
        assert!(now < 0.25 * before);
        // And it runs on the device.
        let (small, _) = lossless(after).unwrap();
        let (quantized, report) =
            quantize(&small, &samples(&small, &data, 32), &QuantizeOptions::default()).unwrap();
        assert!(report.held_out_snr_db > 10.0, "{}", report.held_out_snr_db);
        assert_eq!(device_outputs(&quantized, &data).unwrap().len(), 96);
    }
    // What passes the mean by is not cut off.
    let mut open = graph.clone();
    let residual = ValueId(open.values.iter().position(|v| v.name == "residual.y").unwrap() as u32);
    open.outputs.push(residual);
    assert!(lama::blocks(&open).is_empty());
    assert!(lama::replace(&open, "embed.y", "pool.y", 4, Context::Mean, 7).is_err());
}

/// Attention by its formula.
#[test]
fn low_rank_attention_is_its_formula() {
    let mut g = Graph::default();
    let x = g.add_value(tensor("x", &[1, 5, 3]));
    g.inputs.push(x);
    let y = lama::attention(&mut g, x, "a", 2, Context::Mean, 3).unwrap();
    g.outputs.push(y);
    g.validate().unwrap();
    let weights = |name: &str| match g.values.iter().find(|v| v.name == name).unwrap().data.as_deref() {
        Some(Data::F32(d)) => d.clone(),
        _ => panic!(),
    };
    let (q, p) = (weights("a/query"), weights("a/key"));
    let tokens = array(&[1, 5, 3], 8);
    let at = |t: usize, i: usize| tokens[[0, t, i]];
    let dot = |w: &[f32], x: &dyn Fn(usize) -> f32| (0..3).map(|i| w[i] * x(i)).sum::<f32>();
    let mean = |i: usize| (0..5).map(|t| at(t, i)).sum::<f32>() / 5.0;
    let e: Vec<[f32; 2]> = (0..5)
        .map(|t| {
            let e = [0, 1].map(|h| (dot(&p[h * 3..], &mean) * dot(&q[h * 3..], &|i| at(t, i))).tanh());
            let length = (e[0] * e[0] + e[1] * e[1] + 1e-6).sqrt().max(1.0 / 32.0);
            e.map(|v| v / length)
        })
        .collect();
    let got = run(&g, &tokens);
    for h in 0..2 {
        let sum: f32 = e.iter().map(|e| e[h].exp()).sum();
        for i in 0..3 {
            let wanted: f32 = (0..5).map(|t| e[t][h].exp() / sum * at(t, i)).sum();
            assert!((got[[0, h * 3 + i]] - wanted).abs() < 1e-5);
        }
    }
}

fn difference(a: &Graph, b: &Graph, data: &Dataset) -> f64 {
    let rows = data.inputs[0].outer_iter().map(|s| s.to_owned().insert_axis(ndarray::Axis(0)));
    let one = |x: ArrayD<f32>| {
        run(a, &x).iter().zip(&run(b, &x)).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
    };
    rows.map(one).sum()
}
