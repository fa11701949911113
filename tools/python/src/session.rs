//! A model that stays open: opening validates a whole file, which takes longer than a small run.

use std::sync::Arc;

use offshoot::{AlignedBytes, Engine};
use offshoot_cli::files::OffFile;
use offshoot_cli::{Result, batch};
use self_cell::{MutBorrow, self_cell};

struct Memory {
    file: Arc<OffFile>,
    arena: MutBorrow<AlignedBytes>,
}

struct Running<'a>(Engine<'a, 'a>);

self_cell!(
    /// An engine together with what it borrows.
    struct Cell {
        owner: Memory,
        #[not_covariant]
        dependent: Running,
    }
);

/// An engine with its file and arena.
pub(crate) struct Session(Cell);

impl Session {
    /// Opens the selected network of the file.
    pub(crate) fn open(file: Arc<OffFile>) -> Result<Self> {
        let arena = MutBorrow::new(batch::arena(&file.model()?));
        let cell = Cell::try_new(Memory { file, arena }, |memory| {
            batch::engine(memory.file.model()?, memory.arena.borrow_mut()).map(Running)
        });
        cell.map(Self)
    }

    /// Runs one sample; returns the bytes of each output. Recurrent layers that keep their state go on from the last run.
    pub(crate) fn run(&mut self, sample: &[&[u8]]) -> Result<Vec<Vec<u8>>> {
        self.0.with_dependent_mut(|_, running| batch::run_sample(&mut running.0, sample))
    }

    /// The next run begins a new sequence.
    pub(crate) fn restart(&mut self) {
        self.0.with_dependent_mut(|_, running| running.0.restart());
    }
}
