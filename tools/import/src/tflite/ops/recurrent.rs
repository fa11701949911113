//! UNIDIRECTIONAL_SEQUENCE_LSTM.

use offshoot_ir::{Op, Quant, RecurrentKind, Returns, ValueId};
use tract_tflite::tflite::ActivationFunctionType;

use crate::constant::{Constant, Elements};
use crate::context::Importing;
use crate::tflite::builder::Builder;
use crate::tflite::file::Operator;

/// Inputs of the gates in the order of the IR: input, forget, output, candidate.
const GATES: [usize; 4] = [0, 1, 3, 2];
/// Inputs 1 to 4 are weights of the input, 5 to 8 of the state, 12 to 15 biases.
const INPUT: usize = 1;
const STATE: usize = 5;
const BIAS: usize = 12;
/// Inputs of forms that are not imported.
const LEFT_OUT: [(std::ops::Range<usize>, &str); 3] =
    [(9..12, "peephole weights"), (16..18, "a projection"), (20..24, "layer normalisation")];

/// The bound that Keras's converter gives every cell state. It is not applied: beyond it the tanh of the state, and so the
/// output of that step, is 1 in float32 anyway.
const LEAST_CLIP: f32 = 10.0;

/// The whole sequence is returned; the state starts from zeros.
pub(super) fn lstm(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing {
    let o = op.options.builtin_options_as_unidirectional_sequence_lstmoptions();
    let o = o.ok_or("its options are missing")?;
    if o.fused_activation_function() != ActivationFunctionType::TANH {
        return Err("an activation other than TANH".into());
    }
    if (o.cell_clip() != 0.0 && o.cell_clip() < LEAST_CLIP) || o.proj_clip() != 0.0 {
        return Err(format!("a cell state clipped to ±{}", o.cell_clip()));
    }
    if o.diagonal_recurrent_tensors() {
        return Err("diagonal weights of the state".into());
    }
    for (inputs, what) in LEFT_OUT {
        if inputs.into_iter().any(|i| b.has(op, i)) {
            return Err(what.into());
        }
    }
    if !b.has(op, INPUT) {
        return Err("coupled input and forget gates".into());
    }
    let mut x = b.value(op, 0)?;
    let shape = b.shape(x);
    let &[first, second, inputs] = shape.as_slice() else {
        return Err(format!("its input {shape:?} is not a sequence"));
    };
    let (samples, steps) = if o.time_major() { (second, first) } else { (first, second) };
    if o.time_major() {
        x = turned(b, op, x, [samples, steps, inputs], "sequence")?;
    }
    let (int8, out) = (b.form_of(x).is_i8(), b.out_form(op, 0)?);
    if out.dtype == offshoot_ir::DType::I16 || b.form_of(x).dtype == offshoot_ir::DType::I16 {
        return Err("int16 activations".into());
    }
    if int8 != out.is_i8() {
        return Err("input and output have different number formats".into());
    }
    let weights =
        [(INPUT, "weights"), (STATE, "state_weights")].map(|(at, name)| matrix(b, op, at, int8, name));
    let [w, r] = weights;
    let (w, r) = (w?, r?);
    let biases = bias(b, op)?;
    let kind = Op::Recurrent { kind: RecurrentKind::Lstm, returns: Returns::Sequence, reverse: false };
    let parameters = vec![x, w, r, biases];
    if !o.time_major() {
        return b.finish(op, kind, parameters, 0);
    }
    let name = b.part(op, "states");
    let y = b.emit(op, kind, parameters, None, &out, &name)?;
    let units = *b.shape(y).last().unwrap_or(&0);
    let y = turned(b, op, y, [steps, samples, units], "turned")?;
    b.finish(op, Op::Reshape, vec![y], 0)
}

/// The first two axes swapped, which for one sample is a Reshape.
fn turned(
    b: &mut Builder<'_>,
    op: &Operator<'_>,
    x: ValueId,
    to: [usize; 3],
    name: &str,
) -> Importing<ValueId> {
    let (form, name) = (b.form_of(x), b.part(op, name));
    match to[0] == 1 || to[1] == 1 {
        true => b.emit(op, Op::Reshape, vec![x], Some(to.to_vec()), &form, &name),
        false => b.emit(op, Op::Transpose { perm: vec![1, 0, 2] }, vec![x], None, &form, &name),
    }
}

/// The weights of the four gates from input `at` on, one below the other: int8 with a scale for each row, or float32.
fn matrix(b: &mut Builder<'_>, op: &Operator<'_>, at: usize, int8: bool, name: &str) -> Importing<ValueId> {
    let gates = GATES.map(|g| b.constant(op, at + g));
    let name = b.part(op, name);
    let (mut codes, mut reals, mut scale) = (Vec::new(), Vec::new(), Vec::new());
    let mut shape: Option<Vec<usize>> = None;
    for gate in gates {
        let gate = gate?;
        if gate.shape.len() != 2 || shape.as_ref().is_some_and(|s| *s != gate.shape) {
            return Err(format!("weights {:?}", gate.shape));
        }
        if int8 {
            let (Elements::I8(v), Some(q)) = (&gate.elements, &gate.quant) else {
                return Err("weights without an int8 form".into());
            };
            if q.axis.is_some_and(|a| a != 0) || q.zero_point.iter().any(|z| *z != 0) {
                return Err("weights with a zero point, or scales along another axis than the units".into());
            }
            codes.extend_from_slice(v);
            let one = q.scale.len() == 1;
            scale.extend((0..gate.shape[0]).map(|i| q.scale[if one { 0 } else { i }]));
        } else {
            reals.extend(gate.to_reals());
        }
        shape = Some(gate.shape);
    }
    let mut shape = shape.unwrap_or_default();
    shape[0] *= GATES.len();
    if !int8 {
        return b.reals(&name, shape, reals);
    }
    let quant = Quant { zero_point: vec![0; scale.len()], scale, axis: Some(0) };
    b.add(&name, &Constant { shape, elements: Elements::I8(codes), quant: Some(quant) })
}

/// The biases of the four gates; float32 in both forms.
fn bias(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing<ValueId> {
    let mut all = Vec::new();
    for gate in GATES {
        all.extend(b.constant(op, BIAS + gate)?.to_reals());
    }
    b.reals(&b.part(op, "bias"), vec![all.len()], all)
}
