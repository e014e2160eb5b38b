//! Operators that no library can have, and why. What reads a file says it of a node; `tinsmith ops` lists them.

/// Names with their domain, and the reason that they share.
pub const REFUSED: &[(&[&str], &str)] = &[
    (
        &["Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"],
        "it draws random numbers, and a library gives the same results for the same inputs; make what it draws an input",
    ),
    (&["ImageDecoder"], "it decodes image files; make the pixels an input"),
    (&["RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "ai.onnx.ml.CategoryMapper"], "it works on strings"),
    (
        &["ai.onnx.ml.CastMap", "ai.onnx.ml.DictVectorizer", "ai.onnx.ml.ZipMap"],
        "it works on maps; exporters have an option to leave tensors, such as `zipmap=False`",
    ),
    (&["ai.onnx.preview.training.Gradient"], "it differentiates a graph; export the gradients as operators"),
];

/// Why an operator cannot be compiled, if it is one of these.
pub(super) fn reason(operator: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(names, _)| names.contains(&operator)).map(|(_, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_no_operator() {
        let names: Vec<&str> = REFUSED.iter().flat_map(|(names, _)| *names).copied().collect();
        assert!(names.iter().all(|n| crate::ops::find(n).is_none()), "{names:?}");
        assert_eq!(reason("Relu"), None);
    }
}
