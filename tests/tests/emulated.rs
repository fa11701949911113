//! Host against emulated boards: the same bits on every intermediate tensor, and counts that repeat.
//!
//! `OFFSHOOT_SKIP_EMULATED=1` skips these where there is no QEMU, and says so.

use std::path::Path;

use offshoot_cli::batch::{self, Inputs};
use offshoot_cli::commands::compile::{self, Precision};
use offshoot_cli::commands::profile;
use offshoot_cli::failure::Kind;
use offshoot_cli::files::{self, OffFile};
use offshoot_cli::ui::Ui;
use offshoot_data::npy;
use offshoot_target::{BOARDS, Device, HostDevice, Target, TargetError};
use offshoot_tests::{board, data, root, skip_emulated};

const UI: Ui = Ui { json: true };
const SHIPPED: [&str; 3] = ["glyphs", "vibration", "tones"];

/// A shipped model as int8 or float, with its test samples.
fn shipped(name: &str, precision: &Precision) -> (OffFile, Inputs) {
    let folder = root().join("models").join(name);
    let read = |file: &str| npy::read(&folder.join(file)).unwrap();
    let (graph, _) = files::read_graph(&folder.join("model.onnx")).unwrap();
    let samples = match precision {
        Precision::F32 => Vec::new(),
        _ => compile::calibration(&graph, &[read("calibration_x.npy")], &["calibration".into()]).unwrap(),
    };
    let args = compile::Args { precision: Some(precision.clone()), ..compile::Args::default() };
    let made = compile::make(&UI, graph, &samples, &args, None).unwrap();
    let file = OffFile::from_bytes(&made.compiled.bytes);
    let inputs = Inputs::encode(&file.model().unwrap(), &[read("test_x.npy")], &["x".into()]).unwrap();
    (file, inputs)
}

fn same_bits(what: &str, file: &OffFile, inputs: &Inputs, device: &mut dyn Device, count: usize) {
    let mut host = HostDevice::new();
    host.load(file.bytes()).unwrap();
    device.load(file.bytes()).unwrap_or_else(|e| panic!("{what}: {e}"));
    for i in 0..count {
        let sample = inputs.sample(i);
        let (here, there) = (host.digests(&sample).unwrap(), device.digests(&sample).unwrap());
        let first = here.iter().zip(&there).position(|(a, b)| a != b);
        assert_eq!(first, None, "{what}: operator {first:?} departs on sample {i}");
        assert_eq!(here.len(), there.len(), "{what}");
        assert_eq!(host.run(&sample).unwrap(), device.run(&sample).unwrap(), "{what}: outputs of sample {i}");
    }
}

#[test]
fn shipped_models_give_the_same_bits_on_cortex_m4() {
    if skip_emulated() {
        return;
    }
    for name in SHIPPED {
        for precision in [Precision::Int8, Precision::Int4, Precision::Int2, Precision::F32] {
            let (file, inputs) = shipped(name, &precision);
            same_bits(&format!("{name} {precision:?}"), &file, &inputs, board("qemu:cortex-m4").as_mut(), 3);
        }
    }
}

/// The boards but the M4, which the other tests have: cores without FPU, division or DSP, another architecture.
#[test]
fn every_board_gives_the_same_bits() {
    if skip_emulated() {
        return;
    }
    for precision in [Precision::Int8, Precision::Int4, Precision::F32] {
        let (file, inputs) = shipped("vibration", &precision);
        for target in BOARDS.iter().filter(|b| b.name != "qemu:cortex-m4") {
            let mut device = board(target.name);
            let what = format!("vibration {precision:?} on {}", target.name);
            match device.load(file.bytes()) {
                // Float activations are four times as large.
                Err(TargetError::DoesNotFit { .. }) if precision == Precision::F32 => {
                    assert_eq!(target.name, "qemu:cortex-m0");
                }
                _ => same_bits(&what, &file, &inputs, device.as_mut(), 1),
            }
        }
    }
    // Operators that the first model does not have.
    for name in ["glyphs", "tones"] {
        let (file, inputs) = shipped(name, &Precision::Int8);
        for target in
            ["qemu:cortex-m3", "qemu:cortex-m33", "qemu:cortex-m55", "qemu:cortex-m0", "qemu:riscv32"]
        {
            same_bits(&format!("{name} on {target}"), &file, &inputs, board(target).as_mut(), 1);
        }
    }
}

#[test]
fn what_does_not_fit_a_board_is_said() {
    if skip_emulated() {
        return;
    }
    let error = board("qemu:cortex-m0").load(&[0; 200 << 10]).unwrap_err();
    assert!(error.to_string().contains("204800 bytes, there are"), "{error}");
    // It fits the flash, but its arena not the RAM.
    let (file, _) = shipped("vibration", &Precision::F32);
    let error = board("qemu:cortex-m0").load(file.bytes()).unwrap_err();
    let TargetError::DoesNotFit { needed, there, .. } = error else { panic!("{error}") };
    assert!(needed == u64::from(file.model().unwrap().arena_bytes()) && needed > there);
    let failure = batch::load(board("qemu:cortex-m0").as_mut(), &file).unwrap_err();
    assert_eq!(failure.kind, Kind::Budget);
}

#[test]
fn public_models_give_the_same_bits_on_cortex_m4() {
    if skip_emulated() {
        return;
    }
    for (name, x) in [
        ("kws", "keywords/x_i8.npy"),
        ("ic", "cifar10/test_x.npy"),
        ("vww", "golden_vww/x_i8.npy"),
        ("ad", "golden_ad/x_i8.npy"),
        ("sww", "golden_sww/x_i8.npy"),
    ] {
        for kind in ["int8", "f32"] {
            let (Some(onnx), Some(x)) = (data(&format!("mlperf_tiny/{name}_{kind}.onnx")), data(x)) else {
                return;
            };
            let (graph, _) = files::read_graph(&onnx).unwrap();
            let precision = (kind == "f32").then_some(Precision::F32);
            let args = compile::Args { precision, ..compile::Args::default() };
            let made = compile::make(&UI, graph, &[], &args, None).unwrap();
            let file = OffFile::from_bytes(&made.compiled.bytes);
            let inputs = Inputs::encode(&file.model().unwrap(), &[head(&x, 2)], &["x".into()]).unwrap();
            same_bits(&format!("{name} {kind}"), &file, &inputs, board("qemu:cortex-m4").as_mut(), 2);
        }
    }
}

fn head(path: &Path, count: usize) -> npy::Array {
    use npy::Array;
    let cut = ndarray::Slice::from(..count);
    match npy::read(path).unwrap() {
        Array::I8(a) => a.slice_axis(ndarray::Axis(0), cut).to_owned().into(),
        other => other.to_f32().slice_axis(ndarray::Axis(0), cut).to_owned().into(),
    }
}

#[test]
fn two_runs_count_the_same_instructions() {
    if skip_emulated() {
        return;
    }
    let (file, inputs) = shipped("vibration", &Precision::Int8);
    // A board of its own for each run: nothing is carried over.
    let run = || {
        let mut device = board("qemu:cortex-m4");
        let report = profile::profile(device.as_mut(), &file, &inputs, "qemu:cortex-m4", None).unwrap();
        let operators: Vec<_> = report.operators.iter().map(|o| (o.instructions, o.stack_bytes)).collect();
        (report.instructions, report.stack_bytes, operators)
    };
    let (first, second) = (run(), run());
    assert_eq!(first, second);
    // Bounds of the portable kernels: a count that leaves them means that measuring broke.
    let total = first.0.unwrap();
    let macs: u64 = file.model().unwrap().ops().map(|(_, _, r)| offshoot::operators::macs(&r)).sum();
    assert!((macs..40 * macs).contains(&total), "{total} instructions for {macs} MACs");
}

#[test]
fn outputs_of_a_batch_are_those_of_the_host() {
    if skip_emulated() {
        return;
    }
    let (file, inputs) = shipped("tones", &Precision::Int8);
    let few = inputs.head(5);
    let host = batch::run(&UI, &file, &few, &Target::Host, batch::Sequences::default()).unwrap();
    let device =
        batch::run(&UI, &file, &few, &Target::parse("qemu:cortex-m4").unwrap(), batch::Sequences::default())
            .unwrap();
    assert_eq!(host, device);
}

#[test]
fn modelled_cycles_of_operators_add_up() {
    if skip_emulated() {
        return;
    }
    let (file, inputs) = shipped("vibration", &Precision::Int8);
    // That plugin and timer agree on every board's count is checked where cycles are modelled.
    for name in ["qemu:cortex-m3", "qemu:cortex-m4", "qemu:cortex-m7", "qemu:cortex-m33", "qemu:cortex-m0"] {
        let report = profile::profile_with_cycles(board(name).as_mut(), &file, &inputs, name, None).unwrap();
        let (instructions, Some(cycles)) = (report.instructions.unwrap(), report.cycles_modelled) else {
            offshoot_tests::skip(report.cycles_note.unwrap());
            return;
        };
        let operators: u64 = report.operators.iter().map(|o| o.cycles_modelled.unwrap()).sum();
        // Caches are cold at each operator when it is observed.
        assert!(operators.abs_diff(cycles) < cycles / 20, "{name}: {operators} of {cycles} cycles");
        let least = if name == "qemu:cortex-m7" { instructions / 2 } else { instructions };
        assert!(
            (least..4 * instructions).contains(&cycles),
            "{name}: {cycles} cycles, {instructions} instructions"
        );
    }
}
