//! Where candidates are evaluated: in this process, or as independent jobs of an existing batch system.
//!
//! A job is a small file that names the folder of the search and a candidate; `offshoot search --job FILE` evaluates
//! it and writes the result next to it. Jobs are scheduled by Slurm, Ray or Dask; this crate has no scheduler.

mod jobs;
mod python;
mod slurm;

use std::sync::Mutex;

use rayon::prelude::*;

use crate::evaluate::Evaluator;
use crate::run::Entry;
use crate::space::Encoding;
use crate::{Error, Result};

pub use jobs::{Job, Jobs, perform};
pub use python::{Engine, Python};
pub use slurm::Slurm;

/// Evaluates candidates.
pub trait Executor {
    /// Name of the executor.
    fn name(&self) -> &'static str;

    /// Evaluates all candidates; `keep` receives each result as soon as it is available.
    ///
    /// # Errors
    /// Any failure except of a candidate itself.
    fn run(
        &self,
        evaluator: &Evaluator,
        candidates: &[Encoding],
        keep: &mut (dyn FnMut(Entry) -> Result<()> + Send),
    ) -> Result<()>;
}

/// Evaluates in this process, on all its threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Local;

impl Executor for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn run(
        &self,
        evaluator: &Evaluator,
        candidates: &[Encoding],
        keep: &mut (dyn FnMut(Entry) -> Result<()> + Send),
    ) -> Result<()> {
        let keep = Mutex::new(keep);
        candidates.par_iter().try_for_each(|encoding| {
            let entry = Entry::of(evaluator, encoding)?;
            let mut keep = keep.lock().map_err(|_| Error::Stopped)?;
            keep(entry)
        })
    }
}
