//! Tables of int16 functions: 513 entries, 128 steps of the input apart, and TFLite's table of sigmoid.

use offshoot::format::int16::ENTRIES;
use offshoot_ir::UnaryKind;

use super::unary;
use crate::forms::parameters::Reason;
use crate::lowered::Tensor;

/// Rounds half away from zero, and saturates. NaN becomes 0.
fn code(v: f64) -> i16 {
    v.round() as i16
}

/// Why a function has no table; `None` if it has one.
pub(super) fn obstacle(kind: UnaryKind, x: &Tensor, y: &Tensor) -> Option<Reason> {
    use UnaryKind::{Abs, Elu, Erf, Exp, Gelu, GeluTanh, HardSigmoid, HardSwish, LeakyRelu, Neg, Softplus};
    // Between two entries, lines are close to these; poles and steps are not.
    let smooth = matches!(
        kind,
        Abs | Elu { .. }
            | Erf
            | Exp
            | Gelu
            | GeluTanh
            | HardSigmoid { .. }
            | HardSwish
            | LeakyRelu { .. }
            | Neg
            | Softplus
    );
    let step = matches!(kind, HardSigmoid { alpha, .. } if alpha.abs() * 128.0 * x.scale > 1.0);
    if !smooth || step {
        return Some("it has no int16 kernel".into());
    }
    let finite = (0..ENTRIES).all(|i| real(kind, x, i).is_finite());
    (!finite || y.scale <= 0.0).then(|| "the function is not finite everywhere".into())
}

/// The function at entry `i`.
fn real(kind: UnaryKind, x: &Tensor, i: usize) -> f64 {
    unary::function(kind, (i as f64 * 128.0 - 32768.0) * f64::from(x.scale))
}

/// The table of a function between two scales. Entries are moved by half of what a line between them misses in its middle, as
/// TFLite does.
pub(super) fn function(kind: UnaryKind, x: &Tensor, y: &Tensor) -> [i16; ENTRIES] {
    let at = |steps: f64| unary::function(kind, steps * f64::from(x.scale)) / f64::from(y.scale);
    std::array::from_fn(|i| {
        let from = i as f64 * 128.0 - 32768.0;
        let value = at(from).round();
        if i + 1 == ENTRIES {
            return code(value);
        }
        let middle = ((at(from + 128.0) + value) / 2.0).round();
        code(value - ((middle - at(from + 64.0).round()) / 2.0).round())
    })
}

/// TFLite's `LUTPopulate`, which computes in float32: the table of `f` over inputs from `least` to `most`, for outputs with
/// scale 2 / 65535.
fn float_table([least, most]: [f32; 2], f: impl Fn(f32) -> f32) -> [i16; ENTRIES] {
    let step = (most - least) / 512.0;
    let half = step / 2.0;
    let scale = 2.0 / 65535.0f32;
    let inverse = 65536.0 / (scale * 32767.0 - scale * -32768.0);
    let table = |v: f32| v.clamp(-32768.0, 32767.0) as i16;
    std::array::from_fn(|i| {
        if i + 1 == ENTRIES {
            return table((f(most) * inverse).round());
        }
        let from = least + i as f32 * step;
        let (value, middle) = (f(from), f(from + half));
        let next = f(least + (i + 1) as f32 * step);
        let sample = (value * inverse).round();
        let between = ((next * inverse + (value * inverse).round()) / 2.0).round();
        let error = between - (middle * inverse).round();
        table(sample - (error / 2.0).round())
    })
}

/// e^x over -10 … 0.
pub(super) fn exponential() -> [i16; ENTRIES] {
    let scale = 10.0 / 65535.0f32;
    // Rounded once: what a correctly rounded `expf` gives.
    float_table([scale * (-32768.0 - 32767.0), scale * 0.0], |x| libm::exp(x.into()) as f32)
}

/// 1 / (1 + x) over 0 … 1.
pub(super) fn inverse() -> [i16; ENTRIES] {
    let scale = 1.0 / 65535.0f32;
    float_table([scale * 0.0, scale * 65535.0], |x| 1.0 / (1.0 + x))
}

/// Multiplier and shift that take an input to steps of 1 / 12288, as TFLite finds them.
pub(super) fn sigmoid_scaling(scale: f32, tanh: bool) -> (u16, u8) {
    // 2^-12, and for tanh 2^-11, need no rounding.
    let log = scale.ln() * (1.0 / 2.0f32.ln());
    let power = log.round() + 12.0;
    if (log - log.round()).abs() < 1e-3 && (power == 0.0 || tanh && power == 1.0) {
        return (3 << power as u16, 0);
    }
    let (mut multiplier, mut shift) = (f64::from(scale) * 4096.0 * 3.0, 0);
    while multiplier <= 32767.0 / 2.0 && shift <= 30 {
        shift += 1;
        multiplier *= 2.0;
    }
    (multiplier.min(32767.0) as u16, shift)
}

/// 65536 / (1 + e^(-i / 24)), as TFLite lists it.
pub(super) const SIGMOID: [u16; 256] = [
    32768, 33451, 34133, 34813, 35493, 36169, 36843, 37513, 38180, 38841, 39498, 40149, 40794, 41432, 42064,
    42688, 43304, 43912, 44511, 45102, 45683, 46255, 46817, 47369, 47911, 48443, 48964, 49475, 49975, 50464,
    50942, 51409, 51865, 52311, 52745, 53169, 53581, 53983, 54374, 54755, 55125, 55485, 55834, 56174, 56503,
    56823, 57133, 57433, 57724, 58007, 58280, 58544, 58800, 59048, 59288, 59519, 59743, 59959, 60168, 60370,
    60565, 60753, 60935, 61110, 61279, 61441, 61599, 61750, 61896, 62036, 62172, 62302, 62428, 62549, 62666,
    62778, 62886, 62990, 63090, 63186, 63279, 63368, 63454, 63536, 63615, 63691, 63765, 63835, 63903, 63968,
    64030, 64090, 64148, 64204, 64257, 64308, 64357, 64405, 64450, 64494, 64536, 64576, 64614, 64652, 64687,
    64721, 64754, 64786, 64816, 64845, 64873, 64900, 64926, 64950, 64974, 64997, 65019, 65039, 65060, 65079,
    65097, 65115, 65132, 65149, 65164, 65179, 65194, 65208, 65221, 65234, 65246, 65258, 65269, 65280, 65291,
    65301, 65310, 65319, 65328, 65337, 65345, 65352, 65360, 65367, 65374, 65381, 65387, 65393, 65399, 65404,
    65410, 65415, 65420, 65425, 65429, 65433, 65438, 65442, 65445, 65449, 65453, 65456, 65459, 65462, 65465,
    65468, 65471, 65474, 65476, 65479, 65481, 65483, 65485, 65488, 65489, 65491, 65493, 65495, 65497, 65498,
    65500, 65501, 65503, 65504, 65505, 65507, 65508, 65509, 65510, 65511, 65512, 65513, 65514, 65515, 65516,
    65517, 65517, 65518, 65519, 65520, 65520, 65521, 65522, 65522, 65523, 65523, 65524, 65524, 65525, 65525,
    65526, 65526, 65526, 65527, 65527, 65528, 65528, 65528, 65529, 65529, 65529, 65529, 65530, 65530, 65530,
    65530, 65531, 65531, 65531, 65531, 65531, 65532, 65532, 65532, 65532, 65532, 65532, 65533, 65533, 65533,
    65533, 65533, 65533, 65533, 65533, 65534, 65534, 65534, 65534, 65534, 65534, 65534, 65534, 65534, 65534,
    65535,
];
