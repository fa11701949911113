//! Local rules: the error of a layer's activations, given the label. One file per rule.
//!
//! Every rule gives `∂J/∂h_j` feature by feature, so no buffer of the layer's length is needed. Rules with a softmax
//! first read all features once ([`LocalError::new`]) and keep one number per class; the others keep nothing.

pub mod cross_entropy;
pub mod drtp;
pub mod tp_sgd;

use crate::target_projection::TargetProjection;
pub use offshoot_format::learn::LocalRule;

/// The error of one layer for one sample.
#[derive(Clone, Copy, Debug)]
pub struct LocalError<'a> {
    rule: LocalRule,
    projection: TargetProjection<'a>,
    classes: usize,
    features: usize,
    label: usize,
    /// `softmax - one-hot`, for [`LocalRule::CrossEntropy`].
    residual: &'a [f32],
}

impl<'a> LocalError<'a> {
    /// Reads the activations `h` (all features, in order). `residual` is workspace for one number per class.
    pub fn new(
        rule: LocalRule,
        projection: TargetProjection<'a>,
        features: usize,
        h: impl Iterator<Item = f32>,
        label: usize,
        residual: &'a mut [f32],
    ) -> Self {
        let classes = residual.len();
        if let LocalRule::CrossEntropy { scale } = rule {
            cross_entropy::scores(projection, features, h, scale, residual);
            cross_entropy::residual(residual, label);
        }
        Self { rule, projection, classes, features, label, residual }
    }

    /// `∂J/∂h` at a feature whose activity is `h`.
    #[inline]
    pub fn at(&self, feature: usize, h: f32) -> f32 {
        let code = || self.projection.at(self.classes, self.features, self.label, feature);
        match self.rule {
            LocalRule::CrossEntropy { scale } => {
                scale * cross_entropy::error(self.projection, self.features, self.residual, feature)
            }
            LocalRule::Squared { scale } => tp_sgd::squared(h, scale * code()),
            LocalRule::Absolute { scale } => tp_sgd::absolute(h, scale * code()),
            LocalRule::Drtp => drtp::error(code()),
        }
    }

    /// `softmax - one-hot`, one number per class, if the rule computes it. A local head descends it.
    pub fn residual(&self) -> &'a [f32] {
        self.residual
    }
}
