//! The known boards.

/// A known board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Board {
    /// Name of the target.
    pub name: &'static str,
    /// Its core.
    pub core: Core,
    /// Emulated clock of the core, Hz.
    pub clock_hz: u32,
    /// Bytes of RAM that its firmware has for an arena; a model that needs more is refused.
    pub ram_bytes: u32,
    /// Emulator of the board.
    pub emulator: Emulator,
    /// QEMU's name for the machine.
    pub machine: &'static str,
    /// Its firmware.
    pub firmware: Firmware,
    /// log2 of the nanoseconds per instruction in the emulator. The firmware's timer relies on it.
    pub icount_shift: u8,
}

/// The firmware of a board, built by `firmware/build.sh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Firmware {
    /// Name of the image for the script.
    pub image: &'static str,
    /// Folder in `firmware/target` for the builds of this image, if it has its own.
    pub folder: Option<&'static str>,
    /// Target triple.
    pub triple: &'static str,
    /// File name: `offshoot-` and the crate's folder in `firmware/boards`.
    pub name: &'static str,
    /// Address of the code memory.
    pub code: u32,
    /// Flash for a model: address and bytes.
    pub model_flash: (u32, u32),
    /// Whether it has a second line for log messages.
    pub logs: bool,
    /// Runtime features that it is built with.
    pub runtime: Runtime,
}

/// Cargo features of the runtime that a firmware is built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// All default features: every operator and number format.
    Whole,
    /// Only these features.
    Features(&'static [&'static str]),
}

impl Runtime {
    /// Whether the firmware has this runtime feature, named as by `Record::features`.
    pub fn has(self, feature: &str) -> bool {
        let Self::Features(list) = self else { return true };
        // The general kernel of a kind can run what a specialised one does.
        let general = match feature.strip_suffix("-positive") {
            Some(kind) => format!("{kind}-signed"),
            None => feature.to_owned(),
        };
        let planar = feature.starts_with("planar-") && list.contains(&"planar-any");
        planar || list.contains(&feature) || list.contains(&general.as_str())
    }
}

/// The feature `small` of `offshoot-app`.
const SMALL: Runtime = Runtime::Features(&[
    "learn",
    "store",
    "op-conv2d",
    "op-depthwise",
    "op-fully-connected",
    "op-pool",
    "op-binary",
    "op-lut",
    "op-softmax",
    "op-copy",
    "op-fill",
    "op-pad",
    "op-reduce",
    "op-argmax",
    "op-quantize",
    "op-dequantize",
    "op-requantize",
    "op-constant",
    "op-conv-tiled",
    "op-depthwise-planar",
    "op-fully-connected-huffman",
    "op-conv-packed",
    "op-conv-winograd",
    "op-conv-single-multiply",
    "single-multiply-wide",
    "op-depthwise-single-multiply",
    "op-fused-rows",
    "op-fully-connected-sparse",
    "op-conv-sparse",
    "pairs-signed",
    "vector",
    "vector-one-scale-signed",
    "planar-any",
    "pool-any",
]);

impl Board {
    /// Bytes of flash that its firmware has for a model file.
    pub const fn flash_bytes(&self) -> u32 {
        self.firmware.model_flash.1
    }
}

/// A QEMU program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emulator {
    /// Its name.
    pub program: &'static str,
    /// Environment variable that overrides it.
    pub variable: &'static str,
    /// Debian package that has it.
    pub package: &'static str,
}

const ARM: Emulator =
    Emulator { program: "qemu-system-arm", variable: "OFFSHOOT_QEMU", package: "qemu-system-arm" };
const RISCV32: Emulator = Emulator {
    program: "qemu-system-riscv32",
    variable: "OFFSHOOT_QEMU_RISCV32",
    package: "qemu-system-misc",
};

/// A processor core, with the properties that matter to kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Core {
    /// Name.
    pub name: &'static str,
    /// Whether it has a single-precision floating-point unit.
    pub fpu: bool,
    /// Whether it has the DSP extension (`SMLAD` and others).
    pub dsp: bool,
    /// Whether it has Helium (the M-profile vector extension).
    pub mve: bool,
}

const fn mps2(name: &'static str, core: Core, machine: &'static str, firmware: Firmware) -> Board {
    Board {
        name,
        core,
        clock_hz: 25_000_000,
        ram_bytes: 1 << 20,
        emulator: ARM,
        machine,
        firmware,
        icount_shift: 6,
    }
}

const AN386: Firmware = Firmware {
    image: "an386",
    folder: None,
    triple: "thumbv7em-none-eabihf",
    name: "offshoot-mps2",
    code: 0,
    model_flash: (0x0010_0000, 3 << 20),
    logs: true,
    runtime: Runtime::Whole,
};
const AN385: Firmware = Firmware { image: "an385", triple: "thumbv7m-none-eabi", ..AN386 };
const AN505: Firmware = Firmware {
    image: "an505",
    folder: Some("an505"),
    triple: "thumbv8m.main-none-eabihf",
    code: 0x1000_0000,
    model_flash: (0x1010_0000, 3 << 20),
    ..AN386
};
const AN547: Firmware =
    Firmware { image: "an547", folder: Some("an547"), code: 0, model_flash: (0x1100_0000, 2 << 20), ..AN505 };
const MICROBIT: Firmware = Firmware {
    image: "microbit",
    folder: Some("microbit"),
    triple: "thumbv6m-none-eabi",
    name: "offshoot-microbit",
    code: 0,
    model_flash: (196 << 10, 60 << 10),
    logs: false,
    runtime: SMALL,
};
const VIRT_RISCV32: Firmware = Firmware {
    image: "virt-riscv32",
    folder: Some("virt-riscv32"),
    triple: "riscv32imac-unknown-none-elf",
    name: "offshoot-virt-riscv32",
    code: 0x8000_0000,
    model_flash: (0x8100_0000, 3 << 20),
    logs: false,
    runtime: Runtime::Whole,
};

/// All boards that have firmware.
pub static BOARDS: [Board; 7] = [
    mps2(
        "qemu:cortex-m4",
        Core { name: "Cortex-M4F", fpu: true, dsp: true, mve: false },
        "mps2-an386",
        AN386,
    ),
    mps2(
        "qemu:cortex-m3",
        Core { name: "Cortex-M3", fpu: false, dsp: false, mve: false },
        "mps2-an385",
        AN385,
    ),
    mps2("qemu:cortex-m7", Core { name: "Cortex-M7", fpu: true, dsp: true, mve: false }, "mps2-an500", AN386),
    Board {
        clock_hz: 20_000_000,
        ..mps2(
            "qemu:cortex-m33",
            Core { name: "Cortex-M33", fpu: true, dsp: true, mve: false },
            "mps2-an505",
            AN505,
        )
    },
    Board {
        name: "qemu:cortex-m55",
        core: Core { name: "Cortex-M55", fpu: true, dsp: true, mve: true },
        clock_hz: 32_000_000,
        ram_bytes: 1 << 20,
        emulator: ARM,
        machine: "mps3-an547",
        firmware: AN547,
        icount_shift: 5,
    },
    Board {
        name: "qemu:cortex-m0",
        core: Core { name: "Cortex-M0", fpu: false, dsp: false, mve: false },
        clock_hz: 16_000_000,
        ram_bytes: 8704,
        emulator: ARM,
        machine: "microbit",
        firmware: MICROBIT,
        icount_shift: 6,
    },
    Board {
        name: "qemu:riscv32",
        core: Core { name: "RV32IMAC", fpu: false, dsp: false, mve: false },
        // One instruction per nanosecond.
        clock_hz: 1_000_000_000,
        ram_bytes: 1 << 20,
        emulator: RISCV32,
        machine: "virt",
        firmware: VIRT_RISCV32,
        icount_shift: 0,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The features that this file claims must be those in the boards' own files.
    #[test]
    fn facts_are_those_of_the_firmware() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../firmware");
        let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
        let app = read("app/Cargo.toml");
        let small = app.split("\nsmall = [").nth(1).unwrap().split(']').next().unwrap();
        let built: Vec<&str> = small.split('"').filter_map(|part| part.strip_prefix("offshoot/")).collect();
        assert!(matches!(SMALL, Runtime::Features(list) if list == built));
        let arena = |path: &str| {
            let text = read(path);
            let line = text.lines().find(|l| l.starts_with("const ARENA: usize = ")).unwrap();
            let value = line.rsplit("= ").next().unwrap().trim_end_matches(';').to_owned();
            match value.split_once(" << ") {
                Some((a, b)) => a.parse::<u32>().unwrap() << b.parse::<u32>().unwrap(),
                None => value.parse().unwrap(),
            }
        };
        for board in &BOARDS {
            let folder = board.firmware.name.trim_start_matches("offshoot-");
            let path = format!("boards/{folder}/src/main.rs");
            assert_eq!(board.ram_bytes, arena(&path), "{}", board.name);
        }
    }

    #[test]
    fn general_kernels_run_what_special_ones_do() {
        for has in ["pairs-positive", "planar-signed", "vector-one-scale-positive", "op-conv2d"] {
            assert!(SMALL.has(has), "{has}");
        }
        for lacks in ["f32", "nested", "op-recurrent", "op-matmul", "sparse-bytes"] {
            assert!(!SMALL.has(lacks) && Runtime::Whole.has(lacks), "{lacks}");
        }
    }

    #[test]
    fn names_and_images_are_told_apart() {
        for (i, a) in BOARDS.iter().enumerate() {
            for b in &BOARDS[..i] {
                assert_ne!(a.name, b.name);
                assert_ne!(a.machine, b.machine);
                assert!(a.firmware.image != b.firmware.image || a.firmware == b.firmware);
            }
        }
    }
}
