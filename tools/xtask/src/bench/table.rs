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
    self::markdown(table.header(), table.rows())
}

/// A table in Markdown.
pub(super) fn markdown(header: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(header);
    text.push_str(&format!("|{}\n", "---|".repeat(header.len())));
    rows.iter().for_each(|row| text.push_str(&line(row)));
    text
}

fn or_dash(value: Option<String>) -> String {
    value.unwrap_or_else(|| "-".into())
}

/// A value, with the peer's in brackets.
fn beside(own: u64, peer: Option<u64>) -> String {
    peer.map_or_else(|| thousands(own), |peer| format!("{} ({})", thousands(own), thousands(peer)))
}

/// MLPerf Tiny's networks compared with TFLite Micro with CMSIS-NN on the emulated Cortex-M4: file, arena,
/// instructions.
pub fn peers(figures: &Figures, markdown: bool) -> String {
    let title = ["network", "file, bytes: TFLM → Offshoot", "arena, bytes", "instructions", "times fewer"];
    let mut table = Table::new(title);
    for row in figures.rows.iter().filter(|r| r.prefer == "balanced" && r.target == "qemu:cortex-m4") {
        let Some(peer) = peers::tflm_cortex_m4(&row.network) else { continue };
        let change = |from: u64, to: u64| format!("{} → {}", thousands(from), thousands(to));
        table.row([
            peers::title(&row.network).to_owned(),
            change(peer.model_bytes, row.model_bytes),
            change(peer.arena_bytes, row.arena_bytes),
            change(peer.instructions, row.instructions),
            format!("{:.1}", peer.instructions as f64 / row.instructions.max(1) as f64),
        ]);
    }
    text(&table, markdown)
}

/// One figure of every network, with a column per board; a dash if it does not fit the board or has no timing model.
pub fn by_board(figures: &Figures, figure: impl Fn(&Row) -> Option<u64>, markdown: bool) -> String {
    let boards = boards(figures);
    let name = |board: &&str| board.trim_start_matches("qemu:").to_owned();
    let title = ["network", "prefer"].map(String::from).into_iter().chain(boards.iter().map(name));
    let mut table = Table::new(title);
    let mut seen = BTreeSet::new();
    for row in &figures.rows {
        if !seen.insert((&row.network, &row.prefer)) {
            continue;
        }
        let same = |r: &&Row| r.network == row.network && r.prefer == row.prefer;
        let cell = |board: &&str| {
            let of_board = figures.rows.iter().filter(same).find(|r| r.target == *board);
            or_dash(of_board.and_then(&figure).map(thousands))
        };
        let start = [row.network.clone(), row.prefer.clone()];
        table.row(start.into_iter().chain(boards.iter().map(cell)));
    }
    text(&table, markdown)
}

/// Figures that do not depend on the board (file, arena), and the stack on the first board.
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

/// Instructions and modelled cycles on each board.
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
        "of them flash waits",
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
            or_dash(row.flash_waits_modelled.map(thousands)),
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

/// Rows grouped by board; boards keep their order.
fn by_target(figures: &Figures) -> Vec<&Row> {
    let rows = |t: &'_ str| figures.rows.iter().filter(move |r| r.target == t).collect::<Vec<_>>();
    boards(figures).into_iter().flat_map(rows).collect()
}

/// Boards in order.
fn boards(figures: &Figures) -> Vec<&str> {
    let mut boards: Vec<&str> = vec![];
    for row in &figures.rows {
        if !boards.contains(&row.target.as_str()) {
            boards.push(&row.target);
        }
    }
    boards
}
