//! Rewrites ONNX Runtime's QOperator format and dynamic quantisation to QDQ before import.
//!
//! `QLinearConv(x, w, …)` becomes `DequantizeLinear(x), DequantizeLinear(w) → Conv → QuantizeLinear`, which
//! [`crate::lift`] turns into the operator on int8. A dynamically quantised tensor is replaced by the float tensor
//! that it rounds, with scale 1, so that the weights' integers and scales combine as they do in the file; calibration
//! then gives the static scales.

use std::collections::HashSet;

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto, tensor_proto::DataType};

/// Rewrites nodes of other formats, and leaves the rest unchanged.
pub(crate) fn rewrite(nodes: &[NodeProto], opset: i64) -> Vec<NodeProto> {
    let mut rewriter = Rewriter { nodes: Vec::with_capacity(nodes.len()), dynamic: HashSet::new(), opset };
    for node in nodes {
        if rewriter.node(node).is_none() {
            rewriter.nodes.push(node.clone());
        }
    }
    rewriter.nodes
}

struct Rewriter {
    nodes: Vec<NodeProto>,
    /// Integer tensors of the file that are float tensors here: outputs of DynamicQuantizeLinear.
    dynamic: HashSet<String>,
    opset: i64,
}

/// Input `i`; `None` if it is omitted.
fn given(node: &NodeProto, i: usize) -> Option<&str> {
    node.input.get(i).map(String::as_str).filter(|name| !name.is_empty())
}

fn int(node: &NodeProto, name: &str, default: i64) -> i64 {
    node.attribute.iter().find(|a| a.name == name).map_or(default, |a| a.i)
}

fn int_attribute(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Int as i32, i, ..Default::default() }
}

impl Rewriter {
    /// Rewrites the node, or returns `None` to leave it.
    fn node(&mut self, node: &NodeProto) -> Option<()> {
        let microsoft = node.domain == "com.microsoft";
        let y = node.output.first()?;
        match node.op_type.as_str() {
            "QuantizeLinear" | "DequantizeLinear" | "Gelu" if microsoft => {
                self.nodes.push(NodeProto { domain: String::new(), ..node.clone() });
            }
            "QLinearConv" => {
                let x = self.dequantized(node, [0, 1, 2], None)?;
                let w = self.dequantized(node, [3, 4, 5], Some(0))?;
                let bias = self.bias(node, 8, [1, 4]);
                self.between(node, "Conv", [vec![x, w], bias].concat(), &[], [6, 7])?;
            }
            "QLinearMatMul" => {
                let a = self.dequantized(node, [0, 1, 2], Some(-2))?;
                let b = self.dequantized(node, [3, 4, 5], Some(-1))?;
                self.between(node, "MatMul", vec![a, b], &[], [6, 7])?;
            }
            "QGemm" if microsoft => {
                let a = self.dequantized(node, [0, 1, 2], None)?;
                let columns = i64::from(int(node, "transB", 0) == 0);
                let b = self.dequantized(node, [3, 4, 5], Some(columns))?;
                let mut bias = self.bias(node, 6, [1, 4]);
                let alpha = node.attribute.iter().find(|a| a.name == "alpha").map_or(1.0, |a| a.f);
                if alpha != 1.0
                    && let [bias] = bias.as_mut_slice()
                {
                    let factor = self.number(&format!("{y}/alpha"), alpha);
                    *bias = self.push("Mul", vec![bias.clone(), factor], format!("{y}/scaled_bias"), vec![]);
                }
                self.between(node, "Gemm", [vec![a, b], bias].concat(), &[], [7, 8])?;
            }
            operator @ ("QLinearAdd" | "QLinearMul") if microsoft => {
                let a = self.dequantized(node, [0, 1, 2], None)?;
                let b = self.dequantized(node, [3, 4, 5], None)?;
                self.between(node, &operator[7..], vec![a, b], &[], [6, 7])?;
            }
            "QLinearConcat" if microsoft => {
                let mut parts = Vec::new();
                for i in (2..node.input.len()).step_by(3) {
                    parts.push(self.dequantized(node, [i, i + 1, i + 2], None)?);
                }
                self.between(node, "Concat", parts, &[], [0, 1])?;
            }
            operator @ ("QLinearAveragePool" | "QLinearGlobalAveragePool")
                if microsoft && int(node, "channels_last", 0) == 0 =>
            {
                let x = self.dequantized(node, [0, 1, 2], None)?;
                self.between(node, &operator[7..], vec![x], &["channels_last"], [3, 4])?;
            }
            operator @ ("QLinearSigmoid" | "QLinearLeakyRelu" | "QLinearReduceMean") if microsoft => {
                let x = self.dequantized(node, [0, 1, 2], None)?;
                self.between(node, &operator[7..], vec![x], &[], [3, 4])?;
            }
            // An attribute gives the opset that defines the meaning of the axis.
            "QLinearSoftmax"
                if microsoft
                    && (int(node, "axis", -1) == -1
                        || (int(node, "opset", self.opset) < 13) == (self.opset < 13)) =>
            {
                let x = self.dequantized(node, [0, 1, 2], None)?;
                self.between(node, "Softmax", vec![x], &["opset"], [3, 4])?;
            }
            "DynamicQuantizeLinear" => {
                self.push("Identity", vec![given(node, 0)?.to_owned()], y.clone(), vec![]);
                self.dynamic.insert(y.clone());
                if let Some(scale) = node.output.get(1).filter(|name| !name.is_empty()) {
                    self.number(scale, 1.0);
                }
                if let Some(zero) = node.output.get(2).filter(|name| !name.is_empty()) {
                    self.tensor(zero, DataType::Uint8, vec![0]);
                }
            }
            operator @ ("MatMulInteger" | "ConvInteger") => {
                let a = self.whole(node, 0, 2, None)?;
                let axis = if operator == "ConvInteger" { 0 } else { -1 };
                let b = self.whole(node, 1, 3, Some(axis))?;
                self.core(node, operator.trim_end_matches("Integer"), vec![a, b], &[], y.clone());
            }
            "DynamicQuantizeMatMul" if microsoft => {
                let b = self.dequantized(node, [1, 2, 3], Some(-1))?;
                self.product(node, given(node, 0)?.to_owned(), b, given(node, 4));
            }
            "DynamicQuantizeLSTM" if microsoft => {
                let w = self.recurrent(node, 1, [8, 9])?;
                let r = self.recurrent(node, 2, [10, 11])?;
                let mut input = node.input.get(..8).unwrap_or(&node.input).to_vec();
                input.splice(1..3, [w, r]);
                let lstm = NodeProto { op_type: "LSTM".into(), domain: String::new(), input, ..node.clone() };
                self.nodes.push(lstm);
            }
            "MatMulIntegerToFloat" if microsoft => {
                let a = self.dequantized(node, [0, 2, 4], None)?;
                let b = self.dequantized(node, [1, 3, 5], Some(-1))?;
                self.product(node, a, b, given(node, 6));
            }
            _ => return None,
        }
        Some(())
    }

    /// Appends a node with one output; returns that output's name.
    fn push(
        &mut self,
        operator: &str,
        input: Vec<String>,
        output: String,
        attribute: Vec<AttributeProto>,
    ) -> String {
        self.nodes.push(NodeProto {
            op_type: operator.into(),
            name: output.clone(),
            input,
            output: vec![output.clone()],
            attribute,
            ..Default::default()
        });
        output
    }

    /// Adds a constant float32 number under a name.
    fn number(&mut self, name: &str, value: f32) -> String {
        self.tensor(name, DataType::Float, value.to_le_bytes().to_vec())
    }

    fn tensor(&mut self, name: &str, data_type: DataType, raw_data: Vec<u8>) -> String {
        self.numbers(name, data_type, vec![], raw_data)
    }

    fn numbers(&mut self, name: &str, data_type: DataType, dims: Vec<i64>, raw_data: Vec<u8>) -> String {
        let t = Some(TensorProto { data_type: data_type as i32, dims, raw_data, ..Default::default() });
        let value = AttributeProto {
            name: "value".into(),
            r#type: AttributeType::Tensor as i32,
            t,
            ..Default::default()
        };
        self.push("Constant", vec![], name.to_owned(), vec![value])
    }

    /// Dequantises the tensor at the first of three inputs by the scale and zero point at the other two.
    fn dequantized(&mut self, node: &NodeProto, at: [usize; 3], axis: Option<i64>) -> Option<String> {
        let x = given(node, at[0])?;
        if self.dynamic.contains(x) {
            return Some(x.to_owned());
        }
        let mut input = vec![x.to_owned(), given(node, at[1])?.to_owned()];
        input.extend(given(node, at[2]).map(str::to_owned));
        let name = format!("{}/real_{}", node.output.first()?, at[0]);
        Some(self.push(
            "DequantizeLinear",
            input,
            name,
            axis.map(|a| int_attribute("axis", a)).into_iter().collect(),
        ))
    }

    /// An operand of an integer product: integers minus the zero point.
    fn whole(&mut self, node: &NodeProto, at: usize, zero: usize, axis: Option<i64>) -> Option<String> {
        let x = given(node, at)?.to_owned();
        if self.dynamic.contains(&x) {
            return Some(x);
        }
        let name = format!("{}/whole_{at}", node.output.first()?);
        let one = self.number(&format!("{name}/one"), 1.0);
        let mut input = vec![x];
        match given(node, zero) {
            None => input.push(one),
            Some(zero) => {
                // One scale per zero point, all of them 1.
                let float = self.push(
                    "Cast",
                    vec![zero.to_owned()],
                    format!("{name}/zero"),
                    vec![int_attribute("to", 1)],
                );
                let none = self.push("Sub", vec![float.clone(), float], format!("{name}/none"), vec![]);
                input.push(self.push("Add", vec![none, one], format!("{name}/ones"), vec![]));
                input.push(zero.to_owned());
            }
        }
        Some(self.push(
            "DequantizeLinear",
            input,
            name,
            axis.map(|a| int_attribute("axis", a)).into_iter().collect(),
        ))
    }

    /// Weights of a recurrent layer in float, in the order of ONNX: the integers at input `at` have a column for each row of that,
    /// and a scale and a zero point for each direction, or for each column of it.
    fn recurrent(&mut self, node: &NodeProto, at: usize, numbers: [usize; 2]) -> Option<String> {
        let name = format!("{}/weights_{at}", node.output.iter().find(|name| !name.is_empty())?);
        let shape = [0i64, 1, -1].iter().flat_map(|d| d.to_le_bytes()).collect();
        let shape = self.numbers(&format!("{name}/shape"), DataType::Int64, vec![3], shape);
        let mut real = |what: &str, x: &str| {
            let to = vec![int_attribute("to", 1)];
            self.push("Cast", vec![x.to_owned()], format!("{name}/{what}"), to)
        };
        let mut codes = real("codes", given(node, at)?);
        let scale = real("scale", given(node, numbers[0])?);
        let zero = given(node, numbers[1]).map(|zero| real("zero", zero));
        let mut by_column = |what: &str, x: String| {
            self.push("Reshape", vec![x, shape.clone()], format!("{name}/{what}"), vec![])
        };
        let scale = by_column("scales", scale);
        if let Some(zero) = zero.map(|zero| by_column("zeros", zero)) {
            codes = self.push("Sub", vec![codes, zero], format!("{name}/whole"), vec![]);
        }
        let columns = self.push("Mul", vec![codes, scale], format!("{name}/columns"), vec![]);
        let mut perm = int_attribute("perm", 0);
        (perm.r#type, perm.ints) = (AttributeType::Ints as i32, vec![0, 2, 1]);
        Some(self.push("Transpose", vec![columns], name, vec![perm]))
    }

    /// The int32 bias at input `i`, if present: its scale is the product of the input's and the weights'.
    fn bias(&mut self, node: &NodeProto, i: usize, scales: [usize; 2]) -> Vec<String> {
        let (Some(bias), Some(x), Some(w)) = (given(node, i), given(node, scales[0]), given(node, scales[1]))
        else {
            return vec![];
        };
        let name = format!("{}/bias", node.output.first().map_or("", String::as_str));
        let scale = self.push("Mul", vec![x.to_owned(), w.to_owned()], format!("{name}/scale"), vec![]);
        vec![self.push(
            "DequantizeLinear",
            vec![bias.to_owned(), scale],
            name,
            vec![int_attribute("axis", 0)],
        )]
    }

    /// Appends the operator itself, with the node's attributes except `without`.
    fn core(
        &mut self,
        node: &NodeProto,
        operator: &str,
        input: Vec<String>,
        without: &[&str],
        output: String,
    ) {
        let attribute =
            node.attribute.iter().filter(|a| !without.contains(&a.name.as_str())).cloned().collect();
        self.nodes.push(NodeProto {
            op_type: operator.into(),
            name: node.name.clone(),
            input,
            output: vec![output],
            attribute,
            ..Default::default()
        });
    }

    /// Appends the operator and a QuantizeLinear by the scale and zero point at two inputs; without a scale the
    /// output is float.
    fn between(
        &mut self,
        node: &NodeProto,
        operator: &str,
        input: Vec<String>,
        without: &[&str],
        numbers: [usize; 2],
    ) -> Option<()> {
        let y = node.output.first()?.clone();
        let Some(scale) = given(node, numbers[0]) else {
            self.core(node, operator, input, without, y);
            return Some(());
        };
        let real = format!("{y}/real");
        self.core(node, operator, input, without, real.clone());
        let mut quantized = vec![real, scale.to_owned()];
        quantized.extend(given(node, numbers[1]).map(str::to_owned));
        self.push("QuantizeLinear", quantized, y, vec![]);
        Some(())
    }

    /// A matrix product with an optional bias.
    fn product(&mut self, node: &NodeProto, a: String, b: String, bias: Option<&str>) {
        let y = node.output.first().cloned().unwrap_or_default();
        match bias {
            None => self.core(node, "MatMul", vec![a, b], &[], y),
            Some(bias) => {
                let product = format!("{y}/product");
                self.core(node, "MatMul", vec![a, b], &[], product.clone());
                self.push("Add", vec![product, bias.to_owned()], y, vec![]);
            }
        }
    }
}
