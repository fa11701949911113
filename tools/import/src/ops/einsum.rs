//! Einsum as matrix products of two operands at a time: letters of both operands that stay are batch axes, those that
//! vanish are the inner axis.

use offshoot_ir::{Activation, BinaryKind, Op, ReduceKind, ValueId};

use crate::context::{Context, Entry, Importing, Onnx};

/// A tensor with a letter for each axis.
struct Term {
    letters: Vec<char>,
    value: ValueId,
}

pub(crate) fn einsum(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let equation: String = onnx.text("equation", "").chars().filter(|c| !c.is_whitespace()).collect();
    let (inputs, output) = match equation.split_once("->") {
        Some((inputs, output)) => (inputs.to_owned(), Some(output.to_owned())),
        None => (equation.clone(), None),
    };
    if equation.contains('.') {
        return Err(format!("equation `{equation}`: an ellipsis"));
    }
    let mut terms = Vec::new();
    for (i, letters) in inputs.split(',').enumerate() {
        let value = c.value(onnx, i)?;
        let letters: Vec<char> = letters.chars().collect();
        let twice = (0..letters.len()).any(|a| letters[..a].contains(&letters[a]));
        if letters.len() != c.shape(value).len() || twice {
            return Err(format!("equation `{equation}` for an input of {} axes", c.shape(value).len()));
        }
        terms.push(Term { letters, value });
    }
    let output: Vec<char> = match output {
        Some(letters) => letters.chars().collect(),
        None => {
            // Letters that occur once, in alphabetical order.
            let all: Vec<char> = terms.iter().flat_map(|t| t.letters.iter().copied()).collect();
            let mut once: Vec<char> =
                all.iter().copied().filter(|l| all.iter().filter(|m| *m == l).count() == 1).collect();
            once.sort_unstable();
            once
        }
    };
    terms.reverse();
    let mut product = terms.pop().ok_or("no operand")?;
    while let Some(next) = terms.pop() {
        let later: Vec<char> = terms.iter().flat_map(|t| &t.letters).chain(&output).copied().collect();
        product = multiply(c, onnx, product, next, &later)?;
    }
    let product = summed(c, onnx, product, &output)?;
    if product.letters.len() != output.len() {
        return Err(format!("equation `{equation}` repeats or invents a letter of the output"));
    }
    let y = arranged(c, onnx, &product, &output)?;
    c.bind(onnx, 0, Entry::Value(y))
}

/// Permutes the axes of the term to the order of `letters`, a permutation of its own.
fn arranged(c: &mut Context<'_>, onnx: &Onnx<'_>, term: &Term, letters: &[char]) -> Importing<ValueId> {
    let perm: Option<Vec<usize>> =
        letters.iter().map(|l| term.letters.iter().position(|own| own == l)).collect();
    let perm =
        perm.filter(|p| p.len() == term.letters.len()).ok_or("a letter of the output that no input has")?;
    if perm.is_sorted() {
        return Ok(term.value);
    }
    c.emit(onnx, Op::Transpose { perm }, vec![term.value], None, &format!("{}/axes", onnx.name))
}

/// Sums the term over letters that are not needed any more.
fn summed(c: &mut Context<'_>, onnx: &Onnx<'_>, term: Term, needed: &[char]) -> Importing<Term> {
    let axes: Vec<usize> = (0..term.letters.len()).filter(|a| !needed.contains(&term.letters[*a])).collect();
    if axes.is_empty() {
        return Ok(term);
    }
    let kept: Vec<usize> = (0..term.letters.len()).filter(|a| !axes.contains(a)).collect();
    let shape = kept.iter().map(|a| c.shape(term.value)[*a]).collect();
    let op = Op::Reduce { kind: ReduceKind::Sum, axes };
    let value = c.emit(onnx, op, vec![term.value], Some(shape), &format!("{}/sum", onnx.name))?;
    Ok(Term { letters: kept.iter().map(|a| term.letters[*a]).collect(), value })
}

/// The product of two terms, summed over the letters that both have and that are not needed later.
fn multiply(c: &mut Context<'_>, onnx: &Onnx<'_>, a: Term, b: Term, later: &[char]) -> Importing<Term> {
    let needed = |other: &Term| -> Vec<char> { other.letters.iter().chain(later).copied().collect() };
    let (for_a, for_b) = (needed(&b), needed(&a));
    let (a, b) = (summed(c, onnx, a, &for_a)?, summed(c, onnx, b, &for_b)?);
    let pick = |from: &Term, keep: &dyn Fn(char) -> bool| -> Vec<char> {
        from.letters.iter().copied().filter(|l| keep(*l)).collect()
    };
    let batch = pick(&a, &|l| b.letters.contains(&l) && later.contains(&l));
    let inner = pick(&a, &|l| b.letters.contains(&l) && !later.contains(&l));
    let rows = pick(&a, &|l| !b.letters.contains(&l));
    let columns = pick(&b, &|l| !a.letters.contains(&l));
    let extent = |c: &Context<'_>, letters: &[char]| -> Importing<Vec<usize>> {
        let of =
            |t: &Term, l: char| t.letters.iter().position(|own| *own == l).map(|at| c.shape(t.value)[at]);
        letters
            .iter()
            .map(|l| match (of(&a, *l), of(&b, *l)) {
                (Some(p), Some(q)) if p != q => Err(format!("`{l}` is {p} and {q}")),
                (Some(p), _) | (None, Some(p)) => Ok(p),
                (None, None) => Err(format!("`{l}` has no extent")),
            })
            .collect()
    };
    let (batch_shape, inner_shape) = (extent(c, &batch)?, extent(c, &inner)?);
    let (rows_shape, columns_shape) = (extent(c, &rows)?, extent(c, &columns)?);
    let [k, m, n] = [&inner_shape, &rows_shape, &columns_shape].map(|s| s.iter().product::<usize>());
    let letters = [batch.as_slice(), &rows, &columns].concat();
    let shape = [batch_shape.as_slice(), &rows_shape, &columns_shape].concat();
    let name = format!("{}/operand", onnx.name);
    let left = arranged(c, onnx, &a, &[batch.as_slice(), &rows, &inner].concat())?;
    let right = arranged(c, onnx, &b, &[batch.as_slice(), &inner, &columns].concat())?;
    if inner.is_empty() {
        // An outer product, as an elementwise product.
        let ones = |n: usize| vec![1; n];
        let wide = [batch_shape.as_slice(), &rows_shape, &ones(columns.len())].concat();
        let left = c.emit(onnx, Op::Reshape, vec![left], Some(wide), &name)?;
        let tall = [batch_shape.as_slice(), &ones(rows.len()), &columns_shape].concat();
        let right = c.emit(onnx, Op::Reshape, vec![right], Some(tall), &name)?;
        let op = Op::Binary { kind: BinaryKind::Mul, activation: Activation::None };
        let value = c.emit(onnx, op, vec![left, right], None, &format!("{}/product", onnx.name))?;
        return Ok(Term { letters, value });
    }
    let matrix = |rows: usize, columns: usize| [batch_shape.as_slice(), &[rows, columns]].concat();
    let left = c.emit(onnx, Op::Reshape, vec![left], Some(matrix(m, k)), &name)?;
    let right = c.emit(onnx, Op::Reshape, vec![right], Some(matrix(k, n)), &name)?;
    let op = Op::MatMul { transpose_b: false };
    let value = c.emit(onnx, op, vec![left, right], None, &format!("{}/matrix", onnx.name))?;
    let value = c.emit(onnx, Op::Reshape, vec![value], Some(shape), &format!("{}/product", onnx.name))?;
    Ok(Term { letters, value })
}
