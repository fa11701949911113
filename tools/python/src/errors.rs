//! Failures as Python's exceptions, and panics as failures.

use std::any::Any;

use offshoot_cli::{Failure, Kind};
use pyo3::prelude::*;

/// The exception of `offshoot.errors` for a failure, with the command line's message and help.
pub(crate) fn raised(py: Python<'_>, failure: &Failure) -> PyErr {
    let made = || -> PyResult<Bound<'_, PyAny>> {
        // The kind's name in JSON.
        let kind = serde_json::to_value(failure.kind).unwrap_or_default();
        let kind = kind.as_str().unwrap_or("internal");
        let of_kind = py.import("offshoot.errors")?.getattr("of_kind")?;
        of_kind.call1((kind, failure.message.as_str(), failure.help.as_str()))
    };
    made().map_or_else(|error| error, PyErr::from_value)
}

/// The failure that a panic is reported as: the interpreter goes on.
pub(crate) fn of_panic(panic: &(dyn Any + Send)) -> Failure {
    let said = panic.downcast_ref::<String>().map(String::as_str);
    let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    Failure::new(
        Kind::Internal,
        format!("a panic: {said}"),
        "this is a bug in Offshoot: report it with this message",
    )
}
