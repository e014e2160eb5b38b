//! Programs for a range of sizes with extents that data decides: the greatest ones vary, and counts are those of a run.

use super::joined::check;
use super::sized::parameters;

#[test]
fn elements_that_data_chooses() {
    let parameters = parameters(&[("b", 1, 4), ("n", 1, 37)]);
    let text = "graph @g(%x: f32[<b>,<n>], %z: f32[<n>,3]) => (%places, %count, %dense, %rows, %n_rows, %pairs, %n_pairs) {
        @zero = const [0] : f32[]
        @one = const [1] : i64[1]
        @two = const [2] : i64[1]
        @three = const [3] : i64[1]
        @both = const [<n>, 3] : i64[2]
        %c = Greater(%x, @zero)
        %places, %count = ai.tinsmith.PaddedNonZero(%c)
        %shape = Concat(@two, %count) axis=0
        %dense = ai.tinsmith.Compact(%places, %shape)
        %most = ReduceMax(%z, @one) keepdims=0
        %flags = Greater(%most, @zero)
        %rows, %n_rows = ai.tinsmith.PaddedCompress(%z, %flags) axis=0
        %counted = Concat(%n_rows, @three) axis=0
        %pairs, %n_pairs = ai.tinsmith.PaddedConcat(%rows, %z, %counted, @both) axis=0 n=2
    }";
    check(&parameters, &[&[1, 1], &[4, 1], &[1, 2], &[3, 3], &[2, 16], &[3, 33], &[4, 37]], text);
}

#[test]
fn different_elements() {
    let parameters = parameters(&[("n", 1, 33)]);
    let text = "graph @g(%x: f32[<n>,4]) => (%first, %i, %counts, %count) {
        %a = ArgMax(%x) axis=1 keepdims=0
        %y, %first, %i, %counts, %count = ai.tinsmith.PaddedUnique(%a)
    }";
    check(&parameters, &[&[1], &[2], &[3], &[8], &[17], &[33]], text);
}

/// An end beyond the least extent is not the count of every size.
#[test]
fn slices_count_by_the_extent_of_a_run() {
    let parameters = parameters(&[("n", 1, 29)]);
    let text = "graph @g(%x: f32[<n>,2]) => (%y, %count, %z, %last) {
        @from = const [0] : i64[1]
        @to = const [5] : i64[1]
        @back = const [-4] : i64[1]
        @end = const [100] : i64[1]
        @axis = const [0] : i64[1]
        %y, %count = ai.tinsmith.PaddedSlice(%x, @from, @to, @axis)
        %z, %last = ai.tinsmith.PaddedSlice(%x, @back, @end, @axis)
    }";
    check(&parameters, &[&[1], &[2], &[4], &[5], &[6], &[29]], text);
}

/// Updates that are not meant may have places that there are at some sizes only.
#[test]
fn updates_that_are_not_meant_have_any_place() {
    let parameters = parameters(&[("n", 1, 29)]);
    let text = "graph @g(%x: f32[<n>], %u: f32[3]) => (%y, %z) {
        @i = const [0, 7, 28] : i64[3]
        @meant = const [1] : i64[1]
        %y = ai.tinsmith.PaddedScatterElements(%x, @i, %u, @meant)
        %z = ai.tinsmith.PaddedScatterElements(%x, @i, %u, @meant) reduction=\"add\"
    }";
    check(&parameters, &[&[1], &[2], &[8], &[29]], text);
}

#[test]
fn first_elements_as_many_as_data_says() {
    let parameters = parameters(&[("b", 1, 4), ("n", 2, 21)]);
    let text = "graph @g(%x: f32[<b>,<n>], %k: i64[1]) => (%v, %i, %count) {
        %v, %i, %count = ai.tinsmith.PaddedTopK(%x, %k) axis=1
    }";
    check(&parameters, &[&[1, 2], &[4, 2], &[2, 3], &[3, 16], &[4, 21]], text);
}

#[test]
fn boxes_that_are_chosen_of_any_number() {
    let text = "graph @g(%boxes: f32[<b>,<n>,4], %scores: f32[<b>,3,<n>]) => (%rows, %count, %few, %n_few) {
        @most = const [4] : i64[1]
        @all = const [<n>] : i64[1]
        @overlap = const [0.4] : f32[1]
        @least = const [-0.3] : f32[1]
        %rows, %count = ai.tinsmith.PaddedNonMaxSuppression(%boxes, %scores, @all, @overlap, @least)
        %few, %n_few = ai.tinsmith.PaddedNonMaxSuppression(%boxes, %scores, @most, @overlap) center_point_box=1
    }";
    let at: &[&[i64]] = &[&[1, 4], &[3, 4], &[1, 5], &[2, 7], &[3, 16], &[2, 29]];
    check(&parameters(&[("b", 1, 3), ("n", 4, 29)]), at, text);
}

#[test]
fn boxes_that_are_meant_of_any_number() {
    let text = "graph @g(%boxes: f32[<n>,4], %scores: f32[<n>]) => (%rows, %count) {
        @zero = const [0] : f32[]
        @one = const [1] : i64[1]
        @four = const [4] : i64[1]
        @first = const [1, 1, <n>] : i64[3]
        @front = const [1, <n>, 4] : i64[3]
        @many = const [<n>] : i64[1]
        @overlap = const [0.4] : f32[1]
        %good = Greater(%scores, @zero)
        %some, %n_some = ai.tinsmith.PaddedCompress(%boxes, %good) axis=0
        %best, %n_best = ai.tinsmith.PaddedCompress(%scores, %good) axis=0
        %b = Reshape(%some, @front)
        %s = Reshape(%best, @first)
        %extents = Concat(@one, %n_some, @four) axis=0
        %rows, %count = ai.tinsmith.PaddedNonMaxSuppression(%b, %s, @many, @overlap, _, %extents)
    }";
    check(&parameters(&[("n", 1, 29)]), &[&[1], &[2], &[3], &[8], &[17], &[29]], text);
}

#[test]
fn numbers_as_many_as_data_says() {
    let text = "graph @g(%x: f32[<n>], %z: f32[<b>,<n>]) => (%r, %count, %down, %n_down, %rows) {
        @n = const [<n>] : i64[]
        @less = const [-1] : i64[]
        @one = const [1] : i64[]
        @zero = const [0] : i64[]
        %a = ArgMax(%x) axis=0 keepdims=0
        %r, %count = ai.tinsmith.PaddedRange(%a, @n, @one) extent=<n>
        %down, %n_down = ai.tinsmith.PaddedRange(%a, @less, @less) extent=<n>
        %inside = Min(%r, %a)
        %rows = Gather(%z, %inside) axis=1
    }";
    check(&parameters(&[("b", 1, 3), ("n", 1, 29)]), &[&[1, 1], &[2, 2], &[3, 3], &[1, 16], &[3, 29]], text);
}

#[test]
fn rows_that_data_cuts_and_puts_back() {
    let text = "graph @g(%x: f32[<b>,<n>,2], %u: f32[<n>,2]) => (%y, %count, %z, %w, %i, %n_w) {
        @zero = const [0] : f32[]
        @axes = const [0] : i64[1]
        @one = const [1] : i64[1]
        @many = const [<n>] : i64[1]
        @last = const [2] : i64[1]
        @along = const [1] : i64[1]
        %most = ArgMax(%u) axis=0 keepdims=0
        %start = ReduceMin(%most) keepdims=1
        %y, %count = ai.tinsmith.PaddedSlice(%x, %start, @many, @along)
        %flags = ReduceMax(%u, @one) keepdims=0
        %good = Greater(%flags, @zero)
        %places, %n_places = ai.tinsmith.PaddedNonZero(%good)
        %columns = Transpose(%places) perm=[1,0]
        %extents = Concat(%n_places, @one) axis=0
        %z = ai.tinsmith.PaddedScatterND(%u, %columns, %u, %extents)
        %rounded = Round(%u)
        %w, %i, %inverse, %counts, %n_w = ai.tinsmith.PaddedUnique(%rounded) axis=0
    }";
    check(&parameters(&[("b", 1, 3), ("n", 1, 29)]), &[&[1, 1], &[2, 2], &[3, 3], &[1, 16], &[3, 29]], text);
}
