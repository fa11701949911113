//! The plain forms: weights in the graph's order, any number format, any number of groups.

use std::rc::Rc;

use offshoot::format::codec::Record;
use offshoot::format::record::{self, Arith};

use super::parameters::{Lowering, Order, Plain, to_u16, to_u32};
use super::{Build, ConvForm, Layer, Offer, Workspace};
use crate::cores::Core;
use crate::lowered::Tensor;

/// An operator in its plain record.
pub(crate) struct PlainForm {
    /// The record, with 0 as its blob.
    pub(crate) record: Record,
    pub(crate) plain: Rc<Plain>,
    pub(crate) channels: usize,
    pub(crate) outputs: u64,
    pub(crate) macs: u64,
}

impl PlainForm {
    /// An int8 layer.
    pub(crate) fn of_layer(layer: &Layer, kind: Kind) -> Lowering<Self> {
        let [n, h, w, c] = layer.input;
        let (channels, window) = (layer.channels(), layer.window.into());
        let order = if kind == Kind::Depthwise { Order::Planar } else { Order::Same };
        let plain = Plain::of(&layer.q, [&layer.x, &layer.y], layer.activation, order);
        let arith = plain.arith;
        let record = match kind {
            Kind::Rows => {
                let rows = to_u32(layer.pixels(), "the row count")?;
                let (in_c, out_c) = (c.into(), to_u32(channels, "the output width")?);
                let r = record::FullyConnected { src: 0, dst: 0, rows, in_c, out_c, arith, blob: 0 };
                Record::FullyConnected(r)
            }
            Kind::Conv => {
                let out_c = to_u16(channels, "the output channel count")?;
                let r =
                    record::Conv2d { src: 0, dst: 0, n, h, w, c, out_c, groups: 1, window, arith, blob: 0 };
                Record::Conv2d(r)
            }
            Kind::Depthwise => {
                let multiplier = 1;
                let r = record::Depthwise { src: 0, dst: 0, n, h, w, c, multiplier, window, arith, blob: 0 };
                Record::Depthwise(r)
            }
        };
        Ok(Self {
            record,
            plain: Rc::new(plain),
            channels,
            outputs: layer.y.len() as u64,
            macs: layer.macs(),
        })
    }
}

/// The plain records of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Rows,
    Conv,
    Depthwise,
}

impl ConvForm for PlainForm {
    fn offer(&self, core: Core, _: &Workspace) -> Lowering<Offer> {
        let instructions = match self.record {
            Record::Depthwise(_) => core.plain_depthwise(self.macs, self.outputs),
            _ => core.plain(self.macs, self.outputs),
        };
        Ok(Offer { bytes: self.plain.account[0] as u64, instructions, ..Offer::default() })
    }

    fn plain_channels(&self) -> usize {
        if matches!(self.plain.arith, Arith::I8 { .. }) { self.channels } else { 0 }
    }

    fn emit(&self, _: &Workspace, out: &mut Build<'_>, x: &Tensor, y: &Tensor) -> Lowering {
        let blob = out.blob(|| self.plain.blob(), self.plain.account);
        let mut record = self.record;
        match &mut record {
            Record::FullyConnected(r) => r.blob = blob,
            Record::Conv2d(r) => r.blob = blob,
            Record::Depthwise(r) => r.blob = blob,
            _ => return Err("it has no plain form".into()),
        }
        let op = out.emit(record, [Some(x), None], y);
        (op.macs, op.weights) = (self.macs, self.plain.weights as u64);
        Ok(())
    }
}
