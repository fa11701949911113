//! A function of one int8 element, as the table of its 256 results.

use serde::{Deserialize, Serialize};

use crate::Quant;

/// Codes of int8.
const CODES: std::ops::RangeInclusive<i32> = -128..=127;

/// A function from one int8 grid to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lookup {
    /// Grid of the input, with one scale.
    pub from: Quant,
    /// Grid of the output, with one scale.
    pub to: Quant,
    /// Output code of each input code, from -128 to 127.
    pub table: Vec<i8>,
}

impl Lookup {
    /// The table of a function of real numbers, as ONNX defines Dequantize, function and Quantize: all in float32, rounded half
    /// to even. Not a number becomes the zero point.
    pub fn of(from: Quant, to: Quant, function: impl Fn(f32) -> f32) -> Self {
        let table = CODES.map(|code| to_code(function(real(code, &from)), &to)).collect();
        Self { from, to, table }
    }

    /// The function of a real number, which is first rounded to the input's grid.
    pub fn apply(&self, x: f32) -> f32 {
        let at = (i32::from(to_code(x, &self.from)) + 128) as usize;
        real(self.table.get(at).copied().map_or(0, i32::from), &self.to)
    }
}

/// The real number of a code.
fn real(code: i32, quant: &Quant) -> f32 {
    (code - quant.zero_point[0]) as f32 * quant.scale[0]
}

/// The code of a real number.
fn to_code(x: f32, quant: &Quant) -> i8 {
    let zero = quant.zero_point[0];
    if x.is_nan() {
        return zero.clamp(-128, 127) as i8;
    }
    ((x / quant.scale[0]).round_ties_even() + zero as f32).clamp(-128.0, 127.0) as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_to_the_even_code() {
        let grid = Quant::per_tensor(0.5, 3);
        let half = Lookup::of(grid.clone(), grid, |v| v / 2.0);
        // From the zero point on: 0, 0.25, 0.5, 0.75, 1.0 in steps of 0.5.
        assert_eq!(half.table[131..136], [3, 3, 4, 5, 5]);
        assert_eq!(half.apply(1.5), 1.0);
        let reciprocal = Lookup::of(Quant::per_tensor(1.0, 0), Quant::per_tensor(0.25, 0), |v| 1.0 / v);
        assert_eq!(reciprocal.table[128..131], [127, 4, 2]);
    }
}
