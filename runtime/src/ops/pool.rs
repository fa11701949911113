//! [`Pool`]: average or maximum over a window, NHWC.
//!
//! int8 averages round half away from zero, as TFLite's; scale and zero point do not change.
//!
//! Rules: window as [`super::shape::window_output`] says, and every window covers at least one element of the
//! input; at most 2^23 positions a window, so that int32 sums do not wrap; source and destination share no byte.

use super::shape::{product, require, require_f32, window_output, windows_touch};
use super::weights::check_clamp;
use super::{Limits, Memory, Operator, Span};
use crate::error::Rule;
use crate::format::record::{Pool, PoolArith, Window};
use crate::kernels::portable as kernels;

impl Pool {
    /// Source, destination.
    fn spans(&self) -> Result<[Span; 2], Rule> {
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
                crate::kernels::pool_i8(self, src, dst);
            }
            PoolArith::F32 { .. } if cfg!(feature = "f32") => {
                let (src, dst) = memory.split(src, dst)?;
                kernels::pool_f32(self, src, dst);
            }
            PoolArith::F32 { .. } => return Err(Rule::Format),
        }
        Ok(())
    }
}
