//! Work without the interpreter's lock: other Python threads run meanwhile, progress is reported, and Ctrl-C stops it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use std::{mem, thread};

use indicatif::WeakProgressBar;
use offshoot_cli::watch::{Watch, watched};
use offshoot_cli::{Failure, Kind, Result, Ui};
use pyo3::prelude::*;

use crate::errors::{of_panic, raised};

/// Time between two looks at signals and progress.
const EVERY: Duration = Duration::from_millis(50);

/// Stack of the thread that works, as large as that of a program's first thread.
const STACK: usize = 8 << 20;

/// Runs short work without the lock.
pub(crate) fn briefly<R: Send>(py: Python<'_>, work: impl FnOnce() -> Result<R> + Send) -> PyResult<R> {
    // What `work` borrows is not used after a panic: sessions are opened anew.
    let ended = py.detach(|| catch_unwind(AssertUnwindSafe(work)));
    ended.unwrap_or_else(|panic| Err(of_panic(panic.as_ref()))).map_err(|failure| raised(py, &failure))
}

/// Runs long work on a thread of its own. `listener.part(what, done, total)` and `listener.note(text)` are called from this thread,
/// which also looks for signals; if either raises an exception, the work stops, and the exception is the result.
pub(crate) fn patiently<R: Send>(
    py: Python<'_>,
    listener: Option<Py<PyAny>>,
    work: impl FnOnce(&Ui) -> Result<R> + Send,
) -> PyResult<R> {
    not_forked().map_err(|failure| raised(py, &failure))?;
    let following = Arc::new(Following::default());
    let watch = following.clone();
    let ended = py.detach(|| {
        thread::scope(|scope| {
            let (alive, ends) = channel::<()>();
            let body = move || {
                // Dropped at the end, panics included.
                let _alive = alive;
                watched(watch, || work(&Ui { json: true }))
            };
            let worker = thread::Builder::new().name("offshoot".into()).stack_size(STACK);
            let worker = match worker.spawn_scoped(scope, body) {
                Ok(worker) => worker,
                Err(error) => {
                    let help = "end other programs, or raise the limit of threads";
                    return Ended::Failed(Failure::new(Kind::Io, format!("no thread: {error}"), help));
                }
            };
            let mut exception = None;
            while let Err(RecvTimeoutError::Timeout) = ends.recv_timeout(EVERY) {
                if exception.is_none() {
                    exception = Python::attach(|py| following.look(py, listener.as_ref())).err();
                    following.cancelled.store(exception.is_some(), Ordering::Relaxed);
                }
            }
            let result = worker.join();
            // Notes of the last moment.
            let exception =
                exception.or_else(|| Python::attach(|py| following.look(py, listener.as_ref())).err());
            match (exception, result) {
                (Some(exception), _) => Ended::Raised(exception),
                (None, Ok(Some(Ok(result)))) => Ended::Done(result),
                (None, Ok(Some(Err(failure)))) => Ended::Failed(failure),
                (None, Ok(None)) => {
                    Ended::Failed(Failure::new(Kind::Internal, "stopped without a reason", "report this"))
                }
                (None, Err(panic)) => Ended::Failed(of_panic(panic.as_ref())),
            }
        })
    });
    match ended {
        Ended::Done(result) => Ok(result),
        Ended::Raised(exception) => Err(exception),
        Ended::Failed(failure) => Err(raised(py, &failure)),
    }
}

/// Refuses to work in a process that was forked from one that worked: it has none of the threads that share long work, and would wait
/// for them for ever.
fn not_forked() -> Result<()> {
    static FIRST: OnceLock<u32> = OnceLock::new();
    let own = std::process::id();
    if *FIRST.get_or_init(|| own) == own {
        return Ok(());
    }
    let help = "start processes by spawning: multiprocessing.get_context(\"spawn\")";
    Err(Failure::new(
        Kind::Usage,
        "this process was forked from one that had already worked on several threads",
        help,
    ))
}

/// How work ended.
enum Ended<R> {
    Done(R),
    Raised(PyErr),
    Failed(Failure),
}

/// What the command says while it works.
#[derive(Default)]
struct Following {
    parts: Mutex<Vec<WeakProgressBar>>,
    notes: Mutex<Vec<String>>,
    cancelled: AtomicBool,
}

impl Watch for Following {
    fn part(&self, bar: WeakProgressBar) {
        held(&self.parts).push(bar);
    }

    fn note(&self, text: &str) {
        held(&self.notes).push(text.to_owned());
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

impl Following {
    /// Looks at signals, and tells the listener what is new.
    fn look(&self, py: Python<'_>, listener: Option<&Py<PyAny>>) -> PyResult<()> {
        py.check_signals()?;
        let Some(listener) = listener else { return Ok(()) };
        // No lock is held during calls, which may run any code.
        for note in mem::take(&mut *held(&self.notes)) {
            listener.call_method1(py, "note", (note,))?;
        }
        let part = {
            let mut parts = held(&self.parts);
            parts.retain(|bar| bar.upgrade().is_some_and(|bar| !bar.is_finished()));
            parts.last().and_then(WeakProgressBar::upgrade)
        };
        if let Some(bar) = part {
            let (done, total) = (bar.position(), bar.length().unwrap_or(0));
            listener.call_method1(py, "part", (bar.message(), done, total))?;
        }
        Ok(())
    }
}

/// What a mutex holds, whoever panicked with it.
pub(crate) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
