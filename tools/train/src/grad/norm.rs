//! Softmax and normalisations.

use ndarray::{ArrayD, Axis, IxDyn};

use super::{Tensor, array, flat};

/// From the result `y`: `dx = y · (dy - Σ dy · y)`.
pub(super) fn softmax(y: &ArrayD<f32>, mut dy: ArrayD<f32>, axis: usize) -> ArrayD<f32> {
    for (mut d, y) in dy.lanes_mut(Axis(axis)).into_iter().zip(y.lanes(Axis(axis))) {
        let dot: f32 = d.iter().zip(y).map(|(d, y)| d * y).sum();
        d.iter_mut().zip(y).for_each(|(d, y)| *d = y * (*d - dot));
    }
    dy
}

/// Layer normalisation over the last axis: gradients of x, gamma, beta.
pub(super) fn layer_norm(
    x: &ArrayD<f32>,
    gamma: &ArrayD<f32>,
    mut dy: ArrayD<f32>,
    epsilon: f32,
) -> Vec<Option<ArrayD<f32>>> {
    let mut dgamma = ArrayD::<f32>::zeros(IxDyn(gamma.shape()));
    let mut dbeta = dgamma.clone();
    for (mut d, x) in dy.rows_mut().into_iter().zip(x.rows()) {
        let n = x.len().max(1) as f32;
        let mean = x.sum() / n;
        let variance = x.fold(0.0, |s, v| s + (v - mean) * (v - mean)) / n;
        let inverse = 1.0 / (variance + epsilon).sqrt();
        let (mut sum, mut dot) = (0.0, 0.0);
        let parameters = gamma.iter().zip(dgamma.iter_mut().zip(dbeta.iter_mut()));
        for ((d, x), (gamma, (dgamma, dbeta))) in d.iter_mut().zip(x).zip(parameters) {
            let unit = (x - mean) * inverse;
            *dgamma += *d * unit;
            *dbeta += *d;
            *d *= gamma;
            sum += *d;
            dot += *d * unit;
        }
        for (d, x) in d.iter_mut().zip(x) {
            *d = inverse * (*d - sum / n - (x - mean) * inverse * dot / n);
        }
    }
    vec![Some(dy), Some(dgamma), Some(dbeta)]
}

/// Batch normalisation with stored statistics: gradients of x, gamma, beta; mean and variance get none.
pub(super) fn batch_norm_stored(x: &[Tensor], mut dy: ArrayD<f32>, epsilon: f32) -> Vec<Option<ArrayD<f32>>> {
    let inverse: Vec<f32> = x[4].iter().map(|v| 1.0 / (v + epsilon).sqrt()).collect();
    let mut dgamma = ArrayD::<f32>::zeros(IxDyn(x[1].shape()));
    let mut dbeta = dgamma.clone();
    for (mut d, row) in dy.rows_mut().into_iter().zip(x[0].rows()) {
        let constants = x[1].iter().zip(x[3].iter()).zip(&inverse);
        let sums = dgamma.iter_mut().zip(dbeta.iter_mut());
        for (((d, x), ((gamma, mean), inverse)), (dgamma, dbeta)) in
            d.iter_mut().zip(row).zip(constants).zip(sums)
        {
            *dgamma += *d * (x - mean) * inverse;
            *dbeta += *d;
            *d *= gamma * inverse;
        }
    }
    vec![Some(dy), Some(dgamma), Some(dbeta), None, None]
}

/// Mean and (biased) variance of each channel over a whole batch divided into shards.
#[derive(Clone, Debug)]
pub(crate) struct Statistics {
    pub(crate) mean: Vec<f32>,
    pub(crate) variance: Vec<f32>,
    /// Elements per channel.
    pub(crate) count: usize,
}

impl Statistics {
    /// Ioffe and Szegedy 2015.
    pub(crate) fn of(shards: &[Tensor]) -> Self {
        let channels = shards.first().and_then(|x| x.shape().last().copied()).unwrap_or(0);
        let mut sums = vec![(0.0f64, 0.0f64); channels];
        let mut count = 0;
        for x in shards {
            for row in flat(x).chunks_exact(channels.max(1)) {
                count += 1;
                for ((sum, square), v) in sums.iter_mut().zip(row) {
                    *sum += f64::from(*v);
                    *square += f64::from(*v) * f64::from(*v);
                }
            }
        }
        let n = count.max(1) as f64;
        let mean = sums.iter().map(|(sum, _)| (sum / n) as f32).collect();
        let variance =
            sums.iter().map(|(sum, square)| ((square / n) - (sum / n) * (sum / n)).max(0.0) as f32).collect();
        Self { mean, variance, count }
    }

    fn inverse(&self, epsilon: f32) -> Vec<f32> {
        self.variance.iter().map(|v| 1.0 / (v + epsilon).sqrt()).collect()
    }

    pub(crate) fn normalise(&self, x: &[Tensor], epsilon: f32) -> ArrayD<f32> {
        let (inverse, gamma, beta) = (self.inverse(epsilon), flat(&x[1]), flat(&x[2]));
        let mut y = flat(&x[0]).into_owned();
        for row in y.chunks_exact_mut(inverse.len().max(1)) {
            let affine = gamma.iter().zip(beta.iter()).zip(self.mean.iter().zip(&inverse));
            for (v, ((gamma, beta), (mean, inverse))) in row.iter_mut().zip(affine) {
                *v = (*v - mean) * inverse * gamma + beta;
            }
        }
        array(x[0].shape(), y)
    }

    /// Gradients of gamma and beta, over all shards.
    pub(crate) fn sums(&self, x: &[Tensor], dy: &[ArrayD<f32>], epsilon: f32) -> (Vec<f32>, Vec<f32>) {
        let inverse = self.inverse(epsilon);
        let channels = inverse.len().max(1);
        let mut sums = vec![(0.0f64, 0.0f64); inverse.len()];
        for (x, dy) in x.iter().zip(dy) {
            for (x, d) in flat(x).chunks_exact(channels).zip(flat(dy).chunks_exact(channels)) {
                let constants = self.mean.iter().zip(&inverse);
                for (((x, d), (mean, inverse)), (gamma, beta)) in
                    x.iter().zip(d).zip(constants).zip(&mut sums)
                {
                    *gamma += f64::from(d * (x - mean) * inverse);
                    *beta += f64::from(*d);
                }
            }
        }
        sums.into_iter().map(|(gamma, beta)| (gamma as f32, beta as f32)).unzip()
    }

    /// Gradient of one shard's input, from [`Self::sums`].
    pub(crate) fn input(
        &self,
        x: &[Tensor],
        dy: ArrayD<f32>,
        sums: &(Vec<f32>, Vec<f32>),
        epsilon: f32,
    ) -> ArrayD<f32> {
        let (inverse, gamma) = (self.inverse(epsilon), flat(&x[1]));
        let n = self.count.max(1) as f32;
        let mut d = flat(&dy).into_owned();
        let channels = inverse.len().max(1);
        for (d, row) in d.chunks_exact_mut(channels).zip(flat(&x[0]).chunks_exact(channels)) {
            let constants = self.mean.iter().zip(&inverse).zip(gamma.iter());
            let sums = sums.0.iter().zip(&sums.1);
            for (((d, x), ((mean, inverse), gamma)), (dot, sum)) in
                d.iter_mut().zip(row).zip(constants).zip(sums)
            {
                let unit = (x - mean) * inverse;
                *d = inverse * (*d - (sum + unit * dot) / n) * gamma;
            }
        }
        array(x[0].shape(), d)
    }
}
