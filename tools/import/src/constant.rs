//! Constants of an ONNX file: initialisers, and values computed from them during import.

use std::path::Path;

use offshoot_ir::{Data, Quant};
use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::prelude::f16;

/// Most elements of one constant; models for a device have far fewer, hostile shapes more.
pub(crate) const MAX_ELEMENTS: usize = 1 << 28;

/// Most axes of a tensor.
pub(crate) const MAX_RANK: usize = 8;

/// Number of elements, counting every axis as at least one; `None` if that number, or the rank, exceeds any model for
/// a device. For an accepted shape neither the product of extents nor a stride can overflow.
pub(crate) fn count(shape: &[usize]) -> Option<usize> {
    if shape.len() > MAX_RANK {
        return None;
    }
    shape.iter().try_fold(1usize, |n, d| n.checked_mul((*d).max(1)).filter(|n| *n <= MAX_ELEMENTS))
}

/// Integer types of quantised tensors besides int8, uint8 and int32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Short {
    I2,
    U2,
    I4,
    U4,
    I16,
    U16,
}

impl Short {
    /// The type with this number in ONNX's `TensorProto.DataType`.
    pub(crate) fn of(number: i32) -> Option<Self> {
        Some(match number {
            4 => Self::U16,
            5 => Self::I16,
            21 => Self::U4,
            22 => Self::I4,
            25 => Self::U2,
            26 => Self::I2,
            _ => return None,
        })
    }

    pub(crate) fn bits(self) -> u32 {
        match self {
            Self::I2 | Self::U2 => 2,
            Self::I4 | Self::U4 => 4,
            Self::I16 | Self::U16 => 16,
        }
    }

    /// Smallest and largest number.
    pub(crate) fn range(self) -> (i32, i32) {
        let half = 1 << (self.bits() - 1);
        match self {
            Self::I2 | Self::I4 | Self::I16 => (-half, half - 1),
            Self::U2 | Self::U4 | Self::U16 => (0, 2 * half - 1),
        }
    }

    /// `count` numbers of this type, packed with the first one in the lowest bits; fewer if there are not enough bytes.
    fn unpack(self, bytes: &[u8], count: usize) -> Vec<i32> {
        let (bits, (least, most)) = (self.bits(), self.range());
        let signed = |code: u32| if code as i32 > most { code as i32 + 2 * least } else { code as i32 };
        if bits == 16 {
            let pairs = bytes.chunks_exact(2).map(|b| u32::from(u16::from_le_bytes([b[0], b[1]])));
            return pairs.map(signed).collect();
        }
        let parts = bytes
            .iter()
            .flat_map(|b| (0..8 / bits).map(move |i| (u32::from(*b) >> (i * bits)) & ((1 << bits) - 1)));
        parts.take(count).map(signed).collect()
    }
}

/// Elements of a constant. `U8` and `Short` occur only as zero points and weights of QuantizeLinear.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Elements {
    F32(Vec<f32>),
    /// Only while constants are computed from each other: the graph holds float32.
    F64(Vec<f64>),
    I8(Vec<i8>),
    U8(Vec<u8>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    Short(Vec<i32>, Short),
    Bool(Vec<bool>),
}

/// A constant tensor; `quant` is set on dequantised integers, which stand for their real values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Constant {
    pub(crate) shape: Vec<usize>,
    pub(crate) elements: Elements,
    pub(crate) quant: Option<Quant>,
}

impl Constant {
    pub(crate) fn new(shape: Vec<usize>, elements: Elements) -> Self {
        Self { shape, elements, quant: None }
    }

    pub(crate) fn ints(values: Vec<i64>) -> Self {
        Self::new(vec![values.len()], Elements::I64(values))
    }

    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Reads an initialiser. External data is read from `folder`, if given.
    pub(crate) fn read(t: &TensorProto, folder: Option<&Path>) -> Result<Self, String> {
        let mut shape = Vec::new();
        for &d in &t.dims {
            let d = usize::try_from(d).map_err(|_| format!("extent {d} is negative"))?;
            shape.push(d);
        }
        count(&shape).ok_or("too many elements or axes")?;
        let count: usize = shape.iter().product();
        let external;
        let raw: &[u8] = if t.data_location == Some(1) {
            external = external_bytes(t, folder)?;
            &external
        } else {
            &t.raw_data
        };
        let elements = match DataType::try_from(t.data_type).unwrap_or(DataType::Undefined) {
            DataType::Float => Elements::F32(typed(raw, &t.float_data, f32::from_le_bytes, |v| *v)),
            DataType::Double => Elements::F64(typed(raw, &t.double_data, f64::from_le_bytes, |v| *v)),
            DataType::Float16 => Elements::F32(typed(
                raw,
                &t.int32_data,
                |b| f16::from_bits(u16::from_le_bytes(b)).to_f32(),
                |v| f16::from_bits(*v as u16).to_f32(),
            )),
            DataType::Bfloat16 => Elements::F32(typed(
                raw,
                &t.int32_data,
                |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16),
                |v| f32::from_bits((*v as u32) << 16),
            )),
            DataType::Int64 => Elements::I64(typed(raw, &t.int64_data, i64::from_le_bytes, |v| *v)),
            DataType::Int32 => Elements::I32(typed(raw, &t.int32_data, i32::from_le_bytes, |v| *v)),
            DataType::Int8 => Elements::I8(typed(raw, &t.int32_data, i8::from_le_bytes, |v| *v as i8)),
            DataType::Uint8 => Elements::U8(typed(raw, &t.int32_data, u8::from_le_bytes, |v| *v as u8)),
            DataType::Bool => Elements::Bool(typed(raw, &t.int32_data, |[b]| b != 0, |v| *v != 0)),
            other => {
                let short = Short::of(t.data_type);
                let short = short.ok_or_else(|| {
                    let name = other.as_str_name();
                    format!("element type {} ({name}) is not supported", t.data_type)
                })?;
                // The file packs numbers of less than 8 bits in bytes, and stores each byte as a number here.
                let wide = |v: &i32| v.to_le_bytes().into_iter().take(if short.bits() == 16 { 2 } else { 1 });
                let listed: Vec<u8> = t.int32_data.iter().flat_map(wide).collect();
                Elements::Short(short.unpack(if raw.is_empty() { &listed } else { raw }, count), short)
            }
        };
        let found = elements.len();
        if found != count {
            return Err(format!("shape {shape:?} needs {count} elements, the file holds {found}"));
        }
        Ok(Self::new(shape, elements))
    }

    /// Elements as integers, if they are.
    pub(crate) fn to_ints(&self) -> Option<Vec<i64>> {
        match &self.elements {
            Elements::I64(v) => Some(v.clone()),
            Elements::I32(v) => Some(v.iter().map(|v| i64::from(*v)).collect()),
            Elements::I8(v) => Some(v.iter().map(|v| i64::from(*v)).collect()),
            Elements::U8(v) => Some(v.iter().map(|v| i64::from(*v)).collect()),
            Elements::Short(v, _) => Some(v.iter().map(|v| i64::from(*v)).collect()),
            Elements::Bool(v) => Some(v.iter().map(|v| i64::from(*v)).collect()),
            Elements::F32(_) | Elements::F64(_) => None,
        }
    }

    /// Elements as real numbers: dequantised if quantised.
    pub(crate) fn to_reals(&self) -> Vec<f32> {
        let raw: Vec<f32> = match &self.elements {
            Elements::F32(v) => return v.clone(),
            Elements::F64(v) => return v.iter().map(|v| *v as f32).collect(),
            Elements::I64(v) => v.iter().map(|v| *v as f32).collect(),
            Elements::I32(v) => v.iter().map(|v| *v as f32).collect(),
            Elements::I8(v) => v.iter().map(|v| f32::from(*v)).collect(),
            Elements::U8(v) => v.iter().map(|v| f32::from(*v)).collect(),
            Elements::Short(v, _) => v.iter().map(|v| *v as f32).collect(),
            Elements::Bool(v) => v.iter().map(|v| f32::from(u8::from(*v))).collect(),
        };
        let Some(q) = &self.quant else { return raw };
        let inner: usize = q.axis.map_or(1, |a| self.shape[a + 1..].iter().product::<usize>().max(1));
        let index = |i: usize| q.axis.map_or(0, |_| (i / inner) % q.scale.len());
        raw.iter().enumerate().map(|(i, v)| (v - q.zero_point[index(i)] as f32) * q.scale[index(i)]).collect()
    }

    /// The elements at these indices, as a vector.
    pub(crate) fn gathered(&self, at: &[usize]) -> Self {
        Self::new(vec![at.len()], self.elements.gather(at))
    }

    /// Reverses the order along an axis. Scales must not run along it.
    pub(crate) fn reversed(&self, axis: usize) -> Self {
        let inner: usize = self.shape[axis + 1..].iter().product();
        let extent = self.shape[axis];
        let source = |i: usize| {
            let at = i / inner % extent;
            i + inner * (extent - 1 - at) - inner * at
        };
        let source: Vec<usize> = (0..self.len()).map(source).collect();
        Self { elements: self.elements.gather(&source), ..self.clone() }
    }

    /// Permutes the axes: output axis i is input axis perm\[i\].
    pub(crate) fn transposed(&self, perm: &[usize]) -> Self {
        let shape: Vec<usize> = perm.iter().map(|p| self.shape[*p]).collect();
        let mut strides = vec![1; self.shape.len()];
        for a in (0..self.shape.len().saturating_sub(1)).rev() {
            strides[a] = strides[a + 1] * self.shape[a + 1];
        }
        let source = |mut i: usize| {
            let mut at = 0;
            for (a, p) in perm.iter().enumerate().rev() {
                at += (i % shape[a]) * strides[*p];
                i /= shape[a];
            }
            at
        };
        let elements = self.elements.gather_by((0..self.len()).map(source));
        let quant = self
            .quant
            .clone()
            .map(|q| Quant { axis: q.axis.and_then(|axis| perm.iter().position(|p| *p == axis)), ..q });
        Self { elements, shape, quant }
    }

    /// The same elements in another shape. The reshape must not mix channels of a per-axis quantisation.
    pub(crate) fn reshaped(&self, shape: Vec<usize>) -> Result<Self, String> {
        if count(&shape).is_none() || shape.iter().product::<usize>() != self.len() {
            return Err(format!("{:?} does not fill {shape:?}", self.shape));
        }
        let quant = match &self.quant {
            Some(q) if q.axis.is_some() => {
                let from = q.axis.unwrap_or(0);
                let inner: usize = self.shape[from + 1..].iter().product();
                let to = (0..shape.len())
                    .find(|a| {
                        shape[*a] == self.shape[from] && shape[a + 1..].iter().product::<usize>() == inner
                    })
                    .ok_or("a reshape mixes channels with scales of their own")?;
                Some(Quant { axis: Some(to), ..q.clone() })
            }
            other => other.clone(),
        };
        Ok(Self { shape, elements: self.elements.clone(), quant })
    }

    /// Element type and contents for the IR; integers without quantisation become I64.
    pub(crate) fn into_data(self) -> Data {
        match self.elements {
            Elements::F32(v) => Data::F32(v),
            Elements::F64(v) => Data::F32(v.into_iter().map(|v| v as f32).collect()),
            Elements::I8(v) => Data::I8(v),
            Elements::U8(v) => Data::I64(v.into_iter().map(i64::from).collect()),
            Elements::Short(v, _) => Data::I64(v.into_iter().map(i64::from).collect()),
            Elements::I32(v) => Data::I32(v),
            Elements::I64(v) => Data::I64(v),
            Elements::Bool(v) => Data::I64(v.into_iter().map(i64::from).collect()),
        }
    }
}

impl Elements {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F64(v) => v.len(),
            Self::I8(v) => v.len(),
            Self::U8(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::I64(v) => v.len(),
            Self::Short(v, _) => v.len(),
            Self::Bool(v) => v.len(),
        }
    }

    pub(crate) fn gather(&self, at: &[usize]) -> Self {
        self.gather_by(at.iter().copied())
    }

    /// The elements at these indices, which need not lie in memory: those of a large constant take twice its bytes.
    fn gather_by(&self, at: impl Iterator<Item = usize>) -> Self {
        match self {
            Self::F32(v) => Self::F32(at.map(|i| v[i]).collect()),
            Self::F64(v) => Self::F64(at.map(|i| v[i]).collect()),
            Self::I8(v) => Self::I8(at.map(|i| v[i]).collect()),
            Self::U8(v) => Self::U8(at.map(|i| v[i]).collect()),
            Self::I32(v) => Self::I32(at.map(|i| v[i]).collect()),
            Self::I64(v) => Self::I64(at.map(|i| v[i]).collect()),
            Self::Short(v, kind) => Self::Short(at.map(|i| v[i]).collect(), *kind),
            Self::Bool(v) => Self::Bool(at.map(|i| v[i]).collect()),
        }
    }
}

fn typed<const N: usize, S, T>(
    raw: &[u8],
    typed: &[S],
    bytes: fn([u8; N]) -> T,
    convert: fn(&S) -> T,
) -> Vec<T> {
    if raw.is_empty() {
        return typed.iter().map(convert).collect();
    }
    let chunks = raw.chunks_exact(N);
    if !chunks.remainder().is_empty() {
        return Vec::new();
    }
    chunks
        .map(|c| {
            let mut b = [0; N];
            b.copy_from_slice(c);
            bytes(b)
        })
        .collect()
}

/// The bytes of a tensor stored in a file next to the model. The name must be a plain file name, so that a model
/// cannot reach elsewhere.
fn external_bytes(t: &TensorProto, folder: Option<&Path>) -> Result<Vec<u8>, String> {
    use std::io::{Read, Seek, SeekFrom};
    let folder = folder.ok_or("its data is in another file: import from a path")?;
    let field = |key: &str| t.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
    let name = field("location").ok_or("external data without a location")?;
    if name.is_empty() || Path::new(name).components().count() != 1 || name.starts_with("..") {
        return Err(format!("external data `{name}` is not a file beside the model"));
    }
    let number =
        |key: &str| field(key).map(|v| v.parse::<u64>().map_err(|_| format!("{key} `{v}` is not a number")));
    let path = folder.join(name);
    let mut file = std::fs::File::open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let size = file.metadata().map_err(|e| e.to_string())?.len();
    let offset = number("offset").transpose()?.unwrap_or(0);
    let length = number("length").transpose()?.unwrap_or(size.saturating_sub(offset));
    if offset.checked_add(length).is_none_or(|end| end > size) {
        return Err(format!("{} is too short: {length} bytes at {offset} of {size}", path.display()));
    }
    file.seek(SeekFrom::Start(offset)).map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_held_against_the_data() {
        let mut t = TensorProto {
            dims: vec![2, 2],
            data_type: 1,
            float_data: vec![1.0, 2.0, 3.0, 4.0],
            ..Default::default()
        };
        let c = Constant::read(&t, None).unwrap();
        assert_eq!(c.transposed(&[1, 0]).to_reals(), [1.0, 3.0, 2.0, 4.0]);
        t.dims = vec![i64::MAX, 2];
        assert!(Constant::read(&t, None).is_err());
        t.dims = vec![-1];
        assert!(Constant::read(&t, None).is_err());
        t.dims = vec![3];
        assert!(Constant::read(&t, None).is_err());
    }

    #[test]
    fn external_data_stays_beside_the_model() {
        use tract_onnx::pb::StringStringEntryProto;
        let entry = |value: &str| StringStringEntryProto { key: "location".into(), value: value.into() };
        for name in ["../x", "/etc/passwd", "a/b", "", ".."] {
            let t = TensorProto {
                dims: vec![1],
                data_type: 1,
                data_location: Some(1),
                external_data: vec![entry(name)],
                ..Default::default()
            };
            assert!(Constant::read(&t, Some(Path::new("."))).unwrap_err().contains("beside"), "{name}");
        }
    }

    #[test]
    fn scales_follow_their_axis() {
        let c = Constant {
            shape: vec![2, 1],
            elements: Elements::I8(vec![1, 2]),
            quant: Some(Quant { scale: vec![0.5, 2.0], zero_point: vec![0, 0], axis: Some(0) }),
        };
        assert_eq!(c.to_reals(), [0.5, 4.0]);
        assert_eq!(c.transposed(&[1, 0]).quant.unwrap().axis, Some(1));
        assert_eq!(c.reshaped(vec![1, 2]).unwrap().to_reals(), [0.5, 4.0]);
    }
}
