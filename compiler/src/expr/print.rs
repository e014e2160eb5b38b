//! Programs as text, for people and for tests.
//!
//! ```text
//! program(%a: f32[2,3], %b: f32[3,4]) -> (%y) {
//!   %y[i0,i1] = reduce sum over r0 in 0..3: %a[i0,r0] * %b[r0,i1] -> max(acc, 0) : f32[2,4]
//! }
//! ```
//!
//! `iN` are output axes, `rN` reduction axes, `lN` loops. Where the write is not the tensor's own index, the axes follow it
//! (`%y[2*i0+1] for i0 in 0..3`). `%a[..] else e` is padded; `check(e)` and `clamp(e)` are indices from data. Constants
//! of other types than the usual (`f32`, and `i64` in indices) carry it as a suffix. `where` names shared parts.

use std::collections::HashMap;
use std::fmt::{self, Write};

use super::{Affine, BinaryOp, Body, CompareOp, Const, Expr, Item, Ix, Node, Program, ReduceOp, Stage, TensorId, UnaryOp, Var};
use crate::tensor::DType;

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let typed = |t: &TensorId| format!("%{}: {}", self.tensor(*t).name, self.type_text(*t));
        let names = |list: &[TensorId]| list.iter().map(|t| format!("%{}", self.tensor(*t).name)).collect::<Vec<_>>().join(", ");
        let operands: Vec<String> = self.operands.iter().map(typed).collect();
        writeln!(f, "program({}) -> ({}) {{", operands.join(", "), names(&self.results))?;
        for (t, value) in &self.constants {
            write!(f, "  %{} = const ", self.tensor(*t).name)?;
            if value.len() > 8 {
                f.write_str("...")?;
            } else if value.dtype().is_float() {
                write!(f, "{:?}", value.to_f64s())?;
            } else {
                write!(f, "{:?}", value.to_ints())?;
            }
            writeln!(f, " : {}", value.ty())?;
        }
        self.print_items(f, &self.items, 1)?;
        f.write_str("}\n")
    }
}

impl Program {
    fn type_text(&self, t: TensorId) -> String {
        let decl = self.tensor(t);
        format!("{}[{}]", decl.dtype, decl.dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
    }

    fn print_items(&self, f: &mut fmt::Formatter<'_>, items: &[Item], depth: usize) -> fmt::Result {
        let indent = "  ".repeat(depth);
        for item in items {
            match item {
                Item::Stage(s) => writeln!(f, "{indent}{}", self.stage_text(s))?,
                Item::Reshape { out, input } => {
                    let (to, from) = (&self.tensor(*out).name, &self.tensor(*input).name);
                    writeln!(f, "{indent}%{to} = reshape %{from} : {}", self.type_text(*out))?;
                }
                Item::Repeat { var, extent, live, items } => {
                    let live = live.as_ref().map_or(String::new(), |l| format!(" from {} to {} step {}", l.from, l.to, l.step));
                    writeln!(f, "{indent}repeat l{var} in 0..{extent}{live} {{")?;
                    self.print_items(f, items, depth + 1)?;
                    writeln!(f, "{indent}}}")?;
                }
            }
        }
        Ok(())
    }

    /// One stage on a line.
    pub fn stage_text(&self, s: &Stage) -> String {
        let mut p = Printer::new(self, s);
        let out = self.tensor(s.out);
        let index: Vec<String> = s.write.iter().map(|a| p.affine(a)).collect();
        let mut text = format!("%{}[{}]", out.name, index.join(","));
        let identity = s.axes == out.dims && s.writes_in_place();
        let ranges = |prefix: &str, extents: &[usize]| {
            let first = if prefix == "r" { s.axes.len() } else { 0 };
            let live = |i: usize| s.bound(first + i).map_or(String::new(), |b| format!("({b}) of "));
            extents.iter().enumerate().map(|(i, n)| format!("{prefix}{i} in 0..{}{n}", live(i))).collect::<Vec<_>>().join(", ")
        };
        if !identity || s.bounds.iter().take(s.axes.len()).any(Option::is_some) {
            let _ = write!(text, " for {}", if s.axes.is_empty() { "()".to_owned() } else { ranges("i", &s.axes) });
        }
        text += " = ";
        text += &match &s.body {
            Body::Map(e) => p.text(e, 0),
            Body::Reduce { op, value, finish } => {
                let value = p.text(value, 0);
                let end = if matches!(finish.node(), Node::Acc) { String::new() } else { format!(" -> {}", p.text(finish, 0)) };
                format!("reduce {} over {}: {value}{end}", reduce_name(*op), ranges("r", &s.reduce))
            }
            Body::Arg { op, value, last } => {
                let which = if *last { "last" } else { "first" };
                format!("arg {which} {} over {}: {}", reduce_name(*op), ranges("r", &s.reduce), p.text(value, 0))
            }
            Body::Scatter { when, places, value } => {
                let places: Vec<String> = places.iter().map(|(axis, e)| format!("{axis} at {}", p.text(e, 0))).collect();
                let when = when.as_ref().map_or(String::new(), |e| format!(" if {}", p.text(e, 0)));
                format!("scatter {}{when}: {}", places.join(", "), p.text(value, 0))
            }
        };
        if !p.bindings.is_empty() {
            let _ = write!(text, " where {}", p.bindings.join(", "));
        }
        format!("{text} : {}", self.type_text(s.out))
    }
}

fn reduce_name(op: ReduceOp) -> &'static str {
    match op {
        ReduceOp::Sum => "sum",
        ReduceOp::Prod => "prod",
        ReduceOp::Max => "max",
        ReduceOp::Min => "min",
    }
}

struct Printer<'a> {
    program: &'a Program,
    n_axes: u32,
    /// How often an expression with operands is used, then its name once it has one.
    uses: HashMap<*const Node, usize>,
    names: HashMap<*const Node, String>,
    bindings: Vec<String>,
}

impl<'a> Printer<'a> {
    fn new(program: &'a Program, s: &Stage) -> Self {
        let mut uses = HashMap::new();
        for e in s.expressions() {
            *uses.entry(std::ptr::from_ref(e.node())).or_insert(0) += 1;
            e.visit(&mut |e| {
                for child in e.children() {
                    *uses.entry(std::ptr::from_ref(child.node())).or_insert(0) += 1;
                }
            });
        }
        Printer { program, n_axes: s.axes.len() as u32, uses, names: HashMap::new(), bindings: vec![] }
    }

    fn affine(&self, a: &Affine) -> String {
        let mut text = String::new();
        for &(v, c) in &a.terms {
            let name = match v {
                Var::Loop(l) => format!("l{l}"),
                Var::Axis(i) if i < self.n_axes => format!("i{i}"),
                Var::Axis(i) => format!("r{}", i - self.n_axes),
            };
            if c < 0 {
                text += "-";
            } else if !text.is_empty() {
                text += "+";
            }
            if c.abs() != 1 {
                let _ = write!(text, "{}*", c.unsigned_abs());
            }
            text += &name;
        }
        if a.constant != 0 || text.is_empty() {
            let sign = if a.constant >= 0 && !text.is_empty() { "+" } else { "" };
            let _ = write!(text, "{sign}{}", a.constant);
        }
        text
    }

    /// The text, in parentheses if its operator binds less than `level`.
    fn text(&mut self, e: &Expr, level: u8) -> String {
        let key = std::ptr::from_ref(e.node());
        if let Some(name) = self.names.get(&key) {
            return name.clone();
        }
        let (text, binds) = self.plain(e);
        let leaf = matches!(e.node(), Node::Const(_) | Node::Index(_) | Node::Acc | Node::Load { pad: None, .. });
        if !leaf && self.uses.get(&key).copied().unwrap_or(0) > 1 {
            let name = format!("t{}", self.names.len());
            self.bindings.push(format!("{name} = {text}"));
            self.names.insert(key, name.clone());
            return name;
        }
        if binds < level { format!("({text})") } else { text }
    }

    fn plain(&mut self, e: &Expr) -> (String, u8) {
        const CALL: u8 = 9;
        let text = match e.node() {
            Node::Const(Const::Float(x)) if e.dtype() == DType::F32 => format!("{}", *x as f32),
            Node::Const(Const::Float(x)) => format!("{x}{}", e.dtype()),
            Node::Const(Const::Int(x)) if e.dtype() == DType::Bool => (*x != 0).to_string(),
            Node::Const(Const::Int(x)) if e.dtype() == DType::U64 => format!("{}u64", *x as u64),
            Node::Const(Const::Int(x)) => format!("{x}{}", e.dtype()),
            Node::Index(a) => format!("index({})", self.affine(a)),
            Node::Size(s) => format!("size({s})"),
            Node::Acc => "acc".to_owned(),
            Node::Load { tensor, index, pad } => {
                let index: Vec<String> = index
                    .iter()
                    .map(|ix| match ix {
                        Ix::Affine(a) => self.affine(a),
                        Ix::Checked(e) => format!("check({})", self.text(e, 0)),
                        Ix::Clamped(e) => format!("clamp({})", self.text(e, 0)),
                    })
                    .collect();
                let load = format!("%{}[{}]", self.program.tensor(*tensor).name, index.join(","));
                match pad {
                    None => load,
                    Some(p) => return (format!("{load} else {}", self.text(p, CALL)), 1),
                }
            }
            Node::Unary(UnaryOp::Neg, a) => return (format!("-{}", self.text(a, CALL)), 6),
            Node::Unary(op, a) => format!("{}({})", format!("{op:?}").to_lowercase(), self.text(a, 0)),
            Node::Binary(op, a, b) => {
                let (symbol, binds) = match op {
                    BinaryOp::Add => ("+", 4),
                    BinaryOp::Sub => ("-", 4),
                    BinaryOp::Mul => ("*", 5),
                    BinaryOp::Div => ("/", 5),
                    BinaryOp::Rem => ("%", 5),
                    BinaryOp::And => ("&", 2),
                    BinaryOp::Or => ("|", 2),
                    BinaryOp::Xor => ("^", 2),
                    BinaryOp::Shl => ("<<", 3),
                    BinaryOp::Shr => (">>", 3),
                    BinaryOp::Min | BinaryOp::Max | BinaryOp::Pow => {
                        let (a, b) = (self.text(a, 0), self.text(b, 0));
                        return (format!("{}({a}, {b})", format!("{op:?}").to_lowercase()), CALL);
                    }
                };
                let (a, b) = (self.text(a, binds), self.text(b, binds + 1));
                return (format!("{a} {symbol} {b}"), binds);
            }
            Node::Compare(op, a, b) => {
                let symbol = match op {
                    CompareOp::Eq => "==",
                    CompareOp::Ne => "!=",
                    CompareOp::Lt => "<",
                    CompareOp::Le => "<=",
                    CompareOp::Gt => ">",
                    CompareOp::Ge => ">=",
                };
                let (a, b) = (self.text(a, 4), self.text(b, 4));
                return (format!("{a} {symbol} {b}"), 1);
            }
            Node::Select(c, a, b) => format!("select({}, {}, {})", self.text(c, 0), self.text(a, 0), self.text(b, 0)),
            Node::Cast(a) => format!("{}({})", e.dtype(), self.text(a, 0)),
            Node::Bits(a) => format!("bits_{}({})", e.dtype(), self.text(a, 0)),
        };
        (text, CALL)
    }
}
