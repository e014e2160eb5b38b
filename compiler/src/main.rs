//! The command line: `tinsmith compile | inspect | run | verify | bench | ops`.

mod cli;

fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(cli::main())
}
