//! Channels that the fast kernels do not hold, on an emulated board: the bits of the host, and what they cost.

#[allow(dead_code)]
#[path = "../../tools/export/tests/odd_layers/mod.rs"]
mod odd_layers;

use offshoot::AlignedBytes;
use offshoot_export::{CompileOptions, Prefer, compile};
use offshoot_ir::{Activation, DType, Data, Graph, Node, Op, Quant, Value, ValueId};
use offshoot_target::{Device, HostDevice};
use offshoot_tests::{board, skip_emulated};

use odd_layers::{Numbers, ODDITIES, layer};

const PREFERENCES: [Prefer; 4] = [Prefer::Balanced, Prefer::Speed, Prefer::Flash, Prefer::Ram];

#[test]
fn odd_channels_give_the_same_bits_on_cortex_m4() {
    if skip_emulated() {
        return;
    }
    let (mut device, mut host) = (board("qemu:cortex-m4"), HostDevice::new());
    for index in 0..48 {
        let mut n = Numbers(0x9e37_79b9 + 7919 * index);
        let graph = layer(index as usize % 4, &ODDITIES, 1 + n.below(5), index % 3 > 0, &mut n);
        let options =
            CompileOptions { prefer: PREFERENCES[index as usize / 4 % 4], ..CompileOptions::default() };
        let file = AlignedBytes::copy_of(&compile(&graph, &options).unwrap().bytes);
        let sample: Vec<u8> = (0..graph.value(graph.inputs[0]).len()).map(|_| n.byte() as u8).collect();
        host.load(file.bytes()).unwrap();
        device.load(file.bytes()).unwrap();
        let (here, there) = (host.digests(&[&sample]).unwrap(), device.digests(&[&sample]).unwrap());
        assert_eq!(here, there, "{index} {:?}", options.prefer);
    }
}

/// 784-300-100-10, with one weight of -128 or none.
fn perceptron(odd: bool) -> Graph {
    let (mut graph, mut n) = (Graph::default(), Numbers(3));
    let value = |graph: &mut Graph, units: usize| -> ValueId {
        let (name, quant) = (format!("v{units}"), Some(Quant::per_tensor(0.05, -128)));
        let (shape, dtype) = (vec![1, units], DType::I8);
        graph.add_value(Value { name, shape, dtype, quant, data: None, channels_first_outside: false })
    };
    let mut x = value(&mut graph, 784);
    graph.inputs = vec![x];
    for (inputs, units) in [(784, 300), (300, 100), (100, 10)] {
        let mut codes: Vec<i8> = (0..inputs * units).map(|_| n.below(61) as i8 - 30).collect();
        if odd && inputs == 784 {
            // The second of a pair, beside a negative weight: what a word of two does not hold.
            codes[151 * inputs + 400] = -128;
            codes[150 * inputs + 400] = -5;
        }
        let w = graph.add_constant(format!("w{units}"), vec![units, inputs], Data::I8(codes));
        graph.value_mut(w).quant = Some(Quant::per_tensor(0.004, 0));
        let b = graph.add_constant(format!("b{units}"), vec![units], Data::I32(vec![50; units]));
        let y = value(&mut graph, units);
        let op = Op::FullyConnected { activation: Activation::Relu };
        graph.nodes.push(Node { name: format!("dense{units}"), op, inputs: vec![x, w, b], output: y });
        x = y;
    }
    graph.outputs = vec![x];
    graph
}

#[test]
fn one_weight_of_minus_128_costs_next_to_nothing() {
    if skip_emulated() {
        return;
    }
    let mut device = board("qemu:cortex-m4");
    let mut count = |odd: bool| {
        let made = compile(&perceptron(odd), &CompileOptions::default()).unwrap();
        assert!(made.report.plain_kernels.is_empty(), "{:?}", made.report.plain_kernels);
        device.load(AlignedBytes::copy_of(&made.bytes).bytes()).unwrap();
        let profile = device.profile(&[&[7; 784]]).unwrap();
        profile.operators.iter().filter_map(|o| o.instructions).sum::<u64>()
    };
    let (with, without) = (count(true), count(false));
    println!("784-300-100-10: {with} instructions with one weight of -128, {without} without");
    assert!(with < without + without / 20, "{with} {without}");
}
