//! Options of the compiler.

use offshoot_plan::PlanOptions;

use crate::cores::Core;
use crate::learning::LearningPlan;

/// Which resource to save when they can be traded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefer {
    /// Forms that are both smaller and faster.
    #[default]
    Balanced,
    /// Fewer instructions, for any RAM and up to 4 bytes of flash per instruction of a run.
    Speed,
    /// A smaller arena, for up to 100 instructions of a run per byte.
    Ram,
    /// A smaller file, for up to 100 instructions of a run per byte.
    Flash,
}

/// Options of the compiler.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// Preferred resource.
    pub prefer: Prefer,
    /// Core that instructions are estimated for.
    pub core: Core,
    /// Arrange weights for the fast kernels. Otherwise every operator takes its plain form, which is easy to read.
    pub arrange: bool,
    /// Most bytes of arena allowed.
    pub max_arena: Option<u64>,
    /// Most bytes of model file allowed.
    pub max_flash: Option<u64>,
    /// Stored in the header, see [`offshoot::format::header::Header::source_hash`].
    pub source_hash: u32,
    /// Effort of the memory plan.
    pub plan: PlanOptions,
    /// Keep the state of recurrent layers between runs: runs are pieces of one long sequence, until
    /// [`offshoot::Engine::restart`].
    pub stateful: bool,
    /// Learning plan; `None` for inference only.
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
