//! Errors of features, as 16-bit integers.

use super::layer::{Quant, StepTarget, Workspace};
use super::magnitude::Magnitude;
use super::softmax;
use crate::rules::LocalRule;
use crate::target_projection;
use crate::target_projection::TargetProjection;
use offshoot_kernels as kernels;
use offshoot_kernels::gradient::{Starts, Windows};
use softmax::RESIDUAL_BITS;

/// Up to this many classes use tables, which are on the stack.
const MOST_TABLED: usize = 16;

/// For groups of four classes: a sum for each combination of four signs.
type Tables = [[i32; 16]; MOST_TABLED / 4];

/// Largest error of a feature.
const MOST: i32 = i16::MAX as i32;

/// Errors of the features of a layer.
pub(super) struct Errors<'a> {
    rule: LocalRule,
    projection: TargetProjection<'a>,
    features: usize,
    label: usize,
    classes: usize,
    /// Errors are shifted right by this, so that they have 16 bits and sums over pixels fit.
    fit: i32,
    /// Half a unit of the shift, for rounding.
    half: i32,
    /// Value of an error of 1.
    pub(super) unit: Magnitude,
    /// `Σ ± residual` for each combination of four signs, per group of four classes; used if the projection consists of
    /// signs.
    tables: Tables,
    tabled: bool,
}

impl<'a> Errors<'a> {
    /// Reads the features if the rule needs them.
    pub(super) fn new(
        (h, quant): (&[i8], &Quant),
        target: &StepTarget<'a>,
        workspace: &mut Workspace<'_>,
        starts: &mut Starts,
    ) -> Self {
        let grid = &target.grid;
        let (features, classes) = (grid.features(), workspace.residual.len());
        let (pixels, cells) = grid.cell_pixels();
        let mean = Magnitude::new(cells as u64, 0).over(Magnitude::new(pixels as u64, 0));
        let entry = if matches!(target.projection, TargetProjection::Small(_)) { 7 } else { 0 };
        let mut bits = RESIDUAL_BITS + entry;
        let mut unit = mean.scaled(-RESIDUAL_BITS);
        let mut tables: Tables = [[0; 16]; MOST_TABLED / 4];
        let mut tabled = false;
        if let LocalRule::CrossEntropy { scale } = target.rule {
            let scale = Magnitude::from_f32(scale);
            scores((h, quant), target, workspace, starts);
            let score = scale.times(mean).times(quant.s_out);
            softmax::residual(workspace.residual, workspace.sums, score, target.label);
            unit = unit.times(scale);
            // The absolute values of the residuals add up to at most 2.
            bits += i32::from(target.projection != TargetProjection::Unit);
            tabled = is_tabled(&target.projection, classes);
            if tabled {
                of_residual(workspace.residual, &mut tables);
            }
        }
        // An error has 16 bits, and sums of its products must fit.
        let room_bits = room_bits(pixels);
        let fit = (bits - room_bits).max(0);
        Self {
            rule: target.rule,
            projection: target.projection,
            features,
            label: target.label,
            classes,
            fit,
            half: (1 << fit) >> 1,
            unit: unit.scaled(fit),
            tables,
            tabled,
        }
    }

    /// Error of a feature.
    #[inline]
    pub(super) fn at(&self, feature: usize, residual: &[i32]) -> i32 {
        let error = if self.tabled {
            // Tables beyond the classes are zero.
            let word = self.signs(feature);
            let entry = |(quad, table): (usize, &[i32; 16])| table[(word >> (4 * quad) & 15) as usize];
            self.tables.iter().enumerate().map(entry).sum()
        } else {
            self.of_column(feature, residual)
        };
        // Rounds to nearest: truncation would push all weights one way by half a unit.
        ((error + self.half) >> self.fit).clamp(-MOST, MOST)
    }

    /// Signs of the classes at a feature; a set bit means negative.
    #[inline]
    fn signs(&self, feature: usize) -> u32 {
        match self.projection {
            TargetProjection::Signs { seed } => target_projection::sign_word(seed, feature as u32, 0),
            _ => sign_word(&self.projection, feature, self.classes),
        }
    }

    /// Error of a feature before the shift, for projections and rules without tables.
    #[cold]
    fn of_column(&self, feature: usize, residual: &[i32]) -> i32 {
        let mut error = 0i32;
        match self.rule {
            LocalRule::CrossEntropy { .. } => {
                self.projection
                    .whole_column(self.classes, self.features, feature, |k, p| error += p * residual[k]);
            }
            // DRTP, the only other rule that `Model::open` accepts for int8.
            _ => self.projection.whole_column(self.classes, self.features, feature, |k, p| {
                if k == self.label {
                    error = -p * (1 << RESIDUAL_BITS);
                }
            }),
        }
        error
    }
}

/// Bits of an error for which sums over `pixels` products with 9-bit numbers stay within 31 bits.
pub(super) fn room_bits(pixels: usize) -> i32 {
    (31 - 9 - (usize::BITS - pixels.leading_zeros()) as i32).clamp(2, 15)
}

/// Writes the class scores to `workspace.sums`: sums up the features cell by cell, all channels at once.
fn scores(
    (h, quant): (&[i8], &Quant),
    target: &StepTarget<'_>,
    workspace: &mut Workspace<'_>,
    starts: &mut Starts,
) {
    let (grid, classes) = (&target.grid, workspace.residual.len());
    let (features, channels) = (grid.features(), grid.channels);
    // At most 255 per pixel: sums over all features fit 32 bits.
    let small = h.len() <= (1 << 31) / 256;
    let by_table = small && is_tabled(&target.projection, classes);
    let mut tables: Tables = [[0; 16]; MOST_TABLED / 4];
    let quads = classes.div_ceil(4);
    workspace.sums.fill(0);
    for cell in 0..features / channels.max(1) {
        let sums = &mut workspace.gradients[..channels];
        sums.fill(0);
        let mut add = |starts: &mut Starts| {
            let whole = Windows { offset: 0, down: 0, lines: 1, pitch: channels, from: 0, len: channels };
            kernels::add_windows(h, starts.rows(), &whole, quant.out_zp, 1, sums);
            starts.clear();
        };
        let (rows, columns) = grid.cell(cell);
        for y in rows {
            for x in columns.clone() {
                starts.push((y * grid.extent[1] + x) * channels);
                if starts.free() == 0 {
                    add(starts);
                }
            }
        }
        add(starts);
        for (j, &sum) in (cell * channels..).zip(&*sums) {
            if by_table {
                let word = match target.projection {
                    TargetProjection::Signs { seed } => target_projection::sign_word(seed, j as u32, 0),
                    _ => sign_word(&target.projection, j, classes),
                };
                for (quad, table) in tables.iter_mut().enumerate().take(quads) {
                    let entry = &mut table[(word >> (4 * quad) & 15) as usize];
                    *entry = entry.wrapping_add(sum);
                }
            } else {
                let sum = i64::from(sum);
                target
                    .projection
                    .whole_column(classes, features, j, |k, p| workspace.sums[k] += i64::from(p) * sum);
            }
        }
    }
    if by_table {
        for (k, score) in workspace.sums.iter_mut().enumerate() {
            let signed = |(word, &sum): (usize, &i32)| {
                if word >> (k % 4) & 1 == 0 { i64::from(sum) } else { -i64::from(sum) }
            };
            *score = tables[k / 4].iter().enumerate().map(signed).sum();
        }
    }
}

fn is_tabled(projection: &TargetProjection<'_>, classes: usize) -> bool {
    matches!(projection, TargetProjection::Signs { .. } | TargetProjection::Hadamard)
        && classes <= MOST_TABLED
}

/// Signs of the classes at a feature; a set bit means negative.
#[inline(never)]
fn sign_word(projection: &TargetProjection<'_>, feature: usize, classes: usize) -> u32 {
    match *projection {
        TargetProjection::Signs { seed } => target_projection::sign_word(seed, feature as u32, 0),
        _ => {
            let bit = |k: usize| u32::from(target_projection::hadamard_negative(k, feature as u32)) << k;
            (0..classes).fold(0, |word, k| word | bit(k))
        }
    }
}

/// `Σ ± residual` of each group of four classes, by their signs.
fn of_residual(residual: &[i32], tables: &mut Tables) {
    for (table, residual) in tables.iter_mut().zip(residual.chunks(4)) {
        for (word, entry) in table.iter_mut().enumerate() {
            let signed = |(k, &r): (usize, &i32)| if word >> k & 1 == 0 { r } else { -r };
            *entry = residual.iter().enumerate().map(signed).sum();
        }
    }
}
