//! Attention, RotaryEmbedding, LinearAttention, CausalConvWithState.

use offshoot_ir::{Activation, BinaryKind, ElementaryKind, Op, ReduceKind, UnaryKind, ValueId};

use crate::constant::{Constant, Elements};
use crate::context::{Context, Importing, Onnx};
use crate::parts::Parts;

/// Extents of an attention: samples, heads of queries and of keys, positions, sizes of a head.
struct Sizes {
    samples: usize,
    heads: usize,
    kv_heads: usize,
    queries: usize,
    keys: usize,
    past: usize,
}

fn positive(onnx: &Onnx<'_>, name: &str) -> Importing<usize> {
    usize::try_from(onnx.int(name, 0)).ok().filter(|n| *n > 0).ok_or_else(|| format!("{name} is missing"))
}

/// `(samples, positions, heads · size)` as `(samples, heads, positions, size)`; four axes stay as they are.
fn split_heads(p: &mut Parts<'_, '_, '_>, x: ValueId, heads: &str) -> Importing<ValueId> {
    let shape = p.shape(x);
    match *shape.as_slice() {
        [_, _, _, _] => Ok(x),
        [n, t, d] => {
            let heads = positive(p.onnx, heads)?;
            if d % heads != 0 {
                return Err(format!("{d} numbers for {heads} heads"));
            }
            let y = p.reshape(x, &[n, t, heads, d / heads])?;
            p.transpose(y, &[0, 2, 1, 3])
        }
        _ => Err(format!("an input of shape {shape:?}")),
    }
}

/// Attention (opsets 23 to 25): softmax(scale · Q · Kᵀ + bias) · V. Heads of queries that share a head of keys are rows
/// of one matrix product.
pub(crate) fn attention(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let mut p = Parts::of(c, onnx);
    let packed = {
        let q = p.input(0)?;
        p.shape(q).len() == 3
    };
    let q = p.input(0)?;
    let q = split_heads(&mut p, q, "q_num_heads")?;
    let mut cached = [q; 2];
    let mut past = 0;
    for (i, slot) in cached.iter_mut().enumerate() {
        let own = p.input(i + 1)?;
        let own = split_heads(&mut p, own, "kv_num_heads")?;
        *slot = match p.optional(i + 4)? {
            Some(before) => {
                past = *p.shape(before).get(2).ok_or("a cache with fewer than four axes")?;
                p.concat(&[before, own], 2)?
            }
            None => own,
        };
    }
    let [k, v] = cached;
    let (sq, sk, sv) = (p.shape(q), p.shape(k), p.shape(v));
    let ([samples, heads, queries, size], [_, kv_heads, keys, k_size], [_, v_heads, v_keys, v_size]) =
        (sq.as_slice(), sk.as_slice(), sv.as_slice())
    else {
        return Err(format!("{sq:?}, {sk:?} and {sv:?}"));
    };
    let fits = size == k_size && kv_heads == v_heads && keys == v_keys && heads.is_multiple_of(*kv_heads);
    if !fits {
        return Err(format!("queries {sq:?}, keys {sk:?}, values {sv:?}"));
    }
    let z =
        Sizes { samples: *samples, heads: *heads, kv_heads: *kv_heads, queries: *queries, keys: *keys, past };
    let scale = match onnx.has("scale") {
        true => onnx.float("scale", 1.0),
        false => 1.0 / (*size as f32).sqrt(),
    };
    // Half of the scale on either side, as the standard has it.
    let root = scale.sqrt();
    if !root.is_finite() {
        return Err(format!("scale {scale}"));
    }
    let rows = z.heads / z.kv_heads * z.queries;
    let (left, right) = (p.times(q, root)?, p.times(k, root)?);
    let left = p.reshape(left, &[z.samples, z.kv_heads, rows, *size])?;
    let right = p.transpose(right, &[0, 1, 3, 2])?;
    let scores = p.matmul(left, right)?;
    let whole = [z.samples, z.heads, z.queries, z.keys];
    let mut scores = p.reshape(scores, &whole)?;
    let mode = onnx.int("qk_matmul_output_mode", 0);
    let mut shown = scores;
    let softcap = onnx.float("softcap", 0.0);
    if softcap > 0.0 {
        scores = p.times(scores, 1.0 / softcap)?;
        scores = p.unary(UnaryKind::Tanh, scores)?;
        scores = p.times(scores, softcap)?;
    }
    if mode == 1 {
        shown = scores;
    }
    let bias = bias(&mut p, &z)?;
    let (shares, biased) = shares(&mut p, scores, bias)?;
    match mode {
        0 | 1 => {}
        2 => shown = biased,
        3 => shown = shares,
        other => return Err(format!("qk_matmul_output_mode {other}")),
    }
    let shares = p.reshape(shares, &[z.samples, z.kv_heads, rows, z.keys])?;
    let y = p.matmul(shares, v)?;
    let mut y = p.reshape(y, &[z.samples, z.heads, z.queries, *v_size])?;
    if packed {
        y = p.transpose(y, &[0, 2, 1, 3])?;
        y = p.reshape(y, &[z.samples, z.queries, z.heads * v_size])?;
    }
    p.output(0, y)?;
    p.output(1, k)?;
    p.output(2, v)?;
    p.output(3, shown)
}

/// What is added to the scores.
struct Bias {
    /// The part that is known, `[1 or samples, 1 or heads, queries, keys]`; -inf where a key is hidden.
    known: Option<Constant>,
    /// A mask that is computed at run time.
    computed: Option<ValueId>,
}

fn bias(p: &mut Parts<'_, '_, '_>, z: &Sizes) -> Importing<Bias> {
    let onnx = p.onnx;
    let lengths = p.c.ints(onnx, 6)?;
    if lengths.as_ref().is_some_and(|l| l.len() != z.samples) {
        return Err(format!("nonpad_kv_seqlen for {} samples", z.samples));
    }
    let causal = onnx.int("is_causal", 0) != 0;
    let window = [onnx.int("left_window_size", -1), onnx.int("right_window_size", -1)];
    let (mut given, mut computed) = (None, None);
    if p.c.is_constant(onnx, 3) {
        given = Some(p.c.wanted(onnx, 3)?);
    } else if let Some(mask) = p.optional(3)? {
        let truth = p.c.is_truth(mask);
        // 0 for true, -inf for false.
        let mut mask = if truth { p.unary(UnaryKind::Log, mask)? } else { mask };
        let mut shape = p.shape(mask);
        let last = *shape.last().ok_or("a mask without axes")?;
        if last < z.keys {
            *shape.last_mut().ok_or("a mask without axes")? = z.keys - last;
            let hidden = p.number(f32::NEG_INFINITY);
            let hidden = p.expand(hidden, &shape)?;
            mask = p.concat(&[mask, hidden], shape.len() - 1)?;
        }
        computed = Some(mask);
    }
    if !causal && window == [-1, -1] && lengths.is_none() && given.is_none() {
        return Ok(Bias { known: None, computed });
    }
    let (mut samples, mut heads) = (1, 1);
    let mut mask_shape = [1; 4];
    let mut mask = Vec::new();
    if let Some(given) = &given {
        let truth = matches!(given.elements, Elements::Bool(_));
        if given.shape.is_empty() || given.shape.len() > 4 {
            return Err(format!("a mask of shape {:?}", given.shape));
        }
        mask_shape[4 - given.shape.len()..].copy_from_slice(&given.shape);
        let fits = |d: usize, full: usize| d == 1 || d == full;
        let [n, h, q, k] = mask_shape[..] else { return Err("a mask".into()) };
        if !fits(n, z.samples) || !fits(h, z.heads) || !fits(q, z.queries) || k > z.keys {
            return Err(format!("a mask of shape {:?}", given.shape));
        }
        (samples, heads) = (n, h);
        mask = given.to_reals();
        if truth {
            mask.iter_mut().for_each(|v| *v = if *v != 0.0 { 0.0 } else { f32::NEG_INFINITY });
        }
    }
    if lengths.is_some() {
        samples = z.samples;
    }
    let count = samples.checked_mul(heads).and_then(|n| n.checked_mul(z.queries)?.checked_mul(z.keys));
    if count.is_none_or(|n| n > crate::context::MAX_VALUE) {
        return Err("the mask is too large".into());
    }
    let mut values = Vec::new();
    for n in 0..samples {
        let length = lengths.as_ref().map(|l| l[n]);
        let offset = match length {
            Some(length) => length - z.queries as i64,
            None => z.past as i64,
        };
        for h in 0..heads {
            for i in 0..z.queries {
                for j in 0..z.keys {
                    let at = i as i64 + offset - j as i64;
                    let hidden = (causal && at < 0)
                        || (window[0] >= 0 && at > window[0])
                        || (window[1] >= 0 && -at > window[1])
                        || length.is_some_and(|l| j as i64 >= l);
                    let own = match mask_shape[..] {
                        [_, _, _, k] if given.is_some() && j >= k => f32::NEG_INFINITY,
                        [a, b, q, k] if given.is_some() => {
                            let pick = |at: usize, extent: usize| if extent == 1 { 0 } else { at };
                            mask[((pick(n, a) * b + pick(h, b)) * q + pick(i, q)) * k + pick(j, k)]
                        }
                        _ => 0.0,
                    };
                    values.push(if hidden { f32::NEG_INFINITY } else { own });
                }
            }
        }
    }
    let known = Constant::new(vec![samples, heads, z.queries, z.keys], Elements::F32(values));
    Ok(Bias { known: Some(known), computed })
}

/// The softmax of the scores with their bias, and the biased scores. A query that sees no key has shares of 0.
fn shares(p: &mut Parts<'_, '_, '_>, scores: ValueId, bias: Bias) -> Importing<(ValueId, ValueId)> {
    let mut biased = scores;
    if let Some(mask) = bias.computed {
        biased = p.add(biased, mask)?;
    }
    let softmax = Op::Softmax { axis: 3 };
    let Some(known) = bias.known else {
        if bias.computed.is_none() {
            return Ok((p.op(softmax, &[biased], None)?, biased));
        }
        return Ok((guarded(p, biased)?, biased));
    };
    let values = known.to_reals();
    let keys = known.shape[3];
    let blind: Vec<bool> =
        values.chunks(keys.max(1)).map(|row| row.iter().all(|v| *v == f32::NEG_INFINITY)).collect();
    let added = p.c.add_constant(&format!("{}/bias", p.onnx.name), &known);
    let total = p.add(biased, added)?;
    if bias.computed.is_some() {
        return Ok((guarded(p, total)?, total));
    }
    if !blind.contains(&true) {
        return Ok((p.op(softmax, &[total], None)?, total));
    }
    let seen = values.iter().enumerate().map(|(i, v)| if blind[i / keys] { 0.0 } else { *v }).collect();
    let seen = p.reals(&known.shape, seen);
    let finite = p.add(biased, seen)?;
    let y = p.op(softmax, &[finite], None)?;
    let rows = [&known.shape[..3], &[1]].concat();
    let sees = p.reals(&rows, blind.iter().map(|b| f32::from(u8::from(!b))).collect());
    Ok((p.mul(y, sees)?, total))
}

/// Softmax of scores of which a row may be -inf everywhere.
fn guarded(p: &mut Parts<'_, '_, '_>, scores: ValueId) -> Importing<ValueId> {
    let finite = p.unary(UnaryKind::Clip { min: f32::MIN, max: f32::INFINITY }, scores)?;
    let y = p.op(Op::Softmax { axis: 3 }, &[finite], None)?;
    let largest = p.reduce(ReduceKind::Max, scores, &[3])?;
    let is_inf = ElementaryKind::IsInf { negative: true, positive: false };
    let blind = p.unary(UnaryKind::Elementary(is_inf), largest)?;
    let sees = p.not(blind)?;
    p.mul(y, sees)
}

/// RotaryEmbedding: pairs of numbers of a head turn by an angle of their position. Positions are constants.
pub(crate) fn rotary(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let mut p = Parts::of(c, onnx);
    let x = p.input(0)?;
    let shape = p.shape(x);
    // Positions before heads.
    let (y, packed) = match *shape.as_slice() {
        [_, _, _, _] => (p.transpose(x, &[0, 2, 1, 3])?, false),
        [n, t, d] => {
            let heads = positive(onnx, "num_heads")?;
            if d % heads != 0 {
                return Err(format!("{d} numbers for {heads} heads"));
            }
            (p.reshape(x, &[n, t, heads, d / heads])?, true)
        }
        _ => return Err(format!("an input of shape {shape:?}")),
    };
    let [n, t, heads, size] = p.shape(y)[..] else { return Err(format!("an input of shape {shape:?}")) };
    let turned = match usize::try_from(onnx.int("rotary_embedding_dim", 0)) {
        Ok(0) => size,
        Ok(d) if d <= size => d,
        _ => return Err("rotary_embedding_dim".into()),
    };
    let half = turned / 2;
    if half == 0 || turned % 2 != 0 {
        return Err(format!("pairs of {turned} numbers"));
    }
    let positions = p.c.ints(onnx, 3)?;
    let mut angles = [y; 2];
    for (i, slot) in angles.iter_mut().enumerate() {
        let table = match &positions {
            None => p.input(i + 1)?,
            Some(at) => {
                let table = p.c.wanted(onnx, i + 1)?;
                let [rows, columns] = table.shape[..] else { return Err("a table of angles".into()) };
                if at.len() != n * t {
                    return Err(format!("{} positions for {n} × {t}", at.len()));
                }
                let mut places = Vec::new();
                for row in at {
                    let row = crate::context::axis(*row, rows)?;
                    places.extend(row * columns..(row + 1) * columns);
                }
                let picked = table.gathered(&places).reshaped(vec![n, t, columns])?;
                p.c.add_constant(onnx.input(i + 1).unwrap_or_default(), &picked)
            }
        };
        let own = p.shape(table);
        if own.last() != Some(&half) || own.iter().product::<usize>() != n * t * half {
            return Err(format!("a table of angles {own:?} for {n} × {t} × {half}"));
        }
        *slot = p.reshape(table, &[n, t, 1, half])?;
    }
    let [cosine, sine] = angles;
    let interleaved = onnx.int("interleaved", 0) != 0;
    let (a, b) = match interleaved {
        true => (p.slice(y, 3, 0, 2, half)?, p.slice(y, 3, 1, 2, half)?),
        false => (p.slice(y, 3, 0, 1, half)?, p.slice(y, 3, half, 1, half)?),
    };
    let (ca, sb, sa, cb) = (p.mul(a, cosine)?, p.mul(b, sine)?, p.mul(a, sine)?, p.mul(b, cosine)?);
    let (real, imaginary) = (p.sub(ca, sb)?, p.add(sa, cb)?);
    let mut z = match interleaved {
        true => {
            let pair = [n, t, heads, half, 1];
            let (real, imaginary) = (p.reshape(real, &pair)?, p.reshape(imaginary, &pair)?);
            let both = p.concat(&[real, imaginary], 4)?;
            p.reshape(both, &[n, t, heads, turned])?
        }
        false => p.concat(&[real, imaginary], 3)?,
    };
    if turned < size {
        let rest = p.slice(y, 3, turned, 1, size - turned)?;
        z = p.concat(&[z, rest], 3)?;
    }
    let z = match packed {
        true => p.reshape(z, &shape)?,
        false => p.transpose(z, &[0, 2, 1, 3])?,
    };
    p.output(0, z)
}

/// LinearAttention (opset 27): a matrix of state that each position updates and reads, unrolled.
pub(crate) fn linear_attention(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let mut p = Parts::of(c, onnx);
    let rule = onnx.text("update_rule", "gated_delta");
    let (gated, delta) = match rule.as_str() {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return Err(format!("update_rule `{other}`")),
    };
    let [q, k, v] = [p.input(0)?, p.input(1)?, p.input(2)?];
    let q = split_heads(&mut p, q, "q_num_heads")?;
    let (k, v) = (split_heads(&mut p, k, "kv_num_heads")?, split_heads(&mut p, v, "kv_num_heads")?);
    let (sq, sk, sv) = (p.shape(q), p.shape(k), p.shape(v));
    let ([n, heads, steps, dk], [_, kv, ..], [.., dv]) = (sq.as_slice(), sk.as_slice(), sv.as_slice()) else {
        return Err(format!("{sq:?}, {sk:?} and {sv:?}"));
    };
    let (n, heads, steps, dk, kv, dv) = (*n, *heads, *steps, *dk, *kv, *dv);
    if sk != [n, kv, steps, dk] || sv != [n, kv, steps, dv] || heads % kv != 0 {
        return Err(format!("queries {sq:?}, keys {sk:?}, values {sv:?}"));
    }
    let group = heads / kv;
    let scale = match onnx.float("scale", 0.0) {
        0.0 => 1.0 / (dk as f32).sqrt(),
        given => given,
    };
    // [n, steps, heads or 1, columns] with heads before steps.
    let by_head = |p: &mut Parts<'_, '_, '_>, i: usize| -> Importing<ValueId> {
        let x = p.input(i)?;
        let [_, _, width] = p.shape(x)[..] else { return Err(format!("input {i} without three axes")) };
        let own = if width == 1 { 1 } else { kv };
        if width % own != 0 {
            return Err(format!("input {i} has {width} columns for {kv} heads"));
        }
        let y = p.reshape(x, &[n, steps, own, width / own])?;
        p.transpose(y, &[0, 2, 1, 3])
    };
    let decay = if gated { Some(by_head(&mut p, 4)?) } else { None };
    let beta = if delta { Some(by_head(&mut p, 5)?) } else { None };
    let mut state = p.optional(3)?;
    let mut outputs = Vec::new();
    for t in 0..steps {
        let key = p.slice(k, 2, t, 1, 1)?;
        let column = p.transpose(key, &[0, 1, 3, 2])?;
        let mut value = p.slice(v, 2, t, 1, 1)?;
        if let (Some(decay), Some(before)) = (decay, state) {
            let step = p.slice(decay, 2, t, 1, 1)?;
            let factor = p.unary(UnaryKind::Exp, step)?;
            let factor = p.transpose(factor, &[0, 1, 3, 2])?;
            state = Some(p.mul(before, factor)?);
        }
        if let Some(beta) = beta {
            if let Some(before) = state {
                let found = p.matmul(key, before)?;
                value = p.sub(value, found)?;
            }
            let rate = p.slice(beta, 2, t, 1, 1)?;
            value = p.mul(value, rate)?;
        }
        let written = p.matmul(column, value)?;
        let now = match state {
            Some(before) => p.add(before, written)?,
            None => written,
        };
        state = Some(now);
        // Heads of queries that share a state are rows.
        let query = p.slice(q, 2, t, 1, 1)?;
        let query = p.reshape(query, &[n, kv, group, dk])?;
        let read = p.matmul(query, now)?;
        let read = p.times(read, scale)?;
        outputs.push(p.reshape(read, &[n, 1, heads * dv])?);
    }
    let y = p.concat(&outputs, 1)?;
    p.output(0, y)?;
    p.output(1, state.ok_or("no steps")?)
}

/// CausalConvWithState (opset 27): a depthwise convolution over the past state and the input.
pub(crate) fn causal_conv(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let mut p = Parts::of(c, onnx);
    let x = p.input(0)?;
    let [n, channels, length] = p.shape(x)[..] else { return Err("an input without three axes".into()) };
    let weights = p.input(1)?;
    let [_, _, kernel] = p.shape(weights)[..] else { return Err("weights without three axes".into()) };
    if p.shape(weights) != [channels, 1, kernel] || kernel == 0 {
        return Err(format!("weights {:?} for {channels} channels", p.shape(weights)));
    }
    let whole = match p.optional(3)? {
        _ if kernel == 1 => x,
        Some(past) => p.concat(&[past, x], 2)?,
        None => {
            let op = Op::Pad { before: vec![0, 0, kernel - 1], after: vec![0; 3], mode: None, value: 0.0 };
            p.op(op, &[x], None)?
        }
    };
    let mut sum: Option<ValueId> = match p.optional(2)? {
        Some(bias) => Some(p.reshape(bias, &[1, channels, 1])?),
        None => None,
    };
    // A product and a sum for each tap: the weights may be computed at run time.
    for k in 0..kernel {
        let tap = p.slice(weights, 2, k, 1, 1)?;
        let tap = p.reshape(tap, &[1, channels, 1])?;
        let shifted = p.slice(whole, 2, k, 1, length)?;
        let product = p.mul(shifted, tap)?;
        sum = Some(match sum {
            Some(sum) => p.op(
                Op::Binary { kind: BinaryKind::Add, activation: Activation::None },
                &[product, sum],
                None,
            )?,
            None => product,
        });
    }
    let mut y = sum.ok_or("no taps")?;
    match onnx.text("activation", "none").as_str() {
        "none" => {}
        "silu" | "swish" => {
            let gate = p.unary(UnaryKind::Sigmoid, y)?;
            y = p.mul(y, gate)?;
        }
        other => return Err(format!("activation `{other}`")),
    }
    p.output(0, y)?;
    if onnx.output(1).is_some() {
        if kernel == 1 {
            return Err(format!("a state of {n} × {channels} × 0"));
        }
        let state = p.slice(whole, 2, length, 1, kernel - 1)?;
        p.output(1, state)?;
    }
    Ok(())
}
