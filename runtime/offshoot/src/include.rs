//! [`crate::include_model!`]: embeds a network in the program.

/// Embeds a compiled network in the program, aligned for the runtime, as a type that knows its shapes and sizes at
/// compile time.
///
/// `include_model!(pub Keywords, "keywords.off")` defines a type `Keywords` with
///
/// | item | what |
/// |---|---|
/// | `ARENA_BYTES: usize` | bytes of arena that a run needs: `Arena<{ Keywords::ARENA_BYTES }>` |
/// | `INPUTS`, `OUTPUTS` | arrays of [`TensorInfo`](crate::TensorInfo): shapes, types, scales |
/// | `bytes()` | the file's bytes |
/// | `open()` | the validated [`Model`](crate::Model) |
/// | `engine(&mut arena)` | opens the model and binds it to an arena: an [`Engine`](crate::Engine) |
///
/// With the feature `signed` the file must be signed, and `open(&trust)` and `engine(&trust, &mut arena)` verify it first.
///
/// Without a name, as in `include_model!("model.off")`, the type is called `Model`. Attributes before the name apply to
/// the static that holds the bytes, such as `#[unsafe(link_section = ".model")]`.
///
/// The path is relative to the calling file, as for [`include_bytes!`]. Use `concat!(env!("OUT_DIR"), "/model.off")`
/// for a file written by a build script (`offshoot-build` compiles an ONNX there). It is a compile error if the file is
/// not an `.off` file or has a format version that this runtime does not read.
///
/// ```
/// offshoot::include_model!(Vibration, "../examples/data/vibration.off");
///
/// let mut arena = offshoot::Arena::<{ Vibration::ARENA_BYTES }>::new();
/// let mut engine = Vibration::engine(&mut arena)?;
/// engine.write_input_f32(0, &[128.0; Vibration::INPUTS[0].elements()])?;
/// engine.run()?;
/// assert_eq!(Vibration::OUTPUTS[0].shape(), [1, 5]);
/// println!("state {}", engine.top1(0)?);
/// # Ok::<(), offshoot::Error>(())
/// ```
///
/// ```compile_fail
/// offshoot::include_model!(Manifest, concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")); // not an .off file
/// ```
#[macro_export]
macro_rules! include_model {
    ($(#[$attribute:meta])* $vis:vis $name:ident, $path:expr $(,)?) => {
        #[doc = concat!("The network `", $path, "`.")]
        #[derive(Clone, Copy, Debug)]
        $vis struct $name;

        #[allow(dead_code, unreachable_pub)]
        impl $name {
            /// Bytes of arena that a run needs.
            pub const ARENA_BYTES: usize = $crate::include::arena_bytes($crate::include::network(include_bytes!($path)));
            /// The inputs, in order.
            pub const INPUTS: [$crate::TensorInfo; $crate::include::tensor_counts($crate::include::network(include_bytes!($path))).0] =
                $crate::include::tensors($crate::include::network(include_bytes!($path)), 0);
            /// The outputs, in order.
            pub const OUTPUTS: [$crate::TensorInfo; $crate::include::tensor_counts($crate::include::network(include_bytes!($path))).1] =
                $crate::include::tensors($crate::include::network(include_bytes!($path)), Self::INPUTS.len());

            /// The file's bytes, aligned to 16.
            #[inline]
            pub fn bytes() -> &'static [u8] {
                $(#[$attribute])*
                static FILE: $crate::include::Aligned<{ include_bytes!($path).len() }> =
                    $crate::include::Aligned(*include_bytes!($path));
                &FILE.0
            }

            $crate::__open_model!();
        }
    };
    ($path:expr $(,)?) => {
        $crate::include_model!(Model, $path);
    };
}

/// The functions of [`crate::include_model!`] that open the file. What follows depends on this crate's features, and a macro sees those of
/// the crate that calls it.
#[cfg(not(feature = "signed"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __open_model {
    () => {
        /// Validates the file.
        ///
        /// # Errors
        /// The file is damaged, or needs a feature that this build of the runtime lacks.
        #[inline]
        pub fn open() -> ::core::result::Result<$crate::Model<'static>, $crate::Error> {
            $crate::Model::open(Self::bytes())
        }

        /// Validates the file and binds it to an arena of at least `ARENA_BYTES`.
        ///
        /// # Errors
        /// As `open`, and as [`Engine::new`]($crate::Engine::new).
        #[inline]
        pub fn engine(
            arena: &mut [u8],
        ) -> ::core::result::Result<$crate::Engine<'static, '_>, $crate::Error> {
            $crate::Engine::new(Self::open()?, arena)
        }
    };
}

/// As above, for signed files.
#[cfg(feature = "signed")]
#[doc(hidden)]
#[macro_export]
macro_rules! __open_model {
    () => {
        /// Verifies and validates the file.
        ///
        /// # Errors
        /// The device does not trust the file, or it is damaged, or needs a feature that this build of the runtime lacks.
        #[inline]
        pub fn open(
            trust: &$crate::sign::Trust<'_>,
        ) -> ::core::result::Result<$crate::Model<'static>, $crate::OpenError> {
            Ok($crate::Model::open($crate::sign::verify(Self::bytes(), trust)?)?)
        }

        /// Verifies and validates the file and binds it to an arena of at least `ARENA_BYTES`.
        ///
        /// # Errors
        /// As `open`, and as [`Engine::new`]($crate::Engine::new).
        #[inline]
        pub fn engine<'a>(
            trust: &$crate::sign::Trust<'_>,
            arena: &'a mut [u8],
        ) -> ::core::result::Result<$crate::Engine<'static, 'a>, $crate::OpenError> {
            Ok($crate::Engine::new(Self::open(trust)?, arena)?)
        }
    };
}

/// The network in an embedded file.
///
/// # Panics
/// At compile time: the file is signed and the runtime takes no signed files, or the other way round.
#[doc(hidden)]
#[cfg(not(feature = "signed"))]
pub const fn network(file: &[u8]) -> &[u8] {
    assert!(
        !matches!(file, [b'O', b'F', b'S', b'G', ..]),
        "this file is signed: use the feature `signed` of `offshoot`, or the file that was signed"
    );
    file
}

/// As above, for signed files.
#[doc(hidden)]
#[cfg(feature = "signed")]
pub const fn network(file: &[u8]) -> &[u8] {
    let [a, b, c, d] = offshoot_sign::MAGIC;
    let signed = matches!(file, [w, x, y, z, ..] if *w == a && *x == b && *y == c && *z == d);
    assert!(
        signed && file.len() > offshoot_sign::ENVELOPE_LEN,
        "this file is not signed, and the feature `signed` of `offshoot` takes no other: `offshoot sign`"
    );
    file.split_at(offshoot_sign::ENVELOPE_LEN).1
}

#[doc(hidden)]
pub use offshoot_format::embedded::{arena_bytes, tensor_counts, tensors};

/// A file's bytes, aligned for the runtime.
#[doc(hidden)]
#[derive(Debug)]
#[repr(C, align(16))]
pub struct Aligned<const N: usize>(pub [u8; N]);
