//! Results whose rows are adjacent in memory, and not their columns: a tile is transposed in registers on its way there.

use super::plan::Plan;
use crate::nest::Reg;
use crate::schedule::emitter::{Emitter, Lanes, Point, is_word};

/// Whether the results of a plan are stored so.
pub(super) fn is_turned(e: &Emitter, plan: &Plan) -> bool {
    let (Some(columns), Some(rows)) = (plan.vector, plan.rows) else { return false };
    let written = e.strides_of(plan.stage.out);
    let [column, row] = [columns, rows].map(|a| plan.stage.stride_along(&written, a));
    e.machine.transposes() && is_word(plan.finish.dtype()) && row == 1 && column != 1
}

/// Stores one vector of each of so many rows: `at` is the place of a row's.
pub(super) fn store(e: &mut Emitter, plan: &Plan, results: &[Reg], at: &dyn Fn(usize) -> Point) {
    let Some((v, rows)) = at(0).vector.zip(plan.rows) else { unreachable!("rows of vectors are turned") };
    let at_once = e.n_turned(v.lanes);
    for (i, part) in results.chunks(at_once).enumerate() {
        let first = i * at_once;
        if 2 * part.len() <= at_once {
            for (row, &result) in part.iter().enumerate() {
                e.store(&plan.stage, &at(first + row), result);
            }
            continue;
        }
        let mut rows_of_columns: Vec<Reg> = part.iter().map(|&r| e.splat(r, v.lanes)).collect();
        rows_of_columns.resize(at_once, rows_of_columns[0]);
        for (column, turned) in (0..v.valid).zip(e.turned(&rows_of_columns)) {
            let mut place = at(first);
            place.axes[v.axis].constant += i64::from(column);
            place.vector = Some(Lanes { axis: rows, lanes: v.lanes, valid: part.len() as u32 });
            e.store(&plan.stage, &place, turned);
        }
    }
}
