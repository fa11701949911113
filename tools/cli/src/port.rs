//! Converts between users' arrays and a model's inputs and outputs: shapes, layouts, element types, scales.

use ndarray::{ArrayD, Axis, IxDyn};
use offshoot::format::record::{DType, Declared, IoRepr, Quantize, QuantizeInt16};
use offshoot_data::npy::{Array, View};
use offshoot_ir::{Graph, ValueId};

use crate::encode::Layout;
use crate::failure::{Context, Failure, Kind, Result};

/// An input or output of a model as users see it.
#[derive(Clone, Debug)]
pub struct Port {
    /// Shape in memory (channels-last), including the leading batch axis.
    pub shape: Vec<usize>,
    /// Whether the ONNX tensor is channels-first.
    pub channels_first_outside: bool,
    /// Element type in memory.
    pub dtype: DType,
    /// Scale, for int8 and int16.
    pub scale: f32,
    /// Zero point, for int8.
    pub zero_point: i8,
    /// Element type in the ONNX file, where memory holds another.
    pub declared: Option<Declared>,
}

impl From<IoRepr> for Port {
    fn from(io: IoRepr) -> Self {
        let rank = usize::from(io.rank).min(io.shape.len());
        Self {
            shape: io.shape[..rank].iter().map(|d| usize::from(*d)).collect(),
            channels_first_outside: io.channels_first_outside(),
            dtype: io.dtype,
            scale: io.scale,
            zero_point: io.zero_point,
            declared: io.declared(),
        }
    }
}

impl Port {
    /// The port for a value of a graph.
    pub fn of_value(graph: &Graph, id: ValueId) -> Self {
        let value = graph.value(id);
        let quant = value.quant.as_ref();
        Self {
            shape: value.shape.clone(),
            channels_first_outside: value.channels_first_outside,
            dtype: match value.dtype {
                offshoot_ir::DType::I8 => DType::I8,
                offshoot_ir::DType::I16 => DType::I16,
                offshoot_ir::DType::F32 => DType::F32,
                offshoot_ir::DType::I32 | offshoot_ir::DType::I64 => DType::I32,
            },
            scale: quant.and_then(|q| q.scale.first().copied()).unwrap_or(0.0),
            zero_point: quant.and_then(|q| q.zero_point.first().copied()).unwrap_or(0) as i8,
            declared: graph.declared.get(&value.name).copied(),
        }
    }

    /// Elements per sample.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether a sample has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shape of the ONNX tensor.
    pub fn outside_shape(&self) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if self.channels_first_outside
            && shape.len() > 2
            && let Some(channels) = shape.pop()
        {
            shape.insert(1, channels);
        }
        shape
    }

    /// How an array of shape `given` is read as samples.
    ///
    /// Accepts the model's shape with any batch size, without a batch axis, or with a further batch axis in front.
    /// Axes of extent 1 may be left out. Channels-last is accepted even if the ONNX file is channels-first.
    pub(crate) fn layout(&self, given: &[usize], what: &str) -> Result<Layout> {
        let outside = self.outside_shape();
        let found = self
            .count(given, &outside)
            .map(|n| (n, self.channels_first_outside && outside.len() > 2))
            .or_else(|| (self.count(given, &self.shape)).map(|n| (n, false)));
        if let Some((count, permute)) = found {
            return Ok(Layout { count, len: self.len(), outside: permute.then_some(outside) });
        }
        let mut wanted: Vec<String> = outside.iter().map(ToString::to_string).collect();
        if outside.first() == Some(&1) {
            wanted[0] = "N".into();
        }
        let message = format!("{what} has shape {given:?}, but the model needs ({})", wanted.join(", "));
        Err(Failure::new(
            Kind::Shape,
            message,
            "stack the samples along the first axis, N; `offshoot inspect` prints the model's shapes",
        ))
    }

    /// Splits `array` into samples in memory order: `[N, len]`. See [`Self::layout`].
    fn samples<T: Copy>(&self, array: &ArrayD<T>, what: &str) -> Result<Vec<Vec<T>>> {
        let layout = self.layout(array.shape(), what)?;
        let array = array.as_standard_layout();
        let flat = array.as_slice().unwrap_or_default();
        Ok((0..layout.count).map(|i| layout.sample(flat, i).collect()).collect())
    }

    /// Number of samples in an array of shape `given`, if it holds samples of `shape`.
    fn count(&self, given: &[usize], shape: &[usize]) -> Option<usize> {
        let squeezed = |s: &[usize]| -> Vec<usize> { s.iter().copied().filter(|d| *d != 1).collect() };
        if given == shape {
            return Some(1);
        }
        let batchless = shape.first() == Some(&1);
        let sample = if batchless { &shape[1..] } else { shape };
        if given.len() > 1 || sample.is_empty() {
            let (n, rest) = given.split_first()?;
            if rest == sample || squeezed(rest) == squeezed(sample) {
                return Some(*n);
            }
        }
        // A batch of scalars, or a single sample.
        match given {
            [n] if squeezed(sample).is_empty() => Some(*n),
            _ if squeezed(given) == squeezed(sample) => Some(1),
            _ => None,
        }
    }

    /// Whether an array holds int8 codes of this port, each plus 128: uint8 for an input that is uint8 in the ONNX file.
    pub(crate) fn takes_unsigned(&self, array: &View<'_>) -> bool {
        matches!(array, View::U8(_)) && self.dtype == DType::I8 && self.declared == Some(Declared::U8)
    }

    /// Refuses integers of 8 bits for a float32 input that holds the real numbers of such integers: the file does not tell their
    /// scale.
    pub(crate) fn check_codes(&self, array: &View<'_>, what: &str) -> Result<()> {
        let codes = matches!(array, View::I8(_) | View::U8(_)) && self.declared == Some(Declared::Codes);
        match codes && self.dtype == DType::F32 {
            false => Ok(()),
            true => Err(Failure::new(
                Kind::Dtype,
                format!("{what}: it holds integers of 8 bits, but the network was compiled with --io f32"),
                "give the real numbers that the integers stand for, or compile without --io f32",
            )),
        }
    }

    /// Refuses numbers other than 0 and 1 for an input that is bool.
    pub(crate) fn check_bool(&self, sample: &[f32], what: &str, index: usize) -> Result<()> {
        match sample
            .iter()
            .find(|v| **v != 0.0 && **v != 1.0)
            .filter(|_| self.declared == Some(Declared::Bool))
        {
            None => Ok(()),
            Some(v) => Err(Failure::new(
                Kind::Dtype,
                format!("{what}: sample {index} contains {v}, but the model's input is bool"),
                "give an array of bool, or of 0 and 1",
            )),
        }
    }

    /// Samples as real numbers in memory order: `[N, len]`. An int8 array for an int8 port is dequantised, and so are an
    /// int16 array for an int16 port, and a uint8 array if the ONNX file has uint8.
    ///
    /// # Errors
    /// The shape is wrong, a value is NaN or infinite, or the ONNX type does not hold it.
    pub fn real(&self, array: &Array, what: &str) -> Result<Vec<Vec<f32>>> {
        self.check_codes(&array.view(), what)?;
        let mut samples = self.samples(&array.to_f32(), what)?;
        let offset = if self.takes_unsigned(&array.view()) { 128.0 } else { 0.0 };
        if self.dtype == DType::I8 && (offset != 0.0 || matches!(array, Array::I8(_))) {
            for v in samples.iter_mut().flatten() {
                *v = (*v - offset - f32::from(self.zero_point)) * self.scale;
            }
        }
        if self.dtype == DType::I16 && matches!(array, Array::I16(_)) {
            samples.iter_mut().flatten().for_each(|v| *v *= self.scale);
        }
        for (i, sample) in samples.iter().enumerate() {
            self.check_bool(sample, what, i)?;
            if let Some(v) = sample.iter().find(|v| !v.is_finite()) {
                let message = format!("{what}: sample {i} contains {v}");
                return Err(Failure::new(
                    Kind::Calibration,
                    message,
                    "remove or repair that sample: values must be finite",
                ));
            }
        }
        Ok(samples)
    }

    /// One sample of real numbers, in memory order, as the bytes that go into the arena.
    pub fn encode_real(&self, values: impl Iterator<Item = f32>) -> Vec<u8> {
        match self.dtype {
            DType::I8 => self.quantise(&values.collect::<Vec<_>>()),
            DType::I16 => {
                let values: Vec<f32> = values.collect();
                let record = QuantizeInt16 { src: 0, dst: 0, len: values.len() as u32, scale: self.scale };
                let mut out = vec![0i16; values.len()];
                offshoot::kernels::portable::quantize_int16(&record, &values, &mut out);
                out.into_iter().flat_map(i16::to_le_bytes).collect()
            }
            DType::F32 => values.flat_map(f32::to_le_bytes).collect(),
            DType::I32 => values.flat_map(|v| (v as i32).to_le_bytes()).collect(),
        }
    }

    fn quantise(&self, values: &[f32]) -> Vec<u8> {
        let record =
            Quantize { src: 0, dst: 0, len: values.len() as u32, scale: self.scale, zp: self.zero_point };
        let mut out = vec![0i8; values.len()];
        offshoot::kernels::portable::quantize(&record, values, &mut out);
        out.into_iter().map(|v| v as u8).collect()
    }

    /// A sample's bytes as real numbers.
    pub fn decode(&self, bytes: &[u8]) -> Vec<f32> {
        match self.dtype {
            DType::I8 => {
                let zp = i32::from(self.zero_point);
                bytes.iter().map(|b| (i32::from(*b as i8) - zp) as f32 * self.scale).collect()
            }
            DType::I16 => halves(bytes).map(|v| f32::from(v) * self.scale).collect(),
            DType::F32 => words(bytes).map(f32::from_le_bytes).collect(),
            DType::I32 => words(bytes).map(|w| i32::from_le_bytes(w) as f32).collect(),
        }
    }

    /// Samples' bytes as an array in the ONNX tensor's layout: as real numbers if `real`, else in the model's element
    /// type.
    ///
    /// # Errors
    /// A sample has the wrong length, which is a bug of the caller.
    pub fn array(&self, samples: &[Vec<u8>], real: bool) -> Result<Array> {
        let all = || samples.iter().flatten().copied();
        Ok(match self.dtype {
            _ if real => {
                self.shaped(samples.len(), samples.iter().flat_map(|s| self.decode(s)).collect())?.into()
            }
            DType::I8 => self.shaped(samples.len(), all().map(|b| b as i8).collect())?.into(),
            DType::I16 => {
                let values = samples.iter().flat_map(|s| halves(s)).collect();
                self.shaped(samples.len(), values)?.into()
            }
            DType::F32 => {
                let values = samples.iter().flat_map(|s| words(s)).map(f32::from_le_bytes).collect();
                self.shaped(samples.len(), values)?.into()
            }
            DType::I32 => {
                let values = samples.iter().flat_map(|s| words(s)).map(i32::from_le_bytes).collect();
                self.shaped(samples.len(), values)?.into()
            }
        })
    }

    fn shaped<T: Clone>(&self, count: usize, values: Vec<T>) -> Result<ArrayD<T>> {
        let mut full = vec![count];
        full.extend(&self.shape);
        let mut array = ArrayD::from_shape_vec(IxDyn(&full), values)
            .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?;
        if self.channels_first_outside && full.len() > 3 {
            let mut axes: Vec<usize> = (0..full.len() - 1).collect();
            axes.insert(2, full.len() - 1);
            array = array.permuted_axes(IxDyn(&axes)).as_standard_layout().into_owned();
        }
        // The model's batch axis of 1 is merged with the axis of samples.
        if self.shape.first() == Some(&1) {
            array = array.index_axis_move(Axis(1), 0);
        }
        Ok(array)
    }
}

fn halves(bytes: &[u8]) -> impl Iterator<Item = i16> + '_ {
    bytes.as_chunks().0.iter().map(|b| i16::from_le_bytes(*b))
}

fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> + '_ {
    bytes.chunks_exact(4).map(|c| [c[0], c[1], c[2], c[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(shape: &[usize], channels_first_outside: bool) -> Port {
        Port {
            shape: shape.to_vec(),
            channels_first_outside,
            dtype: DType::F32,
            scale: 0.0,
            zero_point: 0,
            declared: None,
        }
    }

    fn ramp(shape: &[usize]) -> Array {
        let n: usize = shape.iter().product();
        ArrayD::from_shape_vec(IxDyn(shape), (0..n).map(|v| v as f32).collect()).unwrap().into()
    }

    #[test]
    fn shapes_that_mean_the_same_are_accepted() {
        let p = port(&[1, 4, 3, 1], false);
        for (shape, count) in [
            (&[5, 4, 3, 1][..], 5),
            (&[5, 4, 3], 5),
            (&[4, 3], 1),
            (&[1, 4, 3, 1], 1),
            (&[5, 1, 4, 3, 1], 5),
            (&[4, 3, 1], 1),
        ] {
            assert_eq!(p.real(&ramp(shape), "x").unwrap().len(), count, "{shape:?}");
        }
        let error = p.real(&ramp(&[5, 3, 4]), "x.npy").unwrap_err();
        assert_eq!(error.kind, Kind::Shape);
        assert!(error.message.contains("(N, 4, 3, 1)"), "{}", error.message);
    }

    #[test]
    fn channels_first_arrays_come_in_and_go_out() {
        let p = port(&[1, 2, 2, 3], true);
        let x = ramp(&[1, 3, 2, 2]);
        let samples = p.real(&x, "x").unwrap();
        assert_eq!(samples[0][..4], [0.0, 4.0, 8.0, 1.0]);
        let encoded = p.encode(&x, "x").unwrap();
        assert_eq!(p.array(&[encoded.sample(0).to_vec()], false).unwrap(), x);
    }

    #[test]
    fn reals_are_quantised_and_integers_are_kept() {
        let p = Port { dtype: DType::I8, scale: 0.5, zero_point: -1, ..port(&[1, 2], false) };
        assert_eq!(p.encode(&ramp(&[2]), "x").unwrap().sample(0), [0xff, 1]);
        let raw: Array = ArrayD::from_shape_vec(IxDyn(&[2]), vec![7i8, -8]).unwrap().into();
        assert_eq!(p.encode(&raw, "x").unwrap().sample(0), [7, 0xf8]);
        assert_eq!(p.decode(&[1, 0xff]), [1.0, 0.0]);
        let nan: Array = ArrayD::from_shape_vec(IxDyn(&[2]), vec![0.0, f32::NAN]).unwrap().into();
        assert_eq!(p.encode(&nan, "x").unwrap_err().kind, Kind::Calibration);
    }

    #[test]
    fn arrays_of_the_type_in_the_onnx_file() {
        let bytes = |p: &Port, a: Array| p.encode(&a, "x").map(|e| e.sample(0).to_vec());
        let unsigned: Array = ArrayD::from_shape_vec(IxDyn(&[1, 3]), vec![0u8, 128, 255]).unwrap().into();
        let p = Port { dtype: DType::I8, scale: 0.5, declared: Some(Declared::U8), ..port(&[1, 3], false) };
        assert_eq!(bytes(&p, unsigned.clone()).unwrap(), [128, 0, 127]);
        assert_eq!(p.real(&unsigned, "x").unwrap(), [[-64.0, 0.0, 63.5]]);
        // Without the type in the file they are real numbers.
        let plain = Port { declared: None, ..p };
        assert_eq!(bytes(&plain, unsigned).unwrap(), [0, 127, 127]);

        let tokens = Port { dtype: DType::I32, declared: Some(Declared::I64), ..port(&[1, 2], false) };
        let wide = |v: i64| -> Array { ArrayD::from_shape_vec(IxDyn(&[1, 2]), vec![1, v]).unwrap().into() };
        assert_eq!(bytes(&tokens, wide(-2)).unwrap(), [1, 0, 0, 0, 254, 255, 255, 255]);
        assert!(bytes(&tokens, wide(1 << 31)).unwrap_err().message.contains("does not fit int32"));
        assert!(bytes(&tokens, ramp(&[1, 2])).is_ok());

        // Real numbers of codes.
        let codes: Array = ArrayD::from_shape_vec(IxDyn(&[1, 3]), vec![7i8, 0, -8]).unwrap().into();
        let floats = Port { dtype: DType::F32, declared: Some(Declared::Codes), ..port(&[1, 3], false) };
        assert_eq!(bytes(&floats, codes.clone()).unwrap_err().kind, Kind::Dtype);
        assert!(bytes(&floats, ramp(&[1, 3])).is_ok());
        assert!(bytes(&Port { declared: None, ..floats }, codes).is_ok());

        let flag = Port { declared: Some(Declared::Bool), ..port(&[1, 2], false) };
        let flags: Array = ArrayD::from_shape_vec(IxDyn(&[1, 2]), vec![true, false]).unwrap().into();
        assert_eq!(bytes(&flag, flags).unwrap(), [0, 0, 128, 63, 0, 0, 0, 0]);
        assert!(bytes(&flag, wide(2)).unwrap_err().message.contains("bool"));
    }
}
