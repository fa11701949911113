//! Whether a stream mixes its classes, or brings them one after the other.
//!
//! Layers that learn from a stretch of one or two classes turn their features towards them and lose the others; a head's
//! statistics lose nothing in any order. So while a stream is not mixed, a model with a classifier head lets its layers
//! and input statistics rest, and the head alone learns.
//!
//! The measure is the share of samples with the class of one of the two samples before, over about [`SPAN`] samples. In a
//! mixed stream of c classes it is 1 - (1 - 1/c)².

/// Samples that the share is taken over.
const SPAN: i32 = 32;

/// How far the share may lie above that of a mixed stream, in units of 2^-16.
const ROOM: u32 = 1 << 14;

/// A share that no mixed stream has, in units of 2^-16.
const MOST: u32 = 62_000;

/// The share so far, and the last classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stream {
    /// Marks of the classes of the last sample and of the one before it: 1 to 255; 0 for none.
    pub(super) last: [u8; 2],
    /// Share of samples with the class of one of the two before, in units of 2^-16.
    pub(super) repeats: u16,
}

impl Stream {
    /// A stream of `classes` classes before its first sample: taken for mixed.
    pub(super) fn new(classes: u16) -> Self {
        Self { last: [0; 2], repeats: mixed_share(classes) as u16 }
    }

    /// Takes the class of the next sample.
    pub(super) fn take(&mut self, class: u16) {
        let mark = (class % 255) as u8 + 1;
        if self.last[1] != 0 {
            let same = if self.last.contains(&mark) { i32::from(u16::MAX) } else { 0 };
            let now = i32::from(self.repeats);
            // Between `now` and `same`, so it fits.
            self.repeats = (now + (same - now) / SPAN) as u16;
        }
        self.last = [mark, self.last[0]];
    }

    /// Whether the classes are mixed.
    pub(super) fn is_mixed(&self, classes: u16) -> bool {
        u32::from(self.repeats) <= (mixed_share(classes) + ROOM).min(MOST)
    }
}

/// `1 - (1 - 1/c)²`, in units of 2^-16.
fn mixed_share(classes: u16) -> u32 {
    let other = 65_535 - 65_535 / u32::from(classes.max(1));
    65_535 - ((other * other) >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_learn::Random;

    /// Share of steps at which a stream is taken for mixed.
    fn mixed(classes: u16, labels: impl Iterator<Item = u16>) -> f64 {
        let mut stream = Stream::new(classes);
        let (mut count, mut all) = (0, 0);
        for label in labels {
            stream.take(label);
            count += u32::from(stream.is_mixed(classes));
            all += 1;
        }
        f64::from(count) / f64::from(all)
    }

    #[test]
    fn shuffled_classes_are_mixed_and_blocks_are_not() {
        let mut random = Random::new(1);
        for classes in [2u16, 3, 5, 10, 100] {
            let mut label = || (random.next_u32() % u32::from(classes)) as u16;
            let shuffled = mixed(classes, (0..2000).map(|_| label()));
            assert!(shuffled > 0.98, "{classes}: {shuffled}");
            let blocks = mixed(classes, (0..2000).map(|i| (i / 400) as u16 % classes));
            assert!(blocks < 0.1, "{classes}: {blocks}");
        }
        // Two classes at a time, shuffled or in turn.
        let pairs = mixed(10, (0..500).map(|i| (2 * (i / 100) + random.next_u32() % 2) as u16));
        assert!(pairs < 0.15, "{pairs}");
        let turns = mixed(10, (0..500).map(|i| 2 * (i / 100) + i % 2));
        assert!(turns < 0.1, "{turns}");
        // Round and round.
        assert_eq!(mixed(5, (0..100).map(|i| i % 5)), 1.0);
    }
}
