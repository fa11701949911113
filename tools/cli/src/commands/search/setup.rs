//! The setup of a search, a file in its folder, so that jobs on other machines evaluate in the same way.

use std::path::{Path, PathBuf};

use ndarray::ArrayD;
use offshoot_compress::prune::{self, Groups, Score};
use offshoot_search::elastic::{Elastic, sort};
use offshoot_search::evaluate::{Evaluator, Samples, Settings};
use offshoot_search::file::SpaceFile;
use offshoot_search::{saved, training};
use offshoot_target::Target;
use offshoot_train::{Checkpoint, Control, Observer, Step};
use serde::{Deserialize, Serialize};

use super::super::{parse_target, read_array};
use super::failure;
use crate::failure::{Context, Failure, Kind, Result};
use crate::port::Port;
use crate::ui::Ui;
use crate::watch;

/// Everything that determines the result of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Setup {
    /// Path of `space.toml`.
    pub(super) space: PathBuf,
    /// Paths of samples and class numbers.
    pub(super) data: [PathBuf; 2],
    /// Target to count instructions on.
    pub(super) target: Option<String>,
    /// How candidates are evaluated.
    pub(super) settings: Settings,
    /// Most samples to use.
    pub(super) limit: Option<usize>,
    /// Most samples to hold out.
    pub(super) held_out: usize,
    /// Seed of the split.
    pub(super) seed: u64,
}

const FILE: &str = "search.json";

impl Setup {
    /// Whether a folder holds a search.
    pub(super) fn is_in(folder: &Path) -> bool {
        folder.join(FILE).exists()
    }

    /// Reads the setup of a folder.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let bytes = std::fs::read(&path).map_err(|e| Failure::reading(&path, &e))?;
        serde_json::from_slice(&bytes).or_fail_in(
            Kind::Format,
            path.display(),
            "the file is damaged: remove it, or give another folder with -o",
        )
    }

    /// Writes the setup. A folder that holds another search is refused.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        if path.exists() && Self::read(folder)? != *self {
            let message = format!(
                "{} holds a search with another space, other data or other settings",
                folder.display()
            );
            return Err(Failure::new(
                Kind::Mismatch,
                message,
                "give another folder with -o, or remove that one",
            ));
        }
        let bytes = serde_json::to_vec_pretty(self)
            .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?;
        offshoot_report::write_atomically(&path, &bytes).map_err(|e| Failure::writing(&path, &e))
    }

    /// The evaluator. If the super-network is not trained yet, trains it if `train` is set and fails otherwise.
    pub(super) fn evaluator(&self, ui: &Ui, folder: &Path, train: bool) -> Result<Evaluator> {
        let file = SpaceFile::read(&self.space).map_err(|e| failure(&e))?;
        let beside = self.space.parent().unwrap_or(Path::new("."));
        let mut elastic = file.elastic(beside).map_err(|e| failure(&e))?;
        let all = samples(&elastic, &self.data)?;
        let [learned, held] = self.split(&all)?;
        let path = folder.join("super-network.bin");
        match saved::read(&path).map_err(|e| failure(&e))? {
            Some(graph) => {
                elastic =
                    Elastic::new(graph, elastic.space, file.elasticity().split()).map_err(|e| failure(&e))?;
            }
            None if !train => {
                let message = format!("{}: the super-network is not trained yet", path.display());
                return Err(Failure::new(
                    Kind::NotFound,
                    message,
                    "start the search first (`offshoot search space.toml`): it trains the super-network",
                ));
            }
            None => {
                if file.onnx.is_some() {
                    elastic = by_importance(elastic, &learned, &file)?;
                }
                train_super(ui, &mut elastic, &learned, &file, folder)?;
                saved::write(&path, &elastic.graph).map_err(|e| failure(&e))?;
                let _ = std::fs::remove_file(checkpoint(folder));
            }
        }
        let tasks = file
            .task
            .iter()
            .map(|t| Ok((t.name.clone(), samples(&elastic, &t.test.each_ref().map(|p| beside.join(p)))?)))
            .collect::<Result<Vec<_>>>()?;
        let target: Option<Target> = self.target.as_deref().map(parse_target).transpose()?;
        let operators = folder.join("operators.jsonl");
        // Only the search writes this file: several workers must not write to it at once.
        let operators = train.then_some(operators.as_path());
        Evaluator::new(elastic, self.settings.clone(), learned, held, tasks, target, operators)
            .map_err(|e| failure(&e))
    }

    /// Shuffles by the seed and holds out the first fifth.
    fn split(&self, all: &Samples) -> Result<[Samples; 2]> {
        let n = all.y.len();
        if n < 10 {
            return Err(Failure::new(
                Kind::Shape,
                format!("{n} samples are too few"),
                "give ten samples or more with --data",
            ));
        }
        let order = offshoot_train::shuffled(n, self.seed, 0);
        let order = &order[..self.limit.unwrap_or(n).clamp(10, n)];
        let (held, learned) = order.split_at((order.len() / 5).clamp(1, self.held_out.max(1)));
        let part = |chosen: &[usize]| Samples {
            x: all.x.select(ndarray::Axis(0), chosen),
            y: chosen.iter().map(|&i| all.y[i]).collect(),
        };
        Ok([part(learned), part(held)])
    }
}

fn checkpoint(folder: &Path) -> PathBuf {
    folder.join("training.checkpoint")
}

/// Samples and class numbers of two files, in the layout of the network's input.
pub(super) fn samples(elastic: &Elastic, paths: &[PathBuf; 2]) -> Result<Samples> {
    let graph = &elastic.graph;
    if graph.inputs.len() != 1 {
        let message = format!("the network has {} inputs; search needs one", graph.inputs.len());
        return Err(Failure::new(Kind::Unsupported, message, "give a network with one input"));
    }
    let port = Port::of_value(graph, graph.inputs[0]);
    let (x, y) = (read_array(&paths[0])?, read_array(&paths[1])?);
    let rows = port.real(&x, &paths[0].display().to_string())?;
    let y: Vec<i64> = y
        .to_i64()
        .or_fail_in(Kind::Dtype, paths[1].display(), "give whole class numbers, counted from 0")?
        .into_iter()
        .collect();
    if y.len() != rows.len() {
        let message = format!("{}: {} labels for {} samples", paths[1].display(), y.len(), rows.len());
        return Err(Failure::new(Kind::Shape, message, "give one class number per sample"));
    }
    let batchless = port.shape.first() == Some(&1);
    let shape = [&[rows.len()], &port.shape[usize::from(batchless)..]].concat();
    let x = ArrayD::from_shape_vec(shape, rows.concat())
        .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?;
    let samples = Samples { x, y };
    samples.checked(graph).map_err(|e| failure(&e))
}

/// Sorts channels by importance (Taylor score), so that prefixes hold the most important ones.
fn by_importance(elastic: Elastic, learned: &Samples, file: &SpaceFile) -> Result<Elastic> {
    let split = file.elasticity().split();
    let help = "give data of the kind that the network was trained on";
    let groups = Groups::elastic(&elastic.graph, split).or_fail(Kind::Unsupported, help)?;
    let data = learned.head(256).dataset();
    let scores =
        prune::scores(&elastic.graph, &groups, Score::Taylor, &data, 32).or_fail(Kind::Mismatch, help)?;
    let graph = sort(&elastic.graph, &groups, &scores);
    Elastic::new(graph, elastic.space, split).map_err(|e| failure(&e))
}

fn train_super(
    ui: &Ui,
    elastic: &mut Elastic,
    learned: &Samples,
    file: &SpaceFile,
    folder: &Path,
) -> Result<()> {
    if file.training.epochs == 0 {
        return Ok(());
    }
    struct Bar(indicatif::ProgressBar);
    impl Observer for Bar {
        fn step(&mut self, step: &Step) -> Control {
            watch::stop_if_cancelled();
            self.0.set_length(step.of as u64);
            self.0.set_position(step.number as u64);
            Control::Continue
        }
    }
    ui.note(
        "training the super-network; if stopped, run the same command again to continue from its checkpoint",
    );
    let mut bar = Bar(ui.progress("training", 0));
    let saved = Some(Checkpoint { path: checkpoint(folder), every: 20 });
    let trained = training::train(elastic, &learned.dataset(), &file.training, saved, &mut bar);
    bar.0.finish_and_clear();
    trained.map(|_| ()).map_err(|e| failure(&e))
}
