//! The serial line as a stream of messages.

use embedded_io::{Read, Write};
use offshoot::wire::{Event, FrameError, FrameReader, Response, UNNUMBERED, encode};

/// A serial line that carries frames.
pub(crate) struct Link<S> {
    serial: S,
    reader: FrameReader,
    /// Number of the request that is being answered.
    number: u8,
}

impl<S: Read + Write> Link<S> {
    pub(crate) fn new(serial: S) -> Self {
        Self { serial, reader: FrameReader::new(), number: UNNUMBERED }
    }

    /// Waits for the next frame; returns its payload, or what is wrong with it. `None` if the line is closed.
    pub(crate) fn receive(&mut self) -> Option<Result<&[u8], FrameError>> {
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
                    return Some(Err(e));
                }
            }
        }
        let payload = self.reader.payload();
        self.number = payload.get(1).copied().unwrap_or(UNNUMBERED);
        Some(Ok(payload))
    }

    /// Sends an answer to the request that was received last. Encodes it in the reader's memory, because the host sends nothing while it waits. A message
    /// that does not fit a frame is dropped; callers bound their chunks. A failing line is noticed at the next
    /// [`Self::receive`].
    pub(crate) fn send(&mut self, message: &Response<'_>) {
        let memory = self.reader.memory();
        if let Ok(len) = encode(self.number, message, memory) {
            let _ = self.serial.write_all(&memory[..len]);
            let _ = self.serial.flush();
        }
    }
}
