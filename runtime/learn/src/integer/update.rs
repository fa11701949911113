//! Steps of the weights of one output channel, in any weight order.

use super::magnitude::Magnitude;
use super::sparse::Cursor;
use super::step::Coefficient;
use offshoot_format::tiled;
use offshoot_kernels as kernels;
use offshoot_kernels::Random;
use offshoot_kernels::layer::{Geometry, Order};

/// Largest magnitude of a bias of tiled, channel-planar and sparse operators.
pub(super) const MOST_BIAS: i32 = tiled::MOST_BIAS as i32;

/// Largest magnitude of a weight.
const MOST: i32 = 127;

/// Weights, and what their steps need.
pub(super) struct Update<'a> {
    pub(super) weights: &'a mut [i8],
    pub(super) fine: &'a mut [i8],
    pub(super) geometry: &'a Geometry,
    pub(super) random: &'a mut Random,
    /// Position in sparse weights.
    pub(super) cursor: Cursor,
}

/// Steps an 8-bit weight. Most steps are zero, and kernels skip those: a file's weight of -128 stays until its first step.
#[inline(always)]
pub(super) fn of_eight(weight: i32, step: i32) -> i32 {
    if step == 0 { weight } else { (weight - step).clamp(-MOST, MOST) }
}

/// Steps a 16-bit weight: `weight` is its rounded upper byte, `fine` the remainder.
#[inline(always)]
pub(super) fn of_sixteen(weight: i32, fine: &mut i8, step: i32) -> i32 {
    let whole = (weight * 256 + i32::from(*fine) - step).clamp(-MOST * 256, MOST * 256);
    let upper = (whole + 128) >> 8;
    *fine = (whole - upper * 256) as i8;
    upper
}

/// Index of the 16-bit word of an input in a tiled channel: groups of four inputs are in the record's order.
#[inline(always)]
fn place(input: usize) -> usize {
    (input & !3) * 2 + (input & 1) * 4 + (input >> 1 & 1)
}

/// Replaces one of the two weights in a 16-bit word by `next(weight)`; returns the decrease.
#[inline(always)]
fn exchange(half: &mut i16, upper: bool, next: impl FnOnce(i32) -> i32) -> i32 {
    // The word is 256 times the upper weight plus the lower weight.
    let low = i32::from(*half as i8);
    let high = (i32::from(*half) - low) >> 8;
    let old = if upper { high } else { low };
    let new = next(old);
    *half = (if upper { 256 * new + low } else { 256 * high + new }) as i16;
    old - new
}

impl<'a> Update<'a> {
    pub(super) fn new(
        weights: &'a mut [i8],
        fine: &'a mut [i8],
        geometry: &'a Geometry,
        random: &'a mut Random,
    ) -> Self {
        Self { weights, fine, geometry, random, cursor: Cursor::default() }
    }
}

impl Update<'_> {
    /// Steps the weights of a channel; returns the sum of the decreases.
    pub(super) fn channel(&mut self, channel: usize, factor: Magnitude, gradients: &[i32]) -> i32 {
        let sixteen = !self.fine.is_empty();
        let c = Coefficient::new(if sixteen { factor.scaled(8) } else { factor });
        let mut moved = 0;
        // One loop for each of the four cases.
        match (sixteen, c.is_small()) {
            (_, true) if self.lines(channel, c, gradients, &mut moved) => moved,
            (false, true) => self.replace_each(channel, gradients, |w, _, g, r| of_eight(w, c.small(g, r))),
            (false, false) => self.replace_each(channel, gradients, |w, _, g, r| of_eight(w, c.large(g, r))),
            (true, true) => {
                self.replace_each(channel, gradients, |w, f, g, r| of_sixteen(w, f, c.small(g, r)))
            }
            (true, false) => {
                self.replace_each(channel, gradients, |w, f, g, r| of_sixteen(w, f, c.large(g, r)))
            }
        }
    }

    /// Steps tiled weights with the fast kernels; returns whether there are any.
    fn lines(&mut self, channel: usize, c: Coefficient, gradients: &[i32], moved: &mut i32) -> bool {
        let g = self.geometry;
        let Order::Tiled { row } = g.order else { return false };
        let segment = (usize::from(g.window.kernel[1]) * g.c).max(1);
        let (lines, first) = (usize::from(g.window.kernel[0]), g.weight(channel, 0));
        let halves: &mut [i16] = bytemuck::try_cast_slice_mut(self.weights).unwrap_or(&mut []);
        let halves = halves.get_mut(channel / 4 * lines * row * 2 + (channel & 2)..).unwrap_or(&mut []);
        let fine = self.fine.get_mut(first..).unwrap_or(&mut []);
        // Lines without padding are contiguous.
        let joined = if segment == row { segment * lines } else { segment };
        let mut fine = fine.chunks_mut(joined);
        for (ky, gradients) in gradients.chunks(joined).enumerate() {
            let halves = halves.get_mut(ky * 2 * row..).unwrap_or(&mut []);
            let fine = fine.next().unwrap_or(&mut []);
            let upper = channel & 1 == 1;
            let (groups, rest) = gradients.split_at(gradients.len() & !3);
            let (fine, fine_rest) = fine.split_at_mut(fine.len().min(groups.len()));
            match kernels::step_line(halves, upper, fine, groups, c.parts(), self.random) {
                Some(line) => *moved += line,
                // All lines have the same form: the first one decides.
                None => return false,
            }
            let halves = halves.get_mut(2 * groups.len()..).unwrap_or(&mut []);
            let mut fine = fine_rest.iter_mut();
            for (j, &gradient) in rest.iter().enumerate() {
                let Some(half) = halves.get_mut(place(j)) else { break };
                let step = c.small(gradient, self.random);
                *moved += exchange(half, upper, |old| match fine.next() {
                    Some(fine) => of_sixteen(old, fine, step),
                    None => of_eight(old, step),
                });
            }
        }
        if segment * lines * MOST as usize > tiled::MOST_WEIGHT as usize {
            *moved += self.hold(channel);
        }
        true
    }

    /// Replaces each weight by `next(weight, lower byte, gradient, random)`; returns the sum of the decreases.
    #[inline(always)]
    pub(super) fn replace_each(
        &mut self,
        channel: usize,
        gradients: &[i32],
        mut next: impl FnMut(i32, &mut i8, i32, &mut Random) -> i32,
    ) -> i32 {
        let g = self.geometry;
        if let Order::Sparse(matrix) = &g.order {
            let (weights, fine) = (&mut *self.weights, &mut *self.fine);
            let own = (channel, gradients);
            return self.cursor.replace_each((matrix, g.out_c), weights, fine, own, self.random, next);
        }
        let first = g.weight(channel, 0);
        // A local copy keeps the generator's state in a register.
        let (mut moved, mut random, mut none) = (0, *self.random, 0);
        let fine = self.fine.get_mut(first..).unwrap_or(&mut []);
        let Order::Tiled { row } = g.order else {
            let stride = if matches!(g.order, Order::Depthwise { .. }) { g.out_c } else { 1 };
            let weights = self.weights.get_mut(first..).unwrap_or(&mut []).iter_mut().step_by(stride);
            let mut fine = fine.iter_mut().step_by(stride);
            for (weight, &gradient) in weights.zip(gradients) {
                let old = i32::from(*weight);
                let new = next(old, fine.next().unwrap_or(&mut none), gradient, &mut random);
                *weight = new as i8;
                moved += old - new;
            }
            *self.random = random;
            return moved;
        };
        let segment = (usize::from(g.window.kernel[1]) * g.c).max(1);
        let length = usize::from(g.window.kernel[0]) * row;
        let halves: &mut [i16] = bytemuck::try_cast_slice_mut(self.weights).unwrap_or(&mut []);
        let halves = halves.get_mut(channel / 4 * length * 2 + (channel & 2)..).unwrap_or(&mut []);
        let upper = channel & 1 == 1;
        let mut fine = fine.iter_mut();
        for (ky, gradients) in gradients.chunks(segment).enumerate() {
            let halves = halves.get_mut(ky * 2 * row..).unwrap_or(&mut []);
            for (j, &gradient) in gradients.iter().enumerate() {
                let Some(half) = halves.get_mut(place(j)) else { break };
                let fine = fine.next().unwrap_or(&mut none);
                moved += exchange(half, upper, |old| next(old, fine, gradient, &mut random));
            }
        }
        *self.random = random;
        if segment * usize::from(g.window.kernel[0]) * MOST as usize > tiled::MOST_WEIGHT as usize {
            moved += self.hold(channel);
        }
        moved
    }

    /// Reduces a channel's weights until the sum of their magnitudes fits the tiled kernels. This takes very many
    /// inputs with nearly all weights at their bounds.
    #[cold]
    fn hold(&mut self, channel: usize) -> i32 {
        let Order::Tiled { row } = self.geometry.order else { return 0 };
        let length = usize::from(self.geometry.window.kernel[0]) * row;
        let halves: &mut [i16] = bytemuck::try_cast_slice_mut(self.weights).unwrap_or(&mut []);
        let Some(halves) = halves.get_mut(channel / 4 * length * 2..).and_then(|h| h.get_mut(..length * 2))
        else {
            return 0;
        };
        let (upper, lane) = (channel & 1 == 1, channel & 2);
        let split = |half: i16| {
            let low = i32::from(half as i8);
            (low, (i32::from(half) - low) >> 8)
        };
        let own = |half: i16| if upper { split(half).1 } else { split(half).0 };
        // How far the sum exceeds its limit if all magnitudes are the largest. The first weights nearly always show
        // that it does not.
        let mut excess = (length as u64 * MOST as u64).saturating_sub(tiled::MOST_WEIGHT) as i64;
        for pair in halves.get(lane..).unwrap_or(&[]).chunks(4) {
            let of_pair = pair.iter().take(2).map(|&half| i64::from(MOST) - i64::from(own(half).abs()));
            excess -= of_pair.sum::<i64>();
            if excess <= 0 {
                return 0;
            }
        }
        let places = || (0..length * 2).filter(|p| p & 2 == lane);
        let mut sum: u64 = places().map(|p| u64::from(own(halves[p]).unsigned_abs())).sum();
        let mut moved = 0;
        while sum > tiled::MOST_WEIGHT {
            for p in places() {
                let (low, high) = split(halves[p]);
                let old = own(halves[p]);
                if sum > tiled::MOST_WEIGHT && old != 0 {
                    let new = old - old.signum();
                    halves[p] = (if upper { 256 * new + low } else { 256 * high + new }) as i16;
                    moved += old - new;
                    sum -= 1;
                }
            }
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_format::record::Window;
    use offshoot_kernels::geometry::tiled_weight;
    use std::vec;
    use std::vec::Vec;

    fn geometry(c: usize, out_c: usize, kernel: [u16; 2], order: Order) -> Geometry {
        let window = Window { kernel, stride: [1; 2], dilation: [1; 2], pad: [0; 4] };
        Geometry { input: [9, 9], c, output: [9, 9], out_c, window, order }
    }

    #[test]
    fn all_orders_learn_the_same_weights() {
        let (c, out_c, kernel) = (3, 6, [2, 3]);
        let plain = geometry(c, out_c, kernel, Order::Grouped { groups: 1 });
        let tiled = geometry(c, out_c, kernel, Order::Tiled { row: 12 });
        let length = plain.taps() * c;
        for sixteen in [false, true] {
            let lower = if sixteen { plain.weights() } else { 0 };
            let (mut a, mut b) = (vec![0i8; plain.places()], vec![0i16; tiled.places() / 2]);
            let (mut fine_a, mut fine_b) = (vec![0i8; lower], vec![0i8; lower]);
            let mut draws = [Random::new(5), Random::new(5)];
            let mut gradients = Random::new(9);
            for _ in 0..20 {
                for channel in 0..out_c {
                    let gradient: Vec<i32> = (0..length).map(|_| gradients.next_u32() as i32 >> 8).collect();
                    let factor = Magnitude::from_f32(3e-6);
                    let [first, second] = &mut draws;
                    let mut update = Update::new(&mut a, &mut fine_a, &plain, first);
                    let moved = update.channel(channel, factor, &gradient);
                    let weights = bytemuck::cast_slice_mut(&mut b);
                    let mut update = Update::new(weights, &mut fine_b, &tiled, second);
                    assert_eq!(moved, update.channel(channel, factor, &gradient));
                }
            }
            for o in 0..out_c {
                for i in 0..length {
                    let found = tiled_weight(&b, 24, o, i / 9 * 12 + i % 9);
                    assert_eq!(found, i32::from(a[o * length + i]), "{o} {i}");
                }
            }
            assert_eq!(fine_a, fine_b);
            assert!(a.iter().filter(|&&w| w != 0).count() > 100);
        }
    }

    #[test]
    fn a_weight_that_takes_no_step_stays() {
        let moved = [0, 1, -1, 300].map(|step| of_eight(-128, step));
        assert_eq!(moved, [-128, -127, -127, -127]);
        // So do tiled weights, whatever kernel steps them.
        let g = geometry(4, 4, [1, 1], Order::Tiled { row: 4 });
        let mut weights = vec![0x0180i16; g.places() / 2];
        let before = weights.clone();
        let mut random = Random::new(1);
        let mut update = Update::new(bytemuck::cast_slice_mut(&mut weights), &mut [], &g, &mut random);
        assert_eq!(update.channel(0, Magnitude::from_f32(1e-9), &[0; 4]), 0);
        assert_eq!(weights, before);
    }

    #[test]
    fn magnitudes_stay_within_what_the_kernels_hold() {
        let g = geometry(1024, 4, [1, 1], Order::Tiled { row: 1024 });
        let mut weights = vec![0i16; g.places() / 2];
        let mut random = Random::new(1);
        let mut update = Update::new(bytemuck::cast_slice_mut(&mut weights), &mut [], &g, &mut random);
        let moved = update.channel(3, Magnitude::from_f32(1.0), &[-1000; 1024]);
        assert_eq!(moved, -(tiled::MOST_WEIGHT as i32));
        let sum: i32 = (0..1024).map(|i| tiled_weight(&weights, 1024, 3, i)).sum();
        assert_eq!(sum, tiled::MOST_WEIGHT as i32);
        assert!((0..1024).all(|i| tiled_weight(&weights, 1024, 2, i) == 0));
    }
}
