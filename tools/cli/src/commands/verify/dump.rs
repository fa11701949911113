//! `offshoot verify --dump`: tensors that another runtime computed, beside those of the float network and of the compiled file.
//!
//! The network is evaluated twice in float. The first run gives what every tensor should be. In the second, each tensor of the dump takes
//! the place of the computed one as soon as the two are compared: what an operator gives is judged on the dump's own values before it, so
//! the first operator that departs is the one to look at.

use std::collections::HashMap;
use std::path::Path;

use ndarray::{ArrayD, IxDyn};
use offshoot::trace::{Observer, OpInfo};
use offshoot_compress::quantize;
use offshoot_compress::suggest::near;
use offshoot_data::npy::Array;
use offshoot_data::{npy, npz};
use offshoot_ir::passes::origin_hash;
use offshoot_ir::{DType, Graph, Op, Value, ValueId};
use offshoot_reference::Executor;
use offshoot_report::Table;
use offshoot_report::table::tail;
use serde::Serialize;

use super::{Args, Noise};
use crate::batch::{self, Inputs};
use crate::commands::{decibels, read_arrays};
use crate::failure::{Context, Failure, Kind, Result};
use crate::files::{self, OffFile};
use crate::port::Port;
use crate::ui::{Outcome, Ui};
use crate::watch;

const HELP: &str = "report this model";
/// Signal-to-noise ratio (dB) from which a guess of what is wrong with a tensor explains it.
const EXPLAINED_DB: f64 = 30.0;

/// One tensor of the dump.
#[derive(Clone, Debug, Serialize)]
pub struct Tensor {
    /// Name in the network.
    pub name: String,
    /// Name in the dump.
    pub dumped_as: String,
    /// Kind of the operator that gives it; `input` for an input of the network.
    pub operator: String,
    /// Signal-to-noise ratio of the dump against the float network, dB; null where there is no difference.
    pub snr_db: Option<f64>,
    /// The same where the network goes on from the dump's own tensors before this one.
    pub alone_snr_db: Option<f64>,
    /// Signal-to-noise ratio of the compiled file against the float network, dB; null where the file has no such tensor, or no difference.
    pub compiled_snr_db: Option<f64>,
    /// Signal-to-noise ratio of the dump against the compiled file, dB; null as before.
    pub between_snr_db: Option<f64>,
    /// Whether the compiled file computes this tensor.
    pub compiled: bool,
    /// Whether the operator departs: it is below the threshold on the dump's own values before it.
    pub departs: bool,
}

/// What `verify --dump` found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Samples compared.
    pub count: usize,
    /// Tensors in the order in which the network computes them.
    pub tensors: Vec<Tensor>,
    /// First tensor that departs.
    pub first_departure: Option<String>,
    /// What would explain it.
    pub explanation: Option<String>,
    /// Arrays of the dump that are no tensors of the network.
    pub unknown: Vec<String>,
    /// Signal-to-noise ratio (dB) under which an operator departs.
    pub threshold_db: f64,
}

impl Outcome for Report {
    fn render(&self) -> String {
        let compiled = self.tensors.iter().any(|t| t.compiled);
        let mut heads = vec!["tensor", "operator", "dump against float", "alone"];
        heads.extend(
            compiled.then_some(["compiled against float", "dump against compiled"]).into_iter().flatten(),
        );
        heads.push("");
        let mut table = Table::new(heads);
        let exact = |snr: Option<f64>| snr.map_or("exact".into(), decibels);
        for t in &self.tensors {
            let mut row = vec![tail(&t.name, 44), t.operator.clone(), exact(t.snr_db), exact(t.alone_snr_db)];
            if compiled {
                let ours = |snr| if t.compiled { exact(snr) } else { "-".into() };
                row.extend([ours(t.compiled_snr_db), ours(t.between_snr_db)]);
            }
            row.push(if t.departs { "departs" } else { "" }.into());
            table.row(row);
        }
        let mut text = format!("{table}\n{}", self.conclusion());
        if !self.unknown.is_empty() {
            let names: Vec<&str> = self.unknown.iter().take(8).map(String::as_str).collect();
            let more = if self.unknown.len() > names.len() { ", …" } else { "" };
            text.push_str(&format!(
                "\n{} arrays of the dump are no tensors of the network, or are folded away: {}{more}",
                self.unknown.len(),
                names.join(", ")
            ));
        }
        text
    }
}

impl Report {
    fn conclusion(&self) -> String {
        let samples = format!("({} tensors, {} samples)", self.tensors.len(), self.count);
        let limit = self.threshold_db;
        let Some(first) = self.tensors.iter().find(|t| t.departs) else {
            let along = self.tensors.iter().find(|t| t.snr_db.is_some_and(|v| v < limit));
            return match along {
                Some(t) => format!(
                    "no operator departs alone: small errors add up, from `{}` on to less than {limit} dB {samples}",
                    t.name
                ),
                None => format!("no tensor of the dump departs from float by more than {limit} dB {samples}"),
            };
        };
        let why = self.explanation.as_ref().map_or(String::new(), |e| format!("; {e}"));
        match first.operator.as_str() {
            "input" => format!(
                "the other runtime was given another input `{}` than --input holds{why} {samples}",
                first.name
            ),
            kind => format!(
                "the first that departs is `{}` ({kind}): on the dump's own values before it, it is {} from float{why} {samples}",
                first.name,
                first.alone_snr_db.map_or("exact".into(), decibels),
            ),
        }
    }
}

/// Compares a dump with the network and, if there is one, the compiled file.
///
/// # Errors
/// A file cannot be read, nothing in the dump is a tensor of the network, shapes do not fit, or the network keeps state.
pub fn run(ui: &Ui, args: &Args, dump: &Path) -> Result<Report> {
    let graph = files::read_graph_as_written(&args.model, &args.dims.all())?;
    let mut matched = Matched::new(&graph, read(dump)?, dump)?;
    let (arrays, names) = match args.input.is_empty() {
        false => read_arrays(&args.input)?,
        true => matched.inputs(&graph)?,
    };
    let mut inputs = Vec::new();
    batch::check_inputs(graph.inputs.len(), arrays.len())?;
    for ((array, name), id) in arrays.iter().zip(&names).zip(&graph.inputs) {
        let shape = IxDyn(&graph.value(*id).shape);
        let samples = Port::of_value(&graph, *id).real(array, name)?.into_iter();
        let samples = samples.map(|s| ArrayD::from_shape_vec(shape.clone(), s).or_fail(Kind::Internal, HELP));
        inputs.push(samples.collect::<Result<Vec<_>>>()?);
    }
    // All samples share the only one of an input.
    let given = inputs.iter().map(Vec::len).filter(|n| *n != 1).min().unwrap_or(1);
    let count = matched.tensors.iter().map(|t| t.values.len() / graph.value(t.id).len().max(1)).min();
    let count = count.unwrap_or(0).min(given).min(args.limit.max(1));
    let sample = |i: usize| inputs.iter().map(|s| &s[if s.len() == 1 { 0 } else { i }]).collect::<Vec<_>>();

    let executor = Executor::new(&graph).or_fail(Kind::Internal, HELP)?;
    let bar = ui.progress("evaluating in float", 2 * count as u64);
    let mut float = vec![HashMap::new(); count];
    for (i, float) in float.iter_mut().enumerate() {
        watch::stop_if_cancelled();
        let mut keep = |id: ValueId, array: &mut ArrayD<f32>| {
            quantize::keep_to_codes(graph.value(id), array);
            if matched.by_id.contains_key(&id) {
                float.insert(id, array.clone());
            }
        };
        executor.run_with(&sample(i), &mut keep).or_fail(Kind::Internal, HELP)?;
        bar.inc(1);
    }
    matched.arrange(&graph, &float);
    let mut alone = vec![Noise::default(); matched.tensors.len()];
    // What the first runs of the second evaluation gave, to explain a departure.
    let mut computed: Vec<Vec<f32>> = vec![Vec::new(); matched.tensors.len()];
    for i in 0..count {
        watch::stop_if_cancelled();
        let mut replace = |id: ValueId, array: &mut ArrayD<f32>| {
            quantize::keep_to_codes(graph.value(id), array);
            let Some(at) = matched.by_id.get(&id) else { return };
            let want: Vec<f32> = array.iter().copied().collect();
            let got = matched.tensors[*at].sample(i, want.len());
            alone[*at].add(got, &want);
            computed[*at].extend(&want);
            array.iter_mut().zip(got).for_each(|(to, from)| *to = *from);
        };
        executor.run_with(&sample(i), &mut replace).or_fail(Kind::Internal, HELP)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let compiled = match &args.compiled {
        Some(_) => compiled(args, &graph, &matched, (&arrays, &names), &float)?,
        None => HashMap::new(),
    };

    let tensors: Vec<Tensor> = (matched.tensors.iter().enumerate())
        .map(|(at, t)| {
            let mut along = Noise::default();
            for (i, float) in float.iter().enumerate() {
                let want: Vec<f32> =
                    float.get(&t.id).map(|f| f.iter().copied().collect()).unwrap_or_default();
                along.add(t.sample(i, want.len()), &want);
            }
            let ours = compiled.get(&t.id);
            Tensor {
                name: graph.value(t.id).name.clone(),
                dumped_as: t.dumped_as.clone(),
                operator: operator(&graph, t.id),
                snr_db: along.snr_db(),
                alone_snr_db: alone[at].snr_db(),
                compiled_snr_db: ours.and_then(|o| o.against_float.snr_db()),
                between_snr_db: ours.and_then(|o| o.against_dump.snr_db()),
                compiled: ours.is_some(),
                departs: alone[at].snr_db().is_some_and(|v| v < args.threshold),
            }
        })
        .collect();
    let first = tensors.iter().position(|t| t.departs);
    Ok(Report {
        count,
        first_departure: first.map(|at| tensors[at].name.clone()),
        explanation: first.and_then(|at| explanation(&computed[at], &matched.tensors[at].values)),
        tensors,
        unknown: matched.unknown,
        threshold_db: args.threshold,
    })
}

/// The arrays of an `.npz` file, or of all `.npy` files in a folder, by name.
fn read(path: &Path) -> Result<Vec<(String, Array)>> {
    const WANTED: &str = "give an .npz archive (numpy.savez) or a folder of .npy files, one for each tensor";
    let arrays = if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(|e| Failure::reading(path, &e))?;
        let mut paths: Vec<_> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
        paths.retain(|p| p.extension().is_some_and(|e| e == "npy"));
        paths.sort();
        let name = |p: &Path| p.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let read = |p: &Path| npy::read(p).map(|array| (name(p), array));
        paths.iter().map(|p| read(p)).collect::<offshoot_data::Result<Vec<_>>>()
    } else {
        npz::read(path)
    };
    let arrays = arrays.map_err(|e| Failure::new(Kind::Format, e.to_string(), WANTED))?;
    match arrays.is_empty() {
        true => Err(Failure::new(Kind::Format, format!("{} holds no array", path.display()), WANTED)),
        false => Ok(arrays),
    }
}

/// An array of the dump that is a tensor of the network.
struct Dumped {
    id: ValueId,
    dumped_as: String,
    array: Array,
    /// Real numbers, sample by sample; each in the network's order once [`Matched::arrange`] has seen the float values.
    values: Vec<f32>,
}

impl Dumped {
    fn sample(&self, i: usize, len: usize) -> &[f32] {
        self.values.get(i * len..(i + 1) * len).unwrap_or_default()
    }
}

/// The dump and the network put side by side.
struct Matched {
    /// In the order in which the network computes them.
    tensors: Vec<Dumped>,
    by_id: HashMap<ValueId, usize>,
    unknown: Vec<String>,
}

impl Matched {
    fn new(graph: &Graph, arrays: Vec<(String, Array)>, dump: &Path) -> Result<Self> {
        let stateful = graph.nodes.iter().find(|n| n.op.keeps_state());
        if let Some(node) = stateful {
            let message = format!("`{}` keeps state from sample to sample", node.name);
            let help = "dump a network whose state is among its inputs and outputs";
            return Err(Failure::new(Kind::Unsupported, message, help));
        }
        let order: Vec<ValueId> =
            graph.inputs.iter().copied().chain(graph.nodes.iter().map(|n| n.output)).collect();
        let mut exact: HashMap<&str, ValueId> = HashMap::new();
        // Names as file systems and other tools change them; `None` where two tensors become alike.
        let mut plain: HashMap<String, Option<ValueId>> = HashMap::new();
        for id in &order {
            let name = graph.value(*id).name.as_str();
            exact.insert(name, *id);
            plain.entry(simplified(name)).and_modify(|v| *v = None).or_insert(Some(*id));
        }
        let (mut found, mut unknown) = (HashMap::new(), Vec::new());
        for (name, array) in arrays {
            let id = exact.get(name.as_str()).copied().or(plain.get(&simplified(&name)).copied().flatten());
            match id {
                Some(id) if !found.contains_key(&id) => {
                    let values = real(graph, id, &array, &name)?;
                    found.insert(id, Dumped { id, dumped_as: name, array, values });
                }
                _ => unknown.push(name),
            }
        }
        if found.is_empty() {
            let known = order.iter().map(|id| graph.value(*id).name.as_str());
            let near = unknown.first().map_or(String::new(), |name| near(name, known));
            let message = format!(
                "no array of {} has the name of a tensor of the network: `{}`{near}",
                dump.display(),
                unknown.first().map_or("", String::as_str)
            );
            let help =
                "name each array as the tensor is named in the model file; `offshoot inspect` lists them";
            return Err(Failure::new(Kind::Mismatch, message, help));
        }
        let tensors: Vec<Dumped> = order.iter().filter_map(|id| found.remove(id)).collect();
        let by_id = tensors.iter().enumerate().map(|(at, t)| (t.id, at)).collect();
        Ok(Self { tensors, by_id, unknown })
    }

    /// The network's inputs, if the dump holds them all.
    fn inputs(&self, graph: &Graph) -> Result<(Vec<Array>, Vec<String>)> {
        let each = graph.inputs.iter().map(|id| {
            let at = self.by_id.get(id).ok_or_else(|| {
                let message = format!("the dump does not hold the input `{}`", graph.value(*id).name);
                Failure::new(Kind::Usage, message, "give the samples with --input, once for each input")
            })?;
            let (tensor, value) = (&self.tensors[*at], graph.value(*id));
            let array = match tensor.array.shape().len() {
                // Flat values are in the network's order.
                1 | 2 => {
                    let batchless = usize::from(value.shape.first() == Some(&1));
                    let shape =
                        [&[tensor.values.len() / value.len().max(1)], &value.shape[batchless..]].concat();
                    let array = ArrayD::from_shape_vec(shape, tensor.values.clone());
                    array.or_fail(Kind::Internal, HELP)?.into()
                }
                _ => tensor.array.clone(),
            };
            Ok((array, tensor.dumped_as.clone()))
        });
        each.collect()
    }

    /// Brings each tensor into the network's order of axes. An array that has the extents of both orders, or none, is taken as the one
    /// that is nearer to float.
    fn arrange(&mut self, graph: &Graph, float: &[HashMap<ValueId, ArrayD<f32>>]) {
        for tensor in &mut self.tensors {
            let shape = &graph.value(tensor.id).shape;
            let mut arranged = Vec::with_capacity(tensor.values.len());
            let len = graph.value(tensor.id).len();
            let want: Vec<f32> = float.iter().filter_map(|f| f.get(&tensor.id)).flatten().copied().collect();
            let given = squeezed(tensor.array.shape());
            let fits = |shape: &[usize]| given.ends_with(&squeezed(shape));
            let last = channels_last(shape);
            let (first_fits, last_fits) = (fits(shape), last.as_ref().is_some_and(|s| fits(s)));
            let Some(last) = last.filter(|_| last_fits || !first_fits) else { continue };
            for sample in tensor.values.chunks_exact(len.max(1)) {
                arranged.extend(channels_first(sample, &last));
            }
            let distance = |values: &[f32]| -> f64 {
                values.iter().zip(&want).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
            };
            if !first_fits && last_fits || distance(&arranged) < distance(&tensor.values) {
                tensor.values = arranged;
            }
        }
    }
}

/// What the compiled file gives for one tensor.
#[derive(Default)]
struct Ours {
    against_float: Noise,
    against_dump: Noise,
}

fn compiled(
    args: &Args,
    written: &Graph,
    matched: &Matched,
    (arrays, names): (&[Array], &[String]),
    float: &[HashMap<ValueId, ArrayD<f32>>],
) -> Result<HashMap<ValueId, Ours>> {
    let path = args.compiled.as_deref().unwrap_or(Path::new(""));
    let (graph, _) = files::optimise(written.clone())?;
    let file = OffFile::read_network(path, args.network)?;
    let model = file.model()?;
    if model.source_hash() != origin_hash(&graph) {
        return Err(super::not_compiled_from(args));
    }
    let inputs = Inputs::encode(&model, arrays, names)?;
    let mut by_origin: HashMap<u16, ValueId> = HashMap::new();
    for (origin, value) in graph.values.iter().enumerate() {
        let name = value.name.strip_suffix("/nhwc").unwrap_or(&value.name);
        let known = matched.tensors.iter().find(|t| written.value(t.id).name == name);
        if let (Some(tensor), Ok(origin)) = (known, u16::try_from(origin)) {
            by_origin.insert(origin, tensor.id);
        }
    }
    let mut ours: HashMap<ValueId, Ours> = HashMap::new();
    for (i, float) in float.iter().enumerate() {
        let mut seen = Seen { model: &model, by_origin: &by_origin, values: HashMap::new() };
        batch::with_engine(&file, |engine| {
            batch::set_inputs(engine, &inputs.sample(i))?;
            engine.run_with(&mut seen).or_fail(Kind::Internal, HELP)
        })?;
        for (id, (origin, values)) in seen.values {
            let (Some(want), Some(at)) = (float.get(&id), matched.by_id.get(&id)) else { continue };
            let Some(values) = arranged(values, &graph.values[usize::from(origin)], want) else { continue };
            let want: Vec<f32> = want.iter().copied().collect();
            let entry = ours.entry(id).or_default();
            entry.against_float.add(&values, &want);
            entry.against_dump.add(matched.tensors[*at].sample(i, want.len()), &values);
        }
    }
    Ok(ours)
}

/// Tensors of one inference that the dump has too.
struct Seen<'a> {
    model: &'a offshoot::Model<'a>,
    by_origin: &'a HashMap<u16, ValueId>,
    values: HashMap<ValueId, (u16, Vec<f32>)>,
}

impl Observer for Seen<'_> {
    fn after(&mut self, op: OpInfo, output: &[u8]) {
        let Some(id) = self.by_origin.get(&op.origin) else { return };
        let port = self.model.ops().find(|(info, ..)| info.index == op.index);
        let Some((_, header, record)) = port else { return };
        self.values.insert(*id, (op.origin, super::record_port(&header, &record).decode(output)));
    }
}

/// A value of the compiled network in the order of `like`, if it is that tensor in full.
fn arranged(values: Vec<f32>, value: &Value, like: &ArrayD<f32>) -> Option<Vec<f32>> {
    if values.len() != like.len() {
        return None;
    }
    let Some(last) = channels_last(like.shape()).filter(|last| squeezed(last) == squeezed(&value.shape))
    else {
        return Some(values);
    };
    let moved = channels_first(&values, &last);
    let distance = |values: &[f32]| -> f64 {
        values.iter().zip(like.iter()).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
    };
    let same = squeezed(like.shape()) == squeezed(&value.shape);
    Some(if same && distance(&values) <= distance(&moved) { values } else { moved })
}

/// An array of the dump as real numbers.
fn real(graph: &Graph, id: ValueId, array: &Array, name: &str) -> Result<Vec<f32>> {
    let value = graph.value(id);
    let mut values: Vec<f32> = array.to_f32().iter().copied().collect();
    if value.is_empty() || values.is_empty() || !values.len().is_multiple_of(value.len()) {
        let message = format!(
            "`{name}` of the dump has shape {:?}, but the tensor has {:?} in each sample",
            array.shape(),
            value.shape
        );
        let help = "dump whole tensors, with the samples along the first axis";
        return Err(Failure::new(Kind::Shape, message, help));
    }
    let codes = match (array, value.dtype) {
        (Array::I8(_), DType::I8) | (Array::I16(_), DType::I16) => Some(0.0),
        // The importer keeps uint8 as int8.
        (Array::U8(_), DType::I8) => Some(128.0),
        (Array::I8(_) | Array::U8(_) | Array::I16(_), DType::F32) if !graph.inputs.contains(&id) => {
            let message =
                format!("`{name}` of the dump holds integers, but the network gives no scale for it");
            let help =
                "dump real numbers, or give the quantised network (QDQ or .tflite) that the runtime ran";
            return Err(Failure::new(Kind::Dtype, message, help));
        }
        _ => None,
    };
    if let (Some(offset), Some(quant)) = (codes, value.quant.as_ref().filter(|q| q.axis.is_none())) {
        let zero = quant.zero_point[0] as f32;
        values.iter_mut().for_each(|v| *v = (*v - offset - zero) * quant.scale[0]);
    }
    Ok(values)
}

/// Kind of the operator that gives a tensor of the file; the importer wraps some in moves of axes.
fn operator(graph: &Graph, id: ValueId) -> String {
    let Some(node) = graph.producer(id).map(|n| &graph.nodes[n]) else { return "input".into() };
    let inner = node.inputs.first().and_then(|x| graph.producer(*x)).map(|n| &graph.nodes[n]);
    let wrapped = inner.filter(|inner| {
        matches!(node.op, Op::Transpose { .. })
            && graph.value(inner.output).name.strip_suffix("/nhwc") == Some(graph.value(id).name.as_str())
    });
    match &wrapped.unwrap_or(node).op {
        Op::Unary(kind) => format!("{kind:?}").to_lowercase(),
        op => op.name().to_owned(),
    }
}

/// What would turn `want` into `got`: a factor and an offset. `None` if that does not explain them.
fn explanation(want: &[f32], got: &[f32]) -> Option<String> {
    let got = got.get(..want.len())?;
    if got.iter().any(|v| !v.is_finite()) {
        return Some("the dump holds values that are not finite".into());
    }
    let n = want.len() as f64;
    let mean = |v: &[f32]| v.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let (mw, mg) = (mean(want), mean(got));
    let (mut both, mut own) = (0.0, 0.0);
    for (w, g) in want.iter().zip(got) {
        both += (f64::from(*w) - mw) * (f64::from(*g) - mg);
        own += (f64::from(*w) - mw).powi(2);
    }
    if got.iter().all(|v| f64::from(*v) == mg) {
        return Some(format!("the dump holds {mg} everywhere"));
    }
    let factor = if own > 0.0 { both / own } else { return None };
    let offset = mg - factor * mw;
    let mut noise = Noise::default();
    let fitted: Vec<f32> = want.iter().map(|w| (factor * f64::from(*w) + offset) as f32).collect();
    noise.add(&fitted, got);
    let explains = noise.snr_db().is_none_or(|v| v >= EXPLAINED_DB);
    explains.then(|| format!("it fits {factor:.4} times the values{}", shift(offset)))
}

fn shift(offset: f64) -> String {
    match offset {
        v if v.abs() < 1e-6 => String::new(),
        v if v < 0.0 => format!(" less {:.4}", -v),
        v => format!(" plus {v:.4}"),
    }
}

/// A name without what file systems and exporters change: `a/b:0` and `a_b` are alike.
fn simplified(name: &str) -> String {
    let name = name.strip_suffix(":0").unwrap_or(name);
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

fn squeezed(shape: &[usize]) -> Vec<usize> {
    shape.iter().copied().filter(|d| *d != 1).collect()
}

/// Extents with axis 1 moved to the end, if that makes a difference.
fn channels_last(shape: &[usize]) -> Option<Vec<usize>> {
    let (batch, rest) = shape.split_first()?;
    let (channels, space) = rest.split_first()?;
    (!space.is_empty()).then(|| [&[*batch], space, &[*channels]].concat())
}

/// One sample of extents `last` with the last axis moved to 1.
fn channels_first(sample: &[f32], last: &[usize]) -> Vec<f32> {
    let (batch, channels) = (last[0], last[last.len() - 1]);
    let space = sample.len() / (batch * channels).max(1);
    let mut out = Vec::with_capacity(sample.len());
    for b in 0..batch {
        for c in 0..channels {
            out.extend((0..space).map(|p| sample[(b * space + p) * channels + c]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_moved() {
        let shape = [1, 3, 2, 2];
        let last = channels_last(&shape).unwrap();
        assert_eq!(last, [1, 2, 2, 3]);
        let sample: Vec<f32> = (0..12u8).map(f32::from).collect();
        assert_eq!(channels_first(&sample, &last)[..5], [0.0, 3.0, 6.0, 9.0, 1.0]);
        assert_eq!(channels_last(&[1, 4]), None);
    }

    #[test]
    fn a_factor_and_an_offset_explain() {
        let want: Vec<f32> = (0..64u8).map(|v| f32::from(v) / 64.0).collect();
        let got: Vec<f32> = want.iter().map(|v| v * 255.0 - 128.0).collect();
        assert_eq!(explanation(&want, &got).unwrap(), "it fits 255.0000 times the values less 128.0000");
        let got: Vec<f32> = want.iter().map(|v| (v * 40.0).sin()).collect();
        assert_eq!(explanation(&want, &got), None);
        assert!(explanation(&want, &[0.0; 64]).unwrap().contains("0 everywhere"));
    }

    #[test]
    fn names_survive_file_systems() {
        assert_eq!(simplified("model/conv:0"), simplified("model_conv"));
    }
}
