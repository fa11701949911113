//! Convolutions, NHWC: [`Conv2d`] (grouped), [`Depthwise`], [`ConvTranspose`].
//!
//! An output is the sum over window and input channels of `(src - in_zp) * weight`, plus the channel's bias,
//! requantised and clamped (int8) or clamped (float32). Positions in the padding contribute nothing.
//! int32 accumulators wrap. One-dimensional convolutions have height 1.
//!
//! Rules: all extents are at least 1; groups divide both channel counts; [`window_output`] accepts the window; the
//! window determines the whole output ([`ConvTranspose`] stores its output size instead); source and destination share
//! no byte.

use super::weights::{self, Layout};
use crate::operator::{InPlace, Operator, area, outputs};
use easy_ext::ext;
use offshoot_base::{Limits, Memory, Rule, Span, product, require};
use offshoot_format::record::{Conv2d, ConvTranspose, DType, Depthwise, Window};
use offshoot_kernels::geometry::window_output;
use offshoot_kernels::portable as kernels;

/// Input channels per group.
pub(crate) fn group_channels(c: u16, out_c: u16, groups: u16) -> Result<u16, Rule> {
    let divides = groups > 0 && c.is_multiple_of(groups) && out_c.is_multiple_of(groups);
    require(divides, Rule::Window)?;
    Ok(c / groups)
}

#[ext(Conv2dPlaces)]
impl Conv2d {
    pub(crate) fn layout(&self) -> Result<Layout, Rule> {
        let (out_h, out_w) = window_output(&self.window, self.h, self.w)?;
        let [k_h, k_w] = Window::from(self.window).kernel;
        let in_c = group_channels(self.c, self.out_c, self.groups)?;
        let output = product([self.n.into(), out_h, out_w, self.out_c.into()])?;
        let taps = product([k_h, k_w, in_c])?;
        let size = self.arith.dtype().size();
        Ok(Layout {
            src: Span::new(self.src, product([self.n, self.h, self.w, self.c])?, size)?,
            dst: Span::new(self.dst, output, size)?,
            channels: self.out_c.into(),
            weights: product([taps, self.out_c.into()])?,
            work: product([output, taps])?,
        })
    }
}

impl Operator for Conv2d {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        weights::check(limits, &self.arith, self.blob, &self.layout()?)
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.layout()?.dst)
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let layout = self.layout()?;
        weights::run(
            memory,
            self,
            &self.arith,
            self.blob,
            &layout,
            offshoot_kernels::conv2d_i8,
            kernels::conv2d_f32,
        )
    }

    fn output_dtype(&self) -> DType {
        self.arith.dtype()
    }

    fn macs(&self) -> u64 {
        outputs(self) * area(self.window) * u64::from(self.c / self.groups.max(1))
    }

    fn weights(&self) -> u64 {
        u64::from(self.out_c) * area(self.window) * u64::from(self.c / self.groups.max(1))
    }

    fn scratch(&self, _: &[u8]) -> Result<u32, Rule> {
        Ok(0)
    }

    fn in_place(&self, _: &[u8]) -> InPlace {
        InPlace::Apart
    }
}

/// Runs an int8 convolution and adds `add(channel, pixel)` to every sum.
///
/// # Errors
/// None for a record that its check accepts.
pub fn run_conv2d_with(
    r: &Conv2d,
    memory: &mut Memory<'_>,
    add: impl Fn(usize, usize) -> i32,
) -> Result<(), Rule> {
    let layout = r.layout()?;
    let (requant, weights) = weights::weights_i8(memory.blobs(), r.blob, &r.arith, &layout)?;
    let (src, dst) = memory.split(layout.src, layout.dst)?;
    kernels::conv2d_i8_with(r, &requant, weights, src, dst, add);
    Ok(())
}

#[ext(DepthwisePlaces)]
impl Depthwise {
    pub(crate) fn layout(&self) -> Result<Layout, Rule> {
        let (out_h, out_w) = window_output(&self.window, self.h, self.w)?;
        let [k_h, k_w] = Window::from(self.window).kernel;
        let out_c = product([self.c, self.multiplier])?;
        require(out_c <= u64::from(u16::MAX), Rule::Shape)?;
        let output = product([self.n.into(), out_h.into(), out_w.into(), out_c])?;
        let taps = product([k_h, k_w])?;
        let size = self.arith.dtype().size();
        Ok(Layout {
            src: Span::new(self.src, product([self.n, self.h, self.w, self.c])?, size)?,
            dst: Span::new(self.dst, output, size)?,
            channels: out_c,
            weights: product([taps, out_c])?,
            work: product([output, taps])?,
        })
    }
}

impl Operator for Depthwise {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        weights::check(limits, &self.arith, self.blob, &self.layout()?)
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.layout()?.dst)
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let layout = self.layout()?;
        weights::run(
            memory,
            self,
            &self.arith,
            self.blob,
            &layout,
            offshoot_kernels::depthwise_i8,
            kernels::depthwise_f32,
        )
    }

    fn output_dtype(&self) -> DType {
        self.arith.dtype()
    }

    fn macs(&self) -> u64 {
        outputs(self) * area(self.window)
    }

    fn weights(&self) -> u64 {
        u64::from(self.c) * u64::from(self.multiplier) * area(self.window)
    }

    fn scratch(&self, _: &[u8]) -> Result<u32, Rule> {
        Ok(0)
    }

    fn in_place(&self, _: &[u8]) -> InPlace {
        InPlace::Apart
    }
}

#[ext(ConvTransposePlaces)]
impl ConvTranspose {
    pub(crate) fn layout(&self) -> Result<Layout, Rule> {
        let window = Window::from(self.window);
        let extents = [self.h, self.w];
        for (axis, &extent) in extents.iter().enumerate() {
            let (kernel, stride, dilation) =
                (window.kernel[axis], window.stride[axis], window.dilation[axis]);
            require(kernel > 0 && stride > 0 && dilation > 0 && extent > 0, Rule::Window)?;
            // The farthest position that an input pixel reaches before padding is removed. Kernels count in i32.
            let reach =
                u64::from(extent - 1) * u64::from(stride) + u64::from(kernel - 1) * u64::from(dilation);
            require(reach <= 1 << 24, Rule::Window)?;
        }
        let in_c = group_channels(self.c, self.out_c, self.groups)?;
        let output = product([self.n, self.out_h, self.out_w, self.out_c])?;
        let taps = product([window.kernel[0], window.kernel[1], in_c])?;
        let size = self.arith.dtype().size();
        Ok(Layout {
            src: Span::new(self.src, product([self.n, self.h, self.w, self.c])?, size)?,
            dst: Span::new(self.dst, output, size)?,
            channels: self.out_c.into(),
            weights: product([taps, self.out_c.into()])?,
            // The kernel's order: for each output, it tries every kernel position.
            work: product([output, taps])?,
        })
    }
}

impl Operator for ConvTranspose {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        weights::check(limits, &self.arith, self.blob, &self.layout()?)
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.layout()?.dst)
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let layout = self.layout()?;
        let (i8, f32) = (kernels::conv_transpose_i8, kernels::conv_transpose_f32);
        weights::run(memory, self, &self.arith, self.blob, &layout, i8, f32)
    }

    fn output_dtype(&self) -> DType {
        self.arith.dtype()
    }

    fn macs(&self) -> u64 {
        let inputs = u64::from(self.n) * u64::from(self.h) * u64::from(self.w) * u64::from(self.c);
        inputs * area(self.window) * u64::from(self.out_c / self.groups.max(1))
    }

    fn weights(&self) -> u64 {
        u64::from(self.out_c) * area(self.window) * u64::from(self.c / self.groups.max(1))
    }

    fn scratch(&self, _: &[u8]) -> Result<u32, Rule> {
        Ok(0)
    }

    fn in_place(&self, _: &[u8]) -> InPlace {
        InPlace::Apart
    }
}
