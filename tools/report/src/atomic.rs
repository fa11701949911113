//! Atomic writes: output files appear whole or not at all.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a file went to standard output.
static WROTE_TO_STDOUT: AtomicBool = AtomicBool::new(false);

/// Whether [`write_atomically`] wrote a file to `/dev/stdout`: other text would mix with it and belongs elsewhere.
pub fn wrote_to_stdout() -> bool {
    WROTE_TO_STDOUT.load(Ordering::Relaxed)
}

/// Writes `bytes` to a temporary file in the same folder and renames it to `path`.
///
/// If `path` is a symbolic link, the file that it points to is replaced, not the link. A pipe or a device such as
/// `/dev/stdout` is written directly, and not atomically.
///
/// # Errors
/// The folder does not exist or is not writable; an existing file then stays unchanged.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if path == Path::new("/dev/stdout") {
        // Appends to what was printed before, even if standard output is a file.
        WROTE_TO_STDOUT.store(true, Ordering::Relaxed);
        let mut out = io::stdout();
        return out.write_all(bytes).and_then(|()| out.flush());
    }
    let path = behind_links(path)?;
    if let Ok(kind) = std::fs::metadata(&path).map(|m| m.file_type())
        && !kind.is_file()
    {
        if kind.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a folder"));
        }
        let mut file = std::fs::OpenOptions::new().write(true).open(&path)?;
        return file.write_all(bytes).and_then(|()| file.flush());
    }
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    set_default_permissions(&file)?;
    file.persist(&path).map_err(|e| e.error)?;
    Ok(())
}

/// The file at the end of a chain of symbolic links, which need not exist. A system link without a real path, such as
/// `/proc/self/fd/1` for a pipe, is returned unchanged.
fn behind_links(path: &Path) -> io::Result<PathBuf> {
    /// Linux's limit.
    const MOST_LINKS: usize = 40;
    let mut at = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        let is_link = std::fs::symlink_metadata(&at).is_ok_and(|m| m.file_type().is_symlink());
        // A pipe or device is opened through the link itself.
        let special = std::fs::metadata(&at).is_ok_and(|m| !m.is_file() && !m.is_dir());
        if !is_link || special {
            return Ok(at);
        }
        let named = std::fs::read_link(&at)?;
        at = at.parent().unwrap_or(Path::new("")).join(named);
    }
    Err(io::Error::other("too many symbolic links"))
}

/// Gives a temporary file, which is private to its owner, the permissions of any other file.
#[cfg(unix)]
fn set_default_permissions(file: &tempfile::NamedTempFile) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn set_default_permissions(_: &tempfile::NamedTempFile) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_a_file_whole_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.off");
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link, chain) =
            (folder.path().join("a.off"), folder.path().join("link"), folder.path().join("chain"));
        std::os::unix::fs::symlink("a.off", &link).unwrap();
        std::os::unix::fs::symlink(&link, &chain).unwrap();
        // The file that the link names does not exist yet.
        write_atomically(&chain, b"one").unwrap();
        write_atomically(&link, b"two").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"two");
        for link in [link, chain] {
            assert!(std::fs::symlink_metadata(link).unwrap().file_type().is_symlink());
        }
        let round = folder.path().join("round");
        std::os::unix::fs::symlink("round", &round).unwrap();
        assert!(write_atomically(&round, b"x").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn pipes_and_devices_are_written_into() {
        use std::os::unix::fs::FileTypeExt;
        write_atomically(Path::new("/dev/null"), b"one").unwrap();
        assert!(std::fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("skipped: there is no mkfifo");
            return;
        }
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::read(pipe).unwrap()
        });
        write_atomically(&pipe, b"through").unwrap();
        assert_eq!(reader.join().unwrap(), b"through");
        assert!(std::fs::metadata(&pipe).unwrap().file_type().is_fifo());
        assert!(write_atomically(folder.path(), b"x").is_err());
    }

    #[test]
    fn a_missing_folder_is_an_error_and_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none").join("a.off");
        assert!(write_atomically(&path, b"one").is_err());
        assert!(!path.exists());
    }
}
