//! Layers: turn the error of a layer's output and the layer's input into steps of its weights. One file per kind of
//! layer.
//!
//! `error(j)` is always `∂J/∂z_j`, the gradient before the activation: the rule's error times the activation's slope.

pub mod adaptor;
pub mod dense;
pub mod recurrent;
pub mod window;

/// Slope of an activation, computed from its output.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Slope {
    /// No activation: 1.
    Linear,
    /// Clamped between bounds (ReLU: 0 and infinity): 1 inside, 0 at and beyond the bounds.
    Clamp {
        /// Lower bound.
        min: f32,
        /// Upper bound.
        max: f32,
    },
    /// `1 - h²`
    Tanh,
    /// `h (1 - h)`
    Sigmoid,
}

impl Slope {
    /// Slope at output `h`.
    #[inline]
    pub fn at(self, h: f32) -> f32 {
        match self {
            Self::Linear => 1.0,
            Self::Clamp { min, max } => f32::from(h > min && h < max),
            Self::Tanh => 1.0 - h * h,
            Self::Sigmoid => h * (1.0 - h),
        }
    }
}
