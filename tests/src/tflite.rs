//! Archives of small `.tflite` networks with TensorFlow Lite Micro's answers, which `fixtures/tflite/make.py` and `int16.py`
//! write.

use std::collections::BTreeMap;
use std::io::Read;

use offshoot_data::npy::{self, Array};

use crate::root;

/// Files of an archive by name: `NAME.tflite`, `NAME.x0.npy` (and `x1` …), `NAME.y0.npy` (and `y1` …).
pub type Files = BTreeMap<String, Vec<u8>>;

/// float32, int8, uint8.
pub fn operators() -> Files {
    files("operators.zip")
}

/// int16 activations with int8 weights.
pub fn int16() -> Files {
    files("int16.zip")
}

fn files(archive: &str) -> Files {
    let path = root().join("tests/fixtures/tflite").join(archive);
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

/// The samples of a network's inputs (`kind` x) or outputs (y): `[input][sample]`, as bytes.
pub fn columns(files: &Files, name: &str, kind: &str) -> Vec<Vec<Vec<u8>>> {
    (0..)
        .map_while(|i| files.get(&format!("{name}.{kind}{i}.npy")))
        .map(|bytes| rows(npy::parse(bytes).unwrap()))
        .collect()
}

/// The bytes of each sample of an array; uint8 becomes int8 by subtracting 128.
pub fn rows(array: Array) -> Vec<Vec<u8>> {
    let split = |bytes: Vec<u8>, count: usize| -> Vec<Vec<u8>> {
        bytes.chunks(bytes.len() / count.max(1)).map(<[u8]>::to_vec).collect()
    };
    match array {
        Array::I8(a) => split(a.iter().map(|v| *v as u8).collect(), a.shape()[0]),
        Array::U8(a) => split(a.iter().map(|v| v.wrapping_sub(128)).collect(), a.shape()[0]),
        Array::I16(a) => split(a.iter().flat_map(|v| v.to_le_bytes()).collect(), a.shape()[0]),
        Array::F32(a) => split(a.iter().flat_map(|v| v.to_le_bytes()).collect(), a.shape()[0]),
        Array::I32(a) => split(a.iter().flat_map(|v| v.to_le_bytes()).collect(), a.shape()[0]),
        other => panic!("an array of {}", other.dtype()),
    }
}
