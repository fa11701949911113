//! Why a store fails.

/// Error of a store. `E` is the flash's own error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Error<E> {
    /// The range is not at least two whole pages of this flash, or the flash's read, write and erase sizes do not
    /// fit each other, or a read or write unit exceeds the buffer of 256 bytes.
    Geometry,
    /// The weights do not fit.
    TooLarge {
        /// Bytes to save.
        needed: u32,
        /// Bytes that fit; see [`Store::capacity`](crate::Store::capacity).
        capacity: u32,
    },
    /// The weights in flash belong to the model, but the buffer to load them into has another length.
    Length {
        /// Bytes in flash.
        stored: u32,
    },
    /// The weights in flash changed since the store was opened. Discard the contents of the buffer.
    Damaged,
    /// The flash reads back other bytes than were written, and not enough good pages are left, or too many failed at once. The record
    /// before is untouched.
    Worn,
    /// The flash reported an error.
    Flash(E),
}

impl<E: core::fmt::Debug> core::fmt::Display for Error<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Geometry => f.write_str("the range must be at least two whole pages of a supported flash"),
            Self::TooLarge { needed, capacity } => {
                write!(f, "{needed} bytes of weights do not fit: the store has room for {capacity}")
            }
            Self::Length { stored } => {
                write!(f, "the buffer has the wrong length: the store holds {stored} bytes of weights")
            }
            Self::Damaged => f.write_str("the weights in flash are damaged: open the store again"),
            Self::Worn => f.write_str("the flash is worn: it does not keep what is written"),
            Self::Flash(error) => write!(f, "flash: {error:?}"),
        }
    }
}

impl<E: core::fmt::Debug> core::error::Error for Error<E> {}
