//! Reads the start of a `.off` file at compile time, for files embedded in firmware.
//!
//! A file that cannot be embedded is a compile error with a reason. `Model::open` checks everything else.

use super::header::{HEADER_LEN, MAGIC, VERSION};
use super::types::{DType, IoRepr};

/// Bytes of arena that the file's networks need.
///
/// # Panics
/// If the bytes are not a `.off` file of this version. At compile time, a panic is a compile error.
pub const fn arena_bytes(file: &[u8]) -> usize {
    checked(file);
    u32_at(file, 16) as usize
}

/// Number of inputs and outputs of the file's first network.
///
/// # Panics
/// As [`arena_bytes`].
pub const fn tensor_counts(file: &[u8]) -> (usize, usize) {
    checked(file);
    let graph = Cursor { bytes: file, at: HEADER_LEN };
    let (inputs, graph) = graph.byte();
    let (outputs, _) = graph.byte();
    (inputs as usize, outputs as usize)
}

/// Descriptions of `N` tensors of the file's first network, starting at number `first`. Inputs come before outputs.
///
/// # Panics
/// As [`arena_bytes`]; if the network has fewer tensors.
pub const fn tensors<const N: usize>(file: &[u8], first: usize) -> [IoRepr; N] {
    let (inputs, outputs) = tensor_counts(file);
    assert!(first + N <= inputs + outputs, "the .off file has fewer inputs and outputs");
    let mut cursor = Cursor { bytes: file, at: HEADER_LEN + 2 };
    (_, cursor) = cursor.varint();
    let mut skipped = 0;
    while skipped < first {
        (_, cursor) = tensor(cursor);
        skipped += 1;
    }
    let mut all = [EMPTY; N];
    let mut i = 0;
    while i < N {
        (all[i], cursor) = tensor(cursor);
        i += 1;
    }
    all
}

const EMPTY: IoRepr =
    IoRepr { offset: 0, dtype: DType::I8, scale: 0.0, zero_point: 0, rank: 0, shape: [1; 6], outside: 0 };

const fn checked(file: &[u8]) {
    let mut i = 0;
    while i < MAGIC.len() {
        assert!(
            i < file.len() && file[i] == MAGIC[i],
            "this is not an .off file: `offshoot compile model.onnx -o model.off` makes one"
        );
        i += 1;
    }
    assert!(file.len() >= HEADER_LEN, "the .off file is truncated");
    assert!(
        u16::from_le_bytes([file[4], file[5]]) == VERSION,
        "the .off file has another format version than this runtime: compile the model again with the `offshoot` command \
         of the runtime's version"
    );
    assert!(u32_at(file, 8) as usize == file.len(), "the .off file is truncated or has trailing bytes");
}

const fn u32_at(file: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([file[at], file[at + 1], file[at + 2], file[at + 3]])
}

/// A position in the graph section, read in postcard's encoding as in [`super::codec`].
#[derive(Clone, Copy)]
struct Cursor<'f> {
    bytes: &'f [u8],
    at: usize,
}

impl Cursor<'_> {
    const fn byte(mut self) -> (u8, Self) {
        assert!(self.at < self.bytes.len(), "the .off file is truncated");
        self.at += 1;
        (self.bytes[self.at - 1], self)
    }

    const fn varint(mut self) -> (u32, Self) {
        let (mut value, mut shift) = (0u64, 0);
        loop {
            let (byte, next) = self.byte();
            self = next;
            value |= ((byte & 0x7f) as u64) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
            assert!(shift < 35, "the .off file is damaged: a number is too long");
        }
        assert!(value <= u32::MAX as u64, "the .off file is damaged: a number is too large");
        (value as u32, self)
    }
}

const fn tensor(cursor: Cursor<'_>) -> (IoRepr, Cursor<'_>) {
    let (offset, cursor) = cursor.varint();
    let (dtype, mut cursor) = cursor.varint();
    let mut scale = [0; 4];
    let mut i = 0;
    while i < 4 {
        (scale[i], cursor) = cursor.byte();
        i += 1;
    }
    let (zero_point, cursor) = cursor.byte();
    let (rank, mut cursor) = cursor.byte();
    let mut shape = [1; 6];
    i = 0;
    while i < 6 {
        let (extent, next) = cursor.varint();
        assert!(extent <= u16::MAX as u32, "the .off file is damaged: an extent is too large");
        (shape[i], cursor) = (extent as u16, next);
        i += 1;
    }
    assert!(rank <= 6, "the .off file is damaged: a tensor has more than six axes");
    let (outside, cursor) = cursor.byte();
    let tensor = IoRepr {
        offset,
        dtype: match dtype {
            0 => DType::I8,
            1 => DType::F32,
            2 => DType::I32,
            #[cfg(feature = "int16")]
            3 => DType::I16,
            _ => panic!("the .off file is damaged: unknown element type"),
        },
        scale: f32::from_le_bytes(scale),
        zero_point: zero_point as i8,
        rank,
        shape,
        outside,
    };
    (tensor, cursor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{self, GraphHead};
    use crate::header::Header;
    use proptest::prelude::*;

    fn file(tensors: &[IoRepr], inputs: u8, arena_bytes: u32) -> Vec<u8> {
        let mut graph = vec![0; 8 + 64 * tensors.len()];
        let head = GraphHead { inputs, outputs: tensors.len() as u8 - inputs, ops: 300 };
        let mut len = codec::encode(&head, &mut graph).unwrap();
        for tensor in tensors {
            len += codec::encode(tensor, &mut graph[len..]).unwrap();
        }
        graph.truncate(len);
        let file_len = (HEADER_LEN + len) as u32;
        let header = Header { file_len, arena_bytes, graph_len: len as u32, ..Header::default() };
        [&header.emit()[..], &graph].concat()
    }

    prop_compose! {
        fn any_tensor()(
            offset in any::<u32>(), kind in 0..3, scale in 0.0f32..1e9, zero_point in any::<i8>(), rank in 0..=6u8,
            shape in any::<[u16; 6]>(), outside in any::<u8>(),
        ) -> IoRepr {
            let dtype = [DType::I8, DType::F32, DType::I32][kind as usize];
            IoRepr { offset, dtype, scale, zero_point, rank, shape, outside }
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_read(all in prop::array::uniform3(any_tensor()), inputs in 1..3u8, arena in any::<u32>()) {
            let file = file(&all, inputs, arena);
            prop_assert_eq!(arena_bytes(&file), arena as usize);
            prop_assert_eq!(tensor_counts(&file), (inputs.into(), 3 - usize::from(inputs)));
            prop_assert_eq!(tensors::<3>(&file, 0), all);
            prop_assert_eq!(tensors::<1>(&file, 2), [all[2]]);
        }
    }

    #[test]
    fn other_files_are_refused_with_a_reason() {
        let good = file(&[EMPTY, EMPTY], 1, 64);
        let refused = |bytes: Vec<u8>| {
            let error = std::panic::catch_unwind(|| tensors::<2>(&bytes, 0)).unwrap_err();
            error.downcast::<&str>().unwrap().to_string()
        };
        assert!(refused(b"ONNX".to_vec()).contains("not an .off file"));
        assert!(refused(b"OFF".to_vec()).contains("not an .off file"));
        assert!(refused(good[..31].to_vec()).contains("truncated"));
        assert!(refused(good[..good.len() - 1].to_vec()).contains("truncated"));
        let mut other = good;
        other[4] = other[4].wrapping_add(1);
        assert!(refused(other).contains("another format version"));
    }
}
