//! Whatever comes over the line: a reader of frames and the decoders of messages give messages or errors, without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offshoot::wire::authority::{decode_bound, decode_signed};
use offshoot::wire::frame::{self, Event, FrameReader};
use offshoot::wire::message::{Request, Response};

fuzz_target!(|data: &[u8]| {
    let mut reader = FrameReader::new();
    for &byte in data {
        if let Event::Frame = reader.push(byte) {
            let _ = frame::decode::<Request<'_>>(reader.payload());
            let _ = frame::decode::<Response<'_>>(reader.payload());
        }
    }
    // The decoders are also held against what no checksum protected.
    let _ = frame::decode::<Request<'_>>(data);
    let _ = frame::decode::<Response<'_>>(data);
    // With a trailer: what is signed is the front of the payload, and the trailer the rest.
    if let Ok(found) = decode_signed::<Request<'_>>(data) {
        assert!(data.starts_with(found.body) && found.trailer.is_some() == (found.body.len() < data.len()));
    }
    let _ = decode_bound::<Response<'_>>(data);
});
