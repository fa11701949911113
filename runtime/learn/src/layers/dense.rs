//! Fully connected layers: `z = W x + b`, so `∂J/∂W[o, i] = error(o) · x[i]`. Steps row by row, without a buffer.

use crate::weights::Weights;

/// Runs one step. `x: [inputs]`, `bias: [outputs]`.
pub fn learn(
    weights: &mut (impl Weights + ?Sized),
    bias: &mut [f32],
    x: &[f32],
    rate: f32,
    error: impl Fn(usize) -> f32,
) {
    for (o, bias) in bias.iter_mut().enumerate() {
        let step = rate * error(o);
        *bias -= step;
        weights.descend(o, step, x);
    }
}

/// Runs one step of a local head without biases: `weights: [classes, features]`, `residual: [classes]`.
pub fn learn_head(weights: &mut (impl Weights + ?Sized), residual: &[f32], h: &[f32], rate: f32) {
    for (k, error) in residual.iter().enumerate() {
        weights.descend(k, rate * error, h);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target_projection::TargetProjection;
    use crate::weights::{Fixed, Float};
    use crate::{LocalError, LocalRule};
    use offshoot_kernels::Random;

    /// Learns two linearly separable classes through a fixed projection, in every weight format.
    #[test]
    fn separable_classes_are_learned() {
        let mut random = Random::new(2);
        let scales = [0.02; 8];
        let (mut float, mut whole) = ([0.0f32; 32], [0i8; 32]);
        for (format, weights) in [
            &mut Float::new(&mut float, 4) as &mut dyn WeightsObject,
            &mut Fixed::new(&mut whole, &scales, 4, &mut Random::new(1)),
        ]
        .into_iter()
        .enumerate()
        {
            let mut bias = [0.0; 8];
            let mut hits = 0;
            for step in 0..400 {
                let label = (random.next_u32() >> 20) as usize & 1;
                let x = [label as f32 * 2.0 - 1.0, random.unit(), random.unit(), 0.5];
                let mut h = [0.0; 8];
                weights.product_object(&x, &bias, &mut h);
                let mut residual = [0.0; 2];
                let rule = LocalRule::CrossEntropy { scale: 0.5 };
                let projection = TargetProjection::Signs { seed: 4 };
                let error = LocalError::new(rule, projection, 8, h.iter().copied(), label, &mut residual);
                hits += usize::from(step >= 300 && error.residual()[label].abs() < 0.5);
                weights.learn_object(&mut bias, &x, 0.1, &|o| error.at(o, h[o]));
            }
            assert!(hits > 95, "format {format}: {hits} of 100");
        }
    }

    /// [`Weights`] as a trait object, for the table above.
    trait WeightsObject {
        fn product_object(&self, x: &[f32], bias: &[f32], out: &mut [f32]);
        fn learn_object(&mut self, bias: &mut [f32], x: &[f32], rate: f32, error: &dyn Fn(usize) -> f32);
    }

    impl<W: Weights> WeightsObject for W {
        fn product_object(&self, x: &[f32], bias: &[f32], out: &mut [f32]) {
            self.product(x, bias, out);
        }
        fn learn_object(&mut self, bias: &mut [f32], x: &[f32], rate: f32, error: &dyn Fn(usize) -> f32) {
            learn(self, bias, x, rate, error);
        }
    }

    #[test]
    fn products_are_those_of_the_kernel() {
        use offshoot_format::record::{Arith, FullyConnected};
        let mut random = Random::new(3);
        let mut weights: [f32; 77] = core::array::from_fn(|_| random.normal());
        let x: [f32; 11] = core::array::from_fn(|_| random.normal());
        let bias: [f32; 7] = core::array::from_fn(|_| random.normal());
        let record = FullyConnected {
            src: 0,
            dst: 0,
            rows: 1,
            in_c: 11,
            out_c: 7,
            arith: Arith::F32 { clamp: None },
            blob: 0,
        };
        let (mut a, mut b) = ([0.0; 7], [0.0; 7]);
        let bounds = (f32::NEG_INFINITY, f32::INFINITY);
        offshoot_kernels::portable::fully_connected_f32(&record, bounds, &bias, &weights, &x, &mut a);
        Float::new(&mut weights, 11).product(&x, &bias, &mut b);
        assert_eq!(a.map(f32::to_bits), b.map(f32::to_bits));
    }
}
