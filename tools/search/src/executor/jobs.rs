//! Job files and their results.

use std::path::{Path, PathBuf};

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

    /// Writes a job file for each candidate without a result, and a list of these files.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn write(&self, evaluator: &Evaluator, candidates: &[Encoding]) -> Result<(PathBuf, Vec<PathBuf>)> {
        let mut open = Vec::new();
        for encoding in candidates {
            let key = evaluator.key(encoding);
            let path = self.folder.join(format!("{key}.json"));
            if Self::read(&path).is_some() {
                continue;
            }
            let job = Job { search: self.search.clone(), key, encoding: encoding.clone() };
            let bytes = serde_json::to_vec(&job).map_err(|e| Error::file(&path, e))?;
            offshoot_report::write_atomically(&path, &bytes).map_err(|e| Error::file(&path, e))?;
            open.push(path);
        }
        let list = self.folder.join("batch.txt");
        let lines: String = open.iter().map(|p| format!("{}\n", p.display())).collect();
        offshoot_report::write_atomically(&list, lines.as_bytes()).map_err(|e| Error::file(&list, e))?;
        Ok((list, open))
    }

    /// The result of a job file; `None` if there is none yet.
    fn read(path: &Path) -> Option<Entry> {
        serde_json::from_slice(&std::fs::read(Job::result(path)).ok()?).ok()
    }

    /// Collects all results.
    ///
    /// # Errors
    /// A result is missing.
    pub fn collect(
        &self,
        executor: &'static str,
        evaluator: &Evaluator,
        candidates: &[Encoding],
        keep: &mut (dyn FnMut(Entry) -> Result<()> + Send),
    ) -> Result<()> {
        let mut missing = Vec::new();
        for encoding in candidates {
            let path = self.folder.join(format!("{}.json", evaluator.key(encoding)));
            match Self::read(&path) {
                Some(entry) => {
                    keep(entry)?;
                    // No longer needed: the journal has the result.
                    let _ = std::fs::remove_file(Job::result(&path));
                    let _ = std::fs::remove_file(&path);
                }
                None => missing.push(path),
            }
        }
        match missing.first() {
            None => Ok(()),
            Some(first) => Err(Error::Executor {
                executor,
                reason: format!(
                    "{} of {} jobs left no result, {} among them; see the logs in {}. The same command retries them",
                    missing.len(),
                    candidates.len(),
                    first.display(),
                    self.folder.display()
                ),
            }),
        }
    }
}
