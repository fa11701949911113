//! Writes `.off` bytes for graphs made by hand, and holds every file to what the runtime promises of any bytes.

use offshoot::engine::Engine;
use offshoot::format::codec::{self, GraphHead, OP_MAX};
use offshoot::format::header::{HEADER_LEN, Header, seal};
use offshoot::format::nested::Whole;
use offshoot::format::record::*;
use offshoot::format::sparse::{Form, SparseRepr};
use offshoot::{Error, Model};

/// Bytes that begin at a multiple of 16.
pub(crate) struct Aligned {
    words: Vec<u128>,
    len: usize,
}

impl Aligned {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut aligned = Self { words: vec![0; bytes.len().div_ceil(16)], len: bytes.len() };
        aligned.as_mut().copy_from_slice(bytes);
        aligned
    }

    pub(crate) fn zeroed(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(16)], len }
    }
}

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }
}

impl AsMut<[u8]> for Aligned {
    fn as_mut(&mut self) -> &mut [u8] {
        let len = self.len;
        &mut bytemuck::cast_slice_mut(&mut self.words)[..len]
    }
}

/// A file in the making.
#[derive(Clone, Default)]
pub(crate) struct Builder {
    pub(crate) arena_bytes: u32,
    pub(crate) inputs: Vec<IoRepr>,
    pub(crate) outputs: Vec<IoRepr>,
    pub(crate) records: Vec<Record>,
    pub(crate) blobs: Vec<u8>,
}

impl Builder {
    pub(crate) fn new(arena_bytes: u32) -> Self {
        Self { arena_bytes, ..Self::default() }
    }

    pub(crate) fn op(mut self, record: impl Into<Record>) -> Self {
        self.records.push(record.into());
        self
    }

    pub(crate) fn input(mut self, offset: u32, dtype: DType, shape: &[u16]) -> Self {
        self.inputs.push(io(offset, dtype, shape));
        self
    }

    pub(crate) fn output(mut self, offset: u32, dtype: DType, shape: &[u16]) -> Self {
        self.outputs.push(io(offset, dtype, shape));
        self
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let mut graph = Vec::new();
        let mut buffer = [0; OP_MAX];
        let mut put = |n: Option<usize>, buffer: &[u8]| graph.extend_from_slice(&buffer[..n.unwrap()]);
        let head = GraphHead {
            inputs: self.inputs.len() as u8,
            outputs: self.outputs.len() as u8,
            ops: self.records.len() as u16,
        };
        put(codec::encode(&head, &mut buffer), &buffer);
        for io in self.inputs.iter().chain(&self.outputs) {
            put(codec::encode(io, &mut buffer), &buffer);
        }
        for (i, record) in self.records.iter().enumerate() {
            let header = OpHeader { origin: i as u16, scale: 0.5, zero_point: -1 };
            put(codec::encode_op(&header, record, &mut buffer), &buffer);
        }
        let mut header = Header { arena_bytes: self.arena_bytes, source_hash: 7, ..Header::default() };
        header.graph_len = graph.len() as u32;
        let mut file = vec![0; HEADER_LEN];
        file.extend(graph);
        file.resize(header.blob_start() as usize, 0);
        file.extend(&self.blobs);
        header.file_len = file.len() as u32;
        file[..HEADER_LEN].copy_from_slice(&header.emit());
        seal(&mut file).unwrap();
        file
    }
}

pub(crate) fn io(offset: u32, dtype: DType, shape: &[u16]) -> IoRepr {
    let mut all = [1; 6];
    all[..shape.len()].copy_from_slice(shape);
    let scale = if matches!(dtype, DType::I8 | DType::I16) { 0.5 } else { 0.0 };
    IoRepr { offset, dtype, scale, zero_point: 0, rank: shape.len() as u8, shape: all, outside: 0 }
}

/// Opens a file and, if that goes well, runs it: the runtime's promise is that neither panics. Files that ask for
/// more memory or work than a test wants to give are opened only.
pub(crate) fn open_and_run(bytes: &[u8]) -> Result<(), Error> {
    let file = Aligned::new(bytes);
    let model = Model::open(file.as_ref())?;
    if model.arena_bytes() > 1 << 20 || model.work() > 1 << 20 {
        return Ok(());
    }
    let mut arena = Aligned::zeroed(model.arena_bytes() as usize);
    let mut engine = Engine::new(model, arena.as_mut())?;
    for i in 0..model.input_count() {
        for (j, byte) in engine.input_mut(i)?.iter_mut().enumerate() {
            *byte = (j as u8).wrapping_mul(37);
        }
    }
    engine.run()
}

/// Halves of a block of three single-multiply channels with a 2×2 window that are padding if it is narrow or wide.
const PADS: [usize; 24] = {
    // Narrow: four words of a group behind two words; wide: eight behind four.
    let (mut all, mut n) = ([0; 24], 0);
    while n < 24 {
        all[n] = match n {
            0..8 => 4 + 8 * (1 + n / 4 * 2) + 2 * (n % 4) + 1,
            _ => 8 + 16 * (1 + (n - 8) / 8 * 2) + 2 * ((n - 8) % 8) + 1,
        };
        n += 1;
    }
    all
};

/// Bytes of the blob section of [`with_records`].
pub(crate) const BLOBS: usize = 4456;

/// One valid record of every kind and number format, in an arena of 4096 bytes and [`BLOBS`] of blobs.
pub(crate) fn every_record() -> Vec<Record> {
    let window: WindowRepr =
        Window { kernel: [2, 2], stride: [1, 2], dilation: [1, 1], pad: [1, 0, 0, 1] }.into();
    let (src, dst, blob) = (0, 2048, 0);
    let int = Arith::I8 { in_zp: -3, out_zp: 5, per_channel: true, clamp: Some((-100, 100)) };
    let int_one = Arith::I8 { in_zp: -3, out_zp: 5, per_channel: false, clamp: None };
    let float = Arith::F32 { clamp: Some((0.0, 6.0)) };
    let mut all: Vec<Record> = Vec::new();
    for arith in [int, int_one, float] {
        all.push(
            Conv2d { src, dst, n: 1, h: 4, w: 4, c: 4, out_c: 2, groups: 2, window, arith, blob }.into(),
        );
        all.push(Depthwise { src, dst, n: 1, h: 4, w: 4, c: 2, multiplier: 2, window, arith, blob }.into());
        let (n, h, w, c, out_h, out_w, out_c, groups) = (1, 3, 3, 2, 4, 7, 2, 1);
        all.push(
            ConvTranspose { src, dst, n, h, w, c, out_h, out_w, out_c, groups, window, arith, blob }.into(),
        );
        all.push(FullyConnected { src, dst, rows: 2, in_c: 5, out_c: 3, arith, blob }.into());
    }
    let m = 1 << 30;
    let matmul =
        [MatMulArith::I8 { a_zp: 1, b_zp: 2, out_zp: 3, multiplier: m, shift: -5 }, MatMulArith::F32];
    for arith in matmul {
        for transposed in [false, true] {
            all.push(MatMul { a: 0, b: 256, dst, batch: 2, m: 2, k: 3, n: 4, transposed, arith }.into());
        }
    }
    let pools = [PoolArith::I8 { zp: 1, clamp: None }, PoolArith::F32 { clamp: Some((0.0, 1.0)) }];
    for arith in pools {
        for kind in [PoolKind::Average, PoolKind::AverageIncludePad, PoolKind::Max] {
            all.push(Pool { src, dst, n: 1, h: 4, w: 4, c: 3, window, kind, arith }.into());
        }
    }
    use BinaryKind::{Add, Div, Max, Min, Mul, Sub};
    for kind in [Add, Sub, Mul, Div, Min, Max] {
        for (b, broadcast, swapped) in [(Operand::Arena(512), 0, false), (Operand::Blob(64), 0b0101, true)] {
            let dims = [1, 2, 3, 4];
            let int = BinaryArith::I8 { a_zp: 1, b_zp: 2, out_zp: 3, clamp: None, blob: 1000 };
            let float = BinaryArith::F32 { clamp: None };
            if kind != Div {
                all.push(Binary { kind, swapped, a: 0, b, dst, dims, broadcast, arith: int }.into());
            }
            all.push(Binary { kind, swapped, a: dst, b, dst, dims, broadcast, arith: float }.into());
        }
    }
    use UnaryKind::*;
    let kinds = [
        Clip { min: 0.0, max: 6.0 },
        LeakyRelu { alpha: 0.1 },
        HardSwish,
        HardSigmoid { alpha: 0.2, beta: 0.5 },
        Sigmoid,
        Tanh,
        Gelu,
        GeluTanh,
        Elu { alpha: 1.0 },
        Exp,
        Log,
        Sqrt,
        Reciprocal,
        Abs,
        Neg,
        Erf,
        Softplus,
        Pow { exponent: 2.0 },
    ];
    all.extend(kinds.map(|kind| Record::from(Unary { src, dst, len: 5, kind })));
    all.extend(ElementaryKind::ALL.map(|kind| Record::from(Elementary { src, dst, len: 5, kind })));
    use BinaryMathKind::{Equal, Fmod, Keep, Mod};
    for kind in [BinaryMathKind::Pow, Mod, Fmod, Keep, Equal] {
        for (b, broadcast, swapped) in [(Operand::Arena(512), 0, false), (Operand::Blob(64), 0b0101, true)] {
            let (dims, clamp) = ([1, 2, 3, 4], swapped.then_some((-1.0, 9.0)));
            all.push(BinaryMath { kind, swapped, a: 0, b, dst, dims, broadcast, clamp }.into());
        }
    }
    all.push(Lut { src, dst, len: 9, blob }.into());
    let prelu = PReluArith::I8 { in_zp: 1, slope_zp: 0, out_zp: 2, pos: (m, 0), neg: (m, -3) };
    all.push(PRelu { src, dst, rows: 2, c: 3, arith: prelu, blob }.into());
    all.push(PRelu { src, dst, rows: 2, c: 3, arith: PReluArith::F32, blob }.into());
    let softmax = SoftmaxArith::I8 { multiplier: m, shift: 23, diff_min: -248 };
    all.push(Softmax { src, dst, rows: 2, depth: 5, arith: softmax }.into());
    all.push(Softmax { src, dst, rows: 2, depth: 5, arith: SoftmaxArith::F32 }.into());
    all.push(LayerNorm { src, dst, rows: 2, depth: 5, epsilon: 1e-5, blob }.into());
    for size in [1, 4] {
        let axes = [
            Axis { extent: 2, src_stride: 12, dst_stride: -1 },
            Axis { extent: 3, src_stride: 4, dst_stride: 2 },
            Axis { extent: 4, src_stride: -1, dst_stride: 6 },
        ];
        all.push(Copy { src: 64, dst, size, axes: Axes::from_slice(&axes).unwrap() }.into());
        all.push(Fill { dst, len: 7, size, value: -2 }.into());
        all.push(History { src, dst, kept: 700, state: 3, len: 2, size, fill: -2 }.into());
        for mode in [PadMode::Reflect, PadMode::Edge] {
            let pad = [[0, 0], [1, 0], [2, 1], [0, 0]];
            all.push(Pad { src, dst, size, dims: [1, 2, 3, 2], pad, mode }.into());
        }
    }
    for dtype in [DType::I8, DType::F32] {
        // The blob section's tail is zero: every table entry points to element 0.
        for bilinear in [false, true] {
            let (n, h, w, c, out_h, out_w, blob) = (1, 2, 2, 3, 4, 3, 800);
            all.push(Resize { src, dst, n, h, w, c, out_h, out_w, bilinear, dtype, blob }.into());
        }
        for select_last in [false, true] {
            all.push(ArgMax { src, dst, outer: 2, extent: 3, inner: 2, dtype, select_last }.into());
        }
    }
    let reduce = ReduceArith::I8 { in_zp: 1, out_zp: -1, multiplier: m, shift: -2 };
    for arith in [reduce, ReduceArith::F32] {
        for kind in [ReduceKind::Mean, ReduceKind::Sum, ReduceKind::Max, ReduceKind::Min] {
            all.push(Reduce { src, dst, outer: 2, extent: 3, inner: 2, kind, arith }.into());
        }
    }
    all.extend(int16_records(window));
    // A row of two from each of three places, by two indices; the indices in the arena, then constant.
    let unused = RowAxis { extent: 1, stride: 0, index_stride: 0 };
    let picks =
        [Pick { extent: 3, stride: 8 }, Pick { extent: 2, stride: 3 }, Pick::default(), Pick::default()];
    let along = RowAxis { extent: 3, stride: 2, index_stride: 2 };
    let rows = |index| Rows { index, axes: [unused, unused, unused, along], indices: 2, picks, run: 2 };
    for (size, place, index) in
        [(1, Operand::Arena(src), Operand::Arena(512)), (4, Operand::Blob(0), Operand::Blob(800))]
    {
        all.push(Gather { src: place, dst, size, rows: rows(index) }.into());
    }
    use ScatterKind as Join;
    let index = Operand::Arena(512);
    for kind in [Join::Set, Join::Add, Join::Mul, Join::Max, Join::Min] {
        all.push(Scatter { src, dst, dtype: DType::F32, kind, rows: rows(index) }.into());
    }
    for kind in [Join::Set, Join::Max, Join::Min] {
        all.push(Scatter { src, dst, dtype: DType::I8, kind, rows: rows(Operand::Blob(800)) }.into());
    }
    all.push(Scatter { src, dst, dtype: DType::I32, kind: Join::Set, rows: rows(index) }.into());
    for (dtype, largest) in [(DType::I8, true), (DType::F32, false)] {
        all.push(TopK { src, dst, outer: 2, extent: 4, inner: 3, k: 3, largest, dtype }.into());
    }
    for to in [DType::I32, DType::F32] {
        all.push(Cast { src, dst, len: 5, to }.into());
    }
    for (kind, outside) in [
        (GridKind::Nearest, GridOutside::Zeros),
        (GridKind::Bilinear, GridOutside::Border),
        (GridKind::Bicubic, GridOutside::Reflection),
    ] {
        let (n, h, w, c, out_h, out_w, align_corners) = (1, 3, 4, 2, 2, 2, kind == GridKind::Nearest);
        all.push(
            GridSample { src, grid: 512, dst, n, h, w, c, out_h, out_w, kind, outside, align_corners }.into(),
        );
    }
    for (bits, block, groups, offsets) in [(8, 30, 1, false), (4, 4, 3, true), (2, 1, 1, true)] {
        let (n, h, w, c, out_c, clamp) = (1, 4, 4, 3, 3, Some((0.0, 6.0)));
        let conv = ConvWeightOnly {
            src,
            dst: 1024,
            scratch: 768,
            n,
            h,
            w,
            c,
            out_c,
            groups,
            window,
            clamp,
            bits,
            block,
            offsets,
            blob: 0,
        };
        all.push(conv.into());
    }
    for (part, window) in
        [(SpectrumPart::Complex, None), (SpectrumPart::Power, Some(800)), (SpectrumPart::Magnitude, Some(0))]
    {
        let (signals, samples, frames, hop, frame, size) = (1, 40, 2, 16, 24, 32);
        let dst = 1024;
        all.push(
            Spectrum { src, dst, scratch: 768, signals, samples, frames, hop, frame, size, part, window }
                .into(),
        );
    }
    // A band of two inputs and one of none, at the end of the blobs.
    for (entries, clamp, blob) in [(2, None, BANDS), (0, Some((0.0, 6.0)), 800)] {
        all.push(FullyConnectedBanded { src, dst, rows: 2, in_c: 4, out_c: 2, entries, clamp, blob }.into());
    }
    // Tables of zeros, and one bin for the second of two channels.
    for (kept, gain, log) in [(None, Some(14), Some(6)), (Some(900), None, None)] {
        let r = MicroFrontend {
            src,
            dst: 1024,
            scratch: 768,
            kept,
            samples: 60,
            frames: 3,
            hop: 15,
            frame: 30,
            size: 32,
            channels: 2,
            start: 3,
            entries: 1,
            smoothing_bits: 10,
            smoothing: [400, 1000],
            remaining: 800,
            gain,
            log,
            blob: MICRO,
        };
        all.push(r.into());
    }
    all.push(Quantize { src, dst, len: 5, scale: 0.5, zp: 3 }.into());
    all.push(Dequantize { src, dst, len: 5, scale: 0.5, zp: 3 }.into());
    let (in_zp, out_zp, multiplier, shift) = (1, 2, m, 1);
    all.push(Requantize { src, dst, len: 5, in_zp, out_zp, multiplier, shift, clamp: Some((0, 9)) }.into());
    all.push(Constant { dst, len: 13, blob: 4 }.into());
    // Three channels at 400 (with_records): biases, multipliers, shifts.
    let (blob, clamp, scratch) = (400, None, 768);
    let (n, h, w, c, out_c) = (1, 4, 4, 3, 3);
    for (traversal, dst) in [(Traversal::Forwards, dst), (Traversal::Backwards, 256)] {
        all.push(
            ConvTiled { src, dst, scratch, n, h, w, c, out_c, window, in_zp, out_zp, traversal, clamp, blob }
                .into(),
        );
        let conv =
            ConvTiled { src, dst, scratch, n, h, w, c, out_c, window, in_zp, out_zp, traversal, clamp, blob };
        all.push(ConvRowMajor::new(conv).into());
    }
    let same: WindowRepr =
        Window { kernel: [3, 3], stride: [1, 1], dilation: [1, 1], pad: [1, 1, 1, 1] }.into();
    for (dst, window, rows) in [(dst, window, 2), (src, same, 3)] {
        let planar =
            DepthwisePlanar { src, dst, scratch, n, h, w, c, rows, window, in_zp, out_zp, clamp, blob };
        all.push(planar.into());
        all.push(DepthwiseWeightShared::new(planar, Whole { blob, c: 1, out_c: c }, rows == 2).into());
    }
    // Its own blob: four channels (the fourth is padding) of 4 · 3 · 4 components.
    all.push(
        ConvWinograd {
            src,
            dst: 2048,
            scratch,
            n,
            h,
            w,
            c: 4,
            out_c,
            window: same,
            in_zp,
            out_zp,
            clamp,
            strip: 1,
            blob,
        }
        .into(),
    );
    // Behind biases, multipliers and shifts of three channels: words 0 and 1, the first a literal's.
    all.push(
        FullyConnectedHuffman {
            src,
            dst,
            scratch,
            in_c: 7,
            out_c: out_c.into(),
            in_zp,
            out_zp,
            per_channel: true,
            clamp,
            symbols: 2,
            stream: 9,
            blob: 560,
        }
        .into(),
    );
    // Behind biases, multipliers and shifts at 400: levels, codes.
    for (bits, weight_tile, traversal, dst) in
        [(4, 1, Traversal::Forwards, dst), (2, 1, Traversal::Backwards, 256)]
    {
        let conv =
            ConvTiled { src, dst, scratch, n, h, w, c, out_c, window, in_zp, out_zp, traversal, clamp, blob };
        all.push(ConvPacked::new(conv, bits, weight_tile).into());
        // Four biases of its own, in the zeros at the end.
        let own = ConvTiled { blob: 800, ..conv };
        all.push(ConvWeightShared::new(own, Whole { blob, c, out_c }, false, weight_tile).into());
    }
    let (steps, inputs, units) = (5, 2, 3);
    use RecurrentKind::{Gru, GruResetAfter, Lstm, Relu};
    let simple = RecurrentKind::Tanh;
    for (reverse, kind) in
        [false, true].into_iter().flat_map(|r| [simple, Relu, Gru, GruResetAfter, Lstm].map(|k| (r, k)))
    {
        let whole = RecurrentArith::I8 { in_zp, out_zp, out_scale: 0.01 };
        for (arith, returns) in [(whole, Returns::Sequence), (RecurrentArith::F32, Returns::Last)] {
            let f32_lstm = kind == Lstm && arith == RecurrentArith::F32;
            let returns = if f32_lstm && reverse { Returns::State } else { returns };
            let initial = (reverse && (kind != Lstm || f32_lstm)).then_some(64);
            let kept = reverse.then_some(128);
            all.push(
                Recurrent {
                    src,
                    dst,
                    initial,
                    kept,
                    scratch,
                    steps,
                    inputs,
                    units,
                    kind,
                    returns,
                    reverse,
                    arith,
                    blob: 0,
                }
                .into(),
            );
        }
    }
    // Behind biases, multipliers and shifts at 616 (with_records): three rows of 2, 0 and 1 entries.
    for (form, entries, steps) in [(Form::Bytes, 3, 3), (Form::Nibbles, 3, 2), (Form::Blocks, 3, 3)] {
        let (matrix, per_channel, blob) = (SparseRepr { form, entries, steps }, true, 616);
        let (rows, in_c, out_c) = (2, 20, 3);
        all.push(
            FullyConnectedSparse {
                src,
                dst,
                rows,
                in_c,
                out_c,
                in_zp,
                out_zp,
                per_channel,
                clamp,
                blob,
                matrix,
            }
            .into(),
        );
        let (n, h, w, c, out_c) = (1, 4, 4, 5, 3);
        all.push(
            ConvSparse {
                src,
                dst,
                scratch,
                n,
                h,
                w,
                c,
                out_c,
                window,
                in_zp,
                out_zp,
                per_channel,
                clamp,
                blob,
                matrix,
            }
            .into(),
        );
    }
    // Each on a blob of its own: see `with_records`.
    for (i, form) in [Form::Bytes, Form::Nibbles, Form::Blocks].into_iter().enumerate() {
        let (kind, returns) = (RecurrentKind::Tanh, Returns::Sequence);
        let (inputs, units, reverse) = (8, 4, form == Form::Nibbles);
        let arith = RecurrentArith::I8 { in_zp: [1, 0, 1][i], out_zp: 2, out_scale: 0.01 };
        let (initial, kept) = (reverse.then_some(64), reverse.then_some(128));
        let blob = 1024 + 160 * i as u32;
        let layer = Recurrent {
            src,
            dst,
            initial,
            kept,
            scratch,
            steps,
            inputs,
            units,
            kind,
            returns,
            reverse,
            arith,
            blob,
        };
        let packed = if form == Form::Nibbles { 3 } else { 5 };
        let matrix = Some(SparseRepr { form, entries: 5, steps: packed });
        all.push(RecurrentSparse { layer, input: matrix, state: matrix }.into());
    }
    // Any words.
    let linear = ConvTiled {
        src,
        dst,
        scratch,
        n,
        h,
        w,
        c,
        out_c,
        window,
        in_zp,
        out_zp: -128,
        traversal: Traversal::Forwards,
        clamp,
        blob: 1536,
    };
    for (strip, weight_tile, wide) in [(1, false, false), (3, true, false), (2, true, true)] {
        all.push(ConvSingleMultiply::new(linear, strip, weight_tile, wide).into());
    }
    let planar = DepthwisePlanar {
        src,
        dst,
        scratch,
        n,
        h,
        w,
        c,
        rows: 3,
        window: same,
        in_zp,
        out_zp: -128,
        clamp,
        blob: 600,
    };
    all.push(DepthwiseSingleMultiply::new(planar).into());
    // Two tables over eight elements in four rows.
    all.push(
        FusedRows { src, dst, scratch, rows: 4, step: 1, members: 2, len: 10, bytes: 8, blob: 960 }.into(),
    );
    all.push(Branch { src, number: 1, count: 3, ops: 0, bytes: 0 }.into());
    all
}

/// Records of int16 operators. From 2400 on, the blob section is zero.
fn int16_records(window: WindowRepr) -> Vec<Record> {
    let (src, dst, blob, zeros) = (0, 2048, 0, 2400);
    let (n, h, w, c, out_c, multiplier, shift) = (1, 4, 4, 4, 2, 1 << 30, -3);
    let mut all: Vec<Record> = Vec::new();
    for (wide, per_channel, groups, blob) in [(false, true, 2, blob), (true, false, 1, zeros)] {
        let clamp = wide.then_some((-9, 3000));
        all.push(
            ConvInt16 { src, dst, n, h, w, c, out_c, groups, window, per_channel, wide, clamp, blob }.into(),
        );
    }
    use BinaryKind::{Add, Max, Min, Mul, Sub};
    for kind in [Add, Sub, Mul, Min, Max] {
        for (b, broadcast, swapped) in [(Operand::Arena(512), 0, false), (Operand::Blob(64), 0b0101, true)] {
            let (dims, clamp, scales) = ([1, 2, 3, 4], swapped.then_some((0, 77)), [(multiplier, shift); 3]);
            all.push(BinaryInt16 { kind, swapped, a: 0, b, dst, dims, broadcast, clamp, scales }.into());
        }
    }
    for kind in [PoolKind::Average, PoolKind::AverageIncludePad, PoolKind::Max] {
        all.push(PoolInt16 { src, dst, n, h, w, c: 3, window, kind, clamp: None }.into());
    }
    all.push(SoftmaxInt16 { src, dst, rows: 2, depth: 5, multiplier, shift, blob: zeros }.into());
    for tanh in [false, true] {
        all.push(SigmoidInt16 { src, dst, len: 9, tanh, multiplier: 20_000, shift: 14, blob }.into());
    }
    all.push(LutInt16 { src, dst, len: 9, blob }.into());
    for (change, zp) in [(Int16Change::Scale, 0), (Int16Change::FromI8, -4), (Int16Change::ToI8, 5)] {
        let clamp = Some((-90, 100));
        all.push(RequantizeInt16 { src, dst, len: 5, change, zp, multiplier, shift, clamp }.into());
    }
    all.push(QuantizeInt16 { src, dst, len: 5, scale: 0.5 }.into());
    all.push(DequantizeInt16 { src, dst, len: 5, scale: 0.5 }.into());
    for kind in [ReduceKind::Mean, ReduceKind::Sum, ReduceKind::Max, ReduceKind::Min] {
        all.push(ReduceInt16 { src, dst, outer: 2, extent: 3, inner: 2, kind, multiplier, shift }.into());
    }
    all
}
/// Where [`with_records`] has biases, bands and weights of a layer with bands.
const BANDS: u32 = 1696;

/// Where it has the tables of a front end in integers.
const MICRO: u32 = BANDS + 24;

/// A file with these operators, one input and one output.
pub(crate) fn with_records(records: Vec<Record>) -> Builder {
    let mut builder = Builder::new(4096).input(0, DType::I8, &[2, 512]).output(2048, DType::I8, &[16]);
    builder.records = records;
    builder.blobs = (0..1024u32).map(|i| if i < 400 { (i * 7 % 29) as u8 } else { 0 }).collect();
    // For the records with arranged weights: three biases, multipliers and shifts, then weights.
    builder.blobs[412..424].copy_from_slice(&[0, 0, 0, 0x40].repeat(3));
    builder.blobs[424..427].copy_from_slice(&[0xfa, 0xff, 0xf0]);
    builder.blobs[428..560].fill(3);
    // The third and fourth input of every second group pad a kernel row: tiled weights, then codes of four bits, for
    // which level 0 is 0 too.
    for group in [1, 3] {
        for half in [1, 3, 5, 7].map(|i| 8 * group + i) {
            builder.blobs[428 + 2 * half..430 + 2 * half].fill(0);
            builder.blobs[444 + half] = 0;
        }
    }
    builder.blobs[428] = 0;
    builder.blobs[560..].fill(0);
    builder.blobs[572..584].copy_from_slice(&[0, 0, 0, 0x40].repeat(3));
    builder.blobs[588..598].copy_from_slice(&[2, 0, 0, 0, 0, 0, 0, 0, 0x80, 5]);
    builder.blobs[598..616].fill(0x5a);
    builder.blobs[628..640].copy_from_slice(&[0, 0, 0, 0x40].repeat(3));
    builder.blobs[640..643].copy_from_slice(&[0xfa, 0xff, 0xf0]);
    builder.blobs[644..650].copy_from_slice(&[2, 0, 0, 0, 1, 0]);
    // Weights and steps of all forms: no step is more than one.
    builder.blobs[652..676].fill(1);
    // Biases and scales of a recurrent layer of four rows, then two matrices of 2, 0, 1 and 2 entries; what their sums begin with
    // is left out where the zero point is 0.
    for (form, starts) in [(Form::Bytes, [16, 16]), (Form::Nibbles, [0, 16]), (Form::Blocks, [16, 16])] {
        let mut own = vec![0; 48];
        for starts in starts {
            own.extend(vec![3; starts]);
            own.extend([2, 0, 0, 0, 1, 0, 2, 0]);
            own.extend(vec![5; if form == Form::Blocks { 20 } else { 5 }]);
            let steps: &[u8] = match form {
                Form::Bytes => &[0, 3, 2, 1, 2],
                Form::Nibbles => &[0x30, 2, 0x21],
                Form::Blocks => &[0, 0, 0, 0, 0],
            };
            own.extend(steps);
            own.resize(own.len().next_multiple_of(4), 0);
        }
        own.resize(160, 0);
        builder.blobs.extend(own);
    }
    builder.blobs.resize(1536, 0);
    // A block of single-multiply weights, narrow or wide: the inputs that pad a kernel row are zero in both.
    builder.blobs.extend((0..160).map(|i| if PADS.contains(&(i / 2)) { 0 } else { 0x5a }));
    builder.blobs[960..970].copy_from_slice(&[9, 0, 0, 8, 0].repeat(2));
    assert_eq!(builder.blobs.len(), BANDS as usize);
    builder.blobs.extend([0.5f32, -0.5].map(f32::to_le_bytes).concat());
    builder.blobs.extend([1u16, 2, 3, 0].map(u16::to_le_bytes).concat());
    builder.blobs.extend([2.0f32, 3.0].map(f32::to_le_bytes).concat());
    assert_eq!(builder.blobs.len(), MICRO as usize);
    let micro = |at: usize| ((at * 37 % 251) as u8).wrapping_sub(125);
    builder.blobs.extend((0..60 + 64 + 32).map(micro));
    // Padding of the window lies in it; bins of the channels, with a padding.
    builder.blobs.extend([0u16, 1, 0, 0].map(u16::to_le_bytes).concat());
    builder.blobs.extend((0..4 + 252 + 260).map(micro));
    builder.blobs.resize(BLOBS, 0);
    builder
}
