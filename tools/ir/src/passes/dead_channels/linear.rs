//! A uniform view of operators with weights: every output channel is a row of weights over the kernel positions and
//! the input channels of its group.

use offshoot::kernels::portable::fixed_point::multiply_by_quantized_multiplier;

use crate::quant_math::{activation_range, linear_multiplier, quantize_multiplier};
use crate::{DType, Data, Graph, Node, Op, Value, ValueId, Window};

/// The constant value of a channel: an int8 as it is stored, or a float32.
pub(super) type Known = Option<f32>;

/// The lowest and the highest int8 code that a channel can have.
pub(super) type Range = (f32, f32);

/// All codes.
pub(super) const CODES: Range = (-128.0, 127.0);

/// A convolution or fully connected operator whose weights and bias are constants, all int8 or all float32.
pub(super) struct Linear<'g> {
    graph: &'g Graph,
    node: &'g Node,
    weights: &'g Data,
    bias: Option<&'g Data>,
    /// Output channels.
    pub rows: usize,
    /// Kernel positions.
    pub taps: usize,
    /// Input channels per group.
    pub cols: usize,
    /// Groups.
    pub groups: usize,
    /// Whether any window reaches into the padding.
    padded: bool,
}

/// The stored value of padding: the zero point or 0.
pub(super) fn rest(value: &Value) -> f32 {
    match (&value.quant, value.dtype) {
        (Some(q), DType::I8) => q.zero_point[0] as f32,
        _ => 0.0,
    }
}

/// Whether a value is float32, or int8 with one scale.
fn plain(value: &Value) -> bool {
    match (value.dtype, &value.quant) {
        (DType::F32, _) => true,
        (DType::I8, Some(q)) => q.scale.len() == 1,
        _ => false,
    }
}

/// Whether any window over `x` `[N, H, W, C]` with output `y` reaches into the padding.
pub(super) fn reaches_padding(window: &Window, x: &[usize], y: &[usize]) -> bool {
    (0..2).any(|i| {
        let span = usize::from(window.kernel[i]).saturating_sub(1) * usize::from(window.dilation[i]) + 1;
        let last = y[1 + i].saturating_sub(1) * usize::from(window.stride[i]);
        window.pad[i] > 0 || last + span > x[1 + i]
    })
}

impl<'g> Linear<'g> {
    /// The view of a node; `None` for other operators.
    pub(super) fn of(graph: &'g Graph, node: &'g Node) -> Option<Self> {
        let (groups, window) = match &node.op {
            Op::Conv2d { window, groups, .. } => (*groups, Some(window)),
            Op::FullyConnected { .. } => (1, None),
            _ => return None,
        };
        let (x, w, y) = (graph.value(node.inputs[0]), graph.value(node.inputs[1]), graph.value(node.output));
        let weights = w.data.as_deref()?;
        let bias = match node.inputs.get(2) {
            Some(&b) => Some(graph.value(b).data.as_deref()?),
            None => None,
        };
        let alike = match weights {
            Data::F32(_) => {
                x.dtype == DType::F32 && y.dtype == DType::F32 && matches!(bias, None | Some(Data::F32(_)))
            }
            Data::I8(_) => {
                let q = w.quant.as_ref()?;
                x.dtype == DType::I8
                    && y.dtype == DType::I8
                    && matches!(bias, None | Some(Data::I32(_)))
                    && q.zero_point.iter().all(|&z| z == 0)
                    && (q.scale.len() == 1 || q.axis == Some(0))
            }
            Data::I16(_) | Data::I32(_) | Data::I64(_) => false,
        };
        let (rows, cols) = (*w.shape.first()?, *w.shape.last()?);
        if !alike || !plain(x) || !plain(y) || x.data.is_some() || rows * cols * groups == 0 {
            return None;
        }
        Some(Self {
            graph,
            node,
            weights,
            bias,
            rows,
            taps: w.shape[1..w.shape.len() - 1].iter().product(),
            cols,
            groups,
            padded: window.is_some_and(|w| reaches_padding(w, &x.shape, &y.shape)),
        })
    }

    /// The weights' tensor.
    pub(super) fn weights_id(&self) -> ValueId {
        self.node.inputs[1]
    }

    /// Whether each input channel forms its own group, and there are several groups.
    pub(super) fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.cols == 1
    }

    fn x(&self) -> &'g Value {
        self.graph.value(self.node.inputs[0])
    }

    fn weight(&self, row: usize, tap: usize, col: usize) -> f32 {
        let at = (row * self.taps + tap) * self.cols + col;
        match self.weights {
            Data::F32(d) => d[at],
            Data::I8(d) => f32::from(d[at]),
            Data::I16(_) | Data::I32(_) | Data::I64(_) => 0.0,
        }
    }

    /// Input channel of a column in a row.
    fn channel(&self, row: usize, col: usize) -> usize {
        row / (self.rows / self.groups).max(1) * self.cols + col
    }

    /// Whether a channel with value `v` contributes the same to all output positions.
    fn adds_the_same(&self, v: Known) -> bool {
        v.is_some_and(|v| !self.padded || v == rest(self.x()))
    }

    /// Sum of products of one row with known channels: Σ (v − zero point) · w. Exact for int8.
    fn products(&self, row: usize, known: &[Known]) -> f64 {
        let zero = f64::from(rest(self.x()));
        let mut sum = 0.0;
        for tap in 0..self.taps {
            for col in 0..self.cols {
                let w = self.weight(row, tap, col);
                if let Some(v) = known[self.channel(row, col)].filter(|_| w != 0.0) {
                    sum += (f64::from(v) - zero) * f64::from(w);
                }
            }
        }
        sum
    }

    fn bias(&self, row: usize) -> f64 {
        match self.bias {
            Some(Data::F32(d)) => f64::from(d[row]),
            Some(Data::I32(d)) => f64::from(d[row]),
            _ => 0.0,
        }
    }

    /// Bias of a row with the products of the `folded` channels added.
    pub(super) fn folded_bias(&self, row: usize, folded: &[Known]) -> f64 {
        self.bias(row) + self.products(row, folded)
    }

    /// The constant value of output channel `row`, if it follows from the known input channels.
    pub(super) fn output(&self, row: usize, known: &[Known]) -> Known {
        for col in 0..self.cols {
            let zeros = || (0..self.taps).all(|tap| self.weight(row, tap, col) == 0.0);
            if !self.adds_the_same(known[self.channel(row, col)]) && !zeros() {
                return None;
            }
        }
        let sum = self.folded_bias(row, known);
        let activation = self.node.op.activation().unwrap_or_default();
        let y = self.graph.value(self.node.output);
        if y.dtype == DType::F32 {
            let (low, high) = activation.bounds();
            return Some((sum as f32).max(low).min(high)).filter(|v| v.is_finite());
        }
        let (multiplier, shift) = self.fixed(row)?;
        // The kernels' accumulators wrap around.
        self.requantised(sum as i64 as i32, multiplier, shift)
    }

    /// Multiplier and shift of an int8 row.
    fn fixed(&self, row: usize) -> Option<(i32, i8)> {
        let (x, w) = (self.x().quant.as_ref()?, self.graph.value(self.weights_id()));
        let (w, y) = (w.quant.as_ref()?, self.graph.value(self.node.output).quant.as_ref()?);
        let scale = w.scale[if w.scale.len() == 1 { 0 } else { row }];
        Some(quantize_multiplier(linear_multiplier(x.scale[0], scale, y.scale[0])))
    }

    /// The int8 output of a sum.
    fn requantised(&self, sum: i32, multiplier: i32, shift: i8) -> Known {
        let y = self.graph.value(self.node.output).quant.as_ref()?;
        let activation = self.node.op.activation().unwrap_or_default();
        let (low, high) =
            activation_range(activation.bounds(), y.scale[0], y.zero_point[0]).unwrap_or((i8::MIN, i8::MAX));
        let q = multiply_by_quantized_multiplier(sum, multiplier, shift)
            .wrapping_add(y.zero_point[0])
            .clamp(i32::from(low), i32::from(high));
        Some(q as f32)
    }

    /// The range of the codes of output channel `row` of an int8 operator, from those of the input channels. `None` for
    /// float32, and if sums may wrap.
    pub(super) fn output_range(&self, row: usize, x: &[Range]) -> Option<Range> {
        if !matches!(self.weights, Data::I8(_)) || x.is_empty() {
            return None;
        }
        let zero = rest(self.x());
        let (mut low, mut high) = (self.bias(row), self.bias(row));
        for tap in 0..self.taps {
            for col in 0..self.cols {
                let w = f64::from(self.weight(row, tap, col));
                let (from, to) = *x.get(self.channel(row, col))?;
                let ends = [w * f64::from(from - zero), w * f64::from(to - zero)];
                // Padding adds nothing.
                let least = if self.padded { 0.0 } else { f64::INFINITY };
                low += ends[0].min(ends[1]).min(least);
                high += ends[0].max(ends[1]).max(-least);
            }
        }
        let (multiplier, shift) = self.fixed(row)?;
        let output = |sum: f64| {
            // Without wrapping, the output is monotonic in the sum.
            let shifted = sum * 2f64.powi(i32::from(shift.max(0)));
            let fits = shifted.abs() < f64::from(i32::MAX) - 256.0;
            if fits { self.requantised(sum as i32, multiplier, shift) } else { None }
        };
        Some((output(low)?, output(high)?)).filter(|_| multiplier >= 0)
    }

    /// For an operator with one group: for each input channel, whether the operator can do without it, because all
    /// its weights are 0 or the bias can absorb its contribution.
    pub(super) fn dispensable(&self, known: &[Known]) -> Vec<bool> {
        let foldable: Vec<Known> = known.iter().map(|&v| v.filter(|_| self.adds_the_same(v))).collect();
        // A bias beyond int32 (hundreds of thousands of products) would wrap as the accumulators do, but would no
        // longer be the right number for readers of the bias.
        let fits = matches!(self.weights, Data::F32(_))
            || (0..self.rows)
                .all(|row| self.bias(row).abs() + self.magnitude(row, &foldable) <= f64::from(i32::MAX));
        (0..self.cols).map(|col| fits && foldable[col].is_some() || self.ignores(col)).collect()
    }

    fn magnitude(&self, row: usize, known: &[Known]) -> f64 {
        let zero = rest(self.x());
        let weights = |col| (0..self.taps).map(move |tap| f64::from(self.weight(row, tap, col)).abs());
        (0..self.cols)
            .filter_map(|col| known[col].map(|v| f64::from((v - zero).abs()) * weights(col).sum::<f64>()))
            .sum()
    }

    /// Whether all weights of an input channel are 0.
    fn ignores(&self, col: usize) -> bool {
        (0..self.rows).all(|row| (0..self.taps).all(|tap| self.weight(row, tap, col) == 0.0))
    }
}
