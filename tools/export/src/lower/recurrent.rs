//! Recurrent layers: dense, or with sparse weights of the input, the state or both if the device gains from it.

use offshoot::format::codec::Record;
use offshoot::format::record::{self, RecurrentArith, RecurrentKind, Returns};
use offshoot::format::sparse::{Form, SparseRepr};
use offshoot_ir::{DType, Data, Graph, Node, Op, Value, ValueId};

use super::Context;
use crate::blobs;
use crate::choose::{choose, price};
use crate::forms::Offer;
use crate::forms::parameters::{Lowering, Reason, to_u16, to_u32};
use crate::forms::sparse::{Encoded, LEAST_ZEROS, sparse_forms};
use crate::forms::wholes::Role;
use crate::lowered::{SparseReport, Tensor};

/// Why a layer with int8 input and output has no int8 form; `None` if it has.
pub(super) fn int8_obstacle(graph: &Graph, node: &Node) -> Option<Reason> {
    let Op::Recurrent { kind, returns, .. } = node.op else { return None };
    if returns == Returns::State {
        return Some("it returns state and cell memory together, which have no common scale".into());
    }
    if kind == RecurrentKind::Lstm && node.inputs.len() > 4 {
        return Some("an int8 LSTM must start from zeros, since its cell state is float32".into());
    }
    let weights = node.inputs[1..3].iter().map(|&v| graph.value(v));
    for w in weights {
        let fits = |w: &Value| {
            let quant = w.quant.as_ref().filter(|_| w.dtype == DType::I8)?;
            (quant.axis.is_none_or(|a| a == 0) && quant.zero_point.iter().all(|&z| z == 0)).then_some(())
        };
        if fits(w).is_none() {
            return Some("the weights are not int8 with a scale for each row".into());
        }
    }
    (graph.value(node.inputs[3]).dtype != DType::F32).then(|| "the bias is not float32".into())
}

/// Lowers a layer, for one sequence.
pub(super) fn recurrent(
    c: &mut Context<'_>,
    x: &Tensor,
    y: &Tensor,
    node: &Node,
    (kind, returns, reverse): (RecurrentKind, Returns, bool),
) -> Lowering {
    let [samples, steps, inputs] = x.shape[..] else {
        return Err(format!("needs axes (samples, steps, inputs), but the shape is {:?}", x.shape));
    };
    if samples != 1 {
        return Err(format!("has {samples} sequences at once, but the device runs one"));
    }
    let units = *c.graph.value(node.inputs[2]).shape.last().unwrap_or(&0);
    let dense = (kind.gates() * units * (inputs + units)) as u64;
    let (arith, whole) = if x.is_i8() {
        let arith = RecurrentArith::I8 { in_zp: x.zp, out_zp: y.zp, out_scale: y.scale };
        (arith, codes(c, &node.inputs[1..4], [x, y], (kind, steps))?)
    } else {
        let blob = floats(c, &node.inputs[1..4])?;
        (RecurrentArith::F32, Whole { blob, matrices: [None; 2], stored: dense })
    };
    let found = c.sparse.take();
    let initial = match node.inputs.get(4) {
        None => None,
        Some(&v) => {
            let given = c.tensor(v)?;
            Some(if y.is_i8() { c.with_numbers_of(&given, y)? } else { c.as_f32(&given)? })
        }
    };
    let r = record::Recurrent {
        src: 0,
        dst: 0,
        initial: initial.as_ref().map(|_| 0),
        kept: None,
        scratch: 0,
        steps: to_u16(steps, "the number of steps")?,
        inputs: to_u16(inputs, "the input width")?,
        units: to_u16(units, "the number of units")?,
        kind,
        returns,
        reverse,
        arith,
        blob: whole.blob,
    };
    let scratch = c.allocate(4 * r.workspace().words())?;
    let kept = c.stateful.then(|| c.allocate(4 * r.workspace().kept_words())).transpose()?;
    let layer = record::Recurrent { kept: kept.map(|_| 0), ..r };
    let record = match whole.matrices {
        [None, None] => Record::Recurrent(layer),
        [input, state] => Record::RecurrentSparse(record::RecurrentSparse { layer, input, state }),
    };
    let op = c.emit(record, [Some(x), initial.as_ref()], y, &[]);
    (op.scratch, op.kept, op.sparse) = (Some(scratch), kept, found);
    (op.macs, op.weights) = (whole.stored * steps as u64, whole.stored);
    Ok(())
}

/// The blob of the float32 form.
fn floats(c: &mut Context<'_>, parameters: &[ValueId]) -> Lowering<u32> {
    let [w, r, b] = [0, 1, 2].map(|i| c.constant_f32(parameters[i]));
    let (w, r, b) = (w?, r?, b?);
    let (weights, biases) = (4 * (w.len() + r.len()), 4 * b.len());
    let mut blob = blobs::floats(&b);
    blob.extend(blobs::floats(&w));
    blob.extend(blobs::floats(&r));
    c.blob(blob, [weights, biases])
}

/// int8 weights of the input or the state, and how a run uses them.
struct Weights<'w> {
    codes: &'w [i8],
    rows: usize,
    columns: usize,
    gates: usize,
    steps: usize,
    /// Zero point of the vector that they are multiplied with.
    zero: i8,
}

impl Weights<'_> {
    /// Start value of each row's sum, `-zero · Σ weights`; empty if all are 0.
    fn starts(&self) -> Vec<i32> {
        if self.zero == 0 {
            return Vec::new();
        }
        let sum = |row: &[i8]| row.iter().map(|&w| i32::from(w)).sum::<i32>();
        self.codes.chunks(self.columns.max(1)).map(|row| -i32::from(self.zero) * sum(row)).collect()
    }

    fn zeros(&self) -> f64 {
        self.codes.iter().filter(|w| **w == 0).count() as f64 / self.codes.len().max(1) as f64
    }

    /// Cost of dense storage.
    fn dense_offer(&self) -> Offer {
        let bytes = self.codes.len().next_multiple_of(4) as u64;
        Offer { bytes, instructions: dense_instructions(self), ..Offer::default() }
    }

    fn encoded(&self, form: Form) -> Option<(Encoded, Offer)> {
        // A state is read without padding, so blocks must not exceed it.
        if form == Form::Blocks && !self.columns.is_multiple_of(4) {
            return None;
        }
        let encoded = Encoded::of(self.codes, self.columns, form)?;
        let starts = if self.zero == 0 { 0 } else { 4 * self.rows };
        let bytes = (starts + encoded.bytes.len()).next_multiple_of(4) as u64;
        let instructions = sparse_instructions(self, &encoded);
        Some((encoded, Offer { bytes, instructions, ..Offer::default() }))
    }
}

/// Instructions of a run for dense products on Armv7E-M: those of the kernel's loops, plus an overhead measured on the
/// emulated Cortex-M4 (`tests/tests/sparse_recurrent.rs` checks this model against the emulator).
fn dense_instructions(w: &Weights<'_>) -> u64 {
    let (rows, columns) = (w.rows / w.gates.max(1), w.columns.max(1));
    // Rows outside a group of four, and last rows with nothing readable after them, run one by one.
    let spare = columns.next_multiple_of(4) - columns;
    let fast = rows.saturating_sub(spare.div_ceil(columns)) / 4;
    let groups = columns.div_ceil(4);
    let of_fast = fast * (21 * groups + 2 * groups.div_ceil(2) + 24) + 8 * groups + 4 * fast;
    let slow = rows - 4 * fast;
    let of_slow = if slow > 0 { slow * (7 * columns + 10) + 100 } else { 0 };
    ((of_fast + of_slow + 120) * w.gates * w.steps) as u64
}

/// As [`dense_instructions`], for sparse products.
fn sparse_instructions(w: &Weights<'_>, matrix: &Encoded) -> u64 {
    let of_row = |entries: usize| match matrix.repr.form {
        Form::Bytes => {
            let rest = [0, 5, 10, 15, 16, 21, 26, 31];
            15 + 34 * (entries / 8) + rest[entries % 8]
        }
        Form::Nibbles => 13 + 36 * (entries / 8) + 6 * (entries % 8),
        Form::Blocks => 11 + 37 * (entries / 4) + 12 * (entries % 4),
    };
    let counts = matrix.bytes.chunks_exact(2).take(w.rows);
    let of_rows: usize = counts.map(|c| of_row(usize::from(u16::from_le_bytes([c[0], c[1]])))).sum();
    ((of_rows + w.rows + 100 * w.gates) * w.steps) as u64
}

/// Instructions of the gates' functions and of everything else.
fn other_instructions(kind: RecurrentKind, units: usize, steps: usize) -> u64 {
    let of_unit = match kind {
        RecurrentKind::Tanh => 144,
        RecurrentKind::Relu => 52,
        RecurrentKind::Gru => 369,
        RecurrentKind::GruResetAfter => 337,
        RecurrentKind::Lstm => 520,
    };
    (4600 + (870 + of_unit * units) * steps) as u64
}

/// The int8 form.
struct Whole {
    blob: u32,
    /// Sparse matrices of input and state; `None` for dense ones.
    matrices: [Option<SparseRepr>; 2],
    /// Number of weights stored.
    stored: u64,
}

/// The blob of the int8 form; `tensors` have the scales and zero points of input and state.
fn codes(
    c: &mut Context<'_>,
    parameters: &[ValueId],
    tensors: [&Tensor; 2],
    (kind, steps): (RecurrentKind, usize),
) -> Lowering<Whole> {
    let bias = c.constant_f32(parameters[2])?;
    let mut blob = blobs::floats(&bias);
    let mut both = Vec::new();
    for (&id, tensor) in parameters.iter().zip(tensors) {
        let value = c.graph.value(id);
        let (Some(Data::I8(codes)), Some(quant)) = (value.data.as_deref(), &value.quant) else {
            return Err(format!("weights `{}` must be an int8 constant", value.name));
        };
        let rows = value.shape.first().copied().unwrap_or(0);
        let of = |row: usize| quant.scale[row.min(quant.scale.len() - 1)];
        let products: Vec<f32> = (0..rows).map(|row| tensor.scale * of(row)).collect();
        blob.extend(blobs::floats(&products));
        let columns = codes.len() / rows.max(1);
        both.push(Weights { codes, rows, columns, gates: kind.gates(), steps, zero: tensor.zp });
    }
    // As for fully connected layers, only in a file with one network and arranged weights.
    let sparse = c.arrange && c.role == Role::Alone;
    let (mut matrices, mut shown, mut stored, mut account) = ([None; 2], [None; 2], 0, 0);
    let (mut own, mut dense) = (Offer::default(), Offer::default());
    let add = |sum: &mut Offer, cost: &Offer| {
        sum.bytes += cost.bytes;
        sum.instructions += cost.instructions;
    };
    let mut refused = Vec::new();
    for (i, w) in both.iter().enumerate() {
        let of_dense = w.dense_offer();
        let looked_at = sparse && w.zeros() >= LEAST_ZEROS;
        let all: Vec<_> = [Form::Bytes, Form::Nibbles, Form::Blocks]
            .into_iter()
            .filter(|_| looked_at)
            .filter_map(|form| w.encoded(form))
            .collect();
        add(&mut dense, &of_dense);
        let offers: Vec<Offer> = all.iter().map(|(_, offer)| *offer).collect();
        match choose(c.prefer, &of_dense, &offers) {
            Some(at) => {
                let (encoded, cost) = &all[at];
                blob.extend(blobs::words(&w.starts()));
                blob.extend(&encoded.bytes);
                (matrices[i], shown[i]) = (Some(encoded.repr), Some(encoded.repr.form));
                (stored, account) = (stored + encoded.repr.weights(), account + encoded.bytes.len());
                add(&mut own, cost);
            }
            None => {
                blob.extend(blobs::bytes(w.codes));
                (stored, account) = (stored + w.codes.len() as u64, account + w.codes.len());
                add(&mut own, &of_dense);
                let by_price = |a: &&(Encoded, Offer), b: &&(Encoded, Offer)| {
                    price(c.prefer, &a.1).total_cmp(&price(c.prefer, &b.1))
                };
                let best = all.iter().min_by(by_price);
                refused.extend(best.map(|(encoded, cost)| (i, encoded.repr.form, *cost, of_dense)));
            }
        }
        blob.resize(blob.len().next_multiple_of(4), 0);
    }
    let chosen = matrices != [None; 2];
    if !chosen {
        // Report the cost that sparse storage would have had.
        for (i, form, cost, of_dense) in &refused {
            shown[*i] = Some(*form);
            own.bytes = own.bytes - of_dense.bytes + cost.bytes;
            own.instructions = own.instructions - of_dense.instructions + cost.instructions;
        }
    }
    if shown != [None; 2] {
        let units = both[0].rows / kind.gates();
        let others = other_instructions(kind, units, steps);
        let count = both.iter().map(|w| w.codes.len() as f64).sum::<f64>();
        let zeros = both.iter().map(|w| w.zeros() * w.codes.len() as f64).sum::<f64>();
        c.sparse = Some(SparseReport {
            form: sparse_forms(shown[0], shown[1]),
            chosen,
            density: 1.0 - zeros / count.max(1.0),
            weights_bytes: own.bytes,
            dense_weights_bytes: dense.bytes,
            instructions_estimated: own.instructions + others,
            dense_instructions_estimated: dense.instructions + others,
        });
    }
    to_u32(blob.len(), "bytes of a recurrent layer")?;
    let blob = c.blob(blob, [account, 4 * bias.len()])?;
    Ok(Whole { blob, matrices, stored })
}
