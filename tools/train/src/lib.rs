//! Gradient training of an IR graph on the host.
//!
//! [`fit`] takes a graph, samples and options, and returns the graph with trained constants; all other tools work on
//! the result. All float operators of the IR can be trained through, except that an index has no gradient:
//!
//! | goal | set |
//! |---|---|
//! | labels or values | [`Dataset::target`] |
//! | distillation of a teacher's logits and inner tensors | [`FitOptions::teacher`] |
//! | augmentation | [`FitOptions::augment`] |
//! | weights that fade to zero while the rest compensates | [`FitOptions::fade`] |
//! | sparse weights that stay sparse | [`FitOptions::masks`] |
//! | weights and activations robust to few bits | [`FitOptions::weight_quant`], [`FitOptions::activation_quant`] |
//! | the device's own integer arithmetic in the forward pass | [`FitOptions::device`] |
//! | any other change of weights in the forward pass | [`FitOptions::transform`] |
//! | sub-networks that share weights | [`fit_shared`], [`shared`] |
//! | stopping at any step and resuming later | [`FitOptions::checkpoint`], [`Observer`] |
//!
//! ```
//! use offshoot_train::network::Network;
//! use offshoot_train::{Dataset, FitOptions, Target, fit};
//!
//! let graph = Network::new("sum", [1, 1, 3], 1).global_average("flat").dense("line", 1).finish();
//! let x = ndarray::Array::from_shape_fn((64, 1, 1, 3), |(i, _, _, c)| ((i * 7 + c * 3) % 11) as f32 / 5.0 - 1.0);
//! let y = x.rows().into_iter().map(|row| row.sum()).collect::<ndarray::Array1<f32>>();
//! let data = Dataset::new(x.into_dyn(), Target::Values(y.into_dyn()));
//! let options = FitOptions { epochs: 100, batch: 16, rate: 0.05, decay: 0.0, ..FitOptions::default() };
//! let (_trained, report) = fit(&graph, &data, &options, &mut ())?;
//! assert!(report.epochs.last().is_some_and(|epoch| epoch.loss < 1e-3));
//! # Ok::<(), offshoot_train::Error>(())
//! ```
//!
//! Gradients come from a tape over the IR's operators ([`mod@fit`] → `tape` → `grad`); forward results equal those of
//! the reference executor except for the order of summation. [`network::Network`] builds new graphs; [`models`]
//! defines those shipped in `models/`, which the binary `make-models` regenerates.

pub mod augment;
mod batch;
pub mod card;
mod checkpoint;
mod convolve;
mod critical;
mod dataset;
pub mod device;
mod error;
pub mod fake_quant;
pub mod fit;
mod forward;
mod grad;
mod gradients;
mod kernels;
mod loss;
pub mod models;
pub mod network;
mod optimiser;
mod options;
mod predict;
pub mod recipe;
pub mod shared;
mod tape;
mod weights;

pub use augment::Augment;
pub use critical::critical;
pub use dataset::{Dataset, Target};
pub use error::{Error, Result};
pub use fake_quant::WeightQuant;
pub use fit::{evaluate, fit, fit_shared, shuffled};
pub use gradients::gradients;
pub use optimiser::{Schedule, UpdateRule};
pub use options::{
    Checkpoint, Control, Ended, Epoch, Feature, FitOptions, FitReport, Judgement, Observer, Step, Teacher,
    View, WeightTransform,
};
pub use predict::{accuracy, argmax, fold_input, predict};
pub use weights::trainable;
