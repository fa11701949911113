//! Instruction timings of each core, from its Technical Reference Manual.
//!
//! - **Cortex-M4** (Arm 100166, 3.3 and 7.2.3) and **M3** (Arm 100165, 3.3): a load takes two cycles, or one if the
//!   next instruction is a load or store whose address does not depend on it. A load of several registers takes one
//!   cycle more than registers. A store takes one cycle. A taken branch takes one cycle plus the pipeline refill of one
//!   to three, which counts as two here.
//! - **M33** (Arm 100230) is modelled as M4.
//! - **M0** (Arm DDI 0432, 3.3): loads are not pipelined, a store takes two cycles, a taken branch three. The
//!   multiplier is the fast one, as in the nRF51.
//! - **M0+** (Arm DDI 0484, 3.3): as M0, but a taken branch takes two cycles.
//! - **M7** has two pipelines, and Arm publishes no timings. Neighbouring instructions of different kinds are assumed
//!   to run together; a load takes one cycle, and so does a taken branch (it has a branch predictor). Dependencies are
//!   ignored, so the figure is a lower bound.
//!
//! Flash: the M4 is modelled as the STM32L4R5 of the published results. At 120 MHz it has five wait states for each 64
//! bits that miss the caches (RM0432, 3.3.3). Prefetch is on: if code continues with the next 64 bits, three wait
//! states remain, since the previous 64 bits take about three cycles to run. The other cores run from memory without
//! wait states.

use super::decode::Class;

/// Timings of a core in cycles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timings {
    /// Name of the core.
    pub core: &'static str,
    /// A load whose data the next instruction may need.
    pub load: u64,
    /// Whether a load before a load or store takes one cycle less.
    pub pipelined_loads: bool,
    /// A store of one register.
    pub store: u64,
    /// Additional cycles of a taken branch.
    pub refill: u64,
    /// A multiply-accumulate.
    pub multiply_accumulate: u64,
    /// A 64-bit multiplication.
    pub multiply_long: u64,
    /// A 64-bit multiply-accumulate.
    pub multiply_accumulate_long: u64,
    /// A division, on average.
    pub divide: u64,
    /// Whether neighbouring instructions of different kinds run together.
    pub dual_issue: bool,
    /// Wait states for 64 bits that are read from flash past the caches.
    pub wait_states: u64,
    /// Wait states for 64 bits of code that a prefetch has started to read.
    pub prefetched: u64,
}

const M4: Timings = Timings {
    core: "Cortex-M4F",
    load: 2,
    pipelined_loads: true,
    store: 1,
    refill: 2,
    multiply_accumulate: 1,
    multiply_long: 1,
    multiply_accumulate_long: 1,
    divide: 7,
    dual_issue: false,
    wait_states: 5,
    prefetched: 3,
};

const M0_PLUS: Timings = Timings {
    core: "Cortex-M0+",
    pipelined_loads: false,
    store: 2,
    refill: 1,
    wait_states: 0,
    prefetched: 0,
    ..M4
};

/// All known cores.
pub static CORES: [Timings; 6] = [
    M4,
    Timings {
        core: "Cortex-M3",
        multiply_accumulate: 2,
        multiply_long: 4,
        multiply_accumulate_long: 6,
        wait_states: 0,
        prefetched: 0,
        ..M4
    },
    Timings { core: "Cortex-M33", wait_states: 0, prefetched: 0, ..M4 },
    Timings { core: "Cortex-M0", refill: 2, ..M0_PLUS },
    M0_PLUS,
    Timings {
        core: "Cortex-M7",
        load: 1,
        pipelined_loads: false,
        refill: 0,
        dual_issue: true,
        wait_states: 0,
        prefetched: 0,
        ..M4
    },
];

impl Timings {
    /// Timings of the core with this name.
    pub fn of(core: &str) -> Option<&'static Self> {
        CORES.iter().find(|t| t.core == core)
    }

    /// The same core with so many wait states of flash at the chip's clock. A prefetch hides the two cycles or so that
    /// the code before takes.
    #[must_use]
    pub fn with_wait_states(&self, wait_states: u64) -> Self {
        Self { wait_states, prefetched: wait_states.saturating_sub(2), ..*self }
    }

    /// The fastest and the slowest core that the manual allows: refills of one to three cycles where it says so (M3, M4,
    /// M33). The M7's slowest is one that never runs two instructions together and has no branch predictor.
    pub fn bounds(&self) -> (Self, Self) {
        match (self.pipelined_loads, self.dual_issue) {
            (true, _) => (Self { refill: 1, ..*self }, Self { refill: 3, ..*self }),
            (false, true) => (*self, Self { dual_issue: false, load: 2, refill: 3, ..*self }),
            (false, false) => (*self, *self),
        }
    }

    /// Cycles of an instruction, without taken branches and waits; `next` is the following instruction.
    pub fn cycles(&self, class: Class, next: Option<Class>) -> u64 {
        match class {
            Class::Alu | Class::Multiply | Class::Branch | Class::Float => 1,
            Class::MultiplyAccumulate => self.multiply_accumulate,
            Class::MultiplyLong { accumulate: false } => self.multiply_long,
            Class::MultiplyLong { accumulate: true } => self.multiply_accumulate_long,
            Class::Divide => self.divide,
            Class::Load { dest, .. } => {
                let follows = match next {
                    Some(Class::Load { base, .. } | Class::Store { base }) => base != dest,
                    _ => false,
                };
                if self.pipelined_loads && follows { self.load - 1 } else { self.load }
            }
            Class::LoadMultiple { registers } | Class::LoadBranch { registers } => {
                self.load - 1 + u64::from(registers)
            }
            Class::Store { .. } => self.store,
            Class::StoreMultiple { registers } => 1 + u64::from(registers),
            Class::TableBranch => self.load,
            Class::System => 2,
            Class::FloatMultiplyAdd => 3,
            Class::FloatDivide => 14,
        }
    }

    /// Whether two neighbouring instructions run together.
    pub fn pairs(&self, first: Class, second: Class) -> bool {
        let kind = |class| match class {
            Class::Alu => Some(0),
            Class::Multiply | Class::MultiplyAccumulate | Class::MultiplyLong { .. } => Some(1),
            Class::Load { .. } | Class::Store { .. } => Some(2),
            Class::Branch => Some(3),
            Class::Float => Some(4),
            _ => None,
        };
        match (kind(first), kind(second)) {
            // Two adders, but only one multiplier, one memory port and one branch per cycle.
            (Some(a), Some(b)) => self.dual_issue && (a != b || a == 0),
            _ => false,
        }
    }
}
