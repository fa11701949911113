//! The networks to measure: those of MLPerf Tiny, as int8 files with TFLite Micro's scales, and the shipped models,
//! which are quantised here.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use offshoot_cli::commands::compile::{self, Precision, Prefer};
use offshoot_cli::commands::parse_target;
use offshoot_cli::files::{self, OffFile};
use offshoot_cli::ui::Ui;
use offshoot_data::npy;

use super::figures::Case;

/// A network.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    /// Its name in tables and figures.
    pub name: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `mlperf_tiny/NAME_int8.onnx` in the folder of data sets.
    Public,
    /// `models/NAME/` in the repository, with calibration samples.
    Shipped,
}

/// All networks, the public ones first.
pub fn all() -> Vec<Network> {
    let public = ["kws", "ic", "vww", "ad", "sww"].map(|name| Network { name, kind: Kind::Public });
    let shipped = ["glyphs", "vibration", "tones"].map(|name| Network { name, kind: Kind::Shipped });
    public.into_iter().chain(shipped).collect()
}

/// The preference as an argument of `--prefer`.
pub fn preference(prefer: Prefer) -> &'static str {
    match prefer {
        Prefer::Balanced => "balanced",
        Prefer::Speed => "speed",
        Prefer::Ram => "ram",
        Prefer::Flash => "flash",
    }
}

impl Network {
    /// Path of its ONNX file.
    pub fn path(&self, data: &Path) -> PathBuf {
        match self.kind {
            Kind::Public => data.join(format!("mlperf_tiny/{}_int8.onnx", self.name)),
            Kind::Shipped => super::root().join("models").join(self.name).join("model.onnx"),
        }
    }

    /// Path of its ONNX file, if it exists.
    pub fn find(&self, data: &Path) -> Option<PathBuf> {
        Some(self.path(data)).filter(|p| p.is_file())
    }

    /// The case that its figures belong to.
    pub fn case(&self, prefer: Prefer, target: &str) -> Case {
        Case {
            network: self.name.to_owned(),
            prefer: preference(prefer).to_owned(),
            target: target.to_owned(),
        }
    }

    /// Compiles it to a `.off` file.
    ///
    /// # Errors
    /// The network cannot be read or does not compile.
    pub fn compile(&self, onnx: &Path, prefer: Prefer) -> Result<OffFile> {
        self.compile_for(onnx, prefer, None)
    }

    /// The file for a board whose core has forms of layers that others run slowly (Helium); `None` for a board that runs the file
    /// of [`Self::compile`].
    ///
    /// # Errors
    /// As [`Self::compile_for`].
    pub fn own_file(&self, onnx: &Path, prefer: Prefer, target: &str) -> Result<Option<OffFile>> {
        let own = offshoot_target::BOARDS.iter().any(|b| b.name == target && b.core.mve);
        own.then(|| self.compile_for(onnx, prefer, Some(target))).transpose()
    }

    /// Compiles it for a target, whose limits and core then count.
    ///
    /// # Errors
    /// As [`Self::compile`], or it does not fit the target.
    pub fn compile_for(&self, onnx: &Path, prefer: Prefer, target: Option<&str>) -> Result<OffFile> {
        let (graph, _) = files::read_graph(onnx)?;
        let samples = match self.kind {
            Kind::Public => Vec::new(),
            Kind::Shipped => {
                let path = onnx.with_file_name("calibration_x.npy");
                let array = npy::read(&path).with_context(|| path.display().to_string())?;
                compile::calibration(&graph, &[array], &["calibration".into()])?
            }
        };
        let target = target.map(parse_target).transpose()?;
        let args = compile::Args { precision: Some(Precision::Int8), prefer, ..compile::Args::default() };
        let made = compile::make(&Ui { json: true }, graph, &samples, &args, target.as_ref())?;
        Ok(OffFile::from_bytes(&made.compiled.bytes))
    }
}
