//! The rows as `docs/operators.md`.

use super::record::{Record, Tests};
use super::rows::Row;

pub(super) fn document(record: &Record, rows: &[Row<'_>]) -> String {
    let sum = record.sum();
    let share = 100.0 * sum.passed as f64 / sum.tests.max(1) as f64;
    let ours = rows.iter().filter(|r| r.is_compiled()).count();
    let others = rows.len() - ours;
    let mut text = format!(
        "# Operators\n\n\
         Generated: `testsuite/scripts/conformance.sh` runs the tests and writes what `tinsmith ops --markdown` prints; do not edit.\n\n\
         All {} ONNX backend tests of onnx {}; inputs that decide shapes are constants. **{} pass** ({share:.1}%), {} are refused with a reason, {} are \
         wrong or crash; {} need strings, random numbers or image files.\nWithout float8, float4, bfloat16 and integers under eight bits: {} of {}.\n\n\
         {ours} operators are compiled, in all versions that the second column lists; {others} others of ONNX are below with the reason why not.\n\n\
         ## By operator\n\n\
         Element types are those of operands and results in the tests and cases that pass; emitters are those that made their code on x86-64. An operator's node \
         tests include those of its definition as a function (`_expanded`). Cases are our own, compared with onnxruntime {}. The reason is that of the first test \
         that does not pass.\n\n\
         | operator | opsets | element types | emitter | node tests | cases | reason of a gap |\n| --- | --- | --- | --- | ---: | ---: | --- |\n",
        sum.tests,
        record.onnx,
        sum.passed,
        sum.refused,
        sum.wrong,
        record.total.marked,
        record.total.plain_passed,
        record.total.plain,
        record.onnxruntime,
    );
    for row in rows {
        let cells = [
            row.name.to_owned(),
            row.opsets_text(),
            row.types().join(" "),
            row.emitters().join(", "),
            share_of(&row.tests),
            share_of(&row.cases),
            cell(&row.reason),
        ];
        text += &line(&cells);
    }
    text += "\n## Other groups\n\n| group | what | tests | passed | refused | wrong | first reason |\n| --- | --- | ---: | ---: | ---: | ---: | --- |\n";
    for (name, t) in &record.groups {
        let numbers = [t.tests, t.passed, t.refused, t.wrong].map(|n| n.to_string());
        let cells = [vec![name.clone(), t.what.clone()], numbers.to_vec(), vec![cell(&t.reason)]].concat();
        text += &line(&cells);
    }
    if !record.wrong.is_empty() {
        text += "\n## Wrong\n\nEvery test whose result is not the expected one, and what is known of that.\n\n| test | |\n| --- | --- |\n";
        for (test, why) in &record.wrong {
            text += &line(&[test.clone(), cell(why)]);
        }
    }
    text +=
        "\n## Refused\n\nEvery test that is refused, by the first reason with its names left out.\n\n| reason | tests |\n| --- | --- |\n";
    for (reason, tests) in &record.refused {
        text += &line(&[cell(reason), tests.join(", ")]);
    }
    text
}

/// Passed of all; nothing where there are none.
pub(super) fn share_of(t: &Tests) -> String {
    if t.tests == 0 { String::new() } else { format!("{} of {}", t.passed, t.tests) }
}

fn line(cells: &[String]) -> String {
    let mut line = String::from("|");
    for c in cells {
        line += if c.is_empty() { " |" } else { " " };
        if !c.is_empty() {
            line += &format!("{c} |");
        }
    }
    line + "\n"
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}
