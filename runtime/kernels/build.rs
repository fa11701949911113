//! Tells the compiler which instruction sets the target has kernels for.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(arm_dsp, arm_dsp_optional, wide)");
    let target = std::env::var("TARGET").unwrap_or_default();
    // Armv7E-M has the DSP extension. On Armv8-M Mainline it is an option of the core, so the user says.
    let optional = std::env::var_os("CARGO_FEATURE_ARM_DSP").is_some() && target.starts_with("thumbv8m.main");
    if target.starts_with("thumbv7em") || optional {
        println!("cargo:rustc-cfg=arm_dsp");
    }
    if optional {
        println!("cargo:rustc-cfg=arm_dsp_optional");
    }
    // Processors of hosts and phones. A processor without the vectors runs the portable kernels.
    let features = std::env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    let neon = target.starts_with("aarch64") && features.split(',').any(|f| f == "neon");
    if target.starts_with("x86_64") || neon {
        println!("cargo:rustc-cfg=wide");
    }
}
