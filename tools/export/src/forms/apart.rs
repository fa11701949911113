//! A layer in which separate operators compute those channels that the layer's form cannot hold. A copy then moves
//! their outputs to their places.

use std::rc::Rc;

use offshoot::format::codec::Record;
use offshoot::format::record::{self, Axes, Axis};

use super::parameters::{Lowering, to_u32};
use super::{Build, ConvForm, Offer, Workspace};
use crate::cores::Core;
use crate::lowered::Tensor;

/// Channels that a separate operator computes.
pub(crate) struct Part {
    pub(crate) form: Box<dyn ConvForm>,
    /// Shape of its output.
    pub(crate) shape: Vec<usize>,
    /// Their numbers in the layer, ascending.
    pub(crate) channels: Vec<usize>,
    /// Distance from one of them to the next in the part's output.
    pub(crate) step: usize,
    /// Whether the part reads only these channels of the input, as a depthwise layer does.
    pub(crate) gathers: bool,
}

/// A form for all other channels, and the parts.
pub(crate) struct Apart {
    pub(crate) form: Box<dyn ConvForm>,
    pub(crate) parts: Rc<Vec<Part>>,
    pub(crate) x: Tensor,
    pub(crate) y: Tensor,
}

/// Runs of neighbouring channels: the first one and their number.
fn runs(channels: &[usize]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &channel in channels {
        match runs.last_mut() {
            Some((first, count)) if *first + *count == channel => *count += 1,
            _ => runs.push((channel, 1)),
        }
    }
    runs
}

/// Copies `count` channels: every `steps[0]`th channel of `x` from `from` on, to every `steps[1]`th of `y` from `to`
/// on.
fn copy_channels(
    out: &mut Build<'_>,
    [x, y]: [&Tensor; 2],
    [from, to]: [usize; 2],
    steps: [usize; 2],
    count: usize,
) -> Lowering {
    let pixels = to_u32(x.len() / x.channels(1).max(1), "pixels")?;
    let stride = |v: usize| {
        i32::try_from(v).map_err(|_| format!("a stride of {v} elements is too large for the format"))
    };
    let axis = |extent: u32, [src, dst]: [usize; 2]| {
        Ok::<_, String>(Axis { extent, src_stride: stride(src)?, dst_stride: stride(dst)? })
    };
    let all = [axis(pixels, [x.channels(1), y.channels(1)])?, axis(to_u32(count, "channels")?, steps)?];
    // One channel needs no axis.
    let axes = Axes::from_slice(if count == 1 { &all[..1] } else { &all }).ok_or("a copy of no axis")?;
    let (src, dst) = (to_u32(from, "an offset")?, to_u32(to, "an offset")?);
    out.emit(Record::Copy(record::Copy { src, dst, size: 1, axes }), [Some(x), None], y);
    Ok(())
}

impl ConvForm for Apart {
    fn offer(&self, core: Core, workspace: &Workspace) -> Lowering<Offer> {
        let mut offer = self.form.offer(core, workspace)?;
        for part in self.parts.iter() {
            let own = part.form.offer(core, workspace)?;
            let moved = (part.channels.len() * self.y.len() / self.y.channels(1).max(1)) as u64;
            offer.bytes += own.bytes;
            offer.instructions += own.instructions + core.copy(moved);
            if part.gathers {
                let gathered = part.channels.len() * self.x.len() / self.x.channels(1).max(1);
                offer.instructions += core.copy(gathered as u64);
            }
            offer.scratch += moved;
        }
        Ok(offer)
    }

    fn plain_channels(&self) -> usize {
        self.form.plain_channels() + self.parts.iter().map(|p| p.form.plain_channels()).sum::<usize>()
    }

    fn emit(&self, workspace: &Workspace, out: &mut Build<'_>, x: &Tensor, y: &Tensor) -> Lowering {
        let mut made = Vec::new();
        for part in self.parts.iter() {
            let own = out.temp(part.shape.clone(), y)?;
            if part.gathers {
                let inputs = out.temp(x.with_channels(part.channels.len()), x)?;
                let mut at = 0;
                for (first, count) in runs(&part.channels) {
                    copy_channels(out, [x, &inputs], [first, at], [1, 1], count)?;
                    at += count;
                }
                part.form.emit(workspace, out, &inputs, &own)?;
            } else {
                part.form.emit(workspace, out, x, &own)?;
            }
            made.push(own);
        }
        // This form reads the input last, so its output may overwrite it.
        self.form.emit(workspace, out, x, y)?;
        for (part, own) in self.parts.iter().zip(&made) {
            let mut at = 0;
            for (first, count) in runs(&part.channels) {
                copy_channels(out, [own, y], [at, first], [part.step, 1], count)?;
                at += count * part.step;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_copied_together() {
        assert_eq!(runs(&[0, 1, 4, 6, 7, 8]), [(0, 2), (4, 1), (6, 3)]);
        assert!(runs(&[]).is_empty());
    }
}
