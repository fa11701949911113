//! Tells the linker what memory the chip has.

use std::{env, fs, path::PathBuf};

fn main() {
    // Cargo sets OUT_DIR for every build script.
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("run by cargo"));
    fs::copy("memory.x", out.join("memory.x")).expect("memory.x lies beside this file");
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg=-Tlink.x");
    println!("cargo:rustc-link-arg=--nmagic");
    println!("cargo:rerun-if-changed=memory.x");
    println!("cargo:rerun-if-changed=build.rs");
}
