//! Predicts the instructions of a network on a target from measured operators of other networks: one linear model per
//! kind of operator over its features, summed over operators (as nn-Meter does for phones, Zhang et al. 2021).

use std::collections::BTreeMap;

use nalgebra::{DMatrix, DVector};

use crate::Result;
use crate::operators::{Operator, operators_of};

/// A predictor of instructions.
#[derive(Clone, Debug, Default)]
pub struct Latency {
    models: BTreeMap<String, Vec<f64>>,
    /// Mean cost of runs apart from their operators.
    rest: f64,
}

/// Kind of an operator: its tag and everything in its signature that selects a kernel.
fn kind(signature: &str) -> String {
    let tag = signature.split([' ', '(']).next().unwrap_or_default().to_owned();
    let words = [
        "open",
        "bounds",
        "low",
        "zero",
        "Forwards",
        "Backwards",
        "Vector",
        "VectorOneScale",
        "Max",
        "Average",
    ];
    let mut kind = tag;
    for part in signature.split([' ', ',', ':', '(', ')', '{', '}']) {
        // Both directions take the same work.
        if words.contains(&part) && !matches!(part, "Forwards" | "Backwards") {
            kind.push('.');
            kind.push_str(part);
        }
    }
    if let Some(at) = signature.find("kernel: [") {
        let end = signature[at..].find(']').map_or(signature.len(), |e| at + e + 1);
        kind.push_str(&signature[at + 7..end]);
    }
    for form in ["weight_tile: true", "wide: true"] {
        if signature.contains(form) {
            kind.push('.');
            kind.push_str(form);
        }
    }
    if let Some(at) = signature.find("bits: ") {
        kind.push_str(&signature[at..(at + 7).min(signature.len())]);
    }
    kind
}

impl Latency {
    /// Fits one model per kind, by least squares of relative errors with non-negative weights.
    pub fn fit(operators: &[Operator]) -> Self {
        let mut kinds: BTreeMap<String, Vec<&Operator>> = BTreeMap::new();
        let mut rest = Vec::new();
        for o in operators {
            match o.features.is_empty() {
                true => rest.push(o.instructions as f64),
                false => kinds.entry(kind(&o.signature)).or_default().push(o),
            }
        }
        let models = kinds.into_iter().map(|(k, all)| (k, model(&all))).collect();
        let rest = rest.iter().sum::<f64>() / rest.len().max(1) as f64;
        Self { models, rest }
    }

    /// Instructions of an `.off` file; for a kind that was never measured, the closest kind by name is used.
    ///
    /// # Errors
    /// It is not an `.off` file.
    pub fn predict(&self, off: &[u8]) -> Result<f64> {
        let operators = operators_of(off)?;
        Ok(self.rest + operators.iter().map(|(s, f)| self.operator(s, f)).sum::<f64>())
    }

    /// Instructions of one operator.
    pub fn operator(&self, signature: &str, features: &[f64]) -> f64 {
        let wanted = kind(signature);
        let tag = wanted.split(['.', '[', ':']).next().unwrap_or_default();
        let model = self.models.get(&wanted).or_else(|| {
            let same = self.models.iter().filter(|(k, _)| k.split(['.', '[', ':']).next() == Some(tag));
            same.max_by_key(|(k, _)| k.bytes().zip(wanted.bytes()).take_while(|(a, b)| a == b).count())
                .map(|(_, m)| m)
        });
        model.map_or(0.0, |m| m[0] + m[1..].iter().zip(features).map(|(w, f)| w * f).sum::<f64>())
    }
}

/// Intercept and weights of the features.
fn model(operators: &[&Operator]) -> Vec<f64> {
    let width = operators.iter().map(|o| o.features.len()).min().unwrap_or(0) + 1;
    let row = |o: &Operator| -> Vec<f64> {
        std::iter::once(1.0).chain(o.features.iter().copied()).take(width).collect()
    };
    let scale: Vec<f64> = (0..width)
        .map(|i| operators.iter().map(|o| row(o)[i].abs()).fold(0.0, f64::max).max(f64::MIN_POSITIVE))
        .collect();
    let (n, mut active) = (operators.len(), vec![true; width]);
    // Rows are divided by their counts, and targets are 1: errors are relative.
    let design = DMatrix::from_fn(n, width, |r, c| {
        row(operators[r])[c] / scale[c] / (operators[r].instructions as f64).max(1.0)
    });
    let target = DVector::from_element(n, 1.0);
    let mut weights = vec![0.0; width];
    // Negative weights are removed one by one; each iteration removes one or ends.
    for _ in 0..width {
        let columns: Vec<usize> = (0..width).filter(|&i| active[i]).collect();
        if columns.is_empty() {
            break;
        }
        let part = design.select_columns(&columns);
        let square = part.transpose() * &part;
        let ridge = square.diagonal().max() * 1e-10;
        let square = square + DMatrix::identity(columns.len(), columns.len()) * ridge.max(1e-300);
        let Some(solved) = square.cholesky().map(|c| c.solve(&(part.transpose() * &target))) else { break };
        weights = vec![0.0; width];
        columns.iter().zip(solved.iter()).for_each(|(&c, &w)| weights[c] = w / scale[c]);
        // The intercept may have any sign.
        let worst = columns.iter().zip(solved.iter()).filter(|(c, w)| **c > 0 && **w < 0.0);
        match worst.min_by(|a, b| a.1.total_cmp(b.1)) {
            Some((&c, _)) => active[c] = false,
            None => break,
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_the_work_are_found() {
        let operator = |h: f64, c: f64| Operator {
            target: "t".into(),
            signature: format!("Conv(Conv {{ h: {h}, c: {c} }})"),
            instructions: (40.0 + 3.0 * h * c + 11.0 * h) as i64,
            features: vec![h * c, h],
        };
        let known: Vec<Operator> =
            (1..20).map(|i| operator(f64::from(i), f64::from(i * 7 % 5 + 1))).collect();
        let latency = Latency::fit(&known);
        let new = operator(33.0, 9.0);
        let said = latency.operator(&new.signature, &new.features);
        assert!((said / new.instructions as f64 - 1.0).abs() < 0.01, "{said} {}", new.instructions);
    }
}
