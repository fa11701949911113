//! SVG pictures of a network, of samples with predictions, and of a confusion matrix.

use std::fmt::Write;

use crate::html::escape;

const INK: &str = "#282c34";
const FAINT: &str = "#6b7280";
const GOOD: &str = "#2e7d32";
const BAD: &str = "#d84315";

/// An operator of a network. Operators are in execution order.
#[derive(Clone, Debug)]
pub struct Stage {
    /// First line of its box.
    pub title: String,
    /// Second line of its box.
    pub detail: String,
    /// Share of the network's work, from 0 to 1, shown as a bar.
    pub share: f64,
    /// Positions of the operators whose outputs it reads; all come before it.
    pub inputs: Vec<usize>,
}

/// Draws a network from top to bottom, with branches side by side.
pub fn network(stages: &[Stage]) -> String {
    const BOX: (f64, f64) = (250.0, 40.0);
    const STEP: (f64, f64) = (300.0, 58.0);
    let mut depth = vec![0usize; stages.len()];
    for (i, stage) in stages.iter().enumerate() {
        depth[i] = stage.inputs.iter().filter(|&&j| j < i).map(|&j| depth[j] + 1).max().unwrap_or(0);
    }
    // Number of operators that follow. The longest branch goes straight down, shorter ones are beside it.
    let mut follow = vec![0usize; stages.len()];
    for (i, stage) in stages.iter().enumerate().rev() {
        for &j in stage.inputs.iter().filter(|&&j| j < i) {
            follow[j] = follow[j].max(follow[i] + 1);
        }
    }
    let before = |i: usize, j: usize| (follow[j], i) > (follow[i], j);
    let column: Vec<usize> = (0..stages.len())
        .map(|i| (0..stages.len()).filter(|&j| j != i && depth[j] == depth[i] && before(i, j)).count())
        .collect();
    let rows = depth.iter().max().map_or(0, |d| d + 1);
    let columns = column.iter().max().map_or(1, |c| c + 1);
    let (width, height) = (STEP.0 * columns as f64 + 60.0, STEP.1 * rows as f64 + 10.0);
    let corner = |i: usize| (40.0 + STEP.0 * column[i] as f64, 8.0 + STEP.1 * depth[i] as f64);
    let mut svg = open(width, height);
    for (i, stage) in stages.iter().enumerate() {
        let (x, y) = corner(i);
        let to = (x + BOX.0 / 2.0, y);
        for &j in stage.inputs.iter().filter(|&&j| j < i) {
            let (from_x, from_y) = corner(j);
            let from = (from_x + BOX.0 / 2.0, from_y + BOX.1);
            // The line passes boxes in the same column on their left.
            let passes = depth[i] - depth[j] > 1 && column[i] == column[j];
            let path = if passes {
                let (side, start, end) = (x - 26.0, from_y + BOX.1 / 2.0, y + BOX.1 / 2.0);
                format!(
                    "M{x} {start}C{side} {start} {side} {start} {side} {}V{}C{side} {end} {side} {end} {x} {end}",
                    start + 22.0,
                    end - 22.0
                )
            } else {
                let middle = (from.1 + to.1) / 2.0;
                format!("M{} {}C{} {middle} {} {middle} {} {}", from.0, from.1, from.0, to.0, to.0, to.1)
            };
            let _ = write!(svg, "<path d=\"{path}\" fill=none stroke={FAINT} stroke-width=1.5 />");
        }
    }
    for (i, stage) in stages.iter().enumerate() {
        let (x, y) = corner(i);
        let bar = BOX.0 * stage.share.clamp(0.0, 1.0);
        let _ = write!(
            svg,
            "<rect x={x} y={y} width={} height={} rx=5 fill=#f2f7f2 stroke={GOOD} />\
             <rect x={x} y={} width={bar:.1} height=4 fill={GOOD} opacity=.75 />\
             <text x={} y={} font-weight=600>{}</text><text x={} y={} fill={FAINT} font-size=11>{}</text>",
            BOX.0,
            BOX.1,
            y + BOX.1 - 4.0,
            x + 8.0,
            y + 16.0,
            escape(&stage.title),
            x + 8.0,
            y + 30.0,
            escape(&stage.detail)
        );
    }
    svg + "</svg>"
}

/// A line of text under a sample.
#[derive(Clone, Debug)]
pub struct Line {
    /// The text.
    pub text: String,
    /// Whether the prediction is right; `None` for a line that is no prediction.
    pub right: Option<bool>,
}

/// A sample with lines of text.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Values from 0 to 1, `[height, width, channels]`.
    pub values: Vec<f32>,
    /// Height, width, channels. A height of 1 is a series, drawn as one line per channel.
    pub shape: [usize; 3],
    /// Text below it.
    pub lines: Vec<Line>,
}

/// Draws samples in rows of five.
pub fn samples(all: &[Sample]) -> String {
    const CELL: f64 = 168.0;
    const SIDE: f64 = 128.0;
    const LINE: f64 = 15.0;
    let lines = all.iter().map(|s| s.lines.len()).max().unwrap_or(0);
    let high = SIDE + 18.0 + LINE * lines as f64;
    let mut svg = open(5.0 * CELL, all.len().div_ceil(5) as f64 * high);
    for (i, sample) in all.iter().enumerate() {
        let (x, y) = ((i % 5) as f64 * CELL, (i / 5) as f64 * high);
        match sample.shape {
            [1, ..] => series(&mut svg, sample, (x + 4.0, y + 4.0), SIDE),
            _ => image(&mut svg, sample, (x + 4.0, y + 4.0), SIDE),
        }
        for (n, line) in sample.lines.iter().enumerate() {
            let color = line.right.map_or(INK, |right| if right { GOOD } else { BAD });
            let below = y + SIDE + 18.0 + LINE * n as f64;
            let _ = write!(svg, "<text x={} y={below} fill={color}>{}</text>", x + 4.0, escape(&line.text));
        }
    }
    svg + "</svg>"
}

fn image(svg: &mut String, sample: &Sample, (x, y): (f64, f64), side: f64) {
    let [h, w, c] = sample.shape;
    let cell = side / h.max(w).max(1) as f64;
    let _ =
        write!(svg, "<rect x={x} y={y} width={} height={} fill=#101418 />", cell * w as f64, cell * h as f64);
    for row in 0..h {
        for column in 0..w {
            let from = (row * w + column) * c;
            let Some(values) = sample.values.get(from..from + c) else { continue };
            let byte = |v: f32| (255.0 * v.clamp(0.0, 1.0)).round() as u8;
            let color = match values {
                [r, g, b] => [byte(*r), byte(*g), byte(*b)],
                [gray, ..] => [byte(*gray); 3],
                [] => continue,
            };
            let [r, g, b] = color;
            let _ = write!(
                svg,
                "<rect x={:.1} y={:.1} width={:.1} height={:.1} fill=#{r:02x}{g:02x}{b:02x} />",
                x + cell * column as f64,
                y + cell * row as f64,
                cell + 0.1,
                cell + 0.1
            );
        }
    }
}

fn series(svg: &mut String, sample: &Sample, (x, y): (f64, f64), side: f64) {
    let [_, w, c] = sample.shape;
    let _ = write!(svg, "<rect x={x} y={y} width={} height={side} fill=#f6f7f9 />", side + 24.0);
    let colors = [GOOD, "#1976d2", "#ef6c00", "#7b1fa2"];
    for channel in 0..c {
        let at = |i: usize| sample.values.get(i * c + channel).copied().unwrap_or(0.0).clamp(0.0, 1.0);
        let lane = side / c as f64;
        let place = |i: usize| {
            let across = (side + 24.0) * i as f64 / w.max(2) as f64;
            (x + across, y + lane * (channel as f64 + 1.0 - f64::from(at(i))))
        };
        let points: Vec<String> = (0..w).map(place).map(|(a, b)| format!("{a:.1},{b:.1}")).collect();
        let color = colors[channel % colors.len()];
        let _ = write!(svg, "<polyline points=\"{}\" fill=none stroke={color} />", points.join(" "));
    }
}

/// Draws a confusion matrix: rows are the true classes, columns the predicted ones.
pub fn confusion(classes: &[String], counts: &[Vec<u32>]) -> String {
    const CELL: (f64, f64) = (46.0, 26.0);
    let left = 16.0 + 7.0 * classes.iter().map(|c| c.chars().count()).max().unwrap_or(0) as f64;
    let top = left;
    let n = classes.len() as f64;
    let mut svg = open(left + CELL.0 * n + 40.0, top + CELL.1 * n + 8.0);
    for (i, class) in classes.iter().enumerate() {
        let (x, y) = (left + CELL.0 * (i as f64 + 0.5), top + CELL.1 * (i as f64 + 0.65));
        let (class, base) = (escape(class), top - 8.0);
        let _ = write!(
            svg,
            "<text x={} y={y:.1} text-anchor=end>{class}</text>\
             <text x={x} y={base} transform=\"rotate(-50 {x} {base})\">{class}</text>",
            left - 8.0
        );
    }
    for (row, of_class) in counts.iter().enumerate() {
        let all = of_class.iter().sum::<u32>().max(1);
        for (column, &count) in of_class.iter().enumerate() {
            let share = f64::from(count) / f64::from(all);
            let (x, y) = (left + CELL.0 * column as f64, top + CELL.1 * row as f64);
            let color = if row == column { GOOD } else { BAD };
            let text = if share > 0.55 { "#fff" } else { INK };
            let _ = write!(
                svg,
                "<rect x={x} y={y} width={} height={} fill=#f3f4f6 />\
                 <rect x={x} y={y} width={} height={} fill={color} opacity={share:.2} />",
                CELL.0 - 2.0,
                CELL.1 - 2.0,
                CELL.0 - 2.0,
                CELL.1 - 2.0
            );
            if count > 0 {
                let _ = write!(
                    svg,
                    "<text x={} y={} text-anchor=middle fill={text}>{count}</text>",
                    x + CELL.0 / 2.0 - 1.0,
                    y + 17.0
                );
            }
        }
    }
    svg + "</svg>"
}

fn open(width: f64, height: f64) -> String {
    format!(
        "<svg viewBox=\"0 0 {width} {height}\" width={width} role=img font-family=sans-serif font-size=12 fill={INK}>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(title: &str, inputs: &[usize]) -> Stage {
        Stage { title: title.into(), detail: "1 × 1".into(), share: 0.5, inputs: inputs.to_vec() }
    }

    #[test]
    fn branches_stand_side_by_side_and_names_are_escaped() {
        let svg = network(&[stage("stem", &[]), stage("<a>", &[0]), stage("b", &[0]), stage("add", &[1, 2])]);
        assert_eq!(svg.matches("<path").count(), 4);
        assert!(svg.contains("&lt;a&gt;") && !svg.contains("<a>"));
        // Two columns.
        assert!(svg.starts_with("<svg viewBox=\"0 0 660 "), "{svg}");
        assert!(network(&[]).starts_with("<svg"));
        // An input that comes later is left out instead of being drawn upwards.
        assert!(!network(&[stage("x", &[1]), stage("y", &[])]).contains("<path"));
    }

    #[test]
    fn samples_are_images_or_lines() {
        let line = Line { text: "a & b".into(), right: Some(false) };
        let sample = |shape: [usize; 3]| Sample {
            values: vec![0.5; shape.iter().product()],
            shape,
            lines: vec![line.clone()],
        };
        let svg = samples(&[sample([2, 2, 1]), sample([1, 8, 3]), sample([2, 2, 3])]);
        assert_eq!(svg.matches("<polyline").count(), 3);
        assert!(svg.contains("#808080") && svg.contains("a &amp; b") && svg.contains(BAD));
        // Too few values must not panic.
        assert!(samples(&[Sample { values: vec![], shape: [4, 4, 1], lines: vec![] }]).contains("<svg"));
    }

    #[test]
    fn confusion_shows_counts() {
        let svg = confusion(&["a".into(), "b".into()], &[vec![3, 1], vec![0, 4]]);
        assert!(svg.contains(">3<") && svg.contains(">4<") && !svg.contains(">0<"));
    }
}
