//! The page about a run of `learn`.

use offshoot_report::table::thousands;
use offshoot_report::{Page, Table, plot};

use super::{Point, Report};
use crate::failure::{Context, Kind, Result};

/// The learning curve as a figure of a page.
///
/// # Errors
/// None but bugs.
pub fn curve(page: &mut Page, points: &[Point]) -> Result<()> {
    let points = points.iter().map(|p| (p.steps as f64, 100.0 * p.accuracy)).collect();
    let svg = plot::lines(&[("accuracy on training samples".into(), points)], "steps", "%");
    page.figure(
        &svg.or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?,
        "each sample is predicted before it is learned",
    );
    Ok(())
}

/// The page.
///
/// # Errors
/// As [`curve`].
pub fn page(name: &str, r: &Report) -> Result<String> {
    let percent = |a: f64| if a.is_nan() { "-".into() } else { format!("{:.2} %", 100.0 * a) };
    let mut page = Page::new(format!("Offshoot: {name} learns on {}", r.target));
    page.facts([
        ("accuracy before", percent(r.accuracy_before)),
        ("accuracy after", percent(r.accuracy_after)),
        ("steps", thousands(r.steps as u64)),
        ("training arena (RAM), bytes", thousands(r.train_arena_bytes)),
        ("used, bytes", thousands(r.train_arena_used_bytes)),
    ]);
    page.heading("Learning curve");
    if let Some(errors) = r.regression.as_ref().filter(|e| !e.along.is_empty()) {
        let points = errors.along.iter().map(|p| (p.steps as f64, p.mean_squared_error)).collect();
        let svg = plot::lines(&[("mean squared error".into(), points)], "steps", "");
        page.figure(
            &svg.or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?,
            "each sample is predicted before it is learned",
        );
    } else if r.curve.is_empty() {
        page.paragraph("No train step was taken.");
    } else {
        curve(&mut page, &r.curve)?;
    }
    page.heading("Facts");
    let mut table = Table::new(["", ""]);
    for [name, value] in super::facts(r) {
        table.row([name, value]);
    }
    page.table(&table);
    if !r.blocks.is_empty() {
        page.heading("Active blocks of the head")
            .paragraph("With fewer active blocks, operators after the last of them are not computed.");
        page.table(&super::blocks_table(&r.blocks));
    }
    Ok(page.render())
}
