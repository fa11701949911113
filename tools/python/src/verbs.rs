//! Arguments of the command line's verbs, and the verbs that read and write files.

use clap::Parser;
use offshoot_cli::commands::{compress, inspect, merge, qat, rank, search, sensitivity, target};
use offshoot_cli::{Failure, Kind, Outcome, Result, Ui};
use pyo3::prelude::*;
use serde::Serialize;

use crate::work::patiently;

/// A report: the JSON of `--json`, and the tables for people.
pub(crate) type Said = (String, String);

/// The two forms of an outcome.
pub(crate) fn said(outcome: &impl Outcome) -> Result<Said> {
    Ok((json(outcome)?, outcome.render()))
}

fn json(report: &impl Serialize) -> Result<String> {
    serde_json::to_string(report).map_err(|e| {
        let help = "this is a bug in Offshoot: report it with this message";
        Failure::new(Kind::Internal, e.to_string(), help)
    })
}

/// Arguments as on the command line, without the verb.
pub(crate) fn arguments<A: clap::Args>(line: &[String]) -> Result<A> {
    #[derive(Parser)]
    #[command(no_binary_name = true)]
    struct Line<A: clap::Args> {
        #[command(flatten)]
        args: A,
    }
    Line::try_parse_from(line).map(|line: Line<A>| line.args).map_err(|e| Failure::arguments(&e))
}

fn call<A: clap::Args, O: Outcome>(
    ui: &Ui,
    line: &[String],
    run: impl FnOnce(&Ui, &A) -> Result<O>,
) -> Result<Said> {
    said(&run(ui, &arguments(line)?)?)
}

/// Runs a verb of the command line whose inputs and outputs are files. Returns its report as JSON and as text.
#[pyfunction]
pub(crate) fn verb(
    py: Python<'_>,
    name: &str,
    line: Vec<String>,
    listener: Option<Py<PyAny>>,
) -> PyResult<Said> {
    patiently(py, listener, |ui| match name {
        "compress" => call(ui, &line, compress::run),
        "inspect" => call(ui, &line, inspect::run),
        "merge" => call(ui, &line, merge::run),
        "qat" => call(ui, &line, qat::run),
        "rank" => call(ui, &line, rank::run),
        "search" => call(ui, &line, search::run),
        "sensitivity" => call(ui, &line, sensitivity::run),
        "target" => call(ui, &line, target::run),
        _ => Err(Failure::new(Kind::Usage, format!("there is no verb `{name}`"), "see the documentation")),
    })
}

/// The version of the native part.
#[pyfunction]
pub(crate) fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
