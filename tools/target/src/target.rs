//! Names of targets.

use crate::chip::{Chip, Found};
use crate::{BOARDS, Board, TargetError, chip};
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
    /// A chip by name: the emulated board with its core stands in for it.
    Chip(&'static Chip),
    /// A chip on a debug probe; not supported yet.
    Probe(String),
}

impl Target {
    /// Parses a target's name.
    ///
    /// # Errors
    /// [`TargetError::Unknown`] if there is no such target, [`TargetError::Ambiguous`] if several chips have such a name.
    pub fn parse(name: &str) -> Result<Self, TargetError> {
        let unknown = || TargetError::Unknown(name.into());
        match name.split_once(':') {
            None if name == "host" => Ok(Self::Host),
            Some(("qemu", _)) => BOARDS.iter().find(|b| b.name == name).map(Self::Qemu).ok_or_else(unknown),
            Some(("serial", port)) if !port.is_empty() => Ok(Self::Serial(port.into())),
            Some(("probe", chip)) if !chip.is_empty() => Ok(Self::Probe(chip.into())),
            None => match chip::find(name) {
                Found::One(chip) => Ok(Self::Chip(chip)),
                Found::Several(chips) => Err(TargetError::Ambiguous {
                    name: name.into(),
                    chips: chips.iter().map(|c| c.name).collect(),
                }),
                Found::None => Err(unknown()),
            },
            _ => Err(unknown()),
        }
    }

    /// The emulated board that runs models for this target, if there is one.
    pub fn board(&self) -> Option<&'static Board> {
        match self {
            Self::Qemu(board) => Some(board),
            Self::Chip(chip) => Some(chip.board()),
            Self::Host | Self::Serial(_) | Self::Probe(_) => None,
        }
    }

    /// Bytes of flash for a model and of RAM for its arena, if they are known before connecting. A chip's own firmware
    /// takes its part of both.
    pub fn memory(&self) -> Option<(u64, u64)> {
        match self {
            Self::Qemu(board) => Some((board.flash_bytes().into(), board.ram_bytes.into())),
            Self::Chip(chip) => Some((chip.flash_bytes, chip.ram_bytes)),
            Self::Host | Self::Serial(_) | Self::Probe(_) => None,
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
            Self::Chip(chip) => f.write_str(chip.name),
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
        for name in ["host", "qemu:cortex-m4", "qemu:cortex-m3", "serial:/dev/ttyACM0", "STM32F411RE"] {
            assert_eq!(Target::parse(name).unwrap().to_string(), name);
        }
    }

    #[test]
    fn a_name_of_several_chips_lists_them() {
        let error = Target::parse("stm32f411").unwrap_err().to_string();
        assert!(error.contains("STM32F411CC") && error.contains("--search"), "{error}");
    }

    #[test]
    fn wrong_names_are_refused_with_advice() {
        for name in ["", "hosts", "qemu", "qemu:", "qemu:cortex-m99", "serial:", "probe:", "usb:1"] {
            let error = Target::parse(name).unwrap_err().to_string();
            assert!(error.contains("target list"), "{error}");
        }
    }
}
