//! The two data sets, their hand-made reference networks and their super-networks.

use std::path::{Path, PathBuf};

use ndarray::{Array4, ArrayD, Axis};
use offshoot_data::npy;
use offshoot_ir::Graph;
use offshoot_search::elastic::Elastic;
use offshoot_search::evaluate::{Evaluator, Samples, Settings};
use offshoot_search::file::SpaceFile;
use offshoot_search::{saved, training};
use offshoot_target::Target;
use offshoot_train::shared::resample;
use offshoot_train::{Checkpoint, Control, FitOptions, Observer, Step, fit};

use crate::Result;

/// One data set with all that is made of it.
pub(crate) struct Task {
    pub(crate) out: PathBuf,
    pub(crate) train: Samples,
    /// What a search judges by.
    pub(crate) held: Samples,
    /// What is reported.
    pub(crate) test: Samples,
    pub(crate) space: SpaceFile,
    epochs: usize,
}

/// The DS-CNN of MLPerf Tiny as the largest network, its blocks, widths, kernels and bits elastic.
const DIGITS: &str = include_str!("digits.toml");
/// ResNet-8 of MLPerf Tiny on images of 16 × 16 as the largest network.
const CIFAR: &str = include_str!("cifar.toml");

impl Task {
    pub(crate) fn read(name: &str, out: PathBuf) -> Result<Self> {
        let folder = std::env::var_os("OFFSHOOT_DATA").map_or_else(|| "../shared/data".into(), PathBuf::from);
        let (text, [train, held, test]) = match name {
            "digits" => (DIGITS, digits(&folder)?),
            "cifar" => (CIFAR, cifar(&folder)?),
            other => return Err(format!("no data set `{other}`").into()),
        };
        let space = SpaceFile::parse(text)?;
        let epochs = space.training.epochs;
        Ok(Self { out, train, held, test, space, epochs })
    }

    /// The largest network trained alone.
    pub(crate) fn reference(&self) -> Result<Graph> {
        let elastic = self.space.elastic(Path::new("."))?;
        self.alone("reference", &elastic.graph, self.epochs)
    }

    /// A network trained alone, with the settings of the super-network.
    pub(crate) fn alone(&self, name: &str, graph: &Graph, epochs: usize) -> Result<Graph> {
        let path = self.out.join(format!("{name}.bin"));
        if let Some(graph) = saved::read(&path)? {
            return Ok(graph);
        }
        let options = self.options(name, epochs);
        let mut data = self.train.dataset();
        let wanted = &graph.value(graph.inputs[0]).shape;
        if data.inputs[0].shape()[1..3] != wanted[1..3] {
            data.inputs[0] = resample(&data.inputs[0], [wanted[1], wanted[2]])?;
        }
        let (graph, _) = fit(graph, &data, &options, &mut Say(name.into()))?;
        saved::write(&path, &graph)?;
        Ok(graph)
    }

    pub(crate) fn options(&self, name: &str, epochs: usize) -> FitOptions {
        let t = &self.space.training;
        FitOptions {
            epochs,
            batch: t.batch,
            rate: t.rate,
            decay: t.decay,
            clip: Some(5.0),
            checkpoint: Some(Checkpoint { path: self.out.join(format!("{name}.checkpoint")), every: 10 }),
            ..FitOptions::default()
        }
    }

    /// The super-network, trained.
    pub(crate) fn elastic(&self) -> Result<Elastic> {
        self.trained("super", &self.space)
    }

    /// The super-network of a space, trained and kept under a name.
    pub(crate) fn trained(&self, name: &str, space: &SpaceFile) -> Result<Elastic> {
        let mut elastic = space.elastic(Path::new("."))?;
        let path = self.out.join(format!("{name}.bin"));
        if let Some(graph) = saved::read(&path)? {
            return Ok(Elastic::new(graph, elastic.space, space.elasticity().split())?);
        }
        let checkpoint = Some(Checkpoint { path: self.out.join(format!("{name}.checkpoint")), every: 10 });
        let data = self.train.dataset();
        training::train(&mut elastic, &data, &space.training, checkpoint, &mut Say(name.into()))?;
        saved::write(&path, &elastic.graph)?;
        Ok(elastic)
    }

    pub(crate) fn evaluator(&self, elastic: Elastic, thorough: bool, held: &Samples) -> Result<Evaluator> {
        let settings = Settings {
            thorough,
            recalibration: 96,
            calibration: if thorough { 100 } else { 24 },
            ..Settings::default()
        };
        let target = Target::parse("qemu:cortex-m4")?;
        let operators = self.out.join("operators.jsonl");
        let held = held.clone();
        Ok(Evaluator::new(
            elastic,
            settings,
            self.train.clone(),
            held,
            vec![],
            Some(target),
            Some(&operators),
        )?)
    }
}

struct Say(String);

impl Observer for Say {
    fn step(&mut self, step: &Step) -> Control {
        if step.number.is_multiple_of(20) || step.number == step.of {
            eprintln!("{}: step {} of {}, loss {:.3}", self.0, step.number, step.of, step.loss);
        }
        Control::Continue
    }
}

fn read(path: PathBuf) -> Result<(ArrayD<f32>, PathBuf)> {
    let array = npy::read(&path)?;
    Ok((array.to_f32(), path))
}

fn whole(path: &Path) -> Result<Vec<i64>> {
    Ok(npy::read(path)?.to_i64()?.iter().copied().collect())
}

/// Takes 0 to 4 are the test set, 5 to 9 what the search judges by, the others are learned from; coefficients standardised.
fn digits(folder: &Path) -> Result<[Samples; 3]> {
    let folder = folder.join("spoken_digits");
    let (x, _) = read(folder.join("x.npy"))?;
    let (y, take) = (whole(&folder.join("y.npy"))?, whole(&folder.join("take.npy"))?);
    let mut x = x.into_shape_with_order((y.len(), 49, 10, 1))?;
    let learned: Vec<usize> = (0..y.len()).filter(|&i| take[i] >= 10).collect();
    for c in 0..10 {
        let all: Vec<f32> = learned
            .iter()
            .flat_map(|&i| (0..49).map(move |t| (i, t)))
            .map(|(i, t)| x[[i, t, c, 0]])
            .collect();
        let mean = all.iter().sum::<f32>() / all.len() as f32;
        let variance = all.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / all.len() as f32;
        x.index_axis_mut(Axis(2), c).mapv_inplace(|v| (v - mean) / variance.sqrt().max(1e-6));
    }
    let part = |keep: &dyn Fn(i64) -> bool| {
        let chosen: Vec<usize> = (0..y.len()).filter(|&i| keep(take[i])).collect();
        // Digits mixed, so that any first samples are of all of them.
        let order = offshoot_train::shuffled(chosen.len(), 3, 0);
        let chosen: Vec<usize> = order.into_iter().map(|i| chosen[i]).collect();
        Samples { x: x.select(Axis(0), &chosen).into_dyn(), y: chosen.iter().map(|&i| y[i]).collect() }
    };
    Ok([part(&|t| t >= 10), part(&|t| (5..10).contains(&t)), part(&|t| t < 5)])
}

/// Images averaged to 16 × 16, in -1..1: 8,000 to learn from, 500 to judge by, 2,000 to report.
fn cifar(folder: &Path) -> Result<[Samples; 3]> {
    let part = |which: &str, range: std::ops::Range<usize>| -> Result<Samples> {
        let (x, _) = read(folder.join(format!("cifar10/{which}_x.npy")))?;
        let y = whole(&folder.join(format!("cifar10/{which}_y.npy")))?;
        let x = x.slice_axis(Axis(0), range.clone().into()).mapv(|v| v / 127.5 - 1.0);
        let x: Array4<f32> = resample(&x, [16, 16])?.into_dimensionality()?;
        Ok(Samples { x: x.into_dyn(), y: y[range].to_vec() })
    };
    Ok([part("train", 0..8000)?, part("train", 8000..8500)?, part("test", 0..2000)?])
}
