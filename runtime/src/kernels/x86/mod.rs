//! AVX2, and with it the dot products of int16 (AVX-VNNI, AVX512-VNNI) where the processor has them.
//!
//! `pmaddubsw` saturates and int8 dot products take one operand unsigned; products of int16 are exact for all inputs,
//! and so are the kernels.

#![allow(unsafe_code)]

mod avx2;
mod detect;

use super::wide::Job;
use detect::{Level, level};

#[cfg(test)]
pub(crate) use detect::{FORCED, levels};

/// Runs a job on the best instruction set; `false`, and nothing is done, if there is none.
pub(crate) fn dispatch<J: Job>(job: J) -> bool {
    match level() {
        Level::None => return false,
        // SAFETY: the processor has it.
        Level::Avx2 => unsafe { with_avx2(job) },
        // SAFETY: the processor has it.
        Level::AvxVnni => unsafe { with_avx_vnni(job) },
        // SAFETY: the processor has it.
        Level::Avx512Vnni => unsafe { with_avx512_vnni(job) },
    }
    true
}

#[target_feature(enable = "avx2")]
fn with_avx2<J: Job>(job: J) {
    // SAFETY: this function is only called where the processor has it.
    job.run(unsafe { avx2::Avx2::new() });
}

#[target_feature(enable = "avx2,avxvnni")]
fn with_avx_vnni<J: Job>(job: J) {
    // SAFETY: this function is only called where the processor has it.
    job.run(unsafe { avx2::AvxVnni::new() });
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
fn with_avx512_vnni<J: Job>(job: J) {
    // SAFETY: this function is only called where the processor has it.
    job.run(unsafe { avx2::Avx512Vnni::new() });
}
