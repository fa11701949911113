//! Emits the operators into which one ONNX node decomposes. Each is named after the node.

use offshoot_ir::{Activation, BinaryKind, Op, ReduceKind, UnaryKind, ValueId};

use crate::constant::{Constant, Elements};
use crate::context::{Context, Entry, Importing, Onnx};

/// The node being imported, and the graph that grows.
pub(crate) struct Parts<'c, 'a, 'n> {
    pub(crate) c: &'c mut Context<'a>,
    pub(crate) onnx: &'c Onnx<'n>,
}

impl<'c, 'a, 'n> Parts<'c, 'a, 'n> {
    pub(crate) fn of(c: &'c mut Context<'a>, onnx: &'c Onnx<'n>) -> Self {
        Self { c, onnx }
    }

    pub(crate) fn op(&mut self, op: Op, inputs: &[ValueId], shape: Option<Vec<usize>>) -> Importing<ValueId> {
        let name = format!("{}/{}", self.onnx.name, op.name());
        self.c.emit(self.onnx, op, inputs.to_vec(), shape, &name)
    }

    pub(crate) fn shape(&self, x: ValueId) -> Vec<usize> {
        self.c.shape(x).to_vec()
    }

    /// Input `i` of the node.
    pub(crate) fn input(&mut self, i: usize) -> Importing<ValueId> {
        self.c.value(self.onnx, i)
    }

    /// Input `i` of the node, if it has one.
    pub(crate) fn optional(&mut self, i: usize) -> Importing<Option<ValueId>> {
        match self.onnx.input(i) {
            Some(_) => self.input(i).map(Some),
            None => Ok(None),
        }
    }

    pub(crate) fn reals(&mut self, shape: &[usize], values: Vec<f32>) -> ValueId {
        let constant = Constant::new(shape.to_vec(), Elements::F32(values));
        self.c.add_constant(&format!("{}/constant", self.onnx.name), &constant)
    }

    pub(crate) fn number(&mut self, value: f32) -> ValueId {
        self.reals(&[1], vec![value])
    }

    pub(crate) fn unary(&mut self, kind: UnaryKind, x: ValueId) -> Importing<ValueId> {
        self.op(Op::Unary(kind), &[x], None)
    }

    pub(crate) fn binary(&mut self, kind: BinaryKind, a: ValueId, b: ValueId) -> Importing<ValueId> {
        self.op(Op::Binary { kind, activation: Activation::None }, &[a, b], None)
    }

    pub(crate) fn add(&mut self, a: ValueId, b: ValueId) -> Importing<ValueId> {
        self.binary(BinaryKind::Add, a, b)
    }

    pub(crate) fn sub(&mut self, a: ValueId, b: ValueId) -> Importing<ValueId> {
        self.binary(BinaryKind::Sub, a, b)
    }

    pub(crate) fn mul(&mut self, a: ValueId, b: ValueId) -> Importing<ValueId> {
        self.binary(BinaryKind::Mul, a, b)
    }

    /// `x` times a number; `x` itself for 1.
    pub(crate) fn times(&mut self, x: ValueId, factor: f32) -> Importing<ValueId> {
        if factor == 1.0 {
            return Ok(x);
        }
        let factor = self.number(factor);
        self.mul(x, factor)
    }

    pub(crate) fn reshape(&mut self, x: ValueId, shape: &[usize]) -> Importing<ValueId> {
        if self.c.shape(x) == shape {
            return Ok(x);
        }
        self.op(Op::Reshape, &[x], Some(shape.to_vec()))
    }

    pub(crate) fn transpose(&mut self, x: ValueId, perm: &[usize]) -> Importing<ValueId> {
        if perm.is_sorted() {
            return Ok(x);
        }
        self.op(Op::Transpose { perm: perm.to_vec() }, &[x], None)
    }

    /// `len` elements from `start` on, `step` apart, along an axis.
    pub(crate) fn slice(
        &mut self,
        x: ValueId,
        axis: usize,
        start: usize,
        step: isize,
        len: usize,
    ) -> Importing<ValueId> {
        let mut shape = self.shape(x);
        if start == 0 && step == 1 && shape.get(axis) == Some(&len) {
            return Ok(x);
        }
        let (mut starts, mut steps) = (vec![0; shape.len()], vec![1; shape.len()]);
        (starts[axis], steps[axis], shape[axis]) = (start, step, len);
        self.op(Op::Slice { start: starts, step: steps }, &[x], Some(shape))
    }

    pub(crate) fn concat(&mut self, parts: &[ValueId], axis: usize) -> Importing<ValueId> {
        match *parts {
            [one] => Ok(one),
            _ => self.op(Op::Concat { axis }, parts, None),
        }
    }

    pub(crate) fn expand(&mut self, x: ValueId, shape: &[usize]) -> Importing<ValueId> {
        if self.c.shape(x) == shape {
            return Ok(x);
        }
        self.op(Op::Expand, &[x], Some(shape.to_vec()))
    }

    /// Reduces axes, which stay with extent 1.
    pub(crate) fn reduce(&mut self, kind: ReduceKind, x: ValueId, axes: &[usize]) -> Importing<ValueId> {
        let mut kept = self.shape(x);
        axes.iter().for_each(|a| kept[*a] = 1);
        self.op(Op::Reduce { kind, axes: axes.to_vec() }, &[x], Some(kept))
    }

    /// The product of matrices in the last two axes; the others are equal.
    pub(crate) fn matmul(&mut self, a: ValueId, b: ValueId) -> Importing<ValueId> {
        self.op(Op::MatMul { transpose_b: false }, &[a, b], None)
    }

    /// Multiplies the vectors along an axis by a constant matrix `[outputs, inputs]`.
    pub(crate) fn along(
        &mut self,
        x: ValueId,
        axis: usize,
        matrix: Vec<f32>,
        outputs: usize,
    ) -> Importing<ValueId> {
        let rank = self.shape(x).len();
        let inputs = self.shape(x)[axis];
        let w = self.reals(&[outputs, inputs], matrix);
        let mut perm: Vec<usize> = (0..rank).collect();
        perm.swap(axis, rank - 1);
        let last = self.transpose(x, &perm)?;
        let y = self.op(Op::FullyConnected { activation: Activation::None }, &[last, w], None)?;
        self.transpose(y, &perm)
    }

    /// 1 where `x` is above 0, otherwise 0.
    pub(crate) fn positive(&mut self, x: ValueId) -> Importing<ValueId> {
        self.unary(UnaryKind::HardSigmoid { alpha: f32::MAX, beta: 0.0 }, x)
    }

    /// 1 where `x` is 0 or below, otherwise 0.
    pub(crate) fn not_positive(&mut self, x: ValueId) -> Importing<ValueId> {
        self.unary(UnaryKind::HardSigmoid { alpha: f32::MIN, beta: 1.0 }, x)
    }

    /// 1 minus a truth value.
    pub(crate) fn not(&mut self, x: ValueId) -> Importing<ValueId> {
        self.unary(UnaryKind::HardSigmoid { alpha: -1.0, beta: 1.0 }, x)
    }

    /// Binds output `i` of the node, if it is used.
    pub(crate) fn output(&mut self, i: usize, value: ValueId) -> Importing {
        match self.onnx.output(i) {
            Some(_) => self.c.bind(self.onnx, i, Entry::Value(value)),
            None => Ok(()),
        }
    }
}
