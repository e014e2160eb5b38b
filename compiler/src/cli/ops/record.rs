//! What ONNX's node tests, and comparisons with onnxruntime, found: a file that `testsuite/scripts/run_conformance.py` and
//! `verify_contrib.py` write.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use tinsmith::Error;

/// Of the build.
const RECORD: &str = include_str!("record.json");

#[derive(Deserialize)]
pub(super) struct Record {
    /// Release of the package that the tests are from.
    pub(super) onnx: String,
    /// Release of what the other cases are compared with.
    pub(super) onnxruntime: String,
    pub(super) total: Total,
    /// Versions of every operator of ONNX.
    pub(super) since: BTreeMap<String, Vec<u32>>,
    /// ONNX's node tests by operator.
    pub(super) operators: BTreeMap<String, Tests>,
    /// Its other tests by group.
    pub(super) groups: BTreeMap<String, Tests>,
    /// Our own cases by operator.
    pub(super) cases: BTreeMap<String, Tests>,
    /// Tests that are wrong, with what is known of that.
    pub(super) wrong: BTreeMap<String, String>,
    /// Element types that agree with a reference, by operator.
    #[serde(default)]
    pub(super) types: BTreeMap<String, Vec<String>>,
    /// Tests that are refused, by the reason.
    pub(super) refused: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
pub(super) struct Total {
    /// Strings, random numbers, files.
    pub(super) marked: usize,
    /// Without types that few have, and those of them that pass.
    pub(super) plain: usize,
    pub(super) plain_passed: usize,
}

/// Numbers of tests.
#[derive(Default, Clone, Deserialize)]
#[serde(default)]
pub(super) struct Tests {
    /// What a group's tests are.
    pub(super) what: String,
    pub(super) tests: usize,
    pub(super) passed: usize,
    pub(super) refused: usize,
    /// Wrong results, and crashes.
    pub(super) wrong: usize,
    /// Element types of operands and results in tests that pass.
    pub(super) types: Vec<String>,
    /// What made the code of tests that pass.
    pub(super) emitters: Vec<String>,
    /// Of the first test that does not pass.
    pub(super) reason: String,
}

impl Record {
    /// Of this build, or another one's.
    pub(super) fn read(path: Option<&Path>) -> Result<Self, Error> {
        let text = match path {
            None => RECORD.to_owned(),
            Some(path) => std::fs::read_to_string(path).map_err(|e| Error::read(path, e))?,
        };
        serde_json::from_str(&text).map_err(|e| Error::Usage(format!("this is no record of tests: {e}")))
    }

    /// All tests: how many, and how many pass, are refused, are wrong.
    pub(super) fn sum(&self) -> Tests {
        let mut sum = Tests::default();
        for t in self.operators.values().chain(self.groups.values()) {
            sum.tests += t.tests;
            sum.passed += t.passed;
            sum.refused += t.refused;
            sum.wrong += t.wrong;
        }
        sum
    }
}
