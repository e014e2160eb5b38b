//! Problems as a user reads them: a stable code, the place in the model, a line of our IR, and what to do.

use std::fmt;

/// One problem.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// Kebab-case and stable: `unsupported-operator`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// One sentence, lower case, no final dot.
    pub message: String,
    /// The place: file, node, opset.
    pub place: String,
    /// Our IR line for it, where there is one.
    pub line: Option<String>,
    /// What the user can do.
    pub help: Option<String>,
}

/// How bad a problem is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// The model is malformed or unreadable: bad input.
    Input,
    /// The model is well-formed but cannot be compiled.
    Unsupported,
    /// Worth knowing; nothing stops.
    Warning,
}

impl Diagnostic {
    /// A problem without line and help.
    pub fn new(code: &'static str, severity: Severity, place: impl Into<String>, message: impl Into<String>) -> Self {
        Diagnostic { code, severity, message: message.into(), place: place.into(), line: None, help: None }
    }

    /// With our IR line.
    #[must_use]
    pub fn with_line(mut self, line: impl Into<String>) -> Self {
        self.line = Some(line.into());
        self
    }

    /// With what the user can do.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = if self.severity == Severity::Warning { "warning" } else { "error" };
        write!(f, "{severity}[{}]: {}", self.code, self.message)?;
        if !self.place.is_empty() {
            write!(f, "\n  --> {}", self.place)?;
        }
        if let Some(line) = &self.line {
            write!(f, "\n   |  {line}")?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n   = help: {help}")?;
        }
        Ok(())
    }
}
