//! A program that calls a command follows it, and stops it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use indicatif::WeakProgressBar;
use offshoot_cli::Ui;
use offshoot_cli::watch::{Watch, current, stop_if_cancelled, watched};
use rayon::prelude::*;

#[derive(Default)]
struct Seen {
    cancelled: AtomicBool,
    notes: Mutex<Vec<String>>,
    bars: Mutex<Vec<WeakProgressBar>>,
}

impl Watch for Seen {
    fn part(&self, bar: WeakProgressBar) {
        self.bars.lock().unwrap().push(bar);
    }

    fn note(&self, text: &str) {
        self.notes.lock().unwrap().push(text.to_owned());
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

const UI: Ui = Ui { json: true };

#[test]
fn a_watch_sees_parts_and_notes() {
    let seen = Arc::new(Seen::default());
    let done = watched(seen.clone(), || {
        let bar = UI.progress("learning", 7);
        bar.inc(3);
        let seen = seen.bars.lock().unwrap()[0].upgrade().unwrap();
        UI.note("half of it");
        (seen.message(), seen.position(), seen.length())
    });
    assert_eq!(done, Some(("learning".to_owned(), 3, Some(7))));
    UI.note("without a watch");
    assert_eq!(*seen.notes.lock().unwrap(), ["half of it"]);
}

#[test]
fn work_stops_on_every_thread() {
    let seen = Arc::new(Seen::default());
    seen.cancelled.store(true, Ordering::Relaxed);
    let stopped = watched(seen.clone(), || {
        let current = current();
        (0..100).into_par_iter().for_each(|_| current.stop_if_cancelled());
    });
    assert_eq!(stopped, None);
    // Without a watch nothing stops.
    stop_if_cancelled();
    assert_eq!(watched(seen, || 1), Some(1));
}

#[test]
fn a_panic_goes_on() {
    let seen = Arc::new(Seen::default());
    seen.cancelled.store(true, Ordering::Relaxed);
    let ended = catch_unwind(AssertUnwindSafe(|| watched(seen, || resume_unwind(Box::new("fault")))));
    assert_eq!(ended.unwrap_err().downcast_ref::<&str>(), Some(&"fault"));
    stop_if_cancelled();
}
