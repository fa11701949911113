//! Results of operators: those of the reference executor, with faster implementations where training spends its time.
//!
//! The order of summation differs, so results may differ from the reference in the last bits.

use ndarray::ArrayD;
use offshoot_ir::{BinaryKind, Node, Op, UnaryKind};

use crate::convolve::Convolution;
use crate::error::Result;
use crate::grad::{Tensor, array, flat};

/// The result of a node with output shape `shape`, including its fused activation.
pub(crate) fn evaluate(node: &Node, shape: &[usize], x: &[Tensor]) -> Result<ArrayD<f32>> {
    let mut out = match (&node.op, x) {
        (Op::Conv2d { window, groups, .. }, [image, w, bias @ ..]) => {
            let (Ok(image), &[_, rows, columns, o]) = (<[usize; 4]>::try_from(image.shape()), shape) else {
                return Ok(offshoot_reference::evaluate(node, shape, x)?);
            };
            let convolution = Convolution { image, places: [rows, columns], window };
            let (source, w) = (flat(&x[0]), flat(w));
            let bias = bias.first().map_or(std::borrow::Cow::Borrowed(&[][..]), |b| flat(b));
            if *groups == 1 {
                array(shape, convolution.forward(&source, &w, &bias, o))
            } else if *groups == image[3] && o == image[3] {
                array(shape, convolution.depthwise(&source, &w, &bias))
            } else {
                return Ok(offshoot_reference::evaluate(node, shape, x)?);
            }
        }
        (Op::Binary { kind: BinaryKind::Add, .. }, [a, b]) if a.shape() == b.shape() => &**a + &**b,
        (Op::Unary(UnaryKind::Clip { min, max }), [x]) => x.mapv(|v| v.max(*min).min(*max)),
        _ => return Ok(offshoot_reference::evaluate(node, shape, x)?),
    };
    if let Some(activation) = node.op.activation() {
        let (min, max) = activation.bounds();
        if min != f32::NEG_INFINITY || max != f32::INFINITY {
            out.mapv_inplace(|v| v.max(min).min(max));
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use offshoot_ir::{Activation, ValueId, Window};
    use proptest::prelude::*;

    use super::*;
    use crate::grad::backward;

    fn numbers(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0).collect()
    }

    /// Sum of `a · b`.
    fn inner(a: &ArrayD<f32>, b: &ArrayD<f32>) -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Forward against the reference; backward against the definition of the adjoint of a linear map: ⟨f(x), r⟩ =
        /// ⟨x, f'(r)⟩.
        #[test]
        fn convolutions_are_the_references(
            (n, h, w, c) in (1usize..3, 1usize..9, 1usize..9, 1usize..19),
            o in 1usize..40,
            kernel in (1u16..4, 1u16..4),
            stride in (1u16..4, 1u16..4),
            dilation in (1u16..3, 1u16..3),
            pad in (0u16..3, 0u16..3, 0u16..3, 0u16..3),
            depthwise in any::<bool>(),
            bias in any::<bool>(),
        ) {
            let window = Window {
                kernel: [kernel.0, kernel.1],
                stride: [stride.0, stride.1],
                dilation: [dilation.0, dilation.1],
                pad: [pad.0, pad.1, pad.2, pad.3],
            };
            let extent = |i: usize, axis: usize| {
                let whole = i + usize::from(window.pad[axis]) + usize::from(window.pad[axis + 2]);
                let reach = usize::from(window.kernel[axis] - 1) * usize::from(window.dilation[axis]) + 1;
                whole.checked_sub(reach).map(|left| left / usize::from(window.stride[axis]) + 1)
            };
            let (Some(rows), Some(columns)) = (extent(h, 0), extent(w, 1)) else { return Ok(()) };
            let (o, groups) = if depthwise { (c, c) } else { (o, 1) };
            let weights = [o, usize::from(kernel.0), usize::from(kernel.1), c / groups];
            let mut x: Vec<Tensor> = vec![
                Arc::new(array(&[n, h, w, c], numbers(n * h * w * c, 1))),
                Arc::new(array(&weights, numbers(weights.iter().product(), 2))),
            ];
            if bias {
                x.push(Arc::new(array(&[o], numbers(o, 3))));
            }
            let op = Op::Conv2d { window, groups, activation: Activation::None };
            let inputs = (0..x.len() as u32).map(ValueId).collect();
            let node = Node { name: "c".into(), op, inputs, output: ValueId(3) };
            let shape = [n, rows, columns, o];
            let (y, wanted) =
                (evaluate(&node, &shape, &x).unwrap(), offshoot_reference::evaluate(&node, &shape, &x).unwrap());
            for (a, b) in y.iter().zip(&wanted) {
                prop_assert!((a - b).abs() < 1e-4, "{a} instead of {b}");
            }
            let r = array(&shape, numbers(y.len(), 4));
            let back = backward(&node, &x, &y, r.clone(), &vec![true; x.len()]).unwrap();
            let mut linear = y;
            if bias {
                linear -= &*x[2];
                let found = inner(back[2].as_ref().unwrap(), &x[2]);
                let spread = x[2].broadcast(linear.raw_dim()).unwrap().into_owned();
                prop_assert!((found - inner(&spread, &r)).abs() < 1e-3 * (1.0 + found.abs()));
            }
            for which in 0..2 {
                let found = inner(back[which].as_ref().unwrap(), &x[which]);
                let wanted = inner(&linear, &r);
                prop_assert!(
                    (found - wanted).abs() < 2e-3 * (1.0 + wanted.abs()),
                    "input {which}: {found} instead of {wanted}"
                );
            }
        }
    }
}
