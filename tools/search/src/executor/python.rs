//! Ray and Dask: a batch is one small Python program that maps the command over job files.

use std::process::Command;

use super::{Executor, Jobs};
use crate::evaluate::Evaluator;
use crate::run::Entry;
use crate::space::Encoding;
use crate::{Error, Result};

/// The engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// `ray job submit` runs the program on a cluster (`RAY_ADDRESS`).
    Ray,
    /// The program connects to a scheduler (`DASK_SCHEDULER_ADDRESS`; without it, it starts one on this machine).
    Dask,
}

const RAY: &str = r#"import subprocess, sys
import ray

@ray.remote(num_cpus=1)
def perform(job):
    return subprocess.run([sys.argv[2], "search", "--job", job]).returncode

ray.init()
jobs = open(sys.argv[1]).read().split("\n")
sys.exit(max(ray.get([perform.remote(job) for job in jobs if job]), default=0))
"#;

const DASK: &str = r#"import os, subprocess, sys
from distributed import Client

def perform(program, job):
    return subprocess.run([program, "search", "--job", job]).returncode

if __name__ == "__main__":
    client = Client(os.environ.get("DASK_SCHEDULER_ADDRESS"))
    jobs = open(sys.argv[1]).read().split("\n")
    runs = [client.submit(perform, sys.argv[2], job, pure=False) for job in jobs if job]
    sys.exit(max(client.gather(runs), default=0))
"#;

/// Submits the program and waits for it.
#[derive(Clone, Debug)]
pub struct Python {
    jobs: Jobs,
    engine: Engine,
}

impl Python {
    /// An executor for the jobs of a search.
    pub fn new(jobs: Jobs, engine: Engine) -> Self {
        Self { jobs, engine }
    }
}

impl Executor for Python {
    fn name(&self) -> &'static str {
        match self.engine {
            Engine::Ray => "ray",
            Engine::Dask => "dask",
        }
    }

    fn run(
        &self,
        evaluator: &Evaluator,
        candidates: &[Encoding],
        keep: &mut (dyn FnMut(Entry) -> Result<()> + Send),
    ) -> Result<()> {
        let (list, open) = self.jobs.write(evaluator, candidates)?;
        if !open.is_empty() {
            let (text, program, arguments): (_, _, &[&str]) = match self.engine {
                Engine::Ray => (RAY, "ray", &["job", "submit", "--", "python3"]),
                Engine::Dask => (DASK, "python3", &[]),
            };
            let driver = self.jobs.folder.join(format!("{}.py", self.name()));
            offshoot_report::write_atomically(&driver, text.as_bytes())
                .map_err(|e| Error::file(&driver, e))?;
            let mut command = Command::new(program);
            command.args(arguments).arg(&driver).arg(&list).arg(&self.jobs.program);
            let out = command.output().map_err(|e| Error::Executor {
                executor: self.name(),
                reason: format!("{program}: {e}; `pip install {}` provides it", self.name()),
            })?;
            let log = self.jobs.folder.join(format!("{}.log", self.name()));
            let said = [out.stdout.as_slice(), out.stderr.as_slice()].concat();
            offshoot_report::write_atomically(&log, &said).map_err(|e| Error::file(&log, e))?;
        }
        self.jobs.collect(self.name(), evaluator, candidates, keep)
    }
}
