//! Small networks of operators that few models have: indices that a run computes, rare functions, kept steps, branches.

use offshoot_ir::infer::infer_shape;
use offshoot_ir::{
    Activation, BinaryKind, BinaryMathKind, DType, Data, ElementaryKind, Graph, GridKind, GridOutside,
    Indexing, Node, Op, ScatterKind, SpectrumPart, UnaryKind, Value, ValueId,
};

/// A graph under construction: every operator's output has the shape that its inputs give it.
struct Draft(Graph);

impl Draft {
    fn new(name: &str, inputs: &[&[usize]]) -> (Self, Vec<ValueId>) {
        let mut draft = Self(Graph { name: name.into(), ..Graph::default() });
        let ids: Vec<ValueId> = inputs
            .iter()
            .enumerate()
            .map(|(i, shape)| draft.value(format!("x{i}"), shape, DType::F32))
            .collect();
        draft.0.inputs.clone_from(&ids);
        (draft, ids)
    }

    fn value(&mut self, name: String, shape: &[usize], dtype: DType) -> ValueId {
        let shape = shape.to_vec();
        self.0.add_value(Value { name, shape, dtype, quant: None, data: None, channels_first_outside: false })
    }

    /// A constant index tensor.
    fn index(&mut self, shape: &[usize], values: &[i32]) -> ValueId {
        let name = format!("index{}", self.0.values.len());
        self.0.add_constant(name, shape.to_vec(), Data::I32(values.to_vec()))
    }

    fn op(&mut self, op: Op, inputs: &[ValueId], dtype: DType) -> anyhow::Result<ValueId> {
        let values: Vec<&Value> = inputs.iter().map(|id| self.0.value(*id)).collect();
        let shape = infer_shape(&op, &values, &values[0].shape)?;
        let name = format!("{}{}", op.name(), self.0.nodes.len());
        let output = self.value(name.clone(), &shape, dtype);
        self.0.nodes.push(Node { name, op, inputs: inputs.to_vec(), output });
        Ok(output)
    }

    fn finish(mut self, outputs: &[ValueId]) -> Graph {
        self.0.outputs = outputs.to_vec();
        self.0
    }
}

/// Gathers and scatters in all three ways of indexing, by constant indices and by those that TopK finds.
fn indices() -> anyhow::Result<Graph> {
    let (mut draft, x) = Draft::new("indices", &[&[1, 6, 4], &[1, 6, 4]]);
    let (x, y) = (x[0], x[1]);
    let best = draft.op(Op::TopK { axis: 1, k: 3, largest: true }, &[y], DType::I32)?;
    let least = draft.op(Op::TopK { axis: 2, k: 2, largest: false }, &[y], DType::I32)?;
    let rows = draft.index(&[3], &[5, -1, 2]);
    let pairs = draft.index(&[1, 2, 1], &[0, 4]);
    let slices = draft.op(Op::Gather(Indexing::Slices { axis: 1 }), &[x, rows], DType::F32)?;
    let elements = draft.op(Op::Gather(Indexing::Elements { axis: 1 }), &[x, best], DType::F32)?;
    let along = draft.op(Op::Gather(Indexing::Elements { axis: 2 }), &[x, least], DType::F32)?;
    let tuples = draft.op(Op::Gather(Indexing::Tuples { batch: 1 }), &[x, pairs], DType::F32)?;
    let mut outputs = vec![slices, along, tuples];
    for kind in [ScatterKind::Set, ScatterKind::Add, ScatterKind::Mul, ScatterKind::Max, ScatterKind::Min] {
        let op = Op::Scatter { indexing: Indexing::Elements { axis: 1 }, kind };
        outputs.push(draft.op(op, &[x, best, elements], DType::F32)?);
    }
    let op = Op::Scatter { indexing: Indexing::Tuples { batch: 1 }, kind: ScatterKind::Set };
    outputs.push(draft.op(op, &[y, pairs, tuples], DType::F32)?);
    let cast = draft.op(Op::Cast, &[best], DType::F32)?;
    outputs.push(cast);
    outputs.push(draft.op(Op::Cast, &[x], DType::I32)?);
    Ok(draft.finish(&outputs))
}

/// An image read at places that a run computes, in every kind of interpolation.
fn grids() -> anyhow::Result<Graph> {
    let (mut draft, x) = Draft::new("grids", &[&[1, 5, 4, 2], &[1, 3, 3, 2]]);
    let mut outputs = Vec::new();
    for kind in [GridKind::Nearest, GridKind::Bilinear, GridKind::Bicubic] {
        for (outside, align_corners) in
            [(GridOutside::Zeros, false), (GridOutside::Border, true), (GridOutside::Reflection, false)]
        {
            let op = Op::GridSample { kind, outside, align_corners };
            outputs.push(draft.op(op, &[x[0], x[1]], DType::F32)?);
        }
    }
    Ok(draft.finish(&outputs))
}

/// Spectra of frames, and layers with bands of weights.
fn spectra() -> anyhow::Result<Graph> {
    let (mut draft, x) = Draft::new("spectra", &[&[1, 80]]);
    let mut outputs = Vec::new();
    for part in [SpectrumPart::Complex, SpectrumPart::Power, SpectrumPart::Magnitude] {
        let y = draft.op(Op::Spectrum { frame: 30, hop: 25, size: 32, part }, &[x[0]], DType::F32)?;
        outputs.push(y);
        if part != SpectrumPart::Complex {
            let filters = (0..3 * 17).map(|i| if i % 17 / 6 == i / 17 { 0.5 } else { 0.0 }).collect();
            let filters =
                draft.0.add_constant(format!("filters{}", outputs.len()), vec![3, 17], Data::F32(filters));
            let op = Op::FullyConnected { activation: Activation::None };
            outputs.push(draft.op(op, &[y, filters], DType::F32)?);
        }
    }
    Ok(draft.finish(&outputs))
}

/// Rare functions of one and two operands.
fn functions() -> anyhow::Result<Graph> {
    use ElementaryKind as E;
    let (mut draft, x) = Draft::new("functions", &[&[1, 7], &[1, 7]]);
    let mut outputs = Vec::new();
    let inf = E::IsInf { negative: true, positive: true };
    let trigonometric = [E::Sin, E::Cos, E::Tan, E::Asin, E::Acos, E::Atan, E::Sinh, E::Cosh];
    for kind in trigonometric.into_iter().chain([
        E::Asinh,
        E::Acosh,
        E::Atanh,
        E::Floor,
        E::Ceil,
        E::Round,
        E::IsNan,
        inf,
    ]) {
        outputs.push(draft.op(Op::Unary(UnaryKind::Elementary(kind)), &[x[0]], DType::F32)?);
    }
    use BinaryMathKind as B;
    for kind in [B::Pow, B::Mod, B::Fmod, B::Keep, B::Equal] {
        let op = Op::Binary { kind: BinaryKind::Math(kind), activation: Activation::None };
        outputs.push(draft.op(op, &[x[0], x[1]], DType::F32)?);
    }
    Ok(draft.finish(&outputs))
}

/// The same on fewer values, which post-training quantisation turns to int8 where it can.
fn chosen() -> anyhow::Result<Graph> {
    let (mut draft, x) = Draft::new("chosen", &[&[1, 6, 4]]);
    let rows = draft.index(&[3], &[5, 0, 2]);
    let taken = draft.op(Op::Gather(Indexing::Slices { axis: 1 }), &[x[0], rows], DType::F32)?;
    let pairs = draft.index(&[1, 3, 1], &[1, 3, 4]);
    let op = Op::Scatter { indexing: Indexing::Tuples { batch: 1 }, kind: ScatterKind::Max };
    let put = draft.op(op, &[x[0], pairs, taken], DType::F32)?;
    let sine = draft.op(Op::Unary(UnaryKind::Elementary(ElementaryKind::Sin)), &[put], DType::F32)?;
    let best = draft.op(Op::TopK { axis: 1, k: 2, largest: true }, &[sine], DType::I32)?;
    Ok(draft.finish(&[sine, best]))
}

/// Steps that are kept from run to run.
fn steps() -> anyhow::Result<Graph> {
    let (mut draft, x) = Draft::new("steps", &[&[1, 4, 3]]);
    let kept = Op::History { axis: 1, state: 2, fill: 0.0 };
    let values = [draft.0.value(x[0]).clone()];
    let shape = infer_shape(&kept, &[&values[0]], &[1, 6, 3])?;
    let output = draft.value("kept".into(), &shape, DType::F32);
    draft.0.nodes.push(Node { name: "kept".into(), op: kept, inputs: vec![x[0]], output });
    Ok(draft.finish(&[output]))
}

/// Experts of which an index takes one, and within the branch of another switch again.
fn branches() -> anyhow::Result<Graph> {
    let (mut draft, x) = Draft::new("branches", &[&[1, 6], &[1, 3]]);
    let (x, gate) = (x[0], x[1]);
    let best = draft.op(Op::ArgMax { axis: 1, select_last: false }, &[gate], DType::I32)?;
    let mut experts = |of: ValueId| -> anyhow::Result<ValueId> {
        let mut inputs = Vec::new();
        for i in 0..3 {
            let name = format!("w{}", draft.0.values.len());
            let weights = (0..36).map(|k| ((k * 7 + i * 5) % 23) as f32 / 23.0 - 0.4).collect();
            let w = draft.0.add_constant(name, vec![6, 6], Data::F32(weights));
            let op = Op::FullyConnected { activation: Activation::Relu };
            inputs.push(draft.op(op, &[of, w], DType::F32)?);
        }
        inputs.push(best);
        draft.op(Op::Switch, &inputs, DType::F32)
    };
    let first = experts(x)?;
    let second = experts(first)?;
    let other = draft.op(Op::Unary(UnaryKind::Neg), &[first], DType::F32)?;
    let least = draft.op(Op::TopK { axis: 1, k: 1, largest: false }, &[gate], DType::I32)?;
    let y = draft.op(Op::Switch, &[second, other, x, least], DType::F32)?;
    Ok(draft.finish(&[y]))
}

/// Graphs by name, and whether they are quantised too.
///
/// # Errors
/// A shape does not fit, which is a fault of this file.
pub fn graphs() -> anyhow::Result<Vec<(String, Graph, bool)>> {
    Ok(vec![
        ("indices".into(), indices()?, false),
        ("grids".into(), grids()?, false),
        ("functions".into(), functions()?, false),
        ("spectra".into(), spectra()?, false),
        ("chosen".into(), chosen()?, true),
        ("steps".into(), steps()?, true),
        ("branches".into(), branches()?, true),
    ])
}
