//! Users' arrays as the bytes that go into the arena: all at once ([`Encoded`]), or each sample when it is run
//! ([`Column`]).

use std::borrow::Cow;

use offshoot::format::record::DType;
use offshoot_data::npy::{Array, View};

use crate::failure::{Context, Failure, Kind, Result};
use crate::port::Port;
use crate::saturation::{Saturated, Saturation};

/// How an array is read as samples.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Number of samples.
    pub(crate) count: usize,
    /// Elements per sample.
    pub(crate) len: usize,
    /// The channels-first shape (channels on axis 1), if channels must be moved to the end.
    pub(crate) outside: Option<Vec<usize>>,
}

impl Layout {
    /// Elements of sample `index` in memory order. `flat`: all samples, row-major.
    pub(crate) fn sample<'a, T: Copy>(
        &self,
        flat: &'a [T],
        index: usize,
    ) -> Box<dyn Iterator<Item = T> + 'a> {
        let own = flat.get(index * self.len..(index + 1) * self.len).unwrap_or_default();
        let Some(shape) = &self.outside else { return Box::new(own.iter().copied()) };
        let channels = shape[1];
        let pixels: usize = shape[2..].iter().product();
        let batch = channels * pixels;
        let at = move |i: usize| i / batch * batch + i % channels * pixels + i % batch / channels;
        Box::new((0..own.len()).map(move |i| own[at(i)]))
    }
}

/// Encodes the samples of one array for one input.
struct Encoder<'a, 'v> {
    port: &'a Port,
    layout: &'a Layout,
    array: &'a View<'v>,
    /// The array's file, for messages.
    what: &'a str,
}

impl Encoder<'_, '_> {
    /// Appends sample `index`. An int8 array goes into an int8 input unchanged, and so for int16; a uint8 array does so minus 128 if the
    /// input is uint8 in the ONNX file. Any other array holds real numbers, which are quantised by the scale and zero
    /// point of an int8 or int16 input.
    ///
    /// # Errors
    /// A value is NaN or infinite, or an int32 input is given fractions or numbers beyond 32 bits.
    fn sample(&self, index: usize, saturation: &mut Saturation, bytes: &mut Vec<u8>) -> Result<()> {
        let Self { port, layout, array, what } = *self;
        match (port.dtype, array) {
            (DType::I8, View::I8(a)) => {
                let flat = a.as_slice().unwrap_or_default();
                bytes.extend(layout.sample(flat, index).map(|v| v as u8));
            }
            (DType::I8, View::U8(a)) if port.takes_unsigned(array) => {
                let flat = a.as_slice().unwrap_or_default();
                bytes.extend(layout.sample(flat, index).map(|v| v.wrapping_sub(128)));
            }
            (DType::I16, View::I16(a)) => {
                let flat = a.as_slice().unwrap_or_default();
                bytes.extend(layout.sample(flat, index).flat_map(i16::to_le_bytes));
            }
            (DType::I32, _) => {
                let range = index * layout.len..(index + 1) * layout.len;
                let integers = array.i64_range(range).or_fail_in(Kind::Dtype, what, "give whole numbers")?;
                for v in layout.sample(&integers, 0) {
                    let fits = i32::try_from(v).map_err(|_| {
                        let message =
                            format!("{what}: sample {index} contains {v}, which does not fit int32");
                        Failure::new(
                            Kind::Dtype,
                            message,
                            "the device holds integers of 32 bits: give smaller numbers",
                        )
                    })?;
                    bytes.extend(fits.to_le_bytes());
                }
            }
            (DType::I8 | DType::I16 | DType::F32, _) => {
                let mut sample = array.f32_range(index * layout.len..(index + 1) * layout.len);
                if let Some(v) = sample.iter().find(|v| !v.is_finite()) {
                    let message = format!("{what}: sample {index} contains {v}");
                    return Err(Failure::new(
                        Kind::Calibration,
                        message,
                        "remove or repair that sample: values must be finite",
                    ));
                }
                port.check_bool(&sample, what, index)?;
                if layout.outside.is_some() {
                    sample = layout.sample(&sample, 0).collect();
                }
                saturation.see(&sample);
                bytes.extend(port.encode_real(sample.into_iter()));
            }
        }
        Ok(())
    }
}

impl Port {
    /// Samples as the bytes that go into the arena, one after the other. An int8 array goes into an int8 input
    /// unchanged; a uint8 array does so minus 128 if the input is uint8 in the ONNX file. Any other array holds real
    /// numbers, which are quantised by the scale and zero point of an int8 input.
    ///
    /// # Errors
    /// The shape is wrong, a value is NaN or infinite, or an int32 input is given fractions or numbers beyond 32 bits.
    pub fn encode(&self, array: &Array, what: &str) -> Result<Encoded> {
        self.encode_view(&array.view(), what)
    }

    /// As [`Self::encode`], of elements that belong to someone else. Nothing is copied but into the result.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_view(&self, array: &View<'_>, what: &str) -> Result<Encoded> {
        self.check_codes(array, what)?;
        let layout = self.layout(array.shape(), what)?;
        let (count, sample_bytes) = (layout.count, self.len() * self.dtype.size());
        let mut bytes = Vec::with_capacity(count * sample_bytes);
        let mut saturation = Saturation::new(self);
        let encoder = Encoder { port: self, layout: &layout, array, what };
        (0..count).try_for_each(|i| encoder.sample(i, &mut saturation, &mut bytes))?;
        Ok(Encoded { bytes, sample_bytes, count, saturation: saturation.found() })
    }
}

/// Samples of one input, encoded as the bytes that go into the arena.
#[derive(Clone, Debug)]
pub struct Encoded {
    bytes: Vec<u8>,
    sample_bytes: usize,
    count: usize,
    /// Values outside the input's range, if there are any.
    pub saturation: Option<Saturated>,
}

impl Encoded {
    /// Samples that are already encoded, all of one length.
    ///
    /// # Errors
    /// They differ in length, which is a bug of the caller.
    pub fn of_bytes(samples: &[Vec<u8>]) -> Result<Self> {
        let sample_bytes = samples.first().map_or(0, Vec::len);
        if samples.iter().any(|s| s.len() != sample_bytes) {
            return Err(Failure::new(
                Kind::Internal,
                "samples differ in length",
                "this is a bug in Offshoot: report it with this message",
            ));
        }
        Ok(Self { bytes: samples.concat(), sample_bytes, count: samples.len(), saturation: None })
    }

    /// Number of samples.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes of sample `index`; empty if there is no such sample.
    pub fn sample(&self, index: usize) -> &[u8] {
        self.bytes.get(index * self.sample_bytes..(index + 1) * self.sample_bytes).unwrap_or_default()
    }

    /// The first `count` samples.
    #[must_use]
    pub fn head(&self, count: usize) -> Self {
        let count = count.min(self.count);
        let bytes = self.bytes[..count * self.sample_bytes].to_vec();
        Self { bytes, count, saturation: self.saturation.clone(), ..*self }
    }
}

/// Samples of one input as the user's array. Each is encoded when it is run, since all of them encoded may take four
/// times the memory of the array.
#[derive(Clone, Debug)]
pub struct Column {
    port: Port,
    layout: Layout,
    array: Array,
    name: String,
    /// Values outside the input's range, if there are any.
    pub saturation: Option<Saturated>,
}

impl Column {
    /// Checks all samples of an array; `name` is its file.
    ///
    /// # Errors
    /// As [`Port::encode`].
    pub fn new(port: Port, array: Array, name: &str) -> Result<Self> {
        port.check_codes(&array.view(), name)?;
        let layout = port.layout(array.shape(), name)?;
        let mut saturation = Saturation::new(&port);
        let (view, mut bytes) = (array.view(), Vec::new());
        let encoder = Encoder { port: &port, layout: &layout, array: &view, what: name };
        for i in 0..layout.count {
            bytes.clear();
            encoder.sample(i, &mut saturation, &mut bytes)?;
        }
        drop(view);
        Ok(Self { saturation: saturation.found(), port, layout, array, name: name.to_owned() })
    }

    /// Number of samples.
    pub fn count(&self) -> usize {
        self.layout.count
    }

    /// Bytes of sample `index`; empty if there is no such sample.
    ///
    /// # Errors
    /// None, since [`Self::new`] has checked the sample.
    pub fn sample(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        if index >= self.layout.count {
            return Ok(Cow::Borrowed(&[]));
        }
        let view = self.array.view();
        let encoder = Encoder { port: &self.port, layout: &self.layout, array: &view, what: &self.name };
        let mut bytes = Vec::with_capacity(self.port.len() * self.port.dtype.size());
        encoder.sample(index, &mut Saturation::new(&self.port), &mut bytes)?;
        Ok(Cow::Owned(bytes))
    }

    /// Leaves only the first `count` samples.
    pub fn truncate(&mut self, count: usize) {
        self.layout.count = self.layout.count.min(count);
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, IxDyn};

    use super::*;

    #[test]
    fn samples_encoded_one_by_one_are_those_encoded_at_once() {
        let int8 = Port {
            shape: vec![1, 2, 2, 3],
            channels_first_outside: true,
            dtype: DType::I8,
            scale: 0.5,
            zero_point: -1,
            declared: None,
        };
        let arrays: [Array; 3] = [
            ArrayD::from_shape_fn(IxDyn(&[4, 3, 2, 2]), |i| (i[0] * 50 + i[1] * 7 + i[3]) as f32).into(),
            ArrayD::from_shape_fn(IxDyn(&[4, 3, 2, 2]), |i| (i[0] * 50 + i[1] * 7 + i[3]) as u8).into(),
            ArrayD::from_shape_fn(IxDyn(&[4, 3, 2, 2]), |i| i[1] as i8 - i[2] as i8).into(),
        ];
        for dtype in [DType::I8, DType::F32, DType::I32] {
            for array in &arrays {
                let port = Port { dtype, ..int8.clone() };
                let all = port.encode(array, "x").unwrap();
                let mut column = Column::new(port, array.clone(), "x").unwrap();
                assert_eq!((column.count(), &column.saturation), (4, &all.saturation));
                for i in 0..5 {
                    assert_eq!(*column.sample(i).unwrap(), *all.sample(i));
                }
                column.truncate(1);
                assert_eq!((column.count(), column.sample(1).unwrap().len()), (1, 0));
            }
        }
    }
}
