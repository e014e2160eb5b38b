//! `tinsmith ops [NAME...]`: the operators, their versions and element types, what makes their code, and which of ONNX's tests they pass.

mod markdown;
mod record;
mod rows;

use std::path::PathBuf;

use serde_json::{Value, json};
use tinsmith::Error;

use super::Outcome;
use record::Record;
use rows::Row;

/// List the operators: versions, element types, emitters, tests passed, and the reason of every gap
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Only these, with all that is known of each: `Gemm`, `com.microsoft.Attention`
    names: Vec<String>,
    /// Print the document docs/operators.md
    #[arg(long, conflicts_with = "names")]
    markdown: bool,
    /// What tests found, instead of what this build knows of it
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Outcome, Error> {
    let record = Record::read(args.record.as_deref())?;
    let schemas = rows::schemas();
    let mut rows = rows::rows(&record, &schemas);
    if let Some(name) = args.names.iter().find(|n| !rows.iter().any(|r| r.name == n.as_str())) {
        return Err(Error::Usage(format!("there is no operator `{name}`; `tinsmith ops` lists all")));
    }
    let text = if args.markdown {
        markdown::document(&record, &rows)
    } else if args.names.is_empty() {
        list(&rows)
    } else {
        rows.retain(|r| args.names.iter().any(|n| n == r.name));
        rows.iter().map(page).collect::<Vec<_>>().join("\n")
    };
    Ok(Outcome::done(text, json!({"operators": rows.iter().map(Row::json).collect::<Vec<Value>>()})))
}

/// A line for each.
fn list(rows: &[Row<'_>]) -> String {
    let cells = |row: &Row<'_>| {
        let tests = [&row.tests, &row.cases].map(markdown::share_of).into_iter().find(|t| !t.is_empty()).unwrap_or_default();
        [row.name.to_owned(), row.opsets_text(), row.emitters().join(", "), tests, row.types().join(" ")]
    };
    let head = ["operator", "opsets", "emitter", "tests", "element types"].map(str::to_owned);
    let table: Vec<_> = std::iter::once((head, String::new())).chain(rows.iter().map(|r| (cells(r), r.reason.clone()))).collect();
    let widths: Vec<usize> = (0..4).map(|c| table.iter().map(|(row, _)| row[c].len()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for (row, reason) in &table {
        let line: String = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  ")).collect();
        text += format!("{line}{}", row[4]).trim_end();
        text += "\n";
        if !reason.is_empty() {
            text += &format!("    {reason}\n");
        }
    }
    text
}

/// All of one.
fn page(row: &Row<'_>) -> String {
    let mut text = format!("{}\n", row.name);
    let mut say = |what: &str, value: String| {
        if !value.is_empty() {
            text += &format!("  {what}: {value}\n");
        }
    };
    if let Some(s) = row.schema {
        say("what", s.doc.trim().lines().map(str::trim).collect::<Vec<_>>().join(" "));
        say("operands", s.operands.join(", "));
        say("results", s.results.join(", "));
        say("attributes", s.attributes.join(", "));
    }
    say("opsets", row.opsets_text());
    say("element types", row.types().join(" "));
    say("emitters", row.emitters().join(", "));
    say("ONNX's node tests", markdown::share_of(&row.tests));
    say("cases that agree with onnxruntime", markdown::share_of(&row.cases));
    say("gap", row.reason.clone());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(names: &[&str], markdown: bool) -> String {
        let names = names.iter().map(|&n| n.to_owned()).collect();
        run(&Args { names, markdown, record: None, json: false }).expect("known operators").text
    }

    #[test]
    fn the_document_is_what_is_printed() {
        let document = include_str!("../../../../docs/operators.md");
        assert!(printed(&[], true) == document, "`tinsmith ops --markdown` is not docs/operators.md");
    }

    #[test]
    fn every_operator_has_versions_and_every_gap_a_reason() {
        let record = Record::read(None).expect("the record of this build");
        let schemas = rows::schemas();
        let rows = rows::rows(&record, &schemas);
        for row in &rows {
            assert!(!row.opsets.is_empty(), "{} has no version", row.name);
            assert!(row.is_compiled() || !row.reason.is_empty(), "{} is a gap without a reason", row.name);
        }
        let page = printed(&["ai.onnx.ml.CastMap"], false);
        assert!(page.contains("opsets: 1") && page.contains("gap: it works on maps"), "{page}");
    }
}
