//! The graph under construction: what stands for each tensor of the file, and how operators extend the graph.

use std::collections::HashMap;

use offshoot_ir::{
    Activation, DType, Data, Declared, Graph, Node, Op, Quant, UnaryKind, Value, ValueId, infer,
};
use tract_onnx::prelude::f16;
use tract_tflite::tflite::ActivationFunctionType;

use super::file::{Kind, Operator, Tensor};
use crate::constant::{Constant, Elements, MAX_ELEMENTS, Short, count};
use crate::context::{Importing, MAX_VALUE};
use crate::names::Names;

/// Most operators of a graph.
const MAX_NODES: usize = 20_000;
/// Difference between a uint8 code and the int8 code that stands for it.
const UNSIGNED: i32 = 128;

/// What stands for a tensor of the file.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// Nothing has written it yet.
    Missing,
    /// A constant of the file.
    Constant,
    /// A constant computed during import.
    Computed(Constant),
    /// Integers computed from shapes alone. Operators that read them know the shape of their output from the file.
    Derived,
    /// A tensor computed at run time.
    Value(ValueId),
    /// The handle of a variable.
    Handle(String),
    /// What a variable holds at the beginning of a run, or the last of its steps.
    State(String),
    /// Output of an operator that cannot be imported.
    Unknown,
}

/// A variable: what it holds before the first run, and the operator that reads it.
#[derive(Debug, Default)]
pub(super) struct Variable {
    /// Contents before the first run, if the file gives them.
    pub(super) initial: Option<Constant>,
    /// Its shape.
    pub(super) shape: Vec<usize>,
    /// The axis along which only the last steps are read, if not all are.
    pub(super) cut: Option<usize>,
    /// The output of the `History` that stands for the variable, with the axis of the steps and their number.
    pub(super) history: Option<(ValueId, usize, usize)>,
    pub(super) assigned: bool,
}

/// Number format of a computed tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Form {
    pub(super) dtype: DType,
    pub(super) quant: Option<Quant>,
}

impl Form {
    pub(super) const F32: Self = Self { dtype: DType::F32, quant: None };

    pub(super) fn is_i8(&self) -> bool {
        self.dtype == DType::I8
    }

    /// int8 or int16.
    pub(super) fn is_quantised(&self) -> bool {
        matches!(self.dtype, DType::I8 | DType::I16)
    }
}

/// Graph under construction.
pub(super) struct Builder<'f> {
    pub(super) graph: Graph,
    pub(super) tensors: Vec<Tensor<'f>>,
    pub(super) entries: Vec<Entry>,
    pub(super) variables: HashMap<String, Variable>,
    /// Constants of the file that are in the graph already.
    constants: HashMap<usize, ValueId>,
    /// Names in use, with the number of the last copy.
    names: Names,
    /// Elements of constants that were copied into the graph.
    held: usize,
}

impl<'f> Builder<'f> {
    pub(super) fn new(name: &str, tensors: Vec<Tensor<'f>>) -> Self {
        let entries = tensors.iter().map(|t| if t.data.is_some() { Entry::Constant } else { Entry::Missing });
        Self {
            graph: Graph { name: name.to_owned(), ..Graph::default() },
            entries: entries.collect(),
            tensors,
            variables: HashMap::new(),
            constants: HashMap::new(),
            names: Names::default(),
            held: 0,
        }
    }

    /// Index of the tensor at input `i`.
    pub(super) fn input(&self, op: &Operator<'_>, i: usize) -> Importing<usize> {
        op.inputs.get(i).copied().flatten().ok_or_else(|| format!("input {i} is missing"))
    }

    pub(super) fn has(&self, op: &Operator<'_>, i: usize) -> bool {
        op.inputs.get(i).copied().flatten().is_some()
    }

    /// The tensor at output `i`.
    pub(super) fn output(&self, op: &Operator<'_>, i: usize) -> Importing<usize> {
        op.outputs.get(i).copied().ok_or_else(|| format!("output {i} is missing"))
    }

    /// Extents of output `i`, as the file gives them.
    pub(super) fn out_shape(&self, op: &Operator<'_>, i: usize) -> Importing<Vec<usize>> {
        let t = &self.tensors[self.output(op, i)?];
        match &t.fault {
            Some(fault) => Err(format!("output `{}`: {fault}", t.name)),
            None => Ok(t.shape.clone()),
        }
    }

    pub(super) fn is_constant(&self, op: &Operator<'_>, i: usize) -> bool {
        let entry = op.inputs.get(i).copied().flatten().map(|t| &self.entries[t]);
        matches!(entry, Some(Entry::Constant | Entry::Computed(_)))
    }

    /// The constant at input `i`, with uint8 codes shifted to int8.
    pub(super) fn constant(&self, op: &Operator<'_>, i: usize) -> Importing<Constant> {
        let at = self.input(op, i)?;
        let t = &self.tensors[at];
        match &self.entries[at] {
            Entry::Computed(c) => Ok(c.clone()),
            Entry::Constant => decode(t).map_err(|e| format!("constant `{}`: {e}", t.name)),
            Entry::Unknown => Err(String::new()),
            _ => Err(format!("input {i} (`{}`) is computed at run time; a constant is expected", t.name)),
        }
    }

    /// The constant integers at input `i`.
    pub(super) fn ints(&self, op: &Operator<'_>, i: usize) -> Importing<Vec<i64>> {
        let constant = self.constant(op, i)?;
        constant.to_ints().ok_or_else(|| format!("input {i} is not an integer tensor"))
    }

    /// Number format of a tensor computed at run time.
    pub(super) fn form(&self, at: usize) -> Importing<Form> {
        let t = &self.tensors[at];
        if let Some(fault) = &t.fault {
            return Err(format!("`{}`: {fault}", t.name));
        }
        let dtype = match t.kind {
            Kind::F32 | Kind::F16 => return Ok(Form::F32),
            Kind::I32 | Kind::I64 => return Ok(Form { dtype: DType::I32, quant: None }),
            Kind::I8 | Kind::U8 => DType::I8,
            Kind::I16 => return int16(t),
            _ => return Err(format!("`{}` is {}, which the device does not compute", t.name, t.kind_name)),
        };
        // Integers without a scale stand for themselves.
        let mut quant = t.quant.clone().unwrap_or_else(|| Quant::per_tensor(1.0, 0));
        if quant.axis.is_some() {
            return Err(format!("`{}` is an activation with scales per channel", t.name));
        }
        shift(t.kind, &mut quant);
        if !(-128..=127).contains(&quant.zero_point[0]) {
            return Err(format!("`{}`: zero point {} is outside the type", t.name, quant.zero_point[0]));
        }
        Ok(Form { dtype, quant: Some(quant) })
    }

    /// Number format of output `i`.
    pub(super) fn out_form(&self, op: &Operator<'_>, i: usize) -> Importing<Form> {
        self.form(self.output(op, i)?)
    }

    /// The value at input `i`; a constant is added to the graph.
    pub(super) fn value(&mut self, op: &Operator<'_>, i: usize) -> Importing<ValueId> {
        let at = self.input(op, i)?;
        match &self.entries[at] {
            Entry::Value(id) => Ok(*id),
            Entry::Unknown => Err(String::new()),
            Entry::Constant | Entry::Computed(_) => {
                if let Some(id) = self.constants.get(&at) {
                    return Ok(*id);
                }
                let constant = self.constant(op, i)?;
                if constant.len() == 0 {
                    return Err(format!("input {i} is empty"));
                }
                let name = self.tensors[at].name.clone();
                let id = self.add(&name, &constant)?;
                self.constants.insert(at, id);
                Ok(id)
            }
            Entry::Handle(name) | Entry::State(name) => {
                Err(format!("input {i} is variable `{name}`; only a CONCATENATION with new data may read it"))
            }
            Entry::Derived => Err(format!("input {i} is computed from shapes; its numbers are not known")),
            Entry::Missing if self.tensors[at].variable => {
                Err(format!("input {i} (`{}`) is a variable", self.tensors[at].name))
            }
            Entry::Missing => {
                Err(format!("input {i} (`{}`) is read before it is written", self.tensors[at].name))
            }
        }
    }

    /// The value at input `i` in float32.
    pub(super) fn real(&mut self, op: &Operator<'_>, i: usize) -> Importing<ValueId> {
        if self.is_constant(op, i) {
            let constant = self.constant(op, i)?;
            let name = self.tensors[self.input(op, i)?].name.clone();
            return self.reals(&format!("{name}/float"), constant.shape.clone(), constant.to_reals());
        }
        let x = self.value(op, i)?;
        self.in_real(op, x)
    }

    /// `x` in float32.
    pub(super) fn in_real(&mut self, op: &Operator<'_>, x: ValueId) -> Importing<ValueId> {
        let v = self.graph.value(x);
        match v.dtype {
            DType::F32 => Ok(x),
            DType::I8 | DType::I16 => {
                let name = format!("{}/float", v.name);
                self.emit(op, Op::Dequantize, vec![x], None, &Form::F32, &name)
            }
            other => Err(format!("`{}` is {other:?}, which has no float32 form", v.name)),
        }
    }

    pub(super) fn shape(&self, id: ValueId) -> Vec<usize> {
        self.graph.value(id).shape.clone()
    }

    pub(super) fn form_of(&self, id: ValueId) -> Form {
        let v = self.graph.value(id);
        Form { dtype: v.dtype, quant: v.quant.clone() }
    }

    /// Adds a constant to the graph. Integers without a scale become float32.
    pub(super) fn add(&mut self, name: &str, c: &Constant) -> Importing<ValueId> {
        self.held = self.held.saturating_add(c.len());
        if self.held > MAX_ELEMENTS {
            return Err("the graph's constants are too large for a device".into());
        }
        let name = self.names.unique(name);
        let data = match (&c.elements, &c.quant) {
            (Elements::I8(_) | Elements::I32(_) | Elements::I64(_), Some(_)) | (Elements::F32(_), _) => {
                c.clone().into_data()
            }
            (Elements::Short(v, Short::I16), Some(_)) => Data::I16(v.iter().map(|v| *v as i16).collect()),
            _ => Data::F32(c.to_reals()),
        };
        let quant = c.quant.clone().filter(|_| !matches!(data, Data::F32(_)));
        let id = self.graph.add_constant(name, c.shape.clone(), data);
        self.graph.value_mut(id).quant = quant;
        Ok(id)
    }

    pub(super) fn reals(&mut self, name: &str, shape: Vec<usize>, values: Vec<f32>) -> Importing<ValueId> {
        self.add(name, &Constant::new(shape, Elements::F32(values)))
    }

    /// Appends an operator; its output has the inferred shape, or `declared` for operators whose shape inference needs
    /// it.
    pub(super) fn emit(
        &mut self,
        op: &Operator<'_>,
        kind: Op,
        inputs: Vec<ValueId>,
        declared: Option<Vec<usize>>,
        form: &Form,
        name: &str,
    ) -> Importing<ValueId> {
        let values: Vec<&Value> = inputs.iter().map(|id| self.graph.value(*id)).collect();
        let shape =
            infer::infer_shape(&kind, &values, &declared.unwrap_or_default()).map_err(|e| match e {
                offshoot_ir::Error::Node { reason, .. } => reason,
                other => other.to_string(),
            })?;
        if shape.contains(&0) || count(&shape).is_none_or(|n| n > MAX_VALUE) {
            return Err(format!("output {shape:?} is empty or too large"));
        }
        if self.graph.nodes.len() >= MAX_NODES {
            return Err("the graph is too large for a device".into());
        }
        let name = self.names.unique(name);
        let (dtype, quant) = (form.dtype, form.quant.clone());
        let value = Value { name, shape, dtype, quant, data: None, channels_first_outside: false };
        let output = self.graph.add_value(value);
        let name = op.outputs.first().map_or_else(String::new, |t| self.tensors[*t].name.clone());
        self.graph.nodes.push(Node { name, op: kind, inputs, output });
        Ok(output)
    }

    pub(super) fn add_input(&mut self, at: usize, shape: Vec<usize>, form: Form) {
        let name = self.names.unique(&self.tensors[at].name.clone());
        let declared = match self.tensors[at].kind {
            Kind::U8 => Some(Declared::U8),
            Kind::F16 => Some(Declared::F16),
            Kind::I64 => Some(Declared::I64),
            _ => None,
        };
        if let Some(declared) = declared {
            self.graph.declared.insert(name.clone(), declared);
        }
        let (dtype, quant) = (form.dtype, form.quant);
        let value = Value { name, shape, dtype, quant, data: None, channels_first_outside: false };
        let id = self.graph.add_value(value);
        self.graph.inputs.push(id);
        self.entries[at] = Entry::Value(id);
    }

    /// A name for an intermediate value of the operator.
    pub(super) fn part(&self, op: &Operator<'_>, part: &str) -> String {
        let whole = op.outputs.first().map_or("", |t| self.tensors[*t].name.as_str());
        format!("{whole}/{part}")
    }

    /// [`Self::emit`] for output `i` of the file's operator, in that output's number format.
    pub(super) fn finish(
        &mut self,
        op: &Operator<'_>,
        kind: Op,
        inputs: Vec<ValueId>,
        i: usize,
    ) -> Importing {
        let at = self.output(op, i)?;
        let form = self.form(at)?;
        let (name, shape, open) =
            (self.tensors[at].name.clone(), self.tensors[at].shape.clone(), self.tensors[at].open_axis);
        let id = self.emit(op, kind, inputs, Some(shape.clone()), &form, &name)?;
        let found = self.shape(id);
        // The file does not know the shapes behind an axis that is open.
        if found != shape && open.is_none() && !shape.is_empty() {
            return Err(format!("its output is {found:?}, but the file says {shape:?}"));
        }
        self.entries[at] = Entry::Value(id);
        Ok(())
    }

    /// [`Self::finish`] for an operator that is computed in float32.
    pub(super) fn finish_real(&mut self, op: &Operator<'_>, kind: Op, inputs: Vec<ValueId>) -> Importing {
        if !self.out_form(op, 0)?.is_quantised() {
            return self.finish(op, kind, inputs, 0);
        }
        let (name, declared) = (self.part(op, "real"), self.out_shape(op, 0)?);
        let y = self.emit(op, kind, inputs, Some(declared), &Form::F32, &name)?;
        self.finish(op, Op::Quantize, vec![y], 0)
    }

    /// [`Self::finish`] for an operator whose output holds elements of its inputs: its int8 form keeps the scale of `x`,
    /// and a requantisation follows where the output has another.
    pub(super) fn finish_moved(
        &mut self,
        op: &Operator<'_>,
        kind: Op,
        inputs: Vec<ValueId>,
        i: usize,
    ) -> Importing {
        let form = self.form_of(*inputs.first().ok_or("has no input")?);
        let wanted = self.out_form(op, i)?;
        if form.dtype != wanted.dtype {
            return Err(format!("turns {:?} into {:?}", form.dtype, wanted.dtype));
        }
        if form == wanted {
            return self.finish(op, kind, inputs, i);
        }
        let (name, declared) = (self.part(op, "moved"), self.out_shape(op, i)?);
        let y = self.emit(op, kind, inputs, Some(declared), &form, &name)?;
        self.finish(op, Op::Requantize, vec![y], i)
    }

    /// [`Self::finish`] with a fused activation that no operator of the IR takes.
    pub(super) fn finish_activated(
        &mut self,
        op: &Operator<'_>,
        kind: Op,
        inputs: Vec<ValueId>,
        fused: Fused,
    ) -> Importing {
        let Fused::Tanh = fused else { return self.finish(op, kind, inputs, 0) };
        if self.out_form(op, 0)?.is_quantised() {
            return Err("a fused TANH in a quantised network".into());
        }
        let (name, declared) = (self.part(op, "sum"), self.out_shape(op, 0)?);
        let y = self.emit(op, kind, inputs, Some(declared), &Form::F32, &name)?;
        self.finish(op, Op::Unary(UnaryKind::Tanh), vec![y], 0)
    }

    /// Lets output `i` stand for a value that exists already.
    pub(super) fn bind(&mut self, op: &Operator<'_>, i: usize, entry: Entry) -> Importing {
        let at = self.output(op, i)?;
        self.entries[at] = entry;
        Ok(())
    }
}

/// A fused activation function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fused {
    /// One that operators of the IR take.
    Clip(Activation),
    Tanh,
}

impl Fused {
    pub(super) fn read(function: ActivationFunctionType) -> Importing<Self> {
        Ok(match function {
            ActivationFunctionType::NONE => Self::Clip(Activation::None),
            ActivationFunctionType::RELU => Self::Clip(Activation::Relu),
            ActivationFunctionType::RELU_N1_TO_1 => Self::Clip(Activation::Clip { min: -1.0, max: 1.0 }),
            ActivationFunctionType::RELU6 => Self::Clip(Activation::Clip { min: 0.0, max: 6.0 }),
            ActivationFunctionType::TANH => Self::Tanh,
            other => return Err(format!("fused activation {}", other.variant_name().unwrap_or("unknown"))),
        })
    }

    /// The activation that the operator takes itself.
    pub(super) fn activation(self) -> Activation {
        match self {
            Self::Clip(activation) => activation,
            Self::Tanh => Activation::None,
        }
    }
}

/// Number format of an int16 tensor, which is symmetric.
fn int16(t: &Tensor<'_>) -> Importing<Form> {
    let quant = t.quant.clone().ok_or_else(|| format!("`{}` is int16 without a scale", t.name))?;
    if quant.axis.is_some() || quant.zero_point != [0] {
        return Err(format!("`{}` is int16, but has not one scale and zero point 0", t.name));
    }
    Ok(Form { dtype: DType::I16, quant: Some(quant) })
}

/// uint8 codes are stored as int8 codes that are smaller by 128.
fn shift(kind: Kind, quant: &mut Quant) {
    if kind == Kind::U8 {
        quant.zero_point.iter_mut().for_each(|z| *z = z.saturating_sub(UNSIGNED));
    }
}

/// Contents of a constant of the file.
fn decode(t: &Tensor<'_>) -> Importing<Constant> {
    if let Some(fault) = &t.fault {
        return Err(fault.clone());
    }
    let data = t.data.unwrap_or_default();
    let halves = |d: &[u8]| -> Vec<f32> {
        d.chunks_exact(2).map(|b| f16::from_bits(u16::from_le_bytes([b[0], b[1]])).to_f32()).collect()
    };
    let elements = match t.kind {
        Kind::F32 => Elements::F32(words(data, f32::from_le_bytes)),
        Kind::F16 => Elements::F32(halves(data)),
        Kind::I4 => Elements::I8(nibbles(data, t.len())),
        Kind::I8 => Elements::I8(data.iter().map(|b| *b as i8).collect()),
        // With a scale, uint8 is shifted to int8; without one the numbers stand for themselves.
        Kind::U8 if t.quant.is_some() => {
            Elements::I8(data.iter().map(|b| b.wrapping_sub(128) as i8).collect())
        }
        Kind::U8 => Elements::U8(data.to_vec()),
        Kind::I32 => Elements::I32(words(data, i32::from_le_bytes)),
        Kind::I64 => {
            let word = |b: &[u8]| i64::from_le_bytes(std::array::from_fn(|i| b[i]));
            Elements::I64(data.chunks_exact(8).map(word).collect())
        }
        Kind::Bool => Elements::Bool(data.iter().map(|b| *b != 0).collect()),
        Kind::I16 => {
            let word = |b: &[u8]| i32::from(i16::from_le_bytes([b[0], b[1]]));
            let words = data.chunks_exact(2).map(word).collect();
            if t.quant.is_some() { Elements::Short(words, Short::I16) } else { Elements::I32(words) }
        }
        Kind::Resource | Kind::Other => {
            return Err(format!("{} constants are not supported", t.kind_name));
        }
    };
    let scaled = |e: &Elements| matches!(e, Elements::I8(_) | Elements::I32(_) | Elements::Short(..));
    let mut quant = t.quant.clone().filter(|_| scaled(&elements));
    if let Some(quant) = &mut quant {
        shift(t.kind, quant);
    }
    Ok(Constant { shape: t.shape.clone(), elements, quant })
}

fn words<T>(data: &[u8], word: fn([u8; 4]) -> T) -> Vec<T> {
    data.chunks_exact(4).map(|b| word([b[0], b[1], b[2], b[3]])).collect()
}

/// Signed numbers of four bits, the lower half of a byte first.
fn nibbles(data: &[u8], len: usize) -> Vec<i8> {
    let both = |b: &u8| [(*b << 4) as i8 >> 4, *b as i8 >> 4];
    data.iter().flat_map(both).take(len).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nibbles_are_signed() {
        assert_eq!(nibbles(&[0x8F, 0x07], 3), [-1, -8, 7]);
    }
}
