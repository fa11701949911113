//! A serial port as a [`Transport`].

use crate::TargetError;
use crate::transport::{Transport, WRITE_TIMEOUT, timed_out};
use std::io;
use std::time::Duration;

const BAUD: u32 = 115_200;

struct Port(Box<dyn serialport::SerialPort>);

/// Opens `port` (a device file or, on Windows, a COM name) at 115,200 baud, 8N1.
pub(crate) fn open(port: &str) -> Result<impl Transport + 'static, TargetError> {
    serialport::new(port, BAUD)
        .timeout(WRITE_TIMEOUT)
        .open()
        .map(Port)
        .map_err(|e| TargetError::Io { what: format!("serial port {port}"), source: e.into() })
}

impl Transport for Port {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        io::Write::write_all(&mut self.0, bytes)
    }

    fn receive(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<usize> {
        self.0.set_timeout(timeout)?;
        io::Read::read(&mut self.0, buffer).map_err(timed_out)
    }

    fn diagnosis(&mut self) -> String {
        "check that the board is powered and flashed with Offshoot's firmware, and that this is its port"
            .into()
    }
}
