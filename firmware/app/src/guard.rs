//! Who may do what: without the feature `signed` everybody everything; with it models need a signature that the device trusts, and requests
//! that change something need one of the host.

#[cfg(not(feature = "signed"))]
mod open;
#[cfg(feature = "signed")]
mod signed;

#[cfg(not(feature = "signed"))]
pub(crate) use open::{Binding, Bond, Guard, in_flash};
#[cfg(feature = "signed")]
pub(crate) use signed::{Binding, Bond, in_flash};
#[cfg(feature = "signed")]
pub use signed::{Guard, Releases};
