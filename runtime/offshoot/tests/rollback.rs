//! Slots beside the counter of releases: whenever power is cut, the device has a model that its counter accepts, and it never goes back
//! to a release before one that it confirmed.

#[allow(dead_code, reason = "what the tests of the store need")]
mod flash;

use std::ops::Range;

use flash::{Fault, SimulatedFlash, Torn};
use offshoot::ReleaseCounter;
use offshoot::store::nor_flash::ReadNorFlash;
use offshoot::store::slots::{Active, Image, Layout, Slots, UpdateError};
use sha2::{Digest, Sha256};

type Flash = SimulatedFlash<1, 4, 256>;

const COUNTER: Range<u32> = 2048..2560;

fn layout() -> Layout {
    Layout { slots: [0..512, 512..1024], control: 1024..2048 }
}

/// A file that begins with its release, as a signed one does for this purpose.
fn model(release: u32) -> Vec<u8> {
    let rest = (0..400_u32).map(|i| (i.wrapping_mul(release + 3) >> 2) as u8);
    release.to_le_bytes().into_iter().chain(rest).collect()
}

fn image(file: &[u8]) -> Image {
    Image { len: file.len() as u32, sha256: Sha256::digest(file).into() }
}

fn release_of(flash: &mut Flash, Active { slot, .. }: Active) -> Result<u32, UpdateError<Fault>> {
    let mut bytes = [0; 4];
    Slots::open(flash, layout())?.read(slot, 0, &mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

/// Boots until nothing is on trial, as the guide shows. Each model that runs is one that the counter accepts.
fn boot(flash: &mut Flash, passes: bool) -> Result<u32, UpdateError<Fault>> {
    loop {
        let least = ReleaseCounter::open(&mut *flash, COUNTER)?.value();
        let active = Slots::open(&mut *flash, layout())?.boot(2)?.ok_or(UpdateError::Nothing)?;
        let release = release_of(flash, active)?;
        assert!(release >= least, "there is nothing to run");
        let mut slots = Slots::open(&mut *flash, layout())?;
        if active.on_trial && !passes {
            slots.reject()?;
            continue;
        }
        slots.confirm()?;
        // After the confirmation, and again at each boot.
        ReleaseCounter::open(&mut *flash, COUNTER)?.raise(release)?;
        return Ok(release);
    }
}

/// Takes a file, unless it is older than the counter.
fn take(flash: &mut Flash, file: &[u8]) -> Result<(), UpdateError<Fault>> {
    let least = ReleaseCounter::open(&mut *flash, COUNTER)?.value();
    let mut slots = Slots::open(&mut *flash, layout())?;
    let next = slots.begin(image(file))?;
    slots.write(next, &file[next as usize..])?;
    slots.finish(|flash, range| {
        let mut bytes = [0; 4];
        flash.read(range.start, &mut bytes).is_ok() && u32::from_le_bytes(bytes) >= least
    })
}

#[test]
fn a_cut_leaves_a_model_that_the_counter_accepts() {
    let (old, new) = (model(4), model(9));
    let mut before = Flash::new(10);
    take(&mut before, &old).unwrap();
    assert_eq!(boot(&mut before, true), Ok(4));
    for passes in [true, false] {
        let update = |flash: &mut Flash| take(flash, &new).and_then(|()| boot(flash, passes));
        let mut whole = before.clone();
        let last = update(&mut whole).unwrap();
        assert_eq!(last, if passes { 9 } else { 4 });
        let work = whole.work - before.work;
        for manner in Torn::ALL {
            for cut in 1..=work {
                let mut flash = before.clone();
                flash.cut_after(cut, manner, cut);
                assert!(update(&mut flash).is_err(), "power was away");
                flash.power_on();
                let release = boot(&mut flash, passes).unwrap();
                assert!(release == 4 || (release == 9 && passes), "{manner:?} after {cut}: {release}");
                // What was confirmed is not gone back on.
                let downgrade = take(&mut flash, &model(release - 1));
                assert_eq!(downgrade, Err(UpdateError::Refused), "{manner:?} after {cut}");
                assert_eq!(boot(&mut flash, passes), Ok(release));
            }
        }
        println!("{} cuts, in the end release {last}", 4 * work);
    }
}
