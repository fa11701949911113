//! Log-mel spectrogram and MFCC of a sound.
//!
//! Frames are weighted with a periodic Hann window; the power spectrum is summed in triangular bands that
//! are equally spaced on the HTK mel scale (`2595 · log10(1 + f / 700)`), peak 1, not normalised by width;
//! the natural logarithm of the band energy plus `floor` follows. MFCC are the orthonormal DCT-II of that.

use std::f32::consts::PI;

use ndarray::Array2;
use realfft::RealFftPlanner;

use crate::error::{Error, Result};

/// Settings of the front end.
#[derive(Clone, Debug, PartialEq)]
pub struct FrontEnd {
    /// Samples a second.
    pub sample_rate: u32,
    /// Samples in a frame.
    pub window: usize,
    /// Samples from one frame to the next.
    pub hop: usize,
    /// Points of the Fourier transform; frames are padded with zeros to it.
    pub fft: usize,
    /// Number of mel bands.
    pub bands: usize,
    /// Lower and upper edge of the bands, Hz.
    pub range: (f32, f32),
    /// Added to the energy of a band before the logarithm.
    pub floor: f32,
    /// Number of cepstral coefficients; `None` for log-mel energies.
    pub coefficients: Option<usize>,
}

impl FrontEnd {
    /// 30 ms frames every 20 ms, 40 bands from 20 Hz to 4 kHz (or half the sample rate), 10 MFCC: what keyword
    /// networks use, one second gives 49 frames.
    pub fn keywords(sample_rate: u32) -> Self {
        let samples = |ms: u32| (sample_rate * ms / 1000) as usize;
        Self {
            sample_rate,
            window: samples(30),
            hop: samples(20),
            fft: samples(30).next_power_of_two(),
            bands: 40,
            range: (20.0, (sample_rate as f32 / 2.0).min(4000.0)),
            floor: 1e-6,
            coefficients: Some(10),
        }
    }

    /// Features of `samples`, one row a frame: `[frames, bands or coefficients]`. Frames that would reach
    /// beyond the end are left out; a sound shorter than a frame is padded with zeros to one.
    ///
    /// # Errors
    /// The settings contradict each other.
    pub fn features(&self, samples: &[f32]) -> Result<Array2<f32>> {
        self.check()?;
        let transform = RealFftPlanner::<f32>::new().plan_fft_forward(self.fft);
        let hann: Vec<f32> = (0..self.window)
            .map(|i| 0.5 - 0.5 * (2.0 * PI * i as f32 / self.window as f32).cos())
            .collect();
        let filters = self.mel_filters();
        let frames = samples.len().saturating_sub(self.window) / self.hop + 1;
        let mut log_mel = Array2::zeros((frames, self.bands));
        let mut frame = transform.make_input_vec();
        let mut spectrum = transform.make_output_vec();
        for (index, mut row) in log_mel.rows_mut().into_iter().enumerate() {
            frame.fill(0.0);
            let begin = (index * self.hop).min(samples.len());
            for ((f, &s), &w) in frame.iter_mut().zip(&samples[begin..]).zip(&hann) {
                *f = s * w;
            }
            transform
                .process(&mut frame, &mut spectrum)
                .map_err(|e| Error::format(format!("the Fourier transform failed: {e}")))?;
            for (band, energy) in row.iter_mut().enumerate() {
                let weighted = filters
                    .row(band)
                    .iter()
                    .zip(&spectrum)
                    .map(|(w, c)| w * c.norm_sqr())
                    .sum::<f32>();
                *energy = (weighted + self.floor).ln();
            }
        }
        Ok(match self.coefficients {
            Some(n) => log_mel.dot(&dct(self.bands, n)),
            None => log_mel,
        })
    }

    fn check(&self) -> Result<()> {
        let nyquist = self.sample_rate as f32 / 2.0;
        let rules = [
            (
                self.window > 0 && self.hop > 0,
                "window and hop must be at least one sample",
            ),
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
    fn mel_filters(&self) -> Array2<f32> {
        let mel = |hz: f32| 2595.0 * (1.0 + hz / 700.0).log10();
        let hz = |mel: f32| 700.0 * (10f32.powf(mel / 2595.0) - 1.0);
        let (low, high) = (mel(self.range.0), mel(self.range.1));
        let edge = |i: usize| hz(low + (high - low) * i as f32 / (self.bands + 1) as f32);
        Array2::from_shape_fn((self.bands, self.fft / 2 + 1), |(band, bin)| {
            let f = bin as f32 * self.sample_rate as f32 / self.fft as f32;
            let (left, peak, right) = (edge(band), edge(band + 1), edge(band + 2));
            ((f - left) / (peak - left))
                .min((right - f) / (right - peak))
                .max(0.0)
        })
    }
}

/// First `n` columns of the orthonormal DCT-II of `len` numbers: `[len, n]`.
fn dct(len: usize, n: usize) -> Array2<f32> {
    Array2::from_shape_fn((len, n), |(i, k)| {
        let scale = if k == 0 {
            (1.0 / len as f32).sqrt()
        } else {
            (2.0 / len as f32).sqrt()
        };
        scale * (PI * k as f32 * (i as f32 + 0.5) / len as f32).cos()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(hz: f32, len: usize) -> Vec<f32> {
        (0..len)
            .map(|i| (2.0 * PI * hz * i as f32 / 16000.0).sin())
            .collect()
    }

    #[test]
    fn a_tone_lands_in_its_band() {
        let front_end = FrontEnd {
            coefficients: None,
            ..FrontEnd::keywords(16000)
        };
        let log_mel = front_end.features(&sine(1000.0, 16000)).unwrap();
        assert_eq!(log_mel.dim(), (49, 40));
        let mel = |hz: f32| 2595.0 * (1.0 + hz / 700.0).log10();
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
        let wrong = FrontEnd {
            range: (20.0, 9000.0),
            ..FrontEnd::keywords(16000)
        };
        assert!(wrong.features(&[0.0; 100]).is_err());
        let wrong = FrontEnd {
            hop: 0,
            ..FrontEnd::keywords(16000)
        };
        assert!(wrong.features(&[0.0; 100]).is_err());
    }
}
