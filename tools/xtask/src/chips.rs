//! `cargo xtask chips`: writes `tools/target/src/chip/chips.tsv` from probe-rs' target descriptions.
//!
//! The descriptions are the files `targets/*.yaml` of the packages `probe-rs` and `probe-rs-espressif`; `cargo fetch`
//! in a project that depends on them unpacks both.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use offshoot_report::write_atomically;
use offshoot_target::chip::{Architecture, LARGEST_FLASH};
use serde::Deserialize;

/// Arguments of `chips`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Folders with target descriptions.
    #[arg(required = true)]
    folders: Vec<PathBuf>,
    /// Where the table goes.
    #[arg(short, long, default_value = "tools/target/src/chip/chips.tsv")]
    output: PathBuf,
}

/// A family of chips.
#[derive(Debug, Deserialize)]
struct Family {
    variants: Vec<Variant>,
}

#[derive(Debug, Deserialize)]
struct Variant {
    name: String,
    cores: Vec<CoreEntry>,
    #[serde(default)]
    memory_map: Vec<Region>,
}

#[derive(Debug, Deserialize)]
struct CoreEntry {
    name: String,
    r#type: String,
}

/// A region of the memory map; the tag of the YAML node is its kind.
#[derive(Debug, Deserialize)]
enum Region {
    Nvm(Memory),
    Ram(Memory),
    Generic(Memory),
}

#[derive(Debug, Deserialize)]
struct Memory {
    range: Range,
    #[serde(default)]
    cores: Vec<String>,
    #[serde(default)]
    is_alias: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Range {
    start: u64,
    end: u64,
}

/// Writes the table.
///
/// # Errors
/// A description cannot be read, or the table cannot be written.
pub fn run(args: &Args) -> Result<()> {
    let mut rows = BTreeMap::new();
    let mut others: BTreeMap<String, usize> = BTreeMap::new();
    for folder in &args.folders {
        for path in descriptions(folder)? {
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let family: Family = yaml_serde::from_str(&text).with_context(|| path.display().to_string())?;
            for variant in family.variants {
                let Some(core) = variant.cores.first() else { continue };
                let Some(architecture) = Architecture::parse(&core.r#type) else {
                    *others.entry(core.r#type.clone()).or_default() += 1;
                    continue;
                };
                let flash = largest(&variant.memory_map, &core.name, |r| matches!(r, Region::Nvm(_)));
                let ram = largest(&variant.memory_map, &core.name, |r| matches!(r, Region::Ram(_)));
                // Chips without memory of their own are test entries.
                if ram > 0 {
                    rows.insert(variant.name, (architecture, flash.min(LARGEST_FLASH), ram));
                }
            }
        }
    }
    ensure!(!rows.is_empty(), "no chips in these folders");
    let mut text =
        String::from("# name\tarchitecture\tflash\tRAM (bytes; the largest contiguous region of each)\n");
    for (name, (architecture, flash, ram)) in &rows {
        text.push_str(&format!("{name}\t{}\t{flash}\t{ram}\n", architecture.name()));
    }
    write_atomically(&args.output, text.as_bytes())?;
    println!("{}: {} chips", args.output.display(), rows.len());
    for (kind, count) in others {
        println!("left out, since no runtime is built for the core: {count} of {kind}");
    }
    Ok(())
}

fn descriptions(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "yaml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Bytes of the largest contiguous memory of a kind that the core sees; neighbouring regions count as one.
fn largest(regions: &[Region], core: &str, kind: impl Fn(&Region) -> bool) -> u64 {
    let memory = |r: &Region| match r {
        Region::Nvm(m) | Region::Ram(m) | Region::Generic(m) => {
            let seen = m.cores.is_empty() || m.cores.iter().any(|c| c == core);
            (seen && !m.is_alias && m.range.end > m.range.start).then_some(m.range)
        }
    };
    let mut ranges: Vec<Range> = regions.iter().filter(|r| kind(r)).filter_map(memory).collect();
    ranges.sort_by_key(|r| r.start);
    let mut best = 0;
    let mut current: Option<Range> = None;
    for range in ranges {
        current = match current {
            Some(c) if range.start <= c.end => Some(Range { start: c.start, end: c.end.max(range.end) }),
            _ => Some(range),
        };
        best = best.max(current.map_or(0, |c| c.end - c.start));
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_regions_count_as_one() {
        let text = "
variants:
- name: TWO
  cores: [{name: main, type: armv7em}, {name: other, type: armv6m}]
  memory_map:
  - !Nvm {range: {start: 0, end: 0x1000}, cores: [main]}
  - !Nvm {range: {start: 0x8000, end: 0x8800}, cores: [main]}
  - !Ram {range: {start: 0x20000000, end: 0x20001000}, cores: [main]}
  - !Ram {range: {start: 0x20001000, end: 0x20001800}, cores: [main]}
  - !Ram {range: {start: 0x30000000, end: 0x30010000}, cores: [other]}
  - !Ram {range: {start: 0x40000000, end: 0x40010000}, is_alias: true}
";
        let family: Family = yaml_serde::from_str(text).unwrap();
        let map = &family.variants[0].memory_map;
        assert_eq!(largest(map, "main", |r| matches!(r, Region::Nvm(_))), 0x1000);
        assert_eq!(largest(map, "main", |r| matches!(r, Region::Ram(_))), 0x1800);
        assert_eq!(largest(map, "other", |r| matches!(r, Region::Ram(_))), 0x10000);
    }
}
