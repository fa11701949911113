//! `plan.toml`: the channels and bits of each layer, written by `compress` and read by `compress --plan`.

use std::collections::BTreeMap;
use std::path::Path;

use offshoot_compress::prune::{Groups, Split};
use offshoot_compress::quantize::packs;
use offshoot_ir::Graph;
use serde::{Deserialize, Serialize};

use super::{Args, Report};
use crate::failure::{Context, Failure, Kind, Result};

/// A plan.
///
/// ```toml
/// [channels]        # that a layer keeps; layers whose channels go together share a number
/// "conv_1" = 12
///
/// [bits]            # of a layer's weights: 8, 4 or 2
/// "conv_2" = 4
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Plan {
    /// Channels that remain, by name of a layer.
    pub(super) channels: BTreeMap<String, usize>,
    /// Bits of the weights, by name of a layer.
    pub(super) bits: BTreeMap<String, u8>,
}

impl Plan {
    /// What a run did.
    pub(super) fn of(report: &Report) -> Self {
        let free = report.families.iter().filter(|f| f.fixed.is_none());
        let channels = free.filter_map(|f| Some((f.operators.first()?.clone(), f.after))).collect();
        Self { channels, bits: report.weight_bits.clone() }
    }

    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Failure::reading(path, &e))?;
        let help =
            "give the plan.toml of an earlier run, with tables `channels` and `bits` of layers and numbers";
        let plan: Self = toml::from_str(&text).or_fail_in(Kind::Format, path.display(), help)?;
        match plan.bits.iter().find(|(_, bits)| ![2, 4, 8].contains(*bits)) {
            None => Ok(plan),
            Some((layer, bits)) => {
                let message = format!("{}: [bits] \"{layer}\" = {bits}: not 8, 4 or 2", path.display());
                Err(Failure::new(Kind::Format, message, "give 8, 4 or 2"))
            }
        }
    }

    /// The text of its file.
    pub(super) fn text(&self) -> Result<String> {
        let text = toml::to_string(self)
            .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?;
        Ok(format!(
            "# Channels that each layer keeps (layers whose channels go together share a number), and bits of weights.\n\
             # Edit it and run `offshoot compress MODEL --plan plan.toml` with the same data.\n{text}"
        ))
    }
}

/// Shares of channels by layer, of --ratio and of a plan; --ratio wins.
pub(super) fn ratios(graph: &Graph, plan: Option<&Plan>, args: &Args) -> Result<BTreeMap<String, f64>> {
    let mut ratios = BTreeMap::new();
    if let Some(plan) = plan {
        let help = "give a network of operators that compress knows";
        let groups = Groups::of(graph, Split::default()).or_fail(Kind::Unsupported, help)?;
        for (layer, &count) in &plan.channels {
            let family = groups.families.iter().find(|f| f.operators.contains(layer));
            let Some(family) = family else {
                let known = groups.families.iter().flat_map(|f| &f.operators).map(String::as_str);
                return Err(unknown("channels", layer, "has no channels", known));
            };
            let whole = family.groups.len() * family.channels;
            if count == 0 || count > whole || count % family.channels != 0 {
                let range = match family.channels {
                    1 => format!("from 1 to {whole}"),
                    step => format!("a multiple of {step} up to {whole}"),
                };
                let message = format!("the plan's [channels] \"{layer}\" = {count}: not {range}");
                return Err(Failure::new(Kind::Mismatch, message, format!("give a number {range}")));
            }
            ratios.insert(layer.clone(), count as f64 / whole as f64);
        }
    }
    ratios.extend(args.ratio.iter().cloned());
    Ok(ratios)
}

/// Checks that the layers to which a plan gives bits can have them.
pub(super) fn check_bits(graph: &Graph, plan: &Plan) -> Result<()> {
    for (layer, bits) in &plan.bits {
        let packed = || graph.nodes.iter().filter(|n| packs(graph, n));
        let known = packed().map(|n| n.name.as_str());
        if *bits < 8 && !packed().any(|n| n.name == *layer) {
            return Err(unknown("bits", layer, &format!("cannot have {bits} bits"), known));
        }
    }
    Ok(())
}

/// The failure of a plan that names a layer to no avail, with the names that are near.
fn unknown<'n>(table: &str, layer: &str, what: &str, known: impl Iterator<Item = &'n str>) -> Failure {
    let near = offshoot_compress::suggest::near(layer, known);
    let message = format!("the plan's [{table}] \"{layer}\" {what} in this network{near}");
    Failure::new(Kind::Mismatch, message, "take the names from `offshoot inspect`")
}
