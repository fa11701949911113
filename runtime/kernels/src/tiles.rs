//! Where a kernel finds what it computes with: an operator's tensors in the arena, and the weights of some of its blocks of
//! four output channels.

use crate::geometry::Tiled;
use offshoot_base::{Rule, Span};

/// Input and output of an operator in the arena. They may overlap where the operator allows that.
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
    /// The arena, once it is known that both tensors and all of `scratch` lie in it.
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
    /// The first of them.
    pub first: usize,
    /// How many.
    pub count: usize,
    /// Their weights.
    pub weights: Halves<'a>,
}

impl Blocks<'_> {
    /// The halves of these blocks, at the beginning of a weight tile.
    pub fn of<'p>(&self, g: &Tiled, weight_tile: &'p [i16]) -> &'p [i16] {
        weight_tile.get(..2 * g.k * self.count).unwrap_or(weight_tile)
    }
}

/// Where the halves of the words of weights are.
#[derive(Clone, Copy, Debug)]
pub enum Halves<'a> {
    /// In the file.
    Stored(&'a [i16]),
    /// In the arena.
    Expanded(Span),
}
