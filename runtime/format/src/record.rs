//! Records: one per operator, as stored in the graph section of a `.off` file.
//!
//! The graph section is a sequence of tag byte, [`OpHeader`], and the record of that tag. Header and record are encoded
//! with postcard (varints, no padding). A reader decodes one record at a time, without allocation, and keeps nothing
//! between operators. Addresses are byte offsets into the arena (`src`, `dst`, …) or into the blob section (`blob`).
//! All activations are channels-last (NHWC). A record is **untrusted** until `Model::open` has checked it. The files of
//! `offshoot_operators` say what each operator computes and what its `check` demands.

pub use super::codec::Record;
pub use super::kinds::*;
pub use super::types::*;
