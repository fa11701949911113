//! The archive of small `.tflite` networks with TensorFlow Lite Micro's answers, which `fixtures/tflite/make.py` writes.

use std::collections::BTreeMap;
use std::io::Read;

use crate::root;

/// Files of the archive by name: `NAME.tflite`, `NAME.x0.npy` (and `x1` …), `NAME.y0.npy` (and `y1` …).
pub fn operators() -> BTreeMap<String, Vec<u8>> {
    let path = root().join("tests/fixtures/tflite/operators.zip");
    let mut archive = zip::ZipArchive::new(std::fs::File::open(path).unwrap()).unwrap();
    let mut files = BTreeMap::new();
    for i in 0..archive.len() {
        let mut file = archive.by_index(i).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        files.insert(file.name().to_owned(), bytes);
    }
    files
}
