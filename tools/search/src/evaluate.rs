//! Evaluates candidates without training: a candidate is cut, its batch normalisation recalibrated and folded, then
//! quantised by its bits, planned and exported. Its accuracy is measured with the runtime, its cost on the target.

use std::path::Path;

use ndarray::{ArrayD, Axis, IxDyn};
use offshoot::format::record::{DType, Quantize, QuantizeInt16};
use offshoot::{AlignedBytes, Model};
use offshoot_compress::quantize::{
    Clipping, QuantizeOptions, Rounding, Toggle, WeightBits, WeightScale, quantize,
};
use offshoot_export::{CompileOptions, Compiled, compile};
use offshoot_ir::Graph;
use offshoot_target::{Device, HostDevice, Target};
use offshoot_train::shared::resample;
use offshoot_train::{Dataset, FitOptions, Target as Labels, Teacher, fit};
use serde::{Deserialize, Serialize};

use crate::elastic::Elastic;
use crate::journal::Hash;
use crate::metrics::Measured;
use crate::operators::Operators;
use crate::training::inherited;
use crate::{Error, Result};

/// What is counted on the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Count {
    /// Nothing.
    Nothing,
    /// Instructions; operators that have been measured before are not run again.
    #[default]
    Instructions,
    /// Instructions and modelled cycles; every candidate is run.
    Cycles,
}

/// Settings of the evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Samples on which batch-normalisation statistics are recalibrated.
    pub recalibration: usize,
    /// Samples on which activations are calibrated and weights fitted.
    pub calibration: usize,
    /// Whether quantisation compares all its options; otherwise it makes the same quick choices for every candidate.
    pub thorough: bool,
    /// What is counted.
    pub count: Count,
    /// Clock of the target in hertz, for times.
    pub clock_hz: f64,
    /// Held-out samples to judge on; 0 for all.
    pub judged: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            recalibration: 128,
            calibration: 32,
            thorough: false,
            count: Count::default(),
            clock_hz: 25e6,
            judged: 0,
        }
    }
}

/// Samples in the network's shape, channels last, and their classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    /// `[n, …]`
    pub x: ArrayD<f32>,
    /// Class numbers.
    pub y: Vec<i64>,
}

impl Samples {
    /// Checks samples for training or judging against the network.
    ///
    /// # Errors
    /// They do not fit the network.
    pub fn checked(self, graph: &Graph) -> Result<Self> {
        self.dataset().check(graph)?;
        Ok(self)
    }

    /// Converts them to a data set.
    pub fn dataset(&self) -> Dataset {
        Dataset::new(self.x.clone(), Labels::Labels(self.y.clone()))
    }

    /// The first `count` samples, or all if that is 0.
    #[must_use]
    pub fn head(&self, count: usize) -> Self {
        let count = if count == 0 { self.y.len() } else { count.min(self.y.len()) };
        Self { x: self.x.slice_axis(Axis(0), (0..count).into()).to_owned(), y: self.y[..count].to_vec() }
    }
}

/// Evaluates candidates of a super-network.
#[derive(Debug)]
pub struct Evaluator {
    /// The super-network.
    pub elastic: Elastic,
    /// The settings.
    pub settings: Settings,
    train: Samples,
    held: Samples,
    tasks: Vec<(String, Samples)>,
    operators: Option<Operators>,
    /// Hash of everything that a result depends on, except the candidate.
    base: Hash,
}

/// The forms of a candidate.
#[derive(Debug)]
pub struct Candidate {
    /// Float, after the lossless passes.
    pub graph: Graph,
    /// Bits of its layers' weights.
    pub bits: WeightBits,
    /// The `.off` file.
    pub compiled: Compiled,
}

impl Evaluator {
    /// An evaluator with `train` for statistics and ranges and `held` for accuracy; `tasks` are further samples to
    /// judge on. Measurements of operators are kept in the file `operators`.
    ///
    /// # Errors
    /// The samples do not fit the network; a file cannot be read.
    pub fn new(
        elastic: Elastic,
        settings: Settings,
        train: Samples,
        held: Samples,
        tasks: Vec<(String, Samples)>,
        target: Option<Target>,
        operators: Option<&Path>,
    ) -> Result<Self> {
        let (train, held) =
            (train.checked(&elastic.graph)?, held.checked(&elastic.graph)?.head(settings.judged));
        let tasks = tasks.into_iter().map(|(n, s)| Ok((n, s.checked(&elastic.graph)?.head(settings.judged))));
        let tasks = tasks.collect::<Result<Vec<_>>>()?;
        let counted = target.filter(|t| !matches!(t, Target::Host) && settings.count != Count::Nothing);
        let name = counted.as_ref().map_or_else(String::new, ToString::to_string);
        let graph = postcard::to_stdvec(&elastic.graph).unwrap_or_default();
        let mut base = Hash::default().with(&graph);
        for text in [serde_json::to_string(&elastic.space.variables), serde_json::to_string(&settings)] {
            base = base.with(text.unwrap_or_default().as_bytes());
        }
        base = base.with(name.as_bytes()).with(env!("CARGO_PKG_VERSION").as_bytes());
        let used = train.head(settings.recalibration.max(settings.calibration));
        for s in [&used, &held].into_iter().chain(tasks.iter().map(|(_, s)| s)) {
            let bytes: Vec<u8> = s.x.iter().flat_map(|v| v.to_le_bytes()).collect();
            let labels: Vec<u8> = s.y.iter().flat_map(|v| v.to_le_bytes()).collect();
            base = base.with(&bytes).with(&labels);
        }
        let operators = counted.map(|t| Operators::new(t, operators)).transpose()?;
        Ok(Self { elastic, settings, train, held, tasks, operators, base })
    }

    /// Key of a candidate's evaluation, derived from everything that the result depends on.
    pub fn key(&self, encoding: &[u16]) -> String {
        let bytes: Vec<u8> = encoding.iter().flat_map(|i| i.to_le_bytes()).collect();
        self.base.with(&bytes).hex()
    }

    /// Training samples.
    pub fn train(&self) -> &Samples {
        &self.train
    }

    /// Held-out samples.
    pub fn held(&self) -> &Samples {
        &self.held
    }

    /// The measured operators.
    pub fn operators(&self) -> Option<&Operators> {
        self.operators.as_ref()
    }

    /// Cuts, quantises and compiles a candidate.
    ///
    /// # Errors
    /// The candidate cannot be built.
    pub fn candidate(&self, encoding: &[u16]) -> Result<Candidate> {
        let few = self.train.head(self.settings.recalibration.max(2));
        let graph = inherited(&self.elastic, encoding, &few.x, 64)?;
        let bits = self.elastic.bits(encoding, &graph);
        self.compiled(graph, bits)
    }

    /// Quantises and compiles a float network.
    ///
    /// # Errors
    /// The network has no device form.
    pub fn compiled(&self, graph: Graph, bits: WeightBits) -> Result<Candidate> {
        let samples = samples(&graph, &self.train.x, self.settings.calibration.max(1))?;
        let options = match self.settings.thorough {
            true => QuantizeOptions { weight_bits: bits.clone(), ..QuantizeOptions::default() },
            false => quick(bits.clone(), self.settings.calibration),
        };
        let (quantised, _) = quantize(&graph, &samples, &options)?;
        let compiled = compile(&quantised, &CompileOptions::default())?;
        Ok(Candidate { graph, bits, compiled })
    }

    /// Evaluates a candidate with its inherited weights.
    ///
    /// # Errors
    /// The candidate cannot be built, or the target does not respond.
    pub fn evaluate(&self, encoding: &[u16]) -> Result<Measured> {
        self.measure(&self.candidate(encoding)?)
    }

    /// Measures a compiled candidate.
    ///
    /// # Errors
    /// The target does not respond.
    pub fn measure(&self, candidate: &Candidate) -> Result<Measured> {
        let (off, report) = (&candidate.compiled.bytes, &candidate.compiled.report);
        let mut measured = Measured {
            accuracy: accuracy(off, &self.held)?,
            flash: report.model_bytes,
            ram: report.arena_bytes,
            macs: report.macs,
            ..Measured::default()
        };
        for (name, samples) in &self.tasks {
            measured.tasks.insert(name.clone(), accuracy(off, samples)?);
        }
        if let Some(operators) = &self.operators {
            match self.settings.count {
                Count::Nothing => {}
                Count::Instructions => measured.instructions = Some(operators.instructions(off)?),
                Count::Cycles => {
                    let profile = operators.cycles(off)?;
                    (measured.instructions, measured.cycles) = (profile.instructions, profile.cycles);
                }
            }
            let ticks = measured.cycles.or(measured.instructions);
            measured.latency_ms = ticks.map(|t| t as f64 / self.settings.clock_hz * 1e3);
        }
        Ok(measured)
    }

    /// Trains a candidate further from its inherited weights, on the labels and on the super-network's outputs.
    ///
    /// # Errors
    /// The candidate cannot be built or trained.
    pub fn tuned(
        &self,
        encoding: &[u16],
        options: &FitOptions,
        teacher: Option<(f32, f32)>,
        observer: &mut dyn offshoot_train::Observer,
    ) -> Result<Candidate> {
        let cut = offshoot_train::shared::recalibrate(
            &self.elastic.cut(encoding)?,
            &[self.train.head(self.settings.recalibration.max(2)).x],
            64,
        )?;
        let mut data = self.train.dataset();
        let wanted = &cut.value(cut.inputs[0]).shape;
        let same = data.inputs[0].shape()[1..] == wanted[1..];
        if !same {
            data.inputs[0] = resample(&data.inputs[0], [wanted[1], wanted[2]])?;
        }
        let mut options = options.clone();
        // A teacher at another resolution would need other samples.
        if let Some((temperature, weight)) = teacher.filter(|_| same) {
            let graph = self.elastic.graph.clone();
            options.teacher = Some(Teacher { graph, temperature, weight, features: vec![] });
        }
        let (graph, _) = fit(&cut, &data, &options, observer)?;
        let (graph, _) = offshoot_ir::passes::lossless(graph)?;
        let bits = self.elastic.bits(encoding, &graph);
        self.compiled(graph, bits)
    }
}

/// The same quick choices for all candidates.
fn quick(weight_bits: WeightBits, samples: usize) -> QuantizeOptions {
    QuantizeOptions {
        clipping: Clipping::MinMax,
        weight_scale: if weight_bits.layers.is_empty() { WeightScale::MinMax } else { WeightScale::Mse },
        rounding: Rounding::Nearest,
        bias_correction: Toggle::Off,
        weight_bits,
        fit_samples: samples.clamp(1, 16),
        ..QuantizeOptions::default()
    }
}

/// The first samples, in the shape that `graph` takes.
fn samples(graph: &Graph, x: &ArrayD<f32>, count: usize) -> Result<Vec<Vec<ArrayD<f32>>>> {
    let shape = &graph.value(graph.inputs[0]).shape;
    let count = count.min(x.shape()[0]);
    let mut part = x.slice_axis(Axis(0), (0..count).into()).to_owned();
    if shape.len() == 4 && part.ndim() == 4 && part.shape()[1..3] != shape[1..3] {
        part = resample(&part, [shape[1], shape[2]])?;
    }
    let one = |i: usize| -> Result<Vec<ArrayD<f32>>> {
        let elements: Vec<f32> = part.index_axis(Axis(0), i).iter().copied().collect();
        let array = ArrayD::from_shape_vec(IxDyn(shape), elements).map_err(|e| Error::Data(e.to_string()))?;
        Ok(vec![array])
    };
    (0..count).map(one).collect()
}

/// Share of samples classified as their label, computed with the runtime on this machine; every target gives the same
/// result.
///
/// # Errors
/// The file does not take such samples, or has fewer classes.
pub fn accuracy(off: &[u8], samples: &Samples) -> Result<f64> {
    let aligned = AlignedBytes::copy_of(off);
    let model = Model::open(aligned.bytes()).map_err(|e| Error::Data(format!("compiled model: {e}")))?;
    let (Some(input), Some(output)) = (model.input(0), model.output(0)) else {
        return Err(Error::Data("the model has no input or output".into()));
    };
    let shape: Vec<usize> =
        input.shape[..usize::from(input.rank).min(6)].iter().map(|&d| usize::from(d)).collect();
    let mut x = std::borrow::Cow::Borrowed(&samples.x);
    if shape.len() == 4 && x.ndim() == 4 && x.shape()[1..3] != shape[1..3] {
        x = std::borrow::Cow::Owned(resample(&x, [shape[1], shape[2]])?);
    }
    let mut device = HostDevice::new();
    device.load(off)?;
    let mut right = 0;
    for (sample, &label) in x.outer_iter().zip(&samples.y) {
        let values: Vec<f32> = sample.iter().copied().collect();
        let bytes: Vec<u8> = match input.dtype {
            DType::I8 => {
                let record = Quantize {
                    src: 0,
                    dst: 0,
                    len: values.len() as u32,
                    scale: input.scale,
                    zp: input.zero_point,
                };
                let mut out = vec![0_i8; values.len()];
                offshoot::kernels::portable::quantize(&record, &values, &mut out);
                out.into_iter().map(|v| v as u8).collect()
            }
            DType::I16 => {
                let record = QuantizeInt16 { src: 0, dst: 0, len: values.len() as u32, scale: input.scale };
                let mut out = vec![0_i16; values.len()];
                offshoot::kernels::portable::quantize_int16(&record, &values, &mut out);
                out.into_iter().flat_map(i16::to_le_bytes).collect()
            }
            _ => values.into_iter().flat_map(f32::to_le_bytes).collect(),
        };
        let results = device.run(&[&bytes])?;
        let scores: Vec<f32> = match output.dtype {
            // There is a single scale, so codes are ordered like the values they represent.
            DType::I8 => results[0].iter().map(|&b| f32::from(b as i8)).collect(),
            DType::I16 => {
                results[0].as_chunks().0.iter().map(|b| f32::from(i16::from_le_bytes(*b))).collect()
            }
            _ => results[0].chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect(),
        };
        right += usize::from(offshoot_train::argmax(scores.iter()) as i64 == label);
    }
    Ok(right as f64 / samples.y.len().max(1) as f64)
}
