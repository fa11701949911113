//! The serial line as a stream of messages.

use embedded_io::{Read, Write};
use offshoot::wire::{Event, FrameError, FrameReader, Response, encode};

/// A serial line that carries frames.
pub(crate) struct Link<S> {
    serial: S,
    reader: FrameReader,
}

impl<S: Read + Write> Link<S> {
    pub(crate) fn new(serial: S) -> Self {
        Self { serial, reader: FrameReader::new() }
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
                Event::Bad(e) => return Some(Err(e)),
            }
        }
        Some(Ok(self.reader.payload()))
    }

    /// Sends a message. Encodes it in the reader's memory, because the host sends nothing while it waits. A message
    /// that does not fit a frame is dropped; callers bound their chunks. A failing line is noticed at the next
    /// [`Self::receive`].
    pub(crate) fn send(&mut self, message: &Response<'_>) {
        let memory = self.reader.memory();
        if let Ok(len) = encode(message, memory) {
            let _ = self.serial.write_all(&memory[..len]);
            let _ = self.serial.flush();
        }
    }
}
