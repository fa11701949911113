//! Ray and Dask: a batch is one small Python program that maps the command over job files.

use std::path::Path;
use std::process::Command;

use super::{Executor, Jobs};
use crate::evaluate::Evaluator;
use crate::run::Entry;
use crate::space::Encoding;
use crate::{Error, Result};

/// The engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The program connects to the cluster `RAY_ADDRESS` (without it, it starts one on this machine). If that is the
    /// HTTP address of a job server, `ray job submit` runs the program there.
    Ray,
    /// The program connects to the scheduler `DASK_SCHEDULER_ADDRESS` (without it, it starts one on this machine).
    Dask,
}

impl Engine {
    const fn name(self) -> &'static str {
        match self {
            Self::Ray => "ray",
            Self::Dask => "dask",
        }
    }

    /// Name of the driver's file. It must not be the name of a package: Python looks for packages beside the program
    /// first.
    const fn driver(self) -> &'static str {
        match self {
            Self::Ray => "offshoot_ray_driver.py",
            Self::Dask => "offshoot_dask_driver.py",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Ray => RAY,
            Self::Dask => DASK,
        }
    }
}

/// Arguments: the list of jobs, and the program that performs them. What fails is said and left to the caller, who sees
/// which results are missing.
const RAY: &str = r#"import os, subprocess, sys
import ray

@ray.remote(num_cpus=1, max_retries=1)
def perform(program, job):
    return subprocess.run([program, "search", "--job", job]).returncode

def main():
    address = os.environ.get("RAY_ADDRESS", "")
    # Within `ray job submit`, the address of the job server is not that of the cluster.
    ray.init(address="auto" if address.startswith("http") else address or None, log_to_driver=True)
    with open(sys.argv[1]) as file:
        jobs = [job for job in file.read().split("\n") if job]
    for run, job in [(perform.remote(sys.argv[2], job), job) for job in jobs]:
        try:
            code = ray.get(run)
            if code != 0:
                print(f"{job}: ended with {code}", flush=True)
        except ray.exceptions.RayError as error:
            print(f"{job}: {error}", flush=True)

if __name__ == "__main__":
    main()
"#;

/// As [`RAY`].
const DASK: &str = r#"import os, subprocess, sys
from distributed import Client

def perform(program, job):
    return subprocess.run([program, "search", "--job", job]).returncode

def main():
    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    # One job a process: threads of one worker would be killed together.
    client = Client(address) if address else Client(threads_per_worker=1, dashboard_address=None)
    with open(sys.argv[1]) as file:
        jobs = [job for job in file.read().split("\n") if job]
    for run, job in [(client.submit(perform, sys.argv[2], job, pure=False, retries=1), job) for job in jobs]:
        try:
            code = run.result()
            if code != 0:
                print(f"{job}: ended with {code}", flush=True)
        except Exception as error:
            print(f"{job}: {error!r}", flush=True)
    client.close()

if __name__ == "__main__":
    main()
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
        self.engine.name()
    }

    fn run(
        &self,
        evaluator: &Evaluator,
        candidates: &[Encoding],
        keep: &mut (dyn FnMut(Entry) -> Result<()> + Send),
    ) -> Result<()> {
        let driver = self.jobs.folder.join(self.engine.driver());
        offshoot_report::write_atomically(&driver, self.engine.text().as_bytes())
            .map_err(|e| Error::file(&driver, e))?;
        let server = std::env::var("RAY_ADDRESS").is_ok_and(|a| a.starts_with("http"));
        let (program, arguments): (_, &[&str]) = match self.engine {
            Engine::Ray if server => ("ray", &["job", "submit", "--", "python3"]),
            _ => ("python3", &[]),
        };
        let mut command = |list: &Path, _: usize| {
            let mut command = Command::new(program);
            command.args(arguments).arg(&driver).arg(list).arg(&self.jobs.program);
            Ok(command)
        };
        self.jobs.run(self.name(), evaluator, candidates, &mut command, keep)
    }
}
