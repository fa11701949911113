//! Learning on the device, without backpropagation through the network.
//!
//! The learning plan, given at compile time, says what learns: `offshoot compile model.onnx --calib x.npy --learn
//! plan.toml -o model.off`. The file then holds learning records, and `compile` prints how much RAM learning takes. The
//! file still runs without learning.
//!
//! [`Engine::learning`](crate::Engine::learning) binds such a model to an arena of
//! [`Model::train_arena_bytes`](crate::Model::train_arena_bytes). One call of [`Engine::learn`](crate::Engine::learn)
//! is one train step on one labelled sample. Later runs use what was learned.
//!
//! ```
//! # offshoot::include_model!(Vibration, concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/vibration_learns.off"));
//! use offshoot::{Arena, Engine};
//!
//! let mut arena = Arena::<16_000>::new(); // at least what `compile` prints for training
//! let mut engine = Engine::learning(Vibration::open()?, &mut arena)?;
//!
//! // A labelled sample from where the device is installed: class 3.
//! let readings = [130.0; Vibration::INPUTS[0].elements()];
//! engine.write_input_f32(0, &readings)?;
//! let step = engine.learn(3)?;
//! assert_eq!(step.steps, 1);
//!
//! // The head that learned classifies the sample.
//! engine.write_input_f32(0, &readings)?;
//! engine.run()?;
//! assert_eq!(engine.class()?, 3); // `Engine::top1` gives what the network says without the head
//!
//! // What was learned is a slice of the arena: save it, restore it, or forget it.
//! let mut learned = [0; 16_000];
//! let bytes = engine.learned().unwrap_or_default();
//! let kept = &mut learned[..bytes.len()];
//! kept.copy_from_slice(bytes);
//! engine.forget()?;
//! engine.restore(kept)?;
//! # Ok::<(), offshoot::Error>(())
//! ```
//!
//! [`store`](crate::store) saves it in flash, safe from power cuts.

pub use crate::engine::{StepReport, TrainState};
pub use crate::model::learn::Learning;
