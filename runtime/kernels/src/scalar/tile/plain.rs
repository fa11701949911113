//! The loops in Rust, for cores with enough registers (RV32).

use super::Sums;

/// Adds the products of an input of each pixel with the halves of both pairs of channels. `low` are the halves' bytes:
/// the low byte by itself is one load, its extension from a register two instructions.
#[inline(always)]
fn step(p: &mut [i32; 4], q: &mut [i32; 4], (xp, xq): (i16, i16), weights: [i32; 4]) {
    for ((p, q), w) in p.iter_mut().zip(q).zip(weights) {
        *p = p.wrapping_add(i32::from(xp).wrapping_mul(w));
        *q = q.wrapping_add(i32::from(xq).wrapping_mul(w));
    }
}

/// The factors of half `at` of a group and of the one after the next, see [`step`].
#[inline(always)]
fn factors(halves: &[i16], bytes: &[i8], at: usize) -> [i32; 4] {
    [halves[at].into(), bytes[2 * at].into(), halves[at + 2].into(), bytes[2 * at + 4].into()]
}

#[inline(never)]
pub(super) fn pair(lanes: &[i16], weights: &[i16], sums: &mut Sums) {
    let [mut p, mut q] = *sums;
    let low = bytemuck::cast_slice::<i16, i8>(weights).chunks_exact(16);
    for ((x, w), low) in lanes.chunks_exact(8).zip(weights.chunks_exact(8)).zip(low) {
        // The compiler would unroll further, and spill.
        core::hint::black_box(());
        for at in [0, 1, 4, 5] {
            step(&mut p, &mut q, (x[at], x[at + 2]), factors(w, low, at));
        }
    }
    *sums = [p, q];
}

#[inline(never)]
pub(super) fn pair_wide(lanes: &[i16], weights: &[i16], sums: &mut Sums) {
    let [mut p, mut q] = *sums;
    for (x, w) in lanes.chunks_exact(8).zip(weights.chunks_exact(16)) {
        core::hint::black_box(());
        for (at, w) in [(0, &w[..7]), (1, &w[1..8]), (4, &w[8..15]), (5, &w[9..16])] {
            step(&mut p, &mut q, (x[at], x[at + 2]), [0, 2, 4, 6].map(|i| w[i].into()));
        }
    }
    *sums = [p, q];
}

#[inline(never)]
pub(super) fn vector(src: &[i8], one: &[i16], two: &[i16], sums: &mut Sums) {
    let [mut p, mut q] = *sums;
    let low = |weights| bytemuck::cast_slice::<i16, i8>(weights).chunks_exact(16);
    let (low_one, low_two) = (low(one), low(two));
    let one = one.chunks_exact(8).zip(low_one);
    let two = two.chunks_exact(8).zip(low_two);
    for ((x, (w, low)), (v, low_v)) in src.chunks_exact(4).zip(one).zip(two) {
        core::hint::black_box(());
        for (i, at) in [0, 4, 1, 5].into_iter().enumerate() {
            let x = i32::from(x[i]);
            let (w, v) = (factors(w, low, at), factors(v, low_v, at));
            for j in 0..4 {
                p[j] = p[j].wrapping_add(x.wrapping_mul(w[j]));
                q[j] = q[j].wrapping_add(x.wrapping_mul(v[j]));
            }
        }
    }
    *sums = [p, q];
}
