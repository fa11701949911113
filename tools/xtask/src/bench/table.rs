//! Tables of figures, for a terminal or in Markdown.

use std::collections::BTreeSet;

use offshoot_report::Table;
use offshoot_report::table::thousands;

use super::figures::{Figures, Row};
use super::peers;

/// The table as text.
fn text(table: &Table, markdown: bool) -> String {
    if !markdown {
        return table.to_string();
    }
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(table.header());
    text.push_str(&format!("|{}\n", "---|".repeat(table.header().len())));
    table.rows().iter().for_each(|row| text.push_str(&line(row)));
    text
}

fn or_dash(value: Option<String>) -> String {
    value.unwrap_or_else(|| "-".into())
}

/// A value, and the peer's in brackets.
fn beside(own: u64, peer: Option<u64>) -> String {
    peer.map_or_else(|| thousands(own), |peer| format!("{} ({})", thousands(own), thousands(peer)))
}

/// What does not depend on the board: file, arena; and the stack of the first board.
pub fn sizes(figures: &Figures, markdown: bool) -> String {
    let title = ["network", "prefer", "file, bytes (.tflite)", "arena (TFLM)", "stack (TFLM)", "MACs"];
    let mut table = Table::new(title);
    let mut seen = BTreeSet::new();
    for row in &figures.rows {
        if seen.insert((&row.network, &row.prefer)) {
            let peer = peers::tflm_cortex_m4(&row.network);
            table.row([
                row.network.clone(),
                row.prefer.clone(),
                beside(row.model_bytes, peer.map(|p| p.model_bytes)),
                beside(row.arena_bytes, peer.map(|p| p.arena_bytes)),
                beside(row.stack_bytes, peer.map(|p| p.stack_bytes)),
                thousands(row.macs),
            ]);
        }
    }
    text(&table, markdown)
}

/// Instructions and modelled cycles, board by board.
pub fn costs(figures: &Figures, markdown: bool) -> String {
    let title = [
        "target",
        "network",
        "prefer",
        "instructions",
        "TFLM + CMSIS-NN",
        "times fewer",
        "per MAC",
        "cycles modelled",
        "least published",
    ];
    let mut table = Table::new(title);
    for row in by_target(figures) {
        let tflm = peers::tflm_cortex_m4(&row.network).filter(|_| row.target == "qemu:cortex-m4");
        let tflm = tflm.map(|t| t.instructions);
        table.row([
            row.target.clone(),
            row.network.clone(),
            row.prefer.clone(),
            thousands(row.instructions),
            or_dash(tflm.map(thousands)),
            or_dash(tflm.map(|t| format!("{:.2}", t as f64 / row.instructions.max(1) as f64))),
            format!("{:.2}", row.instructions as f64 / row.macs.max(1) as f64),
            or_dash(row.cycles_modelled.map(thousands)),
            or_dash(peers::published_cycles(&row.network, &row.target).map(thousands)),
        ]);
    }
    text(&table, markdown)
}

/// Instructions by kind of operator.
pub fn kinds(figures: &Figures, markdown: bool) -> String {
    let mut table = Table::new(["target", "network", "prefer", "kind", "instructions", "share %"]);
    for row in by_target(figures) {
        let total: u64 = row.kinds.values().sum();
        for (kind, &count) in &row.kinds {
            table.row([
                row.target.clone(),
                row.network.clone(),
                row.prefer.clone(),
                kind.clone(),
                thousands(count),
                format!("{:.1}", 100.0 * count as f64 / total.max(1) as f64),
            ]);
        }
    }
    text(&table, markdown)
}

/// Rows of a board together, boards in the order in which they came.
fn by_target(figures: &Figures) -> Vec<&Row> {
    let mut targets: Vec<&str> = vec![];
    for row in &figures.rows {
        if !targets.contains(&row.target.as_str()) {
            targets.push(&row.target);
        }
    }
    let rows = |t: &'_ str| figures.rows.iter().filter(move |r| r.target == t).collect::<Vec<_>>();
    targets.into_iter().flat_map(rows).collect()
}
