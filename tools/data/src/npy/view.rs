//! Arrays that may belong to someone else, such as the interpreter of Python.

use std::ops::Range;

use ndarray::{ArrayD, CowArray, IxDyn};

use super::Array;
use crate::error::{Error, ErrorKind, Result};

macro_rules! views {
    ($($kind:ident $element:ty),*) => {
        /// An [`Array`] that borrows its elements, or owns them if they had to be brought into C order. A view is always in C order.
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        #[allow(missing_docs)]
        pub enum View<'a> {
            $($kind(CowArray<'a, $element, IxDyn>),)*
        }

        impl Array {
            /// A view of the array.
            pub fn view(&self) -> View<'_> {
                match self {
                    $(Self::$kind(array) => View::$kind(array.as_standard_layout()),)*
                }
            }
        }

        impl View<'_> {
            /// Extents.
            pub fn shape(&self) -> &[usize] {
                match self {
                    $(Self::$kind(array) => array.shape(),)*
                }
            }

            /// A copy; no copy if the view owns its elements.
            pub fn into_owned(self) -> Array {
                match self {
                    $(Self::$kind(array) => Array::$kind(array.into_owned()),)*
                }
            }
        }
    };
}
views!(Bool bool, I8 i8, U8 u8, I16 i16, U16 u16, I32 i32, U32 u32, I64 i64, F32 f32, F64 f64);

impl View<'_> {
    /// NumPy's name for the element type.
    pub fn dtype(&self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::I8(_) => "int8",
            Self::U8(_) => "uint8",
            Self::I16(_) => "int16",
            Self::U16(_) => "uint16",
            Self::I32(_) => "int32",
            Self::U32(_) => "uint32",
            Self::I64(_) => "int64",
            Self::F32(_) => "float32",
            Self::F64(_) => "float64",
        }
    }

    /// The elements in `range` (in C order), converted as by [`Array::to_f32`]; fewer if the range exceeds the array.
    /// Copies nothing else.
    pub fn f32_range(&self, range: Range<usize>) -> Vec<f32> {
        match self {
            Self::Bool(a) => taken(a, range, f32::from),
            Self::I8(a) => taken(a, range, f32::from),
            Self::U8(a) => taken(a, range, f32::from),
            Self::I16(a) => taken(a, range, f32::from),
            Self::U16(a) => taken(a, range, f32::from),
            Self::I32(a) => taken(a, range, |v| v as f32),
            Self::U32(a) => taken(a, range, |v| v as f32),
            Self::I64(a) => taken(a, range, |v| v as f32),
            Self::F32(a) => taken(a, range, |v| v),
            Self::F64(a) => taken(a, range, |v| v as f32),
        }
    }

    /// The elements in `range` (in C order), converted as by [`Self::to_i64`]; fewer if the range exceeds the array.
    ///
    /// # Errors
    /// [`ErrorKind::Dtype`] if a float in the range is not an integer.
    pub fn i64_range(&self, range: Range<usize>) -> Result<Vec<i64>> {
        Ok(match self {
            Self::Bool(a) => taken(a, range, i64::from),
            Self::I8(a) => taken(a, range, i64::from),
            Self::U8(a) => taken(a, range, i64::from),
            Self::I16(a) => taken(a, range, i64::from),
            Self::U16(a) => taken(a, range, i64::from),
            Self::I32(a) => taken(a, range, i64::from),
            Self::U32(a) => taken(a, range, i64::from),
            Self::I64(a) => taken(a, range, |v| v),
            Self::F32(a) => {
                let values = taken(a, range, f64::from);
                self.check_whole(values.iter().all(|&v| is_whole(v)))?;
                values.into_iter().map(|v| v as i64).collect()
            }
            Self::F64(a) => {
                let values = taken(a, range, |v| v);
                self.check_whole(values.iter().all(|&v| is_whole(v)))?;
                values.into_iter().map(|v| v as i64).collect()
            }
        })
    }

    /// The error of an array with other numbers than integers, unless `all` are integers.
    fn check_whole(&self, all: bool) -> Result<()> {
        all.then_some(()).ok_or_else(|| {
            Error::new(
                ErrorKind::Dtype,
                format!("expected integers; this {} array has other numbers", self.dtype()),
            )
        })
    }

    /// The elements as int64, for labels.
    ///
    /// # Errors
    /// [`ErrorKind::Dtype`] if a float is not an integer.
    pub fn to_i64(&self) -> Result<ArrayD<i64>> {
        Ok(match self {
            Self::Bool(a) => a.mapv(i64::from),
            Self::I8(a) => a.mapv(i64::from),
            Self::U8(a) => a.mapv(i64::from),
            Self::I16(a) => a.mapv(i64::from),
            Self::U16(a) => a.mapv(i64::from),
            Self::I32(a) => a.mapv(i64::from),
            Self::U32(a) => a.mapv(i64::from),
            Self::I64(a) => a.to_owned(),
            Self::F32(a) => {
                self.check_whole(a.iter().all(|&v| is_whole(f64::from(v))))?;
                a.mapv(|v| v as i64)
            }
            Self::F64(a) => {
                self.check_whole(a.iter().all(|&v| is_whole(v)))?;
                a.mapv(|v| v as i64)
            }
        })
    }
}

/// The elements in `range`, converted; fewer if the range exceeds the array.
fn taken<T: Copy, V>(
    array: &CowArray<'_, T, IxDyn>,
    range: Range<usize>,
    convert: impl Fn(T) -> V,
) -> Vec<V> {
    // A view is in C order.
    let flat = array.as_slice().unwrap_or_default();
    let end = range.end.min(flat.len());
    flat[range.start.min(end)..end].iter().copied().map(convert).collect()
}

/// Whether an integer of this value is exact in int64.
fn is_whole(value: f64) -> bool {
    value.fract() == 0.0 && value.abs() < 9.0e15
}
