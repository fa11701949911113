//! DepthToSpace, SpaceToDepth, Tile, Trilu, CumSum: data movements and products with constants.

use offshoot_ir::{Activation, BinaryKind, Op};

use crate::constant::{Constant, Elements, MAX_RANK, count};
use crate::context::{Context, Entry, Importing, Onnx, axis};

/// Longest axis of a CumSum: the matrix of ones grows with its square.
const MAX_SUMMED: usize = 4096;

pub(crate) fn depth_to_space(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let (x, [n, depth, h, w], block) = blocks(c, onnx)?;
    let deep = depth / block / block;
    if deep * block * block != depth {
        return Err(format!("{depth} channels in blocks of {block}"));
    }
    // Block rows and columns come first (DCR) or last (CRD) among the channels.
    let (split, perm) = match onnx.text("mode", "DCR").as_str() {
        "DCR" => (vec![n, block, block, deep, h, w], vec![0, 3, 4, 1, 5, 2]),
        "CRD" => (vec![n, deep, block, block, h, w], vec![0, 1, 4, 2, 5, 3]),
        other => return Err(format!("mode `{other}`")),
    };
    moved(c, onnx, x, split, perm, vec![n, deep, h * block, w * block])
}

pub(crate) fn space_to_depth(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let (x, [n, depth, h, w], block) = blocks(c, onnx)?;
    if h % block != 0 || w % block != 0 {
        return Err(format!("{h} × {w} in blocks of {block}"));
    }
    let split = vec![n, depth, h / block, block, w / block, block];
    let joined = vec![n, depth * block * block, h / block, w / block];
    // Block rows and columns come first (DCR) or last (CRD, from opset 28 on) among the channels.
    let perm = match onnx.text("mode", "DCR").as_str() {
        "DCR" => vec![0, 3, 5, 1, 2, 4],
        "CRD" => vec![0, 1, 3, 5, 2, 4],
        other => return Err(format!("mode `{other}`")),
    };
    moved(c, onnx, x, split, perm, joined)
}

fn blocks(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing<(offshoot_ir::ValueId, [usize; 4], usize)> {
    let x = c.value(onnx, 0)?;
    let shape: [usize; 4] =
        c.shape(x).try_into().map_err(|_| format!("input {:?} is not (N, C, H, W)", c.shape(x)))?;
    let block = usize::try_from(onnx.int("blocksize", 0)).ok().filter(|b| *b > 0 && *b <= 1 << 12);
    Ok((x, shape, block.ok_or("blocksize must be from 1 to 4096")?))
}

/// Reshape, Transpose, Reshape.
fn moved(
    c: &mut Context<'_>,
    onnx: &Onnx<'_>,
    x: offshoot_ir::ValueId,
    split: Vec<usize>,
    perm: Vec<usize>,
    joined: Vec<usize>,
) -> Importing {
    let name = onnx.output(0).unwrap_or_default().to_owned();
    let y = c.emit(onnx, Op::Reshape, vec![x], Some(split), &format!("{name}/split"))?;
    let y = c.emit(onnx, Op::Transpose { perm }, vec![y], None, &format!("{name}/moved"))?;
    c.finish(onnx, Op::Reshape, vec![y], Some(joined), 0)
}

/// Tile: inserts an axis before each repeated one, and expands it.
pub(crate) fn tile(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = c.value(onnx, 0)?;
    let shape = c.shape(x).to_vec();
    let repeats = c.ints(onnx, 1)?.ok_or("repeats are missing")?;
    if repeats.len() != shape.len() || repeats.iter().any(|r| !(1..=1 << 24).contains(r)) {
        return Err(format!("repeats {repeats:?} for {} axes", shape.len()));
    }
    let (mut split, mut wide, mut joined) = (Vec::new(), Vec::new(), Vec::new());
    for (&d, &r) in shape.iter().zip(&repeats) {
        if r > 1 {
            split.push(1);
            wide.push(r as usize);
        }
        split.push(d);
        wide.push(d);
        joined.push(d.saturating_mul(r as usize));
    }
    if split.len() > MAX_RANK || count(&wide).is_none() {
        return Err(format!("repeats {repeats:?} of {shape:?}"));
    }
    let name = onnx.output(0).unwrap_or_default().to_owned();
    let y = c.emit(onnx, Op::Reshape, vec![x], Some(split), &format!("{name}/split"))?;
    let y = c.emit(onnx, Op::Expand, vec![y], Some(wide), &format!("{name}/repeated"))?;
    c.finish(onnx, Op::Reshape, vec![y], Some(joined), 0)
}

/// Trilu: a product with a constant of ones and zeros.
pub(crate) fn trilu(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = c.value(onnx, 0)?;
    let [.., rows, columns] = *c.shape(x) else {
        return Err(format!("input {:?} is not a matrix", c.shape(x)));
    };
    let k = c.ints(onnx, 1)?.and_then(|k| k.first().copied()).unwrap_or(0);
    let upper = onnx.int("upper", 1) != 0;
    let keeps = |i: usize| {
        let beyond = (i % columns) as i64 - (i / columns) as i64;
        if upper { beyond >= k } else { beyond <= k }
    };
    let mask = (0..rows * columns).map(|i| f32::from(u8::from(keeps(i)))).collect();
    let name = onnx.output(0).unwrap_or_default().to_owned();
    let mask = c.add_reals(&format!("{name}/mask"), vec![rows, columns], mask);
    c.finish(onnx, Op::Binary { kind: BinaryKind::Mul, activation: Activation::None }, vec![x, mask], None, 0)
}

/// CumSum: a product with a triangle of ones.
pub(crate) fn cum_sum(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = c.value(onnx, 0)?;
    let rank = c.shape(x).len();
    let along = c.ints(onnx, 1)?.and_then(|a| a.first().copied()).ok_or("the axis is missing")?;
    let along = axis(along, rank)?;
    let n = c.shape(x)[along];
    if n > MAX_SUMMED {
        return Err(format!("{n} elements; up to {MAX_SUMMED} are supported"));
    }
    let (exclusive, reverse) = (onnx.int("exclusive", 0) != 0, onnx.int("reverse", 0) != 0);
    let counts = |i: usize| {
        let (to, from) = (i / n, i % n);
        let (first, last) = if reverse { (to, from) } else { (from, to) };
        first < last || (first == last && !exclusive)
    };
    let ones = (0..n * n).map(|i| f32::from(u8::from(counts(i)))).collect();
    let triangle = Constant::new(vec![n, n], Elements::F32(ones));
    let name = onnx.output(0).unwrap_or_default().to_owned();
    let w = c.add_constant(&format!("{name}/triangle"), &triangle);
    let op = Op::FullyConnected { activation: Activation::None };
    if along + 1 == rank {
        return c.finish(onnx, op, vec![x, w], None, 0);
    }
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(along, rank - 1);
    let last = c.emit(onnx, Op::Transpose { perm: perm.clone() }, vec![x], None, &format!("{name}/last"))?;
    let y = c.emit(onnx, op, vec![last, w], None, &format!("{name}/sums"))?;
    let y = c.emit(onnx, Op::Transpose { perm }, vec![y], None, &format!("{name}/back"))?;
    c.bind(onnx, 0, Entry::Value(y))
}
