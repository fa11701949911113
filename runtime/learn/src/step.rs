//! Step sizes and annealed noise.

/// `|x|²`, summed in order.
pub fn energy(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |sum, x| sum + x * x)
}

/// The normalised step (NLMS: Widrow and Hoff's rule with Nagumo and Noda's normalisation, 1967): the rate divided by
/// one plus the energy of the input, so that one rate suits inputs of any size. For a convolution, pass the energy of a
/// mean patch: [`patch_energy`].
pub fn normalised(rate: f32, energy: f32) -> f32 {
    rate / (1.0 + energy)
}

/// Energy of a mean patch of `taps` pixels (kernel height × width), summed over `cells`, of an image `[pixels,
/// channels]`. This is the input of one weight's step when every cell has its own error.
pub fn patch_energy(image: &[f32], pixels: usize, taps: usize, cells: usize) -> f32 {
    energy(image) * ((taps * cells) as f32 / pixels.max(1) as f32)
}

/// Standard deviation of annealed noise at a step (Neelakantan et al., arXiv:1511.06807, with exponent one half):
/// `scale / sqrt(1 + step)`.
pub fn annealed(scale: f32, step: u32) -> f32 {
    scale / libm::sqrtf(1.0 + step as f32)
}

/// Adds annealed noise to a gradient (Neelakantan et al., arXiv:1511.06807): normal, with standard deviation `scale /
/// sqrt(1 + step)`.
pub fn add_noise(gradient: &mut [f32], scale: f32, step: u32, random: &mut offshoot_kernels::Random) {
    let deviation = annealed(scale, step);
    for g in gradient {
        *g += deviation * random.normal();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_kernels::Random;

    #[test]
    fn steps_by_hand() {
        assert_eq!(normalised(0.5, energy(&[1.0, -2.0, 2.0])), 0.05);
        assert_eq!(patch_energy(&[1.0; 8], 4, 9, 1), 18.0);
        let (mut early, mut late) = ([0.0; 100], [0.0; 100]);
        add_noise(&mut early, 1.0, 0, &mut Random::new(1));
        add_noise(&mut late, 1.0, 99, &mut Random::new(1));
        let ratio = energy(&early) / energy(&late);
        assert!((ratio - 100.0).abs() < 0.1, "{ratio}");
    }
}
