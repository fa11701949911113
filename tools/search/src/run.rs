//! The search loop: ask the strategy, evaluate new candidates, record them, repeat.
//!
//! The only state is the journal of evaluations. A search that was killed starts again from the beginning: the
//! strategy asks the same questions, finds them answered in the journal, and continues where the journal ends.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::evaluate::Evaluator;
use crate::executor::Executor;
use crate::journal::Journal;
use crate::metrics::{Goal, Measured};
use crate::space::Encoding;
use crate::strategies::{Evaluated, History, Strategy, View};
use crate::{Error, Result};

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Key of the candidate and of everything its measurements depend on.
    pub key: String,
    /// The candidate.
    pub encoding: Encoding,
    /// The options in readable form.
    pub options: BTreeMap<String, usize>,
    /// The measurements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
    /// Why it could not be built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Duration of the evaluation in seconds.
    pub seconds: f64,
    /// Whether a batch system lost it: it counts as failed now, and is not kept, so that a later run tries again.
    #[serde(skip)]
    pub is_lost: bool,
}

impl Entry {
    /// Evaluates a candidate. A failure of the candidate is part of the entry.
    ///
    /// # Errors
    /// Failures of the search: a target that does not respond, a file that cannot be written.
    pub fn of(evaluator: &Evaluator, encoding: &[u16]) -> Result<Self> {
        let start = std::time::Instant::now();
        let (measured, error) = match evaluator.evaluate(encoding) {
            Ok(measured) => (Some(measured), None),
            Err(e @ (Error::Target(_) | Error::File { .. } | Error::Executor { .. } | Error::Stopped)) => {
                return Err(e);
            }
            Err(e) => (None, Some(e.to_string())),
        };
        let space = &evaluator.elastic.space;
        let names = space.variables.iter().map(|v| v.name.clone());
        Ok(Self {
            key: evaluator.key(encoding),
            encoding: encoding.to_vec(),
            options: names.zip(space.values(encoding)).collect(),
            measured,
            error,
            seconds: (start.elapsed().as_secs_f64() * 1e3).round() / 1e3,
            is_lost: false,
        })
    }

    /// A candidate of which no result arrived.
    pub fn lost(evaluator: &Evaluator, encoding: &[u16], reason: String) -> Self {
        let space = &evaluator.elastic.space;
        let names = space.variables.iter().map(|v| v.name.clone());
        Self {
            key: evaluator.key(encoding),
            encoding: encoding.to_vec(),
            options: names.zip(space.values(encoding)).collect(),
            measured: None,
            error: Some(reason),
            seconds: 0.0,
            is_lost: true,
        }
    }
}

/// Evaluations by key, with the journal that stores them.
#[derive(Debug)]
pub struct Cache {
    journal: Option<Journal>,
    entries: HashMap<String, Entry>,
}

impl Cache {
    /// Opens the journal at `path`; `None` stores nothing.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn open(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self { journal: None, entries: HashMap::new() }) };
        let (journal, found) = Journal::open::<Entry>(path)?;
        let entries = found.into_iter().map(|e| (e.key.clone(), e)).collect();
        Ok(Self { journal: Some(journal), entries })
    }

    /// Number of evaluations.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The evaluation with this key.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    fn add(&mut self, entry: Entry) -> Result<()> {
        if self.entries.contains_key(&entry.key) {
            return Ok(());
        }
        if let Some(journal) = self.journal.as_ref().filter(|_| !entry.is_lost) {
            journal.add(&entry)?;
        }
        self.entries.insert(entry.key.clone(), entry);
        Ok(())
    }
}

/// Observer of a search.
pub trait Watch: Send {
    /// Called after every evaluation: `done` of `total` candidates are known.
    fn evaluated(&mut self, done: usize, total: usize) {
        let _ = (done, total);
    }

    /// Whether the time is over: what has been evaluated is the result.
    fn is_over(&self) -> bool {
        false
    }

    /// Called after every batch. Returning `false` ends the search.
    fn batch(&mut self, history: &History) -> bool {
        let _ = history;
        true
    }
}

impl Watch for () {}

/// Report of a search.
#[derive(Debug)]
pub struct Outcome {
    /// All candidates in the order in which they were requested.
    pub history: History,
    /// Number of candidates evaluated in this run; the others were known.
    pub evaluated: usize,
    /// The strategy's notes on its own quality.
    pub notes: Vec<String>,
}

/// Evaluates up to `evaluations` candidates.
///
/// # Errors
/// [`Error::Stopped`] if the observer ends the search; failures of a target or file.
pub fn run(
    evaluator: &Evaluator,
    goal: &Goal,
    strategy: &mut dyn Strategy,
    evaluations: usize,
    cache: &mut Cache,
    executor: &dyn Executor,
    watch: &mut dyn Watch,
) -> Result<Outcome> {
    let (mut history, mut evaluated) = (History::default(), 0);
    while history.all().len() < evaluations && !watch.is_over() {
        let view = View { space: &evaluator.elastic.space, goal, history: &history };
        let batch = strategy.propose(view, evaluations - history.all().len());
        if batch.is_empty() {
            break;
        }
        let keys: Vec<String> = batch.iter().map(|e| evaluator.key(e)).collect();
        let open: Vec<Encoding> =
            batch.iter().zip(&keys).filter(|(_, k)| cache.get(k).is_none()).map(|(e, _)| e.clone()).collect();
        let mut done = history.all().len() + batch.len() - open.len();
        watch.evaluated(done, evaluations);
        evaluated += open.len();
        if !open.is_empty() {
            let mut keep = |entry: Entry| {
                cache.add(entry)?;
                done += 1;
                watch.evaluated(done, evaluations);
                if watch.is_over() { Err(Error::Stopped) } else { Ok(()) }
            };
            match executor.run(evaluator, &open, &mut keep) {
                Err(Error::Stopped) if watch.is_over() => {}
                ended => ended?,
            }
        }
        for (encoding, key) in batch.into_iter().zip(&keys) {
            let Some(entry) = cache.get(key) else {
                if watch.is_over() {
                    continue;
                }
                let reason = format!("no result of {}", evaluator.elastic.space.describe(&encoding));
                return Err(Error::Executor { executor: executor.name(), reason });
            };
            history.add(Evaluated::new(encoding, entry.measured.clone(), goal));
        }
        if !watch.batch(&history) {
            return Err(Error::Stopped);
        }
    }
    Ok(Outcome { history, evaluated, notes: strategy.notes() })
}
