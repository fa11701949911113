//! The MLPerf Tiny networks: imported whole, float ones equal to tract's typed model.

use std::path::PathBuf;

use offshoot_ir::{DType, Op};

const MODELS: [&str; 5] = ["ad", "kws", "ic", "vww", "sww"];

fn model(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("OFFSHOOT_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let path = folder.join("mlperf_tiny").join(name);
    if !path.exists() {
        println!("skipped: {} is absent (set OFFSHOOT_DATA)", path.display());
        return None;
    }
    Some(path)
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
            assert_eq!(
                graph.value(node.output).dtype,
                DType::I8,
                "{name}: {} {:?}",
                node.name,
                node.op
            );
            assert!(
                !matches!(node.op, Op::Quantize | Op::Dequantize | Op::Requantize),
                "{name}: {}",
                node.name
            );
        }
    }
}
