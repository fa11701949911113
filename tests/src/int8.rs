//! Random int8 networks, node by node.

use offshoot_ir::{DType, Data, Graph, Node, Op, Quant, Value, ValueId};

/// Numbers from a seed (xorshift).
#[derive(Debug)]
pub struct Numbers(pub u64);

impl Numbers {
    /// The next number.
    pub fn next_number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// So many int8, none of them -128.
    pub fn bytes(&mut self, count: usize) -> Vec<i8> {
        (0..count).map(|_| ((self.next_number() >> 40) as i8).max(-127)).collect()
    }
}

/// A graph as it grows.
#[derive(Debug)]
pub struct Builder {
    /// The graph so far.
    pub graph: Graph,
    /// Where weights come from.
    pub numbers: Numbers,
}

impl Builder {
    /// An empty graph.
    pub fn new(seed: u64) -> Self {
        Self { graph: Graph::default(), numbers: Numbers(seed | 1) }
    }

    /// An int8 value.
    pub fn value(&mut self, shape: [usize; 4], scale: f32, zero: i32) -> ValueId {
        let name = format!("v{}", self.graph.values.len());
        self.graph.add_value(Value {
            name,
            shape: shape.to_vec(),
            dtype: DType::I8,
            quant: Some(Quant::per_tensor(scale, zero)),
            data: None,
            channels_first_outside: false,
        })
    }

    /// A node and its output.
    pub fn node(&mut self, op: Op, inputs: &[ValueId], shape: [usize; 4], scale: f32, zero: i32) -> ValueId {
        let output = self.value(shape, scale, zero);
        let name = format!("n{}", self.graph.nodes.len());
        self.graph.nodes.push(Node { name, op, inputs: inputs.to_vec(), output });
        output
    }

    /// Weights and biases of `out_c` channels with `taps` each, and a scale at which their outputs spread.
    pub fn parameters(&mut self, shape: [usize; 4], in_scale: f32) -> (Vec<ValueId>, f32) {
        let (out_c, taps) = (shape[0], shape[1] * shape[2] * shape[3]);
        let mut data = self.numbers.bytes(out_c * taps);
        // As quantised to four bits, to a codebook of four, or to eight bits.
        match self.numbers.next_number() % 3 {
            0 => data.iter_mut().for_each(|w| *w >>= 4),
            1 => data.iter_mut().for_each(|w| *w = [0, 0, -19, 60, 127][(*w as u8 % 5) as usize]),
            _ => {}
        }
        let scale: Vec<f32> = (0..out_c).map(|o| 0.01 + 0.001 * (o % 5) as f32).collect();
        let name = format!("w{}", self.graph.values.len());
        let w = self.graph.add_constant(name, shape.to_vec(), Data::I8(data));
        let axis = (out_c > 1).then_some(0);
        self.graph.value_mut(w).quant = Some(Quant { scale, zero_point: vec![0; out_c], axis });
        let bias = (0..out_c).map(|_| (self.numbers.next_number() % 4001) as i32 - 2000).collect();
        let name = format!("b{}", self.graph.values.len());
        let b = self.graph.add_constant(name, vec![out_c], Data::I32(bias));
        (vec![w, b], in_scale * 0.012 * 60.0 * (taps as f32).sqrt())
    }
}

/// Extent of the output of a window; `None` if it does not fit.
pub fn extent(input: usize, kernel: usize, stride: usize, dilation: usize, pad: usize) -> Option<usize> {
    (input + pad).checked_sub(dilation * (kernel - 1) + 1).map(|room| room / stride + 1)
}
