//! Follows a command from a program that calls it: progress, notes, and the wish to stop.
//!
//! Commands run for minutes in the middle of libraries that know nothing of users. So a watch holds for a thread, and a command that
//! is to stop unwinds from where it says how far it is.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use indicatif::WeakProgressBar;

/// Follows the commands of a thread.
pub trait Watch: Send + Sync {
    /// A part of the work begins. The bar says what it is and how far, until it is finished or dropped.
    fn part(&self, bar: WeakProgressBar);

    /// A line for people.
    fn note(&self, text: &str);

    /// Whether the work is to stop.
    fn is_cancelled(&self) -> bool;
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<dyn Watch>>> = const { RefCell::new(None) };
}

/// Why a command unwinds that is to stop.
struct Cancelled;

/// Runs `work` on this thread under `watch`. Returns `None` if it stopped because the watch said so: what it has written by then
/// remains, such as checkpoints.
pub fn watched<R>(watch: Arc<dyn Watch>, work: impl FnOnce() -> R) -> Option<R> {
    let before = CURRENT.replace(Some(watch));
    // Nothing that `work` borrows is seen half changed: its caller gets `None` instead of a result.
    let ended = catch_unwind(AssertUnwindSafe(work));
    CURRENT.set(before);
    match ended {
        Ok(result) => Some(result),
        Err(reason) if reason.is::<Cancelled>() => None,
        Err(panic) => resume_unwind(panic),
    }
}

/// The watch of the thread that made it, for threads that work for that one.
#[derive(Clone, Default)]
pub struct Current(Option<Arc<dyn Watch>>);

/// The watch of this thread.
pub fn current() -> Current {
    Current(CURRENT.with_borrow(Clone::clone))
}

impl Current {
    /// Unwinds to [`watched`] if the work is to stop. Threads of rayon hand that on.
    pub fn stop_if_cancelled(&self) {
        if self.0.as_ref().is_some_and(|watch| watch.is_cancelled()) {
            // Not a panic: no hook is called, and nothing is printed.
            resume_unwind(Box::new(Cancelled));
        }
    }

    /// Tells the watch about a part of the work.
    pub(crate) fn part(&self, bar: WeakProgressBar) {
        if let Some(watch) = &self.0 {
            watch.part(bar);
        }
    }

    /// Hands a line to the watch, if there is one.
    pub(crate) fn note(&self, text: &str) {
        if let Some(watch) = &self.0 {
            watch.note(text);
        }
    }
}

/// Unwinds to [`watched`] if the work of this thread is to stop.
pub fn stop_if_cancelled() {
    current().stop_if_cancelled();
}
