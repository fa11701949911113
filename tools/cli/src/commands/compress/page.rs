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
    page.paragraph(&format!("Trained on {} samples. {}", report.samples[0], judged(report)));
    if let (Some(first), Some(last)) = (report.points.first(), report.points.last()) {
        let of = |name: &'static str, a: u64, b: u64, limit: Option<u64>| {
            let limit = limit.map_or(String::new(), |l| {
                format!(" of {} allowed ({:.1} %)", thousands(l), 100.0 * b as f64 / l.max(1) as f64)
            });
            (name, format!("{} → {}{limit}", thousands(a), thousands(b)))
        };
        let (a, b, limits) = (first.size, last.size, report.limits);
        let counted = a.instructions.zip(b.instructions);
        let facts = [
            Some(of("flash, bytes", a.flash, b.flash, limits.flash)),
            Some(of("RAM, bytes", a.ram, b.ram, limits.ram)),
            Some(of("MACs", a.macs, b.macs, limits.macs)),
            counted.map(|(a, b)| of("instructions", a, b, limits.instructions)),
            Some((
                "accuracy, held out, %",
                format!("{:.2} → {:.2}", 100.0 * first.accuracy, 100.0 * last.accuracy),
            )),
            report
                .test
                .map(|t| ("accuracy, test, %", format!("{:.2} → {:.2}", 100.0 * t.before, 100.0 * t.after))),
        ];
        page.facts(facts.into_iter().flatten());
    }
    page.heading("Budget").table(&budget(report));
    page.heading("Accuracy against flash");
    let line: Vec<(f64, f64)> =
        report.points.iter().map(|p| (p.size.flash as f64, 100.0 * p.accuracy)).collect();
    let ends = |of: fn(&(f64, f64)) -> f64| {
        [f64::min, f64::max].map(|f| line.iter().map(of).reduce(f).unwrap_or(0.0))
    };
    let ([left, right], [low, high]) = (ends(|p| p.0), ends(|p| p.1));
    let across = |accuracy: f64| vec![(left, accuracy), (right, accuracy)];
    let whole = report.points.first().map_or(0.0, |p| p.accuracy);
    let least = report.limits.loss.map(|loss| ("accuracy allowed".into(), across(100.0 * (whole - loss))));
    let limit =
        report.limits.flash.map(|l| ("flash allowed".into(), vec![(l as f64, low), (l as f64, high)]));
    let baseline = ("uncompressed".into(), across(100.0 * whole));
    let series: Vec<(String, Vec<(f64, f64)>)> =
        [Some(("as on the device, on held-out samples".into(), line)), limit, Some(baseline), least]
            .into_iter()
            .flatten()
            .collect();
    let svg = plot::lines(&series, "flash, bytes", "%");
    page.figure(
        &svg.or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?,
        "from the uncompressed network through each period to the result",
    );
    page.heading("What was done");
    report.done.iter().for_each(|done| {
        page.paragraph(done);
    });
    report.unfinished.iter().for_each(|said| {
        page.paragraph(said);
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

/// Which samples each number is from.
pub(super) fn judged(report: &Report) -> String {
    let held = format!(
        "Accuracies are those of the model as it runs on the device, on {} samples of --data held out from training; \
         --max-loss is checked on them.",
        report.samples[1]
    );
    match report.test {
        None => format!("{held} Give --test for a judgement on samples of their own.\n"),
        Some(t) => format!(
            "{held}\nOn {} samples of --test, on which nothing was chosen: {:.2} % before, {:.2} % after.\n",
            t.samples,
            100.0 * t.before,
            100.0 * t.after
        ),
    }
}

/// A table of what is limited, and of how much of each limit is used.
pub(super) fn budget(report: &Report) -> Table {
    let mut table = Table::new(["", "uncompressed", "result", "allowed", "used, %"]);
    if let (Some(first), Some(last)) = (report.points.first(), report.points.last()) {
        let (a, b, limits) = (first.size, last.size, report.limits);
        let rows = [
            ("flash, bytes", Some(a.flash), Some(b.flash), limits.flash),
            ("RAM, bytes", Some(a.ram), Some(b.ram), limits.ram),
            ("MACs", Some(a.macs), Some(b.macs), limits.macs),
            ("instructions", a.instructions, b.instructions, limits.instructions),
        ];
        for (what, before, after, limit) in rows {
            let (Some(before), Some(after), Some(limit)) = (before, after, limit) else { continue };
            let used = format!("{:.1}", 100.0 * after as f64 / limit.max(1) as f64);
            table.row([what.into(), thousands(before), thousands(after), thousands(limit), used]);
        }
    }
    table
}

/// A table of every network from the uncompressed one to the result.
pub(super) fn points(report: &Report) -> Table {
    let mut table = Table::new(["", "flash", "RAM", "MACs", "instructions", "held out, %"]);
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
