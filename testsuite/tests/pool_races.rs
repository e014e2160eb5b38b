//! The pool of libraries under ThreadSanitizer: jobs that write plain memory are ordered by the pool's hand-offs. Orders that are too weak, put in
//! on purpose, are found, so that silence means something. `runtime/src/pool/model.rs` looks at every interleaving of small jobs instead.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tinsmith_testsuite::{is_x86_64_linux, root, scratch, skip, tool};

/// Three callers share pools of several sizes; each reads after a job what its shares wrote, and writes what the next job reads.
const PROGRAM: &str = r#"
    #include <pthread.h>
    #include <stdint.h>
    #include <stdlib.h>
    #include <string.h>
    typedef struct tinsmith_pool {
        void *context;
        uint32_t n_threads;
        void (*parallel_for)(void *context, uint32_t n, void (*body)(void *data, uint32_t i), void *data);
    } tinsmith_pool;
    tinsmith_pool *tinsmith_pool_create(uint32_t n_threads);
    void tinsmith_pool_destroy(tinsmith_pool *pool);
    /* Names of LLVM's sanitizer that GCC's lacks. */
    void *__tsan_memset(void *to, int byte, size_t n) { return memset(to, byte, n); }
    void *__tsan_memcpy(void *to, const void *from, size_t n) { return memcpy(to, from, n); }
    static void add(void *data, uint32_t i) {
        long *a = data;
        a[i] += a[i + 8] + 1;
        a[i + 8] = a[i];
    }
    static void *caller(void *of) {
        tinsmith_pool *pool = of;
        long data[16] = {0};
        for (int run = 0; run < 300; run++) {
            pool->parallel_for(pool->context, 5, add, data);
            for (int i = 0; i < 5; i++) data[8 + i] = 0;
        }
        for (int i = 0; i < 5; i++) if (data[i] != 300) abort();
        return NULL;
    }
    int main(void) {
        for (uint32_t n = 1; n < 5; n++) {
            tinsmith_pool *pool = tinsmith_pool_create(n);
            pthread_t callers[2];
            if (!pool) return 2;
            caller(pool);
            for (int i = 0; i < 2; i++) if (pthread_create(&callers[i], NULL, caller, pool)) return 3;
            caller(pool);
            for (int i = 0; i < 2; i++) pthread_join(callers[i], NULL);
            tinsmith_pool_destroy(pool);
        }
        return 0;
    }
"#;

/// Orders of `job.rs` and what they become.
const TOO_WEAK: [(&str, &str); 2] = [
    ("pending.fetch_sub(1, Ordering::AcqRel)", "pending.fetch_sub(1, Ordering::Relaxed)"),
    ("u64::from(shares), Ordering::Release)", "u64::from(shares), Ordering::Relaxed)"),
];

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("the sources") {
        let entry = entry.expect("an entry");
        if entry.path().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
    }
}

fn must(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Ok(o) if o.status.success() => Ok(()),
        Ok(o) => Err(String::from_utf8_lossy(&o.stderr).into_owned()),
        Err(e) => Err(e.to_string()),
    }
}

fn cc() -> Command {
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-g", "-fsanitize=thread"]);
    cc
}

/// A program that does nothing, with the sanitizer, which a machine may lack.
fn empty_program(folder: &Path) -> Result<(), String> {
    let main = folder.join("main.c");
    fs::write(&main, "int main(void) { return 0; }").expect("written");
    must(cc().arg(main).arg("-o").arg(folder.join("program"))).map_err(|e| format!("cc cannot: {e}"))
}

/// The program with the pool as it is, or with one order weakened.
fn build(folder: &Path, weakened: Option<(&str, &str)>) -> Result<PathBuf, String> {
    for sources in ["runtime/src/pool", "targets/src"] {
        copy(&root().join(sources), &folder.join(sources));
    }
    if let Some((order, weak)) = weakened {
        let job = folder.join("runtime/src/pool/job.rs");
        let text = fs::read_to_string(&job).expect("job.rs");
        assert_eq!(text.matches(order).count(), 1, "{order}");
        fs::write(job, text.replace(order, weak)).expect("written");
    }
    let (object, main, program) = (folder.join("pool.o"), folder.join("main.c"), folder.join("program"));
    fs::write(&main, PROGRAM).expect("written");
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()));
    // The sanitizer is there in every release, its option is not.
    rustc.env("RUSTC_BOOTSTRAP", "1").args(["--edition", "2024", "--crate-type", "lib", "--crate-name", "tinsmith_pool", "-Awarnings"]);
    rustc.args(["-Cpanic=abort", "-Copt-level=1", "-Ccodegen-units=1", "-Zsanitizer=thread", "-Cunsafe-allow-abi-mismatch=sanitizer"]);
    rustc.arg("--emit").arg(format!("obj={}", object.display())).arg(folder.join("runtime/src/pool/object.rs"));
    must(&mut rustc).map_err(|e| format!("rustc cannot: {e}"))?;
    must(cc().arg(main).arg(object).arg("-o").arg(&program)).map_err(|e| format!("cc cannot: {e}"))?;
    Ok(program)
}

/// Runs with a fixed layout of memory where the system allows it: older sanitizers know no other.
fn run(program: &Path) -> Output {
    let fixed = Command::new("setarch").args(["-R", "true"]).status().is_ok_and(|s| s.success());
    let mut command = if fixed { Command::new("setarch") } else { Command::new(program) };
    if fixed {
        command.arg("-R").arg(program);
    }
    tool::run(command.env("TSAN_OPTIONS", "halt_on_error=1"))
}

#[test]
fn jobs_are_ordered_by_the_pool_and_weaker_orders_are_found() {
    let test = "jobs_are_ordered_by_the_pool_and_weaker_orders_are_found";
    if !is_x86_64_linux(test) {
        return;
    }
    if let Err(why) = empty_program(&scratch("races-none")) {
        return skip(test, &why);
    }
    let program = build(&scratch("races"), None).unwrap_or_else(|why| panic!("{why}"));
    let output = run(&program);
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("FATAL: ThreadSanitizer") {
        return skip(test, &said);
    }
    assert!(output.status.success(), "{said}");
    for (i, weakened) in TOO_WEAK.into_iter().enumerate() {
        let program = build(&scratch(&format!("races-{i}")), Some(weakened)).expect("as before");
        // Which thread does what is chance.
        let found = (0..20).any(|_| String::from_utf8_lossy(&run(&program).stderr).contains("data race"));
        assert!(found, "nobody misses `{}`", weakened.0);
    }
}
