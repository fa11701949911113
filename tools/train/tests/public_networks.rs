//! The networks of MLPerf Tiny: outputs of batches are those of single samples, and all of them can be trained.
//! `OFFSHOOT_DATA` names the folder that holds them; without them nothing is tested.

use std::path::PathBuf;

use ndarray::ArrayD;
use offshoot_ir::Graph;
use offshoot_ir::passes::lossless;
use offshoot_train::{Dataset, FitOptions, Schedule, Target, Teacher, UpdateRule, fit, predict};

fn samples(graph: &Graph, count: usize) -> ArrayD<f32> {
    let mut shape = graph.value(graph.inputs[0]).shape.clone();
    shape[0] = count;
    let wave = |i: usize| ((i * 37 + 11) % 101) as f32 / 50.0 - 1.0;
    ArrayD::from_shape_vec(shape.clone(), (0..shape.iter().product()).map(wave).collect()).unwrap()
}

#[test]
fn all_are_run_and_trained() {
    for name in ["ad", "kws", "ic", "vww", "sww"] {
        let Some(path) = offshoot_skip::data(&format!("mlperf_tiny/{name}_f32.onnx")) else { return };
        let imported = offshoot_import::import(&path).unwrap();
        let folded = lossless(imported.clone()).unwrap().0;
        for graph in [imported, folded] {
            let x = samples(&graph, 3);
            let batch = predict(&graph, &x).unwrap();
            let executor = offshoot_reference::Executor::new(&graph).unwrap();
            for (sample, row) in x.outer_iter().zip(batch.rows()) {
                let wanted = executor.run(&[sample.to_owned().insert_axis(ndarray::Axis(0))]).unwrap();
                for (a, b) in row.iter().zip(&wanted[0]) {
                    assert!((a - b).abs() < 1e-4 * (1.0 + b.abs()), "{name}: {a} instead of {b}");
                }
            }
            // A few very small steps down the slope towards other outputs come closer to them.
            let data = Dataset::new(x, Target::Values((batch * 0.7).into_dyn()));
            let options = FitOptions {
                epochs: 6,
                batch: 3,
                rate: 0.1,
                rule: UpdateRule::Sgd { momentum: 0.0 },
                schedule: Schedule::Constant,
                decay: 0.0,
                batch_statistics: false,
                clip: Some(1e-3),
                ..FitOptions::default()
            };
            let (_, report) = fit(&graph, &data, &options, &mut ()).unwrap();
            let losses: Vec<f32> = report.epochs.iter().map(|e| e.loss).collect();
            // sww's outputs are saturated on these samples: there is hardly a slope.
            let lower = losses.windows(2).all(|l| l[1] < l[0]) || name == "sww" && losses[5] <= losses[0];
            assert!(lower, "{name}: {losses:?}");
        }
    }
}

#[test]
fn a_network_is_its_own_teacher() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/tones/model.onnx");
    let graph = lossless(offshoot_import::import(&path).unwrap()).unwrap().0;
    let data = Dataset::new(samples(&graph, 16).mapv(|v| 100.0 + 50.0 * v), Target::Unlabelled);
    let teacher = Teacher { graph: graph.clone(), temperature: 4.0, weight: 1.0, features: vec![] };
    let options = FitOptions { epochs: 1, batch: 16, teacher: Some(teacher), ..FitOptions::default() };
    let (_, report) = fit(&graph, &data, &options, &mut ()).unwrap();
    assert!(report.epochs[0].loss.abs() < 1e-5, "{report:?}");
}
