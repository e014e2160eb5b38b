"""The cases of verify_opsets.py: operators of the default domain in the forms of every opset, one function for each family."""
import dataclasses
import math
import typing

import numpy as np

EVER = 10**6


class X:
    """An operand in the element type under test."""

    def __init__(self, *dims, low=-3.0, high=3.0, grain=8, nonzero=False):
        self.dims, self.low, self.high, self.grain, self.nonzero = dims, low, high, grain, nonzero


@dataclasses.dataclass
class Case:
    op: str
    operands: list
    attributes: dict = dataclasses.field(default_factory=dict)
    # The schemas that have this form: of at least `since` and below `until`.
    since: int = 1
    until: int = EVER
    # Operands that are constants.
    fixed: tuple = ()
    results: int = 1
    # What is right, for forms that no reference implements.
    expected: typing.Callable = None
    # Whether other element types than the usual ones are of interest.
    types: bool = True
    # Tolerances are this many times the usual ones.
    slack: float = 1.0


@dataclasses.dataclass
class Right:
    """What the specification says where no reference computes it: `expected` takes the attributes and the operands."""

    op: str
    # Names of numpy types; an operand has one of them.
    dtypes: set
    expected: typing.Callable
    # What the references do instead.
    reason: str
    applies: typing.Callable = lambda case: True


def wide(function):
    """A function of numbers in double precision, rounded once to the type of the first operand."""
    return lambda attributes, x, *rest: np.asarray(function(attributes, np.asarray(x, np.float64), *[np.asarray(r, np.float64) for r in rest])).astype(x.dtype)


def gelu(attributes, x):
    if attributes.get("approximate") == "tanh":
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / np.sqrt(2)))


def lrn(attributes, x):
    size = attributes["size"]
    square = np.pad(x**2, [(0, 0), ((size - 1) // 2, size // 2), (0, 0), (0, 0)])
    total = sum(square[:, k : k + x.shape[1]] for k in range(size))
    bias, alpha, beta = [np.float64(np.float32(attributes[name])) for name in ["bias", "alpha", "beta"]]
    return x / (bias + alpha / size * total) ** beta


def lp_normalization(attributes, x):
    p, axis = attributes["p"], attributes["axis"]
    return x / (np.abs(x) ** p).sum(axis, keepdims=True) ** (1 / p)


def mean_variance(attributes, x):
    return (x - x.mean((0, 2, 3), keepdims=True)) / (np.sqrt((x**2).mean((0, 2, 3), keepdims=True) - x.mean((0, 2, 3), keepdims=True) ** 2) + 1e-9)


def rms_normalization(attributes, x, scale):
    x = np.asarray(x, np.float64)
    return ((x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)) * np.asarray(scale, np.float64)).astype(scale.dtype)


def log_sum_exp(attributes, x, axes=None):
    axes = attributes.get("axes") if axes is None else axes
    total = np.exp(np.asarray(x, np.float64)).sum(None if axes is None else tuple(int(a) for a in axes), keepdims=bool(attributes.get("keepdims", 1)))
    return np.trunc(np.log(total)).astype(x.dtype)


def sum_square(attributes, x, axes=None):
    axes = attributes.get("axes") if axes is None else axes
    return (x.astype(np.uint64) ** 2).sum(None if axes is None else tuple(int(a) for a in axes), keepdims=bool(attributes.get("keepdims", 1))).astype(x.dtype)


def pad_exponents(attributes, x, pads):
    (top, left, bottom, right), zero = pads, np.frombuffer(b"\0", x.dtype)[0]
    y = np.full((x.shape[0] + top + bottom, x.shape[1] + left + right), zero, x.dtype)
    y[top : top + x.shape[0], left : left + x.shape[1]] = x
    return y


def resize_linear(attributes, x, _, scales):
    """Between the middles of elements, along the last two axes; of integers what is left of a fraction goes."""
    y = np.asarray(x, np.float64)
    for axis, scale in enumerate(np.asarray(scales, np.float64)):
        n = y.shape[axis]
        at = np.clip((np.arange(int(n * scale)) + 0.5) / scale - 0.5, 0, n - 1)
        low = np.floor(at).astype(int)
        part = (at - low).reshape([-1 if a == axis else 1 for a in range(y.ndim)])
        y = np.take(y, low, axis) * (1 - part) + np.take(y, np.minimum(low + 1, n - 1), axis) * part
    return np.trunc(np.round(y, 9)).astype(x.dtype)


def affine_grid(attributes, theta, size):
    n, _, h, w = size
    middles = [(np.arange(k) * 2 + 1) / k - 1 for k in (h, w)]
    base = np.stack([*np.meshgrid(middles[1], middles[0]), np.ones((h, w))], -1)
    return np.einsum("hwk,njk->nhwj", base, np.asarray(theta, np.float64)).astype(theta.dtype)


def quantize(attributes, x, scale, zero):
    return (np.rint(np.asarray(x, np.float64) / scale) + np.float64(zero)).astype(zero.dtype)


FLOAT8 = {"float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"}
RIGHT = [
    Right("Erf", {"float64"}, wide(lambda _, x: np.vectorize(math.erf)(x)), "onnx's reference has an approximation of single precision"),
    Right("HardSwish", {"float64"}, wide(lambda _, x: x * np.clip(x / 6 + 0.5, 0, 1)), "a sixth in single precision"),
    Right("Gelu", {"float64"}, wide(gelu), "onnx has constants in single precision, onnxruntime computes the `tanh` form in it"),
    Right("Det", {"bfloat16"}, wide(lambda _, x: np.linalg.det(x)), "the result is of type T, and onnx's reference gives f64"),
    Right("RMSNormalization", {"float16", "bfloat16", "float64"}, rms_normalization, "the result is of the type of `scale`, V, and onnx's reference gives that of `X`"),
    Right("LRN", {"float64", "bfloat16"}, wide(lrn), "onnx's reference sums squares in f32 or in bf16, rounding each"),
    Right("LpNormalization", {"bfloat16"}, wide(lp_normalization), "onnx's reference sums in bf16, by numpy, which loses all but the first few"),
    Right("MeanVarianceNormalization", {"float64"}, wide(mean_variance), "onnxruntime has f32 only"),
    Right("ReduceLogSumExp", {"int32", "int64", "uint32", "uint64"}, log_sum_exp,
          "its function computes in f64 and casts once; onnxruntime adds a truncated logarithm to the maximum"),
    Right("ReduceSumSquare", {"uint32"}, sum_square, "the result is of type T, and numpy's sum widens it"),
    Right("Pad", {"float8_e8m0fnu"}, pad_exponents, "the type has no zero; that of the specification's `Cast` is the least number, code 0, and ml_dtypes says NaN",
          lambda case: case.attributes.get("mode") == "constant" and len(case.operands) == 2),
    Right("Resize", {"uint8", "uint16", "uint32", "uint64", "int16", "int64"}, resize_linear,
          "the specification does not say how fractions become integers: onnxruntime drops them for the types that it has, in fixed point for u8, "
          "where 2 may become 1; onnx's reference rounds", lambda case: case.attributes == {"mode": "linear"} and len(case.operands) == 3),
    Right("AffineGrid", {"bfloat16", "float16"}, affine_grid, "the result is of type T1, and onnx's reference gives f32"),
    Right("QuantizeLinear", FLOAT8, quantize, "zero points are added for floats too, and onnx's reference leaves them out", lambda case: len(case.operands) == 3),
]


def coarser(job, tolerances):
    """Tolerances of narrower types that a reference computed something in."""
    names = {np.dtype(x.dtype).name for x in job.operands if x is not None}
    if job.case.op in ["GroupNormalization", "RMSNormalization"]:
        # `stash_type` asks for statistics in f32 at least, where ours are of the type.
        return [tolerances["float32"]] if "float64" in names else []
    if job.case.op == "GridSample" and job.case.attributes["mode"] == "linear":
        # Places in the image, and so weights, are as exact as the type of the grid: onnx's reference computes them in it.
        return [tolerances.get(np.dtype(job.operands[1].dtype).name, 0)]
    return []


# Operators with tests elsewhere: control flow, sequences, random numbers, strings, files.
ELSEWHERE = {"If", "Loop", "Scan", "SequenceMap", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength",
             "ConcatFromSequence", "SplitToSequence", "Optional", "OptionalGetElement", "OptionalHasElement", "RandomNormal", "RandomNormalLike",
             "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli", "StringConcat", "StringNormalizer", "StringSplit", "RegexFullMatch", "ImageDecoder"}


def i64(*values):
    return np.array(values, np.int64)


def f32(*values):
    return np.array(values, np.float32)


GAMMA, ALPHA = np.float64(np.float32(1.0507)), np.float64(np.float32(1.6732))


def unary():
    yield Case("Selu", [X(2, 3)], since=6)
    for op in ["Abs", "Ceil", "Floor", "Neg", "Sign", "Identity", "Exp", "Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "Sin", "Cos", "Atan", "Sinh", "Cosh",
               "Asinh", "Erf", "HardSwish", "Mish", "Round", "Swish", "Gelu", "Celu", "Elu", "LeakyRelu", "HardSigmoid", "ThresholdedRelu", "Shrink",
               "Not", "BitwiseNot", "IsNaN", "IsInf"]:
        yield Case(op, [X(2, 3)])
    yield Case("Relu", [X()])
    for op in ["Sqrt", "Log", "Reciprocal"]:
        yield Case(op, [X(2, 3, low=1, high=4)])
    for op in ["Asin", "Acos", "Atanh", "Tan"]:
        yield Case(op, [X(2, 3, low=-0.9, high=0.9)])
    yield Case("Acosh", [X(2, 3, low=1.5, high=4)])
    yield Case("Elu", [X(2, 3)], {"alpha": 0.5})
    yield Case("LeakyRelu", [X(2, 3)], {"alpha": 0.25})
    yield Case("Selu", [X(2, 3)], {"alpha": 1.5, "gamma": 2.0})
    # The constants had four digits first; they are attributes, and so of single precision.
    yield Case("Selu", [X(2, 3)], until=6, expected=lambda x: (GAMMA * np.where(x > 0, x, ALPHA * np.expm1(x.astype(np.float64)))).astype(x.dtype))
    yield Case("HardSigmoid", [X(2, 3)], {"alpha": 0.25, "beta": 0.625})
    yield Case("ThresholdedRelu", [X(2, 3)], {"alpha": 1.5})
    yield Case("Shrink", [X(2, 3)], {"bias": 1.0, "lambd": 1.5})
    yield Case("Celu", [X(2, 3)], {"alpha": 2.0})
    yield Case("Gelu", [X(2, 3)], {"approximate": "tanh"})
    yield Case("Swish", [X(2, 3)], {"alpha": 0.5})
    yield Case("IsInf", [X(2, 3)], {"detect_negative": 0})
    yield Case("Abs", [X(2, 3)], {"consumed_inputs": [0]}, until=6, expected=np.abs)
    yield Case("Clip", [X(2, 3)], {"min": -1.0, "max": 1.5}, until=11, expected=lambda x: np.clip(x, -1.0, 1.5).astype(x.dtype))
    yield Case("Clip", [X(2, 3)], {"max": 1.5}, until=11, expected=lambda x: np.minimum(x, np.asarray(1.5, x.dtype)))
    yield Case("Clip", [X(2, 3)], {}, until=11, expected=lambda x: x)
    yield Case("Clip", [X(2, 3), X(low=0, high=1), X(low=2, high=3)], since=11)
    yield Case("Clip", [X(2, 3), None, X(low=1, high=1)], since=11)
    yield Case("Clip", [X(2, 3)], since=11)


def legacy(function):
    """The broadcast of opsets below 7: the second operand's axes begin at `axis`."""
    def of(a, b, axis):
        return function(a, b.reshape(b.shape + (1,) * (a.ndim - axis - b.ndim)))
    return of


def quotient(a, b):
    """Division, of integers without a rest."""
    return a / b if a.dtype.kind == "f" else (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)


def binary():
    arithmetic = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": quotient, "Pow": np.power}
    compare = {"Equal": np.equal, "Greater": np.greater, "Less": np.less}
    logic = {"And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor}
    for op, function in {**arithmetic, **compare, **logic}.items():
        right = {"low": 1, "high": 3, "nonzero": True} if op in ["Div", "Pow"] else {}
        left = {"low": 0.5, "high": 4} if op == "Pow" else {}
        yield Case(op, [X(2, 3, 4, **left), X(2, 3, 4, **right)], until=7, expected=lambda a, b, f=function: f(a, b))
        yield Case(op, [X(2, 3, 4, **left), X(3, 4, **right)], {"broadcast": 1}, until=7, expected=lambda a, b, f=function: f(a, b))
        yield Case(op, [X(2, 3, 4, **left), X(3, **right)], {"broadcast": 1, "axis": 1}, until=7, expected=lambda a, b, f=function: legacy(f)(a, b, 1))
        yield Case(op, [X(2, 3, 4, **left), X(2, **right)], {"broadcast": 1, "axis": -3}, until=7, expected=lambda a, b, f=function: legacy(f)(a, b, 0))
        yield Case(op, [X(2, 3, 4, **left), X(1, **right)], {"broadcast": 1}, until=7, expected=lambda a, b, f=function: f(a, b))
        yield Case(op, [X(2, 3, 4, **left), X(**right)], {"broadcast": 1}, until=7, expected=lambda a, b, f=function: f(a, b))
        yield Case(op, [X(2, 3, 4, **left), X(3, 1, **right)], since=7)
        yield Case(op, [X(4, **left), X(2, 3, 1, **right)], since=7)
        yield Case(op, [X(2, 3, **left), X(**right)], since=7)
    for op in ["GreaterOrEqual", "LessOrEqual", "BitwiseAnd", "BitwiseOr", "BitwiseXor"]:
        yield Case(op, [X(2, 3, 4), X(3, 1)])
    yield Case("Mod", [X(2, 3, nonzero=True, low=-7, high=7), X(3, low=1, high=4, nonzero=True)], {"fmod": 1})
    yield Case("Mod", [np.array([-7, 7, 5], np.int64), np.array([3, -3, 5], np.int64)], {}, types=False)
    yield Case("BitShift", [X(2, 3, low=0, high=9), X(3, low=0, high=3)], {"direction": "LEFT"})
    yield Case("BitShift", [X(2, 3, low=0, high=9), X(3, low=0, high=3)], {"direction": "RIGHT"})
    yield Case("PRelu", [X(2, 3, 4), X(3, low=0.25, high=2)], until=7, expected=lambda x, s: np.where(x < 0, x * s[:, None], x), types=False)
    yield Case("PRelu", [X(2, 3, 4), X(1, low=0.25, high=2)])
    yield Case("PRelu", [X(2, 3, 4), X(3, 1, low=0.25, high=2)], since=7)
    for op in ["Max", "Min", "Sum", "Mean"]:
        yield Case(op, [X(2, 3), X(2, 3), X(2, 3)])
        yield Case(op, [X(2, 3)])
        yield Case(op, [X(2, 3), X(3), X(2, 1)], since=8)
    yield Case("Where", [np.array([[True], [False]]), X(2, 3), X(3)])
    yield Case("CastLike", [X(2, 3), np.zeros(1, np.float32)])
    yield Case("CastLike", [f32(1, 0, 2), X(1)])


def products():
    yield Case("MatMul", [X(2, 3, 4), X(4, 5)])
    yield Case("MatMul", [X(4), X(4)])
    yield Case("Gemm", [X(3, 4), X(4, 5), X(3, 5)], {"alpha": 0.5, "beta": 2.0}, until=7, expected=lambda a, b, c: (0.5 * a @ b + 2 * c).astype(a.dtype))
    yield Case("Gemm", [X(3, 4), X(4, 5), X(5)], {"broadcast": 1}, until=7, expected=lambda a, b, c: a @ b + c)
    yield Case("Gemm", [X(4, 3), X(5, 4), X(3, 1)], {"transA": 1, "transB": 1}, since=7)
    yield Case("Gemm", [X(3, 4), X(4, 5), X(5)], {"alpha": 2.0, "beta": 3.0}, since=7)
    yield Case("Gemm", [X(3, 4), X(4, 5)], since=11)
    yield Case("MatMulInteger", [X(3, 4, low=-9, high=9), X(4, 5, low=-9, high=9)])
    yield Case("MatMulInteger", [X(3, 4, low=-9, high=9), X(4, 5, low=-9, high=9), X(low=1, high=3), X(5, low=0, high=3)])
    yield Case("Einsum", [X(2, 3, 4), X(2, 4, 5)], {"equation": "bij,bjk->bki"})
    yield Case("Einsum", [X(3, 3)], {"equation": "ii->i"})
    yield Case("Det", [X(2, 3, 3)], slack=10)


def windows():
    for attributes in [{}, {"pads": [1, 1, 1, 1]}, {"strides": [2, 2], "dilations": [2, 2]}, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, {"auto_pad": "SAME_LOWER"},
                       {"auto_pad": "VALID", "kernel_shape": [3, 3]}]:
        yield Case("Conv", [X(1, 2, 7, 7), X(4, 2, 3, 3), X(4)], attributes, types=not attributes, slack=3)
    yield Case("Conv", [X(1, 2, 7), X(4, 1, 3)], {"group": 2})
    yield Case("Conv", [X(1, 2, 5, 5, 5), X(2, 2, 3, 3, 3)], types=False, slack=3)
    for attributes in [{}, {"pads": [1, 1, 0, 1], "strides": [2, 2]}, {"output_padding": [1, 1], "strides": [2, 2]}, {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
                       {"output_shape": [9, 9], "strides": [2, 2]}, {"auto_pad": "SAME_LOWER", "strides": [2, 2]}]:
        yield Case("ConvTranspose", [X(1, 2, 4, 4), X(2, 3, 3, 3), X(3)], attributes, types=not attributes, slack=3)
    yield Case("ConvInteger", [X(1, 2, 5, 5, low=-9, high=9), X(3, 2, 3, 3, low=-9, high=9)])
    yield Case("ConvInteger", [X(1, 2, 5, 5, low=-9, high=9), X(3, 2, 3, 3, low=-9, high=9), X(low=1, high=2)], {"pads": [1, 1, 1, 1]})
    window = {"kernel_shape": [3, 2]}
    for op, since in [("AveragePool", 1), ("MaxPool", 1), ("LpPool", 2)]:
        yield Case(op, [X(1, 2, 6, 6)], window, since=since)
        # onnx's reference counts the padding of `AveragePool` before opset 7, where its converter says that there it never counts.
        since = 7 if op == "AveragePool" else since
        yield Case(op, [X(1, 2, 6, 6)], {**window, "pads": [1, 1, 1, 0], "strides": [2, 1]}, types=False, since=since)
        for auto in ["SAME_UPPER", "SAME_LOWER", "VALID"]:
            yield Case(op, [X(1, 2, 7, 7)], {**window, "auto_pad": auto, "strides": [2, 2]}, types=False, since=since)
    yield Case("LpPool", [X(1, 2, 6, 6)], {**window, "p": 2.0}, until=2, types=False,
               expected=lambda x: np.sqrt(np.lib.stride_tricks.sliding_window_view(x, (3, 2), (2, 3)).astype(np.float64).__pow__(2).sum((-1, -2))).astype(x.dtype))
    yield Case("LpPool", [X(1, 2, 6, 6)], {**window, "p": 3}, since=2, types=False)
    yield Case("AveragePool", [X(1, 2, 6, 6)], {**window, "pads": [1, 1, 1, 1], "count_include_pad": 1}, since=7, types=False)
    yield Case("AveragePool", [X(1, 2, 6, 6)], {**window, "ceil_mode": 1, "strides": [2, 2], "pads": [1, 0, 1, 0]}, since=10, types=False)
    yield Case("AveragePool", [X(1, 2, 6, 6)], {**window, "dilations": [2, 2]}, since=19, types=False)
    yield Case("MaxPool", [X(1, 2, 6, 6)], {**window, "strides": [2, 2]}, since=8, results=2, types=False)
    yield Case("MaxPool", [X(1, 2, 6, 6)], {**window, "storage_order": 1}, since=8, results=2, types=False)
    yield Case("MaxPool", [X(1, 2, 6, 6)], {**window, "ceil_mode": 1, "strides": [2, 2], "dilations": [2, 1]}, since=10, types=False)
    yield Case("LpPool", [X(1, 2, 6, 6)], {**window, "ceil_mode": 1, "strides": [2, 2], "dilations": [2, 2]}, since=18, types=False)
    for op in ["GlobalAveragePool", "GlobalMaxPool"]:
        yield Case(op, [X(1, 2, 4, 4)])
    yield Case("AveragePool", [X(1, 1, 2)], {"kernel_shape": [2], "pads": [1, 1]}, until=7, types=False,
               expected=lambda x: np.stack([x[..., 0], x.mean(-1), x[..., 1]], -1).astype(x.dtype))
    yield Case("GlobalLpPool", [X(1, 2, 4, 4)], {"p": 2.0}, until=2, types=False, expected=lambda x: np.sqrt((x.astype(np.float64) ** 2).sum((2, 3), keepdims=True)).astype(x.dtype))
    yield Case("GlobalLpPool", [X(1, 2, 4, 4)], since=2)
    yield Case("GlobalLpPool", [X(1, 2, 4, 4)], {"p": 1}, since=2, types=False)
    yield Case("MaxUnpool", [X(1, 1, 2, 2), np.array([[[[5, 7], [13, 15]]]], np.int64)], {"kernel_shape": [2, 2], "strides": [2, 2]})
    yield Case("MaxRoiPool", [X(2, 2, 8, 8), f32([0, 0, 0, 5, 5], [1, 2, 1, 7, 6], [0, 3, 3, 3, 3])], {"pooled_shape": [2, 3]}, types=False)
    yield Case("MaxRoiPool", [X(2, 2, 8, 8), f32([0, 0, 0, 9, 10], [1, 4, 2, 14, 12])], {"pooled_shape": [3, 2], "spatial_scale": 0.5}, types=False)
    rois, of = f32([0, 0, 5, 5], [1, 1, 6, 4]), np.array([0, 1], np.int64)
    yield Case("RoiAlign", [X(2, 2, 8, 8), rois, of], {"output_height": 2, "output_width": 3, "sampling_ratio": 2}, types=False)
    yield Case("RoiAlign", [X(2, 2, 8, 8), rois, of], {"mode": "max", "spatial_scale": 0.5}, types=False)
    yield Case("DeformConv", [X(1, 1, 4, 4), X(1, 1, 2, 2), X(1, 8, 3, 3, low=-1, high=1)], slack=3)
    yield Case("Col2Im", [X(1, 8, 9), i64(4, 4), i64(2, 2)], fixed=(1, 2))
    yield Case("CausalConvWithState", [X(1, 2, 5), X(2, 1, 3)], types=False)


def normalizations():
    one = {"low": 0.5, "high": 2}
    stats = [X(3, **one), X(3), X(3), X(3, **one)]

    def batch_norm(x, s, b, m, v, epsilon=1e-5):
        c = [t.astype(np.float64).reshape(-1, 1, 1) for t in [s, b, m, v]]
        return ((x - c[2]) / np.sqrt(c[3] + epsilon) * c[0] + c[1]).astype(x.dtype)

    yield Case("BatchNormalization", [X(2, 3, 4, 4), *stats], {"is_test": 1, "consumed_inputs": [0, 0, 0, 1, 1]}, until=6, expected=batch_norm)
    yield Case("BatchNormalization", [X(2, 3, 4, 4), *stats], {"is_test": 1}, since=6, until=7, expected=batch_norm)
    yield Case("BatchNormalization", [X(2, 3, 4, 4), *stats], since=7, expected=batch_norm)
    yield Case("BatchNormalization", [X(2, 3, 4, 4), *stats], {"epsilon": 0.01, "momentum": 0.5}, since=7, types=False)
    yield Case("BatchNormalization", [X(2, 3), *stats], since=9, types=False)
    yield Case("BatchNormalization", [X(2, 3, 4, 4), *[X(3, 4, 4, **one), X(3, 4, 4), X(3, 4, 4), X(3, 4, 4, **one)]], {"spatial": 0}, since=7, until=9, types=False,
               expected=lambda x, s, b, m, v: ((x - m) / np.sqrt(v + 1e-5) * s + b).astype(x.dtype))
    yield Case("BatchNormalization", [X(2, 3, 4, 4), *stats], {"training_mode": 1}, since=14, results=3, types=False)
    yield Case("InstanceNormalization", [X(2, 3, 4), X(3), X(3)], {"epsilon": 0.01}, slack=5)
    yield Case("InstanceNormalization", [X(2, 3, 4), X(3), X(3)], {"epsilon": 0.01, "consumed_inputs": [0, 0, 0]}, until=6, types=False, slack=5,
               expected=lambda x, s, b: ((x - x.mean(2, keepdims=True)) / np.sqrt(x.var(2, keepdims=True) + 0.01) * s[:, None] + b[:, None]).astype(x.dtype))
    yield Case("LayerNormalization", [X(2, 3, 4), X(4), X(4)], slack=5)
    yield Case("LayerNormalization", [X(2, 3, 4), X(3, 4)], {"axis": 1}, results=3, types=False, slack=5)
    yield Case("RMSNormalization", [X(2, 3, 4), X(4)], slack=5)
    yield Case("GroupNormalization", [X(2, 4, 3), X(2), X(2)], {"num_groups": 2}, until=21, types=False, slack=5,
               expected=lambda x, s, b: np.stack([((g - g.mean()) / np.sqrt(g.var() + 1e-5) * s[k] + b[k]) for n in x.reshape(2, 2, -1) for k, g in enumerate(n)]).reshape(x.shape).astype(x.dtype))
    yield Case("GroupNormalization", [X(2, 4, 3), X(4), X(4)], {"num_groups": 2}, since=21, slack=5)
    yield Case("LRN", [X(1, 5, 3, 3)], {"size": 3, "alpha": 0.1, "beta": 0.5, "bias": 2.0})
    for p in [1, 2]:
        yield Case("LpNormalization", [X(2, 3, 4)], {"p": p, "axis": 1}, slack=3)
    yield Case("MeanVarianceNormalization", [X(2, 3, 4, 4)], slack=20)
    for op in ["Softmax", "LogSoftmax", "Hardmax"]:
        yield Case(op, [X(2, 3, 4)], slack=3)
        yield Case(op, [X(2, 3, 4)], {"axis": 0}, types=False)
        yield Case(op, [X(2, 3, 4)], {"axis": -1}, since=11, types=False)
        yield Case(op, [X(2, 3, 4)], {"axis": 2}, types=False)
    # Before opset 12 a second result made it train; as inference files have it, there is one.
    yield Case("Dropout", [X(2, 3)], {"is_test": 1, "ratio": 0.3}, until=7, expected=lambda x: x)
    yield Case("Dropout", [X(2, 3)], {"ratio": 0.3}, since=7, until=12, expected=lambda x: x)
    yield Case("Dropout", [X(2, 3)], {"ratio": 0.3}, since=10, until=12, results=2, expected=lambda x: (x, np.ones(x.shape, bool)), types=False)
    yield Case("Dropout", [X(2, 3)], since=12, expected=lambda x: x)
    yield Case("Dropout", [X(2, 3), X(low=0.5, high=0.5), np.array(False)], since=12, fixed=(2,), results=2, expected=lambda x, r, t: (x, np.ones(x.shape, bool)))
    yield Case("Dropout", [X(2, 3), X(low=0.5, high=0.5)], since=12, expected=lambda x, r: x, types=False)


def reductions():
    for op in ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"]:
        x = X(2, 3, 4, low=1, high=2) if op in ["ReduceLogSum", "ReduceProd"] else X(2, 3, 4)
        late = 13 if op == "ReduceSum" else 18
        common = {"slack": 4}
        yield Case(op, [x], **common)
        yield Case(op, [x], {"axes": [1]}, until=late, **common)
        yield Case(op, [x], {"axes": [0, 2], "keepdims": 0}, until=late, **common)
        yield Case(op, [x], {"axes": [-1]}, since=11, until=late, types=False, **common)
        yield Case(op, [x, i64(1)], since=late, fixed=(1,), **common)
        yield Case(op, [x, i64(0, -1)], {"keepdims": 0}, since=late, fixed=(1,), types=False, **common)
        yield Case(op, [x], {"noop_with_empty_axes": 1}, since=late, types=False, **common)
    for op in ["ArgMax", "ArgMin"]:
        yield Case(op, [X(3, 4)])
        yield Case(op, [X(3, 4)], {"axis": 1, "keepdims": 0}, types=False)
        yield Case(op, [X(3, 9, low=0, high=2, grain=1)], {"axis": -1, "select_last_index": 1}, since=12, types=False)
    yield Case("CumSum", [X(3, 4), np.array(1, np.int64)], fixed=(1,))
    yield Case("CumSum", [X(3, 4), np.array(0, np.int32)], {"exclusive": 1, "reverse": 1}, fixed=(1,), types=False)
    yield Case("CumProd", [X(3, 4), np.array(1, np.int64)], fixed=(1,), slack=4)
    for op in ["TopK"]:
        yield Case(op, [X(3, 7, grain=1024)], {"k": 2}, until=10, results=2, types=False,
                   expected=lambda x: (-np.sort(-x, -1)[:, :2], np.argsort(-x, -1, kind="stable")[:, :2]))
        yield Case(op, [X(7, 3, grain=1024)], {"k": 2, "axis": 0}, until=10, results=2, types=False,
                   expected=lambda x: (-np.sort(-x, 0)[:2], np.argsort(-x, 0, kind="stable")[:2]))
        yield Case(op, [X(3, 7, grain=1024), i64(3)], since=10, fixed=(1,), results=2)
        yield Case(op, [X(3, 7, grain=1024), i64(3)], {"largest": 0, "axis": 1}, since=11, fixed=(1,), results=2, types=False)
    yield Case("Unique", [X(9)], results=4)
    yield Case("Unique", [X(4, 2, low=0, high=1, grain=1)], {"axis": 0, "sorted": 0}, results=4, types=False)


def movement():
    yield Case("Reshape", [X(2, 3, 4)], {"shape": [0, -1]}, until=5, expected=lambda x: x.reshape(2, 12))
    yield Case("Reshape", [X(2, 3, 4), i64(0, -1)], since=5, fixed=(1,))
    yield Case("Reshape", [X(0, 3), i64(3, 0)], {"allowzero": 1}, since=14, fixed=(1,), types=False)
    for op, dims in [("Squeeze", (1, 3, 1)), ("Unsqueeze", (3, 4))]:
        yield Case(op, [X(*dims)], {"axes": [0]}, until=13)
        yield Case(op, [X(*dims)], {"axes": [0, 2]}, until=13, types=False)
        yield Case(op, [X(*dims)], {"axes": [-1]}, since=11, until=13, types=False)
        yield Case(op, [X(*dims), i64(0)], since=13, fixed=(1,))
        yield Case(op, [X(*dims), i64(-1, 0)], since=13, fixed=(1,), types=False)
    yield Case("Squeeze", [X(1, 3, 1)])
    yield Case("Flatten", [X(2, 3, 4)])
    yield Case("Flatten", [X(2, 3, 4)], {"axis": 0}, types=False)
    yield Case("Flatten", [X(2, 3, 4)], {"axis": -1}, since=11, types=False)
    yield Case("Transpose", [X(2, 3, 4)])
    yield Case("Transpose", [X(2, 3, 4)], {"perm": [1, 2, 0]}, types=False)
    yield Case("Concat", [X(2, 3), X(2, 3)], until=4, expected=lambda a, b: np.concatenate([a, b], 1), types=False)
    yield Case("Concat", [X(2, 3), X(1, 3)], {"axis": 0})
    yield Case("Concat", [X(2, 3), X(2, 1)], {"axis": -1}, since=11, types=False)
    yield Case("Split", [X(4, 6)], {"axis": 1}, until=2, results=2, expected=lambda x: (x[:, :3], x[:, 3:]))
    yield Case("Split", [X(4, 6)], {"axis": 1, "split": [2, 4]}, until=2, results=2, expected=lambda x: (x[:, :2], x[:, 2:]))
    yield Case("Split", [X(4, 6), i64(2, 4)], {"axis": 1}, until=2, fixed=(1,), results=2, types=False, expected=lambda x, s: (x[:, :2], x[:, 2:]))
    yield Case("Split", [X(4, 6)], {"axis": 1}, since=2, until=18, results=2)
    yield Case("Split", [X(4, 6)], {"axis": 1, "split": [2, 4]}, since=2, until=13, results=2)
    yield Case("Split", [X(4, 6), i64(1, 3)], since=13, fixed=(1,), results=2)
    yield Case("Split", [X(4, 7)], {"num_outputs": 3, "axis": 1}, since=18, results=3, types=False)
    yield Case("Slice", [X(4, 6)], {"starts": [1, 0], "ends": [3, -1]}, until=10)
    yield Case("Slice", [X(4, 6)], {"starts": [1], "ends": [1000], "axes": [1]}, until=10, types=False)
    yield Case("Slice", [X(4, 6), i64(1, 0), i64(3, -1)], since=10, fixed=(1, 2))
    yield Case("Slice", [X(4, 6), i64(-1), i64(-100), i64(1), i64(-2)], since=10, fixed=(1, 2, 3, 4), types=False)
    yield Case("Slice", [X(4, 6), np.array([1], np.int32), np.array([3], np.int32), np.array([0], np.int32)], since=10, fixed=(1, 2, 3), types=False)
    pads = {"mode": "constant"}
    yield Case("Pad", [X(2, 3)], {"paddings": [0, 1, 1, 2], "value": 1.5}, until=2, expected=lambda x: np.pad(x, [(0, 1), (1, 2)], constant_values=1.5))
    yield Case("Pad", [X(2, 3)], {"pads": [0, 1, 1, 2], "value": 1.5}, since=2, until=11)
    yield Case("Pad", [X(4, 5)], {"pads": [0, -1, 1, 2]}, since=2, until=11, types=False)
    for mode in ["reflect", "edge"]:
        yield Case("Pad", [X(4, 5)], {"paddings": [0, 2, 1, 1], "mode": mode}, until=2, types=False, expected=lambda x, m=mode: np.pad(x, [(0, 1), (2, 1)], m))
        yield Case("Pad", [X(4, 5)], {"pads": [0, 2, 1, 1], "mode": mode}, since=2, until=11, types=False)
        yield Case("Pad", [X(4, 5), i64(0, 2, 1, 1)], {"mode": mode}, since=11, fixed=(1,), types=False)
    yield Case("Pad", [X(2, 3), i64(0, 1, 1, 2)], pads, since=11, fixed=(1,))
    yield Case("Pad", [X(2, 3), i64(0, 1, 1, 2), X(low=1, high=1)], pads, since=11, fixed=(1, 2))
    yield Case("Pad", [X(2, 3), i64(1, 2), None, i64(-1)], {"mode": "constant"}, since=18, fixed=(1, 3), types=False)
    yield Case("Pad", [X(4, 5), i64(0, 2, 1, 7)], {"mode": "wrap"}, since=19, fixed=(1,), types=False)
    yield Case("Tile", [X(2, 3), X(low=2, high=2), X(low=1, high=1)], until=6, fixed=(1, 2), types=False, expected=lambda x, n, axis: np.tile(x, (1, 2)))
    yield Case("Tile", [X(2, 3), i64(2, 3)], since=6, fixed=(1,))
    yield Case("Expand", [X(3, 1), i64(2, 1, 4)], fixed=(1,))
    yield Case("Gather", [X(4, 3), i64(0, 2)])
    yield Case("Gather", [X(4, 3), np.array([[1, 2]], np.int32)], {"axis": 1}, types=False)
    yield Case("Gather", [X(4, 3), i64(-1)], since=11, types=False)
    yield Case("GatherElements", [X(3, 3), np.array([[0, 2, 1]], np.int64)], types=True)
    yield Case("GatherElements", [X(3, 3), np.array([[0], [-1], [1]], np.int32)], {"axis": 1}, types=False)
    yield Case("GatherND", [X(2, 3, 4), np.array([[0, 2], [1, 0]], np.int64)])
    yield Case("GatherND", [X(2, 3, 4), np.array([[2], [0]], np.int64)], {"batch_dims": 1}, since=12, types=False)
    updates = X(2, 3)
    for op in ["Scatter", "ScatterElements"]:
        yield Case(op, [X(3, 3), np.array([[1, 0, 2], [0, 2, 1]], np.int64), updates])
        yield Case(op, [X(3, 3), np.array([[1, 0, 2], [0, 2, 1]], np.int32), updates], {"axis": 0}, types=False)
        yield Case(op, [X(3, 3), np.array([[1, 0], [0, 2]], np.int64), X(2, 2)], {"axis": 1}, types=False)
    for reduction, since in [("add", 16), ("mul", 16), ("max", 18), ("min", 18)]:
        yield Case("ScatterElements", [X(3, 3), np.array([[1, 0, 2], [1, 2, 1]], np.int64), updates], {"reduction": reduction}, since=since)
        yield Case("ScatterND", [X(4, 3), np.array([[1], [3], [1]], np.int64), X(3, 3)], {"reduction": reduction}, since=since)
    yield Case("ScatterND", [X(4, 3), np.array([[1], [3]], np.int64), X(2, 3)])
    yield Case("TensorScatter", [X(2, 5, 3), X(2, 2, 3), i64(1, 3)], {"axis": 1})
    yield Case("Compress", [X(3, 4), np.array([True, False, True])], {"axis": 0}, fixed=(1,))
    yield Case("Compress", [X(3, 4), np.array([True, False, True])], fixed=(1,), types=False)
    yield Case("ConstantOfShape", [i64(2, 3)], fixed=(0,))
    yield Case("DepthToSpace", [X(1, 8, 2, 3)], {"blocksize": 2})
    yield Case("DepthToSpace", [X(1, 8, 2, 3)], {"blocksize": 2, "mode": "CRD"}, since=11, types=False)
    yield Case("SpaceToDepth", [X(1, 2, 4, 6)], {"blocksize": 2})
    yield Case("EyeLike", [X(3, 4)])
    yield Case("EyeLike", [X(3, 4)], {"k": -1, "dtype": 7}, types=False)
    yield Case("NonZero", [X(3, 4)])
    yield Case("OneHot", [X(3, low=0, high=4, grain=1), np.array(5, np.int64), f32(0.5, 2)], fixed=(1,), types=True)
    yield Case("OneHot", [i64(1, -1, 9), X(1, low=5, high=5), X(2)], {"axis": 0}, fixed=(1,), since=11)
    yield Case("OneHot", [i64(1, 3), X(1, low=5, high=5), X(2)], {"axis": 0}, fixed=(1,), until=11)
    yield Case("Range", [X(low=1, high=1), X(low=7, high=7), X(low=2, high=2)], fixed=(0, 1, 2))
    yield Case("ReverseSequence", [X(4, 3), i64(4, 2, 1)])
    yield Case("ReverseSequence", [X(3, 4), i64(4, 2, 1)], {"batch_axis": 0, "time_axis": 1}, types=False)
    yield Case("Shape", [X(2, 3)])
    yield Case("Shape", [X(2, 3, 4)], {"start": 1, "end": -1}, since=15, types=False)
    yield Case("Size", [X(2, 3)])
    yield Case("Trilu", [X(3, 4)])
    yield Case("Trilu", [X(3, 4), np.array(-1, np.int64)], {"upper": 0}, fixed=(1,), types=False)
    yield Case("CenterCropPad", [X(4, 5), i64(3, 7)], fixed=(1,))
    yield Case("BitCast", [X(4, 4)], {"to": 6}, types=False)
    for scale in ["nearest", "linear"]:
        mode = {"mode": scale if scale == "nearest" else "bilinear"}
        big = {"nearest": lambda x: x.repeat(2, 2).repeat(2, 3)}.get(scale)
        if big:
            yield Case("Upsample", [X(1, 2, 3, 3)], {"height_scale": 2.0, "width_scale": 2.0, **mode}, until=7, expected=big, types=False)
        yield Case("Upsample", [X(1, 2, 3, 3)], {"scales": [1.0, 1.0, 2.0, 2.0], "mode": scale}, since=7, until=9)
        yield Case("Upsample", [X(1, 2, 3, 3), f32(1, 1, 2, 3)], {"mode": scale}, since=9, fixed=(1,))
        yield Case("Resize", [X(1, 2, 4, 4), f32(1, 1, 0.5, 2)], {"mode": scale}, since=10, until=11, fixed=(1,))
    yield Case("Upsample", [X(1, 2, 3, 3)], {"scales": [1.0, 1.0, 2.0, 2.0]}, since=7, until=9, types=False)
    empty = np.zeros(0, np.float32)
    for mode in ["nearest", "linear", "cubic"]:
        yield Case("Resize", [X(1, 2, 4, 4), empty, f32(1, 1, 0.75, 2)], {"mode": mode}, since=11, fixed=(1, 2), types=mode != "cubic", slack=3)
        yield Case("Resize", [X(1, 2, 4, 4), empty, empty, i64(1, 2, 7, 3)], {"mode": mode, "coordinate_transformation_mode": "align_corners"}, since=11, until=13, fixed=(1, 2, 3), types=False, slack=3)
        yield Case("Resize", [X(1, 2, 4, 4), None, None, i64(1, 2, 7, 3)], {"mode": mode, "coordinate_transformation_mode": "asymmetric"}, since=13, fixed=(3,), types=False, slack=3)
        yield Case("Resize", [X(1, 2, 4, 4), None, None, i64(3, 7)], {"mode": mode, "axes": [3, 2], "antialias": int(mode != "nearest")}, since=18, fixed=(3,), types=False, slack=3)
    yield Case("Resize", [X(1, 2, 4, 4), f32(0, 0, 0.1, 0.2, 1, 1, 0.8, 0.9), None, i64(1, 2, 5, 3)],
               {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 2.0}, since=13, fixed=(1, 3), types=False, slack=3)
    for mode in ["nearest", "linear"]:
        yield Case("GridSample", [X(1, 2, 4, 4), X(1, 3, 3, 2, low=-1.2, high=1.2, grain=1000)], {"mode": mode if mode == "nearest" else "bilinear"}, until=20, slack=3, types=False)
        yield Case("GridSample", [X(1, 2, 4, 4), X(1, 3, 3, 2, low=-1.2, high=1.2, grain=1000)], {"mode": mode, "padding_mode": "border"}, since=20, slack=3)
    yield Case("AffineGrid", [X(1, 2, 3), i64(1, 1, 3, 4)], fixed=(1,))


def casts():
    numbers = {"FLOAT": 1, "UINT8": 2, "INT8": 3, "UINT16": 4, "INT16": 5, "INT32": 6, "INT64": 7, "BOOL": 9, "FLOAT16": 10, "DOUBLE": 11, "UINT32": 12, "UINT64": 13}
    kinds = {"FLOAT": np.float32, "UINT8": np.uint8, "INT8": np.int8, "UINT16": np.uint16, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64, "BOOL": np.bool_,
             "FLOAT16": np.float16, "DOUBLE": np.float64, "UINT32": np.uint32, "UINT64": np.uint64}
    for name, number in numbers.items():
        yield Case("Cast", [X(2, 3, low=0, high=3)], {"to": name}, until=6, expected=lambda x, k=kinds[name]: x.astype(k))
        yield Case("Cast", [X(2, 3, low=0, high=3)], {"to": number}, since=6)
    for number in [16, 17, 18, 19, 20, 21, 22, 23]:
        yield Case("Cast", [X(2, 3, low=0, high=3)], {"to": number}, since={16: 13, 17: 19, 18: 19, 19: 19, 20: 19, 21: 21, 22: 21, 23: 23}[number])
    yield Case("QuantizeLinear", [X(2, 3), np.asarray(0.1, np.float32), X(low=0, high=3)], types=True)
    yield Case("QuantizeLinear", [X(2, 3), np.asarray(0.1, np.float32)])
    yield Case("QuantizeLinear", [X(2, 3), f32(0.1, 0.2, 0.3), np.array([1, 2, 3], np.uint8)], {"axis": 1}, since=13, types=False)
    yield Case("QuantizeLinear", [X(2, 4), f32([0.1, 0.2], [0.3, 0.4])], {"axis": 1, "block_size": 2, "output_dtype": 3}, since=21, types=False)
    yield Case("DequantizeLinear", [X(2, 3, low=-9, high=9), np.asarray(0.5, np.float32)])
    yield Case("DequantizeLinear", [X(2, 3, low=-9, high=9), X(low=0.5, high=0.5)])
    yield Case("DequantizeLinear", [X(2, 3, low=-9, high=9), f32(0.5, 0.25), X(2, low=0, high=3)], {"axis": 0}, since=13, types=False)
    yield Case("DequantizeLinear", [X(2, 3, low=-9, high=9), X(low=1, high=2, grain=1)], {"output_dtype": 1}, since=23)
    yield Case("DynamicQuantizeLinear", [X(2, 3)], results=3)
    u8 = np.uint8
    yield Case("QLinearMatMul", [X(3, 4, low=0, high=99), np.asarray(0.1, np.float32), X(low=3, high=3), X(4, 5, low=0, high=99), np.asarray(0.2, np.float32), X(low=3, high=3),
                                 np.asarray(3.0, np.float32), X(low=3, high=3)], types=False)
    yield Case("QLinearConv", [X(1, 2, 5, 5, low=0, high=99), np.asarray(0.1, np.float32), np.asarray(3, u8), X(3, 2, 3, 3, low=0, high=99), np.asarray(0.2, np.float32), np.asarray(3, u8),
                               np.asarray(9.0, np.float32), np.asarray(3, u8), np.array([1, 2, -3], np.int32)], types=False)


def recurrent():
    for op, gates, results in [("RNN", 1, 2), ("GRU", 3, 2), ("LSTM", 4, 3)]:
        x = [X(4, 2, 3, low=-1, high=1), X(1, gates * 5, 3, low=-1, high=1), X(1, gates * 5, 5, low=-1, high=1), X(1, 2 * gates * 5, low=-1, high=1)]
        yield Case(op, x, {"hidden_size": 5}, since=7, results=results, slack=5)
        yield Case(op, x, {"hidden_size": 5, "output_sequence": 1}, until=7, results=results, types=False, slack=5, expected=None)
        if op == "GRU":
            yield Case(op, x, {"hidden_size": 5, "linear_before_reset": 1}, since=7, results=results, types=False, slack=5)
        lengths = np.array([4, 2], np.int32)
        yield Case(op, [*x, lengths], {"hidden_size": 5, "clip": 0.7}, since=7, results=results, types=False, slack=5)
        yield Case(op, x, {"hidden_size": 5, "direction": "reverse"}, since=7, results=results, types=False, slack=5)
        both = [X(4, 2, 3, low=-1, high=1), X(2, gates * 5, 3, low=-1, high=1), X(2, gates * 5, 5, low=-1, high=1)]
        yield Case(op, both, {"hidden_size": 5, "direction": "bidirectional"}, since=7, results=results, types=False, slack=5)
    batch = [X(2, 4, 3, low=-1, high=1), X(1, 20, 3, low=-1, high=1), X(1, 20, 5, low=-1, high=1)]
    yield Case("LSTM", batch, {"hidden_size": 5, "layout": 1}, since=14, results=3, types=False, slack=5)


def others():
    boxes = np.array([[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 10, 1, 11], [0, 10.1, 1, 11.1]]], np.float32)
    scores = np.array([[[0.9, 0.75, 0.6, 0.95]]], np.float32)
    limits = [i64(3), f32(0.5), f32(0.1)]
    yield Case("NonMaxSuppression", [boxes, scores, *limits], fixed=(0, 1, 2, 3, 4), types=False)
    yield Case("NegativeLogLikelihoodLoss", [X(3, 5), np.array([1, 0, 4], np.int64)], slack=3)
    yield Case("NegativeLogLikelihoodLoss", [X(3, 5), np.array([1, 0, 4], np.int64), X(5, low=0.5, high=1)], {"reduction": "sum", "ignore_index": 0}, types=False)
    yield Case("SoftmaxCrossEntropyLoss", [X(3, 5), np.array([1, 0, 4], np.int64)], {"reduction": "none"}, results=2, slack=3)
    yield Case("BlackmanWindow", [np.array(9, np.int64)], fixed=(0,), types=False)
    yield Case("HammingWindow", [np.array(9, np.int64)], fixed=(0,), types=False)
    yield Case("HannWindow", [np.array(9, np.int64)], {"periodic": 0}, fixed=(0,), types=False)
    yield Case("MelWeightMatrix", [np.array(4, np.int64), np.array(16, np.int64), np.array(8000, np.int64), X(low=0, high=0), X(low=3000, high=3000)], fixed=(0, 1, 2, 3, 4), types=False)
    yield Case("DFT", [X(1, 8, 1)], until=20, slack=5)
    yield Case("DFT", [X(1, 8, 2)], {"inverse": 1, "axis": 1}, until=20, types=False, slack=5)
    yield Case("DFT", [X(1, 8, 1), None, np.array(1, np.int64)], since=20, fixed=(2,), slack=5)
    yield Case("DFT", [X(1, 8, 1), None, np.array(1, np.int64)], {"onesided": 1}, since=20, fixed=(2,), types=False, slack=5)
    yield Case("STFT", [X(1, 32, 1), np.array(8, np.int64), X(16, low=0, high=1)], fixed=(1,), slack=5)
    yield Case("TfIdfVectorizer", [np.array([1, 1, 3, 3, 3, 7, 8, 6, 7, 5, 6, 8], np.int32)],
               {"mode": "TF", "min_gram_length": 2, "max_gram_length": 2, "max_skip_count": 0, "ngram_counts": [0, 4], "ngram_indexes": [0, 1, 2, 3, 4, 5, 6],
                "pool_int64s": [2, 3, 5, 4, 5, 6, 7, 8, 6, 7]}, types=False)
    heads = [X(1, 2, 3, 4), X(1, 2, 3, 4), X(1, 2, 3, 4)]
    yield Case("Attention", heads, slack=3)
    yield Case("Attention", heads, {"is_causal": 1}, types=False)
    yield Case("RotaryEmbedding", [X(1, 2, 3, 4), X(5, 2), X(5, 2), np.array([[0, 2, 4]], np.int64)])
    yield Case("SwiGLU", [X(2, 4), X(2, 4)])
    yield Case("Constant", [], {"value_floats": [1.0, 2.0]}, since=12, types=False)
    yield Case("Constant", [], {"value_int": 3}, since=12, types=False)


def all_cases():
    return [case for family in [unary, binary, products, windows, normalizations, reductions, movement, casts, recurrent, others] for case in family()]
