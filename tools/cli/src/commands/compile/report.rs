//! The report of `offshoot compile`.

use offshoot_compress::nest::NestReport;
use offshoot_compress::quantize::{self, QuantizeReport};
use offshoot_export::branch_costs::BranchCost;
use offshoot_export::{CompileReport, Compiled, Core, Fallback};
use offshoot_ir::Graph;
use offshoot_ir::passes::PassReport;
use offshoot_report::Table;
use offshoot_report::table::{tail, thousands};
use serde::Serialize;

use super::{OnChip, Precision};
use crate::commands::decibels;
use crate::signing::SignatureReport;
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
    /// Operators that stay in float32 because int8 would leave the outputs below 20 dB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_float: Option<KeptFloat>,
    /// Which layers of each sub-network share the large network's weights.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nested: Vec<NestReport>,
    /// What the signature says, if the model was signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<SignatureReport>,
    /// What the network takes of the chip that was named as the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_chip: Option<OnChip>,
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
    /// As [`Report::kept_float`].
    pub kept_float: Option<KeptFloat>,
    /// Which layers of each sub-network share the large network's weights.
    pub nested: Vec<NestReport>,
}

/// Operators that stay in float32 of `compile`'s own accord, and what they cost.
#[derive(Clone, Debug, Serialize)]
pub struct KeptFloat {
    /// Their names.
    pub operators: Vec<String>,
    /// Signal-to-noise ratio in dB of the outputs without them, all in int8.
    pub int8_snr_db: f32,
    /// The same with them, as simulated.
    pub snr_db: f32,
    /// Bytes of flash that they add.
    pub flash_bytes: i64,
    /// Bytes of arena that they add.
    pub arena_bytes: i64,
}

impl KeptFloat {
    /// `int8`: the file without them. `compiled` is the file with them, compiled for a core from `graph`; its list of fallbacks gets
    /// their reason.
    pub(super) fn new(
        remedy: &quantize::Remedy,
        (graph, core): (&Graph, Core),
        int8: Option<&CompileReport>,
        compiled: &mut CompileReport,
    ) -> Self {
        let reason = format!(
            "int8 would leave the outputs at {:.1} dB; --strict-int8 forbids float32",
            remedy.before_db
        );
        for name in &remedy.operators {
            match compiled.fallbacks.iter_mut().find(|f| f.node == *name) {
                Some(fallback) => fallback.reason.clone_from(&reason),
                None => {
                    let node = graph.nodes.iter().find(|n| n.name == *name);
                    let fallback = node.map(|node| Fallback::of(graph, node, reason.clone(), core));
                    compiled.fallbacks.extend(fallback);
                }
            }
        }
        let added = |with: u64, without: Option<u64>| with as i64 - without.unwrap_or(with) as i64;
        Self {
            operators: remedy.operators.clone(),
            int8_snr_db: remedy.before_db,
            snr_db: remedy.after_db,
            flash_bytes: added(compiled.model_bytes, int8.map(|r| r.model_bytes)),
            arena_bytes: added(compiled.arena_bytes, int8.map(|r| r.arena_bytes)),
        }
    }
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
        for fused in c.operators.iter().filter(|o| !o.members.is_empty()) {
            facts.row(["  fused row tiles", &fused.members.join(" + ")]);
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
        if let Some(signature) = &self.signature {
            text.push_str(&format!("signed: {}\n", signature.line()));
        }
        if let Some(l) = &c.learning {
            text.extend(l.recipe.iter().map(|r| format!("learning: {r}\n")));
            let better = l.better.iter();
            text.extend(better.map(|(what, bytes)| {
                format!("the next better form takes {} bytes of arena: {what}\n", thousands(*bytes))
            }));
        }
        text.push_str(&branches_text(&c.branches));
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
            let int8 = fallback.int8_instructions.map(|n| format!("; in int8 {}", thousands(n)));
            text.push_str(&format!(
                "kept in float: {} `{}`: {} (about {} instructions{})\n",
                fallback.operator,
                fallback.node,
                fallback.reason,
                thousands(fallback.instructions),
                int8.unwrap_or_default()
            ));
        }
        if let Some(kept) = &self.kept_float {
            text.push_str(&format!(
                "{} operators in float32 raise the outputs from {:.1} to {:.1} dB; they cost {} bytes of flash and {} of \
                 arena\n",
                kept.operators.len(),
                kept.int8_snr_db,
                kept.snr_db,
                kept.flash_bytes,
                kept.arena_bytes
            ));
        }
        if let Some(q) = &self.quantisation {
            text.push_str(&format!("{}\n", quantisation_table(q)));
        }
        if let Some(snr) = self.outputs_snr_db {
            text.push_str(&format!("outputs on the calibration samples: {}\n", decibels(snr)));
        }
        let notes = self.quantisation.iter().flat_map(|q| &q.warnings);
        notes.for_each(|w| text.push_str(&format!("note: {w}\n")));
        self.warnings.iter().for_each(|w| text.push_str(&format!("warning: {w}\n")));
        if let Some(chip) = &self.on_chip {
            text.push_str(&chip.render());
        }
        text
    }
}

/// A table of the branches of switches; empty if there are none.
pub(crate) fn branches_text(branches: &[BranchCost]) -> String {
    if branches.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["switch", "branch", "operators", "MACs", "weights"]);
    for b in branches {
        let counts = [b.switch as u64, b.branch as u64, b.operators as u64, b.macs, b.weights];
        table.row(counts.map(thousands));
    }
    format!("one branch of each switch runs; MACs above are those of the dearest\n{table}\n")
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
