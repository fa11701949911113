//! Files to mutate: the fixtures of the format, the examples, and small networks in every form of weights, with every
//! learning rule and head.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use ndarray::{ArrayD, IxDyn};
use offshoot_compress::quantize::{QuantizeOptions, quantize, quantize_int16};
use offshoot_export::{CompileOptions, LearningPlan, Prefer, compile};
use offshoot_ir::passes::lossless;
use offshoot_ir::{Data, Graph, RecurrentKind, ValueId};
use offshoot_mutate::mutant::{Seed, single_operators};
use offshoot_train::network::{Edge, Network};

use super::rare;

/// Classes of the small networks.
const CLASSES: usize = 3;

/// Numbers in -1 to 1 that look random.
fn wave(n: usize, phase: f32) -> Vec<f32> {
    (0..n).map(|i| ((i * i) as f32 * 0.731 + i as f32 * 1.37 + phase).sin()).collect()
}

/// A convolution, a block of depthwise and pointwise layers, a dense layer.
fn image(channels: usize) -> Graph {
    let net = Network::new("image", [7, 6, 3], 5).conv("first", channels, [3, 3], [2, 1], Edge::Same);
    let net = net.normalise_relu("first.norm").depthwise("wide", [3, 3], [1, 1], Edge::Same);
    let net = net.normalise_relu("wide.norm").conv("narrow", channels + 2, [1, 1], [1, 1], Edge::Valid);
    let net = net.normalise_relu("narrow.norm").conv("square", 8, [3, 3], [1, 1], Edge::Same);
    net.relu("square.relu").global_average("mean").dense("head", CLASSES).finish()
}

/// A perceptron.
fn dense() -> Graph {
    let net = Network::new("dense", [1, 1, 12], 7).flatten("flat").dense("first", 10);
    net.relu("relu").dense("head", CLASSES).finish()
}

/// A recurrent layer and a head.
fn sequence(kind: RecurrentKind) -> Graph {
    let net = Network::sequence("sequence", [5, 4], 3).recurrent("first", kind, 6, true);
    net.recurrent("second", kind, 4, false).dense("head", CLASSES).finish()
}

/// Leaves one weight of six.
fn thin(mut graph: Graph) -> Graph {
    let mut n = 0usize;
    for value in graph.values.iter_mut().filter(|v| v.shape.len() > 1) {
        if let Some(Data::F32(weights)) = value.data.as_mut().map(std::sync::Arc::make_mut) {
            for weight in weights {
                n += 1;
                *weight = if n * n % 6 == 1 { *weight } else { 0.0 };
            }
        }
    }
    graph
}

/// Weights of a few levels, which are stored in 4 or 2 bits.
fn coarse(mut graph: Graph, levels: f32) -> Graph {
    for value in graph.values.iter_mut().filter(|v| v.shape.len() > 1) {
        if let Some(Data::F32(weights)) = value.data.as_mut().map(std::sync::Arc::make_mut) {
            let most = weights.iter().fold(1e-6, |most: f32, w| most.max(w.abs()));
            weights.iter_mut().for_each(|w| *w = (*w / most * levels).round() / levels * most);
        }
    }
    graph
}

fn quantised(graph: &Graph) -> Result<Graph> {
    Ok(quantize(graph, &samples(graph)?, &QuantizeOptions::default()).map_err(|e| anyhow!("{e}"))?.0)
}

/// With int16 activations.
fn int16(graph: &Graph) -> Result<Graph> {
    quantize_int16(graph, &samples(graph)?, &QuantizeOptions::default()).map_err(|e| anyhow!("{e}"))
}

/// Samples of the inputs.
fn samples(graph: &Graph) -> Result<Vec<Vec<ArrayD<f32>>>> {
    let sample = |i: usize| -> Result<Vec<ArrayD<f32>>> {
        let array = |(k, id): (usize, &ValueId)| {
            let shape = &graph.value(*id).shape;
            Ok(ArrayD::from_shape_vec(IxDyn(shape), wave(shape.iter().product(), (i + 5 * k) as f32))?)
        };
        graph.inputs.iter().enumerate().map(array).collect()
    };
    (0..12).map(sample).collect()
}

fn compiled(name: String, graph: &Graph, prefer: Prefer, arrange: bool, plan: Option<&str>) -> Result<Seed> {
    let learning = plan.map(LearningPlan::parse).transpose().map_err(|e| anyhow!("{name}: {e}"))?;
    let options = CompileOptions { prefer, arrange, learning, ..CompileOptions::default() };
    let file = compile(graph, &options).map_err(|e| anyhow!("{name}: {e}"))?.bytes;
    Ok(Seed { name, file })
}

/// Plans for int8 and for float32 networks: every rule, part, projection, format and head.
const INT8: [&str; 12] = [
    "rate = 0.3\nweights = \"int8\"",
    "rate = 0.3\nweights = \"int16\"",
    "rate = 0.1\nmomentum = 0.5\nblocks = true",
    "rate = 0.1\nrule = \"drtp\"\ncodes = \"hadamard\"\nnoise = 0.1",
    "rate = 0.1\npart = \"bias\"\nschedule = \"linear\"\nsteps = 9",
    "rate = 0.1\npart = \"scale\"\nschedule = \"cosine\"\nsteps = 9\nwarm = 2",
    "layers = [\"last\"]\npart = \"low-rank\"\nrank = 2\nhead = \"lda\"",
    "layers = []\nhead = \"nearest-mean\"",
    "layers = []\nhead = \"least-squares\"",
    "layers = []\n[head]\nkind = \"softmax\"\nfeatures = \"all\"",
    "layers = [\"last\"]\nhead = \"simplex\"",
    "layers = []\n[head]\nkind = \"boosted\"\nfeatures = \"all\"",
];
const FLOAT: [&str; 7] = [
    "rate = 0.3",
    "rate = 0.1\ncodes = \"head\"\nmomentum = 0.5\nblocks = true",
    "rate = 0.1\nrule = \"squared\"\ncodes = \"uniform\"",
    "rate = 0.1\nrule = \"absolute\"\ncodes = \"hadamard\"\nnoise = 0.1",
    "rate = 0.1\npart = \"scale\"\n[head]\nkind = \"boosted\"\nfeatures = \"all\"",
    "rate = 0.1\npart = \"low-rank\"\nrank = 2\nhead = \"lda\"",
    "rate = 0.1\nrule = \"drtp\"\npart = \"bias\"\nhead = \"simplex\"",
];

/// Small networks that learn, and the reason for each plan that a network cannot have.
fn learning() -> Result<Vec<Seed>> {
    let mut seeds = Vec::new();
    let mut networks = vec![("image".to_owned(), image(6)), ("dense".into(), dense())];
    use RecurrentKind::{Gru, GruResetAfter, Lstm, Tanh};
    networks.extend([Tanh, Gru, GruResetAfter, Lstm].map(|kind| (format!("{kind:?}"), sequence(kind))));
    networks.push(("thin".into(), thin(image(8))));
    networks.push(("thin sequence".into(), thin(sequence(Lstm))));
    for (name, graph) in networks {
        let graph = lossless(graph).map_err(|e| anyhow!("{name}: {e}"))?.0;
        let whole = quantised(&graph)?;
        for (graph, format, plans) in [(&whole, "int8", &INT8[..]), (&graph, "f32", &FLOAT[..])] {
            let before = seeds.len();
            for (i, plan) in plans.iter().enumerate() {
                // A recurrent layer has fewer parts, and a network of one layer no blocks.
                let made =
                    compiled(format!("{name} {format} plan {i}"), graph, Prefer::Balanced, true, Some(plan));
                seeds.extend(made.ok());
            }
            anyhow::ensure!(seeds.len() > before, "{name} {format} learns by no plan");
        }
    }
    Ok(seeds)
}

/// Small networks that do not learn.
fn plain() -> Result<Vec<Seed>> {
    let mut seeds = Vec::new();
    use RecurrentKind::{Gru, GruResetAfter, Lstm, Relu, Tanh};
    let mut networks = vec![
        ("image".to_owned(), image(6)),
        ("even image".into(), image(8)),
        ("dense".into(), dense()),
        ("thin image".into(), thin(image(8))),
        ("thin dense".into(), thin(dense())),
        ("coarse image".into(), coarse(image(8), 6.0)),
        ("ternary image".into(), coarse(image(6), 1.0)),
    ];
    networks.extend([Tanh, Relu, Gru, GruResetAfter, Lstm].map(|kind| (format!("{kind:?}"), sequence(kind))));
    networks.push(("thin sequence".into(), thin(sequence(Gru))));
    for (name, graph) in networks {
        let graph = lossless(graph).map_err(|e| anyhow!("{name}: {e}"))?.0;
        let whole = quantised(&graph)?;
        for prefer in [Prefer::Balanced, Prefer::Speed, Prefer::Ram, Prefer::Flash] {
            seeds.push(compiled(format!("{name} int8 {prefer:?}"), &whole, prefer, true, None)?);
        }
        seeds.push(compiled(format!("{name} int8 plain"), &whole, Prefer::Balanced, false, None)?);
        seeds.push(compiled(format!("{name} f32"), &graph, Prefer::Balanced, true, None)?);
        seeds.push(compiled(format!("{name} int16x8"), &int16(&graph)?, Prefer::Balanced, true, None)?);
    }
    for (name, graph, int8) in rare::graphs()? {
        let graph = lossless(graph).map_err(|e| anyhow!("{name}: {e}"))?.0;
        if int8 {
            let whole = quantised(&graph)?;
            seeds.push(compiled(format!("{name} int8"), &whole, Prefer::Balanced, true, None)?);
        }
        seeds.push(compiled(format!("{name} f32"), &graph, Prefer::Balanced, true, None)?);
    }
    Ok(seeds)
}

/// The committed files: fixtures of the current version, examples.
fn committed(root: &Path) -> Result<Vec<Seed>> {
    let version = offshoot_mutate::FORMAT_VERSION;
    let folders = [format!("tests/fixtures/format/v{version}"), "runtime/offshoot/examples/data".into()];
    let mut seeds = Vec::new();
    for folder in folders {
        let folder = root.join(folder);
        let entries = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        let mut paths = entries.map(|e| Ok(e?.path())).collect::<Result<Vec<PathBuf>>>()?;
        paths.sort();
        for path in paths.iter().filter(|p| p.extension().is_some_and(|e| e == "off")) {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            seeds.push(Seed { name, file: std::fs::read(path)? });
        }
    }
    Ok(seeds)
}

/// All files to begin with; with `learning`, those that learn.
///
/// # Errors
/// A file cannot be read or a network cannot be compiled.
pub fn all(root: &Path, learning: bool) -> Result<Vec<Seed>> {
    let committed = committed(root)?;
    if learning {
        let learns = |seed: &Seed| seed.name.contains("learns");
        return Ok(committed.into_iter().filter(learns).chain(self::learning()?).collect());
    }
    let mut seeds: Vec<Seed> = Vec::new();
    for seed in committed.into_iter().chain(plain()?) {
        seeds.extend(single_operators(&seed));
        seeds.push(seed);
    }
    Ok(seeds)
}
