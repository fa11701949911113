//! `offshoot inspect`: shows what an `.onnx` or `.off` file holds.

mod learning;

use std::path::{Path, PathBuf};

use offshoot::format::record::{Record, Window};
use offshoot::format::sparse::Form;
use offshoot::{Model, operators};
use offshoot_export::branch_costs::{self, BranchCost};
use offshoot_export::sparse_forms;
use offshoot_ir::Graph;
use offshoot_report::Table;
use offshoot_report::table::{tail, thousands};
use serde::Serialize;

use super::compile::branches_text;
use crate::batch;
use crate::failure::{Context, Failure, Kind, Result};
use crate::files::{self, OffFile};
use crate::port::Port;
use crate::signing::SignatureReport;
use crate::ui::{Outcome, Ui};

pub use learning::LearningRow;

/// Help for what an opened file rules out.
const REPORT_BUG: &str = "this is a bug in Offshoot: report it with the model";

/// Arguments of `inspect`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A network (.onnx, .tflite) or a compiled model (.off).
    pub file: PathBuf,
}

/// The signature of a file, which `inspect` does not check: it has no keys.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Signed {
    /// There is none.
    Unsigned,
    /// There is one: what it says.
    Unchecked(SignatureReport),
    /// There is one, whose metadata are not well formed: no device takes it.
    Malformed,
}

impl Signed {
    fn of(file: &OffFile) -> Self {
        match (SignatureReport::of(file.whole()), file.whole() == file.bytes()) {
            (_, true) => Self::Unsigned,
            (Some(report), _) => Self::Unchecked(report),
            (None, _) => Self::Malformed,
        }
    }

    fn line(&self) -> String {
        match self {
            Self::Unsigned => "not signed".into(),
            Self::Unchecked(report) => {
                format!("signed, not checked (`offshoot verify-signature` does): {}", report.line())
            }
            Self::Malformed => "signed, but what the signature says is not well formed".into(),
        }
    }
}

/// An input or output.
#[derive(Clone, Debug, Serialize)]
pub struct PortReport {
    /// Shape of the ONNX tensor.
    pub shape: Vec<usize>,
    /// Shape in the device's memory (channels-last).
    pub device_shape: Vec<usize>,
    /// Element type.
    pub dtype: String,
    /// Scale, for int8.
    pub scale: Option<f32>,
    /// Zero point, for int8.
    pub zero_point: Option<i8>,
}

/// One operator.
#[derive(Clone, Debug, Serialize)]
pub struct OperatorRow {
    /// Position in the file.
    pub index: u16,
    /// Name of its output tensor in the ONNX file, or kind and position.
    pub name: String,
    /// Kind.
    pub kind: String,
    /// Output shape; empty if it is not known.
    pub shape: Vec<usize>,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Number of weights.
    pub weights: u64,
    /// Offset of the output in the arena; none for ONNX.
    pub offset: Option<u64>,
    /// Bytes of the output.
    pub bytes: u64,
    /// How sparse weights are stored, if the operator has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sparse: Option<SparseReport>,
}

/// A constant that an operator reads.
#[derive(Clone, Debug, Serialize)]
pub struct ConstantRow {
    /// Name of the operator, as `space.toml`, policies and plans give it.
    pub operator: String,
    /// Name of the constant.
    pub constant: String,
    /// Its shape in the device's order: output channels first.
    pub shape: Vec<usize>,
}

/// Sparse weights of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SparseReport {
    /// `bytes`, `nibbles` or `blocks`; for a recurrent layer, the forms of the input weights and of the state weights.
    pub form: &'static str,
    /// Number of weights stored, including zeros that bridge a gap or fill a block.
    pub weights: u64,
    /// Number of weights of the dense layer.
    pub dense_weights: u64,
    /// Bytes of weights, counts and steps.
    pub weights_bytes: u64,
}

impl SparseReport {
    fn of(record: &Record) -> Option<Self> {
        if let Record::RecurrentSparse(r) = record {
            let (rows, kept) =
                (r.layer.kind.gates() as u64 * u64::from(r.layer.units), operators::weights(record));
            let extents = [r.layer.inputs, r.layer.units].map(|columns| rows * u64::from(columns));
            let bytes = r.matrices().into_iter().zip(extents).map(|(matrix, dense)| {
                matrix.map_or(dense, |m| (2 * rows).next_multiple_of(4) + m.weights() + u64::from(m.steps))
            });
            let form = sparse_forms(r.input.map(|m| m.form), r.state.map(|m| m.form));
            let dense_weights = extents.iter().sum();
            return Some(Self { form, weights: kept, dense_weights, weights_bytes: bytes.sum() });
        }
        let (matrix, dense_weights, channels) = match record {
            Record::FullyConnectedSparse(r) => {
                (r.matrix, u64::from(r.in_c) * u64::from(r.out_c), u64::from(r.out_c))
            }
            Record::ConvSparse(r) => {
                let [k_h, k_w] = Window::from(r.window).kernel.map(u64::from);
                (r.matrix, k_h * k_w * u64::from(r.c) * u64::from(r.out_c), u64::from(r.out_c))
            }
            _ => return None,
        };
        let form = match matrix.form {
            Form::Bytes => "bytes",
            Form::Nibbles => "nibbles",
            Form::Blocks => "blocks",
        };
        let weights = matrix.weights();
        let weights_bytes = (2 * channels).next_multiple_of(4) + weights + u64::from(matrix.steps);
        Some(Self { form, weights, dense_weights, weights_bytes })
    }
}

/// What a file holds.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Path of the file.
    pub file: String,
    /// `onnx` or `off`.
    pub format: String,
    /// Size of the file in bytes.
    pub file_bytes: u64,
    /// Inputs.
    pub inputs: Vec<PortReport>,
    /// Outputs.
    pub outputs: Vec<PortReport>,
    /// Multiply-accumulates of a run; of a switch in a compiled file, the branch with the most.
    pub macs: u64,
    /// Number of weights.
    pub weights: u64,
    /// Branches of switches in a compiled file, of which a run goes through one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<BranchCost>,
    /// Bytes of the arena; none for ONNX.
    pub arena_bytes: Option<u64>,
    /// Proved lower bound of the arena in bytes; none for ONNX.
    pub arena_lower_bound_bytes: Option<u64>,
    /// Cargo features of the runtime that the firmware needs for this model; empty for ONNX.
    pub runtime_features: Vec<String>,
    /// Operators in order.
    pub operators: Vec<OperatorRow>,
    /// Constants of operators with weights; empty for `.off`, which does not keep their names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub constants: Vec<ConstantRow>,
    /// What learns; none for ONNX and for a file without a learning plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning: Option<LearningRow>,
    /// Signature; none for ONNX.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signed>,
    /// Further networks of the file, which share the weights of the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<NetworkReport>,
}

/// A further network of a file.
#[derive(Clone, Debug, Serialize)]
pub struct NetworkReport {
    /// Number that selects it.
    pub network: usize,
    /// Number of operators.
    pub operators: usize,
    /// Multiply-accumulates of a run.
    pub macs: u64,
    /// Number of weights.
    pub weights: u64,
    /// Bytes of the arena.
    pub arena_bytes: u64,
}

impl Outcome for Report {
    fn render(&self) -> String {
        let port = |what: &str, p: &PortReport| {
            let quant = p
                .scale
                .map_or(String::new(), |s| format!(", scale {s}, zero point {}", p.zero_point.unwrap_or(0)));
            let outside = match p.shape == p.device_shape {
                true => String::new(),
                false => format!(", in the ONNX file {:?} (channels first)", p.shape),
            };
            format!("{what}: {} {:?} in the device's order{outside}{quant}\n", p.dtype, p.device_shape)
        };
        let mut text = format!(
            "{}: {} bytes, {} operators, {} MACs, {} weights\n",
            self.file,
            thousands(self.file_bytes),
            self.operators.len(),
            thousands(self.macs),
            thousands(self.weights)
        );
        self.inputs.iter().for_each(|p| text.push_str(&port("input", p)));
        self.outputs.iter().for_each(|p| text.push_str(&port("output", p)));
        if let (Some(arena), Some(bound)) = (self.arena_bytes, self.arena_lower_bound_bytes) {
            text.push_str(&format!("arena: {} bytes (lower bound {})\n", thousands(arena), thousands(bound)));
        }
        if let Some(learning) = &self.learning {
            text.push_str(&format!("{}\n", learning.line()));
        }
        text.push_str(&branches_text(&self.branches));
        if let Some(signature) = &self.signature {
            text.push_str(&format!("{}\n", signature.line()));
        }
        for n in &self.networks {
            let [macs, weights, arena] = [n.macs, n.weights, n.arena_bytes].map(thousands);
            let (index, count) = (n.network, n.operators);
            text.push_str(&format!(
                "network {index}: {count} operators, {macs} MACs, {weights} weights, arena {arena} bytes\n"
            ));
        }
        let off = self.arena_bytes.is_some();
        let mut table = Table::new([
            "#",
            "operator",
            "kind",
            "shape",
            "MACs",
            "weights",
            "bytes",
            if off { "offset" } else { "" },
        ]);
        for o in &self.operators {
            table.row([
                o.index.to_string(),
                tail(&o.name, 44),
                o.kind.clone(),
                if o.shape.is_empty() { "-".into() } else { format!("{:?}", o.shape) },
                thousands(o.macs),
                thousands(o.weights),
                thousands(o.bytes),
                o.offset.map_or(String::new(), thousands),
            ]);
        }
        text.push_str(&table.to_string());
        if !self.constants.is_empty() {
            let mut table = Table::new(["operator", "constant", "shape"]);
            for c in &self.constants {
                table.row([c.operator.clone(), c.constant.clone(), format!("{:?}", c.shape)]);
            }
            text.push_str(&format!("\nconstants:\n{table}"));
        }
        for o in &self.operators {
            if let Some(s) = &o.sparse {
                text.push_str(&format!(
                    "\n{} {}: sparse ({}), {} of {} weights stored ({:.1} %) in {} bytes",
                    o.index,
                    tail(&o.name, 44),
                    s.form,
                    thousands(s.weights),
                    thousands(s.dense_weights),
                    100.0 * s.weights as f64 / s.dense_weights.max(1) as f64,
                    thousands(s.weights_bytes),
                ));
            }
        }
        if let Some(arena) = self.arena_bytes {
            text.push_str(&format!("\n{}", memory_map(&self.operators, arena)));
        }
        text
    }
}

/// A map of the arena, 64 columns wide: where every operator writes its output.
fn memory_map(operators: &[OperatorRow], arena: u64) -> String {
    let mut text = String::from("output of each operator in the arena:\n");
    let column = |at: u64| (at * 64 / arena.max(1)) as usize;
    for o in operators {
        let from = column(o.offset.unwrap_or(0));
        let to = column(o.offset.unwrap_or(0) + o.bytes).clamp(from + 1, 64.max(from + 1));
        text.push_str(&format!(
            "{:>4} |{}{}{}|\n",
            o.index,
            " ".repeat(from),
            "█".repeat(to - from),
            " ".repeat(64usize.saturating_sub(to))
        ));
    }
    text
}

/// Inspects a file, whose extension says what it is.
///
/// # Errors
/// The file cannot be read, or has another extension than `.onnx`, `.tflite` and `.off`.
pub fn run(_ui: &Ui, args: &Args) -> Result<Report> {
    let bytes = std::fs::metadata(&args.file).map_err(|e| Failure::reading(&args.file, &e))?.len();
    match args.file.extension().and_then(|e| e.to_str()) {
        Some("onnx" | "tflite") => onnx(&args.file, bytes),
        Some("off") => compiled(&OffFile::read(&args.file)?, &args.file.display().to_string()),
        _ => {
            let message = format!("{}: the extension is none of .onnx, .tflite, .off", args.file.display());
            Err(Failure::new(
                Kind::Usage,
                message,
                "give a network (.onnx, .tflite) or a compiled model (.off)",
            ))
        }
    }
}

fn describe(port: &Port) -> PortReport {
    use offshoot::format::record::DType;
    let quantised = matches!(port.dtype, DType::I8 | DType::I16);
    PortReport {
        shape: port.outside_shape(),
        device_shape: port.shape.clone(),
        dtype: match port.dtype {
            DType::I8 => "int8",
            DType::I16 => "int16",
            DType::F32 => "float32",
            DType::I32 => "int32",
        }
        .into(),
        scale: quantised.then_some(port.scale),
        zero_point: quantised.then_some(port.zero_point),
    }
}

/// Bytes of an element of an activation.
fn bytes_of(dtype: offshoot_ir::DType) -> usize {
    match dtype {
        offshoot_ir::DType::I8 => 1,
        offshoot_ir::DType::I16 => 2,
        _ => 4,
    }
}

fn onnx(path: &Path, file_bytes: u64) -> Result<Report> {
    let (graph, _) = files::read_graph(path)?;
    Ok(network(&graph, &path.display().to_string(), file_bytes))
}

/// What a network holds after the lossless passes. `name` and `file_bytes` are those of its file.
pub fn network(graph: &Graph, name: &str, file_bytes: u64) -> Report {
    let operators: Vec<OperatorRow> = (0u16..)
        .zip(&graph.nodes)
        .map(|(index, node)| {
            let out = graph.value(node.output);
            OperatorRow {
                index,
                name: out.name.clone(),
                kind: node.op.name().to_owned(),
                shape: out.shape.clone(),
                macs: offshoot_ir::cost::macs(graph, node),
                weights: offshoot_ir::cost::weights(graph, node),
                offset: None,
                sparse: None,
                bytes: (out.len() * bytes_of(out.dtype)) as u64,
            }
        })
        .collect();
    let with_weights = graph.nodes.iter().filter(|n| offshoot_ir::cost::weights(graph, n) > 0);
    let constants = with_weights.flat_map(|node| {
        let read = node.inputs.iter().map(|id| graph.value(*id)).filter(|v| v.data.is_some());
        read.map(|v| ConstantRow {
            operator: node.name.clone(),
            constant: v.name.clone(),
            shape: v.shape.clone(),
        })
    });
    let constants = constants.collect();
    Report {
        constants,
        file: name.to_owned(),
        format: "onnx".into(),
        file_bytes,
        inputs: graph.inputs.iter().map(|id| describe(&Port::of_value(graph, *id))).collect(),
        outputs: graph.outputs.iter().map(|id| describe(&Port::of_value(graph, *id))).collect(),
        macs: operators.iter().map(|o| o.macs).sum(),
        weights: operators.iter().map(|o| o.weights).sum(),
        branches: Vec::new(),
        arena_bytes: None,
        arena_lower_bound_bytes: None,
        runtime_features: Vec::new(),
        operators,
        learning: None,
        signature: None,
        networks: Vec::new(),
    }
}

/// What the selected network of a compiled file holds. `name` stands for its path.
///
/// # Errors
/// None for a file that was validated.
pub fn compiled(file: &OffFile, name: &str) -> Result<Report> {
    let model = file.model()?;
    let operators = operators(&model, None);
    let counted = counted(&model, &operators);
    let ports = |count: usize, port: &dyn Fn(usize) -> Result<Port>| -> Result<Vec<PortReport>> {
        (0..count).map(|i| Ok(describe(&port(i)?))).collect()
    };
    Ok(Report {
        file: name.to_owned(),
        format: "off".into(),
        constants: Vec::new(),
        file_bytes: file.bytes().len() as u64,
        inputs: ports(model.input_count(), &|i| batch::input_port(&model, i))?,
        outputs: ports(model.output_count(), &|i| batch::output_port(&model, i))?,
        macs: most_macs(&counted),
        weights: operators.iter().map(|o| o.weights).sum(),
        branches: branch_costs::costs(&counted),
        arena_bytes: Some(u64::from(model.arena_bytes())),
        arena_lower_bound_bytes: Some(u64::from(model.arena_lower_bound())),
        runtime_features: offshoot_target::runtime_features(file.bytes(), &model)
            .or_fail(Kind::Internal, REPORT_BUG)?,
        learning: LearningRow::of(&model, &operators),
        operators,
        signature: Some(Signed::of(file)),
        networks: further(&model)?,
    })
}

/// Branches, multiply-accumulates and weights of each operator.
type Counted = (Vec<offshoot_plan::Branch>, u64, u64);

fn counted(model: &Model<'_>, operators: &[OperatorRow]) -> Vec<Counted> {
    let branches = branch_costs::branches(model).into_iter();
    branches.zip(operators).map(|(branches, o)| (branches, o.macs, o.weights)).collect()
}

fn most_macs(counted: &[Counted]) -> u64 {
    branch_costs::most(counted.iter().map(|(branches, macs, _)| (branches.as_slice(), *macs)))
}

/// All networks of a file.
fn networks<'m>(model: &Model<'m>) -> Result<Vec<Model<'m>>> {
    let network = |i| model.network(i).or_fail(Kind::Internal, REPORT_BUG);
    (0..model.network_count()).map(network).collect()
}

/// All networks of a file but the first.
fn further(model: &Model<'_>) -> Result<Vec<NetworkReport>> {
    let report = |network: &Model<'_>| {
        let operators = operators(network, None);
        NetworkReport {
            network: network.network_index(),
            operators: operators.len(),
            macs: most_macs(&counted(network, &operators)),
            weights: operators.iter().map(|o| o.weights).sum(),
            arena_bytes: network.arena_bytes().into(),
        }
    };
    Ok(networks(model)?.iter().skip(1).map(report).collect())
}

/// The operators of a compiled model, with names if the graph it was compiled from is given.
pub fn operators(model: &Model<'_>, graph: Option<&Graph>) -> Vec<OperatorRow> {
    model
        .ops()
        .map(|(info, _, record)| {
            let value = graph.and_then(|g| g.values.get(usize::from(info.origin)));
            let (offset, len) = operators::output(&record)
                .map(|span| (span.start as u32, span.len as u32))
                .unwrap_or_default();
            let members: Vec<_> = operators::members(&record, model.blobs()).collect();
            let kinds: Vec<_> = members.iter().map(|m| m.tag().name()).collect();
            let kind = if kinds.len() > 1 {
                format!("{}({})", info.tag.name(), kinds.join("+"))
            } else {
                info.tag.name().to_owned()
            };
            OperatorRow {
                index: info.index,
                name: value.map_or_else(|| format!("{}_{}", info.tag.name(), info.index), |v| v.name.clone()),
                kind,
                shape: value.map(|v| v.shape.clone()).unwrap_or_default(),
                macs: members.iter().map(operators::macs).sum(),
                weights: members.iter().map(operators::weights).sum(),
                offset: Some(u64::from(offset)),
                bytes: u64::from(len),
                sparse: SparseReport::of(&record),
            }
        })
        .collect()
}
