//! NumPy's arrays and the project's.

use std::path::PathBuf;

use numpy::{IntoPyArray, PyArrayDyn, PyArrayMethods};
use offshoot_cli::{Failure, Kind, Result, files};
use offshoot_data::npy::{Array, View};
use offshoot_import::Dims;
use offshoot_ir::Graph;
use offshoot_ir::passes::PassReport;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use crate::errors::raised;

/// A copy of a NumPy array in C order: the interpreter may change the original while work goes on without it.
pub(crate) fn array(value: &Bound<'_, PyAny>, name: &str) -> PyResult<Array> {
    with_view(value, name, |view| view.into_owned())
}

/// Calls `body` with the elements of a NumPy array. They are copied only if they are not in C order.
pub(crate) fn with_view<R>(
    value: &Bound<'_, PyAny>,
    name: &str,
    body: impl FnOnce(View<'_>) -> R,
) -> PyResult<R> {
    macro_rules! first_of {
        ($($kind:ident: $element:ty),+) => {
            $(if let Ok(array) = value.cast::<PyArrayDyn<$element>>() {
                let array = array.try_readonly()?;
                return Ok(body(View::$kind(array.as_array().as_standard_layout())));
            })+
        };
    }
    first_of!(F32: f32, I8: i8, U8: u8, I64: i64, F64: f64, I32: i32, Bool: bool, I16: i16, U16: u16, U32: u32);
    let kind = value.getattr("dtype").map_or_else(|_| value.get_type().to_string(), |d| d.to_string());
    let help = "give an array with a numeric element type, such as float32 or int64";
    Err(raised(
        value.py(),
        &Failure::new(Kind::Dtype, format!("{name}: elements of type {kind} are not supported"), help),
    ))
}

/// As [`array()`], for one array per input; also returns their names, for messages.
pub(crate) fn arrays(values: &[Bound<'_, PyAny>], name: &str) -> PyResult<(Vec<Array>, Vec<String>)> {
    let names = names(values.len(), name);
    let arrays =
        values.iter().zip(&names).map(|(value, name)| array(value, name)).collect::<PyResult<_>>()?;
    Ok((arrays, names))
}

/// Names of the arrays of `count` inputs, for messages.
pub(crate) fn names(count: usize, name: &str) -> Vec<String> {
    match count {
        1 => vec![name.to_owned()],
        n => (0..n).map(|i| format!("{name}[{i}]")).collect(),
    }
}

/// An array for Python, which owns the memory from now on.
pub(crate) fn to_python(py: Python<'_>, array: Array) -> PyResult<Bound<'_, PyAny>> {
    macro_rules! of {
        ($($kind:ident),+) => {
            match array {
                $(Array::$kind(array) => array.into_pyarray(py).into_any(),)+
                other => {
                    let text = format!("elements of type {} have no NumPy form", other.dtype());
                    return Err(raised(py, &Failure::new(Kind::Internal, text, "report this")));
                }
            }
        };
    }
    Ok(of!(Bool, I8, U8, I16, U16, I32, U32, I64, F32, F64))
}

/// Where a network comes from: the bytes of a file, or its path.
#[derive(FromPyObject)]
pub(crate) enum Source {
    Bytes(PyBackedBytes),
    Path(PathBuf),
}

impl Source {
    /// The network after the lossless passes.
    pub(crate) fn graph(&self, dims: &Dims) -> Result<(Graph, Vec<PassReport>)> {
        match self {
            Self::Bytes(bytes) => files::parse_graph(bytes, "the network", dims),
            Self::Path(path) => files::read_graph_with(path, dims),
        }
    }
}
