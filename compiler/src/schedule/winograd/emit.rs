//! The nest: blocks of tiles; in each, the input's transform, then by panels the products and the output's transform.

use super::form::{Form, Weights};
use super::plan::{Order, Plan};
use super::shape::{Shape, Side};
use super::transform;
use crate::expr::{Affine as StageAffine, BinaryOp, Body, Const, Expr, Ix, Node, ReduceOp, Stage, TensorId, Var};
use crate::nest::{Affine, BufferId, Reg};
use crate::schedule::ScheduleError;
use crate::schedule::contract::Tiles;
use crate::schedule::emitter::{Emitter, Lanes, Point, Run};
use crate::schedule::reduce::loop_over;
use crate::tensor::{DType, Size, Tensor};

type Done = Result<(), ScheduleError>;

/// Axes of the stage that multiplies: two for panel and point, the outer one first, then tile, column, channel.
const N_PRODUCT_AXES: usize = 5;
const COLUMN: usize = 3;
/// How many tiles before its own a line of the output is asked for.
const TILES_AHEAD: i64 = 2;

/// A range of output channels in panels of one width.
struct Panels {
    first: usize,
    count: usize,
    /// Columns of a panel, with those that fill its last vector.
    width: usize,
    /// Columns that exist.
    valid: usize,
    /// The products, of these panels only: threads that share the panels each have their own.
    products: Scratch,
    tiles: Tiles,
}

/// Scratch: a buffer and its strides.
struct Scratch {
    buffer: BufferId,
    tensor: TensorId,
    /// Between panels, where all of them wait.
    panel: i64,
    /// Between planes.
    plane: i64,
    /// Between tiles, or positions.
    step: i64,
}

struct Emission<'a> {
    stage: &'a Stage,
    shape: &'a Shape,
    plan: &'a Plan,
    /// The input under the transform of rows.
    rows: Scratch,
    /// The input under both transforms.
    input: Scratch,
    /// Products under the transform of rows, where registers are few.
    half: Option<Scratch>,
    in_lanes: u32,
    /// Whether outputs go further than to the second-level cache: their lines are asked for before they are stored.
    is_far: bool,
}

/// The tile columns of a block. Along a side of which only a run knows the extent, what is inside is found out tile by tile.
#[derive(Clone)]
struct Block {
    point: Point,
    /// Its first tile row.
    row: Affine,
    /// Its first tile column.
    col: Affine,
    /// The columns of the input's window that are inside.
    inside: (i64, i64),
    /// Outputs of each tile column.
    outputs: Vec<usize>,
}

/// A plane's elements: an odd number of cache lines, so that planes do not share sets.
fn plane(len: usize) -> i64 {
    let lines = len.div_ceil(16);
    (lines + usize::from(lines.is_multiple_of(2))) as i64 * 16
}

pub(super) fn emit(e: &mut Emitter, stage: &Stage, shape: &Shape, plan: &Plan) -> Done {
    let [y, x] = &plan.forms;
    let (n_tiles, n_products, channels) = (plan.n_tiles(), plan.n_products(), shape.channels.1);
    let (in_lanes, n_registers) = (Plan::input_lanes(&e.machine, channels), e.machine.n_registers);
    let window = x.window(plan.cols);
    let rows = scratch(e, "rows", [y.n(), window, in_lanes as usize], in_lanes as usize);
    let input = scratch(e, "transformed", [n_products, n_tiles, channels], plan.stride);
    let few = n_registers < 32 || y.m * x.n() + 8 > n_registers || shape.finish_is_long();
    let half = few.then(|| scratch(e, "half", [y.m, x.n(), plan.lanes], plan.lanes));
    let is_far = shape.output_bytes() > e.machine.l2_bytes;
    let it = Emission { stage, shape, plan, rows, input, half, in_lanes, is_far };

    let full = shape.columns.1 / plan.nr;
    let rest = shape.columns.1 % plan.nr;
    let mut panels = vec![];
    if full > 0 {
        panels.push(it.panels(e, 0, full, plan.nr, full * plan.nr)?);
    }
    if rest > 0 {
        panels.push(it.panels(e, full * plan.nr, 1, rest.next_multiple_of(plan.lanes), rest)?);
    }
    let (mr, nr) = (panels[0].tiles.mr(), panels[0].tiles.nr());
    let order = if plan.order == Order::Points { " by=points" } else { "" };
    e.note(format!("winograd(m={}{} tiles={n_tiles} mr={mr} nr={nr}{order})", plan.m(), plan.strides()));
    let point = Point { axes: vec![Affine::default(); stage.axes.len() + stage.reduce.len()], vector: None };
    loop_over(e, stage, &shape.batch, point, &mut |e, point| {
        let end = (plan.blocks[0] * plan.rows) as i64;
        let run = blocks_run(&shape.sides[0], y.m, plan.rows, end);
        e.run_loop("row", &run, |e, row| it.row_of_blocks(e, &point, row, &panels))
    })
}

/// Scratch of planes by steps by elements, so many elements between steps.
fn scratch(e: &mut Emitter, name: &str, dims: [usize; 3], step: usize) -> Scratch {
    let strides = [plane(dims[1] * step), step as i64, 1];
    let tensor = e.strided_scratch(name, DType::F32, &dims, &strides);
    let (buffer, ..) = e.memory_of(tensor);
    Scratch { buffer, tensor, panel: 0, plane: strides[0], step: strides[1] }
}

/// The same for several panels at once: a plane of each, one after the other.
fn panel_scratch(e: &mut Emitter, name: &str, [planes, panels, steps, width]: [usize; 4]) -> Scratch {
    let one = plane(steps * width);
    let strides = [plane(one as usize * panels), one, width as i64, 1];
    let tensor = e.strided_scratch(name, DType::F32, &[planes, panels, steps, width], &strides);
    let (buffer, ..) = e.memory_of(tensor);
    Scratch { buffer, tensor, panel: strides[1], plane: strides[0], step: strides[2] }
}

impl Emission<'_> {
    /// Transforms and packs the weights of some panels.
    fn panels(&self, e: &mut Emitter, first: usize, count: usize, width: usize, valid: usize) -> Result<Panels, ScheduleError> {
        let (tensor, index) = &self.shape.weights;
        let channels = self.shape.channels.1;
        let name = e.program().tensors[tensor.0 as usize].name.clone();
        let strides = e.strides_of(*tensor);
        let Some(value) = e.packable_constant(*tensor).cloned() else {
            return Err(ScheduleError("weights that are no constant".to_owned()));
        };
        let along = |axis: Option<usize>| {
            axis.map_or(0, |axis| index.iter().zip(&strides).map(|(a, s)| a.coefficient(Var::Axis(axis as u32)) * s).sum::<i64>())
        };
        let values = value.as_slice::<f32>();
        let weights = Weights {
            values,
            base: index.iter().zip(&strides).map(|(a, s)| a.constant * s).sum(),
            column: along(Some(self.shape.columns.0)),
            channel: along(Some(self.shape.channels.0)),
            taps: [along(self.shape.sides[0].tap), along(self.shape.sides[1].tap)],
        };
        let total = count * width;
        let transformed = weights.transformed((&self.plan.forms[0], &self.plan.forms[1]), channels, first..first + valid, total);
        let n_products = self.plan.n_products();
        let transformed = Tensor::from_slice(&[n_products, channels, total], &transformed);
        let transformed = e.constant_tensor(&format!("{name}_transformed"), transformed);

        let axis = |i: usize| StageAffine::var(Var::Axis(i as u32));
        let (panel, point) = (self.panel_axis(), 1 - self.panel_axis());
        let load = |tensor: TensorId, at: Vec<StageAffine>| {
            Expr::new(Node::Load { tensor, index: at.into_iter().map(Ix::Affine).collect(), pad: None }, DType::F32)
        };
        let value = Expr::new(
            Node::Binary(
                BinaryOp::Mul,
                load(self.input.tensor, [point, 2, 4].map(axis).to_vec()),
                load(transformed, vec![axis(point), axis(4), axis(panel).times(width as i64).plus(&axis(COLUMN))]),
            ),
            DType::F32,
        );
        let finish = Expr::new(Node::Acc, DType::F32);
        let n_tiles = self.plan.n_tiles();
        let (products, write, outer) = match self.plan.order {
            Order::Panels => (scratch(e, "products", [n_products, n_tiles, width], width), vec![point, 2, COLUMN], [count, n_products]),
            Order::Points => {
                (panel_scratch(e, "products", [n_products, count, n_tiles, width]), vec![point, panel, 2, COLUMN], [n_products, count])
            }
        };
        let stage = Stage {
            out: products.tensor,
            write: write.into_iter().map(axis).collect(),
            axes: [&outer[..], &[n_tiles, width]].concat(),
            reduce: vec![channels],
            bounds: vec![],
            body: Body::Reduce { op: ReduceOp::Sum, value: value.clone(), finish: finish.clone() },
        };
        let tiles = Tiles::new(e, &stage, ReduceOp::Sum, &value, &finish, Some(COLUMN));
        Ok(Panels { first, count, width, valid, products, tiles })
    }

    /// The axis that numbers panels in the stage that multiplies; the other of the first two numbers points.
    fn panel_axis(&self) -> usize {
        usize::from(self.plan.order == Order::Points)
    }

    fn row_of_blocks(&self, e: &mut Emitter, point: &Point, row: Affine, panels: &[Panels]) -> Done {
        let n = self.plan.blocks[1];
        let side = &self.shape.sides[1];
        if side.live.is_some() {
            let (m, cols) = (self.plan.forms[1].m, self.plan.cols);
            return e.run_loop("col", &blocks_run(side, m, cols, (n * cols) as i64), |e, col| {
                self.emit_block(e, &Block { point: point.clone(), row, col, inside: (0, 0), outputs: vec![] }, panels)
            });
        }
        let blocks: Vec<Block> = (0..n).map(|i| self.block(point, &row, i)).collect();
        let form = &self.plan.forms[1];
        let window = form.window(self.plan.cols) as i64;
        let whole = |b: &Block| b.inside == (0, window) && b.outputs.iter().all(|&o| o == form.m);
        let mut i = 0;
        while i < n {
            let run = blocks[i..].iter().take_while(|b| whole(b)).count().max(1);
            let (start, step) = ((i * self.plan.cols) as i64, self.plan.cols as i64);
            e.for_loop("col", start..start + run as i64 * step, step, |e, col| {
                self.emit_block(e, &Block { col, ..blocks[i].clone() }, panels)
            })?;
            i += run;
        }
        Ok(())
    }

    fn block(&self, point: &Point, row: &Affine, i: usize) -> Block {
        let (form, side) = (&self.plan.forms[1], &self.shape.sides[1]);
        let first = (i * self.plan.cols * form.step()) as i64;
        let window = form.window(self.plan.cols) as i64;
        let outputs = (0..self.plan.cols).map(|c| outputs(side, form.m, (i * self.plan.cols + c) as i64)).collect();
        let inside = window_inside(side, first, window);
        Block { point: point.clone(), row: row.clone(), col: Affine::constant((i * self.plan.cols) as i64), inside, outputs }
    }

    fn emit_block(&self, e: &mut Emitter, block: &Block, panels: &[Panels]) -> Done {
        e.forget();
        self.transform_input(e, block)?;
        for p in panels {
            if self.plan.order == Order::Points {
                e.for_loop("point", 0..self.plan.n_products() as i64, 1, |e, point| multiply(e, p, point))?;
            }
            e.for_loop("panel", 0..p.count as i64, 1, |e, panel| {
                if self.plan.order == Order::Panels {
                    multiply(e, p, panel.clone())?;
                }
                e.forget();
                self.transform_output(e, block, p, &panel)
            })?;
        }
        Ok(())
    }

    fn transform_input(&self, e: &mut Emitter, block: &Block) -> Done {
        let channels = self.shape.channels.1 as i64;
        let lanes = i64::from(self.in_lanes);
        let full = channels / lanes * lanes;
        e.for_loop("r", 0..self.plan.rows as i64, 1, |e, r| {
            e.for_loop("c", 0..full, lanes, |e, channel| self.transform_channels(e, block, &r, &channel))?;
            if full < channels {
                // The last vector again, moved back so that it ends with the channels.
                self.transform_channels(e, block, &r, &Affine::constant(channels - lanes))?;
            }
            Ok(())
        })
    }

    fn transform_channels(&self, e: &mut Emitter, block: &Block, r: &Affine, channel: &Affine) -> Done {
        let [y, x] = &self.plan.forms;
        let [side, _] = &self.shape.sides;
        let lanes = self.in_lanes;
        let row = block.row.plus(r);
        let window = x.window(self.plan.cols) as i64;
        let (lo, hi) = block.inside;
        let slot = |j: usize, at: &Affine| at.times(self.rows.step).offset(j as i64 * self.rows.plane);
        for range in if self.shape.sides[1].live.is_some() { [0..0, 0..0] } else { [0..lo, hi..window] } {
            e.for_loop("x", range, 1, |e, at| {
                let zero = e.constant(DType::F32, Const::Float(0.0), lanes);
                (0..y.n()).for_each(|j| e.b.store(self.rows.buffer, slot(j, &at), zero));
                Ok(())
            })?;
        }
        by_window(e, side, y, &row, &mut |e, &(first, end)| {
            let column = |e: &mut Emitter, at: &Affine| {
                let column = block.col.times(x.step() as i64).plus(at);
                let data: Vec<Option<Reg>> = (0..y.n() as i64)
                    .map(|k| {
                        (first..end).contains(&k).then(|| self.load(e, block, &row.times(y.step() as i64).offset(k), &column, channel))
                    })
                    .collect();
                let out = transform::input(e, y, &data);
                for (j, value) in out.into_iter().enumerate() {
                    let value = value.unwrap_or_else(|| e.constant(DType::F32, Const::Float(0.0), lanes));
                    e.b.store(self.rows.buffer, slot(j, at), value);
                }
                Ok(())
            };
            let Some(live) = &self.shape.sides[1].live else {
                return e.for_loop("x", lo..hi, 1, |e, at| column(e, &at));
            };
            let (first, dim) = (self.shape.sides[1].first, self.shape.sides[1].dim as i64);
            let zeros = |e: &mut Emitter, at: &Affine| {
                let zero = e.constant(DType::F32, Const::Float(0.0), lanes);
                (0..y.n()).for_each(|j| e.b.store(self.rows.buffer, slot(j, at), zero));
                Ok(())
            };
            e.for_loop("x", 0..window, 1, |e, at| {
                let place = block.col.times(x.step() as i64).plus(&at).offset(first);
                let left = e.size(&live.dim, dim).plus(&place.times(-1));
                let most = e.range(&left).1;
                let after = |e: &mut Emitter| e.branch((left, 1, most + 1), |e| column(e, &at), |e| zeros(e, &at));
                e.branch((place, 0, dim), after, |e| zeros(e, &at))
            })
        })?;
        let tile = r.times(self.plan.cols as i64);
        e.for_loop("j", 0..y.n() as i64, 1, |e, j| {
            e.for_loop("tile", 0..self.plan.cols as i64, 1, |e, col| {
                let from = j.times(self.rows.plane).plus(&col.times((x.step() as i64) * self.rows.step));
                let data: Vec<Option<Reg>> =
                    (0..x.n() as i64).map(|k| Some(e.b.load(self.rows.buffer, from.offset(k * self.rows.step), lanes))).collect();
                let out = transform::input(e, x, &data);
                let to = j.times(x.n() as i64 * self.input.plane).plus(&tile.plus(&col).times(self.input.step)).plus(channel);
                for (l, value) in out.into_iter().enumerate() {
                    let Some(value) = value else { continue };
                    e.b.store(self.input.buffer, to.offset(l as i64 * self.input.plane), value);
                }
                Ok(())
            })
        })
    }

    /// A vector of the input at so many places from the first output's first tap.
    fn load(&self, e: &mut Emitter, block: &Block, row: &Affine, column: &Affine, channel: &Affine) -> Reg {
        let mut at = block.point.clone();
        for (side, place) in self.shape.sides.iter().zip([row, column]) {
            if let Some(axis) = side.tap.or(side.axis) {
                at.axes[axis] = place.clone();
            }
        }
        at.axes[self.shape.channels.0] = channel.clone();
        let (tensor, index) = &self.shape.input;
        let (buffer, offset, strides) = e.memory_of(*tensor);
        let flat = index.iter().zip(&strides).fold(Affine::constant(offset), |sum, (a, &s)| sum.plus(&e.affine(a, &at).times(s)));
        e.b.load(buffer, flat, self.in_lanes)
    }

    fn transform_output(&self, e: &mut Emitter, block: &Block, panels: &Panels, panel: &Affine) -> Done {
        let [y, x] = &self.plan.forms;
        let first = panel.times(panels.width as i64).offset(panels.first as i64);
        let lanes = self.plan.lanes as i64;
        // Only the last of several panels may be narrower, and it stands alone.
        let valid = if panels.count > 1 { panels.width } else { panels.valid } as i64;
        let full = valid / lanes * lanes;
        let n_whole = block.outputs.iter().take_while(|&&o| o == x.m).count();
        e.for_loop("r", 0..self.plan.rows as i64, 1, |e, r| {
            let row = block.row.plus(&r);
            by_outputs(e, &self.shape.sides[0], y.m, &row, &mut |e, &rows| {
                if rows == 0 {
                    return Ok(());
                }
                let tile = |e: &mut Emitter, col: &Affine, columns: usize| {
                    let tile = r.times(self.plan.cols as i64).plus(col);
                    let from = tile.times(panels.products.step).plus(&panel.times(panels.products.panel));
                    let at = Cell { block, row: &row, from, first: &first, col, outputs: [rows, columns] };
                    e.for_loop("v", 0..full, lanes, |e, v| self.transform_cell(e, &at, &panels.products, &v, lanes))?;
                    if full < valid {
                        self.transform_cell(e, &at, &panels.products, &Affine::constant(full), valid - full)?;
                    }
                    Ok(())
                };
                if self.shape.sides[1].live.is_some() {
                    return e.for_loop("tile", 0..self.plan.cols as i64, 1, |e, col| {
                        by_outputs(e, &self.shape.sides[1], x.m, &block.col.plus(&col), &mut |e, &columns| {
                            if columns == 0 { Ok(()) } else { tile(e, &col, columns) }
                        })
                    });
                }
                e.for_loop("tile", 0..n_whole as i64, 1, |e, col| tile(e, &col, x.m))?;
                for (col, &columns) in block.outputs.iter().enumerate().skip(n_whole).filter(|o| *o.1 > 0) {
                    tile(e, &Affine::constant(col as i64), columns)?;
                }
                Ok(())
            })
        })
    }

    fn transform_cell(&self, e: &mut Emitter, cell: &Cell<'_>, products: &Scratch, v: &Affine, valid: i64) -> Done {
        let [y, x] = &self.plan.forms;
        let [rows, columns] = cell.outputs;
        let lanes = self.plan.lanes as u32;
        let from = cell.from.plus(v);
        let mut half: Vec<Vec<Reg>> = vec![vec![]; rows];
        for l in 0..x.n() {
            let data: Vec<Reg> =
                (0..y.n()).map(|j| e.b.load(products.buffer, from.offset((j * x.n() + l) as i64 * products.plane), lanes)).collect();
            for (i, value) in transform::output(e, y, &data, rows).into_iter().enumerate() {
                match &self.half {
                    Some(s) => e.b.store(s.buffer, Affine::constant(i as i64 * s.plane + l as i64 * s.step), value),
                    None => half[i].push(value),
                }
            }
        }
        let mut at = cell.block.point.clone();
        at.vector = Some(Lanes { axis: self.shape.columns.0, lanes, valid: valid as u32 });
        at.axes[self.shape.columns.0] = cell.first.plus(v);
        for (i, held) in half.into_iter().enumerate() {
            let row = match &self.half {
                Some(s) => {
                    (0..x.n()).map(|l| e.b.load(s.buffer, Affine::constant(i as i64 * s.plane + l as i64 * s.step), lanes)).collect()
                }
                None => held,
            };
            for (k, value) in transform::output(e, x, &row, columns).into_iter().enumerate() {
                let places = [(cell.row.clone(), y.m, i), (cell.block.col.plus(cell.col), x.m, k)];
                for (side, (tile, m, within)) in self.shape.sides.iter().zip(places) {
                    if let Some(axis) = side.axis {
                        at.axes[axis] = tile.times(m as i64).offset(within as i64);
                    }
                }
                if self.is_far {
                    let mut later = at.clone();
                    if let Some(axis) = self.shape.sides[1].axis {
                        later.axes[axis] = later.axes[axis].offset(TILES_AHEAD * x.m as i64);
                    }
                    let (buffer, place) = e.place_of(self.stage, &later);
                    e.b.prefetch(buffer, place);
                }
                let result = e.value(&self.shape.finish, &at, Some(value))?;
                e.store(self.stage, &at, result);
            }
        }
        Ok(())
    }
}

/// The products of some panels that belong to one value of the outer axis.
fn multiply(e: &mut Emitter, panels: &Panels, outer: Affine) -> Done {
    e.forget();
    let mut at = Point { axes: vec![Affine::default(); N_PRODUCT_AXES], vector: None };
    at.axes[0] = outer;
    panels.tiles.emit(e, at, &[0])
}

/// A tile whose outputs are made.
struct Cell<'a> {
    block: &'a Block,
    row: &'a Affine,
    col: &'a Affine,
    /// Where its products begin.
    from: Affine,
    /// The first column of the panel.
    first: &'a Affine,
    /// How many of its outputs exist.
    outputs: [usize; 2],
}

/// Which of `window` places from `first` on, counted from the first output's first tap, are inside what is read.
fn window_inside(side: &Side, first: i64, window: i64) -> (i64, i64) {
    let start = first + side.first;
    let lo = (-start).clamp(0, window);
    (lo, (side.dim as i64 - start).clamp(lo, window))
}

/// How many outputs of a tile exist.
fn outputs(side: &Side, m: usize, tile: i64) -> usize {
    (side.extent as i64 - tile * m as i64).clamp(0, m as i64) as usize
}

/// The loop over a side in blocks of tiles: at most up to `end`.
fn blocks_run(side: &Side, m: usize, block: usize, end: i64) -> Run {
    let block = block as i64;
    let live = side.live.as_ref().map(|live| {
        let outputs = block * m as i64;
        (Size::Constant(0), live.outputs.plus(&Size::Constant(outputs - 1)).floor(outputs).times(block))
    });
    Run { range: 0..end, step: block, live }
}

/// Branches over which places of a tile's window are inside what is read.
fn by_window(e: &mut Emitter, side: &Side, form: &Form, tile: &Affine, f: &mut dyn FnMut(&mut Emitter, &(i64, i64)) -> Done) -> Done {
    let (step, n) = (form.step() as i64, form.n() as i64);
    let Some(live) = &side.live else { return by_class(e, tile, &|tile| window_inside(side, tile * step, n), f) };
    let left = e.size(&live.dim, side.dim as i64).plus(&tile.times(-step)).offset(-side.first);
    by_class(e, tile, &|tile| (-(tile * step + side.first)).clamp(0, n), &mut |e, &first| {
        by_class(e, &left, &|left| left.clamp(0, n), &mut |e, &end| f(e, &(first, end.max(first))))
    })
}

/// Branches over how many outputs of a tile exist.
fn by_outputs(e: &mut Emitter, side: &Side, m: usize, tile: &Affine, f: &mut dyn FnMut(&mut Emitter, &usize) -> Done) -> Done {
    let Some(live) = &side.live else { return by_class(e, tile, &|tile| outputs(side, m, tile), f) };
    let left = e.size(&live.outputs, side.extent as i64).plus(&tile.times(-(m as i64)));
    by_class(e, &left, &|left| left.clamp(0, m as i64) as usize, f)
}

/// Branches over the classes of an affine form's values.
fn by_class<C: PartialEq>(e: &mut Emitter, form: &Affine, class: &dyn Fn(i64) -> C, f: &mut dyn FnMut(&mut Emitter, &C) -> Done) -> Done {
    let (low, high) = e.range(form);
    let mut runs: Vec<(i64, i64, C)> = vec![];
    for i in low..=high {
        let c = class(i);
        match runs.last_mut() {
            Some((_, end, last)) if *last == c => *end = i + 1,
            _ => runs.push((i, i + 1, c)),
        }
    }
    runs.sort_by_key(|r| std::cmp::Reverse(r.1 - r.0));
    branches(e, form, &runs, f)
}

fn branches<C>(e: &mut Emitter, form: &Affine, runs: &[(i64, i64, C)], f: &mut dyn FnMut(&mut Emitter, &C) -> Done) -> Done {
    match runs {
        [] => Ok(()),
        [(.., class)] => f(e, class),
        [(low, high, class), rest @ ..] => {
            let f = std::cell::RefCell::new(f);
            e.branch((form.clone(), *low, *high), |e| (*f.borrow_mut())(e, class), |e| branches(e, form, rest, &mut **f.borrow_mut()))
        }
    }
}
