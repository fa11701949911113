//! Errors of the communication with a device.

use offshoot::wire::{Failure, FrameError};

/// Error of the communication with a device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The device did not answer in time.
    #[error("the device did not answer `{request}` within {seconds} s{}", because(.diagnosis))]
    Timeout {
        /// The request.
        request: &'static str,
        /// Seconds that the host waited.
        seconds: f32,
        /// Possible cause; may be empty.
        diagnosis: String,
    },
    /// The line is closed or broken.
    #[error("the line to the device broke at `{request}`: {reason}{}", because(.diagnosis))]
    Line {
        /// The request.
        request: &'static str,
        /// The system's error.
        reason: String,
        /// Possible cause; may be empty.
        diagnosis: String,
    },
    /// The answer is not a message of this protocol.
    #[error(
        "the device's answer to `{request}` cannot be read: {error}. Check that offshoot and the firmware have \
         the same version"
    )]
    Frame {
        /// The request.
        request: &'static str,
        /// Why it cannot be read.
        error: FrameError,
    },
    /// The answer does not belong to the request.
    #[error("the device answered `{request}` with {answer}")]
    Unexpected {
        /// The request.
        request: &'static str,
        /// The answer.
        answer: String,
    },
    /// The device refused the request.
    #[error("the device refused `{request}`: {failure}")]
    Refused {
        /// The request.
        request: &'static str,
        /// The device's reason.
        failure: Failure,
    },
    /// The answer does not belong to the session, or not to this device.
    #[error(
        "the answer to `{request}` is not this device's in this session: something on the line answers in its place"
    )]
    NotBound {
        /// The request.
        request: &'static str,
    },
    /// The device does not hold the bytes that were sent.
    #[error("the device holds another model than the one sent (checksum {device:#010x}, sent {sent:#010x})")]
    OtherModel {
        /// Checksum of the device's bytes.
        device: u32,
        /// Checksum of the bytes sent.
        sent: u32,
    },
}

fn because(diagnosis: &str) -> String {
    if diagnosis.is_empty() { String::new() } else { format!(": {diagnosis}") }
}
