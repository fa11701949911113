//! The interface as C sees it: the engine's bits, and a status for whatever is handed in.

use core::ffi::c_void;
use core::ptr::{null, null_mut};

use crate::info::{ModelInfo, offshoot_crc32, offshoot_inspect};
use crate::learn::*;
use crate::object::*;
use crate::run::*;
use crate::status::Status;
use crate::tensor::*;
use offshoot::{AlignedBytes, Engine, Model};

fn data(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../offshoot/examples/data/");
    std::fs::read(format!("{folder}{name}")).unwrap()
}

fn file(name: &str) -> AlignedBytes {
    AlignedBytes::copy_of(&data(name))
}

fn samples(name: &str, elements: usize) -> Vec<Vec<f32>> {
    data(name).chunks_exact(elements).map(|x| x.iter().map(|&v| v.into()).collect()).collect()
}

fn zeroed() -> Offshoot {
    Offshoot { words: [0; OFFSHOOT_OBJECT_WORDS] }
}

fn info(model: &[u8]) -> (Status, ModelInfo) {
    let mut info = ModelInfo::default();
    // SAFETY: a slice, and memory for the result.
    let status = unsafe { offshoot_inspect(model.as_ptr(), model.len(), &mut info) };
    (status, info)
}

/// A network opened through the interface, in memory of its own.
struct Opened {
    object: Box<Offshoot>,
    _file: AlignedBytes,
    arena: AlignedBytes,
}

impl Opened {
    fn new(file: AlignedBytes, learns: bool) -> Self {
        let (status, info) = info(&file);
        assert_eq!(status, Status::Ok);
        let bytes = if learns { info.learning_arena_bytes } else { info.arena_bytes };
        let mut opened =
            Self { object: Box::new(zeroed()), arena: AlignedBytes::zeroed(bytes as usize), _file: file };
        let (model, arena) = (&opened._file, &mut opened.arena);
        let open = if learns { offshoot_open_learning } else { offshoot_open };
        // SAFETY: both lie on the heap for the life of the object.
        let status = unsafe {
            open(&mut *opened.object, model.as_ptr(), model.len(), arena.as_mut_ptr(), arena.len())
        };
        assert_eq!(status, Status::Ok);
        opened
    }

    fn at(&mut self) -> *mut Offshoot {
        &mut *self.object
    }

    fn write(&mut self, x: &[f32]) {
        // SAFETY: an open object and a slice.
        assert_eq!(unsafe { offshoot_write_input_f32(self.at(), 0, x.as_ptr(), x.len()) }, Status::Ok);
    }

    fn run(&mut self, x: &[f32]) -> Vec<u8> {
        self.write(x);
        // SAFETY: an open object.
        assert_eq!(unsafe { offshoot_run(self.at()) }, Status::Ok);
        let tensor = self.output();
        // SAFETY: the output lies in the arena.
        unsafe { std::slice::from_raw_parts(tensor.data.cast::<u8>(), tensor.bytes as usize) }.to_vec()
    }

    fn output(&mut self) -> Tensor {
        let mut tensor = core::mem::MaybeUninit::uninit();
        // SAFETY: memory for the result, which is written where the status is `Ok`.
        unsafe {
            assert_eq!(offshoot_output(self.at(), 0, tensor.as_mut_ptr()), Status::Ok);
            tensor.assume_init()
        }
    }

    fn saved(&mut self) -> Vec<u8> {
        let (mut at, mut bytes) = (null::<c_void>(), 0);
        // SAFETY: memory for the results; what was learned lies in the arena.
        unsafe {
            assert_eq!(offshoot_learned(self.at(), &mut at, &mut bytes), Status::Ok);
            std::slice::from_raw_parts(at.cast::<u8>(), bytes).to_vec()
        }
    }
}

#[test]
fn a_run_gives_the_engines_bytes() {
    for (name, x) in
        [("vibration.off", "vibration_x.u8"), ("tones.off", "tones_x.u8"), ("tones_f32.off", "tones_x.u8")]
    {
        let bytes = file(name);
        let model = Model::open(&bytes).unwrap();
        let mut arena = AlignedBytes::zeroed(model.arena_bytes() as usize);
        let mut engine = Engine::new(model, &mut arena).unwrap();
        let mut opened = Opened::new(file(name), false);
        for x in samples(x, model.input(0).unwrap().elements()) {
            engine.write_input_f32(0, &x).unwrap();
            engine.run().unwrap();
            assert_eq!(opened.run(&x), engine.output(0).unwrap(), "{name}");
            let tensor = opened.output();
            let mut real = vec![0.0; tensor.elements as usize];
            let mut expected = real.clone();
            engine.read_output_f32(0, &mut expected).unwrap();
            let (mut top, mut class) = (99, 99);
            // SAFETY: an open object, and memory for the results.
            unsafe {
                assert_eq!(
                    offshoot_read_output_f32(opened.at(), 0, real.as_mut_ptr(), real.len()),
                    Status::Ok
                );
                assert_eq!(offshoot_top1(opened.at(), 0, &mut top), Status::Ok);
                assert_eq!(offshoot_class(opened.at(), &mut class), Status::Ok);
            }
            assert_eq!(real, expected);
            assert_eq!((top as usize, class as usize), (engine.top1(0).unwrap(), engine.top1(0).unwrap()));
        }
    }
}

#[test]
fn learning_gives_the_engines_bytes_and_goes_on_after_a_restore() {
    let bytes = file("vibration_learns.off");
    let model = Model::open(&bytes).unwrap();
    let mut arena = AlignedBytes::zeroed(model.train_arena_bytes().unwrap() as usize);
    let mut engine = Engine::learning(model, &mut arena).unwrap();
    let mut opened = Opened::new(file("vibration_learns.off"), true);
    let stream: Vec<_> = samples("shifted_x.u8", model.input(0).unwrap().elements())
        .into_iter()
        .zip(data("shifted_y.u8"))
        .collect();
    for (i, (x, label)) in stream.iter().enumerate().take(60) {
        if i % 7 == 3 {
            engine.write_input_f32(0, x).unwrap();
            let left_out = engine.observe().unwrap();
            opened.write(x);
            let mut out = 9;
            // SAFETY: an open object, and memory for the result.
            assert_eq!(unsafe { offshoot_observe(opened.at(), &mut out) }, Status::Ok);
            assert_eq!(out, u32::from(left_out));
            continue;
        }
        engine.write_input_f32(0, x).unwrap();
        let expected = engine.learn((*label).into()).unwrap();
        opened.write(x);
        let mut step = Step::default();
        // SAFETY: as above.
        assert_eq!(unsafe { offshoot_learn(opened.at(), (*label).into(), &mut step) }, Status::Ok);
        let expected = Step {
            guess: expected.guess.map_or(-1, i32::from),
            steps: expected.steps,
            left_out: expected.left_out.into(),
        };
        assert_eq!(step, expected);
        assert_eq!(opened.saved(), engine.learned().unwrap());
        if i == 30 {
            // Saved, lost and restored.
            let mut kept = opened.saved();
            let mut written = 0;
            // SAFETY: buffers as long as stated.
            unsafe {
                assert_eq!(
                    offshoot_save(opened.at(), kept.as_mut_ptr(), kept.len() - 1, &mut written),
                    Status::BufferTooSmall
                );
                assert_eq!(offshoot_detail(opened.at()) as usize, kept.len());
                assert_eq!(
                    offshoot_save(opened.at(), kept.as_mut_ptr(), kept.len(), &mut written),
                    Status::Ok
                );
            }
            assert_eq!(written, kept.len());
            opened = Opened::new(file("vibration_learns.off"), true);
            assert_ne!(opened.saved(), kept);
            // SAFETY: as above.
            unsafe {
                assert_eq!(offshoot_restore(opened.at(), kept.as_ptr(), kept.len() - 1), Status::Length);
                assert_eq!(offshoot_restore(opened.at(), kept.as_ptr(), kept.len()), Status::Ok);
            }
        }
    }
    let (mut scores, mut count) = (null(), 0);
    // SAFETY: memory for the results.
    unsafe {
        assert_eq!(offshoot_scores(opened.at(), &mut scores, &mut count), Status::Ok);
        assert_eq!(count, engine.scores().map_or(0, <[f32]>::len));
        assert_eq!(offshoot_learn(opened.at(), 77, null_mut()), Status::Label);
        assert_eq!(offshoot_detail(opened.at()), 5);
        assert_eq!(offshoot_learn(opened.at(), u32::MAX, null_mut()), Status::Label);
        assert_eq!(offshoot_set_course(opened.at(), 500), Status::Ok);
        assert_eq!(offshoot_forget(opened.at()), Status::Ok);
        assert_eq!(offshoot_detail(opened.at()), 0);
    }
    engine.forget().unwrap();
    assert_eq!(opened.saved(), engine.learned().unwrap());
}

#[test]
fn networks_of_a_file_are_switched() {
    let bytes = file("tones_nested.off");
    let model = Model::open(&bytes).unwrap();
    let mut arena = AlignedBytes::zeroed(model.arena_bytes() as usize);
    let mut engine = Engine::new(model, &mut arena).unwrap();
    let mut opened = Opened::new(file("tones_nested.off"), false);
    let x = &samples("tones_x.u8", model.input(0).unwrap().elements())[0];
    let last = model.network_count() - 1;
    assert!(last > 0);
    for index in [last, 0, last, last, 0] {
        engine.select(index).unwrap();
        // SAFETY: an open object.
        assert_eq!(unsafe { offshoot_select(opened.at(), index) }, Status::Ok);
        engine.write_input_f32(0, x).unwrap();
        engine.run().unwrap();
        assert_eq!(opened.run(x), engine.output(0).unwrap(), "network {index}");
    }
    // SAFETY: as above.
    unsafe {
        assert_eq!(offshoot_select(opened.at(), last + 1), Status::NoSuchNetwork);
        assert_eq!(offshoot_detail(opened.at()) as usize, last + 1);
    }
}

unsafe extern "C" fn count(context: *mut c_void, op: u32) {
    // SAFETY: the test below hands in a vector and no other reference to it.
    unsafe { (*context.cast::<Vec<u32>>()).push(op) };
}

#[test]
fn a_watcher_sees_every_operator() {
    let mut opened = Opened::new(file("vibration.off"), false);
    let mut seen: Vec<u32> = vec![];
    let context = (&raw mut seen).cast();
    // SAFETY: the watcher takes such a context.
    unsafe {
        assert_eq!(offshoot_run_watched(opened.at(), Some(count), context), Status::Ok);
        assert_eq!(offshoot_run_watched(opened.at(), None, context), Status::NullPointer);
    }
    let count = Model::open(&opened._file).unwrap().op_count();
    assert_eq!(seen, (0..u32::from(count)).collect::<Vec<_>>());
}

/// Every call on an object, with arguments that are fine but for the object.
fn all_calls(at: *mut Offshoot) -> [Status; 17] {
    let (mut number, mut size, mut bytes) = (0, 0, [0u8; 4]);
    let (mut floats, mut scores, mut learned) = ([0.0f32; 4], null(), null());
    let mut tensor = core::mem::MaybeUninit::<Tensor>::uninit();
    let mut ops: Vec<u32> = vec![];
    // SAFETY: memory for every result; the object may be anything that the contract allows.
    unsafe {
        [
            offshoot_run(at),
            offshoot_run_watched(at, Some(count), (&raw mut ops).cast()),
            offshoot_restart(at),
            offshoot_select(at, 0),
            offshoot_input(at, 0, tensor.as_mut_ptr()),
            offshoot_output(at, 0, tensor.as_mut_ptr()),
            offshoot_write_input_f32(at, 0, floats.as_ptr(), 4),
            offshoot_read_output_f32(at, 0, floats.as_mut_ptr(), 4),
            offshoot_top1(at, 0, &mut number),
            offshoot_learn(at, 0, null_mut()),
            offshoot_observe(at, null_mut()),
            offshoot_set_course(at, 1),
            offshoot_class(at, &mut number),
            offshoot_scores(at, &mut scores, &mut size),
            offshoot_learned(at, &mut learned, &mut size),
            offshoot_save(at, bytes.as_mut_ptr(), 4, &mut size),
            offshoot_restore(at, bytes.as_ptr(), 4),
        ]
    }
}

#[test]
fn objects_that_are_none_give_a_status() {
    let mut object = zeroed();
    let at = &raw mut object;
    assert_eq!(all_calls(null_mut()), [Status::NullPointer; 17]);
    assert_eq!(all_calls(at.wrapping_byte_add(1)), [Status::Alignment; 17]);
    assert_eq!(all_calls(at), [Status::NotOpen; 17]);
    let mut opened = Opened::new(file("vibration.off"), false);
    // SAFETY: objects, or null.
    unsafe {
        assert_eq!(offshoot_close(opened.at()), Status::Ok);
        assert_eq!(offshoot_close(opened.at()), Status::Ok);
        assert_eq!(offshoot_close(null_mut()), Status::NullPointer);
        assert_eq!((offshoot_detail(null()), offshoot_detail(at.wrapping_byte_add(1))), (0, 0));
    }
    assert_eq!(all_calls(opened.at()), [Status::NotOpen; 17]);
}

#[test]
fn pointers_that_are_none_give_a_status() {
    let mut opened = Opened::new(file("vibration_learns.off"), true);
    let at = opened.at();
    let mut floats = [0.0f32; 400];
    let odd = floats.as_mut_ptr().wrapping_byte_add(2);
    let own = opened.arena.as_mut_ptr();
    let within = own.cast::<f32>();
    // SAFETY: what is no pointer is refused before it is read.
    unsafe {
        for (pointer, expected) in [
            (null_mut(), Status::NullPointer),
            (odd, Status::Alignment),
            (within, Status::Overlap),
            (at.cast(), Status::Overlap),
        ] {
            assert_eq!(offshoot_read_output_f32(at, 0, pointer, 5), expected);
            if pointer != at.cast() {
                assert_eq!(offshoot_write_input_f32(at, 0, pointer, 384), expected);
            }
        }
        for count in [0, 1, 383, 385] {
            assert_eq!(offshoot_write_input_f32(at, 0, floats.as_ptr(), count), Status::TensorLength);
            assert_eq!(offshoot_detail(at), 384);
            assert_eq!(offshoot_read_output_f32(at, 0, floats.as_mut_ptr(), count), Status::TensorLength);
        }
        for count in [usize::MAX, usize::MAX / 4, usize::MAX / 8 + 1] {
            assert_eq!(offshoot_write_input_f32(at, 0, floats.as_ptr(), count), Status::TooLong);
            assert_eq!(offshoot_read_output_f32(at, 0, floats.as_mut_ptr(), count), Status::TooLong);
        }
        for index in [1, 255, usize::MAX] {
            assert_eq!(offshoot_write_input_f32(at, index, floats.as_ptr(), 384), Status::NoSuchTensor);
            let mut tensor = core::mem::MaybeUninit::<Tensor>::uninit();
            assert_eq!(offshoot_input(at, index, tensor.as_mut_ptr()), Status::NoSuchTensor);
            assert_eq!(offshoot_output(at, index, tensor.as_mut_ptr()), Status::NoSuchTensor);
            let mut class = 0;
            assert_eq!(offshoot_top1(at, index, &mut class), Status::NoSuchTensor);
            assert_eq!(offshoot_select(at, index), Status::NoSuchNetwork);
        }
        assert_eq!(offshoot_top1(at, 0, null_mut()), Status::NullPointer);
        assert_eq!(offshoot_input(at, 0, odd.cast()), Status::Alignment);
        assert_eq!(offshoot_learn(at, 0, odd.cast()), Status::Alignment);
        assert_eq!(offshoot_observe(at, odd.cast()), Status::Alignment);
        assert_eq!(offshoot_save(at, null_mut(), 9, null_mut()), Status::NullPointer);
        assert_eq!(offshoot_save(at, null_mut(), 0, null_mut()), Status::BufferTooSmall);
        assert_eq!(offshoot_save(at, own, 9, null_mut()), Status::Overlap);
        assert_eq!(offshoot_restore(at, null(), 9), Status::NullPointer);
        assert_eq!(offshoot_restore(at, null(), 0), Status::Length);
        assert_eq!(offshoot_restore(at, own, 9), Status::Overlap);
        let mut size = 0usize;
        assert_eq!(offshoot_scores(at, null_mut(), &mut size), Status::NullPointer);
        assert_eq!(offshoot_learned(at, null_mut(), &mut size), Status::NullPointer);
        assert_eq!(offshoot_crc32(null(), 3, odd.cast()), Status::NullPointer);
        assert_eq!(offshoot_inspect(null(), 100, null_mut()), Status::NullPointer);
        assert_eq!(offshoot_run(at), Status::Ok);
    }
}

#[test]
fn what_cannot_be_opened_gives_a_status() {
    let model = file("vibration.off");
    let mut arena = AlignedBytes::zeroed(4096);
    let mut object = zeroed();
    let (at, m, len, a) = (&raw mut object, model.as_ptr(), model.len(), arena.as_mut_ptr());
    // SAFETY: pointers are to memory as long as stated, or are refused before they are read.
    unsafe {
        let open = |m, len, a, bytes| offshoot_open(at, m, len, a, bytes);
        assert_eq!(offshoot_open(null_mut(), m, len, a, 4096), Status::NullPointer);
        assert_eq!(open(null(), len, a, 4096), Status::NullPointer);
        assert_eq!(open(m, len, null_mut(), 4096), Status::NullPointer);
        assert_eq!(open(m, 0, a, 4096), Status::Length);
        assert_eq!(open(m, len - 1, a, 4096), Status::Length);
        assert_eq!(open(m, usize::MAX, a, 4096), Status::TooLong);
        assert_eq!(open(m, len, a, usize::MAX), Status::TooLong);
        assert_eq!(open(m, len, a, 100), Status::ArenaTooSmall);
        assert_eq!(offshoot_detail(at), info(&model).1.arena_bytes);
        assert_eq!(open(m, len, a.wrapping_add(4), 4000), Status::Alignment);
        assert_eq!(open(m, len, m.cast_mut(), len), Status::Overlap);
        assert_eq!(open(m, len, at.cast(), 64), Status::Overlap);
        assert_eq!(offshoot_open_learning(at, m, len, a, 4096), Status::NotLearning);
        assert_eq!(all_calls(at), [Status::NotOpen; 17]);
        assert_eq!(open(m, len, a, 4096), Status::Ok);
        assert_eq!(offshoot_learn(at, 0, null_mut()), Status::NotLearning);
        assert_eq!(offshoot_save(at, null_mut(), 0, null_mut()), Status::NotLearning);
        assert_eq!(offshoot_forget(at), Status::NotLearning);
        let (mut scores, mut size) = (null(), 0);
        assert_eq!(offshoot_scores(at, &mut scores, &mut size), Status::NotLearning);
        // A failed opening closes what was open.
        assert_eq!(open(m, 10, a, 4096), Status::Length);
        assert_eq!(offshoot_run(at), Status::NotOpen);
    }
}

/// Damaged files and damaged learned bytes: a status, or a network that runs.
#[test]
fn damage_gives_a_status_and_never_a_crash() {
    let mut seed = 1u32;
    let mut draw = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        seed as usize % below
    };
    let whole = data("vibration_learns.off");
    let mut learning = Opened::new(file("vibration_learns.off"), true);
    let kept = learning.saved();
    let mut opened = 0;
    for round in 0..3000 {
        let mut damaged = whole.clone();
        for _ in 0..=draw(4) {
            // Headers and records are what decides; weights are most of the file.
            let at = draw(if round % 2 == 0 { 600 } else { whole.len() });
            damaged[at] ^= 1 << draw(8);
        }
        if round % 5 == 0 {
            damaged.truncate(draw(whole.len()));
        } else {
            // Checksum put right, so that the damage is what is judged.
            let _ = offshoot::format::header::seal(&mut damaged);
        }
        let model = AlignedBytes::copy_of(&damaged);
        let (status, info) = info(&model);
        let mut arena = AlignedBytes::zeroed(info.learning_arena_bytes.clamp(64, 1 << 20) as usize);
        let mut object = zeroed();
        let at = &raw mut object;
        // SAFETY: memory as long as stated, for as long as the object is used.
        unsafe {
            let open =
                offshoot_open_learning(at, model.as_ptr(), model.len(), arena.as_mut_ptr(), arena.len());
            assert!(status == Status::Ok || open != Status::Ok);
            if open == Status::Ok {
                opened += 1;
                assert_eq!(offshoot_run(at), Status::Ok);
                assert!(all_calls(at)[0] == Status::Ok);
            }
        }
        let mut bytes = kept.clone();
        let place = draw(bytes.len());
        bytes[place] ^= 1 << draw(8);
        // SAFETY: an open object and a slice.
        unsafe {
            let restored = offshoot_restore(learning.at(), bytes.as_ptr(), bytes.len());
            assert!([Status::Ok, Status::Learn].contains(&restored), "{restored:?}");
            assert_eq!(offshoot_run(learning.at()), Status::Ok);
            assert_eq!(offshoot_learn(learning.at(), draw(5) as u32, null_mut()), Status::Ok);
        }
    }
    assert!(opened > 100, "{opened} of the damaged files opened");
}
