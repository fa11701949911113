//! Hand-drawn symbols as seen by a small camera, 16 × 16 greyscale.
//!
//! A symbol is a few strokes in the unit square. Each point is displaced a little, as hands differ, then an affine
//! map rotates, shears, scales and shifts it. Nuisance: stroke width, blur, contrast, uneven light, noise, stray
//! strokes, a covered part. Shifted: the camera is turned by 45° and the pen is finer.

use std::f64::consts::PI;

use super::{Condition, offset_binary};
use crate::random::Random;

/// Names of the labels.
pub const CLASSES: [&str; 10] =
    ["ring", "plus", "triangle", "square", "arrow", "zed", "tee", "corner", "equals", "cup"];
/// Height and width in pixels.
pub const SIDE: usize = 16;

type Point = [f64; 2];

pub(super) fn sample(label: usize, condition: Condition, random: &mut Random, out: &mut Vec<u8>) {
    let shifted = condition == Condition::Shifted;
    let mut segments = place(strokes(label), shifted, random);
    for _ in 0..super::index(random, 3) {
        segments.push(stray(random));
    }
    let width = random.within(0.45..1.0) * if shifted { 0.7 } else { 1.0 };
    let blur = random.within(0.5..1.2);
    let contrast = random.within(0.45..1.0);
    let ground = random.within(0.25..0.6);
    let slope = [random.normal_of(0.015), random.normal_of(0.015)];
    let noise = random.within(0.03..0.13);
    let cover = random.chance(0.2).then(|| [random.within(0.0..16.0), random.within(0.0..16.0)]);
    for y in 0..SIDE {
        for x in 0..SIDE {
            let point = [x as f64 + 0.5, y as f64 + 0.5];
            let distance = segments.iter().map(|s| distance(point, s)).fold(f64::INFINITY, f64::min);
            // Soft edge: full ink within the stroke, none beyond a blur's width from it.
            let ink = ((width - distance) / blur + 0.5).clamp(0.0, 1.0);
            let covered =
                cover.is_some_and(|c| (point[0] - c[0]).abs() < 2.0 && (point[1] - c[1]).abs() < 2.0);
            let light = ground + slope[0] * (point[0] - 8.0) + slope[1] * (point[1] - 8.0);
            let value = light + if covered { 0.0 } else { -contrast * ink } + random.normal_of(noise);
            out.push(offset_binary(value));
        }
    }
}

/// The symbol's strokes as polylines in the unit square, y down.
fn strokes(label: usize) -> Vec<Vec<Point>> {
    let arc = |from: f64, to: f64, radius: f64| -> Vec<Point> {
        let angle = |i: usize| from + (to - from) * i as f64 / 12.0;
        (0..=12).map(|i| [0.5 + radius * libm::cos(angle(i)), 0.5 + radius * libm::sin(angle(i))]).collect()
    };
    match CLASSES[label] {
        "ring" => vec![arc(0.0, 2.0 * PI, 0.42)],
        "plus" => vec![vec![[0.5, 0.06], [0.5, 0.94]], vec![[0.06, 0.5], [0.94, 0.5]]],
        "triangle" => vec![vec![[0.5, 0.08], [0.94, 0.88], [0.06, 0.88], [0.5, 0.08]]],
        "square" => vec![vec![[0.12, 0.12], [0.88, 0.12], [0.88, 0.88], [0.12, 0.88], [0.12, 0.12]]],
        "arrow" => vec![vec![[0.5, 0.95], [0.5, 0.06]], vec![[0.2, 0.4], [0.5, 0.06], [0.8, 0.4]]],
        "zed" => vec![vec![[0.12, 0.12], [0.88, 0.12], [0.12, 0.88], [0.88, 0.88]]],
        "tee" => vec![vec![[0.08, 0.1], [0.92, 0.1]], vec![[0.5, 0.1], [0.5, 0.94]]],
        "corner" => vec![vec![[0.18, 0.06], [0.18, 0.9], [0.88, 0.9]]],
        "equals" => vec![vec![[0.1, 0.28], [0.9, 0.28]], vec![[0.1, 0.72], [0.9, 0.72]]],
        _ => {
            let mut cup = vec![[0.12, 0.08]];
            cup.extend(arc(PI, 0.0, 0.38));
            cup.push([0.88, 0.08]);
            vec![cup]
        }
    }
}

/// Displaces the points and maps the strokes to pixels; returns their segments.
fn place(strokes: Vec<Vec<Point>>, shifted: bool, random: &mut Random) -> Vec<[Point; 2]> {
    let base = if shifted { PI / 4.0 } else { 0.0 };
    let angle = base + random.normal_of(0.2);
    let shear = random.normal_of(0.17);
    let scale = [random.within(7.0..12.5), random.within(7.0..12.5)];
    let centre = [8.0 + random.normal_of(1.1), 8.0 + random.normal_of(1.1)];
    let (s, c) = (libm::sin(angle), libm::cos(angle));
    let mut segments = Vec::new();
    for stroke in strokes {
        let points: Vec<Point> = stroke
            .iter()
            .map(|p| {
                let x = (p[0] - 0.5 + random.normal_of(0.04)) * scale[0];
                let y = (p[1] - 0.5 + random.normal_of(0.04)) * scale[1];
                let x = x + shear * y;
                [centre[0] + c * x - s * y, centre[1] + s * x + c * y]
            })
            .collect();
        segments.extend(points.windows(2).map(|w| [w[0], w[1]]));
    }
    segments
}

/// A short line at a random position.
fn stray(random: &mut Random) -> [Point; 2] {
    let from = [random.within(0.0..16.0), random.within(0.0..16.0)];
    let (angle, length) = (random.phase(), random.within(1.0..6.0));
    [from, [from[0] + length * libm::cos(angle), from[1] + length * libm::sin(angle)]]
}

/// Distance of a point from a segment.
fn distance(p: Point, [a, b]: &[Point; 2]) -> f64 {
    let along = [b[0] - a[0], b[1] - a[1]];
    let to = [p[0] - a[0], p[1] - a[1]];
    let length = along[0] * along[0] + along[1] * along[1];
    let share =
        if length > 0.0 { ((to[0] * along[0] + to[1] * along[1]) / length).clamp(0.0, 1.0) } else { 0.0 };
    let off = [to[0] - share * along[0], to[1] - share * along[1]];
    libm::sqrt(off[0] * off[0] + off[1] * off[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_from_a_segment() {
        let segment = [[0.0, 0.0], [4.0, 0.0]];
        assert_eq!(distance([2.0, 3.0], &segment), 3.0);
        assert_eq!(distance([7.0, 4.0], &segment), 5.0);
        assert_eq!(distance([3.0, 4.0], &[[0.0, 0.0], [0.0, 0.0]]), 5.0);
    }

    #[test]
    fn every_symbol_leaves_ink() {
        for (label, class) in CLASSES.iter().enumerate() {
            let mut pixels = Vec::new();
            sample(label, Condition::Usual, &mut Random::new(5, label as u64), &mut pixels);
            let mean = pixels.iter().map(|&p| f64::from(p)).sum::<f64>() / pixels.len() as f64;
            let dark = pixels.iter().filter(|&&p| f64::from(p) < mean - 25.0).count();
            assert!((12..120).contains(&dark), "{class}: {dark} dark pixels");
        }
    }
}
