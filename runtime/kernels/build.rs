//! Tells the compiler which instruction sets the target has kernels for.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!(
        "cargo:rustc-check-cfg=cfg(arm_dsp, arm_dsp_optional, arm_mve, wide, scalar, scalar_v7m, scalar_v6m, scalar_rv32m, scalar_short_multiply)"
    );
    let target = std::env::var("TARGET").unwrap_or_default();
    // Armv7E-M has the DSP extension. On Armv8-M Mainline it is an option of the core, so the user says.
    let optional = std::env::var_os("CARGO_FEATURE_ARM_DSP").is_some() && target.starts_with("thumbv8m.main");
    let dsp = target.starts_with("thumbv7em") || optional;
    if dsp {
        println!("cargo:rustc-cfg=arm_dsp");
    }
    if optional {
        println!("cargo:rustc-cfg=arm_dsp_optional");
    }
    if optional && std::env::var_os("CARGO_FEATURE_ARM_MVE").is_some() {
        println!("cargo:rustc-cfg=arm_mve");
    }
    // Processors of hosts and phones, and browsers. A processor without the vectors runs the portable kernels.
    let features = std::env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    let neon = target.starts_with("aarch64") && features.split(',').any(|f| f == "neon");
    let simd128 = target.starts_with("wasm32") && features.split(',').any(|f| f == "simd128");
    let wide = target.starts_with("x86_64") || neon || simd128;
    if wide {
        println!("cargo:rustc-cfg=wide");
    }
    // Cores of microcontrollers without vectors.
    let narrow = std::env::var("CARGO_CFG_TARGET_POINTER_WIDTH").is_ok_and(|bits| bits == "32");
    if narrow && !dsp && !wide {
        println!("cargo:rustc-cfg=scalar");
        if target.starts_with("thumbv7m") || target.starts_with("thumbv8m.main") {
            println!("cargo:rustc-cfg=scalar_v7m");
        }
        if target.starts_with("riscv32") && features.split(',').any(|f| f == "m") {
            println!("cargo:rustc-cfg=scalar_rv32m");
        }
        // Neither has a multiplication of 32 bits by 32 with a result of 64.
        if target.starts_with("thumbv6m") || target.starts_with("thumbv8m.base") {
            println!("cargo:rustc-cfg=scalar_v6m");
            println!("cargo:rustc-cfg=scalar_short_multiply");
        }
    }
}
