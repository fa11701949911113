//! Targets: devices that run models, and how to reach them.
//!
//! A [`Target`] names a device, [`open`] connects to it, and a [`Device`] runs models: the [`host`], an emulated board
//! ([`qemu`]) or a board on a serial port. The last two speak [`offshoot::wire`] through a [`client::Client`] over a
//! [`transport::Transport`]. All compute the same bits.

pub mod board;
pub mod chip;
pub mod client;
mod client_error;
pub mod cycles;
pub mod device;
pub mod error;
pub mod features;
pub mod firmware;
pub mod host;
#[cfg(feature = "logs")]
mod logs;
pub mod qemu;
pub mod remote;
#[cfg(feature = "serial")]
mod serial;
pub mod session;
mod target;
pub mod transport;

pub use board::{BOARDS, Board, Core, Runtime};
pub use chip::Chip;
pub use device::{Device, DeviceInfo, OperatorProfile, Profile};
pub use error::TargetError;
pub use features::{check_runtime, runtime_features};
pub use host::HostDevice;
pub use qemu::QemuDevice;
pub use remote::RemoteDevice;
pub use session::HostKey;
pub use target::Target;

/// Connects to the device that `target` names. Emulated boards start when a model is loaded.
///
/// # Errors
/// [`TargetError::NotBuiltIn`] for targets that this build does not support, and any failure to connect.
pub fn open(target: &Target) -> Result<Box<dyn Device>, TargetError> {
    open_with(target, None)
}

/// As [`open`], with a host's key for devices that take changes only from its holder.
///
/// # Errors
/// As [`open`].
pub fn open_with(target: &Target, key: Option<Box<dyn HostKey>>) -> Result<Box<dyn Device>, TargetError> {
    // Only a device on a line has use for it.
    #[cfg(not(feature = "serial"))]
    let _ = key;
    Ok(match target {
        Target::Host => Box::new(HostDevice::new()),
        Target::Qemu(board) => Box::new(QemuDevice::new(board)?),
        Target::Chip(chip) => Box::new(QemuDevice::for_chip(chip)?),
        #[cfg(feature = "serial")]
        Target::Serial(port) => {
            let client = client::Client::new(serial::open(port)?);
            Box::new(RemoteDevice::new(match key {
                Some(key) => client.with_host_key(key),
                None => client,
            }))
        }
        #[cfg(not(feature = "serial"))]
        Target::Serial(_) => {
            return Err(TargetError::NotBuiltIn {
                target: target.to_string(),
                help: "build offshoot with `--features serial`".into(),
            });
        }
        Target::Probe(_) => {
            return Err(TargetError::NotBuiltIn {
                target: target.to_string(),
                help: "debug probes are not supported yet: flash the firmware with the board's own tool and use \
                 serial:PORT"
                    .into(),
            });
        }
    })
}
