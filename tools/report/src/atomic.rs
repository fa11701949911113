//! Output files appear whole or not at all.

use std::io::{self, Write};
use std::path::Path;

/// Writes `bytes` to `path`: into a temporary file in the same folder first, then renamed over it.
///
/// # Errors
/// The folder does not exist or cannot be written to; an existing file is then untouched.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    set_default_permissions(&file)?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

/// Temporary files are private to their owner; a finished output should be as readable as any other file.
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

    #[test]
    fn a_missing_folder_is_an_error_and_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none").join("a.off");
        assert!(write_atomically(&path, b"one").is_err());
        assert!(!path.exists());
    }
}
