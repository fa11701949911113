//! The classifier head: its kind, its features and its memory.

use offshoot::format::learn::{ClassifierHead, HeadKind, Tap};
use offshoot::graph::learn::{MAX_CLASSES, MAX_FEATURES, MAX_TAPS};
use offshoot::learn::heads::head_bytes;

use super::fields::{FALSE_ALARMS, SCORES};
use super::{
    Candidate, CovarianceName, FeatureName, FeatureSpec, HeadName, HeadPlan, LearningPlan, Places, wrong,
};
use crate::error::Result;

/// A head with its features resolved.
pub(super) struct Head {
    pub(super) kind: HeadKind,
    pub(super) name: &'static str,
    pub(super) classes: u16,
    pub(super) from: u32,
    pub(super) taps: Vec<Tap>,
    /// Number of the head's features, folded if they are.
    pub(super) features: usize,
    /// Number of sums that the features are folded into; 0: not folded.
    folded: u16,
}

impl Head {
    /// The record; its memory is placed at the end.
    pub(super) fn place(&self, features: u32, places: &mut Places) -> Result<ClassifierHead> {
        let (bytes, _) = head_bytes(self.kind, self.features, self.classes.into());
        let at = places.next(bytes as u64)?;
        let taps = self.taps.len() as u8;
        Ok(ClassifierHead {
            kind: self.kind,
            classes: self.classes,
            taps,
            from: self.from,
            features,
            at,
            folded: self.folded,
        })
    }
}

/// The plan's head on these operators, if it has one.
pub(super) fn resolve(spec: &LearningPlan, all: &[Candidate<'_>], classes: u16) -> Result<Option<Head>> {
    let Some(plan) = spec.head.as_ref().map(super::HeadSpec::plan) else { return Ok(None) };
    let layers: Vec<&Candidate<'_>> = all.iter().filter(|c| !c.shape.norm).collect();
    let tapped: Vec<&Candidate<'_>> = match &plan.features {
        FeatureSpec::Word(FeatureName::Last) => layers.last().copied().into_iter().collect(),
        FeatureSpec::Word(FeatureName::All) => layers.iter().skip(1).copied().collect(),
        FeatureSpec::Word(FeatureName::Every) => every(&layers),
        FeatureSpec::Named(names) => {
            for name in names {
                if name != super::LAST && !layers.iter().any(|c| c.name() == name) {
                    let there: Vec<_> = layers.iter().map(|c| c.name()).collect();
                    return wrong(format!(
                        "`features`: there is no layer `{name}`; there are: {}",
                        there.join(", ")
                    ));
                }
            }
            let last = layers.last().map(|c| c.position);
            let named = |c: &&Candidate<'_>| {
                names.iter().any(|n| n == c.name() || n == super::LAST && Some(c.position) == last)
            };
            layers.iter().copied().filter(named).collect()
        }
    };
    let features: usize = tapped.iter().map(|c| c.shape.geometry.c).sum();
    if tapped.is_empty() || tapped.len() > MAX_TAPS || features > MAX_FEATURES {
        return wrong(format!(
            "the head would have {features} features of {} layers, but must have 1 to {MAX_TAPS} layers and at \
             most {MAX_FEATURES} features: name fewer in `features`",
            tapped.len()
        ));
    }
    let Some(workspace) = classes.checked_add(plan.new_classes).filter(|&c| c <= MAX_CLASSES) else {
        return wrong(format!(
            "{} new classes and {classes} known ones are more than {MAX_CLASSES} together: give fewer `new_classes`",
            plan.new_classes
        ));
    };
    let tap = |c: &&Candidate<'_>| Tap {
        op: c.position as u16,
        scale: if c.shape.is_whole() { c.input_scale } else { 0.0 },
    };
    let (kind, name) = kind(&plan);
    // More sums than features are the features.
    let folded = plan.folded().filter(|&fold| usize::from(fold) < features);
    if plan.fold == Some(0) || folded.is_some() && plan.kind == HeadName::Boosted {
        return wrong("`fold` must be 1 or more, and a boosted head has none".into());
    }
    Ok(Some(Head {
        folded: folded.unwrap_or(0),
        kind,
        name,
        classes: workspace,
        from: plan.from,
        taps: tapped.iter().map(tap).collect(),
        features: folded.map_or(features, usize::from),
    }))
}

/// All layers, without the first ones if there are too many or they have too many inputs.
fn every<'c, 'l>(layers: &[&'c Candidate<'l>]) -> Vec<&'c Candidate<'l>> {
    let mut features = 0;
    let fits = layers.iter().rev().take(MAX_TAPS).take_while(|layer| {
        features += layer.shape.geometry.c;
        features <= MAX_FEATURES
    });
    let from = layers.len() - fits.count();
    layers[from..].to_vec()
}

/// A rate of false alarms in units of 1/10000.
fn per_10_000(rate: f32) -> u16 {
    (rate * 10_000.0).round().clamp(1.0, 5000.0) as u16
}

/// Number of scores that a threshold with this rate of false alarms rests on at least.
pub(super) fn scores_needed(rate: f32) -> u32 {
    10_000_u32.div_ceil(per_10_000(rate).into()) - 1
}

/// The kind of a head, whose numbers have been checked.
fn kind(plan: &HeadPlan) -> (HeadKind, &'static str) {
    let window = plan.window.unwrap_or(f32::INFINITY);
    let shrinkage = plan.shrinkage.unwrap_or(-1.0);
    let step = plan.step.unwrap_or(if plan.kind == HeadName::Simplex { 0.5 } else { 1.0 });
    let (ridge, forgetting) = (plan.ridge.unwrap_or(1.0), plan.forgetting.unwrap_or(1.0));
    match plan.kind {
        HeadName::Softmax => (HeadKind::Softmax { step }, "softmax"),
        HeadName::NearestMean => (HeadKind::NearestMean { window }, "nearest-mean"),
        HeadName::Lda => (HeadKind::Lda { shrinkage, window }, "lda"),
        HeadName::LeastSquares => {
            (HeadKind::LeastSquares { ridge, forgetting, balance: true }, "least-squares")
        }
        HeadName::Simplex => (HeadKind::Simplex { step }, "simplex"),
        HeadName::Boosted => (HeadKind::Boosted { step }, "boosted"),
        HeadName::Anomaly => {
            let diagonal = plan.covariance == Some(CovarianceName::Diagonal);
            let false_alarms = per_10_000(plan.false_alarms.unwrap_or(FALSE_ALARMS));
            let scores = plan.scores.unwrap_or(SCORES);
            (HeadKind::Anomaly { diagonal, window, false_alarms, scores }, "anomaly")
        }
        HeadName::Regression => (HeadKind::Regression { ridge, forgetting }, "regression"),
    }
}
