//! Sizes of a network on the device, and the limits that they must keep.

use std::collections::BTreeMap;
use std::sync::Arc;

use ndarray::ArrayD;
use offshoot_export::{CompileOptions, Core, compile};
use offshoot_ir::{Graph, cost};
use serde::Serialize;

use super::run::PruneOptions;
use crate::quantize::{Clipping, QuantizeOptions, Rounding, Toggle, WeightBits, WeightScale, quantize};
use crate::{Error, Result};

/// Exact size and cost of a network on the device, in int8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Size {
    /// Bytes of the `.off` file.
    pub flash: u64,
    /// Bytes of arena.
    pub ram: u64,
    /// Multiply-accumulates per run.
    pub macs: u64,
    /// Instructions per run on the target; `None` if they were not counted.
    pub instructions: Option<u64>,
}

impl Size {
    /// The error of a budget to which nothing comes nearer.
    pub(crate) fn too_large(self) -> Error {
        Error::Budget { flash: self.flash, ram: self.ram, macs: self.macs, instructions: self.instructions }
    }
}

/// Instructions of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Of the whole run.
    pub total: u64,
    /// Of every operator in the file's order; empty if only the whole is known.
    pub operators: Vec<u64>,
}

impl From<u64> for Counted {
    fn from(total: u64) -> Self {
        Self { total, operators: Vec::new() }
    }
}

/// Counts the instructions that a target takes for one run of an `.off` file.
#[derive(Clone)]
pub struct Instructions(pub Arc<dyn Fn(&[u8]) -> Result<Counted> + Send + Sync>);

impl std::fmt::Debug for Instructions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Instructions")
    }
}

/// Whether a size is within the limits of `options`.
pub fn fits(size: Size, options: &PruneOptions) -> bool {
    let within = |limit: Option<u64>, size: Option<u64>| limit.zip(size).is_none_or(|(l, s)| s <= l);
    within(options.max_flash, Some(size.flash))
        && within(options.max_ram, Some(size.ram))
        && within(options.max_macs, Some(size.macs))
        && within(options.max_instructions, size.instructions)
}

/// The limits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) flash: u64,
    pub(super) ram: u64,
    pub(super) macs: u64,
    pub(super) instructions: u64,
}

impl Limits {
    /// The limits of `options` for a network that has size `before`: what has no limit must not grow.
    pub(super) fn new(options: &PruneOptions, before: Size) -> Self {
        let own = |limit: Option<u64>, whole: u64| limit.unwrap_or(u64::MAX).min(whole);
        // Weights of fewer bits take room in the arena and instructions to be expanded.
        let free = |limit: Option<u64>, whole: u64| {
            if options.fewest_bits < 8 { limit.unwrap_or(u64::MAX) } else { own(limit, whole) }
        };
        Self {
            flash: own(options.max_flash, before.flash),
            ram: free(options.max_ram, before.ram),
            macs: own(options.max_macs, before.macs),
            instructions: free(options.max_instructions, before.instructions.unwrap_or(u64::MAX)),
        }
    }

    /// Only the limits of `options`: what has no limit may grow.
    pub(super) fn given(options: &PruneOptions) -> Self {
        let [flash, ram, macs, instructions] =
            [options.max_flash, options.max_ram, options.max_macs, options.max_instructions]
                .map(|limit| limit.unwrap_or(u64::MAX));
        Self { flash, ram, macs, instructions }
    }

    pub(super) fn hold(&self, s: Size) -> bool {
        s.flash <= self.flash
            && s.ram <= self.ram
            && s.macs <= self.macs
            && s.instructions.is_none_or(|i| i <= self.instructions)
    }

    /// Limits of a period: sizes fall in equal ratios.
    pub(super) fn after(&self, before: Size, share: f64) -> Self {
        let on_the_way = |limit: u64, whole: u64| {
            if limit >= whole {
                return limit;
            }
            let whole = whole as f64;
            (whole * (limit as f64 / whole).powf(share)).floor() as u64
        };
        Self {
            flash: on_the_way(self.flash, before.flash),
            ram: on_the_way(self.ram, before.ram),
            macs: on_the_way(self.macs, before.macs),
            instructions: before.instructions.map_or(self.instructions, |i| on_the_way(self.instructions, i)),
        }
    }

    /// The share of its channels that every family would keep if all of a network that has size `before` shrank alike:
    /// weights and work are about the square of the widths, activations are in proportion to them.
    pub(super) fn width(&self, before: Size) -> f64 {
        let share = |limit: u64, whole: u64| limit as f64 / whole.max(1) as f64;
        share(self.flash, before.flash)
            .min(share(self.macs, before.macs))
            .min(before.instructions.map_or(1.0, |whole| share(self.instructions, whole)))
            .sqrt()
            .min(share(self.ram, before.ram))
            .min(1.0)
    }

    /// The largest share of a limit that a size takes: above 1 if a limit does not hold.
    pub(super) fn taken(&self, s: Size) -> f64 {
        let share =
            |limit: u64, now: u64| if limit == u64::MAX { 0.0 } else { now as f64 / limit.max(1) as f64 };
        share(self.flash, s.flash)
            .max(share(self.ram, s.ram))
            .max(share(self.macs, s.macs))
            .max(s.instructions.map_or(0.0, |now| share(self.instructions, now)))
    }

    /// The largest share of a limit that `size` uses, of those that are below the size of the whole network.
    pub(super) fn used(&self, before: Size, size: Size) -> f64 {
        let share = |limit: u64, whole: u64, now: u64| {
            if limit < whole { now as f64 / limit.max(1) as f64 } else { 0.0 }
        };
        let instructions = before.instructions.zip(size.instructions);
        share(self.flash, before.flash, size.flash)
            .max(share(self.ram, before.ram, size.ram))
            .max(share(self.macs, before.macs, size.macs))
            .max(instructions.map_or(0.0, |(whole, now)| share(self.instructions, whole, now)))
    }
}

/// A measured network.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) size: Size,
    /// Work of one multiply-accumulate, by name of the operator: instructions where they are counted, else 1.
    pub(super) rates: BTreeMap<String, f64>,
    /// Instructions of one element of the output, by name of an operator without multiply-accumulates, where they are
    /// counted.
    pub(super) elements: BTreeMap<String, f64>,
    /// Bytes of arena that are live while an operator runs, by its name.
    pub(super) live: BTreeMap<String, u64>,
}

/// Measures candidates.
pub(super) struct Gauge<'a> {
    pub(super) samples: &'a [Vec<ArrayD<f32>>],
    pub(super) options: &'a PruneOptions,
}

impl Gauge<'_> {
    pub(super) fn size(&self, graph: &Graph, bits: &WeightBits) -> Result<Size> {
        self.measure(graph, bits).map(|m| m.size)
    }

    pub(super) fn measure(&self, graph: &Graph, bits: &WeightBits) -> Result<Measured> {
        // Running an emulator takes a second: only if there is a limit of instructions.
        let count = self.options.instructions.as_ref().filter(|_| self.options.max_instructions.is_some());
        measure(graph, self.samples, bits, count, self.options.core)
    }
}

/// Size of the quantised form of a float graph, compiled for the default core. Ranges come from the few `samples`; they do
/// not change the size.
///
/// # Errors
/// The graph cannot be quantised, compiled or counted.
pub fn size(
    graph: &Graph,
    samples: &[Vec<ArrayD<f32>>],
    weight_bits: &WeightBits,
    instructions: Option<&Instructions>,
) -> Result<Size> {
    measure(graph, samples, weight_bits, instructions, Core::default()).map(|m| m.size)
}

/// [`size()`] as the limits of `options` judge it.
///
/// # Errors
/// As [`size()`].
pub(crate) fn size_for(
    options: &PruneOptions,
    graph: &Graph,
    samples: &[Vec<ArrayD<f32>>],
    bits: &WeightBits,
) -> Result<Size> {
    Gauge { samples, options }.size(graph, bits)
}

fn measure(
    graph: &Graph,
    samples: &[Vec<ArrayD<f32>>],
    weight_bits: &WeightBits,
    instructions: Option<&Instructions>,
    core: Core,
) -> Result<Measured> {
    let options = QuantizeOptions {
        clipping: Clipping::MinMax,
        weight_scale: WeightScale::MinMax,
        rounding: Rounding::Nearest,
        bias_correction: Toggle::Off,
        fit_samples: 1,
        weight_bits: weight_bits.clone(),
        ..QuantizeOptions::default()
    };
    let (quantised, _) = quantize(graph, samples, &options)?;
    let compiled =
        compile(&quantised, &CompileOptions { core, ..CompileOptions::default() }).map_err(Error::Export)?;
    let r = &compiled.report;
    let counted = instructions.map(|count| (count.0)(&compiled.bytes)).transpose()?;
    let (mut rates, mut elements) = (BTreeMap::new(), BTreeMap::new());
    if let Some(counted) = &counted {
        let mut each: BTreeMap<&str, u64> = BTreeMap::new();
        for (operator, count) in r.operators.iter().zip(&counted.operators) {
            *each.entry(&operator.name).or_default() += count;
        }
        let known = each.values().sum::<u64>() > 0;
        for node in graph.nodes.iter().filter(|_| known) {
            let macs = cost::macs(graph, node);
            let Some(&count) = each.get(node.name.as_str()) else { continue };
            let outputs = graph.value(node.output).len();
            if macs > 0 {
                rates.insert(node.name.clone(), count as f64 / macs as f64);
            } else if outputs > 0 {
                elements.insert(node.name.clone(), count as f64 / outputs as f64);
            }
        }
        // Without counts of operators, or for those that are fused with others: the mean.
        let mean = counted.total as f64 / r.macs.max(1) as f64;
        for node in graph.nodes.iter().filter(|n| cost::macs(graph, n) > 0) {
            rates.entry(node.name.clone()).or_insert(mean);
        }
    }
    let mut live: BTreeMap<String, u64> = BTreeMap::new();
    for (operator, moment) in r.operators.iter().zip(&r.timeline) {
        let most = live.entry(operator.name.clone()).or_default();
        *most = (*most).max(moment.bytes);
    }
    let instructions = counted.map(|c| c.total);
    Ok(Measured {
        size: Size { flash: r.model_bytes, ram: r.arena_bytes, macs: r.macs, instructions },
        rates,
        elements,
        live,
    })
}
