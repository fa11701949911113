//! Learning: train steps, what was learned, and the class that the network and its head answer.

use core::ffi::c_void;

use crate::border::{Region, check, slice, write, write_if_wanted};
use crate::object::{Offshoot, Open, with};
use crate::status::{Failure, Status};
use offshoot::{Error, heads};

/// Report of a train step.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The class predicted before learning from the sample; -1 if nothing gives class scores.
    pub guess: i32,
    /// Steps so far, this one included.
    pub steps: u32,
    /// 1 if the sample was left out, because it is not finite or much farther from the others than is usual, else 0.
    pub left_out: u32,
}

/// One train step on the inputs, towards class `label`. It overwrites the inputs; outputs are as after a run. `step` may be null.
///
/// # Safety
/// As for every call; `step` is null or points to memory for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_learn(network: *mut Offshoot, label: u32, step: *mut Step) -> Status {
    let work = |open: &mut Open| {
        if !step.is_null() {
            check(step, 1)?;
        }
        let report = open.engaged(|engine| {
            // A label beyond all labels has the engine's answer too.
            Ok(engine.learn(u16::try_from(label).unwrap_or(u16::MAX))?)
        })?;
        let guess = report.guess.map_or(-1, i32::from);
        let report = Step { guess, steps: report.steps, left_out: report.left_out.into() };
        // SAFETY: the caller vouches for it.
        Ok(unsafe { write_if_wanted(step, report) }?)
    };
    // SAFETY: the caller vouches for it.
    unsafe { with(network, work) }
}

/// A run without a label: the input statistics follow the data, unless the sample is an outlier; nothing else learns. `left_out`, which
/// may be null, becomes 1 if the sample was left out, else 0.
///
/// # Safety
/// As for every call; `left_out` is null or points to memory for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_observe(network: *mut Offshoot, left_out: *mut u32) -> Status {
    let work = |open: &mut Open| {
        if !left_out.is_null() {
            check(left_out, 1)?;
        }
        let out = open.engaged(|engine| Ok(engine.observe()?))?;
        // SAFETY: the caller vouches for it.
        Ok(unsafe { write_if_wanted(left_out, out.into()) }?)
    };
    // SAFETY: the caller vouches for it.
    unsafe { with(network, work) }
}

/// Stretches or shortens the plan's course to so many steps; 0 goes back to the plan's. Saved and restored with what is learned.
///
/// # Safety
/// As for every call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_set_course(network: *mut Offshoot, steps: u32) -> Status {
    // SAFETY: the caller vouches for it.
    unsafe { with(network, |open| open.engaged(|engine| Ok(engine.set_course(steps)?))) }
}

/// After a run, the class that the classifier head answers, if it has learned one; else the largest element of output 0.
///
/// # Safety
/// As for every call; `class_index` points to memory for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_class(network: *mut Offshoot, class_index: *mut u32) -> Status {
    let work = |open: &mut Open| {
        let class = open.engaged(|engine| {
            let learned = engine.scores().filter(|scores| scores.iter().any(|s| s.is_finite()));
            Ok(match learned.and_then(heads::best) {
                Some(class) => class,
                None => engine.top1(0)?,
            })
        })?;
        // SAFETY: the caller vouches for it.
        Ok(unsafe { write(class_index, class as u32) }?)
    };
    // SAFETY: the caller vouches for it.
    unsafe { with(network, work) }
}

/// After a run, the class scores of the classifier head, where they lie in the arena: valid until the next call. Minus infinity for classes
/// without samples. A model that learns without a head gives null and 0.
///
/// # Safety
/// As for every call; `scores` and `count` point to memory for the results.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_scores(
    network: *mut Offshoot,
    scores: *mut *const f32,
    count: *mut usize,
) -> Status {
    let work = |open: &mut Open| {
        check(scores, 1)?;
        check(count, 1)?;
        let arena = Anchor::of(open);
        let (at, number) = open.engaged(|engine| {
            if engine.state().is_none() {
                return Err(Error::NotLearning.into());
            }
            Ok(engine.scores().map_or((core::ptr::null(), 0), |s| (arena.pointer(s), s.len())))
        })?;
        // SAFETY: the caller vouches for both.
        unsafe {
            write(scores, at)?;
            write(count, number)?;
        }
        Ok(())
    };
    // SAFETY: the caller vouches for it.
    unsafe { with(network, work) }
}

/// Where what was learned lies in the arena, to save without a copy: valid until the next call.
///
/// # Safety
/// As for every call; `learned` and `bytes` point to memory for the results.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_learned(
    network: *mut Offshoot,
    learned: *mut *const c_void,
    bytes: *mut usize,
) -> Status {
    let work = |open: &mut Open| {
        check(learned, 1)?;
        check(bytes, 1)?;
        let arena = Anchor::of(open);
        let (at, number) = open.engaged(|engine| {
            let own = engine.learned().ok_or(Error::NotLearning)?;
            Ok((arena.pointer(own), own.len()))
        })?;
        // SAFETY: the caller vouches for both.
        unsafe {
            write(learned, at.cast())?;
            write(bytes, number)?;
        }
        Ok(())
    };
    // SAFETY: the caller vouches for it.
    unsafe { with(network, work) }
}

/// Copies what was learned to a buffer of `capacity` bytes. `written`, which may be null, becomes the number of bytes.
///
/// # Safety
/// As for every call; `to` points to memory for `capacity` bytes, `written` is null or points to memory for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_save(
    network: *mut Offshoot,
    to: *mut u8,
    capacity: usize,
    written: *mut usize,
) -> Status {
    let work = |open: &mut Open| {
        check(to, capacity)?;
        if !written.is_null() {
            check(written, 1)?;
        }
        let target = Region::of(to.cast_const(), capacity);
        open.region().apart(target)?;
        Region::of(network.cast_const(), 1).apart(target)?;
        let bytes = open.engaged(|engine| {
            let learned = engine.learned().ok_or(Error::NotLearning)?;
            if learned.len() > capacity {
                let detail = learned.len() as u32;
                return Err(Failure { status: Status::BufferTooSmall, detail });
            }
            // SAFETY: the caller vouches for `capacity` bytes, which lie apart from the arena. They need not be initialised.
            unsafe { core::ptr::copy_nonoverlapping(learned.as_ptr(), to, learned.len()) };
            Ok(learned.len())
        })?;
        // SAFETY: the caller vouches for it.
        Ok(unsafe { write_if_wanted(written, bytes) }?)
    };
    // SAFETY: the caller vouches for it.
    unsafe { with(network, work) }
}

/// Restores what `offshoot_save` wrote for the same model: the next steps give the same bits as without a break. Bytes that the network
/// cannot take are refused, and the object is then as after `offshoot_forget`. Damage that leaves valid weights is not seen: save a
/// checksum too (`offshoot_crc32`).
///
/// # Safety
/// As for every call; `learned` points to `bytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_restore(
    network: *mut Offshoot,
    learned: *const u8,
    bytes: usize,
) -> Status {
    let work = |open: &mut Open| {
        check(learned, bytes)?;
        open.region().apart(Region::of(learned, bytes))?;
        // SAFETY: the caller vouches for it.
        let learned = unsafe { slice(learned, bytes) }?;
        open.engaged(|engine| Ok(engine.restore(learned)?))
    };
    // SAFETY: the caller vouches for it.
    unsafe { with(network, work) }
}

/// Forgets everything learned: goes back to the weights of the file, or to what the file has learned.
///
/// # Safety
/// As for every call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_forget(network: *mut Offshoot) -> Status {
    // SAFETY: the caller vouches for it.
    unsafe { with(network, |open| open.engaged(|engine| Ok(engine.forget()?))) }
}

/// The arena's start: pointers that the caller keeps come from it, not from the engine's slices, which end with the call.
#[derive(Clone, Copy)]
struct Anchor(*mut u8);

impl Anchor {
    fn of(open: &Open) -> Self {
        Self(open.at(0))
    }

    /// Where a part of the arena lies.
    fn pointer<T>(self, part: &[T]) -> *const T {
        let offset = part.as_ptr().addr().wrapping_sub(self.0.addr());
        self.0.wrapping_add(offset).cast_const().cast()
    }
}
