//! Turns an input normaliser and a classifier head into operators of a network that no longer learns.

use offshoot::format::codec::{self, GraphHead, Record};
use offshoot::format::header::{HEADER_LEN, HeaderView};
use offshoot::format::record::{
    Arith, Binary, BinaryArith, BinaryKind, DType, Dequantize, FullyConnected, IoRepr, OpHeader, Operand,
    Quantize, Reduce, ReduceArith, ReduceKind,
};
use offshoot::format::{ALIGNMENT, requires};
use offshoot::graph::learn::Learning;
use offshoot::learn::heads::fold;
use offshoot::{Engine, Model};

use crate::blobs;
use crate::error::{Error, Result};
use crate::write::append;

/// Score of classes that the head has learned nothing about.
const LEAST: f32 = -1e30;

/// Operators, constants, and arena after that of the file.
struct Section {
    ops: Vec<(OpHeader, Record)>,
    blobs: Vec<u8>,
    arena: u32,
}

impl Section {
    fn constant(&mut self, numbers: &[f32]) -> u32 {
        self.blobs.resize(self.blobs.len().next_multiple_of(4), 0);
        let at = self.blobs.len() as u32;
        self.blobs.extend(blobs::floats(numbers));
        at
    }

    fn workspace(&mut self, bytes: usize) -> Result<u32> {
        let at = self.arena.next_multiple_of(4);
        let end = u64::from(at) + bytes as u64;
        self.arena = u32::try_from(end).map_err(|_| Error::Format {
            what: "the arena",
            value: end,
            limit: u32::MAX.into(),
        })?;
        Ok(at)
    }

    /// Adds an operator that completes no IR value.
    fn push(&mut self, record: Record) {
        self.ops.push((OpHeader { origin: u16::MAX, scale: 0.0, zero_point: 0 }, record));
    }

    /// Adds `(x - mean) · gain + host`, in-place, as the engine computes it.
    fn standardise(&mut self, at: u32, mean: &[f32], host: &[f32], gain: f32) -> Result<()> {
        let len = mean.len();
        let too_long =
            |_| Error::Format { what: "an input's extent", value: len as u64, limit: u16::MAX.into() };
        // Extents have 16 bits, so the input is split into rows whose length divides it.
        let inner = (1..=len.min(65_535)).rev().find(|d| len.is_multiple_of(*d)).unwrap_or(1);
        let outer = u16::try_from(len / inner).map_err(too_long)?;
        let dims = [1, 1, outer, inner as u16];
        let steps = [
            (BinaryKind::Sub, mean.to_vec(), 0),
            (BinaryKind::Mul, vec![gain], 15),
            (BinaryKind::Add, host.to_vec(), 0),
        ];
        for (kind, numbers, broadcast) in steps {
            let b = Operand::Blob(self.constant(&numbers));
            let arith = BinaryArith::F32 { clamp: None };
            self.push(Record::Binary(Binary {
                kind,
                swapped: false,
                a: at,
                b,
                dst: at,
                dims,
                broadcast,
                arith,
            }));
        }
        Ok(())
    }
}

/// The file without learning records. New operators normalise the input to the host's statistics, keep the features at
/// the taps, and compute the first output by a linear classifier on them. If that is the only output, operators after
/// the last tap are left out.
pub(super) fn as_operators(
    file: &[u8],
    model: &Model<'_>,
    learning: &Learning<'_>,
    engine: &mut Engine<'_, '_>,
) -> Result<Vec<u8>> {
    let mut header = HeaderView::new_checked(file).and_then(|v| v.parse()).map_err(Error::Refused)?;
    let mut blobs = file[header.blob_start() as usize..].to_vec();
    if let Some(at) = learning.head.begun {
        // What the file had learned comes last, and nothing reads it any more.
        let held: u64 = learning.beside_blobs(model).map(|(_, bytes)| bytes).sum();
        if (at as usize + held as usize).next_multiple_of(ALIGNMENT) >= blobs.len() {
            blobs.truncate(at as usize);
        }
    }
    let mut section = Section { ops: Vec::new(), blobs, arena: header.arena_bytes };
    let mut outputs: Vec<IoRepr> = (0..).map_while(|i| model.output(i)).collect();
    if let (Some(normalizer), Some((mean, energy))) = (learning.normalizer(), engine.statistics()) {
        let input = model.input(0).ok_or(Error::Refused(offshoot::Error::NoSuchTensor))?;
        let gain = if energy > 0.0 { libm::sqrtf(normalizer.energy / energy) } else { 1.0 };
        let host = &model.blobs()[normalizer.blob as usize..][..4 * mean.len()];
        let host: Vec<f32> =
            host.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let len = mean.len() as u32;
        if input.dtype == DType::I8 {
            let real = section.workspace(4 * mean.len())?;
            let (scale, zp) = (input.scale, input.zero_point);
            section.push(Record::Dequantize(Dequantize { src: input.offset, dst: real, len, scale, zp }));
            section.standardise(real, mean, &host, gain)?;
            section.ops.push((
                OpHeader { origin: u16::MAX, scale, zero_point: zp },
                Record::Quantize(Quantize { src: real, dst: input.offset, len, scale, zp }),
            ));
        } else {
            section.standardise(input.offset, mean, &host, gain)?;
        }
    }
    // A head that knows no class yet leaves the decision to the network.
    let classifier = learning.classifier().filter(|(classifier, width)| {
        let mut row = vec![0.0; *width];
        (0..classifier.classes).any(|class| engine.readout(class, &mut row).is_some())
    });
    // The operators see the features as they are before they are folded.
    let width: usize = classifier.map_or(0, |_| learning.taps().map(|tap| tap.width()).sum());
    let features_at = section.workspace(4 * width)?;
    let mut taps = learning.taps().take(if classifier.is_some() { usize::MAX } else { 0 }).peekable();
    let mut seen = 0;
    let ends = classifier.is_some() && outputs.len() == 1;
    for (info, head, record) in model.ops() {
        if let Some(tap) = taps.next_if(|t| t.repr.op == info.index) {
            let dst = features_at + 4 * seen;
            let (channels, g) = (tap.width(), &tap.shape.geometry);
            let pixels = g.input[0] * g.input[1];
            let (src, len) = (tap.source(), (pixels * channels) as u32);
            let real = match tap.shape.arith {
                Arith::F32 { .. } => src,
                Arith::I8 { in_zp, .. } => {
                    let real = if pixels == 1 { dst } else { section.workspace(4 * pixels * channels)? };
                    let scale = tap.repr.scale;
                    section.push(Record::Dequantize(Dequantize { src, dst: real, len, scale, zp: in_zp }));
                    real
                }
            };
            if real != dst {
                section.push(Record::Reduce(Reduce {
                    src: real,
                    dst,
                    outer: 1,
                    extent: pixels as u32,
                    inner: channels as u32,
                    kind: ReduceKind::Mean,
                    arith: ReduceArith::F32,
                }));
            }
            seen += channels as u32;
            if ends && taps.peek().is_none() {
                break;
            }
        }
        section.ops.push((head, record));
    }
    if let Some((classifier, own_width)) = classifier {
        let classes = usize::from(classifier.classes);
        let mut rows = vec![0.0; classes * width];
        let mut all = vec![LEAST; classes];
        let mut own = vec![0.0; own_width];
        for (class, (row, bias)) in rows.chunks_exact_mut(width).zip(&mut all).enumerate() {
            let Some(read) = engine.readout(class as u16, &mut own) else { continue };
            *bias = read;
            for (feature, weight) in row.iter_mut().enumerate() {
                let (place, sign) = match classifier.folded {
                    0 => (feature, 1.0),
                    folded => fold(feature, folded.into()),
                };
                *weight = sign * own[place];
            }
        }
        all.extend(rows);
        let blob = section.constant(&all);
        let dst = section.workspace(4 * classes)?;
        section.push(Record::FullyConnected(FullyConnected {
            src: features_at,
            dst,
            rows: 1,
            in_c: width as u32,
            out_c: classifier.classes.into(),
            arith: Arith::F32 { clamp: None },
            blob,
        }));
        if let Some(first) = outputs.first_mut() {
            let mut shape = [1; 6];
            shape[1] = classifier.classes;
            let rank = 2;
            *first =
                IoRepr { offset: dst, dtype: DType::F32, scale: 0.0, zero_point: 0, rank, shape, ..*first };
        }
    }
    // Without a head and statistics the operators are the file's own.
    if classifier.is_some() || learning.normalizer().is_some() {
        header.requires |= requires::NEEDS_F32;
    }
    write(&mut header, model, &outputs, &section)
}

/// Writes the sections as a file.
fn write(
    header: &mut offshoot::format::header::Header,
    model: &Model<'_>,
    outputs: &[IoRepr],
    section: &Section,
) -> Result<Vec<u8>> {
    let ops = u16::try_from(section.ops.len()).map_err(|_| Error::Format {
        what: "the number of operators",
        value: section.ops.len() as u64,
        limit: u16::MAX.into(),
    })?;
    let inputs: Vec<IoRepr> = (0..).map_while(|i| model.input(i)).collect();
    let head = GraphHead { inputs: inputs.len() as u8, outputs: outputs.len() as u8, ops };
    let mut graph = Vec::new();
    append(&mut graph, |out| codec::encode(&head, out))?;
    for io in inputs.iter().chain(outputs) {
        append(&mut graph, |out| codec::encode(io, out))?;
    }
    for (head, record) in &section.ops {
        append(&mut graph, |out| codec::encode_op(head, record, out))?;
    }
    let start = (HEADER_LEN + graph.len()).next_multiple_of(ALIGNMENT);
    header.requires &= !requires::LEARNS;
    header.arena_bytes = section.arena.next_multiple_of(ALIGNMENT as u32);
    header.graph_len = graph.len() as u32;
    header.file_len = (start + section.blobs.len()) as u32;
    let mut file = header.emit().to_vec();
    file.extend(graph);
    file.resize(start, 0);
    file.extend(&section.blobs);
    Ok(file)
}
