//! Executes a graph one operator at a time over a batch of samples, with a hook on every tensor.
//!
//! Operator by operator instead of sample by sample, because weights and biases are fitted in that order: each to the
//! activations of the network before it.

use ndarray::{ArrayD, Axis};
use offshoot_ir::{Activation, DType, Data, Graph, Node, Op, Value, ValueId};
use offshoot_reference::Executor;
use rayon::prelude::*;

use super::tensors::{Batch, real_values};
use super::{history, recurrent};
use crate::{Error, Result};

/// Live tensors, by value index.
pub(crate) struct Environment {
    values: Vec<Option<Batch>>,
    /// Operators that have yet to read each value; graph outputs count one more.
    readers: Vec<usize>,
    samples: usize,
    /// As [`super::QuantizeOptions::sequence`].
    sequence: Option<usize>,
}

impl Environment {
    /// Nothing computed yet.
    pub(crate) fn new(graph: &Graph, samples: usize) -> Self {
        let mut readers = vec![0; graph.values.len()];
        for node in &graph.nodes {
            for id in distinct(&node.inputs) {
                readers[id.0 as usize] += 1;
            }
        }
        for id in &graph.outputs {
            readers[id.0 as usize] += 1;
        }
        Self { values: vec![None; graph.values.len()], readers, samples, sequence: None }
    }

    /// Carries the state of recurrent layers through `sequence` samples.
    pub(crate) fn carrying(self, sequence: Option<usize>) -> Self {
        Self { sequence, ..self }
    }

    /// Stores a tensor.
    pub(crate) fn set(&mut self, id: ValueId, batch: Batch) {
        if self.readers[id.0 as usize] > 0 {
            self.values[id.0 as usize] = Some(batch);
        }
    }

    /// A tensor that has been computed and has readers left.
    pub(crate) fn get(&self, id: ValueId) -> Option<&Batch> {
        self.values[id.0 as usize].as_ref()
    }

    /// Records that `node` has been run, and drops inputs without further readers.
    pub(crate) fn finish(&mut self, node: &Node) {
        for id in distinct(&node.inputs) {
            let left = &mut self.readers[id.0 as usize];
            *left -= 1;
            if *left == 0 {
                self.values[id.0 as usize] = None;
            }
        }
    }

    /// Runs `node` of `graph` on the stored tensors. `pre_activation` leaves out its fused activation.
    pub(crate) fn run(&self, graph: &Graph, node: &Node, pre_activation: bool) -> Result<Batch> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Execution {
            node: node.name.clone(),
            source,
        };
        let missing = |id: ValueId| {
            failed(format!("tensor `{}` is read before it is written", graph.value(id).name).into())
        };
        let active: Vec<ValueId> =
            distinct(&node.inputs).into_iter().filter(|&id| graph.value(id).data.is_none()).collect();
        if matches!(node.op, Op::Quantize | Op::Dequantize | Op::Requantize) {
            let id = node.inputs[0];
            return self.get(id).cloned().ok_or_else(|| missing(id));
        }
        let carries = self.sequence.is_some()
            && node.inputs[1..4.min(node.inputs.len())].iter().all(|&id| graph.value(id).data.is_some());
        if matches!(node.op, Op::Recurrent { .. })
            && (carries || matches!(graph.value(node.output).dtype, DType::I8 | DType::I16))
        {
            let inputs = active
                .iter()
                .map(|&id| self.get(id).ok_or_else(|| missing(id)))
                .collect::<Result<Vec<_>>>()?;
            return recurrent::run(graph, node, &inputs, self.sequence.unwrap_or(1));
        }
        if let (true, Some(length), [id]) = (node.op.keeps_state(), self.sequence, &active[..]) {
            let batch = self.get(*id).ok_or_else(|| missing(*id))?;
            return history::run(graph, node, batch, length).map_err(failed);
        }
        let single = single(graph, node, pre_activation);
        if let (Op::FullyConnected { .. }, [id]) = (&node.op, &active[..])
            && *id == node.inputs[0]
            && graph.value(*id).shape.len() > 1
            && graph.value(*id).shape[0] > 0
        {
            let batch = self.get(*id).ok_or_else(|| missing(*id))?;
            return together(&single, batch).map_err(failed);
        }
        let executor = Executor::new(&single).map_err(|e| failed(Box::new(e)))?;
        let inputs =
            active.iter().map(|&id| self.get(id).ok_or_else(|| missing(id))).collect::<Result<Vec<_>>>()?;
        (0..self.samples)
            .into_par_iter()
            .map(|i| {
                let arrays: Vec<&ArrayD<f32>> = inputs.iter().map(|batch| &batch[i]).collect();
                let mut outputs = executor.run(&arrays).map_err(|e| failed(Box::new(e)))?;
                outputs.pop().ok_or_else(|| failed("no output".into()))
            })
            .collect()
    }
}

/// Samples that are one operand of a matrix product: to read the weights takes longer than to compute a single row.
const TOGETHER: usize = 32;

/// Runs the fully connected operator `single` on samples one after the other, some at a time.
fn together(
    single: &Graph,
    batch: &Batch,
) -> std::result::Result<Batch, Box<dyn std::error::Error + Send + Sync>> {
    let (input, output) = (single.inputs[0], single.outputs[0]);
    let own = single.value(output).shape[0];
    let some = |part: &[ArrayD<f32>]| {
        let views: Vec<_> = part.iter().map(|a| a.view()).collect();
        let all = ndarray::concatenate(Axis(0), &views)?;
        let mut single = single.clone();
        single.value_mut(input).shape = all.shape().to_vec();
        single.value_mut(output).shape[0] = own * part.len();
        let outputs = Executor::new(&single)?.run(&[all])?;
        let rows = outputs.first().ok_or("no output")?;
        Ok(rows.axis_chunks_iter(Axis(0), own).map(|sample| sample.to_owned()).collect())
    };
    let parts = batch.par_chunks(TOGETHER).map(some);
    let parts: Vec<Batch> =
        parts.collect::<std::result::Result<_, Box<dyn std::error::Error + Send + Sync>>>()?;
    Ok(parts.into_iter().flatten().collect())
}

/// Runs the whole graph over `samples`. `visit` sees every activation, including graph inputs, and may change it
/// before it is read. `sequence` is as in [`super::QuantizeOptions`]. Returns no tensors.
pub(crate) fn execute(
    graph: &Graph,
    samples: &[&Vec<ArrayD<f32>>],
    sequence: Option<usize>,
    visit: &mut dyn FnMut(ValueId, &mut Batch) -> Result<()>,
) -> Result<()> {
    let mut env = Environment::new(graph, samples.len()).carrying(sequence);
    for (i, &id) in graph.inputs.iter().enumerate() {
        let mut batch: Batch = samples.iter().map(|s| s[i].clone()).collect();
        visit(id, &mut batch)?;
        env.set(id, batch);
    }
    for node in &graph.nodes {
        let mut batch = env.run(graph, node, false)?;
        visit(node.output, &mut batch)?;
        env.set(node.output, batch);
        env.finish(node);
    }
    Ok(())
}

/// Number of samples to hold in memory at once, about `most`: whole sequences.
pub(crate) fn chunk(most: usize, samples: usize, sequence: Option<usize>) -> usize {
    match sequence {
        None => most,
        Some(n) if n >= samples => samples.max(1),
        Some(n) => most.div_ceil(n.max(1)) * n.max(1),
    }
}

/// A graph of this node alone, with real numbers throughout.
fn single(graph: &Graph, node: &Node, pre_activation: bool) -> Graph {
    let mut single = Graph { name: node.name.clone(), ..Graph::default() };
    let ids = distinct(&node.inputs);
    for &id in &ids {
        let value = graph.value(id);
        // Indices stay integers.
        let whole = value.dtype == DType::I32 && value.quant.is_none();
        let dtype = if whole { DType::I32 } else { DType::F32 };
        let mut copy = Value { dtype, quant: None, ..value.clone() };
        if value.data.is_some() && !whole {
            copy.data = Some(std::sync::Arc::new(Data::F32(real_values(value))));
        }
        let new = single.add_value(copy);
        if value.data.is_none() {
            single.inputs.push(new);
        }
    }
    let output = graph.value(node.output);
    let dtype = if matches!(output.dtype, DType::I8 | DType::I16) { DType::F32 } else { output.dtype };
    let output = single.add_value(Value { dtype, quant: None, ..output.clone() });
    let mut op = node.op.clone();
    if let (true, Some(activation)) = (pre_activation, op.activation_mut()) {
        *activation = Activation::None;
    }
    let position = |id: &ValueId| ValueId(ids.iter().position(|o| o == id).unwrap_or_default() as u32);
    single.nodes.push(Node {
        name: node.name.clone(),
        op,
        inputs: node.inputs.iter().map(position).collect(),
        output,
    });
    single.outputs.push(output);
    single
}

/// Each id once, in order of first occurrence.
fn distinct(ids: &[ValueId]) -> Vec<ValueId> {
    let mut out: Vec<ValueId> = Vec::with_capacity(ids.len());
    for &id in ids {
        if !out.contains(&id) {
            out.push(id);
        }
    }
    out
}
