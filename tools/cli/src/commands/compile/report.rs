//! The report of `offshoot compile`.

use offshoot_compress::nest::NestReport;
use offshoot_compress::quantize::QuantizeReport;
use offshoot_export::{CompileReport, Compiled};
use offshoot_ir::Graph;
use offshoot_ir::passes::PassReport;
use offshoot_report::Table;
use offshoot_report::table::{tail, thousands};
use serde::Serialize;

use super::Precision;
use crate::commands::decibels;
use crate::ui::Outcome;

/// Result of `compile`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// File written.
    pub output: String,
    /// Number format.
    pub precision: Precision,
    /// Sizes, plan, operators.
    #[serde(flatten)]
    pub compiled: CompileReport,
    /// What each lossless pass did.
    pub passes: Vec<PassReport>,
    /// Quantisation, operator by operator; none for f32 and for networks that were already quantised.
    pub quantisation: Option<QuantizeReport>,
    /// Signal-to-noise ratio in dB of the outputs against the float network, on the calibration samples. The lowest of
    /// several outputs; none if nothing was quantised.
    pub outputs_snr_db: Option<f64>,
    /// Warnings about accuracy.
    pub warnings: Vec<String>,
    /// Layers of a network that came quantised whose output had no scale: `--calib` gave it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calibrated: Vec<String>,
    /// Which layers of each sub-network share the large network's weights.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nested: Vec<NestReport>,
}

/// A compiled network that has not been written yet.
#[derive(Debug)]
pub struct Made {
    /// The graph that was compiled.
    pub graph: Graph,
    /// The file's bytes and their report.
    pub compiled: Compiled,
    /// Quantisation, operator by operator.
    pub quantisation: Option<QuantizeReport>,
    /// Number format.
    pub precision: Precision,
    /// As [`Report::calibrated`].
    pub calibrated: Vec<String>,
    /// Which layers of each sub-network share the large network's weights.
    pub nested: Vec<NestReport>,
}

impl Outcome for Report {
    fn render(&self) -> String {
        let c = &self.compiled;
        let mut facts = Table::new(["", "bytes"]);
        facts
            .row(["model (flash)", &thousands(c.model_bytes)])
            .row(["  weights", &thousands(c.weights_bytes)])
            .row(["arena (RAM)", &thousands(c.arena_bytes)])
            .row(["  proved lower bound", &thousands(c.arena_lower_bound_bytes)]);
        if let Some(unfused) = c.arena_unfused_bytes {
            facts.row(["  without fused row tiles", &thousands(unfused)]);
        }
        for stage in c.operators.iter().filter(|o| !o.members.is_empty()) {
            facts.row(["  fused row tiles", &stage.members.join(" + ")]);
        }
        if let Some(l) = &c.learning {
            facts
                .row(["training arena (RAM)", &thousands(l.train_arena_bytes)])
                .row(["  trainable weights", &thousands(l.train_weights_bytes)])
                .row(["  workspace of a train step", &thousands(l.train_workspace_bytes)]);
            if l.train_normalizer_bytes > 0 {
                facts.row(["  input normaliser", &thousands(l.train_normalizer_bytes)]);
            }
            if let Some(head) = l.head {
                let name = format!("  classifier head ({head}, {} features)", l.features);
                facts.row([name.as_str(), &thousands(l.train_head_bytes)]);
            }
        }
        let mut text = format!(
            "{}: {} operators, {} MACs\n{facts}\n",
            self.output,
            c.operators.len(),
            thousands(c.macs)
        );
        text.push_str(&networks_text(c, &self.nested));
        for pass in self.passes.iter().filter(|p| p.changed) {
            text.push_str(&format!("{}: {}\n", pass.name, pass.detail));
        }
        for op in &c.operators {
            if let Some(sparse) = &op.sparse {
                text.push_str(&format!("`{}`: {}\n", op.name, sparse.sentence()));
            }
        }
        for plain in &c.plain_kernels {
            let [some, all] = plain.channels;
            let which = if some == all { String::new() } else { format!("{some} of {all} channels of ") };
            text.push_str(&format!("slower kernel for {which}`{}`: {}\n", plain.node, plain.reason));
        }
        for layer in &self.calibrated {
            text.push_str(&format!("output scale from the calibration samples: `{layer}`\n"));
        }
        for fallback in &c.fallbacks {
            text.push_str(&format!(
                "kept in float: {} `{}`: {}\n",
                fallback.operator, fallback.node, fallback.reason
            ));
        }
        if let Some(q) = &self.quantisation {
            text.push_str(&format!("{}\n", quantisation_table(q)));
            if let Some(snr) = self.outputs_snr_db {
                text.push_str(&format!("outputs on the calibration samples: {}\n", decibels(snr)));
            }
            q.warnings.iter().for_each(|w| text.push_str(&format!("note: {w}\n")));
            self.warnings.iter().for_each(|w| text.push_str(&format!("warning: {w}\n")));
        }
        text
    }
}

/// A table of the sub-networks; empty if there are none.
fn networks_text(report: &CompileReport, nested: &[NestReport]) -> String {
    if report.networks.is_empty() {
        return String::new();
    }
    let mut table =
        Table::new(["network", "MACs", "arena, bytes", "added to file, bytes", "layers with shared weights"]);
    for n in &report.networks {
        let [shared, all] = n.shared_operators;
        let bytes = [n.macs, n.arena_bytes, n.added_bytes].map(thousands);
        table.row([
            n.network.to_string(),
            bytes[0].clone(),
            bytes[1].clone(),
            bytes[2].clone(),
            format!("{shared} of {all}"),
        ]);
    }
    let mut text = format!("{table}\n");
    for (i, report) in nested.iter().enumerate() {
        for (layer, reason) in &report.own {
            text.push_str(&format!("network {}: `{layer}` has its own weights: {reason}\n", i + 1));
        }
    }
    text
}

/// Signal-to-noise ratios in dB, operator by operator: of the weights, of the operator alone, and accumulated.
pub fn quantisation_table(report: &QuantizeReport) -> Table {
    let mut table = Table::new(["operator", "kind", "bits", "weights", "alone", "accumulated"]);
    for op in &report.operators {
        let weight = op.weight_snr_db.map_or("-".into(), decibels);
        let (own, cumulative) = (decibels(op.own_snr_db), decibels(op.output_snr_db));
        let bits = op.weight_bits.map_or("-".into(), |b| b.to_string());
        table.row([tail(&op.name, 44), op.kind.to_owned(), bits, weight, own, cumulative]);
    }
    table
}
