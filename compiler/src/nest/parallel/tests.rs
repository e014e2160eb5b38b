//! Kernels as text: which loops are independent, which scratch is private, what the pieces are, and that threads make of them what one
//! does.

use std::collections::HashMap;

use super::*;
use crate::codegen::testing::{eval as eval_everywhere, eval_sized as eval_sized_everywhere};
use crate::nest::footprint::apart;
use crate::nest::pieces::{Piece, Spread, pieces};
use crate::nest::{Access, eval, eval_sized, parse, verify};

/// Buffers of numbers that repeat after eleven.
fn numbered(kernel: &Kernel) -> Vec<Vec<u8>> {
    let of = |b: &Buffer| (0..b.len).flat_map(|i| (((i * 7 + b.name.len()) % 11) as f32 / 8.0).to_le_bytes()).collect();
    kernel.buffers.iter().map(of).collect()
}

/// The loops of a kernel after marking everything: `par` or `for` of each outermost one, and the private buffers.
fn marked(buffers: &str, body: &str) -> String {
    let mut kernel = parse(&format!("kernel @t ({buffers}) {{\n{body}\n}}")).unwrap();
    mark(&mut kernel, 0, |_, b| b.access == Access::ReadWrite);
    assert_eq!(verify(&kernel), []);
    eval_everywhere(&kernel, &mut numbered(&kernel)).unwrap();
    let word = |s: &Stmt| match s {
        Stmt::Loop(l) => Some(if l.parallel { "par" } else { "for" }),
        _ => None,
    };
    let loops: Vec<&str> = kernel.body.iter().filter_map(word).collect();
    let private: Vec<&str> = kernel.buffers.iter().filter(|b| b.private).map(|b| b.name.as_str()).collect();
    format!("{} {}", loops.join(" "), private.join(" ")).trim_end().to_owned()
}

const XY: &str = "x: f32[4096] read, y: f32[4096] write, s: f32[64] readwrite";

#[test]
fn loops_that_write_places_of_their_own_are_parallel() {
    for body in [
        "for i in 0..8 { %0: f32 = load x[i] store y[i], %0 }",
        "for i in 0..64 step 8 { %0: f32x8 = load x[i] store y[i], %0 }",
        // Rows, columns, blocks of rows, columns of blocks, and backwards.
        "for i in 0..8 { for j in 0..16 { %0: f32 = load x[j] store y[16*i + j], %0 } }",
        "for j in 0..16 { for i in 0..8 { %0: f32 = load x[j] store y[16*i + j], %0 } }",
        "for j in 0..64 step 16 { for i in 0..8 { %0: f32x16 = load x[j] store y[64*i + j], %0 } }",
        "for i in 0..8 step 2 { for j in 0..16 { %0: f32 = load x[j] store y[16*i + j], %0 store y[16*i + j + 16], %0 } }",
        "for i in 0..8 { %0: f32x4 = load x[0] store y[-4*i + 28], %0 }",
        // Three dimensions with one of them in the middle.
        "for j in 0..4 { for i in 0..8 { for k in 0..5 { %0: f32 = load x[j] store y[20*i + 5*j + k], %0 } } }",
        // What is written is read in the same iteration only.
        "for i in 0..8 { %0: f32 = load x[i] store y[2*i], %0 %1: f32 = load y[2*i] store y[2*i + 1], %1 }",
    ] {
        assert_eq!(marked(XY, body), "par", "{body}");
    }
}

#[test]
fn loops_that_may_touch_what_others_write_are_not() {
    for body in [
        "for i in 0..8 { %0: f32 = load x[i] store y[0], %0 }",
        "for i in 0..8 { %0: f32x2 = load x[i] store y[i], %0 }",
        "for i in 0..8 { for j in 0..17 { %0: f32 = load x[j] store y[16*i + j], %0 } }",
        "for i in 0..8 { %0: f32 = load y[i] store y[i + 1], %0 }",
        "for i in 0..8 { for j in 0..4 { %0: f32 = load x[j] store y[2*i + 3*j], %0 } }",
        // Somewhere that only the data says.
        "for i in 0..8 { %0: i64 = index i %1: i64 = check %0, 8 %2: f32 = load x[i] store y[%1], %2 }",
    ] {
        assert_eq!(marked(XY, body), "for", "{body}");
    }
    // A sum over all iterations, and a register that is read after the loop.
    let sum = "%0: f32 = const 0.0 for i in 0..8 { %1: f32 = load x[i] %0: f32 = add %0, %1 } store y[0], %0";
    assert_eq!(marked(XY, sum), "for");
    // One iteration gains nothing.
    assert_eq!(marked(XY, "for i in 0..1 { %0: f32 = load x[i] store y[i], %0 }"), "for");
}

#[test]
fn scratch_that_is_written_first_is_private() {
    let body = "for i in 0..8 { for j in 0..64 step 16 { %0: f32x16 = load x[j] store s[j], %0 } for j.1 in 0..64 { %1: f32 = load s[j.1] store y[64*i + j.1], %1 } }";
    assert_eq!(marked(XY, body), "par s");
    // Transposed, by rows of four.
    let body = "for i in 0..8 { for j in 0..16 { %0: f32 = load x[j] store s[j], %0 store s[j + 16], %0 store s[j + 32], %0 } for k in 0..48 step 4 { %1: f32x4 = load s[k] store y[64*i + k], %1 } }";
    assert_eq!(marked(XY, body), "par s");
    // On both ways of a branch.
    let body = "for i in 0..8 { if 0 <= i < 4 { %0: f32 = const 1.0 store s[3], %0 } else { %1: f32 = const 2.0 store s[3], %1 } %2: f32 = load s[3] store y[i], %2 }";
    assert_eq!(marked(XY, body), "par s");
    // What an iteration of a loop inside has left for the next one.
    let window = |first: &str, store: &str, load: &str| {
        format!(
            "for i in 0..8 {{ %0: f32 = const 1.0 {first} for t in 1..7 {{ %1: f32 = load x[t] store s[{store}], %1 %2: f32 = load s[{load}] store y[8*i + t], %2 }} }}"
        )
    };
    assert_eq!(marked(XY, &window("store s[0], %0", "t", "t - 1")), "par s");
    assert_eq!(marked(XY, &window("store s[2], %0", "2*t + 2", "2*t")), "par s");
    for (first, store, load) in [
        ("store s[1], %0", "t", "t - 1"),
        ("store s[0], %0", "t + 1", "t - 1"),
        ("store s[0], %0", "2*t", "t - 1"),
        ("store s[0], %0 store s[1], %0", "2*t + 2", "2*t - 1"),
    ] {
        assert_eq!(marked(XY, &window(first, store, load)), "for", "{first} {store} {load}");
    }
    // A hole, a place that only one branch writes, and what the iteration before has left.
    for body in [
        "for i in 0..8 { for j in 0..64 step 16 { %0: f32x8 = load x[j] store s[j], %0 } for j.1 in 0..64 { %1: f32 = load s[j.1] store y[64*i + j.1], %1 } }",
        "for i in 0..8 { if 0 <= i < 4 { %0: f32 = const 1.0 store s[3], %0 } %2: f32 = load s[3] store y[i], %2 }",
        "for i in 0..8 { %2: f32 = load s[3] store y[i], %2 store s[3], %2 }",
    ] {
        assert_eq!(marked(XY, body), "for", "{body}");
    }
    // Read after the loop: it must be one for all.
    let body = "for i in 0..8 { %0: f32 = load x[i] store s[0], %0 %1: f32 = load s[0] store y[i], %1 } %2: f32 = load s[0] store y[9], %2";
    assert_eq!(marked(XY, body), "for");
}

#[test]
fn a_kernel_falls_into_pieces() {
    let text = "kernel @t (x: f32[64] read, y: f32[64] write, s: f32[64] readwrite) {
  %0: f32 = const 2.0
  for i in 0..64 {
    %1: f32 = load x[i]
    %2: f32 = mul %1, %0
    store s[i], %2
  }
  %3: f32 = load s[7]
  store y[0], %3
  par j in 1..64 {
    %4: f32 = load s[j]
    %5: f32 = add %4, %0
    store y[j], %5
  }
}
";
    let kernel = parse(text).unwrap();
    assert_eq!(verify(&kernel), []);
    eval_everywhere(&kernel, &mut numbered(&kernel)).unwrap();
    let parts = pieces(&kernel);
    let names: Vec<_> = parts.iter().map(|p| (p.kernel.name.as_str(), p.spread.as_ref().map(|s| s.n))).collect();
    assert_eq!(names, [("t/0", None), ("t/1", Some(63))]);
    assert!(parts.iter().all(|p| verify(&p.kernel).is_empty()));
    assert_eq!(parts[1].kernel.body.len(), 2, "{}", parts[1].kernel);
    // What a loop before has summed up cannot be had again.
    let sum = "kernel @t (x: f32[64] read, y: f32[64] write) {
  %0: f32 = const 0.0
  for i in 0..64 {
    %1: f32 = load x[i]
    %0: f32 = add %0, %1
  }
  par j in 0..64 {
    store y[j], %0
  }
}
";
    let kernel = parse(sum).unwrap();
    assert_eq!(pieces(&kernel), [Piece { kernel: kernel.clone(), spread: None, joined: false, turn: None }]);
    assert_eq!(
        marked(
            "x: f32[64] read, y: f32[64] write",
            sum.lines().skip(1).collect::<Vec<_>>().join("\n").replace("par", "for").trim_end().trim_end_matches('}')
        ),
        "for for"
    );
}

#[test]
fn the_verifier_refuses_what_is_not_proved() {
    let error = |text: &str| verify(&parse(text).unwrap()).iter().map(|e| e.to_string()).collect::<Vec<_>>();
    let text = "kernel @t (y: f32[8] write) { %0: f32 = const 0.0 par i in 0..8 { store y[0], %0 } }";
    assert_eq!(error(text), ["cannot prove that iterations do not write what others touch of `y`, in `par i in 0..8`"]);
    let text = "kernel @t (y: f32[8] write, s: f32[8] readwrite private) { par i in 0..8 { %0: f32 = load s[i] store y[i], %0 } }";
    assert_eq!(error(text), ["cannot prove that private `s` is written before it is read, in `par i in 0..8`"]);
    // Planes that two loops write one after the other, with holes between: nine of them at one distance.
    let planes = |last: i64| {
        format!(
            "kernel @t (y: f32[8] write, s: f32[108] readwrite private) {{ %0: f32x8 = const 0.0 par i in 0..8 {{
               for j in 0..3 {{ store s[36*j], %0 store s[36*j + 12], %0 store s[36*j + 24], %0 }}
               for k in 0..{last} {{ %1: f32 = load s[12*k + 7] store y[i], %1 }} }} }}"
        )
    };
    assert_eq!(error(&planes(9)), Vec::<String>::new());
    assert_eq!(error(&planes(9).replace("+ 7", "+ 8")).len(), 1);
    // What one thread runs between two loops is one piece: it may write in one statement what it reads in the next.
    let tail = |last: &str| {
        format!(
            "kernel @t (y: f32[9] write, s: f32[8] readwrite private) {{ %0: f32x8 = const 0.0
               par i in 0..8 {{ store s[0], %0 %1: f32 = load s[i] store y[i], %1 }}
               {last}
               for k in 0..1 {{ %2: f32 = load s[7] store y[8], %2 }} }}"
        )
    };
    assert_eq!(error(&tail("store s[0], %0")), Vec::<String>::new());
    assert_eq!(error(&tail("")), ["cannot prove that private `s` is written before it is read, in `for k in 0..1`"]);
    let text = "kernel @t (y: f32[8] write private) { }";
    assert_eq!(error(text), ["private `y` is not scratch that is written and read"]);
}

#[test]
fn one_place_for_two_buffers_is_looked_at_as_one_buffer() {
    let kernel = |body: &str| parse(&format!("kernel @t (x: f32[64] read, y: f32[64] write) {{ {body} }}")).unwrap();
    let both = [(BufferId(0), BufferId(1), true)];
    let same = kernel("par i in 0..8 { %0: f32 = load x[i] store y[i], %0 }");
    assert!(stays_parallel(&same, &both));
    assert!(!stays_parallel(&same, &[(BufferId(0), BufferId(1), false)]));
    let next = kernel("par i in 0..8 { %0: f32 = load x[i + 1] store y[i], %0 }");
    assert!(!stays_parallel(&next, &both));
    assert!(!serial(&next).to_string().contains("par "));
}

const STRIDES: [u64; 9] = [1, 2, 3, 4, 6, 8, 12, 16, 24];

/// Random numbers below what is asked for.
fn numbers(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |n| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % n
    }
}

/// An access of `lanes` elements of `y`, as text.
fn access_of_y(at: &str, lanes: u64, stores: bool) -> String {
    let ty = if lanes == 1 { "f32".to_owned() } else { format!("f32x{lanes}") };
    if stores { format!("%{lanes}: {ty} = const 0.0 store y[{at}], %{lanes}") } else { format!("%{}: {ty} = load y[{at}]", lanes + 10) }
}

/// Affine accesses with random strides: no two iterations of a loop that is called parallel touch an element that one of them writes.
#[test]
fn random_loops_that_are_called_parallel_are() {
    let mut parallel = 0;
    for seed in 0..4000u64 {
        let mut next = numbers(seed);
        let (n, m, k) = (2 + next(4), 1 + next(4), 1 + next(3));
        let own = STRIDES[next(9) as usize] * (1 + next(4));
        let mut access = |verb: &str| {
            let [a, b, c] = [0; 3].map(|_| STRIDES[next(9) as usize]);
            let a = if next(4) == 0 { a } else { own };
            let lanes = 1 << next(3);
            (a, b, c, next(30), lanes, verb.to_owned())
        };
        let accesses = [access("store"), access("store"), access("load")];
        let text = |(a, b, c, d, lanes, verb): &(u64, u64, u64, u64, u64, String)| {
            access_of_y(&format!("{a}*i + {b}*j + {c}*h + {d}"), *lanes, verb == "store")
        };
        let body: Vec<String> = accesses.iter().take(2 + (seed % 2) as usize).map(text).collect();
        let kernel = format!(
            "kernel @t (y: f32[2000] readwrite) {{ for i in 0..{n} {{ for j in 0..{m} {{ for h in 0..{k} {{ {} }} }} }} }}",
            body.join(" ")
        );
        let kernel = parse(&kernel).unwrap();
        let Stmt::Loop(l) = &kernel.body[0] else { panic!() };
        let mut owner: HashMap<u64, (u64, bool)> = HashMap::new();
        let mut collide = false;
        for i in 0..n {
            for (j, h) in (0..m).flat_map(|j| (0..k).map(move |h| (j, h))) {
                for (a, b, c, d, lanes, verb) in accesses.iter().take(body.len()) {
                    for e in 0..*lanes {
                        let (at, stores) = (a * i + b * j + c * h + d + e, verb == "store");
                        let seen = owner.entry(at).or_insert((i, stores));
                        collide |= seen.0 != i && (seen.1 || stores);
                        *seen = (i, seen.1 && seen.0 == i || stores);
                    }
                }
            }
        }
        let proved = collisions(&kernel, l).is_empty();
        parallel += u32::from(proved);
        assert!(!(proved && collide), "seed {seed}: {kernel}");
    }
    assert!(parallel > 100, "{parallel}");
}

/// As above, of two loops: where they are called apart, neither writes what the other one touches.
#[test]
fn random_loops_that_are_joined_are_apart() {
    let mut n_joined = 0;
    for seed in 0..4000u64 {
        let mut next = numbers(seed);
        let mut one = |name: &str| {
            let (n, m, a, b) = (2 + next(4), 1 + next(4), STRIDES[next(9) as usize], STRIDES[next(9) as usize]);
            let (constant, lanes, stores) = (next(60), 1 << next(3), next(3) > 0);
            let access = access_of_y(&format!("{a}*{name} + {b}*{name}.1 + {constant}"), lanes, stores);
            let text = format!("for {name} in 0..{n} {{ for {name}.1 in 0..{m} {{ {access} }} }}");
            let all = (0..n).flat_map(|i| (0..m).map(move |j| a * i + b * j + constant)).flat_map(|at| at..at + lanes);
            (text, all.collect::<Vec<u64>>(), stores)
        };
        let (a, b) = (one("i"), one("j"));
        let kernel = parse(&format!("kernel @t (y: f32[400] readwrite) {{ {} {} }}", a.0, b.0)).unwrap();
        let meet = (a.2 || b.2) && a.1.iter().any(|x| b.1.contains(x));
        let proved = apart(&kernel, &kernel.body[0], &kernel.body[1]);
        n_joined += u32::from(proved && (a.2 || b.2));
        assert!(!(proved && meet), "seed {seed}: {kernel}");
    }
    assert!(n_joined > 100, "{n_joined}");
}

#[test]
fn loops_beside_each_other_are_joined() {
    let joined = |body: &str| {
        let kernel = parse(&format!("kernel @t ({XY}) {{ {body} }}")).unwrap();
        assert_eq!(verify(&kernel), []);
        eval_everywhere(&kernel, &mut numbered(&kernel)).unwrap();
        pieces(&kernel).iter().map(|p| p.joined).collect::<Vec<_>>()
    };
    // A product in tiles: rows, then columns of the rows that are left.
    let rows = "par i in 0..48 step 16 { for j in 0..64 { %0: f32 = load x[j] store y[64*i + j], %0 } }";
    let rest = "%2: f32 = const 1.0 par j.1 in 0..64 step 8 { for i.1 in 48..52 { store y[64*i.1 + j.1], %2 } }";
    assert_eq!(joined(&format!("{rows} {rest}")), [false, true]);
    // What it reads, the one before has written; what is between them runs between them.
    assert_eq!(joined(&format!("{rows} par k in 0..64 {{ %3: f32 = load y[k] store s[k], %3 }}")), [false, false]);
    assert_eq!(joined(&format!("{rows} %3: f32 = const 0.0 store s[0], %3 {rest}")), [false, false, false]);
    // Two loops that are hardly worth it alone are so together.
    let text = format!("kernel @t ({XY}) {{ {} {} }}", rows.replace("par", "for"), rest.replace("par", "for"));
    let marked = |least_work: u64| {
        let mut kernel = parse(&text).unwrap();
        mark(&mut kernel, least_work, |_, _| false);
        pieces(&kernel).iter().filter(|p| p.spread.is_some()).count()
    };
    let works: Vec<u64> = parse(&text).map(|k| k.body.iter().map(|s| work(&k, s)).collect()).unwrap();
    assert_eq!([marked(works[0] + works[2]), marked(works[0] + works[2] + 1), marked(works[0].max(works[2]) + 1)], [2, 0, 2]);
}

#[test]
fn work_is_what_is_reached_while_the_loops_around_stand_still() {
    // A sum down the columns adds row to row: one of 64 columns each time.
    let text = "kernel @t (x: f32[4096] read, y: f32[4096] readwrite) { for t in 0..63 { for i in 0..64 {
        %0: f32 = load y[64*t + i] %1: f32 = load x[64*t + i + 64] %2: f32 = add %0, %1 store y[64*t + i + 64], %2 } } }";
    let kernel = parse(text).unwrap();
    let Stmt::Loop(rows) = &kernel.body[0] else { panic!("a loop") };
    let bytes = |stmt: &Stmt, operations: u64| work(&kernel, stmt) - operations;
    // A row of x, and two of y; all of both.
    assert_eq!([bytes(&rows.body[0], 64 * 7), bytes(&kernel.body[0], 63 * (64 * 7 + 2))], [(64 + 128) * 4 / 16, (63 * 64 + 4096) * 4 / 16]);
}

#[test]
fn iterations_that_are_joined_count_by_their_work() {
    let spread = |n: i64, work: u64| Spread { n, work, live: None, inner: vec![], fixed: work / 2 };
    let (rows, rest) = (spread(9, 9000), spread(9, 900));
    let (both, weights) = Spread::joined(&[&rows, &rest]);
    assert_eq!((weights, both), (vec![10, 1], Spread { n: 99, work: 9900, live: None, inner: vec![], fixed: 4950 }));
}

const OVER_TIME: &str = "kernel @t (x: f32[32] read, w: f32[64] read, h: f32[8] readwrite, g: f32[8] readwrite, y: f32[32] write) {
  %9: f32 = const 0.5
  for t in 0..4 {
    %8: f32 = load x[8*t]
    for j in 0..8 {
      %0: f32 = load x[8*t + j]
      for k in 0..8 {
        %1: f32 = load w[8*j + k]
        %2: f32 = load h[k]
        %3: f32 = mul %1, %2
        %0: f32 = add %0, %3
      }
      store g[j], %0
    }
    for j.1 in 0..8 {
      %4: f32 = load g[j.1]
      %5: f32 = mul %4, %9
      %6: f32 = add %5, %8
      store h[j.1], %6
      store y[8*t + j.1], %6
    }
  }
}
";

#[test]
fn a_loop_over_time_takes_turns() {
    let whole = parse(OVER_TIME).unwrap();
    let mut kernel = whole.clone();
    mark(&mut kernel, 0, |_, b| b.access == Access::ReadWrite);
    assert_eq!(verify(&kernel), []);
    let parts = pieces(&kernel);
    let spreads: Vec<_> = parts.iter().map(|p| (p.spread.as_ref().map(|s| s.n), p.joined, p.turn.map(|t| t.numbers))).collect();
    assert_eq!(spreads, [(Some(8), false, Some((0, 4, 1))); 2]);
    assert!(parts.iter().all(|p| verify(&p.kernel).is_empty() && p.kernel.sizes.len() == 1), "{}", parts[0].kernel);
    let (mut expected, mut found) = (numbered(&whole), numbered(&whole));
    eval(&whole, &mut expected).unwrap();
    for t in 0..4 {
        for part in &parts {
            eval_sized(&part.kernel, &mut found, &[t], true).unwrap();
        }
    }
    assert_eq!(found, expected);
    eval_everywhere(&kernel, &mut numbered(&whole)).unwrap();
    // Each thread has scratch of its own where a piece of a turn writes it first.
    let own = OVER_TIME
        .replace("store g[j], %0", "store g[0], %0 %7: f32 = load g[0] store y[8*t + j], %7")
        .replace("%4: f32 = load g[j.1]", "%4: f32 = load y[8*t + j.1]");
    let own = own.replace("y: f32[32] write", "y: f32[32] readwrite");
    let mut kernel = parse(&own).unwrap();
    mark(&mut kernel, 0, |_, b| b.name == "g");
    assert_eq!((verify(&kernel), kernel.buffers[3].private), (vec![], true));
    assert_eq!(pieces(&kernel).iter().map(|p| p.spread.is_some() && p.turn.is_some()).collect::<Vec<_>>(), [true; 2]);
    eval_everywhere(&kernel, &mut numbered(&kernel)).unwrap();
    // Its numbers are none below nothing.
    let below = OVER_TIME.replace("for t in 0..4", "for t in -4..0").replace("8*t", "8*t + 32");
    let mut kernel = parse(&below).unwrap();
    mark(&mut kernel, 0, |_, b| b.access == Access::ReadWrite);
    assert_eq!((verify(&kernel), kernel.to_string().contains("par ")), (vec![], false));
    // Where threads would pass registers or scratch of their own on, one of them does all.
    let carried = OVER_TIME.replace("%9: f32 = const 0.5", "%9: f32 = const 0.5 %8: f32 = const 0.0");
    let mut kernel = parse(&carried).unwrap();
    mark(&mut kernel, 0, |_, _| true);
    assert!(pieces(&kernel).iter().all(|p| p.turn.is_none()));
    let text = OVER_TIME.replace("g: f32[8] readwrite", "g: f32[8] readwrite private").replace("for j", "par j");
    let errors: Vec<String> = verify(&parse(&text).unwrap()).iter().map(|e| e.to_string()).collect();
    assert_eq!(errors, ["cannot prove that private `g` is written before it is read, in `for t in 0..4`"]);
}

#[test]
fn what_a_run_shortens_of_the_work_is_told_from_what_it_does_not() {
    let text = "kernel @t (w: f32[4096] read, x: f32[512] read, y: f32[512] write) sizes n <= 16, n.1 <= 32, n.2 <= 32 {
        par p in 0..16 {
            if 1 <= n.1 < 33 { for i in 0..n.1 of 0..32 step 8 { %0: f32 = load w[273*p] %1: f32x8 = load x[i] store y[32*p + i], %1 } }
            if 1 <= -n.1 + n.2 < 33 { for j in n.1..n.2 of 0..32 { %2: f32 = load x[j] store y[32*p + j], %2 } }
        }
    }";
    let kernel = parse(text).unwrap();
    assert_eq!(verify(&kernel), []);
    for sizes in [[16, 32, 32], [1, 8, 29], [2, 24, 24], [3, 0, 5]] {
        eval_sized_everywhere(&kernel, &mut numbered(&kernel), &sizes, true).unwrap();
    }
    let spread = pieces(&kernel)[0].spread.clone().unwrap();
    let size = |i: usize| crate::nest::Affine::var(kernel.sizes[i].var);
    // All rows that both loops run over, and the weights, which no run has fewer of.
    assert_eq!(spread.inner, [(size(2), 32)]);
    assert_eq!(spread.fixed, 4096 * 4 / 16);
    // No run has all rows in one of the ways to cut them and again in another.
    let other = "if 1 <= n < 17 { for k in 0..n of 0..16 step 4 { %3: f32x4 = load x[k] store y[32*p + k], %3 } }";
    let ways = parse(&text.replacen("par p in 0..16 {", &format!("par p in 0..16 {{ {other}"), 1)).unwrap();
    let of_ways = pieces(&ways)[0].spread.clone().unwrap();
    assert_eq!((of_ways.inner.len(), of_ways.inner[0].1, of_ways.work), (1, 32, spread.work));
    // A run of half of the rows, in both ways of which one is not for it.
    let value = |var| kernel.sizes.iter().position(|s| s.var == var).map_or(0, |i| [0, 8, 16][i]);
    // Of sixteen iterations, each a whole number.
    assert_eq!(spread.work_of(16, value) / 16, (spread.fixed + (spread.work - spread.fixed) / 2) / 16);
}
