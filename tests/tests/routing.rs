//! Early exits and mixtures of experts, as PyTorch and ONNX write them: the answers of ONNX's reference evaluator, in float32
//! and int8, from a run that goes through one branch of each switch.
//!
//! `tests/onnx/routing.py` makes the networks. `OFFSHOOT_PYTHON` names an interpreter with the package `onnx`.

use std::path::Path;

use offshoot::format::record::{Record, Tag};
use offshoot::trace::{Observer, OpInfo};
use offshoot::{AlignedBytes, Engine};
use offshoot_cli::batch::Inputs;
use offshoot_cli::commands::compile::{self, Precision};
use offshoot_cli::files::{self, OffFile};
use offshoot_cli::ui::Ui;
use offshoot_data::npy;
use offshoot_skip::skip;
use offshoot_xtask::graphs;
use serde_json::Value;

#[derive(Default)]
struct Ran(Vec<u16>);

impl Observer for Ran {
    fn after(&mut self, op: OpInfo, _: &[u8]) {
        if op.tag != Tag::Branch {
            self.0.push(op.index);
        }
    }
}

/// Compiles a network to float32 and runs the calibration samples: numbers of switches, of operators, and of those that ran for each
/// sample.
fn ran(folder: &Path, name: &str) -> (usize, usize, Vec<Vec<u16>>) {
    let (graph, _) = files::read_graph(&folder.join(format!("{name}.onnx"))).unwrap();
    let args = compile::Args { precision: Some(Precision::F32), ..compile::Args::default() };
    let made = compile::make(&Ui { json: true }, graph, &[], &args, None).unwrap();
    let report = &made.compiled.report;
    assert!(
        report.macs <= report.operators.iter().map(|op| op.macs).sum(),
        "{name}: the dearest branch of each switch"
    );
    let file = OffFile::from_bytes(&made.compiled.bytes);
    let model = file.model().unwrap();
    let first = |record: &Record| matches!(record, Record::Branch(branch) if branch.number == 0);
    let switches = model.ops().filter(|(_, _, record)| first(record)).count();
    let count = model.op_count();
    let samples = npy::read(&folder.join(format!("{name}.c0.npy"))).unwrap();
    let inputs = Inputs::encode(&model, &[samples], &["x".to_owned()]).unwrap();
    let mut arena = AlignedBytes::zeroed(model.arena_bytes() as usize);
    let mut engine = Engine::new(model, arena.bytes_mut()).unwrap();
    let runs = (0..inputs.count()).map(|i| {
        engine.input_mut(0).unwrap().copy_from_slice(inputs.sample(i)[0]);
        let mut ran = Ran::default();
        engine.run_with(&mut ran).unwrap();
        ran.0
    });
    (switches, count.into(), runs.collect())
}

#[test]
fn one_branch_runs_and_gives_the_answers() {
    let folder = match graphs::script(&["routing"]) {
        Ok(Some(folder)) => folder,
        Ok(None) => {
            let reason = "Python lacks the package `onnx` (OFFSHOOT_PYTHON names another interpreter)";
            return skip(format_args!("routed networks: {reason}"));
        }
        Err(error) if error.to_string().contains("does not start") => {
            return skip(format_args!("routed networks: {error:#}"));
        }
        Err(error) => panic!("{error:#}"),
    };
    let cases: Vec<Value> =
        serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap();
    let outcomes = graphs::compared(&folder, cases.len(), None, true).unwrap();
    let mut faults = Vec::new();
    for (case, outcome) in cases.iter().zip(&outcomes) {
        let (name, main) = (case["name"].as_str().unwrap(), case["main"].as_str().unwrap());
        println!("{name} {main}: float32 {:?}, int8 {:?}", outcome.float, outcome.int8);
        faults.extend(outcome.fault().map(|fault| format!("{name} {main}: {fault}")));
        let (switches, operators, runs) = ran(&folder, name);
        let ways: std::collections::BTreeSet<_> = runs.iter().collect();
        let wanted = if ["stages", "gathered_weights"].contains(&main) { 2 } else { 1 };
        if switches != wanted || ways.len() < 2 || ways.iter().any(|way| way.len() + 2 >= operators) {
            faults.push(format!("{name} {main}: {switches} switches, {operators} operators, ways {ways:?}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
