//! `offshoot compress`: a smaller network under a budget.

mod page;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use offshoot_compress::plan::{self, Erase, FewerBits, Prune, Work};
use offshoot_compress::prune::{self, FamilyReport, Instructions, Progress, PruneOptions, Score, Size};
use offshoot_data::npy::Array;
use offshoot_ir::Graph;
use offshoot_target::Target;
use offshoot_train::augment::{Augment, Images, Series};
use offshoot_train::{Checkpoint, Dataset};
use serde::Serialize;

use super::compile::{self, parse_bytes};
use super::{eval, parse_target, profile, read_array};
use crate::batch::{self, Inputs};
use crate::failure::{Context, Failure, Kind, Result};
use crate::files::{self, OffFile};
use crate::port::Port;
use crate::ui::{Outcome, Ui};

/// How a network is made smaller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Channels as far as weights of fewer bits do not do, then those.
    #[default]
    Auto,
    /// Whole channels go.
    Prune,
    /// Whole operators and branches go.
    Erase,
    /// Weights of 4 bits, or of as few as --fewest-bits says.
    Bits,
}

/// What channels are ranked by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ranking {
    /// Size of the weights.
    Magnitude,
    /// First-order change of the loss.
    #[default]
    Taylor,
    /// HESSO's five scores in one.
    Hesso,
    /// HESSO-CRIC: those, while the lowest fade, and the loss without them.
    Cric,
}

impl From<Ranking> for Score {
    fn from(ranking: Ranking) -> Self {
        match ranking {
            Ranking::Magnitude => Self::Magnitude,
            Ranking::Taylor => Self::Taylor,
            Ranking::Hesso => Self::Hesso,
            Ranking::Cric => Self::Cric,
        }
    }
}

/// How samples are changed at random on their way into training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Augmentation {
    /// Not at all.
    #[default]
    None,
    /// Images: mirrored, and moved by up to an eighth.
    Images,
    /// Features over time: moved by up to a tenth, and with noise of a tenth of their size.
    Series,
}

impl Augmentation {
    /// For samples of `shape`, the first axis being one of samples.
    fn of(self, shape: &[usize]) -> Option<Arc<dyn Augment>> {
        let extent = |axis: usize| shape.get(axis).copied().unwrap_or(1);
        match self {
            Self::None => None,
            Self::Images => Some(Arc::new(Images { flip: true, shift: extent(2) / 8 })),
            Self::Series => Some(Arc::new(Series { shift: extent(1) / 10, noise: 0.1 })),
        }
    }
}

/// A size limit: bytes, or percent of the uncompressed int8 model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Bytes.
    Bytes(u64),
    /// Share of the uncompressed one.
    Share(f64),
}

impl Limit {
    /// In bytes, for a model that takes `whole`.
    pub fn bytes(self, whole: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Share(share) => (whole as f64 * share) as u64,
        }
    }
}

/// `64k` or `50%`.
///
/// # Errors
/// Neither a size nor a percentage above 0.
pub fn parse_limit(text: &str) -> std::result::Result<Limit, String> {
    match text.ends_with('%') {
        true => parse_percent(text).map(Limit::Share),
        false => parse_bytes(text).map(Limit::Bytes),
    }
}

/// `0.5%` as 0.005.
///
/// # Errors
/// No number from 0 to 100 with a percent sign.
pub fn parse_percent(text: &str) -> std::result::Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|t| t.trim().parse::<f64>().ok());
    let number = number.filter(|n| (0.0..=100.0).contains(n));
    number.map(|n| n / 100.0).ok_or_else(|| format!("`{text}` is no percentage such as 0.5%"))
}

/// 4 or 2.
///
/// # Errors
/// Anything else.
pub fn parse_bits(text: &str) -> std::result::Result<u8, String> {
    match text {
        "4" => Ok(4),
        "2" => Ok(2),
        _ => Err(format!("`{text}`: weights of 4 or of 2 bits can be had, and of 8 without `bits`")),
    }
}

/// Arguments of `compress`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Float network (.onnx) with one input.
    pub model: PathBuf,
    /// Samples and their class numbers (.npy, .npy). One fifth of them, at most --held-out, is kept apart to judge by.
    #[arg(long, num_args = 2, required = true, value_names = ["X.npy", "Y.npy"])]
    pub data: Vec<PathBuf>,
    /// Folder for model.off, model.onnx, policy.toml (bits of each layer's weights), report.html and report.json; made if it is not there.
    #[arg(short, long)]
    pub output: PathBuf,
    /// How it is made smaller: one method, or several in their order (`erase,prune,bits`).
    #[arg(long, value_enum, value_delimiter = ',', default_value = "auto")]
    pub method: Vec<Method>,
    /// Operators or branches that `erase` leaves out.
    #[arg(long, default_value_t = 1)]
    pub erase: usize,
    /// Fewest bits that `bits` gives weights: 4 or 2.
    #[arg(long, default_value = "4", value_parser = parse_bits)]
    pub fewest_bits: u8,
    /// Passes over the data with rounded weights, after `bits` has chosen.
    #[arg(long, default_value_t = 0)]
    pub rounded_epochs: usize,
    /// Device it must fit.
    #[arg(long)]
    pub target: Option<String>,
    /// Largest .off file: bytes (k and M understood), or percent of the uncompressed one.
    #[arg(long, value_parser = parse_limit)]
    pub max_flash: Option<Limit>,
    /// Largest arena: bytes (k and M understood), or percent of the uncompressed one.
    #[arg(long, value_parser = parse_limit)]
    pub max_ram: Option<Limit>,
    /// Most multiply-accumulates: a number (k and M understood), or percent of the uncompressed one's.
    #[arg(long, value_parser = parse_limit)]
    pub max_macs: Option<Limit>,
    /// Most instructions of a run on an emulated --target: a number, or percent of the uncompressed one's.
    #[arg(long, value_parser = parse_limit)]
    pub max_instructions: Option<Limit>,
    /// Accuracy that may be lost, in percentage points, such as 0.5%.
    #[arg(long, value_parser = parse_percent)]
    pub max_loss: Option<f64>,
    /// What channels are ranked by.
    #[arg(long, value_enum, default_value_t = Ranking::Taylor)]
    pub score: Ranking,
    /// Passes over the data to fine-tune the smaller network; an interrupted run goes on where it was.
    #[arg(long, default_value_t = 0)]
    pub epochs: usize,
    /// Passes over the data in each period in which channels that are to go fade to nothing, instead of going at once.
    #[arg(long, default_value_t = 0)]
    pub fade_epochs: usize,
    /// Changes of samples on their way into training.
    #[arg(long, value_enum, default_value_t = Augmentation::None)]
    pub augment: Augmentation,
    /// Mixes samples in pairs on their way into training: for long training on few samples.
    #[arg(long)]
    pub mix: bool,
    /// Share of the uncompressed network's answers in what is learned, 0 to 1; the classes of the samples have the rest.
    #[arg(long, default_value_t = 0.7)]
    pub distil: f32,
    /// Highest learning rate of fine-tuning.
    #[arg(long, default_value_t = 1e-3)]
    pub rate: f32,
    /// Times that channels are scored anew and go.
    #[arg(long, default_value_t = 4)]
    pub periods: usize,
    /// Channels stay a multiple of this where they can; 4 suits the kernels of Cortex-M.
    #[arg(long, default_value_t = 4)]
    pub multiple: usize,
    /// Samples that layers are refitted on without labels; 0 for no refit.
    #[arg(long, default_value_t = 64)]
    pub refit_samples: usize,
    /// Only so many of the samples.
    #[arg(long)]
    pub limit: Option<usize>,
    /// Most samples that are kept apart.
    #[arg(long, default_value_t = 1000)]
    pub held_out: usize,
    /// Samples for the ranges of int8 activations.
    #[arg(long, default_value_t = 100)]
    pub calibration: usize,
    /// Seed of everything random.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

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
        for (limit, has) in limits.iter_mut().zip([board.flash_bytes, board.ram_bytes]) {
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

/// Samples to learn from and those kept apart.
struct Split {
    train: Dataset,
    calibration: Vec<Vec<ndarray::ArrayD<f32>>>,
    held: Vec<Vec<f32>>,
    labels: Array,
    count: usize,
}

/// A shuffle by the seed, of which the first fifth is kept apart.
fn split(graph: &Graph, x: &Array, y: &Array, args: &Args) -> Result<Split> {
    if graph.inputs.len() != 1 {
        let message = format!("the network has {} inputs", graph.inputs.len());
        return Err(Failure::new(Kind::Unsupported, message, "compress takes networks with one input"));
    }
    let port = Port::of_value(graph, graph.inputs[0]);
    let name = |i: usize| args.data[i].display().to_string();
    let samples = port.real(x, &name(0))?;
    let labels: Vec<i64> =
        y.to_i64().or_fail_in(Kind::Dtype, name(1), "give class numbers")?.into_iter().collect();
    if labels.len() != samples.len() || samples.len() < 10 {
        let message = format!("{} labels for {} samples", labels.len(), samples.len());
        return Err(Failure::new(
            Kind::Shape,
            message,
            "give one class number a sample, of ten samples or more",
        ));
    }
    let order = offshoot_train::shuffled(samples.len(), args.seed, 0);
    let order = &order[..args.limit.unwrap_or(order.len()).clamp(10, order.len())];
    let count = (order.len() / 5).clamp(1, args.held_out.max(1));
    let (held, train) = order.split_at(count);
    let flat: Vec<f32> = train.iter().flat_map(|&i| samples[i].iter().copied()).collect();
    let batchless = port.shape.first() == Some(&1);
    let shape = [&[train.len()], &port.shape[usize::from(batchless)..]].concat();
    let x = ndarray::ArrayD::from_shape_vec(shape, flat).or_fail(Kind::Internal, "report this")?;
    let target = offshoot_train::Target::Labels(train.iter().map(|&i| labels[i]).collect());
    let train = Dataset::new(x, target);
    train.check(graph).or_fail(Kind::Mismatch, "give the data that the network was trained for")?;
    let kept: Vec<i64> = held.iter().map(|&i| labels[i]).collect();
    let kept = ndarray::ArrayD::from_shape_vec(vec![count], kept).or_fail(Kind::Internal, "report this")?;
    Ok(Split {
        calibration: prune::samples(graph, &train, args.calibration.max(1)),
        train,
        held: held.iter().map(|&i| samples[i].clone()).collect(),
        labels: kept.into(),
        count,
    })
}

/// Quantises, compiles and judges networks.
struct Judge<'a> {
    ui: &'a Ui,
    split: &'a Split,
    target: Option<&'a Target>,
}

impl Judge<'_> {
    fn point(
        &self,
        graph: &Graph,
        stage: &str,
        bits: Option<&offshoot_compress::quantize::WeightBits>,
    ) -> Result<(Point, Vec<u8>)> {
        let args = compile::Args { weight_bits: bits.cloned(), ..compile::Args::default() };
        // Limits are pruning's to meet; a target's are held against the result.
        let target = self.target.filter(|_| stage == "result");
        let made = compile::make(self.ui, graph.clone(), &self.split.calibration, &args, target)?;
        let file = OffFile::from_bytes(&made.compiled.bytes);
        let model = file.model()?;
        let port = batch::input_port(&model, 0)?;
        let inputs = self.split.held.iter().map(|x| port.encode_real(x.iter().copied())).collect();
        let results = batch::run(self.ui, &file, &Inputs::single(inputs)?, &Target::Host)?;
        let port = batch::output_port(&model, 0)?;
        let outputs: Vec<Vec<f32>> =
            results.iter().filter_map(|r| r.first()).map(|bytes| port.decode(bytes)).collect();
        let accuracy = eval::top1(&outputs, &self.split.labels)?;
        let r = &made.compiled.report;
        let size = Size { flash: r.model_bytes, ram: r.arena_bytes, macs: r.macs, instructions: None };
        Ok((Point { stage: stage.into(), size, accuracy }, made.compiled.bytes))
    }
}

/// Progress bars, and the networks on the way.
struct Watch<'a> {
    bar: indicatif::ProgressBar,
    judge: &'a Judge<'a>,
    points: Vec<Point>,
}

impl Progress for Watch<'_> {
    fn tick(&mut self, what: &str, done: usize, total: usize) {
        self.bar.set_message(what.to_owned());
        self.bar.set_length(total as u64);
        self.bar.set_position(done as u64);
    }

    fn period(&mut self, graph: &Graph, _: Size) -> offshoot_compress::Result<()> {
        let stage = format!("period {}", self.points.len());
        let point = self.judge.point(graph, &stage, None);
        let (point, _) = point.map_err(|f| offshoot_compress::Error::Watcher(Box::new(f)))?;
        self.points.push(point);
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_bytes_or_percent() {
        assert_eq!(parse_limit("64k"), Ok(Limit::Bytes(64_000)));
        assert_eq!(parse_limit("50%").map(|l| l.bytes(1000)), Ok(500));
        assert_eq!(parse_percent("0.5%"), Ok(0.005));
        assert!(
            parse_percent("0.5").is_err() && parse_percent("101%").is_err() && parse_limit("x%").is_err()
        );
    }
}
