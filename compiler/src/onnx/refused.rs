//! Operators that no library can have, and why. What reads a file says it of a node; `tinsmith ops` lists them.

/// Names with their domain, and the reason that they share.
pub const REFUSED: &[(&[&str], &str)] = &[
    (
        &["Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"],
        "it draws random numbers, and a library gives the same results for the same inputs; make what it draws an input",
    ),
    (&["ImageDecoder"], "it decodes image files; make the pixels an input"),
    (&["RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "ai.onnx.ml.CategoryMapper"], "it works on strings"),
    (&["ai.onnx.ml.CastMap", "ai.onnx.ml.DictVectorizer"], "it works on maps; make the tensor that it gives an input"),
    (&["ai.onnx.preview.training.Gradient"], "it differentiates a graph; export the gradients as operators"),
];

/// Operators on images that lie in blocks as wide as the vectors of the machine that wrote the file.
const BLOCKED: &str = "com.microsoft.nchwc.";

/// Why an operator cannot be compiled, if it is one of these.
pub(super) fn reason(operator: &str) -> Option<&'static str> {
    if operator.starts_with(BLOCKED) {
        return Some("onnxruntime wrote it for one machine; give the model itself, or save it at the level `ORT_ENABLE_EXTENDED`");
    }
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
        assert!(reason("com.microsoft.nchwc.Conv").is_some_and(|why| why.contains("ORT_ENABLE_EXTENDED")));
    }
}
