//! Deltas between versions of a file: bsdiff's matches (crate `bsdiff`) in the form that devices apply as it arrives
//! (`offshoot::store::slots`).

use bsdiff::diff;
use offshoot::store::RamFlash;
use offshoot::store::nor_flash::NorFlashErrorKind;
use offshoot::store::slots::{DELTA_HEADER, DeltaHeader, Image, Layout, Slots, UpdateError};
use offshoot_sign::sha256;

use crate::failure::{Context, Failure, Kind, Result};

/// Why a delta cannot be applied.
pub type Error = UpdateError<NorFlashErrorKind>;

/// Bytes of a page of the flash in which deltas are tried.
const PAGE: u32 = 1024;

/// What names a file.
///
/// # Errors
/// It has 4 GiB or more.
pub fn image(file: &[u8]) -> Result<Image> {
    let len = u32::try_from(file.len()).or_fail(Kind::Usage, "give files below 4 GiB")?;
    Ok(Image { len, sha256: sha256(&[file]) })
}

/// A delta that gives `new` from `old`.
///
/// # Errors
/// A file has 4 GiB or more.
pub fn encode(old: &[u8], new: &[u8]) -> Result<Vec<u8>> {
    let mut matches = Vec::new();
    diff(old, new, &mut matches).or_fail(Kind::Internal, REPORT)?;
    let (mut matched, mut rest) = (Vec::new(), &matches[..]);
    while let Some((control, behind)) = rest.split_first_chunk::<24>() {
        let whole = translated(control, behind, &mut matched);
        rest = whole.ok_or_else(|| Failure::new(Kind::Internal, "bsdiff gave no instructions", REPORT))?;
    }
    // Where only weights changed, one match from start to end takes less than the many that bsdiff finds.
    let both = old.len().min(new.len());
    let changes: Vec<u8> = old.iter().zip(new).map(|(old, new)| new.wrapping_sub(*old)).collect();
    let mut straight = Vec::new();
    instruction(&changes, &new[both..], 0, &mut straight);
    let shorter = if straight.len() <= matched.len() { straight } else { matched };
    Ok([&DeltaHeader { base: image(old)?, new: image(new)? }.emit()[..], &shorter].concat())
}

/// Applies a delta as a device does, with its code, in a flash of RAM.
///
/// # Errors
/// As [`Slots::begin_delta`], [`Slots::write_delta`] and [`Slots::finish`].
pub fn apply(old: &[u8], delta: &[u8]) -> std::result::Result<Vec<u8>, Error> {
    let (header, instructions) = delta.split_first_chunk::<DELTA_HEADER>().ok_or(UpdateError::Delta)?;
    let new = DeltaHeader::parse(header).ok_or(UpdateError::Delta)?.new;
    // A header may say anything: each instruction byte gives at most so many bytes that the base has.
    let most = instructions.len().saturating_mul(old.len().max(1));
    let room = u32::try_from(old.len().max(new.len as usize)).ok().filter(|_| new.len as usize <= most);
    let room = room.and_then(|room| room.checked_next_multiple_of(PAGE)).ok_or(UpdateError::Delta)?;
    let control = room.checked_mul(2).ok_or(UpdateError::Delta)?;
    let layout = Layout { slots: [0..room, room..control], control: control..control + 4 * PAGE };
    let mut bytes = vec![0xff; (control + 4 * PAGE) as usize];
    bytes[..old.len()].copy_from_slice(old);
    let mut slots = Slots::open(RamFlash::new(&mut bytes), layout)?;
    slots.adopt(old.len() as u32)?;
    let mut patch = slots.begin_delta(header)?;
    slots.write_delta(&mut patch, instructions)?;
    slots.finish(|_, _| true)?;
    let mut file = vec![0; new.len as usize];
    if let Some(active) = slots.active() {
        slots.read(active.slot, 0, &mut file)?;
    }
    Ok(file)
}

const REPORT: &str = "report this with both files";

/// Takes one instruction of bsdiff over; returns what follows it. `None` if it is not whole.
fn translated<'m>(control: &[u8; 24], rest: &'m [u8], out: &mut Vec<u8>) -> Option<&'m [u8]> {
    let [sum, copy, shift] = [0, 8, 16].map(|at| {
        let number = control[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        // Sign and magnitude.
        let magnitude = (number & !(1 << 63)) as i64;
        if number >> 63 == 1 { -magnitude } else { magnitude }
    });
    let (sum, rest) = rest.split_at_checked(usize::try_from(sum).ok()?)?;
    let (copy, rest) = rest.split_at_checked(usize::try_from(copy).ok()?)?;
    // The last one moves where nothing is read any more.
    let shift = if rest.is_empty() { 0 } else { i32::try_from(shift).ok()? };
    instruction(sum, copy, shift, out);
    Some(rest)
}

/// Encodes an instruction: bytes to add to the base, bytes that follow, how far to move in the base. Files are below 4 GiB, and so are these.
fn instruction(sum: &[u8], copy: &[u8], shift: i32, out: &mut Vec<u8>) {
    number(out, sum.len() as u32);
    let mut left = sum;
    while !left.is_empty() {
        let zeros = left.iter().position(|&byte| byte != 0).unwrap_or(left.len());
        number(out, zeros as u32);
        left = &left[zeros..];
        if !left.is_empty() {
            let bytes = until_zeros(left);
            number(out, bytes as u32);
            out.extend(&left[..bytes]);
            left = &left[bytes..];
        }
    }
    number(out, copy.len() as u32);
    out.extend(copy);
    number(out, ((shift << 1) ^ (shift >> 31)) as u32);
}

/// Bytes before the next three zeros, which take no more than the numbers of two runs.
fn until_zeros(bytes: &[u8]) -> usize {
    bytes.windows(3).position(|three| three == [0; 3]).unwrap_or(bytes.len())
}

/// A number in LEB128.
fn number(out: &mut Vec<u8>, mut n: u32) {
    while n > 0x7f {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(seed: u32, bytes: u32) -> Vec<u8> {
        (0..bytes).map(|i| (i.wrapping_mul(i ^ seed).wrapping_mul(0x9e37_79b9) >> 17) as u8).collect()
    }

    #[test]
    fn what_is_encoded_is_applied() {
        let old = file(1, 30_000);
        let mut tuned = old.clone();
        tuned[20_000..20_800].iter_mut().for_each(|byte| *byte = byte.wrapping_mul(3));
        let mut moved = old[5_000..].to_vec();
        moved.splice(100..100, *b"a word in between");
        let news = [old.clone(), tuned.clone(), moved, file(2, 40_000), vec![0; 5_000], b"x".to_vec()];
        for new in &news {
            let delta = encode(&old, new).unwrap();
            assert!(apply(&old, &delta).unwrap() == *new);
            assert_eq!(apply(&old[1..], &delta).unwrap_err(), UpdateError::Base);
            let mut damaged = delta.clone();
            let at = damaged.len() - 3;
            damaged[at] ^= 0x55;
            assert!(apply(&old, &damaged).is_err() && apply(&old, &delta[..60]).is_err());
        }
        let size = |new: &[u8]| encode(&old, new).unwrap().len();
        assert!(size(&old) < 90 && size(&tuned) < 950, "{} {}", size(&old), size(&tuned));
        assert!(size(&news[2]) < 200, "{}", size(&news[2]));
    }
}
