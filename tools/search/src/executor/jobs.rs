//! Job files and their results.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::evaluate::Evaluator;
use crate::run::Entry;
use crate::space::Encoding;
use crate::{Error, Result};

/// One candidate as a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Folder of the search, from which a worker sets itself up.
    pub search: PathBuf,
    /// Key of the result.
    pub key: String,
    /// The candidate.
    pub encoding: Encoding,
}

impl Job {
    /// Reads a job file.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::file(path, e))?;
        serde_json::from_slice(&bytes).map_err(|e| Error::file(path, e))
    }

    /// Path of its result.
    pub fn result(path: &Path) -> PathBuf {
        path.with_extension("result.json")
    }
}

/// Evaluates the job in a file and writes its result.
///
/// # Errors
/// The job belongs to another search; any failure except of the candidate itself.
pub fn perform(evaluator: &Evaluator, path: &Path) -> Result<Entry> {
    let job = Job::read(path)?;
    let key = evaluator.key(&job.encoding);
    if key != job.key {
        let reason = "the job belongs to another search: the super-network, its data or its settings have changed since";
        return Err(Error::file(path, reason));
    }
    let entry = Entry::of(evaluator, &job.encoding)?;
    let bytes = serde_json::to_vec(&entry).map_err(|e| Error::file(path, e))?;
    let result = Job::result(path);
    offshoot_report::write_atomically(&result, &bytes).map_err(|e| Error::file(&result, e))?;
    Ok(entry)
}

/// How often a job is submitted before it counts as lost: workers are killed, machines go down.
const ATTEMPTS: usize = 3;
/// Time between two looks at the results.
const PAUSE: Duration = Duration::from_millis(200);

/// A folder of jobs.
#[derive(Clone, Debug)]
pub struct Jobs {
    /// Folder of the search, absolute.
    search: PathBuf,
    /// Folder of the job files.
    pub folder: PathBuf,
    /// Path of the command-line program.
    pub program: PathBuf,
}

impl Jobs {
    /// Keeps jobs in the folder `jobs` of a search; `program` is the command line that runs them.
    ///
    /// # Errors
    /// [`Error::File`] if the folder cannot be created.
    pub fn new(search: &Path, program: &Path) -> Result<Self> {
        let folder = search.join("jobs");
        std::fs::create_dir_all(&folder).map_err(|e| Error::file(&folder, e))?;
        let search = search.canonicalize().map_err(|e| Error::file(search, e))?;
        Ok(Self { folder: search.join("jobs"), search, program: program.to_path_buf() })
    }

    /// Submits the candidates as a batch and hands over each result as soon as it is there. Jobs without a result are
    /// submitted again, at most [`ATTEMPTS`] times in all; those that are still missing become lost entries
    /// ([`Entry::lost`]), and the search goes on without them.
    ///
    /// `command` makes the command that submits a list of jobs (one path a line; `usize` of them) and ends when all are
    /// done. Its output goes to a log in the folder.
    ///
    /// # Errors
    /// The command cannot be started, or no job of the batch left a result: then the batch system is at fault.
    pub(super) fn run(
        &self,
        executor: &'static str,
        evaluator: &Evaluator,
        candidates: &[Encoding],
        command: &mut dyn FnMut(&Path, usize) -> Result<Command>,
        keep: &mut (dyn FnMut(Entry) -> Result<()> + Send),
    ) -> Result<()> {
        let log = self.folder.join(format!("{executor}.log"));
        let mut open: BTreeSet<usize> = (0..candidates.len()).collect();
        for attempt in 0..ATTEMPTS {
            self.collect(evaluator, candidates, &mut open, keep)?;
            if open.is_empty() {
                break;
            }
            let (list, count) = self.write(evaluator, candidates, &open)?;
            let mut command = command(&list, count)?;
            let mut file = File::options();
            match attempt {
                0 => file.create(true).write(true).truncate(true),
                _ => file.create(true).append(true),
            };
            let out = file.open(&log).map_err(|e| Error::file(&log, e))?;
            let err = out.try_clone().map_err(|e| Error::file(&log, e))?;
            command.stdin(Stdio::null()).stdout(out).stderr(err);
            let name = command.get_program().to_string_lossy().into_owned();
            let failed = |reason: String| Error::Executor { executor, reason };
            let mut child =
                command.spawn().map_err(|e| failed(format!("{name}: {e}; is it installed here?")))?;
            loop {
                let ended = child.try_wait().map_err(|e| failed(format!("{name}: {e}")))?;
                if let Err(stop) = self.collect(evaluator, candidates, &mut open, keep) {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(stop);
                }
                if ended.is_some() {
                    break;
                }
                std::thread::sleep(PAUSE);
            }
        }
        if open.is_empty() {
            return Ok(());
        }
        if open.len() == candidates.len() {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let last = said.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("no output").trim();
            let reason = format!(
                "none of {} jobs left a result in {ATTEMPTS} attempts ({last}); the whole output is in {}",
                candidates.len(),
                log.display()
            );
            return Err(Error::Executor { executor, reason });
        }
        for index in open {
            let reason = format!(
                "lost: no result in {ATTEMPTS} attempts; see the logs in {}; the same command tries it again",
                self.folder.display()
            );
            keep(Entry::lost(evaluator, &candidates[index], reason))?;
        }
        Ok(())
    }

    /// Writes a job file for each open candidate, and a list of these files. Returns the list and its length.
    fn write(
        &self,
        evaluator: &Evaluator,
        candidates: &[Encoding],
        open: &BTreeSet<usize>,
    ) -> Result<(PathBuf, usize)> {
        let mut lines = String::new();
        for encoding in open.iter().map(|&i| &candidates[i]) {
            let key = evaluator.key(encoding);
            let path = self.folder.join(format!("{key}.json"));
            let job = Job { search: self.search.clone(), key, encoding: encoding.clone() };
            let bytes = serde_json::to_vec(&job).map_err(|e| Error::file(&path, e))?;
            offshoot_report::write_atomically(&path, &bytes).map_err(|e| Error::file(&path, e))?;
            lines.push_str(&format!("{}\n", path.display()));
        }
        let list = self.folder.join("batch.txt");
        offshoot_report::write_atomically(&list, lines.as_bytes()).map_err(|e| Error::file(&list, e))?;
        Ok((list, open.len()))
    }

    /// Hands over the results that are there, and removes their candidates from `open`.
    fn collect(
        &self,
        evaluator: &Evaluator,
        candidates: &[Encoding],
        open: &mut BTreeSet<usize>,
        keep: &mut (dyn FnMut(Entry) -> Result<()> + Send),
    ) -> Result<()> {
        for index in open.clone() {
            let key = evaluator.key(&candidates[index]);
            let path = self.folder.join(format!("{key}.json"));
            let read = std::fs::read(Job::result(&path)).ok();
            let found: Option<Entry> = read.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            if let Some(entry) = found.filter(|e| e.key == key) {
                keep(entry)?;
                open.remove(&index);
                // No longer needed: the journal has the result.
                let _ = std::fs::remove_file(Job::result(&path));
                let _ = std::fs::remove_file(&path);
            }
        }
        Ok(())
    }
}
