//! A line to a device: sends and receives bytes, with time limits.

use std::io;
use std::time::Duration;

/// A line to a device.
pub trait Transport {
    /// Sends all bytes.
    ///
    /// # Errors
    /// The line is broken, or accepts no bytes within the write's time limit.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Waits for bytes, at most `timeout`; returns how many were received, 0 if the line was closed.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] if none came in time; other kinds if the line is broken.
    fn receive(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<usize>;

    /// Possible cause for a silent or closed line, to add to an error; empty if unknown.
    fn diagnosis(&mut self) -> String {
        String::new()
    }
}

/// Time limit of a write; after that the line counts as broken.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// A Unix socket as a line.
#[cfg(unix)]
#[derive(Debug)]
pub struct UnixSocket(std::os::unix::net::UnixStream);

#[cfg(unix)]
impl UnixSocket {
    /// Takes a connected socket.
    ///
    /// # Errors
    /// The system does not allow setting its time limits.
    pub fn new(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(Self(stream))
    }
}

#[cfg(unix)]
impl Transport for UnixSocket {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        io::Write::write_all(&mut self.0, bytes)
    }

    fn receive(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<usize> {
        self.0.set_read_timeout(Some(timeout.max(Duration::from_millis(1))))?;
        io::Read::read(&mut self.0, buffer).map_err(timed_out)
    }
}

/// On some systems, a socket's timeout is reported as `WouldBlock`.
pub(crate) fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}
