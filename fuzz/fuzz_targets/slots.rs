//! Whatever lies in control pages and comes as an update: errors or a state that works, no panic, no write outside the partition.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offshoot::store::slots::{DELTA_HEADER, DeltaHeader, Image, Layout, Slots};
use offshoot::store::{RamFlash, Store};

const PAGE: u32 = 1024;
const CONTROL: u32 = 4 * PAGE;

fuzz_target!(|data: &[u8]| {
    let (operations, rest) = data.split_at(data.len().min(12));
    let (state, rest) = rest.split_at(rest.len().min(116));
    let layout = Layout { slots: [0..2 * PAGE, 2 * PAGE..CONTROL], control: CONTROL..CONTROL + 4 * PAGE };
    let mut flash = vec![0x5a; (CONTROL + 6 * PAGE) as usize];
    // A record with a right checksum, as who can write to flash makes it.
    let mut control = Store::create(RamFlash::new(&mut flash), layout.control.clone()).expect("four pages");
    control.save(u32::from_le_bytes(*b"OfSl"), &[state]).expect("it fits");
    let new = Image { len: 1 + operations.len() as u32 * 90, sha256: [7; 32] };
    for &operation in operations {
        // Opened anew before each, as after a loss of power.
        let Ok(mut slots) = Slots::open(RamFlash::new(&mut flash), layout.clone()) else { break };
        match operation % 8 {
            0 => drop(slots.boot(2)),
            1 => drop(slots.begin(new).map(|next| slots.write(next, rest))),
            2 => drop(slots.finish(|_, _| operation % 2 == 0)),
            3 => drop(slots.confirm()),
            4 => drop(slots.reject()),
            5 => drop(slots.adopt(operation.into())),
            _ => {
                let Some(active) = slots.active() else { continue };
                let header: [u8; DELTA_HEADER] = DeltaHeader { base: active.image, new }.emit();
                let Ok(mut patch) = slots.begin_delta(&header) else { continue };
                let _ = slots.write_delta(&mut patch, rest);
            }
        }
    }
    assert!(flash[(CONTROL + 4 * PAGE) as usize..].iter().all(|&byte| byte == 0x5a));
});
