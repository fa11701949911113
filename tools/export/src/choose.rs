//! Chooses between the forms of a layer.
//!
//! A byte of flash has a price in instructions of a run. `speed` pays up to four bytes for an instruction. `flash` pays
//! up to 100 instructions for a byte, and never takes a larger form than `balanced`. `balanced` takes only forms that
//! are no larger and no slower than the reference. `ram` chooses like `balanced`, but never gives up running in-place; for its
//! workspace it pays up to 100 instructions for a byte of arena.

use crate::forms::Offer;
use crate::options::Prefer;

/// Instructions per byte of flash with [`Prefer::Speed`].
pub const SPEED_RATE: f64 = 0.25;

/// Instructions per byte of flash with [`Prefer::Flash`].
pub const FLASH_RATE: f64 = 100.0;

/// Instructions per byte of arena with [`Prefer::Ram`].
pub const RAM_RATE: f64 = 100.0;

/// Index of the best of `offers`, if it beats the `reference`; the first of equals.
pub(crate) fn choose(prefer: Prefer, reference: &Offer, offers: &[Offer]) -> Option<usize> {
    let (mut limit, mut least) = (u64::MAX, price(prefer, reference));
    if prefer == Prefer::Flash {
        let balanced = choose(Prefer::Balanced, reference, offers).map_or(reference, |i| &offers[i]);
        (limit, least) = (balanced.bytes, f64::INFINITY);
    }
    let mut best = None;
    for (i, offer) in offers.iter().enumerate().filter(|(_, o)| o.bytes <= limit) {
        let price = price(prefer, offer);
        if price < least && admits(prefer, reference, offer) {
            (best, least) = (Some(i), price);
        }
    }
    best
}

/// Cost of a form as one number.
pub(crate) fn price(prefer: Prefer, offer: &Offer) -> f64 {
    let (bytes, instructions) = (offer.bytes as f64, offer.instructions as f64);
    match prefer {
        Prefer::Speed => instructions + SPEED_RATE * bytes,
        Prefer::Flash => instructions + FLASH_RATE * bytes,
        Prefer::Balanced | Prefer::Ram => instructions * bytes,
    }
}

/// Whether a form may replace the reference at all.
fn admits(prefer: Prefer, reference: &Offer, offer: &Offer) -> bool {
    let neither_grows = offer.bytes <= reference.bytes && offer.instructions <= reference.instructions;
    match prefer {
        Prefer::Speed | Prefer::Flash => true,
        Prefer::Balanced => neither_grows,
        Prefer::Ram => neither_grows && (offer.in_place || !reference.in_place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_preferred_decides() {
        let offer =
            |bytes, instructions, in_place| Offer { bytes, instructions, in_place, ..Offer::default() };
        let dense = offer(100, 100, true);
        for ((bytes, instructions), balanced, speed, flash) in [
            ((50, 50), true, true, true),
            ((150, 50), false, true, false),
            ((50, 150), false, false, true),
            ((100, 100), false, false, false),
            // Beyond the rates: 200 instructions per byte, ten bytes per instruction.
            ((99, 300), false, false, false),
            ((1100, 0), false, false, false),
        ] {
            let chosen = |prefer, in_place| {
                let offers = [dense, offer(bytes, instructions, in_place)];
                choose(prefer, &dense, &offers).unwrap_or(0) == 1
            };
            assert_eq!(chosen(Prefer::Balanced, false), balanced);
            assert_eq!(chosen(Prefer::Speed, false), speed);
            assert_eq!(chosen(Prefer::Flash, false), flash);
            assert_eq!(chosen(Prefer::Ram, true), balanced);
            assert!(!chosen(Prefer::Ram, false));
        }
    }

    #[test]
    fn flash_is_never_larger_than_balanced() {
        let offer = |bytes, instructions| Offer { bytes, instructions, ..Offer::default() };
        let offers = [offer(100, 100_000), offer(90, 90_000), offer(99, 80_000)];
        assert_eq!(choose(Prefer::Balanced, &offers[0], &offers), Some(2));
        assert_eq!(choose(Prefer::Flash, &offers[0], &offers), Some(2));
        assert_eq!(choose(Prefer::Flash, &offers[0], &offers[..2]), Some(1));
    }
}
