//! Programs for a range of sizes in which axes are joined and cut, put one behind another, and read at places that the sizes decide.

use super::sized::{check_for, compile, parameters};
use crate::graph::{Graph, parse};
use crate::tensor::Parameter;

/// Compares the program of a text, in which `{b}` and so on stand for the sizes, and `{b*s}` and `{p+s}` for products and sums of them.
pub(super) fn check(parameters: &[Parameter], at: &[&[i64]], text: &str) {
    check_for(parameters, at, &|at| build(parameters, at, text));
}

/// The graph of such a text.
pub(super) fn build(parameters: &[Parameter], at: &[i64], text: &str) -> Graph {
    parse(&filled(parameters, at, text)).unwrap_or_else(|e| panic!("{e:?}"))
}

fn filled(parameters: &[Parameter], at: &[i64], text: &str) -> String {
    let number = |word: &str| {
        let value = |name: &str| parameters.iter().position(|p| p.name == name).map_or_else(|| name.parse().unwrap(), |i| at[i]);
        let term = |t: &str| -> i64 {
            let mut parts = t.split('/');
            let product: i64 = parts.next().unwrap().split('*').map(value).product();
            parts.fold(product, |n, d| n / value(d))
        };
        word.split('+').map(|t| t.split('-').map(term).reduce(|a, b| a - b).unwrap()).sum::<i64>().to_string()
    };
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        let (word, after) = after.split_once('>').unwrap();
        out += before;
        out += &number(word);
        rest = after;
    }
    (out + rest).replace("=>", "->")
}

#[test]
fn tokens_of_a_batch_are_rows() {
    let parameters = parameters(&[("b", 1, 5), ("s", 1, 37)]);
    let text = "graph @g(%x: f32[<b>,<s>,16]) => (%y, %rows, %p, %most) {
        @flat = const [<b*s>, 16] : i64[2]
        @back = const [<b>, <s>, 24] : i64[3]
        @w = const rand(1) : f32[16,24]
        @c = const rand(2) : f32[24]
        %r = Reshape(%x, @flat)
        %m = Gemm(%r, @w, @c)
        %rows = Relu(%m)
        %p = Softmax(%m) axis=0
        %most = ArgMax(%m) axis=0
        %k = Reshape(%rows, @back)
        %y = Softmax(%k) axis=1
    }";
    check(&parameters, &[&[1, 1], &[1, 7], &[5, 1], &[2, 16], &[3, 31], &[5, 37]], text);
}

#[test]
fn texts_of_a_batch_are_rows_of_one_product() {
    let parameters = parameters(&[("b", 1, 4), ("s", 1, 21)]);
    // What depends on the place in a text is outside of the rows, and so is what sees all of a text.
    let text = "graph @g(%x: f32[<b>,<s>,64], %place: f32[1,<s>,64]) => (%y, %most, %all) {
        @w = const rand(1) : f32[64,1024]
        @v = const rand(2) : f32[1024,64]
        @scale = const rand(3) : f32[64]
        @small = const [0.01] : f32[1]
        @axes = const [1] : i64[1]
        %a = Add(%x, %place)
        %n = LayerNormalization(%a, @scale)
        %m = MatMul(%n, @w)
        %r = Relu(%m)
        %p = MatMul(%r, @v)
        %q = Mul(%p, @small)
        %y = Add(%q, %a)
        %most = ArgMax(%y) axis=2 keepdims=0
        %all = ReduceMean(%y, @axes)
    }";
    let build = |at: &[i64]| parse(&filled(&parameters, at, text)).unwrap();
    for compiled in compile(&parameters, &build).unwrap() {
        let rows: Vec<String> =
            compiled.graph.operator_nodes().into_iter().map(|n| compiled.graph.node(n).results[0].name.clone()).collect();
        let named = |end: &str| rows.iter().filter(|name| name.ends_with(end)).cloned().collect::<Vec<_>>();
        assert_eq!((named(".rows"), named(".apart")), (vec!["a.rows".to_owned()], vec!["y.apart".to_owned()]));
    }
    check(&parameters, &[&[1, 1], &[1, 21], &[4, 1], &[2, 8], &[3, 5], &[4, 21]], text);
}

#[test]
fn pixels_become_one_axis_and_levels_one_list() {
    let parameters = [Parameter::new("h", 4, 20, 4), Parameter::new("w", 8, 24, 4)];
    let text = "graph @g(%x: f32[2,3,<h>,<w>]) => (%all, %mean, %back) {
        @a = const rand(1) : f32[6,3,3,3]
        @b = const rand(2) : f32[6,6,3,3]
        @flat = const [2, 6, -1] : i64[3]
        @shape = const [2, 6, <h/2>, <w/2>] : i64[4]
        @axes = const [2] : i64[1]
        %u = Conv(%x, @a) pads=[1,1,1,1] strides=[2,2]
        %v = Conv(%u, @b) pads=[1,1,1,1] strides=[2,2]
        %p = Reshape(%u, @flat)
        %q = Reshape(%v, @flat)
        %c = Concat(%p, %q) axis=2
        %t = Transpose(%c) perm=[0,2,1]
        %all = Softmax(%t) axis=2
        %mean = ReduceMean(%c, @axes)
        %s = Softmax(%p) axis=2
        %back = Reshape(%s, @shape)
    }";
    check(&parameters, &[&[4, 8], &[8, 24], &[20, 24], &[20, 8], &[12, 16]], text);
}

#[test]
fn windows_of_an_image() {
    let parameters = [Parameter::new("b", 1, 3, 1), Parameter::new("h", 4, 20, 4), Parameter::new("w", 4, 24, 4)];
    let text = "graph @g(%x: f32[<b>,<h>,<w>,8]) => (%y) {
        @cut = const [<b>, <h/4>, 4, <w/4>, 4, 8] : i64[6]
        @windows = const [-1, 16, 8] : i64[3]
        @back = const [<b>, <h/4>, <w/4>, 4, 4, 8] : i64[6]
        @shape = const [<b>, <h>, <w>, 8] : i64[4]
        @k = const rand(1) : f32[8,8]
        %c = Reshape(%x, @cut)
        %t = Transpose(%c) perm=[0,1,3,2,4,5]
        %r = Reshape(%t, @windows)
        %m = MatMul(%r, @k)
        %n = Transpose(%m) perm=[0,2,1]
        %s = MatMul(%m, %n)
        %p = Softmax(%s) axis=2
        %o = MatMul(%p, %m)
        %q = Reshape(%o, @back)
        %u = Transpose(%q) perm=[0,1,3,2,4,5]
        %z = Reshape(%u, @shape)
        %y = Add(%z, %x)
    }";
    check(&parameters, &[&[1, 4, 4], &[2, 8, 12], &[3, 20, 24], &[1, 20, 4]], text);
}

#[test]
fn what_was_and_what_comes_are_one_behind_another() {
    let parameters = parameters(&[("s", 1, 9), ("p", 1, 17)]);
    let text = "graph @g(%q: f32[2,<s>,8], %old: f32[2,<p>,8], %new: f32[2,<s>,8]) => (%y, %k, %tail, %last) {
        @from = const [<p>] : i64[1]
        @end = const [<p+s>] : i64[1]
        @axis = const [1] : i64[1]
        @minus = const [-1] : i64[1]
        @zero = const [0] : i64[]
        @one = const [1] : i64[]
        @p = const [<p>] : i64[]
        @s = const [<s>] : i64[]
        @all = const [<p+s>] : i64[]
        @low = const [-1000] : f32[]
        %k = Concat(%old, %new) axis=1
        %t = Transpose(%k) perm=[0,2,1]
        %d = MatMul(%q, %t)
        %rows = Range(@p, @all, @one)
        %columns = Range(@zero, @all, @one)
        @out = const [1] : i64[1]
        %r = Unsqueeze(%rows, @out)
        %seen = LessOrEqual(%columns, %r)
        %w = Where(%seen, %d, @low)
        %a = Softmax(%w) axis=2
        %y = MatMul(%a, %k)
        %tail = Slice(%k, @from, @end, @axis)
        %last = Gather(%k, @minus) axis=1
    }";
    check(&parameters, &[&[1, 1], &[9, 17], &[1, 16], &[8, 1], &[3, 7]], text);
}

#[test]
fn places_are_counted_from_the_end() {
    let parameters = parameters(&[("b", 1, 3), ("s", 2, 21)]);
    let text = "graph @g(%x: f32[<b>,<s>,8]) => (%flip, %d, %halves, %padded, %other) {
        @from = const [-1] : i64[1]
        @all = const [-9223372036854775808] : i64[1]
        @axis = const [1] : i64[1]
        @one = const [1] : i64[1]
        @most = const [9223372036854775807] : i64[1]
        @zero = const [0] : i64[1]
        @pads = const [0, 1, 0, 0, 1, 0] : i64[6]
        %flip = Slice(%x, @from, @all, @axis, @from)
        %a = Slice(%x, @one, @most, @axis)
        %b = Slice(%x, @zero, @from, @axis)
        %d = Sub(%a, %b)
        %l = Slice(%x, @from, @most, @axis)
        %h = Relu(%x)
        %halves = Concat(%h, %l, %flip) axis=1
        %padded = Pad(%x, @pads) mode=\"reflect\"
        %other = Pad(%x, @pads) mode=\"edge\"
    }";
    check(&parameters, &[&[1, 2], &[3, 3], &[2, 16], &[3, 21]], text);
}

#[test]
fn images_are_resized_to_each_other() {
    let parameters = parameters(&[("h", 3, 20), ("w", 4, 21)]);
    for (mode, coordinates) in [("nearest", "asymmetric"), ("linear", "half_pixel"), ("cubic", "align_corners")] {
        let text = "graph @g(%x: f32[1,3,<h>,<w>]) => (%y, %u, %m) {
                @a = const rand(1) : f32[4,3,3,3]
                @sizes = const [1, 4, <h>, <w>] : i64[4]
                @scales = const [1, 1, 2, 2] : f32[4]
                %p = Conv(%x, @a) auto_pad=\"SAME_UPPER\" strides=[2,2]
                %y = Resize(%p, _, _, @sizes) mode=\"MODE\" coordinate_transformation_mode=\"COORDINATES\"
                %u = Resize(%p, _, @scales) mode=\"MODE\" coordinate_transformation_mode=\"COORDINATES\"
                %m = AveragePool(%p) kernel_shape=[3,3] strides=[2,2] pads=[1,1,1,1] ceil_mode=1
            }";
        let text = text.replace("MODE", mode).replace("COORDINATES", coordinates);
        check(&parameters, &[&[3, 4], &[20, 21], &[9, 16]], &text);
    }
}

#[test]
fn what_is_no_function_of_the_sizes_is_refused_by_name() {
    let parameters = parameters(&[("n", 3, 40)]);
    let problems = compile(&parameters, &|at| {
        let root = (1..).find(|r| r * r > at[0]).unwrap() - 1;
        let text = format!("graph @g(%x: f32[{},8]) -> (%y) {{ @a = const [0] : i64[1]\n @b = const [{root}] : i64[1]\n %s = Slice(%x, @a, @b)\n %y = Relu(%s) }}", at[0]);
        parse(&text).unwrap()
    })
    .unwrap_err();
    assert!(problems[0].to_string().contains("`Slice` cannot be compiled: an extent of its result is 6 for [40]"), "{}", problems[0]);
}

/// What is around an image of bytes is an operand, which windows of one element do not read.
#[test]
fn padding_of_bytes_that_nothing_reads() {
    let parameters = parameters(&[("w", 1, 9)]);
    let text = "graph @g(%x: f32[1,4,3,<w>]) => (%y, %z) {
        @a = const rand(1) : i8[6,4,1,1]
        @b = const rand(2) : i8[6,4,3,3]
        @s = const [0.02] : f32[]
        @zero = const [128] : u8[]
        %most = ReduceMax(%x) keepdims=0
        %p = QuantizeLinear(%most, @s, @zero)
        %q = QuantizeLinear(%x, @s, @zero)
        %y = ai.tinsmith.ByteConv(%q, @a, %p)
        %z = ai.tinsmith.ByteConv(%q, @b, %p) pads=[1,1,1,1] strides=[2,2]
    }";
    check(&parameters, &[&[1], &[2], &[5], &[9]], text);
}

/// An element of one needs no index, but what is none of its indices is refused in a run of any size.
#[test]
fn tuples_index_an_axis_that_may_be_one_element() {
    let parameters = parameters(&[("n", 1, 20)]);
    let text = "graph @g(%i: i64[4,1], %x: f32[<n>,3]) => (%y, %z) {
        @begin = const splat(0) : i64[]
        @end = const splat(<n>) : i64[]
        @step = const splat(1) : i64[]
        %t = Range(@begin, @end, @step)
        %y = GatherND(%t, %i)
        %z = Gather(%x, %i) axis=0
    }";
    check(&parameters, &[&[2], &[3], &[20]], text);
}

#[test]
fn what_is_cut_may_be_longer_or_shorter_than_the_axis() {
    let text = |start: &str, end: &str| {
        format!(
            "graph @g(%x: f32[3,<n>], %y: f32[<n>,8]) => (%r, %p, %m) {{
            @start = const [{start}] : i64[1]
            @end = const [{end}] : i64[1]
            @rows = const [0] : i64[1]
            @columns = const [1] : i64[1]
            @w = const rand(1) : f32[8,5]
            %c = Slice(%x, @start, @end, @columns)
            %r = Relu(%c)
            %s = Slice(%y, @start, @end, @rows)
            %p = MatMul(%s, @w)
            %m = ReduceMean(%c, @columns)
        }}"
        )
    };
    let at: &[&[i64]] = &[&[1], &[2], &[6], &[7], &[8], &[64], &[100], &[101], &[200]];
    for (start, end) in [("0", "7"), ("0", "100"), ("-100", "1000"), ("-7", "1000")] {
        check(&parameters(&[("n", 1, 200)]), at, &text(start, end));
    }
    let text = text("3", "90").replace(", %m) {", ") {").replace("%m = ReduceMean(%c, @columns)", "");
    check(&parameters(&[("n", 0, 29)]), &[&[0], &[1], &[3], &[4], &[29]], &text);
}
