"""What the checks of single nodes share: onnxruntime as the reference, and the first element that differs from it."""
import numpy as np
import onnxruntime

onnxruntime.set_default_logger_severity(4)


def session_of(model):
    """onnxruntime without optimizations, on the CPU."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def difference(name, have, want, bound):
    """What differs, or an empty string; `bound` gives for the magnitudes of the wanted values how far off each may be."""
    if have.dtype != want.dtype or have.shape != want.shape:
        return f"{name} is {have.dtype}{list(have.shape)} instead of {want.dtype}{list(want.shape)}"
    with np.errstate(all="ignore"):
        a, b = have.astype(np.float64), want.astype(np.float64)
        near = np.abs(a - b) <= bound(np.abs(b))
    same = (a == b) | (np.isnan(a) & np.isnan(b)) | near
    if same.all():
        return ""
    at = tuple(int(i) for i in np.argwhere(~same)[0])
    return f"{name}{list(at)} is {a[at]} instead of {b[at]}; {np.count_nonzero(~same)} of {same.size} elements differ"
