//! Low-rank attention (LAMA; Mehta, Rangwala and Ramakrishnan 2019): each head scores tokens by a bilinear form of
//! rank one,
//!
//! `e_{h,t} = tanh((p_hᵀ c)(q_hᵀ x_t))`, normalised to length one over the heads, `a_h = softmax_t(e_h)`, and
//! concatenates the heads' means `a_h X`.
//!
//! It has `2·d·h` parameters where multi-head attention has `4·d²`, and returns one vector for all tokens: attention
//! and pooling in one. It therefore cannot replace a single attention block in the middle of a network, only
//! everything between the tokens and their mean: [`blocks`] finds such stretches, [`replace`] substitutes low-rank
//! attention and a fully connected layer, [`distil`] trains these to return the same vector. Blocks whose tokens are
//! read individually stay; their projections are fully connected layers, which [`super::split`] handles.

use offshoot_ir::{
    Activation, BinaryKind, DType, Data, Graph, Node, Op, PoolKind, ReduceKind, UnaryKind, Value, ValueId,
};
use offshoot_train::{Dataset, Feature, FitOptions, Target, Teacher, View, fit};

use crate::prune::Progress;
use crate::prune::tune::Watch;
use crate::{Error, Result};

/// The context vector `c`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Context {
    /// The mean of the tokens.
    #[default]
    Mean,
    /// A learned vector: it is merged with the `p_h` into the `q_h`.
    Learned,
}

/// Added to the squared length over the heads, because the root has no slope at zero.
const EPSILON: f32 = 1e-6;
/// Smallest length to divide by: a few steps of an int8 grid, which contains zero.
const LEAST: f32 = 1.0 / 32.0;

/// Appends low-rank attention over the tokens `x` `[1, t, d]`; returns `[1, heads · d]`. `name` prefixes the names of
/// the new values, `seed` determines the weights (normal, variance 1 / d).
///
/// # Errors
/// `x` has a different shape, or `heads` is 0.
pub fn attention(
    graph: &mut Graph,
    x: ValueId,
    name: &str,
    heads: usize,
    context: Context,
    seed: u64,
) -> Result<ValueId> {
    let &[1, t, d] = &graph.value(x).shape[..] else {
        let reason = format!("tokens of shape {:?}; [1, tokens, width] is expected", graph.value(x).shape);
        return Err(Error::Option { option: "tokens", reason });
    };
    if heads == 0 || t == 0 || d == 0 {
        return Err(Error::Option { option: "heads", reason: "needs at least one head".into() });
    }
    let mut b = Builder { graph, name, noise: Noise(seed) };
    let plain = Activation::None;
    let query = b.weights("query", heads, d);
    let mut e = b.push("scores", Op::FullyConnected { activation: plain }, &[x, query], &[1, t, heads]);
    if context == Context::Mean {
        let mean = b.push("mean", Op::Reduce { kind: ReduceKind::Mean, axes: vec![1] }, &[x], &[1, 1, d]);
        let key = b.weights("key", heads, d);
        let gate = b.push("gate", Op::FullyConnected { activation: plain }, &[mean, key], &[1, 1, heads]);
        e = b.binary("gated", BinaryKind::Mul, e, gate, &[1, t, heads]);
    }
    let e = b.push("tanh", Op::Unary(UnaryKind::Tanh), &[e], &[1, t, heads]);
    let squares = b.binary("squares", BinaryKind::Mul, e, e, &[1, t, heads]);
    let sum = Op::Reduce { kind: ReduceKind::Sum, axes: vec![2] };
    let sum = b.push("square", sum, &[squares], &[1, t, 1]);
    let epsilon = b.constant("epsilon", &[1], vec![EPSILON]);
    let sum = b.binary("apart", BinaryKind::Add, sum, epsilon, &[1, t, 1]);
    let length = b.push("length", Op::Unary(UnaryKind::Sqrt), &[sum], &[1, t, 1]);
    let clip = Op::Unary(UnaryKind::Clip { min: LEAST, max: f32::INFINITY });
    let length = b.push("least", clip, &[length], &[1, t, 1]);
    let e = b.binary("unit", BinaryKind::Div, e, length, &[1, t, heads]);
    let e = b.push("turned", Op::Transpose { perm: vec![0, 2, 1] }, &[e], &[1, heads, t]);
    let a = b.push("attention", Op::Softmax { axis: 2 }, &[e], &[1, heads, t]);
    let y = b.push("means", Op::MatMul { transpose_b: false }, &[a, x], &[1, heads, d]);
    Ok(b.push("flat", Op::Reshape, &[y], &[1, heads * d]))
}

/// A stretch of a network that pools tokens through attention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The tokens `[1, t, d]` that attention reads.
    pub tokens: String,
    /// The pooled vector: the only value that later operators read of the tokens.
    pub pooled: String,
    /// Weights between the two.
    pub weights: u64,
    /// Multiply-accumulates between the two.
    pub macs: u64,
}

/// All such stretches: a product of two projections of the same tokens goes through a softmax, the result is averaged
/// over the tokens, and nothing bypasses that mean.
pub fn blocks(graph: &Graph) -> Vec<Block> {
    let mut out: Vec<Block> = Vec::new();
    for node in graph.nodes.iter().filter(|n| matches!(n.op, Op::Softmax { .. })) {
        let Some(tokens) = scored(graph, node.inputs[0]) else { continue };
        let after = reached_from(graph, node.output);
        let pooled = graph
            .nodes
            .iter()
            .filter(|n| pools(graph, n) && after[n.inputs[0].0 as usize])
            .find(|n| encloses(graph, tokens, n.output));
        let Some(pooled) = pooled.map(|n| n.output) else { continue };
        let between = between(graph, tokens, pooled);
        let sum = |cost: fn(&Graph, &Node) -> u64| {
            between.iter().map(|&i| cost(graph, &graph.nodes[i])).sum::<u64>()
        };
        let name = |id: ValueId| graph.value(id).name.clone();
        let (weights, macs) = (sum(offshoot_ir::cost::weights), sum(offshoot_ir::cost::macs));
        let block = Block { tokens: name(tokens), pooled: name(pooled), weights, macs };
        // In a chain of attention blocks, the first reads the tokens that are replaced.
        if !out.iter().any(|b| b.pooled == block.pooled) {
            out.push(block);
        }
    }
    out
}

/// `graph` with low-rank attention and a fully connected layer in place of everything between `tokens` and `pooled`.
///
/// # Errors
/// There are no such tensors; the tokens do not have the shape `[1, t, d]`; a path bypasses `pooled`.
pub fn replace(
    graph: &Graph,
    tokens: &str,
    pooled: &str,
    heads: usize,
    context: Context,
    seed: u64,
) -> Result<Graph> {
    let find = |name: &str| {
        let found = graph.values.iter().position(|v| v.name == name && v.data.is_none());
        found.map(|i| ValueId(i as u32)).ok_or_else(|| unknown(graph, name))
    };
    let (from, to) = (find(tokens)?, find(pooled)?);
    let producer = graph.producer(to).ok_or_else(|| unknown(graph, pooled))?;
    if !encloses(graph, from, to) {
        let reason = format!("a path from `{tokens}` bypasses `{pooled}`");
        return Err(Error::Option { option: "pooled", reason });
    }
    let outputs = graph.value(to).len();
    let mut out = graph.clone();
    let tail = out.nodes.split_off(producer);
    let flat = attention(&mut out, from, pooled, heads, context, seed)?;
    let width = out.value(flat).len();
    let name = format!("{pooled}/attention");
    let mut b = Builder { graph: &mut out, name: &name, noise: Noise(seed ^ 1) };
    let weights = b.weights("out", outputs, width);
    let bias = b.constant("bias", &[outputs], vec![0.0; outputs]);
    let projected = Op::FullyConnected { activation: Activation::None };
    let y = b.push("projected", projected, &[flat, weights, bias], &[1, outputs]);
    out.nodes.push(Node { name, op: Op::Reshape, inputs: vec![y], output: to });
    out.nodes.extend(tail.into_iter().skip(1));
    let out = out.prune_unreachable();
    out.validate().map_err(|e| Error::Execution { node: graph.name.clone(), source: Box::new(e) })?;
    Ok(out)
}

/// Settings of [`distil`].
#[derive(Clone, Copy, Debug)]
pub struct DistilOptions {
    /// Passes over the data.
    pub epochs: usize,
    /// Samples per step.
    pub batch: usize,
    /// Highest learning rate.
    pub rate: f32,
    /// Weight of the pooled vector's difference relative to the loss of the outputs.
    pub feature: f32,
    /// Seed of the sample order.
    pub seed: u64,
}

impl Default for DistilOptions {
    fn default() -> Self {
        Self { epochs: 10, batch: 32, rate: 2e-3, feature: 1.0, seed: 0 }
    }
}

/// Trains `small`, which [`replace`] made from `graph`, to return the same vector at `pooled` and the same outputs.
///
/// # Errors
/// The data do not fit the graph; training fails.
pub fn distil(
    graph: &Graph,
    small: &Graph,
    pooled: &str,
    data: &Dataset,
    options: &DistilOptions,
    progress: &mut dyn Progress,
) -> Result<Graph> {
    let weight = if data.target == Target::Unlabelled { 1.0 } else { 0.7 };
    let features = vec![Feature {
        student: pooled.into(),
        teacher: pooled.into(),
        weight: options.feature,
        view: View::Plain,
    }];
    let settings = FitOptions {
        epochs: options.epochs,
        batch: options.batch,
        rate: options.rate,
        decay: 1e-4,
        clip: Some(5.0),
        seed: options.seed,
        teacher: Some(Teacher { graph: graph.clone(), temperature: 4.0, weight, features }),
        ..FitOptions::default()
    };
    let (trained, _) =
        fit(small, data, &settings, &mut Watch { progress, what: "training" }).map_err(Error::Training)?;
    Ok(trained)
}

/// The tokens from which both sides of the product before a softmax are computed.
fn scored(graph: &Graph, scores: ValueId) -> Option<ValueId> {
    let product = back(graph, scores, |op| matches!(op, Op::MatMul { .. }))?;
    let sides = product.inputs.get(..2)?;
    let rows = |id: ValueId| {
        let projected = back(graph, id, |op| matches!(op, Op::FullyConnected { .. }))?;
        let x = projected.inputs[0];
        matches!(graph.value(x).shape[..], [1, _, _]).then_some(x)
    };
    let (a, b) = (rows(sides[0])?, rows(sides[1])?);
    (a == b).then_some(a)
}

/// The nearest operator before `id` that is `wanted`, across data movement and arithmetic with constants.
fn back(graph: &Graph, id: ValueId, wanted: impl Fn(&Op) -> bool) -> Option<&Node> {
    let mut at = id;
    loop {
        let node = &graph.nodes[graph.producer(at)?];
        if wanted(&node.op) {
            return Some(node);
        }
        let variable: Vec<ValueId> =
            node.inputs.iter().copied().filter(|&i| graph.value(i).data.is_none()).collect();
        let passes = matches!(
            node.op,
            Op::Reshape | Op::Transpose { .. } | Op::Binary { .. } | Op::Slice { .. } | Op::Unary(_)
        );
        match (passes, &variable[..]) {
            (true, &[one]) => at = one,
            _ => return None,
        }
    }
}

/// Whether a node averages rows `[1, t, d]` to one.
fn pools(graph: &Graph, node: &Node) -> bool {
    let x = &graph.value(node.inputs[0]).shape;
    match &node.op {
        Op::Reduce { kind: ReduceKind::Mean, axes } => x.len() == 3 && axes == &[1],
        Op::Pool { kind: PoolKind::Average, .. } => {
            let y = &graph.value(node.output).shape;
            y.len() == 4 && y[1] == 1 && y[2] == 1
        }
        _ => false,
    }
}

fn reached_from(graph: &Graph, from: ValueId) -> Vec<bool> {
    reached(graph, from, None)
}

/// Values that depend on `from` without passing through `without`.
fn reached(graph: &Graph, from: ValueId, without: Option<ValueId>) -> Vec<bool> {
    let mut reached = vec![false; graph.values.len()];
    reached[from.0 as usize] = true;
    for node in &graph.nodes {
        if Some(node.output) != without && node.inputs.iter().any(|id| reached[id.0 as usize]) {
            reached[node.output.0 as usize] = true;
        }
    }
    reached
}

/// Whether outputs depend on `from` only through `to`.
fn encloses(graph: &Graph, from: ValueId, to: ValueId) -> bool {
    let around = reached(graph, from, Some(to));
    let through = reached_from(graph, from);
    through[to.0 as usize] && !graph.outputs.iter().any(|id| around[id.0 as usize])
}

/// Nodes on the paths from one value to another.
fn between(graph: &Graph, from: ValueId, to: ValueId) -> Vec<usize> {
    let down = reached_from(graph, from);
    let mut up = vec![false; graph.values.len()];
    up[to.0 as usize] = true;
    let mut nodes = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate().rev() {
        if up[node.output.0 as usize] && down[node.output.0 as usize] && node.output != from {
            node.inputs.iter().for_each(|id| up[id.0 as usize] = true);
            nodes.push(index);
        }
    }
    nodes
}

/// Normally distributed numbers.
struct Noise(u64);

impl Noise {
    fn unit(&mut self) -> f64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        (radius * (std::f64::consts::TAU * self.unit()).cos()) as f32
    }
}

struct Builder<'g> {
    graph: &'g mut Graph,
    name: &'g str,
    noise: Noise,
}

impl Builder<'_> {
    fn constant(&mut self, part: &str, shape: &[usize], data: Vec<f32>) -> ValueId {
        self.graph.add_constant(format!("{}/{part}", self.name), shape.to_vec(), Data::F32(data))
    }

    fn weights(&mut self, part: &str, outputs: usize, inputs: usize) -> ValueId {
        let deviation = 1.0 / (inputs as f32).sqrt();
        let data = (0..outputs * inputs).map(|_| self.noise.normal() * deviation).collect();
        self.constant(part, &[outputs, inputs], data)
    }

    fn push(&mut self, part: &str, op: Op, inputs: &[ValueId], shape: &[usize]) -> ValueId {
        let name = format!("{}/{part}", self.name);
        let output = self.graph.add_value(Value {
            name: format!("{name}.y"),
            shape: shape.to_vec(),
            dtype: DType::F32,
            quant: None,
            data: None,
            channels_first_outside: false,
        });
        self.graph.nodes.push(Node { name, op, inputs: inputs.to_vec(), output });
        output
    }

    fn binary(&mut self, part: &str, kind: BinaryKind, a: ValueId, b: ValueId, shape: &[usize]) -> ValueId {
        self.push(part, Op::Binary { kind, activation: Activation::None }, &[a, b], shape)
    }
}
/// The error for a tensor that the graph does not compute.
fn unknown(graph: &Graph, name: &str) -> Error {
    let known = graph.nodes.iter().map(|n| graph.value(n.output).name.as_str());
    let near = crate::suggest::near(name, known);
    Error::UnknownOperator { wanted: name.to_owned(), of: "'s output", near }
}
