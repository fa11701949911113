//! What follows from the record of an operator that can learn, and the memory that learning it takes: one arithmetic for
//! compiler, reader and engine.

use crate::error::Rule;
use crate::format::learn::Part;
use crate::format::record::{Arith, Record, Walk};
use crate::learn::layers::geometry::{Geometry, Order};
use crate::ops::{Span, product, require};

/// An operator that can learn.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Extents. A LayerNorm is a depthwise layer of one tap: an image of its rows, weights are its scales.
    pub geometry: Geometry,
    /// Number format.
    pub arith: Arith,
    /// Biases hold `-in_zp · Σ weights`: the operator is in an arranged form.
    pub folded: bool,
    /// It is a LayerNorm, whose blob is scales, then biases.
    pub norm: bool,
    /// Where its blob lies in the blob section, bytes.
    pub blob: u32,
    pub(crate) src: Span,
    pub(crate) dst: Span,
    /// Bytes of bias, multipliers and shifts.
    pub(crate) front: [usize; 3],
}

impl Shape {
    /// Of an operator for one image.
    ///
    /// # Errors
    /// [`Rule::Format`] if the operator is none that can learn; what is wrong with its extents.
    pub fn of(record: &Record) -> Result<Self, Rule> {
        let (mut folded, mut norm) = (false, false);
        let (geometry, arith, src, dst, blob, images) = match record {
            Record::Conv2d(r) => (Geometry::conv(r).ok_or(Rule::Window)?, r.arith, r.src, r.dst, r.blob, r.n),
            Record::Depthwise(r) => {
                (Geometry::depthwise(r).ok_or(Rule::Window)?, r.arith, r.src, r.dst, r.blob, r.n)
            }
            Record::FullyConnected(r) => (Geometry::fully_connected(r), r.arith, r.src, r.dst, r.blob, 1),
            Record::ConvBlocked(r) => {
                folded = true;
                let per_channel = r.walk != Walk::VectorOneScale;
                let arith = Arith::I8 { in_zp: r.in_zp, out_zp: r.out_zp, per_channel, clamp: r.clamp };
                (Geometry::blocked(r).ok_or(Rule::Window)?, arith, r.src, r.dst, r.blob, r.n)
            }
            Record::DepthwisePlanar(r) => {
                folded = true;
                let arith = Arith::I8 { in_zp: r.in_zp, out_zp: r.out_zp, per_channel: true, clamp: r.clamp };
                (Geometry::planar(r).ok_or(Rule::Window)?, arith, r.src, r.dst, r.blob, r.n)
            }
            Record::LayerNorm(r) => {
                norm = true;
                let (rows, depth) = (r.rows as usize, r.depth as usize);
                let order = Order::Depthwise { multiplier: 1 };
                let geometry = Geometry { order, ..Geometry::dense(rows, depth, depth) };
                (geometry, Arith::F32 { clamp: None }, r.src, r.dst, r.blob, 1)
            }
            _ => return Err(Rule::Format),
        };
        require(images == 1, Rule::Shape)?;
        let g = &geometry;
        let size = arith.dtype().size();
        let extent = |[h, w]: [usize; 2], c: usize| product([h as u64, w as u64, c as u64]);
        let channels = g.out_c;
        let front = match arith {
            Arith::F32 { .. } => [4 * channels, 0, 0],
            Arith::I8 { per_channel, .. } => {
                let scales = if per_channel { channels } else { 1 };
                [4 * channels, 4 * scales, scales.next_multiple_of(4)]
            }
        };
        let src = Span::new(src, extent(g.input, g.c)?, size)?;
        let dst = Span::new(dst, extent(g.output, g.out_c)?, size)?;
        Ok(Self { geometry, arith, folded, norm, blob, src, dst, front })
    }

    /// Whether it computes in whole numbers.
    pub fn is_whole(&self) -> bool {
        matches!(self.arith, Arith::I8 { .. })
    }

    /// Bytes of its blob.
    pub fn blob_bytes(&self) -> usize {
        self.front.iter().sum::<usize>() + self.geometry.places() * self.arith.dtype().size()
    }

    /// Bytes of the overlay of a part.
    pub fn overlay_bytes(&self, part: Part) -> u64 {
        let channels = self.geometry.out_c as u64;
        match part {
            Part::All => self.blob_bytes() as u64,
            Part::Bias => 4 * channels,
            Part::Scale if self.is_whole() => self.front.iter().sum::<usize>() as u64,
            Part::Scale => 8 * channels,
            Part::LowRank { rank } => 4 * u64::from(rank) * (channels + self.inputs() as u64),
        }
    }

    /// Bytes of the velocities of a part: float32 a number; of int8 layers a word a bias or scale, and two bytes a weight.
    pub fn velocity_bytes(&self, part: Part) -> u64 {
        let channels = self.geometry.out_c as u64;
        match part {
            Part::All if self.is_whole() => {
                4 * channels + (2 * self.geometry.weights() as u64).next_multiple_of(4)
            }
            Part::Scale => 8 * channels,
            _ => self.overlay_bytes(part),
        }
    }

    /// Words of room that a step needs. float32: an error a pixel; int8: as [`Geometry::gradients`] if weights learn, else one an output channel.
    /// An adaptor of low rank besides two numbers a pixel and rank, and an error a pixel.
    pub fn room_words(&self, part: Part) -> usize {
        let g = &self.geometry;
        match (part, self.is_whole()) {
            (Part::LowRank { .. }, false) => g.pixels() + self.adaptor_words(part),
            (Part::LowRank { .. }, true) => g.pixels() + self.adaptor_words(part) + g.out_c,
            (Part::All, true) => g.gradients(),
            (_, true) => g.out_c,
            (_, false) => g.pixels(),
        }
    }

    /// What is between the factors of an adaptor, and its errors.
    fn adaptor_words(&self, part: Part) -> usize {
        match part {
            Part::LowRank { rank } => 2 * usize::from(rank) * self.geometry.pixels(),
            _ => 0,
        }
    }

    /// Words of room that the first layer of a block needs while the second one's step is prepared: errors of the second one's
    /// features and of a channel's pixels (int8: or a part of the largest scale a channel), those of its own pixels (of one channel);
    /// int8: its gradients, in the place of which the second one's scores are made before, and an adaptor's errors once more.
    pub fn block_words(&self, part: Part, second: &Self, features: usize) -> usize {
        let (own, above) = (&self.geometry, &second.geometry);
        let common = features + own.pixels() + self.adaptor_words(part);
        if !self.is_whole() {
            return common + above.pixels();
        }
        let gradients = if part == Part::All { self.inputs() } else { 0 };
        let errors = if matches!(part, Part::LowRank { .. }) { own.pixels() } else { 0 };
        common + above.pixels().max(above.out_c) + errors + gradients.max(above.out_c)
    }

    /// Inputs of an output.
    pub fn inputs(&self) -> usize {
        self.geometry.taps() * self.geometry.depth()
    }

    /// The geometry of the lower factor of an adaptor: it has the ranks as channels.
    pub(crate) fn down(&self, rank: usize) -> Geometry {
        Geometry { out_c: rank, order: Order::Grouped { groups: 1 }, ..self.geometry }
    }

    /// Whether a part of it can learn at all.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn allows(&self, part: Part) -> Result<(), Rule> {
        // What learns still has its input when its output is there; a normalisation needs its output alone.
        require(self.norm || !self.src.overlaps(self.dst), Rule::Overlap)?;
        match part {
            Part::All => Ok(()),
            _ if self.norm => Err(Rule::Format),
            Part::Bias | Part::Scale => Ok(()),
            Part::LowRank { rank } => {
                let plain = !self.folded && self.geometry.order == (Order::Grouped { groups: 1 });
                require(plain, Rule::Format)?;
                require((1..=64).contains(&rank), Rule::Shape)
            }
        }
    }

    /// Whether the input of `second` is the output of this one.
    pub fn feeds(&self, second: &Self) -> bool {
        self.dst == second.src && self.is_whole() == second.is_whole()
    }
}
