//! Shape inference: the extents of an operator's output, from its inputs.
//!
//! For some operators the output value gives the extents ([`Op::Reshape`], [`Op::Slice`], [`Op::Expand`],
//! [`Op::Resize`], [`Op::ConvTranspose2d`], and whether [`Op::Reduce`] and [`Op::ArgMax`] keep axes). For these,
//! `declared` is checked and returned.

use crate::graph::{Op, Value};
use crate::indexed;
use crate::{Error, RecurrentKind, Result, Returns, SpectrumPart, Window};

/// Output shape of `op` over `inputs`; `declared` is the current shape of its output value.
///
/// # Errors
/// What does not fit, with the name of the operator; the caller fills in the node's name.
pub fn infer_shape(op: &Op, inputs: &[&Value], declared: &[usize]) -> Result<Vec<usize>> {
    rule(op, inputs, declared).map_err(|reason| Error::Node { node: String::new(), op: op.name(), reason })
}

type Rule = std::result::Result<Vec<usize>, String>;

fn rule(op: &Op, inputs: &[&Value], declared: &[usize]) -> Rule {
    count(op, inputs.len())?;
    let shapes: Vec<&[usize]> = inputs.iter().map(|v| v.shape.as_slice()).collect();
    let Some(&x) = shapes.first() else {
        return Err("has no input".into());
    };
    match op {
        Op::Conv2d { window, groups, .. } => conv2d(x, &shapes, window, *groups),
        Op::ConvTranspose2d { window, groups, .. } => conv_transpose(x, &shapes, window, *groups, declared),
        Op::FullyConnected { .. } => {
            let [o, i] = *shapes[1] else {
                return Err(format!("weights {:?} are not [O, I]", shapes[1]));
            };
            if x.last() != Some(&i) {
                return Err(format!("input {x:?} does not end in the weights' {i} columns"));
            }
            bias(&shapes, o)?;
            let mut out = x.to_vec();
            out.pop();
            out.push(o);
            Ok(out)
        }
        Op::MatMul { transpose_b } => matmul(x, shapes[1], *transpose_b),
        Op::Pool { window, .. } => {
            let [n, h, w, c] = nhwc(x)?;
            let [oh, ow] = windowed([h, w], window)?;
            Ok(vec![n, oh, ow, c])
        }
        Op::Binary { .. } => broadcast(x, shapes[1]),
        Op::Unary(_) | Op::Lookup(_) | Op::Quantize | Op::Dequantize | Op::Requantize => Ok(x.to_vec()),
        Op::PRelu | Op::BatchNorm { .. } | Op::LayerNorm { .. } => {
            let c = *x.last().ok_or("input is a scalar")?;
            match shapes[1..].iter().find(|s| **s != [c]) {
                Some(s) => Err(format!("parameter {s:?} is not [{c}], the input's last axis")),
                None => Ok(x.to_vec()),
            }
        }
        Op::Recurrent { kind, returns, .. } => recurrent(&shapes, *kind, *returns),
        Op::Softmax { axis } => axis_of(*axis, x).map(|()| x.to_vec()),
        Op::Reshape => {
            let (from, to) = (product(x)?, product(declared)?);
            if from != to {
                return Err(format!("{x:?} has {from} elements, which do not fill {declared:?}"));
            }
            Ok(declared.to_vec())
        }
        Op::Transpose { perm } => {
            let mut seen = vec![false; x.len()];
            for &p in perm {
                match seen.get_mut(p) {
                    Some(s) if !*s => *s = true,
                    _ => return Err(format!("{perm:?} is not a permutation of {} axes", x.len())),
                }
            }
            if perm.len() != x.len() {
                return Err(format!("{perm:?} is not a permutation of {} axes", x.len()));
            }
            Ok(perm.iter().map(|&p| x[p]).collect())
        }
        Op::Concat { axis } => concat(*axis, &shapes),
        Op::Slice { start, step } => slice(x, start, step, declared),
        Op::Pad { before, after, .. } => {
            if before.len() != x.len() || after.len() != x.len() {
                return Err(format!("padding of {} and {} axes for input {x:?}", before.len(), after.len()));
            }
            x.iter()
                .zip(before.iter().zip(after))
                .map(|(&d, (&b, &a))| {
                    b.checked_add(a).and_then(|p| p.checked_add(d)).ok_or_else(|| "padding overflows".into())
                })
                .collect()
        }
        Op::Resize(_) => {
            let [n, _, _, c] = nhwc(x)?;
            let [on, _, _, oc] = nhwc(declared)?;
            if (n, c) != (on, oc) {
                return Err(format!("{x:?} to {declared:?} changes batch or channels"));
            }
            Ok(declared.to_vec())
        }
        Op::History { axis, state, .. } => {
            axis_of(*axis, x)?;
            if *state == 0 || x[..*axis].iter().any(|d| *d != 1) {
                return Err(format!("{state} steps before axis {axis} of {x:?}"));
            }
            let mut out = x.to_vec();
            out[*axis] = out[*axis].checked_add(*state).ok_or("joined extent overflows")?;
            Ok(out)
        }
        Op::Expand => match broadcast(x, declared)? {
            s if s == declared => Ok(s),
            _ => Err(format!("{x:?} does not broadcast to {declared:?}")),
        },
        Op::Reduce { axes, .. } => {
            axes.iter().try_for_each(|&a| axis_of(a, x))?;
            if !axes.is_sorted_by(|a, b| a < b) {
                return Err(format!("axes {axes:?} do not ascend"));
            }
            reduced(x, axes, declared)
        }
        Op::ArgMax { axis, .. } => axis_of(*axis, x).and_then(|()| reduced(x, &[*axis], declared)),
        Op::Cast => Ok(x.to_vec()),
        Op::Switch => {
            let (index, branches) = shapes.split_last().ok_or("has no branches")?;
            if product(index)? != 1 {
                return Err(format!("index {index:?} has not one element"));
            }
            match branches.iter().find(|branch| **branch != x) {
                Some(other) => Err(format!("branches of {x:?} and {other:?}")),
                None => Ok(x.to_vec()),
            }
        }
        Op::Gather(indexing) => indexed::gathered(*indexing, x, shapes[1]),
        Op::Scatter { indexing, .. } => {
            let updates = indexed::gathered(*indexing, x, shapes[1])?;
            if updates != shapes[2] {
                return Err(format!("updates {:?} are not {updates:?}", shapes[2]));
            }
            Ok(x.to_vec())
        }
        Op::TopK { axis, k, .. } => {
            axis_of(*axis, x)?;
            if !(1..=x[*axis]).contains(k) {
                return Err(format!("the best {k} along axis {axis} of {x:?}"));
            }
            let mut out = x.to_vec();
            out[*axis] = *k;
            Ok(out)
        }
        Op::GridSample { .. } => {
            let ([n, _, _, c], [gn, h, w, two]) = (nhwc(x)?, nhwc(shapes[1])?);
            if n != gn || two != 2 {
                return Err(format!("grid {:?} for an image {x:?}", shapes[1]));
            }
            Ok(vec![n, h, w, c])
        }
        Op::MicroFrontend(settings) => {
            settings.check()?;
            match *x {
                [1, samples] if samples >= settings.frame => {
                    Ok(vec![1, (samples - settings.frame) / settings.hop + 1, settings.channels])
                }
                _ => Err(format!("{x:?} is not [1, samples] with {} or more", settings.frame)),
            }
        }
        Op::Spectrum { frame, hop, size, part } => {
            spectrum(x, shapes.get(1).copied(), [*frame, *hop, *size], *part)
        }
    }
}

/// Shape of the transforms of frames.
fn spectrum(
    x: &[usize],
    window: Option<&[usize]>,
    [frame, hop, size]: [usize; 3],
    part: SpectrumPart,
) -> std::result::Result<Vec<usize>, String> {
    let &[signals, samples] = x else {
        return Err(format!("{x:?} is not [N, samples]"));
    };
    if !offshoot::format::spectral::SIZES.iter().any(|(known, _)| usize::from(*known) == size) {
        return Err(format!("a transform of {size} elements: a power of two from 32 to 4096 is supported"));
    }
    if frame == 0 || frame > size || frame > samples || hop == 0 {
        return Err(format!(
            "frames of {frame} samples, {hop} apart, of {samples}, in a transform of {size}"
        ));
    }
    if window.is_some_and(|window| window != [frame]) {
        return Err(format!("window {window:?} for frames of {frame} samples"));
    }
    let mut out = vec![signals, (samples - frame) / hop + 1, size / 2 + 1];
    if part == SpectrumPart::Complex {
        out.push(2);
    }
    Ok(out)
}

fn count(op: &Op, n: usize) -> std::result::Result<(), String> {
    let (min, max) = match op {
        Op::Conv2d { .. } | Op::ConvTranspose2d { .. } | Op::FullyConnected { .. } => (2, 3),
        Op::MatMul { .. } | Op::Binary { .. } | Op::PRelu | Op::Gather(_) | Op::GridSample { .. } => (2, 2),
        Op::Scatter { .. } => (3, 3),
        Op::Spectrum { .. } => (1, 2),
        Op::BatchNorm { .. } => (5, 5),
        Op::LayerNorm { .. } => (3, 3),
        Op::Recurrent { .. } => (4, 5),
        Op::Concat { .. } => (1, usize::MAX),
        Op::Switch => (2, usize::MAX),
        _ => (1, 1),
    };
    if (min..=max).contains(&n) { Ok(()) } else { Err(format!("has {n} inputs, takes {min} to {max}")) }
}

fn product(shape: &[usize]) -> std::result::Result<usize, String> {
    shape
        .iter()
        .try_fold(1usize, |a, &d| a.checked_mul(d))
        .ok_or_else(|| format!("{shape:?} has too many elements"))
}

fn nhwc(x: &[usize]) -> std::result::Result<[usize; 4], String> {
    x.try_into().map_err(|_| format!("{x:?} is not [N, H, W, C]"))
}

fn axis_of(axis: usize, x: &[usize]) -> std::result::Result<(), String> {
    if axis < x.len() { Ok(()) } else { Err(format!("axis {axis} of {x:?}")) }
}

fn bias(shapes: &[&[usize]], channels: usize) -> std::result::Result<(), String> {
    match shapes.get(2) {
        Some(&b) if b != [channels] => Err(format!("bias {b:?} is not [{channels}]")),
        _ => Ok(()),
    }
}

fn windowed(extent: [usize; 2], w: &Window) -> std::result::Result<[usize; 2], String> {
    let mut out = [0; 2];
    for i in 0..2 {
        let (k, s, d) = (usize::from(w.kernel[i]), usize::from(w.stride[i]), usize::from(w.dilation[i]));
        if k == 0 || s == 0 || d == 0 {
            return Err("kernel, stride and dilation must be at least 1".into());
        }
        let span = (k - 1) * d + 1;
        let padded = extent[i].saturating_add(usize::from(w.pad[i]) + usize::from(w.pad[i + 2]));
        out[i] = padded
            .checked_sub(span)
            .ok_or_else(|| format!("window of {span} over a padded extent of {padded}"))?
            / s
            + 1;
    }
    Ok(out)
}

/// Checks OHWI weights; returns O.
fn kernel(w: &[usize], window: &Window, c: usize, groups: usize) -> std::result::Result<usize, String> {
    let [o, kh, kw, i] = *w else {
        return Err(format!("weights {w:?} are not [O, H, W, I]"));
    };
    if [kh, kw] != window.kernel.map(usize::from) {
        return Err(format!("weights {w:?} do not have the kernel {:?}", window.kernel));
    }
    if groups == 0 || !o.is_multiple_of(groups) || i.checked_mul(groups) != Some(c) {
        return Err(format!("weights {w:?} do not fit {c} channels in {groups} groups"));
    }
    Ok(o)
}

fn conv2d(x: &[usize], shapes: &[&[usize]], window: &Window, groups: usize) -> Rule {
    let [n, h, w, c] = nhwc(x)?;
    let o = kernel(shapes[1], window, c, groups)?;
    bias(shapes, o)?;
    let [oh, ow] = windowed([h, w], window)?;
    Ok(vec![n, oh, ow, o])
}

fn conv_transpose(
    x: &[usize],
    shapes: &[&[usize]],
    window: &Window,
    groups: usize,
    declared: &[usize],
) -> Rule {
    let [n, _, _, c] = nhwc(x)?;
    let o = kernel(shapes[1], window, c, groups)?;
    bias(shapes, o)?;
    if window.stride.contains(&0) || window.dilation.contains(&0) {
        return Err("stride and dilation must be at least 1".into());
    }
    let [on, _, _, oc] = nhwc(declared)?;
    if (on, oc) != (n, o) {
        return Err(format!("output {declared:?} does not have batch {n} and {o} channels"));
    }
    Ok(declared.to_vec())
}

fn matmul(a: &[usize], b: &[usize], transpose_b: bool) -> Rule {
    let (Some((batch, &[m, k])), Some((batch_b, &[r, c]))) =
        (a.split_last_chunk::<2>(), b.split_last_chunk::<2>())
    else {
        return Err(format!("{a:?} and {b:?} need at least two axes"));
    };
    let (kb, n) = if transpose_b { (c, r) } else { (r, c) };
    if k != kb || batch != batch_b {
        return Err(format!("{a:?} and {b:?} do not multiply"));
    }
    Ok(batch.iter().copied().chain([m, n]).collect())
}

fn recurrent(shapes: &[&[usize]], kind: RecurrentKind, returns: Returns) -> Rule {
    let [n, t, i] = *shapes[0] else {
        return Err(format!("{:?} is not [N, T, I]", shapes[0]));
    };
    let h = shapes[2].last().copied().unwrap_or(0);
    let blocks = |count: usize| h.checked_mul(count).ok_or("too many units");
    let (rows, biases, states) = (blocks(kind.gates())?, blocks(kind.biases())?, blocks(kind.states())?);
    if *shapes[1] != [rows, i] || *shapes[2] != [rows, h] || *shapes[3] != [biases] {
        let [w, r, b] = [shapes[1], shapes[2], shapes[3]];
        return Err(format!("weights {w:?} and {r:?} and bias {b:?} do not fit {i} inputs and {h} units"));
    }
    if n == 0 || t == 0 || i == 0 || h == 0 {
        return Err("an extent is 0".into());
    }
    if let Some(initial) = shapes.get(4)
        && **initial != [n, states]
        && **initial != [1, states]
    {
        return Err(format!("initial state {initial:?} is not [{n}, {states}]"));
    }
    match returns {
        Returns::Sequence => Ok(vec![n, t, h]),
        Returns::Last => Ok(vec![n, h]),
        Returns::State if kind == RecurrentKind::Lstm => Ok(vec![n, states]),
        Returns::State => Err("only an LSTM has a memory to return".into()),
    }
}

/// NumPy's broadcast of two shapes.
fn broadcast(a: &[usize], b: &[usize]) -> Rule {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |j| s[j]);
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (p, q) if p == q || q == 1 => Ok(p),
            (1, q) => Ok(q),
            _ => Err(format!("{a:?} and {b:?} do not broadcast")),
        })
        .collect()
}

fn concat(axis: usize, shapes: &[&[usize]]) -> Rule {
    let mut out = shapes[0].to_vec();
    axis_of(axis, &out)?;
    for s in &shapes[1..] {
        let fits = s.len() == out.len() && (0..out.len()).all(|i| i == axis || s[i] == out[i]);
        if !fits {
            return Err(format!("{s:?} does not join {:?} along axis {axis}", shapes[0]));
        }
        out[axis] = out[axis].checked_add(s[axis]).ok_or("joined extent overflows")?;
    }
    Ok(out)
}

fn slice(x: &[usize], start: &[usize], step: &[isize], declared: &[usize]) -> Rule {
    if [start.len(), step.len(), declared.len()] != [x.len(); 3] {
        return Err(format!("start {start:?}, step {step:?}, output {declared:?} for input {x:?}"));
    }
    for i in 0..x.len() {
        if step[i] == 0 {
            return Err(format!("step 0 on axis {i}"));
        }
        let Some(last) = declared[i].checked_sub(1) else {
            continue;
        };
        let end = isize::try_from(last)
            .ok()
            .and_then(|l| l.checked_mul(step[i]))
            .and_then(|d| start[i].checked_add_signed(d));
        if start[i] >= x[i] || end.is_none_or(|e| e >= x[i]) {
            return Err(format!("axis {i} reads outside 0..{}", x[i]));
        }
    }
    Ok(declared.to_vec())
}

fn reduced(x: &[usize], axes: &[usize], declared: &[usize]) -> Rule {
    let kept: Vec<usize> = (0..x.len()).map(|i| if axes.contains(&i) { 1 } else { x[i] }).collect();
    let dropped: Vec<usize> = (0..x.len()).filter(|i| !axes.contains(i)).map(|i| x[i]).collect();
    if declared == kept { Ok(kept) } else { Ok(dropped) }
}
