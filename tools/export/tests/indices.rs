//! Operators on run-time indices, compiled and run by the engine, against the reference executor: random shapes, and
//! indices of which some lie outside.

use ndarray::{ArrayD, IxDyn};
use offshoot::{AlignedBytes, Engine, Model};
use offshoot_export::{CompileOptions, compile};
use offshoot_ir::{
    DType, Data, Graph, GridKind, GridOutside, Indexing, Node, Op, Quant, ScatterKind, Value, ValueId,
    indexed,
};
use offshoot_reference::Executor;
use proptest::prelude::*;

fn value(graph: &mut Graph, shape: &[usize], dtype: DType) -> ValueId {
    let name = format!("v{}", graph.values.len());
    let quant = (dtype == DType::I8).then(|| Quant::per_tensor(0.5, 3));
    graph.add_value(Value {
        name,
        shape: shape.to_vec(),
        dtype,
        quant,
        data: None,
        channels_first_outside: false,
    })
}

fn input(graph: &mut Graph, shape: &[usize], dtype: DType) -> ValueId {
    let id = value(graph, shape, dtype);
    graph.inputs.push(id);
    id
}

fn node(graph: &mut Graph, op: Op, inputs: Vec<ValueId>, shape: &[usize], dtype: DType) -> ValueId {
    let output = value(graph, shape, dtype);
    graph.nodes.push(Node { name: format!("n{}", graph.nodes.len()), op, inputs, output });
    graph.outputs = vec![output];
    output
}

/// Numbers of a value's type, as the engine's bytes and as real numbers.
fn numbers(value: &Value, raw: &[i32]) -> (Vec<u8>, ArrayD<f32>) {
    let raw: Vec<i32> = (0..value.len()).map(|i| raw[i % raw.len()]).collect();
    let (bytes, reals): (Vec<u8>, Vec<f32>) = match value.dtype {
        DType::I8 => (
            raw.iter().map(|v| *v as u8).collect(),
            raw.iter().map(|v| ((*v as i8) as f32 - 3.0) * 0.5).collect(),
        ),
        DType::F32 => {
            let reals: Vec<f32> = raw.iter().map(|v| *v as f32 * 0.37).collect();
            (reals.iter().flat_map(|v| v.to_le_bytes()).collect(), reals)
        }
        _ => (raw.iter().flat_map(|v| v.to_le_bytes()).collect(), raw.iter().map(|v| *v as f32).collect()),
    };
    (bytes, ArrayD::from_shape_vec(IxDyn(&value.shape), reals).unwrap())
}

/// Runs a graph by the engine and by the executor, and compares.
fn same(graph: &Graph, raw: &[Vec<i32>]) {
    let given: Vec<_> =
        graph.inputs.iter().zip(raw).map(|(id, raw)| numbers(graph.value(*id), raw)).collect();
    let arrays: Vec<ArrayD<f32>> = given.iter().map(|(_, array)| array.clone()).collect();
    let wanted = Executor::new(graph).unwrap().run(&arrays).unwrap().remove(0);
    let file = AlignedBytes::copy_of(&compile(graph, &CompileOptions::default()).unwrap().bytes);
    let model = Model::open(file.bytes()).unwrap();
    let mut arena = AlignedBytes::zeroed(model.arena_bytes() as usize);
    let mut engine = Engine::new(model, arena.bytes_mut()).unwrap();
    for (i, (bytes, _)) in given.iter().enumerate() {
        engine.input_mut(i).unwrap().copy_from_slice(bytes);
    }
    engine.run().unwrap();
    let mut got = vec![0.0; wanted.len()];
    engine.read_output_f32(0, &mut got).unwrap();
    assert_eq!(got, wanted.iter().copied().collect::<Vec<_>>(), "{:?}", graph.nodes[0].op);
}

fn shape(rank: usize) -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1..5usize, rank)
}

fn any_indexing() -> impl Strategy<Value = (Indexing, Vec<usize>, Vec<usize>)> {
    let slices = (shape(3), 0..3usize, prop::collection::vec(1..4usize, 0..3))
        .prop_map(|(x, axis, index)| (Indexing::Slices { axis }, x, index));
    let elements = (shape(4), 0..4usize, shape(4)).prop_map(|(x, axis, mut index)| {
        (0..4).filter(|a| *a != axis).for_each(|a| index[a] = index[a].min(x[a]));
        (Indexing::Elements { axis }, x, index)
    });
    let tuples = (shape(4), 0..2usize, 1..3usize, 1..5usize).prop_map(|(x, batch, depth, rows)| {
        let index = [&x[..batch], &[rows, depth]].concat();
        (Indexing::Tuples { batch }, x, index)
    });
    prop_oneof![slices, elements, tuples]
}

fn raw() -> impl Strategy<Value = Vec<i32>> {
    prop::collection::vec(-128..128i32, 40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn gathers((indexing, x, index) in any_indexing(), at in prop::collection::vec(-9..9i32, 17), raw in raw(),
        kind in 0..3usize, constant in any::<bool>())
    {
        let dtype = [DType::F32, DType::I8, DType::I32][kind];
        let mut g = Graph::default();
        let (table, mut all) = (input(&mut g, &x, dtype), vec![raw]);
        let index_id = if constant {
            let n: usize = index.iter().product();
            let data = (0..n).map(|i| at[i % at.len()]).collect();
            g.add_constant("index", index.clone(), Data::I32(data))
        } else {
            all.push(at);
            input(&mut g, &index, DType::I32)
        };
        let out = indexed::gathered(indexing, &x, &index).unwrap();
        node(&mut g, Op::Gather(indexing), vec![table, index_id], &out, dtype);
        same(&g, &all);
    }

    #[test]
    fn scatters((indexing, x, index) in any_indexing(), at in prop::collection::vec(-9..9i32, 17), raw in raw(),
        more in raw(), join in 0..5usize, kind in 0..3usize)
    {
        use ScatterKind::{Add, Max, Min, Mul, Set};
        let join = [Set, Add, Mul, Max, Min][join];
        let dtype = match [DType::F32, DType::I8, DType::I32][kind] {
            DType::I8 if matches!(join, Add | Mul) => DType::F32,
            DType::I32 if join != Set => DType::F32,
            dtype => dtype,
        };
        let mut g = Graph::default();
        let (data, index_id) = (input(&mut g, &x, dtype), input(&mut g, &index, DType::I32));
        let updates = input(&mut g, &indexed::gathered(indexing, &x, &index).unwrap(), dtype);
        node(&mut g, Op::Scatter { indexing, kind: join }, vec![data, index_id, updates], &x, dtype);
        same(&g, &[raw, at, more]);
    }

    #[test]
    fn the_best(x in shape(3), axis in 0..3usize, k in 1..5usize, largest in any::<bool>(), raw in raw(), int8 in any::<bool>()) {
        let k = k.min(x[axis]);
        let mut g = Graph::default();
        let input = input(&mut g, &x, if int8 { DType::I8 } else { DType::F32 });
        let mut out = x;
        out[axis] = k;
        node(&mut g, Op::TopK { axis, k, largest }, vec![input], &out, DType::I32);
        same(&g, &[raw]);
    }
}

#[test]
fn conversions_and_constants() {
    let mut g = Graph::default();
    let x = input(&mut g, &[6], DType::F32);
    let whole = node(&mut g, Op::Cast, vec![x], &[6], DType::I32);
    let real = node(&mut g, Op::Cast, vec![whole], &[6], DType::F32);
    let quantised = node(&mut g, Op::Quantize, vec![real], &[6], DType::I8);
    node(&mut g, Op::Dequantize, vec![quantised], &[6], DType::F32);
    same(&g, &[vec![5, -7, 9, 4, 0, 1]]);

    // A table stays in flash; zeros to scatter into are filled.
    let mut g = Graph::default();
    let index = input(&mut g, &[2, 1], DType::I32);
    let table = g.add_constant("table", vec![3, 4], Data::F32((0..12).map(|v| v as f32).collect()));
    let rows =
        node(&mut g, Op::Gather(Indexing::Tuples { batch: 0 }), vec![table, index], &[2, 4], DType::F32);
    let zeros = g.add_constant("zeros", vec![3, 4], Data::F32(vec![0.0; 12]));
    let op = Op::Scatter { indexing: Indexing::Tuples { batch: 0 }, kind: ScatterKind::Add };
    node(&mut g, op, vec![zeros, index, rows], &[3, 4], DType::F32);
    same(&g, &[vec![2, -1]]);
    let report = compile(&g, &CompileOptions::default()).unwrap().report;
    assert!(report.arena_bytes <= 2 * 4 + 2 * 16 + 48 + 16, "{}", report.arena_bytes);
}

#[test]
fn images_sampled_on_a_grid() {
    let mut g = Graph::default();
    let (x, grid) = (input(&mut g, &[1, 3, 4, 2], DType::F32), input(&mut g, &[1, 2, 2, 2], DType::F32));
    let op =
        Op::GridSample { kind: GridKind::Bilinear, outside: GridOutside::Reflection, align_corners: false };
    node(&mut g, op, vec![x, grid], &[1, 2, 2, 2], DType::F32);
    same(&g, &[vec![3, 1, 4, 1, 5, 9, 2, 6], vec![-3, 1, 0, 2, 9, -9, 1, 2]]);
}
