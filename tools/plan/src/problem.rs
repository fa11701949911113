//! The planning problem: buffers, and the steps that read and write them.

use serde::{Deserialize, Serialize};

/// Index of a buffer in [`Problem::buffers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BufferId(pub usize);

/// A contiguous run of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buffer {
    /// Size in bytes.
    pub bytes: u32,
    /// Alignment of its offset, a power of two.
    pub align: u32,
}

/// How far a written buffer may lie over one that the same step reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Overlap {
    /// Both start at the same offset, or they do not overlap.
    Exact,
    /// In-place offset: the step overwrites what it has already consumed of its input (vMCU, Zheng et al., MLSys 2024).
    /// If it runs forwards, the write must start at least `below` bytes before the read; if it runs backwards, at least
    /// `above` bytes after it. `u32::MAX`: not in this direction.
    Offset {
        /// Smallest distance from the start of the write up to the start of the read.
        below: u32,
        /// Smallest distance from the start of the read up to the start of the write.
        above: u32,
    },
}

impl Overlap {
    /// Fewest bytes that hold a read and a written buffer of these sizes together.
    pub fn footprint(self, read: u64, write: u64) -> u64 {
        let (below, above) = match self {
            Self::Exact => return read.max(write),
            Self::Offset { below, above } => (u64::from(below), u64::from(above)),
        };
        let forwards = write.max(below + read);
        let backwards = read.max(above + write);
        forwards.min(backwards).min(read + write)
    }
}

/// A written buffer that may share memory with a read one, if nothing needs the read one afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InPlace {
    /// The buffer read.
    pub read: BufferId,
    /// The buffer written.
    pub write: BufferId,
    /// How they may overlap.
    pub overlap: Overlap,
}

/// A branch of a switch. One branch of each switch is chosen in a run; the steps of a switch follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Branch {
    /// The switch.
    pub switch: usize,
    /// Number of the branch.
    pub number: usize,
}

/// Whether a run may go through steps of both these branches.
pub fn compatible(a: &[Branch], b: &[Branch]) -> bool {
    let differs = a.iter().zip(b).find(|(a, b)| a != b);
    differs.is_none_or(|(a, b)| a.switch != b.switch)
}

/// One operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Buffers read.
    pub reads: Vec<BufferId>,
    /// Buffers written, in whole or in part; several steps may write parts of one buffer, as for a concatenation.
    pub writes: Vec<BufferId>,
    /// Pairs that may share memory.
    pub in_place: Vec<InPlace>,
    /// The branches of switches that it lies in, outermost first: it runs only if all of them are chosen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<Branch>,
    /// Whether it begins the innermost of its branches: it reads the index and writes nothing, also if another branch is chosen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub begins: bool,
}

impl Step {
    /// The branches that must be chosen for it to read and write.
    pub fn runs_in(&self) -> &[Branch] {
        match self.branches.split_last() {
            Some((_, around)) if self.begins => around,
            _ => &self.branches,
        }
    }
}

/// Buffers and steps in a valid order. Steps that write the same buffer keep their sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// All buffers.
    pub buffers: Vec<Buffer>,
    /// All steps, each after those whose buffers it reads.
    pub steps: Vec<Step>,
    /// Buffers filled before the first step; free after their last read.
    pub inputs: Vec<BufferId>,
    /// Buffers read after the last step.
    pub outputs: Vec<BufferId>,
}

/// A problem that cannot be planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A step, input or output names a buffer that does not exist.
    #[error("{place} names buffer {buffer}, but there are {count}")]
    NoSuchBuffer {
        /// The step or list that names it.
        place: String,
        /// Index of the buffer.
        buffer: usize,
        /// Number of buffers.
        count: usize,
    },
    /// A step or the output list reads a buffer that nothing has written.
    #[error("{place} reads buffer {buffer}, which nothing has written before")]
    Unwritten {
        /// The step or list that reads it.
        place: String,
        /// Index of the buffer.
        buffer: usize,
    },
    /// An alignment is not a power of two.
    #[error("buffer {buffer}: alignment {align} is not a power of two")]
    Alignment {
        /// Index of the buffer.
        buffer: usize,
        /// Its alignment.
        align: u32,
    },
    /// An in-place pair names a buffer that the step does not read or write.
    #[error("step {step}: in-place pair {read} -> {write} is not among its reads and writes")]
    InPlace {
        /// Index of the step.
        step: usize,
        /// The buffer read.
        read: usize,
        /// The buffer written.
        write: usize,
    },
    /// More bytes are live at once than 32-bit offsets can address.
    #[error("{bytes} bytes are live at once, more than 32-bit offsets can address")]
    TooLarge {
        /// Bytes needed.
        bytes: u64,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Problem {
    /// Checks indices, alignments and in-place pairs, and that every buffer is written before it is read.
    ///
    /// # Errors
    /// The first fault found.
    pub fn check(&self) -> Result<()> {
        let count = self.buffers.len();
        for (buffer, b) in self.buffers.iter().enumerate() {
            if !b.align.is_power_of_two() {
                return Err(Error::Alignment { buffer, align: b.align });
            }
        }
        let known = |ids: &[BufferId], place: &dyn Fn() -> String| match ids.iter().find(|b| b.0 >= count) {
            Some(b) => Err(Error::NoSuchBuffer { place: place(), buffer: b.0, count }),
            None => Ok(()),
        };
        known(&self.inputs, &|| "the input list".into())?;
        known(&self.outputs, &|| "the output list".into())?;
        let mut written = vec![false; count];
        self.inputs.iter().for_each(|b| written[b.0] = true);
        for (i, step) in self.steps.iter().enumerate() {
            let place = || format!("step {i}");
            known(&step.reads, &place)?;
            known(&step.writes, &place)?;
            for b in &step.reads {
                if !written[b.0] {
                    return Err(Error::Unwritten { place: place(), buffer: b.0 });
                }
            }
            for p in &step.in_place {
                if !step.reads.contains(&p.read) || !step.writes.contains(&p.write) || p.read == p.write {
                    return Err(Error::InPlace { step: i, read: p.read.0, write: p.write.0 });
                }
            }
            step.writes.iter().for_each(|b| written[b.0] = true);
        }
        match self.outputs.iter().find(|b| !written[b.0]) {
            Some(b) => Err(Error::Unwritten { place: "the output list".into(), buffer: b.0 }),
            None => Ok(()),
        }
    }

    /// For each step, the steps that must run before it: those that write a buffer it reads, and those that use a
    /// buffer it writes.
    pub fn dependencies(&self) -> Vec<Vec<usize>> {
        let mut writers = vec![Vec::new(); self.buffers.len()];
        let mut readers = vec![Vec::new(); self.buffers.len()];
        let mut all = Vec::with_capacity(self.steps.len());
        for (i, step) in self.steps.iter().enumerate() {
            let mut before: Vec<usize> = Vec::new();
            for b in &step.reads {
                before.extend(&writers[b.0]);
                readers[b.0].push(i);
            }
            for b in &step.writes {
                before.extend(writers[b.0].iter().chain(&readers[b.0]));
                writers[b.0].push(i);
            }
            before.retain(|&j| j != i);
            before.sort_unstable();
            before.dedup();
            all.push(before);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Problem {
        let step = |r: usize, w: usize| Step {
            reads: vec![BufferId(r)],
            writes: vec![BufferId(w)],
            ..Step::default()
        };
        Problem {
            buffers: vec![Buffer { bytes: 4, align: 1 }; 3],
            steps: vec![step(0, 1), step(1, 2)],
            inputs: vec![BufferId(0)],
            outputs: vec![BufferId(2)],
        }
    }

    #[test]
    fn finds_each_mistake() {
        assert_eq!(chain().check(), Ok(()));
        let mut p = chain();
        p.steps[0].reads = vec![BufferId(7)];
        assert!(matches!(p.check(), Err(Error::NoSuchBuffer { buffer: 7, .. })));
        let mut p = chain();
        p.steps.swap(0, 1);
        assert!(matches!(p.check(), Err(Error::Unwritten { buffer: 1, .. })));
        let mut p = chain();
        p.buffers[1].align = 3;
        assert!(matches!(p.check(), Err(Error::Alignment { buffer: 1, align: 3 })));
        let mut p = chain();
        p.steps[0].in_place =
            vec![InPlace { read: BufferId(1), write: BufferId(0), overlap: Overlap::Exact }];
        assert!(matches!(p.check(), Err(Error::InPlace { step: 0, .. })));
    }

    #[test]
    fn writers_of_one_buffer_stay_in_sequence() {
        let mut p = chain();
        p.steps.insert(1, Step { writes: vec![BufferId(1)], ..Step::default() });
        assert_eq!(p.dependencies(), vec![vec![], vec![0], vec![0, 1]]);
    }
}
