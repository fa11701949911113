//! What the control pages say about the two slots, and its encoding.

/// One of the two slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// A file in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Image {
    /// Its bytes.
    pub len: u32,
    /// Its SHA-256.
    pub sha256: [u8; 32],
}

/// How far the active model is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// It passed its self-test.
    Confirmed,
    /// It was switched to, and has been booted so often since.
    Trial(u8),
}

/// A file that arrives in the slot that is not active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arriving {
    pub(super) image: Image,
    /// Bytes that are in flash for sure; whole pages.
    pub(super) written: u32,
}

/// All that outlasts a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) active: Option<Slot>,
    pub(super) trust: Trust,
    /// Whole files in slots A and B.
    pub(super) images: [Option<Image>; 2],
    pub(super) arriving: Option<Arriving>,
}

/// Bytes of an encoded state.
///
/// | bytes | contents |
/// |---|---|
/// | 0 | version, 1 |
/// | 1 | active slot: 0 none, 1 A, 2 B |
/// | 2 | 0 confirmed; else 1 + boots on trial |
/// | 3 | zero |
/// | 4..40, 40..76 | files in slot A and B: length, SHA-256; length 0: none |
/// | 76..112 | file that arrives |
/// | 112..116 | bytes of it that are written |
pub(super) const STATE: usize = 116;

const VERSION: u8 = 1;

impl State {
    /// Nothing in either slot.
    pub(super) const EMPTY: Self =
        Self { active: None, trust: Trust::Confirmed, images: [None; 2], arriving: None };

    pub(super) fn image(&self, slot: Slot) -> Option<Image> {
        let [a, b] = self.images;
        match slot {
            Slot::A => a,
            Slot::B => b,
        }
    }

    pub(super) fn put(&mut self, slot: Slot, image: Option<Image>) {
        let [a, b] = &mut self.images;
        match slot {
            Slot::A => *a = image,
            Slot::B => *b = image,
        }
    }

    /// The slot that a new file goes to.
    pub(super) fn spare(&self) -> Slot {
        self.active.map_or(Slot::A, Slot::other)
    }

    /// Gives up the active model for the one in the other slot, if there is one.
    pub(super) fn fall_back(&mut self) {
        if let Some(active) = self.active {
            self.put(active, None);
            self.active = self.image(active.other()).map(|_| active.other());
        }
        self.trust = Trust::Confirmed;
        // It was for the slot that is active now.
        self.arriving = None;
    }

    pub(super) fn emit(&self) -> [u8; STATE] {
        let mut out = [0; STATE];
        let active = self.active.map_or(0, |slot| 1 + slot as u8);
        let trust = match self.trust {
            Trust::Confirmed => 0,
            Trust::Trial(boots) => boots.saturating_add(1),
        };
        let [a, b] = self.images;
        let arriving = self.arriving.map(|arriving| arriving.image);
        let written = self.arriving.map_or(0, |arriving| arriving.written).to_le_bytes();
        let images = [a, b, arriving].map(|image| {
            let mut bytes = [0; 36];
            if let Some(image) = image {
                let fields = image.len.to_le_bytes().into_iter().chain(image.sha256);
                bytes.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
            }
            bytes
        });
        let all = [VERSION, active, trust, 0].into_iter().chain(images.into_iter().flatten()).chain(written);
        out.iter_mut().zip(all).for_each(|(to, from)| *to = from);
        out
    }

    /// Decodes what [`Self::emit`] gives. `None` if it is anything else, or a file is longer than its slot.
    pub(super) fn parse(bytes: &[u8; STATE], rooms: [u32; 2]) -> Option<Self> {
        let &[VERSION, active, trust, 0, ref rest @ ..] = bytes else { return None };
        let (images, written) = rest.split_at(rest.len().saturating_sub(4));
        let mut images = images.chunks_exact(36).map(|bytes| {
            let (len, sha256) = bytes.split_first_chunk()?;
            let image = Image { len: u32::from_le_bytes(*len), sha256: *sha256.first_chunk()? };
            (image.len > 0).then_some(image)
        });
        let images_there = [images.next()?, images.next()?];
        let written = u32::from_le_bytes(*written.first_chunk()?);
        let state = Self {
            active: match active {
                0 => None,
                1 => Some(Slot::A),
                2 => Some(Slot::B),
                _ => return None,
            },
            trust: trust.checked_sub(1).map_or(Trust::Confirmed, Trust::Trial),
            images: images_there,
            arriving: images.next()?.map(|image| Arriving { image, written }),
        };
        let [a, b] = rooms;
        let room = |slot| if slot == Slot::A { a } else { b };
        let fits = |slot, image: Option<Image>| image.is_none_or(|image| image.len <= room(slot));
        let arriving = state.arriving.is_none_or(|arriving| {
            arriving.written <= arriving.image.len && fits(state.spare(), Some(arriving.image))
        });
        let active = state.active.is_none_or(|slot| state.image(slot).is_some());
        let all_fit = fits(Slot::A, state.image(Slot::A)) && fits(Slot::B, state.image(Slot::B));
        // One form: what is read is what would be written.
        (all_fit && active && arriving && state.emit() == *bytes).then_some(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn image() -> impl Strategy<Value = Option<Image>> {
        proptest::option::of(
            (1..=1000_u32, any::<[u8; 32]>()).prop_map(|(len, sha256)| Image { len, sha256 }),
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(a in image(), b in image(), new in image(), trust in 0..255_u8, active in 0..3_u8, written in 0..1000_u32) {
            let active = [None, Some(Slot::A), Some(Slot::B)][usize::from(active)];
            let trust = trust.checked_sub(1).map_or(Trust::Confirmed, Trust::Trial);
            let arriving = new.map(|image| Arriving { image, written: written.min(image.len) });
            let state = State { active, trust, images: [a, b], arriving };
            let whole = active.is_none_or(|slot| state.image(slot).is_some());
            prop_assert_eq!(State::parse(&state.emit(), [1000; 2]), whole.then_some(state));
            if let Some(a) = a {
                prop_assert_eq!(State::parse(&state.emit(), [a.len - 1, 1000]), None);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in any::<[u8; STATE]>(), front: [u8; 2]) {
            [bytes[0], bytes[1], bytes[2], bytes[3]] = [1, front[0] % 4, front[1] % 4, 0];
            if let Some(state) = State::parse(&bytes, [u32::MAX; 2]) {
                prop_assert_eq!(state.emit(), bytes);
            }
        }
    }
}
