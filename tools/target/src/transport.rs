//! A line to a device: bytes there and back, with a limit on the wait.

use std::io;
use std::time::Duration;

/// A line to a device.
pub trait Transport {
    /// Sends all bytes.
    ///
    /// # Errors
    /// If the line is broken, or takes no bytes within the time of a write.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Waits for bytes, at most `timeout`; gives how many came, 0 if the line was closed.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] if none came in time; others if the line is broken.
    fn receive(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<usize>;

    /// What to add to an error: why the line may be silent or closed. Empty if there is nothing to say.
    fn diagnosis(&mut self) -> String {
        String::new()
    }
}

/// How long a write may take before the line counts as broken.
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
    /// If the system does not let its time limits be set.
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

/// A socket whose time is up says `WouldBlock` on some systems.
pub(crate) fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}
