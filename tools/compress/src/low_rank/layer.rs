//! The spectrum of one layer.
//!
//! With `H = E[(x - x̄)(x - x̄)ᵀ]` over the layer's inputs, the best `W_r` of rank `r` for its outputs is `U_r U_rᵀ
//! W`, where the columns of `U` are eigenvectors of `W H Wᵀ`. (This is the SVD of `W L` with `H = L Lᵀ`, without
//! computing `L` or its inverse; Wang et al. 2024, "SVD-LLM", whiten by a Cholesky factor.) Without data `H` is the
//! identity, and this is the SVD of `W` (Eckart and Young 1936). The change of the outputs' mean goes into the bias.

use nalgebra::{DMatrix, DVector, SymmetricEigen};
use ndarray::{Array2, ArrayD, Axis};
use offshoot_ir::{Data, Graph, Node, Op, Window};

use crate::quantize::execute::Environment;
use crate::quantize::moments::{patches, rows_of};
use crate::quantize::tensors::Batch;
use crate::{Error, Result};

/// How a convolution's weights are split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cut {
    /// The same window with fewer output channels, then 1×1.
    #[default]
    Channels,
    /// A column of the window to fewer channels, then a row (Jaderberg, Vedaldi and Zisserman 2014). Layers whose
    /// window is smaller than 2×2 in either direction are split by channels.
    Spatial,
}

/// A layer that can be split, with the cost and loss of each rank.
#[derive(Clone, Debug)]
pub struct SplitLayer {
    /// Index of the node.
    pub node: usize,
    /// Its name.
    pub name: String,
    /// How it is split.
    pub cut: Cut,
    /// For each rank from 0 to the full one: lost share of the outputs' energy (variance with data, squared weights
    /// without). Decreasing; the last is 0.
    pub lost: Vec<f64>,
    /// Weights of the layer before the split.
    pub weights: u64,
    /// Multiply-accumulates of the layer before the split.
    pub macs: u64,
    /// Weights and multiply-accumulates per rank.
    pub per_rank: [u64; 2],
    pub(super) factors: Factors,
}

/// `M ≈ second · first`, truncated to the first columns and rows for a given rank.
#[derive(Clone, Debug)]
pub(super) struct Factors {
    /// `[full, columns of M]`, one row per rank, the most important first.
    pub(super) first: DMatrix<f64>,
    /// `[rows of M, full]`.
    pub(super) second: DMatrix<f64>,
    /// Mean of the intermediate tensor, one number per rank; zero without data.
    pub(super) mean: DVector<f64>,
    /// Output channels of the layer, which repeat along the rows of `M`.
    pub(super) outputs: usize,
}

/// All layers of `graph` that can be split. Spectra are those of the outputs on `samples` (one array for each graph
/// input); without samples, those of the weights.
///
/// # Errors
/// The samples do not fit the graph.
pub fn analyse(graph: &Graph, samples: &[Vec<ArrayD<f32>>], cut: Cut) -> Result<Vec<SplitLayer>> {
    if samples.is_empty() {
        let layers = (0..graph.nodes.len()).filter_map(|i| SplitLayer::of(graph, i, cut, None));
        return Ok(layers.collect());
    }
    crate::quantize::calibrate::check(graph, samples)?;
    let mut env = Environment::new(graph, samples.len());
    for (i, &id) in graph.inputs.iter().enumerate() {
        env.set(id, samples.iter().map(|s| s[i].clone()).collect::<Batch>());
    }
    let mut layers = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        if splits(graph, node) {
            let x = env.get(node.inputs[0]).cloned().ok_or_else(|| Error::Execution {
                node: node.name.clone(),
                source: "its input was not computed".into(),
            })?;
            layers.extend(SplitLayer::of(graph, index, cut, Some(&x)));
        }
        env.set(node.output, env.run(graph, node, false)?);
        env.finish(node);
    }
    Ok(layers)
}

/// Whether a node is a dense operator with constant float weights that no other reads, and more than one rank.
pub(super) fn splits(graph: &Graph, node: &Node) -> bool {
    let Some(&w) = node.inputs.get(1) else { return false };
    let dense = match node.op {
        Op::Conv2d { groups, .. } => groups == 1,
        Op::FullyConnected { .. } => true,
        _ => false,
    };
    let value = graph.value(w);
    let outputs = value.shape.first().copied().unwrap_or(0);
    dense
        && matches!(value.data.as_deref(), Some(Data::F32(_)))
        && outputs.min(value.len() / outputs.max(1)) > 1
}

/// The split that suits a node's window.
fn suited(op: &Op, cut: Cut) -> Cut {
    match op {
        Op::Conv2d { window, .. } if window.kernel[0] > 1 && window.kernel[1] > 1 => cut,
        _ => Cut::Channels,
    }
}

impl SplitLayer {
    /// The layer at `node`; `x` is its input for every sample.
    fn of(graph: &Graph, index: usize, cut: Cut, x: Option<&Batch>) -> Option<Self> {
        let node = &graph.nodes[index];
        if !splits(graph, node) {
            return None;
        }
        let cut = suited(&node.op, cut);
        let m = matrix(graph, node, cut)?;
        let (rows, columns) = m.shape();
        let inputs = x.map(|x| input_rows(&node.op, x, columns, cut));
        let (covariance, mean) = match &inputs {
            Some(inputs) => moments(inputs),
            None => (None, DVector::zeros(columns)),
        };
        let energy = match &covariance {
            Some(h) => &m * h * m.transpose(),
            None => &m * m.transpose(),
        };
        let eigen = SymmetricEigen::new(energy);
        let mut order: Vec<usize> = (0..rows).collect();
        order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
        let full = rows.min(columns);
        let second = DMatrix::from_fn(rows, full, |i, k| eigen.eigenvectors[(i, order[k])]);
        let first = second.transpose() * &m;
        let energies: Vec<f64> = order.iter().map(|&k| eigen.eigenvalues[k].max(0.0)).collect();
        let total: f64 = energies.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let mut lost: Vec<f64> = (0..=full).map(|r| energies[r..full].iter().sum::<f64>() / total).collect();
        lost[full] = 0.0;
        let (mean, outputs) = (&first * mean, graph.value(node.inputs[1]).shape[0]);
        let factors = Factors { first, second, mean, outputs }.balanced();
        Some(Self::with(graph, index, cut, lost, factors))
    }

    /// Computes the costs.
    pub(super) fn with(graph: &Graph, index: usize, cut: Cut, lost: Vec<f64>, factors: Factors) -> Self {
        let node = &graph.nodes[index];
        let (x, w, y) = (graph.value(node.inputs[0]), graph.value(node.inputs[1]), graph.value(node.output));
        let outputs = w.shape.first().copied().unwrap_or(1).max(1);
        let pixels = (y.len() / outputs) as u64;
        let weights = w.len() as u64;
        let (columns, rows) = (factors.first.ncols() as u64, factors.second.nrows() as u64);
        // Pixels of the intermediate tensor: a column of the window strides vertically, not horizontally.
        let between = match cut {
            Cut::Channels => pixels,
            Cut::Spatial => (y.shape[0] * y.shape[1] * x.shape[2]) as u64,
        };
        Self {
            node: index,
            name: node.name.clone(),
            cut,
            lost,
            weights,
            macs: weights * pixels,
            per_rank: [columns + rows, columns * between + rows * pixels],
            factors,
        }
    }

    /// Its full rank.
    pub fn full(&self) -> usize {
        self.lost.len() - 1
    }

    /// Weights at a rank, or those of the full layer if that is fewer.
    pub fn weights_at(&self, rank: usize) -> u64 {
        (rank as u64 * self.per_rank[0]).min(self.weights)
    }

    /// Whether a rank takes fewer weights than the unsplit layer.
    pub fn pays(&self, rank: usize) -> bool {
        rank as u64 * self.per_rank[0] < self.weights
    }

    /// Loss of the outputs' mean at a rank, for each output channel.
    pub(super) fn shift(&self, rank: usize) -> Vec<f32> {
        let f = &self.factors;
        let lost = |row: usize| (rank..self.full()).map(|k| f.second[(row, k)] * f.mean[k]).sum::<f64>();
        let rows = |o: usize| (o..f.second.nrows()).step_by(f.outputs.max(1));
        (0..f.outputs).map(|o| rows(o).map(lost).sum::<f64>() as f32).collect()
    }
}

impl Factors {
    /// Scales both factors of each rank to the same size, because the intermediate tensor has few bits on the device.
    fn balanced(mut self) -> Self {
        for k in 0..self.first.nrows() {
            let (a, b) = (self.first.row(k).norm(), self.second.column(k).norm());
            if a > 1e-12 && b > 1e-12 {
                let factor = (b / a).sqrt();
                self.first.row_mut(k).scale_mut(factor);
                self.mean[k] *= factor;
                self.second.column_mut(k).scale_mut(1.0 / factor);
            }
        }
        self
    }
}

/// The weights as the matrix to factor: `[O, kh·kw·I]` by channels, `[kw·O, kh·I]` by space.
pub(super) fn matrix(graph: &Graph, node: &Node, cut: Cut) -> Option<DMatrix<f64>> {
    let value = graph.value(node.inputs[1]);
    let Some(Data::F32(w)) = value.data.as_deref() else { return None };
    let outputs = value.shape[0];
    let width = w.len() / outputs.max(1);
    Some(match (cut, &value.shape[..]) {
        (Cut::Spatial, &[o, kh, kw, i]) => DMatrix::from_fn(kw * o, kh * i, |row, column| {
            let (x, out, y, ci) = (row / o, row % o, column / i, column % i);
            f64::from(w[((out * kh + y) * kw + x) * i + ci])
        }),
        _ => DMatrix::from_fn(outputs, width, |o, i| f64::from(w[o * width + i])),
    })
}

/// The inputs that multiply the columns of the matrix.
fn input_rows(op: &Op, x: &Batch, columns: usize, cut: Cut) -> Array2<f32> {
    match (op, cut) {
        (Op::Conv2d { window, .. }, Cut::Channels) => patches(x, window, 1, 0),
        (Op::Conv2d { window, .. }, Cut::Spatial) => patches(x, &column_of(window), 1, 0),
        _ => rows_of(x, columns),
    }
}

/// The window of the column convolution.
pub(super) fn column_of(w: &Window) -> Window {
    Window {
        kernel: [w.kernel[0], 1],
        stride: [w.stride[0], 1],
        dilation: [w.dilation[0], 1],
        pad: [w.pad[0], 0, w.pad[2], 0],
    }
}

/// The window of the row convolution.
pub(super) fn row_of(w: &Window) -> Window {
    Window {
        kernel: [1, w.kernel[1]],
        stride: [1, w.stride[1]],
        dilation: [1, w.dilation[1]],
        pad: [0, w.pad[1], 0, w.pad[3]],
    }
}

/// Covariance (`None` if nothing varies) and mean of rows.
pub(super) fn moments(rows: &Array2<f32>) -> (Option<DMatrix<f64>>, DVector<f64>) {
    let n = rows.ncols();
    let mean = rows.mean_axis(Axis(0)).unwrap_or_else(|| ndarray::Array1::zeros(n));
    let centred = rows - &mean;
    let h = centred.t().dot(&centred) / rows.nrows().max(1) as f32;
    let trace: f32 = h.diag().sum();
    // Inputs that are constant in the samples may still vary later.
    let damping = f64::from(trace) / n.max(1) as f64 * 1e-4;
    let covariance = (trace > 0.0)
        .then(|| DMatrix::from_fn(n, n, |i, j| f64::from(h[[i, j]]) + if i == j { damping } else { 0.0 }));
    (covariance, DVector::from_iterator(n, mean.iter().map(|v| f64::from(*v))))
}
