//! Programs for ranges that begin at nothing: axes without elements, and what is reduced over them.

use super::joined::{build, check};
use super::sized::{compile, parameters};
use crate::graph::{Place, Value};

#[test]
fn rows_of_products_may_be_none() {
    let text = "graph @g(%x: f32[<n>,6]) => (%y, %z, %s) {
        @w = const rand(1) : f32[6,20]
        @v = const rand(2) : f32[20,6]
        %a = MatMul(%x, @w)
        %r = Relu(%a)
        %b = MatMul(%r, @v)
        %y = Add(%b, %x)
        %z = Softmax(%b) axis=1
        %s = Transpose(%z) perm=[1,0]
    }";
    check(&parameters(&[("n", 0, 40)]), &[&[0], &[1], &[2], &[17], &[40]], text);
}

#[test]
fn reductions_over_nothing_give_what_changes_nothing() {
    let text = "graph @g(%x: f32[<b>,<n>,6]) => (%s, %p, %l, %high, %low, %mean, %of_mean) {
        @axes = const [1] : i64[1]
        %s = ReduceSum(%x, @axes)
        %p = ReduceProd(%x, @axes)
        %l = ReduceL2(%x, @axes)
        %high = ReduceMax(%x, @axes)
        %low = ReduceMin(%x, @axes)
        %mean = ReduceMean(%x, @axes)
        %a = Abs(%x)
        %mean_a = ReduceMean(%a, @axes)
        %of_mean = Sinh(%mean_a)
    }";
    check(&parameters(&[("b", 0, 4), ("n", 0, 40)]), &[&[0, 0], &[0, 4], &[2, 0], &[1, 1], &[4, 40]], text);
}

#[test]
fn sums_of_products_may_be_of_none() {
    let text = "graph @g(%x: f32[<b>,<n>,6], %y: f32[<b>,<m>,6]) => (%k, %o, %r) {
        @flat = const [<b*n>, 6] : i64[2]
        %t = Transpose(%y) perm=[0,2,1]
        %k = MatMul(%x, %t)
        %o = MatMul(%k, %y)
        %r = Reshape(%x, @flat) allowzero=1
    }";
    let at: &[&[i64]] = &[&[0, 4, 4], &[2, 0, 3], &[2, 3, 0], &[3, 0, 0], &[0, 0, 0], &[1, 1, 1], &[4, 20, 9]];
    check(&parameters(&[("b", 0, 4), ("n", 0, 20), ("m", 0, 9)]), at, text);
}

/// The division by a sum leaves the sum of products, which is zero for no keys.
#[test]
fn no_keys_give_zeros() {
    let text = "graph @g(%q: f32[2,5,6], %k: f32[2,<n>,6], %v: f32[2,<n>,9]) => (%y) {
        %t = Transpose(%k) perm=[0,2,1]
        %s = MatMul(%q, %t)
        %p = Softmax(%s) axis=2
        %y = MatMul(%p, %v)
    }";
    check(&parameters(&[("n", 0, 20)]), &[&[0], &[1], &[20]], text);
}

#[test]
fn images_and_recurrences_may_be_none() {
    let text = "graph @g(%x: f32[<b>,3,<h>,7], %steps: f32[<t>,<b>,4], %i: i64[<b>]) => (%y, %p, %all, %e) {
        @w = const rand(1) : f32[8,3,3,3]
        @v = const rand(2) : f32[1,12,4]
        @r = const rand(3) : f32[1,12,4]
        @table = const rand(4) : f32[9,4]
        %a = Conv(%x, @w) pads=[1,1,1,1]
        %y = Relu(%a)
        %p = GlobalAveragePool(%y)
        %all, %last = GRU(%steps, @v, @r) hidden_size=4
        %e = Gather(@table, %i)
    }";
    let parameters = parameters(&[("b", 0, 4), ("h", 3, 20), ("t", 1, 9)]);
    check(&parameters, &[&[0, 4, 3], &[1, 3, 1], &[4, 20, 9], &[0, 20, 9]], text);
}

#[test]
fn parts_of_what_is_joined_may_be_none() {
    let text = "graph @g(%x: f32[<n>,6], %y: f32[<m>,6]) => (%c, %d, %s, %p) {
        @w = const rand(1) : f32[6,20]
        @axes = const [0] : i64[1]
        %r = Relu(%x)
        %c = Concat(%y, %r) axis=0
        %t = Transpose(%x) perm=[1,0]
        %u = Transpose(%y) perm=[1,0]
        %d = Concat(%t, %u, %t) axis=1
        %s = ReduceMean(%c, @axes)
        %p = MatMul(%c, @w)
    }";
    let at: &[&[i64]] = &[&[0, 0], &[0, 1], &[1, 0], &[0, 9], &[20, 0], &[2, 3], &[20, 9]];
    check(&parameters(&[("n", 0, 20), ("m", 0, 9)]), at, text);
    check(&parameters(&[("n", 1, 20), ("m", 0, 9)]), &at[2..3], text);
}

#[test]
fn the_first_tokens_of_a_text_have_no_past() {
    let text = "graph @g(%q: f32[<b>,2,<s>,8], %k: f32[<b>,2,<s>,8], %v: f32[<b>,2,<s>,8], %keys: f32[<b>,2,<past>,8],
        %values: f32[<b>,2,<past>,8], %mask: f32[<b>,1,<s>,<past+s>]) => (%y, %k1, %v1) {
        %k1 = Concat(%keys, %k) axis=2
        %v1 = Concat(%values, %v) axis=2
        %t = Transpose(%k1) perm=[0,1,3,2]
        %m = MatMul(%q, %t)
        %a = Add(%m, %mask)
        %p = Softmax(%a) axis=3
        %y = MatMul(%p, %v1)
    }";
    let at: &[&[i64]] = &[&[1, 0, 1], &[2, 0, 3], &[1, 1, 1], &[2, 7, 2], &[1, 40, 1], &[2, 40, 3]];
    check(&parameters(&[("b", 1, 2), ("past", 0, 40), ("s", 1, 3)]), at, text);
    let one: Vec<[i64; 2]> = at.iter().filter(|at| at[2] == 1).map(|at| [at[0], at[1]]).collect();
    let one: Vec<&[i64]> = one.iter().map(|at| &at[..]).collect();
    check(&parameters(&[("b", 1, 2), ("past", 0, 40)]), &one, &text.replace("<s>", "1").replace("<past+s>", "<past+1>"));
}

/// A caller has nothing where a run has nothing; a place of an axis without elements is in storage only.
#[test]
fn heads_that_share_keys_begin_with_no_cache() {
    let text = "graph @g(%mask: i64[2,<p+s>], %q: f32[2,<s>,16], %k: f32[2,<s>,8], %v: f32[2,<s>,8], %pk: f32[2,2,<p>,4],
        %pv: f32[2,2,<p>,4]) => (%y, %nk, %nv) {
        @one = const [1] : i64[1]
        @total = const [<p+s>] : i32[1]
        %lengths = ReduceSum(%mask, @one) keepdims=0
        %less = Sub(%lengths, @one)
        %lasts = Cast(%less) to=6
        %y, %nk, %nv = com.microsoft.GroupQueryAttention(%q, %k, %v, %pk, %pv, %lasts, @total) num_heads=4 kv_num_heads=2
    }";
    check(&parameters(&[("s", 1, 3), ("p", 0, 9)]), &[&[1, 0], &[3, 0], &[1, 1], &[2, 7], &[3, 9]], text);
}

#[test]
fn what_is_read_by_the_sizes_is_read_in_storage() {
    let text = "graph @g(%x: f32[<n>,6], %y: f32[<n>,6]) => (%c, %r) {
        @one = const rand(1) : f32[1,6]
        %c = Concat(%x, @one) axis=0
        %r = Relu(%y)
    }";
    let places = |low: i64| {
        let parameters = parameters(&[("n", low, 20)]);
        let compiled = compile(&parameters, &|at| build(&parameters, at, text)).unwrap().swap_remove(0);
        let place = |&v: &Value| compiled.graph.info(v).place.clone();
        compiled.graph.inputs().iter().map(place).collect::<Vec<_>>()
    };
    assert!(matches!(places(0)[..], [Some(Place::Arena(_)), Some(Place::Input(1))]), "{:?}", places(0));
    assert_eq!(places(1), [Some(Place::Input(0)), Some(Place::Input(1))]);
    check(&parameters(&[("n", 0, 20)]), &[&[0], &[1], &[20]], text);
}

#[test]
fn running_sums_may_have_no_first_element() {
    let text = "graph @g(%x: f32[3,<n>,5], %y: f32[<n>,8]) => (%a, %b, %c, %d) {
        @one = const [1] : i64[1]
        @zero = const [0] : i64[1]
        %a = CumSum(%x, @one)
        %b = CumSum(%x, @one) exclusive=1 reverse=1
        %r = Relu(%y)
        %c = CumSum(%r, @zero) exclusive=1
        %d = CumProd(%y, @zero) reverse=1
    }";
    check(&parameters(&[("n", 0, 40)]), &[&[0], &[1], &[2], &[3], &[17], &[40]], text);
}

#[test]
fn boxes_may_be_fewer_than_are_asked_for() {
    let text = "graph @g(%boxes: f32[2,<n>,4], %scores: f32[2,3,<n>]) => (%y, %count) {
        @most = const [10] : i64[1]
        @overlap = const [0.3] : f32[1]
        @least = const [-0.5] : f32[1]
        %y, %count = ai.tinsmith.PaddedNonMaxSuppression(%boxes, %scores, @most, @overlap, @least) up_to_limit=1
    }";
    check(&parameters(&[("n", 0, 30)]), &[&[0], &[1], &[2], &[9], &[10], &[11], &[30]], text);
}
