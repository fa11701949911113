//! `offshoot frontend`: an ONNX file that turns samples of a signal into features, alone or in front of a network.

use std::path::PathBuf;

use offshoot_data::features::{Filters, FrontEnd};
use serde::Serialize;

use crate::failure::{Context, Failure, Kind, Result};
use crate::files::refuse_same_file;
use crate::front_end::{self, Features};
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
    /// Signal that a run takes (1s, or samples); 1 s by default, five frames with log-mel.
    #[arg(long)]
    pub length: Option<Time>,
    /// Frames that a run gives, instead of its length.
    #[arg(long, conflicts_with = "length")]
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
    /// Mean and standard deviation that the network was trained with: features are (x - mean) / deviation.
    #[arg(long, value_delimiter = ',', num_args = 1, value_names = ["MEAN,DEVIATION"])]
    pub normalise: Vec<f32>,
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
    /// Samples that a run takes.
    pub samples: usize,
    /// Samples of a frame, and from a frame to the next.
    pub frame: [usize; 2],
    /// Points of the Fourier transform.
    pub fft: usize,
    /// Frames, and features of each.
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
    let front = settings(args)?;
    let usual_frames = (args.features == What::LogMel).then_some(5);
    let samples = match (args.frames.or(usual_frames.filter(|_| args.length.is_none())), args.length) {
        (Some(frames), _) => frames.saturating_sub(1).saturating_mul(front.hop).saturating_add(front.window),
        (None, length) => length.unwrap_or(Time::Seconds(1.0)).samples(args.rate),
    };
    if samples < front.window || samples > MOST_SAMPLES {
        let message = format!("a run of {samples} samples; {} to {MOST_SAMPLES} are possible", front.window);
        return Err(Failure::new(Kind::Usage, message, "give another --length or --frames"));
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
    let features = match (args.features, args.log) {
        (What::Spectrogram, None | Some(Logarithm::None)) => Features::Spectrum,
        (What::Spectrogram, _) => Features::LogSpectrum,
        (_, Some(Logarithm::None)) => {
            return Err(Failure::new(Kind::Usage, "mel features have a logarithm", HELP));
        }
        _ => Features::Mel,
    };
    let graph = front_end::graph(&front, features, samples, scaled)?;
    let shape = &graph.value(graph.outputs[0]).shape;
    let shape = [shape[1], shape[2]];
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
        frame: [front.window, front.hop],
        fft: front.fft,
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
