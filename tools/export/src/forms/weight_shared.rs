//! Weights that several networks of a file share: an operator of a further network that reads a prefix of the channels
//! of an operator of the first, and gives a prefix of its channels, as [`record::ConvNested`] or
//! [`record::DepthwiseNested`].

use offshoot::format::codec::Record;
use offshoot::format::nested::Whole;
use offshoot::format::record::{self, Walk};

use super::parameters::{Lowering, Quantised, requant_blob};
use super::{Build, ConvForm, Offer, Shared, Workspace, channel_planar, packed, scratch_of, tiled};
use crate::blobs::{self, Blobs};
use crate::cores::Core;
use crate::lowered::Tensor;

/// What a network is to its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Role {
    /// The only one.
    #[default]
    Alone,
    /// The one whose weights the others share.
    First,
    /// One that shares.
    Further,
}

/// Weights of the first network, in the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wholes(Vec<Stored>);

#[derive(Clone, Debug)]
struct Stored {
    /// Name of the constant.
    name: String,
    whole: Whole,
    kind: Kind,
    /// OHWI.
    weights: Vec<i8>,
    fixed: Vec<(i32, i8)>,
}

/// Operators that read weights in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Blocked, with so many kernel rows and columns; one scale for all or not.
    Conv { kernel: [u16; 2], one_scale: bool },
    /// Planar, with so many kernel rows and columns.
    Depthwise { kernel: [u16; 2] },
}

impl Kind {
    fn taps(self) -> usize {
        let (Self::Conv { kernel, .. } | Self::Depthwise { kernel }) = self;
        kernel.map(usize::from).into_iter().product()
    }
}

impl Stored {
    /// Whether `weights`, of `c` inputs and `out_c` outputs, are these or a part of them.
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
    /// The first network's weights that hold these, the same constant's if they do.
    fn find(&self, kind: Kind, name: &str, [c, out_c]: [usize; 2], weights: &[i8]) -> Option<&Stored> {
        let holds = |s: &&Stored| s.holds(kind, c, out_c, weights);
        let named = self.0.iter().filter(|s| s.name == name).find(holds);
        named.or_else(|| self.0.iter().find(holds))
    }
}

impl Stored {
    /// Whether the blob begins with these biases.
    fn same_bias(&self, blobs: &Blobs, bias: &[i32]) -> bool {
        let at = self.whole.blob as usize;
        blobs.as_bytes().get(at..).is_some_and(|b| b.starts_with(&blobs::words(bias)))
    }

    /// Biases, and multipliers and shifts where they are not the whole's, as the blob of an operator; whether it has those.
    fn own_numbers(&self, q: &Quantised, channels: usize) -> (Vec<u8>, bool) {
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

/// Remembers weights that further networks may share: `name` is that of the constant, `blob` the offset of what begins with
/// the numbers of `q`.
pub(crate) fn keep(
    out: &mut Build<'_>,
    kind: Kind,
    name: &str,
    (c, out_c): (u16, u16),
    q: Quantised,
    blob: u32,
) {
    if out.role == Role::First {
        let (name, whole) = (name.to_owned(), Whole { blob, c, out_c });
        out.wholes.0.push(Stored { name, whole, kind, weights: q.weights, fixed: q.fixed });
    }
}

/// The kind of a tiled convolution.
pub(crate) fn conv(window: &record::Window, walk: Walk) -> Kind {
    Kind::Conv { kernel: window.kernel, one_scale: walk == Walk::VectorOneScale }
}

/// A layer on weights of the first network.
pub(crate) struct WeightShared {
    layer: Shared,
    whole: Whole,
    /// Biases, and multipliers and shifts if they are its own.
    numbers: Vec<u8>,
    own: bool,
    /// The tiled or the channel-planar record.
    record: Record,
}

impl WeightShared {
    /// A layer whose weights are those that the first network has under `name`, or a prefix of them; `None` if they are not, or if
    /// its tiled form is the whole as it is, whose blob is found again. `blobs` are the file's so far.
    pub(crate) fn conv(layer: &Shared, name: &str, wholes: &Wholes, blobs: &Blobs) -> Lowering<Option<Self>> {
        let (record, fixed) = tiled::settled(layer)?;
        let kind = conv(&layer.window, record.walk);
        let shape = [record.c, record.out_c];
        let q = Quantised { fixed, ..layer.q.clone() };
        let channels = layer.channels().next_multiple_of(4);
        Ok(Self::of(layer, name, kind, wholes, blobs, &q, (shape, channels), Record::ConvBlocked(record)))
    }

    /// As [`Self::conv`], a depthwise layer.
    pub(crate) fn depthwise(
        layer: &Shared,
        name: &str,
        wholes: &Wholes,
        blobs: &Blobs,
    ) -> Lowering<Option<Self>> {
        let record = channel_planar::record(layer, 0)?;
        let kind = Kind::Depthwise { kernel: layer.window.kernel };
        let channels = layer.channels();
        let q = Quantised { fixed: layer.q.fixed_each(channels), ..layer.q.clone() };
        let shape = [1, record.c];
        Ok(Self::of(layer, name, kind, wholes, blobs, &q, (shape, channels), Record::DepthwisePlanar(record)))
    }

    fn of(
        layer: &Shared,
        name: &str,
        kind: Kind,
        wholes: &Wholes,
        blobs: &Blobs,
        q: &Quantised,
        (shape, channels): ([u16; 2], usize),
        record: Record,
    ) -> Option<Self> {
        let stored = wholes.find(kind, name, shape.map(usize::from), &q.weights)?;
        let same = [stored.whole.c, stored.whole.out_c] == shape;
        if same && stored.fixed == q.fixed && stored.same_bias(blobs, &q.bias) {
            return None;
        }
        let (numbers, own) = stored.own_numbers(q, channels);
        Some(Self { layer: Shared::clone(layer), whole: stored.whole, numbers, own, record })
    }

    fn record(&self, workspace: &Workspace, blob: u32) -> Lowering<Record> {
        Ok(match self.record {
            Record::DepthwisePlanar(_) => {
                let r = channel_planar::record(&self.layer, workspace.band)?;
                let planar = record::DepthwisePlanar { blob, ..r };
                record::DepthwiseNested::new(planar, self.whole, self.own).into()
            }
            Record::ConvBlocked(r) => {
                // The weights that are there, without padding.
                let tiles = packed::tiles(self.layer.channels(), self.layer.taps(), workspace.tiles);
                record::ConvNested::new(record::ConvBlocked { blob, ..r }, self.whole, self.own, tiles).into()
            }
            other => other,
        })
    }
}

impl ConvForm for WeightShared {
    fn offer(&self, core: Core, workspace: &Workspace) -> Lowering<Offer> {
        let record = self.record(workspace, 0)?;
        Ok(Offer {
            bytes: 0,
            instructions: core.tiled(&self.layer),
            scratch: scratch_of(&record)?.into(),
            in_place: self.layer.overlaps(&record),
        })
    }

    fn emit(&self, workspace: &Workspace, out: &mut Build<'_>, x: &Tensor, y: &Tensor) -> Lowering {
        let layer = &self.layer;
        let blob = out.blob(|| self.numbers.clone(), [0, 4 * layer.channels()]);
        let record = self.record(workspace, blob)?;
        out.layer(layer, record, [x, y], layer.macs(), layer.q.weights.len() as u64)
    }
}
