//! A learning plan with a recipe has several forms: the first that fits the arena is compiled.

use offshoot_export::{CompileOptions, Compiled, Error};

use crate::failure::{Failure, Kind, Result};

use super::export_failure;

type Compile<'c> = dyn Fn(&CompileOptions) -> std::result::Result<Compiled, Error> + 'c;

/// Compiles with the first form of the learning plan that fits; only a plan with a recipe has several. The report says
/// what the next better one would take.
pub(super) fn first(options: CompileOptions, compile: &Compile<'_>) -> Result<(CompileOptions, Compiled)> {
    let first = match compile(&options) {
        Err(error @ (Error::TrainArena { .. } | Error::Arena { .. })) => error,
        made => return Ok((options, made.map_err(|e| export_failure(&e))?)),
    };
    let Some(plan) = &options.learning else { return Err(export_failure(&first)) };
    let mut least = (plan.summary(), takes(&options, compile, &first));
    let mut better = least.clone();
    for form in plan.smaller() {
        let summary = form.summary();
        let smaller = CompileOptions { learning: Some(form), ..options.clone() };
        match compile(&smaller) {
            Ok(mut compiled) => {
                if let Some(learning) = &mut compiled.report.learning {
                    learning.better = Some(better);
                }
                return Ok((smaller, compiled));
            }
            Err(error @ (Error::TrainArena { .. } | Error::Arena { .. })) => {
                let form = (summary, takes(&smaller, compile, &error));
                if form.1 < least.1 {
                    least.clone_from(&form);
                }
                // Folding into more sums than there are features changes nothing.
                if form.1 < better.1 {
                    better = form;
                }
            }
            Err(error) => return Err(export_failure(&error)),
        }
    }
    Err(too_small(&options, compile, &least))
}

/// Bytes of arena that learning takes without a limit. An error names only those of inference if these are too many.
fn takes(options: &CompileOptions, compile: &Compile<'_>, error: &Error) -> u64 {
    let made = compile(&CompileOptions { max_arena: None, ..options.clone() }).ok();
    let bytes = made.and_then(|c| c.report.learning).map(|l| l.train_arena_bytes);
    bytes.unwrap_or(match error {
        Error::TrainArena { needed, .. } | Error::Arena { needed, .. } => *needed,
        _ => 0,
    })
}

/// The failure of a plan whose smallest form, a summary and its bytes of arena, does not fit.
fn too_small(options: &CompileOptions, compile: &Compile<'_>, least: &(String, u64)) -> Failure {
    let (summary, bytes) = least;
    let limit = options.max_arena.unwrap_or_default();
    let form = match options.learning.as_ref().is_some_and(|plan| !plan.smaller().is_empty()) {
        true => format!(" in its smallest form ({summary})"),
        false => String::new(),
    };
    let alone = CompileOptions { max_arena: None, learning: None, ..options.clone() };
    let alone = compile(&alone).map_or(String::new(), |made| {
        format!("; without a plan the network takes {}", made.report.arena_bytes)
    });
    let over = bytes.saturating_sub(limit);
    let message =
        format!("learning takes {bytes} bytes of arena{form}, {over} more than the {limit} allowed{alone}");
    let help = "train fewer layers or a smaller `part` of them, use int8 weights, a head on fewer `features`, or a \
                larger device";
    Failure::new(Kind::Budget, message, help)
}
