//! Local learning: every layer, or block of two, learns from its own input, output and weights. No error comes back
//! from later layers, so a layer can learn while its tensors are still in the arena.
//!
//! A train step answers three questions, each with pure functions over slices:
//! 1. What is wrong with this output? [`rules`] compare a layer's activations `h` with the label, through a
//!    [`target_projection`] from classes to features, and give `∂J/∂h`.
//! 2. Which weights caused it? [`layers`] turn that error and the layer's input into gradients.
//! 3. How far to step? [`schedule`] and [`step`] give the rate; [`weights`] take the step in their own number format.
//!
//! float32 operations are neither fused nor reordered, and transcendental functions are `libm`'s, so host and device
//! give the same bits.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod descent;
pub mod float;
pub mod heads;
pub mod input_normalizer;
pub mod integer;
pub mod layers;
pub mod rules;
pub mod schedule;
pub mod sequence;
pub mod step;
pub mod target_projection;
pub mod weights;

pub use input_normalizer::InputNormalizer;
pub use offshoot_kernels::Random;
pub use rules::{LocalError, LocalRule};
pub use schedule::Schedule;
pub use target_projection::TargetProjection;
pub use weights::Weights;
