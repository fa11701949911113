//! Layers: from the error of a layer's output and the layer's input to the steps of its weights. One file a layer.
//!
//! `error(j)` is always `∂J/∂z_j`, the gradient before the activation: what a rule gave times the slope of the activation.

pub mod adaptor;
pub mod dense;
pub mod recurrent;
pub mod window;

/// Slope of an activation, from its output.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Slope {
    /// None: 1.
    Linear,
    /// Held between bounds (ReLU: 0 and infinity): 1 inside, 0 at and beyond them.
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
    /// At an output.
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
