//! A device without the feature `signed`, seen from the line: it asks for no signature, and says so.

#![cfg(not(feature = "signed"))]

mod line;

use std::thread;

use embedded_io::Write;
use line::{End, NoClock};
use offshoot::store::RamFlash;
use offshoot::wire::authority::{Authority, encode_signed};
use offshoot::wire::{
    ErrorCode, Event, FRAME_MAX, Failure, FrameReader, Mode, PROTOCOL_VERSION, Request, Response, decode,
    encode,
};
use offshoot_app::{Arena, Device, NoStackGauge, Store, serve};

/// A network that learns.
const NETWORK: &[u8] = include_bytes!("../../../runtime/offshoot/examples/data/vibration_learns.off");

/// Sends a frame; the answer's variant, or the failure.
fn exchange(end: &mut End, frame: &[u8]) -> Result<String, Failure> {
    end.write_all(frame).unwrap();
    let mut reader = FrameReader::new();
    loop {
        if reader.push(end.from.recv().unwrap()) == Event::Frame {
            return match decode::<Response<'_>>(reader.payload()).unwrap().1 {
                Response::Error(failure) => Err(failure),
                answer => Ok(format!("{answer:?}")),
            };
        }
    }
}

fn ask(end: &mut End, request: &Request<'_>) -> Result<String, Failure> {
    let mut frame = [0; FRAME_MAX];
    let len = encode(1, request, &mut frame).unwrap();
    exchange(end, &frame[..len])
}

#[test]
fn it_loads_learns_and_saves_for_anybody() {
    let (device_end, mut end) = line::line();
    let served = thread::spawn(move || {
        let (mut flash, mut ram, mut arena) =
            (vec![0xff; 64 << 10], Box::new(Arena::<65_536>::new()), Box::new(Arena::<65_536>::new()));
        let store = Store::open(RamFlash::new(&mut flash), 0..64 << 10).ok();
        let (clock, gauge) = (NoClock, NoStackGauge);
        let (model_ram, arena) = (&mut ram[..], &mut arena[..]);
        serve(device_end, Device { board: "board", clock, gauge, model_flash: &[], model_ram, arena, store });
    });
    let end = &mut end;
    assert_eq!(ask(end, &Request::LoadBegin { len: NETWORK.len() as u32 }).unwrap(), "Ok");
    for (i, data) in NETWORK.chunks(900).enumerate() {
        assert_eq!(ask(end, &Request::LoadChunk { offset: i as u32 * 900, data }).unwrap(), "Ok");
    }
    assert!(ask(end, &Request::LoadEnd).unwrap().starts_with("Model"));
    let zeros = [0; 384];
    let input = Request::WriteInput { index: 0, offset: 0, data: &zeros };
    ask(end, &input).unwrap();
    assert!(ask(end, &Request::Run { mode: Mode::Plain }).unwrap().starts_with("Done"));
    assert_eq!(ask(end, &Request::Restore).unwrap_err().code, ErrorCode::NothingStored);
    assert_eq!(ask(end, &Request::LearnBegin).unwrap(), "Ok");
    ask(end, &input).unwrap();
    assert!(ask(end, &Request::Learn { label: 1 }).unwrap().starts_with("TrainStep"));
    assert!(ask(end, &Request::Save).unwrap().starts_with("Stored(StoreReport { generation: 1"));
    assert!(ask(end, &Request::Restore).unwrap().starts_with("Stored(StoreReport { generation: 1"));
    // There are no sessions, and a signature is not read as something else.
    assert_eq!(ask(end, &Request::Challenge).unwrap_err().code, ErrorCode::NoAuthority);
    let mut frame = [0; FRAME_MAX];
    let authority = Authority { counter: 1, signature: [0; 64] };
    let len = encode_signed(2, &Request::Save, &mut frame, |_| authority).unwrap();
    let refused = Failure::new(ErrorCode::Protocol, PROTOCOL_VERSION.into());
    assert_eq!(exchange(end, &frame[..len]), Err(refused));
    // The line closes with its end.
    end.to = std::sync::mpsc::channel().0;
    served.join().unwrap();
}
