//! Re-indexing of single axes by tables known when compiled, as few affine copies as possible.

use super::copy::{Canvas, Place};
use super::index_table;
use crate::expr::{Affine, Builder, Ix, TensorId};
use crate::tensor::{DType, Tensor};

/// More writes than this are not worth it: the table is read instead.
const MAX_PIECES: usize = 8;
const MAX_WRITES: usize = 64;

/// Part of an axis: result positions `to + sum(i * to_step)` hold the operand's `from + sum(i * from_step)`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Piece {
    pub(super) to: i64,
    pub(super) from: i64,
    /// Extent, step in the result, step in the operand.
    pub(super) axes: Vec<(usize, i64, i64)>,
}

/// Covers the table: `table[result position]` is the operand's position.
pub(super) fn pieces(table: &[i64]) -> Vec<Piece> {
    if let Some(piece) = repeated(table).or_else(|| tiled(table)) {
        return vec![piece];
    }
    let mut all = vec![];
    let mut at = 0;
    while at < table.len() {
        let step = if at + 1 < table.len() { table[at + 1] - table[at] } else { 1 };
        let mut end = at + 1;
        while end < table.len() && table[end] - table[end - 1] == step {
            end += 1;
        }
        // A run of two that is no neighbourhood is cheaper as one element, so that a longer run can begin.
        if end - at == 2 && step.abs() > 1 && end < table.len() {
            end = at + 1;
        }
        all.push(Piece { to: at as i64, from: table[at], axes: vec![(end - at, 1, if end - at == 1 { 0 } else { step })] });
        at = end;
    }
    all
}

/// Each position several times in a row: `0 0 1 1 2 2`.
fn repeated(table: &[i64]) -> Option<Piece> {
    let first = *table.first()?;
    let times = table.iter().take_while(|&&i| i == first).count();
    if times < 2 || times == table.len() || !table.len().is_multiple_of(times) {
        return None;
    }
    let step = table[times] - first;
    let fits = table.iter().enumerate().all(|(i, &t)| t == first + step * (i / times) as i64);
    fits.then(|| Piece { to: 0, from: first, axes: vec![(table.len() / times, times as i64, step), (times, 1, 0)] })
}

/// The whole several times: `0 1 2 0 1 2`.
fn tiled(table: &[i64]) -> Option<Piece> {
    let first = *table.first()?;
    let period = 1 + table[1..].iter().position(|&i| i == first)?;
    if period < 2 || !table.len().is_multiple_of(period) {
        return None;
    }
    let step = table[1] - first;
    let fits = table.iter().enumerate().all(|(i, &t)| t == first + step * (i % period) as i64);
    fits.then(|| Piece { to: 0, from: first, axes: vec![(table.len() / period, period as i64, 0), (period, 1, step)] })
}

/// `input` with axis `i` re-indexed by `tables[i]`, where there is one; all positions are in range.
pub(super) fn lower_tables(b: &mut Builder, input: TensorId, tables: &[Option<Vec<i64>>]) -> TensorId {
    let extents = b.dims(input).to_vec();
    let dims: Vec<usize> = tables.iter().zip(&extents).map(|(t, &d)| t.as_ref().map_or(d, Vec::len)).collect();
    if dims.contains(&0) {
        let dtype = b.dtype(input);
        return b.compute(&dims, |_, _| crate::expr::Expr::int(dtype, 0));
    }
    let whole = |d: usize| vec![Piece { to: 0, from: 0, axes: vec![(d, 1, 1)] }];
    let mut covers: Vec<Option<Vec<Piece>>> = tables
        .iter()
        .zip(&extents)
        .map(|(table, &d)| match table {
            None => Some(whole(d)),
            Some(table) => Some(pieces(table)).filter(|p| p.len() <= MAX_PIECES),
        })
        .collect();
    // The axes cut into most pieces fall back to their tables until few writes are left.
    while covers.iter().flatten().map(Vec::len).product::<usize>() > MAX_WRITES {
        let most = (0..covers.len()).max_by_key(|&i| covers[i].as_ref().map_or(0, Vec::len)).expect("an axis cut into pieces");
        covers[most] = None;
    }
    let indices: Vec<Option<TensorId>> = (0..dims.len())
        .map(|axis| match (&covers[axis], &tables[axis]) {
            (None, Some(table)) => Some(index_table(b, "index", &[table.len()], table)),
            _ => None,
        })
        .collect();
    let covers: Vec<Vec<Piece>> = covers.into_iter().zip(&dims).map(|(c, &d)| c.unwrap_or_else(|| whole(d))).collect();

    let dtype = b.dtype(input);
    let out = b.declare(dtype, &dims);
    let counts: Vec<usize> = covers.iter().map(Vec::len).collect();
    crate::tensor::for_each_index(&counts, |_, which| {
        let chosen: Vec<&Piece> = covers.iter().zip(which).map(|(c, &i)| &c[i]).collect();
        let over: Vec<usize> = chosen.iter().flat_map(|p| p.axes.iter().map(|a| a.0)).collect();
        b.write(out, &over, |b, at| {
            let mut next = at.iter();
            let (mut to, mut from) = (vec![], vec![]);
            for (piece, index) in chosen.iter().zip(&indices) {
                let (mut t, mut f) = (Affine::constant(piece.to), Affine::constant(piece.from));
                for &(_, to_step, from_step) in &piece.axes {
                    let axis = next.next().expect("an axis of the stage for each axis of the pieces");
                    (t, f) = (t.plus(&axis.times(to_step)), f.plus(&axis.times(from_step)));
                }
                from.push(match index {
                    Some(table) => Ix::Clamped(b.load(*table, [t.clone()]).cast(DType::I64)),
                    None => Ix::Affine(f),
                });
                to.push(t);
            }
            (to, b.load(input, from))
        });
    });
    out
}

/// The value of [`lower_tables`].
pub(super) fn eval_tables(input: &Tensor, tables: &[Option<Vec<i64>>]) -> Tensor {
    let mut value = input.clone();
    for (axis, table) in tables.iter().enumerate() {
        let Some(table) = table else { continue };
        let mut dims = value.dims().to_vec();
        dims[axis] = table.len();
        let mut canvas = Canvas::new(value.dtype(), &dims);
        let (to, from) = (canvas.place(), Place::dense(value.dims()));
        for piece in pieces(table) {
            let mut region = dims.clone();
            let (mut to, mut from) = (to.clone(), from.clone());
            to.at += piece.to as isize * to.strides[axis];
            from.at += piece.from as isize * from.strides[axis];
            let (to_stride, from_stride) = (to.strides[axis], from.strides[axis]);
            region.splice(axis..=axis, piece.axes.iter().map(|a| a.0));
            to.strides.splice(axis..=axis, piece.axes.iter().map(|a| a.1 as isize * to_stride));
            from.strides.splice(axis..=axis, piece.axes.iter().map(|a| a.2 as isize * from_stride));
            canvas.copy(&region, &to, &value, &from);
        }
        value = canvas.finish();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(table: &[i64]) -> String {
        let covered = pieces(table);
        let mut seen = vec![None; table.len()];
        for p in &covered {
            let dims: Vec<usize> = p.axes.iter().map(|a| a.0).collect();
            crate::tensor::for_each_index(&dims, |_, at| {
                let along = |f: fn(&(usize, i64, i64)) -> i64| p.axes.iter().zip(at).map(|(a, &i)| f(a) * i as i64).sum::<i64>();
                seen[(p.to + along(|a| a.1)) as usize] = Some(p.from + along(|a| a.2));
            });
        }
        assert_eq!(seen, table.iter().map(|&i| Some(i)).collect::<Vec<_>>());
        covered.iter().map(|p| format!("{}<-{} {:?}", p.to, p.from, p.axes)).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn tables_become_few_affine_copies() {
        assert_eq!(show(&[0, 1, 2, 3]), "0<-0 [(4, 1, 1)]");
        assert_eq!(show(&[0, 0, 1, 1, 2, 2]), "0<-0 [(3, 2, 1), (2, 1, 0)]");
        assert_eq!(show(&[3, 4, 5, 3, 4, 5]), "0<-3 [(2, 3, 0), (3, 1, 1)]");
        assert_eq!(show(&[2, 1, 0, 1, 2, 3]), "0<-2 [(3, 1, -1)]; 3<-1 [(3, 1, 1)]");
        assert_eq!(show(&[0, 0, 0, 1, 2, 2]), "0<-0 [(3, 1, 0)]; 3<-1 [(2, 1, 1)]; 5<-2 [(1, 1, 0)]");
        assert_eq!(show(&[7, 7, 7]), "0<-7 [(3, 1, 0)]");
        assert_eq!(show(&[9]), "0<-9 [(1, 1, 0)]");
        assert_eq!(show(&[]), "");
        show(&[5, 0, 3, 1, 1, 2, 8, 4]);
    }
}
