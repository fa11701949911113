//! Arrays that may belong to someone else, such as the interpreter of Python.

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
    pub fn f32_range(&self, range: std::ops::Range<usize>) -> Vec<f32> {
        macro_rules! taken {
            ($a:expr, $convert:expr) => {
                match $a.as_slice() {
                    Some(flat) => {
                        let end = range.end.min(flat.len());
                        flat[range.start.min(end)..end].iter().copied().map($convert).collect()
                    }
                    None => $a.iter().copied().skip(range.start).take(range.len()).map($convert).collect(),
                }
            };
        }
        match self {
            Self::Bool(a) => taken!(a, f32::from),
            Self::I8(a) => taken!(a, f32::from),
            Self::U8(a) => taken!(a, f32::from),
            Self::I16(a) => taken!(a, f32::from),
            Self::U16(a) => taken!(a, f32::from),
            Self::I32(a) => taken!(a, |v| v as f32),
            Self::U32(a) => taken!(a, |v| v as f32),
            Self::I64(a) => taken!(a, |v| v as f32),
            Self::F32(a) => taken!(a, |v| v),
            Self::F64(a) => taken!(a, |v| v as f32),
        }
    }

    /// The elements as int64, for labels.
    ///
    /// # Errors
    /// [`ErrorKind::Dtype`] if a float is not an integer.
    pub fn to_i64(&self) -> Result<ArrayD<i64>> {
        let whole = |v: f64| v.fract() == 0.0 && v.abs() < 9.0e15;
        let check = |all: bool| {
            all.then_some(()).ok_or_else(|| {
                Error::new(
                    ErrorKind::Dtype,
                    format!("expected integers; this {} array has other numbers", self.dtype()),
                )
            })
        };
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
                check(a.iter().all(|&v| whole(f64::from(v))))?;
                a.mapv(|v| v as i64)
            }
            Self::F64(a) => {
                check(a.iter().all(|&v| whole(v)))?;
                a.mapv(|v| v as i64)
            }
        })
    }
}
