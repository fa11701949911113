//! Types for the gradients of int8 layers: lists of active rows, tensors, and rectangles in them. `accumulate` computes
//! the sums with the kernels of the instruction set.

pub mod grid;
pub mod planes;

use core::ops::Range;

use crate::layer::Geometry;

/// A list of rows of a tensor, by ascending position of their first element.
#[derive(Debug)]
pub struct Starts {
    at: [u32; Self::MOST],
    len: usize,
}

/// Rows of a tensor, by ascending position of their first element; at most [`Starts::MOST`].
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a>(&'a [u32]);

impl<'a> Rows<'a> {
    /// Positions of the first elements.
    pub fn starts(self) -> &'a [u32] {
        self.0
    }

    /// Range of the rows that begin in `0..end` after a shift by `offset`.
    pub(crate) fn inside(self, offset: isize, end: isize) -> Range<usize> {
        let (Some(&first), Some(&last)) = (self.0.first(), self.0.last()) else { return 0..0 };
        if first as isize + offset >= 0 && (last as isize + offset) < end {
            return 0..self.0.len();
        }
        let from = self.0.partition_point(|&s| (s as isize + offset) < 0);
        from..self.0.partition_point(|&s| (s as isize + offset) < end).max(from)
    }

    pub(crate) fn part(self, range: Range<usize>) -> Self {
        Self(self.0.get(range).unwrap_or(&[]))
    }
}

impl Default for Starts {
    fn default() -> Self {
        Self::new()
    }
}

impl Starts {
    /// Sums of this many int8 values minus their zero point fit 16 bits.
    pub const MOST: usize = 64;

    /// An empty list.
    pub fn new() -> Self {
        Self { at: [0; Self::MOST], len: 0 }
    }

    /// Appends a row. Does nothing if the list is full; a row before the last one is replaced by the last one.
    #[inline(always)]
    pub fn push(&mut self, start: usize) {
        let last = self.len.checked_sub(1).and_then(|last| self.at.get(last)).copied().unwrap_or(0);
        if let Some(place) = self.at.get_mut(self.len) {
            *place = (start as u32).max(last);
            self.len += 1;
        }
    }

    /// Number of rows that still fit.
    pub fn free(&self) -> usize {
        Self::MOST - self.len
    }

    /// Removes all rows.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// The rows.
    pub fn rows(&self) -> Rows<'_> {
        Rows(self.at.get(..self.len).unwrap_or(&[]))
    }

    /// Appends the rows that `select` writes to the start of the slice it is given; it returns their number, and must
    /// write them in ascending order. Appends none and returns `false` if the first of them is before the last row of
    /// the list.
    #[cfg(arm_dsp)]
    pub fn append(&mut self, select: impl FnOnce(&mut [u32]) -> usize) -> bool {
        let Some(free) = self.at.get_mut(self.len..) else { return false };
        let end = self.len + select(free);
        // Kernels access memory between the first and last row without checking those between.
        let last = self.len.checked_sub(1).and_then(|last| self.at.get(last)).copied().unwrap_or(0);
        let ascends = end == self.len || self.at.get(self.len).is_some_and(|&first| first >= last);
        if ascends && end <= Self::MOST {
            self.len = end;
        }
        ascends
    }
}

/// The tensors that gradients are computed from.
#[derive(Clone, Copy, Debug)]
pub struct Tensors<'a> {
    /// Extents of the layer.
    pub geometry: &'a Geometry,
    /// Input.
    pub x: &'a [i8],
    /// Output.
    pub h: &'a [i8],
    /// An output strictly between these is active.
    pub bounds: (i8, i8),
    /// Zero point of the input.
    pub zero: i32,
    /// First and end output column with complete windows.
    pub whole: (usize, usize),
}

/// First and end output column whose windows are not cut at the sides.
pub fn whole_columns(g: &Geometry) -> (usize, usize) {
    let k_w = usize::from(g.window.kernel[1]);
    let (from, to) = (g.reach(1, 0), g.reach(1, k_w.saturating_sub(1)));
    (from.0, to.1.min(from.1))
}

/// Positions of one channel's outputs in a rectangle.
#[derive(Clone, Copy, Debug)]
pub struct Outputs {
    /// Position of the first.
    pub at: usize,
    /// Distance between neighbours in a row.
    pub step: usize,
    /// Number of outputs in a row.
    pub count: usize,
    /// Distance between rows.
    pub line: usize,
    /// Number of rows.
    pub lines: usize,
}

/// Positions of the inputs of outputs in a rectangle, ascending: none in a row is after any in the next.
#[derive(Clone, Copy, Debug)]
pub struct Inputs {
    /// Position of the first.
    pub start: usize,
    /// Distance between neighbours in a row.
    pub step: usize,
    /// Distance between rows.
    pub line: usize,
}

/// Windows of an input: lines of `len` elements. The sums of a line are `pitch` after those of the line before.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// Offset from the start of a row to the first element of its window.
    pub offset: isize,
    /// Distance between the lines of a window.
    pub down: isize,
    /// Number of lines.
    pub lines: usize,
    /// Distance between the sums of two lines.
    pub pitch: usize,
    /// Index of the first sum.
    pub from: usize,
    /// Elements in a line.
    pub len: usize,
}
