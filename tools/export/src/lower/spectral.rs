//! Operators of front ends: spectra of frames, and float32 layers whose outputs read neighbouring inputs only, as mel filters do.

use offshoot::format::codec::Record;
use offshoot::format::record::{self, SpectrumPart};
use offshoot_ir::micro_frontend::MicroFrontend;
use offshoot_ir::{Activation, ValueId};

use super::Context;
use crate::blobs;
use crate::forms::parameters::{Lowering, clamp_f32, constant_f32, to_u16, to_u32};
use crate::forms::wholes::Role;
use crate::lowered::Tensor;

/// Spectra of frames; float32 only.
pub(super) fn spectrum(
    c: &mut Context<'_>,
    x: &Tensor,
    y: &Tensor,
    window: Option<ValueId>,
    ([frame, hop, size], part): ([usize; 3], SpectrumPart),
) -> Lowering {
    let (&[signals, samples], &[_, frames, ..]) = (&x.shape[..], &y.shape[..]) else {
        return Err(format!("spectra {:?} of signals {:?}", y.shape, x.shape));
    };
    let window = match window {
        Some(window) => {
            let values = c.constant_f32(window)?;
            let bytes = 4 * values.len();
            Some(c.blob(blobs::floats(&values), [bytes, 0])?)
        }
        None => None,
    };
    let r = record::Spectrum {
        src: 0,
        dst: 0,
        scratch: 0,
        signals: to_u16(signals, "the number of signals")?,
        samples: to_u32(samples, "the number of samples")?,
        frames: to_u16(frames, "the number of frames")?,
        hop: to_u32(hop, "the hop")?,
        frame: to_u16(frame, "the samples of a frame")?,
        size: to_u16(size, "the size of the transform")?,
        part,
        window,
    };
    let scratch = c.allocate(4 * size)?;
    c.emit(Record::Spectrum(r), [Some(x), None], y, &[]).scratch = Some(scratch);
    Ok(())
}

/// The bands of a layer: what its outputs read, and with which weights.
pub(super) struct Bands {
    bias: Vec<f32>,
    /// First input and number of inputs of each output.
    spans: Vec<[u16; 2]>,
    weights: Vec<f32>,
}

/// Largest share of a layer's weights that its bands may hold: less must pay for finding each band.
const MOST_SHARE: f64 = 0.5;

/// The bands of a float32 layer if they hold much fewer weights than the whole; `None` for any other layer, and for one that
/// learns, since its weights move.
pub(super) fn bands(c: &Context<'_>, x: &Tensor, parameters: &[ValueId]) -> Lowering<Option<Bands>> {
    let constant = |v: &ValueId| c.graph.value(*v).data.is_some();
    if x.is_i8() || c.learns || c.role != Role::Alone || !parameters.iter().all(constant) {
        return Ok(None);
    }
    let &[outputs, inputs] = &c.graph.value(parameters[0]).shape[..] else { return Ok(None) };
    if u16::try_from(inputs).is_err() || u16::try_from(outputs).is_err() || inputs == 0 {
        return Ok(None);
    }
    let all = constant_f32(c.graph, parameters[0])?;
    let (mut spans, mut weights) = (Vec::new(), Vec::new());
    for row in all.chunks_exact(inputs) {
        let first = row.iter().position(|w| *w != 0.0).unwrap_or(0);
        let end = row.iter().rposition(|w| *w != 0.0).map_or(first, |last| last + 1);
        spans.push([first as u16, (end - first) as u16]);
        weights.extend(&row[first..end]);
    }
    // A band takes a word for its place.
    if (weights.len() + outputs) as f64 > MOST_SHARE * all.len() as f64 {
        return Ok(None);
    }
    let bias = match parameters.get(1) {
        Some(bias) => constant_f32(c.graph, *bias)?,
        None => vec![0.0; outputs],
    };
    Ok((bias.len() == outputs).then_some(Bands { bias, spans, weights }))
}

/// A layer with bands.
pub(super) fn banded(
    c: &mut Context<'_>,
    x: &Tensor,
    y: &Tensor,
    bands: &Bands,
    activation: Activation,
) -> Lowering {
    let (in_c, out_c) = (x.channels(1), bands.bias.len());
    let rows = y.len() / out_c.max(1);
    if x.len() != rows * in_c || y.channels(1) != out_c {
        return Err(format!("input {:?} does not match output {:?}", x.shape, y.shape));
    }
    let mut blob = blobs::floats(&bands.bias);
    blob.extend(bands.spans.iter().flatten().flat_map(|v| v.to_le_bytes()));
    blob.extend(blobs::floats(&bands.weights));
    let bytes = blob.len();
    let blob = c.blob(blob, [bytes - 4 * out_c, 4 * out_c])?;
    let entries = bands.weights.len();
    let r = record::FullyConnectedBanded {
        src: 0,
        dst: 0,
        rows: to_u32(rows, "the row count")?,
        in_c: to_u16(in_c, "the input width")?,
        out_c: to_u16(out_c, "the output width")?,
        entries: to_u32(entries, "the weights of a layer")?,
        clamp: clamp_f32(activation),
        blob,
    };
    let op = c.emit(Record::FullyConnectedBanded(r), [Some(x), None], y, &[]);
    (op.macs, op.weights) = ((rows * entries) as u64, entries as u64);
    Ok(())
}

/// Features in integers.
pub(super) fn micro_frontend(
    c: &mut Context<'_>,
    x: &Tensor,
    y: &Tensor,
    settings: &MicroFrontend,
) -> Lowering {
    let tables = settings.tables()?;
    let &[_, frames, channels] = &y.shape[..] else { return Err(format!("features of shape {:?}", y.shape)) };
    let pairs =
        |pairs: &[[i16; 2]]| pairs.iter().flatten().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let shorts = |values: &[i16]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let counts = |values: &[u16]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let mut blob = Vec::new();
    for part in [
        shorts(&tables.window),
        pairs(&tables.twiddles),
        pairs(&tables.halves),
        counts(&tables.widths),
        pairs(&tables.weights),
        shorts(&tables.gain),
        counts(&tables.log),
    ] {
        blob.extend(part);
        blob.resize(blob.len().next_multiple_of(4), 0);
    }
    let bytes = blob.len();
    let blob = c.blob(blob, [bytes, 0])?;
    let r = record::MicroFrontend {
        src: 0,
        dst: 0,
        scratch: 0,
        kept: settings.keeps.then_some(0),
        samples: to_u32(x.len(), "the number of samples")?,
        frames: to_u16(frames, "the number of frames")?,
        hop: to_u16(settings.hop, "the hop")?,
        frame: to_u16(settings.frame, "the samples of a frame")?,
        size: to_u16(settings.size(), "the size of the transform")?,
        channels: to_u16(channels, "the number of channels")?,
        start: tables.start,
        entries: to_u16(tables.weights.len(), "the bins of the channels")?,
        smoothing_bits: settings.smoothing_bits,
        smoothing: tables.smoothing,
        remaining: tables.remaining,
        gain: settings.gain.as_ref().map(|_| tables.shift),
        log: settings.log,
        blob,
    };
    let scratch = c.allocate(4 * r.scratch_words() as usize)?;
    let kept = settings.keeps.then(|| c.allocate(4 * r.kept_words() as usize)).transpose()?;
    let op = c.emit(Record::MicroFrontend(r), [Some(x), None], y, &[]);
    (op.scratch, op.kept) = (Some(scratch), kept);
    Ok(())
}
