//! One record per device operator, as it stands in the graph section of a `.off` file.
//!
//! The graph section is a sequence of `Tag` byte + [`OpHeader`] + the record of that tag, each encoded with
//! postcard (varints, no padding). Records are read one at a time, without allocation; nothing is kept
//! between operators. Addresses are byte offsets into the arena (`src`, `dst`, …) or into the blob section
//! (`blob`). All activations are channels-last (NHWC). A record is **untrusted** until
//! `Model::open` has checked it; `ops/<family>.rs` says what each one computes and what
//! `check` demands of it.

pub use super::codec::Record;
pub use super::kinds::*;
pub use super::types::*;
