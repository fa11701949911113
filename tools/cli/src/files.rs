//! Reads models: `.off` files into aligned memory, ONNX files into a graph after the lossless passes.

use std::path::{Path, PathBuf};

use offshoot::{AlignedBytes, Model};
use offshoot_ir::Graph;
use offshoot_ir::passes::PassReport;
use offshoot_sign::envelope::{self, Enveloped};

use crate::failure::{Context, Failure, Kind, Result};

/// A `.off` file in memory.
#[derive(Clone, Debug)]
pub struct OffFile {
    bytes: AlignedBytes,
    network: usize,
    /// The file as it came, if it is signed.
    signed: Option<Vec<u8>>,
}

impl OffFile {
    /// Reads and validates `path`. Of a signed file it takes the network and leaves the signature to who asks for it
    /// (`verify-signature`, devices): on the host the file is the user's own.
    ///
    /// # Errors
    /// The file cannot be read, or is not a valid `.off` file.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Failure::reading(path, &e))?;
        if path.extension().is_some_and(|e| e == "onnx") {
            let message = format!("{}: this is an ONNX file; a .off file is needed", path.display());
            let help = format!("compile it first: offshoot compile {} -o model.off", path.display());
            return Err(Failure::new(Kind::Format, message, help));
        }
        let file = if envelope::is_signed(&bytes) {
            let network = Enveloped::new(&bytes).map(|file| file.network()).ok_or_else(|| {
                let message =
                    format!("{}: this signed file is truncated or of another version", path.display());
                Failure::new(Kind::Format, message, "get the file again, or sign the model again")
            })?;
            Self { signed: Some(bytes.clone()), ..Self::from_bytes(network) }
        } else {
            Self::from_bytes(&bytes)
        };
        if let (true, Some((what, help))) = (!file.bytes().starts_with(b"OFFS"), mistaken(path)) {
            let message = format!("{}: this is {what}; a .off file is needed", path.display());
            return Err(Failure::new(Kind::Format, message, help));
        }
        Model::open(file.bytes()).or_fail_in(Kind::Format, path.display(), OTHER_VERSION)?;
        Ok(file)
    }

    /// Validates bytes of the caller. `name` stands for them in messages.
    ///
    /// # Errors
    /// They are not a valid `.off` file.
    pub fn parse(bytes: &[u8], name: &str) -> Result<Self> {
        let file = Self::from_bytes(bytes);
        Model::open(file.bytes()).or_fail_in(Kind::Format, name, OTHER_VERSION)?;
        Ok(file)
    }

    /// Network `index` of the file; 0 is the first.
    ///
    /// # Errors
    /// There is no such network.
    pub fn with_network(self, index: usize) -> Result<Self> {
        let file = Self { network: index, ..self };
        file.model()?;
        Ok(file)
    }

    /// Reads network `index` of the file `path`; 0 is the first.
    ///
    /// # Errors
    /// As [`Self::read`]; there is no such network.
    pub fn read_network(path: &Path, index: usize) -> Result<Self> {
        Self::read(path)?.with_network(index)
    }

    /// A file from bytes that were just compiled; they are not validated.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self { bytes: AlignedBytes::copy_of(bytes), network: 0, signed: None }
    }

    /// [`Self::from_bytes`] of a large file: gives its memory back part by part, so that it is never there twice.
    pub fn from_vec(mut bytes: Vec<u8>) -> Self {
        const PART: usize = 1 << 22;
        let mut copy = AlignedBytes::zeroed(bytes.len());
        while !bytes.is_empty() {
            let start = bytes.len().saturating_sub(PART);
            copy[start..bytes.len()].copy_from_slice(&bytes[start..]);
            bytes.truncate(start);
            bytes.shrink_to_fit();
        }
        Self { bytes: copy, network: 0, signed: None }
    }

    /// The file's bytes, without an envelope.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The file as it came: with its envelope if it is signed.
    pub fn whole(&self) -> &[u8] {
        self.signed.as_deref().unwrap_or(&self.bytes)
    }

    /// The model: the network that was selected, of a file that holds several.
    ///
    /// # Errors
    /// Never for a file that [`Self::read`] returned.
    pub fn model(&self) -> Result<Model<'_>> {
        let model = Model::open(self.bytes()).or_fail(Kind::Format, "compile the model again")?;
        model
            .network(self.network)
            .or_fail(Kind::Usage, "give a smaller --network; `offshoot inspect` lists the networks of a file")
    }

    /// Number of the selected network.
    pub fn network(&self) -> usize {
        self.network
    }
}

const OTHER_VERSION: &str =
    "the file is damaged or comes from another version of Offshoot: compile the model again";

/// Refuses to overwrite an input. Paths are resolved, so links to the same file count.
///
/// # Errors
/// An output is one of the inputs, or two outputs are the same file.
pub fn refuse_same_file<'p>(
    inputs: impl IntoIterator<Item = &'p PathBuf>,
    outputs: impl IntoIterator<Item = &'p PathBuf>,
) -> Result<()> {
    // Writing to a device or pipe cannot destroy an input.
    let real = |path: &PathBuf| std::fs::canonicalize(path).ok().filter(|p| p.is_file());
    let inputs: Vec<(&PathBuf, PathBuf)> = inputs.into_iter().filter_map(|p| Some((p, real(p)?))).collect();
    let mut seen: Vec<PathBuf> = Vec::new();
    for output in outputs {
        let Some(file) = real(output) else { continue };
        if let Some((input, _)) = inputs.iter().find(|(_, f)| *f == file) {
            let message =
                format!("{}: the output would overwrite the input {}", output.display(), input.display());
            return Err(Failure::new(Kind::Usage, message, "give another output file"));
        }
        if seen.contains(&file) {
            let message = format!("{}: two outputs have this path", output.display());
            return Err(Failure::new(Kind::Usage, message, "give each output its own file"));
        }
        seen.push(file);
    }
    Ok(())
}

/// Imports `path` and runs the lossless passes.
///
/// # Errors
/// The file cannot be read, is neither an ONNX nor a TensorFlow Lite file, or has unsupported operators (the message lists all of them).
pub fn read_graph(path: &Path) -> Result<(Graph, Vec<PassReport>)> {
    read_graph_with(path, &offshoot_import::Dims::new())
}

/// As [`read_graph`], with extents of symbolic axes.
///
/// # Errors
/// As [`read_graph`]; a name is not that of a symbolic axis.
pub fn read_graph_with(path: &Path, dims: &offshoot_import::Dims) -> Result<(Graph, Vec<PassReport>)> {
    optimise(read_graph_as_written(path, dims)?)
}

/// As [`read_graph_with`], before any pass: with every tensor of the file that is computed, in the file's order of axes.
///
/// # Errors
/// As [`read_graph_with`].
pub fn read_graph_as_written(path: &Path, dims: &offshoot_import::Dims) -> Result<Graph> {
    if let Err(e) = std::fs::metadata(path) {
        return Err(Failure::reading(path, &e));
    }
    offshoot_import::import_with(path, dims).map_err(|e| import_failure(path, &e))
}

/// As [`read_graph_with`], from the bytes of a file that refers to no others. `name` stands for it in messages.
///
/// # Errors
/// As [`read_graph_with`].
pub fn parse_graph(
    bytes: &[u8],
    name: &str,
    dims: &offshoot_import::Dims,
) -> Result<(Graph, Vec<PassReport>)> {
    let graph = offshoot_import::import_bytes_with(bytes, name, dims);
    optimise(graph.map_err(|e| refused(Path::new(name), &e))?)
}

/// Runs the lossless passes.
///
/// # Errors
/// The graph is not well formed.
pub fn optimise(graph: Graph) -> Result<(Graph, Vec<PassReport>)> {
    offshoot_ir::passes::lossless(graph).or_fail(
        Kind::Format,
        "check the model with `onnx.checker` and ONNX Runtime; if they accept it, report this with the model",
    )
}

/// What a TensorFlow Lite file is called.
const TFLITE: &str = "a TensorFlow Lite model (.tflite)";

/// Recognises a file of a wrong type by its first bytes: what it is, and what to do. `None` if it is not recognised.
pub(crate) fn mistaken(path: &Path) -> Option<(&'static str, &'static str)> {
    use std::io::Read;
    if path.is_dir() {
        return Some(("a folder", "give the file in it"));
    }
    let mut head = [0; 64];
    let mut file = std::fs::File::open(path).ok()?;
    let mut len = 0;
    while len < head.len() {
        match file.read(&mut head[len..]) {
            Ok(0) | Err(_) => break,
            Ok(n) => len += n,
        }
    }
    let head = &head[..len];
    let known: [(&[u8], &'static str, &'static str); 8] = [
        (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "fetch it: git lfs pull"),
        (b"OFSG", "a signed model (.off)", "give the .onnx file that it was compiled from"),
        (b"OFFS", "a compiled model (.off)", "give the .onnx file that it was compiled from"),
        (b"\x93NUMPY", "a NumPy array (.npy)", "give the network (.onnx or .tflite) here"),
        (
            b"\x89HDF",
            "an HDF5 file (Keras)",
            "convert it to ONNX: python -m tf2onnx.convert --keras model.h5 --output model.onnx",
        ),
        (
            b"PK\x03\x04",
            "a zip archive (such as PyTorch's .pt or Keras's .keras)",
            "export the model: torch.onnx.export(model, sample, \"model.onnx\")",
        ),
        (b"\x1f\x8b", "compressed with gzip", "decompress it first: gunzip"),
        (
            b"\x80\x02",
            "a Python pickle",
            "export the model: torch.onnx.export(model, sample, \"model.onnx\")",
        ),
    ];
    if head.is_empty() {
        return Some(("empty", "export or copy the file again"));
    }
    if head.get(4..8) == Some(b"TFL3") {
        return Some((TFLITE, "compile it first: offshoot compile model.tflite -o model.off"));
    }
    if let Some((_, what, help)) = known.iter().find(|(magic, ..)| head.starts_with(magic)) {
        return Some((what, help));
    }
    let text = head.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace());
    text.then_some(("a text file", "check the path; a failed download may have left an HTML page"))
}

fn import_failure(path: &Path, error: &offshoot_import::ImportError) -> Failure {
    let other = mistaken(path).filter(|(what, _)| *what != TFLITE);
    let Some((what, help)) = other.filter(|_| !matches!(error, offshoot_import::ImportError::Unsupported(_)))
    else {
        return refused(path, error);
    };
    Failure::new(
        Kind::Format,
        format!("{}: this is {what}; a network (.onnx or .tflite) is needed", path.display()),
        help,
    )
}

fn refused(path: &Path, error: &offshoot_import::ImportError) -> Failure {
    let message = format!("{}: {error}", path.display());
    match error {
        offshoot_import::ImportError::Unsupported(_) => Failure::new(
            Kind::Unsupported,
            message,
            "replace the operators listed above, or export the model without them; \
             docs/src/support.md lists the supported ones",
        ),
        offshoot_import::ImportError::Damaged(_) => {
            Failure::new(Kind::Format, message, "copy the file again, or convert the model again")
        }
        _ => {
            let (first, last) = (offshoot_import::OPSETS.start(), offshoot_import::OPSETS.end());
            let help = format!("export the model to ONNX again (opset {first} to {last})");
            Failure::new(Kind::Format, message, help)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_moves_part_by_part() {
        for len in [0, 1, 1 << 22, (1 << 23) + 5] {
            let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            assert!(OffFile::from_vec(bytes.clone()).bytes() == bytes, "{len}");
        }
    }

    #[test]
    fn other_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        for (bytes, what) in [
            (&b"version https://git-lfs.github.com/spec/v1\noid sha256:0"[..], "Git LFS"),
            (b"PK\x03\x04abc", "zip"),
            (b"<html>", "text"),
            (b"", "empty"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let failure = read_graph(&path).unwrap_err();
            assert!(failure.kind == Kind::Format && failure.message.contains(what), "{failure}");
            let off = folder.path().join("m.off");
            std::fs::write(&off, bytes).unwrap();
            assert!(OffFile::read(&off).unwrap_err().message.contains(what));
        }
        std::fs::write(&path, b"\xff\xfe\0\x01 no known file").unwrap();
        assert_eq!(mistaken(&path), None);
        std::fs::write(&path, b"\x1c\0\0\0TFL3\0\0").unwrap();
        let failure = read_graph(&path).unwrap_err();
        assert!(
            failure.message.contains("TensorFlow Lite") && failure.message.contains("damaged"),
            "{failure}"
        );
        assert!(OffFile::read(&path).unwrap_err().help.contains("compile it first"));
    }

    #[test]
    fn an_input_is_not_written_over_by_any_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.npy");
        std::fs::write(&path, b"x").unwrap();
        let round = folder.path().join(".").join("m.npy");
        assert_eq!(refuse_same_file([&path], [&round]).unwrap_err().kind, Kind::Usage);
        refuse_same_file([&path], [&folder.path().join("other.npy")]).unwrap();
        refuse_same_file([&PathBuf::from("/dev/null")], [&PathBuf::from("/dev/null")]).unwrap();
        #[cfg(unix)]
        {
            let link = folder.path().join("link.npy");
            std::os::unix::fs::symlink(&path, &link).unwrap();
            assert!(refuse_same_file([&path], [&link]).is_err());
        }
    }

    #[test]
    fn an_onnx_file_given_for_an_off_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        std::fs::write(&path, b"x").unwrap();
        assert!(OffFile::read(&path).unwrap_err().help.contains("offshoot compile"));
        assert_eq!(OffFile::read(&folder.path().join("none.off")).unwrap_err().kind, Kind::NotFound);
    }
}
