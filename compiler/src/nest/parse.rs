//! Reads the text of kernels; [`super::print`] writes it. The result is not verified.
//!
//! ```text
//! kernel  = "kernel" "@" name [schedule] "(" [buffer {"," buffer}] ")" ["sizes" size {"," size}] block
//! size    = name "<=" (int | "min" "(" int "," name ")")
//! buffer  = name ":" dtype "[" int "]" ("read" | "write" | "readwrite") ["private"]
//! block   = "{" {loop | set | store | if} "}"
//! loop    = ("for" | "par") name "in" [sum ".." sum "of"] int ".." int ["step" int] block
//! set     = reg ":" dtype ["x" lanes] "=" op
//! store   = "store" name "[" sum "]" "," reg
//! if      = "if" (reg | "true" | within {"and" within}) block ["else" block]
//! within  = int "<=" sum "<" int
//! op      = "const" (number | "true" | "false") | "index" sum | ("load" | "gather") name "[" sum "]"
//!         | "lane" reg "," int | "check" reg "," int | "horizontal" word reg
//!         | ("pack" | "copy" | "splat" | "convert" | "bitcast" | "select" | "fma" | "dot" | word) reg {"," reg}
//! sum     = ["-"] term {("+" | "-") term}
//! term    = int ["*" (name | reg)] | name | reg
//! reg     = "%" int
//! name    = letters, digits, "_" and "." | quoted, with "\" before quotes
//! ```
//!
//! `schedule` is everything on the line before ` (`. `//` starts a comment.

use super::ir::{
    Access, Affine, BinaryOp, Buffer, BufferId, CompareOp, Cond, Index, Kernel, Live, Loop, Op, Reg, Scalar, Shuffle, SizeVar, Stmt,
    UnaryOp, Var, VecType,
};
use crate::lexer::{Lexer, Result, reads_tokens};
use crate::tensor::DType;

/// Register numbers and nesting that no kernel reaches; they bound what hostile text can ask for.
const MAX_REG: usize = 1 << 20;
const MAX_DEPTH: usize = 100;

pub use crate::lexer::ParseError;

/// The kernel with the given text.
pub fn parse(text: &str) -> Result<Kernel, ParseError> {
    let mut p = Parser { lexer: Lexer::new(text), kernel: Kernel::default(), regs: vec![], depth: 0, open: vec![] };
    p.kernel()?;
    Ok(p.kernel)
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    kernel: Kernel,
    regs: Vec<Option<VecType>>,
    depth: usize,
    // Variables of the open loops.
    open: Vec<Var>,
}

reads_tokens!(Parser);

impl<'a> Parser<'a> {
    /// A name: a number is none, unless it is in quotes.
    fn identifier(&mut self) -> Result<String> {
        if self.peek().starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return self.expected("a name");
        }
        self.name()
    }

    fn kernel(&mut self) -> Result<()> {
        self.expect_word("kernel")?;
        self.expect("@")?;
        self.kernel.name = self.identifier()?;
        let line = self.rest().lines().next().unwrap_or("");
        let Some(end) = line.find(" (") else {
            return self.error("expected ` (` and the buffers on the kernel's line");
        };
        self.kernel.schedule = line[..end].trim().to_owned();
        self.advance(end);
        self.list("(", ")", |p| {
            let buffer = p.buffer()?;
            if p.kernel.buffers.iter().any(|b| b.name == buffer.name) {
                return p.error(format!("two buffers are named `{}`", buffer.name));
            }
            p.kernel.buffers.push(buffer);
            Ok(())
        })?;
        if self.eat_word("sizes") {
            let mut bounded = vec![];
            loop {
                let name = self.identifier()?;
                if self.kernel.vars.contains(&name) {
                    return self.error(format!("two sizes are named `{name}`"));
                }
                self.expect("<=")?;
                let var = Var(self.kernel.vars.len() as u32);
                self.kernel.vars.push(name);
                self.open.push(var);
                let size = if self.eat_word("min") {
                    self.expect("(")?;
                    let high = self.int()?;
                    self.expect(",")?;
                    let most = self.identifier()?;
                    self.expect(")")?;
                    bounded.push((self.kernel.sizes.len(), most));
                    SizeVar { var, high, most: None }
                } else {
                    SizeVar { var, high: self.int()?, most: None }
                };
                self.kernel.sizes.push(size);
                if !self.eat(",") {
                    break;
                }
            }
            for (i, name) in bounded {
                let Some(at) = self.kernel.vars.iter().position(|v| *v == name) else {
                    return self.error(format!("there is no size `{name}`"));
                };
                self.kernel.sizes[i].most = Some(Var(at as u32));
            }
        }
        self.kernel.body = self.block()?;
        self.end()?;
        let unused = VecType::scalar(DType::I64);
        self.kernel.regs = self.regs.iter().map(|ty| ty.unwrap_or(unused)).collect();
        Ok(())
    }

    fn dtype(&mut self) -> Result<DType> {
        let word = self.word("a word")?;
        word.parse().or_else(|message: String| self.error(message))
    }

    fn buffer(&mut self) -> Result<Buffer> {
        let name = self.identifier()?;
        self.expect(":")?;
        let dtype = self.dtype()?;
        self.expect("[")?;
        let len = self.small()?;
        self.expect("]")?;
        let access = match self.word("a word")? {
            "read" => Access::Read,
            "write" => Access::Write,
            "readwrite" => Access::ReadWrite,
            word => return self.error(format!("expected `read`, `write` or `readwrite`, found `{word}`")),
        };
        let private = self.eat_word("private");
        Ok(Buffer { name, dtype, len, access, private })
    }

    fn block(&mut self) -> Result<Vec<Stmt>> {
        self.expect("{")?;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.error("blocks are nested too deeply");
        }
        let mut body = vec![];
        while !self.eat("}") {
            body.push(self.stmt()?);
        }
        self.depth -= 1;
        Ok(body)
    }

    fn stmt(&mut self) -> Result<Stmt> {
        match self.peek() {
            "" => self.set(),
            "for" | "par" => self.a_loop(),
            "store" => {
                self.word("a word")?;
                let (buffer, index) = self.access()?;
                self.expect(",")?;
                let value = self.known_reg()?;
                Ok(Stmt::Store { buffer, index, value })
            }
            "prefetch" => {
                self.word("a word")?;
                let (buffer, index) = self.access()?;
                if !index.dynamic.is_empty() {
                    return self.error("the index of `prefetch` has no registers");
                }
                Ok(Stmt::Prefetch { buffer, index: index.affine })
            }
            "if" => {
                self.word("a word")?;
                let cond = self.cond()?;
                let then = self.block()?;
                let otherwise = if self.eat_word("else") { self.block()? } else { vec![] };
                Ok(Stmt::If { cond, then, otherwise })
            }
            word => self.error(format!("expected a statement, found `{word}`")),
        }
    }

    fn a_loop(&mut self) -> Result<Stmt> {
        let parallel = self.word("a word")? == "par";
        let name = self.identifier()?;
        if self.kernel.vars.contains(&name) {
            return self.error(format!("two loops have the variable `{name}`"));
        }
        self.expect_word("in")?;
        let (from, to) = (self.affine()?, {
            self.expect("..")?;
            self.affine()?
        });
        let (start, end, live) = if self.eat_word("of") {
            let start = self.int()?;
            self.expect("..")?;
            (start, self.int()?, Some(Live { from, to }))
        } else if from.is_constant() && to.is_constant() {
            (from.constant, to.constant, None)
        } else {
            return self.error("expected `of` and the loop's range");
        };
        let step = if self.eat_word("step") { self.int()? } else { 1 };
        let var = Var(self.kernel.vars.len() as u32);
        self.kernel.vars.push(name);
        self.open.push(var);
        let body = self.block()?;
        self.open.pop();
        Ok(Stmt::Loop(Loop { var, start, end, step, live, parallel, body }))
    }

    fn cond(&mut self) -> Result<Cond> {
        if self.next_char() == Some('%') {
            return self.known_reg().map(Cond::Reg);
        }
        let mut ranges = vec![];
        if self.eat_word("true") {
            return Ok(Cond::Within(ranges));
        }
        loop {
            let low = self.int()?;
            self.expect("<=")?;
            let affine = self.affine()?;
            self.expect("<")?;
            ranges.push((affine, low, self.int()?));
            if !self.eat_word("and") {
                return Ok(Cond::Within(ranges));
            }
        }
    }

    fn reg(&mut self) -> Result<Reg> {
        self.expect("%")?;
        let reg: usize = self.small()?;
        if reg >= MAX_REG {
            return self.error(format!("register %{reg} is too large"));
        }
        if reg >= self.regs.len() {
            self.regs.resize(reg + 1, None);
        }
        Ok(Reg(reg as u32))
    }

    fn known_reg(&mut self) -> Result<Reg> {
        let reg = self.reg()?;
        match self.regs[reg.0 as usize] {
            Some(_) => Ok(reg),
            None => self.error(format!("register %{} is read before it is set", reg.0)),
        }
    }

    fn access(&mut self) -> Result<(BufferId, Index)> {
        let name = self.identifier()?;
        let Some(buffer) = self.kernel.buffers.iter().position(|b| b.name == name) else {
            return self.error(format!("no buffer is named `{name}`"));
        };
        self.expect("[")?;
        let index = self.sum()?;
        self.expect("]")?;
        Ok((BufferId(buffer as u32), index))
    }

    fn affine(&mut self) -> Result<Affine> {
        let sum = self.sum()?;
        if sum.dynamic.is_empty() { Ok(sum.affine) } else { self.error("a register in an affine value") }
    }

    fn sum(&mut self) -> Result<Index> {
        let mut sum = Index::default();
        let mut negative = self.eat("-");
        loop {
            self.term(negative, &mut sum)?;
            negative = match (self.eat("+"), self.eat("-")) {
                (true, negative) | (false, negative @ true) => negative,
                (false, false) => return Ok(sum),
            };
        }
    }

    fn term(&mut self, negative: bool, sum: &mut Index) -> Result<()> {
        let mut factor = 1;
        if self.at_digit() {
            factor = self.digits()?;
            if !self.eat("*") {
                let c = self.signed(negative, factor)?;
                return match sum.affine.constant.checked_add(c) {
                    Some(c) => {
                        sum.affine.constant = c;
                        Ok(())
                    }
                    None => self.error("a constant is too large"),
                };
            }
        }
        let c = self.signed(negative, factor)?;
        if self.next_char() == Some('%') {
            let reg = self.known_reg()?;
            sum.dynamic.push((reg, c));
            return Ok(());
        }
        let name = self.identifier()?;
        let Some(&var) = self.open.iter().find(|v| self.kernel.vars[v.0 as usize] == name) else {
            return self.error(format!("no loop around has the variable `{name}`"));
        };
        if sum.affine.coefficient(var).checked_add(c).is_none() {
            return self.error("a coefficient is too large");
        }
        sum.affine.add_term(var, c);
        Ok(())
    }

    fn vec_type(&mut self) -> Result<VecType> {
        let word = self.word("a word")?;
        let (dtype, lanes) = word.split_once('x').map_or((word, "1"), |(dtype, lanes)| (dtype, lanes));
        match (dtype.parse(), lanes.parse()) {
            (Ok(dtype), Ok(lanes)) => Ok(VecType { dtype, lanes }),
            _ => self.error(format!("`{word}` is not a type such as `f32` or `f32x4`")),
        }
    }

    fn set(&mut self) -> Result<Stmt> {
        let reg = self.reg()?;
        let token = self.token();
        self.expect(":")?;
        let ty = self.vec_type()?;
        self.expect("=")?;
        let op = self.op(ty)?;
        self.blame(token);
        match self.regs[reg.0 as usize] {
            Some(known) if known != ty => self.error(format!("register %{} is {ty} here, {known} above", reg.0)),
            _ => {
                self.regs[reg.0 as usize] = Some(ty);
                Ok(Stmt::Set { reg, op })
            }
        }
    }

    fn op(&mut self, ty: VecType) -> Result<Op> {
        let word = self.word("a word")?;
        match word {
            "const" => return self.scalar(ty.dtype).map(Op::Const),
            "index" => return self.affine().map(Op::Index),
            "load" => return self.access().map(|(buffer, index)| Op::Load { buffer, index }),
            "gather" => return self.access().map(|(buffer, index)| Op::Gather { buffer, index }),
            "horizontal" => {
                let name = self.word("a word")?;
                return match BinaryOp::ALL.into_iter().find(|o| o.name() == name) {
                    Some(op) => Ok(Op::Horizontal(op, self.known_reg()?)),
                    None => self.error(format!("no operation is named `{name}`")),
                };
            }
            "lane" | "check" => {
                let a = self.known_reg()?;
                self.expect(",")?;
                return if word == "lane" { Ok(Op::Lane(a, self.small()?)) } else { Ok(Op::Check(a, self.int()?)) };
            }
            _ => {}
        }
        let token = self.token();
        let mut regs = vec![self.known_reg()?];
        while self.eat(",") {
            regs.push(self.known_reg()?);
        }
        self.blame(token);
        let unary = UnaryOp::ALL.into_iter().find(|o| o.name() == word);
        let binary = BinaryOp::ALL.into_iter().find(|o| o.name() == word);
        let shuffle = Shuffle::ALL.into_iter().find(|o| o.name() == word);
        let compare = CompareOp::ALL.into_iter().find(|o| o.name() == word);
        Ok(match (word, regs.as_slice()) {
            ("pack", _) => Op::Pack(regs),
            ("copy", &[a]) => Op::Copy(a),
            ("splat", &[a]) => Op::Splat(a),
            ("convert", &[a]) => Op::Convert(a),
            ("bitcast", &[a]) => Op::Bitcast(a),
            ("fma", &[a, b, c]) => Op::Fma(a, b, c),
            ("dot", &[c, a, b]) => Op::Dot(c, a, b),
            ("select", &[c, a, b]) => Op::Select(c, a, b),
            (_, regs) => match (unary, binary, compare, shuffle, regs) {
                (Some(op), _, _, _, &[a]) => Op::Unary(op, a),
                (_, Some(op), _, _, &[a, b]) => Op::Binary(op, a, b),
                (_, _, Some(op), _, &[a, b]) => Op::Compare(op, a, b),
                (_, _, _, Some(order), &[a, b]) => Op::Shuffle(order, a, b),
                _ => return self.error(format!("no operation is named `{word}` and takes {} registers", regs.len())),
            },
        })
    }

    fn scalar(&mut self, dtype: DType) -> Result<Scalar> {
        if !dtype.is_float() {
            return match (dtype, self.peek()) {
                (DType::Bool, word @ ("true" | "false")) => {
                    self.word("a word")?;
                    Ok(Scalar::Int((word == "true").into()))
                }
                _ => self.int().map(Scalar::Int),
            };
        }
        let word = self.peek_number();
        let x = match dtype {
            DType::F64 => word.parse().ok(),
            DType::F32 => word.parse::<f32>().ok().map(f64::from),
            DType::F16 => word.parse().ok().map(|x| crate::tensor::round_f16(x).to_f64()),
            _ => word.parse().ok().map(|x| crate::tensor::round_bf16(x).to_f64()),
        };
        match x {
            Some(x) if x.is_finite() || word.contains(['i', 'n', 'I', 'N']) => {
                self.advance(word.len());
                Ok(Scalar::Float(x))
            }
            _ => self.error(format!("expected a {dtype}, found `{word}`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL_FORMS: &str = r#"kernel @all contract(mr=5 nr=8) x86-64-v3 (x: f32[100] read, "odd name/0": i32[7] write, acc: bool[3] readwrite) {
  par i in 0..100 step 4 {
    for j in -2..3 {
      %0: f32x4 = load x[i]
      %1: f32x4 = const 0.1
      %2: f32x4 = const -inf
      %2: f32x4 = fma %0, %1, %2
      %3: i64 = index 2*i - j + 7
      %4: i64 = check %3, 9
      %5: i64 = const -3
      store x[-4*i + j - 100 + 4*%4 - %5], %2
      %6: boolx4 = lt %0, %1
      %7: f32x4 = select %6, %0, %1
      %8: f32 = horizontal add %7
      %9: f32 = lane %7, 3
      %10: f32x2 = pack %8, %9
      %12: i32x2 = bitcast %10
      %13: f16x2 = convert %10
      %14: f32x4 = splat %8
      %14: f32x4 = copy %7
      %15: f32x4 = neg %14
      %16: f32x4 = max %15, %14
      %17: bool = const true
      if 0 <= i + 3 < 10 and -1 <= j < 2 {
        if %17 {
          store acc[0], %17
        } else {
          store acc[2], %17
        }
      }
      if true {
      }
      %18: f64 = const 1e-300
      %19: f32 = const nan
      %20: f32 = const 16777216.0
      %21: i32x4 = const 3
      %22: i32x4 = check %21, 9
      %23: f32x4 = gather x[4*i + j + 2*%4 + %22]
    }
  }
}
"#;

    #[test]
    fn printing_what_was_parsed_gives_the_text_back() {
        let kernel = parse(ALL_FORMS).unwrap();
        assert_eq!(kernel.to_string(), ALL_FORMS);
        assert_eq!(parse("kernel @f () {}").unwrap().to_string(), "kernel @f () {\n}\n");
        let comments = "kernel @f (x: u8[1] write) { // header\n // none\n %0: u8 = const 255 // the most\n store x[0], %0 }";
        assert_eq!(parse(comments).unwrap().to_string(), "kernel @f (x: u8[1] write) {\n  %0: u8 = const 255\n  store x[0], %0\n}\n");
    }

    #[test]
    fn live_loops_print_and_parse() {
        let text = "kernel @live (x: f32[100] read, y: f32[100] write) sizes n <= 100, m <= min(96, n) {
  for i in 0..m of 0..100 step 8 {
    %0: f32x8 = load x[i]
    store y[i], %0
  }
  par j in m..n of 0..100 {
    %1: f32 = load x[j]
    store y[j], %1
  }
}
";
        let kernel = parse(text).unwrap();
        assert_eq!(kernel.to_string(), text);
        assert_eq!(kernel.sizes.iter().map(|s| s.high).collect::<Vec<_>>(), [100, 96]);
        assert_eq!(kernel.sizes.iter().map(|s| s.most).collect::<Vec<_>>(), [None, Some(kernel.sizes[0].var)]);
        assert!(parse(&text.replace("min(96, n)", "min(96, k)")).is_err());
        let live: Vec<bool> = kernel.body.iter().map(|s| matches!(s, Stmt::Loop(l) if l.live.is_some())).collect();
        assert_eq!(live, [true, true]);
    }

    #[test]
    fn every_operation_has_its_own_name() {
        let names: Vec<_> = UnaryOp::ALL
            .iter()
            .map(|o| o.name())
            .chain(BinaryOp::ALL.iter().map(|o| o.name()))
            .chain(CompareOp::ALL.iter().map(|o| o.name()))
            .collect();
        for (i, name) in names.iter().enumerate() {
            assert!(!names[..i].contains(name), "{name}");
        }
    }

    #[test]
    fn terms_print_in_the_order_of_their_loops() {
        // Variable 1 is the outer loop.
        let inner = Loop { var: Var(0), start: 0, end: 2, step: 1, live: None, parallel: false, body: vec![] };
        let sum = Affine { constant: 0, terms: vec![(Var(0), 1), (Var(1), 2)] };
        let body = vec![Stmt::Set { reg: Reg(0), op: Op::Index(sum) }];
        let outer =
            Loop { var: Var(1), start: 0, end: 2, step: 1, live: None, parallel: false, body: vec![Stmt::Loop(Loop { body, ..inner })] };
        let kernel = Kernel {
            name: "f".into(),
            vars: vec!["i".into(), "o".into()],
            regs: vec![VecType::scalar(DType::I64)],
            body: vec![Stmt::Loop(outer)],
            ..Kernel::default()
        };
        let text = kernel.to_string();
        assert!(text.contains("index 2*o + i"), "{text}");
        assert_eq!(parse(&text).unwrap().to_string(), text);
    }

    #[test]
    fn errors_name_their_line() {
        let cases = [
            ("", "line 1: expected `kernel`, found the end of the text"),
            ("kernel @f {\n}", "line 1: expected ` (` and the buffers on the kernel's line"),
            ("kernel @f (x: f31[1] read) {\n}", "line 1: `f31` is not an element type"),
            ("kernel @f (x: f32[1] read, x: f32[1] read) {\n}", "line 1: two buffers are named `x`"),
            ("kernel @f () {\n", "line 2: expected `%`, found the end of the text"),
            ("kernel @f () {\n  go\n}", "line 2: expected a statement, found `go`"),
            ("kernel @f () {\n\n  %0: f32 = neg %0\n}", "line 3: register %0 is read before it is set"),
            ("kernel @f () {\n  %0: i64 = const 1\n  %0: i32 = const 1\n}", "line 3: register %0 is i32 here, i64 above"),
            ("kernel @f () {\n  %0: i64 = const 99999999999999999999\n}", "line 2: `99999999999999999999` is too large"),
            ("kernel @f () {\n  %0: f32 = const 1e99\n}", "line 2: expected a f32, found `1e99`"),
            ("kernel @f () {\n  %0: i64 = index i\n}", "line 2: no loop around has the variable `i`"),
            ("kernel @f () {\n  store y[0], %0\n}", "line 2: no buffer is named `y`"),
            ("kernel @f () {\n  %0: f32 = const 1.0\n  %1: f32 = bake %0\n}", "line 3: no operation is named `bake` and takes 1 registers"),
            ("kernel @f () {\n  %4000000000: f32 = const 1.0\n}", "line 2: register %4000000000 is too large"),
            ("kernel @f () {\n}\n}", "line 3: expected the end of the text, found `}`"),
            ("kernel @f () {\n  for i in 0..2 {\n  }\n  for i in 0..2 {\n  }\n}", "line 4: two loops have the variable `i`"),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).map(|k| k.to_string()).unwrap_err().to_string(), expected);
        }
        let deep = format!("kernel @f () {}", "{ if true ".repeat(10_000));
        assert_eq!(parse(&deep).unwrap_err().message, "blocks are nested too deeply");
    }
}
