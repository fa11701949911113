//! Ed25519 with the rules that the crate's page states.

/// Bytes of a public key.
pub const KEY_LEN: usize = 32;

/// Bytes of a signature.
pub const SIGNATURE_LEN: usize = 64;

/// Bytes of a field element or a scalar.
const HALF: usize = 32;

/// The group's order, little endian.
const ORDER: [u8; HALF] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// `y` of the points of order 1, 2, 4 and 8; both signs of `x` are such points.
const SMALL_ORDER: [[u8; HALF]; 5] = [
    [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
    ],
    [0; HALF],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

/// Names a key: its first eight bytes.
pub type KeyId = [u8; 8];

/// A public key that the rules allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; KEY_LEN]);

impl PublicKey {
    /// A key from its bytes (RFC 8032, 5.1.2), as `offshoot keygen` prints them. `None` if the encoding is not canonical, or the
    /// point is of small order: under such a key anybody's signature would hold.
    ///
    /// ```
    /// use offshoot_sign::PublicKey;
    ///
    /// const KEY: PublicKey = PublicKey::new([
    ///     0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e, 0xe1, 0x72, 0xf3,
    ///     0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
    /// ])
    /// .expect("a key of the rules");
    /// assert_eq!(PublicKey::new([0; 32]), None);
    /// assert_eq!(KEY.id()[0], 0xd7);
    /// ```
    pub const fn new(bytes: [u8; KEY_LEN]) -> Option<Self> {
        let mut y = bytes;
        y[HALF - 1] &= 0x7f;
        if !is_field_element(&y) {
            return None;
        }
        let mut i = 0;
        while i < SMALL_ORDER.len() {
            if same(&y, &SMALL_ORDER[i]) {
                return None;
            }
            i += 1;
        }
        Some(Self(bytes))
    }

    /// The key's name.
    pub const fn id(&self) -> KeyId {
        let mut id = [0; 8];
        let mut i = 0;
        while i < id.len() {
            id[i] = self.0[i];
            i += 1;
        }
        id
    }

    /// The key's bytes.
    pub const fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// Whether the holder of this key has signed the message.
    pub fn has_signed(&self, message: &[u8], signature: &[u8; SIGNATURE_LEN]) -> bool {
        is_reduced(signature)
            && salty::PublicKey::try_from(&self.0)
                .is_ok_and(|key| key.verify(message, &salty::Signature::from(signature)).is_ok())
    }
}

/// Whether `y` is below 2²⁵⁵ - 19; its top bit is zero.
const fn is_field_element(y: &[u8; HALF]) -> bool {
    let mut i = 1;
    while i < HALF - 1 {
        if y[i] != 0xff {
            return true;
        }
        i += 1;
    }
    y[HALF - 1] != 0x7f || y[0] < 0xed
}

const fn same(a: &[u8; HALF], b: &[u8; HALF]) -> bool {
    let mut i = 0;
    while i < HALF {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Whether the scalar in a signature's second half is below the group's order.
fn is_reduced(signature: &[u8; SIGNATURE_LEN]) -> bool {
    let scalar = signature.iter().skip(HALF);
    // The first byte from the top that differs decides.
    let differs = scalar.zip(&ORDER).rev().find(|(s, l)| s != l);
    differs.is_some_and(|(s, l)| s < l)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
    use proptest::prelude::*;

    /// The rules by the second implementation: its own check of `S` and its own equation.
    fn other_says(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
        use ed25519_dalek::Verifier;
        VerifyingKey::from_bytes(key)
            .is_ok_and(|key| key.verify(message, &Signature::from_bytes(signature)).is_ok())
    }

    fn we_say(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
        PublicKey::new(*key).is_some_and(|key| key.has_signed(message, signature))
    }

    /// Adds the order to `S` as often as it fits 256 bits: every such signature solves the equation.
    fn larger(signature: &[u8; 64], times: usize) -> Option<[u8; 64]> {
        let mut out = *signature;
        for _ in 0..times {
            let mut carry = 0;
            for (s, l) in out[32..].iter_mut().zip(ORDER) {
                let sum = u16::from(*s) + u16::from(l) + carry;
                (*s, carry) = (sum as u8, sum >> 8);
            }
            if carry != 0 {
                return None;
            }
        }
        Some(out)
    }

    #[test]
    fn vectors_of_the_rfc_hold() {
        // RFC 8032, 7.1, TEST 1 (the empty message).
        let key = SigningKey::from_bytes(&[
            0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
            0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
        ]);
        let public = key.verifying_key().to_bytes();
        assert_eq!(public[..4], [0xd7, 0x5a, 0x98, 0x01]);
        let signature = key.sign(b"").to_bytes();
        assert_eq!((signature[0], signature[63]), (0xe5, 0x0b));
        assert!(we_say(&public, b"", &signature) && other_says(&public, b"", &signature));
        assert!(!we_say(&public, b"x", &signature));
    }

    #[test]
    fn keys_of_small_order_and_other_encodings_are_refused() {
        for y in SMALL_ORDER {
            for sign in [0, 0x80] {
                let mut key = y;
                key[31] |= sign;
                assert_eq!(PublicKey::new(key), None, "{key:x?}");
                // The other implementation takes them as keys, if they are points, but not in its strict check: under one of
                // order 1, R = S·B holds for every message.
                if let Ok(weak) = VerifyingKey::from_bytes(&key) {
                    assert!(weak.is_weak());
                }
            }
        }
        for low in 0xed..=0xff {
            let mut key = [0xff; 32];
            (key[0], key[31]) = (low, 0x7f);
            assert_eq!(PublicKey::new(key), None);
            key[31] = 0xff;
            assert_eq!(PublicKey::new(key), None);
        }
        let mut largest = [0xff; 32];
        (largest[0], largest[31]) = (0xeb, 0x7f);
        assert!(PublicKey::new(largest).is_some());
    }

    #[test]
    fn a_forgery_under_a_key_of_order_one_does_not_hold() {
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut forged = [0; 64];
        forged[0] = 1;
        assert!(other_says(&identity, b"any", &forged), "this is why such keys are refused");
        assert!(!we_say(&identity, b"any", &forged));
    }

    #[test]
    fn s_is_below_the_order() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let public = key.verifying_key().to_bytes();
        let signature = key.sign(b"message").to_bytes();
        assert!(we_say(&public, b"message", &signature));
        let mut tried = 0;
        for times in 1..16 {
            let Some(malleable) = larger(&signature, times) else { break };
            assert!(!we_say(&public, b"message", &malleable), "{times}");
            assert!(!other_says(&public, b"message", &malleable), "{times}");
            tried += 1;
        }
        assert!(tried >= 14);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn both_implementations_agree(seed: [u8; 32], message in proptest::collection::vec(any::<u8>(), 0..300), flip in 0..(64 + 32) * 8_usize, other: [u8; 32]) {
            let key = SigningKey::from_bytes(&seed);
            let public = key.verifying_key().to_bytes();
            let signature = key.sign(&message).to_bytes();
            prop_assert!(we_say(&public, &message, &signature));
            let (mut changed, mut wrong) = (signature, public);
            match flip / 8 {
                at @ 0..64 => changed[at] ^= 1 << (flip % 8),
                at => wrong[at - 64] ^= 1 << (flip % 8),
            }
            let ours = we_say(&wrong, &message, &changed);
            prop_assert_eq!(ours, other_says(&wrong, &message, &changed));
            prop_assert!(!ours);
            // Any bytes as a key: points of the curve for both, or for neither.
            prop_assert!(!we_say(&other, &message, &signature) && !other_says(&other, &message, &signature));
        }
    }
}
