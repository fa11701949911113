//! Terminal tables: the first column is left-aligned, numbers are right-aligned.

use comfy_table::{CellAlignment, ContentArrangement, TableComponent, presets};

/// A table under construction.
#[derive(Debug)]
pub struct Table {
    inner: comfy_table::Table,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column headings.
    pub fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Self {
        let header: Vec<String> = header.into_iter().map(Into::into).collect();
        let mut inner = comfy_table::Table::new();
        inner.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        inner
            .set_style(TableComponent::HeaderLines, '─')
            .set_style(TableComponent::MiddleHeaderIntersections, '─');
        inner.set_header(&header);
        Self { inner, header, rows: Vec::new() }
    }

    /// Adds a row, with one cell per column.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) -> &mut Self {
        let cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        self.inner.add_row(&cells);
        self.rows.push(cells);
        self
    }

    /// Column headings.
    pub fn header(&self) -> &[String] {
        &self.header
    }

    /// Rows, unformatted.
    pub fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = self.inner.clone();
        for (i, column) in table.column_iter_mut().enumerate() {
            let numeric =
                !self.rows.is_empty() && self.rows.iter().all(|r| r.get(i).is_none_or(|c| is_number(c)));
            if i > 0 && numeric {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        write!(f, "{table}")
    }
}

fn is_number(cell: &str) -> bool {
    let trimmed = cell.trim_end_matches(" %").trim_end_matches(" dB").trim_end_matches(" B");
    trimmed.is_empty() || trimmed == "-" || trimmed.replace([',', ' '], "").parse::<f64>().is_ok()
}

/// Cuts a name to its last `width` characters, since the start of a tensor's name is the path to it.
pub fn tail(name: &str, width: usize) -> String {
    let count = name.chars().count();
    if count <= width {
        return name.to_owned();
    }
    let kept: String = name.chars().skip(count + 1 - width.max(1)).collect();
    format!("…{kept}")
}

/// Formats `1234567` as `1,234,567`.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_000), "1,000");
        assert_eq!(thousands(12_345_678), "12,345,678");
    }

    #[test]
    fn long_names_keep_their_end() {
        assert_eq!(tail("abcdef", 6), "abcdef");
        assert_eq!(tail("abcdef", 4), "…def");
    }

    #[test]
    fn numbers_are_set_to_the_right() {
        let mut t = Table::new(["operator", "bytes"]);
        t.row(["a", "7"]).row(["b", "1,234"]);
        let text = t.to_string();
        assert!(text.lines().any(|l| l.trim_end().ends_with("    7")), "{text}");
    }
}
