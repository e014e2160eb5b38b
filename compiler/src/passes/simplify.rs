//! Algebra: named rules that make the graph smaller or cheaper, applied until none applies.
//!
//! Requires: types, shapes folded. Ensures: no rule of the list applies, nothing is dead. Keeps: types of all values that stay; values bit
//! for bit, except for the sign of zeros, for what `Pow` says of a negative infinity to the power 1/2, and for the rules of
//! [`affine`], which round weights differently (the bound is stated there).
//!
//! Each rule goes one way, toward fewer or cheaper nodes, so the pass ends; the number of rounds is capped all the same.

pub mod affine;
mod arithmetic;
mod padding;
mod views;

use super::Report;
use super::edit::{Outcome, kind};
use super::eliminate::dead_code;
use crate::graph::{Graph, NodeId, Value};

const PASS: &str = "simplify";
const MAX_ROUNDS: usize = 64;

/// One named rewrite.
struct Rule {
    name: &'static str,
    /// The operators it looks at; empty for those that ask an operator's view or axes instead of its name.
    on: &'static [&'static str],
    apply: fn(&mut Graph, NodeId) -> Outcome,
}

/// The rules, cheapest first.
#[rustfmt::skip]
const RULES: &[Rule] = &[
    Rule { name: "no-op-view",            on: &[],                                  apply: views::no_op_view },
    Rule { name: "dropout-inference",     on: &["Dropout"],                         apply: views::dropout_inference },
    Rule { name: "no-op-copy",            on: &["Identity", "Concat", "Sum", "Max", "Min", "Mean"], apply: views::no_op_copy },
    Rule { name: "cast-same",             on: &["Cast"],                            apply: views::cast_same },
    Rule { name: "cast-back",             on: &["Cast"],                            apply: views::cast_back },
    Rule { name: "merge-reshapes",        on: &[],                                  apply: views::merge_reshapes },
    Rule { name: "merge-transposes",      on: &["Transpose"],                       apply: views::merge_transposes },
    Rule { name: "transpose-of-ones",     on: &["Transpose"],                       apply: views::transpose_of_ones },
    Rule { name: "concat-of-concat",      on: &["Concat"],                          apply: views::concat_of_concat },
    Rule { name: "expand-element-wise",   on: &[],                                  apply: views::expand_element_wise },
    Rule { name: "add-zero",              on: &["Add", "Sub"],                      apply: arithmetic::add_zero },
    Rule { name: "mul-one",               on: &["Mul", "Div", "Pow"],               apply: arithmetic::mul_one },
    Rule { name: "div-power-of-two",      on: &["Div"],                             apply: arithmetic::div_power_of_two },
    Rule { name: "pow-two",               on: &["Pow"],                             apply: arithmetic::pow_two },
    Rule { name: "pow-half",              on: &["Pow"],                             apply: arithmetic::pow_half },
    Rule { name: "double-negation",       on: &["Neg", "Not"],                      apply: arithmetic::double_negation },
    Rule { name: "idempotent",            on: &["Relu", "Abs", "Floor", "Ceil", "Round", "Sign"], apply: arithmetic::idempotent },
    Rule { name: "merge-clips",           on: &["Clip", "Relu"],                    apply: arithmetic::merge_clips },
    Rule { name: "where-constant",        on: &["Where"],                           apply: arithmetic::where_constant },
    Rule { name: "pad-conv",              on: &["Conv"],                            apply: padding::pad_conv },
    Rule { name: "pad-max-pool",          on: &["MaxPool"],                         apply: padding::pad_max_pool },
    Rule { name: "pad-average-pool",      on: &["AveragePool"],                     apply: padding::pad_average_pool },
    Rule { name: "batch-norm",            on: &["BatchNormalization"],              apply: affine::batch_norm },
    Rule { name: "affine-after",          on: &["Add", "Sub", "Mul", "Div", "Neg"], apply: affine::affine_after },
    Rule { name: "affine-before",         on: &["Conv", "Gemm", "MatMul"],          apply: affine::affine_before },
    Rule { name: "scale-after-product",   on: &["MatMul"],                          apply: affine::scale_after_product },
    Rule { name: "merge-constants",       on: &["Add", "Sub", "Mul", "Div"],        apply: arithmetic::merge_constants },
    Rule { name: "lone-batch-norm",       on: &["BatchNormalization"],              apply: affine::lone_batch_norm },
];

/// Applies the rules until none applies.
pub fn simplify(g: &mut Graph, report: &mut Report) {
    for _ in 0..MAX_ROUNDS {
        let mut changed = false;
        for node in g.operator_nodes() {
            changed |= apply_rules(g, node, report);
        }
        dead_code(g, report);
        if !changed {
            break;
        }
    }
}

fn apply_rules(g: &mut Graph, node: NodeId, report: &mut Report) -> bool {
    let mut changed = false;
    for rule in RULES {
        if !g.contains(node) {
            break;
        }
        if !rule.on.is_empty() && !rule.on.contains(&kind(g, node)) {
            continue;
        }
        let name = g.name_of(Value { node, result: 0 }).to_owned();
        match (rule.apply)(g, node) {
            Outcome::No => {}
            Outcome::Declined(why) => report.declined(rule.name, &name, why),
            Outcome::Done => {
                report.applied(PASS, rule.name, &name);
                changed = true;
            }
        }
    }
    changed
}

#[cfg(test)]
mod tests;
