"""The cases of verify_contrib.py: operators of other domains with random operands, one function for each family."""
import dataclasses

import numpy as np

MS, ML = "com.microsoft", "ai.onnx.ml"


@dataclasses.dataclass
class Case:
    op: str
    operands: list
    attributes: dict = dataclasses.field(default_factory=dict)
    domain: str = MS
    # Which results are asked for.
    results: tuple = (True,)
    # Operands that are constants in one of the two forms, and in both.
    weights: tuple = (1, 2, 3, 4, 5, 6, 7, 8)
    fixed: tuple = ()
    rtol: float = 1e-4
    atol: float = 1e-5
    ml_opset: int = 3

    def __str__(self):
        shapes = [f"{x.dtype}{list(x.shape)}" if x is not None else "_" for x in self.operands]
        attributes = {k: v for k, v in self.attributes.items() if not isinstance(v, list) or len(v) < 6}
        return f"{self.op}({', '.join(shapes)}) {attributes} -> {len(self.results)}"


def random(seed):
    r = np.random.default_rng(seed)

    def f32(*dims):
        return r.standard_normal(dims).astype(np.float32)

    return r, f32


def fused():
    _, f32 = random(1)
    for dims in [(2, 3, 8), (4, 8)]:
        yield Case("BiasGelu", [f32(*dims), f32(8)])
        yield Case("FastGelu", [f32(*dims), f32(8)])
        yield Case("FastGelu", [f32(*dims)])
        yield Case("Gelu", [f32(*dims)])
        yield Case("QuickGelu", [f32(*dims)])
        yield Case("QuickGelu", [f32(*dims)], {"alpha": 0.7})
    for a, b, attributes in [
        ((3, 4), (4, 5), {"alpha": 0.5}),
        ((4, 3), (4, 5), {"transA": 1}),
        ((2, 3, 4), (2, 5, 4), {"transB": 1, "alpha": 0.25}),
        ((2, 3, 4), (4, 5), {}),
        ((3, 2, 4), (2, 4, 5), {"transBatchA": 1}),
        ((2, 3, 4), (4, 2, 5), {"transBatchB": 1}),
        ((4, 2, 3), (2, 4, 5), {"transA": 1, "transBatchA": 1}),
        ((2, 3, 4), (5, 2, 4), {"transB": 1, "transBatchB": 1}),
        ((7, 2, 3, 4), (2, 3, 4, 5), {"transBatchA": 1}),
        ((4,), (4, 5), {}),
    ]:
        yield Case("FusedMatMul", [f32(*a), f32(*b)], attributes)
    yield Case("TransposeMatMul", [f32(4, 3), f32(5, 4)], {"transA": 1, "transB": 1, "alpha": 2.0})
    for activation in ["Relu", "LeakyRelu", "Sigmoid", "Tanh"]:
        extra = {"activation_alpha": 0.3} if activation == "LeakyRelu" else {}
        yield Case("FusedGemm", [f32(3, 4), f32(4, 5), f32(5)], {"activation": activation, **extra})
        extra = {"activation_params": [0.3]} if activation == "LeakyRelu" else {}
        yield Case("FusedConv", [f32(1, 3, 6, 6), f32(4, 3, 3, 3), f32(4)], {"activation": activation, "pads": [1, 1, 1, 1], **extra})
    yield Case("FusedGemm", [f32(4, 3), f32(5, 4), f32(3, 5)], {"activation": "Relu", "transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0})
    yield Case("FusedConv", [f32(1, 3, 6, 6), f32(4, 3, 3, 3), f32(4), f32(1, 4, 4, 4)], {"activation": "Relu"})
    yield Case("FusedConv", [f32(1, 3, 6, 6), f32(4, 3, 3, 3), f32(4)], {"activation": "Clip", "activation_params": [-0.5, 1.5], "strides": [2, 2]})
    yield Case("FusedConv", [f32(1, 3, 6, 6), f32(4, 3, 3, 3), f32(4)], {"activation": "HardSigmoid", "activation_params": [0.3, 0.4]})
    for metric in ["sqeuclidean", "euclidean"]:
        yield Case("CDist", [f32(5, 4), f32(3, 4)], {"metric": metric}, rtol=1e-3, atol=1e-3)


def normalizations():
    r, f32 = random(2)
    for skip in [(2, 3, 8), (1, 3, 8), (3, 8)]:
        x = [f32(2, 3, 8), f32(*skip), f32(8)]
        yield Case("SkipLayerNormalization", [*x, f32(8), f32(8)], results=(True, False, False, True))
        yield Case("SkipLayerNormalization", [*x, f32(8)], {"epsilon": 1e-2})
        yield Case("SkipLayerNormalization", [*x, None, f32(8)])
        yield Case("SkipSimplifiedLayerNormalization", [*x, f32(8)], results=(True, False, False, True))
        yield Case("SkipSimplifiedLayerNormalization", x, {"epsilon": 1e-2})
    yield Case("SimplifiedLayerNormalization", [f32(2, 3, 8), f32(8)], {"epsilon": 1e-3}, domain="")
    yield Case("SimplifiedLayerNormalization", [f32(2, 3, 8), f32(3, 8)], {"axis": 1}, domain="", results=(True, True))
    ids = r.integers(0, 9, (2, 5)).astype(np.int32)
    segments = r.integers(0, 2, (2, 5)).astype(np.int32)
    mask = (r.random((2, 5)) < 0.6).astype(np.int32)
    words, positions, kinds = f32(9, 8), f32(7, 8), f32(2, 8)
    for x, results in [
        ([ids, segments, words, positions, kinds, f32(8), f32(8), mask], (True, True)),
        ([ids, segments, words, positions, kinds, f32(8), f32(8)], (True, True, True)),
        ([ids, None, words, positions, None, f32(8), f32(8), mask, r.integers(0, 7, (2, 5)).astype(np.int32)], (True, True, True)),
        ([ids, None, words, positions, None, f32(8), f32(8), None, r.integers(0, 7, (1, 5)).astype(np.int32)], (True, True)),
    ]:
        yield Case("EmbedLayerNormalization", x, {"epsilon": 1e-5}, results=results, weights=(2, 3, 4, 5, 6))


def attention():
    r, f32 = random(3)
    x = [f32(2, 3, 8), f32(8, 24), f32(24)]
    lengths, ranges = np.array([3, 2], np.int32), np.array([3, 2, 1, 0], np.int32)
    raw, square = np.array([[1, 1, 0], [1, 0, 0]], np.int32), (r.random((2, 3, 3)) < 0.7).astype(np.int32)
    for attributes in [{}, {"unidirectional": 1}, {"scale": 0.2, "mask_filter_value": -5.0, "unidirectional": 1}, {"mask_filter_value": -3e38}]:
        attributes = {"num_heads": 2, **attributes}
        yield Case("Attention", x, attributes, results=(True, True))
        for mask in [lengths, ranges, raw, square, np.zeros((2, 1), np.int32), np.zeros((1, 1), np.int32), np.zeros((2, 3), np.int32)]:
            yield Case("Attention", [*x, mask], attributes, weights=(1, 2))
        past = f32(2, 2, 2, 5, 4)
        yield Case("Attention", [*x, None, past], attributes, results=(True, True), weights=(1, 2))
        yield Case("Attention", [*x, (r.random((2, 8)) < 0.7).astype(np.int32), past], attributes, results=(True, True), weights=(1, 2))
        yield Case("Attention", [*x, raw, None, f32(2, 2, 3, 3)], attributes, weights=(1, 2))
        yield Case("Attention", [*x, None, None, f32(1, 1, 3, 3)], attributes, weights=(1, 2))
    yield Case("Attention", [f32(1, 3, 8), f32(8, 20), f32(20)], {"num_heads": 2, "qkv_hidden_sizes": [8, 8, 4]})
    yield Case("Attention", [f32(1, 1, 8), f32(8, 24), f32(24), None, f32(2, 1, 2, 5, 4)], {"num_heads": 2, "unidirectional": 1}, results=(True, True))
    heads = {"num_heads": 2}
    yield Case("MultiHeadAttention", [f32(2, 3, 8), f32(2, 5, 8), f32(2, 5, 8)], heads)
    yield Case("MultiHeadAttention", [f32(2, 3, 8), f32(2, 5, 8), f32(2, 5, 6), f32(22)], heads, weights=(3,))
    yield Case("MultiHeadAttention", [f32(2, 3, 8), f32(2, 2, 5, 4), f32(2, 2, 5, 4)], heads)
    yield Case("MultiHeadAttention", [f32(2, 3, 8), f32(2, 3, 8), f32(2, 3, 8), None, None, None, f32(2, 2, 4, 4), f32(2, 2, 4, 4)], heads, results=(True, True, True))
    for attributes in [heads, {**heads, "unidirectional": 1}, {**heads, "mask_filter_value": -2.0, "scale": 0.3}]:
        for mask in [lengths, np.array([[1, 1, 0], [0, 1, 1]], np.int32), square]:
            yield Case("MultiHeadAttention", [f32(2, 3, 8), f32(2, 3, 8), f32(2, 3, 8), None, mask, f32(1, 2, 3, 3)], attributes, weights=(4,))
        yield Case("MultiHeadAttention", [f32(2, 1, 8), f32(2, 1, 8), f32(2, 1, 8), f32(24), (r.random((2, 5)) < 0.7).astype(np.int32), None, f32(2, 2, 4, 4), f32(2, 2, 4, 4)],
                   attributes, results=(True, True, True), weights=(3,))


def grouped():
    r, f32 = random(8)
    cos, sin, wide = f32(12, 4), f32(12, 4), [f32(12, 8), f32(12, 8)]
    for interleaved in [0, 1]:
        yield Case("RotaryEmbedding", [f32(2, 3, 16), np.array([2], np.int64), cos, sin], {"interleaved": interleaved})
        yield Case("RotaryEmbedding", [f32(2, 3, 16), r.integers(0, 12, (2, 3)), cos, sin], {"interleaved": interleaved}, weights=(2, 3))
        yield Case("RotaryEmbedding", [f32(2, 2, 3, 8), r.integers(0, 12, (2, 3)), cos, sin], {"interleaved": interleaved}, weights=(2, 3))
        yield Case("RotaryEmbedding", [f32(2, 3, 32), r.integers(0, 12, (2, 3)), cos, sin], {"interleaved": interleaved, "num_heads": 2, "rotary_embedding_dim": 8}, weights=(2, 3))
    heads = {"num_heads": 4, "kv_num_heads": 2}
    rotary = wide
    for attributes, tail in [({}, []), ({"do_rotary": 1}, rotary), ({"do_rotary": 1, "rotary_interleaved": 1, "scale": 0.3}, rotary), ({"softcap": 2.0}, []),
                             ({"local_window_size": 2}, []), ({"local_window_size": 3, "do_rotary": 1}, rotary)]:
        attributes = {**heads, **attributes}
        common = {"results": (True, True, True), "weights": (6, 7, 8), "fixed": (6,)}
        new = [f32(2, 5, 64), f32(2, 5, 32), f32(2, 5, 32)]
        yield Case("GroupQueryAttention", [*new, None, None, np.array([4, 4], np.int32), np.array([5], np.int32), *tail], attributes, **common)
        yield Case("GroupQueryAttention", [f32(2, 5, 128), None, None, None, None, np.array([4, 4], np.int32), np.array([5], np.int32), *tail], attributes, **common)
        new, old = [f32(2, 1, 64), f32(2, 1, 32), f32(2, 1, 32)], [f32(2, 2, 6, 16), f32(2, 2, 6, 16)]
        for last in [[6, 6], [6, 3]]:
            yield Case("GroupQueryAttention", [*new, *old, np.array(last, np.int32), np.array([7], np.int32), *tail], attributes, **common)


def quantized():
    r, f32 = random(4)

    def bytes_of(dtype, *dims):
        return r.integers(0, 256, dims).astype(np.uint8).view(dtype)

    def scale(low=0.01, high=0.05, dims=()):
        return np.asarray(r.uniform(low, high, dims), np.float32)

    def of(dtype, *dims):
        return [bytes_of(dtype, *dims), scale(), bytes_of(dtype)]

    exact = {"rtol": 0, "atol": 0}
    for dtype in [np.uint8, np.int8]:
        for op in ["QLinearAdd", "QLinearMul"]:
            yield Case(op, [*of(dtype, 2, 3, 8), *of(dtype, 8), scale(), bytes_of(dtype)], weights=(1, 2, 3, 4, 5, 6, 7), **exact)
            yield Case(op, [*of(dtype, 2, 8), *of(dtype, 2, 8), scale(), bytes_of(dtype)], weights=(1, 2, 4, 5, 6, 7), **exact)
        yield Case("QLinearWhere", [r.random((3, 4)) < 0.5, *of(dtype, 3, 4), *of(dtype, 4), scale(), bytes_of(dtype)], weights=(2, 3, 5, 6, 7, 8), fixed=(2, 3, 5, 6, 7, 8), **exact)
        functions = [*of(dtype, 2, 50), scale(0.004, 0.008), bytes_of(dtype)]
        yield Case("QLinearSigmoid", functions, **exact)
        yield Case("QLinearLeakyRelu", functions, {"alpha": 0.1}, **exact)
        for opset, axis in [(13, -1), (12, 1), (13, 1)]:
            zero = np.asarray(-128 if dtype == np.int8 else 0, dtype)
            # onnxruntime rounds a table of exponentials first.
            yield Case("QLinearSoftmax", [*of(dtype, 2, 3, 6), np.asarray(1 / 256, np.float32), zero], {"opset": opset, "axis": axis}, atol=1, rtol=0)
        pool = [*of(dtype, 1, 3, 6, 6), scale(), bytes_of(dtype)]
        for attributes in [{"kernel_shape": [2, 2], "strides": [2, 2]}, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
                           {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1, "strides": [2, 2]}]:
            yield Case("QLinearAveragePool", pool, attributes, **exact)
        yield Case("QLinearAveragePool", pool, {"kernel_shape": [2, 2], "channels_last": 1}, **exact)
        yield Case("QLinearGlobalAveragePool", pool, **exact)
        yield Case("QLinearGlobalAveragePool", pool, {"channels_last": 1}, **exact)
        yield Case("QLinearConcat", [scale(), bytes_of(dtype), *of(dtype, 2, 3), *of(dtype, 2, 4), *of(dtype, 2, 1)], {"axis": 1}, weights=(0, 1, 3, 4, 6, 7, 9, 10), **exact)
    for a, b in [(np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8)]:
        for columns, zeros in [((), ()), ((5,), (5,)), ((5,), ())]:
            zero = bytes_of(b, *zeros) if zeros or not columns else None
            x = [bytes_of(a, 3, 4), bytes_of(b, 4, 5), scale(), scale(dims=columns), bytes_of(a), zero, f32(5)]
            yield Case("MatMulIntegerToFloat", x, weights=(1, 3, 5, 6))
            yield Case("DynamicQuantizeMatMul", [f32(3, 4), x[1], x[3], zero, f32(5)], weights=(1, 2, 3, 4), atol=1e-2)
        if a == np.int8:
            continue
        yield Case("QAttention", [bytes_of(a, 2, 3, 8), bytes_of(b, 8, 24), f32(24), scale(), scale(), np.array([[1, 1, 0], [1, 0, 0]], np.int32), bytes_of(a), bytes_of(b)],
                   {"num_heads": 2, "unidirectional": 1}, weights=(1, 2, 3, 4, 6, 7), fixed=(1, 2, 3, 4, 6, 7), atol=1e-3)
    for attributes in [{}, {"transB": 1, "alpha": 0.5}, {"transA": 1}]:
        a = (4, 3) if attributes.get("transA") else (3, 4)
        b = (5, 4) if attributes.get("transB") else (4, 5)
        for columns in [(), (5,)]:
            x = [bytes_of(np.uint8, *a), scale(), bytes_of(np.uint8), bytes_of(np.int8, *b), scale(dims=columns), bytes_of(np.int8, *columns)]
            addend = r.integers(-9999, 9999, 5).astype(np.int32)
            yield Case("QGemm", [*x, addend], attributes, weights=(1, 2, 3, 4, 5, 6))
            yield Case("QGemm", [*x, addend, scale(0.1, 0.2), bytes_of(np.uint8)], attributes, weights=(1, 2, 3, 4, 5, 6, 7, 8), **exact)
            yield Case("QGemm", [*x, None, scale(0.1, 0.2), bytes_of(np.uint8)], attributes, weights=(1, 2, 3, 4, 5, 6, 7, 8), **exact)
    for bits in [2, 4, 8]:
        for k, block in [(32, 16), (40, 16), (64, 32)]:
            blocks, n = -(-k // block), 6
            x = [f32(2, 3, k), bytes_of(np.uint8, n, blocks, block * bits // 8), scale(dims=(n * blocks,))]
            attributes = {"K": k, "N": n, "block_size": block, "bits": bits}
            yield Case("MatMulNBits", x, attributes, weights=(1, 2))
            zeros = bytes_of(np.uint8, n * -(-blocks * bits // 8))
            yield Case("MatMulNBits", [*x, zeros], attributes, weights=(1, 2, 3))
            if bits == 4:
                yield Case("MatMulNBits", [*x, zeros, None, f32(n)], attributes, weights=(1, 2, 3, 5))
                yield Case("MatMulNBits", [*x, f32(n, blocks)], attributes, weights=(1, 2, 3))
    for direction, n in [("forward", 1), ("reverse", 1), ("bidirectional", 2)]:
        for dims in [(n,), (n, 12)]:
            w, q = bytes_of(np.int8, n, 5, 12), bytes_of(np.int8, n, 3, 12)
            scales = [scale(0.001, 0.004, dims), np.zeros(dims, np.int8), scale(0.001, 0.004, dims), np.zeros(dims, np.int8)]
            # Of several rows onnxruntime rounds those of the state together.
            for batch, atol in [(1, 2e-5), (2, 0.03)]:
                state = f32(n, batch, 3), f32(n, batch, 3)
                yield Case("DynamicQuantizeLSTM", [f32(4, batch, 5), w, q, f32(n, 24), None, *state, None, *scales],
                           {"direction": direction, "hidden_size": 3}, results=(True, True, True), weights=(1, 2, 3, 8, 9, 10, 11), fixed=(1, 2, 8, 9, 10, 11), atol=atol)


def features():
    r, f32 = random(5)
    x, ints = f32(7, 4), r.integers(-3, 4, (7, 4))

    def ml(op, operands, attributes=None, **more):
        return Case(op, operands, attributes or {}, domain=ML, weights=(), **more)

    for of in [x, ints.astype(np.int64), ints.astype(np.int32), x.astype(np.float64)]:
        yield ml("Scaler", [of], {"offset": [0.5], "scale": [2.0]})
        yield ml("Scaler", [of], {"offset": [0.5, 1, 2, 3], "scale": [2.0, 1, 3, -1]})
        for norm in ["MAX", "L1", "L2"]:
            yield ml("Normalizer", [of], {"norm": norm})
    yield ml("Normalizer", [np.zeros((2, 3), np.float32)], {"norm": "L1"})
    yield ml("Binarizer", [x], {"threshold": 0.25})
    holes = np.where(r.random((7, 4)) < 0.3, np.nan, x).astype(np.float32)
    yield ml("Imputer", [holes], {"imputed_value_floats": [1.0, 2.0, 3.0, 4.0], "replaced_value_float": float("nan")})
    yield ml("Imputer", [np.round(x)], {"imputed_value_floats": [9.0], "replaced_value_float": 1.0})
    yield ml("Imputer", [ints.astype(np.int64)], {"imputed_value_int64s": [9, 8, 7, 6], "replaced_value_int64": 1})
    yield ml("FeatureVectorizer", [x, f32(7, 2)], {"inputdimensions": [4, 2]})
    yield ml("ArrayFeatureExtractor", [x, np.array([3, 0], np.int64)])
    yield ml("ArrayFeatureExtractor", [ints.astype(np.int64), np.array([[1]], np.int64)])
    yield ml("OneHotEncoder", [ints.astype(np.int64)], {"cats_int64s": [0, 2, -1]})
    yield ml("OneHotEncoder", [x], {"cats_int64s": [0, 1]})
    labels = ints.astype(np.int64)
    yield ml("LabelEncoder", [labels], {"keys_int64s": [0, 1, -3, 0], "values_int64s": [5, 6, 7, 8], "default_int64": 99})
    yield ml("LabelEncoder", [labels], {"keys_int64s": [0, 1], "values_floats": [0.5, 1.5]})
    yield ml("LabelEncoder", [np.array([0.5, np.nan, 1], np.float32)], {"keys_floats": [0.5, float("nan")], "values_floats": [1.0, 2.0], "default_float": -4.0}, ml_opset=4)
    yield ml("LabelEncoder", [np.array([0.5, 2, 1], np.float32)], {"keys_floats": [0.5, 1.0], "values_int64s": [1, 2]})


def models():
    r, f32 = random(6)
    x = f32(9, 4)

    def ml(op, attributes, **more):
        return Case(op, [more.pop("x", x)], attributes, domain=ML, weights=(), **more)

    def floats(n):
        return [float(v) for v in f32(n)]

    for n in [1, 3]:
        yield ml("LinearRegressor", {"coefficients": floats(4 * n), "intercepts": floats(n), "targets": n})
    for transform in ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"]:
        yield ml("LinearRegressor", {"coefficients": floats(12), "targets": 3, "post_transform": transform})
        for labels in [[5, 7, 9], [1, 0]]:
            n = len(labels)
            yield ml("LinearClassifier", {"coefficients": floats(4 * n), "intercepts": floats(n), "classlabels_ints": labels, "post_transform": transform},
                     results=(True, True))
    for transform in ["NONE", "LOGISTIC"]:
        yield ml("LinearClassifier", {"coefficients": floats(4), "intercepts": floats(1), "classlabels_ints": [3, 8], "post_transform": transform}, results=(True, True))
    for kernel in ["LINEAR", "POLY", "RBF", "SIGMOID"]:
        attributes = {"kernel_type": kernel, "kernel_params": [0.3, 0.5, 3.0], "coefficients": floats(5), "support_vectors": floats(20), "n_supports": 5, "rho": [0.2]}
        yield ml("SVMRegressor", attributes)
        yield ml("SVMRegressor", {**attributes, "one_class": 1})
    yield ml("SVMRegressor", {"coefficients": floats(4), "rho": [0.2], "kernel_params": [0.0, 0.0, 0.0]})
    for vectors in [[2, 3], [2, 1, 2], [1, 2, 1, 2]]:
        n, total = len(vectors), sum(vectors)
        n_pairs = n * (n - 1) // 2
        for kernel in ["LINEAR", "POLY", "RBF", "SIGMOID"]:
            attributes = {"classlabels_ints": list(range(5, 5 + n)), "coefficients": floats((n - 1) * total), "rho": floats(n_pairs), "kernel_type": kernel,
                          "kernel_params": [0.3, 0.5, 2.0], "support_vectors": floats(4 * total), "vectors_per_class": vectors}
            for transform in ["NONE", "LOGISTIC", "SOFTMAX"]:
                yield ml("SVMClassifier", {**attributes, "post_transform": transform}, results=(True, True))
                probabilities = {"prob_a": floats(n_pairs), "prob_b": floats(n_pairs)}
                yield ml("SVMClassifier", {**attributes, **probabilities, "post_transform": transform}, results=(True, True))
    yield ml("SVMClassifier", {"classlabels_ints": [4, 2, 9], "coefficients": floats(12), "rho": [0.2], "kernel_params": [0.0, 0.0, 0.0]}, results=(True, True))


def trees():
    r, f32 = random(7)

    def forest(n_trees, depth, n_features, modes=("BRANCH_LEQ",), missing=False):
        nodes = {k: [] for k in ["treeids", "nodeids", "modes", "featureids", "values", "truenodeids", "falsenodeids", "missing_value_tracks_true"]}
        leaves = []
        for tree in range(n_trees):
            count = 0

            def grow(level):
                nonlocal count
                node = count
                count += 1
                leaf = level == depth or level > 0 and r.random() < 0.2
                at = len(nodes["modes"])
                row = {"treeids": tree, "nodeids": node, "modes": "LEAF" if leaf else str(r.choice(modes)), "featureids": 0 if leaf else int(r.integers(n_features)),
                       "values": 0.0 if leaf else float(np.round(r.standard_normal(), 1)), "truenodeids": 0, "falsenodeids": 0,
                       "missing_value_tracks_true": int(missing and r.random() < 0.5)}
                for k, v in row.items():
                    nodes[k].append(v)
                if leaf:
                    leaves.append((tree, node))
                else:
                    nodes["truenodeids"][at] = grow(level + 1)
                    nodes["falsenodeids"][at] = grow(level + 1)
                return node

            grow(0)
        attributes = {f"nodes_{k}": v for k, v in nodes.items()}
        if not missing:
            del attributes["nodes_missing_value_tracks_true"]
        return attributes, leaves

    def weights(prefix, leaves, targets, positive=False, each=True):
        entries = [(t, n, k) for t, n in leaves for k in (range(targets) if each else [int(r.integers(targets))])]
        values = r.standard_normal(len(entries)) / 4
        values = np.abs(values) if positive else values
        name = "target" if prefix == "target" else "class"
        return {f"{name}_treeids": [e[0] for e in entries], f"{name}_nodeids": [e[1] for e in entries], f"{name}_ids": [e[2] for e in entries],
                f"{name}_weights": [float(v) for v in values.astype(np.float32)]}

    def ml(op, x, attributes, results=(True,), opset=3):
        return Case(op, [x], attributes, domain=ML, weights=(), results=results, ml_opset=opset)

    x = np.round(f32(20, 5), 1)
    holes = np.where(r.random((20, 5)) < 0.3, np.nan, x).astype(np.float32)
    every = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
    for n_trees, depth, modes in [(1, 2, every[:1]), (7, 5, every[:1]), (5, 4, every), (3, 6, every[1:2]), (1, 1, every[:1])]:
        nodes, leaves = forest(n_trees, depth, 5, modes)
        for targets in [1, 3]:
            y = weights("target", leaves, targets)
            for aggregate in ["SUM", "AVERAGE", "MIN", "MAX"]:
                yield ml("TreeEnsembleRegressor", x, {**nodes, **y, "n_targets": targets, "aggregate_function": aggregate})
            base = [float(v) for v in f32(targets)]
            yield ml("TreeEnsembleRegressor", x, {**nodes, **y, "n_targets": targets, "base_values": base, "aggregate_function": "AVERAGE"})
            yield ml("TreeEnsembleRegressor", x, {**nodes, **weights("target", leaves, targets, each=False), "n_targets": targets, "aggregate_function": "MIN"})
        yield ml("TreeEnsembleRegressor", x.astype(np.float64), {**nodes, **y, "n_targets": 3})
        for transform in ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"]:
            y = weights("class", leaves, 3)
            attributes = {**nodes, **y, "classlabels_int64s": [4, 1, 8], "post_transform": transform}
            yield ml("TreeEnsembleClassifier", x, attributes, (True, True))
            yield ml("TreeEnsembleClassifier", x, {**attributes, "base_values": [0.1, 0.2, -0.3]}, (True, True))
            if transform != "NONE":
                yield ml("TreeEnsembleRegressor", x, {**nodes, **weights("target", leaves, 3), "n_targets": 3, "post_transform": transform})
        for positive, transform, base in [(True, "NONE", []), (False, "NONE", []), (False, "LOGISTIC", []), (False, "LOGISTIC", [0.3]), (False, "NONE", [0.3])]:
            y = weights("class", leaves, 1, positive)
            if not positive:
                y["class_weights"][0] = -0.75
            attributes = {**nodes, **y, "classlabels_int64s": [6, 2], "post_transform": transform, **({"base_values": base} if base else {})}
            yield ml("TreeEnsembleClassifier", x, attributes, (True, True))
    nodes, leaves = forest(5, 5, 5, missing=True)
    yield ml("TreeEnsembleRegressor", holes, {**nodes, **weights("target", leaves, 2), "n_targets": 2})
    nodes, leaves = forest(5, 5, 5)
    yield ml("TreeEnsembleRegressor", holes, {**nodes, **weights("target", leaves, 2), "n_targets": 2})


def layouts():
    r, f32 = random(9)

    def u8(*dims):
        return r.integers(0, 256, dims).astype(np.uint8)

    exact = {"rtol": 0, "atol": 0}
    for attributes in [{"kernel_shape": [2, 2], "strides": [2, 2]}, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, {"kernel_shape": [2, 2], "dilations": [2, 1], "ceil_mode": 1}]:
        for x in [u8(1, 6, 5, 3), u8(2, 6, 5, 4).view(np.int8)]:
            yield Case("NhwcMaxPool", [x], attributes, weights=(), **exact)
    for pads in [[0, 0, 0, 0], [1, 0, 2, 1]]:
        operands = [f32(1, 4, 5, 6), f32(4, 3, 3, 2), np.array(pads, np.int64), f32(3)]
        yield Case("ConvTransposeWithDynamicPads", operands, {"strides": [2, 2]}, fixed=(2,))
    for last, x in [(1, u8(1, 6, 5, 4)), (0, u8(1, 4, 6, 5))]:
        for group in [1, 2]:
            w = u8(6, 4 // group, 3, 3).view(np.int8)
            q = [x, np.float32(0.02), np.uint8(9), w, np.float32(0.01), np.int8(0), np.float32(0.2), np.uint8(100), r.integers(-99, 99, 6).astype(np.int32)]
            q = [np.asarray(v) for v in q]
            yield Case("QLinearConv", q, {"channels_last": last, "group": group, "pads": [1, 1, 1, 1], "strides": [2, 1]}, weights=(1, 2, 3, 4, 5, 6, 7, 8), fixed=(1, 2, 3, 4, 5, 6, 7, 8), atol=1, rtol=0)
    yield Case("Pad", [f32(2, 3), np.array([0, 1, 2, 1], np.int64), f32(1)], {"mode": "constant"}, fixed=(1,))
    yield Case("Pad", [f32(3, 4), np.array([[0, 1, 2, 1]], np.int64)], {"mode": "reflect"}, fixed=(1,))
    yield Case("ExpandDims", [f32(2, 3), np.array(1, np.int32)], fixed=(1,))
    yield Case("ExpandDims", [f32(2, 3), np.array(-1, np.int32)], fixed=(1,))
    for dim, size, step in [(0, 2, 1), (1, 3, 2), (-1, 4, 1)]:
        yield Case("UnfoldTensor", [f32(5, 6, 4)], {"dim": dim, "size": size, "step": step}, weights=())
    grid = r.uniform(-1.2, 1.2, (2, 3, 4, 2)).astype(np.float32)
    for mode in ["bilinear", "nearest", "bicubic"]:
        for padding in ["zeros", "border", "reflection"]:
            yield Case("GridSample", [f32(2, 3, 5, 6), grid], {"mode": mode, "padding_mode": padding}, rtol=1e-3, atol=1e-4)
    rois = np.array([[0.12, 0.21, 0.73, 0.88], [-0.53, 0, 0.51, 1], [0, 0, 1, 1]], np.float32)
    for mode in ["bilinear", "nearest"]:
        yield Case("CropAndResize", [f32(2, 3, 6, 7), rois, np.array([1, 0, 1], np.int32), np.array([4, 3], np.int32)],
                   {"mode": mode, "extrapolation_value": 2.0}, fixed=(3,), weights=(1, 2, 3))
    far = (9 * np.eye(5) + r.standard_normal((3, 5, 5))).astype(np.float32)
    yield Case("Inverse", [far], weights=())
    yield Case("Inverse", [far[0].astype(np.float64)], weights=())
    yield Case("MatMulInteger16", [r.integers(-300, 300, (3, 4)).astype(np.int16), r.integers(-300, 300, (4, 5)).astype(np.int16)], **exact)
    yield Case("SampleOp", [f32(2, 3)], weights=())
    yield Case("ScaledSiLU", [f32(2, 3)], {"alpha": 1.5}, weights=())
    yield Case("ScaledSiLU", [f32(2, 3), f32()])


def experts():
    r, f32 = random(10)
    for rows, n in [(1, 4), (3, 2), (7, 4)]:
        x, router = f32(rows, 6), f32(rows, n)
        for kind in ["relu", "gelu", "silu", "identity"]:
            for k, norm in [(1, 0), (2, 0), (2, 1)]:
                yield Case("MoE", [x, router, f32(n, 8, 6), f32(n, 8), f32(n, 6, 8), f32(n, 6)], {"k": k, "activation_type": kind, "normalize_routing_weights": norm}, weights=(2, 3, 4, 5), rtol=1e-3, atol=1e-4)
        for extra in [{}, {"swiglu_limit": 0.7, "activation_alpha": 1.702, "activation_beta": 1.0}]:
            yield Case("MoE", [x, router, f32(n, 16, 6), f32(n, 16), f32(n, 6, 8), f32(n, 6)],
                       {"k": 2, "activation_type": "swiglu", "swiglu_fusion": 1, "normalize_routing_weights": 1, **extra}, weights=(2, 3, 4, 5), rtol=1e-3, atol=1e-4)
    for bits in [4, 8]:
        for rows in [1, 5]:
            def q(*dims):
                return r.integers(0, 256, dims).astype(np.uint8)
            n, size, inner = 4, 32, 32
            scales = [np.abs(f32(n, inner)) / 64, np.abs(f32(n, size)) / 64]
            yield Case("QMoE", [f32(rows, size), f32(rows, n), q(n, inner, size * bits // 8), scales[0], f32(n, inner), q(n, size, inner * bits // 8), scales[1], f32(n, size)],
                       {"k": 2, "activation_type": "silu", "expert_weight_bits": bits, "normalize_routing_weights": 1}, weights=(2, 3, 4, 5, 6, 7), fixed=(2, 3, 4, 5, 6, 7), rtol=2e-2, atol=2e-2)
            scales = [np.abs(f32(n, 2 * inner)) / 64, np.abs(f32(n, size)) / 64]
            yield Case("QMoE", [f32(rows, size), f32(rows, n), q(n, 2 * inner, size * bits // 8), scales[0], f32(n, 2 * inner), q(n, size, inner * bits // 8), scales[1], f32(n, size)],
                       {"k": 2, "activation_type": "swiglu", "swiglu_fusion": 1, "expert_weight_bits": bits, "normalize_routing_weights": 1}, weights=(2, 3, 4, 5, 6, 7), fixed=(2, 3, 4, 5, 6, 7), rtol=2e-2, atol=2e-2)
    for kind in [0, 1]:
        for n, k, block in [(6, 32, 16), (5, 24, 16)]:
            count = n * k
            packed = r.integers(0, 256, (count + 1) // 2).astype(np.uint8)
            yield Case("MatMulBnb4", [f32(3, k), packed, np.abs(f32((count + block - 1) // block))], {"K": k, "N": n, "block_size": block, "quant_type": kind}, weights=(1, 2), fixed=(1, 2))
    table = r.integers(0, 256, (7, 32)).astype(np.uint8)
    for indices in [np.array([[3, 0], [6, -1]], np.int64), np.array([2], np.int32)]:
        scales = np.abs(f32(7, 2)) / 64
        yield Case("GatherBlockQuantized", [table, indices, scales], {"bits": 8, "block_size": 16, "quantize_axis": 1}, weights=(0, 2), fixed=(0, 2))
        yield Case("GatherBlockQuantized", [table[:, :16], indices, scales], {"bits": 4, "block_size": 16, "quantize_axis": 1}, weights=(0, 2), fixed=(0, 2))
        zeros = r.integers(0, 256, (7, 2)).astype(np.uint8)
        yield Case("GatherBlockQuantized", [table, indices, scales, zeros], {"bits": 8, "block_size": 16, "quantize_axis": 1}, weights=(0, 2, 3), fixed=(0, 2, 3))
    ids = r.integers(0, 9, (2, 5)).astype(np.int32)
    segments, mask = r.integers(0, 2, (2, 5)).astype(np.int32), (r.random((2, 5)) < 0.6).astype(np.int32)

    def u8(*dims):
        return r.integers(0, 256, dims).astype(np.uint8)

    scales, zeros = [np.asarray(r.uniform(0.01, 0.05), np.float32) for _ in range(5)], [np.asarray(r.integers(0, 256), np.uint8) for _ in range(5)]
    q = [ids, segments, u8(9, 8), u8(7, 8), u8(2, 8), u8(8), u8(8), mask, *scales, *zeros]
    fixed = (2, 3, 4, 5, 6, *range(8, 18))
    yield Case("QEmbedLayerNormalization", q, {"epsilon": 1e-5}, results=(True, True), weights=fixed, fixed=fixed, rtol=1e-3, atol=1e-4)
    for mask in [None, (r.random((2, 5)) < 0.7).astype(np.int32)]:
        yield Case("DecoderMaskedMultiHeadAttention", [f32(2, 1, 8), f32(2, 2, 5, 4), f32(2, 2, 5, 4), mask], {"num_heads": 2}, weights=())


def all_cases():
    return [case for family in [fused, normalizations, attention, grouped, quantized, layouts, experts, features, models, trees] for case in family()]
