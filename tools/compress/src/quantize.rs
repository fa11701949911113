//! Post-training quantisation to int8.
//!
//! Follows TensorFlow Lite's 8-bit quantisation specification: asymmetric activations with one scale per tensor,
//! symmetric weights in [-127, 127] (or with fewer bits, [`WeightBits`]) with one scale per output channel, int32
//! biases of scale input × weight. Ranges come from calibration data. Weights and biases are then fitted layer by
//! layer to the activations of the quantised network before them. Options left open are decided on held-out samples.

pub mod aware;
pub(crate) mod calibrate;
mod classes;
mod clip;
mod codebook;
mod complete;
mod device;
pub(crate) mod execute;
mod fit;
mod form;
mod front_end;
mod functions;
mod history;
mod indices;
mod int16;
mod interval;
mod learned;
mod losses;
mod margin;
mod measure;
pub(crate) mod moments;
mod negligible;
mod options;
mod outliers;
mod policy;
mod post_training;
mod reach;
mod recurrent;
mod recurrent_fit;
mod remedy;
mod report;
mod rounding;
pub mod sensitivity;
mod simulate;
mod skeleton;
mod source;
mod streams;
pub(crate) mod tensors;
mod trained;
mod vectors;
mod weights;

pub use complete::complete;
pub use device::{DeviceJudgement, device_accuracy, device_judgement, device_outputs};
pub use form::{WeightBits, packs};
pub use front_end::FRONT_END;
pub use int16::quantize_int16;
pub use learned::{numbers, quantize_learned};
pub use losses::rounding_losses;
pub use measure::{meant, ranges};
pub use options::{Clipping, IoType, QuantizeOptions, Rounding, Toggle, WeightScale};
pub use policy::Policy;
pub use post_training::{quantize, quantize_with_progress};
pub use remedy::{Remedy, remedy, rounded_oracle_db};
pub use report::{OperatorNoise, QuantizeReport};
pub use simulate::{keep_to_codes, simulate, simulate_sequences, trace};
pub use tensors::pooled;
pub use trained::Learned;
