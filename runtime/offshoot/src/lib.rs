//! Runs neural networks on microcontrollers, and lets them learn there.
//!
//! Offshoot compiles an ONNX network on a computer to one compact `.off` file. This crate runs that file: on the device,
//! and on the computer bit for bit the same. It is `no_std`, has no allocator and no global state, and int8 arithmetic is
//! TensorFlow Lite Micro's to the byte.
//!
//! # The first answer
//!
//! ```sh
//! offshoot compile model.onnx --calib samples.npy -o model.off
//! ```
//!
//! ```
//! // The file becomes a part of the program. Its sizes are constants.
//! offshoot::include_model!(Vibration, "../examples/data/vibration.off");
//!
//! let mut arena = offshoot::Arena::<{ Vibration::ARENA_BYTES }>::new();
//! let mut engine = Vibration::engine(&mut arena)?;
//!
//! let readings = [128.0; Vibration::INPUTS[0].elements()]; // from the sensor
//! engine.write_input_f32(0, &readings)?;
//! engine.run()?;
//! println!("class {}", engine.top1(0)?);
//! # Ok::<(), offshoot::Error>(())
//! ```
//!
//! [`include_model!`] embeds the file, [`Arena`] is the memory, [`Engine`] runs the network. The examples of this crate do the same
//! on real data: `hello`, `float`, `two_models`, `sub_networks`, `learn`; `firmware/examples/hello` does it on a Cortex-M4.
//!
//! A file that is not in the program (read from external flash, received over a wire) is opened with [`Model::open`] from bytes that
//! begin at a multiple of 16. Either way it is checked whole, once: whatever the bytes are, the answer is a [`Model`] or
//! an [`Error`], and a model that opened neither panics nor fails.
//!
//! # Inputs and outputs
//!
//! | call | for |
//! |---|---|
//! | [`Engine::write_input_f32`], [`Engine::read_output_f32`] | real numbers; int8 tensors are quantised by the file's scale and zero point |
//! | [`Engine::input_i8_mut`], [`Engine::output_i8`] | int8 tensors as they lie in memory, no copy |
//! | [`Engine::input_mut`], [`Engine::output`] | bytes of whatever type |
//! | [`Engine::top1`] | the class with the largest score |
//!
//! Tensors are channels-last (`[1, height, width, channels]`), whatever the ONNX file had; [`Model::input`] and `INPUTS` of
//! `include_model!` give a [`TensorInfo`] with shape, type and scale. A run overwrites its inputs: write them before every run.
//!
//! # Memory
//!
//! Everything mutable lies in one arena that you hand over. How large it must be is a number in the file, planned to the byte when the model
//! was compiled: `ARENA_BYTES` of `include_model!`, or [`Model::arena_bytes`]. Weights stay in flash. Two models that take turns
//! share an arena as large as the larger of them; several networks of one file share weights too, and [`Engine::select`] goes from
//! one to another. Put the arena in a static: it is usually larger than the stack.
//!
//! # Learning
//!
//! A model that was compiled with a learning plan learns on the device, one labelled sample at a time, in little more RAM than
//! inference takes beside the weights that learn: [`Engine::learn`]. The module [`learning`] has the guide, and [`heads`] the
//! classifiers that can learn on a network's features or on yours.
//!
//! # Flash
//!
//! [`store`] keeps what was learned in a range of NOR flash, on the `embedded-storage` traits: a journal that survives a power cut
//! at any moment and wears its pages evenly.
//!
//! ```
//! # #[cfg(feature = "store")] {
//! use offshoot::store::{RamFlash, Store};
//!
//! let mut pages = [0xff; 8 << 10]; // on a device: the driver of its flash, a `NorFlash`
//! let mut store = Store::open(RamFlash::new(&mut pages), 0..8 << 10)?;
//! # let learned = [7; 100];
//! let digest = 0x1234; // tells models apart: `wire::crc32` of the model's file
//! store.save(digest, &[&learned])?; // `Engine::learned`
//!
//! let mut back = [0; 100];
//! assert_eq!(store.load(digest, &mut back)?, Some(1)); // in `Engine::restore_with`
//! assert_eq!(back, learned);
//! # }
//! # Ok::<(), offshoot::store::Error<offshoot::store::nor_flash::NorFlashErrorKind>>(())
//! ```
//!
//! The network itself costs the flash of its file and of the operators that it uses. To link only those, switch
//! default features off and name them; `offshoot inspect model.off --json` lists them as `runtime_features`:
//!
//! ```toml
//! offshoot = { version = "0.1", default-features = false, features = ["op-conv2d", "op-softmax"] }
//! ```
//!
//! A file that needs something that is not linked is refused when it is opened ([`Error::UnknownOperator`], [`Error::Requires`]).
//!
//! # Cargo features
//!
//! | feature | default | what |
//! |---|---|---|
//! | `all-ops` | yes | every operator; each is a feature of its own, `op-…` |
//! | `f32` | yes | operators on float32 |
//! | `learn` | yes | models that learn |
//! | `nested` | yes | files of several networks |
//! | `store` | yes | learned weights in flash |
//! | `arm-dsp` | no | the kernels in assembly on Armv8-M cores with the DSP extension (Armv7E-M always has them) |
//! | `defmt` | no | `defmt::Format` for errors and messages |
//! | `std` | no | for the host tools |
//!
//! # Profiling and debugging
//!
//! [`Engine::run_with`] calls an [`Observer`] around every operator: `offshoot profile` and `offshoot verify` count instructions
//! and compare tensors with it, over the protocol in [`wire`]: requests and responses in frames that find their way back after noise.
//!
//! ```
//! use offshoot::wire::{self, Event, FrameReader, Request};
//!
//! let mut frame = [0; wire::FRAME_MAX];
//! let len = wire::encode(&Request::Hello, &mut frame)?;
//! let mut reader = FrameReader::new();
//! for byte in &frame[..len] {
//!     if reader.push(*byte) == Event::Frame {
//!         assert_eq!(wire::decode::<Request>(reader.payload())?, Request::Hello);
//!     }
//! }
//! # Ok::<(), wire::FrameError>(())
//! ```

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod arena;
pub mod heads;
#[doc(hidden)]
pub mod include;
pub mod learning;
mod tensor;

pub use arena::Arena;
pub use engine::Engine;
pub use model::Model;
/// ```
/// use offshoot::{Error, Model};
///
/// assert_eq!(Model::open(b"PK..").unwrap_err(), Error::NotOff);
/// println!("{}", Error::Alignment);
/// ```
#[doc(inline)]
pub use offshoot_base::Error;
#[doc(inline)]
pub use offshoot_base::Rule;
#[doc(inline)]
pub use offshoot_format::record::DType;
/// ```
/// # offshoot::include_model!(Vibration, concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/vibration.off"));
/// let input = Vibration::INPUTS[0];
/// assert_eq!(input.dtype, offshoot::DType::I8);
/// assert_eq!((input.shape(), input.elements()), (&[1, 1, 128, 3][..], 384));
/// assert!(input.scale > 0.0);
/// ```
#[doc(inline)]
pub use offshoot_format::record::IoRepr as TensorInfo;
#[cfg(feature = "store")]
#[doc(inline)]
pub use offshoot_store as store;
#[doc(inline)]
pub use offshoot_wire as wire;
pub use trace::{Observer, OpInfo};

// The host's tools need these as well.
#[doc(hidden)]
pub mod engine;
#[doc(hidden)]
pub mod model;
#[doc(hidden)]
pub mod trace;
#[doc(hidden)]
pub use model as graph;
#[doc(hidden)]
pub use {
    offshoot_base as base, offshoot_format as format, offshoot_kernels as kernels, offshoot_learn as learn,
    offshoot_operators as operators,
};
