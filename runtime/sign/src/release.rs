//! The version of the runtime that this crate belongs to.

/// Version of this release: major, minor, patch. Metadata name the least one that a model needs.
pub const RUNTIME: [u16; 3] = [
    number(env!("CARGO_PKG_VERSION_MAJOR")),
    number(env!("CARGO_PKG_VERSION_MINOR")),
    number(env!("CARGO_PKG_VERSION_PATCH")),
];

/// A decimal number that cargo gives.
const fn number(text: &str) -> u16 {
    let (digits, mut value, mut i) = (text.as_bytes(), 0, 0);
    while i < digits.len() {
        value = 10 * value + (digits[i] - b'0') as u16;
        i += 1;
    }
    value
}
