//! Emits front ends: the Fourier transform of frames, and features in integers.

use offshoot_ir::micro_frontend::MicroFrontend;
use offshoot_ir::{Data, Node, SpectrumPart};

use super::nodes::{index, reshape};
use super::{Emitter, float, int};

/// STFT, whose window has zeros where a frame is shorter than the transform, and the arithmetic of what is kept.
pub(super) fn emit(
    e: &mut Emitter<'_>,
    node: &Node,
    [frame, hop, size]: [usize; 3],
    part: SpectrumPart,
) -> Result<(), String> {
    let (x, y) = (e.graph.value(node.inputs[0]), e.graph.value(node.output));
    let (&[signals, samples], &[_, frames, ..]) = (&x.shape[..], &y.shape[..]) else {
        return Err(format!("spectra {:?} of {:?}", y.shape, x.shape));
    };
    let mut window = vec![1.0; frame];
    if let Some(given) = node.inputs.get(1) {
        let Some(Data::F32(values)) = e.graph.value(*given).data.as_deref() else {
            return Err("the window is not constant".into());
        };
        window.clone_from(values);
    }
    window.resize(size, 0.0);
    let (output, mut signal) = (e.name(node.output), e.name(node.inputs[0]));
    // ONNX has no frame that reaches beyond the signal.
    let missing = ((frames - 1) * hop + size).saturating_sub(samples);
    if missing > 0 {
        let (pads, padded) = (index(e, vec![0, 0, 0, missing as i64]), e.fresh(&output));
        e.node("Pad", vec![signal, pads], &padded, vec![]);
        signal = padded;
    } else if (samples - size) / hop + 1 != frames {
        return Err("ONNX has more frames".into());
    }
    let signal = reshape(e, signal, &[signals, samples + missing, 1]);
    let window = e.constant("window", &[size], &Data::F32(window));
    let number = |e: &mut Emitter<'_>, v: usize| e.constant("index", &[], &Data::I64(vec![v as i64]));
    let (hop, length) = (number(e, hop), number(e, size));
    let complex = if part == SpectrumPart::Complex { output.clone() } else { e.fresh(&output) };
    e.node("STFT", vec![signal, hop, window, length], &complex, vec![int("onesided", 1)]);
    if part == SpectrumPart::Complex {
        return Ok(());
    }
    let squares = e.fresh(&output);
    e.node("Mul", vec![complex.clone(), complex], &squares, vec![]);
    let power = if part == SpectrumPart::Power { output.clone() } else { e.fresh(&output) };
    let axes = index(e, vec![3]);
    e.node("ReduceSum", vec![squares, axes], &power, vec![int("keepdims", 0)]);
    if part == SpectrumPart::Magnitude {
        e.node("Sqrt", vec![power], &output, vec![]);
    }
    Ok(())
}

/// An operator of this project's domain, since ONNX has none.
pub(super) fn micro_frontend(
    e: &mut Emitter<'_>,
    inputs: Vec<String>,
    output: &str,
    settings: &MicroFrontend,
) {
    let mut attributes = vec![
        int("rate", settings.rate.into()),
        int("frame", settings.frame as i64),
        int("hop", settings.hop as i64),
        int("channels", settings.channels as i64),
        float("low", settings.range[0]),
        float("high", settings.range[1]),
        int("smoothing_bits", settings.smoothing_bits.into()),
        float("even_smoothing", settings.smoothing[0]),
        float("odd_smoothing", settings.smoothing[1]),
        float("min_signal_remaining", settings.remaining),
        int("keeps", settings.keeps.into()),
    ];
    if let Some(gain) = &settings.gain {
        attributes.push(float("strength", gain.strength));
        attributes.push(float("offset", gain.offset));
        attributes.push(int("gain_bits", gain.bits.into()));
    }
    attributes.extend(settings.log.map(|bits| int("scale_shift", bits.into())));
    e.own_node("MicroFrontend", inputs, output, attributes);
}
