//! Kernels for processors with wide vectors, written once over [`Isa`]: traversal, packing and requantisation. One
//! folder per instruction set (`x86`, `neon`, `wasm`) provides the vectors.
//!
//! Results match [`super::portable`] to the bit: products of int16 are exact, and sums wrap, so their order does not
//! matter. The kernels use tensors, weights and a block on the stack ([`STACK`]), not the scratch that a record has for
//! microcontroller kernels. Jobs that do not fit or matter little for speed (dilated columns, groups) are left to
//! `portable`: the entry then returns `false` and has computed nothing.

// WebAssembly has no dot products of bytes that give the same bits on every machine.
#[cfg_attr(target_arch = "wasm32", allow(dead_code))]
mod bytes;
mod depthwise;
mod dot;
pub(crate) mod elementwise;
mod gather;
mod isa;
mod pool;
mod requant;
mod tiled;
mod winograd;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use bytes::Dot;
pub(crate) use bytes::DotJob;
pub(crate) use isa::{Isa, Job};

pub(crate) use bytes::ConvBytes;
pub(crate) use depthwise::DepthwiseRing;
pub(crate) use dot::{Conv, FullyConnectedRows, Products};
pub(crate) use elementwise::{Requantise, Sum};
pub(crate) use pool::Average;
pub(crate) use tiled::{ConvPairs, ConvVector, Params};
pub(crate) use winograd::Tiles;

/// Bytes of a block on the stack. A kernel has at most one.
const STACK: usize = 16 << 10;

/// An operator's input and output, which may overlap.
pub(crate) trait Tensors {
    fn input(&self) -> &[i8];
    fn output(&mut self) -> &mut [i8];
}

/// Tensors that do not overlap.
pub(crate) struct Apart<'a> {
    pub(crate) src: &'a [i8],
    pub(crate) dst: &'a mut [i8],
}

impl Tensors for Apart<'_> {
    #[inline(always)]
    fn input(&self) -> &[i8] {
        self.src
    }

    #[inline(always)]
    fn output(&mut self) -> &mut [i8] {
        self.dst
    }
}

/// Tensors that may overlap: ranges of the arena.
pub(crate) struct Arena<'a> {
    pub(crate) bytes: &'a mut [i8],
    pub(crate) src: core::ops::Range<usize>,
    pub(crate) dst: core::ops::Range<usize>,
}

impl Tensors for Arena<'_> {
    #[inline(always)]
    fn input(&self) -> &[i8] {
        &self.bytes[self.src.clone()]
    }

    #[inline(always)]
    fn output(&mut self) -> &mut [i8] {
        &mut self.bytes[self.dst.clone()]
    }
}

/// `N` elements from an index on, padded with zeros.
#[inline(always)]
fn block<T: Copy + Default, const N: usize>(all: &[T], at: usize) -> [T; N] {
    let rest = all.get(at..).unwrap_or_default();
    match rest.first_chunk() {
        Some(whole) => *whole,
        None => {
            let mut padded = [T::default(); N];
            padded[..rest.len()].copy_from_slice(rest);
            padded
        }
    }
}

/// Writes the leading elements of `values` at an index, as many as fit before `end`.
#[inline(always)]
fn put<const N: usize>(values: [i8; N], to: &mut [i8], at: usize, end: usize) {
    let room = &mut to[at..end];
    match room.first_chunk_mut() {
        Some(whole) => *whole = values,
        None => {
            let len = room.len();
            room.copy_from_slice(&values[..len]);
        }
    }
}
