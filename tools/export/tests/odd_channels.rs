//! Layers with channels that the fast kernels do not hold: the bits of the plain form, on the fast kernels all the same.

use offshoot::{AlignedBytes, Engine, Model};
use offshoot_export::{CompileOptions, Compiled, Core, Prefer, compile};
use offshoot_ir::Op;
use proptest::prelude::*;

mod odd_layers;

use odd_layers::{Numbers, ODDITIES, Oddity, large, layer};

const PREFERENCES: [Prefer; 4] = [Prefer::Balanced, Prefer::Speed, Prefer::Flash, Prefer::Ram];

fn run(compiled: &Compiled, x: &[i8]) -> Vec<u8> {
    let file = AlignedBytes::copy_of(&compiled.bytes);
    let model = Model::open(file.bytes()).unwrap();
    let mut arena = AlignedBytes::zeroed(model.arena_bytes() as usize);
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

#[test]
fn a_few_odd_channels_leave_the_others_on_the_fast_kernels() {
    for depthwise in [false, true] {
        for oddity in ODDITIES {
            let graph = large(oddity, depthwise);
            let made = compile(&graph, &CompileOptions::default()).unwrap();
            let kinds: Vec<&str> = made.report.operators.iter().map(|o| o.kind).collect();
            let of = |kind: &str| kinds.iter().filter(|k| **k == kind).count();
            let fast =
                ["conv_tiled", "depthwise_planar", "depthwise_single_multiply"].map(of).iter().sum::<usize>();
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
