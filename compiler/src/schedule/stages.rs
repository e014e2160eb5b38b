//! Stages that share loops: one loop over rows of the result, in which every stage computes its part of the row while what it reads is
//! in the cache. Tensors between the stages shrink to one block of rows.
//!
//! Softmax, normalizations and attention are all this: several stages over one hot row. The program stays a program, with
//! [`Item::Repeat`] around smaller stages, so every template serves what is inside.

use super::emitter::{Rest, halves, stride_along};
use super::in_result::early_stage;
use super::machine::Machine;
use super::{MAX_PRIVATE_BYTES, Memory, Source, places_of_data};
use crate::expr::{
    Affine, Body, Expr, Item, Ix, LiveRows, Nested, Nesting, Node, Program, Stage, TensorDecl, TensorId, Var, factors, nesting,
    plain_stages,
};
use crate::tensor::{DType, Size, n_elements};

/// The most rows of a block that holds a product: two tiles of the widest machine.
const PRODUCT_ROWS: usize = 28;
/// The least elements of a program that is worth loops around its stages.
const LEAST_ELEMENTS: usize = 2048;
/// The fewest columns for which an operand is transposed once for all rows.
const TRANSPOSED_COLUMNS: usize = 8;

/// Stages inside shared loops.
pub(super) struct Shared {
    /// The program with them.
    pub(super) program: Program,
    /// Tensors that must be row-major because that is what they are for.
    pub(super) row_major: Vec<TensorId>,
    /// Other numbers of rows that a block may have.
    pub(super) other_rows: Vec<usize>,
}

/// The blocks that stages share.
struct Plan {
    /// Rows of the innermost loop in a block.
    rows: usize,
    /// Whether it holds a product.
    of_products: bool,
    /// Bytes that one row touches.
    row_bytes: usize,
}

impl Plan {
    /// Half as many rows, twice and four times as many, in equal blocks where there are such: every thread can have the scratch of a block,
    /// and there are blocks for all.
    fn other_rows(&self, nesting: &Nesting, threads: usize) -> Vec<usize> {
        let Some((&extent, outer)) = nesting.loops.split_last() else { return vec![] };
        let even = |n: usize| (1..=n).rev().find(|&b| extent.is_multiple_of(b)).filter(|b| 3 * b >= 2 * n).unwrap_or(n);
        let shared = |n: usize| outer.iter().product::<usize>() * extent.div_ceil(n) >= threads;
        let others = [self.rows / 2, 2 * self.rows, 4 * self.rows].into_iter().filter(|n| (1..=extent).contains(n)).map(even);
        others.filter(|&n| n != self.rows && n * self.row_bytes <= MAX_PRIVATE_BYTES && shared(n)).collect()
    }
}

/// The program with its stages inside shared loops; `None` where nothing is gained.
pub(super) fn nest_stages(program: &Program, operands: &[Source], results: &[Memory], machine: &Machine) -> Option<Shared> {
    let nesting = nesting(program)?;
    let stages = plain_stages(program)?;
    if stages.iter().any(|s| places_of_data::is_for(program, s)) {
        return None;
    }
    let plan = plan(program, &stages, &nesting, results, machine)?;
    let asked = machine.choice.rows.map(|n| n.min(nesting.loops.last().copied().unwrap_or(1)));
    let early = early_stage(program, &stages, &nesting, results);
    let mut nest = Nest {
        out: Program { items: vec![], ..program.clone() },
        strides: strides(program, operands),
        stages,
        nesting: &nesting,
        local: vec![None; program.tensors.len()],
        block: asked.unwrap_or(plan.rows),
        of_products: plan.of_products,
        early,
        transposed: vec![],
        copies: vec![],
    };
    nest.out.items = nest.level(&mut vec![]);
    Some(Shared { program: nest.out, row_major: nest.copies, other_rows: plan.other_rows(&nesting, machine.threads) })
}

/// Strides of operands in memory; a constant has none, it is laid out as the kernel likes it.
fn strides(program: &Program, operands: &[Source]) -> Vec<Option<Vec<i64>>> {
    let mut strides = vec![None; program.tensors.len()];
    for (t, source) in program.operands.iter().zip(operands) {
        strides[t.0 as usize] = match source {
            Source::Memory(m) => Some(m.strides.clone()),
            Source::RowMajor { strides, .. } => Some(strides.clone()),
            Source::Constant(_) => None,
        };
    }
    strides
}

/// Blocks whose rows stay in half of the first-level cache; `None` if everything is in it anyway.
fn plan(program: &Program, stages: &[&Stage], nesting: &Nesting, results: &[Memory], machine: &Machine) -> Option<Plan> {
    let rows = *nesting.loops.last()?;
    let innermost = |n: &Nested| n.axes.len() == nesting.loops.len();
    // Elements that one row of a block touches: tensors between the stages, and operands that follow the rows.
    let (mut kept, mut all, mut product) = (0, 0, false);
    let mut seen: Vec<TensorId> = vec![];
    for (stage, n) in stages.iter().zip(&nesting.stages) {
        let extents: Vec<usize> = stage.axes.iter().chain(&stage.reduce).copied().collect();
        all += n_elements(&extents);
        if !innermost(n) {
            continue;
        }
        product |= factors(stage).is_some() && n_elements(&stage.reduce) >= 8;
        let of_row = |extents: &[(usize, usize)]| -> usize { extents.iter().filter(|(a, _)| !n.axes.contains(a)).map(|e| e.1).product() };
        // What is only written needs no place until then.
        if stage.out != stages[stages.len() - 1].out {
            kept += of_row(&stage.axes.iter().copied().enumerate().collect::<Vec<_>>());
        }
        for e in stage.expressions() {
            e.visit(&mut |e| {
                let Node::Load { tensor, index, .. } = e.node() else { return };
                if program.operands.contains(tensor) && !seen.contains(tensor) {
                    seen.push(*tensor);
                    let touched: Vec<(usize, usize)> =
                        extents.iter().copied().enumerate().filter(|(a, _)| super::emitter::index_depends(index, *a)).collect();
                    if touched.iter().any(|t| Some(&t.0) == n.axes.last()) {
                        kept += of_row(&touched);
                    }
                }
            });
        }
    }
    if all < LEAST_ELEMENTS {
        return None;
    }
    let row_bytes = 4 * kept.max(1);
    let fit = (machine.l1_bytes / 2 / row_bytes).max(1);
    let of_products = product;
    let blocks = |rows: usize| Some(Plan { rows, of_products, row_bytes });
    if product {
        let wanted = fit.clamp(PRODUCT_ROWS / 2, PRODUCT_ROWS);
        let near = rows.div_ceil(rows.div_ceil(wanted));
        // Blocks of two sizes would want the weights in two orders.
        let even = (PRODUCT_ROWS / 2..=PRODUCT_ROWS).filter(|b| rows % b == 0).min_by_key(|b| b.abs_diff(wanted));
        let by_weights = matches!(stages, [map, _] if matches!(map.body, Body::Map(_)));
        let last = (stages.last()?, nesting.stages.last()?.axes.last()?);
        let is_live = last.0.bound(*last.1).is_some();
        return blocks(even.filter(|_| by_weights || is_live).unwrap_or(near));
    }
    let last = stages[stages.len() - 1];
    let along = *nesting.stages[stages.len() - 1].axes.last()?;
    let unit = program.results.iter().zip(results).any(|(&t, m)| t == last.out && last.stride_along(&m.strides, along) == 1);
    if unit {
        // Lanes run along the rows. Equal blocks add in the same order, so that equal rows have equal results.
        let lanes = machine.lanes as usize;
        let wanted = (fit.max(4 * lanes) / lanes * lanes).min(rows);
        return blocks((1..=wanted).rev().find(|b| rows % b == 0).filter(|b| 4 * b >= 3 * wanted).unwrap_or(wanted));
    }
    let fit = fit.min(rows);
    blocks((1..=fit).rev().find(|b| rows % b == 0).filter(|&b| 2 * b >= fit.min(8)).unwrap_or(fit))
}

/// A tensor inside the loops: its smaller self, and the axes that the loops run over.
#[derive(Clone)]
struct Local {
    tensor: TensorId,
    axes: Vec<usize>,
}

struct Nest<'a> {
    out: Program,
    strides: Vec<Option<Vec<i64>>>,
    stages: Vec<&'a Stage>,
    nesting: &'a Nesting,
    local: Vec<Option<Local>>,
    block: usize,
    /// Whether blocks hold rows of products.
    of_products: bool,
    /// The stage whose tensor is where the result of the last one will be.
    early: Option<usize>,
    /// Reads of a stage that a transposed copy stands for.
    transposed: Vec<(usize, Expr, Expr)>,
    /// Those copies.
    copies: Vec<TensorId>,
}

/// One iteration of a loop: where its rows begin, and how many there are.
#[derive(Clone)]
struct Rows {
    start: Affine,
    extent: usize,
    /// How many of them there are, where only a run knows it.
    bound: Option<Size>,
}

impl Nest<'_> {
    /// The items inside so many loops.
    fn level(&mut self, at: &mut Vec<Rows>) -> Vec<Item> {
        let depth = at.len();
        let mut items = vec![];
        for i in 0..self.stages.len() {
            if self.nesting.stages[i].axes.len() == depth {
                self.stage(i, at, &mut items);
            }
        }
        let Some(&extent) = self.nesting.loops.get(depth) else { return items };
        let innermost = depth + 1 == self.nesting.loops.len();
        if innermost {
            self.transpose(at, &mut items);
        }
        let step = if innermost { self.block } else { 1 };
        let var = depth as u32;
        if let Some(bound) = self.bound(depth).cloned() {
            let mut left = Rest::new(extent as i64, Some(&bound));
            let mut repeat = |nest: &mut Self, extent: usize, live: LiveRows, rows: usize, bound: Option<Size>| {
                at.push(Rows { start: Affine::var(Var::Loop(var)), extent: rows, bound });
                let body = nest.level(at);
                at.pop();
                items.push(Item::Repeat { var, extent, live: Some(live), items: body });
            };
            let in_blocks = self.of_products && step > 1 && extent % step == 0;
            for step in halves(step as i64) {
                let run = left.take(step);
                let Some((from, to)) = run.live.clone().filter(|_| !run.is_never()) else { continue };
                repeat(self, extent, LiveRows { from, to: to.clone(), step }, step as usize, None);
                if in_blocks {
                    // What is left is one block of fewer rows.
                    let rest = bound.minus(&to);
                    let last = (extent - step as usize) as i64;
                    let from = to.at_most(last);
                    let live = LiveRows { to: from.plus(&rest.at_most(1)), from, step: 1 };
                    repeat(self, last as usize + 1, live, step as usize, Some(rest));
                    break;
                }
            }
            return items;
        }
        let (mut n, mut rest) = (extent / step, extent % step);
        if self.of_products && n > 1 && 0 < rest && rest < step / 2 {
            // So few rows would read the shared operand once more for themselves.
            (n, rest) = (n - 1, rest + step);
        }
        let start = if n > 1 { Affine::var(Var::Loop(var)).times(step as i64) } else { Affine::default() };
        at.push(Rows { start, extent: step, bound: None });
        let body = self.level(at);
        at.pop();
        if n > 1 {
            items.push(Item::Repeat { var, extent: n, live: None, items: body });
        } else {
            items.extend(body);
        }
        if rest > 0 {
            at.push(Rows { start: Affine::constant((n * step) as i64), extent: rest, bound: None });
            items.extend(self.level(at));
            at.pop();
        }
        items
    }

    /// What only a run knows of the rows of a loop.
    fn bound(&self, depth: usize) -> Option<&Size> {
        let last = self.stages.last()?;
        last.bound(*self.nesting.stages.last()?.axes.get(depth)?)
    }

    fn declare(&mut self, name: &str, like: &TensorDecl, dims: Vec<usize>) -> TensorId {
        let taken = |n: &str| self.out.tensors.iter().any(|t| t.name == n);
        let name = (0..).map(|i| format!("{name}.row{i}")).find(|n| !taken(n)).expect("an unbounded range");
        self.out.tensors.push(TensorDecl { name, dtype: like.dtype, dims, bounds: vec![] });
        TensorId(self.out.tensors.len() as u32 - 1)
    }

    /// A stage for the rows `at`.
    fn stage(&mut self, i: usize, at: &[Rows], items: &mut Vec<Item>) {
        let stage = self.stages[i];
        let nested = &self.nesting.stages[i];
        let mut axes = stage.axes.clone();
        for (&a, rows) in nested.axes.iter().zip(at) {
            axes[a] = rows.extent;
        }
        let place = |a: &Affine| {
            a.substitute(|v| match v {
                Var::Axis(x) => match nested.axes.iter().position(|&n| n == x as usize) {
                    Some(l) => Affine::var(v).plus(&at[l].start),
                    None => Affine::var(v),
                },
                Var::Loop(_) => Affine::var(v),
            })
        };
        let (out, write) = if nested.whole || nested.axes.is_empty() {
            (stage.out, stage.write.iter().map(place).collect())
        } else if self.early == Some(i) {
            let result = self.stages[self.stages.len() - 1].out;
            self.local[stage.out.0 as usize] = Some(Local { tensor: result, axes: vec![] });
            (result, stage.write.iter().map(place).collect())
        } else {
            let decl = self.out.tensor(stage.out).clone();
            let tensor = self.declare(&decl.name, &decl, axes.clone());
            // Along other axes than the loops it has as much as in a run.
            let bound = |k: usize| decl.bound(k).filter(|_| !nested.axes.contains(&k)).cloned();
            self.out.tensors[tensor.0 as usize].bounds = (0..axes.len()).map(bound).collect();
            self.local[stage.out.0 as usize] = Some(Local { tensor, axes: nested.axes.clone() });
            (tensor, stage.write.clone())
        };
        let move_expr = |e: &Expr| {
            let (local, transposed) = (&self.local, &self.transposed);
            let swapped = e.rewrite(&mut |e| transposed.iter().find(|t| t.0 == i && t.1 == e).map_or(e, |t| t.2.clone()));
            let moved = swapped.map_affine(&mut |a| place(a));
            moved.rewrite(&mut |e| match e.node() {
                Node::Load { tensor, index, pad } => {
                    let Some(Some(l)) = local.get(tensor.0 as usize) else { return e };
                    // Along the loops the smaller tensor has the rows of this iteration only.
                    let mut index = index.clone();
                    for (&dim, &axis) in l.axes.iter().zip(&nested.axes) {
                        index[dim] = Ix::Affine(Affine::var(Var::Axis(axis as u32)));
                    }
                    Expr::new(Node::Load { tensor: l.tensor, index, pad: pad.clone() }, e.dtype())
                }
                _ => e,
            })
        };
        let body = stage.body.map(move_expr);
        let mut bounds = stage.bounds.clone();
        nested.axes.iter().zip(at).for_each(|(&a, rows)| {
            if a >= bounds.len() && rows.bound.is_some() {
                bounds.resize(axes.len() + stage.reduce.len(), None);
            }
            if let Some(bound) = bounds.get_mut(a) {
                bound.clone_from(&rows.bound);
            }
        });
        items.push(Item::Stage(Stage { out, write, axes, reduce: stage.reduce.clone(), bounds, body }));
    }

    /// Transposes, before the innermost loop, operands of products that all its rows read across their memory.
    fn transpose(&mut self, at: &[Rows], items: &mut Vec<Item>) {
        for i in 0..self.stages.len() {
            let nested = &self.nesting.stages[i];
            if nested.axes.len() != self.nesting.loops.len() {
                continue;
            }
            let stage = self.stages[i];
            let Some((x, y)) = factors(stage) else { continue };
            for (shared, other) in [(x, y), (y, x)] {
                let Some(column) = self.strided_column(stage, nested, shared, other) else { continue };
                let Node::Load { tensor, index, .. } = shared.node() else { continue };
                let outer = &nested.axes[..at.len()];
                let extents: Vec<usize> = stage.axes.iter().chain(&stage.reduce).copied().collect();
                let mut axes: Vec<usize> =
                    (0..extents.len()).filter(|&a| a != column && !outer.contains(&a) && super::emitter::index_depends(index, a)).collect();
                axes.push(column);
                let dims: Vec<usize> = axes.iter().map(|&a| extents[a]).collect();
                let shared = &if shared.dtype().is_half() { shared.cast(DType::F32) } else { shared.clone() };
                let decl = TensorDecl { dtype: shared.dtype(), ..self.out.tensor(*tensor).clone() };
                let copy = self.declare(&format!("{}.transposed", decl.name), &decl, dims.clone());
                self.copies.push(copy);
                let value = shared.map_affine(&mut |a| {
                    a.substitute(|v| match v {
                        Var::Axis(x) => match (axes.iter().position(|&a| a == x as usize), outer.iter().position(|&a| a == x as usize)) {
                            (Some(p), _) => Affine::var(Var::Axis(p as u32)),
                            (None, Some(l)) => at[l].start.clone(),
                            (None, None) => Affine::default(),
                        },
                        Var::Loop(_) => Affine::var(v),
                    })
                });
                let write = (0..dims.len()).map(|k| Affine::var(Var::Axis(k as u32))).collect();
                let bounds = axes.iter().map(|&a| stage.bound(a).cloned()).collect();
                items.push(Item::Stage(Stage { out: copy, write, axes: dims, reduce: vec![], bounds, body: Body::Map(value) }));
                let index = axes.iter().map(|&a| Ix::Affine(Affine::var(Var::Axis(a as u32)))).collect();
                let read = Expr::new(Node::Load { tensor: copy, index, pad: None }, shared.dtype());
                self.transposed.push((i, shared.clone(), read));
            }
        }
    }

    /// The output axis that only `shared` moves along, and not by adjacent elements, while the rows move only `other`.
    fn strided_column(&self, stage: &Stage, nested: &Nested, shared: &Expr, other: &Expr) -> Option<usize> {
        let (Node::Load { tensor, index, pad: None }, Node::Load { index: other, .. }) = (shared.node(), other.node()) else { return None };
        let strides = self.strides[tensor.0 as usize].as_ref()?;
        let moves = super::emitter::index_depends;
        let &row = nested.axes.last()?;
        if moves(index, row) || !moves(other, row) || index.iter().any(|ix| !matches!(ix, Ix::Affine(_))) {
            return None;
        }
        let stride = |a: usize| -> i64 { stride_along(index, strides, a) };
        let column = (0..stage.axes.len())
            .filter(|&a| !nested.axes.contains(&a) && moves(index, a) && !moves(other, a))
            .max_by_key(|&a| stage.axes[a])?;
        (stage.axes[column] >= TRANSPOSED_COLUMNS && stride(column) != 1).then_some(column)
    }
}

#[cfg(test)]
mod tests {
    use super::nest_stages;
    use crate::expr::{Program, eval, parse, verify};
    use crate::schedule::{Machine, Memory, Source, Storage};
    use crate::tensor::{DType, Tensor, dense_strides, n_elements};

    fn memory(id: usize, dims: &[usize]) -> Memory {
        let storage = Storage { id, name: format!("s{id}"), dtype: DType::F32, len: n_elements(dims) };
        Memory { storage, offset: 0, strides: dense_strides(dims, &(0..dims.len()).collect::<Vec<_>>()) }
    }

    fn nested(text: &str) -> (Program, Option<Program>) {
        let program = parse(text).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(verify(&program), []);
        let operands: Vec<Source> =
            program.operands.iter().enumerate().map(|(i, &t)| Source::Memory(memory(i, &program.tensor(t).dims))).collect();
        let results: Vec<Memory> = program.results.iter().enumerate().map(|(i, &t)| memory(100 + i, &program.tensor(t).dims)).collect();
        let nested = nest_stages(&program, &operands, &results, &Machine::wide(16, 32));
        (program, nested.map(|n| n.program))
    }

    /// Nests a program and compares its results with those of the plain one.
    fn check(text: &str) -> String {
        let (program, nested) = nested(text);
        let nested = nested.expect("shared loops");
        assert_eq!(verify(&nested), [], "{nested}");
        let operands: Vec<Tensor> = program
            .operands
            .iter()
            .map(|&t| {
                let dims = &program.tensor(t).dims;
                let values: Vec<f32> = (0..n_elements(dims)).map(|i| ((i * 7919 + t.0 as usize * 31) % 101) as f32 / 50.0 - 1.0).collect();
                Tensor::from_slice(dims, &values)
            })
            .collect();
        let (want, got) = (eval(&program, &operands).expect("plain"), eval(&nested, &operands).expect("nested"));
        for (w, g) in want.iter().zip(&got) {
            for (w, g) in w.to_f64s().iter().zip(g.to_f64s()) {
                assert!((w - g).abs() <= 1e-5 * (1.0 + w.abs()), "{g} where {w} is right\n{nested}");
            }
        }
        nested.to_string()
    }

    #[test]
    fn rows_of_attention_stay_in_blocks() {
        let text = check(
            "program(%q: f32[40,2,8], %k: f32[33,2,8], %v: f32[33,2,8]) -> (%y) {
  %s[i0,i1,i2] = reduce sum over r0 in 0..8: %q[i1,i0,r0] * %k[i2,i0,r0] -> acc * 0.5 : f32[2,40,33]
  %m[i0,i1,i2] = reduce max over r0 in 0..33: %s[i0,i1,r0] : f32[2,40,1]
  %e[i0,i1,i2] = exp(%s[i0,i1,i2] - %m[i0,i1,0]) : f32[2,40,33]
  %z[i0,i1,i2] = reduce sum over r0 in 0..33: %e[i0,i1,r0] -> 1 / acc : f32[2,40,1]
  %y[i0,i1,i2] = reduce sum over r0 in 0..33: %e[i0,i1,r0] * %v[r0,i0,i2] -> acc * %z[i0,i1,0] : f32[2,40,8]
}",
        );
        insta::assert_snapshot!(text, @"
        program(%q: f32[40,2,8], %k: f32[33,2,8], %v: f32[33,2,8]) -> (%y) {
          repeat l0 in 0..2 {
            %k.transposed.row0[i0,i1] = %k[i1,l0,i0] : f32[8,33]
            repeat l1 in 0..2 {
              %s.row0[i0,i1,i2] = reduce sum over r0 in 0..8: %q[20*l1+i1,l0+i0,r0] * %k.transposed.row0[r0,i2] -> acc * 0.5 : f32[1,20,33]
              %m.row0[i0,i1,i2] = reduce max over r0 in 0..33: %s.row0[i0,i1,r0] : f32[1,20,1]
              %e.row0[i0,i1,i2] = exp(%s.row0[i0,i1,i2] - %m.row0[i0,i1,0]) : f32[1,20,33]
              %z.row0[i0,i1,i2] = reduce sum over r0 in 0..33: %e.row0[i0,i1,r0] -> 1 / acc : f32[1,20,1]
              %y[l0+i0,20*l1+i1,i2] for i0 in 0..1, i1 in 0..20, i2 in 0..8 = reduce sum over r0 in 0..33: %e.row0[i0,i1,r0] * %v[r0,l0+i0,i2] -> acc * %z.row0[i0,i1,0] : f32[2,40,8]
            }
          }
        }
        ");
    }

    #[test]
    fn statistics_may_be_results_too() {
        let text = check(
            "program(%x: f32[600,16]) -> (%m, %y) {
  %m[i0,i1] = reduce sum over r0 in 0..16: %x[i0,r0] -> acc / 16 : f32[600,1]
  %y[i0,i1] = %x[i0,i1] - %m[i0,0] : f32[600,16]
}",
        );
        insta::assert_snapshot!(text, @"
        program(%x: f32[600,16]) -> (%m, %y) {
          repeat l0 in 0..3 {
            %m[200*l0+i0,i1] for i0 in 0..200, i1 in 0..1 = reduce sum over r0 in 0..16: %x[200*l0+i0,r0] -> acc / 16 : f32[600,1]
            %y[200*l0+i0,i1] for i0 in 0..200, i1 in 0..16 = %x[200*l0+i0,i1] - %m[200*l0+i0,0] : f32[600,16]
          }
        }
        ");
    }

    #[test]
    fn a_map_before_a_product_is_made_in_even_blocks() {
        let text = check(
            "program(%x: f32[64,3,56], %s: f32[64], %w: f32[64,20]) -> (%y) {
  %m[i0,i1,i2] = max(%x[i0,i1,i2] * %s[i0], 0) : f32[64,3,56]
  %y[i0,i1,i2] = reduce sum over r0 in 0..64: %m[r0,i1,i2] * %w[r0,i0] : f32[20,3,56]
}",
        );
        insta::assert_snapshot!(text, @"
        program(%x: f32[64,3,56], %s: f32[64], %w: f32[64,20]) -> (%y) {
          repeat l0 in 0..3 {
            repeat l1 in 0..2 {
              %m.row0[i0,i1,i2] = max(%x[i0,l0+i1,28*l1+i2] * %s[i0], 0) : f32[64,1,28]
              %y[i0,l0+i1,28*l1+i2] for i0 in 0..20, i1 in 0..1, i2 in 0..28 = reduce sum over r0 in 0..64: %m.row0[r0,i1,i2] * %w[r0,i0] : f32[20,3,56]
            }
          }
        }
        ");
    }

    #[test]
    fn what_all_rows_need_is_computed_before_them() {
        check(
            "program(%x: f32[4,64,32], %w: f32[64,32]) -> (%y) {
  %b[i0,i1] = exp(%w[i0,i1]) : f32[64,32]
  %m[i0,i1] = reduce max over r0 in 0..32: %x[i0,i1,r0] + %b[i1,r0] : f32[4,64]
  %y[i0,i1,i2] = %x[i0,i1,i2] * %b[i1,i2] - %m[i0,i1] : f32[4,64,32]
}",
        );
    }

    #[test]
    fn small_programs_stay_as_they_are() {
        let (_, nested) = nested(
            "program(%x: f32[4,8]) -> (%y) {
  %m[i0] = reduce max over r0 in 0..8: %x[i0,r0] : f32[4]
  %y[i0,i1] = %x[i0,i1] - %m[i0] : f32[4,8]
}",
        );
        assert_eq!(nested, None);
    }
}
