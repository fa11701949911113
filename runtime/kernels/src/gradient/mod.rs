//! What gradients of int8 layers are made of: rows of pixels that count, tensors, and rectangles of them. The sums themselves
//! are made by `accumulate`, with the kernels of the instruction set.

pub mod grid;
pub mod planes;

use core::ops::Range;

use crate::layer::Geometry;

/// A list of rows of a tensor, by ascending place of their first element.
#[derive(Debug)]
pub struct Starts {
    at: [u32; Self::MOST],
    len: usize,
}

/// Rows of a tensor, by ascending place of their first element; at most [`Starts::MOST`].
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a>(&'a [u32]);

impl<'a> Rows<'a> {
    /// Places of the first elements.
    pub fn starts(self) -> &'a [u32] {
        self.0
    }

    /// Which of them, moved by `offset`, begin at or behind 0 and before `end`.
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

impl Starts {
    /// So many sums of int8 less their zero point stay within sixteen bits.
    pub const MOST: usize = 64;

    /// No row yet.
    pub fn new() -> Self {
        Self { at: [0; Self::MOST], len: 0 }
    }

    /// Appends a row. A full list takes no more; a row before the last is taken for the last.
    #[inline(always)]
    pub fn push(&mut self, start: usize) {
        let last = self.len.checked_sub(1).and_then(|last| self.at.get(last)).copied().unwrap_or(0);
        if let Some(place) = self.at.get_mut(self.len) {
            *place = (start as u32).max(last);
            self.len += 1;
        }
    }

    /// Rows that still fit.
    pub fn free(&self) -> usize {
        Self::MOST - self.len
    }

    /// Drops all rows.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// The rows.
    pub fn rows(&self) -> Rows<'_> {
        Rows(self.at.get(..self.len).unwrap_or(&[]))
    }

    /// Appends the rows that `select` writes to the front of the memory that it is given: it says how many they are, and that
    /// they ascend. None is appended, and the answer is `false`, if the first is before the last of those that are there.
    #[cfg(arm_dsp)]
    pub fn append(&mut self, select: impl FnOnce(&mut [u32]) -> usize) -> bool {
        let Some(free) = self.at.get_mut(self.len..) else { return false };
        let end = self.len + select(free);
        // Kernels read between the first row and the last without looking at those between.
        let last = self.len.checked_sub(1).and_then(|last| self.at.get(last)).copied().unwrap_or(0);
        let ascends = end == self.len || self.at.get(self.len).is_some_and(|&first| first >= last);
        if ascends && end <= Self::MOST {
            self.len = end;
        }
        ascends
    }
}

/// What gradients are made of.
#[derive(Clone, Copy, Debug)]
pub struct Tensors<'a> {
    /// Extents of the layer.
    pub geometry: &'a Geometry,
    /// Input.
    pub x: &'a [i8],
    /// Output.
    pub h: &'a [i8],
    /// Outputs strictly between these count.
    pub bounds: (i8, i8),
    /// Zero point of the input.
    pub zero: i32,
    /// Columns of the output whose windows are not cut off.
    pub whole: (usize, usize),
}

/// Columns of the output whose windows are not cut off at the sides.
pub fn whole_columns(g: &Geometry) -> (usize, usize) {
    let k_w = usize::from(g.window.kernel[1]);
    let (from, to) = (g.reach(1, 0), g.reach(1, k_w.saturating_sub(1)));
    (from.0, to.1.min(from.1))
}

/// Outputs of one channel, in a rectangle: their places in the tensor.
#[derive(Clone, Copy, Debug)]
pub struct Outputs {
    /// Place of the first.
    pub at: usize,
    /// From one to the next, of `count` in a row.
    pub step: usize,
    /// Outputs in a row.
    pub count: usize,
    /// From a row to the next, of so many.
    pub line: usize,
    /// Rows.
    pub lines: usize,
}

/// Inputs of outputs in a rectangle, by ascending place: none of a row lies behind one of the next.
#[derive(Clone, Copy, Debug)]
pub struct Inputs {
    /// Place of the first.
    pub start: usize,
    /// From one to the next in a row.
    pub step: usize,
    /// From a row to the next.
    pub line: usize,
}

/// Windows of an input: lines of `len` elements. Sums of a line lie `pitch` behind those of the line before.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// From the start of a row to the first element of its window.
    pub offset: isize,
    /// From a line of a window to the next.
    pub down: isize,
    /// Lines.
    pub lines: usize,
    /// From the sums of a line to those of the next.
    pub pitch: usize,
    /// Place of the first sum.
    pub from: usize,
    /// Elements of a line.
    pub len: usize,
}
