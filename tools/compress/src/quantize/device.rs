//! The device in the training loop: compiles the quantised network and runs it with the runtime on this machine.
//! [`offshoot_train`] uses its tensors, operator by operator, in the forward pass.

use std::collections::{BTreeMap, HashMap};

use ndarray::{ArrayD, Axis};
use offshoot::trace::{NoObserver, Observer, OpInfo};
use offshoot::{AlignedBytes, Engine, Model};
use offshoot_export::{CompileOptions, compile};
use offshoot_ir::grid::{self, code};
use offshoot_ir::{DType, Graph, Op, Quant, ValueId};
use offshoot_plan::PlanOptions;
use offshoot_train::device::{Device, DeviceError, DeviceRun, DeviceTensor, Numbers};
use offshoot_train::{Dataset, Target, argmax};
use rayon::prelude::*;

use super::form::is_weighted;
use super::learned::quantize_learned;
use super::options::QuantizeOptions;
use super::trained::Learned;
use crate::Error;

/// Quantises with the current step sizes and compiles.
#[derive(Clone, Debug)]
pub(crate) struct Simulator {
    pub(crate) options: QuantizeOptions,
}

/// Step sizes by constant name, as training has them, converted to step sizes by node name.
pub(crate) fn by_node(graph: &Graph, steps: &BTreeMap<String, Vec<f32>>) -> BTreeMap<String, Vec<f32>> {
    let weighted = graph.nodes.iter().filter(|n| is_weighted(&n.op));
    weighted
        .filter_map(|n| Some((n.name.clone(), steps.get(&graph.value(*n.inputs.get(1)?).name)?.clone())))
        .collect()
}

impl Device for Simulator {
    fn prepare(&self, graph: &Graph, numbers: &Numbers) -> Result<Box<dyn DeviceRun>, DeviceError> {
        let learned = Learned { steps: by_node(graph, &numbers.steps), ranges: numbers.ranges.clone() };
        let quantized = quantize_learned(graph, &learned, &self.options)?;
        // Results do not depend on the plan: the first one found will do.
        let plan = PlanOptions { reorder: false, order_budget: 1, offset_budget: 1 };
        let compiled = compile(&quantized, &CompileOptions { plan, ..CompileOptions::default() })?;
        let off = AlignedBytes::copy_of(compiled.bytes.as_slice());
        Model::open(off.bytes()).map_err(|e| format!("{e:?}"))?;
        Ok(Box::new(Ready { graph: quantized, off }))
    }
}

/// A quantised network's size and quality on the device.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct DeviceJudgement {
    /// Bytes of the `.off` file.
    pub bytes: u64,
    /// Mean loss: cross-entropy for labels, squared error for values.
    pub loss: f64,
    /// Share of samples classified as their label says; only with labels.
    pub accuracy: Option<f64>,
}

/// Compiles a quantised network and judges it on labelled samples, or on target values for its first output.
///
/// # Errors
/// As [`device_outputs`]; the data have no targets.
pub fn device_judgement(quantized: &Graph, data: &Dataset) -> Result<DeviceJudgement, Error> {
    let compiled = compile(quantized, &CompileOptions::default()).map_err(Error::Export)?;
    let bytes = compiled.report.model_bytes;
    let ready = Ready { graph: quantized.clone(), off: AlignedBytes::copy_of(compiled.bytes.as_slice()) };
    let failed = |e: DeviceError| Error::Execution { node: quantized.name.clone(), source: e };
    let rows = ready.outputs(&data.inputs).map_err(failed)?;
    let count = rows.len().max(1) as f64;
    match &data.target {
        Target::Labels(labels) => {
            let probable = ends_in_softmax(quantized);
            let loss = rows.iter().zip(labels).map(|(row, &l)| cross_entropy(row, l, probable)).sum::<f64>();
            let right = rows.iter().zip(labels).filter(|(row, l)| argmax(row.iter()) as i64 == **l).count();
            Ok(DeviceJudgement { bytes, loss: loss / count, accuracy: Some(right as f64 / count) })
        }
        Target::Values(values) => {
            let flat = rows.iter().flatten().zip(values.iter());
            let loss = flat.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / values.len().max(1) as f64;
            Ok(DeviceJudgement { bytes, loss, accuracy: None })
        }
        Target::Unlabelled => {
            Err(Error::Training(offshoot_train::Error::Data("there are no targets to judge by".into())))
        }
    }
}

/// Whether the outputs are probabilities that add up to one.
fn ends_in_softmax(graph: &Graph) -> bool {
    let mut at = graph.outputs.first().copied();
    while let Some(node) = at.and_then(|id| graph.producer(id)).map(|i| &graph.nodes[i]) {
        match node.op {
            Op::Softmax { .. } => return true,
            Op::Dequantize | Op::Quantize | Op::Requantize | Op::Reshape => at = node.inputs.first().copied(),
            _ => return false,
        }
    }
    false
}

fn cross_entropy(row: &[f32], label: i64, probable: bool) -> f64 {
    let own = row.get(label as usize).copied().unwrap_or(f32::NEG_INFINITY);
    if probable {
        // An int8 softmax does not resolve anything below half a step.
        return -f64::from(own.max(1.0 / 512.0)).ln();
    }
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter().map(|v| f64::from(v - max).exp()).sum::<f64>().ln() + f64::from(max) - f64::from(own)
}

/// First output of a quantised network for every sample of `data`, as real values, as the device computes them.
///
/// # Errors
/// The device cannot run the network, or the samples do not fit the graph.
pub fn device_outputs(quantized: &Graph, data: &Dataset) -> Result<Vec<Vec<f32>>, Error> {
    let failed = |e: DeviceError| Error::Execution { node: quantized.name.clone(), source: e };
    let plan = PlanOptions { reorder: false, order_budget: 1, offset_budget: 1 };
    let options = CompileOptions { plan, ..CompileOptions::default() };
    let compiled = compile(quantized, &options).map_err(Error::Export)?;
    let ready = Ready { graph: quantized.clone(), off: AlignedBytes::copy_of(compiled.bytes.as_slice()) };
    ready.outputs(&data.inputs).map_err(failed)
}

/// Share of labelled samples that a quantised network classifies correctly on the device.
///
/// # Errors
/// As [`device_outputs`]; there are no labels.
pub fn device_accuracy(quantized: &Graph, data: &Dataset) -> Result<f64, Error> {
    let Target::Labels(labels) = &data.target else {
        return Err(Error::Training(offshoot_train::Error::Data("there are no labels".into())));
    };
    let outputs = device_outputs(quantized, data)?;
    let right = outputs.iter().zip(labels).filter(|(row, label)| argmax(row.iter()) as i64 == **label);
    Ok(right.count() as f64 / outputs.len().max(1) as f64)
}

struct Ready {
    graph: Graph,
    off: AlignedBytes,
}

impl DeviceRun for Ready {
    fn run(&self, inputs: &[ArrayD<f32>]) -> Result<HashMap<ValueId, DeviceTensor>, DeviceError> {
        let samples = inputs.first().map_or(0, |x| x.shape()[0]);
        let chunk = samples.div_ceil(rayon::current_num_threads() * 2).max(1);
        let starts: Vec<usize> = (0..samples).step_by(chunk).collect();
        let parts: Vec<HashMap<ValueId, Vec<f32>>> = (starts.par_iter())
            .map(|&start| self.some(inputs, start..(start + chunk).min(samples)))
            .collect::<Result<_, DeviceError>>()?;
        let mut out: HashMap<ValueId, DeviceTensor> = HashMap::new();
        for (id, values) in parts.into_iter().flatten() {
            let bounds = match self.quant(id) {
                Some(quant) => grid::bounds(quant),
                None => (f32::NEG_INFINITY, f32::INFINITY),
            };
            let whole = out.entry(id).or_insert(DeviceTensor { values: Vec::new(), bounds });
            whole.values.extend(values);
        }
        Ok(out)
    }
}

impl Ready {
    fn outputs(&self, inputs: &[ArrayD<f32>]) -> Result<Vec<Vec<f32>>, DeviceError> {
        let samples = inputs.first().map_or(0, |x| x.shape()[0]);
        let chunk = samples.div_ceil(rayon::current_num_threads() * 4).max(1);
        let starts: Vec<usize> = (0..samples).step_by(chunk).collect();
        let parts: Vec<Vec<Vec<f32>>> = (starts.par_iter())
            .map(|&start| {
                let mut rows = Vec::new();
                self.each(inputs, start..(start + chunk).min(samples), &mut NoObserver, |engine| {
                    rows.push(engine.output(0).map(<[u8]>::to_vec));
                })?;
                let output = self.graph.outputs.first().copied();
                let decode = |bytes: &[u8]| match output.and_then(|id| self.quant(id)) {
                    Some(quant) => {
                        let (scale, zero) = (quant.scale[0], quant.zero_point[0] as f32);
                        bytes.iter().map(|&q| (f32::from(q as i8) - zero) * scale).collect()
                    }
                    None => floats(bytes),
                };
                let rows = rows.into_iter().map(|r| r.map(|b| decode(&b)));
                rows.collect::<Result<Vec<Vec<f32>>, _>>().map_err(|e| format!("{e:?}").into())
            })
            .collect::<Result<_, DeviceError>>()?;
        Ok(parts.into_iter().flatten().collect())
    }

    fn quant(&self, id: ValueId) -> Option<&Quant> {
        let value = self.graph.value(id);
        value.quant.as_ref().filter(|_| value.dtype == DType::I8)
    }

    /// Tensors of a run of several samples.
    fn some(
        &self,
        inputs: &[ArrayD<f32>],
        range: std::ops::Range<usize>,
    ) -> Result<HashMap<ValueId, Vec<f32>>, DeviceError> {
        let mut seen = Seen { ready: self, values: HashMap::new() };
        for (i, &id) in self.graph.inputs.iter().enumerate() {
            for sample in range.clone() {
                seen.store(id, &self.encoded(&inputs[i], id, sample));
            }
        }
        self.each(inputs, range, &mut seen, |_| {})?;
        Ok(seen.values)
    }

    /// A sample as the bytes that go into the arena.
    fn encoded(&self, x: &ArrayD<f32>, id: ValueId, sample: usize) -> Vec<u8> {
        let x = x.index_axis(Axis(0), sample);
        match self.quant(id) {
            Some(quant) => x.iter().map(|v| code(*v, quant) as u8).collect(),
            None => x.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }

    /// Runs samples one after the other.
    fn each(
        &self,
        inputs: &[ArrayD<f32>],
        range: std::ops::Range<usize>,
        observer: &mut impl Observer,
        mut done: impl FnMut(&Engine<'_, '_>),
    ) -> Result<(), DeviceError> {
        let failed = |e: offshoot::Error| format!("{e:?}");
        let model = Model::open(self.off.bytes()).map_err(failed)?;
        let mut arena = AlignedBytes::zeroed(model.arena_bytes() as usize);
        let mut engine = Engine::new(model, arena.bytes_mut()).map_err(failed)?;
        for sample in range {
            for (i, (x, &id)) in inputs.iter().zip(&self.graph.inputs).enumerate() {
                let bytes = self.encoded(x, id, sample);
                let memory = engine.input_mut(i).map_err(failed)?;
                if memory.len() != bytes.len() {
                    return Err("a sample does not have the input's length".into());
                }
                memory.copy_from_slice(&bytes);
            }
            engine.run_with(observer).map_err(failed)?;
            done(&engine);
        }
        Ok(())
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|w| f32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect()
}

/// Collects the tensors that operators write.
struct Seen<'a> {
    ready: &'a Ready,
    values: HashMap<ValueId, Vec<f32>>,
}

impl Seen<'_> {
    fn store(&mut self, id: ValueId, bytes: &[u8]) {
        let Some(value) = self.ready.graph.values.get(id.0 as usize) else { return };
        let values = self.values.entry(id).or_default();
        match (value.dtype, self.ready.quant(id)) {
            (DType::I8, Some(quant)) if bytes.len() == value.len() => {
                let (scale, zero) = (quant.scale[0], quant.zero_point[0] as f32);
                values.extend(bytes.iter().map(|&q| (f32::from(q as i8) - zero) * scale));
            }
            (DType::F32, _) if bytes.len() == 4 * value.len() => {
                values.extend(floats(bytes));
            }
            _ => {}
        }
    }
}

impl Observer for Seen<'_> {
    fn after(&mut self, op: OpInfo, output: &[u8]) {
        if op.origin != u16::MAX {
            self.store(ValueId(op.origin.into()), output);
        }
    }
}
