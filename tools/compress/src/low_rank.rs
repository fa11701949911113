//! Low rank: a layer with weights `W` becomes two whose product is near `W`.
//!
//! [`Layer`] holds what is known of one layer (its spectrum, what each rank costs and loses), [`analyse`] finds those of a
//! graph, [`split`] writes ranks into it, [`join`] undoes what does not pay. [`low_rank`] does all of it under a budget;
//! [`maestro`] trains the factors so that their order is that of their use. [`lama`] is attention of rank one.
//!
//! A fully connected layer becomes two. A convolution becomes one of the same window with fewer channels and a 1×1 after
//! it ([`Cut::Channels`]), or a column and a row of its window ([`Cut::Spatial`]). Both are dense operators: the device
//! needs nothing new. Depthwise, grouped and transposed convolutions stay as they are.

mod allocate;
pub mod lama;
mod layer;
pub mod maestro;
mod rewrite;
mod run;

pub use allocate::{Choice, choices, ranks_of};
pub use layer::{Cut, Layer, analyse};
pub use maestro::{MaestroOptions, MaestroReport, Nested, maestro};
pub use rewrite::{join, split};
pub use run::{Goal, LayerReport, LowRankOptions, LowRankReport, low_rank, tune};
