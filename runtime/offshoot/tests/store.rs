//! Learned weights in flash: power cuts at every byte, wear, hostile pages.

mod flash;

use flash::{Fault, SimulatedFlash, Torn, Worn};
use offshoot::store::nor_flash::NorFlash;
use offshoot::store::{Error, Store};
use proptest::prelude::*;

const MODEL: u32 = 0x0ff5_4007;

/// Weights of so many bytes that differ from those of every other seed.
fn weights(seed: u32, bytes: usize) -> Vec<u8> {
    (0..bytes as u32).map(|i| (i.wrapping_mul(31) ^ seed.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect()
}

/// What a fresh look at the flash loads.
fn loaded<const R: usize, const W: usize, const E: usize>(
    flash: &mut SimulatedFlash<R, W, E>,
    bytes: usize,
) -> Option<Vec<u8>> {
    let range = flash.range();
    let mut out = vec![0xa5; bytes];
    let generation = Store::open(flash, range).unwrap().load(MODEL, &mut out).unwrap();
    generation.map(|_| out)
}

/// Takes power away at every byte of an operation on a store, in every manner; `old` or `new` must be there
/// afterwards, and the store must take the next save. Returns how many cuts were tried, and how many kept `old`.
fn cut_everywhere<const R: usize, const W: usize, const E: usize>(
    before: &SimulatedFlash<R, W, E>,
    old: Option<&[u8]>,
    new: Option<&[u8]>,
    bytes: usize,
    operation: impl Fn(&mut Store<&mut SimulatedFlash<R, W, E>>) -> Result<(), Error<Fault>>,
) -> (u64, u64) {
    let range = before.range();
    let mut whole = before.clone();
    operation(&mut Store::open(&mut whole, range.clone()).unwrap()).unwrap();
    let work = whole.work - before.work;
    let (mut cuts, mut kept) = (0, 0);
    for manner in Torn::ALL {
        for cut in 1..=work {
            let mut flash = before.clone();
            flash.cut_after(cut, manner, cut);
            // Opening writes nothing, so that power lasts until the operation.
            let done = operation(&mut Store::open(&mut flash, range.clone()).unwrap());
            assert!(done.is_err(), "{manner:?} after {cut} of {work} bytes: power was away");
            flash.power_on();
            let now = loaded(&mut flash, bytes);
            let is_old = now.as_deref() == old;
            assert!(
                is_old || now.as_deref() == new,
                "{manner:?} after {cut} of {work} bytes: neither old nor new"
            );
            assert!(!is_old || cut < work || old == new, "{manner:?}: lost a save that was done");
            cuts += 1;
            kept += u64::from(is_old);
            let next = weights(77, bytes);
            let mut store = Store::open(&mut flash, range.clone()).unwrap();
            store.save(MODEL, &[&next]).unwrap();
            assert_eq!(
                loaded(&mut flash, bytes).as_deref(),
                Some(&next[..]),
                "{manner:?} after {cut}: next save"
            );
        }
    }
    (cuts, kept)
}

/// Cuts in the `nth` save, which comes after others, and in a reset after it.
fn walk_save<const R: usize, const W: usize, const E: usize>(pages: usize, bytes: usize, nth: u32) {
    let mut flash = SimulatedFlash::<R, W, E>::new(pages);
    let range = flash.range();
    for seed in 0..nth {
        Store::open(&mut flash, range.clone()).unwrap().save(MODEL, &[&weights(seed, bytes)]).unwrap();
    }
    let old = nth.checked_sub(1).map(|seed| weights(seed, bytes));
    let new = weights(nth, bytes);
    let (head, tail) = new.split_at(bytes / 3);
    let (cuts, kept) = cut_everywhere(&flash, old.as_deref(), Some(&new), bytes, |store| {
        store.save(MODEL, &[head, &[], tail]).map(|_| ())
    });
    // The commit is the last thing written: old weights until then, new ones from then on.
    assert!(kept > 0 && kept < cuts);
    cut_everywhere(&flash, old.as_deref(), None, bytes, |store| store.factory_reset());
}

#[test]
fn power_cut_at_every_byte_of_a_save() {
    for nth in [0, 1, 2, 5] {
        // Read, write and erase units: byte flash, STM32F4-like halfwords, nRF52 words, STM32L4 double words,
        // STM32H7 flash words, pages of odd sizes.
        walk_save::<1, 1, 64>(4, 50, nth);
        walk_save::<1, 1, 64>(7, 160, nth);
        walk_save::<2, 2, 128>(5, 131, nth);
        walk_save::<4, 4, 128>(6, 300, nth);
        walk_save::<1, 4, 256>(4, 488, nth);
        walk_save::<8, 8, 128>(4, 100, nth);
        walk_save::<4, 32, 256>(5, 333, nth);
        walk_save::<1, 64, 192>(6, 200, nth);
        walk_save::<16, 4, 48>(9, 70, nth);
        walk_save::<1, 256, 512>(4, 700, nth);
    }
}

#[test]
fn power_cut_in_larger_weights() {
    // 4 kB pages, 20 kB of weights; every 97th byte.
    let mut flash = SimulatedFlash::<4, 4, 4096>::new(12);
    let range = flash.range();
    let old = weights(1, 20_000);
    let new = weights(2, 20_000);
    Store::open(&mut flash, range.clone()).unwrap().save(MODEL, &[&old]).unwrap();
    for cut in (1..45_000).step_by(97) {
        for manner in Torn::ALL {
            let mut flash = flash.clone();
            flash.cut_after(cut, manner, cut);
            let saved = Store::open(&mut flash, range.clone()).unwrap().save(MODEL, &[&new]);
            flash.power_on();
            let expected = if saved.is_ok() { &new } else { &old };
            let now = loaded(&mut flash, 20_000);
            assert!(now.as_ref() == Some(expected) || now.as_ref() == Some(&new), "{manner:?} after {cut}");
        }
    }
}

#[test]
fn pages_wear_evenly() {
    fn worn<const W: usize, const E: usize>(pages: usize, bytes: usize, saves: u32) {
        let mut flash = SimulatedFlash::<1, W, E>::new(pages);
        let range = flash.range();
        let mut store = Store::open(&mut flash, range).unwrap();
        for seed in 0..saves {
            store.save(MODEL, &[&weights(seed, bytes)]).unwrap();
        }
        let (low, high) = (flash.erasures.iter().min().unwrap(), flash.erasures.iter().max().unwrap());
        assert!(high - low <= 1, "{:?}", flash.erasures);
        // No more is erased than what is written takes.
        let needed = saves as usize * (bytes + 24usize.next_multiple_of(W)).div_ceil(E);
        assert_eq!(flash.erasures.iter().sum::<u32>() as usize, needed);
    }
    worn::<4, 64>(8, 100, 1000);
    worn::<4, 64>(9, 230, 1000);
    worn::<8, 128>(5, 200, 777);
    worn::<1, 64>(2, 10, 501);
}

#[test]
fn a_worn_page_does_not_hurt_what_is_there() {
    for how in Worn::ALL {
        let mut flash = SimulatedFlash::<4, 4, 64>::new(8);
        let range = flash.range();
        let old = weights(1, 60);
        Store::open(&mut flash, range.clone()).unwrap().save(MODEL, &[&old]).unwrap();
        flash.worn_pages = vec![(2, 0, how)];
        let new = weights(2, 60);
        let mut store = Store::open(&mut flash, range.clone()).unwrap();
        // The save goes on without the page, and the record remembers it.
        store.save(MODEL, &[&new]).unwrap();
        assert_eq!((store.wear().bad_pages, store.capacity()), (1, 3 * 64 - 24 - 2));
        assert_eq!(loaded(&mut flash, 60), Some(new), "{how:?}");
        let tried = flash.erasures[2];
        for seed in 3..20 {
            Store::open(&mut flash, range.clone()).unwrap().save(MODEL, &[&weights(seed, 60)]).unwrap();
        }
        assert_eq!((flash.erasures[2], Store::open(&mut flash, range).unwrap().wear().bad_pages), (tried, 1));
    }
}

/// Nowhere to go: the save is refused, what was there stays, and a page whose fault was that of a moment comes back.
#[test]
fn too_many_worn_pages_refuse_a_save_and_lose_nothing() {
    let mut flash = SimulatedFlash::<4, 4, 64>::new(5);
    let range = flash.range();
    let old = weights(1, 90);
    Store::open(&mut flash, range.clone()).unwrap().save(MODEL, &[&old]).unwrap();
    flash.worn_pages = vec![(2, 0, Worn::Forgets)];
    let second = weights(2, 90);
    let mut store = Store::open(&mut flash, range.clone()).unwrap();
    store.save(MODEL, &[&second]).unwrap();
    assert_eq!(store.wear().bad_pages, 1);
    // Pages 3 and 4 hold the save; of 0, 1 and 2 none or one is good.
    flash.worn_pages = vec![(2, 0, Worn::Forgets), (0, 0, Worn::NoErasure)];
    let third = weights(3, 90);
    let mut store = Store::open(&mut flash, range.clone()).unwrap();
    assert!(store.save(MODEL, &[&third]).is_err());
    assert_eq!(loaded(&mut flash, 90), Some(second));
    flash.worn_pages.clear();
    Store::open(&mut flash, range.clone()).unwrap().save(MODEL, &[&third]).unwrap();
    flash.worn_pages = vec![(0, 0, Worn::Forgets)];
    let fourth = weights(4, 90);
    Store::open(&mut flash, range).unwrap().save(MODEL, &[&fourth]).unwrap();
    assert_eq!(loaded(&mut flash, 90), Some(fourth), "page 2 is back");
}

/// Saves once a boot while pages fail one after another.
fn age(worn_pages: Vec<(usize, u32, Worn)>, saves: u32) -> SimulatedFlash<4, 4, 64> {
    let mut flash = SimulatedFlash::new(16);
    let range = flash.range();
    flash.worn_pages = worn_pages;
    let mut last = None;
    let (mut lost, mut refused) = (0, 0);
    for seed in 0..saves {
        lost += u32::from(loaded(&mut flash, 320) != last);
        let new = weights(seed, 320);
        match Store::open(&mut flash, range.clone()).unwrap().save(MODEL, &[&new]) {
            Ok(_) => last = Some(new),
            Err(_) => refused += 1,
        }
    }
    assert_eq!((lost, refused), (0, 0), "{:?}", flash.worn_pages);
    flash
}

/// A save takes 6 of 16 pages, so that two fit beside three bad ones.
#[test]
fn ten_thousand_saves_one_a_boot_on_flash_that_ages() {
    for worn_pages in [
        vec![],
        vec![(5, 0, Worn::Forgets)],
        vec![(0, 300, Worn::NoErasure), (15, 900, Worn::Unreadable)],
        vec![(7, 100, Worn::Stuck), (8, 2000, Worn::NoProgram), (9, 3000, Worn::Forgets)],
    ] {
        let bad: Vec<usize> = worn_pages.iter().map(|&(page, ..)| page).collect();
        let mut flash = age(worn_pages, 10_000);
        let good = || (0..16).filter(|page| !bad.contains(page)).map(|page| flash.erasures[page]);
        let (least, most) = (good().min().unwrap(), good().max().unwrap());
        let range = flash.range();
        let wear = Store::open(&mut flash, range).unwrap().wear();
        println!(
            "bad {bad:?}: a good page was erased {least} to {most} times; {wear:?} says {}",
            wear.erasures()
        );
        assert!(most - least <= 6, "{least} {most}");
        assert_eq!((wear.pages, wear.bad_pages as usize), (16, bad.len()));
        assert!((most..=most * 13 / 10).contains(&wear.erasures()));
    }
}

#[test]
fn any_three_pages_may_fail() {
    for a in 0..16 {
        for b in 0..a {
            for c in 0..b {
                let how = |n: usize| Worn::ALL[n % Worn::ALL.len()];
                age(vec![(a, 0, how(a)), (b, 2, how(b + a)), (c, 5, how(c + a))], 24);
            }
        }
    }
}

/// Power cuts at every byte of a save that meets pages which were bad before, and one that has just failed.
#[test]
fn power_cut_beside_worn_pages() {
    for how in Worn::ALL {
        let mut flash = SimulatedFlash::<2, 4, 64>::new(12);
        let range = flash.range();
        flash.worn_pages = vec![(1, 0, Worn::Forgets), (4, 0, how), (9, 0, how)];
        let [old, new] = [weights(1, 150), weights(2, 150)];
        for w in [&new, &old] {
            Store::open(&mut flash, range.clone()).unwrap().save(MODEL, &[w]).unwrap();
        }
        let (cuts, kept) = cut_everywhere(&flash, Some(&old), Some(&new), 150, |store| {
            store.save(MODEL, &[&new]).map(|_| ())
        });
        assert!(kept > 0 && kept < cuts);
        cut_everywhere(&flash, Some(&old), None, 150, |store| match store.factory_reset() {
            // A page that cannot be erased keeps what it has, and the reset says so when all else is done.
            Err(Error::Flash(Fault::Worn)) => Ok(()),
            done => done,
        });
    }
}

/// Flash in which no header can be read is no store, and does not stay so for good: it can be made one.
#[test]
fn pages_that_cannot_be_read_are_made_a_store() {
    let mut flash = SimulatedFlash::<4, 4, 64>::new(2);
    let range = flash.range();
    for page in 0..2 {
        flash.cells().fill(0);
        flash.cut_after(32, Torn::Unreadable, 3);
        assert_eq!(NorFlash::erase(&mut flash, page * 64, (page + 1) * 64), Err(Fault::PowerLost));
        assert!(flash.power_on());
    }
    assert_eq!(Store::open(&mut flash, range.clone()).unwrap_err(), Error::Flash(Fault::Unreadable));
    let new = weights(1, 30);
    // Power may go away while it is made one, too.
    flash.cut_after(70, Torn::Unreadable, 5);
    assert_eq!(Store::create(&mut flash, range.clone()).unwrap_err(), Error::Flash(Fault::PowerLost));
    assert!(flash.power_on());
    let mut again = flash.clone();
    let mut store = Store::create(&mut flash, range.clone()).unwrap();
    assert_eq!(store.generation(), None);
    assert_eq!(store.save(MODEL, &[&new]), Ok(1));
    assert_eq!(loaded(&mut flash, 30), Some(new.clone()));
    // In one step; and what is there is opened.
    assert_eq!(Store::open_or_create(&mut again, range.clone()).unwrap().save(MODEL, &[&new]), Ok(1));
    assert_eq!(Store::open_or_create(&mut again, range).unwrap().generation(), Some(1));
    assert_eq!(loaded(&mut again, 30), Some(new));
}

#[test]
fn weights_of_other_models_and_lengths_are_not_loaded() {
    let mut flash = SimulatedFlash::<1, 4, 128>::new(4);
    let range = flash.range();
    let mut store = Store::open(&mut flash, range).unwrap();
    assert_eq!((store.capacity(), store.generation()), (2 * 128 - 24, None));
    assert_eq!(store.load(MODEL, &mut [1; 4]), Ok(None));
    assert_eq!(store.save(MODEL, &[&[1, 2], &[3, 4]]), Ok(1));
    let mut out = [9; 4];
    assert_eq!(store.load(MODEL + 1, &mut out), Ok(None));
    assert_eq!(out, [9; 4]);
    assert_eq!(store.load(MODEL, &mut [0; 5]), Err(Error::Length { stored: 4 }));
    assert_eq!(store.load(MODEL, &mut out), Ok(Some(1)));
    assert_eq!((out, store.generation()), ([1, 2, 3, 4], Some(1)));
    let much = vec![0; 233];
    assert_eq!(store.save(MODEL, &[&much]), Err(Error::TooLarge { needed: 233, capacity: 232 }));
    assert_eq!(store.save(MODEL, &[&much[..232]]), Ok(2));
    store.factory_reset().unwrap();
    assert_eq!((store.load(MODEL, &mut out), store.generation()), (Ok(None), None));
    let flash = store.release();
    let kept = flash.cells().chunks(128).filter(|page| page.iter().any(|&b| b != 0xff)).count();
    assert_eq!(kept, 1, "a reset leaves its own record and nothing else");
}

#[test]
fn impossible_geometries_are_refused() {
    fn opens<const R: usize, const W: usize, const E: usize>(range: std::ops::Range<u32>) -> bool {
        Store::open(SimulatedFlash::<R, W, E>::new(8), range).is_ok()
    }
    assert!(opens::<1, 4, 64>(64..192) && opens::<4, 4, 64>(0..512));
    assert!(!opens::<1, 4, 64>(0..64), "one page");
    assert!(!opens::<1, 4, 64>(32..192) && !opens::<1, 4, 64>(0..200), "not whole pages");
    assert!(!opens::<1, 4, 64>(0..576), "beyond the flash");
    #[expect(clippy::reversed_empty_ranges, reason = "what is tested")]
    let reversed = 192..64;
    assert!(!opens::<1, 4, 64>(reversed) && !opens::<1, 4, 64>(0..0));
    assert!(!opens::<4, 6, 96>(0..192), "units that do not fit each other");
    assert!(!opens::<1, 512, 1024>(0..2048), "units beyond the buffer");
    assert!(!opens::<1, 1, 16>(0..64), "pages smaller than a header");
}

/// What happens to a store in a random history.
#[derive(Clone, Debug)]
enum Event {
    Save(usize),
    Reset,
    Reopen,
}

fn event() -> impl Strategy<Value = (Event, Option<(u64, usize)>)> {
    let what = prop_oneof![6 => (1..200_usize).prop_map(Event::Save), 1 => Just(Event::Reset), 2 => Just(Event::Reopen)];
    (what, proptest::option::weighted(0.6, (1..700_u64, 0..Torn::ALL.len())))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Saves, resets and reopenings, many of them cut: what loads is what was saved last, or what was being saved.
    #[test]
    fn random_histories(events in proptest::collection::vec(event(), 1..40), pages in 8..13_usize) {
        let mut flash = SimulatedFlash::<2, 4, 64>::new(pages);
        let range = flash.range();
        let mut now: Option<Vec<u8>> = None;
        for (i, (event, cut)) in events.into_iter().enumerate() {
            if let Some((bytes, manner)) = cut {
                flash.cut_after(bytes, Torn::ALL[manner], i as u64);
            }
            let mut store = Store::open(&mut flash, range.clone()).unwrap();
            let (wanted, done) = match event {
                Event::Save(bytes) => {
                    let new = weights(i as u32, bytes);
                    let done = store.save(MODEL, &[&new]).map(|_| ());
                    (Some(new), done)
                }
                Event::Reset => (None, store.factory_reset()),
                Event::Reopen => (now.clone(), Ok(())),
            };
            let away = flash.power_on();
            prop_assert_eq!(done.is_err(), done == Err(Error::Flash(Fault::PowerLost)));
            prop_assert!(away || done.is_ok());
            let length = |w: &Option<Vec<u8>>| w.as_ref().map_or(1, Vec::len);
            let mut store = Store::open(&mut flash, range.clone()).unwrap();
            let mut look = |w: &Option<Vec<u8>>| {
                let mut out = vec![0; length(w)];
                match store.load(MODEL, &mut out) {
                    Ok(generation) => Ok(generation.map(|_| out) == *w),
                    Err(Error::Length { .. }) => Ok(false),
                    Err(error) => Err(error),
                }
            };
            let (is_old, is_new) = (look(&now).unwrap(), look(&wanted).unwrap());
            prop_assert!(is_new || (is_old && done.is_err()), "event {}", i);
            now = if is_new { wanted } else { now };
        }
    }

    /// Pages full of anything, or a good store with damaged bytes: an error or no weights or whole ones; no panic.
    #[test]
    fn hostile_pages(
        seeds in proptest::collection::vec(any::<u8>(), 512),
        damage in proptest::collection::vec((0..512_usize, any::<u8>()), 0..12),
        from_scratch in any::<bool>(),
    ) {
        let mut flash = SimulatedFlash::<1, 4, 64>::new(8);
        let range = flash.range();
        let saved = [weights(1, 70), weights(2, 70)];
        for w in &saved {
            Store::open(&mut flash, range.clone()).unwrap().save(MODEL, &[w]).unwrap();
        }
        if from_scratch {
            flash.cells().copy_from_slice(&seeds);
        }
        for (at, byte) in damage {
            flash.cells()[at] = byte;
        }
        let mut store = Store::open(&mut flash, range.clone()).unwrap();
        let mut out = vec![0; 70];
        if let Ok(Some(_)) = store.load(MODEL, &mut out) {
            prop_assert!(saved.contains(&out));
        }
        store.save(MODEL, &[&saved[0]]).unwrap();
        prop_assert_eq!(loaded(&mut flash, 70), Some(saved[0].clone()));
    }

    /// A record with a right checksum and any list of bad pages: it loads or not; a save after it loads, or is refused.
    #[test]
    fn hostile_lists(
        count in 0..20_u8,
        list in proptest::collection::vec(prop_oneof![4 => 0..8_u16, 1 => any::<u16>()], 20),
        rising in any::<bool>(),
        page in 0..8_usize,
        length in 0..60_u32,
        saved in 1..300_usize,
    ) {
        let mut flash = SimulatedFlash::<1, 4, 64>::new(8);
        let range = flash.range();
        let mut list = list[..usize::from(count)].to_vec();
        if rising {
            list.sort_unstable();
            list.dedup();
        }
        let mut body: Vec<u8> = list.iter().flat_map(|page| page.to_le_bytes()).collect();
        body.resize(body.len() + length as usize, 7);
        let words = [5, MODEL, length, offshoot::wire::crc32(&body)].map(u32::to_le_bytes);
        let mut record = [&b"OfB"[..], &[list.len() as u8], words.as_flattened()].concat();
        record.extend(offshoot::wire::crc32(&record).to_le_bytes());
        record.extend(body);
        record.truncate(64);
        flash.cells()[64 * page..][..record.len()].copy_from_slice(&record);
        let mut store = Store::open(&mut flash, range.clone()).unwrap();
        let _ = (store.load(MODEL, &mut vec![0; length as usize]), store.wear(), store.capacity());
        let new = weights(9, saved);
        if store.save(MODEL, &[&new]).is_ok() {
            prop_assert_eq!(loaded(&mut flash, saved), Some(new));
        }
        prop_assert!(saved > 230 || loaded(&mut flash, saved).is_some(), "all pages are good");
        Store::open(&mut flash, range).unwrap().factory_reset().unwrap();
    }
}

#[test]
fn a_release_counter_never_falls_whenever_power_is_cut() {
    use offshoot::ReleaseCounter;
    let mut flash = SimulatedFlash::<1, 4, 1024>::new(2);
    let range = flash.range();
    let mut cuts = 0;
    for value in [1, 2, 7, u32::MAX] {
        let mut whole = flash.clone();
        let mut counter = ReleaseCounter::open(&mut whole, range.clone()).unwrap();
        let before = counter.value();
        counter.raise(value).unwrap();
        counter.raise(value - 1).unwrap();
        assert_eq!(counter.value(), value);
        let work = whole.work - flash.work;
        for manner in Torn::ALL {
            for cut in 1..=work {
                let mut cut_flash = flash.clone();
                cut_flash.cut_after(cut, manner, cut);
                let raised = ReleaseCounter::open(&mut cut_flash, range.clone()).unwrap().raise(value);
                assert!(raised.is_err(), "power was away");
                cut_flash.power_on();
                let there = ReleaseCounter::open(&mut cut_flash, range.clone()).unwrap().value();
                assert!(there == before || there == value, "{manner:?} at {cut}: {there}");
                cuts += 1;
            }
        }
        assert_eq!(ReleaseCounter::open(&mut whole, range.clone()).unwrap().value(), value);
        flash = whole;
    }
    // Weights in its place are no counter.
    flash = SimulatedFlash::new(2);
    Store::open(&mut flash, range.clone()).unwrap().save(5, &[&[1, 2, 3, 4]]).unwrap();
    assert_eq!(ReleaseCounter::open(&mut flash, range).unwrap().value(), 0);
    println!("{cuts} cuts");
}

/// With a third page, one may wear out.
#[test]
fn a_release_counter_rises_beside_a_worn_page() {
    use offshoot::ReleaseCounter;
    for how in Worn::ALL {
        for page in 0..3 {
            let mut flash = SimulatedFlash::<4, 4, 1024>::new(3);
            flash.worn_pages = vec![(page, 2, how)];
            let range = flash.range();
            for value in 1..40 {
                ReleaseCounter::open(&mut flash, range.clone()).unwrap().raise(value).unwrap();
                assert_eq!(
                    ReleaseCounter::open(&mut flash, range.clone()).unwrap().value(),
                    value,
                    "{how:?}"
                );
            }
        }
    }
}
