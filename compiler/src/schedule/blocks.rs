//! Blocks of a long reduction: what rows and a panel of columns read in one block stays in the second-level cache, and sums wait in
//! scratch between blocks. Within a group of panels every block goes over all of them, so that rows are read once for the group.
//! After the loops of Goto and van de Geijn (2008); a sum is the same to the last bit, since its terms keep their order.

use super::ScheduleError;
use super::emitter::{Emitter, Point};
use crate::expr::Stage;
use crate::nest::{Affine, BufferId};
use crate::tensor::DType;

/// Panels of a group: sums of more would displace the rows, and rows are read again for each group.
const GROUP_PANELS: [i64; 5] = [4, 3, 5, 6, 2];
/// Least steps of a block: what a tile's sums cost on their way to scratch and back should not show.
const LEAST_STEPS: usize = 256;
const MOST_BLOCKS: usize = 8;

/// A product of which the outermost axis of the reduction is cut into equal parts.
#[derive(Clone)]
pub(super) struct Blocks {
    /// The axis that is cut.
    pub(super) axis: usize,
    /// Its extent in one part.
    pub(super) part: usize,
    /// Parts.
    pub(super) n: usize,
    sums: BufferId,
    /// Elements of the sums between rows, and between values of the outer axes.
    strides: Vec<(usize, i64)>,
    /// Between panels.
    panel: i64,
}

/// What a product reads and makes.
pub(super) struct Product<'a> {
    /// Bytes that the rows read.
    pub(super) row_bytes: usize,
    /// Axes of the rows and outside them with their extents, outermost first.
    pub(super) rows: &'a [(usize, usize)],
    /// The reduction, outermost axis first.
    pub(super) reduction: &'a [(usize, usize)],
    /// Columns of a panel.
    pub(super) nr: usize,
    /// Panels of that many columns.
    pub(super) n_panels: usize,
}

/// One block over a group of panels.
pub(super) struct Block<'a> {
    blocks: &'a Blocks,
    /// Where the block begins along its axis.
    pub(super) base: Affine,
    /// Whether sums begin here, and whether they end here.
    pub(super) first: bool,
    pub(super) last: bool,
    /// Where the panel's sums are.
    panel: Affine,
    next: Next,
}

/// What comes after a panel.
#[derive(Clone, Copy)]
enum Next {
    /// The next panel of the group.
    Panel,
    /// The first of so many panels, in the next block.
    Block { panels: i64 },
    /// The first panel of the next group, in its first block.
    Group,
}

impl Blocks {
    /// How to cut a product that does not fit, or as the choice asks; `None` where it fits, or where no cut helps.
    pub(super) fn new(e: &mut Emitter, product: &Product<'_>) -> Option<Self> {
        let &(axis, extent) = product.reduction.first()?;
        let depth: usize = product.reduction.iter().map(|r| r.1).product();
        let n_rows: usize = product.rows.iter().map(|r| r.1).product();
        let size = DType::F32.size_bytes();
        let panel = depth * product.nr * size;
        let read = product.row_bytes + 2 * panel;
        let sums = GROUP_PANELS[0] as usize * n_rows * product.nr * size;
        if !e.machine.exact || product.n_panels < 2 * GROUP_PANELS[0] as usize {
            return None;
        }
        let steps = if product.reduction.len() == 1 { e.machine.choice.steps } else { 1 };
        let mut ways = (2..=MOST_BLOCKS).filter(|n| extent.is_multiple_of(n * steps) && depth / n >= LEAST_STEPS);
        let n = match e.machine.choice.blocks {
            Some(asked) => ways.find(|&n| n == asked)?,
            None if product.row_bytes <= e.machine.rows_beside(panel) => return None,
            None => ways.find(|n| read / n + sums <= e.machine.l2_bytes / 2)?,
        };
        let scratch = e.scratch_buffer("sums", *GROUP_PANELS.iter().max().expect("some") as usize * n_rows * product.nr);
        let mut strides = vec![];
        let mut stride = product.nr as i64;
        for &(a, extent) in product.rows.iter().rev() {
            strides.push((a, stride));
            stride *= extent as i64;
        }
        Some(Blocks { axis, part: extent / n, n, sums: scratch, strides, panel: stride })
    }

    /// Groups of panels from the first to the end: the panels of each, and how many groups there are. An even number of equal groups is
    /// best, since threads share them.
    fn groups(n_panels: i64) -> Vec<(i64, i64)> {
        let whole = |n: i64| GROUP_PANELS.into_iter().find(|g| n_panels % (n * g) == 0);
        match whole(2).or(whole(1)) {
            Some(g) => vec![(g, n_panels / g)],
            None => vec![(GROUP_PANELS[0], n_panels / GROUP_PANELS[0]), (n_panels % GROUP_PANELS[0], 1)],
        }
    }

    /// The loops over groups, blocks and panels of `nr` columns; `f` gets the first column of each panel.
    pub(super) fn emit(
        &self,
        e: &mut Emitter,
        name: &str,
        (n_panels, nr): (i64, i64),
        f: &mut dyn FnMut(&mut Emitter, Affine, &Block<'_>) -> Result<(), ScheduleError>,
    ) -> Result<(), ScheduleError> {
        let mut start = 0;
        for (panels, n_groups) in Self::groups(n_panels) {
            let (width, end) = (panels * nr, start + n_groups * panels * nr);
            e.for_loop(name, start..end, width, |e, group| {
                let n = self.n as i64;
                for range in [0..1, 1..n - 1, n - 1..n] {
                    let (first, last) = (range.start == 0, range.end == n);
                    e.for_loop("block", range, 1, |e, block| {
                        let base = block.times(self.part as i64);
                        let after = if last { Next::Group } else { Next::Block { panels } };
                        for (range, next) in [(0..panels - 1, Next::Panel), (panels - 1..panels, after)] {
                            e.for_loop("panel", range, 1, |e, panel| {
                                let column = group.plus(&panel.times(nr));
                                let base = base.clone();
                                f(e, column, &Block { blocks: self, base, first, last, panel: panel.times(self.panel), next })
                            })?;
                        }
                        Ok(())
                    })?;
                }
                Ok(())
            })?;
            start = end;
        }
        Ok(())
    }
}

impl Block<'_> {
    /// The axis that is cut.
    pub(super) fn axis(&self) -> usize {
        self.blocks.axis
    }

    /// Where the weights of what comes next begin, as seen from the panel in the first block: panels follow each other after `panel`
    /// elements, values of the axis that is cut after `step`.
    pub(super) fn next(&self, panel: i64, step: i64) -> Affine {
        match self.next {
            Next::Panel => self.base.times(step).offset(panel),
            Next::Block { panels } => self.base.times(step).offset(self.blocks.part as i64 * step - (panels - 1) * panel),
            Next::Group => Affine::constant(panel),
        }
    }

    /// The stage, and its reduction, as one block has them.
    pub(super) fn part(&self, stage: &Stage, reduction: &[(usize, usize)]) -> (Stage, Vec<(usize, usize)>) {
        let mut stage = stage.clone();
        let n = stage.axes.len();
        stage.reduce[self.axis() - n] = self.blocks.part;
        (stage, reduction.iter().map(|&(a, extent)| (a, if a == self.axis() { self.blocks.part } else { extent })).collect())
    }

    /// Where the sums of a row wait, `lane` columns into the panel.
    pub(super) fn place(&self, at: &Point, lane: i64) -> (BufferId, Affine) {
        let rows = self.blocks.strides.iter().fold(self.panel.offset(lane), |sum, &(a, s)| sum.plus(&at.axes[a].times(s)));
        (self.blocks.sums, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::Blocks;
    use crate::codegen::testing::eval_with;
    use crate::nest::Buffer;
    use crate::schedule::ahead::tests::{is_blocked, product};
    use crate::schedule::{Arg, Choice, Machine, Scheduled};
    use crate::tensor::Tensor;

    #[test]
    fn sums_in_blocks_are_those_of_one_loop() {
        let small = Machine { l2_bytes: 204 << 10, ..Machine::wide(16, 32) };
        let asked = Machine { choice: Choice { blocks: Some(3), ..Machine::wide(16, 32).choice }, ..Machine::wide(16, 32) };
        [small, asked].iter().for_each(sums_agree);
    }

    fn sums_agree(machine: &Machine) {
        // Three blocks; groups of panels of which the last is smaller, and columns beyond the panels.
        let dims @ [rows, depth, columns] = [20, 780, 356];
        let weights: Vec<f32> = (0..depth * columns).map(|i| ((i * 7919) % 1013) as f32 / 1013.0 - 0.5).collect();
        let x: Vec<f32> = (0..rows * depth).map(|i| ((i * 104_729) % 997) as f32 / 997.0 - 0.5).collect();
        let Scheduled { kernel, args, .. } = product(machine, dims, Tensor::from_slice(&[depth, columns], &weights));
        assert_eq!(crate::nest::verify(&kernel), []);
        assert!(is_blocked(&kernel));
        let contents = |(arg, buffer): (&Arg, &Buffer)| match arg {
            Arg::Constant(value) => value.bytes().to_vec(),
            Arg::Storage(0) => bytemuck::cast_slice(&x).to_vec(),
            _ => vec![0xff; buffer.len * buffer.dtype.size_bytes()],
        };
        let mut buffers: Vec<Vec<u8>> = args.iter().zip(&kernel.buffers).map(contents).collect();
        eval_with(&kernel, &mut buffers, true).expect("a kernel that runs");
        let out = args.iter().position(|a| matches!(a, Arg::Storage(1))).expect("a result");
        for (i, &got) in bytemuck::cast_slice::<u8, f32>(&buffers[out]).iter().enumerate() {
            let (row, column) = (i / columns, i % columns);
            let want = (0..depth).fold(0f32, |sum, k| x[row * depth + k].mul_add(weights[k * columns + column], sum));
            assert_eq!(got.to_bits(), want.to_bits(), "{row}, {column}");
        }
    }

    #[test]
    fn groups_cover_all_panels_in_halves_where_they_can() {
        for n in 8..200 {
            assert_eq!(Blocks::groups(n).iter().map(|g| g.0 * g.1).sum::<i64>(), n);
        }
        assert_eq!(
            [16, 12, 10, 15, 11].map(Blocks::groups),
            [vec![(4, 4)], vec![(3, 4)], vec![(5, 2)], vec![(3, 5)], vec![(4, 2), (3, 1)]]
        );
    }
}
