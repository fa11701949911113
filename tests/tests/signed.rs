//! Signed models from the command line to the check: keys, `sign`, `compile --sign`, `verify-signature`, `inspect`; and a second reader of
//! the envelope and of the signature. Tries to get something else accepted are in `runtime/sign/tests/attack.rs`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use offshoot_sign::{ENVELOPE_LEN, PublicKey};
use offshoot_tests::root;
use serde_json::Value;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Makes a key; the files of its halves and the public half.
    fn key(&self, name: &str) -> (PathBuf, PathBuf, PublicKey) {
        let private = self.path(&format!("{name}.pem"));
        let report = ok(&["keygen", "-o", s(&private)]);
        let bytes: Vec<u8> = serde_json::from_value(report["bytes"].clone()).unwrap();
        let public = PublicKey::new(bytes.try_into().unwrap()).unwrap();
        (private, self.path(&format!("{name}.pub.pem")), public)
    }
}

fn s(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn offshoot(args: &[&str]) -> Output {
    // target/<profile>/deps/<test> → target/<profile>/offshoot.
    let exe = std::env::current_exe().unwrap();
    let bin = exe.parent().unwrap().parent().unwrap().join("offshoot");
    assert!(bin.exists(), "{} is missing: run `cargo build --workspace` first", bin.display());
    Command::new(bin).args(args).arg("--json").output().unwrap()
}

fn ok(args: &[&str]) -> Value {
    let out = offshoot(args);
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{args:?}: {text} {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_str(&text).unwrap()
}

/// Kind and message of what must fail.
fn fails(args: &[&str]) -> (String, String) {
    let out = offshoot(args);
    assert!(!out.status.success(), "{args:?} succeeded");
    let json: Value = serde_json::from_slice(&out.stdout).unwrap();
    let text = |field: &str| json["error"][field].as_str().unwrap().to_owned();
    (text("kind"), text("message"))
}

/// A small model that lies in the repository.
fn model() -> PathBuf {
    root().join("runtime/offshoot/examples/data/vibration.off")
}

#[test]
fn a_model_is_signed_and_checked() {
    let folder = Folder::new();
    let (private, public, _) = folder.key("release");
    let (_, other_public, _) = folder.key("other");
    let signed = folder.path("vibration.off");
    let (unsigned, statement) = (model(), ["--release", "7", "--for-target", "nrf52840"]);
    let sign = [&["sign", s(&unsigned), "--key", s(&private), "-o", s(&signed)], &statement[..]].concat();
    let report = ok(&sign);
    assert_eq!(report["signature"]["release"], 7);
    let bytes = std::fs::read(&signed).unwrap();
    let plain = std::fs::read(model()).unwrap();
    assert_eq!(bytes[ENVELOPE_LEN..], plain);

    let check = ["verify-signature", s(&signed), "--key", s(&public)];
    assert_eq!(ok(&check)["signature"]["name"], "vibration");
    ok(&[&check[..], &["--key", s(&other_public), "--least-release", "7", "--target", "nrf52840"]].concat());
    let kind = |more: &[&str]| fails(&[&check[..], more].concat());
    assert!(kind(&["--least-release", "8"]).1.contains("older"));
    assert!(kind(&["--target", "nrf5340"]).1.contains("another target"));
    assert_eq!(kind(&["--name", "keywords"]).0, "signature");
    let untrusted = fails(&["verify-signature", s(&signed), "--key", s(&other_public)]);
    assert!(untrusted.0 == "signature" && untrusted.1.contains("not trusted"), "{untrusted:?}");
    assert!(fails(&["verify-signature", s(&model()), "--key", s(&public)]).1.contains("not signed"));

    // `inspect` says what the signature says, and what the model is.
    let inspected = ok(&["inspect", s(&signed)]);
    assert_eq!(inspected["signature"]["state"], "unchecked");
    assert_eq!(inspected["signature"]["target"], "nrf52840");
    assert_eq!(ok(&["inspect", s(&model())])["signature"]["state"], "unsigned");
    assert_eq!(inspected["operators"], ok(&["inspect", s(&model())])["operators"]);

    // Signed again: the old envelope goes.
    let again = folder.path("again.off");
    ok(&["sign", s(&signed), "--key", s(&private), "--release", "8", "-o", s(&again)]);
    assert_eq!(std::fs::read(&again).unwrap()[ENVELOPE_LEN..], plain);

    // Wrong input leaves nothing behind.
    let missing = folder.path("missing.off");
    assert_eq!(fails(&["sign", s(&model()), "--key", s(&private), "-o", s(&missing)]).0, "usage");
    assert_eq!(
        fails(&["sign", s(&model()), "--key", s(&public), "--release", "1", "-o", s(&missing)]).0,
        "format"
    );
    assert!(!missing.exists());
    assert_eq!(fails(&["keygen", "-o", s(&private)]).0, "io");
    std::fs::write(&missing, &bytes[..100]).unwrap();
    assert_eq!(fails(&["inspect", s(&missing)]).0, "format");
}

#[test]
fn a_compiled_model_can_be_signed_at_once() {
    let folder = Folder::new();
    let (private, public, _) = folder.key("k");
    let glyphs = root().join("models/glyphs");
    let (onnx, calib) = (glyphs.join("model.onnx"), glyphs.join("calibration_x.npy"));
    let out = folder.path("glyphs.off");
    let compile = ["compile", s(&onnx), "--calib", s(&calib), "-o", s(&out)];
    assert_eq!(fails(&[&compile[..], &["--sign", s(&private)]].concat()).0, "usage");
    assert_eq!(fails(&[&compile[..], &["--release", "1"]].concat()).0, "usage");
    assert!(!out.exists());
    let report = ok(&[&compile[..], &["--sign", s(&private), "--release", "1"]].concat());
    assert_eq!(report["signature"]["name"], "glyphs");
    ok(&["verify-signature", s(&out), "--key", s(&public), "--least-release", "1"]);
    let signed = std::fs::read(&out).unwrap();
    ok(&compile);
    assert_eq!(std::fs::read(&out).unwrap(), signed[ENVELOPE_LEN..], "the network is the same");
}

#[test]
fn a_second_reader_agrees() {
    let folder = Folder::new();
    let (private, public, key) = folder.key("k");
    let signed = folder.path("m.off");
    ok(&["sign", s(&model()), "--key", s(&private), "--release", "3", "-o", s(&signed)]);
    let python = std::env::var("OFFSHOOT_PYTHON").unwrap_or_else(|_| "python3".into());
    let lines = |file: &Path| {
        let out = Command::new(&python).arg(root().join("tests/format_reader.py")).arg(file).output();
        let out = out.unwrap_or_else(|e| panic!("{python}: {e}"));
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    let (with, without) = (lines(&signed), lines(&model()));
    let (envelope, rest) = with.split_once('\n').unwrap();
    assert_eq!(rest, without);
    let fields: Value = serde_json::from_str(envelope.strip_prefix("0 Envelope ").unwrap()).unwrap();
    let id: String = key.id().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((&fields["release"], &fields["name"], &fields["key"]), (&3.into(), &"m".into(), &id.into()));

    let program = "import sys\n\
        from cryptography.hazmat.primitives.serialization import load_pem_public_key\n\
        data = open(sys.argv[1], 'rb').read()\n\
        load_pem_public_key(open(sys.argv[2], 'rb').read()).verify(data[16:80], data[80:])\n";
    let check = |file: &Path| {
        let out = Command::new(&python).args(["-c", program]).args([file, &public]).output().unwrap();
        (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (holds, error) = check(&signed);
    if error.contains("No module named") {
        offshoot_tests::skip(format_args!("the Python package `cryptography` is absent"));
        return;
    }
    assert!(holds, "{error}");
    let mut changed = std::fs::read(&signed).unwrap();
    changed[200] ^= 1;
    std::fs::write(folder.path("changed.off"), changed).unwrap();
    assert!(!check(&folder.path("changed.off")).0);
}
