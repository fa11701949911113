//! A firmware with one model and just what it needs: it gives the host's bytes, takes little flash and stack, and cannot panic.
//!
//! `OFFSHOOT_SKIP_EMULATED=1` skips this where there is no QEMU, and says so.

use offshoot_cli::batch::{self, Inputs};
use offshoot_cli::commands::compile::Prefer;
use offshoot_cli::commands::profile;
use offshoot_cli::files::OffFile;
use offshoot_cli::ui::Ui;
use offshoot_data::npy;
use offshoot_target::Target;
use offshoot_tests::{data, skip_emulated};
use offshoot_xtask::bench::{data_folder, networks};
use offshoot_xtask::single;

/// Bytes of code and constants without the model, and of stack.
const BOUNDS: [(&str, u64, u64); 3] =
    [("vibration", 29_000, 1_450), ("ad", 9_000, 1_000), ("kws", 24_000, 1_300)];

// One after another: they are built in the same place.
#[test]
fn one_model_takes_little_and_gives_the_bytes_of_the_host() {
    if skip_emulated() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, code, stack) in BOUNDS {
        let network = networks::all().into_iter().find(|n| n.name == name).unwrap();
        let Some(onnx) = network.find(&data_folder()) else {
            offshoot_tests::skip(format_args!("{} is absent", network.path(&data_folder()).display()));
            continue;
        };
        let off = network.compile(&onnx, Prefer::Balanced).unwrap();
        let model = folder.path().join("model.off");
        std::fs::write(&model, off.bytes()).unwrap();
        single::prove_no_panic(&model, "qemu:cortex-m4").unwrap();
        let elf = single::build(&model, "qemu:cortex-m4").unwrap();
        let inputs = sample(name, &off);
        let report = single::execute(&elf, &model, "qemu:cortex-m4", inputs.sample(0)[0]).unwrap();
        let host =
            batch::run(&Ui { json: true }, &off, &inputs.head(1), &Target::Host, batch::Sequences::default())
                .unwrap();
        assert_eq!(report.output, host[0][0], "{name}");
        println!("{name}: {} B of code, {} B of stack", report.code_bytes, report.stack_bytes);
        assert!(report.code_bytes <= code, "{name}: {} B of code, {code} allowed", report.code_bytes);
        assert!(report.stack_bytes <= stack, "{name}: {} B of stack, {stack} allowed", report.stack_bytes);
    }
    // Residual additions; fused row tiles and pools that are not global.
    for name in ["ic", "vww"] {
        let network = networks::all().into_iter().find(|n| n.name == name).unwrap();
        let Some(onnx) = network.find(&data_folder()) else {
            offshoot_tests::skip(format_args!("{} is absent", network.path(&data_folder()).display()));
            continue;
        };
        let model = folder.path().join("model.off");
        std::fs::write(&model, network.compile(&onnx, Prefer::Balanced).unwrap().bytes()).unwrap();
        single::prove_no_panic(&model, "qemu:cortex-m4").unwrap();
    }
}

/// Golden inputs where there are some, else zeros.
fn sample(name: &str, off: &OffFile) -> Inputs {
    let golden = data(&format!("golden_operators/{name}_in.npy")).map(|path| npy::read(&path).unwrap());
    golden.map_or_else(
        || profile::zeros(off).unwrap(),
        |array| Inputs::encode(&off.model().unwrap(), &[array], &["x".into()]).unwrap(),
    )
}
