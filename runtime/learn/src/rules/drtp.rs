//! Direct random target projection (Frenkel, Lefebvre and Bol, Front. Neurosci. 15:629892, 2021): the label's code
//! stands for the error; for classification its sign is known without looking at the output.

/// `-P y*` as the gradient of the activity: descending it moves the activity towards the code.
#[inline]
pub fn error(code: f32) -> f32 {
    -code
}
