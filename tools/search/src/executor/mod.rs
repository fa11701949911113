//! Where candidates are evaluated: in this process, or as independent jobs of an existing batch system.
//!
//! A job is a small file that names the folder of the search and a candidate; `offshoot search --job FILE` evaluates it and
//! writes the result beside it. What schedules jobs is Slurm, Ray or Dask; there is no scheduler here.

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
    /// Its name.
    fn name(&self) -> &'static str;

    /// Evaluates all; `keep` takes each result as soon as it is there.
    ///
    /// # Errors
    /// What goes wrong but with a candidate itself.
    fn run(
        &self,
        evaluator: &Evaluator,
        candidates: &[Encoding],
        keep: &mut (dyn FnMut(Entry) -> Result<()> + Send),
    ) -> Result<()>;
}

/// In this process, on all its threads.
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
