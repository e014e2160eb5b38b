//! Kernels through the wide emitter against the loop interpreter, at every level of this machine that it serves.

use super::{Isa, Unit, compile};
use crate::codegen::linear::{Spilling, check, registers};
use crate::codegen::testing::{LANES, check_on, contraction, gather, n_random, op_kernels, random_kernels, runnable, tail, wide_levels};
use crate::codegen::{Emitter, Level, Machine};
use crate::nest::{self, Access, Affine, BinaryOp, Builder, Index, Kernel, Op, Reg, VecType};
use crate::tensor::DType;

/// Its levels that this machine can execute.
fn machines() -> Vec<Machine> {
    runnable(wide_levels())
}

/// The kernels that the emitter refuses on a machine, and why.
fn refused(machine: &Machine, kernels: &[Kernel]) -> Vec<String> {
    kernels.iter().filter_map(|k| compile(machine, k, Spilling::Allowed, false).err().map(|e| format!("{}: {e}", k.name))).collect()
}

#[test]
fn every_operation_agrees_with_the_interpreter() {
    for machine in machines() {
        let kernels = op_kernels(&LANES);
        assert_eq!(refused(&machine, &kernels), [""; 0], "{machine}");
        check_on(&[machine], Emitter::Wide, &kernels, 1);
    }
}

#[test]
fn random_kernels_agree_with_the_interpreter() {
    for machine in machines() {
        let kernels: Vec<Kernel> = random_kernels(1..n_random(80));
        assert_eq!(refused(&machine, &kernels), [""; 0], "{machine}");
        // Where nothing is near, gathers are instructions.
        let mut far = machine.clone();
        far.target.l1d_bytes = 0;
        check_on(&[machine, far], Emitter::Wide, &kernels, 2);
    }
}

#[test]
fn register_tiles_need_no_stack() {
    for machine in machines() {
        let unit = Unit::of(&machine).unwrap();
        let lanes = unit.isa.lanes();
        let tiles: &[(usize, usize)] = match unit.isa {
            Isa::V4 => &[(14, 2), (12, 2), (8, 3), (6, 4), (1, 16), (4, 4)],
            Isa::V3 => &[(6, 2), (4, 3), (4, 2), (1, 8), (2, 4)],
            Isa::V2 => &[(6, 2), (3, 3), (4, 2), (1, 8), (2, 4)],
        };
        let kernels: Vec<Kernel> = tiles.iter().map(|&(mr, nv)| contraction(lanes, mr, nv, 4, 16)).collect();
        for k in &kernels {
            assert_eq!(check(&machine, k), Ok(()), "{}", k.schedule);
            let mut body = super::select::select(k, unit).unwrap();
            registers::allocate(&mut body, &unit.isa).unwrap();
            assert_eq!(body.n_slots, 0, "{}", k.schedule);
        }
        let mut kernels = kernels;
        for (i, k) in kernels.iter_mut().enumerate() {
            k.name = format!("tile_{i}");
        }
        check_on(&[machine], Emitter::Wide, &kernels, 3);
    }
}

#[test]
fn prefetches_change_nothing_wherever_they_point() {
    let text = "kernel @k sums (x: f32[64] read, y: f32[16] write) {
        for i in 0..16 {
            prefetch x[4*i + 1024]
            prefetch x[4*i - 4096]
            %0: f32x4 = load x[4*i]
            %1: f32 = horizontal add %0
            store y[i], %1
        }
    }";
    let kernel = nest::parse(text).unwrap();
    assert_eq!(nest::verify(&kernel), []);
    assert_eq!(nest::parse(&kernel.to_string()).unwrap().to_string(), kernel.to_string());
    for machine in machines() {
        check_on(&[machine], Emitter::Wide, std::slice::from_ref(&kernel), 4);
    }
    check_on(&[Machine::x86_64(Level::Base)], Emitter::Clif, &[kernel], 5);
}

const F: DType = DType::F32;

#[test]
fn vectors_of_one_scalar_are_one_broadcast() {
    for machine in machines() {
        let unit = Unit::of(&machine).unwrap();
        let lanes = unit.isa.lanes();
        let text = format!(
            "kernel @k scaled (x: f32[16] read, w: f32[64] read, y: f32[{n}] write) {{
                for i in 0..16 {{
                    %0: f32 = load x[i]
                    %1: f32x{lanes} = load w[i]
                    %2: f32x{lanes} = splat %0
                    %3: f32x{lanes} = mul %1, %2
                    store y[{step}*i], %3
                    %4: f32x4 = load w[i + 7]
                    %5: f32x4 = splat %0
                    %6: f32x4 = mul %4, %5
                    store y[{step}*i + {lanes}], %6
                }}
            }}",
            step = lanes + 4,
            n = 16 * (lanes + 4)
        );
        // The second follows the first at once, or after a store.
        let stores_between = nest::parse(&text).unwrap();
        let mut together = stores_between.clone();
        let nest::Stmt::Loop(l) = &mut together.body[0] else { panic!("a loop") };
        let store = l.body.remove(4);
        l.body.push(store);
        assert_eq!(nest::verify(&together), []);
        let n_steps = |k: &Kernel| super::select::select(k, unit).unwrap().steps.len();
        assert!(n_steps(&together) < n_steps(&stores_between), "{machine}");
        check_on(&[machine], Emitter::Wide, &[stores_between, Kernel { name: "together".to_owned(), ..together }], 6);
    }
}

#[test]
fn tails_stay_inside_their_buffers() {
    for machine in machines() {
        let mut kernels = vec![];
        for l in [2, 4, 8, 16] {
            kernels.extend((1..=l).map(|valid| tail(l, valid)));
        }
        check_on(&[machine], Emitter::Wide, &kernels, 4);
    }
}

#[test]
fn failed_checks_return_their_status() {
    let mut b = Builder::new("gather", "");
    let (x, at, y) = (b.buffer("x", F, 8, Access::Read), b.buffer("at", DType::I64, 64, Access::Read), b.buffer("y", F, 64, Access::Write));
    b.for_loop("i", 0..64, 1, |b, i| {
        let p = b.load(at, Affine::var(i), 1);
        let p = b.op(VecType::scalar(DType::I64), Op::Check(p, 8));
        let v = b.load(x, Index { affine: Affine::default(), dynamic: vec![(p, 1)] }, 1);
        b.store(y, Affine::var(i), v);
    });
    check_on(&machines(), Emitter::Wide, &[b.finish()], 5);
}

#[test]
fn gathers_from_far_are_instructions_where_there_are_any() {
    for machine in wide_levels() {
        for places in [DType::I32, DType::I64] {
            let takes = |end| {
                let code = compile(&machine, &gather(F, places, 16, end), Spilling::Allowed, true).unwrap();
                code.text.unwrap().contains("vgatherdps")
            };
            // In halves of 64 bits there are only four lanes at `x86-64-v3`.
            let isa = Isa::of(&machine);
            let whole = isa == Some(Isa::V4) || isa == Some(Isa::V3) && places == DType::I32;
            assert_eq!((takes(20), takes(100_000)), (false, whole), "{machine}, {places}");
        }
    }
}

#[test]
fn more_values_than_registers_go_to_the_stack_outside_inner_loops() {
    let mut b = Builder::new("many", "");
    let (x, y) = (b.buffer("x", F, 8 * 64, Access::Read), b.buffer("y", F, 8 * 64, Access::Write));
    let all: Vec<Reg> = (0..40).map(|i| b.load(x, Affine::constant(8 * i), 8)).collect();
    let sum = b.float(VecType { dtype: F, lanes: 8 }, 0.0);
    b.for_loop("i", 0..16, 1, |b, i| {
        let v = b.load(x, Affine::var(i).times(8), 8);
        b.set(sum, Op::Binary(BinaryOp::Add, sum, v));
    });
    for (i, r) in all.into_iter().enumerate() {
        let r = b.binary(BinaryOp::Add, r, sum);
        b.store(y, Affine::constant(8 * i as i64), r);
    }
    let kernel = b.finish();
    for machine in machines().into_iter().filter(|m| Isa::of(m) != Some(Isa::V2)) {
        assert_eq!(check(&machine, &kernel), Ok(()));
    }
    check_on(&machines(), Emitter::Wide, &[kernel], 6);
}

#[test]
fn what_it_does_not_know_is_refused_with_a_reason() {
    let text = "kernel @k (x: f64[4] read, y: f16[4] write) { %0: f64x4 = load x[0] %1: f16x4 = convert %0 store y[0], %1 }";
    let kernel = nest::parse(text).unwrap();
    assert_eq!(check(&Machine::x86_64(Level::V3), &kernel).unwrap_err().to_string(), "a conversion of f64x4 to f16x4");
    assert_eq!(
        check(&Machine::x86_64(Level::Base), &kernel).unwrap_err().to_string(),
        "x86_64-unknown-linux-gnu at x86-64-v1 is below x86-64-v2"
    );
}
