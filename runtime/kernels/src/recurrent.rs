//! One time step of a recurrent layer, in float32 or on int8 operands.

use crate::dispatch::products_i8;
use crate::portable::float::{canonical, larger};
use crate::sparse_products::SparseBlocks;
use offshoot_format::record::RecurrentKind;

/// The sums of a gate in some number format.
pub trait Sums {
    /// Element type of input and state.
    type Element: Copy;

    /// `gates = bias + input · x` for a gate; does nothing if there is no such gate.
    fn input(&mut self, gate: usize, x: &[Self::Element], gates: &mut [f32]);
    /// `gates += state · h` for a gate.
    fn state(&mut self, gate: usize, h: &[Self::Element], gates: &mut [f32]);
    /// The biases of a block; a layer may have one more block of biases than gates.
    fn bias(&self, block: usize) -> &[f32];
    /// Converts a state value to its stored form.
    fn hold(&self, value: f32) -> Self::Element;
    /// See [`recurrent_step`]. Each number format has its own copy, compiled in this crate.
    fn step(&mut self, kind: RecurrentKind, x: &[Self::Element], s: State<'_, Self::Element>);
}

/// float32 weights: the rows of one gate after another.
#[derive(Clone, Copy, Debug)]
pub struct FloatSums<'a> {
    /// Number of state elements.
    pub units: usize,
    /// `[biases · units]`
    pub bias: &'a [f32],
    /// `[gates · units, inputs]`
    pub input: &'a [f32],
    /// `[gates · units, units]`
    pub state: &'a [f32],
}

/// Rows that are summed at once, so that no addition waits for the one before.
const ROWS: usize = 4;

/// Adds the product of each row with `x` to the row's sum, in order.
fn add_products(weights: &[f32], x: &[f32], sums: &mut [f32]) {
    let width = x.len().max(1);
    for (sums, rows) in sums.chunks_mut(ROWS).zip(weights.chunks(ROWS * width)) {
        if let ([a, b, c, d], Some((p, q, r, s))) = (&mut *sums, four(rows, width)) {
            for ((((x, p), q), r), s) in x.iter().zip(p).zip(q).zip(r).zip(s) {
                *a += p * x;
                *b += q * x;
                *c += r * x;
                *d += s * x;
            }
        } else {
            for (sum, row) in sums.iter_mut().zip(rows.chunks_exact(width)) {
                *sum = row.iter().zip(x).fold(*sum, |sum, (w, x)| sum + w * x);
            }
        }
    }
}

/// Splits four rows of `width` elements.
fn four(rows: &[f32], width: usize) -> Option<(&[f32], &[f32], &[f32], &[f32])> {
    let (a, rest) = rows.split_at_checked(width)?;
    let (b, rest) = rest.split_at_checked(width)?;
    let (c, d) = rest.split_at_checked(width)?;
    (d.len() == width).then_some((a, b, c, d))
}

/// Block `block` of `units` rows of `width` elements.
fn block<T>(rows: &[T], block: usize, units: usize, width: usize) -> &[T] {
    rows.get(block * units * width..).and_then(|r| r.get(..units * width)).unwrap_or(&[])
}

impl Sums for FloatSums<'_> {
    type Element = f32;

    fn input(&mut self, gate: usize, x: &[f32], gates: &mut [f32]) {
        gates.iter_mut().zip(self.bias(gate)).for_each(|(g, b)| *g = *b);
        add_products(block(self.input, gate, self.units, x.len()), x, gates);
    }

    fn state(&mut self, gate: usize, h: &[f32], gates: &mut [f32]) {
        add_products(block(self.state, gate, self.units, h.len()), h, gates);
    }

    fn bias(&self, block: usize) -> &[f32] {
        self::block(self.bias, block, self.units, 1)
    }

    fn hold(&self, value: f32) -> f32 {
        canonical(value)
    }

    fn step(&mut self, kind: RecurrentKind, x: &[f32], s: State<'_, f32>) {
        step(kind, self, x, s);
    }
}

/// int8 weights of a layer's input or state.
#[derive(Clone, Copy, Debug)]
pub enum RecurrentMatrix<'a> {
    /// `[gates · units, columns]`
    Dense(&'a [i8]),
    /// Each gate's rows are one block.
    Sparse(SparseBlocks<'a>),
}

impl RecurrentMatrix<'_> {
    /// `sums[r] = Σ weights[r, i] · (x[i] - zero)` for the rows of a gate; sums wrap. A sparse matrix has the zero
    /// point's part in its start values.
    fn products(&mut self, gate: usize, x: &[i8], zero: i8, sums: &mut [i32]) {
        match self {
            Self::Dense(weights) => {
                let weights = block(weights, gate, sums.len(), x.len());
                products_i8(weights, x, zero, sums);
            }
            // Without the feature there is no sparse matrix, and its kernels are not linked.
            Self::Sparse(_) if cfg!(not(feature = "op-recurrent-sparse")) => {}
            Self::Sparse(rows) => rows.products(gate, x, sums),
        }
    }
}

/// int8 weights, and workspace for their sums.
#[derive(Debug)]
pub struct CodeSums<'a> {
    /// Number of state elements.
    pub units: usize,
    /// `[biases · units]`
    pub bias: &'a [f32],
    /// `[gates · units]`: input scale times the row's weight scale.
    pub scale_input: &'a [f32],
    /// `[gates · units]`: state scale times the row's weight scale.
    pub scale_state: &'a [f32],
    /// `[gates · units, inputs]`
    pub input: RecurrentMatrix<'a>,
    /// `[gates · units, units]`
    pub state: RecurrentMatrix<'a>,
    /// Zero points of input and state.
    pub zeros: [i8; 2],
    /// Scale of the state.
    pub scale: f32,
    /// `[units]`
    pub sums: &'a mut [i32],
}

impl Sums for CodeSums<'_> {
    type Element = i8;

    fn input(&mut self, gate: usize, x: &[i8], gates: &mut [f32]) {
        self.input.products(gate, x, self.zeros[0], self.sums);
        let scale = block(self.scale_input, gate, self.units, 1);
        for (((g, b), s), sum) in gates.iter_mut().zip(self.bias(gate)).zip(scale).zip(self.sums.iter()) {
            *g = b + s * *sum as f32;
        }
    }

    fn state(&mut self, gate: usize, h: &[i8], gates: &mut [f32]) {
        self.state.products(gate, h, self.zeros[1], self.sums);
        let scale = block(self.scale_state, gate, self.units, 1);
        for ((g, s), sum) in gates.iter_mut().zip(scale).zip(self.sums.iter()) {
            *g += s * *sum as f32;
        }
    }

    fn bias(&self, block: usize) -> &[f32] {
        self::block(self.bias, block, self.units, 1)
    }

    fn hold(&self, value: f32) -> i8 {
        let code = libm::roundf(value / self.scale);
        let zero = i32::from(self.zeros[1]);
        if code.is_nan() {
            self.zeros[1]
        } else {
            (code.clamp(-512.0, 512.0) as i32 + zero).clamp(-128, 127) as i8
        }
    }

    fn step(&mut self, kind: RecurrentKind, x: &[i8], s: State<'_, i8>) {
        step(kind, self, x, s);
    }
}

/// State and workspace of a time step. All slices but `gates` have `[units]` elements, or none if the kind does not
/// need them.
#[derive(Debug)]
pub struct State<'a, T> {
    /// State carried in float32.
    pub carried: &'a mut [f32],
    /// The state in its stored form.
    pub held: &'a mut [T],
    /// The state after the reset gate.
    pub reset: &'a mut [T],
    /// `[biases · units]`
    pub gates: &'a mut [f32],
}

/// Logistic function.
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + libm::expf(-x))
}

/// Runs one time step: updates the state, and leaves the activated gates in `gates`.
pub fn recurrent_step<S: Sums>(kind: RecurrentKind, own: &mut S, x: &[S::Element], s: State<'_, S::Element>) {
    own.step(kind, x, s);
}

fn step<S: Sums>(kind: RecurrentKind, own: &mut S, x: &[S::Element], s: State<'_, S::Element>) {
    let units = s.held.len();
    let State { carried, held, reset, gates } = s;
    let mut blocks = gates.chunks_exact_mut(units.max(1));
    let mut next = || blocks.next().unwrap_or(&mut []);
    match kind {
        RecurrentKind::Tanh | RecurrentKind::Relu => {
            let gate = next();
            own.input(0, x, gate);
            own.state(0, held, gate);
            for (h, g) in held.iter_mut().zip(gate) {
                // As in `UnaryKind::Clip`, NaN becomes 0.
                *h = own.hold(if kind == RecurrentKind::Relu { larger(*g, 0.0) } else { libm::tanhf(*g) });
            }
        }
        RecurrentKind::Gru | RecurrentKind::GruResetAfter => {
            let (u, r, c, pulled) = (next(), next(), next(), next());
            for (gate, sums) in [&mut *u, &mut *r].into_iter().enumerate() {
                own.input(gate, x, sums);
                own.state(gate, held, sums);
                sums.iter_mut().for_each(|g| *g = sigmoid(*g));
            }
            own.input(2, x, c);
            if kind == RecurrentKind::Gru {
                for ((reset, r), h) in reset.iter_mut().zip(r).zip(carried.iter()) {
                    *reset = own.hold(*r * h);
                }
                own.state(2, reset, c);
            } else {
                pulled.iter_mut().zip(own.bias(3)).for_each(|(p, b)| *p = *b);
                own.state(2, held, pulled);
                for ((c, r), p) in c.iter_mut().zip(r).zip(pulled) {
                    *c += *r * *p;
                }
            }
            for (((h, carried), u), c) in held.iter_mut().zip(carried).zip(u).zip(c) {
                *c = libm::tanhf(*c);
                *carried = canonical(*u * *carried + (1.0 - *u) * *c);
                *h = own.hold(*carried);
            }
        }
        RecurrentKind::Lstm => {
            let (i, f, o, g) = (next(), next(), next(), next());
            for (gate, sums) in [&mut *i, &mut *f, &mut *o, &mut *g].into_iter().enumerate() {
                own.input(gate, x, sums);
                own.state(gate, held, sums);
            }
            for gate in [&mut *i, &mut *f, &mut *o] {
                gate.iter_mut().for_each(|g| *g = sigmoid(*g));
            }
            g.iter_mut().for_each(|g| *g = libm::tanhf(*g));
            for (j, (h, carried)) in held.iter_mut().zip(carried).enumerate() {
                *carried = canonical(f[j] * *carried + i[j] * g[j]);
                *h = own.hold(o[j] * libm::tanhf(*carried));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparse::Sparse;
    use crate::sparse::testing::encode;
    use offshoot_format::sparse::Form;
    use proptest::prelude::*;
    use std::vec::Vec;

    const KINDS: [RecurrentKind; 5] = [
        RecurrentKind::Tanh,
        RecurrentKind::Relu,
        RecurrentKind::Gru,
        RecurrentKind::GruResetAfter,
        RecurrentKind::Lstm,
    ];

    proptest! {
        /// Every host kernel gives the same sums as `portable`.
        #[test]
        fn products_are_those_of_every_kernel(
            width in 1usize..70,
            rows in 1usize..20,
            zero in any::<i8>(),
            seed in any::<u32>(),
        ) {
            let mut random = crate::random::Random::new(seed);
            let mut draw = |n: usize| -> Vec<i8> { (0..n).map(|_| random.next_u32() as i8).collect() };
            let (weights, x) = (draw(width * rows), draw(width));
            let mut plain = vec![0; rows];
            products_i8(&weights, &x, zero, &mut plain);
            for (r, sum) in plain.iter().enumerate() {
                let row = &weights[r * width..][..width];
                let expected: i32 = row.iter().zip(&x).map(|(&w, &x)| i32::from(w) * (i32::from(x) - i32::from(zero))).sum();
                prop_assert_eq!(*sum, expected);
            }
            let mut fast = vec![7; rows];
            products_i8(&weights, &x, zero, &mut fast);
            prop_assert_eq!(fast, plain);
        }
    }

    proptest! {
        /// Steps on sparse weights equal those on the equivalent dense weights, for all kinds, forms and zero points.
        #[test]
        fn sparse_steps_are_dense_ones(
            kind in prop::sample::select(&KINDS[..]),
            forms in any::<[u8; 2]>(),
            (inputs, units) in (1usize..20, 1usize..20),
            left in 0u32..101,
            zeros in prop::sample::select(vec![[0i8, 0], [-128, 0], [3, 127], [0, -7]]),
            seed in any::<u32>(),
        ) {
            let mut random = crate::random::Random::new(seed);
            let rows = kind.gates() * units;
            let mut real = |n: usize| -> Vec<f32> { (0..n).map(|_| 1e-3 * random.normal()).collect() };
            let (bias, scale_input, scale_state) = (real(kind.biases() * units), real(rows), real(rows));
            let mut codes = |n: usize, left: u32| -> Vec<i8> {
                let code = |random: &mut crate::random::Random| (random.next_u32() as i8).max(-127);
                (0..n).map(|_| if random.next_u32() % 100 < left { code(&mut random) } else { 0 }).collect()
            };
            let weights = [codes(rows * inputs, left), codes(rows * units, left)];
            let xs: Vec<_> = (0..3).map(|_| codes(inputs, 100)).collect();
            // The last of the four forms is dense.
            let form = |of: u8| [Form::Bytes, Form::Nibbles, Form::Blocks].get(usize::from(of % 4)).copied();
            let kept = [inputs, units].map(|n| n.is_multiple_of(4));
            let forms = [0, 1].map(|i| form(forms[i]).filter(|f| *f != Form::Blocks || kept[i]));
            let encoded = [0, 1].map(|i| forms[i].map(|f| encode(&weights[i], [inputs, units][i], f)));
            let starts = [0, 1].map(|i| -> Vec<i32> {
                let rows = weights[i].chunks([inputs, units][i]);
                let sum = |row: &[i8]| -> i32 { row.iter().map(|w| i32::from(*w)).sum() };
                rows.map(|row| -i32::from(zeros[i]) * sum(row)).filter(|_| zeros[i] != 0).collect()
            });
            let sparse = [0, 1].map(|i| match &encoded[i] {
                None => RecurrentMatrix::Dense(&weights[i]),
                Some((repr, blob)) => {
                    let matrix = Sparse::of(repr, rows, bytemuck::cast_slice(blob)).unwrap();
                    assert!(matrix.check([inputs, units][i] as u64));
                    RecurrentMatrix::Sparse(SparseBlocks::new(&starts[i], matrix))
                }
            });
            let run = |[input, state]: [RecurrentMatrix<'_>; 2]| {
                let (mut sums, mut gates) = (vec![0; units], vec![0.0; kind.biases() * units]);
                let (bias, scale_input, scale_state) = (&bias, &scale_input, &scale_state);
                let scale = 0.01;
                let sums = &mut sums;
                let mut own =
                    CodeSums { units, bias, scale_input, scale_state, input, state, zeros, scale, sums };
                let (mut carried, mut held) = (vec![0.0; units], vec![zeros[1]; units]);
                let mut reset = vec![0; if kind == RecurrentKind::Gru { units } else { 0 }];
                for x in &xs {
                    let state =
                        State { carried: &mut carried, held: &mut held, reset: &mut reset, gates: &mut gates };
                    recurrent_step(kind, &mut own, x, state);
                }
                let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                (held.clone(), bits(&carried), bits(&gates))
            };
            let dense = run([0, 1].map(|i| RecurrentMatrix::Dense(&weights[i])));
            prop_assert_eq!(run(sparse), dense);
        }
    }
}
