//! The limits of a result, which are checked once more when it is final.

use offshoot_compress::prune::{PruneOptions, Size};

use super::{Args, Budget, Point};
use crate::failure::{Failure, Kind, Result};

/// Most times that a result is trimmed.
pub(super) const TRIMS: usize = 3;

/// Lowers the limits of `tight` by what `size` exceeds those of `options`.
pub(super) fn tighten(tight: &mut PruneOptions, size: Size, options: &PruneOptions) {
    let lower = |limit: &mut Option<u64>, own: Option<u64>, now: Option<u64>| {
        if let (Some(limit), Some(own), Some(now)) = (limit.as_mut(), own, now) {
            *limit = limit.saturating_sub(now.saturating_sub(own));
        }
    };
    lower(&mut tight.max_flash, options.max_flash, Some(size.flash));
    lower(&mut tight.max_ram, options.max_ram, Some(size.ram));
    lower(&mut tight.max_macs, options.max_macs, Some(size.macs));
    lower(&mut tight.max_instructions, options.max_instructions, size.instructions);
}

/// The failure of a result that is larger than the candidates were from which it comes.
pub(super) fn exceeded(size: Size, budget: &Budget) -> Failure {
    let over = [
        ("bytes of flash", Some(size.flash), budget.flash),
        ("bytes of RAM", Some(size.ram), budget.ram),
        ("MACs", Some(size.macs), budget.macs),
        ("instructions", size.instructions, budget.instructions),
    ];
    let over = over.into_iter().filter_map(|(unit, now, limit)| Some((unit, now?, limit?)));
    let over = over.filter(|(_, now, limit)| now > limit);
    let all: Vec<String> =
        over.map(|(unit, now, limit)| format!("{now} {unit} of {limit} allowed")).collect();
    let message = format!("the result, calibrated on all samples, takes {}", all.join(", "));
    Failure::new(Kind::Budget, message, "lower that limit by as much")
}

/// Checks the result against `--max-loss`.
pub(super) fn check_loss(points: &[Point], args: &Args) -> Result<()> {
    let (Some(most), Some(whole), Some(last)) = (args.max_loss, points.first(), points.last()) else {
        return Ok(());
    };
    let loss = |p: &Point| whole.accuracy - p.accuracy;
    if loss(last) <= most {
        return Ok(());
    }
    let reachable = points.iter().filter(|p| loss(p) <= most).min_by_key(|p| p.size.flash).unwrap_or(whole);
    let message = format!(
        "the result ({} bytes of flash) loses {:.2} points of accuracy, more than the {:.2} allowed; nearest \
         point reached \
         within the limit: {} bytes of flash, {} of RAM, {:.2} % ({})",
        last.size.flash,
        100.0 * loss(last),
        100.0 * most,
        reachable.size.flash,
        reachable.size.ram,
        100.0 * reachable.accuracy,
        reachable.stage
    );
    Err(Failure::new(Kind::Budget, message, "raise --max-flash or --max-loss, or give more --epochs"))
}
