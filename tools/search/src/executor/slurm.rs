//! Slurm: a batch is one array job.

use std::path::Path;
use std::process::Command;

use super::{Executor, Jobs};
use crate::evaluate::Evaluator;
use crate::run::Entry;
use crate::space::Encoding;
use crate::{Error, Result};

/// Submits array scripts and waits for them.
#[derive(Clone, Debug)]
pub struct Slurm {
    jobs: Jobs,
    /// `sbatch`, or a substitute.
    program: String,
}

/// Program to run instead of `sbatch` as found in `PATH`.
pub(super) const PROGRAM_VARIABLE: &str = "OFFSHOOT_SBATCH";

impl Slurm {
    /// An executor for the jobs of a search; `OFFSHOOT_SBATCH` names another `sbatch`. Further options
    /// (`SBATCH_PARTITION` and so on) are Slurm's own variables.
    pub fn new(jobs: Jobs) -> Self {
        let program = std::env::var(PROGRAM_VARIABLE).unwrap_or_else(|_| "sbatch".into());
        Self { jobs, program }
    }
}

/// A path quoted as one word of the shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

impl Executor for Slurm {
    fn name(&self) -> &'static str {
        "slurm"
    }

    fn run(
        &self,
        evaluator: &Evaluator,
        candidates: &[Encoding],
        keep: &mut (dyn FnMut(Entry) -> Result<()> + Send),
    ) -> Result<()> {
        let mut command = |list: &Path, count: usize| {
            let script = self.jobs.folder.join("array.sh");
            let text = format!(
                "#!/bin/sh\n#SBATCH --job-name=offshoot-search\n#SBATCH --array=0-{}\n#SBATCH --output={}\n\
                 # Each task evaluates one candidate: a line of the list.\n\
                 job=$(sed -n \"$((SLURM_ARRAY_TASK_ID + 1))p\" {})\n\
                 exec {} search --job \"$job\"\n",
                count.saturating_sub(1),
                self.jobs.folder.join("slurm-%A_%a.log").display(),
                quoted(list),
                quoted(&self.jobs.program),
            );
            offshoot_report::write_atomically(&script, text.as_bytes())
                .map_err(|e| Error::file(&script, e))?;
            let mut command = Command::new(&self.program);
            command.args(["--wait", "--parsable"]).arg(&script);
            Ok(command)
        };
        self.jobs.run("slurm", evaluator, candidates, &mut command, keep)
    }
}
