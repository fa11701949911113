//! Tables of local learning, from the results of `offshoot-bench`.

use anyhow::{Context, Result};
use offshoot_bench::protocol::{Goal, Protocol};
use offshoot_bench::table::Results;

use super::table::markdown;

/// A protocol's title, rows and goals. Rows have percent, mean ± deviation over seeds, and published numbers in
/// brackets.
///
/// # Errors
/// There is no protocol with this name.
pub fn table(results: &Results, name: &str) -> Result<String> {
    let protocols = offshoot_bench::protocols(&super::data_folder());
    let protocol = protocols.iter().find(|p| p.name() == name);
    let protocol = protocol.with_context(|| format!("offshoot-bench has no protocol `{name}`"))?.as_ref();
    let columns = protocol.columns();
    let titles: Vec<String> = ["rule", "seeds"].iter().chain(&columns).map(ToString::to_string).collect();
    let mut rows = vec![];
    for row in protocol.rows() {
        let all: Vec<Vec<f64>> = columns.iter().map(|c| results.of(name, &row.name, c)).collect();
        let seeds = all.iter().map(Vec::len).max().unwrap_or(0);
        let mut cells = vec![row.name.clone(), seeds.to_string()];
        for (column, values) in columns.iter().zip(&all) {
            let published = row.research.iter().find(|(c, _)| c == column);
            let published = published.map_or(String::new(), |(_, percent)| format!(" [{percent}]"));
            cells.push(format!("{}{published}", summary(values)));
        }
        rows.push(cells);
    }
    Ok(format!("{}.\n\n{}\n{}", protocol.title(), markdown(&titles, &rows), goals(results, protocol)))
}

/// One line per goal.
fn goals(results: &Results, protocol: &dyn Protocol) -> String {
    let mean = |row: &str, column: &str| {
        let all = results.of(protocol.name(), row, column);
        (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
    };
    let judged = |goal: &Goal| goal.judge(mean, &protocol.columns());
    let line =
        |(met, text): (bool, String)| format!("- {}: {text}\n", if met { "met" } else { "**missed**" });
    protocol.goals().iter().filter_map(judged).map(line).collect()
}

/// Mean and deviation in percent.
fn summary(all: &[f64]) -> String {
    let count = all.len() as f64;
    let mean = all.iter().sum::<f64>() / count;
    match all {
        [] => "-".into(),
        [one] => format!("{:.2}", 100.0 * one),
        _ => {
            let variance = all.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / (count - 1.0);
            format!("{:.2} ± {:.2}", 100.0 * mean, 100.0 * variance.sqrt())
        }
    }
}
