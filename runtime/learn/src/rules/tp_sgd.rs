//! tpSGD (Lomnitz et al., arXiv:2208.08503): the projected label `t = P y*` is the layer's target, and the layer
//! descends its own distance to it: `J = |t - h|²/2` or `|t - h|₁`. It needs no other layer.
//!
//! If targets are far outside the range of the activations, the error has the target's sign, and the rule becomes
//! direct random target projection.

/// `∂/∂h (h - t)²/2`
#[inline]
pub fn squared(h: f32, target: f32) -> f32 {
    h - target
}

/// `∂/∂h |h - t|`: -1, 0 or 1, which suits low precision.
#[inline]
pub fn absolute(h: f32, target: f32) -> f32 {
    if h > target {
        1.0
    } else if h < target {
        -1.0
    } else {
        0.0
    }
}
