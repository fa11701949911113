//! Labelled samples from any supported file.

use std::path::{Path, PathBuf};

use ndarray::{ArrayD, Axis};

use crate::error::{Error, ErrorKind, Result};
use crate::features::FrontEnd;
use crate::npy::{self, Array};
use crate::{cifar, idx, npz, wav};

/// Samples with their labels, if known.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// Samples along the first axis; images are channels-last.
    pub x: Array,
    /// One label per sample, or empty.
    pub y: Vec<i64>,
    /// Name of each label from 0; empty if the file has none.
    pub classes: Vec<String>,
}

impl Dataset {
    /// Samples with labels.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] if there are labels, but not one per sample.
    pub fn new(x: Array, y: Vec<i64>, classes: Vec<String>) -> Result<Self> {
        let samples = x.shape().first().copied().unwrap_or(0);
        if !y.is_empty() && y.len() != samples {
            let message = format!("{} labels for {samples} samples; expected one label per sample", y.len());
            return Err(Error::new(ErrorKind::Shape, message));
        }
        Ok(Self { x, y, classes })
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.x.shape().first().copied().unwrap_or(0)
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Reads samples from a file or folder, recognised by its contents:
///
/// | kind | recognised by | samples |
/// |---|---|---|
/// | `.npy` | its magic bytes | as they are; labels from `y.npy` next to `x.npy`, `NAME_y.npy` next to `NAME_x.npy` |
/// | `.npz` | zip's magic bytes | its arrays `x` and `y` |
/// | MNIST's IDX, also gzipped | its first four bytes | labels from the file whose name has `labels-idx1` for `images-idx3` |
/// | folder of CIFAR-10 batches, or one | `*.bin`, size | images `[n, 32, 32, 3]`; a folder gives its `data_batch_*.bin` |
/// | folder of class folders | holds folders | MFCC of the WAV files, [`FrontEnd::keywords`], one length for all |
///
/// # Errors
/// The path does not exist, its kind is not recognised, or the file is damaged.
pub fn load(path: &Path) -> Result<Dataset> {
    if path.is_dir() {
        let batches = cifar_batches(path)?;
        return if batches.is_empty() { load_sounds(path) } else { load_cifar(&batches) };
    }
    let mut head = [0; 6];
    let read = {
        use std::io::Read;
        let mut file = std::fs::File::open(path).map_err(|e| Error::io(path, &e))?;
        file.read(&mut head).map_err(|e| Error::io(path, &e))?
    };
    match &head[..read] {
        head if head.starts_with(b"\x93NUMPY") => load_npy(path),
        head if head.starts_with(b"PK") => load_npz(path),
        _ if path.extension().is_some_and(|e| e == "bin") => load_cifar(&[path.to_path_buf()]),
        head if idx::looks_like(head) => load_idx(path),
        _ => Err(Error::format(
            "not recognised: wanted is .npy, .npz, MNIST's IDX, CIFAR-10's binary batches or a folder of class folders \
             with WAV files",
        )
        .at(path)),
    }
}

fn load_npy(path: &Path) -> Result<Dataset> {
    let x = npy::read(path)?;
    let y = match sibling(path, "x.npy", "y.npy") {
        Some(labels) => labels_of(npy::read(&labels)?).map_err(|e| e.at(&labels))?,
        None => Vec::new(),
    };
    Dataset::new(x, y, Vec::new()).map_err(|e| e.at(path))
}

fn load_npz(path: &Path) -> Result<Dataset> {
    let mut arrays = npz::read(path)?;
    let mut take = |name: &str| arrays.iter().position(|(n, _)| n == name).map(|i| arrays.swap_remove(i).1);
    let x = take("x").ok_or_else(|| {
        Error::format("it has no array `x`; write it with numpy.savez(f, x=…, y=…)").at(path)
    })?;
    let y = take("y").map_or(Ok(Vec::new()), labels_of).map_err(|e| e.at(path))?;
    Dataset::new(x, y, Vec::new()).map_err(|e| e.at(path))
}

fn load_idx(path: &Path) -> Result<Dataset> {
    let x = idx::read(path)?;
    let y = match sibling_with(path, |name| {
        name.contains("images-idx3").then(|| name.replace("images-idx3", "labels-idx1"))
    }) {
        Some(labels) => labels_of(idx::read(&labels)?).map_err(|e| e.at(&labels))?,
        None => Vec::new(),
    };
    Dataset::new(x, y, Vec::new()).map_err(|e| e.at(path))
}

fn load_cifar(batches: &[PathBuf]) -> Result<Dataset> {
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for batch in batches {
        let (x, y) = cifar::read(batch)?;
        images.push(x);
        labels.extend(y);
    }
    let views: Vec<_> = images.iter().map(|i: &ArrayD<u8>| i.view()).collect();
    let x = ndarray::concatenate(Axis(0), &views).map_err(|e| Error::new(ErrorKind::Shape, e.to_string()))?;
    Dataset::new(Array::U8(x), labels, cifar::CLASSES.map(String::from).to_vec())
}

/// MFCC of all clips, cut or padded with silence to the most frequent length.
fn load_sounds(path: &Path) -> Result<Dataset> {
    let sounds = wav::read_folder(path)?;
    let rate = sounds.clips[0].2.sample_rate;
    if let Some((file, _, clip)) = sounds.clips.iter().find(|(_, _, c)| c.sample_rate != rate) {
        let message = format!(
            "its sample rate is {}, but the first file's is {rate}: all must be equal",
            clip.sample_rate
        );
        return Err(Error::format(message).at(file));
    }
    let len = usual_length(sounds.clips.iter().map(|(_, _, c)| c.samples.len()));
    let front_end = FrontEnd::keywords(rate);
    let mut features = Vec::with_capacity(sounds.clips.len());
    for (file, _, clip) in &sounds.clips {
        let mut samples = clip.samples.clone();
        samples.resize(len, 0.0);
        features.push(front_end.features(&samples).map_err(|e| e.at(file))?);
    }
    let views: Vec<_> = features.iter().map(|f| f.view().insert_axis(Axis(0))).collect();
    let x = ndarray::concatenate(Axis(0), &views).map_err(|e| Error::new(ErrorKind::Shape, e.to_string()))?;
    let labels = sounds.clips.iter().map(|(_, label, _)| *label).collect();
    // One channel: networks take [n, frames, coefficients, 1].
    Dataset::new(Array::F32(x.insert_axis(Axis(3)).into_dyn()), labels, sounds.classes)
}

/// The most frequent length; among equally frequent ones the longest.
fn usual_length(lengths: impl Iterator<Item = usize>) -> usize {
    let mut counts = std::collections::BTreeMap::new();
    for len in lengths {
        *counts.entry(len).or_insert(0usize) += 1;
    }
    counts.into_iter().max_by_key(|&(len, count)| (count, len)).map_or(0, |(len, _)| len)
}

fn cifar_batches(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|e| Error::io(folder, &e))?;
    let mut batches = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Error::io(folder, &e))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("data_batch_") && name.ends_with(".bin") {
            batches.push(path.clone());
        }
    }
    batches.sort();
    Ok(batches)
}

fn labels_of(array: Array) -> Result<Vec<i64>> {
    let labels = array.to_i64()?;
    if labels.ndim() != 1 {
        let message =
            format!("labels of shape {:?}; expected one axis with one label per sample", labels.shape());
        return Err(Error::new(ErrorKind::Shape, message));
    }
    Ok(labels.into_iter().collect())
}

/// The existing file next to `path` whose name ends in `with` where the name of `path` ends in `suffix`.
fn sibling(path: &Path, suffix: &str, with: &str) -> Option<PathBuf> {
    sibling_with(path, |name| name.strip_suffix(suffix).map(|stem| format!("{stem}{with}")))
}

fn sibling_with(path: &Path, rename: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    Some(path.with_file_name(rename(name)?)).filter(|p| p.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr1;

    #[test]
    fn npy_with_labels_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let x = Array::from(arr1(&[1.0f32, 2.0]).into_dyn());
        npy::write(&folder.path().join("test_x.npy"), &x).unwrap();
        assert_eq!(load(&folder.path().join("test_x.npy")).unwrap().y, []);
        npy::write(&folder.path().join("test_y.npy"), &Array::from(arr1(&[4i64, 5]).into_dyn())).unwrap();
        let data = load(&folder.path().join("test_x.npy")).unwrap();
        assert_eq!((data.len(), data.y), (2, vec![4, 5]));
        npy::write(&folder.path().join("test_y.npy"), &Array::from(arr1(&[4i64]).into_dyn())).unwrap();
        let error = load(&folder.path().join("test_x.npy")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Shape);
    }

    #[test]
    fn idx_with_labels_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let images = folder.path().join("t10k-images-idx3-ubyte");
        std::fs::write(&images, [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 10, 20]).unwrap();
        std::fs::write(folder.path().join("t10k-labels-idx1-ubyte"), [0, 0, 8, 1, 0, 0, 0, 2, 7, 3]).unwrap();
        assert_eq!(load(&images).unwrap().y, [7, 3]);
    }

    #[test]
    fn cifar_folder_and_file() {
        let folder = tempfile::tempdir().unwrap();
        for (name, label) in [("data_batch_2.bin", 2), ("data_batch_1.bin", 1), ("test_batch.bin", 3)] {
            let mut record = vec![0; 3073];
            record[0] = label;
            std::fs::write(folder.path().join(name), record).unwrap();
        }
        assert_eq!(load(folder.path()).unwrap().y, [1, 2]);
        let test = load(&folder.path().join("test_batch.bin")).unwrap();
        assert_eq!((test.y, test.x.shape()), (vec![3], &[1, 32, 32, 3][..]));
    }

    #[test]
    fn sounds_become_features_of_one_length() {
        let folder = tempfile::tempdir().unwrap();
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 8000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        for (class, name, len) in [("a", "1.wav", 8000), ("b", "1.wav", 8000), ("b", "2.wav", 5000)] {
            std::fs::create_dir_all(folder.path().join(class)).unwrap();
            let mut writer = hound::WavWriter::create(folder.path().join(class).join(name), spec).unwrap();
            (0..len).for_each(|i| writer.write_sample((i % 50 * 100) as i16).unwrap());
            writer.finalize().unwrap();
        }
        let data = load(folder.path()).unwrap();
        assert_eq!(data.x.shape(), [3, 49, 10, 1]);
        assert_eq!((data.y, data.classes), (vec![0, 1, 1], vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn what_is_not_recognised_says_what_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x.dat"), b"hello world").unwrap();
        assert!(load(&folder.path().join("x.dat")).unwrap_err().to_string().contains("wanted is .npy"));
        assert_eq!(load(&folder.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
        assert!(load(folder.path()).is_err());
    }
}
