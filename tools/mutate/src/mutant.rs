//! File number `n` of a seed: one of the given files with one to three changes.

use crate::container::Container;
use crate::dice::Dice;
use crate::graph::Graph;
use offshoot::format::codec;
use offshoot::format::record::{DType, IoRepr, Record, Tag};
use offshoot::operators;

/// A file to begin with.
#[derive(Clone, Debug)]
pub struct Seed {
    /// For messages.
    pub name: String,
    /// A valid file.
    pub file: Vec<u8>,
}

/// Bytes that tell: ends of ranges, and what varints continue with.
const BYTES: [u8; 12] = [0, 1, 2, 3, 4, 0x7f, 0x80, 0x81, 0xfe, 0xff, 0x10, 0x40];

/// Words that tell, as int32 or as float32.
const WORDS: [u32; 20] = [
    0,
    1,
    0xffff_ffff,
    0x7fff_ffff,
    0x8000_0000, // -0.0, or the least int32
    0x7fc0_0000, // NaN
    0xffc0_0000, // NaN with a sign
    0x7f80_0001, // signalling NaN
    0x7fff_ffff, // NaN of all bits
    0x7f80_0000, // infinity
    0xff80_0000, // minus infinity
    0x0000_0001, // least subnormal
    0x807f_ffff, // largest negative subnormal
    0x0080_0000, // least normal
    0x7f7f_ffff, // largest finite
    0xff7f_ffff, // least finite
    0x3f80_0000, // 1.0
    0xbf80_0000, // -1.0
    0x4000_0000, // 2^30, or 2.0
    0x4f00_0000, // 2^31 as a float
];

/// For each operator of a file's first network, a file with this operator alone, whose output is the operator's.
pub fn single_operators(seed: &Seed) -> Vec<Seed> {
    let Some((container, graph)) = parts(&seed.file) else { return Vec::new() };
    let alone = |(i, op): (usize, &Vec<u8>)| {
        let (tag, _, body) = codec::decode_op_header(op)?;
        let record = Record::decode(Tag::from_u8(tag)?, body)?.0;
        let output = output_of(&record)?;
        let own = Graph {
            inputs: graph.inputs.clone(),
            outputs: vec![output],
            ops: vec![op.clone()],
            rest: Vec::new(),
        };
        let mut file = Container { graph: own.into_bytes(), ..container.clone() };
        // Without further networks and learning records.
        file.header[6..8].copy_from_slice(&[1, 0]);
        Some(Seed { name: format!("{}#{i}:{}", seed.name, record.tag().name()), file: file.into_file() })
    };
    graph.ops.iter().enumerate().filter_map(alone).collect()
}

/// The output of an operator as a graph output.
fn output_of(record: &Record) -> Option<Vec<u8>> {
    let span = operators::output(record).ok()?;
    let dtype = operators::output_dtype(record);
    // A copy's range may begin and end anywhere.
    let dtype = if span.start.is_multiple_of(dtype.size()) { dtype } else { DType::I8 };
    let mut shape = [1; 6];
    shape[0] = u16::try_from(span.len / dtype.size()).ok()?;
    let scale = if matches!(dtype, DType::I8 | DType::I16) { 1.0 } else { 0.0 };
    let offset = u32::try_from(span.start).ok()?;
    let io = IoRepr { offset, dtype, scale, zero_point: 0, rank: 1, shape, outside: 0 };
    let mut buffer = [0; 64];
    let n = codec::encode(&io, &mut buffer)?;
    Some(buffer[..n].to_vec())
}

fn parts(file: &[u8]) -> Option<(Container, Graph)> {
    let container = Container::of(file)?;
    let graph = Graph::of(&container.graph)?;
    Some((container, graph))
}

/// One of the files, changed, and its number among `seeds`. Most of the results are no valid files.
pub fn mutant(seeds: &[Seed], dice: &mut Dice) -> (usize, Vec<u8>) {
    let chosen = dice.below(seeds.len());
    let Some((mut container, mut graph)) = parts(&seeds[chosen].file) else {
        return (chosen, seeds[chosen].file.clone());
    };
    for _ in 0..=dice.below(3) {
        match dice.below(20) {
            0..7 => change_record(&mut graph, dice),
            7 => change_io(&mut graph, dice),
            8..10 => change_list(&mut graph, seeds, dice),
            10..12 => change_rest(&mut graph, dice),
            12 => {
                // More arena, so that what moved still fits.
                let arena = &mut container.header[16..20];
                let more = u32::from_le_bytes([arena[0], arena[1], arena[2], arena[3]]).wrapping_mul(2);
                arena.copy_from_slice(&more.to_le_bytes());
            }
            _ => change_blobs(&mut container.blobs, dice),
        }
    }
    container.graph = graph.into_bytes();
    if dice.below(16) == 0 {
        change_bytes(&mut container.graph, dice);
    }
    (chosen, container.into_file())
}

fn change_record(graph: &mut Graph, dice: &mut Dice) {
    let chosen = dice.below(graph.ops.len());
    if let Some(op) = graph.ops.get_mut(chosen) {
        if let Some(other) = moved(op, dice).filter(|_| dice.below(3) == 0) {
            *op = other;
        } else {
            change_bytes(op, dice);
        }
    }
}

/// The record with a field that is a varint of two or more bytes changed by a little: mostly an address.
fn moved(op: &[u8], dice: &mut Dice) -> Option<Vec<u8>> {
    let varints: Vec<usize> = (1..op.len() - 1).filter(|&i| op[i] & 0x80 != 0).collect();
    let at = *varints.get(dice.below(varints.len()))?;
    let mut op = op.to_vec();
    let by = dice.one_of(&[1, 2, 4, 8, 16, 32, 64, 0x7c, 0x70]);
    op[at] = 0x80 | (op[at].wrapping_add(by) & 0x7f);
    Some(op)
}

fn change_io(graph: &mut Graph, dice: &mut Dice) {
    let count = graph.inputs.len() + graph.outputs.len();
    let chosen = dice.below(count);
    if let Some(io) = graph.inputs.iter_mut().chain(&mut graph.outputs).nth(chosen) {
        change_bytes(io, dice);
    }
}

/// Leaves out, doubles, swaps operators, or takes one from another file.
fn change_list(graph: &mut Graph, seeds: &[Seed], dice: &mut Dice) {
    let count = graph.ops.len();
    let (a, b) = (dice.below(count), dice.below(count + 1));
    match dice.below(4) {
        _ if count == 0 => {}
        0 => drop(graph.ops.remove(a)),
        1 => graph.ops.insert(b, graph.ops[a].clone()),
        2 => graph.ops.swap(a, b.min(count - 1)),
        _ => {
            let other = &seeds[dice.below(seeds.len())];
            let Some((_, other)) = parts(&other.file) else { return };
            if let Some(op) = other.ops.get(dice.below(other.ops.len())) {
                graph.ops.insert(b, op.clone());
            }
        }
    }
}

/// Changes learning records and further networks.
fn change_rest(graph: &mut Graph, dice: &mut Dice) {
    if graph.rest.is_empty() {
        change_record(graph, dice);
    } else {
        change_bytes(&mut graph.rest, dice);
    }
}

/// One change of encoded bytes.
fn change_bytes(bytes: &mut Vec<u8>, dice: &mut Dice) {
    if bytes.is_empty() {
        return;
    }
    let at = dice.below(bytes.len());
    match dice.below(10) {
        0..3 => bytes[at] ^= 1 << dice.below(8),
        3..5 => bytes[at] = dice.one_of(&BYTES),
        5 => bytes[at] = dice.draw() as u8,
        6..8 => bytes[at] = bytes[at].wrapping_add(dice.one_of(&[1, 2, 4, 0xff, 0xfe, 0xfc])),
        8 => {
            if let Some(four) = bytes.get_mut(at..at + 4) {
                four.copy_from_slice(&dice.one_of(&WORDS).to_le_bytes());
            }
        }
        _ => {
            if dice.below(2) == 0 {
                bytes.insert(at, dice.one_of(&BYTES));
            } else {
                bytes.remove(at);
            }
        }
    }
}

/// One change of weights and tables, in place.
fn change_blobs(blobs: &mut Vec<u8>, dice: &mut Dice) {
    if blobs.len() < 4 {
        return;
    }
    let zeros: Vec<usize> = (0..blobs.len()).filter(|&i| blobs[i] == 0).collect();
    let anywhere = dice.below(blobs.len());
    // Padding is zero, and there is little of it.
    let at = match zeros.get(dice.below(zeros.len())) {
        Some(&zero) if dice.below(2) == 0 => zero,
        _ => anywhere,
    };
    match dice.below(8) {
        0 => blobs[at] ^= 1 << dice.below(8),
        1 => blobs[at] = dice.one_of(&BYTES),
        2 => blobs[at] = dice.draw() as u8,
        3..5 => {
            let at = (at & !3).min(blobs.len() - 4);
            blobs[at..at + 4].copy_from_slice(&dice.one_of(&WORDS).to_le_bytes());
        }
        5 => {
            let end = (at + 1 + dice.below(16)).min(blobs.len());
            blobs[at..end].iter_mut().for_each(|byte| *byte = dice.draw() as u8);
        }
        6 => {
            let (byte, end) = (dice.one_of(&BYTES), (at + 1 + dice.below(64)).min(blobs.len()));
            blobs[at..end].fill(byte);
        }
        _ => {
            if dice.below(4) == 0 {
                blobs.truncate(at);
            } else {
                blobs[at] = blobs[at].wrapping_neg();
            }
        }
    }
}

/// Bytes for an input: of its kind, and what is special about that.
pub fn input(io: &IoRepr, dice: &mut Dice) -> Vec<u8> {
    let elements = io.shape.iter().map(|&d| usize::from(d)).product::<usize>();
    let style = dice.below(4);
    let word = |dice: &mut Dice| match (style, io.dtype) {
        (0, _) => dice.draw() as u32,
        (1, _) => dice.one_of(&WORDS),
        (2, DType::F32) if dice.below(16) == 0 => dice.one_of(&WORDS),
        (_, DType::F32) => ((dice.below(1 << 16) as f32 - 32768.0) / 8192.0).to_bits(),
        _ => dice.draw() as u32 >> dice.below(32),
    };
    if io.dtype == DType::I8 {
        let byte = |dice: &mut Dice| if style == 1 { dice.one_of(&BYTES) } else { dice.draw() as u8 };
        return (0..elements).map(|_| byte(dice)).collect();
    }
    let size = io.dtype.size();
    (0..elements).flat_map(|_| word(dice).to_le_bytes().into_iter().take(size)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot::Error;

    /// Bytes at a multiple of 16.
    fn open(bytes: &[u8]) -> Result<(), Error> {
        let mut lines = vec![0u128; bytes.len().div_ceil(16)];
        // Every `u128` is 16 bytes, little endian.
        for (line, chunk) in lines.iter_mut().zip(bytes.chunks(16)) {
            let mut whole = [0; 16];
            whole[..chunk.len()].copy_from_slice(chunk);
            *line = u128::from_ne_bytes(whole);
        }
        let all: Vec<u8> = lines.iter().flat_map(|line| line.to_ne_bytes()).collect();
        // A vector of bytes lies at a multiple of 16 in every allocator that tests run on, or the test says so.
        let aligned = all.as_ptr().addr().is_multiple_of(16);
        if !aligned {
            return Err(Error::Alignment);
        }
        offshoot::Model::open(&all[..bytes.len()]).map(|_| ())
    }

    #[test]
    fn mutants_are_sealed_and_the_same_for_the_same_number() {
        let file = include_bytes!("../../../tests/fixtures/format/v2/every_record.off");
        let seed = Seed { name: "every record".into(), file: file.to_vec() };
        let mut seeds = single_operators(&seed);
        assert!(seeds.len() > 100 && seeds.iter().all(|s| open(&s.file).is_ok()));
        seeds.push(seed);
        let mut opened = 0;
        for n in 0..500 {
            let [a, b] = [(); 2].map(|()| mutant(&seeds, &mut Dice::new(1, n)));
            assert_eq!(a, b);
            match open(&a.1) {
                Ok(()) => opened += 1,
                Err(error) => assert_ne!(error, Error::Checksum),
            }
        }
        assert!(opened > 100, "{opened}");
    }
}
