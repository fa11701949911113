//! int8 fully connected layers and convolutions with sparse weights ([`record::FullyConnectedSparse`],
//! [`record::ConvSparse`]). The report says what they gain. Recurrent layers choose by the same rules.

use offshoot::format::codec::Record;
use offshoot::format::record;
use offshoot::format::sparse::{Form, MOST_ENTRIES, SparseRepr};

use super::parameters::{Lowering, requant_blob, to_u32};
use super::{Build, ConvForm, Offer, Shared, Workspace, scratch_of};
use crate::cores::Core;
use crate::lowered::Tensor;

/// Share of zeros from which on sparse forms are tried and reported.
pub(crate) const LEAST_ZEROS: f64 = 0.3;

/// A layer stored without its zeros.
pub(crate) struct Sparse {
    layer: Shared,
    encoded: Encoded,
}

impl Sparse {
    /// The layer in each sparse form that can hold it; empty if too few weights are zero. With learning or several
    /// networks (`in_order`), only layers that read their input without gathering can be sparse.
    pub(crate) fn all(layer: &Shared, in_order: bool) -> Vec<Self> {
        let (taps, pointwise) = (layer.taps(), layer.pointwise());
        if 1.0 - density(layer) < LEAST_ZEROS || in_order && !pointwise {
            return Vec::new();
        }
        let forms = [Form::Bytes, Form::Nibbles, Form::Blocks].into_iter();
        // A pointwise layer reads its input without padding, so blocks must not exceed a pixel.
        let forms = forms.filter(|form| *form != Form::Blocks || !pointwise || taps.is_multiple_of(4));
        let encoded = forms.filter_map(|form| Encoded::of(&layer.q.weights, taps, form));
        encoded.map(|encoded| Self { layer: Shared::clone(layer), encoded }).collect()
    }

    /// `bytes`, `nibbles` or `blocks`.
    pub(crate) fn name(&self) -> &'static str {
        name(self.encoded.repr.form)
    }

    fn record(&self, blob: u32) -> Lowering<Record> {
        let (layer, matrix) = (&self.layer, self.encoded.repr);
        let (per_channel, clamp) = (layer.q.fixed.len() > 1, layer.clamp());
        let [n, h, w, c] = layer.input;
        let (in_zp, out_zp) = (layer.x.zp, layer.y.zp);
        if layer.pointwise() {
            let rows = to_u32(layer.pixels(), "the rows")?;
            let (in_c, out_c) = (c.into(), to_u32(layer.channels(), "the output width")?);
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
            return Ok(Record::FullyConnectedSparse(r));
        }
        let out_c = super::parameters::to_u16(layer.channels(), "the output channels")?;
        let window = layer.window.into();
        let r = record::ConvSparse {
            src: 0,
            dst: 0,
            scratch: 0,
            n,
            h,
            w,
            c,
            out_c,
            window,
            in_zp,
            out_zp,
            per_channel,
            clamp,
            blob,
            matrix,
        };
        Ok(Record::ConvSparse(r))
    }
}

/// Share of a layer's non-zero weights.
pub(crate) fn density(layer: &Shared) -> f64 {
    let weights = &layer.q.weights;
    1.0 - weights.iter().filter(|w| **w == 0).count() as f64 / weights.len().max(1) as f64
}

impl ConvForm for Sparse {
    fn offer(&self, core: Core, _: &Workspace) -> Lowering<Offer> {
        Ok(Offer {
            bytes: self.encoded.bytes.len() as u64,
            instructions: core.sparse(&self.layer, &self.encoded.repr),
            saved_by_strips: 0,
            scratch: scratch_of(&self.record(0)?)?.into(),
            in_place: false,
        })
    }

    fn emit(&self, _: &Workspace, out: &mut Build<'_>, x: &Tensor, y: &Tensor) -> Lowering {
        let (layer, encoded) = (&self.layer, &self.encoded);
        let blob = || [requant_blob(&layer.q.bias, &layer.q.fixed), encoded.bytes.clone()].concat();
        let blob = out.blob(blob, [encoded.bytes.len(), 4 * layer.channels()]);
        let stored = encoded.repr.weights();
        out.layer(layer, self.record(blob)?, [x, y], layer.pixels() as u64 * stored, stored)
    }
}

/// Names of the forms of a recurrent layer's weights: of the input, then of the state.
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

/// A sparse matrix as encoded in a blob.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    pub(crate) repr: SparseRepr,
    pub(crate) bytes: Vec<u8>,
}

impl Encoded {
    /// Encodes rows of `columns` weights; `None` if a row has more entries than the format holds.
    pub(crate) fn of(weights: &[i8], columns: usize, form: Form) -> Option<Self> {
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
                    // A zero weight bridges the gap.
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

/// Steps of a row, two per byte, see [`Form::Nibbles`].
fn nibbles(steps: &[u8]) -> Vec<u8> {
    let (eights, rest) = steps.split_at(steps.len() / 8 * 8);
    let of_eights = eights.chunks_exact(8).flat_map(|e| (0..4).map(|i| e[i] | e[i + 4] << 4));
    of_eights.chain(rest.chunks(2).map(|pair| pair[0] | pair.get(1).map_or(0, |s| s << 4))).collect()
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
}
