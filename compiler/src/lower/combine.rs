//! Combines the stages of a program: element-wise stages move into the stages that read them, or into the `finish` of
//! the reductions they read, so that intermediate tensors disappear.
//!
//! Requires: stages in order, every region of a tensor written once (loop bodies and scatters aside). Ensures: the same results; sums
//! keep their order, except that factors which do not depend on the reduction leave the sum.

use crate::expr::{Affine, BinaryOp, Body, CompareOp, Expr, Item, Ix, Node, Program, ReduceOp, Stage, TensorId, UnaryOp, Var, factors};
use crate::tensor::{DType, Parameter, Size, n_elements};

/// An expression of at most this many operators may be computed again for each of several readers.
const CHEAP_OPERATORS: usize = 6;

/// Combines stages until nothing changes. `is_constant` tells which operand positions are constants.
pub fn combine(program: &mut Program, is_constant: &dyn Fn(usize) -> bool) {
    let constants: Vec<bool> = {
        let mut flags = vec![false; program.tensors.len()];
        for (i, t) in program.operands.iter().enumerate() {
            flags[t.0 as usize] = is_constant(i);
        }
        for (t, _) in &program.constants {
            flags[t.0 as usize] = true;
        }
        flags
    };
    let mut items = std::mem::take(&mut program.items);
    while step(program, &constants, &mut items) {}
    remove_dead(program, &mut items);
    factor_sums(&mut items);
    program.items = items;
}

fn step(program: &Program, constants: &[bool], items: &mut Vec<Item>) -> bool {
    if remove_dead(program, items) {
        return true;
    }
    step_list(program, constants, &items.clone(), items)
}

/// One change in `items`, a list inside `all`.
fn step_list(program: &Program, constants: &[bool], all: &[Item], items: &mut Vec<Item>) -> bool {
    for item in items.iter_mut() {
        if let Item::Repeat { items, .. } = item
            && step_list(program, constants, all, items)
        {
            return true;
        }
    }
    for i in 0..items.len() {
        let Item::Stage(stage) = &items[i] else { continue };
        let out = stage.out;
        if program.results.contains(&out) || program.operands.contains(&out) {
            continue;
        }
        if inline_into_readers(program, constants, all, items, i) || finish_writers(program, all, items, out) {
            return true;
        }
    }
    false
}

/// Whether `index` is `axes` one to one, where an axis of extent 1 may also be the constant 0.
fn is_identity_over(index: &[Ix], axes: &[usize]) -> bool {
    index.len() == axes.len()
        && index.iter().zip(axes).enumerate().all(|(i, (ix, &extent))| match ix {
            Ix::Affine(a) => *a == Affine::var(Var::Axis(i as u32)) || (extent == 1 && *a == Affine::default()),
            _ => false,
        })
}

fn points(stage: &Stage) -> usize {
    n_elements(&stage.axes) * n_elements(&stage.reduce)
}

/// Rewrites every expression of the items.
pub(super) fn rewrite_items(items: &mut [Item], f: &mut impl FnMut(Expr) -> Expr) {
    for item in items {
        match item {
            Item::Stage(stage) => stage.body = stage.body.map(|e| e.rewrite(f)),
            Item::Repeat { items, .. } => rewrite_items(items, f),
            Item::Reshape { .. } => {}
        }
    }
}

fn loads(stage: &Stage) -> Vec<(TensorId, Vec<Ix>, bool)> {
    let mut list = vec![];
    for e in stage.expressions() {
        e.visit(&mut |e| {
            if let Node::Load { tensor, index, pad } = e.node() {
                list.push((*tensor, index.clone(), pad.is_some()));
            }
        });
    }
    list
}

/// Calls `f` for each tensor that the items read, once for each read.
pub(crate) fn visit_reads(items: &[Item], f: &mut impl FnMut(TensorId)) {
    for item in items {
        match item {
            Item::Stage(stage) => loads(stage).into_iter().for_each(|(t, ..)| f(t)),
            Item::Reshape { input, .. } => f(*input),
            Item::Repeat { items, .. } => visit_reads(items, f),
        }
    }
}

pub(crate) fn visit_writes(items: &[Item], f: &mut impl FnMut(TensorId)) {
    for item in items {
        match item {
            Item::Stage(stage) => f(stage.out),
            Item::Reshape { out, .. } => f(*out),
            Item::Repeat { items, .. } => visit_writes(items, f),
        }
    }
}

fn n_reads(items: &[Item], t: TensorId) -> usize {
    let mut n = 0;
    visit_reads(items, &mut |r| n += usize::from(r == t));
    n
}

/// Whether an item reads the tensor.
pub(super) fn reads(item: &Item, t: TensorId) -> bool {
    n_reads(std::slice::from_ref(item), t) > 0
}

/// How many writes of the tensor there are.
pub(super) fn n_writes(items: &[Item], t: TensorId) -> usize {
    let mut n = 0;
    visit_writes(items, &mut |w| n += usize::from(w == t));
    n
}

fn remove_dead(program: &Program, items: &mut Vec<Item>) -> bool {
    let all = items.clone();
    fn sweep(program: &Program, all: &[Item], items: &mut Vec<Item>) -> bool {
        let before = items.len();
        items.retain(|item| match item {
            Item::Stage(Stage { out, .. }) | Item::Reshape { out, .. } => program.results.contains(out) || n_reads(all, *out) > 0,
            Item::Repeat { items, .. } => !items.is_empty(),
        });
        let mut changed = items.len() < before;
        for item in items {
            if let Item::Repeat { items, .. } = item {
                changed |= sweep(program, all, items);
            }
        }
        changed
    }
    sweep(program, &all, items)
}

/// Whether no item of `between` writes what `stage` reads.
fn may_move_past(stage: &Stage, between: &[Item]) -> bool {
    let read: Vec<TensorId> = loads(stage).into_iter().map(|l| l.0).collect();
    let mut clear = true;
    visit_writes(between, &mut |w| clear &= !read.contains(&w) && w != stage.out);
    clear
}

fn n_operators(e: &Expr) -> usize {
    let mut n = 0;
    e.visit(&mut |e| {
        n += match e.node() {
            Node::Unary(UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Not, _)
            | Node::Binary(..)
            | Node::Compare(..)
            | Node::Select(..)
            | Node::Cast(_)
            | Node::Bits(_) => 1,
            Node::Unary(..) => CHEAP_OPERATORS,
            Node::Load { .. } | Node::Const(_) | Node::Index(_) | Node::Size(_) | Node::Acc => 0,
        };
        if matches!(e.node(), Node::Binary(BinaryOp::Pow, ..)) {
            n += CHEAP_OPERATORS;
        }
    });
    n
}

/// Moves an element-wise stage into every stage that reads it.
fn inline_into_readers(program: &Program, constants: &[bool], all: &[Item], items: &mut Vec<Item>, i: usize) -> bool {
    let Item::Stage(stage) = &items[i] else { return false };
    let Body::Map(value) = &stage.body else { return false };
    if !stage.writes_in_place() || n_writes(all, stage.out) != 1 || program.tensors[stage.out.0 as usize].dims != stage.axes {
        return false;
    }
    let out = stage.out;
    let reads_here: usize = n_reads(&items[i + 1..], out);
    if reads_here == 0 || reads_here != n_reads(all, out) {
        return false;
    }
    let from_constants = loads(stage).iter().all(|l| constants[l.0.0 as usize]) && !loads(stage).is_empty();
    let n_ops = n_operators(value);
    let mut readers = vec![];
    for (j, item) in items.iter().enumerate().skip(i + 1) {
        if !reads(item, out) {
            continue;
        }
        let Item::Stage(reader) = item else { return false };
        if !may_move_past(stage, &items[i + 1..j]) || (loads(stage).iter().any(|l| l.0 == reader.out)) {
            return false;
        }
        let inlinable =
            loads(reader).iter().filter(|l| l.0 == out).all(|(_, index, pad)| !pad && index.iter().all(|ix| matches!(ix, Ix::Affine(_))));
        // A reader that uses each element many times would compute it as often.
        let times =
            if n_ops <= CHEAP_OPERATORS && is_read_by_finish_alone(reader, out) { n_elements(&reader.axes) } else { points(reader) };
        let once = times <= 2 * n_elements(&stage.axes) || n_ops == 0 || from_constants || leaves_sum(value, reader, out, constants);
        if !inlinable || !once {
            return false;
        }
        readers.push(j);
    }
    if reads_here > 1 && n_ops > CHEAP_OPERATORS && readers.len() > 1 {
        return false;
    }
    let value = value.clone();
    for j in readers {
        let Item::Stage(reader) = &mut items[j] else { unreachable!("checked above") };
        reader.body = reader.body.map(|e| substitute(e, out, &value));
    }
    items.remove(i);
    true
}

/// Whether a reduction reads a tensor only where its result is finished.
fn is_read_by_finish_alone(reader: &Stage, t: TensorId) -> bool {
    matches!(&reader.body, Body::Reduce { value, .. } if !value.reads(t))
}

/// Whether a value is a read times a factor that can leave the sum of products in which the reader uses it.
fn leaves_sum(value: &Expr, reader: &Stage, out: TensorId, constants: &[bool]) -> bool {
    let Some((x, y)) = factors(reader) else { return false };
    let Node::Binary(BinaryOp::Mul, a, b) = value.node() else { return false };
    let (read, factor) = if a.loaded().is_some_and(|t| !constants[t.0 as usize]) { (a, b) } else { (b, a) };
    // A product of halves is rounded to one.
    if read.loaded().is_none() || n_operators(factor) > 0 || !matches!(value.dtype(), DType::F32 | DType::F64) {
        return false;
    }
    let n = reader.axes.len();
    [x, y].into_iter().filter(|e| e.loaded() == Some(out)).all(|e| {
        let Node::Load { index, .. } = e.node() else { return false };
        let placed = index.iter().all(|ix| matches!(ix, Ix::Affine(_))).then(|| at_index(factor, index));
        placed.is_some_and(|f| !depends_on_reduction(&f, n))
    })
}

/// `e` with every load of `tensor` replaced by `value` at the load's index.
fn substitute(e: &Expr, tensor: TensorId, value: &Expr) -> Expr {
    e.rewrite(&mut |e| match e.node() {
        Node::Load { tensor: t, index, .. } if *t == tensor => at_index(value, index),
        _ => e,
    })
}

fn at_index(value: &Expr, index: &[Ix]) -> Expr {
    value.map_affine(&mut |a| {
        a.substitute(|v| match v {
            Var::Axis(i) => match &index[i as usize] {
                Ix::Affine(a) => a.clone(),
                _ => unreachable!("only affine loads are replaced"),
            },
            Var::Loop(_) => Affine::var(v),
        })
    })
}

/// Moves an element-wise stage into the stages that write what it reads, where it reads nothing else of theirs.
fn finish_writers(program: &Program, all: &[Item], items: &mut Vec<Item>, out: TensorId) -> bool {
    let writers: Vec<usize> = (0..items.len()).filter(|&k| matches!(&items[k], Item::Stage(s) if s.out == out)).collect();
    let readers: Vec<usize> = (0..items.len()).filter(|&k| n_reads(&items[k..=k], out) > 0).collect();
    let [j] = readers[..] else { return false };
    let Item::Stage(reader) = &items[j] else { return false };
    let Body::Map(value) = &reader.body else { return false };
    let dims = &program.tensors[out.0 as usize].dims;
    let n_loads = loads(reader).iter().filter(|l| l.0 == out).count();
    if n_loads != n_reads(all, out) || writers.len() != n_writes(all, out) || writers.iter().any(|&w| w > j) || reader.axes != *dims {
        return false;
    }
    if !loads(reader).iter().filter(|l| l.0 == out).all(|(_, index, pad)| !pad && is_identity_over(index, dims)) {
        return false;
    }
    // An index is computed in scalars, an accumulator may be a vector.
    if is_read_by_index(value, out) && writers.iter().any(|&w| matches!(&items[w], Item::Stage(s) if matches!(s.body, Body::Reduce { .. })))
    {
        return false;
    }
    // An accumulator has one expression; a heavy one must not be repeated where the value is used twice.
    let (reader, value) = (reader.clone(), value.clone());
    let mut merged = vec![];
    for &w in &writers {
        let Item::Stage(writer) = &items[w] else { unreachable!("checked above") };
        let rest: Vec<Item> = items[w + 1..j].iter().filter(|item| !matches!(item, Item::Stage(s) if s.out == out)).cloned().collect();
        if !may_move_past(writer, &rest) || n_reads(&items[w..=w], out) > 0 || loads(writer).iter().any(|l| l.0 == reader.out) {
            return false;
        }
        let place = |a: &Affine| {
            a.substitute(|v| match v {
                Var::Axis(i) => writer.write[i as usize].clone(),
                Var::Loop(_) => Affine::var(v),
            })
        };
        let here = |e: &Expr, new: &Expr| {
            // Placed first, so that the writer's own expression keeps its axes.
            let placed = e.map_affine(&mut |a| place(a));
            placed.rewrite(&mut |e| match e.node() {
                Node::Load { tensor, .. } if *tensor == out => new.clone(),
                _ => e,
            })
        };
        let body = match &writer.body {
            Body::Map(old) => Body::Map(here(&value, old)),
            Body::Reduce { op, value: summed, finish } => Body::Reduce { op: *op, value: summed.clone(), finish: here(&value, finish) },
            Body::Arg { .. } | Body::Scatter { .. } => return false,
        };
        let write = reader.write.iter().map(place).collect();
        merged.push(Item::Stage(Stage { out: reader.out, write, body, ..writer.clone() }));
    }
    items.splice(j..=j, merged);
    for &w in writers.iter().rev() {
        items.remove(w);
    }
    true
}

/// Whether an index in the expression depends on the tensor.
fn is_read_by_index(e: &Expr, t: TensorId) -> bool {
    let mut found = false;
    e.visit(&mut |e| {
        if let Node::Load { index, .. } = e.node() {
            for ix in index {
                if let Ix::Checked(i) | Ix::Clamped(i) = ix {
                    i.visit(&mut |i| found |= matches!(i.node(), Node::Load { tensor, .. } if *tensor == t));
                }
            }
        }
    });
    found
}

/// `sum(a * s)` becomes `sum(a) * s` where `s` does not depend on the reduction: quantization scales leave the kernel's loop.
fn factor_sums(items: &mut [Item]) {
    for item in items {
        match item {
            Item::Repeat { items, .. } => factor_sums(items),
            Item::Stage(stage) => {
                let n = stage.axes.len();
                // A sum of nothing is zero, whatever the factor.
                let of_nothing = stage.reduce.contains(&0);
                if let Body::Reduce { op: ReduceOp::Sum, value, finish } = &mut stage.body
                    && value.dtype().is_float()
                    && !of_nothing
                {
                    let (inner, outer) = split_factors(value, n);
                    if let (Some(inner), Some(outer)) = (inner, outer)
                        && matches!(inner.node(), Node::Binary(BinaryOp::Mul, ..))
                    {
                        let acc = Expr::acc(inner.dtype());
                        let scaled = acc.binary(BinaryOp::Mul, &outer);
                        *finish = finish.with_acc(&scaled);
                        *value = inner;
                    }
                }
            }
            Item::Reshape { .. } => {}
        }
    }
}

/// A sum that a run may have nothing for is zero then, whatever the factor that left it: the extents of a run are known.
pub(crate) fn sums_of_nothing(parameters: &[Parameter], items: &mut [Item]) {
    for item in items {
        match item {
            Item::Repeat { items, .. } => sums_of_nothing(parameters, items),
            Item::Stage(stage) => {
                let n = stage.axes.len();
                let bounds = (n..n + stage.reduce.len()).filter_map(|axis| stage.bound(axis));
                let may_be_empty: Vec<Size> =
                    bounds.filter(|b| b.span(parameters).unwrap_or_else(|| b.range(parameters)).0 <= 0).cloned().collect();
                let Body::Reduce { op: ReduceOp::Sum, finish, .. } = &mut stage.body else { continue };
                for extent in may_be_empty {
                    let none = Expr::new(Node::Size(extent), DType::I64).compare(CompareOp::Le, &Expr::int(DType::I64, 0));
                    *finish = finish.rewrite(&mut |e| match e.node() {
                        Node::Binary(BinaryOp::Mul, acc, factor) if matches!((acc.node(), factor.node()), (Node::Acc, f) if !matches!(f, Node::Const(_))) => {
                            none.select(acc, &e)
                        }
                        _ => e,
                    });
                }
            }
            Item::Reshape { .. } => {}
        }
    }
}

/// The factors of a product that depend on axes from `n` on, and those that do not.
fn split_factors(e: &Expr, n: usize) -> (Option<Expr>, Option<Expr>) {
    if !depends_on_reduction(e, n) {
        return (None, Some(e.clone()));
    }
    let Node::Binary(BinaryOp::Mul, a, b) = e.node() else { return (Some(e.clone()), None) };
    let product = |x: Option<Expr>, y: Option<Expr>| match (x, y) {
        (Some(x), Some(y)) => Some(x.binary(BinaryOp::Mul, &y)),
        (x, y) => x.or(y),
    };
    let (a_in, a_out) = split_factors(a, n);
    let (b_in, b_out) = if a == b { (a_in.clone(), a_out.clone()) } else { split_factors(b, n) };
    (product(a_in, b_in), product(a_out, b_out))
}

fn depends_on_reduction(e: &Expr, n: usize) -> bool {
    let mut depends = false;
    let mut see = |a: &Affine| depends |= a.terms.iter().any(|t| matches!(t.0, Var::Axis(i) if i as usize >= n));
    e.visit(&mut |e| match e.node() {
        Node::Index(a) => see(a),
        Node::Load { index, .. } => index.iter().for_each(|ix| {
            if let Ix::Affine(a) = ix {
                see(a);
            }
        }),
        _ => {}
    });
    depends
}
