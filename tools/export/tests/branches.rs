//! Switches, compiled and run by the engine: the numbers are the reference's, one branch runs, and branches share memory.

use ndarray::{ArrayD, IxDyn};
use offshoot::format::record::Tag;
use offshoot::trace::{Observer, OpInfo};
use offshoot::{AlignedBytes, Engine, Model};
use offshoot_export::{CompileOptions, Compiled, LearningPlan, compile};
use offshoot_ir::{Activation, DType, Data, Graph, Node, Op, Quant, UnaryKind, Value, ValueId};
use offshoot_reference::Executor;

/// Builds float32 or int8 graphs value by value.
#[derive(Default)]
struct Builder {
    graph: Graph,
    /// Scale and zero point of all activations, if it is int8.
    quant: Option<(f32, i32)>,
}

impl Builder {
    fn value(&mut self, shape: &[usize], dtype: DType) -> ValueId {
        let quant = self.quant.filter(|_| dtype == DType::F32);
        let dtype = if quant.is_some() { DType::I8 } else { dtype };
        self.graph.add_value(Value {
            name: format!("v{}", self.graph.values.len()),
            shape: shape.to_vec(),
            dtype,
            quant: quant.map(|(scale, zero)| Quant::per_tensor(scale, zero)),
            data: None,
            channels_first_outside: false,
        })
    }

    fn input(&mut self, shape: &[usize], dtype: DType) -> ValueId {
        let id = self.value(shape, dtype);
        self.graph.inputs.push(id);
        id
    }

    fn node(&mut self, op: Op, inputs: &[ValueId], shape: &[usize]) -> ValueId {
        let output = self.value(shape, DType::F32);
        let name = format!("n{}", self.graph.nodes.len());
        self.graph.nodes.push(Node { name, op, inputs: inputs.to_vec(), output });
        output
    }

    /// A fully connected layer with weights of its own.
    fn layer(&mut self, x: ValueId, outputs: usize) -> ValueId {
        let seed = self.graph.nodes.len();
        let shape = self.graph.value(x).shape.clone();
        let (inputs, name) = (shape[1], format!("c{}", self.graph.values.len()));
        let weights = (0..inputs * outputs).map(|i| ((i * 7 + seed * 13) % 17) as i32 - 8);
        let w = match self.quant {
            // Numbers that are no integers times a scale.
            None => Data::F32(weights.map(|w| (w as f32).sin() / 2.0).collect()),
            Some(_) => Data::I8(weights.map(|w| w as i8).collect()),
        };
        let w = self.graph.add_constant(name, vec![outputs, inputs], w);
        if self.quant.is_some() {
            self.graph.value_mut(w).quant = Some(Quant::per_tensor(1.0 / 16.0, 0));
        }
        let op = Op::FullyConnected { activation: Activation::Relu };
        self.node(op, &[x, w], &[shape[0], outputs])
    }

    fn relu(&mut self, x: ValueId) -> ValueId {
        let shape = self.graph.value(x).shape.clone();
        self.node(Op::Unary(UnaryKind::Clip { min: -1.0, max: 2.0 }), &[x], &shape)
    }

    fn switch(&mut self, branches: &[ValueId], index: ValueId) -> ValueId {
        let shape = self.graph.value(branches[0]).shape.clone();
        self.node(Op::Switch, &[branches, &[index]].concat(), &shape)
    }
}

#[derive(Default)]
struct Ran(Vec<(Tag, u16)>);

impl Observer for Ran {
    fn after(&mut self, op: OpInfo, _: &[u8]) {
        self.0.push((op.tag, op.index));
    }
}

impl Ran {
    fn layers(&self) -> usize {
        let is_layer = |tag: Tag| {
            matches!(
                tag,
                Tag::FullyConnected
                    | Tag::Conv2d
                    | Tag::ConvTiled
                    | Tag::ConvPacked
                    | Tag::ConvSingleMultiply
            )
        };
        self.0.iter().filter(|(tag, _)| is_layer(*tag)).count()
    }
}

fn build(graph: &Graph) -> Compiled {
    graph.validate().unwrap();
    compile(graph, &CompileOptions::default()).unwrap()
}

/// Runs on real numbers for each index; compares with the reference and gives the operators that ran.
fn check(graph: &Graph, indices: &[i32]) -> Vec<Ran> {
    let file = AlignedBytes::copy_of(&build(graph).bytes);
    let model = Model::open(file.bytes()).unwrap();
    let mut arena = AlignedBytes::zeroed(model.arena_bytes() as usize);
    let mut engine = Engine::new(model, arena.bytes_mut()).unwrap();
    let reference = Executor::new(graph).unwrap();
    let mut all = Vec::new();
    for (turn, &index) in indices.iter().enumerate() {
        let mut arrays = Vec::new();
        for (i, &id) in graph.inputs.iter().enumerate() {
            let value = graph.value(id);
            let real: Vec<f32> = match (&value.quant, value.dtype) {
                (_, DType::I32) => vec![index as f32],
                (Some(q), _) => {
                    (0..value.len()).map(|j| q.scale[0] * ((j * 5 + turn * 3) % 40) as f32).collect()
                }
                _ => (0..value.len()).map(|j| ((j * 5 + turn * 3) % 11) as f32 / 4.0 - 1.0).collect(),
            };
            let bytes: Vec<u8> = match (&value.quant, value.dtype) {
                (_, DType::I32) => index.to_le_bytes().to_vec(),
                (Some(q), _) => real
                    .iter()
                    .map(|v| ((v / q.scale[0]).round() as i32 + q.zero_point[0]) as i8 as u8)
                    .collect(),
                _ => real.iter().flat_map(|v| v.to_le_bytes()).collect(),
            };
            engine.input_mut(i).unwrap().copy_from_slice(&bytes);
            arrays.push(ArrayD::from_shape_vec(IxDyn(&value.shape), real).unwrap());
        }
        let mut ran = Ran::default();
        engine.run_with(&mut ran).unwrap();
        let wanted = reference.run(&arrays).unwrap();
        for (i, (&id, wanted)) in graph.outputs.iter().zip(&wanted).enumerate() {
            let bytes = engine.output(i).unwrap();
            let got: Vec<f32> = match &graph.value(id).quant {
                Some(q) => bytes
                    .iter()
                    .map(|&b| q.scale[0] * (i32::from(b as i8) - q.zero_point[0]) as f32)
                    .collect(),
                None => bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
            };
            let steps = graph.value(id).quant.as_ref().map_or(1e-5, |q| 2.5 * q.scale[0]);
            for (got, want) in got.iter().zip(wanted) {
                assert!((got - want).abs() <= steps, "index {index}: {got} for {want}");
            }
        }
        all.push(ran);
    }
    all
}

/// Experts of two layers, of which the index takes one; a layer before and one behind.
fn experts(quant: Option<(f32, i32)>, count: usize) -> Graph {
    let mut b = Builder { quant, ..Builder::default() };
    let (x, index) = (b.input(&[1, 24], DType::F32), b.input(&[1], DType::I32));
    let before = b.layer(x, 24);
    let branches: Vec<ValueId> = (0..count)
        .map(|i| {
            let hidden = b.layer(before, 32 + 4 * i);
            b.layer(hidden, 16)
        })
        .collect();
    let chosen = b.switch(&branches, index);
    let y = b.layer(chosen, 8);
    b.graph.outputs = vec![y];
    b.graph
}

#[test]
fn one_expert_runs() {
    for quant in [None, Some((0.05, -20))] {
        let graph = experts(quant, 4);
        for ran in check(&graph, &[0, 1, 2, 3, 7, -1, -4, -9]) {
            assert_eq!(ran.layers(), 4, "{:?}", ran.0);
            assert!(ran.0.iter().all(|(tag, _)| *tag != Tag::Copy), "an expert writes the output itself");
        }
        let report = build(&graph).report;
        assert_eq!(report.branches.len(), 4);
        assert_eq!(report.macs, 24 * 24 + 24 * 44 + 44 * 16 + 16 * 8);
        // The widest expert alone decides: its hidden layer, and what goes in or out.
        let size = if quant.is_some() { 1 } else { 4 };
        assert_eq!(report.arena_lower_bound_bytes, size * (44 + 24));
        assert!(report.arena_optimal);
    }
}

/// What a branch gives may be an input, a constant, a tensor that others read too, or that of another branch.
#[test]
fn branches_without_operators_of_their_own() {
    for quant in [None, Some((0.05, -20))] {
        let mut b = Builder { quant, ..Builder::default() };
        let (x, index) = (b.input(&[1, 8], DType::F32), b.input(&[1], DType::I32));
        let shared = b.relu(x);
        let own = b.layer(shared, 8);
        let constant = match quant {
            None => Data::F32(vec![0.5; 8]),
            Some(_) => Data::I8(vec![5; 8]),
        };
        let constant = b.graph.add_constant("constant", vec![1, 8], constant);
        b.graph.value_mut(constant).quant = quant.map(|(s, z)| Quant::per_tensor(s, z));
        let y = b.switch(&[x, shared, own, constant, own], index);
        let reshaped = b.node(Op::Reshape, &[y], &[8]);
        b.graph.outputs = vec![reshaped, shared];
        let ran = check(&b.graph, &[0, 1, 2, 3, 4]);
        // Two branches need the layer, so it runs always.
        assert!(ran.iter().all(|ran| ran.layers() == 1));
    }
}

/// Two switches with the same index: what both need of one branch runs in that branch.
#[test]
fn switches_with_one_index_are_one() {
    let mut b = Builder::default();
    let (x, index) = (b.input(&[1, 8], DType::F32), b.input(&[1], DType::I32));
    let mut ends = [Vec::new(), Vec::new()];
    for _ in 0..3 {
        let trunk = b.layer(x, 12);
        ends[0].push(b.layer(trunk, 4));
        ends[1].push(b.layer(trunk, 6));
    }
    let first = b.switch(&ends[0], index);
    // Between the two in the graph, and it needs the first.
    let between = b.layer(first, 5);
    let second = b.switch(&ends[1], index);
    b.graph.outputs = vec![between, second];
    for ran in check(&b.graph, &[0, 1, 2]) {
        assert_eq!(ran.layers(), 4, "{:?}", ran.0);
        assert_eq!(ran.0.iter().filter(|(tag, _)| *tag == Tag::Branch).count(), 3);
    }
    // The branches of the second need the first: two switches.
    let mut b = Builder::default();
    let (x, index) = (b.input(&[1, 8], DType::F32), b.input(&[1], DType::I32));
    let mut chosen = x;
    for _ in 0..2 {
        let branches: Vec<ValueId> = (0..3).map(|_| b.layer(chosen, 8)).collect();
        chosen = b.switch(&branches, index);
    }
    b.graph.outputs = vec![chosen];
    for ran in check(&b.graph, &[0, 1, 2]) {
        assert_eq!((ran.layers(), ran.0.len()), (2, 8));
    }
}

/// A switch within a branch, with an index that is computed there; deeper ones than the format has are refused.
#[test]
fn switches_lie_within_branches() {
    let nested = |depth: usize| {
        let mut b = Builder::default();
        let (x, index) = (b.input(&[1, 8], DType::F32), b.input(&[1], DType::I32));
        let mut inner = b.layer(x, 8);
        for _ in 0..depth {
            let other = b.layer(x, 8);
            let deeper = b.layer(inner, 8);
            inner = b.switch(&[other, deeper], index);
        }
        b.graph.outputs = vec![inner];
        b.graph
    };
    for depth in [1, 2, 3] {
        let ran = check(&nested(depth), &[0, 1]);
        assert_eq!(ran[0].layers(), 1);
        assert_eq!(ran[1].layers(), 1 + depth);
    }
    assert!(compile(&nested(8), &CompileOptions::default()).is_ok());
    let error = compile(&nested(9), &CompileOptions::default()).unwrap_err().to_string();
    assert!(error.contains("switches within each other"), "{error}");
}

/// A graph without switches is lowered as before, and an index that is a constant works.
#[test]
fn a_constant_index_chooses_too() {
    let mut b = Builder::default();
    let x = b.input(&[1, 8], DType::F32);
    let index = b.graph.add_constant("index", vec![1], Data::I32(vec![1]));
    let branches = [b.layer(x, 8), b.layer(x, 8)];
    let y = b.switch(&branches, index);
    b.graph.outputs = vec![y];
    assert_eq!(check(&b.graph, &[0])[0].layers(), 1);
}

/// A layer of a branch does not see every sample, so it cannot learn; the others can.
#[test]
fn layers_of_branches_do_not_learn() {
    let graph = experts(None, 2);
    let learning = |plan: &str| {
        let plan = LearningPlan::parse(plan).unwrap();
        compile(&graph, &CompileOptions { learning: Some(plan), ..CompileOptions::default() })
    };
    let inside = graph.nodes[1].name.clone();
    let error = learning(&format!("layers = [\"{inside}\"]")).unwrap_err().to_string();
    assert!(error.contains("runs only if a switch chooses it"), "{error}");
    let made = learning("layers = [\"last\"]").unwrap();
    let file = AlignedBytes::copy_of(&made.bytes);
    let model = Model::open(file.bytes()).unwrap();
    assert_eq!(model.learning().unwrap().layers().count(), 1);
    // All layers that can learn: those outside.
    let made = learning("").unwrap();
    assert!(made.report.learning.is_some());
}
