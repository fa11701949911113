//! Copies of short runs of inputs.

/// Copies without a function call.
#[inline(always)]
pub(super) fn copy(from: &[i8], to: &mut [i8]) {
    let (blocks, rest) = from.as_chunks::<16>();
    let (to_blocks, to_rest) = to.as_chunks_mut::<16>();
    for (to, from) in to_blocks.iter_mut().zip(blocks) {
        *to = *from;
    }
    for (to, from) in to_rest.iter_mut().zip(rest) {
        *to = *from;
    }
}

/// Copies the first `len` bytes of `from`, and up to fifteen after them if they exist; the bytes of `to` after `len`
/// are then undefined. `to` must have room for them.
#[inline(always)]
pub(super) fn copy_beyond(from: &[i8], len: usize, to: &mut [i8]) {
    let mut at = 0;
    while at < len {
        match (from.get(at..).and_then(|f| f.first_chunk::<16>()), to[at..].first_chunk_mut::<16>()) {
            (Some(from), Some(to)) => *to = *from,
            _ => copy(&from[at..len.min(at + 16)], &mut to[at..len.min(at + 16)]),
        }
        at += 16;
    }
}
