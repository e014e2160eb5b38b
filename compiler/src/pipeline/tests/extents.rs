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
    // One less than a probe may be a power of two.
    check(&parameters(&[("b", 1, 3), ("t", 2, 33)]), &[&[1, 2], &[2, 3], &[1, 17], &[3, 33]], text);
}

#[test]
fn windows_at_the_end_of_an_image_average_what_there_is() {
    let at: &[&[i64]] = &[&[1, 3, 3], &[2, 4, 6], &[1, 7, 9], &[3, 8, 21], &[3, 30, 20]];
    for how in ["ceil_mode=1", "ceil_mode=1 count_include_pad=1", "pads=[1,1,1,1]", "auto_pad=\"SAME_UPPER\""] {
        let text = format!(
            "graph @g(%x: f32[<b>,3,<h>,<w>]) => (%y) {{
                %y = AveragePool(%x) kernel_shape=[3,3] strides=[2,2] {how}
            }}"
        );
        check(&parameters(&[("b", 1, 3), ("h", 3, 30), ("w", 3, 21)]), at, &text);
    }
}

#[test]
fn corners_of_images_are_aligned() {
    for mode in ["nearest", "linear", "cubic"] {
        let text = format!(
            "graph @g(%x: f32[<b>,2,<h>,<w>]) => (%y, %z) {{
                @twice = const [1.0, 1.0, 2.0, 2.0] : f32[4]
                @sizes = const [<b>, 2, <2*h>, <3*w>] : i64[4]
                %y = Resize(%x, _, @twice) mode=\"{mode}\" coordinate_transformation_mode=\"align_corners\"
                %z = Resize(%x, _, _, @sizes) mode=\"{mode}\" coordinate_transformation_mode=\"align_corners\"
            }}"
        );
        check(&parameters(&[("b", 1, 2), ("h", 1, 14), ("w", 1, 21)]), &[&[1, 1, 1], &[2, 2, 1], &[1, 5, 8], &[2, 14, 21]], &text);
    }
}

#[test]
fn repetitions_along_axes_that_vary() {
    let text = "graph @g(%x: f32[<b>,<t>,3]) => (%y, %z, %r) {
        @both = const [2, 3, 1] : i64[3]
        @last = const [1, 1, 2, 4] : i64[4]
        @perm = const [1, <b>, 3, <t>] : i64[4]
        @inner = const [1, 2, 2] : i64[3]
        %y = Tile(%x, @both)
        %turned = Transpose(%x) perm=[0,2,1]
        %cut = Reshape(%turned, @perm)
        %z = Tile(%cut, @last)
        %a = Relu(%x)
        %t = Tile(%a, @inner)
        %r = Neg(%t)
    }";
    check(&parameters(&[("b", 1, 4), ("t", 1, 21)]), &[&[1, 1], &[2, 1], &[1, 2], &[3, 9], &[4, 21]], text);
}

#[test]
fn grids_over_images_that_vary() {
    for how in ["align_corners=0", "align_corners=1"] {
        let text = format!(
            "graph @g(%theta: f32[<b>,2,3], %solid: f32[<b>,3,4], %x: f32[<b>,2,<h>,<w>]) => (%grid, %space, %y) {{
                @size = const [<b>, 2, <h>, <w>] : i64[4]
                @sides = const [<b>, 2, <w>, 3, <h>] : i64[5]
                %grid = AffineGrid(%theta, @size) {how}
                %space = AffineGrid(%solid, @sides) {how}
                %y = GridSample(%x, %grid) {how}
            }}"
        );
        check(&parameters(&[("b", 1, 3), ("h", 1, 14), ("w", 1, 21)]), &[&[1, 1, 1], &[2, 2, 1], &[1, 5, 8], &[3, 14, 21]], &text);
    }
}
