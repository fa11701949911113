//! Log-mel spectrogram and MFCC of a sound.
//!
//! Frames are weighted with a periodic Hann window. The power or magnitude spectrum is summed in triangular bands that are equally
//! spaced on a mel scale ([`Filters`]). The logarithm of the band energy plus `floor` follows. MFCC are the orthonormal DCT-II of
//! that. The arithmetic is float64 with `libm` in a fixed order, so that every machine gives the same features.

use std::f64::consts::PI;

use ndarray::Array2;

use crate::error::{Error, Result};

/// Settings of the audio front end.
#[derive(Clone, Debug, PartialEq)]
pub struct FrontEnd {
    /// Samples per second.
    pub sample_rate: u32,
    /// Samples in a frame.
    pub window: usize,
    /// Samples from one frame to the next.
    pub hop: usize,
    /// Points of the Fourier transform; frames are zero-padded to this length.
    pub fft: usize,
    /// Number of mel bands.
    pub bands: usize,
    /// Lower and upper edge of the bands, Hz.
    pub range: (f64, f64),
    /// Added to the energy of a band before the logarithm.
    pub floor: f64,
    /// Number of cepstral coefficients; `None` for log-mel energies.
    pub coefficients: Option<usize>,
    /// Whether the bands sum magnitudes instead of powers.
    pub magnitude: bool,
    /// Shape of the bands.
    pub filters: Filters,
    /// Whether energies are in decibel (10 · log10 of a power, 20 · log10 of a magnitude) instead of natural logarithms.
    pub decibel: bool,
}

/// Triangular bands on a mel scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filters {
    /// HTK's scale, `2595 · log10(1 + f / 700)`; triangles in Hz with peak 1 (torchaudio's default).
    Htk,
    /// HTK's scale; triangles in mel with peak 1, and nothing of the bin at 0 Hz; a DCT with the same
    /// factor for all coefficients (TensorFlow's `linear_to_mel_weight_matrix` and `mfccs_from_log_mel_spectrograms`).
    TensorFlow,
    /// Slaney's scale, linear below 1 kHz; triangles in Hz with area 1 (librosa's default).
    Slaney,
}

impl Filters {
    fn mel(self, hz: f64) -> f64 {
        match self {
            Self::Slaney if hz < 1000.0 => hz * 3.0 / 200.0,
            Self::Slaney => 15.0 + libm::log(hz / 1000.0) * 27.0 / libm::log(6.4),
            Self::TensorFlow => 1127.0 * libm::log(1.0 + hz / 700.0),
            Self::Htk => 2595.0 * libm::log10(1.0 + hz / 700.0),
        }
    }

    fn hertz(self, mel: f64) -> f64 {
        match self {
            Self::Slaney if mel < 15.0 => mel * 200.0 / 3.0,
            Self::Slaney => 1000.0 * libm::exp((mel - 15.0) * libm::log(6.4) / 27.0),
            Self::TensorFlow => 700.0 * (libm::exp(mel / 1127.0) - 1.0),
            Self::Htk => 700.0 * (libm::pow(10.0, mel / 2595.0) - 1.0),
        }
    }
}

impl FrontEnd {
    /// 30 ms frames every 20 ms, 40 bands from 20 Hz to 4 kHz (or half the sample rate), 10 MFCC: the usual features
    /// of keyword networks. One second gives 49 frames.
    pub fn keywords(sample_rate: u32) -> Self {
        let samples = |ms: u32| (sample_rate * ms / 1000) as usize;
        Self {
            sample_rate,
            window: samples(30),
            hop: samples(20),
            fft: samples(30).next_power_of_two(),
            bands: 40,
            range: (20.0, (f64::from(sample_rate) / 2.0).min(4000.0)),
            floor: 1e-6,
            coefficients: Some(10),
            magnitude: false,
            filters: Filters::Htk,
            decibel: false,
        }
    }

    /// Features of `samples`, one row per frame: `[frames, bands or coefficients]`. Frames that would reach beyond
    /// the end are left out; a sound shorter than one frame is zero-padded.
    ///
    /// # Errors
    /// The settings contradict each other.
    pub fn features(&self, samples: &[f32]) -> Result<Array2<f32>> {
        self.check()?;
        let fft = Fft::new(self.fft);
        let hann = self.hann();
        let filters = self.mel_filters();
        let frames = samples.len().saturating_sub(self.window) / self.hop + 1;
        let mut log_mel = Array2::zeros((frames, self.bands));
        let mut frame = vec![0.0; self.fft];
        for (index, mut row) in log_mel.rows_mut().into_iter().enumerate() {
            frame.fill(0.0);
            let begin = (index * self.hop).min(samples.len());
            for ((f, &s), &w) in frame.iter_mut().zip(&samples[begin..]).zip(&hann) {
                *f = f64::from(s) * w;
            }
            let mut power = fft.power(&frame);
            if self.magnitude {
                power.iter_mut().for_each(|p| *p = p.sqrt());
            }
            for (band, energy) in row.iter_mut().enumerate() {
                let weighted = filters.row(band).iter().zip(&power).map(|(w, p)| w * p).sum::<f64>();
                *energy = match self.decibel {
                    true => self.decibels() * libm::log10(weighted + self.floor),
                    false => libm::log(weighted + self.floor),
                };
            }
        }
        Ok(match self.coefficients {
            Some(n) => project(&log_mel, &self.cosines(n)),
            None => log_mel.mapv(|v| v as f32),
        })
    }

    /// The first `n` columns of the DCT-II, `[bands, n]`: orthonormal, or with the same factor for all as TensorFlow's.
    pub fn cosines(&self, n: usize) -> Array2<f64> {
        let mut cosines = dct(self.bands, n);
        if self.filters == Filters::TensorFlow {
            cosines.column_mut(0).mapv_inplace(|v| v * std::f64::consts::SQRT_2);
        }
        cosines
    }

    /// Factor of the decimal logarithm for decibel.
    pub fn decibels(&self) -> f64 {
        if self.magnitude { 20.0 } else { 10.0 }
    }

    /// The window, periodic: one value for each sample of a frame.
    pub fn hann(&self) -> Vec<f64> {
        (0..self.window).map(|i| 0.5 - 0.5 * libm::cos(2.0 * PI * i as f64 / self.window as f64)).collect()
    }

    /// Whether the settings fit together.
    ///
    /// # Errors
    /// They contradict each other.
    pub fn check(&self) -> Result<()> {
        let nyquist = f64::from(self.sample_rate) / 2.0;
        let rules = [
            (self.window > 0 && self.hop > 0, "window and hop must be at least one sample"),
            (
                self.fft >= self.window,
                "the Fourier transform must have at least as many points as the window",
            ),
            (self.bands > 0, "at least one band is needed"),
            (
                0.0 <= self.range.0 && self.range.0 < self.range.1 && self.range.1 <= nyquist,
                "the bands' range must rise and end at half the sample rate or below",
            ),
            (self.floor > 0.0, "the floor must be positive"),
            (
                self.coefficients.is_none_or(|n| n > 0 && n <= self.bands),
                "1 to `bands` coefficients are possible",
            ),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(Error::format(format!("front end: {rule}"))),
            None => Ok(()),
        }
    }

    /// Weights of the spectrum's bins in each band: `[bands, fft / 2 + 1]`.
    pub fn mel_filters(&self) -> Array2<f64> {
        let filters = self.filters;
        let (low, high) = (filters.mel(self.range.0), filters.mel(self.range.1));
        let step = (high - low) / (self.bands + 1) as f64;
        // The triangles' axis is mel or Hz.
        let in_mel = filters == Filters::TensorFlow;
        let place = |mel: f64| if in_mel { mel } else { filters.hertz(mel) };
        let edges: Vec<f64> = (0..self.bands + 2).map(|i| place(low + step * i as f64)).collect();
        Array2::from_shape_fn((self.bands, self.fft / 2 + 1), |(band, bin)| {
            let hertz = bin as f64 * f64::from(self.sample_rate) / self.fft as f64;
            let f = if in_mel { filters.mel(hertz) } else { hertz };
            let (left, peak, right) = (edges[band], edges[band + 1], edges[band + 2]);
            let height = match filters {
                Filters::Slaney => 2.0 / (right - left),
                Filters::TensorFlow if bin == 0 => 0.0,
                Filters::TensorFlow | Filters::Htk => 1.0,
            };
            height * ((f - left) / (peak - left)).min((right - f) / (right - peak)).max(0.0)
        })
    }
}

/// First `n` columns of the orthonormal DCT-II of length `len`: `[len, n]`.
fn dct(len: usize, n: usize) -> Array2<f64> {
    Array2::from_shape_fn((len, n), |(i, k)| {
        let scale = libm::sqrt(if k == 0 { 1.0 } else { 2.0 } / len as f64);
        scale * libm::cos(PI * k as f64 * (i as f64 + 0.5) / len as f64)
    })
}

/// Matrix product, summed in index order (the order of a blocked product depends on the machine).
fn project(rows: &Array2<f64>, columns: &Array2<f64>) -> Array2<f32> {
    Array2::from_shape_fn((rows.nrows(), columns.ncols()), |(r, c)| {
        rows.row(r).iter().zip(columns.column(c)).map(|(a, b)| a * b).sum::<f64>() as f32
    })
}

/// Radix-2 Fourier transform (Cooley and Tukey 1965) of a power of two of real samples.
struct Fft {
    /// cos and -sin of the k-th step around the circle, for k below half the length.
    twiddles: Vec<(f64, f64)>,
    len: usize,
}

impl Fft {
    fn new(len: usize) -> Self {
        let angle = |k: usize| -2.0 * PI * k as f64 / len as f64;
        Self { twiddles: (0..len / 2).map(|k| (libm::cos(angle(k)), libm::sin(angle(k)))).collect(), len }
    }

    /// Squared magnitude of bins 0 to len / 2.
    fn power(&self, samples: &[f64]) -> Vec<f64> {
        let bits = self.len.trailing_zeros();
        let reversed = |i: usize| {
            if bits == 0 { i } else { i.reverse_bits() >> (usize::BITS - bits) }
        };
        let mut bins: Vec<(f64, f64)> = (0..self.len).map(|i| (samples[reversed(i)], 0.0)).collect();
        let mut half = 1;
        while half < self.len {
            for block in bins.chunks_exact_mut(2 * half) {
                let (low, high) = block.split_at_mut(half);
                for (k, (a, b)) in low.iter_mut().zip(high).enumerate() {
                    let (c, s) = self.twiddles[k * (self.len / (2 * half))];
                    let turned = (b.0 * c - b.1 * s, b.0 * s + b.1 * c);
                    *b = (a.0 - turned.0, a.1 - turned.1);
                    *a = (a.0 + turned.0, a.1 + turned.1);
                }
            }
            half *= 2;
        }
        bins[..=self.len / 2].iter().map(|(re, im)| re * re + im * im).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(hz: f64, len: usize) -> Vec<f32> {
        (0..len).map(|i| (2.0 * PI * hz * i as f64 / 16000.0).sin() as f32).collect()
    }

    #[test]
    fn fourier_transform_equals_its_definition() {
        for len in [1usize, 2, 8, 32] {
            let samples: Vec<f64> = (0..len).map(|i| ((i * i * 7 + 3) % 11) as f64 - 5.0).collect();
            for (bin, &power) in Fft::new(len).power(&samples).iter().enumerate() {
                let angle = |i: usize| 2.0 * PI * (bin * i) as f64 / len as f64;
                let re: f64 = samples.iter().enumerate().map(|(i, s)| s * angle(i).cos()).sum();
                let im: f64 = samples.iter().enumerate().map(|(i, s)| s * angle(i).sin()).sum();
                assert!((power - re * re - im * im).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn a_tone_lands_in_its_band() {
        let front_end = FrontEnd { coefficients: None, ..FrontEnd::keywords(16000) };
        let log_mel = front_end.features(&sine(1000.0, 16000)).unwrap();
        assert_eq!(log_mel.dim(), (49, 40));
        let mel = |hz: f64| 2595.0 * (1.0 + hz / 700.0).log10();
        let wanted = ((mel(1000.0) - mel(20.0)) / (mel(4000.0) - mel(20.0)) * 41.0).round() as usize - 1;
        for row in log_mel.rows() {
            let loudest = (0..40).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
            assert_eq!(loudest, wanted);
        }
    }

    #[test]
    fn cepstrum_of_silence_is_a_constant() {
        let mfcc = FrontEnd::keywords(8000).features(&[0.0; 8000]).unwrap();
        assert_eq!(mfcc.dim(), (49, 10));
        assert!((mfcc[[0, 0]] - 1e-6f32.ln() * 40f32.sqrt()).abs() < 1e-3);
        assert!(mfcc.column(3).iter().all(|v| v.abs() < 1e-3));
    }

    #[test]
    fn dct_is_orthonormal() {
        let gram = dct(16, 16).t().dot(&dct(16, 16));
        for ((i, j), &v) in gram.indexed_iter() {
            assert!((v - if i == j { 1.0 } else { 0.0 }).abs() < 1e-5);
        }
    }

    #[test]
    fn short_sounds_and_wrong_settings() {
        assert_eq!(FrontEnd::keywords(16000).features(&[]).unwrap().dim(), (1, 10));
        let wrong = FrontEnd { range: (20.0, 9000.0), ..FrontEnd::keywords(16000) };
        assert!(wrong.features(&[0.0; 100]).is_err());
        let wrong = FrontEnd { hop: 0, ..FrontEnd::keywords(16000) };
        assert!(wrong.features(&[0.0; 100]).is_err());
    }
}
