//! The report of `offshoot compress`: tables for the terminal, and an HTML page.

use offshoot_report::table::{tail, thousands};
use offshoot_report::{Page, Table, plot};

use super::{Args, Report};
use crate::failure::{Context, Kind, Result};

/// The report as a page.
///
/// # Errors
/// A plot cannot be drawn.
pub(super) fn page(args: &Args, report: &Report) -> Result<Page> {
    let name = args.model.file_stem().map_or_else(|| "model".into(), |s| s.to_string_lossy().into_owned());
    let mut page = Page::new(format!("Offshoot: {name} compressed"));
    page.paragraph(&format!(
        "Trained on {} samples. Accuracies are those of the int8 model on {} held-out samples.",
        report.samples[0], report.samples[1]
    ));
    if let (Some(first), Some(last)) = (report.points.first(), report.points.last()) {
        page.facts([
            ("flash, bytes", format!("{} → {}", thousands(first.size.flash), thousands(last.size.flash))),
            ("RAM, bytes", format!("{} → {}", thousands(first.size.ram), thousands(last.size.ram))),
            ("MACs", format!("{} → {}", thousands(first.size.macs), thousands(last.size.macs))),
            ("accuracy, %", format!("{:.2} → {:.2}", 100.0 * first.accuracy, 100.0 * last.accuracy)),
        ]);
    }
    page.heading("Accuracy against flash");
    let line = report.points.iter().map(|p| (p.size.flash as f64, 100.0 * p.accuracy)).collect();
    let svg = plot::lines(&[("int8 on held-out samples".into(), line)], "flash, bytes", "%");
    page.figure(
        &svg.or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?,
        "from the uncompressed network through each period to the result",
    );
    page.heading("What was done");
    report.done.iter().for_each(|done| {
        page.paragraph(done);
    });
    page.table(&points(report)).heading("Operators").table(&operators(report));
    page.heading("Groups of channels");
    let mut table = Table::new(["operators", "channels", "left", "why it stays whole"]);
    for f in &report.families {
        let why = f.fixed.clone().unwrap_or_default();
        table.row([f.operators.join(", "), f.before.to_string(), f.after.to_string(), why]);
    }
    page.table(&table);
    Ok(page)
}

/// A table of every network from the uncompressed one to the result.
pub(super) fn points(report: &Report) -> Table {
    let mut table = Table::new(["", "flash", "RAM", "MACs", "instructions", "accuracy, %"]);
    for p in &report.points {
        let instructions = p.size.instructions.map_or("-".into(), thousands);
        let cells = [thousands(p.size.flash), thousands(p.size.ram), thousands(p.size.macs), instructions];
        let accuracy = format!("{:.2}", 100.0 * p.accuracy);
        table.row([std::slice::from_ref(&p.stage), &cells[..], &[accuracy]].concat());
    }
    table
}

/// A table of every operator with weights.
pub(super) fn operators(report: &Report) -> Table {
    let mut table = Table::new(["operator", "channels", "left", "weights", "left", "bits", "MACs", "left"]);
    for o in &report.operators {
        let counts = [o.weights[0], o.weights[1], u64::from(o.bits), o.macs[0], o.macs[1]].map(thousands);
        let channels = o.channels.map(|c| c.to_string());
        table.row([&[tail(&o.name, 44)], &channels[..], &counts[..]].concat());
    }
    table
}
