//! Sizes, places and windows: the arithmetic that all `check`s share. Nothing here wraps.

use crate::engine::Element;
use crate::error::Rule;
use crate::format::BLOB_ALIGNMENT;
use crate::format::record::{Window, WindowRepr};
use core::ops::Range;

/// What a record is held against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits<'m> {
    /// Bytes of arena.
    pub arena_bytes: u32,
    /// The blob section.
    pub blobs: &'m [u8],
}

impl Limits<'_> {
    /// All of these lie in the arena.
    pub(crate) fn arena(&self, spans: &[Span]) -> Result<(), Rule> {
        let inside = spans.iter().all(|s| s.end() as u64 <= u64::from(self.arena_bytes));
        require(inside, Rule::ArenaBounds)
    }

    /// Both lie in the arena and share no byte.
    pub(crate) fn disjoint(&self, src: Span, dst: Span) -> Result<(), Rule> {
        self.arena(&[src, dst])?;
        require(!src.overlaps(dst), Rule::Overlap)
    }

    /// Both lie in the arena and are the same or share no byte.
    pub(crate) fn disjoint_or_same(&self, src: Span, dst: Span) -> Result<(), Rule> {
        self.arena(&[src, dst])?;
        require(src == dst || !src.overlaps(dst), Rule::Overlap)
    }
}

/// `rule` is broken unless `holds`.
pub(crate) fn require(holds: bool, rule: Rule) -> Result<(), Rule> {
    if holds { Ok(()) } else { Err(rule) }
}

/// Float forms need the feature `f32`.
pub(crate) fn require_f32() -> Result<(), Rule> {
    require(cfg!(feature = "f32"), Rule::Format)
}

/// Product of extents: none may be zero, and it must fit.
pub(crate) fn product<T: Into<u64>>(extents: impl IntoIterator<Item = T>) -> Result<u64, Rule> {
    match extents.into_iter().map(Into::into).fold(1, times) {
        0 => Err(Rule::Shape),
        product => Ok(product),
    }
}

/// A factor more; 0 if it does not fit, which stays so. Most factors have 32 bits, which one instruction multiplies; all of
/// 64 bits are many on a small core, so they stand here once.
#[inline(never)]
fn times(total: u64, extent: u64) -> u64 {
    match (u32::try_from(total), u32::try_from(extent)) {
        (Ok(total), Ok(extent)) => u64::from(total) * u64::from(extent),
        _ => total.checked_mul(extent).unwrap_or(0),
    }
}

/// A stretch of bytes. Its end fits in 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub start: usize,
    pub len: usize,
}

impl Span {
    /// `elements` (at least one) of `size` bytes from `offset`, which must be aligned to them.
    pub(crate) fn new(offset: u32, elements: u64, size: usize) -> Result<Self, Rule> {
        let size = u32::try_from(size).map_err(|_| Rule::Shape)?;
        require(elements > 0, Rule::Shape)?;
        require(offset.is_multiple_of(size), Rule::Alignment)?;
        let len = elements.checked_mul(u64::from(size)).and_then(|n| u32::try_from(n).ok());
        let len = len.filter(|&n| offset.checked_add(n).is_some()).ok_or(Rule::ArenaBounds)?;
        // `usize` has at least 32 bits on all targets of this crate (checked below).
        Ok(Self { start: offset as usize, len: len as usize })
    }

    pub(crate) fn end(&self) -> usize {
        self.start + self.len
    }

    pub(crate) fn range(&self) -> Range<usize> {
        self.start..self.end()
    }

    pub(crate) fn overlaps(&self, other: Self) -> bool {
        self.start < other.end() && other.start < self.end()
    }
}

const _: () = assert!(usize::BITS >= 32, "arena and file offsets are 32 bits wide");

/// Typed view of `elements` (which may be none) in the blob section.
pub(crate) fn blob<T: Element>(blobs: &[u8], at: u32, elements: u64) -> Result<&[T], Rule> {
    require((at as usize).is_multiple_of(BLOB_ALIGNMENT), Rule::Alignment)?;
    let len = elements.checked_mul(size_of::<T>() as u64).and_then(|n| usize::try_from(n).ok());
    let bytes = blobs.get(at as usize..).and_then(|b| b.get(..len?)).ok_or(Rule::BlobBounds)?;
    bytemuck::try_cast_slice(bytes).map_err(|_| Rule::Alignment)
}

/// Extents of a convolution's or pool's output along height and width.
///
/// Strides, dilations and kernel extents are at least 1 and the dilated kernel fits in the padded input.
pub(crate) fn window_output(window: &WindowRepr, h: u16, w: u16) -> Result<(u32, u32), Rule> {
    let window = Window::from(*window);
    let [top, left, bottom, right] = window.pad;
    let extent = |axis: usize, input: u16, before: u16, after: u16| {
        let (kernel, stride, dilation) = (window.kernel[axis], window.stride[axis], window.dilation[axis]);
        require(kernel > 0 && stride > 0 && dilation > 0, Rule::Window)?;
        // At most 65535 * 65534 + 1: fits in 32 bits.
        let reach = u32::from(dilation) * (u32::from(kernel) - 1) + 1;
        let padded = u32::from(input) + u32::from(before) + u32::from(after);
        let room = padded.checked_sub(reach).ok_or(Rule::Window)?;
        let output = room / u32::from(stride) + 1;
        require(output <= u32::from(u16::MAX), Rule::Shape)?;
        Ok(output)
    };
    Ok((extent(0, h, top, bottom)?, extent(1, w, left, right)?))
}

/// Every window along every axis covers at least one element of the input (an average over none is not
/// defined).
pub(crate) fn windows_touch(window: &WindowRepr, h: u16, w: u16) -> Result<(), Rule> {
    let (out_h, out_w) = window_output(window, h, w)?;
    let window = Window::from(*window);
    let touches = |axis: usize, outputs: u32, input: u16, before: u16| {
        let (kernel, dilation) = (u32::from(window.kernel[axis]), u32::from(window.dilation[axis]));
        (0..outputs).all(|o| {
            // Outputs fit in 16 bits: the product fits in 32.
            let start = o * u32::from(window.stride[axis]);
            // First kernel position at or behind the input's first element, and where it lies in the input.
            let (first, at) = match u32::from(before).checked_sub(start) {
                None => (0, start - u32::from(before)),
                Some(gap) => (gap.div_ceil(dilation), gap.next_multiple_of(dilation) - gap),
            };
            first < kernel && at < u32::from(input)
        })
    };
    let all = touches(0, out_h, h, window.pad[0]) && touches(1, out_w, w, window.pad[1]);
    require(all, Rule::Window)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(kernel: u16, stride: u16, dilation: u16, pad: u16) -> WindowRepr {
        Window { kernel: [kernel; 2], stride: [stride; 2], dilation: [dilation; 2], pad: [pad; 4] }.into()
    }

    #[test]
    fn output_extents() {
        assert_eq!(window_output(&window(3, 1, 1, 1), 5, 7), Ok((5, 7)));
        assert_eq!(window_output(&window(3, 2, 1, 0), 5, 7), Ok((2, 3)));
        assert_eq!(window_output(&window(3, 1, 2, 0), 5, 7), Ok((1, 3)));
        assert_eq!(window_output(&window(3, 1, 3, 0), 5, 7), Err(Rule::Window));
        assert_eq!(window_output(&window(1, 0, 1, 0), 5, 7), Err(Rule::Window));
        assert_eq!(window_output(&window(65535, 1, 65535, 65535), 5, 7), Err(Rule::Window));
        assert_eq!(window_output(&window(1, 1, 1, 65535), 5, 7), Err(Rule::Shape));
    }

    #[test]
    fn windows_that_see_only_padding() {
        assert_eq!(windows_touch(&window(2, 1, 1, 1), 3, 3), Ok(()));
        assert_eq!(windows_touch(&window(2, 1, 1, 2), 3, 3), Err(Rule::Window));
        // Dilation 4 straddles an input of 3.
        assert_eq!(windows_touch(&window(2, 1, 4, 4), 3, 3), Err(Rule::Window));
    }

    #[test]
    fn spans_do_not_wrap() {
        assert_eq!(Span::new(0, 0, 4), Err(Rule::Shape));
        assert_eq!(Span::new(2, 1, 4), Err(Rule::Alignment));
        assert_eq!(Span::new(4, 1 << 30, 4), Err(Rule::ArenaBounds));
        assert_eq!(Span::new(u32::MAX, 1, 1), Err(Rule::ArenaBounds));
        assert_eq!(Span::new(4, u64::MAX, 4), Err(Rule::ArenaBounds));
        assert_eq!(product([0u32, 4]), Err(Rule::Shape));
        assert_eq!(product([u32::MAX; 3]), Err(Rule::Shape));
    }
}
