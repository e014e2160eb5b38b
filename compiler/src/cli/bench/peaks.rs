//! What this machine can do: multiply-adds at a vector width, and streaming loads from each level of its memory.
//!
//! Measured through our own emitters in a fraction of a second, by nests that are all multiply-adds or all loads, on as many threads
//! as the model runs on, at the same time.

use std::sync::Barrier;
use std::time::Instant;

use serde_json::{Value, json};
use tinsmith::Error;
use tinsmith::codegen::{Emitter, Executable, IoBuffer, Machine, Memory, Place, Program, Step, caches, emitted_by, linear};
use tinsmith::nest::{Access, Affine, BinaryOp, Builder, Kernel, Op, Reg, VecType};
use tinsmith::tensor::DType;

/// What this machine can do on some threads.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Peaks {
    /// How many ran at the same time.
    pub(super) threads: usize,
    /// Width of the vectors.
    pub(super) vector_bits: u32,
    /// Multiply-adds of `f32` in registers.
    pub(super) gflops: f64,
    /// Nearest first; the last is memory.
    pub(super) levels: Vec<Level>,
}

/// A level of memory.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Level {
    pub(super) name: &'static str,
    /// What it holds for one thread; `usize::MAX` for memory.
    pub(super) bytes: usize,
    /// Of loads, on all threads together.
    pub(super) gbytes_per_s: f64,
}

impl Peaks {
    /// The nearest level that holds so many bytes for each thread.
    pub(super) fn level(&self, bytes: usize) -> &Level {
        self.levels.iter().find(|l| bytes <= l.bytes).unwrap_or(&self.levels[self.levels.len() - 1])
    }

    /// The same as JSON.
    pub(super) fn to_json(&self) -> Value {
        let level =
            |l: &Level| json!({"name": l.name, "bytes": (l.bytes != usize::MAX).then_some(l.bytes), "gbytes_per_s": l.gbytes_per_s});
        json!({
            "threads": self.threads, "vector_bits": self.vector_bits, "gflops": self.gflops,
            "levels": self.levels.iter().map(level).collect::<Vec<_>>(),
        })
    }

    /// Measures this machine with the emitter and vectors that a program has.
    pub(super) fn measure(machine: &Machine, emitter: Emitter, threads: usize) -> Result<Self, Error> {
        let wide_lanes = if emitter == Emitter::Clif { None } else { linear::lanes(machine) };
        let lanes = wide_lanes.unwrap_or(4);
        let fma = Bench::new(multiply_adds(lanes), machine, emitter)?;
        let vector_bits = fma.vector_bits;
        let flops = (TRIPS * 4 * ACCUMULATORS as i64 * i64::from(lanes) * 2) as f64;
        let gflops = flops * threads as f64 / fma.best_seconds(threads, 24)? / 1e9;
        let mut levels = vec![];
        for (name, bytes, streamed, passes, rounds) in plan(&caches(machine)) {
            let bench = Bench::new(loads(lanes, streamed / 4, passes), machine, emitter)?;
            let moved = (streamed * passes * threads) as f64;
            levels.push(Level { name, bytes, gbytes_per_s: moved / bench.best_seconds(threads, rounds)? / 1e9 });
        }
        Ok(Peaks { threads, vector_bits, gflops, levels })
    }
}

const ACCUMULATORS: usize = 10;
const TRIPS: i64 = 4096;

/// Independent multiply-adds, enough of them to hide their latency. The factors are loaded, since an emitter may take constants from
/// memory each time.
fn multiply_adds(lanes: u32) -> Kernel {
    let mut b = Builder::new("multiply_adds", "");
    let ty = VecType { dtype: DType::F32, lanes };
    let out = b.buffer("out", DType::F32, ACCUMULATORS * lanes as usize, Access::Write);
    let factors = b.buffer("factors", DType::F32, 2 * lanes as usize, Access::Read);
    let (x, y) = (b.load(factors, Affine::default(), lanes), b.load(factors, Affine::constant(i64::from(lanes)), lanes));
    let accumulators: Vec<Reg> = (0..ACCUMULATORS).map(|_| b.float(ty, 1.0)).collect();
    b.for_loop("i", 0..TRIPS, 1, |b, _| {
        for _ in 0..4 {
            for &a in &accumulators {
                b.set(a, Op::Fma(a, x, y));
            }
        }
    });
    store_all(&mut b, out, &accumulators, lanes);
    b.finish()
}

/// Sums of a buffer, read front to back several times.
fn loads(lanes: u32, len: usize, passes: usize) -> Kernel {
    const SUMS: usize = 8;
    let mut b = Builder::new("loads", "");
    let ty = VecType { dtype: DType::F32, lanes };
    let x = b.buffer("x", DType::F32, len, Access::Read);
    let out = b.buffer("out", DType::F32, SUMS * lanes as usize, Access::Write);
    let sums: Vec<Reg> = (0..SUMS).map(|_| b.float(ty, 0.0)).collect();
    b.for_loop("pass", 0..passes as i64, 1, |b, _| {
        b.for_loop("i", 0..len as i64, SUMS as i64 * i64::from(lanes), |b, i| {
            for (j, &sum) in sums.iter().enumerate() {
                let loaded = b.load(x, Affine::var(i).offset(j as i64 * i64::from(lanes)), lanes);
                b.set(sum, Op::Binary(BinaryOp::Add, sum, loaded));
            }
        });
    });
    store_all(&mut b, out, &sums, lanes);
    b.finish()
}

fn store_all(b: &mut Builder, out: tinsmith::nest::BufferId, regs: &[Reg], lanes: u32) {
    for (i, &reg) in regs.iter().enumerate() {
        b.store(out, Affine::constant(i as i64 * i64::from(lanes)), reg);
    }
}

/// A kernel of one thread, in this process.
struct Bench {
    executable: Executable,
    vector_bits: u32,
}

impl Bench {
    fn new(kernel: Kernel, machine: &Machine, emitter: Emitter) -> Result<Self, Error> {
        let mut program = Program { emitter, ..Program::default() };
        let mut args = vec![];
        for buffer in &kernel.buffers {
            let io = IoBuffer { name: buffer.name.clone(), bytes: buffer.len * buffer.dtype.size_bytes(), dims: vec![] };
            let (list, place): (_, fn(usize, usize) -> Place) =
                if buffer.access == Access::Read { (&mut program.inputs, Place::Input) } else { (&mut program.outputs, Place::Output) };
            list.push(io);
            args.push(place(list.len() - 1, 0));
        }
        let label = kernel.name.clone();
        program.kernels.push(kernel);
        program.steps.push(Step { label, kernel: 0, args, sizes: vec![] });
        let vector_bits = emitted_by(&program, machine).first().map_or(0, |by| by.vector_bits);
        Ok(Bench { executable: Executable::new(&program, machine)?, vector_bits })
    }

    fn memory(&self) -> Memory {
        let mut memory = self.executable.memory();
        for buffer in &mut memory.inputs {
            // Pages that were never written may all be the same one.
            buffer.as_mut_slice().fill(0);
        }
        memory
    }

    /// The least time in which every thread ran once.
    fn best_seconds(&self, threads: usize, rounds: usize) -> Result<f64, Error> {
        if threads <= 1 {
            return self.rounds(&mut self.memory(), rounds, || {});
        }
        let barrier = Barrier::new(threads);
        std::thread::scope(|scope| {
            let one = || {
                self.rounds(&mut self.memory(), rounds, || {
                    barrier.wait();
                })
            };
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(one)).collect();
            let mut slowest = one()?;
            for other in others {
                let seconds = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                slowest = f64::max(slowest, seconds);
            }
            Ok(slowest)
        })
    }

    fn rounds(&self, memory: &mut Memory, rounds: usize, meet: impl Fn()) -> Result<f64, Error> {
        let mut best = Ok(f64::INFINITY);
        // No thread leaves before the others, who would wait for it.
        for _ in 0..rounds {
            meet();
            let start = Instant::now();
            let result = self.executable.run(memory);
            let seconds = start.elapsed().as_secs_f64();
            best = best.and_then(|best| result.map(|()| f64::min(best, seconds)));
        }
        Ok(best?)
    }
}

/// What is measured of each level: its name, what it holds, bytes that are streamed, passes over them, and rounds.
fn plan(caches: &[usize; 3]) -> [(&'static str, usize, usize, usize, usize); 4] {
    let [l1, l2, l3] = *caches;
    let whole = |bytes: usize| bytes.next_multiple_of(4096).max(4096);
    let passes = |streamed: usize, total: usize| (total / streamed).max(1);
    // A last-level cache may be that of many cores, whose far parts are no faster than memory.
    let (one, two, three) = (whole(l1 / 2), whole(l2 / 2), whole((l3 / 4).min(8 * l2)));
    [
        ("L1", l1, one, passes(one, 8 << 20), 24),
        ("L2", l2, two, passes(two, 8 << 20), 24),
        ("L3", l3, three, passes(three, 8 << 20), 12),
        ("memory", usize::MAX, whole((4 * l3).clamp(64 << 20, 512 << 20)), 1, 4),
    ]
}

/// Data caches of this machine; those of the target where nothing is told of them.
fn caches(machine: &Machine) -> [usize; 3] {
    let target = &machine.target;
    let known = caches::of_host().map(|cache| cache.map(|c| c.bytes));
    [known[0].unwrap_or(target.l1d_bytes), known[1].unwrap_or(target.l2_bytes), known[2].unwrap_or(target.l3_bytes)]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A machine for tests of what is told.
    pub(crate) fn peaks() -> Peaks {
        let level = |name, bytes, gbytes_per_s| Level { name, bytes, gbytes_per_s };
        Peaks {
            threads: 1,
            vector_bits: 512,
            gflops: 117.5,
            levels: vec![
                level("L1", 32 << 10, 230.0),
                level("L2", 1 << 20, 120.0),
                level("L3", 32 << 20, 95.0),
                level("memory", usize::MAX, 25.0),
            ],
        }
    }

    #[test]
    fn levels_hold_what_fits() {
        let names = [1, 32 << 10, (32 << 10) + 1, 2 << 20, 33 << 20].map(|bytes| peaks().level(bytes).name);
        assert_eq!(names, ["L1", "L1", "L2", "L3", "memory"]);
    }

    #[test]
    fn the_kernels_run_on_several_threads() {
        for emitter in [Emitter::Clif, Emitter::Auto] {
            let machine = Machine::native();
            let bench = Bench::new(loads(4, 4096, 2), &machine, emitter).expect("compiles");
            assert!(bench.best_seconds(1, 2).is_ok_and(|s| s > 0.0));
            assert!(bench.best_seconds(3, 2).is_ok_and(|s| s > 0.0));
            let bench = Bench::new(multiply_adds(4), &machine, emitter).expect("compiles");
            let mut memory = bench.memory();
            bench.executable.run(&mut memory).expect("runs");
            assert!(memory.outputs[0].as_slice().chunks_exact(4).all(|b| b == 0f32.to_le_bytes()));
        }
    }
}
