//! The text of kernels. The grammar is at the top of [`super::parse`].

use std::fmt::{self, Write};

use super::ir::{Access, Affine, BinaryOp, BufferId, CompareOp, Cond, Index, Kernel, Loop, Op, Reg, Scalar, Stmt, UnaryOp, Var};
use crate::tensor::DType;

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Text::new(self);
        write!(f, "kernel @{} ", name(&self.name))?;
        if !self.schedule.is_empty() {
            write!(f, "{} ", self.schedule)?;
        }
        f.write_char('(')?;
        for (i, b) in self.buffers.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            let private = if b.private { " private" } else { "" };
            write!(f, "{}: {}[{}] {}{private}", name(&b.name), b.dtype, b.len, b.access)?;
        }
        f.write_str(")")?;
        for (i, s) in self.sizes.iter().enumerate() {
            let separator = if i == 0 { " sizes " } else { ", " };
            match s.most {
                None => write!(f, "{separator}{} <= {}", text.var(s.var), s.high)?,
                Some(most) => write!(f, "{separator}{} <= min({}, {})", text.var(s.var), s.high, text.var(most))?,
            }
        }
        f.write_str(" {\n")?;
        text.block(f, &self.body, 1)?;
        f.write_str("}\n")
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::ReadWrite => "readwrite",
        })
    }
}

impl UnaryOp {
    /// All, in declaration order.
    pub const ALL: [UnaryOp; 8] =
        [UnaryOp::Neg, UnaryOp::Abs, UnaryOp::Sqrt, UnaryOp::Floor, UnaryOp::Ceil, UnaryOp::Trunc, UnaryOp::Round, UnaryOp::Not];

    /// The name in text.
    pub fn name(self) -> &'static str {
        match self {
            UnaryOp::Neg => "neg",
            UnaryOp::Abs => "abs",
            UnaryOp::Sqrt => "sqrt",
            UnaryOp::Floor => "floor",
            UnaryOp::Ceil => "ceil",
            UnaryOp::Trunc => "trunc",
            UnaryOp::Round => "round",
            UnaryOp::Not => "not",
        }
    }
}

impl BinaryOp {
    /// All, in declaration order.
    pub const ALL: [BinaryOp; 12] = [
        BinaryOp::Add,
        BinaryOp::Sub,
        BinaryOp::Mul,
        BinaryOp::Div,
        BinaryOp::Rem,
        BinaryOp::Min,
        BinaryOp::Max,
        BinaryOp::And,
        BinaryOp::Or,
        BinaryOp::Xor,
        BinaryOp::Shl,
        BinaryOp::Shr,
    ];

    /// The name in text.
    pub fn name(self) -> &'static str {
        match self {
            BinaryOp::Add => "add",
            BinaryOp::Sub => "sub",
            BinaryOp::Mul => "mul",
            BinaryOp::Div => "div",
            BinaryOp::Rem => "rem",
            BinaryOp::Min => "min",
            BinaryOp::Max => "max",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
            BinaryOp::Xor => "xor",
            BinaryOp::Shl => "shl",
            BinaryOp::Shr => "shr",
        }
    }
}

impl CompareOp {
    /// All, in declaration order.
    pub const ALL: [CompareOp; 6] = [CompareOp::Eq, CompareOp::Ne, CompareOp::Lt, CompareOp::Le, CompareOp::Gt, CompareOp::Ge];

    /// The name in text.
    pub fn name(self) -> &'static str {
        match self {
            CompareOp::Eq => "eq",
            CompareOp::Ne => "ne",
            CompareOp::Lt => "lt",
            CompareOp::Le => "le",
            CompareOp::Gt => "gt",
            CompareOp::Ge => "ge",
        }
    }
}

/// Whether `s` stands in text without quotes.
pub(super) fn is_plain_name(s: &str) -> bool {
    let mut chars = s.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_') && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
}

/// The name, quoted if it is odd.
fn name(s: &str) -> String {
    if is_plain_name(s) {
        return s.to_owned();
    }
    let mut out = String::from("\"");
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Prints parts of one kernel; indices that the kernel does not have print as `?`.
pub(super) struct Text<'a> {
    kernel: &'a Kernel,
    // Position of each variable's loop in the text: terms are printed in that order.
    order: Vec<usize>,
}

impl<'a> Text<'a> {
    pub(super) fn new(kernel: &'a Kernel) -> Self {
        fn walk(body: &[Stmt], order: &mut [usize], next: &mut usize) {
            for s in body {
                match s {
                    Stmt::Loop(l) => {
                        if let Some(at) = order.get_mut(l.var.0 as usize) {
                            *at = *next;
                            *next += 1;
                        }
                        walk(&l.body, order, next);
                    }
                    Stmt::If { then, otherwise, .. } => {
                        walk(then, order, next);
                        walk(otherwise, order, next);
                    }
                    Stmt::Set { .. } | Stmt::Store { .. } | Stmt::Prefetch { .. } => {}
                }
            }
        }
        let mut order = vec![usize::MAX; kernel.vars.len()];
        let mut next = 0;
        walk(&kernel.body, &mut order, &mut next);
        for (i, s) in kernel.sizes.iter().enumerate() {
            if let Some(at) = order.get_mut(s.var.0 as usize) {
                *at = next + i;
            }
        }
        Text { kernel, order }
    }

    fn block(&self, f: &mut impl Write, body: &[Stmt], depth: usize) -> fmt::Result {
        let indent = "  ".repeat(depth);
        for s in body {
            write!(f, "{indent}{}", self.head(s))?;
            match s {
                Stmt::Loop(l) => {
                    f.write_str(" {\n")?;
                    self.block(f, &l.body, depth + 1)?;
                    write!(f, "{indent}}}")?;
                }
                Stmt::If { then, otherwise, .. } => {
                    f.write_str(" {\n")?;
                    self.block(f, then, depth + 1)?;
                    write!(f, "{indent}}}")?;
                    if !otherwise.is_empty() {
                        f.write_str(" else {\n")?;
                        self.block(f, otherwise, depth + 1)?;
                        write!(f, "{indent}}}")?;
                    }
                }
                Stmt::Set { .. } | Stmt::Store { .. } | Stmt::Prefetch { .. } => {}
            }
            f.write_char('\n')?;
        }
        Ok(())
    }

    /// The statement without the blocks inside it.
    pub(super) fn head(&self, s: &Stmt) -> String {
        match s {
            Stmt::Loop(Loop { var, start, end, step, live, parallel, .. }) => {
                let word = if *parallel { "par" } else { "for" };
                let step = if *step == 1 { String::new() } else { format!(" step {step}") };
                let live = live.as_ref().map_or(String::new(), |l| format!("{}..{} of ", self.affine(&l.from), self.affine(&l.to)));
                format!("{word} {} in {live}{start}..{end}{step}", self.var(*var))
            }
            Stmt::Set { reg, op } => format!("{}: {} = {}", self.reg(*reg), self.ty(*reg), self.op(*reg, op)),
            Stmt::Store { buffer, index, value } => format!("store {}, {}", self.access(*buffer, index), self.reg(*value)),
            Stmt::Prefetch { buffer, index } => format!("prefetch {}", self.access(*buffer, &Index::from(index.clone()))),
            Stmt::If { cond: Cond::Reg(r), .. } => format!("if {}", self.reg(*r)),
            Stmt::If { cond: Cond::Within(ranges), .. } => {
                if ranges.is_empty() {
                    return "if true".to_owned();
                }
                let ranges: Vec<_> = ranges.iter().map(|(a, low, high)| format!("{low} <= {} < {high}", self.affine(a))).collect();
                format!("if {}", ranges.join(" and "))
            }
        }
    }

    fn ty(&self, r: Reg) -> String {
        self.kernel.regs.get(r.0 as usize).map_or("?".to_owned(), |ty| ty.to_string())
    }

    fn reg(&self, r: Reg) -> String {
        format!("%{}", r.0)
    }

    fn regs(&self, regs: &[Reg]) -> String {
        regs.iter().map(|&r| self.reg(r)).collect::<Vec<_>>().join(", ")
    }

    fn var(&self, v: Var) -> String {
        self.kernel.vars.get(v.0 as usize).map_or("?".to_owned(), |v| name(v))
    }

    fn access(&self, buffer: BufferId, index: &Index) -> String {
        let buffer = self.kernel.buffers.get(buffer.0 as usize).map_or("?".to_owned(), |b| name(&b.name));
        format!("{buffer}[{}]", self.index(index))
    }

    fn index(&self, index: &Index) -> String {
        let mut sum = Sum::default();
        self.add_affine(&mut sum, &index.affine);
        for &(r, stride) in &index.dynamic {
            sum.term(stride, &self.reg(r));
        }
        sum.finish()
    }

    pub(super) fn affine(&self, a: &Affine) -> String {
        let mut sum = Sum::default();
        self.add_affine(&mut sum, a);
        sum.finish()
    }

    fn add_affine(&self, sum: &mut Sum, a: &Affine) {
        let mut terms = a.terms.clone();
        terms.sort_by_key(|&(v, _)| self.order.get(v.0 as usize).copied().unwrap_or(usize::MAX));
        for (v, c) in terms {
            sum.term(c, &self.var(v));
        }
        if a.constant != 0 {
            sum.constant(a.constant);
        }
    }

    fn op(&self, target: Reg, op: &Op) -> String {
        match op {
            Op::Const(x) => format!("const {}", self.scalar(target, *x)),
            Op::Index(a) => format!("index {}", self.affine(a)),
            Op::Load { buffer, index } => format!("load {}", self.access(*buffer, index)),
            Op::Gather { buffer, index } => format!("gather {}", self.access(*buffer, index)),
            Op::Copy(a) => format!("copy {}", self.reg(*a)),
            Op::Splat(a) => format!("splat {}", self.reg(*a)),
            Op::Lane(a, lane) => format!("lane {}, {lane}", self.reg(*a)),
            Op::Pack(regs) => format!("pack {}", self.regs(regs)),
            Op::Unary(op, a) => format!("{} {}", op.name(), self.reg(*a)),
            Op::Binary(op, a, b) => format!("{} {}", op.name(), self.regs(&[*a, *b])),
            Op::Fma(a, b, c) => format!("fma {}", self.regs(&[*a, *b, *c])),
            Op::Compare(op, a, b) => format!("{} {}", op.name(), self.regs(&[*a, *b])),
            Op::Select(c, a, b) => format!("select {}", self.regs(&[*c, *a, *b])),
            Op::Convert(a) => format!("convert {}", self.reg(*a)),
            Op::Bitcast(a) => format!("bitcast {}", self.reg(*a)),
            Op::Dot(c, a, b) => format!("dot {}", self.regs(&[*c, *a, *b])),
            Op::Shuffle(order, a, b) => format!("{} {}", order.name(), self.regs(&[*a, *b])),
            Op::Horizontal(op, a) => format!("horizontal {} {}", op.name(), self.reg(*a)),
            Op::Check(a, end) => format!("check {}, {end}", self.reg(*a)),
        }
    }

    fn scalar(&self, target: Reg, x: Scalar) -> String {
        let dtype = self.kernel.regs.get(target.0 as usize).map(|ty| ty.dtype);
        match x {
            Scalar::Int(0) if dtype == Some(DType::Bool) => "false".to_owned(),
            Scalar::Int(1) if dtype == Some(DType::Bool) => "true".to_owned(),
            Scalar::Int(x) => x.to_string(),
            Scalar::Float(x) if x.is_nan() => "nan".to_owned(),
            Scalar::Float(x) if f64::from(x as f32) == x && dtype != Some(DType::F64) => format!("{:?}", x as f32),
            Scalar::Float(x) => format!("{x:?}"),
        }
    }
}

#[derive(Default)]
struct Sum(String);

impl Sum {
    fn sign(&mut self, negative: bool) {
        self.0.push_str(match (self.0.is_empty(), negative) {
            (true, false) => "",
            (true, true) => "-",
            (false, false) => " + ",
            (false, true) => " - ",
        });
    }

    fn term(&mut self, c: i64, what: &str) {
        self.sign(c < 0);
        if c.unsigned_abs() != 1 {
            self.0.push_str(&format!("{}*", c.unsigned_abs()));
        }
        self.0.push_str(what);
    }

    fn constant(&mut self, c: i64) {
        self.sign(c < 0);
        self.0.push_str(&c.unsigned_abs().to_string());
    }

    fn finish(self) -> String {
        if self.0.is_empty() { "0".to_owned() } else { self.0 }
    }
}
