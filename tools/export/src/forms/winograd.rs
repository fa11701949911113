//! int8 3×3 convolutions as [`record::ConvWinograd`]: fewer multiplications for more flash (Lavin and Gray 2016,
//! arXiv:1509.09308).

use offshoot::format::codec::Record;
use offshoot::format::record;
use offshoot::format::tiled::MOST_TILE_PAIRS;

use super::parameters::{Lowering, requant_blob};
use super::{Build, ConvForm, Layer, Offer, Shared, Workspace, scratch_of};
use crate::cores::Core;
use crate::lowered::Tensor;

/// Fewest input channels for which transforming the inputs pays.
const LEAST_CHANNELS: u16 = 8;

/// A layer with transformed weights.
pub(crate) struct Winograd {
    layer: Shared,
}

impl Winograd {
    /// `None` if the layer does not have a suitable shape, see [`suits`].
    pub(crate) fn new(layer: &Shared) -> Option<Self> {
        suits(layer).then(|| Self { layer: Shared::clone(layer) })
    }

    fn record(&self, workspace: &Workspace, blob: u32) -> Lowering<Record> {
        let layer = &self.layer;
        let r = layer.tiled_record()?;
        // Besides the pairs, the workspace holds a block of weights.
        let room = workspace.strip_beside(&layer.x, &layer.y);
        let pairs = (room / usize::from(r.c).max(1)).saturating_sub(96) / 48;
        Ok(Record::ConvWinograd(record::ConvWinograd {
            src: 0,
            dst: 0,
            scratch: 0,
            n: r.n,
            h: r.h,
            w: r.w,
            c: r.c,
            out_c: r.out_c,
            window: r.window,
            in_zp: r.in_zp,
            out_zp: r.out_zp,
            clamp: r.clamp,
            strip: pairs.clamp(1, workspace.pairs.clamp(1, MOST_TILE_PAIRS.into())) as u8,
            blob,
        }))
    }

    /// Bytes of weights: four 16-bit components for the three weights of a kernel row.
    fn bytes(&self) -> usize {
        self.layer.q.weights.len() / 3 * 8
    }
}

/// Whether a layer has a suitable shape and gains from this form.
pub(crate) fn suits(layer: &Layer) -> bool {
    let (window, [.., w, c], out_c) = (&layer.window, layer.input, layer.channels());
    let form = window.kernel == [3, 3] && window.stride == [1, 1] && window.dilation == [1, 1];
    form && c.is_multiple_of(4) && c >= LEAST_CHANNELS && out_c.is_multiple_of(4) && out_c >= 8 && w > 3
}

impl ConvForm for Winograd {
    fn offer(&self, core: Core, workspace: &Workspace) -> Lowering<Offer> {
        let record = self.record(workspace, 0)?;
        Ok(Offer {
            bytes: self.bytes() as u64,
            instructions: core.winograd(&self.layer),
            saved_by_strips: 0,
            scratch: scratch_of(&record)?.into(),
            in_place: self.layer.overlaps(&record),
        })
    }

    fn emit(&self, workspace: &Workspace, out: &mut Build<'_>, x: &Tensor, y: &Tensor) -> Lowering {
        let layer = &self.layer;
        let channels = layer.channels();
        let blob = || {
            let weights = transform(&layer.q.weights, channels, layer.input[3].into());
            [requant_blob(&layer.q.bias, &layer.q.fixed_each(channels)), weights].concat()
        };
        let blob = out.blob(blob, [self.bytes(), 4 * channels]);
        let record = self.record(workspace, blob)?;
        out.layer(layer, record, [x, y], layer.macs(), layer.q.weights.len() as u64)
    }
}

/// Weights (OHWI, 3×3) in the components and order of [`record::ConvWinograd`].
fn transform(weights: &[i8], channels: usize, in_c: usize) -> Vec<u8> {
    let component = |o: usize, row: usize, i: usize, component: usize| -> i16 {
        if o >= channels {
            return 0;
        }
        let g = [0, 1, 2].map(|column| i16::from(weights[((o * 3 + row) * 3 + column) * in_c + i]));
        match component {
            0 => 2 * g[0],
            1 => -2 * g[2],
            2 => g[0] + g[1] + g[2],
            _ => g[0] - g[1] + g[2],
        }
    };
    let mut bytes = Vec::new();
    for block in (0..channels).step_by(4) {
        for index in 0..4 {
            for row in 0..3 {
                for group in (0..in_c).step_by(4) {
                    for first in [group, group + 1] {
                        for o in block..block + 4 {
                            for i in [first, first + 2] {
                                bytes.extend(component(o, row, i, index).to_le_bytes());
                            }
                        }
                    }
                }
            }
        }
    }
    bytes
}
