//! Windows of a three-axis accelerometer on a rotating machine, at 1,000 samples per second.
//!
//! Signatures follow the usual tables of vibration diagnosis: imbalance is a radial force at the shaft's speed;
//! misalignment adds twice that frequency, also axially; looseness adds many harmonics, a half harmonic and a
//! one-sided limit; an outer-race bearing fault excites a resonance at a rate that is not a multiple of the speed.
//! Nuisance: speed, load, severity down to barely visible, tones of other machines, mains hum, noise; gain, offset
//! and orientation of the sensor. Shifted: the sensor is mounted elsewhere, turned, with less gain and more hum.

use std::f64::consts::PI;

use super::{Condition, offset_binary};
use crate::random::Random;

/// Names of the labels.
pub const CLASSES: [&str; 5] = ["normal", "imbalance", "misalignment", "looseness", "bearing"];
/// Samples in a window, an eighth of a second.
pub const LENGTH: usize = 128;

const SAMPLE_RATE: f64 = 1000.0;
/// Acceleration at the converter's full scale, in g.
const FULL_SCALE: f64 = 2.0;
/// Impacts per revolution of an outer-race fault, for a bearing with nine balls.
const BALL_PASS: f64 = 3.58;

/// A sinusoid along some axes, with amplitudes in g.
struct Tone {
    hz: f64,
    amplitude: [f64; 3],
    phase: [f64; 3],
}

pub(super) fn sample(label: usize, condition: Condition, random: &mut Random, out: &mut Vec<u8>) {
    let speed = random.within(18.0..46.0);
    let load = random.within(0.4..1.0);
    let mut tones = background(speed, random);
    let severity = random.within(0.0..1.0);
    // Forces of rotating masses grow with the square of the speed; amplitudes refer to 30 Hz.
    let force = (speed / 30.0) * (speed / 30.0);
    match CLASSES[label] {
        "imbalance" => tones.push(radial(speed, (0.22 + 0.55 * severity) * force, random)),
        "misalignment" => {
            let strength = (0.16 + 0.45 * severity) * load.max(0.6);
            tones.push(axial(2.0 * speed, strength, random));
            tones.push(axial(speed, 0.5 * strength, random));
            tones.push(radial(3.0 * speed, 0.3 * strength, random));
        }
        "looseness" => {
            let strength = 0.14 + 0.3 * severity;
            for (order, share) in
                [(0.5, 0.5), (1.0, 0.8), (2.0, 0.7), (3.0, 0.6), (4.0, 0.45), (5.0, 0.35), (6.0, 0.3)]
            {
                tones.push(radial(order * speed, strength * share * random.within(0.6..1.3), random));
            }
        }
        _ => {}
    }
    let mut signal: Vec<[f64; 3]> = (0..LENGTH).map(|i| add_tones(&tones, i as f64 / SAMPLE_RATE)).collect();
    match CLASSES[label] {
        "looseness" => limit_one_side(&mut signal, random.within(0.15..0.5)),
        "bearing" => add_impacts(&mut signal, speed, (0.28 + 0.7 * severity) * (0.6 + 0.4 * load), random),
        _ => {}
    }
    let noise = random.within(0.03..0.13);
    signal.iter_mut().flatten().for_each(|v| *v += random.normal_of(noise));
    observe(&signal, condition, random, out);
}

/// Background of every machine: some imbalance and misalignment, a blade or gear tone, mains hum, a neighbour.
fn background(speed: f64, random: &mut Random) -> Vec<Tone> {
    let force = (speed / 30.0) * (speed / 30.0);
    let mut tones = vec![
        radial(speed, random.within(0.02..0.17) * force, random),
        axial(2.0 * speed, random.within(0.01..0.1), random),
        radial(7.0 * speed, random.within(0.0..0.1), random),
        radial(100.0, random.within(0.0..0.08), random),
    ];
    if random.chance(0.5) {
        let neighbour = random.within(12.0..90.0);
        tones.push(axial(neighbour, random.within(0.0..0.12), random));
    }
    tones
}

/// Mainly across the shaft (axes 0 and 1, a quarter turn apart), with little along it.
fn radial(hz: f64, amplitude: f64, random: &mut Random) -> Tone {
    let (phase, ellipse) = (random.phase(), random.within(0.6..1.0));
    let along = amplitude * random.within(0.0..0.15);
    Tone {
        hz,
        amplitude: [amplitude, amplitude * ellipse, along],
        phase: [phase, phase + PI / 2.0, random.phase()],
    }
}

/// As much along the shaft (axis 2) as across it.
fn axial(hz: f64, amplitude: f64, random: &mut Random) -> Tone {
    let across = amplitude * random.within(0.4..0.9);
    let phase = random.phase();
    Tone {
        hz,
        amplitude: [across, across * random.within(0.4..1.0), amplitude],
        phase: [phase, phase + PI / 2.0, random.phase()],
    }
}

fn add_tones(tones: &[Tone], time: f64) -> [f64; 3] {
    let mut sum = [0.0; 3];
    for tone in tones {
        for ((s, amplitude), phase) in sum.iter_mut().zip(tone.amplitude).zip(tone.phase) {
            *s += amplitude * libm::sin(2.0 * PI * tone.hz * time + phase);
        }
    }
    sum
}

/// A loose foot lifts but does not sink: the vertical axis is compressed below `-limit`.
fn limit_one_side(signal: &mut [[f64; 3]], limit: f64) {
    for v in signal.iter_mut().map(|s| &mut s[1]) {
        if *v < -limit {
            *v = -limit + 0.2 * (*v + limit);
        }
    }
}

/// Decaying oscillations of the housing at the ball-pass rate, with slip.
fn add_impacts(signal: &mut [[f64; 3]], speed: f64, strength: f64, random: &mut Random) {
    let period = SAMPLE_RATE / (speed * BALL_PASS);
    let resonance = random.within(270.0..430.0);
    let decay = random.within(80.0..220.0);
    let direction = [random.within(0.5..1.0), random.within(0.7..1.0), random.within(0.2..0.6)];
    let mut at = -period * random.within(0.0..1.0);
    while at < signal.len() as f64 {
        let hit = strength * random.within(0.6..1.2);
        let first = at.max(0.0).ceil() as usize;
        for (i, sample) in signal.iter_mut().enumerate().skip(first) {
            let time = (i as f64 - at) / SAMPLE_RATE;
            let ring = hit * libm::exp(-decay * time) * libm::sin(2.0 * PI * resonance * time);
            (0..3).for_each(|axis| sample[axis] += direction[axis] * ring);
        }
        at += period * random.within(0.97..1.03);
    }
}

/// Applies the sensor: orientation, gain, offset, converter.
fn observe(signal: &[[f64; 3]], condition: Condition, random: &mut Random, out: &mut Vec<u8>) {
    let tilt = 10.0 * PI / 180.0;
    let (mut turn, mut gain, mut hum) = ([0.0; 3], 1.0, 0.0);
    if condition == Condition::Shifted {
        (turn, gain, hum) = ([0.8, 0.3, 0.4], 0.7, 0.15);
    }
    let angles = turn.map(|angle| angle + random.within(-tilt..tilt));
    let gains = [0; 3].map(|_| gain * random.within(0.9..1.1));
    let offsets = [0; 3].map(|_| random.normal_of(0.05));
    let hum_phase = random.phase();
    for (i, &sample) in signal.iter().enumerate() {
        let angle = 2.0 * PI * 50.0 * i as f64 / SAMPLE_RATE + hum_phase;
        let mains = hum * (libm::sin(angle) + 0.4 * libm::sin(3.0 * angle));
        let turned = rotate(sample, angles);
        out.extend(
            (0..3)
                .map(|axis| offset_binary((gains[axis] * turned[axis] + offsets[axis] + mains) / FULL_SCALE)),
        );
    }
}

/// Rotates about the axes 0, 1 and 2, in this order.
fn rotate(v: [f64; 3], angles: [f64; 3]) -> [f64; 3] {
    let mut v = v;
    for (axis, angle) in angles.into_iter().enumerate() {
        let (a, b) = ((axis + 1) % 3, (axis + 2) % 3);
        let (s, c) = (libm::sin(angle), libm::cos(angle));
        (v[a], v[b]) = (c * v[a] - s * v[b], s * v[a] + c * v[b]);
    }
    v
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turning_keeps_the_length() {
        let v = rotate([1.0, 2.0, -0.5], [0.3, -1.0, 2.0]);
        assert!((v.iter().map(|x| x * x).sum::<f64>() - 5.25).abs() < 1e-12);
    }

    #[test]
    fn impacts_come_at_the_ball_pass_rate() {
        // Slow enough that each ringing ends before the next impact.
        let mut signal = vec![[0.0; 3]; 2000];
        add_impacts(&mut signal, 2.0, 1.0, &mut Random::new(1, 1));
        let begins = signal.windows(2).filter(|w| w[0][0].abs() < 1e-3 && w[1][0].abs() > 0.05).count();
        assert!((13..=15).contains(&begins), "{begins} impacts, 14 expected");
    }
}
