//! Report on the effect of quantisation on each operator.

use serde::Serialize;

use super::options::{Clipping, QuantizeOptions, Rounding, Toggle, WeightScale};

/// One operator of the float network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OperatorNoise {
    /// Name of the node.
    pub name: String,
    /// Kind, as [`offshoot_ir::Op::name`].
    pub kind: &'static str,
    /// Whether it stays float32.
    pub float: bool,
    /// Scale of the output; 0 if it is not int8.
    pub scale: f32,
    /// Zero point of the output.
    pub zero_point: i32,
    /// How the output's range was chosen; `None` if the specification fixes it or it is not int8.
    pub clipping: Option<Clipping>,
    /// Share of the output's calibration values outside its range.
    pub clipped: f32,
    /// Bits of the weights; `None` without weights.
    pub weight_bits: Option<u8>,
    /// Signal-to-noise ratio of the weights, dB; `None` without weights.
    pub weight_snr_db: Option<f32>,
    /// Signal-to-noise ratio of the output with only this operator quantised, dB.
    pub own_snr_db: f32,
    /// Signal-to-noise ratio of the output with everything up to here quantised, dB.
    pub output_snr_db: f32,
}

/// Report of [`super::quantize`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QuantizeReport {
    /// Every operator, in the network's order.
    pub operators: Vec<OperatorNoise>,
    /// The way of clipping that was chosen.
    pub clipping: Clipping,
    /// The way of choosing weight scales.
    pub weight_scale: WeightScale,
    /// The rounding that was chosen.
    pub rounding: Rounding,
    /// Whether biases were corrected.
    pub bias_correction: bool,
    /// Signal-to-noise ratio of the network's outputs (before a final softmax or sigmoid), dB, on samples that were
    /// not used to choose ranges and weights; on the calibration samples if there are fewer than four.
    pub held_out_snr_db: f32,
    /// Calibration samples given.
    pub samples: usize,
    /// Indices of the samples that lie far beyond all others and were left out.
    pub left_out: Vec<usize>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

impl QuantizeReport {
    /// `options` with the choices that were made.
    pub fn settled(&self, options: &QuantizeOptions) -> QuantizeOptions {
        QuantizeOptions {
            clipping: self.clipping,
            weight_scale: self.weight_scale,
            rounding: self.rounding,
            bias_correction: if self.bias_correction { Toggle::On } else { Toggle::Off },
            ..options.clone()
        }
    }

    /// The operators, those with the lowest [`OperatorNoise::own_snr_db`] first.
    pub fn worst_first(&self) -> Vec<&OperatorNoise> {
        let mut rows: Vec<_> = self.operators.iter().collect();
        rows.sort_by(|a, b| a.own_snr_db.total_cmp(&b.own_snr_db));
        rows
    }

    /// The report as a text table, worst operator first.
    pub fn table(&self) -> String {
        let width = self.operators.iter().map(|o| o.name.chars().count()).max().unwrap_or(0).clamp(8, 40);
        let mut out = format!(
            "{:width$}  {:16} {:>12} {:>5} {:>9} {:>10} {:>8} {:>8}\n",
            "operator", "kind", "scale", "zero", "clipped %", "weights dB", "own dB", "net dB"
        );
        for o in self.worst_first() {
            let name: String = o.name.chars().take(width).collect();
            let weights = o.weight_snr_db.map_or_else(|| "-".to_owned(), |v| format!("{v:.1}"));
            out += &format!(
                "{name:width$}  {:16} {:>12.6e} {:>5} {:>9.4} {weights:>10} {:>8.1} {:>8.1}\n",
                o.kind,
                o.scale,
                o.zero_point,
                o.clipped * 100.0,
                o.own_snr_db,
                o.output_snr_db
            );
        }
        out
    }
}
