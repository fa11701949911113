//! Whatever comes over the line: a reader of frames and the decoders of messages give messages or errors, without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
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
});
