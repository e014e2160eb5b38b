//! Models give the same bits on any number of threads: in this process, by every emitter, and linked.

use std::fs;
use std::path::Path;
use std::process::Command;

use tinsmith::Config;
use tinsmith::codegen::Executable;
use tinsmith::graph;
use tinsmith::pipeline::{Options, lower_and_schedule, run_passes};
use tinsmith::tensor::{DType, Tensor};
use tinsmith_testsuite::c_program::{Model, link};
use tinsmith_testsuite::random_graphs::ways;
use tinsmith_testsuite::{fixture, has_aarch64, pools, random, scratch, tool, x86_64_levels};

fn config(target: &str, cpu: &str) -> Config {
    Config { target: Some(target.to_owned()), cpu: Some(cpu.to_owned()), ..Config::default() }
}

#[test]
fn fixtures_give_the_same_bits_on_any_number_of_threads() {
    let mut files: Vec<_> = fs::read_dir(fixture("threads")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let graph = graph::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let (graph, _) = run_passes(graph, &Config::default(), &mut |_, _| {});
        let inputs: Vec<Tensor> = (1..)
            .zip(graph.inputs())
            .map(|(seed, &v)| random(graph.ty(v).dtype, &graph.ty(v).dims().expect("extents are fixed"), seed))
            .collect();
        // The template that the file is about.
        let template = text.lines().find_map(|l| l.strip_prefix("// template: ")).unwrap_or("");
        let mut used = false;
        for (machine, emitter) in ways() {
            let label = format!("{} at {machine} by {emitter:?}", file.display());
            // Small loops too.
            let options = Options { emitter, threads: 7, thread_work: 1000, ..Options::default() };
            let compiled = lower_and_schedule(graph.clone(), &machine, options).unwrap_or_else(|e| panic!("{label}: {}", e[0]));
            used |= compiled.program.kernels.iter().any(|k| k.schedule.contains(template));
            let exe = Executable::new(&compiled.program, &machine).unwrap_or_else(|e| panic!("{label}: {e}"));
            let mut memory = exe.memory();
            for (to, from) in memory.inputs.iter_mut().zip(&inputs) {
                to.as_mut_slice().copy_from_slice(from.bytes());
            }
            let n_loops = pools::same_bits(&exe, &mut memory, &pools::SIZES).unwrap_or_else(|e| panic!("{label}: {e}"));
            assert!(n_loops > 0, "{label}: no loop runs on several threads");
        }
        assert!(used, "{}: no kernel is `{template}`", file.display());
    }
}

#[test]
fn a_share_of_a_long_loop_takes_what_others_have_not_begun() {
    let graph = graph::parse("graph @long(%x: f32[262144]) -> (%y) {\n  %y = Sigmoid(%x)\n}\n").unwrap();
    let x = random(DType::F32, &[262_144], 1);
    for (machine, emitter) in ways() {
        let options = Options { emitter, threads: 5, ..Options::default() };
        let compiled = lower_and_schedule(graph.clone(), &machine, options).unwrap();
        let exe = Executable::new(&compiled.program, &machine).unwrap();
        let mut memory = exe.memory();
        memory.inputs[0].as_mut_slice().copy_from_slice(x.bytes());
        exe.run(&mut memory).unwrap();
        let alone = memory.outputs[0].as_slice().to_vec();
        memory.outputs[0].as_mut_slice().fill(0xFF);
        pools::run_last_share_alone(&exe, &mut memory).unwrap();
        assert!(memory.outputs[0].as_slice() == alone, "{machine} by {emitter:?}");
    }
}

/// A program that runs a product alone, on pools of several sizes, and on threads of its own, and wants the same bits.
fn pool_program(folder: &Path, cpu: Config) -> (Model, String) {
    let graph = folder.join("product.graph");
    let text = "graph @product(%x: f32[96,256]) -> (%y) {\n  @w = const rand(1) : f32[256,320]\n  %y = MatMul(%x, @w)\n}\n";
    std::fs::write(&graph, text).expect("written");
    let program = r#"
        #include <stdlib.h>
        #include <string.h>
        #include "product.h"
        static unsigned char memory[PRODUCT_WORKSPACE_BYTES + PRODUCT_WORKSPACE_ALIGN];
        static float x[PRODUCT_X_ELEMENTS], alone[PRODUCT_Y_ELEMENTS], y[PRODUCT_Y_ELEMENTS];
        static unsigned calls;
        static void own(void *context, uint32_t n, void (*body)(void *, uint32_t), void *data) {
            calls += n;
            if (context != &calls) abort();
            for (uint32_t i = n; i > 0; i--) body(data, i - 1);
        }
        int main(void) {
            void *workspace = memory + (64 - (size_t)memory % 64) % 64;
            for (size_t i = 0; i < PRODUCT_X_ELEMENTS; i++) x[i] = (float)(i % 37) / 37 - 0.4f;
            if (product_run(x, alone, workspace, NULL) != TINSMITH_OK) return 1;
            if (PRODUCT_MAX_THREADS < 2) return 2;
            for (uint32_t n = 0; n < 5; n++) {
                tinsmith_pool *pool = tinsmith_pool_create(n);
                if (!pool || (n > 0 && pool->n_threads != n)) return 3;
                for (int run = 0; run < 20; run++) {
                    memset(y, 0, sizeof y);
                    if (product_run(x, y, workspace, pool) != TINSMITH_OK) return 4;
                    if (memcmp(y, alone, sizeof y) != 0) return 5;
                }
                tinsmith_pool_destroy(pool);
            }
            tinsmith_pool_destroy(NULL);
            tinsmith_pool mine = {&calls, 3, own};
            memset(y, 0, sizeof y);
            if (product_run(x, y, workspace, &mine) != TINSMITH_OK) return 6;
            if (memcmp(y, alone, sizeof y) != 0) return 7;
            return calls >= 3 && calls % 3 == 0 ? 0 : 8;
        }
    "#;
    (Model::compile(&graph, folder, &cpu), program.to_owned())
}

#[test]
fn pools_of_libraries_give_the_same_bits() {
    for level in x86_64_levels("pools_of_libraries_give_the_same_bits") {
        let folder = scratch("pool");
        let (model, program) = pool_program(&folder, config("x86_64-unknown-linux-gnu", level));
        tool::succeed(&mut Command::new(link("cc", &folder, &[&model], &program)));
    }
}

#[test]
fn pools_of_libraries_for_aarch64_give_the_same_bits() {
    let folder = scratch("pool-aarch64");
    let (model, program) = pool_program(&folder, config("aarch64-unknown-linux-gnu", "armv8-a"));
    if !has_aarch64("pools_of_libraries_for_aarch64_give_the_same_bits") {
        return;
    }
    // Under emulation, threads of a dynamically linked program can hang when they begin, whatever they do.
    let program = link("aarch64-linux-gnu-gcc -static", &folder, &[&model], &program);
    tool::succeed(Command::new("qemu-aarch64").arg(program));
}
