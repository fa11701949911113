//! One test for each cause of bits that once differed between targets, on the kernels of this machine; and mutants.

use offshoot::format::learn::PROGRESS_BYTES;
use offshoot::format::record::DType;
use offshoot::{AlignedBytes, Engine, Error, Model, Rule};
use offshoot_kernels::testing::{on_each_instruction_set, portably};
use offshoot_mutate::compare::{self, Plan};
use offshoot_mutate::container::Container;
use offshoot_mutate::mutant::{Seed, single_operators};
use offshoot_target::{Device, HostDevice};

/// Operators of every kind, each in a file of its own, and the files of the examples.
fn seeds() -> Vec<Seed> {
    let every = include_bytes!("../../../tests/fixtures/format/v2/every_record.off");
    let tones = include_bytes!("../../../runtime/offshoot/examples/data/tones.off");
    let learns = include_bytes!("../../../runtime/offshoot/examples/data/vibration_learns.off");
    let seed = |name: &str, file: &[u8]| Seed { name: name.into(), file: file.to_vec() };
    let mut all = single_operators(&seed("every record", every));
    assert!(all.len() > 120);
    all.extend(single_operators(&seed("tones", tones)));
    all.extend([seed("every record", every), seed("tones", tones), seed("learns", learns)]);
    all
}

/// NaN of all kinds, infinities, zeros, subnormals; as bytes, everything.
const SPECIAL: [u32; 12] = [
    0x7fc0_0000,
    0xffc0_0001,
    0x7f80_0001,
    0xff80_0000,
    0x8000_0000,
    0x0000_0001,
    0x3f80_0000,
    0x7f80_0000,
    0xc000_0000,
    0x0000_0000,
    0x807f_ffff,
    0x4049_0fdb,
];

/// The whole arena after two runs whose inputs are `words` from some of them on.
fn arena(file: &[u8], from: usize) -> Vec<u8> {
    let file = AlignedBytes::copy_of(file);
    let model = Model::open(file.bytes()).unwrap();
    let mut arena = vec![0u8; model.arena_bytes() as usize + 16];
    let start = arena.as_ptr().align_offset(16);
    let mut engine = Engine::new(model, &mut arena[start..]).unwrap();
    for run in 0..2 {
        for i in 0..model.input_count() {
            let words = SPECIAL.iter().cycle().skip(from + run).flat_map(|w| w.to_le_bytes());
            engine.input_mut(i).unwrap().iter_mut().zip(words).for_each(|(to, byte)| *to = byte);
        }
        engine.run().unwrap();
    }
    arena[start..][..model.arena_bytes() as usize].to_vec()
}

/// Scratch included: what kernels leave there is cleared.
#[test]
fn every_kernel_leaves_the_same_arena() {
    for seed in seeds() {
        for from in 0..SPECIAL.len() {
            let right = portably(|| arena(&seed.file, from));
            let check = || match arena(&seed.file, from) == right {
                true => Ok(()),
                false => Err(String::new()),
            };
            let result = on_each_instruction_set(check, |_, name| name);
            assert_eq!(result, Ok(()), "{}", seed.name);
        }
    }
}

/// The processor chooses sign and payload of a NaN; what is written has one form.
#[test]
fn computed_nans_have_one_form() {
    let (mut nans, mut files) = (0, 0);
    for seed in seeds() {
        let file = AlignedBytes::copy_of(&seed.file);
        let model = Model::open(file.bytes()).unwrap();
        let Some((_, _, record)) = model.ops().next().filter(|_| model.op_count() == 1) else { continue };
        let moves = ["copy", "pad", "constant", "fill", "resize", "history"].contains(&record.tag().name());
        let Some(output) = model.output(0).filter(|o| o.dtype == DType::F32 && !moves) else { continue };
        let elements: usize = output.shape.iter().map(|&d| usize::from(d)).product();
        files += 1;
        for from in 0..SPECIAL.len() {
            let arena = arena(&seed.file, from);
            for word in arena[output.offset as usize..][..4 * elements].chunks_exact(4) {
                let bits = u32::from_le_bytes(word.try_into().unwrap());
                if f32::from_bits(bits).is_nan() {
                    nans += 1;
                    assert_eq!(bits, 0x7fc0_0000, "{}", seed.name);
                }
            }
        }
    }
    assert!(files > 30 && nans > 100, "{nans} of {files}");
}

/// Kernels multiply the weights that pad a kernel row with whatever lies in their registers.
#[test]
fn padding_weights_are_zero() {
    let mut kinds = std::collections::BTreeMap::new();
    const KINDS: [&str; 5] =
        ["conv_tiled", "conv_packed", "conv_weight_shared", "conv_single_multiply", "conv2d"];
    let seeds = seeds();
    let every = seeds.iter().filter(|s| s.name.starts_with("every record#"));
    for seed in every.filter(|s| KINDS.iter().any(|kind| s.name.ends_with(kind))) {
        let container = Container::of(&seed.file).unwrap();
        let refused = (0..container.blobs.len()).filter(|&i| {
            let mut changed = container.clone();
            changed.blobs[i] ^= 1;
            let file = AlignedBytes::copy_of(&changed.into_file());
            Model::open(file.bytes()).is_err_and(|e| e == Error::Invalid { op: 0, rule: Rule::Padding })
        });
        let refused = refused.count();
        let kind = seed.name.split(':').next_back().unwrap();
        let most = kinds.entry(kind).or_insert(0);
        *most = refused.max(*most);
    }
    for kind in &KINDS[..4] {
        // Two inputs, two kernel rows, four channels.
        assert!(kinds[*kind] >= 4, "{kinds:?}");
    }
    assert_eq!(kinds["conv2d"], 0);
}

/// The host is a device like any other: its arena stays between runs, also for what no operator has written.
#[test]
fn the_host_keeps_its_arena_between_runs() {
    let seed = seeds().into_iter().find(|s| s.name.ends_with(":binary") && reads_its_output(s)).unwrap();
    let inputs = [vec![1u8; 1024], vec![2; 1024]];
    let mut host = HostDevice::new();
    host.load(&seed.file).unwrap();
    let runs = inputs.each_ref().map(|input| host.run(&[input]).unwrap());
    let file = AlignedBytes::copy_of(&seed.file);
    let model = Model::open(file.bytes()).unwrap();
    let mut arena = vec![0u8; model.arena_bytes() as usize + 16];
    let start = arena.as_ptr().align_offset(16);
    let mut engine = Engine::new(model, &mut arena[start..]).unwrap();
    for (input, output) in inputs.iter().zip(runs) {
        engine.input_mut(0).unwrap().copy_from_slice(input);
        engine.run().unwrap();
        assert_eq!(output, [engine.output(0).unwrap()]);
    }
}

/// Whether the only operator reads where it writes, which nothing has written in the first run.
fn reads_its_output(seed: &Seed) -> bool {
    let file = AlignedBytes::copy_of(&seed.file);
    let model = Model::open(file.bytes()).unwrap();
    model.ops().any(|(_, _, record)| match record {
        offshoot::format::record::Record::Binary(r) => r.a == r.dst,
        _ => false,
    })
}

/// A sample; `cargo xtask mutate` makes as many as one likes, on emulated boards too.
#[test]
fn mutants_give_the_same_bits_on_all_instruction_sets() {
    let seeds = seeds();
    for (learning, count) in [(false, 500), (true, 20)] {
        let plan = Plan { seeds: &seeds, seed: 5, from: 0, count, learning, boards: vec![], jobs: 1 };
        let outcome = compare::run(&plan, &|_| {}).unwrap();
        assert_eq!(outcome.differences, [], "of {} mutants", outcome.made);
        assert_eq!(outcome.compared.len(), count);
    }
}

/// A fully connected float32 layer of four inputs and two classes that learns, with a rate that no plan may have.
fn learning_layer() -> Vec<u8> {
    use offshoot::format::codec::{self, GraphHead};
    use offshoot::format::header::Header;
    use offshoot::format::learn::{ErrorSource, Format, LearnHead, LearnLayer, TrainablePart};
    use offshoot::format::record::{Arith, FullyConnected, IoRepr, OpHeader};
    let io = |offset, elements| {
        let (dtype, shape) = (DType::F32, [elements, 1, 1, 1, 1, 1]);
        IoRepr { offset, dtype, scale: 0.0, zero_point: 0, rank: 1, shape, outside: 0 }
    };
    let arith = Arith::F32 { clamp: None };
    let record = FullyConnected { src: 0, dst: 64, rows: 1, in_c: 4, out_c: 2, arith, blob: 0 };
    let head = LearnHead {
        layers: 1,
        classes: 2,
        arena_bytes: 1024,
        workspace: 128,
        learned: 512,
        seed: 1,
        rate: 1e30,
        schedule: offshoot::learn::Schedule::Constant,
        warm: 0,
        normalised: false,
        momentum: 0,
        noise: 0.0,
        normalizer: None,
        classifier: None,
        begun: None,
    };
    let layer = LearnLayer {
        op: 0,
        part: TrainablePart::All,
        error_source: ErrorSource::Output,
        format: Format::F32,
        rate: 1.0,
        trainable: 544,
        velocity: 0,
        scales: [0.0; 2],
    };
    let (mut graph, mut buffer) = (Vec::new(), [0; 128]);
    let mut put = |n: Option<usize>, buffer: &[u8]| graph.extend_from_slice(&buffer[..n.unwrap()]);
    put(codec::encode(&GraphHead { inputs: 1, outputs: 1, ops: 1 }, &mut buffer), &buffer);
    put(codec::encode(&io(0, 4), &mut buffer), &buffer);
    put(codec::encode(&io(64, 2), &mut buffer), &buffer);
    let header = OpHeader { origin: 0, scale: 0.0, zero_point: 0 };
    put(codec::encode_op(&header, &record.into(), &mut buffer), &buffer);
    put(codec::encode(&head, &mut buffer), &buffer);
    put(codec::encode(&layer, &mut buffer), &buffer);
    let header = Header { requires: 3, arena_bytes: 128, ..Header::default() };
    Container { header: header.emit().to_vec(), graph, blobs: vec![0; 48] }.into_file()
}

/// Steps that are too large leave weights that are not numbers, with the one NaN of this format. Inputs that are not finite
/// leave none: such samples are left out.
#[test]
fn learned_nans_have_one_form() {
    let mut host = HostDevice::new();
    host.load(&learning_layer()).unwrap();
    host.begin_learning().unwrap();
    let bytes = |words: [u32; 4]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let factory = host.learned().unwrap();
    let wild = bytes([0x7f80_0000, 0xff80_0000, 0xffc0_0001, 0x3f80_0000]);
    assert!(host.learn(&[&wild], 0).unwrap().left_out);
    // But for the progress.
    assert_eq!(host.learned().unwrap()[PROGRESS_BYTES..], factory[PROGRESS_BYTES..]);
    let large = bytes([1e15, -1e15, 2e15, 1e15].map(f32::to_bits));
    for label in [0, 1, 0] {
        assert!(!host.learn(&[&large], label).unwrap().left_out);
    }
    let learned = host.learned().unwrap();
    let words = learned.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
    let nans: Vec<u32> = words.filter(|&bits| f32::from_bits(bits).is_nan()).collect();
    assert!(nans.len() > 2 && nans.iter().all(|&bits| bits == 0x7fc0_0000), "{nans:x?}");
}
