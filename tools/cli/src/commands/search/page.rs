//! The results of a search: a folder for each point of the front, and the page.

use std::path::Path;

use ndarray::Axis;
use offshoot_compress::quantize::{Learned, Policy};
use offshoot_data::npy::Array;
use offshoot_report::front::{self, Point};
use offshoot_report::table::thousands;
use offshoot_report::{Page, Table, plot};
use offshoot_search::evaluate::{Candidate, Evaluator};
use offshoot_search::metrics::{Goal, Metric};
use offshoot_search::strategies::History;

use super::{FrontPoint, Report, failure};
use crate::failure::{Context, Failure, Kind, Result};
use crate::policy;

/// Writes `model.onnx`, `model.off`, `policy.toml` and `calibration.npy` of a point; returns the command that compiles
/// it.
pub(super) fn write_point(evaluator: &Evaluator, folder: &Path, candidate: &Candidate) -> Result<String> {
    std::fs::create_dir_all(folder).map_err(|e| Failure::writing(folder, &e))?;
    let onnx = offshoot_import::emit(&candidate.graph).or_fail(
        Kind::Unsupported,
        "the candidate has no ONNX form: leave the operator named above out of the space",
    )?;
    let policy = Policy::new(candidate.bits.clone(), Learned::default());
    let policy = policy::renamed(&policy, &candidate.graph, &policy::read_back(&onnx)?)?;
    let few_bits = policy.layers.values().chain([&policy.weights]).any(|&b| b < 8);
    let policy = toml::to_string(&policy)
        .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?;
    let calibration = calibration(evaluator, candidate)?;
    let files: [(&str, &[u8]); 4] = [
        ("model.onnx", &onnx),
        ("model.off", &candidate.compiled.bytes),
        ("policy.toml", policy.as_bytes()),
        ("calibration.npy", &calibration),
    ];
    for (name, bytes) in files {
        let path = folder.join(name);
        offshoot_report::write_atomically(&path, bytes).map_err(|e| Failure::writing(&path, &e))?;
    }
    let at = |name: &str| folder.join(name).display().to_string();
    // The search has judged what few bits lose.
    let poor = if few_bits { " --allow-poor" } else { "" };
    Ok(format!(
        "offshoot compile {} --calib {} --precision {}{poor} -o model.off",
        at("model.onnx"),
        at("calibration.npy"),
        at("policy.toml")
    ))
}

/// Calibration samples in the candidate's resolution, as an `.npy` file.
fn calibration(evaluator: &Evaluator, candidate: &Candidate) -> Result<Vec<u8>> {
    let few = evaluator.train().head(100).x;
    let shape = &candidate.graph.value(candidate.graph.inputs[0]).shape;
    let x = match shape.len() == 4 && few.shape()[1..3] != shape[1..3] {
        true => offshoot_train::shared::resample(&few, [shape[1], shape[2]])
            .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?,
        false => few,
    };
    debug_assert_eq!(x.len_of(Axis(0)), evaluator.train().head(100).y.len());
    Ok(offshoot_data::npy::to_bytes(&Array::from(x)))
}

/// A table of the front.
pub(super) fn table(points: &[FrontPoint]) -> Table {
    let mut table = Table::new([
        "point",
        "accuracy, %",
        "flash",
        "RAM",
        "instructions",
        "latency, ms",
        "test accuracy, %",
    ]);
    for p in points {
        let m = &p.measured;
        let percent = |v: f64| format!("{:.2}", 100.0 * v);
        table.row([
            p.id.clone(),
            percent(m.accuracy),
            thousands(m.flash),
            thousands(m.ram),
            m.instructions.map_or("-".into(), thousands),
            m.latency_ms.map_or("-".into(), |l| format!("{l:.2}")),
            p.test_accuracy.map_or("-".into(), percent),
        ]);
    }
    table
}

fn numbers(p: &FrontPoint) -> Table {
    let mut table = Table::new(["", "value"]);
    for (name, value) in &p.options {
        table.row([name.clone(), value.to_string()]);
    }
    let m = &p.measured;
    table.row(["accuracy on held-out samples, %".to_owned(), format!("{:.2}", 100.0 * m.accuracy)]);
    for (name, accuracy) in &m.tasks {
        table.row([format!("accuracy, {name}, %"), format!("{:.2}", 100.0 * accuracy)]);
    }
    if let Some(a) = p.test_accuracy {
        table.row(["accuracy on test samples, %".to_owned(), format!("{:.2}", 100.0 * a)]);
    }
    table.row(["flash, bytes".to_owned(), thousands(m.flash)]);
    table.row(["RAM, bytes".to_owned(), thousands(m.ram)]);
    table.row(["MACs".to_owned(), thousands(m.macs)]);
    for (name, count) in [("instructions", m.instructions), ("cycles, modelled", m.cycles)] {
        if let Some(count) = count {
            table.row([name.to_owned(), thousands(count)]);
        }
    }
    table
}

/// The page.
///
/// # Errors
/// A plot cannot be drawn.
pub(super) fn page(report: &Report, history: &History, goal: &Goal) -> Result<Page> {
    let mut page = Page::new("Offshoot: search");
    page.paragraph(&format!(
        "{} of {:.3e} candidates, proposed by {}. Accuracies are those of the compiled models on {} held-out samples.",
        report.evaluations,
        report.candidates,
        format!("{:?}", report.strategy).to_uppercase(),
        report.samples[1]
    ));
    let (y, x) = (&goal.objectives[0], goal.objectives.get(1).unwrap_or(&Metric::Flash));
    let shown = |m: &Metric, v: f64| if m.grows() { 100.0 * v } else { v };
    let of = |m: &Metric, e: &offshoot_search::metrics::Measured| m.of(e).map_or(f64::NAN, |v| shown(m, v));
    let mut points: Vec<Point> = history
        .all()
        .iter()
        .filter_map(|e| e.measured.as_ref())
        .map(|m| Point {
            id: String::new(),
            at: (of(x, m), of(y, m)),
            front: false,
            title: String::new(),
            table: None,
            command: String::new(),
        })
        .collect();
    points.extend(report.front.iter().map(|p| Point {
        id: format!("point-{}", p.id),
        at: (of(x, &p.measured), of(y, &p.measured)),
        front: true,
        title: format!(
            "{}: {:.2} %, {} bytes of flash, {} of RAM",
            p.id,
            100.0 * p.measured.accuracy,
            thousands(p.measured.flash),
            thousands(p.measured.ram)
        ),
        table: Some(numbers(p)),
        command: p.command.clone(),
    }));
    page.heading("Front");
    page.figure(
        &front::front(&points, &x.to_string(), &format!("{y}{}", if y.grows() { ", %" } else { "" })),
        "click a point for its architecture, policy, numbers and command",
    );
    page.table(&table(&report.front));
    page.heading("Progress");
    let curve: Vec<(f64, f64)> = report.volume.iter().map(|&(n, v)| (n as f64, v)).collect();
    if curve.len() > 1 {
        let svg = plot::lines(&[("hypervolume of the front".into(), curve)], "evaluations", "hypervolume");
        page.figure(
            &svg.or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?,
            "volume that the front dominates, with costs normalised to the range seen",
        );
    }
    for note in &report.notes {
        page.paragraph(note);
    }
    Ok(page)
}

/// Writes a point of the front and measures its test accuracy.
pub(super) fn export(
    evaluator: &Evaluator,
    candidate: &Candidate,
    folder: &Path,
    test: Option<&offshoot_search::evaluate::Samples>,
) -> Result<(String, Option<f64>)> {
    let command = write_point(evaluator, folder, candidate)?;
    let accuracy = test
        .map(|t| offshoot_search::evaluate::accuracy(&candidate.compiled.bytes, t))
        .transpose()
        .map_err(|e| failure(&e))?;
    Ok((command, accuracy))
}
