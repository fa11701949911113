//! How far the pages of a store have aged.

/// How far a store's pages have aged. Nothing is counted in flash for it: the figures follow from the number of saves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Wear {
    /// Pages of the range.
    pub pages: u32,
    /// Pages that failed and are passed over.
    pub bad_pages: u32,
    /// Saves and resets so far, tries that failed included (modulo 2³²).
    pub saves: u32,
    /// Pages of the newest save.
    pub pages_each: u32,
}

impl Wear {
    /// Erasures of each good page so far, rounded up, if all saves were as long as the newest. Before pages failed there were more
    /// to share them, so this is no less than what was.
    pub fn erasures(&self) -> u32 {
        let (all, good) = (u64::from(self.saves) * u64::from(self.pages_each), u64::from(self.good()));
        u32::try_from(all.div_ceil(good.max(1))).unwrap_or(u32::MAX)
    }

    /// Saves of the newest one's length that are left if a page endures `rated` erasures, as the data sheet says (10,000 for most
    /// microcontrollers). Pages fail earlier or later; each that fails takes its share with it.
    pub fn saves_left(&self, rated: u32) -> u32 {
        let all = u64::from(rated) * u64::from(self.good()) / u64::from(self.pages_each.max(1));
        u32::try_from(all.saturating_sub(self.saves.into())).unwrap_or(u32::MAX)
    }

    fn good(&self) -> u32 {
        self.pages.saturating_sub(self.bad_pages)
    }
}
