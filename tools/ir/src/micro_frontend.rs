//! Settings of a front end in integers and the tables that follow from them, as TensorFlow Lite Micro's microfrontend computes them
//! on a device: in float32. Where its C library computes them in float64, a few of the weights differ by one of 4096.

use offshoot::format::micro_frontend::TABLES;
use serde::{Deserialize, Serialize};

/// Settings of [`Op::MicroFrontend`](crate::Op::MicroFrontend).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MicroFrontend {
    /// Samples per second.
    pub rate: u32,
    /// Samples of a frame.
    pub frame: usize,
    /// Samples from a frame to the next.
    pub hop: usize,
    /// Number of channels, equally spaced on the mel scale.
    pub channels: usize,
    /// Lowest and highest frequency, Hz.
    pub range: [f32; 2],
    /// Bits that signals are enlarged by before they enter the estimate of the noise.
    pub smoothing_bits: u8,
    /// How much of the estimate's way a frame goes, of even and of odd channels.
    pub smoothing: [f32; 2],
    /// What remains of a signal at least.
    pub remaining: f32,
    /// Gain control (PCAN), if there is any.
    pub gain: Option<Gain>,
    /// With a logarithm: `2^log` times the natural one.
    pub log: Option<u8>,
    /// Whether the estimate of the noise goes on from run to run.
    pub keeps: bool,
}

/// Gain control: `2^bits · (noise + offset)^-strength`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Gain {
    pub strength: f32,
    pub offset: f32,
    pub bits: u8,
}

impl Default for MicroFrontend {
    /// 40 channels of frames of 30 ms, every 20 ms, at 16 kHz, as micro_speech and the keyword detectors of ESPHome use them.
    fn default() -> Self {
        Self {
            rate: 16000,
            frame: 480,
            hop: 320,
            channels: 40,
            range: [125.0, 7500.0],
            smoothing_bits: 10,
            smoothing: [0.025, 0.06],
            remaining: 0.05,
            gain: Some(Gain { strength: 0.95, offset: 80.0, bits: 21 }),
            log: Some(6),
            keeps: false,
        }
    }
}

/// The constants of a front end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Tables {
    /// 4096 is 1.
    pub window: Vec<i16>,
    /// 32767 is 1.
    pub twiddles: Vec<[i16; 2]>,
    pub halves: Vec<[i16; 2]>,
    /// First bin that a channel reads.
    pub start: u16,
    /// Bins of each channel, and of the falling side of the last.
    pub widths: Vec<u16>,
    /// Of each bin, in its channel and the one before; 4096 is 1.
    pub weights: Vec<[i16; 2]>,
    pub gain: Vec<i16>,
    pub log: Vec<u16>,
    /// Parts of the estimate of the noise; 16384 is 1.
    pub smoothing: [u16; 2],
    pub remaining: u16,
    /// By how many bits a product of the gain is shifted.
    pub shift: u8,
}

impl MicroFrontend {
    /// Elements of the transform.
    pub fn size(&self) -> usize {
        self.frame.next_power_of_two()
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// Why there is no such front end.
    pub fn check(&self) -> Result<(), String> {
        let nyquist = self.rate as f32 / 2.0;
        let [low, high] = self.range;
        let part = |v: f32| (0.0..=1.0).contains(&v);
        // What the table's exponent reaches: the gain's product is shifted by `bits - 12 - 3` or so.
        let gain = |g: &Gain| g.strength.is_finite() && g.offset > 0.0 && (16..=30).contains(&g.bits);
        let rules = [
            ((32..=4096).contains(&self.size()), "a transform has 32 to 4096 elements"),
            (self.hop > 0 && self.hop <= usize::from(u16::MAX), "the hop is 1 to 65535 samples"),
            ((1..=1024).contains(&self.channels), "there are 1 to 1024 channels"),
            (
                self.rate > 0 && 0.0 <= low && low < high && high <= nyquist,
                "the range rises, up to half the rate",
            ),
            (self.smoothing_bits <= 16, "signals are enlarged by at most 16 bits"),
            (
                self.smoothing.into_iter().chain([self.remaining]).all(part),
                "smoothing and remainder are 0 to 1",
            ),
            (self.gain.as_ref().is_none_or(gain), "the gain has 16 to 30 bits and a positive offset"),
            (self.log.is_none_or(|bits| bits <= 12), "the logarithm has at most 12 bits"),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err((*rule).into()),
            None => Ok(()),
        }
    }

    /// The constants.
    ///
    /// # Errors
    /// As [`Self::check`]; a channel reaches beyond the spectrum.
    pub fn tables(&self) -> Result<Tables, String> {
        self.check()?;
        let (size, n) = (self.size(), self.size() / 2);
        let turn = |angle: f64| [angle.cos(), angle.sin()].map(|v| (0.5 + 32767.0 * v).floor() as i16);
        let pi = std::f64::consts::PI;
        let step = std::f32::consts::PI * 2.0 / self.frame as f32;
        let window = |i: usize| code(0.5 - 0.5 * (step * (i as f32 + 0.5)).cos());
        let mut tables = Tables {
            window: (0..self.frame).map(window).collect(),
            twiddles: (0..n).map(|k| turn(-2.0 * pi * k as f64 / n as f64)).collect(),
            halves: (0..n / 2).map(|k| turn(-pi * ((k + 1) as f64 / n as f64 + 0.5))).collect(),
            smoothing: self.smoothing.map(|v| (v * 16384.0) as u16),
            remaining: (self.remaining * 16384.0) as u16,
            ..Tables::default()
        };
        self.bands(size, &mut tables)?;
        // The transform's bits less half of the filters' 12.
        let correction = size.ilog2() as i32 - 6;
        if let Some(gain) = &self.gain {
            tables.shift = u8::try_from(i32::from(gain.bits) - correction - 12)
                .map_err(|_| "the gain has too few bits")?;
            tables.gain = gain.table(i32::from(self.smoothing_bits) - correction);
        }
        if self.log.is_some() {
            let line = |i: usize| (1.0 + i as f64 / 128.0).log2() * 65536.0 - 512.0 * i as f64;
            tables.log = (0..TABLES[1]).map(|i| line(i).round() as u16).collect();
        }
        Ok(tables)
    }

    /// Which bins a channel reads, and with which weights.
    fn bands(&self, size: usize, tables: &mut Tables) -> Result<(), String> {
        let mel = |hertz: f32| 1127.0 * (hertz / 700.0).ln_1p();
        let count = self.channels + 1;
        let (low, high) = (mel(self.range[0]), mel(self.range[1]));
        let spacing = (high - low) / count as f32;
        let centres: Vec<f32> = (0..count).map(|i| low + spacing * (i + 1) as f32).collect();
        let hertz = 0.5 * self.rate as f32 / (size / 2) as f32;
        let start = (1.5 + self.range[0] / hertz) as usize;
        let mut bin = start;
        for (channel, &centre) in centres.iter().enumerate() {
            let (before, from) = (if channel == 0 { low } else { centres[channel - 1] }, bin);
            while bin < size && mel(bin as f32 * hertz) <= centre {
                let weight = (centre - mel(bin as f32 * hertz)) / (centre - before);
                tables.weights.push([code(weight), code(1.0 - weight)]);
                bin += 1;
            }
            tables.widths.push((bin - from) as u16);
        }
        if bin > size / 2 || start == 0 {
            return Err("a channel reaches beyond the spectrum".into());
        }
        tables.start = start as u16;
        Ok(())
    }
}

/// With 12 bits behind the point.
fn code(v: f32) -> i16 {
    (v * 4096.0 + 0.5).floor() as i16
}

impl Gain {
    /// For each power of two of the estimate, a parabola.
    fn table(&self, input_bits: i32) -> Vec<i16> {
        let at = |x: u32| {
            let gain = 2f32.powi(self.bits.into())
                * (x as f32 / 2f32.powi(input_bits) + self.offset).powf(-self.strength);
            if gain > 32767.0 { i16::MAX } else { (gain + 0.5) as i16 }
        };
        let mut table = vec![at(0), at(1)];
        for interval in 2..=32u32 {
            let low = 1u32 << (interval - 1);
            let high = if interval == 32 { low + (low - 1) } else { 2 * low };
            let [y0, y1, y2] = [low, low + (low >> 1), high].map(|x| i32::from(at(x)));
            let slope = 4 * (y1 - y0) - (y2 - y0);
            table.extend([y0, slope, y2 - y0 - slope, 0].map(|v| v as i16));
        }
        table.truncate(TABLES[0]);
        table
    }
}
