//! [`Spectrum`]: the Fourier transform of overlapping frames.
//!
//! Rules: there is a transform of this size, and it is built; a frame is not longer than it; all frames lie in the signal;
//! source, destination and scratch are disjoint.

use super::shape::require_f32;
use crate::operator::{InPlace, Operator, bytes};
use easy_ext::ext;
use offshoot_base::{Limits, Memory, Rule, Span, blob, product, require};
use offshoot_format::record::{DType, Spectrum};
use offshoot_kernels::portable as kernels;

#[ext(SpectrumPlaces)]
impl Spectrum {
    /// Places of the signals, the output and the scratch.
    pub(crate) fn spans(&self) -> Result<[Span; 3], Rule> {
        let scratch = self.scratch.checked_mul(4).ok_or(Rule::ArenaBounds)?;
        Ok([
            Span::new(self.src, product([u32::from(self.signals), self.samples])?, 4)?,
            Span::new(self.dst, product([self.signals.into(), self.frames.into(), self.width()])?, 4)?,
            Span::new(scratch, self.size.into(), 4)?,
        ])
    }

    pub(crate) fn stored_window<'m>(&self, blobs: &'m [u8]) -> Result<Option<&'m [f32]>, Rule> {
        self.window.map(|at| blob(blobs, at, self.frame.into())).transpose()
    }
}

impl Operator for Spectrum {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        require_f32()?;
        require(kernels::has_transform(self.size.into()), Rule::Format)?;
        require(self.hop > 0 && (1..=self.size).contains(&self.frame), Rule::Shape)?;
        let [src, dst, scratch] = self.spans()?;
        let last = u64::from(self.frames.saturating_sub(1)) * u64::from(self.hop);
        require(last + u64::from(self.frame) <= u64::from(self.samples), Rule::Shape)?;
        limits.disjoint(src, dst)?;
        limits.disjoint(src, scratch)?;
        limits.disjoint(dst, scratch)?;
        self.stored_window(limits.blobs)?;
        // A butterfly for each pair of elements in each stage.
        let stages = self.size.max(2).ilog2();
        product([u32::from(self.signals), self.frames.into(), self.size.into(), stages])
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.spans()?[1])
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        if !cfg!(feature = "f32") {
            return Err(Rule::Format);
        }
        let [src, dst, scratch] = self.spans()?;
        let window = self.stored_window(memory.blobs())?;
        let (samples, frames) = (self.samples as usize, usize::from(self.frames));
        let width = self.width() as usize;
        for at in 0..usize::from(self.signals) * frames {
            let from = at / frames.max(1) * samples + at % frames.max(1) * self.hop as usize;
            let (signals, work) = memory.split::<f32, f32>(src, scratch)?;
            let frame = signals.get(from..).and_then(|rest| rest.get(..self.frame.into()));
            kernels::windowed(frame.ok_or(Rule::Shape)?, window, work);
            kernels::transform(work);
            let (work, out) = memory.split(scratch, dst)?;
            let out = out.get_mut(at * width..).and_then(|rest| rest.get_mut(..width));
            kernels::bins(self.part, work, out.ok_or(Rule::Shape)?);
        }
        memory.clear(scratch)
    }

    fn output_dtype(&self) -> DType {
        DType::F32
    }

    fn macs(&self) -> u64 {
        0
    }

    fn weights(&self) -> u64 {
        0
    }

    fn scratch(&self, _: &[u8]) -> Result<u32, Rule> {
        Ok(bytes(self.spans()?[2]))
    }

    fn in_place(&self, _: &[u8]) -> InPlace {
        InPlace::Apart
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_format::record::SpectrumPart;

    const RECORD: Spectrum = Spectrum {
        src: 0,
        dst: 256,
        scratch: 96,
        signals: 2,
        samples: 30,
        frames: 2,
        hop: 10,
        frame: 20,
        size: 32,
        part: SpectrumPart::Power,
        window: Some(0),
    };

    #[test]
    fn each_frame_is_transformed() {
        let blobs: Vec<f32> = (0..20).map(|i| 1.0 + i as f32).collect();
        let blobs: &[u8] = bytemuck::cast_slice(&blobs);
        let r = Spectrum { dst: 240, scratch: 192, ..RECORD };
        assert!(r.check(&Limits { arena_bytes: 896, blobs }).is_ok());
        let mut arena: Vec<f32> = (0..224).map(|i| (i * 7 % 13) as f32).collect();
        let signals = arena[..60].to_vec();
        r.run(&mut Memory::new(bytemuck::cast_slice_mut(&mut arena), blobs)).unwrap();
        // The first bin is the squared sum of the windowed frame.
        for (at, from) in [0, 10, 30, 40].into_iter().enumerate() {
            let sum: f32 = signals[from..][..20].iter().enumerate().map(|(i, x)| x * (1.0 + i as f32)).sum();
            assert_eq!(arena[60 + 17 * at], sum * sum);
        }
    }

    #[test]
    fn records_that_break_a_rule_are_refused() {
        let blobs = [0; 128];
        let r = Spectrum { dst: 240, scratch: 192, ..RECORD };
        let refused = |r: Spectrum| r.check(&Limits { arena_bytes: 896, blobs: &blobs }).is_err();
        assert!(!refused(r));
        assert!(refused(Spectrum { size: 33, ..r }));
        assert!(refused(Spectrum { size: 16, frame: 16, ..r }));
        assert!(refused(Spectrum { frame: 33, ..r }));
        assert!(refused(Spectrum { frame: 0, ..r }));
        assert!(refused(Spectrum { frames: 3, ..r }));
        assert!(refused(Spectrum { frames: 0, ..r }));
        assert!(refused(Spectrum { hop: 0, ..r }));
        assert!(refused(Spectrum { hop: u32::MAX, ..r }));
        assert!(refused(Spectrum { samples: u32::MAX, ..r }));
        assert!(refused(Spectrum { dst: 236, ..r }));
        assert!(refused(Spectrum { scratch: 100, ..r }));
        assert!(refused(Spectrum { scratch: u32::MAX, ..r }));
        assert!(refused(Spectrum { window: Some(64), ..r }));
        assert!(refused(Spectrum { part: SpectrumPart::Complex, ..r }));
    }
}
