//! Finds integers in float32 weights: a scale for each block of weights of which all weights are whole multiples.
//!
//! Weights that a quantiser rounded and dequantised again have such scales, whatever way they came; other weights have
//! not. Integers times scale, rounded once, give the weights' bits again, so nothing is lost.

/// Largest multiple: the range of uint8 around any zero point.
const MOST: i32 = 255;

/// Integers of a layer's weights.
#[derive(Debug, PartialEq)]
pub(crate) struct Grid {
    /// 2, 4 or 8.
    pub(crate) bits: u8,
    /// Weights of a block, along a channel.
    pub(crate) block: usize,
    /// Scale of each block, channel by channel.
    pub(crate) scales: Vec<f32>,
    /// Added to the integers of each block; empty if all are 0.
    pub(crate) offsets: Vec<i8>,
    /// Signed integers of `bits`.
    pub(crate) codes: Vec<i8>,
}

impl Grid {
    /// Integers of `weights`, whose channels have `taps` weights each; `None` if there are none.
    pub(crate) fn find(weights: &[f32], taps: usize) -> Option<Self> {
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
    pub(crate) fn packed(&self, taps: usize) -> Vec<u8> {
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

/// Appends whole numbers that give `values` when multiplied by the returned scale.
fn multiples(values: &[f32], wholes: &mut Vec<i32>) -> Option<f32> {
    let largest = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    // A zero with a sign is no multiple.
    if !values.iter().all(|v| v.is_finite() && !(*v == 0.0 && v.is_sign_negative())) {
        return None;
    }
    if largest == 0.0 {
        wholes.extend(values.iter().map(|_| 0));
        return Some(1.0);
    }
    let whole = |v: f32, scale: f32| {
        let whole = (v / scale).round();
        (whole.abs() <= MOST as f32 && whole * scale == v).then_some(whole as i32)
    };
    for n in 1..=MOST {
        // The quotient may miss the scale by its own rounding and that of the product.
        let near = (largest / n as f32).to_bits();
        for bits in near.saturating_sub(2)..=near.saturating_add(2) {
            let scale = f32::from_bits(bits);
            let fits = scale.is_normal() && scale > 0.0 && values.iter().all(|v| whole(*v, scale).is_some());
            if fits {
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

    fn real(grid: &Grid, taps: usize) -> Vec<f32> {
        let blocks = taps.div_ceil(grid.block);
        let place = |i: usize| i / taps * blocks + i % taps / grid.block;
        let offset = |i: usize| grid.offsets.get(place(i)).copied().unwrap_or(0);
        let code = |i: usize| f32::from(i16::from(grid.codes[i]) + i16::from(offset(i)));
        (0..grid.codes.len()).map(|i| code(i) * grid.scales[place(i)]).collect()
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
            let grid = Grid::find(&weights, taps).unwrap();
            assert_eq!((grid.bits, grid.block, grid.offsets.is_empty()), (bits, block, zero == 0));
            assert_eq!(real(&grid, taps), weights);
            assert_eq!(grid.packed(taps).len(), 12 * (taps * usize::from(bits)).div_ceil(8));
        }
    }

    #[test]
    fn trained_weights_have_none() {
        let weights: Vec<f32> = (0..640).map(|i| (i as f32 * 0.7311).sin()).collect();
        assert_eq!(Grid::find(&weights, 64), None);
        assert_eq!(Grid::find(&[1.0, -0.0, 1.0, 1.0], 4), None);
        assert_eq!(Grid::find(&[1.0, f32::NAN], 2), None);
    }
}
