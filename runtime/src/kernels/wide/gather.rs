//! Short runs of inputs.

/// Copies without a call.
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
