//! Channel-planar depthwise convolutions ([`record::DepthwisePlanar`]), also with exact single-multiply requantisation
//! ([`record::DepthwiseSingleMultiply`]).

use offshoot::format::codec::Record;
use offshoot::format::record;
use offshoot::kernels::geometry::Planar;

use super::exact_line::Line;
use super::parameters::{Lowering, Quantised, requant_blob, to_u16};
use super::wholes::{Kind, Role};
use super::{Build, ConvForm, Layer, Offer, Shared, Workspace, scratch_of, single_multiply};
use crate::blobs;
use crate::cores::Core;
use crate::lowered::Tensor;

/// A channel-planar depthwise layer.
pub(crate) struct ChannelPlanar {
    layer: Shared,
    /// Lines of all channels, if single-multiply requantisation is used.
    lines: Option<Vec<Line>>,
    weight: String,
}

impl ChannelPlanar {
    /// `weight` is the name of the weights' constant.
    pub(crate) fn new(layer: &Shared, weight: &str) -> Self {
        Self { layer: Shared::clone(layer), lines: None, weight: weight.to_owned() }
    }

    /// With single-multiply requantisation; `None` if a channel has no line, or the window is not 3×3 with stride 1 or
    /// 2.
    pub(crate) fn single_multiply(layer: &Shared) -> Option<Self> {
        let window = &layer.window;
        let form = window.kernel == [3, 3] && window.stride.iter().all(|s| *s <= 2);
        let lines = Some(single_multiply::lines(layer, false).filter(|_| form)?);
        Some(Self { layer: Shared::clone(layer), lines, weight: String::new() })
    }

    /// Weights in the order HWO, from OHWI with I = 1.
    fn weights(&self) -> Vec<u8> {
        let (weights, taps, count) = (&self.layer.q.weights, self.layer.taps(), self.layer.channels());
        (0..weights.len()).map(|i| weights[i % count * taps + i / count] as u8).collect()
    }

    fn record(&self, workspace: &Workspace, blob: u32) -> Lowering<Record> {
        let r = record::DepthwisePlanar { blob, ..record_of(&self.layer, workspace)? };
        Ok(if self.lines.is_some() { record::DepthwiseSingleMultiply::new(r).into() } else { r.into() })
    }
}

/// The record without blob and addresses; it gathers rows in as many bytes as the workspace gives a band.
pub(crate) fn record_of(layer: &Layer, workspace: &Workspace) -> Lowering<record::DepthwisePlanar> {
    let band = workspace.band_beside(&layer.x, &layer.y);
    let [n, h, w, c] = layer.input;
    let [top, left, bottom, right] = layer.window.pad.map(u64::from);
    let padded_h = u64::from(h) + top + bottom;
    let row = 2 * (u64::from(w) + left + right).next_multiple_of(2);
    let rows = (band as u64 / row).max(u64::from(layer.window.kernel[0])).min(padded_h);
    let r = record::DepthwisePlanar {
        src: 0,
        dst: 0,
        scratch: 0,
        n,
        h,
        w,
        c,
        rows: to_u16(rows as usize, "the rows of a band")?,
        window: layer.window.into(),
        in_zp: layer.x.zp,
        out_zp: layer.y.zp,
        clamp: layer.clamp(),
        blob: 0,
    };
    let pairs = if workspace.pairs_rows { Planar::of(&r).row_pairs(&r) } else { None };
    let Some(pairs) = pairs else { return Ok(r) };
    // A step needs two pairs; more are for further steps.
    let count = (band / pairs.bytes()).clamp(2, pairs.steps.max(1) + 1);
    // The scratch has two values besides the rows.
    let needed = ((count * pairs.bytes()) as u64).saturating_sub(4).div_ceil(row);
    let rows = needed.max(u64::from(layer.window.kernel[0]));
    Ok(record::DepthwisePlanar { rows: to_u16(rows as usize, "the rows of a band")?, ..r })
}

impl ConvForm for ChannelPlanar {
    fn offer(&self, core: Core, workspace: &Workspace) -> Lowering<Offer> {
        let record = self.record(workspace, 0)?;
        let planar = record_of(&self.layer, workspace)?;
        Ok(Offer {
            bytes: self.layer.q.weights.len() as u64,
            instructions: core.channel_planar(&planar, self.lines.is_some()),
            saved_by_strips: 0,
            scratch: scratch_of(&record)?.into(),
            in_place: self.layer.overlaps(&record),
        })
    }

    fn emit(&self, workspace: &Workspace, out: &mut Build<'_>, x: &Tensor, y: &Tensor) -> Lowering {
        let (layer, count) = (&self.layer, self.layer.channels());
        let fixed = layer.q.fixed_each(count);
        let blob = || {
            let mut blob = match &self.lines {
                Some(lines) => {
                    let words = lines.iter().map(|l| l.bias).chain(lines.iter().map(|l| l.multiplier));
                    blobs::words(&words.collect::<Vec<_>>())
                }
                None => requant_blob(&layer.q.bias, &fixed),
            };
            blob.extend(self.weights());
            blob
        };
        let weights = layer.q.weights.len();
        let blob = out.blob(blob, [weights, 4 * count]);
        if self.lines.is_none() {
            let kind = Kind::Depthwise { kernel: layer.window.kernel };
            let q = Quantised { fixed, ..layer.q.clone() };
            if out.role == Role::First {
                out.wholes.keep(kind, &self.weight, (1, layer.input[3]), q, blob);
            }
        }
        let record = self.record(workspace, blob)?;
        out.layer(layer, record, [x, y], layer.macs(), weights as u64)
    }
}
