//! `offshoot compress`: shrinks a network until it fits a budget.

mod args;
mod judge;
mod limits;
mod page;
mod planned;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use offshoot_compress::plan::{self, Erase, FewerBits, Joint, Prune, Work};
use offshoot_compress::prune::{self, Counted, FamilyReport, Instructions, PruneOptions, Size};
use offshoot_compress::quantize::Policy;
use offshoot_data::npy::Array;
use offshoot_ir::Graph;
use offshoot_search::operators::Operators;
use offshoot_target::Target;
use offshoot_train::Checkpoint;
use serde::Serialize;

use super::{compile, parse_target, profile, read_array};
use crate::batch;
use crate::failure::{Context, Failure, Kind, Result};
use crate::files::{self, OffFile};
use crate::ui::{Outcome, Ui};

pub use args::{
    Args, Augmentation, Limit, Method, Ranking, parse_bits, parse_limit, parse_percent, parse_ratio,
    parse_share,
};
use judge::{Judge, Watch, split};
use limits::{TRIMS, check_loss, exceeded, tighten};
use planned::Plan;

/// A network between the uncompressed one and the result.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// Stage of compression: `uncompressed`, `period N` or `result`.
    pub stage: String,
    /// Size of its int8 form.
    #[serde(flatten)]
    pub size: Size,
    /// Accuracy of its int8 form on the held-out samples, from 0 to 1.
    pub accuracy: f64,
}

/// Result of `compress`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Folder written.
    pub output: String,
    /// Methods used.
    pub method: Vec<Method>,
    /// What each method did.
    pub done: Vec<String>,
    /// Layers whose weights have fewer than 8 bits. (policy.toml has them under the names of model.onnx.)
    pub weight_bits: BTreeMap<String, u8>,
    /// Score that ranked the channels.
    pub score: Ranking,
    /// Limits.
    pub limits: Budget,
    /// What the end of --hours has cut short.
    pub unfinished: Option<String>,
    /// Numbers of training samples and of held-out samples.
    pub samples: [usize; 2],
    /// With --test: accuracy of the uncompressed network and of the result in int8, on samples that nothing was chosen
    /// on.
    pub test: Option<Tested>,
    /// The first is the uncompressed network, the last the result.
    pub points: Vec<Point>,
    /// Groups of channels before and after.
    pub families: Vec<FamilyReport>,
    /// Operators before and after.
    pub operators: Vec<OperatorChange>,
}

/// Limits of a result; what has none is null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Budget {
    /// Bytes of the `.off` file.
    pub flash: Option<u64>,
    /// Bytes of arena.
    pub ram: Option<u64>,
    /// Multiply-accumulates.
    pub macs: Option<u64>,
    /// Instructions of a run.
    pub instructions: Option<u64>,
    /// Accuracy to lose, from 0 to 1.
    pub loss: Option<f64>,
}

/// Accuracies on the samples of --test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Tested {
    /// Number of samples.
    pub samples: usize,
    /// Accuracy of the uncompressed network, from 0 to 1.
    pub before: f64,
    /// Accuracy of the result.
    pub after: f64,
}

/// One operator with weights before and after.
#[derive(Clone, Debug, Serialize)]
pub struct OperatorChange {
    /// Its name.
    pub name: String,
    /// Output channels.
    pub channels: [usize; 2],
    /// Weights.
    pub weights: [u64; 2],
    /// Bits per weight in the result.
    pub bits: u8,
    /// Multiply-accumulates.
    pub macs: [u64; 2],
}

impl Outcome for Report {
    fn render(&self) -> String {
        format!(
            "{}: model.off, model.onnx, policy.toml, plan.toml, report.html, report.json\n{}\n{}\n{}\n{}\n{}",
            self.output,
            self.done.iter().chain(&self.unfinished).map(String::as_str).collect::<Vec<_>>().join("\n"),
            page::budget(self),
            page::points(self),
            page::judged(self),
            page::operators(self)
        )
    }
}

/// Compresses and writes the results.
///
/// # Errors
/// A file cannot be read or written, the data do not fit, or the budget cannot be met (the message names the nearest
/// point that was reached).
pub fn run(ui: &Ui, args: &Args) -> Result<Report> {
    let target = args.target.as_deref().map(parse_target).transpose()?;
    resumed(ui, args)?;
    let (graph, _) = files::read_graph(&args.model)?;
    let (x, y) = (read_array(&args.data[0])?, read_array(&args.data[1])?);
    std::fs::create_dir_all(&args.output).map_err(|e| Failure::writing(&args.output, &e))?;
    let test = match args.test.as_slice() {
        [x, y] => Some((read_array(x)?, read_array(y)?)),
        _ => None,
    };
    let mut made = compress(ui, &graph, &x, &y, args, target.as_ref())?;
    if let Some((x, y)) = &test {
        made.report.test = Some(judge::test(ui, &graph, &made, x, y, args)?);
    }
    let html = page::page(args, &made.report)?.render();
    let json = serde_json::to_string_pretty(&made.report)
        .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?;
    let policy = toml::to_string(&made.policy)
        .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?;
    let plan = Plan::of(&made.report).text()?;
    for (name, bytes) in [
        ("model.off", made.off.as_slice()),
        ("model.onnx", &made.onnx),
        ("policy.toml", policy.as_bytes()),
        ("plan.toml", plan.as_bytes()),
        ("report.json", json.as_bytes()),
        ("report.html", html.as_bytes()),
    ] {
        let path = args.output.join(name);
        offshoot_report::write_atomically(&path, bytes).map_err(|e| Failure::writing(&path, &e))?;
    }
    // The checkpoints are no longer needed.
    if made.report.unfinished.is_none() {
        checkpoints(args).for_each(|path| drop(std::fs::remove_file(path)));
    }
    Ok(made.report)
}

/// Where training may be saved: in its periods, after operators were left out, with rounded weights, and at its end.
fn checkpoints(args: &Args) -> impl Iterator<Item = PathBuf> + use<> {
    let first = checkpoint(args).into_os_string();
    let periods = (1..=args.periods).map(|p| format!("-period{p}"));
    ["", "-erased", "-rounded"].map(String::from).into_iter().chain(periods).map(move |suffix| {
        let mut path = first.clone();
        path.push(suffix);
        path.into()
    })
}

/// Says that training goes on where it was stopped, or that there is none to go on with.
fn resumed(ui: &Ui, args: &Args) -> Result<()> {
    match checkpoints(args).find(|path| path.exists()) {
        Some(path) => ui.note(&format!("{}: going on with this training", path.display())),
        None if args.resume => {
            let message = format!("{}: there is no training to resume", args.output.display());
            let help = "give the folder of a run that was stopped with -o, or leave out --resume";
            return Err(Failure::new(Kind::NotFound, message, help));
        }
        None => {}
    }
    Ok(())
}

fn checkpoint(args: &Args) -> PathBuf {
    args.output.join("fine-tuning.checkpoint")
}

/// A compressed network that has not been written yet.
#[derive(Debug)]
pub struct Made {
    /// The bytes of its ONNX file.
    pub onnx: Vec<u8>,
    /// Bits of each layer's weights, step sizes and ranges, by the names in the ONNX file. Both together compile to `off`.
    pub policy: Policy,
    /// The bytes of its `.off` file.
    pub off: Vec<u8>,
    /// The bytes of the uncompressed network's `.off` file.
    pub whole: Vec<u8>,
    /// The report.
    pub report: Report,
}

/// Compresses. Writes nothing except checkpoints of fine-tuning.
///
/// # Errors
/// As [`run`].
pub fn compress(
    ui: &Ui,
    graph: &Graph,
    x: &Array,
    y: &Array,
    args: &Args,
    target: Option<&Target>,
) -> Result<Made> {
    let end = args.hours.and_then(|h| Instant::now().checked_add(Duration::from_secs_f64(3600.0 * h)));
    let split = split(graph, x, y, args)?;
    let core = target.and_then(Target::board).map(compile::core);
    let judge = Judge { ui, split: &split, target, core };
    let count = counter(target, args)?;
    let given = args.plan.as_deref().map(Plan::read).transpose()?;
    given.iter().try_for_each(|plan| planned::check_bits(graph, plan))?;
    let (mut whole, whole_off) = judge.point(graph, "uncompressed", None)?;
    if count.is_some() {
        whole.size.instructions = Some(instructions(target, &whole_off)?);
    }
    let limits = [(args.max_flash, whole.size.flash), (args.max_ram, whole.size.ram)];
    let mut limits = limits.map(|(limit, whole)| limit.map(|l| l.bytes(whole)));
    if let Some((flash, ram)) = target.and_then(Target::memory) {
        for (limit, has) in limits.iter_mut().zip([flash, ram]) {
            *limit = Some(limit.map_or(has, |l| l.min(has)));
        }
    }
    let by_layer = given.is_some() || !args.ratio.is_empty();
    let limited = limits != [None, None] || args.max_macs.is_some() || args.max_instructions.is_some();
    if !limited && !by_layer {
        let help = "give --max-flash, --max-ram, --max-macs, or --max-instructions with --target, an emulated --target, \
         --ratio, or a --plan";
        return Err(Failure::new(Kind::Usage, "no budget was given", help));
    }
    let options = PruneOptions {
        max_flash: limits[0],
        max_ram: limits[1],
        max_instructions: (args.max_instructions.zip(whole.size.instructions))
            .map(|(l, whole)| l.bytes(whole)),
        instructions: count.clone(),
        core: core.unwrap_or_default(),
        max_macs: args.max_macs.map(|l| l.bytes(whole.size.macs)),
        augment: args.augment.of(&graph.value(graph.inputs[0]).shape),
        mix: args.mix,
        distil: args.distil,
        smoothing: args.smoothing,
        fade_epochs: args.fade_epochs,
        keep: args.keep.clone(),
        ratios: planned::ratios(graph, given.as_ref(), args)?,
        normalise: !args.no_normalisation,
        score: args.score.into(),
        multiple: args.multiple,
        periods: args.periods,
        refit_samples: args.refit_samples,
        epochs: args.epochs,
        rate: args.rate,
        seed: args.seed,
        checkpoint: Some(Checkpoint { path: checkpoint(args), every: 50 }),
        ..PruneOptions::default()
    };
    let budget = Budget {
        flash: options.max_flash,
        ram: options.max_ram,
        macs: options.max_macs,
        instructions: options.max_instructions,
        loss: args.max_loss,
    };
    let mut watch = Watch {
        bar: ui.progress("scoring channels", 0),
        judge: &judge,
        points: vec![whole.clone()],
        end,
        part: Default::default(),
        cut: Default::default(),
    };
    let work = Work { original: graph, data: &split.train, options: options.clone(), progress: &mut watch };
    let state = plan::run_any(&plans(args, given.as_ref()), work);
    watch.bar.finish_and_clear();
    let state = state.map_err(|e| compression_failure(&e))?;
    let mut small = state.graph;
    let mut points = watch.points;
    let unfinished = watch.cut.into_inner().map(|(what, done, total)| {
        format!(
            "the time of --hours was over in step {done} of {total} of {what}: the same command goes on there"
        )
    });
    let mut tight = options.clone();
    let mut tries = 0;
    let (onnx, policy, mut last, off) = loop {
        let (onnx, policy, again) = judge.settled(&small, &state.weight_bits, args)?;
        let (mut last, off) = judge.point(&again, "result", Some(&policy))?;
        if count.is_some() {
            last.size.instructions = Some(instructions(target, &off)?);
        }
        if prune::fits(last.size, &options) {
            break (onnx, policy, last, off);
        }
        // Ranges of all samples may give other multipliers than those of the few that candidates are measured with, and so
        // other kernels.
        let prunes = given.is_some() || args.method.iter().any(|m| matches!(m, Method::Auto | Method::Prune));
        if !prunes || tries == TRIMS {
            return Err(exceeded(last.size, &budget));
        }
        tries += 1;
        tighten(&mut tight, last.size, &options);
        small = prune::trim(&small, &split.train, &tight, &state.weight_bits)
            .map_err(|e| compression_failure(&e))?;
    };
    if points.last().is_some_and(|p| p.size.flash == last.size.flash) && points.len() > 1 && args.epochs == 0
    {
        // Without fine-tuning, the last period's network is the result.
        points.pop();
    }
    last.stage = match unfinished {
        None => format!("result ({} epochs)", args.epochs),
        Some(_) => "result (training unfinished)".into(),
    };
    points.push(last);
    check_loss(&points, args)?;
    let samples = [split.train.len(), split.count];
    let operators = changes(graph, &small, &state.weight_bits);
    let report = Report {
        output: args.output.display().to_string(),
        method: args.method.clone(),
        done: state.done,
        weight_bits: state.weight_bits.layers.clone(),
        score: args.score,
        limits: budget,
        unfinished,
        samples,
        test: None,
        points,
        families: state.families,
        operators,
    };
    Ok(Made { onnx, policy, off, whole: whole_off, report })
}

/// The sequences of methods to try in turn.
fn plans(args: &Args, given: Option<&Plan>) -> Vec<Vec<Box<dyn plan::Method>>> {
    let joint = |fewest: u8, bits: BTreeMap<String, u8>| -> Box<dyn plan::Method> {
        Box::new(Joint { bits, fewest, epochs: args.rounded_epochs })
    };
    if let Some(given) = given {
        // What a plan says is done; only what it leaves open is chosen.
        return vec![vec![joint(8, given.bits.clone())], vec![joint(args.fewest_bits, given.bits.clone())]];
    }
    let bits = || Box::new(FewerBits { fewest: args.fewest_bits, epochs: args.rounded_epochs });
    let each = |method: &Method| -> Vec<Box<dyn plan::Method>> {
        match method {
            Method::Auto => vec![joint(args.fewest_bits, BTreeMap::new())],
            Method::Prune => vec![Box::new(Prune)],
            Method::Erase => vec![Box::new(Erase { count: args.erase })],
            Method::Bits => vec![bits()],
        }
    };
    vec![args.method.iter().flat_map(each).collect()]
}

/// Counts instructions on an emulated target, if they are limited.
fn counter(target: Option<&Target>, args: &Args) -> Result<Option<Instructions>> {
    if args.max_instructions.is_none() {
        return Ok(None);
    }
    let Some(target @ (Target::Qemu(_) | Target::Chip(_))) = target.cloned() else {
        let help = "give --target qemu:cortex-m4 or another emulated board";
        return Err(Failure::new(Kind::Usage, "--max-instructions needs an emulated target", help));
    };
    // Candidates share most of their operators: each is measured once.
    let help = "this is a bug in Offshoot: report it with this message";
    let operators = Operators::new(target, None).or_fail(Kind::Internal, help)?;
    let count = move |off: &[u8]| match operators.counts(off) {
        Ok((total, operators)) => Ok(Counted { total, operators }),
        Err(e) => Err(offshoot_compress::Error::Watcher(Box::new(e))),
    };
    Ok(Some(Instructions(Arc::new(count))))
}

/// Instructions of one run of a file, measured as a whole.
fn instructions(target: Option<&Target>, off: &[u8]) -> Result<u64> {
    let help = "give an emulated --target, such as qemu:cortex-m4";
    let cannot = || Failure::new(Kind::Device, "the target cannot count instructions", help);
    let file = OffFile::from_bytes(off);
    let mut device = batch::connect(target.ok_or_else(cannot)?)?;
    let inputs = profile::zeros(&file)?;
    let report = profile::profile(device.as_mut(), &file, &inputs, "", None)?;
    report.instructions.ok_or_else(cannot)
}

fn compression_failure(error: &offshoot_compress::Error) -> Failure {
    use offshoot_compress::Error;
    let (kind, help) = match error {
        Error::Budget { .. } => {
            (Kind::Budget, "raise the limit that is exceeded, or name fewer layers to --keep")
        }
        Error::AlreadyQuantized { .. } => {
            (Kind::Usage, "the network is already quantised: give the float network")
        }
        Error::Training(offshoot_train::Error::Checkpoint { .. }) => {
            (Kind::Mismatch, "remove that file, or give the arguments that it was written with")
        }
        Error::Training(_) => (Kind::Mismatch, "give data of the kind that the network was trained on"),
        _ => (Kind::Internal, "this is a bug in Offshoot: report it with the model"),
    };
    Failure::new(kind, error.to_string(), help)
}

/// Compares operators with weights by name; one that was removed has zeros after.
fn changes(
    graph: &Graph,
    small: &Graph,
    bits: &offshoot_compress::quantize::WeightBits,
) -> Vec<OperatorChange> {
    use offshoot_ir::cost::{macs, weights};
    let layers = graph.nodes.iter().filter(|n| weights(graph, n) > 0);
    let channels = |g: &Graph, n: &offshoot_ir::Node| g.value(n.output).shape.last().copied().unwrap_or(1);
    let change = |a: &offshoot_ir::Node| {
        let b = small.nodes.iter().find(|b| b.name == a.name);
        OperatorChange {
            name: a.name.clone(),
            channels: [channels(graph, a), b.map_or(0, |b| channels(small, b))],
            weights: [weights(graph, a), b.map_or(0, |b| weights(small, b))],
            bits: bits.layers.get(&a.name).copied().unwrap_or(bits.weights),
            macs: [macs(graph, a), b.map_or(0, |b| macs(small, b))],
        }
    };
    layers.map(change).collect()
}
