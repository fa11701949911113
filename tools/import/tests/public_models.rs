//! The MLPerf Tiny networks: imported whole, float ones equal to tract's typed model.

use std::path::PathBuf;

use offshoot_ir::{DType, Op};

const MODELS: [&str; 5] = ["ad", "kws", "ic", "vww", "sww"];

fn model(name: &str) -> Option<PathBuf> {
    offshoot_skip::data(&format!("mlperf_tiny/{name}"))
}

#[test]
fn all_import() {
    for name in MODELS {
        for kind in ["f32", "int8"] {
            let Some(path) = model(&format!("{name}_{kind}.onnx")) else {
                return;
            };
            let graph = offshoot_import::import(&path).unwrap_or_else(|e| panic!("{name}_{kind}: {e}"));
            println!("{name}_{kind}: {} operators", graph.nodes.len());
        }
    }
}

#[test]
fn quantised_networks_have_no_float_left() {
    for name in MODELS {
        let Some(path) = model(&format!("{name}_int8.onnx")) else {
            return;
        };
        let graph = offshoot_import::import(&path).unwrap();
        for node in &graph.nodes {
            assert_eq!(graph.value(node.output).dtype, DType::I8, "{name}: {} {:?}", node.name, node.op);
            assert!(
                !matches!(node.op, Op::Quantize | Op::Dequantize | Op::Requantize),
                "{name}: {}",
                node.name
            );
        }
    }
}

#[test]
fn float_networks_compute_what_tract_does() {
    for name in MODELS {
        let Some(path) = model(&format!("{name}_f32.onnx")) else {
            return;
        };
        let graph = offshoot_import::import(&path).unwrap();
        let oracle = offshoot_import::oracle::Oracle::open(&path).unwrap();
        let inputs: Vec<ndarray::ArrayD<f32>> = oracle
            .input_shapes()
            .iter()
            .map(|s| {
                let v = (0..s.iter().product::<usize>()).map(|i| (i as f32 * 1.37).sin()).collect();
                ndarray::ArrayD::from_shape_vec(ndarray::IxDyn(s), v).unwrap()
            })
            .collect();
        let theirs = oracle.run(&inputs).unwrap();
        let ours = offshoot_reference::Executor::new(&graph).unwrap().run(&inputs).unwrap();
        assert_eq!(ours[0].shape(), theirs[0].shape(), "{name}");
        for (a, b) in ours[0].iter().zip(&theirs[0]) {
            assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{name}: {a} instead of {b}");
        }
    }
}
