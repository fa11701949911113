//! Sub-networks are what they should be: valid, nested, of the super-network's weights; sorting changes no function; every
//! family and any graph gives a space.

use ndarray::{ArrayD, IxDyn};
use offshoot_compress::prune::{Groups, Split};
use offshoot_data::Random;
use offshoot_ir::{Data, Graph};
use offshoot_search::automatic::{Elasticity, automatic};
use offshoot_search::elastic::{Elastic, sort};
use offshoot_search::families::{Family, Shape, build};
use offshoot_search::file::SpaceFile;
use offshoot_search::space::Kind;
use offshoot_train::predict;
use offshoot_train::shared::recalibrate;

fn inputs(graph: &Graph, count: usize) -> ArrayD<f32> {
    let mut shape = graph.value(graph.inputs[0]).shape.clone();
    shape[0] = count;
    let n = shape.iter().product();
    let data = (0..n).map(|i: usize| ((i * 37 + i / 11) % 23) as f32 / 11.0 - 1.0).collect();
    ArrayD::from_shape_vec(IxDyn(&shape), data).unwrap()
}

fn everything() -> Elasticity {
    Elasticity {
        width: vec![0.25, 0.5, 1.0],
        depth: true,
        kernel: vec![3],
        resolution: vec![0.5, 1.0],
        bits: vec![2, 4, 8],
        heads: true,
        ..Elasticity::default()
    }
}

/// One small network of each family, all that can be elastic.
fn networks() -> Vec<Elastic> {
    let conv = Shape {
        input: [16, 16, 2],
        stem: 8,
        stem_kernel: [5, 5],
        widths: vec![8, 12],
        blocks: vec![2, 2],
        kernel: 5,
        ..Shape::default()
    };
    let vit = Shape {
        input: [16, 16, 3],
        stem_kernel: [4, 4],
        widths: vec![16, 24],
        blocks: vec![2, 2],
        heads: vec![2, 3],
        ..Shape::default()
    };
    let gru = Shape { input: [12, 5, 1], widths: vec![12], blocks: vec![1], steps: 4, ..Shape::default() };
    [(Family::DsCnn, conv.clone()), (Family::Resnet, conv), (Family::Vit, vit), (Family::Gru, gru)]
        .into_iter()
        .map(|(family, shape)| {
            let built = build(family, &shape).unwrap();
            let mut elastic = everything();
            if family == Family::Gru {
                elastic.resolution.clear();
            }
            automatic(built.graph, &elastic, Some(built.blocks), vec![]).unwrap()
        })
        .collect()
}

#[test]
fn every_sub_network_is_valid_nested_and_runs() {
    for elastic in networks() {
        let space = &elastic.space;
        let names: Vec<&str> = space.variables.iter().map(|v| v.name.as_str()).collect();
        println!("{}: {:.3e} candidates, {names:?}", elastic.graph.name, space.size());
        let kinds = |f: fn(&Kind) -> bool| space.variables.iter().filter(|v| f(&v.kind)).count();
        assert!(
            kinds(|k| matches!(k, Kind::Channels { .. })) > 0
                && kinds(|k| matches!(k, Kind::Bits { .. })) > 0
        );
        let whole = elastic.cut(&space.largest()).unwrap();
        let x = inputs(&whole, 2);
        let [a, b] = [&elastic.graph, &whole].map(|g| predict(g, &x).unwrap());
        assert_eq!(a, b, "{}: the largest is the super-network", elastic.graph.name);
        let mut random = Random::new(5, 0);
        let mut sizes = Vec::new();
        for i in 0..12 {
            let e = if i == 0 { space.smallest() } else { space.sample(&mut random) };
            let member = elastic.member(&e).unwrap();
            let cut = member.cut(&elastic.graph);
            cut.validate().unwrap();
            for source in &member.sources {
                let Some(Data::F32(whole)) = elastic.graph.value(source.whole).data.as_deref() else {
                    panic!()
                };
                let Some(Data::F32(part)) = cut.value(source.part).data.as_deref() else { panic!() };
                assert_eq!(part.len(), source.elements.len());
                assert!(source.elements.iter().zip(part).all(|(&e, p)| whole[e as usize] == *p));
                assert!(source.elements.windows(2).all(|w| w[0] < w[1]), "in order, each once");
            }
            let weights: usize = cut.values.iter().filter(|v| v.data.is_some()).map(|v| v.len()).sum();
            sizes.push(weights);
            let cut = recalibrate(&cut, std::slice::from_ref(&x), 2).unwrap();
            let (cut, _) = offshoot_ir::passes::lossless(cut).unwrap();
            predict(&cut, &inputs(&cut, 1)).unwrap();
        }
        assert!(sizes[1..].iter().all(|s| *s >= sizes[0]), "{sizes:?}");
    }
}

#[test]
fn equal_encodings_are_equal_networks_and_idle_variables_do_nothing() {
    for elastic in networks().into_iter().take(2) {
        let space = &elastic.space;
        let depth = space.variables.iter().position(|v| matches!(v.kind, Kind::Depth { .. })).unwrap();
        let mut e = space.smallest();
        e[depth] = 0;
        let plain = elastic.cut(&space.canonical(e.clone())).unwrap();
        let mut idle = 0;
        for v in 0..space.len() {
            let mut other = e.clone();
            other[v] = space.variables[v].options.len() as u16 - 1;
            if space.canonical(other.clone()) == space.canonical(e.clone()) && v != depth {
                idle += 1;
                assert_eq!(elastic.cut(&other).unwrap(), plain, "{}", space.variables[v].name);
            }
        }
        assert!(idle > 0);
    }
}

/// Blocks of one variable one by one, and of several variables together.
#[test]
fn every_block_that_is_skipped_is_gone() {
    let shape = Shape {
        input: [8, 8, 1],
        stem: 8,
        stem_kernel: [3, 3],
        widths: vec![8],
        blocks: vec![4],
        ..Shape::default()
    };
    let depth = Elasticity { width: vec![], depth: true, ..Elasticity::default() };
    for family in [Family::DsCnn, Family::Resnet] {
        let built = build(family, &shape).unwrap();
        let apart = built.blocks[0].iter().map(|b| vec![b.clone()]).collect();
        let whole = automatic(built.graph.clone(), &depth, Some(built.blocks), vec![]).unwrap();
        let sizes: Vec<usize> = (0..=4).map(|d| whole.cut(&[d]).unwrap().nodes.len()).collect();
        let block = (sizes[4] - sizes[0]) / 4;
        assert!(block > 2 && sizes.windows(2).all(|w| w[1] - w[0] == block), "{family:?}: {sizes:?}");
        let apart = automatic(built.graph, &depth, Some(apart), vec![]).unwrap();
        for e in 0..16u16 {
            let encoding: Vec<u16> = (0..4).map(|i| e >> i & 1).collect();
            let kept = encoding.iter().sum::<u16>() as usize;
            assert_eq!(apart.cut(&encoding).unwrap().nodes.len(), sizes[kept], "{family:?}: {encoding:?}");
        }
    }
}

#[test]
fn sorting_channels_changes_no_function() {
    for elastic in networks() {
        let graph = recalibrate(&elastic.graph, &[inputs(&elastic.graph, 3)], 3).unwrap();
        for split in [Split::Dimensions, Split::Heads] {
            let groups = Groups::elastic(&graph, split).unwrap();
            let scores: Vec<f64> = (0..groups.len()).map(|g| ((g * 29) % 31) as f64).collect();
            let sorted = sort(&graph, &groups, &scores);
            assert_ne!(sorted, graph);
            let x = inputs(&graph, 2);
            let [a, b] = [&graph, &sorted].map(|g| predict(g, &x).unwrap());
            let far = (&a - &b).iter().fold(0.0f32, |m, d| m.max(d.abs()));
            assert!(far < 1e-3, "{}: {far}", graph.name);
        }
    }
}

#[test]
fn a_space_is_read_and_its_mistakes_are_named() {
    let text = r#"
        name = "small"
        family = "ds-cnn"
        [network]
        input = [20, 10, 1]
        classes = 4
        stem = 16
        widths = [16]
        blocks = [2]
        [elastic]
        width = [0.5, 1.0]
        depth = true
        kernel = [3]
        bits = [4, 8]
        factor = ["stage0.block0.pointwise"]
        rank = [0.25, 0.5, 1.0]
        [training]
        epochs = 3
        sampling = "multi-architectural"
        [[variable]]
        name = "head.bits"
        bits = ["head"]
        options = [2, 8]
    "#;
    let file = SpaceFile::parse(text).unwrap();
    let elastic = file.elastic(std::path::Path::new(".")).unwrap();
    let find = |name: &str| elastic.space.variables.iter().find(|v| v.name == name);
    assert_eq!(find("head.bits").unwrap().options, [2, 8]);
    assert_eq!(find("stage0.block0.pointwise.inner.rank").unwrap().options, [4, 8, 16]);
    elastic.cut(&elastic.space.smallest()).unwrap();
    let wrong = |from: &str, to: &str| {
        let file = SpaceFile::parse(&text.replace(from, to))?;
        file.elastic(std::path::Path::new("."))
    };
    for (from, to, said) in [
        ("family = \"ds-cnn\"", "", "either `onnx` or `family`"),
        ("blocks = [2]", "blocks = [2, 3]", "one number a stage"),
        ("bits = [\"head\"]", "bits = [\"tail\"]", "no operator `tail`"),
        ("options = [2, 8]", "options = [8, 2]", "do not ascend"),
        ("depth = true", "deep = true", "unknown field"),
        ("factor = [\"stage0.block0.pointwise\"]", "factor = [\"nothing\"]", "no such operator"),
        ("width = [0.5, 1.0]", "width = [0.5, 2.0]", "at most 1"),
    ] {
        let error = wrong(from, to).unwrap_err().to_string();
        assert!(error.contains(said), "{to}: {error}");
    }
}
