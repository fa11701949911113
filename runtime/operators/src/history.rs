//! [`History`]: the input behind the end of what came before.
//!
//! Rules: elements take 1 or 4 bytes; neither state nor input is empty; input, output and kept state are disjoint.

use crate::operator::{InPlace, Operator};
use easy_ext::ext;
use offshoot_base::{Limits, Memory, Rule, Span, require};
use offshoot_format::record::{DType, History};

/// Where the parts of a record lie, in bytes.
struct Places {
    src: Span,
    dst: Span,
    /// The word that says whether a state is stored.
    flag: Span,
    state: Span,
}

#[ext(HistoryPlaces)]
impl History {
    fn places(&self) -> Result<Places, Rule> {
        require(self.size == 1 || self.size == 4, Rule::Format)?;
        require(self.state > 0 && self.len > 0, Rule::Shape)?;
        let size = usize::from(self.size);
        let kept = self.kept.checked_mul(4).ok_or(Rule::ArenaBounds)?;
        let state = kept.checked_add(4).ok_or(Rule::ArenaBounds)?;
        Ok(Places {
            src: Span::new(self.src, self.len.into(), size)?,
            dst: Span::new(self.dst, u64::from(self.state) + u64::from(self.len), size)?,
            flag: Span::new(kept, 1, 4)?,
            state: Span::new(state, self.state.into(), size)?,
        })
    }
}

impl Operator for History {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let p = self.places()?;
        limits.disjoint(p.src, p.dst)?;
        for kept in [p.flag, p.state] {
            limits.disjoint(p.src, kept)?;
            limits.disjoint(p.dst, kept)?;
        }
        Ok(2 * u64::from(self.state) + u64::from(self.len))
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.places()?.dst)
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let p = self.places()?;
        let stored = memory.bytes(p.flag)?.iter().any(|&b| b != 0);
        let (src, dst) = memory.split::<u8, u8>(p.src, p.dst)?;
        let (before, new) = dst.split_at_mut_checked(p.state.len).ok_or(Rule::Shape)?;
        new.copy_from_slice(src);
        if !stored {
            let word = self.fill.to_le_bytes();
            before.iter_mut().zip(word.iter().take(self.size.into()).cycle()).for_each(|(b, w)| *b = *w);
        } else {
            let (state, dst) = memory.split::<u8, u8>(p.state, p.dst)?;
            dst.get_mut(..state.len()).ok_or(Rule::Shape)?.copy_from_slice(state);
        }
        let (dst, state) = memory.split::<u8, u8>(p.dst, p.state)?;
        state.copy_from_slice(dst.get(p.src.len..).ok_or(Rule::Shape)?);
        memory.write::<u32>(p.flag)?.fill(1);
        Ok(())
    }

    fn output_dtype(&self) -> DType {
        if self.size == 1 { DType::I8 } else { DType::F32 }
    }

    fn macs(&self) -> u64 {
        0
    }

    fn weights(&self) -> u64 {
        0
    }

    fn scratch(&self, _: &[u8]) -> Result<u32, Rule> {
        Ok(0)
    }

    fn in_place(&self, _: &[u8]) -> InPlace {
        InPlace::Apart
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_moves_over_the_runs() {
        let r = History { src: 0, dst: 4, kept: 3, state: 3, len: 2, size: 1, fill: -7 };
        let mut arena = bytemuck::cast_slice::<u32, u8>(&[0; 8]).to_vec();
        let limits = Limits { arena_bytes: 20, blobs: &[] };
        assert!(r.check(&limits).is_ok());
        let mut run = |a: u8, b: u8| {
            let mut words = [0u32; 8];
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
            bytes.copy_from_slice(&arena);
            bytes[..2].copy_from_slice(&[a, b]);
            r.run(&mut Memory::new(bytes, &[])).unwrap();
            arena.copy_from_slice(bytes);
            arena[4..9].to_vec()
        };
        assert_eq!(run(1, 2), [249, 249, 249, 1, 2]);
        assert_eq!(run(3, 4), [249, 1, 2, 3, 4]);
        assert_eq!(run(5, 6), [2, 3, 4, 5, 6]);
    }

    #[test]
    fn overlapping_places_are_refused() {
        let limits = Limits { arena_bytes: 64, blobs: &[] };
        let r = History { src: 0, dst: 4, kept: 3, state: 3, len: 2, size: 1, fill: 0 };
        assert!(History { kept: 1, ..r }.check(&limits).is_err());
        assert!(History { dst: 1, ..r }.check(&limits).is_err());
        assert!(History { kept: u32::MAX, ..r }.check(&limits).is_err());
        assert!(History { size: 2, ..r }.check(&limits).is_err());
        assert!(History { state: 0, ..r }.check(&limits).is_err());
        assert!(History { state: u32::MAX, size: 4, ..r }.check(&limits).is_err());
    }
}
