//! Times of operators, by the clock of the page.

use std::ffi::c_void;

use offshoot_c::object::Offshoot;
use offshoot_c::run::offshoot_run_watched;
use offshoot_c::status::Status;

#[cfg(target_arch = "wasm32")]
#[link(wasm_import_module = "offshoot")]
unsafe extern "C" {
    /// Milliseconds since some moment: `performance.now`.
    safe fn now() -> f64;
}

#[cfg(not(target_arch = "wasm32"))]
fn now() -> f64 {
    use std::time::{SystemTime, UNIX_EPOCH};
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

/// What the watcher keeps between two operators.
struct Times {
    sums: *mut f64,
    count: usize,
    last: f64,
}

/// Runs the network on its inputs, and adds the milliseconds that operator `i` took to number `i` of `count` numbers at `sums`. Browsers round
/// their clocks (100 µs, often): only sums over many runs say something about an operator.
///
/// # Safety
/// As for every call of `offshoot-c`; `sums` points to `count` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_run_timed(network: *mut Offshoot, sums: *mut f64, count: usize) -> Status {
    if sums.is_null() {
        return Status::NullPointer;
    }
    if !sums.is_aligned() {
        return Status::Alignment;
    }
    let mut times = Times { sums, count, last: now() };
    // SAFETY: the caller vouches for the network, and the context is what the watcher takes.
    unsafe { offshoot_run_watched(network, Some(add_time), (&raw mut times).cast()) }
}

unsafe extern "C" fn add_time(context: *mut c_void, op: u32) {
    // SAFETY: the context is that of `offshoot_run_timed`, which does not use it meanwhile.
    let times = unsafe { &mut *context.cast::<Times>() };
    let time = now();
    if (op as usize) < times.count {
        // SAFETY: the caller of `offshoot_run_timed` vouches for so many numbers.
        unsafe { *times.sums.add(op as usize) += time - times.last };
    }
    times.last = time;
}
