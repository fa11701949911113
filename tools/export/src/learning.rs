//! What is to learn on the device: `plan.toml` ([`LearningPlan`]) to the learning records of a file, and the memory of
//! training beside that of inference.
//!
//! All fields have defaults; an empty plan lets every convolution and fully connected layer learn by the default rule.
//! ```toml
//! rate = 0.3             # learning rate
//! hidden_rate = 0.03     # that of layers before the last, relative to it
//! normalised = true      # divided by one plus the energy of the input
//! schedule = "linear"    # constant, linear, cosine, inverse; over `steps`
//! steps = 1000
//! layers = ["dense_1"]   # names of ONNX nodes, or "last"; all if absent
//! rule = "cross-entropy" # cross-entropy, squared, absolute, drtp
//! codes = "signs"        # signs, hadamard, uniform, head (float32 only), probe (trained on calibration samples)
//! scale = 0.1            # of scores or targets; one over the root of the number of features if absent
//! grid = 4               # features are means over a raster of 4 × 4
//! weights = "int8"       # int8, int16 (of int8 networks; recurrent layers have no int16 and learn as int8)
//! part = "all"           # all, bias
//! seed = 1
//! [[layer]]              # other values for one layer
//! name = "conv_1"
//! rate = 0.5             # relative to the rate above
//! ```

use std::collections::HashMap;

use offshoot::format::codec;
use offshoot::format::learn::{CodesRepr, Format, LearnHead, LearnLayer, Part, Teacher};
use offshoot::format::record::{Arith, Record, Recurrent, RecurrentArith, Returns, Walk};
use offshoot::graph::learn::{MAX_GRID, record_room_words, room_bytes};
use offshoot::learn::grid::Grid;
use offshoot::learn::layers::geometry::Geometry;
use offshoot::learn::{Rule, Schedule};
use offshoot_ir::Graph;
use offshoot_plan::Plan;
use serde::{Deserialize, Serialize};

use crate::blobs::{self, Blobs};
use crate::error::{Error, Result};
use crate::lower::{Lowered, Operator};
use crate::probes::Probe;

/// A `plan.toml`. The module says what the fields mean.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct LearningPlan {
    pub rate: f32,
    pub hidden_rate: f32,
    pub normalised: bool,
    pub schedule: Course,
    pub steps: u32,
    pub layers: Option<Vec<String>>,
    pub rule: RuleName,
    pub codes: CodesName,
    pub scale: Option<f32>,
    pub grid: u8,
    pub weights: Weights,
    pub part: PartName,
    pub seed: u32,
    pub layer: Vec<LayerPlan>,
    /// Probes by the operator's position, if they have been trained already.
    #[serde(skip)]
    pub probes: HashMap<u16, Probe>,
}

/// Other values for one layer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct LayerPlan {
    pub name: String,
    pub rate: Option<f32>,
    pub rule: Option<RuleName>,
    pub codes: Option<CodesName>,
    pub scale: Option<f32>,
    pub grid: Option<u8>,
    pub weights: Option<Weights>,
    pub part: Option<PartName>,
}

/// How the rate falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Course {
    Constant,
    Linear,
    Cosine,
    Inverse,
}

/// Which error a layer learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum RuleName {
    CrossEntropy,
    Squared,
    Absolute,
    Drtp,
}

/// Where codes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum CodesName {
    Signs,
    Hadamard,
    Uniform,
    Head,
    Probe,
}

/// Format of int8 networks' weights while they learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Weights {
    Int8,
    Int16,
}

/// What of a layer learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum PartName {
    All,
    Bias,
}

impl Default for LearningPlan {
    fn default() -> Self {
        Self {
            rate: 0.3,
            hidden_rate: 0.03,
            normalised: true,
            schedule: Course::Constant,
            steps: 1000,
            layers: None,
            rule: RuleName::CrossEntropy,
            codes: CodesName::Signs,
            scale: None,
            grid: 4,
            weights: Weights::Int16,
            part: PartName::All,
            seed: 1,
            layer: Vec::new(),
            probes: HashMap::new(),
        }
    }
}

impl LearningPlan {
    /// Reads a `plan.toml`.
    ///
    /// # Errors
    /// [`Error::Learning`] with the line and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|e| Error::Learning(e.to_string().trim().to_owned()))
    }

    /// Whether the layer of this name, which may be the last, is to learn.
    pub fn wants(&self, name: &str, last: bool) -> bool {
        let named = |n: &String| n == name || last && n == LAST;
        self.layers.as_ref().is_none_or(|names| names.iter().any(named))
    }
}

/// In `layers`: the layer that gives the scores of the classes.
pub const LAST: &str = "last";

/// What learning takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LearningReport {
    /// Bytes of arena that learning needs, inference included.
    pub train_arena_bytes: u64,
    /// Of it what is neither inference nor weights: the room of a step.
    pub train_room_bytes: u64,
    /// Of it weights: overlays, lower bytes of int16, heads that learn.
    pub train_weights_bytes: u64,
    /// Rule of hidden layers.
    pub rule: &'static str,
    /// Names of the layers that learn.
    pub learning_layers: Vec<String>,
}

/// Name of a rule.
pub fn rule_name(rule: &Rule) -> &'static str {
    match rule {
        Rule::CrossEntropy { .. } => "tpsgd-cross-entropy",
        Rule::Squared { .. } => "tpsgd-squared",
        Rule::Absolute { .. } => "tpsgd-absolute",
        Rule::Drtp => "drtp",
    }
}

/// An operator that can learn.
struct Candidate<'l> {
    position: usize,
    operator: &'l Operator,
    geometry: Geometry,
    arith: Arith,
    input_scale: f32,
}

/// Places learning memory, one piece behind the other.
struct Places {
    end: u64,
    weights: u64,
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

    fn weights(&mut self, bytes: u64) -> Result<u32> {
        self.weights += bytes;
        self.next(bytes)
    }
}

/// The learning records, encoded, and what they take.
pub fn records(
    wish: &LearningPlan,
    graph: &Graph,
    lowered: &mut Lowered,
    plan: &Plan,
) -> Result<(Vec<u8>, LearningReport)> {
    let rates = wish.layer.iter().filter_map(|l| l.rate).chain([wish.rate, wish.hidden_rate]);
    if let Some(rate) = rates.into_iter().find(|r| !r.is_finite() || *r < 0.0) {
        return Err(Error::Learning(format!("a rate of {rate}: rates are 0 or more")));
    }
    let mut constants = std::mem::take(&mut lowered.blobs);
    let result = with_blobs(wish, graph, lowered, plan, &mut constants);
    lowered.blobs = constants;
    result
}

fn with_blobs(
    wish: &LearningPlan,
    graph: &Graph,
    lowered: &Lowered,
    plan: &Plan,
    constants: &mut Blobs,
) -> Result<(Vec<u8>, LearningReport)> {
    let all = candidates(graph, lowered, plan);
    let chosen = choose(wish, &all)?;
    let last = all.last().ok_or_else(|| Error::Learning("no operator of this network can learn".into()))?;
    let classes = u16::try_from(last.geometry.out_c).ok().filter(|&c| c >= 2 && last.geometry.pixels() == 1);
    let classes = classes.ok_or_else(|| {
        Error::Learning(format!("the last layer, `{}`, gives no scores of classes", last.operator.name))
    })?;
    let words = |c: &&Candidate<'_>| record_room_words(&c.operator.record, &c.geometry, &c.arith);
    let words = chosen.iter().map(words).max().unwrap_or(1);
    let room = room_bytes(classes, words);
    let start = plan.arena_bytes.next_multiple_of(8);
    let mut places = Places { end: u64::from(start) + room, weights: 0 };
    let mut layers = Vec::new();
    for c in &chosen {
        layers.push(layer(wish, c, c.position == last.position, classes, &mut places, constants)?);
    }
    let steps = wish.steps;
    let head = LearnHead {
        layers: u8::try_from(layers.len())
            .map_err(|_| Error::Learning("more than 255 layers learn".into()))?,
        classes,
        arena_bytes: places.next(0)?,
        room: start,
        seed: wish.seed,
        rate: wish.rate,
        schedule: match wish.schedule {
            Course::Constant => Schedule::Constant,
            Course::Linear => Schedule::Linear { steps },
            Course::Cosine => Schedule::Cosine { steps },
            Course::Inverse => Schedule::Inverse { half: steps },
        },
        normalised: wish.normalised,
    };
    let mut out = Vec::new();
    crate::write::append(&mut out, |b| codec::encode(&head, b))?;
    for layer in &layers {
        crate::write::append(&mut out, |b| codec::encode(layer, b))?;
    }
    let hidden = layers.iter().find_map(|l| match &l.teacher {
        Teacher::Local { rule, .. } => Some(rule_name(rule)),
        Teacher::Output => None,
    });
    let report = LearningReport {
        train_arena_bytes: head.arena_bytes.into(),
        train_room_bytes: room,
        train_weights_bytes: places.weights,
        rule: hidden.unwrap_or("head-only"),
        learning_layers: chosen.iter().map(|c| c.operator.name.clone()).collect(),
    };
    Ok((out, report))
}

/// The record of one layer, its memory placed.
fn layer(
    wish: &LearningPlan,
    c: &Candidate<'_>,
    output: bool,
    classes: u16,
    places: &mut Places,
    constants: &mut Blobs,
) -> Result<LearnLayer> {
    let own = wish.layer.iter().find(|l| l.name == c.operator.name).cloned().unwrap_or_default();
    let whole = matches!(c.arith, Arith::I8 { .. });
    let overlay = places.weights(blob_bytes(c))?;
    // A recurrent layer has no lower bytes: int8 unless it is told otherwise by name, which is an error.
    let recurrent = matches!(c.operator.record, Record::Recurrent(_));
    let usual = if recurrent { Weights::Int8 } else { wish.weights };
    let format = match (whole, own.weights.unwrap_or(usual)) {
        (false, _) => Format::F32,
        (true, Weights::Int8) => Format::I8,
        (true, Weights::Int16) => Format::I16 { fine: places.weights(c.geometry.weights() as u64)? },
    };
    let teacher = if output {
        Teacher::Output
    } else {
        let grid = own.grid.unwrap_or(wish.grid).clamp(1, MAX_GRID);
        let features = Grid::new(grid.into(), c.geometry.output, c.geometry.out_c).features();
        let names_probe = own.codes.unwrap_or(wish.codes) == CodesName::Probe;
        let probe = wish.probes.get(&(c.position as u16)).filter(|_| names_probe);
        let usual = probe.map_or(1.0 / (features as f32).sqrt(), |p| p.scale);
        let scale = own.scale.or(wish.scale).unwrap_or(usual);
        let rule = match own.rule.unwrap_or(wish.rule) {
            RuleName::CrossEntropy => Rule::CrossEntropy { scale },
            RuleName::Squared => Rule::Squared { scale },
            RuleName::Absolute => Rule::Absolute { scale },
            RuleName::Drtp => Rule::Drtp,
        };
        let seed = wish.seed.wrapping_mul(0x9e37_79b9).wrapping_add(c.position as u32);
        let codes = match own.codes.unwrap_or(wish.codes) {
            CodesName::Probe => match probe {
                Some(probe) => CodesRepr::Probe { blob: constants.add(blobs::bytes(&probe.table)).0 },
                // Before they are trained: any codes do.
                None => CodesRepr::Signs { seed },
            },
            CodesName::Signs => CodesRepr::Signs { seed },
            CodesName::Hadamard => CodesRepr::Hadamard,
            CodesName::Uniform => CodesRepr::Uniform { seed },
            CodesName::Head => {
                let at = places.weights(4 * features as u64 * u64::from(classes))?;
                CodesRepr::Head { at, rate: 1.0 }
            }
        };
        let rule_fits = matches!(rule, Rule::CrossEntropy { .. } | Rule::Drtp);
        let codes_fit =
            matches!(codes, CodesRepr::Signs { .. } | CodesRepr::Hadamard | CodesRepr::Probe { .. });
        if whole && !(rule_fits && codes_fit) {
            return Err(Error::Learning(format!(
                "layer `{}` is int8: rules are cross-entropy and drtp there, codes signs and hadamard",
                c.operator.name
            )));
        }
        Teacher::Local { rule, codes, grid }
    };
    let part = match own.part.unwrap_or(wish.part) {
        PartName::All => Part::All,
        PartName::Bias => Part::Bias,
    };
    check_recurrent(c, output, &format, part)?;
    let scales = if whole { [c.input_scale, c.operator.scale] } else { [0.0; 2] };
    let op = u16::try_from(c.position).map_err(|_| Error::Learning("too many operators".into()))?;
    let usual = if output { 1.0 } else { wish.hidden_rate };
    Ok(LearnLayer { op, part, teacher, format, rate: own.rate.unwrap_or(usual), overlay, scales })
}

/// Convolutions and fully connected layers of one image, in the order in which they run.
fn candidates<'l>(graph: &Graph, lowered: &'l Lowered, plan: &Plan) -> Vec<Candidate<'l>> {
    let mut scales: Vec<f32> = vec![0.0; lowered.buffers.len()];
    for (&v, &buffer) in graph.inputs.iter().zip(&lowered.inputs) {
        scales[buffer] = crate::write::numbers(graph.value(v)).0;
    }
    let mut all = Vec::new();
    for (position, &step) in plan.order.iter().enumerate() {
        let operator = &lowered.operators[step];
        let found = match &operator.record {
            Record::Conv2d(r) if r.n == 1 => Geometry::conv(r).map(|g| (g, r.arith)),
            Record::Depthwise(r) if r.n == 1 => Geometry::depthwise(r).map(|g| (g, r.arith)),
            Record::FullyConnected(r) => Some((Geometry::fully_connected(r), r.arith)),
            Record::Recurrent(r) if r.kept.is_none() && r.returns != Returns::State => Some(sequence(r)),
            Record::ConvBlocked(r) if r.n == 1 => {
                let per_channel = r.walk != Walk::VectorOneScale;
                let arith = Arith::I8 { in_zp: r.in_zp, out_zp: r.out_zp, per_channel, clamp: r.clamp };
                Geometry::blocked(r).map(|g| (g, arith))
            }
            Record::DepthwisePlanar(r) if r.n == 1 => {
                let arith = Arith::I8 { in_zp: r.in_zp, out_zp: r.out_zp, per_channel: true, clamp: r.clamp };
                Geometry::planar(r).map(|g| (g, arith))
            }
            _ => None,
        };
        let input_scale = operator.reads[0].map_or(0.0, |b| scales[b]);
        if let Some((geometry, arith)) = found {
            all.push(Candidate { position, operator, geometry, arith, input_scale });
        }
        scales[operator.write] = operator.scale;
    }
    all
}

/// A recurrent layer as a column of steps; the runtime resolves it in the same way.
fn sequence(r: &Recurrent) -> (Geometry, Arith) {
    let outputs = if r.returns == Returns::Sequence { r.steps } else { 1 };
    let geometry = Geometry::column([r.steps, outputs].map(usize::from), r.inputs.into(), r.units.into());
    let arith = match r.arith {
        RecurrentArith::F32 => Arith::F32 { clamp: None },
        RecurrentArith::I8 { in_zp, out_zp, .. } => {
            Arith::I8 { in_zp, out_zp, per_channel: true, clamp: None }
        }
    };
    (geometry, arith)
}

/// What a recurrent layer cannot do.
fn check_recurrent(c: &Candidate<'_>, output: bool, format: &Format, part: Part) -> Result<()> {
    let Record::Recurrent(_) = c.operator.record else { return Ok(()) };
    let name = &c.operator.name;
    let reason = if output {
        "its states are no scores of classes: put a fully connected layer behind it"
    } else if part == Part::Bias {
        "it learns as a whole, not its biases alone"
    } else if matches!(format, Format::I16 { .. }) {
        "its weights learn as int8 or float32: set `weights = \"int8\"` for it"
    } else {
        return Ok(());
    };
    Err(Error::Learning(format!("recurrent layer `{name}`: {reason}")))
}

/// The candidates that the plan names, or all.
fn choose<'c, 'l>(wish: &LearningPlan, all: &'c [Candidate<'l>]) -> Result<Vec<&'c Candidate<'l>>> {
    let names = || all.iter().map(|c| c.operator.name.as_str()).collect::<Vec<_>>().join(", ");
    for name in wish.layers.iter().flatten().chain(wish.layer.iter().map(|l| &l.name)) {
        if name != LAST && !all.iter().any(|c| c.operator.name == *name) {
            return Err(Error::Learning(format!("no layer `{name}` can learn; there are: {}", names())));
        }
    }
    let last = all.last().map(|c| c.position);
    let is_chosen = |c: &&Candidate<'_>| wish.wants(&c.operator.name, Some(c.position) == last);
    let chosen: Vec<_> = all.iter().filter(is_chosen).collect();
    if chosen.is_empty() {
        return Err(Error::Learning(format!("no layer is to learn; there are: {}", names())));
    }
    Ok(chosen)
}

fn blob_bytes(c: &Candidate<'_>) -> u64 {
    if let Record::Recurrent(r) = &c.operator.record {
        let (units, rows) = (u64::from(r.units), r.kind.gates() as u64 * u64::from(r.units));
        let (bias, weights) =
            (4 * r.kind.biases() as u64 * units, [rows * u64::from(r.inputs), rows * units]);
        return bias
            + match r.arith {
                RecurrentArith::F32 => 4 * (weights[0] + weights[1]),
                RecurrentArith::I8 { .. } => {
                    8 * rows + weights[0].next_multiple_of(4) + weights[1].next_multiple_of(4)
                }
            };
    }
    let (channels, weights) = (c.geometry.out_c as u64, c.geometry.places() as u64);
    match c.arith {
        Arith::F32 { .. } => 4 * (channels + weights),
        Arith::I8 { per_channel, .. } => {
            let scales = if per_channel { channels } else { 1 };
            4 * channels + 4 * scales + scales.next_multiple_of(4) + weights
        }
    }
}
