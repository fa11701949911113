//! Inputs and outputs: where they lie, and as real numbers.

use core::ffi::c_void;

use crate::border::{Region, check, slice, slice_mut, write};
use crate::object::{Offshoot, Open, with};
use crate::status::{Failure, Status};
use offshoot::{DType, Error, TensorInfo};

/// Type of a tensor's elements.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    /// int8: q stands for `(q - zero_point) * scale`.
    I8 = 0,
    /// float32.
    F32 = 1,
    /// int32.
    I32 = 2,
    /// int16: q stands for `q * scale`.
    I16 = 3,
}

/// An input or output in the arena, channels last.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Tensor {
    /// Where it lies, aligned to its elements. Write an input before every run; read an output before the next input is written.
    pub data: *mut c_void,
    /// Bytes at `data`.
    pub bytes: u32,
    /// Number of elements.
    pub elements: u32,
    /// Type of the elements.
    pub element_type: ElementType,
    /// Number of axes, at most 6.
    pub rank: u32,
    /// Extents. Axes from `rank` on are 1.
    pub shape: [u32; 6],
    /// Scale of an int8 or int16 tensor, else 0.
    pub scale: f32,
    /// Zero point of an int8 tensor, else 0.
    pub zero_point: i32,
}

fn describe(open: &Open, info: Option<TensorInfo>) -> Result<Tensor, Failure> {
    let info = info.ok_or(Error::NoSuchTensor)?;
    let elements = info.elements();
    // A validated tensor lies within the arena, which has fewer than 2^32 bytes.
    Ok(Tensor {
        data: open.at(info.offset as usize).cast(),
        bytes: (elements * info.dtype.size()) as u32,
        elements: elements as u32,
        element_type: match info.dtype {
            DType::I8 => ElementType::I8,
            DType::F32 => ElementType::F32,
            DType::I32 => ElementType::I32,
            // int16 is a type only in a runtime that has operators on it.
            #[allow(unreachable_patterns)]
            _ => ElementType::I16,
        },
        rank: info.rank.into(),
        shape: info.shape.map(u32::from),
        scale: info.scale,
        zero_point: info.zero_point.into(),
    })
}

/// Describes input `index` of the selected network, and says where it lies.
///
/// # Safety
/// As for every call; `tensor` points to memory for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_input(network: *mut Offshoot, index: usize, tensor: *mut Tensor) -> Status {
    // SAFETY: the caller vouches for it.
    unsafe { with(network, |open| Ok(write(tensor, describe(open, open.model.input(index))?)?)) }
}

/// Describes output `index` of the selected network, and says where it lies.
///
/// # Safety
/// As for every call; `tensor` points to memory for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_output(
    network: *mut Offshoot,
    index: usize,
    tensor: *mut Tensor,
) -> Status {
    // SAFETY: the caller vouches for it.
    unsafe { with(network, |open| Ok(write(tensor, describe(open, open.model.output(index))?)?)) }
}

/// Writes real numbers to input `index`, one per element, channels last. An int8 input quantises them: `round(x / scale) + zero_point`,
/// ties away from zero, clamped to -128 to 127; NaN becomes the zero point. An int32 input rounds the same way, without a scale.
///
/// # Safety
/// As for every call; `values` points to `count` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_write_input_f32(
    network: *mut Offshoot,
    index: usize,
    values: *const f32,
    count: usize,
) -> Status {
    let work = |open: &mut Open| {
        check(values, count)?;
        open.region().apart(Region::of(values, count))?;
        // SAFETY: the caller vouches for it.
        let values = unsafe { slice(values, count) }?;
        open.engaged(|engine| Ok(engine.write_input_f32(index, values)?))
    };
    // SAFETY: the caller vouches for it.
    unsafe { with(network, work) }
}

/// Reads output `index` as real numbers, one per element, channels last. An int8 output gives `(q - zero_point) * scale`.
///
/// # Safety
/// As for every call; `values` points to memory for `count` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_read_output_f32(
    network: *mut Offshoot,
    index: usize,
    values: *mut f32,
    count: usize,
) -> Status {
    let work = |open: &mut Open| {
        check(values, count)?;
        open.region().apart(Region::of(values.cast_const(), count))?;
        Region::of(network.cast_const(), 1).apart(Region::of(values.cast_const(), count))?;
        if count > 0 {
            // The caller's memory need not be initialised, a slice must be.
            // SAFETY: checked above; the caller vouches for memory of `count` numbers.
            unsafe { values.write_bytes(0, count) };
        }
        // SAFETY: as above.
        let values = unsafe { slice_mut(values, count) }?;
        open.engaged(|engine| Ok(engine.read_output_f32(index, values)?))
    };
    // SAFETY: the caller vouches for it.
    unsafe { with(network, work) }
}

/// Writes the index of the largest element of output `index` to `class_index`. Ties go to the lowest; NaN is never the largest.
///
/// # Safety
/// As for every call; `class_index` points to memory for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_top1(
    network: *mut Offshoot,
    index: usize,
    class_index: *mut u32,
) -> Status {
    let work = |open: &mut Open| {
        let largest = open.engaged(|engine| Ok(engine.top1(index)?))?;
        // SAFETY: the caller vouches for it.
        Ok(unsafe { write(class_index, largest as u32) }?)
    };
    // SAFETY: the caller vouches for it.
    unsafe { with(network, work) }
}
