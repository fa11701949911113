//! How far learning has come, and how its schedule fits the steps that are taken.

use offshoot::graph::learn::Learning;
use offshoot::learn::Schedule;
use offshoot_target::Device;

use super::Spec;
use crate::batch::DEVICE_HELP;
use crate::failure::{Context, Kind, Result};
use crate::ui::Ui;

/// How far learning has come.
#[derive(Clone, Copy)]
pub(super) struct Progress {
    pub(super) steps: u32,
    pub(super) course: u32,
}

/// Reads the progress at the start of what was learned.
pub(super) fn progress(learned: &[u8]) -> Progress {
    let word = |i: usize| learned.get(i..i + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    Progress { steps: word(0), course: word(8) }
}

/// Steps of the plan's schedule, if it has an end.
pub fn planned(learning: &Learning<'_>) -> Option<u32> {
    match learning.head.schedule {
        Schedule::Linear { steps } | Schedule::Cosine { steps } => Some(steps),
        Schedule::Constant | Schedule::Inverse { .. } => None,
    }
}

/// Number of steps to take.
pub(super) fn requested_steps(samples: usize, spec: &Spec) -> usize {
    let steps = samples.saturating_mul(spec.epochs as usize);
    spec.steps.unwrap_or(steps).min(steps)
}

/// Scales the schedule to the steps that will be taken, if it is to be; says what does not fit.
pub(super) fn set_course(
    ui: &Ui,
    device: &mut dyn Device,
    learning: &Learning<'_>,
    spec: &Spec,
    before: Progress,
    steps: usize,
) -> Result<()> {
    let Some(planned) = planned(learning) else { return Ok(()) };
    let now = if before.course > 0 { before.course } else { planned };
    let end = u32::try_from(steps).unwrap_or(u32::MAX).saturating_add(before.steps);
    let wanted = match spec.course {
        Some(course) => course,
        None if steps == 0 => return Ok(()),
        None if spec.fit => end,
        // To be continued: the course stays.
        None if spec.save || before.steps > 0 => now,
        None if spec.steps.is_some() => end,
        None => end.min(now),
    };
    if wanted != now {
        device.set_course(wanted).or_fail(Kind::Device, DEVICE_HELP)?;
        if spec.course.is_none() && !spec.fit {
            ui.note(&format!("the plan's course of {now} steps is shortened to the {end} taken"));
        }
    }
    if before.steps >= wanted && before.steps > 0 {
        ui.note(&format!(
            "the course of {wanted} steps has ended: only the head learns on; --course STEPS makes it longer"
        ));
    } else if end < wanted {
        ui.note(&format!("{end} of the {wanted} steps of the course are taken: --fit scales it to them"));
    } else if end > wanted {
        ui.note(&format!("the course has {wanted} steps, but {end} are taken: --fit scales the schedule"));
    }
    Ok(())
}
