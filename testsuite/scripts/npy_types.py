"""How tensors of every ONNX type travel in `.npy` files.

A type that numpy has is stored as itself. The others:

    bfloat16        u16, the raw bits
    float8*         u8, the raw bits
    float4e2m1      u8, one element a byte, the bits in the low half
    uint4, uint2    u8, one element a byte, the value
    int4, int2      i8, one element a byte, the value

`manifest.json` beside the files gives the ONNX type of each.
"""
import ml_dtypes
import numpy as np

STORAGE = {  # ONNX name: (ml_dtypes name, type in the file, travels by value rather than by bits)
    "BFLOAT16": ("bfloat16", np.uint16, False),
    "FLOAT8E4M3FN": ("float8_e4m3fn", np.uint8, False), "FLOAT8E4M3FNUZ": ("float8_e4m3fnuz", np.uint8, False),
    "FLOAT8E5M2": ("float8_e5m2", np.uint8, False), "FLOAT8E5M2FNUZ": ("float8_e5m2fnuz", np.uint8, False),
    "FLOAT8E8M0": ("float8_e8m0fnu", np.uint8, False), "FLOAT4E2M1": ("float4_e2m1fn", np.uint8, False),
    "INT4": ("int4", np.int8, True), "UINT4": ("uint4", np.uint8, True),
    "INT2": ("int2", np.int8, True), "UINT2": ("uint2", np.uint8, True),
}
EXOTIC = {name: np.dtype(getattr(ml_dtypes, ml)) for name, (ml, _, _) in STORAGE.items()}
PLAIN = {
    "FLOAT": "float32", "DOUBLE": "float64", "FLOAT16": "float16", "BOOL": "bool",
    "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64",
    "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64",
    "COMPLEX64": "complex64", "COMPLEX128": "complex128",
}
NAME_OF = {np.dtype(v): k for k, v in PLAIN.items()} | {v: k for k, v in EXOTIC.items()}


def type_name(array):
    """ONNX's name of an array's type."""
    return "STRING" if array.dtype == object or array.dtype.kind in "US" else NAME_OF[array.dtype]


def to_file(array):
    """The array as it is written."""
    name = type_name(array)
    if name == "STRING":
        return np.array([x.decode() if isinstance(x, bytes) else str(x) for x in array.ravel()], dtype=str).reshape(array.shape)
    if name not in STORAGE:
        return array
    _, stored, by_value = STORAGE[name]
    return array.astype(stored) if by_value else np.ascontiguousarray(array).view(stored).reshape(array.shape)


def from_file(array, name):
    """The array as it was meant. One of an unexpected type stays as it is, so that a comparison shows it."""
    if name not in STORAGE or array.dtype != STORAGE[name][1]:
        return array
    return array.astype(EXOTIC[name]) if STORAGE[name][2] else np.ascontiguousarray(array).view(EXOTIC[name]).reshape(array.shape)
