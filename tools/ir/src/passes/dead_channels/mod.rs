//! Removes channels with the same value everywhere: a filter of zeros writes one constant, which the operators that
//! read the channel fold into their biases. Channels that nothing reads are removed too.
//!
//! [`constants`] finds the known value of every channel, [`liveness`] determines which channels are not needed,
//! [`rewrite`] removes these from weights, biases, scales and shapes. int8 results stay identical to the byte: a
//! constant is computed with the device's fixed-point arithmetic and folded exactly. In float32 the folded products
//! are added in another order, so results may differ in the last bits unless the constant is 0.
//!
//! These channels stay: those that reach a graph output, a residual sum, a concatenation, a softmax, a product of two
//! activations or any operator not named in [`liveness`], and those whose constant meets padding of another value
//! (the border of the result then differs from its interior).

mod constants;
mod linear;
mod liveness;
mod rewrite;
#[cfg(test)]
mod tests;

use super::edit;
use crate::{Graph, Result};

/// Runs the pass; see the module documentation.
///
/// # Errors
/// None; all passes share this signature.
pub(super) fn run(graph: Graph) -> Result<Graph> {
    // Removed rows can leave columns of zeros in the operator before, so this repeats until nothing changes.
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
