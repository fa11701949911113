//! Errors of the compression methods.

/// Result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Error of a compression method. Each message says what is wrong, where, and what would be right.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No calibration samples were given.
    #[error("calibration: no samples; give at least one, 100 or more representative ones are usual")]
    NoSamples,
    /// A sample does not have one array for each graph input.
    #[error("calibration sample {sample}: {found} inputs, the network has {expected}")]
    InputCount {
        /// Index of the sample.
        sample: usize,
        /// Inputs of the network.
        expected: usize,
        /// Arrays in the sample.
        found: usize,
    },
    /// An array does not have the shape of its input.
    #[error("calibration sample {sample}, input `{input}`: shape {found:?}, the network takes {expected:?}")]
    InputShape {
        /// Index of the sample.
        sample: usize,
        /// Name of the graph input.
        input: String,
        /// Shape in the graph.
        expected: Vec<usize>,
        /// Shape of the array.
        found: Vec<usize>,
    },
    /// A NaN or an infinity in the calibration data.
    #[error(
        "calibration sample {sample}, input `{input}`: element {index} is {value}; inputs must be finite numbers"
    )]
    InputNotFinite {
        /// Index of the sample.
        sample: usize,
        /// Name of the graph input.
        input: String,
        /// Row-major index of the first such element.
        index: usize,
        /// The non-finite value.
        value: f32,
    },
    /// A constant or an activation of the float network is NaN or infinite.
    #[error(
        "tensor `{tensor}` holds {value} although the inputs are finite: the float network itself is faulty there"
    )]
    NotFinite {
        /// Name of the tensor.
        tensor: String,
        /// The non-finite value.
        value: f32,
    },
    /// The network is already int8.
    #[error("tensor `{tensor}` is already quantised; quantisation takes a float network")]
    AlreadyQuantized {
        /// Name of the first such tensor.
        tensor: String,
    },
    /// An option is out of its range.
    #[error("option {option}: {reason}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// Why the value is not allowed.
        reason: String,
    },
    /// `keep_float` names nothing in the network.
    #[error(
        "no operator has the name or kind `{wanted}`; kinds in this network: {}; names: {}", .kinds.join(", "), .names.join(", ")
    )]
    KeepFloat {
        /// The name that was looked up.
        wanted: String,
        /// Kinds of operators in the network, with their ONNX names.
        kinds: Vec<String>,
        /// Names of the operators in the network.
        names: Vec<String>,
    },
    /// An option names an operator that the network does not have.
    #[error("no operator{of} has the name or kind `{wanted}`{near}")]
    UnknownOperator {
        /// The name that was looked up.
        wanted: String,
        /// Which operators were looked at: empty, or such as ` with weights`.
        of: &'static str,
        /// Near names, as [`crate::suggest::near`] puts them.
        near: String,
    },
    /// No layer of a sub-network shares weights with the larger one.
    #[error("no layer shares its weights with the large network:\n  {}", .0.join("\n  "))]
    Nest(Vec<String>),
    /// The network cannot be lowered to the device's form.
    #[error(transparent)]
    Export(offshoot_export::Error),
    /// The network does not fit, however much is removed.
    #[error(
        "the budget cannot be met: the smallest that can be reached is {flash} bytes of flash with {ram} bytes of RAM and {macs} \
         MACs{}", .instructions.map_or(String::new(), |i| format!(" in {i} instructions"))
    )]
    Budget {
        /// Bytes of the `.off` file that comes nearest to the limits.
        flash: u64,
        /// Bytes of its arena.
        ram: u64,
        /// Its multiply-accumulates.
        macs: u64,
        /// Its instructions, if they were counted.
        instructions: Option<u64>,
    },
    /// Weights can take fewer bits, but the budget's size cannot be reached at the budget's accuracy.
    #[error(
        "the budget cannot be met: {wanted} bytes leave an accuracy of {}; the nearest point within the loss that is \
         allowed takes {flash} bytes, with {}", percent(.reached), percent(.accuracy)
    )]
    Precision {
        /// Bytes of the smallest `.off` file that keeps the accuracy.
        flash: u64,
        /// Its accuracy.
        accuracy: Option<f64>,
        /// Bytes of the file closest to the flash budget.
        wanted: u64,
        /// Its accuracy.
        reached: Option<f64>,
    },
    /// The observer stopped the work.
    #[error(transparent)]
    Watcher(Box<dyn std::error::Error + Send + Sync>),
    /// Gradients cannot be computed, or training failed.
    #[error(transparent)]
    Training(offshoot_train::Error),
    /// A group of channels cannot be deleted.
    #[error("group {group} of channels {reason}")]
    Group {
        /// Its number.
        group: usize,
        /// Why it must stay.
        reason: String,
    },
    /// Float execution failed.
    #[error("operator `{node}`: {source}")]
    Execution {
        /// Name of the node.
        node: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// `wanted` is neither a name nor a kind of an operator of `graph` that `counts`; `of` says which do, such as
    /// ` with weights`.
    pub(crate) fn unknown_operator(
        wanted: &str,
        graph: &offshoot_ir::Graph,
        of: &'static str,
        counts: impl Fn(&offshoot_ir::Node) -> bool,
    ) -> Self {
        let known = graph.nodes.iter().filter(|n| counts(n)).map(|n| n.name.as_str());
        let near = crate::suggest::near(wanted, known);
        Self::UnknownOperator { wanted: wanted.to_owned(), of, near }
    }
}

fn percent(accuracy: &Option<f64>) -> String {
    accuracy.map_or("unknown".into(), |a| format!("{:.2} %", 100.0 * a))
}
