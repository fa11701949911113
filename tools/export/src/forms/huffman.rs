//! int8 fully connected layers of one row with Huffman-coded weights ([`record::FullyConnectedHuffman`]), which save
//! flash (Huffman 1952; Han et al. 2016, arXiv:1510.00149).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use offshoot::format::codec::Record;
use offshoot::format::huffman::{ESCAPE, LONGEST};
use offshoot::format::record;

use super::parameters::{Lowering, requant_blob, to_u16, to_u32};
use super::{Build, ConvForm, Offer, Shared, Workspace, scratch_of};
use crate::cores::Core;
use crate::lowered::Tensor;

/// A layer of one row with Huffman-coded weights.
pub(crate) struct Huffman {
    layer: Shared,
    /// Counts of words by length, symbols, stream.
    coded: Vec<u8>,
    /// The record, with 0 as its blob.
    record: record::FullyConnectedHuffman,
}

impl Huffman {
    /// `None` if the layer has several rows, or too few distinct weights for a code.
    pub(crate) fn new(layer: &Shared) -> Lowering<Option<Self>> {
        if !layer.one_row() {
            return Ok(None);
        }
        let Some(code) = Code::of(&layer.q.weights) else { return Ok(None) };
        let stream = code.encode(&layer.q.weights);
        let mut coded: Vec<u8> = code.counts().to_vec();
        coded.extend(code.words.iter().map(|w| w.symbol as u8));
        coded.resize(coded.len().next_multiple_of(2), 0);
        coded.extend(stream.iter().flat_map(|h| h.to_le_bytes()));
        let record = record::FullyConnectedHuffman {
            src: 0,
            dst: 0,
            scratch: 0,
            in_c: to_u32(layer.x.len(), "the input width")?,
            out_c: to_u32(layer.y.len(), "the output width")?,
            in_zp: layer.x.zp,
            out_zp: layer.y.zp,
            per_channel: layer.q.fixed.len() > 1,
            clamp: layer.clamp(),
            symbols: to_u16(code.words.len(), "the code words")?,
            stream: to_u32(stream.len(), "the coded weights")?,
            blob: 0,
        };
        Ok(Some(Self { layer: Shared::clone(layer), coded, record }))
    }
}

impl ConvForm for Huffman {
    fn offer(&self, core: Core, _: &Workspace) -> Lowering<Offer> {
        Ok(Offer {
            bytes: self.coded.len() as u64,
            instructions: core.huffman(&self.layer),
            saved_by_strips: 0,
            scratch: scratch_of(&Record::FullyConnectedHuffman(self.record))?.into(),
            in_place: false,
        })
    }

    fn emit(&self, _: &Workspace, out: &mut Build<'_>, x: &Tensor, y: &Tensor) -> Lowering {
        let (layer, mut r) = (&self.layer, self.record);
        let blob = || [requant_blob(&layer.q.bias, &layer.q.fixed), self.coded.clone()].concat();
        r.blob = out.blob(blob, [self.coded.len(), 4 * layer.channels()]);
        let count = layer.q.weights.len() as u64;
        out.layer(layer, Record::FullyConnectedHuffman(r), [x, y], count, count)
    }
}

/// A code word: its symbol, length in bits, and bits, the first one lowest.
#[derive(Clone, Copy, Debug)]
struct Word {
    symbol: i8,
    length: usize,
    bits: u32,
}

/// A complete canonical Huffman code with words of up to [`LONGEST`] bits. Weights that are too rare for a word of
/// their own are stored as a byte after [`ESCAPE`].
#[derive(Debug)]
struct Code {
    words: Vec<Word>,
}

impl Code {
    /// The code under which these weights take the fewest bits; `None` if there are too few distinct ones.
    fn of(weights: &[i8]) -> Option<Self> {
        let mut count = [0u64; 256];
        weights.iter().for_each(|&w| count[usize::from(w as u8)] += 1);
        let mut symbols: Vec<u8> =
            (0..=255).filter(|&s| count[usize::from(s)] > 0 && s as i8 != ESCAPE).collect();
        symbols.sort_by_key(|&s| (Reverse(count[usize::from(s)]), s));
        // Near the optimum, the size hardly depends on how many symbols have words, so not all counts are tried.
        let step = symbols.len() / 32 + 1;
        let codes = (1..=symbols.len()).rev().step_by(step).filter_map(|kept| {
            let (kept, rare) = symbols.split_at(kept);
            let rare =
                rare.iter().map(|&s| count[usize::from(s)]).sum::<u64>() + count[usize::from(ESCAPE as u8)];
            let mut weighted: Vec<(u64, i8)> =
                kept.iter().map(|&s| (count[usize::from(s)], s as i8)).collect();
            if rare > 0 || weighted.len() == 1 {
                weighted.push((rare, ESCAPE));
            }
            let lengths = lengths(&weighted.iter().map(|w| w.0).collect::<Vec<_>>())?;
            let stream = weighted.iter().zip(&lengths).map(|(w, &l)| w.0 * l as u64).sum::<u64>() + 8 * rare;
            let table = 8 * weighted.len() as u64;
            Some((stream + table, weighted, lengths))
        });
        let (_, weighted, lengths) = codes.min_by_key(|c| c.0)?;
        let mut words: Vec<Word> =
            weighted.iter().zip(lengths).map(|(w, length)| Word { symbol: w.1, length, bits: 0 }).collect();
        words.sort_by_key(|w| (w.length, w.symbol));
        let mut next = 0u32;
        for w in &mut words {
            w.bits = next.reverse_bits();
            next = next.wrapping_add(1 << (32 - w.length));
        }
        Some(Self { words })
    }

    /// Number of words of each length.
    fn counts(&self) -> [u8; LONGEST] {
        std::array::from_fn(|i| self.words.iter().filter(|w| w.length == i + 1).count() as u8)
    }

    fn encode(&self, weights: &[i8]) -> Vec<u16> {
        let find = |symbol: i8| self.words.iter().find(|w| w.symbol == symbol);
        let words: Vec<Option<(u32, usize)>> = (0..=255u8)
            .map(|s| {
                let own = find(s as i8).filter(|w| w.symbol != ESCAPE).map(|w| (w.bits, w.length));
                own.or_else(|| find(ESCAPE).map(|w| (w.bits | u32::from(s) << w.length, w.length + 8)))
            })
            .collect();
        let (mut halves, mut bits, mut held) = (Vec::new(), 0u32, 0);
        for (word, length) in weights.iter().filter_map(|&w| words[usize::from(w as u8)]) {
            bits |= word << held;
            held += length;
            if held >= 16 {
                halves.push(bits as u16);
                bits >>= 16;
                held -= 16;
            }
        }
        if held > 0 {
            halves.push(bits as u16);
        }
        halves
    }
}

/// Lengths of an optimal prefix code with words of at most [`LONGEST`] bits, by package-merge (Larmore and Hirschberg
/// 1990); `None` if there are fewer than two symbols, or too many for that length.
fn lengths(frequencies: &[u64]) -> Option<Vec<usize>> {
    if frequencies.len() < 2 || frequencies.len() > 1 << LONGEST {
        return None;
    }
    /// A package: its frequency and its symbols, each as often as it occurs.
    type Package = (u64, Vec<u16>);
    let single: Vec<Package> = (0..frequencies.len()).map(|i| (frequencies[i], vec![i as u16])).collect();
    let mut level: Vec<Package> = Vec::new();
    for _ in 0..LONGEST {
        let mut heap: BinaryHeap<Reverse<Package>> = single.iter().cloned().map(Reverse).collect();
        for pair in level.chunks_exact(2) {
            heap.push(Reverse((pair[0].0 + pair[1].0, [&pair[0].1[..], &pair[1].1[..]].concat())));
        }
        level = std::iter::from_fn(|| heap.pop().map(|r| r.0)).collect();
    }
    let mut lengths = vec![0; frequencies.len()];
    for (_, symbols) in level.iter().take(2 * frequencies.len() - 2) {
        symbols.iter().for_each(|&s| lengths[usize::from(s)] += 1);
    }
    Some(lengths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot::kernels::Requant;
    use offshoot::kernels::portable::{fill_table, fully_connected_huffman, is_complete};
    use proptest::prelude::*;

    /// The weights as the device decodes them, read out with one unit input at a time.
    fn decoded(code: &Code, stream: &[u16], out_c: usize, in_c: usize) -> Vec<i8> {
        let symbols: Vec<i8> = code.words.iter().map(|w| w.symbol).collect();
        assert!(is_complete(&code.counts(), &symbols));
        let mut table = [0; 256];
        fill_table(&code.counts(), &symbols, &mut table);
        let mut weights = vec![0; out_c * in_c];
        // A multiplier of one half and a shift of one leave the sum unchanged.
        let (bias, multiplier, shift) = (vec![0; out_c], [1 << 30], [1]);
        let (in_zp, out_zp, min, max) = (0, 0, -128, 127);
        let q = Requant { bias: &bias, multiplier: &multiplier, shift: &shift, in_zp, out_zp, min, max };
        for i in 0..in_c {
            let mut x = vec![0; in_c];
            x[i] = 1;
            let mut out = vec![0; out_c];
            fully_connected_huffman(&q, &table, stream, &x, &mut out);
            (0..out_c).for_each(|o| weights[o * in_c + i] = out[o]);
        }
        weights
    }

    proptest! {
        #[test]
        fn weights_survive_coding(
            out_c in 1usize..6,
            in_c in 1usize..40,
            spread in 1i32..256,
            seed in prop::collection::vec(any::<i8>(), 240),
        ) {
            let weights: Vec<i8> = seed[..out_c * in_c].iter().map(|&w| (i32::from(w) % spread) as i8).collect();
            let code = Code::of(&weights).unwrap();
            prop_assert_eq!(decoded(&code, &code.encode(&weights), out_c, in_c), weights);
        }
    }

    #[test]
    fn a_normal_distribution_comes_near_its_entropy() {
        // Triangular over -31..=31: the sum of two dice.
        let weights: Vec<i8> =
            (0..32i8).flat_map(|a| (0..32i8).map(move |b| a - b)).collect::<Vec<_>>().repeat(8);
        let mut count = [0f64; 256];
        weights.iter().for_each(|&w| count[usize::from(w as u8)] += 1.0 / weights.len() as f64);
        let entropy: f64 = -count.iter().filter(|&&p| p > 0.0).map(|p| p * p.log2()).sum::<f64>();
        let code = Code::of(&weights).unwrap();
        let bits = 16.0 * code.encode(&weights).len() as f64 / weights.len() as f64;
        assert!(bits < entropy * 1.02, "{bits} bits for an entropy of {entropy}");
    }

    #[test]
    fn no_word_is_longer_than_the_table_decodes() {
        let fibonacci: Vec<u64> = (0..20)
            .scan((1, 1), |s, _| {
                *s = (s.1, s.0 + s.1);
                Some(s.0)
            })
            .collect();
        let found = lengths(&fibonacci).unwrap();
        assert_eq!(found.iter().max(), Some(&LONGEST));
        assert_eq!(found.iter().map(|l| 1 << (LONGEST - l)).sum::<usize>(), 1 << LONGEST);
        assert!(lengths(&[1]).is_none() && lengths(&[1; 257]).is_none());
    }
}
