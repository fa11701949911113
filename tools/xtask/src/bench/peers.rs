//! Figures of TFLite Micro with CMSIS-NN on the same networks in the same emulator, and the fastest published results.
//!
//! Versions: tflite-micro 90b983c2 with CMSIS-NN 4ab83cc3, arm-none-eabi-gcc 12.2, default flags (core -Os, kernels
//! -O2), int8 registrations of only the operators needed. Instructions are those of one `Invoke` on mps2-an386 under
//! `-icount`, counted as in the firmware. Cycles are from the best MLPerf Tiny submissions (closed division, v0.5 to
//! v1.4) for the core: 1000 × MHz × median latency.

/// Figures of TFLite Micro on a Cortex-M4.
#[derive(Clone, Copy, Debug)]
pub struct Tflm {
    /// Network.
    pub network: &'static str,
    /// Instructions of an inference.
    pub instructions: u64,
    /// Bytes of the arena.
    pub arena_bytes: u64,
    /// Bytes of stack of `Invoke`, rounded to hundreds.
    pub stack_bytes: u64,
    /// Bytes of the `.tflite` file.
    pub model_bytes: u64,
    /// Bytes of text and constants without the model; `None` if not measured.
    pub code_bytes: Option<u64>,
}

const fn tflm(
    network: &'static str,
    instructions: u64,
    arena_bytes: u64,
    stack_bytes: u64,
    model_bytes: u64,
    code_bytes: Option<u64>,
) -> Tflm {
    Tflm { network, instructions, arena_bytes, stack_bytes, model_bytes, code_bytes }
}

const TFLM: [Tflm; 5] = [
    tflm("kws", 7_701_423, 22_820, 1_800, 53_936, Some(53_624)),
    tflm("ic", 29_862_021, 54_996, 1_800, 98_496, Some(51_428)),
    tflm("vww", 24_101_967, 100_708, 1_800, 333_288, Some(53_624)),
    tflm("ad", 582_963, 2_580, 1_300, 276_976, Some(28_464)),
    tflm("sww", 2_228_000, 16_596, 1_600, 74_520, None),
];

/// TFLite Micro's figures for a network, if it was measured.
pub fn tflm_cortex_m4(network: &str) -> Option<&'static Tflm> {
    TFLM.iter().find(|t| t.network == network)
}

/// Fewest published cycles of an inference: network, cycles on Cortex-M4 (NUCLEO-L4R5ZI), on Cortex-M7 (NUCLEO-H7A3ZI).
const PUBLISHED: [(&str, u64, u64); 4] = [
    ("kws", 5_180_000, 3_170_000),
    ("ic", 19_820_000, 11_440_000),
    ("vww", 10_670_000, 6_670_000),
    ("ad", 490_000, 330_000),
];

/// Fewest published cycles of a network on the core of a board.
pub fn published_cycles(network: &str, target: &str) -> Option<u64> {
    let &(_, m4, m7) = PUBLISHED.iter().find(|p| p.0 == network)?;
    match target {
        "qemu:cortex-m4" => Some(m4),
        "qemu:cortex-m7" => Some(m7),
        _ => None,
    }
}

/// Title of a public network, for readers who do not know its short name.
pub fn title(network: &str) -> &str {
    match network {
        "kws" => "keywords, DS-CNN",
        "ic" => "images, ResNet-8",
        "vww" => "persons, MobileNet",
        "ad" => "anomalies, autoencoder",
        "sww" => "streaming wake word",
        other => other,
    }
}
