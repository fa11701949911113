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
    /// QEMU's name of the machine.
    pub machine: &'static str,
    /// Target triple of its firmware.
    pub triple: &'static str,
    /// File name of its firmware.
    pub firmware: &'static str,
    /// log2 of the nanoseconds that an instruction takes in the emulator; the firmware's timer knows it.
    pub icount_shift: u8,
}

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

const fn mps2(name: &'static str, core: Core, machine: &'static str, triple: &'static str) -> Board {
    Board {
        name,
        core,
        clock_hz: 25_000_000,
        flash_bytes: 4 << 20,
        ram_bytes: 4 << 20,
        machine,
        triple,
        firmware: "offshoot-mps2",
        icount_shift: 6,
    }
}

/// All boards that have firmware.
pub static BOARDS: [Board; 3] = [
    mps2(
        "qemu:cortex-m4",
        Core { name: "Cortex-M4F", fpu: true, dsp: true, mve: false },
        "mps2-an386",
        "thumbv7em-none-eabihf",
    ),
    mps2(
        "qemu:cortex-m3",
        Core { name: "Cortex-M3", fpu: false, dsp: false, mve: false },
        "mps2-an385",
        "thumbv7m-none-eabi",
    ),
    mps2(
        "qemu:cortex-m7",
        Core { name: "Cortex-M7", fpu: true, dsp: true, mve: false },
        "mps2-an500",
        "thumbv7em-none-eabihf",
    ),
];
