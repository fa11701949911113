//! NumPy's `.npy` format, versions 1 to 3 (NumPy Enhancement Proposal 1, `numpy.lib.format`).
//!
//! Reads bool, signed and unsigned integers and floats of either byte order, in C and Fortran order; writes
//! little-endian, C order. Files are untrusted: shapes are checked against the file's length before anything is
//! allocated, and no header causes a panic.

mod header;
mod view;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use ndarray::{ArrayD, IxDyn, ShapeBuilder};

use crate::error::{Error, ErrorKind, Result};
use header::{Element, Header};
pub use view::View;

/// An array of any element type that this crate reads, always in C order.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Array {
    Bool(ArrayD<bool>),
    I8(ArrayD<i8>),
    U8(ArrayD<u8>),
    I16(ArrayD<i16>),
    U16(ArrayD<u16>),
    I32(ArrayD<i32>),
    U32(ArrayD<u32>),
    I64(ArrayD<i64>),
    F32(ArrayD<f32>),
    F64(ArrayD<f64>),
}

/// Evaluates `$body` with `$a` bound to the typed array, for any element type.
macro_rules! with_typed {
    ($array:expr, $a:ident => $body:expr) => {
        match $array {
            Array::Bool($a) => $body,
            Array::I8($a) => $body,
            Array::U8($a) => $body,
            Array::I16($a) => $body,
            Array::U16($a) => $body,
            Array::I32($a) => $body,
            Array::U32($a) => $body,
            Array::I64($a) => $body,
            Array::F32($a) => $body,
            Array::F64($a) => $body,
        }
    };
}

impl Array {
    /// Extents.
    pub fn shape(&self) -> &[usize] {
        with_typed!(self, a => a.shape())
    }

    /// NumPy's name for the element type.
    pub fn dtype(&self) -> &'static str {
        self.view().dtype()
    }

    /// The elements as float32, rounded to nearest where they do not fit exactly; false and true are 0 and 1.
    pub fn to_f32(&self) -> ArrayD<f32> {
        match self {
            Self::Bool(a) => a.mapv(f32::from),
            Self::I8(a) => a.mapv(f32::from),
            Self::U8(a) => a.mapv(f32::from),
            Self::I16(a) => a.mapv(f32::from),
            Self::U16(a) => a.mapv(f32::from),
            Self::I32(a) => a.mapv(|v| v as f32),
            Self::U32(a) => a.mapv(|v| v as f32),
            Self::I64(a) => a.mapv(|v| v as f32),
            Self::F32(a) => a.clone(),
            Self::F64(a) => a.mapv(|v| v as f32),
        }
    }

    /// As [`View::f32_range`].
    pub fn f32_range(&self, range: Range<usize>) -> Vec<f32> {
        self.view().f32_range(range)
    }

    /// As [`View::i64_range`].
    ///
    /// # Errors
    /// As [`View::i64_range`].
    pub fn i64_range(&self, range: Range<usize>) -> Result<Vec<i64>> {
        self.view().i64_range(range)
    }

    /// As [`View::to_i64`].
    ///
    /// # Errors
    /// As [`View::to_i64`].
    pub fn to_i64(&self) -> Result<ArrayD<i64>> {
        self.view().to_i64()
    }
}

macro_rules! from_typed {
    ($($variant:ident $type:ty),*) => {$(
        impl From<ArrayD<$type>> for Array {
            fn from(array: ArrayD<$type>) -> Self {
                Self::$variant(array)
            }
        }
    )*};
}
from_typed!(Bool bool, I8 i8, U8 u8, I16 i16, U16 u16, I32 i32, U32 u32, I64 i64, F32 f32, F64 f64);

/// Reads a file.
///
/// # Errors
/// The file cannot be read, or [`parse`] refuses it.
pub fn read(path: &Path) -> Result<Array> {
    let failed = |e: std::io::Error| Error::io(path, &e);
    let mut file = File::open(path).map_err(failed)?;
    let kind = file.metadata().map_err(failed)?;
    if !kind.is_file() {
        // The length of a pipe is not known before its end.
        let mut all = Vec::new();
        file.read_to_end(&mut all).map_err(failed)?;
        return parse(&all).map_err(|e| e.at(path));
    }
    // Large arrays are decoded as they are read: the file itself is never in memory as well.
    let mut start = Vec::new();
    file.by_ref().take(header::LONGEST as u64).read_to_end(&mut start).map_err(failed)?;
    let header = Header::parse(&start).map_err(|e| e.at(path))?;
    file.seek(SeekFrom::Start(header.len as u64)).map_err(failed)?;
    let body = kind.len().saturating_sub(header.len as u64);
    elements(&header, &mut file, body).map_err(|e| e.at(path))
}

/// Reads the bytes of a file. float16 becomes float32, uint64 becomes int64.
///
/// # Errors
/// [`ErrorKind::Format`] if the bytes are not a complete `.npy` file, [`ErrorKind::Dtype`] if its elements are
/// neither numbers nor bool.
pub fn parse(file: &[u8]) -> Result<Array> {
    let header = Header::parse(file)?;
    let mut body = &file[header.len..];
    let len = body.len() as u64;
    elements(&header, &mut body, len)
}

/// Decodes the elements, which take `len` bytes of `body`.
fn elements(header: &Header, body: &mut dyn Read, len: u64) -> Result<Array> {
    let wanted = (header.shape.iter())
        .try_fold(header.element.size(), |n, &extent| n.checked_mul(extent))
        .filter(|&n| n <= isize::MAX as usize);
    if wanted.map(|n| n as u64) != Some(len) {
        let wanted = wanted.map_or("more bytes than any file has".into(), |n| format!("{n} bytes"));
        let message = format!(
            "its shape {:?} needs {wanted} of elements, the file has {len}: it is truncated or damaged, write it again",
            header.shape
        );
        return Err(Error::format(message));
    }
    macro_rules! decode {
        ($variant:ident, $type:ty) => {
            Array::$variant(decode(
                header,
                body,
                if header.big_endian { <$type>::from_be_bytes } else { <$type>::from_le_bytes },
            )?)
        };
    }
    Ok(match header.element {
        Element::Bool => Array::Bool(decode(header, body, |[b]| b != 0)?),
        Element::I8 => decode!(I8, i8),
        Element::U8 => decode!(U8, u8),
        Element::I16 => decode!(I16, i16),
        Element::U16 => decode!(U16, u16),
        Element::I32 => decode!(I32, i32),
        Element::U32 => decode!(U32, u32),
        Element::I64 => decode!(I64, i64),
        Element::F32 => decode!(F32, f32),
        Element::F64 => decode!(F64, f64),
        Element::F16 => {
            let bits = decode(
                header,
                body,
                if header.big_endian { u16::from_be_bytes } else { u16::from_le_bytes },
            )?;
            Array::F32(bits.mapv(f16_to_f32))
        }
        Element::U64 => {
            let wide = decode(
                header,
                body,
                if header.big_endian { u64::from_be_bytes } else { u64::from_le_bytes },
            )?;
            if wide.iter().any(|&v| i64::try_from(v).is_err()) {
                return Err(Error::new(ErrorKind::Dtype, "its uint64 numbers are beyond int64's range"));
            }
            Array::I64(wide.mapv(|v| v as i64))
        }
    })
}

/// Writes a file, replacing it atomically.
///
/// # Errors
/// The folder does not exist or cannot be written to.
pub fn write(path: &Path, array: &Array) -> Result<()> {
    offshoot_report::write_atomically(path, &to_bytes(array)).map_err(|e| Error::io(path, &e))
}

/// The bytes of a file: version 1, little endian, C order.
pub fn to_bytes(array: &Array) -> Vec<u8> {
    fn encode<T: Copy, const N: usize>(
        code: &str,
        a: &ArrayD<T>,
        bytes_of: impl Fn(T) -> [u8; N],
    ) -> Vec<u8> {
        let mut bytes = Header::emit(code, a.shape());
        bytes.reserve(a.len() * N);
        // `iter` follows logical (C) order, whatever the strides.
        bytes.extend(a.iter().flat_map(|&v| bytes_of(v)));
        bytes
    }
    match array {
        Array::Bool(a) => encode("|b1", a, |v| [u8::from(v)]),
        Array::I8(a) => encode("|i1", a, i8::to_le_bytes),
        Array::U8(a) => encode("|u1", a, u8::to_le_bytes),
        Array::I16(a) => encode("<i2", a, i16::to_le_bytes),
        Array::U16(a) => encode("<u2", a, u16::to_le_bytes),
        Array::I32(a) => encode("<i4", a, i32::to_le_bytes),
        Array::U32(a) => encode("<u4", a, u32::to_le_bytes),
        Array::I64(a) => encode("<i8", a, i64::to_le_bytes),
        Array::F32(a) => encode("<f4", a, f32::to_le_bytes),
        Array::F64(a) => encode("<f8", a, f64::to_le_bytes),
    }
}

/// `body` holds at least the elements of `header`'s shape, N bytes each; their number does not overflow.
fn decode<T: Clone, const N: usize>(
    header: &Header,
    body: &mut dyn Read,
    of: impl Fn([u8; N]) -> T,
) -> Result<ArrayD<T>> {
    /// Elements that are read at once.
    const PART: usize = 1 << 13;
    let count: usize = header.shape.iter().product();
    let mut elements: Vec<T> = Vec::with_capacity(count);
    let mut buffer = vec![[0; N]; PART.min(count)];
    while elements.len() < count {
        let part = PART.min(count - elements.len());
        let bytes = buffer[..part].as_flattened_mut();
        body.read_exact(bytes).map_err(|e| Error::format(format!("its elements cannot be read: {e}")))?;
        elements.extend(buffer[..part].iter().map(|&bytes| of(bytes)));
    }
    let shape = IxDyn(&header.shape);
    let unusable =
        |e: ndarray::ShapeError| Error::format(format!("its shape {:?} cannot be used: {e}", header.shape));
    if header.fortran {
        let array = ArrayD::from_shape_vec(shape.f(), elements).map_err(unusable)?;
        return Ok(array.as_standard_layout().into_owned());
    }
    ArrayD::from_shape_vec(shape, elements).map_err(unusable)
}

/// IEEE 754 binary16 to binary32, exact.
fn f16_to_f32(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let exponent = i32::from(bits >> 10 & 31);
    let fraction = f32::from(bits & 0x3ff);
    match (exponent, bits & 0x3ff) {
        (31, 0) => sign * f32::INFINITY,
        (31, _) => f32::NAN,
        (0, _) => sign * fraction * 2.0f32.powi(-24),
        _ => sign * (1024.0 + fraction) * 2.0f32.powi(exponent - 25),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numpy(descr: &str, fortran: &str, shape: &str, body: &[u8]) -> Vec<u8> {
        let text = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x03\x00".to_vec();
        bytes.extend((text.len() as u32).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn byte_orders_and_axis_orders() {
        let c = ArrayD::from_shape_vec(vec![2, 3], vec![1i16, 2, 3, 4, 5, 6]).unwrap();
        let file = numpy(">i2", "False", "(2, 3)", &[0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6]);
        assert_eq!(parse(&file).unwrap(), Array::I16(c.clone()));
        let file = numpy("<i2", "True", "(2, 3)", &[1, 0, 4, 0, 2, 0, 5, 0, 3, 0, 6, 0]);
        let read = parse(&file).unwrap();
        assert_eq!(read, Array::I16(c));
        assert!(matches!(read, Array::I16(a) if a.is_standard_layout()));
    }

    #[test]
    fn half_precision_is_exact() {
        let cases = [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0400, 6.103_515_6e-5),
            (0x0001, 5.960_464_5e-8),
            (0x8000, -0.0),
            (0x7c00, f32::INFINITY),
        ];
        for (bits, value) in cases {
            assert_eq!(f16_to_f32(bits).to_bits(), f32::to_bits(value));
        }
        assert!(f16_to_f32(0x7e00).is_nan());
        let file = numpy("<f2", "False", "(1,)", &[0, 0x3c]);
        assert_eq!(parse(&file).unwrap().to_f32()[[0]], 1.0);
    }

    #[test]
    fn shapes_that_do_not_fit_the_file_are_refused_before_allocation() {
        for shape in ["(4,)", "(2,)", "(1000000000000,)", "(4294967296, 4294967296, 4294967296)", "(0,)"] {
            let error = parse(&numpy("<f4", "False", shape, &[0; 12])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Format);
            assert!(error.to_string().contains("truncated or damaged"), "{error}");
        }
        // Zero elements, although one extent exceeds what ndarray can address.
        assert!(parse(&numpy("<f4", "False", "(0, 18446744073709551615, 3)", &[])).is_err());
        assert!(parse(&numpy("<u8", "False", "(1,)", &[255; 8])).is_err());
    }

    #[test]
    fn labels_must_be_whole() {
        let labels = Array::from(ArrayD::from_shape_vec(vec![2], vec![3.0f32, 4.0]).unwrap());
        assert_eq!(labels.to_i64().unwrap().as_slice(), Some(&[3i64, 4][..]));
        let scores = Array::from(ArrayD::from_shape_vec(vec![2], vec![0.5f32, 4.0]).unwrap());
        assert_eq!(scores.to_i64().unwrap_err().kind(), ErrorKind::Dtype);
        assert_eq!(scores.i64_range(0..1).unwrap_err().kind(), ErrorKind::Dtype);
        assert_eq!(scores.i64_range(1..9).unwrap(), [4]);
    }

    #[test]
    fn files_appear_whole_and_errors_name_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        let array = Array::from(ArrayD::from_shape_vec(vec![], vec![7i32]).unwrap());
        write(&path, &array).unwrap();
        assert_eq!(read(&path).unwrap(), array);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let missing = read(&folder.path().join("none.npy")).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        assert!(missing.to_string().contains("none.npy"));
        assert!(write(&folder.path().join("none").join("x.npy"), &array).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(shape in prop::collection::vec(0usize..5, 0..4), seed: u32) {
            let len = shape.iter().product::<usize>();
            let bits = |i: usize| (i as u32).wrapping_mul(2_654_435_761) ^ seed;
            let floats = (0..len).map(|i| f32::from_bits(bits(i) & 0x7f7f_ffff)).collect();
            let array = Array::from(ArrayD::from_shape_vec(shape.clone(), floats).unwrap());
            prop_assert_eq!(parse(&to_bytes(&array)).unwrap(), array);
            let bytes = (0..len).map(|i| bits(i) as i8).collect();
            let array = Array::from(ArrayD::from_shape_vec(shape, bytes).unwrap());
            prop_assert_eq!(parse(&to_bytes(&array)).unwrap(), array);
        }

        #[test]
        fn damaged_files_never_panic(at in 0usize..140, to: u8, cut in 0usize..140) {
            let array = Array::from(ArrayD::from_shape_vec(vec![3, 1], vec![1u16, 2, 3]).unwrap());
            let mut file = to_bytes(&array);
            let at = at.min(file.len() - 1);
            file[at] = to;
            let _ = parse(&file);
            file.truncate(cut);
            prop_assert!(parse(&file).is_err() || cut >= 134);
        }
    }
}
