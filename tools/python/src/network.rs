//! A compiled model: run, measured, taught.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use offshoot_cli::batch::{self, Inputs, Samples as _, Sequences};
use offshoot_cli::commands::learn::Trained;
use offshoot_cli::commands::learn::flash::FlashFile;
use offshoot_cli::commands::{compile as compiling, eval, inspect, learn, parse_target, profile, verify};
use offshoot_cli::files::OffFile;
use offshoot_cli::port::Port;
use offshoot_cli::{Failure, Kind, Result};
use offshoot_data::npy::Array;
use offshoot_target::Target;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::convert::{Source, array, arrays, names, to_python, with_view};
use crate::errors::raised;
use crate::session::Session;
use crate::verbs::{Said, arguments, said};
use crate::work::{briefly, held, patiently};

/// A validated file, one of whose networks is selected.
#[pyclass(frozen, module = "offshoot._native")]
pub(crate) struct Network {
    file: Arc<OffFile>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    keeps_state: bool,
    /// Opened by the first run.
    session: Mutex<Option<Session>>,
    trained: Option<Trained>,
}

impl Network {
    fn new(file: OffFile, trained: Option<Trained>) -> Result<Self> {
        let model = file.model()?;
        let inputs = (0..model.input_count()).map(|i| batch::input_port(&model, i)).collect::<Result<_>>()?;
        let outputs =
            (0..model.output_count()).map(|i| batch::answer_port(&model, i)).collect::<Result<_>>()?;
        let keeps_state = model.keeps_state();
        Ok(Self { file: Arc::new(file), inputs, outputs, keeps_state, session: Mutex::default(), trained })
    }

    /// Samples as they go into the arena, and sentences about values that the inputs cannot represent.
    fn encode(&self, py: Python<'_>, x: &[Bound<'_, PyAny>]) -> PyResult<(Inputs, Vec<String>)> {
        let failed = |failure: Failure| raised(py, &failure);
        batch::check_inputs(self.inputs.len(), x.len()).map_err(failed)?;
        let mut columns = Vec::with_capacity(x.len());
        for (port, (value, name)) in self.inputs.iter().zip(x.iter().zip(names(x.len(), "x"))) {
            let encoded = with_view(value, &name, |elements| port.encode_view(&elements, &name))?;
            columns.push(encoded.map_err(failed)?);
        }
        let inputs = Inputs::of_columns(columns).map_err(failed)?;
        let notable = inputs.saturation().into_iter().enumerate();
        let notable = notable.filter_map(|(i, s)| s.filter(|s| s.cause.is_some()).map(|s| s.sentence(i)));
        Ok((inputs, notable.collect()))
    }

    /// One sample in the engine that stays open.
    fn run_open(&self, sample: &[&[u8]]) -> Result<Vec<Vec<u8>>> {
        let mut session = held(&self.session);
        // After a panic there is none.
        let mut open = match session.take() {
            Some(open) => open,
            None => Session::open(self.file.clone())?,
        };
        let outputs = open.run(sample);
        *session = Some(open);
        outputs
    }

    fn arrays<'py>(
        &self,
        py: Python<'py>,
        results: Vec<Vec<Vec<u8>>>,
        real: bool,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let mut columns: Vec<Vec<Vec<u8>>> = vec![Vec::with_capacity(results.len()); self.outputs.len()];
        for sample in results {
            columns.iter_mut().zip(sample).for_each(|(column, bytes)| column.push(bytes));
        }
        let made = self.outputs.iter().zip(columns).map(|(port, samples)| {
            let array = port.array(&samples, real).map_err(|failure| raised(py, &failure))?;
            to_python(py, array)
        });
        made.collect()
    }
}

type Ran<'py> = (Vec<Bound<'py, PyAny>>, Vec<String>);

#[pymethods]
impl Network {
    /// The `.off` file.
    fn bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.file.bytes())
    }

    /// Writes the `.off` file, at once or not at all.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        briefly(py, || {
            let written = offshoot_report::write_atomically(&path, self.file.bytes());
            written.map_err(|e| Failure::writing(&path, &e))
        })
    }

    /// Number of the selected network.
    #[getter]
    fn index(&self) -> usize {
        self.file.network()
    }

    /// Whether recurrent layers keep their state between runs.
    #[getter]
    fn keeps_state(&self) -> bool {
        self.keeps_state
    }

    /// Number of classes that the file learns; none without a learning plan.
    #[getter]
    fn classes(&self, py: Python<'_>) -> PyResult<Option<u16>> {
        let model = self.file.model().map_err(|f| raised(py, &f))?;
        Ok(model.learning().map(|learning| learning.classes()))
    }

    /// Steps of the learning plan's schedule; none if it has no end.
    #[getter]
    fn course(&self, py: Python<'_>) -> PyResult<Option<u32>> {
        let model = self.file.model().map_err(|f| raised(py, &f))?;
        Ok(model.learning().and_then(|learning| learn::planned(&learning)))
    }

    /// Whether the file holds what was learned.
    #[getter]
    fn has_learned(&self, py: Python<'_>) -> PyResult<bool> {
        self.file.model().map(|model| batch::has_begun(&model)).map_err(|f| raised(py, &f))
    }

    /// Outputs for samples, and warnings. A single sample runs in an engine that stays open.
    #[pyo3(signature = (x, real, target, reset_every, listener))]
    fn run<'py>(
        &self,
        py: Python<'py>,
        x: Vec<Bound<'py, PyAny>>,
        real: bool,
        target: &str,
        reset_every: Option<u32>,
        listener: Option<Py<PyAny>>,
    ) -> PyResult<Ran<'py>> {
        let (inputs, warnings) = self.encode(py, &x)?;
        let target = parse_target(target).map_err(|f| raised(py, &f))?;
        let single = inputs.count() == 1 && matches!(target, Target::Host) && !self.keeps_state;
        let results = match single && reset_every.is_none() {
            true => vec![briefly(py, || self.run_open(&inputs.sample(0)))?],
            false => patiently(py, listener, |ui| {
                batch::run(ui, &self.file, &inputs, &target, Sequences { reset_every })
            })?,
        };
        Ok((self.arrays(py, results, real)?, warnings))
    }

    /// As `run` on the host, for one sample that goes on from the state of the last.
    fn step<'py>(&self, py: Python<'py>, x: Vec<Bound<'py, PyAny>>, real: bool) -> PyResult<Ran<'py>> {
        let (inputs, warnings) = self.encode(py, &x)?;
        let one = match inputs.count() {
            1 => Ok(()),
            n => Err(Failure::new(Kind::Shape, format!("x: {n} samples"), "give one sample to each step")),
        };
        one.map_err(|f| raised(py, &f))?;
        let results = briefly(py, || self.run_open(&inputs.sample(0)))?;
        Ok((self.arrays(py, vec![results], real)?, warnings))
    }

    /// The next step begins a new sequence.
    fn reset(&self, py: Python<'_>) -> PyResult<()> {
        briefly(py, || {
            held(&self.session).iter_mut().for_each(Session::restart);
            Ok(())
        })
    }

    /// `offshoot eval`.
    fn eval(
        &self,
        py: Python<'_>,
        x: Vec<Bound<'_, PyAny>>,
        y: &Bound<'_, PyAny>,
        line: Vec<String>,
        listener: Option<Py<PyAny>>,
    ) -> PyResult<Said> {
        let ((inputs, _), labels) = (self.encode(py, &x)?, array(y, "y")?);
        patiently(py, listener, |ui| {
            let args: eval::Args = arguments(&line)?;
            said(&eval::evaluate(ui, &self.file, inputs, &labels, &args)?)
        })
    }

    /// `offshoot inspect`.
    fn inspect(&self, py: Python<'_>, name: &str) -> PyResult<Said> {
        briefly(py, || said(&inspect::compiled(&self.file, name)?))
    }

    /// `offshoot profile`; without samples, of a run on zeros. `source` gives operators their names.
    fn profile(
        &self,
        py: Python<'_>,
        x: Vec<Bound<'_, PyAny>>,
        target: &str,
        source: Option<Source>,
        listener: Option<Py<PyAny>>,
    ) -> PyResult<Said> {
        let given = if x.is_empty() { None } else { Some(self.encode(py, &x)?.0) };
        patiently(py, listener, |_| {
            let inputs = given.map_or_else(|| profile::zeros(&self.file), Ok)?;
            let graph = source.map(|source| source.graph(&Default::default())).transpose()?;
            let mut device = batch::connect(&parse_target(target)?)?;
            let graph = graph.as_ref().map(|(graph, _)| graph);
            said(&profile::profile_with_cycles(device.as_mut(), &self.file, &inputs, target, graph)?)
        })
    }

    /// `offshoot verify`.
    fn verify(
        &self,
        py: Python<'_>,
        source: Source,
        x: Vec<Bound<'_, PyAny>>,
        line: Vec<String>,
        listener: Option<Py<PyAny>>,
    ) -> PyResult<Said> {
        let (arrays, names) = arrays(&x, "x")?;
        patiently(py, listener, |ui| {
            let args: verify::Args = arguments(&line)?;
            let (graph, _) = source.graph(&args.dims.all())?;
            said(&verify::verify(ui, &graph, &self.file, (&arrays, &names), &args)?)
        })
    }

    /// `offshoot learn`: the model that has learned, and the report. The files that `line` names are those of flash and arrays.
    fn learn(
        &self,
        py: Python<'_>,
        train: Option<(Bound<'_, PyAny>, Bound<'_, PyAny>)>,
        test: Option<(Bound<'_, PyAny>, Bound<'_, PyAny>)>,
        line: Vec<String>,
        listener: Option<Py<PyAny>>,
    ) -> PyResult<(Self, Said)> {
        type Pair<'py> = Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>;
        let pair = |data: Pair<'_>, x: &str, y: &str| -> PyResult<Option<(Array, Array)>> {
            data.map(|(samples, labels)| Ok((array(&samples, x)?, array(&labels, y)?))).transpose()
        };
        let (train, test) = (pair(train, "x", "y")?, pair(test, "test[0]", "test[1]")?);
        patiently(py, listener, |ui| {
            let args: learn::Args = arguments(&line)?;
            let target = parse_target(&args.target)?;
            let flash = args.flash.as_deref().map(FlashFile::new);
            let start = learn::Start { flash: flash.as_ref(), arrays: args.import.as_deref() };
            let (train, test) = (train.as_ref(), test.as_ref());
            let trained = learn::train(ui, &self.file, train, test, &args.spec(), &target, start)?;
            let report = said(&trained.report)?;
            Ok((Self::new(trained.going_on()?, Some(trained))?, report))
        })
    }

    /// What the last `learn` learned, as named arrays; none if the model comes from a file.
    fn learned<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(trained) = &self.trained else { return Ok(None) };
        let arrays = PyDict::new(py);
        for (name, array) in trained.arrays().map_err(|f| raised(py, &f))? {
            arrays.set_item(name, to_python(py, array)?)?;
        }
        Ok(Some(arrays))
    }

    /// The model with what the last `learn` learned, for inference alone; none if the model comes from a file.
    fn inference_only(&self, py: Python<'_>) -> PyResult<Option<Self>> {
        let alone = |trained: &Trained| Self::new(trained.inference_only()?, None);
        self.trained.as_ref().map(alone).transpose().map_err(|f| raised(py, &f))
    }
}

/// Reads and validates a file; 0 is its first network.
#[pyfunction]
pub(crate) fn open(py: Python<'_>, path: PathBuf, network: usize) -> PyResult<Network> {
    briefly(py, || Network::new(OffFile::read_network(&path, network)?, None))
}

/// As [`open()`], of the bytes of a file.
#[pyfunction]
pub(crate) fn parse(py: Python<'_>, bytes: &[u8], network: usize) -> PyResult<Network> {
    let parsed = OffFile::parse(bytes, "the model").and_then(|file| file.with_network(network));
    parsed.and_then(|file| Network::new(file, None)).map_err(|failure| raised(py, &failure))
}

/// `offshoot compile`, of a network and calibration samples in memory. `plan` is the text of a learning plan.
#[pyfunction]
pub(crate) fn compile(
    py: Python<'_>,
    source: Source,
    calibration: Vec<Bound<'_, PyAny>>,
    labels: Option<Bound<'_, PyAny>>,
    plan: Option<&str>,
    line: Vec<String>,
    listener: Option<Py<PyAny>>,
) -> PyResult<(Network, Said)> {
    let (samples, names) = arrays(&calibration, "calibration")?;
    let labels = labels.map(|labels| array(&labels, "labels")).transpose()?;
    patiently(py, listener, |ui| {
        let mut args: compiling::Args = arguments(&line)?;
        // A signature belongs to a file.
        if args.sign.is_some() || !args.statement.is_empty() {
            let help = "save the model, and sign its file with `offshoot sign`";
            return Err(Failure::new(Kind::Usage, "a model in memory is not signed", help));
        }
        args.class_numbers = labels;
        args.plan = plan.map(|text| compiling::parse_plan(text, "learn").map(Box::new)).transpose()?;
        let target = args.target.as_deref().map(parse_target).transpose()?;
        let network = source.graph(&args.dims.all())?;
        let (file, report) = compiling::compile(ui, network, (&samples, &names), &args, target.as_ref())?;
        Ok((Network::new(file, None)?, said(&report)?))
    })
}
