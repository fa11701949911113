//! The serial line as a stream of messages.

use crate::guard::{Bond, Guard};
use embedded_io::{Read, Write};
use offshoot::wire::{
    ErrorCode, Event, Failure, FrameError, FrameReader, PROTOCOL_VERSION, Request, Response, UNNUMBERED,
};

/// A serial line that carries frames.
pub(crate) struct Link<S> {
    serial: S,
    reader: FrameReader,
    /// Number of the request that is being answered.
    number: u8,
    /// What else its answers belong to.
    bond: Bond,
}

impl<S: Read + Write> Link<S> {
    pub(crate) fn new(serial: S) -> Self {
        Self { serial, reader: FrameReader::new(), number: UNNUMBERED, bond: Bond::NONE }
    }

    /// Waits for the next request that the guard admits. Damaged frames, other protocol versions and what the guard refuses are
    /// failures to report. `learned`: a learned state is being taken. `None` if the line is closed.
    pub(crate) fn receive(
        &mut self,
        guard: &mut Guard<'_>,
        learned: bool,
    ) -> Option<Result<Request<'_>, Failure>> {
        self.bond = Bond::NONE;
        loop {
            // One byte at a time: a frame may end at any byte, and what follows belongs to the next frame.
            let mut byte = [0];
            match self.serial.read(&mut byte) {
                Ok(1) => {}
                _ => return None,
            }
            match self.reader.push(byte[0]) {
                Event::Pending => {}
                Event::Frame => break,
                Event::Bad(e) => {
                    self.number = UNNUMBERED;
                    return Some(Err(failure(e)));
                }
            }
        }
        let payload = self.reader.payload();
        self.number = payload.get(1).copied().unwrap_or(UNNUMBERED);
        let (bond, request) = guard.admit(payload, learned);
        self.bond = bond;
        Some(request)
    }

    /// Sends an answer to the request that was received last. Encodes it in the reader's memory, because the host sends nothing while it waits. A message
    /// that does not fit a frame is dropped; callers bound their chunks. A failing line is noticed at the next
    /// [`Self::receive`].
    pub(crate) fn send(&mut self, message: &Response<'_>) {
        self.bond.send(&mut self.serial, self.number, message, self.reader.memory());
    }
}

/// Sends the front of `memory`, if a message was encoded there.
pub(crate) fn send_frame<S: Write>(serial: &mut S, encoded: Result<usize, FrameError>, memory: &[u8]) {
    if let Ok(len) = encoded {
        let _ = serial.write_all(&memory[..len]);
        let _ = serial.flush();
    }
}

/// What a host is told about a frame that cannot be read.
pub(crate) fn failure(error: FrameError) -> Failure {
    match error {
        FrameError::Version(_) | FrameError::Message => {
            Failure::new(ErrorCode::Protocol, PROTOCOL_VERSION.into())
        }
        FrameError::TooLong | FrameError::Framing | FrameError::Checksum => Failure::new(ErrorCode::Frame, 0),
    }
}
