//! Memory map and linker script: those of the board.

use std::path::PathBuf;

fn main() {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("run by cargo"));
    let board = std::env::var("OFFSHOOT_MEMORY_MAP").unwrap_or_else(|_| "an547".into());
    let map = format!("../boards/mps2/memory/{board}.x");
    std::fs::copy(&map, out.join("memory.x")).expect("the board's map");
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg=-Tlink.x");
    println!("cargo:rustc-link-arg=--nmagic");
    println!("cargo:rerun-if-changed={map}");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=OFFSHOOT_MEMORY_MAP");
}
