//! int8 fully connected layers and convolutions most of whose weights are zero, as [`record::FullyConnectedSparse`] and
//! [`record::ConvSparse`]: chosen where the device gains by it, and told by how much. Recurrent layers choose by the same rules.

use offshoot::format::codec::Record;
use offshoot::format::record::{self, Window};
use offshoot::format::sparse::{Form, MOST_ENTRIES, SparseRepr};
use offshoot::graph::cost;
use offshoot_ir::Activation;
use serde::Serialize;

use super::blocked::{Extents, emit as emit_record};
use super::linear::{Quantised, requant_blob};
use super::{Context, Lowering, Tensor, clamp_i8, to_u32};
use crate::Prefer;

/// Share of zeros from which on a layer is looked at, and spoken of.
pub(super) const LEAST_ZEROS: f64 = 0.3;

/// What sparse storage makes of a layer, or would.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SparseReport {
    /// `bytes`, `nibbles` or `blocks`: [`Form`]; the best of them for what is preferred. Of a recurrent layer that of the input's
    /// weights and that of the state's, each of which may be `dense` ([`sparse_forms`]).
    pub form: &'static str,
    /// Whether the layer is stored so.
    pub chosen: bool,
    /// Share of weights that are not zero.
    pub density: f64,
    /// Bytes of weights, counts and steps.
    pub weights_bytes: u64,
    /// Bytes of weights as a dense layer.
    pub dense_weights_bytes: u64,
    /// Instructions of a run on Armv7E-M, estimated ([`instructions`]).
    pub instructions_estimated: u64,
    /// Those of a dense layer.
    pub dense_instructions_estimated: u64,
}

impl SparseReport {
    /// A sentence for people.
    pub fn sentence(&self) -> String {
        let verb = if self.chosen { "sparse" } else { "kept dense: sparse" };
        let ratio = |a: u64, b: u64| 100.0 * a as f64 / b.max(1) as f64;
        format!(
            "{:.1} % of the weights are not zero; {verb} ({}) {} of {} bytes ({:.0} %), about {} of {} instructions ({:.0} %)",
            100.0 * self.density,
            self.form,
            self.weights_bytes,
            self.dense_weights_bytes,
            ratio(self.weights_bytes, self.dense_weights_bytes),
            self.instructions_estimated,
            self.dense_instructions_estimated,
            ratio(self.instructions_estimated, self.dense_instructions_estimated),
        )
    }
}

/// The layer that [`emit`] is asked about: it comes from a 1×1 window without padding (`rows` inputs of `c`), or gathers.
pub(super) struct Layer<'l> {
    pub(super) input: Extents,
    pub(super) window: &'l Window,
    pub(super) channels: usize,
    pub(super) activation: Activation,
    /// Bytes of the weights in their dense form.
    pub(super) dense_bytes: &'l dyn Fn() -> usize,
    /// Whether its dense form would be [`record::ConvWinograd`].
    pub(super) by_winograd: bool,
}

impl Layer<'_> {
    /// Whether every output pixel reads one input pixel, one after the other.
    pub(super) fn plain(&self) -> bool {
        self.window.kernel == [1; 2] && self.window.stride == [1; 2] && self.window.pad == [0; 4]
    }
}

/// Lowers a layer, the zero point folded into the biases of `q`; `false` if a dense form is better by what is preferred.
pub(super) fn emit(
    c: &mut Context<'_>,
    x: &Tensor,
    y: &Tensor,
    q: &Quantised<'_>,
    layer: &Layer<'_>,
) -> Lowering<bool> {
    let zeros = q.weights.iter().filter(|w| **w == 0).count() as f64 / q.weights.len().max(1) as f64;
    if zeros < LEAST_ZEROS {
        return Ok(false);
    }
    let taps = q.weights.len() / layer.channels.max(1);
    let pixels = (y.len() / layer.channels.max(1)) as u64;
    let vector = pixels == 1 && layer.plain() && taps.is_multiple_of(4);
    let dense = Cost {
        bytes: (layer.dense_bytes)() as u64,
        instructions: dense_instructions(
            taps as u64,
            layer.channels as u64,
            pixels,
            vector,
            layer.by_winograd,
        ),
    };
    let forms = [Form::Bytes, Form::Nibbles, Form::Blocks].into_iter();
    // A whole layer is read as it lies: blocks must not reach beyond it.
    let forms = forms.filter(|form| *form != Form::Blocks || !layer.plain() || taps.is_multiple_of(4));
    let all: Vec<(Encoded, Cost)> = forms
        .filter_map(|form| {
            let encoded = Encoded::of(q.weights, taps, form)?;
            let own = Cost {
                bytes: encoded.bytes.len() as u64,
                instructions: instructions(
                    &encoded.repr,
                    layer.channels as u64,
                    taps as u64,
                    pixels,
                    layer.plain(),
                ),
            };
            Some((encoded, own))
        })
        .collect();
    let Some(((encoded, cost), chosen)) = best(c.prefer, &all, &dense, pixels) else { return Ok(false) };
    c.sparse = Some(SparseReport {
        form: name(encoded.repr.form),
        chosen,
        density: 1.0 - zeros,
        weights_bytes: cost.bytes,
        dense_weights_bytes: dense.bytes,
        instructions_estimated: cost.instructions,
        dense_instructions_estimated: dense.instructions,
    });
    if chosen {
        store(c, x, y, q, layer, encoded)?;
    }
    Ok(chosen)
}

/// The best of several forms for what is preferred, and whether it is to be had: then of those that are.
pub(super) fn best<'a>(
    prefer: Prefer,
    all: &'a [(Encoded, Cost)],
    dense: &Cost,
    pixels: u64,
) -> Option<(&'a (Encoded, Cost), bool)> {
    let rank = |cost: &Cost| match prefer {
        Prefer::Flash => (cost.bytes as f64, cost.instructions as f64),
        Prefer::Speed => (cost.instructions as f64, cost.bytes as f64),
        Prefer::Balanced | Prefer::Ram => (cost.bytes as f64 * cost.instructions as f64, 0.0),
    };
    let by_rank = |a: &&(Encoded, Cost), b: &&(Encoded, Cost)| {
        let (a, b) = (rank(&a.1), rank(&b.1));
        a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
    };
    let winner = all.iter().filter(|(_, cost)| wins(prefer, cost, dense, pixels)).min_by(by_rank);
    let chosen = winner.is_some();
    winner.or_else(|| all.iter().min_by(by_rank)).map(|found| (found, chosen))
}

/// Names of the forms of a recurrent layer's weights, those of the input first.
pub fn sparse_forms(input: Option<Form>, state: Option<Form>) -> &'static str {
    match (input, state) {
        (None, None) => "dense",
        (None, Some(Form::Bytes)) => "dense, bytes",
        (None, Some(Form::Nibbles)) => "dense, nibbles",
        (None, Some(Form::Blocks)) => "dense, blocks",
        (Some(Form::Bytes), None) => "bytes, dense",
        (Some(Form::Bytes), Some(Form::Bytes)) => "bytes, bytes",
        (Some(Form::Bytes), Some(Form::Nibbles)) => "bytes, nibbles",
        (Some(Form::Bytes), Some(Form::Blocks)) => "bytes, blocks",
        (Some(Form::Nibbles), None) => "nibbles, dense",
        (Some(Form::Nibbles), Some(Form::Bytes)) => "nibbles, bytes",
        (Some(Form::Nibbles), Some(Form::Nibbles)) => "nibbles, nibbles",
        (Some(Form::Nibbles), Some(Form::Blocks)) => "nibbles, blocks",
        (Some(Form::Blocks), None) => "blocks, dense",
        (Some(Form::Blocks), Some(Form::Bytes)) => "blocks, bytes",
        (Some(Form::Blocks), Some(Form::Nibbles)) => "blocks, nibbles",
        (Some(Form::Blocks), Some(Form::Blocks)) => "blocks, blocks",
    }
}

fn name(form: Form) -> &'static str {
    match form {
        Form::Bytes => "bytes",
        Form::Nibbles => "nibbles",
        Form::Blocks => "blocks",
    }
}

/// What a form takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) bytes: u64,
    pub(super) instructions: u64,
}

/// Whether a sparse form is to be had for what is preferred.
fn wins(prefer: Prefer, sparse: &Cost, dense: &Cost, pixels: u64) -> bool {
    let (smaller, faster) = (sparse.bytes < dense.bytes, sparse.instructions < dense.instructions);
    match prefer {
        Prefer::Flash => smaller,
        Prefer::Speed => faster,
        Prefer::Balanced => smaller && faster,
        // A dense layer of many pixels may lie over its input, a sparse one may not.
        Prefer::Ram => smaller && faster && pixels == 1,
    }
}

/// Instructions of a run on Armv7E-M: measured on the emulated Cortex-M4 (`tests/tests/sparse.rs` holds the model against
/// the emulator).
fn instructions(matrix: &SparseRepr, channels: u64, taps: u64, pixels: u64, plain: bool) -> u64 {
    let entries = u64::from(matrix.entries) as f64;
    let of_entry = match matrix.form {
        Form::Bytes => 4.25,
        Form::Nibbles => 4.55,
        Form::Blocks => 9.3,
    };
    let gather = if plain { 60.0 } else { 600.0 + 0.5 * taps as f64 };
    ((entries * of_entry + 37.0 * channels as f64 + gather) * pixels as f64) as u64 + 450
}

/// Those of the dense kernels.
fn dense_instructions(taps: u64, channels: u64, pixels: u64, vector: bool, by_winograd: bool) -> u64 {
    let (padded, blocks) = (taps.next_multiple_of(4) as f64, channels.next_multiple_of(4) as f64);
    let of_pixel = match (vector, by_winograd) {
        (true, _) => 1.03 * padded * blocks + 26.0 * blocks,
        (false, false) => 0.81 * padded * blocks + 12.5 * blocks + 2.0 * padded,
        (false, true) => 0.47 * padded * blocks + 12.5 * blocks + 4.0 * padded,
    };
    (of_pixel * pixels as f64) as u64 + 700
}

/// A matrix as it stands in a blob.
#[derive(Clone, Debug)]
pub(super) struct Encoded {
    pub(super) repr: SparseRepr,
    pub(super) bytes: Vec<u8>,
}

impl Encoded {
    /// The rows of `columns` weights; `None` if one has more entries than the format takes.
    pub(super) fn of(weights: &[i8], columns: usize, form: Form) -> Option<Self> {
        let (width, longest) = match form {
            Form::Bytes => (1, 255),
            Form::Nibbles => (1, 15),
            Form::Blocks => (4, 255),
        };
        let (mut counts, mut stored, mut steps) = (Vec::new(), Vec::new(), Vec::new());
        for row in weights.chunks(columns.max(1)) {
            let mut own: Vec<u8> = Vec::new();
            let mut position = 0;
            for (at, unit) in row.chunks(width).enumerate().filter(|(_, unit)| unit.iter().any(|w| *w != 0)) {
                while at - position > longest {
                    // A weight of zero bridges the gap.
                    own.push(longest as u8);
                    stored.extend(vec![0u8; width]);
                    position += longest;
                }
                own.push((at - position) as u8);
                stored.extend(unit.iter().map(|w| *w as u8));
                stored.extend(vec![0u8; width - unit.len()]);
                position = at;
            }
            if own.len() * width > MOST_ENTRIES as usize {
                return None;
            }
            counts.push(own.len() as u16);
            if form == Form::Nibbles { steps.extend(nibbles(&own)) } else { steps.extend(own) }
        }
        let entries = u32::try_from(stored.len() / width).ok()?;
        let repr = SparseRepr { form, entries, steps: u32::try_from(steps.len()).ok()? };
        let mut bytes: Vec<u8> = counts.iter().flat_map(|c| c.to_le_bytes()).collect();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(stored);
        bytes.extend(steps);
        Some(Self { repr, bytes })
    }
}

/// Steps of a row, two a byte: see [`Form::Nibbles`].
fn nibbles(steps: &[u8]) -> Vec<u8> {
    let (eights, rest) = steps.split_at(steps.len() / 8 * 8);
    let of_eights = eights.chunks_exact(8).flat_map(|e| (0..4).map(|i| e[i] | e[i + 4] << 4));
    of_eights.chain(rest.chunks(2).map(|pair| pair[0] | pair.get(1).map_or(0, |s| s << 4))).collect()
}

fn store(
    c: &mut Context<'_>,
    x: &Tensor,
    y: &Tensor,
    q: &Quantised<'_>,
    layer: &Layer<'_>,
    encoded: &Encoded,
) -> Lowering {
    let (per_channel, clamp, matrix) = (q.fixed.len() > 1, clamp_i8(layer.activation, y), encoded.repr);
    let mut blob = requant_blob(&q.bias, &q.fixed);
    blob.extend(&encoded.bytes);
    let blob = c.blob(blob, (encoded.bytes.len(), 4 * q.bias.len()))?;
    let [n, h, w, in_c] = layer.input;
    let (in_zp, out_zp) = (x.zp, y.zp);
    let record = if layer.plain() {
        let (rows, out_c) =
            (to_u32(y.len() / layer.channels, "the rows")?, to_u32(layer.channels, "the output width")?);
        let in_c = in_c.into();
        let r = record::FullyConnectedSparse {
            src: 0,
            dst: 0,
            rows,
            in_c,
            out_c,
            in_zp,
            out_zp,
            per_channel,
            clamp,
            blob,
            matrix,
        };
        Record::FullyConnectedSparse(r)
    } else {
        let out_c = super::to_u16(layer.channels, "the output channels")?;
        let window = (*layer.window).into();
        let r = record::ConvSparse {
            src: 0,
            dst: 0,
            scratch: 0,
            n,
            h,
            w,
            c: in_c,
            out_c,
            window,
            in_zp,
            out_zp,
            per_channel,
            clamp,
            blob,
            matrix,
        };
        Record::ConvSparse(r)
    };
    let scratch = cost::scratch(&record).ok_or("the window does not fit")?;
    let pixels = (y.len() / layer.channels.max(1)) as u64;
    emit_record(c, record, x, y, scratch, pixels * matrix.weights(), matrix.weights())
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot::kernels::portable::add_sparse;
    use offshoot::kernels::sparse::Sparse;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn products_are_those_of_the_dense_matrix(
            rows in 1usize..5,
            columns in 1usize..150,
            density in 0u32..101,
            seed in prop::collection::vec(any::<(i8, u8)>(), 600),
            src in prop::collection::vec(any::<i8>(), 600),
        ) {
            let columns = 4 * columns;
            let pick = |i: usize| seed[i * 7919 % seed.len()];
            let keep = |i: usize| u32::from(pick(i).1) * 100 < density * 256;
            let weights: Vec<i8> = (0..rows * columns).map(|i| if keep(i) { pick(i).0 } else { 0 }).collect();
            let src = &src[..columns];
            let expected: Vec<i32> = weights
                .chunks(columns)
                .map(|row| row.iter().zip(src).map(|(&w, &x)| i32::from(w) * i32::from(x)).sum())
                .collect();
            for form in [Form::Bytes, Form::Nibbles, Form::Blocks] {
                let encoded = Encoded::of(&weights, columns, form).unwrap();
                let counts: Vec<u16> =
                    encoded.bytes.chunks(2).take(rows).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
                let rest = &encoded.bytes[(2 * rows).next_multiple_of(4)..];
                let (w, steps) = rest.split_at(encoded.repr.weights() as usize);
                let w: Vec<i8> = w.iter().map(|&b| b as i8).collect();
                prop_assert_eq!(steps.len(), encoded.repr.steps as usize);
                let mut matrix = Sparse { form, counts: &counts, weights: &w, steps };
                let mut sums = vec![0; rows];
                add_sparse(&mut matrix, src, &mut sums);
                prop_assert_eq!(&sums, &expected, "{:?}", form);
            }
        }
    }

    #[test]
    fn what_is_preferred_decides() {
        let cost = |bytes, instructions| Cost { bytes, instructions };
        let dense = cost(100, 100);
        for (sparse, balanced, speed, flash) in [
            (cost(50, 50), true, true, true),
            (cost(150, 50), false, true, false),
            (cost(50, 150), false, false, true),
            (cost(100, 100), false, false, false),
        ] {
            assert_eq!(wins(Prefer::Balanced, &sparse, &dense, 1), balanced);
            assert_eq!(wins(Prefer::Speed, &sparse, &dense, 1), speed);
            assert_eq!(wins(Prefer::Flash, &sparse, &dense, 1), flash);
            assert_eq!(wins(Prefer::Ram, &sparse, &dense, 1), balanced);
            assert!(!wins(Prefer::Ram, &sparse, &dense, 2));
        }
    }
}
