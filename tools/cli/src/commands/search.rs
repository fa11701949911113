//! `offshoot search`: searches the sub-networks of a super-network, and the bits of their layers, for the best
//! trade-offs on a target.

mod args;
mod page;
mod setup;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use offshoot_report::table::thousands;
use offshoot_search::evaluate::{Count, Evaluator, Samples, Settings};
use offshoot_search::executor::{Engine, Executor, Job, Jobs, Local, Python, Slurm, perform};
use offshoot_search::metrics::{Constraint, Goal, Measured, Metric};
use offshoot_search::pareto::hypervolume;
use offshoot_search::run::{self, Cache, Outcome as Found, Watch};
use offshoot_search::strategies::{Choice, Evaluated, History};
use offshoot_target::Target;
use offshoot_train::FitOptions;
use serde::Serialize;

use self::setup::Setup;
use super::parse_target;
use crate::failure::{Context, Failure, Kind, Result};
use crate::ui::{Outcome, Ui};
use crate::watch;

pub use args::{Args, Method, Where, parse_clock, parse_hours, parse_time};

/// A point of the front.
#[derive(Clone, Debug, Serialize)]
pub struct FrontPoint {
    /// Name of the point and of its folder.
    pub id: String,
    /// Index of the option chosen for each variable.
    pub encoding: Vec<u16>,
    /// Chosen options by name of the variable.
    pub options: BTreeMap<String, usize>,
    /// Bits of layers with fewer than 8, by name of the operator.
    pub policy: BTreeMap<String, u8>,
    /// Measurements of the point as written.
    pub measured: Measured,
    /// Measurements during the search, with weights inherited from the super-network.
    pub inherited: Measured,
    /// Accuracy on the samples of --test, from 0 to 1.
    pub test_accuracy: Option<f64>,
    /// Folder with model.onnx, model.off, policy.toml and calibration.npy.
    pub folder: String,
    /// Command that compiles it.
    pub command: String,
}

/// Result of `search`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Folder of the search.
    pub output: String,
    /// Strategy that proposed the candidates.
    pub strategy: Method,
    /// Number of candidates in the space.
    pub candidates: f64,
    /// Number of candidates evaluated, including those of earlier calls.
    pub evaluations: usize,
    /// Number of candidates that this call measured.
    pub evaluated: usize,
    /// Number of candidates that could not be measured.
    pub failed: usize,
    /// Why, with the number of candidates of each reason.
    pub failures: BTreeMap<String, usize>,
    /// Numbers of training samples and of held-out samples.
    pub samples: [usize; 2],
    /// Objectives and constraints.
    #[serde(flatten)]
    pub goal: Goal,
    /// Hypervolume of the front after a number of evaluations, normalised to the range of costs seen.
    pub volume: Vec<(usize, f64)>,
    /// Notes of the strategy.
    pub notes: Vec<String>,
    /// The front.
    pub front: Vec<FrontPoint>,
}

/// Result of the command: a search, or one job of it.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Done {
    /// A whole search.
    Search(Box<Report>),
    /// One job.
    Job {
        /// Key of the candidate.
        key: String,
        /// Measurements; none if the candidate could not be compiled.
        measured: Option<Measured>,
        /// Why it could not be compiled.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
}

/// Reasons of failures, one a line.
fn reasons(failures: &BTreeMap<String, usize>) -> String {
    failures.iter().map(|(reason, count)| format!("\n  {count} times: {reason}")).collect()
}

impl Outcome for Done {
    fn render(&self) -> String {
        match self {
            Self::Search(report) => format!(
                "{}: report.html, points/, evaluations.jsonl\n{} candidates evaluated, {} of them now; {} failed{}\n{}\n{}",
                report.output,
                report.evaluations,
                report.evaluated,
                report.failed,
                reasons(&report.failures),
                page::table(&report.front),
                report.notes.join("\n")
            ),
            Self::Job { key, measured, error } => match measured {
                Some(m) => format!("{key}: {:.2} %, {} bytes", 100.0 * m.accuracy, thousands(m.flash)),
                None => format!("{key}: {}", error.as_deref().unwrap_or("failed")),
            },
        }
    }
}

/// Searches, or performs one job.
///
/// # Errors
/// The space or its data cannot be used, a file cannot be written, a target or batch system does not answer, or no
/// candidate meets the constraints.
pub fn run(ui: &Ui, args: &Args) -> Result<Done> {
    if let Some(path) = &args.job {
        let job = Job::read(path).map_err(|e| failure(&e))?;
        let evaluator = Setup::read(&job.search)?.evaluator(ui, &job.search, false)?;
        let entry = perform(&evaluator, path).map_err(|e| failure(&e))?;
        return Ok(Done::Job { key: entry.key, measured: entry.measured, error: entry.error });
    }
    let output = args.output.clone().unwrap_or_default();
    if args.resume && !Setup::is_in(&output) {
        let message = format!("{}: there is no search to resume", output.display());
        let help = "give the folder of a search with -o, or leave out --resume";
        return Err(Failure::new(Kind::NotFound, message, help));
    }
    std::fs::create_dir_all(&output).map_err(|e| Failure::writing(&output, &e))?;
    let target = args.target.as_deref().map(parse_target).transpose()?;
    let goal = goal(args, target.as_ref())?;
    let setup = setup(args, target.as_ref(), &goal)?;
    let test = match args.test.as_slice() {
        [x, y] => Some([x.clone(), y.clone()]),
        _ => None,
    };
    setup.write(&output)?;
    let evaluator = setup.evaluator(ui, &output, true)?;
    let test = test.map(|paths| setup::samples(&evaluator.elastic, &paths)).transpose()?;
    let journal = output.join("evaluations.jsonl");
    let mut cache = Cache::open(Some(&journal)).map_err(|e| failure(&e))?;
    let executor = executor(args, &output)?;
    let mut strategy = Choice::from(args.strategy).strategy(args.seed);
    let end = args.hours.and_then(|h| Instant::now().checked_add(Duration::from_secs_f64(3600.0 * h)));
    let mut watch =
        Progress { ui, bar: ui.progress("evaluating", args.evaluations as u64), goal: goal.clone(), end };
    let found = run::run(
        &evaluator,
        &goal,
        strategy.as_mut(),
        args.evaluations,
        &mut cache,
        executor.as_ref(),
        &mut watch,
    );
    watch.bar.finish_and_clear();
    let found = found.map_err(|e| failure(&e))?;
    let report = report(ui, args, &evaluator, &goal, (&found, &cache), &output, test.as_ref())?;
    let html = page::page(&report, &found.history, &goal)?.render();
    let json = serde_json::to_vec_pretty(&report)
        .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?;
    for (name, bytes) in [("report.html", html.as_bytes()), ("front.json", &json)] {
        let path = output.join(name);
        offshoot_report::write_atomically(&path, bytes).map_err(|e| Failure::writing(&path, &e))?;
    }
    Ok(Done::Search(Box::new(report)))
}

fn goal(args: &Args, target: Option<&Target>) -> Result<Goal> {
    let counts = target.is_some_and(|t| !matches!(t, Target::Host));
    let mut objectives = args.objectives.clone();
    if objectives.is_empty() {
        objectives = vec![Metric::Accuracy, if counts { Metric::Instructions } else { Metric::Flash }];
    }
    if objectives.len() < 2 {
        return Err(Failure::new(
            Kind::Usage,
            "a search needs two objectives or more",
            "give --objectives, such as accuracy,flash",
        ));
    }
    let bound = |metric: Metric, limit: Option<f64>| limit.map(|limit| Constraint { metric, limit });
    let memory = target.and_then(Target::memory);
    let smaller = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b) as f64),
        (a, b) => a.or(b).map(|v| v as f64),
    };
    let constraints: Vec<Constraint> = [
        bound(Metric::Flash, smaller(args.max_flash, memory.map(|(flash, _)| flash))),
        bound(Metric::Ram, smaller(args.max_ram, memory.map(|(_, ram)| ram))),
        bound(Metric::Latency, args.max_latency),
        bound(Metric::Accuracy, args.min_accuracy),
    ]
    .into_iter()
    .flatten()
    .collect();
    let wanted = objectives.iter().chain(constraints.iter().map(|c| &c.metric));
    let counted = |m: &&Metric| matches!(m, Metric::Instructions | Metric::Cycles | Metric::Latency);
    if let Some(metric) = wanted.clone().find(counted).filter(|_| !counts) {
        let message = format!("{metric} can only be counted on an emulated target");
        return Err(Failure::new(Kind::Usage, message, "give --target qemu:cortex-m4"));
    }
    Ok(Goal { objectives, constraints })
}

fn setup(args: &Args, target: Option<&Target>, goal: &Goal) -> Result<Setup> {
    let absolute = |path: &Path| path.canonicalize().map_err(|e| Failure::reading(path, &e));
    let (Some(space), [x, y]) = (&args.space, args.data.as_slice()) else {
        return Err(Failure::new(
            Kind::Usage,
            "the space or its data are missing",
            "give space.toml and --data X.npy Y.npy",
        ));
    };
    let all = goal.objectives.iter().chain(goal.constraints.iter().map(|c| &c.metric));
    let cycles = all.clone().any(|m| matches!(m, Metric::Cycles | Metric::Latency));
    let count = match target {
        Some(t) if !matches!(t, Target::Host) => {
            if cycles {
                Count::Cycles
            } else {
                Count::Instructions
            }
        }
        _ => Count::Nothing,
    };
    let latency = all.clone().any(|m| matches!(m, Metric::Latency));
    let clock = match target {
        Some(Target::Qemu(board)) => f64::from(board.clock_hz),
        Some(Target::Chip(chip)) => match (chip.facts(), args.clock) {
            (Some(facts), _) => f64::from(facts.clock_hz),
            (None, Some(clock)) => clock,
            (None, None) if latency => {
                let message = format!("no clock of {} is in the table of chips", chip.name);
                return Err(Failure::new(Kind::Usage, message, "give it: --clock 48MHz"));
            }
            (None, None) => 1e6,
        },
        _ => 1e6,
    };
    let settings = Settings {
        thorough: args.thorough,
        count,
        clock_hz: args.clock.unwrap_or(clock),
        ..Settings::default()
    };
    Ok(Setup {
        space: absolute(space)?,
        data: [absolute(x)?, absolute(y)?],
        target: args.target.clone(),
        settings,
        limit: args.limit,
        held_out: args.held_out,
        seed: args.seed,
    })
}

fn executor(args: &Args, output: &Path) -> Result<Box<dyn Executor>> {
    if args.executor == Where::Local {
        return Ok(Box::new(Local));
    }
    let program = std::env::current_exe().map_err(|e| Failure::reading(Path::new("offshoot"), &e))?;
    let jobs = Jobs::new(output, &program).map_err(|e| failure(&e))?;
    Ok(match args.executor {
        Where::Local => Box::new(Local),
        Where::Slurm => Box::new(Slurm::new(jobs)),
        Where::Ray => Box::new(Python::new(jobs, Engine::Ray)),
        Where::Dask => Box::new(Python::new(jobs, Engine::Dask)),
    })
}

struct Progress<'u> {
    ui: &'u Ui,
    bar: ProgressBar,
    goal: Goal,
    /// When the time of --hours is over.
    end: Option<Instant>,
}

impl Watch for Progress<'_> {
    fn evaluated(&mut self, done: usize, _: usize) {
        watch::stop_if_cancelled();
        self.bar.set_position(done as u64);
    }

    fn is_over(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }

    fn batch(&mut self, history: &History) -> bool {
        let shown = |e: &Evaluated| {
            let numbers = self.goal.objectives.iter().zip(&e.costs).map(|(m, c)| match m.grows() {
                true => format!("{:.1} %", -100.0 * c),
                false => thousands(*c as u64),
            });
            numbers.collect::<Vec<_>>().join(" ")
        };
        let front = history.front();
        let line: Vec<String> = front.iter().map(|e| shown(e)).collect();
        let text =
            format!("{} evaluated, front of {}: {}", history.all().len(), front.len(), line.join(" | "));
        // Above the progress bar, if there is one.
        match self.bar.is_hidden() {
            true => self.ui.note(&text),
            false => self.bar.println(text),
        }
        true
    }
}

/// Hypervolume of the front after every tenth evaluation, with costs normalised to the range seen.
fn volume(history: &History) -> Vec<(usize, f64)> {
    let kept: Vec<Option<&Evaluated>> = history
        .all()
        .iter()
        .map(|e| Some(e).filter(|e| e.violation == 0.0 && e.costs.iter().all(|c| c.is_finite())))
        .collect();
    let width = history.all().first().map_or(0, |e| e.costs.len());
    let of = |o: usize, start: f64, f: fn(f64, f64) -> f64| {
        kept.iter().flatten().map(|e| e.costs[o]).fold(start, f)
    };
    let (low, high): (Vec<f64>, Vec<f64>) =
        (0..width).map(|o| (of(o, f64::INFINITY, f64::min), of(o, f64::NEG_INFINITY, f64::max))).unzip();
    let unit = |e: &Evaluated| -> Vec<f64> {
        (0..width).map(|o| (e.costs[o] - low[o]) / (high[o] - low[o]).max(1e-12)).collect()
    };
    let n = history.all().len();
    let mut stops: Vec<usize> = (10..=n).step_by(10).chain([n]).collect();
    stops.dedup();
    let at = |n: usize| {
        let costs: Vec<Vec<f64>> = kept[..n].iter().flatten().map(|e| unit(e)).collect();
        (n, hypervolume(&costs, &vec![1.0 + 1e-9; width]))
    };
    stops.into_iter().map(at).collect()
}

fn report(
    ui: &Ui,
    args: &Args,
    evaluator: &Evaluator,
    goal: &Goal,
    (found, cache): (&Found, &Cache),
    output: &Path,
    test: Option<&Samples>,
) -> Result<Report> {
    let history = &found.history;
    let front: Vec<&Evaluated> = history.front();
    let mut failures: BTreeMap<String, usize> = BTreeMap::new();
    for e in history.all().iter().filter(|e| e.measured.is_none()) {
        let error = cache.get(&evaluator.key(&e.encoding)).and_then(|entry| entry.error.clone());
        *failures.entry(error.unwrap_or_else(|| "no reason was kept".into())).or_default() += 1;
    }
    if front.is_empty() {
        let least = history
            .all()
            .iter()
            .filter(|e| e.measured.is_some())
            .min_by(|a, b| a.violation.total_cmp(&b.violation));
        let near = least.and_then(|e| e.measured.as_ref()).map_or_else(
            || format!("none could be measured:{}", reasons(&failures)),
            |m| {
                format!(
                    "the nearest: {:.2} %, {} bytes of flash, {} of RAM, {} ms",
                    100.0 * m.accuracy,
                    thousands(m.flash),
                    thousands(m.ram),
                    m.latency_ms.map_or("-".into(), |l| format!("{l:.2}"))
                )
            },
        );
        let message = format!("none of {} candidates meets the limits; {near}", history.all().len());
        return Err(Failure::new(
            Kind::Budget,
            message,
            "raise the limits or --evaluations, or add smaller options to the space",
        ));
    }
    // If there are too many points, take them at even distances.
    let count = args.points.clamp(1, front.len());
    let chosen = (0..count).map(|i| front[if count > 1 { i * (front.len() - 1) / (count - 1) } else { 0 }]);
    let bar = ui.progress("writing the front", count as u64);
    let mut points = Vec::new();
    for (i, e) in chosen.enumerate() {
        let id = format!("{i:02}");
        let folder = output.join("points").join(&id);
        let candidate = match args.tune_epochs {
            0 => evaluator.candidate(&e.encoding),
            epochs => {
                let options = FitOptions {
                    epochs,
                    rate: 1e-3,
                    clip: Some(5.0),
                    seed: args.seed,
                    ..FitOptions::default()
                };
                evaluator.tuned(&e.encoding, &options, Some((2.0, 0.5)), &mut ())
            }
        };
        let candidate = candidate.map_err(|e| failure(&e))?;
        let inherited = e.measured.clone().unwrap_or_default();
        let measured = match args.tune_epochs {
            0 => inherited.clone(),
            _ => evaluator.measure(&candidate).map_err(|e| failure(&e))?,
        };
        let (command, test_accuracy) = page::export(evaluator, &candidate, &folder, test)?;
        let space = &evaluator.elastic.space;
        let names = space.variables.iter().map(|v| v.name.clone());
        points.push(FrontPoint {
            id,
            encoding: e.encoding.clone(),
            options: names.zip(space.values(&e.encoding)).collect(),
            policy: candidate.bits.layers.clone(),
            measured,
            inherited,
            test_accuracy,
            folder: folder.display().to_string(),
            command,
        });
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(Report {
        output: output.display().to_string(),
        strategy: args.strategy,
        candidates: evaluator.elastic.space.size(),
        evaluations: history.all().len(),
        evaluated: found.evaluated,
        failed: failures.values().sum(),
        failures,
        samples: [evaluator.train().y.len(), evaluator.held().y.len()],
        goal: goal.clone(),
        volume: volume(history),
        notes: found.notes.clone(),
        front: points,
    })
}

fn failure(error: &offshoot_search::Error) -> Failure {
    use offshoot_search::Error;
    let (kind, help) = match error {
        Error::Space(_) | Error::Encoding(_) => {
            (Kind::Format, "correct space.toml; tools/search/README.md lists its fields")
        }
        Error::File { .. } => (Kind::Io, "check the file, or remove it if it is damaged"),
        Error::Data(_) => (Kind::Mismatch, "give samples and class numbers that fit the network"),
        Error::Executor { .. } => (Kind::Device, "check the batch system, or use --executor local"),
        Error::Target(_) => (Kind::Device, crate::batch::DEVICE_HELP),
        Error::Train(_) => {
            (Kind::Mismatch, "give data that fit the network; lower the learning rate if training diverged")
        }
        Error::Compress(_) | Error::Export(_) => (Kind::Unsupported, "replace the operators named above"),
        _ => (Kind::Internal, "this is a bug in Offshoot: report it with this message"),
    };
    Failure::new(kind, error.to_string(), help)
}
