//! Writes the model and the size of its arena as Rust, and asks for the linker scripts.

use std::{env, fs, path::PathBuf};

fn main() {
    // Cargo sets OUT_DIR for every build script.
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("run by cargo"));
    println!("cargo:rerun-if-env-changed=OFFSHOOT_MODEL");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=memory.x");
    let model =
        env::var_os("OFFSHOOT_MODEL").expect("OFFSHOOT_MODEL names the .off file: use firmware/single.sh");
    let model = PathBuf::from(model).canonicalize().expect("OFFSHOOT_MODEL names a file");
    println!("cargo:rerun-if-changed={}", model.display());
    let bytes = fs::read(&model).expect("OFFSHOOT_MODEL can be read");
    // Bytes 16 to 20 of the header (runtime/FORMAT.md); the runtime checks them when it opens the model.
    let field = bytes.get(16..20).and_then(|b| b.try_into().ok());
    let arena = field.map(u32::from_le_bytes).expect("OFFSHOOT_MODEL is an .off file");
    let code = format!(
        "/// Bytes of the arena.\nconst ARENA: usize = {arena};\n\
         /// The model.\n#[unsafe(link_section = \".rodata.model\")]\n\
         static MODEL: Aligned<{}> = Aligned(*include_bytes!({model:?}));\n",
        bytes.len()
    );
    fs::write(out.join("model.rs"), code).expect("OUT_DIR can be written");
    fs::copy("memory.x", out.join("memory.x")).expect("memory.x lies beside this file");
    // Names of interrupt handlers that the linker would fill in: there are none.
    fs::write(out.join("device.x"), "").expect("OUT_DIR can be written");
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg=-Tlink.x");
    println!("cargo:rustc-link-arg=--nmagic");
}
