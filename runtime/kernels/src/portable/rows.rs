//! Building blocks of train steps: sums of int8 rows, and the energy of a tensor.

use crate::gradient::{Inputs, Outputs, Rows, Starts, Windows};

/// Adds the windows that begin at `rows` to `sums`, line by line as [`add_rows`] does.
pub fn add_windows(x: &[i8], rows: Rows<'_>, windows: &Windows, zero: i32, factor: i32, sums: &mut [i32]) {
    for line in 0..windows.lines {
        let sums = sums.get_mut(line * windows.pitch + windows.from..).and_then(|s| s.get_mut(..windows.len));
        let offset = windows.offset + line as isize * windows.down;
        add_rows(x, rows.starts(), offset, zero, factor, sums.unwrap_or(&mut []));
    }
}

/// Adds the products of the errors with `x[start + offset + i] - zero` to each `sums[i]`, row by row.
pub fn add_errors(x: &[i8], rows: Rows<'_>, errors: &[i32], offset: isize, zero: i32, sums: &mut [i32]) {
    for (start, &error) in rows.starts().iter().zip(errors) {
        add_rows(x, core::slice::from_ref(start), offset, zero, error, sums);
    }
}

/// Appends the input position of each output that lies strictly between the bounds. The list must have room for all.
pub fn select(h: &[i8], outputs: Outputs, bounds: (i8, i8), inputs: Inputs, starts: &mut Starts) {
    for line in 0..outputs.lines {
        let row = h.get(outputs.at + line * outputs.line..).unwrap_or(&[]);
        for (i, &h) in row.iter().step_by(outputs.step.max(1)).take(outputs.count).enumerate() {
            if h > bounds.0 && h < bounds.1 {
                starts.push(inputs.start + line * inputs.line + i * inputs.step);
            }
        }
    }
}

/// Like [`select`] for one row, with an error for each output. Writes the errors of the appended rows to `own` and
/// returns their sum.
#[allow(clippy::too_many_arguments)]
pub fn select_errors(
    h: &[i8],
    outputs: Outputs,
    bounds: (i8, i8),
    start: usize,
    step: usize,
    errors: &[i32],
    starts: &mut Starts,
    own: &mut [i32],
) -> i32 {
    let values = h.get(outputs.at..).unwrap_or(&[]).iter().step_by(outputs.step.max(1));
    let mut own = own.iter_mut();
    let mut total = 0i32;
    for (i, (&h, &error)) in values.take(outputs.count).zip(errors).enumerate() {
        if h > bounds.0 && h < bounds.1 {
            starts.push(start + i * step);
            if let Some(own) = own.next() {
                *own = error;
            }
            total = total.wrapping_add(error);
        }
    }
    total
}

/// Adds `factor · Σ (x[start + offset + i] - zero)`, over all starts, to each `sums[i]`. Ignores starts whose row is
/// not inside `x`.
pub fn add_rows(x: &[i8], starts: &[u32], offset: isize, zero: i32, factor: i32, sums: &mut [i32]) {
    for &start in starts {
        let row = (start as usize).checked_add_signed(offset).and_then(|at| x.get(at..)?.get(..sums.len()));
        for (sum, &x) in sums.iter_mut().zip(row.unwrap_or(&[])) {
            *sum = sum.wrapping_add(factor.wrapping_mul(i32::from(x) - zero));
        }
    }
}

/// `Σ (x - zero)²`
pub fn energy(x: &[i8], zero: i8) -> u64 {
    x.iter().fold(0, |sum, &x| {
        let x = i32::from(x) - i32::from(zero);
        sum + u64::from((x * x) as u32)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_by_hand() {
        let x = [1i8, 2, -3, 4, 127];
        let mut sums = [10, 20];
        add_rows(&x, &[0, 2, 3, 9], 1, 1, 2, &mut sums);
        // Rows [2, -3] and [4, 127]; the others are not inside.
        assert_eq!(sums, [10 + 2 * (1 + 3), 20 + 2 * (-4 + 126)]);
        add_rows(&x, &[0], -1, 0, 1, &mut sums);
        assert_eq!(sums, [18, 264]);
        assert_eq!(energy(&[-128, 127], -128), 255 * 255);
    }
}
