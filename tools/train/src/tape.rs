//! One forward and backward pass through a graph: reverse-mode differentiation over the IR's operators.
//!
//! A batch is divided into shards that are computed in parallel; only batch normalisation works across them.
//! Gradients of parameters are summed over shards in order, so that results do not depend on the number of cores.

use std::collections::HashMap;
use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};
use offshoot_ir::{Data, Graph, Op, ValueId};
use rayon::prelude::*;

use crate::batch::Shards;
use crate::error::{Error, Result};
use crate::fake_quant::ActivationRanges;
use crate::grad::norm::Statistics;
use crate::grad::{Tensor, array, backward};

/// Whether batch normalisation uses the batch's statistics or the stored ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Train,
    Infer,
}

/// Everything that a pass computed.
pub(crate) struct Tape<'g> {
    graph: &'g Graph,
    shards: &'g Shards,
    /// The shards of each value; constants have a single tensor.
    values: Vec<Vec<Tensor>>,
    /// Results before fake quantisation, where it was applied.
    raw: HashMap<ValueId, Vec<Tensor>>,
    ranges: Option<ActivationRanges>,
    /// Statistics of each batch normalisation that used the batch's, by node index.
    pub(crate) statistics: HashMap<usize, Statistics>,
}

/// Float constants of a graph by value; other values are `None`.
pub(crate) fn constants(graph: &Graph) -> Vec<Option<Tensor>> {
    let tensor = |v: &offshoot_ir::Value| match v.data.as_deref() {
        Some(Data::F32(data)) => Some(Arc::new(array(&v.shape, data.clone()))),
        _ => None,
    };
    graph.values.iter().map(tensor).collect()
}

impl<'g> Tape<'g> {
    /// Runs the batch: `inputs` are by graph input, then by shard. `ranges` quantises activations, and is updated if
    /// it is observing.
    pub(crate) fn record(
        graph: &'g Graph,
        shards: &'g Shards,
        constants: &[Option<Tensor>],
        inputs: Vec<Vec<ArrayD<f32>>>,
        mode: Mode,
        ranges: Option<&mut ActivationRanges>,
    ) -> Result<Self> {
        let values = constants.iter().map(|c| c.iter().cloned().collect()).collect();
        let mut tape =
            Self { graph, shards, values, raw: HashMap::new(), ranges: None, statistics: HashMap::new() };
        let mut ranges = ranges;
        for (&id, x) in graph.inputs.iter().zip(inputs) {
            let x = x.into_iter().map(Arc::new).collect();
            tape.store(id, x, ranges.as_deref_mut());
        }
        for (index, node) in graph.nodes.iter().enumerate() {
            let results: Vec<Tensor> = match &node.op {
                Op::BatchNorm { epsilon } if mode == Mode::Train => {
                    let x = &tape.values[node.inputs[0].0 as usize];
                    let statistics = Statistics::of(x);
                    let run = |s: usize| Arc::new(statistics.normalise(&tape.operands(index, s), *epsilon));
                    let results = (0..shards.sizes.len()).into_par_iter().map(run).collect();
                    tape.statistics.insert(index, statistics);
                    results
                }
                _ => {
                    let run = |s: usize| {
                        let graph = shards.graph(s);
                        let shape = &graph.value(node.output).shape;
                        crate::forward::evaluate(&graph.nodes[index], shape, &tape.operands(index, s))
                    };
                    let results: Result<Vec<_>> =
                        (0..shards.sizes.len()).into_par_iter().map(|s| run(s).map(Arc::new)).collect();
                    results?
                }
            };
            tape.store(node.output, results, ranges.as_deref_mut());
        }
        tape.ranges = ranges.map(|r| r.clone());
        Ok(tape)
    }

    fn store(&mut self, id: ValueId, x: Vec<Tensor>, ranges: Option<&mut ActivationRanges>) {
        let mut x = x;
        if let Some(ranges) = ranges.filter(|r| r.applies(id)) {
            ranges.observe(id, &x);
            let rounded = ranges.round(id, &x);
            self.raw.insert(id, std::mem::replace(&mut x, rounded));
        }
        self.values[id.0 as usize] = x;
    }

    /// Inputs of a node in one shard.
    fn operands(&self, node: usize, shard: usize) -> Vec<Tensor> {
        let inputs = self.graph.nodes[node].inputs.iter();
        inputs.filter_map(|id| self.in_shard(*id, shard)).cloned().collect()
    }

    fn in_shard(&self, id: ValueId, shard: usize) -> Option<&Tensor> {
        let shards = &self.values[id.0 as usize];
        shards.get(shard).or(shards.first())
    }

    /// A value's shards.
    pub(crate) fn value(&self, id: ValueId) -> &[Tensor] {
        &self.values[id.0 as usize]
    }

    /// Gradients of the constants `parameters` from the gradients of some values, by shard.
    pub(crate) fn backward(
        &self,
        seeds: Vec<(ValueId, Vec<ArrayD<f32>>)>,
        parameters: &[ValueId],
    ) -> Result<HashMap<ValueId, ArrayD<f32>>> {
        let count = self.shards.sizes.len();
        let needs = needs(self.graph, parameters);
        let mut gradients: HashMap<ValueId, Vec<ArrayD<f32>>> = HashMap::new();
        let mut totals: HashMap<ValueId, ArrayD<f32>> = HashMap::new();
        for (id, seed) in seeds {
            accumulate(&mut gradients, id, seed);
        }
        for (index, node) in self.graph.nodes.iter().enumerate().rev() {
            let Some(mut dy) = gradients.remove(&node.output) else { continue };
            let wanted: Vec<bool> = node.inputs.iter().map(|id| needs[id.0 as usize]).collect();
            if !wanted.contains(&true) {
                continue;
            }
            if let (Some(ranges), Some(raw)) = (&self.ranges, self.raw.get(&node.output)) {
                dy.iter_mut().zip(raw).for_each(|(d, raw)| ranges.pass(node.output, raw, d));
            }
            let ys = self.raw.get(&node.output).unwrap_or(&self.values[node.output.0 as usize]);
            let parts: Vec<Vec<Option<ArrayD<f32>>>> = match (&node.op, self.statistics.get(&index)) {
                (Op::BatchNorm { epsilon }, Some(statistics)) => {
                    let x = &self.values[node.inputs[0].0 as usize];
                    let sums = statistics.sums(x, &dy, *epsilon);
                    let mut parts: Vec<Vec<Option<ArrayD<f32>>>> = (dy.into_par_iter().enumerate())
                        .map(|(s, dy)| {
                            vec![Some(statistics.input(&self.operands(index, s), dy, &sums, *epsilon))]
                        })
                        .collect();
                    let shape = [sums.0.len()];
                    if let Some(first) = parts.first_mut() {
                        first.extend([Some(array(&shape, sums.0)), Some(array(&shape, sums.1))]);
                    }
                    parts
                }
                _ => (dy.into_par_iter().enumerate())
                    .map(|(s, dy)| {
                        let node = &self.shards.graph(s).nodes[index];
                        backward(node, &self.operands(index, s), &ys[s], dy, &wanted)
                    })
                    .collect::<Result<_>>()?,
            };
            let mut by_input: Vec<Vec<ArrayD<f32>>> = vec![Vec::with_capacity(count); node.inputs.len()];
            for part in parts {
                for ((input, gradient), wanted) in by_input.iter_mut().zip(part).zip(&wanted) {
                    input.extend(gradient.filter(|_| *wanted));
                }
            }
            for (&id, shards) in node.inputs.iter().zip(by_input) {
                if self.graph.value(id).data.is_some() {
                    let sum = shards.into_iter().reduce(|a, b| a + b);
                    match (totals.remove(&id), sum) {
                        (Some(a), Some(b)) => totals.insert(id, a + b),
                        (None, Some(b)) => totals.insert(id, b),
                        (a, None) => a.and_then(|a| totals.insert(id, a)),
                    };
                } else if shards.len() == count {
                    accumulate(&mut gradients, id, shards);
                }
            }
        }
        totals.retain(|id, _| parameters.contains(id));
        Ok(totals)
    }

    /// The value that holds the logits: the input of a softmax that computes the graph's output, otherwise the
    /// output.
    pub(crate) fn logits(graph: &Graph) -> Result<ValueId> {
        let missing = || Error::Data("the graph has no output".into());
        let output = *graph.outputs.first().ok_or_else(missing)?;
        let rank = graph.value(output).shape.len();
        Ok(match graph.producer(output).map(|i| &graph.nodes[i]) {
            Some(node) if matches!(node.op, Op::Softmax { axis } if axis + 1 == rank) => node.inputs[0],
            _ => output,
        })
    }

    /// A value as rows of elements, one row per sample.
    pub(crate) fn rows(&self, id: ValueId) -> ndarray::Array2<f32> {
        let samples: usize = self.shards.sizes.iter().sum();
        let data: Vec<f32> = self.value(id).iter().flat_map(|t| t.iter().copied()).collect();
        let width = data.len() / samples.max(1);
        ndarray::Array2::from_shape_vec((samples, width), data)
            .unwrap_or_else(|_| ndarray::Array2::zeros((samples, width)))
    }

    /// Rows as shards in the shape of `id`.
    pub(crate) fn shards_of(&self, id: ValueId, rows: &ndarray::Array2<f32>) -> Vec<ArrayD<f32>> {
        let width = rows.ncols();
        let flat: Vec<f32> = rows.iter().copied().collect();
        let mut at = 0;
        let shards = self.value(id).iter().zip(&self.shards.sizes).map(|(t, size)| {
            let part = flat[at * width..(at + size) * width].to_vec();
            at += size;
            ArrayD::from_shape_vec(IxDyn(t.shape()), part).expect("rows are the value's elements")
        });
        shards.collect()
    }
}

/// Values through which gradients reach a parameter.
fn needs(graph: &Graph, parameters: &[ValueId]) -> Vec<bool> {
    let mut needs = vec![false; graph.values.len()];
    parameters.iter().for_each(|id| needs[id.0 as usize] = true);
    for node in &graph.nodes {
        needs[node.output.0 as usize] = node.inputs.iter().any(|id| needs[id.0 as usize]);
    }
    needs
}

fn accumulate(gradients: &mut HashMap<ValueId, Vec<ArrayD<f32>>>, id: ValueId, shards: Vec<ArrayD<f32>>) {
    match gradients.get_mut(&id) {
        Some(sum) => sum.iter_mut().zip(shards).for_each(|(a, b)| *a += &b),
        None => drop(gradients.insert(id, shards)),
    }
}
