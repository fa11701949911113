//! Channel-planar depthwise convolutions: a few neighbouring outputs at a time, so that a weight is read once for all of
//! them and, with a stride of one, an input once for the three outputs under a row of a 3×3 window.

#[cfg(scalar_v6m)]
mod v6m;
#[cfg(scalar_v7m)]
mod v7m;

#[cfg(scalar_v6m)]
use v6m as isa;
#[cfg(scalar_v7m)]
use v7m as isa;

use super::fixed_point::{Scale, straight};
use crate::geometry::Planar;
use crate::plane::View;
use crate::portable;
use crate::requant::Requant;
use crate::tiles::Operands;
use core::ops::Range;
use offshoot_base::{Memory, Rule, Span, require};
use offshoot_format::record::DepthwisePlanar;

/// Whether this build has operators with TFLite's rounding, and operators with exact single-multiply requantisation.
const ROUNDED: bool = cfg!(any(feature = "op-depthwise-planar", feature = "op-depthwise-weight-shared"));
const STRAIGHT: bool = cfg!(feature = "op-depthwise-single-multiply");

/// Outputs that are computed together.
const OUTPUTS: usize = 4;

/// Products of two int8 that a sum may have so that twice the accumulator fits 32 bits.
const MOST_TAPS: usize = 1 << 14;

/// See [`crate::depthwise_planar`].
// Not inlined, to keep its frame apart from those of the operators that call it.
#[inline(never)]
pub(crate) fn depthwise_planar(
    r: &DepthwisePlanar,
    g: &Planar,
    q: &Requant<'_>,
    weights: &[i8],
    operands: &mut Operands<'_>,
    planes: Span,
) -> Result<(), Rule> {
    let view = View::of(r, g, planes.len / 2);
    let v = &view;
    let c = usize::from(r.c);
    if c == 0 || v.output.contains(&0) {
        return Ok(());
    }
    let (input, output) = (usize::from(r.h) * usize::from(r.w), g.out_h * g.out_w);
    let (src, dst) = (operands.src, operands.dst);
    let mut memory = Memory::new(operands.arena, &[]);
    memory.write::<i16>(planes)?.fill(i16::from(r.in_zp));
    for n in 0..usize::from(r.n) {
        for channel in 0..c {
            let mut gathered = 0;
            for from in (0..v.output[0]).step_by(v.band.max(1)) {
                let to = (from + v.band).min(v.output[0]);
                let (origin, end) = (from * v.stride[0], (to - 1) * v.stride[0] + v.kernel[0]);
                let kept = usize::max(gathered, origin) - origin;
                let (src, scratch) = memory.split::<i8, i16>(src, planes)?;
                if kept > 0 && from > 0 {
                    let first = v.band * v.stride[0] * v.pitch;
                    scratch.copy_within(first..first + kept * v.pitch, 0);
                }
                gather(v, r.in_zp, &src[n * input * c + channel..], origin, origin + kept..end, scratch);
                gathered = end;
                let (scratch, dst) = memory.split::<i16, i8>(planes, dst)?;
                let first = n * output * c + channel + from * v.output_step[0];
                rows(v, q, &weights[channel..], channel, to - from, scratch, &mut dst[first..])?;
            }
        }
    }
    Ok(())
}

/// Gathers rows of the padded plane; columns in the padding already hold the zero point. `src` begins at the channel's
/// first element, the scratch at row `origin`.
#[inline(never)]
fn gather(v: &View, zero: i8, src: &[i8], origin: usize, rows: Range<usize>, scratch: &mut [i16]) {
    let [height, width] = v.input;
    for row in rows {
        let line = &mut scratch[(row - origin) * v.pitch..][..v.pitch];
        let y = row.wrapping_sub(v.pad[0]);
        if y >= height {
            // In a later band, the row has held another.
            line.fill(zero.into());
            continue;
        }
        let line = &mut line[v.pad[1]..][..width];
        let elements = src[y * v.input_step[0]..].chunks(v.input_step[1]);
        for (value, elements) in line.iter_mut().zip(elements) {
            *value = elements[0].into();
        }
    }
}

/// Computes `count` output rows of a channel from the scratch. `weights` and `dst` begin at the channel's first element.
fn rows(
    v: &View,
    q: &Requant<'_>,
    weights: &[i8],
    channel: usize,
    count: usize,
    scratch: &[i16],
    dst: &mut [i8],
) -> Result<(), Rule> {
    let [k_h, k_w] = v.kernel;
    let last =
        |rows: usize, columns: usize, steps: [usize; 2]| (rows - 1) * steps[0] + (columns - 1) * steps[1];
    let columns = (v.output[1] - 1) * v.stride[1] + k_w;
    require(last((count - 1) * v.stride[0] + k_h, columns, [v.pitch, 1]) < scratch.len(), Rule::ArenaBounds)?;
    require(last(k_h, k_w, v.weight_step) < weights.len(), Rule::BlobBounds)?;
    require(last(count, v.output[1], v.output_step) < dst.len(), Rule::ArenaBounds)?;
    let mut plane = Plane {
        scratch: scratch.as_ptr(),
        pitch: v.pitch,
        advance: v.stride[0] * v.pitch,
        rows: count,
        columns: v.output[1],
        dst: dst.as_mut_ptr(),
        dst_step: v.output_step[1],
        // Backwards if the plane is transposed.
        dst_gap: v.output_step[0].wrapping_sub(v.output[1] * v.output_step[1]),
        small: [0; 9],
        weights: weights.as_ptr(),
        weight_step: v.weight_step,
        kernel: v.kernel,
        step: v.stride[1],
        finish: Finish::of(q, channel, k_h * k_w),
    };
    let small = v.kernel == [3, 3];
    if small {
        for (i, weight) in plane.small.iter_mut().enumerate() {
            *weight = weights[i / 3 * v.weight_step[0] + i % 3 * v.weight_step[1]].into();
        }
    }
    // SAFETY: the last elements of the scratch, the weights and the output lie in their slices.
    unsafe {
        match (small, plane.step) {
            (true, 1) => plane.small::<1>(),
            (true, 2) => plane.small::<2>(),
            _ => plane.any(),
        }
    }
    Ok(())
}

/// Requantisation of a channel's sums.
#[derive(Clone, Copy)]
enum Finish<'a> {
    Straight {
        bias: i32,
        multiplier: i32,
    },
    Rounded {
        bias: i32,
        scale: Scale,
    },
    /// As `Rounded`, for accumulators of any size.
    Large {
        q: &'a Requant<'a>,
        channel: usize,
    },
}

impl<'a> Finish<'a> {
    fn of(q: &'a Requant<'a>, channel: usize, taps: usize) -> Self {
        let bias = q.bias[channel];
        if STRAIGHT && (!ROUNDED || q.shift.is_empty()) {
            Self::Straight { bias, multiplier: q.multiplier[channel] }
        } else if taps > MOST_TAPS {
            Self::Large { q, channel }
        } else {
            Self::Rounded { bias, scale: Scale::of(q, channel) }
        }
    }

    #[inline(always)]
    fn apply(&self, sum: i32) -> i8 {
        match *self {
            Self::Straight { bias, multiplier } => straight((sum << 8).wrapping_add(bias), multiplier),
            Self::Rounded { bias, scale } => scale.of_twice(sum.wrapping_add(bias) << 1),
            Self::Large { q, channel } => portable::requantise(sum.wrapping_add(q.bias[channel]), q, channel),
        }
    }
}

/// The gathered rows of a channel, and where their outputs go. All steps count elements.
struct Plane<'a> {
    scratch: *const i16,
    /// From one row of the scratch to the next.
    pitch: usize,
    /// From the windows of one row of outputs to those of the next.
    advance: usize,
    /// Output rows and columns.
    rows: usize,
    columns: usize,
    dst: *mut i8,
    dst_step: usize,
    /// From behind a row of outputs to the next.
    dst_gap: usize,
    /// Weights of a 3×3 window.
    small: [i32; 9],
    /// Weights of any window, and the distances between its rows and columns.
    weights: *const i8,
    weight_step: [usize; 2],
    kernel: [usize; 2],
    /// From one window of a row to the next.
    step: usize,
    finish: Finish<'a>,
}

/// A plane of 3×3 windows as assembly reads and moves it. Steps count bytes.
#[cfg(any(scalar_v7m, scalar_v6m))]
#[repr(C)]
struct Windows {
    row: *const i16,
    pitch: usize,
    advance: usize,
    /// Counted down.
    rows: usize,
    columns: usize,
    dst: *mut i8,
    step: usize,
    gap: usize,
    bias: i32,
    multiplier: i32,
    weights: [i32; 9],
    /// From one window to the next.
    next: usize,
}

#[cfg(any(scalar_v7m, scalar_v6m))]
impl Windows {
    fn of(plane: &Plane<'_>, bias: i32, multiplier: i32) -> Self {
        Self {
            row: plane.scratch,
            pitch: 2 * plane.pitch,
            advance: 2 * plane.advance,
            rows: plane.rows,
            columns: plane.columns,
            dst: plane.dst,
            step: plane.dst_step,
            gap: plane.dst_gap,
            bias,
            multiplier,
            weights: plane.small,
            next: 2 * plane.step,
        }
    }
}

impl Plane<'_> {
    /// All outputs of 3×3 windows.
    ///
    /// # Safety
    /// The pointers are valid for the elements that rows, columns and steps reach.
    #[inline(never)]
    unsafe fn small<const STEP: usize>(&self) {
        #[cfg(any(scalar_v7m, scalar_v6m))]
        if let Finish::Straight { bias, multiplier } = self.finish {
            // SAFETY: as for this function.
            return unsafe { isa::run::<STEP>(Windows::of(self, bias, multiplier)) };
        }
        #[cfg(scalar_v6m)]
        // SAFETY: as for this function. Flash is short there.
        return unsafe { self.any() };
        #[cfg(not(scalar_v6m))]
        // SAFETY: as for this function.
        unsafe {
            self.each(STEP, |at| self.small_sums::<OUTPUTS, STEP>(at), |at| self.small_sums::<1, STEP>(at))
        }
    }

    /// All outputs of any windows.
    ///
    /// # Safety
    /// As for [`Self::small`].
    #[inline(never)]
    unsafe fn any(&self) {
        // SAFETY: as for this function.
        unsafe { self.each(self.step, |at| self.any_sums::<OUTPUTS>(at), |at| self.any_sums::<1>(at)) }
    }

    /// Writes the outputs of all rows from the sums that two functions give for windows at an address.
    ///
    /// # Safety
    /// As for [`Self::small`].
    #[inline(always)]
    unsafe fn each(
        &self,
        step: usize,
        several: impl Fn(*const i16) -> [i32; OUTPUTS],
        one: impl Fn(*const i16) -> [i32; 1],
    ) {
        let mut dst = self.dst;
        let mut row = self.scratch;
        for _ in 0..self.rows {
            let mut at = row;
            let mut left = self.columns;
            while left >= OUTPUTS {
                for sum in several(at) {
                    // SAFETY: an output of the row.
                    unsafe { dst.write(self.finish.apply(sum)) };
                    dst = dst.wrapping_add(self.dst_step);
                }
                at = at.wrapping_add(OUTPUTS * step);
                left -= OUTPUTS;
            }
            for _ in 0..left {
                let [sum] = one(at);
                // SAFETY: an output of the row.
                unsafe { dst.write(self.finish.apply(sum)) };
                dst = dst.wrapping_add(self.dst_step);
                at = at.wrapping_add(step);
            }
            dst = dst.wrapping_add(self.dst_gap);
            row = row.wrapping_add(self.advance);
        }
    }

    /// Sums of `N` outputs of 3×3 windows, the first of them at `at`.
    #[cfg(not(scalar_v6m))]
    #[inline(always)]
    fn small_sums<const N: usize, const STEP: usize>(&self, at: *const i16) -> [i32; N] {
        let mut sums = [0i32; N];
        let mut at = at;
        for weights in self.small.chunks_exact(3) {
            for i in 0..(N - 1) * STEP + 3 {
                // SAFETY: a value under one of the windows.
                let x = i32::from(unsafe { at.wrapping_add(i).read() });
                for (j, sum) in sums.iter_mut().enumerate() {
                    if let Some(weight) = i.checked_sub(j * STEP).and_then(|i| weights.get(i)) {
                        *sum += x * weight;
                    }
                }
            }
            at = at.wrapping_add(self.pitch);
        }
        sums
    }

    /// Sums of `N` outputs of any windows.
    #[inline(always)]
    fn any_sums<const N: usize>(&self, at: *const i16) -> [i32; N] {
        let mut sums = [0i32; N];
        let [k_h, k_w] = self.kernel;
        let (mut row, mut row_weights) = (at, self.weights);
        for _ in 0..k_h {
            let (mut x, mut weight) = (row, row_weights);
            for _ in 0..k_w {
                // SAFETY: a weight of the window.
                let w = i32::from(unsafe { weight.read() });
                for (i, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: a value under one of the windows.
                    let x = i32::from(unsafe { x.wrapping_add(i * self.step).read() });
                    *sum = sum.wrapping_add(x * w);
                }
                x = x.wrapping_add(1);
                weight = weight.wrapping_add(self.weight_step[1]);
            }
            row = row.wrapping_add(self.pitch);
            row_weights = row_weights.wrapping_add(self.weight_step[0]);
        }
        sums
    }
}
