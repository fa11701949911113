//! Fixed-point multipliers under the name that exporters look for; the arithmetic is shared with the passes.

pub use offshoot_ir::quant_math::quantize_multiplier;
