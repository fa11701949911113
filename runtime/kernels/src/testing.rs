//! For tests of this crate and of those above it: every instruction set that the processor has, one after another.

pub use crate::host;
use std::string::String;

/// Runs `check` on each instruction set; the error names the one that failed.
///
/// # Errors
/// The first that `check` gives.
pub fn on_each_instruction_set<E>(
    mut check: impl FnMut() -> Result<(), E>,
    mut name: impl FnMut(E, String) -> E,
) -> Result<(), E> {
    #[cfg(target_arch = "x86_64")]
    for level in crate::x86::levels() {
        crate::x86::FORCED.set(Some(level));
        let result = check();
        crate::x86::FORCED.set(None);
        result.map_err(|e| name(e, std::format!("{level:?}")))?;
    }
    #[cfg(target_arch = "aarch64")]
    for without in [true, false] {
        crate::neon::WITHOUT_DOT.set(without);
        let result = check();
        crate::neon::WITHOUT_DOT.set(false);
        result.map_err(|e| name(e, std::format!("without dot products: {without}")))?;
    }
    Ok(())
}

/// Runs something on the portable kernels alone.
pub fn portably<T>(run: impl FnOnce() -> T) -> T {
    #[cfg(target_arch = "x86_64")]
    let before = crate::x86::FORCED.replace(Some(crate::x86::Level::None));
    #[cfg(target_arch = "aarch64")]
    let before = crate::neon::PORTABLE.replace(true);
    let result = run();
    #[cfg(target_arch = "x86_64")]
    crate::x86::FORCED.set(before);
    #[cfg(target_arch = "aarch64")]
    crate::neon::PORTABLE.set(before);
    result
}
