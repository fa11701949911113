//! Pages that no longer keep what is written.

/// Most bad pages that a store remembers. Further ones are found again at each save that meets them.
pub(super) const MOST: usize = 16;

/// Bytes of the longest list in flash.
pub(super) const LIST: usize = 2 * MOST;

/// Numbers of bad pages, in rising order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BadPages {
    count: u8,
    pages: [u16; MOST],
}

impl BadPages {
    /// Numbers of the pages, rising.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.pages.iter().take(usize::from(self.count)).map(|&page| u32::from(page))
    }

    pub(super) fn count(&self) -> u8 {
        self.count
    }

    /// Bytes of the list in flash.
    pub(super) fn bytes(&self) -> u32 {
        2 * u32::from(self.count)
    }

    /// Adds a page. False if it is there, or the list has `most` pages: it is as before then.
    pub(super) fn insert(&mut self, page: u32, most: usize) -> bool {
        let Ok(page) = u16::try_from(page) else { return false };
        let count = usize::from(self.count);
        let known = self.pages.iter().take(count).any(|&p| p == page);
        if known || count >= most {
            return false;
        }
        let Some(end) = self.pages.get_mut(count) else { return false };
        *end = page;
        self.count += 1;
        // Insertion sort from the end; the rest is sorted.
        for i in (1..=count).rev() {
            if let Some([before, after]) = self.pages.get_mut(i - 1..=i)
                && before > after
            {
                core::mem::swap(before, after);
            }
        }
        true
    }

    /// The list as it lies in flash: little-endian numbers, [`Self::bytes`] of them in use.
    pub(super) fn emit(&self) -> [u8; LIST] {
        let mut list = [0; LIST];
        for (to, page) in list.chunks_exact_mut(2).zip(self.pages) {
            to.copy_from_slice(&page.to_le_bytes());
        }
        list
    }

    /// Reads a list of `count` pages of a ring of `pages`. `None` if the numbers do not rise or name no page.
    pub(super) fn parse(list: &[u8; LIST], count: u8, pages: u32) -> Option<Self> {
        let mut found = Self::default();
        let mut least = 0;
        for bytes in list.chunks_exact(2).take(usize::from(count)) {
            let page = u32::from(u16::from_le_bytes(*bytes.first_chunk()?));
            let rises = page >= least && page < pages;
            if !rises || !found.insert(page, MOST) {
                return None;
            }
            least = page + 1;
        }
        (found.count == count).then_some(found)
    }

    /// How far the `n`-th good page (from 0) lies behind `start` in a ring of `pages`: `n`, and one more for each bad page passed.
    /// More than `n` pages must be good.
    pub(super) fn distance(&self, start: u32, n: u32, pages: u32) -> u32 {
        let mut distance = n;
        // Each turn but the last passes at least one more bad page.
        for _ in 0..=self.count {
            let passed = self.within(start, distance.saturating_add(1), pages);
            let further = n.saturating_add(passed);
            if further == distance {
                break;
            }
            distance = further;
        }
        distance
    }

    /// Number of bad pages among the `length` pages from `start` on in a ring of `pages`.
    pub(super) fn within(&self, start: u32, length: u32, pages: u32) -> u32 {
        let behind = |page: u32| if page >= start { page - start } else { page + pages - start };
        self.iter().filter(|&page| behind(page) < length).count() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(pages: &[u32]) -> BadPages {
        let mut bad = BadPages::default();
        for &page in pages {
            assert!(bad.insert(page, MOST));
        }
        bad
    }

    #[test]
    fn pages_are_listed_once_and_in_order() {
        let mut bad = list(&[9, 3, 7, 0]);
        assert!(bad.iter().eq([0, 3, 7, 9]));
        assert!(!bad.insert(3, MOST) && !bad.insert(70_000, MOST) && !bad.insert(5, 4));
        assert_eq!((bad.count(), bad.bytes()), (4, 8));
        for page in 10..22 {
            assert!(bad.insert(page, MOST));
        }
        assert!(!bad.insert(30, MOST + 5));
    }

    #[test]
    fn a_list_that_no_store_writes_is_refused() {
        let bad = list(&[2, 5]);
        assert_eq!(BadPages::parse(&bad.emit(), 2, 6), Some(bad));
        assert_eq!(BadPages::parse(&bad.emit(), 2, 5), None, "no such page");
        assert_eq!(BadPages::parse(&bad.emit(), 3, 6), None, "falls");
        assert_eq!(BadPages::parse(&[1; LIST], 2, 6000), None, "twice");
        assert_eq!(BadPages::parse(&bad.emit(), 17, 6), None, "too many");
        assert_eq!(BadPages::parse(&bad.emit(), 0, 6), Some(BadPages::default()));
    }

    proptest! {
        #[test]
        fn good_pages_are_counted_as_a_walk_counts_them(
            pages in 1..40_u32,
            bad in proptest::collection::btree_set(0..40_u32, 0..MOST),
            start in 0..40_u32,
        ) {
            let mut marked = BadPages::default();
            bad.iter().filter(|&&page| page < pages).for_each(|&page| { marked.insert(page, MOST); });
            let start = start % pages;
            let good: Vec<u32> = (0..pages).filter(|step| !bad.contains(&((start + step) % pages))).collect();
            for (n, &step) in good.iter().enumerate() {
                prop_assert_eq!(marked.distance(start, n as u32, pages), step);
            }
            prop_assert_eq!(marked.within(start, pages, pages), pages - good.len() as u32);
        }
    }
}
