//! Names of targets.

use crate::{BOARDS, Board, TargetError};
use std::fmt;

/// Where a model runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// This machine, with the same runtime.
    Host,
    /// A board that QEMU emulates.
    Qemu(&'static Board),
    /// A board on a serial port.
    Serial(String),
    /// A chip on a debug probe; not supported yet.
    Probe(String),
}

impl Target {
    /// Parses a target's name.
    ///
    /// # Errors
    /// [`TargetError::Unknown`] if there is no such target.
    pub fn parse(name: &str) -> Result<Self, TargetError> {
        let unknown = || TargetError::Unknown(name.into());
        match name.split_once(':') {
            None if name == "host" => Ok(Self::Host),
            Some(("qemu", _)) => BOARDS.iter().find(|b| b.name == name).map(Self::Qemu).ok_or_else(unknown),
            Some(("serial", port)) if !port.is_empty() => Ok(Self::Serial(port.into())),
            Some(("probe", chip)) if !chip.is_empty() => Ok(Self::Probe(chip.into())),
            _ => Err(unknown()),
        }
    }
}

impl std::str::FromStr for Target {
    type Err = TargetError;

    fn from_str(name: &str) -> Result<Self, TargetError> {
        Self::parse(name)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Qemu(board) => f.write_str(board.name),
            Self::Serial(port) => write!(f, "serial:{port}"),
            Self::Probe(chip) => write!(f, "probe:{chip}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_were() {
        for name in ["host", "qemu:cortex-m4", "qemu:cortex-m3", "serial:/dev/ttyACM0", "probe:STM32L4R5"] {
            assert_eq!(Target::parse(name).unwrap().to_string(), name);
        }
    }

    #[test]
    fn wrong_names_are_refused_with_advice() {
        for name in ["", "hosts", "qemu", "qemu:", "qemu:cortex-m99", "serial:", "probe:", "usb:1"] {
            let error = Target::parse(name).unwrap_err().to_string();
            assert!(error.contains("target list"), "{error}");
        }
    }
}
