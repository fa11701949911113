//! Detects the instruction sets that processor and operating system offer.

use core::arch::x86_64::{__cpuid_count, _xgetbv, CpuidResult};
use core::sync::atomic::{AtomicU8, Ordering};

/// From the least to the most capable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Level {
    None = 1,
    Avx2,
    AvxVnni,
    Avx512Vnni,
}

const LEVELS: [Level; 4] = [Level::None, Level::Avx2, Level::AvxVnni, Level::Avx512Vnni];

/// The available levels as bits of [`Level`]. Detected once: `cpuid` takes microseconds in a virtual machine.
fn available() -> u8 {
    static AVAILABLE: AtomicU8 = AtomicU8::new(0);
    match AVAILABLE.load(Ordering::Relaxed) {
        0 => {
            let found = ask();
            AVAILABLE.store(found, Ordering::Relaxed);
            found
        }
        known => known,
    }
}

fn bit(level: Level) -> u8 {
    1 << level as u8
}

#[cfg(any(test, feature = "testing"))]
std::thread_local! {
    /// The level that tests on this thread use instead of the best.
    pub(crate) static FORCED: std::cell::Cell<Option<Level>> = const { std::cell::Cell::new(None) };
}

/// The best available level.
pub(super) fn level() -> Level {
    #[cfg(any(test, feature = "testing"))]
    if let Some(forced) = FORCED.get() {
        return forced;
    }
    let available = available();
    LEVELS.into_iter().rev().find(|&l| available & bit(l) != 0).unwrap_or(Level::None)
}

/// All available levels.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn levels() -> impl Iterator<Item = Level> {
    let available = available();
    LEVELS.into_iter().filter(move |&l| available & bit(l) != 0 && l != Level::None)
}

/// The result of `cpuid` for a leaf and subleaf.
fn cpuid(leaf: u32, part: u32) -> CpuidResult {
    #[allow(
        unused_unsafe,
        reason = "newer compilers know that it is safe; the oldest that we support do not"
    )]
    // SAFETY: every processor of this architecture has the instruction.
    unsafe {
        __cpuid_count(leaf, part)
    }
}

fn ask() -> u8 {
    let has = |register: u32, bits: &[u32]| bits.iter().all(|b| register >> b & 1 == 1);
    let mut found = bit(Level::None);
    if cpuid(0, 0).eax < 7 {
        return found;
    }
    // OSXSAVE, AVX.
    if !has(cpuid(1, 0).ecx, &[27, 28]) {
        return found;
    }
    #[target_feature(enable = "xsave")]
    fn saved() -> u64 {
        // SAFETY: with OSXSAVE, register 0 exists.
        unsafe { _xgetbv(0) }
    }
    // SAFETY: OSXSAVE tells that the instruction exists.
    let saved = unsafe { saved() } as u32;
    let features = cpuid(7, 0);
    // The system saves xmm and ymm; AVX2.
    if !has(saved, &[1, 2]) || !has(features.ebx, &[5]) {
        return found;
    }
    found |= bit(Level::Avx2);
    if features.eax >= 1 && has(cpuid(7, 1).eax, &[4]) {
        found |= bit(Level::AvxVnni);
    }
    // The system saves masks and zmm; AVX512 F, BW, VL; VNNI.
    if has(saved, &[5, 6, 7]) && has(features.ebx, &[16, 30, 31]) && has(features.ecx, &[11]) {
        found |= bit(Level::Avx512Vnni);
    }
    found
}
