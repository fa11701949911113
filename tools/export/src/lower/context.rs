//! Shared by all families of operators: tensors and buffers, constants, conversions between number formats.

use offshoot::format::codec::Record;
use offshoot::format::record;
use offshoot_ir::{DType, Data, ValueId};

use super::{Context, int16, layout};
use crate::blobs;
use crate::draft::Step;
use crate::forms::parameters::{self, Lowering, to_u32};
use crate::forms::requant;
use crate::lowered::{Buffer, Operator, Tensor};

impl Context<'_> {
    /// The tensor of a value; a constant is first copied into the arena.
    pub(crate) fn tensor(&mut self, v: ValueId) -> Lowering<Tensor> {
        let value = self.graph.value(v);
        let Some(data) = &value.data else {
            let buffer = self.place(v)?;
            return self.describe(v, buffer);
        };
        let blob = self.elements(v, data)?;
        let buffer = self.allocate(blob.len())?;
        let tensor = self.describe(v, buffer)?;
        let len = to_u32(blob.len(), "bytes of a constant")?;
        let blob = self.blob(blob, [0, 0])?;
        self.emit(Record::Constant(record::Constant { dst: 0, len, blob }), [None, None], &tensor, &[]);
        Ok(tensor)
    }

    /// The bytes of a constant.
    pub(super) fn elements(&self, v: ValueId, data: &Data) -> Lowering<Vec<u8>> {
        Ok(match data {
            Data::F32(d) => blobs::floats(d),
            Data::I8(d) => blobs::bytes(d),
            Data::I16(d) => blobs::halves(d),
            Data::I32(d) => blobs::words(d),
            Data::I64(_) => {
                let name = &self.graph.value(v).name;
                return Err(format!("constant `{name}` is int64, which the device does not support"));
            }
        })
    }

    /// The tensor of a node's output.
    pub(crate) fn output(&mut self, v: ValueId) -> Lowering<Tensor> {
        let buffer = self.place(v)?;
        self.describe(v, buffer)
    }

    pub(super) fn describe(&self, v: ValueId, buffer: Buffer) -> Lowering<Tensor> {
        let value = self.graph.value(v);
        let dtype = device_dtype(value.dtype)
            .ok_or_else(|| format!("`{}` is int64, which the device does not support", value.name))?;
        let (scale, zp) = match (&value.quant, dtype) {
            (Some(q), record::DType::I8) if q.scale.len() == 1 && q.zero_point.len() == 1 => {
                let zp = i8::try_from(q.zero_point[0])
                    .map_err(|_| format!("`{}`: zero point {} is not int8", value.name, q.zero_point[0]))?;
                (q.scale[0], zp)
            }
            (_, record::DType::I8) => {
                return Err(format!(
                    "`{}` is int8, but has not exactly one scale and zero point",
                    value.name
                ));
            }
            (Some(q), record::DType::I16) if q.scale.len() == 1 && q.zero_point == [0] => (q.scale[0], 0),
            (_, record::DType::I16) => {
                return Err(format!("`{}` is int16, but has not one scale and zero point 0", value.name));
            }
            _ => (0.0, 0),
        };
        Ok(Tensor { buffer, shape: value.shape.clone(), dtype, scale, zp })
    }

    /// The buffer of a value, allocated on first use.
    pub(super) fn place(&mut self, v: ValueId) -> Lowering<Buffer> {
        if let Some(&buffer) = self.places.get(&v) {
            return Ok(buffer);
        }
        let value = self.graph.value(v);
        let dtype = device_dtype(value.dtype)
            .ok_or_else(|| format!("`{}` is int64, which the device does not support", value.name))?;
        let buffer = self.allocate(value.len() * dtype.size())?;
        self.places.insert(v, buffer);
        Ok(buffer)
    }

    /// The buffer of a graph output. An output that is a constant or another name for a graph input gets its own
    /// buffer.
    pub(super) fn output_buffer(&mut self, v: ValueId) -> Lowering<Buffer> {
        if self.graph.value(v).data.is_some() {
            return Ok(self.tensor(v)?.buffer);
        }
        let tensor = self.output(v)?;
        if !self.out.inputs.contains(&tensor.buffer) {
            return Ok(tensor.buffer);
        }
        let own = self.temp(&tensor.shape, tensor.dtype, tensor.scale, tensor.zp)?;
        layout::copy_all(self, &tensor, &own)?;
        if let Some(Step::Operator(op)) = self.out.steps.last_mut() {
            op.origin = Some(v);
        }
        Ok(own.buffer)
    }

    /// Makes `v` another name for the buffer of `x`.
    pub(crate) fn alias(&mut self, v: ValueId, x: &Tensor) {
        self.places.insert(v, x.buffer);
    }

    pub(super) fn allocate(&mut self, bytes: usize) -> Lowering<Buffer> {
        self.out.buffers.push(to_u32(bytes, "bytes of a tensor")?);
        Ok(self.out.buffers.len() - 1)
    }

    /// A temporary tensor, which is no IR value.
    pub(crate) fn temp(
        &mut self,
        shape: &[usize],
        dtype: record::DType,
        scale: f32,
        zp: i8,
    ) -> Lowering<Tensor> {
        let buffer = self.allocate(shape.iter().product::<usize>() * dtype.size())?;
        Ok(Tensor { buffer, shape: shape.to_vec(), dtype, scale, zp })
    }

    /// Adds a blob and returns its index; `account` are its bytes of weights and of biases.
    pub(crate) fn blob(&mut self, blob: Vec<u8>, account: [usize; 2]) -> Lowering<u32> {
        self.out.blobs.push((blob, account));
        to_u32(self.out.blobs.len() - 1, "the number of constants")
    }

    /// Appends an operator and returns it, for further fields.
    pub(crate) fn emit(
        &mut self,
        record: Record,
        reads: [Option<&Tensor>; 2],
        y: &Tensor,
        in_place: &[&Tensor],
    ) -> &mut Operator {
        // In x · x both operands would overlap the output, but the device allows that for one operand only.
        let twice = matches!(reads, [Some(a), Some(b)] if a.buffer == b.buffer);
        let in_place = if twice { &[] } else { in_place };
        let name = self.node.map_or("", |n| &n.name);
        let steps = &mut self.out.steps;
        let branches = self.branches.clone();
        steps.push(Step::Operator(Operator { branches, ..Operator::new(name, record, reads, y, in_place) }));
        match steps.last_mut() {
            Some(Step::Operator(op)) => op,
            _ => unreachable!("an operator was appended"),
        }
    }

    /// `x` in float32.
    pub(crate) fn as_f32(&mut self, x: &Tensor) -> Lowering<Tensor> {
        if x.dtype == record::DType::F32 {
            return Ok(x.clone());
        }
        let y = self.temp(&x.shape, record::DType::F32, 0.0, 0)?;
        self.dequantize(x, &y)?;
        Ok(y)
    }

    /// `x` with the scale and zero point of `like`.
    pub(crate) fn with_numbers_of(&mut self, x: &Tensor, like: &Tensor) -> Lowering<Tensor> {
        if x.same_numbers(like) {
            return Ok(x.clone());
        }
        let y = self.temp(&x.shape, like.dtype, like.scale, like.zp)?;
        self.convert(x, &y)?;
        Ok(y)
    }

    /// Converts between number formats.
    pub(crate) fn convert(&mut self, x: &Tensor, y: &Tensor) -> Lowering {
        use record::DType::{F32, I8, I16};
        match (x.dtype, y.dtype) {
            (I8 | I16, I8 | I16) => self.requantize(x, y, None),
            (F32, I8 | I16) => self.quantize(x, y),
            (I8 | I16, F32) => self.dequantize(x, y),
            (a, b) => Err(format!("no conversion from {a:?} to {b:?}")),
        }
    }

    /// float32 to int8 or int16.
    pub(crate) fn quantize(&mut self, x: &Tensor, y: &Tensor) -> Lowering {
        if x.dtype == record::DType::F32 && y.is_i16() {
            let len = to_u32(x.len(), "elements")?;
            let r = record::QuantizeInt16 { src: 0, dst: 0, len, scale: y.scale };
            self.emit(Record::QuantizeInt16(r), [Some(x), None], y, &[]);
            return Ok(());
        }
        if x.dtype != record::DType::F32 || !y.is_i8() {
            return Err(format!("quantises {:?} to {:?}; only F32 to I8 is supported", x.dtype, y.dtype));
        }
        let r =
            record::Quantize { src: 0, dst: 0, len: to_u32(x.len(), "elements")?, scale: y.scale, zp: y.zp };
        self.emit(Record::Quantize(r), [Some(x), None], y, &[]);
        Ok(())
    }

    /// int8 or int16 to float32.
    pub(crate) fn dequantize(&mut self, x: &Tensor, y: &Tensor) -> Lowering {
        if x.is_i16() && y.dtype == record::DType::F32 {
            let len = to_u32(x.len(), "elements")?;
            let r = record::DequantizeInt16 { src: 0, dst: 0, len, scale: x.scale };
            self.emit(Record::DequantizeInt16(r), [Some(x), None], y, &[]);
            return Ok(());
        }
        if !x.is_i8() || y.dtype != record::DType::F32 {
            return Err(format!("dequantises {:?} to {:?}; only I8 to F32 is supported", x.dtype, y.dtype));
        }
        let r = record::Dequantize {
            src: 0,
            dst: 0,
            len: to_u32(x.len(), "elements")?,
            scale: x.scale,
            zp: x.zp,
        };
        self.emit(Record::Dequantize(r), [Some(x), None], y, &[]);
        Ok(())
    }

    /// int8 or int16 to either with another scale, and optional bounds of int8.
    pub(crate) fn requantize(&mut self, x: &Tensor, y: &Tensor, clamp: Option<(i8, i8)>) -> Lowering {
        let integer = |t: &Tensor| t.is_i8() || t.is_i16();
        if (x.is_i16() || y.is_i16()) && integer(x) && integer(y) {
            return int16::requantize(self, x, y, clamp.map(|(min, max)| (min.into(), max.into())));
        }
        if !x.is_i8() || !y.is_i8() {
            return Err(format!("requantises {:?} to {:?}; only I8 to I8 is supported", x.dtype, y.dtype));
        }
        let (multiplier, shift) = requant::saturating(f64::from(x.scale) / f64::from(y.scale), 255);
        let len = to_u32(x.len(), "elements")?;
        let r =
            record::Requantize { src: 0, dst: 0, len, in_zp: x.zp, out_zp: y.zp, multiplier, shift, clamp };
        self.emit(Record::Requantize(r), [Some(x), None], y, &[x]);
        Ok(())
    }

    /// A constant in float32, dequantised if necessary.
    pub(crate) fn constant_f32(&self, v: ValueId) -> Lowering<Vec<f32>> {
        parameters::constant_f32(self.graph, v)
    }
}

fn device_dtype(dtype: DType) -> Option<record::DType> {
    Some(match dtype {
        DType::F32 => record::DType::F32,
        DType::I8 => record::DType::I8,
        DType::I16 => record::DType::I16,
        DType::I32 => record::DType::I32,
        DType::I64 => return None,
    })
}
