//! Switches: a run goes through the branch that its index chooses, whole or in steps, and no range that does not fit opens.

#[allow(dead_code)]
mod builder;

use builder::*;
use offshoot::engine::Engine;
use offshoot::format::branch::MOST_NESTED;
use offshoot::format::codec;
use offshoot::format::record::*;
use offshoot::trace::{Observer, OpInfo};
use offshoot::{Error, Model, Rule};

/// Input: the index of the outer switch at 0, that of the inner one at 4. Output: four bytes at 16.
fn base() -> Builder {
    Builder::new(64).input(0, DType::I32, &[2]).output(16, DType::I8, &[4])
}

fn fill(value: i32) -> Record {
    Fill { dst: 16, len: 4, size: 1, value }.into()
}

/// Bytes of these operators in a file.
fn bytes(records: &[Record]) -> u32 {
    let header = OpHeader { origin: 0, scale: 0.5, zero_point: 0 };
    let one = |record: &Record| codec::encode_op(&header, record, &mut [0; 128]).unwrap() as u32;
    records.iter().map(one).sum()
}

/// A branch and its operators.
fn branch(src: u32, [number, count]: [u16; 2], inside: &[Record]) -> Vec<Record> {
    let own = Branch { src, number, count, ops: inside.len() as u16, bytes: bytes(inside) };
    [&[own.into()], inside].concat()
}

/// Two branches, of which the second holds a switch of three; then one more operator for all.
fn network() -> Builder {
    let inner: Vec<Record> = (0..3).flat_map(|i| branch(4, [i, 3], &[fill(20 + i32::from(i))])).collect();
    let second = [vec![fill(1)], inner].concat();
    let last = Fill { dst: 20, len: 4, size: 1, value: 7 }.into();
    let mut file = base();
    file.records =
        [branch(0, [0, 2], &[fill(10), fill(11)]), branch(0, [1, 2], &second), vec![last]].concat();
    file
}

#[derive(Default)]
struct Ran(Vec<u16>);

impl Observer for Ran {
    fn after(&mut self, op: OpInfo, output: &[u8]) {
        assert!(op.tag != Tag::Branch || output.len() == 4);
        self.0.push(op.index);
    }
}

#[test]
fn a_run_goes_through_the_chosen_branch() {
    let file = Aligned::new(&network().build());
    let model = Model::open(file.as_ref()).unwrap();
    assert_eq!(model.op_count(), 12);
    let mut arena = Aligned::zeroed(64);
    let mut engine = Engine::new(model, arena.as_mut()).unwrap();
    let always = |inside: &[u16]| -> Vec<u16> { inside.to_vec() };
    for (index, inner, value, ran) in [
        (0, 0, 11, always(&[0, 1, 2, 3, 11])),
        (1, 0, 20, always(&[0, 3, 4, 5, 6, 7, 9, 11])),
        (1, 1, 21, always(&[0, 3, 4, 5, 7, 8, 9, 11])),
        (i32::MAX, 9, 22, always(&[0, 3, 4, 5, 7, 9, 10, 11])),
        (-1, -3, 20, always(&[0, 3, 4, 5, 6, 7, 9, 11])),
        (-2, 0, 11, always(&[0, 1, 2, 3, 11])),
        (i32::MIN, 0, 11, always(&[0, 1, 2, 3, 11])),
    ] {
        let write = |engine: &mut Engine<'_, '_>| {
            let input = engine.input_mut(0).unwrap();
            input[..4].copy_from_slice(&index.to_le_bytes());
            input[4..].copy_from_slice(&i32::to_le_bytes(inner));
        };
        write(&mut engine);
        let mut seen = Ran::default();
        engine.run_with(&mut seen).unwrap();
        assert_eq!((engine.output(0).unwrap(), &seen.0), (&[value; 4][..], &ran), "{index} {inner}");
        // In steps: one for each operator that runs.
        engine.input_mut(0).unwrap().fill(0x55);
        write(&mut engine);
        let mut steps = engine.steps(1).unwrap();
        let mut count = 0;
        while steps.step().unwrap() {
            count += 1;
        }
        assert_eq!(count, ran.len());
        assert_eq!(engine.output(0).unwrap(), [value; 4]);
    }
}

#[test]
fn ranges_that_do_not_fit_are_refused() {
    let opened = |records: Vec<Record>| {
        let mut file = base();
        file.records = records;
        open_and_run(&file.build())
    };
    let refused = |records, op| {
        assert_eq!(opened(records), Err(Error::Invalid { op, rule: Rule::Table }), "{op}");
    };
    let one = [fill(1)];
    let (own, two) = (bytes(&one), [fill(1), fill(2)]);
    let of = |ops: u16, bytes: u32| Record::from(Branch { src: 0, number: 0, count: 2, ops, bytes });
    assert_eq!(opened(vec![of(1, own), fill(1)]), Ok(()));
    assert_eq!(opened(vec![of(0, 0)]), Ok(()));
    // Beyond the last operator, within a record, beyond the section.
    refused(vec![of(2, 2 * own), fill(1)], 0);
    refused(vec![of(1, own - 1), fill(1)], 1);
    refused(vec![of(1, own + 1), fill(1), fill(2)], 1);
    refused(vec![of(0, own), fill(1)], 0);
    refused(vec![of(1, u32::MAX), fill(1)], 0);
    refused(vec![of(u16::MAX, own), fill(1)], 0);
    // Across the end of the branch around it.
    let inner = of(2, bytes(&two));
    refused(vec![of(2, bytes(&[inner, fill(1)])), inner, fill(1), fill(2)], 1);
    // The rules of the record itself.
    let rule = |record: Branch| match opened(vec![record.into()]) {
        Err(Error::Invalid { op: 0, rule }) => rule,
        other => panic!("{other:?}"),
    };
    let empty = Branch { src: 0, number: 0, count: 2, ops: 0, bytes: 0 };
    assert_eq!(rule(Branch { number: 2, ..empty }), Rule::Shape);
    assert_eq!(rule(Branch { count: 0, ..empty }), Rule::Shape);
    assert_eq!(rule(Branch { src: 2, ..empty }), Rule::Alignment);
    assert_eq!(rule(Branch { src: 64, ..empty }), Rule::ArenaBounds);
    // Too many within each other.
    let nested = |depth: usize| (0..depth).fold(vec![fill(1)], |inside, _| branch(0, [0, 1], &inside));
    assert_eq!(opened(nested(MOST_NESTED)), Ok(()));
    refused(nested(MOST_NESTED + 1), MOST_NESTED as u16);
}

#[test]
fn damage_never_panics() {
    let bytes = network().build();
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        offshoot::format::header::seal(&mut bad);
        let _ = open_and_run(&bad);
    }
}
