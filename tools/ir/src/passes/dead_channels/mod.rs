//! Channels with the same value everywhere go: a filter of zeros writes one constant, which the operators that
//! read the channel take into their biases. Channels that nobody reads go too.
//!
//! [`constants`] finds what every channel is known to be, [`liveness`] which channels nobody needs, [`rewrite`]
//! takes them out of weights, biases, scales and shapes. int8 results stay the same to the byte: a constant is
//! computed with the device's own fixed-point arithmetic and folded exactly. In float32 the folded products are
//! added in another order, so results may differ in the last bits unless the constant is 0.
//!
//! What stays: channels that reach a graph output, a residual sum, a concatenation, a softmax, a product of two
//! activations or any operator not named in [`liveness`], and channels whose constant meets padding of another
//! value (the border of the result then differs from its inside).

mod constants;
mod linear;
mod liveness;
mod rewrite;
#[cfg(test)]
mod tests;

use super::edit;
use crate::{Graph, Result};

/// See the module.
///
/// # Errors
/// None; the signature is the passes'.
pub(super) fn run(graph: Graph) -> Result<Graph> {
    // Rows that go can leave columns of zeros in the operator before: again until nothing goes.
    Ok(edit::repeat(graph, |g| {
        let known = constants::find(g);
        match liveness::keep(g, &known) {
            Some(keep) => {
                rewrite::apply(g, &known, &keep);
                true
            }
            None => false,
        }
    }))
}
