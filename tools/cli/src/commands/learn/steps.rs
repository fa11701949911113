//! What happens on the device: it begins, takes steps, and saves.

use offshoot::format::learn::HeadKind;
use offshoot_export::relearn;
use offshoot_target::Device;

use super::evaluate::{accuracy, classify};
use super::report::{Block, Point};
use super::{NO_PLAN, Spec, Start, arrays, not_written};
use crate::batch::{self, DEVICE_HELP, Inputs};
use crate::failure::{Context, Failure, Kind, Result};
use crate::files::OffFile;
use crate::ui::Ui;
use crate::watch;

/// Begins to learn: anew, or from what was saved or exported. Returns the number of the save.
pub(super) fn begin(
    device: &mut dyn Device,
    roomy: &OffFile,
    spec: &Spec,
    start: Start<'_>,
    digest: u32,
) -> Result<Option<u32>> {
    const HELP: &str = "learn with --save first, or leave out --restore";
    if spec.restore && start.flash.is_none() {
        return Ok(Some(device.restore().or_fail(Kind::Device, HELP)?));
    }
    device.begin_learning().map_err(|e| batch::device_failure(&e, NO_PLAN))?;
    let len = || -> Result<usize> { Ok(roomy.model()?.learning().map_or(0, |l| l.learned_bytes())) };
    if let Some(path) = start.arrays {
        let pieces = relearn::pieces(roomy.bytes()).map_err(not_written)?;
        let given = offshoot_data::npz::read(path).or_fail_in(
            Kind::Format,
            path.display(),
            "give a file that `learn --export` wrote",
        )?;
        arrays::check_model(roomy, &given)?;
        let learned = arrays::to_learned(&pieces, &given, len()?)?;
        device.write_learned(&learned).or_fail_in(
            Kind::Mismatch,
            path.display(),
            "give arrays that this model learned",
        )?;
    }
    let Some(flash) = start.flash.filter(|_| spec.restore) else { return Ok(None) };
    let (number, learned) = flash.load(digest, len()?)?;
    device.write_learned(&learned).or_fail(Kind::Device, HELP)?;
    Ok(Some(number))
}

/// Measurements during learning.
#[derive(Default)]
pub(super) struct Trace {
    pub(super) curve: Vec<Point>,
    pub(super) count: Option<u64>,
    pub(super) stack: Option<u64>,
    pub(super) arena: u64,
    pub(super) left_out: usize,
}

/// Takes the steps, beginning with sample `skip`.
pub(super) fn take_steps(
    ui: &Ui,
    device: &mut dyn Device,
    samples: &Inputs,
    labels: &[u16],
    steps: usize,
    skip: usize,
) -> Result<Trace> {
    let bar = ui.progress("learning", steps as u64);
    let stretch = steps.div_ceil(20).max(1);
    let (mut curve, mut hits, mut since) = (Vec::new(), 0, 0);
    let (mut count, mut stack, mut arena, mut left_out) = (0, 0, 0, 0);
    for step in 0..steps {
        watch::stop_if_cancelled();
        let i = (skip % labels.len().max(1) + step) % labels.len().max(1);
        let report = device.learn(&samples.sample(i), labels[i]).or_fail(Kind::Device, DEVICE_HELP)?;
        hits += usize::from(report.guess == labels[i]);
        left_out += usize::from(report.left_out);
        since += 1;
        count = count.max(report.count);
        stack = stack.max(report.stack);
        arena = arena.max(report.arena);
        if since == stretch || step + 1 == steps {
            curve.push(Point { steps: step + 1, accuracy: hits as f64 / since as f64 });
            (hits, since) = (0, 0);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let some = |n: u32| (n > 0).then_some(u64::from(n));
    Ok(Trace { curve, count: some(count), stack: some(stack), arena: arena.into(), left_out })
}

/// Accuracy and cost of a boosted head with one active block, two, and so on; all are active afterwards.
pub(super) fn boosted_blocks(
    device: &mut dyn Device,
    file: &OffFile,
    learned: &[u8],
    inputs: &Inputs,
    labels: &[u16],
) -> Result<Vec<Block>> {
    let model = file.model()?;
    let answer = model.learning().and_then(|l| l.head.classifier);
    let Some(answer) = answer.filter(|a| matches!(a.kind, HeadKind::Boosted { .. })) else {
        return Ok(Vec::new());
    };
    let block = |blocks: u8| {
        let classes = classify(file, Some(learned), Some(blocks), inputs)?;
        device.set_active_blocks(blocks).or_fail(Kind::Device, DEVICE_HELP)?;
        device.run(&inputs.sample(0)).or_fail(Kind::Device, DEVICE_HELP)?;
        let accuracy = accuracy(&classes, labels, |_| true).unwrap_or(0.0);
        Ok(Block { blocks, accuracy, run_count: device.run_count() })
    };
    (1..=answer.taps).map(block).collect()
}

/// Saves, opens the model again, and checks that it has the same bits.
pub(super) fn save(device: &mut dyn Device, learned: &[u8]) -> Result<u32> {
    let number = device.save().or_fail(Kind::Device, DEVICE_HELP)?;
    let opened = device.reopen().or_fail(Kind::Device, DEVICE_HELP)?;
    let same = opened == number && device.learned().or_fail(Kind::Device, DEVICE_HELP)? == learned;
    if same {
        return Ok(number);
    }
    Err(Failure::new(
        Kind::Device,
        "the saved weights differ when read back",
        "save again; if it fails again, the target's flash may be worn out",
    ))
}
