//! Chooses what one period removes: a run of moves that meets the limits, and exchanges that fill them.

use super::allocate::{Aim, Cost, Lowering, Move, Rates, Rules, toward};
use super::budget::Size;
use super::give_back::{Choice, Judge, WANTED};
use crate::Result;

/// Least width of a family, as a share of the width that all would have if they shrank alike.
const BALANCE: f64 = 0.6;

/// The moves of one period: those that meet its limits at the least loss, with what was too much given back.
pub(super) fn chosen(judge: &Judge<'_>, base: &Choice) -> Result<Choice> {
    // Fewer bits may take RAM and instructions that are not there: then channels alone may lose less.
    let mut found: Option<(bool, f64, Choice)> = None;
    let mut least = judge.before;
    let variants: &[&[Lowering]] = if judge.lowerings.is_empty() { &[&[]] } else { &[&[], judge.lowerings] };
    for &lowerings in variants {
        let Some(choice) = balanced(judge, base, lowerings, &mut least)? else { continue };
        let (full, lost) = (judge.is_full(&choice)?, judge.lost(base, &choice));
        // Scores of several layers are rough; that what is left fills its budget counts for more.
        let better = |(other, least, _): &(bool, f64, Choice)| (full, -lost) > (*other, -*least);
        if found.as_ref().is_none_or(better) {
            found = Some((full, lost, choice));
        }
    }
    found.map(|(.., choice)| choice).ok_or_else(|| least.too_large())
}

/// The choice with these `lowerings` that meets the limits and fills them, with no family much narrower than the others
/// where the limits allow that: scores are first-order, and underestimate what the last channels of a layer are worth.
fn balanced(
    judge: &Judge<'_>,
    base: &Choice,
    lowerings: &[Lowering],
    least: &mut Size,
) -> Result<Option<Choice>> {
    let width = judge.limits.width(judge.before);
    let families = judge.groups.families.iter().zip(&judge.rules.floors);
    let floors = families.map(|(f, &floor)| floor.max((f.groups.len() as f64 * width * BALANCE) as usize));
    let rules = Rules { floors: floors.collect(), ..judge.rules.clone() };
    let wide = Judge { rules: &rules, ..*judge };
    if let Some(choice) = filled(&wide, base, lowerings, least)?
        && wide.is_full(&choice)?
    {
        return Ok(Some(choice));
    }
    filled(judge, base, lowerings, least)
}

/// The choice with these `lowerings` that meets the limits and fills them: by moves to the next multiple, or else by single
/// channels.
fn filled(
    judge: &Judge<'_>,
    base: &Choice,
    lowerings: &[Lowering],
    least: &mut Size,
) -> Result<Option<Choice>> {
    let fine = Rules { multiple: 1, floors: judge.rules.floors.clone() };
    let fine = Judge { rules: &fine, ..*judge };
    let found = match reached(judge, base, base, lowerings, least)? {
        // A narrow family has no multiple left that is small enough.
        None if judge.rules.multiple > 1 => reached(&fine, base, base, lowerings, least)?,
        found => found,
    };
    let Some((first, before_last)) = found else { return Ok(None) };
    let mut best = first.clone();
    // The last move was too large, and nothing that went before makes up for it: others in its place.
    for step in 0..3 {
        if judge.is_full(&best)? {
            break;
        }
        let other = match step {
            0 if judge.rules.multiple > 1 => exchanged(judge, base, &first, lowerings, least)?,
            1 if judge.rules.multiple > 1 => {
                reached(&fine, base, &before_last, lowerings, least)?.map(|(other, _)| other)
            }
            2 => exchanged(&fine, base, &best, lowerings, least)?,
            _ => None,
        };
        let Some(other) = other else { continue };
        if judge.is_full(&other)? || judge.lost(base, &other) < judge.lost(base, &best) {
            best = other;
        }
    }
    Ok(Some(best))
}

/// What `choice` becomes if one family, or the bits of one layer, take a step back and others make up for it: the one
/// that fills the limits at the least loss, or else the one that uses most of them. `None` if nothing uses more.
fn exchanged(
    judge: &Judge<'_>,
    base: &Choice,
    choice: &Choice,
    lowerings: &[Lowering],
    least: &mut Size,
) -> Result<Option<Choice>> {
    let mut best: Option<((f64, f64), Choice)> = None;
    let rank = |choice: &Choice| -> Result<(f64, f64)> {
        Ok((judge.used(choice)?.min(WANTED), -judge.lost(base, choice)))
    };
    let now = rank(choice)?;
    for (step, _, larger) in judge.larger(base, choice, judge.rules.multiple) {
        // The step must not be taken forward again.
        let mut rules = judge.rules.clone();
        if let Some(floor) = rules.floors.get_mut(step.0) {
            *floor = step.1;
        }
        let stays = |l: &&Lowering| larger.bits.layers.get(&l.layer) == choice.bits.layers.get(&l.layer);
        let lowerings: Vec<Lowering> = lowerings.iter().filter(stays).cloned().collect();
        let judge = Judge { rules: &rules, ..*judge };
        let Some((other, _)) = reached(&judge, base, &larger, &lowerings, least)? else { continue };
        let ranked = rank(&other)?;
        if ranked.0 > now.0 && best.as_ref().is_none_or(|(best, _)| ranked > *best) {
            best = Some((ranked, other));
        }
    }
    Ok(best.map(|(_, choice)| choice))
}

/// The shortest run of moves from `start` that meets the limits, less what of it is not needed, and the choice before its
/// last move; `None` if the limits cannot be met. `least` becomes the size nearest to them that was seen.
fn reached(
    judge: &Judge<'_>,
    base: &Choice,
    start: &Choice,
    lowerings: &[Lowering],
    least: &mut Size,
) -> Result<Option<(Choice, Choice)>> {
    let (limits, now) = (judge.limits, judge.measure(start)?);
    let work = match now.size.instructions {
        Some(i) if limits.instructions < u64::MAX => [i, limits.instructions],
        _ => [now.size.macs, limits.macs],
    };
    let goal = [[now.size.flash, limits.flash], work, [now.size.ram, limits.ram]]
        .map(|[now, limit]| if limit >= now { f64::INFINITY } else { limit as f64 });
    let aim = Aim { now: [now.size.flash, work[0], now.size.ram].map(|now| now as f64), goal };
    let rates = Rates { work: now.rates, elements: now.elements, live: now.live, bits: start.bits.clone() };
    let cost = Cost::new(judge.graph, judge.groups, &start.removed, &rates);
    let open = |l: &&Lowering| start.bits.layers.get(&l.layer).is_none_or(|&has| l.bits < has);
    let lowerings: Vec<Lowering> = lowerings.iter().filter(open).cloned().collect();
    let moves = toward(judge.groups, judge.scores, &start.removed, judge.rules, &lowerings, cost, aim);
    let count = shortest(&moves, |moves| {
        let size = judge.measure(&with(start, moves))?.size;
        if limits.taken(size) < limits.taken(*least) {
            *least = size;
        }
        Ok(limits.hold(size))
    })?;
    let Some(count) = count else { return Ok(None) };
    let choice = judge.give_back(base, with(start, &moves[..count]))?;
    Ok(Some((choice, with(start, &moves[..count.saturating_sub(1)]))))
}

/// Length of the shortest run of moves for which `fits`, assuming that more moves never make the network larger;
/// `None` if even all of them do not fit.
fn shortest(moves: &[Move], mut fits: impl FnMut(&[Move]) -> Result<bool>) -> Result<Option<usize>> {
    if !fits(moves)? {
        return Ok(None);
    }
    let (mut low, mut high) = (0, moves.len());
    while low < high {
        let middle = low.midpoint(high);
        if fits(&moves[..middle])? { high = middle } else { low = middle + 1 }
    }
    Ok(Some(high))
}

/// `base` with these moves made.
pub(super) fn with(base: &Choice, moves: &[Move]) -> Choice {
    let mut choice = base.clone();
    for m in moves {
        m.groups.iter().for_each(|&g| choice.removed[g] = true);
        if let Some((layer, bits)) = &m.bits {
            choice.bits.layers.insert(layer.clone(), *bits);
        }
    }
    choice
}
