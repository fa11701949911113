//! The differences between the images: one file each, all with the same names.

#[cfg(not(any(feature = "an505", feature = "an547")))]
mod an38x;
#[cfg(feature = "an505")]
mod an505;
#[cfg(feature = "an547")]
mod an547;

#[cfg(not(any(feature = "an505", feature = "an547")))]
pub(crate) use an38x::*;
#[cfg(feature = "an505")]
pub(crate) use an505::*;
#[cfg(feature = "an547")]
pub(crate) use an547::*;
