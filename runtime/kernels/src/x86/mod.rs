//! AVX2, with VNNI products (AVX-VNNI, AVX512-VNNI) where the processor has them.
//!
//! The kernels avoid `pmaddubsw`, which saturates. Products of int16 are exact for all inputs, and so are dot products
//! of bytes with one operand moved to the unsigned range; so the kernels are exact too.

#![allow(unsafe_code)]

mod avx2;
mod detect;

use super::wide::{DotJob, Job};
pub(crate) use detect::Level;
use detect::level;

#[cfg(any(test, feature = "testing"))]
pub(crate) use detect::{FORCED, levels};

/// Runs a job on the best instruction set; returns `false` and computes nothing if there is none.
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

/// Runs a job on dot products of bytes; returns `false` and computes nothing if the processor has none or the job does
/// not take its input.
pub(crate) fn dispatch_dot<J: DotJob>(job: J) -> bool {
    match level() {
        Level::None | Level::Avx2 => false,
        // SAFETY: the processor has it.
        Level::AvxVnni => unsafe { dot_with_avx_vnni(job) },
        // SAFETY: the processor has it.
        Level::Avx512Vnni => unsafe { dot_with_avx512_vnni(job) },
    }
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

#[target_feature(enable = "avx2,avxvnni")]
fn dot_with_avx_vnni<J: DotJob>(job: J) -> bool {
    // SAFETY: this function is only called where the processor has it.
    job.run(unsafe { avx2::AvxVnni::new() })
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
fn dot_with_avx512_vnni<J: DotJob>(job: J) -> bool {
    // SAFETY: this function is only called where the processor has it.
    job.run(unsafe { avx2::Avx512Vnni::new() })
}
