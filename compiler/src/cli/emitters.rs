//! Which emitters make the code of a model's kernels.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tinsmith::steps::StepFacts;

/// Kernels of each emitter and width of vectors, and of those that the wide emitter refused.
fn counted(steps: &[StepFacts]) -> (BTreeMap<String, usize>, BTreeMap<String, usize>) {
    let mut seen = BTreeSet::new();
    let (mut by, mut refused) = (BTreeMap::new(), BTreeMap::new());
    for step in steps.iter().filter(|s| seen.insert(s.kernel.as_str())) {
        *by.entry(step.emitter.to_string()).or_default() += 1;
        if let Some(why) = &step.emitter.refused {
            *refused.entry(why.clone()).or_default() += 1;
        }
    }
    (by, refused)
}

/// For people.
pub(crate) fn text(steps: &[StepFacts]) -> String {
    let (by, refused) = counted(steps);
    let listed: Vec<String> = by.iter().map(|(name, n)| format!("{name} {n}")).collect();
    let mut text = format!("  kernels by emitter and bits of vectors: {}\n", listed.join(", "));
    for (why, n) in refused {
        text += &format!("    {n} not by the wide emitter: {why}\n");
    }
    text
}

/// For programs.
pub(crate) fn json(steps: &[StepFacts]) -> Value {
    let (by, refused) = counted(steps);
    json!({"kernels": by, "not_wide_because": refused})
}
