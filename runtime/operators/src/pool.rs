//! [`Pool`]: average or maximum over a window, NHWC.
//!
//! int8 averages round half away from zero, as in TFLite; scale and zero point do not change.
//!
//! Rules: [`window_output`] accepts the window, and every window covers at least one element of the input; a window has
//! at most 2^23 positions, so int32 sums do not wrap; source and destination are disjoint.

use super::shape::{require_f32, windows_touch};
use super::weights::check_clamp;
use crate::operator::{InPlace, Operator};
use easy_ext::ext;
use offshoot_base::{Limits, Memory, Rule, Span, product, require};
use offshoot_format::record::{DType, Pool, PoolArith, Window};
use offshoot_kernels::geometry::window_output;
use offshoot_kernels::portable as kernels;

#[ext(PoolPlaces)]
impl Pool {
    /// Places of source and destination.
    pub(crate) fn spans(&self) -> Result<[Span; 2], Rule> {
        let (out_h, out_w) = window_output(&self.window, self.h, self.w)?;
        let size = self.arith.dtype().size();
        Ok([
            Span::new(self.src, product([self.n, self.h, self.w, self.c])?, size)?,
            Span::new(self.dst, product([self.n.into(), out_h, out_w, self.c.into()])?, size)?,
        ])
    }
}

impl Operator for Pool {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        require(cfg!(feature = "pool-any") || self.is_global(), Rule::Format)?;
        let [src, dst] = self.spans()?;
        limits.disjoint(src, dst)?;
        windows_touch(&self.window, self.h, self.w)?;
        match self.arith {
            PoolArith::I8 { clamp, .. } => check_clamp(clamp)?,
            PoolArith::F32 { clamp } => {
                require_f32()?;
                check_clamp(clamp)?;
            }
        }
        let positions = product(Window::from(self.window).kernel)?;
        require(positions <= 1 << 23, Rule::Window)?;
        product([dst.len as u64, positions])
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.spans()?[1])
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let [src, dst] = self.spans()?;
        match self.arith {
            PoolArith::I8 { .. } => {
                let (src, dst) = memory.split(src, dst)?;
                offshoot_kernels::pool_i8(self, src, dst);
            }
            PoolArith::F32 { .. } if cfg!(feature = "f32") => {
                let (src, dst) = memory.split(src, dst)?;
                kernels::pool_f32(self, src, dst);
            }
            PoolArith::F32 { .. } => return Err(Rule::Format),
        }
        Ok(())
    }

    fn output_dtype(&self) -> DType {
        self.arith.dtype()
    }

    fn macs(&self) -> u64 {
        0
    }

    fn weights(&self) -> u64 {
        0
    }

    fn scratch(&self, _: &[u8]) -> Result<u32, Rule> {
        Ok(0)
    }

    fn in_place(&self, _: &[u8]) -> InPlace {
        InPlace::Apart
    }
}
