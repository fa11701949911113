//! The demo's page: the network, its predictions, what it learns, and what it costs.

use offshoot_data::npy::Array;
use offshoot_data::synth::Task;
use offshoot_ir::{Graph, Op};
use offshoot_report::picture::{self, Line, Sample, Stage};
use offshoot_report::table::{tail, thousands};
use offshoot_report::{Page, Table, plot};

use super::learning::Learned;
use super::{Answers, Report, Shipped};
use crate::commands::{compile, inspect};
use crate::failure::{Context, Kind, Result};
use crate::metrics::argmax;

const HELP: &str = "this is a bug in Offshoot: report it with this message";

/// The page.
///
/// # Errors
/// None but bugs.
pub(super) fn page(
    model: &Shipped,
    task: Task,
    r: &Report,
    made: &compile::Made,
    off: &offshoot::Model<'_>,
    answers: &Answers,
) -> Result<String> {
    let mut page = Page::new(format!("Offshoot: {}", model.name));
    let mut facts = vec![
        ("float ONNX, bytes", thousands(r.onnx_bytes)),
        ("flash: the .off file, bytes", thousands(r.model_bytes)),
        ("RAM: the arena, bytes", thousands(r.arena_bytes)),
        ("proved lower bound", thousands(r.arena_lower_bound_bytes)),
        ("accuracy, float", percent(r.accuracy_float)),
        ("accuracy, int8", percent(r.accuracy_int8)),
    ];
    if let Some(l) = &r.learn {
        let change = format!("{} → {}", percent(l.report.accuracy_before), percent(l.report.accuracy_after));
        facts.push(("on shifted data, after learning", change));
    }
    page.paragraph(&format!(
        "A model for {}. The int8 predictions come from the runtime itself and are bit for bit those of the device.",
        model.what
    ));
    page.facts(facts);

    page.heading("The network");
    page.figure(&picture::network(&stages(&made.graph)), "bars: share of the multiply-accumulates");

    page.heading("Predictions");
    let classes = task.classes();
    let shown: Vec<usize> = (0..classes.len().min(answers.labels.len())).collect();
    page.figure(
        &picture::samples(&samples(&answers.x, task, &shown, |i| {
            let label = answers.labels[i];
            vec![
                Line { text: classes[label].into(), right: None },
                answer("float", classes, &answers.float[i], label),
                answer("int8", classes, &answers.int8[i], label),
            ]
        })),
        "one test sample of each class, and the predictions with their probabilities",
    );
    let guessed: Vec<usize> = answers.int8.iter().map(|scores| argmax(scores)).collect();
    page.figure(
        &picture::confusion(&names(classes), &r.confusion),
        &format!(
            "int8 on {} test samples: rows are the true classes, columns the predictions",
            guessed.len()
        ),
    );

    if let Some(l) = &r.learn {
        learned(&mut page, task, l, &answers.shifted_x, &answers.shifted_labels)?;
    }
    costs(&mut page, r, made, off)?;
    Ok(page.render())
}

fn percent(a: f64) -> String {
    format!("{:.1} %", 100.0 * a)
}

fn names(classes: &[&str]) -> Vec<String> {
    classes.iter().map(ToString::to_string).collect()
}

/// One prediction with its probability.
fn answer(who: &str, classes: &[&str], scores: &[f32], label: usize) -> Line {
    let best = argmax(scores);
    let text = format!("{who}: {} {:.0} %", classes[best], 100.0 * scores[best]);
    Line { text, right: Some(best == label) }
}

/// Operators of the graph as boxes.
fn stages(graph: &Graph) -> Vec<Stage> {
    let macs: Vec<u64> = graph.nodes.iter().map(|n| offshoot_ir::cost::macs(graph, n)).collect();
    let total = macs.iter().sum::<u64>().max(1) as f64;
    let writer = |id| graph.nodes.iter().position(|n| n.output == id);
    let stage = |(node, &macs): (&offshoot_ir::Node, &u64)| {
        let kernel = match &node.op {
            Op::Conv2d { window, .. } => format!(" {} × {}", window.kernel[0], window.kernel[1]),
            _ => String::new(),
        };
        let shape: Vec<String> =
            graph.value(node.output).shape.iter().skip(1).map(ToString::to_string).collect();
        Stage {
            title: format!("{}{kernel}: {}", node.op.name(), tail(&node.name, 22)),
            detail: match macs {
                0 => shape.join(" × "),
                _ => format!("{}, {} MACs", shape.join(" × "), thousands(macs)),
            },
            share: macs as f64 / total,
            inputs: node.inputs.iter().filter_map(|id| writer(*id)).collect(),
        }
    };
    graph.nodes.iter().zip(&macs).map(stage).collect()
}

/// Pictures of samples with lines of text below.
fn samples(x: &Array, task: Task, shown: &[usize], lines: impl Fn(usize) -> Vec<Line>) -> Vec<Sample> {
    let (values, shape) = (x.to_f32(), task.shape());
    let len: usize = shape.iter().product();
    let all: Vec<f32> = values.iter().copied().collect();
    let sample = |&i: &usize| Sample {
        values: all.get(i * len..(i + 1) * len).unwrap_or(&[]).iter().map(|v| v / 255.0).collect(),
        shape,
        lines: lines(i),
    };
    shown.iter().map(sample).collect()
}

/// The section on learning.
fn learned(page: &mut Page, task: Task, l: &Learned, x: &Array, labels: &[usize]) -> Result<()> {
    let classes = task.classes();
    page.heading("Learning on the device").paragraph(&format!(
        "The data change: {}. The network learns from {} labelled samples on {}, without backpropagation, in {} \
         bytes of arena. Accuracy on {} other samples goes from {} to {}.",
        l.what,
        l.samples,
        l.report.target,
        thousands(l.report.train_arena_bytes),
        labels.len(),
        percent(l.report.accuracy_before),
        percent(l.report.accuracy_after)
    ));
    let shown: Vec<usize> = (0..classes.len().min(labels.len())).collect();
    let said = |when: &str, class: usize, label: usize| Line {
        text: format!("{when}: {}", classes.get(class).unwrap_or(&"?")),
        right: Some(class == label),
    };
    let pictures = samples(x, task, &shown, |i| {
        let label = labels[i];
        vec![
            Line { text: classes[label].into(), right: None },
            said("before", l.before[i], label),
            said("after", l.after[i], label),
        ]
    });
    page.figure(
        &picture::samples(&pictures),
        "shifted test samples, and the predictions before and after learning",
    );

    let line = |of: fn(&super::learning::Point) -> f64| {
        let start = (0.0, 100.0 * l.curve_without);
        let points = l.curve.iter().map(|p| (p.samples as f64, 100.0 * of(p)));
        std::iter::once(start).chain(points).collect::<Vec<_>>()
    };
    let most = l.curve.last().map_or(0.0, |p| p.samples as f64);
    let without = vec![(0.0, 100.0 * l.curve_without), (most, 100.0 * l.curve_without)];
    let series = [
        ("adapt".to_owned(), line(|p| p.adapt)),
        ("last layer only".to_owned(), line(|p| p.last_layer)),
        ("no learning".to_owned(), without),
    ];
    let svg = plot::lines(&series, "labelled samples, each seen twice", "accuracy, %");
    page.figure(
        &svg.or_fail(Kind::Internal, HELP)?,
        "accuracy on test samples; adapt: input normaliser, local \
         rules for hidden layers, streaming LDA as classifier head",
    );
    let counts = super::confusion(classes.len(), labels, &l.before);
    page.figure(&picture::confusion(&names(classes), &counts), "shifted test samples before learning");
    let counts = super::confusion(classes.len(), labels, &l.after);
    page.figure(&picture::confusion(&names(classes), &counts), "shifted test samples after learning");
    Ok(())
}

/// The sections on instructions and memory.
fn costs(page: &mut Page, r: &Report, made: &compile::Made, off: &offshoot::Model<'_>) -> Result<()> {
    let operators = inspect::operators(off, Some(&made.graph));
    page.heading(&format!("Cost of every operator on {}", r.profile.target));
    let names: Vec<String> = r.profile.operators.iter().map(|o| o.name.clone()).collect();
    let counted = r.profile.instructions.is_some();
    let costs: Vec<f64> = (r.profile.operators.iter())
        .map(|o| {
            if counted { o.instructions.unwrap_or(0) as f64 } else { o.nanoseconds.unwrap_or(0) as f64 / 1e3 }
        })
        .collect();
    let unit = if counted { "instructions" } else { "µs" };
    page.figure(&plot::bars(&names, &costs, unit).or_fail(Kind::Internal, HELP)?, unit);

    page.heading("Memory over time");
    let blocks: Vec<plot::Block> = (made.compiled.report.tensors.iter())
        .map(|t| plot::Block { from: t.first, to: t.last, offset: t.offset, bytes: t.bytes })
        .collect();
    let svg = plot::timeline(&blocks, operators.len(), r.arena_bytes, r.arena_lower_bound_bytes);
    page.figure(
        &svg.or_fail(Kind::Internal, HELP)?,
        "every tensor in the arena; the line is the proved lower bound",
    );

    if let Some(q) = &made.quantisation {
        page.heading("Quantisation").paragraph("Signal-to-noise ratio against float: higher is better.");
        page.table(&compile::quantisation_table(q));
    }
    page.heading("Operators");
    let mut table = Table::new(["operator", "kind", "MACs", "weights", "output, bytes"]);
    for o in &operators {
        let cells =
            [tail(&o.name, 60), o.kind.clone(), thousands(o.macs), thousands(o.weights), thousands(o.bytes)];
        table.row(cells);
    }
    page.table(&table);
    Ok(())
}
