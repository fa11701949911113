//! Spectra of frames, by the device's kernels, whose float32 is the definition.

use ndarray::{ArrayD, IxDyn};
use offshoot::format::record::SpectrumPart;
use offshoot::kernels::portable as kernels;

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
