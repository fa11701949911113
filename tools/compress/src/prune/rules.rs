//! The effect of each operator on the groups of its axes.

use offshoot_ir::{BinaryKind, Node, Op, RecurrentKind, Returns, ValueId};

use super::groups::{Axis, Split, Walk};

/// Propagates the groups of a node's inputs to its output.
pub(super) fn apply(walk: &mut Walk<'_>, node: &Node) {
    let mut out = rule(walk, node);
    // A fused activation that maps zero to something else makes groups of zeros visible.
    if let Some((low, high)) = node.op.activation().map(|a| a.bounds())
        && (low > 0.0 || high < 0.0)
    {
        out.iter_mut().flatten().for_each(|a| a.zero = false);
    }
    walk.write(node.output, out);
}

fn rule(walk: &mut Walk<'_>, node: &Node) -> Vec<Option<Axis>> {
    let name = node.name.as_str();
    let x = node.inputs[0];
    match &node.op {
        Op::Conv2d { groups, .. } | Op::ConvTranspose2d { groups, .. } => convolution(walk, node, *groups),
        Op::FullyConnected { .. } => fully_connected(walk, node),
        Op::MatMul { transpose_b } => matmul(walk, node, *transpose_b),
        Op::Recurrent { kind, returns, .. } => recurrent(walk, node, *kind, *returns),
        Op::Binary { kind, .. } => binary(walk, node, *kind),
        Op::Unary(kind) => {
            let zero = kind.apply(0.0) == 0.0;
            scaled(walk.read_all(x), |_| zero)
        }
        Op::Pool { .. } | Op::Resize(_) => {
            let axes = walk.read_all(x);
            spatial(walk, &axes, name);
            axes
        }
        Op::PRelu | Op::BatchNorm { .. } => {
            let axes = walk.read_all(x);
            let last = axes.len() - 1;
            for &parameter in &node.inputs[1..] {
                walk.bind(parameter, 0, axes[last].as_ref(), &format!("shares a parameter at `{name}`"));
            }
            // gamma and beta of a removed group are zero; those of other axes' channels are not.
            match node.op {
                Op::BatchNorm { .. } => {
                    let mut axes = scaled(axes, |axis| axis == last);
                    axes[last].iter_mut().for_each(|a| a.zero = true);
                    axes
                }
                _ => axes,
            }
        }
        Op::LayerNorm { .. } => {
            let axes = walk.read_all(x);
            let last = axes.len() - 1;
            if !walk.elastic {
                walk.fix(axes[last].as_ref(), &format!("is normalised over by `{name}`"));
            }
            for &parameter in &node.inputs[1..] {
                walk.bind(parameter, 0, axes[last].as_ref(), "");
            }
            scaled(axes, |axis| axis == last)
        }
        Op::Softmax { axis } => {
            let axes = walk.read_all(x);
            walk.fix(axes[*axis].as_ref(), &format!("is normalised over by `{name}`"));
            scaled(axes, |_| false)
        }
        Op::Reshape => reshape(walk, node),
        Op::Transpose { perm } => {
            let axes = walk.read_all(x);
            perm.iter().map(|&p| axes[p].clone()).collect()
        }
        Op::Concat { axis } => concat(walk, node, *axis),
        Op::Slice { start, step } => slice(walk, node, start, step),
        Op::Pad { before, after, mode, value } => {
            let plain = mode.is_none() && *value == 0.0;
            let axes = walk.read_all(x).into_iter().enumerate().map(|(i, axis)| {
                let axis = axis?;
                if before[i] + after[i] == 0 {
                    return Some(Axis { zero: axis.zero && plain, ..axis });
                }
                let (first, last) = (walk.birth(before[i], true), walk.birth(after[i], true));
                let units = [first.units, axis.units, last.units].concat();
                if !plain {
                    walk.units.fix_all(&units, &format!("is padded by `{name}`"));
                }
                Some(Axis { units, zero: axis.zero && plain })
            });
            axes.collect::<Vec<_>>()
        }
        Op::History { axis, fill, .. } => {
            let axes = walk.read_all(x);
            walk.fix(axes[*axis].as_ref(), &format!("is kept between runs by `{name}`"));
            let mut axes = scaled(axes, |_| *fill == 0.0);
            axes[*axis] = None;
            axes
        }
        Op::Expand => {
            let axes = walk.read_all(x);
            let shape = walk.shape(node.output);
            aligned(&axes, walk.shape(x), shape)
        }
        Op::Reduce { axes: reduced, .. } => reduce(walk, node, reduced),
        Op::ArgMax { axis, .. } => reduce(walk, node, &[*axis]),
        Op::Gather(_) | Op::Scatter { .. } | Op::TopK { .. } | Op::GridSample { .. } => {
            let why = format!("is read by indices at `{name}`");
            for &id in &node.inputs {
                walk.read_all(id).iter().for_each(|axis| walk.fix(axis.as_ref(), &why));
            }
            vec![None; walk.shape(node.output).len()]
        }
        Op::Spectrum { .. } | Op::MicroFrontend(_) => {
            let why = format!("is transformed at `{name}`");
            for &id in &node.inputs {
                walk.read_all(id).iter().for_each(|axis| walk.fix(axis.as_ref(), &why));
            }
            vec![None; walk.shape(node.output).len()]
        }
        Op::Switch => {
            let why = format!("is chosen by an index at `{name}`");
            for &id in &node.inputs {
                walk.read_all(id).iter().for_each(|axis| walk.fix(axis.as_ref(), &why));
            }
            vec![None; walk.shape(node.output).len()]
        }
        Op::Cast | Op::Quantize | Op::Dequantize | Op::Requantize | Op::Lookup(_) => walk.read_all(x),
    }
}

/// Clears the zero flag of axes for which `keep` is false.
fn scaled(axes: Vec<Option<Axis>>, keep: impl Fn(usize) -> bool) -> Vec<Option<Axis>> {
    let each = |(i, axis): (usize, Option<Axis>)| axis.map(|a| Axis { zero: a.zero && keep(i), ..a });
    axes.into_iter().enumerate().map(each).collect()
}

/// Height and width cannot carry groups through a window.
fn spatial(walk: &mut Walk<'_>, axes: &[Option<Axis>], name: &str) {
    for axis in &axes[..axes.len() - 1] {
        walk.fix(axis.as_ref(), &format!("lies along the image that `{name}` reads"));
    }
}

/// Position of the node that writes this tensor.
fn position(walk: &Walk<'_>, output: ValueId) -> usize {
    walk.graph.producer(output).unwrap_or_default()
}

fn convolution(walk: &mut Walk<'_>, node: &Node, groups: usize) -> Vec<Option<Axis>> {
    let (name, x, w) = (node.name.as_str(), node.inputs[0], node.inputs[1]);
    let mut axes = walk.read_all(x);
    spatial(walk, &axes, name);
    axes[..3].iter_mut().flatten().for_each(|a| a.zero = false);
    let channels = axes.pop().flatten();
    if walk.graph.value(w).data.is_none() {
        let why = format!("meets the computed weights of `{name}`");
        walk.fix(channels.as_ref(), &why);
        for &id in &node.inputs[1..] {
            walk.read_all(id).iter().for_each(|a| walk.fix(a.as_ref(), &why));
        }
        axes.push(None);
        return axes;
    }
    let [filters, per_group] = [walk.shape(w)[0], walk.shape(w)[3]];
    let shared = format!("shares weights at `{name}`");
    let out = if groups > 1 && per_group == 1 {
        // Depthwise: filters are removed with the channel that they read.
        let multiplier = filters / groups;
        channels
            .as_ref()
            .map(|c| Axis { units: (0..filters).map(|o| c.units[o / multiplier]).collect(), zero: true })
    } else {
        // The groups of a grouped convolution keep the same width: the same channel of each is removed.
        let per_group_out = filters / groups;
        if let Some(c) = &channels {
            for (i, &u) in c.units.iter().enumerate() {
                walk.units.join(u, c.units[i % per_group]);
            }
        }
        let born = walk.birth(per_group_out, true);
        Some(Axis { units: (0..filters).map(|o| born.units[o % per_group_out]).collect(), zero: true })
    };
    for axis in [1, 2] {
        walk.bind(w, axis, None, &shared);
    }
    if groups == 1 || per_group > 1 {
        let columns = channels.map(|c| Axis { units: c.units[..per_group].to_vec(), zero: true });
        walk.bind(w, 3, columns.as_ref(), &shared);
    } else {
        walk.bind(w, 3, None, &shared);
    }
    parameters(walk, node, out, axes)
}

/// A unit of a recurrent layer: its rows of every gate, and its column of the state's weights. With all of them zero
/// its state stays zero, if it starts at zero.
fn recurrent(walk: &mut Walk<'_>, node: &Node, kind: RecurrentKind, returns: Returns) -> Vec<Option<Axis>> {
    let name = node.name.as_str();
    let mut axes = walk.read_all(node.inputs[0]);
    let columns = axes.pop().flatten();
    let along = axes.pop().flatten();
    walk.fix(along.as_ref(), &format!("lies along the sequence that `{name}` reads"));
    let shared = format!("shares weights at `{name}`");
    let parameters = &node.inputs[1..];
    if parameters[..3].iter().any(|&id| walk.graph.value(id).data.is_none()) {
        let why = format!("meets the computed weights of `{name}`");
        walk.fix(columns.as_ref(), &why);
        for &id in parameters {
            walk.read_all(id).iter().for_each(|a| walk.fix(a.as_ref(), &why));
        }
        return vec![None; walk.shape(node.output).len()];
    }
    let units = walk.shape(parameters[1])[1];
    let born = walk.birth(units, true);
    let blocks = |count: usize| {
        let units = born.units.iter().copied().cycle().take(count * units).collect();
        Axis { units, zero: true }
    };
    let rows = blocks(kind.gates());
    walk.bind(parameters[0], 0, Some(&rows), &shared);
    walk.bind(parameters[0], 1, columns.as_ref(), &shared);
    walk.bind(parameters[1], 0, Some(&rows), &shared);
    walk.bind(parameters[1], 1, Some(&born), &shared);
    walk.bind(parameters[2], 0, Some(&blocks(kind.biases())), &shared);
    if let Some(&initial) = parameters.get(3) {
        walk.fix(Some(&born), &format!("starts from a given state at `{name}`"));
        walk.read_all(initial).iter().for_each(|a| walk.fix(a.as_ref(), &shared));
    }
    let at = position(walk, node.output);
    walk.carried(at, &born);
    let batch = axes.pop().flatten().map(|a| Axis { zero: false, ..a });
    match returns {
        Returns::Sequence => vec![batch, None, Some(born)],
        Returns::Last => vec![batch, Some(born)],
        Returns::State => vec![batch, Some(blocks(2))],
    }
}

fn fully_connected(walk: &mut Walk<'_>, node: &Node) -> Vec<Option<Axis>> {
    let (x, w) = (node.inputs[0], node.inputs[1]);
    let mut axes = walk.read_all(x);
    let columns = axes.pop().flatten();
    let axes = scaled(axes, |_| node.inputs.len() == 2);
    if walk.graph.value(w).data.is_none() {
        let why = format!("meets the computed weights of `{}`", node.name);
        walk.fix(columns.as_ref(), &why);
        for &id in &node.inputs[1..] {
            walk.read_all(id).iter().for_each(|a| walk.fix(a.as_ref(), &why));
        }
        return axes.into_iter().chain([None]).collect();
    }
    walk.bind(w, 1, columns.as_ref(), &format!("shares weights at `{}`", node.name));
    let out = Some(walk.birth(walk.shape(w)[0], true));
    parameters(walk, node, out, axes)
}

/// Rows of weights and bias carry the groups of the output's last axis.
fn parameters(
    walk: &mut Walk<'_>,
    node: &Node,
    out: Option<Axis>,
    mut axes: Vec<Option<Axis>>,
) -> Vec<Option<Axis>> {
    let shared = format!("shares weights at `{}`", node.name);
    for &parameter in &node.inputs[1..] {
        walk.bind(parameter, 0, out.as_ref(), &shared);
    }
    if let Some(out) = &out {
        let at = position(walk, node.output);
        walk.carried(at, out);
    }
    axes.push(out);
    axes
}

fn matmul(walk: &mut Walk<'_>, node: &Node, transpose_b: bool) -> Vec<Option<Axis>> {
    let (a, b) = (node.inputs[0], node.inputs[1]);
    let rank = walk.shape(a).len();
    let (k_of_b, n_of_b) = if transpose_b { (rank - 1, rank - 2) } else { (rank - 2, rank - 1) };
    let why = format!("is multiplied at `{}` with an axis that carries no channels", node.name);
    let mut axes: Vec<Option<Axis>> =
        (0..rank - 2).map(|i| shared(walk, [(a, i), (b, i)], &why, true)).collect();
    let inner = shared(walk, [(a, rank - 1), (b, k_of_b)], &why, true);
    if let Some(inner) = inner.filter(|i| !i.zero && !walk.elastic) {
        walk.fix(Some(&inner), &format!("is summed over by `{}` but is not zero", node.name));
    }
    axes.push(walk.read(a, rank - 2));
    // Columns of constant weights are an operator's output channels.
    let columns = if walk.is_unbound(b, n_of_b) && walk.shape(b)[..rank - 2].iter().all(|&d| d == 1) {
        let born = walk.birth(walk.shape(b)[n_of_b], true);
        walk.bind(b, n_of_b, Some(&born), &why);
        let at = position(walk, node.output);
        walk.carried(at, &born);
        Some(born)
    } else {
        walk.read(b, n_of_b)
    };
    axes.push(columns);
    axes
}

/// Two axes of the same extent that meet; an unbound constant takes the other's groups. The result is zero if both
/// are, or with `product` if either is.
fn shared(walk: &mut Walk<'_>, ends: [(ValueId, usize); 2], why: &str, product: bool) -> Option<Axis> {
    for (end, other) in [(ends[0], ends[1]), (ends[1], ends[0])] {
        if walk.is_unbound(end.0, end.1) && !walk.is_unbound(other.0, other.1) {
            let axis = walk.read(other.0, other.1);
            walk.bind(end.0, end.1, axis.as_ref(), why);
        }
    }
    let (a, b) = (walk.read(ends[0].0, ends[0].1), walk.read(ends[1].0, ends[1].1));
    let either = [&a, &b].into_iter().flatten().any(|a| a.zero);
    let joined = walk.unify(a, b, why);
    joined.map(|j| Axis { zero: if product { either } else { j.zero }, ..j })
}

fn binary(walk: &mut Walk<'_>, node: &Node, kind: BinaryKind) -> Vec<Option<Axis>> {
    let (a, b) = (node.inputs[0], node.inputs[1]);
    let (p, q) = (walk.shape(a), walk.shape(b));
    let rank = p.len().max(q.len());
    let why = format!("meets at `{}` what stays whole", node.name);
    let product = kind == BinaryKind::Mul;
    let axes = (0..rank).map(|i| {
        let end = |s: &[usize]| (i + s.len()).checked_sub(rank).filter(|&j| s[j] > 1);
        let mut axis = match (end(p), end(q)) {
            (Some(i), Some(j)) => shared(walk, [(a, i), (b, j)], &why, product),
            // The other tensor is the same for all channels, and may be non-zero where a group is zero.
            (Some(i), None) => walk.read(a, i).map(|x| Axis { zero: x.zero && product, ..x }),
            (None, Some(j)) => walk.read(b, j).map(|x| Axis { zero: x.zero && product, ..x }),
            (None, None) => None,
        };
        if kind == BinaryKind::Div {
            let numerator = end(p).and_then(|i| walk.read(a, i)).is_some_and(|x| x.zero);
            axis.iter_mut().for_each(|x| x.zero = numerator);
            // A computed divisor would become zero.
            if walk.graph.value(b).data.is_none() {
                let divisor = end(q).and_then(|j| walk.read(b, j));
                walk.fix(divisor.as_ref(), &format!("divides at `{}`", node.name));
            }
        }
        axis
    });
    axes.collect()
}

/// Axes of `from`, aligned with the broadcast shape `to`.
fn aligned(axes: &[Option<Axis>], from: &[usize], to: &[usize]) -> Vec<Option<Axis>> {
    let at = |i: usize| (i + from.len()).checked_sub(to.len()).filter(|&j| from[j] == to[i]);
    (0..to.len()).map(|i| at(i).and_then(|j| axes[j].clone())).collect()
}

fn concat(walk: &mut Walk<'_>, node: &Node, axis: usize) -> Vec<Option<Axis>> {
    let why = format!("is joined at `{}` with a tensor that carries no channels", node.name);
    let parts: Vec<Vec<Option<Axis>>> = node.inputs.iter().map(|&id| walk.read_all(id)).collect();
    let rank = walk.shape(node.output).len();
    let axes = (0..rank).map(|i| {
        if i != axis {
            let mut parts = parts.iter().map(|p| p[i].clone());
            let first = parts.next().flatten();
            return parts.fold(first, |a, b| walk.unify(a, b, &why));
        }
        if parts.iter().all(|p| p[i].is_none()) {
            return None;
        }
        let mut joined = Axis { units: Vec::new(), zero: true };
        for (part, &id) in parts.iter().zip(&node.inputs) {
            let part = part[i].clone().unwrap_or_else(|| {
                let whole = walk.birth(walk.shape(id)[i], false);
                walk.fix(Some(&whole), &why);
                whole
            });
            joined.units.extend(part.units);
            // Groups that are fixed are never zero, and need not be.
            joined.zero &= part.zero || walk.read(id, i).is_none();
        }
        Some(joined)
    });
    axes.collect()
}

fn slice(walk: &mut Walk<'_>, node: &Node, start: &[usize], step: &[isize]) -> Vec<Option<Axis>> {
    let axes = walk.read_all(node.inputs[0]);
    let shape = walk.shape(node.output);
    let axes = axes.into_iter().enumerate().map(|(i, axis)| {
        let axis = axis?;
        if step[i].unsigned_abs() != 1 {
            walk.fix(Some(&axis), &format!("is sliced with a step by `{}`", node.name));
        }
        let at = |o: usize| start[i].wrapping_add_signed(o as isize * step[i]);
        Some(Axis { units: (0..shape[i]).map(|o| axis.units[at(o)]).collect(), zero: axis.zero })
    });
    axes.collect()
}

fn reduce(walk: &mut Walk<'_>, node: &Node, reduced: &[usize]) -> Vec<Option<Axis>> {
    let mut axes = walk.read_all(node.inputs[0]);
    for &axis in reduced {
        walk.fix(axes[axis].as_ref(), &format!("is reduced over by `{}`", node.name));
        axes[axis] = None;
    }
    if walk.shape(node.output).len() != axes.len() {
        axes = (0..axes.len()).filter(|i| !reduced.contains(i)).map(|i| axes[i].clone()).collect();
    }
    axes
}

fn reshape(walk: &mut Walk<'_>, node: &Node) -> Vec<Option<Axis>> {
    let axes = walk.read_all(node.inputs[0]);
    let (from, to) = (walk.shape(node.inputs[0]), walk.shape(node.output));
    let mut out: Vec<Option<Axis>> = vec![None; to.len()];
    for (ins, outs) in segments(from, to) {
        let labelled: Vec<usize> = ins.iter().copied().filter(|&i| axes[i].is_some()).collect();
        let [carrier] = labelled[..] else {
            for &i in &labelled {
                walk.fix(axes[i].as_ref(), &format!("is joined with other channels by `{}`", node.name));
            }
            continue;
        };
        let Some(axis) = &axes[carrier] else { continue };
        // Group of each element of the segment, as if it were one axis.
        let inner: usize = ins.iter().filter(|&&i| i > carrier).map(|&i| from[i]).product();
        let total: usize = ins.iter().map(|&i| from[i]).product();
        let flat: Vec<u32> = (0..total).map(|e| axis.units[e / inner % from[carrier]]).collect();
        if let [only] = outs[..] {
            out[only] = Some(Axis { units: flat, zero: axis.zero });
        } else if let Some((o, units)) = split(walk, &flat, &outs, to) {
            out[o] = Some(Axis { units, zero: axis.zero });
        }
    }
    out
}

/// Assigns the groups of a flat axis that becomes several axes to one of them: to one along which the groups lie
/// already, otherwise to the one that [`Split`] names, where groups that share an index are united.
fn split(walk: &mut Walk<'_>, flat: &[u32], outs: &[usize], to: &[usize]) -> Option<(usize, Vec<u32>)> {
    let index = |e: usize, o: usize| {
        let inner: usize = outs.iter().filter(|&&p| p > o).map(|&p| to[p]).product();
        e / inner % to[o]
    };
    let lies = |walk: &mut Walk<'_>, o: usize| {
        let mut first = vec![None; to[o]];
        flat.iter().enumerate().all(|(e, &u)| {
            let root = walk.units.root(u);
            *first[index(e, o)].get_or_insert(root) == root
        })
    };
    let natural = outs.iter().copied().find(|&o| lies(walk, o));
    let named = match walk.split {
        Split::Dimensions => *outs.last()?,
        Split::Heads => *outs.first()?,
    };
    let o = natural.unwrap_or(named);
    let mut units = vec![None; to[o]];
    for (e, &u) in flat.iter().enumerate() {
        let first = *units[index(e, o)].get_or_insert(u);
        walk.units.join(first, u);
    }
    Some((o, units.into_iter().flatten().collect()))
}

/// Shortest runs of axes with equal products; axes of extent 1 belong to none.
fn segments(from: &[usize], to: &[usize]) -> Vec<(Vec<usize>, Vec<usize>)> {
    let long = |shape: &[usize]| (0..shape.len()).filter(|&i| shape[i] != 1).collect::<Vec<_>>();
    let (mut ins, mut outs) = (long(from).into_iter(), long(to).into_iter());
    let mut all = Vec::new();
    while let Some(first) = ins.next() {
        let (mut segment, mut product) = ((vec![first], Vec::new()), (from[first], 1));
        while product.0 != product.1 {
            let next = if product.0 < product.1 { &mut ins } else { &mut outs };
            let Some(axis) = next.next() else { return all };
            if product.0 < product.1 {
                segment.0.push(axis);
                product.0 *= from[axis];
            } else {
                segment.1.push(axis);
                product.1 *= to[axis];
            }
        }
        all.push(segment);
    }
    all
}
