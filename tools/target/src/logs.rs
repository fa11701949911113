//! Prints the log of an emulated board on stderr: defmt frames from its second UART, decoded by the firmware's ELF
//! file.

use crate::TargetError;
use crate::transport::Transport;
use crate::transport::UnixSocket;
use defmt_decoder::{DecodeError, Table};
use std::io;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::{fs, thread};

/// The thread that prints the log. It ends with the emulator.
#[derive(Debug)]
pub(crate) struct Logs;

impl Logs {
    /// Adds the second UART to QEMU's `command`. Does nothing if the firmware was built without a log.
    pub(crate) fn attach(
        firmware: &Path,
        folder: &Path,
        command: &mut Command,
    ) -> Result<Option<Self>, TargetError> {
        let elf = fs::read(firmware).map_err(TargetError::io(firmware.display().to_string()))?;
        let table = Table::parse(&elf)
            .map_err(|e| TargetError::Elf { path: firmware.into(), reason: format!("its log table: {e}") })?;
        let Some(table) = table else { return Ok(None) };
        let path = folder.join("uart1");
        let listener = UnixListener::bind(&path).map_err(TargetError::io(path.display().to_string()))?;
        command.arg("-chardev").arg(format!("socket,id=uart1,path={}", path.display()));
        command.args(["-serial", "chardev:uart1"]);
        thread::spawn(move || {
            // The log is optional: a failure to connect is ignored.
            if let Ok(line) = listener.accept().and_then(|(stream, _)| UnixSocket::new(stream)) {
                let _ = print(&table, line);
            }
        });
        Ok(Some(Self))
    }
}

fn print(table: &Table, mut line: UnixSocket) -> io::Result<()> {
    const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);
    let mut decoder = table.new_stream_decoder();
    let mut buffer = [0; 1024];
    loop {
        let len = line.receive(&mut buffer, FOREVER)?;
        if len == 0 {
            return Ok(());
        }
        decoder.received(&buffer[..len]);
        loop {
            match decoder.decode() {
                Ok(frame) => {
                    let level = frame.level().map_or("log", |level| level.as_str());
                    eprintln!("device {level}: {}", frame.display_message());
                }
                Err(DecodeError::UnexpectedEof) => break,
                Err(DecodeError::Malformed) if table.encoding().can_recover() => {}
                Err(DecodeError::Malformed) => return Ok(()),
            }
        }
    }
}
