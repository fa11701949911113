//! A self-contained HTML page of headings, paragraphs, tables and SVG plots. It has no scripts and loads nothing.

use crate::table::Table;

/// A page under construction.
#[derive(Debug)]
pub struct Page {
    title: String,
    body: String,
}

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884}\
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2rem;border-bottom:1px solid var(--line)}\
table{border-collapse:collapse;margin:.8rem 0;font-size:.9rem}\
th,td{padding:.2rem .7rem;border-bottom:1px solid var(--line);text-align:right}\
th:first-child,td:first-child{text-align:left}\
figure{margin:1rem 0;background:#fff;padding:.5rem;border-radius:.4rem;overflow-x:auto}\
figcaption{color:#444;font-size:.85rem}\
.facts{display:flex;flex-wrap:wrap;gap:.8rem}\
.fact{border:1px solid var(--line);border-radius:.4rem;padding:.4rem .9rem}\
.fact b{display:block;font-size:1.25rem}";

impl Page {
    /// An empty page.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), body: String::new() }
    }

    /// Adds a section heading.
    pub fn heading(&mut self, text: &str) -> &mut Self {
        self.body.push_str(&format!("<h2>{}</h2>\n", escape(text)));
        self
    }

    /// Adds a paragraph.
    pub fn paragraph(&mut self, text: &str) -> &mut Self {
        self.body.push_str(&format!("<p>{}</p>\n", escape(text)));
        self
    }

    /// Adds a row of headline figures: (label, value).
    pub fn facts<'a>(&mut self, facts: impl IntoIterator<Item = (&'a str, String)>) -> &mut Self {
        self.body.push_str("<div class=facts>");
        for (label, value) in facts {
            self.body.push_str(&format!("<div class=fact><b>{}</b>{}</div>", escape(&value), escape(label)));
        }
        self.body.push_str("</div>\n");
        self
    }

    /// Adds a table.
    pub fn table(&mut self, table: &Table) -> &mut Self {
        self.body.push_str(&self::table(table));
        self
    }

    /// Adds a plot from [`crate::plot`], [`crate::front`] or [`crate::picture`].
    pub fn figure(&mut self, svg: &str, caption: &str) -> &mut Self {
        self.body.push_str(&format!("<figure>{svg}<figcaption>{}</figcaption></figure>\n", escape(caption)));
        self
    }

    /// The finished page.
    pub fn render(&self) -> String {
        let title = escape(&self.title);
        format!(
            "<!doctype html>\n<html lang=en><head><meta charset=utf-8>\
             <meta name=viewport content=\"width=device-width,initial-scale=1\">\
             <title>{title}</title><style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n{}</body></html>\n",
            self.body
        )
    }
}

pub(crate) fn table(table: &Table) -> String {
    let cells = |tag: &str, row: &[String]| -> String {
        row.iter().map(|c| format!("<{tag}>{}</{tag}>", escape(c))).collect()
    };
    let mut html = format!("<table><tr>{}</tr>\n", cells("th", table.header()));
    for row in table.rows() {
        html.push_str(&format!("<tr>{}</tr>\n", cells("td", row)));
    }
    html.push_str("</table>\n");
    html
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_a_model_cannot_break_out_of_the_page() {
        let mut page = Page::new("<script>alert(1)</script>");
        let mut table = Table::new(["a"]);
        table.row(["</td><script>"]);
        page.table(&table).paragraph("a & b");
        let html = page.render();
        assert!(!html.contains("<script>"));
        assert!(html.contains("a &amp; b"));
    }
}
