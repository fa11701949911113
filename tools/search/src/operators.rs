//! Costs of operators on a target, each measured once.
//!
//! An operator's instruction count depends on its record except for the offsets of its tensors, so candidates share
//! measurements: a candidate without new operators is not run on the target at all. The cost of a run apart from its
//! operators is measured along with them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use offshoot::format::codec::Record;
use offshoot::format::record::{ConvTiled, DepthwisePlanar, Window, WindowRepr};
use offshoot::operators as device;
use offshoot::{AlignedBytes, Model};
use offshoot_export::branch_costs;
use offshoot_target::{Device, Profile, Target};
use serde::{Deserialize, Serialize};

use crate::journal::Journal;
use crate::{Error, Result};

/// A measured operator or, with the signature `run …`, the cost of a run apart from its operators.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operator {
    /// The target.
    pub target: String,
    /// The record without fields that do not affect the cost.
    pub signature: String,
    /// Instructions. For the rest of a run these may be negative, because reading the counter takes some.
    pub instructions: i64,
    /// Features for a predictor.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<f64>,
}

/// Signature and features of every operator of a file, in order.
///
/// # Errors
/// It is not an `.off` file.
pub fn operators_of(off: &[u8]) -> Result<Vec<(String, Vec<f64>)>> {
    let copy = AlignedBytes::copy_of(off);
    let model = Model::open(copy.bytes()).map_err(|e| Error::Data(format!("compiled model: {e}")))?;
    Ok(model.ops().map(|(_, _, record)| (signature(&record), features(&record))).collect())
}

/// Names of fields that hold offsets.
const PLACES: [&str; 6] = ["src: ", "dst: ", "scratch: ", "blob: ", "a: ", "b: "];
/// Zero points: kernels treat the lowest differently from the others.
const ZEROS: [&str; 5] = ["in_zp: ", "out_zp: ", "a_zp: ", "b_zp: ", "zp: "];

/// The record as text, without offsets; zero points, bounds and multipliers are reduced to the cases that kernels
/// distinguish.
fn signature(record: &Record) -> String {
    let mut text = format!("{record:?}");
    for field in PLACES {
        text = replaced(&text, field, |_| "_");
    }
    for field in ZEROS {
        text = replaced(&text, field, |v| if v == "-128" { "low" } else { "zero" });
    }
    text = replaced(&text, "Arena(", |_| "_");
    text = replaced(&text, "Blob(", |_| "_");
    for open in ["clamp: None", "clamp: Some((-128, 127))"] {
        text = text.replace(open, "clamp: open");
    }
    let mut rest = text.as_str();
    let mut out = String::new();
    while let Some(at) = rest.find("clamp: Some((") {
        out.push_str(&rest[..at]);
        out.push_str("clamp: bounds");
        rest = rest[at..].find("))").map_or("", |end| &rest[at + end + 2..]);
    }
    out.push_str(rest);
    // A depthwise convolution's channel multiplier is a count; numeric multipliers come with a shift.
    let mut text = out;
    if text.contains("shift: ") {
        for field in ["multiplier: ", "shift: "] {
            text = replaced(&text, field, |_| "_");
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `text` with the number after every `field` (where that begins a word) replaced.
fn replaced(text: &str, field: &str, with: impl Fn(&str) -> &'static str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(field) {
        let begins = rest[..at].chars().last().is_none_or(|c| !c.is_alphanumeric() && c != '_');
        let start = at + field.len();
        let end =
            rest[start..].find(|c: char| !c.is_ascii_digit() && c != '-').map_or(rest.len(), |e| start + e);
        out.push_str(&rest[..start]);
        if begins && end > start {
            out.push_str(with(&rest[start..end]))
        } else {
            out.push_str(&rest[start..end])
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// Features with which the cost of operators of one kind grows: multiply-accumulates, output bytes, weights, scratch,
/// and extents. Their meaning depends on the kind.
fn features(record: &Record) -> Vec<f64> {
    let out = device::output(record).map_or(0, |span| span.len as u32);
    let basic = vec![
        device::macs(record) as f64,
        f64::from(out),
        device::weights(record) as f64,
        f64::from(device::scratch(record, &[]).unwrap_or(0)),
    ];
    let more = match record {
        Record::ConvTiled(r) => pairs(r, out, 1, u16::MAX),
        // Pixels are gathered again for every unpacked weight tile.
        Record::ConvPacked(r) => pairs(&r.conv(), out, 1, r.weight_tile),
        Record::ConvRowMajor(r) => pairs(&r.conv(), out, 1, u16::MAX),
        Record::ConvSingleMultiply(r) => pairs(&r.conv(), out, r.strip, u16::MAX),
        Record::DepthwisePlanar(r) => planes(r, out),
        Record::DepthwiseSingleMultiply(r) => planes(&r.planar(), out),
        Record::FullyConnected(r) => vec![f64::from(r.rows), f64::from(r.rows) * f64::from(r.out_c)],
        Record::Pool(r) => {
            let [kh, kw] = kernel(r.window);
            vec![f64::from(out) * kh * kw, f64::from(r.c)]
        }
        // Stages of butterflies, and what is read and written for each frame.
        Record::Spectrum(r) => transforms(f64::from(r.signals) * f64::from(r.frames), [r.size, r.frame]),
        Record::MicroFrontend(r) => {
            let frames = f64::from(r.frames);
            let more = [frames * f64::from(r.channels), frames * f64::from(r.entries)];
            [&transforms(frames, [r.size, r.frame])[..], &more].concat()
        }
        Record::FullyConnectedBanded(r) => vec![f64::from(r.rows), f64::from(r.rows) * f64::from(r.out_c)],
        Record::MatMul(r) => vec![f64::from(r.batch), f64::from(r.batch) * f64::from(r.m)],
        _ => vec![],
    };
    [basic, more].concat()
}

fn transforms(frames: f64, [size, frame]: [u16; 2]) -> Vec<f64> {
    let (size, frame) = (f64::from(size), f64::from(frame));
    vec![frames, frames * size, frames * size * size.max(2.0).log2(), frames * frame]
}

fn kernel(window: WindowRepr) -> [f64; 2] {
    Window::from(window).kernel.map(f64::from)
}

/// Work on pairs of pixels, gathered and multiplied: blocks of four channels, `weight_tile` blocks per gathering;
/// weights are loaded once per `strip` pairs.
fn pairs(r: &ConvTiled, out: u32, strip: u8, weight_tile: u16) -> Vec<f64> {
    let [kh, kw] = kernel(r.window);
    let blocks = f64::from(r.out_c.div_ceil(4));
    let pairs = (f64::from(out) / f64::from(r.out_c.max(1)) / 2.0).ceil();
    let taps = kh * (kw * f64::from(r.c) / 4.0).ceil();
    let gatherings = (blocks / f64::from(weight_tile.max(1))).ceil();
    let strips = (pairs / f64::from(strip.max(1))).ceil();
    let once = [pairs, pairs * blocks, pairs * blocks * taps, pairs * kh, pairs * taps];
    let again = [gatherings, gatherings * pairs, gatherings * pairs * kh, gatherings * pairs * taps];
    let weights = [blocks, blocks * taps, strips, strips * blocks, strips * blocks * taps];
    [&once[..], &again, &weights].concat()
}

/// Work on the planes of a depthwise convolution.
fn planes(r: &DepthwisePlanar, out: u32) -> Vec<f64> {
    let ([kh, kw], out) = (kernel(r.window), f64::from(out));
    let (h, width, c) = (f64::from(r.h), f64::from(r.w), f64::from(r.c));
    let across = (width / f64::from(Window::from(r.window).stride[1].max(1))).ceil().max(1.0);
    let rows = out / c.max(1.0) / across;
    let bands = (h / f64::from(r.rows.max(1))).ceil();
    vec![c, c * bands, c * h, c * h * width, c * rows, c * rows * kh, out * kh, out * kh * kw]
}

/// All measurements on a target.
#[derive(Debug)]
pub struct Operators {
    target: Target,
    name: String,
    known: Mutex<HashMap<String, i64>>,
    journal: Option<Journal>,
    /// One emulator or board at a time: it may be a single device.
    device: Mutex<()>,
}

impl Operators {
    /// Starts with the contents of the file at `path`, and appends new measurements to it; `None` keeps nothing.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn new(target: Target, path: Option<&Path>) -> Result<Self> {
        let name = target.to_string();
        let (journal, found) = match path {
            Some(path) => {
                let (journal, found) = Journal::open::<Operator>(path)?;
                (Some(journal), found)
            }
            None => (None, vec![]),
        };
        let known =
            found.into_iter().filter(|o| o.target == name).map(|o| (o.signature, o.instructions)).collect();
        Ok(Self { target, name, known: Mutex::new(known), journal, device: Mutex::new(()) })
    }

    /// Number of measured operators.
    pub fn len(&self) -> usize {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether nothing has been measured.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Instructions of a run, composed from its measured operators, with the dearest branch of each switch; `None` if any has
    /// not been measured.
    ///
    /// # Errors
    /// It is not an `.off` file.
    pub fn composed(&self, off: &[u8]) -> Result<Option<u64>> {
        let operators = operators_of(off)?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = known.get(&rest(&operators)).copied();
        let parts = operators.iter().map(|(signature, _)| known.get(signature).copied());
        let Some((rest, parts)) = rest.zip(parts.collect::<Option<Vec<i64>>>()) else { return Ok(None) };
        let copy = AlignedBytes::copy_of(off);
        let model = Model::open(copy.bytes()).map_err(|e| Error::Data(format!("compiled model: {e}")))?;
        let branches = branch_costs::branches(&model);
        let costs = branches.iter().zip(parts).map(|(path, cost)| (path.as_slice(), cost.max(0) as u64));
        Ok(i64::try_from(branch_costs::most(costs)).ok().and_then(|sum| u64::try_from(sum + rest).ok()))
    }

    /// Instructions of a run: composed, or measured now.
    ///
    /// # Errors
    /// The target does not respond, or cannot count instructions.
    pub fn instructions(&self, off: &[u8]) -> Result<u64> {
        if let Some(sum) = self.composed(off)? {
            return Ok(sum);
        }
        let _one = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have measured the same operators in the meantime.
        if let Some(sum) = self.composed(off)? {
            return Ok(sum);
        }
        let profile = profile(&self.target, off, false)?;
        self.learn(off, &profile)?;
        profile.instructions.ok_or_else(|| Error::Data(format!("{} does not count instructions", self.name)))
    }

    /// Instructions of a run, as [`Self::instructions`], and of each of its operators in the file's order.
    ///
    /// # Errors
    /// As [`Self::instructions`].
    pub fn counts(&self, off: &[u8]) -> Result<(u64, Vec<u64>)> {
        let total = self.instructions(off)?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let count =
            |(signature, _): (String, Vec<f64>)| known.get(&signature).map_or(0, |&c| c.max(0) as u64);
        Ok((total, operators_of(off)?.into_iter().map(count).collect()))
    }

    /// Profile of a run with modelled cycles; its measurements of operators are kept.
    ///
    /// # Errors
    /// As [`Self::instructions`]; there is no model of the core.
    pub fn cycles(&self, off: &[u8]) -> Result<Profile> {
        let _one = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        let profile = profile(&self.target, off, true)?;
        self.learn(off, &profile)?;
        Ok(profile)
    }

    fn learn(&self, off: &[u8], profile: &Profile) -> Result<()> {
        let operators = operators_of(off)?;
        let counts: Option<Vec<u64>> = profile.operators.iter().map(|o| o.instructions).collect();
        let (Some(total), Some(counts)) = (profile.instructions, counts) else { return Ok(()) };
        let whole = rest(&operators);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let left = total as i64 - counts.iter().map(|&c| c as i64).sum::<i64>();
        // Of a switch, one branch has run.
        let each = profile.operators.iter().zip(counts).filter_map(|(measured, c)| {
            let (signature, features) = operators.get(usize::from(measured.index))?.clone();
            Some((signature, features, c as i64))
        });
        for (signature, features, instructions) in each.chain([(whole, vec![], left)]) {
            if known.insert(signature.clone(), instructions).is_none()
                && let Some(journal) = &self.journal
            {
                let target = self.name.clone();
                journal.add(&Operator { target, signature, instructions, features })?;
            }
        }
        Ok(())
    }
}

/// Signature of the cost of a run apart from its operators, which depends on the number of operators.
fn rest(operators: &[(String, Vec<f64>)]) -> String {
    format!("run of {} operators", operators.len())
}

/// Attempts before a target counts as unresponsive: a busy machine can delay an emulator.
const TRIES: usize = 3;

/// Runs a model once on a target with zero inputs: the work does not depend on the data.
///
/// # Errors
/// The target does not respond.
pub fn profile(target: &Target, off: &[u8], cycles: bool) -> Result<Profile> {
    let mut tries = 1;
    loop {
        match attempt(target, off, cycles) {
            Err(Error::Target(_)) if tries < TRIES => tries += 1,
            result => return result,
        }
    }
}

fn attempt(target: &Target, off: &[u8], cycles: bool) -> Result<Profile> {
    let mut device: Box<dyn Device> = offshoot_target::open(target)?;
    device.load(off)?;
    let copy = AlignedBytes::copy_of(off);
    let model = Model::open(copy.bytes()).map_err(|e| Error::Data(format!("compiled model: {e}")))?;
    let inputs = (0..model.input_count()).filter_map(|i| model.input(i));
    let zeros: Vec<Vec<u8>> = inputs.map(|io| vec![0; bytes(&io)]).collect();
    let inputs: Vec<&[u8]> = zeros.iter().map(Vec::as_slice).collect();
    let mut profile = device.profile(&inputs)?;
    if cycles {
        device.model_cycles(&inputs, &mut profile)?;
    }
    Ok(profile)
}

/// Bytes of an input.
fn bytes(io: &offshoot::format::record::IoRepr) -> usize {
    io.shape.iter().map(|&d| usize::from(d)).product::<usize>() * io.dtype.size()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_is_not_in_a_signature() {
        let text =
            "Conv { src: 12, out_zp: -128, in_zp: 3, b: Arena(77), dst_: 5, multiplier: 9, shift: -3 }";
        let text = replaced(text, "src: ", |_| "_");
        assert!(text.contains("src: _,"));
        assert_eq!(replaced("pad: [1], a: 3, extra: 4", "a: ", |_| "_"), "pad: [1], a: _, extra: 4");
        assert_eq!(
            replaced("out_zp: -128, zp: 4", "zp: ", |v| if v == "-128" { "low" } else { "zero" }),
            "out_zp: -128, zp: zero"
        );
    }
}
