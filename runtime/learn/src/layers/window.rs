//! Gradients of convolution weights: `∂J/∂w = Σ error(p) · x(p)` over all output pixels `p`.
//!
//! Goes one output channel at a time, so that only one channel's errors are buffered. Within a channel it goes weight
//! by weight (four input channels at once), so that sums stay in registers and each weight can be stepped at once.

use offshoot_kernels::layer::Geometry;

/// Input channels that are summed at once.
const LANES: usize = 4;

/// Calls `each(index, gradient)` for every weight of an output channel, given the errors of that channel's pixels.
/// `add(sum, error, input)` adds a product to a sum.
pub fn gradients<X: Copy, E: Copy + Default>(
    g: &Geometry,
    channel: usize,
    x: &[X],
    errors: &[E],
    add: impl Fn(E, E, X) -> E,
    mut each: impl FnMut(usize, E),
) {
    let [k_h, k_w] = g.window.kernel.map(usize::from);
    let [stride_h, stride_w] = g.window.stride.map(usize::from);
    let (depth, first) = (g.depth(), g.first_input(channel));
    for ky in 0..k_h {
        let (y0, y1, iy) = g.reach(0, ky);
        for kx in 0..k_w {
            let (x0, x1, ix) = g.reach(1, kx);
            let at = g.weight(channel, ky * k_w + kx);
            let mut i = 0;
            while i < depth {
                let lanes = if depth - i >= LANES { LANES } else { 1 };
                let mut sums = [E::default(); LANES];
                for y in y0..y1 {
                    let row = (iy + (y - y0) * stride_h) * g.input[1] + ix;
                    // If all columns lie in the padding, there is no pixel.
                    let Some(pixels) = x.get(row * g.c + first + i..) else { break };
                    let errors = &errors[y * g.output[1] + x0..y * g.output[1] + x1];
                    if lanes == LANES {
                        for (error, x) in errors.iter().zip(pixels.chunks(stride_w * g.c)) {
                            let Some(x) = x.first_chunk::<LANES>() else { break };
                            for (sum, x) in sums.iter_mut().zip(x) {
                                *sum = add(*sum, *error, *x);
                            }
                        }
                    } else {
                        for (error, x) in errors.iter().zip(pixels.iter().step_by(stride_w * g.c)) {
                            sums[0] = add(sums[0], *error, *x);
                        }
                    }
                }
                for (lane, sum) in sums.iter().take(lanes).enumerate() {
                    each(at + i + lane, *sum);
                }
                i += lanes;
            }
        }
    }
}

/// Adds the errors of an output channel to `plane`, the pixels of input channel `input`: each error times the weight
/// between the two.
pub fn pull_back<E: Copy, W: Copy>(
    g: &Geometry,
    channel: usize,
    input: usize,
    errors: &[E],
    plane: &mut [E],
    weight: impl Fn(usize) -> W,
    add: impl Fn(E, E, W) -> E,
) {
    let [k_h, k_w] = g.window.kernel.map(usize::from);
    let [stride_h, stride_w] = g.window.stride.map(usize::from);
    let own = input.saturating_sub(g.first_input(channel));
    for ky in 0..k_h {
        let (y0, y1, iy) = g.reach(0, ky);
        for kx in 0..k_w {
            let (x0, x1, ix) = g.reach(1, kx);
            let w = weight(g.weight(channel, ky * k_w + kx) + own);
            for y in y0..y1 {
                let row = (iy + (y - y0) * stride_h) * g.input[1] + ix;
                let Some(pixels) = plane.get_mut(row..) else { break };
                let errors = &errors[y * g.output[1] + x0..y * g.output[1] + x1];
                for (error, sum) in errors.iter().zip(pixels.iter_mut().step_by(stride_w)) {
                    *sum = add(*sum, *error, w);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_format::record::Window;
    use offshoot_kernels::Random;
    use offshoot_kernels::layer::Order;
    use std::vec::Vec;

    /// Reference by definition: every output pixel and tap, with bounds checks.
    fn by_definition(g: &Geometry, channel: usize, x: &[f32], errors: &[f32]) -> Vec<(usize, f32)> {
        let mut all = Vec::new();
        let w = g.window;
        for ky in 0..usize::from(w.kernel[0]) {
            for kx in 0..usize::from(w.kernel[1]) {
                for i in 0..g.depth() {
                    let mut sum = 0.0;
                    for y in 0..g.output[0] {
                        for ox in 0..g.output[1] {
                            let iy = (y * usize::from(w.stride[0]) + ky * usize::from(w.dilation[0]))
                                as isize
                                - w.pad[0] as isize;
                            let ix = (ox * usize::from(w.stride[1]) + kx * usize::from(w.dilation[1]))
                                as isize
                                - w.pad[1] as isize;
                            let inside = (0..g.input[0] as isize).contains(&iy)
                                && (0..g.input[1] as isize).contains(&ix);
                            if inside {
                                let at = (iy as usize * g.input[1] + ix as usize) * g.c
                                    + g.first_input(channel)
                                    + i;
                                sum += errors[y * g.output[1] + ox] * x[at];
                            }
                        }
                    }
                    all.push((g.weight(channel, ky * usize::from(w.kernel[1]) + kx) + i, sum));
                }
            }
        }
        all
    }

    #[test]
    fn gradients_are_those_of_the_definition() {
        let mut random = Random::new(11);
        let window = |k: u16, s: u16, d: u16, p: u16| Window {
            kernel: [k, k + 1],
            stride: [s, 1],
            dilation: [d, 1],
            pad: [p, p, p, p],
        };
        let cases = [
            (5, Order::Grouped { groups: 1 }, 3, window(3, 1, 1, 1)),
            (8, Order::Grouped { groups: 2 }, 4, window(2, 2, 2, 1)),
            (1, Order::Grouped { groups: 1 }, 2, window(4, 2, 1, 0)),
            (3, Order::Depthwise { multiplier: 2 }, 6, window(3, 1, 1, 2)),
        ];
        for (c, order, out_c, window) in cases {
            let (out_h, out_w) = offshoot_kernels::geometry::window_output(&window.into(), 9, 7).unwrap();
            let output = [out_h as usize, out_w as usize];
            let g = Geometry { input: [9, 7], c, output, out_c, window, order };
            // Integers: sums are exact in any order.
            let x: Vec<f32> = (0..9 * 7 * c).map(|_| f32::from(random.next_u32() as i8)).collect();
            let errors: Vec<f32> = (0..g.pixels()).map(|_| (random.next_u32() as i32 >> 24) as f32).collect();
            for channel in 0..out_c {
                let mut found = Vec::new();
                gradients(&g, channel, &x, &errors, |sum, e, x| sum + e * x, |at, sum| found.push((at, sum)));
                assert_eq!(found, by_definition(&g, channel, &x, &errors), "{g:?} {channel}");
            }
        }
    }

    /// What comes back is the slope of `Σ e · (W x)` in every input pixel.
    #[test]
    fn errors_come_back_as_slopes() {
        let mut random = Random::new(12);
        let window =
            |s: u16, p: u16| Window { kernel: [3, 2], stride: [s, 1], dilation: [1, 1], pad: [p; 4] };
        for (c, order, out_c, window) in [
            (4, Order::Grouped { groups: 2 }, 6, window(2, 1)),
            (3, Order::Depthwise { multiplier: 2 }, 6, window(1, 1)),
            (2, Order::Grouped { groups: 1 }, 3, window(1, 0)),
        ] {
            let (out_h, out_w) = offshoot_kernels::geometry::window_output(&window.into(), 6, 5).unwrap();
            let output = [out_h as usize, out_w as usize];
            let g = Geometry { input: [6, 5], c, output, out_c, window, order };
            let small = |random: &mut Random| (random.next_u32() as i32 >> 29) as f32;
            let weights: Vec<f32> = (0..g.weights()).map(|_| small(&mut random)).collect();
            let errors: Vec<Vec<f32>> =
                (0..out_c).map(|_| (0..g.pixels()).map(|_| small(&mut random)).collect()).collect();
            // With an input of one pixel, each gradient is the sum of the errors that meet the weight.
            for input in 0..c {
                let mut plane = vec![0.0; 30];
                for o in g.readers(input) {
                    pull_back(&g, o, input, &errors[o], &mut plane, |at| weights[at], |s, e, w| s + e * w);
                }
                for (p, back) in plane.iter().enumerate() {
                    let mut x = vec![0.0; 30 * c];
                    x[p * c + input] = 1.0;
                    let mut slope = 0.0;
                    for (o, errors) in errors.iter().enumerate() {
                        let of_weight = |at: usize, sum: f32| slope += sum * weights[at];
                        gradients(&g, o, &x, errors, |sum, e, x| sum + e * x, of_weight);
                    }
                    assert_eq!(*back, slope, "{g:?} {input} {p}");
                }
            }
        }
    }
}
