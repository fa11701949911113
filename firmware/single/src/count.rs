//! Counts instructions by CMSDK APB timer 0 (Arm DDI 0479, section 4.1). Under `qemu -icount shift=6` an instruction takes 64 ns, and the
//! timer ticks every 40 ns: 8 ticks are 5 instructions.

const CTRL: *mut u32 = 0x4000_0000 as *mut u32;
const VALUE: *mut u32 = 0x4000_0004 as *mut u32;
const RELOAD: *mut u32 = 0x4000_0008 as *mut u32;

/// Begins.
pub(crate) fn start() {
    // SAFETY: registers of a timer that nothing else uses; they have no effect on memory.
    unsafe {
        CTRL.write_volatile(0);
        RELOAD.write_volatile(u32::MAX);
        VALUE.write_volatile(u32::MAX);
        CTRL.write_volatile(1);
    }
}

/// Instructions since the start.
pub(crate) fn instructions() -> u32 {
    // SAFETY: as in `start`.
    let ticks = u32::MAX - unsafe { VALUE.read_volatile() };
    // Fits: there are fewer instructions than ticks.
    (u64::from(ticks) * 5 / 8) as u32
}
