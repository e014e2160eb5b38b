//! Programs for a range of sizes in which numbers beside the data follow from extents: factors, places between elements, repetitions.

use super::joined::check;
use super::sized::parameters;

/// A variance without bias: the number of its elements is a factor, one less a divisor, and neither becomes a part of weights.
#[test]
fn numbers_of_elements_are_factors_of_their_own() {
    let text = "graph @g(%x: f32[<b>,<t>,6]) => (%v, %y) {
        @axes = const [1] : i64[1]
        @w = const rand(1) : f32[6,4]
        @n = const [<t>] : f32[]
        @less = const [<t-1>] : f32[]
        %m = ReduceMean(%x, @axes)
        %d = Sub(%x, %m)
        %q = Mul(%d, %d)
        %s = ReduceMean(%q, @axes) keepdims=0
        %times = Mul(%s, @n)
        %v = Div(%times, @less)
        %p = MatMul(%v, @w)
        %y = Div(%p, @n)
    }";
    check(&parameters(&[("b", 1, 3), ("t", 2, 4999)]), &[&[1, 2], &[2, 3], &[1, 4097], &[3, 4999]], text);
}
