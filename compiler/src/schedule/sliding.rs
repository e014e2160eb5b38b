//! A window that slides over rows of a product: blocks of its results, each made just after the rows that it needs, so that what is
//! between the stages stays in the second-level cache and with the thread that made it. The rows where blocks meet are computed twice.

use super::cost::Machine;
use super::emitter::{Emitter, Point, Slot, index_depends};
use super::{MAX_PRIVATE_BYTES, ScheduleError, prepare, schedule_stage};
use crate::expr::{Affine, Body, Expr, Ix, Node, Sliding, Stage, Var};
use crate::nest;
use crate::tensor::n_elements;

/// The fewest rows of a product that are worth tiles of their own.
const LEAST_ROWS: usize = 14;
/// Of so many hundredths of the rows at most all may be computed.
const MOST_ROWS: usize = 125;

/// What one row takes, in bytes.
#[derive(Clone, Copy, Debug)]
struct Bytes {
    /// A row between the stages.
    row: usize,
    /// What of memory is read for it.
    read: usize,
    /// A row of the result.
    written: usize,
}

/// Emits both stages in one loop over blocks; false where that is not worth it.
pub(super) fn emit(e: &mut Emitter, s: &Sliding<'_>) -> Result<bool, ScheduleError> {
    let Some(block) = plan(e, s) else { return Ok(false) };
    let n = s.second.axes[s.axis] / block;
    let extent = s.first.axes[s.rows] as i64;
    let mut dims = s.first.axes.clone();
    dims[s.rows] = s.span(block);
    let order = prepare::preferred_order(e, s.first).unwrap_or_else(|| (0..dims.len()).collect());
    let decl = e.program().tensor(s.first.out).clone();
    let rows = e.scratch(&format!("{}_rows", decl.name), decl.dtype, &dims, &order);
    e.note(format!("blocks(rows={block})"));
    // A row of the tensor, and where it is among those of the block.
    let place = Affine::var(Var::Loop(1));
    let row = Affine::var(Var::Loop(0)).times((s.step * block) as i64).plus(&place).offset(s.start);
    let one = of_row(s, rows, &row, &place);
    let Node::Load { pad, .. } = s.read.node() else { unreachable!("a read") };
    let blank = Expr::new(Node::Const(pad_of(pad.as_ref())), decl.dtype);
    let outside = Stage { reduce: vec![], body: Body::Map(blank), ..one.clone() };
    let (low, high) = (s.start, s.start + s.span(n * block) as i64);
    let second = of_block(s, rows, block);
    e.repeat(0, n, None, |e| {
        e.repeat(1, dims[s.rows], None, |e| {
            if low >= 0 && high <= extent {
                return schedule_stage(e, &one);
            }
            let at: nest::Affine = e.affine(&row, &Point { axes: vec![], vector: None });
            e.branch((at, 0, extent), |e| schedule_stage(e, &one), |e| schedule_stage(e, &outside))
        })?;
        schedule_stage(e, &second)
    })?;
    Ok(true)
}

fn pad_of(pad: Option<&Expr>) -> crate::expr::Const {
    match pad.map(Expr::node) {
        Some(Node::Const(c)) => *c,
        _ => crate::expr::Const::Float(0.0),
    }
}

/// The first stage for one row.
fn of_row(s: &Sliding<'_>, out: crate::expr::TensorId, row: &Affine, place: &Affine) -> Stage {
    let axis = Var::Axis(s.rows as u32);
    let at = |e: &Expr| e.map_affine(&mut |a| a.substitute(|v| if v == axis { row.clone() } else { Affine::var(v) }));
    let write = (0..s.first.axes.len()).map(|k| if k == s.rows { place.clone() } else { Affine::var(Var::Axis(k as u32)) }).collect();
    let mut axes = s.first.axes.clone();
    axes[s.rows] = 1;
    Stage { out, write, axes, body: mapped(&s.first.body, at), ..s.first.clone() }
}

/// The second stage for one block.
fn of_block(s: &Sliding<'_>, rows: crate::expr::TensorId, block: usize) -> Stage {
    let axis = Var::Axis(s.axis as u32);
    let moved = Affine::var(axis).plus(&Affine::var(Var::Loop(0)).times(block as i64));
    let place = |a: &Affine| a.substitute(|v| if v == axis { moved.clone() } else { Affine::var(v) });
    let at = |e: &Expr| {
        e.map_affine(&mut |a| place(a)).rewrite(&mut |x| match x.node() {
            Node::Load { tensor, index, pad } if *tensor == s.first.out => {
                let Node::Load { index: known, .. } = s.read.node() else { return x };
                let mut index = index.clone();
                if let Ix::Affine(a) = &known[s.rows] {
                    index[s.rows] = Ix::Affine(a.offset(-s.start));
                }
                Expr::new(Node::Load { tensor: rows, index, pad: pad.clone() }, x.dtype())
            }
            _ => x,
        })
    };
    let mut axes = s.second.axes.clone();
    axes[s.axis] = block;
    Stage { write: s.second.write.iter().map(place).collect(), axes, body: mapped(&s.second.body, at), ..s.second.clone() }
}

fn mapped(body: &Body, f: impl Fn(&Expr) -> Expr) -> Body {
    match body {
        Body::Map(e) => Body::Map(f(e)),
        Body::Reduce { op, value, finish } => Body::Reduce { op: *op, value: f(value), finish: f(finish) },
        Body::Arg { op, value, last } => Body::Arg { op: *op, value: f(value), last: *last },
    }
}

/// Rows of the result that make a block.
fn plan(e: &Emitter, s: &Sliding<'_>) -> Option<usize> {
    let extent = s.first.axes[s.rows];
    let size = e.program().tensor(s.first.out).dtype.size_bytes();
    let (mut read, mut in_rows) = (0, false);
    let mut seen = vec![];
    for x in s.first.expressions() {
        x.visit(&mut |x| {
            let Node::Load { tensor, index, .. } = x.node() else { return };
            let moving = |axis: usize| axis != s.rows && s.first.axes[axis] >= LEAST_ROWS && index_depends(index, axis);
            if matches!(e.slots[tensor.0 as usize], Some(Slot::Memory { .. })) && !seen.contains(tensor) {
                seen.push(*tensor);
                in_rows |= (0..s.first.axes.len()).any(moving);
                read += n_elements(e.dims(*tensor)) * e.program().tensor(*tensor).dtype.size_bytes();
            }
        });
    }
    if !in_rows {
        return None;
    }
    let results = s.second.axes[s.axis];
    let bytes =
        Bytes { row: n_elements(&s.first.axes) / extent * size, read: read / extent, written: n_elements(&s.second.axes) / results * size };
    rows_of_block(&e.machine, s, extent, results, bytes)
}

/// The rows of the result in a block: blocks are equal, their rows and what they are made of stay in the second-level cache with the
/// results, and threads have equally many. Of those, what computes the fewest rows.
fn rows_of_block(machine: &Machine, s: &Sliding<'_>, extent: usize, results: usize, bytes: Bytes) -> Option<usize> {
    let fits = |block: usize| {
        let rows = s.span(block);
        rows * bytes.row <= MAX_PRIVATE_BYTES && rows * (bytes.row + bytes.read) + block * bytes.written <= machine.l2_bytes / 4 * 3
    };
    let threads = machine.threads.max(1);
    let computed = |block: usize| (results / block).div_ceil(threads) * threads * s.span(block);
    (1..results)
        .filter(|&block| results.is_multiple_of(block) && fits(block))
        .min_by_key(|&block| (computed(block), block))
        .filter(|&block| computed(block) * 100 <= extent * MOST_ROWS)
}

#[cfg(test)]
mod tests {
    use crate::expr::{parse, sliding};
    use crate::schedule::{Machine, Memory, Source, Storage, schedule};
    use crate::tensor::{DType, Tensor, dense_strides, n_elements};

    /// Blocks of a program over an image of so many rows and columns, on a machine with such a second-level cache.
    fn schedule_of([h, w]: [usize; 2], second: &str, out: [usize; 2], l2_bytes: usize, threads: usize) -> String {
        let text = format!(
            "program(%x: f32[{h},{w},8], %w: f32[8,32], %d: f32[3,3,32]) -> (%y) {{
  %t[i0,i1,i2] = reduce sum over r0 in 0..8: %x[i0,i1,r0] * %w[r0,i2] -> max(acc, 0) : f32[{h},{w},32]
  %y[i0,i1,i2] = reduce sum over r0 in 0..3, r1 in 0..3: {second} * %d[r0,r1,i2] : f32[{},{},32]
}}",
            out[0], out[1]
        );
        let program = parse(&text).unwrap_or_else(|e| panic!("{e}"));
        assert!(sliding(&program).is_some());
        let memory = |id: usize, dims: &[usize]| Memory {
            storage: Storage { id, name: format!("s{id}"), dtype: DType::F32, len: n_elements(dims) },
            offset: 0,
            strides: dense_strides(dims, &(0..dims.len()).collect::<Vec<_>>()),
        };
        let constant = |dims: &[usize]| Source::Constant(Tensor::from_slice(dims, &vec![0.5f32; n_elements(dims)]));
        let operands = vec![Source::Memory(memory(0, &[h, w, 8])), constant(&[8, 32]), constant(&[3, 3, 32])];
        let machine = Machine { l2_bytes, threads, ..Machine::wide(16, 32) };
        let mut scheduled = schedule("k", &program, operands, vec![memory(1, &[out[0], out[1], 32])], &machine).expect("a kernel");
        assert_eq!(crate::nest::verify(&scheduled.kernel), []);
        let serial = scheduled.kernel.clone();
        crate::nest::parallel::mark(&mut scheduled.kernel, 1, |_, b| b.access == crate::nest::Access::ReadWrite);
        assert_eq!(crate::nest::verify(&scheduled.kernel), []);
        assert_ne!(scheduled.kernel, serial, "blocks are independent");
        if serial.schedule.starts_with("blocks") {
            assert_eq!(crate::nest::pieces::pieces(&scheduled.kernel).len(), 1, "{}", scheduled.kernel);
        }
        serial.schedule
    }

    #[test]
    fn blocks_stay_in_the_cache_and_divide_among_threads() {
        let padded = "(%t[i0+r0-1,i1+r1-1,i2] else 0)";
        let of = |l2: usize, threads: usize| schedule_of([48, 40], padded, [48, 40], l2 << 10, threads);
        assert_eq!(of(512, 1), "blocks(rows=24) contract(mr=14 nr=32 ku=4) map(lanes=16) contract(mr=8 nr=16 ku=4)");
        assert!(of(200, 1).starts_with("blocks(rows=12) "), "{}", of(200, 1));
        assert!(of(512, 2).starts_with("blocks(rows=24) "));
        assert!(of(512, 3).starts_with("blocks(rows=16) "));
        assert!(of(32, 1).starts_with("contract("), "too many rows would be computed twice");
        let strided = "%t[2*i0+r0,2*i1+r1,i2]";
        assert!(schedule_of([49, 41], strided, [24, 20], 512 << 10, 1).starts_with("blocks(rows=12) "));
        assert!(schedule_of([49, 9], strided, [24, 4], 512 << 10, 1).starts_with("contract("), "few rows to a product");
    }
}
