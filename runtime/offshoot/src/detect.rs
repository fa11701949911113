//! From the scores of a network that runs over a stream to detections: the mean of the last scores, a threshold, and a pause
//! after each detection. Without it, a word that is heard in five windows is five detections, and a click is one.

/// Watches the score of one class.
///
/// ```
/// use offshoot::detect::Detector;
///
/// // The mean of the last three scores above 0.6; then nothing for ten runs.
/// let mut detector = Detector::<3>::new(0.6, 10);
/// let heard: Vec<bool> = [0.1, 0.9, 0.9, 0.9, 0.9].into_iter().map(|score| detector.update(score)).collect();
/// assert_eq!(heard, [false, false, true, false, false]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detector<const N: usize> {
    threshold: f32,
    pause: u32,
    scores: [f32; N],
    /// Scores so far, at most `N`.
    count: usize,
    /// Runs for which nothing is detected.
    rest: u32,
}

impl<const N: usize> Detector<N> {
    /// Detects when the mean of the last `N` scores exceeds `threshold`, and then not for `pause` runs.
    pub const fn new(threshold: f32, pause: u32) -> Self {
        Self { threshold, pause, scores: [0.0; N], count: 0, rest: 0 }
    }

    /// Takes the score of a run, and says whether this run is a detection. A score that is no number counts as 0. Until there
    /// are `N` scores nothing is detected.
    pub fn update(&mut self, score: f32) -> bool {
        self.scores.rotate_left(1.min(N));
        if let Some(last) = self.scores.last_mut() {
            *last = if score.is_nan() { 0.0 } else { score };
        }
        self.count = N.min(self.count.saturating_add(1));
        if self.rest > 0 {
            self.rest -= 1;
            return false;
        }
        let heard = self.count == N && self.mean() > self.threshold;
        if heard {
            self.rest = self.pause;
        }
        heard
    }

    /// The mean of the last `N` scores; those before the first are 0.
    pub fn mean(&self) -> f32 {
        self.scores.iter().sum::<f32>() / N.max(1) as f32
    }

    /// Forgets all scores and ends the pause.
    pub fn restart(&mut self) {
        *self = Self::new(self.threshold, self.pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard<const N: usize>(detector: &mut Detector<N>, scores: &[f32]) -> Vec<usize> {
        (0..scores.len()).filter(|&i| detector.update(scores[i])).collect()
    }

    #[test]
    fn one_word_is_one_detection() {
        let mut scores = vec![0.0; 40];
        scores[5..12].fill(1.0);
        scores[30..37].fill(1.0);
        assert_eq!(heard(&mut Detector::<4>::new(0.6, 12), &scores), [7, 32]);
        assert_eq!(heard(&mut Detector::<4>::new(0.6, 0), &scores).len(), 2 * 6);
    }

    #[test]
    fn a_click_is_none_and_what_is_no_number_is_nothing() {
        let mut detector = Detector::<3>::new(0.5, 0);
        assert!(heard(&mut detector, &[0.0, 0.0, 1.0, 0.0, f32::NAN, 1.0, f32::NAN]).is_empty());
        assert_eq!(detector.mean(), 1.0 / 3.0);
        detector.restart();
        assert!(heard(&mut detector, &[1.0, 1.0]).is_empty());
        assert!(detector.update(1.0));
    }
}
