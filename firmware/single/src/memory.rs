//! The functions on memory that compiled code calls (Run-time ABI for the Arm architecture, 4.3.4), small: the ones of the
//! compiler's library are made for speed and take 3 kB. Words where both addresses allow it, else bytes.

use core::arch::naked_asm;

/// Defines a function, and names that it has as well.
macro_rules! function {
    ($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*), $also:literal, $($line:literal),* $(,)?) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// As the ABI says.
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        unsafe extern "C" fn $name($($arg: $type),*) {
            naked_asm!($also, $($line),*)
        }
    };
}

function! {
    /// Copies from the front; the places do not overlap.
    __aeabi_memcpy(to: *mut u8, from: *const u8, len: usize),
    ".global __aeabi_memcpy4\n.thumb_set __aeabi_memcpy4, __aeabi_memcpy\n\
     .global __aeabi_memcpy8\n.thumb_set __aeabi_memcpy8, __aeabi_memcpy",
    "orr r3, r0, r1",
    "lsls r3, r3, #30",
    "bne 3f",
    "2:",
    "subs r2, #4",
    "itt hs",
    "ldrhs r3, [r1], #4",
    "strhs r3, [r0], #4",
    "bhs 2b",
    "adds r2, #4",
    "3:",
    "subs r2, #1",
    "itt hs",
    "ldrbhs r3, [r1], #1",
    "strbhs r3, [r0], #1",
    "bhs 3b",
    "bx lr",
}

function! {
    /// Copies; the places may overlap.
    __aeabi_memmove(to: *mut u8, from: *const u8, len: usize),
    ".global __aeabi_memmove4\n.thumb_set __aeabi_memmove4, __aeabi_memmove\n\
     .global __aeabi_memmove8\n.thumb_set __aeabi_memmove8, __aeabi_memmove",
    "cmp r0, r1",
    "bls __aeabi_memcpy",
    "2:",
    "subs r2, #1",
    "itt hs",
    "ldrbhs r3, [r1, r2]",
    "strbhs r3, [r0, r2]",
    "bhs 2b",
    "bx lr",
}

function! {
    /// Fills with zeros.
    __aeabi_memclr(to: *mut u8, len: usize),
    ".global __aeabi_memclr4\n.thumb_set __aeabi_memclr4, __aeabi_memclr\n\
     .global __aeabi_memclr8\n.thumb_set __aeabi_memclr8, __aeabi_memclr",
    "movs r2, #0",
    "b __aeabi_memset",
}

function! {
    /// Fills with a byte, the last argument.
    __aeabi_memset(to: *mut u8, len: usize, byte: u32),
    ".global __aeabi_memset4\n.thumb_set __aeabi_memset4, __aeabi_memset\n\
     .global __aeabi_memset8\n.thumb_set __aeabi_memset8, __aeabi_memset",
    "uxtb r2, r2",
    "orr r2, r2, r2, lsl #8",
    "orr r2, r2, r2, lsl #16",
    "lsls r3, r0, #30",
    "bne 3f",
    "2:",
    "subs r1, #4",
    "it hs",
    "strhs r2, [r0], #4",
    "bhs 2b",
    "adds r1, #4",
    "3:",
    "subs r1, #1",
    "it hs",
    "strbhs r2, [r0], #1",
    "bhs 3b",
    "bx lr",
}
