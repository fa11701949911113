//! Tests that need what is not there (public data sets, an emulator, Python) say so here, so that no test is left out in silence.
//!
//! [`skip`] prints the reason, and adds it with the test's name to the file that `OFFSHOOT_SKIPPED` names, if it is set: `test.sh` counts
//! and names them at its end.

use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Says that the running test, or a part of it, is skipped, and why.
pub fn skip(reason: impl Display) {
    println!("skipped: {reason}");
    let Some(list) = std::env::var_os("OFFSHOOT_SKIPPED") else { return };
    // One write a line: tests of several threads and programs share the file.
    let line = format!("{}::{}: {reason}\n", program(), std::thread::current().name().unwrap_or("?"));
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&list);
    if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
        panic!("{}: {error}", Path::new(&list).display());
    }
}

/// Name of the test program: cargo puts a hash behind it.
fn program() -> String {
    let name =
        std::env::current_exe().ok().and_then(|exe| Some(exe.file_stem()?.to_string_lossy().into_owned()));
    let name = name.unwrap_or_default();
    match name.rsplit_once('-') {
        Some((name, hash)) if hash.len() == 16 => name.to_string(),
        _ => name,
    }
}

/// The folder of public data sets: `$OFFSHOOT_DATA`, else `../shared/data` beside the repository.
pub fn data_folder() -> PathBuf {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    std::env::var_os("OFFSHOOT_DATA").map_or_else(beside, PathBuf::from)
}

/// `relative` in the folder of public data sets; if it is absent, the test is skipped.
pub fn data(relative: &str) -> Option<PathBuf> {
    let path = data_folder().join(relative);
    if path.exists() {
        return Some(path);
    }
    skip(format_args!("{} is absent (set OFFSHOOT_DATA to the folder of public data sets)", path.display()));
    None
}

/// Whether emulated boards are left out (`OFFSHOOT_SKIP_EMULATED=1`); the test is skipped then.
pub fn skip_emulated() -> bool {
    let left_out = std::env::var_os("OFFSHOOT_SKIP_EMULATED").is_some_and(|v| v == "1");
    if left_out {
        skip("emulated boards (OFFSHOOT_SKIP_EMULATED=1)");
    }
    left_out
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_program_has_its_crates_name() {
        assert_eq!(super::program(), "offshoot_skip");
    }
}
