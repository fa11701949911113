//! Input values outside the range of an int8 input: how many there are, and the likely cause.

use offshoot::format::record::DType;
use serde::Serialize;

use crate::port::Port;

/// Share of saturated values from which on a cause is named; a few outliers are normal.
const NOTABLE_SHARE: f64 = 0.01;

/// Values of one input that saturate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Saturated {
    /// How many.
    pub values: u64,
    /// Their share of all values given for this input, from 0 to 1.
    pub share: f64,
    /// Smallest value given.
    pub lowest: f32,
    /// Largest value given.
    pub highest: f32,
    /// Smallest and largest value that the input can represent.
    pub represents: (f32, f32),
    /// Likely cause, if 1 % or more saturate.
    pub cause: Option<String>,
}

impl Saturated {
    /// A line of text about input number `input`.
    pub fn sentence(&self, input: usize) -> String {
        let (low, high) = self.represents;
        let cause = self.cause.as_ref().map_or(String::new(), |c| format!(": {c}"));
        format!(
            "input {input}: {} values saturate ({:.2} %): they range from {} to {}, the model represents {low} to \
             {high}{cause}",
            self.values,
            100.0 * self.share,
            self.lowest,
            self.highest
        )
    }
}

/// Counts saturated values.
#[derive(Debug)]
pub(crate) struct Saturation {
    /// Range of an int8 or int16 input; `None` for other types, which do not saturate.
    represents: Option<(f32, f32)>,
    /// Half a quantisation step: values up to this far outside still round to the end of the range.
    half: f32,
    outside: u64,
    all: u64,
    range: (f32, f32),
    /// Whether all values so far are whole numbers.
    whole: bool,
}

impl Saturation {
    pub(crate) fn new(port: &Port) -> Self {
        let zero = f32::from(port.zero_point);
        let ends = |least: f32, most: f32| ((least - zero) * port.scale, (most - zero) * port.scale);
        Self {
            represents: match port.dtype {
                DType::I8 => Some(ends(-128.0, 127.0)),
                DType::I16 => Some(ends(-32768.0, 32767.0)),
                DType::F32 | DType::I32 => None,
            },
            half: port.scale / 2.0,
            outside: 0,
            all: 0,
            range: (f32::INFINITY, f32::NEG_INFINITY),
            whole: true,
        }
    }

    pub(crate) fn see(&mut self, sample: &[f32]) {
        let Some((low, high)) = self.represents else { return };
        // A little tolerance, since the end of a calibrated range is not always exactly a code.
        let (low, high) = (low - 1.01 * self.half, high + 1.01 * self.half);
        for &v in sample {
            self.range = (self.range.0.min(v), self.range.1.max(v));
            self.outside += u64::from(v < low || v > high);
            self.whole &= v.fract() == 0.0;
        }
        self.all += sample.len() as u64;
    }

    /// The saturated values, if there are any.
    pub(crate) fn found(&self) -> Option<Saturated> {
        let represents = self.represents.filter(|_| self.outside > 0)?;
        let share = self.outside as f64 / self.all.max(1) as f64;
        let (lowest, highest) = self.range;
        let cause = (share >= NOTABLE_SHARE).then(|| self.cause(represents));
        Some(Saturated { values: self.outside, share, lowest, highest, represents, cause })
    }

    fn cause(&self, (low, high): (f32, f32)) -> String {
        let (lowest, highest) = self.range;
        let width = high - low;
        if self.whole && lowest >= 0.0 && highest > 16.0 && highest <= 255.0 && width < highest / 4.0 {
            return "these look like pixels from 0 to 255, but the calibration samples were scaled: \
                    scale these the same way (if they are codes of a network whose ONNX input is uint8: subtract 128 and \
                    save them as int8)"
                .into();
        }
        if self.whole && lowest >= -128.0 && highest <= 127.0 && width < (highest - lowest) / 4.0 {
            return "these look like int8 codes in another element type: save them as int8, or give real numbers"
                .into();
        }
        let factor = (highest / high.max(f32::MIN_POSITIVE)).max(lowest / low.min(-f32::MIN_POSITIVE));
        if factor.is_finite() && factor >= 2.0 {
            return format!(
                "they reach {factor:.0} times as far as the calibration samples: preprocess them in the same way"
            );
        }
        "the calibration samples did not cover this range: compile with --calib samples like these".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port() -> Port {
        Port {
            shape: vec![1, 4],
            channels_first_outside: false,
            dtype: DType::I8,
            scale: 6.0 / 255.0,
            zero_point: 0,
            declared: None,
        }
    }

    #[test]
    fn pixels_for_a_scaled_network_are_named() {
        let mut s = Saturation::new(&port());
        s.see(&[0.0, 17.0, 128.0, 255.0]);
        let found = s.found().unwrap();
        assert_eq!((found.values, found.share), (3, 0.75));
        assert!(found.cause.unwrap().contains("0 to 255"));
    }

    #[test]
    fn numbers_within_reach_do_not_count() {
        let mut s = Saturation::new(&port());
        s.see(&[-3.0, 2.9, 0.0, 1.0]);
        assert_eq!(s.found(), None);
        let mut s = Saturation::new(&Port { dtype: DType::F32, ..port() });
        s.see(&[1e30]);
        assert_eq!(s.found(), None);
    }

    #[test]
    fn a_few_outliers_have_no_cause_and_other_scales_have_a_factor() {
        let mut s = Saturation::new(&port());
        s.see(&[vec![0.0; 999], vec![4.5]].concat());
        assert_eq!(s.found().unwrap().cause, None);
        let mut s = Saturation::new(&port());
        s.see(&[-30.5, 30.5, 1.0, 0.25]);
        assert!(s.found().unwrap().cause.unwrap().contains("10 times"));
    }
}
