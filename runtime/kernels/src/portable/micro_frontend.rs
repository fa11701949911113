//! TensorFlow Lite Micro's microfrontend in integers: window, Fourier transform of int16 (the arithmetic of KISS FFT: radix 4 and 2,
//! each stage divided by its radix), filter bank, square root, noise reduction, gain control (PCAN), logarithm. The features
//! are its, bit for bit.

use offshoot_format::record::MicroFrontend;

/// A complex number in int16.
type Complex = [i16; 2];

/// Constants of a front end; see [`MicroFrontend`].
#[derive(Clone, Copy, Debug)]
pub struct MicroTables<'a> {
    /// Window of a frame; 4096 is 1.
    pub window: &'a [i16],
    /// `exp(-2πi·k / n)` of the `n = size / 2` elements of the complex transform; 32767 is 1.
    pub twiddles: &'a [Complex],
    /// The factors that make a real transform of it.
    pub halves: &'a [Complex],
    /// Bins of each channel, and of the falling side of the last.
    pub widths: &'a [u16],
    /// Of each bin its weight in its channel and in the one before; 4096 is 1.
    pub weights: &'a [Complex],
    /// Gain over the noise estimate, as pieces of parabolas.
    pub gain: &'a [i16],
    /// Deviation of the logarithm to base 2 from a line, at 129 places.
    pub log: &'a [u16],
}

fn rounded(product: i32) -> i16 {
    (product.wrapping_add(1 << 14) >> 15) as i16
}

fn times([a, b]: Complex, [c, d]: Complex) -> Complex {
    let [a, b, c, d] = [a, b, c, d].map(i32::from);
    [rounded((a * c).wrapping_sub(b * d)), rounded((a * d).wrapping_add(b * c))]
}

fn divided(a: Complex, by: i32) -> Complex {
    a.map(|v| rounded(i32::from(v) * (32767 / by)))
}

fn plus([a, b]: Complex, [c, d]: Complex) -> Complex {
    [a.wrapping_add(c), b.wrapping_add(d)]
}

fn minus([a, b]: Complex, [c, d]: Complex) -> Complex {
    [a.wrapping_sub(c), b.wrapping_sub(d)]
}

/// Where the next element of the first stage comes from: the place counts up in digits of base 4, and of base 2 the last if `bits` is
/// odd, from the highest digit on.
fn next_place(mut from: usize, bits: u32) -> usize {
    let (mut top, mut width) = (bits, 2 - bits % 2);
    while let Some(low) = top.checked_sub(width) {
        from += 1 << low;
        if from >> top == 0 {
            break;
        }
        from &= (1 << top) - 1;
        (top, width) = (low, 2);
    }
    from
}

/// Complex transform of `given`, whose length is a power of two, to `out` of the same length.
fn complex_transform(given: &[Complex], twiddles: &[Complex], out: &mut [Complex]) {
    let n = out.len();
    let bits = n.max(1).ilog2();
    let mut from = 0;
    for to in &mut *out {
        *to = given.get(from).copied().unwrap_or_default();
        from = next_place(from, bits);
    }
    let turn = |k: usize| twiddles.get(k).copied().unwrap_or_default();
    if bits % 2 == 1 {
        for [a, b] in out.as_chunks_mut::<2>().0 {
            let (x, y) = (divided(*a, 2), times(divided(*b, 2), turn(0)));
            (*a, *b) = (plus(x, y), minus(x, y));
        }
    }
    let mut quarter = 1 << (bits % 2);
    while quarter < n {
        let stride = n / (4 * quarter);
        for block in out.chunks_exact_mut(4 * quarter) {
            let (first, rest) = block.split_at_mut(quarter);
            let (second, rest) = rest.split_at_mut(quarter);
            let (third, fourth) = rest.split_at_mut(quarter);
            let all = first.iter_mut().zip(second).zip(third).zip(fourth);
            for (k, (((a, b), c), d)) in all.enumerate() {
                let x = divided(*a, 4);
                let y = times(divided(*b, 4), turn(k * stride));
                let z = times(divided(*c, 4), turn(2 * k * stride));
                let w = times(divided(*d, 4), turn(3 * k * stride));
                let (even, odd) = (plus(x, z), minus(x, z));
                let (sum, [re, im]) = (plus(y, w), minus(y, w));
                *a = plus(even, sum);
                *c = minus(even, sum);
                *b = [odd[0].wrapping_add(im), odd[1].wrapping_sub(re)];
                *d = [odd[0].wrapping_sub(im), odd[1].wrapping_add(re)];
            }
        }
        quarter *= 4;
    }
}

/// Bins 1 to n - 1 of a real signal of 2·n elements from the complex transform of its pairs, in place.
fn real_transform(bins: &mut [Complex], halves: &[Complex]) {
    let n = bins.len();
    for k in 1..=n / 2 {
        let (Some(&low), Some(&high)) = (bins.get(k), bins.get(n - k)) else { return };
        let [low, high] = [divided(low, 2), divided([high[0], high[1].wrapping_neg()], 2)];
        let turned = times(minus(low, high), halves.get(k - 1).copied().unwrap_or_default());
        let [[a, b], [c, d]] = [plus(low, high), turned].map(|v| v.map(i32::from));
        if let Some(to) = bins.get_mut(k) {
            *to = [((a + c) >> 1) as i16, ((b + d) >> 1) as i16];
        }
        if let Some(to) = bins.get_mut(n - k) {
            *to = [((a - c) >> 1) as i16, ((d - b) >> 1) as i16];
        }
    }
}

/// The code of 16 bits that a converter gives for a sample: `x · 32768`, rounded to the nearest, ties to even, and saturated; 0 for
/// NaN. In integers, which takes few instructions without an FPU too.
fn code(x: f32) -> i16 {
    let bits = x.to_bits();
    let (exponent, fraction) = (bits >> 23 & 0xff, bits & 0x7f_ffff);
    let magnitude = match exponent {
        // Below half a step.
        0..=109 => 0,
        110..=126 => {
            let (number, shift) = (fraction | 1 << 23, 135 - exponent);
            let (whole, rest, half) = (number >> shift, number & ((1 << shift) - 1), 1 << (shift - 1));
            whole + u32::from(rest > half || rest == half && whole & 1 == 1)
        }
        255 if fraction != 0 => 0,
        _ => 32768,
    };
    let signed = if bits >> 31 == 1 { -(magnitude as i32) } else { (magnitude as i32).min(32767) };
    signed as i16
}

/// The spectrum of a frame of samples from -1 to 1. `work` has `2 · size` elements, of which the second half becomes the bins.
/// Returns by how many bits the samples were enlarged.
pub fn micro_spectrum(t: &MicroTables<'_>, samples: &[f32], work: &mut [i16]) -> u32 {
    let (signal, bins) = work.split_at_mut(work.len() / 2);
    signal.fill(0);
    let mut most = 0i16;
    for ((to, x), w) in signal.iter_mut().zip(samples).zip(t.window) {
        *to = ((i32::from(code(*x)) * i32::from(*w)) >> 12) as i16;
        most = most.max(to.wrapping_abs());
    }
    let shift = (most.unsigned_abs().leading_zeros()).saturating_sub(1);
    signal.iter_mut().for_each(|v| *v = v.wrapping_shl(shift));
    let bins = bins.as_chunks_mut::<2>().0;
    complex_transform(signal.as_chunks::<2>().0, t.twiddles, bins);
    real_transform(bins, t.halves);
    shift
}

/// Square roots of the energies of the channels. `work` is that of [`micro_spectrum`], whose result is `shift`.
pub fn micro_bands(r: &MicroFrontend, t: &MicroTables<'_>, work: &[i16], shift: u32, out: &mut [u32]) {
    let bins = work.split_at(work.len() / 2).1.as_chunks::<2>().0;
    let mut bins = bins.get(usize::from(r.start)..).unwrap_or(&[]).iter();
    let mut weights = t.weights.iter();
    let (mut own, mut next) = (0u64, 0u64);
    for (channel, width) in t.widths.iter().enumerate() {
        for ([re, im], [up, down]) in bins.by_ref().zip(weights.by_ref()).take((*width).into()) {
            let [re, im] = [re, im].map(|v| i32::from(*v));
            let energy = (re * re).wrapping_add(im * im) as i64 as u64;
            own = own.wrapping_add((i64::from(*up) as u64).wrapping_mul(energy));
            next = next.wrapping_add((i64::from(*down) as u64).wrapping_mul(energy));
        }
        // What lies below the first channel's peak belongs to none.
        if let Some(out) = channel.checked_sub(1).and_then(|c| out.get_mut(c)) {
            *out = root(own) >> shift;
        }
        (own, next) = (next, 0);
    }
}

/// The square root, rounded to the nearest; of numbers below 2^32 at most 65535.
fn root(v: u64) -> u32 {
    let most = if v >> 32 == 0 { 0xffff } else { 0xffff_ffff };
    let mut rest = v;
    let mut found = 0u64;
    let mut bit = 1u64 << (v.max(1).ilog2() & !1);
    while bit > 0 {
        if rest >= found + bit {
            rest -= found + bit;
            found = (found >> 1) + bit;
        } else {
            found >>= 1;
        }
        bit >>= 2;
    }
    (found + u64::from(rest > found && found < most)) as u32
}

/// Moves the estimates of the noise towards the channels' signals.
pub fn micro_noise(r: &MicroFrontend, signal: &[u32], noise: &mut [u32]) {
    for (channel, (estimate, signal)) in noise.iter_mut().zip(signal).enumerate() {
        let smoothing = u64::from(r.smoothing[channel % 2]);
        let scaled = u64::from(signal.wrapping_shl(r.smoothing_bits.into()));
        let kept = u64::from(*estimate) * (16384u64.saturating_sub(smoothing));
        *estimate = ((scaled * smoothing).wrapping_add(kept) >> 14) as u32;
    }
}

/// The features of a frame from its signals and the estimates of the noise.
pub fn micro_features(
    r: &MicroFrontend,
    t: &MicroTables<'_>,
    signal: &[u32],
    noise: &[u32],
    out: &mut [f32],
) {
    let bits = u32::from(r.smoothing_bits);
    for ((out, signal), noise) in out.iter_mut().zip(signal).zip(noise) {
        let scaled = signal.wrapping_shl(bits);
        let floor = ((u64::from(*signal) * u64::from(r.remaining)) >> 14) as u32;
        let mut v = (scaled.saturating_sub(*noise).wrapping_shr(bits)).max(floor);
        if let Some(shift) = r.gain {
            let gain = gain(*noise, t.gain) as u32;
            v = shrunk((u64::from(v).wrapping_mul(gain.into()).wrapping_shr(shift.into())) as u32);
        }
        if let Some(shift) = r.log {
            // Half of the filters' 12 bits, less the transform's.
            let correction = u32::from(r.size).max(1).ilog2() as i32 - 6;
            v = if correction < 0 { v >> -correction } else { v.wrapping_shl(correction as u32) };
            v = if v > 1 { logarithm(v, shift, t.log) } else { 0 };
        }
        *out = v.min(0xffff) as f32;
    }
}

/// The gain over an estimate of the noise: a parabola for each power of two.
fn gain(x: u32, table: &[i16]) -> i16 {
    let entry = |at: usize| table.get(at).copied().map_or(0, i32::from);
    if x <= 2 {
        return entry(x as usize) as i16;
    }
    let interval = x.ilog2() + 1;
    let at = 4 * interval as usize - 6;
    let shifted = if interval < 11 { x << (11 - interval) } else { x >> (interval - 11) };
    let fraction = (shifted & 0x3ff) as i32;
    let slope = (entry(at + 2).wrapping_mul(fraction) >> 5).wrapping_add(entry(at + 1) << 5);
    let rise = slope.wrapping_mul(fraction).wrapping_add(1 << 14) >> 15;
    rise.wrapping_add(entry(at)) as i16
}

/// A ratio of signal to noise with 12 bits behind the point, with 6: a parabola below 2, a line above.
fn shrunk(x: u32) -> u32 {
    if x < 2 << 12 { (x * x) >> 20 } else { (x >> 6) - (1 << 6) }
}

/// The natural logarithm times `2^shift`; `x` is 2 or more.
fn logarithm(x: u32, shift: u8, table: &[u16]) -> u32 {
    let whole = x.max(1).ilog2();
    let above = i64::from(x) - (1i64 << whole);
    let fraction = if whole < 16 { above << (16 - whole) } else { above >> (whole - 16) } as i32;
    let segment = (fraction >> 9) as usize;
    let entry = |at: usize| table.get(at).copied().map_or(0, i32::from);
    let (from, to) = (entry(segment), entry(segment + 1));
    let within = (to - from).wrapping_mul(fraction - ((segment as i32) << 9)) >> 16;
    let log2 = (whole << 16).wrapping_add((fraction + from + within) as u32);
    // 45426 is ln 2 with 16 bits behind the point.
    let natural = ((45426 * u64::from(log2) + (1 << 15)) >> 16) as u32;
    natural.wrapping_shl(shift.into()).wrapping_add(1 << 15) >> 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::f64::consts::{PI, TAU};

    fn turns(count: usize, angle: impl Fn(usize) -> f64) -> Vec<Complex> {
        let code = |v: f64| (32767.0 * v + 0.5).floor() as i16;
        (0..count).map(|k| [code(angle(k).cos()), code(angle(k).sin())]).collect()
    }

    #[test]
    fn the_spectrum_is_that_of_float64_but_for_rounding() {
        for size in [32usize, 64, 256, 512, 4096] {
            let n = size / 2;
            let (window, log) = (vec![4096i16; size], []);
            let t = MicroTables {
                window: &window,
                twiddles: &turns(n, |k| -TAU * k as f64 / n as f64),
                halves: &turns(n / 2, |k| -PI * ((k + 1) as f64 / n as f64 + 0.5)),
                widths: &[],
                weights: &[],
                gain: &[],
                log: &log,
            };
            // A quarter of full scale: the samples are enlarged by one bit or two.
            let x: Vec<f32> = (0..size).map(|i| ((i * i * 37 % 101) as f32 - 50.0) / 210.0).collect();
            let mut work = vec![0; 2 * size];
            let shift = micro_spectrum(&t, &x, &mut work);
            assert_eq!(shift, 2, "{size}");
            let bins = work.split_at(size).1.as_chunks::<2>().0;
            for (bin, found) in bins.iter().enumerate().skip(1) {
                let part = |f: fn(f64) -> f64| {
                    let turned = |(i, x): (usize, &f32)| {
                        f64::from(*x) * f(TAU * (i * bin % size) as f64 / size as f64)
                    };
                    x.iter().enumerate().map(turned).sum::<f64>() * 32768.0 * 4.0 / size as f64
                };
                let wanted = [part(f64::cos), -part(f64::sin)];
                for (a, b) in found.iter().zip(wanted) {
                    assert!((f64::from(*a) - b).abs() < 4.0, "{size}, bin {bin}: {a} instead of {b}");
                }
            }
        }
    }

    #[test]
    fn codes_are_rounded_and_saturated() {
        let mut all: Vec<f32> = (-70_000..70_000).map(|i| i as f32 / 65536.0).collect();
        all.extend((0..200_000u32).map(|i| f32::from_bits(i.wrapping_mul(0x9e37_79b9))));
        all.extend([f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -0.0, f32::MIN_POSITIVE]);
        for x in all {
            assert_eq!(code(x), (x * 32768.0).round_ties_even() as i16, "{x}");
        }
    }

    #[test]
    fn roots_are_rounded() {
        let mut v = 1u64;
        for _ in 0..2000 {
            v = v.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            for number in [v, v >> 20, v >> 33, v >> 50] {
                let least = number.isqrt();
                let nearest = least + u64::from(number - least * least > least);
                let most = if number >> 32 == 0 { 0xffff } else { 0xffff_ffff };
                assert_eq!(u64::from(root(number)), nearest.min(most), "{number}");
            }
        }
        assert_eq!([0, 1, 2, 3, u64::MAX].map(root), [0, 1, 1, 2, u32::MAX]);
    }

    #[test]
    fn logarithms_are_those_of_float64() {
        let line = |i: usize| (1.0 + i as f64 / 128.0).log2() * 65536.0 - 512.0 * i as f64;
        let table: Vec<u16> = (0..129).map(|i| line(i).round() as u16).collect();
        for x in (2..200).chain((8..32).map(|i| (1u32 << i) + 12345)).chain([u32::MAX]) {
            let wanted = 64.0 * f64::from(x).ln();
            assert!((f64::from(logarithm(x, 6, &table)) - wanted).abs() < 0.6, "{x}");
        }
    }

    #[test]
    fn any_numbers_are_computed() {
        let (i, u) = (i16::MIN, u16::MAX);
        let (window, pairs, gain, log) = (vec![i; 32], vec![[i, i]; 32], vec![i; 125], vec![u; 129]);
        let t = MicroTables {
            window: &window,
            twiddles: &pairs[..16],
            halves: &pairs[..8],
            widths: &[3, 4],
            weights: &pairs[..7],
            gain: &gain,
            log: &log,
        };
        let r = MicroFrontend {
            src: 0,
            dst: 0,
            scratch: 0,
            kept: None,
            samples: 32,
            frames: 1,
            hop: 32,
            frame: 32,
            size: 32,
            channels: 1,
            start: 1,
            entries: 7,
            smoothing_bits: 31,
            smoothing: [16384; 2],
            remaining: 16384,
            gain: Some(63),
            log: Some(31),
            blob: 0,
        };
        let (mut work, mut signal, mut noise, mut out) = (vec![0; 64], [0], [u32::MAX], [0.0]);
        for x in [f32::NAN, f32::INFINITY, -1.0, 1.0] {
            let shift = micro_spectrum(&t, &[x; 32], &mut work);
            micro_bands(&r, &t, &work, shift, &mut signal);
            micro_noise(&r, &signal, &mut noise);
            micro_features(&r, &t, &signal, &noise, &mut out);
        }
    }
}
