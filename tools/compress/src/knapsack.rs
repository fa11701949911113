//! The multiple-choice knapsack problem (Kellerer, Pferschy, Pisinger 2004), by dynamic programming: one of several forms
//! for each layer, so that all together save enough and lose the least.

/// A form that a layer may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Choice {
    /// Bytes that it saves.
    pub(crate) saved: u64,
    /// What it loses, 0 or more.
    pub(crate) lost: f64,
}

/// Most cells of the table along its axis of bytes: above, savings are rounded down.
const CELLS: u64 = 1 << 15;

/// For each layer the position of the form to take, or `None` to leave it as it is: together they save `need` bytes or more,
/// and lose the least; of those that lose as little, the ones that save least. `None` if all forms together save less.
pub(crate) fn choose(layers: &[Vec<Choice>], need: u64) -> Option<Vec<Option<usize>>> {
    let unit = need.div_ceil(CELLS).max(1);
    let cells = need.div_ceil(unit) as usize;
    // Loss and bytes of the best choice so far that saves so many units, or more in the last cell.
    let mut best: Vec<Option<(f64, u64)>> = vec![None; cells + 1];
    best[0] = Some((0.0, 0));
    // For each layer and cell: the form taken and the cell before.
    let mut taken: Vec<Vec<(Option<usize>, usize)>> = Vec::with_capacity(layers.len());
    for forms in layers {
        let mut next = best.clone();
        let mut from: Vec<(Option<usize>, usize)> = (0..=cells).map(|cell| (None, cell)).collect();
        for (cell, known) in best.iter().enumerate() {
            let Some((lost, saved)) = *known else { continue };
            for (form, choice) in forms.iter().enumerate() {
                let to = cell.saturating_add((choice.saved / unit) as usize).min(cells);
                let found = (lost + choice.lost, saved + choice.saved);
                if next[to].is_none_or(|now| found < now) {
                    (next[to], from[to]) = (Some(found), (Some(form), cell));
                }
            }
        }
        best = next;
        taken.push(from);
    }
    best[cells]?;
    let (mut cell, mut chosen) = (cells, vec![None; layers.len()]);
    for (layer, from) in taken.iter().enumerate().rev() {
        (chosen[layer], cell) = from[cell];
    }
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every combination.
    fn by_trial(layers: &[Vec<Choice>], need: u64) -> Option<(f64, u64)> {
        let mut all = vec![(0.0, 0)];
        for forms in layers {
            let more: Vec<(f64, u64)> =
                forms.iter().flat_map(|f| all.iter().map(|a| (a.0 + f.lost, a.1 + f.saved))).collect();
            all.extend(more);
        }
        all.into_iter().filter(|a| a.1 >= need).min_by(|a, b| a.partial_cmp(b).expect("numbers"))
    }

    proptest! {
        #[test]
        fn no_other_choice_loses_less(
            layers in proptest::collection::vec(
                proptest::collection::vec((0u64..60, 0u8..5), 0..4), 0..6),
            need in 0u64..150,
        ) {
            let layers: Vec<Vec<Choice>> = (layers.iter())
                .map(|l| l.iter().map(|&(saved, lost)| Choice { saved, lost: lost.into() }).collect())
                .collect();
            let found = choose(&layers, need).map(|chosen| {
                let forms = chosen.iter().zip(&layers).filter_map(|(c, l)| c.map(|c| l[c]));
                forms.fold((0.0, 0), |sum, f| (sum.0 + f.lost, sum.1 + f.saved))
            });
            prop_assert_eq!(found, by_trial(&layers, need));
        }
    }

    #[test]
    fn large_files_are_rounded_to_the_safe_side() {
        let layers: Vec<Vec<Choice>> =
            (1..9).map(|i| vec![Choice { saved: 100_003 * i, lost: i as f64 }]).collect();
        let chosen = choose(&layers, 1_000_000).expect("there is enough");
        let saved: u64 = chosen.iter().zip(&layers).filter_map(|(c, l)| c.map(|c| l[c].saved)).sum();
        assert!((1_000_000..1_200_000).contains(&saved), "{chosen:?}");
        assert_eq!(choose(&layers, 100_000_000), None);
    }
}
