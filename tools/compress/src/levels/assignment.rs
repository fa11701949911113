//! Assignment of rows to columns with the greatest sum: the Hungarian method with potentials (Kuhn 1955; Jonker and
//! Volgenant 1987), `O(n³)`. Implemented here because the crates that offer it depend on a graph library.

/// Returns the column assigned to each row of the square matrix `gain` (row-major).
pub(super) fn assign(gain: &[f64], n: usize) -> Vec<usize> {
    const NONE: usize = usize::MAX;
    let cost = |i: usize, j: usize| -gain[i * n + j];
    // Index n stands for the column at which a path begins.
    let (mut u, mut v) = (vec![0.0f64; n], vec![0.0f64; n + 1]);
    let mut row_of = vec![NONE; n + 1];
    for row in 0..n {
        row_of[n] = row;
        let mut column = n;
        let mut least = vec![f64::INFINITY; n];
        let mut from = vec![NONE; n];
        let mut used = vec![false; n + 1];
        loop {
            used[column] = true;
            let i = row_of[column];
            let (mut delta, mut next) = (f64::INFINITY, NONE);
            for j in (0..n).filter(|&j| !used[j]) {
                let reduced = cost(i, j) - u[i] - v[j];
                if reduced < least[j] {
                    (least[j], from[j]) = (reduced, column);
                }
                if least[j] < delta {
                    (delta, next) = (least[j], j);
                }
            }
            if next == NONE {
                break;
            }
            for j in 0..=n {
                if used[j] {
                    u[row_of[j]] += delta;
                    v[j] -= delta;
                } else if j < n {
                    least[j] -= delta;
                }
            }
            column = next;
            if row_of[column] == NONE {
                break;
            }
        }
        while column != n {
            let before = from[column];
            row_of[column] = row_of[before];
            column = before;
        }
    }
    let mut out = vec![0; n];
    row_of[..n].iter().enumerate().filter(|(_, r)| **r < n).for_each(|(j, &r)| out[r] = j);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The best sum over all permutations.
    fn exhaustive(gain: &[f64], n: usize) -> f64 {
        fn go(gain: &[f64], n: usize, row: usize, used: &mut Vec<bool>) -> f64 {
            if row == n {
                return 0.0;
            }
            let mut best = f64::NEG_INFINITY;
            for j in 0..n {
                if !used[j] {
                    used[j] = true;
                    best = best.max(gain[row * n + j] + go(gain, n, row + 1, used));
                    used[j] = false;
                }
            }
            best
        }
        go(gain, n, 0, &mut vec![false; n])
    }

    proptest! {
        #[test]
        fn no_order_gains_more(n in 1usize..7, gain in proptest::collection::vec(-5.0f64..5.0, 36)) {
            let gain = &gain[..n * n];
            let columns = assign(gain, n);
            let mut sorted = columns.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..n).collect::<Vec<_>>());
            let sum: f64 = columns.iter().enumerate().map(|(i, j)| gain[i * n + j]).sum();
            prop_assert!((sum - exhaustive(gain, n)).abs() < 1e-9);
        }
    }
}
