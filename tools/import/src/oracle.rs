//! tract's typed model, run in float: the reference for imported graphs.
//!
//! The model is never decluttered: on QDQ networks that pass replaces a softmax by a table.

use std::path::Path;
use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};
use tract_onnx::onnx;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::DimLike;

use crate::error::{ImportError, Result};

/// A model run by tract.
pub struct Oracle {
    plan: Arc<TypedRunnableModel>,
    inputs: Vec<(Vec<usize>, DatumType)>,
}

impl std::fmt::Debug for Oracle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Oracle").field("inputs", &self.inputs).finish_non_exhaustive()
    }
}

fn wrap(e: impl std::fmt::Display) -> ImportError {
    ImportError::Oracle(e.to_string())
}

impl Oracle {
    /// Loads a model; a symbolic batch is 1.
    ///
    /// # Errors
    /// tract cannot load it.
    pub fn open(path: &Path) -> Result<Self> {
        let mut model = onnx().model_for_path(path).map_err(wrap)?;
        for i in 0..model.input_outlets().map_err(wrap)?.len() {
            let fact = model.input_fact(i).map_err(wrap)?.clone();
            let dtype = fact.datum_type.concretize().unwrap_or(f32::datum_type());
            let shape: TVec<usize> = fact
                .shape
                .dims()
                .map(|d| d.concretize().and_then(|d| d.to_usize().ok()).unwrap_or(1))
                .collect();
            model.set_input_fact(i, InferenceFact::dt_shape(dtype, shape)).map_err(wrap)?;
        }
        let typed = model.into_typed().map_err(wrap)?;
        let mut inputs = Vec::new();
        for i in 0..typed.input_outlets().map_err(wrap)?.len() {
            let fact = typed.input_fact(i).map_err(wrap)?;
            let shape = fact.shape.as_concrete().ok_or_else(|| wrap("symbolic input"))?.to_vec();
            inputs.push((shape, fact.datum_type));
        }
        let plan = typed.into_runnable().map_err(wrap)?;
        Ok(Self { plan, inputs })
    }

    /// Shapes of the inputs, as in the ONNX file.
    pub fn input_shapes(&self) -> Vec<Vec<usize>> {
        self.inputs.iter().map(|(s, _)| s.clone()).collect()
    }

    /// Runs one sample. Arrays have the shapes of the ONNX file; integers are passed and returned as floats.
    ///
    /// # Errors
    /// The shapes do not fit.
    pub fn run(&self, inputs: &[ArrayD<f32>]) -> Result<Vec<ArrayD<f32>>> {
        let mut tensors = tvec!();
        for (array, (shape, dtype)) in inputs.iter().zip(&self.inputs) {
            let values: Vec<f32> = array.iter().copied().collect();
            let tensor = Tensor::from_shape(shape, &values).map_err(wrap)?;
            tensors.push(tensor.cast_to_dt(*dtype).map_err(wrap)?.into_owned().into_tvalue());
        }
        let outputs = self.plan.run(tensors).map_err(wrap)?;
        outputs
            .iter()
            .map(|t| {
                let t = t.cast_to::<f32>().map_err(wrap)?;
                let values: Vec<f32> =
                    t.to_plain_array_view::<f32>().map_err(wrap)?.iter().copied().collect();
                ArrayD::from_shape_vec(IxDyn(t.shape()), values).map_err(wrap)
            })
            .collect()
    }
}
