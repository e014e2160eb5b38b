//! A64: words against an assembler, kernels against the loop interpreter under an emulator, and what inner loops look like.

use std::collections::HashSet;
use std::process::Command;

use super::code::{Code, Condition, Shape};
use super::compile;
use super::word::{Address, Concrete, jump};
use crate::codegen::linear::{Spilling, check};
use crate::codegen::testing::{LANES, check_emulated, contraction, n_random, op_kernels, random_kernels_of_words, tail};
use crate::codegen::{Emitter, Machine};
use crate::nest::{self, Access, Affine, BinaryOp, Builder, Index, Kernel, VecType};
use crate::tensor::DType;

/// Every instruction with registers from both ends, and with immediates at their limits.
fn all_words() -> Vec<Concrete> {
    let mut all = vec![];
    for &code in Code::ALL {
        let shape = code.form().2;
        let immediates: &[i64] = match shape {
            Shape::Element | Shape::DupLane | Shape::ScalarLane | Shape::InsertLane => &[0, 1, 2, 3],
            Shape::ShiftLeft => &[0, 7, 31],
            Shape::ShiftRight => &[1, 7, 32],
            Shape::Extract => &[4, 7],
            Shape::GeneralImmediate | Shape::CompareImmediate => &[0, 1, 4095, 4096, 0xfff000],
            Shape::GeneralShift | Shape::General3Shifted => &[1, 3, 12],
            Shape::Constant => &[0, 1, 65535, -1, -65536, 1 << 16],
            Shape::Choose | Shape::SetMask => &[0, 1, 2, 10, 11, 12, 13],
            _ => &[0],
        };
        let addresses: &[Option<Address>] = match shape {
            Shape::Memory(_, 16) => &[Some(Address::Offset(3, 0)), Some(Address::Offset(31, 65520)), Some(Address::Offset(9, 8))],
            Shape::Memory(_, 8) => &[Some(Address::Offset(3, 0)), Some(Address::Offset(31, 32760)), Some(Address::Offset(9, -256))],
            Shape::Memory(..) => &[Some(Address::Offset(3, 16380)), Some(Address::Offset(9, 255)), Some(Address::Index(4, 28))],
            Shape::Pair => &[Some(Address::Offset(3, 0)), Some(Address::Offset(9, -1024)), Some(Address::Offset(1, 1008))],
            Shape::Prefetch => &[Some(Address::Offset(3, 32760)), Some(Address::Offset(9, -3)), Some(Address::Index(4, 28))],
            _ => &[None],
        };
        for half in [false, true] {
            if half && !code.has_halves() {
                continue;
            }
            for &immediate in immediates {
                for &address in addresses {
                    for registers in [[0, 1, 2, 3], [28, 27, 26, 25], [7, 28, 15, 0]] {
                        all.push(Concrete { code, registers, immediate, half, address });
                    }
                }
            }
        }
    }
    all
}

fn installed(tool: &str) -> bool {
    Command::new(tool).arg("--version").output().is_ok_and(|o| o.status.success())
}

#[test]
fn words_are_those_of_an_assembler() {
    let (assembler, copier) = ("aarch64-linux-gnu-as", "aarch64-linux-gnu-objcopy");
    if !installed(assembler) || !installed(copier) {
        eprintln!("skipped: words are compared with those of {assembler} and {copier}");
        return;
    }
    let all = all_words();
    let mut text: String = all.iter().map(|c| c.text() + "\n").collect();
    let conditions = [Condition::Eq, Condition::Ne, Condition::Hs, Condition::Ge, Condition::Lt, Condition::Gt, Condition::Le];
    let mut ours: Vec<u32> = all.iter().map(|c| c.words().unwrap_or_else(|e| panic!("{}: {e}", c.text()))[0]).collect();
    for condition in conditions {
        text += &format!("b.{} . + 1024\nb.{} . - 2048\n", condition.name(), condition.name());
        ours.extend([1024, -2048].map(|by| jump(condition, by).unwrap()));
    }
    text += "b . - 4096\nldr q5, . + 64\n";
    let literal = Concrete { code: Code::LoadQ, registers: [5, 0, 0, 0], immediate: 0, half: false, address: Some(Address::Here(64)) };
    ours.extend([jump(Condition::Always, -4096).unwrap(), literal.words().unwrap()[0]]);
    let dir = std::env::temp_dir().join(format!("tinsmith-words-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("all.s"), &text).unwrap();
    let steps = [(assembler, vec!["all.s", "-o", "all.o"]), (copier, vec!["-O", "binary", "-j.text", "all.o", "all.bin"])];
    for (tool, args) in steps {
        let made = Command::new(tool).args(args).current_dir(&dir).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    let bytes = std::fs::read(dir.join("all.bin")).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    let theirs: Vec<u32> = bytes.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
    assert_eq!(theirs.len(), ours.len());
    let wrong: Vec<String> = text
        .lines()
        .zip(ours.iter().zip(&theirs))
        .filter(|(_, (a, b))| a != b)
        .map(|(line, (a, b))| format!("{line}: {a:08x}, not {b:08x}"))
        .collect();
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), ours.len(), wrong.join("\n"));
}

#[test]
fn what_does_not_fit_is_no_word() {
    let of = |code, immediate, address| Concrete { code, registers: [0; 4], immediate, half: false, address };
    let far = |at| Some(Address::Offset(0, at));
    let all = [
        of(Code::FmlaElement, 4, None),
        of(Code::Shl, 32, None),
        of(Code::Ushr, 0, None),
        of(Code::AddImmX, 4097, None),
        of(Code::LoadQ, 0, far(65536)),
        of(Code::LoadQ, 0, far(264)),
        of(Code::LoadS, 0, Some(Address::Here(64))),
        of(Code::LoadPair, 0, far(1024)),
        of(Code::CselX, 3, None),
        of(Code::StoreX, 0, None),
    ];
    for c in all {
        assert!(c.words().is_err(), "{}", c.text());
    }
    assert_eq!([jump(Condition::Eq, 2), jump(Condition::Eq, 1 << 20), jump(Condition::Always, 1 << 27)], [None; 3]);
}

/// The kernels that the emitter refuses, and why.
fn refused(kernels: &[Kernel]) -> Vec<String> {
    kernels.iter().filter_map(|k| compile(k, Spilling::Allowed, false).err().map(|e| format!("{}: {e}", k.name))).collect()
}

/// The kernels that it takes.
fn taken(kernels: Vec<Kernel>) -> Vec<Kernel> {
    kernels.into_iter().filter(|k| compile(k, Spilling::Allowed, false).is_ok()).collect()
}

#[test]
fn operations_agree_with_the_interpreter() {
    let all = op_kernels(&LANES);
    let words = [DType::F32, DType::I32, DType::U32];
    let of_words = |k: &Kernel| k.buffers.iter().all(|b| words.contains(&b.dtype));
    let left: HashSet<String> = refused(&all.iter().filter(|k| of_words(k)).cloned().collect::<Vec<_>>()).into_iter().collect();
    let mut left: Vec<String> = left.into_iter().collect();
    left.sort_unstable();
    insta::assert_snapshot!("refused_of_words", left.join("\n"));
    let kernels = taken(all);
    assert!(kernels.len() > 100, "{}", kernels.len());
    check_emulated(Emitter::Wide, &kernels, 21);
}

#[test]
fn random_kernels_agree_with_the_interpreter() {
    let kernels = random_kernels_of_words(1..n_random(160));
    assert_eq!(refused(&kernels), [""; 0]);
    check_emulated(Emitter::Wide, &kernels, 22);
}

#[test]
fn register_tiles_agree_with_the_interpreter_and_need_no_stack() {
    let tiles = [(7, 3), (10, 2), (8, 2), (5, 4), (4, 5), (6, 3), (4, 4), (2, 8), (1, 12), (1, 4), (12, 1)];
    // Rows that are whole vectors apart, rows that are not, and a reduction with a rest.
    let mut kernels: Vec<Kernel> = tiles.iter().map(|&(mr, nv)| contraction(4, mr, nv, 4, 16)).collect();
    kernels.extend(
        [(7, 3, 4, 28), (5, 2, 2, 18), (3, 2, 1, 7), (4, 2, 3, 9), (8, 2, 8, 24), (7, 3, 4, 16 << 10)]
            .map(|(mr, nv, unroll, k)| contraction(4, mr, nv, unroll, k)),
    );
    for (i, k) in kernels.iter_mut().enumerate() {
        k.name = format!("tile_{i}");
        assert_eq!(check(&Machine::aarch64(), k), Ok(()), "{}", k.schedule);
    }
    check_emulated(Emitter::Wide, &kernels, 23);
}

/// A row and the inner loop of a product as text.
#[test]
fn products_take_factors_from_lanes() {
    let code = compile(&contraction(4, 4, 2, 4, 64), Spilling::Refused, true).unwrap();
    insta::assert_snapshot!("product_4x8", code.text.unwrap());
}

const F: DType = DType::F32;

#[test]
fn tails_and_gathers_stay_inside_their_buffers() {
    let mut kernels: Vec<Kernel> = [2, 4, 8].into_iter().flat_map(|l| (1..=l).map(move |valid| tail(l, valid))).collect();
    let mut b = Builder::new("gather", "");
    let (x, at, y) = (b.buffer("x", F, 8, Access::Read), b.buffer("at", DType::I64, 64, Access::Read), b.buffer("y", F, 64, Access::Write));
    b.for_loop("i", 0..64, 1, |b, i| {
        let p = b.load(at, Affine::var(i), 1);
        let (low, high) = (b.int(VecType::scalar(DType::I64), 0), b.int(VecType::scalar(DType::I64), 7));
        let p = b.binary(BinaryOp::Max, p, low);
        let p = b.binary(BinaryOp::Min, p, high);
        let v = b.load(x, Index { affine: Affine::default(), dynamic: vec![(p, 1)] }, 1);
        b.store(y, Affine::var(i), v);
    });
    kernels.push(b.finish());
    check_emulated(Emitter::Wide, &kernels, 24);
}

#[test]
fn neighbours_are_not_loaded_across_a_store() {
    let text = "kernel @k (x: f32[8] readwrite, w: f32[8] read, y: f32[4] write) {
        %0: f32 = load x[0] %1: f32x4 = splat %0 %2: f32x4 = load w[0] %3: f32x4 = load w[4]
        %4: f32x4 = fma %1, %2, %3
        store x[0], %4
        %5: f32 = load x[1] %6: f32x4 = splat %5
        %7: f32x4 = fma %6, %2, %4
        store y[0], %7
    }";
    let kernel = nest::parse(text).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(nest::verify(&kernel), []);
    check_emulated(Emitter::Wide, &[kernel], 25);
}

#[test]
fn what_it_does_not_know_is_refused_with_a_reason() {
    let text = "kernel @k (x: f16[4] read, y: f32[4] write) { %0: f16x4 = load x[0] %1: f32x4 = convert %0 store y[0], %1 }";
    let kernel = nest::parse(text).unwrap();
    assert_eq!(check(&Machine::aarch64(), &kernel).unwrap_err().to_string(), "it holds f16x4");
}
