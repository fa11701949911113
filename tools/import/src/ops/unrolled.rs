//! RNN, GRU and LSTM step by step, in the forms that have no operator in the IR: peepholes, `clip`, `input_forget`, other
//! activations, constant lengths, and weights that are computed at run time.

use offshoot_ir::{BinaryKind, UnaryKind, ValueId};

use crate::context::{Context, Importing, Onnx};
use crate::parts::Parts;

/// Most steps that are unrolled.
const MAX_STEPS: usize = 512;

/// One direction: its parameters and activations.
struct Direction {
    /// Products of the input with bias, `[steps, samples, gates · units]`.
    input: ValueId,
    /// `[units, gates · units]`
    state: ValueId,
    /// Bias of the state's candidate that is reset after its product, `[1, units]`.
    candidate: Option<ValueId>,
    /// `[1, units]` for the gates input, output, forget.
    peepholes: Option<[ValueId; 3]>,
    activations: Vec<Function>,
    units: usize,
}

/// An activation with its parameters.
#[derive(Clone)]
struct Function {
    name: String,
    alpha: Option<f32>,
    beta: Option<f32>,
}

impl Function {
    fn apply(&self, p: &mut Parts<'_, '_, '_>, x: ValueId, clip: Option<f32>) -> Importing<ValueId> {
        let x = match clip {
            Some(bound) => p.unary(UnaryKind::Clip { min: -bound, max: bound }, x)?,
            None => x,
        };
        let kind = match self.name.as_str() {
            "sigmoid" => UnaryKind::Sigmoid,
            "tanh" => UnaryKind::Tanh,
            "relu" => UnaryKind::Clip { min: 0.0, max: f32::INFINITY },
            "leakyrelu" => UnaryKind::LeakyRelu { alpha: self.alpha.unwrap_or(0.01) },
            "elu" => UnaryKind::Elu { alpha: self.alpha.unwrap_or(1.0) },
            "hardsigmoid" => {
                UnaryKind::HardSigmoid { alpha: self.alpha.unwrap_or(0.2), beta: self.beta.unwrap_or(0.5) }
            }
            "softplus" => UnaryKind::Softplus,
            "affine" => {
                let scaled = p.times(x, self.alpha.unwrap_or(1.0))?;
                let shift = p.number(self.beta.unwrap_or(0.0));
                return p.add(scaled, shift);
            }
            "scaledtanh" => {
                let inner = p.times(x, self.beta.unwrap_or(1.0))?;
                let tanh = p.unary(UnaryKind::Tanh, inner)?;
                return p.times(tanh, self.alpha.unwrap_or(1.0));
            }
            "softsign" => {
                let size = p.unary(UnaryKind::Abs, x)?;
                let one = p.number(1.0);
                let below = p.add(size, one)?;
                return p.binary(BinaryKind::Div, x, below);
            }
            other => return Err(format!("activation `{other}`")),
        };
        p.unary(kind, x)
    }
}

/// The activations of all directions, each with `usual.len()` of them. `alpha` and `beta` are lists over those
/// activations that take them, in order.
fn functions(onnx: &Onnx<'_>, usual: &[&str], directions: usize) -> Importing<Vec<Function>> {
    let named = onnx.texts("activations").filter(|names| !names.is_empty());
    let names: Vec<String> = match named {
        Some(names) => names.iter().map(|n| n.to_lowercase()).collect(),
        None => usual.iter().copied().cycle().take(usual.len() * directions).map(str::to_owned).collect(),
    };
    if names.len() != usual.len() * directions {
        return Err(format!("{} activations for {directions} directions", names.len()));
    }
    let (mut alpha, mut beta) = (
        onnx.floats("activation_alpha").unwrap_or_default().into_iter(),
        onnx.floats("activation_beta").unwrap_or_default().into_iter(),
    );
    Ok(names
        .into_iter()
        .map(|name| {
            let takes_alpha = ["leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu", "affine"];
            let takes_beta = ["scaledtanh", "hardsigmoid", "affine"];
            Function {
                alpha: takes_alpha.contains(&name.as_str()).then(|| alpha.next()).flatten(),
                beta: takes_beta.contains(&name.as_str()).then(|| beta.next()).flatten(),
                name,
            }
        })
        .collect())
}

/// Imports a recurrent layer step by step.
pub(crate) fn recurrent(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let operator = onnx.node.op_type.as_str();
    let (gates, usual): (usize, &[&str]) = match operator {
        "RNN" => (1, &["tanh"]),
        "GRU" => (3, &["sigmoid", "tanh"]),
        _ => (4, &["sigmoid", "tanh", "tanh"]),
    };
    let reverse: &[bool] = match onnx.text("direction", "forward").as_str() {
        "forward" => &[false],
        "reverse" => &[true],
        "bidirectional" => &[false, true],
        other => return Err(format!("direction `{other}`")),
    };
    let clip = onnx.has("clip").then(|| onnx.float("clip", 0.0));
    if clip.is_some_and(|bound| bound.is_nan() || bound < 0.0) {
        return Err(format!("clip {clip:?}"));
    }
    let samples_first = onnx.int("layout", 0) != 0;
    let lengths = c.ints(onnx, 4)?;
    let mut p = Parts::of(c, onnx);
    let mut x = p.input(0)?;
    if p.shape(x).len() != 3 {
        return Err(format!("input {:?} is not (steps, samples, inputs)", p.shape(x)));
    }
    if samples_first {
        x = p.transpose(x, &[1, 0, 2])?;
    }
    let [steps, samples, inputs] = p.shape(x)[..] else { return Err("an input without three axes".into()) };
    if steps > MAX_STEPS {
        return Err(format!("{steps} steps of a form that is unrolled; up to {MAX_STEPS} are supported"));
    }
    let recurrence = p.input(2)?;
    let units = *p.shape(recurrence).last().ok_or("the state's weights are not a matrix")?;
    let all = functions(onnx, usual, reverse.len())?;
    let mut sequences = Vec::new();
    let (mut ends, mut memories) = (Vec::new(), Vec::new());
    for (d, reverse) in reverse.iter().copied().enumerate() {
        let after = operator == "GRU" && onnx.int("linear_before_reset", 0) != 0;
        let activations = all[d * usual.len()..(d + 1) * usual.len()].to_vec();
        let sizes = [steps, samples, inputs, gates, units];
        let own = direction(&mut p, x, d, sizes, after, activations)?;
        let mut states = Vec::new();
        for i in 5..if operator == "LSTM" { 7 } else { 6 } {
            states.push(initial(&mut p, i, d, samples, units, samples_first)?);
        }
        let mut outputs = vec![x; steps];
        for step in 0..steps {
            let t = if reverse { steps - 1 - step } else { step };
            let input = p.slice(own.input, 0, t, 1, 1)?;
            let input = p.reshape(input, &[samples, gates * units])?;
            let mut next = match operator {
                "RNN" => rnn(&mut p, &own, input, &states, clip)?,
                "GRU" => gru(&mut p, &own, input, &states, clip)?,
                _ => lstm(&mut p, &own, input, &states, clip)?,
            };
            let mut shown = next[0];
            if let Some(lengths) = &lengths {
                if lengths.len() != samples {
                    return Err(format!("{} lengths for {samples} samples", lengths.len()));
                }
                // A sample whose sequence does not reach here keeps its state and shows 0.
                let runs: Vec<f32> = lengths.iter().map(|l| f32::from(u8::from((t as i64) < *l))).collect();
                if runs.contains(&0.0) {
                    let rests = runs.iter().map(|r| 1.0 - r).collect();
                    let (runs, rests) = (p.reals(&[samples, 1], runs), p.reals(&[samples, 1], rests));
                    for (new, old) in next.iter_mut().zip(&states) {
                        let (new_part, old_part) = (p.mul(*new, runs)?, p.mul(*old, rests)?);
                        *new = p.add(new_part, old_part)?;
                    }
                    shown = p.mul(shown, runs)?;
                }
            }
            states = next;
            outputs[t] = p.reshape(shown, &[1, samples, units])?;
        }
        if onnx.output(0).is_some() {
            let whole = p.concat(&outputs, 0)?;
            sequences.push(match samples_first {
                true => {
                    let whole = p.transpose(whole, &[1, 0, 2])?;
                    p.reshape(whole, &[samples, steps, 1, units])?
                }
                false => p.reshape(whole, &[steps, 1, samples, units])?,
            });
        }
        let end = if samples_first { [samples, 1, units] } else { [1, samples, units] };
        ends.push(p.reshape(states[0], &end)?);
        if let Some(memory) = states.get(1) {
            memories.push(p.reshape(*memory, &end)?);
        }
    }
    let (sequence_axis, end_axis) = if samples_first { (2, 1) } else { (1, 0) };
    for (i, parts, axis) in [(0, sequences, sequence_axis), (1, ends, end_axis), (2, memories, end_axis)] {
        if onnx.output(i).is_some() && !parts.is_empty() {
            let y = p.concat(&parts, axis)?;
            p.output(i, y)?;
        }
    }
    Ok(())
}

fn direction(
    p: &mut Parts<'_, '_, '_>,
    x: ValueId,
    d: usize,
    [steps, samples, inputs, gates, units]: [usize; 5],
    after: bool,
    activations: Vec<Function>,
) -> Importing<Direction> {
    let rows = gates * units;
    let matrix = |p: &mut Parts<'_, '_, '_>, i: usize, columns: usize| -> Importing<ValueId> {
        let whole = p.input(i)?;
        let own = p.slice(whole, 0, d, 1, 1)?;
        if p.shape(own) != [1, rows, columns] {
            return Err(format!("weights {:?} are not {:?}", p.shape(own), [1, rows, columns]));
        }
        let own = p.reshape(own, &[rows, columns])?;
        p.transpose(own, &[1, 0])
    };
    let (input, state) = (matrix(p, 1, inputs)?, matrix(p, 2, units)?);
    let flat = p.reshape(x, &[steps * samples, inputs])?;
    let mut input = p.matmul(flat, input)?;
    let mut candidate = None;
    if let Some(bias) = p.optional(3)? {
        let own = p.slice(bias, 0, d, 1, 1)?;
        let (w, r) = (p.slice(own, 1, 0, 1, rows)?, p.slice(own, 1, rows, 1, rows)?);
        input = p.add(input, w)?;
        let joint = if after { rows - units } else { rows };
        if joint < rows {
            candidate = Some(p.slice(r, 1, joint, 1, units)?);
            let shared = p.slice(r, 1, 0, 1, joint)?;
            let zeros = p.reals(&[1, units], vec![0.0; units]);
            let shared = p.concat(&[shared, zeros], 1)?;
            input = p.add(input, shared)?;
        } else {
            input = p.add(input, r)?;
        }
    } else if after {
        candidate = Some(p.reals(&[1, units], vec![0.0; units]));
    }
    let input = p.reshape(input, &[steps, samples, rows])?;
    let peepholes = match p.onnx.node.op_type.as_str() {
        "LSTM" => p.optional(7)?,
        _ => None,
    };
    let peepholes = match peepholes {
        Some(all) => {
            let own = p.slice(all, 0, d, 1, 1)?;
            let mut each = [own; 3];
            for (i, slot) in each.iter_mut().enumerate() {
                *slot = p.slice(own, 1, i * units, 1, units)?;
            }
            Some(each)
        }
        None => None,
    };
    Ok(Direction { input, state, candidate, peepholes, activations, units })
}

/// The initial state of a direction, `[samples, units]`.
fn initial(
    p: &mut Parts<'_, '_, '_>,
    i: usize,
    d: usize,
    samples: usize,
    units: usize,
    samples_first: bool,
) -> Importing<ValueId> {
    let Some(whole) = p.optional(i)? else {
        return Ok(p.reals(&[samples, units], vec![0.0; samples * units]));
    };
    let own = p.slice(whole, usize::from(samples_first), d, 1, 1)?;
    p.reshape(own, &[samples, units])
}

fn rnn(
    p: &mut Parts<'_, '_, '_>,
    own: &Direction,
    input: ValueId,
    states: &[ValueId],
    clip: Option<f32>,
) -> Importing<Vec<ValueId>> {
    let product = p.matmul(states[0], own.state)?;
    let sum = p.add(input, product)?;
    Ok(vec![own.activations[0].apply(p, sum, clip)?])
}

fn gru(
    p: &mut Parts<'_, '_, '_>,
    own: &Direction,
    input: ValueId,
    states: &[ValueId],
    clip: Option<f32>,
) -> Importing<Vec<ValueId>> {
    let (h, units) = (states[0], own.units);
    let [f, g] = &own.activations[..] else { return Err("activations".into()) };
    let product = p.matmul(h, own.state)?;
    let mut gates = Vec::new();
    for k in 0..2 {
        let (a, b) = (p.slice(input, 1, k * units, 1, units)?, p.slice(product, 1, k * units, 1, units)?);
        let sum = p.add(a, b)?;
        gates.push(f.apply(p, sum, clip)?);
    }
    let pulled = match own.candidate {
        Some(bias) => {
            let own_part = p.slice(product, 1, 2 * units, 1, units)?;
            let sum = p.add(own_part, bias)?;
            p.mul(gates[1], sum)?
        }
        None => {
            let reset = p.mul(gates[1], h)?;
            let weights = p.slice(own.state, 1, 2 * units, 1, units)?;
            p.matmul(reset, weights)?
        }
    };
    let pushed = p.slice(input, 1, 2 * units, 1, units)?;
    let sum = p.add(pushed, pulled)?;
    let candidate = g.apply(p, sum, clip)?;
    let open = p.not(gates[0])?;
    let (new, old) = (p.mul(open, candidate)?, p.mul(gates[0], h)?);
    Ok(vec![p.add(new, old)?])
}

fn lstm(
    p: &mut Parts<'_, '_, '_>,
    own: &Direction,
    input: ValueId,
    states: &[ValueId],
    clip: Option<f32>,
) -> Importing<Vec<ValueId>> {
    let units = own.units;
    let [h, memory] = states[..] else { return Err("states".into()) };
    let [f, g, out] = &own.activations[..] else { return Err("activations".into()) };
    let product = p.matmul(h, own.state)?;
    let sums = p.add(input, product)?;
    // ONNX orders the gates as input, output, forget, cell.
    let gate = |p: &mut Parts<'_, '_, '_>, k: usize, seen: ValueId| -> Importing<ValueId> {
        let own_sum = p.slice(sums, 1, k * units, 1, units)?;
        let sum = match &own.peepholes {
            Some(each) if k < 3 => {
                let peeped = p.mul(seen, each[k])?;
                p.add(own_sum, peeped)?
            }
            _ => own_sum,
        };
        let function = if k == 3 { g } else { f };
        function.apply(p, sum, clip)
    };
    let enter = gate(p, 0, memory)?;
    let forget = match p.onnx.int("input_forget", 0) {
        0 => gate(p, 2, memory)?,
        _ => p.not(enter)?,
    };
    let candidate = gate(p, 3, memory)?;
    let (kept, new) = (p.mul(forget, memory)?, p.mul(enter, candidate)?);
    let memory = p.add(kept, new)?;
    let leave = gate(p, 1, memory)?;
    // The bound applies to the inputs of the gates only.
    let shown = out.apply(p, memory, None)?;
    Ok(vec![p.mul(leave, shown)?, memory])
}
