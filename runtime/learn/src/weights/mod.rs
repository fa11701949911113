//! Weights that learn in the number format in which they are stored, without a second copy.
//!
//! Steps of int8 and int16 weights are in units of the channel's weight scale: `q -= rate · g / scale`, which is the
//! gradient of a quantised weight divided by the scale twice (the scale-aware step of Lin et al., "On-device training
//! under 256 KB memory", NeurIPS 2022). Stochastic rounding makes fractions of a unit exact on average.

mod fixed;
mod float;

pub use fixed::Fixed;
pub(crate) use fixed::stepped;
pub use float::Float;

/// A weight matrix `[channels, length]`, or any table that is read and written by index.
pub trait Weights {
    /// Weight `index` of `channel`, as a real number.
    fn at(&self, channel: usize, index: usize) -> f32;

    /// `out[o] = bias[o] + Σ weights[o, i] · x[i]`, every sum in order.
    fn product(&self, x: &[f32], bias: &[f32], out: &mut [f32]);

    /// `out[i] += factor · weights[channel, i]` for all `i`.
    fn add_row(&self, channel: usize, factor: f32, out: &mut [f32]) {
        for (i, out) in out.iter_mut().enumerate() {
            *out += factor * self.at(channel, i);
        }
    }

    /// `weights[channel, i] -= rate · gradient[i]` for all `i`.
    fn descend(&mut self, channel: usize, rate: f32, gradient: &[f32]);

    /// `weights[channel, index] -= step`
    fn nudge(&mut self, channel: usize, index: usize, step: f32);
}
