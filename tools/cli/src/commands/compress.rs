//! `offshoot compress`: a smaller network under a budget.

mod args;
mod judge;
mod page;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use offshoot_compress::plan::{self, Erase, FewerBits, Prune, Work};
use offshoot_compress::prune::{FamilyReport, Instructions, PruneOptions, Size};
use offshoot_data::npy::Array;
use offshoot_ir::Graph;
use offshoot_target::Target;
use offshoot_train::Checkpoint;
use serde::Serialize;

use super::{parse_target, profile, read_array};
use crate::batch;
use crate::failure::{Context, Failure, Kind, Result};
use crate::files::{self, OffFile};
use crate::ui::{Outcome, Ui};

pub use args::{
    Args, Augmentation, Limit, Method, Ranking, parse_bits, parse_limit, parse_percent, parse_share,
};
use judge::{Judge, Watch, split};

/// A network on the way from large to small.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// What it is.
    pub stage: String,
    /// What its int8 form takes.
    #[serde(flatten)]
    pub size: Size,
    /// Accuracy of its int8 form on the samples kept apart, a fraction.
    pub accuracy: f64,
}

/// What `compress` made.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Folder written.
    pub output: String,
    /// How.
    pub method: Vec<Method>,
    /// What each method did.
    pub done: Vec<String>,
    /// Bits of the weights of layers that have fewer than 8; `compile --precision policy.toml` takes the same.
    pub weight_bits: BTreeMap<String, u8>,
    /// What channels were ranked by.
    pub score: Ranking,
    /// Samples that were learned from, and that were kept apart to judge by.
    pub samples: [usize; 2],
    /// The first is the uncompressed network, the last the result.
    pub points: Vec<Point>,
    /// Channels before and after.
    pub families: Vec<FamilyReport>,
    /// Operators before and after.
    pub operators: Vec<OperatorChange>,
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
    /// Bits of a weight in the result.
    pub bits: u8,
    /// Multiply-accumulates.
    pub macs: [u64; 2],
}

impl Outcome for Report {
    fn render(&self) -> String {
        format!(
            "{}: model.off, model.onnx, policy.toml, report.html, report.json\n{}\n{}\n{}",
            self.output,
            self.done.join("\n"),
            page::points(self),
            page::operators(self)
        )
    }
}

/// Compresses and writes the results.
///
/// # Errors
/// Files cannot be read or written, data do not fit; the budget cannot be met (the message names the nearest point that
/// can).
pub fn run(ui: &Ui, args: &Args) -> Result<Report> {
    let target = args.target.as_deref().map(parse_target).transpose()?;
    let (graph, _) = files::read_graph(&args.model)?;
    let (x, y) = (read_array(&args.data[0])?, read_array(&args.data[1])?);
    std::fs::create_dir_all(&args.output).map_err(|e| Failure::writing(&args.output, &e))?;
    let made = compress(ui, &graph, &x, &y, args, target.as_ref())?;
    let onnx =
        offshoot_import::emit(&made.graph).or_fail(Kind::Unsupported, "only the .off file can be had")?;
    let html = page::page(args, &made.report)?.render();
    let json = serde_json::to_string_pretty(&made.report).or_fail(Kind::Internal, "report this")?;
    let policy = toml::to_string(&made.weight_bits).or_fail(Kind::Internal, "report this")?;
    for (name, bytes) in [
        ("model.off", made.off.as_slice()),
        ("model.onnx", &onnx),
        ("policy.toml", policy.as_bytes()),
        ("report.json", json.as_bytes()),
        ("report.html", html.as_bytes()),
    ] {
        let path = args.output.join(name);
        offshoot_report::write_atomically(&path, bytes).map_err(|e| Failure::writing(&path, &e))?;
    }
    // What was saved to be continued is of no more use.
    for suffix in ["", "-erased", "-rounded"]
        .map(String::from)
        .into_iter()
        .chain((1..=args.periods).map(|p| format!("-period{p}")))
    {
        let mut path = checkpoint(args).into_os_string();
        path.push(suffix);
        let _ = std::fs::remove_file(path);
    }
    Ok(made.report)
}

fn checkpoint(args: &Args) -> PathBuf {
    args.output.join("fine-tuning.checkpoint")
}

/// A compressed network, not yet written.
#[derive(Debug)]
pub struct Made {
    /// Float.
    pub graph: Graph,
    /// The bytes of its `.off` file.
    pub off: Vec<u8>,
    /// Bits of its weights.
    pub weight_bits: offshoot_compress::quantize::WeightBits,
    /// What was done.
    pub report: Report,
}

/// Compresses without writing anything but the checkpoint of fine-tuning.
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
    let split = split(graph, x, y, args)?;
    let judge = Judge { ui, split: &split, target };
    let count = counter(target, args)?;
    let (mut whole, off) = judge.point(graph, "uncompressed", None)?;
    if let Some(count) = &count {
        whole.size.instructions = Some((count.0)(&off).map_err(|e| compression_failure(&e))?);
    }
    let limits = [(args.max_flash, whole.size.flash), (args.max_ram, whole.size.ram)];
    let mut limits = limits.map(|(limit, whole)| limit.map(|l| l.bytes(whole)));
    if let Some(Target::Qemu(board)) = target {
        for (limit, has) in limits.iter_mut().zip([board.flash_bytes(), board.ram_bytes]) {
            *limit = Some(limit.map_or(u64::from(has), |l| l.min(u64::from(has))));
        }
    }
    if limits == [None, None] && args.max_macs.is_none() && args.max_instructions.is_none() {
        let help = "give --max-flash, --max-ram, --max-macs or a --target with known sizes";
        return Err(Failure::new(Kind::Usage, "there is no budget to compress to", help));
    }
    let options = PruneOptions {
        max_flash: limits[0],
        max_ram: limits[1],
        max_instructions: (args.max_instructions.zip(whole.size.instructions))
            .map(|(l, whole)| l.bytes(whole)),
        instructions: count.clone(),
        max_macs: args.max_macs.map(|l| l.bytes(whole.size.macs)),
        augment: args.augment.of(&graph.value(graph.inputs[0]).shape),
        mix: args.mix,
        distil: args.distil,
        fade_epochs: args.fade_epochs,
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
    let mut watch =
        Watch { bar: ui.progress("scoring channels", 0), judge: &judge, points: vec![whole.clone()] };
    let work = Work { original: graph, data: &split.train, options, progress: &mut watch };
    let state = plan::run_any(&plans(args), work);
    watch.bar.finish_and_clear();
    let state = state.map_err(|e| compression_failure(&e))?;
    let small = state.graph;
    let mut points = watch.points;
    let (mut last, off) = judge.point(&small, "result", Some(&state.weight_bits))?;
    if let Some(count) = &count {
        last.size.instructions = Some((count.0)(&off).map_err(|e| compression_failure(&e))?);
    }
    if points.last().is_some_and(|p| p.size.flash == last.size.flash) && points.len() > 1 && args.epochs == 0
    {
        // The last period's network is the result.
        points.pop();
    }
    last.stage = format!("result ({} epochs)", args.epochs);
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
        samples,
        points,
        families: state.families,
        operators,
    };
    Ok(Made { graph: small, off, report, weight_bits: state.weight_bits })
}

/// The methods that were asked for; without any, what is tried in turn.
fn plans(args: &Args) -> Vec<Vec<Box<dyn plan::Method>>> {
    let bits = || Box::new(FewerBits { fewest: args.fewest_bits, epochs: args.rounded_epochs });
    let each = |method: &Method| -> Vec<Box<dyn plan::Method>> {
        match method {
            Method::Auto => vec![Box::new(Prune), bits()],
            Method::Prune => vec![Box::new(Prune)],
            Method::Erase => vec![Box::new(Erase { count: args.erase })],
            Method::Bits => vec![bits()],
        }
    };
    let asked = args.method.iter().flat_map(each).collect();
    match args.method[..] {
        // Weights of fewer bits may take more arena and instructions than there are.
        [Method::Auto] => vec![asked, vec![Box::new(Prune)]],
        _ => vec![asked],
    }
}

/// Counts instructions on an emulated target, if a limit of them is given.
fn counter(target: Option<&Target>, args: &Args) -> Result<Option<Instructions>> {
    if args.max_instructions.is_none() {
        return Ok(None);
    }
    let Some(target @ Target::Qemu(_)) = target.cloned() else {
        let help = "give --target qemu:cortex-m4 or another emulated board";
        return Err(Failure::new(Kind::Usage, "instructions are counted by an emulator", help));
    };
    let count = move |off: &[u8]| -> Result<u64> {
        let file = OffFile::from_bytes(off);
        let mut device = batch::connect(&target)?;
        let inputs = profile::zeros(&file)?;
        let report = profile::profile(device.as_mut(), &file, &inputs, "", None)?;
        report.instructions.ok_or_else(|| {
            Failure::new(Kind::Device, "the target cannot count instructions", "give another --target")
        })
    };
    let count = move |off: &[u8]| count(off).map_err(|f| offshoot_compress::Error::Watcher(Box::new(f)));
    Ok(Some(Instructions(Arc::new(count))))
}

/// Holds the result against `--max-loss`.
fn check_loss(points: &[Point], args: &Args) -> Result<()> {
    let (Some(most), Some(whole), Some(last)) = (args.max_loss, points.first(), points.last()) else {
        return Ok(());
    };
    let loss = |p: &Point| whole.accuracy - p.accuracy;
    if loss(last) <= most {
        return Ok(());
    }
    let reachable = points.iter().filter(|p| loss(p) <= most).min_by_key(|p| p.size.flash).unwrap_or(whole);
    let message = format!(
        "{} bytes of flash cost {:.2} points of accuracy, {:.2} are allowed; the nearest point reached within them: \
         {} bytes of flash, {} of RAM, {:.2} % ({})",
        last.size.flash,
        100.0 * loss(last),
        100.0 * most,
        reachable.size.flash,
        reachable.size.ram,
        100.0 * reachable.accuracy,
        reachable.stage
    );
    Err(Failure::new(Kind::Budget, message, "raise --max-flash or --max-loss, or give more --epochs"))
}

fn compression_failure(error: &offshoot_compress::Error) -> Failure {
    use offshoot_compress::Error;
    let (kind, help) = match error {
        Error::Budget { .. } => (Kind::Budget, "raise --max-flash or --max-ram, or lower --multiple"),
        Error::AlreadyQuantized { .. } => (Kind::Usage, "give the float network"),
        Error::Training(offshoot_train::Error::Checkpoint { .. }) => {
            (Kind::Mismatch, "remove that file, or give the arguments that it was made with")
        }
        Error::Training(_) => (Kind::Mismatch, "give the data that the network was trained for"),
        _ => (Kind::Internal, "report this model"),
    };
    Failure::new(kind, error.to_string(), help)
}

/// By name; what is gone has nothing left.
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
