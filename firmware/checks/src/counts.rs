//! Instructions of kernels: `firmware/checks.sh --board cortex-m4 --counts` lets the emulator's time pass with them.

use crate::Bench;
use crate::int16::{Scales, halves, halves_mut};
use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_semihosting::hprintln;
use offshoot_format::record::{
    Arith, BinaryInt16, BinaryKind, Conv2d, ConvInt16, Int16Change, Operand, RequantizeInt16, SoftmaxInt16,
    UnaryKind, Window,
};
use offshoot_kernels::geometry::extent;
use offshoot_kernels::portable::{self, RequantInt16};

/// Prints the instructions of a call, in hundredths for each of `count` elements or products.
fn measure(name: &str, count: usize, call: impl FnOnce()) {
    let before = SYST::get_current();
    call();
    let ticks = u64::from(before.wrapping_sub(SYST::get_current()) & 0xff_ffff);
    // An instruction takes 64 ns, a tick of the 25 MHz clock 40 ns.
    let hundredths = ticks * 1000 / 16 / count as u64;
    hprintln!("{}: {}.{:02}", name, hundredths / 100, hundredths % 100);
}

fn window(kernel: u16) -> Window {
    Window { kernel: [kernel; 2], stride: [1; 2], dilation: [1; 2], pad: [kernel / 2; 4] }
}

/// Instructions a multiply-accumulate, and an element.
pub(crate) fn print(bench: &mut Bench) {
    // SAFETY: nothing else uses the peripherals.
    let mut core = unsafe { cortex_m::Peripherals::steal() };
    core.SYST.set_clock_source(SystClkSource::Core);
    core.SYST.set_reload(0xff_ffff);
    core.SYST.clear_current();
    core.SYST.enable_counter();
    layers(bench);
    float(bench);
    elements(bench);
}

fn layers(bench: &mut Bench) {
    let cases = [
        ("3x3, 64 to 16 channels", 3, 8, 64, 16, false),
        ("3x3, 16 to 32 channels", 3, 8, 16, 32, false),
        ("3x3, 3 to 16 channels", 3, 8, 3, 16, false),
        ("1x1, 64 to 64 channels", 1, 8, 64, 64, false),
        ("1x1, 16 to 32 channels", 1, 8, 16, 32, false),
        ("fully connected, 256 to 64", 1, 1, 256, 64, false),
        ("fully connected, 64 to 12", 1, 1, 64, 12, false),
        ("depthwise 3x3, 64 channels", 3, 8, 64, 64, true),
        ("depthwise 5x5, 32 channels", 5, 8, 32, 32, true),
    ];
    for (name, kernel, side, c, out_c, depthwise) in cases {
        let window = window(kernel);
        let r = ConvInt16 {
            src: 0,
            dst: 0,
            n: 1,
            h: side,
            w: side,
            c,
            out_c,
            groups: if depthwise { c } else { 1 },
            window: window.into(),
            per_channel: true,
            wide: true,
            clamp: None,
            blob: 0,
        };
        let channels = usize::from(out_c);
        let taps = usize::from(kernel * kernel * c / r.groups);
        let outputs = extent(side.into(), &window, 0) * extent(side.into(), &window, 1) * channels;
        bench.parameters.draw(&mut bench.random, taps);
        let scales = Scales::draw(&mut bench.random, true, taps);
        let q = RequantInt16 {
            bias: &scales.bias[..2 * channels],
            multiplier: &scales.multiplier[..channels],
            shift: &scales.shift[..channels],
            wide: true,
            bounds: (i16::MIN, i16::MAX),
        };
        let weights = &bench.parameters.weights[..taps * channels];
        let (src, dst) = bench.work.split_at_mut(2 * usize::from(side * side * c));
        let (src, dst) = (halves(src), halves_mut(&mut dst[..2 * outputs]));
        hprintln!("int16 {}", name);
        measure("  a product", outputs * taps, || offshoot_kernels::conv_int16(&r, &q, weights, src, dst));
        measure("  portable", outputs * taps, || portable::conv_int16(&r, &q, weights, src, dst));
    }
}

fn floats(bytes: &mut [u8]) -> &mut [f32] {
    assert!(bytes.as_ptr().addr().is_multiple_of(4));
    // SAFETY: aligned, and every bit pattern is a number.
    unsafe { core::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len() / 4) }
}

fn float(bench: &mut Bench) {
    let weights = floats(&mut bench.expected[..4 * 4096]);
    weights.iter_mut().enumerate().for_each(|(i, w)| *w = i as f32 / 5000.0 - 0.4);
    let (src, dst) = bench.work.split_at_mut(1 << 15);
    let (src, dst) = (floats(src), floats(dst));
    src.iter_mut().enumerate().for_each(|(i, w)| *w = (i % 77) as f32 / 10.0 - 4.0);
    let r = Conv2d {
        src: 0,
        dst: 0,
        n: 1,
        h: 8,
        w: 8,
        c: 64,
        out_c: 64,
        groups: 1,
        window: window(1).into(),
        arith: Arith::F32 { clamp: None },
        blob: 0,
    };
    let bounds = (f32::MIN, f32::MAX);
    measure("float32 1x1, 64 to 64 channels, a product", 64 * 4096, || {
        portable::conv2d_f32(&r, bounds, &[0.5; 64], weights, &src[..4096], &mut dst[..4096]);
    });
    let functions = [
        ("float32 clip", UnaryKind::Clip { min: 0.0, max: 6.0 }),
        ("float32 tanh", UnaryKind::Tanh),
        ("float32 gelu", UnaryKind::Gelu),
    ];
    for (name, kind) in functions {
        let x = &mut dst[..1024];
        x.copy_from_slice(&src[..1024]);
        measure(name, 1024, || portable::unary_f32(kind, x));
    }
}

fn elements(bench: &mut Bench) {
    let table = [77; 513];
    let scale = RequantizeInt16 {
        src: 0,
        dst: 0,
        len: 1024,
        change: Int16Change::Scale,
        zp: 0,
        multiplier: 1 << 30,
        shift: 0,
        clamp: Some((0, i16::MAX)),
    };
    let softmax =
        SoftmaxInt16 { src: 0, dst: 0, rows: 16, depth: 64, multiplier: 1 << 30, shift: 0, blob: 0 };
    let sum = BinaryInt16 {
        kind: BinaryKind::Add,
        swapped: false,
        a: 0,
        b: Operand::Arena(0),
        dst: 0,
        dims: [1, 1, 1, 512],
        broadcast: 0,
        clamp: None,
        scales: [(1 << 30, 0), (1 << 30, 0), (1 << 30, -14)],
    };
    let x = halves_mut(&mut bench.work[..2048]);
    measure("int16 function (table)", 1024, || portable::lut_int16(&table, x));
    measure("int16 clip, and to another scale", 1024, || portable::requantize_int16(&scale, x));
    measure("int16 softmax", 1024, || portable::softmax_int16(&softmax, &table, &table, x));
    let (x, b) = x.split_at_mut(512);
    measure("int16 sum", 512, || portable::binary_int16(&sum, b, x));
}
