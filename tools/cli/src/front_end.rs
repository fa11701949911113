//! Front ends as graphs: from samples of a signal to the features that a network reads.

use offshoot_compress::quantize::FRONT_END;
use offshoot_data::features::FrontEnd;
use offshoot_ir::micro_frontend::MicroFrontend;
use offshoot_ir::{
    Activation, BinaryKind, DType, Data, Graph, Node, Op, SpectrumPart, UnaryKind, Value, ValueId,
};

use crate::failure::{Context, Kind, Result};

/// What a front end gives for each frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Features {
    /// The power or the magnitude of each bin.
    Spectrum,
    /// The same as a logarithm.
    LogSpectrum,
    /// Logarithms of mel bands, or cepstral coefficients.
    Mel,
}

/// What is computed, and from how much of a signal.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The features.
    pub kind: FeatureKind,
    /// Signals, such as the axes of an accelerometer.
    pub signals: usize,
    /// Samples of a run, of each signal.
    pub samples: usize,
    /// A mean, which is taken away, and a deviation, which divides.
    pub scaled: Option<(f32, f32)>,
    /// With streaming: a run takes the samples that are new, and gives this many frames, of which all but the new ones are those of
    /// the runs before.
    pub streams: Option<usize>,
}

/// How features are computed.
#[derive(Clone, Debug)]
pub enum FeatureKind {
    /// In float32.
    Float(FrontEnd, Features),
    /// In integers.
    Integer(MicroFrontend),
}

impl Settings {
    /// Samples of a frame, and from a frame to the next.
    pub fn frame(&self) -> [usize; 2] {
        match &self.kind {
            FeatureKind::Float(front, _) => [front.window, front.hop],
            FeatureKind::Integer(front) => [front.frame, front.hop],
        }
    }
}

/// Builds the graph of a front end: `[signals, samples]` to `[signals, frames, features]`, float32.
///
/// # Errors
/// The settings contradict each other.
pub fn graph(settings: &Settings) -> Result<Graph> {
    let mut b = Builder { graph: Graph { name: "frontend".into(), ..Graph::default() } };
    let [window, hop] = settings.frame();
    let mut samples = settings.samples;
    let signals = settings.signals;
    let mut y = b.value(if signals == 1 { "audio" } else { "signals" }, vec![signals, samples]);
    b.graph.inputs.push(y);
    if settings.streams.is_some() && window > hop {
        samples += window - hop;
        let op = Op::History { axis: 1, state: window - hop, fill: 0.0 };
        y = b.node("signal", op, vec![y], vec![1, samples]);
    }
    let frames = samples.saturating_sub(window) / hop.max(1) + 1;
    let mut y = match &settings.kind {
        FeatureKind::Float(front, features) => float(&mut b, front, *features, (y, frames))?,
        FeatureKind::Integer(front) => {
            let keeps = settings.streams.is_some();
            let op = Op::MicroFrontend(MicroFrontend { keeps, ..front.clone() });
            b.node("channels", op, vec![y], vec![1, frames, front.channels])
        }
    };
    if let Some((mean, deviation)) = settings.scaled {
        let factor = b.constant("deviation", vec![1], vec![1.0 / f64::from(deviation)]);
        if mean != 0.0 {
            let mean = b.constant("mean", vec![1], vec![f64::from(mean)]);
            y = b.binary("centred", BinaryKind::Sub, y, mean);
        }
        y = b.binary("normalised", BinaryKind::Mul, y, factor);
    }
    if let Some(before) =
        settings.streams.and_then(|all| all.checked_sub(frames)).filter(|before| *before > 0)
    {
        let width = b.graph.value(y).shape[2];
        let op = Op::History { axis: 1, state: before, fill: 0.0 };
        y = b.node("recent", op, vec![y], vec![1, before + frames, width]);
    }
    b.graph.value_mut(y).name = format!("{FRONT_END}features");
    b.graph.outputs.push(y);
    b.graph.validate().or_fail(Kind::Usage, "give more samples, or a shorter window")?;
    Ok(b.graph)
}

/// The part in float32, from a signal of so many frames.
fn float(
    b: &mut Builder,
    front: &FrontEnd,
    features: Features,
    (signal, frames): (ValueId, usize),
) -> Result<ValueId> {
    front.check().or_fail(Kind::Usage, "see `offshoot frontend --help`")?;
    let signals = b.graph.value(signal).shape[0];
    let bins = front.fft / 2 + 1;
    let hann = b.constant("window", vec![front.window], front.hann());
    let part = if front.magnitude { SpectrumPart::Magnitude } else { SpectrumPart::Power };
    let op = Op::Spectrum { frame: front.window, hop: front.hop, size: front.fft, part };
    let mut y = b.node("spectrum", op, vec![signal, hann], vec![signals, frames, bins]);
    let mut width = bins;
    let linear = || Op::FullyConnected { activation: Activation::None };
    if features == Features::Mel {
        width = front.bands;
        let filters = b.constant("filters", vec![width, bins], front.mel_filters().iter().copied().collect());
        let floor = b.constant("floor", vec![width], vec![front.floor; width]);
        y = b.node("mel", linear(), vec![y, filters, floor], vec![signals, frames, width]);
    } else if features == Features::LogSpectrum {
        let floor = b.constant("floor", vec![1], vec![front.floor]);
        y = b.binary("above", BinaryKind::Add, y, floor);
    }
    if features != Features::Spectrum {
        y = b.node("log", Op::Unary(UnaryKind::Log), vec![y], vec![signals, frames, width]);
    }
    // From natural logarithms.
    let factor = if front.decibel { front.decibels() / std::f64::consts::LN_10 } else { 1.0 };
    match front.coefficients.filter(|_| features == Features::Mel) {
        Some(n) => {
            let cosines = front.cosines(n).t().iter().map(|v| v * factor).collect();
            let cosines = b.constant("cosines", vec![n, width], cosines);
            y = b.node("cepstrum", linear(), vec![y, cosines], vec![signals, frames, n]);
        }
        None if front.decibel && features != Features::Spectrum => {
            let factor = b.constant("decibel", vec![1], vec![factor]);
            y = b.binary("scaled", BinaryKind::Mul, y, factor);
        }
        None => {}
    }
    Ok(y)
}

struct Builder {
    graph: Graph,
}

impl Builder {
    fn value(&mut self, name: &str, shape: Vec<usize>) -> ValueId {
        self.graph.add_value(Value {
            name: name.to_owned(),
            shape,
            dtype: DType::F32,
            quant: None,
            data: None,
            channels_first_outside: false,
        })
    }

    fn constant(&mut self, name: &str, shape: Vec<usize>, values: Vec<f64>) -> ValueId {
        let values = values.into_iter().map(|v| v as f32).collect();
        self.graph.add_constant(format!("{FRONT_END}{name}"), shape, Data::F32(values))
    }

    fn node(&mut self, name: &str, op: Op, inputs: Vec<ValueId>, shape: Vec<usize>) -> ValueId {
        let name = format!("{FRONT_END}{name}");
        let output = self.value(&name, shape);
        self.graph.nodes.push(Node { name, op, inputs, output });
        output
    }

    fn binary(&mut self, name: &str, kind: BinaryKind, x: ValueId, by: ValueId) -> ValueId {
        let shape = self.graph.value(x).shape.clone();
        self.node(name, Op::Binary { kind, activation: Activation::None }, vec![x, by], shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{ArrayD, IxDyn};
    use offshoot_data::features::Filters;
    use offshoot_reference::Executor;

    /// Three tones that rise and fall in noise.
    fn sound(samples: usize) -> Vec<f32> {
        let mut state = 1u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1u32 << 23) as f32 - 1.0
        };
        let tone = |t: f32, hz: f32| (std::f32::consts::TAU * hz * t).sin();
        (0..samples)
            .map(|i| {
                let t = i as f32 / 16000.0;
                0.3 * tone(t, 220.0)
                    + 0.2 * tone(t, 1310.0 + 400.0 * t)
                    + 0.1 * tone(t, 3100.0)
                    + 0.05 * noise()
            })
            .collect()
    }

    #[test]
    fn graphs_give_the_features_of_float64() {
        let keywords =
            FrontEnd { filters: Filters::TensorFlow, magnitude: true, ..FrontEnd::keywords(16000) };
        let anomalies = FrontEnd {
            window: 1024,
            hop: 512,
            fft: 1024,
            bands: 128,
            range: (0.0, 8000.0),
            floor: f64::EPSILON,
            coefficients: None,
            filters: Filters::Slaney,
            decibel: true,
            ..FrontEnd::keywords(16000)
        };
        for (front, samples) in [(keywords, 16000), (anomalies, 3072), (FrontEnd::keywords(8000), 8000)] {
            let x = sound(samples);
            let exact = front.features(&x).unwrap();
            let kind = FeatureKind::Float(front.clone(), Features::Mel);
            let graph = graph(&Settings { kind, signals: 1, samples, scaled: None, streams: None }).unwrap();
            let x = ArrayD::from_shape_vec(IxDyn(&[1, samples]), x).unwrap();
            let ours = Executor::new(&graph).unwrap().run(std::slice::from_ref(&x)).unwrap();
            assert_eq!(ours[0].shape(), [1, exact.nrows(), exact.ncols()]);
            for (a, b) in ours[0].iter().zip(&exact) {
                assert!((a - b).abs() < 1e-3, "{a} instead of {b}");
            }
            let written = offshoot_import::emit(&graph).unwrap();
            let (again, _) = crate::files::parse_graph(&written, "again", &Default::default()).unwrap();
            assert_eq!(again.nodes.iter().filter(|n| matches!(n.op, Op::Spectrum { .. })).count(), 1);
            let theirs = Executor::new(&again).unwrap().run(&[x]).unwrap();
            for (a, b) in theirs[0].iter().zip(&exact) {
                assert!((a - b).abs() < 1e-3, "read again: {a} instead of {b}");
            }
        }
    }
}
