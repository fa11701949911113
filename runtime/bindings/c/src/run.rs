//! Runs of a network.

use core::ffi::c_void;

use crate::object::{Offshoot, Open, with};
use crate::status::Status;
use offshoot::{Observer, engine::Engine, trace::OpInfo};

/// Called after each operator with the context of `offshoot_run_watched` and the operator's index: to feed a watchdog, say. It must
/// return, and must not use the object.
pub type Watcher = Option<unsafe extern "C" fn(context: *mut c_void, op: u32)>;

struct Watched {
    watcher: unsafe extern "C" fn(*mut c_void, u32),
    context: *mut c_void,
}

impl Observer for Watched {
    fn after(&mut self, op: OpInfo, _output: &[u8]) {
        // SAFETY: the caller of `offshoot_run_watched` vouches for it.
        unsafe { (self.watcher)(self.context, op.index.into()) }
    }
}

/// Runs the network on its inputs. A run overwrites them: write them before every run.
///
/// # Safety
/// As for every call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_run(network: *mut Offshoot) -> Status {
    // SAFETY: the caller vouches for it.
    unsafe { with(network, |open| open.engaged(|engine| Ok(engine.run()?))) }
}

/// As `offshoot_run`; calls `watcher` after each operator.
///
/// # Safety
/// As for every call; `watcher` may be called with `context`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_run_watched(
    network: *mut Offshoot,
    watcher: Watcher,
    context: *mut c_void,
) -> Status {
    let Some(watcher) = watcher else { return Status::NullPointer };
    let mut watched = Watched { watcher, context };
    // SAFETY: the caller vouches for it.
    unsafe { with(network, |open| open.engaged(|engine| Ok(engine.run_with(&mut watched)?))) }
}

/// Resets operators that keep their state from run to run: the next run starts a new sequence.
///
/// # Safety
/// As for every call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_restart(network: *mut Offshoot) -> Status {
    let work = |open: &mut Open| {
        open.engaged(|engine| {
            Engine::restart(engine);
            Ok(())
        })
    };
    // SAFETY: the caller vouches for it.
    unsafe { with(network, work) }
}

/// Switches to network `index` of the file, without copying or checking anything. Write the inputs anew afterwards; recurrent layers that
/// keep their state restart. Only network 0 learns.
///
/// # Safety
/// As for every call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_select(network: *mut Offshoot, index: usize) -> Status {
    // SAFETY: the caller vouches for it.
    unsafe { with(network, |open| open.select(index)) }
}
