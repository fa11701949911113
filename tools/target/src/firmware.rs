//! Finds the firmware of a board, builds it if its sources are available, and measures its size.

use crate::{Board, TargetError};
use object::{Object, ObjectSection, SectionFlags, elf};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::{env, fs};

#[path = "../../../firmware/sources.rs"]
mod sources;

/// Environment variable with the folder to search first, laid out like `firmware/target`.
pub const FOLDER_VARIABLE: &str = "OFFSHOOT_FIRMWARE_DIR";

/// The firmware's ELF file. In a checkout, it is built if it is missing or not built from the current sources.
///
/// # Errors
/// [`TargetError::NoFirmware`] with the command that builds it, or [`TargetError::Build`] with the output of the build.
pub fn find(board: &'static Board) -> Result<PathBuf, TargetError> {
    let (image, mut searched) = (&board.firmware, vec![]);
    let below = |target: PathBuf| {
        let folder = image.folder.map_or(target.clone(), |folder| target.join(folder)).join(image.triple);
        [folder.join("release").join(image.name), folder.join(image.name)]
    };
    if let Some(folder) = env::var_os(FOLDER_VARIABLE) {
        for path in below(folder.into()) {
            if path.is_file() {
                return Ok(path);
            }
            searched.push(path);
        }
        return Err(TargetError::NoFirmware { board: board.name, searched });
    }
    for root in roots() {
        let [path, _] = below(root.join("firmware/target"));
        bring_up_to_date(&root, image.image, &path)?;
        if path.is_file() {
            return Ok(path);
        }
        searched.push(path);
    }
    Err(TargetError::NoFirmware { board: board.name, searched })
}

/// Builds the firmware of a checkout if it is not built from the current sources, so that no old code is measured.
fn bring_up_to_date(root: &Path, image: &str, elf: &Path) -> Result<(), TargetError> {
    // One build at a time; the next finds that there is nothing to do.
    static BUILD: Mutex<()> = Mutex::new(());
    let _one = BUILD.lock().unwrap_or_else(PoisonError::into_inner);
    let script = root.join("firmware/build.sh");
    if !script.is_file() {
        return Ok(());
    }
    let made_of = sources::hash(root).map_err(TargetError::io("sources of the firmware"))?;
    if mark(elf).as_deref() == Some(&made_of) {
        return Ok(());
    }
    build(&script, image)?;
    match mark(elf) {
        Some(mark) if mark == made_of => Ok(()),
        // By the files' time stamps, there was nothing to build.
        _ => Err(TargetError::Stale(elf.into())),
    }
}

/// The hash of the sources that an ELF file was built from, as stored in it.
fn mark(elf: &Path) -> Option<String> {
    let data = fs::read(elf).ok()?;
    let file = object::File::parse(&*data).ok()?;
    let section = file.section_by_name(".offshoot.sources")?;
    String::from_utf8(section.data().ok()?.to_vec()).ok()
}

/// Folders that may be a checkout: those around the working folder and this program, and the one it was built in.
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

fn build(script: &Path, image: &str) -> Result<(), TargetError> {
    eprintln!("building the firmware ({} --image {image}) …", script.display());
    let mut command = Command::new(script);
    command.args(["--image", image]);
    // Under `cargo run`, these variables would select the host's toolchain for the device.
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

/// Bytes of a firmware in flash: all loaded sections, which are code, constants and initial values.
///
/// # Errors
/// [`TargetError::Elf`] if the file is not an ELF file.
pub fn code_bytes(path: &Path) -> Result<u64, TargetError> {
    section_bytes(path, |flags, in_file| flags & elf::SHF_ALLOC != 0 && in_file)
}

/// Bytes of a firmware's statics in RAM.
///
/// # Errors
/// As [`code_bytes`].
pub fn ram_bytes(path: &Path) -> Result<u64, TargetError> {
    section_bytes(path, |flags, _| flags & elf::SHF_ALLOC != 0 && flags & elf::SHF_WRITE != 0)
}

/// Bytes of the sections for which `counts` holds, given their flags and whether they have bytes in the file.
fn section_bytes(path: &Path, counts: impl Fn(u32, bool) -> bool) -> Result<u64, TargetError> {
    let data = fs::read(path).map_err(TargetError::io(path.display().to_string()))?;
    let elf = object::File::parse(&*data)
        .map_err(|e| TargetError::Elf { path: path.into(), reason: e.to_string() })?;
    let flags = |section: &object::Section<'_, '_>| match section.flags() {
        SectionFlags::Elf { sh_flags } => sh_flags as u32,
        _ => 0,
    };
    Ok(elf.sections().filter(|s| counts(flags(s), s.file_range().is_some())).map(|s| s.size()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_decide_what_a_firmware_is_made_of() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for source in sources::SOURCES {
            let path = root.join(source);
            let is_file = path.extension().is_some();
            fs::create_dir_all(if is_file { path.parent().unwrap() } else { &path }).unwrap();
            if is_file {
                fs::write(&path, source).unwrap();
            }
        }
        let made = sources::hash(root).unwrap();
        assert_eq!(made, sources::hash(root).unwrap());
        assert!(made.len() == 16 && made.chars().all(|c| c.is_ascii_hexdigit()));
        fs::write(root.join("firmware/Cargo.toml"), "firmware/Cargo.toml\r").unwrap();
        assert_eq!(made, sources::hash(root).unwrap());
        fs::write(root.join("runtime/base/new.rs"), "").unwrap();
        assert_ne!(made, sources::hash(root).unwrap());
        fs::remove_file(root.join("runtime/base/new.rs")).unwrap();
        fs::write(root.join("firmware/app/.hidden"), "").unwrap();
        assert_eq!(made, sources::hash(root).unwrap());
        fs::remove_dir_all(root.join("firmware/boards")).unwrap();
        assert!(sources::hash(root).is_err());
        assert_eq!(mark(&root.join("firmware/Cargo.toml")), None);
    }

    #[test]
    fn what_is_no_elf_file_is_refused() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        assert!(matches!(code_bytes(&path), Err(TargetError::Elf { .. })));
        assert!(matches!(code_bytes(Path::new("/nowhere")), Err(TargetError::Io { .. })));
    }
}
