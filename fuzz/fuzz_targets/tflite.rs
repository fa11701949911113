//! Whatever follows the mark of a TensorFlow Lite file: the importer gives a graph that is valid, or an error, without a
//! panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    if let Some(mark) = bytes.get_mut(4..8) {
        mark.copy_from_slice(b"TFL3");
    }
    if let Ok(graph) = offshoot_import::import_bytes(&bytes, "fuzz") {
        graph.validate().expect("an imported graph is valid");
    }
});
