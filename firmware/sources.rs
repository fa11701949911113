//! What firmware is made of, and a hash of it: build scripts write it into the ELF file, and the host tool, which has this
//! file too, sees whether a firmware is made of the sources that are there.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Files, and folders with all that is in them, from the root of a checkout.
pub(crate) const SOURCES: [&str; 14] = [
    "firmware/app",
    "firmware/boards",
    "firmware/Cargo.toml",
    "firmware/Cargo.lock",
    "firmware/build.sh",
    "runtime/base",
    "runtime/format",
    "runtime/kernels",
    "runtime/learn",
    "runtime/offshoot",
    "runtime/operators",
    "runtime/sign",
    "runtime/store",
    "runtime/wire",
];

/// FNV-1a (64 bits) over names and contents, as sixteen hexadecimal digits.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn hash(root: &Path) -> io::Result<String> {
    let mut files = vec![];
    for source in SOURCES {
        collect(root.join(source), &mut files)?;
    }
    files.sort();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for &byte in bytes {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for file in files {
        let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().replace('\\', "/");
        add(name.as_bytes());
        add(&[0]);
        // Line ends are the checkout's, not the source's.
        let text = fs::read(&file)?;
        text.split(|&byte| byte == b'\r').for_each(&mut add);
        add(&[0]);
    }
    Ok(format!("{hash:016x}"))
}

fn collect(path: PathBuf, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    if hidden {
        return Ok(());
    }
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            collect(entry?.path(), files)?;
        }
    } else {
        files.push(path);
    }
    Ok(())
}
