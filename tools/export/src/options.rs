//! What to compile for.

use offshoot_plan::PlanOptions;

use crate::cores::Core;
use crate::learning::LearningPlan;

/// What counts most where one resource can be had for another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefer {
    /// Forms that are smaller and faster at once.
    #[default]
    Balanced,
    /// Fewer instructions, for more RAM and flash: up to four bytes of flash for an instruction of a run.
    Speed,
    /// A smaller arena, for up to 100 instructions of a run for a byte.
    Ram,
    /// A smaller file, for up to 100 instructions of a run for a byte.
    Flash,
}

/// What to compile for.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// What counts most.
    pub prefer: Prefer,
    /// The core that instructions are counted on.
    pub core: Core,
    /// Arrange weights for the fast kernels. Without it every operator is in its plain form: the one to read.
    pub arrange: bool,
    /// Most bytes of arena allowed.
    pub max_arena: Option<u64>,
    /// Most bytes of model file allowed.
    pub max_flash: Option<u64>,
    /// Goes into the header, see [`offshoot::format::header::Header::source_hash`].
    pub source_hash: u32,
    /// Effort of the memory plan.
    pub plan: PlanOptions,
    /// Recurrent layers keep their state from one run to the next: runs are the steps of one long sequence, until
    /// [`offshoot::Engine::restart`].
    pub stateful: bool,
    /// What is to learn on the device.
    pub learning: Option<LearningPlan>,
}

impl Default for CompileOptions {
    fn default() -> Self {
        Self {
            prefer: Prefer::default(),
            core: Core::default(),
            arrange: true,
            max_arena: None,
            max_flash: None,
            source_hash: 0,
            plan: PlanOptions::default(),
            stateful: false,
            learning: None,
        }
    }
}
