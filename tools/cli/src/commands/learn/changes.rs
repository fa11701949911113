//! What `learn` changes in a file before it learns: its rule, its rate, and room for new classes.

use offshoot::format::learn::{ErrorSource, LearnHead, LearnLayer, TargetProjectionRepr};
use offshoot::learn::LocalRule;
use offshoot_export::relearn;

use super::Spec;
use crate::failure::{Context, Failure, Kind, Result};
use crate::files::OffFile;

/// Rule of the hidden layers, instead of the plan's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RuleArg {
    /// A rule of the runtime.
    Local(LocalRule),
    /// Hidden layers do not learn.
    HeadOnly,
}

impl clap::ValueEnum for RuleArg {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [RuleArg; LocalRule::ALL.len() + 1] = {
            let mut all = [RuleArg::HeadOnly; LocalRule::ALL.len() + 1];
            let mut i = 0;
            while i < LocalRule::ALL.len() {
                all[i] = RuleArg::Local(LocalRule::ALL[i]);
                i += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        let (name, help) = match self {
            Self::Local(rule) => (rule.name(), rule.about()),
            Self::HeadOnly => ("head-only", "Hidden layers do not learn"),
        };
        Some(clap::builder::PossibleValue::new(name).help(help))
    }
}

/// The file with memory for the new classes of `spec`.
pub(super) fn with_room(file: &OffFile, spec: &Spec) -> Result<OffFile> {
    if spec.new_classes == 0 {
        return Ok(OffFile::from_bytes(file.bytes()));
    }
    if file.model()?.learning().is_some_and(|l| l.head.begun.is_some()) {
        return Err(Failure::new(
            Kind::Usage,
            "a file that has learned has no room for more classes",
            "give --new-classes when it first learns, or `new_classes` in the plan",
        ));
    }
    let wider = relearn::with_new_classes(file.bytes(), spec.new_classes);
    Ok(OffFile::from_bytes(
        &wider.or_fail(Kind::Usage, "compile the model with a learning plan that has a [head]")?,
    ))
}

pub(super) fn apply(spec: &Spec, head: &mut LearnHead, layers: &mut [LearnLayer]) {
    if let Some(rate) = spec.rate {
        head.rate = rate;
    }
    for layer in layers {
        if layer.error_source == ErrorSource::Next && spec.rule == Some(RuleArg::HeadOnly) {
            layer.rate = 0.0;
        }
        let ErrorSource::Local { rule, projection, .. } = &mut layer.error_source else { continue };
        *rule = match spec.rule {
            None => *rule,
            // Under its own rule, a layer keeps the scale of its plan.
            Some(RuleArg::Local(chosen)) if chosen.name() == rule.name() => *rule,
            Some(RuleArg::Local(chosen)) => chosen,
            Some(RuleArg::HeadOnly) => {
                layer.rate = 0.0;
                *rule
            }
        };
        // A local head supports cross-entropy only; other rules get a fixed projection.
        let has_head = matches!(projection, TargetProjectionRepr::Head { .. });
        if has_head && !matches!(rule, LocalRule::CrossEntropy { .. }) {
            *projection = TargetProjectionRepr::Signs { seed: head.seed };
        }
    }
}
