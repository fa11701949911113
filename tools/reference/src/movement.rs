//! Operators that move elements.

use ndarray::{ArrayD, Axis, IxDyn};
use offshoot_ir::PadMode;

pub(crate) fn reshape(x: &ArrayD<f32>, shape: &[usize]) -> Result<ArrayD<f32>, String> {
    x.as_standard_layout().into_owned().into_shape_with_order(IxDyn(shape)).map_err(|e| e.to_string())
}

pub(crate) fn concat(x: &[&ArrayD<f32>], axis: usize) -> Result<ArrayD<f32>, String> {
    let views: Vec<_> = x.iter().map(|a| a.view()).collect();
    let joined = ndarray::concatenate(Axis(axis), &views).map_err(|e| e.to_string())?;
    Ok(joined.as_standard_layout().into_owned())
}

pub(crate) fn slice(x: &ArrayD<f32>, start: &[usize], step: &[isize], shape: &[usize]) -> ArrayD<f32> {
    let rank = shape.len();
    ArrayD::from_shape_fn(IxDyn(shape), |at| {
        let from: Vec<usize> =
            (0..rank).map(|a| (start[a] as isize + at[a] as isize * step[a]) as usize).collect();
        x[IxDyn(&from)]
    })
}

pub(crate) fn pad(
    x: &ArrayD<f32>,
    before: &[usize],
    mode: Option<PadMode>,
    value: f32,
    shape: &[usize],
) -> ArrayD<f32> {
    let rank = shape.len();
    ArrayD::from_shape_fn(IxDyn(shape), |at| {
        let mut from = vec![0; rank];
        for a in 0..rank {
            let (i, n) = (at[a] as isize - before[a] as isize, x.shape()[a] as isize);
            let inside = (0..n).contains(&i);
            from[a] = match mode {
                None if !inside => return value,
                None => i,
                Some(PadMode::Edge) => i.clamp(0, n - 1),
                // Mirrors without repeating the edge.
                Some(PadMode::Reflect) => if i < 0 {
                    -i
                } else if i >= n {
                    2 * (n - 1) - i
                } else {
                    i
                }
                .clamp(0, n - 1),
            } as usize;
        }
        x[IxDyn(&from)]
    })
}

pub(crate) fn expand(x: &ArrayD<f32>, shape: &[usize]) -> Result<ArrayD<f32>, String> {
    x.broadcast(IxDyn(shape))
        .map(|v| v.into_owned())
        .ok_or_else(|| format!("{:?} does not broadcast to {shape:?}", x.shape()))
}

#[cfg(test)]
mod tests {
    use ndarray::arr1;

    use super::*;

    #[test]
    fn by_hand() {
        let x = arr1(&[1.0f32, 2.0, 3.0]).into_dyn();
        let values = |a: ArrayD<f32>| a.iter().copied().collect::<Vec<_>>();
        assert_eq!(values(slice(&x, &[2], &[-1], &[3])), [3.0, 2.0, 1.0]);
        assert_eq!(values(pad(&x, &[2], Some(PadMode::Reflect), 0.0, &[6])), [3.0, 2.0, 1.0, 2.0, 3.0, 2.0]);
        assert_eq!(values(pad(&x, &[1], Some(PadMode::Edge), 0.0, &[5])), [1.0, 1.0, 2.0, 3.0, 3.0]);
        assert_eq!(values(pad(&x, &[1], None, 9.0, &[5])), [9.0, 1.0, 2.0, 3.0, 9.0]);
        let both = concat(&[&x, &x], 0).unwrap();
        assert_eq!(both.shape(), [6]);
    }
}
