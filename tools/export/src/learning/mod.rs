//! Turns a [`LearningPlan`] into the learning records of a file, and places the memory of training after that of
//! inference.

mod fields;
mod head;
mod plan;
mod workspace;

use offshoot::format::codec;
use offshoot::format::learn::{
    ErrorSource, Format, InputNormalizerRepr, LearnHead, LearnLayer, PROGRESS_BYTES, Tap,
    TargetProjectionRepr, TrainablePart,
};
use offshoot::format::record::Record;
use offshoot::graph::learn::{Shape, normalizer_bytes, workspace_bytes};
use offshoot::kernels::gradient::grid::PoolingGrid;
use offshoot::kernels::layer::Order;
use offshoot::learn::heads::{ANOMALY_CLASSES, MAX_OUTPUTS};
use offshoot::learn::{LocalRule, Schedule};
use offshoot_ir::Graph;
use offshoot_plan::Plan;
use serde::Serialize;

use crate::blobs::{self, Blobs};
use crate::error::{Error, Result};
use crate::lowered::{Lowered, Operator};
pub use plan::{
    Blocks, CovarianceName, FeatureName, FeatureSpec, HeadName, HeadPlan, HeadSpec, LAST, LayerPlan,
    LearningPlan, NormalizerPlan, NormalizerSpec, PartName, Recipe, RuleName, ScheduleName, Statistics,
    TargetProjectionName, Weights,
};

/// Memory and layers of learning.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LearningReport {
    /// Bytes of arena that learning needs, including inference.
    pub train_arena_bytes: u64,
    /// Bytes of workspace in it: workspace of a train step, features, scores.
    pub train_workspace_bytes: u64,
    /// Bytes of what layers learn in it: trainable copies, lower bytes of int16, local heads, velocities.
    pub train_weights_bytes: u64,
    /// Bytes of the input normaliser in it.
    pub train_normalizer_bytes: u64,
    /// Bytes of the classifier head in it.
    pub train_head_bytes: u64,
    /// Rule of the hidden layers.
    pub rule: &'static str,
    /// Names of the layers that learn.
    pub learning_layers: Vec<String>,
    /// Blocks of two: pairs of layers that learn by one rule.
    pub blocks: Vec<[String; 2]>,
    /// Kind of the classifier head, if there is one.
    pub head: Option<&'static str>,
    /// Number of its features.
    pub features: usize,
    /// Number of classes that can be learned.
    pub classes: u16,
    /// What the recipe amounts to, if the plan has one.
    pub recipe: Option<String>,
    /// The next better form of the recipe and the bytes of arena that it takes, if a limit kept it out.
    pub better: Option<(String, u64)>,
}

/// An operator that can learn.
struct Candidate<'l> {
    position: usize,
    operator: &'l Operator,
    shape: Shape,
    input_scale: f32,
}

impl Candidate<'_> {
    fn name(&self) -> &str {
        &self.operator.name
    }
}

/// Places the pieces of learning memory one after the other.
struct Places {
    end: u64,
}

impl Places {
    fn next(&mut self, bytes: u64) -> Result<u32> {
        let at = self.end.next_multiple_of(4);
        self.end = at + bytes;
        let limit = u64::from(u32::MAX);
        u32::try_from(self.end).map(|_| at as u32).map_err(|_| Error::Format {
            what: "the training arena",
            value: self.end,
            limit,
        })
    }
}

/// Tells the planner that a block of two keeps the input and output of its first layer until the second has run. If a
/// pair turns out not to be a block, because of the plan's order or the layers that learn, this memory is wasted.
pub fn keep_blocks(spec: &LearningPlan, lowered: &mut Lowered) -> Result<()> {
    let last = lowered.operators.iter().rposition(|op| Shape::of(&op.record).is_ok());
    let chosen: Vec<usize> = (0..lowered.operators.len())
        .filter(|&i| {
            let op = &lowered.operators[i];
            let always = op.branches.is_empty();
            always
                && Shape::of(&op.record).is_ok_and(|s| s.in_blocks())
                && spec.wants(&op.name, Some(i) == last)
        })
        .collect();
    let mut kept: Vec<(usize, Vec<usize>)> = Vec::new();
    for pair in chosen.windows(2) {
        let [first, second] = [&lowered.operators[pair[0]], &lowered.operators[pair[1]]];
        if spec.pairs(&first.name, &second.name) && second.reads[0] == Some(first.write) {
            let taken = kept.iter().any(|(at, _)| *at == pair[0]);
            if !taken || matches!(spec.blocks, Blocks::Named(_)) {
                kept.push((pair[1], first.reads[0].into_iter().chain([first.write]).collect()));
            }
        }
    }
    for (at, buffers) in kept {
        lowered.operators[at].keeps = buffers;
    }
    Ok(())
}

/// Refuses layers that the plan names although they run only if a switch chooses them.
fn outside_branches(spec: &LearningPlan, lowered: &Lowered) -> Result<()> {
    let named = spec.layers.iter().flatten().chain(spec.layer.iter().map(|l| &l.name));
    let inside = |name: &&String| {
        let mut own = lowered.operators.iter().filter(|op| op.name == **name);
        own.any(|op| !op.branches.is_empty())
    };
    match named.into_iter().find(inside) {
        Some(name) => wrong(format!(
            "layer `{name}` runs only if a switch chooses it; a layer that learns must run for every sample"
        )),
        None => Ok(()),
    }
}

/// Encoded learning records, and the report on them.
///
/// # Errors
/// [`Error::Learning`] if the plan does not fit the network; [`Error::Format`] if the format cannot hold the records.
pub fn records(
    spec: &LearningPlan,
    graph: &Graph,
    lowered: &mut Lowered,
    plan: &Plan,
) -> Result<(Vec<u8>, LearningReport)> {
    spec.check()?;
    outside_branches(spec, lowered)?;
    let mut constants = std::mem::take(&mut lowered.blobs);
    let result = with_blobs(spec, graph, lowered, plan, &mut constants);
    lowered.blobs = constants;
    result
}

fn wrong<T>(message: String) -> Result<T> {
    Err(Error::Learning(message))
}

fn with_blobs(
    spec: &LearningPlan,
    graph: &Graph,
    lowered: &Lowered,
    plan: &Plan,
    constants: &mut Blobs,
) -> Result<(Vec<u8>, LearningReport)> {
    let all = candidates(spec, graph, lowered, plan);
    let chosen = choose(spec, &all)?;
    let last = all.iter().rfind(|c| !c.shape.norm);
    let last = last.ok_or_else(|| Error::Learning("the network has no operator that can learn".into()))?;
    let scores = last.shape.geometry.pixels() == 1;
    let classes = match spec.learns_normal() || spec.learns_targets() {
        // Whatever the network computes: no layer learns classes, of which a file has two or more.
        true => Some(ANOMALY_CLASSES as u16),
        false => u16::try_from(last.shape.geometry.out_c).ok().filter(|&c| c >= 2 && scores),
    };
    let Some(classes) = classes else {
        return wrong(format!("the last layer, `{}`, computes no scores of classes", last.name()));
    };
    let pairs = pairs(spec, &chosen)?;
    let answers = match spec.learns_targets() {
        true => targets(graph)?,
        false => classes,
    };
    let head = head::resolve(spec, &all, answers)?;
    let start = plan.arena_bytes.next_multiple_of(8);
    let mut places = Places { end: start.into() };
    // Sizes first, since the workspace comes before what is learned.
    let mut layers = Vec::new();
    for (i, c) in chosen.iter().enumerate() {
        let error_source = match pairs.contains(&i) {
            true => ErrorSource::Next,
            false => error_source(spec, c, c.position == last.position, constants)?,
        };
        layers.push(layer(spec, c, c.position == last.position, error_source)?);
    }
    let words = workspace::words(&chosen, &layers, start);
    let mut workspace = workspace_bytes(classes, words);
    places.next(workspace)?;
    let features_at = match &head {
        Some(head) => places.next(4 * (head.features as u64 + u64::from(head.classes)))?,
        None => 0,
    };
    workspace = places.end - u64::from(start);
    let learned = places.next(PROGRESS_BYTES as u64)?;
    for (c, layer) in chosen.iter().zip(&mut layers) {
        place(spec, c, layer, classes, &mut places)?;
    }
    let weights = places.end - u64::from(learned);
    let normalizer =
        spec.normalizer().map(|s| normalizer(spec, s, graph, constants, &mut places)).transpose()?;
    let normalizer_bytes = places.end - u64::from(learned) - weights;
    let classifier = head.as_ref().map(|h| h.place(features_at, &mut places)).transpose()?;
    let head_bytes = places.end - u64::from(learned) - weights - normalizer_bytes;
    let steps = spec.steps;
    let records = LearnHead {
        layers: u8::try_from(layers.len()).or_else(|_| wrong("more than 255 layers learn".into()))?,
        classes,
        arena_bytes: places.next(0)?,
        workspace: start,
        learned,
        seed: spec.seed,
        rate: spec.rate,
        schedule: match spec.schedule {
            ScheduleName::Constant => Schedule::Constant,
            ScheduleName::Linear => Schedule::Linear { steps },
            ScheduleName::Cosine => Schedule::Cosine { steps },
            ScheduleName::Inverse => Schedule::Inverse { half: steps },
        },
        warm: spec.warm,
        normalised: spec.normalised,
        momentum: (spec.momentum * 32768.0).round().min(32767.0) as u16,
        noise: spec.noise,
        normalizer,
        classifier,
        begun: None,
    };
    let taps: &[Tap] = head.as_ref().map_or(&[], |h| &h.taps);
    let hidden = layers.iter().find_map(|l| match &l.error_source {
        ErrorSource::Local { rule, .. } => Some(rule.name()),
        ErrorSource::Output | ErrorSource::Next => None,
    });
    let name = |i: usize| chosen[i].name().to_owned();
    let report = LearningReport {
        train_arena_bytes: records.arena_bytes.into(),
        train_workspace_bytes: workspace,
        train_weights_bytes: weights,
        train_normalizer_bytes: normalizer_bytes,
        train_head_bytes: head_bytes,
        rule: hidden.unwrap_or("head-only"),
        learning_layers: chosen.iter().map(|c| c.name().to_owned()).collect(),
        blocks: pairs.iter().map(|&i| [name(i), name(i + 1)]).collect(),
        head: head.as_ref().map(|h| h.name),
        features: head.as_ref().map_or(0, |h| h.features),
        classes: head.as_ref().map_or(classes, |h| h.classes),
        recipe: spec.recipe.map(|_| spec.summary()),
        better: None,
    };
    Ok((encode(&records, &layers, taps)?, report))
}

/// Number of elements of the first output, for a head that learns real targets.
fn targets(graph: &Graph) -> Result<u16> {
    let elements: usize = graph.outputs.first().map_or(0, |&v| graph.value(v).shape.iter().product());
    match u16::try_from(elements) {
        Ok(elements) if (1..=MAX_OUTPUTS).contains(&usize::from(elements)) => Ok(elements),
        _ => wrong(format!(
            "the first output has {elements} numbers, but `head` = \"regression\" learns 1 to {MAX_OUTPUTS}"
        )),
    }
}

/// Learning records as encoded in a file.
///
/// # Errors
/// A record is longer than the format allows.
pub fn encode(head: &LearnHead, layers: &[LearnLayer], taps: &[Tap]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    crate::write::append(&mut out, |b| codec::encode(head, b))?;
    for layer in layers {
        crate::write::append(&mut out, |b| codec::encode(layer, b))?;
    }
    for tap in taps {
        crate::write::append(&mut out, |b| codec::encode(tap, b))?;
    }
    Ok(out)
}

/// Bytes of the layer's local head, if it has one.
fn table_bytes(c: &Candidate<'_>, layer: &LearnLayer, classes: u16) -> Option<u64> {
    let ErrorSource::Local { projection: TargetProjectionRepr::Head { .. }, grid, .. } = layer.error_source
    else {
        return None;
    };
    let features = PoolingGrid::new(grid.into(), c.shape.geometry.output, c.shape.geometry.out_c).features();
    Some(4 * features as u64 * u64::from(classes))
}

/// Places the memory of a layer.
fn place(
    spec: &LearningPlan,
    c: &Candidate<'_>,
    layer: &mut LearnLayer,
    classes: u16,
    places: &mut Places,
) -> Result<()> {
    layer.trainable = places.next(c.shape.trainable_bytes(layer.part))?;
    if let Format::I16 { fine } = &mut layer.format {
        *fine = places.next(c.shape.geometry.weights() as u64)?;
    }
    let table = table_bytes(c, layer, classes);
    if let (ErrorSource::Local { projection: TargetProjectionRepr::Head { at, .. }, .. }, Some(bytes)) =
        (&mut layer.error_source, table)
    {
        *at = places.next(bytes)?;
    }
    if spec.momentum > 0.0 {
        layer.velocity = places.next(c.shape.velocity_bytes(layer.part))?;
    }
    Ok(())
}

/// The record of one layer, whose memory is not placed yet.
fn layer(
    spec: &LearningPlan,
    c: &Candidate<'_>,
    output: bool,
    error_source: ErrorSource,
) -> Result<LearnLayer> {
    let own = spec.of_layer(c.name());
    let whole = c.shape.is_whole();
    let part = match own.part.unwrap_or(spec.part) {
        _ if c.shape.norm => TrainablePart::All,
        PartName::All => TrainablePart::All,
        PartName::Bias => TrainablePart::Bias,
        PartName::Scale => TrainablePart::Scale,
        PartName::LowRank => {
            let plain = !c.shape.folded && c.shape.geometry.order == (Order::Grouped { groups: 1 });
            if !plain {
                return wrong(format!(
                    "layer `{}` cannot have a low-rank adaptor, since it is neither a convolution without groups \
                     nor fully \
                     connected: set `part = \"scale\"` for it, or leave it out",
                    c.name()
                ));
            }
            TrainablePart::LowRank { rank: own.rank.unwrap_or(spec.rank) }
        }
    };
    // A recurrent layer cannot learn as int16, so its default is int8; int16 for it by name is an error.
    let usual = if c.shape.sequence.is_some() { Weights::Int8 } else { spec.weights };
    let format = match (whole, part, own.weights.unwrap_or(usual)) {
        (false, ..) => Format::F32,
        (true, TrainablePart::All, Weights::Int16) => Format::I16 { fine: 0 },
        (true, ..) => Format::I8,
    };
    check_special(spec, c, output, &format, part)?;
    let scales = if whole { [c.input_scale, c.operator.scale] } else { [0.0; 2] };
    let op = u16::try_from(c.position)
        .or_else(|_| wrong("a layer that learns is beyond operator 65,535".into()))?;
    let usual = match spec.convolution_rate {
        _ if output => 1.0,
        Some(rate) if c.shape.geometry.pixels() > 1 => rate,
        _ => spec.hidden_rate,
    };
    let rate = own.rate.unwrap_or(usual);
    Ok(LearnLayer { op, part, error_source, format, rate, trainable: 0, velocity: 0, scales })
}

/// Refuses what recurrent and sparse layers cannot do.
fn check_special(
    spec: &LearningPlan,
    c: &Candidate<'_>,
    output: bool,
    format: &Format,
    part: TrainablePart,
) -> Result<()> {
    let sparse = matches!(c.shape.geometry.order, Order::Sparse(_));
    let reason = match c.shape.sequence {
        Some(_) if output => "its states are no scores of classes: add a fully connected layer after it",
        Some(_) if part != TrainablePart::All => {
            "a recurrent layer learns as a whole: set `part = \"all\"` for it"
        }
        Some(_) if matches!(format, Format::I16 { .. }) => {
            "its weights learn as int8 or float32: set `weights = \"int8\"` for it"
        }
        None if sparse && spec.momentum > 0.0 => "sparse weights learn without momentum: set `momentum = 0`",
        _ => return Ok(()),
    };
    wrong(format!("layer `{}`: {reason}", c.name()))
}

/// The source of a layer's error.
fn error_source(
    spec: &LearningPlan,
    c: &Candidate<'_>,
    output: bool,
    constants: &mut Blobs,
) -> Result<ErrorSource> {
    if output {
        return Ok(ErrorSource::Output);
    }
    let own = spec.of_layer(c.name());
    let whole = c.shape.is_whole();
    let grid = own.grid.unwrap_or(spec.grid);
    let features = PoolingGrid::new(grid.into(), c.shape.geometry.output, c.shape.geometry.out_c).features();
    let wanted = own.projection.unwrap_or(spec.projection);
    let names_probe = matches!(wanted, TargetProjectionName::Probe | TargetProjectionName::ProbeHead);
    let probe = spec.probes.get(&(c.position as u16)).filter(|_| names_probe);
    let learns = wanted == TargetProjectionName::Head || wanted == TargetProjectionName::ProbeHead && !whole;
    let usual = match probe {
        // A local head holds the probe's weights as real numbers, with its scale applied.
        Some(_) if learns => 1.0,
        Some(probe) => probe.scale,
        None => 1.0 / (features as f32).sqrt(),
    };
    let scale = own.scale.or(spec.scale).unwrap_or(usual);
    let rule = own.rule.unwrap_or(spec.rule).0.with_scale(scale);
    let seed = spec.seed.wrapping_mul(offshoot::kernels::GOLDEN).wrapping_add(c.position as u32);
    let mut exported = || probe.map(|p| constants.add(blobs::bytes(&p.table)).0);
    let projection = match wanted {
        // Before probes are trained, any projection will do.
        TargetProjectionName::Probe => match exported() {
            Some(blob) => TargetProjectionRepr::Probe { blob },
            None => TargetProjectionRepr::Signs { seed },
        },
        TargetProjectionName::ProbeHead if whole => match exported() {
            Some(blob) => TargetProjectionRepr::Probe { blob },
            None => TargetProjectionRepr::Signs { seed },
        },
        TargetProjectionName::Signs => TargetProjectionRepr::Signs { seed },
        TargetProjectionName::Hadamard => TargetProjectionRepr::Hadamard,
        TargetProjectionName::Uniform => TargetProjectionRepr::Uniform { seed },
        TargetProjectionName::Head | TargetProjectionName::ProbeHead => {
            TargetProjectionRepr::Head { at: 0, rate: 1.0, from: exported().zip(probe.map(|p| p.scale)) }
        }
    };
    let codes_fit = matches!(
        projection,
        TargetProjectionRepr::Signs { .. }
            | TargetProjectionRepr::Hadamard
            | TargetProjectionRepr::Probe { .. }
    );
    if whole && !(rule.is_for_int8() && codes_fit) {
        let rules: Vec<&str> =
            LocalRule::ALL.into_iter().filter(|r| r.is_for_int8()).map(LocalRule::name).collect();
        return wrong(format!(
            "layer `{}` is int8: its `rule` can be {}, its `projection` signs, hadamard or probe",
            c.name(),
            rules.join(" or ")
        ));
    }
    if learns && !matches!(rule, LocalRule::CrossEntropy { .. }) {
        return wrong(format!(
            "layer `{}`: a local head (`projection = \"head\"`) needs `rule = \"cross-entropy\"`",
            c.name()
        ));
    }
    Ok(ErrorSource::Local { rule, projection, grid })
}

/// The record of the input normaliser, with its memory placed.
fn normalizer(
    spec: &LearningPlan,
    own: NormalizerPlan,
    graph: &Graph,
    constants: &mut Blobs,
    places: &mut Places,
) -> Result<InputNormalizerRepr> {
    let [input] = graph.inputs[..] else {
        return wrong("the input normaliser (`normalizer`) needs a network with one input".into());
    };
    let numbers: usize = graph.value(input).shape.iter().product();
    let Some(Statistics { mean, energy }) = &spec.statistics else {
        return wrong(
            "the input normaliser (`normalizer`) starts with statistics of calibration samples: give --calib X.npy"
                .into(),
        );
    };
    if mean.len() != numbers || !energy.is_finite() || *energy <= 0.0 {
        return wrong("the input normaliser (`normalizer`) needs calibration samples that vary".into());
    }
    Ok(InputNormalizerRepr {
        blob: constants.add(blobs::floats(mean)).0,
        energy: *energy,
        trust: own.trust,
        steps: own.steps,
        at: places.next(normalizer_bytes(numbers))?,
    })
}

/// Operators that can learn, in execution order. Normalisations are included if the plan names them or lets scales
/// learn.
fn candidates<'l>(
    spec: &LearningPlan,
    graph: &Graph,
    lowered: &'l Lowered,
    plan: &Plan,
) -> Vec<Candidate<'l>> {
    let mut scales: Vec<f32> = vec![0.0; lowered.buffers.len()];
    for (&v, &buffer) in graph.inputs.iter().zip(&lowered.inputs) {
        scales[buffer] = crate::write::numbers(graph.value(v)).0;
    }
    let mut all = Vec::new();
    for (position, &step) in plan.order.iter().enumerate() {
        let operator = &lowered.operators[step];
        let named = spec.layers.iter().flatten().any(|n| *n == operator.name);
        let norm = matches!(operator.record, Record::LayerNorm(_));
        // A layer of a branch does not see every sample.
        let always = operator.branches.is_empty();
        let shape = Shape::of(&operator.record).ok().filter(|_| always);
        let input_scale = operator.reads[0].map_or(0.0, |b| scales[b]);
        if let Some(shape) =
            shape.filter(|_| !norm || named || spec.part_of(&operator.name) == PartName::Scale)
        {
            all.push(Candidate { position, operator, shape, input_scale });
        }
        scales[operator.write] = operator.scale;
    }
    all
}

/// The candidates that the plan names, or all of them.
fn choose<'c, 'l>(spec: &LearningPlan, all: &'c [Candidate<'l>]) -> Result<Vec<&'c Candidate<'l>>> {
    let names = || all.iter().map(Candidate::name).collect::<Vec<_>>().join(", ");
    let paired: Vec<&String> = match &spec.blocks {
        Blocks::Named(pairs) => pairs.iter().flatten().collect(),
        Blocks::All(_) => Vec::new(),
    };
    let named = spec.layers.iter().flatten().chain(spec.layer.iter().map(|l| &l.name)).chain(paired);
    for name in named {
        if name != LAST && !all.iter().any(|c| c.name() == name) {
            return wrong(format!("no layer `{name}` can learn; these can: {}", names()));
        }
    }
    let last = all.iter().rfind(|c| !c.shape.norm).map(|c| c.position);
    let is_chosen = |c: &&Candidate<'_>| spec.wants(c.name(), Some(c.position) == last);
    let chosen: Vec<_> = all.iter().filter(is_chosen).collect();
    if chosen.is_empty() && spec.head.is_none() {
        return wrong(format!("no layer learns and there is no head; these layers can learn: {}", names()));
    }
    Ok(chosen)
}

/// Indices of the chosen layers that are first in a block of two.
fn pairs(spec: &LearningPlan, chosen: &[&Candidate<'_>]) -> Result<Vec<usize>> {
    let mut firsts: Vec<usize> = Vec::new();
    for i in 0..chosen.len().saturating_sub(1) {
        let (first, second) = (chosen[i], chosen[i + 1]);
        let follows = second.operator.reads[0] == Some(first.operator.write);
        let fits = follows && first.shape.in_blocks() && second.shape.in_blocks();
        let parts = matches!(spec.part_of(second.name()), PartName::All | PartName::Bias);
        let free = i == 0 || firsts.last() != Some(&(i - 1));
        if spec.pairs(first.name(), second.name()) && fits && parts && free {
            firsts.push(i);
        }
    }
    let Blocks::Named(wanted) = &spec.blocks else { return Ok(firsts) };
    for [a, b] in wanted {
        if !firsts.iter().any(|&i| chosen[i].name() == a && chosen[i + 1].name() == b) {
            return wrong(format!(
                "`{a}` and `{b}` cannot be a block: both must learn, the second must read the first one's output \
                 directly and \
                 learn its weights or biases, no layer that learns may run between them, and neither may be in \
                 another block"
            ));
        }
    }
    Ok(firsts)
}

impl LearningPlan {
    /// Whether two layers learn by one rule, if they can.
    fn pairs(&self, first: &str, second: &str) -> bool {
        match &self.blocks {
            Blocks::All(all) => *all,
            Blocks::Named(pairs) => pairs.iter().any(|[a, b]| a == first && b == second),
        }
    }
}
