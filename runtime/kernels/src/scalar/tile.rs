//! The loops over the inputs of a tile: sums of a block of four output channels for two pixels.
//!
//! The channels A and B share a 16-bit half of the tiled weights, `256·B + A`: a product with the half and one with its
//! low byte give `256·S_B + S_A` and `S_A` ([`offshoot_format::record::ConvTiled`]). A core without vectors takes as
//! many multiplications for this as for bytes of their own, and reads half as often.

#[cfg(not(any(scalar_v7m, scalar_v6m, scalar_rv32m)))]
mod plain;
#[cfg(scalar_rv32m)]
mod rv32m;
#[cfg(scalar_v6m)]
mod v6m;
#[cfg(scalar_v7m)]
mod v7m;

#[cfg(not(any(scalar_v7m, scalar_v6m, scalar_rv32m)))]
use plain as isa;
#[cfg(scalar_rv32m)]
use rv32m as isa;
#[cfg(scalar_v6m)]
use v6m as isa;
#[cfg(scalar_v7m)]
use v7m as isa;

/// For each of two pixels `256·S_B + S_A`, `S_A`, `256·S_D + S_C`, `S_C`; or the sums of A to D.
pub(super) type Sums = [[i32; 4]; 2];

/// Sums for the pixels of a pair with inputs `lanes`, from the halves of a block. Both are groups of eight values, of
/// four inputs each; what is beyond the shorter does not count.
#[inline(always)]
pub(super) fn pair(lanes: &[i16], weights: &[i16]) -> Sums {
    let groups = (lanes.len() / 8).min(weights.len() / 8);
    let mut sums = [[0; 4]; 2];
    isa::pair(&lanes[..8 * groups], &weights[..8 * groups], &mut sums);
    sums
}

/// Sums of A to D, from 16-bit weights: sixteen for a group of four inputs.
#[inline(always)]
pub(super) fn pair_wide(lanes: &[i16], weights: &[i16]) -> Sums {
    let groups = (lanes.len() / 8).min(weights.len() / 16);
    let mut sums = [[0; 4]; 2];
    isa::pair_wide(&lanes[..8 * groups], &weights[..16 * groups], &mut sums);
    sums
}

/// Sums of two blocks for one pixel, whose inputs are `src`.
#[inline(always)]
pub(super) fn vector(src: &[i8], one: &[i16], two: &[i16], sums: &mut Sums) {
    let groups = (src.len() / 4).min(one.len() / 8).min(two.len() / 8);
    isa::vector(&src[..4 * groups], &one[..8 * groups], &two[..8 * groups], sums);
}

/// Outputs of whole blocks of [`offshoot_format::record::ConvSingleMultiply`] for a pair with inputs `lanes`, from the
/// first block on. Blocks have `size` words. Returns how many are done: all or none.
#[inline(always)]
pub(super) fn blocks(
    wide: bool,
    words: &[i32],
    size: usize,
    lanes: &[i16],
    first: &mut [i8],
    second: &mut [i8],
) -> usize {
    #[cfg(any(scalar_v7m, scalar_v6m))]
    return isa::blocks(wide, words, size, lanes, first, second);
    #[cfg(not(any(scalar_v7m, scalar_v6m)))]
    {
        let _ = (wide, words, size, lanes, first, second);
        0
    }
}
