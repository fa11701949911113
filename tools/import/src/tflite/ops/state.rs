//! Variables of streaming networks, and SVDF.
//!
//! A variable is imported where a network reads it, or its last steps, in front of new data, and assigns the end of both to
//! it: then it is the last steps of earlier runs, which is what [`Op::History`] computes.

use offshoot_ir::{Activation, BinaryKind, Op, ReduceKind, ValueId, Window};
use tract_tflite::tflite::ActivationFunctionType;

use crate::constant::Constant;
use crate::context::{Importing, axis};
use crate::tflite::builder::{Builder, Entry, Form, Fused};
use crate::tflite::file::{Operator, Subgraph};

/// Reads the values that a subgraph assigns to variables before the first run.
pub(in crate::tflite) fn initialise(b: &mut Builder<'_>, sub: Subgraph<'_>) -> Importing {
    let mut inner = Builder::new("", sub.tensors);
    for op in &sub.operators {
        match op.kind.as_str() {
            "VAR_HANDLE" => handle(&mut inner, op)?,
            "ASSIGN_VARIABLE" => {
                let (at, value) = (inner.input(op, 0)?, inner.constant(op, 1)?);
                let Entry::Handle(name) = &inner.entries[at] else {
                    return Err("assigns to no variable".into());
                };
                b.variables.entry(name.clone()).or_default().initial = Some(value);
            }
            other => return Err(format!("runs {other}; only assignments of constants are supported")),
        }
    }
    Ok(())
}

pub(super) fn handle(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing {
    let o = op.options.builtin_options_as_var_handle_options().ok_or("its options are missing")?;
    let name = format!("{}/{}", o.container().unwrap_or(""), o.shared_name().unwrap_or(""));
    b.bind(op, 0, Entry::Handle(name))
}

/// The variable at input 0.
fn variable(b: &Builder<'_>, op: &Operator<'_>) -> Importing<String> {
    match &b.entries[b.input(op, 0)?] {
        Entry::Handle(name) => Ok(name.clone()),
        Entry::Unknown => Err(String::new()),
        _ => Err("its first input is not the handle of a variable".into()),
    }
}

pub(super) fn read(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing {
    let name = variable(b, op)?;
    if b.variables.get(&name).is_some_and(|v| v.assigned) {
        return Err(format!("reads variable `{name}` after it was assigned"));
    }
    b.out_form(op, 0)?;
    let shape = b.tensors[b.output(op, 0)?].shape.clone();
    let variable = b.variables.entry(name.clone()).or_default();
    if !variable.shape.is_empty() && variable.shape != shape {
        return Err(format!("reads variable `{name}` with another shape than before"));
    }
    variable.shape = shape;
    b.bind(op, 0, Entry::State(name))
}

/// The end of a variable: what makes room for new data where the variable holds the new data too.
pub(super) fn last_steps(
    b: &mut Builder<'_>,
    op: &Operator<'_>,
    starts: &[usize],
    steps: &[isize],
) -> Importing {
    let at = b.input(op, 0)?;
    let Entry::State(name) = b.entries[at].clone() else { return Err("has no state".into()) };
    let whole = b.tensors[at].shape.clone();
    let form = b.form(at)?;
    let part = b.out_shape(op, 0)?;
    let cut: Vec<usize> = (0..starts.len()).filter(|a| starts[*a] > 0).collect();
    let fits = part.len() == whole.len()
        && starts.len() == whole.len()
        && (0..whole.len()).all(|a| steps[a] == 1 && starts[a] + part[a] == whole[a]);
    let variable = b.variables.entry(name.clone()).or_default();
    let (true, [axis], None) = (fits, cut.as_slice(), variable.cut) else {
        return Err(format!("takes something other than the last steps of variable `{name}`"));
    };
    variable.cut = Some(*axis);
    if b.out_form(op, 0)? != form {
        return Err(format!("variable `{name}` has another scale than its last steps"));
    }
    b.bind(op, 0, Entry::State(name))
}

/// A variable in front of new data.
pub(super) fn concatenation(b: &mut Builder<'_>, op: &Operator<'_>, along: i64, fused: Fused) -> Importing {
    if fused != Fused::Clip(Activation::None) {
        return Err("a fused activation".into());
    }
    let at = b.input(op, 0)?;
    let Entry::State(name) = b.entries[at].clone() else { return Err("has no state".into()) };
    let form = b.out_form(op, 0)?;
    if b.form(at)? != form {
        return Err(format!("variable `{name}` has another scale than the output"));
    }
    let state = b.tensors[at].shape.clone();
    let axis = axis(along, state.len())?;
    if state[axis] == 0 {
        return Err(format!("variable `{name}` is empty"));
    }
    let mut parts = Vec::new();
    for i in 1..op.inputs.len() {
        let x = b.value(op, i)?;
        let own = b.form_of(x);
        parts.push(match own == form {
            true => x,
            false if own.is_quantised() && form.is_quantised() => {
                let name = b.part(op, &format!("part_{i}"));
                b.emit(op, Op::Requantize, vec![x], None, &form, &name)?
            }
            false => return Err("joins tensors with different number formats".into()),
        });
    }
    let joined = match parts.as_slice() {
        [] => return Err("joins no new data".into()),
        [one] => *one,
        _ => {
            let name = b.part(op, "new");
            b.emit(op, Op::Concat { axis }, parts, None, &form, &name)?
        }
    };
    let variable = b.variables.entry(name.clone()).or_default();
    if variable.history.is_some() {
        return Err(format!("variable `{name}` is read in front of several tensors"));
    }
    if variable.cut.is_some_and(|cut| cut != axis) {
        return Err(format!("variable `{name}` is cut along another axis"));
    }
    let fill = fill(variable.initial.as_ref()).map_err(|e| format!("variable `{name}` {e}"))?;
    let kind = Op::History { axis, state: state[axis], fill };
    b.finish(op, kind, vec![joined], 0)?;
    if let Entry::Value(id) = b.entries[b.output(op, 0)?] {
        b.variables.entry(name).or_default().history = Some((id, axis, state[axis]));
    }
    Ok(())
}

/// The number that a variable holds everywhere before the first run; 0 if the file does not say.
fn fill(initial: Option<&Constant>) -> Importing<f32> {
    let Some(initial) = initial else { return Ok(0.0) };
    let reals = initial.to_reals();
    let first = reals.first().copied().unwrap_or(0.0);
    match reals.iter().all(|v| *v == first) && first.is_finite() {
        true => Ok(first),
        false => Err("begins with different numbers; one number is supported".into()),
    }
}

/// The assigned value must be the end of what the variable was read in front of.
pub(super) fn assign(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing {
    let name = variable(b, op)?;
    let y = b.value(op, 1)?;
    let variable = b.variables.get(&name);
    let Some((Some((history, axis, _)), length)) = variable.map(|v| (v.history, &v.shape)) else {
        return Err(format!("variable `{name}` is assigned, but no CONCATENATION reads it before"));
    };
    let whole = b.shape(history);
    // The steps that the next run reads are the last of these.
    let kept = length.get(axis).copied().unwrap_or(0);
    let mut end = whole.clone();
    end[axis] = kept;
    let node = b.graph.nodes.iter().find(|n| n.output == y);
    let is_end = match node.map(|n| (&n.op, n.inputs[0])) {
        _ if y == history => kept == whole[axis],
        Some((Op::Slice { start, step }, x)) if kept <= whole[axis] => {
            let starts = (0..whole.len()).map(|a| if a == axis { whole[a] - kept } else { 0 });
            x == history
                && start.iter().copied().eq(starts)
                && step.iter().all(|s| *s == 1)
                && b.shape(y) == end
        }
        _ => false,
    };
    if !is_end || variable.is_some_and(|v| v.assigned) {
        return Err(format!(
            "variable `{name}` is not assigned the last {kept} steps of what it was joined to"
        ));
    }
    b.variables.entry(name).or_default().assigned = true;
    Ok(())
}

/// SVDF: x [1, I], feature weights [F, I], time weights [F, T], bias [F / rank]?, state. A fully connected layer, whose
/// last T results pass a filter each; groups of `rank` filters are summed. Computed in float32: the int8 form of TFLite
/// Micro keeps int16 states.
pub(super) fn svdf(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing {
    let o = op.options.builtin_options_as_svdfoptions().ok_or("its options are missing")?;
    let rank = usize::try_from(o.rank()).ok().filter(|r| *r > 0).ok_or("its rank")?;
    let fused = o.fused_activation_function();
    if !matches!(fused, ActivationFunctionType::NONE | ActivationFunctionType::RELU) {
        return Err("an activation other than RELU".into());
    }
    let x = b.real(op, 0)?;
    let (features, times) = (b.constant(op, 1)?, b.constant(op, 2)?);
    let (&[filters, inputs], &[rows, steps]) = (features.shape.as_slice(), times.shape.as_slice()) else {
        return Err("its weights are not matrices".into());
    };
    if rows != filters || steps == 0 || filters == 0 || filters % rank != 0 || b.shape(x) != [1, inputs] {
        return Err(format!("weights {:?} and {:?} for input {:?}", features.shape, times.shape, b.shape(x)));
    }
    let units = filters / rank;
    let w = b.reals(&b.part(op, "features"), features.shape.clone(), features.to_reals())?;
    let part =
        |b: &mut Builder<'_>, kind: Op, inputs: Vec<ValueId>, declared: Option<Vec<usize>>, name: &str| {
            let name = b.part(op, name);
            b.emit(op, kind, inputs, declared, &Form::F32, &name)
        };
    let plain = Activation::None;
    let now = part(b, Op::FullyConnected { activation: plain }, vec![x, w], None, "now")?;
    let mut y = part(b, Op::Reshape, vec![now], Some(vec![1, 1, 1, filters]), "step")?;
    if steps > 1 {
        y = part(b, Op::History { axis: 1, state: steps - 1, fill: 0.0 }, vec![y], None, "steps")?;
    }
    let steps = u16::try_from(steps).map_err(|_| "its memory is too long")?;
    let window = Window { kernel: [steps, 1], stride: [1, 1], dilation: [1, 1], pad: [0; 4] };
    let taps = vec![filters, usize::from(steps), 1, 1];
    let t = b.reals(&b.part(op, "times"), taps, times.to_reals())?;
    let kind = Op::Conv2d { window, groups: filters, activation: plain };
    y = part(b, kind, vec![y, t], None, "filtered")?;
    y = part(b, Op::Reshape, vec![y], Some(vec![1, units, rank]), "filters")?;
    y = part(b, Op::Reduce { kind: ReduceKind::Sum, axes: vec![2] }, vec![y], Some(vec![1, units]), "units")?;
    let bias = match b.has(op, 3) {
        true => b.constant(op, 3)?.to_reals(),
        false => vec![0.0; units],
    };
    if bias.len() != units {
        return Err(format!("{} biases for {units} units", bias.len()));
    }
    let bias = b.reals(&b.part(op, "bias"), vec![units], bias)?;
    let activation = if fused == ActivationFunctionType::RELU { Activation::Relu } else { plain };
    b.finish_real(op, Op::Binary { kind: BinaryKind::Add, activation }, vec![y, bias])
}
