//! Built-in super-networks, with their skippable blocks.

mod builder;
mod convolutional;
mod recurrent;
mod vit;

use offshoot_ir::Graph;
use serde::{Deserialize, Serialize};

use crate::space::Block;
use crate::{Error, Result};

/// A family of super-networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Depthwise-separable convolutions, for audio and images (DS-CNN, Zhang et al. 2017; MobileNet, Howard et al.
    /// 2017).
    DsCnn,
    /// Residual convolutions (He et al. 2016).
    Resnet,
    /// A gated recurrent layer (Cho et al. 2014) over the rows of the input, unrolled.
    Gru,
    /// Transformer stages with residual spatial reduction between them (ViT-ResNAS, Liao et al. 2021).
    Vit,
}

/// Size of the largest network of a family. Families ignore fields that they do not use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shape {
    /// Height, width, channels of a sample.
    pub input: [usize; 3],
    /// Classes.
    pub classes: usize,
    /// Channels of the first layer.
    pub stem: usize,
    /// Height and width of the first kernel (ViT: of a patch).
    pub stem_kernel: [u16; 2],
    /// Stride of the first layer.
    pub stem_stride: [u16; 2],
    /// Channels of each stage.
    pub widths: Vec<usize>,
    /// Blocks of each stage. The first block of every stage except the first halves the image.
    pub blocks: Vec<usize>,
    /// Height and width of the other kernels.
    pub kernel: u16,
    /// Whether every stage except the first halves the image.
    pub halve: bool,
    /// Heads of attention of each stage.
    pub heads: Vec<usize>,
    /// Ratio of hidden channels in a transformer's layers to the channels of its stage.
    pub expansion: usize,
    /// Most steps to which a recurrent layer is unrolled; inputs are averaged over time to this number.
    pub steps: usize,
    /// Seed of the weights.
    pub seed: u64,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            input: [49, 10, 1],
            classes: 10,
            stem: 64,
            stem_kernel: [10, 4],
            stem_stride: [2, 2],
            widths: vec![64],
            blocks: vec![4],
            kernel: 3,
            halve: true,
            heads: vec![2, 4, 4],
            expansion: 2,
            steps: 16,
            seed: 1,
        }
    }
}

/// A network with its skippable blocks, one list per variable.
#[derive(Clone, Debug)]
pub struct Built {
    /// The largest network, untrained.
    pub graph: Graph,
    /// Skippable blocks.
    pub blocks: Vec<Vec<Block>>,
}

/// The largest network of a family.
///
/// # Errors
/// [`Error::Space`] for an impossible shape.
pub fn build(family: Family, shape: &Shape) -> Result<Built> {
    let fail = |reason: &str| Err(Error::Space(format!("network: {reason}")));
    if shape.input.contains(&0) || shape.classes < 2 || shape.stem == 0 {
        return fail("input, classes and stem are required");
    }
    if shape.widths.is_empty() || shape.widths.len() != shape.blocks.len() {
        return fail("`widths` and `blocks` have one number a stage");
    }
    if shape.widths.contains(&0)
        || shape.blocks.contains(&0)
        || shape.kernel == 0
        || shape.stem_kernel.contains(&0)
    {
        return fail("a width, number of blocks or kernel of 0");
    }
    match family {
        Family::DsCnn => Ok(convolutional::ds_cnn(shape)),
        Family::Resnet => Ok(convolutional::resnet(shape)),
        Family::Gru => recurrent::gru(shape),
        Family::Vit => vit::vit(shape),
    }
}
