//! SVG plots: horizontal bars (cost per operator), lines (learning curves, trade-offs), memory timelines.

use plotters::prelude::*;

/// A plot could not be drawn; never for finite data.
#[derive(Debug, thiserror::Error)]
#[error("plot: {0}")]
pub struct PlotError(String);

fn wrap<E: std::fmt::Display>(e: E) -> PlotError {
    PlotError(e.to_string())
}

const INK: RGBColor = RGBColor(40, 44, 52);
const SERIES: [RGBColor; 6] = [
    RGBColor(46, 125, 50),
    RGBColor(25, 118, 210),
    RGBColor(239, 108, 0),
    RGBColor(123, 31, 162),
    RGBColor(0, 131, 143),
    RGBColor(198, 40, 40),
];

/// Draws horizontal bars, one per label; the scale fits the largest value.
///
/// # Errors
/// A value is not finite.
pub fn bars(labels: &[String], values: &[f64], unit: &str) -> Result<String, PlotError> {
    finite(values.iter())?;
    let (row, left, width) = (18i32, 190i32, 860i32);
    let height = row * labels.len() as i32 + 16;
    let top = values.iter().copied().fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (width as u32, height as u32)).into_drawing_area();
        let style = ("sans-serif", 12).into_font().color(&INK);
        for (i, (label, value)) in labels.iter().zip(values).enumerate() {
            let y = 8 + row * i as i32;
            let length = ((width - left - 120) as f64 * value / top).round() as i32;
            let short = crate::table::tail(label, 28);
            area.draw(&Text::new(short, (4, y + 2), style.clone())).map_err(wrap)?;
            let bar = [(left, y), (left + length.max(1), y + row - 5)];
            area.draw(&Rectangle::new(bar, SERIES[0].filled())).map_err(wrap)?;
            let text = format!("{} {unit}", compact(*value));
            area.draw(&Text::new(text, (left + length + 6, y + 2), style.clone())).map_err(wrap)?;
        }
        area.present().map_err(wrap)?;
    }
    Ok(svg)
}

/// Draws one line per series: (name, points).
///
/// # Errors
/// A value is not finite, or there are no points.
pub fn lines(
    series: &[(String, Vec<(f64, f64)>)],
    x_label: &str,
    y_label: &str,
) -> Result<String, PlotError> {
    let points = || series.iter().flat_map(|(_, p)| p.iter());
    finite(points().flat_map(|(x, y)| [x, y]))?;
    let range = |pick: fn(&(f64, f64)) -> f64| {
        let (low, high) =
            points().map(pick).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let margin = ((high - low) * 0.05).max(1e-9);
        (low - margin)..(high + margin)
    };
    if points().next().is_none() {
        return Err(PlotError("no points".into()));
    }
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (860, 360)).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .x_label_area_size(36)
            .y_label_area_size(60)
            .build_cartesian_2d(range(|p| p.0), range(|p| p.1))
            .map_err(wrap)?;
        chart
            .configure_mesh()
            .x_desc(x_label)
            .y_desc(y_label)
            .light_line_style(WHITE)
            .draw()
            .map_err(wrap)?;
        for (i, (name, points)) in series.iter().enumerate() {
            let color = SERIES[i % SERIES.len()];
            chart
                .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))
                .map_err(wrap)?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
        }
        chart.configure_series_labels().border_style(INK).background_style(WHITE).draw().map_err(wrap)?;
        area.present().map_err(wrap)?;
    }
    Ok(svg)
}

/// Lifetime and place of a tensor in the arena: steps `from..=to`, bytes `offset..offset + bytes`.
#[derive(Clone, Debug)]
pub struct Block {
    /// First step in which it is live.
    pub from: usize,
    /// Last step in which it is live.
    pub to: usize,
    /// Offset in the arena.
    pub offset: u64,
    /// Size in bytes.
    pub bytes: u64,
}

/// Draws the arena over time: operators from left to right, addresses from bottom to top. A line marks the lower bound.
///
/// # Errors
/// Drawing failed.
pub fn timeline(blocks: &[Block], steps: usize, arena: u64, lower_bound: u64) -> Result<String, PlotError> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (860, 320)).into_drawing_area();
        let top = arena.max(lower_bound).max(1) as f64 * 1.05;
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .x_label_area_size(36)
            .y_label_area_size(70)
            .build_cartesian_2d(0.0..steps.max(1) as f64, 0.0..top)
            .map_err(wrap)?;
        chart
            .configure_mesh()
            .x_desc("operator")
            .y_desc("arena, bytes")
            .light_line_style(WHITE)
            .draw()
            .map_err(wrap)?;
        for (i, b) in blocks.iter().enumerate() {
            let corners =
                [(b.from as f64, b.offset as f64), (b.to as f64 + 1.0, (b.offset + b.bytes) as f64)];
            let color = SERIES[i % SERIES.len()].mix(0.55);
            chart.draw_series([Rectangle::new(corners, color.filled())]).map_err(wrap)?;
        }
        let bound = lower_bound as f64;
        chart
            .draw_series(LineSeries::new([(0.0, bound), (steps as f64, bound)], INK.stroke_width(1)))
            .map_err(wrap)?;
        area.present().map_err(wrap)?;
    }
    Ok(svg)
}

fn finite<'a>(values: impl Iterator<Item = &'a f64>) -> Result<(), PlotError> {
    let mut values = values;
    if values.any(|v| !v.is_finite()) { Err(PlotError("a value is not finite".into())) } else { Ok(()) }
}

/// Formats `12_300_000` as `12.3 M`.
fn compact(v: f64) -> String {
    match v.abs() {
        a if a >= 1e6 => format!("{:.2} M", v / 1e6),
        a if a >= 1e4 => format!("{:.1} k", v / 1e3),
        a if a.fract() == 0.0 => format!("{v:.0}"),
        _ => format!("{v:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plots_are_svg() {
        let svg = bars(&["conv".into(), "softmax".into()], &[3e6, 12.0], "instructions").unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("3.00 M"));
        let svg = lines(&[("a".into(), vec![(0.0, 1.0), (1.0, 2.0)])], "step", "accuracy").unwrap();
        assert!(svg.contains("accuracy"));
        let block = Block { from: 0, to: 1, offset: 0, bytes: 64 };
        assert!(timeline(&[block], 2, 64, 64).unwrap().starts_with("<svg"));
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        assert!(bars(&["a".into()], &[f64::NAN], "").is_err());
        assert!(lines(&[("a".into(), vec![])], "x", "y").is_err());
    }
}
