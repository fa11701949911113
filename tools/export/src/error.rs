//! Why a graph does not become a `.off` file.

use std::fmt;

/// One operator that the device cannot run, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// ONNX name of the node.
    pub node: String,
    /// IR name of the operator.
    pub operator: String,
    /// What is in the way.
    pub reason: String,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`: {}", self.operator, self.node, self.reason)
    }
}

/// Error of [`crate::compile`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Operators without a form on the device: all of them.
    #[error("{} operator(s) cannot be compiled:\n  {}", .0.len(), join(.0))]
    Unsupported(Vec<Unsupported>),
    /// A graph input or output that the format cannot describe.
    #[error("graph input or output `{name}`: {reason}")]
    Io {
        /// Name of the tensor.
        name: String,
        /// What is in the way.
        reason: String,
    },
    /// No memory plan.
    #[error("memory plan: {0}")]
    Plan(#[from] offshoot_plan::Error),
    /// The arena is larger than allowed.
    #[error("the arena takes {needed} bytes, {} more than the {limit} allowed; {}", needed - limit, arena_help(*lower_bound, *limit))]
    Arena {
        /// Bytes of the plan.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
        /// Bytes below which no plan can go.
        lower_bound: u64,
    },
    /// The file is larger than allowed.
    #[error("the model takes {needed} bytes, {} more than the {limit} allowed; {weights} of them are weights", needed - limit)]
    Flash {
        /// Bytes of the file.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
        /// Bytes of weights.
        weights: u64,
    },
    /// More than the format can hold.
    #[error("{what} is {value}, the format holds up to {limit}")]
    Format {
        /// Which quantity.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The largest that fits.
        limit: u64,
    },
    /// The learning plan cannot be followed.
    #[error("learning plan: {0}")]
    Learning(String),
    /// Learning needs a larger arena than allowed.
    #[error("learning takes {needed} bytes of arena, {} more than the {limit} allowed; {trainable} of them are weights in RAM", needed - limit)]
    TrainArena {
        /// Bytes of the plan.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
        /// Bytes of weights.
        trainable: u64,
    },
    /// A further network needs more arena than the first, behind whose arena that of learning begins.
    #[error("network {network} takes {needed} bytes of arena, the first, which learns, {limit}")]
    Nested {
        /// Its number.
        network: usize,
        /// Bytes of its plan.
        needed: u64,
        /// Bytes of the first's.
        limit: u64,
    },
    /// The runtime refuses the file that was written: a defect of the exporter, never of the input.
    #[error("the runtime refuses the compiled model ({0}): please report this with the model")]
    Refused(offshoot::Error),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

fn join(all: &[Unsupported]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  ")
}

fn arena_help(lower_bound: u64, limit: u64) -> String {
    if lower_bound > limit {
        format!("no plan of this network needs less than {lower_bound}: a smaller network or input is needed")
    } else {
        format!("the proved lower bound is {lower_bound}: a larger planning budget may find a plan that fits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_by_how_much() {
        let e = Error::Arena { needed: 120, limit: 100, lower_bound: 110 };
        assert!(e.to_string().contains("20 more than the 100 allowed"), "{e}");
        let one = Unsupported { node: "n".into(), operator: "resize".into(), reason: "why".into() };
        assert_eq!(
            Error::Unsupported(vec![one]).to_string(),
            "1 operator(s) cannot be compiled:\n  resize `n`: why"
        );
    }
}
