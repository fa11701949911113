//! Blocks of pixels: space to depth and back, space to batch and back, Tile, Resize.

use offshoot_ir::{Op, ResizeRule, ValueId};

use crate::constant::{MAX_RANK, count};
use crate::context::{Importing, MAX_VALUE};
use crate::tflite::builder::Builder;
use crate::tflite::file::Operator;

/// Largest extent of a resized image.
const MAX_EXTENT: usize = 1 << 15;

/// Reshape, Transpose, Reshape.
fn moved(
    b: &mut Builder<'_>,
    op: &Operator<'_>,
    x: ValueId,
    split: Vec<usize>,
    perm: Vec<usize>,
) -> Importing<ValueId> {
    let form = b.form_of(x);
    let (split_name, moved_name) = (b.part(op, "split"), b.part(op, "moved"));
    let y = b.emit(op, Op::Reshape, vec![x], Some(split), &form, &split_name)?;
    b.emit(op, Op::Transpose { perm }, vec![y], None, &form, &moved_name)
}

/// SPACE_TO_DEPTH and (`back`) DEPTH_TO_SPACE; the block's rows and columns come first among the channels.
pub(super) fn depth(b: &mut Builder<'_>, op: &Operator<'_>, back: bool) -> Importing {
    let o = &op.options;
    let block = match back {
        true => o.builtin_options_as_depth_to_space_options().map(|o| o.block_size()),
        false => o.builtin_options_as_space_to_depth_options().map(|o| o.block_size()),
    };
    let block = block.and_then(|s| usize::try_from(s).ok()).filter(|s| (1..=4096).contains(s));
    let s = block.ok_or("its block size must be from 1 to 4096")?;
    let x = b.value(op, 0)?;
    let shape = b.shape(x);
    let &[n, h, w, c] = shape.as_slice() else {
        return Err(format!("its input {shape:?} is not (N, H, W, C)"));
    };
    let fits = if back { c.is_multiple_of(s * s) } else { h.is_multiple_of(s) && w.is_multiple_of(s) };
    if !fits {
        return Err(format!("{shape:?} in blocks of {s}"));
    }
    let split = match back {
        true => vec![n, h, w, s, s, c / (s * s)],
        false => vec![n, h / s, s, w / s, s, c],
    };
    let y = moved(b, op, x, split, vec![0, 1, 3, 2, 4, 5])?;
    b.finish_moved(op, Op::Reshape, vec![y], 0)
}

/// Block sizes at input 1, and pairs of numbers at input 2.
fn blocks(b: &Builder<'_>, op: &Operator<'_>, rank: usize) -> Importing<(Vec<usize>, Vec<[usize; 2]>)> {
    let positive = |v: &i64| usize::try_from(*v).ok().filter(|v| (1..=4096).contains(v));
    let sizes: Option<Vec<usize>> = b.ints(op, 1)?.iter().map(positive).collect();
    let sizes = sizes.filter(|s| !s.is_empty() && s.len() < rank).ok_or("its block sizes")?;
    let pairs: Option<Vec<usize>> = b.ints(op, 2)?.iter().map(|v| usize::try_from(*v).ok()).collect();
    let pairs = pairs.filter(|p| p.len() == 2 * sizes.len()).ok_or("its paddings")?;
    Ok((sizes, pairs.chunks_exact(2).map(|p| [p[0], p[1]]).collect()))
}

/// SPACE_TO_BATCH_ND: x, block, paddings. Pads, and lets each position in a block become a sample.
pub(super) fn space_to_batch(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing {
    let x = b.value(op, 0)?;
    let rank = b.shape(x).len();
    let (sizes, pads) = blocks(b, op, rank)?;
    let (mut before, mut after) = (vec![0; rank], vec![0; rank]);
    for (i, [low, high]) in pads.iter().enumerate() {
        (before[i + 1], after[i + 1]) = (*low, *high);
    }
    let (form, name) = (b.form_of(x), b.part(op, "padded"));
    let kind = Op::Pad { before, after, mode: None, value: 0.0 };
    let padded = b.emit(op, kind, vec![x], None, &form, &name)?;
    let shape = b.shape(padded);
    let m = sizes.len();
    let mut split = vec![shape[0]];
    for (i, s) in sizes.iter().enumerate() {
        if !shape[i + 1].is_multiple_of(*s) {
            return Err(format!("{shape:?} in blocks of {sizes:?}"));
        }
        split.extend([shape[i + 1] / s, *s]);
    }
    split.extend(&shape[m + 1..]);
    let mut perm: Vec<usize> = (0..m).map(|i| 2 + 2 * i).collect();
    perm.push(0);
    perm.extend((0..m).map(|i| 1 + 2 * i));
    perm.extend(2 * m + 1..split.len());
    let y = moved(b, op, padded, split, perm)?;
    b.finish_moved(op, Op::Reshape, vec![y], 0)
}

/// BATCH_TO_SPACE_ND: x, block, crops. The opposite of [`space_to_batch`].
pub(super) fn batch_to_space(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing {
    let x = b.value(op, 0)?;
    let shape = b.shape(x);
    let (sizes, crops) = blocks(b, op, shape.len())?;
    let m = sizes.len();
    let block: usize = sizes.iter().try_fold(1usize, |a, s| a.checked_mul(*s)).ok_or("its block sizes")?;
    if !shape[0].is_multiple_of(block) {
        return Err(format!("a batch of {} in blocks of {sizes:?}", shape[0]));
    }
    let mut split = sizes.clone();
    split.push(shape[0] / block);
    split.extend(&shape[1..]);
    let mut perm = vec![m];
    for i in 0..m {
        perm.extend([m + 1 + i, i]);
    }
    perm.extend(2 * m + 1..split.len());
    let y = moved(b, op, x, split, perm)?;
    let mut whole = vec![shape[0] / block];
    whole.extend(sizes.iter().zip(&shape[1..]).map(|(s, d)| s * d));
    whole.extend(&shape[m + 1..]);
    let (form, name) = (b.form_of(y), b.part(op, "whole"));
    let y = b.emit(op, Op::Reshape, vec![y], Some(whole.clone()), &form, &name)?;
    let mut start = vec![0; whole.len()];
    for (i, [low, _]) in crops.iter().enumerate() {
        start[i + 1] = *low;
    }
    let step = vec![1; whole.len()];
    b.finish_moved(op, Op::Slice { start, step }, vec![y], 0)
}

/// TILE: inserts an axis before each repeated one, and expands it.
pub(super) fn tile(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing {
    let x = b.value(op, 0)?;
    let shape = b.shape(x);
    let times: Option<Vec<usize>> =
        b.ints(op, 1)?.iter().map(|v| usize::try_from(*v).ok().filter(|v| *v > 0)).collect();
    let times = times.filter(|t| t.len() == shape.len()).ok_or("its multiples")?;
    let (mut thin, mut wide) = (Vec::new(), Vec::new());
    for (d, t) in shape.iter().zip(&times) {
        if *t > 1 {
            thin.push(1);
            wide.push(*t);
        }
        thin.push(*d);
        wide.push(*d);
    }
    if wide.len() > MAX_RANK || count(&wide).is_none_or(|n| n > MAX_VALUE) {
        return Err(format!("{shape:?} repeated {times:?} times"));
    }
    let form = b.form_of(x);
    let (thin_name, wide_name) = (b.part(op, "thin"), b.part(op, "wide"));
    let y = b.emit(op, Op::Reshape, vec![x], Some(thin), &form, &thin_name)?;
    let y = b.emit(op, Op::Expand, vec![y], Some(wide), &form, &wide_name)?;
    b.finish_moved(op, Op::Reshape, vec![y], 0)
}

/// RESIZE_BILINEAR, RESIZE_NEAREST_NEIGHBOR. The file gives the output's extents.
pub(super) fn resize(b: &mut Builder<'_>, op: &Operator<'_>, bilinear: bool) -> Importing {
    let o = &op.options;
    let options = match bilinear {
        true => o
            .builtin_options_as_resize_bilinear_options()
            .map(|o| (o.align_corners(), o.half_pixel_centers())),
        false => o
            .builtin_options_as_resize_nearest_neighbor_options()
            .map(|o| (o.align_corners(), o.half_pixel_centers())),
    };
    let (align, half) = options.unwrap_or((false, false));
    let (coordinate, nearest) = match (align, half) {
        (true, true) => return Err("align_corners together with half_pixel_centers".into()),
        // TFLite rounds half away from zero here, and takes the floor of `(i + 0.5) · scale`.
        (true, false) => ("align_corners", "round_prefer_ceil"),
        (false, true) => ("half_pixel", "round_prefer_ceil"),
        (false, false) => ("asymmetric", "floor"),
    };
    let x = b.value(op, 0)?;
    let (from, to) = (b.shape(x), b.out_shape(op, 0)?);
    let (&[_, h, w, _], &[_, oh, ow, _]) = (from.as_slice(), to.as_slice()) else {
        return Err(format!("{from:?} to {to:?}; (N, H, W, C) is supported"));
    };
    if [oh, ow].iter().any(|d| *d == 0 || *d > MAX_EXTENT) {
        return Err(format!("output {to:?}"));
    }
    let scale = [oh as f32 / h as f32, ow as f32 / w as f32];
    let rule = ResizeRule {
        bilinear,
        coordinate: coordinate.into(),
        nearest: nearest.into(),
        scale,
        rounded_steps: true,
    };
    b.finish_moved(op, Op::Resize(rule), vec![x], 0)
}
