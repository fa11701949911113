//! Errors of compiling.

use std::fmt;

/// One operator that the device cannot run, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// ONNX name of the node.
    pub node: String,
    /// IR name of the operator.
    pub operator: String,
    /// Why it cannot run.
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
    /// All operators that the device cannot run.
    #[error("{} operator(s) cannot be compiled:\n  {}", .0.len(), join(.0))]
    Unsupported(Vec<Unsupported>),
    /// A graph input or output that the format cannot describe.
    #[error("graph input or output `{name}`: {reason}")]
    Io {
        /// Name of the tensor.
        name: String,
        /// Why it cannot be described.
        reason: String,
    },
    /// Memory planning failed.
    #[error("memory plan: {0}")]
    Plan(#[from] offshoot_plan::Error),
    /// The arena is larger than allowed.
    #[error("the arena takes {needed} bytes, {} more than the {limit} allowed; \
     {}", needed - limit, arena_help(*lower_bound, *limit))]
    Arena {
        /// Bytes of the plan.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
        /// Proved lower bound of every plan, bytes.
        lower_bound: u64,
    },
    /// The file is larger than allowed.
    #[error("the model takes {needed} bytes, {} more than the {limit} allowed; {weights} of them are \
     weights", needed - limit)]
    Flash {
        /// Bytes of the file.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
        /// Bytes of weights.
        weights: u64,
    },
    /// A quantity exceeds the format's limit.
    #[error("{what} is {value}, but the format holds up to {limit}")]
    Format {
        /// Which quantity.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The largest that fits.
        limit: u64,
    },
    /// The learning plan does not fit the network.
    #[error("learning plan: {0}")]
    Learning(String),
    /// Learning needs a larger arena than allowed.
    #[error("learning takes {needed} bytes of arena, {} more than the {limit} allowed; {trainable} of them are \
     trainable weights", needed - limit)]
    TrainArena {
        /// Bytes of the plan.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
        /// Bytes of trainable weights in RAM.
        trainable: u64,
    },
    /// A further network needs more arena than the first network, which learns. Memory for learning starts right after
    /// the first network's arena.
    #[error(
        "network {network} takes {needed} bytes of arena, more than the {limit} of the first network, which learns"
    )]
    Nested {
        /// Number of the network.
        network: usize,
        /// Bytes of its plan.
        needed: u64,
        /// Bytes of the first network's plan.
        limit: u64,
    },
    /// The file was compiled without a learning plan.
    #[error(
        "the file does not learn: compile the network with `--learn plan.toml` (one line is enough: recipe = \"adapt\")"
    )]
    NotLearning,
    /// The runtime refuses the written file. This is a bug of the exporter, not of the input.
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
        format!("every plan of this network needs {lower_bound} or more: use a smaller network or input")
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
