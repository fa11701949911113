//! Sizes and work of a compiled model, operator by operator.

use offshoot_plan::{Moment, Plan};
use serde::Serialize;

use crate::branch_costs::{self, BranchCost};
use crate::learning::LearningReport;
use crate::lowered::{Fallback, Lowered, PlainKernel, SparseReport};

/// Sizes and work of a compiled model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CompileReport {
    /// Bytes of the `.off` file.
    pub model_bytes: u64,
    /// Bytes of weights, each blob counted once.
    pub weights_bytes: u64,
    /// Bytes of biases.
    pub bias_bytes: u64,
    /// Bytes of the file that are neither weights nor biases: header, records, multipliers, padding.
    pub overhead_bytes: u64,
    /// Bytes of arena that a run needs.
    pub arena_bytes: u64,
    /// Proved lower bound of every plan of these operators, bytes.
    pub arena_lower_bound_bytes: u64,
    /// Whether the plan is proved optimal.
    pub arena_optimal: bool,
    /// Bytes of arena without fused row tiles, if there are any.
    pub arena_unfused_bytes: Option<u64>,
    /// Multiply-accumulates of one run; windows count in full, including padding. Of a switch, the branch with the most.
    pub macs: u64,
    /// Branches of switches, of which a run goes through one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<BranchCost>,
    /// Operators in execution order.
    pub operators: Vec<OperatorSummary>,
    /// Live bytes while each operator runs.
    pub timeline: Vec<Moment>,
    /// Every tensor in the arena, with its place and lifetime.
    pub tensors: Vec<TensorReport>,
    /// Nodes of a quantised graph that run in float32.
    pub fallbacks: Vec<Fallback>,
    /// int8 operators, or some of their channels, on plain kernels.
    pub plain_kernels: Vec<PlainKernel>,
    /// Further networks of the file, which share weights with the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<NestedReport>,
    /// Memory for learning, if the file has a learning plan.
    #[serde(flatten)]
    pub learning: Option<LearningReport>,
}

/// One operator.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OperatorSummary {
    /// Position in the file.
    pub index: usize,
    /// ONNX name of the node it was lowered from.
    pub name: String,
    /// Kind, as the runtime names it.
    pub kind: &'static str,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Number of weights.
    pub weights: u64,
    /// Kinds of the operators that it fuses, if it is a chain of fused row tiles.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<&'static str>,
    /// IR value that it completes, if any.
    pub origin: Option<u32>,
    /// Cost of sparse storage, if many weights are zero, whether it was chosen or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sparse: Option<SparseReport>,
}

/// A network of a file other than the first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NestedReport {
    /// Number that selects it.
    pub network: usize,
    /// Multiply-accumulates of a run.
    pub macs: u64,
    /// Bytes of arena.
    pub arena_bytes: u64,
    /// Bytes that it adds to the file.
    pub added_bytes: u64,
    /// Number of operators that share the first network's weights, and number of operators with weights.
    pub shared_operators: [usize; 2],
}

/// A tensor in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TensorReport {
    /// Offset in bytes.
    pub offset: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// First operator during which it is live, by position in the file.
    pub first: usize,
    /// Last operator during which it is live.
    pub last: usize,
}

/// Places and lifetimes of the plan's buffers.
fn tensors(lowered: &Lowered, plan: &Plan) -> Vec<TensorReport> {
    let mut spans: Vec<Option<(usize, usize)>> = vec![None; lowered.buffers.len()];
    for (position, moment) in plan.timeline.iter().enumerate() {
        for buffer in &moment.live {
            if let Some(span) = spans.get_mut(buffer.0) {
                span.get_or_insert((position, position)).1 = position;
            }
        }
    }
    let places = lowered.buffers.iter().zip(&plan.offsets).zip(spans);
    places
        .filter_map(|((bytes, offset), span)| {
            let (first, last) = span?;
            Some(TensorReport { offset: u64::from(*offset), bytes: u64::from(*bytes), first, last })
        })
        .collect()
}

pub(crate) fn report(bytes: &[u8], lowered: &Lowered, plan: &Plan) -> CompileReport {
    let operators: Vec<OperatorSummary> = (plan.order.iter().enumerate())
        .map(|(index, &step)| {
            let op = &lowered.operators[step];
            OperatorSummary {
                index,
                name: op.name.clone(),
                kind: op.record.tag().name(),
                macs: op.macs,
                weights: op.weights,
                members: op.members.as_ref().map(|m| m.1.clone()).unwrap_or_default(),
                origin: op.origin.map(|v| v.0),
                sparse: op.sparse,
            }
        })
        .collect();
    let counted: Vec<_> = (plan.order.iter().map(|&step| &lowered.operators[step]))
        .map(|op| (op.runs_in().to_vec(), op.macs, op.weights))
        .collect();
    let model_bytes = bytes.len() as u64;
    CompileReport {
        model_bytes,
        weights_bytes: lowered.weights_bytes,
        bias_bytes: lowered.bias_bytes,
        overhead_bytes: model_bytes.saturating_sub(lowered.weights_bytes + lowered.bias_bytes),
        arena_bytes: plan.arena_bytes.into(),
        arena_lower_bound_bytes: plan.lower_bound.into(),
        arena_optimal: plan.optimal,
        arena_unfused_bytes: None,
        macs: branch_costs::most(counted.iter().map(|(branches, macs, _)| (branches.as_slice(), *macs))),
        branches: branch_costs::costs(&counted),
        operators,
        timeline: plan.timeline.clone(),
        tensors: tensors(lowered, plan),
        fallbacks: lowered.fallbacks.clone(),
        plain_kernels: lowered.plain.clone(),
        networks: Vec::new(),
        learning: None,
    }
}
