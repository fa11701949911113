//! `space.toml`: the source of the network, what is elastic in it, and how it is trained.
//!
//! ```toml
//! name = "digits"
//! family = "ds-cnn"            # ds-cnn, resnet, gru, vit; or `onnx = "model.onnx"`
//!
//! [network]                    # of a family: its largest network
//! input = [49, 10, 1]
//! classes = 10
//! stem = 64
//! widths = [64]
//! blocks = [4]
//!
//! [elastic]
//! width = [0.25, 0.5, 0.75, 1.0]
//! depth = true
//! kernel = [3]
//! bits = [8, 4]
//!
//! [training]
//! epochs = 20
//!
//! [[variable]]                 # by hand
//! name = "first"
//! channels = { weights = "stem.weight", first = 0 }
//! options = [8, 16, 64]
//! ```

use std::path::{Path, PathBuf};

use offshoot_ir::Graph;
use serde::{Deserialize, Serialize};

use crate::automatic::{Elasticity, automatic};
use crate::elastic::Elastic;
use crate::families::{Family, Shape, build};
use crate::space::{Block, Kind, Variable};
use crate::training::Training;
use crate::{Error, Result};

/// A space as written in the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpaceFile {
    /// Name of the space.
    pub name: String,
    /// A float ONNX network, next to this file.
    pub onnx: Option<PathBuf>,
    /// Or a family of networks.
    pub family: Option<Family>,
    /// Largest network of the family.
    pub network: Option<Shape>,
    /// What becomes elastic by itself. Without this table: widths, or nothing if variables are defined by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elastic: Option<Elasticity>,
    /// How the super-network is trained.
    pub training: Training,
    /// Skippable blocks in addition to those found automatically.
    pub block: Vec<Block>,
    /// Variables defined by hand.
    pub variable: Vec<VariableFile>,
    /// Further data sets that one network should serve at once.
    pub task: Vec<TaskFile>,
}

/// A variable defined by hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VariableFile {
    /// Its name.
    pub name: String,
    /// Its options, ascending; the last is the network's own value.
    pub options: Vec<usize>,
    /// Channels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<ChannelsFile>,
    /// Blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<Vec<Block>>,
    /// Names of convolutions whose kernels it crops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Vec<String>>,
    /// Names of operators whose weights take this number of bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits: Option<Vec<String>>,
    /// Height of the input.
    #[serde(default)]
    pub resolution: bool,
}

/// Channels of a variable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelsFile {
    /// Name of the constant.
    pub weights: String,
    /// A channel among them.
    #[serde(default)]
    pub first: usize,
}

/// A further task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskFile {
    /// Name of the task; its accuracy is the metric `accuracy@name`.
    pub name: String,
    /// Samples and class numbers to judge with, next to this file.
    pub test: [PathBuf; 2],
}

impl VariableFile {
    fn variable(&self) -> Result<Variable> {
        let kinds = [
            self.channels.as_ref().map(|c| Kind::Channels { weights: c.weights.clone(), first: c.first }),
            self.depth.as_ref().map(|blocks| Kind::Depth { blocks: blocks.clone() }),
            self.kernel.as_ref().map(|operators| Kind::Kernel { operators: operators.clone() }),
            self.bits.as_ref().map(|operators| Kind::Bits { operators: operators.clone() }),
            self.resolution.then_some(Kind::Resolution),
        ];
        let mut kinds = kinds.into_iter().flatten();
        match (kinds.next(), kinds.next()) {
            (Some(kind), None) => {
                Ok(Variable { name: self.name.clone(), kind, options: self.options.clone() })
            }
            _ => Err(Error::Space(format!(
                "variable `{}`: give one of channels, depth, kernel, bits, resolution",
                self.name
            ))),
        }
    }
}

impl SpaceFile {
    /// What becomes elastic by itself.
    pub fn elasticity(&self) -> Elasticity {
        let by_hand = !self.variable.is_empty() || !self.block.is_empty();
        match &self.elastic {
            Some(elastic) => elastic.clone(),
            None if by_hand => {
                Elasticity { width: vec![], depth: !self.block.is_empty(), ..Elasticity::default() }
            }
            None => Elasticity::default(),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::file(path, e))?;
        Self::parse(&text).map_err(|e| match e {
            Error::Space(reason) => Error::file(path, reason),
            other => other,
        })
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    /// [`Error::Space`] with the line that cannot be parsed.
    pub fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|e| Error::Space(e.to_string()))
    }

    /// The super-network, untrained unless it is an ONNX file. `folder` is the folder of the space file.
    ///
    /// # Errors
    /// [`Error::File`] for the ONNX file, [`Error::Space`].
    pub fn elastic(&self, folder: &Path) -> Result<Elastic> {
        let more = self.variable.iter().map(VariableFile::variable).collect::<Result<Vec<_>>>()?;
        let (graph, blocks): (Graph, Option<Vec<Vec<Block>>>) = match (&self.onnx, self.family) {
            (Some(onnx), None) => {
                let path = folder.join(onnx);
                let graph = offshoot_import::import(&path).map_err(|e| Error::file(&path, e))?;
                (offshoot_ir::passes::lossless(graph)?.0, None)
            }
            (None, Some(family)) => {
                let built = build(family, &self.network.clone().unwrap_or_default())?;
                (built.graph, Some(built.blocks))
            }
            _ => return Err(Error::Space("give either `onnx` or `family`".into())),
        };
        let blocks = match (blocks, self.block.is_empty()) {
            (blocks, true) => blocks,
            (Some(blocks), false) => Some([blocks, vec![self.block.clone()]].concat()),
            (None, false) => Some(vec![self.block.clone()]),
        };
        automatic(graph, &self.elasticity(), blocks, more)
    }
}
