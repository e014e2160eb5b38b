//! Every rule on the smallest graph that shows it.

use super::*;
use crate::graph::Graph;
use crate::passes::testing::{close, exact};

/// A graph on which a rule must be applied, and what is left.
struct Case {
    rule: &'static str,
    /// Bound on the change of values, relative to the greatest; 0 for equal bits.
    tolerance: f64,
    inputs: &'static str,
    body: &'static str,
    /// Operators that are left, in order.
    left: &'static str,
}

const fn case(rule: &'static str, tolerance: f64, inputs: &'static str, body: &'static str, left: &'static str) -> Case {
    Case { rule, tolerance, inputs, body, left }
}

const IMAGE: &str = "%x: f32[1,4,6,6]";

/// A few roundings of sums of at most some hundred products.
const ROUNDING: f64 = 4e-6;

#[rustfmt::skip]
const CASES: &[Case] = &[
    case("no-op-view", 0.0, IMAGE, "%a = Relu(%x)\n%b = Transpose(%a) perm=[0,1,2,3]\n%y = Neg(%b)", "Relu Neg"),
    case("no-op-view", 0.0, IMAGE, "@s = const [1,4,6,6] : i64[4]\n%a = Relu(%x)\n%b = Reshape(%a, @s)\n%y = Neg(%b)", "Relu Neg"),
    case("no-op-view", 0.0, IMAGE, "@f = const [0] : i64[1]\n@t = const [9999] : i64[1]\n@ka = const [2] : i64[1]\n%a = Relu(%x)\n%b = Slice(%a, @f, @t, @ka)\n%y = Neg(%b)", "Relu Neg"),
    case("no-op-view", 0.0, IMAGE, "@s = const [1,1,6,1] : i64[4]\n%a = Relu(%x)\n%b = Expand(%a, @s)\n%y = Neg(%b)", "Relu Neg"),
    case("dropout-inference", 0.0, IMAGE, "%a = Relu(%x)\n%b, %m = Dropout(%a)\n%y = Neg(%b)", "Relu Neg"),
    case("cast-same", 0.0, IMAGE, "%a = Relu(%x)\n%b = Cast(%a) to=1\n%y = Neg(%b)", "Relu Neg"),
    case("cast-back", 0.0, "%x: i32[5]", "%a = Neg(%x)\n%b = Cast(%a) to=11\n%c = Cast(%b) to=6\n%y = Neg(%c)", "Neg Neg"),
    case("merge-reshapes", 0.0, IMAGE, "@s = const [2,2,36] : i64[3]\n%a = Relu(%x)\n%b = Flatten(%a)\n%c = Reshape(%b, @s)\n%y = Neg(%c)", "Relu Reshape Neg"),
    case("merge-transposes", 0.0, IMAGE, "%a = Transpose(%x) perm=[0,2,3,1]\n%b = Relu(%a)\n%c = Transpose(%b) perm=[0,3,1,2]\n%d = Transpose(%c) perm=[0,2,1,3]\n%y = Neg(%d)", "Transpose Relu Transpose Neg"),
    case("merge-transposes", 0.0, IMAGE, "%r = Relu(%x)\n%a = Transpose(%r) perm=[0,2,3,1]\n%b = Transpose(%a) perm=[0,3,1,2]\n%y = Neg(%b)", "Relu Neg"),
    case("transpose-of-ones", 0.0, "%x: f32[1,4,6]", "%a = Transpose(%x) perm=[1,0,2]\n%y = Neg(%a)", "Reshape Neg"),
    case("concat-of-concat", 0.0, IMAGE, "%a = Relu(%x)\n%b = Neg(%x)\n%c = Concat(%a, %b) axis=1\n%d = Abs(%c)\n%e = Concat(%x, %a, %b) axis=-3\n%f = Concat(%x, %a, %b, %d) axis=1\n%g = Concat(%a, %x, %b) axis=1\n%y = Concat(%e, %f, %g) axis=1", "Relu Neg Concat Abs Concat Concat Concat Concat"),
    case("expand-element-wise", 0.0, "%x: f32[1,4,6,6], %z: f32[4,1,1]", "@s = const [1,4,6,6] : i64[4]\n%a = Expand(%z, @s)\n%y = Add(%x, %a)", "Add"),
    case("add-zero", 0.0, IMAGE, "@z = const splat(0) : f32[4,1,1]\n%a = Relu(%x)\n%b = Sub(%a, @z)\n%y = Neg(%b)", "Relu Neg"),
    case("add-zero", 0.0, "%x: f32[2,8]", "@w = const rand(1) : f32[8,6]\n@z = const splat(0) : f32[6]\n%a = MatMul(%x, @w)\n%b = Add(%a, @z)\n%y = Abs(%b)", "MatMul Abs"),
    case("add-zero", 0.0, "%x: i32[7]", "@z = const [0] : i32[]\n%a = Neg(%x)\n%b = Add(@z, %a)\n%y = Abs(%b)", "Neg Abs"),
    case("mul-one", 0.0, IMAGE, "@o = const splat(1) : f32[4,1,1]\n@p = const [1] : f32[]\n%a = Relu(%x)\n%b = Mul(@o, %a)\n%c = Div(%b, @p)\n%d = Pow(%c, @p)\n%y = Neg(%d)", "Relu Neg"),
    case("div-power-of-two", 0.0, IMAGE, "@d = const [8] : f32[]\n%y = Div(%x, @d)", "Mul"),
    case("pow-two", 0.0, IMAGE, "@e = const [2] : f32[]\n%y = Pow(%x, @e)", "Mul"),
    case("pow-half", 0.0, IMAGE, "@e = const [0.5] : f32[]\n%a = Abs(%x)\n%y = Pow(%a, @e)", "Abs Sqrt"),
    case("double-negation", 0.0, IMAGE, "%r = Relu(%x)\n%a = Neg(%r)\n%b = Neg(%a)\n%y = Abs(%b)", "Relu Abs"),
    case("idempotent", 0.0, IMAGE, "%a = Relu(%x)\n%b = Relu(%a)\n%y = Neg(%b)", "Relu Neg"),
    case("merge-clips", 0.0, IMAGE, "@ka = const [-1] : f32[]\n@kb = const [1] : f32[]\n@c = const [0.5] : f32[]\n%a = Clip(%x, @ka, @kb)\n%b = Clip(%a, _, @c)\n%y = Neg(%b)", "Clip Neg"),
    case("merge-clips", 0.0, IMAGE, "@kb = const [0.5] : f32[]\n%a = Relu(%x)\n%b = Clip(%a, _, @kb)\n%y = Neg(%b)", "Clip Neg"),
    case("where-constant", 0.0, IMAGE, "@c = const splat(true) : bool[6]\n@o = const [3] : f32[]\n%a = Relu(%x)\n%b = Where(@c, %a, @o)\n%y = Neg(%b)", "Relu Neg"),
    case("no-op-view", 0.0, IMAGE, "@p = const splat(0) : i64[8]\n%a = Relu(%x)\n%b = Pad(%a, @p)\n%y = Neg(%b)", "Relu Neg"),
    case("pad-conv", 0.0, IMAGE, "@p = const [0,0,1,2,0,0,3,0] : i64[8]\n@w = const rand(1) : f32[3,4,3,3]\n%a = Pad(%x, @p)\n%y = Conv(%a, @w) pads=[1,0,0,1]", "Conv"),
    case("pad-max-pool", 0.0, IMAGE, "@p = const [0,0,0,0,0,0,1,1] : i64[8]\n%r = Relu(%x)\n%a = Pad(%r, @p)\n%y = MaxPool(%a) kernel_shape=[3,3] strides=[2,2]", "Relu MaxPool"),
    case("pad-average-pool", 0.0, IMAGE, "@p = const [0,0,1,1,0,0,1,1] : i64[8]\n%a = Pad(%x, @p)\n%y = AveragePool(%a) kernel_shape=[3,3]", "AveragePool"),
    case("batch-norm", ROUNDING, IMAGE, "@w = const rand(1) : f32[3,4,3,3]\n@s = const rand(2) : f32[3]\n@b = const rand(3) : f32[3]\n@m = const rand(4) : f32[3]\n@v = const [0.5,1.5,2.5] : f32[3]\n%c = Conv(%x, @w) pads=[1,1,1,1]\n%y = BatchNormalization(%c, @s, @b, @m, @v) epsilon=0.001", "Conv"),
    case("batch-norm", ROUNDING, IMAGE, "@w = const rand(1) : f32[4,3,3,3]\n@kc = const rand(7) : f32[6]\n@s = const rand(2) : f32[6]\n@b = const rand(3) : f32[6]\n@m = const rand(4) : f32[6]\n@v = const splat(0.5) : f32[6]\n%c = ConvTranspose(%x, @w, @kc) group=2 strides=[2,2]\n%y = BatchNormalization(%c, @s, @b, @m, @v)", "ConvTranspose"),
    case("batch-norm", ROUNDING, "%x: f32[5,8]", "@w = const rand(1) : f32[6,8]\n@kc = const rand(7) : f32[5,1]\n@s = const rand(2) : f32[6]\n@b = const rand(3) : f32[6]\n@m = const rand(4) : f32[6]\n@v = const splat(0.5) : f32[6]\n%c = Gemm(%x, @w, @kc) transB=1 alpha=0.5 beta=2.0\n%y = BatchNormalization(%c, @s, @b, @m, @v)", "Gemm"),
    case("batch-norm", ROUNDING, "%x: f32[5,8]", "@w = const rand(1) : f32[8,6]\n@kc = const rand(7) : f32[6]\n@s = const rand(2) : f32[6]\n@b = const rand(3) : f32[6]\n@m = const rand(4) : f32[6]\n@v = const splat(0.5) : f32[6]\n%c = MatMul(%x, @w)\n%d = Add(@kc, %c)\n%y = BatchNormalization(%d, @s, @b, @m, @v)", "MatMul Add"),
    case("affine-after", ROUNDING, IMAGE, "@w = const rand(1) : f32[6,2,3,3]\n@s = const rand(2) : f32[6,1,1]\n@t = const rand(3) : f32[1,6,1,1]\n%c = Conv(%x, @w) group=2\n%d = Mul(%c, @s)\n%e = Add(@t, %d)\n%y = Neg(%e)", "Conv"),
    case("affine-after", ROUNDING, "%x: f32[2,5,8]", "@w = const rand(1) : f32[8,6]\n@s = const [2.5] : f32[]\n%c = MatMul(%x, @w)\n%y = Div(%c, @s)", "MatMul"),
    case("scale-after-product", ROUNDING, "%x: f32[1,2,5,8], %z: f32[1,2,5,8]", "@s = const [0.3] : f32[]\n%a = Mul(%x, @s)\n%b = Mul(@s, %z)\n%c = Transpose(%b) perm=[0,1,3,2]\n%d = MatMul(%a, %c)\n%y = Neg(%d)", "Transpose MatMul Mul Neg"),
    case("affine-before", ROUNDING, IMAGE, "@w = const rand(1) : f32[3,4,3,3]\n@s = const [0.017] : f32[]\n%a = Mul(%x, @s)\n%y = Conv(%a, @w) pads=[1,1,1,1]", "Conv"),
    case("affine-before", ROUNDING, IMAGE, "@w = const rand(1) : f32[6,2,3,3]\n@b = const rand(2) : f32[6]\n@s = const rand(3) : f32[4,1,1]\n@t = const rand(4) : f32[4,1,1]\n%m = Sub(%x, @t)\n%a = Div(%m, @s)\n%y = Conv(%a, @w, @b) group=2", "Conv"),
    case("affine-before", ROUNDING, "%x: f32[5,8]", "@w = const rand(1) : f32[8,6]\n@t = const rand(4) : f32[8]\n%m = Add(%x, @t)\n%y = Gemm(%m, @w) alpha=0.5", "Gemm"),
    case("merge-constants", ROUNDING, IMAGE, "@ka = const [1.5] : f32[]\n@b = const rand(1) : f32[4,1,1]\n%a = Mul(%x, @ka)\n%y = Div(%a, @b)", "Mul"),
    case("merge-constants", ROUNDING, IMAGE, "@ka = const [1.5] : f32[]\n@b = const [0.25] : f32[]\n%a = Sub(%x, @ka)\n%y = Add(@b, %a)", "Add"),
    case("lone-batch-norm", ROUNDING, IMAGE, "@s = const rand(2) : f32[4]\n@b = const rand(3) : f32[4]\n@m = const rand(4) : f32[4]\n@v = const splat(0.5) : f32[4]\n%y = BatchNormalization(%x, @s, @b, @m, @v)", "Mul Add"),
    case("no-op-copy", 0.0, IMAGE, "%a = Relu(%x)\n%b = Max(%a)\n%y = Neg(%b)", "Relu Neg"),
];

fn operators(g: &str) -> String {
    let names: Vec<&str> = g
        .lines()
        .filter_map(|l| l.split_once(" = ")?.1.split_once('(').map(|(name, _)| name.trim()))
        .filter(|name| !name.starts_with("const"))
        .collect();
    names.join(" ")
}

fn pass(g: &mut Graph, report: &mut Report) {
    simplify(g, report);
}

#[test]
fn each_rule_leaves_less_and_the_same_values() {
    for c in CASES {
        let text = format!("graph @g({}) -> (%y) {{\n{}\n}}", c.inputs, c.body);
        let (after, report) = if c.tolerance == 0.0 { exact(pass, &text) } else { close(c.tolerance, pass, &text) };
        assert!(report.count(c.rule) > 0, "`{}` did not apply\n{text}\n{after}\n{}", c.rule, report.trace());
        assert_eq!(operators(&after), c.left, "{}\n{after}", c.rule);
    }
}

#[test]
fn every_rule_has_a_case() {
    for rule in RULES {
        assert!(CASES.iter().any(|c| c.rule == rule.name), "no case for `{}`", rule.name);
    }
}

/// Graphs on which a rule must decline, and why.
#[rustfmt::skip]
const DECLINED: &[(&str, &str, &str, &str)] = &[
    ("add-zero", IMAGE, "@z = const splat(0) : f32[]\n%y = Add(%x, @z)", "it would change the sign of zeros"),
    ("no-op-copy", IMAGE, "%y = Identity(%x)", "an output would be an input"),
    ("cast-back", "%x: i64[5]", "%a = Cast(%x) to=1\n%b = Cast(%a) to=7\n%y = Neg(%b)", "f32 does not hold every i64"),
    ("div-power-of-two", IMAGE, "@d = const [3] : f32[]\n%y = Div(%x, @d)", "the divisor is no moderate power of two"),
    ("pad-conv", IMAGE, "@p = const [0,0,1,1,0,0,1,1] : i64[8]\n@v = const [1] : f32[]\n@w = const rand(1) : f32[3,4,3,3]\n%a = Pad(%x, @p, @v)\n%y = Conv(%a, @w)", "the padding is not zero"),
    ("pad-conv", IMAGE, "@p = const [0,0,1,1,0,0,1,1] : i64[8]\n@w = const rand(1) : f32[3,4,3,3]\n%a = Pad(%x, @p)\n%y = Conv(%a, @w) auto_pad=\"SAME_UPPER\"", "the window pads automatically"),
    ("pad-max-pool", IMAGE, "@p = const [0,0,1,1,0,0,1,1] : i64[8]\n%a = Pad(%x, @p)\n%y = MaxPool(%a) kernel_shape=[3,3]", "the padding may win"),
    ("pad-average-pool", IMAGE, "@p = const [0,0,1,1,0,0,1,1] : i64[8]\n%a = Pad(%x, @p)\n%y = AveragePool(%a) kernel_shape=[3,3] pads=[1,1,1,1]", "the window does not count its own padding"),
    ("affine-before", IMAGE, "@w = const rand(1) : f32[3,4,3,3]\n@t = const rand(4) : f32[4,1,1]\n%m = Sub(%x, @t)\n%y = Conv(%m, @w) pads=[1,1,1,1]", "the convolution pads: its border sees zeros instead of the shift"),
    ("affine-after", IMAGE, "@w = const rand(1) : f32[3,4,3,3]\n@s = const rand(2) : f32[3,1,4]\n%c = Conv(%x, @w)\n%y = Mul(%c, @s)", "the constant varies inside a channel"),
    ("affine-after", IMAGE, "@w = const rand(1) : f32[3,4,3,3]\n@s = const [3] : f32[]\n%c = Conv(%x, @w)\n%d = Mul(%c, @s)\n%y = Add(%c, %d)", "the product has other users"),
    ("merge-constants", IMAGE, "@ka = const [8388608] : f32[]\n%a = Add(%x, @ka)\n%y = Sub(%a, @ka)", "the constants are too large or too small"),
];

#[test]
fn rules_say_why_they_decline() {
    for (rule, inputs, body, why) in DECLINED {
        let text = format!("graph @g({inputs}) -> (%y) {{\n{body}\n}}");
        let (after, report) = exact(pass, &text);
        assert_eq!(report.reasons(rule), [*why], "{text}\n{after}\n{}", report.trace());
    }
}

#[test]
fn names_stay_with_values() {
    let text = "graph @g(%x: f32[1,4,6,6]) -> (%y) {
        @w = const rand(1) : f32[3,4,3,3]
        @s = const rand(2) : f32[3]
        @v = const splat(1) : f32[3]
        %c = Conv(%x, @w)
        %n = BatchNormalization(%c, @s, @s, @s, @v)
        %y = Relu(%n)
    }";
    let (after, _) = close(ROUNDING, pass, text);
    let names: Vec<&str> = after.lines().filter_map(|l| l.split_once(" = ").map(|(name, _)| name.trim())).collect();
    assert_eq!(names, ["@w", "@n.bias", "%n", "%y"], "{after}");
}

#[test]
fn a_chain_of_concatenations_grows_by_what_is_new() {
    let text = "graph @g(%x: f32[1,2,6,6]) -> (%y) {
        @i = const [1] : i64[1]
        %a = Relu(%x)
        %ab = Concat(%x, %a) axis=1
        %b = ReduceMean(%ab, @i)
        %abc = Concat(%x, %a, %b) axis=1
        %c = ReduceMean(%abc, @i)
        %y = Concat(%x, %a, %b, %c) axis=1
    }";
    let (after, _) = exact(pass, text);
    let concatenations: Vec<&str> = after.lines().filter_map(|l| l.split(" = Concat").nth(1)?.split(')').next()).collect();
    assert_eq!(concatenations, ["(%x, %a", "(%ab, %b", "(%abc, %c"], "{after}");
}
