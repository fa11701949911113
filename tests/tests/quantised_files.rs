//! Files that came quantised: what samples complete is compared with the file's own answers, and `verify` knows their numbers.

use ndarray::{ArrayD, IxDyn};
use offshoot_cli::batch::Sequences;
use offshoot_cli::commands::compile::{self, Args, Report};
use offshoot_cli::commands::verify;
use offshoot_cli::failure::{Failure, Kind};
use offshoot_cli::ui::Ui;
use offshoot_data::npy::Array;
use offshoot_ir::passes::lossless;
use offshoot_ir::{Activation, DType, Data, Graph, Node, Op, Quant, UnaryKind, Value, ValueId};

/// int8 → Dequantize → 100 (a - b) + c → Relu's mirror, whose outputs are float.
fn network() -> Graph {
    let mut graph = Graph { quantised: true, ..Graph::default() };
    let mut value = |name: &str, width: usize, quant: Option<Quant>| {
        let dtype = if quant.is_some() { DType::I8 } else { DType::F32 };
        let (name, shape) = (name.to_owned(), vec![1, width]);
        graph.add_value(Value { name, shape, dtype, quant, data: None, channels_first_outside: false })
    };
    let (x, q) = (value("x", 3, None), value("q", 3, Some(Quant::per_tensor(0.5, 0))));
    let (real, sum, y) = (value("real", 3, None), value("sum", 1, None), value("y", 1, None));
    let w = graph.add_constant("w", vec![1, 3], Data::F32(vec![100.0, -100.0, 1.0]));
    let mut node = |name: &str, op: Op, inputs: &[ValueId], output: ValueId| {
        graph.nodes.push(Node { name: name.into(), op, inputs: inputs.to_vec(), output });
    };
    node("quantize", Op::Quantize, &[x], q);
    node("dequantize", Op::Dequantize, &[q], real);
    node("difference", Op::FullyConnected { activation: Activation::None }, &[real, w], sum);
    node("mirror", Op::Unary(UnaryKind::Abs), &[sum], y);
    (graph.inputs, graph.outputs) = (vec![x], vec![y]);
    graph
}

/// Samples with small differences, and one with the difference `largest`.
fn compiled(largest: f32, change: impl FnOnce(&mut Args)) -> Result<Report, Failure> {
    let mut samples = vec![60.0, 60.0 - largest, 0.0];
    (1..16).for_each(|i| samples.extend([30.0, 30.0, 0.5 * i as f32]));
    let samples: Array = ArrayD::from_shape_vec(IxDyn(&[16, 3]), samples).unwrap().into();
    let mut args = Args::default();
    change(&mut args);
    let network = lossless(network()).unwrap();
    let made = compile::compile(&Ui { json: true }, network, (&[samples], &["x".to_owned()]), &args, None);
    made.map(|(_, report)| report)
}

#[test]
fn a_range_that_loses_the_outputs_is_an_error_with_a_way_out() {
    let good = compiled(0.0, |_| {}).unwrap();
    assert!(good.outputs_snr_db.unwrap() > 30.0 && good.warnings.is_empty(), "{:?}", good.outputs_snr_db);
    assert!(good.compiled.fallbacks.is_empty(), "{:?}", good.compiled.fallbacks);

    // A step of the output is then larger than all but one of the numbers.
    let failure = compiled(60.0, |_| {}).unwrap_err();
    assert_eq!(failure.kind, Kind::Accuracy);
    let text = failure.message.clone() + &failure.help;
    assert!(text.contains("difference") && text.contains("--keep-float"), "{text}");

    let poor = compiled(60.0, |args| args.allow_poor = true).unwrap();
    assert!(poor.outputs_snr_db.unwrap() < 10.0);
    assert!(poor.warnings[0].contains("difference"), "{:?}", poor.warnings);

    let kept = compiled(60.0, |args| args.keep_float = vec!["difference".into()]).unwrap();
    assert!(kept.outputs_snr_db.unwrap() > 60.0 && kept.warnings.is_empty(), "{:?}", kept.outputs_snr_db);
    let layer = kept.compiled.fallbacks.iter().find(|f| f.node == "difference").unwrap();
    assert!(layer.instructions > 0 && layer.int8_instructions.is_some(), "{layer:?}");
}

/// Integers → fully connected → integers → Dequantize, with all numbers of this type.
fn layer(dtype: DType, [from, to]: [Quant; 2]) -> Graph {
    let mut graph = Graph { quantised: true, ..Graph::default() };
    let mut value = |name: &str, width: usize, quant: Option<Quant>| {
        let dtype = if quant.is_some() { dtype } else { DType::F32 };
        let (name, shape) = (name.to_owned(), vec![1, width]);
        graph.add_value(Value { name, shape, dtype, quant, data: None, channels_first_outside: false })
    };
    let scale = from.scale[0];
    let (x, q) = (value("x", 4, None), value("q", 4, Some(from)));
    let (sum, y) = (value("sum", 3, Some(to)), value("y", 3, None));
    let weights = (0..12i32).map(|i| (37 * (i % 5) - 70) as i8).collect();
    let w = graph.add_constant("w", vec![3, 4], Data::I8(weights));
    graph.value_mut(w).quant = Some(Quant::per_tensor(0.01, 0));
    let bias = graph.add_constant("b", vec![3], Data::I32(vec![5, -100, 7]));
    graph.value_mut(bias).quant = Some(Quant::per_tensor(0.01 * scale, 0));
    let mut node = |name: &str, op: Op, inputs: &[ValueId], output: ValueId| {
        graph.nodes.push(Node { name: name.into(), op, inputs: inputs.to_vec(), output });
    };
    node("quantize", Op::Quantize, &[x], q);
    node("layer", Op::FullyConnected { activation: Activation::None }, &[q, w, bias], sum);
    node("dequantize", Op::Dequantize, &[sum], y);
    (graph.inputs, graph.outputs) = (vec![x], vec![y]);
    graph
}

/// A Relu that the exporter has folded into the QuantizeLinear behind it shows in the zero point alone, and int16 tensors have
/// steps of their own: both files agree with themselves operator by operator.
#[test]
fn verify_knows_folded_activations_and_int16() {
    let int8 = layer(DType::I8, [Quant::per_tensor(1.0 / 64.0, 0), Quant::per_tensor(0.01, -128)]);
    let int16 = layer(DType::I16, [Quant::per_tensor(1.0 / 8192.0, 0), Quant::per_tensor(1e-4, 0)]);
    for (graph, least_db, most_error) in [(int8, 30.0, 0.012), (int16, 70.0, 3e-4)] {
        let samples: Vec<f32> = (0..40).map(|i| (i as f32 * 0.9).sin()).collect();
        let samples: Array = ArrayD::from_shape_vec(IxDyn(&[10, 4]), samples).unwrap().into();
        let (samples, names) = ([samples], ["x".to_owned()]);
        let ui = Ui { json: true };
        let (graph, passes) = lossless(graph).unwrap();
        let (file, _) =
            compile::compile(&ui, (graph.clone(), passes), (&samples, &names), &Args::default(), None)
                .unwrap();
        let args = verify::Args {
            model: "network".into(),
            dims: compile::Dims::default(),
            compiled: Some("file".into()),
            dump: None,
            input: Vec::new(),
            target: "host".into(),
            limit: 10,
            threshold: 15.0,
            network: 0,
            sequences: Sequences::default(),
        };
        let report = verify::verify(&ui, &graph, &file, (&samples, &names), &args).unwrap();
        assert_eq!(report.first_departure, None, "{:?}", report.operators);
        assert!(report.max_abs_error <= most_error, "{}", report.max_abs_error);
        let layer = report.operators.iter().find(|o| o.name == "sum").unwrap();
        assert!(layer.snr_db.is_some_and(|db| db > least_db), "{layer:?}");
        assert!(layer.alone_snr_db.is_none_or(|db| db > least_db), "{layer:?}");
    }
}
