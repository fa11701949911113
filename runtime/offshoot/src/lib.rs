//! Runs neural networks on microcontrollers, and lets them go on learning there.
//!
//! The `offshoot` tool compiles an ONNX network on a computer into one compact `.off` file. This crate runs that file,
//! with the same bits on the device and on the computer. It is `no_std` and has no allocator and no global state. Its
//! int8 arithmetic matches TensorFlow Lite Micro to the byte.
//!
//! # Quick start
//!
//! ```sh
//! cargo install --path tools/cli # in the repository: the `offshoot` tool
//! offshoot compile model.onnx --calib samples.npy -o model.off
//! ```
//!
//! ```
//! // Embeds the file in the program. Its sizes are constants.
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
//! [`include_model!`] embeds the file, [`Arena`] provides the memory, and [`Engine`] runs the network. The examples of
//! this crate (`hello`, `float`, `two_models`, `sub_networks`, `learn`, `paced`) do the same on real data;
//! `firmware/examples/hello` does it on a Cortex-M4.
//!
//! To use a file that is not part of the program (read from external flash, received over a wire), pass its bytes to
//! [`Model::open`]; they must begin at a multiple of 16, as those of an [`Arena`] do (on a host with the feature `std`:
//! `AlignedBytes`). Both ways validate the whole file once. Any bytes give either
//! a [`Model`] or an [`Error`]; a model that opened never panics or fails later.
//!
//! # Inputs and outputs
//!
//! | call | for |
//! |---|---|
//! | [`Engine::write_input_f32`], [`Engine::read_output_f32`] | real numbers; int8 tensors are quantised by the file's scale and zero point |
//! | [`Engine::write_input_u8`] | numbers from 0 to 255, as a camera gives them |
//! | [`Engine::input_i8_mut`], [`Engine::output_i8`] | int8 tensors in the arena, without a copy |
//! | [`Engine::input_mut`], [`Engine::output`] | raw bytes of any type |
//! | [`Engine::class`] | the class: that of the classifier head once it has learned, else the network's |
//! | [`Engine::top1`] | the index of the largest element of an output |
//!
//! Tensors are channels-last (`[1, height, width, channels]`), whatever the layout of the ONNX file. [`Model::input`]
//! and the `INPUTS` of `include_model!` give a [`TensorInfo`] with shape, type and scale. A run overwrites its inputs:
//! write them before every run.
//!
//! # Memory
//!
//! All mutable memory is one arena that the caller provides. The compiler plans it to the byte and stores its size in
//! the file: `ARENA_BYTES` of `include_model!`, or [`Model::arena_bytes`]. Weights stay in flash. Two models that run
//! in turn can share an arena of the larger size. Several networks in one file share their weights too;
//! [`Engine::select`] switches between them. Put the arena in a static: it is usually larger than the stack.
//!
//! # Time
//!
//! The work of a run does not depend on the data, and the runtime has no critical section. Where a whole run is too long
//! between two chances to do something else, [`Engine::steps`] computes it in pieces, and [`Engine::run_async`] gives way
//! to other tasks.
//!
//! # Learning
//!
//! A model compiled with a learning plan learns on the device, one labelled sample at a time ([`Engine::learn`]).
//! Beyond inference it needs RAM for the weights that learn and a small workspace. The module [`learning`] is the
//! guide; [`heads`] has the classifiers that learn on a network's features or on your own.
//!
//! # Flash
//!
//! [`store`] keeps learned weights in a range of NOR flash, through the `embedded-storage` traits. It is a journal that
//! survives a power cut at any moment and levels wear over its pages.
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
//! Pages that fail are passed over, also after a reset. With the feature `slots` the module `store::slots` replaces models: a new one is
//! written beside the one that runs, tried, and kept or given up. The guide's page *Update a model in the field* shows how.
//!
//! In flash, a network costs its file and the operators it uses. To link only those, disable the default features and
//! name the operators; `offshoot inspect model.off --json` lists them as `runtime_features`:
//!
//! ```toml
//! offshoot = { version = "0.1", default-features = false, features = ["op-conv2d", "op-softmax"] }
//! ```
//!
//! (The names above are an example: paste those of your file.) Opening a file that needs a feature that is not linked returns [`Error::UnknownOperator`] or [`Error::Requires`].
//!
//! # Cargo features
//!
//! | feature | default | what |
//! |---|---|---|
//! | `all-ops` | yes | every operator; each also has its own feature `op-…` |
//! | `f32` | yes | operators on float32 |
//! | `learn` | yes | models that learn |
//! | `nested` | yes | files with several networks |
//! | `store` | yes | learned weights in flash |
//! | `slots` | no | two slots in flash for models, and deltas between their versions (`store::slots`) |
//! | `signed` | no | only signed models open, commands need a host key, learned weights are bound to their model; it takes the other ways away |
//! | `clear-scratch` | yes | the same bits on every target even for files that no exporter writes; see FORMAT.md |
//! | `arm-mve` | no | assembly kernels on Armv8.1-M cores with Helium (Cortex-M55, M85) |
//! | `arm-dsp` | no | assembly kernels on Armv8-M cores with the DSP extension (Armv7E-M always uses them) |
//! | `defmt` | no | `defmt::Format` for errors and messages |
//! | `std` | no | `AlignedBytes`: files and arenas on the heap of a host |
//!
//! # Profiling and debugging
//!
//! [`Engine::run_with`] calls an [`Observer`] around every operator. `offshoot profile` and `offshoot verify` use it to
//! count instructions and compare tensors over the protocol in [`wire`]: requests and responses in frames that
//! resynchronise after noise.
//!
//! ```
//! use offshoot::wire::{self, Event, FrameReader, Request};
//!
//! let mut frame = [0; wire::FRAME_MAX];
//! let len = wire::encode(1, &Request::Hello, &mut frame)?;
//! let mut reader = FrameReader::new();
//! for byte in &frame[..len] {
//!     if reader.push(*byte) == Event::Frame {
//!         assert_eq!(wire::decode::<Request>(reader.payload())?, (1, Request::Hello));
//!     }
//! }
//! # Ok::<(), wire::FrameError>(())
//! ```

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

#[cfg(feature = "std")]
mod aligned;
mod arena;
pub mod detect;
pub mod heads;
#[doc(hidden)]
pub mod include;
pub mod learning;
#[cfg(feature = "store")]
mod release_counter;
mod tensor;

#[cfg(feature = "std")]
pub use aligned::AlignedBytes;
pub use arena::Arena;
pub use engine::{Engine, Steps};
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
#[cfg(feature = "signed")]
mod open_error;
#[cfg(feature = "signed")]
#[doc(inline)]
pub use offshoot_sign as sign;
#[cfg(feature = "store")]
#[doc(inline)]
pub use offshoot_store as store;
#[doc(inline)]
pub use offshoot_wire as wire;
#[cfg(feature = "signed")]
pub use open_error::OpenError;
#[cfg(feature = "store")]
pub use release_counter::ReleaseCounter;
pub use trace::{Observer, OpInfo};

// Used by the host tools.
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
