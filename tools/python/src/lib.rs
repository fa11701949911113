//! The native part of the Python package `offshoot`: the commands of `tools/cli` on NumPy arrays.
//!
//! Every function here converts its arguments, calls what the command line calls, and converts the result. Names, defaults and
//! documentation for users stand in `python/offshoot`.

mod convert;
mod errors;
mod network;
mod session;
mod verbs;
mod work;

use pyo3::prelude::*;

/// The module `offshoot._native`.
#[pymodule(name = "_native")]
mod native {
    #[pymodule_export]
    use crate::network::{Network, compile, open, parse};
    #[pymodule_export]
    use crate::verbs::{verb, version};
}
