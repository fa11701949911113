//! Channels whose numbers exceed the range of the fast kernels. A channel with a constant output is rewritten so that
//! it fits. The others are returned with the reason, so that separate operators can compute them ([`super::apart`]).

use offshoot::format::tiled::{MOST_BIAS, MOST_WEIGHT, SHIFTS};
use offshoot::kernels::portable::fixed_point::multiply_by_quantized_multiplier;

use super::exact_line::reach;
use super::parameters::Quantised;

/// Multiplier and shift of one quarter, for channels that are constant or taken out.
const QUARTER: (i32, i8) = (1 << 30, -1);

/// A channel that the fast kernels cannot compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Odd {
    pub(crate) channel: usize,
    pub(crate) reason: &'static str,
}

/// Zero point and clamp of a layer's output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) zp: i8,
    pub(crate) clamp: Option<(i8, i8)>,
}

impl Output {
    fn of(self, acc: i64, (multiplier, shift): (i32, i8)) -> Option<i8> {
        let acc = i32::try_from(acc).ok()?;
        // If neither the sum nor the shifted sum wraps, the output is monotonic in the sum.
        i32::try_from(i64::from(acc) << shift.clamp(0, 31)).ok()?;
        let (min, max) = self.clamp.unwrap_or((i8::MIN, i8::MAX));
        let scaled = multiply_by_quantized_multiplier(acc, multiplier, shift);
        let output = i64::from(scaled) + i64::from(self.zp);
        Some(output.clamp(min.into(), max.into()) as i8)
    }
}

/// Folds the input's zero point into the biases of channels that fit, and rewrites constant channels so that they fit.
/// Returns the others, which stay unchanged.
pub(crate) fn fold(q: &mut Quantised, zp: i8, output: Output) -> Vec<Odd> {
    let mut all = Vec::new();
    for channel in 0..q.bias.len() {
        let row = q.row(channel);
        let sum: i64 = row.iter().map(|&w| i64::from(w)).sum();
        let magnitude: u64 = row.iter().map(|w| u64::from(w.unsigned_abs())).sum();
        let folded = i64::from(q.bias[channel]) - i64::from(zp) * sum;
        let (multiplier, shift) = q.fixed_of(channel);
        let reason = if folded.unsigned_abs() > u64::from(MOST_BIAS) {
            "a bias beyond 2^29"
        } else if magnitude > MOST_WEIGHT {
            "weights whose magnitudes add up to more than 65,535"
        } else if multiplier < 0 || !SHIFTS.contains(&shift) {
            "a multiplier of 1/2 or more, or below 2^-23"
        } else {
            q.bias[channel] = folded as i32;
            continue;
        };
        match constant(q, channel, folded, output) {
            Some(value) => set_constant(q, channel, i32::from(value) - i32::from(output.zp)),
            None => all.push(Odd { channel, reason }),
        }
    }
    all
}

/// The output of a channel, if it is constant; `folded` is its bias with the zero point folded in.
fn constant(q: &Quantised, channel: usize, folded: i64, output: Output) -> Option<i8> {
    let fixed = q.fixed_of(channel);
    let sums = reach(q.row(channel).iter().copied());
    let ends = [*sums.start(), *sums.end()].map(|sum| output.of(folded + sum, fixed));
    if fixed.0 < 0 || ends[0] != ends[1] { None } else { ends[0] }
}

/// Makes a channel constant: its output is the zero point plus `steps`.
fn set_constant(q: &mut Quantised, channel: usize, steps: i32) {
    clear(q, channel);
    own_multipliers(q);
    q.fixed[channel] = QUARTER;
    q.bias[channel] = 4 * steps;
}

/// Takes a channel out: its output becomes the zero point, with numbers that fit the fast kernels.
pub(crate) fn take_out(q: &mut Quantised, channel: usize) {
    let (multiplier, shift) = q.fixed_of(channel);
    if multiplier < 0 || !SHIFTS.contains(&shift) {
        return set_constant(q, channel, 0);
    }
    clear(q, channel);
    q.bias[channel] = 0;
}

fn clear(q: &mut Quantised, channel: usize) {
    let taps = q.weights.len() / q.bias.len().max(1);
    q.weights[channel * taps..][..taps].fill(0);
}

/// Gives every channel its own multiplier.
fn own_multipliers(q: &mut Quantised) {
    q.fixed = q.fixed_each(q.bias.len());
}

/// Some channels of a layer, at distances of `apart` channels; the channels between are zero.
pub(crate) fn part(q: &Quantised, channels: &[usize], apart: usize) -> Quantised {
    let (mut weights, mut bias, mut fixed) = (Vec::new(), Vec::new(), Vec::new());
    let taps = q.weights.len() / q.bias.len().max(1);
    for (i, &channel) in channels.iter().enumerate() {
        if i > 0 {
            for _ in 1..apart {
                weights.resize(weights.len() + taps, 0);
                bias.push(0);
                fixed.push(q.fixed_of(channel));
            }
        }
        weights.extend(q.row(channel));
        bias.push(q.bias[channel]);
        fixed.push(q.fixed_of(channel));
    }
    if fixed.iter().all(|f| *f == fixed[0]) {
        fixed.truncate(1);
    }
    Quantised { weights, bias, fixed }
}

/// Second channels of pairs that tiles cannot hold: two weights (A, B) are stored as 256·B + A, which exceeds 16 bits
/// if B is -128 and A is negative.
pub(crate) fn unpaired(q: &Quantised) -> Vec<Odd> {
    let seconds = (1..q.bias.len()).step_by(2);
    let clash = |o: &usize| {
        q.row(*o).iter().zip(q.row(o - 1)).any(|(&second, &first)| second == i8::MIN && first < 0)
    };
    seconds.filter(clash).map(|channel| Odd { channel, reason: "a weight of -128" }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn output(q: &Quantised, channel: usize, x: &[i8], to: Output) -> i8 {
        let acc: i64 = q.row(channel).iter().zip(x).map(|(&w, &x)| i64::from(w) * i64::from(x)).sum();
        let (min, max) = to.clamp.unwrap_or((i8::MIN, i8::MAX));
        let (multiplier, shift) = q.fixed_of(channel);
        let acc = (i64::from(q.bias[channel]) + acc) as i32;
        let scaled = multiply_by_quantized_multiplier(acc, multiplier, shift);
        (i64::from(scaled) + i64::from(to.zp)).clamp(min.into(), max.into()) as i8
    }

    proptest! {
        /// Channels with a tiny scale or an enormous bias are rewritten with the same outputs, or returned.
        #[test]
        fn folded_channels_give_the_same(
            weights in prop::collection::vec(any::<i8>(), 8),
            bias in prop::collection::vec(any::<i32>().prop_map(|b| b / 2), 2),
            shifts in prop::collection::vec(-31i8..3, 2),
            x in prop::collection::vec(any::<i8>(), 4),
            zp in any::<i8>(),
            out_zp in any::<i8>(),
        ) {
            let fixed: Vec<(i32, i8)> = shifts.iter().map(|s| ((1 << 30) + 12345, *s)).collect();
            let before = Quantised { weights, bias, fixed };
            let mut after = before.clone();
            let to = Output { zp: out_zp, clamp: None };
            let odd = fold(&mut after, zp, to);
            for channel in 0..2 {
                if odd.iter().any(|o| o.channel == channel) {
                    prop_assert_eq!(after.row(channel), before.row(channel));
                    prop_assert_eq!(after.bias[channel], before.bias[channel]);
                    continue;
                }
                let mut unfolded = before.clone();
                let sum: i64 = before.row(channel).iter().map(|&w| i64::from(w)).sum();
                unfolded.bias[channel] = (i64::from(before.bias[channel]) - i64::from(zp) * sum) as i32;
                prop_assert_eq!(output(&after, channel, &x, to), output(&unfolded, channel, &x, to));
                prop_assert!(SHIFTS.contains(&after.fixed_of(channel).1));
                prop_assert!(after.bias[channel].unsigned_abs() <= MOST_BIAS);
            }
        }
    }

    #[test]
    fn dead_channels_are_constants() {
        let (weights, bias) = (vec![5, -7, 1, 2], vec![1 << 30, 100]);
        let mut q = Quantised { weights, bias, fixed: vec![(1 << 30, -28), (1 << 30, -30)] };
        assert_eq!(fold(&mut q, 3, Output { zp: -128, clamp: None }), []);
        assert_eq!(q.weights, [0; 4]);
        assert_eq!((q.bias[0], q.bias[1]), (4 * 2, 0));
    }

    #[test]
    fn only_negative_firsts_clash_with_a_second_of_minus_128() {
        let of = |weights: [i8; 4]| Quantised {
            weights: weights.to_vec(),
            bias: vec![0; 2],
            fixed: vec![QUARTER],
        };
        assert!(unpaired(&of([-128, 5, 1, 2])).is_empty());
        assert!(unpaired(&of([5, 0, -128, -128])).is_empty());
        assert_eq!(unpaired(&of([-1, 0, -128, 7])).len(), 1);
    }
}
