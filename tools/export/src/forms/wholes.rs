//! The first network's weights in a file, and the search for those of a further network among them.

use offshoot::format::nested::Whole;
use offshoot::format::record::{self, Traversal};

use super::parameters::{Quantised, requant_blob};
use crate::blobs::{self, Blobs};

/// Role of a network in its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Role {
    /// The only network.
    #[default]
    Alone,
    /// The first network, whose weights the others share.
    First,
    /// A further network, which shares weights.
    Further,
}

/// Weights of the first network in the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wholes(Vec<Stored>);

#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// Name of the weights' constant.
    name: String,
    pub(super) whole: Whole,
    kind: Kind,
    /// Weights, OHWI.
    weights: Vec<i8>,
    pub(super) fixed: Vec<(i32, i8)>,
}

/// Operators that read weights in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Tiled, with the extents of the kernel, and whether there is one scale for all channels.
    Conv { kernel: [u16; 2], one_scale: bool },
    /// Channel-planar, with the extents of the kernel.
    Depthwise { kernel: [u16; 2] },
}

impl Kind {
    fn taps(self) -> usize {
        let (Self::Conv { kernel, .. } | Self::Depthwise { kernel }) = self;
        kernel.map(usize::from).into_iter().product()
    }
}

impl Stored {
    /// Whether `weights` with `c` inputs and `out_c` outputs equal these or are a prefix of them.
    fn holds(&self, kind: Kind, c: usize, out_c: usize, weights: &[i8]) -> bool {
        let (whole_c, whole_out_c) = (usize::from(self.whole.c), usize::from(self.whole.out_c));
        let part = |own: usize, whole: usize| {
            own == whole || own < whole && own.is_multiple_of(4) && whole.is_multiple_of(4)
        };
        if kind != self.kind {
            return false;
        }
        let taps = kind.taps();
        if let Kind::Depthwise { .. } = kind {
            return out_c <= whole_out_c && self.weights.starts_with(weights);
        }
        part(c, whole_c)
            && part(out_c, whole_out_c)
            && (0..out_c * taps).all(|row| weights[row * c..][..c] == self.weights[row * whole_c..][..c])
    }
}

impl Wholes {
    /// Adds weights: `name` is their constant's, `blob` the offset of the blob that starts with the biases of `q`.
    pub(crate) fn keep(&mut self, kind: Kind, name: &str, (c, out_c): (u16, u16), q: Quantised, blob: u32) {
        let (name, whole) = (name.to_owned(), Whole { blob, c, out_c });
        self.0.push(Stored { name, whole, kind, weights: q.weights, fixed: q.fixed });
    }

    /// Weights of the first network that include these, preferably of the same constant.
    pub(super) fn find(
        &self,
        kind: Kind,
        name: &str,
        [c, out_c]: [usize; 2],
        weights: &[i8],
    ) -> Option<&Stored> {
        let holds = |s: &&Stored| s.holds(kind, c, out_c, weights);
        let named = self.0.iter().filter(|s| s.name == name).find(holds);
        named.or_else(|| self.0.iter().find(holds))
    }
}

impl Stored {
    /// Whether the blob starts with these biases.
    pub(super) fn same_bias(&self, blobs: &Blobs, bias: &[i32]) -> bool {
        let at = self.whole.blob as usize;
        blobs.as_bytes().get(at..).is_some_and(|b| b.starts_with(&blobs::words(bias)))
    }

    /// Blob of an operator with its own biases, and with its own multipliers and shifts if they differ; whether they
    /// do.
    pub(super) fn own_numbers(&self, q: &Quantised, channels: usize) -> (Vec<u8>, bool) {
        let own = !self.fixed.starts_with(&q.fixed);
        let (mut bias, mut fixed) = (q.bias.clone(), q.fixed.clone());
        bias.resize(channels, 0);
        if !own {
            fixed.clear();
        } else if fixed.len() > 1 {
            fixed.resize(channels, (0, -1));
        }
        (requant_blob(&bias, &fixed), own)
    }
}

/// The kind of a tiled convolution.
pub(crate) fn conv(window: &record::Window, traversal: Traversal) -> Kind {
    Kind::Conv { kernel: window.kernel, one_scale: traversal == Traversal::VectorOneScale }
}
