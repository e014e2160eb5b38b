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
/// With every problem of the model, which is how a build script says that it failed; and where `OUT_DIR` is not set.
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
    let folder = env::var_os("OUT_DIR").expect("`OUT_DIR` is set: `build` is for build scripts");
    match try_build(model, Path::new(&folder), env::var("TARGET").ok(), config) {
        Ok(lines) => print_lines(&lines),
        Err(e) => panic!("`{}` cannot be compiled:\n{e}", model.display()),
    }
}

/// Compiles into a folder, for a target where the configuration has none, and gives the lines for cargo.
fn try_build(model: &Path, folder: &Path, target: Option<String>, config: &Config) -> Result<Vec<String>, Error> {
    let mut config = config.clone();
    config.target = config.target.or(target);
    let (artifact, _) = compile_to(model, folder, &config)?;
    Ok(vec![
        format!("cargo::rerun-if-changed={}", model.display()),
        format!("cargo::rustc-link-search=native={}", folder.display()),
        format!("cargo::rustc-link-lib=static={}", artifact.interface.name),
    ])
}

#[expect(clippy::print_stdout, reason = "how a build script speaks to cargo")]
fn print_lines(lines: &[String]) {
    for line in lines {
        println!("{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_learns_what_to_link() {
        let folder = env::temp_dir().join(format!("tinsmith-build-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let model = folder.join("half-size.graph");
        std::fs::write(&model, "graph @g(%x: f32[2,3]) -> (%y) {\n  %y = Transpose(%x) perm=[1,0]\n}\n").expect("written");
        let lines = try_build(&model, &folder, Some("aarch64-unknown-linux-gnu".to_owned()), &Config::default()).expect("it compiles");
        let path = folder.display().to_string();
        assert_eq!(
            lines,
            [
                format!("cargo::rerun-if-changed={path}/half-size.graph"),
                format!("cargo::rustc-link-search=native={path}"),
                "cargo::rustc-link-lib=static=half_size".to_owned()
            ]
        );
        assert!(folder.join("libhalf_size.a").exists() && folder.join("half_size.rs").exists());
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
