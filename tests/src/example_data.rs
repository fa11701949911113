//! Files of the runtime's examples, made from the shipped models.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use offshoot_cli::commands::compile::{self, Precision};
use offshoot_cli::files;
use offshoot_cli::ui::Ui;
use offshoot_compress::nest::{Pair, Scales, nest};
use offshoot_compress::prune::{Groups, Split, slice};
use offshoot_compress::quantize::{QuantizeOptions, quantize};
use offshoot_data::npy::{self, Array};
use offshoot_data::synth::{Condition, Task};
use offshoot_export::{CompileOptions, LearningPlan, compile_nested};
use offshoot_ir::passes::lossless;
use offshoot_ir::{Data, Graph, ValueId};
use offshoot_train::shared::{Distil, Lot, Member, Shared, Source, recalibrate, whole};
use offshoot_train::{Dataset, FitOptions, Target, fit_shared, fold_input, models};

use crate::root;

/// Folder of the host examples' files.
pub const HOST: &str = "runtime/offshoot/examples/data";

/// Folder of the Cortex-M example's files.
pub const DEVICE: &str = "firmware/examples/hello";

/// The files that are made in seconds, by path from the repository's root.
pub fn quick() -> Vec<(PathBuf, Vec<u8>)> {
    let vibration = compiled("vibration", Precision::Int8, None);
    let readings = bytes("vibration", "test_x.npy", 4);
    let half = |name: &str, count| bytes("vibration", name, count);
    let host = [
        ("vibration.off", vibration.clone()),
        ("vibration_learns.off", compiled("vibration", Precision::Int8, Some("layers = []\nhead = \"lda\""))),
        ("tones.off", compiled("tones", Precision::Int8, None)),
        ("tones_f32.off", compiled("tones", Precision::F32, None)),
        ("vibration_x.u8", readings.clone()),
        ("tones_x.u8", bytes("tones", "test_x.npy", 8)),
        ("shifted_x.u8", [half("shifted_train_x.npy", 100), half("shifted_test_x.npy", 100)].concat()),
        ("shifted_y.u8", [half("shifted_train_y.npy", 100), half("shifted_test_y.npy", 100)].concat()),
    ];
    let first = readings[..readings.len() / 4].to_vec();
    let device = [("model.off", vibration), ("readings.u8", first)];
    let host = host.map(|(name, bytes)| (Path::new(HOST).join(name), bytes));
    host.into_iter().chain(device.map(|(name, bytes)| (Path::new(DEVICE).join(name), bytes))).collect()
}

/// A shipped model, compiled.
fn compiled(model: &str, precision: Precision, plan: Option<&str>) -> Vec<u8> {
    let (graph, _) = files::read_graph(&root().join("models").join(model).join("model.onnx")).unwrap();
    let samples =
        compile::calibration(&graph, &[read(model, "calibration_x.npy")], &["calibration".into()]).unwrap();
    let plan = plan.map(|plan| Box::new(LearningPlan::parse(plan).unwrap()));
    let args = compile::Args { precision: Some(precision), plan, ..compile::Args::default() };
    compile::make(&Ui { json: true }, graph, &samples, &args, None).unwrap().compiled.bytes
}

fn read(model: &str, name: &str) -> Array {
    npy::read(&root().join("models").join(model).join(name)).unwrap()
}

/// The first samples of an array of whole numbers from 0 to 255, a byte an element.
fn bytes(model: &str, name: &str, count: usize) -> Vec<u8> {
    let array = read(model, name).to_i64().unwrap();
    let all = array.outer_iter().take(count);
    all.flat_map(|sample| sample.iter().map(|&v| u8::try_from(v).unwrap()).collect::<Vec<_>>()).collect()
}

/// The file of two networks on the same weights, made in a minute or two: the network for tones, and a prefix of half of its channels that
/// was trained with it (sorted training with in-place distillation).
pub fn sub_networks() -> (PathBuf, Vec<u8>) {
    let (offset, scale) = (128.0, 1.0 / 64.0);
    let samples = Task::Tones.generate(Condition::Usual, 1, 4000);
    let raw = samples.x.to_f32();
    let x = raw.mapv(|v| (v - offset) * scale);
    let start = models::network(Task::Tones, 11);
    let members = [Arc::new(whole(&start)), Arc::new(prefix(&start, 0.5))];
    let lots = |_: usize, batch: usize| {
        Ok(members.iter().map(|m| Lot { member: m.clone(), samples: 0..batch, weight: 0.5 }).collect())
    };
    let distil = Some(Distil { temperature: 2.0, weight: 0.5 });
    let shared = Shared { lots: &lots, label: "halves".into(), distil };
    let data = Dataset::new(x.clone(), Target::Labels(samples.y));
    let options = FitOptions { epochs: 8, ..FitOptions::default() };
    let (trained, _) = fit_shared(&start, &data, &shared, &options, &mut ()).unwrap();
    let floats: Vec<Graph> = (members.iter())
        .map(|member| {
            let mut graph = recalibrate(&member.cut(&trained), std::slice::from_ref(&x), 64).unwrap();
            fold_input(&mut graph, offset, scale).unwrap();
            lossless(graph).unwrap().0
        })
        .collect();
    let calibration: Vec<_> = (raw.outer_iter().take(96))
        .map(|sample| vec![sample.to_owned().insert_axis(ndarray::Axis(0))])
        .collect();
    let quantised = floats.iter().map(|f| quantize(f, &calibration, &QuantizeOptions::default()).unwrap().0);
    let [large, small]: [Graph; 2] = quantised.collect::<Vec<_>>().try_into().unwrap();
    let pair = |float, quantised| Pair { float, quantised };
    let (small, report) = nest(pair(&floats[0], &large), pair(&floats[1], &small), Scales::Own).unwrap();
    println!("layers on the weights of the whole: {}, others: {:?}", report.shared.len(), report.own);
    let bytes = compile_nested(&[large, small], &CompileOptions::default()).unwrap().bytes;
    (Path::new(HOST).join("tones_nested.off"), bytes)
}

/// The sub-network of the first channels of each family.
fn prefix(graph: &Graph, share: f64) -> Member {
    let groups = Groups::elastic(graph, Split::default()).unwrap();
    let mut removed = vec![false; groups.len()];
    for family in groups.families.iter().filter(|f| groups.refusal(f).is_none()) {
        let kept = ((family.groups.len() as f64 * share / 4.0).round() as usize * 4).max(4);
        family.groups.iter().skip(kept).for_each(|&group| removed[group] = true);
    }
    let small = slice(graph, &groups, &removed).unwrap();
    let ids = (0..graph.values.len()).map(|i| ValueId(i as u32));
    let sources = ids.filter_map(|id| {
        let value = graph.value(id);
        let Some(Data::F32(data)) = value.data.as_deref() else { return None };
        let part = small.values.iter().position(|v| v.name == value.name && v.data.is_some())?;
        let gone = groups.elements(graph, id, &removed).unwrap_or_else(|| vec![false; data.len()]);
        let elements = (0..data.len() as u32).filter(|&e| !gone[e as usize]).collect();
        Some(Source { part: ValueId(part as u32), whole: id, elements })
    });
    let sources = sources.collect();
    Member { graph: small, sources }
}
