//! Shared by the build scripts of boards: memory map, linker scripts, hash of the sources.

#[path = "../../sources.rs"]
mod sources;

use std::path::{Path, PathBuf};
use std::{env, fs};

/// Copies the memory map to where the linker looks, adds linker scripts, and passes the hash of the sources to
/// `offshoot_boards::mark_sources!`. Done here because RUSTFLAGS belong to the user, and changing them would rebuild
/// `core`.
pub(crate) fn board(map: &str, scripts: &[&str]) {
    // Cargo sets both for every build script.
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("run by cargo"));
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("run by cargo"));
    fs::copy(map, out.join("memory.x")).expect("the map lies beside the build script");
    println!("cargo:rustc-link-search={}", out.display());
    for script in scripts {
        println!("cargo:rustc-link-arg=-T{script}");
    }
    println!("cargo:rustc-link-arg=--nmagic");
    println!("cargo:rerun-if-changed={map}");
    println!("cargo:rerun-if-changed=build.rs");
    let root = here.ancestors().nth(3).map(Path::to_path_buf).expect("three folders up is the checkout");
    println!("cargo:rustc-env=OFFSHOOT_SOURCES={}", sources::hash(&root).expect("sources can be read"));
    for source in sources::SOURCES {
        println!("cargo:rerun-if-changed={}", root.join(source).display());
    }
}
