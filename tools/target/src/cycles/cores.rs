//! How long instructions take on each core, by its Technical Reference Manual.
//!
//! **Cortex-M4** (Arm 100166, 3.3 and 7.2.3) and **M3** (Arm 100165, 3.3): a load takes two cycles, one if a load or store
//! follows whose address it does not give; of several registers one more than registers; a store one; a taken branch one
//! and the refill of the pipeline, which takes one to three and counts here as two. **M33** (Arm 100230) is taken as M4.
//! **M0** (Arm DDI 0432, 3.3): no pipelined loads, a store two cycles, a taken branch three; the multiplier is the fast one, as
//! in nRF51. **M0+** (Arm DDI 0484, 3.3): the same, a taken branch two cycles. **M7** has two pipelines, and Arm gives no
//! timings: neighbours of different kinds are taken to run together, a load for one cycle, a taken branch for one (it has
//! a branch predictor); dependencies are not looked at, which makes the figure a lower bound.
//!
//! Flash: the M4 is the STM32L4R5's of the published results: at 120 MHz five wait states for each 64 bits that miss the
//! caches (RM0432, 3.3.3), prefetch on: of 64 bits of code behind the ones before, which take about three cycles to run,
//! three wait states are left. The others run from memory without wait states.

use super::decode::Class;

/// Timings of a core, cycles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timings {
    /// Core.
    pub core: &'static str,
    /// A load whose data the next instruction may need.
    pub load: u64,
    /// Loads before a load or store take one cycle less.
    pub pipelined_loads: bool,
    /// A store of one register.
    pub store: u64,
    /// What a taken branch takes more.
    pub refill: u64,
    /// Product that is added.
    pub multiply_accumulate: u64,
    /// 64-bit product.
    pub multiply_long: u64,
    /// 64-bit product that is added.
    pub multiply_accumulate_long: u64,
    /// Quotient, on average.
    pub divide: u64,
    /// Neighbours of different kinds run together.
    pub dual_issue: bool,
    /// What each 64 bits cost that are read from flash past the caches.
    pub wait_states: u64,
    /// The same for code that a prefetch had begun to read.
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

/// All cores that are known.
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

    /// Cycles of an instruction, apart from taken branches and waits; `next` is the one behind it.
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

    /// Whether two neighbours run together.
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
            // Two adders, but one multiplier, one memory port and one branch a cycle.
            (Some(a), Some(b)) => self.dual_issue && (a != b || a == 0),
            _ => false,
        }
    }
}
