//! Reads the text of programs; [`super::print`] writes it. The result is not verified.
//!
//! ```text
//! program = "program" "(" [operand {"," operand}] ")" "->" "(" [tensor {"," tensor}] ")" "{" {constant | item} "}"
//! operand = tensor ":" type
//! constant = tensor "=" "const" "[" number {"," number} "]" ":" type
//! item    = stage | tensor "=" "reshape" tensor ":" type | "repeat" loop "in" "0" ".." int "{" {item} "}"
//! stage   = tensor "[" [affine {"," affine}] "]" ["for" ("(" ")" | ranges)] "=" body ["where" name "=" expr {"," name "=" expr}] ":" type
//! body    = expr | "reduce" word "over" ranges ":" expr ["->" expr] | "arg" ("first" | "last") word "over" ranges ":" expr
//!         | "scatter" int "at" expr {"," int "at" expr} ["if" expr] ":" expr
//! ranges  = axis "in" "0" ".." int {"," axis "in" "0" ".." int}
//! type    = dtype "[" [int {"," int}] "]"
//! ```
//!
//! Tensors are numbered in the order in which the text names them first. A constant whose elements the text leaves out
//! (`...`) cannot be read back.

use std::collections::HashMap;

use super::{Affine, BinaryOp, Body, CompareOp, Const, Expr, Item, Ix, Node, Program, ReduceOp, Stage, TensorDecl, TensorId, UnaryOp, Var};
pub use crate::lexer::ParseError;
use crate::lexer::{Lexer, Result, reads_tokens};
use crate::tensor::{DType, Tensor, n_elements};

/// Nesting and rank that no program reaches; they bound what hostile text can ask for.
const MAX_DEPTH: usize = 200;
const MAX_RANK: u32 = 64;

/// The program with the given text.
///
/// # Errors
/// The first line that is wrong.
pub fn parse(text: &str) -> Result<Program> {
    let mut p = Parser {
        lexer: Lexer::new(text),
        program: Program::default(),
        names: HashMap::new(),
        shared: HashMap::new(),
        pending: HashMap::new(),
        acc: None,
        n_axes: 0,
        depth: 0,
    };
    p.program()?;
    Ok(p.program)
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    program: Program,
    names: HashMap<String, TensorId>,
    /// Shared parts of the stage that are read.
    shared: HashMap<String, Expr>,
    /// Where the text of shared parts is, which come after what uses them.
    pending: HashMap<String, Lexer<'a>>,
    /// Type of `acc` where it may stand.
    acc: Option<DType>,
    n_axes: u32,
    depth: usize,
}

reads_tokens!(Parser);

impl<'a> Parser<'a> {
    fn program(&mut self) -> Result<()> {
        self.expect_word("program")?;
        self.program.operands = self.list("(", ")", |p| {
            let name = p.tensor_name()?;
            p.expect(":")?;
            let (dtype, dims) = p.ty()?;
            p.declare(name, dtype, dims)
        })?;
        self.expect("->")?;
        let results = self.list("(", ")", |p| Ok((p.line_number(), p.tensor_name()?)))?;
        self.expect("{")?;
        self.program.items = self.items()?;
        self.end()?;
        let find = |(line, name): (usize, String)| {
            self.names.get(&name).copied().ok_or_else(|| ParseError { line, message: format!("`%{name}` is not computed") })
        };
        self.program.results = results.into_iter().map(find).collect::<Result<_>>()?;
        Ok(())
    }

    fn items(&mut self) -> Result<Vec<Item>> {
        let mut items = vec![];
        while !self.eat("}") {
            if self.eat_word("repeat") {
                let Var::Loop(var) = self.var()? else { return self.error("expected a loop such as `l0`") };
                let extent = self.range()?;
                self.expect("{")?;
                self.deeper()?;
                let items_inside = self.items()?;
                self.depth -= 1;
                items.push(Item::Repeat { var, extent, live: None, items: items_inside });
                continue;
            }
            let name = self.tensor_name()?;
            if !self.eat("=") {
                items.push(Item::Stage(self.stage(name)?));
            } else if self.eat_word("reshape") {
                let input = self.tensor()?;
                self.expect(":")?;
                let (dtype, dims) = self.ty()?;
                items.push(Item::Reshape { out: self.declare(name, dtype, dims)?, input });
            } else {
                self.expect_word("const")?;
                self.constant(name)?;
            }
        }
        Ok(items)
    }

    fn deeper(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { self.error("nested too deeply") } else { Ok(()) }
    }

    fn tensor_name(&mut self) -> Result<String> {
        self.expect("%")?;
        // Names of graph values may hold any character but those that end them here.
        let rest = self.rest();
        let len = rest.find(|c: char| c.is_whitespace() || "[](),:=".contains(c)).unwrap_or(rest.len());
        if len == 0 {
            return self.expected("a tensor's name");
        }
        self.advance(len);
        Ok(rest[..len].to_owned())
    }

    fn tensor(&mut self) -> Result<TensorId> {
        let name = self.tensor_name()?;
        match self.names.get(&name) {
            Some(&t) => Ok(t),
            None => self.error(format!("`%{name}` is not defined above")),
        }
    }

    fn declare(&mut self, name: String, dtype: DType, dims: Vec<usize>) -> Result<TensorId> {
        if let Some(&t) = self.names.get(&name) {
            let decl = self.program.tensor(t);
            if (decl.dtype, &decl.dims) != (dtype, &dims) {
                return self.error(format!("`%{name}` has another type above"));
            }
            return Ok(t);
        }
        let t = TensorId(self.program.tensors.len() as u32);
        self.names.insert(name.clone(), t);
        self.program.tensors.push(TensorDecl { name, dtype, dims, bounds: vec![] });
        Ok(t)
    }

    fn ty(&mut self) -> Result<(DType, Vec<usize>)> {
        let word = self.word("a type")?;
        let dtype = word.parse().or_else(|message: String| self.error(message))?;
        Ok((dtype, self.list("[", "]", |p| p.small())?))
    }

    fn constant(&mut self, name: String) -> Result<()> {
        if self.eat("...") {
            return self.error(format!("the elements of `%{name}` are not in the text"));
        }
        let items = self.list("[", "]", |p| {
            let text = p.peek_number();
            p.advance(text.len());
            Ok(text.to_owned())
        })?;
        self.expect(":")?;
        let (dtype, dims) = self.ty()?;
        if dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(items.len()) {
            return self.error(format!("{} elements of {dtype}{dims:?}", items.len()));
        }
        let value = if dtype.is_float() {
            Tensor::from_f64s(dtype, &dims, &self.numbers::<f64>(&items)?)
        } else {
            Tensor::from_ints(dtype, &dims, &self.numbers::<i128>(&items)?)
        };
        debug_assert_eq!(value.len(), n_elements(&dims));
        let t = self.declare(name, dtype, dims)?;
        self.program.constants.push((t, value));
        Ok(())
    }

    fn numbers<T: std::str::FromStr>(&self, items: &[String]) -> Result<Vec<T>> {
        items.iter().map(|x| x.parse().or_else(|_| self.error(format!("`{x}` is not an element of that type")))).collect()
    }

    fn stage(&mut self, name: String) -> Result<Stage> {
        self.shared.clear();
        self.pending.clear();
        // Sums need to know where reduction axes begin, which is known once the ranges are read.
        let start = self.lexer.clone();
        self.n_axes = 0;
        self.skip_index()?;
        let mut axes = match self.eat_word("for") {
            true if self.eat("(") => {
                self.expect(")")?;
                Some(vec![])
            }
            true => Some(self.ranges('i')?),
            false => None,
        };
        self.expect("=")?;
        let body = self.lexer.clone();
        self.find_shared();
        let (dtype, dims) = self.ty()?;
        let end = self.lexer.clone();
        let axes = axes.take().unwrap_or_else(|| dims.clone());
        self.n_axes = axes.len() as u32;
        self.lexer = start;
        let write = self.list("[", "]", Self::affine)?;
        self.lexer = body;
        let (reduce, body) = self.body(dtype)?;
        if !self.eat_word("where") && self.next_char() != Some(':') {
            return self.expected("`:` and the type");
        }
        self.lexer = end;
        let out = self.declare(name, dtype, dims)?;
        Ok(Stage { out, write, axes, reduce, bounds: vec![], body })
    }

    fn skip_index(&mut self) -> Result<()> {
        self.expect("[")?;
        let Some(end) = self.rest().find(']') else { return self.error("`[` without end") };
        self.advance(end + 1);
        Ok(())
    }

    /// Notes where each `where` binding of the stage begins, and moves past the `:` before its type.
    fn find_shared(&mut self) {
        let line = self.rest().split('\n').next().unwrap_or("");
        let type_at = line.rfind(" : ").unwrap_or(line.len());
        let mut at = self.lexer.clone();
        if let Some(place) = line[..type_at].find(" where ") {
            let bindings = &line[place + " where ".len()..type_at];
            let mut depth = 0i32;
            let parts = bindings.split(|c| {
                depth += i32::from(matches!(c, '(' | '[')) - i32::from(matches!(c, ')' | ']'));
                c == ',' && depth == 0
            });
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                let mut lexer = at.clone();
                lexer.advance(value.as_ptr() as usize - line.as_ptr() as usize);
                self.pending.insert(name.trim().to_owned(), lexer);
            }
        }
        at.advance((type_at + 3).min(line.len()));
        self.lexer = at;
    }

    /// What a stage of this type computes, and its reduction axes.
    fn body(&mut self, dtype: DType) -> Result<(Vec<usize>, Body)> {
        self.acc = None;
        if self.eat_word("reduce") {
            let op = self.reduce_op()?;
            self.expect_word("over")?;
            let reduce = self.ranges('r')?;
            self.expect(":")?;
            let value = self.expr(0)?;
            let finish = if self.eat("->") {
                self.acc = Some(value.dtype());
                self.expr(0)?
            } else {
                Expr::acc(value.dtype())
            };
            return Ok((reduce, Body::Reduce { op, value, finish }));
        }
        if self.eat_word("arg") {
            let last = self.eat_word("last");
            if !last {
                self.expect_word("first")?;
            }
            let op = self.reduce_op()?;
            self.expect_word("over")?;
            let reduce = self.ranges('r')?;
            self.expect(":")?;
            return Ok((reduce, Body::Arg { op, value: self.expr(0)?, last }));
        }
        if self.eat_word("scatter") {
            let mut places = vec![];
            loop {
                let axis = self.small()?;
                self.expect_word("at")?;
                places.push((axis, self.expr(0)?));
                if !self.eat(",") {
                    break;
                }
            }
            let when = if self.eat_word("if") { Some(self.expr(0)?) } else { None };
            self.expect(":")?;
            self.acc = Some(dtype);
            return Ok((vec![], Body::Scatter { when, places, value: self.expr(0)? }));
        }
        Ok((vec![], Body::Map(self.expr(0)?)))
    }

    fn reduce_op(&mut self) -> Result<ReduceOp> {
        match self.word("a reduction")? {
            "sum" => Ok(ReduceOp::Sum),
            "prod" => Ok(ReduceOp::Prod),
            "max" => Ok(ReduceOp::Max),
            "min" => Ok(ReduceOp::Min),
            word => self.error(format!("`{word}` is not a reduction")),
        }
    }

    /// `i0 in 0..2, i1 in 0..3`.
    fn ranges(&mut self, prefix: char) -> Result<Vec<usize>> {
        let mut extents = vec![];
        loop {
            let expected = format!("{prefix}{}", extents.len());
            self.expect_word(&expected)?;
            extents.push(self.range()?);
            let mut next = self.lexer.clone();
            if !next.eat(",") || !next.peek().starts_with(prefix) {
                return Ok(extents);
            }
            self.lexer = next;
        }
    }

    /// `in 0..n`.
    fn range(&mut self) -> Result<usize> {
        self.expect_word("in")?;
        self.expect("0")?;
        self.expect("..")?;
        self.small()
    }

    fn var(&mut self) -> Result<Var> {
        let word = self.word("an axis")?;
        let number = word.get(1..).and_then(|n| n.parse::<u32>().ok()).filter(|&n| n < MAX_RANK || word.starts_with('l'));
        match (word.as_bytes().first(), number) {
            (Some(b'i'), Some(n)) => Ok(Var::Axis(n)),
            (Some(b'r'), Some(n)) => Ok(Var::Axis(self.n_axes + n)),
            (Some(b'l'), Some(n)) => Ok(Var::Loop(n)),
            _ => self.error(format!("`{word}` is not an axis such as `i0`, `r0` or `l0`")),
        }
    }

    fn affine(&mut self) -> Result<Affine> {
        let mut sum = Affine::default();
        let mut negative = self.eat("-");
        loop {
            if self.at_digit() {
                let c = self.digits()?;
                let c = self.signed(negative, c)?;
                if self.eat("*") {
                    let var = self.var()?;
                    self.add_term(&mut sum, var, c)?;
                } else {
                    let Some(constant) = sum.constant.checked_add(c) else { return self.error("a constant is too large") };
                    sum.constant = constant;
                }
            } else {
                let var = self.var()?;
                self.add_term(&mut sum, var, if negative { -1 } else { 1 })?;
            }
            negative = match (self.eat("+"), self.eat("-")) {
                (true, negative) | (false, negative @ true) => negative,
                (false, false) => return Ok(sum),
            };
        }
    }

    fn add_term(&self, sum: &mut Affine, var: Var, c: i64) -> Result<()> {
        if sum.coefficient(var).checked_add(c).is_none() {
            return self.error("a coefficient is too large");
        }
        sum.add_term(var, c);
        Ok(())
    }

    /// An expression of operators that bind at least as `level`.
    fn expr(&mut self, level: u8) -> Result<Expr> {
        self.deeper()?;
        let mut left = self.prefix()?;
        while let Some((symbol, binds)) = self.infix(level) {
            self.advance(symbol.len());
            let right = self.expr(binds + 1)?;
            left = self.combine(symbol, &left, &right)?;
        }
        self.depth -= 1;
        Ok(left)
    }

    /// The operator that comes next, if it binds at least as `level`.
    fn infix(&mut self, level: u8) -> Option<(&'static str, u8)> {
        const SYMBOLS: [(&str, u8); 16] = [
            ("<<", 3),
            (">>", 3),
            ("==", 1),
            ("!=", 1),
            ("<=", 1),
            (">=", 1),
            ("->", 0),
            ("<", 1),
            (">", 1),
            ("+", 4),
            ("-", 4),
            ("*", 5),
            ("/", 5),
            ("%", 5),
            ("&", 2),
            ("^", 2),
        ];
        self.skip();
        let rest = self.rest();
        let found = SYMBOLS.into_iter().find(|s| rest.starts_with(s.0)).or_else(|| rest.starts_with('|').then_some(("|", 2)));
        found.filter(|&(symbol, binds)| symbol != "->" && binds >= level.max(1))
    }

    fn combine(&self, symbol: &str, a: &Expr, b: &Expr) -> Result<Expr> {
        if a.dtype() != b.dtype() {
            return self.error(format!("`{symbol}` of {} and {}", a.dtype(), b.dtype()));
        }
        Ok(match symbol {
            "+" => a.binary(BinaryOp::Add, b),
            "-" => a.binary(BinaryOp::Sub, b),
            "*" => a.binary(BinaryOp::Mul, b),
            "/" => a.binary(BinaryOp::Div, b),
            "%" => a.binary(BinaryOp::Rem, b),
            "&" => a.binary(BinaryOp::And, b),
            "|" => a.binary(BinaryOp::Or, b),
            "^" => a.binary(BinaryOp::Xor, b),
            "<<" => a.binary(BinaryOp::Shl, b),
            ">>" => a.binary(BinaryOp::Shr, b),
            "==" => a.compare(CompareOp::Eq, b),
            "!=" => a.compare(CompareOp::Ne, b),
            "<" => a.compare(CompareOp::Lt, b),
            "<=" => a.compare(CompareOp::Le, b),
            ">" => a.compare(CompareOp::Gt, b),
            _ => a.compare(CompareOp::Ge, b),
        })
    }

    fn prefix(&mut self) -> Result<Expr> {
        match self.next_char() {
            Some('(') => {
                self.expect("(")?;
                let e = self.expr(0)?;
                self.expect(")")?;
                Ok(e)
            }
            Some('%') => self.load(),
            Some('-') => {
                self.expect("-")?;
                if self.at_digit() || ["inf", "NaN"].iter().any(|w| self.peek().starts_with(w)) {
                    return self.number(true);
                }
                Ok(self.prefix()?.unary(UnaryOp::Neg))
            }
            Some(c) if c.is_ascii_digit() => self.number(false),
            _ => self.named(),
        }
    }

    fn load(&mut self) -> Result<Expr> {
        let tensor = self.tensor()?;
        let index = self.list("[", "]", |p| {
            for (word, make) in [("check", Ix::Checked as fn(Expr) -> Ix), ("clamp", Ix::Clamped)] {
                if p.eat_word(word) {
                    p.expect("(")?;
                    let e = p.expr(0)?;
                    p.expect(")")?;
                    return Ok(make(e));
                }
            }
            p.affine().map(Ix::Affine)
        })?;
        let pad = if self.eat_word("else") { Some(self.prefix()?) } else { None };
        let dtype = self.program.tensor(tensor).dtype;
        Ok(Expr::new(Node::Load { tensor, index, pad }, dtype))
    }

    /// A number with its type behind it; `f32` has none.
    fn number(&mut self, negative: bool) -> Result<Expr> {
        let text = self.peek_number();
        self.advance(text.len());
        let suffix = DType::ALL.into_iter().filter(|t| text.ends_with(&t.to_string())).max_by_key(|t| t.to_string().len());
        let digits = suffix.map_or(text, |t| &text[..text.len() - t.to_string().len()]);
        let dtype = suffix.unwrap_or(DType::F32);
        let signed = format!("{}{digits}", if negative { "-" } else { "" });
        let value = match dtype {
            DType::F32 => signed.parse::<f32>().ok().map(|x| Const::Float(f64::from(x))),
            t if t.is_float() => signed.parse().ok().map(Const::Float),
            DType::U64 => signed.parse::<u64>().ok().map(|x| Const::Int(x as i64)),
            _ => signed.parse().ok().map(Const::Int),
        };
        match value {
            Some(c) => Ok(Expr::new(Node::Const(c), dtype)),
            None => self.error(format!("`{text}` is not a number")),
        }
    }

    /// A function, a conversion, a shared part, or a word that stands for a value.
    fn named(&mut self) -> Result<Expr> {
        let word = self.peek();
        if word.starts_with("inf") || word.starts_with("NaN") {
            return self.number(false);
        }
        self.word("an expression")?;
        match word {
            "true" | "false" => return Ok(Expr::int(DType::Bool, (word == "true").into())),
            "acc" => {
                return match self.acc {
                    Some(dtype) => Ok(Expr::acc(dtype)),
                    None => self.error("`acc` outside what a reduction ends with"),
                };
            }
            _ => {}
        }
        if let Some(e) = self.shared.get(word) {
            return Ok(e.clone());
        }
        if let Some(at) = self.pending.remove(word) {
            let after = std::mem::replace(&mut self.lexer, at);
            let e = self.expr(0)?;
            self.lexer = after;
            self.shared.insert(word.to_owned(), e.clone());
            return Ok(e);
        }
        self.expect("(")?;
        if word == "index" {
            let a = self.affine()?;
            self.expect(")")?;
            return Ok(Expr::new(Node::Index(a), DType::I64));
        }
        if word == "size" {
            let n = self.affine()?;
            self.expect(")")?;
            return if n.is_constant() { Ok(Expr::extent(n.constant)) } else { self.error("a size that is no number".to_owned()) };
        }
        let mut operands = vec![self.expr(0)?];
        while self.eat(",") {
            operands.push(self.expr(0)?);
        }
        self.expect(")")?;
        let same = |a: &Expr, b: &Expr| a.dtype() == b.dtype();
        let unary = UnaryOp::ALL.into_iter().find(|op| format!("{op:?}").to_lowercase() == word);
        match (word, operands.as_slice(), unary, word.parse::<DType>()) {
            ("select", [c, a, b], ..) if c.dtype() == DType::Bool && same(a, b) => Ok(c.select(a, b)),
            ("min", [a, b], ..) if same(a, b) => Ok(a.binary(BinaryOp::Min, b)),
            ("max", [a, b], ..) if same(a, b) => Ok(a.binary(BinaryOp::Max, b)),
            ("pow", [a, b], ..) if same(a, b) => Ok(a.binary(BinaryOp::Pow, b)),
            (_, [a], Some(op), _) => Ok(a.unary(op)),
            (_, [a], _, Ok(dtype)) => Ok(Expr::new(Node::Cast(a.clone()), dtype)),
            (word, [a], ..) if let Some(Ok(dtype)) = word.strip_prefix("bits_").map(str::parse) => {
                Ok(Expr::new(Node::Bits(a.clone()), dtype))
            }
            _ => self.error(format!("no function `{word}` takes these {} operands", operands.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    fn round_trip(body: &str) {
        let text = format!("program(%a: f32[2,3], %x/y: i64[4]) -> (%y) {{\n{body}}}\n");
        let program = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(program.to_string(), text);
        assert_eq!(super::super::verify(&program), []);
    }

    #[test]
    fn printing_what_was_parsed_gives_the_text_back() {
        for body in [
            "  %y[i0,i1] = %a[i0,i1] * 2 + 1 : f32[2,3]\n",
            "  %y[i0] = reduce sum over r0 in 0..3: %a[i0,r0] * %a[i0,r0] -> sqrt(acc / 3) : f32[2]\n",
            "  %y[i0] = arg first max over r0 in 0..3: %a[i0,r0] : i64[2]\n",
            "  %y[i0] = arg last min over r0 in 0..3: -%a[i0,r0] : i64[2]\n",
            "  %y[2*i0+1,i1] for i0 in 0..2, i1 in 0..3 = %a[i0,-i1+2] : f32[4,3]\n",
            "  %y[i0,i1] = (%a[i0-1,i1] else 0) - (%a[i0,i1-1] else -inf) : f32[2,3]\n",
            "  %y[i0] = %a[check(%x/y[i0]),clamp(%x/y[i0] + 1i64)] : f32[4]\n",
            "  %y[i0,i1] = select(%a[i0,i1] < 0.5, exp(%a[i0,i1]), max(%a[i0,i1], NaN)) : f32[2,3]\n",
            "  %y[i0,i1] = t0 * t0 where t0 = exp(%a[i0,i1]) : f32[2,3]\n",
            "  %y[i0,i1] = t1 * t1 where t0 = exp(%a[i0,i1]), t1 = max(t0, t0 + t0) : f32[2,3]\n",
            "  %y[i0] = min(index(i0), size(5)) : i64[4]\n",
            "  %y[i0] = index(2*i0-1) % 3i64 << 1i64 | %x/y[i0] : i64[4]\n",
            "  %y[i0] = f64(%x/y[i0]) / 0.1f64 : f64[4]\n",
            "  %y = reshape %a : f32[6]\n",
            "  %c = const [1.0, -2.5] : f32[2]\n  %y[i0,i1] = %a[i0,i1] + %c[i0] : f32[2,3]\n",
            "  %y[i0] = 0 : f32[4]\n  %y[0] for i0 in 0..2, i1 in 0..3 = scatter 0 at %x/y[i1]: acc + %a[i0,i1] : f32[4]\n",
            "  %y[i0] = 0 : f32[4]\n  %y[0] for () = scatter 0 at %x/y[2]: 1 : f32[4]\n",
            "  %y[i0] = 0 : f32[4]\n  %y[0] for i0 in 0..3 = scatter 0 at %x/y[i0] if %a[0,i0] > 0: t0 * t0 where t0 = exp(%a[1,i0]) : f32[4]\n",
            "  %h[i0] = 0 : f32[2]\n  repeat l0 in 0..3 {\n    %h[i0] = %h[i0] + %a[i0,l0] : f32[2]\n  }\n  %y[i0] = %h[i0] : f32[2]\n",
        ] {
            round_trip(body);
        }
    }

    #[test]
    fn errors_name_their_line() {
        let error = |body: &str| parse(&format!("program(%a: f32[2,3]) -> (%y) {{\n{body}\n}}")).unwrap_err().to_string();
        insta::assert_snapshot!([
            error("%y[i0] = %b[i0] : f32[2]"),
            error("%y[i0] = acc : f32[2]"),
            error("%y[i0] = %a[i0,0] + 1i64 : f32[2]"),
            error("%y[i0] = bake(%a[i0,0]) : f32[2]"),
            error("\n%y[j] = %a[0,0] : f32[2]"),
            error("%y = const ... : f32[100]"),
            error("%z[i0] = 1 : f32[2]"),
            error("%y[i0] = 1 2 : f32[2]"),
        ].join("\n"), @r"
        line 2: `%b` is not defined above
        line 2: `acc` outside what a reduction ends with
        line 2: `+` of f32 and i64
        line 2: no function `bake` takes these 1 operands
        line 3: `j` is not an axis such as `i0`, `r0` or `l0`
        line 2: the elements of `%y` are not in the text
        line 1: `%y` is not computed
        line 2: expected `:` and the type, found `2`
        ");
    }

    #[test]
    fn no_text_makes_it_panic() {
        let text = "program(%a: f32[2,3]) -> (%y) {\n  %y[i0] = reduce sum over r0 in 0..3: t0 * t0 -> acc + 1 where t0 = exp(%a[i0,r0]) : f32[2]\n}\n";
        for at in 0..text.len() {
            let _ = parse(&text[..at]);
            for piece in ["(", "]", "%", "0", "-", "[", ":", "=", "é", "99999999999999999999"] {
                let _ = parse(&format!("{}{piece}{}", &text[..at], &text[at..]));
            }
        }
        let _ = parse(&format!("program() -> () {{ %y[] = {} : f32[] }}", "(".repeat(100_000)));
    }
}
