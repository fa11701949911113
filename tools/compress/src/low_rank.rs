//! Low rank: replaces a layer with weights `W` by two layers whose product approximates `W`.
//!
//! [`analyse`] collects a [`SplitLayer`] for every layer that can be split: its spectrum, and the cost and loss of each
//! rank. [`split`] rewrites a graph for chosen ranks, [`join`] merges pairs that do not pay. [`low_rank`] does all of
//! this under a budget; [`maestro`] trains the factors so that their ranks are ordered by importance. [`lama`] is
//! attention of rank one.
//!
//! A fully connected layer becomes two. A convolution becomes one with the same window and fewer channels, followed
//! by a 1×1 ([`Cut::Channels`]), or a column and a row of its window ([`Cut::Spatial`]). Both are dense operators, so
//! the device needs nothing new. Depthwise, grouped and transposed convolutions are not split.

mod allocate;
pub mod lama;
mod layer;
pub mod maestro;
mod rewrite;
mod run;

pub use allocate::{Choice, choices, ranks_of};
pub use layer::{Cut, SplitLayer, analyse};
pub use maestro::{MaestroOptions, MaestroReport, Nested, maestro};
pub use rewrite::{join, split};
pub use run::{Goal, LayerReport, LowRankOptions, LowRankReport, low_rank, tune};
