//! The graph section as a list of encoded records.

use offshoot::format::codec::{self, GraphHead};
use offshoot::format::record::{Record, Tag};

/// Records of network 0 as they are encoded, and all that follows them.
#[derive(Clone, Debug)]
pub(crate) struct Graph {
    pub(crate) inputs: Vec<Vec<u8>>,
    pub(crate) outputs: Vec<Vec<u8>>,
    /// Each with its tag and header.
    pub(crate) ops: Vec<Vec<u8>>,
    /// Further networks and learning records.
    pub(crate) rest: Vec<u8>,
}

impl Graph {
    /// The records of a graph section that can be decoded.
    pub(crate) fn of(graph: &[u8]) -> Option<Self> {
        let (head, mut rest) = codec::decode_head(graph)?;
        let mut ios = Vec::new();
        for _ in 0..usize::from(head.inputs) + usize::from(head.outputs) {
            let after = codec::decode_io(rest)?.1;
            ios.push(rest[..rest.len() - after.len()].to_vec());
            rest = after;
        }
        let mut ops = Vec::new();
        for _ in 0..head.ops {
            let (tag, _, body) = codec::decode_op_header(rest)?;
            let (_, after) = Record::decode(Tag::from_u8(tag)?, body)?;
            ops.push(rest[..rest.len() - after.len()].to_vec());
            rest = after;
        }
        let outputs = ios.split_off(head.inputs.into());
        Some(Self { inputs: ios, outputs, ops, rest: rest.to_vec() })
    }

    /// The graph section.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        let mut buffer = [0; 16];
        let head = GraphHead {
            inputs: self.inputs.len() as u8,
            outputs: self.outputs.len() as u8,
            ops: self.ops.len() as u16,
        };
        let n = codec::encode(&head, &mut buffer).unwrap_or(0);
        let parts = [self.inputs.concat(), self.outputs.concat(), self.ops.concat(), self.rest];
        [buffer[..n].to_vec(), parts.concat()].concat()
    }
}
