//! Unpacks weights of 4 and 2 bits: see [`offshoot_format::packed`].

/// Fills the table that maps codes to 16-bit halves. `levels` has 16 or 4 values.
pub fn fill_halves(levels: &[i8], table: &mut [i16]) {
    for (row, &b) in table.chunks_exact_mut(levels.len().max(1)).zip(levels) {
        for (half, &a) in row.iter_mut().zip(levels) {
            *half = i16::from(b).wrapping_mul(256).wrapping_add(a.into());
        }
    }
}

/// Unpacks codes to 16-bit halves of words.
pub fn expand(codes: &[u8], table: &[i16], halves: &mut [i16]) {
    if let Ok(table) = <&[i16; 256]>::try_from(table) {
        for (half, &code) in halves.iter_mut().zip(codes) {
            *half = table[usize::from(code)];
        }
    } else if let Ok(table) = <&[i16; 16]>::try_from(table) {
        for (pair, &codes) in halves.chunks_exact_mut(2).zip(codes) {
            pair[0] = table[usize::from(codes & 15)];
            pair[1] = table[usize::from(codes >> 4)];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_become_both_channels_weights() {
        let levels: [i8; 16] = core::array::from_fn(|i| i as i8 - 8);
        let mut table = [0; 256];
        fill_halves(&levels, &mut table);
        let mut halves = [0; 2];
        // A = -8, B = 7; A = 7, B = -8.
        expand(&[0xf0, 0x0f], &table, &mut halves);
        assert_eq!(halves, [256 * 7 - 8, 256 * -8 + 7]);

        let mut table = [0; 16];
        fill_halves(&[-1, 0, 1, 100], &mut table);
        // 4-bit codes: A = -1, B = 100, then A = 1, B = 0.
        expand(&[0b01_10_11_00], &table, &mut halves);
        assert_eq!(halves, [256 * 100 - 1, 1]);
    }
}
