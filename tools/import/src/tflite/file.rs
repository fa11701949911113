//! A TensorFlow Lite file as plain structures: the schema's tables, checked and copied.
//!
//! tract-tflite's generated schema reads the file after the flatbuffers verifier has followed every offset in it.
//! Nothing else in this crate touches the raw bytes. Sizes are bounded by those of the file.

use offshoot_ir::Quant;
use tract_tflite::tflite::{self, TensorType};

use crate::context::{Importing, MAX_VALUE};
use crate::error::{ImportError, Result};

/// Most axes of a tensor.
const MAX_RANK: usize = 8;
/// Most tables of a file: a network has a few for each tensor and operator.
const MAX_TABLES: usize = 1 << 20;

/// Element type of a tensor in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    F32,
    F16,
    I4,
    I8,
    U8,
    I16,
    I32,
    I64,
    Bool,
    /// The handle of a variable.
    Resource,
    /// A type without a form on the device.
    Other,
}

/// A tensor of the main subgraph.
#[derive(Clone, Debug)]
pub(super) struct Tensor<'f> {
    pub(super) name: String,
    /// Extents; a batch that is not given is 1.
    pub(super) shape: Vec<usize>,
    /// An axis other than the first whose extent is only known at run time.
    pub(super) open_axis: Option<usize>,
    pub(super) kind: Kind,
    /// The name of the type in the schema.
    pub(super) kind_name: &'static str,
    /// Scales and zero points, as in the file (uint8 is not shifted).
    pub(super) quant: Option<Quant>,
    /// Bytes of a constant.
    pub(super) data: Option<&'f [u8]>,
    /// Whether the tensor keeps its contents from one run to the next.
    pub(super) variable: bool,
    /// Why the tensor cannot be used, if it cannot.
    pub(super) fault: Option<String>,
}

impl Tensor<'_> {
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// An operator, with the indices of the tensors that it reads and writes.
pub(super) struct Operator<'f> {
    /// Position in its subgraph.
    pub(super) index: usize,
    /// Name in the schema (`CONV_2D`), or the name of a custom operator.
    pub(super) kind: String,
    pub(super) custom: bool,
    /// `None` for an input that is left out.
    pub(super) inputs: Vec<Option<usize>>,
    pub(super) outputs: Vec<usize>,
    pub(super) options: tflite::Operator<'f>,
}

/// A subgraph.
pub(super) struct Subgraph<'f> {
    pub(super) tensors: Vec<Tensor<'f>>,
    pub(super) operators: Vec<Operator<'f>>,
    pub(super) inputs: Vec<usize>,
    pub(super) outputs: Vec<usize>,
}

/// A verified file.
pub(super) struct File<'f> {
    model: tflite::Model<'f>,
    bytes: &'f [u8],
}

fn broken(what: impl std::fmt::Display) -> ImportError {
    ImportError::Damaged(what.to_string())
}

impl<'f> File<'f> {
    /// Verifies the file.
    ///
    /// # Errors
    /// An offset leads out of the file, or the tables overlap so often that the file stands for far more than it holds.
    pub(super) fn open(bytes: &'f [u8]) -> Result<Self> {
        let options = flatbuffers::VerifierOptions {
            max_depth: 32,
            max_tables: MAX_TABLES,
            max_apparent_size: bytes.len().saturating_mul(2).saturating_add(1 << 16),
            ignore_missing_null_terminator: true,
        };
        let model = tflite::root_as_model_with_opts(&options, bytes).map_err(|e| broken(first_line(&e)))?;
        if model.version() != 3 {
            return Err(broken(format!("schema version {}, not 3", model.version())));
        }
        Ok(Self { model, bytes })
    }

    /// Names of the subgraphs; the first is the network.
    pub(super) fn subgraph_names(&self) -> Vec<String> {
        let all = self.model.subgraphs();
        all.iter().flatten().map(|s| s.name().unwrap_or("").to_owned()).collect()
    }

    /// Reads a subgraph.
    ///
    /// # Errors
    /// It does not exist, or refers to tensors, buffers or operators that do not.
    pub(super) fn subgraph(&self, index: usize) -> Result<Subgraph<'f>> {
        let all = self.model.subgraphs();
        let graph = all.filter(|a| index < a.len()).map(|a| a.get(index));
        let graph = graph.ok_or_else(|| broken(format!("it has no subgraph {index}")))?;
        let mut tensors = Vec::new();
        for (i, t) in graph.tensors().into_iter().flatten().enumerate() {
            tensors.push(self.tensor(i, &t)?);
        }
        let known = |what: &str, i: i32| {
            usize::try_from(i)
                .ok()
                .filter(|i| *i < tensors.len())
                .ok_or_else(|| broken(format!("{what} refers to tensor {i} of {}", tensors.len())))
        };
        let list = |what: &str, v: Option<flatbuffers::Vector<'f, i32>>| -> Result<Vec<usize>> {
            v.into_iter().flatten().map(|i| known(what, i)).collect()
        };
        let mut operators = Vec::new();
        for (index, options) in graph.operators().into_iter().flatten().enumerate() {
            let what = format!("operator {index}");
            let inputs = options.inputs().into_iter().flatten();
            let inputs = inputs.map(|i| if i == -1 { Ok(None) } else { known(&what, i).map(Some) });
            let inputs = inputs.collect::<Result<Vec<_>>>()?;
            let outputs = list(&what, options.outputs())?;
            let (kind, custom) = self.code(options.opcode_index())?;
            operators.push(Operator { index, kind, custom, inputs, outputs, options });
        }
        let (inputs, outputs) = (list("an input", graph.inputs())?, list("an output", graph.outputs())?);
        Ok(Subgraph { tensors, operators, inputs, outputs })
    }

    /// Name of an operator code, and whether it is a custom operator.
    fn code(&self, index: u32) -> Result<(String, bool)> {
        let all = self.model.operator_codes();
        let code = all.filter(|a| (index as usize) < a.len()).map(|a| a.get(index as usize));
        let code = code.ok_or_else(|| broken(format!("it has no operator code {index}")))?;
        // Files of before 2020 only set the older field; newer ones set it to the smaller of the code and 127.
        let number = code.builtin_code().0.max(i32::from(code.deprecated_builtin_code()));
        let kind = tflite::BuiltinOperator(number);
        if kind == tflite::BuiltinOperator::CUSTOM {
            return Ok((code.custom_code().unwrap_or("").to_owned(), true));
        }
        let name = kind.variant_name().map_or_else(|| format!("BUILTIN_{number}"), str::to_owned);
        Ok((name, false))
    }

    fn tensor(&self, index: usize, t: &tflite::Tensor<'f>) -> Result<Tensor<'f>> {
        let name = match t.name() {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => format!("tensor_{index}"),
        };
        let kind = kind(t.type_());
        let kind_name = t.type_().variant_name().unwrap_or("unknown");
        let mut fault = None;
        let mut shape = Vec::new();
        let mut open_axis = None;
        let signature: Vec<i32> = t.shape_signature().into_iter().flatten().collect();
        for (i, extent) in t.shape().into_iter().flatten().enumerate() {
            let open = signature.get(i).is_some_and(|s| *s < 0) || extent < 0;
            if open && i > 0 {
                open_axis = open_axis.or(Some(i));
            }
            shape.push(usize::try_from(extent).unwrap_or(1));
        }
        let elements = crate::constant::count(&shape).filter(|n| *n <= MAX_VALUE);
        if elements.is_none() || shape.len() > MAX_RANK {
            fault = Some(format!("shape {shape:?} is too large"));
            shape = Vec::new();
        }
        if t.sparsity().is_some() {
            fault = Some("its elements are stored sparsely: store them dense".into());
        }
        let data = self.buffer(t.buffer())?;
        let quant = match quantisation(t, &shape) {
            Ok(quant) => quant,
            Err(reason) => {
                fault = fault.or(Some(reason));
                None
            }
        };
        if let (Some(data), Some(bits)) = (data, bits(kind))
            && data.len() != (shape.iter().product::<usize>() * bits).div_ceil(8)
        {
            fault = fault.or_else(|| Some(format!("{} bytes for {shape:?} of {kind_name}", data.len())));
        }
        Ok(Tensor { name, shape, open_axis, kind, kind_name, quant, data, variable: t.is_variable(), fault })
    }

    /// Contents of a buffer; `None` if it is empty, as the buffers of computed tensors are.
    fn buffer(&self, index: u32) -> Result<Option<&'f [u8]>> {
        let all = self.model.buffers();
        let buffer = all.filter(|a| (index as usize) < a.len()).map(|a| a.get(index as usize));
        let buffer = buffer.ok_or_else(|| broken(format!("it has no buffer {index}")))?;
        let data = buffer.data().map(|d| d.bytes()).filter(|d| !d.is_empty());
        debug_assert!(data.is_none_or(|d| d.len() <= self.bytes.len()));
        Ok(data)
    }
}

fn first_line(e: &impl std::fmt::Display) -> String {
    e.to_string().lines().next().unwrap_or("").to_owned()
}

fn kind(t: TensorType) -> Kind {
    match t {
        TensorType::FLOAT32 => Kind::F32,
        TensorType::FLOAT16 => Kind::F16,
        TensorType::INT4 => Kind::I4,
        TensorType::INT8 => Kind::I8,
        TensorType::UINT8 => Kind::U8,
        TensorType::INT16 => Kind::I16,
        TensorType::INT32 => Kind::I32,
        TensorType::INT64 => Kind::I64,
        TensorType::BOOL => Kind::Bool,
        TensorType::RESOURCE => Kind::Resource,
        _ => Kind::Other,
    }
}

/// Bits of an element.
fn bits(kind: Kind) -> Option<usize> {
    Some(match kind {
        Kind::I4 => 4,
        Kind::I8 | Kind::U8 | Kind::Bool => 8,
        Kind::F16 | Kind::I16 => 16,
        Kind::F32 | Kind::I32 => 32,
        Kind::I64 => 64,
        Kind::Resource | Kind::Other => return None,
    })
}

/// Scales and zero points, if the tensor has scales.
fn quantisation(t: &tflite::Tensor<'_>, shape: &[usize]) -> Importing<Option<Quant>> {
    let Some(q) = t.quantization() else { return Ok(None) };
    if q.details_type() != tflite::QuantizationDetails::NONE {
        return Err("a custom quantisation".into());
    }
    let scale: Vec<f32> = q.scale().into_iter().flatten().collect();
    if scale.is_empty() {
        return Ok(None);
    }
    let narrow = |z: i64| i32::try_from(z).map_err(|_| format!("zero point {z}"));
    let mut zero_point = q.zero_point().into_iter().flatten().map(narrow).collect::<Importing<Vec<_>>>()?;
    if zero_point.is_empty() {
        zero_point = vec![0];
    }
    if zero_point.len() == 1 {
        zero_point.resize(scale.len(), zero_point[0]);
    }
    if zero_point.len() != scale.len() {
        return Err(format!("{} zero points for {} scales", zero_point.len(), scale.len()));
    }
    if let Some(s) = scale.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
        return Err(format!("scale {s} is not positive and finite"));
    }
    let axis = match scale.len() {
        1 => None,
        n => {
            let axis = usize::try_from(q.quantized_dimension()).ok().filter(|a| shape.get(*a) == Some(&n));
            Some(
                axis.ok_or_else(|| {
                    format!("{n} scales along axis {} of {shape:?}", q.quantized_dimension())
                })?,
            )
        }
    };
    Ok(Some(Quant { scale, zero_point, axis }))
}
