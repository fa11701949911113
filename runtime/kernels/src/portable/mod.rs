//! The reference kernels in plain Rust; every other kernel gives the same bits.
//!
//! int8 follows TFLite Micro's reference kernels to the byte. float32 adds and multiplies in a stated order, without
//! fused operations; transcendental functions are `libm`'s. Callers (`offshoot-operators`) have checked the record, so
//! slices have the lengths it implies.

mod conv;
mod conv_transpose;
mod elementary;
mod elementwise;
pub mod fixed_point;
pub mod float;
mod grid_sample;
mod huffman;
mod indexed;
mod int16;
mod matmul;
mod micro_frontend;
mod movement;
mod norm;
mod packed;
mod pool;
mod quantize;
mod reduce;
mod resize;
mod row_major;
mod rows;
mod softmax;
mod sparse;
mod spectrum;
mod tiled;
mod unary;
mod weight_only;
mod winograd;

#[cfg(any(wide, arm_dsp, scalar))]
pub use conv::taps;
pub use conv::{conv2d_f32, conv2d_i8, conv2d_i8_with, depthwise_f32, depthwise_i8};
pub use conv_transpose::{conv_transpose_f32, conv_transpose_i8};
pub use elementary::{binary_math, binary_math_f32, elementary, elementary_f32};
pub use elementwise::{binary_f32, binary_i8};
pub use grid_sample::grid_sample;
pub use huffman::{Table, fill_table, fully_connected_huffman, is_complete};
pub use indexed::{gather, scatter_f32, scatter_i8, scatter_set, to_float, to_int, top_k_f32, top_k_i8};
#[cfg(arm_dsp)]
pub(crate) use int16::wide_output;
pub use int16::{
    RequantInt16, binary_int16, conv_int16, dequantize_int16, int8_to_int16, int16_to_int8, lut_int16,
    pool_int16, products_int16, quantize_int16, reduce_int16, requantize_int16, sigmoid_int16, softmax_int16,
};
pub use matmul::{fully_connected_f32, fully_connected_i8, matmul_f32, matmul_i8, products_i8};
pub use micro_frontend::{MicroTables, micro_bands, micro_features, micro_noise, micro_spectrum};
pub use movement::{copy_strided, pad};
pub use norm::layer_norm_f32;
pub use packed::{expand, fill_halves};
pub use pool::{pool_f32, pool_i8};
pub use quantize::{dequantize, quantize};
pub use reduce::{argmax_f32, argmax_i8, reduce_f32, reduce_i8};
pub use resize::{resize_bilinear_f32, resize_bilinear_i8, resize_nearest};
pub use row_major::{conv_row_major, gather_row_major};
pub use rows::{add_errors, add_windows, select, select_errors};
pub use rows::{add_rows, energy};
pub use softmax::{softmax_f32, softmax_i8};
pub use sparse::{add_sparse, gather_column, requantise_sums};
pub use spectrum::{bins, fully_connected_banded, has_transform, transform, windowed};
#[cfg(any(arm_dsp, scalar, test))]
pub(crate) use tiled::requantise;
pub use tiled::{
    conv_pair, conv_pair_single_multiply, conv_vector, depthwise_band, gather_band, gather_pair,
};
pub use unary::{lut_i8, prelu_f32, prelu_i8, requantize, unary, unary_f32};
pub use weight_only::{Codes, conv_channel_f32, unpack_weights};
pub use winograd::conv_winograd;
