//! Weights that several networks of a file share: an operator of a further network that reads a prefix of the channels
//! of an operator of the first, and gives a prefix of its channels, as [`record::ConvNested`] or
//! [`record::DepthwiseNested`].

use offshoot::format::codec::Record;
use offshoot::format::nested::Whole;
use offshoot::format::record::{self, Walk};
use offshoot_ir::ValueId;

use super::linear::{Quantised, requant_blob};
use super::{Context, Lowering, packed};

/// What a network is to its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
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
pub struct Wholes(Vec<Stored>);

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
pub(super) enum Kind {
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

impl Context<'_> {
    /// Remembers weights that further networks may share.
    pub(super) fn keep(
        &mut self,
        kind: Kind,
        parameters: &[ValueId],
        (c, out_c): (u16, u16),
        q: &Quantised<'_>,
        blob: u32,
    ) {
        if self.role == Role::First {
            let name = self.graph.value(parameters[0]).name.clone();
            let (weights, fixed) = (q.weights.to_vec(), q.fixed.clone());
            self.wholes.0.push(Stored { name, whole: Whole { blob, c, out_c }, kind, weights, fixed });
        }
    }

    /// The first network's weights that hold these, the same constant's if they do.
    fn whole(&self, kind: Kind, name: &str, c: u16, out_c: u16, weights: &[i8]) -> Option<&Stored> {
        let (c, out_c) = (usize::from(c), usize::from(out_c));
        let holds = |s: &&Stored| s.holds(kind, c, out_c, weights);
        let named = self.wholes.0.iter().filter(|s| s.name == name).find(holds);
        named.or_else(|| self.wholes.0.iter().find(holds))
    }

    /// Biases, and multipliers and shifts where they are not the whole's, as the blob of a nested operator; whether it has
    /// those.
    fn own_numbers(&self, q: &Quantised<'_>, stored: &Stored, channels: usize) -> (Vec<u8>, bool) {
        let own = !stored.fixed.starts_with(&q.fixed);
        let (mut bias, mut fixed) = (q.bias.clone(), q.fixed.clone());
        bias.resize(channels, 0);
        if !own {
            fixed.clear();
        } else if fixed.len() > 1 {
            fixed.resize(channels, (0, -1));
        }
        (requant_blob(&bias, &fixed), own)
    }

    /// The record of a convolution that shares its weights; `None` if it has its own. `q` has the zero point folded in, and
    /// as many scales as the record.
    pub(super) fn share_conv(
        &mut self,
        kind: Kind,
        parameters: &[ValueId],
        r: record::ConvBlocked,
        q: &Quantised<'_>,
    ) -> Lowering<Option<Record>> {
        if self.role != Role::Further {
            return Ok(None);
        }
        let name = &self.graph.value(parameters[0]).name;
        let Some(stored) = self.whole(kind, name, r.c, r.out_c, q.weights) else { return Ok(None) };
        let same = (stored.whole.c, stored.whole.out_c) == (r.c, r.out_c);
        if same && stored.fixed == q.fixed && stored.same_bias(self, q) {
            // The whole as it is: its blob is found again.
            return Ok(None);
        }
        let channels = usize::from(r.out_c);
        let (blob, own) = self.own_numbers(q, stored, channels.next_multiple_of(4));
        let whole = stored.whole;
        let inputs = q.weights.len() / channels.max(1);
        let blob = self.blob(blob, (0, 4 * channels))?;
        let panel = packed::panel(channels, inputs, self.room.panel);
        Ok(Some(record::ConvNested::new(record::ConvBlocked { blob, ..r }, whole, own, panel).into()))
    }

    /// As [`Self::share_conv`], of a depthwise convolution.
    pub(super) fn share_depthwise(
        &mut self,
        kind: Kind,
        parameters: &[ValueId],
        r: record::DepthwisePlanar,
        q: &Quantised<'_>,
    ) -> Lowering<Option<Record>> {
        if self.role != Role::Further {
            return Ok(None);
        }
        let name = &self.graph.value(parameters[0]).name;
        let Some(stored) = self.whole(kind, name, 1, r.c, q.weights) else { return Ok(None) };
        if stored.whole.out_c == r.c && stored.fixed == q.fixed && stored.same_bias(self, q) {
            return Ok(None);
        }
        let channels = usize::from(r.c);
        let (blob, own) = self.own_numbers(q, stored, channels);
        let whole = stored.whole;
        let blob = self.blob(blob, (0, 4 * channels))?;
        Ok(Some(record::DepthwiseNested::new(record::DepthwisePlanar { blob, ..r }, whole, own).into()))
    }
}

impl Stored {
    /// Whether the blob begins with these biases.
    fn same_bias(&self, c: &Context<'_>, q: &Quantised<'_>) -> bool {
        let at = self.whole.blob as usize;
        c.out.blobs.as_bytes().get(at..).is_some_and(|b| b.starts_with(&crate::blobs::words(&q.bias)))
    }
}

/// The kind of a blocked convolution.
pub(super) fn conv(window: &record::Window, walk: Walk) -> Kind {
    Kind::Conv { kernel: window.kernel, one_scale: walk == Walk::VectorOneScale }
}
