//! Arguments in, results on standard output, diagnostics on standard error, an exit status:
//! 0 done, 1 wrong result, 2 cannot be compiled, 3 bad usage or input; others are bugs.

mod arrays;
mod bench;
mod compare;
mod compile;
mod emitters;
mod inputs;
mod inspect;
mod ops;
mod options;
mod progress;
mod run;
mod session;
mod verify;

use std::io::Write;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use serde_json::{Value, json};
use tinsmith::Error;
use tinsmith::diagnostic::Severity;

/// Exit status of a wrong result.
const WRONG: u8 = 1;
/// Exit status of bad usage.
const USAGE: u8 = 3;

/// Ahead-of-time compiler from ONNX models to native static libraries.
///
/// Exit status: 0 done, 1 wrong result, 2 the model cannot be compiled (all reasons on stderr), 3 bad usage or input.
#[derive(Parser, Debug)]
#[command(name = "tinsmith", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Compile(compile::Args),
    Inspect(inspect::Args),
    Run(run::Args),
    Verify(verify::Args),
    Bench(bench::Args),
    Ops(ops::Args),
}

/// What a command came to.
struct Outcome {
    /// The process's exit status.
    status: u8,
    /// For people.
    text: String,
    /// For programs.
    json: Value,
}

impl Outcome {
    fn done(text: String, json: Value) -> Self {
        Outcome { status: 0, text, json }
    }
}

/// Runs the command that the process's arguments name, and gives its exit status.
pub(crate) fn main() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // If nobody listens there is nobody to tell.
            let _ = e.print();
            return if matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) { 0 } else { USAGE };
        }
    };
    let (result, as_json) = match &cli.command {
        Command::Compile(args) => (compile::run(args), args.model.json),
        Command::Inspect(args) => (inspect::run(args), args.model.json),
        Command::Run(args) => (run::run(args), args.model.json),
        Command::Verify(args) => (verify::run(args), args.model.json),
        Command::Bench(args) => (bench::run(args), args.model.json),
        Command::Ops(args) => (ops::run(args), args.json),
    };
    match result {
        Ok(outcome) => {
            let text = if as_json { format!("{:#}\n", outcome.json) } else { outcome.text };
            print(&text);
            outcome.status
        }
        Err(error) => {
            complain(&error);
            if as_json {
                print(&format!("{:#}\n", error_json(&error)));
            }
            error.exit_status()
        }
    }
}

fn print(text: &str) {
    // A reader that went away, as `head` does, is no error.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn complain(error: &Error) {
    let text = match error {
        Error::Model(_) => format!("{error}\n"),
        other => format!("error: {other}\n"),
    };
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn error_json(error: &Error) -> Value {
    let diagnostics: Vec<Value> = error
        .diagnostics()
        .iter()
        .map(|d| {
            let severity = match d.severity {
                Severity::Input => "input",
                Severity::Unsupported => "unsupported",
                Severity::Warning => "warning",
            };
            json!({"code": d.code, "severity": severity, "message": d.message, "place": d.place, "line": d.line, "help": d.help})
        })
        .collect();
    json!({"status": error.exit_status(), "error": error.to_string(), "diagnostics": diagnostics})
}

/// A number of bytes as people read it.
fn bytes_text(bytes: usize) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}
