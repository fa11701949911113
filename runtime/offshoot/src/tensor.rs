//! Inputs and outputs as numbers: real numbers, quantised by an int8 or int16 tensor's scale and zero point, or int8 and int16
//! values as stored in memory.
//!
//! Values are in arena order: channels last, whatever the layout of the ONNX file. Rounding follows the operator
//! Quantize on every target: `round(x / scale) + zero_point` in float32, ties away from zero, clamped to -128 … 127.

use crate::engine::Engine;
use offshoot_base::Error;
use offshoot_format::record::{DType, Dequantize, IoRepr, Quantize};
#[cfg(feature = "int16")]
use offshoot_format::record::{DequantizeInt16, QuantizeInt16};
use offshoot_kernels::portable;

impl Engine<'_, '_> {
    /// Writes real numbers to input `i`: one per element, channels last. An int8 input quantises them: `round(x /
    /// scale) + zero_point`, ties away from zero, clamped to -128 … 127, and an int16 input likewise; NaN becomes the zero point, and a train step
    /// leaves out a sample with NaN or infinity. An int32 input rounds the same way, without a scale.
    ///
    /// ```
    /// # offshoot::include_model!(Vibration, concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/vibration.off"));
    /// # let mut arena = offshoot::Arena::<{ Vibration::ARENA_BYTES }>::new();
    /// # let mut engine = Vibration::engine(&mut arena)?;
    /// let readings = [128.0; Vibration::INPUTS[0].elements()];
    /// engine.write_input_f32(0, &readings)?;
    /// engine.run()?;
    /// # Ok::<(), offshoot::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] if there is no input `i`; [`Error::TensorLength`] if `values` has another length.
    pub fn write_input_f32(&mut self, i: usize, values: &[f32]) -> Result<(), Error> {
        let tensor = self.model().input(i).ok_or(Error::NoSuchTensor)?;
        same_length(&tensor, values.len())?;
        if cfg!(feature = "learn") {
            self.note_readings(values);
        }
        let bytes = self.input_mut(i)?;
        match tensor.dtype {
            DType::I8 => {
                let r = Quantize { src: 0, dst: 0, len: 0, scale: tensor.scale, zp: tensor.zero_point };
                portable::quantize(&r, values, bytemuck::cast_slice_mut(bytes));
            }
            DType::F32 => words_mut(bytes).zip(values).for_each(|(to, v)| *to = v.to_le_bytes()),
            DType::I32 => {
                words_mut(bytes).zip(values).for_each(|(to, v)| *to = (libm::roundf(*v) as i32).to_le_bytes())
            }
            #[cfg(feature = "int16")]
            DType::I16 => {
                let r = QuantizeInt16 { src: 0, dst: 0, len: 0, scale: tensor.scale };
                portable::quantize_int16(&r, values, bytemuck::cast_slice_mut(bytes));
            }
        }
        Ok(())
    }

    /// Writes numbers from 0 to 255 to input `i`, as a camera or an image file gives them: one per element, channels last.
    /// The result is that of [`Self::write_input_f32`] with the same numbers.
    ///
    /// # Errors
    /// As [`Self::write_input_f32`].
    pub fn write_input_u8(&mut self, i: usize, values: &[u8]) -> Result<(), Error> {
        let tensor = self.model().input(i).ok_or(Error::NoSuchTensor)?;
        same_length(&tensor, values.len())?;
        let bytes = self.input_mut(i)?;
        match tensor.dtype {
            DType::I8 => {
                let r = Quantize { src: 0, dst: 0, len: 0, scale: tensor.scale, zp: tensor.zero_point };
                for (to, &v) in bytes.iter_mut().zip(values) {
                    let mut quantised = [0];
                    portable::quantize(&r, &[v.into()], &mut quantised);
                    *to = quantised[0] as u8;
                }
            }
            DType::F32 => {
                words_mut(bytes).zip(values).for_each(|(to, &v)| *to = f32::from(v).to_le_bytes());
            }
            DType::I32 => {
                words_mut(bytes).zip(values).for_each(|(to, &v)| *to = i32::from(v).to_le_bytes());
            }
            #[cfg(feature = "int16")]
            DType::I16 => {
                let r = QuantizeInt16 { src: 0, dst: 0, len: 0, scale: tensor.scale };
                for (to, &v) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(values) {
                    let mut quantised = [0];
                    portable::quantize_int16(&r, &[v.into()], &mut quantised);
                    *to = quantised[0].to_le_bytes();
                }
            }
        }
        Ok(())
    }

    /// Reads output `i` as real numbers, channels last. An int8 or int16 output gives `(q - zero_point) · scale`.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] if there is no output `i`; [`Error::TensorLength`] if `values` has another length.
    pub fn read_output_f32(&self, i: usize, values: &mut [f32]) -> Result<(), Error> {
        let tensor = self.model().output(i).ok_or(Error::NoSuchTensor)?;
        same_length(&tensor, values.len())?;
        let bytes = self.output(i)?;
        match tensor.dtype {
            DType::I8 => {
                let r = Dequantize { src: 0, dst: 0, len: 0, scale: tensor.scale, zp: tensor.zero_point };
                portable::dequantize(&r, bytemuck::cast_slice(bytes), values);
            }
            DType::F32 => values.iter_mut().zip(words(bytes)).for_each(|(v, w)| *v = f32::from_le_bytes(*w)),
            DType::I32 => {
                values.iter_mut().zip(words(bytes)).for_each(|(v, w)| *v = i32::from_le_bytes(*w) as f32);
            }
            #[cfg(feature = "int16")]
            DType::I16 => {
                let r = DequantizeInt16 { src: 0, dst: 0, len: 0, scale: tensor.scale };
                portable::dequantize_int16(&r, bytemuck::cast_slice(bytes), values);
            }
        }
        Ok(())
    }

    /// Memory of int8 input `i`, to write before a run: for readings that are already quantised.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] if there is no input `i`; [`Error::TensorType`] if it is not int8.
    pub fn input_i8_mut(&mut self, i: usize) -> Result<&mut [i8], Error> {
        is_i8(self.model().input(i))?;
        Ok(bytemuck::cast_slice_mut(self.input_mut(i)?))
    }

    /// Memory of int8 output `i`, to read after a run and before the next input is written.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] if there is no output `i`; [`Error::TensorType`] if it is not int8.
    pub fn output_i8(&self, i: usize) -> Result<&[i8], Error> {
        is_i8(self.model().output(i))?;
        Ok(bytemuck::cast_slice(self.output(i)?))
    }

    /// Memory of int16 input `i`, to write before a run: for readings that are already quantised.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] if there is no input `i`; [`Error::TensorType`] if it is not int16.
    #[cfg(feature = "int16")]
    pub fn input_i16_mut(&mut self, i: usize) -> Result<&mut [i16], Error> {
        is_i16(self.model().input(i))?;
        Ok(bytemuck::cast_slice_mut(self.input_mut(i)?))
    }

    /// Memory of int16 output `i`, to read after a run and before the next input is written.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] if there is no output `i`; [`Error::TensorType`] if it is not int16.
    #[cfg(feature = "int16")]
    pub fn output_i16(&self, i: usize) -> Result<&[i16], Error> {
        is_i16(self.model().output(i))?;
        Ok(bytemuck::cast_slice(self.output(i)?))
    }

    /// The class after a run: that of the classifier head once it has learned, else [`Self::top1`] of output 0.
    ///
    /// # Errors
    /// None for a model that opened: every network has an output.
    pub fn class(&self) -> Result<usize, Error> {
        let head = if cfg!(feature = "learn") { self.class_of_head() } else { None };
        head.map_or_else(|| self.top1(0), |class| Ok(class.into()))
    }

    /// Index of the largest element of output `i`, which is the class that the network predicts. A classifier head that
    /// learned gives another: [`Self::class`]. Ties go to the lowest index; NaN is never the largest.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] if there is no output `i`.
    pub fn top1(&self, i: usize) -> Result<usize, Error> {
        let tensor = self.model().output(i).ok_or(Error::NoSuchTensor)?;
        let bytes = self.output(i)?;
        Ok(match tensor.dtype {
            DType::I8 => first_largest(bytes.iter().map(|&b| b as i8)),
            DType::F32 => first_largest(words(bytes).map(|w| f32::from_le_bytes(*w))),
            DType::I32 => first_largest(words(bytes).map(|w| i32::from_le_bytes(*w))),
            #[cfg(feature = "int16")]
            DType::I16 => first_largest(bytes.as_chunks().0.iter().map(|b| i16::from_le_bytes(*b))),
        })
    }
}

fn same_length(tensor: &IoRepr, given: usize) -> Result<(), Error> {
    // A validated tensor fits an arena of fewer than 2^32 bytes.
    let needed = tensor.elements() as u32;
    let given = u32::try_from(given).unwrap_or(u32::MAX);
    if given == needed { Ok(()) } else { Err(Error::TensorLength { needed, given }) }
}

fn is_i8(tensor: Option<IoRepr>) -> Result<(), Error> {
    let is_i8 = tensor.ok_or(Error::NoSuchTensor)?.dtype == DType::I8;
    if is_i8 { Ok(()) } else { Err(Error::TensorType) }
}

#[cfg(feature = "int16")]
fn is_i16(tensor: Option<IoRepr>) -> Result<(), Error> {
    let is_i16 = tensor.ok_or(Error::NoSuchTensor)?.dtype == DType::I16;
    if is_i16 { Ok(()) } else { Err(Error::TensorType) }
}

fn words(bytes: &[u8]) -> impl Iterator<Item = &[u8; 4]> {
    bytes.as_chunks().0.iter()
}

fn words_mut(bytes: &mut [u8]) -> impl Iterator<Item = &mut [u8; 4]> {
    bytes.as_chunks_mut().0.iter_mut()
}

fn first_largest<T: PartialOrd>(scores: impl Iterator<Item = T>) -> usize {
    let numbers = scores.enumerate().filter(|(_, s)| s.partial_cmp(s).is_some());
    numbers.reduce(|best, s| if s.1 > best.1 { s } else { best }).map_or(0, |(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_largest_is_found() {
        assert_eq!(first_largest([3i8, 7, 7, -1].into_iter()), 1);
        assert_eq!(first_largest([f32::NAN, -2.0, f32::NAN, -1.0].into_iter()), 3);
        assert_eq!(first_largest([f32::NEG_INFINITY].into_iter()), 0);
        assert_eq!(first_largest([f32::NAN; 2].into_iter()), 0);
    }
}
