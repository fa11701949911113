//! Finds the firmware of a board, builds it where its source is, and says how large it is.

use crate::{Board, TargetError};
use object::{Object, ObjectSection, SectionFlags, elf};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;
use std::{env, fs};

/// Folder in which to look for firmware first: `<folder>/<triple>/<name>`, `<folder>/<triple>/release/<name>`.
pub const FOLDER_VARIABLE: &str = "OFFSHOOT_FIRMWARE_DIR";

/// The firmware's ELF file. Where its sources are here, it is built if it is missing or older than they are.
///
/// # Errors
/// [`TargetError::NoFirmware`] with the command that builds it, [`TargetError::Build`] with what the build said.
pub fn find(board: &'static Board) -> Result<PathBuf, TargetError> {
    let mut searched = vec![];
    if let Some(folder) = env::var_os(FOLDER_VARIABLE) {
        let folder = PathBuf::from(folder).join(board.triple);
        for path in [folder.join(board.firmware), folder.join("release").join(board.firmware)] {
            if path.is_file() {
                return Ok(path);
            }
            searched.push(path);
        }
        return Err(TargetError::NoFirmware { board: board.name, searched });
    }
    for root in roots() {
        let path = root.join("firmware/target").join(board.triple).join("release").join(board.firmware);
        bring_up_to_date(&root, &path)?;
        if path.is_file() {
            return Ok(path);
        }
        searched.push(path);
    }
    Err(TargetError::NoFirmware { board: board.name, searched })
}

/// What firmware is made of, from the root of a checkout. Folders with all that is in them.
const SOURCES: [&str; 9] = [
    "firmware/app",
    "firmware/boards",
    "firmware/Cargo.toml",
    "firmware/Cargo.lock",
    "firmware/build.sh",
    "runtime/src",
    "runtime/build.rs",
    "runtime/Cargo.toml",
    "scripts/toolchain.sh",
];

/// Builds the firmware of a checkout if it is older than its sources, so that nothing old is measured.
fn bring_up_to_date(root: &Path, elf: &Path) -> Result<(), TargetError> {
    // One build at a time; the next finds that there is nothing to do.
    static BUILD: Mutex<()> = Mutex::new(());
    let _one = BUILD.lock().unwrap_or_else(PoisonError::into_inner);
    let script = root.join("firmware/build.sh");
    if !script.is_file() || is_newer(elf, SOURCES.iter().map(|s| root.join(s))) {
        return Ok(());
    }
    build(&script)?;
    // Cargo leaves a file alone whose making would change nothing: what says that it was looked at is its time.
    if let Ok(file) = fs::File::options().append(true).open(elf) {
        // A file system that keeps no times only costs a build that does nothing.
        let _ = file.set_modified(SystemTime::now());
    }
    Ok(())
}

/// Whether `file` is there and no file in `sources` is newer.
fn is_newer(file: &Path, sources: impl IntoIterator<Item = PathBuf>) -> bool {
    let time = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    let Some(made) = time(file) else { return false };
    let mut open: Vec<PathBuf> = sources.into_iter().collect();
    while let Some(path) = open.pop() {
        match fs::read_dir(&path) {
            Ok(entries) => open.extend(entries.flatten().map(|e| e.path())),
            Err(_) if time(&path).is_some_and(|t| t > made) => return false,
            Err(_) => {}
        }
    }
    true
}

/// Where a checkout may be: around the working folder, around this program, and where it was built.
fn roots() -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> = vec![];
    let program = env::current_exe().ok();
    let starts = [env::current_dir().ok(), program, Some(PathBuf::from(env!("CARGO_MANIFEST_DIR")))];
    for start in starts.into_iter().flatten() {
        let root = start.ancestors().find(|folder| folder.join("firmware/Cargo.toml").is_file());
        if let Some(root) = root.map(Path::to_path_buf)
            && !roots.contains(&root)
        {
            roots.push(root);
        }
    }
    roots
}

fn build(script: &Path) -> Result<(), TargetError> {
    eprintln!("building the firmware ({}) …", script.display());
    let mut command = Command::new(script);
    // Under `cargo run` these would choose the host's toolchain for the device.
    for variable in ["CARGO", "RUSTUP_TOOLCHAIN", "RUSTC", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
        command.env_remove(variable);
    }
    let output = command.output().map_err(TargetError::io(script.display().to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = said.trim().lines().collect();
    Err(TargetError::Build(lines[lines.len().saturating_sub(20)..].join("\n")))
}

/// Bytes of flash that a firmware takes: all sections that are loaded, code, constants and initial values.
///
/// # Errors
/// [`TargetError::Elf`] if the file is no ELF file.
pub fn code_bytes(path: &Path) -> Result<u64, TargetError> {
    let data = fs::read(path).map_err(TargetError::io(path.display().to_string()))?;
    let elf = object::File::parse(&*data)
        .map_err(|e| TargetError::Elf { path: path.into(), reason: e.to_string() })?;
    Ok(elf.sections().filter(is_loaded).map(|s| s.size()).sum())
}

fn is_loaded<'d>(section: &impl ObjectSection<'d>) -> bool {
    let SectionFlags::Elf { sh_flags } = section.flags() else {
        return false;
    };
    sh_flags & u64::from(elf::SHF_ALLOC) != 0 && section.file_range().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_older_than_a_source_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let (elf, sources) = (folder.path().join("elf"), folder.path().join("src"));
        fs::create_dir_all(sources.join("deep")).unwrap();
        let source = sources.join("deep/lib.rs");
        fs::write(&source, "").unwrap();
        assert!(!is_newer(&elf, [sources.clone()]));
        fs::write(&elf, "").unwrap();
        let at = |path: &Path, seconds| {
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
        };
        at(&source, 1000);
        at(&elf, 2000);
        assert!(is_newer(&elf, [sources.clone()]));
        at(&source, 3000);
        assert!(!is_newer(&elf, [sources]));
    }

    #[test]
    fn what_is_no_elf_file_is_refused() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        assert!(matches!(code_bytes(&path), Err(TargetError::Elf { .. })));
        assert!(matches!(code_bytes(Path::new("/nowhere")), Err(TargetError::Io { .. })));
    }
}
