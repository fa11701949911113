//! Learning rates over time. No schedule needs held-out labels.
//!
//! A factor is a multiple of 2^-15, computed in integers, so that float and integer networks follow the same schedule.

pub use offshoot_format::learn::Schedule;

/// The factor 1.
pub const ONE: u32 = 1 << 15;

/// Factor of a schedule at a step, as a multiple of 1 / [`ONE`].
pub fn factor(schedule: Schedule, step: u32) -> u32 {
    let one = u64::from(ONE);
    // Each numerator is below 2^48 and its last factor at most the divisor: quotients are at most `ONE`.
    let factor = match schedule {
        Schedule::Constant => one,
        Schedule::Linear { steps } => one * u64::from(steps.saturating_sub(step)) / u64::from(steps.max(1)),
        Schedule::Cosine { steps } => {
            let x = one * u64::from(step.min(steps)) / u64::from(steps.max(1));
            cosine(x)
        }
        Schedule::Inverse { half } => one * u64::from(half) / (u64::from(half) + u64::from(step)).max(1),
    };
    factor as u32
}

/// The rate of a schedule at a step, for float networks.
pub fn rate(schedule: Schedule, rate: f32, step: u32) -> f32 {
    rate * (factor(schedule, step) as f32 * (1.0 / ONE as f32))
}

/// `(1 + cos(π x)) / 2` for x in 0..=ONE: cos y ≈ (π² - 4y²)/(π² + y²) on the first half, mirrored on the second.
fn cosine(x: u64) -> u64 {
    let one = u64::from(ONE);
    let first = x <= one / 2;
    let y = if first { x } else { one - x };
    let cos = one * (one * one - 4 * y * y) / (one * one + y * y);
    if first { (one + cos) / 2 } else { (one - cos) / 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn courses() {
        assert_eq!(factor(Schedule::Constant, 7), ONE);
        let linear = Schedule::Linear { steps: 4 };
        assert_eq!([0, 1, 4, 9].map(|s| factor(linear, s)), [ONE, ONE * 3 / 4, 0, 0]);
        assert_eq!(factor(Schedule::Inverse { half: 10 }, 10), ONE / 2);
        assert_eq!(factor(Schedule::Linear { steps: 0 }, 0), 0);
        assert_eq!(factor(Schedule::Inverse { half: 0 }, 0), 0);
        for step in 0..=1000 {
            let exact = (1.0 + (core::f64::consts::PI * f64::from(step) / 1000.0).cos()) / 2.0;
            let ours = f64::from(factor(Schedule::Cosine { steps: 1000 }, step)) / f64::from(ONE);
            assert!((exact - ours).abs() < 0.002, "{step}: {exact} {ours}");
        }
        assert_eq!(factor(Schedule::Cosine { steps: u32::MAX }, u32::MAX), 0);
        assert_eq!(factor(Schedule::Inverse { half: u32::MAX }, u32::MAX), ONE / 2);
    }
}
