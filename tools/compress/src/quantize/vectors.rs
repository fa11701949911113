//! Loops compiled for the vector instructions of the machine they run on.

use pulp::{Arch, Simd, WithSimd};

struct Loop<F>(F);

impl<R, F: FnMut() -> R> WithSimd for Loop<F> {
    type Output = R;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) -> R {
        (self.0)()
    }
}

/// Runs `work`, a closure that is `#[inline(always)]`, with the widest vectors there are. The numbers are the same on all machines:
/// the compiler neither reorders sums nor fuses products into them.
///
/// A closure is not handed to `pulp` as it is: that would call it by value, and through a function without the vectors if the
/// closure only borrows.
#[inline(always)]
pub(super) fn vectorised<R>(work: impl FnMut() -> R) -> R {
    Arch::new().dispatch(Loop(work))
}
