//! Emits one IR operator as ONNX nodes.

use offshoot_ir::{
    Activation, BinaryKind, BinaryMathKind, DType, Data, ElementaryKind, GridKind, GridOutside, Indexing,
    Node, Op, PadMode, PoolKind, ReduceKind, ScatterKind, UnaryKind, ValueId, Window, elementary,
};

use super::{Emitter, float, int, ints, spectral, text};

pub(super) fn emit(e: &mut Emitter<'_>, node: &Node) -> Result<(), String> {
    let names: Vec<String> = node.inputs.iter().map(|id| e.name(*id)).collect();
    let output = e.name(node.output);
    let activation = node.op.activation().unwrap_or_default();
    match &node.op {
        Op::Conv2d { window, groups, .. } | Op::ConvTranspose2d { window, groups, .. } => {
            convolution(e, node, window, *groups)?;
        }
        Op::Pool { kind, window, .. } => {
            let x = e.channels_first(node.inputs[0]);
            let mut attributes = windowed(window);
            let name = match kind {
                PoolKind::Max => "MaxPool",
                PoolKind::Average => "AveragePool",
                PoolKind::AverageIncludePad => {
                    attributes.push(int("count_include_pad", 1));
                    "AveragePool"
                }
            };
            if *kind != PoolKind::Max && window.dilation != [1, 1] {
                return Err("opset 17 has no dilated average pool".into());
            }
            if window.dilation == [1, 1] {
                attributes.retain(|a| a.name != "dilations");
            }
            let raw = e.fresh(&output);
            e.node(name, vec![x], &raw, attributes);
            e.finish_first(node.output, activation, raw);
        }
        Op::Resize(rule) => {
            let x = e.channels_first(node.inputs[0]);
            let scales = e.constant("scales", &[4], &Data::F32(vec![1.0, 1.0, rule.scale[0], rule.scale[1]]));
            let attributes = vec![
                text("mode", if rule.bilinear { "linear" } else { "nearest" }),
                text("coordinate_transformation_mode", &rule.coordinate),
                text("nearest_mode", &rule.nearest),
            ];
            let raw = e.fresh(&output);
            e.node("Resize", vec![x, String::new(), scales], &raw, attributes);
            e.finish_first(node.output, Activation::None, raw);
        }
        Op::FullyConnected { .. } => linear(e, node, activation)?,
        Op::MatMul { transpose_b } => {
            let mut b = names[1].clone();
            if *transpose_b {
                let rank = e.graph.value(node.inputs[1]).shape.len();
                let mut perm: Vec<usize> = (0..rank).collect();
                perm.swap(rank - 1, rank - 2);
                let turned = e.fresh(&b);
                e.node("Transpose", vec![b], &turned, vec![ints("perm", perm)]);
                b = turned;
            }
            e.node("MatMul", vec![names[0].clone(), b], &output, vec![]);
        }
        Op::Binary { kind, .. } => {
            let raw = e.raw(node.output, activation);
            let name = match kind {
                BinaryKind::Add => "Add",
                BinaryKind::Sub => "Sub",
                BinaryKind::Mul => "Mul",
                BinaryKind::Div => "Div",
                BinaryKind::Min => "Min",
                BinaryKind::Max => "Max",
                BinaryKind::Math(BinaryMathKind::Pow) => "Pow",
                BinaryKind::Math(BinaryMathKind::Fmod) => "Mod",
                BinaryKind::Math(BinaryMathKind::Equal) => {
                    let truth = e.fresh(&output);
                    e.node("Equal", names, &truth, vec![]);
                    // 1 is the number of float32.
                    e.node("Cast", vec![truth], &raw, vec![int("to", 1)]);
                    e.activate(activation, &raw, &output);
                    return Ok(());
                }
                BinaryKind::Math(BinaryMathKind::Keep) => {
                    let [a, b] = [names[0].clone(), names[1].clone()];
                    let chosen = e.fresh(&output);
                    // 9 is the number of bool.
                    e.node("Cast", vec![b], &chosen, vec![int("to", 9)]);
                    let zero = e.scalar(0.0);
                    e.node("Where", vec![chosen, a, zero], &raw, vec![]);
                    e.activate(activation, &raw, &output);
                    return Ok(());
                }
                BinaryKind::Math(BinaryMathKind::Mod) => {
                    // ONNX has it for integers only: a - b · floor(a / b).
                    let [a, b] = [names[0].clone(), names[1].clone()];
                    let [quotient, whole, taken] = [(); 3].map(|()| e.fresh(&output));
                    e.node("Div", vec![a.clone(), b.clone()], &quotient, vec![]);
                    e.node("Floor", vec![quotient], &whole, vec![]);
                    e.node("Mul", vec![whole, b], &taken, vec![]);
                    e.node("Sub", vec![a, taken], &raw, vec![]);
                    e.activate(activation, &raw, &output);
                    return Ok(());
                }
            };
            let attributes = match kind {
                BinaryKind::Math(BinaryMathKind::Fmod) => vec![int("fmod", 1)],
                _ => vec![],
            };
            e.node(name, names, &raw, attributes);
            e.activate(activation, &raw, &output);
        }
        Op::Unary(kind) => unary(e, *kind, names[0].clone(), &output),
        Op::PRelu => prelu(e, node)?,
        Op::Recurrent { kind, returns, reverse } => {
            super::recurrent::emit(e, node, *kind, *returns, *reverse)?;
        }
        Op::Softmax { axis } => e.node("Softmax", names, &output, vec![int("axis", *axis as i64)]),
        Op::BatchNorm { epsilon } => {
            // ONNX expects the channels on axis 1, where a matrix of rows of channels has them.
            let shape = e.graph.value(node.inputs[0]).shape.clone();
            let channels = shape.last().copied().unwrap_or(1);
            let rows =
                reshape(e, names[0].clone(), &[shape.iter().product::<usize>() / channels.max(1), channels]);
            let normed = e.fresh(&output);
            let inputs = [vec![rows], names[1..].to_vec()].concat();
            e.node("BatchNormalization", inputs, &normed, vec![float("epsilon", *epsilon)]);
            reshape_to(e, normed, &shape, &output);
        }
        Op::LayerNorm { epsilon } => {
            e.node("LayerNormalization", names, &output, vec![int("axis", -1), float("epsilon", *epsilon)]);
        }
        Op::Reshape => {
            let shape = e.graph.value(node.output).shape.clone();
            reshape_to(e, names[0].clone(), &shape, &output);
        }
        Op::Transpose { perm } => {
            e.node("Transpose", names, &output, vec![ints("perm", perm.iter().copied())])
        }
        Op::Concat { axis } => e.node("Concat", names, &output, vec![int("axis", *axis as i64)]),
        Op::Switch => {
            // A stack of the branches, of which the index takes one.
            let mut names = names;
            let position = names.pop().unwrap_or_default();
            let shape = e.graph.value(node.output).shape.clone();
            let row: Vec<usize> = std::iter::once(1).chain(shape.iter().copied()).collect();
            let rows: Vec<String> = names.into_iter().map(|name| reshape(e, name, &row)).collect();
            let (stack, taken) = (e.fresh(&output), e.fresh(&output));
            e.node("Concat", rows, &stack, vec![int("axis", 0)]);
            let position = reshape(e, position, &[1]);
            e.node("Gather", vec![stack, position], &taken, vec![int("axis", 0)]);
            reshape_to(e, taken, &shape, &output);
        }
        Op::Slice { start, step } => {
            let shape = &e.graph.value(node.output).shape;
            let ends = start.iter().zip(step).zip(shape).map(|((s, by), n)| {
                let end = *s as i64 + *by as i64 * *n as i64;
                // Before the first element: only a number out of range is not counted from the end.
                if end < 0 { i64::MIN + 1 } else { end }
            });
            let ends: Vec<i64> = ends.collect();
            let starts = start.iter().map(|s| *s as i64).collect();
            let steps = step.iter().map(|s| *s as i64).collect();
            let axes = (0..start.len() as i64).collect();
            let mut inputs = names;
            for values in [starts, ends, axes, steps] {
                inputs.push(index(e, values));
            }
            e.node("Slice", inputs, &output, vec![]);
        }
        Op::Pad { before, after, mode, value } => {
            let pads = before.iter().chain(after).map(|v| *v as i64).collect();
            let mode = match mode {
                None => "constant",
                Some(PadMode::Reflect) => "reflect",
                Some(PadMode::Edge) => "edge",
            };
            let inputs = vec![names[0].clone(), index(e, pads), e.scalar(*value)];
            e.node("Pad", inputs, &output, vec![text("mode", mode)]);
        }
        Op::History { axis, state, fill } => {
            let attributes =
                vec![int("axis", *axis as i64), int("state", *state as i64), float("fill", *fill)];
            e.own_node("History", names, &output, attributes);
        }
        Op::MicroFrontend(settings) => spectral::micro_frontend(e, names, &output, settings),
        Op::Expand => {
            let shape = e.graph.value(node.output).shape.iter().map(|d| *d as i64).collect();
            let shape = index(e, shape);
            e.node("Expand", vec![names[0].clone(), shape], &output, vec![]);
        }
        Op::Reduce { kind, axes } => {
            let keep = keeps(e, node);
            let mut inputs = names;
            let mut attributes = vec![int("keepdims", keep)];
            let name = match kind {
                ReduceKind::Mean => "ReduceMean",
                ReduceKind::Sum => "ReduceSum",
                ReduceKind::Max => "ReduceMax",
                ReduceKind::Min => "ReduceMin",
            };
            // In opset 17 only ReduceSum takes its axes as an input.
            if *kind == ReduceKind::Sum {
                inputs.push(index(e, axes.iter().map(|a| *a as i64).collect()));
            } else {
                attributes.push(ints("axes", axes.iter().copied()));
            }
            e.node(name, inputs, &output, attributes);
        }
        Op::ArgMax { axis, select_last } => {
            let attributes = vec![
                int("axis", *axis as i64),
                int("keepdims", keeps(e, node)),
                int("select_last_index", i64::from(*select_last)),
            ];
            e.node("ArgMax", names, &output, attributes);
        }
        Op::Gather(indexing) => {
            let (kind, attributes) = match indexing {
                Indexing::Slices { axis } => ("Gather", vec![int("axis", *axis as i64)]),
                Indexing::Elements { axis } => ("GatherElements", vec![int("axis", *axis as i64)]),
                Indexing::Tuples { batch } => ("GatherND", vec![int("batch_dims", *batch as i64)]),
            };
            e.node(kind, names, &output, attributes);
        }
        Op::Scatter { indexing, kind } => {
            let join = match kind {
                ScatterKind::Set => "none",
                ScatterKind::Add => "add",
                ScatterKind::Mul => "mul",
                ScatterKind::Max | ScatterKind::Min => {
                    return Err("opset 17 has no scatter that keeps the largest or smallest".into());
                }
            };
            let mut attributes = vec![text("reduction", join)];
            let name = match indexing {
                Indexing::Elements { axis } => {
                    attributes.push(int("axis", *axis as i64));
                    "ScatterElements"
                }
                _ => "ScatterND",
            };
            e.node(name, names, &output, attributes);
        }
        Op::TopK { axis, k, largest } => {
            let k = index(e, vec![*k as i64]);
            let attributes = vec![int("axis", *axis as i64), int("largest", i64::from(*largest))];
            let values = e.fresh(&output);
            e.node("TopK", vec![names[0].clone(), k], &values, attributes);
            if let Some(node) = e.proto.node.last_mut() {
                node.output.push(output);
            }
        }
        Op::Cast => {
            let to = if e.graph.value(node.output).dtype == DType::I32 { 7 } else { 1 };
            e.node("Cast", names, &output, vec![int("to", to)]);
        }
        Op::GridSample { kind, outside, align_corners } => {
            let x = e.channels_first(node.inputs[0]);
            let attributes = vec![
                text(
                    "mode",
                    match kind {
                        GridKind::Nearest => "nearest",
                        GridKind::Bilinear => "bilinear",
                        GridKind::Bicubic => "bicubic",
                    },
                ),
                text(
                    "padding_mode",
                    match outside {
                        GridOutside::Zeros => "zeros",
                        GridOutside::Border => "border",
                        GridOutside::Reflection => "reflection",
                    },
                ),
                int("align_corners", i64::from(*align_corners)),
            ];
            let raw = e.fresh(&output);
            e.node("GridSample", vec![x, names[1].clone()], &raw, attributes);
            e.finish_first(node.output, Activation::None, raw);
        }
        Op::Spectrum { frame, hop, size, part } => spectral::emit(e, node, [*frame, *hop, *size], *part)?,
        Op::Quantize | Op::Dequantize | Op::Requantize | Op::Lookup(_) => {
            return Err("a quantised graph cannot be written".into());
        }
    }
    Ok(())
}

/// ONNX's `keepdims`: whether a reduction keeps its axes.
fn keeps(e: &Emitter<'_>, node: &Node) -> i64 {
    let rank = |id: ValueId| e.graph.value(id).shape.len();
    i64::from(rank(node.inputs[0]) == rank(node.output))
}

pub(super) fn index(e: &mut Emitter<'_>, values: Vec<i64>) -> String {
    e.constant("index", &[values.len()], &Data::I64(values))
}

pub(super) fn reshape_to(e: &mut Emitter<'_>, x: String, shape: &[usize], output: &str) {
    let shape = index(e, shape.iter().map(|d| *d as i64).collect());
    e.node("Reshape", vec![x, shape], output, vec![]);
}

pub(super) fn reshape(e: &mut Emitter<'_>, x: String, shape: &[usize]) -> String {
    let output = e.fresh(&x);
    reshape_to(e, x, shape, &output);
    output
}

fn windowed(window: &Window) -> Vec<tract_onnx::pb::AttributeProto> {
    let list = |name, values: &[u16]| ints(name, values.iter().map(|v| usize::from(*v)));
    vec![
        list("kernel_shape", &window.kernel),
        list("strides", &window.stride),
        list("dilations", &window.dilation),
        list("pads", &window.pad),
    ]
}

/// A constant float input.
fn constant(e: &Emitter<'_>, id: ValueId) -> Result<(Vec<usize>, Vec<f32>), String> {
    let value = e.graph.value(id);
    match value.data.as_deref() {
        Some(Data::F32(v)) => Ok((value.shape.clone(), v.clone())),
        _ => Err(format!("`{}` is not a float constant", value.name)),
    }
}

fn convolution(e: &mut Emitter<'_>, node: &Node, window: &Window, groups: usize) -> Result<(), String> {
    let (shape, w) = constant(e, node.inputs[1])?;
    let [o, kh, kw, per] = shape[..] else { return Err("weights".into()) };
    let x = e.channels_first(node.inputs[0]);
    let transposed = matches!(node.op, Op::ConvTranspose2d { .. });
    let at = |o: usize, y: usize, x: usize, i: usize| w[((o * kh + y) * kw + x) * per + i];
    let mut values = Vec::with_capacity(w.len());
    let weights = if transposed {
        let m = o / groups;
        for c in 0..groups * per {
            for om in 0..m {
                let from = (c / per) * m + om;
                (0..kh).for_each(|y| values.extend((0..kw).map(|x| at(from, y, x, c % per))));
            }
        }
        e.constant("weights", &[groups * per, m, kh, kw], &Data::F32(values))
    } else {
        for from in 0..o {
            for i in 0..per {
                (0..kh).for_each(|y| values.extend((0..kw).map(|x| at(from, y, x, i))));
            }
        }
        e.constant("weights", &[o, per, kh, kw], &Data::F32(values))
    };
    let mut attributes = windowed(window);
    attributes.push(int("group", groups as i64));
    if transposed {
        // Bottom and right padding follow from the output's extent.
        let (input, output) = (&e.graph.value(node.inputs[0]).shape, &e.graph.value(node.output).shape);
        let mut extra = [0usize; 2];
        let mut pads = window.pad.map(i64::from);
        for axis in 0..2 {
            let reach = usize::from(window.dilation[axis]) * (usize::from(window.kernel[axis]) - 1) + 1;
            let full = usize::from(window.stride[axis]) * (input[axis + 1] - 1) + reach;
            let after = full as i64 - i64::from(window.pad[axis]) - output[axis + 1] as i64;
            pads[axis + 2] = after.max(0);
            extra[axis] = (-after).max(0) as usize;
        }
        attributes.retain(|a| a.name != "pads");
        attributes.push(ints("pads", pads.map(|p| p as usize)));
        attributes.push(ints("output_padding", extra));
    }
    let mut inputs = vec![x, weights];
    if let Some(bias) = node.inputs.get(2) {
        inputs.push(e.name(*bias));
    }
    let raw = e.fresh(&e.name(node.output));
    e.node(if transposed { "ConvTranspose" } else { "Conv" }, inputs, &raw, attributes);
    e.finish_first(node.output, node.op.activation().unwrap_or_default(), raw);
    Ok(())
}

fn linear(e: &mut Emitter<'_>, node: &Node, activation: Activation) -> Result<(), String> {
    let output = e.name(node.output);
    let x = e.name(node.inputs[0]);
    let raw = e.raw(node.output, activation);
    if e.graph.value(node.inputs[0]).shape.len() == 2 {
        let inputs = node.inputs.iter().map(|id| e.name(*id)).collect();
        e.node("Gemm", inputs, &raw, vec![int("transB", 1)]);
    } else {
        let (shape, w) = constant(e, node.inputs[1])?;
        let (o, i) = (shape[0], shape[1]);
        let turned = (0..i).flat_map(|c| (0..o).map(move |r| r * i + c)).map(|at| w[at]).collect();
        let weights = e.constant("weights", &[i, o], &Data::F32(turned));
        match node.inputs.get(2) {
            None => e.node("MatMul", vec![x, weights], &raw, vec![]),
            Some(bias) => {
                let product = e.fresh(&output);
                e.node("MatMul", vec![x, weights], &product, vec![]);
                let bias = e.name(*bias);
                e.node("Add", vec![product, bias], &raw, vec![]);
            }
        }
    }
    e.activate(activation, &raw, &output);
    Ok(())
}

/// Slopes run along the channels, which are axis 1 of tensors with more than two axes.
fn prelu(e: &mut Emitter<'_>, node: &Node) -> Result<(), String> {
    let rank = e.graph.value(node.output).shape.len();
    if rank <= 2 {
        let (inputs, output) = (node.inputs.iter().map(|id| e.name(*id)).collect(), e.name(node.output));
        e.node("PRelu", inputs, &output, vec![]);
        return Ok(());
    }
    let (shape, slopes) = constant(e, node.inputs[1])?;
    let mut wide = vec![1; rank - 1];
    wide[0] = shape[0];
    let slopes = e.constant("slopes", &wide, &Data::F32(slopes));
    let x = e.channels_first(node.inputs[0]);
    let raw = e.fresh(&e.name(node.output));
    e.node("PRelu", vec![x, slopes], &raw, vec![]);
    e.finish_first(node.output, Activation::None, raw);
    Ok(())
}

fn unary(e: &mut Emitter<'_>, kind: UnaryKind, x: String, output: &str) {
    let one = |e: &mut Emitter<'_>, name: &str, attributes| e.node(name, vec![x.clone()], output, attributes);
    match kind {
        UnaryKind::Clip { min: 0.0, max: f32::INFINITY } => one(e, "Relu", vec![]),
        UnaryKind::Clip { min, max } => {
            let (min, max) = (e.scalar(min), e.scalar(max));
            e.node("Clip", vec![x, min, max], output, vec![]);
        }
        UnaryKind::LeakyRelu { alpha } => one(e, "LeakyRelu", vec![float("alpha", alpha)]),
        UnaryKind::HardSwish => one(e, "HardSwish", vec![]),
        UnaryKind::HardSigmoid { alpha, beta } => {
            one(e, "HardSigmoid", vec![float("alpha", alpha), float("beta", beta)]);
        }
        UnaryKind::Sigmoid => one(e, "Sigmoid", vec![]),
        UnaryKind::Tanh => one(e, "Tanh", vec![]),
        UnaryKind::Elu { alpha } => one(e, "Elu", vec![float("alpha", alpha)]),
        UnaryKind::Exp => one(e, "Exp", vec![]),
        UnaryKind::Log => one(e, "Log", vec![]),
        UnaryKind::Sqrt => one(e, "Sqrt", vec![]),
        UnaryKind::Reciprocal => one(e, "Reciprocal", vec![]),
        UnaryKind::Abs => one(e, "Abs", vec![]),
        UnaryKind::Neg => one(e, "Neg", vec![]),
        UnaryKind::Erf => one(e, "Erf", vec![]),
        UnaryKind::Softplus => one(e, "Softplus", vec![]),
        UnaryKind::Pow { exponent } => {
            let exponent = e.scalar(exponent);
            e.node("Pow", vec![x, exponent], output, vec![]);
        }
        UnaryKind::Elementary(kind) => {
            let name = elementary::onnx_name(kind);
            match kind {
                ElementaryKind::IsNan | ElementaryKind::IsInf { .. } => {
                    let attributes = match kind {
                        ElementaryKind::IsInf { negative, positive } => vec![
                            int("detect_negative", negative.into()),
                            int("detect_positive", positive.into()),
                        ],
                        _ => vec![],
                    };
                    let truth = e.fresh(&x);
                    e.node(&name, vec![x.clone()], &truth, attributes);
                    // 1 is the number of float32.
                    e.node("Cast", vec![truth], output, vec![int("to", 1)]);
                }
                _ => one(e, &name, vec![]),
            }
        }
        // Gelu became an operator in opset 20; here it is written out.
        UnaryKind::Gelu | UnaryKind::GeluTanh => {
            let inner = if kind == UnaryKind::Gelu {
                let scaled = binary(e, "Mul", &x, core::f32::consts::FRAC_1_SQRT_2);
                let erf = e.fresh(&x);
                e.node("Erf", vec![scaled], &erf, vec![]);
                erf
            } else {
                let cube = binary(e, "Pow", &x, 3.0);
                let small = binary(e, "Mul", &cube, 0.044_715);
                let sum = e.fresh(&x);
                e.node("Add", vec![x.clone(), small], &sum, vec![]);
                let scaled = binary(e, "Mul", &sum, 0.797_884_6);
                let tanh = e.fresh(&x);
                e.node("Tanh", vec![scaled], &tanh, vec![]);
                tanh
            };
            let gate = binary(e, "Add", &inner, 1.0);
            let half = binary(e, "Mul", &x, 0.5);
            e.node("Mul", vec![half, gate], output, vec![]);
        }
    }
}

/// `x kind value`.
fn binary(e: &mut Emitter<'_>, kind: &str, x: &str, value: f32) -> String {
    let (value, output) = (e.scalar(value), e.fresh(x));
    e.node(kind, vec![x.to_owned(), value], &output, vec![]);
    output
}
