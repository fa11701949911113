//! Spectrum of a frame: window, real Fourier transform (`microfft`, which neither fuses nor reorders), and what is kept of it.

use super::float::canonical;
use offshoot_format::record::SpectrumPart;

/// Fills `work` with the frame times the window, and zeros.
pub fn windowed(src: &[f32], window: Option<&[f32]>, work: &mut [f32]) {
    let (used, rest) = work.split_at_mut(src.len().min(work.len()));
    match window {
        Some(window) => used.iter_mut().zip(src).zip(window).for_each(|((w, x), by)| *w = x * by),
        None => used.iter_mut().zip(src).for_each(|(w, x)| *w = *x),
    }
    rest.fill(0.0);
}

/// Whether the transform of so many elements is built.
pub fn has_transform(size: usize) -> bool {
    let built = [
        (32, cfg!(feature = "fft-32")),
        (64, cfg!(feature = "fft-64")),
        (128, cfg!(feature = "fft-128")),
        (256, cfg!(feature = "fft-256")),
        (512, cfg!(feature = "fft-512")),
        (1024, cfg!(feature = "fft-1024")),
        (2048, cfg!(feature = "fft-2048")),
        (4096, cfg!(feature = "fft-4096")),
    ];
    built.contains(&(size, true))
}

/// Transforms in place: real and imaginary part of each bin but the last, whose real part takes the place of the first one's
/// imaginary part, which is 0. Does nothing for a size that is not built ([`has_transform`]).
pub fn transform(work: &mut [f32]) {
    macro_rules! sizes {
        ($($feature:literal $size:literal $transform:ident),*) => {
            match work.len() {
                $(#[cfg(feature = $feature)]
                $size => {
                    if let Ok(work) = <&mut [f32; $size]>::try_from(work) {
                        let _ = microfft::real::$transform(work);
                    }
                })*
                _ => {}
            }
        };
    }
    sizes!(
        "fft-32" 32 rfft_32, "fft-64" 64 rfft_64, "fft-128" 128 rfft_128, "fft-256" 256 rfft_256,
        "fft-512" 512 rfft_512, "fft-1024" 1024 rfft_1024, "fft-2048" 2048 rfft_2048, "fft-4096" 4096 rfft_4096
    );
}

/// What `part` keeps of a [`transform`], one bin after the other.
pub fn bins(part: SpectrumPart, work: &[f32], dst: &mut [f32]) {
    let Some(([first, last], middle)) = work.split_first_chunk::<2>() else { return };
    let ends = [[*first, 0.0], [*last, 0.0]];
    let middle = middle.as_chunks::<2>().0;
    let all = ends[..1].iter().chain(middle).chain(&ends[1..]);
    match part {
        SpectrumPart::Complex => {
            let (pairs, _) = dst.as_chunks_mut::<2>();
            pairs.iter_mut().zip(all).for_each(|(to, bin)| *to = bin.map(canonical));
        }
        SpectrumPart::Power => {
            dst.iter_mut().zip(all).for_each(|(to, [re, im])| *to = canonical(re * re + im * im));
        }
        SpectrumPart::Magnitude => {
            dst.iter_mut()
                .zip(all)
                .for_each(|(to, [re, im])| *to = canonical(libm::sqrtf(re * re + im * im)));
        }
    }
}

/// Products with bands of weights; see [`FullyConnectedBanded`](offshoot_format::record::FullyConnectedBanded). `bands` are
/// the first input and the number of inputs of each output. All slices have at least one element.
pub fn fully_connected_banded(
    (in_c, clamp): (usize, (f32, f32)),
    (bias, bands, weights): (&[f32], &[[u16; 2]], &[f32]),
    src: &[f32],
    dst: &mut [f32],
) {
    for (x, y) in src.chunks_exact(in_c.max(1)).zip(dst.chunks_exact_mut(bands.len().max(1))) {
        let mut rest = weights;
        for ((out, band), b) in y.iter_mut().zip(bands).zip(bias) {
            let [first, count] = band.map(usize::from);
            let (own, others) = rest.split_at(count.min(rest.len()));
            rest = others;
            let inputs = x.get(first..).unwrap_or(&[]);
            let acc = inputs.iter().zip(own).fold(*b, |s, (x, w)| s + x * w);
            *out = super::float::within(acc, clamp);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::f64::consts::TAU;
    use offshoot_format::spectral::SIZES;

    fn signal(size: usize) -> Vec<f32> {
        (0..size).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0 + (i as f32 * 0.2).sin()).collect()
    }

    /// Real and imaginary part of a bin, in float64.
    fn exact(x: &[f32], bin: usize) -> [f64; 2] {
        x.iter().enumerate().fold([0.0; 2], |[re, im], (n, v)| {
            let (sine, cosine) = ((bin * n % x.len()) as f64 / x.len() as f64 * TAU).sin_cos();
            [re + f64::from(*v) * cosine, im - f64::from(*v) * sine]
        })
    }

    #[test]
    fn transforms_are_those_of_float64() {
        for size in SIZES.map(|(size, _)| usize::from(size)) {
            assert!(has_transform(size));
            let x = signal(size);
            let mut work = vec![0.0; size];
            windowed(&x, None, &mut work);
            transform(&mut work);
            let [mut complex, mut power, mut magnitude] =
                [size + 2, size / 2 + 1, size / 2 + 1].map(|n| vec![0.0; n]);
            bins(SpectrumPart::Complex, &work, &mut complex);
            bins(SpectrumPart::Power, &work, &mut power);
            bins(SpectrumPart::Magnitude, &work, &mut magnitude);
            let most = (size as f64).sqrt() * 4.0;
            for bin in 0..=size / 2 {
                let [re, im] = exact(&x, bin);
                let given = [complex[2 * bin], complex[2 * bin + 1]];
                assert!(
                    (f64::from(given[0]) - re).abs() < 1e-6 * most,
                    "{size}, bin {bin}: {given:?}, not {re}"
                );
                assert!(
                    (f64::from(given[1]) - im).abs() < 1e-6 * most,
                    "{size}, bin {bin}: {given:?}, not {im}"
                );
                assert_eq!(power[bin], given[0] * given[0] + given[1] * given[1]);
                assert_eq!(magnitude[bin], power[bin].sqrt());
            }
        }
    }

    #[test]
    fn frames_are_windowed_and_filled_with_zeros() {
        let mut work = [9.0; 4];
        windowed(&[1.0, 2.0], Some(&[0.5, 0.25]), &mut work);
        assert_eq!(work, [0.5, 0.5, 0.0, 0.0]);
        windowed(&[1.0, 2.0, 3.0], None, &mut work);
        assert_eq!(work, [1.0, 2.0, 3.0, 0.0]);
    }

    #[test]
    fn nan_has_one_form() {
        let mut work = [f32::INFINITY; 32];
        transform(&mut work);
        let mut out = [0.0; 17];
        bins(SpectrumPart::Power, &work, &mut out);
        assert!(out.iter().filter(|v| v.is_nan()).all(|v| v.to_bits() == super::super::float::NAN.to_bits()));
    }

    #[test]
    fn bands_give_the_dense_products() {
        let src = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let (bias, bands, weights) = ([0.5, -1.0, 0.0], [[1, 2], [0, 0], [3, 1]], [10.0, 1.0, 2.0]);
        let mut dst = [0.0; 6];
        fully_connected_banded((4, (-2.0, 68.0)), (&bias, &bands, &weights), &src, &mut dst);
        assert_eq!(dst, [23.5, -1.0, 8.0, 67.5, -1.0, 16.0]);
    }
}
