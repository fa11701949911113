//! defmt's logger on UART1.

use core::cell::RefCell;
use critical_section::{Mutex, RestoreState};
use defmt::Encoder;
use offshoot_boards::cmsdk::Registers;

// SAFETY: the image has a UART there.
const UART1: Registers = unsafe { Registers::at(crate::image::UART1) };

/// Enables the line.
pub(crate) fn start() {
    UART1.start_writing();
}

fn send(bytes: &[u8]) {
    UART1.send(bytes);
}

struct State {
    encoder: Encoder,
    restore: RestoreState,
}

static STATE: Mutex<RefCell<Option<State>>> = Mutex::new(RefCell::new(None));

#[defmt::global_logger]
struct Logger;

// SAFETY: `acquire` enters a critical section on the only core and `release` leaves it, so calls are paired and never
// overlap; a nested `acquire` finds the state taken and panics before it can corrupt the stream.
unsafe impl defmt::Logger for Logger {
    fn acquire() {
        // SAFETY: `release` ends the section with the same state, because defmt calls it after every `acquire`.
        let restore = unsafe { critical_section::acquire() };
        critical_section::with(|section| {
            let mut state = STATE.borrow_ref_mut(section);
            assert!(state.is_none(), "a log line within a log line");
            let mut encoder = Encoder::new();
            encoder.start_frame(send);
            *state = Some(State { encoder, restore });
        });
    }

    unsafe fn flush() {}

    unsafe fn release() {
        let state = critical_section::with(|section| STATE.borrow_ref_mut(section).take());
        if let Some(State { mut encoder, restore }) = state {
            encoder.end_frame(send);
            // SAFETY: ends the section that `acquire` began.
            unsafe { critical_section::release(restore) };
        }
    }

    unsafe fn write(bytes: &[u8]) {
        critical_section::with(|section| {
            if let Some(state) = STATE.borrow_ref_mut(section).as_mut() {
                state.encoder.write(bytes, send);
            }
        });
    }
}
