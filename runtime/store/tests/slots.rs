//! Two slots for models: power cuts at every byte of an update, trials, worn flash, hostile control pages.

#[allow(dead_code, reason = "what the tests of the store need")]
#[path = "../../offshoot/tests/flash/mod.rs"]
mod flash;

use flash::{Fault, SimulatedFlash, Torn, Worn};
use offshoot_store::Error;
use offshoot_store::slots::{Active, DELTA_HEADER, DeltaHeader, Image, Layout, Slot, Slots, UpdateError};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

type Flash = SimulatedFlash<2, 4, 256>;

/// Two slots of three pages, and four control pages.
fn layout() -> Layout {
    Layout { slots: [0..768, 768..1536], control: 1536..2560 }
}

fn model(seed: u32, bytes: u32) -> Vec<u8> {
    (0..bytes).map(|i| (i.wrapping_mul(77) ^ seed.wrapping_mul(0x9e37_79b9) >> 11) as u8).collect()
}

fn image(file: &[u8]) -> Image {
    Image { len: file.len() as u32, sha256: Sha256::digest(file).into() }
}

fn open(flash: &mut Flash) -> Slots<&mut Flash> {
    Slots::open(flash, layout()).unwrap()
}

/// The bytes of the active model; they have the hash that the control record says.
fn active(slots: &mut Slots<&mut Flash>) -> Option<Vec<u8>> {
    let Active { slot, image: said, .. } = slots.active()?;
    let mut file = vec![0; said.len as usize];
    slots.read(slot, 0, &mut file).unwrap();
    assert_eq!(image(&file), said);
    Some(file)
}

/// Sends what is missing in pieces, as a host does.
fn send(slots: &mut Slots<&mut Flash>, file: &[u8], piece: usize) -> Result<(), UpdateError<Fault>> {
    let mut at = slots.begin(image(file))? as usize;
    while at < file.len() {
        let end = file.len().min(at + piece);
        slots.write(at as u32, &file[at..end])?;
        at = end;
    }
    slots.finish(|_, _| true)
}

fn number(out: &mut Vec<u8>, mut n: u32) {
    while n > 0x7f {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// A delta of one instruction: both files from their starts, then what the new one has more.
fn delta(old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut out = DeltaHeader { base: image(old), new: image(new) }.emit().to_vec();
    let both = old.len().min(new.len());
    number(&mut out, both as u32);
    let mut rest: &[u8] = &(0..both).map(|i| new[i].wrapping_sub(old[i])).collect::<Vec<_>>();
    while !rest.is_empty() {
        for zeros in [true, false] {
            let run = rest.iter().position(|&byte| (byte == 0) != zeros).unwrap_or(rest.len());
            if zeros || !rest.is_empty() {
                number(&mut out, run as u32);
            }
            if !zeros {
                out.extend(&rest[..run]);
            }
            rest = &rest[run..];
        }
    }
    number(&mut out, (new.len() - both) as u32);
    out.extend(&new[both..]);
    number(&mut out, 0);
    out
}

/// As `send`, with a delta of the active model.
fn send_delta(slots: &mut Slots<&mut Flash>, delta: &[u8], piece: usize) -> Result<(), UpdateError<Fault>> {
    let (header, rest) = delta.split_first_chunk::<DELTA_HEADER>().unwrap();
    let mut patch = slots.begin_delta(header)?;
    for piece in rest.chunks(piece) {
        slots.write_delta(&mut patch, piece)?;
    }
    slots.finish(|_, _| true)
}

/// A flash whose active model was confirmed.
fn with(file: &[u8]) -> Flash {
    let mut flash = Flash::new(10);
    let mut slots = open(&mut flash);
    send(&mut slots, file, 100).unwrap();
    slots.boot(3).unwrap();
    slots.confirm().unwrap();
    flash
}

/// What happens after a device is on: it boots, tests a model on trial, and takes the new file if it has not. Returns whether a file was sent.
fn live(
    flash: &mut Flash,
    new: &[u8],
    delta: Option<&[u8]>,
    sent: &mut bool,
    passes: bool,
) -> Result<(), UpdateError<Fault>> {
    loop {
        let mut slots = Slots::open(&mut *flash, layout())?;
        match slots.boot(3)? {
            Some(Active { on_trial: true, .. }) if passes => slots.confirm()?,
            Some(Active { on_trial: true, .. }) => {
                slots.reject()?;
            }
            found => {
                if *sent || found.is_some_and(|found| found.image == image(new)) {
                    return Ok(());
                }
                match delta {
                    Some(delta) => send_delta(&mut slots, delta, 33)?,
                    None => send(&mut slots, new, 70)?,
                }
                *sent = true;
            }
        }
    }
}

#[test]
fn power_cut_at_every_byte_of_an_update() {
    let (old, new) = (model(1, 500), model(2, 700));
    let by_delta = delta(&old, &new);
    let by_delta = Some(&by_delta[..]);
    for (start, delta, passes) in [
        (Some(&old), None, true),
        (Some(&old), None, false),
        (None, None, true),
        (Some(&old), by_delta, true),
        (Some(&old), by_delta, false),
    ] {
        let before = start.map_or_else(|| Flash::new(10), |old| with(old));
        let mut whole = before.clone();
        live(&mut whole, &new, delta, &mut false, passes).unwrap();
        let work = whole.work - before.work;
        let (mut at_old, mut at_new) = (0, 0);
        for manner in Torn::ALL {
            for cut in 1..=work {
                let mut flash = before.clone();
                flash.cut_after(cut, manner, cut);
                let mut sent = false;
                assert!(live(&mut flash, &new, delta, &mut sent, passes).is_err(), "power was away");
                flash.power_on();
                let now = active(&mut open(&mut flash));
                let is_new = now.as_ref() == Some(&new);
                assert!(is_new || now.as_ref() == start, "{manner:?} after {cut} of {work} bytes");
                at_old += u32::from(!is_new);
                at_new += u32::from(is_new);
                // What `finish` had not done yet is done now.
                sent &= passes || now.as_ref() == start;
                live(&mut flash, &new, delta, &mut sent, passes).unwrap();
                let now = active(&mut open(&mut flash));
                assert_eq!(now.as_ref(), if passes { Some(&new) } else { start }, "{manner:?} after {cut}");
                assert!(!open(&mut flash).active().is_some_and(|active| active.on_trial));
            }
        }
        println!("{} cuts: {at_old} found the old model, {at_new} the new one", 4 * work);
        assert!(at_old > 0 && at_new > 0);
    }
}

#[test]
fn a_file_goes_on_where_a_reset_left_it() {
    let (old, new) = (model(1, 10_000), model(2, 16_000));
    let layout = Layout { slots: [0..20_480, 20_480..40_960], control: 40_960..45_056 };
    let mut flash = SimulatedFlash::<1, 8, 1024>::new(44);
    let mut saves = 0;
    for file in [&old, &new] {
        let mut at = Slots::open(&mut flash, layout.clone()).unwrap().begin(image(file)).unwrap();
        assert_eq!(at, 0);
        while at < file.len() as u32 {
            // A reset after every 3,000 bytes.
            let mut slots = Slots::open(&mut flash, layout.clone()).unwrap();
            let next = slots.begin(image(file)).unwrap();
            assert!(at - next <= 1024, "{next} of {at}: at most a page is sent again");
            let end = file.len().min(next as usize + 3000);
            for at in (next as usize..end).step_by(64) {
                slots.write(at as u32, &file[at..end.min(at + 64)]).unwrap();
            }
            at = end as u32;
            if at == file.len() as u32 {
                slots.finish(|_, _| true).unwrap();
                slots.boot(1).unwrap();
                slots.confirm().unwrap();
                let wear = slots.wear().unwrap();
                assert!(wear.saves - saves <= 20, "{wear:?}");
                saves = wear.saves;
            }
        }
        let mut slots = Slots::open(&mut flash, layout.clone()).unwrap();
        let found = slots.active().unwrap();
        let mut there = vec![0; file.len()];
        slots.read(found.slot, 0, &mut there).unwrap();
        assert!(there == **file && found.image == image(file));
    }
}

#[test]
fn a_delta_gives_the_new_file() {
    let old = model(1, 700);
    let mut tuned = old.clone();
    tuned[500..600].iter_mut().step_by(3).for_each(|byte| *byte = byte.wrapping_add(3));
    for new in [model(2, 768), tuned[..620].to_vec(), tuned.clone(), old.clone(), vec![7]] {
        for piece in [1, 5, 64, 1000] {
            let mut flash = with(&old);
            let mut slots = open(&mut flash);
            let delta = delta(&old, &new);
            send_delta(&mut slots, &delta, piece).unwrap();
            assert_eq!(active(&mut slots).as_ref(), Some(&new));
            slots.confirm().unwrap();
            // The base is another now, unless both are the same.
            let again = send_delta(&mut slots, &delta, piece);
            assert_eq!(again, if new == old { Ok(()) } else { Err(UpdateError::Base) });
        }
    }
    assert!(delta(&old, &tuned).len() < 200);
    let mut flash = Flash::new(10);
    assert_eq!(
        send_delta(&mut open(&mut flash), &delta(&old, &tuned), 9),
        Err(UpdateError::Base),
        "no model"
    );
}

#[test]
fn a_model_on_trial_that_never_confirms_is_given_up() {
    let (old, new) = (model(1, 500), model(2, 700));
    let mut flash = with(&old);
    send(&mut open(&mut flash), &new, 64).unwrap();
    for _ in 0..3 {
        let found = open(&mut flash).boot(3).unwrap().unwrap();
        assert!(found.on_trial && found.image == image(&new));
        assert_eq!(open(&mut flash).begin(image(&old)), Err(UpdateError::OnTrial), "the way back stays");
    }
    let found = open(&mut flash).boot(3).unwrap().unwrap();
    assert!(!found.on_trial && found.image == image(&old));
    assert_eq!(active(&mut open(&mut flash)), Some(old));
    // Without an old model there is none then.
    let mut flash = Flash::new(10);
    send(&mut open(&mut flash), &new, 64).unwrap();
    assert!(open(&mut flash).boot(1).unwrap().is_some());
    assert_eq!(open(&mut flash).boot(1), Ok(None));
    assert_eq!(open(&mut flash).reject(), Err(UpdateError::Nothing));
}

#[test]
fn what_is_wrong_is_refused_and_the_old_model_stays() {
    let (old, new) = (model(1, 500), model(2, 700));
    let mut flash = with(&old);
    let mut slots = open(&mut flash);
    assert_eq!(slots.write(0, &[1]), Err(UpdateError::Nothing));
    assert_eq!(slots.finish(|_, _| true), Err(UpdateError::Nothing));
    for len in [0, 769] {
        assert_eq!(slots.begin(Image { len, ..image(&new) }), Err(UpdateError::Length { room: 768 }));
    }
    assert_eq!(slots.begin(image(&new)), Ok(0));
    assert_eq!(slots.write(4, &new[4..]), Err(UpdateError::Order { expected: 0 }));
    slots.write(0, &new[..301]).unwrap();
    assert_eq!(slots.expected(), 301);
    assert_eq!(slots.write(301, &[0; 400]), Err(UpdateError::Length { room: 700 }));
    assert_eq!(slots.finish(|_, _| true), Err(UpdateError::Order { expected: 301 }));
    slots.write(301, &new[301..]).unwrap();
    assert_eq!(slots.finish(|_, range| range != (768..1468)), Err(UpdateError::Refused));
    assert_eq!(slots.write(700, &[]), Err(UpdateError::Nothing), "forgotten");
    let mut damaged = new.clone();
    damaged[350] ^= 1;
    slots.begin(image(&new)).unwrap();
    slots.write(0, &damaged).unwrap();
    assert_eq!(slots.finish(|_, _| true), Err(UpdateError::Hash));
    assert_eq!(active(&mut slots), Some(old.clone()));
    // Another file takes the place of one that was arriving.
    slots.begin(image(&new)).unwrap();
    slots.write(0, &new[..600]).unwrap();
    assert_eq!(slots.begin(image(&damaged)), Ok(0));
    // A confirmed model whose flash went bad: the one before is there until the next file begins.
    let mut flash = with(&old);
    let mut slots = open(&mut flash);
    send(&mut slots, &new, 64).unwrap();
    slots.confirm().unwrap();
    assert_eq!(slots.reject().unwrap().unwrap().image, image(&old));
}

#[test]
fn a_programmed_model_is_adopted() {
    let file = model(3, 321);
    let mut flash = Flash::new(10);
    flash.cells()[..321].copy_from_slice(&file);
    let mut slots = open(&mut flash);
    assert_eq!(slots.adopt(900), Err(UpdateError::Length { room: 768 }));
    assert_eq!(slots.adopt(321), Ok(image(&file)));
    assert_eq!(slots.adopt(321), Err(UpdateError::Nothing));
    let found = open(&mut flash).boot(1).unwrap().unwrap();
    assert_eq!(found, Active { slot: Slot::A, image: image(&file), on_trial: false });
}

#[test]
fn worn_pages_refuse_an_update_or_are_passed_over() {
    let (old, new) = (model(1, 500), model(2, 700));
    for how in Worn::ALL {
        // In the slot: a file needs all of it.
        let mut flash = with(&old);
        flash.worn_pages = vec![(4, 0, how)];
        let mut slots = open(&mut flash);
        assert!(matches!(send(&mut slots, &new, 64), Err(UpdateError::Store(_))), "{how:?}");
        assert_eq!(active(&mut slots), Some(old.clone()));
        // In the control pages.
        let mut flash = with(&old);
        flash.worn_pages = vec![(7, 0, how)];
        for file in [&new, &old, &new] {
            let mut slots = open(&mut flash);
            send(&mut slots, file, 64).unwrap();
            slots.boot(3).unwrap();
            slots.confirm().unwrap();
            assert_eq!(active(&mut open(&mut flash)).as_ref(), Some(file), "{how:?}");
        }
        assert_eq!(open(&mut flash).wear().unwrap().bad_pages, 1);
    }
}

#[test]
fn impossible_layouts_are_refused() {
    let opens = |a: std::ops::Range<u32>, b, control| {
        Slots::open(&mut Flash::new(10), Layout { slots: [a, b], control }).is_ok()
    };
    assert!(opens(0..768, 768..1536, 1536..2560) && opens(2048..2304, 1024..2048, 0..1024));
    assert!(!opens(0..768, 512..1536, 1536..2560), "slots overlap");
    assert!(!opens(0..768, 768..1536, 1280..2560) && !opens(0..2560, 768..1536, 1536..2560));
    assert!(!opens(0..700, 768..1536, 1536..2560) && !opens(0..768, 800..1536, 1536..2560), "parts of pages");
    assert!(!opens(0..768, 768..768, 1536..2560) && !opens(0..768, 768..1536, 1536..2816));
    assert!(!opens(0..768, 768..1536, 1536..1792), "one control page");
    let small = Layout { slots: [0..128, 128..256], control: 256..640 };
    assert!(
        Slots::open(SimulatedFlash::<1, 4, 64>::new(10), small).is_ok(),
        "three pages hold the record, twice"
    );
    let smaller = Layout { slots: [0..128, 128..256], control: 256..576 };
    let opened = Slots::open(SimulatedFlash::<1, 4, 64>::new(10), smaller);
    assert_eq!(opened.map(drop), Err(Error::Geometry));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A delta with damaged bytes, or instructions of any kind: the new file or an error, and the old model stays.
    #[test]
    fn hostile_deltas(
        instructions in proptest::collection::vec(prop_oneof![0..5_u8, any::<u8>()], 0..300),
        damage in proptest::collection::vec((DELTA_HEADER..400_usize, any::<u8>()), 0..4),
        any in any::<bool>(),
        piece in 1..90_usize,
    ) {
        let (old, new) = (model(1, 500), model(2, 700));
        let mut flash = with(&old);
        flash.cells()[768..1536].fill(0x5a);
        let mut delta = delta(&old, &new);
        if any {
            delta.truncate(DELTA_HEADER);
            delta.extend(instructions);
        }
        let len = delta.len();
        for (at, byte) in damage {
            if len > DELTA_HEADER {
                delta[DELTA_HEADER + at % (len - DELTA_HEADER)] = byte;
            }
        }
        let mut slots = open(&mut flash);
        match send_delta(&mut slots, &delta, piece) {
            Ok(()) => prop_assert_eq!(active(&mut slots), Some(new)),
            Err(_) => prop_assert_eq!(active(&mut slots), Some(old)),
        }
    }

    /// Control pages with any record of the right kind, or damaged cells anywhere: errors, or a state that works; no write outside the
    /// partition, no panic.
    #[test]
    fn hostile_control_pages(
        mut record in proptest::collection::vec(any::<u8>(), 116),
        front in any::<[u8; 2]>(),
        lengths in any::<[u16; 3]>(),
        damage in proptest::collection::vec((0..2560_usize, any::<u8>()), 0..6),
        orders in proptest::collection::vec((0..6_u8, 0..900_u32), 0..12),
    ) {
        let mut flash = Flash::new(12);
        flash.cells()[2560..].fill(0x5a);
        (record[0], record[1], record[2], record[3]) = (1, front[0] % 3, front[1] % 4, 0);
        for (at, len) in [4, 40, 76].into_iter().zip(lengths) {
            record[at..at + 4].copy_from_slice(&u32::from(len % 1024).to_le_bytes());
            if len % 1024 == 0 {
                record[at..at + 36].fill(0);
            }
        }
        record[112..].copy_from_slice(&u32::from(front[0]).to_le_bytes());
        offshoot_store::Store::open(&mut flash, layout().control)
            .unwrap()
            .save(u32::from_le_bytes(*b"OfSl"), &[&record])
            .unwrap();
        for (at, byte) in damage {
            flash.cells()[at] = byte;
        }
        let Ok(mut slots) = Slots::open(&mut flash, layout()) else { return Ok(()) };
        for (order, number) in orders {
            let file = model(7, number);
            match order {
                0 => drop(slots.boot(2)),
                1 => drop(slots.begin(image(&file))),
                2 => drop(slots.write(slots.expected(), &file)),
                3 => drop(slots.finish(|_, _| number % 2 == 0)),
                4 => drop(slots.confirm()),
                _ => drop(slots.reject()),
            }
        }
        let _ = slots.boot(1);
        prop_assert!(flash.cells()[2560..].iter().all(|&byte| byte == 0x5a));
    }
}
