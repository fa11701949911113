//! The emulator's plugin (`plugin.c`), which counts instructions by address, since QEMU has no other way to do so. It
//! is compiled on first use, and its output is read back.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use tempfile::TempDir;

use crate::TargetError;

const SOURCE: &str = include_str!("plugin.c");

/// Counts of an executed instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executed {
    /// Its address.
    pub address: u64,
    /// How often it ran.
    pub count: u64,
    /// How often the next executed instruction was not the following one.
    pub taken: u64,
}

/// What was executed between two marks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// 64-bit words of code that missed the instruction cache.
    pub code_misses: u64,
    /// Those of them that directly follow the word read before, so that a prefetch was reading them.
    pub sequential_misses: u64,
    /// 64-bit words in flash that missed the data cache.
    pub data_misses: u64,
    /// Executed instructions, by ascending address.
    pub executed: Vec<Executed>,
}

impl Interval {
    /// Number of instructions executed.
    pub fn instructions(&self) -> u64 {
        self.executed.iter().map(|e| e.count).sum()
    }
}

/// The compiled plugin and the file that it writes.
#[derive(Debug)]
pub struct Counter {
    folder: TempDir,
}

impl Counter {
    /// Compiles the plugin, with `$CC` or `cc`.
    ///
    /// # Errors
    /// [`TargetError::NoCycles`] if there is no compiler or it fails.
    pub fn new() -> Result<Self, TargetError> {
        let folder = tempfile::Builder::new()
            .prefix("offshoot")
            .tempdir()
            .map_err(TargetError::io("temporary folder"))?;
        let source = folder.path().join("plugin.c");
        fs::write(&source, SOURCE).map_err(TargetError::io(source.display().to_string()))?;
        let counter = Self { folder };
        let compiler = env::var("CC").unwrap_or_else(|_| "cc".into());
        let output = Command::new(&compiler)
            .args(["-O2", "-shared", "-fPIC", "-o"])
            .arg(counter.library())
            .arg(&source)
            .output()
            .map_err(|e| {
                TargetError::NoCycles(format!(
                    "the C compiler `{compiler}` cannot be started (set CC to another): {e}"
                ))
            })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(TargetError::NoCycles(format!(
                "`{compiler}` failed on the emulator's plugin: {said}"
            )));
        }
        Ok(counter)
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("plugin.so")
    }

    fn counts(&self) -> PathBuf {
        self.folder.path().join("counts")
    }

    /// Arguments for the emulator. An instruction at one of `marks` ends an interval and starts the next; code starts
    /// at `code`.
    pub fn arguments(&self, marks: &[u32], code: u32) -> [String; 2] {
        let (library, out) = (self.library(), self.counts());
        let marks: String = marks.iter().map(|mark| format!(",mark={mark:#x}")).collect();
        ["-plugin".into(), format!("{},out={},code={code:#x}{marks}", library.display(), out.display())]
    }

    /// The intervals so far.
    ///
    /// # Errors
    /// [`TargetError::NoCycles`] if the plugin's output cannot be read.
    pub fn intervals(&self) -> Result<Vec<Interval>, TargetError> {
        parse(&self.counts())
    }
}

fn parse(path: &Path) -> Result<Vec<Interval>, TargetError> {
    let text = fs::read_to_string(path)
        .map_err(|e| TargetError::NoCycles(format!("the emulator's plugin wrote no counts: {e}")))?;
    let mut intervals: Vec<Interval> = vec![];
    for line in text.lines() {
        let bad = || TargetError::NoCycles(format!("the emulator's plugin wrote `{line}`"));
        let number = |word: &str, radix| u64::from_str_radix(word, radix).map_err(|_| bad());
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["i", code, sequential, data] => intervals.push(Interval {
                code_misses: number(code, 10)?,
                sequential_misses: number(sequential, 10)?,
                data_misses: number(data, 10)?,
                executed: vec![],
            }),
            [address, count, taken] => {
                intervals.last_mut().ok_or_else(bad)?.executed.push(Executed {
                    address: number(address, 16)?,
                    count: number(count, 10)?,
                    taken: number(taken, 10)?,
                });
            }
            _ => return Err(bad()),
        }
    }
    Ok(intervals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_plugin_writes_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counts");
        fs::write(&path, "i 3 1 4\n1a0 7 2\ni 0 0 0\n").unwrap();
        let first = Interval {
            code_misses: 3,
            sequential_misses: 1,
            data_misses: 4,
            executed: vec![Executed { address: 0x1a0, count: 7, taken: 2 }],
        };
        assert_eq!(parse(&path).unwrap(), [first, Interval::default()]);
        for wrong in ["1a0 7 2", "i x 0 4", "i 3 0 4\nzz 1 1", "what"] {
            fs::write(&path, wrong).unwrap();
            assert!(matches!(parse(&path), Err(TargetError::NoCycles(_))), "{wrong}");
        }
        assert!(matches!(parse(folder.path()), Err(TargetError::NoCycles(_))));
    }
}
