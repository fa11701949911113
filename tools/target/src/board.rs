//! Facts about boards.

/// A board that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Board {
    /// Name of the target.
    pub name: &'static str,
    /// Its core.
    pub core: Core,
    /// Clock of the core, Hz, as emulated.
    pub clock_hz: u32,
    /// Bytes of flash (or what stands for it).
    pub flash_bytes: u32,
    /// Bytes of RAM.
    pub ram_bytes: u32,
    /// QEMU's program.
    pub emulator: Emulator,
    /// QEMU's name of the machine.
    pub machine: &'static str,
    /// Its firmware.
    pub firmware: Firmware,
    /// log2 of the nanoseconds that an instruction takes in the emulator; the firmware's timer knows it.
    pub icount_shift: u8,
}

/// The firmware of a board, as `firmware/build.sh` makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Firmware {
    /// What the script calls it.
    pub image: &'static str,
    /// Folder in `firmware/target` where the builds of this image are, if it has one of its own.
    pub folder: Option<&'static str>,
    /// Target triple.
    pub triple: &'static str,
    /// File name.
    pub name: &'static str,
    /// Address of its first instruction's memory.
    pub code: u32,
    /// Flash that is left for a model: address and bytes.
    pub model_flash: (u32, u32),
    /// Has a second line, for log messages.
    pub logs: bool,
}

/// A program of QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emulator {
    /// Its name.
    pub program: &'static str,
    /// Environment variable that names another.
    pub variable: &'static str,
    /// Debian's package.
    pub package: &'static str,
}

const ARM: Emulator =
    Emulator { program: "qemu-system-arm", variable: "OFFSHOOT_QEMU", package: "qemu-system-arm" };
const RISCV32: Emulator = Emulator {
    program: "qemu-system-riscv32",
    variable: "OFFSHOOT_QEMU_RISCV32",
    package: "qemu-system-misc",
};

/// A processor core and what of it matters to kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Core {
    /// Name.
    pub name: &'static str,
    /// Has a single-precision floating-point unit.
    pub fpu: bool,
    /// Has the DSP extension (`SMLAD` and friends).
    pub dsp: bool,
    /// Has Helium (the M-profile vector extension).
    pub mve: bool,
}

const fn mps2(name: &'static str, core: Core, machine: &'static str, firmware: Firmware) -> Board {
    Board {
        name,
        core,
        clock_hz: 25_000_000,
        flash_bytes: 4 << 20,
        ram_bytes: 4 << 20,
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
    model_flash: (184 << 10, 72 << 10),
    logs: false,
};
const VIRT_RISCV32: Firmware = Firmware {
    image: "virt-riscv32",
    folder: Some("virt-riscv32"),
    triple: "riscv32imac-unknown-none-elf",
    name: "offshoot-virt-riscv32",
    code: 0x8000_0000,
    model_flash: (0x8100_0000, 3 << 20),
    logs: false,
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
        // ITCM and the FPGA's SRAM.
        flash_bytes: (512 << 10) + (2 << 20),
        ram_bytes: 4 << 20,
        emulator: ARM,
        machine: "mps3-an547",
        firmware: AN547,
        icount_shift: 5,
    },
    Board {
        name: "qemu:cortex-m0",
        core: Core { name: "Cortex-M0", fpu: false, dsp: false, mve: false },
        clock_hz: 16_000_000,
        flash_bytes: 256 << 10,
        ram_bytes: 16 << 10,
        emulator: ARM,
        machine: "microbit",
        firmware: MICROBIT,
        icount_shift: 6,
    },
    Board {
        name: "qemu:riscv32",
        core: Core { name: "RV32IMAC", fpu: false, dsp: false, mve: false },
        // An instruction a nanosecond.
        clock_hz: 1_000_000_000,
        flash_bytes: 4 << 20,
        ram_bytes: 4 << 20,
        emulator: RISCV32,
        machine: "virt",
        firmware: VIRT_RISCV32,
        icount_shift: 0,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

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
