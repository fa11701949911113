//! Signed models, authorised commands, and tags of learned weights.
//!
//! - [`envelope`]: the 176 bytes before a signed `.off` file: signature and metadata ([`Metadata`]).
//! - [`verify`]: checks a signed file against what a device trusts ([`Trust`]), before anything of the network is read, and gives a
//!   [`Verified`], which only this function makes.
//! - [`Session`]: commands over a line that carry a signature of the host's key, for one session and once each.
//! - [`StateSeal`]: binds learned weights to the SHA-256 of their model, and to the device's key if it has one.
//!
//! # Which signatures hold
//! Ed25519 of RFC 8032 without a context (PureEdDSA), with the choices that it leaves open made so:
//!
//! 1. `S` is below the group's order; else the signature is refused (RFC 8032, 5.1.7, step 1).
//! 2. The key's encoding is canonical (`y` below 2²⁵⁵ - 19), and the key is none of the points of order 1, 2, 4 or 8.
//!    [`PublicKey::new`] refuses others, at compile time in a `const`. A key that is no point of the curve verifies nothing.
//! 3. The equation is the one without a cofactor: `R` equals the encoding of `S·B - k·A`, byte for byte. So an `R` that is not
//!    canonical is refused.
//!
//! The tests hold these rules against a second implementation.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod ed25519;
pub mod envelope;
mod release;
mod seal;
mod session;
mod verify;

pub use ed25519::{KEY_LEN, KeyId, PublicKey, SIGNATURE_LEN};
pub use envelope::{ENVELOPE_LEN, MAGIC, Metadata};
pub use release::RUNTIME;
pub use seal::{DeviceKey, StateSeal, TAG_LEN, sha256};
pub use session::{
    COMMAND_LEN, NONCE_LEN, NotAuthorised, REPLY_TAG_LEN, Session, command_bytes, reply_tag, reply_tag_holds,
};
pub use verify::{Refusal, Trust, Verified, verify};
