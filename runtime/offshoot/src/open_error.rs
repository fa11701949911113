//! Why a signed model does not open.

use offshoot_base::Error;
use offshoot_sign::Refusal;

/// Why a signed model does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum OpenError {
    /// The device does not trust the file.
    Refused(Refusal),
    /// The file is trusted, but does not open.
    Invalid(Error),
}

impl From<Refusal> for OpenError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Error> for OpenError {
    fn from(error: Error) -> Self {
        Self::Invalid(error)
    }
}

impl core::fmt::Display for OpenError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Invalid(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for OpenError {}
