//! Pareto fronts: domination, sorting, crowding, hypervolume. Costs: smaller is better.

/// Whether `a` is nowhere worse than `b` and better somewhere.
pub fn dominates(a: &[f64], b: &[f64]) -> bool {
    let mut better = false;
    for (x, y) in a.iter().zip(b) {
        if x > y {
            return false;
        }
        better |= x < y;
    }
    better
}

/// Constraint-domination (Deb et al. 2002): smaller violations first, then [`dominates`].
pub fn constrained_dominates(a: (&[f64], f64), b: (&[f64], f64)) -> bool {
    match (a.1 > 0.0, b.1 > 0.0) {
        (false, true) => true,
        (true, false) => false,
        (true, true) => a.1 < b.1,
        (false, false) => dominates(a.0, b.0),
    }
}

/// Indices of the non-dominated points; among equal points the first.
pub fn front(costs: &[Vec<f64>]) -> Vec<usize> {
    let beaten = |i: usize| {
        costs.iter().enumerate().any(|(j, c)| dominates(c, &costs[i]) || (j < i && *c == costs[i]))
    };
    (0..costs.len()).filter(|&i| !beaten(i)).collect()
}

/// Fast non-dominated sort (Deb et al. 2002): indices by rank.
pub fn ranks(points: &[(Vec<f64>, f64)]) -> Vec<Vec<usize>> {
    let view = |i: usize| (points[i].0.as_slice(), points[i].1);
    let mut beaten_by = vec![0usize; points.len()];
    let mut beats: Vec<Vec<usize>> = vec![Vec::new(); points.len()];
    for i in 0..points.len() {
        for j in 0..points.len() {
            if constrained_dominates(view(i), view(j)) {
                beats[i].push(j);
                beaten_by[j] += 1;
            }
        }
    }
    let mut current: Vec<usize> = (0..points.len()).filter(|&i| beaten_by[i] == 0).collect();
    let mut ranks = Vec::new();
    while !current.is_empty() {
        let mut next = Vec::new();
        for &i in &current {
            for &j in &beats[i] {
                beaten_by[j] -= 1;
                if beaten_by[j] == 0 {
                    next.push(j);
                }
            }
        }
        ranks.push(std::mem::replace(&mut current, next));
    }
    ranks
}

/// Crowding distance of each member of a rank.
pub fn crowding(points: &[(Vec<f64>, f64)], rank: &[usize]) -> Vec<f64> {
    let mut distance = vec![0.0; rank.len()];
    let objectives = rank.first().map_or(0, |&i| points[i].0.len());
    for o in 0..objectives {
        let mut order: Vec<usize> = (0..rank.len()).collect();
        let cost = |k: usize| points[rank[k]].0[o];
        order.sort_by(|&a, &b| cost(a).total_cmp(&cost(b)));
        let (low, high) = (cost(order[0]), cost(order[order.len() - 1]));
        let span = if high > low { high - low } else { 1.0 };
        distance[order[0]] = f64::INFINITY;
        distance[order[order.len() - 1]] = f64::INFINITY;
        for w in order.windows(3) {
            distance[w[1]] += (cost(w[2]) - cost(w[0])) / span;
        }
    }
    distance
}

/// The `count` best of `points`, by rank and then by crowding.
pub fn select(points: &[(Vec<f64>, f64)], count: usize) -> Vec<usize> {
    let mut chosen = Vec::new();
    for rank in ranks(points) {
        if chosen.len() + rank.len() <= count {
            chosen.extend(rank);
            continue;
        }
        let distance = crowding(points, &rank);
        let mut order: Vec<usize> = (0..rank.len()).collect();
        order.sort_by(|&a, &b| distance[b].total_cmp(&distance[a]).then(rank[a].cmp(&rank[b])));
        chosen.extend(order.into_iter().take(count - chosen.len()).map(|k| rank[k]));
        break;
    }
    chosen
}

/// Exact volume dominated by the points below `reference`, by slices along the last objective.
pub fn hypervolume(costs: &[Vec<f64>], reference: &[f64]) -> f64 {
    let inside: Vec<Vec<f64>> =
        costs.iter().filter(|c| c.iter().zip(reference).all(|(x, r)| x < r)).cloned().collect();
    let kept: Vec<Vec<f64>> = front(&inside).into_iter().map(|i| inside[i].clone()).collect();
    volume(kept, reference)
}

fn volume(mut points: Vec<Vec<f64>>, reference: &[f64]) -> f64 {
    let Some((last, rest)) = reference.split_last() else { return 0.0 };
    if points.is_empty() {
        return 0.0;
    }
    let at = rest.len();
    if at == 0 {
        return last - points.iter().map(|p| p[0]).fold(f64::INFINITY, f64::min);
    }
    points.sort_by(|a, b| a[at].total_cmp(&b[at]));
    let mut sum = 0.0;
    for i in 0..points.len() {
        let height = points.get(i + 1).map_or(*last, |p| p[at]) - points[i][at];
        if height > 0.0 {
            let below: Vec<Vec<f64>> = points[..=i].iter().map(|p| p[..at].to_vec()).collect();
            let kept = front(&below).into_iter().map(|k| below[k].clone()).collect();
            sum += height * volume(kept, rest);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn volumes_of_known_fronts() {
        let front = vec![vec![1.0, 3.0], vec![2.0, 2.0], vec![3.0, 1.0], vec![3.0, 3.0], vec![9.0, 0.0]];
        assert_eq!(hypervolume(&front, &[4.0, 4.0]), 6.0);
        let cube = vec![vec![0.0, 0.0, 1.0], vec![1.0, 0.0, 0.0]];
        assert_eq!(hypervolume(&cube, &[2.0, 2.0, 2.0]), 6.0);
        assert_eq!(hypervolume(&[], &[1.0]), 0.0);
    }

    #[test]
    fn broken_constraints_come_last() {
        let points = [(vec![1.0, 1.0], 0.5), (vec![5.0, 5.0], 0.0), (vec![0.0, 0.0], 0.1)];
        assert_eq!(ranks(&points), [vec![1], vec![2], vec![0]]);
        assert_eq!(select(&points, 2), [1, 2]);
    }

    proptest! {
        #[test]
        fn the_volume_is_that_of_a_count(points in prop::collection::vec(prop::collection::vec(0u8..5, 3), 0..8)) {
            let costs: Vec<Vec<f64>> = points.iter().map(|p| p.iter().map(|&v| f64::from(v)).collect()).collect();
            let cells = (0..5 * 5 * 5).filter(|c| {
                let cell = [c / 25, c / 5 % 5, c % 5];
                points.iter().any(|p| p.iter().zip(cell).all(|(&v, x)| usize::from(v) <= x))
            });
            prop_assert!((hypervolume(&costs, &[5.0; 3]) - cells.count() as f64).abs() < 1e-9);
        }

        #[test]
        fn nothing_on_the_first_rank_is_dominated(points in prop::collection::vec(prop::collection::vec(0u8..9, 2), 1..20)) {
            let points: Vec<(Vec<f64>, f64)> =
                points.iter().map(|p| (p.iter().map(|&v| f64::from(v)).collect(), 0.0)).collect();
            let all = ranks(&points);
            prop_assert_eq!(all.iter().map(Vec::len).sum::<usize>(), points.len());
            for &i in &all[0] {
                prop_assert!(!points.iter().any(|p| dominates(&p.0, &points[i].0)));
            }
        }
    }
}
