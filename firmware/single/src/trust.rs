//! What this firmware trusts.

use offshoot::sign::{PublicKey, Refusal, Trust, Verified, verify};

/// `../single.sh` says where the 32 bytes of the key are. A product has two keys here: the second signs when the first is lost.
static KEYS: [PublicKey; 1] =
    [PublicKey::new(*include_bytes!(env!("OFFSHOOT_KEY", "use firmware/single.sh --key")))
        .expect("the key is weak: `offshoot keygen` makes another")];

/// The file, if the key has signed it for this board. This board has no flash for a counter, so every release runs.
pub(crate) fn verified(file: &'static [u8]) -> Result<Verified<'static>, Refusal> {
    verify(file, &Trust { keys: &KEYS, name: None, target: env!("OFFSHOOT_BOARD"), release: 0 })
}
