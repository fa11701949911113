//! Folds many features into fewer: feature `j` is added to place `j mod m` with a random sign (a count sketch: Charikar,
//! Chen and Farach-Colton 2002). Inner products stay as they are in the mean, and a head on the places takes the memory of `m`
//! features.

use offshoot_kernels::{GOLDEN, mix};

/// Place and sign of a feature among `places` places.
pub fn fold(feature: usize, places: usize) -> (usize, f32) {
    let hash = mix((feature as u32).wrapping_add(1).wrapping_mul(GOLDEN));
    (feature % places.max(1), if hash >> 31 == 0 { 1.0 } else { -1.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_has_its_share_and_signs_are_mixed() {
        let mut counts = [0; 10];
        let mut sum = 0.0;
        for feature in 0..1000 {
            let (place, sign) = fold(feature, 10);
            counts[place] += 1;
            sum += sign;
        }
        assert_eq!(counts, [100; 10]);
        assert!(f32::abs(sum) < 100.0, "{sum}");
        assert_eq!(fold(5, 0).0, 0);
    }
}
