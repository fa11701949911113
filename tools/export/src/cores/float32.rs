//! Estimates what a node of a quantised network takes in float32, and what its int8 form would take.
//!
//! Measured with `offshoot profile` on single operators of 2,048 to 8,192 elements: float32 and int8 on the emulated
//! Cortex-M4F, which has a floating-point unit, and on the Cortex-M3 and RV32, where libraries compute float32. The
//! Cortex-M0 is taken for twice a Cortex-M3. Errors of 30 % are usual, of a factor of two possible.

use offshoot_ir::{BinaryKind, DType, Graph, Node, Op, PoolKind, UnaryKind, ValueId, cost};

use super::Core;
use crate::lowered::Fallback;

/// Instructions for each unit of an operator: with a floating-point unit, on the Cortex-M3, on RV32.
type Unit = [f64; 3];

const CONV: Unit = [10.4, 77.0, 63.0];
const DEPTHWISE: Unit = [18.0, 88.0, 74.0];
const PRODUCT: Unit = [5.4, 110.0, 92.0];
const SUM: Unit = [18.0, 71.0, 57.0];
const QUOTIENT: Unit = [21.0, 83.0, 62.0];
/// A comparison or a product with a constant.
const SIMPLE: Unit = [18.0, 48.0, 40.0];
/// An exponential and the like.
const TRANSCENDENTAL: Unit = [60.0, 1300.0, 1200.0];
const TAP: Unit = [88.0, 130.0, 85.0];
const SOFTMAX: Unit = [42.0, 375.0, 354.0];
const LAYER_NORM: Unit = [21.0, 405.0, 340.0];
const REDUCED: Unit = [17.0, 73.0, 58.0];
const RESIZED: Unit = [29.0, 500.0, 440.0];
const MOVED: Unit = [35.0, 35.0, 60.0];
const QUANTISED: Unit = [39.0, 356.0, 300.0];
const DEQUANTISED: Unit = [8.0, 76.0, 64.0];

impl Fallback {
    /// A node that runs in float32 for this reason, with what that takes on a core.
    pub fn of(graph: &Graph, node: &Node, reason: String, core: Core) -> Self {
        Self {
            node: node.name.clone(),
            operator: node.op.name().to_owned(),
            reason,
            instructions: core.in_float32(graph, node),
            int8_instructions: core.in_int8(graph, node),
        }
    }
}

impl Core {
    fn of(self, unit: Unit) -> f64 {
        match self {
            Self::Dsp | Self::Mve => unit[0],
            Self::ArmV7M => unit[1],
            Self::ArmV6M => 2.0 * unit[1],
            Self::RiscV32 => unit[2],
        }
    }

    /// Instructions of a node in float32, with the conversions of what it reads and writes as integers.
    pub(crate) fn in_float32(self, graph: &Graph, node: &Node) -> u64 {
        let len = |id: &ValueId| graph.value(*id).len() as f64;
        let integers = |id: &&ValueId| {
            let value = graph.value(**id);
            value.data.is_none() && matches!(value.dtype, DType::I8 | DType::I16)
        };
        let y = len(&node.output);
        let x = node.inputs.first().map_or(0.0, len);
        let read: f64 = node.inputs.iter().filter(integers).map(len).sum();
        let written = if integers(&&node.output) { y } else { 0.0 };
        let macs = cost::macs(graph, node) as f64;
        let own = match &node.op {
            Op::Conv2d { groups, .. } if *groups > 1 => macs * self.of(DEPTHWISE) + y * self.of(SUM),
            Op::Conv2d { .. } | Op::ConvTranspose2d { .. } => macs * self.of(CONV) + y * self.of(SUM),
            Op::FullyConnected { .. } | Op::MatMul { .. } => macs * self.of(PRODUCT) + y * self.of(SUM),
            Op::Recurrent { .. } => macs * self.of(PRODUCT) + 5.0 * y * self.of(TRANSCENDENTAL),
            Op::Binary { kind: BinaryKind::Div, .. } => y * self.of(QUOTIENT),
            Op::Binary { kind: BinaryKind::Math(_), .. } => y * self.of(TRANSCENDENTAL),
            Op::Binary { .. } | Op::BatchNorm { .. } => y * self.of(SUM),
            Op::Unary(kind) if is_simple(*kind) => y * self.of(SIMPLE),
            Op::Unary(_) | Op::GridSample { .. } => y * self.of(TRANSCENDENTAL),
            Op::Pool { window, .. } => {
                let taps = f64::from(window.kernel[0]) * f64::from(window.kernel[1]);
                y * taps * self.of(TAP)
            }
            Op::Softmax { .. } => y * self.of(SOFTMAX),
            Op::LayerNorm { .. } => y * self.of(LAYER_NORM),
            Op::Reduce { .. } | Op::ArgMax { .. } | Op::TopK { .. } => x * self.of(REDUCED),
            Op::Resize(_) => y * self.of(RESIZED),
            Op::PRelu => y * self.of(SIMPLE),
            Op::Quantize => y * self.of(QUANTISED),
            Op::Dequantize => y * self.of(DEQUANTISED),
            _ => y * self.of(MOVED),
        };
        let converted = read * self.of(DEQUANTISED) + written * self.of(QUANTISED);
        (own + converted) as u64 + super::CALL
    }

    /// Instructions of a node between int8 tensors; `None` if there is no such form.
    pub(crate) fn in_int8(self, graph: &Graph, node: &Node) -> Option<u64> {
        let y = graph.value(node.output).len() as f64;
        let x = node.inputs.first().map_or(0.0, |id| graph.value(*id).len() as f64);
        let macs = cost::macs(graph, node) as f64;
        // Loops over bytes gain little from the DSP extension, products much.
        let (product, other) = match self {
            Self::Dsp | Self::Mve => (1.0, 1.0),
            Self::ArmV7M => (2.5, 1.5),
            Self::ArmV6M => (5.5, 2.5),
            Self::RiscV32 => (3.6, 1.5),
        };
        let constant = |id: &ValueId| graph.value(*id).data.is_some();
        let instructions = match &node.op {
            Op::Conv2d { groups, .. } if *groups > 1 && node.inputs[1..].iter().all(constant) => {
                3.0 * macs * product + 12.5 * y
            }
            Op::Conv2d { .. } | Op::FullyConnected { .. } if node.inputs[1..].iter().all(constant) => {
                (macs + 20.0 * y) * product
            }
            Op::ConvTranspose2d { .. } | Op::MatMul { .. } => (9.0 * macs + 26.0 * y) * other,
            Op::Binary { kind, .. } if !kind.is_float_only() => 40.0 * y * other,
            Op::Unary(UnaryKind::Clip { .. }) => 12.0 * y * other,
            Op::Unary(_) => 6.0 * y,
            Op::PRelu => 40.0 * y * other,
            Op::Pool { window, kind, .. } => {
                let taps = f64::from(window.kernel[0]) * f64::from(window.kernel[1]);
                let sum = if *kind == PoolKind::Max { 2.6 } else { 3.5 };
                y * (taps * sum * product + 10.0)
            }
            Op::Softmax { .. } => 460.0 * y,
            Op::Reduce { .. } => 18.0 * x * other,
            Op::Resize(_) => 88.0 * y,
            Op::Transpose { .. }
            | Op::Concat { .. }
            | Op::Slice { .. }
            | Op::Expand
            | Op::Pad { .. }
            | Op::Gather(_)
            | Op::Scatter { .. } => 15.0 * y,
            _ => return None,
        };
        Some(instructions as u64 + super::CALL)
    }
}

/// Whether a function takes a few operations only.
fn is_simple(kind: UnaryKind) -> bool {
    use UnaryKind::*;
    matches!(
        kind,
        Clip { .. } | LeakyRelu { .. } | HardSwish | HardSigmoid { .. } | Abs | Neg | Sqrt | Reciprocal
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_ir::{Activation, Value};

    /// The measured operators: a fully connected layer of 64 × 32 on three cores, and a division of 2,048 elements.
    #[test]
    fn estimates_are_near_what_was_measured() {
        let mut g = Graph::default();
        let mut value = |name: &str, shape: &[usize], constant: bool| {
            let data = constant.then(|| offshoot_ir::Data::F32(vec![0.5; shape.iter().product()]).into());
            let (name, shape) = (name.to_owned(), shape.to_vec());
            g.add_value(Value {
                name,
                shape,
                dtype: DType::F32,
                quant: None,
                data,
                channels_first_outside: false,
            })
        };
        let (x, w, y) =
            (value("x", &[1, 64], false), value("w", &[32, 64], true), value("y", &[1, 32], false));
        let (a, b) = (value("a", &[2048], false), value("b", &[2048], false));
        let node =
            |op, inputs: &[ValueId], output| Node { name: "n".into(), op, inputs: inputs.to_vec(), output };
        let layer = node(Op::FullyConnected { activation: Activation::None }, &[x, w], y);
        let quotient = Op::Binary { kind: BinaryKind::Div, activation: Activation::None };
        let quotient = node(quotient, &[a, b], b);
        let near = |got: u64, measured: f64| {
            let ratio = got as f64 / measured;
            assert!((0.5..2.0).contains(&ratio), "{got} {measured}");
        };
        for (core, layer_took, quotient_took) in [
            (Core::Dsp, 10_669.0, 43_564.0),
            (Core::ArmV7M, 168_570.0, 169_900.0),
            (Core::RiscV32, 131_228.0, 126_300.0),
        ] {
            near(core.in_float32(&g, &layer), layer_took);
            near(core.in_float32(&g, &quotient), quotient_took);
        }
        near(Core::Dsp.in_int8(&g, &layer).unwrap(), 4_342.0);
        near(Core::ArmV7M.in_int8(&g, &layer).unwrap(), 8_645.0);
        assert_eq!(Core::Dsp.in_int8(&g, &quotient), None);
    }
}
