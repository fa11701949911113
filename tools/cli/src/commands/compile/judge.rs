//! Compares the outputs of a compiled file with those of the float network.

use ndarray::ArrayD;
use offshoot::format::record::DType;
use offshoot_compress::quantize::{QuantizeReport, pooled, simulate_sequences};
use offshoot_ir::Graph;
use offshoot_target::Target;
use rayon::prelude::*;

use super::complete::is_quantised;
use crate::batch::{self, Inputs, Sequences};
use crate::encode::Encoded;
use crate::failure::{Context, Failure, Kind, Result};
use crate::files::OffFile;
use crate::ui::Ui;

/// Below this ratio, `compile` warns.
const DOUBTFUL_DB: f64 = 20.0;
/// Below this ratio, the outputs are mostly noise and `compile` fails.
const POOR_DB: f64 = 10.0;
/// Most samples to run.
const MOST_SAMPLES: usize = 256;

/// Signal-to-noise ratio in dB of the compiled file's outputs against those of the network as it was given, on the calibration samples
/// (evenly thinned to [`MOST_SAMPLES`]; the first ones if the file keeps state). Both carry the state from sample to sample and
/// reset it after `reset_every`. The lowest of several outputs; `None` if no output can be compared because
/// they are integers or all zero.
pub(super) fn outputs_snr_db(
    ui: &Ui,
    float: &Graph,
    bytes: &[u8],
    samples: &[Vec<ArrayD<f32>>],
    reset_every: Option<u32>,
) -> Result<Option<f64>> {
    let file = OffFile::from_bytes(bytes);
    let model = file.model()?;
    let keeps_state = model.keeps_state();
    let step = if keeps_state { 1 } else { samples.len().div_ceil(MOST_SAMPLES).max(1) };
    let taken: Vec<&Vec<ArrayD<f32>>> = samples.iter().step_by(step).take(MOST_SAMPLES).collect();
    let mut columns = Vec::new();
    for i in 0..model.input_count() {
        let port = batch::input_port(&model, i)?;
        let encoded: Vec<Vec<u8>> = taken.iter().map(|s| port.encode_real(s[i].iter().copied())).collect();
        columns.push(Encoded::of_bytes(&encoded)?);
    }
    let inputs = Inputs::of_columns(columns)?;
    let sequences = Sequences { reset_every: reset_every.filter(|_| keeps_state) };
    let ports =
        (0..model.output_count()).map(|o| batch::output_port(&model, o)).collect::<Result<Vec<_>>>()?;
    // Energies of signal and noise by output and sample.
    let mut energies = vec![Vec::with_capacity(taken.len()); ports.len()];
    let wanted = float_outputs(float, &taken, keeps_state.then(|| sequences.samples()))?;
    let mut wanted = wanted.iter();
    batch::run_each(ui, &file, &inputs, &Target::Host, sequences, &mut |outputs| {
        let Some(wanted) = wanted.next() else { return Ok(()) };
        for (((port, bytes), want), energies) in ports.iter().zip(&outputs).zip(wanted).zip(&mut energies) {
            let (mut signal, mut noise) = (0.0f64, 0.0f64);
            for (got, want) in port.decode(bytes).iter().zip(want.iter()).filter(|(_, w)| w.is_finite()) {
                signal += f64::from(*want).powi(2);
                noise += (f64::from(*got) - f64::from(*want)).powi(2);
            }
            energies.push((signal, noise));
        }
        Ok(())
    })?;
    let sums: Vec<(f64, f64)> = energies.iter().map(|e| pooled(e)).collect();
    let compared =
        ports.iter().zip(&sums).filter(|(port, (signal, _))| port.dtype != DType::I32 && *signal > 0.0);
    Ok(compared.map(|(_, sums)| decibels(*sums)).min_by(f64::total_cmp))
}

/// Signal-to-noise ratio in dB, clamped to ±200, since JSON has no infinity.
pub(super) fn decibels((signal, noise): (f64, f64)) -> f64 {
    match 10.0 * (signal / noise).log10() {
        snr if snr.is_nan() => -200.0,
        snr => snr.clamp(-200.0, 200.0),
    }
}

/// Outputs of the network as it was given: of a float network, or of a quantised one with its roundings. It carries its state through `sequence` samples.
fn float_outputs(
    float: &Graph,
    samples: &[&Vec<ArrayD<f32>>],
    sequence: Option<usize>,
) -> Result<Vec<Vec<ArrayD<f32>>>> {
    const HELP: &str = "this is a bug in Offshoot: report it with the model";
    if sequence.is_some() || is_quantised(float) {
        return simulate_sequences(float, samples, sequence).or_fail(Kind::Internal, HELP);
    }
    let executor = offshoot_reference::Executor::new(float).or_fail(Kind::Internal, HELP)?;
    samples.par_iter().map(|sample| executor.run(sample).or_fail(Kind::Internal, HELP)).collect()
}

/// The warning for outputs with this ratio, if there is one. `oracle`: [`offshoot_compress::quantize::rounded_oracle_db`].
///
/// # Errors
/// The outputs are mostly noise, and `allow_poor` is not set.
pub(super) fn verdict(
    snr: f64,
    report: Option<&QuantizeReport>,
    allow_poor: bool,
    oracle: impl FnOnce() -> offshoot_compress::Result<f32>,
) -> Result<Option<String>> {
    if snr >= DOUBTFUL_DB {
        return Ok(None);
    }
    let worst = report.and_then(|r| r.worst_first().into_iter().find(|o| !o.float));
    let named = worst.map_or(String::new(), |o| {
        format!("; operator `{}` ({}) loses most: {:.1} dB alone", o.name, o.kind, o.own_snr_db)
    });
    let rounded = oracle().map_or(String::new(), |db| {
        format!(" (the float network with only its inputs and weights rounded to int8 reaches {db:.1} dB)")
    });
    let message = format!(
        "the outputs have a signal-to-noise ratio of only {snr:.1} dB against the float network{rounded}{named}"
    );
    let keep = worst.map_or("NAME".into(), |o| o.name.clone());
    let way_out = format!(
        "keep it in float with --keep-float '{keep}' (a name or a kind, repeatable), give more typical --calib \
         samples, or use --precision f32"
    );
    if snr < POOR_DB && !allow_poor {
        let help = format!("{way_out}; --allow-poor writes the file anyway");
        return Err(Failure::new(Kind::Accuracy, message, help));
    }
    Ok(Some(format!("{message}; {way_out}")))
}

/// The warning for outputs of a completed file with this ratio against those of the file as it was written, if there is one.
/// `worst`: [`super::complete::worst`].
///
/// # Errors
/// The outputs are mostly noise, and `allow_poor` is not set.
pub(super) fn verdict_on_completed(
    snr: f64,
    allow_poor: bool,
    worst: impl FnOnce() -> Result<Option<(String, f64)>>,
) -> Result<Option<String>> {
    if snr >= DOUBTFUL_DB {
        return Ok(None);
    }
    let worst = worst()?;
    let named = worst.as_ref().map_or(String::new(), |(name, db)| {
        format!("; the range of operator `{name}`, which the samples gave, hurts most: without it {db:.1} dB")
    });
    let message = format!(
        "the outputs have a signal-to-noise ratio of only {snr:.1} dB against those of the quantised file as it was \
         written{named}"
    );
    let keep = worst.map_or("NAME".into(), |(name, _)| name);
    let way_out = format!(
        "keep it in float with --keep-float '{keep}' (a name or a kind, repeatable), give more typical --calib samples, \
         or leave --calib out"
    );
    if snr < POOR_DB && !allow_poor {
        let help = format!("{way_out}; --allow-poor writes the file anyway");
        return Err(Failure::new(Kind::Accuracy, message, help));
    }
    Ok(Some(format!("{message}; {way_out}")))
}
