//! Forms that the standard allows and exporters seldom write, equal to the usual form of the same operator or to numbers by hand.

mod common;

use common::*;
use ndarray::{ArrayD, IxDyn};
use offshoot_import::import_bytes;
use offshoot_reference::Executor;
use tract_onnx::pb::{NodeProto, TensorProto};

/// What nodes from `x` to `y` give for numbers that look random.
fn run(opset: i64, dims: &[i64], nodes: Vec<NodeProto>, parts: Vec<TensorProto>) -> ArrayD<f32> {
    let shape: Vec<usize> = dims.iter().map(|d| *d as usize).collect();
    let x = ArrayD::from_shape_vec(IxDyn(&shape), wave(shape.iter().product(), 0.3)).unwrap();
    let what = format!("{nodes:?}");
    let graph =
        import_bytes(&model(opset, 1, dims, nodes, parts), "test").unwrap_or_else(|e| panic!("{what}: {e}"));
    let outputs = Executor::new(&graph).unwrap().run(&[x]).unwrap_or_else(|e| panic!("{what}: {e}"));
    outputs[0].clone()
}

fn close(a: &ArrayD<f32>, b: &ArrayD<f32>) {
    assert_eq!(a.shape(), b.shape());
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{a} instead of {b}");
    }
}

/// LayerNormalization over the last two of three axes, with this scale and bias.
fn normalised(scale: TensorProto, bias: TensorProto) -> ArrayD<f32> {
    let nodes = vec![node("LayerNormalization", &["x", "s", "b"], &["y"], vec![int("axis", 1)])];
    run(17, &[2, 3, 4], nodes, vec![scale, bias])
}

#[test]
fn parameters_of_a_layer_normalisation_are_broadcast() {
    let (s, b) = (wave(4, 1.0), wave(3, 2.0));
    let all = |at: &dyn Fn(usize) -> f32| (0..12).map(at).collect::<Vec<f32>>();
    let wide = normalised(reals("s", &[3, 4], all(&|i| s[i % 4])), reals("b", &[3, 4], all(&|i| b[i / 4])));
    close(&normalised(reals("s", &[4], s.clone()), reals("b", &[3, 1], b.clone())), &wide);
    close(&normalised(reals("s", &[1, 1, 4], s), reals("b", &[1, 3, 1], b)), &wide);
    let number = normalised(reals("s", &[1], vec![0.5]), reals("b", &[], vec![0.25]));
    close(&number, &normalised(reals("s", &[3, 4], vec![0.5; 12]), reals("b", &[3, 4], vec![0.25; 12])));
    // Another scale for each row.
    let rows = normalised(reals("s", &[2, 1, 1], vec![1.0, 2.0]), reals("b", &[1], vec![0.0]));
    let plain = normalised(reals("s", &[1], vec![1.0]), reals("b", &[1], vec![0.0]));
    let doubled: Vec<f32> =
        plain.iter().enumerate().map(|(i, v)| if i < 12 { *v } else { 2.0 * v }).collect();
    close(&rows, &ArrayD::from_shape_vec(IxDyn(&[2, 3, 4]), doubled).unwrap());
}

#[test]
fn parameters_of_channels_may_be_computed() {
    for (operator, attributes) in
        [("InstanceNormalization", vec![]), ("GroupNormalization", vec![int("num_groups", 2)])]
    {
        let parts = || vec![noise("scale", &[4]), noise("shifted", &[4])];
        let constant = node(operator, &["x", "scale", "shifted"], &["y"], attributes.clone());
        let constant = run(21, &[2, 4, 3], vec![constant], parts());
        let nodes = vec![
            node("ReduceSum", &["x"], &["sum"], vec![int("keepdims", 0)]),
            node("Sub", &["sum", "sum"], &["nothing"], vec![]),
            node("Add", &["scale", "nothing"], &["s"], vec![]),
            node("Add", &["nothing", "shifted"], &["b"], vec![]),
            node(operator, &["x", "s", "b"], &["y"], attributes),
        ];
        close(&run(21, &[2, 4, 3], nodes, parts()), &constant);
    }
}

#[test]
fn a_power_has_the_axes_of_its_exponent() {
    let nodes = vec![node("Pow", &["x", "e"], &["y"], vec![])];
    let y = run(13, &[3], nodes, vec![reals("e", &[1, 1], vec![2.0])]);
    let x = wave(3, 0.3);
    close(&y, &ArrayD::from_shape_vec(IxDyn(&[1, 3]), x.iter().map(|v| v * v).collect()).unwrap());
}

#[test]
fn slopes_of_a_scalar() {
    let nodes = vec![
        node("ReduceMin", &["x"], &["least"], vec![int("keepdims", 0)]),
        node("PRelu", &["least", "s"], &["y"], vec![]),
    ];
    let y = run(13, &[8], nodes, vec![reals("s", &[], vec![0.5])]);
    let least = wave(8, 0.3).into_iter().fold(f32::INFINITY, f32::min);
    close(&y, &ndarray::arr0(0.5 * least).into_dyn());
}

#[test]
fn the_upper_of_two_crossed_bounds_holds() {
    let nodes = vec![node("Clip", &["x", "low", "high"], &["y"], vec![])];
    let y = run(13, &[4], nodes, vec![reals("low", &[], vec![0.5]), reals("high", &[], vec![-0.5])]);
    close(&y, &ndarray::arr1(&[-0.5; 4]).into_dyn());
}

#[test]
fn cubic_resize_to_one_element_takes_the_first() {
    let attributes =
        || vec![text("mode", "cubic"), text("coordinate_transformation_mode", "pytorch_half_pixel")];
    // 1 / 5 is no float32: the output's extent is not 1 if it is computed from the scale.
    for height in [4, 5] {
        let nodes = vec![node("Resize", &["x", "", "", "sizes"], &["y"], attributes())];
        let y = run(19, &[1, 1, height, 3], nodes, vec![whole("sizes", &[1, 1, 1, 3])]);
        let x = wave(height as usize * 3, 0.3);
        close(&y, &ArrayD::from_shape_vec(IxDyn(&[1, 1, 1, 3]), x[..3].to_vec()).unwrap());
    }
}

#[test]
fn places_that_fall_on_an_element_are_exact() {
    let attributes = vec![
        text("mode", "nearest"),
        text("nearest_mode", "floor"),
        text("coordinate_transformation_mode", "asymmetric"),
    ];
    let nodes = vec![node("Resize", &["x", "", "", "sizes"], &["y"], attributes)];
    let y = run(19, &[9, 1], nodes, vec![whole("sizes", &[12, 1])]);
    let x = wave(9, 0.3);
    let taken: Vec<f32> = (0..12).map(|i| x[i * 9 / 12]).collect();
    close(&y, &ArrayD::from_shape_vec(IxDyn(&[12, 1]), taken).unwrap());
}
