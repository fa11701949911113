//! A line in memory between a device and a host.

use std::sync::mpsc::{Receiver, Sender, channel};

use embedded_io::{ErrorType, Read, Write};
use offshoot_app::{Clock, CountUnit};

/// One end of a line; a read ends when the other end is gone.
pub(crate) struct End {
    pub(crate) to: Sender<u8>,
    pub(crate) from: Receiver<u8>,
}

impl ErrorType for End {
    type Error = embedded_io::ErrorKind;
}

impl Read for End {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        match (self.from.recv(), buffer.first_mut()) {
            (Ok(byte), Some(to)) => {
                *to = byte;
                Ok(1)
            }
            _ => Ok(0),
        }
    }
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        let sent = bytes.iter().try_for_each(|&byte| self.to.send(byte));
        sent.map(|()| bytes.len()).map_err(|_| embedded_io::ErrorKind::BrokenPipe)
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// A clock that stands still.
pub(crate) struct NoClock;

impl Clock for NoClock {
    const UNIT: CountUnit = CountUnit::None;

    fn restart(&mut self) {}

    fn now(&self) -> u32 {
        0
    }

    fn between(&self, _: u32, _: u32) -> u32 {
        0
    }
}

/// The two ends of a line.
pub(crate) fn line() -> (End, End) {
    let (to_device, from_host) = channel();
    let (to_host, from_device) = channel();
    (End { to: to_host, from: from_host }, End { to: to_device, from: from_device })
}
