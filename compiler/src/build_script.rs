//! For `build.rs`: compiles a model into `OUT_DIR` and tells cargo to link it.

use std::env;
use std::path::Path;

use crate::compile::compile_to;
use crate::config::Config;
use crate::error::Error;

/// Compiles a model in a build script and prints the lines that make cargo link it. The generated module is
/// `concat!(env!("OUT_DIR"), "/NAME.rs")`.
///
/// # Panics
/// With every problem of the model, which is how a build script says that it failed.
///
/// ```no_run
/// tinsmith::build("models/detector.onnx");
/// ```
pub fn build(model: impl AsRef<Path>) {
    build_with(model, &Config::default());
}

/// Like [`build`], with choices. Without a target it is cargo's.
///
/// # Panics
/// As [`build`].
pub fn build_with(model: impl AsRef<Path>, config: &Config) {
    let model = model.as_ref();
    match try_build(model, config) {
        Ok(lines) => print_lines(&lines),
        Err(e) => panic!("`{}` cannot be compiled:\n{e}", model.display()),
    }
}

fn try_build(model: &Path, config: &Config) -> Result<Vec<String>, Error> {
    let folder = env::var_os("OUT_DIR").ok_or_else(|| Error::Usage("`OUT_DIR` is not set: `build` is for build scripts".to_owned()))?;
    let mut config = config.clone();
    if config.target.is_none() {
        config.target = env::var("TARGET").ok();
    }
    let (artifact, _) = compile_to(model, Path::new(&folder), &config)?;
    Ok(vec![
        format!("cargo::rerun-if-changed={}", model.display()),
        format!("cargo::rustc-link-search=native={}", Path::new(&folder).display()),
        format!("cargo::rustc-link-lib=static={}", artifact.interface.name),
    ])
}

#[expect(clippy::print_stdout, reason = "how a build script speaks to cargo")]
fn print_lines(lines: &[String]) {
    for line in lines {
        println!("{line}");
    }
}
