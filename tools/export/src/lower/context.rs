//! What the families share: tensors and their buffers, constants, conversions between number formats.

use offshoot::format::codec::Record;
use offshoot::format::record;
use offshoot::graph::cost::Lag;
use offshoot_ir::{DType, Data, ValueId, quant_math};

use super::{Buffer, Context, Lowering, Operator, Tensor, layout, to_u32};
use crate::{Prefer, blobs};

impl Context<'_> {
    /// The tensor of a value; a constant is first copied into the arena.
    pub(crate) fn tensor(&mut self, v: ValueId) -> Lowering<Tensor> {
        let value = self.graph.value(v);
        let Some(data) = &value.data else {
            let buffer = self.place(v)?;
            return self.describe(v, buffer);
        };
        let blob = match &**data {
            Data::F32(d) => blobs::floats(d),
            Data::I8(d) => blobs::bytes(d),
            Data::I32(d) => blobs::words(d),
            Data::I64(_) => return Err(format!("constant `{}` is int64", value.name)),
        };
        let buffer = self.allocate(blob.len())?;
        let tensor = self.describe(v, buffer)?;
        let len = to_u32(blob.len(), "bytes of a constant")?;
        let blob = self.blob(blob, (0, 0))?;
        self.emit(Record::Constant(record::Constant { dst: 0, len, blob }), [None, None], &tensor, &[]);
        Ok(tensor)
    }

    /// The tensor of a node's output.
    pub(crate) fn output(&mut self, v: ValueId) -> Lowering<Tensor> {
        let buffer = self.place(v)?;
        self.describe(v, buffer)
    }

    pub(super) fn describe(&self, v: ValueId, buffer: Buffer) -> Lowering<Tensor> {
        let value = self.graph.value(v);
        let dtype = device_dtype(value.dtype).ok_or_else(|| format!("`{}` is int64", value.name))?;
        let (scale, zp) = match (&value.quant, dtype) {
            (Some(q), record::DType::I8) if q.scale.len() == 1 && q.zero_point.len() == 1 => {
                let zp = i8::try_from(q.zero_point[0])
                    .map_err(|_| format!("`{}`: zero point {} is not int8", value.name, q.zero_point[0]))?;
                (q.scale[0], zp)
            }
            (_, record::DType::I8) => {
                return Err(format!("`{}` is int8 without one scale and zero point", value.name));
            }
            _ => (0.0, 0),
        };
        Ok(Tensor { buffer, shape: value.shape.clone(), dtype, scale, zp })
    }

    /// Bytes that the strips of an operator may take. For speed, beside what all may take, what the node with the largest
    /// tensors leaves: so much lies in the arena at some time anyway.
    pub(super) fn strip_room(&self, x: &Tensor, y: &Tensor) -> usize {
        let beside = self.widest.saturating_sub(x.len() + y.len());
        self.room.strip + if self.prefer == Prefer::Speed && self.room.strip > 0 { beside } else { 0 }
    }

    /// The buffer of a value, allocated when first asked for.
    pub(super) fn place(&mut self, v: ValueId) -> Lowering<Buffer> {
        if let Some(&buffer) = self.places.get(&v) {
            return Ok(buffer);
        }
        let value = self.graph.value(v);
        let dtype = device_dtype(value.dtype).ok_or_else(|| format!("`{}` is int64", value.name))?;
        let buffer = self.allocate(value.len() * dtype.size())?;
        self.places.insert(v, buffer);
        Ok(buffer)
    }

    /// The buffer of a graph output. One that is a constant, or a graph input by another name, gets its own.
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
        if let Some(op) = self.out.operators.last_mut() {
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

    /// A tensor of its own that is no IR value.
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

    /// Adds a blob; `account` is how many bytes of it are weights and biases.
    pub(crate) fn blob(&mut self, blob: Vec<u8>, account: (usize, usize)) -> Lowering<u32> {
        let (offset, new) = self.out.blobs.add(blob);
        if new {
            self.out.weights_bytes += account.0 as u64;
            self.out.bias_bytes += account.1 as u64;
        }
        Ok(offset)
    }

    /// Appends an operator and gives it back for details.
    pub(crate) fn emit(
        &mut self,
        record: Record,
        reads: [Option<&Tensor>; 2],
        y: &Tensor,
        in_place: &[&Tensor],
    ) -> &mut Operator {
        let name = self.node.map(|n| n.name.clone()).unwrap_or_default();
        // Of x · x both operands would lie under the output: the device allows one.
        let twice = matches!(reads, [Some(a), Some(b)] if a.buffer == b.buffer);
        let in_place = if twice { &[] } else { in_place };
        self.out.operators.push(Operator {
            name,
            record,
            reads: reads.map(|t| t.map(|t| t.buffer)),
            write: y.buffer,
            in_place: in_place.iter().map(|t| t.buffer).collect(),
            overlap: Lag::Apart,
            scratch: None,
            kept: None,
            keeps: Vec::new(),
            origin: None,
            scale: y.scale,
            zero_point: y.zp,
            macs: 0,
            weights: 0,
            sparse: None,
            members: None,
        });
        let last = self.out.operators.len() - 1;
        &mut self.out.operators[last]
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

    /// From one number format to another.
    pub(crate) fn convert(&mut self, x: &Tensor, y: &Tensor) -> Lowering {
        use record::DType::{F32, I8};
        match (x.dtype, y.dtype) {
            (I8, I8) => self.requantize(x, y, None),
            (F32, I8) => self.quantize(x, y),
            (I8, F32) => self.dequantize(x, y),
            (a, b) => Err(format!("no conversion from {a:?} to {b:?}")),
        }
    }

    /// float32 to int8.
    pub(crate) fn quantize(&mut self, x: &Tensor, y: &Tensor) -> Lowering {
        if x.dtype != record::DType::F32 || !y.is_i8() {
            return Err(format!("quantises {:?} to {:?}, not F32 to I8", x.dtype, y.dtype));
        }
        let r =
            record::Quantize { src: 0, dst: 0, len: to_u32(x.len(), "elements")?, scale: y.scale, zp: y.zp };
        self.emit(Record::Quantize(r), [Some(x), None], y, &[]);
        Ok(())
    }

    /// int8 to float32.
    pub(crate) fn dequantize(&mut self, x: &Tensor, y: &Tensor) -> Lowering {
        if !x.is_i8() || y.dtype != record::DType::F32 {
            return Err(format!("dequantises {:?} to {:?}, not I8 to F32", x.dtype, y.dtype));
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

    /// int8 to int8 of another scale, with bounds.
    pub(crate) fn requantize(&mut self, x: &Tensor, y: &Tensor, clamp: Option<(i8, i8)>) -> Lowering {
        if !x.is_i8() || !y.is_i8() {
            return Err(format!("requantises {:?} to {:?}, not I8 to I8", x.dtype, y.dtype));
        }
        let (multiplier, shift) = quant_math::quantize_multiplier(f64::from(x.scale) / f64::from(y.scale));
        let len = to_u32(x.len(), "elements")?;
        let r =
            record::Requantize { src: 0, dst: 0, len, in_zp: x.zp, out_zp: y.zp, multiplier, shift, clamp };
        self.emit(Record::Requantize(r), [Some(x), None], y, &[x]);
        Ok(())
    }

    /// A constant in float32, dequantised if need be.
    pub(crate) fn constant_f32(&self, v: ValueId) -> Lowering<Vec<f32>> {
        let value = self.graph.value(v);
        let data = value.data.as_ref().ok_or_else(|| format!("`{}` must be a constant", value.name))?;
        let integers: Vec<i32> = match &**data {
            Data::F32(d) => return Ok(d.clone()),
            Data::I8(d) => d.iter().map(|&q| i32::from(q)).collect(),
            Data::I32(d) => d.clone(),
            Data::I64(_) => return Err(format!("constant `{}` is int64", value.name)),
        };
        let quant = value.quant.as_ref().ok_or_else(|| format!("constant `{}` has no scale", value.name))?;
        let (inner, extent) = match quant.axis {
            Some(a) => (value.shape[a + 1..].iter().product::<usize>(), value.shape[a]),
            None => (1, 1),
        };
        let real = |(i, &q): (usize, &i32)| {
            let k = i / inner.max(1) % extent.max(1);
            let k = if quant.scale.len() == 1 { 0 } else { k };
            (q - quant.zero_point[k.min(quant.zero_point.len() - 1)]) as f32 * quant.scale[k]
        };
        Ok(integers.iter().enumerate().map(real).collect())
    }
}

fn device_dtype(dtype: DType) -> Option<record::DType> {
    Some(match dtype {
        DType::F32 => record::DType::F32,
        DType::I8 => record::DType::I8,
        DType::I32 => record::DType::I32,
        DType::I64 => return None,
    })
}
