//! Consistent Overhead Byte Stuffing (Cheshire and Baker, IEEE/ACM Transactions on Networking, 1999), in place.
//!
//! Each block of up to 254 non-zero bytes is preceded by its length plus one. A block shorter than 254 stands for
//! its bytes and one zero. This module does not add or read the delimiter.

/// Most bytes that encoding adds to `len` bytes.
pub const fn overhead(len: usize) -> usize {
    1 + len / 254
}

/// Encodes `buffer[overhead(len)..][..len]` into the front of `buffer`. Returns the encoded length, or `None` if the
/// buffer is shorter than `len` and its overhead.
///
/// Reading stays ahead of writing, because the raw bytes start after the space for all code bytes.
pub fn encode_in_place(buffer: &mut [u8], len: usize) -> Option<usize> {
    let start = overhead(len);
    if buffer.len() < start.checked_add(len)? {
        return None;
    }
    let (mut code_at, mut write, mut code) = (0, 1, 1_u8);
    for read in start..start + len {
        let byte = buffer[read];
        if byte != 0 {
            buffer[write] = byte;
            write += 1;
            code += 1;
        }
        // A full block implies no zero: the next block begins, unless the data ends here.
        if byte == 0 || (code == u8::MAX && read + 1 < start + len) {
            buffer[code_at] = code;
            (code_at, code) = (write, 1);
            write += 1;
        }
    }
    buffer[code_at] = code;
    Some(write)
}

/// Decodes `buffer` (without a delimiter) into its own front. Returns the decoded length, or `None` if the bytes are
/// not valid: a zero inside, or a block that extends beyond the end.
pub fn decode_in_place(buffer: &mut [u8]) -> Option<usize> {
    let (mut read, mut write) = (0, 0);
    while read < buffer.len() {
        let code = buffer[read];
        read += 1;
        let block = usize::from(code).checked_sub(1)?;
        if block > buffer.len() - read || buffer[read..read + block].contains(&0) {
            return None;
        }
        buffer.copy_within(read..read + block, write);
        read += block;
        write += block;
        if code != u8::MAX && read < buffer.len() {
            buffer[write] = 0;
            write += 1;
        }
    }
    Some(write)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{vec, vec::Vec};

    fn encoded(data: &[u8]) -> Vec<u8> {
        let start = overhead(data.len());
        let mut buffer = vec![0; start];
        buffer.extend_from_slice(data);
        let len = encode_in_place(&mut buffer, data.len()).unwrap();
        buffer.truncate(len);
        buffer
    }

    #[test]
    fn encodes_the_examples_of_the_paper() {
        assert_eq!(encoded(&[]), [1]);
        assert_eq!(encoded(&[0]), [1, 1]);
        assert_eq!(encoded(&[0, 0]), [1, 1, 1]);
        assert_eq!(encoded(&[0x11, 0x22, 0, 0x33]), [3, 0x11, 0x22, 2, 0x33]);
        assert_eq!(encoded(&[0x11, 0, 0, 0]), [2, 0x11, 1, 1, 1]);
        let full: Vec<u8> = (1..=254).collect();
        assert_eq!(encoded(&full), [&[255], full.as_slice()].concat());
        let more: Vec<u8> = (1..=255).collect();
        assert_eq!(encoded(&more), [&[255], &full[..], &[2, 255]].concat());
    }

    #[test]
    fn refuses_what_is_no_encoding() {
        for bad in [&mut [0_u8][..], &mut [3, 1], &mut [3, 1, 0], &mut [2, 1, 0]] {
            assert_eq!(decode_in_place(bad), None);
        }
        assert_eq!(encode_in_place(&mut [0; 3], 3), None);
    }

    proptest! {
        #[test]
        fn round_trip(data in proptest::collection::vec(prop_oneof![Just(0_u8), any::<u8>(), Just(7)], 0..1100)) {
            let mut coded = encoded(&data);
            prop_assert!(!coded.contains(&0));
            prop_assert!(coded.len() <= data.len() + overhead(data.len()));
            let len = decode_in_place(&mut coded).unwrap();
            prop_assert_eq!(&coded[..len], &data[..]);
        }

        #[test]
        fn any_bytes_decode_or_fail(mut data in proptest::collection::vec(any::<u8>(), 0..600)) {
            let before = data.len();
            if let Some(len) = decode_in_place(&mut data) {
                prop_assert!(len <= before);
            }
        }
    }
}
