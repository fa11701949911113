//! Direct random target projection (Frenkel, Lefebvre and Bol, Front. Neurosci. 15:629892, 2021): the projected label
//! replaces the error. In classification, its sign does not depend on the output.

/// `-P y*` as the gradient of the activation: descending it moves the activation towards the projected label.
#[inline]
pub fn error(code: f32) -> f32 {
    -code
}
