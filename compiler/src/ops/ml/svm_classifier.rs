//! `SVMClassifier`: votes of pairs of classes by sums of kernels at support vectors.
//! Spec: <https://onnx.ai/onnx/operators/onnx_aionnxml_SVMClassifier.html>

use super::pairwise_coupling::PairwiseCoupling;
use super::svm::Kernel;
use super::transform::{best_label, integer_labels, post_transform, rows, table};
use crate::ops::elementwise::{Greater, Neg, Sigmoid};
use crate::ops::{InferError, Step, Steps};
use crate::tensor::DType;
use crate::{composite, operator};

operator! {
    /// For each pair of classes `i < j` a score, the sum over their support vectors of coefficient times kernel, plus `rho`; `y[b]` is the
    /// label with the most pairs won. `z[b]` has the scores, or with `prob_a` and `prob_b` the probability of each class.
    SVMClassifier(x) -> (y, z) since [1] in "ai.onnx.ml";
    /// Labels.
    classlabels_ints: Vec<i64> = Vec::<i64>::new(),
    /// Labels; not supported.
    classlabels_strings: Vec<String> = Vec::<String>::new(),
    /// Weights of the support vectors: for each class but one, all vectors.
    coefficients: Vec<f32> = Vec::<f32>::new(),
    /// Gamma, constant and degree of the kernel.
    kernel_params: Vec<f32> = Vec::<f32>::new(),
    /// `LINEAR`, `POLY`, `RBF` or `SIGMOID`.
    kernel_type: String = "LINEAR",
    /// `NONE`, `SOFTMAX`, `LOGISTIC` or `SOFTMAX_ZERO`.
    post_transform: String = "NONE",
    /// Factor of each score in the exponent of its probability.
    prob_a: Vec<f32> = Vec::<f32>::new(),
    /// Addend in that exponent.
    prob_b: Vec<f32> = Vec::<f32>::new(),
    /// Addend of each score.
    rho: Vec<f32> = Vec::<f32>::new(),
    /// The support vectors, those of the first class first.
    support_vectors: Vec<f32> = Vec::<f32>::new(),
    /// How many vectors each class has; without, coefficients are those of a linear model, a row for each class.
    vectors_per_class: Vec<i64> = Vec::<i64>::new(),
}

composite!(SVMClassifier);

impl SVMClassifier {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let labels = integer_labels(&self.classlabels_ints, &self.classlabels_strings)?;
        let n = labels.len();
        if self.vectors_per_class.is_empty() {
            return self.linear(s, labels);
        }
        if n < 2 || self.vectors_per_class.len() != n || self.vectors_per_class.iter().any(|&v| v < 0) {
            return Err(InferError::Invalid(format!("`vectors_per_class` {:?} for {n} labels", self.vectors_per_class)));
        }
        let counts: Vec<usize> = self.vectors_per_class.iter().map(|&v| v as usize).collect();
        let total: usize = counts.iter().sum();
        let pairs: Vec<(usize, usize)> = (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j))).collect();
        if self.coefficients.len() != (n - 1) * total || self.rho.len() != pairs.len() {
            let message =
                format!("{} coefficients and {} of `rho` for {total} vectors of {n} classes", self.coefficients.len(), self.rho.len());
            return Err(InferError::Invalid(message));
        }
        let x = rows(s)?;
        let width = s.dims(x)?[1];
        let vectors = table(s, &self.support_vectors, &[total, width], "support_vectors")?;
        let kernel = Kernel { name: &self.kernel_type, parameters: &self.kernel_params }.of(s, x, vectors)?;
        // One column for each pair: the vectors of either class weighted for the other.
        let starts: Vec<usize> = counts.iter().scan(0, |at, n| Some(std::mem::replace(at, *at + n))).collect();
        let mut weights = vec![0f32; total * pairs.len()];
        for (p, &(i, j)) in pairs.iter().enumerate() {
            for (class, row) in [(i, j - 1), (j, i)] {
                for v in starts[class]..starts[class] + counts[class] {
                    weights[v * pairs.len() + p] = self.coefficients[row * total + v];
                }
            }
        }
        let weights = table(s, &weights, &[total, pairs.len()], "coefficients")?;
        let sums = s.matmul(kernel, weights)?;
        let rho = table(s, &self.rho, &[pairs.len()], "rho")?;
        let scores = s.add(sums, rho)?;

        // Votes: the first class of a pair wins above 0.
        let [zero, one] = [0.0, 1.0].map(|v| s.number(DType::F32, v));
        let won = s.apply(Greater {}, &[scores, zero])?;
        let won = s.cast(won, DType::F32)?;
        let (mut gains, mut base) = (vec![0f32; pairs.len() * n], vec![0f32; n]);
        for (p, &(i, j)) in pairs.iter().enumerate() {
            (gains[p * n + i], gains[p * n + j]) = (1.0, -1.0);
            base[j] += 1.0;
        }
        let (gains, base) = (table(s, &gains, &[pairs.len(), n], "votes")?, table(s, &base, &[n], "votes")?);
        let votes = s.matmul(won, gains)?;
        let votes = s.add(votes, base)?;
        let label = best_label(s, votes, labels)?;

        if !self.prob_a.is_empty() || !self.prob_b.is_empty() {
            let [a, b] = [(&self.prob_a, "prob_a"), (&self.prob_b, "prob_b")].map(|(v, what)| table(s, v, &[pairs.len()], what));
            let exponent = s.mul(scores, a?)?;
            let exponent = s.add(exponent, b?)?;
            let exponent = s.apply(Neg {}, &[exponent])?;
            let won = s.apply(Sigmoid {}, &[exponent])?;
            let probabilities = s.apply(PairwiseCoupling {}, &[won])?;
            return Ok(vec![label, post_transform(s, probabilities, &self.post_transform)?]);
        }
        if n > 2 {
            return Ok(vec![label, post_transform(s, scores, &self.post_transform)?]);
        }
        let against = s.apply(Neg {}, &[scores])?;
        let both = match &self.post_transform[..] {
            "NONE" => [against, scores],
            "LOGISTIC" => [s.apply(Sigmoid {}, &[against])?, s.apply(Sigmoid {}, &[scores])?],
            "SOFTMAX" | "SOFTMAX_ZERO" => [s.add(against, one)?, scores],
            other => return Err(InferError::Unsupported(format!("`post_transform` \"{other}\" of one score is not supported"))),
        };
        Ok(vec![label, s.concat(&both, 1)?])
    }

    /// Without support vectors.
    fn linear(&self, s: &mut Steps<'_>, labels: &[i64]) -> Result<Vec<Step>, InferError> {
        let n = labels.len();
        if n < 3 || self.kernel_type != "LINEAR" || !self.prob_a.is_empty() || self.rho.is_empty() {
            let message = format!("{n} classes with kernel \"{}\" and without support vectors are not supported", self.kernel_type);
            return Err(InferError::Unsupported(message));
        }
        let x = rows(s)?;
        let width = s.dims(x)?[1];
        let weights = table(s, &self.coefficients, &[n, width], "coefficients")?;
        let weights = s.transpose(weights, &[1, 0])?;
        let scores = s.matmul(x, weights)?;
        let rho = s.number(DType::F32, self.rho[0].into());
        let scores = s.add(scores, rho)?;
        Ok(vec![best_label(s, scores, labels)?, post_transform(s, scores, &self.post_transform)?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, assert_close, check_error, random, t};

    #[test]
    fn two_classes() {
        let op = "ai.onnx.ml.SVMClassifier classlabels_ints=[5,7] vectors_per_class=[1,1] support_vectors=[0.0,1.0,1.0,0.0] coefficients=[1.0,-1.0] rho=[0.25]";
        let y = Check::new(op).results(2).run([t("f32[2,2] 0 1 2 1")]);
        assert_eq!(y, [t("i64[2] 5 7"), t("f32[2,2] -1.25 1.25 0.75 -0.75")]);
        let y = Check::new(&format!("{op} post_transform=\"LOGISTIC\"")).results(2).run([t("f32[1,2] 0 1")]);
        assert_close(&y[1], &t("f32[1,2] 0.22270013 0.77729988"));
        Check::new(&format!("{op} prob_a=[-1.5] prob_b=[0.1]")).results(2).run([random("f32[5,2]", 1)]);
    }

    #[test]
    fn several_classes() {
        let base = "ai.onnx.ml.SVMClassifier classlabels_ints=[5,7,1] vectors_per_class=[1,2,1]";
        let vectors =
            "support_vectors=[0.0,1.0,1.0,0.0,-1.0,-0.5,0.3,0.2] coefficients=[1.0,-1.0,0.5,0.7,-0.3,0.9,0.8,-0.6] rho=[0.25,-0.1,0.4]";
        for kernel in ["LINEAR", "RBF", "SIGMOID"] {
            let op = format!("{base} {vectors} kernel_type=\"{kernel}\" kernel_params=[0.5,0.2,2.0]");
            Check::new(&op).results(2).run([random("f32[5,2]", 1)]);
            Check::new(&format!("{op} prob_a=[-1.5,-1.0,-0.5] prob_b=[0.1,0.0,0.2]")).results(2).run([random("f32[5,2]", 1)]);
        }
        let linear = "ai.onnx.ml.SVMClassifier classlabels_ints=[5,7,1] coefficients=[1.0,-1.0,0.5,0.7,-0.3,0.9] rho=[0.25]";
        let y = Check::new(linear).results(2).run([t("f32[1,2] 1 0")]);
        assert_eq!(y[0], t("i64[1] 5"));
        let error = check_error("ai.onnx.ml.SVMClassifier classlabels_ints=[5,7] coefficients=[1.0,1.0] rho=[0.5]", [t("f32[1,1]")]);
        assert_eq!(error, "2 classes with kernel \"LINEAR\" and without support vectors are not supported");
    }
}
