//! Links only if neither a store nor slots nor deltas can panic, whatever flash holds and whatever comes:
//! `cargo build --profile single --bin prove --features prove` in this folder. The program does nothing useful.

#![no_std]
#![no_main]

use core::hint::black_box;
use core::panic::PanicInfo;

use cortex_m_rt::entry;
use offshoot::store::Store;
use offshoot::store::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash};
use offshoot::store::slots::{DELTA_HEADER, Image, Layout, Slots};

/// Flash of which nothing is known.
struct Unknown;

impl ErrorType for Unknown {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Unknown {
    const READ_SIZE: usize = 4;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        black_box((offset, &mut *bytes));
        black_box(Ok(()))
    }

    fn capacity(&self) -> usize {
        black_box(1 << 20)
    }
}

impl NorFlash for Unknown {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4096;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        black_box((from, to));
        black_box(Ok(()))
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        black_box((offset, bytes));
        black_box(Ok(()))
    }
}

#[entry]
fn main() -> ! {
    static mut BYTES: [u8; 1024] = [0; 1024];
    loop {
        store(black_box(BYTES));
        slots(black_box(BYTES));
    }
}

fn store(bytes: &mut [u8]) {
    let range = black_box(0..0);
    let opened =
        if black_box(true) { Store::open(Unknown, range) } else { Store::open_or_create(Unknown, range) };
    let Ok(mut store) = opened else { return };
    black_box(store.save(black_box(7), &[&*bytes, &*bytes]).is_ok());
    black_box(store.load(black_box(7), bytes).is_ok());
    black_box(store.factory_reset().is_ok());
    black_box((store.wear().erasures(), store.wear().saves_left(black_box(10_000)), store.capacity()));
}

fn slots(bytes: &mut [u8]) {
    let layout = Layout { slots: [black_box(0..0), black_box(0..0)], control: black_box(0..0) };
    let Ok(mut slots) = Slots::open(Unknown, layout) else { return };
    loop {
        let number: u32 = black_box(0);
        match black_box(0) {
            0 => drop(black_box(slots.boot(3))),
            1 => drop(black_box(slots.begin(Image { len: number, sha256: [0; 32] }))),
            2 => drop(black_box(slots.write(number, bytes))),
            3 => drop(black_box(slots.finish(|_, range| black_box(range) != (0..0)))),
            4 => drop(black_box(slots.confirm())),
            5 => drop(black_box(slots.reject())),
            6 => drop(black_box(slots.adopt(number))),
            7 => {
                let header: [u8; DELTA_HEADER] = black_box([0; DELTA_HEADER]);
                let Ok(mut patch) = slots.begin_delta(&header) else { continue };
                while black_box(true) {
                    black_box(slots.write_delta(&mut patch, black_box(bytes)).is_ok());
                }
            }
            8 => drop(black_box(slots.active().map(|active| slots.range(active.slot)))),
            9 => drop(black_box(slots.wear())),
            _ => return,
        }
    }
}

/// Calls a function that does not exist.
#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        fn a_panic_can_be_reached() -> !;
    }
    // SAFETY: a program with this call does not link.
    unsafe { a_panic_can_be_reached() }
}
