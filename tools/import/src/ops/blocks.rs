//! Weights with a scale for each block of a few along an axis: DequantizeLinear with `block_size`, and ONNX Runtime's
//! MatMulNBits. They become float32, each the product of an integer and a scale, rounded once as ONNX does.

use offshoot_ir::{Activation, BinaryKind, Op};

use crate::constant::{Constant, Elements, count};
use crate::context::{Context, Importing, Onnx, axis};

/// The real values of weights with scales and zero points per block.
pub(super) fn dequantized(c: &Context<'_>, onnx: &Onnx<'_>, x: &Constant) -> Importing<Constant> {
    let scale = c.wanted(onnx, 1)?;
    let rank = x.shape.len();
    let along = axis(onnx.int("axis", 1), rank)?;
    let blocks = match scale.shape.as_slice() {
        shape if shape.len() == rank => shape[along],
        shape => return Err(format!("scales {shape:?} per block of {:?}", x.shape)),
    };
    let extent = x.shape[along];
    let size = match usize::try_from(onnx.int("block_size", 0)) {
        Ok(size) if size > 0 => size,
        _ => return Err("a block size that is not positive".into()),
    };
    let mut wanted = x.shape.clone();
    wanted[along] = extent.div_ceil(size);
    if scale.shape != wanted {
        return Err(format!("scales {:?}; blocks of {size} need {wanted:?}", scale.shape));
    }
    let codes = x.to_ints().ok_or("weights that are not integers")?;
    let scales = scale.to_reals();
    let zeros = match c.constant(onnx, 2)? {
        None => vec![0; scales.len()],
        Some(z) if z.shape == wanted => z.to_ints().ok_or("zero points that are not integers")?,
        Some(z) => return Err(format!("zero points {:?} for scales {wanted:?}", z.shape)),
    };
    let inner: usize = x.shape[along + 1..].iter().product();
    let place = |i: usize| {
        let (outer, rest) = (i / (inner * extent), i % (inner * extent));
        (outer * blocks + rest / inner / size) * inner + rest % inner
    };
    let real = |(i, code): (usize, &i64)| code.saturating_sub(zeros[place(i)]) as f32 * scales[place(i)];
    let values = codes.iter().enumerate().map(real).collect();
    Ok(Constant::new(x.shape.clone(), Elements::F32(values)))
}

/// `com.microsoft.MatMulNBits`: a product with weights `[N, K]` in blocks along K.
pub(super) fn matmul_n_bits(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let extent = |name: &str| usize::try_from(onnx.int(name, 0)).ok().filter(|v| *v > 0);
    let [Some(k), Some(n), Some(size)] = ["K", "N", "block_size"].map(extent) else {
        return Err("K, N or block_size is missing".into());
    };
    let bits = match onnx.int("bits", 4) {
        bits @ (2 | 4 | 8) => bits as usize,
        other => return Err(format!("{other} bits; 2, 4 and 8 are supported")),
    };
    if onnx.input(4).is_some() {
        return Err("groups in another order (g_idx)".into());
    }
    let blocks = k.div_ceil(size);
    if size > k.next_multiple_of(16).max(256) || count(&[n, blocks, size]).is_none() {
        return Err(format!("{n} rows of {k} in blocks of {size}"));
    }
    let bytes = |i: usize, what: &str| match c.wanted(onnx, i)?.elements {
        Elements::U8(v) => Ok(v),
        _ => Err(format!("{what} that are not bytes")),
    };
    let code = |bytes: &[u8], row: usize, width: usize, i: usize| {
        let byte = bytes[row * width + i * bits / 8];
        i32::from((u16::from(byte) >> (i * bits % 8)) & ((1 << bits) - 1))
    };
    let packed = bytes(1, "weights")?;
    let (width, padded) = ((size * bits).div_ceil(8), (blocks * bits).div_ceil(8));
    if packed.len() != n * blocks * width {
        return Err(format!("{} bytes of weights for {n} rows of {blocks} blocks", packed.len()));
    }
    let scales = c.wanted(onnx, 2)?.to_reals();
    if scales.len() != n * blocks {
        return Err(format!("{} scales for {n} rows of {blocks} blocks", scales.len()));
    }
    let zeros: Vec<f32> = match c.constant(onnx, 3)? {
        None => vec![(1 << (bits - 1)) as f32; n * blocks],
        Some(Constant { elements: Elements::U8(v), .. }) if v.len() == n * padded => {
            (0..n * blocks).map(|i| code(&v, i / blocks, padded, i % blocks) as f32).collect()
        }
        // Zero points of the type of the scales need not be whole.
        Some(z) if z.len() == n * blocks && z.to_ints().is_none() => z.to_reals(),
        Some(z) => return Err(format!("zero points {:?} for {n} rows of {blocks} blocks", z.shape)),
    };
    let mut weights = Vec::with_capacity(n * k);
    for row in 0..n {
        for i in 0..k {
            let block = row * blocks + i / size;
            let code = code(&packed, block, width, i % size);
            weights.push((code as f32 - zeros[block]) * scales[block]);
        }
    }
    let x = c.value(onnx, 0)?;
    let name = onnx.input(1).unwrap_or_default();
    let w = c.add_reals(name, vec![n, k], weights);
    let op = Op::FullyConnected { activation: Activation::None };
    if onnx.input(5).is_none() {
        return c.finish(onnx, op, vec![x, w], None, 0);
    }
    let y = c.emit(onnx, op, vec![x, w], None, &format!("{}/product", onnx.name))?;
    let bias = c.value(onnx, 5)?;
    let add = Op::Binary { kind: BinaryKind::Add, activation: Activation::None };
    c.finish(onnx, add, vec![y, bias], None, 0)
}
