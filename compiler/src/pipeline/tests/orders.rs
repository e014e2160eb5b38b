//! Programs for a range of sizes with what has an order along an axis that varies: the first elements, running sums from either end.

use super::joined::check;
use super::sized::parameters;

#[test]
fn first_elements_of_an_axis_that_varies() {
    let parameters = parameters(&[("b", 1, 5), ("n", 3, 40)]);
    let text = "graph @g(%x: f32[<b>,<n>,2], %w: f64[<n>,<b>]) => (%v, %i, %least, %where, %some, %half, %of, %all, %order) {
        @k = const [3] : i64[1]
        @m = const [<n/2>] : i64[1]
        @n = const [<n>] : i64[1]
        %v, %i = TopK(%x, @k) axis=1
        %least, %where = TopK(%w, @k) axis=0 largest=0
        %a = Abs(%x)
        %some, %half = TopK(%a, @m) axis=1
        %of, %all = TopK(%a, @n) axis=1 largest=0
        %order = GatherElements(%x, %all) axis=1
    }";
    check(&parameters, &[&[1, 3], &[2, 4], &[1, 8], &[5, 16], &[3, 17], &[4, 33], &[5, 40]], text);
}

#[test]
fn first_elements_of_rows_that_vary() {
    let parameters = parameters(&[("b", 1, 4), ("n", 1, 20)]);
    let text = "graph @g(%x: f32[<b>,40,<n>], %z: f32[<b>,<n>,300]) => (%v, %i, %least, %where, %best, %first) {
        @k = const [3] : i64[1]
        @one = const [1] : i64[1]
        %v, %i = TopK(%x, @k) axis=1
        %least, %where = TopK(%z, @k) largest=0
        %best, %first = TopK(%z, @one)
    }";
    check(&parameters, &[&[1, 1], &[2, 3], &[1, 4], &[4, 16], &[3, 20]], text);
}

#[test]
fn sums_that_run_from_the_end_of_an_axis_that_varies() {
    let parameters = parameters(&[("b", 1, 5), ("n", 1, 33)]);
    let text = "graph @g(%x: f32[<b>,<n>,3]) => (%p, %q, %r, %s, %t) {
        @one = const [1] : i64[]
        @zero = const [0] : i64[]
        %y = Relu(%x)
        %p = CumSum(%y, @one) reverse=1
        %q = CumSum(%y, @one) reverse=1 exclusive=1
        %r = CumSum(%y, @one) exclusive=1
        %s = CumSum(%x, @zero) reverse=1
        %t = CumProd(%x, @one) reverse=1
    }";
    check(&parameters, &[&[1, 1], &[2, 1], &[1, 2], &[3, 3], &[2, 16], &[5, 32], &[5, 33]], text);
}
