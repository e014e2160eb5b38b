//! Of stages that share loops: a tensor which the last one reads just where it writes, as softmax reads its exponentials, needs no memory
//! but the result's.

use super::Memory;
use super::reduce::loads;
use crate::expr::{Body, Expr, Ix, Nesting, Node, Program, Stage};

/// The stage whose tensor can be where the result will be.
pub(super) fn early_stage(program: &Program, stages: &[&Stage], nesting: &Nesting, results: &[Memory]) -> Option<usize> {
    let (last, around) = (*stages.last()?, nesting.stages.last()?);
    let Body::Map(value) = &last.body else { return None };
    let memory = program.results.iter().zip(results).find(|r| *r.0 == last.out)?.1;
    let in_row = |axis: usize| !around.axes.contains(&axis) && last.axes[axis] > 1;
    // Lanes are along the row, in the result as in scratch.
    let adjacent = (0..last.axes.len()).any(|axis| in_row(axis) && last.stride_along(&memory.strides, axis) == 1);
    if !adjacent || !last.writes_in_place() || last.is_live() {
        return None;
    }
    let read = loads(value);
    // An operand may be where the result is.
    if program.operands.iter().any(|&t| value.reads(t)) {
        return None;
    }
    (0..stages.len() - 1).find(|&i| {
        let (stage, nested) = (stages[i], &nesting.stages[i]);
        let of_stage = |load: &&Expr| load.loaded() == Some(stage.out);
        let same_place = |load: &Expr| matches!(load.node(), Node::Load { index, pad: None, .. } if *index == places(last));
        matches!(stage.body, Body::Map(_))
            && !nested.whole
            && nested.axes == around.axes
            && (&stage.axes, &stage.write) == (&last.axes, &last.write)
            && !stage.is_live()
            && program.tensor(stage.out).dtype == program.tensor(last.out).dtype
            && read.iter().any(|l| of_stage(&l))
            && read.iter().filter(of_stage).all(same_place)
    })
}

fn places(stage: &Stage) -> Vec<Ix> {
    stage.write.iter().map(Ix::from).collect()
}
