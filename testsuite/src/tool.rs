//! Programs that tests run: our own command line, C compilers, emulators.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The folder that cargo builds into.
///
/// # Panics
/// If the test does not run from where cargo put it.
pub fn target_folder() -> PathBuf {
    profile_folder().parent().expect("target/PROFILE").to_owned()
}

fn profile_folder() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST").to_owned()
}

/// The `tinsmith` program, built in the profile of this test.
///
/// # Panics
/// If it cannot be built.
pub fn tinsmith() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let folder = profile_folder();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "tinsmith", "--bin", "tinsmith", "--manifest-path"]);
        build.arg(crate::root().join("Cargo.toml")).arg("--target-dir").arg(target_folder());
        if folder.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo runs").success(), "tinsmith cannot be built");
        folder.join("tinsmith")
    })
}

/// Whether a program can be run by its name.
pub fn exists(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success())
}

/// Runs a program to its end.
///
/// # Panics
/// If it cannot be started.
pub fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

/// Runs a program that must succeed, and gives what it printed.
///
/// # Panics
/// With everything it said, if it does not.
pub fn succeed(command: &mut Command) -> String {
    let output = run(command);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{stdout}{stderr}", output.status);
    stdout
}

/// Exit status, standard output and standard error of our command line.
pub fn cli(arguments: &[&str]) -> (i32, String, String) {
    let output = run(Command::new(tinsmith()).args(arguments));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}
