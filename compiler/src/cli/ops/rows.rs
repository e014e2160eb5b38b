//! One row for every operator: what the compiler has, what ONNX has beside it, and what tests found.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tinsmith::onnx::REFUSED;
use tinsmith::ops::{self, Schema};
use tinsmith::tensor::DType;

use super::record::{Record, Tests};

pub(super) struct Row<'a> {
    /// With the domain.
    pub(super) name: &'a str,
    pub(super) schema: Option<&'static Schema>,
    /// Versions that changed it.
    pub(super) opsets: Vec<u32>,
    /// ONNX's tests, and cases beside onnxruntime.
    pub(super) tests: Tests,
    pub(super) cases: Tests,
    /// Element types that models of one node agree in.
    agreed: Vec<String>,
    /// Why it is not compiled, or the first test that does not pass; else empty.
    pub(super) reason: String,
}

/// Those of the default domain first.
pub(super) fn rows<'a>(record: &'a Record, schemas: &'a [(String, &'static Schema)]) -> Vec<Row<'a>> {
    let known = schemas.iter().map(|(name, _)| name.as_str());
    let tested = record.since.keys().chain(record.operators.keys()).chain(record.cases.keys()).map(String::as_str);
    let names: BTreeSet<(bool, &str)> = known.chain(tested).map(|name| (name.contains('.'), name)).collect();
    names.into_iter().map(|(_, name)| row(name, record)).collect()
}

/// The operators of the compiler with their full names.
pub(super) fn schemas() -> Vec<(String, &'static Schema)> {
    ops::schemas().into_iter().map(|s| (s.full_name().into_owned(), s)).collect()
}

fn row<'a>(name: &'a str, record: &Record) -> Row<'a> {
    let schema = ops::find(name);
    let [tests, cases] = [&record.operators, &record.cases].map(|of| of.get(name).cloned().unwrap_or_default());
    let never = REFUSED.iter().find(|(names, _)| names.contains(&name)).map(|(_, why)| (*why).to_owned());
    let failed = [&tests, &cases].into_iter().map(|t| t.reason.clone()).find(|r| !r.is_empty());
    let missing = || (schema.is_none() && tests.passed + cases.passed == 0).then(|| "it is not among the compiler's operators".to_owned());
    let reason = never.or(failed).or_else(missing).unwrap_or_default();
    let agreed = record.types.get(name).cloned().unwrap_or_default();
    // What is read as an operator of ONNX has the only version of its own domain.
    let alias = || if name.starts_with("com.microsoft.") { vec![1] } else { vec![] };
    let opsets = schema.map(|s| s.since.to_vec()).or_else(|| record.since.get(name).cloned()).unwrap_or_else(alias);
    Row { name, schema, opsets, tests, cases, agreed, reason }
}

impl Row<'_> {
    /// Whether the compiler has it, be it as others or in its reader.
    pub(super) fn is_compiled(&self) -> bool {
        self.schema.is_some() || self.tests.passed + self.cases.passed > 0
    }

    /// Element types of operands and results, as they were tested; in the order of declaration.
    pub(super) fn types(&self) -> Vec<&'static str> {
        let tested: BTreeSet<&str> = self.tests.types.iter().chain(&self.cases.types).chain(&self.agreed).map(String::as_str).collect();
        DType::ALL.iter().chain(&DType::SMALL).map(|d| d.name()).filter(|n| tested.contains(n)).collect()
    }

    pub(super) fn emitters(&self) -> Vec<&str> {
        let all: BTreeSet<&str> = self.tests.emitters.iter().chain(&self.cases.emitters).map(String::as_str).collect();
        all.into_iter().rev().collect()
    }

    /// As people read it: `1, 6, 13`.
    pub(super) fn opsets_text(&self) -> String {
        self.opsets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn json(&self) -> Value {
        let mut facts = json!({
            "name": self.name, "compiled": self.is_compiled(), "opsets": self.opsets,
            "types": self.types(), "emitters": self.emitters(), "node_tests": numbers(&self.tests), "cases": numbers(&self.cases),
            "reason": self.reason,
        });
        if let Some(s) = self.schema {
            facts["operands"] = json!(s.operands);
            facts["results"] = json!(s.results);
            facts["attributes"] = json!(s.attributes);
            facts["doc"] = json!(s.doc.trim());
        }
        facts
    }
}

fn numbers(t: &Tests) -> Value {
    json!({"tests": t.tests, "passed": t.passed, "refused": t.refused, "wrong": t.wrong})
}
