//! `offshoot frontend`: an ONNX file that turns samples of a signal into features, alone or in front of a network.

use std::path::PathBuf;

use offshoot_data::features::{Filters, FrontEnd};
use offshoot_ir::micro_frontend::MicroFrontend;
use serde::Serialize;

use crate::failure::{Context, Failure, Kind, Result};
use crate::files::{self, refuse_same_file};
use crate::front_end::{self, FeatureKind, Features, Settings};
use crate::ui::{Outcome, Ui};

/// What features are computed; each has the settings of a published front end by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Cepstral coefficients, as MLPerf Tiny's keyword spotting computes them.
    Mfcc,
    /// Logarithms of mel bands, as MLPerf Tiny's anomaly detection computes them.
    LogMel,
    /// Power or magnitude of each frequency.
    Spectrogram,
    /// Mel bands in integers, with noise reduction and gain control, as TensorFlow Lite Micro's microfrontend computes them.
    Microfrontend,
}

/// How the bands of a mel scale are shaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// HTK's scale, triangles in Hz (torchaudio).
    Htk,
    /// HTK's scale, triangles in mel (TensorFlow).
    Tensorflow,
    /// Slaney's scale, triangles of area 1 (librosa).
    Slaney,
}

/// What the bands sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Spectrum {
    /// Squared magnitudes.
    Power,
    /// Magnitudes.
    Magnitude,
}

/// The logarithm of what the bands sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Logarithm {
    /// Natural logarithm.
    Natural,
    /// Decibel.
    Decibel,
    /// None (of a spectrogram only).
    None,
}

/// A time: `30ms`, `1s`, or a number of samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Time {
    /// Seconds.
    Seconds(f64),
    /// Samples.
    Samples(usize),
}

impl Time {
    /// In samples.
    fn samples(self, rate: u32) -> usize {
        match self {
            Self::Seconds(seconds) => (seconds * f64::from(rate)).round() as usize,
            Self::Samples(samples) => samples,
        }
    }
}

impl std::str::FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let seconds = |number: &str, unit: f64| {
            let number: Option<f64> = number.trim().parse().ok();
            let seconds = number.map(|n| n * unit).filter(|s| (0.0..1e4).contains(s));
            seconds.map(Self::Seconds).ok_or_else(|| format!("`{text}` is no time such as 30ms or 1s"))
        };
        match (text.strip_suffix("ms"), text.strip_suffix('s')) {
            (Some(number), _) => seconds(number, 1e-3),
            (None, Some(number)) => seconds(number, 1.0),
            (None, None) => {
                let samples = text.parse().map(Self::Samples);
                samples.map_err(|_| format!("`{text}` is neither a time (30ms, 1s) nor a number of samples"))
            }
        }
    }
}

/// Arguments of `frontend`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What features are computed.
    #[arg(value_enum)]
    pub features: What,
    /// Samples per second.
    #[arg(long, default_value_t = 16000)]
    pub rate: u32,
    /// Signals, one behind the other, such as the axes of an accelerometer; each gives its own frames.
    #[arg(long, default_value_t = 1)]
    pub signals: usize,
    /// Signal that a run takes (1s, or samples); 1 s by default, five frames with log-mel.
    #[arg(long)]
    pub length: Option<Time>,
    /// Frames that a run gives, instead of its length.
    #[arg(long, conflicts_with = "length", value_parser = super::at_least_one)]
    pub frames: Option<usize>,
    /// Length of a frame (30ms, or samples).
    #[arg(long)]
    pub window: Option<Time>,
    /// From the begin of a frame to that of the next (20ms, or samples).
    #[arg(long)]
    pub hop: Option<Time>,
    /// Points of the Fourier transform, a power of two from 32 to 4096; by default the next one after the frame's length.
    #[arg(long)]
    pub fft: Option<usize>,
    /// Number of mel bands.
    #[arg(long)]
    pub mels: Option<usize>,
    /// Lowest frequency of the bands, Hz.
    #[arg(long)]
    pub low: Option<f64>,
    /// Highest frequency of the bands, Hz.
    #[arg(long)]
    pub high: Option<f64>,
    /// Number of cepstral coefficients.
    #[arg(long)]
    pub coefficients: Option<usize>,
    /// Shape of the bands.
    #[arg(long, value_enum)]
    pub filters: Option<Shape>,
    /// What the bands sum.
    #[arg(long, value_enum)]
    pub spectrum: Option<Spectrum>,
    /// The logarithm of that.
    #[arg(long, value_enum)]
    pub log: Option<Logarithm>,
    /// Added before the logarithm.
    #[arg(long)]
    pub floor: Option<f64>,
    /// No gain control (PCAN) in a microfrontend.
    #[arg(long)]
    pub no_pcan: bool,
    /// Mean and standard deviation that the network was trained with: features are (x - mean) / deviation.
    #[arg(long, value_delimiter = ',', num_args = 1, value_names = ["MEAN,DEVIATION"])]
    pub normalise: Vec<f32>,
    /// A run takes only the samples that are new, one hop or as --length says. The device keeps those that the next frame overlaps
    /// and, with --join, the features that the network still sees.
    #[arg(long, conflicts_with = "frames")]
    pub streaming: bool,
    /// Network (.onnx) whose input the features are; the result takes samples and gives its outputs.
    #[arg(long)]
    pub join: Option<PathBuf>,
    /// File to write (.onnx).
    #[arg(short, long)]
    pub output: PathBuf,
}

/// The front end that was written.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The file.
    pub output: String,
    /// What features are computed.
    pub features: What,
    /// Samples that a run takes, of each signal.
    pub samples: usize,
    /// Samples of a frame, and from a frame to the next.
    pub frame: [usize; 2],
    /// Points of the Fourier transform.
    pub fft: usize,
    /// Frames of all signals, and features of each.
    pub shape: [usize; 2],
    /// The network behind it.
    pub network: Option<String>,
}

impl Outcome for Report {
    fn render(&self) -> String {
        let [frames, width] = self.shape;
        let behind = self.network.as_ref().map_or(String::new(), |n| format!(", then the network of {n}"));
        format!(
            "{}: {} samples in; {frames} frames of {} samples, {} apart, {} points; {width} features each{behind}",
            self.output, self.samples, self.frame[0], self.frame[1], self.fft
        )
    }
}

const HELP: &str = "see `offshoot frontend --help`";

/// The settings that arguments ask for.
fn settings(args: &Args) -> Result<FrontEnd> {
    let (rate, kind) = (args.rate, args.features);
    let nyquist = f64::from(rate) / 2.0;
    let usual = match kind {
        What::Mfcc => FrontEnd { magnitude: true, filters: Filters::TensorFlow, ..FrontEnd::keywords(rate) },
        What::LogMel => FrontEnd {
            window: 1024,
            hop: 512,
            bands: 128,
            range: (0.0, nyquist),
            floor: f64::EPSILON,
            coefficients: None,
            filters: Filters::Slaney,
            decibel: true,
            ..FrontEnd::keywords(rate)
        },
        What::Microfrontend => {
            return Err(Failure::new(Kind::Usage, "these are settings of float features", HELP));
        }
        What::Spectrogram => FrontEnd {
            window: 256,
            hop: 128,
            range: (0.0, nyquist),
            coefficients: None,
            ..FrontEnd::keywords(rate)
        },
    };
    let window = args.window.map_or(usual.window, |time| time.samples(rate));
    if window > 1 << 16 {
        return Err(Failure::new(Kind::Usage, format!("a frame of {window} samples"), HELP));
    }
    let cepstrum = kind == What::Mfcc;
    if !cepstrum && args.coefficients.is_some() {
        return Err(Failure::new(Kind::Usage, "--coefficients is for mfcc", HELP));
    }
    let bands = args.mels.unwrap_or(usual.bands);
    if kind == What::Spectrogram && (args.mels.is_some() || args.low.is_some() || args.high.is_some()) {
        return Err(Failure::new(Kind::Usage, "a spectrogram has no mel bands", "use log-mel"));
    }
    if bands > 1 << 12 {
        return Err(Failure::new(Kind::Usage, format!("{bands} mel bands"), HELP));
    }
    let magnitude = args.spectrum.map_or(usual.magnitude, |s| s == Spectrum::Magnitude);
    let front = FrontEnd {
        sample_rate: rate,
        window,
        hop: args.hop.map_or(usual.hop, |time| time.samples(rate)),
        fft: args.fft.unwrap_or(window.next_power_of_two().max(32)),
        bands,
        range: (args.low.unwrap_or(usual.range.0), args.high.unwrap_or(usual.range.1)),
        floor: args.floor.unwrap_or(usual.floor),
        coefficients: usual.coefficients.map(|n| args.coefficients.unwrap_or(n)),
        magnitude,
        filters: args.filters.map_or(usual.filters, |shape| match shape {
            Shape::Htk => Filters::Htk,
            Shape::Tensorflow => Filters::TensorFlow,
            Shape::Slaney => Filters::Slaney,
        }),
        decibel: args.log.map_or(usual.decibel, |log| log == Logarithm::Decibel),
    };
    front.check().or_fail(Kind::Usage, HELP)?;
    Ok(front)
}

/// The features that arguments ask for.
fn features(args: &Args) -> Result<Features> {
    match (args.features, args.log) {
        (What::Spectrogram, None | Some(Logarithm::None)) => Ok(Features::Spectrum),
        (What::Spectrogram, _) => Ok(Features::LogSpectrum),
        (_, Some(Logarithm::None)) => Err(Failure::new(Kind::Usage, "mel features have a logarithm", HELP)),
        _ => Ok(Features::Mel),
    }
}

/// The settings of a front end in integers that arguments ask for.
fn micro(args: &Args) -> Result<MicroFrontend> {
    let given = [
        ("--fft", args.fft.is_some()),
        ("--coefficients", args.coefficients.is_some()),
        ("--filters", args.filters.is_some()),
        ("--spectrum", args.spectrum.is_some()),
        ("--floor", args.floor.is_some()),
    ];
    if let Some((option, _)) = given.iter().find(|(_, given)| *given) {
        return Err(Failure::new(Kind::Usage, format!("{option} is for features in float32"), HELP));
    }
    let usual = MicroFrontend::default();
    let log = match args.log {
        None | Some(Logarithm::Natural) => usual.log,
        Some(Logarithm::None) => None,
        Some(Logarithm::Decibel) => {
            return Err(Failure::new(Kind::Usage, "the logarithm of a microfrontend is natural", HELP));
        }
    };
    let micro = MicroFrontend {
        rate: args.rate,
        frame: args.window.unwrap_or(Time::Seconds(0.03)).samples(args.rate),
        hop: args.hop.unwrap_or(Time::Seconds(0.02)).samples(args.rate),
        channels: args.mels.unwrap_or(usual.channels),
        range: [
            args.low.map_or(usual.range[0], |v| v as f32),
            args.high.map_or(usual.range[1], |v| v as f32),
        ],
        log,
        gain: usual.gain.filter(|_| !args.no_pcan),
        ..usual
    };
    micro.tables().map_err(|reason| Failure::new(Kind::Usage, reason, HELP))?;
    Ok(micro)
}

/// Frames that the network reads, or that a run gives if there is none.
fn frames_of_network(args: &Args, settings: &Settings) -> Result<usize> {
    let [_, hop] = settings.frame();
    let new = settings.samples / hop;
    let Some(path) = &args.join else { return Ok(new) };
    let width = match &settings.kind {
        FeatureKind::Integer(front) => front.channels,
        FeatureKind::Float(front, Features::Mel) => front.coefficients.unwrap_or(front.bands),
        FeatureKind::Float(front, _) => front.fft / 2 + 1,
    };
    let (graph, _) = files::read_graph(path)?;
    let elements = graph.inputs.first().map_or(0, |id| graph.value(*id).len());
    let frames = elements / width.max(1);
    if frames < new || !elements.is_multiple_of(width.max(1)) {
        let message =
            format!("{}: its input of {elements} elements is not frames of {width}", path.display());
        return Err(Failure::new(
            Kind::Mismatch,
            message,
            "give the settings that the network was trained with",
        ));
    }
    Ok(frames)
}

/// Most samples of a run.
const MOST_SAMPLES: usize = u16::MAX as usize;

/// Writes the front end.
///
/// # Errors
/// The settings contradict each other, the network does not fit behind the front end, or a file cannot be read or written.
pub fn run(_ui: &Ui, args: &Args) -> Result<Report> {
    if let Some(network) = &args.join {
        refuse_same_file([network], [&args.output])?;
    }
    let scaled = match args.normalise[..] {
        [] => None,
        [mean, deviation] if mean.is_finite() && deviation.is_finite() && deviation > 0.0 => {
            Some((mean, deviation))
        }
        _ => {
            let message = "--normalise takes a mean and a positive deviation";
            return Err(Failure::new(Kind::Usage, message, "such as --normalise=-3.5,2.1"));
        }
    };
    let kind = if args.features == What::Microfrontend {
        FeatureKind::Integer(micro(args)?)
    } else {
        FeatureKind::Float(settings(args)?, features(args)?)
    };
    let mut settings = Settings { kind, signals: args.signals, samples: 0, scaled, streams: None };
    let one = args.features == What::Microfrontend || args.streaming;
    if !(1..=256).contains(&args.signals) || one && args.signals > 1 {
        let message = format!("{} signals", args.signals);
        return Err(Failure::new(Kind::Usage, message, "1 to 256; microfrontend and --streaming take one"));
    }
    let [window, hop] = settings.frame();
    let usual_frames = (args.features == What::LogMel).then_some(5);
    settings.samples = match (args.frames.or(usual_frames.filter(|_| args.length.is_none())), args.length) {
        (_, None) if args.streaming => hop,
        (Some(frames), _) => frames.saturating_sub(1).saturating_mul(hop).saturating_add(window),
        (None, length) => length.unwrap_or(Time::Seconds(1.0)).samples(args.rate),
    };
    let least = if args.streaming { hop.min(window) } else { window };
    if settings.samples < least || settings.samples > MOST_SAMPLES {
        let message =
            format!("a run of {} samples; {least} to {MOST_SAMPLES} are possible", settings.samples);
        return Err(Failure::new(Kind::Usage, message, "give another --length or --frames"));
    }
    if args.streaming {
        if !settings.samples.is_multiple_of(hop) || hop > window {
            let message = format!("a streaming run of {} samples with frames {hop} apart", settings.samples);
            return Err(Failure::new(
                Kind::Usage,
                message,
                "give whole hops, which are not longer than a frame",
            ));
        }
        settings.streams = Some(frames_of_network(args, &settings)?);
    }
    let samples = settings.samples;
    let graph = front_end::graph(&settings)?;
    let shape = &graph.value(graph.outputs[0]).shape;
    let shape = [shape[0] * shape[1], shape[2]];
    let mut bytes = offshoot_import::emit(&graph).or_fail(Kind::Usage, HELP)?;
    if let Some(path) = &args.join {
        let network = std::fs::read(path).map_err(|e| Failure::reading(path, &e))?;
        let help = "the features' frames and widths must give as many numbers as the network's input holds";
        bytes = offshoot_import::join(&bytes, &network).or_fail_in(Kind::Mismatch, path.display(), help)?;
    }
    offshoot_report::write_atomically(&args.output, &bytes)
        .map_err(|e| Failure::writing(&args.output, &e))?;
    Ok(Report {
        output: args.output.display().to_string(),
        features: args.features,
        samples,
        frame: [window, hop],
        fft: match &settings.kind {
            FeatureKind::Float(front, _) => front.fft,
            FeatureKind::Integer(front) => front.size(),
        },
        shape,
        network: args.join.as_ref().map(|p| p.display().to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_samples() {
        assert_eq!("30ms".parse(), Ok(Time::Seconds(0.03)));
        assert_eq!("1s".parse(), Ok(Time::Seconds(1.0)));
        assert_eq!("480".parse(), Ok(Time::Samples(480)));
        assert_eq!(Time::Seconds(0.03).samples(16000), 480);
        for wrong in ["", "ms", "-1s", "1e9s", "three", "1.5", "NaNs"] {
            assert!(wrong.parse::<Time>().is_err(), "{wrong}");
        }
    }
}
