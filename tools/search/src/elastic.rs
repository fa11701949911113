//! A super-network and the sub-networks cut from it.
//!
//! The constants of every sub-network are elements of the super-network's (nested prefixes of channels, centres of
//! kernels). Cutting a sub-network only copies elements, and training one trains all ([`offshoot_train::shared`]).
//! The mapping is found by cutting a copy of the network whose constants hold the indices of their own elements.

mod classes;
mod depth;
mod kernel;
mod resolution;
mod sort;

use std::collections::HashMap;
use std::sync::Arc;

use offshoot_compress::prune::{Groups, Split, slice};
use offshoot_compress::quantize::{WeightBits, packs};
use offshoot_compress::suggest::near;
use offshoot_ir::{Data, Graph, ValueId};
use offshoot_train::shared::{Member, Source};

use crate::space::{Kind, Space};
use crate::{Error, Result};

pub use classes::{Class, classes};
pub use depth::residual_blocks;
pub use sort::sort;

/// Constants with more elements than float32 can count exactly cannot be elastic.
const MOST_ELEMENTS: usize = 1 << 24;

/// A super-network and its elastic variables.
#[derive(Clone, Debug)]
pub struct Elastic {
    /// The largest network.
    pub graph: Graph,
    /// Its space.
    pub space: Space,
    /// How channels of attention are grouped.
    split: Split,
    /// The graph with the index of each element in each float constant.
    numbered: Graph,
}

impl Elastic {
    /// A float super-network, with batch normalisations in their trained form. `split` says how channels of attention
    /// are grouped.
    ///
    /// # Errors
    /// [`Error::Space`] if a variable names something that the network does not have or that cannot change.
    pub fn new(graph: Graph, mut space: Space, split: Split) -> Result<Self> {
        graph.validate()?;
        let mut numbered = graph.clone();
        for value in &mut numbered.values {
            if let Some(Data::F32(data)) = value.data.as_deref() {
                if data.len() > MOST_ELEMENTS {
                    let reason = format!("constant `{}` has more than {MOST_ELEMENTS} elements", value.name);
                    return Err(Error::Space(reason));
                }
                value.data = Some(Arc::new(Data::F32((0..data.len()).map(|i| i as f32).collect())));
            }
        }
        space.idle = vec![Vec::new(); space.len()];
        let mut elastic = Self { graph, space, split, numbered };
        elastic.space.idle = elastic.idle()?;
        elastic.check_options()?;
        Ok(elastic)
    }

    /// The sub-network of an encoding.
    ///
    /// # Errors
    /// [`Error::Encoding`], or [`Error::Space`] if options do not fit together.
    pub fn member(&self, encoding: &[u16]) -> Result<Member> {
        self.space.check(encoding)?;
        let mut graph = self.shaped(encoding)?;
        let groups = Groups::elastic(&graph, self.split)?;
        let names = names(&graph);
        let classes = classes(&graph, &groups);
        let mut removed = vec![false; groups.len()];
        for (variable, &choice) in self.space.variables.iter().zip(encoding) {
            let Kind::Channels { weights, first } = &variable.kind else { continue };
            // The skipped block's constant is gone.
            let Some(&id) = names.get(weights.as_str()) else { continue };
            let class = classes::find(&groups, &classes, id, *first)
                .map_err(|reason| Error::Space(format!("variable `{}`: {reason}", variable.name)))?;
            let keep = variable.options[usize::from(choice)];
            class.groups.iter().skip(keep).for_each(|&g| removed[g] = true);
        }
        if removed.contains(&true) {
            graph = slice(&graph, &groups, &removed)?;
        }
        self.with_sources(graph)
    }

    /// The sub-network with the super-network's weights.
    ///
    /// # Errors
    /// As [`Self::member`].
    pub fn cut(&self, encoding: &[u16]) -> Result<Graph> {
        Ok(self.member(encoding)?.cut(&self.graph))
    }

    /// Bits of the weights of a sub-network's operators (`graph` after the lossless passes); operators that the
    /// device cannot pack keep 8.
    pub fn bits(&self, encoding: &[u16], graph: &Graph) -> WeightBits {
        let mut bits = WeightBits::default();
        for (variable, &choice) in self.space.variables.iter().zip(encoding) {
            let Kind::Bits { operators } = &variable.kind else { continue };
            let value = variable.options[usize::from(choice)] as u8;
            for node in graph.nodes.iter().filter(|n| operators.contains(&n.name) && packs(graph, n)) {
                if value < 8 {
                    bits.layers.insert(node.name.clone(), value);
                }
            }
        }
        bits
    }

    /// The indexed network with resolution, blocks and kernels of an encoding, and all channels.
    fn shaped(&self, encoding: &[u16]) -> Result<Graph> {
        let mut graph = self.numbered.clone();
        let chosen =
            || self.space.variables.iter().zip(encoding).map(|(v, &c)| (v, v.options[usize::from(c)]));
        let mut skipped = Vec::new();
        for (variable, value) in chosen() {
            let fail = |reason: String| Error::Space(format!("variable `{}`: {reason}", variable.name));
            match &variable.kind {
                Kind::Resolution => resolution::resize(&mut graph, value).map_err(fail)?,
                Kind::Depth { blocks } => {
                    skipped.extend(blocks[value.min(blocks.len())..].iter().map(|b| (variable, b)));
                }
                _ => {}
            }
        }
        // Later blocks are skipped first: their readers then read the block's input, which may be the output of an
        // earlier block that is itself replaced next.
        let position = |name: &str| graph.nodes.iter().position(|n| graph.value(n.output).name == name);
        skipped.sort_by_key(|(_, block)| std::cmp::Reverse(position(&block.to)));
        for (variable, block) in skipped {
            let fail = |reason: String| Error::Space(format!("variable `{}`: {reason}", variable.name));
            depth::skip(&mut graph, block).map_err(fail)?;
        }
        let mut graph = graph.prune_unreachable();
        for (variable, value) in chosen() {
            let fail = |reason: String| Error::Space(format!("variable `{}`: {reason}", variable.name));
            if let Kind::Kernel { operators } = &variable.kind {
                kernel::crop(&mut graph, operators, value).map_err(fail)?;
            }
        }
        graph.validate()?;
        Ok(graph)
    }

    /// Converts a cut of the indexed network to a member.
    fn with_sources(&self, graph: Graph) -> Result<Member> {
        let names = names(&self.graph);
        let mut sources = Vec::new();
        for (index, value) in graph.values.iter().enumerate() {
            let Some(Data::F32(numbers)) = value.data.as_deref() else { continue };
            let whole = names.get(value.name.as_str()).copied();
            let whole = whole.ok_or_else(|| {
                Error::Space(format!("constant `{}` is not the super-network's", value.name))
            })?;
            let elements = numbers.iter().map(|&n| n as u32).collect();
            sources.push(Source { part: ValueId(index as u32), whole, elements });
        }
        Ok(Member { graph, sources })
    }

    /// The variables that are unused when fewer than a given number of blocks remain.
    fn idle(&self) -> Result<Vec<Vec<(u16, usize)>>> {
        let largest = self.space.largest();
        let mut idle = vec![Vec::new(); self.space.len()];
        for (at, variable) in self.space.variables.iter().enumerate() {
            if !matches!(variable.kind, Kind::Depth { .. }) {
                continue;
            }
            for choice in 0..largest[at] {
                let mut encoding = largest.clone();
                encoding[at] = choice;
                let graph = self.shaped(&encoding)?;
                let (constants, operators) = (names(&graph), &graph.nodes);
                let gone = |v: &Kind| match v {
                    Kind::Channels { weights, .. } => !constants.contains_key(weights.as_str()),
                    Kind::Kernel { operators: o } | Kind::Bits { operators: o } => {
                        !operators.iter().any(|n| o.contains(&n.name))
                    }
                    Kind::Depth { blocks } => !blocks.iter().any(|b| constants.contains_key(b.to.as_str())),
                    Kind::Resolution => false,
                };
                for (other, v) in self.space.variables.iter().enumerate() {
                    if other != at && gone(&v.kind) {
                        idle[at].retain(|&(_, o)| o != other);
                        idle[at].push((choice + 1, other));
                    }
                }
            }
        }
        Ok(idle)
    }

    /// Checks every option separately, and the smallest sub-network.
    fn check_options(&self) -> Result<()> {
        let names = names(&self.graph);
        let groups = Groups::elastic(&self.numbered, self.split)?;
        let found = classes(&self.numbered, &groups);
        for v in &self.space.variables {
            let fail = |reason: String| Err(Error::Space(format!("variable `{}`: {reason}", v.name)));
            match &v.kind {
                Kind::Channels { weights, first } => {
                    let Some(&id) = names.get(weights.as_str()) else {
                        let known = self.graph.values.iter().filter(|v| v.data.is_some());
                        let near = near(weights, known.map(|v| v.name.as_str()));
                        return fail(format!("the network has no constant `{weights}`{near}"));
                    };
                    let class = match classes::find(&groups, &found, id, *first) {
                        Ok(class) => class,
                        Err(reason) => return fail(reason),
                    };
                    if v.options.last() != Some(&class.groups.len()) {
                        return fail(format!("the last option must be all {} of them", class.groups.len()));
                    }
                }
                Kind::Kernel { operators } | Kind::Bits { operators } => {
                    if let Some(o) =
                        operators.iter().find(|o| !self.graph.nodes.iter().any(|n| n.name == **o))
                    {
                        let near = near(o, self.graph.nodes.iter().map(|n| n.name.as_str()));
                        return fail(format!("the network has no operator `{o}`{near}"));
                    }
                }
                _ => {}
            }
        }
        let largest = self.space.largest();
        for (at, v) in self.space.variables.iter().enumerate() {
            if matches!(v.kind, Kind::Resolution | Kind::Kernel { .. }) {
                for choice in 0..largest[at] {
                    let mut encoding = largest.clone();
                    encoding[at] = choice;
                    self.shaped(&encoding)?;
                }
            }
        }
        self.member(&self.space.smallest())?;
        Ok(())
    }
}

/// Values by name.
fn names(graph: &Graph) -> HashMap<&str, ValueId> {
    graph.values.iter().enumerate().map(|(i, v)| (v.name.as_str(), ValueId(i as u32))).collect()
}
