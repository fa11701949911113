//! Derives a search space from any network: every class of channels that go together can shrink, every residual block
//! can be skipped, every padded kernel can be cropped, and every layer that the device can pack has a choice of bits.

use std::collections::BTreeSet;

use offshoot_compress::prune::{Groups, Split};
use offshoot_compress::quantize::packs;
use offshoot_compress::suggest::near;
use offshoot_ir::{Graph, Op};
use serde::{Deserialize, Serialize};

use crate::elastic::{Class, Elastic, classes, residual_blocks};
use crate::space::{Block, Kind, Space, Variable};
use crate::{Error, Result};

/// What becomes elastic, and by how much. By default only widths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Elasticity {
    /// Shares of the channels that may remain; empty keeps widths fixed.
    pub width: Vec<f64>,
    /// Channels remain a multiple of this where possible; 4 suits the kernels for Cortex-M.
    pub multiple: usize,
    /// Whether blocks can be skipped.
    pub depth: bool,
    /// Smaller heights and widths of kernels, in addition to their own.
    pub kernel: Vec<usize>,
    /// Whether attention shrinks by whole heads, instead of by dimensions of every head.
    pub heads: bool,
    /// Shares of the input's height (and width) that may be used.
    pub resolution: Vec<f64>,
    /// Bits per weight: 8, 4 or 2.
    pub bits: Vec<u8>,
    /// Whether all layers have the same bits.
    pub same_bits: bool,
    /// Names of operators that are split in two with an elastic rank between them.
    pub factor: Vec<String>,
    /// Shares of the full rank that may remain.
    pub rank: Vec<f64>,
    /// Operators whose widths and kernels are not elastic.
    pub keep: Vec<String>,
}

impl Default for Elasticity {
    fn default() -> Self {
        Self {
            width: vec![0.25, 0.5, 0.75, 1.0],
            multiple: 4,
            depth: false,
            kernel: vec![],
            heads: false,
            resolution: vec![],
            bits: vec![8],
            same_bits: false,
            factor: vec![],
            rank: vec![0.25, 0.5, 0.75, 1.0],
            keep: vec![],
        }
    }
}

impl Elasticity {
    /// How channels of attention are grouped.
    pub fn split(&self) -> Split {
        if self.heads { Split::Heads } else { Split::Dimensions }
    }
}

/// The super-network of a graph. `blocks` are lists of blocks that can be skipped, one variable per list; `None`
/// takes all residual blocks. `more` are variables defined by hand, which replace automatic ones of the same name.
///
/// # Errors
/// [`Error::Space`] if a request cannot be fulfilled.
pub fn automatic(
    graph: Graph,
    elasticity: &Elasticity,
    blocks: Option<Vec<Vec<Block>>>,
    more: Vec<Variable>,
) -> Result<Elastic> {
    let share = |s: &f64| *s > 0.0 && *s <= 1.0;
    for (what, shares) in
        [("width", &elasticity.width), ("resolution", &elasticity.resolution), ("rank", &elasticity.rank)]
    {
        if !shares.iter().all(share) {
            return Err(Error::Space(format!("{what} {shares:?}: shares are above 0 and at most 1")));
        }
    }
    let mut graph = graph;
    for name in &elasticity.factor {
        graph = crate::factor::factor(&graph, name)?;
    }
    known_operators(&graph, elasticity)?;
    let mut variables = resolution(&graph, elasticity)?;
    if elasticity.depth {
        let blocks = blocks.unwrap_or_else(|| residual_blocks(&graph).into_iter().map(|b| vec![b]).collect());
        for blocks in blocks {
            let name = format!("{}.depth", stem(&blocks[0].to));
            let options = (0..=blocks.len()).collect();
            variables.push(Variable { name, kind: Kind::Depth { blocks }, options });
        }
    }
    variables.extend(widths(&graph, elasticity)?);
    variables.extend(kernels(&graph, elasticity));
    variables.extend(bits(&graph, elasticity));
    let mut named = BTreeSet::new();
    for v in &mut variables {
        // If one operator has two classes, the second gets a number.
        let (base, mut n) = (v.name.clone(), 2);
        while !named.insert(v.name.clone()) {
            v.name = format!("{base}.{n}");
            n += 1;
        }
    }
    let groups = Groups::elastic(&graph, elasticity.split())?;
    let of = Subjects { graph: &graph, groups: &groups, classes: classes(&graph, &groups) };
    let shared = |a: &Variable, b: &Variable| of.all(a).iter().any(|s| of.all(b).contains(s));
    for (i, v) in more.iter().enumerate() {
        if let Some(other) = more[..i].iter().find(|other| shared(other, v)) {
            let (a, b) = (&other.name, &v.name);
            return Err(Error::Space(format!("variables `{a}` and `{b}` change the same: leave one out")));
        }
        // What is defined by hand replaces what was found, so that nothing stands in the space twice.
        variables.retain(|found| found.name != v.name && !shared(found, v));
    }
    variables.extend(more);
    Elastic::new(graph, Space::new(variables)?, elasticity.split())
}

/// Refuses names that no operator has.
fn known_operators(graph: &Graph, elasticity: &Elasticity) -> Result<()> {
    let names = || graph.nodes.iter().map(|n| n.name.as_str());
    match elasticity.keep.iter().find(|k| !names().any(|n| n == **k)) {
        None => Ok(()),
        Some(k) => Err(Error::Space(format!("keep: the network has no operator `{k}`{}", near(k, names())))),
    }
}

/// What variables change, so that two that change the same are found.
struct Subjects<'g> {
    graph: &'g Graph,
    groups: &'g Groups,
    classes: Vec<Class>,
}

/// One thing that a variable changes.
#[derive(PartialEq, Eq)]
enum Subject {
    /// A class of channels, by its index.
    Class(usize),
    /// An operator's kernel.
    Kernel(String),
    /// An operator's bits.
    Bits(String),
    /// The block that ends at this tensor.
    Block(String),
    /// The input's height and width.
    Resolution,
}

impl Subjects<'_> {
    fn all(&self, variable: &Variable) -> Vec<Subject> {
        match &variable.kind {
            Kind::Channels { weights, first } => {
                let id = self.graph.values.iter().position(|v| v.name == *weights);
                let id = id.map(|i| offshoot_ir::ValueId(i as u32));
                let group = id.and_then(|id| self.groups.along(id, 0)).and_then(|along| along.get(*first));
                let class = group.and_then(|g| self.classes.iter().position(|c| c.groups.contains(g)));
                class.map(Subject::Class).into_iter().collect()
            }
            Kind::Kernel { operators } => operators.iter().cloned().map(Subject::Kernel).collect(),
            Kind::Bits { operators } => operators.iter().cloned().map(Subject::Bits).collect(),
            Kind::Depth { blocks } => blocks.iter().map(|b| Subject::Block(b.to.clone())).collect(),
            Kind::Resolution => vec![Subject::Resolution],
        }
    }
}

/// The name of a tensor or constant without its suffix: the operator's name.
fn stem(name: &str) -> &str {
    let cut = |end: &str| name.strip_suffix(end);
    [".weight", ".out", ".relu.out", ".add.out"]
        .iter()
        .filter_map(|e| cut(e))
        .min_by_key(|n| n.len())
        .unwrap_or(name)
}

fn resolution(graph: &Graph, elasticity: &Elasticity) -> Result<Vec<Variable>> {
    if elasticity.resolution.is_empty() {
        return Ok(vec![]);
    }
    let shape = graph.inputs.first().map(|&id| graph.value(id).shape.clone()).unwrap_or_default();
    let [_, height, _, _] = shape[..] else {
        return Err(Error::Space(format!("resolution: the input {shape:?} is not an image")));
    };
    let options = options(height, &elasticity.resolution, 1);
    Ok(vec![Variable { name: "resolution".into(), kind: Kind::Resolution, options }])
}

/// Ascending numbers up to `whole`, which is the last.
fn options(whole: usize, shares: &[f64], multiple: usize) -> Vec<usize> {
    let multiple = multiple.max(1);
    let one = |share: &f64| {
        let wanted = whole as f64 * share;
        (((wanted / multiple as f64).round() as usize).max(1) * multiple).min(whole)
    };
    let mut all: Vec<usize> = shares.iter().map(one).chain([whole]).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn widths(graph: &Graph, elasticity: &Elasticity) -> Result<Vec<Variable>> {
    let groups = Groups::elastic(graph, elasticity.split())?;
    let classes = classes(graph, &groups);
    let mut variables = Vec::new();
    let mut seen = vec![false; classes.len()];
    for node in &graph.nodes {
        if !matches!(node.op, Op::Conv2d { .. } | Op::FullyConnected { .. } | Op::ConvTranspose2d { .. }) {
            continue;
        }
        let Some(along) = node.inputs.get(1).and_then(|&w| groups.along(w, 0)) else { continue };
        for (first, g) in along.iter().enumerate() {
            let Some(at) = classes.iter().position(|c| c.groups.contains(g)) else { continue };
            if std::mem::replace(&mut seen[at], true) {
                continue;
            }
            let whole = classes[at].groups.len();
            let channels = along.iter().filter(|&h| h == g).count();
            let factored = elasticity.factor.iter().any(|f| node.name == crate::factor::inner(f));
            let shares = if factored { &elasticity.rank } else { &elasticity.width };
            // Groups of several channels, such as heads, stay whole.
            let multiple = elasticity.multiple.max(1).div_ceil(channels);
            let options = options(whole, shares, multiple);
            if options.len() < 2 || shares.is_empty() || elasticity.keep.contains(&node.name) {
                continue;
            }
            let weights = graph.value(node.inputs[1]).name.clone();
            let what = match (factored, channels > 1 && elasticity.heads) {
                (true, _) => "rank",
                (_, true) => "heads",
                _ => "width",
            };
            let name = format!("{}.{what}", node.name);
            variables.push(Variable { name, kind: Kind::Channels { weights, first }, options });
        }
    }
    Ok(variables)
}

fn kernels(graph: &Graph, elasticity: &Elasticity) -> Vec<Variable> {
    let one = |node: &offshoot_ir::Node| {
        let Op::Conv2d { window, .. } = &node.op else { return None };
        let largest = usize::from(*window.kernel.iter().max()?);
        let fits = |size: usize| {
            (0..2).all(|axis| {
                let less = usize::from(window.kernel[axis]).saturating_sub(size);
                let dilation = usize::from(window.dilation[axis]);
                let pads = [window.pad[axis], window.pad[axis + 2]].map(usize::from);
                less / 2 * dilation <= pads[0] && (less - less / 2) * dilation <= pads[1]
            })
        };
        let wanted = elasticity.kernel.iter().copied().filter(|&k| k > 0 && k < largest && fits(k));
        let mut options: Vec<usize> = wanted.chain([largest]).collect();
        options.sort_unstable();
        options.dedup();
        let kept = elasticity.keep.contains(&node.name);
        let kind = Kind::Kernel { operators: vec![node.name.clone()] };
        (options.len() > 1 && !kept).then(|| Variable {
            name: format!("{}.kernel", node.name),
            kind,
            options,
        })
    };
    graph.nodes.iter().filter_map(one).collect()
}

fn bits(graph: &Graph, elasticity: &Elasticity) -> Vec<Variable> {
    let mut options: Vec<usize> = elasticity.bits.iter().map(|&b| usize::from(b)).collect();
    options.sort_unstable();
    options.dedup();
    let packable: Vec<String> =
        graph.nodes.iter().filter(|n| packs(graph, n)).map(|n| n.name.clone()).collect();
    if options.len() < 2 || packable.is_empty() {
        return vec![];
    }
    let variable = |name: String, operators: Vec<String>| Variable {
        name,
        kind: Kind::Bits { operators },
        options: options.clone(),
    };
    match elasticity.same_bits {
        true => vec![variable("bits".into(), packable)],
        false => packable.into_iter().map(|n| variable(format!("{n}.bits"), vec![n])).collect(),
    }
}
