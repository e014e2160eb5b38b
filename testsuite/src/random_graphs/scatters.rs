//! Draws scatters: at places that constants say, and at places that data says.

use tinsmith::tensor::DType;

use super::Variable;
use super::more_operators::{line, one_dimension};
use super::operators::{Draft, Made, is_float, list};

/// Updates for `x`: one of the values that have these extents, else a constant.
fn updates(d: &mut Draft<'_>, x: &Variable, dims: &[usize]) -> String {
    let (dtype, seed) = (x.dtype, d.random.below(1000));
    match d.like(|v| v.exact && v.dtype == dtype && v.dims == dims) {
        Some(v) => v.name,
        None => d.constant("u", format!("rand({seed})"), dtype, dims),
    }
}

pub(super) fn scatter(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype == DType::Bool || x.dims.is_empty() || x.dims[0] == 0 {
        return None;
    }
    let n = x.dims[0] as i64;
    if d.random.one_in(3) {
        // All rows, in order.
        let scalar = |d: &mut Draft<'_>, name: &str, n: i64| d.constant(name, format!("[{n}]"), DType::I64, &[]);
        let (from, to, step) = (scalar(d, "from", 0), scalar(d, "to", n), scalar(d, "step", 1));
        let rows = line(d, "rows", format!("Range({from}, {to}, {step})"), DType::I64, &[x.dims[0]]);
        let column = d.ints("column", &[n, 1]);
        let i = line(d, "places", format!("Reshape({rows}, {column})"), DType::I64, &[x.dims[0], 1]);
        let reduction = d.random.one_of(&["none", "add", "max"]);
        return Some((format!("ScatterND({0}, {i}, {0}) reduction=\"{reduction}\"", x.name), !is_float(x) || reduction != "add"));
    }
    if n >= 4 && d.random.one_in(2) {
        let n_updates = 1 + d.random.below(6);
        let i = d.indices(&[n_updates, 1]);
        let dims = [&i.dims[..1], &x.dims[1..]].concat();
        let (u, reduction) = (updates(d, x, &dims), d.random.one_of(&["none", "none", "add", "mul", "min"]));
        return Some((format!("ScatterND({}, {}, {u}) reduction=\"{reduction}\"", x.name, i.name), !is_float(x) || reduction == "none"));
    }
    let row: Vec<usize> = x.dims[1..].to_vec();
    let at = d.random.within(0, n - 1);
    let indices = d.constant("i", format!("[{at}]"), DType::I64, &[1, 1]);
    let mut dims = vec![1];
    dims.extend(row);
    let seed = d.random.below(1000);
    let updates = d.constant("u", format!("rand({seed})"), x.dtype, &dims);
    if d.random.one_in(3) {
        let n_rows = d.random.within(0, 1);
        let meant = d.ints("meant", &[n_rows, 1]);
        return Some((format!("ai.tinsmith.PaddedScatterND({}, {indices}, {updates}, {meant})", x.name), true));
    }
    Some((format!("ScatterND({}, {indices}, {updates})", x.name), true))
}

pub(super) fn scatter_elements(d: &mut Draft<'_>, x: &Variable) -> Made {
    let axis = one_dimension(d.random, x)?;
    if x.dtype == DType::Bool || x.dims.contains(&0) || x.dims.len() > 3 {
        return None;
    }
    if x.dims[axis] >= 4 && d.random.one_in(2) {
        let some = |d: &mut Draft<'_>, n: usize| if d.random.one_in(3) { 1 + d.random.below(n) } else { n };
        let dims: Vec<usize> = x.dims.iter().map(|&n| some(d, n)).collect();
        let i = d.indices(&dims);
        let (u, reduction) = (updates(d, x, &dims), d.random.one_of(&["none", "none", "add", "mul", "min"]));
        let text = format!("ScatterElements({}, {}, {u}) axis={axis} reduction=\"{reduction}\"", x.name, i.name);
        return Some((text, !is_float(x) || reduction == "none"));
    }
    let mut dims = x.dims.clone();
    dims[axis] = 1;
    let n: usize = dims.iter().product();
    if n > 8 {
        return None;
    }
    let places: Vec<i64> = (0..n).map(|_| d.random.within(0, x.dims[axis] as i64 - 1)).collect();
    let i = d.constant("i", format!("[{}]", list(&places)), DType::I64, &dims);
    let u = d.constant("u", "rand(5)".to_owned(), x.dtype, &dims);
    let reduction = d.random.one_of(&["none", "add", "max"]);
    let exact = !is_float(x) || reduction != "add";
    let text = if d.random.one_in(3) {
        let meant: Vec<i64> = dims.iter().map(|&n| d.random.within(0, n as i64)).collect();
        let meant = d.ints("meant", &meant);
        format!("ai.tinsmith.PaddedScatterElements({}, {i}, {u}, {meant})", x.name)
    } else {
        format!("ScatterElements({}, {i}, {u})", x.name)
    };
    Some((format!("{text} axis={axis} reduction=\"{reduction}\""), exact))
}
