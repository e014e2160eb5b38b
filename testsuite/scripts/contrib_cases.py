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
        return f"{self.op}({', '.join(shapes)}) {self.attributes} -> {len(self.results)}"


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


def all_cases():
    return [case for family in [fused, normalizations] for case in family()]
