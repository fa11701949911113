//! Average pools that do not count padding, with an output scale of their own: each part of the output whose windows count
//! the same number of elements is a convolution with a kernel of ones, so that every sum is rounded once.

use offshoot_ir::{DType, Data, Graph, Node, Op, PoolKind, Quant, Value, ValueId, Window};

use super::constants::constant;

/// Most parts along an axis: a pool with more is computed in float.
const MOST_PARTS: usize = 5;

/// Neighbouring outputs along an axis whose windows count equally many elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    /// Outputs.
    count: usize,
    /// First input that the first of them counts.
    start: usize,
    /// Inputs that each of them counts.
    taps: usize,
}

/// The parts of an axis with `size` inputs and `out` outputs; `None` if there are too many, or a window counts nothing.
fn parts(window: &Window, axis: usize, size: usize, out: usize) -> Option<Vec<Part>> {
    let [kernel, stride, dilation] =
        [window.kernel, window.stride, window.dilation].map(|v| usize::from(v[axis]));
    let before = usize::from(window.pad[axis]);
    let mut parts: Vec<Part> = Vec::new();
    for o in 0..out {
        let inside = |k: &usize| (o * stride + k * dilation).checked_sub(before).is_some_and(|i| i < size);
        let first = (0..kernel).find(inside)?;
        let taps = (first..kernel).take_while(inside).count();
        let start = o * stride + first * dilation - before;
        match parts.last_mut() {
            Some(part) if part.taps == taps && part.start + part.count * stride == start => part.count += 1,
            _ => parts.push(Part { count: 1, start, taps }),
        }
    }
    (parts.len() <= MOST_PARTS).then_some(parts)
}

/// The parts of a pool's output, rows and columns; `None` if it has too many.
fn of_pool(window: &Window, x: &[usize], y: &[usize]) -> Option<[Vec<Part>; 2]> {
    let (&[_, h, w, _], &[_, oh, ow, _]) = (x, y) else { return None };
    Some([parts(window, 0, h, oh)?, parts(window, 1, w, ow)?])
}

/// Whether [`apply`] can replace a pool over these shapes.
pub(super) fn fits(window: &Window, x: &[usize], y: &[usize]) -> bool {
    of_pool(window, x, y).is_some()
}

/// Replaces every int8 or int16 average pool whose output scale is not its input's.
pub(super) fn apply(mut graph: Graph) -> Graph {
    for node in std::mem::take(&mut graph.nodes) {
        let (x, y) = (graph.value(node.inputs[0]), graph.value(node.output));
        let quantised = matches!(x.dtype, DType::I8 | DType::I16);
        let rounds = quantised && y.dtype == x.dtype && x.quant != y.quant;
        let found = match node.op {
            Op::Pool { kind: PoolKind::Average, window, .. } if rounds => {
                of_pool(&window, &x.shape, &y.shape)
            }
            _ => None,
        };
        match found {
            Some(found) => in_parts(&mut graph, &node, found),
            None => graph.nodes.push(node),
        }
    }
    graph
}

fn in_parts(graph: &mut Graph, node: &Node, [rows, columns]: [Vec<Part>; 2]) {
    let Op::Pool { window, activation, .. } = node.op else { return };
    let whole = graph.value(node.output).clone();
    let x = graph.value(node.inputs[0]).clone();
    let (n, c) = (x.shape[0], x.shape[3]);
    let mut bands = Vec::new();
    for (r, row) in rows.iter().enumerate() {
        let mut cells = Vec::new();
        for (k, column) in columns.iter().enumerate() {
            let name = format!("{}/part_{r}_{k}", whole.name);
            let extent = |part: &Part, axis: usize| {
                let [stride, dilation] = [window.stride, window.dilation].map(|v| usize::from(v[axis]));
                (part.count - 1) * stride + (part.taps - 1) * dilation + 1
            };
            let shape = vec![n, extent(row, 0), extent(column, 1), c];
            let slice = Op::Slice { start: vec![0, row.start, column.start, 0], step: vec![1; 4] };
            let cut = Value { name: format!("{name}/input"), shape, data: None, ..x.clone() };
            let cut = push(graph, node, slice, vec![node.inputs[0]], cut);
            let area = row.taps * column.taps;
            let ones = Data::I8(vec![1; c * area]);
            let kernel = vec![c, row.taps, column.taps, 1];
            let quant = Quant::per_tensor(1.0 / area as f32, 0);
            let ones = graph.add_value(constant(format!("{name}/ones"), kernel, DType::I8, ones, quant));
            // Not more taps than the kernel has.
            let taps = [row.taps, column.taps].map(|t| t.try_into().unwrap_or(u16::MAX));
            let window = Window { kernel: taps, pad: [0; 4], ..window };
            let op = Op::Conv2d { window, groups: c, activation };
            let cell = Value { name, shape: vec![n, row.count, column.count, c], ..whole.clone() };
            cells.push(push(graph, node, op, vec![cut, ones], cell));
        }
        let band = Value {
            name: format!("{}/rows_{r}", whole.name),
            shape: vec![n, row.count, whole.shape[2], c],
            ..whole.clone()
        };
        bands.push(match cells[..] {
            [cell] => cell,
            _ => push(graph, node, Op::Concat { axis: 2 }, cells, band),
        });
    }
    match (&bands[..], graph.nodes.last_mut()) {
        ([_], Some(last)) => last.output = node.output,
        _ => graph.nodes.push(Node { op: Op::Concat { axis: 1 }, inputs: bands, ..node.clone() }),
    }
}

fn push(graph: &mut Graph, node: &Node, op: Op, inputs: Vec<ValueId>, output: Value) -> ValueId {
    let output = graph.add_value(output);
    graph.nodes.push(Node { name: node.name.clone(), op, inputs, output });
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_count_what_lies_inside() {
        let window = Window { kernel: [3; 2], stride: [1, 2], dilation: [1; 2], pad: [1, 1, 1, 1] };
        let part = |count, start, taps| Part { count, start, taps };
        assert_eq!(parts(&window, 0, 5, 5).unwrap(), [part(1, 0, 2), part(3, 0, 3), part(1, 3, 2)]);
        // Columns 0 to 1, 1 to 3, 3 to 5.
        assert_eq!(parts(&window, 1, 6, 3).unwrap(), [part(1, 0, 2), part(2, 1, 3)]);
        // A window larger than the input.
        assert_eq!(parts(&window, 0, 1, 1).unwrap(), [part(1, 0, 1)]);
        let wide = Window { kernel: [9; 2], stride: [1; 2], dilation: [1; 2], pad: [4; 4] };
        assert_eq!(parts(&wide, 0, 20, 20), None);
    }
}
