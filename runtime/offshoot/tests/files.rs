//! Files made by hand: they run, and no damage to them makes the runtime panic.

mod builder;

use builder::*;
use offshoot::engine::Engine;
use offshoot::format::header::seal;
use offshoot::format::record::*;
use offshoot::format::sparse::SparseRepr;
use offshoot::trace::{Observer, OpInfo};
use offshoot::{Error, Model, Rule};
use proptest::prelude::*;

#[test]
fn every_record_round_trips_and_runs() {
    let mut seen = std::collections::HashSet::new();
    for record in every_record() {
        let mut bytes = [0; 128];
        let len = record.encode(&mut bytes).unwrap();
        let (back, rest) = Record::decode(record.tag(), &bytes[..len]).unwrap();
        assert_eq!((back, rest.len()), (record, 0));
        assert_eq!(record.encode(&mut bytes[..len - 1]), None);
        assert_eq!(Record::decode(record.tag(), &bytes[..len - 1]), None, "{record:?}");
        let file = with_records(vec![record]).build();
        assert_eq!(open_and_run(&file), Ok(()), "{record:?}");
        seen.insert(record.tag());
    }
    assert_eq!(seen.len(), Tag::ALL.len());
}

struct Outputs(Vec<(u16, Vec<u8>)>);

impl Observer for Outputs {
    fn after(&mut self, op: OpInfo, output: &[u8]) {
        self.0.push((op.origin, output.to_vec()));
    }
}

#[test]
fn a_small_network_computes() {
    let mut file = Builder::new(48).input(0, DType::I8, &[4]).output(16, DType::I8, &[4]);
    // dst[i] = table[src[i] + 128], table the negation that stops at 127.
    file.blobs = (-128..=127i32).map(|v| (-v).min(127) as i8 as u8).collect();
    let file = file
        .op(Lut { src: 0, dst: 0, len: 4, blob: 0 })
        .op(Fill { dst: 32, len: 2, size: 4, value: -2 })
        .op(Constant { dst: 16, len: 4, blob: 124 })
        .build();
    let file = Aligned::new(&file);
    let model = Model::open(file.as_ref()).unwrap();
    assert_eq!((model.op_count(), model.source_hash(), model.arena_bytes()), (3, 7, 48));
    assert_eq!(
        model.ops().map(|(info, ..)| info.tag).collect::<Vec<_>>(),
        [Tag::Lut, Tag::Fill, Tag::Constant]
    );
    let mut arena = Aligned::zeroed(64);
    let mut engine = Engine::new(model, arena.as_mut()).unwrap();
    engine.input_mut(0).unwrap().copy_from_slice(&[1, 0x80, 0, 0xff]);
    let mut outputs = Outputs(Vec::new());
    engine.run_with(&mut outputs).unwrap();
    assert_eq!(outputs.0[0], (0, vec![0xff, 127, 0, 1]));
    assert_eq!(outputs.0[1], (1, vec![0xfe, 0xff, 0xff, 0xff, 0xfe, 0xff, 0xff, 0xff]));
    assert_eq!(engine.output(0).unwrap(), [4, 3, 2, 1]);
    assert_eq!(engine.output(1).unwrap_err(), Error::NoSuchTensor);
    assert_eq!(engine.input_mut(1).unwrap_err(), Error::NoSuchTensor);
}

#[test]
fn broken_rules_are_named() {
    let rule = |record: Record| match open_and_run(&with_records(vec![record]).build()) {
        Err(Error::Invalid { op: 0, rule }) => Some(rule),
        other => panic!("{other:?}"),
    };
    let lut = Lut { src: 0, dst: 8, len: 8, blob: 0 };
    assert_eq!(rule(Lut { dst: 4090, ..lut }.into()), Some(Rule::ArenaBounds));
    assert_eq!(rule(Lut { dst: 4, ..lut }.into()), Some(Rule::Overlap));
    assert_eq!(rule(Lut { len: 0, ..lut }.into()), Some(Rule::Shape));
    assert_eq!(rule(Lut { blob: BLOBS as u32 - 252, ..lut }.into()), Some(Rule::BlobBounds));
    assert_eq!(rule(Lut { blob: 2, ..lut }.into()), Some(Rule::Alignment));
    // The blob section begins with numbers, as multipliers too large for 15 bits.
    let window = Window { kernel: [1; 2], stride: [1; 2], dilation: [1; 2], pad: [0; 4] }.into();
    let (src, dst, wide, clamp, blob) = (0, 2048, true, None, 0);
    let (n, h, w, c, out_c, groups) = (1, 1, 1, 2, 1, 1);
    let conv =
        ConvInt16 { src, dst, n, h, w, c, out_c, groups, window, per_channel: false, wide, clamp, blob };
    assert_eq!(rule(conv.into()), Some(Rule::Quantisation));
    let conv = ConvInt16 { blob: 1696, ..conv };
    assert_eq!(rule(ConvInt16 { groups: 2, ..conv }.into()), Some(Rule::Window));
    assert_eq!(rule(ConvInt16 { dst: 2, ..conv }.into()), Some(Rule::Overlap));
    assert_eq!(rule(ConvInt16 { src: 1, ..conv }.into()), Some(Rule::Alignment));
    assert_eq!(rule(ConvInt16 { clamp: Some((1, 0)), ..conv }.into()), Some(Rule::Quantisation));
    assert_eq!(rule(ConvInt16 { blob: BLOBS as u32 - 16, ..conv }.into()), Some(Rule::BlobBounds));
    let tanh = SigmoidInt16 { src, dst, len: 4, tanh: true, multiplier: 1 << 15, shift: 3, blob };
    assert_eq!(rule(tanh.into()), Some(Rule::Quantisation));
    assert_eq!(rule(QuantizeInt16 { src, dst, len: 4, scale: 0.0 }.into()), Some(Rule::Quantisation));
    let axes = |axis| Axes::A1([axis]);
    let copy = |axis| Record::from(Copy { src: 0, dst: 64, size: 1, axes: axes(axis) });
    // Many writes to one place.
    assert_eq!(rule(copy(Axis { extent: 1 << 31, src_stride: 0, dst_stride: 0 })), Some(Rule::Shape));
    assert_eq!(rule(copy(Axis { extent: 66, src_stride: 1, dst_stride: -1 })), Some(Rule::ArenaBounds));
    assert_eq!(rule(copy(Axis { extent: 65, src_stride: 1, dst_stride: 1 })), Some(Rule::Overlap));
    let extent = u32::MAX;
    assert_eq!(rule(copy(Axis { extent, src_stride: i32::MIN, dst_stride: 1 })), Some(Rule::ArenaBounds));
}

#[test]
fn sparse_recurrent_layers_are_held_to_their_matrices() {
    let all = every_record().into_iter().filter_map(|record| match record {
        Record::RecurrentSparse(r) => Some(r),
        _ => None,
    });
    for r in all {
        let rule = |record: RecurrentSparse| match open_and_run(&with_records(vec![record.into()]).build()) {
            Err(Error::Invalid { op: 0, rule }) => rule,
            other => panic!("{other:?}"),
        };
        let with = |layer: Recurrent| RecurrentSparse { layer, ..r };
        let whole = r.input.unwrap();
        assert_eq!(rule(RecurrentSparse { input: None, state: None, ..r }), Rule::Format);
        assert_eq!(rule(with(Recurrent { arith: RecurrentArith::F32, ..r.layer })), Rule::Format);
        // One entry more or less is none of the rows'.
        for entries in [whole.entries - 1, whole.entries + 1] {
            let input = Some(SparseRepr { entries, ..whole });
            assert_eq!(rule(RecurrentSparse { input, ..r }), Rule::Table);
        }
        let input = Some(SparseRepr { steps: u32::MAX, ..whole });
        assert_eq!(rule(RecurrentSparse { input, ..r }), Rule::BlobBounds);
        assert_eq!(rule(with(Recurrent { inputs: 3, ..r.layer })), Rule::Table, "beyond the last input");
        assert_eq!(rule(with(Recurrent { units: 65_535, ..r.layer })), Rule::ArenaBounds);
        assert_eq!(rule(with(Recurrent { steps: 0, ..r.layer })), Rule::Shape);
        // Any damage to the blob is an error or other numbers.
        let bytes = with_records(vec![r.into()]).build();
        let from = bytes.len() - BLOBS + r.layer.blob as usize;
        for bit in 0..160 * 8 {
            let mut bad = bytes.clone();
            bad[from + bit / 8] ^= 1 << (bit % 8);
            seal(&mut bad).unwrap();
            let _ = open_and_run(&bad);
        }
    }
}

#[test]
fn wrong_memory_is_refused() {
    let bytes = with_records(vec![Fill { dst: 0, len: 4, size: 1, value: 1 }.into()]).build();
    let file = Aligned::new(&bytes);
    let model = Model::open(file.as_ref()).unwrap();
    let mut arena = Aligned::zeroed(4096 + 8);
    let small = Error::ArenaTooSmall { needed: 4096, given: 4095 };
    assert_eq!(Engine::new(model, &mut arena.as_mut()[..4095]).unwrap_err(), small);
    assert_eq!(Engine::new(model, &mut arena.as_mut()[8..]).unwrap_err(), Error::Alignment);
    assert!(Engine::new(model, &mut arena.as_mut()[..4096]).unwrap().run().is_ok());
    let mut shifted = Aligned::zeroed(bytes.len() + 8);
    shifted.as_mut()[8..].copy_from_slice(&bytes);
    assert_eq!(Model::open(&shifted.as_ref()[8..]).unwrap_err(), Error::Alignment);
    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(open_and_run(&damaged), Err(Error::Checksum));
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = with_records(every_record()).build();
    for len in 0..bytes.len() {
        let mut cut = bytes[..len].to_vec();
        assert!(open_and_run(&cut).is_err());
        // As a file that says of itself that it ends here.
        if len >= 32 {
            cut[8..12].copy_from_slice(&(len as u32).to_le_bytes());
            seal(&mut cut).unwrap();
            let _ = open_and_run(&cut);
        }
    }
}

#[test]
fn every_flipped_bit_is_survived() {
    for record in every_record() {
        let bytes = with_records(vec![record]).build();
        let graph_end = bytes.len() - BLOBS;
        for bit in 0..graph_end * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            seal(&mut bad);
            let _ = open_and_run(&bad);
        }
    }
}

proptest! {
    #[test]
    fn mutations_are_survived(
        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let all = every_record();
        let records = picks.iter().map(|i| all[i.index(all.len())]).collect();
        let mut bytes = with_records(records).build();
        for (at, value) in edits {
            // Blobs are edited too, but most edits go to header and graph.
            let at = at.index(bytes.len() + 2000) % bytes.len();
            bytes[at] = value;
        }
        let len = bytes.len() as u32;
        bytes[..6].copy_from_slice(b"OFFS\x01\0");
        bytes[8..12].copy_from_slice(&len.to_le_bytes());
        seal(&mut bytes).unwrap();
        let _ = open_and_run(&bytes);
    }

    #[test]
    fn noise_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(open_and_run(&bytes).is_err());
        for record in Tag::ALL {
            let _ = Record::decode(record, &bytes);
        }
    }
}
