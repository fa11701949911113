//! [`MicroFrontend`]: features of frames of a sound in integers.
//!
//! Rules: a transform of 32 to 4096 elements, a power of two; a frame is not longer than it; all frames lie in the samples; the
//! channels' bins add up and lie above the first and below the middle of the spectrum; shifts are in range; input, output,
//! scratch and kept memory are disjoint.

use super::shape::require_f32;
use crate::operator::{InPlace, Operator, bytes};
use easy_ext::ext;
use offshoot_base::{Limits, Memory, Rule, Span, blob, product, require};
use offshoot_format::micro_frontend::TABLES;
use offshoot_format::record::{DType, MicroFrontend};
use offshoot_kernels::portable::{self as kernels, MicroTables};

/// Where the parts of a record lie.
pub(crate) struct Places {
    src: Span,
    dst: Span,
    /// All of the scratch, and its parts: samples and bins, signals of the channels.
    scratch: Span,
    spectrum: Span,
    signal: Span,
    /// The word that says whether there are estimates, if they are kept.
    flag: Option<Span>,
    noise: Span,
}

#[ext(MicroFrontendPlaces)]
impl MicroFrontend {
    pub(crate) fn places(&self) -> Result<Places, Rule> {
        let bytes_of = |word: u32| word.checked_mul(4).ok_or(Rule::ArenaBounds);
        let after = |at: u32, words: u16| at.checked_add(4 * u32::from(words)).ok_or(Rule::ArenaBounds);
        let scratch = bytes_of(self.scratch)?;
        let signal = after(scratch, self.size)?;
        let (flag, noise) = match self.kept {
            Some(word) => (Some(Span::new(bytes_of(word)?, 1, 4)?), after(bytes_of(word)?, 1)?),
            None => (None, after(signal, self.channels)?),
        };
        let words = |at, count: u16| Span::new(at, count.into(), 4);
        Ok(Places {
            src: Span::new(self.src, self.samples.into(), 4)?,
            dst: Span::new(self.dst, product([self.frames, self.channels])?, 4)?,
            scratch: Span::new(scratch, self.scratch_words().into(), 4)?,
            spectrum: words(scratch, self.size)?,
            signal: words(signal, self.channels)?,
            flag,
            noise: words(noise, self.channels)?,
        })
    }

    pub(crate) fn tables<'m>(&self, blobs: &'m [u8]) -> Result<MicroTables<'m>, Rule> {
        let mut at = [self.blob; 8];
        for (i, bytes) in self.blob_parts().into_iter().enumerate() {
            if let [before, rest @ ..] = at.get_mut(i..).unwrap_or_default() {
                let next = before.checked_add(bytes).ok_or(Rule::BlobBounds)?;
                rest.fill(next);
            }
        }
        let size = u64::from(self.size);
        let [gain, log] = TABLES.map(|n| n as u64);
        Ok(MicroTables {
            window: blob(blobs, at[0], self.frame.into())?,
            twiddles: blob(blobs, at[1], size / 2)?,
            halves: blob(blobs, at[2], size / 4)?,
            widths: blob(blobs, at[3], u64::from(self.channels) + 1)?,
            weights: blob(blobs, at[4], self.entries.into())?,
            gain: blob(blobs, at[5], if self.gain.is_some() { gain } else { 0 })?,
            log: blob(blobs, at[6], if self.log.is_some() { log } else { 0 })?,
        })
    }
}

impl Operator for MicroFrontend {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        require_f32()?;
        require(self.size.is_power_of_two() && (32..=4096).contains(&self.size), Rule::Format)?;
        require(self.hop > 0 && (1..=self.size).contains(&self.frame), Rule::Shape)?;
        let last = u64::from(self.frames.saturating_sub(1)) * u64::from(self.hop);
        require(last + u64::from(self.frame) <= u64::from(self.samples), Rule::Shape)?;
        let end = u32::from(self.start) + u32::from(self.entries);
        require(self.start > 0 && end <= u32::from(self.size) / 2, Rule::Shape)?;
        let places = self.places()?;
        for kept in places.flag.into_iter().chain([places.noise]) {
            limits.disjoint(places.src, kept)?;
            limits.disjoint(places.dst, kept)?;
            if self.kept.is_some() {
                limits.disjoint(places.scratch, kept)?;
            }
        }
        limits.disjoint(places.src, places.dst)?;
        limits.disjoint(places.src, places.scratch)?;
        limits.disjoint(places.dst, places.scratch)?;
        let tables = self.tables(limits.blobs)?;
        let bins: u64 = tables.widths.iter().map(|width| u64::from(*width)).sum();
        require(bins == u64::from(self.entries), Rule::Table)?;
        let shifts =
            self.smoothing_bits < 32 && self.gain.is_none_or(|s| s < 64) && self.log.is_none_or(|s| s < 32);
        let parts = self.smoothing.iter().chain([&self.remaining]).all(|part| *part <= 1 << 14);
        require(shifts && parts, Rule::Quantisation)?;
        // A butterfly for each pair of elements in each stage, and the channels.
        let stages = self.size.max(2).ilog2();
        let frame =
            product([u32::from(self.size), stages])? + u64::from(self.entries) + u64::from(self.channels);
        product([u64::from(self.frames), frame])
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.places()?.dst)
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        if !cfg!(feature = "f32") {
            return Err(Rule::Format);
        }
        let places = self.places()?;
        let tables = self.tables(memory.blobs())?;
        let stored = match places.flag {
            Some(flag) => memory.bytes(flag)?.iter().any(|&b| b != 0),
            None => false,
        };
        if !stored {
            memory.write::<u32>(places.noise)?.fill(0);
        }
        let channels = usize::from(self.channels);
        for at in 0..usize::from(self.frames) {
            let (samples, work) = memory.split::<f32, i16>(places.src, places.spectrum)?;
            let frame = samples.get(at * usize::from(self.hop)..).and_then(|s| s.get(..self.frame.into()));
            let shift = kernels::micro_spectrum(&tables, frame.ok_or(Rule::Shape)?, work);
            let (work, signal) = memory.split(places.spectrum, places.signal)?;
            kernels::micro_bands(self, &tables, work, shift, signal);
            let (signal, noise) = memory.split(places.signal, places.noise)?;
            kernels::micro_noise(self, signal, noise);
            let (signal, noise, out) = memory.split2::<u32, f32>(places.signal, places.noise, places.dst)?;
            let out = out.get_mut(at * channels..).and_then(|o| o.get_mut(..channels)).ok_or(Rule::Shape)?;
            kernels::micro_features(self, &tables, signal, noise, out);
        }
        if let Some(flag) = places.flag {
            memory.write::<u32>(flag)?.fill(1);
        }
        memory.clear(places.scratch)
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
        Ok(bytes(self.places()?.scratch))
    }

    fn in_place(&self, _: &[u8]) -> InPlace {
        InPlace::Apart
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: MicroFrontend = MicroFrontend {
        src: 0,
        dst: 256,
        scratch: 128,
        kept: Some(80),
        samples: 60,
        frames: 3,
        hop: 15,
        frame: 30,
        size: 32,
        channels: 2,
        start: 3,
        entries: 1,
        smoothing_bits: 10,
        smoothing: [400, 1000],
        remaining: 800,
        gain: Some(14),
        log: Some(6),
        blob: 0,
    };

    /// Tables of zeros, but for one bin of the second channel.
    fn blob() -> [u32; 170] {
        let mut blob = [0; 170];
        blob[15 + 16 + 8] = 1 << 16;
        blob
    }

    #[test]
    fn silence_gives_zeros_and_is_remembered() {
        let blob = blob();
        let blobs = bytemuck::cast_slice(&blob);
        assert!(RECORD.check(&Limits { arena_bytes: 700, blobs }).is_ok());
        let mut arena = [0u32; 175];
        arena[64..70].fill(7);
        RECORD.run(&mut Memory::new(bytemuck::cast_slice_mut(&mut arena), blobs)).unwrap();
        assert_eq!((arena[64..70].iter().sum::<u32>(), arena[80..83].to_vec()), (0, vec![1, 0, 0]));
    }

    #[test]
    fn records_that_break_a_rule_are_refused() {
        let blob = blob();
        let limits = Limits { arena_bytes: 700, blobs: bytemuck::cast_slice(&blob) };
        let refused = |r: MicroFrontend| r.check(&limits).is_err();
        assert!(!refused(RECORD));
        assert!(!refused(MicroFrontend { kept: None, ..RECORD }));
        assert!(refused(MicroFrontend { size: 16, frame: 16, ..RECORD }));
        assert!(refused(MicroFrontend { size: 48, ..RECORD }));
        assert!(refused(MicroFrontend { frame: 33, ..RECORD }));
        assert!(refused(MicroFrontend { frames: 4, ..RECORD }));
        assert!(refused(MicroFrontend { frames: 0, ..RECORD }));
        assert!(refused(MicroFrontend { hop: 0, ..RECORD }));
        assert!(refused(MicroFrontend { samples: u32::MAX, ..RECORD }));
        assert!(refused(MicroFrontend { start: 0, ..RECORD }));
        assert!(refused(MicroFrontend { start: 16, ..RECORD }));
        assert!(refused(MicroFrontend { start: u16::MAX, entries: u16::MAX, ..RECORD }));
        assert!(refused(MicroFrontend { entries: 2, ..RECORD }));
        assert!(refused(MicroFrontend { channels: 0, ..RECORD }));
        assert!(refused(MicroFrontend { channels: u16::MAX, ..RECORD }));
        assert!(refused(MicroFrontend { smoothing_bits: 32, ..RECORD }));
        assert!(refused(MicroFrontend { smoothing: [0, 16385], ..RECORD }));
        assert!(refused(MicroFrontend { remaining: 16385, ..RECORD }));
        assert!(refused(MicroFrontend { gain: Some(64), ..RECORD }));
        assert!(refused(MicroFrontend { log: Some(32), ..RECORD }));
        assert!(refused(MicroFrontend { kept: Some(64), ..RECORD }));
        assert!(refused(MicroFrontend { kept: Some(u32::MAX), ..RECORD }));
        assert!(refused(MicroFrontend { scratch: 60, ..RECORD }));
        assert!(refused(MicroFrontend { scratch: u32::MAX, ..RECORD }));
        assert!(refused(MicroFrontend { blob: 8, ..RECORD }));
        assert!(refused(MicroFrontend { blob: u32::MAX - 3, ..RECORD }));
    }
}
