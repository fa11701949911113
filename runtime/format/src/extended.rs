//! Records that begin with the fields of another record.

/// Defines a record with the fields of a [`ConvTiled`](super::tiled::ConvTiled) or of a
/// [`DepthwisePlanar`](super::tiled::DepthwisePlanar), in their order, and more fields after them.
// The fields are flat: a record inside a record would share its decoding function, at 500 instructions more for each
// decode.
macro_rules! extended {
    (ConvTiled: $($record:tt)*) => {
        extended! {
            @fields ConvTiled, conv, {
                src: u32, dst: u32, scratch: u32, n: u16, h: u16, w: u16, c: u16, out_c: u16, window: WindowRepr,
                in_zp: i8, out_zp: i8, traversal: Traversal, clamp: Option<(i8, i8)>, blob: u32
            }
            $($record)*
        }
    };
    (DepthwisePlanar: $($record:tt)*) => {
        extended! {
            @fields DepthwisePlanar, planar, {
                src: u32, dst: u32, scratch: u32, n: u16, h: u16, w: u16, c: u16, rows: u16, window: WindowRepr,
                in_zp: i8, out_zp: i8, clamp: Option<(i8, i8)>, blob: u32
            }
            $($record)*
        }
    };
    (@fields $base:ident, $of_base:ident, { $($field:ident: $type:ty),* }
        $(#[$doc:meta])*
        pub struct $name:ident { $(pub $own:ident: $own_type:ty,)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
        #[allow(missing_docs)]
        pub struct $name {
            $(pub $field: $type,)*
            $(pub $own: $own_type,)*
        }

        impl $name {
            const fn extending(base: $base, $($own: $own_type),*) -> Self {
                let $base { $($field),* } = base;
                Self { $($field,)* $($own),* }
            }

            #[doc = concat!("A [`", stringify!($base), "`] with the same fields, whose blob holds other weights.")]
            pub const fn $of_base(&self) -> $base {
                let Self { $($field,)* .. } = *self;
                $base { $($field),* }
            }
        }
    };
}

pub(crate) use extended;
