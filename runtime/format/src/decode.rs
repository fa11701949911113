//! Decoder of records in postcard's encoding. It gives the same values as the crate `postcard`, which encodes them.
//! Postcard's decoder is built for speed and is instantiated for each type. This one takes a third of the flash,
//! because all numbers share one function.
//!
//! Encoding (postcard wire specification): numbers of 16 and 32 bits are varints of seven bits per byte, low bits
//! first, signed ones in zigzag. Numbers of 8 bits take one byte, a float32 four. An option or enum has the number of
//! its variant before the value.

use serde::Deserialize;
use serde::de::value::U32Deserializer;
use serde::de::{self, DeserializeSeed, EnumAccess, IntoDeserializer, SeqAccess, VariantAccess, Visitor};

/// The bytes do not encode the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Undecodable;

impl core::fmt::Display for Undecodable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("cannot be decoded")
    }
}

impl core::error::Error for Undecodable {}

impl de::Error for Undecodable {
    fn custom<T: core::fmt::Display>(_: T) -> Self {
        Self
    }
}

type Result<T> = core::result::Result<T, Undecodable>;

/// Reads a value from the front of `bytes`. Returns it and the bytes after it.
pub(super) fn take<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Option<(T, &'b [u8])> {
    let mut reader = Reader { rest: bytes };
    let value = T::deserialize(&mut reader).ok()?;
    Some((value, reader.rest))
}

struct Reader<'b> {
    rest: &'b [u8],
}

impl Reader<'_> {
    #[inline]
    fn byte(&mut self) -> Result<u8> {
        let (&first, rest) = self.rest.split_first().ok_or(Undecodable)?;
        self.rest = rest;
        Ok(first)
    }

    /// A varint of at most `bits` bits: 16 or 32. Most values fit in the first byte.
    #[inline]
    fn varint(&mut self, bits: u32) -> Result<u32> {
        match self.byte()? {
            first @ 0..0x80 => Ok(first.into()),
            first => self.long_varint(first, bits),
        }
    }

    /// The rest of a varint after its first byte.
    #[inline(never)]
    fn long_varint(&mut self, first: u8, bits: u32) -> Result<u32> {
        let mut value = u32::from(first & 0x7F);
        let mut shift = 7;
        loop {
            let byte = self.byte()?;
            // The last possible byte holds fewer than seven bits and has no successor.
            let left = bits - shift;
            if left < 7 && u32::from(byte) >= 1 << left {
                return Err(Undecodable);
            }
            value |= u32::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    fn zigzag(&mut self, bits: u32) -> Result<i32> {
        let value = self.varint(bits)?;
        Ok((value >> 1) as i32 ^ -((value & 1) as i32))
    }
}

/// Kinds of values that occur in no record.
macro_rules! absent {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'b>>(self, _: V) -> Result<V::Value> {
            Err(Undecodable)
        })*
    };
}

impl<'b> de::Deserializer<'b> for &mut Reader<'b> {
    type Error = Undecodable;

    fn deserialize_bool<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value> {
        match self.byte()? {
            0 => visitor.visit_bool(false),
            1 => visitor.visit_bool(true),
            _ => Err(Undecodable),
        }
    }

    fn deserialize_u8<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_u8(self.byte()?)
    }

    fn deserialize_i8<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_i8(self.byte()? as i8)
    }

    fn deserialize_u16<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_u16(self.varint(16)? as u16)
    }

    fn deserialize_i16<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_i16(self.zigzag(16)? as i16)
    }

    fn deserialize_u32<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_u32(self.varint(32)?)
    }

    fn deserialize_i32<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_i32(self.zigzag(32)?)
    }

    fn deserialize_f32<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Undecodable)?;
        self.rest = rest;
        visitor.visit_f32(f32::from_le_bytes(*bytes))
    }

    fn deserialize_option<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value> {
        match self.byte()? {
            0 => visitor.visit_none(),
            1 => visitor.visit_some(self),
            _ => Err(Undecodable),
        }
    }

    fn deserialize_tuple<V: Visitor<'b>>(self, len: usize, visitor: V) -> Result<V::Value> {
        visitor.visit_seq(Fields { reader: self, left: len })
    }

    fn deserialize_tuple_struct<V: Visitor<'b>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_struct<V: Visitor<'b>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'b>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'b>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }

    fn deserialize_enum<V: Visitor<'b>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_enum(self)
    }

    absent! {
        deserialize_any deserialize_u64 deserialize_i64 deserialize_f64 deserialize_char deserialize_str
        deserialize_string deserialize_bytes deserialize_byte_buf deserialize_seq deserialize_map
        deserialize_identifier deserialize_ignored_any
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Consecutive fields of a struct or tuple.
struct Fields<'r, 'b> {
    reader: &'r mut Reader<'b>,
    left: usize,
}

impl<'b> SeqAccess<'b> for Fields<'_, 'b> {
    type Error = Undecodable;

    fn next_element_seed<T: DeserializeSeed<'b>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.reader).map(Some)
    }
}

impl<'b> EnumAccess<'b> for &mut Reader<'b> {
    type Error = Undecodable;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'b>>(self, seed: V) -> Result<(V::Value, Self)> {
        let number: U32Deserializer<Undecodable> = self.varint(32)?.into_deserializer();
        Ok((seed.deserialize(number)?, self))
    }
}

impl<'b> VariantAccess<'b> for &mut Reader<'b> {
    type Error = Undecodable;

    fn unit_variant(self) -> Result<()> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'b>>(self, seed: T) -> Result<T::Value> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'b>>(self, len: usize, visitor: V) -> Result<V::Value> {
        de::Deserializer::deserialize_tuple(self, len, visitor)
    }

    fn struct_variant<V: Visitor<'b>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value> {
        de::Deserializer::deserialize_tuple(self, fields.len(), visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::take;
    use crate::codec::GraphHead;
    use crate::learn::{LearnHead, LearnLayer};
    use crate::nested::NestedHead;
    use crate::record::{self, IoRepr, OpHeader};
    use proptest::prelude::*;
    use serde::Deserialize;
    use serde::de::DeserializeOwned;

    fn same<T: DeserializeOwned + core::fmt::Debug>(bytes: &[u8]) -> Result<(), TestCaseError> {
        let ours = take::<T>(bytes).map(|(value, rest)| (format!("{value:?}"), rest.len()));
        let postcard = postcard::take_from_bytes::<T>(bytes).ok();
        let postcard = postcard.map(|(value, rest)| (format!("{value:?}"), rest.len()));
        prop_assert_eq!(ours, postcard, "{}", core::any::type_name::<T>());
        Ok(())
    }

    /// One value of every kind that records contain.
    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Numbers {
        signed: (i8, i16, i32),
        unsigned: (u8, u16, u32),
        flag: bool,
        choice: Option<(i8, f32)>,
    }

    /// Random bytes as in records: mostly small numbers, so that decoding gets far.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![4 => 0u8..4, 1 => any::<u8>(), 1 => Just(0xFF)], 0..96)
    }

    macro_rules! all_same {
        ($bytes:expr; $($kind:ty),* $(,)?) => { $(same::<$kind>($bytes)?;)* };
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn any_bytes_give_what_postcard_gives(bytes in bytes()) {
            all_same!(
                &bytes; u16, u32, i16, i32, Numbers, GraphHead, IoRepr, OpHeader, LearnHead, LearnLayer, record::Conv2d,
                record::Depthwise, record::ConvTranspose, record::FullyConnected, record::MatMul, record::Pool,
                record::Binary, record::Unary, record::Lut, record::PRelu, record::Softmax, record::LayerNorm,
                record::Copy, record::Fill, record::Pad, record::Resize, record::Reduce, record::ArgMax,
                record::Quantize, record::Dequantize, record::Requantize, record::Constant, record::ConvTiled,
                record::DepthwisePlanar, record::ConvWinograd, record::ConvRowMajor, record::ConvWeightShared, record::DepthwiseWeightShared, NestedHead,
                record::FullyConnectedSparse, record::ConvSparse, record::Recurrent,
                record::RecurrentSparse, record::Gather, record::Scatter, record::TopK, record::Cast, record::GridSample, record::ConvWeightOnly,
                record::Elementary, record::BinaryMath, record::Branch, record::Spectrum,
                record::FullyConnectedBanded, record::MicroFrontend,
                record::ConvInt16, record::BinaryInt16, record::PoolInt16, record::SoftmaxInt16, record::SigmoidInt16,
                record::LutInt16, record::RequantizeInt16, record::QuantizeInt16, record::DequantizeInt16, record::ReduceInt16,
            );
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        assert_eq!(take::<u16>(&[0xFF, 0xFF, 0x03]), Some((u16::MAX, &[][..])));
        assert_eq!(take::<u16>(&[0xFF, 0xFF, 0x04]), None);
        assert_eq!(take::<u16>(&[0x80, 0x80, 0x80, 0]), None);
        assert_eq!(take::<u32>(&[0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 7]), Some((u32::MAX, &[7][..])));
        assert_eq!(take::<u32>(&[0xFF, 0xFF, 0xFF, 0xFF, 0x10]), None);
        assert_eq!(take::<u32>(&[0x80]), None);
    }
}
