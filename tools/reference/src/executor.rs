//! Executes a graph.

use std::borrow::Borrow;
use std::ops::Deref;
use std::sync::Arc;

use ndarray::{ArrayD, Axis, IxDyn};
use offshoot_ir::indexed::chosen_branch;
use offshoot_ir::{DType, Data, Graph, Node, Op, Value, ValueId};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::{conv, elementwise, indexed, movement, norm, pool, recurrent, resize, spectrum};

type Tensor = Arc<ArrayD<f32>>;

/// A tensor that an operator reads.
#[derive(Clone)]
enum Operand<'a> {
    /// The caller's.
    Given(&'a ArrayD<f32>),
    Own(Tensor),
}

impl Deref for Operand<'_> {
    type Target = ArrayD<f32>;

    fn deref(&self) -> &ArrayD<f32> {
        match self {
            Self::Given(array) => array,
            Self::Own(array) => array,
        }
    }
}

impl Operand<'_> {
    fn into_owned(self) -> ArrayD<f32> {
        match self {
            Self::Given(array) => array.clone(),
            Self::Own(array) => Arc::unwrap_or_clone(array),
        }
    }
}

/// A graph ready to run, with its constants as float32.
#[derive(Clone, Debug)]
pub struct Executor {
    graph: Graph,
    constants: Vec<Option<Tensor>>,
    /// For every value, the last node that reads it; graph outputs outlive all nodes.
    last_use: Vec<usize>,
}

impl Executor {
    /// Validates the graph and dequantises its constants.
    ///
    /// # Errors
    /// The graph is not well formed.
    pub fn new(graph: &Graph) -> Result<Self> {
        graph.validate()?;
        let constants =
            graph.values.iter().map(|v| v.data.is_some().then(|| Arc::new(constant(v)))).collect();
        let mut last_use = vec![0; graph.values.len()];
        for (n, node) in graph.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|id| last_use[id.0 as usize] = n);
        }
        graph.outputs.iter().for_each(|id| last_use[id.0 as usize] = usize::MAX);
        Ok(Self { graph: graph.clone(), constants, last_use })
    }

    /// Runs one sample: one array of real values per graph input, in the graph's shapes.
    ///
    /// # Errors
    /// Inputs are missing or have other shapes.
    pub fn run(&self, inputs: &[impl Borrow<ArrayD<f32>>]) -> Result<Vec<ArrayD<f32>>> {
        self.execute(inputs, None)
    }

    /// [`Self::run`]; `visit` sees every input and every node's output as it is computed, and may change its elements: the nodes behind
    /// read what it leaves.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_with(
        &self,
        inputs: &[impl Borrow<ArrayD<f32>>],
        visit: &mut dyn FnMut(ValueId, &mut ArrayD<f32>),
    ) -> Result<Vec<ArrayD<f32>>> {
        self.execute(inputs, Some(visit))
    }

    fn execute(
        &self,
        inputs: &[impl Borrow<ArrayD<f32>>],
        mut visit: Option<&mut dyn FnMut(ValueId, &mut ArrayD<f32>)>,
    ) -> Result<Vec<ArrayD<f32>>> {
        let mut values: Vec<Option<Operand<'_>>> =
            self.constants.iter().map(|c| c.clone().map(Operand::Own)).collect();
        for (i, id) in self.graph.inputs.iter().enumerate() {
            let value = self.graph.value(*id);
            let given = inputs.get(i).map(Borrow::borrow);
            let Some(array) = given.filter(|a| a.shape() == value.shape) else {
                return Err(Error::Input {
                    name: value.name.clone(),
                    given: given.map_or_else(Vec::new, |a| a.shape().to_vec()),
                    wanted: value.shape.clone(),
                });
            };
            values[id.0 as usize] = Some(match &mut visit {
                Some(visit) => {
                    let mut array = array.clone();
                    visit(*id, &mut array);
                    Operand::Own(Arc::new(array))
                }
                None => Operand::Given(array),
            });
        }
        for (n, node) in self.graph.nodes.iter().enumerate() {
            let missing =
                || Error::Operator { node: node.name.clone(), reason: "an input is missing".into() };
            let mut operands = Vec::with_capacity(node.inputs.len());
            for id in &node.inputs {
                operands.push(values[id.0 as usize].clone().ok_or_else(missing)?);
            }
            for id in &node.inputs {
                if self.last_use[id.0 as usize] == n && self.constants[id.0 as usize].is_none() {
                    values[id.0 as usize] = None;
                }
            }
            let value = self.graph.value(node.output);
            let mut out = evaluate(node, &value.shape, &operands)?;
            // The operator itself does not say to which type it converts.
            if matches!(node.op, Op::Cast) && value.dtype == DType::I32 {
                out.mapv_inplace(indexed::to_int);
            }
            if let Some(visit) = &mut visit {
                visit(node.output, &mut out);
            }
            values[node.output.0 as usize] = Some(Operand::Own(Arc::new(out)));
        }
        let missing = || Error::Operator { node: "output".into(), reason: "it was not computed".into() };
        let outputs: Vec<Option<Operand<'_>>> =
            self.graph.outputs.iter().map(|id| values[id.0 as usize].clone()).collect();
        // Nothing else holds an output any more, so that it need not be copied.
        drop(values);
        outputs.into_iter().map(|v| v.map(Operand::into_owned).ok_or_else(missing)).collect()
    }

    /// Runs many samples on all cores; results are `[sample][output]`.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_batch(&self, samples: &[Vec<ArrayD<f32>>]) -> Result<Vec<Vec<ArrayD<f32>>>> {
        samples.par_iter().map(|s| self.run(s)).collect()
    }
}

/// A constant's real values.
fn constant(value: &Value) -> ArrayD<f32> {
    let raw: Vec<f32> = match value.data.as_deref() {
        Some(Data::F32(v)) => v.clone(),
        Some(Data::I8(v)) => v.iter().map(|v| f32::from(*v)).collect(),
        Some(Data::I16(v)) => v.iter().map(|v| f32::from(*v)).collect(),
        Some(Data::I32(v)) => v.iter().map(|v| *v as f32).collect(),
        Some(Data::I64(v)) => v.iter().map(|v| *v as f32).collect(),
        None => Vec::new(),
    };
    let mut array = match ArrayD::from_shape_vec(IxDyn(&value.shape), raw) {
        Ok(a) => a,
        // Validation has checked the length against the shape.
        Err(_) => ArrayD::zeros(IxDyn(&value.shape)),
    };
    let Some(q) = &value.quant else { return array };
    match q.axis {
        None => array.mapv_inplace(|v| (v - q.zero_point[0] as f32) * q.scale[0]),
        Some(axis) => {
            for (i, mut slab) in array.axis_iter_mut(Axis(axis)).enumerate() {
                slab.mapv_inplace(|v| (v - q.zero_point[i] as f32) * q.scale[i]);
            }
        }
    }
    array
}

/// Evaluates one operator with its fused activation. `shape` is its output's shape; `inputs` are in the order of
/// [`Op`].
///
/// # Errors
/// The inputs do not fit the operator. Only what the computation needs is checked.
pub fn evaluate(
    node: &Node,
    shape: &[usize],
    inputs: &[impl Deref<Target = ArrayD<f32>>],
) -> Result<ArrayD<f32>> {
    let inputs: Vec<&ArrayD<f32>> = inputs.iter().map(Deref::deref).collect();
    let mut out =
        raw(node, shape, &inputs).map_err(|reason| Error::Operator { node: node.name.clone(), reason })?;
    if let Some(activation) = node.op.activation() {
        let (min, max) = activation.bounds();
        if min != f32::NEG_INFINITY || max != f32::INFINITY {
            out.mapv_inplace(|v| v.max(min).min(max));
        }
    }
    Ok(out)
}

fn raw(node: &Node, shape: &[usize], x: &[&ArrayD<f32>]) -> std::result::Result<ArrayD<f32>, String> {
    Ok(match &node.op {
        Op::Conv2d { window, groups, .. } => {
            conv::conv2d(x[0], x[1], x.get(2).copied(), window, *groups, shape)
        }
        Op::ConvTranspose2d { window, groups, .. } => {
            conv::conv_transpose2d(x[0], x[1], x.get(2).copied(), window, *groups, shape)
        }
        Op::FullyConnected { .. } => conv::fully_connected(x[0], x[1], x.get(2).copied(), shape),
        Op::MatMul { transpose_b } => conv::matmul(x[0], x[1], *transpose_b, shape),
        Op::Pool { kind, window, .. } => pool::pool(x[0], *kind, window, shape),
        Op::Binary { kind, .. } => elementwise::binary(*kind, x[0], x[1], shape)?,
        Op::Unary(kind) => x[0].mapv(|v| kind.apply(v)),
        Op::Lookup(lookup) => x[0].mapv(|v| lookup.apply(v)),
        Op::PRelu => elementwise::prelu(x[0], x[1]),
        Op::Softmax { axis } => norm::softmax(x[0], *axis),
        Op::BatchNorm { epsilon } => norm::batch_norm(x[0], [x[1], x[2], x[3], x[4]], *epsilon),
        Op::LayerNorm { epsilon } => norm::layer_norm(x[0], x[1], x[2], *epsilon),
        Op::Recurrent { kind, returns, reverse } => {
            let layer = recurrent::layer(*kind, *reverse, x)?;
            let initial = x.get(4).copied();
            recurrent::output(&recurrent::moments(&layer, x[0], initial, &|h| h)?, *returns)
        }
        Op::Reshape => movement::reshape(x[0], shape)?,
        Op::Transpose { perm } => x[0].view().permuted_axes(IxDyn(perm)).as_standard_layout().into_owned(),
        Op::Concat { axis } => movement::concat(x, *axis)?,
        Op::Switch => {
            let (index, branches) = x.split_last().ok_or("has no branches")?;
            let chosen = chosen_branch(index.first().copied().unwrap_or(0.0), branches.len());
            (*branches.get(chosen).ok_or("has no branches")?).clone()
        }
        Op::Slice { start, step } => movement::slice(x[0], start, step, shape),
        Op::Pad { before, after: _, mode, value } => movement::pad(x[0], before, *mode, *value, shape),
        Op::Resize(rule) => resize::resize(x[0], rule, shape)?,
        Op::History { axis, state, fill } => {
            let before: Vec<usize> = (0..shape.len()).map(|i| if i == *axis { *state } else { 0 }).collect();
            movement::pad(x[0], &before, None, *fill, shape)
        }
        Op::Expand => movement::expand(x[0], shape)?,
        Op::Reduce { kind, axes } => movement::reshape(&norm::reduce(x[0], *kind, axes), shape)?,
        Op::ArgMax { axis, select_last } => {
            movement::reshape(&norm::argmax(x[0], *axis, *select_last), shape)?
        }
        Op::Gather(indexing) => indexed::gather(x[0], x[1], *indexing, shape)?,
        Op::Scatter { indexing, kind } => indexed::scatter(x[0], x[1], x[2], *indexing, *kind)?,
        Op::TopK { axis, largest, .. } => indexed::top_k(x[0], *axis, *largest, shape),
        Op::GridSample { kind, outside, align_corners } => {
            indexed::grid_sample(x[0], x[1], (*kind, *outside, *align_corners), shape)?
        }
        Op::Spectrum { frame, hop, size, part } => {
            spectrum::spectrum(x[0], x.get(1).copied(), [*frame, *hop, *size], *part, shape)?
        }
        Op::MicroFrontend(settings) => spectrum::micro_frontend(x[0], settings, shape)?,
        Op::Quantize | Op::Dequantize | Op::Requantize | Op::Cast => x[0].clone(),
    })
}
