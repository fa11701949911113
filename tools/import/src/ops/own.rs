//! Operators of this project's domain, which `emit` writes where ONNX has none: `History`, `MicroFrontend`.

use offshoot_ir::Op;
use offshoot_ir::micro_frontend::{Gain, MicroFrontend};

use crate::context::{Context, Importing, Onnx};

/// Imports one of them.
pub(crate) fn import(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let op = match onnx.node.op_type.as_str() {
        "History" => {
            let x = c.value(onnx, 0)?;
            let axis = onnx.axis("axis", 0, c.shape(x).len())?;
            Op::History { axis, state: size(onnx, "state", 0)?, fill: onnx.float("fill", 0.0) }
        }
        "MicroFrontend" => Op::MicroFrontend(settings(onnx)?),
        other => return Err(format!("there is no operator `{other}` in the domain `offshoot`")),
    };
    let x = c.value(onnx, 0)?;
    c.finish(onnx, op, vec![x], None, 0)
}

fn size<T: TryFrom<i64>>(onnx: &Onnx<'_>, name: &str, default: i64) -> Result<T, String> {
    let given = onnx.int(name, default);
    T::try_from(given).map_err(|_| format!("{name} is {given}"))
}

fn settings(onnx: &Onnx<'_>) -> Result<MicroFrontend, String> {
    let usual = MicroFrontend::default();
    let gain = Gain {
        strength: onnx.float("strength", 0.95),
        offset: onnx.float("offset", 80.0),
        bits: size(onnx, "gain_bits", 21)?,
    };
    Ok(MicroFrontend {
        rate: size(onnx, "rate", usual.rate.into())?,
        frame: size(onnx, "frame", usual.frame as i64)?,
        hop: size(onnx, "hop", usual.hop as i64)?,
        channels: size(onnx, "channels", usual.channels as i64)?,
        range: [onnx.float("low", usual.range[0]), onnx.float("high", usual.range[1])],
        smoothing_bits: size(onnx, "smoothing_bits", usual.smoothing_bits.into())?,
        smoothing: [
            onnx.float("even_smoothing", usual.smoothing[0]),
            onnx.float("odd_smoothing", usual.smoothing[1]),
        ],
        remaining: onnx.float("min_signal_remaining", usual.remaining),
        gain: onnx.has("strength").then_some(gain),
        log: onnx.has("scale_shift").then(|| size(onnx, "scale_shift", 6)).transpose()?,
        keeps: onnx.int("keeps", 0) != 0,
    })
}
