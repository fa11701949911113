//! The format is what `runtime/FORMAT.md` says, and files of every released version open or are refused by version.
//!
//! `tests/format_reader.py` reads the tables of that page and lists the records of a file; the listing is the same as that of the
//! runtime's decoder, for every shipped model, for every fixture, and for every variant of every learning record.
//!
//! `tests/fixtures/format/vN` holds files of version N. Those of the current version compute what the text beside each
//! says. `OFFSHOOT_WRITE_FIXTURES=1 cargo test -p offshoot-tests --test format` writes those of the current version anew: that is
//! allowed until the version is released, never after.

#[allow(dead_code)]
#[path = "../../runtime/offshoot/tests/builder/mod.rs"]
mod builder;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use offshoot::base::crc::Crc32;
use offshoot::engine::Engine;
use offshoot::format::codec::{self, GraphHead};
use offshoot::format::header::{HEADER_LEN, Header, HeaderView, VERSION, seal};
use offshoot::format::learn::{
    ClassifierHead, ErrorSource, Format, HeadKind, InputNormalizerRepr, LearnHead, LearnLayer, Tap,
    TargetProjectionRepr, TrainablePart,
};
use offshoot::format::nested::NestedHead;
use offshoot::format::record::{Record, Tag};
use offshoot::format::requires;
use offshoot::learn::{LocalRule, Schedule};
use offshoot::trace::{Observer, OpInfo};
use offshoot::{AlignedBytes, Error, Model};
use offshoot_cli::commands::compile::{self, Precision, Prefer};
use offshoot_cli::files;
use offshoot_cli::ui::Ui;
use offshoot_ir::Data;
use offshoot_tests::{Numbers, root};
use serde_json::{Value, json};

/// A record: its offset in the file, its name, its fields.
type Line = (usize, String, Value);

fn fixtures(version: u16) -> Vec<PathBuf> {
    let folder = root().join(format!("tests/fixtures/format/v{version}"));
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "off"));
    files.sort();
    files
}

// What the runtime's decoder says.

macro_rules! fields_of {
    ($record:expr; $($kind:ident)*) => {
        match $record {
            $(Record::$kind(r) => serde_json::to_value(r)),*
        }
    };
}

fn fields(record: &Record) -> Value {
    let fields = fields_of!(record; Conv2d Depthwise ConvTranspose FullyConnected MatMul Pool Binary Unary Lut PRelu Softmax
        LayerNorm Copy Fill Pad Resize Reduce ArgMax Quantize Dequantize Requantize Constant ConvTiled
        DepthwisePlanar ConvWinograd FullyConnectedHuffman ConvPacked ConvSingleMultiply DepthwiseSingleMultiply FusedRows
        FullyConnectedSparse ConvSparse ConvRowMajor Recurrent ConvWeightShared DepthwiseWeightShared RecurrentSparse Gather
        Scatter TopK Cast GridSample ConvWeightOnly History Elementary BinaryMath Branch Spectrum FullyConnectedBanded MicroFrontend
        ConvInt16 BinaryInt16 PoolInt16 SoftmaxInt16 SigmoidInt16 LutInt16 RequantizeInt16 QuantizeInt16 DequantizeInt16
        ReduceInt16);
    fields.unwrap()
}

/// Lists a file by the runtime's decoder.
struct Listing<'b> {
    bytes: &'b [u8],
    blobs: usize,
    lines: Vec<Line>,
}

impl<'b> Listing<'b> {
    fn of(bytes: &'b [u8]) -> Vec<Line> {
        let header = HeaderView::new_checked(bytes).unwrap().parse().unwrap();
        let Header { requires, file_len, crc32, arena_bytes, arena_lower_bound, graph_len, source_hash } =
            header;
        let mut listing = Self { bytes, blobs: header.blob_start() as usize, lines: Vec::new() };
        listing.lines.push((
            0,
            "Header".into(),
            json!({
                "magic": "OFFS", "version": VERSION, "requires": requires, "file_len": file_len, "crc32": crc32,
                "arena_bytes": arena_bytes, "arena_lower_bound": arena_lower_bound, "graph_len": graph_len,
                "source_hash": source_hash,
            }),
        ));
        let mut rest = listing.network(&bytes[HEADER_LEN..HEADER_LEN + graph_len as usize]);
        if requires & requires::NESTED != 0 {
            let (count, mut after) = rest.split_first().unwrap();
            for _ in 0..*count {
                let (head, records) = listing.take("NestedHead", after, codec::decode_nested_head);
                let (records, behind) = records.split_at(head.len as usize);
                assert!(listing.network(records).is_empty());
                after = behind;
            }
            rest = after;
        }
        if requires & requires::LEARNS != 0 {
            let (head, mut after) = listing.take("LearnHead", rest, codec::decode_learn_head);
            for _ in 0..head.layers {
                after = listing.take("LearnLayer", after, codec::decode_learn_layer).1;
            }
            for _ in 0..head.classifier.map_or(0, |classifier| classifier.taps) {
                after = listing.take("Tap", after, codec::decode_tap).1;
            }
            rest = after;
        }
        assert!(rest.is_empty());
        listing.lines
    }

    fn push(&mut self, name: &str, at: &[u8], fields: Value) {
        self.lines.push((at.as_ptr().addr() - self.bytes.as_ptr().addr(), name.into(), fields));
    }

    fn take<T: serde::Serialize>(
        &mut self,
        name: &str,
        at: &'b [u8],
        decode: fn(&'b [u8]) -> Option<(T, &'b [u8])>,
    ) -> (T, &'b [u8]) {
        let (value, rest) = decode(at).unwrap();
        self.push(name, at, serde_json::to_value(&value).unwrap());
        (value, rest)
    }

    fn network(&mut self, records: &'b [u8]) -> &'b [u8] {
        let (head, mut rest) = self.take("GraphHead", records, codec::decode_head);
        for _ in 0..head.inputs + head.outputs {
            rest = self.take("IoRepr", rest, codec::decode_io).1;
        }
        for _ in 0..head.ops {
            let (tag, header, body) = codec::decode_op_header(rest).unwrap();
            let tag = Tag::from_u8(tag).unwrap();
            let (record, after) = Record::decode(tag, body).unwrap();
            let mut fields = fields(&record);
            fields["header"] = serde_json::to_value(header).unwrap();
            self.push(&format!("{tag:?}"), rest, fields);
            if let Record::FusedRows(fused) = record {
                let begin = self.blobs + fused.blob as usize;
                let mut members = &self.bytes[begin..begin + usize::from(fused.len)];
                for _ in 0..fused.members {
                    let tag = Tag::from_u8(members[0]).unwrap();
                    let (member, after) = Record::decode(tag, &members[1..]).unwrap();
                    self.push(&format!("{tag:?}"), &members[1..], self::fields(&member));
                    members = after;
                }
            }
            rest = after;
        }
        rest
    }
}

// What the second reader says.

/// Runs the second reader over files; `None` without Python.
fn read_by_python(paths: &[PathBuf]) -> Option<std::process::Output> {
    python("format_reader.py", paths)
}

/// Runs a program of `tests`; `None` without Python.
fn python(program: &str, paths: &[PathBuf]) -> Option<std::process::Output> {
    match Command::new("python3").arg(root().join("tests").join(program)).args(paths).output() {
        Ok(output) => Some(output),
        Err(error) => {
            offshoot_tests::skip(format_args!("the second reader of the format: python3: {error}"));
            None
        }
    }
}

/// Numbers of float32 are equal as such: a decimal on the way may be the neighbour of a float64.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() || b.is_f64() => {
            a.as_f64().map(|v| (v as f32).to_bits()) == b.as_f64().map(|v| (v as f32).to_bits())
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

/// The second reader lists what the runtime decodes; gives the number of records. `None` without Python.
fn both_read(name: &str, bytes: &[u8]) -> Option<usize> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.off");
    std::fs::write(&path, bytes).unwrap();
    let output = read_by_python(&[path])?;
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut found = text.lines();
    let wanted = Listing::of(bytes);
    for (at, kind, fields) in &wanted {
        let line = found.next().unwrap_or_else(|| panic!("{name}: {kind} at {at} is not listed"));
        let mut parts = line.splitn(3, ' ');
        let place = (parts.next().and_then(|at| at.parse().ok()), parts.next());
        assert_eq!(place, (Some(*at), Some(kind.as_str())), "{name}: {line}");
        let listed: Value = serde_json::from_str(parts.next().unwrap()).unwrap();
        assert!(
            same(fields, &listed),
            "{name}: {kind} at {at}\nruntime       {fields}\nsecond reader {listed}"
        );
    }
    assert_eq!(found.next(), None, "{name}");
    Some(wanted.len())
}

// Files.

const UI: Ui = Ui { json: true };

/// Compiles a shipped model.
fn compiled(name: &str, precision: Precision, plan: Option<&str>) -> Vec<u8> {
    compiled_for(name, precision, plan, Prefer::Balanced, false)
}

/// The same, in the forms that are preferred; `thin` leaves one weight of eight.
fn compiled_for(name: &str, precision: Precision, plan: Option<&str>, prefer: Prefer, thin: bool) -> Vec<u8> {
    let folder = root().join("models").join(name);
    let onnx = std::fs::read(folder.join("model.onnx")).unwrap();
    let (mut graph, _) = files::optimise(offshoot_import::import_bytes(&onnx, name).unwrap()).unwrap();
    if thin {
        let mut numbers = Numbers(7);
        for value in graph.values.iter_mut().filter(|v| v.len() > 256) {
            if let Some(Data::F32(weights)) = value.data.as_mut().map(Arc::make_mut) {
                weights.iter_mut().filter(|_| numbers.below(8) > 0).for_each(|w| *w = 0.0);
            }
        }
    }
    let calibration = offshoot_data::npy::read(&folder.join("calibration_x.npy")).unwrap();
    let samples = compile::calibration(&graph, std::slice::from_ref(&calibration), &["x".into()]).unwrap();
    let samples = if precision == Precision::F32 { Vec::new() } else { samples };
    let scratch = tempfile::tempdir().unwrap();
    let learn = plan.map(|plan| {
        let path = scratch.path().join("plan.toml");
        std::fs::write(&path, plan).unwrap();
        path
    });
    let args = compile::Args { precision: Some(precision), learn, prefer, ..compile::Args::default() };
    compile::make(&UI, graph, &samples, &args, None).unwrap().compiled.bytes
}

/// One operator of every kind and number format after another, and an input on which no number is special.
fn every_record() -> Vec<u8> {
    builder::with_records(builder::every_record()).build()
}

/// A file of two networks on one blob section: the operators of `every_record`, one half each.
fn two_networks() -> Vec<u8> {
    let mut records = builder::every_record();
    let second = records.split_off(records.len() / 2);
    let [first, second] = [records, second].map(|records| builder::with_records(records).build());
    let parts = |file: &[u8]| {
        let header = HeaderView::new_checked(file).unwrap().parse().unwrap();
        let graph = file[HEADER_LEN..HEADER_LEN + header.graph_len as usize].to_vec();
        (header, graph, file[header.blob_start() as usize..].to_vec())
    };
    let ((mut header, mut graph, blobs), (other, further, _)) = (parts(&first), parts(&second));
    let Header { arena_bytes, arena_lower_bound, source_hash, .. } = other;
    let head = NestedHead { len: further.len() as u32, arena_bytes, arena_lower_bound, source_hash };
    let mut buffer = [0; 64];
    let n = codec::encode(&head, &mut buffer).unwrap();
    graph.push(1);
    graph.extend_from_slice(&buffer[..n]);
    graph.extend(further);
    header.requires |= requires::NESTED;
    header.graph_len = graph.len() as u32;
    header.file_len = header.blob_start() as u32 + blobs.len() as u32;
    let mut file = [header.emit().to_vec(), graph].concat();
    file.resize(header.blob_start() as usize, 0);
    file.extend(blobs);
    seal(&mut file).unwrap();
    file
}

/// The checksums of what every operator gives, network by network, on inputs made by a rule, and of what is learned on them.
fn digests(bytes: &[u8]) -> String {
    struct Digests(String);
    impl Observer for Digests {
        fn after(&mut self, op: OpInfo, output: &[u8]) {
            let sum = Crc32::new().update(output).finish();
            writeln!(self.0, "{} {} {sum:08x}", op.index, op.tag.name()).unwrap();
        }
    }
    // Read as float32, all are positive and below one; as int8, of both signs.
    fn fill(engine: &mut Engine<'_, '_>) {
        for i in 0..engine.model().input_count() {
            for (j, byte) in engine.input_mut(i).unwrap().iter_mut().enumerate() {
                *byte = if j % 4 == 3 { 0x30 + (j / 4 % 15) as u8 } else { (j as u8).wrapping_mul(37) };
            }
        }
    }
    let file = AlignedBytes::copy_of(bytes);
    let first = Model::open(&file).unwrap();
    let mut digests = Digests(String::new());
    for network in 0..first.network_count() {
        writeln!(digests.0, "network {network}").unwrap();
        let model = first.network(network).unwrap();
        let mut arena = AlignedBytes::zeroed(model.arena_bytes() as usize);
        let mut engine = Engine::new(model, &mut arena).unwrap();
        fill(&mut engine);
        engine.run_with(&mut digests).unwrap();
        for i in 0..model.output_count() {
            let hex: String = engine.output(i).unwrap().iter().take(64).map(|b| format!("{b:02x}")).collect();
            writeln!(digests.0, "output {i} {hex}").unwrap();
        }
    }
    if let Some(bytes) = first.train_arena_bytes() {
        let mut arena = AlignedBytes::zeroed(bytes as usize);
        let mut engine = Engine::learning(first, &mut arena).unwrap();
        for label in [1, 0, 1, 2] {
            fill(&mut engine);
            engine.run().unwrap();
            engine.learn(label).unwrap();
        }
        let sum = Crc32::new().update(engine.learned().unwrap()).finish();
        writeln!(digests.0, "learned {sum:08x}").unwrap();
    }
    digests.0
}

/// The files of the current version that are committed.
fn current_files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("every_record", every_record()),
        ("two_networks", two_networks()),
        ("vibration_int8", compiled("vibration", Precision::Int8, None)),
        ("vibration_f32", compiled("vibration", Precision::F32, None)),
        ("vibration_learns", compiled("vibration", Precision::Int8, Some("rate = 0.1\nweights = \"int16\""))),
        ("tones_int8", compiled("tones", Precision::Int8, None)),
        ("glyphs_int8", compiled("glyphs", Precision::Int8, None)),
    ]
}

/// A file without operators whose learning records have every variant of every type, among eight of them: head `i`.
fn learning_records(i: usize) -> Vec<u8> {
    let schedules = [
        Schedule::Constant,
        Schedule::Linear { steps: 3 },
        Schedule::Cosine { steps: 70_000 },
        Schedule::Inverse { half: 1 << 31 },
    ];
    let heads = [
        HeadKind::Softmax { step: 0.1 },
        HeadKind::NearestMean { window: f32::INFINITY },
        HeadKind::Lda { shrinkage: -1.0, window: 9.0 },
        HeadKind::LeastSquares { ridge: 1e-3, forgetting: 0.99, balance: true },
        HeadKind::Simplex { step: 0.3 },
        HeadKind::Boosted { step: 0.5 },
        HeadKind::Anomaly { diagonal: true, window: 90.0, false_alarms: 50, scores: 300 },
        HeadKind::Regression { ridge: 0.5, forgetting: 0.99 },
    ];
    let rules = LocalRule::ALL;
    let projections = [
        TargetProjectionRepr::Signs { seed: 5 },
        TargetProjectionRepr::Hadamard,
        TargetProjectionRepr::Uniform { seed: u32::MAX },
        TargetProjectionRepr::Probe { blob: 64 },
        TargetProjectionRepr::Head { at: 300, rate: 0.1, from: Some((128, 0.01)) },
        TargetProjectionRepr::Head { at: 300, rate: 0.1, from: None },
    ];
    let parts =
        [TrainablePart::All, TrainablePart::Bias, TrainablePart::Scale, TrainablePart::LowRank { rank: 4 }];
    let formats = [Format::F32, Format::I8, Format::I16 { fine: 5000 }];
    let layer = |i: usize| LearnLayer {
        op: i as u16,
        part: parts[i % 4],
        error_source: match i {
            0 => ErrorSource::Output,
            1 => ErrorSource::Next,
            _ => ErrorSource::Local {
                rule: rules[i % rules.len()],
                projection: projections[i % 6],
                grid: i as u8,
            },
        },
        format: formats[i % 3],
        rate: 1.0 / i as f32,
        trainable: 4096,
        velocity: 8192,
        scales: [0.1, 0.2],
    };
    let head = LearnHead {
        layers: 24,
        classes: 300,
        arena_bytes: 70_000,
        workspace: 8,
        learned: 400,
        seed: 1,
        rate: 0.1,
        schedule: schedules[i % 4],
        warm: 5,
        normalised: true,
        momentum: 29_491,
        noise: 0.5,
        normalizer: (i > 0).then_some(InputNormalizerRepr {
            blob: 4,
            energy: 2.0,
            trust: 9.0,
            steps: 0,
            at: 44,
        }),
        classifier: (i < heads.len()).then(|| ClassifierHead {
            kind: heads[i],
            classes: 300,
            taps: 2,
            from: 7,
            features: 500,
            at: 600,
            folded: 40 * (i % 2) as u16,
        }),
        begun: (i % 2 == 1).then_some(12),
    };
    fn put(graph: &mut Vec<u8>, value: &impl serde::Serialize) {
        let mut buffer = [0; 256];
        let n = codec::encode(value, &mut buffer).unwrap();
        graph.extend_from_slice(&buffer[..n]);
    }
    let mut graph = Vec::new();
    put(&mut graph, &GraphHead { inputs: 0, outputs: 0, ops: 0 });
    put(&mut graph, &head);
    (0..24).for_each(|i| put(&mut graph, &layer(i)));
    for op in 0..head.classifier.map_or(0, |classifier| classifier.taps) {
        put(&mut graph, &Tap { op: op.into(), scale: 0.5 });
    }
    let mut header =
        Header { requires: requires::LEARNS, graph_len: graph.len() as u32, ..Header::default() };
    header.file_len = header.blob_start() as u32;
    let mut file = [header.emit().to_vec(), graph].concat();
    file.resize(header.file_len as usize, 0);
    seal(&mut file).unwrap();
    file
}

#[test]
fn the_second_reader_lists_what_the_runtime_decodes() {
    let mut listed = 0;
    let mut kinds = std::collections::BTreeSet::new();
    let mut check = |name: &str, bytes: &[u8]| {
        kinds.extend(Listing::of(bytes).into_iter().map(|(_, kind, _)| kind));
        both_read(name, bytes).map(|records| listed += records)
    };
    for name in ["glyphs", "tones", "vibration"] {
        for precision in [Precision::Int8, Precision::F32] {
            for plan in [None, Some("rate = 0.1")] {
                let file = compiled(name, precision.clone(), plan);
                if check(&format!("{name} {precision} {plan:?}"), &file).is_none() {
                    return;
                }
            }
        }
    }
    // Operators that are younger than the fixtures too.
    check("every record", &every_record());
    check("two networks", &two_networks());
    for path in fixtures(VERSION) {
        check(&path.display().to_string(), &std::fs::read(&path).unwrap());
    }
    for i in 0..9 {
        check(&format!("learning records {i}"), &learning_records(i));
    }
    println!("{listed} records of {} kinds are listed alike", kinds.len());
    let missing: Vec<&Tag> = Tag::ALL.iter().filter(|tag| !kinds.contains(&format!("{tag:?}"))).collect();
    assert!(missing.is_empty(), "in no file: {missing:?}");
}

/// Weights of every form, unpacked as the page says, give the output of each int8 convolution and fully connected layer.
#[test]
fn weights_lie_as_the_page_says() {
    use Precision::{Int2, Int4, Int8};
    use Prefer::{Balanced, Flash, Ram, Speed};
    let folder = tempfile::tempdir().unwrap();
    let [model, trace] = ["model.off", "trace.json"].map(|name| folder.path().join(name));
    let mut forms = std::collections::BTreeSet::new();
    let mut check = |name: &str, bytes: Vec<u8>| {
        let outputs = traced(&bytes);
        std::fs::write(&model, bytes).unwrap();
        std::fs::write(&trace, serde_json::to_vec(&outputs).unwrap()).unwrap();
        let output = python("format_weights.py", &[model.clone(), trace.clone()])?;
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        forms.extend(String::from_utf8(output.stdout).unwrap().lines().map(String::from));
        Some(())
    };
    if check("every record", every_record()).is_none() {
        return;
    }
    for (name, precision, prefer, thin) in [
        ("glyphs", Int8, Balanced, false),
        ("glyphs", Int8, Speed, false),
        ("glyphs", Int4, Flash, false),
        ("glyphs", Int8, Flash, true),
        ("vibration", Int8, Ram, false),
        ("vibration", Int8, Flash, false),
        ("vibration", Int2, Flash, false),
        ("vibration", Int8, Speed, true),
        ("tones", Int8, Speed, false),
        ("tones", Int8, Flash, true),
    ] {
        check(name, compiled_for(name, precision, None, prefer, thin));
    }
    println!("{forms:?}");
    assert!(forms.len() >= 17, "{forms:?}");
}

/// The input of a model with one, drawn, and the output of each of its operators.
fn traced(bytes: &[u8]) -> Value {
    struct Outputs(Vec<Vec<u8>>);
    impl Observer for Outputs {
        fn after(&mut self, _: OpInfo, output: &[u8]) {
            self.0.push(output.to_vec());
        }
    }
    let file = AlignedBytes::copy_of(bytes);
    let model = Model::open(&file).unwrap();
    let mut arena = AlignedBytes::zeroed(model.arena_bytes() as usize);
    let mut engine = Engine::new(model, &mut arena).unwrap();
    let mut numbers = Numbers(5);
    let input = engine.input_mut(0).unwrap();
    input.iter_mut().for_each(|byte| *byte = numbers.byte() as u8);
    let input = input.to_vec();
    let mut outputs = Outputs(Vec::new());
    engine.run_with(&mut outputs).unwrap();
    json!({ "input": input, "outputs": outputs.0 })
}

#[test]
fn the_second_reader_refuses_damage() {
    let folder = tempfile::tempdir().unwrap();
    let good = every_record();
    let mut damaged = good.clone();
    damaged[40] ^= 1;
    let mut longer = good.clone();
    longer.push(0);
    let mut older = good;
    older[4] = 1;
    for (bytes, says) in [
        (damaged, "checksum"),
        (longer, "bytes"),
        (older, "format version 1"),
        (b"ONNX".to_vec(), "not an .off"),
    ] {
        let path = folder.path().join("model.off");
        std::fs::write(&path, bytes).unwrap();
        let Some(output) = read_by_python(&[path]) else { return };
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(says), "{says}: {error}");
    }
}

/// Writes the fixtures of the current version anew if the environment asks for it.
fn write_fixtures() {
    let folder = root().join(format!("tests/fixtures/format/v{VERSION}"));
    std::fs::create_dir_all(&folder).unwrap();
    for (name, bytes) in current_files() {
        std::fs::write(folder.join(name).with_extension("off"), &bytes).unwrap();
        std::fs::write(folder.join(name).with_extension("txt"), digests(&bytes)).unwrap();
    }
}

#[test]
fn files_of_this_version_compute_what_they_did() {
    if std::env::var_os("OFFSHOOT_WRITE_FIXTURES").is_some() {
        write_fixtures();
    }
    let files = fixtures(VERSION);
    assert!(files.len() >= 6, "{files:?}");
    let sum = |path: &Path| std::fs::metadata(path).unwrap().len();
    assert!(files.iter().map(|path| sum(path)).sum::<u64>() < 300_000, "fixtures are small files");
    for path in files {
        let wanted = std::fs::read_to_string(path.with_extension("txt")).unwrap();
        let found = digests(&std::fs::read(&path).unwrap());
        for (wanted, found) in wanted.lines().zip(found.lines()) {
            assert_eq!(wanted, found, "{}", path.display());
        }
        assert_eq!(wanted.len(), found.len(), "{}", path.display());
    }
}

#[test]
fn files_of_other_versions_are_refused_by_version() {
    for version in 1..VERSION {
        let files = fixtures(version);
        assert!(!files.is_empty());
        for path in files {
            let file = AlignedBytes::copy_of(&std::fs::read(&path).unwrap());
            let error = Model::open(&file).unwrap_err();
            assert_eq!(error, Error::Version(version), "{}", path.display());
            let text = error.to_string();
            let names = [format!("version {version}"), format!("version {VERSION}"), "compile".into()];
            assert!(names.iter().all(|name| text.contains(name)), "{text}");
        }
    }
    let mut newer = every_record();
    newer[4] = VERSION as u8 + 1;
    let file = AlignedBytes::copy_of(&newer);
    assert_eq!(Model::open(&file).unwrap_err(), Error::Version(VERSION + 1));
}
