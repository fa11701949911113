//! Whatever the bytes: the importer gives a graph that is valid, or an error, without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(graph) = offshoot_import::import_bytes(data, "fuzz") {
        graph.validate().expect("an imported graph is valid");
    }
});
