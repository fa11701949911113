//! Finds integers in float32 weights: a scale for each block of weights of which all weights are whole multiples.
//!
//! Weights that a quantiser rounded and dequantised again have such scales, whatever way they came; other weights have
//! not. Integers times scale, rounded once, give the weights' bits again, so nothing is lost.

/// Largest multiple: the range of uint8 around any zero point.
const MOST: i32 = 255;

/// Integers of a layer's weights.
#[derive(Debug, PartialEq)]
pub struct Integers {
    /// 2, 4 or 8.
    pub bits: u8,
    /// Weights of a block, along a channel.
    pub block: usize,
    /// Scale of each block, channel by channel.
    pub scales: Vec<f32>,
    /// Added to the integers of each block; empty if all are 0.
    pub offsets: Vec<i8>,
    /// Signed integers of `bits`.
    pub codes: Vec<i8>,
}

impl Integers {
    /// The weights, with each channel of `taps` multiplied by its factor. The factor changes the scales, so the weights
    /// are whole multiples of a scale again.
    pub fn scaled(&self, taps: usize, factors: &[f32]) -> Vec<f32> {
        let blocks = taps.div_ceil(self.block);
        let weight = |(i, code): (usize, &i8)| {
            let block = i / taps * blocks + i % taps / self.block;
            let offset = self.offsets.get(block).copied().unwrap_or(0);
            let scale = self.scales[block] * factors.get(i / taps).copied().unwrap_or(1.0);
            (i32::from(*code) + i32::from(offset)) as f32 * scale
        };
        self.codes.iter().enumerate().map(weight).collect()
    }

    /// Integers of `weights`, whose channels have `taps` weights each; `None` if there are none.
    pub fn find(weights: &[f32], taps: usize) -> Option<Self> {
        if taps == 0 || weights.is_empty() {
            return None;
        }
        let powers = (3..12).rev().flat_map(|n| [3 << (n - 1), 1 << n]).filter(|block| *block < taps);
        std::iter::once(taps).chain(powers).find_map(|block| Self::of_blocks(weights, taps, block))
    }

    fn of_blocks(weights: &[f32], taps: usize, block: usize) -> Option<Self> {
        let (mut scales, mut wholes) = (Vec::new(), Vec::with_capacity(weights.len()));
        for values in weights.chunks(taps).flat_map(|row| row.chunks(block)) {
            scales.push(multiples(values, &mut wholes)?);
        }
        let ranges: Vec<[i32; 2]> = wholes
            .chunks(taps)
            .flat_map(|row| row.chunks(block))
            .map(|block: &[i32]| {
                let first = block.first().copied().unwrap_or(0);
                block.iter().fold([first; 2], |[low, high], v| [low.min(*v), high.max(*v)])
            })
            .collect();
        let offset = |bits: u8, [low, high]: [i32; 2]| {
            let half = 1 << (bits - 1);
            let (least, most) = (high - (half - 1), low + half);
            (least <= most).then(|| 0i32.clamp(least, most)).and_then(|offset| i8::try_from(offset).ok())
        };
        let fitting = |bits: u8| {
            let offsets: Option<Vec<i8>> = ranges.iter().map(|range| offset(bits, *range)).collect();
            offsets.map(|offsets| (bits, offsets))
        };
        let (bits, mut offsets) = [2, 4, 8].into_iter().find_map(fitting)?;
        let blocks = taps.div_ceil(block);
        let code =
            |(i, v): (usize, &i32)| (v - i32::from(offsets[i / taps * blocks + i % taps / block])) as i8;
        let codes = wholes.iter().enumerate().map(code).collect();
        if offsets.iter().all(|offset| *offset == 0) {
            offsets.clear();
        }
        Some(Self { bits, block, scales, offsets, codes })
    }

    /// Codes, the first one in the lowest bits; each channel of `taps` begins with a whole byte.
    pub fn packed(&self, taps: usize) -> Vec<u8> {
        let per_byte = usize::from(8 / self.bits);
        let mask = if self.bits == 8 { 0xff } else { (1 << self.bits) - 1 };
        let byte = |codes: &[i8]| {
            codes.iter().rev().fold(0u8, |byte, code| {
                if per_byte == 1 { *code as u8 } else { byte << self.bits | (*code as u8 & mask) }
            })
        };
        self.codes.chunks(taps).flat_map(|row| row.chunks(per_byte).map(byte)).collect()
    }
}

/// Appends whole numbers that give `values`, bit for bit, when multiplied by the returned scale.
fn multiples(values: &[f32], wholes: &mut Vec<i32>) -> Option<f32> {
    let (low, high) = values.iter().fold((0.0f32, 0.0f32), |(low, high), v| (low.min(*v), high.max(*v)));
    let largest = high.max(-low);
    if !values.iter().all(|v| v.is_finite()) {
        return None;
    }
    // Quantisers that use all of -8 to 7 have negative scales, and zeros with a sign.
    let zeros = || values.iter().filter(|v| **v == 0.0);
    let negative = if zeros().next().is_some() { zeros().any(|v| v.is_sign_negative()) } else { high > -low };
    let sign = if negative { -1.0f32 } else { 1.0 };
    let whole = |v: f32, scale: f32| {
        let whole = (v / scale).round();
        (whole.abs() <= MOST as f32 && (whole as i32 as f32 * scale).to_bits() == v.to_bits())
            .then_some(whole as i32)
    };
    if largest == 0.0 {
        wholes.extend(values.iter().map(|_| 0));
        return values.iter().all(|v| whole(*v, sign).is_some()).then_some(sign);
    }
    for n in 1..=MOST {
        // The quotient may miss the scale by its own rounding and that of the product.
        let near = (largest / n as f32).to_bits();
        for bits in near.saturating_sub(2)..=near.saturating_add(2) {
            let scale = f32::from_bits(bits) * sign;
            if scale.is_normal() && values.iter().all(|v| whole(*v, scale).is_some()) {
                wholes.extend(values.iter().filter_map(|v| whole(*v, scale)));
                return Some(scale);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn real(found: &Integers, taps: usize) -> Vec<f32> {
        let bits = |v: Vec<f32>| v.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let plain = plain(found, taps);
        assert_eq!(bits(found.scaled(taps, &[])), bits(plain.clone()));
        plain
    }

    fn plain(found: &Integers, taps: usize) -> Vec<f32> {
        let blocks = taps.div_ceil(found.block);
        let place = |i: usize| i / taps * blocks + i % taps / found.block;
        let offset = |i: usize| found.offsets.get(place(i)).copied().unwrap_or(0);
        let code = |i: usize| f32::from(i16::from(found.codes[i]) + i16::from(offset(i)));
        (0..found.codes.len()).map(|i| code(i) * found.scales[place(i)]).collect()
    }

    #[test]
    fn integers_are_found_again() {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        for (bits, zero, block, taps) in [
            (8, 0, 70, 70),
            (8, 100, 70, 70),
            (4, 0, 32, 100),
            (4, 5, 16, 64),
            (2, 0, 96, 200),
            (2, 1, 40, 40),
        ] {
            let (mut weights, mut scale) = (Vec::new(), 0.0);
            for i in 0..12 * taps {
                if i % taps % block == 0 {
                    scale = 0.001 + next() as f32 * 1e-9;
                }
                let code = (next() % (1 << bits)) as i32 - (1 << (bits - 1));
                weights.push((code - zero) as f32 * scale);
            }
            let found = Integers::find(&weights, taps).unwrap();
            assert_eq!((found.bits, found.block, found.offsets.is_empty()), (bits, block, zero == 0));
            assert_eq!(real(&found, taps), weights);
            assert_eq!(found.packed(taps).len(), 12 * (taps * usize::from(bits)).div_ceil(8));
        }
    }

    #[test]
    fn scales_may_be_negative() {
        // -8 to 7 with a scale of -0.3: zeros have a sign.
        let weights: Vec<f32> = (0..64).map(|i| (i % 16 - 8) as f32 * -0.3).collect();
        let found = Integers::find(&weights, 64).unwrap();
        assert_eq!((found.bits, found.offsets.len()), (4, 0));
        assert_eq!(real(&found, 64)[8].to_bits(), (-0.0f32).to_bits());
        // A factor leaves them integers.
        let scaled = found.scaled(64, &[0.7]);
        let again = Integers::find(&scaled, 64).unwrap();
        assert_eq!((again.bits, again.offsets.len()), (4, 0));
        let close = |(a, b): (&f32, &f32)| (a - b * 0.7).abs() <= 1e-6 * a.abs();
        assert!(scaled.iter().zip(&weights).all(close));
    }

    #[test]
    fn trained_weights_have_none() {
        let weights: Vec<f32> = (0..640).map(|i| (i as f32 * 0.7311).sin()).collect();
        assert_eq!(Integers::find(&weights, 64), None);
        assert_eq!(Integers::find(&[1.0, -0.0, 0.0, 1.0], 4), None);
        assert_eq!(Integers::find(&[1.0, f32::NAN], 2), None);
    }
}
