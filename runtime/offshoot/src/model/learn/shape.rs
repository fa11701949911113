//! Values derived from the record of an operator that can learn, and the memory that its learning takes. Compiler,
//! reader and engine share this arithmetic.

use offshoot_base::Rule;
use offshoot_base::{Span, product, require};
use offshoot_format::learn::TrainablePart;
use offshoot_format::record::{Arith, Record, Recurrent, RecurrentArith, Returns, Traversal};
use offshoot_format::sparse::SparseRepr;
use offshoot_kernels::gradient::planes::PlaneExtents;
use offshoot_kernels::layer::{Geometry, Order};
use offshoot_kernels::sparse::sparse_bytes;
use offshoot_learn::sequence;

/// An operator that can learn.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Extents. A LayerNorm counts as a depthwise layer with one tap: its rows are the image, its scales the weights.
    pub geometry: Geometry,
    /// Number format.
    pub arith: Arith,
    /// Whether the biases include `-in_zp · Σ weights`, as in tiled, channel-planar and sparse operators.
    pub folded: bool,
    /// Whether it is a LayerNorm, whose blob holds scales, then biases.
    pub norm: bool,
    /// Words of workspace for a train step of a recurrent layer; `None` for other layers. The "image" of a recurrent
    /// layer is one column with a pixel per time step.
    pub sequence: Option<usize>,
    /// Offset of the operator's blob in the blob section, in bytes.
    pub blob: u32,
    pub(crate) src: Span,
    pub(crate) dst: Span,
    /// Bytes of biases, multipliers and shifts.
    pub(crate) parameter_bytes: [usize; 3],
    /// Bytes of weights.
    body: usize,
}

impl Shape {
    /// Derives the shape of an operator with a batch of one.
    ///
    /// # Errors
    /// [`Rule::Format`] if the operator cannot learn; otherwise the rule that its extents break.
    pub fn of(record: &Record) -> Result<Self, Rule> {
        match record {
            Record::Recurrent(r) => return Self::recurrent(r, [None; 2]),
            Record::RecurrentSparse(r) => return Self::recurrent(&r.layer, r.matrices()),
            _ => {}
        }
        let (mut folded, mut norm) = (false, false);
        let (geometry, arith, src, dst, blob, images) = match record {
            Record::Conv2d(r) => (Geometry::conv(r).ok_or(Rule::Window)?, r.arith, r.src, r.dst, r.blob, r.n),
            Record::Depthwise(r) => {
                (Geometry::depthwise(r).ok_or(Rule::Window)?, r.arith, r.src, r.dst, r.blob, r.n)
            }
            Record::FullyConnected(r) => (Geometry::fully_connected(r), r.arith, r.src, r.dst, r.blob, 1),
            Record::ConvTiled(r) => {
                folded = true;
                let per_channel = r.traversal != Traversal::VectorOneScale;
                let arith = Arith::I8 { in_zp: r.in_zp, out_zp: r.out_zp, per_channel, clamp: r.clamp };
                (Geometry::tiled(r).ok_or(Rule::Window)?, arith, r.src, r.dst, r.blob, r.n)
            }
            Record::DepthwisePlanar(r) => {
                folded = true;
                let arith = Arith::I8 { in_zp: r.in_zp, out_zp: r.out_zp, per_channel: true, clamp: r.clamp };
                (Geometry::planar(r).ok_or(Rule::Window)?, arith, r.src, r.dst, r.blob, r.n)
            }
            Record::FullyConnectedSparse(r) => {
                folded = true;
                let (in_zp, out_zp, per_channel, clamp) = (r.in_zp, r.out_zp, r.per_channel, r.clamp);
                let arith = Arith::I8 { in_zp, out_zp, per_channel, clamp };
                (Geometry::sparse(r), arith, r.src, r.dst, r.blob, 1)
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
        let parameter_bytes = match arith {
            Arith::F32 { .. } => [4 * channels, 0, 0],
            Arith::I8 { per_channel, .. } => {
                let scales = if per_channel { channels } else { 1 };
                [4 * channels, 4 * scales, scales.next_multiple_of(4)]
            }
        };
        let src = Span::new(src, extent(g.input, g.c)?, size)?;
        let dst = Span::new(dst, extent(g.output, g.out_c)?, size)?;
        let body = geometry.places() * size;
        Ok(Self { geometry, arith, folded, norm, sequence: None, blob, src, dst, parameter_bytes, body })
    }

    /// Derives the shape of a recurrent layer; `matrices` are the sparse matrices of input and state, if any.
    fn recurrent(r: &Recurrent, matrices: [Option<SparseRepr>; 2]) -> Result<Self, Rule> {
        // A train step runs through the sequence again from the initial state; a kept state has been overwritten by
        // then.
        require(r.kept.is_none() && r.returns != Returns::State, Rule::Format)?;
        let [steps, inputs, units] = [r.steps, r.inputs, r.units].map(usize::from);
        let outputs = if r.returns == Returns::Sequence { steps } else { 1 };
        let geometry = Geometry::column([steps, outputs], inputs, units);
        // The weights lie in the blob section, so their size fits.
        let rows = r.kind.gates() * units;
        let (bias, weights) = (4 * r.kind.biases() * units, [rows * inputs, rows * units]);
        let (arith, parameter_bytes, body) = match r.arith {
            RecurrentArith::F32 => (Arith::F32 { clamp: None }, [bias, 0, 0], 4 * (weights[0] + weights[1])),
            RecurrentArith::I8 { in_zp, out_zp, .. } => {
                let codes = |sparse: Option<SparseRepr>, dense: usize, zero: i8| {
                    let start = if zero == 0 { 0 } else { 4 * rows };
                    let stored = |m: SparseRepr| start + sparse_bytes(&m, rows as u64).unwrap_or(0) as usize;
                    sparse.map_or(dense, stored).next_multiple_of(4)
                };
                let arith = Arith::I8 { in_zp, out_zp, per_channel: true, clamp: None };
                let body = codes(matrices[0], weights[0], in_zp) + codes(matrices[1], weights[1], out_zp);
                (arith, [bias, 4 * rows, 4 * rows], body)
            }
        };
        let [src, dst] = offshoot_operators::recurrent_tensors(r)?;
        let sequence = Some(sequence::workspace_words(r));
        let (folded, norm, blob) = (false, false, r.blob);
        Ok(Self { geometry, arith, folded, norm, sequence, blob, src, dst, parameter_bytes, body })
    }

    /// Whether it computes in integers.
    pub fn is_whole(&self) -> bool {
        matches!(self.arith, Arith::I8 { .. })
    }

    /// Bytes of the operator's blob.
    pub fn blob_bytes(&self) -> usize {
        self.parameter_bytes.iter().sum::<usize>() + self.body
    }

    /// Bytes of the trainable copy if `part` learns.
    pub fn trainable_bytes(&self, part: TrainablePart) -> u64 {
        let channels = self.geometry.out_c as u64;
        match part {
            TrainablePart::All => self.blob_bytes() as u64,
            TrainablePart::Bias => 4 * channels,
            TrainablePart::Scale if self.is_whole() => self.parameter_bytes.iter().sum::<usize>() as u64,
            TrainablePart::Scale => 8 * channels,
            TrainablePart::LowRank { rank } => 4 * u64::from(rank) * (channels + self.inputs() as u64),
        }
    }

    /// Bytes of the velocities if `part` learns. float32: one number each. int8: one word per bias or scale, two bytes
    /// per weight.
    pub fn velocity_bytes(&self, part: TrainablePart) -> u64 {
        let channels = self.geometry.out_c as u64;
        match part {
            // Recurrent layers learn without momentum.
            _ if self.sequence.is_some() => 0,
            TrainablePart::All if self.is_whole() => {
                4 * channels + (2 * self.geometry.weights() as u64).next_multiple_of(4)
            }
            TrainablePart::Scale => 8 * channels,
            _ => self.trainable_bytes(part),
        }
    }

    /// Words of workspace for a train step. Recurrent: [`sequence::workspace_words`]. float32: one error per pixel.
    /// int8: [`Geometry::gradients`] if weights learn, else one word per output channel. A low-rank adaptor needs two
    /// numbers per pixel and rank, and one error per pixel.
    pub fn workspace_words(&self, part: TrainablePart) -> usize {
        let g = &self.geometry;
        if let Some(words) = self.sequence {
            return words;
        }
        match (part, self.is_whole()) {
            (TrainablePart::LowRank { .. }, false) => g.pixels() + self.adaptor_words(part),
            (TrainablePart::LowRank { .. }, true) => g.pixels() + self.adaptor_words(part) + g.out_c,
            (TrainablePart::All, true) => g.gradients(),
            (_, true) => g.out_c,
            (_, false) => g.pixels(),
        }
    }

    /// Words of workspace, at most `most`, with which a train step of an int8 layer takes fewer instructions on cores
    /// with the DSP extension; `None` if there is no such plan. `cells` is the number of cells of its pooling grid.
    pub fn planes_words(&self, part: TrainablePart, cells: usize, most: usize) -> Option<usize> {
        let g = &self.geometry;
        let plan =
            PlaneExtents::new(g, cells, most).filter(|_| part == TrainablePart::All && self.is_whole())?;
        Some(PlaneExtents::sums(g) + plan.words(g, cells))
    }

    /// Words for the activations between an adaptor's factors, and for their errors.
    fn adaptor_words(&self, part: TrainablePart) -> usize {
        match part {
            TrainablePart::LowRank { rank } => 2 * usize::from(rank) * self.geometry.pixels(),
            _ => 0,
        }
    }

    /// Words of workspace for the first layer of a block while the error comes back through the second layer: one per
    /// feature of the second layer, one per pixel of the second layer (int8: or per output channel, for its relative
    /// scale, if that is more), and one per pixel of the first. int8 adds the gradients of a channel or, before them in
    /// the same place, one word per output channel of the second layer; and an adaptor's errors, one per pixel.
    pub fn block_words(&self, part: TrainablePart, second: &Self, features: usize) -> usize {
        let (own, above) = (&self.geometry, &second.geometry);
        let common = features + own.pixels() + self.adaptor_words(part);
        if !self.is_whole() {
            return common + above.pixels();
        }
        let gradients = if part == TrainablePart::All { self.inputs() } else { 0 };
        let errors = if matches!(part, TrainablePart::LowRank { .. }) { own.pixels() } else { 0 };
        common + above.pixels().max(above.out_c) + errors + gradients.max(above.out_c)
    }

    /// Number of inputs of one output.
    pub fn inputs(&self) -> usize {
        self.geometry.taps() * self.geometry.depth()
    }

    /// Geometry of an adaptor's lower factor: its output channels are the ranks.
    pub(crate) fn down(&self, rank: usize) -> Geometry {
        Geometry { out_c: rank, order: Order::Grouped { groups: 1 }, ..self.geometry }
    }

    /// Checks that `part` of this operator can learn.
    ///
    /// # Errors
    /// The rule that prevents it.
    pub fn allows(&self, part: TrainablePart) -> Result<(), Rule> {
        // Learning needs input and output at once. A normalisation needs its output only.
        require(self.norm || !self.src.overlaps(self.dst), Rule::Overlap)?;
        match part {
            TrainablePart::All => Ok(()),
            _ if self.norm || self.sequence.is_some() => Err(Rule::Format),
            TrainablePart::Bias | TrainablePart::Scale => Ok(()),
            TrainablePart::LowRank { rank } => {
                let plain = !self.folded && self.geometry.order == (Order::Grouped { groups: 1 });
                require(plain, Rule::Format)?;
                require((1..=64).contains(&rank), Rule::Shape)
            }
        }
    }

    /// Whether it can be in a block of two.
    pub fn in_blocks(&self) -> bool {
        !self.norm && self.sequence.is_none() && !matches!(self.geometry.order, Order::Sparse(_))
    }

    /// Whether both can form a block of two: the input of `second` is this one's output, their number formats agree,
    /// and neither is recurrent, sparse or a LayerNorm.
    pub fn feeds(&self, second: &Self) -> bool {
        self.dst == second.src
            && self.is_whole() == second.is_whole()
            && self.in_blocks()
            && second.in_blocks()
    }
}
