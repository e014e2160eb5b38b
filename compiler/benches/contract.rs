//! Register tiles of contractions, operands in cache, as shares of this machine's peak with the same vectors.
//!
//! `cargo bench -p tinsmith --bench contract [-- FILTER]`; `EMITTER=wide` takes the wide emitter instead of Cranelift, `LEVEL=2`
//! a level instead of this machine, and with `ASM=1` the instructions of each tile are printed.
#![expect(clippy::print_stdout, reason = "prints its table")]

use std::time::Instant;

use cranelift_module::default_libcall_names;
use cranelift_object::{ObjectBuilder, ObjectModule};
use tinsmith::codegen::clif::define_kernel;
use tinsmith::codegen::target::Usage;
use tinsmith::codegen::wide::Isa;
use tinsmith::codegen::{Emitter, Executable, IoBuffer, Level, Machine, Place, Program, Step};
use tinsmith::nest::{Access, Affine, BinaryOp, BufferId, Builder, Kernel, Op, Reg, VecType};
use tinsmith::tensor::DType;

const F: DType = DType::F32;
const K: usize = 240;

/// In which order a tile's operations are written.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Order {
    /// B's vectors, then for each row its splat and multiply-adds.
    Rows,
    /// B's vectors, then all splats, then all multiply-adds.
    SplatsFirst,
    /// For each vector of B: load it, then every row's splat (loaded anew) and multiply-add.
    Columns,
    /// Rows, with B loaded at every use.
    LoadAtUse,
    /// Rows, with the last row's multiply-adds using up B's vectors.
    LastRowSwapped,
    /// Splat of the row's next element loaded one row ahead.
    Ahead,
}

/// What surrounds the tile.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Shape {
    /// One tile.
    Tile,
    /// Loops over rows and columns around it, with bias and clamp before the store.
    Matrix,
}

/// Rows and columns of [`Shape::Matrix`], in tiles.
const TILES: usize = 12;

fn tile(mr: usize, nv: usize, unroll: usize, order: Order, shape: Shape, lanes: u32) -> Kernel {
    let l = lanes as usize;
    let n = nv * l;
    let tiles = if shape == Shape::Tile { 1 } else { TILES };
    let mut b = Builder::new(format!("{shape:?}_{mr}x{nv}_u{unroll}_{order:?}"), "");
    let a = b.buffer("a", F, tiles * mr * K, Access::Read);
    let w = b.buffer("b", F, tiles * K * n, Access::Read);
    let bias = b.buffer("bias", F, tiles * n, Access::Read);
    let c = b.buffer("c", F, tiles * tiles * mr * n, Access::Write);
    let ty = VecType { dtype: F, lanes };
    if shape == Shape::Tile {
        let acc: Vec<Reg> = (0..mr * nv).map(|_| b.float(ty, 0.0)).collect();
        products(&mut b, (mr, nv, unroll, order, lanes), (a, &Affine::default()), (w, &Affine::default()), &acc);
        for (i, &r) in acc.iter().enumerate() {
            b.store(c, Affine::constant((i * l) as i64), r);
        }
        return b.finish();
    }
    let (low, high) = (b.float(ty, 0.0), b.float(ty, 6.0));
    b.par_loop("m", 0..tiles as i64, 1, |b, m| {
        b.for_loop("n", 0..tiles as i64, 1, |b, nn| {
            let acc: Vec<Reg> = (0..mr * nv).map(|_| b.float(ty, 0.0)).collect();
            let (at_a, at_b) = (Affine::var(m).times((mr * K) as i64), Affine::var(nn).times((K * n) as i64));
            products(b, (mr, nv, unroll, order, lanes), (a, &at_a), (w, &at_b), &acc);
            for v in 0..nv {
                let x = b.load(bias, Affine::var(nn).times(n as i64).offset((v * l) as i64), lanes);
                for r in 0..mr {
                    let y = b.binary(BinaryOp::Add, acc[r * nv + v], x);
                    let y = b.binary(BinaryOp::Max, y, low);
                    let y = b.binary(BinaryOp::Min, y, high);
                    let at = Affine::var(m).times((mr * tiles * n) as i64).plus(&Affine::var(nn).times(n as i64));
                    b.store(c, at.offset((r * tiles * n + v * l) as i64), y);
                }
            }
        });
    });
    b.finish()
}

type Operand<'a> = (BufferId, &'a Affine);

type Form = (usize, usize, usize, Order, u32);

fn products(b: &mut Builder, (mr, nv, unroll, order, lanes): Form, a: Operand<'_>, w: Operand<'_>, acc: &[Reg]) {
    let l = lanes as usize;
    let n = nv * l;
    b.for_loop("k", 0..K as i64, unroll as i64, |b, k| {
        let at_b = |u: usize, v: usize| Affine::var(k).times(n as i64).offset((u * n + v * l) as i64).plus(w.1);
        let at_a = |u: usize, r: usize| Affine::var(k).offset((r * K + u) as i64).plus(a.1);
        let splat = |b: &mut Builder, u: usize, r: usize| {
            let x = b.load(a.0, at_a(u, r), 1);
            b.splat(x, lanes)
        };
        for u in 0..unroll {
            match order {
                Order::Columns => {
                    for v in 0..nv {
                        let y = b.load(w.0, at_b(u, v), lanes);
                        for r in 0..mr {
                            let x = splat(b, u, r);
                            b.set(acc[r * nv + v], Op::Fma(x, y, acc[r * nv + v]));
                        }
                    }
                }
                Order::LoadAtUse => {
                    for r in 0..mr {
                        let x = splat(b, u, r);
                        for v in 0..nv {
                            let y = b.load(w.0, at_b(u, v), lanes);
                            b.set(acc[r * nv + v], Op::Fma(x, y, acc[r * nv + v]));
                        }
                    }
                }
                _ => {
                    let ys: Vec<Reg> = (0..nv).map(|v| b.load(w.0, at_b(u, v), lanes)).collect();
                    let early: Vec<Reg> = if order == Order::SplatsFirst { (0..mr).map(|r| splat(b, u, r)).collect() } else { vec![] };
                    let mut next = if order == Order::Ahead { Some(splat(b, u, 0)) } else { None };
                    for r in 0..mr {
                        let x = match order {
                            Order::SplatsFirst => early[r],
                            Order::Ahead => {
                                let x = next.take().expect("loaded one row ahead");
                                if r + 1 < mr {
                                    next = Some(splat(b, u, r + 1));
                                }
                                x
                            }
                            _ => splat(b, u, r),
                        };
                        for v in 0..nv {
                            let last = matches!(order, Order::LastRowSwapped) && r + 1 == mr && v + 1 < nv;
                            let (p, q) = if last { (ys[v], x) } else { (x, ys[v]) };
                            b.set(acc[r * nv + v], Op::Fma(p, q, acc[r * nv + v]));
                        }
                    }
                }
            }
        }
    });
}

const PEAK_ACCUMULATORS: usize = 10;
const PEAK_TRIPS: i64 = 1024;

fn peak(lanes: u32) -> Kernel {
    let mut b = Builder::new("peak", "");
    let ty = VecType { dtype: F, lanes };
    let c = b.buffer("c", F, PEAK_ACCUMULATORS * lanes as usize, Access::Write);
    let factors = b.buffer("factors", F, 2 * lanes as usize, Access::Read);
    let [x, y] = [0, i64::from(lanes)].map(|at| b.load(factors, Affine::constant(at), lanes));
    let acc: Vec<Reg> = (0..PEAK_ACCUMULATORS).map(|_| b.float(ty, 1.0)).collect();
    b.for_loop("i", 0..PEAK_TRIPS, 1, |b, _| {
        for _ in 0..4 {
            for &r in &acc {
                b.set(r, Op::Fma(r, x, y));
            }
        }
    });
    for (i, &r) in acc.iter().enumerate() {
        b.store(c, Affine::constant(i as i64 * i64::from(lanes)), r);
    }
    b.finish()
}

/// The machine, or the x86-64 level of `LEVEL`.
fn machine() -> Machine {
    match std::env::var("LEVEL").as_deref() {
        Ok("1") => Machine::x86_64(Level::Base),
        Ok("2") => Machine::x86_64(Level::V2),
        Ok("3") => Machine::x86_64(Level::V3),
        Ok("4") => Machine::x86_64(Level::V4),
        _ => Machine::native(),
    }
}

/// The emitter of `EMITTER`, and its lanes.
fn emitter() -> (Emitter, u32) {
    if std::env::var("EMITTER").is_ok_and(|e| e == "wide") {
        (Emitter::Wide, Isa::of(&machine()).map_or(4, Isa::lanes))
    } else {
        (Emitter::Clif, 4)
    }
}

/// The instructions of a kernel for a machine that need not be this one.
fn instructions(kernel: &Kernel, machine: &Machine) -> String {
    let isa = machine.isa(Usage::Object).expect("a target");
    let builder = ObjectBuilder::new(isa, "bench", default_libcall_names()).expect("an object");
    let compiled = define_kernel(&mut ObjectModule::new(builder), machine, kernel, true).expect("the kernel compiles");
    compiled.listing.expect("a listing").asm
}

fn stack_accesses(asm: &str) -> usize {
    asm.lines().filter(|l| l.contains("(%rsp)") || l.contains("[sp")).count()
}

/// Best GFLOP/s of a kernel, and what it is made of.
fn measure(kernel: &Kernel, flops: f64) -> (f64, usize, String) {
    let mut p = Program { kernels: vec![kernel.clone()], emitter: emitter().0, ..Program::default() };
    let mut args = vec![];
    for b in &kernel.buffers {
        args.push(Place::Arena(p.workspace_bytes));
        p.workspace_bytes += (b.len * 4).next_multiple_of(64) + 128;
    }
    let calls = if flops > 1e6 { 1 } else { 64 };
    p.steps = vec![Step { label: String::new(), kernel: 0, args, sizes: vec![] }; calls];
    p.inputs = Vec::<IoBuffer>::new();
    let exe = Executable::with_listings(&p, &machine(), true).expect("the kernel compiles");
    let mut memory = exe.memory();
    let mut best = f64::INFINITY;
    for _ in 0..40 {
        let start = Instant::now();
        for _ in 0..4 {
            exe.run(&mut memory).expect("the kernel runs");
        }
        best = best.min(start.elapsed().as_secs_f64() / (4 * calls) as f64);
    }
    let listing = &exe.listings()[0];
    (flops / best / 1e9, stack_accesses(&listing.asm), listing.asm.clone())
}

fn main() {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    let lanes = emitter().1;
    let peak_flops = (PEAK_TRIPS as usize * 4 * PEAK_ACCUMULATORS * 2 * lanes as usize) as f64;
    let (top, _, _) = measure(&peak(lanes), peak_flops);
    println!("peak {top:.1} GFLOP/s");
    for shape in [Shape::Tile, Shape::Matrix] {
        for (mr, nv) in [
            (4, 2),
            (3, 2),
            (5, 2),
            (6, 2),
            (8, 2),
            (4, 3),
            (3, 3),
            (8, 3),
            (2, 4),
            (4, 4),
            (6, 4),
            (8, 1),
            (10, 1),
            (12, 1),
            (1, 8),
            (1, 10),
            (12, 2),
            (14, 2),
        ] {
            for unroll in [1, 2, 3, 4, 5, 8] {
                for order in [Order::Rows, Order::SplatsFirst, Order::Columns, Order::LoadAtUse, Order::LastRowSwapped, Order::Ahead] {
                    let kernel = tile(mr, nv, unroll, order, shape, lanes);
                    if !kernel.name.contains(&filter) {
                        continue;
                    }
                    if std::env::var_os("AARCH64").is_some() {
                        let asm = instructions(&kernel, &Machine::aarch64());
                        let fmla = asm.lines().filter(|l| l.contains("fmla")).count();
                        println!(
                            "{:32} {:4} instructions, {fmla} fmla, {} stack accesses",
                            kernel.name,
                            asm.lines().count(),
                            stack_accesses(&asm)
                        );
                        if std::env::var_os("ASM").is_some() {
                            println!("{asm}");
                        }
                        continue;
                    }
                    let tiles = if shape == Shape::Tile { 1 } else { TILES * TILES };
                    let (speed, spills, asm) = measure(&kernel, (2 * mr * nv * lanes as usize * K * tiles) as f64);
                    println!("{:32} {speed:6.1} GFLOP/s {:4.0}%  {spills} stack accesses", kernel.name, 100.0 * speed / top);
                    if std::env::var_os("ASM").is_some() {
                        println!("{asm}");
                    }
                }
            }
        }
    }
}
