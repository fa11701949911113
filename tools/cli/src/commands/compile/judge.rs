//! How near a compiled file comes to the float network, by what `run` gives.

use ndarray::ArrayD;
use offshoot::format::record::DType;
use offshoot_compress::quantize::QuantizeReport;
use offshoot_ir::Graph;
use offshoot_target::Target;
use rayon::prelude::*;

use crate::batch::{self, Inputs, Sequences};
use crate::failure::{Context, Failure, Kind, Result};
use crate::files::OffFile;
use crate::port::Encoded;
use crate::ui::Ui;

/// Below this a user should look at the outputs.
const DOUBTFUL_DB: f64 = 20.0;
/// Below this they are mostly noise.
const POOR_DB: f64 = 10.0;
/// Samples that are run, at most.
const MOST_SAMPLES: usize = 256;

/// Signal-to-noise ratio in dB of the compiled file's outputs against those of the float network, of several outputs the
/// lowest; `None` if nothing can be compared (whole numbers, outputs that are all zero). It is what `run` gives for the
/// calibration samples; of very many they are evenly taken.
pub(super) fn outputs_snr_db(
    ui: &Ui,
    float: &Graph,
    bytes: &[u8],
    samples: &[Vec<ArrayD<f32>>],
) -> Result<Option<f64>> {
    let step = samples.len().div_ceil(MOST_SAMPLES).max(1);
    let taken: Vec<&Vec<ArrayD<f32>>> = samples.iter().step_by(step).collect();
    let file = OffFile::from_bytes(bytes);
    let model = file.model()?;
    let mut columns = Vec::new();
    for i in 0..model.input_count() {
        let port = batch::input_port(&model, i)?;
        let encoded: Vec<Vec<u8>> = taken.iter().map(|s| port.encode_real(s[i].iter().copied())).collect();
        columns.push(Encoded::of_bytes(&encoded)?);
    }
    let inputs = Inputs::of_columns(columns)?;
    // The float network keeps no state: neither does the file, here.
    let sequences = Sequences { reset_every: model.keeps_state().then_some(1) };
    let executor = offshoot_reference::Executor::new(float).or_fail(Kind::Internal, "report this model")?;
    let ports =
        (0..model.output_count()).map(|o| batch::output_port(&model, o)).collect::<Result<Vec<_>>>()?;
    let mut sums = vec![(0.0f64, 0.0f64); ports.len()];
    let wanted: Vec<Vec<ArrayD<f32>>> = taken
        .par_iter()
        .map(|sample| executor.run(sample).or_fail(Kind::Internal, "report this model"))
        .collect::<Result<_>>()?;
    let mut wanted = wanted.iter();
    batch::run_each(ui, &file, &inputs, &Target::Host, sequences, &mut |outputs| {
        let Some(wanted) = wanted.next() else { return Ok(()) };
        for (((port, bytes), want), (signal, noise)) in ports.iter().zip(&outputs).zip(wanted).zip(&mut sums)
        {
            for (got, want) in port.decode(bytes).iter().zip(want.iter()).filter(|(_, w)| w.is_finite()) {
                *signal += f64::from(*want).powi(2);
                *noise += (f64::from(*got) - f64::from(*want)).powi(2);
            }
        }
        Ok(())
    })?;
    let compared =
        ports.iter().zip(&sums).filter(|(port, (signal, _))| port.dtype != DType::I32 && *signal > 0.0);
    // Within ±200, so that it stays a number in JSON.
    let decibels = |(signal, noise): (f64, f64)| match 10.0 * (signal / noise).log10() {
        snr if snr.is_nan() => -200.0,
        snr => snr.clamp(-200.0, 200.0),
    };
    Ok(compared.map(|(_, sums)| decibels(*sums)).min_by(f64::total_cmp))
}

/// What a user should be told of outputs with this ratio.
///
/// # Errors
/// They are mostly noise, and that is not allowed.
pub(super) fn verdict(snr: f64, report: &QuantizeReport, allow_poor: bool) -> Result<Option<String>> {
    if snr >= DOUBTFUL_DB {
        return Ok(None);
    }
    let worst = report.worst_first().into_iter().find(|o| !o.float);
    let named = worst.map_or(String::new(), |o| {
        format!("; operator `{}` ({}) hurts most, {:.1} dB alone", o.name, o.kind, o.own_snr_db)
    });
    let message = format!("the outputs have {snr:.1} dB against the float network{named}");
    let keep = worst.map_or("NAME".into(), |o| o.name.clone());
    let way_out = format!(
        "keep it in float: --keep-float '{keep}' (a name or a kind, repeat it for several), give more or other --calib \
         samples, or --precision f32"
    );
    if snr < POOR_DB && !allow_poor {
        let help = format!("{way_out}; --allow-poor writes the file all the same");
        return Err(Failure::new(Kind::Accuracy, message, help));
    }
    Ok(Some(format!("{message}; {way_out}")))
}
