//! Collects the problems of an import: what is wrong, and where in the model.

use std::collections::BTreeMap;

use crate::diagnostic::{Diagnostic, Severity};

/// A problem without its place.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) code: &'static str,
    pub(super) severity: Severity,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Problem {
    /// The model breaks a rule of the format.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Problem { code: "invalid-model", severity: Severity::Input, message: message.into(), help: None }
    }

    /// The model is sound, but this is not implemented.
    pub(super) fn unsupported(code: &'static str, message: impl Into<String>) -> Self {
        Problem { code, severity: Severity::Unsupported, message: message.into(), help: None }
    }

    pub(super) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn at(self, place: impl Into<String>) -> Diagnostic {
        Diagnostic { help: self.help, ..Diagnostic::new(self.code, self.severity, place, self.message) }
    }
}

/// All problems so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Problems {
    list: Vec<Diagnostic>,
    // Unsupported operators: where the first of each name is in the list, and how many there are.
    operators: BTreeMap<String, (usize, usize)>,
}

impl Problems {
    pub(super) fn push(&mut self, d: Diagnostic) {
        if !self.list.contains(&d) {
            self.list.push(d);
        }
    }

    /// An operator that is not known: one diagnostic for each name, at its first node.
    pub(super) fn unsupported_operator(&mut self, name: &str, d: impl FnOnce() -> Diagnostic) {
        let at = self.list.len();
        let entry = self.operators.entry(name.to_owned()).or_insert((at, 0));
        entry.1 += 1;
        if entry.1 == 1 {
            self.list.push(d());
        }
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn into_list(mut self) -> Vec<Diagnostic> {
        for (at, n) in self.operators.into_values().filter(|o| o.1 > 1) {
            self.list[at].message += &format!(" ({n} nodes)");
        }
        self.list
    }
}
