//! Front ends, by the device's kernels, whose float32 is the definition.

use ndarray::{ArrayD, IxDyn};
use offshoot::format::record::{self, SpectrumPart};
use offshoot::kernels::portable as kernels;
use offshoot_ir::micro_frontend::MicroFrontend;

/// Transforms of frames of `frame` samples of each row of `x`, `hop` apart.
pub(crate) fn spectrum(
    x: &ArrayD<f32>,
    window: Option<&ArrayD<f32>>,
    [frame, hop, size]: [usize; 3],
    part: SpectrumPart,
    shape: &[usize],
) -> Result<ArrayD<f32>, String> {
    let &[signals, frames, ..] = shape else {
        return Err(format!("an output of shape {shape:?}"));
    };
    let samples = x.len() / signals.max(1);
    let x: Vec<f32> = x.iter().copied().collect();
    let window: Option<Vec<f32>> = window.map(|w| w.iter().copied().collect());
    let (mut work, mut out) = (vec![0.0; size], vec![0.0; shape.iter().product()]);
    let width = out.len() / (signals * frames).max(1);
    for (at, row) in out.chunks_exact_mut(width.max(1)).enumerate() {
        let from = at / frames * samples + at % frames * hop;
        let given = x.get(from..from + frame).ok_or("a frame beyond the signal")?;
        kernels::windowed(given, window.as_deref(), &mut work);
        kernels::transform(&mut work);
        kernels::bins(part, &work, row);
    }
    ArrayD::from_shape_vec(IxDyn(shape), out).map_err(|e| e.to_string())
}

/// Features in integers; the estimate of the noise begins with none.
pub(crate) fn micro_frontend(
    x: &ArrayD<f32>,
    settings: &MicroFrontend,
    shape: &[usize],
) -> Result<ArrayD<f32>, String> {
    micro_frontend_from(x, settings, shape, &mut vec![0; settings.channels])
}

/// Features in integers of `x`, `[1, samples]`, with the output's shape; `noise` is the estimate for each channel that earlier
/// samples gave (zeros if there are none), and becomes that of these samples.
///
/// # Errors
/// The settings are invalid, or do not fit the shapes.
pub fn micro_frontend_from(
    x: &ArrayD<f32>,
    settings: &MicroFrontend,
    shape: &[usize],
    noise: &mut [u32],
) -> Result<ArrayD<f32>, String> {
    let tables = settings.tables()?;
    let r = record::MicroFrontend {
        src: 0,
        dst: 0,
        scratch: 0,
        kept: None,
        samples: x.len() as u32,
        frames: 0,
        hop: settings.hop as u16,
        frame: settings.frame as u16,
        size: settings.size() as u16,
        channels: settings.channels as u16,
        start: tables.start,
        entries: tables.weights.len() as u16,
        smoothing_bits: settings.smoothing_bits,
        smoothing: tables.smoothing,
        remaining: tables.remaining,
        gain: settings.gain.as_ref().map(|_| tables.shift),
        log: settings.log,
        blob: 0,
    };
    let t = kernels::MicroTables {
        window: &tables.window,
        twiddles: &tables.twiddles,
        halves: &tables.halves,
        widths: &tables.widths,
        weights: &tables.weights,
        gain: &tables.gain,
        log: &tables.log,
    };
    let x: Vec<f32> = x.iter().copied().collect();
    let (mut work, mut out) = (vec![0; 2 * settings.size()], vec![0.0; shape.iter().product()]);
    let mut signal = vec![0; settings.channels];
    for (at, row) in out.chunks_exact_mut(settings.channels.max(1)).enumerate() {
        let given = x.get(at * settings.hop..).and_then(|rest| rest.get(..settings.frame));
        let shift = kernels::micro_spectrum(&t, given.ok_or("a frame beyond the signal")?, &mut work);
        kernels::micro_bands(&r, &t, &work, shift, &mut signal);
        kernels::micro_noise(&r, &signal, noise);
        kernels::micro_features(&r, &t, &signal, noise, row);
    }
    ArrayD::from_shape_vec(IxDyn(shape), out).map_err(|e| e.to_string())
}
