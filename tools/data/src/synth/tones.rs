//! Short sounds of appliances and alarms as log-mel pictures: 32 frames × 16 bands.
//!
//! Half a second at 8,000 samples per second is synthesised as a waveform (tone, dual tone, rising and falling chirp,
//! beeps, claps, warble, or only noise) and passes through the front end of [`crate::features`]. Nuisance: pitch,
//! start and length, level, harmonics, white and pink noise, mains hum, speech-like babble. Shifted: another
//! microphone in another room: less treble, reverberation, more hum.

use std::f64::consts::PI;

use super::{Condition, offset_binary};
use crate::features::FrontEnd;
use crate::random::Random;

/// Names of the labels.
pub const CLASSES: [&str; 8] = ["noise", "tone", "dual", "rising", "falling", "beeps", "claps", "warble"];
/// Frames of a sample, 16 ms apart.
pub const FRAMES: usize = 32;
/// Mel bands of a frame.
pub const BANDS: usize = 16;

const SAMPLE_RATE: u32 = 8000;
const WINDOW: usize = 256;
const HOP: usize = 128;
const LENGTH: usize = WINDOW + (FRAMES - 1) * HOP;
/// Log energies at the ends of the converter's range.
const LOG_RANGE: (f64, f64) = (-9.0, 9.0);

/// Start and length of the event, in samples.
struct Span {
    start: f64,
    length: f64,
}

impl Span {
    fn random(random: &mut Random) -> Self {
        let length = LENGTH as f64 * random.within(0.55..0.95);
        Self { start: (LENGTH as f64 - length) * random.within(0.0..1.0), length }
    }

    /// Position of sample `i` in the event, 0 to 1; `None` outside.
    fn position(&self, i: usize) -> Option<f64> {
        let position = (i as f64 - self.start) / self.length;
        (0.0..1.0).contains(&position).then_some(position)
    }
}

pub(super) fn sample(label: usize, condition: Condition, random: &mut Random, out: &mut Vec<u8>) {
    let sound: Vec<f32> = sound(label, condition, random).iter().map(|&s| s as f32).collect();
    // The constants below are consistent.
    let log_mel = front_end().features(&sound).expect("front end of tones");
    let (low, high) = LOG_RANGE;
    out.extend(log_mel.iter().map(|&v| offset_binary((2.0 * f64::from(v) - low - high) / (high - low))));
}

/// The sounds that the samples of a seed are pictures of ([`Task::Tones`](super::Task::Tones)), 8,000 samples per second, with
/// their labels.
pub fn sounds(condition: Condition, seed: u64, count: usize) -> Vec<(Vec<f32>, i64)> {
    let of = |index: usize| {
        let label = index % CLASSES.len();
        let sound = sound(label, condition, &mut Random::new(seed, index as u64));
        (sound.iter().map(|&s| s as f32).collect(), label as i64)
    };
    (0..count).map(of).collect()
}

/// The front end of the pictures.
fn front_end() -> FrontEnd {
    FrontEnd {
        sample_rate: SAMPLE_RATE,
        window: WINDOW,
        hop: HOP,
        fft: WINDOW,
        bands: BANDS,
        range: (100.0, 4000.0),
        floor: 1e-4,
        coefficients: None,
        ..FrontEnd::keywords(SAMPLE_RATE)
    }
}

fn sound(label: usize, condition: Condition, random: &mut Random) -> Vec<f64> {
    let level = libm::pow(10.0, random.within(-1.55..-0.45));
    let mut sound = event(CLASSES[label], random);
    sound.iter_mut().for_each(|s| *s *= level);
    add_surroundings(&mut sound, random);
    if condition == Condition::Shifted {
        sound = other_room(&sound, random);
    }
    sound
}

/// The event alone, amplitude 1.
fn event(class: &str, random: &mut Random) -> Vec<f64> {
    let span = Span::random(random);
    let pitch = 300.0 * libm::pow(8.0, random.within(0.0..1.0));
    let ratio = random.within(1.25..2.4);
    let cycles = random.within(2.6..6.5);
    let duty = random.within(0.35..0.65);
    let depth = random.within(0.12..0.3);
    let vibrato = random.normal_of(0.01);
    match class {
        "noise" => vec![0.0; LENGTH],
        "claps" => claps(random),
        "dual" => {
            let low = tone(&span, random, |_| pitch.min(1500.0), |_| 0.6);
            let high = tone(&span, random, |_| pitch.min(1500.0) * ratio, |_| 0.6);
            low.iter().zip(&high).map(|(a, b)| a + b).collect()
        }
        "tone" => tone(&span, random, |p| pitch * (1.0 + vibrato * p), |_| 1.0),
        "rising" => tone(&span, random, |p| pitch.min(1400.0) * libm::pow(ratio, p), |_| 1.0),
        "falling" => tone(&span, random, |p| pitch.min(1400.0) * libm::pow(ratio, 1.0 - p), |_| 1.0),
        "beeps" => tone(&span, random, |_| pitch, |p| if (p * cycles).fract() < duty { 1.0 } else { 0.0 }),
        _ => tone(&span, random, |p| pitch * (1.0 + depth * libm::sin(2.0 * PI * cycles * p)), |_| 1.0),
    }
}

/// A tone with some harmonics, with frequency and envelope as functions of the position in the event.
fn tone(
    span: &Span,
    random: &mut Random,
    hz: impl Fn(f64) -> f64,
    envelope: impl Fn(f64) -> f64,
) -> Vec<f64> {
    let harmonics = [1.0, random.within(0.0..0.35), random.within(0.0..0.2)];
    let mut phase = random.phase();
    let mut sound = vec![0.0; LENGTH];
    for (i, s) in sound.iter_mut().enumerate() {
        let Some(position) = span.position(i) else {
            continue;
        };
        let hz = hz(position);
        phase += 2.0 * PI * hz / f64::from(SAMPLE_RATE);
        // Soft ends: 5 % of the event each.
        let ends = (position.min(1.0 - position) / 0.05).min(1.0);
        for (order, share) in (1..).zip(harmonics) {
            // Harmonics above half the sample rate would alias.
            if hz * f64::from(order) < 3900.0 {
                *s += ends * envelope(position) * share * libm::sin(f64::from(order) * phase);
            }
        }
    }
    sound
}

/// One to three bursts of decaying noise.
fn claps(random: &mut Random) -> Vec<f64> {
    let mut sound = vec![0.0; LENGTH];
    for _ in 0..1 + super::index(random, 3) {
        let start = super::index(random, LENGTH * 8 / 10);
        let decay = random.within(90.0..420.0);
        for (i, s) in sound[start..].iter_mut().enumerate() {
            *s += random.normal_of(1.4) * libm::exp(-(i as f64) / decay);
        }
    }
    sound
}

/// Adds white and pink noise, mains hum, and occasionally a voice-like babble that fades in and out.
fn add_surroundings(sound: &mut [f64], random: &mut Random) {
    let white = libm::pow(10.0, random.within(-2.9..-1.35));
    let pink = libm::pow(10.0, random.within(-2.9..-1.35));
    let hum = random.within(0.0..0.03);
    let hum_phase = random.phase();
    let babble = if random.chance(0.4) { random.within(0.0..0.12) } else { 0.0 };
    let (voice, swell, swell_phase) = (random.within(110.0..240.0), random.within(2.0..6.0), random.phase());
    let mut low = 0.0;
    for (i, s) in sound.iter_mut().enumerate() {
        let time = i as f64 / f64::from(SAMPLE_RATE);
        low = 0.96 * low + random.normal_of(pink);
        let syllable = (libm::sin(2.0 * PI * swell * time + swell_phase)).max(0.0);
        // Most samples have no voice.
        let spoken =
            if babble * syllable > 0.0 { voice_at(voice * time * (1.0 + 0.02 * syllable)) } else { 0.0 };
        *s += random.normal_of(white)
            + low
            + hum * libm::sin(2.0 * PI * 100.0 * time + hum_phase)
            + babble * syllable * spoken;
    }
}

/// Eight harmonics with the spectral decay of a voice, at this number of periods; multiple angles by recurrence.
fn voice_at(periods: f64) -> f64 {
    let angle = 2.0 * PI * periods;
    let (mut before, mut now) = (0.0, libm::sin(angle));
    let twice_cos = 2.0 * libm::cos(angle);
    let mut sum = 0.0;
    for harmonic in 1..9 {
        sum += now / f64::from(harmonic);
        (before, now) = (now, twice_cos * now - before);
    }
    sum
}

/// Less treble, an echo, more hum, half the level.
fn other_room(sound: &[f64], random: &mut Random) -> Vec<f64> {
    let delay = 150 + super::index(random, 250);
    let hum_phase = random.phase();
    let mut treble = 0.0;
    let mut heard: Vec<f64> = Vec::with_capacity(sound.len());
    for (i, &s) in sound.iter().enumerate() {
        treble += 0.45 * (s - treble);
        let echo = if i >= delay { 0.55 * heard[i - delay] } else { 0.0 };
        heard.push(treble + echo);
    }
    let hum = |i: usize| 0.05 * libm::sin(2.0 * PI * 150.0 * i as f64 / f64::from(SAMPLE_RATE) + hum_phase);
    heard.iter().enumerate().map(|(i, h)| 0.5 * h + hum(i)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chirps_rise_and_fall() {
        for (class, sign) in [("rising", 1), ("falling", -1)] {
            let sound = event(class, &mut Random::new(3, 4));
            let crossings =
                |part: &[f64]| part.windows(2).filter(|w| w[0] < 0.0 && w[1] >= 0.0).count() as i32;
            let inside: Vec<f64> = sound.into_iter().filter(|s| *s != 0.0).collect();
            let half = inside.len() / 2;
            assert!((crossings(&inside[half..]) - crossings(&inside[..half])) * sign > 0, "{class}");
        }
    }
}
