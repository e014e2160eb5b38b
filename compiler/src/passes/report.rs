//! What the user chose for the passes, and what the passes did.

use std::collections::{BTreeMap, BTreeSet};

/// What a user may choose.
#[derive(Clone, PartialEq, Debug)]
pub struct PassConfig {
    /// Whether constant weights become `i8` with one scale for each output channel.
    pub quantize_weights: bool,
    /// Whether channels that cannot matter leave the network.
    pub prune_channels: bool,
    /// The values that constants are folded to, and no others: those of the same model at other sizes, where results have other sizes too.
    pub folded: Option<BTreeSet<String>>,
}

impl Default for PassConfig {
    fn default() -> Self {
        PassConfig { quantize_weights: false, prune_channels: true, folded: None }
    }
}

/// What the passes did, in order.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Rewrites: (pass, rule, value it was applied to).
    pub applied: Vec<Applied>,
    /// Rules that matched but declined, each once: (rule, value) and why.
    pub declined: BTreeMap<(&'static str, String), String>,
    /// Weights that were quantized.
    pub quantized: Vec<Quantized>,
    /// Channels that left the network.
    pub pruned: Vec<Pruned>,
}

/// One rewrite.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Applied {
    /// Name of the pass.
    pub pass: &'static str,
    /// Name of the rule; the pass's own where it has none.
    pub rule: &'static str,
    /// Name of the value that it was applied to.
    pub value: String,
}

/// One constant that became `i8`.
#[derive(Clone, PartialEq, Debug)]
pub struct Quantized {
    /// Name of the constant.
    pub weights: String,
    /// Name of the value that is computed from it.
    pub user: String,
    /// Number of weights.
    pub n_elements: usize,
    /// Bytes before.
    pub before_bytes: usize,
    /// Bytes after, scales included.
    pub after_bytes: usize,
    /// Signal-to-noise ratio of the weights in dB; infinite where nothing changed.
    pub snr_db: f64,
    /// The greatest change of a weight.
    pub max_abs_error: f64,
}

/// Channels that left one value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pruned {
    /// Name of the value whose producer lost filters.
    pub value: String,
    /// Number of channels before.
    pub before: usize,
    /// Number of channels after.
    pub after: usize,
    /// Of the removed ones, those whose value is a constant.
    pub n_constant: usize,
    /// Of the removed ones, those that nobody reads.
    pub n_unread: usize,
}

impl Report {
    /// Notes a rewrite.
    pub fn applied(&mut self, pass: &'static str, rule: &'static str, value: &str) {
        self.applied.push(Applied { pass, rule, value: value.to_owned() });
    }

    /// Notes that a rule matched but declined.
    pub fn declined(&mut self, rule: &'static str, value: &str, why: String) {
        self.declined.insert((rule, value.to_owned()), why);
    }

    /// How often a rule was applied.
    pub fn count(&self, rule: &str) -> usize {
        self.applied.iter().filter(|a| a.rule == rule).count()
    }

    /// Why a rule declined, for whatever value.
    pub fn reasons(&self, rule: &str) -> Vec<&str> {
        self.declined.iter().filter(|(k, _)| k.0 == rule).map(|(_, why)| why.as_str()).collect()
    }

    /// One line for each rewrite and each refusal: what `--trace` prints.
    pub fn trace(&self) -> String {
        let applied = self.applied.iter().map(|a| match a.pass == a.rule {
            true => format!("{}: %{}\n", a.pass, a.value),
            false => format!("{}: {} %{}\n", a.pass, a.rule, a.value),
        });
        let declined = self.declined.iter().map(|((rule, value), why)| format!("declined: {rule} %{value}: {why}\n"));
        applied.chain(declined).collect()
    }
}
