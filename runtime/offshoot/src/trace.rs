//! Observation of single operators, for `profile`, `verify` and digests.

use offshoot_format::record::Tag;

/// The operator that is about to run or has run.
#[derive(Clone, Copy, Debug)]
pub struct OpInfo {
    /// Position in the file, counted from 0.
    pub index: u16,
    /// Kind of operator.
    pub tag: Tag,
    /// IR value that the operator completes (see [`offshoot_format::record::OpHeader::origin`]).
    pub origin: u16,
}

/// Called around every operator. The default methods do nothing and cost nothing.
///
/// ```
/// # offshoot::include_model!(Vibration, concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/vibration.off"));
/// # let mut arena = offshoot::Arena::<{ Vibration::ARENA_BYTES }>::new();
/// # let mut engine = Vibration::engine(&mut arena)?;
/// struct Printer;
///
/// impl offshoot::Observer for Printer {
///     fn after(&mut self, op: offshoot::OpInfo, output: &[u8]) {
///         println!("operator {}: {} bytes", op.index, output.len());
///     }
/// }
///
/// engine.run_with(&mut Printer)?;
/// # Ok::<(), offshoot::Error>(())
/// ```
pub trait Observer {
    /// Whether the observer looks at outputs. If false, the engine computes nothing for it.
    const WATCHES: bool = true;

    /// Called before the operator runs.
    #[inline(always)]
    fn before(&mut self, _op: OpInfo) {}
    /// Called after the operator ran. `output` is the whole output tensor as stored in the arena.
    #[inline(always)]
    fn after(&mut self, _op: OpInfo, _output: &[u8]) {}
}

/// Observes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    const WATCHES: bool = false;
}
