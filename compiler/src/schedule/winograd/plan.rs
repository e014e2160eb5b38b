//! The choice of tile and block, and whether any beats the direct sum, by what [`super::cost`] thinks.

use super::cost;
use super::form::Form;
use super::shape::{Shape, Side};
use crate::schedule::MAX_PRIVATE_BYTES;
use crate::schedule::cost::choose_tile;
use crate::schedule::machine::{Convolution, Machine};

/// Most tiles of a block whose scratch the second-level cache keeps.
const MAX_TILES: usize = 192;
/// Outputs of a tile, down and across.
const FORMS: [[usize; 2]; 6] = [[4, 4], [3, 3], [2, 2], [1, 4], [1, 3], [1, 2]];
/// The same where some stride is not 1: tiles of one row would take hardly fewer products, of many more weights.
const STRIDED_FORMS: [[usize; 2]; 3] = [[4, 4], [3, 3], [2, 2]];
/// The same of dilated convolutions: what there is of a phase is often as short.
const DILATED_FORMS: [[usize; 2]; 3] = [[4, 4], [3, 3], [2, 2]];
/// How much faster than the direct sum it must be.
const MARGIN: f64 = 1.1;
/// How many times fewer multiply-adds a strided form must take, for its weights are many.
const STRIDED_SAVING: f64 = 1.2;
/// Vectors of fewer channels are no vectors.
const LEAST_CHANNELS: usize = 4;
/// Most scratch, in second-level caches.
const MAX_SCRATCH: usize = 8;

/// Outputs of a tile, down and across, of what is worth measuring, the most promising first.
const MEASURED_FORMS: [[usize; 2]; 9] = [[4, 4], [3, 3], [2, 2], [1, 4], [4, 1], [1, 3], [3, 1], [1, 2], [2, 1]];

/// How a convolution can be computed where that is to choose: none but directly is nothing to choose.
pub(super) fn ways(machine: &Machine, shape: &Shape) -> Vec<Convolution> {
    let sides = &shape.stacked().sides;
    let mut forms: Vec<[usize; 2]> = vec![];
    for measured in MEASURED_FORMS {
        let m = [0, 1].map(|i| if sides[i].taps > 1 { measured[i] } else { 1 });
        let exist = [0, 1].iter().all(|&i| Form::new(m[i], sides[i].taps, sides[i].stride).is_some());
        let several = [0, 1].iter().any(|&i| sides[i].extent > m[i]);
        if m != [1, 1] && exist && several && shape.channels.1 >= LEAST_CHANNELS && !forms.contains(&m) {
            forms.push(m);
        }
    }
    if machine.convolution != Convolution::Fastest || forms.is_empty() {
        return vec![];
    }
    [Convolution::Direct].into_iter().chain(forms.into_iter().map(|[down, across]| Convolution::Winograd(down, across))).collect()
}

/// The order of a block's products.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// Panels of output channels outermost, each transformed back at once: the input is read for every panel.
    Panels,
    /// Points of the transforms outermost: each reads its part of the input and its weights once, and all sums wait.
    Points,
}

/// How a convolution is computed.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Plan {
    /// Transforms of rows and of columns.
    pub(super) forms: [Form; 2],
    /// Tile rows of a block.
    pub(super) rows: usize,
    /// Tile columns of a block.
    pub(super) cols: usize,
    /// Blocks along each side.
    pub(super) blocks: [usize; 2],
    /// Lanes of output channels.
    pub(super) lanes: usize,
    /// Output channels of a panel.
    pub(super) nr: usize,
    /// Elements between tiles of the transformed input.
    pub(super) stride: usize,
    /// The order of its products.
    pub(super) order: Order,
}

impl Plan {
    /// Tiles of a block.
    pub(super) fn n_tiles(&self) -> usize {
        self.rows * self.cols
    }

    /// Products of a tile.
    pub(super) fn n_products(&self) -> usize {
        self.forms[0].n() * self.forms[1].n()
    }

    /// Outputs of a tile along the sides with taps, as text.
    pub(super) fn m(&self) -> String {
        self.along_taps(|f| f.m)
    }

    /// Strides along the sides with taps where there are any but 1, as text.
    pub(super) fn strides(&self) -> String {
        if self.forms.iter().all(|f| f.stride == 1) { String::new() } else { format!(" stride={}", self.along_taps(|f| f.stride)) }
    }

    fn along_taps(&self, of: impl Fn(&Form) -> usize) -> String {
        let along: Vec<usize> = self.forms.iter().filter(|f| f.r > 1).map(of).collect();
        match along[..] {
            [down, across] if down != across => format!("{down}x{across}"),
            _ => along.first().map_or(String::new(), usize::to_string),
        }
    }

    /// How much more than is used blocks compute where only a run knows how many outputs there are, on average over some sizes: the last
    /// block along a side is as large as the others.
    fn unused(&self, shape: &Shape) -> f64 {
        let of_side = |i: usize| {
            let Some(live) = &shape.sides[i].live else { return 1.0 };
            let (m, block) = (self.forms[i].m as i64, [self.rows, self.cols][i] as i64);
            let (least, most) = (live.span.0.max(1), live.span.1.max(1));
            let sizes = [least, (3 * least + most) / 4, (least + most) / 2, most];
            let more = |n: &i64| (n.div_euclid(m) + i64::from(n % m != 0)).max(1);
            let blocks = |n: &i64| (more(n) + block - 1) / block * block;
            sizes.iter().map(|n| (blocks(n) * m) as f64 / *n as f64).sum::<f64>() / sizes.len() as f64
        };
        of_side(0) * of_side(1)
    }

    /// How many times fewer multiply-adds it takes than the direct sum, of tiles that end beyond the image too.
    fn saving(&self, shape: &Shape) -> f64 {
        let of_side = |(f, side): (&Form, &Side)| (side.extent * side.taps) as f64 / (side.extent.div_ceil(f.m) * f.n()) as f64;
        self.forms.iter().zip(&shape.sides).map(of_side).product()
    }

    /// Whether each thread may have its own scratch of a block.
    pub(super) fn is_private(&self) -> bool {
        self.order == Order::Panels && self.n_products() * self.n_tiles() * self.stride.max(self.nr) * 4 <= MAX_PRIVATE_BYTES
    }

    /// The fastest plan, if it is faster than the direct sum or asked for. Results depend on the transforms only, which are chosen as
    /// if for one thread; blocks are chosen for one thread and for all that may share them. `copying` is the time of its copies.
    pub(super) fn choose(machine: &Machine, shape: &Shape, copying: f64) -> Option<Self> {
        let direct = || cost::direct(machine, shape);
        let is_dilated = shape.is_dilated();
        let shape = &shape.stacked();
        let fastest = |m: [usize; 2]| Self::fastest(machine, shape, m);
        // Fewer weights for more products: only where those are too many to stay near in any model.
        let weights = |p: &Self| p.n_products() * shape.channels.1 * shape.columns.1 * 4;
        let may_wait = |p: &(f64, Self)| p.1.forms.iter().all(|f| f.m > 1 || f.r == 1) || weights(&p.1) > machine.l2_bytes;
        let saves = |p: &(f64, Self)| !shape.is_strided() || p.1.saving(shape) >= STRIDED_SAVING;
        match machine.convolution() {
            Convolution::Direct => None,
            Convolution::Winograd(down, across) => fastest([down, across]).map(|p| p.1),
            Convolution::Fastest => {
                let forms: &[[usize; 2]] = match () {
                    () if shape.is_strided() => &STRIDED_FORMS,
                    () if is_dilated => &DILATED_FORMS,
                    () => &FORMS,
                };
                let (time, plan) =
                    forms.iter().copied().filter_map(fastest).filter(may_wait).filter(saves).min_by(|a, b| a.0.total_cmp(&b.0))?;
                ((time + copying) * MARGIN < direct()).then_some(plan)
            }
        }
    }

    /// Lanes of input channels: no more than there are.
    pub(super) fn input_lanes(machine: &Machine, channels: usize) -> u32 {
        let mut lanes = machine.narrowed(channels).lanes;
        while lanes as usize > channels {
            lanes /= 2;
        }
        lanes
    }

    /// The best plan of these transforms, and the time of the fastest on one thread.
    fn fastest(machine: &Machine, shape: &Shape, m: [usize; 2]) -> Option<(f64, Self)> {
        let form = |i: usize| {
            let side = &shape.sides[i];
            Form::new(if side.taps > 1 { m[i] } else { 1 }, side.taps, side.stride)
        };
        let forms = [form(0)?, form(1)?];
        let tiles = [0, 1].map(|i| shape.sides[i].extent.div_ceil(forms[i].m));
        let n_products = forms[0].n() * forms[1].n();
        let (channels, columns) = (shape.channels.1, shape.columns.1);
        if channels < LEAST_CHANNELS {
            return None;
        }
        // Rows of quarters of a way would share few sets of the first-level cache.
        let stride = channels.next_multiple_of(4);
        let stride = if (stride * 4).is_multiple_of(machine.way_bytes() / 4) { stride + machine.line_bytes / 4 } else { stride };
        let narrow = machine.narrowed(columns);
        let lanes = narrow.lanes as usize;
        let tile_bytes = n_products * 4 * (stride + 2 * lanes.min(columns));
        let most = (machine.l2_bytes * 5 / 8 / tile_bytes).clamp(2, MAX_TILES);
        let small = tiles[1].div_ceil(most);
        let large = n_products * 4 * (stride + columns);
        let fits = |rows: usize, cols: usize| rows * cols <= most || rows * cols * large <= MAX_SCRATCH * machine.l2_bytes;
        let mut plans = vec![];
        let is_live = [0, 1].map(|i| shape.sides[i].live.is_some());
        for n_cols in (1..=small).filter(|&n| n == 1 || n == small).chain(if is_live[1] { small + 1..tiles[1] } else { 0..0 }) {
            let cols = tiles[1].div_ceil(n_cols);
            for rows in (1..=tiles[0]).filter(|&rows| rows * cols >= 2 && (rows == 1 && n_cols == small || fits(rows, cols))) {
                let tile = choose_tile(&narrow, rows * cols, columns, usize::MAX);
                for order in [Order::Panels, Order::Points] {
                    let blocks = [tiles[0].div_ceil(rows), n_cols];
                    // Sums of all panels would be too much for each thread to have its own.
                    if order == Order::Points && shape.n_images * blocks[0] * blocks[1] > 1 {
                        continue;
                    }
                    let plan = Plan { forms: forms.clone(), rows, cols, blocks, lanes, nr: tile.nv * lanes, stride, order };
                    let unused = plan.unused(shape);
                    let [alone, shared] = [1, machine.threads].map(|threads| unused * cost::cost(&plan, &narrow, shape, tile, threads));
                    plans.push((alone, shared, plan));
                }
            }
        }
        let least = |time: fn(&(f64, f64, Plan)) -> f64| plans.iter().map(time).min_by(f64::total_cmp);
        let (alone, shared) = (least(|p| p.0)?, least(|p| p.1)?);
        let loss = |p: &(f64, f64, Plan)| p.0 / alone + p.1 / shared;
        plans.iter().min_by(|a, b| loss(a).total_cmp(&loss(b))).map(|p| (alone, p.2.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Order, Plan, Shape, Side};
    use crate::expr::{Const, Expr, Node, TensorId};
    use crate::schedule::Machine;
    use crate::tensor::DType;

    /// A convolution of a square image under padding.
    fn convolution(side: usize, channels: usize, columns: usize) -> Shape {
        strided(1, side, channels, columns)
    }

    /// The same at a stride, of so many outputs a side.
    fn strided(stride: usize, extent: usize, channels: usize, columns: usize) -> Shape {
        let (dim, taps) = (extent * stride, 3);
        let side =
            |axis: usize| Side { axis: Some(axis), extent, tap: Some(3 + axis), taps, stride, dilation: 1, first: -1, dim, live: None };
        Shape {
            input: (TensorId(0), vec![]),
            weights: (TensorId(1), vec![]),
            finish: Expr::new(Node::Const(Const::Float(0.0)), DType::F32),
            channels: (5, channels),
            columns: (2, columns),
            sides: [side(0), side(1)],
            batch: vec![],
            n_images: 1,
        }
    }

    fn choice(machine: &Machine, shape: &Shape) -> String {
        match Plan::choose(machine, shape, 0.0) {
            None => "direct".to_owned(),
            Some(p) => format!("m={}{} blocks={}x{} of {}x{} {:?}", p.m(), p.strides(), p.blocks[0], p.blocks[1], p.rows, p.cols, p.order),
        }
    }

    fn choices_of(machine: Machine, stride: usize, sizes: &[(usize, usize, usize)]) -> String {
        let line = |&(side, from, to): &(usize, usize, usize)| {
            format!("{side} {from} {to}: {}\n", choice(&machine, &strided(stride, side, from, to)))
        };
        sizes.iter().map(line).collect()
    }

    fn server(threads: usize) -> Machine {
        Machine { l2_bytes: 2 << 20, threads, ..Machine::wide(16, 32) }
    }

    #[test]
    fn weights_from_memory_come_once() {
        for columns in [256, 512] {
            let plan = Plan::choose(&server(1), &convolution(28, 512, columns), 0.0).unwrap();
            assert_eq!((plan.blocks, plan.order), ([1, 1], Order::Points), "{columns} columns");
        }
    }

    #[test]
    fn choices() {
        let sizes =
            [(56, 64, 64), (28, 128, 128), (14, 256, 256), (7, 512, 512), (56, 256, 256), (224, 64, 64), (28, 128, 32), (80, 16, 16)];
        let of = |machine| choices_of(machine, 1, &sizes);
        insta::assert_snapshot!(of(server(1)));
        insta::assert_snapshot!(of(server(2)));
        insta::assert_snapshot!(of(Machine { l2_bytes: 256 << 10, ..Machine::wide(8, 16) }));
    }

    /// Four tiles are few rows for weights from memory.
    #[test]
    fn weights_that_stay_may_be_more() {
        let stay = Machine { weights_stay: true, l2_bytes: 1 << 20, ..server(1) };
        let far = Machine { weights_stay: false, ..stay };
        let of = |machine: &Machine| {
            [convolution(8, 64, 64), strided(2, 16, 16, 32)].map(|s| Plan::choose(machine, &s, 0.0).map(|p| p.m() + &p.strides()))
        };
        assert_eq!(of(&far), [Some("2".to_owned()), None]);
        assert_eq!(of(&stay), [Some("4".to_owned()), Some("4 stride=2".to_owned())]);
    }

    #[test]
    fn strided_choices() {
        let sizes =
            [(28, 128, 128), (14, 256, 256), (7, 512, 512), (56, 64, 64), (56, 128, 256), (28, 64, 128), (80, 64, 128), (40, 32, 48)];
        let of = |machine| choices_of(machine, 2, &sizes);
        insta::assert_snapshot!(of(server(1)));
        insta::assert_snapshot!(of(server(2)));
        insta::assert_snapshot!(of(Machine { l2_bytes: 256 << 10, ..Machine::wide(8, 16) }));
    }

    /// Three taps along a row, down a column, and of a signal as long as the image has elements a row.
    #[test]
    fn choices_along_one_axis() {
        let sizes =
            [(56, 64, 64), (28, 128, 128), (14, 256, 256), (7, 512, 512), (56, 16, 16), (112, 32, 32), (35, 96, 96), (400, 256, 256)];
        let one_of = |&(side, from, to): &(usize, usize, usize), machine: &Machine| {
            let image = strided(1, side, from, to);
            let [y, x] = image.sides.clone();
            let plain = |axis| Side::plain(axis, side, None);
            let signal = Side { extent: 1, dim: 1, ..plain(None) };
            let shape = |sides: [Side; 2]| choice(machine, &Shape { sides, ..image.clone() });
            let all = [("1x3", shape([plain(Some(0)), x.clone()])), ("3x1", shape([y, plain(Some(1))])), ("3", shape([signal, x]))];
            all.map(|(taps, choice)| format!("{taps} {side} {from} {to}: {choice}\n")).concat()
        };
        let of = |machine: Machine| sizes.iter().map(|s| one_of(s, &machine)).collect::<String>();
        insta::assert_snapshot!(of(server(1)));
        insta::assert_snapshot!(of(Machine { l2_bytes: 256 << 10, ..Machine::wide(8, 16) }));
    }

    #[test]
    fn transforms_do_not_depend_on_threads() {
        for (side, from, to) in [(56, 64, 64), (14, 256, 256), (7, 512, 512), (14, 512, 512), (28, 96, 24), (20, 64, 80)] {
            let m = |threads: usize| Plan::choose(&server(threads), &convolution(side, from, to), 0.0).map(|p| p.m());
            assert!([2, 4, 16].into_iter().all(|threads| m(threads) == m(1)), "{side} {from} {to}");
        }
    }
}
