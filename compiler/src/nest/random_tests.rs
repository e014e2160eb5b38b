//! Random kernels: what the bounds proof accepts never leaves its buffers, and every text reads back as itself.

use super::ir::{Kernel, Op, Scalar, Stmt};
use super::{EvalError, Problem, eval, parse, verify};

struct Random {
    seed: u64,
    text: String,
    buffers: Vec<usize>,
    vars: Vec<String>,
    n_vars: usize,
    // Registers that are set here, and all.
    known: Vec<usize>,
    n_regs: usize,
}

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % n
    }

    fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1) as u64) as i64
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }

    fn affine(&mut self) -> String {
        let mut sum = self.between(-4, 6).to_string();
        for v in self.vars.clone() {
            if self.below(4) > 0 {
                sum += &format!(" {} {}*{v}", self.pick(&["+", "+", "-"]), self.between(1, 4));
            }
        }
        sum
    }

    fn known(&mut self) -> usize {
        self.pick(&self.known.clone())
    }

    fn new_or_old(&mut self) -> usize {
        if self.below(3) == 0 {
            return self.known();
        }
        self.n_regs += 1;
        self.n_regs - 1
    }

    fn block(&mut self, depth: usize) {
        let (n_vars, n_known) = (self.vars.len(), self.known.len());
        for _ in 0..self.between(1, 5) {
            self.stmt(depth);
        }
        self.vars.truncate(n_vars);
        self.known.truncate(n_known);
    }

    /// Adds what says where lanes are, which is checked or clamped, and most often proved.
    fn places(&mut self, lanes: i64) -> usize {
        let first = self.n_regs;
        let (from, end) = (self.between(0, 4 - lanes), self.between(1, 20));
        let ty = |of: &str, i: usize| format!("%{}: {of}x{lanes} =", first + i);
        let mut line = |text: String| self.text += &format!("{text}\n");
        line(format!("{} load at[{from}]", ty("i64", 0)));
        let checked = (first + end as usize).is_multiple_of(9);
        let n = if checked {
            line(format!("{} check %{first}, {end}", ty("i64", 1)));
            line(format!("{} convert %{}", ty("i32", 2), first + 1));
            3
        } else {
            line(format!("{} convert %{first}", ty("i32", 1)));
            line(format!("{} const {end}", ty("i32", 2)));
            line(format!("{} min %{}, %{}", ty("i32", 3), first + 1, first + 2));
            line(format!("{} const 0", ty("i32", 4)));
            line(format!("{} max %{}, %{}", ty("i32", 5), first + 3, first + 4));
            if end % 3 == 0 {
                line(format!("{} check %{}, {end}", ty("i32", 6), first + 5));
            }
            if end % 3 == 0 { 7 } else { 6 }
        };
        self.n_regs += n;
        self.n_regs - 1
    }

    fn stmt(&mut self, depth: usize) {
        match self.below(if depth < 4 { 10 } else { 6 }) {
            0..3 => {
                let (a, b) = (self.known(), self.known());
                let op = match self.below(12) {
                    0 | 1 => format!("index {}", self.affine()),
                    2 => format!("const {}", self.between(-3, 9)),
                    3 => format!("load at[{}]", self.between(0, 3)),
                    4 => format!("check %{a}, {}", self.between(1, 20)),
                    5 => format!("{} %{a}", self.pick(&["neg", "abs", "copy"])),
                    6 => format!("fma %{a}, %{b}, %{a}"),
                    7 => format!("select %0, %{a}, %{b}"),
                    // %1 is 3.
                    8 => format!("{} %{a}, %1", self.pick(&["div", "rem", "shl", "shr", "and"])),
                    _ => format!("{} %{a}, %{b}", self.pick(&["add", "sub", "mul", "min", "max", "and", "div", "rem"])),
                };
                let reg = self.new_or_old();
                if reg > 1 {
                    self.text += &format!("%{reg}: i64 = {op}\n");
                    self.known.push(reg);
                }
            }
            3..6 => {
                if self.below(6) == 0 {
                    // Bounds do not matter to it.
                    let index = self.affine();
                    self.text += &format!("prefetch at[{index}]\n");
                }
                let lanes = self.pick(&[1, 1, 2, 4]);
                let mut index = self.affine();
                if self.below(3) == 0 {
                    index += &format!(" + {}*%{}", self.between(1, 3), self.known());
                }
                let mut op = "load";
                if lanes > 1 && self.below(2) == 0 {
                    index += &format!(" + %{}", self.places(lanes));
                    op = "gather";
                }
                let ty = if lanes == 1 { "f32".to_owned() } else { format!("f32x{lanes}") };
                self.text += &format!("%{}: {ty} = {op} x{}[{index}]\n", self.n_regs, self.buffers.len());
                self.n_regs += 1;
                let len = self.between(1, 60);
                self.buffers.push(len as usize);
            }
            6 | 7 => {
                let (start, step, trips) = (self.between(-3, 4), self.between(1, 3), self.between(1, 5));
                self.text += &format!("for v{} in {start}..{} step {step} {{\n", self.n_vars, start + step * trips);
                self.vars.push(format!("v{}", self.n_vars));
                self.n_vars += 1;
                self.block(depth + 1);
                self.vars.pop();
                self.text += "}\n";
            }
            _ => {
                let ranges: Vec<_> = (0..self.between(1, 3))
                    .map(|_| {
                        let low = self.between(-5, 8);
                        format!("{low} <= {} < {}", self.affine(), low + self.between(0, 12))
                    })
                    .collect();
                let cond = if self.below(8) == 0 { "%0".to_owned() } else { ranges.join(" and ") };
                self.text += &format!("if {cond} {{\n");
                self.block(depth + 1);
                self.text += "} else {\n";
                self.block(depth + 1);
                self.text += "}\n";
            }
        }
    }

    fn kernel(seed: u64) -> (Kernel, String) {
        let mut r = Random { seed, text: String::new(), buffers: vec![], vars: vec![], n_vars: 0, known: vec![1], n_regs: 2 };
        (0..6).for_each(|_| r.stmt(0));
        let mut buffers = "at: i64[4] read".to_owned();
        for (i, len) in r.buffers.iter().enumerate() {
            buffers += &format!(", x{i}: f32[{len}] read");
        }
        let flag = r.pick(&["true", "false"]);
        let text = format!("kernel @random ({buffers}) {{\n%0: bool = const {flag}\n%1: i64 = const 3\n{}}}\n", r.text);
        (parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}")), text)
    }
}

/// Replaces loads of the named buffers by constants.
fn remove_loads(body: &mut [Stmt], buffers: &[u32]) {
    for s in body {
        match s {
            Stmt::Loop(l) => remove_loads(&mut l.body, buffers),
            Stmt::If { then, otherwise, .. } => {
                remove_loads(then, buffers);
                remove_loads(otherwise, buffers);
            }
            Stmt::Set { op, .. } => match op {
                Op::Load { buffer, .. } | Op::Gather { buffer, .. } if buffers.contains(&buffer.0) => *op = Op::Const(Scalar::Float(0.0)),
                _ => {}
            },
            Stmt::Store { .. } | Stmt::Prefetch { .. } => {}
        }
    }
}

#[test]
fn what_is_proved_never_leaves_its_buffers() {
    let (mut n_proved, mut n_loads, mut n_finished) = (0, 0, 0);
    for seed in 0..300 {
        let (mut kernel, text) = Random::kernel(seed);
        let printed = kernel.to_string();
        assert_eq!(parse(&printed).unwrap().to_string(), printed);

        let mut unproved = vec![];
        for e in verify(&kernel) {
            match e.problem {
                Problem::Bounds { buffer, .. } => unproved.push(kernel.buffers.iter().position(|b| b.name == buffer).unwrap() as u32),
                problem => panic!("{problem}\n{text}"),
            }
        }
        n_loads += kernel.buffers.len() - 1;
        n_proved += kernel.buffers.len() - 1 - unproved.len();
        remove_loads(&mut kernel.body, &unproved);
        assert_eq!(verify(&kernel), []);

        let mut buffers: Vec<Vec<u8>> = kernel.buffers.iter().map(|b| vec![0; b.len * b.dtype.size_bytes()]).collect();
        for (i, at) in [seed as i64 % 7, -1, 5, i64::MAX].into_iter().enumerate() {
            buffers[0][8 * i..8 * (i + 1)].copy_from_slice(&at.to_le_bytes());
        }
        // Machine code must end as the interpreter does; a few are enough.
        let run = if seed % 20 == 0 { crate::codegen::testing::eval } else { eval };
        match run(&kernel, &mut buffers) {
            Ok(()) => n_finished += 1,
            Err(EvalError::IndexOutOfRange { .. }) => {}
            Err(e) => panic!("seed {seed}: {e}\n{text}"),
        }
    }
    // The kernels must not be all trivial.
    assert!(n_proved * 10 > n_loads && n_finished > 100, "{n_proved} of {n_loads} loads proved, {n_finished} kernels finished");
}
