//! Checks what a plan says, field by field, with errors that name the field and what it may be.

use serde::Deserialize;
use toml::{Table, Value};

use super::plan::{Blocks, HeadName, HeadPlan, HeadSpec, LearningPlan, NormalizerPlan};
use super::{ScheduleName, wrong};
use crate::error::Result;
use offshoot::graph::learn::MAX_GRID;

/// Kinds of heads.
const HEADS: [&str; 8] =
    ["softmax", "nearest-mean", "lda", "least-squares", "simplex", "boosted", "anomaly", "regression"];

/// Largest rate, step or noise: larger numbers can only destroy.
const MOST: f32 = 1000.0;

/// Checks fields that are of one type or another, for which a parser can only say that neither fits.
pub(super) fn check(keys: &Table) -> Result<()> {
    match keys.get("head") {
        None => {}
        Some(Value::String(name)) if HEADS.contains(&name.as_str()) => {}
        Some(Value::String(name)) => {
            return wrong(format!(
                "`head` is \"{name}\", but must be {} or a table [head]",
                HEADS.join(", ")
            ));
        }
        Some(Value::Table(table)) => {
            if let Some(kind) = table.get("kind").filter(|k| k.as_str().is_none_or(|k| !HEADS.contains(&k))) {
                return wrong(format!("`kind` in [head] is {kind}, but must be {}", HEADS.join(", ")));
            }
            match table.get("features") {
                None | Some(Value::Array(_)) => {}
                Some(Value::String(word)) if ["last", "all", "every"].contains(&word.as_str()) => {}
                Some(other) => {
                    return wrong(format!(
                        "`features` in [head] is {other}, but must be \"last\", \"all\", \"every\", or names of layers: [\"a\", \"b\"]"
                    ));
                }
            }
            typed::<HeadPlan>("[head]", table)?;
        }
        Some(other) => return wrong(format!("`head` is {other}, but must be a name or a table [head]")),
    }
    for key in ["normalizer", "standard"] {
        match keys.get(key) {
            None | Some(Value::Boolean(_)) => {}
            Some(Value::Table(table)) => typed::<NormalizerPlan>(key, table)?,
            Some(other) => {
                return wrong(format!(
                    "`{key}` is {other}, but must be true, false, or a table with `trust` and `steps`"
                ));
            }
        }
    }
    match keys.get("blocks") {
        None | Some(Value::Boolean(_)) => Ok(()),
        Some(other) if Blocks::deserialize(other.clone()).is_ok() => Ok(()),
        Some(other) => wrong(format!(
            "`blocks` is {other}, but must be true, false, or pairs of layers: [[\"first\", \"second\"]]"
        )),
    }
}

/// Whether a table has the fields of a type.
fn typed<T: for<'d> Deserialize<'d>>(name: &str, table: &Table) -> Result<()> {
    match T::deserialize(Value::Table(table.clone())) {
        Ok(_) => Ok(()),
        Err(error) => wrong(format!("{name}: {}", error.message())),
    }
}

/// Refuses a number outside a range; `low` itself is outside if `above`.
fn within(name: &str, number: f32, above: bool, low: f32, high: f32) -> Result<()> {
    if number >= low && number <= high && !(above && number == low) {
        return Ok(());
    }
    let low = if above { format!("above {low}") } else { format!("from {low}") };
    wrong(format!("`{name}` is {number}, but must be {low} to {high}"))
}

/// Checks that numbers are within their ranges.
pub(super) fn ranges(plan: &LearningPlan) -> Result<()> {
    within("rate", plan.rate, false, 0.0, MOST)?;
    within("hidden_rate", plan.hidden_rate, false, 0.0, MOST)?;
    within("convolution_rate", plan.convolution_rate.unwrap_or(0.0), false, 0.0, MOST)?;
    within("noise", plan.noise, false, 0.0, MOST)?;
    within("scale", plan.scale.unwrap_or(1.0), true, 0.0, 1e6)?;
    within("grid", plan.grid.into(), false, 1.0, MAX_GRID.into())?;
    within("rank", plan.rank.into(), false, 1.0, 64.0)?;
    if !(0.0..1.0).contains(&plan.momentum) {
        return wrong(format!("`momentum` is {}, but must be from 0 to below 1", plan.momentum));
    }
    if plan.steps == 0 && plan.schedule != ScheduleName::Constant {
        return wrong("`steps` is 0, but the schedule must have 1 step or more".into());
    }
    for layer in &plan.layer {
        let own = |field: &str| format!("{field}` of layer `{}", layer.name);
        within(&own("rate"), layer.rate.unwrap_or(0.0), false, 0.0, MOST)?;
        within(&own("scale"), layer.scale.unwrap_or(1.0), true, 0.0, 1e6)?;
        within(&own("grid"), layer.grid.unwrap_or(1).into(), false, 1.0, MAX_GRID.into())?;
        within(&own("rank"), layer.rank.unwrap_or(1).into(), false, 1.0, 64.0)?;
    }
    if let Some(normalizer) = plan.normalizer() {
        within("trust` of `normalizer", normalizer.trust, false, 0.0, 1e6)?;
    }
    if let Some(head) = plan.head.as_ref().map(HeadSpec::plan) {
        of_head(plan, &head)?;
    }
    Ok(())
}

fn of_head(plan: &LearningPlan, head: &HeadPlan) -> Result<()> {
    within("step` of `head", head.step.unwrap_or(1.0), false, 0.0, MOST)?;
    within("shrinkage` of `head", head.shrinkage.unwrap_or(0.0), false, 0.0, 1.0)?;
    within("ridge` of `head", head.ridge.unwrap_or(1.0), true, 0.0, 1e9)?;
    within("forgetting` of `head", head.forgetting.unwrap_or(1.0), true, 0.0, 1.0)?;
    if head.window.is_some_and(|w| w.is_nan() || w < 1.0) {
        return wrong(format!(
            "`window` of `head` is {}, but must be 1 sample or more",
            head.window.unwrap_or(0.0)
        ));
    }
    within("fold` of `head", head.fold.unwrap_or(1).into(), false, 1.0, 4096.0)?;
    match head.kind {
        HeadName::Anomaly => return of_anomaly_head(plan, head),
        HeadName::Regression => return alone(plan, head, "regression"),
        _ => {}
    }
    let ends = matches!(plan.schedule, ScheduleName::Linear | ScheduleName::Cosine);
    if ends && head.from >= plan.steps {
        return wrong(format!(
            "`from` of `head` is {}, but must be below the {} `steps` of the schedule: the head would never learn",
            head.from, plan.steps
        ));
    }
    Ok(())
}

/// A head that learns what is normal, on a network that stays as it is.
fn of_anomaly_head(plan: &LearningPlan, head: &HeadPlan) -> Result<()> {
    let false_alarms = head.false_alarms.unwrap_or(FALSE_ALARMS);
    within("false_alarms` of `head", false_alarms, false, 1e-4, 0.5)?;
    within("scores` of `head", head.scores.unwrap_or(SCORES).into(), false, 1.0, 4096.0)?;
    let (scores, needed) = (head.scores.unwrap_or(SCORES), super::head::scores_needed(false_alarms));
    if u32::from(scores) < needed {
        return wrong(format!(
            "`scores` of `head` is {scores}, but must be at least {needed} for `false_alarms` of {false_alarms}: \
             1 / false_alarms - 1"
        ));
    }
    if head.window.is_some_and(|w| w < 2.0) {
        return wrong(format!(
            "`window` of `head` is {}, but must be 2 samples or more for an anomaly head",
            head.window.unwrap_or(0.0)
        ));
    }
    alone(plan, head, "anomaly")
}

/// A head that learns no classes, on a network that stays as it is.
fn alone(plan: &LearningPlan, head: &HeadPlan, name: &str) -> Result<()> {
    let reason = match () {
        () if plan.recipe.is_some() => "has no `recipe`: it is one",
        () if plan.learns() => "learns alone: `layers` must be [] or absent",
        () if plan.normalizer().is_some() => {
            "has no `normalizer`: statistics that follow the data would move its features"
        }
        () if head.new_classes > 0 => "learns no classes: `new_classes` must be 0",
        () if head.from > 0 => "learns from the first step on: `from` must be 0",
        () => return Ok(()),
    };
    wrong(format!("`head` = \"{name}\" {reason}"))
}

/// Default of `false_alarms`.
pub(super) const FALSE_ALARMS: f32 = 0.01;

/// Default of `scores`.
pub(super) const SCORES: u16 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_field_and_its_range() {
        for (plan, words) in [
            ("head = \"svm\"", ["`head`", "nearest-mean"]),
            ("head = 3", ["`head`", "table [head]"]),
            ("[head]\nkind = \"svm\"", ["`kind`", "simplex"]),
            ("[head]\nkind = \"lda\"\nfeatures = \"some\"", ["`features`", "\"all\""]),
            ("[head]\nkind = \"lda\"\nspeed = 1", ["[head]", "speed"]),
            ("[head]\nfrom = 1", ["[head]", "kind"]),
            ("rate = nan", ["`rate` is NaN", "0 to 1000"]),
            ("rate = 1e30", ["`rate`", "0 to 1000"]),
            ("rate = -1.0", ["`rate`", "0 to 1000"]),
            ("hidden_rate = inf", ["`hidden_rate`", "0 to 1000"]),
            ("scale = 0.0", ["`scale`", "above 0"]),
            ("scale = 0", ["`scale`", "above 0"]),
            ("grid = 200", ["`grid` is 200", "1 to 16"]),
            ("grid = 0", ["`grid`", "1 to 16"]),
            ("grid = 300", ["grid", "u8"]),
            ("rank = 0", ["`rank`", "1 to 64"]),
            ("momentum = 1.0", ["`momentum`", "below 1"]),
            ("noise = -1.0", ["`noise`", "0 to 1000"]),
            ("schedule = \"linear\"\nsteps = 0", ["`steps`", "1 step"]),
            ("blocks = 3", ["`blocks`", "pairs"]),
            ("normalizer = \"yes\"", ["`normalizer`", "trust"]),
            ("[normalizer]\ntrust = -1.0", ["`trust`", "0 to"]),
            ("[[layer]]\nname = \"a\"\nrate = nan", ["layer `a`", "0 to 1000"]),
            ("[head]\nkind = \"lda\"\nshrinkage = 2.0", ["`shrinkage`", "0 to 1"]),
            ("[head]\nkind = \"lda\"\nwindow = 0.5", ["`window`", "1 sample"]),
            ("[head]\nkind = \"least-squares\"\nridge = 0.0", ["`ridge`", "above 0"]),
            ("[head]\nkind = \"lda\"\nfold = 0", ["`fold`", "1 to"]),
            ("schedule = \"linear\"\nsteps = 9\n[head]\nkind = \"lda\"\nfrom = 9", ["`from`", "below the 9"]),
            ("recipe = \"cook\"", ["cook", "adapt"]),
            ("[head]\nkind = \"anomaly\"\nfalse_alarms = 0.0", ["`false_alarms`", "0.0001 to 0.5"]),
            ("[head]\nkind = \"anomaly\"\nfalse_alarms = nan", ["`false_alarms`", "0.0001 to 0.5"]),
            ("[head]\nkind = \"anomaly\"\nscores = 98", ["`scores`", "at least 99"]),
            ("[head]\nkind = \"anomaly\"\nscores = 0", ["`scores`", "1 to 4096"]),
            ("[head]\nkind = \"anomaly\"\nscores = 70000", ["[head]", "u16"]),
            ("[head]\nkind = \"anomaly\"\ncovariance = \"half\"", ["[head]", "diagonal"]),
            ("[head]\nkind = \"anomaly\"\nwindow = 1.5", ["`window`", "2 samples"]),
            ("[head]\nkind = \"anomaly\"\nnew_classes = 1", ["`new_classes`", "0"]),
            ("[head]\nkind = \"anomaly\"\nfrom = 3", ["`from`", "0"]),
            ("head = \"anomaly\"\nlayers = [\"last\"]", ["`layers`", "[]"]),
            ("head = \"anomaly\"\nnormalizer = true", ["`normalizer`", "features"]),
            ("head = \"regression\"\nlayers = [\"last\"]", ["`layers`", "[]"]),
            ("head = \"regression\"\nrecipe = \"auto\"", ["`recipe`", "regression"]),
            ("[head]\nkind = \"regression\"\nridge = 0", ["`ridge`", "above 0"]),
            ("[head]\nkind = \"regression\"\nforgetting = 1.5", ["`forgetting`", "0 to 1"]),
            ("head = \"anomaly\"\nrecipe = \"adapt\"", ["`recipe`", "anomaly"]),
            ("rule = \"guess\"", ["guess", "drtp"]),
            ("speed = 3", ["speed", "rate"]),
        ] {
            let error = LearningPlan::parse(plan).and_then(|p| p.check()).unwrap_err().to_string();
            assert!(words.iter().all(|w| error.contains(w)), "{plan}: {error}");
            assert!(!error.contains("untagged"), "{plan}: {error}");
        }
    }
}
