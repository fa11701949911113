//! A firmware with one model and just what it needs: it gives the host's bytes, takes little flash and stack, and cannot panic.
//!
//! `OFFSHOOT_SKIP_EMULATED=1` skips this where there is no QEMU, and says so.

use std::path::Path;

use ed25519_dalek::SigningKey;
use offshoot_cli::batch::{self, Inputs};
use offshoot_cli::commands::compile::Prefer;
use offshoot_cli::commands::profile;
use offshoot_cli::files::OffFile;
use offshoot_cli::signing::{self, Statement};
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
        let elf = single::build(&model, "qemu:cortex-m4", None).unwrap();
        let inputs = sample(name, &off);
        let report = single::execute(&elf, &model, "qemu:cortex-m4", inputs.sample(0)[0]).unwrap();
        let host =
            batch::run(&Ui { json: true }, &off, &inputs.head(1), &Target::Host, batch::Sequences::default())
                .unwrap();
        assert_eq!(report.output, host[0][0], "{name}");
        println!("{name}: {} B of code, {} B of stack", report.code_bytes, report.stack_bytes);
        assert!(report.code_bytes <= code, "{name}: {} B of code, {code} allowed", report.code_bytes);
        assert!(report.stack_bytes <= stack, "{name}: {} B of stack, {stack} allowed", report.stack_bytes);
        if name == "kws" {
            a_signed_model_runs_and_another_does_not(&model, &off, folder.path());
        }
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

/// The same network, signed: bytes of code and constants without the model, of stack, and instructions to verify and open it.
const SIGNED: (u64, u64, u32) = (36_000, 3_400, 8_000_000);

/// Runs after the test above, if at all: a model that somebody else signed, or for another board, gets no answer.
fn a_signed_model_runs_and_another_does_not(model: &Path, off: &OffFile, folder: &Path) {
    let write = |name: &str, target: &str, key: &SigningKey| {
        let statement =
            Statement { release: Some(1), for_target: Some(target.into()), ..Statement::default() };
        let path = folder.join(name);
        std::fs::write(&path, statement.sign(key, off.bytes(), &path).unwrap()).unwrap();
        path
    };
    let (key, other) = (signing::generate().unwrap(), signing::generate().unwrap());
    let public = folder.join("key.pub.pem");
    signing::write_public(&public, &key.verifying_key()).unwrap();
    let signed = write("signed.off", "cortex-m4", &key);
    let instructions = single::count_opening(&signed, "qemu:cortex-m4", &public).unwrap();
    let elf = single::build(&signed, "qemu:cortex-m4", Some(&public)).unwrap();
    let inputs = sample("kws", off);
    let report = single::execute(&elf, &signed, "qemu:cortex-m4", inputs.sample(0)[0]).unwrap();
    let host =
        batch::run(&Ui { json: true }, off, &inputs.head(1), &Target::Host, batch::Sequences::default());
    assert_eq!(report.output, host.unwrap()[0][0]);
    let (code, stack) = (report.code_bytes, report.stack_bytes);
    println!(
        "signed kws: {code} B of code, {stack} B of stack, {instructions} instructions to verify and open"
    );
    assert!(code <= SIGNED.0 && stack <= SIGNED.1 && instructions <= SIGNED.2);
    assert!(single::starts(&elf, "qemu:cortex-m4").unwrap());
    for wrong in
        [write("other.off", "cortex-m4", &other), write("m3.off", "cortex-m3", &key), model.to_owned()]
    {
        // An unsigned model cannot even be built in.
        match single::build(&wrong, "qemu:cortex-m4", Some(&public)) {
            Ok(elf) => assert!(!single::starts(&elf, "qemu:cortex-m4").unwrap(), "{}", wrong.display()),
            Err(error) => assert!(wrong == model && error.to_string().contains("not signed"), "{error}"),
        }
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
