//! A library for a range of sizes gives in a C program what libraries for single sizes give, and tells sizes outside its range.

use std::fs;
use std::path::Path;
use std::process::Command;

use tinsmith::config::Range;
use tinsmith::{Config, Output};
use tinsmith_testsuite::c_program::{Model, link};
use tinsmith_testsuite::{has_aarch64, is_x86_64_linux, scratch, tool, x86_64_levels};

const BODY: &str = "(%x: f32[batch,seq,40]) -> (%y) {
  @w = const rand(1) : f32[40,24]
  @v = const rand(2) : f32[24,40]
  %a = MatMul(%x, @w)
  %b = Relu(%a)
  %c = MatMul(%b, @v)
  %d = Softmax(%c) axis=1
  %y = Add(%d, %x)
}
";

const PROGRAM: &str = r#"
    #include <math.h>
    #include <string.h>
    #include "ranged.h"
    #include "one.h"
    #include "odd.h"
    #include "most.h"
    #include "stepped.h"
    /* 64 more, to begin at a multiple of 64. */
    static unsigned char memory[2 * RANGED_WORKSPACE_BYTES + 64], other[2 * RANGED_WORKSPACE_BYTES + 64];
    static void *aligned(unsigned char *p) { return p + (64 - (size_t)p % 64) % 64; }
    static float x[MOST_X_ELEMENTS], y[MOST_Y_ELEMENTS + 1], expected[MOST_Y_ELEMENTS];
    typedef tinsmith_status run(const float *, float *, void *, tinsmith_pool *);
    static int compare(uint64_t batch, uint64_t seq, uint64_t n, run *fixed, tinsmith_pool *pool) {
        ranged_sizes sizes = {batch, seq};
        if (ranged_x_elements(&sizes) != n || ranged_y_elements(&sizes) != n) return 1;
        /* What was in memory before does not matter: all bits set are no number. */
        memset(memory, 0xff, sizeof memory);
        y[n] = 42;
        if (fixed(x, expected, aligned(other), NULL) != TINSMITH_OK) return 2;
        if (ranged_run(&sizes, x, y, aligned(memory), pool) != TINSMITH_OK) return 3;
        for (uint64_t i = 0; i < n; i++) {
            if (!(fabsf(y[i] - expected[i]) <= 1e-5f)) return 4;
        }
        return y[n] == 42 ? 0 : 5;
    }
    int main(void) {
        for (unsigned i = 0; i < MOST_X_ELEMENTS; i++) x[i] = (float)(i % 37) / 37 - 0.4f;
        for (unsigned n = 0; n < 3; n++) {
            tinsmith_pool *pool = n == 0 ? NULL : tinsmith_pool_create(n);
            int bad = compare(1, 1, ONE_X_ELEMENTS, one_run, pool);
            if (!bad) bad = compare(3, 33, ODD_X_ELEMENTS, odd_run, pool);
            if (!bad) bad = compare(4, 64, MOST_X_ELEMENTS, most_run, pool);
            ranged_sizes outside[] = {{5, 1}, {1, 65}, {0, 1}, {1, 0}, {UINT64_MAX, 1}};
            for (unsigned i = 0; i < 5; i++) {
                if (ranged_run(&outside[i], x, y, aligned(memory), pool) != TINSMITH_SIZE_OUT_OF_RANGE) bad = 6;
            }
            for (uint64_t seq = 7; seq <= 25; seq++) {
                ranged_sizes any = {2, seq};
                stepped_sizes sizes = {2, seq};
                tinsmith_status status = stepped_run(&sizes, x, y, aligned(memory), pool);
                if (status != (seq == 8 || seq == 16 || seq == 24 ? TINSMITH_OK : TINSMITH_SIZE_OUT_OF_RANGE)) bad = 7;
                if (status == TINSMITH_OK && ranged_run(&any, x, expected, aligned(other), pool) != TINSMITH_OK) bad = 8;
                for (uint64_t i = 0; status == TINSMITH_OK && i < stepped_y_elements(&sizes); i++) {
                    if (!(fabsf(y[i] - expected[i]) <= 1e-5f)) bad = 9;
                }
            }
            if (pool) tinsmith_pool_destroy(pool);
            if (bad) return bad;
        }
        return 0;
    }
"#;

fn models(folder: &Path, config: &Config) -> Vec<Model> {
    let file = |name: &str| {
        let file = folder.join(format!("{name}.graph"));
        fs::write(&file, format!("graph @{name}{BODY}")).expect("written");
        file
    };
    let ranged = |name: &str, seq: Range| {
        let mut config = config.clone();
        config.dynamic.insert("batch".to_owned(), (1, 4).into());
        config.dynamic.insert("seq".to_owned(), seq);
        let artifact = tinsmith::compile(&file(name), &config).unwrap_or_else(|e| panic!("{e}"));
        artifact.write(folder, &[Output::Library]).expect("the library is written");
        Model { artifact, inputs: vec![], expected: vec![] }
    };
    let fixed = |name: &str, batch: usize, seq: usize| {
        let mut config = config.clone();
        config.bindings.extend([("batch".to_owned(), batch), ("seq".to_owned(), seq)]);
        Model::compile(&file(name), folder, &config)
    };
    let (ranged, stepped) = (ranged("ranged", (1, 64).into()), ranged("stepped", Range { low: 8, high: 64, step: 8 }));
    vec![ranged, stepped, fixed("one", 1, 1), fixed("odd", 3, 33), fixed("most", 4, 64)]
}

fn config(target: &str, cpu: &str) -> Config {
    Config { target: Some(target.to_owned()), cpu: Some(cpu.to_owned()), ..Config::default() }
}

#[test]
fn a_library_serves_a_range_of_sizes() {
    for level in x86_64_levels("a_library_serves_a_range_of_sizes") {
        let folder = scratch("sizes");
        let models = models(&folder, &config("x86_64-unknown-linux-gnu", level));
        tool::succeed(&mut Command::new(link("cc", &folder, &models.iter().collect::<Vec<_>>(), PROGRAM)));
    }
}

#[test]
fn a_library_for_aarch64_serves_a_range_of_sizes() {
    if !has_aarch64("a_library_for_aarch64_serves_a_range_of_sizes") {
        return;
    }
    let folder = scratch("sizes-aarch64");
    let models = models(&folder, &config("aarch64-unknown-linux-gnu", "armv8-a"));
    let program = link("aarch64-linux-gnu-gcc -static", &folder, &models.iter().collect::<Vec<_>>(), PROGRAM);
    tool::succeed(Command::new("qemu-aarch64").arg(program));
}

const RUST_PROGRAM: &str = r#"
    mod ranged { include!("ranged.rs"); }
    mod stepped { include!("stepped.rs"); }
    mod odd { include!("odd.rs"); }
    fn main() {
        const N: usize = 3 * 33 * 40;
        let x: Vec<f32> = (0..N).map(|i| (i % 37) as f32 / 37.0 - 0.4).collect();
        let (mut y, mut expected) = (vec![0f32; N], [0f32; N]);
        let fixed: &[f32; N] = std::convert::TryInto::try_into(&x[..]).unwrap();
        odd::run(fixed, &mut expected, &mut odd::Workspace::boxed()).unwrap();
        let mut workspace = ranged::Workspace::boxed();
        let sizes = ranged::Sizes { batch: 3, seq: 33 };
        ranged::run(&sizes, &x, &mut y, &mut workspace).unwrap();
        assert!(y.iter().zip(&expected[..]).all(|(a, b)| (a - b).abs() <= 1e-5));
        let pool = ranged::Pool::new(2).unwrap();
        let alone = y.clone();
        ranged::run_with(&sizes, &x, &mut y, &mut workspace, &pool).unwrap();
        assert_eq!(alone, y);
        assert_eq!(ranged::run(&sizes, &x[1..], &mut y, &mut workspace), Err(ranged::Status::BadArgument));
        let outside = ranged::Sizes { batch: 5, seq: 33 };
        assert_eq!(ranged::run(&outside, &x, &mut y, &mut workspace), Err(ranged::Status::SizeOutOfRange));
        let mut workspace = stepped::Workspace::boxed();
        let mut run = |seq: u64| {
            let n = 40 * seq as usize;
            stepped::run(&stepped::Sizes { batch: 1, seq }, &x[..n], &mut y[..n], &mut workspace)
        };
        assert_eq!((run(8), run(24)), (Ok(()), Ok(())));
        assert_eq!((run(7), run(12)), (Err(stepped::Status::SizeOutOfRange), Err(stepped::Status::SizeOutOfRange)));
    }
"#;

#[test]
fn the_rust_module_takes_the_sizes() {
    if !is_x86_64_linux("the_rust_module_takes_the_sizes") {
        return;
    }
    let folder = scratch("sizes-rust");
    models(&folder, &config("x86_64-unknown-linux-gnu", "x86-64-v1"));
    fs::write(folder.join("main.rs"), RUST_PROGRAM).expect("written");
    let out = folder.join("program");
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()));
    command.args(["--edition", "2021", "-Dwarnings"]).arg("-L").arg(&folder);
    command.args(["-lstatic=ranged", "-lstatic=stepped", "-lstatic=odd"]);
    tool::succeed(command.arg(folder.join("main.rs")).arg("-o").arg(&out));
    tool::succeed(&mut Command::new(out));
}

#[test]
fn a_cache_grows_by_what_is_new() {
    let folder = scratch("sizes-cache");
    let file = folder.join("cache.graph");
    let body = r#"graph @cache(%past: f32[past,3], %new: f32[seq,3], %mask: f32["past + seq",1], %bias: f32[total]) -> (%a, %b, %c, %d) {
      %a = Relu(%past)
      %b = Relu(%new)
      %c = Relu(%mask)
      %d = Relu(%bias)
    }
    "#;
    fs::write(&file, body).expect("written");
    let mut config = Config::default();
    config.dynamic.insert("past".to_owned(), (1, 20).into());
    config.dynamic.insert("seq".to_owned(), (1, 4).into());
    config.relations.insert("total".to_owned(), "past+seq".to_owned());
    let artifact = tinsmith::compile(&file, &config).unwrap_or_else(|e| panic!("{e}"));
    let dims = |sizes: &[i64]| artifact.interface.inputs.iter().map(|p| p.dims_of_run(sizes)).collect::<Vec<_>>();
    assert_eq!(dims(&[6, 3]), [vec![6, 3], vec![3, 3], vec![9, 1], vec![9]]);
}
