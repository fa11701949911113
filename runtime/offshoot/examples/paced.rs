//! A run that gives way: step by step with a watchdog fed in between, up to a deadline, and as a task beside another.
//!
//! `cargo run -p offshoot --example paced`

use core::cell::Cell;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use offshoot::{Arena, Error};

offshoot::include_model!(Vibration, "data/vibration.off");

static READINGS: &[u8] = include_bytes!("data/vibration_x.u8");

/// Multiply-accumulates between two chances to do something else. On a Cortex-M4 a multiply-accumulate takes one to two
/// instructions; `offshoot profile vibration.off --target qemu:cortex-m4 --steps 4000` counts those of the longest step.
const MOST_WORK: u32 = 4_000;

fn main() -> Result<(), Error> {
    let mut arena = Arena::<{ Vibration::ARENA_BYTES }>::new();
    let mut engine = Vibration::engine(&mut arena)?;
    let readings = READINGS.as_chunks::<{ Vibration::INPUTS[0].elements() }>().0[0].map(f32::from);

    // A watchdog that must be fed more often than a whole run takes.
    engine.write_input_f32(0, &readings)?;
    let (mut steps, mut fed) = (engine.steps(MOST_WORK)?, 0);
    while steps.step()? {
        fed += 1;
    }
    println!("state {}: the watchdog was fed {fed} times", engine.top1(0)?);

    // A main loop with other work: ten steps a turn. On a device the closure would look at a clock.
    engine.write_input_f32(0, &readings)?;
    let (mut steps, mut turns) = (engine.steps(MOST_WORK)?, 0);
    loop {
        turns += 1;
        let mut left = 10;
        let in_time = || {
            left -= 1;
            left >= 0
        };
        if !steps.run_while(in_time)? {
            break;
        }
        // Here the main loop does its other work.
    }
    println!("state {}: it took {turns} turns of ten steps", engine.top1(0)?);

    // Two tasks. With embassy: `embassy_futures::yield_now` instead of `pause`, and its executor instead of this loop.
    engine.write_input_f32(0, &readings)?;
    let blinks = Cell::new(0);
    {
        let inference = pin!(engine.run_async(MOST_WORK, pause));
        let blinking = pin!(async {
            loop {
                blinks.set(blinks.get() + 1);
                pause().await;
            }
        });
        both(inference, blinking)?;
    }
    println!("state {}: the other task blinked {} times", engine.top1(0)?, blinks.get());
    Ok(())
}

/// Gives way once.
fn pause() -> impl Future<Output = ()> {
    let mut paused = false;
    poll_fn(move |_| if core::mem::replace(&mut paused, true) { Poll::Ready(()) } else { Poll::Pending })
}

/// Polls two tasks in turn until the first is done.
fn both<T>(
    mut first: core::pin::Pin<&mut impl Future<Output = T>>,
    mut second: core::pin::Pin<&mut impl Future<Output = ()>>,
) -> T {
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(result) = first.as_mut().poll(&mut context) {
            return result;
        }
        let _ = second.as_mut().poll(&mut context);
    }
}
