//! Learned weights in flash: a journal that survives a power cut at any moment and wears its pages evenly.
//!
//! A [`Store`] uses the pages of a range of a [`NorFlash`](embedded_storage::nor_flash::NorFlash) as a ring. A save erases and writes the pages after the
//! current record, reads them back, and only then programs the new record's header, which lies in the record's first
//! page. That one program operation is the commit. The current record is not touched. After a power cut,
//! [`Store::open`] finds either the old record or the new one, whole.
//!
//! - **Nothing is trusted.** Header and weights carry a CRC-32. A page is always erased before it is written, because a
//!   page whose erasure was cut may read as blank. A header or weights that the flash fails to read (words with broken
//!   error correction) count as damaged; the newest whole record is used.
//! - **Bounded.** Opening reads the header of every page, and the weights of the records from the newest to the one
//!   that it chooses. After power cuts alone, that is the first one.
//! - **Wear.** Records follow each other around the ring. In undisturbed use, the erase counts of any two pages differ
//!   by at most one. A save erases only the pages it needs. [`Store::wear`] says how far the pages have aged.
//! - **Pages that fail.** A save compares what flash holds with what was written. If a page does not keep it, the save goes on without that
//!   page, and the record lists it, so that later saves pass over it, after a reset too. Up to 16 pages are listed. If what is to be
//!   saved no longer fits between the good pages, those in the list get another chance: a fault may have been that of a moment.
//! - **Space.** A record takes at most half of the good pages, so the next one always fits beside it. Give the range twice the pages of a
//!   record, and one more for each page that may fail.
//! - **RAM.** One buffer of 256 bytes on the stack.
//!
//! Why not an existing key-value store: `sequential-storage` 8.0.2 judges a page blank by its first and last word, but
//! an erasure that is cut may leave any bytes. It was tested with weights as items of 64 bytes under two sets of keys
//! and a commit item, on the simulated flash of this crate's tests (10 pages of 128 bytes), with a power cut at each of
//! the 859 bytes of a save. If a cut operation changes its range from the end, 124 cuts left neither old nor new
//! weights; if half-written words cannot be read, 364 did. This journal loses none. Items must also fit one page, so
//! weights would need chunks, a buffer and a commit on top, which is most of this crate.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod bad;
mod error;
mod journal;
mod ram;
mod record;
mod ring;
#[cfg(feature = "slots")]
pub mod slots;
mod wear;

#[doc(no_inline)]
pub use embedded_storage::nor_flash;

pub use error::Error;
pub use journal::Store;
pub use ram::RamFlash;
pub use wear::Wear;
