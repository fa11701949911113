//! What a kernel reads and writes: an operator's tensors in the arena, and the weights of some of its blocks of four
//! output channels.

use crate::geometry::Tiled;
#[cfg(any(arm_dsp, wide))]
use offshoot_base::Rule;
use offshoot_base::Span;

/// Input and output of an operator in the arena. They may overlap if the operator allows it.
#[derive(Debug)]
pub struct Operands<'a> {
    /// The whole arena.
    pub arena: &'a mut [u8],
    /// The input.
    pub src: Span,
    /// The output.
    pub dst: Span,
}

impl Operands<'_> {
    /// The arena, after a check that both tensors and all of `scratch` lie in it.
    #[cfg(any(arm_dsp, wide))]
    pub(crate) fn region(&mut self, scratch: &[Span]) -> Result<&mut [u8], Rule> {
        let inside = |s: &Span| s.end() <= self.arena.len();
        let all = inside(&self.src) && inside(&self.dst) && scratch.iter().all(inside);
        if all { Ok(self.arena) } else { Err(Rule::ArenaBounds) }
    }
}

/// Blocks of four output channels of a tiled convolution.
#[derive(Clone, Copy, Debug)]
pub struct Blocks<'a> {
    /// Index of the first block.
    pub first: usize,
    /// Number of blocks.
    pub count: usize,
    /// Weights of these blocks.
    pub weights: Halves<'a>,
}

impl Blocks<'_> {
    /// The 16-bit halves of these blocks, at the start of an unpacked weight tile.
    pub fn of<'p>(&self, g: &Tiled, weight_tile: &'p [i16]) -> &'p [i16] {
        weight_tile.get(..2 * g.k * self.count).unwrap_or(weight_tile)
    }
}

/// Location of the 16-bit halves of weight words.
#[derive(Clone, Copy, Debug)]
pub enum Halves<'a> {
    /// As stored in the file.
    Stored(&'a [i16]),
    /// Unpacked in the arena.
    Expanded(Span),
}
