//! Compiles ONNX networks in a build script: the program then embeds what the network is today.
//!
//! `Cargo.toml`:
//! ```toml
//! [dependencies]
//! offshoot = { path = "…/runtime/offshoot" }
//!
//! [build-dependencies]
//! offshoot-build = { path = "…/tools/build" } # part of the repository; no registry has it
//! ```
//! `build.rs`:
//! ```no_run
//! offshoot_build::compile("model.onnx").calibration("samples.npy").write();
//! ```
//! `src/main.rs`:
//! ```ignore
//! offshoot::include_model!(Keywords, concat!(env!("OUT_DIR"), "/model.off"));
//! ```
//!
//! It does what `offshoot compile` does, with the same settings and to the byte. Paths are relative to the package. The
//! build script runs again when one of the files changes.
//!
//! Cargo builds what build scripts depend on without optimisation. For a large network it is worth the longer first build to
//! change that, in the program's `Cargo.toml`:
//! ```toml
//! [profile.dev.build-override]
//! opt-level = 2
//!
//! [profile.release.build-override]
//! opt-level = 2
//! ```

use std::path::{Path, PathBuf};

use offshoot_cli::Ui;
use offshoot_cli::commands::compile;

pub use offshoot_cli::commands::compile::{NestedScales, Precision, Prefer, Report};
pub use offshoot_cli::{Failure, Kind};

/// Begins the compilation of a network: `path` is an ONNX file, float or int8 in QDQ form.
pub fn compile(path: impl Into<PathBuf>) -> Compile {
    Compile(compile::Args { model: path.into(), ..compile::Args::default() })
}

/// A network and how it is to be compiled. Settings that are not given are those of `offshoot compile`.
#[derive(Clone, Debug)]
#[must_use = "`write` compiles the network"]
pub struct Compile(compile::Args);

impl Compile {
    /// Typical samples (`.npy`), from which a float network becomes int8: 50 to 500, prepared as for the network. Once for each
    /// input, in order.
    pub fn calibration(mut self, path: impl Into<PathBuf>) -> Self {
        self.0.calib.push(path.into());
        self
    }

    /// Number format. Default: int8 if there are calibration samples.
    pub fn precision(mut self, precision: Precision) -> Self {
        self.0.precision = Some(precision);
        self
    }

    /// What counts most where one resource can be had for another. Default: [`Prefer::Balanced`].
    pub fn prefer(mut self, prefer: Prefer) -> Self {
        self.0.prefer = prefer;
        self
    }

    /// What learns on the device: a plan (`.toml`).
    pub fn learn(mut self, plan: impl Into<PathBuf>) -> Self {
        self.0.learn = Some(plan.into());
        self
    }

    /// Classes of the calibration samples (`.npy`), for plans with probes.
    pub fn labels(mut self, path: impl Into<PathBuf>) -> Self {
        self.0.labels = Some(path.into());
        self
    }

    /// A sub-network (`.onnx`) that goes into the same file on the same weights. Largest first.
    pub fn nested(mut self, path: impl Into<PathBuf>) -> Self {
        self.0.nested.push(path.into());
        self
    }

    /// Where the scales of the sub-networks' activations come from.
    pub fn nested_scales(mut self, scales: NestedScales) -> Self {
        self.0.nested_scales = scales;
        self
    }

    /// Recurrent layers keep their state from one run to the next.
    pub fn stateful(mut self) -> Self {
        self.0.stateful = true;
        self
    }

    /// The build fails if the file has more bytes.
    pub fn max_flash(mut self, bytes: u64) -> Self {
        self.0.max_flash = Some(bytes);
        self
    }

    /// The build fails if the arena has more bytes.
    pub fn max_ram(mut self, bytes: u64) -> Self {
        self.0.max_ram = Some(bytes);
        self
    }

    /// Compiles the network to a file of the same name in `OUT_DIR`, `model.off` for `model.onnx`, and tells Cargo which files it was
    /// made from. A network that cannot be compiled fails the build, with the reason and the way out.
    ///
    /// With a plan that learns, `model.train_arena_bytes` beside it holds the bytes of arena that learning needs:
    /// `const BYTES: usize = include!(concat!(env!("OUT_DIR"), "/model.train_arena_bytes"));`
    pub fn write(self) {
        self.sources().for_each(|path| println!("cargo::rerun-if-changed={}", path.display()));
        let written = match std::env::var_os("OUT_DIR") {
            Some(folder) => self.write_to(Path::new(&folder)),
            None => Err(Failure::new(Kind::Usage, "OUT_DIR is not set", "call this from a build script")),
        };
        if let Err(failure) = written {
            println!("cargo::error={}", one_line(&failure.message));
            println!("cargo::error=help: {}", one_line(&failure.help));
            std::process::exit(1);
        }
    }

    /// Compiles the network to a file of the same name in `folder`.
    ///
    /// # Errors
    /// As of `offshoot compile`.
    pub fn write_to(mut self, folder: &Path) -> Result<Report, Failure> {
        let stem = self.0.model.file_stem().unwrap_or_default();
        self.0.output = folder.join(stem).with_extension("off");
        let report = compile::run(&Ui { json: true }, &self.0)?;
        let learning = report.compiled.learning.as_ref();
        if let Some(bytes) = learning.map(|learning| learning.train_arena_bytes) {
            let path = self.0.output.with_extension("train_arena_bytes");
            let written = offshoot_report::write_atomically(&path, bytes.to_string().as_bytes());
            written.map_err(|e| Failure::writing(&path, &e))?;
        }
        Ok(report)
    }

    /// The files that the compiled one depends on.
    fn sources(&self) -> impl Iterator<Item = &PathBuf> {
        let args = &self.0;
        let policy = match &args.precision {
            Some(Precision::Policy(path)) => Some(path),
            _ => None,
        };
        let optional = [args.learn.as_ref(), args.labels.as_ref(), policy].into_iter().flatten();
        [&args.model].into_iter().chain(&args.calib).chain(&args.nested).chain(optional)
    }
}

/// Cargo reads its instructions line by line.
fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/vibration").join(name)
    }

    #[test]
    fn what_is_written_opens_and_says_what_learning_takes() {
        let folder = tempfile::tempdir().unwrap();
        let plan = folder.path().join("plan.toml");
        std::fs::write(&plan, "layers = []\nhead = \"nearest-mean\"").unwrap();
        let compile = compile(model("model.onnx"))
            .calibration(model("calibration_x.npy"))
            .prefer(Prefer::Ram)
            .learn(&plan)
            .max_flash(40_000);
        let sources: Vec<_> = compile.sources().collect();
        assert_eq!(sources, [&model("model.onnx"), &model("calibration_x.npy"), &plan]);
        compile.write_to(folder.path()).unwrap();
        let file = offshoot_cli::files::OffFile::read(&folder.path().join("model.off")).unwrap();
        let bytes = std::fs::read_to_string(folder.path().join("model.train_arena_bytes")).unwrap();
        assert_eq!(Some(bytes.parse().unwrap()), file.model().unwrap().train_arena_bytes());
    }

    #[test]
    fn what_cannot_be_compiled_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let failure = compile(model("model.onnx")).write_to(folder.path()).unwrap_err();
        assert_eq!(failure.kind, Kind::Calibration);
        let small = compile(model("model.onnx")).calibration(model("calibration_x.npy")).max_flash(1000);
        assert_eq!(small.write_to(folder.path()).unwrap_err().kind, Kind::Budget);
        assert_eq!(one_line("a\n  b"), "a; b");
    }
}
