//! For tests of this crate and its dependents: runs every instruction set of the processor in turn.

pub use crate::host;
use std::string::String;

/// Runs `check` on each instruction set; `name` adds the failing one to the error.
///
/// # Errors
/// The first error of `check`.
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

/// Runs `run` on the portable kernels only.
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
