//! A Pareto front as an SVG picture with clickable points, without scripts.

use crate::Table;
use crate::html::escape;

/// One point.
#[derive(Debug)]
pub struct Point {
    /// Unique id in the page, of letters, digits and dashes.
    pub id: String,
    /// Coordinates.
    pub at: (f64, f64),
    /// Whether it is on the front; the others are drawn faintly and cannot be clicked.
    pub front: bool,
    /// Title shown on a click.
    pub title: String,
    /// Table shown on a click.
    pub table: Option<Table>,
    /// Command shown on a click.
    pub command: String,
}

const STYLE: &str = "<style>.point{display:none}.point:target{display:block}\
.dot{fill:#2e7d32;cursor:pointer}.dot:hover,.dot:focus{fill:#ef6c00}.faint{fill:#8887}\
.point pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#8882;padding:.5rem;border-radius:.3rem}</style>";

const SIZE: (f64, f64) = (760.0, 420.0);
const MARGIN: (f64, f64) = (70.0, 40.0);

/// The picture, followed by the details of each point of the front, which are hidden until it is clicked.
pub fn front(points: &[Point], x: &str, y: &str) -> String {
    let finite = || points.iter().filter(|p| p.at.0.is_finite() && p.at.1.is_finite());
    let span = |of: fn(&Point) -> f64| {
        let (low, high) =
            finite().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        match high > low {
            true => (low - 0.03 * (high - low), high + 0.03 * (high - low)),
            false if high.is_finite() => (low - 1.0, high + 1.0),
            false => (0.0, 1.0),
        }
    };
    let (xs, ys) = (span(|p| p.at.0), span(|p| p.at.1));
    let place = |(a, b): (f64, f64)| {
        let (w, h) = (SIZE.0 - MARGIN.0 - 15.0, SIZE.1 - MARGIN.1 - 15.0);
        (MARGIN.0 + w * (a - xs.0) / (xs.1 - xs.0), 15.0 + h * (1.0 - (b - ys.0) / (ys.1 - ys.0)))
    };
    let mut svg = format!(
        "{STYLE}<svg viewBox=\"0 0 {} {}\" role=img font-family=sans-serif font-size=12 fill=#282c34>",
        SIZE.0, SIZE.1
    );
    for i in 0..=5 {
        let share = f64::from(i) / 5.0;
        let (a, b) = (xs.0 + share * (xs.1 - xs.0), ys.0 + share * (ys.1 - ys.0));
        let (px, py) = (place((a, ys.0)), place((xs.0, b)));
        svg.push_str(&format!(
            "<path d=\"M{:.1} 15V{:.1}M{} {:.1}H{}\" stroke=#8883 /><text x={:.1} y={:.1} text-anchor=middle>{}</text>\
             <text x={} y={:.1} text-anchor=end>{}</text>",
            px.0,
            px.1,
            MARGIN.0,
            py.1,
            SIZE.0 - 15.0,
            px.0,
            px.1 + 16.0,
            number(a),
            MARGIN.0 - 6.0,
            py.1 + 4.0,
            number(b)
        ));
    }
    svg.push_str(&format!(
        "<text x={} y={} text-anchor=end>{}</text><text x=8 y=12>{}</text>",
        SIZE.0 - 15.0,
        SIZE.1 - 4.0,
        escape(x),
        escape(y)
    ));
    for p in finite().filter(|p| !p.front) {
        let (cx, cy) = place(p.at);
        svg.push_str(&format!("<circle class=faint cx={cx:.1} cy={cy:.1} r=3 />"));
    }
    let mut line: Vec<(f64, f64)> = finite().filter(|p| p.front).map(|p| p.at).collect();
    line.sort_by(|a, b| a.0.total_cmp(&b.0));
    let path: Vec<String> = line.iter().map(|&at| place(at)).map(|(a, b)| format!("{a:.1},{b:.1}")).collect();
    svg.push_str(&format!("<polyline points=\"{}\" fill=none stroke=#2e7d32 />", path.join(" ")));
    for p in finite().filter(|p| p.front) {
        let (cx, cy) = place(p.at);
        svg.push_str(&format!(
            "<a href=\"#{}\"><circle class=dot cx={cx:.1} cy={cy:.1} r=6><title>{}</title></circle></a>",
            escape(&p.id),
            escape(&p.title)
        ));
    }
    svg.push_str("</svg>");
    for p in points.iter().filter(|p| p.front) {
        svg.push_str(&format!("<div class=point id=\"{}\"><h3>{}</h3>", escape(&p.id), escape(&p.title)));
        if let Some(table) = &p.table {
            svg.push_str(&crate::html::table(table));
        }
        svg.push_str(&format!("<pre>{}</pre></div>", escape(&p.command)));
    }
    svg
}

fn number(v: f64) -> String {
    match v.abs() {
        a if a >= 1e6 => format!("{:.2} M", v / 1e6),
        a if a >= 1e4 => format!("{:.0} k", v / 1e3),
        a if a >= 100.0 => format!("{v:.0}"),
        _ => format!("{v:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_can_be_clicked_and_names_cannot_break_out() {
        let point = |id: &str, at, front| Point {
            id: id.into(),
            at,
            front,
            title: "<script>".into(),
            table: None,
            command: "compile <a>".into(),
        };
        let html =
            front(&[point("p-0", (1.0, 2.0), true), point("p-1", (3.0, 1.0), false)], "flash & co", "%");
        assert!(
            html.contains("href=\"#p-0\"") && html.contains("id=\"p-0\"") && !html.contains("id=\"p-1\"")
        );
        assert!(!html.contains("<script>") && html.contains("flash &amp; co"));
        // No points, one point and points that are not finite must not fail.
        assert!(front(&[], "x", "y").contains("<svg"));
        assert!(!front(&[point("n", (f64::NAN, 1.0), true)], "x", "y").contains("NaN"));
    }
}
