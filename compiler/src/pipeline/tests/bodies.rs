//! Programs for a range of sizes with branches and loops.

use super::sized::{check, compile, parameters};
use crate::graph::parse;

#[test]
fn branches_over_lengths() {
    for flag in [0, 1] {
        let first = ["%f: bool[], %g: bool[]", "%g: bool[], %f: bool[]"][flag];
        check(&[("b", 1, 3), ("s", 1, 21)], &[&[1, 1], &[2, 1], &[3, 2], &[2, 16], &[1, 20], &[3, 21]], &|at| {
            let (b, s) = (at[0], at[1]);
            let text = format!(
                "graph @g({first}, %x: f32[{b},{s},8]) -> (%z) {{
                  %u = Relu(%x)
                  %y = if(%f, %u) then graph @yes(%u: f32[{b},{s},8]) -> (%y) {{
                    @k = const rand(3) : f32[8,8]
                    %m = MatMul(%u, @k)
                    %y = Softmax(%m) axis=1
                  }} else graph @no(%u: f32[{b},{s},8]) -> (%y) {{
                    %t = Transpose(%u) perm=[0,2,1]
                    %q = MatMul(%u, %t)
                    %y = MatMul(%q, %u)
                  }}
                  %z = Add(%y, %x)
                }}"
            );
            parse(&text).unwrap()
        });
    }
}

#[test]
fn loops_over_lengths() {
    // Over slices, a number of times that an input says, and as often as an axis is long.
    check(&[("b", 1, 3), ("s", 1, 19)], &[&[1, 1], &[2, 1], &[1, 2], &[3, 3], &[2, 16], &[3, 19]], &|at| {
        let (b, s) = (at[0], at[1]);
        let text = format!(
            "graph @g(%n: i64[], %x: f32[{s},{b},8], %h: f32[{b},8]) -> (%last, %all, %z, %p) {{
              @k = const [{s}] : i64[1]
              %last, %all = loop(_, %h, %x) states=1 scanned=1 : f32[{b},8], f32[{s},{b},8] do graph @step(%i: i64[], %h: f32[{b},8], %e: f32[{b},8]) -> (%t, %u) {{
                @w = const rand(5) : f32[8,8]
                %m = MatMul(%h, @w)
                %a = Add(%m, %e)
                %t = Tanh(%a)
                %u = Mul(%t, %e)
              }}
              %z = loop(%n, %all) states=1 do graph @power(%i: i64[], %r: f32[{s},{b},8]) -> (%t) {{
                @half = const [0.5] : f32[1]
                %q = Mul(%r, @half)
                %t = Relu(%q)
              }}
              %p = loop(@k, %h) states=1 do graph @count(%i: i64[], %r: f32[{b},8]) -> (%t) {{
                @one = const [1] : f32[1]
                %t = Add(%r, @one)
              }}
            }}"
        );
        parse(&text).unwrap()
    });
    let problems = compile(&parameters(&[("s", 1, 19)]), &|at| {
        let s = at[0];
        let text = format!(
            "graph @g(%x: f32[{s},8], %h: f32[8]) -> (%last) {{
              %last = loop(_, %h, %x) states=1 scanned=1 backward=[1] : f32[8] do graph @step(%i: i64[], %h: f32[8], %e: f32[8]) -> (%t) {{
                %t = Add(%h, %e)
              }}
            }}"
        );
        parse(&text).unwrap()
    })
    .unwrap_err();
    assert!(problems[0].to_string().contains("goes backward over an axis"), "{}", problems[0]);
}

#[test]
fn what_differs_inside_a_branch_is_refused_by_name() {
    let problems = compile(&parameters(&[("n", 1, 20)]), &|at| {
        let s = at[0];
        let least = s.min(2);
        let text = format!(
            "graph @g(%f: bool[], %x: f32[{s},8]) -> (%y) {{
              %y = if(%f, %x) then graph @yes(%x: f32[{s},8]) -> (%y) {{
                @from = const [0] : i64[1]
                @to = const [{least}] : i64[1]
                %c = Slice(%x, @from, @to)
                %m = ReduceMax(%c) keepdims=1
                %y = Add(%x, %m)
              }} else graph @no(%x: f32[{s},8]) -> (%y) {{
                %y = Relu(%x)
              }}
            }}"
        );
        parse(&text).unwrap()
    })
    .unwrap_err();
    assert!(problems[0].to_string().contains("with n=1"), "{}", problems[0]);
}
